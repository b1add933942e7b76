//! The request target: accepted only where there is one way to read it.

use super::{
    BadRequest,
    query::{self, hex},
};
use http::uri::PathAndQuery;
use std::{borrow::Cow, fmt, sync::Arc};

pub(super) const NOT_ORIGIN_FORM: &str =
    "the request target is not in origin form: expected a path that starts with \"/\"";

/// More query parameters than this and Go (1.26) takes the whole query for empty.
const MAX_PARAMETERS: usize = 10_000;

/// An accepted origin-form request target: the exact bytes that came, and the path as it is decided on.
///
/// Refused is whatever two parsers could read differently: empty inner segments, `.` and `..`, `;` in the path or the query,
/// `\`, escapes of `/ \ . %` and of control bytes, escapes that are not UTF-8 or broken, raw bytes outside printable
/// ASCII, `#`, more than 10,000 parameters. One trailing slash is accepted.
///
/// What follows `/api/v1/namespaces/{ns}/{pods,services}/{name}/proxy/` and `/api/v1/nodes/{name}/proxy/` belongs to
/// somebody else's application: it decides nothing and stays as it is, its query too; only dot segments, `\` and control bytes are
/// refused there.
#[derive(Clone)]
pub struct Target {
    raw: PathAndQuery,
    /// Only where it differs from the raw path.
    decoded: Option<Arc<str>>,
    /// Where the opaque tail begins in the decoded path.
    opaque: Option<usize>,
}

impl Target {
    /// Accepts `raw` or says why it could be read in two ways.
    ///
    /// # Errors
    /// 400, with a text that names what was expected.
    pub fn parse(raw: &str) -> Result<Self, BadRequest> {
        // The http crate would cut a fragment off without a word.
        if raw.contains('#') {
            return Err(BadRequest::new("the request target contains \"#\": expected it escaped as %23"));
        }
        if !raw.starts_with('/') {
            return Err(BadRequest::new(NOT_ORIGIN_FORM));
        }
        let Ok(parsed) = PathAndQuery::try_from(raw) else {
            // Name the more telling reason where there is one.
            let (path, query) = raw.split_once('?').map_or((raw, None), |(p, q)| (p, Some(q)));
            let read = read_path(path)?;
            if let (Some(query), None) = (query, read.opaque) {
                check_query(query)?;
            }
            return Err(BadRequest::new(
                "the request target is no valid URI: expected a path and a query (RFC 3986)",
            ));
        };
        Self::from_path_and_query(parsed)
    }

    /// The same for a target that the HTTP library has already split; shares its bytes.
    ///
    /// # Errors
    /// As [`Target::parse`].
    pub fn from_path_and_query(raw: PathAndQuery) -> Result<Self, BadRequest> {
        // `path()` shows "/" for an empty path; the bytes say what really came.
        if !raw.as_str().starts_with('/') {
            return Err(BadRequest::new(NOT_ORIGIN_FORM));
        }
        let Read { decoded, opaque } = read_path(raw.path())?;
        match raw.query() {
            Some(query) if opaque.is_none() => check_query(query)?,
            Some(query) => check_bytes(query.as_bytes())?,
            None => {}
        }
        Ok(Self { decoded: decoded.map(Arc::from), raw, opaque })
    }

    /// The target as it came and as it is forwarded.
    pub fn raw(&self) -> &str {
        self.raw.as_str()
    }

    /// The same, ready for an upstream URI.
    pub fn path_and_query(&self) -> &PathAndQuery {
        &self.raw
    }

    /// The path, percent-decoded once; what decisions are made on. An opaque tail stays as it came.
    pub fn path(&self) -> &str {
        self.decoded.as_deref().unwrap_or_else(|| self.raw.path())
    }

    /// The raw query, without `?`.
    pub fn query(&self) -> Option<&str> {
        self.raw.query()
    }

    /// The decoded query parameters, in order.
    pub fn parameters(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        self.query().into_iter().flat_map(query::pairs)
    }

    /// The part of [`Target::path`] that decisions are made on: all of it, or what stands before an opaque tail.
    pub(super) fn decided(&self) -> &str {
        let path = self.path();
        self.opaque.and_then(|at| path.get(..at)).unwrap_or(path)
    }
}

/// Without the query, which may hold secrets.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.raw.path()).finish()
    }
}

struct Read {
    decoded: Option<String>,
    opaque: Option<usize>,
}

fn read_path(path: &str) -> Result<Read, BadRequest> {
    let opaque = opaque_tail(path);
    let (head, tail) = path.split_at(opaque.unwrap_or(path.len()));
    let escapes = check_segments(head)?;
    check_tail(tail)?;
    if escapes == 0 {
        return Ok(Read { decoded: None, opaque });
    }
    let mut text = decode(head)?;
    let opaque = opaque.map(|_| text.len());
    text.push_str(tail);
    Ok(Read { decoded: Some(text), opaque })
}

/// Where the opaque tail begins (behind `proxy/`, so perhaps at the end): by position, literals unescaped.
fn opaque_tail(path: &str) -> Option<usize> {
    let rest = path.strip_prefix("/api/v1/")?;
    let rest = match rest.strip_prefix("namespaces/") {
        Some(rest) => {
            let (_, rest) = rest.split_once('/')?;
            rest.strip_prefix("pods/").or_else(|| rest.strip_prefix("services/"))?
        }
        None => rest.strip_prefix("nodes/")?,
    };
    let (_, rest) = rest.split_once('/')?;
    Some(path.len() - rest.strip_prefix("proxy/")?.len())
}

