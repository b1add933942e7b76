//! A completed custom resource held against its schema, in the order and with the words of the API server's own validator
//! (`k8s.io/kube-openapi pkg/validation/validate`). Of several alternatives of which none fits it shows what is wrong with the one that fits
//! best, by counting what was right; so we count as it does.

use super::{
    cause::{Fault, Number, double, quoted, show},
    formats,
    path::Path,
};
use crate::{
    codec::tape::{Kind, Tape},
    validate::schema::{Additional, Double, Flags, Id, Rules, Schema, Schemas, Types},
};
use std::{borrow::Cow, cell::Cell};

/// Faults that are kept of a value; more of them help nobody.
pub(super) const MOST_FAULTS: usize = 64;
/// Looks at one value under one schema. A schema's alternatives look at the same value again and again.
const MOST_LOOKS: usize = 4 << 20;

/// What was found out about a value.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) faults: Vec<Told>,
    /// How much was right.
    matches: u32,
}

/// A fault, and the text that tells it from others: the API server drops what says the same.
#[derive(Debug)]
pub(super) struct Told {
    text: String,
    pub(super) fault: Fault,
}

/// One look at one object.
pub(super) struct Check<'a> {
    pub(super) schemas: &'a Schemas,
    pub(super) tape: &'a Tape<'a>,
    /// False: what is not there may be there all the same.
    whole: bool,
    left: Cell<usize>,
}

/// The types of a schema as the API server's validator has them.
#[derive(Clone, Copy)]
struct Expected<'s> {
    types: Types,
    format: &'s str,
}

impl<'a> Check<'a> {
    pub(super) fn new(schemas: &'a Schemas, tape: &'a Tape<'a>, whole: bool) -> Self {
        Self { schemas, tape, whole, left: Cell::new(MOST_LOOKS) }
    }

    /// Whether it gave up, so that nothing that it says counts.
    pub(super) fn gave_up(&self) -> bool {
        self.left.get() == 0
    }

    /// What is wrong with the value at a node.
    pub(super) fn value(&self, id: Id, at: usize, path: &Path<'_>) -> Outcome {
        let mut out = Outcome::default();
        let left = self.left.get().saturating_sub(1);
        self.left.set(left);
        if left == 0 || path.is_too_deep() {
            return out;
        }
        let schema = self.schemas.get(id);
        let expected = self.expected(schema);
        let rules = schema.rules.as_deref();
        let kind = self.tape.kind(at);
        let is_typed = !expected.types.is_any() || !expected.format.is_empty();
        if kind == Kind::Null {
            if !self.whole {
                return out;
            }
            let nullable = expected.types.is_any() || schema.flags.has(Flags::NULLABLE);
            match nullable {
                true => out.matches += 1,
                false => out.add(expected.type_fault(path, &type_names(expected.types), "null")),
            }
            self.enumeration(rules, at, path, &mut out);
            return out;
        }
        let mismatch = if is_typed { expected.mismatch(self.tape, at) } else { None };
        let is_mistyped = mismatch.is_some();
        if let Some((wanted, found)) = mismatch {
            out.add(expected.type_fault(path, &wanted, found));
            out.matches += 1;
        } else if is_typed {
            out.matches += 2;
        }
        self.alternatives(rules, at, path, &mut out);
        out.matches += 2;
        match kind {
            Kind::Text | Kind::Escaped => {
                let text = self.tape.string(at);
                out.matches += 1;
                if let Some(rules) = rules {
                    self.string(rules, &text, path, &mut out);
                }
                if formats::is_known(expected.format) {
                    out.matches += 1;
                    if formats::holds(expected.format, &text) == Some(false) {
                        let value = quoted(&text);
                        let told = format!("{path} in body must be of type {}: {value}", expected.format);
                        out.add(Told::new(told, |told| {
                            Fault::type_invalid("format", &path.field(), &value, told)
                        }));
                    }
                }
            }
            Kind::Number => {
                let number = Number::of(self.tape.raw(at));
                if is_mistyped {
                    number_range(expected, number, path, &mut out);
                }
                if let Some(rules) = rules {
                    bounds(rules, number, path, &mut out);
                }
                out.matches += 2;
            }
            Kind::Array => {
                self.array(schema, at, path, &mut out);
                out.matches += 2;
            }
            Kind::Object | Kind::Bool | Kind::Null => {}
        }
        self.enumeration(rules, at, path, &mut out);
        out.matches += 1;
        if kind == Kind::Object {
            self.object(schema, at, path, &mut out);
            out.matches += 1;
        }
        out.matches += 1;
        out
    }

