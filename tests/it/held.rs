//! Nobody has the whole of an answer before its last event is in the journal, whatever the protocols and however the answer ends.

use crate::{
    conformance::record::ended,
    plane::{Call, JSON, Options, Plane, answer, piece, pieces, soon, whole},
    raw::Reply,
    scene::{Scene, upgrade},
    upstream::Act,
};
use bytes::Bytes;
use http::HeaderMap;
use std::time::Duration;
use tokio::time::timeout;

const POD: &str = "/api/v1/namespaces/a/pods/p";
const BOTH: [&[&str]; 2] = [&["h2"], &["http/1.1"]];
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
const BODY: &str = r#"{"kind":"Pod","apiVersion":"v1"}"#;

/// How an upstream ends its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// After the length it has declared.
    Length,
    /// By saying so, with the last piece or after it.
    Open,
    /// A 200 without a byte.
    Empty,
    /// A 204.
    Nothing,
    /// A 404 with a Status.
    Missing,
}

const FORMS: [Form; 5] = [Form::Length, Form::Open, Form::Empty, Form::Nothing, Form::Missing];

impl Form {
    fn answer(self, call: Call, head: bool) {
        let length = BODY.len().to_string();
        let (status, headers, body) = match self {
            Self::Length => (200, vec![JSON, ("content-length", length.as_str())], BODY),
            Self::Missing => (404, vec![JSON, ("content-length", length.as_str())], BODY),
            Self::Empty => (200, vec![("content-length", "0")], ""),
            Self::Nothing => (204, vec![], ""),
            Self::Open => {
                let (feed, body) = pieces();
                call.answer(answer(200, &[JSON], body));
                tokio::spawn(async move {
                    for part in [&BODY[..10], &BODY[10..]] {
                        let _ = feed.send(Ok(Bytes::from_static(part.as_bytes()))).await;
                    }
                });
                return;
            }
        };
        let body = if head || body.is_empty() { pieces().1 } else { whole(body) };
        call.answer(answer(status, &headers, body));
    }

    fn has_body(self) -> bool {
        !matches!(self, Self::Empty | Self::Nothing)
    }
}

#[track_caller]
fn recorded(plane: &mut Plane, headers: &HeaderMap, what: &str) {
    let id = headers["audit-id"].to_str().unwrap();
    let events = plane.record.all().get(id).map(Vec::as_slice).unwrap_or_default();
    assert!(ended(events), "{what}: the answer was there before its last event: {events:#?}");
}

