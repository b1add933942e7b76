//! Options in the query: their types, their values, and how they go together; in the order in which kube-apiserver looks at them.
//!
//! What does not parse is a 400, what does not hold together a 422. What depends on the state of the cluster, on a feature gate or on
//! the server's version is left to the upstream: continue tokens, resource versions of the future, `shardSelector`, `stream`.

mod fields;
mod known;
mod read;
#[cfg(test)]
mod tests;
mod time;

use super::{
    Findings, Invalid, Part,
    catalog::Lookup,
    handler::{self, Connect, Handler, Server},
    media,
};
use crate::{
    request::{
        Asked, Verb,
        selector::{FieldSelector, LabelSelector},
    },
    status::{Cause, Status, is_printable, push_go_quoted, push_json_str},
};
use http::HeaderMap;
pub(super) use read::truth;
use read::{all, firsts, int64, unsigned};

/// What is wrong with the options.
pub(super) struct Bad {
    rule: &'static str,
    status: Status,
}

/// What an option was found to be, for one 422 with all of it.
#[derive(Default)]
struct Faults(Vec<Cause>);

/// Looks at the head of a request.
pub(super) fn check(
    found: &mut Findings,
    asked: &Asked,
    headers: &HeaderMap,
    route: &Lookup,
) -> Result<(), Box<Invalid>> {
    let query = asked.target.query().unwrap_or_default();
    // An apply patch needs an option; every other request may have none.
    if query.is_empty() && asked.info.verb() != Verb::Patch {
        return Ok(());
    }
    let server = handler::server(asked, route);
    let Some(handler) = handler::handler(asked).filter(|_| server != Server::Other) else {
        return Ok(());
    };
    let checked = match handler {
        Handler::Get => get(query),
        Handler::List | Handler::Watch => list(query, asked, server, handler == Handler::List),
        Handler::DeleteCollection => list(query, asked, server, false),
        Handler::Create => write(query, "CreateOptions"),
        Handler::Update => write(query, "UpdateOptions"),
        Handler::Patch => patch(query, media::patch_type(headers)),
        // They count only without a body: see `without_body`.
        Handler::Delete => Ok(()),
        Handler::Log => log(query, asked.info.name()),
        Handler::Connect(to) => connect(query, to),
    };
    tell(found, checked)?;
    tell(found, table(query, headers, asked, server))?;
    known::check(found, query, handler)
}

/// Looks at the options of a DELETE that has no body: with one they count for nothing.
pub(super) fn without_body(found: &mut Findings, asked: &Asked, route: &Lookup) -> Result<(), Box<Invalid>> {
    match asked.target.query() {
        Some(query) if handler::server(asked, route) != Server::Other => tell(found, delete(query)),
        _ => Ok(()),
    }
}

fn tell(found: &mut Findings, checked: Result<(), Bad>) -> Result<(), Box<Invalid>> {
    match checked {
        Ok(()) => Ok(()),
        Err(bad) => found.fault(found.mode(Part::Query), Part::Query, bad.rule, || bad.status),
    }
}

fn get(query: &str) -> Result<(), Bad> {
    match firsts(query, ["export"]) {
        [Some(export)] if truth(&export) => {
            Err(Bad::parse("the export parameter, deprecated since v1.14, is no longer supported"))
        }
        _ => Ok(()),
    }
}

/// `listed`: what the resource version says decides between answers before anything is read.
fn list(query: &str, asked: &Asked, server: Server, listed: bool) -> Result<(), Bad> {
    let names = [
        "labelSelector",
        "fieldSelector",
        "watch",
        "resourceVersion",
        "resourceVersionMatch",
        "timeoutSeconds",
        "limit",
        "continue",
        "sendInitialEvents",
    ];
    let options = firsts(query, names);
    let [labels, fields, watch, version, version_match, timeout, limit, token, initial] =
        options.each_ref().map(|value| value.as_deref());
    int64(timeout)?;
    int64(limit)?;
    if let Some(labels) = labels.filter(|labels| !labels.is_empty()) {
        LabelSelector::parse(labels).map_err(|bad| Bad::new("label-selector", bad.to_string()))?;
    }
    let fields = match fields.filter(|fields| !fields.is_empty()) {
        Some(fields) => {
            Some(FieldSelector::parse(fields).map_err(|bad| Bad::new("field-selector", bad.to_string()))?)
        }
        None => None,
    };
    let watch = watch.is_some_and(truth);
    let (version, token) = (version.unwrap_or_default(), token.unwrap_or_default());
    let version_match = version_match.unwrap_or_default();
    let mut faults = Faults::default();
    if watch {
        watched(&mut faults, version_match, initial.is_some(), !token.is_empty());
    } else {
        matched(&mut faults, version_match, version, !token.is_empty());
        if initial.is_some() {
            faults.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list");
        }
    }
    faults.into_result("meta.k8s.io", "ListOptions", "")?;
    if let Some(fields) = &fields {
        fields::check(fields, asked, server)?;
        let name = handler::path_name(&asked.info);
        if !name.is_empty() && !fields.requirements.is_empty() && fields.exact("metadata.name") != Some(name)
        {
            let why = "fieldSelector metadata.name doesn't match requested name";
            return Err(Bad::new("field-selector-name", why));
        }
    }
    // Elsewhere the same is a 500, and what is not stored in etcd has no versions.
    let stored = asked.info.resource() != "componentstatuses";
    if listed && stored && !watch && !version.is_empty() && token.is_empty() {
        unsigned(version, u64::MAX).map_err(|why| {
            let version = quoted(version);
            let message =
                format!("invalid resource version: resourceVersion: Invalid value: {version}: {why}");
            Bad::new("resource-version", message)
        })?;
    }
    Ok(())
}

