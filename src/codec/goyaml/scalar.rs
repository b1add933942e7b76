//! What a scalar means: YAML 1.1 as Go's decoder knows it.

use super::Refused;
use std::borrow::Cow;

/// A scalar's value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Resolved<'t> {
    Null,
    Bool(bool),
    Int(i64),
    /// Beyond what `Int` holds.
    Unsigned(u64),
    Float(f64),
    Text(Cow<'t, str>),
}

/// The value of a scalar that is plain (`tag` is empty) or tagged.
pub(super) fn resolve<'t>(tag: &str, text: Cow<'t, str>) -> Result<Resolved<'t>, Refused> {
    match tag {
        "" => Ok(implied(text)),
        "!!str" => Ok(Resolved::Text(text)),
        "!!bool" | "!!int" | "!!float" | "!!null" => {
            let value = implied(text);
            match (tag, value) {
                ("!!float", Resolved::Int(int)) => Ok(Resolved::Float(int as f64)),
                ("!!bool", value @ Resolved::Bool(_))
                | ("!!int", value @ (Resolved::Int(_) | Resolved::Unsigned(_)))
                | ("!!float", value @ Resolved::Float(_))
                | ("!!null", value @ Resolved::Null) => Ok(value),
                _ => Err(Refused::Unsure("a value is not what its tag says")),
            }
        }
        "!!binary" | "!!timestamp" => Err(Refused::Unsure("a tag that is not read here")),
        // To Go's decoder any other tag makes a text of it.
        _ => Ok(Resolved::Text(text)),
    }
}

fn implied(text: Cow<'_, str>) -> Resolved<'_> {
    let known = match &*text {
        "" | "~" | "null" | "Null" | "NULL" => Some(Resolved::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Some(Resolved::Bool(true))
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Some(Resolved::Bool(false))
        }
        ".nan" | ".NaN" | ".NAN" => Some(Resolved::Float(f64::NAN)),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Some(Resolved::Float(f64::INFINITY)),
        "-.inf" | "-.Inf" | "-.INF" => Some(Resolved::Float(f64::NEG_INFINITY)),
        text => number(text),
    };
    known.unwrap_or(Resolved::Text(text))
}

fn number(text: &str) -> Option<Resolved<'static>> {
    match text.as_bytes().first()? {
        // Go's own syntax of floats, without underscores.
        b'.' => decimal(text),
        b'+' | b'-' | b'0'..=b'9' => {
            let plain = match text.contains('_') {
                true => Cow::Owned(text.replace('_', "")),
                false => Cow::Borrowed(text),
            };
            integer(&plain).or_else(|| decimal(&plain)).or_else(|| binary(&plain))
        }
        _ => None,
    }
}

/// As `strconv.ParseInt` of base 0 and then `ParseUint`: `0x`, `0o`, `0b`, and a 0 before octal digits.
fn integer(text: &str) -> Option<Resolved<'static>> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' => (Some(1i128), text.get(1..)?),
        b'-' => (Some(-1), text.get(1..)?),
        _ => (None, text),
    };
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (digits.get(2..)?, 16),
        [b'0', b'o' | b'O', ..] => (digits.get(2..)?, 8),
        [b'0', b'b' | b'B', ..] => (digits.get(2..)?, 2),
        [b'0', _, ..] => (digits.get(1..)?, 8),
        _ => (digits, 10),
    };
    // A second sign would be taken by the parser below.
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()? * sign.unwrap_or(1);
    match i64::try_from(value) {
        Ok(int) => Some(Resolved::Int(int)),
        Err(_) if sign.is_none() => u64::try_from(value).ok().map(Resolved::Unsigned),
        Err(_) => None,
    }
}

/// Digits with a point or an exponent, or more of them than an integer has; nothing that a double cannot hold.
fn decimal(text: &str) -> Option<Resolved<'static>> {
    let is_decimal =
        text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    let value: f64 = text.parse().ok().filter(|_| is_decimal)?;
    value.is_finite().then_some(Resolved::Float(value))
}

/// `0b` with a sign behind it, which Go reads as well.
fn binary(text: &str) -> Option<Resolved<'static>> {
    let value = match text.strip_prefix("-0b") {
        Some(digits) if digits.starts_with(['+', '-']) => return None,
        Some(digits) => i64::from_str_radix(&format!("-{digits}"), 2),
        None => i64::from_str_radix(text.strip_prefix("0b")?, 2),
    };
    value.ok().map(Resolved::Int)
}

/// A float as Go's `encoding/json` writes it.
pub(super) fn float(value: f64) -> Result<String, Refused> {
    let no = |name: &str| Err(Refused::No(format!("json: unsupported value: {name}")));
    if value.is_nan() {
        return no("NaN");
    }
    if value.is_infinite() {
        return no(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
    let abs = value.abs();
    if abs != 0.0 && !(1e-6..1e21).contains(&abs) {
        let text = format!("{value:e}");
        return Ok(match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
            _ => text,
        });
    }
    Ok(value.to_string())
}
