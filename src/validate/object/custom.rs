//! What kube-apiserver's decoder for custom resources makes of an object. Their fields have no Go types: a value that does not fit its
//! schema is decoded all the same. What is decoded like a built-in kind's is metadata, the object's own and those of objects embedded in it;
//! and fields that the schema does not know are pruned, of which it tells.

use super::fields::{Decoded, Path, Seen, Step, Strict, Walk, Way};
use crate::{
    codec::tape::{Kind, Tape},
    validate::schema::{Additional, Flags, Id, Schema, Schemas},
};
use std::collections::{HashMap, HashSet};

/// Levels of nesting that are looked at.
const DEEPEST: usize = 300;

struct Custom<'t> {
    schemas: &'t Schemas,
    tape: &'t Tape<'t>,
    path: Vec<Step>,
    decoded: Decoded,
    /// Keys of members of which a later one has the same name: what they say does not count.
    hidden: HashSet<usize, foldhash::fast::RandomState>,
    unknown: Vec<String>,
    embedded: Vec<(Vec<Step>, Id, usize)>,
}

/// Decodes an object; `strict`: tells fields that are unknown or there twice.
pub(super) fn decode(schemas: &Schemas, id: Id, tape: &Tape<'_>, strict: bool) -> Decoded {
    let mut custom = Custom {
        schemas,
        tape,
        path: Vec::new(),
        decoded: Decoded::default(),
        hidden: HashSet::default(),
        unknown: Vec::new(),
        embedded: Vec::new(),
    };
    custom.numbers();
    custom.twice(strict);
    custom.prune(Some(schemas.get(id)), 0, true);
    custom.told(id, strict)
}

