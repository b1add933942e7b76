//! Values of an object's fields, which webhooks of the cluster may still complete: told by default, enforced for the groups that the
//! operator names, with the same 422 as kube-apiserver's.
//!
//! Of every kind: its metadata. Of custom resources: all that their schemas say, except rules in CEL. Of built-in kinds: values of
//! enumerations that the API server is known to refuse. What depends on the stored object, on the cluster's version or on anything
//! else that is not known here is left to the upstream: where in doubt, nothing is found.

mod builtin;
mod cause;
mod complete;
mod custom;
mod formats;
mod meta;
mod names;
mod path;
mod pattern;
mod structural;

pub(in crate::validate) use pattern::Patterns;

use super::{
    Finding, Findings, Invalid, Mode, Part,
    catalog::{Catalog, Route},
    schema::{Additional, Flags, Id, Schemas},
};
use crate::{
    codec::tape::{Kind, Tape},
    request::{RequestInfo, Verb},
    status::{Cause, Status},
};
use cause::Fault;
use complete::Completed;
use custom::Check;
use path::Path;
use std::{cell::Cell, collections::HashSet};
use structural::Structural;

/// Findings that are told of one object.
const MOST_TOLD: usize = 10;
/// Bytes of a finding's text.
const LONGEST: usize = 1024;
/// Levels of nesting, keys and values of a completed object: it was read before, and little was added.
const DEEPEST: usize = 10_000;
const MOST_NODES: usize = 1 << 20;

/// An object on its way to the upstream: of a create, an update or a server-side apply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object<'a> {
    /// What is asked.
    pub(super) info: &'a RequestInfo,
    /// Where it leads.
    pub(super) route: &'a Route,
    /// What is known of the group's version.
    pub(super) schemas: Option<&'a Schemas>,
    /// The object.
    pub(super) tape: &'a Tape<'a>,
}

/// Looks at the values of an object.
///
/// # Errors
/// They are enforced, and something is wrong, also by what the cluster says now.
pub(super) async fn check(
    found: &mut Findings,
    catalog: &Catalog,
    object: Object<'_>,
) -> Result<(), Box<Invalid>> {
    let mode = found.values_of(object.info.group());
    if mode == Mode::Off {
        return Ok(());
    }
    let mut faults = object.faults();
    if mode == Mode::Enforce && faults.iter().any(|fault| fault.rule != meta::RULE) {
        let schemas = catalog.schemas_now(object.info.group(), object.info.version()).await;
        faults = Object { schemas: schemas.as_deref(), ..object }.faults();
    }
    // What cannot be merged is not judged by the API server: it fails in other words.
    if object.info.verb() == Verb::Patch && faults.iter().any(Fault::is_of_shape) {
        return Ok(());
    }
    object.tell(found, mode, faults)
}

/// The same without a cluster.
pub(super) fn hold(found: &mut Findings, object: Object<'_>) -> Result<(), Box<Invalid>> {
    let mode = found.values_of(object.info.group());
    let faults = if mode == Mode::Off { Vec::new() } else { object.faults() };
    object.tell(found, mode, faults)
}

fn told(cause: &Cause) -> String {
    let mut text = format!("{}: {}", cause.field, cause.message);
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
    }
    text
}

