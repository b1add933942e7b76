//! What kube-apiserver itself lets through though it should not.

use super::{Findings, Invalid, Part, catalog::Lookup};
use crate::{
    request::{Asked, Verb},
    status::Status,
};
use http::HeaderMap;

/// Looks at the head of a request.
pub(super) fn head(
    found: &mut Findings,
    asked: &Asked,
    _headers: &HeaderMap,
    _route: &Lookup,
) -> Result<(), Box<Invalid>> {
    let info = &asked.info;
    // A custom resource's handler takes it for a create and never compares the name, so that a right to create one object by
    // name (resourceNames) would be a right to create any.
    if info.verb() == Verb::Create && info.subresource().is_empty() && !info.name().is_empty() {
        let mode = found.mode(Part::Holes);
        found.fault(mode, Part::Holes, "create-with-name", Status::method_not_allowed)?;
    }
    Ok(())
}
