//! `url`, as Go's `net/url` reads it (`ParseRequestURI`, then `Parse`).

use super::super::runtime::{
    Args, Outcome, as_text, exactly, failed, made_bool, made_text, made_texts, named, no_overload,
};
use cel::{
    DeclarationError, Env,
    common::{
        types::{CelMap, CelMapKey, STRING_TYPE, Type},
        value::{CowVal, Val},
    },
};
use std::collections::{BTreeMap, HashMap};

const NAME: &str = "kubernetes.URL";
static URL: Type = named(NAME);

/// `kubernetes.URL`.
#[derive(Debug, Clone, PartialEq)]
struct Url {
    scheme: String,
    /// With the port.
    host: String,
    /// As it is escaped.
    path: String,
    query: String,
    /// The rest, for equality.
    whole: String,
}

pub(super) fn extend(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload("isURL", "is_url", vec![STRING_TYPE], |args| {
        let [text] = exactly("isURL", args)?;
        match as_text(text.as_ref()) {
            Some(url) => made_bool(read(url).is_some()),
            None => Err(no_overload("isURL", &[text])),
        }
    })?;
    env.add_overload("url", "string_to_url", vec![STRING_TYPE], |args| {
        let [text] = exactly("url", args)?;
        match as_text(text.as_ref()) {
            Some(url) => {
                read(url).map(CowVal::owned).ok_or_else(|| failed("url", "not an absolute URL or path"))
            }
            None => Err(no_overload("url", &[text])),
        }
    })?;
    let url = || named(NAME);
    env.add_member_overload("getScheme", "url_get_scheme", url(), vec![], |args| {
        part(args, |url| url.scheme.clone())
    })?;
    env.add_member_overload("getHost", "url_get_host", url(), vec![], |args| {
        part(args, |url| url.host.clone())
    })?;
    env.add_member_overload("getHostname", "url_get_hostname", url(), vec![], |args| {
        part(args, |url| {
            let name = split_port(&url.host).0;
            name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name).to_owned()
        })
    })?;
    env.add_member_overload("getPort", "url_get_port", url(), vec![], |args| {
        part(args, |url| split_port(&url.host).1.to_owned())
    })?;
    env.add_member_overload("getEscapedPath", "url_get_escaped_path", url(), vec![], |args| {
        part(args, |url| url.path.clone())
    })?;
    env.add_member_overload("getQuery", "url_get_query", url(), vec![], query)
}

fn part<'b, 'v>(args: Args<'b, 'v>, of: impl FnOnce(&Url) -> String) -> Outcome<'b, 'v> {
    let [url] = exactly("url", args)?;
    match url.downcast_ref::<Url>() {
        Some(url) => made_text("url", of(url)),
        None => Err(no_overload("url", &[url])),
    }
}

fn query<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [url] = exactly("getQuery", args)?;
    let Some(Url { query, .. }) = url.downcast_ref::<Url>() else {
        return Err(no_overload("getQuery", &[url]));
    };
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(key), Some(value)) = (unescaped(key, true), unescaped(value, true)) {
            found.entry(key).or_default().push(value);
        }
    }
    let mut map: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> = HashMap::new();
    for (key, values) in found {
        map.insert(CelMapKey::from(key), made_texts(values.into_iter())?.into_owned());
    }
    Ok(CowVal::owned(CelMap::from(map)))
}

/// The port without its colon.
fn split_port(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) => (name, port),
        _ => (host, ""),
    }
}

fn read(text: &str) -> Option<Url> {
    if text.is_empty() || text.bytes().any(|c| c < b' ' || c == 0x7f) {
        return None;
    }
    if text == "*" {
        let (scheme, host, query) = Default::default();
        return Some(Url { scheme, host, path: text.to_owned(), query, whole: text.to_owned() });
    }
    let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
    unescaped(fragment, false)?;
    let (scheme, rest) = split_scheme(before)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let whole = text.to_owned();
    if !rest.starts_with('/') {
        // Such as mailto:someone; nothing but the scheme is known of it.
        let opaque = Url { scheme, host: String::new(), path: String::new(), query: query.to_owned(), whole };
        return (!opaque.scheme.is_empty()).then_some(opaque);
    }
    let (host, path) = match rest.strip_prefix("//") {
        Some(rest) if !scheme.is_empty() => {
            let end = rest.find('/').unwrap_or(rest.len());
            let (authority, path) = rest.split_at_checked(end)?;
            (read_host(authority)?, path)
        }
        _ => (String::new(), rest),
    };
    Some(Url { scheme, host, path: escaped_path(path)?, query: query.to_owned(), whole })
}

/// A text that begins with no scheme has an empty one.
fn split_scheme(text: &str) -> Option<(String, &str)> {
    let is_in_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    match text.find(|c| !is_in_scheme(c)) {
        Some(0) if text.starts_with(':') => None,
        Some(at)
            if text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.get(at..)?.starts_with(':') =>
        {
            Some((text.get(..at)?.to_ascii_lowercase(), text.get(at + 1..)?))
        }
        _ => Some((String::new(), text)),
    }
}

fn read_host(authority: &str) -> Option<String> {
    let host = match authority.rsplit_once('@') {
        Some((who, host)) => {
            let fits = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
            if !who.chars().all(fits) || unescaped(who, false).is_none() {
                return None;
            }
            host
        }
        None => authority,
    };
    if host.starts_with('[') {
        let end = host.rfind(']')?;
        let (address, port) = (host.get(1..end)?, host.get(end + 1..)?);
        let fits = address.bytes().all(|c| c.is_ascii_hexdigit() || matches!(c, b':' | b'.'));
        return (fits && is_port(port)).then(|| host.to_owned());
    }
    let port = host.find(':').map_or("", |at| host.get(at..).unwrap_or_default());
    let fits = |c: char| c.is_ascii_alphanumeric() || !c.is_ascii() || "-._~!$&'()*+,;=:<>\"".contains(c);
    (host.chars().all(fits) && is_port(port)).then(|| host.to_owned())
}

fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.bytes().all(|c| c.is_ascii_digit()))
}

/// None: an escape is broken, or what it stands for is not UTF-8.
fn unescaped(text: &str, plus_is_space: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let value = digit(bytes.next())? * 16 + digit(bytes.next())?;
                out.push(u8::try_from(value).ok()?);
            }
            b'+' if plus_is_space => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

fn escaped_path(path: &str) -> Option<String> {
    let plain = unescaped(path, false)?;
    let stays = |c: u8| c.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&c);
    if path.bytes().all(|c| stays(c) || b"!'()*[]%".contains(&c)) {
        return Some(path.to_owned());
    }
    let mut out = String::with_capacity(path.len());
    for byte in plain.bytes() {
        if stays(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    Some(out)
}

value!(Url, URL);

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn urls_are_read_as_go_reads_them() {
        for (text, parts) in [
            ("https://a.example:8443/p/q?x=1#f", Some(("https", "a.example:8443", "/p/q"))),
            ("HTTPS://A", Some(("https", "A", ""))),
            ("/only/path", Some(("", "", "/only/path"))),
            ("https://u:p@[::1]:80/%2f b", Some(("https", "[::1]:80", "//%20b"))),
            ("mailto:a@b", Some(("mailto", "", ""))),
            ("a/b", None),
            ("", None),
            ("https://a:b/", None),
            ("https://a/%zz", None),
            ("https://a b/", None),
            (":x", None),
        ] {
            let url = read(text);
            let read = url.as_ref().map(|url| (&url.scheme[..], &url.host[..], &url.path[..]));
            assert_eq!(read, parts, "{text}");
        }
    }
}
