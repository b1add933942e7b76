//! What stands in place of a value: a keyed hash of it.

use crate::codec::tape::{Kind, Tape};
use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{fmt, fmt::Write as _};

/// What every mark begins with.
pub const PREFIX: &str = "gatelog:redacted:hmac-sha256:";
/// Hex digits behind it: 128 of the 256 bits, which is more than enough to tell values apart.
const DIGITS: usize = 32;

/// The key of marks and digests. Two, in fact: a mark is never a part of a digest.
pub struct Key {
    marks: hmac::Key,
    digests: hmac::Key,
}

/// A digest that is being made of a body that is not recorded.
pub struct Digest(hmac::Context);

// === impl Key ===

impl Key {
    /// From at least 32 random bytes that never leave the journal's folder. Whoever has them can try values until a mark is
    /// met; who has not learns nothing but which values are equal.
    pub fn new(secret: &[u8]) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derived = |label: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&secret, label).as_ref());
        Self { marks: derived(b"gatelog redaction marks"), digests: derived(b"gatelog body digests") }
    }

    /// Begins the digest of a body that is not recorded.
    pub fn digest(&self) -> Digest {
        Digest(hmac::Context::with_key(&self.digests))
    }

    /// The mark of a string, or of the bytes that a Secret's `data` holds in base64.
    pub fn mark(&self, value: &[u8]) -> String {
        self.tagged(0, value)
    }

    /// The mark of a Secret's `data` value: of the bytes it stands for, or of itself if it is no base64.
    pub(super) fn mark_base64(&self, value: &str) -> String {
        decoded_base64(value).map_or_else(|| self.mark(value.as_bytes()), |bytes| self.mark(&bytes))
    }

    /// The mark of any value of a text.
    pub(super) fn mark_node(&self, tape: &Tape<'_>, at: usize) -> String {
        if let Kind::Text | Kind::Escaped = tape.kind(at) {
            return self.mark(tape.string(at).as_bytes());
        }
        let mut canonical = String::new();
        tape.canonical(at, &mut canonical);
        self.tagged(1, canonical.as_bytes())
    }

    /// `kind` tells a string from the JSON of something else that reads the same.
    fn tagged(&self, kind: u8, value: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.marks);
        context.update(&[kind]);
        context.update(value);
        let mut mark = String::with_capacity(PREFIX.len() + DIGITS);
        mark.push_str(PREFIX);
        for byte in context.sign().as_ref().iter().take(DIGITS / 2) {
            let _ = write!(mark, "{byte:02x}");
        }
        mark
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Whether `text` is a mark, the whole of it.
pub fn is_mark(text: &str) -> bool {
    text.strip_prefix(PREFIX)
        .is_some_and(|hex| hex.len() == DIGITS && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// What a `data` value stands for; line ends in it do not count, as in Go.
pub(super) fn decoded_base64(value: &str) -> Option<Vec<u8>> {
    if value.contains(['\r', '\n']) {
        return STANDARD.decode(value.replace(['\r', '\n'], "")).ok();
    }
    STANDARD.decode(value).ok()
}

// === impl Digest ===

impl Digest {
    /// The next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// HMAC-SHA256 of all pieces.
    pub fn finish(self) -> hmac::Tag {
        self.0.sign()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn mark(json: &str) -> String {
        let tape = Tape::read(json, 10, &Cell::new(100)).unwrap();
        Key::new(b"k").mark_node(&tape, 0)
    }

    #[test]
    fn equal_values_have_equal_marks() {
        let key = Key::new(b"k");
        assert_eq!(key.mark_base64("aHVudGVyMg=="), key.mark(b"hunter2"));
        assert_eq!(key.mark_base64("aHVu\r\ndGVyMg==\n"), key.mark(b"hunter2"));
        assert_eq!(key.mark_base64("no base64!"), key.mark(b"no base64!"));
        assert_eq!(mark("\"\\u0061\""), key.mark(b"a"));
        assert_eq!(mark("{\"a\":1.0,\"b\":[]}"), mark(" { \"b\" : [ ] , \"a\" : 1 } "));
    }

    #[test]
    fn different_values_have_different_marks() {
        let all = [mark("1"), mark("\"1\""), mark("true"), mark("\"true\""), mark("[1]"), mark("\"[1]\"")];
        for (i, one) in all.iter().enumerate() {
            assert!(is_mark(one), "{one}");
            assert!(all[..i].iter().all(|other| other != one), "{one}");
        }
        assert_ne!(Key::new(b"k").mark(b"a"), Key::new(b"l").mark(b"a"));
    }

    #[test]
    fn a_mark_is_told_from_what_only_begins_like_one() {
        let mark = Key::new(b"k").mark(b"a");
        for text in ["", PREFIX, &mark[1..], &format!("{mark}0"), &format!("{mark} "), &mark.to_uppercase()] {
            assert!(!is_mark(text), "{text}");
        }
    }

    #[test]
    fn a_digest_is_of_all_pieces_and_no_mark() {
        let key = Key::new(b"k");
        let digest = |pieces: &[&[u8]]| {
            let mut digest = key.digest();
            pieces.iter().for_each(|piece| digest.update(piece));
            digest.finish().as_ref().to_vec()
        };
        assert_eq!(digest(&[b"ab", b"", b"c"]), digest(&[b"abc"]));
        assert_ne!(digest(&[b"abc"]), digest(&[b"abd"]));
        assert_eq!(format!("{key:?}"), "Key(..)");
    }
}
