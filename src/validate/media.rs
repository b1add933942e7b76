//! Media types: what a body is written in, and what the caller accepts.
//!
//! CBOR is behind a feature gate of the API server, so whoever speaks it is passed on.

mod accept;
mod parameters;
#[cfg(test)]
mod tests;

use super::{
    Findings, Invalid, Part,
    catalog::Lookup,
    handler::{self, Handler, Server},
};
use crate::{
    codec::document::Format,
    request::Asked,
    status::{Details, Status},
};
use accept::{Accept, Serves};
use http::{HeaderMap, HeaderName, header};

/// What a body may be written in.
const BODIES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
/// The same for a watch.
const STREAMS: &str = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

/// Patches that every resource takes. CBOR is behind a gate.
const PATCHES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const CBOR_PATCH: &str = "application/apply-patch+cbor";

/// What a patch is written in: before anything else is looked at.
pub(super) fn patches(
    found: &mut Findings,
    asked: &Asked,
    headers: &HeaderMap,
    route: &Lookup,
) -> Result<(), Box<Invalid>> {
    if handler::handler(asked) != Some(Handler::Patch) {
        return Ok(());
    }
    let server = handler::server(asked, route);
    let (strategic, accepted) = match server {
        Server::Other => return Ok(()),
        Server::BuiltIn => (
            true,
            "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml",
        ),
        Server::Custom => {
            (false, "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml")
        }
    };
    let Some(given) = text(headers, &header::CONTENT_TYPE) else { return Ok(()) };
    let known = |name: &str| PATCHES.contains(&name) || name == CBOR_PATCH || strategic && name == STRATEGIC;
    // The router takes a list, and what it says comes first.
    let routed = |item: &str| known(item.split(';').next().unwrap_or_default().trim_matches(' '));
    let mode = found.mode(Part::MediaTypes);
    if server == Server::BuiltIn && !given.split(',').any(routed) {
        return found.fault(mode, Part::MediaTypes, "patch-type", || {
            let status = Status::new(415, "UnsupportedMediaType", "415: Unsupported Media Type");
            Status { details: Some(Box::new(Details::default())), ..status }
        });
    }
    if !known(bare(given)) {
        return found
            .fault(mode, Part::MediaTypes, "patch-type", || Status::unsupported_media_type(accepted));
    }
    Ok(())
}

/// What the caller accepts.
pub(super) fn accepted(
    found: &mut Findings,
    asked: &Asked,
    headers: &HeaderMap,
    route: &Lookup,
) -> Result<(), Box<Invalid>> {
    let Some(given) = text(headers, &header::ACCEPT) else { return Ok(()) };
    // What nearly everybody sends.
    if matches!(given, "" | "*/*" | "application/json") {
        return Ok(());
    }
    let server = handler::server(asked, route);
    let handler = match handler::handler(asked) {
        Some(Handler::Connect(_)) | None => return Ok(()),
        Some(_) if server == Server::Other => return Ok(()),
        Some(handler) => handler,
    };
    let mode = found.mode(Part::MediaTypes);
    if server == Server::BuiltIn && !routable(given, handler) {
        return found.fault(mode, Part::MediaTypes, "accept", || {
            let available = match handler {
                Handler::List | Handler::Watch => format!("{BODIES}, {STREAMS}"),
                Handler::Log => format!("text/plain, {BODIES}"),
                _ => BODIES.to_owned(),
            };
            let message = format!("406: Not Acceptable\n\nAvailable representations: {available}");
            Status { details: Some(Box::new(Details::default())), ..Status::not_acceptable(message) }
        });
    }
    if !Accept::any(given, serves(asked, server)) {
        return found.fault(mode, Part::MediaTypes, "accept", || only(BODIES));
    }
    Ok(())
}

/// What the caller of a watch accepts, of what a stream can be: after all else.
pub(super) fn streams(
    found: &mut Findings,
    asked: &Asked,
    headers: &HeaderMap,
    route: &Lookup,
) -> Result<(), Box<Invalid>> {
    if !asked.info.is_watch() || handler::handler(asked).is_none() {
        return Ok(());
    }
    let server = handler::server(asked, route);
    let Some(given) = text(headers, &header::ACCEPT).filter(|given| given.contains("yaml")) else {
        return Ok(());
    };
    let accept = Accept::parse(given);
    let offer = accept.choose(serves(asked, server));
    if server != Server::Other
        && accept.in_order()
        && offer.is_some_and(|offer| offer.format == accept::Format::Yaml)
    {
        let mode = found.mode(Part::MediaTypes);
        return found.fault(mode, Part::MediaTypes, "accept", || only(STREAMS));
    }
    Ok(())
}

