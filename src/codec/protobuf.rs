//! Protobuf as Kubernetes uses it: the wire format, and the envelope around every object.
//!
//! A body is `k8s\0` and then a `runtime.Unknown`: apiVersion and kind, and the object's own message as bytes. What the fields of
//! a message mean is for its reader to know; here are only the bytes. Every step is bounded by the bytes that are there and by a
//! depth; groups, which nobody has written for twenty years, are refused.

pub mod json;
mod tables;

use std::fmt;

/// What every body begins with.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// How much one body may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Size of the body, in bytes.
    pub bytes: usize,
    /// Messages inside messages.
    pub depth: usize,
}

/// A body without its object's own fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// `authorization.k8s.io/v1`; may be empty.
    pub api_version: &'a str,
    /// `SelfSubjectAccessReview`; may be empty.
    pub kind: &'a str,
    /// The object's message.
    pub raw: &'a [u8],
    /// How `raw` is compressed; empty: it is not.
    pub content_encoding: &'a str,
    /// What `raw` is; empty: protobuf.
    pub content_type: &'a str,
}

/// The fields of a message, one after the other. Ends with the first error.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    rest: &'a [u8],
    depth: usize,
}

/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its number, at least 1.
    pub number: u32,
    /// Its value.
    pub value: Value<'a>,
    /// Levels left for what it holds.
    depth: usize,
}

/// What a field holds, as far as the wire tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer or a boolean; negative ones as their two's complement.
    Number(u64),
    /// A string, bytes, or a message.
    Bytes(&'a [u8]),
    /// Eight bytes: the bits of a floating-point number.
    Eight(u64),
    /// Four bytes, which no Kubernetes type has.
    Fixed,
}

/// What is wrong with a text. Never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not begin with `k8s\0`.
    #[error("not a protobuf message: expected the prefix k8s\\0")]
    NoMagic,
    /// More bytes than allowed.
    #[error("larger than the allowed {0} bytes")]
    TooLarge(usize),
    /// Messages inside messages inside messages.
    #[error("nested too deeply")]
    TooDeep,
    /// A length or a number goes on after the last byte.
    #[error("it ends early")]
    Early,
    /// A number of more than 64 bits.
    #[error("a number is longer than 64 bits")]
    LongNumber,
    /// A field's number is 0 or too large, or its type does not exist or is a group.
    #[error("a field that cannot be")]
    NoField,
    /// The field is of another type than its reader knows.
    #[error("field {0} is of an unexpected type")]
    WrongType(u32),
    /// A string is not UTF-8.
    #[error("field {0} is not UTF-8")]
    NotText(u32),
}

impl<'a> Envelope<'a> {
    /// Takes a body apart. Of a member that comes twice, the last counts.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn read(body: &'a [u8], limits: Limits) -> Result<Self, Error> {
        if body.len() > limits.bytes {
            return Err(Error::TooLarge(limits.bytes));
        }
        let unknown = body.strip_prefix(MAGIC).ok_or(Error::NoMagic)?;
        let mut envelope = Self::default();
        for field in Message::new(unknown, limits.depth) {
            let field = field?;
            match field.number {
                1 => {
                    for field in field.message()? {
                        let field = field?;
                        match field.number {
                            1 => envelope.api_version = field.text()?,
                            2 => envelope.kind = field.text()?,
                            _ => {}
                        }
                    }
                }
                2 => envelope.raw = field.bytes()?,
                3 => envelope.content_encoding = field.text()?,
                4 => envelope.content_type = field.text()?,
                _ => {}
            }
        }
        Ok(envelope)
    }

    /// The body.
    pub fn write(&self) -> Vec<u8> {
        let mut unknown = Writer(Vec::with_capacity(self.raw.len() + 96));
        unknown.0.extend_from_slice(MAGIC);
        unknown.message(1, |of| {
            of.text(1, self.api_version);
            of.text(2, self.kind);
        });
        unknown.bytes(2, self.raw);
        unknown.text(3, self.content_encoding);
        unknown.text(4, self.content_type);
        unknown.0
    }
}

