//! Apply patches: an object that says what it is.

use super::{Checked, OBJECT, Patch, Type, Wrong, bad, is_beyond};
use crate::{codec::tape::Kind, validate::catalog::Lookup};
use std::borrow::Cow;

impl Patch<'_> {
    pub(super) fn apply(&self, route: &Lookup) -> Checked {
        match self.tape.kind(0) {
            Kind::Object => {}
            Kind::Null => return Err(bad_kind("", "")),
            _ => {
                let reading = "error decoding YAML: error unmarshaling JSON: while decoding JSON: ";
                let mut wrong = self.mistyped(Type::Apply, 0, OBJECT);
                wrong.1.message.insert_str(0, reading);
                return Err(wrong);
            }
        }
        self.kind(route)?;
        let metadata = self.tape.get(0, "metadata").last();
        let Some(metadata) = metadata.filter(|at| self.tape.kind(*at) == Kind::Object) else { return Ok(()) };
        let managed = self.tape.get(metadata, "managedFields").last();
        if managed.is_some_and(|at| self.is_managed_fields(at)) {
            return Err(bad("managed-fields", "metadata.managedFields must be nil"));
        }
        self.namespace(metadata)?;
        match self.tape.get(metadata, "name").last() {
            // Without a name it may be applied to what is there.
            Some(name) if self.tape.is_text(name) && !self.tape.is_empty(name) => self.name(name),
            _ => Ok(()),
        }
    }

    fn kind(&self, route: &Lookup) -> Checked {
        let text = |name| match self.tape.get(0, name).last() {
            // To YAML, what no double holds is text.
            Some(at) if is_beyond(self.tape.raw(at)) => self.tape.raw(at).into(),
            Some(at) => self.tape.string(at),
            None => Cow::Borrowed(""),
        };
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let right = match (group_version(&api_version), route) {
            (None, _) => false,
            (Some((group, version)), Lookup::Known(route)) => {
                let want = route.kind();
                (&*want.group, &*want.version, &*want.kind) == (group, version, &*kind)
            }
            (Some((_, version)), _) => !version.is_empty() && !kind.is_empty(),
        };
        if right { Ok(()) } else { Err(bad_kind(&api_version, &kind)) }
    }

    /// Whether the upstream can read it as such; what it cannot read it takes for a mistake in a field, or overlooks.
    fn is_managed_fields(&self, at: usize) -> bool {
        let is_text = |at| self.tape.is_text(at) || self.tape.kind(at) == Kind::Null;
        let readable = |(key, value)| match &*self.tape.string(key) {
            "manager" | "operation" | "apiVersion" | "fieldsType" | "subresource" => is_text(value),
            "time" => self.tape.kind(value) == Kind::Null || is_time(&self.tape.string(value)),
            _ => true,
        };
        let is_entry = |at| self.tape.kind(at) == Kind::Object && self.tape.members(at).all(readable);
        self.tape.kind(at) == Kind::Array && self.tape.elements(at).all(is_entry)
    }
}

/// The object is of another kind than the path.
pub(super) fn bad_kind(api_version: &str, kind: &str) -> Box<Wrong> {
    // What is no group and version is nothing, and then neither is the kind.
    let (group, version, kind) = match group_version(api_version) {
        Some((group, version)) => (group, version, kind),
        None => ("", "", ""),
    };
    bad("kind", format!("invalid object type: {group}/{version}, Kind={kind}"))
}

fn group_version(api_version: &str) -> Option<(&str, &str)> {
    match api_version.split_once('/') {
        None => Some(("", api_version)),
        Some((_, version)) if version.contains('/') => None,
        group_version => group_version,
    }
}

/// As kube-apiserver writes it: `2026-01-31T23:59:59Z`.
fn is_time(text: &str) -> bool {
    let shape = b"dddd-dd-ddTdd:dd:ddZ";
    let fits = |(byte, want): (u8, &u8)| if *want == b'd' { byte.is_ascii_digit() } else { byte == *want };
    let number =
        |at: usize| text.get(at..at + 2).and_then(|digits| digits.parse::<u8>().ok()).unwrap_or(u8::MAX);
    text.len() == shape.len()
        && text.bytes().zip(shape).all(fits)
        && (1..=12).contains(&number(5))
        && (1..=31).contains(&number(8))
        && number(11) < 24
        && number(14) < 60
        && number(17) < 60
}
