//! Messages that are one value in JSON: times, quantities, JSON inside protobuf.

use super::{Json, Undecodable, below, open, table};
use crate::audit::event::MicroTime;
use crate::codec::protobuf::{
    Field, MAGIC, Message,
    tables::{Form, Message as Table, Type},
};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt::Write as _;

/// Seconds from 1970 back to Go's zero time, the first day of the year 1.
const ZERO_TIME: i64 = -62_135_596_800;
/// From the year 0 to the end of 9999, which RFC 3339 can say.
const YEARS: std::ops::Range<i64> = -62_167_219_200..253_402_300_800;
/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

impl Json {
    /// A message that is no object.
    pub(super) fn form(&mut self, of: &'static Table, bytes: &[u8], depth: usize) -> Result<(), Undecodable> {
        match of.form {
            Form::Object => return self.message(of, bytes, depth),
            Form::List => return self.only_list(of, bytes, depth),
            Form::Time => self.time(of, bytes, false)?,
            Form::MicroTime => self.time(of, bytes, true)?,
            Form::Duration => {
                let [duration] = fields(of, bytes)?;
                self.duration(duration.map_or(Ok(0), Field::number)?);
            }
            Form::Quantity => {
                let [quantity] = fields(of, bytes)?;
                let text = quantity.map_or(Ok("0"), Field::text)?;
                if text.is_empty() {
                    return Err(Undecodable::OutOfRange { message: of.name, number: 1 });
                }
                return self.string(text);
            }
            Form::IntOrString => {
                let [kind, number, text] = fields(of, bytes)?;
                match kind.map_or(Ok(0), Field::number)? {
                    0 => self.number(number.map_or(Ok(0), |field| int(of, field))?.into()),
                    1 => return self.string(text.map_or(Ok(""), Field::text)?),
                    _ => return Err(Undecodable::OutOfRange { message: of.name, number: 1 }),
                }
            }
            Form::RawExtension => {
                let [raw] = fields(of, bytes)?;
                match raw.map(Field::bytes).transpose()? {
                    None => self.text.push_str("null"),
                    Some(body) if body.starts_with(MAGIC) => {
                        return self.envelope(open(body)?, below(depth)?);
                    }
                    Some(json) => return self.embed(of, json),
                }
            }
            Form::Json => {
                let [raw] = fields(of, bytes)?;
                match raw.map_or(Ok(&[][..]), Field::bytes)? {
                    [] => self.text.push_str("null"),
                    json => return self.embed(of, json),
                }
            }
            Form::SchemaOrBool => {
                let [allows, schema] = fields(of, bytes)?;
                let allows = allows.map_or(Ok(false), Field::flag)?;
                match schema {
                    Some(schema) => return self.part(of, schema, depth),
                    None => self.text.push_str(if allows { "true" } else { "false" }),
                }
            }
            Form::SchemaOrArray | Form::SchemaOrStrings => return self.schema_or_list(of, bytes, depth),
        }
        self.fits()
    }

    /// A list in a message of its own. An empty one is not null: that it is there says that it was set.
    fn only_list(&mut self, of: &'static Table, bytes: &[u8], depth: usize) -> Result<(), Undecodable> {
        let mut all = Message::new(bytes, 0);
        match (all.next().transpose()?, of.field(1)) {
            (None, _) => self.text.push_str("[]"),
            (Some(value), Some(known)) if value.number == known.number => {
                if let Some(field) = self.values(of, known, value, &mut all, depth)? {
                    return Err(unknown(of, field));
                }
            }
            (Some(field), _) => return Err(unknown(of, field)),
        }
        self.fits()
    }

    /// A list if it has anything, or else a schema.
    fn schema_or_list(&mut self, of: &'static Table, bytes: &[u8], depth: usize) -> Result<(), Undecodable> {
        let mut all = Message::new(bytes, 0);
        let mut schema = None;
        while let Some(field) = all.next().transpose()? {
            match (field.number, of.field(2)) {
                (1, _) if schema.is_some() => return Err(twice(of, field)),
                (1, _) => schema = Some(field),
                (2, Some(known)) => {
                    return match self.values(of, known, field, &mut all, depth)? {
                        Some(field) => Err(unknown(of, field)),
                        None => Ok(()),
                    };
                }
                _ => return Err(unknown(of, field)),
            }
        }
        match schema {
            Some(schema) => self.part(of, schema, depth),
            None => {
                self.text.push_str("null");
                self.fits()
            }
        }
    }

    /// A message's field that is a message and stands for all of it.
    fn part(&mut self, of: &'static Table, field: Field<'_>, depth: usize) -> Result<(), Undecodable> {
        match of.field(field.number).map(|known| known.of) {
            Some(Type::Message(at)) => self.message(table(at)?, field.bytes()?, below(depth)?),
            _ => Err(unknown(of, field)),
        }
    }

