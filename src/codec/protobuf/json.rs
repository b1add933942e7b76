//! Objects of the built-in types as the JSON that kube-apiserver would write of them.
//!
//! A body is decoded whole or not at all: a field that the tables do not know, or one that comes twice, could hide from the record
//! what a server reads. The text is written in one pass, straight from the wire; the fields stand in the order of their
//! numbers. Work and memory are bounded by the body's length, the depth and the length of the text.

mod forms;

use super::tables::{Count, Empty, Field as Known, Form, Message as Table, TABLES, Type};
use super::{Envelope, Error, Field, Message};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{borrow::Cow, fmt::Write as _};

/// How much one body may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Size of the body, in bytes.
    pub bytes: usize,
    /// Messages inside messages; each level takes a few hundred bytes of stack.
    pub depth: usize,
    /// Size of the JSON text, in bytes. What is only implied on the wire can be longer in JSON.
    pub json: usize,
}

/// A body, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// `apps/v1`.
    pub api_version: &'a str,
    /// `Deployment`.
    pub kind: &'a str,
    /// The object: one JSON text without blanks or newlines outside of strings.
    pub json: String,
}

/// Why a body cannot be decoded whole. Never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// It is not what it must be on the wire.
    #[error(transparent)]
    Wire(#[from] Error),
    /// Its JSON would be longer than allowed, in bytes.
    #[error("its JSON is longer than the allowed {0} bytes")]
    TooLong(usize),
    /// Its apiVersion and kind are none of the built-in ones.
    #[error("its kind is not a built-in one")]
    UnknownKind,
    /// The object is compressed, or no protobuf.
    #[error("its content encoding or content type is not that of plain protobuf")]
    Encoded,
    /// A field that the message does not have.
    #[error("{message} has no field {number}")]
    UnknownField {
        /// The message's name.
        message: &'static str,
        /// The field's number.
        number: u32,
    },
    /// A field that a message has once.
    #[error("field {number} of {message} comes twice")]
    Twice {
        /// The message's name.
        message: &'static str,
        /// The field's number.
        number: u32,
    },
    /// A number, time or quantity that the type does not have.
    #[error("field {number} of {message} is out of range")]
    OutOfRange {
        /// The message's name.
        message: &'static str,
        /// The field's number.
        number: u32,
    },
    /// Something that must be JSON is not.
    #[error("{0} holds what is no JSON")]
    NotJson(&'static str),
}

/// The object in a body, as JSON.
///
/// # Errors
/// See [`Undecodable`].
pub fn to_json(body: &[u8], limits: Limits) -> Result<Decoded<'_>, Undecodable> {
    if body.len() > limits.bytes {
        return Err(Error::TooLarge(limits.bytes).into());
    }
    let envelope = open(body)?;
    let mut json = Json::new(body.len(), limits);
    json.envelope(envelope, limits.depth)?;
    Ok(Decoded { api_version: envelope.api_version, kind: envelope.kind, json: json.text })
}

/// One frame of a watch, as JSON: `{"type":"ADDED","object":{…}}`.
///
/// # Errors
/// See [`Undecodable`].
pub fn event_to_json(frame: &[u8], limits: Limits) -> Result<String, Undecodable> {
    if frame.len() > limits.bytes {
        return Err(Error::TooLarge(limits.bytes).into());
    }
    let of = TABLES.watch_event().ok_or(Undecodable::UnknownKind)?;
    let mut json = Json::new(frame.len(), limits);
    json.message(of, frame, limits.depth)?;
    Ok(json.text)
}

/// A frame, and what follows it.
pub type Split<'a> = (&'a [u8], &'a [u8]);

/// The first frame of a watch's bytes, and what follows it; None: it is not all there yet. A frame has its length before
/// it, four bytes, the highest first.
///
/// # Errors
/// The frame is longer than `longest` bytes.
pub fn frame(stream: &[u8], longest: usize) -> Result<Option<Split<'_>>, Error> {
    let Some((length, rest)) = stream.split_first_chunk() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > longest {
        return Err(Error::TooLarge(longest));
    }
    Ok(rest.split_at_checked(length))
}

