//! Objects in bodies, at the level of kube-apiserver's decoder: what it would not decode, or decode only with a warning.
//!
//! What is refused is certain. That an object is of another version, name or namespace than the path says is told by itself; that its
//! fields have other types, or are unknown, is told by the schemas of the cluster, and before it is pronounced the cluster is asked whether
//! they still hold. Who decodes objects of another API server, or how a body is read that is not read here, is not known: of these only
//! what they say that they are is looked at, and the record says so.

mod custom;
mod envelope;
mod fields;
mod go;
mod judge;
mod options;
mod scalars;
#[cfg(test)]
mod tests;

use super::{
    Findings, Invalid, Mode, Part, Plan,
    catalog::{Catalog, Lookup, Origin, Route},
    patch,
    schema::Schemas,
    value,
};
use crate::{
    authz::Permit,
    codec::document::{Document, Format},
    request::{Asked, Effect, Verb},
};
use http::{HeaderMap, header};
use judge::Object;

/// Whether there is anything to check in the body.
pub(super) fn wants_body(found: &Findings, asked: &Asked, headers: &HeaderMap, route: &Lookup) -> bool {
    let info = &asked.info;
    if info.effect() == Effect::Connect || !info.is_resource() {
        return false;
    }
    let known = matches!(route, Lookup::Known(_));
    let objects = found.mode(Part::Objects) != Mode::Off;
    let values = found.values_of(info.group()) != Mode::Off;
    match info.verb() {
        Verb::Patch => {
            patch::wants_body(found, asked, headers) || (known && values && patch::is_apply(headers))
        }
        Verb::Create | Verb::Update => known && (objects || values) && format(headers) != Format::Other,
        Verb::Delete | Verb::DeleteCollection => known && objects && format(headers) != Format::Other,
        _ => false,
    }
}

/// What the body says it is written in.
fn format(headers: &HeaderMap) -> Format {
    let given = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    Format::of(given.unwrap_or_default())
}

/// Looks at the body of a request.
pub(super) async fn body(
    plan: &mut Plan,
    catalog: &Catalog,
    permit: &Permit,
    headers: &HeaderMap,
    document: Option<&Document<'_>>,
) -> Result<(), Box<Invalid>> {
    let asked = permit.asked();
    match (asked.info.verb(), &plan.route) {
        (Verb::Patch, route) => {
            patch::check(&mut plan.findings, asked, headers, route, document)?;
            if let (Lookup::Known(route), true) = (route, patch::is_apply(headers)) {
                let schemas = catalog.schemas(&route.resource.group, &route.resource.version).await;
                let route = route.clone();
                values(plan, catalog, asked, &route, schemas.as_deref(), document).await?;
            }
        }
        (Verb::Create | Verb::Update, Lookup::Known(route)) => {
            let route = route.clone();
            let object = Object { asked, route: &route, format: format(headers), document };
            check(plan, catalog, object).await?;
        }
        (Verb::Delete | Verb::DeleteCollection, Lookup::Known(route)) => {
            let route = route.clone();
            options(plan, catalog, &route, document).await?;
        }
        _ => {}
    }
    Ok(())
}

async fn check(plan: &mut Plan, catalog: &Catalog, object: Object<'_, '_>) -> Result<(), Box<Invalid>> {
    let Object { asked, route, document, .. } = object;
    let schemas = catalog.schemas(&route.resource.group, &route.resource.version).await;
    decoded(plan, catalog, object, schemas.as_deref()).await?;
    values(plan, catalog, asked, route, schemas.as_deref(), document).await
}

async fn values(
    plan: &mut Plan,
    catalog: &Catalog,
    asked: &Asked,
    route: &Route,
    schemas: Option<&Schemas>,
    document: Option<&Document<'_>>,
) -> Result<(), Box<Invalid>> {
    let Some(Ok(tape)) = document.map(Document::tape) else { return Ok(()) };
    let object = value::Object { info: &asked.info, route, schemas, tape };
    value::check(&mut plan.findings, catalog, object).await
}

async fn decoded(
    plan: &mut Plan,
    catalog: &Catalog,
    object: Object<'_, '_>,
    schemas: Option<&Schemas>,
) -> Result<(), Box<Invalid>> {
    let mode = plan.findings.mode(Part::Objects);
    if mode == Mode::Off {
        return Ok(());
    }
    let resource = &object.route.resource;
    let mut judged = object.judge(schemas);
    if judged.wrong.as_ref().is_some_and(|wrong| wrong.by_schema) {
        // Another version of the same kind may know the field by now; if nobody can tell, the upstream does.
        match catalog.schemas_now(&resource.group, &resource.version).await {
            Some(schemas) => judged = object.judge(Some(&schemas)),
            None => return Ok(()),
        }
    }
    plan.envelope_only = !judged.fields;
    if let Some(wrong) = judged.wrong {
        plan.findings.fault(mode, Part::Objects, wrong.rule, || wrong.status)?;
    }
    for warning in judged.warnings {
        plan.findings.warning(Part::Objects, warning.rule, warning.text);
    }
    Ok(())
}

/// What is found in an object that is held against `schemas` as they are: for fuzz targets and benchmarks, which have no cluster.
///
/// # Errors
/// It is refused.
pub fn hold(
    mut found: Findings,
    asked: &Asked,
    headers: &HeaderMap,
    route: &Route,
    schemas: &Schemas,
    document: &Document<'_>,
) -> Result<Vec<super::Finding>, Box<Invalid>> {
    let judged =
        Object { asked, route, format: format(headers), document: Some(document) }.judge(Some(schemas));
    if let Some(wrong) = judged.wrong {
        found.fault(found.mode(Part::Objects), Part::Objects, wrong.rule, || wrong.status)?;
    }
    for warning in judged.warnings {
        found.warning(Part::Objects, warning.rule, warning.text);
    }
    if let Ok(tape) = document.tape() {
        value::hold(&mut found, value::Object { info: &asked.info, route, schemas: Some(schemas), tape })?;
    }
    Ok(found.list)
}

async fn options(
    plan: &mut Plan,
    catalog: &Catalog,
    route: &Route,
    document: Option<&Document<'_>>,
) -> Result<(), Box<Invalid>> {
    let mode = plan.findings.mode(Part::Objects);
    let Some((rule, status)) = document.filter(|_| mode != Mode::Off).and_then(options::wrong) else {
        return Ok(());
    };
    // Of another API server it is not known how it reads them.
    let ours = catalog.schemas(&route.resource.group, &route.resource.version).await;
    if route.origin == Origin::Aggregated || !ours.is_some_and(|schemas| schemas.is_kubernetes()) {
        return Ok(());
    }
    plan.findings.fault(mode, Part::Objects, rule, || status)
}
