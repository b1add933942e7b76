//! Credentials that can be told by how they look, wherever in a text they stand. One pass; what one look at a run of
//! characters has ruled out is not looked at again.

use super::{
    mark::{Key, PREFIX},
    rule::{Builtin, Builtins},
};
use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use std::ops::Range;

/// Forgives what people's tools leave out or cut off.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// `-----BEGIN` and `eyJ` in base64, when they stand at the beginning.
const PEM_BASE64: &[u8] = b"LS0tLS1CRUdJTi";
const JWT_BASE64: &[u8] = b"ZXlK";
/// gzip in base64, once and twice.
const GZIP_BASE64: [&str; 2] = ["H4sI", "SDRzS"];

/// A credential in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    range: Range<usize>,
    rule: Builtin,
    /// What it is without its base64.
    decoded: Option<Vec<u8>>,
}

/// The text with a mark for each credential in it, and which rules found one; None when there is none.
pub(super) fn redacted(text: &str, on: Builtins, key: &Key) -> Option<(String, Builtins)> {
    let found = find(text, on);
    let mut out = String::new();
    let mut acted = Builtins::NONE;
    let mut done = 0;
    for Found { range, rule, decoded } in &found {
        out.push_str(text.get(done..range.start).unwrap_or_default());
        let value = decoded.as_deref().or(text.as_bytes().get(range.clone())).unwrap_or_default();
        out.push_str(&key.mark(value));
        acted = acted.with(*rule);
        done = range.end;
    }
    out.push_str(text.get(done..).unwrap_or_default());
    (!found.is_empty()).then_some((out, acted))
}

/// Whether there is one.
pub(super) fn has_any(text: &str, on: Builtins) -> bool {
    !find(text, on).is_empty()
}

/// A text that is packed: what is in it cannot be seen here, but by anybody who unpacks it.
pub(super) fn is_packed(text: &str) -> bool {
    text.len() >= 24
        && GZIP_BASE64.iter().any(|magic| text.starts_with(magic))
        && text.bytes().all(|b| is_base64(b) || matches!(b, b'\r' | b'\n'))
}

/// A manifest of a Secret that is no JSON, or not whole: YAML, several documents, a piece of a text.
pub(super) fn has_secret(text: &str) -> bool {
    if text.len() < 16 || !text.contains(':') {
        return false;
    }
    has_key(text, "stringData")
        || text.contains("Secret")
            && text.contains("data")
            && text.match_indices("Secret").any(|(at, _)| is_kind(text.as_bytes(), at))
}

/// Whether the word at `at` is the value of `kind`: only blanks, quotes, backslashes, a colon, and YAML's tags and anchors
/// stand between the two.
fn is_kind(text: &[u8], at: usize) -> bool {
    let before = text.get(at.saturating_sub(32)..at).unwrap_or_default();
    let Some(key) = before.windows(4).rposition(|w| w == b"kind") else { return false };
    let between = before.get(key + 4..).unwrap_or_default();
    let is_blank = |b: &u8| matches!(b, b' ' | b'\t' | b':' | b'"' | b'\'' | b'\\' | b'\n' | b'\r');
    !between.is_empty()
        && between.split(is_blank).all(|word| word.first().is_none_or(|first| matches!(first, b'!' | b'&')))
}

/// The text of an annotation of a Secret that may hold the Secret itself, in YAML or what is not quite JSON.
pub(super) fn has_data(text: &str) -> bool {
    has_key(text, "data") || has_key(text, "stringData")
}

/// A kubeconfig with a credential in it, as text.
pub(super) fn has_kubeconfig(text: &str) -> bool {
    text.len() >= 16
        && text.contains(':')
        && (has_key(text, "client-key-data")
            || text.contains("kind: Config")
                && ["token:", "password:", "auth-provider:"].iter().any(|k| text.contains(k)))
}

/// Whether `key` stands there as a key, in YAML or JSON, be it in quotes itself.
fn has_key(text: &str, key: &str) -> bool {
    text.match_indices(key)
        .any(|(at, _)| matches!(text.as_bytes().get(at + key.len()), Some(b':' | b'"' | b'\'' | b'\\')))
}

/// Bytes at which something is looked at: rare ones of what each credential must hold.
const TRIGGERS: [bool; 256] = {
    let mut table = [false; 256];
    let mut i = 0;
    while i < 9 {
        table[b"JBLZ:. \t+"[i] as usize] = true;
        i += 1;
    }
    table
};

