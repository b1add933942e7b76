//! The head of a request, held against a live kube-apiserver's own answers.

use super::{
    catalog::{Kind, Origin, Resource, Route, Subresource, Verbs},
    *,
};
use crate::codec::document::Document;
use http::{HeaderValue, Request, header};
use serde::Deserialize;
use std::collections::BTreeMap;

const GOLDEN: &str = include_str!("../../tests/golden/heads.jsonl");

#[derive(Debug, Deserialize)]
struct Golden {
    method: String,
    target: String,
    accept: Option<String>,
    #[serde(rename = "type")]
    content_type: Option<String>,
    body: Option<String>,
    code: u16,
    #[serde(default)]
    reason: String,
    message: Option<String>,
}

/// What the default configuration makes of a head and of the options in a DELETE's body; None: it is let through.
pub(super) fn verdict(asked: &Asked, headers: &HeaderMap, route: Lookup, body: &str) -> Option<Box<Invalid>> {
    verdict_with(Config::default(), asked, headers, route, body).err()
}

/// The same by a configuration of one's own, and what was only told.
pub(super) fn verdict_with(
    config: Config,
    asked: &Asked,
    headers: &HeaderMap,
    route: Lookup,
    body: &str,
) -> Result<Vec<Finding>, Box<Invalid>> {
    let findings = Findings::new(Arc::new(config));
    let mut plan = Plan { findings, route, wants_object: false, wants_options: false, envelope_only: false };
    plan.check_head(asked, headers)?;
    if plan.wants_options {
        let document = (!body.is_empty()).then(|| Document::new(headers, body.as_bytes()));
        holes::options(&mut plan.findings, asked, headers, &plan.route, document.as_ref())?;
    }
    Ok(plan.into_findings())
}

/// `GET /api/v1/pods?limit=1`, and the headers that count here.
pub(super) fn request(line: &str, accept: Option<&str>, content_type: Option<&str>) -> (Asked, HeaderMap) {
    let (method, target) = line.split_once(' ').unwrap();
    let mut headers = HeaderMap::new();
    let mut set = |name, value: Option<&str>| {
        if let Some(value) = value {
            headers
                .insert(name, HeaderValue::from_bytes(value.trim_matches([' ', '\t']).as_bytes()).unwrap());
        }
    };
    set(header::ACCEPT, accept);
    set(header::CONTENT_TYPE, content_type);
    let parts = Request::builder().method(method).uri(target).body(()).unwrap().into_parts().0;
    (Asked::parse(&parts).unwrap(), headers)
}

/// Code and text of the refusal, where no catalogue is known.
pub(super) fn refusal(
    line: &str,
    accept: Option<&str>,
    content_type: Option<&str>,
    body: &str,
) -> Option<String> {
    let (asked, headers) = request(line, accept, content_type);
    let invalid = verdict(&asked, &headers, Lookup::Unsure, body)?;
    Some(format!("{} {}", invalid.status.code, invalid.status.message))
}

/// Where a target leads in the cluster that was asked.
fn route(asked: &Asked) -> Lookup {
    let info = &asked.info;
    if info.group() != "ex.io" {
        return Lookup::Unsure;
    }
    let kind = Kind { group: "ex.io".into(), version: "v1".into(), kind: "Foo".into() };
    let below = |name: &str| Subresource { name: name.into(), kind: kind.clone(), verbs: Verbs::default() };
    let resource = Resource {
        group: "ex.io".into(),
        version: "v1".into(),
        name: info.resource().into(),
        kind: kind.clone(),
        namespaced: info.resource() == "foos",
        verbs: Verbs::default(),
        subresources: [below("status"), below("scale")].into(),
    };
    let subresource = ["status", "scale"].iter().position(|name| *name == info.subresource());
    Lookup::Known(Route { resource: Arc::new(resource), subresource, origin: Origin::Custom })
}

/// What only the cluster's state, its feature gates or its version decide, and what is looked at with the body.
fn is_left(golden: &Golden, custom: bool) -> bool {
    let (target, message) = (&golden.target, golden.message.as_deref().unwrap_or_default());
    let has = |text: &str| message.contains(text);
    let cbor = |header: &Option<String>| header.as_ref().is_some_and(|header| header.contains("cbor"));
    // Nobody reads the answer; and how a Scale of a custom resource is written differs between versions.
    golden.method == "HEAD"
        || custom && target.contains("/scale")
        // Behind a gate.
        || cbor(&golden.accept) || cbor(&golden.content_type)
        // A collection's options come before it, those in its body too.
        || golden.method == "DELETE" && has("invalid resource version")
        // No token is ours to read.
        || has("continue token") || has("not allowed when using continue")
        // On by default since 1.34, and then a fault of the server's own.
        || target.contains("continue=abc") && target.contains("watch=1") && has("when continue is provided")
        || has("ignoreStoreReadErrorWithClusterBreakingPotential")
        || has("stream: ") || has("specific `stream`")
        // Its definition says what can be selected.
        || custom && has("field label not supported")
        || has("field label not supported for resource.k8s.io")
        // The state of an object.
        || has("does not have a host assigned") || has("is not valid for pod") || has("address not allowed")
        || has("you requested PartialObjectMetadata")
        // Bodies.
        || has("does not match the name") || has("was undeterminable") || has("the object provided is unrecognized")
        || has("cannot be handled as a") || has("is required for TokenReview") || has("name in URL does not match")
        || has("exactly one of nonResourceAttributes") || has("kind: Invalid value") || has("couldn't get version/kind")
        || has("error decoding patch") || has("invalid object type") || has("a protobuf message")
}

#[test]
fn heads_are_judged_as_kube_apiserver_judges_them() {
    let mut wrong = Vec::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in GOLDEN.lines() {
        let golden: Golden = serde_json::from_str(line).unwrap();
        let (asked, headers) = request(
            &format!("{} {}", golden.method, golden.target),
            golden.accept.as_deref(),
            golden.content_type.as_deref(),
        );
        let route = route(&asked);
        let custom = handler::server(&asked, &route) == handler::Server::Custom;
        let said = verdict(&asked, &headers, route, golden.body.as_deref().unwrap_or_default());
        let is_fault = matches!(golden.code, 400 | 406 | 415 | 422);
        let count = match &said {
            // Nothing was answered: the handler panicked.
            Some(_) if golden.code == 0 => "hole",
            Some(invalid) if invalid.part == Part::Holes => "hole",
            Some(_) if matches!(golden.code, 404 | 405) => "refused otherwise",
            Some(invalid) if invalid.status.code == golden.code => {
                let text = golden.message.as_ref().is_none_or(|message| *message == invalid.status.message);
                let reason = golden.reason.is_empty() || golden.reason == invalid.status.reason;
                match text && reason {
                    true => "same",
                    false if is_left(&golden, custom) => "left",
                    false => "another text",
                }
            }
            // Its own answer would come first if it did not know CBOR.
            Some(_) if is_fault && is_left(&golden, custom) => "left",
            Some(_) if is_fault => "another code",
            Some(_) => "only we refuse",
            None if !is_fault => "passed",
            None if is_left(&golden, custom) => "left",
            None => "only they refuse",
        };
        *counts.entry(count).or_default() += 1;
        if matches!(count, "another text" | "another code" | "only we refuse" | "only they refuse") {
            wrong.push(format!("{count}: {line}\n    {said:?}"));
        }
    }
    println!("{counts:#?}");
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}
