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
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

const GROUP: &str = "gold.example";

/// Of a custom resource that has rules of many kinds.
static MIXED: LazyLock<Schemas> = LazyLock::new(|| {
    let text = json!({"type": "string", "maxLength": 3, "pattern": "^[a-c]*$"});
    let spec = json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": text,
            "replicas": {"type": "integer", "default": 1, "minimum": 0, "maximum": 5},
            "mode": {"type": "string", "enum": ["a", "b"]},
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
                "items": {"type": "object", "required": ["port"], "properties": {"port": {"type": "integer"}}}},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "map": {"type": "object", "additionalProperties": text},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "either": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
            "when": {"type": "string", "format": "date-time", "nullable": true},
        },
    });
    let status = json!({"type": "object", "properties": {"ready": {"type": "integer", "minimum": 0}}});
    let schema = json!({"type": "object", "properties": {"spec": spec, "status": status}});
    compiled(&[("Mix".to_owned(), schema)].into_iter().collect())
});

/// The document of the group as the API server publishes it, but for what nobody reads.
fn document(schemas: &Map<String, Value>) -> Value {
    let mut paths = Map::new();
    let mut definitions = Map::new();
    for (kind, schema) in schemas {
        let plural = format!("{}s", kind.to_lowercase());
        let name = format!("example.gold.v1.{kind}");
        let schema_ref = json!({"$ref": format!("#/components/schemas/{name}")});
        let body = json!({"content": {"application/json": {"schema": schema_ref}}});
        let path = format!("/apis/{GROUP}/v1/namespaces/{{namespace}}/{plural}");
        paths.insert(path.clone(), json!({"post": {"requestBody": body}}));
        paths.insert(format!("{path}/{{name}}"), json!({"put": {"requestBody": body}}));
        paths.insert(format!("{path}/{{name}}/status"), json!({"put": {"requestBody": body}}));
        definitions.insert(name, schema.clone());
    }
    json!({"openapi": "3.0.0", "paths": paths, "components": {"schemas": definitions}})
}

fn compiled(schemas: &Map<String, Value>) -> Schemas {
    Schemas::compile(document(schemas).to_string().as_bytes()).unwrap()
}

fn route(group: &str, resource: &str, kind: &str, below: &[&str]) -> Route {
    let kind = OfKind { group: group.into(), version: "v1".into(), kind: kind.into() };
    let subresource =
        |name: &&str| Subresource { name: (*name).into(), kind: kind.clone(), verbs: Verbs::default() };
    let resource = Resource {
        group: group.into(),
        version: "v1".into(),
        name: resource.into(),
        subresources: below.iter().map(subresource).collect(),
        kind: kind.clone(),
        namespaced: true,
        verbs: Verbs::default(),
    };
    Route { resource: Arc::new(resource), subresource: None, origin: Origin::Unknown }
}

fn asked(method: Method, path: &str) -> RequestInfo {
    RequestInfo::parse(&method, &Target::parse(path).unwrap()).unwrap()
}

fn told_by(
    info: &RequestInfo,
    route: &Route,
    schemas: Option<&Schemas>,
    body: &str,
    mode: Mode,
) -> (Vec<Finding>, Option<Status>) {
    let tape = Tape::read(body, 10_000, &Cell::new(1 << 22)).unwrap();
    let object = Object { info, route, schemas, tape: &tape };
    let mut found = Findings { config: Arc::new(Config::default()), list: Vec::new() };
    let refused = object.tell(&mut found, mode, object.faults());
    (found.list, refused.err().map(|invalid| invalid.status))
}

/// What is found, as a 422.
fn refusal(info: &RequestInfo, route: &Route, schemas: Option<&Schemas>, body: &str) -> Option<Status> {
    told_by(info, route, schemas, body, Mode::Enforce).1
}

/// The causes of a `Mix`.
fn mixed(method: Method, path: &str, object: &Value) -> Vec<String> {
    let below: &[&str] = if path.contains("plain") { &[] } else { &["status"] };
    let path = path.replace("plain/", "");
    let info = asked(method, &format!("/apis/{GROUP}/v1/namespaces/default/mixs{path}"));
    let status = refusal(&info, &route(GROUP, "mixs", "Mix", below), Some(&MIXED), &object.to_string());
    shown(status.as_ref())
}

