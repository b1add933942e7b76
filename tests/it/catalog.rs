//! What the cluster does not serve is refused at the gate; what it may serve is not.

use crate::{
    harness::{Gate, PATIENCE, Tweaks},
    plane::ask_admin,
    scene::{Options, Scene},
    upstream::{Act, Heard},
};
use bytes::Bytes;
use gatelog::demo::site::ADMIN;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Waits until the check says something else than that nothing has been listed yet.
async fn listed(admin: SocketAddr) -> String {
    let begun = Instant::now();
    loop {
        let text = ask_admin(admin, "/readyz/catalog").await;
        if !text.contains("has not been listed yet") && !text.contains("not known yet") {
            return text;
        }
        assert!(begun.elapsed() < PATIENCE, "{text}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn send(gate: &Gate, method: &str, target: &str, body: &Value) -> (StatusCode, Value) {
    let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request =
        Request::builder().method(method).uri(target).header("content-type", media).body(Full::from(body));
    let response = gate.send(ADMIN, request.unwrap()).await;
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

const NO_ROUTE: &str = "the server could not find the requested resource";
const NO_METHOD: &str = "the server does not allow this method on the requested resource";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_served_does_not_reach_the_cluster() {
    let mut gate = Gate::start(Tweaks::default()).await;
    let text = listed(gate.admin()).await;
    assert!(text.ends_with("ok"), "{text}");
    let rows = [
        ("GET", "/api/v1/nosuch", 404, NO_ROUTE, "unknown-resource"),
        ("GET", "/apis/apps/v9/deployments", 404, NO_ROUTE, "unknown-version"),
        ("GET", "/apis/nosuch.example/v1/things", 404, NO_ROUTE, "unknown-group"),
        ("GET", "/api/v1/namespaces/shop/pods/web/nosuch", 404, NO_ROUTE, "unknown-subresource"),
        ("GET", "/api/v1/pods/web", 404, NO_ROUTE, "unknown-path"),
        ("GET", "/api/v1/namespaces/shop/nodes", 404, NO_ROUTE, "unknown-path"),
        ("PUT", "/api/v1/namespaces/shop/pods/web/log", 405, NO_METHOD, "unsupported-verb"),
        ("PATCH", "/api/v1/namespaces/shop/pods", 405, NO_METHOD, "unsupported-verb"),
    ];
    for (method, target, code, message, _) in rows {
        // The gate asks only so often, and who comes sooner passes.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (status, told) = send(&gate, method, target, &json!({})).await;
        assert_eq!((status.as_u16(), told["message"].as_str()), (code, Some(message)), "{method} {target}");
        assert_eq!((&told["kind"], &told["details"]), (&json!("Status"), &json!({})), "{method} {target}");
    }
    let seen = gate.cluster.requests();
    for (method, target, ..) in rows {
        let forwarded = seen.iter().find(|r| r.method == method && r.target == target);
        assert!(forwarded.is_none(), "{forwarded:?}");
    }
    let metrics = ask_admin(gate.admin(), "/metrics").await;
    for series in ["gatelog_catalog_groups", "gatelog_catalog_resources", "gatelog_catalog_bytes"] {
        let line = metrics.lines().find(|line| line.starts_with(series)).unwrap();
        assert!(!line.ends_with(" 0"), "{line}");
    }
    let record = gate.stop().await;
    for (method, target, code, _, rule) in rows {
        let of_row = |e: &&Value| e["requestURI"] == target && e["stage"] == "ResponseComplete";
        let event = record.0.iter().find(of_row).unwrap_or_else(|| panic!("{method} {target}"));
        assert_eq!(event["responseStatus"]["code"], code, "{event}");
        assert_eq!(
            event["annotations"]["gatelog.dev/validation"],
            format!("refused: routes/{rule}"),
            "{target}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_created_a_moment_ago_works_at_once() {
    let mut gate = Gate::start(Tweaks::default()).await;
    listed(gate.admin()).await;
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.moment.example"},
        "spec": {
            "group": "moment.example", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    });
    let place = "/apis/moment.example/v1/namespaces/shop/widgets";
    let began = Instant::now();
    let (status, told) = send(&gate, "GET", place, &Value::Null).await;
    assert_eq!((status.as_u16(), told["message"].as_str()), (404, Some(NO_ROUTE)));
    assert!(began.elapsed() >= Duration::from_secs(1), "it was looked for only once");
    let to = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let (status, told) = send(&gate, "POST", to, &definition).await;
    assert_eq!(status, 201, "{told}");
    let widget = json!({"apiVersion": "moment.example/v1", "kind": "Widget", "metadata": {"name": "one"}});
    let (status, told) = send(&gate, "POST", place, &widget).await;
    assert_eq!(status, 201, "{told}");
    let (status, told) = send(&gate, "GET", place, &Value::Null).await;
    assert_eq!((status.as_u16(), told["items"].as_array().map(Vec::len)), (200, Some(1)), "{told}");
    gate.stop().await;
}

/// Discovery as old servers tell it, of a cluster one of whose groups nobody serves at the moment, and no OpenAPI.
fn old_server(heard: &Heard) -> Vec<Act> {
    let pods = r#"{"kind":"APIResourceList","groupVersion":"v1","resources":[
        {"name":"pods","singularName":"pod","namespaced":true,"kind":"Pod","verbs":["get","list"]}]}"#;
    let groups = r#"{"kind":"APIGroupList","groups":[
        {"name":"down.example","versions":[{"groupVersion":"down.example/v1","version":"v1"}]}]}"#;
    let target = heard.line().split(' ').nth(1).unwrap_or_default();
    vec![match target {
        "/api" => Act::answer("200 OK", r#"{"kind":"APIVersions","versions":["v1"]}"#),
        "/apis" => Act::answer("200 OK", groups),
        "/api/v1" => Act::answer("200 OK", pods),
        "/apis/down.example/v1" => Act::answer("503 Service Unavailable", "{}"),
        _ if target.starts_with("/apis/no") || target.starts_with("/openapi") => {
            Act::answer("404 Not Found", "{}")
        }
        _ => Act::answer("200 OK", "{}"),
    }]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_answers_for_passes() {
    let options = Options { more: "validation: {mode: enforce}", ..Options::default() };
    let mut scene = Scene::with("can alice * * *", options, old_server).await;
    let text = listed(scene.gate.admin().unwrap()).await;
    assert!(text.contains("of the cluster's API nobody answers for down.example/v1"), "{text}");
    for (target, code) in [
        ("/api/v1/pods", 200),
        ("/api/v1/nosuch", 404),
        ("/apis/down.example/v1/things", 200),
        ("/apis/nobody.example/v1/things", 404),
    ] {
        let reply = scene.ask("alice", "GET", target, &[]).await;
        assert_eq!(reply.code, code, "{target}");
        let passed = scene.upstream.heard().iter().any(|heard| heard.line().contains(target));
        assert_eq!(passed, code == 200, "{target}");
        scene.ended(&reply).await;
    }
    let metrics = scene.metrics().await;
    assert!(metrics.contains(r#"gatelog_validation_unsure_total{reason="stale"} 1"#), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_strange_requests_is_no_storm_of_questions() {
    let options = Options { more: "validation: {mode: enforce}", ..Options::default() };
    let scene = Scene::with("can alice * * *", options, old_server).await;
    listed(scene.gate.admin().unwrap()).await;
    let before = scene.upstream.heard().len();
    let began = Instant::now();
    let asking = (0..100).map(|i| {
        let target = format!("/apis/no{i}.example/v1/things");
        let scene = &scene;
        async move { scene.ask("alice", "GET", &target, &[]).await.code }
    });
    let told = futures_util::future::join_all(asking).await;
    assert!(told.iter().all(|status| *status == 404), "{told:?}");
    let heard = scene.upstream.heard().split_off(before);
    let questions = heard.iter().filter(|h| h.line().ends_with("/v1 HTTP/1.1")).count();
    let most = 9 + usize::try_from(began.elapsed().as_secs()).unwrap() * 4 + 4;
    assert!(questions <= most, "{questions} questions, at most {most} were expected");
    let passed = heard.iter().filter(|h| h.line().contains("/things ")).count();
    assert!(passed >= 100 - most, "{passed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_before_a_cluster_that_tells_nothing_serves() {
    let options = Options { more: "validation: {mode: enforce}", ..Options::default() };
    let script = |heard: &Heard| {
        let silent = ["GET /api HTTP", "GET /apis HTTP"].iter().any(|line| heard.line().starts_with(line));
        vec![if silent { Act::answer("403 Forbidden", "{}") } else { Act::answer("200 OK", "{}") }]
    };
    let scene = Scene::with("can alice * * *", options, script).await;
    let admin = scene.gate.admin().unwrap();
    let begun = Instant::now();
    let why = "status 403, the gate's account needs the ClusterRole system:discovery";
    while !ask_admin(admin, "/readyz/catalog").await.contains(why) {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(
        ask_admin(admin, "/readyz?verbose")
            .await
            .contains("[-]catalog failed: reason withheld, requests are served\n")
    );
    assert_eq!(scene.ask("alice", "GET", "/apis/any.example/v1/things", &[]).await.code, 200);
    assert!(scene.metrics().await.contains(r#"gatelog_validation_unsure_total{reason="unknown"} 1"#));
}
