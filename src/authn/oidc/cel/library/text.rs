//! Strings: patterns, and what could grow too long.

use super::super::{
    regex,
    runtime::{
        Args, Outcome, as_int, as_list, as_text, exactly, failed, made_bool, made_text, made_texts,
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
