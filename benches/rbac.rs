//! What a decision costs, and that it does not grow with rules that cannot match.

use divan::{Bencher, black_box};
use gatelog::{
    rbac::{self, Binding, BindingName, Objects, Place, Role, RoleName, Rule, Rules, Subject},
    request::{Attributes, Object},
};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

fn main() {
    divan::main();
}

/// Roles, with ten bindings each: half of them to one user of their own in one of 1,000 namespaces, half to one of 5,000
/// groups.
fn world(roles: usize) -> Objects {
    let place = Place { file: "bench".into(), document: 1, line: 1 };
    let texts = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
    let role = |i: usize| {
        let rule = |verbs: &[&str], group: &str, resources: &[&str]| {
            let (verbs, resources) = (texts(verbs), texts(resources));
            Arc::new(Rule { verbs, api_groups: vec![group.to_owned()], resources, ..Rule::default() })
        };
        let own = [format!("things{}", i % 200), format!("things{}/status", i % 200)];
        Role {
            name: RoleName { namespace: None, name: format!("role-{i}").into() },
            labels: BTreeMap::new(),
            rules: vec![
                rule(&["get", "list", "watch"], "", &["pods", "pods/log", "services", "configmaps"]),
                rule(
                    &["get", "list", "watch", "create", "update", "patch", "delete"],
                    "apps",
                    &["deployments", "replicasets"],
                ),
                rule(&["get", "list"], "example.org", &[&own[0], &own[1]]),
            ],
            aggregation: None,
            place: place.clone(),
        }
    };
    let binding = |i: usize| {
        let namespace = format!("namespace-{}", i % 1000).into();
        let role = RoleName { namespace: None, name: format!("role-{}", i / 10).into() };
        let subject = if i.is_multiple_of(2) {
            Subject::User(format!("user-{i}@example.org"))
        } else {
            Subject::Group(format!("group-{}", i % 5000))
        };
        let name = BindingName { namespace: Some(namespace), name: format!("binding-{i}").into(), role };
        Binding { name: Arc::new(name), subjects: vec![subject], place: place.clone() }
    };
    Objects { roles: (0..roles).map(role).collect(), bindings: (0..roles * 10).map(binding).collect() }
}

fn rules(roles: usize) -> Rules {
    Rules::new(world(roles))
}

fn get<'a>(verb: &'a str, namespace: &'a str, resource: &'a str) -> Attributes<'a> {
    Attributes {
        verb,
        object: Object::Resource {
            group: "",
            version: "v1",
            resource,
            subresource: "",
            namespace,
            name: "web-7d4b9",
        },
    }
}

fn everybody() -> Vec<String> {
    ["developers", "oncall", "system:authenticated"].map(str::to_owned).to_vec()
}

const ROLES: [usize; 3] = [100, 1000, 10_000];

#[divan::bench(args = ROLES)]
fn hit(bencher: Bencher, roles: usize) {
    let (rules, groups) = (rules(roles), everybody());
    bencher.bench(|| {
        rules.decide(black_box("user-42@example.org"), &groups, get("get", "namespace-42", "pods"))
    });
}

#[divan::bench(args = ROLES)]
fn miss(bencher: Bencher, roles: usize) {
    let (rules, groups) = (rules(roles), everybody());
    bencher.bench(|| {
        rules.decide(black_box("user-42@example.org"), &groups, get("delete", "namespace-42", "secrets"))
    });
}

#[divan::bench(args = ROLES)]
fn path(bencher: Bencher, roles: usize) {
    let (rules, groups) = (rules(roles), everybody());
    let asked = Attributes { verb: "get", object: Object::Path("/apis/apps/v1") };
    bencher.bench(|| rules.decide(black_box("user-42@example.org"), &groups, asked));
}

/// A different user each time, so that nothing is in the processor's caches.
#[divan::bench(args = ROLES)]
fn hit_cold(bencher: Bencher, roles: usize) {
    let (rules, groups) = (rules(roles), everybody());
    let last = AtomicUsize::new(0);
    bencher
        .with_inputs(|| {
            let i = last.fetch_add(7919 * 2, Ordering::Relaxed) % (roles * 10);
            (format!("user-{i}@example.org"), format!("namespace-{}", i % 1000))
        })
        .bench_refs(|(user, namespace)| rules.decide(user, &groups, get("get", namespace, "pods")));
}

/// 200 groups, each of which holds something, none of which helps.
#[divan::bench(args = ROLES)]
fn miss_with_200_groups(bencher: Bencher, roles: usize) {
    let rules = rules(roles);
    let groups: Vec<String> = (0..200).map(|i| format!("group-{}", i * 2 + 1)).collect();
    bencher.bench(|| rules.decide(black_box("nobody"), &groups, get("delete", "namespace-42", "secrets")));
}

/// Why not, for the same miss.
#[divan::bench(args = ROLES)]
fn explain(bencher: Bencher, roles: usize) {
    let (rules, groups) = (rules(roles), everybody());
    bencher.bench(|| {
        rules.nearest(black_box("user-42@example.org"), &groups, get("delete", "namespace-42", "pods"))
    });
}

/// The reason of an allowed request, rendered.
#[divan::bench]
fn render_reason(bencher: Bencher) {
    let (rules, groups) = (rules(100), everybody());
    let decision = rules.decide("user-42@example.org", &groups, get("get", "namespace-42", "pods"));
    let rbac::Decision::Allow(grounds) = decision else { return };
    bencher.bench(|| black_box(&grounds).to_string());
}

#[divan::bench(args = ROLES, sample_count = 5)]
fn index(bencher: Bencher, roles: usize) {
    bencher.with_inputs(|| world(roles)).bench_values(Rules::new);
}

/// From manifests to rules: a tenth of the index's worlds, for YAML takes its time.
#[divan::bench(args = [10, 100, 1000], sample_count = 5)]
fn load(bencher: Bencher, roles: usize) {
    let mut text = String::new();
    for i in 0..roles {
        let _ = write!(
            text,
            "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: role-{i}\nrules:\n- verbs: [get, list, watch]\n  apiGroups: [\"\"]\n  resources: [pods, pods/log, services, things{i}]\n"
        );
        for j in 0..10 {
            let _ = write!(
                text,
                "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata:\n  name: binding-{i}-{j}\n  namespace: ns-{j}\nsubjects:\n- kind: User\n  name: user-{i}\nroleRef:\n  kind: ClusterRole\n  name: role-{i}\n"
            );
        }
    }
    bencher.bench(|| {
        let (mut objects, mut problems) = (Objects::default(), Vec::new());
        rbac::read("bench", &text, &mut objects, &mut problems);
        Rules::new(objects)
    });
}