    fn expected(&self, schema: &Schema) -> Expected<'a> {
        let int_or_string = schema.flags.has(Flags::INT_OR_STRING);
        let types = if int_or_string { Types::INT_OR_STRING } else { schema.types };
        let format = schema.rules.as_ref().and_then(|rules| rules.format);
        let format = format.map_or("", |format| self.schemas.text(format));
        let supported = match types {
            Types::INTEGER => matches!(format, "int32" | "int64"),
            Types::NUMBER => matches!(format, "float" | "double"),
            Types::OBJECT | Types::ARRAY | Types::BOOLEAN => false,
            _ => formats::is_known(format),
        };
        Expected { types, format: if supported { format } else { "" } }
    }

    fn enumeration(&self, rules: Option<&Rules>, at: usize, path: &Path<'_>, out: &mut Outcome) {
        let Some(rules) = rules.filter(|rules| !rules.enumeration.is_empty()) else { return };
        let allowed = || rules.enumeration.iter().map(|text| self.schemas.text(*text));
        if allowed().any(|allowed| equals(self.tape, at, allowed)) {
            return;
        }
        let names = allowed().map(|raw| match tape_of(raw) {
            Some(tape) if tape.is_text(0) => tape.string(0).into_owned(),
            Some(tape) => {
                let mut out = Vec::new();
                super::cause::push_json(&tape, 0, &mut out);
                String::from_utf8_lossy(&out).into_owned()
            }
            None => raw.to_owned(),
        });
        let names: Vec<String> = names.collect();
        let told = format!("{path} in body should be one of [{}]", names.join(" "));
        out.add(Told::new(told, |_| {
            let names = names.iter().map(String::as_str);
            Fault::not_supported("enum", &path.field(), &show(self.tape, at), names)
        }));
    }

    fn string(&self, rules: &Rules, text: &str, path: &Path<'_>, out: &mut Outcome) {
        let runes = |limit: u64| text.chars().take(limit as usize).count() as u64;
        if let Some(most) =
            rules.max_length.filter(|most| text.len() as u64 > *most && runes(most + 1) > *most)
        {
            let told = format!("{path} in body should be at most {most} chars long");
            out.add(Told::new(told, |_| Fault::too_long("length", &path.field(), most)));
            return;
        }
        let told = if let Some(least) = rules.min_length.filter(|least| runes(*least) < *least) {
            ("length", format!("{path} in body should be at least {least} chars long"))
        } else if let Some(pattern) = rules.pattern {
            let regex = self.schemas.text(pattern);
            if self.schemas.patterns.holds(pattern, regex, text) {
                return;
            }
            ("pattern", format!("{path} in body should match '{regex}'"))
        } else {
            return;
        };
        out.add(Told::new(told.1, |text_| Fault::invalid(told.0, &path.field(), &quoted(text), text_)));
    }

    fn array(&self, schema: &Schema, at: usize, path: &Path<'_>, out: &mut Outcome) {
        let mut len = 0u64;
        for (i, element) in self.tape.elements(at).enumerate() {
            len += 1;
            if let Some(items) = schema.items {
                out.merge(self.value(items, element, &path.index(i)));
            }
        }
        let Some(rules) = schema.rules.as_deref() else { return };
        if let Some(least) = rules.min_items.filter(|least| self.whole && len < *least) {
            let told = format!("{path} in body should have at least {least} items");
            out.add(Told::new(told, |told| Fault::invalid("length", &path.field(), &len.to_string(), told)));
        }
        if let Some(most) = rules.max_items.filter(|most| len > *most) {
            let told = format!("{path} in body should have at most {most} items");
            out.add(Told::new(told, |_| Fault::too_many("length", &path.field(), len, most)));
        }
    }

    fn object(&self, schema: &Schema, at: usize, path: &Path<'_>, out: &mut Outcome) {
        let tape = self.tape;
        let rules = schema.rules.as_deref();
        if let Some(rules) = rules.filter(|r| r.min_properties.is_some() || r.max_properties.is_some()) {
            let len = tape.members(at).count() as u64;
            if let Some(least) = rules.min_properties.filter(|least| self.whole && len < *least) {
                let told = format!("{path} in body should have at least {least} properties");
                out.add(Told::new(told, |told| {
                    Fault::invalid("length", &path.field(), &len.to_string(), told)
                }));
            }
            if let Some(most) = rules.max_properties.filter(|most| len > *most) {
                let told = format!("{path} in body should have at most {most} properties");
                out.add(Told::new(told, |_| Fault::too_many("length", &path.field(), len, most)));
            }
        }
        // The metadata, and the type of an object within an object, are looked at elsewhere.
        let embedded = schema.flags.has(Flags::EMBEDDED);
        let elsewhere = |key: &str| match key {
            "metadata" => embedded || path.is_object(),
            "apiVersion" | "kind" => embedded,
            _ => false,
        };
        for (key, value) in tape.members(at) {
            let name = tape.string(key);
            if elsewhere(&name) {
                continue;
            }
            match (self.schemas.property(schema, &name), schema.additional) {
                (Some(property), _) => out.merge(self.value(property.schema, value, &path.name(&name))),
                (None, Additional::Of(id)) => out.merge(self.value(id, value, &path.key(&name))),
                _ => {}
            }
        }
        for required in rules.filter(|_| self.whole).map_or(&[][..], |rules| &rules.required) {
            let name = self.schemas.text(*required);
            if !elsewhere(name) && tape.get(at, name).next().is_none() {
                let path = path.name(name);
                let told = format!("{path} in body is required");
                out.add(Told::new(told, |_| Fault::required("required", &path.field(), "")));
            }
        }
    }

    fn alternatives(&self, rules: Option<&Rules>, at: usize, path: &Path<'_>, out: &mut Outcome) {
        let Some(rules) = rules.filter(|_| self.whole) else { return };
        let none =
            |text: String| Told::new(text, |told| Fault::invalid("alternatives", path.whole(), "\"\"", told));
        if !rules.any_of.is_empty() {
            let mut best: Option<Outcome> = None;
            let mut fits = false;
            for id in &rules.any_of {
                let of = self.value(*id, at, path);
                fits = of.faults.is_empty();
                if fits || best.as_ref().is_none_or(|best| of.matches > best.matches) {
                    best = Some(of);
                }
                if fits {
                    break;
                }
            }
            if !fits {
                out.add(none(format!("{} must validate at least one schema (anyOf)", path.quoted())));
            }
            out.merge(best.unwrap_or_default());
        }
        if !rules.one_of.is_empty() {
            let mut fitting: Option<Outcome> = None;
            let mut best: Option<Outcome> = None;
            let mut fits = 0;
            for id in &rules.one_of {
                let of = self.value(*id, at, path);
                if of.faults.is_empty() {
                    fits += 1;
                    best = None;
                    fitting = fitting.or(Some(of));
                } else if fits == 0 && best.as_ref().is_none_or(|best| of.matches > best.matches) {
                    best = Some(of);
                }
            }
            if fits == 1 {
                out.merge(fitting.unwrap_or_default());
            } else {
                let found = match fits {
                    0 => "Found none valid".to_owned(),
                    fits => format!("Found {fits} valid alternatives"),
                };
                let text =
                    format!("{} must validate one and only one schema (oneOf). {found}", path.quoted());
                out.add(none(text));
                out.merge(best.unwrap_or_default());
            }
        }
        if !rules.all_of.is_empty() {
            let mut fits = 0;
            for id in &rules.all_of {
                let of = self.value(*id, at, path);
                fits += usize::from(of.faults.is_empty());
                out.merge(of);
            }
            if fits != rules.all_of.len() {
                let nobody = if fits == 0 { ". None validated" } else { "" };
                out.add(none(format!("{} must validate all the schemas (allOf){nobody}", path.quoted())));
            }
        }
        if let Some(not) = rules.not
            && self.value(not, at, path).faults.is_empty()
            && !self.gave_up()
        {
            out.add(none(format!("{} must not validate the schema (not)", path.quoted())));
        }
    }
}

