//! Objects in bodies, at the level of kube-apiserver's decoder: what it would not decode, or decode only with a warning.

use super::{
    Findings, Invalid, Plan,
    catalog::{Catalog, Lookup},
    patch, value,
};
use crate::{authz::Permit, codec::document::Document, request::Asked};
use http::HeaderMap;

/// Whether there is anything to check in the body.
pub(super) fn wants_body(found: &Findings, asked: &Asked, headers: &HeaderMap, _route: &Lookup) -> bool {
    patch::wants_body(found, asked, headers)
}

/// Looks at the body of a request.
pub(super) async fn body(
    plan: &mut Plan,
    _catalog: &Catalog,
    permit: &Permit,
    headers: &HeaderMap,
    document: Option<&Document<'_>>,
) -> Result<(), Box<Invalid>> {
    patch::check(&mut plan.findings, permit.asked(), headers, &plan.route, document)?;
    value::check(&mut plan.findings, permit.asked(), document)
}