/// One pass over the text. In order, none overlapping.
fn find(text: &str, on: Builtins) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    // Shorter than the shortest.
    if text.len() < 8 {
        return found;
    }
    let b = text.as_bytes();
    let (shapes, header) = (on.has(Builtin::CredentialShapes), on.has(Builtin::AuthorizationHeader));
    let (bootstrap, url) = (on.has(Builtin::BootstrapToken), on.has(Builtin::UrlCredentials));
    // Up to here, no such thing begins.
    let (mut no_jwt, mut no_base64) = (0, 0);
    let mut at = 0;
    while let Some(skip) = b.get(at..).and_then(|rest| rest.iter().position(|b| TRIGGERS[usize::from(*b)])) {
        at += skip;
        let (before, rest) = b.split_at(at);
        let hit = match rest.first() {
            Some(b'J') if shapes && before.ends_with(b"ey") && at - 2 >= no_jwt => {
                let start = at - 2;
                no_jwt = at + run(rest, is_base64url);
                jwt(b, start).map(|end| (start..end, Builtin::CredentialShapes, None))
            }
            Some(b'B') if shapes && before.ends_with(b"-----") && rest.starts_with(b"BEGIN ") => {
                pem(text, at - 5).map(|end| (at - 5..end, Builtin::CredentialShapes, None))
            }
            Some(b'L' | b'Z')
                if shapes
                    && at >= no_base64
                    && (rest.starts_with(PEM_BASE64) || rest.starts_with(JWT_BASE64)) =>
            {
                no_base64 = at + run(rest, |b| is_base64(b) || matches!(b, b'\r' | b'\n'));
                packed(b.get(at..no_base64).unwrap_or_default())
                    .map(|(len, decoded)| (at..at + len, Builtin::CredentialShapes, Some(decoded)))
            }
            Some(b' ' | b'\t' | b'+') if header => {
                authorization(b, at).map(|range| (range, Builtin::AuthorizationHeader, None))
            }
            Some(b':') if url && rest.starts_with(b"://") => {
                userinfo(text, at).map(|range| (range, Builtin::UrlCredentials, None))
            }
            Some(b'.') if bootstrap => {
                bootstrap_token(b, at).map(|range| (range, Builtin::BootstrapToken, None))
            }
            _ => None,
        };
        at += 1;
        // Some begin before what they are told by.
        if let Some((range, rule, decoded)) = hit
            && found.last().is_none_or(|last| last.range.end <= range.start)
        {
            at = at.max(range.end);
            found.push(Found { range, rule, decoded });
        }
    }
    found
}

fn run(bytes: &[u8], is_in: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|b| is_in(**b)).count()
}

fn is_base64url(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')
}

fn is_base64(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'+' | b'/' | b'=')
}

/// Where the token ends that begins at `at`: a head that is a JSON object, a payload, and a signature (an encrypted one
/// has five parts).
fn jwt(b: &[u8], at: usize) -> Option<usize> {
    let mut end = at + run(&b[at..], is_base64url);
    for part in 1..5 {
        let rest = b.get(end..)?;
        let len = rest.strip_prefix(b".").map(|part| run(part, is_base64url));
        match (part, len) {
            (1, Some(len)) if len > 0 => end += 1 + len,
            (1, _) => return None,
            (2, None) => return None,
            (_, Some(len)) => end += 1 + len,
            (_, None) => break,
        }
    }
    Some(end)
}

/// Where the private key ends that begins at `at`; the whole rest is one if no end is told.
fn pem(text: &str, at: usize) -> Option<usize> {
    let body = text.get(at + 11..)?;
    let label = body.get(..body.find("-----").filter(|len| *len < 64)?)?;
    if !label.contains("PRIVATE KEY") {
        return None;
    }
    let from = at + 11 + label.len() + 5;
    let end = text.get(from..)?.find("-----END").map(|end| from + end + 8);
    let end = end.and_then(|end| Some(end + text.get(end..)?.find("-----")? + 5));
    Some(end.unwrap_or(text.len()))
}

/// How much of the run is a packed credential, and what it holds.
fn packed(run: &[u8]) -> Option<(usize, Vec<u8>)> {
    let mut plain: Vec<u8> = run
        .iter()
        .filter(|b| !matches!(b, b'\r' | b'\n' | b'='))
        .map(|b| match b {
            b'-' => b'+',
            b'_' => b'/',
            b => *b,
        })
        .collect();
    if plain.len() % 4 == 1 {
        plain.pop();
    }
    let decoded = LENIENT.decode(&plain).ok()?;
    let is_key = decoded.starts_with(b"-----BEGIN") && {
        let text = String::from_utf8_lossy(&decoded);
        text.contains("PRIVATE KEY-----")
    };
    let is_token = decoded.starts_with(b"eyJ") && jwt(&decoded, 0).is_some();
    // A line's end behind it is not a part of it.
    let len = run.len() - run.iter().rev().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    (is_key || is_token).then_some((len, decoded))
}