/// What an object in the body is written in.
pub(super) fn objects(
    found: &mut Findings,
    asked: &Asked,
    headers: &HeaderMap,
    route: &Lookup,
) -> Result<(), Box<Invalid>> {
    if !matches!(handler::handler(asked), Some(Handler::Create | Handler::Update)) {
        return Ok(());
    }
    let server = handler::server(asked, route);
    let Some(given) = text(headers, &header::CONTENT_TYPE) else { return Ok(()) };
    match server {
        Server::Other => Ok(()),
        _ if is_readable(given) => Ok(()),
        _ => unreadable(found),
    }
}

/// The same of the options in a DELETE's body, which is none of the resource's own kind.
pub(super) fn options(
    found: &mut Findings,
    asked: &Asked,
    headers: &HeaderMap,
    route: &Lookup,
) -> Result<(), Box<Invalid>> {
    if handler::server(asked, route) != Server::Other && options_unreadable(headers) {
        unreadable(found)
    } else {
        Ok(())
    }
}

/// Whether a DELETE must not have a body, because of its type.
pub(super) fn options_unreadable(headers: &HeaderMap) -> bool {
    text(headers, &header::CONTENT_TYPE).is_some_and(|given| !is_readable(given))
}

/// What a patch calls itself, without parameters.
pub(super) fn patch_type(headers: &HeaderMap) -> &str {
    text(headers, &header::CONTENT_TYPE).map_or("", bare)
}

/// Whether the caller is answered with a Table.
pub(super) fn asks_table(asked: &Asked, headers: &HeaderMap, server: Server) -> bool {
    let Some(given) = text(headers, &header::ACCEPT).filter(|given| given.contains("Table")) else {
        return false;
    };
    let accept = Accept::parse(given);
    accept.in_order() && accept.choose(serves(asked, server)).is_some_and(|offer| offer.table)
}

/// What is not known not to be served.
fn serves(asked: &Asked, server: Server) -> Serves {
    let info = &asked.info;
    // A Scale is a built-in kind, whatever it scales.
    let protobuf = server != Server::Custom || info.subresource() == "scale";
    // What can only be created has no columns.
    let asks = matches!(info.group(), "authentication.k8s.io" | "authorization.k8s.io");
    let tables = !asks && !matches!((info.group(), info.resource(), info.subresource()), ("", "pods", "log"));
    Serves { protobuf, tables }
}

fn unreadable(found: &mut Findings) -> Result<(), Box<Invalid>> {
    let mode = found.mode(Part::MediaTypes);
    found.fault(mode, Part::MediaTypes, "content-type", || Status::unsupported_media_type(BODIES))
}

fn only(accepted: &str) -> Status {
    Status::not_acceptable(format!("only the following media types are accepted: {accepted}"))
}

/// The router of built-in resources knows no wildcard but the one for everything, and no parameters.
fn routable(given: &str, handler: Handler) -> bool {
    given.split(',').any(|item| {
        let name = item.split(';').next().unwrap_or_default().trim_matches(' ');
        matches!(
            name,
            "*/*"
                | "application/json"
                | "application/yaml"
                | "application/vnd.kubernetes.protobuf"
                | "application/cbor"
                | "application/cbor-seq"
        ) || handler == Handler::Log && name == "text/plain"
    })
}

/// Whether a body of this type is taken.
fn is_readable(given: &str) -> bool {
    Format::of(given) != Format::Other
        && given.split_once(';').is_none_or(|(_, parameters)| parameters::are_read(parameters))
}

/// Up to the parameters, as the handler of patches cuts it.
fn bare(given: &str) -> &str {
    match given.find(';') {
        Some(end) if end > 0 => given.get(..end).unwrap_or(given),
        _ => given,
    }
}

/// The first line of a header; `""` where there is none. None: it is not text, and the upstream may judge.
fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    match headers.get(name) {
        Some(value) => std::str::from_utf8(value.as_bytes()).ok(),
        None => Some(""),
    }
}