impl<'a> Message<'a> {
    /// The fields in `bytes`; messages in them may nest `depth` deep.
    pub fn new(bytes: &'a [u8], depth: usize) -> Self {
        Self { rest: bytes, depth }
    }

    fn field(&mut self) -> Result<Field<'a>, Error> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| Error::NoField)?;
        if number == 0 || number > LARGEST_NUMBER {
            return Err(Error::NoField);
        }
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Eight(self.eight()?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Error::Early)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Error::NoField),
        };
        Ok(Field { number, value, depth: self.depth })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::Early)?;
        self.rest = rest;
        Ok(taken)
    }

    fn eight(&mut self) -> Result<u64, Error> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Error::Early)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(Error::Early)?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            value |= bits << shift;
            if value >> shift != bits {
                return Err(Error::LongNumber);
            }
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::LongNumber)
    }
}

/// The largest number a field may have.
const LARGEST_NUMBER: u32 = (1 << 29) - 1;

impl<'a> Iterator for Message<'a> {
    type Item = Result<Field<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Field<'a> {
    /// The integer it is.
    ///
    /// # Errors
    /// It is none.
    pub fn number(self) -> Result<i64, Error> {
        match self.value {
            Value::Number(number) => Ok(number.cast_signed()),
            Value::Bytes(_) | Value::Eight(_) | Value::Fixed => Err(Error::WrongType(self.number)),
        }
    }

    /// The boolean it is.
    ///
    /// # Errors
    /// It is none.
    pub fn flag(self) -> Result<bool, Error> {
        self.number().map(|number| number != 0)
    }

    /// The bytes it is.
    ///
    /// # Errors
    /// It is a number.
    pub fn bytes(self) -> Result<&'a [u8], Error> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Number(_) | Value::Eight(_) | Value::Fixed => Err(Error::WrongType(self.number)),
        }
    }

    /// The floating-point number it is.
    ///
    /// # Errors
    /// It is none.
    pub fn double(self) -> Result<f64, Error> {
        match self.value {
            Value::Eight(bits) => Ok(f64::from_bits(bits)),
            Value::Number(_) | Value::Bytes(_) | Value::Fixed => Err(Error::WrongType(self.number)),
        }
    }

    /// The string it is.
    ///
    /// # Errors
    /// It is none.
    pub fn text(self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Error::NotText(self.number))
    }

    /// The message it is.
    ///
    /// # Errors
    /// It is none, or one too deep.
    pub fn message(self) -> Result<Message<'a>, Error> {
        let depth = self.depth.checked_sub(1).ok_or(Error::TooDeep)?;
        Ok(Message::new(self.bytes()?, depth))
    }
}

