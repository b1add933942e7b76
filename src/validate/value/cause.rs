//! Causes of a 422, worded as the API machinery words them (`k8s.io/apimachinery pkg/util/validation/field`), and values as Go prints
//! them.

use crate::{
    codec::tape::{Kind, Tape},
    status::{Cause, push_go_quoted, push_json_str},
};
use std::ops::Range;

/// Something that a value should not be, and the rule that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) rule: &'static str,
    pub(super) cause: Cause,
}

/// A number as Go's decoder tells them apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Int(i64),
    Float(f64),
}

/// Bytes of a value that a text repeats; more of it helps nobody, and a list can hold many.
const MOST_SHOWN: usize = 4096;
/// Levels of nesting that are told apart.
const DEEPEST: usize = 500;

// === impl Fault ===

impl Fault {
    /// `Invalid value: <value>: <detail>`; `value` as [`show`] gives it.
    pub(super) fn invalid(rule: &'static str, field: &str, value: &str, detail: &str) -> Self {
        Self::new(rule, "FieldValueInvalid", field, format!("Invalid value: {value}: {detail}"))
    }

    /// The same without the value.
    pub(super) fn invalid_hidden(rule: &'static str, field: &str, detail: &str) -> Self {
        Self::new(rule, "FieldValueInvalid", field, format!("Invalid value: {detail}"))
    }

    /// [`Self::invalid`] where a type or a format is not as the schema says.
    pub(super) fn type_invalid(rule: &'static str, field: &str, value: &str, detail: &str) -> Self {
        Self::new(rule, "FieldValueTypeInvalid", field, format!("Invalid value: {value}: {detail}"))
    }

    /// `Required value[: <detail>]`
    pub(super) fn required(rule: &'static str, field: &str, detail: &str) -> Self {
        let colon = if detail.is_empty() { "" } else { ": " };
        Self::new(rule, "FieldValueRequired", field, format!("Required value{colon}{detail}"))
    }

    /// `Unsupported value: <value>: supported values: "a", "b"`
    pub(super) fn not_supported<'a>(
        rule: &'static str,
        field: &str,
        value: &str,
        supported: impl Iterator<Item = &'a str>,
    ) -> Self {
        let supported = supported.map(quoted).collect::<Vec<_>>().join(", ");
        let text = format!("Unsupported value: {value}: supported values: {supported}");
        Self::new(rule, "FieldValueNotSupported", field, text)
    }

    /// `Duplicate value: <value>`
    pub(super) fn duplicate(rule: &'static str, field: &str, value: &str) -> Self {
        Self::new(rule, "FieldValueDuplicate", field, format!("Duplicate value: {value}"))
    }

    /// `Too long: may not be more than <most> bytes`
    pub(super) fn too_long(rule: &'static str, field: &str, most: u64) -> Self {
        let bytes = if most == 1 { "byte" } else { "bytes" };
        Self::new(rule, "FieldValueTooLong", field, format!("Too long: may not be more than {most} {bytes}"))
    }

    /// `Too many: <actual>: must have at most <most> items`
    pub(super) fn too_many(rule: &'static str, field: &str, actual: u64, most: u64) -> Self {
        let items = if most == 1 { "item" } else { "items" };
        let text = format!("Too many: {actual}: must have at most {most} {items}");
        Self::new(rule, "FieldValueTooMany", field, text)
    }

    fn new(rule: &'static str, reason: &str, field: &str, message: String) -> Self {
        let cause = Cause { reason: reason.to_owned(), message, field: field.to_owned() };
        Self { rule, cause }
    }

    /// Whether kube-apiserver does not go on to the rules in CEL after it.
    pub(super) fn blocks(&self) -> bool {
        matches!(
            self.cause.reason.as_str(),
            "FieldValueNotSupported"
                | "FieldValueRequired"
                | "FieldValueTooLong"
                | "FieldValueTooMany"
                | "FieldValueTypeInvalid"
        )
    }

    /// Whether a value is of another type, or stands in a list twice.
    pub(super) fn is_of_shape(&self) -> bool {
        matches!(self.rule, "type" | "list-type")
    }
}

// === values ===

impl Number {
    /// What Go's decoder makes of it: a 64-bit integer if it is written as one and fits.
    pub(super) fn of(raw: &str) -> Self {
        match raw.parse() {
            Ok(int) => Self::Int(int),
            Err(_) => Self::Float(raw.parse().unwrap_or_default()),
        }
    }

    /// As a double.
    pub(super) fn double(self) -> f64 {
        match self {
            Self::Int(int) => int as f64,
            Self::Float(float) => float,
        }
    }

    /// `%v`
    pub(super) fn text(self) -> String {
        match self {
            Self::Int(int) => int.to_string(),
            Self::Float(float) => double(float),
        }
    }
}

/// `%v` of a double: the shortest digits, with an exponent below 1e-4 and from 1e6.
pub(super) fn double(value: f64) -> String {
    scientific(value, 1e-4..1e6, "0")
}

