//! `requestURI`: the values of its query's parameters, and credentials by their looks, in the path too.

use super::{
    mark::is_mark,
    place::{Word, is_credential, is_header},
    rule::Builtin,
    shapes,
    walk::Walk,
};
use std::{borrow::Cow, fmt::Write as _};

/// A target with what has to go marked; None when nothing has to.
pub(super) fn redacted(walk: &Walk<'_>, target: &str) -> Option<String> {
    // Most are a path in which nothing stands but names.
    let is_plain = |segment| !shapes::has_any(segment, walk.builtins());
    if !target.contains(['?', '%']) && target.split('/').all(is_plain) {
        return None;
    }
    let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
    let mut out = String::with_capacity(target.len() + 64);
    let mut changed = false;
    for (i, segment) in path.split('/').enumerate() {
        out.push_str(if i == 0 { "" } else { "/" });
        changed |= value(walk, segment, false, &mut out);
    }
    for (i, parameter) in query.into_iter().flat_map(|q| q.split('&')).enumerate() {
        out.push(if i == 0 { '?' } else { '&' });
        let (name, given) = parameter.split_once('=').map_or((parameter, None), |(n, v)| (n, Some(v)));
        let plain = decoded(name);
        let Some(given) = given else {
            // Without a value, the name may be one.
            changed |= match walk.parameter(&plain) {
                Some(rule) if !name.is_empty() && !is_mark(&plain) => {
                    walk.act_added(rule);
                    out.push_str(&walk.key().mark(plain.as_bytes()));
                    true
                }
                _ => value(walk, name, true, &mut out),
            };
            continue;
        };
        changed |= value(walk, name, true, &mut out);
        out.push('=');
        let by_name = || {
            let word = Word::fold(&plain);
            let word = word.as_str();
            walk.on(Builtin::UrlCredentials)
                && (is_credential(word) || is_header(word) || word.ends_with("signature") || word == "sig")
        };
        let plain_value = decoded(given);
        if given.is_empty() || is_mark(&plain_value) {
            out.push_str(given);
            continue;
        }
        match walk.parameter(&plain) {
            Some(rule) => walk.act_added(rule),
            None if by_name() => walk.act(Builtin::UrlCredentials),
            None => {
                changed |= value(walk, given, true, &mut out);
                continue;
            }
        }
        out.push_str(&walk.key().mark(plain_value.as_bytes()));
        changed = true;
    }
    changed.then_some(out)
}

/// Appends a piece as it is, or, when a credential is in it, decoded with a mark for it.
fn value(walk: &Walk<'_>, piece: &str, is_query: bool, out: &mut String) -> bool {
    let plain = if is_query { decoded(piece) } else { unescaped(piece) };
    let Some((new, acted)) = shapes::redacted(&plain, walk.builtins(), walk.key()) else {
        out.push_str(piece);
        return false;
    };
    acted.iter().for_each(|rule| walk.act(rule));
    for byte in new.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b',' | b'=' => {
                out.push(byte.into());
            }
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    true
}

/// A parameter's name or value.
fn decoded(text: &str) -> Cow<'_, str> {
    match text.contains('+') {
        true => unescaped(&text.replace('+', " ")).into_owned().into(),
        false => unescaped(text),
    }
}

/// What is no escape stays as it is.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).filter(|d| *first == b'%' && d.iter().all(u8::is_ascii_hexdigit));
        let byte = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok());
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    Cow::Owned(String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}