// === impl Outcome, Told ===

impl Outcome {
    fn add(&mut self, told: Told) {
        if self.faults.len() < MOST_FAULTS && self.faults.iter().all(|other| other.text != told.text) {
            self.faults.push(told);
        }
    }

    fn merge(&mut self, other: Self) {
        self.matches += other.matches;
        for told in other.faults {
            self.add(told);
        }
    }
}

impl Told {
    fn new(text: String, fault: impl FnOnce(&str) -> Fault) -> Self {
        let fault = fault(&text);
        Self { text, fault }
    }
}

// === types ===

impl Expected<'_> {
    fn type_fault(self, path: &Path<'_>, wanted: &str, found: &str) -> Told {
        let found = quoted(found);
        let told = format!("{path} in body must be of type {wanted}: {found}");
        Told::new(told, |told| Fault::type_invalid("type", &path.field(), &found, told))
    }

    /// What the type or the format should be, and what it is.
    fn mismatch(self, tape: &Tape<'_>, at: usize) -> Option<(Cow<'static, str>, &'static str)> {
        let (types, format) = (self.types, self.format);
        let (found, name, found_format) = match tape.kind(at) {
            Kind::Object => (Types::OBJECT, "object", ""),
            Kind::Array => (Types::ARRAY, "array", ""),
            Kind::Bool => (Types::BOOLEAN, "boolean", ""),
            Kind::Text | Kind::Escaped | Kind::Null => (Types::STRING, "string", ""),
            Kind::Number => match Number::of(tape.raw(at)) {
                Number::Int(_) => (Types::INTEGER, "integer", "int64"),
                Number::Float(float) if types.has(Types::INTEGER) && is_integer(float) => return None,
                Number::Float(_) => (Types::NUMBER, "number", "float64"),
            },
        };
        let fits = types.has(found) || (found == Types::INTEGER && types.has(Types::NUMBER));
        let texty = matches!(found, Types::STRING | Types::ARRAY);
        if !format.is_empty() && !texty && !fits && found_format != format {
            return Some((Cow::Owned(format.to_owned()), found_format));
        }
        let numeric = types.has(Types::NUMBER) || types.has(Types::INTEGER);
        // A format says enough of a string, and nobody noticed that it says nothing of a list.
        if fits || (!numeric && !format.is_empty() && texty) {
            return None;
        }
        Some((type_names(types), name))
    }
}

