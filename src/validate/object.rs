//! Objects in bodies, at the level of kube-apiserver's decoder: what it would not decode, or decode only with a warning.

use super::{
    Findings, Invalid, Mode, Plan,
    catalog::{Catalog, Lookup},
    patch, value,
};
use crate::{
    authz::Permit,
    codec::document::Document,
    request::{Asked, Verb},
};
use http::HeaderMap;

/// Whether there is anything to check in the body.
pub(super) fn wants_body(found: &Findings, asked: &Asked, headers: &HeaderMap, route: &Lookup) -> bool {
    let has_values = matches!(asked.info.verb(), Verb::Create | Verb::Update)
        && matches!(route, Lookup::Known(_))
        && found.values_of(asked.info.group()) != Mode::Off;
    has_values || patch::wants_body(found, asked, headers)
}

/// Looks at the body of a request.
pub(super) async fn body(
    plan: &mut Plan,
    catalog: &Catalog,
    permit: &Permit,
    headers: &HeaderMap,
    document: Option<&Document<'_>>,
) -> Result<(), Box<Invalid>> {
    patch::check(&mut plan.findings, permit.asked(), headers, &plan.route, document)?;
    let info = &permit.asked().info;
    let (Lookup::Known(route), Some(document)) = (&plan.route, document) else { return Ok(()) };
    if !matches!(info.verb(), Verb::Create | Verb::Update)
        || plan.findings.values_of(info.group()) == Mode::Off
    {
        return Ok(());
    }
    let Ok(tape) = document.tape() else { return Ok(()) };
    let schemas = catalog.schemas(info.group(), info.version()).await;
    let object = value::Object { info, route, schemas: schemas.as_deref(), tape };
    value::check(&mut plan.findings, catalog, object).await
}
