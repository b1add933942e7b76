//! The reader: one loop and a stack of what is open, so that depth costs no stack of the thread.

use super::{Kind, Node, Syntax, Traits, Unreadable};
use std::cell::Cell;

/// What was read of a text.
pub(super) struct Reader<'a, 'l> {
    bytes: &'a [u8],
    at: usize,
    pub(super) nodes: Vec<Node>,
    /// The nodes of the objects and arrays that are not closed.
    open: Vec<u32>,
    left: &'l Cell<usize>,
    pub(super) depth: usize,
    pub(super) traits: Traits,
}

type Read<T> = Result<T, Unreadable>;

// Where a byte stands, in Go's words.
const VALUE: &str = "looking for beginning of value";
const KEY: &str = "looking for beginning of object key string";
const AFTER_KEY: &str = "after object key";
const AFTER_PAIR: &str = "after object key:value pair";
const AFTER_ELEMENT: &str = "after array element";
const AFTER_ALL: &str = "after top-level value";
const IN_STRING: &str = "in string literal";
const IN_ESCAPE: &str = "in string escape code";
const IN_HEX: &str = "in \\u hexadecimal character escape";
const IN_NUMBER: &str = "in numeric literal";
const AFTER_POINT: &str = "after decimal point in numeric literal";
const IN_EXPONENT: &str = "in exponent of numeric literal";

/// Nodes that there is room for from the start. Objects have one for about 12 bytes; longer texts are mostly long strings.
const ROOM: std::ops::RangeInclusive<usize> = 8..=1 << 13;