fn shown(status: Option<&Status>) -> Vec<String> {
    let causes = status.and_then(|status| status.details.as_ref()).map_or(&[][..], |details| &details.causes);
    causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

fn mix(spec: Value) -> Value {
    json!({"apiVersion": "gold.example/v1", "kind": "Mix", "metadata": {"name": "x"}, "spec": spec})
}

fn rows(text: &str) -> impl Iterator<Item = Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap())
}

type Causes = Vec<(String, String, String)>;

fn theirs(row: &Value) -> Causes {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |cause: &Value| (text(&cause[0]), text(&cause[1]), text(&cause[2]));
    let mut all: Causes = row["causes"].as_array().into_iter().flatten().map(of).collect();
    all.sort();
    all
}

fn ours(status: Option<&Status>) -> Causes {
    let causes = status.and_then(|status| status.details.as_ref()).map_or(&[][..], |details| &details.causes);
    let mut all: Causes =
        causes.iter().map(|c| (c.reason.clone(), c.message.clone(), c.field.clone())).collect();
    all.sort();
    all
}

#[test]
fn custom_resources_as_the_api_server_judged_them() {
    let published = serde_json::from_str(include_str!("../../../tests/golden/values-schemas.json")).unwrap();
    let schemas = compiled(&published);
    let (mut wrong, mut left, mut alike) = (Vec::new(), 0, 0);
    for row in rows(include_str!("../../../tests/golden/values.jsonl")) {
        let kind = row["kind"].as_str().unwrap();
        let plural = format!("{}s", kind.to_lowercase());
        let below: &[&str] = if kind == "Stat" { &["status"] } else { &[] };
        let route = route(GROUP, &plural, kind, below);
        let info = asked(Method::POST, &format!("/apis/{GROUP}/v1/namespaces/default/{plural}"));
        let mut object = json!({"apiVersion": "gold.example/v1", "kind": kind, "metadata": {"name": "x"}});
        object.as_object_mut().unwrap().extend(row["object"].as_object().unwrap().clone());
        let status = refusal(&info, &route, Some(&schemas), &object.to_string());
        let (ours, theirs) = (ours(status.as_ref()), theirs(&row));
        if row["left"].is_string() {
            assert!(ours.is_empty() || !theirs.is_empty() || row["code"] == 400, "{row}: {ours:?}");
            left += 1;
        } else if ours == theirs {
            alike += 1;
        } else {
            wrong.push(format!("{kind} {}: {ours:?}, not {theirs:?}", row["object"]));
        }
    }
    wrong.truncate(40);
    assert!(wrong.is_empty(), "{alike} alike, {left} left:\n{}", wrong.join("\n"));
    assert!(alike > 4000 && left < 130, "{alike} alike, {left} left");
}

#[test]
fn built_in_kinds_as_the_api_server_judged_them() {
    let documents: BTreeMap<String, Value> =
        serde_json::from_str(include_str!("../../../tests/golden/values-builtin-schemas.json")).unwrap();
    let compile = |(name, of): (&String, &Value)| {
        let (group, version) = name.split_once('/').unwrap();
        let start =
            if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        let path = |(resource, definition): (&String, &Value)| {
            let schema = json!({"$ref": format!("#/components/schemas/{}", definition.as_str().unwrap())});
            let body = json!({"content": {"*/*": {"schema": schema}}});
            (format!("{start}/namespaces/{{namespace}}/{resource}"), json!({"post": {"requestBody": body}}))
        };
        let paths: Map<String, Value> = of["resources"].as_object().unwrap().iter().map(path).collect();
        let document = json!({"openapi": "3.0.0", "paths": paths, "components": {"schemas": of["schemas"]}});
        (name.clone(), Schemas::compile(document.to_string().as_bytes()).unwrap())
    };
    let schemas: BTreeMap<String, Schemas> = documents.iter().map(compile).collect();
    let (mut told, mut silent) = (0, 0);
    for row in rows(include_str!("../../../tests/golden/values-builtin.jsonl")) {
        let text = |name: &str| row[name].as_str().unwrap();
        let (group, version, resource) = (text("group"), text("version"), text("resource"));
        let start =
            if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        let info = asked(Method::POST, &format!("{start}/namespaces/default/{resource}"));
        let route = route(group, resource, text("kind"), &[]);
        let schemas = schemas.get(&format!("{group}/{version}"));
        let status = refusal(&info, &route, schemas, &row["object"].to_string());
        let (ours, theirs) = (ours(status.as_ref()), theirs(&row));
        assert!(ours.iter().all(|cause| theirs.contains(cause)), "{row}: {ours:?}");
        if row["code"] == 201 {
            silent += 1;
        } else {
            assert!(!ours.is_empty(), "{row}");
            told += 1;
        }
    }
    assert!(told > 100 && silent > 50, "{told} {silent}");
}

