//! What the API server looks at beside the schema's validator: objects within a custom resource, and lists whose elements are told apart
//! (`k8s.io/apiextensions-apiserver pkg/apiserver/schema/{objectmeta,listtype}`).

use super::{
    cause::{Fault, Number, push_json, show},
    custom::MOST_FAULTS,
    meta, names,
    path::Path,
};
use crate::{
    codec::tape::{Kind, Tape},
    status::push_json_str,
    validate::schema::{Additional, Flags, Id, ListType, Schema, Schemas},
};
use std::collections::HashMap;

/// Faults of one kind, in the order of the object.
pub(super) struct Structural<'a> {
    pub(super) schemas: &'a Schemas,
    pub(super) tape: &'a Tape<'a>,
    /// Of objects within the object.
    pub(super) embedded: Vec<Fault>,
    /// Of lists.
    pub(super) lists: Vec<Fault>,
}

impl Structural<'_> {
    /// Looks at the value at a node and at all below.
    pub(super) fn value(&mut self, id: Id, at: usize, path: &Path<'_>) {
        if path.is_too_deep() {
            return;
        }
        let (schemas, tape) = (self.schemas, self.tape);
        let schema = schemas.get(id);
        match tape.kind(at) {
            Kind::Object => {
                if schema.flags.has(Flags::EMBEDDED) && self.embedded.len() < MOST_FAULTS {
                    embedded(tape, at, path, &mut self.embedded);
                }
                for (key, value) in tape.members(at) {
                    if !matches!(tape.kind(value), Kind::Object | Kind::Array) {
                        continue;
                    }
                    let name = tape.string(key);
                    match (schemas.property(schema, &name), schema.additional) {
                        (Some(property), _) => self.value(property.schema, value, &path.name(&name)),
                        (None, Additional::Of(id)) => self.value(id, value, &path.key(&name)),
                        _ => {}
                    }
                }
            }
            Kind::Array => {
                if self.lists.len() < MOST_FAULTS {
                    list(schemas, schema, tape, at, path, &mut self.lists);
                }
                let Some(items) = schema.items else { return };
                for (i, element) in tape.elements(at).enumerate() {
                    self.value(items, element, &path.index(i));
                }
            }
            _ => {}
        }
    }
}

/// An object with a kind of its own.
fn embedded(tape: &Tape<'_>, at: usize, path: &Path<'_>, out: &mut Vec<Fault>) {
    const RULE: &str = "embedded-resource";
    for name in ["apiVersion", "kind"] {
        let field = path.name(name).bracketed();
        let Some(value) = tape.get(at, name).last() else {
            out.push(Fault::required(RULE, &field, ""));
            continue;
        };
        // What is no text was not decoded.
        if !tape.is_text(value) {
            continue;
        }
        let text = tape.string(value);
        let complaint = match name {
            _ if text.is_empty() => Some("must not be empty".to_owned()),
            "apiVersion" if text.matches('/').count() > 1 => {
                Some(format!("unexpected GroupVersion string: {text}"))
            }
            "apiVersion" => None,
            _ => Some(names::kind(&text.to_lowercase()))
                .filter(|all| !all.is_empty())
                .map(|all| format!("may have mixed case, but should otherwise match: {}", all.join(","))),
        };
        if let Some(complaint) = complaint {
            out.push(Fault::invalid(RULE, &field, &show(tape, value), &complaint));
        }
    }
    if let Some(metadata) = tape.get(at, "metadata").last().filter(|at| tape.kind(*at) == Kind::Object) {
        meta::embedded(tape, metadata, &path.name("metadata").bracketed(), out);
    }
}

/// A list whose elements are told apart.
fn list(
    schemas: &Schemas,
    schema: &Schema,
    tape: &Tape<'_>,
    at: usize,
    path: &Path<'_>,
    out: &mut Vec<Fault>,
) {
    const RULE: &str = "list-type";
    let Some(rules) = schema.rules.as_deref() else { return };
    let mut doubles: Doubles = HashMap::new();
    match rules.list {
        ListType::Atomic => {}
        ListType::Set => {
            for (i, element) in tape.elements(at).enumerate() {
                if second(&mut doubles, identity(tape, element)) && out.len() < MOST_FAULTS {
                    out.push(Fault::duplicate(RULE, &path.index(i).bracketed(), &show(tape, element)));
                }
            }
        }
        ListType::Map => {
            let odd = |at: &usize| !matches!(tape.kind(*at), Kind::Object | Kind::Null);
            if let Some((i, element)) = tape.elements(at).enumerate().find(|(_, at)| odd(at)) {
                let detail = "must be an object for an array of list-type map";
                out.push(Fault::invalid(RULE, &path.index(i).bracketed(), &show(tape, element), detail));
                return;
            }
            let mut keys: Vec<&str> = rules.list_keys.iter().map(|key| schemas.text(*key)).collect();
            let alone = keys.len() == 1;
            keys.sort_unstable();
            for (i, element) in tape.elements(at).enumerate() {
                let (mut shown, mut exact) = (vec![b'{'], Vec::new());
                for key in &keys {
                    let Some(value) = tape.get(element, key).last() else { continue };
                    shown.extend_from_slice(if shown.len() == 1 { b"" } else { b"," });
                    push_json_str(&mut shown, key);
                    shown.push(b':');
                    push_json(tape, value, &mut shown);
                    exact = identity(tape, value);
                }
                shown.push(b'}');
                let identity = if alone { exact } else { shown.clone() };
                if second(&mut doubles, identity) && out.len() < MOST_FAULTS {
                    let shown = String::from_utf8_lossy(&shown);
                    out.push(Fault::duplicate(RULE, &path.index(i).bracketed(), &shown));
                }
            }
        }
    }
}

type Doubles = HashMap<Vec<u8>, bool>;

/// Whether this is the second of its kind; the third and all further ones are not told.
fn second(doubles: &mut Doubles, identity: Vec<u8>) -> bool {
    match doubles.get_mut(&identity) {
        None => {
            doubles.insert(identity, false);
            false
        }
        Some(told) => !std::mem::replace(told, true),
    }
}

/// What tells a value from others: for scalars 1 is not 1.0, and objects are compared as JSON.
fn identity(tape: &Tape<'_>, at: usize) -> Vec<u8> {
    let mut out = Vec::new();
    if tape.kind(at) == Kind::Number && matches!(Number::of(tape.raw(at)), Number::Float(_)) {
        out.push(b'f');
    }
    push_json(tape, at, &mut out);
    out
}
