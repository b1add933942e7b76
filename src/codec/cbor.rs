//! CBOR (RFC 8949) as the JSON that Kubernetes means by it, bounded.
//!
//! Its serializer writes Go strings and the names of fields as byte strings, and bytes as byte strings under tag 22
//! ("expected later encoding: base64"). So here a byte string is a text, and a tagged one that text's encoding. Tags that mean nothing to
//! it are passed over; indefinite lengths are read although it never writes them.
//!
//! What it refuses is refused: NaN and infinities, big numbers, integers beyond 64 bits with a sign, simple values other than false,
//! true and null, keys that are no strings, text that is not UTF-8, more than one item. Refused as well, since they have no one reading or
//! nobody writes them: byte strings that are not UTF-8, numeric times, encoding tags around anything but a byte string.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use std::{borrow::Cow, fmt::Write as _};

/// What everything begins with that Kubernetes writes: the tag "self-described CBOR".
pub const MAGIC: &[u8; 3] = b"\xd9\xd9\xf7";

/// How much one body may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Size of the body, in bytes.
    pub bytes: usize,
    /// Arrays, maps and tags inside one another; each level takes some hundred bytes of stack.
    pub depth: usize,
    /// Size of the JSON text, in bytes.
    pub json: usize,
}

/// Why a body is not read. Never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More bytes than allowed, on the wire or as JSON.
    #[error("larger than the allowed {0} bytes")]
    TooLarge(usize),
    /// Arrays in maps in arrays.
    #[error("nested too deeply")]
    TooDeep,
    /// A length goes on after the last byte.
    #[error("it ends early")]
    Early,
    /// Something comes after the one item.
    #[error("something follows its end")]
    Trailing,
    /// Bytes that RFC 8949 gives no meaning.
    #[error("not well-formed")]
    Malformed,
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    NotText,
    /// A map's key is no string.
    #[error("a key is no string")]
    NoKey,
    /// A number or simple value that JSON does not have, or Kubernetes does not take.
    #[error("a value that has no JSON")]
    NoJson,
    /// A tag that changes its content's meaning in a way that is not known.
    #[error("tag {0} is not known here")]
    Tag(u64),
}

/// The one item in `body`, as one line of JSON.
///
/// # Errors
/// See [`Error`].
pub fn to_json(body: &[u8], limits: Limits) -> Result<String, Error> {
    if body.len() > limits.bytes {
        return Err(Error::TooLarge(limits.bytes));
    }
    let likely = body.len().saturating_mul(2).min(limits.json);
    let mut reader = Reader { rest: body, text: String::with_capacity(likely), most: limits.json };
    reader.item(limits.depth)?;
    if reader.rest.is_empty() { Ok(reader.text) } else { Err(Error::Trailing) }
}

/// The first byte of an item and what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    major: u8,
    /// The five bits behind the major type.
    info: u8,
    /// Value, length or count; None: indefinite, or a break.
    argument: Option<u64>,
}

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

struct Reader<'a> {
    rest: &'a [u8],
    text: String,
    most: usize,
}

impl<'a> Reader<'a> {
    fn item(&mut self, depth: usize) -> Result<(), Error> {
        let head = self.head()?;
        match (head.major, head.argument) {
            (UNSIGNED, Some(number)) => self.integer(i64::try_from(number).map_err(|_| Error::NoJson)?),
            (NEGATIVE, Some(number)) => self.integer(-1 - i64::try_from(number).map_err(|_| Error::NoJson)?),
            (BYTES | TEXT, _) => {
                let bytes = self.string(head)?;
                let text = std::str::from_utf8(&bytes).map_err(|_| Error::NotText)?;
                self.push_string(text)?;
            }
            (ARRAY, count) => self.array(count, below(depth)?)?,
            (MAP, count) => self.map(count, below(depth)?)?,
            (TAG, Some(tag)) => self.tagged(tag, below(depth)?)?,
            (7, argument) => self.simple(head.info, argument)?,
            _ => return Err(Error::Malformed),
        }
        self.fits()
    }

    fn head(&mut self) -> Result<Head, Error> {
        let [first] = *self.chunk()?;
        let (major, info) = (first >> 5, first & 0x1f);
        let argument = match info {
            0..=23 => Some(u64::from(info)),
            24 => Some(u64::from(u8::from_be_bytes(*self.chunk()?))),
            25 => Some(u64::from(u16::from_be_bytes(*self.chunk()?))),
            26 => Some(u64::from(u32::from_be_bytes(*self.chunk()?))),
            27 => Some(u64::from_be_bytes(*self.chunk()?)),
            31 if matches!(major, BYTES..=MAP | 7) => None,
            _ => return Err(Error::Malformed),
        };
        Ok(Head { major, info, argument })
    }