fn headers(reply: &Reply) -> HeaderMap {
    [("audit-id".parse().unwrap(), reply.header("audit-id").unwrap().parse().unwrap())].into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_event_is_there_when_the_answer_is() {
    const TIMES: usize = 9;
    let mut asked = 0;
    for alpn in BOTH {
        let mut plane = Plane::with(Options { alpn, ..Options::default() }).await;
        let alice = plane.caller("alice").await;
        let mut wire = plane.wire().await;
        for n in 0..METHODS.len() * FORMS.len() * TIMES {
            let (method, form) = (METHODS[n % METHODS.len()], FORMS[n / METHODS.len() % FORMS.len()]);
            let (head, change) = (method == "HEAD", !matches!(method, "GET" | "HEAD"));
            let body = if change { BODY } else { "" };
            let what = format!("{method} {form:?} from {alpn:?}");

            let asking = alice.send(method, POD, change.then(|| whole(BODY)));
            form.answer(plane.upstream.call().await, head);
            let (parts, mut answer) = asking.head().await.into_parts();
            let mut had = 0;
            // A change's last byte, all others' end.
            while !(change && form.has_body() && had == BODY.len()) {
                let Some(piece) = piece(&mut answer).await else { break };
                had += piece.unwrap().len();
            }
            recorded(&mut plane, &parts.headers, &format!("{what} over HTTP/2"));
            assert_eq!(had, if form.has_body() && !head { BODY.len() } else { 0 }, "{what} over HTTP/2");

            let length = body.len().to_string();
            let request = Plane::head("alice", method, POD, &[("content-length", &length), JSON]);
            wire.send(request + body).await.unwrap();
            form.answer(plane.upstream.call().await, head);
            let reply = wire.head().await;
            let chunked = reply.header("transfer-encoding").is_some();
            let mut had = 0;
            if head || reply.code == 204 {
            } else if chunked && change {
                while had < BODY.len() {
                    had += wire.chunk().await.unwrap().len();
                }
            } else if chunked {
                while let Some(chunk) = wire.chunk().await {
                    had += chunk.len();
                }
            } else {
                let length = reply.header("content-length").unwrap().parse().unwrap();
                had = wire.take(length).await.len();
            }
            recorded(&mut plane, &headers(&reply), &format!("{what} over HTTP/1.1"));
            assert_eq!(had, if form.has_body() && !head { BODY.len() } else { 0 }, "{what} over HTTP/1.1");
            if chunked && change {
                assert_eq!(wire.chunk().await, None, "{what}");
            }
            asked += 2;
        }
    }
    assert!(asked > 1000, "{asked}");
}

#[tokio::test]
async fn what_the_gate_answers_itself_is_recorded_first_too() {
    let rights = "can alice get - pods in=a";
    let mut plane = Plane::with(Options { rights, ..Options::default() }).await;
    let review = r#"{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","spec":{"resourceAttributes":{"verb":"delete","resource":"pods"}}}"#;
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let rows = [
        ("GET", "/api/v1/namespaces/b/pods", "", 403),
        ("HEAD", "/api/v1/namespaces/b/pods", "", 403),
        ("DELETE", POD, "", 403),
        ("POST", reviews, review, 201),
        ("POST", "/api/v1/namespaces/a/pods", "{}", 403),
    ];
    let alice = plane.caller("alice").await;
    for (method, target, body, code) in rows.into_iter().cycle().take(rows.len() * 20) {
        let asking = alice.send(method, target, (!body.is_empty()).then(|| whole(body)));
        let (got, headers, _) = asking.whole().await;
        assert_eq!(got, code, "{method} {target}");
        recorded(&mut plane, &headers, &format!("{method} {target}"));
    }
}

#[tokio::test]
async fn only_a_changes_answer_is_a_piece_behind() {
    for alpn in BOTH {
        let plane = Plane::with(Options { alpn, ..Options::default() }).await;
        let alice = plane.caller("alice").await;
        for (method, target, behind) in [
            ("DELETE", "/api/v1/namespaces/a/pods", true),
            ("PATCH", POD, true),
            ("GET", "/api/v1/namespaces/a/pods", false),
            ("GET", "/api/v1/namespaces/a/pods?watch=1", false),
            ("GET", "/api/v1/namespaces/a/pods/p/log?follow=1", false),
            ("POST", "/api/v1/namespaces/a/services/s/proxy/", false),
        ] {
            let asking = alice.send(method, target, None);
            let feed = plane.upstream.call().await.stream("application/json");
            let (_, mut body) = asking.head().await.into_parts();
            let say = async |text: &'static str| soon(feed.send(Ok(text.into()))).await.unwrap();
            say("{}\n").await;
            if behind {
                let early = timeout(Duration::from_millis(50), piece(&mut body)).await;
                assert!(early.is_err(), "{method} {target}: {early:?}");
                say("{\"a\":1}\n").await;
            }
            assert_eq!(piece(&mut body).await.unwrap().unwrap(), "{}\n", "{method} {target}");
            drop(feed);
            if behind {
                assert_eq!(piece(&mut body).await.unwrap().unwrap(), "{\"a\":1}\n", "{method} {target}");
            }
            assert!(piece(&mut body).await.is_none(), "{method} {target}");
        }
    }
}

#[tokio::test]
async fn a_tunnel_is_closed_after_its_last_event() {
    let rights = "can alice create - pods/exec in=d\ncan alice get - pods/exec in=d";
    for (headers, switched) in
        [(&upgrade::SPDY[..], upgrade::SPDY_101), (&upgrade::WEBSOCKET[..], upgrade::WEBSOCKET_101)]
    {
        let script = move |_: &_| vec![Act::say(switched), Act::say("bytes"), Act::Close];
        let mut scene = Scene::new(rights, script).await;
        for _ in 0..20 {
            let mut wire = scene.wire("alice").await;
            let target = "/api/v1/namespaces/d/pods/p/exec?command=ls&stdout=true";
            wire.send(scene.head("alice", "POST", target, headers)).await.unwrap();
            let head = wire.head().await;
            assert_eq!(head.code, 101);
            assert_eq!(wire.take(5).await, b"bytes");
            assert!(!wire.more().await, "the end");
            let events =
                scene.record.all().get(head.header("audit-id").unwrap()).cloned().unwrap_or_default();
            assert!(ended(&events), "closed before the last event: {events:#?}");
            assert_eq!(events.last().unwrap()["annotations"]["gatelog.dev/bytes-out"], "5");
        }
    }
}
