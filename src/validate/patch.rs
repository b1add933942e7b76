//! Patches: what is wrong with one whatever it is applied to.
//!
//! The answers are those of kube-apiserver 1.36, with one difference: it looks at a patch when it has the object that it is for, so that a
//! bad patch of an object that is not there is a 404. Newer ones look first, and so does the gate.
//!
//! What a patch makes of its object is not known here, and is left to the upstream: a `test` that fails, a path that leads nowhere, a
//! directive of a strategic merge patch, a field that the result must not have.

mod apply;
mod operations;

use super::{Findings, Invalid, Mode, Part, catalog::Lookup};
use crate::{
    codec::{
        document::{Document, Undecodable},
        tape::{Kind, Tape, Unreadable},
    },
    request::{Asked, Effect, Verb, query},
    status::Status,
};
use http::{HeaderMap, header};

/// How a patch is written, by its exact media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Operations,
    Merge,
    Strategic,
    Apply,
}

/// What is done about fields that are unknown or there twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// A patch, and what it is for.
struct Patch<'a> {
    asked: &'a Asked,
    tape: &'a Tape<'a>,
    validation: FieldValidation,
}

/// What is wrong: by which rule, and what kube-apiserver says.
#[derive(Debug, PartialEq, Eq)]
struct Wrong(&'static str, Status);

type Checked = Result<(), Box<Wrong>>;

/// The type that JSON objects are read into, in Go's words.
const OBJECT: &str = "Go value of type map[string]interface {}";

/// Whether there is a patch to look at.
pub fn wants_body(found: &Findings, asked: &Asked, headers: &HeaderMap) -> bool {
    found.mode(Part::Patches) != Mode::Off
        && asked.info.is_resource()
        && asked.info.verb() == Verb::Patch
        && !asked.info.name().is_empty()
        && asked.info.effect() != Effect::Connect
        && Type::of(headers).is_some()
}

/// Whether the body says what the object shall be, as server-side apply has it.
pub fn is_apply(headers: &HeaderMap) -> bool {
    Type::of(headers) == Some(Type::Apply)
}

/// Looks at a patch, if the request is one. `document` is None where the body is empty.
///
/// # Errors
/// It is wrong, and that is enforced.
pub fn check(
    found: &mut Findings,
    asked: &Asked,
    headers: &HeaderMap,
    route: &Lookup,
    document: Option<&Document<'_>>,
) -> Result<(), Box<Invalid>> {
    let Some(kind) = Type::of(headers).filter(|_| wants_body(found, asked, headers)) else { return Ok(()) };
    let validation = FieldValidation::asked(asked);
    let mode = found.mode(Part::Patches);
    let checked = match document.map(Document::tape) {
        Some(Ok(tape)) => {
            let patch = Patch { asked, tape, validation };
            patch.warn(kind, found);
            patch.check(kind, route)
        }
        Some(Err(Undecodable::Json(error))) => not_json(kind, validation, error),
        // Nobody knows whether the upstream can read it.
        Some(Err(_)) => Ok(()),
        None => empty(kind, validation),
    };
    match checked {
        Ok(()) => Ok(()),
        Err(wrong) => found.fault(mode, Part::Patches, wrong.0, || wrong.1),
    }
}

/// An empty body is no JSON, but it is YAML: of nothing.
fn empty(kind: Type, validation: FieldValidation) -> Checked {
    match kind {
        Type::Apply => Err(apply::bad_kind("", "")),
        _ => Err(syntax(kind, validation, "unexpected end of JSON input")),
    }
}

fn not_json(kind: Type, validation: FieldValidation, error: &Unreadable) -> Checked {
    match (kind, error) {
        // What begins like JSON may yet be YAML, which the upstream takes it for.
        (Type::Apply, _) | (_, Unreadable::Nodes | Unreadable::Size) => Ok(()),
        _ => Err(syntax(kind, validation, &error.to_string())),
    }
}

fn syntax(kind: Type, validation: FieldValidation, text: &str) -> Box<Wrong> {
    match (kind, validation) {
        (Type::Merge, FieldValidation::Ignore) => bad("syntax", "Invalid JSON Patch"),
        _ => bad("syntax", prefix(kind, validation).to_owned() + text),
    }
}

fn prefix(kind: Type, validation: FieldValidation) -> &'static str {
    match kind {
        Type::Merge | Type::Operations if validation != FieldValidation::Ignore => "error decoding patch: ",
        _ => "",
    }
}

/// A number that no double holds.
fn is_beyond(raw: &str) -> bool {
    // `Infinity` is nothing in JSON.
    raw.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && raw.parse::<f64>().is_ok_and(f64::is_infinite)
}

fn bad(rule: &'static str, text: impl Into<String>) -> Box<Wrong> {
    Box::new(Wrong(rule, Status::bad_request(text)))
}

// === impl Type ===

impl Type {
    /// kube-apiserver cuts at `;` and compares what is left as it is.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        match value.split(';').next()? {
            "application/json-patch+json" => Some(Self::Operations),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            "application/apply-patch+yaml" => Some(Self::Apply),
            _ => None,
        }
    }
}

// === impl FieldValidation ===

impl FieldValidation {
    fn asked(asked: &Asked) -> Self {
        let value = query::first(asked.target.query().unwrap_or_default(), "fieldValidation");
        match value.as_deref() {
            Some("Ignore") => Self::Ignore,
            Some("Strict") => Self::Strict,
            _ => Self::Warn,
        }
    }
}

