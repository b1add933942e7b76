//! What becomes of bodies.

use super::*;
use crate::codec::document::Document;
use std::io::Write;

fn policy(level: &str) -> String {
    format!(
        "{{apiVersion: audit.k8s.io/v1, kind: Policy, omitManagedFields: true, rules: [{{level: {level}}}]}}"
    )
}

/// The last event of a request at this level, with these bodies.
async fn last(
    level: &str,
    method: &str,
    target: &str,
    sent: (&HeaderMap, &[u8]),
    code: u16,
    answer: (&HeaderMap, &[u8]),
) -> Value {
    let record = Record::new(&policy(level));
    let mut trail = record.begin(method, target);
    if trail.wants_request() {
        trail.request(sent.0, &Document::new(sent.0, sent.1));
    }
    trail.kept().await.unwrap();
    trail.started(code, answer.0);
    if trail.wants_response() {
        for piece in answer.1.chunks(7) {
            trail.tee(&Bytes::copy_from_slice(piece));
        }
    }
    trail.complete(End::default());
    let events = record.events();
    assert_eq!(events[0]["requestObject"], Value::Null, "the first event is older than the body");
    events.last().unwrap().clone()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

const PODS: &str = "/api/v1/namespaces/a/pods";
const POD: &[u8] =
    br#"{ "kind": "Pod", "metadata": {"name": "web", "managedFields": [{}]}, "spec": {"x": 1.0} }"#;
const STORED: &[u8] = br#"{"kind":"Pod","metadata":{"name":"web","uid":"u","managedFields":[{}]}}"#;

#[tokio::test]
async fn levels_say_which_bodies_are_recorded() {
    let json = as_json();
    let spec = json!({"kind": "Pod", "metadata": {"name": "web"}, "spec": {"x": 1.0}});
    let stored = json!({"kind": "Pod", "metadata": {"name": "web", "uid": "u"}});
    for (level, request, response) in [
        ("Metadata", Value::Null, Value::Null),
        ("Request", spec.clone(), Value::Null),
        ("RequestResponse", spec, stored),
    ] {
        let event = last(level, "POST", PODS, (&json, POD), 201, (&json, STORED)).await;
        assert_eq!((&event["requestObject"], &event["responseObject"]), (&request, &response), "{level}");
        let want = json!({"resource": "pods", "namespace": "a", "name": "web", "apiVersion": "v1"});
        assert_eq!(event["objectRef"], want, "the name comes from the body at every level");
        assert_eq!(event["responseStatus"], json!({"metadata": {}, "code": 201}));
    }
}

#[tokio::test]
async fn an_update_says_which_version_it_is_for() {
    let body = br#"{"metadata":{"name":"other","namespace":"other","uid":"u","resourceVersion":"7"}}"#;
    let event =
        last("Metadata", "PUT", "/api/v1/namespaces/a/pods/p", (&as_json(), body), 200, (&as_json(), b"{}"))
            .await;
    let want = json!({"resource": "pods", "namespace": "a", "name": "p", "uid": "u", "apiVersion": "v1", "resourceVersion": "7"});
    assert_eq!(event["objectRef"], want);
}

#[tokio::test]
async fn generated_names_and_namespaces() {
    let json = as_json();
    let made = br#"{"kind":"Pod","metadata":{"name":"web-x7","generateName":"web-","uid":"u"}}"#;
    let long = [&made[..made.len() - 1], b",\"spec\":\"", &[b'x'; 100_000], b"\"}"].concat();
    let generated = br#"{"metadata":{"generateName":"web-"}}"#.as_slice();
    // What the server made, when nobody else had said it; kube-apiserver records no name.
    for (target, sent, code, answer, name) in [
        (PODS, generated, 201, made.as_slice(), json!("web-x7")),
        (PODS, generated, 201, &long, json!("web-x7")),
        (PODS, generated, 201, &gzip(made), Value::Null),
        (PODS, generated, 409, made, Value::Null),
        (PODS, br#"{"metadata":{"generateName":"web-","name":"web"}}"#, 201, made, json!("web")),
        (PODS, b"k8s\0\x0a\x0a\x0a\x03x/y\x12\x03Foo", 201, made, json!("web-x7")),
        ("/apis/authorization.k8s.io/v1/subjectaccessreviews", b"{}", 201, made, Value::Null),
    ] {
        for level in ["Metadata", "RequestResponse"] {
            let event = last(level, "POST", target, (&json, sent), code, (&json, answer)).await;
            assert_eq!(event["objectRef"]["name"], name, "{target} {code} {level}");
            assert_eq!(event["objectRef"]["uid"], Value::Null);
        }
    }
    let other = br#"{"metadata":{"name":"other"}}"#;
    let event = last("Metadata", "POST", "/apis/x.y/v1/foos/zz", (&json, other), 201, (&json, b"{}")).await;
    assert_eq!(event["objectRef"]["name"], "zz");
    assert_eq!(event["annotations"]["gatelog.dev/body-name"], "other");
    let event = last(
        "Metadata",
        "POST",
        "/api/v1/namespaces",
        (&json, br#"{"metadata":{"name":"x"}}"#),
        201,
        (&json, b"{}"),
    )
    .await;
    assert_eq!(event["objectRef"], json!({"resource": "namespaces", "name": "x", "apiVersion": "v1"}));
    let event = last("Metadata", "GET", "/api/v1/namespaces/x", (&json, b""), 200, (&json, b"{}")).await;
    assert_eq!(
        event["objectRef"],
        json!({"resource": "namespaces", "namespace": "x", "name": "x", "apiVersion": "v1"})
    );
}

#[tokio::test]
async fn reads_and_streams_have_the_bodies_they_should() {
    let json = as_json();
    let none = b"".as_slice();
    let rows: [(&str, &str, u16, Value); 9] = [
        ("GET", "/api/v1/namespaces/a/pods/p", 200, json!({"a": 1})),
        ("GET", "/api/v1/pods", 200, json!({"a": 1})),
        ("GET", "/apis", 200, json!({"a": 1})),
        ("GET", "/apis/apps/v1", 200, json!({"a": 1})),
        ("GET", "/api/v1/pods?watch=1", 200, Value::Null),
        ("GET", "/api/v1/namespaces/a/pods/p/log", 200, Value::Null),
        ("GET", "/version", 200, Value::Null),
        ("GET", "/openapi/v3", 200, Value::Null),
        ("GET", "/metrics", 200, Value::Null),
    ];
    for (method, target, code, want) in rows {
        let event = last("RequestResponse", method, target, (&json, none), code, (&json, b"{\"a\":1}")).await;
        assert_eq!(event["responseObject"], want, "{target}");
        assert_eq!(event["requestObject"], Value::Null, "{target}");
    }
}

#[tokio::test]
async fn a_patch_is_recorded_untouched_whatever_it_is() {
    let target = "/api/v1/namespaces/a/pods/p";
    let patched = |kind: &'static str, body: &'static [u8]| async move {
        let event = last(
            "Request",
            "PATCH",
            target,
            (&headers(&[("content-type", kind)]), body),
            200,
            (&as_json(), b"{}"),
        )
        .await;
        event["requestObject"].clone()
    };
    let merge = br#"{"metadata":{"managedFields":[{}]}}"#;
    assert_eq!(
        patched("application/merge-patch+json", merge).await,
        json!({"metadata": {"managedFields": [{}]}})
    );
    let list = br#"[{"op":"remove","path":"/a"}]"#;
    assert_eq!(patched("application/json-patch+json", list).await, json!([{"op": "remove", "path": "/a"}]));
    assert_eq!(
        patched("application/apply-patch+yaml", merge).await["metadata"]["managedFields"],
        json!([{}])
    );
    assert_eq!(
        patched("application/apply-patch+yaml", b"a: [yes, 1]\nb: x").await,
        json!({"a": [true, 1], "b": "x"})
    );
    // Each of these makes kube-apiserver 1.36 lose the event.
    for (kind, body) in [
        ("application/apply-patch+yaml", b"a: [".as_slice()),
        ("application/apply-patch+cbor", b"\xd9\xd9\xf7\xa1"),
        ("application/merge-patch+json", b"{\"a\":"),
    ] {
        let omitted = patched(kind, body).await;
        assert_eq!(omitted["gatelog.dev/omitted"], "encoding", "{kind}");
        assert_eq!(omitted["size"], body.len());
        assert_eq!(omitted["contentType"], kind);
        assert_eq!(omitted["hmacSHA256"].as_str().unwrap().len(), 64);
        assert!(omitted["why"].is_string() && omitted["kind"].is_null(), "{omitted}");
    }
    assert_eq!(
        patched("application/apply-patch+cbor", b"\xd9\xd9\xf7\xa1\x41a\x82\xd6\x42hi\x41b").await,
        json!({"a": ["aGk=", "b"]})
    );
}

#[tokio::test]
async fn encodings_are_undone_or_said() {
    let json = as_json();
    let zipped = headers(&[("content-type", "application/json"), ("content-encoding", "gzip")]);
    let list = gzip(br#"{"items":[{"metadata":{"managedFields":[1],"name":"x"}}]}"#);
    let event = last("RequestResponse", "GET", "/api/v1/pods", (&json, b""), 200, (&zipped, &list)).await;
    assert_eq!(event["responseObject"], json!({"items": [{"metadata": {"name": "x"}}]}));
    let event =
        last("RequestResponse", "POST", PODS, (&zipped, &gzip(POD)), 200, (&zipped, &list[..9])).await;
    assert_eq!(event["requestObject"]["kind"], "Pod");
    assert_eq!(event["responseObject"]["gatelog.dev/omitted"], "encoding");
    let protobuf = headers(&[("content-type", "application/vnd.kubernetes.protobuf")]);
    let event =
        last("RequestResponse", "POST", PODS, (&protobuf, b"k8s\0abc"), 200, (&protobuf, b"k8s\0abc")).await;
    for body in ["requestObject", "responseObject"] {
        assert_eq!(
            (&event[body]["gatelog.dev/omitted"], &event[body]["size"]),
            (&json!("encoding"), &json!(7))
        );
    }
    assert_eq!(event["requestObject"], event["responseObject"], "equal bodies have equal digests");
    let odd = headers(&[("content-type", "application/json"), ("content-encoding", "br")]);
    let event = last("RequestResponse", "GET", PODS, (&json, b""), 200, (&odd, b"\x0b\x01")).await;
    assert_eq!(event["responseObject"]["gatelog.dev/omitted"], "encoding");
}

#[tokio::test]
async fn bodies_are_bounded() {
    let json = as_json();
    let zipped = headers(&[("content-type", "application/json"), ("content-encoding", "gzip")]);
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(256 << 10)).into_bytes();
    let bomb = gzip(&vec![b' '; 100 << 20]);
    for (sent, kind) in [(&long, &json), (&bomb, &zipped)] {
        let event = last("RequestResponse", "POST", PODS, (kind, sent), 201, (kind, sent)).await;
        for body in ["requestObject", "responseObject"] {
            assert_eq!(
                (&event[body]["gatelog.dev/omitted"], &event[body]["size"]),
                (&json!("size"), &json!(sent.len()))
            );
        }
        assert_eq!(event["requestObject"]["hmacSHA256"], event["responseObject"]["hmacSHA256"]);
    }
    // It says what it was all the same, be its metadata at the end.
    for (kind, sent, is_whole) in [
        (
            &json,
            format!(
                "{{\"kind\":\"Pod\",\"metadata\":{{\"name\":\"web\"}},\"items\":[1,2],\"a\":\"{}\"}}",
                "x".repeat(256 << 10)
            ),
            false,
        ),
        (
            &json,
            format!(
                "{{\"a\":\"{}\",\"kind\":\"Pod\",\"items\":[1,2],\"metadata\":{{\"name\":\"web\"}}}}",
                "x".repeat(256 << 10)
            ),
            true,
        ),
        (
            &zipped,
            format!(
                "{{\"a\":\"{}\",\"kind\":\"Pod\",\"items\":[1,2],\"metadata\":{{\"name\":\"web\"}}}}",
                "x".repeat(3 << 20)
            ),
            true,
        ),
    ] {
        let wire = if std::ptr::eq(kind, &zipped) { gzip(sent.as_bytes()) } else { sent.into_bytes() };
        let event = last("RequestResponse", "POST", PODS, (kind, &wire), 201, (kind, &wire)).await;
        assert_eq!(event["objectRef"]["name"], "web");
        for (body, is_seen) in
            [("requestObject", true), ("responseObject", !is_whole || std::ptr::eq(kind, &zipped))]
        {
            let omitted = &event[body];
            assert_eq!(
                (&omitted["gatelog.dev/omitted"], &omitted["size"]),
                (&json!("size"), &json!(wire.len()))
            );
            if is_seen {
                assert_eq!(
                    (&omitted["kind"], &omitted["metadata"]),
                    (&json!("Pod"), &json!({"name": "web"})),
                    "{omitted}"
                );
            }
        }
        assert_eq!(event["requestObject"]["items"], 2);
    }
    let deep = "[".repeat(5000) + &"]".repeat(5000);
    let event = last("Request", "POST", PODS, (&json, deep.as_bytes()), 201, (&json, b"")).await;
    assert_eq!(event["requestObject"]["gatelog.dev/omitted"], "depth");
}

/// Nothing of `canary` may be in the record, whatever the level and the way it takes.
#[tokio::test]
async fn no_secret_reaches_the_record() {
    const CANARY: &str = "Y2FuYXJ5";
    let secret = json!({"kind": "Secret", "metadata": {"name": "s", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": CANARY},
        "managedFields": [{"x": CANARY}]}, "data": {"k": CANARY}});
    let table = json!({"kind": "Table", "rows": [{"cells": [CANARY],
        "object": {"metadata": {"annotations": {"x": json!({"data": {"k": CANARY}}).to_string()}}}}]});
    let list = json!({"kind": "List", "items": [{"kind": "ConfigMap"}, secret]});
    let refused = json!({"kind": "Status", "status": "Failure", "message": CANARY, "reason": "Invalid", "details": {"causes": [{"message": CANARY}]}, "code": 422});
    let s = "/api/v1/namespaces/a/secrets";
    let rows = [
        ("POST", s.to_owned(), secret.to_string(), 201, secret.to_string()),
        ("PUT", format!("{s}/s"), secret.to_string(), 200, secret.to_string()),
        (
            "PATCH",
            format!("{s}/s"),
            json!({"stringData": {"k": CANARY}}).to_string(),
            200,
            secret.to_string(),
        ),
        (
            "PATCH",
            format!("{s}/s"),
            json!([{"op": "add", "path": "/data/k", "value": CANARY}]).to_string(),
            422,
            refused.to_string(),
        ),
        ("POST", s.to_owned(), format!("{{\"data\":\"{CANARY}"), 400, refused.to_string()),
        (
            "GET",
            s.to_owned(),
            String::new(),
            200,
            json!({"kind": "SecretList", "items": [{"data": {"k": CANARY}}]}).to_string(),
        ),
        ("GET", s.to_owned(), String::new(), 200, table.to_string()),
        ("GET", format!("{s}?watch=1"), String::new(), 200, json!({"object": secret}).to_string()),
        ("DELETE", format!("{s}/s"), String::new(), 200, secret.to_string()),
        ("DELETE", s.to_owned(), String::new(), 200, list.to_string()),
        (
            "POST",
            "/api/v1/namespaces/a/serviceaccounts/x/token".into(),
            "{}".into(),
            201,
            json!({"status": {"token": CANARY}}).to_string(),
        ),
        (
            "POST",
            "/apis/authentication.k8s.io/v1/tokenreviews".into(),
            json!({"spec": {"token": CANARY}}).to_string(),
            201,
            json!({"spec": {"token": CANARY}}).to_string(),
        ),
        (
            "POST",
            "/apis/work.example/v1/namespaces/a/bundles".into(),
            json!({"spec": {"manifests": [secret]}}).to_string(),
            201,
            list.to_string(),
        ),
        (
            "GET",
            "/apis/work.example/v1/bundles".into(),
            String::new(),
            200,
            table.to_string().replace("{\"metadata\"", "{\"kind\":\"Secret\",\"metadata\""),
        ),
    ];
    for (method, target, sent, code, answer) in rows {
        let event = last(
            "RequestResponse",
            method,
            &target,
            (&as_json(), sent.as_bytes()),
            code,
            (&as_json(), answer.as_bytes()),
        )
        .await;
        let text = event.to_string();
        assert!(!text.contains(CANARY) && !text.contains("canary"), "{method} {target}: {text}");
        let is_json = serde_json::from_str::<Value>(&sent).is_ok();
        let omitted = &event["requestObject"]["gatelog.dev/omitted"];
        assert_eq!(*omitted, if is_json || sent.is_empty() { Value::Null } else { "encoding".into() });
        assert_eq!(event["responseObject"]["gatelog.dev/omitted"], Value::Null, "{target}");
        if !target.contains("watch") {
            assert!(event["responseObject"].to_string().contains(redact::PREFIX), "{target}");
            let rules = event["annotations"]["gatelog.dev/redacted"].as_str().unwrap();
            assert!(["secret-data", "token-request", "token-review"].contains(&rules), "{rules}");
        }
    }
    let event = last(
        "RequestResponse",
        "POST",
        s,
        (&as_json(), secret.to_string().as_bytes()),
        201,
        (&as_json(), b"{}"),
    )
    .await;
    assert_eq!(event["objectRef"]["name"], "s", "a name is no secret");
}

#[tokio::test]
async fn what_the_upstream_says_of_an_error_is_in_the_status() {
    let json = as_json();
    let body = br#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"p\" not found","reason":"NotFound","details":{ "name":"p","kind":"pods"},"code":404}"#;
    let want = json!({"metadata": {}, "status": "Failure", "message": "pods \"p\" not found", "reason": "NotFound", "details": {"name": "p", "kind": "pods"}, "code": 404});
    let target = "/api/v1/namespaces/a/pods/p";
    let event = last("Metadata", "GET", target, (&json, b""), 404, (&json, body)).await;
    assert_eq!((&event["responseStatus"], &event["responseObject"]), (&want, &Value::Null));
    let event = last("RequestResponse", "GET", target, (&json, b""), 404, (&json, body)).await;
    assert_eq!(event["responseStatus"], want);
    assert_eq!(event["responseObject"]["apiVersion"], "v1");
    // A delete that answers a Status, and one that answers the object.
    let done = br#"{"kind":"Status","metadata":{},"status":"Success","details":{"name":"p"},"code":200}"#;
    let event = last("Metadata", "DELETE", target, (&json, b""), 200, (&json, done)).await;
    assert_eq!(
        event["responseStatus"],
        json!({"metadata": {}, "status": "Success", "details": {"name": "p"}, "code": 200})
    );
    let event = last("Metadata", "DELETE", target, (&json, b""), 200, (&json, POD)).await;
    assert_eq!(event["responseStatus"], json!({"metadata": {}, "code": 200}));
    // Text, or too much of it: only the code.
    let event = last("Metadata", "GET", target, (&json, b""), 503, (&json, b"no endpoints")).await;
    assert_eq!(event["responseStatus"], json!({"metadata": {}, "code": 503}));
    let long = format!("{{\"kind\":\"Status\",\"message\":\"{}\"}}", "x".repeat(100_000));
    let event = last("Metadata", "GET", target, (&json, b""), 500, (&json, long.as_bytes())).await;
    assert_eq!(event["responseStatus"], json!({"metadata": {}, "code": 500}));
    // Names and reasons of secrets may stay.
    let event =
        last("Metadata", "GET", "/api/v1/namespaces/a/secrets/p", (&json, b""), 404, (&json, body)).await;
    assert_eq!(event["responseStatus"], want);
}

#[test]
fn the_gates_own_refusal_is_the_response_object() {
    let record = Record::new(EVERYTHING);
    let mut trail = record.begin("GET", "/api/v1/pods");
    trail.refused(&Status::timeout());
    drop(trail);
    let event = record.events().pop().unwrap();
    assert_eq!(event["responseObject"]["kind"], "Status");
    assert_eq!(event["responseObject"]["code"], event["responseStatus"]["code"]);
}
