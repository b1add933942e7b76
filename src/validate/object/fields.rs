//! What a decoder into Go structs makes of an object: the first type that does not fit, and fields that it does not know or meets twice.
//!
//! One walk along the object's text, with its schema beside it. Nothing is allocated for a field that is as it should be; where it stands
//! is told only when it is not.

use super::{go, scalars};
use crate::{
    codec::tape::{Kind, Tape},
    validate::schema::{Additional, Format, Id, Schema, Schemas, Text, Types},
};
use std::{
    borrow::Cow,
    collections::HashSet,
    fmt::{self, Write as _},
};

/// Levels of nesting that are looked at. No built-in kind has as many but for what its author nests in it.
const DEEPEST: usize = 300;
/// Fields that the decoder tells at most.
pub(super) const MOST: usize = 100;
/// Bytes of what is told at most: a path can be as long as the object.
const LONGEST: usize = 64 << 10;

/// What a decoder would say of an object.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    /// Why it would not be decoded.
    pub(super) error: Option<String>,
    /// What a strict one would not decode, in its order.
    pub(super) strict: Vec<Strict>,
    told: usize,
}

/// A field that is unknown or there twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Strict {
    /// `unknown-field`, `duplicate-field`
    pub(super) rule: &'static str,
    /// In the decoder's words.
    pub(super) text: String,
}

/// How a decoder reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    /// Whether fields that are unknown or there twice are told.
    pub(super) strict: bool,
    /// Whether members come by name, and not as they are written.
    pub(super) sorted: bool,
    /// Whether a number without a fraction may be written with one: it went through a double.
    pub(super) doubles: bool,
    /// Whether types of strings and numbers are known; to a reader of YAML they are what it takes them for.
    pub(super) scalars: bool,
    /// Whether a path is told as it is, or as Go quotes it.
    pub(super) quoted: bool,
}

/// A step from a value to one inside it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// A field of a struct: its key's node, and the struct.
    Field(usize, Option<Text>),
    /// A key of a map: its node.
    Key(usize),
    /// An element of a list.
    Element(usize),
}

/// A walk along an object.
pub(super) struct Walk<'t> {
    schemas: &'t Schemas,
    tape: &'t Tape<'t>,
    way: Way,
    path: Vec<Step>,
    /// How many steps lead to what is decoded by itself.
    outside: usize,
    pub(super) decoded: Decoded,
}

// === impl Decoded ===

impl Decoded {
    /// Whether there is room for more.
    pub(super) fn is_full(&self) -> bool {
        self.told >= LONGEST
    }

    /// Reckons with bytes that are told elsewhere.
    pub(super) fn count(&mut self, bytes: usize) {
        self.told += bytes;
    }

    pub(super) fn push(&mut self, rule: &'static str, text: String) {
        if !self.is_full() {
            self.told += text.len();
            self.strict.push(Strict { rule, text });
        }
    }
}

// === impl Way ===

impl Way {
    /// A body that is JSON itself, decoded into a struct.
    pub(super) const JSON: Self =
        Self { strict: true, sorted: false, doubles: false, scalars: true, quoted: true };
}

// === impl Walk ===

impl<'t> Walk<'t> {
    pub(super) fn new(schemas: &'t Schemas, tape: &'t Tape<'t>, way: Way) -> Self {
        Self { schemas, tape, way, path: Vec::with_capacity(16), outside: 0, decoded: Decoded::default() }
    }

    /// For a value that stands at the end of a path and is decoded by itself.
    pub(super) fn inside(mut self, path: &[Step]) -> Self {
        self.path.extend_from_slice(path);
        self.outside = path.len();
        self
    }

    /// Walks along a value.
    pub(super) fn value(&mut self, id: Id, at: usize) {
        let schema = self.schemas.get(id);
        let kind = self.tape.kind(at);
        if kind == Kind::Null || self.path.len() >= DEEPEST {
            return;
        }
        match schema.format {
            Format::Unsaid | Format::Int32 | Format::Int64 | Format::Double => {}
            Format::Raw => return,
            _ if !self.way.scalars => return,
            special => return self.special(special, at),
        }
        let types = schema.types;
        match kind {
            Kind::Object if types.has(Types::OBJECT) || types.is_any() => self.members(schema, at),
            Kind::Array if types.has(Types::ARRAY) => self.elements(schema, at),
            Kind::Text | Kind::Escaped if types.has(Types::STRING) => {}
            Kind::Bool if types.has(Types::BOOLEAN) => {}
            Kind::Number if !self.way.scalars && is_scalar(types) => {}
            Kind::Number if types.has(Types::INTEGER) => self.integer(schema, at),
            Kind::Number if types.has(Types::NUMBER) => {
                if !self.tape.raw(at).parse::<f64>().is_ok_and(f64::is_finite) {
                    self.mistyped(at, "float64");
                }
            }
            _ if types.is_any() => {}
            // To a reader of YAML it may be something else.
            Kind::Text | Kind::Escaped | Kind::Number | Kind::Bool
                if !self.way.scalars && is_scalar(types) => {}
            _ => {
                let name = go_type(self.schemas, id, 0);
                self.mistyped(at, &name);
            }
        }
    }

