//! Parameters that a request of a kind can have. kube-apiserver passes over all others, misspelt ones too.

use super::super::{Findings, Invalid, Mode, Part};
use crate::{
    request::query,
    status::Status,
    validate::handler::{Connect, Handler},
};
use std::borrow::Cow;

/// Names what has no meaning.
pub(super) fn check(found: &mut Findings, query: &str, handler: Handler) -> Result<(), Box<Invalid>> {
    let mode = found.mode(Part::UnknownParameters);
    if mode == Mode::Off || handler == Handler::Connect(Connect::Proxy) {
        return Ok(());
    }
    let known =
        |name: &str| EVERYWHERE.contains(&name) || of(handler).iter().any(|list| list.contains(&name));
    let mut told: Vec<Cow<'_, str>> = Vec::new();
    for (name, _) in query::pairs(query) {
        if known(&name) || told.contains(&name) {
            continue;
        }
        found.fault(mode, Part::UnknownParameters, "unknown-parameter", || {
            Status::bad_request(format!("unknown parameter {}", shown(&name)))
        })?;
        told.push(name);
        if told.len() == MOST_TOLD {
            break;
        }
    }
    Ok(())
}

/// Findings of one request at most.
const MOST_TOLD: usize = 10;
/// A name is told up to here, in characters: it may be a secret that was pasted into the wrong place.
const LONGEST_TOLD: usize = 40;

fn shown(name: &str) -> String {
    match name.char_indices().nth(LONGEST_TOLD) {
        Some((end, _)) => format!("{}…", super::quoted(name.get(..end).unwrap_or_default())),
        None => super::quoted(name),
    }
}

const EVERYWHERE: [&str; 3] = ["pretty", "timeout", "includeObject"];
const LIST: &[&str] = &[
    "labelSelector",
    "fieldSelector",
    "watch",
    "allowWatchBookmarks",
    "resourceVersion",
    "resourceVersionMatch",
    "timeoutSeconds",
    "limit",
    "continue",
    "sendInitialEvents",
    "shardSelector",
];
const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
const DELETE: &[&str] = &[
    "dryRun",
    "gracePeriodSeconds",
    "orphanDependents",
    "propagationPolicy",
    "uid",
    "resourceVersion",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
];
const STREAMS: &[&str] = &["stdin", "stdout", "stderr", "tty", "container"];

fn of(handler: Handler) -> &'static [&'static [&'static str]] {
    match handler {
        Handler::Get => &[&["resourceVersion", "export"]],
        Handler::List | Handler::Watch => &[LIST],
        Handler::Create | Handler::Update => &[WRITE],
        Handler::Patch => &[WRITE, &["force"]],
        Handler::Delete => &[DELETE],
        Handler::DeleteCollection => &[DELETE, LIST],
        Handler::Log => &[&[
            "container",
            "follow",
            "previous",
            "sinceSeconds",
            "sinceTime",
            "timestamps",
            "tailLines",
            "limitBytes",
            "stream",
            "insecureSkipTLSVerifyBackend",
        ]],
        Handler::Connect(Connect::Exec) => &[STREAMS, &["command"]],
        Handler::Connect(Connect::Attach) => &[STREAMS],
        Handler::Connect(Connect::PortForward) => &[&["ports"]],
        Handler::Connect(Connect::Proxy) => &[],
    }
}
