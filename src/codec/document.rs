//! A body and the JSON that it is, read at most once: when somebody first asks.

use super::{
    cbor, protobuf,
    tape::{Tape, Unreadable},
    yaml,
};
use http::{HeaderMap, header};
use std::{borrow::Cow, cell::Cell, sync::OnceLock};

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/json`, or no type at all.
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
    /// `application/cbor`
    Cbor,
    /// Any other type; patches have theirs.
    Other,
}

/// A body as it came, and what its headers say of it.
#[derive(Debug)]
pub struct Document<'a> {
    bytes: &'a [u8],
    content_type: &'a str,
    read: OnceLock<Result<Tape<'a>, Undecodable>>,
}

/// Why there is no JSON of a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// What is called JSON is none, or holds too much.
    #[error(transparent)]
    Json(#[from] Unreadable),
    /// It is in another format, and cannot be decoded whole.
    #[error("{0}")]
    Encoding(Cow<'static, str>),
    /// The API server may well be able to read it, or read it differently: nothing may be refused for that.
    #[error("{0}")]
    Unsure(Cow<'static, str>),
}

/// Levels of nesting, as in Kubernetes' own decoder.
const DEEPEST: usize = 10_000;
/// Keys and values.
const MOST_NODES: usize = 1 << 21;
/// Bytes of JSON that are made of another format.
const MOST: usize = 64 << 20;

impl Format {
    /// The format that a media type names; parameters and case do not count.
    pub fn of(content_type: &str) -> Self {
        let name = content_type.split(';').next().unwrap_or_default().trim();
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        match () {
            () if name.is_empty() || is("application/json") => Self::Json,
            () if is("application/yaml") => Self::Yaml,
            () if is("application/vnd.kubernetes.protobuf") => Self::Protobuf,
            () if is("application/cbor") => Self::Cbor,
            () => Self::Other,
        }
    }
}

impl<'a> Document<'a> {
    /// A body with these headers.
    pub fn new(headers: &'a HeaderMap, bytes: &'a [u8]) -> Self {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        Self { bytes, content_type: content_type.unwrap_or_default(), read: OnceLock::new() }
    }

    /// The body as it came.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// `Content-Type`, empty if there is none.
    pub fn content_type(&self) -> &'a str {
        self.content_type
    }

    /// How it says it is written.
    pub fn format(&self) -> Format {
        Format::of(self.content_type)
    }

    /// The JSON that it is.
    ///
    /// # Errors
    /// It is none, or more than is read.
    pub fn tape(&self) -> Result<&Tape<'a>, &Undecodable> {
        self.read.get_or_init(|| self.decode()).as_ref()
    }

    fn decode(&self) -> Result<Tape<'a>, Undecodable> {
        let json: Cow<'a, str> = match self.format() {
            Format::Protobuf => {
                let limits = protobuf::json::Limits { bytes: MOST, depth: DEEPEST, json: MOST };
                protobuf::json::to_json(self.bytes, limits).map_err(foreign)?.json.into()
            }
            Format::Cbor => {
                let limits = cbor::Limits { bytes: MOST, depth: DEEPEST, json: MOST };
                cbor::to_json(self.bytes, limits).map_err(foreign)?.into()
            }
            format if format == Format::Yaml || self.content_type.contains("yaml") => {
                let text = std::str::from_utf8(self.bytes).map_err(foreign)?;
                if text.trim_start().starts_with('{') { text.into() } else { of_yaml(text)?.into() }
            }
            _ => return Ok(Tape::of_bytes(self.bytes, DEEPEST, &Cell::new(MOST_NODES))?),
        };
        Ok(Tape::read(json, DEEPEST, &Cell::new(MOST_NODES))?)
    }
}

fn foreign(error: impl std::fmt::Display) -> Undecodable {
    Undecodable::Encoding(error.to_string().into())
}

fn of_yaml(text: &str) -> Result<String, Undecodable> {
    let mut documents = yaml::documents(text).map_err(foreign)?;
    documents.truncate(1);
    let first = documents.pop().ok_or_else(|| foreign("it is empty"))?;
    serde_json::to_string(&first.value).map_err(foreign)
}
