//! What one caller may have under way, how large and how slow a request may be.

use crate::plane::{JSON, Options, Pieces, Plane, answer, message, piece, pieces, soon, whole};
use bytes::Bytes;
use http_body_util::BodyExt as _;

const TOO_MANY: &str = "Too many requests, please try again later.";
const TIMEOUT: &str = "Timeout: request did not complete within the allotted timeout";

fn ok() -> http::Response<Pieces> {
    answer(200, &[JSON], whole("{}"))
}

#[tokio::test]
async fn too_much_under_way_is_429_and_places_are_given_back() {
    let mut plane = Plane::with(Options {
        limits: ", requestsInFlight: 3, requestsInFlightPerUser: 2, streams: 2, streamsPerUser: 1",
        ..Options::default()
    })
    .await;
    for target in ["/api/v1/pods", "/api/v1/pods?watch=1"] {
        let [alice, bob, carol] =
            [plane.caller("alice").await, plane.caller("bob").await, plane.caller("carol").await];
        let stream = target.contains("watch");
        let mut held = vec![alice.get(target)];
        let mut calls = vec![plane.upstream.call().await];
        if !stream {
            held.push(alice.get(target));
            calls.push(plane.upstream.call().await);
        }
        // The user's own cap, then everybody's.
        for (refused, cap) in [(&alice, "-per-user"), (&carol, "")] {
            if cap.is_empty() {
                held.push(bob.get(target));
                calls.push(plane.upstream.call().await);
            }
            let (code, headers, body) = refused.get(target).whole().await;
            assert_eq!((code, &*message(&body)), (429, TOO_MANY), "{target}");
            assert_eq!(headers["retry-after"], "1");
            assert_eq!(plane.last(&headers).await["responseStatus"]["code"], 429);
            let kind = if stream { "streams" } else { "requests" };
            assert_eq!(plane.metric(&format!("gatelog_limited_total{{kind=\"{kind}{cap}\"}}")).await, 1.0);
        }
        // One ends by itself, the others because their callers leave: all places are free again.
        calls.remove(0).answer(ok());
        assert_eq!(held.remove(0).whole().await.0, 200);
        held.iter().for_each(|asking| asking.0.abort());
        for call in calls {
            soon(call.cancelled()).await;
        }
        let again = carol.get(target);
        let call = loop {
            let call = plane.upstream.call().await;
            if call.path() == "/api/v1/pods" {
                break call;
            }
        };
        call.answer(ok());
        assert_eq!(again.whole().await.0, 200);
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_413_declared_or_streamed() {
    for policy in ["metadata", "everything"] {
        let plane =
            Plane::with(Options { policy, limits: ", bufferedBodies: 8Mi", ..Options::default() }).await;
        // Declared: refused before anything is read or sent.
        let mut wire = plane.wire().await;
        let target = "/api/v1/namespaces/a/pods";
        wire.send(Plane::head("alice", "POST", target, &[("Content-Length", "3145729")])).await.unwrap();
        let reply = wire.reply("POST").await;
        assert_eq!((reply.code, &*message(&reply.body)), (413, "Request entity too large: limit is 3145728"));
        assert!(!plane.upstream.called());
        // Streamed: read whole for the record, or passed on while the upstream already takes it.
        for target in [target, "/unknown"] {
            let alice = plane.caller("alice").await;
            let (feed, body) = pieces();
            let asking = alice.send("POST", target, Some(body));
            let pushing = tokio::spawn(async move {
                for _ in 0..50 {
                    let piece = Ok(Bytes::from(vec![b' '; 64 << 10]));
                    if feed.send(piece).await.is_err() {
                        break;
                    }
                }
            });
            let taking = async {
                if target == "/unknown" {
                    let call = plane.upstream.call().await;
                    let (head, body) = call.request.into_parts();
                    assert!(soon(body.collect()).await.is_err(), "{head:?} came to an end");
                }
            };
            let ((code, _, body), ()) = tokio::join!(asking.whole(), taking);
            let text = "Request entity too large: limit is 3145728";
            assert_eq!((code, &*message(&body)), (413, text), "{policy} {target}");
            pushing.await.unwrap();
        }
    }
}

#[tokio::test]
async fn buffered_bodies_share_one_budget() {
    let plane = Plane::with(Options {
        limits: ", bufferedBodies: 1Mi",
        listen: ", bodyReadTimeout: 10s",
        ..Options::default()
    })
    .await;
    let target = "/api/v1/namespaces/a/configmaps";
    let (alice, bob) = (plane.caller("alice").await, plane.caller("bob").await);
    let (feed, body) = pieces();
    let first = alice.send("POST", target, Some(body));
    for _ in 0..12 {
        soon(feed.send(Ok(vec![b' '; 64 << 10].into()))).await.unwrap();
    }
    // Three quarters are taken, and half is asked for.
    let second = bob.send("POST", target, Some(whole(vec![b' '; 512 << 10])));
    let (code, headers, body) = second.whole().await;
    assert_eq!((code, &*message(&body)), (429, TOO_MANY));
    assert_eq!(headers["retry-after"], "1");
    assert_eq!(plane.metric("gatelog_limited_total{kind=\"buffered-bodies\"}").await, 1.0);
    drop(feed);
    let call = plane.upstream.call().await;
    call.answer(ok());
    assert_eq!(first.whole().await.0, 200);
}

#[tokio::test]
async fn a_request_has_its_time_and_no_more() {
    let mut plane = Plane::new().await;
    let alice = plane.caller("alice").await;
    // Before the answer: 504, and the upstream's request is given up.
    let late = alice.get("/api/v1/pods?timeout=100ms");
    soon(plane.upstream.call().await.cancelled()).await;
    let (code, headers, body) = late.whole().await;
    assert_eq!((code, &*message(&body)), (504, TIMEOUT));
    assert_eq!(plane.last(&headers).await["responseStatus"]["code"], 504);
    // After its head: cut off, over HTTP/2 by a reset, over HTTP/1.1 by an end without the last chunk.
    let asking = alice.get("/api/v1/pods?timeout=300ms");
    let feed = plane.upstream.call().await.stream("application/json");
    soon(feed.send(Ok("half".into()))).await.unwrap();
    let (head, mut body) = asking.head().await.into_parts();
    assert_eq!(piece(&mut body).await.unwrap().unwrap(), "half");
    assert!(piece(&mut body).await.unwrap().is_err());
    soon(feed.closed()).await;
    assert_eq!(plane.last(&head.headers).await["annotations"]["gatelog.dev/end"], "deadline");

    let mut wire = plane.wire().await;
    wire.send(Plane::head("alice", "GET", "/api/v1/pods?timeout=300ms", &[])).await.unwrap();
    let feed = plane.upstream.call().await.stream("application/json");
    soon(feed.send(Ok("half".into()))).await.unwrap();
    assert_eq!(wire.head().await.code, 200);
    assert_eq!(wire.chunk().await.unwrap(), b"half");
    assert!(wire.closes().await, "ended without a last chunk");
}

#[tokio::test]
async fn a_body_that_stops_is_given_up() {
    for policy in ["metadata", "everything"] {
        let mut plane =
            Plane::with(Options { policy, listen: ", bodyReadTimeout: 100ms", ..Options::default() }).await;
        for target in ["/api/v1/namespaces/a/pods", "/unknown"] {
            let mut wire = plane.wire().await;
            wire.send(Plane::head("alice", "POST", target, &[("Content-Length", "10")]) + "{").await.unwrap();
            let reply = wire.reply("POST").await;
            let text = "no piece of the request body came for 100ms";
            assert_eq!((reply.code, &*message(&reply.body)), (400, text), "{policy} {target}");
            assert!(wire.closes().await, "the rest of the body could be taken for a request");
        }
        // And the request's time is up before the silence is.
        let alice = plane.caller("alice").await;
        let (_feed, body) = pieces();
        let asking = alice.send("POST", "/api/v1/namespaces/a/pods?timeout=50ms", Some(body));
        let (code, headers, _) = asking.whole().await;
        assert_eq!(code, 504, "{policy}");
        plane.last(&headers).await;
    }
}

#[tokio::test]
async fn bodies_in_large_pieces_are_read_whole() {
    // hyper reads HTTP/1.1 in ever larger pieces, a body's first two may be more than a MiB together.
    let plane = Plane::new().await;
    let mut wire = plane.wire().await;
    let length = (3 << 20) - 1;
    for _ in 0..4 {
        let declared = length.to_string();
        let headers = [("Content-Length", &*declared), ("Content-Type", "application/json")];
        let mut bytes =
            Plane::head("alice", "POST", "/api/v1/namespaces/a/configmaps", &headers).into_bytes();
        bytes.resize(bytes.len() + length, b' ');
        let answering = async {
            let mut call = plane.upstream.call().await;
            let body = soon(call.request.body_mut().collect()).await.unwrap().to_bytes();
            call.answer(ok());
            body.len()
        };
        let (sent, got) = tokio::join!(wire.send(bytes), answering);
        sent.unwrap();
        assert_eq!((got, wire.reply("POST").await.code), (length, 200));
    }
}
