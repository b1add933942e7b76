//! Durations and sizes as people write them, always with a unit.

use std::time::Duration;

/// `10s`, `1m30s`, `500ms`, `7d`: whole numbers, each with a unit, larger units first or not.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    for (number, unit) in pairs(text)? {
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
    }
    Some(total)
}

/// `3Mi`, `512Ki`, `1Gi`, `10M`, `4096B`, with or without a `B` at the end; in bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    let [(number, unit)] = pairs(text)?[..] else { return None };
    let bytes: u64 = match unit.strip_suffix('B').unwrap_or(unit) {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(bytes)
}

/// Numbers and the units behind them; None when one is missing.
fn pairs(text: &str) -> Option<Vec<(u64, &str)>> {
    let mut pairs = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        pairs.push((number.parse().ok()?, unit));
        rest = after;
    }
    (!pairs.is_empty()).then_some(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_carry_units() {
        let ms = |n| Some(Duration::from_millis(n));
        for (text, want) in [
            ("10s", ms(10_000)),
            ("1m30s", ms(90_000)),
            ("500ms", ms(500)),
            ("0s", ms(0)),
            ("1h", ms(3_600_000)),
            ("7d", ms(604_800_000)),
            ("1d12h", ms(129_600_000)),
            ("", None),
            ("10", None),
            ("s", None),
            ("10 s", None),
            ("-1s", None),
            ("1.5s", None),
            ("10sec", None),
            ("1m30", None),
            ("ms10", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
        ] {
            assert_eq!(duration(text), want, "{text:?}");
        }
    }

    #[test]
    fn sizes_carry_units() {
        for (text, want) in [
            ("3Mi", Some(3 << 20)),
            ("3MiB", Some(3 << 20)),
            ("512Ki", Some(512 << 10)),
            ("1Gi", Some(1 << 30)),
            ("2Ti", Some(2 << 40)),
            ("10M", Some(10_000_000)),
            ("10MB", Some(10_000_000)),
            ("5k", Some(5_000)),
            ("4096B", Some(4096)),
            ("0B", Some(0)),
            ("", None),
            ("4096", None),
            ("Mi", None),
            ("1mi", None),
            ("1K", None),
            ("1.5Mi", None),
            ("1Mi1Ki", None),
            ("-1Mi", None),
            ("99999999Ti", None),
        ] {
            assert_eq!(size(text), want, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,12}|[0-9smhdKMGTiB]{0,12}") {
            let _ = (duration(&text), size(&text));
        }
    }
}