    fn time(&mut self, of: &'static Table, bytes: &[u8], micros: bool) -> Result<(), Undecodable> {
        let [seconds, nanos] = fields(of, bytes)?;
        let mut seconds = seconds.map_or(Ok(0), Field::number)?;
        let mut nanos = i64::from(nanos.map_or(Ok(0), |field| int(of, field))?);
        // Whole microseconds, towards zero; more than a second, or less than none, moves the second.
        nanos = if micros { nanos / 1000 * 1000 } else { 0 };
        seconds = seconds.saturating_add(nanos.div_euclid(SECOND as i64));
        nanos = nanos.rem_euclid(SECOND as i64);
        if bytes.is_empty() || (seconds, nanos) == (ZERO_TIME, 0) {
            self.text.push_str("null");
            return Ok(());
        }
        if !YEARS.contains(&seconds) {
            return Err(Undecodable::OutOfRange { message: of.name, number: 1 });
        }
        let text = MicroTime(seconds * 1_000_000 + nanos / 1000).text();
        let text = std::str::from_utf8(&text).unwrap_or_default();
        self.text.push('"');
        self.text.push_str(if micros { text } else { text.get(..19).unwrap_or_default() });
        self.text.push_str(if micros { "\"" } else { "Z\"" });
        Ok(())
    }

    /// `1h30m0s`, `1.5s`, `250ms`: as Go's `time.Duration` writes itself.
    pub(super) fn duration(&mut self, nanos: i64) {
        let size = nanos.unsigned_abs();
        self.text.push_str(if nanos < 0 { "\"-" } else { "\"" });
        let (unit, name) = match size {
            0 => (1, "s"),
            1..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            1_000_000..SECOND => (1_000_000, "ms"),
            _ => {
                let minutes = size / (60 * SECOND);
                // Infallible: it is a string.
                let _ = match (minutes / 60, minutes % 60) {
                    (0, 0) => Ok(()),
                    (0, minutes) => write!(self.text, "{minutes}m"),
                    (hours, minutes) => write!(self.text, "{hours}h{minutes}m"),
                };
                (SECOND, "s")
            }
        };
        let rest = size % (60 * SECOND);
        let _ = write!(self.text, "{}", rest / unit);
        let mut fraction = rest % unit;
        let mut digit = unit / 10;
        if fraction != 0 {
            self.text.push('.');
        }
        while fraction != 0 {
            let _ = write!(self.text, "{}", fraction / digit);
            (fraction, digit) = (fraction % digit, digit / 10);
        }
        self.text.push_str(name);
        self.text.push('"');
    }

    /// JSON as it is, without the blanks around its parts. Keys that come twice stay.
    pub(super) fn embed(&mut self, of: &'static Table, json: &[u8]) -> Result<(), Undecodable> {
        let json = std::str::from_utf8(json).map_err(|_| Undecodable::NotJson(of.name))?;
        serde_json::from_str::<Readable>(json).map_err(|_| Undecodable::NotJson(of.name))?;
        let mut rest = json;
        while let Some(at) = rest.bytes().position(|b| matches!(b, b'"' | b' ' | b'\n' | b'\r' | b'\t')) {
            let (plain, from) = rest.split_at(at);
            self.text.push_str(plain);
            let (taken, after) = from.split_at(string_length(from.as_bytes()).unwrap_or(1));
            if taken.starts_with('"') {
                self.text.push_str(taken);
            }
            rest = after;
        }
        self.text.push_str(rest);
        self.fits()
    }
}

/// JSON that every reader takes: its numbers are finite, its escapes are characters.
struct Readable;

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = Self;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self, E> {
        if number.is_finite() { Ok(self) } else { Err(E::custom("out of range")) }
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

/// How long the string is that `json` begins with; None: it begins with none.
fn string_length(json: &[u8]) -> Option<usize> {
    let mut bytes = json.iter().enumerate();
    bytes.next().filter(|(_, first)| **first == b'"')?;
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some(at + 1),
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    None
}

/// The fields 1 to N of a message that has no others.
fn fields<'a, const N: usize>(
    of: &'static Table,
    bytes: &'a [u8],
) -> Result<[Option<Field<'a>>; N], Undecodable> {
    let mut found = [None; N];
    for field in Message::new(bytes, 0) {
        let field = field?;
        let place = usize::try_from(field.number).ok().and_then(|number| found.get_mut(number - 1));
        match place {
            Some(place @ None) => *place = Some(field),
            Some(Some(_)) => return Err(twice(of, field)),
            None => return Err(unknown(of, field)),
        }
    }
    Ok(found)
}

fn int(of: &'static Table, field: Field<'_>) -> Result<i32, Undecodable> {
    let number = field.number()?;
    i32::try_from(number).map_err(|_| Undecodable::OutOfRange { message: of.name, number: field.number })
}

fn unknown(of: &'static Table, field: Field<'_>) -> Undecodable {
    Undecodable::UnknownField { message: of.name, number: field.number }
}

fn twice(of: &'static Table, field: Field<'_>) -> Undecodable {
    Undecodable::Twice { message: of.name, number: field.number }
}
