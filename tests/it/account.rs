//! The check of the gate's own account at start: what `gatelog serve` says of it, before the demo's API server and a real one.

use crate::{
    cli::{Served, probe},
    conformance::{
        real::{self, Real},
        world::World,
    },
    raw,
    scene::Folder,
};
use gatelog::demo::{
    apiserver::{self, ApiServer},
    pki::Ca,
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

/// Nothing is recorded.
const POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None}]\n";

/// For a right to count.
const PATIENCE: Duration = Duration::from_secs(20);

/// A gate of `folder` before `upstream`, by the account whose token is `keeper-token`.
fn configure(folder: &Folder, world: &World, upstream: SocketAddr, authentication: &str, more: &str) {
    let server = Ca::new("gate").unwrap().server(&["127.0.0.1"]).unwrap();
    folder.put("tls.crt", &server.certificates());
    folder.put("tls.key", &server.key);
    folder.put("ca.crt", &world.ca.pem());
    folder.put("token", "keeper-token");
    folder.put(
        "gatelog.yaml",
        &format!(
            "apiVersion: gatelog.dev/v1alpha1
kind: Gateway
listen: {{address: '127.0.0.1:0', tlsCertFile: tls.crt, tlsPrivateKeyFile: tls.key}}
upstream: {{server: 'https://{upstream}', certificateAuthority: ca.crt, tokenFile: token}}
authentication: {{clientCAFile: ca.crt{authentication}}}
audit: {{dir: audit, signing: {{stdout: none}}}}
admin: {{address: '127.0.0.1:0'}}
validation: {{mode: off}}
{more}"
        ),
    );
}

/// What a gate finds: the rights that are too much, those that are missing; and what `/readyz?verbose` and the metric say.
async fn checked(folder: &Folder) -> (Vec<String>, Vec<String>, String, String) {
    let folder = folder.0.clone();
    tokio::task::spawn_blocking(move || check(&folder)).await.unwrap()
}

fn check(folder: &Path) -> (Vec<String>, Vec<String>, String, String) {
    let level = ["--log-level", "info,gatelog::server::account=debug"];
    let mut served = Served::of(folder, &level);
    let admin: SocketAddr = served.logged("serving")["admin"].as_str().unwrap().parse().unwrap();
    let (mut excess, mut missing) = (Vec::new(), Vec::new());
    loop {
        let line = served.logged("the gate's own account");
        let right = line["right"].as_str().unwrap_or_default().to_owned();
        match line["message"].as_str().unwrap() {
            "the gate's own account has a right that it does not need" => excess.push(right),
            "the gate's own account lacks a right that it needs" => missing.push(right),
            "the gate's own account has been checked" => break,
            other => panic!("{other}"),
        }
    }
    let metrics = probe(admin, "/metrics");
    let metric =
        metrics.lines().find_map(|line| line.strip_prefix("gatelog_account_excess_rights ")).unwrap();
    (excess, missing, probe(admin, "/readyz?verbose&exclude=upstream"), metric.to_owned())
}

const REVIEWED: &str = ", tokenReview: {upstream: {}}";

const NOTE: &str = "note: the gate's own account has";

fn role(name: &str, rules: Value) -> Value {
    let api = "rbac.authorization.k8s.io/v1";
    json!({"apiVersion": api, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules})
}

fn bound(kind: &str, name: &str, role: &str, namespace: Option<&str>) -> Value {
    let api = "rbac.authorization.k8s.io";
    let mut binding = json!({
        "apiVersion": format!("{api}/v1"), "kind": kind, "metadata": {"name": name},
        "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": api, "kind": "User", "name": "keeper"}],
    });
    if let Some(namespace) = namespace {
        binding["metadata"]["namespace"] = namespace.into();
    }
    binding
}