impl<'a, 'l> Reader<'a, 'l> {
    pub(super) fn read(bytes: &'a [u8], depth: usize, left: &'l Cell<usize>) -> Read<Self> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(Unreadable::Size);
        }
        let mut reader = Self::new(bytes, left);
        reader.text(depth)?;
        Ok(reader)
    }

    /// What is read until the text ends or stops being JSON.
    pub(super) fn beginning(bytes: &'a [u8], depth: usize, left: &'l Cell<usize>) -> Self {
        let mut reader = Self::new(bytes, left);
        // That it ends early is known.
        if u32::try_from(bytes.len()).is_ok() && reader.text(depth).is_err() {
            reader.at = bytes.len();
            while let Some(node) = reader.open.last().copied() {
                reader.close(node);
            }
        }
        reader
    }

    fn new(bytes: &'a [u8], left: &'l Cell<usize>) -> Self {
        let nodes = Vec::with_capacity((bytes.len() / 10).clamp(*ROOM.start(), *ROOM.end()));
        let open = Vec::with_capacity(16);
        Self { bytes, at: 0, nodes, open, left, depth: 0, traits: Traits::default() }
    }

    fn text(&mut self, depth: usize) -> Read<()> {
        self.peek();
        self.traits.blanks = false;
        loop {
            self.value(depth)?;
            loop {
                let Some(top) = self.open.last().copied() else { return self.end() };
                let is_object = self.nodes.get(top as usize).is_some_and(|n| n.kind() == Kind::Object);
                match (self.peek(), is_object) {
                    (Some(b','), true) => {
                        self.at += 1;
                        match self.peek() {
                            Some(b'"') => self.key()?,
                            _ => return self.wrong(KEY),
                        }
                        break;
                    }
                    (Some(b','), false) => {
                        self.at += 1;
                        break;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        self.at += 1;
                        self.close(top);
                    }
                    (_, true) => return self.wrong(AFTER_PAIR),
                    (_, false) => return self.wrong(AFTER_ELEMENT),
                }
            }
        }
    }

    /// One scalar, an empty object or array, or the beginnings of others and the first scalar in them.
    fn value(&mut self, depth: usize) -> Read<()> {
        loop {
            match self.peek() {
                Some(b'"') => return self.string(),
                Some(open @ b'{') => {
                    let node = self.open(Kind::Object, open, depth)?;
                    match self.peek() {
                        Some(b'"') => self.key()?,
                        Some(b'}') => {
                            self.at += 1;
                            self.close(node);
                            return Ok(());
                        }
                        _ => return self.wrong(KEY),
                    }
                }
                Some(open @ b'[') => {
                    let node = self.open(Kind::Array, open, depth)?;
                    if self.peek() == Some(b']') {
                        self.at += 1;
                        self.close(node);
                        return Ok(());
                    }
                }
                Some(b'-' | b'0'..=b'9') => return self.number(),
                Some(b't') => {
                    return self.word(
                        b"true",
                        Kind::Bool,
                        [
                            "in literal true (expecting 'r')",
                            "in literal true (expecting 'u')",
                            "in literal true (expecting 'e')",
                            "",
                        ],
                    );
                }
                Some(b'f') => {
                    return self.word(
                        b"false",
                        Kind::Bool,
                        [
                            "in literal false (expecting 'a')",
                            "in literal false (expecting 'l')",
                            "in literal false (expecting 's')",
                            "in literal false (expecting 'e')",
                        ],
                    );
                }
                Some(b'n') => {
                    return self.word(
                        b"null",
                        Kind::Null,
                        [
                            "in literal null (expecting 'u')",
                            "in literal null (expecting 'l')",
                            "in literal null (expecting 'l')",
                            "",
                        ],
                    );
                }
                _ => return self.wrong(VALUE),
            }
        }
    }

    fn open(&mut self, kind: Kind, open: u8, depth: usize) -> Read<u32> {
        if self.open.len() >= depth {
            return Err(Unreadable::Depth(open));
        }
        let node = self.nodes.len() as u32;
        self.push(kind, self.at, self.at)?;
        self.open.push(node);
        self.depth = self.depth.max(self.open.len());
        self.at += 1;
        Ok(node)
    }

    fn close(&mut self, node: u32) {
        self.open.pop();
        let (at, after) = (self.at, self.nodes.len());
        if let Some(node) = self.nodes.get_mut(node as usize) {
            *node = Node::new(node.kind(), node.start as usize, at, after);
        }
    }

    /// A key and its colon.
    fn key(&mut self) -> Read<()> {
        self.string()?;
        match self.peek() {
            Some(b':') => {
                self.at += 1;
                Ok(())
            }
            _ => self.wrong(AFTER_KEY),
        }
    }

    fn end(&mut self) -> Read<()> {
        let blanks = self.traits.blanks;
        match self.peek() {
            Some(_) => self.wrong(AFTER_ALL),
            None => {
                self.traits.blanks = blanks;
                Ok(())
            }
        }
    }

    fn string(&mut self) -> Read<()> {
        let start = self.at;
        let mut kind = Kind::Text;
        self.at += 1;
        loop {
            self.at += plain(self.bytes.get(self.at..).unwrap_or_default());
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    kind = Kind::Escaped;
                    self.at += 1;
                    self.escape()?;
                }
                _ => return self.wrong(IN_STRING),
            }
        }
        self.at += 1;
        self.push(kind, start, self.at)
    }

    fn escape(&mut self) -> Read<()> {
        match self.bytes.get(self.at) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                self.traits.unicode_escapes = true;
                for _ in 0..4 {
                    self.at += 1;
                    if !self.bytes.get(self.at).is_some_and(u8::is_ascii_hexdigit) {
                        return self.wrong_inside(IN_HEX);
                    }
                }
                self.at += 1;
                Ok(())
            }
            _ => self.wrong_inside(IN_ESCAPE),
        }
    }

    fn word(&mut self, word: &[u8], kind: Kind, places: [&'static str; 4]) -> Read<()> {
        let start = self.at;
        if self.bytes.get(start..start + word.len()) != Some(word) {
            for (letter, place) in word.iter().skip(1).zip(places) {
                self.at += 1;
                if self.bytes.get(self.at) != Some(letter) {
                    return self.wrong_inside(place);
                }
            }
        }
        self.at = start + word.len();
        self.push(kind, start, self.at)
    }

    fn number(&mut self) -> Read<()> {
        let start = self.at;
        self.at += usize::from(self.next_is(b'-'));
        if self.next_is(b'0') {
            self.at += 1;
        } else {
            self.digits(IN_NUMBER)?;
        }
        if self.next_is(b'.') {
            self.at += 1;
            self.digits(AFTER_POINT)?;
        }
        if self.next_is(b'e') || self.next_is(b'E') {
            self.traits.odd_numbers = true;
            self.at += 1;
            self.at += usize::from(self.next_is(b'+') || self.next_is(b'-'));
            self.digits(IN_EXPONENT)?;
        }
        self.traits.odd_numbers |= self.at - start > 300;
        self.push(Kind::Number, start, self.at)
    }

    fn digits(&mut self, place: &'static str) -> Read<()> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start { self.wrong_inside(place) } else { Ok(()) }
    }

    fn next_is(&self, byte: u8) -> bool {
        self.bytes.get(self.at) == Some(&byte)
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let mut next = self.bytes.get(self.at).copied();
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = next {
            self.traits.blanks = true;
            self.at += 1;
            next = self.bytes.get(self.at).copied();
        }
        next
    }

    /// What comes next cannot stand here.
    #[cold]
    fn wrong<T>(&self, place: &'static str) -> Read<T> {
        let found = self.bytes.get(self.at).copied();
        Err(Syntax { offset: self.at, found, place }.into())
    }

    /// What comes next cannot stand inside of a token; to Go a blank comes behind the text.
    #[cold]
    fn wrong_inside<T>(&self, place: &'static str) -> Read<T> {
        let found = self.bytes.get(self.at).copied().unwrap_or(b' ');
        Err(Syntax { offset: self.at, found: Some(found), place }.into())
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize) -> Read<()> {
        let after = self.nodes.len() + 1;
        self.left.set(self.left.get().checked_sub(1).ok_or(Unreadable::Nodes)?);
        if after > Node::AFTER as usize {
            return Err(Unreadable::Nodes);
        }
        self.nodes.push(Node::new(kind, start, end, after));
        Ok(())
    }
}

/// How many bytes come before the next that ends a string, escapes, or cannot stand in one.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    // The lowest byte that is 0 has its highest bit set then, and none below it has.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let (words, rest) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = zero(word ^ (ONES * b'"' as u64));
        let backslash = zero(word ^ (ONES * b'\\' as u64));
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let hit = (quote | backslash | control) & (ONES << 7);
        if hit != 0 {
            return i * 8 + (hit.trailing_zeros() / 8) as usize;
        }
    }
    let found = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20));
    bytes.len() - rest.len() + found.unwrap_or(rest.len())
}
