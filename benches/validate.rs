//! What a catalogue of a large cluster takes, and what looking up in it costs every request. Memory is what the allocator counts.

use divan::{AllocProfiler, Bencher, black_box};
use gatelog::{
    cluster::discovery::{self, Group},
    request::{RequestInfo, Target},
    validate::catalog::{Catalog, Metrics, Served},
};
use http::Method;
use prometheus::Registry;
use serde_json::{Value, json};

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