    fn chunk<const N: usize>(&mut self) -> Result<&'a [u8; N], Error> {
        let (chunk, rest) = self.rest.split_first_chunk().ok_or(Error::Early)?;
        self.rest = rest;
        Ok(chunk)
    }

    /// Whether the end of something indefinite stands there; takes it.
    fn ends(&mut self) -> Result<bool, Error> {
        let (first, rest) = self.rest.split_first().ok_or(Error::Early)?;
        if *first == 0xff {
            self.rest = rest;
        }
        Ok(*first == 0xff)
    }

    /// A string's bytes, which are those of its pieces if it is indefinite.
    fn string(&mut self, head: Head) -> Result<Cow<'a, [u8]>, Error> {
        if let Some(length) = head.argument {
            return self.take(length).map(Cow::Borrowed);
        }
        let mut whole = Vec::new();
        while !self.ends()? {
            let piece = self.head()?;
            let length = piece.argument.filter(|_| piece.major == head.major).ok_or(Error::Malformed)?;
            let piece = self.take(length)?;
            // Each piece of a text is a text.
            if head.major == TEXT && std::str::from_utf8(piece).is_err() {
                return Err(Error::NotText);
            }
            whole.extend_from_slice(piece);
        }
        Ok(Cow::Owned(whole))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Error> {
        let length = usize::try_from(length).map_err(|_| Error::Early)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::Early)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Whether another of `left` is there; counts it.
    fn more(&mut self, left: &mut Option<u64>) -> Result<bool, Error> {
        match left {
            None => self.ends().map(|ends| !ends),
            Some(0) => Ok(false),
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
        }
    }

    fn array(&mut self, mut left: Option<u64>, depth: usize) -> Result<(), Error> {
        let mut first = true;
        self.text.push('[');
        while self.more(&mut left)? {
            if !std::mem::take(&mut first) {
                self.text.push(',');
            }
            self.item(depth)?;
        }
        self.text.push(']');
        Ok(())
    }

    /// Keys that come twice do so in the text as well.
    fn map(&mut self, mut left: Option<u64>, depth: usize) -> Result<(), Error> {
        let mut first = true;
        self.text.push('{');
        while self.more(&mut left)? {
            if !std::mem::take(&mut first) {
                self.text.push(',');
            }
            let head = self.head()?;
            if !matches!(head.major, BYTES | TEXT) {
                return Err(Error::NoKey);
            }
            let key = self.string(head)?;
            self.push_string(std::str::from_utf8(&key).map_err(|_| Error::NotText)?)?;
            self.text.push(':');
            self.item(depth)?;
        }
        self.text.push('}');
        Ok(())
    }

    fn tagged(&mut self, tag: u64, depth: usize) -> Result<(), Error> {
        match tag {
            // A time as a text is a text.
            0 if self.rest.first().is_some_and(|b| matches!(b >> 5, BYTES | TEXT)) => self.item(depth),
            0..=3 => Err(Error::Tag(tag)),
            21..=23 => {
                let head = self.head()?;
                if head.major != BYTES {
                    return Err(Error::Tag(tag));
                }
                let bytes = self.string(head)?;
                if bytes.len() > self.most {
                    return Err(Error::TooLarge(self.most));
                }
                self.text.push('"');
                match tag {
                    21 => URL_SAFE_NO_PAD.encode_string(&bytes, &mut self.text),
                    22 => STANDARD.encode_string(&bytes, &mut self.text),
                    _ => {
                        for byte in bytes.iter() {
                            // Infallible: it is a string.
                            let _ = write!(self.text, "{byte:02x}");
                        }
                    }
                }
                self.text.push('"');
                self.fits()
            }
            _ => self.item(depth),
        }
    }

    fn simple(&mut self, info: u8, argument: Option<u64>) -> Result<(), Error> {
        let number = match (info, argument) {
            (20, _) => return self.push("false"),
            (21, _) => return self.push("true"),
            (22, _) => return self.push("null"),
            (25, Some(bits)) => half(bits),
            (26, Some(bits)) => f64::from(f32::from_bits(bits as u32)),
            (27, Some(bits)) => f64::from_bits(bits),
            (31, _) => return Err(Error::Malformed),
            _ => return Err(Error::NoJson),
        };
        if !number.is_finite() {
            return Err(Error::NoJson);
        }
        let plain = number == 0.0 || (1e-6..1e21).contains(&number.abs());
        // Infallible: it is a string.
        let _ = if plain { write!(self.text, "{number}") } else { write!(self.text, "{number:e}") };
        Ok(())
    }

    fn integer(&mut self, number: i64) {
        // Infallible: it is a string.
        let _ = write!(self.text, "{number}");
    }

    fn push(&mut self, text: &str) -> Result<(), Error> {
        self.text.push_str(text);
        Ok(())
    }

    fn push_string(&mut self, text: &str) -> Result<(), Error> {
        if text.len() > self.most {
            return Err(Error::TooLarge(self.most));
        }
        // A string has a JSON.
        self.text.push_str(&serde_json::to_string(text).map_err(|_| Error::NotText)?);
        self.fits()
    }

    fn fits(&self) -> Result<(), Error> {
        if self.text.len() > self.most { Err(Error::TooLarge(self.most)) } else { Ok(()) }
    }
}

fn below(depth: usize) -> Result<usize, Error> {
    depth.checked_sub(1).ok_or(Error::TooDeep)
}

/// A number of 16 bits: a sign, five bits of exponent, ten of fraction.
fn half(bits: u64) -> f64 {
    let (exponent, fraction) = (bits >> 10 & 0x1f, (bits & 0x3ff) as f64);
    let size = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent as i32 - 25),
    };
    if bits & 0x8000 == 0 { size } else { -size }
}

#[cfg(test)]
mod tests;