#[test]
fn what_is_looked_at_depends_on_what_is_asked() {
    let bad = json!({"name": "x", "mode": "c", "replicas": 9});
    let all = [
        "spec.name: Invalid value: \"x\": spec.name in body should match '^[a-c]*$'",
        "spec.mode: Unsupported value: \"c\": supported values: \"a\", \"b\"",
        "spec.replicas: Invalid value: 9: spec.replicas in body should be less than or equal to 5",
    ];
    assert_eq!(mixed(Method::POST, "", &mix(bad.clone())), all);
    assert_eq!(mixed(Method::PUT, "/x", &mix(bad.clone())), all);
    // An applied object is held against what it says, not against what it leaves out.
    assert_eq!(mixed(Method::PATCH, "/x", &mix(bad)), all);
    assert_eq!(mixed(Method::POST, "", &mix(json!({}))), ["spec.name: Required value"]);
    assert!(mixed(Method::PATCH, "/x", &mix(json!({"either": {}, "when": null, "mode": null}))).is_empty());
    assert!(mixed(Method::PATCH, "/x", &json!({"metadata": {}})).is_empty());
    // The status counts where it is written, and where it is no resource of its own.
    let mut object = mix(json!({}));
    object["status"] = json!({"ready": -1});
    let status = "status.ready: Invalid value: -1: ready in body should be greater than or equal to 0";
    let whole = "status.ready: Invalid value: -1: status.ready in body should be greater than or equal to 0";
    assert_eq!(mixed(Method::POST, "", &object), ["spec.name: Required value"]);
    assert_eq!(mixed(Method::POST, "plain/", &object), ["spec.name: Required value", whole]);
    assert_eq!(mixed(Method::PUT, "/x/status", &object), [status]);
    assert!(mixed(Method::PUT, "/x/scale", &object).is_empty());
    // A name is given once.
    assert!(mixed(Method::PUT, "/x", &json!({"metadata": {}, "spec": {"name": "a"}})).is_empty());
}

#[test]
fn what_is_completed_is_not_wrong() {
    let fine = [
        json!({"name": "a", "replicas": null}),
        json!({"name": "a", "unknown": {"a": [1]}, "either": {"a": "x", "c": 1}}),
        json!({"name": "a", "mode": null, "when": null, "map": {"k": null}}),
        json!({"name": "a", "free": {"name": 1, "x": {"y": null}}}),
        json!({"name": "a", "replicas": 2.0, "either": {"a": "x", "b": null}}),
    ];
    for spec in fine {
        assert!(mixed(Method::POST, "", &mix(spec.clone())).is_empty(), "{spec}");
    }
    // Of equal keys the last one counts.
    let route = route(GROUP, "mixs", "Mix", &[]);
    let info = asked(Method::POST, &format!("/apis/{GROUP}/v1/namespaces/default/mixs"));
    let twice = r#"{"metadata": {"name": "x"}, "spec": {"name": 1, "name": "a"}}"#;
    assert_eq!(refusal(&info, &route, Some(&MIXED), twice), None);
}

#[test]
fn a_refusal_is_one_status() {
    let info = asked(Method::POST, &format!("/apis/{GROUP}/v1/namespaces/default/mixs"));
    let route = route(GROUP, "mixs", "Mix", &[]);
    let body = mix(json!({"replicas": "x", "ports": [{}, {}]})).to_string();
    let status = refusal(&info, &route, Some(&MIXED), &body).unwrap();
    assert_eq!((status.code, status.reason), (422, "Invalid"));
    assert_eq!(
        status.message,
        "Mix.gold.example \"x\" is invalid: [spec.replicas: Invalid value: \"string\": spec.replicas in body must be of type integer: \"string\", spec.ports[0].port: Required value, spec.ports[1].port: Required value, spec.name: Required value, spec.ports[1]: Duplicate value: {}]"
    );
    // Told, they are findings, and not too many.
    let ports: Vec<Value> = (0..100).map(|_| json!({})).collect();
    let body = mix(json!({"ports": ports})).to_string();
    let (findings, refused) = told_by(&info, &route, Some(&MIXED), &body, Mode::Warn);
    assert_eq!((findings.len(), refused), (MOST_TOLD, None));
    assert_eq!(findings[0].text, "spec.ports[0].port: Required value");
    assert_eq!(findings[0].name(), "values/required");
}

