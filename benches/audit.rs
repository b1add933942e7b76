//! What the record costs a request: the policy, one event's line, a whole trail at Metadata, a body.

// A benchmark that cannot run must say so.
#![allow(clippy::expect_used)]

use divan::{Bencher, black_box, counter::BytesCount};
use gatelog::{
    audit::{
        Audit, Config, End,
        event::{Addresses, Annotations, Event, Head, Level, MicroTime, ObjectMeta, Stage},
        policy::{Policy, Question, SHIPPED},
        redact::{About, Builtins, Key, Part, Redactor},
    },
    codec::document::Document,
    identity::User,
    request::Asked,
};
use http::{HeaderMap, HeaderValue, request::Parts};
use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

fn main() {
    divan::main();
}

const TARGET: &str = "/api/v1/namespaces/default/configmaps/settings";
const AGENT: &str = "kubectl/v1.33.1 (linux/amd64) kubernetes/8adc0f0";
const REASON: &str =
    "RBAC: allowed by RoleBinding \"developers/default\" of ClusterRole \"edit\" to Group \"dev\"";

fn parts(method: &str, target: &str) -> Parts {
    let request = http::Request::builder().method(method).uri(target).header("user-agent", AGENT);
    request.body(()).expect("a request").into_parts().0
}

fn alice() -> Arc<User> {
    let groups = ["dev", "system:authenticated"].map(String::from).to_vec();
    User::new("alice", "", groups, BTreeMap::new()).expect("a user")
}

/// A record in a folder that goes with it.
struct Record {
    audit: Arc<Audit>,
    dir: PathBuf,
}

impl Record {
    fn new(policy: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("gatelog-bench-{}-{policy}", std::process::id()));
        let mut config = Config::new(&dir, Policy::shipped(policy).expect("a policy"));
        // As much as the benchmark can write before the disk has taken it.
        config.queue_size = 2 << 30;
        config.max_total_size = Some(200 << 20);
        let audit = Audit::start(config, &prometheus::Registry::new()).expect("a record");
        Self { audit, dir }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.audit.shutdown().expect("all written");
        // What stays is in the temporary folder.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[divan::bench(args = SHIPPED.map(|(name, _)| name))]
fn policy(bencher: Bencher<'_, '_>, name: &str) {
    let policy = Policy::shipped(name).expect("a policy");
    let asked = Asked::parse(&parts("PATCH", TARGET)).expect("a request");
    let user = alice();
    bencher.bench_local(|| {
        let attributes = black_box(&asked).info.attributes();
        policy.evaluate(&Question {
            user: Some((user.name(), user.groups())),
            verb: attributes.verb,
            object: attributes.object,
        })
    });
}

#[divan::bench]
fn one_event(bencher: Bencher<'_, '_>) {
    let asked = Asked::parse(&parts("GET", TARGET)).expect("a request");
    let user = alice();
    let ips = Addresses::peer(IpAddr::from([192, 0, 2, 7]));
    let mut annotations = Annotations::default();
    annotations.add("authorization.k8s.io/decision", "allow");
    annotations.add("authorization.k8s.io/reason", REASON);
    let mut line = Vec::with_capacity(2048);
    bencher.bench_local(|| {
        let mut head = Head::new(asked.target.raw(), "get", user.json(), Some(&ips), Some(AGENT));
        head.set_object(&asked.info, &ObjectMeta::default());
        line.clear();
        let event = Event {
            level: Level::Metadata,
            id: "7f2c1a52-9d7e-4a0b-8d59-0f6f3f8a1c11",
            stage: Stage::ResponseComplete,
            head: &head,
            impersonated: None,
            status: Some(b"{\"metadata\":{},\"code\":200}"),
            request: None,
            response: None,
            received: MicroTime(1_767_323_045_678_901),
            at: MicroTime(1_767_323_045_681_001),
            annotations: &annotations,
            salt: "7f2c1a529d7e4a0b8d590f6f3f8a1c11",
            journal_only: false,
        };
        event.write(&mut line);
        line.len()
    });
}

/// What every request pays for redaction: its target, and its user agent.
#[divan::bench(args = [TARGET, "/api/v1/pods?limit=500&resourceVersion=0", AGENT])]
fn redacted_text(bencher: Bencher<'_, '_>, text: &str) {
    let redactor = Redactor::new(Key::new(&[7; 32]), Builtins::NONE, Vec::new()).expect("no rules");
    let asked = Asked::parse(&parts("GET", TARGET)).expect("a request");
    let about = About::of(&asked.info, Part::Request);
    bencher.bench_local(|| match text.starts_with('/') {
        true => redactor.target(&about, black_box(text)).marks,
        false => redactor.text(black_box(text)).marks,
    });
}

/// From open to complete, two events of a GET; `recommended` omits the first.
#[divan::bench(args = ["metadata", "recommended"], sample_size = 500)]
fn trail(bencher: Bencher<'_, '_>, policy: &str) {
    let record = Record::new(policy);
    let parts = parts("GET", TARGET);
    let asked = Asked::parse(&parts).expect("a request");
    let user = alice();
    let peer: SocketAddr = "192.0.2.7:40000".parse().expect("an address");
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    bencher.bench_local(|| {
        let mut trail = record.audit.open(peer, &parts);
        trail.begin_as(&user, "token-file", &asked).expect("room");
        trail.decided(true, REASON);
        trail.started(200, &headers);
        trail.complete(End { bytes_to_caller: 4096, ..End::default() });
    });
}

/// A body that is recorded: checked, written on one line, redacted.
#[divan::bench(args = [4 << 10, 64 << 10, 250 << 10])]
fn request_object(bencher: Bencher<'_, '_>, size: usize) {
    let record = Record::new("everything");
    let parts = parts("POST", "/api/v1/namespaces/default/configmaps");
    let asked = Asked::parse(&parts).expect("a request");
    let user = alice();
    let peer: SocketAddr = "192.0.2.7:40000".parse().expect("an address");
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let member = |i: usize| format!("\"key-{i}\": \"value of \\\"{i}\\\"\", ");
    let data: String = (0..size / 36).map(member).collect();
    let body = format!(
        "{{\"kind\": \"ConfigMap\", \"metadata\": {{\"name\": \"x\"}}, \"data\": {{{data}\"last\": \"x\"}}}}"
    );
    let body = bytes::Bytes::from(body);
    bencher
        .counter(BytesCount::new(body.len()))
        .with_inputs(|| {
            let mut trail = record.audit.open(peer, &parts);
            trail.begin_as(&user, "token-file", &asked).expect("room");
            trail
        })
        .bench_local_values(|mut trail| {
            trail.request(&headers, &Document::new(&headers, &body));
            trail
        });
}
