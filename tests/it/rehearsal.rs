//! Rules that are rehearsed, and a gate that only observes: what is told, what is let through, and what is not.

use crate::{
    conformance::world::World,
    harness::{Gate, Tweaks, kubectls},
    plane::{JSON, Options, Plane, answer, manifest, piece, soon, whole},
    raw::Reply,
    scene::upgrade,
};
use gatelog::{demo::site::DEVELOPER, reload::Look};
use http::{HeaderMap, HeaderName};
use serde_json::Value;

const POD: &str = "/api/v1/namespaces/a/pods/p";
const PODS: &str = "/api/v1/namespaces/a/pods";
const EVENTS: &str = "/api/v1/namespaces/a/events";
const WATCH: &str = "/api/v1/namespaces/a/pods?watch=1";
const EXEC: &str = "/api/v1/namespaces/a/pods/p/exec?command=sh";

fn id_of(reply: &Reply) -> HeaderMap {
    let id = reply.header("audit-id").unwrap().parse().unwrap();
    HeaderMap::from_iter([(HeaderName::from_static("audit-id"), id)])
}

fn note<'a>(event: &'a Value, key: &str) -> &'a str {
    event["annotations"][key].as_str().unwrap_or_default()
}

/// Answers the next call with an empty object, if there should be one.
async fn forwarded(plane: &Plane, expected: bool) {
    if expected {
        plane.upstream.call().await.answer(answer(200, &[JSON], whole("{}")));
    }
}

#[tokio::test]
async fn every_decision_that_would_be_another_is_counted_and_recorded() {
    let options = || Options {
        policy: "recommended",
        rights: "can alice get,list,create,delete - pods,events in=a\ncan bob get - pods in=a\ncan bob impersonate - users names=alice",
        ..Options::default()
    };
    let candidate = "can alice get,list - pods in=a\ncan bob get,delete - pods in=a\ncan zoe get - pods";
    let mut plane = Plane::with(Options { candidate, ..options() }).await;
    let mut plain = Plane::with(options()).await;
    const NONE: &str = "would be refused: no role bound to this user or its groups comes near it";
    // Who, as whom, what; the code, how the annotation begins, the level and the stages of the events.
    let both = "RequestReceived ResponseComplete";
    let rows = [
        ("alice", "", "GET", POD, 200, "", "Metadata", "ResponseComplete"),
        ("alice", "", "DELETE", POD, 200, "would be refused: Role a/", "Request", both),
        ("alice", "", "GET", EVENTS, 200, NONE, "Metadata", "ResponseComplete"),
        ("bob", "", "GET", POD, 200, "", "Metadata", "ResponseComplete"),
        ("bob", "", "GET", PODS, 403, "", "Metadata", "ResponseComplete"),
        ("bob", "", "DELETE", POD, 403, "would be allowed: RBAC: allowed by RoleBinding ", "Request", both),
        (
            "bob",
            "alice",
            "GET",
            POD,
            200,
            "would be refused: Impersonate-User: alice: no role bound",
            "Metadata",
            "ResponseComplete",
        ),
        (
            "bob",
            "alice",
            "DELETE",
            POD,
            200,
            "would be refused: Impersonate-User: alice: no role bound",
            "Request",
            both,
        ),
    ];
    for (user, acting, method, target, code, said, level, stages) in rows {
        let mut replies = Vec::new();
        for plane in [&plane, &plain] {
            let mut wire = plane.wire().await;
            let acting = [("Impersonate-User", acting)];
            let acting = if acting[0].1.is_empty() { &[][..] } else { &acting };
            wire.send(Plane::head(user, method, target, acting)).await.unwrap();
            forwarded(plane, code == 200).await;
            replies.push(wire.reply(method).await);
        }
        let [reply, other] = &replies[..] else { panic!() };
        let what = format!("{user} {acting} {method} {target}");
        assert_eq!((reply.code, other.code), (code, code), "{what}");
        // The caller cannot tell.
        let without = |reply: &Reply| reply.text().replace(reply.header("audit-id").unwrap(), "ID");
        assert_eq!(without(reply), without(other), "{what}");
        assert_eq!(reply.header("warning"), None);
        let last = plane.last(&id_of(reply)).await;
        let shadow = note(&last, "gatelog.dev/shadow");
        assert!(shadow.starts_with(said) && shadow.is_empty() == said.is_empty(), "{what}: {shadow:?}");
        assert_eq!(last["level"], level, "{what}");
        let id = reply.header("audit-id").unwrap();
        let got: Vec<_> = plane.record.all()[id].iter().map(|e| e["stage"].as_str().unwrap()).collect();
        assert_eq!(got.join(" "), stages, "{what}");
        if target != EVENTS {
            assert!(note(&plain.last(&id_of(other)).await, "gatelog.dev/shadow").is_empty());
        }
    }
    let counted = |enforced: &str, shadow: &str| {
        format!("gatelog_shadow_decisions_total{{enforced=\"{enforced}\",shadow=\"{shadow}\"}}")
    };
    // Impersonation is a decision of its own: bob's two, and the delete that he would not be let do as alice either.
    for (enforced, shadow, count) in
        [("allow", "allow", 3.0), ("allow", "deny", 5.0), ("deny", "allow", 1.0), ("deny", "deny", 1.0)]
    {
        assert_eq!(plane.metric(&counted(enforced, shadow)).await, count, "{enforced} {shadow}");
        assert_eq!(plain.metric(&counted(enforced, shadow)).await, 0.0);
    }
}

