//! A Trail is driven as the gate drives it, and the journal is read back.

use super::*;
use crate::{identity::User, request::Asked, status::Status};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

mod bodies;
mod failures;
mod redaction;
mod stages;

/// A folder of this test's own, removed with it.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("gatelog-audit-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The lines of all segments, each of which must be one JSON object with the keys in their order. Without their salt.
pub(super) fn lines(dir: &Path) -> Vec<Value> {
    const KEYS: [&str; 18] = [
        "kind",
        "apiVersion",
        "level",
        "auditID",
        "stage",
        "requestURI",
        "verb",
        "user",
        "impersonatedUser",
        "sourceIPs",
        "userAgent",
        "objectRef",
        "responseStatus",
        "requestObject",
        "responseObject",
        "requestReceivedTimestamp",
        "stageTimestamp",
        "annotations",
    ];
    let mut all = Vec::new();
    for segment in folder::segments(dir).unwrap() {
        let mut text = String::new();
        segment.open().unwrap().read_to_string(&mut text).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        for line in text.lines() {
            let mut event: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            let keys: Vec<_> = event.as_object().unwrap().keys().collect();
            let places: Vec<_> =
                keys.iter().map(|k| KEYS.iter().position(|known| known == k).unwrap()).collect();
            assert!(places.is_sorted(), "{keys:?}");
            // Behind all others, whatever their names.
            let annotations = event["annotations"].as_object_mut().unwrap();
            let salt = annotations.remove("gatelog.dev/salt").unwrap();
            assert!(line.ends_with(&format!("\"gatelog.dev/salt\":{salt}}}}}")), "{line}");
            let notes: Vec<_> = annotations.keys().filter(|k| *k != "gatelog.dev/journal-only").collect();
            assert!(notes.is_sorted(), "{notes:?}");
            all.push(event);
        }
    }
    all
}

pub(super) const EVERYTHING: &str =
    "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: RequestResponse}]}";
pub(super) const METADATA: &str = "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Metadata}]}";

/// A record in a folder of its own.
struct Record {
    audit: Arc<Audit>,
    // Goes last, so that the journal ends in a folder that is there.
    folder: Folder,
}

impl Record {
    fn new(policy: &str) -> Self {
        Self::with(policy, |_| {})
    }

    fn with(policy: &str, change: impl FnOnce(&mut Config)) -> Self {
        let folder = Folder::new();
        let mut config = Config::new(&folder.0, Policy::parse(policy).unwrap());
        change(&mut config);
        let audit = Audit::start(config, &Registry::new()).unwrap();
        Self { folder, audit }
    }

    fn open(&self, method: &str, target: &str) -> (Trail, Parts) {
        self.open_with(method, target, &[])
    }

    fn open_with(&self, method: &str, target: &str, headers: &[(&str, &[u8])]) -> (Trail, Parts) {
        let mut request = http::Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value).unwrap(),
            );
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        (self.audit.open(PEER.parse::<SocketAddr>().unwrap(), &parts), parts)
    }

    fn begin(&self, method: &str, target: &str) -> Trail {
        let (mut trail, parts) = self.open(method, target);
        trail.begin_as(&alice(), "token-file", &Asked::parse(&parts).unwrap()).unwrap();
        trail
    }

    /// Stops, and reads what was written.
    fn events(&self) -> Vec<Value> {
        self.audit.shutdown().unwrap();
        assert_eq!(self.audit.journal.used(), 0, "every place is given back");
        lines(&self.folder.0)
    }

    /// Stage and code of every event.
    fn stages(&self) -> Vec<(String, u64)> {
        let code = |e: &Value| e["responseStatus"]["code"].as_u64().unwrap_or(0);
        self.events().iter().map(|e| (e["stage"].as_str().unwrap().to_owned(), code(e))).collect()
    }
}

const PEER: &str = "192.0.2.7:40000";

fn alice() -> Arc<User> {
    user("alice", &["dev", "system:authenticated"])
}

fn user(name: &str, groups: &[&str]) -> Arc<User> {
    User::new(name, "", groups.iter().map(|g| (*g).to_owned()).collect(), BTreeMap::new()).unwrap()
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v))).collect()
}

fn as_json() -> HeaderMap {
    headers(&[("content-type", "application/json")])
}

#[tokio::test]
async fn a_plain_request_leaves_two_events() {
    let record = Record::new(METADATA);
    let (mut trail, parts) = record.open_with(
        "GET",
        "/api/v1/namespaces/default/pods/web?pretty=true&x=1",
        &[("user-agent", b"kubectl/v1.33 \"q\""), ("audit-id", b"mine"), ("x-forwarded-for", b"10.0.0.1")],
    );
    trail.begin_as(&alice(), "x509", &Asked::parse(&parts).unwrap()).unwrap();
    trail.impersonated(&user("bob", &["ops"]));
    trail.decided(true, "RBAC: allowed by RoleBinding \"b/default\"");
    assert!(!trail.wants_request());
    trail.kept().await.unwrap();
    trail.started(200, &as_json());
    assert!(!trail.wants_response());
    let id = trail.audit_id().to_str().unwrap().to_owned();
    trail.complete(End { bytes_to_caller: 5, ..End::default() });
    drop(trail);
    let events = record.events();
    let mut last = events[1].clone();
    let received = last["requestReceivedTimestamp"].take();
    let at = last["stageTimestamp"].take();
    assert_eq!(
        last,
        json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": id,
            "stage": "ResponseComplete", "requestURI": "/api/v1/namespaces/default/pods/web?pretty=true&x=1",
            "verb": "get", "user": {"username": "alice", "groups": ["dev", "system:authenticated"]},
            "impersonatedUser": {"username": "bob", "groups": ["ops"]}, "sourceIPs": ["192.0.2.7"],
            "userAgent": "kubectl/v1.33 \"q\"",
            "objectRef": {"resource": "pods", "namespace": "default", "name": "web", "apiVersion": "v1"},
            "responseStatus": {"metadata": {}, "code": 200},
            "requestReceivedTimestamp": null, "stageTimestamp": null,
            "annotations": {
                "authorization.k8s.io/decision": "allow",
                "authorization.k8s.io/reason": "RBAC: allowed by RoleBinding \"b/default\"",
                "gatelog.dev/authn-method": "x509", "gatelog.dev/client-audit-id": "mine",
                "gatelog.dev/effect": "read",
            },
        })
    );
    let time = |v: &Value| event::MicroTime::parse(v.as_str().unwrap()).unwrap();
    assert!(time(&received) <= time(&at));
    let first = &events[0];
    assert_eq!(first["stage"], "RequestReceived");
    assert_eq!(first["requestReceivedTimestamp"], first["stageTimestamp"]);
    assert_eq!(first["responseStatus"], Value::Null);
    assert_eq!(first["impersonatedUser"], Value::Null);
    assert_eq!(first["auditID"], last["auditID"]);
    assert_eq!(events.len(), 2);
}

#[test]
fn the_raw_line_has_gos_escapes() {
    let record = Record::new(METADATA);
    drop(record.begin("GET", "/api/v1/pods?labelSelector=a&limit=1"));
    record.audit.shutdown().unwrap();
    let name = journal::segment::names(&record.folder.0).unwrap().remove(0);
    let text = fs::read_to_string(record.folder.0.join(name)).unwrap();
    assert!(
        text.starts_with(r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":""#)
    );
    assert!(
        text.contains(r#""requestURI":"/api/v1/pods?labelSelector=a\u0026limit=1","verb":"list""#),
        "{text}"
    );
}