/// The envelope, which must have nothing else in it.
fn open(body: &[u8]) -> Result<Envelope<'_>, Undecodable> {
    let envelope = Envelope::read(body, super::Limits { bytes: body.len(), depth: 1 })?;
    for field in Message::new(body.get(super::MAGIC.len()..).unwrap_or_default(), 1) {
        let field = field?;
        match field.number {
            1 => {
                for inner in field.message()? {
                    let number = inner?.number;
                    if number > 2 {
                        return Err(Undecodable::UnknownField { message: "TypeMeta", number });
                    }
                }
            }
            2..=4 => {}
            number => return Err(Undecodable::UnknownField { message: "Unknown", number }),
        }
    }
    let protobuf = matches!(envelope.content_type, "" | "application/vnd.kubernetes.protobuf");
    if !envelope.content_encoding.is_empty() || !protobuf {
        return Err(Undecodable::Encoded);
    }
    Ok(envelope)
}

/// The fields of a message in the order of their numbers, which is how nearly everybody writes them. The sort keeps the order of
/// those with one number.
fn in_order(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    let mut fields = Message::new(bytes, 0);
    let mut last = 0;
    loop {
        match fields.next() {
            None => return Ok(Cow::Borrowed(bytes)),
            Some(field) if field?.number < last => break,
            Some(field) => last = field?.number,
        }
    }
    let mut fields = Message::new(bytes, 0);
    let mut parts = Vec::new();
    loop {
        let before = fields.rest;
        let Some(field) = fields.next() else { break };
        let length = before.len() - fields.rest.len();
        parts.push((field?.number, before.get(..length).unwrap_or_default()));
    }
    parts.sort_by_key(|(number, _)| *number);
    Ok(Cow::Owned(parts.iter().flat_map(|(_, part)| *part).copied().collect()))
}

/// JSON that is being written.
struct Json {
    text: String,
    most: usize,
}

impl Json {
    fn new(body: usize, limits: Limits) -> Self {
        let likely = body.saturating_mul(2).min(limits.json);
        Self { text: String::with_capacity(likely), most: limits.json }
    }

    fn envelope(&mut self, envelope: Envelope<'_>, depth: usize) -> Result<(), Undecodable> {
        let of = TABLES.kind(envelope.api_version, envelope.kind).ok_or(Undecodable::UnknownKind)?;
        self.text.push_str("{\"kind\":");
        self.string(envelope.kind)?;
        self.text.push_str(",\"apiVersion\":");
        self.string(envelope.api_version)?;
        self.members(of, envelope.raw, depth, &mut false)?;
        self.text.push('}');
        self.fits()
    }

    fn message(&mut self, of: &'static Table, bytes: &[u8], depth: usize) -> Result<(), Undecodable> {
        if of.form != Form::Object {
            return self.form(of, bytes, depth);
        }
        self.text.push('{');
        self.members(of, bytes, depth, &mut true)?;
        self.text.push('}');
        self.fits()
    }

    /// The members of an object; `first` is whether none stands before them.
    fn members(
        &mut self,
        of: &'static Table,
        bytes: &[u8],
        depth: usize,
        first: &mut bool,
    ) -> Result<(), Undecodable> {
        let bytes = in_order(bytes)?;
        let mut fields = Message::new(&bytes, 0);
        let mut next = fields.next().transpose()?;
        for known in &of.fields {
            let Some(value) = next.filter(|field| field.number == known.number) else {
                self.absent(known, depth, first)?;
                continue;
            };
            next = match known.count {
                Count::One | Count::Pointer | Count::Inline => {
                    self.one(of, known, value, depth, first)?;
                    fields.next().transpose()?
                }
                Count::List => self.list(of, known, value, &mut fields, depth, first)?,
                Count::Map => self.map(of, known, value, &mut fields, depth, first)?,
            };
            if let Some(Field { number, .. }) = next.filter(|field| field.number == known.number) {
                return Err(Undecodable::Twice { message: of.name, number });
            }
        }
        match next {
            None => Ok(()),
            Some(field) => Err(Undecodable::UnknownField { message: of.name, number: field.number }),
        }
    }

