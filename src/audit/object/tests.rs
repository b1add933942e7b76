use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::cell::Cell;

const ENCODING: fn(&Omitted) -> bool = |why| matches!(why, Omitted::Encoding(_));

/// What is recorded of a text, and what it says of itself.
fn read(body: &str, keep: Keep) -> Result<(String, Object), Omitted> {
    let tape = Tape::read(body, 10_000, &Cell::new(MOST_NODES))?;
    let body = Body::of(Held::Ours(tape), keep)?;
    Ok((body.line.raw(0).to_owned(), body.object))
}

fn text(body: &str) -> String {
    read(body, Keep::NoManagedFields).unwrap().0
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
        assert!(read(body, Keep::Whole).is_err_and(|why| ENCODING(&why)), "{body:?}");
    }
    let odd = Wire::new(b"\"\xff\"", "", false).json(100);
    assert!(odd.is_err_and(|why| ENCODING(&why)));
    let nested = |n| "[".repeat(n) + &"]".repeat(n);
    assert!(read(&nested(DEEPEST), Keep::Whole).is_ok());
    assert_eq!(read(&nested(DEEPEST + 1), Keep::Whole), Err(Omitted::Depth));
    assert_eq!(read(&nested(200_000), Keep::Whole), Err(Omitted::Depth));
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
        assert_eq!(read(body, Keep::Whole).unwrap().0, body);
    }
}

#[test]
fn a_body_tells_its_kind_and_name() {
    let body = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"w\u0065b","generateName":"w","namespace":"x","uid":"u","resourceVersion":"7",
        "ownerReferences":[{"name":"other"}]},"spec":{"metadata":{"name":"inner"}}}"#;
    let object = read(body, Keep::Nothing).unwrap().1;
    assert_eq!(
        (&*object.kind, &*object.api_version, object.generated, object.items),
        ("Pod", "v1", true, None)
    );
    let want = ObjectMeta {
        namespace: "x".into(),
        name: "web".into(),
        uid: "u".into(),
        resource_version: "7".into(),
    };
    assert_eq!(object.meta, want);
    let list = r#"{"kind":"PodList","metadata":{"resourceVersion":"9"},"items":[{"metadata":{"name":"a"}},{},{"items":[1,2]}]}"#;
    let list = read(list, Keep::Nothing).unwrap().1;
    assert_eq!((list.items, &*list.meta.resource_version, &*list.meta.name), (Some(3), "9", ""));
    let odd = r#"{"metadata":{"name":7,"generateName":""},"items":[]}"#;
    let odd = read(odd, Keep::Nothing).unwrap().1;
    assert_eq!((odd.meta, odd.generated, odd.items), (ObjectMeta::default(), false, None));
}

#[test]
fn gzip_is_bounded() {
    use std::io::Write;
    let pack = |bytes: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    };
    assert_eq!(wire::gunzip(&pack(b"{}"), 2).unwrap(), b"{}");
    assert_eq!(wire::gunzip(&pack(b"{ }"), 2), Err(Omitted::Size));
    assert_eq!(wire::gunzip(&pack(&vec![0; 50 << 20]), 1 << 20), Err(Omitted::Size));
    assert!(wire::gunzip(b"{}", 2).is_err_and(|why| ENCODING(&why)));
    assert!(wire::gunzip(&pack(b"{}")[..12], 2).is_err_and(|why| ENCODING(&why)));
    let twice = [pack(b"[1"), pack(b"]")].concat();
    assert_eq!(wire::gunzip(&twice, 9).unwrap(), b"[1]");
}

