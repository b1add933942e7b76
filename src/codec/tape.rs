//! JSON as places in its own text: one flat list of nodes, so that a rule can look ahead in an object and a value can be
//! replaced without touching a byte beside it.
//!
//! What is JSON here is what is JSON to Go's `encoding/json`, and so to kube-apiserver: numbers of any size, halves of surrogate
//! pairs, bytes in strings that are no UTF-8 (each is read as U+FFFD), 10,000 levels. What is none is told in Go's words.
//!
//! Keys that an object holds twice are kept, both: whoever asks for the members gets all of them, and a rule that fits one
//! of two equal keys fits the other as well.

mod read;
#[cfg(test)]
pub(super) mod tests;

use read::Reader;
use std::{borrow::Cow, cell::Cell, fmt};

/// A text that is not taken for JSON. What it displays is what kube-apiserver says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not one JSON text.
    #[error(transparent)]
    Syntax(#[from] Syntax),
    /// It is nested too deeply, from this byte (`{` or `[`) on.
    #[error("invalid character '{}' exceeded max depth", *.0 as char)]
    Depth(u8),
    /// It holds too many values; to kube-apiserver none are.
    #[error("too many values")]
    Nodes,
    /// It is 4 GiB or more.
    #[error("too large")]
    Size,
}

/// Where a text stops being JSON, in the words of Go's decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syntax {
    /// How many bytes come before what is wrong.
    pub offset: usize,
    /// The byte that cannot stand there; None where the text ends early. Of a number or literal that ends with the text, Go
    /// says that a blank follows.
    pub found: Option<u8>,
    /// What it stands in place of.
    pub place: &'static str,
}

impl std::error::Error for Syntax {}

impl fmt::Display for Syntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place;
        match self.found {
            None => f.write_str("unexpected end of JSON input"),
            // A byte is a code point to Go, whatever character it is a piece of.
            Some(b'\'') => write!(f, "invalid character '\\'' {place}"),
            Some(b'\\') => write!(f, "invalid character '\\\\' {place}"),
            Some(7) => write!(f, "invalid character '\\a' {place}"),
            Some(8) => write!(f, "invalid character '\\b' {place}"),
            Some(9) => write!(f, "invalid character '\\t' {place}"),
            Some(10) => write!(f, "invalid character '\\n' {place}"),
            Some(11) => write!(f, "invalid character '\\v' {place}"),
            Some(12) => write!(f, "invalid character '\\f' {place}"),
            Some(13) => write!(f, "invalid character '\\r' {place}"),
            Some(byte @ (0..0x20 | 0x7f)) => write!(f, "invalid character '\\x{byte:02x}' {place}"),
            Some(byte @ (0x80..=0xa0 | 0xad)) => write!(f, "invalid character '\\u{byte:04x}' {place}"),
            Some(byte) => write!(f, "invalid character '{}' {place}", char::from(byte)),
        }
    }
}

/// What stands at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// A string without escapes.
    Text,
    /// A string with escapes.
    Escaped,
    /// As it is written.
    Number,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    start: u32,
    end: u32,
    /// The first node that is not inside this one; the kind is in the bits above [`Node::AFTER`].
    after: u32,
}

/// A text that is JSON, and its nodes in the order of the text; an object's children are key, value, key, value.
#[derive(Debug, Clone)]
pub struct Tape<'a> {
    text: Cow<'a, str>,
    nodes: Vec<Node>,
    depth: usize,
    traits: Traits,
}

/// What a text has that most have not, blanks around it excepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traits {
    /// White space between its tokens.
    pub blanks: bool,
    /// `\u` in a string.
    pub unicode_escapes: bool,
    /// A number with an exponent, or of more than 300 characters.
    pub odd_numbers: bool,
}

// === impl Node ===

impl Node {
    const BITS: u32 = 29;
    /// Also the most nodes that a tape has.
    const AFTER: u32 = (1 << Self::BITS) - 1;