// === impl Patch ===

impl Patch<'_> {
    fn check(&self, kind: Type, route: &Lookup) -> Checked {
        match kind {
            Type::Operations => self.operations(),
            Type::Merge => self.merge(),
            Type::Strategic => self.strategic(),
            Type::Apply => self.apply(route),
        }
    }

    /// Tells what kube-apiserver only warns of, so that the record has it.
    fn warn(&self, kind: Type, found: &mut Findings) {
        if kind == Type::Operations && self.validation == FieldValidation::Warn {
            self.odd_members(|rule, text| found.warning(Part::Patches, rule, text));
        }
    }

    fn merge(&self) -> Checked {
        let strict = self.validation != FieldValidation::Ignore;
        match self.tape.kind(0) {
            Kind::Object => {}
            Kind::Null => return Err(bad("shape", "Invalid JSON Patch")),
            _ if strict => return Err(self.mistyped(Type::Merge, 0, OBJECT)),
            // What comes of an array is read as the object, and refused with all of it in the answer.
            Kind::Array => return Ok(()),
            _ => return Err(bad("shape", "Invalid JSON Patch")),
        }
        if strict {
            self.numbers(0, Type::Merge, "Go value of type float64")?;
        }
        self.names(|_| true)
    }

    fn strategic(&self) -> Checked {
        match self.tape.kind(0) {
            Kind::Object => {}
            Kind::Null => return Ok(()),
            _ => return Err(self.mistyped(Type::Strategic, 0, OBJECT)),
        }
        self.numbers(0, Type::Strategic, "Go value of type float64")?;
        // A directive may say what becomes of the members beside it.
        let plain = |at| self.tape.members(at).all(|(key, _)| !self.tape.string(key).starts_with('$'));
        self.names(plain)
    }

    /// Where the patch says that its object is another one, in objects that are `plain`.
    fn names(&self, plain: impl Fn(usize) -> bool) -> Checked {
        let metadata = self.tape.get(0, "metadata").last();
        let Some(metadata) = metadata.filter(|_| plain(0)) else { return Ok(()) };
        match self.tape.kind(metadata) {
            Kind::Object if plain(metadata) => {}
            Kind::Null => return Err(self.nameless()),
            _ => return Ok(()),
        }
        self.namespace(metadata)?;
        let Some(name) = self.tape.get(metadata, "name").last() else { return Ok(()) };
        match self.tape.kind(name) {
            Kind::Null => Err(self.nameless()),
            _ if !self.tape.is_text(name) => Ok(()),
            _ if self.tape.is_empty(name) => Err(self.nameless()),
            _ => self.name(name),
        }
    }

    fn name(&self, at: usize) -> Checked {
        let (theirs, ours) = (self.tape.string(at), self.asked.info.name());
        if theirs == ours {
            return Ok(());
        }
        Err(bad(
            "name",
            format!("the name of the object ({theirs}) does not match the name on the URL ({ours})"),
        ))
    }

    fn nameless(&self) -> Box<Wrong> {
        let name = self.asked.info.name();
        bad(
            "name",
            format!("the name of the object ({name} based on URL) was undeterminable: name must be provided"),
        )
    }

    fn namespace(&self, metadata: usize) -> Checked {
        let info = &self.asked.info;
        let is_namespace = info.group().is_empty() && info.resource() == "namespaces";
        let theirs = self.tape.get(metadata, "namespace").last();
        let Some(theirs) = theirs.filter(|at| self.tape.is_text(*at)) else { return Ok(()) };
        let theirs = self.tape.string(theirs);
        if is_namespace || info.namespace().is_empty() || theirs.is_empty() || theirs == info.namespace() {
            return Ok(());
        }
        let text = "the namespace of the provided object does not match the namespace sent on the request";
        Err(bad("namespace", text))
    }

    /// Numbers that no double holds.
    fn numbers(&self, at: usize, kind: Type, target: &str) -> Checked {
        let mut inside = vec![at];
        while let Some(at) = inside.pop() {
            match self.tape.kind(at) {
                // In reverse, since the last one is looked at first.
                Kind::Object => {
                    let start = inside.len();
                    inside.extend(self.tape.members(at).map(|(_, value)| value));
                    inside.get_mut(start..).unwrap_or_default().reverse();
                }
                Kind::Array => {
                    let start = inside.len();
                    inside.extend(self.tape.elements(at));
                    inside.get_mut(start..).unwrap_or_default().reverse();
                }
                Kind::Number if is_beyond(self.tape.raw(at)) => {
                    let (prefix, raw) = (prefix(kind, self.validation), self.tape.raw(at));
                    let text = format!("{prefix}json: cannot unmarshal number {raw} into {target}");
                    return Err(bad("number", text));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A value that is not what `target`, in Go's words, takes.
    fn mistyped(&self, kind: Type, at: usize, target: &str) -> Box<Wrong> {
        let what = match self.tape.kind(at) {
            Kind::Object => "object",
            Kind::Array => "array",
            Kind::Text | Kind::Escaped => "string",
            Kind::Number => "number",
            Kind::Bool => "bool",
            Kind::Null => "null",
        };
        bad("shape", format!("{}json: cannot unmarshal {what} into {target}", prefix(kind, self.validation)))
    }
}

#[cfg(test)]
mod tests;