    /// A field that is not there.
    fn absent(&mut self, known: &'static Known, depth: usize, first: &mut bool) -> Result<(), Undecodable> {
        match (known.count, known.of) {
            (Count::Inline, Type::Message(at)) => self.members(table(at)?, &[], below(depth)?, first),
            (Count::One, Type::Message(at)) if table(at)?.form != Form::List => {
                if known.empty == Empty::Dropped {
                    return Ok(());
                }
                self.key(known, first);
                self.message(table(at)?, &[], below(depth)?)
            }
            _ if known.empty != Empty::Shown => Ok(()),
            (count, of) => {
                self.key(known, first);
                self.text.push_str(match (count, of) {
                    (Count::One, Type::Text) => "\"\"",
                    (Count::One, Type::Int | Type::Long | Type::Double) => "0",
                    (Count::One, Type::Flag) => "false",
                    _ => "null",
                });
                self.fits()
            }
        }
    }

    fn one(
        &mut self,
        of: &'static Table,
        known: &'static Known,
        value: Field<'_>,
        depth: usize,
        first: &mut bool,
    ) -> Result<(), Undecodable> {
        if let (Count::Inline, Type::Message(at)) = (known.count, known.of) {
            return self.members(table(at)?, value.bytes()?, below(depth)?, first);
        }
        let hidden = known.count == Count::One
            && known.empty != Empty::Shown
            && match known.of {
                Type::Text | Type::Bytes => value.bytes()?.is_empty(),
                Type::Int | Type::Long | Type::Flag => value.number()? == 0,
                Type::Double => value.double()? == 0.0,
                Type::Message(at) => {
                    let may_be = known.empty == Empty::Dropped || table(at)?.form == Form::List;
                    may_be && value.bytes()?.is_empty()
                }
            };
        if hidden {
            return Ok(());
        }
        let (start, was_first) = (self.text.len(), *first);
        self.key(known, first);
        self.value(of, known.of, value, depth)?;
        if known.empty == Empty::Dropped && self.text.ends_with(":null") {
            self.text.truncate(start);
            *first = was_first;
        }
        Ok(())
    }