    fn new(kind: Kind, start: usize, end: usize, after: usize) -> Self {
        let after = (after as u32 & Self::AFTER) | (kind as u32) << Self::BITS;
        Self { start: start as u32, end: end as u32, after }
    }

    fn kind(self) -> Kind {
        match self.after >> Self::BITS {
            0 => Kind::Object,
            1 => Kind::Array,
            2 => Kind::Text,
            3 => Kind::Escaped,
            4 => Kind::Number,
            5 => Kind::Bool,
            _ => Kind::Null,
        }
    }

    fn after(self) -> usize {
        (self.after & Self::AFTER) as usize
    }
}

// === impl Tape ===

impl<'a> Tape<'a> {
    /// Reads one JSON text, at most `depth` levels deep, of at most as many nodes (keys included) as are `left`.
    ///
    /// # Errors
    /// It is none, or holds more.
    pub fn read(text: impl Into<Cow<'a, str>>, depth: usize, left: &Cell<usize>) -> Result<Self, Unreadable> {
        let text = text.into();
        let Reader { nodes, depth, traits, .. } = Reader::read(text.as_bytes(), depth, left)?;
        Ok(Self { text, nodes, depth, traits })
    }

    /// Reads one JSON text as [`Tape::read`] does. Bytes in strings that are no UTF-8 are read as U+FFFD, each.
    ///
    /// # Errors
    /// It is none, or holds more.
    pub fn of_bytes(bytes: &'a [u8], depth: usize, left: &Cell<usize>) -> Result<Self, Unreadable> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::read(text, depth, left),
            Err(_) => {
                // What is wrong outside of strings is told of the bytes that came.
                Reader::read(bytes, depth, &Cell::new(left.get()))?;
                Self::read(replaced(bytes), depth, left)
            }
        }
    }

    /// What can be seen of a text that may go on behind its last byte, or stop being JSON before: what is open ends there. A key
    /// may be without a value, and is then the last node.
    pub fn beginning(text: &'a str, depth: usize, left: &Cell<usize>) -> Self {
        let Reader { nodes, depth, traits, .. } = Reader::beginning(text.as_bytes(), depth, left);
        Self { text: text.into(), nodes, depth, traits }
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What stands at the node; `Null` where there is none. The whole text is node 0.
    pub fn kind(&self, at: usize) -> Kind {
        self.nodes.get(at).map_or(Kind::Null, |n| n.kind())
    }

    /// How many nodes there are.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Levels of nesting: 0 for a scalar, 1 for `{}`.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// What the text has that most have not.
    pub fn traits(&self) -> Traits {
        self.traits
    }

    /// Bytes of memory that it takes, its text excepted where that is borrowed.
    pub fn weight(&self) -> usize {
        let text = match &self.text {
            Cow::Borrowed(_) => 0,
            Cow::Owned(text) => text.capacity(),
        };
        text + self.nodes.capacity() * size_of::<Node>()
    }

    /// A string, with escapes or without.
    pub fn is_text(&self, at: usize) -> bool {
        matches!(self.kind(at), Kind::Text | Kind::Escaped)
    }

    /// Where the node stands in the text.
    pub fn span(&self, at: usize) -> (usize, usize) {
        self.nodes.get(at).map_or((0, 0), |n| (n.start as usize, n.end as usize))
    }

    /// The node's own text.
    pub fn raw(&self, at: usize) -> &str {
        let (start, end) = self.span(at);
        self.text.get(start..end).unwrap_or_default()
    }

    /// The value of a string, empty for anything else. Halves of surrogate pairs are U+FFFD, as Go reads them.
    pub fn string(&self, at: usize) -> Cow<'_, str> {
        let raw = self.raw(at);
        let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
        match self.kind(at) {
            Kind::Text => Cow::Borrowed(inner),
            Kind::Escaped => Cow::Owned(unescaped(inner)),
            _ => Cow::Borrowed(""),
        }
    }

    /// Null, an empty string, object or array.
    pub fn is_empty(&self, at: usize) -> bool {
        match self.kind(at) {
            Kind::Null => true,
            Kind::Text => self.raw(at).len() == 2,
            Kind::Object | Kind::Array => self.after(at) == at + 1,
            Kind::Escaped | Kind::Number | Kind::Bool => false,
        }
    }

    /// The nodes of an object's members: key and value. Nothing for anything else.
    pub fn members(&self, at: usize) -> impl Iterator<Item = (usize, usize)> + use<'_, 'a> {
        let end = if self.kind(at) == Kind::Object { self.after(at) } else { at };
        let mut next = at + 1;
        std::iter::from_fn(move || {
            (next < end).then(|| {
                let key = next;
                next = self.after(key + 1);
                (key, key + 1)
            })
        })
    }

    /// The nodes of an array's elements. Nothing for anything else.
    pub fn elements(&self, at: usize) -> impl Iterator<Item = usize> + use<'_, 'a> {
        let end = if self.kind(at) == Kind::Array { self.after(at) } else { at };
        let mut next = at + 1;
        std::iter::from_fn(move || {
            (next < end).then(|| {
                let element = next;
                next = self.after(element);
                element
            })
        })
    }

    /// The values of an object's members of exactly that name.
    pub fn get<'t>(&'t self, at: usize, name: &'t str) -> impl Iterator<Item = usize> + 't {
        self.members(at).filter(move |(key, _)| self.string(*key) == name).map(|(_, value)| value)
    }

    /// The same on one line: nothing between the tokens, U+FFFD for halves of surrogate pairs. The members with the keys
    /// `left_out`, in the order of the text, are not there.
    pub fn one_line(&self, left_out: &[usize]) -> Tape<'static> {
        let (start, end) = self.span(0);
        let mut line = Line {
            text: String::with_capacity(end - start),
            nodes: Vec::with_capacity(self.nodes.len()),
            open: Vec::with_capacity(self.depth),
            depth: 0,
        };
        let mut left_out = left_out.iter().copied().peekable();
        let mut at = 0;
        loop {
            line.close(at);
            let Some(node) = self.nodes.get(at) else { break };
            if left_out.next_if_eq(&at).is_some() {
                at = self.after(at + 1);
                continue;
            }
            line.separate();
            match node.kind() {
                kind @ (Kind::Object | Kind::Array) => line.open(kind, node.after()),
                Kind::Escaped if self.traits.unicode_escapes => {
                    let token = self.raw(at);
                    line.push(Kind::Escaped, lone_surrogates(token).as_deref().unwrap_or(token));
                }
                kind => line.push(kind, self.raw(at)),
            }
            at += 1;
        }
        let traits = Traits { blanks: false, ..self.traits };
        Tape { text: line.text.into(), nodes: line.nodes, depth: line.depth, traits }
    }

    /// Whether [`one_line`](Self::one_line) would change nothing of the text of node 0.
    pub fn is_one_line(&self) -> bool {
        let odd = |(i, node): (usize, &Node)| {
            node.kind() == Kind::Escaped && lone_surrogates(self.raw(i)).is_some()
        };
        !(self.traits.blanks || self.traits.unicode_escapes && self.nodes.iter().enumerate().any(odd))
    }

    /// The first node that is not inside this one.
    pub fn after(&self, at: usize) -> usize {
        // Always forward, so that no walk can hang.
        self.nodes.get(at).map_or(usize::MAX, |n| n.after().max(at + 1))
    }

    /// The value with its keys sorted, nothing between its tokens, and its numbers in one spelling.
    pub fn canonical(&self, at: usize, out: &mut String) {
        match self.kind(at) {
            Kind::Object => {
                let mut members: Vec<_> = self.members(at).map(|(k, v)| (self.string(k), v)).collect();
                members.sort_by(|a, b| a.0.cmp(&b.0));
                out.push('{');
                for (i, (key, value)) in members.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { "," });
                    push_string(out, key);
                    out.push(':');
                    self.canonical(*value, out);
                }
                out.push('}');
            }
            Kind::Array => {
                out.push('[');
                for (i, element) in self.elements(at).enumerate() {
                    out.push_str(if i == 0 { "" } else { "," });
                    self.canonical(element, out);
                }
                out.push(']');
            }
            Kind::Text | Kind::Escaped => push_string(out, &self.string(at)),
            Kind::Number => out.push_str(&number(self.raw(at))),
            Kind::Bool | Kind::Null => out.push_str(self.raw(at)),
        }
    }
}

