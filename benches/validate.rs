//! What a catalogue of a large cluster takes, what looking up in it costs every request, and what it costs to read a body, beside
//! serde_json. Memory is what the allocator counts.

use divan::{AllocProfiler, Bencher, black_box, counter::BytesCount};
use gatelog::{
    audit::redact::{About, Builtins, Key, Redactor},
    cluster::discovery::{self, Group},
    codec::{document::Document, tape::Tape},
    request::{Asked, RequestInfo, Target},
    validate::{
        Config, Findings,
        catalog::{Catalog, Kind, Metrics, Origin, Resource, Route, Served, Verbs},
        hold,
        schema::Schemas,
    },
};
use http::{HeaderMap, Method, Request};
use prometheus::Registry;
use serde_json::{Value, json};
use std::{cell::Cell, sync::Arc};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const GROUPS: usize = 100;
const DEFINITIONS: usize = 1_000;

/// Discovery of custom resources as kube-apiserver tells it, of two versions each.
fn listing() -> String {
    let verbs = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
    let resource = |group: &str, version: &str, i: usize| -> Value {
        let kind = json!({"group": group, "version": version, "kind": format!("Thing{i}")});
        json!({"resource": format!("things{i}"), "responseKind": kind, "scope": "Namespaced",
            "singularResource": format!("thing{i}"), "verbs": verbs, "subresources": [
                {"subresource": "status", "responseKind": kind, "verbs": ["get", "patch", "update"]},
                {"subresource": "scale", "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"},
                    "verbs": ["get", "patch", "update"]}]})
    };
    let groups = (0..GROUPS).map(|g| {
        let group = format!("group{g}.example.org");
        let versions = ["v1", "v1beta1"].map(|version| {
            let mine = (0..DEFINITIONS).filter(|i| i % GROUPS == g);
            json!({"version": version, "freshness": "Current",
                "resources": mine.map(|i| resource(&group, version, i)).collect::<Vec<_>>()})
        });
        json!({"metadata": {"name": group}, "versions": versions})
    });
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": groups.collect::<Vec<_>>()})
    .to_string()
}

fn served(groups: &[Group]) -> Served {
    let mut served = Served::default();
    served.add(groups, None);
    served
}

/// From the answer's bytes to a catalogue.
#[divan::bench(sample_count = 20)]
fn catalog_load(bencher: Bencher) {
    let text = listing();
    bencher.bench(|| discovery::aggregated(black_box(text.as_bytes())).map(|groups| served(&groups)));
}

/// What stays of it: all but the table of words that is dropped at the end.
#[divan::bench(sample_count = 20)]
fn catalog_memory(bencher: Bencher) {
    let Ok(groups) = discovery::aggregated(listing().as_bytes()) else { return };
    bencher.bench(|| served(black_box(&groups)));
}

#[divan::bench(args = ["/apis/group42.example.org/v1/namespaces/team/things42/one", "/apis/group42.example.org/v1beta1/namespaces/team/things42/one/status"])]
fn catalog_find(bencher: Bencher, target: &str) {
    let Ok(groups) = discovery::aggregated(listing().as_bytes()) else { return };
    let Ok(metrics) = Metrics::new(&Registry::new()) else { return };
    let catalog = Catalog::of(served(&groups), metrics);
    let Ok(target) = Target::parse(target) else { return };
    let Ok(info) = RequestInfo::parse(&Method::GET, &target) else { return };
    bencher.bench(|| catalog.find(black_box(&info)));
}