    fn members(&mut self, schema: &'t Schema, at: usize) {
        match schema.additional {
            Additional::Of(each) if schema.properties.is_empty() => self.map(each, at),
            // Nothing is known of what is in it.
            _ if schema.properties.is_empty() => {}
            _ => self.fields(schema, at),
        }
    }

    fn fields(&mut self, schema: &'t Schema, at: usize) {
        let known =
            !schema.keeps_unknown() && matches!(schema.additional, Additional::Unsaid | Additional::No);
        let mut seen = 0u128;
        for (key, value) in ordered(self.tape, at, self.way.sorted) {
            let name = self.tape.string(key);
            let found = self.schemas.position(schema, &name);
            let property = found.and_then(|i| Some((i, schema.properties.get(i)?)));
            match property {
                Some((i, property)) => {
                    self.path.push(Step::Field(key, schema.name));
                    let bit = 1u128.checked_shl(i as u32).unwrap_or_default();
                    if seen & bit != 0 {
                        self.strict("duplicate-field", "duplicate");
                    }
                    seen |= bit;
                    self.value(property.schema, value);
                    self.path.pop();
                }
                None if known => {
                    self.path.push(Step::Field(key, schema.name));
                    self.strict("unknown-field", "unknown");
                    self.path.pop();
                }
                None => {}
            }
        }
    }

    fn map(&mut self, each: Id, at: usize) {
        let mut seen = Seen::default();
        let schema = self.schemas.get(each);
        let plain = schema.types == Types::STRING && schema.format == Format::Unsaid;
        for (key, value) in ordered(self.tape, at, self.way.sorted) {
            let twice = self.way.strict && !seen.insert(self.tape.string(key));
            if plain && !twice && self.tape.is_text(value) {
                continue;
            }
            self.path.push(Step::Key(key));
            if twice {
                self.strict("duplicate-field", "duplicate");
            }
            self.value(each, value);
            self.path.pop();
        }
    }

    fn elements(&mut self, schema: &'t Schema, at: usize) {
        let Some(items) = schema.items else { return };
        let tape = self.tape;
        for (i, element) in tape.elements(at).enumerate() {
            self.path.push(Step::Element(i));
            self.value(items, element);
            self.path.pop();
        }
    }

    fn integer(&mut self, schema: &Schema, at: usize) {
        let raw = self.tape.raw(at);
        let value = raw.parse::<i64>().ok().or_else(|| {
            // Less than 2^63, and so are all doubles below it.
            let value = raw.parse::<f64>().ok().filter(|_| self.way.doubles)?;
            (value.fract() == 0.0 && value.abs() < 9.2e18).then_some(value as i64)
        });
        let narrow = schema.format == Format::Int32;
        if value.is_none_or(|value| narrow && i32::try_from(value).is_err()) {
            self.mistyped(at, if narrow { "int32" } else { "int64" });
        }
    }

    /// Values whose Go types read themselves.
    fn special(&mut self, format: Format, at: usize) {
        let tape = self.tape;
        let text = tape.is_text(at);
        let wrong = match format {
            Format::Quantity => {
                let raw = tape.raw(at);
                let raw = if text { raw.get(1..raw.len() - 1).unwrap_or_default() } else { raw };
                scalars::quantity(raw).err().map(str::to_owned)
            }
            Format::IntOrString if text => None,
            Format::IntOrString => {
                let fits = tape.kind(at) == Kind::Number && tape.raw(at).parse::<i32>().is_ok();
                if !fits {
                    self.mistyped(at, "int32");
                }
                None
            }
            Format::Byte if text => scalars::base64(&tape.string(at)).err(),
            Format::Byte if tape.kind(at) == Kind::Array => {
                for element in tape.elements(at) {
                    let is_byte =
                        tape.kind(element) == Kind::Number && tape.raw(element).parse::<u8>().is_ok();
                    if !is_byte && tape.kind(element) != Kind::Null {
                        self.mistyped(element, "uint8");
                    }
                }
                None
            }
            Format::Byte => {
                self.mistyped(at, "[]uint8");
                None
            }
            _ if !text => {
                self.mistyped(at, "string");
                None
            }
            Format::Time => scalars::time(&tape.string(at), false).err(),
            Format::MicroTime => scalars::time(&tape.string(at), true).err(),
            Format::Duration => scalars::duration(&tape.string(at)).err(),
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.error(|| wrong);
        }
    }