fn matched(faults: &mut Faults, version_match: &str, version: &str, continued: bool) {
    const FIELD: &str = "resourceVersionMatch";
    if version_match.is_empty() {
        return;
    }
    if version.is_empty() {
        faults.forbidden(FIELD, "resourceVersionMatch is forbidden unless resourceVersion is provided");
    }
    if continued {
        faults.forbidden(FIELD, "resourceVersionMatch is forbidden when continue is provided");
    }
    if !["Exact", "NotOlderThan"].contains(&version_match) {
        faults.unsupported(FIELD, &json(version_match), &["Exact", "NotOlderThan", ""]);
    }
    if version_match == "Exact" && version == "0" {
        faults.forbidden(FIELD, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
    }
}

fn watched(faults: &mut Faults, version_match: &str, initial: bool, continued: bool) {
    const FIELD: &str = "resourceVersionMatch";
    if initial && version_match != "NotOlderThan" {
        faults.forbidden(FIELD, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if version_match.is_empty() {
        return;
    }
    if !initial {
        faults.forbidden(
            FIELD,
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        );
    }
    if version_match != "NotOlderThan" {
        faults.unsupported(FIELD, &json(version_match), &["NotOlderThan"]);
    }
    if continued {
        faults.forbidden(FIELD, "resourceVersionMatch is forbidden when continue is provided");
    }
}

fn write(query: &str, options: &str) -> Result<(), Bad> {
    let [manager, validation] = firsts(query, ["fieldManager", "fieldValidation"]);
    let mut faults = Faults::default();
    faults.write(query, manager.as_deref(), validation.as_deref());
    faults.into_result("meta.k8s.io", options, "")
}

/// `patch_type` is None where the request's own type is none.
fn patch(query: &str, patch_type: &str) -> Result<(), Bad> {
    let [manager, validation, force] = firsts(query, ["fieldManager", "fieldValidation", "force"]);
    let mut faults = Faults::default();
    let applies = matches!(patch_type, "application/apply-patch+yaml" | "application/apply-patch+cbor");
    if applies && manager.as_deref().unwrap_or_default().is_empty() {
        faults.add("FieldValueRequired", "fieldManager", "Required value: is required for apply patch");
    }
    if !applies && force.is_some() {
        faults.forbidden("force", "may not be specified for non-apply patch");
    }
    faults.write(query, manager.as_deref(), validation.as_deref());
    faults.into_result("meta.k8s.io", "PatchOptions", "")
}

fn delete(query: &str) -> Result<(), Bad> {
    let options = firsts(query, ["gracePeriodSeconds", "orphanDependents", "propagationPolicy"]);
    let [grace, orphan, propagation] = options.each_ref().map(|value| value.as_deref());
    int64(grace)?;
    let mut faults = Faults::default();
    if let Some(policy) = propagation {
        if orphan.is_some() {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            faults.invalid("propagationPolicy", &json(policy), why);
        }
        if !["Foreground", "Background", "Orphan"].contains(&policy) {
            let supported = ["Foreground", "Background", "Orphan", "nil"];
            faults.unsupported("propagationPolicy", &json(policy), &supported);
        }
    }
    faults.dry_run(query);
    faults.into_result("meta.k8s.io", "DeleteOptions", "")
}

fn log(query: &str, pod: &str) -> Result<(), Bad> {
    let options = firsts(query, ["sinceSeconds", "sinceTime", "tailLines", "limitBytes"]);
    let [since, since_time, tail, limit] = options.each_ref().map(|value| value.as_deref());
    let since = int64(since)?;
    if let Some(why) = since_time.filter(|time| !time.is_empty() && *time != "null").and_then(time::fault) {
        return Err(Bad::parse(why));
    }
    let tail = int64(tail)?;
    let limit = int64(limit)?;
    let mut faults = Faults::default();
    if let Some(tail) = tail.filter(|tail| *tail < 0) {
        faults.invalid("tailLines", &tail.to_string(), "must be greater than or equal to 0");
    }
    if let Some(limit) = limit.filter(|limit| *limit < 1) {
        faults.invalid("limitBytes", &limit.to_string(), "must be greater than 0");
    }
    match since {
        Some(_) if since_time.is_some() => {
            faults.forbidden("[]", "at most one of `sinceTime` or `sinceSeconds` may be specified");
        }
        Some(since) if since < 1 => {
            faults.invalid("sinceSeconds", &since.to_string(), "must be greater than 0");
        }
        _ => {}
    }
    faults.into_result("", "PodLogOptions", pod)
}

fn connect(query: &str, to: Connect) -> Result<(), Bad> {
    if all(query, "dryRun").next().is_some() {
        return Err(Bad::new("dry-run", "dryRun is not supported"));
    }
    if to != Connect::PortForward {
        return Ok(());
    }
    for ports in all(query, "ports") {
        for port in ports.split(',') {
            unsigned(port, u64::from(u16::MAX))
                .map_err(|why| Bad::parse(format!("cannot convert to []int32: {why}")))?;
        }
    }
    Ok(())
}

/// How a Table is to be made, where one is asked for. kube-apiserver looks at it when all is done, and cannot take it back.
fn table(query: &str, headers: &HeaderMap, asked: &Asked, server: Server) -> Result<(), Bad> {
    if !asked.info.subresource().is_empty() {
        return Ok(());
    }
    match firsts(query, ["includeObject"]) {
        [Some(include)]
            if !["", "None", "Metadata", "Object"].contains(&&*include)
                && media::asks_table(asked, headers, server) =>
        {
            let include = json(&include);
            Err(Bad::new(
                "include-object",
                format!(
                    "Unable to convert to Table as requested: includeObject: Invalid value: {include}: must be 'Metadata', 'Object', 'None', or empty"
                ),
            ))
        }
        _ => Ok(()),
    }
}

/// As Go's `encoding/json` writes a string.
fn json(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    push_json_str(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_go_quoted(&mut out, text);
    out
}

// === impl Bad ===

impl Bad {
    fn new(rule: &'static str, message: impl Into<String>) -> Self {
        Self { rule, status: Status::bad_request(message) }
    }

    /// A value of the wrong type.
    fn parse(message: impl Into<String>) -> Self {
        Self::new("type", message)
    }
}

// === impl Faults ===

impl Faults {
    /// The options that create, update and patch have in common.
    fn write(&mut self, query: &str, manager: Option<&str>, validation: Option<&str>) {
        const LONGEST: usize = 128;
        if let Some(manager) = manager {
            if manager.len() > LONGEST {
                let message = format!("Too long: may not be more than {LONGEST} bytes");
                self.add("FieldValueTooLong", "fieldManager", &message);
            }
            for (at, c) in manager.char_indices().filter(|(_, c)| !is_printable(*c)) {
                let why = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
                self.invalid("fieldManager", &quoted(manager), &why);
            }
        }
        self.dry_run(query);
        if let Some(validation) = validation
            && !["", "Ignore", "Strict", "Warn"].contains(&validation)
        {
            self.unsupported("fieldValidation", &quoted(validation), &["", "Ignore", "Strict", "Warn"]);
        }
    }

    /// The one option of which every value counts.
    fn dry_run(&mut self, query: &str) {
        if all(query, "dryRun").all(|value| value == "All") {
            return;
        }
        let values: Vec<String> = all(query, "dryRun").map(|value| json(&value)).collect();
        self.unsupported("dryRun", &format!("[{}]", values.join(",")), &["All"]);
    }

    fn forbidden(&mut self, field: &str, why: &str) {
        self.add("FieldValueForbidden", field, &format!("Forbidden: {why}"));
    }

    /// `value` as it is to be shown.
    fn invalid(&mut self, field: &str, value: &str, why: &str) {
        self.add("FieldValueInvalid", field, &format!("Invalid value: {value}: {why}"));
    }

    fn unsupported(&mut self, field: &str, value: &str, supported: &[&str]) {
        let supported: Vec<String> = supported.iter().map(|value| quoted(value)).collect();
        let message = format!("Unsupported value: {value}: supported values: {}", supported.join(", "));
        self.add("FieldValueNotSupported", field, &message);
    }

    fn add(&mut self, reason: &str, field: &str, message: &str) {
        self.0.push(Cause {
            reason: reason.to_owned(),
            message: message.to_owned(),
            field: field.to_owned(),
        });
    }

    fn into_result(self, group: &str, kind: &str, name: &str) -> Result<(), Bad> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Bad { rule: "value", status: Status::invalid(group, kind, name, self.0) })
    }
}