#[test]
fn what_is_not_known_is_not_judged() {
    let bad = json!({"metadata": {"name": "A_", "labels": {"a b": "-"}}, "spec": {"name": 1}}).to_string();
    let custom = asked(Method::POST, &format!("/apis/{GROUP}/v1/namespaces/default/mixs"));
    assert_eq!(refusal(&custom, &route(GROUP, "mixs", "Mix", &[]), None, &bad), None);
    let core = |path: &str| asked(Method::POST, &format!("/api/v1/namespaces/default/{path}"));
    assert_eq!(refusal(&core("bindings"), &route("", "bindings", "Binding", &[]), None, &bad), None);
    assert_eq!(refusal(&core("pods/x/eviction"), &route("", "pods", "Pod", &[]), None, &bad), None);
    assert_eq!(
        shown(refusal(&core("configmaps"), &route("", "configmaps", "ConfigMap", &[]), None, &bad).as_ref())
            .len(),
        3
    );
    for odd in [
        "[]",
        "1",
        "{\"metadata\": []}",
        "{\"metadata\": {\"labels\": [1], \"ownerReferences\": [1], \"name\": 1}}",
    ] {
        let found = refusal(&core("configmaps"), &route("", "configmaps", "ConfigMap", &[]), None, odd);
        assert!(shown(found.as_ref()).len() <= 5, "{odd}: {found:?}");
    }
}

