//! The cluster's own rules, watched: they count within a second of their writing, and what is lost is said.

use crate::{
    conformance::{real, real::Real, world::World},
    harness::{Gate, PATIENCE, Tweaks},
    scene::{self, Folder},
};
use bytes::Bytes;
use gatelog::{
    demo::{
        apiserver::{self, ApiServer},
        fault::{Fault, Faults},
        site::{ADMIN, DEVELOPER, RULES_OF_CLUSTER, User, VIEWER},
    },
    server,
};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

const QUIET: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None}]\n";
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
    admin(gate.admin(), path).await
}

async fn admin(address: SocketAddr, path: &str) -> (u16, String) {
    let io = TokioIo::new(tokio::net::TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(path).header("host", "gate").body(Full::<Bytes>::default()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
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

/// Grants a user a ClusterRole in a namespace, or takes it back.
async fn grant(gate: &Gate, name: &str, role: &str, user: &str) {
    let path = format!("{RBAC}/namespaces/shop/rolebindings");
    assert_eq!(write(gate, "POST", &path, binding(name, role, user)).await, 201);
}

async fn revoke(gate: &Gate, name: &str) {
    let path = format!("{RBAC}/namespaces/shop/rolebindings/{name}");
    assert_eq!(write(gate, "DELETE", &path, Value::Null).await, 200);
}

/// Lets the gate's own lists and watches fail; what administrators do in a namespace goes on.
fn fail(faults: &Faults, fault: &Fault) {
    for kind in ["roles", "clusterroles", "rolebindings", "clusterrolebindings"] {
        faults.next(&format!("{RBAC}/{kind}"), usize::MAX, fault.clone());
    }
}

/// How often the gate has listed role bindings.
fn lists(gate: &Gate) -> usize {
    let target = format!("{RBAC}/rolebindings?");
    let list =
        |seen: &&apiserver::Seen| seen.target.starts_with(&target) && !seen.target.contains("watch=true");
    gate.cluster.requests().iter().filter(list).count()
}

const SECRETS: &str = "/api/v1/namespaces/shop/secrets";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_counts_when_it_is_written_and_ends_with_it() {
    for http1 in [false, true] {
        let mut gate = Gate::start(Tweaks { http1, ..tweaks() }).await;
        ready(&gate).await;
        assert_eq!(code(&gate, DEVELOPER, "/api/v1/namespaces/shop/pods").await, 200);
        assert_eq!(code(&gate, VIEWER, SECRETS).await, 403);
        grant(&gate, "look", "edit", "viewer").await;
        let took = until("allowed", async || code(&gate, VIEWER, SECRETS).await == 200).await;
        assert!(took < SOON, "{took:?}");

        let request = Request::get(format!("{SECRETS}?watch=1")).body(Full::default()).unwrap();
        let mut watching = gate.send(VIEWER, request).await;
        assert_eq!(watching.status(), 200);
        revoke(&gate, "look").await;
        let took = until("refused", async || code(&gate, VIEWER, SECRETS).await == 403).await;
        assert!(took < SOON, "{took:?}");
        let ended = async { while watching.body_mut().frame().await.is_some_and(|f| f.is_ok()) {} };
        tokio::time::timeout(PATIENCE, ended).await.expect("the watch goes on");

        assert_eq!(metric(&gate, "gatelog_cluster_rules_synced").await, 1.0);
        assert_eq!(metric(&gate, "gatelog_cluster_rules_lost_seconds").await, 0.0);
        assert!(metric(&gate, "gatelog_cluster_rules_objects{kind=\"ClusterRole\"}").await > 5.0);
        assert_eq!(metric(&gate, "gatelog_cluster_rules_skipped_objects{kind=\"ClusterRole\"}").await, 0.0);
        assert_eq!(metric(&gate, "gatelog_cluster_rules_build_seconds_count").await, 3.0);
        let record = gate.stop().await;
        let of = |user: &str| {
            let last = |e: &&Value| e["user"]["username"] == user && e["stage"] == "ResponseComplete";
            record.0.iter().find(last).unwrap()["annotations"]["authorization.k8s.io/reason"].clone()
        };
        let why = "RBAC: allowed by RoleBinding \"demo:developers/shop\" of ClusterRole \"edit\" to Group \"demo:developers\" (from the cluster)";
        assert_eq!(of("developer"), why);
    }
}

/// From a write's answer until it counts; twice as long for a machine that does other things as well.
const SOON: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_first_list_nobody_is_told_no() {
    let faults = Faults::default();
    faults.next(&format!("{RBAC}/roles"), usize::MAX, Fault::Status(403));
    let gate = Gate::start(Tweaks { faults: faults.clone(), ..tweaks() }).await;
    let why = "the cluster's rules have not been listed yet: the gate's own account may not list roles.rbac.authorization.k8s.io (403)";
    until("said why", async || health(&gate, "/readyz/rules").await.1.contains(why)).await;
    let (code, listing) = health(&gate, "/readyz?verbose").await;
    assert!(code == 500 && listing.contains("[-]rules failed: reason withheld\n"), "{listing}");
    let (code, body) = gate.ask(VIEWER, "GET", "/api/v1/pods").await;
    let body = String::from_utf8_lossy(&body);
    assert!(code == 503 && body.contains("the cluster's rules are not known at the moment"), "{body}");
    assert_eq!(metric(&gate, "gatelog_cluster_rules_synced").await, 0.0);
    faults.clear();
    ready(&gate).await;
    assert_eq!(gate.ask(VIEWER, "GET", "/api/v1/pods").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_rules_are_kept_then_refused_and_come_back() {
    let authorization = "  rbac:\n    cluster: {maxAge: 6s}\n";
    let gate = Gate::start(Tweaks { authorization, relayed: true, ..tweaks() }).await;
    ready(&gate).await;
    let asked = async || gate.ask(VIEWER, "GET", "/api/v1/pods").await.0.as_u16();
    assert_eq!(asked().await, 200);
    fail(gate.cluster.faults(), &Fault::Status(503));
    gate.relay.as_ref().unwrap().cut();
    let lost = Instant::now();
    let kept = "[-]rules failed: reason withheld, requests are served\n";
    until("kept", async || {
        let (_, listing) = health(&gate, "/readyz?verbose").await;
        listing.contains(kept)
    })
    .await;
    assert!(lost.elapsed() < Duration::from_millis(5_000), "{:?}", lost.elapsed());
    assert_eq!(asked().await, 200, "they still count");
    assert_eq!(metric(&gate, "gatelog_cluster_rules_synced").await, 0.0);
    assert!(metric(&gate, "gatelog_cluster_rules_lost_seconds").await >= 2.0);
    assert_eq!(metric(&gate, "gatelog_cluster_rules_in_force").await, 1.0);

    until("refused", async || asked().await == 503).await;
    // The age counts from the last end of a watch, one or two seconds before.
    let age = lost.elapsed();
    assert!(age >= Duration::from_millis(3_000) && age <= Duration::from_millis(7_000), "{age:?}");
    until("not ready", async || health(&gate, "/readyz").await.0 == 500).await;
    let why = health(&gate, "/readyz/rules").await.1;
    assert!(why.contains("the cluster's rules have not been up to date for 6s: "), "{why}");
    assert_eq!(metric(&gate, "gatelog_cluster_rules_in_force").await, 0.0);
    let before = lists(&gate);
    gate.cluster.faults().clear();
    ready(&gate).await;
    assert_eq!(asked().await, 200);
    // What was missed could still be on its way after a watch has been opened.
    assert!(lists(&gate) > before, "they were listed anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_that_are_kept_for_ever_go_on_and_what_was_missed_is_listed() {
    let authorization = "  rbac:\n    cluster: {maxAge: 5s, onLoss: keep}\n";
    let gate = Gate::start(Tweaks { authorization, relayed: true, ..tweaks() }).await;
    ready(&gate).await;
    grant(&gate, "look", "edit", "viewer").await;
    until("allowed", async || code(&gate, VIEWER, SECRETS).await == 200).await;
    fail(gate.cluster.faults(), &Fault::Status(503));
    gate.relay.as_ref().unwrap().cut();
    revoke(&gate, "look").await;
    gate.cluster.compact();
    until("too old", async || metric(&gate, "gatelog_cluster_rules_lost_seconds").await >= 5.0).await;
    assert_eq!(health(&gate, "/readyz").await.0, 200);
    let snapshot = gate.gate().gateway().snapshot();
    assert!(snapshot.authz.rules().count() == 2, "the old rules count");
    drop(snapshot);
    gate.cluster.faults().clear();
    until("followed", async || health(&gate, "/readyz/rules").await.0 == 200).await;
    until("refused", async || {
        let (code, body) = gate.ask(VIEWER, "GET", SECRETS).await;
        code == 403 && String::from_utf8_lossy(&body).contains("audit id")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_ends_is_opened_again_from_where_it_was() {
    let authorization = "  rbac:\n    cluster: {maxAge: 8s}\n";
    let gate = Gate::start(Tweaks { authorization, relayed: true, ..tweaks() }).await;
    ready(&gate).await;
    gate.relay.as_ref().unwrap().cut();
    gate.cluster.apply(held("look", "edit", "viewer")).unwrap();
    until("allowed", async || code(&gate, VIEWER, SECRETS).await == 200).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        assert_eq!(health(&gate, "/readyz/rules").await.0, 200, "{:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(lists(&gate), 1);
}

/// Accepted, and never heard of again: over HTTP/1.1 nothing tells that from a quiet watch, and still the rules grow old in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_vanishes_without_a_word_is_missed() {
    for http1 in [true, false] {
        let authorization = "  rbac:\n    cluster: {maxAge: 6s}\n";
        let gate = Gate::start(Tweaks { authorization, relayed: true, http1, ..tweaks() }).await;
        ready(&gate).await;
        grant(&gate, "look", "edit", "viewer").await;
        until("allowed", async || code(&gate, VIEWER, SECRETS).await == 200).await;
        let relay = gate.relay.as_ref().unwrap();
        relay.silence(true);
        let gone = Instant::now();
        gate.cluster.remove(&held("look", "edit", "viewer")).unwrap();
        until("refused", async || metric(&gate, "gatelog_cluster_rules_in_force").await == 0.0).await;
        let took = gone.elapsed();
        assert!(took <= Duration::from_millis(7_000), "{took:?}");
        println!("refused {took:?} after the last word");
        relay.silence(false);
        relay.cut();
        ready(&gate).await;
        let (code, body) = gate.ask(VIEWER, "GET", SECRETS).await;
        assert!(code == 403 && String::from_utf8_lossy(&body).contains("audit id"), "{code} {body:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_cluster_are_told_apart() {
    let authorization = "  rbac:\n    files: [rbac.yaml]\n    bootstrap: true\n    cluster: {}\n";
    let mut gate = Gate::start(Tweaks { authorization, ..tweaks() }).await;
    ready(&gate).await;
    grant(&gate, "look", "edit", "viewer").await;
    until("allowed", async || code(&gate, VIEWER, SECRETS).await == 200).await;
    assert_eq!(code(&gate, VIEWER, "/api/v1/pods").await, 200);
    let record = gate.stop().await;
    let reason = |target: &str| {
        let last = |e: &&&Value| {
            e["requestURI"] == target
                && e["stage"] == "ResponseComplete"
                && e["responseStatus"]["code"] == 200
        };
        let event = *record.0.iter().collect::<Vec<_>>().iter().rfind(last).unwrap();
        event["annotations"]["authorization.k8s.io/reason"].as_str().unwrap().to_owned()
    };
    assert!(reason(SECRETS).ends_with("to User \"viewer\" (from the cluster)"), "{}", reason(SECRETS));
    assert!(reason("/api/v1/pods").ends_with("(from files)"), "both allow: {}", reason("/api/v1/pods"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_upstream_has_other_rules() {
    let gate = Gate::start(tweaks()).await;
    ready(&gate).await;
    grant(&gate, "look", "edit", "viewer").await;
    until("allowed", async || code(&gate, VIEWER, SECRETS).await == 200).await;
    let mut options = apiserver::Options::new(gate.site.cluster_tls().unwrap()).unwrap();
    options.gateway.reads_rules = true;
    let other = ApiServer::start(options).await.unwrap();
    let hold = Fault::Status(503);
    fail(other.faults(), &hold);
    let file = gate.site.dir().join("upstream.kubeconfig");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(&gate.cluster.addr().to_string(), &other.addr().to_string())).unwrap();
    let look = gate.gate().reloader().check_now().await;
    // The keys of service accounts are asked there as well.
    assert_eq!(look, gatelog::reload::Look::Changed(vec!["authentication", "upstream"]));
    until("asked", async || other.requests().iter().any(|seen| seen.target.starts_with(RBAC))).await;
    // Those of the first go on to count; the second itself says no.
    let (code, body) = gate.ask(VIEWER, "GET", SECRETS).await;
    assert!(code == 403 && !String::from_utf8_lossy(&body).contains("audit id"), "{body:?}");
    other.faults().clear();
    until("refused", async || {
        let (code, body) = gate.ask(VIEWER, "GET", SECRETS).await;
        code == 403 && String::from_utf8_lossy(&body).contains("audit id")
    })
    .await;
    assert_eq!(gate.ask(VIEWER, "GET", "/api/v1/pods").await.0, 200);
}

/// A connection over which many ask at once.
struct Caller(http2::SendRequest<Full<Bytes>>, SocketAddr);

impl Caller {
    async fn new(gate: &Gate) -> Self {
        let io = TokioIo::new(gate.raw(Some(ADMIN), "h2").await);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        Self(sender, gate.address())
    }

    /// As the admin, or as somebody whom the admin is then.
    async fn send(&self, user: &str, method: &str, path: &str, body: &Value) -> (u16, Bytes) {
        let body = if body.is_null() { Full::default() } else { Full::new(Bytes::from(body.to_string())) };
        let mut request = Request::builder().method(method).uri(format!("https://{}{path}", self.1));
        request = request.header("content-type", "application/json");
        if !user.is_empty() {
            request = request.header("impersonate-user", user);
        }
        let answer = self.0.clone().send_request(request.body(body).unwrap()).await.unwrap();
        let code = answer.status().as_u16();
        (code, answer.into_body().collect().await.unwrap().to_bytes())
    }

    /// What the gate decides: what it forwards is refused by nobody it should allow, and refusals of the cluster hold no audit id.
    async fn allowed(&self, user: &str) -> bool {
        let (code, body) =
            self.send(user, "GET", "/api/v1/namespaces/shop/configmaps?limit=1", &Value::Null).await;
        let told = String::from_utf8_lossy(&body);
        match code {
            200 => true,
            403 => !told.contains("audit id"),
            _ => panic!("{user}: {code} {told}"),
        }
    }
}

/// 10,000 changes a minute are 167 a second.
const RATE: f64 = 175.0;
const CHANGES: usize = 1_750;

/// A RoleBinding in `shop`, as it would be applied.
fn held(name: &str, role: &str, user: &str) -> Value {
    let mut object = binding(name, role, user);
    object["metadata"]["namespace"] = "shop".into();
    object
}

/// Every second change makes a binding, the next one takes it away again, or its subject; as many as the clock wants. How long they
/// took.
async fn storm(cluster: &ApiServer, rate: f64, changes: usize, keep: bool) -> Duration {
    let begun = Instant::now();
    for n in 0..changes {
        tokio::time::sleep_until((begun + Duration::from_secs_f64(n as f64 / rate)).into()).await;
        let storming = held(&format!("storm-{}", n / 2), "view", &format!("storm-{}", n / 2 % 40));
        match n % 2 {
            0 => cluster.apply(storming).unwrap(),
            _ if keep => cluster.apply(held(&format!("storm-{}", n / 2), "view", "nobody")).unwrap(),
            _ => assert!(cluster.remove(&storming).unwrap()),
        }
    }
    begun.elapsed()
}

/// Writes a binding and takes it away until `over`, and each time waits until it counts; how long that took, sorted.
async fn flips(cluster: &ApiServer, over: &AtomicBool, mut may: impl AsyncFnMut() -> bool) -> Vec<Duration> {
    let flip = held("flip", "view", "flip");
    let mut late = Vec::new();
    while !over.load(Ordering::Relaxed) {
        cluster.apply(flip.clone()).unwrap();
        late.push(until("it counts", async || may().await).await);
        assert!(cluster.remove(&flip).unwrap());
        late.push(until("it counts no longer", async || !may().await).await);
    }
    late.sort();
    late
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_changes_leads_to_no_wrong_decision() {
    let gate = Gate::start(Tweaks { policy: QUIET, ..tweaks() }).await;
    ready(&gate).await;
    for n in 0..USERS {
        gate.cluster.apply(held(&format!("steady-{n}"), "view", &format!("steady-{n}"))).unwrap();
    }
    let asking = Caller::new(&gate).await;
    for n in 0..USERS {
        until("allowed", async || asking.allowed(&format!("steady-{n}")).await).await;
    }

    let (over, wrong, asked) = (AtomicBool::new(false), Mutex::new(Vec::new()), AtomicUsize::new(0));
    let load = async |caller: Caller| {
        let mut n = 0;
        while !over.load(Ordering::Relaxed) {
            let users = [
                (format!("steady-{}", n % USERS), true),
                ("never".to_owned(), false),
                (format!("never-{n}"), false),
            ];
            for (user, may) in users {
                if caller.allowed(&user).await != may {
                    wrong.lock().unwrap().push(user);
                }
                asked.fetch_add(1, Ordering::Relaxed);
            }
            n += 1;
        }
    };
    let (one, two, flipping) = (Caller::new(&gate).await, Caller::new(&gate).await, Caller::new(&gate).await);
    let changing = async {
        let took = storm(&gate.cluster, RATE, CHANGES, false).await;
        over.store(true, Ordering::Relaxed);
        took
    };
    let flipped = flips(&gate.cluster, &over, async || flipping.allowed("flip").await);
    let ((), (), took, late) = tokio::join!(load(one), load(two), changing, flipped);
    let (median, worst) = (late[late.len() / 2], late[late.len() - 1]);
    let a_minute = CHANGES as f64 / took.as_secs_f64() * 60.0;
    println!(
        "{CHANGES} changes in {took:?} ({a_minute:.0} a minute), {} decisions asked meanwhile; {} flips counted after {median:?} (median), {worst:?} (worst); {} builds",
        asked.load(Ordering::Relaxed),
        late.len(),
        metric(&gate, "gatelog_cluster_rules_build_seconds_count").await,
    );
    assert_eq!(*wrong.lock().unwrap(), [] as [String; 0]);
    assert!(a_minute >= 10_000.0, "{a_minute}");
    assert!(median < Duration::from_secs(1) && worst < SOON, "{median:?} {worst:?}");
    assert!(asked.load(Ordering::Relaxed) > 100 && late.len() >= 10);
    // In the end it is as if it had never been.
    for n in 0..40 {
        until("gone", async || !asking.allowed(&format!("storm-{n}")).await).await;
    }
}

/// Who are asked about in a storm, and whom nothing is changed for.
const USERS: usize = 5;

/// From the server's pages to decisions. What is told of the build's processor time is the gate's own measure of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes unless it is optimised"]
async fn a_hundred_thousand_bindings() {
    const ROLES: usize = 1_000;
    const BINDINGS: usize = 100_000;
    let faults = Faults::default();
    fail(&faults, &Fault::Status(503));
    let gate = Gate::start(Tweaks { policy: QUIET, faults, ..tweaks() }).await;
    let begun = Instant::now();
    for n in 0..ROLES {
        let mut role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"});
        role["metadata"]["name"] = format!("role-{n}").into();
        role["rules"] = json!([
            {"apiGroups": [""], "resources": ["pods", "pods/log", "services"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": ["example.org"], "resources": [format!("things{n}")], "verbs": ["get", "delete"]},
        ]);
        gate.cluster.apply(role).unwrap();
    }
    for n in 0..BINDINGS {
        gate.cluster
            .apply(held(&format!("b-{n}"), &format!("role-{}", n % ROLES), &format!("user-{n}")))
            .unwrap();
    }
    println!("{BINDINGS} bindings stored in {:?}", begun.elapsed());
    let before = memory();
    gate.cluster.faults().clear();
    let begun = Instant::now();
    while health(&gate, "/readyz").await.0 != 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!(
        "listed, built and in force in {:?}; {:.0} MiB more, {:.0} MiB at most",
        begun.elapsed(),
        memory().0 - before.0,
        memory().1 - before.0
    );
    let may = |user: &str| {
        let user = gatelog::identity::User::new(user, "", Vec::new(), BTreeMap::new()).unwrap();
        gate.gate().gateway().snapshot().authz.allows(&user, gets_pods()).is_ok()
    };
    assert!(may("user-0") && may("user-99999") && !may("never"));

    let built = async || {
        let sum = metric(&gate, "gatelog_cluster_rules_build_seconds_sum").await;
        (sum, metric(&gate, "gatelog_cluster_rules_build_seconds_count").await)
    };
    for (what, rate, changes) in [("single changes", 1.0, 5), ("a storm", RATE, CHANGES)] {
        let (over, before, used) = (AtomicBool::new(false), built().await, processor());
        // For what is deleted, that server looks through all it holds.
        let changing = async {
            let took = storm(&gate.cluster, rate, changes, true).await;
            over.store(true, Ordering::Relaxed);
            took
        };
        let (took, late) = tokio::join!(changing, flips(&gate.cluster, &over, async || may("flip")));
        let after = built().await;
        let all = took.as_secs_f64();
        println!(
            "{what}: {changes} changes in {took:?}, {} flips counted after {:?} (median), {:?} (worst); {} builds of {:.0} ms, {:.0} % of a processor; everything in this process {:.0} %; {:.0} MiB at most",
            late.len(),
            late[late.len() / 2],
            late[late.len() - 1],
            after.1 - before.1,
            (after.0 - before.0) / (after.1 - before.1) * 1e3,
            (after.0 - before.0) / all * 100.0,
            (processor() - used) / all * 100.0,
            memory().1
        );
        assert!(may("user-0") && may("user-99999") && !may("never"));
        assert!(late[late.len() - 1] < SOON);
    }
}

fn gets_pods() -> gatelog::request::Attributes<'static> {
    let object = gatelog::request::Object::Resource {
        group: "",
        version: "v1",
        resource: "pods",
        subresource: "",
        namespace: "shop",
        name: "web",
    };
    gatelog::request::Attributes { verb: "get", object }
}

/// What this process holds, and has held at most, in MiB.
fn memory() -> (f64, f64) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let of = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<f64>().unwrap() / 1024.0
    };
    (of("VmRSS:"), of("VmHWM:"))
}

/// Seconds that this process has worked, by the clock of a hundred ticks a second.
fn processor() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_cluster_is_followed() {
    let Some(assets) = real::assets() else {
        println!("KUBEBUILDER_ASSETS does not name a kube-apiserver: the test is left out");
        return;
    };
    let world = World::new(&["user alice dev\ncan zed get - pods"]);
    let real = Real::start(&assets, &world, QUIET).await;
    let folder = Folder::new("follows");
    let options = scene::Options { rbac: ", cluster: {maxAge: 5s}", ..scene::Options::default() };
    let gate = scene::start(&folder, &world, real.addr, options).await;
    let address = gate.admin().unwrap();
    let why = "the gate's own account may not list ";
    until("said why", async || admin(address, "/readyz/rules").await.1.contains(why)).await;

    let api = "rbac.authorization.k8s.io";
    let typed = |kind: &str, name: &str| json!({"apiVersion": format!("{api}/v1"), "kind": kind, "metadata": {"name": name}});
    let bind = |name: &str, role: &str, user: &str| {
        let mut binding = typed("ClusterRoleBinding", name);
        binding["roleRef"] = json!({"apiGroup": api, "kind": "ClusterRole", "name": role});
        binding["subjects"] = json!([{"apiGroup": api, "kind": "User", "name": user}]);
        binding
    };
    let mut reads = typed("ClusterRole", "gatelog-rules");
    reads["rules"] = json!([{"apiGroups": [api], "verbs": ["get", "list", "watch"],
        "resources": ["roles", "clusterroles", "rolebindings", "clusterrolebindings"]}]);
    real::create(real.addr, &world, &reads).await;
    real::create(real.addr, &world, &bind("gatelog-rules", "gatelog-rules", "gatelog")).await;
    until("ready", async || admin(address, "/readyz").await.0 == 200).await;

    let allows = |user: &str, verb: &str, resource: &str| {
        let user = gatelog::identity::User::new(user, "", Vec::new(), BTreeMap::new()).unwrap();
        let object = gatelog::request::Object::Resource {
            group: "",
            version: "v1",
            resource,
            subresource: "",
            namespace: "team",
            name: "",
        };
        gate.gateway().snapshot().authz.allows(&user, gatelog::request::Attributes { verb, object })
    };
    assert!(allows("gil", "list", "pods").is_err());
    real::create(real.addr, &world, &bind("gil", "system:aggregate-to-view", "gil")).await;
    let written = Instant::now();
    until("allowed", async || allows("gil", "list", "pods").is_ok()).await;
    println!("a ClusterRoleBinding counted {:?} after it was written", written.elapsed());
    assert!(written.elapsed() < SOON);
    let reason = allows("gil", "list", "pods").unwrap().to_string();
    assert_eq!(
        reason,
        "RBAC: allowed by ClusterRoleBinding \"gil\" of ClusterRole \"system:aggregate-to-view\" to User \"gil\" (from the cluster)"
    );
    assert!(allows("gil", "list", "secrets").is_err());

    // No controller runs there: an aggregated role is what the server holds, not what it would become.
    let mut part = typed("ClusterRole", "more-to-see");
    part["metadata"]["labels"] = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true", "sum": "yes"});
    part["rules"] = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]);
    let mut sum = typed("ClusterRole", "sum");
    sum["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"sum": "yes"}}]});
    sum["rules"] = json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}]);
    for object in [part, sum, bind("mark", "view", "mark"), bind("ann", "sum", "ann")] {
        real::create(real.addr, &world, &object).await;
    }
    until("counts", async || allows("ann", "list", "nodes").is_ok()).await;
    assert!(allows("ann", "list", "secrets").is_err());
    for resource in ["pods", "secrets"] {
        assert!(allows("mark", "list", resource).is_err(), "nobody has filled view");
    }
    // That server, too, ends a watch when it was asked to, and so the rules do not grow old.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(7) {
        let (code, why) = admin(address, "/readyz/rules").await;
        assert_eq!(code, 200, "{why}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (_, metrics) = admin(address, "/metrics").await;
    let skipped = metrics.lines().filter(|l| l.starts_with("gatelog_cluster_rules_skipped_objects"));
    assert!(skipped.clone().count() == 4 && skipped.clone().all(|l| l.ends_with(" 0")), "{metrics}");
    drop::<server::Gate>(gate);
}
