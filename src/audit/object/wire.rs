//! Bodies as they go over the wire, and the JSON that they are: gzip undone, Kubernetes protobuf, CBOR and YAML read as the API
//! server reads them. Which of them a body is, its first bytes tell where they can; else its `Content-Type`.

use super::{Object, Omitted, scan};
use crate::codec::{cbor, protobuf, yaml};
use http::{HeaderMap, header};
use serde::de::IgnoredAny;
use std::{borrow::Cow, io::Read};

/// Levels of nesting that are read of protobuf and CBOR.
const DEEPEST: usize = super::DEEPEST;
/// Values of a YAML text: parsing them is the slowest of all that is done here.
const YAML_NODES: usize = 50_000;
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

    /// What a body says of itself before it becomes long, as far as that can be seen: it may go on behind these bytes.
    pub(in crate::audit) fn beginning(&self) -> Object {
        let unpacked = self.is_gzip.then(|| beginning_of_gzip(self.bytes));
        let plain = unpacked.as_deref().unwrap_or(self.bytes);
        let plain = plain.get(..BEGINNING).unwrap_or(plain);
        if plain.starts_with(protobuf::MAGIC) {
            return beginning_of_protobuf(plain);
        }
        let text = match std::str::from_utf8(plain) {
            Ok(text) => text,
            Err(e) => plain
                .get(..e.valid_up_to())
                .and_then(|valid| std::str::from_utf8(valid).ok())
                .unwrap_or_default(),
        };
        scan::beginning(text)
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
    // A long scalar that many aliases stand for is a bomb as well.
    let aliased = most / text.len().max(1);
    let limits = yaml::Limits { bytes: most, nodes: YAML_NODES, documents: 1, aliased };
    let no_yaml = || Omitted::encoding("it is no YAML document, or has too many values");
    let mut documents = yaml::documents_within(text, limits).map_err(|_| no_yaml())?;
    let value = documents.pop().ok_or_else(no_yaml)?.value;
    let json = serde_json::to_string(&value).map_err(|_| no_yaml())?;
    if json.len() > most { Err(Omitted::Size) } else { Ok(json) }
}

/// Kind and names of an object, of whose message only the beginning is there: the numbers are those of `runtime.Unknown`,
/// `TypeMeta` and `ObjectMeta`, which every object has first. Of a list they are others.
fn beginning_of_protobuf(body: &[u8]) -> Object {
    let mut found = Object::default();
    let text = |field: Option<&[u8]>| {
        field.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default().to_owned()
    };
    let mut raw = &b""[..];
    fields(body.get(protobuf::MAGIC.len()..).unwrap_or_default(), |number, bytes, _| match number {
        1 => fields(bytes, |number, bytes, whole| match number {
            1 => found.api_version = text(whole.then_some(bytes)),
            2 => found.kind = text(whole.then_some(bytes)),
            _ => {}
        }),
        2 => raw = bytes,
        _ => {}
    });
    if found.kind.is_empty() || found.kind.ends_with("List") || found.kind == "Status" {
        return found;
    }
    let mut metadata = None;
    fields(raw, |number, bytes, _| {
        if number == 1 {
            metadata.get_or_insert(bytes);
        }
    });
    let meta = &mut found.meta;
    fields(metadata.unwrap_or_default(), |number, bytes, whole| {
        let field = match number {
            1 => &mut meta.name,
            3 => &mut meta.namespace,
            5 => &mut meta.uid,
            6 => &mut meta.resource_version,
            _ => return,
        };
        *field = text(whole.then_some(bytes));
    });
    found
}

/// The fields of a message that hold bytes, and whether all of their bytes are there.
fn fields<'a>(mut rest: &'a [u8], mut field: impl FnMut(u64, &'a [u8], bool)) {
    fn varint(rest: &mut &[u8]) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, after) = rest.split_first()?;
            *rest = after;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
    while let Some(key) = varint(&mut rest) {
        let skip = match key & 7 {
            0 => {
                if varint(&mut rest).is_none() {
                    return;
                }
                0
            }
            1 => 8,
            5 => 4,
            2 => {
                let Some(length) = varint(&mut rest).and_then(|n| usize::try_from(n).ok()) else { return };
                field(key >> 3, rest.get(..length).unwrap_or(rest), length <= rest.len());
                length
            }
            _ => return,
        };
        rest = rest.get(skip..).unwrap_or_default();
    }
}
