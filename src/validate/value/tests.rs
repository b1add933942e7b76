//! What the API server answered to made-up objects, and the same objects here.

use super::*;
use crate::{
    request::Target,
    validate::{
        Config,
        catalog::{Kind as OfKind, Origin, Resource, Subresource, Verbs},
    },
};
use http::Method;
use serde_json::{Map, Value, json};
use std::sync::Arc;

const GROUP: &str = "gold.example";

/// The document of the group as the API server publishes it, but for what nobody reads.
fn document(schemas: &Map<String, Value>) -> Value {
    let mut paths = Map::new();
    let mut definitions = Map::new();
    for (kind, schema) in schemas {
        let plural = format!("{}s", kind.to_lowercase());
        let name = format!("example.gold.v1.{kind}");
        let body = json!({"content": {"application/json": {"schema": {"$ref": format!("#/components/schemas/{name}")}}}});
        let path = format!("/apis/{GROUP}/v1/namespaces/{{namespace}}/{plural}");
        paths.insert(path.clone(), json!({"post": {"requestBody": body}}));
        paths.insert(format!("{path}/{{name}}"), json!({"put": {"requestBody": body}}));
        paths.insert(format!("{path}/{{name}}/status"), json!({"put": {"requestBody": body}}));
        definitions.insert(name, schema.clone());
    }
    json!({"openapi": "3.0.0", "info": {"title": "Kubernetes CRD Swagger"}, "paths": paths, "components": {"schemas": definitions}})
}

fn compiled(schemas: &Map<String, Value>) -> Schemas {
    Schemas::compile(document(schemas).to_string().as_bytes()).unwrap()
}

fn route(group: &str, resource: &str, kind: &str, below: &[&str]) -> Route {
    let kind = OfKind { group: group.into(), version: "v1".into(), kind: kind.into() };
    let subresources = below
        .iter()
        .map(|name| Subresource { name: (*name).into(), kind: kind.clone(), verbs: Verbs::default() })
        .collect();
    let resource = Resource {
        group: group.into(),
        version: "v1".into(),
        name: resource.into(),
        kind,
        namespaced: true,
        verbs: Verbs::default(),
        subresources,
    };
    Route { resource: Arc::new(resource), subresource: None, origin: Origin::Unknown }
}

fn asked(method: Method, path: &str) -> RequestInfo {
    RequestInfo::parse(&method, &Target::parse(path).unwrap()).unwrap()
}

/// What is found, as a 422.
fn refusal(info: &RequestInfo, route: &Route, schemas: Option<&Schemas>, body: &str) -> Option<Status> {
    let tape = Tape::read(body, 1000, &Cell::new(1 << 20)).unwrap();
    let object = Object { info, route, schemas, tape: &tape };
    let mut found = Findings { config: Arc::new(Config::default()), list: Vec::new() };
    object.tell(&mut found, Mode::Enforce, object.faults()).err().map(|invalid| invalid.status)
}

fn rows() -> Vec<Value> {
    let text = include_str!("../../../tests/golden/values.jsonl");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn schemas() -> Map<String, Value> {
    serde_json::from_str(include_str!("../../../tests/golden/values-schemas.json")).unwrap()
}

fn causes(row: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |cause: &Value| (text(&cause[0]), text(&cause[1]), text(&cause[2]));
    let mut all: Vec<_> = row["causes"].as_array().into_iter().flatten().map(of).collect();
    all.sort();
    all
}

#[test]
fn the_answers_of_the_api_server() {
    let published = schemas();
    let schemas = compiled(&published);
    let (mut wrong, mut left, mut alike) = (Vec::new(), 0, 0);
    for row in rows() {
        let kind = row["kind"].as_str().unwrap();
        let plural = format!("{}s", kind.to_lowercase());
        let below: &[&str] = if kind == "Stat" { &["status"] } else { &[] };
        let route = route(GROUP, &plural, kind, below);
        let info = asked(Method::POST, &format!("/apis/{GROUP}/v1/namespaces/default/{plural}"));
        let mut object =
            json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": {"name": "x"}});
        object.as_object_mut().unwrap().extend(row["object"].as_object().unwrap().clone());
        let got = refusal(&info, &route, Some(&schemas), &object.to_string());
        let mut ours: Vec<_> = got
            .iter()
            .flat_map(|status| status.details.iter())
            .flat_map(|d| &d.causes)
            .map(|c| (c.reason.clone(), c.message.clone(), c.field.clone()))
            .collect();
        ours.sort();
        let theirs = causes(&row);
        if row["left"].is_string() {
            assert!(ours.is_empty() || !theirs.is_empty(), "{row}: {ours:?}");
            left += 1;
        } else if ours == theirs {
            alike += 1;
        } else {
            let extra: Vec<_> = ours.iter().filter(|c| !theirs.contains(c)).collect();
            let missing: Vec<_> = theirs.iter().filter(|c| !ours.contains(c)).collect();
            wrong.push(format!("{kind} {}: extra {extra:?} missing {missing:?}", row["object"]));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong, {alike} alike, {left} left:\n{}",
        wrong.len(),
        wrong.iter().take(60).cloned().collect::<Vec<_>>().join("\n")
    );
}