/// Every rule for the part of the path that is decided on. Returns the number of escapes.
fn check_segments(path: &str) -> Result<usize, BadRequest> {
    let Some(inside) = path.strip_prefix('/') else { return Err(BadRequest::new(NOT_ORIGIN_FORM)) };
    let mut escapes = 0;
    let mut segments = inside.split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "" if segments.peek().is_some() => {
                return Err(BadRequest::new(
                    "the request path has an empty segment: expected single slashes",
                ));
            }
            "." | ".." => {
                return Err(BadRequest::new(format!(
                    "the request path has the segment {segment:?}: expected a path without dot segments"
                )));
            }
            _ => escapes += check_segment(segment.as_bytes())?,
        }
    }
    Ok(escapes)
}

fn check_segment(segment: &[u8]) -> Result<usize, BadRequest> {
    let mut escapes = 0;
    let mut bytes = segment.iter();
    while let Some(&b) = bytes.next() {
        match b {
            b'%' => {
                let value = escape(&mut bytes)?;
                if matches!(value, b'/' | b'\\' | b'.' | b'%' | 0..0x20 | 0x7f) {
                    return Err(BadRequest::new(format!(
                        "the request path contains the escape %{value:02X}: expected no escaped \"/\", \"\\\", \".\", \"%\" or control byte"
                    )));
                }
                escapes += 1;
            }
            b';' => {
                return Err(BadRequest::new(
                    "the request path contains \";\": expected a path without parameters",
                ));
            }
            b'\\' => {
                return Err(BadRequest::new(
                    "the request path contains \"\\\": expected \"/\" between segments",
                ));
            }
            0x21..=0x7e => {}
            _ => return Err(not_printable(b)),
        }
    }
    Ok(escapes)
}

/// The opaque tail: only what could lead out of it, or is no byte of a target at all.
fn check_tail(tail: &str) -> Result<(), BadRequest> {
    check_bytes(tail.as_bytes())?;
    let mut dots = 0;
    let mut others = false;
    let mut rest = tail.as_bytes();
    loop {
        // One character, escaped or not; a broken escape stands for itself.
        let (byte, len) = match *rest {
            [b'%', high, low, ..] => match (hex(high), hex(low)) {
                (Some(high), Some(low)) => (Some(high << 4 | low), 3),
                _ => (Some(b'%'), 1),
            },
            [b, ..] => (Some(b), 1),
            [] => (None, 0),
        };
        match byte {
            Some(b'/') | None => {
                if !others && (dots == 1 || dots == 2) {
                    return Err(BadRequest::new(
                        "the request path has a dot segment behind \"proxy/\": expected a path without dot segments",
                    ));
                }
                (dots, others) = (0, false);
            }
            Some(b'.') => dots += 1,
            Some(b'\\') => {
                return Err(BadRequest::new(
                    "the request path contains \"\\\" behind \"proxy/\": expected \"/\" between segments",
                ));
            }
            Some(_) => others = true,
        }
        if byte.is_none() {
            return Ok(());
        }
        rest = rest.get(len..).unwrap_or_default();
    }
}

/// Control bytes and spaces are no part of a target, whoever reads it.
fn check_bytes(bytes: &[u8]) -> Result<(), BadRequest> {
    match bytes.iter().find(|b| matches!(b, 0..=0x20 | 0x7f)) {
        Some(b) => Err(not_printable(*b)),
        None => Ok(()),
    }
}

fn check_query(query: &str) -> Result<(), BadRequest> {
    let mut parameters = 1;
    let mut high = false;
    let mut bytes = query.as_bytes().iter();
    while let Some(&b) = bytes.next() {
        match b {
            b'&' => parameters += 1,
            b'%' => high |= escape(&mut bytes)? >= 0x80,
            b';' => {
                return Err(BadRequest::new("the query contains \";\": expected \"&\" between parameters"));
            }
            0x21..=0x7e => {}
            _ => return Err(not_printable(b)),
        }
    }
    if parameters > MAX_PARAMETERS {
        return Err(BadRequest::new(format!(
            "the query has {parameters} parameters: expected at most {MAX_PARAMETERS}"
        )));
    }
    if high {
        decode(query)?;
    }
    Ok(())
}

/// The two digits behind a `%`.
fn escape<'b>(bytes: &mut impl Iterator<Item = &'b u8>) -> Result<u8, BadRequest> {
    let mut digit = || bytes.next().and_then(|b| hex(*b));
    match (digit(), digit()) {
        (Some(high), Some(low)) => Ok(high << 4 | low),
        _ => Err(BadRequest::new(
            "the request target contains a broken escape: expected two hexadecimal digits after \"%\"",
        )),
    }
}

fn decode(text: &str) -> Result<String, BadRequest> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes().iter();
    while let Some(&b) = bytes.next() {
        out.push(if b == b'%' { escape(&mut bytes)? } else { b });
    }
    String::from_utf8(out).map_err(|_| {
        BadRequest::new("the request target contains an escape sequence that is not UTF-8: expected UTF-8")
    })
}

fn not_printable(byte: u8) -> BadRequest {
    BadRequest::new(format!(
        "the request target contains the byte 0x{byte:02x}: expected printable ASCII, all else escaped"
    ))
}