fn type_names(types: Types) -> Cow<'static, str> {
    let all = [
        (Types::INTEGER, "integer"),
        (Types::STRING, "string"),
        (Types::OBJECT, "object"),
        (Types::ARRAY, "array"),
        (Types::NUMBER, "number"),
        (Types::BOOLEAN, "boolean"),
    ];
    let names: Vec<&str> = all.iter().filter(|(t, _)| types.has(*t)).map(|(_, name)| *name).collect();
    names.join(",").into()
}

/// Whether a double stands for an integer, within what a double holds exactly.
fn is_integer(value: f64) -> bool {
    const MOST: f64 = 9_007_199_254_740_991.0;
    let rounded = value.round();
    value.abs() <= MOST && (value == rounded || (value - rounded).abs() < 1e-9 * rounded.abs())
}

// === numbers ===

/// What is said beside the wrong type. Since Kubernetes 1.36; what it alone would refuse is left to the upstream.
fn number_range(expected: Expected<'_>, number: Number, path: &Path<'_>, out: &mut Outcome) {
    let Number::Float(value) = number else { return };
    if expected.types == Types::INTEGER && (value.fract() != 0.0 || value.abs() >= i64::MAX as f64) {
        let format = match expected.format {
            "" => "(default format)".to_owned(),
            format => format!("with format {format}"),
        };
        let told = format!("Checked value must be of type integer {format} in {path}");
        out.add(Told::new(told, |told| Fault::invalid("type", path.whole(), "\"\"", told)));
    }
}