/// A Deployment of 4 KB and a ConfigMap of 1 MB, on one line.
fn body(name: &str) -> String {
    let container = |i: usize| {
        json!({"name": format!("c{i}"), "image": format!("registry.example/app/web:1.2{i}"),
            "args": ["--port=8080", "--verbose"], "ports": [{"containerPort": 8080, "protocol": "TCP"}],
            "env": [{"name": "A", "value": "1"},
                {"name": "POD", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
            "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "250m", "memory": "512Mi"}},
            "livenessProbe": {"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 3},
            "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": true}]})
    };
    let labels = json!({"app": "web", "tier": "front"});
    let object = match name {
        "deployment" => json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "shop", "labels": labels},
            "spec": {"replicas": 3, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
                "spec": {"containers": (0..7).map(container).collect::<Vec<_>>()}}}}),
        _ => {
            let line = "key = value of a line, \"quoted\"\n";
            let file = |i: usize| (format!("file-{i}"), Value::from(line.repeat(2_000)));
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"},
                "data": (0..16).map(file).collect::<serde_json::Map<_, _>>()})
        }
    };
    object.to_string()
}

const BODIES: [&str; 2] = ["deployment", "configmap"];

/// What the others are held against.
#[divan::bench(args = BODIES)]
fn body_serde_json(bencher: Bencher, name: &str) {
    let body = body(name);
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| serde_json::from_slice::<Value>(black_box(body.as_bytes())).is_ok());
}

#[divan::bench(args = BODIES)]
fn body_tape(bencher: Bencher, name: &str) {
    let body = body(name);
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| Tape::of_bytes(black_box(body.as_bytes()), 10_000, &Cell::new(1 << 21)).is_ok());
}

/// What the record adds to one that was read: what is secret is looked for.
#[divan::bench(args = BODIES)]
fn body_redacted(bencher: Bencher, name: &str) {
    let body = body(name);
    let redactor = Redactor::new(Key::new(b"k"), Builtins::NONE, Vec::new()).ok();
    let tape = Tape::of_bytes(body.as_bytes(), 10_000, &Cell::new(1 << 21)).ok();
    let about = About::default();
    bencher.counter(BytesCount::new(body.len())).bench(|| {
        redactor
            .as_ref()
            .zip(tape.as_ref())
            .is_some_and(|(redactor, tape)| redactor.tape(&about, tape).is_ok())
    });
}

/// From the body's bytes to what is wrong with it: parsed, and held against kube-apiserver's own schema of its kind.
#[divan::bench(args = BODIES)]
fn body_validated(bencher: Bencher, name: &str) {
    let body = body(name);
    let (target, group, version, kind) = match name {
        "deployment" => ("/apis/apps/v1/namespaces/shop/deployments", "apps", "v1", "Deployment"),
        _ => ("/api/v1/namespaces/shop/configmaps", "", "v1", "ConfigMap"),
    };
    let Some((schemas, asked)) = schemas(group, version).zip(asked(target)) else { return };
    let kind = Kind { group: group.into(), version: version.into(), kind: kind.into() };
    let resource = Resource {
        group: group.into(),
        version: version.into(),
        name: asked.info.resource().into(),
        kind,
        namespaced: true,
        verbs: Verbs::default(),
        subresources: Box::default(),
    };
    let route = Route { resource: Arc::new(resource), subresource: None, origin: Origin::BuiltIn };
    let (config, headers) = (Arc::new(Config::default()), HeaderMap::new());
    bencher.counter(BytesCount::new(body.len())).bench(|| {
        let document = Document::new(&headers, black_box(body.as_bytes()));
        let found = Findings::new(config.clone());
        hold(found, &asked, &headers, &route, &schemas, &document).is_ok_and(|found| found.is_empty())
    });
}

/// The documents of the tests, which a real server gave.
fn schemas(group: &str, version: &str) -> Option<Schemas> {
    let packed = &include_bytes!("../tests/golden/openapi.json.gz")[..];
    let documents: Value = serde_json::from_reader(flate2::read::GzDecoder::new(packed)).ok()?;
    let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
    Schemas::compile(documents.get(path)?.to_string().as_bytes()).ok()
}

fn asked(target: &str) -> Option<Asked> {
    Asked::parse(&Request::post(target).body(()).ok()?.into_parts().0).ok()
}
