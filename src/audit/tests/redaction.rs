//! What is secret, through a whole trail: whatever it is written in, nothing of it is in any line.

use super::*;
use crate::codec::document::Document;
use crate::codec::protobuf::{Envelope, Writer};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use redact::{Builtins, Rule};
use std::io::Write;

/// Each secret value in these tests, as it is and in base64.
const SECRETS: [&str; 2] = ["hunter2-the-canary", "aHVudGVyMi10aGUtY2FuYXJ5"];
const SECRETS_PATH: &str = "/api/v1/namespaces/a/secrets";
const POLICY: &str = "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: RequestResponse}]}";

fn rules() -> Vec<Rule> {
    let rule = |name: &str, resource: &str, query: &str| Rule {
        name: name.to_owned(),
        resources: vec![resource.to_owned()],
        query: vec![query.to_owned()],
        ..Rule::default()
    };
    let env = Rule {
        name: "env".into(),
        groups: vec![String::new()],
        resources: vec!["pods".into()],
        fields: vec!["spec.containers[*].env[*].value".into()],
        ..Rule::default()
    };
    vec![rule("exec-command", "pods/exec", "command"), rule("proxied", "*/proxy", "*"), env]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

struct Exchange<'a> {
    method: &'a str,
    target: &'a str,
    sent: (&'static [(&'static str, &'static str)], Vec<u8>),
    code: u16,
    answer: (&'static [(&'static str, &'static str)], Vec<u8>),
}

/// The lines of an exchange, none of which holds a secret.
async fn lines_of(exchange: Exchange<'_>) -> Vec<Value> {
    let Exchange { method, target, sent, code, answer } = exchange;
    let record = Record::with(POLICY, |config| config.redaction.rules = rules());
    let agent: &[u8] = b"curl -H 'Authorization: Bearer hunter2-the-canary-and-more'";
    let sent_headers = [("user-agent", agent), ("audit-id", b"Bearer hunter2-the-canary-and-more")];
    let (mut trail, parts) = record.open_with(method, target, &sent_headers);
    trail.begin_as(&alice(), "token-file", &Asked::parse(&parts).unwrap()).unwrap();
    if trail.wants_request() {
        let headers = headers(sent.0);
        trail.request(&headers, &Document::new(&headers, &sent.1));
    }
    trail.annotate("gatelog.dev/shadow", "https://u:hunter2-the-canary@x".into());
    trail.commit();
    trail.kept().await.unwrap();
    trail.started(code, &headers(answer.0));
    if trail.wants_response() {
        for piece in answer.1.chunks(1000) {
            trail.tee(&Bytes::copy_from_slice(piece));
        }
    }
    trail.complete(End::default());
    drop(trail);
    let events = record.events();
    for event in &events {
        let text = event.to_string();
        for secret in SECRETS {
            assert!(!text.contains(secret), "{method} {target}: {text}");
        }
        assert!(event["annotations"]["gatelog.dev/redacted"].is_string(), "{text}");
    }
    events
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const PROTOBUF: &[(&str, &str)] =
    &[("content-type", "application/vnd.kubernetes.protobuf"), ("content-encoding", "gzip")];

/// A Secret, its list, and both as protobuf.
fn secret() -> Value {
    let applied = json!({"kind": "Secret", "stringData": {"k": SECRETS[0]}}).to_string();
    json!({"kind": "Secret", "apiVersion": "v1", "type": "Opaque", "data": {"k": SECRETS[1]}, "metadata": {
        "name": "db", "namespace": "a",
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied},
        "managedFields": [{"manager": "x", "fieldsV1": {"f:data": {"f:k": {}, (format!("v:\"{}\"", SECRETS[0])): {}}}}],
    }})
}

fn secret_list() -> Vec<u8> {
    let secret = |of: &mut Writer| {
        of.message(1, |meta| meta.text(1, "db"));
        of.message(2, |entry| {
            entry.text(1, "k");
            entry.bytes(2, SECRETS[0].as_bytes());
        });
        of.text(3, "Opaque");
    };
    let raw = Writer::of(|of| {
        of.message(1, |meta| meta.text(2, "7"));
        of.message(2, secret);
        of.message(2, secret);
    });
    Envelope { api_version: "v1", kind: "SecretList", raw: &raw, ..Envelope::default() }.write()
}

#[tokio::test]
async fn a_gzipped_protobuf_list_of_secrets() {
    let events = lines_of(Exchange {
        method: "GET",
        target: SECRETS_PATH,
        sent: (&[], Vec::new()),
        code: 200,
        answer: (PROTOBUF, gzip(&secret_list())),
    });
    let last = events.await.pop().unwrap();
    let items = last["responseObject"]["items"].as_array().unwrap();
    let mark = items[0]["data"]["k"].as_str().unwrap();
    assert!(redact::is_mark(mark), "{last}");
    assert_eq!(items[1]["data"]["k"], mark, "equal values have equal marks");
    assert_eq!((&items[0]["metadata"]["name"], &items[0]["type"]), (&json!("db"), &json!("Opaque")));
    let rules = "authorization-header,secret-data,url-credentials";
    assert_eq!(last["annotations"]["gatelog.dev/redacted"], rules);
}

/// method, target, what is sent, how => where the request object has a mark
#[tokio::test]
async fn what_a_caller_sends_of_a_secret() {
    let [plain, base64] = SECRETS;
    let yaml = format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\nstringData:\n  k: {plain}\n");
    let patch = json!([{"op": "replace", "path": "/data/k", "value": base64}]).to_string();
    let merge = json!({"data": {"k": base64}}).to_string();
    let one = format!("{SECRETS_PATH}/db");
    let mut cbor = b"\xd9\xd9\xf7\xa2\x44kind\x46Secret\x44data\xa1\x41k\xd6\x52".to_vec();
    cbor.extend(plain.as_bytes());
    let rows: [(&str, &str, &'static str, Vec<u8>, &str); 9] = [
        ("POST", SECRETS_PATH, "application/json", secret().to_string().into(), "/data/k"),
        ("PUT", &one, "application/yaml", yaml.clone().into(), "/stringData/k"),
        ("PATCH", &one, "application/apply-patch+yaml", yaml.into(), "/stringData/k"),
        ("PATCH", &one, "application/json-patch+json", patch.into(), "/0/value"),
        ("PATCH", &one, "application/merge-patch+json", merge.clone().into(), "/data/k"),
        ("PATCH", &one, "application/strategic-merge-patch+json", merge.into(), "/data/k"),
        ("PATCH", &one, "application/apply-patch+cbor", cbor.clone(), "/data/k"),
        ("POST", SECRETS_PATH, "application/cbor", cbor, "/data/k"),
        (
            "POST",
            "/apis/x.y/v1/things",
            "application/json",
            json!({"kind": "Thing", "spec": {"objects": [secret()]}}).to_string().into(),
            "/spec/objects/0/data/k",
        ),
    ];
    let mut marks = std::collections::BTreeSet::new();
    for (method, target, kind, body, at) in rows {
        let kinds: &'static [(&str, &str)] = Box::leak(Box::new([("content-type", kind)]));
        let exchange = Exchange {
            method,
            target,
            sent: (kinds, body),
            code: 200,
            answer: (JSON, secret().to_string().into()),
        };
        let last = lines_of(exchange).await.pop().unwrap();
        let mark = last["requestObject"].pointer(at).and_then(Value::as_str).unwrap_or_default();
        assert!(redact::is_mark(mark), "{method} {kind}: {}", last["requestObject"]);
        assert!(redact::is_mark(last["responseObject"]["data"]["k"].as_str().unwrap()), "{last}");
        marks.insert(last["responseObject"]["data"]["k"] == mark);
    }
    assert_eq!(
        marks.into_iter().collect::<Vec<_>>(),
        [true],
        "one value has one mark, in whatever it is written"
    );
}

/// method, target, body, code, answer => what there is to see, as (path, value); "mark": a mark
#[tokio::test]
async fn what_answers_tell_of_secrets() {
    let applied = secret()["metadata"]["annotations"].clone();
    let table = json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1",
        "columnDefinitions": [{"name": "Name"}, {"name": "Type"}, {"name": "Data"}, {"name": "Age"}],
        "rows": [{"cells": ["db", "Opaque", 1, "2d"], "object": {"kind": "PartialObjectMetadata",
            "metadata": {"name": "db", "annotations": applied}}}]});
    let invalid = json!({"kind": "Status", "status": "Failure", "reason": "Invalid", "code": 422,
        "message": format!("Secret \"db\" is invalid: data[k]: Invalid value: \"{}\": bad", SECRETS[0]),
        "details": {"name": "db", "causes": [{"field": "data[k]", "message": format!("Invalid value: \"{}\"", SECRETS[0])}]}});
    let token =
        json!({"kind": "TokenRequest", "spec": {"audiences": ["x"]}, "status": {"token": SECRETS[0]}});
    let review =
        json!({"kind": "TokenReview", "spec": {"token": SECRETS[0]}, "status": {"authenticated": true}});
    let pod = json!({"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "env": [{"name": "A", "value": SECRETS[0]}]}]}});
    let tokens = "/api/v1/namespaces/a/serviceaccounts/s/token";
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let pods = "/api/v1/namespaces/a/pods";
    let none = json!({});
    type Row<'a> = (&'a str, &'a str, &'a Value, u16, &'a Value, &'a [(&'a str, &'a str)]);
    let rows: [Row<'_>; 8] = [
        (
            "GET",
            SECRETS_PATH,
            &none,
            200,
            &table,
            &[
                ("/responseObject/rows/0/cells/0", "db"),
                ("/responseObject/rows/0/object/metadata/name", "db"),
            ],
        ),
        (
            "PUT",
            "/api/v1/namespaces/a/secrets/db",
            &secret(),
            422,
            &invalid,
            &[
                ("/responseStatus/reason", "Invalid"),
                ("/responseStatus/details/causes/0/message", "mark"),
                ("/responseObject/details/causes/0/message", "mark"),
                ("/requestObject/data/k", "mark"),
            ],
        ),
        ("POST", tokens, &json!({"spec": {}}), 201, &token, &[("/responseObject/status/token", "mark")]),
        (
            "POST",
            reviews,
            &review,
            201,
            &review,
            &[("/requestObject/spec/token", "mark"), ("/responseObject/spec/token", "mark")],
        ),
        (
            "POST",
            pods,
            &pod,
            201,
            &pod,
            &[
                ("/requestObject/spec/containers/0/env/0/value", "mark"),
                ("/responseObject/spec/containers/0/env/0/value", "mark"),
                ("/requestObject/spec/containers/0/env/0/name", "A"),
            ],
        ),
        (
            "POST",
            "/api/v1/namespaces/a/pods/p/exec?command=echo&command=hunter2-the-canary&container=c",
            &none,
            101,
            &none,
            &[],
        ),
        ("GET", "/api/v1/namespaces/a/services/s/proxy/login?q=hunter2-the-canary", &none, 200, &none, &[]),
        ("GET", "/api/v1/pods?access_token=hunter2-the-canary", &none, 200, &none, &[]),
    ];
    for (method, target, sent, code, answer, want) in rows {
        let last = lines_of(Exchange {
            method,
            target,
            sent: (JSON, sent.to_string().into()),
            code,
            answer: (JSON, answer.to_string().into()),
        });
        let last = last.await.pop().unwrap();
        for (at, want) in want {
            let found = last.pointer(at).and_then(Value::as_str).unwrap_or_default();
            assert!(
                if *want == "mark" { redact::is_mark(found) } else { found == *want },
                "{target} {at}: {last}"
            );
        }
        if let Some((path, _)) = target.split_once('?') {
            let uri = last["requestURI"].as_str().unwrap();
            assert!(uri.starts_with(path) && uri.contains(redact::PREFIX), "{uri}");
        }
    }
}

/// What cannot be parsed may be about anything, and what it says is quoted by the refusal.
#[test]
fn a_target_that_is_no_request_is_redacted_by_every_rule() {
    for target in [
        "/api/v1/namespaces/a/services/s/proxy?q=hunter2-the-canary",
        "/api/v1/watch?command=hunter2-the-canary",
    ] {
        let record = Record::with(POLICY, |config| config.redaction.rules = rules());
        let (mut trail, _) = record.open("GET", target);
        trail.refused(&Status::bad_request(format!(
            "unable to determine kind and namespace from url, {target}"
        )));
        drop(trail);
        let text = record.events()[0].to_string();
        assert!(!text.contains(SECRETS[0]) && text.contains(redact::PREFIX), "{text}");
    }
}

#[tokio::test]
async fn a_rule_is_off_by_its_name_alone() {
    let body = json!({"kind": "ConfigMap", "data": {"password": "x1", "token": "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2ln"}});
    let of = |off: &[redact::Builtin]| {
        let off = off.iter().fold(Builtins::NONE, |off, rule| off.with(*rule));
        let record = Record::with(POLICY, |config| config.redaction.off = off);
        let mut trail = record.begin("POST", "/api/v1/namespaces/a/configmaps");
        trail.request(&as_json(), &Document::new(&as_json(), body.to_string().as_bytes()));
        drop(trail);
        let event = record.events().pop().unwrap();
        let is_mark = |key: &str| redact::is_mark(event["requestObject"]["data"][key].as_str().unwrap());
        (is_mark("password"), is_mark("token"))
    };
    use redact::Builtin::{CredentialFields, CredentialShapes};
    assert_eq!(of(&[]), (true, true));
    assert_eq!(of(&[CredentialFields]), (false, true));
    assert_eq!(of(&[CredentialShapes]), (true, true));
    assert_eq!(of(&[CredentialFields, CredentialShapes]), (false, false));
}

/// The bodies that the API machinery's own libraries wrote, as requests and as answers.
#[test]
fn protobuf_of_every_kind_is_recorded_as_the_original_writes_it() {
    const GOLDEN: &str = include_str!("../../../tests/golden/protobuf.jsonl");
    let golden: Vec<Value> = GOLDEN.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let golden: Vec<_> = golden.iter().filter(|golden| golden["kind"] != "frame").step_by(3).collect();
    for off in [Builtins::ALL, Builtins::NONE] {
        let record = Record::with(POLICY, |config| config.redaction.off = off);
        let headers = headers(&[("content-type", "application/vnd.kubernetes.protobuf")]);
        for golden in &golden {
            let body = Bytes::from(STANDARD.decode(golden["body"].as_str().unwrap()).unwrap());
            let mut trail = record.begin("PUT", "/apis/x.y/v1/things/a");
            trail.request(&headers, &Document::new(&headers, &body));
            trail.started(200, &headers);
            trail.tee(&body);
            trail.complete(End::default());
        }
        let events = record.events();
        let last: Vec<_> = events.iter().filter(|event| event["stage"] == "ResponseComplete").collect();
        assert_eq!(last.len(), golden.len());
        for (event, golden) in last.iter().zip(&golden) {
            for part in ["requestObject", "responseObject"] {
                assert_eq!(event[part]["gatelog.dev/omitted"], Value::Null, "{}", golden["kind"]);
                if off == Builtins::ALL {
                    assert_eq!(event[part], golden["json"], "{}", golden["kind"]);
                } else {
                    assert_eq!(event[part]["kind"], golden["json"]["kind"]);
                }
            }
            let data = event["requestObject"]["data"].as_object().into_iter().flatten();
            if golden["kind"] == "v1 Secret" && off == Builtins::NONE {
                data.for_each(|(_, v)| assert!(v == "" || redact::is_mark(v.as_str().unwrap()), "{v}"));
            }
        }
    }
}

/// A name, a namespace and a version come from the body, whatever it is written in.
#[tokio::test]
async fn names_are_found_in_every_encoding() {
    let raw = Writer::of(|of| {
        of.message(1, |meta| {
            meta.text(1, "db");
            meta.text(5, "u");
            meta.text(6, "7");
        });
    });
    let protobuf = Envelope { api_version: "v1", kind: "Secret", raw: &raw, ..Envelope::default() };
    // Of a kind that is not known, its metadata is all the same.
    let unknown = Envelope { api_version: "x.y/v1", kind: "Thing", ..protobuf };
    let cbor = b"\xd9\xd9\xf7\xa1\x48metadata\xa3\x44name\x42db\x43uid\x41u\x4fresourceVersion\x417".to_vec();
    let yaml = b"metadata: {name: db, uid: u, resourceVersion: '7'}".to_vec();
    let json = br#"{"metadata":{"name":"db","uid":"u","resourceVersion":"7"}}"#.to_vec();
    for (kind, body) in [
        ("application/vnd.kubernetes.protobuf", protobuf.write()),
        ("application/vnd.kubernetes.protobuf", unknown.write()),
        ("application/cbor", cbor),
        ("application/yaml", yaml),
        ("application/json", json),
    ] {
        for level in [METADATA, POLICY] {
            let record = Record::new(level);
            let mut trail = record.begin("POST", SECRETS_PATH);
            let kinds = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
            trail.request(&kinds, &Document::new(&kinds, body.as_ref()));
            drop(trail);
            let want = json!({"resource": "secrets", "namespace": "a", "name": "db", "uid": "u", "apiVersion": "v1", "resourceVersion": "7"});
            assert_eq!(record.events().pop().unwrap()["objectRef"], want, "{kind}");
        }
    }
}

/// kube-apiserver's caller has a 504 while its record says what an inner handler tried to write.
#[test]
fn a_request_that_ran_out_of_time_has_its_code() {
    let record = Record::new(POLICY);
    let mut trail = record.begin("POST", "/api/v1/namespaces/a/pods");
    trail.request(&as_json(), &Document::new(&as_json(), br#"{"kind":"Pod","metadata":{"name":"p"}}"#));
    trail.refused(&Status::timeout());
    drop(trail);
    let last = record.events().pop().unwrap();
    assert_eq!((&last["responseStatus"]["code"], &last["objectRef"]["name"]), (&json!(504), &json!("p")));
    assert_eq!(last["requestObject"]["kind"], "Pod");
}