impl Object<'_> {
    fn tell(&self, found: &mut Findings, mode: Mode, faults: Vec<Fault>) -> Result<(), Box<Invalid>> {
        let Some(first) = faults.first() else { return Ok(()) };
        if mode == Mode::Enforce {
            let rule = first.rule;
            let kind = self.route.kind();
            let causes = faults.into_iter().map(|fault| fault.cause).collect();
            let status = Status::invalid(&kind.group, &kind.kind, &self.name(), causes);
            return Err(Box::new(Invalid { part: Part::Values, rule, status }));
        }
        let mut seen = HashSet::new();
        let texts = faults.into_iter().map(|fault| (fault.rule, told(&fault.cause)));
        let texts = texts.filter(|(_, text)| seen.insert(text.clone()));
        found.list.extend(texts.take(MOST_TOLD).map(|(rule, text)| Finding {
            part: Part::Values,
            rule,
            text,
        }));
        Ok(())
    }

    fn name(&self) -> String {
        let metadata = self.tape.get(0, "metadata").last();
        let given = metadata.and_then(|at| self.tape.get(at, "name").last());
        match self.info.name() {
            "" => given.map(|at| self.tape.string(at).into_owned()).unwrap_or_default(),
            name => name.to_owned(),
        }
    }

    /// What is wrong with it, in the order in which kube-apiserver says it.
    fn faults(&self) -> Vec<Fault> {
        let mut out = Vec::new();
        let (info, tape) = (self.info, self.tape);
        let custom = self.schemas.filter(|schemas| schemas.is_custom());
        let is_status = info.subresource() == "status" && info.verb() == Verb::Update && custom.is_some();
        if tape.kind(0) != Kind::Object || !(info.subresource().is_empty() || is_status) {
            return out;
        }
        let kind = self.route.kind();
        if !is_status && (custom.is_some() || builtin::has_metadata(info.group(), info.resource())) {
            let naming = match (info.verb(), custom) {
                (Verb::Create, Some(_)) => Some(builtin::CUSTOM),
                (Verb::Create, None) => Some(builtin::naming(info.group(), info.resource())),
                _ => None,
            };
            meta::object(tape, naming, builtin::is_secret(kind), &mut out);
        }
        let schema = self.schemas.and_then(|schemas| {
            let id = schemas.body(info.resource(), info.subresource(), info.verb())?;
            Some((schemas, id))
        });
        match schema {
            Some((schemas, id)) if schemas.is_custom() => {
                let whole = info.verb() != Verb::Patch;
                // What stands in the status is dropped where it is a resource of its own, and vice versa.
                let subresources = &self.route.resource.subresources;
                let has_status = subresources.iter().any(|below| &*below.name == "status");
                custom_faults(schemas, id, tape, Scope { whole, is_status, has_status }, &mut out);
            }
            Some((schemas, id))
                if info.verb() == Verb::Create && builtin::has_metadata(info.group(), info.resource()) =>
            {
                builtin::check(schemas, id, tape, &mut out);
            }
            _ => {}
        }
        out
    }
}

/// What of a custom resource is looked at.
#[derive(Debug, Clone, Copy)]
struct Scope {
    /// False: an applied object may leave to others what they have set.
    whole: bool,
    is_status: bool,
    has_status: bool,
}

fn custom_faults(schemas: &Schemas, id: Id, tape: &Tape<'_>, scope: Scope, out: &mut Vec<Fault>) {
    let without_status = if scope.has_status && !scope.is_status { without(tape, "status") } else { None };
    let shorter = without_status.and_then(read);
    let tape = shorter.as_ref().unwrap_or(tape);
    let completed = match scope.whole {
        true => complete::complete(schemas, id, tape),
        false => Completed::Same,
    };
    let read_again = match completed {
        Completed::Unsure => return,
        Completed::Same => None,
        Completed::Text(text) => match read(text) {
            Some(tape) => Some(tape),
            None => return,
        },
    };
    let tape = read_again.as_ref().unwrap_or(tape);
    let (id, at, root) = if scope.is_status {
        let schema = schemas.get(id);
        let Some(property) = schemas.property(schema, "status") else { return };
        let Some(at) = tape.get(0, "status").last() else { return };
        (property.schema, at, Path::root("status"))
    } else {
        (id, 0, Path::root(""))
    };
    let check = Check::new(schemas, tape, scope.whole);
    let outcome = check.value(id, at, &root);
    if check.gave_up() {
        return;
    }
    out.extend(outcome.faults.into_iter().map(|told| told.fault));
    let mut structural = Structural { schemas, tape, embedded: Vec::new(), lists: Vec::new() };
    structural.value(id, at, &root);
    if scope.whole {
        out.append(&mut structural.embedded);
    }
    out.append(&mut structural.lists);
    if out.iter().any(Fault::blocks) && has_validations(schemas, id) {
        out.push(Fault::invalid(
            "required",
            "<nil>",
            "null",
            "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
        ));
    }
}

fn read<'a>(text: String) -> Option<Tape<'a>> {
    Tape::read(text, DEEPEST, &Cell::new(MOST_NODES)).ok()
}

/// The object without one of its members; None: it has none of that name.
fn without(tape: &Tape<'_>, name: &str) -> Option<String> {
    tape.get(0, name).next()?;
    let kept = tape.members(0).filter(|(key, _)| tape.string(*key) != name);
    let kept: Vec<String> =
        kept.map(|(key, value)| format!("{}:{}", tape.raw(key), tape.raw(value))).collect();
    Some(format!("{{{}}}", kept.join(",")))
}

/// Whether a schema, or one below it, has rules in CEL.
fn has_validations(schemas: &Schemas, id: Id) -> bool {
    let (mut open, mut seen) = (vec![id], HashSet::new());
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        let schema = schemas.get(id);
        if schema.flags.has(Flags::VALIDATIONS) {
            return true;
        }
        open.extend(schema.properties.iter().map(|property| property.schema));
        open.extend(schema.items);
        if let Additional::Of(id) = schema.additional {
            open.push(id);
        }
    }
    false
}

#[cfg(test)]
mod tests;
