//! Which events a request leaves, and with which codes.

use super::*;

/// method, target, code of the upstream => stages and codes of the events
#[tokio::test]
async fn requests_leave_the_events_of_their_kind() {
    let pod = "/api/v1/namespaces/a/pods/p";
    let rows = [
        ("GET", pod.to_owned(), 200, vec![("RequestReceived", 0), ("ResponseComplete", 200)]),
        ("GET", "/api/v1/pods".into(), 200, vec![("RequestReceived", 0), ("ResponseComplete", 200)]),
        (
            "POST",
            "/api/v1/namespaces/a/pods".into(),
            201,
            vec![("RequestReceived", 0), ("ResponseComplete", 201)],
        ),
        ("GET", "/nowhere".into(), 404, vec![("RequestReceived", 0), ("ResponseComplete", 404)]),
        (
            "GET",
            "/api/v1/pods?watch=1".into(),
            200,
            vec![("RequestReceived", 0), ("ResponseStarted", 200), ("ResponseComplete", 200)],
        ),
        (
            "GET",
            "/api/v1/pods?watch=1&resourceVersion=x".into(),
            400,
            vec![("RequestReceived", 0), ("ResponseStarted", 400), ("ResponseComplete", 400)],
        ),
        (
            "GET",
            format!("{pod}/log"),
            200,
            vec![("RequestReceived", 0), ("ResponseStarted", 200), ("ResponseComplete", 200)],
        ),
        (
            "POST",
            format!("{pod}/exec?command=id"),
            101,
            vec![("RequestReceived", 0), ("ResponseStarted", 101), ("ResponseComplete", 101)],
        ),
        // The real code, where kube-apiserver says 101.
        (
            "POST",
            format!("{pod}/exec?command=id"),
            404,
            vec![("RequestReceived", 0), ("ResponseStarted", 404), ("ResponseComplete", 404)],
        ),
    ];
    for (method, target, code, want) in rows {
        let record = Record::new(METADATA);
        let mut trail = record.begin(method, &target);
        trail.decided(true, "");
        trail.kept().await.unwrap();
        trail.started(code, &as_json());
        trail.complete(End { bytes_from_caller: 3, bytes_to_caller: 4, why: None });
        // What comes after the end changes nothing.
        trail.complete(End::default());
        trail.started(500, &as_json());
        trail.refused(&Status::timeout());
        drop(trail);
        let want: Vec<_> = want.into_iter().map(|(s, c)| (s.to_owned(), c)).collect();
        assert_eq!(record.stages(), want, "{method} {target}");
        let last = record.events().pop().unwrap();
        let notes = &last["annotations"];
        let long = want.len() == 3;
        assert_eq!(notes["gatelog.dev/bytes-in"], if long { json!("3") } else { Value::Null }, "{target}");
        assert_eq!(notes["gatelog.dev/bytes-out"], if long { json!("4") } else { Value::Null }, "{target}");
        assert_eq!(notes["gatelog.dev/end"], Value::Null);
        assert_eq!(notes["authorization.k8s.io/reason"], "", "present even when it is empty");
    }
}

