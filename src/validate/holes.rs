//! What kube-apiserver itself lets through though it should not.

mod hidden;
#[cfg(test)]
mod tests;

use super::{
    Findings, Invalid, Mode, Part,
    catalog::Lookup,
    handler::{self, Handler, Server},
    media, query,
};
use crate::{
    codec::document::{Document, Format},
    request::{Asked, Verb},
    status::Status,
};
use http::{HeaderMap, Method, header};

/// Looks at the head of a request.
pub(super) fn head(
    found: &mut Findings,
    asked: &Asked,
    headers: &HeaderMap,
    route: &Lookup,
) -> Result<(), Box<Invalid>> {
    let info = &asked.info;
    let mode = found.mode(Part::Holes);
    // A custom resource's handler takes it for a create and never compares the name, so that a right to create one object by
    // name (resourceNames) would be a right to create any.
    if info.verb() == Verb::Create && info.subresource().is_empty() && !info.name().is_empty() {
        found.fault(mode, Part::Holes, "create-with-name", Status::method_not_allowed)?;
    }
    // A custom resource's handler goes by the verb alone, and `/watch/` in the path makes every method a watch.
    if info.is_watch() && asked.method != Method::GET {
        found.fault(mode, Part::Holes, "watch-by-method", Status::method_not_allowed)?;
    }
    // A custom resource's handler takes it, and panics.
    if matches!(handler::handler(asked), Some(Handler::Create | Handler::Update))
        && info.subresource() != "scale"
        && is_protobuf(headers)
        && handler::server(asked, route) == Server::Custom
    {
        let accepted = "application/json, application/yaml";
        found.fault(mode, Part::Holes, "custom-protobuf", || Status::unsupported_media_type(accepted))?;
    }
    Ok(())
}

/// Whether the options of a DELETE can be judged only by who knows whether it has a body, and what it says.
pub(super) fn wants_options(found: &Findings, asked: &Asked, headers: &HeaderMap, route: &Lookup) -> bool {
    let looks = |part| found.mode(part) != Mode::Off;
    deletes(asked, route)
        && (asked.target.query().is_some_and(hidden::says) && (looks(Part::Holes) || looks(Part::Query))
            || looks(Part::MediaTypes) && media::options_unreadable(headers))
}

/// Looks at the options of a DELETE, which kube-apiserver reads from the body, or from the query where there is no body.
pub(super) fn options(
    found: &mut Findings,
    asked: &Asked,
    headers: &HeaderMap,
    route: &Lookup,
    document: Option<&Document<'_>>,
) -> Result<(), Box<Invalid>> {
    if !deletes(asked, route) {
        return Ok(());
    }
    let Some(body) = document.filter(|document| !document.bytes().is_empty()) else {
        return query::without_body(found, asked, route);
    };
    media::options(found, asked, headers, route)?;
    let Some(query) = asked.target.query() else { return Ok(()) };
    let collection = asked.info.verb() == Verb::DeleteCollection;
    if let Some(option) = hidden::find(query, body, collection) {
        let mode = found.mode(Part::Holes);
        found.fault(mode, Part::Holes, "hidden-option", || {
            Status::bad_request(format!(
                "the query option {option} does not count: the options of a DELETE with a body are read from the body alone, and it does not say the same"
            ))
        })?;
    }
    Ok(())
}

fn deletes(asked: &Asked, route: &Lookup) -> bool {
    matches!(handler::handler(asked), Some(Handler::Delete | Handler::DeleteCollection))
        && handler::server(asked, route) != Server::Other
}

fn is_protobuf(headers: &HeaderMap) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    given.is_some_and(|given| Format::of(given) == Format::Protobuf)
}