/// A text that is put together, and its nodes.
struct Line {
    text: String,
    nodes: Vec<Node>,
    /// What is open, outermost first.
    open: Vec<Level>,
    depth: usize,
}

struct Level {
    /// The first node of the text that is read that is not inside.
    after: usize,
    node: usize,
    kind: Kind,
    /// What comes before its next child.
    before: &'static str,
}

impl Line {
    /// Closes what ends before the node `at`.
    fn close(&mut self, at: usize) {
        while let Some(level) = self.open.pop_if(|level| level.after <= at) {
            self.text.push(if level.kind == Kind::Object { '}' } else { ']' });
            let after = self.nodes.len();
            if let Some(node) = self.nodes.get_mut(level.node) {
                *node = Node::new(level.kind, node.start as usize, self.text.len(), after);
            }
        }
    }

    fn separate(&mut self) {
        let Some(level) = self.open.last_mut() else { return };
        self.text.push_str(level.before);
        level.before = if level.kind == Kind::Object && level.before != ":" { ":" } else { "," };
    }

    fn open(&mut self, kind: Kind, after: usize) {
        let node = self.nodes.len();
        self.push(kind, if kind == Kind::Object { "{" } else { "[" });
        self.open.push(Level { after, node, kind, before: "" });
        self.depth = self.depth.max(self.open.len());
    }

