use super::*;
use proptest::prelude::*;
use serde_json::{Value, json, value::RawValue};

fn read(text: &str) -> Result<Tape<'_>, Unreadable> {
    Tape::read(text, 100, &Cell::new(10_000))
}

fn canonical(text: &str) -> String {
    let mut out = String::new();
    read(text).unwrap().canonical(0, &mut out);
    out
}

#[test]
fn equal_values_have_one_canonical_text() {
    for (text, want) in [
        (" null ", "null"),
        ("-0", "0"),
        ("1.0", "1"),
        ("10e-1", "1"),
        ("-1.5E3", "-1500"),
        ("0.10", "1e-1"),
        ("1e999", "1e999"),
        ("12345678901234567890123", "12345678901234567890123"),
        (r#"{ "b" : [ 1 , true ] , "a" : "\u0061\/" }"#, r#"{"a":"a/","b":[1,true]}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":1,"a":2}"#),
    ] {
        assert_eq!(canonical(text), want, "{text}");
    }
}

#[test]
fn strings_are_read_as_go_reads_them() {
    for (text, want) in [
        (r#""a b""#, "a b"),
        (r#""\u00e9\n\ud83d\ude00\/\"\\""#, "é\n😀/\"\\"),
        (r#""\ud83d x""#, "\u{fffd} x"),
        (r#""\ude00\ud83d\u0041""#, "\u{fffd}\u{fffd}A"),
        (r#""\b\f\r\t""#, "\u{8}\u{c}\r\t"),
    ] {
        assert_eq!(read(text).unwrap().string(0), want, "{text}");
    }
}

#[test]
fn it_is_bounded() {
    let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
    assert!(read(&nested(100)).is_ok());
    let too_deep = Some(Unreadable::Depth(b'['));
    assert_eq!(read(&nested(101)).err(), too_deep);
    assert_eq!(read(&"[".repeat(1_000_000)).err(), too_deep);
    assert_eq!([0, 1, 7].map(|n| read(&format!("[{}]", nested(n))).unwrap().depth()), [1, 2, 8]);
    let wide = format!("[{}]", vec!["1"; 10_000].join(","));
    assert_eq!(read(&wide).err(), Some(Unreadable::Nodes));
}

#[test]
fn members_and_elements_are_found() {
    let tape = read(r#"{"a":[1,{"x":[]},2],"b":{},"a":3}"#).unwrap();
    let members: Vec<_> = tape.members(0).map(|(k, v)| (tape.string(k), tape.raw(v))).collect();
    assert_eq!(members, [("a".into(), r#"[1,{"x":[]},2]"#), ("b".into(), "{}"), ("a".into(), "3")]);
    let array = tape.get(0, "a").next().unwrap();
    let elements: Vec<_> = tape.elements(array).map(|e| tape.raw(e)).collect();
    assert_eq!(elements, ["1", r#"{"x":[]}"#, "2"]);
    assert_eq!(tape.get(0, "a").count(), 2);
}

#[test]
fn what_a_text_has_is_known() {
    let none = Traits::default();
    for (text, want) in [
        (" {\"a\":[1,\"\\n\",-2.5]}\n", none),
        ("{\"a\": 1}", Traits { blanks: true, ..none }),
        ("[1,2\n]", Traits { blanks: true, ..none }),
        ("[\"\\u0041\"]", Traits { unicode_escapes: true, ..none }),
        ("[1E2]", Traits { odd_numbers: true, ..none }),
        (&"1".repeat(301), Traits { odd_numbers: true, ..none }),
    ] {
        assert_eq!(read(text).unwrap().traits(), want, "{text}");
    }
}

#[test]
fn depth_costs_no_stack() {
    let deep = |open: &str, close: &str| {
        let text = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
        let tape = Tape::read(text, 10_000, &Cell::new(1 << 20)).unwrap();
        assert_eq!(tape.depth(), 10_000);
    };
    let thread = std::thread::Builder::new().stack_size(64 << 10);
    let run = move || {
        deep("[", "]");
        deep("{\"a\":", "}");
    };
    thread.spawn(run).unwrap().join().unwrap();
}

#[test]
fn bytes_that_are_no_utf8_are_read_as_go_reads_them() {
    let read = |bytes: &[u8]| {
        Tape::of_bytes(bytes, 9, &Cell::new(9)).map(|t| t.text().to_owned()).map_err(|e| e.to_string())
    };
    assert_eq!(read(b"\"\xe2\x82.\xff\"").unwrap(), "\"\u{fffd}\u{fffd}.\u{fffd}\"");
    assert_eq!(read(b"[1\xe9]").unwrap_err(), "invalid character 'é' after array element");
    assert_eq!(
        read(b"{\xad}").unwrap_err(),
        "invalid character '\\u00ad' looking for beginning of object key string"
    );
}

pub(in crate::codec) fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6).prop_map(|m| json!(m)),
        ]
    })
}

/// A plain reading of the nodes.
fn as_value(tape: &Tape<'_>, at: usize) -> Value {
    match tape.kind(at) {
        Kind::Object => {
            tape.members(at).map(|(k, v)| (tape.string(k).into_owned(), as_value(tape, v))).collect()
        }
        Kind::Array => tape.elements(at).map(|e| as_value(tape, e)).collect(),
        Kind::Text | Kind::Escaped => Value::from(tape.string(at)),
        _ => serde_json::from_str(tape.raw(at)).unwrap(),
    }
}

#[test]
fn a_line_has_the_nodes_of_its_text() {
    for (text, left_out, want) in [
        (" [ ] ", &[][..], "[]"),
        ("{ \"a\" : [ 1 , { } ] , \"b\" : \"x y\" }", &[], "{\"a\":[1,{}],\"b\":\"x y\"}"),
        ("{\"a\": [1, {}], \"b\": 2}", &[1], "{\"b\":2}"),
        ("{\"a\": 1, \"b\": {\"c\": [2]}}", &[3], "{\"a\":1}"),
        ("{\"a\": {\"b\": 1}, \"c\": 2}", &[3], "{\"a\":{},\"c\":2}"),
        ("[\"\\ud800\\u0041\", \"\\\\ud800\"]", &[], "[\"\\ufffd\\u0041\",\"\\\\ud800\"]"),
    ] {
        let line = read(text).unwrap().one_line(left_out);
        assert_eq!(line.text(), want);
        same(&line, &read(want).unwrap());
        assert!(line.is_one_line());
    }
}

fn same(one: &Tape<'_>, other: &Tape<'_>) {
    assert_eq!((one.text(), one.count(), one.depth()), (other.text(), other.count(), other.depth()));
    for at in 0..one.count() {
        assert_eq!(
            (one.kind(at), one.span(at), one.after(at)),
            (other.kind(at), other.span(at), other.after(at))
        );
    }
}

#[test]
fn the_beginning_of_a_text_has_nodes() {
    let beginning = |text| {
        let tape = Tape::beginning(text, 100, &Cell::new(100));
        let members: Vec<_> =
            tape.members(0).map(|(k, v)| format!("{}={}", tape.string(k), tape.raw(v))).collect();
        members.join(" ")
    };
    assert_eq!(beginning("{\"a\":1,\"b\":{\"c\":[2,"), "a=1 b={\"c\":[2,");
    assert_eq!(beginning("{\"a\":1,\"b\":"), "a=1 b=");
    assert_eq!(beginning("{\"a\":1,\"b"), "a=1");
    assert_eq!(beginning("k8s"), "");
    assert_eq!(beginning(""), "");
}

proptest! {
    #[test]
    fn any_line_has_the_nodes_of_its_text(value in values(), left_out in any::<prop::sample::Index>()) {
        let text = serde_json::to_string_pretty(&value).unwrap();
        let tape = read(&text).unwrap();
        let line = tape.one_line(&[]);
        prop_assert_eq!(line.text(), value.to_string());
        same(&line, &read(line.text()).unwrap());
        let members: Vec<_> = tape.members(0).collect();
        if !members.is_empty() {
            let (key, _) = members[left_out.index(members.len())];
            let line = tape.one_line(&[key]);
            same(&line, &read(line.text()).unwrap());
            prop_assert_eq!(line.members(0).count(), members.len() - 1);
        }
    }

    #[test]
    fn nodes_are_serde_jsons(value in values(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let text = text.unwrap();
        let tape = read(&text).unwrap();
        prop_assert_eq!(tape.after(0), tape.count());
        prop_assert_eq!(as_value(&tape, 0), value);
    }

    #[test]
    fn long_strings_end_where_they_end(text in r#"[a-zé"\\\n\x01 ]{0,70}"#) {
        let json = serde_json::to_string(&text).unwrap();
        for at in 0..9 {
            let padded = format!("{}{json}", " ".repeat(at));
            let tape = read(&padded).unwrap();
            prop_assert_eq!(tape.raw(0), &json);
        }
    }

    #[test]
    fn it_accepts_what_serde_json_accepts(
        text in prop_oneof![r#"[\[\]{}",:a\\u0-9e+. -]{0,30}"#, r#"(["{}\[\],:]|"a"|"\\\\n"|true|null|-?[0-9]\.?e?){0,12}"#, any::<String>()]
    ) {
        let theirs = serde_json::from_str::<&RawValue>(&text).is_ok();
        prop_assert_eq!(read(&text).is_ok(), theirs, "{}", text);
    }

    #[test]
    fn strings_are_serde_jsons(text in any::<String>()) {
        let json = serde_json::to_string(&text).unwrap();
        let tape = read(&json).unwrap();
        prop_assert_eq!(tape.string(0), text);
    }
}
