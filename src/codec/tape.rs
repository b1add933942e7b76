//! JSON as places in its own text: one flat list of nodes, so that a rule can look ahead in an object and a value can be
//! replaced without touching a byte beside it.
//!
//! Keys that an object holds twice are kept, both: whoever asks for the members gets all of them, and a rule that fits one
//! of two equal keys fits the other as well.

use std::{borrow::Cow, cell::Cell};

/// A text that is not taken for JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not one JSON text.
    #[error("not JSON")]
    NotJson,
    /// It is nested too deeply.
    #[error("nested too deeply")]
    Depth,
    /// It holds too many values.
    #[error("too many values")]
    Nodes,
    /// It is 4 GiB or more.
    #[error("too large")]
    Size,
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
    kind: Kind,
    start: u32,
    end: u32,
    /// The first node that is not inside this one.
    after: u32,
}

/// A text that is JSON, and its nodes in the order of the text; an object's children are key, value, key, value.
#[derive(Debug)]
pub struct Tape<'a> {
    text: Cow<'a, str>,
    nodes: Vec<Node>,
}

// === impl Tape ===

impl<'a> Tape<'a> {
    /// Reads one JSON text, at most `depth` levels deep, of at most as many nodes (keys included) as are `left`.
    pub fn read(text: impl Into<Cow<'a, str>>, depth: usize, left: &Cell<usize>) -> Result<Self, Unreadable> {
        let text = text.into();
        if u32::try_from(text.len()).is_err() {
            return Err(Unreadable::Size);
        }
        let nodes = Vec::with_capacity((text.len() / 16).clamp(8, 1 << 16));
        let mut reader = Reader { bytes: text.as_bytes(), at: 0, nodes, left };
        reader.value(depth)?;
        if reader.peek().is_some() {
            return Err(Unreadable::NotJson);
        }
        let nodes = reader.nodes;
        Ok(Self { text, nodes })
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What stands at the node; `Null` where there is none. The whole text is node 0.
    pub fn kind(&self, at: usize) -> Kind {
        self.nodes.get(at).map_or(Kind::Null, |n| n.kind)
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

    fn after(&self, at: usize) -> usize {
        // Always forward, so that no walk can hang.
        self.nodes.get(at).map_or(usize::MAX, |n| (n.after as usize).max(at + 1))
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

// === reading ===

struct Reader<'a, 'l> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    left: &'l Cell<usize>,
}

impl Reader<'_, '_> {
    fn value(&mut self, depth: usize) -> Result<(), Unreadable> {
        match self.peek() {
            Some(b'{') => self.nested(Kind::Object, b'}', depth),
            Some(b'[') => self.nested(Kind::Array, b']', depth),
            Some(b'"') => self.string(),
            Some(b't') => self.word(b"true", Kind::Bool),
            Some(b'f') => self.word(b"false", Kind::Bool),
            Some(b'n') => self.word(b"null", Kind::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(Unreadable::NotJson),
        }
    }

    fn nested(&mut self, kind: Kind, close: u8, depth: usize) -> Result<(), Unreadable> {
        let below = depth.checked_sub(1).ok_or(Unreadable::Depth)?;
        let node = self.push(kind, self.at, self.at)?;
        self.at += 1;
        if self.peek() == Some(close) {
            self.at += 1;
        } else {
            loop {
                if kind == Kind::Object {
                    if self.peek() != Some(b'"') {
                        return Err(Unreadable::NotJson);
                    }
                    self.string()?;
                    if self.peek() != Some(b':') {
                        return Err(Unreadable::NotJson);
                    }
                    self.at += 1;
                }
                self.value(below)?;
                let next = self.peek();
                self.at += 1;
                match next {
                    Some(b',') => {}
                    Some(next) if next == close => break,
                    _ => return Err(Unreadable::NotJson),
                }
            }
        }
        let after = self.nodes.len() as u32;
        if let Some(node) = self.nodes.get_mut(node) {
            (node.end, node.after) = (self.at as u32, after);
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), Unreadable> {
        let start = self.at;
        let mut kind = Kind::Text;
        self.at += 1;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let plain = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f));
            self.at += plain.ok_or(Unreadable::NotJson)?;
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => kind = Kind::Escaped,
                _ => return Err(Unreadable::NotJson),
            }
            self.at += match self.bytes.get(self.at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                Some(b'u') => {
                    let digits = self.bytes.get(self.at + 2..self.at + 6);
                    if !digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)) {
                        return Err(Unreadable::NotJson);
                    }
                    6
                }
                _ => return Err(Unreadable::NotJson),
            };
        }
        self.at += 1;
        self.push(kind, start, self.at).map(drop)
    }

    fn word(&mut self, word: &[u8], kind: Kind) -> Result<(), Unreadable> {
        let start = self.at;
        self.at += word.len();
        if self.bytes.get(start..self.at) != Some(word) {
            return Err(Unreadable::NotJson);
        }
        self.push(kind, start, self.at).map(drop)
    }

    fn number(&mut self) -> Result<(), Unreadable> {
        let start = self.at;
        self.at += usize::from(self.next_is(b"-"));
        if self.next_is(b"0") {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.next_is(b".") {
            self.at += 1;
            self.digits()?;
        }
        if self.next_is(b"eE") {
            self.at += 1;
            self.at += usize::from(self.next_is(b"+-"));
            self.digits()?;
        }
        self.push(Kind::Number, start, self.at).map(drop)
    }

    fn digits(&mut self) -> Result<(), Unreadable> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += digits;
        if digits == 0 { Err(Unreadable::NotJson) } else { Ok(()) }
    }

    fn next_is(&self, set: &[u8]) -> bool {
        self.bytes.get(self.at).is_some_and(|b| set.contains(b))
    }

    fn peek(&mut self) -> Option<u8> {
        while self.next_is(b" \t\r\n") {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize) -> Result<usize, Unreadable> {
        self.left.set(self.left.get().checked_sub(1).ok_or(Unreadable::Nodes)?);
        let at = self.nodes.len();
        self.nodes.push(Node { kind, start: start as u32, end: end as u32, after: at as u32 + 1 });
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    fn read(text: &str) -> Result<Tape<'_>, Unreadable> {
        Tape::read(text, 100, &Cell::new(10_000))
    }

    fn canonical(text: &str) -> String {
        let mut out = String::new();
        read(text).unwrap().canonical(0, &mut out);
        out
    }

    #[test]
    fn equal_values_have_one_canonical_text() {
        for (text, want) in [
            (" null ", "null"),
            ("-0", "0"),
            ("1.0", "1"),
            ("10e-1", "1"),
            ("-1.5E3", "-1500"),
            ("0.10", "1e-1"),
            ("1e999", "1e999"),
            ("12345678901234567890123", "12345678901234567890123"),
            (r#"{ "b" : [ 1 , true ] , "a" : "\u0061\/" }"#, r#"{"a":"a/","b":[1,true]}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":1,"a":2}"#),
        ] {
            assert_eq!(canonical(text), want, "{text}");
        }
    }

    #[test]
    fn strings_are_read_as_go_reads_them() {
        for (text, want) in [
            (r#""a b""#, "a b"),
            (r#""\u00e9\n\ud83d\ude00\/\"\\""#, "é\n😀/\"\\"),
            (r#""\ud83d x""#, "\u{fffd} x"),
            (r#""\ude00\ud83d\u0041""#, "\u{fffd}\u{fffd}A"),
            (r#""\b\f\r\t""#, "\u{8}\u{c}\r\t"),
        ] {
            assert_eq!(read(text).unwrap().string(0), want, "{text}");
        }
    }

    #[test]
    fn it_is_bounded() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(read(&nested(100)).is_ok());
        assert_eq!(read(&nested(101)).err(), Some(Unreadable::Depth));
        assert_eq!(read(&"[".repeat(1_000_000)).err(), Some(Unreadable::Depth));
        let wide = format!("[{}]", vec!["1"; 10_000].join(","));
        assert_eq!(read(&wide).err(), Some(Unreadable::Nodes));
    }

    #[test]
    fn members_and_elements_are_found() {
        let tape = read(r#"{"a":[1,{"x":[]},2],"b":{},"a":3}"#).unwrap();
        let members: Vec<_> = tape.members(0).map(|(k, v)| (tape.string(k), tape.raw(v))).collect();
        assert_eq!(members, [("a".into(), r#"[1,{"x":[]},2]"#), ("b".into(), "{}"), ("a".into(), "3")]);
        let array = tape.get(0, "a").next().unwrap();
        let elements: Vec<_> = tape.elements(array).map(|e| tape.raw(e)).collect();
        assert_eq!(elements, ["1", r#"{"x":[]}"#, "2"]);
        assert_eq!(tape.get(0, "a").count(), 2);
    }

    proptest! {
        #[test]
        fn it_accepts_what_serde_json_accepts(
            text in prop_oneof![r#"[\[\]{}",:a\\u0-9e+. -]{0,30}"#, r#"(["{}\[\],:]|"a"|"\\\\n"|true|null|-?[0-9]\.?e?){0,12}"#, any::<String>()]
        ) {
            let theirs = serde_json::from_str::<&RawValue>(&text).is_ok();
            prop_assert_eq!(read(&text).is_ok(), theirs, "{}", text);
        }

        #[test]
        fn strings_are_serde_jsons(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            let tape = read(&json).unwrap();
            prop_assert_eq!(tape.string(0), text);
        }
    }
}