    fn push(&mut self, kind: Kind, token: &str) {
        let start = self.text.len();
        self.text.push_str(token);
        self.nodes.push(Node::new(kind, start, self.text.len(), self.nodes.len() + 1));
    }
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
    while let Some((plain, _)) = rest.split_once('\\') {
        out.push_str(plain);
        rest = rest.get(plain.len()..).unwrap_or_default();
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
                rest = rest.get(6..).unwrap_or_default();
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

fn push_string(out: &mut String, text: &str) {
    // To write a string as JSON cannot fail.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// `1`, `1.0` and `10e-1` are one number; what a double does not hold exactly stays as it is written.
fn number(raw: &str) -> Cow<'_, str> {
    if raw == "-0" {
        return "0".into();
    }
    if !raw.contains(['.', 'e', 'E']) {
        return raw.into();
    }
    match raw.parse::<f64>() {
        Ok(value) if value.fract() == 0.0 && value.abs() < 9e15 => format!("{}", value as i64).into(),
        Ok(value) if value.is_finite() => format!("{value:e}").into(),
        _ => raw.into(),
    }
}

fn unescaped(inner: &str) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.push_str(plain);
        let mut chars = escape.chars();
        let c = match chars.next() {
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let unit = |text: &str| u32::from_str_radix(text.get(..4)?, 16).ok();
                let high = unit(chars.as_str()).unwrap_or_default();
                let after = escape.get(5..).unwrap_or_default();
                let low = after.strip_prefix("\\u").and_then(unit);
                match (high, low) {
                    (0xd800..=0xdbff, Some(low @ 0xdc00..=0xdfff)) => {
                        let c = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                        out.push(char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER));
                        rest = after.get(6..).unwrap_or_default();
                    }
                    _ => {
                        out.push(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
                        rest = after;
                    }
                }
                continue;
            }
            Some(c) => c,
            None => break,
        };
        out.push(c);
        rest = chars.as_str();
    }
    out.push_str(rest);
    out
}

/// The text that Go reads of bytes that are no UTF-8: U+FFFD for each byte that is no part of a character.
fn replaced(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 64);
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    out
}