#[test]
fn a_secret_is_not_repeated() {
    let secret = json!({
        "metadata": {"name": "s", "labels": {"a": "hunter2 "}, "annotations": {"hunter2 ": ""}, "finalizers": ["hunter2 "]},
        "data": {"hunter2 ": 1}, "type": "hunter2 ",
    });
    let info = asked(Method::POST, "/api/v1/namespaces/default/secrets");
    let route = route("", "secrets", "Secret", &[]);
    for mode in [Mode::Warn, Mode::Enforce] {
        let (findings, status) = told_by(&info, &route, None, &secret.to_string(), mode);
        let text = format!("{findings:?} {status:?}");
        assert!(text.contains("metadata.labels: ") || text.contains("metadata.labels"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn annotations_have_a_limit() {
    let info = asked(Method::POST, "/api/v1/namespaces/default/configmaps");
    let route = route("", "configmaps", "ConfigMap", &[]);
    for (len, want) in [((256 << 10) - 1, 0), (256 << 10, 1)] {
        let object = json!({"metadata": {"name": "x", "annotations": {"a": "x".repeat(len)}}});
        let found = shown(refusal(&info, &route, None, &object.to_string()).as_ref());
        assert_eq!(found.len(), want);
        assert!(
            found
                .iter()
                .all(|text| text == "metadata.annotations: Too long: may not be more than 262144 bytes")
        );
    }
}

#[test]
fn hostile_objects_cost_little() {
    let many = |of: &str| format!("[{}]", vec![of; 100_000].join(","));
    let nested = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let specs = [
        format!("{{\"name\": \"a\", \"set\": {}}}", many("\"same\"")),
        format!("{{\"name\": \"a\", \"ports\": {}}}", many("{}")),
        format!("{{\"name\": \"a\", \"ports\": {}}}", many("{\"port\": 1}")),
        format!("{{\"name\": \"a\", \"either\": {}}}", many("1")),
        format!("{{\"name\": \"{}\"}}", "d".repeat(1 << 20)),
        format!(
            "{{\"name\": \"a\", \"free\": {{\"x\": {nested}}}, \"map\": {nested}, \"unknown\": {nested}}}"
        ),
        format!("{{{}}}", (0..100_000).map(|i| format!("\"k{i}\": 1")).collect::<Vec<_>>().join(",")),
    ];
    let info = asked(Method::POST, &format!("/apis/{GROUP}/v1/namespaces/default/mixs"));
    let route = route(GROUP, "mixs", "Mix", &[]);
    for spec in specs {
        let start = Instant::now();
        let body = format!("{{\"metadata\": {{\"name\": \"x\"}}, \"spec\": {spec}}}");
        let status = refusal(&info, &route, Some(&MIXED), &body);
        let text = status.map(|status| status.message).unwrap_or_default();
        assert!(text.len() < 100_000, "{} bytes", text.len());
        assert!(start.elapsed() < Duration::from_secs(20), "{:?} for {}", start.elapsed(), &spec[..40]);
    }
}

#[test]
fn circles_in_schemas_do_not_use_up_the_stack() {
    let definition = json!({"type": "object", "properties": {"not": {"$ref": "#/components/schemas/io.k8s.api.core.v1.Service"}}});
    let body = json!({"requestBody": {"content": {"*/*": {"schema": {"$ref": "#/components/schemas/io.k8s.api.core.v1.Service"}}}}});
    let document = json!({
        "openapi": "3.0.0",
        "paths": {"/api/v1/namespaces/{namespace}/services": {"post": body}},
        "components": {"schemas": {"io.k8s.api.core.v1.Service": definition}},
    });
    let schemas = Schemas::compile(document.to_string().as_bytes()).unwrap();
    let info = asked(Method::POST, "/api/v1/namespaces/default/services");
    let deep = format!(
        "{{\"metadata\": {{\"name\": \"x\"}}, \"not\": {}1{}}}",
        "{\"not\": ".repeat(9000),
        "}".repeat(9000)
    );
    let work = move || refusal(&info, &route("", "services", "Service", &[]), Some(&schemas), &deep);
    // As much as a worker thread has.
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap();
    assert_eq!(thread.join().unwrap(), None);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3i64..9).prop_map(Value::from),
        (-3.0f64..9.0).prop_map(Value::from),
        "[a-d]{0,4}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        "name", "replicas", "mode", "ports", "port", "set", "map", "free", "either", "a", "b", "when"
    ];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The rules of `Mix` once more, plainly, for values that need no completion.
fn plainly_fine(spec: &Value) -> bool {
    let Some(spec) = spec.as_object() else { return false };
    let short = |value: &Value| {
        value.as_str().is_some_and(|s| s.len() <= 3 && s.chars().all(|c| ('a'..='c').contains(&c)))
    };
    let integer = |value: &Value| value.as_f64().is_some_and(|n| n.fract() == 0.0);
    let known = |key: &str| spec.get(key).filter(|value| !value.is_null());
    let all = |key: &str, holds: &dyn Fn(&Value) -> bool| known(key).is_none_or(holds);
    let distinct = |values: &[&Value]| values.iter().enumerate().all(|(i, a)| !values[..i].contains(a));
    spec.get("name").is_some_and(short)
        && all("replicas", &|v| integer(v) && (0.0..=5.0).contains(&v.as_f64().unwrap_or(-1.0)))
        && all("mode", &|v| v == "a" || v == "b")
        && all("set", &|v| {
            v.as_array().is_some_and(|all| {
                all.iter().all(Value::is_string) && distinct(&all.iter().collect::<Vec<_>>())
            })
        })
        && all("ports", &|v| {
            v.as_array().is_some_and(|all| {
                all.iter().all(|p| p["port"].as_f64().is_some_and(|n| n.fract() == 0.0))
                    && distinct(&all.iter().map(|p| &p["port"]).collect::<Vec<_>>())
            })
        })
        && all("map", &|v| v.as_object().is_some_and(|map| map.values().all(|v| v.is_null() || short(v))))
        && all("free", &Value::is_object)
        // A list passes for a string with a format, at the API server too.
        && all("when", &Value::is_array)
        && all("either", &|v| {
            v.is_object() && (v["a"].is_string() && v["b"].is_null() || v["a"].is_null() && integer(&v["b"]))
        })
}

proptest! {
    #[test]
    fn agrees_with_a_plain_reading(spec in any_json(), name in "[a-c]{0,3}", named in any::<bool>()) {
        let mut spec = spec;
        if let Some(spec) = spec.as_object_mut().filter(|_| named) {
            spec.insert("name".to_owned(), name.into());
        }
        // Members that may not be null and are, are gone before anybody looks.
        let is_fine = spec.is_null() || plainly_fine(&spec);
        let found = mixed(Method::POST, "", &mix(spec.clone()));
        prop_assert_eq!(found.is_empty(), is_fine, "{} {:?}", spec, found);
    }

    #[test]
    fn never_panics(object in any_json(), spec in any_json(), metadata in any_json()) {
        mixed(Method::POST, "", &object);
        mixed(Method::PUT, "/x/status", &json!({"metadata": metadata, "spec": spec, "status": object}));
        mixed(Method::PATCH, "/x", &json!({"metadata": metadata, "spec": spec}));
    }
}
