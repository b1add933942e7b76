use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const LIMITS: Limits = Limits { nodes: 10_000, json: 1 << 20 };

fn value(text: &str) -> Result<Value, Refused> {
    to_json(text, LIMITS).map(|read| serde_json::from_str(&read.json).unwrap())
}

#[test]
fn scalars_are_those_of_yaml_1_1() {
    for (text, want) in [
        (
            "[y, Yes, ON, true, n, No, off, FALSE, yEs]",
            json!([true, true, true, true, false, false, false, false, "yEs"]),
        ),
        ("[~, null, NULL, '', '~']", json!([null, null, null, "", "~"])),
        ("[0777, 0o17, 0x1F, 0b101, 1_000, -0x10, 08, +1]", json!([511, 15, 31, 5, 1000, -16, 8, 1])),
        ("[18446744073709551615, 18446744073709551616]", json!([u64::MAX, 18446744073709552000.0])),
        ("[1.5, .5, 1e3, 1e400, 1.50]", json!([1.5, 0.5, 1000, "1e400", 1.5])),
        (
            "[1:30, 190:20:30, 2001-01-01, 1.2.3, 0b-101, -0b-1]",
            json!(["1:30", "190:20:30", "2001-01-01", "1.2.3", -5, "-0b-1"]),
        ),
        ("[!!str 1, !!int '7', !!float 3, ! yes]", json!(null)),
        ("- !!str 1\n- !!int '7'\n- !!float 3\n- !mine yes", json!(["1", 7, 3, "yes"])),
        ("1: a\ntrue: b", json!({"1": "a", "true": "b"})),
    ] {
        match value(text) {
            Ok(got) => assert_eq!(got, want, "{text}"),
            Err(why) => assert_eq!((why, want), (UNSURE, Value::Null), "{text}"),
        }
    }
}

#[test]
fn keys_merges_and_aliases_are_gos() {
    for (text, want, duplicates) in [
        ("a: 1\na: 2", json!({"a": 2}), vec!["line 2: key \"a\" already set in map"]),
        ("a: .inf\na: 1", json!({"a": 1}), vec!["line 2: key \"a\" already set in map"]),
        (
            "x: &r {a: 1}\nz: {a: 2, <<: *r}",
            json!({"x": {"a": 1}, "z": {"a": 1}}),
            vec!["line 1: key \"a\" already set in map"],
        ),
        ("<<: [{a: 1}, {a: 2, b: 2}]", json!({"a": 1, "b": 2}), vec!["line 1: key \"a\" already set in map"]),
        ("x: &r [yes]\nz: *r", json!({"x": [true], "z": [true]}), vec![]),
        ("'<<': {a: 1}", json!({"<<": {"a": 1}}), vec![]),
        ("a: 1\n---\n: : [", json!({"a": 1}), vec![]),
        ("# nothing", Value::Null, vec![]),
    ] {
        let read = to_json(text, LIMITS).unwrap();
        let got: Value = serde_json::from_str(&read.json).unwrap();
        assert_eq!((got, read.duplicates.iter().map(String::as_str).collect()), (want, duplicates), "{text}");
    }
}

#[test]
fn what_may_be_read_otherwise_is_not_refused() {
    for text in [
        "a: [",
        "%YAML 1.1\n---\na: 1",
        "a: \"\\/\"",
        "{a: b?c}",
        "-\t1",
        "a: \u{85}b",
        "a: &x [*x]",
        "a: !!binary YQ==",
        "1.5: a",
        "1: a\n'1': b",
        "'1': a\n1: b",
        "a: |\n x",
        "&x:y a",
    ] {
        assert!(matches!(value(text), Err(Refused::Unsure(_))), "{text}: {:?}", value(text));
    }
    assert_eq!(value("a: .inf"), Err(Refused::No("json: unsupported value: +Inf".into())));
    let merge = "yaml: map merge requires map or sequence of maps as the value";
    assert_eq!(value("<<: 1"), Err(Refused::No(merge.into())));
}

#[test]
fn bombs_are_refused_early() {
    let bomb = |wide: usize, deep: usize| {
        (1..deep).fold(format!("a0: &a0 [{}]\n", vec!["x"; wide].join(", ")), |text, i| {
            text + &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); wide].join(", "))
        })
    };
    let limits = Limits { nodes: 1 << 18, json: 16 << 20 };
    let read = |text: &str| to_json(text, limits).map(drop);
    assert_eq!(read(&bomb(9, 9)), Err(Refused::No("yaml: document contains excessive aliasing".into())));
    assert_eq!(read(&bomb(9, 3)), Ok(()));
    let long = format!("a: &a {}\nb: [{}]", "x".repeat(100 << 10), vec!["*a"; 20_000].join(","));
    assert_eq!(read(&long), Err(TOO_MUCH));
    assert_eq!(read(&format!("[{}]", "0,".repeat(300_000))), Err(TOO_MUCH));
    for deep in ["[", "- ", "{a: ", "? "] {
        assert!(matches!(read(&deep.repeat(100_000)), Err(Refused::Unsure(_))), "{deep}");
    }
}

proptest! {
    #[test]
    fn no_text_is_too_odd(text in r#"([ -~\n]|- |: |\n  |&x |\*x|<<: |!!str |\||>|"|'){0,60}"#) {
        if let Ok(read) = to_json(&text, LIMITS) {
            serde_json::from_str::<Value>(&read.json).unwrap_or_else(|e| panic!("{e}: {text:?}"));
        }
    }

    #[test]
    fn json_is_the_same_value(value in super::super::tape::tests::values()) {
        let text = serde_json::to_string(&value).unwrap();
        if let Ok(read) = to_json(&text, LIMITS) {
            prop_assert_eq!(serde_json::from_str::<Value>(&read.json).unwrap(), value);
        }
    }
}