/// A message that is being written. Writes what it is told to, zeros and empty strings included, as Go does.
#[derive(Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// The message that `write` writes.
    pub fn of(write: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut writer = Self::default();
        write(&mut writer);
        writer.0
    }

    /// An integer.
    pub fn number(&mut self, field: u32, number: i64) {
        self.varint(u64::from(field) << 3);
        self.varint(number.cast_unsigned());
    }

    /// A boolean.
    pub fn flag(&mut self, field: u32, flag: bool) {
        self.number(field, i64::from(flag));
    }

    /// Bytes.
    pub fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A string.
    pub fn text(&mut self, field: u32, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    /// Every string of a list.
    pub fn texts(&mut self, field: u32, texts: &[String]) {
        texts.iter().for_each(|text| self.text(field, text));
    }

    /// A message.
    pub fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        let message = Self::of(write);
        self.bytes(field, &message);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

impl fmt::Debug for Writer {
    /// What is written may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { bytes: 1 << 20, depth: 8 };

    fn fields(bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>, Error> {
        Message::new(bytes, 8).map(|field| field.map(|f| (f.number, f.value))).collect()
    }

    #[test]
    fn fields_are_read_as_they_are() {
        use Value::{Bytes, Eight, Fixed, Number};
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        for (bytes, want) in [
            (&b""[..], vec![]),
            (&[8, 0], vec![(1, Number(0))]),
            (&[8, 0x96, 1, 18, 2, b'h', b'i'], vec![(1, Number(150)), (2, Bytes(b"hi"))]),
            (&[&[8][..], &most].concat(), vec![(1, Number(u64::MAX))]),
            (&[13, 1, 2, 3, 4, 8, 1], vec![(1, Fixed), (1, Number(1))]),
            (&[9, 1, 2, 3, 4, 5, 6, 7, 8, 8, 1], vec![(1, Eight(0x0807_0605_0403_0201)), (1, Number(1))]),
            (&[0xfa, 0xff, 0xff, 0xff, 0x0f, 0], vec![(LARGEST_NUMBER, Bytes(b""))]),
            // Longer than it need be, but 64 bits.
            (&[8, 0x81, 0x80, 0], vec![(1, Number(1))]),
        ] {
            assert_eq!(fields(bytes), Ok(want), "{bytes:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (bytes, why) in [
            (&[8][..], Error::Early),
            (&[8, 0x80], Error::Early),
            (&[18, 3, 1, 2], Error::Early),
            (&[18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], Error::Early),
            (&[13, 1, 2, 3], Error::Early),
            (&[9, 1, 2, 3, 4, 5, 6, 7], Error::Early),
            (&[0, 0], Error::NoField),
            (&[11], Error::NoField),
            (&[12], Error::NoField),
            (&[14, 0], Error::NoField),
            (&[15, 0], Error::NoField),
            (&[0x80, 0x80, 0x80, 0x80, 0x10, 0], Error::NoField),
            (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1, 0], Error::NoField),
            (&[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], Error::LongNumber),
            (&[8, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0], Error::LongNumber),
        ] {
            assert_eq!(fields(bytes), Err(why), "{bytes:?}");
            assert!(Message::new(bytes, 8).count() <= 2, "{bytes:?}");
        }
    }

    #[test]
    fn values_are_what_their_reader_takes_them_for() {
        let field = |value| Field { number: 7, value, depth: 1 };
        let wrong = Error::WrongType(7);
        assert_eq!(field(Value::Number(u64::MAX)).number(), Ok(-1));
        assert_eq!(field(Value::Number(2)).flag(), Ok(true));
        assert_eq!(field(Value::Bytes(b"x")).number(), Err(wrong));
        assert_eq!(field(Value::Number(1)).text(), Err(wrong));
        assert_eq!(field(Value::Fixed).number(), Err(wrong));
        assert_eq!(field(Value::Fixed).bytes(), Err(wrong));
        assert_eq!(field(Value::Eight(1.5f64.to_bits())).double(), Ok(1.5));
        assert_eq!(field(Value::Eight(0)).number(), Err(wrong));
        assert_eq!(field(Value::Number(0)).double(), Err(wrong));
        assert_eq!(field(Value::Bytes(b"\xff")).text(), Err(Error::NotText(7)));
        let deep = field(Value::Bytes(&[10, 0])).message().unwrap().next().unwrap().unwrap();
        assert_eq!(deep.message().map(drop), Err(Error::TooDeep));
    }

    #[test]
    fn an_envelope_and_back() {
        let envelope = Envelope { api_version: "v1", kind: "Secret", raw: &[8, 1], ..Envelope::default() };
        let body = envelope.write();
        assert_eq!(&body, b"k8s\0\x0a\x0c\x0a\x02v1\x12\x06Secret\x12\x02\x08\x01\x1a\0\"\0");
        assert_eq!(Envelope::read(&body, LIMITS), Ok(envelope));
        assert_eq!(Envelope::read(b"k8s\0", LIMITS), Ok(Envelope::default()));
        // The last of two counts, and what is not known is passed over.
        let twice = [&body[..], b"\x12\x01x\x3a\x01y"].concat();
        assert_eq!(Envelope::read(&twice, LIMITS), Ok(Envelope { raw: b"x", ..envelope }));
        for (bytes, why) in [
            (&b""[..], Error::NoMagic),
            (b"k8s", Error::NoMagic),
            (b"{\"kind\":1}", Error::NoMagic),
            (b"k8s\0\x08\x01", Error::WrongType(1)),
            (b"k8s\0\x12\x05x", Error::Early),
            (b"k8s\0\x0a\x03\x0a\x01\xff", Error::NotText(1)),
        ] {
            assert_eq!(Envelope::read(bytes, LIMITS), Err(why), "{bytes:?}");
        }
        let small = Limits { bytes: 8, depth: 8 };
        assert_eq!(Envelope::read(&body, small), Err(Error::TooLarge(8)));
        assert_eq!(Envelope::read(&body, Limits { depth: 0, ..LIMITS }), Err(Error::TooDeep));
    }

    /// Reads all there is, whatever it may mean.
    fn read_through(message: Message<'_>) -> usize {
        message
            .map_while(Result::ok)
            .map(|field| 1 + field.message().map_or(0, read_through) + usize::from(field.text().is_ok()))
            .sum()
    }

    #[derive(Debug, Clone, PartialEq)]
    enum Tree {
        Number(i64),
        Text(String),
        Message(Vec<(u32, Self)>),
    }

    fn write(writer: &mut Writer, fields: &[(u32, Tree)]) {
        for (number, tree) in fields {
            match tree {
                Tree::Number(n) => writer.number(*number, *n),
                Tree::Text(text) => writer.text(*number, text),
                Tree::Message(fields) => writer.message(*number, |of| write(of, fields)),
            }
        }
    }

    fn same(message: Message<'_>, fields: &[(u32, Tree)]) -> bool {
        let read: Vec<Field<'_>> = message.collect::<Result<_, _>>().unwrap();
        read.len() == fields.len()
            && read.iter().zip(fields).all(|(field, (number, tree))| {
                field.number == *number
                    && match tree {
                        Tree::Number(n) => field.number() == Ok(*n),
                        Tree::Text(text) => field.text() == Ok(text),
                        Tree::Message(fields) => same(field.message().unwrap(), fields),
                    }
            })
    }

    fn any_fields() -> impl Strategy<Value = Vec<(u32, Tree)>> {
        let leaf =
            prop_oneof![any::<i64>().prop_map(Tree::Number), any::<String>().prop_map(Tree::Text)].boxed();
        let tree = leaf.prop_recursive(5, 30, 5, |inner| {
            prop::collection::vec((1..=LARGEST_NUMBER, inner), 0..5).prop_map(Tree::Message)
        });
        prop::collection::vec((1..=LARGEST_NUMBER, tree), 0..6)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(fields in any_fields()) {
            let bytes = Writer::of(|writer| write(writer, &fields));
            prop_assert!(same(Message::new(&bytes, 8), &fields));
            let envelope = Envelope { api_version: "v1", kind: "X", raw: &bytes, ..Envelope::default() };
            let body = envelope.write();
            prop_assert_eq!(Envelope::read(&body, LIMITS), Ok(envelope));
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), deep in 0usize..40) {
            let count = read_through(Message::new(&bytes, deep));
            prop_assert!(count <= (bytes.len() + 1) * (deep + 2));
            let _ = Envelope::read(&bytes, LIMITS);
            let _ = Envelope::read(&[MAGIC, &bytes[..]].concat(), LIMITS);
        }

        #[test]
        fn broken_bytes_of_a_real_message_never_panic(fields in any_fields(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
            let mut bytes = Writer::of(|writer| write(writer, &fields));
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = with;
                read_through(Message::new(&bytes, 8));
                read_through(Message::new(&bytes[..at], 8));
            }
        }
    }
}