fn bounds(rules: &Rules, number: Number, path: &Path<'_>, out: &mut Outcome) {
    let fault = |what: &str, bound: f64, out: &mut Outcome| {
        let told = format!("{path} in body should be {what} {}", bound_text(bound, number));
        out.add(Told::new(told, |told| Fault::invalid("bounds", &path.field(), &number.text(), told)));
    };
    // To an integer, a bound is one: without its fraction. What that alone would refuse is left to the upstream.
    let bound = |bound: Option<Double>| {
        bound.map(Double::get).filter(|b| matches!(number, Number::Float(_)) || b.abs() < 9e18)
    };
    let whole = |factor: &f64| matches!(number, Number::Float(_)) || factor.fract() == 0.0;
    if let Some(factor) = bound(rules.multiple_of).filter(|factor| *factor > 0.0 && whole(factor)) {
        let fits = match number {
            Number::Int(value) => value % (factor as i64).max(1) == 0,
            Number::Float(value) if factor < 1.0 => is_integer(1.0 / factor * value),
            Number::Float(value) => is_integer(value / factor),
        };
        if !fits {
            fault("a multiple of", factor, out);
        }
    }
    let value = number.double();
    let is_whole = |bound: f64| bound.fract() == 0.0;
    let below = |bound: f64, exclusive: bool| match number {
        Number::Int(int) if int < bound as i64 => is_whole(bound) || value < bound,
        Number::Int(int) => exclusive && int == bound as i64 && (is_whole(bound) || value <= bound),
        Number::Float(_) => value < bound || (exclusive && value == bound),
    };
    let above = |bound: f64, exclusive: bool| match number {
        Number::Int(int) if int > bound as i64 => is_whole(bound) || value > bound,
        Number::Int(int) => exclusive && int == bound as i64 && (is_whole(bound) || value >= bound),
        Number::Float(_) => value > bound || (exclusive && value == bound),
    };
    if let Some(least) = bound(rules.minimum).filter(|least| below(*least, rules.exclusive_minimum)) {
        let what = if rules.exclusive_minimum { "greater than" } else { "greater than or equal to" };
        fault(what, least, out);
    }
    if let Some(most) = bound(rules.maximum).filter(|most| above(*most, rules.exclusive_maximum)) {
        let what = if rules.exclusive_maximum { "less than" } else { "less than or equal to" };
        fault(what, most, out);
    }
}

fn bound_text(bound: f64, number: Number) -> String {
    match number {
        Number::Int(_) => (bound as i64).to_string(),
        Number::Float(_) => double(bound),
    }
}

// === enumerations ===

fn tape_of(raw: &str) -> Option<Tape<'_>> {
    Tape::read(raw, 100, &Cell::new(1 << 16)).ok()
}

/// Whether a value is the one of a schema's list, once it is converted to that one's type as Go converts.
fn equals(tape: &Tape<'_>, at: usize, allowed: &str) -> bool {
    let Some(other) = tape_of(allowed) else { return true };
    match (tape.kind(at), other.kind(0)) {
        (_, Kind::Null) | (Kind::Null, _) => false,
        (Kind::Bool, Kind::Bool) => tape.raw(at) == other.raw(0),
        (Kind::Text | Kind::Escaped, Kind::Text | Kind::Escaped) => tape.string(at) == other.string(0),
        (Kind::Number, Kind::Number) => match (Number::of(tape.raw(at)), Number::of(other.raw(0))) {
            (value, Number::Float(allowed)) => value.double() == allowed,
            (Number::Int(value), Number::Int(allowed)) => value == allowed,
            (Number::Float(value), Number::Int(allowed)) => value.trunc() as i64 == allowed,
        },
        // An integer becomes the character of that number.
        (Kind::Number, Kind::Text | Kind::Escaped) => match Number::of(tape.raw(at)) {
            Number::Int(value) => {
                let c =
                    u32::try_from(value).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
                other.string(0) == *c.encode_utf8(&mut [0; 4])
            }
            Number::Float(_) => false,
        },
        (a, b) if a == b => deep_equals(tape, at, &other, 0, 100),
        _ => false,
    }
}

/// `reflect.DeepEqual`: 1 is not 1.0.
fn deep_equals(a: &Tape<'_>, i: usize, b: &Tape<'_>, j: usize, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    match (a.kind(i), b.kind(j)) {
        (Kind::Object, Kind::Object) => {
            let len = |tape: &Tape<'_>, at| tape.members(at).count();
            len(a, i) == len(b, j)
                && b.members(j).all(|(key, other)| {
                    let key = b.string(key);
                    a.get(i, &key).last().is_some_and(|value| deep_equals(a, value, b, other, depth))
                })
        }
        (Kind::Array, Kind::Array) => {
            let len = |tape: &Tape<'_>, at| tape.elements(at).count();
            len(a, i) == len(b, j)
                && a.elements(i)
                    .zip(b.elements(j))
                    .all(|(value, other)| deep_equals(a, value, b, other, depth))
        }
        (Kind::Text | Kind::Escaped, Kind::Text | Kind::Escaped) => a.string(i) == b.string(j),
        (Kind::Number, Kind::Number) => Number::of(a.raw(i)) == Number::of(b.raw(j)),
        (x, y) => x == y && a.raw(i) == b.raw(j),
    }
}
