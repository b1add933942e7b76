//! The metadata of an object, as every kind's validation has it (`k8s.io/apimachinery pkg/api/validation`). What its JSON types are is the
//! decoder's business: what is not as it should be is passed over here.

use super::{
    cause::{Fault, quoted},
    custom::MOST_FAULTS,
    names::{self, Rule},
};
use crate::{
    codec::tape::{Kind, Tape},
    status::push_json_str,
};

/// Rule of all of it.
pub(super) const RULE: &str = "metadata";
/// Bytes of all annotations together.
const MOST_ANNOTATIONS: usize = 256 << 10;
/// Two that exclude each other.
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What is wanted of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Naming {
    /// None: it is not known what it must be like.
    pub(super) rule: Option<Rule>,
    /// There must be one, or the beginning of one.
    pub(super) required: bool,
    /// What the beginning of a name is held against.
    pub(super) prefix: Prefix,
}

/// When the beginning of a name is looked at, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefix {
    /// Always: as a beginning.
    Always,
    /// Where there is no name: as a beginning.
    Unnamed,
    /// Where there is no name: what becomes of it is held against the rule.
    Generated,
}

/// Bytes of a name's beginning that are kept.
const LONGEST_PREFIX: usize = 58;

/// One object's metadata.
struct Metadata<'a, 'o> {
    tape: &'a Tape<'a>,
    /// None: there is none.
    at: Option<usize>,
    /// `metadata`, or where it stands.
    field: &'a str,
    /// Values are not repeated.
    hidden: bool,
    out: &'o mut Vec<Fault>,
}

/// The metadata of an object. `naming`: None where the name is somebody else's business. `hidden`: values are not repeated.
pub(super) fn object(tape: &Tape<'_>, naming: Option<Naming>, hidden: bool, out: &mut Vec<Fault>) {
    let at = tape.get(0, "metadata").last();
    let mut metadata = Metadata { tape, at, field: "metadata", hidden, out };
    if let Some(naming) = naming {
        metadata.name(naming);
    }
    metadata.rest();
}

/// The metadata of an object within another.
pub(super) fn embedded(tape: &Tape<'_>, at: usize, field: &str, out: &mut Vec<Fault>) {
    let mut metadata = Metadata { tape, at: Some(at), field, hidden: false, out };
    metadata.name(Naming { rule: Some(Rule::Segment), required: false, prefix: Prefix::Always });
    if let Some(namespace) = metadata.text("namespace").filter(|name| !name.is_empty()) {
        metadata.complain("namespace", &namespace, names::namespace(&namespace));
    }
    metadata.rest();
}

impl Metadata<'_, '_> {
    fn get(&self, name: &str, kind: Kind) -> Option<usize> {
        self.tape.get(self.at?, name).last().filter(|at| self.tape.kind(*at) == kind)
    }

    fn text(&self, name: &str) -> Option<String> {
        let at = self.tape.get(self.at?, name).last().filter(|at| self.tape.is_text(*at))?;
        Some(self.tape.string(at).into_owned())
    }

    fn child(&self, name: &str) -> String {
        format!("{}.{name}", self.field)
    }

    fn invalid(&mut self, name: &str, value: &str, detail: &str) {
        if self.out.len() < MOST_FAULTS {
            let field = self.child(name);
            self.out.push(match self.hidden {
                false => Fault::invalid(RULE, &field, value, detail),
                true => Fault::invalid_hidden(RULE, &field, detail),
            });
        }
    }

    fn complain(&mut self, name: &str, value: &str, complaints: names::Complaints) {
        for complaint in complaints {
            self.invalid(name, &quoted(value), &complaint);
        }
    }

    fn name(&mut self, naming: Naming) {
        let prefix = self.text("generateName").unwrap_or_default();
        let given = self.text("name").unwrap_or_default();
        if let Some(rule) = naming.rule.filter(|_| !prefix.is_empty()) {
            let complaints = match naming.prefix {
                Prefix::Unnamed | Prefix::Generated if !given.is_empty() => Vec::new(),
                Prefix::Always | Prefix::Unnamed => rule.check(&prefix, true),
                Prefix::Generated => {
                    let end = (0..=LONGEST_PREFIX).rev().find(|end| prefix.is_char_boundary(*end));
                    let kept = prefix.get(..end.unwrap_or_default().min(prefix.len())).unwrap_or(&prefix);
                    rule.check(&format!("{kept}bbbbb"), false)
                }
            };
            self.complain("generateName", &prefix, complaints);
        }
        match given {
            name if !name.is_empty() => {
                if let Some(rule) = naming.rule {
                    self.complain("name", &name, rule.check(&name, false));
                }
            }
            _ if prefix.is_empty() && naming.required => {
                let field = self.child("name");
                self.out.push(Fault::required(RULE, &field, "name or generateName is required"));
            }
            _ => {}
        }
    }

