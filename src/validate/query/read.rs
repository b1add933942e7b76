//! Values out of a query, as Go's decoder reads them.

use super::Bad;
use crate::{request::query, status::push_go_quoted};
use std::{borrow::Cow, fmt::Write};

/// The first values of parameters, in one pass: later ones count for nothing.
pub(super) fn firsts<'q, const N: usize>(query: &'q str, names: [&str; N]) -> [Option<Cow<'q, str>>; N] {
    let mut values = [const { None }; N];
    for (key, value) in query::pairs(query) {
        if let Some(at) = names.iter().position(|name| *name == key)
            && let Some(place @ None) = values.get_mut(at)
        {
            *place = Some(value);
        }
    }
    values
}

/// Every value of a parameter.
pub(super) fn all<'q>(query: &'q str, name: &str) -> impl Iterator<Item = Cow<'q, str>> {
    query::pairs(query).filter(move |(key, _)| key == name).map(|(_, value)| value)
}

/// False is `0` and `false` in any case, under Unicode's folding (the long s is an s); anything else is true, the empty value too.
pub(in crate::validate) fn truth(value: &str) -> bool {
    value != "0" && !value.replace('\u{17f}', "s").eq_ignore_ascii_case("false")
}

/// An optional 64-bit number.
pub(super) fn int64(value: Option<&str>) -> Result<Option<i64>, Bad> {
    let Some(value) = value else { return Ok(None) };
    let wrong = |why| Bad::parse(number_error("ParseInt", value, why));
    let (negative, digits) = match value.strip_prefix(['-', '+']) {
        Some(digits) => (value.starts_with('-'), digits),
        None => (false, value),
    };
    let magnitude = magnitude(digits).map_err(wrong)?;
    match (negative, i64::try_from(magnitude)) {
        (false, Ok(number)) => Ok(Some(number)),
        (true, Ok(number)) => Ok(Some(-number)),
        (true, Err(_)) if magnitude == i64::MIN.unsigned_abs() => Ok(Some(i64::MIN)),
        _ => Err(wrong(OUT_OF_RANGE)),
    }
}

/// What is wrong with an unsigned number of at most `most`, in Go's words.
pub(super) fn unsigned(value: &str, most: u64) -> Result<u64, String> {
    match magnitude(value) {
        Ok(number) if number <= most => Ok(number),
        Ok(_) => Err(number_error("ParseUint", value, OUT_OF_RANGE)),
        Err(why) => Err(number_error("ParseUint", value, why)),
    }
}

const OUT_OF_RANGE: &str = "value out of range";

/// Digit by digit, so that of two faults it is the one that Go names.
fn magnitude(digits: &str) -> Result<u64, &'static str> {
    if digits.is_empty() {
        return Err("invalid syntax");
    }
    digits.bytes().try_fold(0u64, |number, digit| match digit {
        b'0'..=b'9' => number
            .checked_mul(10)
            .and_then(|number| number.checked_add(u64::from(digit - b'0')))
            .ok_or(OUT_OF_RANGE),
        _ => Err("invalid syntax"),
    })
}

fn number_error(function: &str, value: &str, why: &str) -> String {
    let mut text = format!("strconv.{function}: parsing ");
    push_go_quoted(&mut text, value);
    // Writing to a String does not fail.
    let _ = write!(text, ": {why}");
    text
}
