//! A custom resource as the API server sees it before it looks at its values: fields that its schema does not have are gone, defaults are
//! there, and of equal keys the last one counts (`k8s.io/apiextensions-apiserver pkg/apiserver/schema/{pruning,defaulting}`).

use crate::{
    codec::tape::{Kind, Tape},
    validate::schema::{Additional, Flags, Id, Schema, Schemas, Text},
};
use std::{
    borrow::Cow,
    cell::Cell,
    collections::{HashMap, HashSet},
};

/// What the object becomes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Completed {
    /// It stays as it is.
    Same,
    /// It is this text.
    Text(String),
    /// It cannot be said: it is nested too deeply, or grows beyond all measure.
    Unsure,
}

/// Bytes that defaults may add to an object.
const MOST_ADDED: usize = 4 << 20;
/// Levels of nesting; schemas of custom resources have no circles, so more is nobody's object.
const DEEPEST: usize = 200;
/// Values of one default.
const MOST_NODES: usize = 1 << 16;

/// Completes the object of a tape.
pub(super) fn complete(schemas: &Schemas, id: Id, tape: &Tape<'_>) -> Completed {
    let place = Place::Of { id, root: true, keep: false };
    match differs(schemas, place, tape, 0, DEEPEST) {
        None => return Completed::Unsure,
        Some(false) => return Completed::Same,
        Some(true) => {}
    }
    let mut writer = Writer { schemas, out: String::new(), most: tape.text().len() + MOST_ADDED };
    match writer.value(place, tape, 0, DEEPEST) {
        Some(()) => Completed::Text(writer.out),
        None => Completed::Unsure,
    }
}

/// What is known of the place where a value stands.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// It is kept as it is.
    Free,
    /// There is no schema: objects lose all they have.
    Bare,
    /// `keep`: as an element of a list that keeps unknown fields.
    Of { id: Id, root: bool, keep: bool },
}

struct Writer<'s> {
    schemas: &'s Schemas,
    out: String,
    most: usize,
}

/// Whether anything about the value is to be completed. None: it is nested too deeply.
fn differs(schemas: &Schemas, place: Place, tape: &Tape<'_>, at: usize, depth: usize) -> Option<bool> {
    let depth = depth.checked_sub(1)?;
    match (place, tape.kind(at)) {
        (Place::Bare, Kind::Object) => Some(!tape.is_empty(at)),
        (Place::Of { id, root, keep }, Kind::Object) => {
            let schema = schemas.get(id);
            if has_duplicates(tape, at) {
                return Some(true);
            }
            for (key, value) in tape.members(at) {
                let Some(place) = member(schemas, schema, root, keep, &tape.string(key)) else {
                    return Some(true);
                };
                if is_stray_null(schemas, place, tape, value) || differs(schemas, place, tape, value, depth)?
                {
                    return Some(true);
                }
            }
            Some(missing(schemas, schema, tape, at).next().is_some())
        }
        (Place::Bare | Place::Of { .. }, Kind::Array) => {
            let place = element(schemas, place);
            for value in tape.elements(at) {
                if null_default(schemas, place, tape, value).is_some()
                    || differs(schemas, place, tape, value, depth)?
                {
                    return Some(true);
                }
            }
            Some(false)
        }
        _ => Some(false),
    }
}

/// The place of a member; None: it is dropped.
fn member(schemas: &Schemas, schema: &Schema, root: bool, keep: bool, key: &str) -> Option<Place> {
    if (root || schema.flags.has(Flags::EMBEDDED)) && matches!(key, "apiVersion" | "kind" | "metadata") {
        return Some(Place::Free);
    }
    let of = |id| Some(Place::Of { id, root: false, keep: false });
    match (schemas.property(schema, key), schema.additional) {
        (Some(property), _) => of(property.schema),
        (None, Additional::Of(id)) => of(id),
        (None, Additional::Any) => Some(Place::Bare),
        _ => (keep || schema.flags.has(Flags::PRESERVE_UNKNOWN)).then_some(Place::Free),
    }
}

fn element(schemas: &Schemas, place: Place) -> Place {
    let Place::Of { id, keep, .. } = place else { return place };
    let schema = schemas.get(id);
    let keep = keep || schema.flags.has(Flags::PRESERVE_UNKNOWN);
    match schema.items {
        Some(id) => Place::Of { id, root: false, keep },
        None if keep => Place::Free,
        None => Place::Bare,
    }
}

