//! Strings: patterns, and what could grow too long.

use super::super::{
    regex,
    runtime::{
        Args, Outcome, as_int, as_list, as_text, exactly, failed, made_bool, made_int, made_text, made_texts,
        no_overload,
    },
};
use cel::{
    DeclarationError, Env,
    common::types::{DYN_TYPE, INT_TYPE, STRING_TYPE},
};

pub(super) fn extend(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload("@matches", "@matches", vec![STRING_TYPE, STRING_TYPE], matches)?;
    env.add_member_overload("find", "find", STRING_TYPE, vec![STRING_TYPE], find)?;
    env.add_member_overload("findAll", "find_all", STRING_TYPE, vec![STRING_TYPE], find_all)?;
    env.add_member_overload("findAll", "find_some", STRING_TYPE, vec![STRING_TYPE, INT_TYPE], find_all)?;
    env.add_overload("@replace", "@replace", vec![STRING_TYPE, STRING_TYPE, STRING_TYPE], replace)?;
    env.add_overload(
        "@replace",
        "@replace_some",
        vec![STRING_TYPE, STRING_TYPE, STRING_TYPE, INT_TYPE],
        replace,
    )?;
    env.add_overload("@indexOf", "@index_of", vec![STRING_TYPE, STRING_TYPE, INT_TYPE], index_of)?;
    env.add_overload(
        "@lastIndexOf",
        "@last_index_of",
        vec![STRING_TYPE, STRING_TYPE, INT_TYPE],
        last_index_of,
    )?;
    env.add_overload("@join", "@join", vec![DYN_TYPE], join)?;
    env.add_overload("@join", "@join_with", vec![DYN_TYPE, STRING_TYPE], join)
}

/// A number as Go writes it (`%g`), which is what `string()` gives.
pub(in super::super) fn shown(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    match scientific
        .split_once('e')
        .and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?)))
    {
        Some((digits, exponent)) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => number.to_string(),
    }
}

/// `2026-01-02T03:04:05.678Z` and the like, no leap second.
pub(in super::super) fn is_time(text: &str) -> bool {
    let zone = |zone: &[u8]| match zone {
        b"Z" => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => [h1, h2, m1, m2].into_iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let Some((plain, rest)) = text.as_bytes().split_at_checked("2026-01-02T03:04:05".len()) else {
        return false;
    };
    let fits = |(byte, shape): (&u8, u8)| if shape == b'0' { byte.is_ascii_digit() } else { *byte == shape };
    let is_plain =
        plain.iter().zip(*b"0000-00-00T00:00:00").all(fits) && text.get(17..19).is_some_and(|s| s <= "59");
    let fraction = match rest {
        [b'.', digits @ ..] => digits.iter().take_while(|byte| byte.is_ascii_digit()).count() + 1,
        _ => 0,
    };
    is_plain && fraction != 1 && zone(rest.get(fraction..).unwrap_or_default())
}

fn matches<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [text, pattern] = exactly("matches", args)?;
    match (as_text(text.as_ref()), as_text(pattern.as_ref())) {
        (Some(text), Some(pattern)) => made_bool(read("matches", pattern)?.is_match(text)),
        _ => Err(no_overload("matches", &[text, pattern])),
    }
}

fn read(function: &str, pattern: &str) -> Result<::regex::Regex, cel::ExecutionError> {
    regex::compile(pattern).map_err(|why| failed(function, &why))
}

fn find<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [text, pattern] = exactly("find", args)?;
    match (as_text(text.as_ref()), as_text(pattern.as_ref())) {
        (Some(text), Some(pattern)) => {
            let found = read("find", pattern)?.find(text).map(|found| found.as_str().to_owned());
            made_text("find", found.unwrap_or_default())
        }
        _ => Err(no_overload("find", &[text, pattern])),
    }
}

fn find_all<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let limit = args.get(2).and_then(|limit| as_int(limit.as_ref()));
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    match (
        args.first().and_then(|text| as_text(text.as_ref())),
        args.get(1).and_then(|p| as_text(p.as_ref())),
    ) {
        (Some(text), Some(pattern)) => made_texts(
            read("findAll", pattern)?.find_iter(text).take(limit).map(|found| found.as_str().to_owned()),
        ),
        _ => Err(no_overload("findAll", &args)),
    }
}

/// From a place on, in characters; after the end there is nothing.
fn index_of<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let (text, part, from) = placed("indexOf", &args)?;
    if from > text.len() || (from == text.len() && !part.is_empty()) {
        return made_int(if part.is_empty() { len(text.len()) } else { -1 });
    }
    let found = (from..=text.len()).find(|at| text.get(*at..).is_some_and(|rest| rest.starts_with(&part)));
    made_int(found.map_or(-1, len))
}

fn last_index_of<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let (text, part, from) = placed("lastIndexOf", &args)?;
    if from >= text.len() {
        return made_int(if part.is_empty() { len(text.len()) } else { -1 });
    }
    let found = (0..=from).rev().find(|at| text.get(*at..).is_some_and(|rest| rest.starts_with(&part)));
    made_int(found.map_or(-1, len))
}

fn len(place: usize) -> i64 {
    i64::try_from(place).unwrap_or(i64::MAX)
}

/// The characters of the text and of the part looked for, and the place to begin at.
fn placed(function: &str, args: &Args<'_, '_>) -> Result<(Vec<char>, Vec<char>, usize), cel::ExecutionError> {
    let given: Vec<&str> = args.iter().take(2).filter_map(|arg| as_text(arg.as_ref())).collect();
    let ([text, part], Some(from)) = (&given[..], args.get(2).and_then(|from| as_int(from.as_ref()))) else {
        return Err(no_overload(function, args));
    };
    let from = usize::try_from(from).map_err(|_| failed(function, "the index is negative"))?;
    Ok((text.chars().collect(), part.chars().collect(), from))
}

/// All of them, or the first few; a negative number means all.
fn replace<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let given: Vec<&str> = args.iter().take(3).filter_map(|arg| as_text(arg.as_ref())).collect();
    let [text, from, to] = given[..] else { return Err(no_overload("replace", &args)) };
    let limit = args.get(3).and_then(|limit| as_int(limit.as_ref()));
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let times = text.matches(from).take(limit).count();
    if times.saturating_mul(to.len()).saturating_add(text.len()) > super::super::runtime::LONGEST_TEXT {
        return Err(failed("replace", "the text is too long"));
    }
    made_text("replace", text.replacen(from, to, limit))
}

fn join<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let separator = args.get(1).and_then(|text| as_text(text.as_ref())).unwrap_or_default();
    let Some(list) = args.first().and_then(|list| as_list(list.as_ref())) else {
        return Err(no_overload("join", &args));
    };
    let mut joined = String::new();
    for (place, item) in list.iter().enumerate() {
        let Some(text) = as_text(item.as_ref()) else { return Err(no_overload("join", &args)) };
        if place > 0 {
            joined.push_str(separator);
        }
        joined.push_str(text);
        if joined.len() > super::super::runtime::LONGEST_TEXT {
            return Err(failed("join", "the text is too long"));
        }
    }
    made_text("join", joined)
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        for (number, text) in [
            (1.0, "1"),
            (-2.5, "-2.5"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123_456.0, "123456"),
            (1e6, "1e+06"),
            (1_753_000_001.5, "1.7530000015e+09"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(shown(number), text);
        }
    }
}