impl Custom<'_> {
    /// All numbers become doubles or 64-bit integers.
    fn numbers(&mut self) {
        let tape = self.tape;
        if !tape.traits().odd_numbers {
            return;
        }
        let numbers = (0..tape.count()).filter(|at| tape.kind(*at) == Kind::Number).map(|at| tape.raw(at));
        let wrong = numbers
            .filter(|raw| !raw.parse::<f64>().is_ok_and(f64::is_finite))
            .map(|raw| format!("json: cannot unmarshal number {raw} into Go value of type float64"));
        self.decoded.error = wrong.into_iter().next();
    }

    /// Finds keys that are in one object twice, wherever it is.
    fn twice(&mut self, strict: bool) {
        let tape = self.tape;
        let mut all = Vec::new();
        for at in 0..tape.count() {
            if tape.kind(at) != Kind::Object {
                continue;
            }
            let mut seen = Seen::default();
            if tape.members(at).any(|(key, _)| !seen.insert(tape.string(key))) {
                let mut last = HashMap::new();
                for (key, _) in tape.members(at) {
                    if let Some(before) = last.insert(tape.string(key), key) {
                        self.hidden.insert(before);
                        all.push(key);
                    }
                }
            }
        }
        if strict && !all.is_empty() {
            all.sort_unstable();
            let wanted = all.into_iter().take(super::fields::MOST).collect();
            self.tell(&wanted, 0, &mut Vec::new());
        }
    }

    /// Tells of the keys that are `wanted`, in the order of the text.
    fn tell(&mut self, wanted: &HashSet<usize>, at: usize, path: &mut Vec<Step>) {
        let tape = self.tape;
        let concerns = |from: usize, to: usize| wanted.iter().any(|key| (from..to).contains(key));
        if path.len() >= DEEPEST || !concerns(at, tape.after(at)) {
            return;
        }
        for (key, value) in tape.members(at) {
            path.push(Step::Field(key, None));
            if wanted.contains(&key) {
                let text = format!("duplicate field \"{}\"", Path { tape, steps: path });
                if !self.decoded.strict.iter().any(|known| known.text == text) {
                    self.decoded.push("duplicate-field", text);
                }
            }
            self.tell(wanted, value, path);
            path.pop();
        }
        for (i, element) in tape.elements(at).enumerate() {
            path.push(Step::Element(i));
            self.tell(wanted, element, path);
            path.pop();
        }
    }

    /// Walks along a value as pruning does; `whole`: it is an object with a kind of its own.
    fn prune(&mut self, schema: Option<&Schema>, at: usize, whole: bool) {
        let (schemas, tape) = (self.schemas, self.tape);
        if self.path.len() >= DEEPEST {
            return;
        }
        let keeps = schema.is_some_and(|s| s.flags.has(Flags::PRESERVE_UNKNOWN));
        let whole = whole || schema.is_some_and(|s| s.flags.has(Flags::EMBEDDED));
        for (key, value) in tape.members(at) {
            if self.hidden.contains(&key) {
                continue;
            }
            let name = tape.string(key);
            self.path.push(Step::Field(key, None));
            let property = schema.and_then(|schema| schemas.property(schema, &name));
            let additional = schema.map(|schema| schema.additional).unwrap_or_default();
            match (property, additional) {
                _ if whole && matches!(&*name, "apiVersion" | "kind") => {}
                (Some(property), _) if whole && name == "metadata" => {
                    self.embedded.push((self.path.clone(), property.schema, value));
                }
                _ if whole && name == "metadata" => {}
                (Some(property), _) => self.prune(Some(schemas.get(property.schema)), value, false),
                (None, Additional::Of(each)) => self.prune(Some(schemas.get(each)), value, false),
                (None, Additional::Any) => {}
                _ if keeps => {}
                _ => self.unknown(),
            }
            self.path.pop();
        }
        let items = schema.and_then(|schema| schema.items);
        if tape.kind(at) == Kind::Array && (items.is_some() || !keeps) {
            for (i, element) in tape.elements(at).enumerate() {
                self.path.push(Step::Element(i));
                self.prune(items.map(|items| schemas.get(items)), element, false);
                self.path.pop();
            }
        }
    }

    fn unknown(&mut self) {
        if !self.decoded.is_full() {
            let text = format!("unknown field \"{}\"", Path { tape: self.tape, steps: &self.path });
            self.decoded.count(text.len());
            self.unknown.push(text);
        }
    }

    /// Puts together what is told, in the decoder's order: the object's own metadata, other fields, metadata inside it.
    fn told(mut self, id: Id, strict: bool) -> Decoded {
        let way = Way { sorted: true, doubles: true, quoted: false, strict, ..Way::JSON };
        let mut inner = Vec::new();
        let root = self.schemas.get(id);
        let own = self.schemas.property(root, "metadata").map(|property| property.schema);
        for (path, metadata, at) in std::mem::take(&mut self.embedded) {
            let is_own = path.len() == 1 && own == Some(metadata);
            let mut walk = Walk::new(self.schemas, self.tape, way).inside(&path);
            walk.value(metadata, at);
            let Decoded { error, strict: found, .. } = walk.decoded;
            // Of keys that are there twice it was told already.
            let mut found: Vec<Strict> = found.into_iter().filter(|s| s.rule == "unknown-field").collect();
            found.sort_by(|a, b| a.text.cmp(&b.text));
            if let Some(error) = error.filter(|_| self.decoded.error.is_none()) {
                self.decoded.error = Some(if is_own {
                    error
                } else {
                    let (path, value) = (Path { tape: self.tape, steps: &path }, short(self.tape.raw(at)));
                    format!("{path}: Invalid value: {value}: {error}")
                });
            }
            if is_own {
                self.decoded.strict.extend(found);
            } else {
                inner.extend(found);
            }
        }
        if strict {
            self.unknown.sort_unstable();
            let unknown = self.unknown.into_iter();
            self.decoded.strict.extend(unknown.map(|text| Strict { rule: "unknown-field", text }));
            inner.sort_by(|a, b| a.text.cmp(&b.text));
            self.decoded.strict.extend(inner);
        }
        self.decoded
    }
}

/// The beginning of a value: it may hold anything.
fn short(raw: &str) -> String {
    match raw.char_indices().nth(100) {
        Some((end, _)) => format!("{} ...", raw.get(..end).unwrap_or_default()),
        None => raw.to_owned(),
    }
}
