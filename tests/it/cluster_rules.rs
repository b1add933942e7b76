//! The cluster's own rules, watched: they count within a second of their writing, and what is lost is said.

use crate::harness::{Gate, PATIENCE, Tweaks};
use bytes::Bytes;
use gatelog::demo::site::{ADMIN, DEVELOPER, RULES_OF_CLUSTER, User, VIEWER};
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

fn tweaks() -> Tweaks {
    Tweaks { authorization: RULES_OF_CLUSTER, reads_rules: true, ..Tweaks::default() }
}

/// Waits until this holds.
async fn until<F: AsyncFnMut() -> bool>(what: &str, mut holds: F) -> Duration {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

/// What the admin endpoint answers.
async fn health(gate: &Gate, path: &str) -> (u16, String) {
    let tcp = tokio::net::TcpStream::connect(gate.admin()).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(tcp);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(path).header("host", "gate").body(Full::<Bytes>::default()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let code = answer.status().as_u16();
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

async fn metric(gate: &Gate, name: &str) -> f64 {
    let (_, text) = health(gate, "/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no metric {name}")).parse().unwrap()
}

async fn ready(gate: &Gate) {
    until("ready", async || health(gate, "/readyz").await.0 == 200).await;
}

/// As the admin.
async fn write(gate: &Gate, method: &str, path: &str, body: Value) -> StatusCode {
    let body = if body.is_null() { Full::default() } else { Full::new(Bytes::from(body.to_string())) };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    gate.send(ADMIN, request).await.status()
}

fn binding(name: &str, role: &str, user: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    })
}

async fn code(gate: &Gate, user: User, target: &str) -> u16 {
    gate.ask(user, "GET", target).await.0.as_u16()
}

const SECRETS: &str = "/api/v1/namespaces/shop/secrets";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_counts_when_it_is_written_and_ends_with_it() {
    let mut gate = Gate::start(tweaks()).await;
    ready(&gate).await;
    assert_eq!(code(&gate, DEVELOPER, "/api/v1/namespaces/shop/pods").await, 200);
    assert_eq!(code(&gate, VIEWER, SECRETS).await, 403);
    let bindings = format!("{RBAC}/namespaces/shop/rolebindings");
    assert_eq!(write(&gate, "POST", &bindings, binding("look", "edit", "viewer")).await, 201);
    let took = until("allowed", async || code(&gate, VIEWER, SECRETS).await == 200).await;
    assert!(took < Duration::from_secs(1), "{took:?}");

    let watch = format!("{SECRETS}?watch=1");
    let request = Request::get(&watch).body(Full::default()).unwrap();
    let mut watching = gate.send(VIEWER, request).await;
    assert_eq!(watching.status(), 200);
    assert_eq!(write(&gate, "DELETE", &format!("{bindings}/look"), Value::Null).await, 200);
    let took = until("refused", async || code(&gate, VIEWER, SECRETS).await == 403).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    let ended = async {
        while http_body_util::BodyExt::frame(watching.body_mut()).await.is_some_and(|f| f.is_ok()) {}
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("the watch goes on");

    assert_eq!(metric(&gate, "gatelog_cluster_rules_synced").await, 1.0);
    let record = gate.stop().await;
    drop(record);
}