    fn rest(&mut self) {
        let tape = self.tape;
        let (labels, annotations) = (self.get("labels", Kind::Object), self.get("annotations", Kind::Object));
        let (owners, finalizers) =
            (self.get("ownerReferences", Kind::Array), self.get("finalizers", Kind::Array));
        for (key, value) in labels.into_iter().flat_map(|at| tape.members(at)) {
            let (key, value) = (tape.string(key), tape.string(value));
            self.complain("labels", &key, names::qualified(&key));
            self.complain("labels", &value, names::label_value(&value));
        }
        let mut size = 0;
        for (key, value) in annotations.into_iter().flat_map(|at| tape.members(at)) {
            let key = tape.string(key);
            size += key.len() + tape.string(value).len();
            self.complain("annotations", &key, names::qualified(&key.to_lowercase()));
        }
        if size > MOST_ANNOTATIONS {
            let field = self.child("annotations");
            self.out.push(Fault::too_long(RULE, &field, MOST_ANNOTATIONS as u64));
        }
        if let Some(owners) = owners {
            self.owners(owners);
        }
        if let Some(finalizers) = finalizers {
            self.finalizers(finalizers);
        }
    }

    fn owners(&mut self, at: usize) {
        let tape = self.tape;
        let text = |owner, name| tape.get(owner, name).last().map_or("".into(), |at| tape.string(at));
        let mut controller: Option<String> = None;
        for owner in tape.elements(at) {
            let (version, kind) = (text(owner, "apiVersion"), text(owner, "kind"));
            let slashes = version.matches('/').count();
            let number = version.rsplit('/').next().unwrap_or_default();
            if number.is_empty() || slashes > 1 {
                let complaint = vec!["version must not be empty".to_owned()];
                self.complain("ownerReferences.apiVersion", &version, complaint);
            }
            for name in ["kind", "name", "uid"] {
                if text(owner, name).is_empty() {
                    let complaint = vec!["must not be empty".to_owned()];
                    self.complain(&format!("ownerReferences.{name}"), "", complaint);
                }
            }
            if kind == "Event" && version == "v1" {
                let shown = owners_shown(tape, std::iter::once(owner));
                let shown = shown.trim_start_matches('[').trim_end_matches(']');
                self.invalid("ownerReferences", shown, "/v1, Kind=Event is disallowed from being an owner");
            }
            let controls = tape.get(owner, "controller").last().is_some_and(|at| tape.raw(at) == "true");
            if controls && self.out.len() < MOST_FAULTS {
                let this = format!("{kind}/{}", text(owner, "name"));
                match &controller {
                    None => controller = Some(this),
                    Some(first) => {
                        let detail = format!(
                            "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                        );
                        self.invalid("ownerReferences", &owners_shown(tape, tape.elements(at)), &detail);
                    }
                }
            }
        }
    }

    fn finalizers(&mut self, at: usize) {
        let tape = self.tape;
        let all = || tape.elements(at).map(|at| tape.string(at));
        for name in all() {
            self.complain("finalizers", &name, names::qualified(&name));
        }
        if all().any(|name| name == ORPHAN) && all().any(|name| name == FOREGROUND) {
            let mut shown = Vec::new();
            for name in all().take(MOST_FAULTS) {
                shown.push(if shown.is_empty() { b'[' } else { b',' });
                push_json_str(&mut shown, &name);
            }
            shown.push(b']');
            let detail = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
            self.invalid("finalizers", &String::from_utf8_lossy(&shown), &detail);
        }
    }
}

/// References as the API server writes them.
fn owners_shown(tape: &Tape<'_>, owners: impl Iterator<Item = usize>) -> String {
    let mut out = vec![b'['];
    for (i, owner) in owners.take(MOST_FAULTS).enumerate() {
        out.extend_from_slice(if i == 0 { b"{" } else { b",{" });
        for (j, name) in ["apiVersion", "kind", "name", "uid"].into_iter().enumerate() {
            out.extend_from_slice(if j == 0 { b"" } else { b"," });
            push_json_str(&mut out, name);
            out.push(b':');
            push_json_str(&mut out, &tape.get(owner, name).last().map_or("".into(), |at| tape.string(at)));
        }
        for name in ["controller", "blockOwnerDeletion"] {
            if let Some(at) = tape.get(owner, name).last().filter(|at| tape.kind(*at) == Kind::Bool) {
                out.extend_from_slice(format!(",\"{name}\":{}", tape.raw(at)).as_bytes());
            }
        }
        out.push(b'}');
    }
    out.push(b']');
    String::from_utf8_lossy(&out).into_owned()
}
