//! Bodies as they go over the wire, and the JSON that they are: gzip undone, Kubernetes protobuf, CBOR and YAML read as the API
//! server reads them. Which of them a body is, its first bytes tell where they can; else its `Content-Type`.

use super::{MOST_NODES, NO_YAML, Object, Omitted};
use crate::codec::{cbor, goyaml, head::Head, protobuf, tape::Tape};
use http::{HeaderMap, header};
use serde::de::IgnoredAny;
use std::{borrow::Cow, cell::Cell, io::Read};

/// Levels of nesting that are read of protobuf and CBOR.
const DEEPEST: usize = super::DEEPEST;
/// Values of a YAML text: parsing them is the slowest of all that is done here.
const YAML_NODES: usize = 1 << 18;
/// Bytes of a longer body that are searched for what it is.
pub(in crate::audit) const BEGINNING: usize = 16 << 10;

/// A body, or the beginning of one, and what its headers say of it.
#[derive(Debug, Clone, Copy)]
pub(in crate::audit) struct Wire<'a> {
    bytes: &'a [u8],
    content_type: &'a str,
    is_gzip: bool,
}

impl<'a> Wire<'a> {
    pub(in crate::audit) fn new(bytes: &'a [u8], content_type: &'a str, is_gzip: bool) -> Self {
        Self { bytes, content_type, is_gzip }
    }

    pub(in crate::audit) fn of(headers: &'a HeaderMap, bytes: &'a [u8]) -> Self {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        Self::new(bytes, content_type.unwrap_or_default(), is_gzip(headers))
    }

    pub(in crate::audit) fn content_type(&self) -> &'a str {
        self.content_type
    }

    /// How much work it is to read, as that many bytes of JSON.
    pub(in crate::audit) fn weight(&self) -> usize {
        let factor = match self.is_gzip {
            // As much as deflate can grow.
            true => 1032,
            false if self.is("yaml") => 16,
            false => 1,
        };
        self.bytes.len().saturating_mul(factor)
    }

    /// Whether its type says so.
    fn is(&self, what: &str) -> bool {
        self.content_type.as_bytes().windows(what.len()).any(|w| w.eq_ignore_ascii_case(what.as_bytes()))
    }

    /// The JSON that the body is, of `most` bytes. What is called JSON may still be none.
    pub(super) fn json(&self, most: usize) -> Result<Cow<'a, str>, Omitted> {
        let plain = match self.is_gzip {
            true => Cow::Owned(gunzip(self.bytes, most)?),
            false => Cow::Borrowed(self.bytes),
        };
        if plain.len() > most {
            return Err(Omitted::Size);
        }
        if plain.starts_with(protobuf::MAGIC) {
            let limits = protobuf::json::Limits { bytes: most, depth: DEEPEST, json: most };
            return Ok(protobuf::json::to_json(&plain, limits)?.json.into());
        }
        if plain.starts_with(cbor::MAGIC) || self.is("cbor") {
            let limits = cbor::Limits { bytes: most, depth: DEEPEST, json: most };
            return Ok(cbor::to_json(&plain, limits)?.into());
        }
        let text = match plain {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
        };
        let text = text.ok_or_else(|| Omitted::encoding("it is not UTF-8"))?;
        if self.is("yaml") && serde_json::from_str::<IgnoredAny>(&text).is_err() {
            return of_yaml(&text, most).map(Cow::Owned);
        }
        Ok(text)
    }

    /// The body, read.
    pub(super) fn tape(&self, most: usize) -> Result<Tape<'a>, Omitted> {
        Ok(Tape::read(self.json(most)?, DEEPEST, &Cell::new(MOST_NODES))?)
    }

    /// Whether its type is all that tells what it is: neither gzip, nor a format that its first bytes tell and its type does not.
    pub(super) fn is_plain(&self) -> bool {
        let is = |magic: &[u8], name| self.bytes.starts_with(magic) && !self.is(name);
        !self.is_gzip && !is(protobuf::MAGIC, "protobuf") && !is(cbor::MAGIC, "cbor")
    }

    /// What a body says of itself before it becomes long, as far as that can be seen: it may go on behind these bytes.
    pub(in crate::audit) fn beginning(&self) -> Object {
        let unpacked = self.is_gzip.then(|| beginning_of_gzip(self.bytes));
        let plain = unpacked.as_deref().unwrap_or(self.bytes);
        let plain = plain.get(..BEGINNING).unwrap_or(plain);
        if plain.starts_with(protobuf::MAGIC) {
            return Head::of_protobuf(plain).into();
        }
        let text = match std::str::from_utf8(plain) {
            Ok(text) => text,
            Err(e) => plain
                .get(..e.valid_up_to())
                .and_then(|valid| std::str::from_utf8(valid).ok())
                .unwrap_or_default(),
        };
        let tape = Tape::beginning(text, DEEPEST, &Cell::new(MOST_NODES));
        Object { items: None, ..Object::of(&tape) }
    }

    /// Whether it is Kubernetes protobuf, plain.
    pub(super) fn is_protobuf(&self) -> bool {
        self.bytes.starts_with(protobuf::MAGIC)
    }
}

/// Whether a body is gzip by its header; anything else that is not plain is unreadable, and will be found to be so.
pub(in crate::audit) fn is_gzip(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_ENCODING).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"gzip"))
}

/// The gunzipped body; an error if it is no gzip or longer than `most` bytes.
pub(super) fn gunzip(bytes: &[u8], most: usize) -> Result<Vec<u8>, Omitted> {
    let mut out = Vec::new();
    let limit = most as u64 + 1;
    let read = flate2::read::MultiGzDecoder::new(bytes).take(limit).read_to_end(&mut out);
    match read {
        Ok(_) if out.len() > most => Err(Omitted::Size),
        Ok(_) => Ok(out),
        Err(_) => Err(Omitted::encoding("it is not gzip")),
    }
}

fn beginning_of_gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    // It may well be cut off; what came before counts.
    let _ = flate2::read::MultiGzDecoder::new(bytes).take(BEGINNING as u64).read_to_end(&mut out);
    out
}

fn of_yaml(text: &str, most: usize) -> Result<String, Omitted> {
    let limits = goyaml::Limits { nodes: YAML_NODES, json: most };
    match goyaml::to_json(text, limits) {
        Ok(read) => Ok(read.json),
        Err(_) => Err(Omitted::encoding(NO_YAML)),
    }
}
