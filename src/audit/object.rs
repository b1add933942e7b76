//! Bodies as the record holds them: a JSON text as it came, on one line; or, when it may not or cannot be recorded, its size
//! and a keyed digest, so that two bodies can still be compared by whoever has the journal's key:
//!
//! ```json
//! {"gatelog.dev/omitted":"secret","size":412,"hmacSHA256":"9f…","contentType":"application/json"}
//! ```
//!
//! Omitted are, whatever the policy says: what belongs to secrets, service account tokens and token reviews; any object that
//! is a Secret or holds one (`secret`); what is neither JSON nor YAML, such as protobuf and CBOR (`encoding`); what is larger than the
//! configured cap, before or after gunzip (`size`); what is nested more deeply than common readers can follow (`depth`);
//! and what the queue had no room for (`room`). A JSON text keeps its numbers and its key order; only white space between
//! tokens goes, `managedFields` when the policy asks, and halves of surrogate pairs become U+FFFD as in Go.

use super::event::{ObjectMeta, cut};
use crate::{codec::yaml, request::RequestInfo, status::push_json_str};
use aws_lc_rs::hmac;
use http::{HeaderMap, header};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt::Write as _, io::Read};

/// Levels of nesting that are recorded; serde_json, for one, stops at 128.
const DEEPEST: usize = 100;

/// Why a body is not recorded as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Omitted {
    Secret,
    Encoding,
    Size,
    Depth,
    Room,
}

impl Omitted {
    fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Encoding => "encoding",
            Self::Size => "size",
            Self::Depth => "depth",
            Self::Room => "room",
        }
    }
}

/// What stands in place of a body of `size` bytes whose digest is `tag`.
pub(super) fn omitted(why: Omitted, size: u64, tag: &hmac::Tag, content_type: &str) -> Vec<u8> {
    let mut out = format!("{{\"gatelog.dev/omitted\":\"{}\",\"size\":{size},\"hmacSHA256\":\"", why.as_str());
    for byte in tag.as_ref() {
        let _ = write!(out, "{byte:02x}");
    }
    let mut out = out.into_bytes();
    out.push(b'"');
    if !content_type.is_empty() {
        out.extend_from_slice(b",\"contentType\":");
        push_json_str(&mut out, &cut(content_type, 256));
    }
    out.push(b'}');
    out
}

/// A body that was read as JSON.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Object {
    /// The text on one line.
    pub(super) json: Vec<u8>,
    /// Top-level `kind`.
    pub(super) kind: String,
    /// Top-level `metadata`.
    pub(super) meta: ObjectMeta,
    /// It is, or it holds, something secret.
    pub(super) secret: bool,
}

/// Reads `bytes` as one JSON text. `drop_managed_fields`: of the object, of a list's items, and of a Table's rows.
pub(super) fn read(bytes: &[u8], drop_managed_fields: bool) -> Result<Object, Omitted> {
    let text: &RawValue = serde_json::from_slice(bytes).map_err(|_| Omitted::Encoding)?;
    let mut scan = Scan { text: text.get(), at: 0, found: Object::default(), drop_managed_fields, mute: 0 };
    scan.found.json.reserve(text.get().len());
    scan.value(Role::Object, 0)?;
    Ok(scan.found)
}

/// Reads a request's body, whatever it is written in.
pub(super) fn read_body(
    headers: &HeaderMap,
    body: &[u8],
    most: usize,
    drop_managed_fields: bool,
) -> Result<Object, Omitted> {
    let plain;
    let body = if is_gzip(headers) {
        plain = gunzip(body, most)?;
        &plain
    } else {
        body
    };
    let is_yaml =
        headers.get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().windows(4).any(|w| w == b"yaml"));
    match read(body, drop_managed_fields) {
        Err(Omitted::Encoding) if is_yaml => {
            let text = std::str::from_utf8(body).map_err(|_| Omitted::Encoding)?;
            let limits = yaml::Limits { bytes: most, nodes: 20_000, documents: 1 };
            let mut documents = yaml::documents_within(text, limits).map_err(|_| Omitted::Encoding)?;
            let value = documents.pop().ok_or(Omitted::Encoding)?.value;
            read(&serde_json::to_vec(&value).map_err(|_| Omitted::Encoding)?, drop_managed_fields)
        }
        read => read,
    }
}

