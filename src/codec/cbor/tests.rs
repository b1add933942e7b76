use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const LIMITS: Limits = Limits { bytes: 1 << 20, depth: 16, json: 1 << 20 };

fn bytes(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn read(hex: &str) -> Result<String, Error> {
    to_json(&bytes(hex), LIMITS)
}

/// Many are from RFC 8949, appendix A.
#[test]
fn items_are_read() {
    for (hex, want) in [
        ("00", "0"),
        ("17", "23"),
        ("1818", "24"),
        ("1903e8", "1000"),
        ("1a000f4240", "1000000"),
        ("1b000000e8d4a51000", "1000000000000"),
        ("1b7fffffffffffffff", "9223372036854775807"),
        ("20", "-1"),
        ("3903e7", "-1000"),
        ("3b7fffffffffffffff", "-9223372036854775808"),
        ("f90000", "0"),
        ("f93c00", "1"),
        ("f93e00", "1.5"),
        ("f97bff", "65504"),
        ("f90001", "5.960464477539063e-8"),
        ("f9c400", "-4"),
        ("fa47c35000", "100000"),
        ("fb3ff199999999999a", "1.1"),
        ("fb7e37e43c8800759c", "1e300"),
        ("f4", "false"),
        ("f5", "true"),
        ("f6", "null"),
        ("40", "\"\""),
        ("4161", "\"a\""),
        ("6161", "\"a\""),
        ("62225c", "\"\\\"\\\\\""),
        ("610a", "\"\\n\""),
        ("63e6b0b4", "\"水\""),
        ("64f0908591", "\"𐅑\""),
        ("80", "[]"),
        ("83010203", "[1,2,3]"),
        ("8301820203820405", "[1,[2,3],[4,5]]"),
        ("a0", "{}"),
        ("a26161016162820203", "{\"a\":1,\"b\":[2,3]}"),
        ("a1416141 62", "{\"a\":\"b\"}"),
        ("a2616101616102", "{\"a\":1,\"a\":2}"),
        ("5f41614162ff", "\"ab\""),
        ("7f657374726561646d696e67ff", "\"streaming\""),
        ("5fff", "\"\""),
        ("9fff", "[]"),
        ("9f018202039f0405ffff", "[1,[2,3],[4,5]]"),
        ("bf61610161629f0203ffff", "{\"a\":1,\"b\":[2,3]}"),
        ("5f41e6 42b0b4ff", "\"水\""),
        ("d9d9f7a0", "{}"),
        ("d9d9f7a1446b696e64435 06f64", "{\"kind\":\"Pod\"}"),
        ("c074323031332d30332d32315432303a30343a30305a", "\"2013-03-21T20:04:00Z\""),
        ("d64401020304", "\"AQIDBA==\""),
        ("d54401020304", "\"AQIDBA\""),
        ("d74401020304", "\"01020304\""),
        ("d65f42010242 0304ff", "\"AQIDBA==\""),
        ("d6 40", "\"\""),
        // Tags that mean nothing here.
        ("d82076687474703a2f2f7777772e6578616d706c652e636f6d", "\"http://www.example.com\""),
        ("d9010082 0102", "[1,2]"),
    ] {
        assert_eq!(read(hex).as_deref(), Ok(want), "{hex}");
    }
}

#[test]
fn what_has_no_one_reading_is_refused() {
    for (hex, why) in [
        ("", Error::Early),
        ("18", Error::Early),
        ("19 03", Error::Early),
        ("42 61", Error::Early),
        ("5b ffffffffffffffff", Error::Early),
        ("82 01", Error::Early),
        ("9f 01", Error::Early),
        ("a1 6161", Error::Early),
        ("9b ffffffffffffffff 01", Error::Early),
        ("d9d9f7", Error::Early),
        ("5f 4161", Error::Early),
        ("00 00", Error::Trailing),
        ("a0 a0", Error::Trailing),
        ("1c", Error::Malformed),
        ("1f", Error::Malformed),
        ("df 00", Error::Malformed),
        ("ff", Error::Malformed),
        ("81 ff", Error::Malformed),
        ("5f 6161 ff", Error::Malformed),
        ("5f 5f4161ff ff", Error::Malformed),
        ("5f 01 ff", Error::Malformed),
        ("61 ff", Error::NotText),
        ("41 ff", Error::NotText),
        ("7f 61e6 62b0b4 ff", Error::NotText),
        ("a1 41ff 00", Error::NotText),
        ("a1 01 02", Error::NoKey),
        ("a1 f6 02", Error::NoKey),
        ("a1 d6 4161 02", Error::NoKey),
        ("bf 9fff 00 ff", Error::NoKey),
        ("1b8000000000000000", Error::NoJson),
        ("3b8000000000000000", Error::NoJson),
        ("f7", Error::NoJson),
        ("f0", Error::NoJson),
        ("f818", Error::NoJson),
        ("f8ff", Error::NoJson),
        ("f97c00", Error::NoJson),
        ("f97e00", Error::NoJson),
        ("faff800000", Error::NoJson),
        ("fb7ff8000000000000", Error::NoJson),
        ("c0 01", Error::Tag(0)),
        ("c11a514b67b0", Error::Tag(1)),
        ("c249010000000000000000", Error::Tag(2)),
        ("c349010000000000000000", Error::Tag(3)),
        ("d6 6161", Error::Tag(22)),
        ("d6 81 4161", Error::Tag(22)),
    ] {
        assert_eq!(read(hex), Err(why), "{hex}");
    }
}

#[test]
fn everything_is_bounded() {
    let nested = |n: usize| [vec![0x81; n], vec![0x00]].concat();
    assert!(to_json(&nested(16), LIMITS).is_ok());
    assert_eq!(to_json(&nested(17), LIMITS), Err(Error::TooDeep));
    assert_eq!(to_json(&nested(1 << 20), Limits { bytes: 2 << 20, ..LIMITS }), Err(Error::TooDeep));
    let tags = |n: usize| [vec![0xc6; n], vec![0x00]].concat();
    assert_eq!(to_json(&tags(1 << 19), LIMITS), Err(Error::TooDeep));
    let endless = |n: usize| vec![0x9f; n];
    assert_eq!(to_json(&endless(1 << 19), LIMITS), Err(Error::TooDeep));
    assert_eq!(to_json(b"\x43abc", Limits { bytes: 3, ..LIMITS }), Err(Error::TooLarge(3)));
    for json in 0..5 {
        assert_eq!(to_json(b"\x43abc", Limits { json, ..LIMITS }), Err(Error::TooLarge(json)));
    }
    assert_eq!(to_json(b"\x43abc", Limits { json: 5, ..LIMITS }).as_deref(), Ok("\"abc\""));
    // Each of these is longer as JSON.
    let long = [b"\x5a\x00\x01\x00\x00".to_vec(), vec![1; 1 << 16]].concat();
    assert_eq!(to_json(&long, Limits { json: 1 << 17, ..LIMITS }), Err(Error::TooLarge(1 << 17)));
}

/// As Kubernetes' serializer writes it, or with what others may choose instead.
fn write(value: &Value, odd: bool, out: &mut Vec<u8>) {
    let head = |major: u8, n: usize, out: &mut Vec<u8>| match n {
        0..=23 => out.push(major << 5 | n as u8),
        24..=255 => out.extend([major << 5 | 24, n as u8]),
        _ => {
            out.push(major << 5 | 26);
            out.extend((n as u32).to_be_bytes());
        }
    };
    let string = |text: &str, out: &mut Vec<u8>| {
        head(if odd { TEXT } else { BYTES }, text.len(), out);
        out.extend(text.as_bytes());
    };
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(flag) => out.push(0xf4 + u8::from(*flag)),
        Value::Number(n) => match n.as_i64() {
            Some(n) if n >= 0 => {
                out.push(0x1b);
                out.extend((n as u64).to_be_bytes());
            }
            Some(n) => {
                out.push(0x3b);
                out.extend(((-1 - n) as u64).to_be_bytes());
            }
            None => {
                out.push(0xfb);
                out.extend(n.as_f64().unwrap().to_be_bytes());
            }
        },
        Value::String(text) => string(text, out),
        Value::Array(items) if odd => {
            out.push(0x9f);
            items.iter().for_each(|item| write(item, odd, out));
            out.push(0xff);
        }
        Value::Array(items) => {
            head(ARRAY, items.len(), out);
            items.iter().for_each(|item| write(item, odd, out));
        }
        Value::Object(members) => {
            if odd {
                out.push(0xbf);
            } else {
                head(MAP, members.len(), out);
            }
            for (key, value) in members {
                string(key, out);
                write(value, odd, out);
            }
            if odd {
                out.push(0xff);
            }
        }
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // serde_json reads others to the last bit but one.
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6).prop_map(|m| json!(m)),
        ]
    })
}

/// Whole numbers come back as such, whatever they were written as.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((ka, a), (kb, b))| ka == kb && equal(a, b))
        }
        (a, b) => a == b,
    }
}

proptest! {
    #[test]
    fn any_value_comes_back(value in values(), odd in any::<bool>()) {
        let mut body = MAGIC.to_vec();
        write(&value, odd, &mut body);
        let text = to_json(&body, LIMITS).unwrap();
        let back: Value = serde_json::from_str(&text).unwrap();
        prop_assert!(equal(&back, &value), "{back} {value}");
        prop_assert!(!text.contains(['\n', '\r']));
        for end in 0..body.len() {
            prop_assert!(to_json(&body[..end], LIMITS).is_err());
        }
    }

    #[test]
    fn any_bytes_are_json_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(text) = to_json(&body, LIMITS) {
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_changed_body_is_json_or_refused(value in values(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut body = MAGIC.to_vec();
        write(&value, false, &mut body);
        let at = at.index(body.len());
        body[at] = byte;
        if let Ok(text) = to_json(&body, LIMITS) {
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
        }
    }
}
