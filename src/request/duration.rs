//! Go's duration grammar, `[-+]?([0-9]*(\.[0-9]*)?unit)+`, for `?timeout=`; its error texts reach callers.

use std::time::Duration;

/// The most nanoseconds that a duration holds, plus one: the magnitude that only a negative one may have.
const LIMIT: u64 = 1 << 63;

/// None: zero or negative. Err: the text that Go's `time.ParseDuration` gives.
pub(super) fn parse(text: &str) -> Result<Option<Duration>, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(None);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = split_digits(rest);
        let (fraction, after_number) = match after.strip_prefix('.') {
            Some(tail) => split_digits(tail),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let count = whole_number(whole).ok_or_else(invalid)?;
        let end = after_number.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after_number.len());
        let (name, tail) = after_number.split_at(end);
        if name.is_empty() {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let Some(unit) = unit_nanos(name) else {
            return Err(format!("time: unknown unit {} in duration {}", quote(name), quote(text)));
        };
        let part = count
            .checked_mul(unit)
            .and_then(|n| n.checked_add(fraction_nanos(fraction, unit)))
            .filter(|n| *n <= LIMIT);
        total = part.and_then(|n| total.checked_add(n)).filter(|n| *n <= LIMIT).ok_or_else(invalid)?;
        rest = tail;
    }
    if negative {
        return Ok(None);
    }
    if total == LIMIT {
        return Err(invalid());
    }
    Ok((total > 0).then(|| Duration::from_nanos(total)))
}

fn split_digits(s: &str) -> (&str, &str) {
    s.split_at(s.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(s.len()))
}

fn whole_number(digits: &str) -> Option<u64> {
    if digits.is_empty() { Some(0) } else { digits.parse().ok().filter(|n| *n <= LIMIT) }
}

/// `.digits` of a unit. In floating point, as the original: digits beyond what a u64 holds do not count.
fn fraction_nanos(digits: &str, unit: u64) -> u64 {
    let (mut value, mut scale) = (0u64, 1f64);
    for digit in digits.bytes() {
        let next = value.checked_mul(10).and_then(|v| v.checked_add(u64::from(digit - b'0')));
        let Some(next) = next.filter(|n| *n <= LIMIT) else { break };
        value = next;
        scale *= 10.0;
    }
    (value as f64 * (unit as f64 / scale)) as u64
}

fn unit_nanos(name: &str) -> Option<u64> {
    Some(match name {
        "ns" => 1,
        // The micro sign and the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Go's `time` package has a quoting of its own: everything outside printable ASCII byte by byte.
fn quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for b in s.bytes() {
        match b {
            b'"' | b'\\' => out.extend(['\\', char::from(b)]),
            0x20..=0x7f => out.push(char::from(b)),
            _ => out.push_str(&format!("\\x{b:02x}")),
        }
    }
    out.push('"');
    out
}
