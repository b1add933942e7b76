use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn text(body: &str) -> String {
    String::from_utf8(read(body.as_bytes(), true).unwrap().json).unwrap()
}

#[test]
fn a_text_stays_as_it_is_but_for_its_blanks() {
    let rows = [
        ("{}", "{}"),
        (" [ ] ", "[]"),
        ("null", "null"),
        ("\t-1.50e+10 ", "-1.50e+10"),
        ("\"a b\"", "\"a b\""),
        (
            "{ \"b\" : [ 1 , 12345678901234567890123 , { } ] ,\r\n \"a\" : \" { , } \" }",
            "{\"b\":[1,12345678901234567890123,{}],\"a\":\" { , } \"}",
        ),
        ("{\"a\":\"\\\"\\\\\",\"b\":\"\\u00e9é\\n\"}", "{\"a\":\"\\\"\\\\\",\"b\":\"\\u00e9é\\n\"}"),
        ("{\"a\":1,\"a\":2}", "{\"a\":1,\"a\":2}"),
        ("{\"a\":\"\\ud83d\\ude00\"}", "{\"a\":\"\\ud83d\\ude00\"}"),
        ("{\"a\":\"\\ud83d x\"}", "{\"a\":\"\\ufffd x\"}"),
        ("[\"\\ude00\",\"\\ud83d\\u0041\",\"\\\\ud83d\"]", "[\"\\ufffd\",\"\\ufffd\\u0041\",\"\\\\ud83d\"]"),
        ("{\"\\ud800\":1}", "{\"\\ufffd\":1}"),
    ];
    for (body, want) in rows {
        assert_eq!(text(body), want);
    }
}

#[test]
fn what_is_no_json_is_not_read() {
    for body in [
        "",
        "{",
        "{}{}",
        "k8s\0\n",
        "a: 1",
        "{\"a\":\"\n\"}",
        "{a:1}",
        "[1,]",
        "\u{feff}{}",
        "NaN",
        "[1e999]",
    ] {
        assert_eq!(read(body.as_bytes(), false), Err(Omitted::Encoding), "{body:?}");
    }
    assert_eq!(read(b"\"\xff\"", false), Err(Omitted::Encoding));
    let nested = |n| "[".repeat(n) + &"]".repeat(n);
    assert!(read(nested(DEEPEST + 1).as_bytes(), false).is_ok());
    assert_eq!(read(nested(DEEPEST + 2).as_bytes(), false), Err(Omitted::Depth));
    assert_eq!(read(nested(200_000).as_bytes(), false), Err(Omitted::Depth));
}