#[tokio::test]
async fn another_candidate_is_taken_up() {
    let mut plane = Plane::with(Options {
        rights: "can alice get - pods in=a",
        candidate: "can zoe get - pods in=a",
        ..Options::default()
    })
    .await;
    let ask = async |plane: &mut Plane| {
        let alice = plane.caller("alice").await;
        let asking = alice.get(POD);
        forwarded(plane, true).await;
        let (code, headers, _) = asking.whole().await;
        assert_eq!(code, 200);
        note(&plane.last(&headers).await, "gatelog.dev/shadow").to_owned()
    };
    assert!(ask(&mut plane).await.starts_with("would be refused: "));
    plane.folder.put("candidate.yaml", &manifest(&World::new(&["can alice get - pods"])));
    assert_eq!(plane.gate().reloader().check_now().await, Look::Changed(vec!["shadow rules"]));
    assert_eq!(ask(&mut plane).await, "");
    plane.folder.put("candidate.yaml", "kind: Nonsense");
    let Look::Refused(errors) = plane.gate().reloader().check_now().await else { panic!("taken up") };
    assert!(errors.to_string().contains("authorization.shadow.files: "), "{errors}");
    assert_eq!(ask(&mut plane).await, "", "the old ones go on");
    // What counts is not kept waiting for a rehearsal.
    plane.folder.put("rbac.yaml", &manifest(&World::new(&["can bob get - pods"])));
    assert_eq!(plane.gate().reloader().check_now().await, Look::Changed(vec!["rules"]));
    let alice = plane.caller("alice").await;
    assert_eq!(alice.get(POD).whole().await.0, 403);
    let Look::Refused(_) = plane.gate().reloader().check_now().await else { panic!("still broken") };
}