#[tokio::test]
async fn a_refusal_is_a_last_event_with_its_status() {
    let record = Record::new(METADATA);
    let (mut trail, parts) = record.open("POST", "/api/v1/namespaces/a/pods/p/exec?command=id");
    let asked = Asked::parse(&parts).unwrap();
    trail.begin_as(&alice(), "x509", &asked).unwrap();
    trail.decided(false, "");
    trail.refused(&Status::forbidden("alice", asked.info.attributes(), "no rule"));
    trail.complete(End::default());
    drop(trail);
    let events = record.events();
    assert_eq!(
        record.stages(),
        [("RequestReceived".into(), 0), ("ResponseStarted".into(), 403), ("ResponseComplete".into(), 403)]
    );
    let status = &events[2]["responseStatus"];
    assert_eq!(status["status"], "Failure");
    assert_eq!(status["reason"], "Forbidden");
    assert!(status["message"].as_str().unwrap().contains("\"alice\" cannot create"), "{status}");
    assert_eq!(status["details"], json!({"name": "p", "kind": "pods"}));
    assert_eq!(status["kind"], Value::Null);
    assert_eq!(status.as_object().unwrap().keys().next().unwrap(), "metadata");
    assert_eq!(events[2]["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(events[2]["annotations"]["gatelog.dev/effect"], "connect");
    assert_eq!(events[0]["objectRef"]["subresource"], "exec");
}

#[test]
fn a_refusal_may_also_just_be_dropped() {
    let record = Record::new(METADATA);
    let mut trail = record.begin("GET", "/api/v1/pods");
    trail.refused(&Status::too_many_requests("Too many requests, please try again later.", 1));
    drop(trail);
    let last = record.events().pop().unwrap();
    assert_eq!(last["responseStatus"]["code"], 429);
    assert_eq!(last["annotations"]["gatelog.dev/end"], Value::Null);
}

#[test]
fn a_refused_impersonation_is_marked_and_undecided() {
    let record = Record::new(METADATA);
    let mut trail = record.begin("GET", "/api/v1/pods");
    trail.annotate("gatelog.dev/impersonation-refused", "Impersonate-Group".into());
    trail.refused(&Status::internal("x"));
    drop(trail);
    let last = record.events().pop().unwrap();
    assert_eq!(last["annotations"]["gatelog.dev/impersonation-refused"], "Impersonate-Group");
    assert_eq!(last["annotations"]["authorization.k8s.io/decision"], Value::Null);
    assert_eq!(last["impersonatedUser"], Value::Null);
}

#[test]
fn a_failure_after_the_answer_began_leaves_its_code() {
    let record = Record::new(METADATA);
    let mut trail = record.begin("GET", "/api/v1/pods");
    trail.started(200, &as_json());
    trail.refused(&Status::timeout());
    drop(trail);
    let last = record.events().pop().unwrap();
    assert_eq!(last["responseStatus"], json!({"metadata": {}, "code": 200}));
    assert_eq!(last["annotations"]["gatelog.dev/end"], Status::timeout().message);
}

#[test]
fn who_leaves_early_is_recorded_once() {
    let record = Record::new(METADATA);
    drop(record.begin("GET", "/api/v1/pods"));
    let mut watch = record.begin("GET", "/api/v1/pods?watch=1");
    watch.started(200, &as_json());
    drop(watch);
    drop(record.begin("GET", "/api/v1/pods?watch=1"));
    let events = record.events();
    let row = |e: &Value| {
        (
            e["stage"].as_str().unwrap().to_owned(),
            e["responseStatus"].clone(),
            e["annotations"]["gatelog.dev/end"].clone(),
        )
    };
    let early =
        json!({"metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200});
    let plain = json!({"metadata": {}, "code": 200});
    assert_eq!(
        events.iter().map(row).filter(|r| r.0 != "RequestReceived").collect::<Vec<_>>(),
        [
            ("ResponseComplete".into(), early.clone(), json!("closed early")),
            ("ResponseStarted".into(), plain.clone(), Value::Null),
            ("ResponseComplete".into(), plain, json!("closed early")),
            ("ResponseStarted".into(), early.clone(), json!("closed early")),
            ("ResponseComplete".into(), early, json!("closed early")),
        ]
    );
}

#[test]
fn a_panic_is_the_last_stage() {
    let record = Record::new(METADATA);
    let (early, _parts) = record.open("GET", "/api/v1/pods");
    let mut begun = record.begin("GET", "/api/v1/pods/");
    begun.started(200, &as_json());
    let panicked = std::thread::spawn(move || {
        let _both = (early, begun);
        panic!("as it is wanted here");
    });
    panicked.join().unwrap_err();
    let events = record.events();
    let panics: Vec<_> = events.iter().filter(|e| e["stage"] == "Panic").collect();
    assert_eq!((events.len(), panics.len()), (3, 2));
    for event in panics {
        let status = &event["responseStatus"];
        assert_eq!(
            (&status["code"], &status["reason"], &status["status"]),
            (&json!(500), &json!("InternalError"), &json!("Failure"))
        );
        assert!(status["message"].as_str().unwrap().starts_with("APIServer panic'd:"));
    }
}

#[test]
fn omitted_stages_leave_no_event() {
    let policy = "{apiVersion: audit.k8s.io/v1, kind: Policy, omitStages: [RequestReceived, ResponseStarted],
        rules: [{level: None, verbs: [get]}, {level: Metadata, verbs: [list], omitStages: [ResponseComplete]}, {level: Metadata}]}";
    let record = Record::new(policy);
    for target in ["/api/v1/namespaces/a", "/api/v1/pods", "/api/v1/pods?watch=1"] {
        let mut trail = record.begin("GET", target);
        trail.started(200, &as_json());
        trail.complete(End::default());
    }
    let (mut stranger, _) = record.open("GET", "/api/v1/pods");
    stranger.refused(&Status::unauthorized());
    assert_eq!(record.stages(), [("ResponseComplete".to_owned(), 200)]);
}

#[tokio::test]
async fn level_none_costs_nothing_but_an_id() {
    let policy = "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: None}]}";
    let record = Record::new(policy);
    let mut trail = record.begin("DELETE", "/api/v1/namespaces/a/secrets/s");
    assert_eq!(trail.audit_id().len(), 36);
    assert!(!trail.wants_request());
    trail.kept().await.unwrap();
    trail.started(500, &as_json());
    assert!(!trail.wants_response());
    trail.refused(&Status::timeout());
    drop(trail);
    assert_eq!(record.events(), Vec::<Value>::new());
    assert_eq!(record.audit.metrics.levels[0].get(), 1);
}

/// level, stages that are omitted, method, target => stages of the events
#[tokio::test]
async fn what_is_insisted_on_is_recorded_at_its_end() {
    let (pods, watch) = ("/api/v1/namespaces/a/pods", "/api/v1/pods?watch=1");
    const LAST: &str = "ResponseComplete";
    let rows = [
        ("None", "", "GET", pods, vec![LAST]),
        ("None", "ResponseComplete", "GET", pods, vec![LAST]),
        ("None", "", "POST", pods, vec![LAST]),
        ("None", "", "GET", watch, vec!["ResponseStarted", LAST]),
        ("None", "ResponseStarted", "GET", watch, vec![LAST]),
        ("Metadata", "", "GET", pods, vec!["RequestReceived", LAST]),
        ("Metadata", "ResponseComplete", "GET", pods, vec!["RequestReceived", LAST]),
        ("Metadata", "RequestReceived, ResponseComplete", "GET", pods, vec![LAST]),
    ];
    for (level, omitted, method, target, stages) in rows {
        let policy = format!(
            "{{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{{level: {level}, omitStages: [{omitted}]}}]}}"
        );
        let record = Record::new(&policy);
        let mut trail = record.begin(method, target);
        trail.annotate("gatelog.dev/shadow", "would be refused: x".to_owned());
        trail.insist(&alice());
        trail.insist(&alice());
        if level == "None" {
            assert!(!trail.wants_request(), "no body is read for it");
            trail.kept().await.unwrap();
        }
        trail.started(500, &as_json());
        if level == "None" {
            assert!(!trail.wants_response());
        }
        trail.complete(End::default());
        let events = record.events();
        let got: Vec<_> = events.iter().map(|e| e["stage"].as_str().unwrap()).collect();
        assert_eq!(got, stages, "{level} {omitted} {target}");
        let last = events.last().unwrap();
        assert_eq!((&last["level"], &last["user"]["username"]), (&"Metadata".into(), &"alice".into()));
        assert_eq!(
            (&last["responseStatus"]["code"], &last["objectRef"]["resource"]),
            (&500.into(), &"pods".into())
        );
        assert_eq!(last["annotations"]["gatelog.dev/shadow"], "would be refused: x");
        assert_eq!(last["annotations"]["gatelog.dev/authn-method"], "token-file");
    }
    // Refused here, and nobody is there yet.
    let none = "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: None}]}";
    let record = Record::new(none);
    let mut trail = record.begin("DELETE", pods);
    trail.insist(&alice());
    trail.refused(&Status::timeout());
    drop(trail);
    let (mut stranger, _) = record.open("GET", pods);
    stranger.insist(&alice());
    drop(stranger);
    assert_eq!(record.stages(), [(LAST.to_owned(), 504)]);
}

#[tokio::test]
async fn what_is_insisted_on_is_not_waited_for() {
    let policy = "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: None}]}";
    let record = Record::new(policy);
    // After the end nothing can be recorded, and the request does not know.
    record.audit.shutdown().unwrap();
    let mut trail = record.begin("DELETE", "/api/v1/namespaces/a/pods/p");
    trail.insist(&alice());
    trail.kept().await.unwrap();
    trail.started(200, &as_json());
    trail.complete(End::default());
}

#[tokio::test]
async fn nothing_is_kept_of_a_request_that_was_not_begun() {
    let record = Record::new(METADATA);
    let (mut trail, _) = record.open("GET", "/api/v1/pods");
    trail.kept().await.unwrap_err();
}

/// target, status => the one event
#[test]
fn a_request_without_authentication_is_one_event() {
    let rows = [
        (
            "/api/v1/namespaces/a/pods/p?x=1",
            Status::unauthorized(),
            401,
            "get",
            json!({"resource": "pods", "namespace": "a", "name": "p", "apiVersion": "v1"}),
        ),
        (
            "/api/v1/pods?timeout=x",
            Status::bad_request("invalid timeout"),
            400,
            "list",
            json!({"resource": "pods", "apiVersion": "v1"}),
        ),
        ("/api/v1//pods", Status::bad_request("an empty segment"), 400, "get", Value::Null),
        ("/healthz/%2e%2e", Status::bad_request("dot segment"), 400, "get", Value::Null),
    ];
    for (target, status, code, verb, object) in rows {
        let record = Record::new(METADATA);
        let (mut trail, _) = record.open_with("GET", target, &[("user-agent", b"curl")]);
        trail.attempted("Authentication failed, attempted: bearer");
        trail.refused(&status);
        trail.complete(End::default());
        drop(trail);
        let events = record.events();
        assert_eq!(events.len(), 1, "{target}");
        let event = &events[0];
        assert_eq!(event["stage"], "ResponseStarted");
        assert_eq!(event["user"], json!({}));
        assert_eq!((&event["verb"], &event["objectRef"]), (&json!(verb), &object), "{target}");
        assert_eq!(event["responseStatus"]["code"], code);
        assert_eq!(event["requestURI"], target);
        assert_eq!((&event["sourceIPs"], &event["userAgent"]), (&json!(["192.0.2.7"]), &json!("curl")));
        assert_eq!(
            event["annotations"],
            json!({"gatelog.dev/authn-attempted": "Authentication failed, attempted: bearer"})
        );
    }
}

#[test]
fn a_caller_that_leaves_before_it_is_known_is_one_event() {
    let record = Record::new(METADATA);
    drop(record.open("GET", "/api/v1/pods"));
    let events = record.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["stage"], "ResponseStarted");
    assert_eq!(events[0]["responseStatus"]["message"], "Connection closed early");
}

#[test]
fn strangers_are_limited_and_counted() {
    let record = Record::new(METADATA);
    for _ in 0..100 {
        let (mut trail, _) = record.open("GET", "/api/v1/pods");
        trail.refused(&Status::unauthorized());
    }
    // Somebody who is known is not concerned.
    drop(record.begin("GET", "/api/v1/pods"));
    let events = record.events();
    let suppressed = events.last().unwrap();
    assert_eq!(suppressed["annotations"]["gatelog.dev/suppressed"], "80");
    assert_eq!(suppressed["sourceIPs"], json!(["192.0.2.7"]));
    assert_eq!((&suppressed["user"], &suppressed["stage"]), (&json!({}), &json!("ResponseStarted")));
    assert_eq!(events.len(), 20 + 2 + 1);
    assert_eq!(record.audit.metrics.suppressed.get(), 80);
}

#[test]
fn forwarded_addresses_are_believed_from_trusted_peers_only() {
    let headers: &[(&str, &[u8])] = &[
        ("x-forwarded-for", b"10.1.1.1, 10.2.2.2"),
        ("x-forwarded-for", b"9.9.9.9"),
        ("x-real-ip", b"10.3.3.3"),
    ];
    for (trusted, want) in [
        (vec![], json!(["192.0.2.7"])),
        (vec!["198.51.100.0/24"], json!(["192.0.2.7"])),
        (vec!["192.0.2.0/24"], json!(["10.1.1.1", "10.2.2.2", "10.3.3.3", "192.0.2.7"])),
    ] {
        let record = Record::with(METADATA, |c| {
            c.trusted_proxies = trusted.iter().map(|t| t.parse().unwrap()).collect()
        });
        drop(record.open_with("GET", "/api/v1/pods", headers));
        assert_eq!(record.events()[0]["sourceIPs"], want);
    }
}

#[test]
fn a_callers_own_audit_id_is_an_annotation() {
    let record = Record::new(METADATA);
    let long = "x".repeat(10_000);
    for id in ["", "mine", "a\u{e9}b", &long] {
        let (trail, _) =
            record.open_with("GET", "/api/v1/pods", &[("audit-id", id.as_bytes()), ("audit-id", b"second")]);
        assert_ne!(trail.audit_id().as_bytes(), id.as_bytes());
    }
    let ids: Vec<_> =
        record.events().iter().map(|e| e["annotations"]["gatelog.dev/client-audit-id"].clone()).collect();
    assert_eq!(ids, [Value::Null, json!("mine"), json!("a\u{e9}b"), json!("x".repeat(64))]);
}

#[test]
fn a_new_policy_is_for_new_requests() {
    let record = Record::new(METADATA);
    let old = record.begin("GET", "/api/v1/pods");
    record.audit.set_policy(
        Policy::parse("{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: None}]}").unwrap(),
    );
    drop(record.begin("GET", "/api/v1/nodes"));
    drop(old);
    let uris: Vec<_> = record.events().iter().map(|e| e["requestURI"].clone()).collect();
    assert_eq!(uris, ["/api/v1/pods", "/api/v1/pods"]);
}

#[test]
fn whatever_a_caller_sends_is_one_line() {
    let record = Record::new(METADATA);
    let huge = vec![b'a'; 1 << 20];
    let agents: [&[u8]; 5] = [b"\x1b[2J", b"x\t{\"fake\":\"event\"}", b"\xff\xfe", &huge, b"\xe2\x80\xa8"];
    for agent in agents {
        // Most of these cannot come over HTTP; the record does not rely on it.
        let Ok(agent) = HeaderValue::from_bytes(agent) else { continue };
        let (mut trail, parts) = record.open_with(
            "GET",
            "/api/v1/pods",
            &[("user-agent", agent.as_bytes()), ("audit-id", agent.as_bytes())],
        );
        trail.begin_as(&user("eve\"\\<\u{2028}", &["g"]), "x509", &Asked::parse(&parts).unwrap()).unwrap();
        trail.annotate("gatelog.dev/note", "\x1b[2J\n{\"fake\":\"event\"}\0".into());
        trail.complete(End { why: Some("\r\n\u{85}".into()), ..End::default() });
    }
    let events = record.events();
    assert_eq!(events.len(), 8, "the header with an escape byte is none");
    assert!(events.iter().all(|e| e["user"]["username"] == "eve\"\\<\u{2028}"));
}
