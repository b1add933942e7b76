//! THE table of header names: which are hop-by-hop, which say who somebody is, which are the gate's own, which are secret.
//!
//! Upstream headers are built from an empty map through this table: first what belongs to the caller's connection goes, then what
//! claims an identity; the gate's own are added last, so that nothing a caller sends can remove them. A name written with `_` for
//! `-` counts as the name it would become in a CGI-like environment.

use http::{HeaderMap, HeaderName, HeaderValue, header};

#[cfg(test)]
mod tests;

/// What becomes of a caller's header on the way upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Goes through.
    EndToEnd,
    /// Of this connection only (RFC 9110 7.6.1): Connection, Keep-Alive, TE, Trailer, Transfer-Encoding, Upgrade, Proxy-*.
    HopByHop,
    /// Proves or claims an identity: Authorization, Impersonate-*, X-Remote-* and names that fold onto them (`_` for `-`).
    Identity,
    /// Written by the gate itself or by nobody: Host, Audit-Id, X-Forwarded-*, Forwarded, Via, Expect, and what would override the
    /// method or path that was decided on.
    Ours,
}

/// `Impersonate-User`
pub const IMPERSONATE_USER: HeaderName = HeaderName::from_static("impersonate-user");
/// `Impersonate-Uid`
pub const IMPERSONATE_UID: HeaderName = HeaderName::from_static("impersonate-uid");
/// `Impersonate-Group`
pub const IMPERSONATE_GROUP: HeaderName = HeaderName::from_static("impersonate-group");
/// `Impersonate-Extra-<key>`
pub const IMPERSONATE_EXTRA_PREFIX: &str = "impersonate-extra-";
/// `Audit-Id`
pub const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// The hops a request came by, the caller's own address last.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// How a WebSocket client that cannot set headers offers its bearer token, in `Sec-WebSocket-Protocol`.
pub const BEARER_SUBPROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Where a name stands in the table.
pub fn class(name: &HeaderName) -> Class {
    let name = name.as_str().as_bytes();
    let is = |other: &[u8]| name.len() == other.len() && folds_onto(name, other);
    let starts = |prefix: &[u8]| folds_onto(name, prefix);
    // By the first letter, since nearly every header is none of these.
    match name.first() {
        Some(b'a') if is(b"authorization") => Class::Identity,
        Some(b'a') if is(b"audit-id") => Class::Ours,
        Some(b'c') if is(b"connection") => Class::HopByHop,
        // The real one goes through; a look-alike could mean another length to somebody.
        Some(b'c') if name != b"content-length" && is(b"content-length") => Class::HopByHop,
        Some(b'e') if is(b"expect") => Class::Ours,
        Some(b'f') if is(b"forwarded") => Class::Ours,
        Some(b'h') if is(b"host") => Class::Ours,
        Some(b'h') if is(b"http2-settings") => Class::HopByHop,
        Some(b'i') if starts(b"impersonate") => Class::Identity,
        Some(b'k') if is(b"keep-alive") => Class::HopByHop,
        Some(b'p') if starts(b"proxy-") => Class::HopByHop,
        Some(b't') if is(b"te") || is(b"trailer") || is(b"trailers") || is(b"transfer-encoding") => {
            Class::HopByHop
        }
        Some(b'u') if is(b"upgrade") => Class::HopByHop,
        Some(b'v') if is(b"via") => Class::Ours,
        Some(b'x') if starts(b"x-remote-") => Class::Identity,
        Some(b'x') if starts(b"x-forwarded") || is(b"x-real-ip") => Class::Ours,
        Some(b'x') if starts(b"x-http-method") || is(b"x-method-override") => Class::Ours,
        Some(b'x') if is(b"x-original-url") || is(b"x-rewrite-url") => Class::Ours,
        _ => Class::EndToEnd,
    }
}

/// Whether a header's value must never reach a log.
pub fn is_secret(name: &HeaderName) -> bool {
    class(name) == Class::Identity
        || [
            header::PROXY_AUTHORIZATION,
            header::COOKIE,
            header::SET_COOKIE,
            header::SEC_WEBSOCKET_PROTOCOL,
            header::SEC_WEBSOCKET_KEY,
        ]
        .contains(name)
}

/// What all `X-Forwarded-For` lines say, as the one list that they are. Some proxies write a line of their own behind a stranger's.
pub fn forwarded_for(headers: &HeaderMap) -> Option<HeaderValue> {
    let lines: Vec<&[u8]> = headers.get_all(X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
    match lines.as_slice() {
        [] => None,
        lines => HeaderValue::from_bytes(&lines.join(&b", "[..])).ok(),
    }
}

/// The names that the `Connection` and `Proxy-Connection` values nominate, lower-cased.
pub fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let mut names = Vec::new();
    for value in headers.get_all(header::CONNECTION).iter().chain(headers.get_all("proxy-connection")) {
        for token in value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            // The usual ones are in the table already.
            let usual: [&[u8]; 3] = [b"keep-alive", b"close", b"upgrade"];
            if usual.iter().any(|u| token.eq_ignore_ascii_case(u)) {
                continue;
            }
            if let Ok(name) = HeaderName::from_bytes(token)
                && !names.contains(&name)
            {
                names.push(name);
            }
        }
    }
    names
}

