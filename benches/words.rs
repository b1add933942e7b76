//! What the pure words cost on the way of every request: the target and RequestInfo, the headers, a refusal.

// A benchmark that cannot run must say so.
#![allow(clippy::expect_used)]

use divan::{Bencher, black_box};
use gatelog::{
    headers,
    identity::User,
    request::{Asked, RequestInfo, Target},
    status::Status,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use std::collections::BTreeMap;

fn main() {
    divan::main();
}

const TARGETS: [&str; 6] = [
    "/healthz",
    "/api/v1/namespaces/default/pods/web-0",
    "/apis/apps/v1/namespaces/default/deployments?limit=500",
    "/apis/apps/v1/deployments?allowWatchBookmarks=true&resourceVersion=12345&timeout=9m3s&timeoutSeconds=543&watch=true",
    "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name%3Donly&labelSelector=app%3Dweb",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
];

#[divan::bench(args = TARGETS)]
fn target_and_request_info(target: &str) -> RequestInfo {
    let target = Target::parse(black_box(target)).expect("accepted");
    RequestInfo::parse(&Method::GET, &target).expect("understood")
}

/// As the gate does it: the HTTP library has split the URI already.
#[divan::bench(args = TARGETS)]
fn asked(bencher: Bencher<'_, '_>, target: &str) {
    let (parts, ()) = Request::get(target).body(()).expect("a request").into_parts();
    bencher.bench_local(|| Asked::parse(black_box(&parts)).expect("accepted"));
}

#[divan::bench]
fn headers_for_upstream(bencher: Bencher<'_, '_>) {
    let lines = [
        ("host", "gate.example:6443"),
        ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
        ("accept-encoding", "gzip"),
        ("authorization", "Bearer 0123456789abcdef"),
        ("kubectl-command", "kubectl get"),
        ("kubectl-session", "0b5c1f0a-7e0c-4d0f-8d53-0123456789ab"),
        ("user-agent", "kubectl/v1.36.0 (linux/amd64) kubernetes/0123456"),
    ];
    let sent: HeaderMap =
        lines.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect();
    let groups = vec!["dev".to_owned(), "system:authenticated".to_owned()];
    let user = User::new("alice", "", groups, BTreeMap::new()).expect("an identity");
    bencher.bench_local(|| {
        let mut upstream = headers::for_upstream(black_box(&sent));
        for (name, value) in user.upstream_headers() {
            upstream.append(name.clone(), value.clone());
        }
        headers::survivors(&upstream, user.upstream_headers()).expect("only what was set");
        upstream
    });
}

#[divan::bench]
fn forbidden(bencher: Bencher<'_, '_>) {
    let target = Target::parse("/api/v1/namespaces/default/pods/web-0").expect("accepted");
    let info = RequestInfo::parse(&Method::GET, &target).expect("understood");
    bencher.bench_local(|| Status::forbidden("alice", black_box(info.attributes()), "no rule").json());
}