#[tokio::test]
async fn what_is_observed_is_forwarded_and_told() {
    for alpn in [&["h2"][..], &["http/1.1"]] {
        let mut plane = Plane::with(Options {
            alpn: if alpn == ["h2"] { &["h2"] } else { &["http/1.1"] },
            policy: "recommended",
            rights: "can alice get - pods in=a",
            candidate: "can alice delete - pods in=a",
            authorization: ", mode: observe, contact: ask ops",
            ..Options::default()
        })
        .await;
        const WHOLE: &str = r#"pods "p" is forbidden: User "alice" cannot delete resource "pods" in API group "" in the namespace "a": "#;
        const WARNED: &str = r#"299 - "would be refused if the rules were enforced: pods \"p\" is forbidden: User \"alice\" cannot delete resource \"pods\" in API group \"\" in the namespace \"a\": Role a/"#;
        // Over HTTP/2.
        let alice = plane.caller("alice").await;
        let asking = alice.send("DELETE", POD, None);
        let call = plane.upstream.call().await;
        assert_eq!((call.request.method().as_str(), call.path()), ("DELETE", POD));
        call.answer(answer(200, &[JSON, ("warning", "299 - \"theirs\"")], whole("{}")));
        let (code, headers, _) = asking.whole().await;
        let warnings: Vec<_> = headers.get_all("warning").iter().map(|w| w.to_str().unwrap()).collect();
        assert_eq!((code, warnings[0], warnings.len()), (200, "299 - \"theirs\"", 2));
        assert!(
            warnings[1].starts_with(WARNED) && warnings[1].ends_with("not delete (ask ops)\""),
            "{}",
            warnings[1]
        );
        let last = plane.last(&headers).await;
        assert!(note(&last, "gatelog.dev/observed").starts_with(WHOLE), "{last}");
        assert_eq!(note(&last, "authorization.k8s.io/decision"), "allow");
        assert!(note(&last, "authorization.k8s.io/reason").starts_with("observed: Role a/"), "{last}");
        assert!(note(&last, "gatelog.dev/shadow").starts_with("would be allowed: RBAC: "), "{last}");
        // Over HTTP/1.1, where the policy records nothing.
        let mut wire = plane.wire().await;
        wire.send(Plane::head("alice", "GET", EVENTS, &[])).await.unwrap();
        forwarded(&plane, true).await;
        let reply = wire.reply("GET").await;
        assert!(
            reply.code == 200
                && reply.header("warning").unwrap().contains(r#"cannot list resource \"events\""#)
        );
        let last = plane.last(&id_of(&reply)).await;
        assert!(last["level"] == "Metadata" && !note(&last, "gatelog.dev/observed").is_empty(), "{last}");
        // What is allowed has no warning; a failure further on has both.
        wire.send(Plane::head("alice", "GET", POD, &[])).await.unwrap();
        forwarded(&plane, true).await;
        assert_eq!(wire.reply("GET").await.header("warning"), None);
        // What is always enforced.
        let streams = [
            ("GET", EXEC, &upgrade::WEBSOCKET[..]),
            ("POST", EXEC, &upgrade::SPDY),
            ("GET", "/api/v1/namespaces/a/pods/p/attach", &upgrade::WEBSOCKET),
            ("POST", "/api/v1/namespaces/a/pods/p/portforward", &upgrade::SPDY),
            ("GET", "/api/v1/nodes/n/proxy/exec/a/p/c", &upgrade::SPDY),
            ("GET", POD, &[("Impersonate-User", "bob")]),
        ];
        for (method, target, headers) in streams {
            let mut wire = plane.wire().await;
            wire.send(Plane::head("alice", method, target, headers)).await.unwrap();
            let reply = wire.reply(method).await;
            assert_eq!((reply.code, reply.header("warning")), (403, None), "{method} {target}");
            let last = plane.last(&id_of(&reply)).await;
            assert_eq!(note(&last, "gatelog.dev/observed"), "");
        }
        assert!(!plane.upstream.called());
        assert_eq!(plane.metric("gatelog_observed_refusals_total").await, 2.0);
        assert_eq!(plane.metric("gatelog_enabled{part=\"enforcement\"}").await, 0.0);
        assert!(plane.admin("/readyz?verbose").await.contains("note: enforcement: off (mode observe: "));
    }
}

#[tokio::test]
async fn of_what_is_open_only_tunnels_are_ended_while_observing() {
    let mut plane = Plane::with(Options {
        alpn: &["http/1.1"],
        rights: "can alice get,list,watch,create - pods,pods/exec in=a",
        authorization: ", mode: observe",
        ..Options::default()
    })
    .await;
    let mut wire = plane.wire().await;
    wire.send(Plane::head("alice", "POST", EXEC, &upgrade::SPDY)).await.unwrap();
    let mut call = plane.upstream.call().await;
    let upgraded = hyper::upgrade::on(&mut call.request);
    let switched = [
        ("connection", "Upgrade"),
        ("upgrade", "SPDY/3.1"),
        ("x-stream-protocol-version", "v4.channel.k8s.io"),
    ];
    call.answer(answer(101, &switched, whole("")));
    let began = wire.head().await;
    assert_eq!(began.code, 101);
    let _open = soon(upgraded).await.unwrap();
    let alice = plane.caller("alice").await;
    let watching = alice.get(WATCH);
    let feed = plane.upstream.call().await.stream("application/json");
    let head = watching.head().await;
    assert!(!head.headers().contains_key("warning"));
    let mut watch = head.into_body();
    plane.folder.put("rbac.yaml", &manifest(&World::new(&["can zoe get - pods"])));
    assert_eq!(plane.gate().reloader().check_now().await, Look::Changed(vec!["rules"]));
    assert!(wire.closes().await);
    let last = plane.last(&id_of(&began)).await;
    assert!(note(&last, "gatelog.dev/end").starts_with("no longer allowed: "), "{last}");
    soon(feed.send(Ok("{}\n".into()))).await.unwrap();
    assert_eq!(piece(&mut watch).await.unwrap().unwrap(), "{}\n");
    // The next watch is observed, and told so.
    let watching = alice.get(WATCH);
    let _feed = plane.upstream.call().await.stream("application/json");
    let head = watching.head().await;
    assert!(head.headers()["warning"].to_str().unwrap().contains("cannot watch resource"));
}

/// Less than the demo's developers have in the cluster.
const NARROW: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: looker, namespace: shop}
rules: [{verbs: [get, list, watch], apiGroups: ['', apps], resources: [pods, deployments]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: lookers, namespace: shop}
subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: 'demo:developers'}]
roleRef: {kind: Role, apiGroup: rbac.authorization.k8s.io, name: looker}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_prints_what_is_observed() {
    let all = kubectls();
    if all.is_empty() {
        return;
    }
    let mut gate = Gate::start(Tweaks {
        authorization: "  rbac: {files: [narrow.yaml]}\n  mode: observe\n  contact: ask ops\n",
        files: &[("narrow.yaml", NARROW)],
        ..Tweaks::default()
    })
    .await;
    let work = move || {
        for kubectl in &all {
            let run = |args: &[&str]| gate.run(kubectl, DEVELOPER, args, b"");
            let services = run(&["get", "services"]);
            assert!(services.ok().contains("web"), "{services:?}");
            assert!(
                services.err.contains("Warning: would be refused if the rules were enforced: services is forbidden: User \"developer\" cannot list resource \"services\""),
                "{services:?}"
            );
            assert!(services.err.trim_end().ends_with("(ask ops)"), "{services:?}");
            let pods = run(&["get", "pods"]);
            assert!(pods.ok().contains("web-") && !pods.err.contains("Warning"), "{pods:?}");
            for refused in [&["exec", "deploy/web", "--", "id"][..], &["get", "pods", "--as", "joe"]] {
                let ran = run(refused);
                assert!(ran.failed().contains("forbidden"), "{ran:?}");
            }
        }
        gate
    };
    gate = tokio::task::spawn_blocking(work).await.unwrap();
    let record = gate.stop().await;
    let observed: Vec<_> = record.0.iter().filter(|e| !note(e, "gatelog.dev/observed").is_empty()).collect();
    assert!(!observed.is_empty());
    assert!(observed.iter().all(|e| note(e, "authorization.k8s.io/decision") == "allow"));
}