#[test]
fn managed_fields_go_where_they_are_kubernetes_own() {
    let rows = [
        (r#"{"metadata":{"managedFields":[{"a":{}}]}}"#, r#"{"metadata":{}}"#),
        (r#"{"metadata":{"managedFields":[{}],"name":"x"}}"#, r#"{"metadata":{"name":"x"}}"#),
        (r#"{"metadata":{"a":1,"managedFields":[{}],"name":"x"}}"#, r#"{"metadata":{"a":1,"name":"x"}}"#),
        (r#"{"metadata":{"a":1,"managedFields":"x"},"b":2}"#, r#"{"metadata":{"a":1},"b":2}"#),
        (r#"{"metadata":{"managed\u0046ields":[1]}}"#, r#"{"metadata":{}}"#),
        (
            r#"{"items":[{"metadata":{"managedFields":[]}},{"metadata":{}}]}"#,
            r#"{"items":[{"metadata":{}},{"metadata":{}}]}"#,
        ),
        (
            r#"{"rows":[{"cells":[1],"object":{"metadata":{"managedFields":[]}}}]}"#,
            r#"{"rows":[{"cells":[1],"object":{"metadata":{}}}]}"#,
        ),
        (r#"{"spec":{"metadata":{"managedFields":[]}}}"#, r#"{"spec":{"metadata":{"managedFields":[]}}}"#),
        (r#"{"managedFields":[]}"#, r#"{"managedFields":[]}"#),
    ];
    for (body, want) in rows {
        assert_eq!(text(body), want);
        assert_eq!(String::from_utf8(read(body.as_bytes(), false).unwrap().json).unwrap(), body);
    }
}

#[test]
fn a_body_tells_its_kind_and_name() {
    let body = r#"{"kind":"Pod","metadata":{"name":"w\u0065b","namespace":"x","uid":"u","resourceVersion":"7",
        "ownerReferences":[{"name":"other"}]},"spec":{"metadata":{"name":"inner"}}}"#;
    let object = read(body.as_bytes(), false).unwrap();
    assert_eq!(object.kind, "Pod");
    let want = ObjectMeta {
        namespace: "x".into(),
        name: "web".into(),
        uid: "u".into(),
        resource_version: "7".into(),
    };
    assert_eq!(object.meta, want);
    assert!(!object.secret);
    assert_eq!(read(br#"{"metadata":{"name":7}}"#, false).unwrap().meta, ObjectMeta::default());
}

#[test]
fn secrets_are_found_wherever_they_are() {
    let secret = [
        r#"{"kind":"Secret"}"#,
        r#"{"data":{},"kind":"Secret"}"#,
        r#"{"k\u0069nd":"S\u0065cret","stringData":{}}"#,
        r#"{"kind":"Pod","kind":"Secret"}"#,
        r#"{"kind":"SecretList","items":[]}"#,
        r#"{"kind":"List","items":[{"kind":"ConfigMap"},{"kind":"Secret","data":{"a":"b"}}]}"#,
        r#"{"kind":"List","items":[{"kind":"List","items":[{"kind":"Secret"}]}]}"#,
        r#"{"kind":"Table","rows":[{"object":{"kind":"Secret","metadata":{}}}]}"#,
        r#"{"kind":"ManifestWork","spec":{"manifests":[{"stringData":{"a":"b"},"kind":"Secret"}]}}"#,
        r#"{"kind":"TokenRequest","status":{"token":"x"}}"#,
        r#"{"kind":"TokenReview","spec":{"token":"x"}}"#,
    ];
    for body in secret {
        assert!(read(body.as_bytes(), true).unwrap().secret, "{body}");
    }
    let plain = [
        r#"{"kind":"ConfigMap","data":{"kind":"Secret"}}"#,
        r#"{"kind":"Issuer","spec":{"ref":{"kind":"Secret","name":"x"}}}"#,
        r#"{"kind":"Table","rows":[{"cells":["Secret"]}]}"#,
        r#"{"spec":{"kind":"TokenRequest"}}"#,
    ];
    for body in plain {
        assert!(!read(body.as_bytes(), true).unwrap().secret, "{body}");
    }
}

#[test]
fn gzip_is_bounded() {
    use std::io::Write;
    let pack = |bytes: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    };
    assert_eq!(gunzip(&pack(b"{}"), 2).unwrap(), b"{}");
    assert_eq!(gunzip(&pack(b"{ }"), 2), Err(Omitted::Size));
    assert_eq!(gunzip(&pack(&vec![0; 50 << 20]), 1 << 20), Err(Omitted::Size));
    assert_eq!(gunzip(b"{}", 2), Err(Omitted::Encoding));
    assert_eq!(gunzip(&pack(b"{}")[..12], 2), Err(Omitted::Encoding));
    let twice = [pack(b"[1"), pack(b"]")].concat();
    assert_eq!(gunzip(&twice, 9).unwrap(), b"[1]");
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "kind|metadata|items|managedFields|Secret".prop_map(Value::from),
    ];
    let key =
        prop_oneof![any::<String>(), "kind|metadata|items|rows|object|managedFields|data".prop_map(|s| s)];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6).prop_map(|m| json!(m)),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_is_recorded_as_it_is(value in values()) {
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let object = read(pretty.as_bytes(), false).unwrap();
        prop_assert_eq!(String::from_utf8(object.json).unwrap(), value.to_string());
    }

    #[test]
    fn what_is_left_is_always_an_object(value in values()) {
        let object = read(value.to_string().as_bytes(), true).unwrap();
        let left: Value = serde_json::from_slice(&object.json).unwrap();
        prop_assert!(left["metadata"]["managedFields"].is_null());
    }

    #[test]
    fn no_bytes_are_too_odd(bytes in any::<Vec<u8>>()) {
        if let Ok(object) = read(&bytes, true) {
            serde_json::from_slice::<Value>(&object.json).unwrap();
        }
    }

    #[test]
    fn no_text_that_looks_like_json_is_too_odd(text in r#"[\[\]{}",:\\u0-9a-f \n]{0,40}"#) {
        if let Ok(object) = read(text.as_bytes(), true) {
            serde_json::from_slice::<Value>(&object.json).unwrap_or_else(|e| panic!("{e}: {text}"));
        }
    }
}
