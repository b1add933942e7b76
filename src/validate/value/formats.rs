//! Formats of strings that the API server knows (`k8s.io/kube-openapi pkg/validation/strfmt`); of all others it takes no notice.

use regex::Regex;
use std::{
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr as _,
    sync::LazyLock,
};

/// Whether a text is of a format. None: it is no format, or it cannot be said with certainty.
pub(super) fn holds(format: &str, text: &str) -> Option<bool> {
    // Dashes in the name do not count.
    let name: String = format.chars().filter(|c| *c != '-').collect();
    let is = |pattern: &Regex| Some(pattern.is_match(text));
    match name.as_str() {
        "bsonobjectid" => Some(text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit())),
        "uri" => uri(text),
        "email" => email(text),
        "hostname" => Some(hostname(text)),
        "ipv4" => ipv4(text),
        "ipv6" => Some(text.contains(':') && Ipv6Addr::from_str(text).is_ok()),
        "cidr" => cidr(text),
        "mac" => Some(mac(text)),
        "uuid" => is(&UUID),
        "uuid3" => is(&UUID3),
        "uuid4" => is(&UUID4),
        "uuid5" => is(&UUID5),
        "isbn" => Some(isbn10(text) || isbn13(text)),
        "isbn10" => Some(isbn10(text)),
        "isbn13" => Some(isbn13(text)),
        "creditcard" => Some(credit_card(text)),
        "ssn" => Some(text.len() == 11 && SSN.is_match(text)),
        "hexcolor" => is(&HEX_COLOR),
        "rgbcolor" => is(&RGB_COLOR),
        "byte" => is(&BASE64),
        "password" => Some(true),
        "date" => Some(date(text)),
        "duration" => Some(duration(text)),
        "datetime" => Some(date_time(text)),
        _ => None,
    }
}

/// Whether it is a format of strings that the API server checks, in every version of it.
pub(super) fn is_known(format: &str) -> bool {
    const NAMES: [&str; 24] = [
        "bsonobjectid",
        "uri",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "cidr",
        "mac",
        "uuid",
        "uuid3",
        "uuid4",
        "uuid5",
        "isbn",
        "isbn10",
        "isbn13",
        "creditcard",
        "ssn",
        "hexcolor",
        "rgbcolor",
        "byte",
        "password",
        "date",
        "duration",
        "datetime",
    ];
    let name = |name: &&str| name.bytes().eq(format.bytes().filter(|b| *b != b'-'));
    NAMES.iter().any(name)
}

macro_rules! patterns {
    ($($name:ident = $pattern:expr;)*) => {
        $(static $name: LazyLock<Regex> = LazyLock::new(|| {
            // The patterns are constants, and the tests use each of them.
            #[allow(clippy::expect_used)]
            Regex::new($pattern).expect("a constant")
        });)*
    };
}

patterns! {
    UUID = "^(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$";
    UUID3 = "^(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$";
    UUID4 = "^(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$";
    UUID5 = "^(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$";
    SSN = "^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$";
    HEX_COLOR = "^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$";
    RGB_COLOR = r"^rgb\([\t\n\f\r ]*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])[\t\n\f\r ]*,[\t\n\f\r ]*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])[\t\n\f\r ]*,[\t\n\f\r ]*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])[\t\n\f\r ]*\)$";
    BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$";
    CREDIT_CARD = "^(4[0-9]{12}([0-9]{3})?|5[1-5][0-9]{14}|6(011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(0[0-5]|[68][0-9])[0-9]{11}|(2131|1800|35[0-9]{3})[0-9]{11})$";
    HOSTNAME = r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.))+([a-zA-Z\p{L}]){2,63})$";
    DURATION = r"([0-9]+)[\t\n\f\r ]*([A-Za-zµ]+)";
}

/// As `net/url` parses the target of a request.
fn uri(text: &str) -> Option<bool> {
    if text.is_empty() || text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Some(false);
    }
    if text == "*" {
        return Some(true);
    }
    let Some((scheme, rest)) = scheme(text) else { return Some(false) };
    let rest = rest.split('?').next().unwrap_or_default();
    if !rest.starts_with('/') {
        return Some(!scheme.is_empty());
    }
    let path = match rest.strip_prefix("//").filter(|_| !scheme.is_empty()) {
        None => rest,
        Some(rest) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            // What Go makes of user names and of addresses in brackets has changed from version to version.
            if authority.contains(['@', '[', ']', '%']) {
                return None;
            }
            let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
            let in_host =
                |b: u8| b >= 0x80 || b.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:<>\"".contains(&b);
            if !host.bytes().all(in_host) || !port.bytes().all(|b| b.is_ascii_digit()) {
                return Some(false);
            }
            if host.contains(':') {
                return None;
            }
            path
        }
    };
    Some(escapes_are_whole(path))
}

