//! JSON of strangers: one value, bounded, read in exactly one way.
//!
//! Most readers of JSON take the last of two equal keys, some the first; whoever signs or checks such a text and whoever acts on
//! it may then see different things. Here it is an error, wherever in the text it stands.

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, error::Category};
use std::{cell::Cell, fmt};

/// How much one text may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Nesting of arrays and objects.
    pub depth: usize,
    /// Values, keys excluded.
    pub nodes: usize,
}

/// Text that is not JSON, holds a key twice, or more than allowed. Never repeats the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

/// Reads one value and nothing after it. A key that an object holds twice is an error: two readers could take it differently.
///
/// A `depth` beyond 127 is not reached: serde_json itself stops there.
pub fn value(text: &[u8], limits: Limits) -> Result<Value, Error> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let left = Cell::new(limits.nodes);
    let seed = Bounded { depth: limits.depth, left: &left };
    let value = seed.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.map_err(|e| Error(describe(&e)))
}

/// serde_json's own messages are fixed texts, but for numbers out of range, which are not repeated either.
fn describe(error: &serde_json::Error) -> String {
    match error.classify() {
        Category::Data => error.to_string(),
        Category::Eof => "not JSON: it ends early".to_owned(),
        Category::Syntax | Category::Io => format!("not JSON: {error}"),
    }
}

/// A value at most `depth` levels deep, of as many values as are left.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    depth: usize,
    left: &'a Cell<usize>,
}

impl Bounded<'_> {
    fn below<E: de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("nested too deeply"))?;
        Ok(Self { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        let left = self.left.get().checked_sub(1).ok_or_else(|| de::Error::custom("too many values"))?;
        self.left.set(left);
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(below)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.insert(key, entries.next_value_seed(below)?).is_some() {
                return Err(de::Error::custom("an object holds a key twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const LIMITS: Limits = Limits { depth: 8, nodes: 100 };

    fn read(text: &str) -> Result<Value, String> {
        value(text.as_bytes(), LIMITS).map_err(|e| e.0)
    }

    #[test]
    fn values_are_read_as_they_are() {
        for (text, want) in [
            ("null", json!(null)),
            (" true ", json!(true)),
            ("-1", json!(-1)),
            ("18446744073709551615", json!(u64::MAX)),
            ("-0.5e3", json!(-500.0)),
            ("1e2", json!(100.0)),
            ("123456789012345678901234567890", json!(123_456_789_012_345_678_901_234_567_890_f64)),
            (r#""\u00e9\n\ud83d\ude00\/""#, json!("é\n😀/")),
            ("[]", json!([])),
            ("{}", json!({})),
            (r#"{"b": [1, {"a": {}}], "a": "", "": 0}"#, json!({"b": [1, {"a": {}}], "a": "", "": 0})),
            (r#"[{"a": 1}, {"a": 2}]"#, json!([{"a": 1}, {"a": 2}])),
            (r#"{"a": {"a": 1}, "A": 2}"#, json!({"a": {"a": 1}, "A": 2})),
        ] {
            assert_eq!(read(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_two_readers_could_take_differently_is_refused() {
        let twice = "an object holds a key twice";
        for (text, why) in [
            (r#"{"a": 1, "a": 1}"#, twice),
            (r#"{"a": 1, "b": 2, "a": null}"#, twice),
            (r#"{"a": 1, "\u0061": 2}"#, twice),
            (r#"{"": 1, "": 2}"#, twice),
            (r#"[{"x": [{"a": 1, "a": 2}]}]"#, twice),
            ("", "not JSON"),
            (" ", "not JSON"),
            ("{", "not JSON"),
            (r#"{"a": 1} x"#, "not JSON"),
            ("1 2", "not JSON"),
            ("{}{}", "not JSON"),
            ("{}\0", "not JSON"),
            ("\u{feff}{}", "not JSON"),
            ("[1,]", "not JSON"),
            (r#"{"a": 1,}"#, "not JSON"),
            (r#"{a: 1}"#, "not JSON"),
            ("{'a': 1}", "not JSON"),
            ("[1] // so", "not JSON"),
            ("01", "not JSON"),
            ("+1", "not JSON"),
            (".5", "not JSON"),
            ("NaN", "not JSON"),
            ("1e400", "not JSON"),
            ("\"a\nb\"", "not JSON"),
            (r#""\ud800""#, "not JSON"),
            (r#""\x41""#, "not JSON"),
        ] {
            let got = read(text).expect_err(text);
            assert!(got.starts_with(why), "{text:?}: {got}");
        }
        for text in [b"\"\xff\"".as_slice(), b"\"\xc0\xaf\"", b"\"\xed\xa0\x80\"", b"{\"\xff\": 1}", b"\xff"]
        {
            assert!(value(text, LIMITS).unwrap_err().0.starts_with("not JSON"), "{text:?}");
        }
    }

    #[test]
    fn everything_is_bounded() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(read(&nested(8)).is_ok());
        assert!(read(&nested(9)).unwrap_err().starts_with("nested too deeply"));
        let objects = |n: usize| format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n));
        assert!(read(&objects(8)).is_ok());
        assert!(read(&objects(9)).unwrap_err().starts_with("nested too deeply"));
        let wide = |n: usize| format!("[{}]", vec!["1"; n].join(","));
        assert!(read(&wide(99)).is_ok());
        assert!(read(&wide(100)).unwrap_err().starts_with("too many values"));
        let keys =
            |n: usize| format!("{{{}}}", (0..n).map(|i| format!("\"{i}\":0")).collect::<Vec<_>>().join(","));
        assert!(read(&keys(99)).is_ok());
        assert!(read(&keys(100)).unwrap_err().starts_with("too many values"));
        let endless = Limits { depth: usize::MAX, nodes: usize::MAX };
        assert!(value(nested(100_000).as_bytes(), endless).is_err());
        assert!(value("[".repeat(1_000_000).as_bytes(), endless).is_err());
    }

    #[test]
    fn errors_do_not_repeat_the_text() {
        for text in [
            r#"{"hunter2": 1, "hunter2": 2}"#,
            r#""hunter2"#,
            "hunter2",
            r#"["hunter2", hunter2]"#,
            r#"{"a": "hunter2\q"}"#,
            r#"{"a": "hunter2"} hunter2"#,
        ] {
            assert!(!read(text).unwrap_err().contains("hunter2"), "{text}");
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|entries| entries.into_iter().collect::<Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_where_no_key_is_twice(value in any_value()) {
            for text in [value.to_string(), format!("{value:#}")] {
                let plain: Value = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(super::value(text.as_bytes(), Limits { depth: 100, nodes: 10_000 }).unwrap(), plain);
            }
        }

        #[test]
        fn accepts_nothing_that_serde_json_does_not(text in r#"[\[\]{}",:a\\u0-9e+. -]{0,30}"#) {
            if let Ok(ours) = value(text.as_bytes(), LIMITS) {
                prop_assert_eq!(ours, serde_json::from_str::<Value>(&text).unwrap());
            }
        }

        #[test]
        fn never_panics(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = value(&text, LIMITS);
        }
    }
}