/// The same as `encoding/json` writes it.
fn json_double(value: f64) -> String {
    scientific(value, 1e-6..1e21, "")
}

/// `pad` is what comes before an exponent of one digit.
fn scientific(value: f64, plain: Range<f64>, pad: &str) -> String {
    let size = value.abs();
    if size == 0.0 || plain.contains(&size) {
        return format!("{value}");
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    let pad = if exponent.len() < 2 { pad } else { "" };
    format!("{digits}e{sign}{pad}{exponent}")
}

/// `%q`, not too long.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MOST_SHOWN) + 2);
    push_go_quoted(&mut out, shortened(text));
    out
}

/// A value as a cause repeats it: scalars as Go prints them, everything else as JSON.
pub(super) fn show(tape: &Tape<'_>, at: usize) -> String {
    match tape.kind(at) {
        Kind::Text | Kind::Escaped => quoted(&tape.string(at)),
        Kind::Number => Number::of(tape.raw(at)).text(),
        Kind::Bool | Kind::Null => tape.raw(at).to_owned(),
        Kind::Object | Kind::Array => {
            let mut out = Vec::new();
            push_json(tape, at, &mut out);
            let text = String::from_utf8_lossy(&out);
            shortened(&text).to_owned()
        }
    }
}

/// A value as `encoding/json` writes what it read: keys sorted, numbers in one spelling, `<`, `>` and `&` escaped.
pub(super) fn push_json(tape: &Tape<'_>, at: usize, out: &mut Vec<u8>) {
    push_levels(tape, at, out, DEEPEST);
}

fn push_levels(tape: &Tape<'_>, at: usize, out: &mut Vec<u8>, depth: usize) {
    let Some(depth) = depth.checked_sub(1) else { return out.extend_from_slice(b"null") };
    match tape.kind(at) {
        Kind::Object => {
            let mut members: Vec<_> =
                tape.members(at).map(|(key, value)| (tape.string(key), value)).collect();
            // The last of equal keys is the one that counts.
            members.reverse();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            members.dedup_by(|a, b| a.0 == b.0);
            out.push(b'{');
            for (i, (key, value)) in members.iter().enumerate() {
                out.extend_from_slice(if i == 0 { b"" } else { b"," });
                push_json_str(out, key);
                out.push(b':');
                push_levels(tape, *value, out, depth);
            }
            out.push(b'}');
        }
        Kind::Array => {
            out.push(b'[');
            for (i, element) in tape.elements(at).enumerate() {
                out.extend_from_slice(if i == 0 { b"" } else { b"," });
                push_levels(tape, element, out, depth);
            }
            out.push(b']');
        }
        Kind::Text | Kind::Escaped => push_json_str(out, &tape.string(at)),
        Kind::Number => match Number::of(tape.raw(at)) {
            Number::Int(int) => out.extend_from_slice(int.to_string().as_bytes()),
            Number::Float(float) => out.extend_from_slice(json_double(float).as_bytes()),
        },
        Kind::Bool | Kind::Null => out.extend_from_slice(tape.raw(at).as_bytes()),
    }
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(MOST_SHOWN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn tape(text: &str) -> Tape<'_> {
        Tape::read(text, 100, &Cell::new(1000)).unwrap()
    }

    #[test]
    fn numbers_as_go_prints_them() {
        let rows = [
            ("1", "1", "1"),
            ("-0", "0", "0"),
            ("1.0", "1", "1"),
            ("1.5", "1.5", "1.5"),
            ("1e20", "1e+20", "100000000000000000000"),
            ("123456.5", "123456.5", "123456.5"),
            ("1234567.5", "1.2345675e+06", "1234567.5"),
            ("1e21", "1e+21", "1e+21"),
            ("1.25e-5", "1.25e-05", "0.0000125"),
            ("1e-7", "1e-07", "1e-7"),
            ("1e100", "1e+100", "1e+100"),
            ("9223372036854775807", "9223372036854775807", "9223372036854775807"),
            ("9223372036854775808", "9.223372036854776e+18", "9223372036854776000"),
        ];
        for (raw, plain, json) in rows {
            let tape = tape(raw);
            let mut out = Vec::new();
            push_json(&tape, 0, &mut out);
            assert_eq!(
                (show(&tape, 0).as_str(), String::from_utf8(out).unwrap().as_str()),
                (plain, json),
                "{raw}"
            );
        }
    }

    #[test]
    fn values_as_go_prints_them() {
        let rows = [
            (r#""a\"b\u0001é""#, r#""a\"b\x01é""#),
            ("null", "null"),
            ("true", "true"),
            (r#"{"b": [1, 1.0, null], "a": "<&>", "b": {}}"#, r#"{"a":"\u003c\u0026\u003e","b":{}}"#),
        ];
        for (raw, want) in rows {
            assert_eq!(show(&tape(raw), 0), want, "{raw}");
        }
        let long = format!("\"{}\"", "é".repeat(MOST_SHOWN));
        assert_eq!(show(&tape(&long), 0).len(), MOST_SHOWN + 2);
    }
}