    /// The values of a list; gives what follows them.
    fn list<'a>(
        &mut self,
        of: &'static Table,
        known: &'static Known,
        value: Field<'a>,
        fields: &mut Message<'a>,
        depth: usize,
        first: &mut bool,
    ) -> Result<Option<Field<'a>>, Undecodable> {
        self.key(known, first);
        self.values(of, known, value, fields, depth)
    }

    /// The values of a list without its key.
    fn values<'a>(
        &mut self,
        of: &'static Table,
        known: &'static Known,
        mut value: Field<'a>,
        fields: &mut Message<'a>,
        depth: usize,
    ) -> Result<Option<Field<'a>>, Undecodable> {
        self.text.push('[');
        let next = loop {
            self.value(of, known.of, value, depth)?;
            match fields.next().transpose()? {
                Some(next) if next.number == known.number => value = next,
                next => break next,
            }
            self.text.push(',');
        };
        self.text.push(']');
        self.fits()?;
        Ok(next)
    }

    /// The entries of a map, sorted; of two under one key, the later counts. Gives what follows them.
    fn map<'a>(
        &mut self,
        of: &'static Table,
        known: &'static Known,
        mut entry: Field<'a>,
        fields: &mut Message<'a>,
        depth: usize,
        first: &mut bool,
    ) -> Result<Option<Field<'a>>, Undecodable> {
        let depth = below(depth)?;
        let mut entries = Vec::new();
        let next = loop {
            let (mut key, mut value) = ("", None);
            for field in Message::new(entry.bytes()?, 0) {
                let field = field?;
                match field.number {
                    1 => key = field.text()?,
                    2 if value.is_none() => value = Some(field),
                    2 => return Err(Undecodable::Twice { message: of.name, number: known.number }),
                    _ => return Err(Undecodable::UnknownField { message: of.name, number: known.number }),
                }
            }
            entries.push((key, value));
            match fields.next().transpose()? {
                Some(next) if next.number == known.number => entry = next,
                next => break next,
            }
        };
        entries.sort_by_key(|(key, _)| *key);
        self.key(known, first);
        self.text.push('{');
        let mut first = true;
        let mut entries = entries.into_iter().peekable();
        while let Some((key, value)) = entries.next() {
            if entries.peek().is_some_and(|(next, _)| *next == key) {
                continue;
            }
            if !std::mem::take(&mut first) {
                self.text.push(',');
            }
            self.string(key)?;
            self.text.push(':');
            match (value, known.of) {
                (Some(value), _) => self.value(of, known.of, value, depth)?,
                (None, Type::Message(at)) => self.message(table(at)?, &[], below(depth)?)?,
                (None, Type::Text | Type::Bytes) => self.text.push_str("\"\""),
                (None, Type::Int | Type::Long | Type::Double) => self.text.push('0'),
                (None, Type::Flag) => self.text.push_str("false"),
            }
        }
        self.text.push('}');
        self.fits()?;
        Ok(next)
    }

    fn value(
        &mut self,
        of: &'static Table,
        what: Type,
        value: Field<'_>,
        depth: usize,
    ) -> Result<(), Undecodable> {
        let out_of_range = || Undecodable::OutOfRange { message: of.name, number: value.number };
        match what {
            Type::Text => return self.string(value.text()?),
            Type::Bytes => {
                self.text.push('"');
                STANDARD.encode_string(value.bytes()?, &mut self.text);
                self.text.push('"');
            }
            // A server would take the lower half of a longer one.
            Type::Int => self.number(i32::try_from(value.number()?).map_err(|_| out_of_range())?.into()),
            Type::Long => self.number(value.number()?),
            Type::Flag => self.text.push_str(if value.flag()? { "true" } else { "false" }),
            Type::Double => {
                let number = value.double()?;
                if !number.is_finite() {
                    return Err(out_of_range());
                }
                let plain = number == 0.0 || (1e-6..1e21).contains(&number.abs());
                // Infallible: it is a string.
                let _ = if plain { write!(self.text, "{number}") } else { write!(self.text, "{number:e}") };
            }
            Type::Message(at) => return self.message(table(at)?, value.bytes()?, below(depth)?),
        }
        self.fits()
    }

    fn key(&mut self, known: &Known, first: &mut bool) {
        self.text.push_str(if std::mem::take(first) { "\"" } else { ",\"" });
        self.text.push_str(known.name);
        self.text.push_str("\":");
    }

    fn number(&mut self, number: i64) {
        // Infallible: it is a string.
        let _ = write!(self.text, "{number}");
    }

    fn string(&mut self, text: &str) -> Result<(), Undecodable> {
        self.text.push('"');
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|b| b < 0x20 || b == b'"' || b == b'\\') {
            let (plain, from) = rest.split_at(at);
            self.text.push_str(plain);
            let mut chars = from.chars();
            match chars.next() {
                Some('\n') => self.text.push_str("\\n"),
                Some('\t') => self.text.push_str("\\t"),
                Some('\r') => self.text.push_str("\\r"),
                Some(quoted @ ('"' | '\\')) => self.text.extend(['\\', quoted]),
                other => {
                    // Infallible: it is a string.
                    let _ = write!(self.text, "\\u{:04x}", other.map_or(0, u32::from));
                }
            }
            rest = chars.as_str();
            self.fits()?;
        }
        self.text.push_str(rest);
        self.text.push('"');
        self.fits()
    }

    fn fits(&self) -> Result<(), Undecodable> {
        if self.text.len() > self.most { Err(Undecodable::TooLong(self.most)) } else { Ok(()) }
    }
}

fn below(depth: usize) -> Result<usize, Error> {
    depth.checked_sub(1).ok_or(Error::TooDeep)
}

fn table(at: usize) -> Result<&'static Table, Undecodable> {
    TABLES.message(at).ok_or(Undecodable::UnknownKind)
}

#[cfg(test)]
mod tests;