/// The scheme and what follows; None: it begins with a colon.
fn scheme(text: &str) -> Option<(&str, &str)> {
    for (i, b) in text.bytes().enumerate() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if i > 0 => {}
            b':' if i == 0 => return None,
            b':' => return Some((text.get(..i)?, text.get(i + 1..)?)),
            _ => break,
        }
    }
    Some(("", text))
}

fn escapes_are_whole(text: &str) -> bool {
    let hex = |b: Option<&u8>| b.is_some_and(u8::is_ascii_hexdigit);
    let bytes = text.as_bytes();
    let mut at = bytes.iter().enumerate().filter(|(_, b)| **b == b'%');
    at.all(|(i, _)| hex(bytes.get(i + 1)) && hex(bytes.get(i + 2)))
}

/// What is certainly an address, or certainly none; RFC 5322 has room for much in between.
fn email(text: &str) -> Option<bool> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.@".contains(&b);
    if !text.contains('@') {
        return Some(false);
    }
    if !text.bytes().all(plain) {
        return None;
    }
    let atoms = |text: &str| text.split('.').all(|atom| !atom.is_empty());
    let (local, domain) = text.rsplit_once('@')?;
    Some(!local.contains('@') && atoms(local) && atoms(domain))
}

fn hostname(text: &str) -> bool {
    text.len() <= 255 && text.split('.').all(|label| label.len() <= 63) && HOSTNAME.is_match(text)
}

/// Leading zeros are fine, as they were in Go once.
fn sloppy_ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = text.split('.').map(|part| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<u32>().ok().filter(|_| digits).and_then(|n| u8::try_from(n).ok())
    });
    let address = Ipv4Addr::new(octets.next()??, octets.next()??, octets.next()??, octets.next()??);
    octets.next().is_none().then_some(address)
}

fn ipv4(text: &str) -> Option<bool> {
    if text.contains(':') && text.contains('.') {
        // Within IPv6 the zeros are a matter of Go's version.
        return Ipv6Addr::from_str(text).is_ok().then_some(true);
    }
    Some(sloppy_ipv4(text).is_some())
}

fn cidr(text: &str) -> Option<bool> {
    let Some((address, bits)) = text.split_once('/') else { return Some(false) };
    let most = match (sloppy_ipv4(address), Ipv6Addr::from_str(address)) {
        (Some(_), _) => 32,
        (_, Ok(_)) => 128,
        _ if address.contains(':') && address.contains('.') => return None,
        _ => return Some(false),
    };
    let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    Some(digits && bits.parse::<u32>().is_ok_and(|bits| bits <= most))
}

fn mac(text: &str) -> bool {
    // Newer versions of Go take it without separators.
    let bare = matches!(text.len(), 12 | 16 | 40) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let groups = |separator: char, len: usize, counts: [usize; 3]| {
        let groups: Vec<&str> = text.split(separator).collect();
        let hex = |group: &&str| group.len() == len && group.bytes().all(|b| b.is_ascii_hexdigit());
        counts.contains(&groups.len()) && groups.iter().all(hex)
    };
    groups(':', 2, [6, 8, 20]) || bare || groups('-', 2, [6, 8, 20]) || groups('.', 4, [3, 4, 10])
}

fn compact(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '\t' | '\n' | '\x0c' | '\r' | ' ' | '-')).collect()
}

fn isbn10(text: &str) -> bool {
    let text = compact(text);
    let digit = |(i, b): (usize, u8)| match b {
        b'0'..=b'9' => Some((i as u32 + 1) * u32::from(b - b'0')),
        b'X' if i == 9 => Some(100),
        _ => None,
    };
    let sum = text.bytes().enumerate().map(digit).sum::<Option<u32>>();
    text.len() == 10 && sum.is_some_and(|sum| sum.is_multiple_of(11))
}

fn isbn13(text: &str) -> bool {
    let text = compact(text);
    let digit = |(i, b): (usize, u8)| {
        let weight = if i % 2 == 0 { 1 } else { 3 };
        b.is_ascii_digit().then(|| weight * u32::from(b - b'0'))
    };
    let sum = text.bytes().enumerate().map(digit).sum::<Option<u32>>();
    text.len() == 13 && sum.is_some_and(|sum| sum.is_multiple_of(10))
}