/// The credential behind `Bearer` or `Basic`, whose first blank is at `at`.
fn authorization(b: &[u8], at: usize) -> Option<Range<usize>> {
    let is = |word: &[u8]| {
        let start = at.checked_sub(word.len());
        start.is_some_and(|start| {
            b.get(start..at).is_some_and(|w| w.eq_ignore_ascii_case(word))
                && !start.checked_sub(1).and_then(|i| b.get(i)).is_some_and(u8::is_ascii_alphanumeric)
        })
    };
    let is_basic = is(b"basic");
    if !is_basic && !is(b"bearer") {
        return None;
    }
    let start = at + run(b.get(at..)?, |b| matches!(b, b' ' | b'\t' | b'+'));
    let value = b.get(start..)?;
    if value.starts_with(PREFIX.as_bytes()) {
        return None;
    }
    let len = run(value, |b| is_base64(b) || matches!(b, b'.' | b'~'));
    let value = value.get(..len)?;
    let is_credential = if is_basic {
        let unpadded = &value[..run(value, |b| b != b'=')];
        LENIENT.decode(unpadded).is_ok_and(|decoded| decoded.contains(&b':'))
    } else {
        // A word of a sentence is neither long nor has it digits or capitals.
        len >= 20 || len >= 6 && value.iter().any(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
    };
    is_credential.then_some(start..start + len)
}

/// The password of `scheme://user:password@host`; of http, a lone user name too, which is a token there.
fn userinfo(text: &str, at: usize) -> Option<Range<usize>> {
    let start = at + 3;
    let rest = text.get(start..)?;
    let ends = |c: char| c.is_whitespace() || c.is_control() || "/?#\"'<>\\`,".contains(c);
    let authority = rest.get(..rest.find(ends).unwrap_or(rest.len()))?;
    let (user, _) = authority.rsplit_once('@')?;
    let before = text.get(..at)?;
    let range = match user.split_once(':') {
        Some((name, password)) if !password.is_empty() => start + name.len() + 1..start + user.len(),
        None if !user.is_empty() && (before.ends_with("http") || before.ends_with("https")) => {
            start..start + user.len()
        }
        _ => return None,
    };
    (!text.get(range.clone())?.starts_with(PREFIX)).then_some(range)
}

/// `abcdef.0123456789abcdef`, with nothing of a name before and behind it.
fn bootstrap_token(b: &[u8], dot: usize) -> Option<Range<usize>> {
    let start = dot.checked_sub(6)?;
    let end = dot + 17;
    let is_part = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let joins = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/' | b'@');
    let is_token = b.get(start..dot)?.iter().all(is_part) && b.get(dot + 1..end)?.iter().all(is_part);
    let before = start.checked_sub(1).and_then(|i| b.get(i));
    let behind = match b.get(end) {
        // The end of a sentence.
        Some(b'.') => b.get(end + 1).filter(|b| joins(b)),
        next => next.filter(|b| joins(b)),
    };
    (is_token && before.is_none_or(|b| !joins(b)) && behind.is_none()).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose;

    const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl";
    const PEM: &str = "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----";

    fn found(text: &str) -> Vec<String> {
        find(text, Builtins::ALL).into_iter().map(|f| text[f.range].to_owned()).collect()
    }

    #[test]
    fn credentials_are_found() {
        let b64 = |text: &str| general_purpose::STANDARD.encode(text);
        let rows = [
            (JWT.to_owned(), JWT.to_owned()),
            (format!("--token={JWT},"), JWT.to_owned()),
            (format!("{JWT}."), format!("{JWT}.")),
            (format!("eyJx {JWT}"), JWT.to_owned()),
            ("x eyJhbGciOiJub25lIn0.eyJzdWIi.".into(), "eyJhbGciOiJub25lIn0.eyJzdWIi.".into()),
            ("eyJh.b.c.d.e x".into(), "eyJh.b.c.d.e".into()),
            ("eyJh..c.d.e".into(), String::new()),
            ("jws: eyJhbGciOiJIUzI1NiJ9..c2ln".into(), String::new()),
            ("continue eyJ2IjoibWV0YS5rOHMuaW8vdjEi".into(), String::new()),
            (format!("a\n{PEM}\nb"), PEM.into()),
            (PEM[..40].into(), PEM[..40].into()),
            ("-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----".into(), String::new()),
            (format!("{0}\n{0}", PEM.replace("RSA ", "")), format!("{0}|{0}", PEM.replace("RSA ", ""))),
            (b64(PEM), b64(PEM)),
            (format!("key: {}\n", b64(PEM)), b64(PEM)),
            (b64(&PEM.replace("RSA PRIVATE KEY", "CERTIFICATE")), String::new()),
            (b64(JWT), b64(JWT)),
            (general_purpose::URL_SAFE_NO_PAD.encode(PEM), general_purpose::URL_SAFE_NO_PAD.encode(PEM)),
            ("Authorization: Bearer abc123def".into(), "abc123def".into()),
            ("bearer  opaqueTokenX".into(), "opaqueTokenX".into()),
            ("invalid bearer token, please".into(), String::new()),
            ("Bearer authentication".into(), String::new()),
            ("Basic YTpi".into(), "YTpi".into()),
            ("Basic authentication".into(), String::new()),
            ("postgres://me:hunter2@db/x".into(), "hunter2".into()),
            ("https://ghp_x@example.org".into(), "ghp_x".into()),
            ("ssh://git@example.org, https://example.org/@x".into(), String::new()),
            ("join abcdef.0123456789abcdef now".into(), "abcdef.0123456789abcdef".into()),
            ("It is abcdef.0123456789abcdef.".into(), "abcdef.0123456789abcdef".into()),
            ("x.abcdef.0123456789abcdef".into(), String::new()),
            ("abcdef.0123456789abcdef0".into(), String::new()),
            ("abcdef.0123456789abcdef.svc".into(), String::new()),
        ];
        for (text, want) in rows {
            assert_eq!(found(&text).join("|"), want, "{text}");
        }
    }

    #[test]
    fn one_value_has_one_mark_however_it_is_wrapped() {
        let key = Key::new(b"k");
        let mark = key.mark(JWT.as_bytes());
        for text in [JWT.to_owned(), general_purpose::STANDARD.encode(JWT)] {
            assert_eq!(redacted(&text, Builtins::ALL, &key).unwrap().0, mark);
        }
        let text = redacted(&format!("Bearer {JWT}"), Builtins::ALL, &key).unwrap().0;
        assert_eq!(text, format!("Bearer {mark}"));
        for text in [format!("Bearer {mark}"), format!("http://a:{mark}@b"), mark] {
            assert_eq!(redacted(&text, Builtins::ALL, &key), None);
        }
    }

    #[test]
    fn each_rule_is_switched_off_alone() {
        let all = [
            (JWT, Builtin::CredentialShapes),
            ("Bearer abc123def", Builtin::AuthorizationHeader),
            ("a://b:c@d", Builtin::UrlCredentials),
            ("abcdef.0123456789abcdef", Builtin::BootstrapToken),
        ];
        for (text, rule) in all {
            assert_eq!(find(text, Builtins::ALL)[0].rule, rule, "{text}");
            assert_eq!(find(text, Builtins::ALL.without(rule)), [], "{text}");
        }
    }

    #[test]
    fn manifests_and_packed_texts_are_known() {
        for text in [
            "kind: Secret\ndata: {}",
            "kind: \"Secret\"\nmetadata:\n  name: x\ndata:\n  a: b",
            "{\"kind\":\"Secret\",\"data\":{\"a\":",
            "{\\\"kind\\\": \\\"Secret\\\", \\\"data\\\"",
            "---\n'kind' :  'SecretList'\ndata:",
            "stringData:\n  a: b        ",
            "kind: !!str Secret\ndata: {}",
            "kind: &a \"Secret\"\ndata: {}",
        ] {
            assert!(has_secret(text), "{text}");
        }
        for text in ["kind: Secret, name: x", "a kind Pod of Secret data", "SecretSecretSecret data", ""] {
            assert!(!has_secret(text), "{text}");
        }
        assert!(has_kubeconfig("apiVersion: v1\nkind: Config\nusers:\n- user:\n    token: x"));
        assert!(!has_kubeconfig("apiVersion: v1\nkind: Config\nclusters: []"));
        assert!(is_packed("H4sIAAAAAAAAA6tWSkxKVrJSMjI2UaoFAAAA"));
        assert!(!is_packed("H4sI is how gzip looks in base64"));
    }

    #[test]
    fn it_is_linear() {
        // Each would take minutes if it were not.
        for piece in [
            "eyJ",
            "eyJa.",
            "eyJa.b.",
            "-----BEGIN ",
            "LS0tLS1CRUdJTi",
            "ZXlK",
            "bearer ",
            "basic b",
            "://a:",
            "a.",
            "kind Secret",
        ] {
            let text = piece.repeat(4_000_000 / piece.len());
            find(&text, Builtins::ALL);
            has_secret(&text);
        }
    }
}