    /// A value of another JSON type than its field's.
    fn mistyped(&mut self, at: usize, go_type: &str) {
        let tape = self.tape;
        if self.decoded.error.is_some() {
            return;
        }
        let numeric = matches!(go_type, "int32" | "int64" | "float64" | "uint8");
        let what = match tape.kind(at) {
            Kind::Object => "object".to_owned(),
            Kind::Array => "array".to_owned(),
            Kind::Text | Kind::Escaped => "string".to_owned(),
            Kind::Number if numeric => format!("number {}", tape.raw(at)),
            Kind::Number => "number".to_owned(),
            Kind::Bool => "bool".to_owned(),
            Kind::Null => "null".to_owned(),
        };
        let (mut place, mut field, mut depth) = (String::new(), None, 0);
        for step in self.path.get(self.outside..).unwrap_or_default() {
            let Step::Field(key, of) = step else {
                depth += 1;
                continue;
            };
            let of = of.and_then(|of| self.schemas.text(of).rsplit('.').next()).unwrap_or_default();
            let name = tape.string(*key);
            place.extend(go::embedded(of, &name).into_iter().flat_map(|inner| [".", inner]));
            place.push('.');
            place.push_str(&name);
            (field, depth) = (Some((of, name)), 0);
        }
        let place = match &field {
            Some((of, _)) => format!("struct field {of}{place}"),
            None => "value".to_owned(),
        };
        let named = field.and_then(|(of, name)| go::type_of(of, &name, depth)).filter(|_| !numeric);
        let go_type = named.unwrap_or(go_type);
        self.error(|| format!("json: cannot unmarshal {what} into Go {place} of type {go_type}"));
    }

    fn error(&mut self, text: impl FnOnce() -> String) {
        if self.decoded.error.is_none() {
            self.decoded.error = Some(text());
        }
    }

    fn strict(&mut self, rule: &'static str, word: &str) {
        if !self.way.strict || self.decoded.strict.len() >= MOST || self.decoded.is_full() {
            return;
        }
        let path = Path { tape: self.tape, steps: &self.path }.to_string();
        let text = if self.way.quoted {
            let mut text = format!("{word} field ");
            crate::status::push_go_quoted(&mut text, &path);
            text
        } else {
            format!("{word} field \"{path}\"")
        };
        if !self.decoded.strict.iter().any(|known| known.text == text) {
            self.decoded.push(rule, text);
        }
    }
}

/// `spec.containers[0].name`
pub(super) struct Path<'p> {
    pub(super) tape: &'p Tape<'p>,
    pub(super) steps: &'p [Step],
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.steps.iter().enumerate() {
            match step {
                Step::Field(key, _) | Step::Key(key) => {
                    if i > 0 {
                        f.write_char('.')?;
                    }
                    f.write_str(&self.tape.string(*key))?;
                }
                Step::Element(at) => write!(f, "[{at}]")?,
            }
        }
        Ok(())
    }
}

/// An object's members, as they are written or by name.
pub(super) fn ordered<'t>(
    tape: &'t Tape<'_>,
    at: usize,
    sorted: bool,
) -> impl Iterator<Item = (usize, usize)> + use<'t> {
    let mut by_name = Vec::new();
    if sorted {
        by_name.extend(tape.members(at));
        by_name.sort_by_cached_key(|(key, _)| tape.string(*key));
    }
    let written = (!sorted).then(|| tape.members(at));
    by_name.into_iter().chain(written.into_iter().flatten())
}

/// Keys of one object.
#[derive(Default)]
pub(super) struct Seen<'t> {
    few: Vec<Cow<'t, str>>,
    many: HashSet<Cow<'t, str>, foldhash::fast::RandomState>,
}

impl<'t> Seen<'t> {
    /// False: it is there already.
    pub(super) fn insert(&mut self, key: Cow<'t, str>) -> bool {
        if self.many.is_empty() && self.few.len() < 12 {
            let new = !self.few.contains(&key);
            if new {
                self.few.push(key);
            }
            return new;
        }
        self.many.extend(self.few.drain(..));
        self.many.insert(key)
    }
}

fn is_scalar(types: Types) -> bool {
    !types.has(Types::OBJECT) && !types.has(Types::ARRAY)
}

/// What Go calls a type, as far as a document tells.
fn go_type(schemas: &Schemas, id: Id, depth: usize) -> String {
    let schema = schemas.get(id);
    let is = |types| schema.types.has(types);
    if let Some(name) = schema.name {
        let mut words = schemas.text(name).rsplit('.');
        let short = words.next().unwrap_or_default();
        return format!("{}.{short}", words.next().unwrap_or_default());
    }
    match (schema.format, schema.additional, schema.items) {
        (Format::Byte, ..) => "[]uint8".to_owned(),
        (Format::Int32, ..) => "int32".to_owned(),
        (_, Additional::Of(each), _) if depth < 4 => {
            format!("map[string]{}", go_type(schemas, each, depth + 1))
        }
        (_, _, Some(items)) if depth < 4 => format!("[]{}", go_type(schemas, items, depth + 1)),
        _ if is(Types::STRING) => "string".to_owned(),
        _ if is(Types::BOOLEAN) => "bool".to_owned(),
        _ if is(Types::INTEGER) => "int64".to_owned(),
        _ if is(Types::NUMBER) => "float64".to_owned(),
        _ => "map[string]interface {}".to_owned(),
    }
}