fn credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let luhn = |(i, b): (usize, u8)| match u32::from(b - b'0') * (1 + i as u32 % 2) {
        two @ 10.. => two - 9,
        one => one,
    };
    let sum: u32 = digits.bytes().rev().enumerate().map(luhn).sum();
    CREDIT_CARD.is_match(&digits) && sum.is_multiple_of(10)
}

/// `2006-01-02`
fn date(text: &str) -> bool {
    let number = |from: usize, to: usize| {
        let part = text.get(from..to)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<u32>().ok())?
    };
    let dashes = text.len() == 10 && text.get(4..5) == Some("-") && text.get(7..8) == Some("-");
    let (Some(year), Some(month), Some(day), true) = (number(0, 4), number(5, 7), number(8, 10), dashes)
    else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    };
    (1..=days).contains(&day)
}

fn date_time(text: &str) -> bool {
    let text = text.to_lowercase();
    let mut parts = text.split('t');
    let (Some(day), Some(time)) = (parts.next(), parts.next()) else { return false };
    date(day) && clock(time).is_some()
}

/// `15:04:05.000z`; what stands for the point may be any character.
fn clock(text: &str) -> Option<()> {
    let two = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    let (head, rest) = text.split_at_checked(8)?;
    let mut parts = head.split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    let right = two(hour) && two(minute) && two(second) && hour <= "23" && minute <= "59" && second <= "59";
    let zone = |text: &str| {
        let offset = text.strip_prefix(['+', '-']).and_then(|rest| rest.split_once(':'));
        text == "z" || offset.is_some_and(|(hours, minutes)| two(hours) && two(minutes))
    };
    let fraction = || {
        let mut chars = rest.chars();
        let newline = chars.next() == Some('\n');
        let digits = chars.as_str();
        let after = digits.trim_start_matches(|c: char| c.is_ascii_digit());
        !newline && after.len() < digits.len() && zone(after)
    };
    (right && parts.next().is_none() && (zone(rest) || fraction())).then_some(())
}

/// What Go takes for a duration, or Scala: `22 ns`, `1 week`.
fn duration(text: &str) -> bool {
    if go_duration(text) {
        return true;
    }
    let mut found = false;
    for found_at in DURATION.captures_iter(text) {
        let part = |i| found_at.get(i).map_or("", |part| part.as_str());
        if part(1).parse::<i64>().is_err() {
            return false;
        }
        let unit = part(2).to_lowercase();
        const NAMES: [&str; 8] = ["nano", "micro", "milli", "sec", "min", "hour", "day", "week"];
        const SHORT: [&str; 11] = ["ns", "us", "µs", "ms", "s", "m", "h", "hr", "d", "w", "wk"];
        found |= SHORT.contains(&unit.as_str()) || NAMES.iter().any(|name| unit.starts_with(name));
    }
    found
}

fn go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut nanoseconds = 0f64;
    while !rest.is_empty() {
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let whole = digits(rest);
        let (number, after) = rest.split_at(whole);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => (digits(after), after.get(digits(after)..).unwrap_or_default()),
            None => (0, after),
        };
        let unit = after.len() - after.trim_start_matches(|c: char| c != '.' && !c.is_ascii_digit()).len();
        let (unit, after) = after.split_at(unit);
        let size = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 6e10,
            "h" => 3.6e12,
            _ => return false,
        };
        if whole + fraction == 0 {
            return false;
        }
        nanoseconds += number.parse::<f64>().unwrap_or_default() * size;
        rest = after;
    }
    !text.trim_start_matches(['-', '+']).is_empty() && nanoseconds <= i64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [&str; 24] = [
        "bsonobjectid",
        "uri",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "cidr",
        "mac",
        "uuid",
        "uuid3",
        "uuid4",
        "uuid5",
        "isbn",
        "isbn10",
        "isbn13",
        "creditcard",
        "ssn",
        "hexcolor",
        "rgbcolor",
        "byte",
        "password",
        "date",
        "duration",
        "date-time",
    ];

    #[test]
    fn what_is_not_known_holds() {
        for format in ["", "int32", "k8s-short-name", "quantity", "UUID"] {
            assert_eq!(holds(format, "x"), None, "{format}");
        }
        assert_eq!(holds("d-a-t-e", "2020-02-30"), Some(false));
        assert_eq!(holds("email", "Foo <a@b.c>"), None);
        assert_eq!(holds("uri", "http://[::1]/"), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,40}", close in "[-0-9a-fT:.Z+/%@ shmµ]{0,40}") {
            for format in ALL {
                holds(format, &text);
                holds(format, &close);
            }
        }
    }
}
