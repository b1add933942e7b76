//! Which of kube-apiserver's handlers a request ends in: what they look at, and what they answer, differs.

use super::catalog::{Lookup, Origin, Route, is_builtin};
use crate::request::{Asked, RequestInfo, Verb};
use http::Method;

/// Who answers a request of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    /// kube-apiserver, by the code of the resource.
    BuiltIn,
    /// kube-apiserver, by a custom resource definition.
    Custom,
    /// Another server behind kube-apiserver, or nobody knows. Whatever it accepts is its own business.
    Other,
}

/// What is done, as the handlers are told apart: the names are the verbs'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handler {
    /// One object.
    Get,
    /// A collection, watched if the query says so.
    List,
    /// A collection or an object, by the path that begins with `watch`.
    Watch,
    /// An object in the body.
    Create,
    /// An object in the body.
    Update,
    /// A patch in the body.
    Patch,
    /// Options in the body or in the query.
    Delete,
    /// The same and the options of a list.
    DeleteCollection,
    /// `pods/log`
    Log,
    /// `pods/exec` and what else opens a connection.
    Connect(Connect),
}

/// What is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connect {
    /// `pods/exec`
    Exec,
    /// `pods/attach`
    Attach,
    /// `pods/portforward`
    PortForward,
    /// `proxy` of pods, services and nodes: somebody else's query.
    Proxy,
}

/// Who answers. For certain only: `Other` is no fault.
pub(super) fn server(asked: &Asked, route: &Lookup) -> Server {
    match route {
        Lookup::Known(Route { origin: Origin::Custom, .. }) => Server::Custom,
        _ if is_builtin(asked.info.group()) => Server::BuiltIn,
        _ => Server::Other,
    }
}

/// By which handler; None where there is none. HEAD is a method that resources do not have, or a GET that nobody reads.
pub(super) fn handler(asked: &Asked) -> Option<Handler> {
    let info = &asked.info;
    if asked.method == Method::HEAD {
        return None;
    }
    if !info.is_resource() {
        return None;
    }
    if let Some(handler) = special(info) {
        return Some(handler);
    }
    Some(match info.verb() {
        Verb::Get => Handler::Get,
        Verb::List => Handler::List,
        Verb::Watch if is_legacy_watch(info) => Handler::Watch,
        Verb::Watch => Handler::List,
        Verb::Create => Handler::Create,
        Verb::Update => Handler::Update,
        Verb::Patch => Handler::Patch,
        Verb::Delete => Handler::Delete,
        Verb::DeleteCollection => Handler::DeleteCollection,
        Verb::Proxy | Verb::Head | Verb::Post | Verb::Put => return None,
    })
}

/// The name in the path. `RequestInfo::name` may come from a field selector.
pub(super) fn path_name(info: &RequestInfo) -> &str {
    match info.verb() {
        Verb::List => "",
        Verb::Watch if !is_legacy_watch(info) => "",
        _ => info.name(),
    }
}

fn special(info: &RequestInfo) -> Option<Handler> {
    if info.subresource().is_empty() || !info.group().is_empty() {
        return None;
    }
    Some(match (info.resource(), info.subresource()) {
        ("pods", "log") if info.verb() == Verb::Get => Handler::Log,
        ("pods", "exec") => Handler::Connect(Connect::Exec),
        ("pods", "attach") => Handler::Connect(Connect::Attach),
        ("pods", "portforward") => Handler::Connect(Connect::PortForward),
        ("pods" | "services" | "nodes", "proxy") => Handler::Connect(Connect::Proxy),
        _ => return None,
    })
}

/// `/api/v1/watch/…`: the verb is in the path, whatever the query says.
fn is_legacy_watch(info: &RequestInfo) -> bool {
    let mut segments = info.path().split('/').skip(1);
    let version = match segments.next() {
        Some("api") => segments.next(),
        _ => segments.nth(1),
    };
    version.is_some() && segments.next() == Some("watch")
}