/// Gives the account a role, and waits until it counts: it may do this then.
async fn give(world: &World, upstream: SocketAddr, binding: Value, right: Value) {
    real::create(upstream, world, &binding).await;
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": right},
    });
    let body = review.to_string();
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer keeper-token\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let tls = raw::Tls::new(&world.ca.pem(), None, "http/1.1");
    until(async || {
        let reply = raw::ask(upstream, &tls, "POST", request.as_bytes()).await.unwrap();
        reply.text().contains("\"allowed\":true")
    })
    .await;
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "it does not come to count");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// With nothing, with exactly what it needs, with more, and with everything.
async fn compare(world: &World, upstream: SocketAddr) {
    let folder = Folder::new("account");
    configure(&folder, world, upstream, "", "");
    let (excess, missing, _, metric) = checked(&folder).await;
    assert_eq!((excess, &*metric), (vec![], "0"));
    assert_eq!(missing, ["impersonate on users", "impersonate on groups"]);

    let needed = role(
        "gate",
        json!([
            {"apiGroups": [""], "resources": ["users", "groups", "serviceaccounts"], "verbs": ["impersonate"]},
            {
                "apiGroups": ["authentication.k8s.io"], "resources": ["uids", "userextras/acme.io/team"],
                "verbs": ["impersonate"],
            },
            {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
        ]),
    );
    real::create(upstream, world, &needed).await;
    let binding = bound("ClusterRoleBinding", "gate", "gate", None);
    give(world, upstream, binding, json!({"verb": "impersonate", "resource": "users"})).await;
    configure(&folder, world, upstream, REVIEWED, "");
    let (excess, missing, ready, metric) = checked(&folder).await;
    assert_eq!((excess, missing, &*metric), (vec![], vec![], "0"));
    assert!(ready.ends_with("readyz check passed\n") && !ready.contains(NOTE), "{ready}");

    // What is not used is too much; so is what a RoleBinding gives.
    let secrets = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "get"]}]);
    real::create(upstream, world, &role("secrets", secrets)).await;
    let binding = bound("RoleBinding", "gate", "secrets", Some("kube-system"));
    let right = json!({"verb": "get", "resource": "secrets", "namespace": "kube-system"});
    give(world, upstream, binding, right).await;
    configure(&folder, world, upstream, "", "");
    let (mut excess, missing, ready, metric) = checked(&folder).await;
    excess.sort();
    let told =
        ["create on tokenreviews.authentication.k8s.io", "get, list on secrets in namespace kube-system"];
    assert_eq!((&excess[..], missing, &*metric), (&told.map(str::to_owned)[..], vec![], "2"));
    assert!(ready.contains(NOTE) && ready.ends_with("readyz check passed\n"), "{ready}");

    let binding = bound("ClusterRoleBinding", "gate-all", "cluster-admin", None);
    give(world, upstream, binding, json!({"verb": "delete", "resource": "nodes"})).await;
    let (excess, missing, ready, _) = checked(&folder).await;
    assert!(excess.contains(&"* on *.*".to_owned()) && missing.is_empty(), "{excess:?} {missing:?}");
    assert!(excess.contains(&"* on *".to_owned()) && ready.contains(NOTE), "{excess:?} {ready}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_demo() {
    let world = World::new(&["user keeper"]);
    let tls = apiserver::tls(&world.ca.server(&["127.0.0.1"]).unwrap(), &world.ca).unwrap();
    let mut options = apiserver::Options::new(tls).unwrap();
    options.tokens = HashMap::from([
        ("admin-token".to_owned(), apiserver::Caller::new("admin", &["system:masters"])),
        ("keeper-token".to_owned(), apiserver::Caller::new("keeper", &["system:authenticated"])),
    ]);
    let demo = ApiServer::start(options).await.unwrap();
    compare(&world, demo.addr()).await;
}

/// The demo's own account for a gate has the rights that it needs, and no others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_demo() {
    for (reviews_tokens, reads_rules, authentication, more) in
        [(false, false, "", ""), (true, true, REVIEWED, "authorization: {rbac: {cluster: {}}}\n")]
    {
        let world = World::new(&["user keeper"]);
        let tls = apiserver::tls(&world.ca.server(&["127.0.0.1"]).unwrap(), &world.ca).unwrap();
        let mut options = apiserver::Options::new(tls).unwrap();
        options.gateway =
            apiserver::Gateway { users: vec!["keeper".to_owned()], reviews_tokens, reads_rules };
        let keeper = apiserver::Caller::new("keeper", &["system:authenticated"]);
        options.tokens = HashMap::from([("keeper-token".to_owned(), keeper)]);
        let demo = ApiServer::start(options).await.unwrap();
        let folder = Folder::new("account-demo");
        configure(&folder, &world, demo.addr(), authentication, more);
        let (excess, missing, ready, metric) = checked(&folder).await;
        assert_eq!((excess, missing, &*metric), (vec![], vec![], "0"));
        assert!(!ready.contains(NOTE), "{ready}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_a_real_server() {
    let Some(assets) = real::assets() else {
        eprintln!("KUBEBUILDER_ASSETS is not set: the check was NOT tried before a real kube-apiserver");
        return;
    };
    let world = World::new(&["user keeper"]);
    let real = Real::start(&assets, &world, POLICY).await;
    compare(&world, real.addr).await;
}
