//! What callers other than kubectl get to see through the gate, and what the cluster gets to see of them.

use crate::{
    harness::{Gate, Tweaks},
    scene::{Options, Scene},
    upstream::Act,
};
use bytes::Bytes;
use gatelog::demo::site::{ADMIN, DEVELOPER, VIEWER};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test]
async fn every_answer_has_only_headers_that_are_known() {
    let mut gate = Gate::start(Tweaks::default()).await;
    let rows = [
        (DEVELOPER, "GET", "/api/v1/namespaces/shop/pods", 200),
        (DEVELOPER, "HEAD", "/api/v1/namespaces/shop/pods", 405),
        (DEVELOPER, "HEAD", "/api//v1", 400),
        (DEVELOPER, "HEAD", "/nowhere", 403),
        (ADMIN, "HEAD", "/version", 200),
        (DEVELOPER, "GET", "/api/v1/namespaces/shop/pods/nobody", 404),
        (DEVELOPER, "GET", "/api/v1/namespaces/shop/pods?limit=x", 400),
        (DEVELOPER, "GET", "/api/v1/namespaces/shop/secrets/shop-db", 200),
        (DEVELOPER, "DELETE", "/api/v1/namespaces/shop", 403),
        (DEVELOPER, "GET", "/api/v1/namespaces/shop/pods?watch=1&timeoutSeconds=1", 200),
        (DEVELOPER, "GET", "/api//v1", 400),
        (VIEWER, "GET", "/apis", 200),
        (VIEWER, "GET", "/openapi/v3", 200),
        (VIEWER, "GET", "/version", 200),
        (VIEWER, "GET", "/nowhere", 403),
        (ADMIN, "GET", "/nowhere", 404),
        (ADMIN, "GET", "/api/v1/namespaces/shop/pods/nobody/log", 404),
        (ADMIN, "POST", "/api/v1/namespaces/shop/pods/nobody/exec?command=ls", 404),
    ];
    for (user, method, target, code) in rows {
        let (status, body) = gate.ask(user, method, target).await;
        assert_eq!(status, code, "{method} {target}: {body:?}");
    }
    let seen = gate.cluster.requests();
    for request in &seen {
        assert!(!request.headers.contains_key("authorization"), "{request:?}");
        // The gate's own calls have nobody behind them.
        if request.headers.contains_key("impersonate-user") {
            let user = request.headers["impersonate-user"].to_str().unwrap();
            assert!(["admin", "developer", "viewer"].contains(&user), "{request:?}");
            assert!(request.headers.contains_key("audit-id"), "{request:?}");
        }
    }
    let forwarded = |target: &str| seen.iter().filter(|r| r.target == target).count();
    assert_eq!(forwarded("/api/v1/namespaces/shop/pods/nobody"), 1);
    assert_eq!(forwarded("/api//v1"), 0);
    assert_eq!(seen.iter().filter(|r| r.method == "DELETE").count(), 0);
    let record = gate.stop().await;
    let refused =
        record.0.iter().find(|e| e["verb"] == "delete" && e["stage"] == "ResponseComplete").unwrap();
    assert_eq!(refused["responseStatus"]["code"], 403);
}

#[tokio::test]
async fn what_is_created_is_there_and_conflicts_are_passed_on() {
    let gate = Gate::start(Tweaks::default()).await;
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "made"}, "data": {"k": "v"}});
    let post = || {
        Request::post("/api/v1/namespaces/shop/configmaps")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(object.to_string())))
            .unwrap()
    };
    let made = gate.send(DEVELOPER, post()).await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let made: Value = serde_json::from_slice(&made.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(made["data"], object["data"]);
    assert_eq!(gate.send(DEVELOPER, post()).await.status(), StatusCode::CONFLICT);
    assert_eq!(gate.send(VIEWER, post()).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn one_connection_of_http_1_1_serves_many_requests() {
    let gate = Gate::start(Tweaks::default()).await;
    let mut socket = gate.raw(None, "http/1.1").await;
    let token = gate.site.token(VIEWER).unwrap();
    for n in 0..3 {
        let head = format!(
            "GET /version HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\r\n",
            gate.address()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        while !read.ends_with(b"}\n") && !read.ends_with(b"}") {
            assert_ne!(socket.read_buf(&mut read).await.unwrap(), 0, "closed after {n}");
        }
        assert!(read.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&read));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_tells_what_is_configured_and_the_record_everything() {
    let rights = "can alice get - pods in=d\ncan bob delete - pods in=d\n";
    let nearest = "allows get on pods; not delete";
    let other = "allows it to User bob (RoleBinding d/";
    let none = "no role bound to this user or its groups comes near it";
    for (authorization, told_nearest, contact) in [
        ("", true, ""),
        (", explain: own, contact: 'ask <ops>'", true, "ask <ops>; "),
        (", explain: off, contact: ask ops", false, "ask ops; "),
        (", explain: full", true, ""),
    ] {
        let options = Options { authorization, ..Options::default() };
        let mut scene = Scene::with(rights, options, |_| vec![Act::Listen]).await;
        let reply = scene.ask("alice", "DELETE", "/api/v1/namespaces/d/pods/p", &[]).await;
        let (id, status) = (reply.header("audit-id").unwrap(), reply.json());
        let message = status["message"].as_str().unwrap();
        let kube = r#"pods "p" is forbidden: User "alice" cannot delete resource "pods" in API group "" in the namespace "d""#;
        assert!(
            message.starts_with(kube) && message.ends_with(&format!(" ({contact}audit id {id})")),
            "{message}"
        );
        assert_eq!(message.contains(nearest), told_nearest, "{message}");
        assert_eq!(message.contains(other), authorization.contains("full"), "{message}");
        assert_eq!((&status["code"], &status["reason"]), (&json!(403), &json!("Forbidden")));
        assert_eq!(status["details"], json!({"name": "p", "kind": "pods"}));
        let last = scene.ended(&reply).await.pop().unwrap();
        assert_eq!(last["responseStatus"]["message"], message);
        let reason = last["annotations"]["authorization.k8s.io/reason"].as_str().unwrap();
        assert!(reason.contains(nearest) && reason.contains(other), "{last}");
        let as_joe = [("Impersonate-User", "joe")];
        let reply = scene.ask("alice", "GET", "/api/v1/namespaces/d/pods/p", &as_joe).await;
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert_eq!(message.contains(none), told_nearest, "{message}");
        let id = reply.header("audit-id").unwrap();
        assert!(message.ends_with(&format!(" ({contact}audit id {id})")), "{message}");
        let last = scene.ended(&reply).await.pop().unwrap();
        assert_eq!(last["annotations"]["gatelog.dev/impersonation-reason"], none, "{last}");
        assert_eq!(last["annotations"]["authorization.k8s.io/reason"], Value::Null, "{last}");
    }
}
