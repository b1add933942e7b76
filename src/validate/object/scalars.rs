//! Strings and numbers that Go types read by themselves: quantities, times, durations, base64. What is wrong is told in their words.

use std::ops::RangeInclusive;

/// `resource.Quantity`: the text between the quotes, as it is written, or a number's.
pub(super) fn quantity(raw: &str) -> Result<(), &'static str> {
    const FORMAT: &str =
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    let text = raw.trim();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    if text.is_empty() {
        return Err(FORMAT);
    }
    // No digit at all is 0.
    let rest = unsigned.get(digits(unsigned)..).unwrap_or_default();
    let rest = rest.strip_prefix('.').map_or(rest, |rest| rest.get(digits(rest)..).unwrap_or_default());
    let letters = rest.bytes().take_while(|b| b"eEinumkKMGTP".contains(b)).count();
    let (_, after) = rest.split_at_checked(letters).unwrap_or_default();
    let power = after.strip_prefix(['+', '-']).unwrap_or(after);
    if power.len() != digits(power) {
        return Err(FORMAT);
    }
    let is_exponent = matches!(rest.get(..1), Some("e" | "E")) && letters == 1 && !power.is_empty();
    let known = matches!(
        rest,
        "" | "n" | "u" | "m" | "k" | "M" | "G" | "T" | "P" | "E" | "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei"
    );
    match () {
        () if known => Ok(()),
        () if is_exponent => match rest.get(1..).unwrap_or_default().parse::<i64>() {
            Ok(_) => Ok(()),
            Err(_) => Err("unable to parse quantity's suffix"),
        },
        () => Err("unable to parse quantity's suffix"),
    }
}

/// `metav1.Time`, or `metav1.MicroTime`, which has exactly six decimals.
pub(super) fn time(text: &str, micro: bool) -> Result<(), String> {
    let layout = if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
    let wrong = |rest: &str, element: &str| {
        format!(
            "parsing time {} as {} cannot parse {} as {}",
            quoted(text),
            quoted(layout) + ":",
            quoted(rest),
            quoted(element)
        )
    };
    let range = |what: &str| format!("parsing time {}: {what} out of range", quoted(text));
    let mut rest = text;
    let mut take = |element: &'static str, digits: &[usize]| {
        let found = digits.iter().find_map(|n| {
            let head = rest.get(..*n)?;
            head.bytes().all(|b| b.is_ascii_digit()).then_some(head)
        });
        let found = found.ok_or_else(|| wrong(rest, element))?;
        rest = rest.get(found.len()..).unwrap_or_default();
        let between = match element {
            "2006" | "01" => "-",
            "02" => "T",
            "15" | "04" => ":",
            _ => "",
        };
        rest = rest.strip_prefix(between).ok_or_else(|| wrong(rest, between))?;
        found.parse::<u32>().map_err(|_| wrong(rest, element))
    };
    let year = take("2006", &[4])?;
    let month = take("01", &[2])?;
    within(month, 1..=12).ok_or_else(|| range("month"))?;
    let day = take("02", &[2])?;
    let hour = take("15", &[2, 1])?;
    within(hour, 0..=23).ok_or_else(|| range("hour"))?;
    let minute = take("04", &[2])?;
    within(minute, 0..=59).ok_or_else(|| range("minute"))?;
    let second = take("05", &[2])?;
    within(second, 0..=59).ok_or_else(|| range("second"))?;
    let decimals = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    match rest.strip_prefix(['.', ',']) {
        Some(after) if micro => {
            let after =
                after.get(..6).filter(|six| decimals(six) == 6).map(|_| after.get(6..).unwrap_or_default());
            rest = after.ok_or_else(|| wrong(rest, ".000000"))?;
        }
        None if micro => return Err(wrong(rest, ".000000")),
        Some(after) if decimals(after) > 0 => rest = after.get(decimals(after)..).unwrap_or_default(),
        _ => {}
    }
    if let Some(after) = rest.strip_prefix('Z') {
        rest = after;
    } else {
        let bytes = rest.as_bytes();
        let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
        let zone = matches!(bytes.first(), Some(b'+' | b'-')) && bytes.get(3) == Some(&b':');
        if !zone || ![1, 2, 4, 5].into_iter().all(digit) {
            return Err(wrong(rest, "Z07:00"));
        }
        // Only what every release of Go takes is taken for granted; what only some refuse is left to the upstream.
        rest = rest.get(6..).unwrap_or_default();
    }
    if !rest.is_empty() {
        return Err(format!("parsing time {}: extra text: {}", quoted(text), quoted(rest)));
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        _ => 31,
    };
    within(day, 1..=days).ok_or_else(|| range("day"))
}

fn within(value: u32, range: RangeInclusive<u32>) -> Option<()> {
    range.contains(&value).then_some(())
}

/// Go's `time.ParseDuration`, which `metav1.Duration` reads with.
pub(super) fn duration(text: &str) -> Result<(), String> {
    let invalid = || format!("time: invalid duration {}", quoted(text));
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Ok(());
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let number = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (digits, after) = rest.split_at_checked(number).unwrap_or_default();
        if digits.bytes().filter(|b| *b == b'.').count() > 1 || !digits.bytes().any(|b| b.is_ascii_digit()) {
            return Err(invalid());
        }
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit).unwrap_or_default();
        match unit {
            "" => return Err(format!("time: missing unit in duration {}", quoted(text))),
            "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h" => rest = after,
            unit => return Err(format!("time: unknown unit {} in duration {}", quoted(unit), quoted(text))),
        }
    }
    Ok(())
}

/// The text of a `[]byte`: base64 with padding, whose lines may be broken.
pub(super) fn base64(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    let padding = bytes.iter().rev().take(2).take_while(|b| **b == b'=').count();
    let (body, _) = bytes.split_at_checked(bytes.len() - padding).unwrap_or_default();
    if bytes.len().is_multiple_of(4) && body.iter().all(|b| DIGITS[usize::from(*b)]) {
        return Ok(());
    }
    base64_with_breaks(bytes).map_err(|at| format!("illegal base64 data at input byte {at}"))
}

/// Which bytes are digits of base64.
const DIGITS: [bool; 256] = {
    let mut digits = [false; 256];
    let mut at = 0;
    while at < 256 {
        digits[at] = (at as u8).is_ascii_alphanumeric() || at == b'+' as usize || at == b'/' as usize;
        at += 1;
    }
    digits
};

/// The same where it may have line breaks; else the byte that Go finds wrong.
fn base64_with_breaks(bytes: &[u8]) -> Result<(), usize> {
    let mut rest = bytes.iter().enumerate().filter(|(_, b)| !matches!(b, b'\n' | b'\r')).peekable();
    while rest.peek().is_some() {
        for place in 0..4 {
            match rest.next() {
                None if place == 0 => return Ok(()),
                // Where a group of four ends early, Go names its first byte, counted back over breaks as well.
                None => return Err(bytes.len() - place),
                Some((_, b)) if DIGITS[usize::from(*b)] => {}
                Some((_, b'=')) if place >= 2 => {
                    if place == 2 {
                        match rest.next() {
                            None => return Err(bytes.len()),
                            Some((_, b'=')) => {}
                            Some((at, _)) => return Err(at - 1),
                        }
                    }
                    return match rest.next() {
                        None => Ok(()),
                        Some((after, _)) => Err(after),
                    };
                }
                Some((at, _)) => return Err(at),
            }
        }
    }
    Ok(())
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    crate::status::push_go_quoted(&mut out, text);
    out
}