/// Copies what may go upstream into an empty map: hop-by-hop and nominated first out, then identity, then ours.
/// Names keep all their values, in order. A bearer token among WebSocket subprotocols is taken out.
pub fn for_upstream(from: &HeaderMap) -> HeaderMap {
    let nominated = nominated(from);
    // Transfer-Encoding overrides Content-Length (RFC 9112 6.3); it goes with the connection, the length must not come back.
    let chunked = from.contains_key(header::TRANSFER_ENCODING);
    // Room for the identity headers and the gate's own.
    let mut to = HeaderMap::with_capacity(from.len() + 8);
    for (name, value) in from {
        if class(name) != Class::EndToEnd
            || nominated.contains(name)
            || (chunked && name == header::CONTENT_LENGTH)
        {
            continue;
        }
        if is_subprotocols(name) {
            if let Some(value) = without_bearer(value) {
                to.append(name.clone(), value);
            }
            continue;
        }
        to.append(name.clone(), value.clone());
    }
    to
}

/// Same for an answer on its way to the caller: hop-by-hop out (on a 101 too), the gate's own Audit-Id takes the place of any other,
/// and no answer may send callers around the gate (Alt-Svc).
pub fn for_caller(mut from: HeaderMap) -> HeaderMap {
    from.remove(AUDIT_ID);
    from.remove(header::ALT_SVC);
    // Over HTTP/2 there is as a rule nothing else to take out.
    if from.keys().all(|name| class(name) != Class::HopByHop) {
        return from;
    }
    let nominated = nominated(&from);
    let chunked = from.contains_key(header::TRANSFER_ENCODING);
    let mut to = HeaderMap::with_capacity(from.len() + 4);
    let mut current = None;
    for (name, value) in from {
        // An owned map names each header once, before its first value.
        if let Some(name) = name {
            let goes = class(&name) != Class::HopByHop
                && !nominated.contains(&name)
                && !(chunked && name == header::CONTENT_LENGTH);
            current = goes.then_some(name);
        }
        if let Some(name) = &current {
            to.append(name.clone(), value);
        }
    }
    to
}

/// The last look before the wire: the identity headers must be exactly those that the permit set (with the gate's own credential,
/// if that is a header). An error names one too many or one missing, and is a 500.
///
/// # Errors
/// The name of a header that should not be there, or that should.
pub fn survivors<'a, I>(headers: &HeaderMap, allowed: I) -> Result<(), HeaderName>
where
    I: IntoIterator<Item = &'a (HeaderName, HeaderValue)> + Clone,
{
    let found = || headers.iter().filter(|(name, _)| class(name) == Class::Identity);
    // Set in order into a fresh map, they stand in order.
    if found().eq(allowed.clone().into_iter().map(|(name, value)| (name, value))) {
        return Ok(());
    }
    for (name, value) in found() {
        if !allowed.clone().into_iter().any(|(n, v)| n == name && v == value) {
            return Err(name.clone());
        }
    }
    // All are allowed: each must be there as often as it was set.
    for (name, value) in allowed.clone() {
        let set = allowed.clone().into_iter().filter(|(n, v)| n == name && v == value).count();
        if set != headers.get_all(name).iter().filter(|v| *v == value).count() {
            return Err(name.clone());
        }
    }
    Ok(())
}

/// The subprotocols without a bearer token; None when nothing is left.
pub fn without_bearer(protocols: &HeaderValue) -> Option<HeaderValue> {
    let pieces = || protocols.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii);
    // Anywhere in a piece and in any case: Go trims more kinds of space than ASCII has, no real protocol contains the
    // marker, and a misspelt one still has a token behind it.
    let marker = BEARER_SUBPROTOCOL.as_bytes();
    let bearer = |piece: &[u8]| piece.windows(marker.len()).any(|w| w.eq_ignore_ascii_case(marker));
    if !pieces().any(bearer) {
        return Some(protocols.clone());
    }
    let kept: Vec<&[u8]> = pieces().filter(|piece| !bearer(piece) && !piece.is_empty()).collect();
    if kept.is_empty() { None } else { HeaderValue::from_bytes(&kept.join(&b", "[..])).ok() }
}

fn is_subprotocols(name: &HeaderName) -> bool {
    let subprotocols = header::SEC_WEBSOCKET_PROTOCOL.as_str().as_bytes();
    name.as_str().len() == subprotocols.len() && folds_onto(name.as_str().as_bytes(), subprotocols)
}

/// Whether `name` begins with `prefix`, `_` counting as `-`.
fn folds_onto(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len())
        .is_some_and(|start| start.iter().zip(prefix).all(|(n, p)| n == p || (*n == b'_' && *p == b'-')))
}