/// Whether it is a null that may not be one: a member is dropped then, or becomes its default.
fn is_stray_null(schemas: &Schemas, place: Place, tape: &Tape<'_>, at: usize) -> bool {
    let Place::Of { id, .. } = place else { return false };
    tape.kind(at) == Kind::Null && !schemas.get(id).flags.has(Flags::NULLABLE)
}

/// What stands for such a null.
fn null_default(schemas: &Schemas, place: Place, tape: &Tape<'_>, at: usize) -> Option<Text> {
    let Place::Of { id, .. } = place else { return None };
    if is_stray_null(schemas, place, tape, at) { schemas.get(id).rules.as_ref()?.default } else { None }
}

/// Properties that have a default and are not there.
fn missing<'s>(
    schemas: &'s Schemas,
    schema: &'s Schema,
    tape: &'s Tape<'_>,
    at: usize,
) -> impl Iterator<Item = (&'s str, Id, Text)> {
    let with_default = schema.properties.iter().filter(|property| property.has_default);
    with_default.filter_map(move |property| {
        let default = schemas.get(property.schema).rules.as_ref()?.default?;
        let name = schemas.text(property.name);
        tape.get(at, name).next().is_none().then_some((name, property.schema, default))
    })
}

fn has_duplicates(tape: &Tape<'_>, at: usize) -> bool {
    let keys = || tape.members(at).map(|(key, _)| tape.string(key));
    if keys().nth(8).is_some() {
        let mut seen = HashSet::new();
        return !keys().all(|key| seen.insert(key));
    }
    keys().enumerate().any(|(i, key)| keys().skip(i + 1).any(|other| other == key))
}

impl Writer<'_> {
    /// None: there is no end to it.
    fn value(&mut self, place: Place, tape: &Tape<'_>, at: usize, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        if self.out.len() > self.most {
            return None;
        }
        match (place, tape.kind(at)) {
            (Place::Bare, Kind::Object) => self.out.push_str("{}"),
            (Place::Of { id, root, keep }, Kind::Object) => {
                let schemas = self.schemas;
                let schema = schemas.get(id);
                let mut last: HashMap<Cow<'_, str>, usize> = HashMap::new();
                last.extend(tape.members(at).map(|(key, value)| (tape.string(key), value)));
                let mut comma = "{";
                for (key, value) in tape.members(at) {
                    let name = tape.string(key);
                    if last.get(&name) != Some(&value) {
                        continue;
                    }
                    let Some(place) = member(schemas, schema, root, keep, &name) else { continue };
                    let default = null_default(schemas, place, tape, value);
                    if default.is_none() && is_stray_null(schemas, place, tape, value) {
                        continue;
                    }
                    self.out.push_str(std::mem::replace(&mut comma, ","));
                    self.out.push_str(tape.raw(key));
                    self.out.push(':');
                    self.nullable(place, tape, value, depth)?;
                }
                for (name, id, default) in missing(schemas, schema, tape, at) {
                    self.out.push_str(std::mem::replace(&mut comma, ","));
                    // To write a string as JSON cannot fail.
                    self.out.push_str(&serde_json::to_string(name).unwrap_or_default());
                    self.out.push(':');
                    self.default(Place::Of { id, root: false, keep: false }, default, depth)?;
                }
                self.out.push_str(if comma == "{" { "{}" } else { "}" });
            }
            (Place::Bare | Place::Of { .. }, Kind::Array) => {
                let place = element(self.schemas, place);
                self.out.push('[');
                for (i, value) in tape.elements(at).enumerate() {
                    self.out.push_str(if i == 0 { "" } else { "," });
                    self.nullable(place, tape, value, depth)?;
                }
                self.out.push(']');
            }
            _ => self.out.push_str(tape.raw(at)),
        }
        Some(())
    }

    fn nullable(&mut self, place: Place, tape: &Tape<'_>, at: usize, depth: usize) -> Option<()> {
        match null_default(self.schemas, place, tape, at) {
            Some(default) => self.default(place, default, depth),
            None => self.value(place, tape, at, depth),
        }
    }

    fn default(&mut self, place: Place, default: Text, depth: usize) -> Option<()> {
        let text = self.schemas.text(default);
        let tape = Tape::read(text, DEEPEST, &Cell::new(MOST_NODES)).ok()?;
        self.value(place, &tape, 0, depth)
    }
}
