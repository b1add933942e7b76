//! Whether the cluster serves what is asked for: 404 and 405.

use super::{
    Findings, Invalid, Part,
    catalog::{Lookup, Missing, is_builtin},
};
use crate::{
    request::{Asked, RequestInfo, Verb},
    status::{Details, Status},
};

/// Looks at the path of a request.
pub(super) fn check(found: &mut Findings, asked: &Asked, route: &Lookup) -> Result<(), Box<Invalid>> {
    let Lookup::Missing(missing) = route else { return Ok(()) };
    let rule = match missing {
        Missing::Group => "unknown-group",
        Missing::Version => "unknown-version",
        Missing::Resource => "unknown-resource",
        Missing::Subresource => "unknown-subresource",
        Missing::Path => "unknown-path",
        Missing::Verb => "unsupported-verb",
    };
    let mode = found.mode(Part::Routes);
    found.fault(mode, Part::Routes, rule, || status(&asked.info, *missing))
}

/// kube-apiserver's own kinds are refused by its router; custom resources by a handler that knows their names. What neither knows is answered
/// as plain text there, in which clients read the same sentence.
fn status(info: &RequestInfo, missing: Missing) -> Status {
    let custom = !is_builtin(info.group());
    match missing {
        Missing::Subresource if custom => Status::not_found(info.group(), info.resource(), info.name()),
        Missing::Verb if custom || info.verb() == Verb::Watch => {
            unsupported(info.verb(), info.group(), info.resource())
        }
        Missing::Verb => Status::method_not_allowed(),
        _ => Status::no_route(),
    }
}

fn unsupported(verb: Verb, group: &str, resource: &str) -> Status {
    let dot = if group.is_empty() { "" } else { "." };
    let message =
        format!("{} is not supported on resources of kind \"{resource}{dot}{group}\"", verb.as_str());
    let details = Details { group: group.to_owned(), kind: resource.to_owned(), ..Details::default() };
    Status { details: Some(Box::new(details)), ..Status::new(405, "MethodNotAllowed", message) }
}