#[test]
fn yaml_is_bounded() {
    fn read(text: &str) -> Result<std::borrow::Cow<'_, str>, Omitted> {
        Wire::new(text.as_bytes(), "application/apply-patch+yaml", false).json(1 << 20)
    }
    assert_eq!(read("a: &a [yes]\nb: *a").as_deref(), Ok("{\"a\":[true],\"b\":[true]}"));
    let long = "x".repeat(100 << 10);
    let bomb = format!("a: &a {long}\nb: [{}]", vec!["*a"; 20_000].join(","));
    assert!(read(&bomb).is_err_and(|why| ENCODING(&why)));
    let wide = format!("[{}]", vec!["a"; 300_000].join(","));
    assert!(read(&wide).is_err_and(|why| ENCODING(&why)), "as YAML");
    assert!(read(&"- ".repeat(100_000)).is_err_and(|why| ENCODING(&why)));
    assert_eq!(read("a: 1\n---\nb: 1").as_deref(), Ok("{\"a\":1}"), "as the API server reads it");
}

/// body, all of it or its beginning => kind, apiVersion, name
#[test]
fn the_beginning_of_a_body_says_what_it_is() {
    let long = "x".repeat(100_000);
    let pack = |text: &str| {
        use std::io::Write;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    let json = format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"n","namespace":"a"}},"data":{{"a":"{long}"}}}}"#
    );
    let noise: String = (0..20_000).map(|i| format!("{}", i * i)).collect();
    let zipped = pack(&json.replace(&long, &noise));
    let protobuf = |kind: &str| {
        let raw = protobuf::Writer::of(|of| {
            of.message(1, |meta| {
                meta.text(1, "n");
                meta.text(2, "");
                meta.text(3, "a");
            });
            of.text(2, &long);
        });
        let kind = protobuf::Envelope { api_version: "v1", kind, raw: &raw, ..protobuf::Envelope::default() };
        kind.write()
    };
    let rows: [(&[u8], bool, [&str; 4]); 9] = [
        (json.as_bytes(), false, ["ConfigMap", "v1", "n", "a"]),
        (&json.as_bytes()[..60], false, ["ConfigMap", "v1", "n", ""]),
        (&json.as_bytes()[..52], false, ["ConfigMap", "v1", "", ""]),
        (&zipped, true, ["ConfigMap", "v1", "n", "a"]),
        (&zipped[..2000], true, ["ConfigMap", "v1", "n", "a"]),
        (&protobuf("ConfigMap"), false, ["ConfigMap", "v1", "n", "a"]),
        (&protobuf("Foo")[..100], false, ["Foo", "v1", "n", "a"]),
        (&protobuf("FooList"), false, ["FooList", "v1", "", ""]),
        (b"\xff\xff", false, ["", "", "", ""]),
    ];
    for (i, (body, is_gzip, want)) in rows.into_iter().enumerate() {
        let object = Wire::new(body, "", is_gzip).beginning();
        assert_eq!(
            [&*object.kind, &*object.api_version, &*object.meta.name, &*object.meta.namespace],
            want,
            "{i}"
        );
    }
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
        prop_assert_eq!(read(&pretty, Keep::Whole).unwrap().0, value.to_string());
    }

    #[test]
    fn what_is_left_is_always_an_object(value in values()) {
        let left: Value = serde_json::from_str(&text(&value.to_string())).unwrap();
        prop_assert!(left["metadata"]["managedFields"].is_null());
    }

    #[test]
    fn no_bytes_are_too_odd(bytes in any::<Vec<u8>>()) {
        for (kind, is_gzip) in [("", false), ("", true), ("yaml", false), ("cbor", false)] {
            let wire = Wire::new(&bytes, kind, is_gzip);
            if let Ok(text) = wire.json(1 << 20)
                && let Ok((line, _)) = read(&text, Keep::NoManagedFields)
            {
                serde_json::from_str::<Value>(&line).unwrap();
            }
            wire.beginning();
        }
    }

    #[test]
    fn no_text_that_looks_like_json_is_too_odd(text in r#"[\[\]{}",:\\u0-9a-f \n]{0,40}"#) {
        if let Ok((line, _)) = read(&text, Keep::NoManagedFields) {
            serde_json::from_str::<Value>(&line).unwrap_or_else(|e| panic!("{e}: {text}"));
        }
        Wire::new(text.as_bytes(), "", false).beginning();
    }
}