/// Whether a body is gzip by its header; anything else that is not plain is unreadable, and will be found to be so.
pub(super) fn is_gzip(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_ENCODING).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"gzip"))
}

/// Whether bodies of this resource are never recorded. The group does not matter: what is called so elsewhere is no better.
pub(super) fn is_secret(info: &RequestInfo) -> bool {
    matches!(
        (info.resource(), info.subresource()),
        ("secrets", _) | ("serviceaccounts", "token") | ("tokenreviews", _)
    )
}

/// The documents that kube-apiserver records as objects though they are no resources.
pub(super) fn is_discovery(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    path == "/api" || path == "/apis" || path.starts_with("/api/") || path.starts_with("/apis/")
}

/// The gunzipped body, or None if it is no gzip or longer than `most` bytes.
pub(super) fn gunzip(bytes: &[u8], most: usize) -> Result<Vec<u8>, Omitted> {
    let mut out = Vec::new();
    let limit = most as u64 + 1;
    let read = flate2::read::MultiGzDecoder::new(bytes).take(limit).read_to_end(&mut out);
    match read {
        Ok(_) if out.len() > most => Err(Omitted::Size),
        Ok(_) => Ok(out),
        Err(_) => Err(Omitted::Encoding),
    }
}

/// What a value is to us, told by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A whole object: the body, a list's item, a Table row's `object`.
    Object,
    Metadata,
    Items,
    Rows,
    Row,
    Other,
}

impl Role {
    fn member(self, key: &str) -> Self {
        match (self, key) {
            (Self::Object, "metadata") => Self::Metadata,
            (Self::Object, "items") => Self::Items,
            (Self::Object, "rows") => Self::Rows,
            (Self::Row, "object") => Self::Object,
            _ => Self::Other,
        }
    }

    fn element(self) -> Self {
        match self {
            Self::Items => Self::Object,
            Self::Rows => Self::Row,
            _ => Self::Other,
        }
    }
}

/// One pass over a text that is known to be JSON.
struct Scan<'a> {
    text: &'a str,
    at: usize,
    found: Object,
    drop_managed_fields: bool,
    /// Inside so many values that are left out.
    mute: usize,
}

impl<'a> Scan<'a> {
    fn value(&mut self, role: Role, depth: usize) -> Result<(), Omitted> {
        if depth > DEEPEST {
            return Err(Omitted::Depth);
        }
        match self.peek() {
            b'{' => self.object(role, depth),
            b'[' => self.array(role, depth),
            b'"' => {
                let token = self.string();
                self.emit_string(token);
                Ok(())
            }
            _ => {
                let token = self.bare();
                // Beyond what a double holds, readers disagree or give up.
                if token.len() > 300 || !token.starts_with(['t', 'f']) && token.contains(['e', 'E']) {
                    token.parse().ok().filter(|n: &f64| n.is_finite()).ok_or(Omitted::Encoding)?;
                }
                self.emit(token);
                Ok(())
            }
        }
    }

    fn object(&mut self, role: Role, depth: usize) -> Result<(), Omitted> {
        let mut first = true;
        let (mut is_secret, mut has_data) = (false, false);
        self.take();
        self.emit("{");
        while self.more(b'}')? {
            let token = self.string();
            let key = unescape(token);
            self.colon();
            let leave_out = self.drop_managed_fields && role == Role::Metadata && key == "managedFields";
            if leave_out {
                self.mute += 1;
            } else {
                if !std::mem::take(&mut first) {
                    self.emit(",");
                }
                self.emit_string(token);
                self.emit(":");
            }
            if self.peek() == b'"' {
                let value = self.string();
                self.emit_string(value);
                self.note(role, depth, &key, value, &mut is_secret);
            } else {
                self.value(role.member(&key), depth + 1)?;
            }
            has_data |= key == "data" || key == "stringData";
            if leave_out {
                self.mute -= 1;
            }
            self.comma();
        }
        self.take();
        self.emit("}");
        self.found.secret |= is_secret && has_data;
        Ok(())
    }

