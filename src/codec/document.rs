//! A body and the JSON that it is, read at most once: when somebody first asks.

use super::{
    cbor, goyaml,
    head::Head,
    protobuf,
    tape::{Kind, Tape, Unreadable},
};
use http::{HeaderMap, header};
use std::{borrow::Cow, cell::Cell, collections::HashSet, sync::OnceLock};

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
    read: OnceLock<Result<Decoded<'a>, Undecodable>>,
}

/// A body as JSON, and what the JSON does not tell.
#[derive(Debug)]
struct Decoded<'a> {
    tape: Tape<'a>,
    /// Of YAML; in JSON both stand on the tape.
    duplicates: Vec<String>,
}

/// Why there is no JSON of a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// What is called JSON is none, or holds too much.
    #[error(transparent)]
    Json(#[from] Unreadable),
    /// What is called YAML cannot be read, by kube-apiserver neither; in its words.
    #[error("{0}")]
    Yaml(String),
    /// What is called protobuf is none, or of a type that is not built in.
    #[error(transparent)]
    Protobuf(#[from] protobuf::json::Undecodable),
    /// What is called CBOR is none, or more than is read.
    #[error(transparent)]
    Cbor(#[from] cbor::Error),
    /// The API server may well be able to read it, or read it differently: nothing may be refused for that.
    #[error("{0}")]
    Unsure(Cow<'static, str>),
}

/// Levels of nesting, as in Kubernetes' own decoder.
const DEEPEST: usize = 10_000;
/// The same of protobuf and CBOR, whose readers need stack for each; Go's CBOR stops at 64.
const DEEPEST_BINARY: usize = 128;
/// Keys and values.
const MOST_NODES: usize = 1 << 21;
/// Scalars and collections of YAML, aliases expanded. They cost most of all.
const MOST_YAML_NODES: usize = 1 << 18;
/// Bytes of JSON that are made of another format.
const MOST: usize = 16 << 20;

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
        self.read().map(|read| &read.tape)
    }

    /// What Go's strict decoder says of a YAML body whose keys come twice; None for all else. Of JSON the tape itself holds them.
    pub fn duplicates(&self) -> Option<String> {
        let duplicates = self.read().map_or(&[][..], |read| &read.duplicates);
        let lines: String = duplicates.iter().map(|line| format!("\n  {line}")).collect();
        (!duplicates.is_empty()).then(|| format!("yaml: unmarshal errors:{lines}"))
    }

    fn read(&self) -> Result<&Decoded<'a>, &Undecodable> {
        self.read.get_or_init(|| self.decode()).as_ref()
    }

    /// Type and names, as far as they can be seen: of protobuf of any type, too.
    pub fn head(&self) -> Head {
        match self.tape() {
            Ok(tape) => Head::of_tape(tape),
            Err(_) if self.format() == Format::Protobuf => Head::of_protobuf(self.bytes),
            Err(_) => Head::default(),
        }
    }

    /// Bytes of memory that it takes beside the body, as far as it was read.
    pub fn weight(&self) -> usize {
        self.read.get().and_then(|read| read.as_ref().ok()).map_or(0, |read| read.tape.weight())
    }

    /// Whether its type says so; those of apply patches do as well.
    fn is_called(&self, what: &str) -> bool {
        self.content_type.as_bytes().windows(what.len()).any(|w| w.eq_ignore_ascii_case(what.as_bytes()))
    }

    fn decode(&self) -> Result<Decoded<'a>, Undecodable> {
        let left = Cell::new(MOST_NODES);
        if self.format() == Format::Protobuf {
            let limits = protobuf::json::Limits { bytes: MOST, depth: DEEPEST_BINARY, json: MOST };
            return made(protobuf::json::to_json(self.bytes, limits)?.json);
        }
        if self.is_called("cbor") {
            let limits = cbor::Limits { bytes: MOST, depth: DEEPEST_BINARY, json: MOST };
            return made(cbor::to_json(self.bytes, limits)?);
        }
        if self.is_called("yaml") {
            let Ok(text) = std::str::from_utf8(self.bytes) else {
                return Err(Undecodable::Unsure("it is not UTF-8".into()));
            };
            return of_yaml(text);
        }
        Ok(Tape::of_bytes(self.bytes, DEEPEST, &left)?.into())
    }
}

impl<'a> From<Tape<'a>> for Decoded<'a> {
    fn from(tape: Tape<'a>) -> Self {
        Self { tape, duplicates: Vec::new() }
    }
}

/// What was made of another format can only hold too much.
fn made<'a>(json: String) -> Result<Decoded<'a>, Undecodable> {
    let tape = Tape::read(json, DEEPEST, &Cell::new(MOST_NODES));
    Ok(tape.map_err(|why| Undecodable::Unsure(why.to_string().into()))?.into())
}

fn of_yaml(text: &str) -> Result<Decoded<'_>, Undecodable> {
    if let Some(tape) = json_in_yaml(text) {
        return Ok(tape.into());
    }
    let limits = goyaml::Limits { nodes: MOST_YAML_NODES, json: MOST };
    match goyaml::to_json(text, limits) {
        Ok(read) => Ok(Decoded { duplicates: read.duplicates, ..made(read.json)? }),
        Err(goyaml::Refused::No(why)) => Err(Undecodable::Yaml(why)),
        Err(goyaml::Refused::Unsure(why)) => Err(Undecodable::Unsure(why.into())),
    }
}

/// A JSON object that YAML reads as JSON does: most that is sent as an apply patch is one.
fn json_in_yaml(text: &str) -> Option<Tape<'_>> {
    /// Bytes of a key that YAML surely takes for one.
    const LONGEST_KEY: usize = 1000;
    /// Digits of a number that is an integer to both.
    const LONGEST_NUMBER: usize = 18;
    if !text.trim_ascii_start().starts_with('{') || !goyaml::is_common(text) || text.contains("\\/") {
        return None;
    }
    let tape = Tape::read(text, DEEPEST_BINARY, &Cell::new(MOST_NODES)).ok()?;
    if tape.traits().unicode_escapes {
        return None;
    }
    for at in 0..tape.count() {
        match tape.kind(at) {
            Kind::Number => {
                let raw = tape.raw(at);
                let is_integer = raw.bytes().all(|b| b == b'-' || b.is_ascii_digit());
                if !is_integer || raw.len() > LONGEST_NUMBER || raw == "-0" {
                    return None;
                }
            }
            Kind::Object => {
                let mut keys = HashSet::new();
                let mut members = tape.members(at).map(|(key, _)| key);
                let is_alike = |key: usize| {
                    let behind = text.as_bytes().get(tape.span(key).1);
                    tape.raw(key).len() <= LONGEST_KEY
                        && behind == Some(&b':')
                        && keys.insert(tape.string(key))
                };
                if !members.all(is_alike) {
                    return None;
                }
            }
            _ => {}
        }
    }
    Some(tape)
}

#[cfg(test)]
mod tests;
