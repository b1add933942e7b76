//! What a decision costs, and that it does not grow with rules that cannot match; what a refusal costs that explains itself; and
//! what a change of the rules costs: making the index anew, and asking it for every open stream. Memory is what the allocator
//! counts.

use divan::{AllocProfiler, Bencher, black_box};
use gatelog::{
    authz::{Authz, Explain, Tell},
    identity::User,
    rbac::{self, Binding, BindingName, Objects, Place, Role, RoleName, Rule, Rules, Subject},
    request::{Attributes, Object, RequestInfo, Target},
    streams::{Held, Lease, Right, Streams},
};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Numbers of bindings; a hundredth as many roles.
const BINDINGS: [usize; 3] = [100, 10_000, 100_000];
const MOST: usize = 100_000;

/// RoleBindings to ClusterRoles in 1,000 namespaces: half of them to one user each, half to one of 5,000 groups.
fn world(bindings: usize) -> Objects {
    let roles = bindings / 100;
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
        let role = RoleName { namespace: None, name: format!("role-{}", i % roles).into() };
        let subject = if i.is_multiple_of(2) {
            Subject::User(format!("user-{i}@example.org"))
        } else {
            Subject::Group(format!("group-{}", i % 5000))
        };
        let name = BindingName { namespace: Some(namespace), name: format!("binding-{i}").into(), role };
        Binding { name: Arc::new(name), subjects: vec![subject], place: place.clone() }
    };
    Objects { roles: (0..roles).map(role).collect(), bindings: (0..bindings).map(binding).collect() }
}

fn rules(bindings: usize) -> Rules {
    Rules::new(world(bindings))
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

fn decide(bencher: Bencher, bindings: usize, user: &str, groups: &[String], asked: Attributes<'_>) {
    let rules = rules(bindings);
    bencher.bench(|| rules.decide(black_box(user), groups, asked));
}

#[divan::bench(args = BINDINGS)]
fn hit(bencher: Bencher, bindings: usize) {
    decide(bencher, bindings, "user-42@example.org", &everybody(), get("get", "namespace-42", "pods"));
}

#[divan::bench(args = BINDINGS)]
fn miss(bencher: Bencher, bindings: usize) {
    decide(bencher, bindings, "user-42@example.org", &everybody(), get("delete", "namespace-42", "secrets"));
}

#[divan::bench(args = BINDINGS)]
fn path(bencher: Bencher, bindings: usize) {
    let asked = Attributes { verb: "get", object: Object::Path("/apis/apps/v1") };
    decide(bencher, bindings, "user-42@example.org", &everybody(), asked);
}

/// A different user each time, so that nothing is in the processor's caches.
#[divan::bench(args = BINDINGS)]
fn hit_cold(bencher: Bencher, bindings: usize) {
    let (rules, groups) = (rules(bindings), everybody());
    let last = AtomicUsize::new(0);
    bencher
        .with_inputs(|| {
            let i = last.fetch_add(7919 * 2, Ordering::Relaxed) % bindings;
            (format!("user-{i}@example.org"), format!("namespace-{}", i % 1000))
        })
        .bench_refs(|(user, namespace)| rules.decide(user, &groups, get("get", namespace, "pods")));
}

/// 200 groups with 20 roles each, all in the namespace for one of them, which is the last.
fn groups() -> Vec<String> {
    (0..200).rev().map(|i| format!("group-{}", i * 2 + 43)).collect()
}

#[divan::bench]
fn hit_with_200_groups(bencher: Bencher) {
    decide(bencher, MOST, "nobody", &groups(), get("get", "namespace-43", "pods"));
}

#[divan::bench]
fn miss_with_200_groups(bencher: Bencher) {
    decide(bencher, MOST, "nobody", &groups(), get("delete", "namespace-43", "pods"));
}

fn authz(explain: Explain) -> Authz {
    Authz::new(rules(MOST), Tell { explain, contact: None })
}

fn user(name: &str, groups: Vec<String>) -> Option<Arc<User>> {
    User::new(name, "", groups, BTreeMap::new()).ok()
}

/// Why not, and who may instead: what every refusal makes, however much of it the caller is told.
#[divan::bench(args = ["user-42@example.org", "nobody", "of 200 groups"])]
fn denial(bencher: Bencher, who: &str) {
    let authz = authz(Explain::Full);
    let groups = if who == "of 200 groups" { groups() } else { everybody() };
    let Some(user) = user(who, groups) else { return };
    bencher.bench(|| authz.allows(black_box(&user), get("delete", "namespace-43", "pods")));
}

/// The same for the caller, as text.
#[divan::bench(args = [Explain::Own, Explain::Full])]
fn render_denial(bencher: Bencher, explain: Explain) {
    let authz = authz(explain);
    let Some(user) = user("user-42@example.org", everybody()) else { return };
    // Somebody may do it.
    let Err(denial) = authz.allows(&user, get("get", "namespace-43", "pods")) else { return };
    bencher.bench(|| black_box(&denial).told(explain));
}

/// Every open watch after a change: 10,000 of as many users.
#[divan::bench]
fn watches(bencher: Bencher) {
    let (authz, streams) = (authz(Explain::Own), Arc::new(Streams::default()));
    let open: Vec<Lease> = (0..10_000)
        .filter_map(|i| {
            let target = format!("/api/v1/namespaces/namespace-{}/pods?watch=1", i * 2 % 1000);
            let info = RequestInfo::parse(&http::Method::GET, &Target::parse(&target).ok()?).ok()?;
            let user = user(&format!("user-{}@example.org", i * 2), everybody())?;
            let right = Right {
                proven: Arc::clone(&user),
                impersonation: None,
                effective: user,
                info,
                upgrade: false,
            };
            Some(streams.open(Held {
                right,
                what: "watch pods".to_owned(),
                audit_id: i.to_string(),
                tunnel: false,
                since: SystemTime::UNIX_EPOCH,
                expires: None,
            }))
        })
        .collect();
    assert_eq!(open.len(), 10_000);
    bencher.bench(|| {
        let ended = streams.end_for(|held| authz.still_allows(&held.right).err().map(Into::into));
        assert_eq!(ended, 0);
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

#[divan::bench(args = BINDINGS, sample_count = 20)]
fn index(bencher: Bencher, bindings: usize) {
    let world = world(bindings);
    bencher.bench(|| Rules::as_written(&world.roles, &world.bindings));
}

/// From manifests to rules.
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