    fn array(&mut self, role: Role, depth: usize) -> Result<(), Omitted> {
        let mut first = true;
        self.take();
        self.emit("[");
        while self.more(b']')? {
            if !std::mem::take(&mut first) {
                self.emit(",");
            }
            self.value(role.element(), depth + 1)?;
            self.comma();
        }
        self.take();
        self.emit("]");
        Ok(())
    }

    /// Looks at a member whose value is a string.
    fn note(&mut self, role: Role, depth: usize, key: &str, value: &str, is_secret: &mut bool) {
        match (role, key) {
            (_, "kind") => {
                let kind = unescape(value);
                *is_secret |= kind == "Secret";
                if role == Role::Object {
                    self.found.secret |=
                        matches!(&*kind, "Secret" | "SecretList" | "TokenRequest" | "TokenReview");
                }
                if depth == 0 {
                    self.found.kind = kind.into_owned();
                }
            }
            (Role::Metadata, _) if depth == 1 => {
                let meta = &mut self.found.meta;
                let field = match key {
                    "namespace" => &mut meta.namespace,
                    "name" => &mut meta.name,
                    "uid" => &mut meta.uid,
                    "resourceVersion" => &mut meta.resource_version,
                    _ => return,
                };
                *field = unescape(value).into_owned();
            }
            _ => {}
        }
    }

    // --- tokens; the text is known to be well formed, so that each is where it is looked for ---

    fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied().unwrap_or_default()
    }

    /// Whether something stands before `end`. That nothing at all is left cannot be, and would be no JSON.
    fn more(&mut self, end: u8) -> Result<bool, Omitted> {
        match self.peek() {
            0 => Err(Omitted::Encoding),
            next => Ok(next != end),
        }
    }

    fn take(&mut self) {
        self.at += 1;
    }

    fn colon(&mut self) {
        self.peek();
        self.take();
    }

    fn comma(&mut self) {
        if self.peek() == b',' {
            self.take();
        }
    }

    /// The next string, quotes included.
    fn string(&mut self) -> &'a str {
        self.peek();
        let bytes = self.text.as_bytes();
        let start = self.at;
        self.at += 1;
        while let Some(found) =
            bytes.get(self.at..).and_then(|b| b.iter().position(|b| matches!(b, b'"' | b'\\')))
        {
            self.at += found;
            if bytes.get(self.at) == Some(&b'"') {
                break;
            }
            self.at += 2;
        }
        self.at += 1;
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// The next number or literal.
    fn bare(&mut self) -> &'a str {
        let start = self.at;
        let rest = self.text.as_bytes().get(start..).unwrap_or_default();
        self.at += rest.iter().position(|b| b",}] \t\r\n".contains(b)).unwrap_or(rest.len());
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn emit(&mut self, text: &str) {
        if self.mute == 0 {
            self.found.json.extend_from_slice(text.as_bytes());
        }
    }

    /// Half of a surrogate pair is valid to JSON's grammar but not to most of its readers.
    fn emit_string(&mut self, token: &str) {
        match lone_surrogates(token) {
            None => self.emit(token),
            Some(token) => self.emit(&token),
        }
    }
}

/// A string's value; None of those that matter here has escapes, but a caller may write them all the same.
fn unescape(token: &str) -> Cow<'_, str> {
    let inner = token.get(1..token.len().saturating_sub(1)).unwrap_or_default();
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    serde_json::from_str(token).map_or_else(|_| Cow::Owned(String::new()), Cow::Owned)
}

/// `token` with U+FFFD for each escaped half of a surrogate pair; None when there is none.
fn lone_surrogates(token: &str) -> Option<String> {
    if !token.contains("\\u") {
        return None;
    }
    let mut out = String::with_capacity(token.len());
    let mut rest = token;
    let mut found = false;
    let unit =
        |text: &str| -> Option<u16> { u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok() };
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = match unit(rest) {
            None => 2,
            Some(0xd800..=0xdbff)
                if rest.get(6..).and_then(unit).is_some_and(|u| (0xdc00..=0xdfff).contains(&u)) =>
            {
                12
            }
            Some(0xd800..=0xdfff) => {
                found = true;
                out.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            Some(_) => 6,
        };
        let (escape, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        out.push_str(escape);
        rest = after;
    }
    out.push_str(rest);
    found.then_some(out)
}

#[cfg(test)]
mod tests;
