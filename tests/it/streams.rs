//! Answers that last: given up at once when either side goes, counted, and never held in memory for a slow reader.

use crate::plane::{JSON, Options, Plane, answer, message, piece, pieces, soon, until, whole};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

const WATCH: &str = "/api/v1/namespaces/a/pods?watch=1";
const LOG: &str = "/api/v1/namespaces/a/pods/p/log?follow=1";
const BOTH: [&[&str]; 2] = [&["h2"], &["http/1.1"]];

/// A piece of 64 KiB.
fn block() -> Bytes {
    Bytes::from_static(&[b'x'; 64 << 10])
}

#[tokio::test]
async fn a_caller_who_leaves_takes_the_upstreams_request_along() {
    for alpn in BOTH {
        let mut plane = Plane::with(Options { alpn, ..Options::default() }).await;
        // Over HTTP/2, before the answer and in the middle of it.
        let alice = plane.caller("alice").await;
        let asking = alice.get(WATCH);
        let call = plane.upstream.call().await;
        let id = call.request.headers()["audit-id"].clone();
        asking.0.abort();
        soon(call.cancelled()).await;
        let headers = [("audit-id".parse().unwrap(), id)].into_iter().collect();
        let event = plane.last(&headers).await;
        assert_eq!(event["annotations"]["gatelog.dev/end"], "the caller left", "{event:#}");
        assert_eq!(event["responseStatus"]["message"], "Connection closed early");

        let asking = alice.get(WATCH);
        let feed = plane.upstream.call().await.stream("application/json");
        soon(feed.send(Ok("{}\n".into()))).await.unwrap();
        let (head, mut body) = asking.head().await.into_parts();
        assert_eq!(piece(&mut body).await.unwrap().unwrap(), "{}\n");
        drop(body);
        soon(feed.closed()).await;
        let event = plane.last(&head.headers).await;
        assert_eq!(event["annotations"]["gatelog.dev/end"], "the caller left");
        assert_eq!(event["annotations"]["gatelog.dev/bytes-out"], "3");

        // Over HTTP/1.1, where the connection goes.
        let mut wire = plane.wire().await;
        wire.send(Plane::head("alice", "GET", WATCH, &[])).await.unwrap();
        let feed = plane.upstream.call().await.stream("application/json");
        let head = wire.head().await;
        assert_eq!(head.code, 200);
        drop(wire);
        soon(feed.closed()).await;
        let id = head.header("audit-id").unwrap().parse().unwrap();
        let headers = [("audit-id".parse().unwrap(), id)].into_iter().collect();
        assert_eq!(plane.last(&headers).await["annotations"]["gatelog.dev/end"], "the caller left");
        until(|| plane.gate().gateway().streams().is_empty()).await;
    }
}

#[tokio::test]
async fn an_upstream_that_dies_mid_watch_is_told_to_the_caller_and_the_record() {
    for alpn in BOTH {
        let mut plane = Plane::with(Options { alpn, ..Options::default() }).await;
        let alice = plane.caller("alice").await;
        let asking = alice.get(WATCH);
        let feed = plane.upstream.call().await.stream("application/json");
        soon(feed.send(Ok("{}\n".into()))).await.unwrap();
        let (head, mut body) = asking.head().await.into_parts();
        assert_eq!(piece(&mut body).await.unwrap().unwrap(), "{}\n");
        plane.upstream.stop().await;
        assert!(piece(&mut body).await.unwrap().is_err(), "a watch that broke off looks like one that ended");
        let event = plane.last(&head.headers).await;
        let end = event["annotations"]["gatelog.dev/end"].as_str().unwrap_or_default();
        assert!(end.starts_with("the upstream broke off: "), "{end}");
        assert_eq!(event["annotations"]["gatelog.dev/bytes-out"], "3");
        // The connection to the caller lives.
        plane.upstream.listen().await;
        let asking = alice.get("/api/v1/pods");
        plane.upstream.call().await.answer(answer(200, &[JSON], whole("{}")));
        assert_eq!(asking.whole().await.0, 200);
    }
}

#[tokio::test]
async fn an_answer_that_came_whole_has_no_reason_for_its_end() {
    let mut plane = Plane::new().await;
    // HTTP/2 may tell the end in a frame of its own, later than a length lets an HTTP/1.1 caller see it.
    let mut wire = plane.wire().await;
    wire.send(Plane::head("alice", "GET", "/api/v1/namespaces/a/pods/p", &[])).await.unwrap();
    let (feed, body) = pieces();
    plane.upstream.call().await.answer(answer(200, &[JSON, ("content-length", "4")], body));
    soon(feed.send(Ok("{  }".into()))).await.unwrap();
    let reply = wire.reply("GET").await;
    assert_eq!(reply.text(), "{  }");
    let id = reply.header("audit-id").unwrap().parse().unwrap();
    let event = plane.last(&[("audit-id".parse().unwrap(), id)].into_iter().collect()).await;
    assert!(event["annotations"]["gatelog.dev/end"].is_null(), "{event:#}");
    assert_eq!(event["responseObject"], serde_json::json!({}));
    drop(feed);
}

#[tokio::test]
async fn a_slow_reader_holds_the_upstream_back() {
    for alpn in BOTH {
        let plane = Plane::with(Options { alpn, ..Options::default() }).await;
        let alice = plane.caller_with("alice", 64 << 10).await;
        let asking = alice.get("/api/v1/pods");
        let feed = plane.upstream.call().await.stream("application/json");
        let (fed, total) = (Arc::new(AtomicU64::new(0)), 50u64 << 20);
        let counted = fed.clone();
        let feeding = tokio::spawn(async move {
            while counted.load(SeqCst) < total && feed.send(Ok(block())).await.is_ok() {
                counted.fetch_add(64 << 10, SeqCst);
            }
        });
        let (_, mut body) = asking.head().await.into_parts();
        // It comes to a halt, with no more under way than windows and sockets hold.
        let mut before = u64::MAX;
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(150)).await;
            let now = fed.load(SeqCst);
            if now == before {
                break;
            }
            before = now;
        }
        assert!(before < 16 << 20, "{before} bytes went ahead of the reader");
        let mut got = 0;
        while let Some(piece) = piece(&mut body).await {
            got += piece.unwrap().len() as u64;
        }
        assert_eq!(got, total);
        feeding.await.unwrap();
    }
}

#[tokio::test]
async fn slow_readers_do_not_hold_up_others() {
    let plane = Plane::new().await;
    let slow = plane.caller_with("alice", 16 << 10).await;
    let mut held = Vec::new();
    for _ in 0..12 {
        let asking = slow.get(LOG);
        let call = plane.upstream.call().await;
        assert_eq!(call.connection, 1, "all share one connection");
        let feed = call.stream("text/plain");
        held.push(tokio::spawn(async move { while feed.send(Ok(block())).await.is_ok() {} }));
        held.push(tokio::spawn(async move {
            let response = asking.head().await;
            std::future::pending::<()>().await;
            drop(response);
        }));
    }
    // Twelve unread MiB later somebody else's list still flows.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let bob = plane.caller("bob").await;
    let asking = bob.get("/api/v1/pods");
    let call = plane.upstream.call().await;
    assert_eq!(call.connection, 1);
    call.answer(answer(200, &[JSON], whole(vec![b' '; 3 << 20])));
    assert_eq!(asking.whole().await.2.len(), 3 << 20);
    held.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn thirty_megabytes_go_both_ways() {
    for alpn in BOTH {
        let mut plane = Plane::with(Options { alpn, ..Options::default() }).await;
        let alice = plane.caller("alice").await;
        let (total, blocks) = (30u64 << 20, (30 << 20) / (64 << 10));
        // Up, through the proxy of a service, whose bodies have no limit; down as it comes.
        let (up, sent) = pieces();
        let asking = alice.send("POST", "/api/v1/namespaces/a/services/s/proxy/upload", Some(sent));
        let feeding = tokio::spawn(async move {
            for _ in 0..blocks {
                up.send(Ok(block())).await.unwrap();
            }
        });
        let mut call = plane.upstream.call().await;
        let mut received = 0;
        while let Some(frame) = soon(call.request.body_mut().frame()).await {
            received += frame.unwrap().into_data().unwrap().len() as u64;
        }
        assert_eq!(received, total);
        feeding.await.unwrap();
        let feed = call.stream("text/plain");
        let feeding = tokio::spawn(async move {
            for _ in 0..blocks {
                feed.send(Ok(block())).await.unwrap();
            }
        });
        let (_, headers, body) = asking.whole().await;
        assert_eq!(body.len() as u64, total);
        feeding.await.unwrap();
        let event = plane.last(&headers).await;
        assert_eq!(event["annotations"]["gatelog.dev/bytes-in"], total.to_string());
        assert_eq!(event["annotations"]["gatelog.dev/bytes-out"], total.to_string());
        assert!(event["annotations"]["gatelog.dev/end"].is_null());
    }
}

#[tokio::test]
async fn a_stream_is_ended_by_name_at_an_events_boundary() {
    let mut plane = Plane::new().await;
    let alice = plane.caller("alice").await;
    let asking = alice.get(WATCH);
    let feed = plane.upstream.call().await.stream("application/json;stream=watch");
    let (head, mut body) = asking.head().await.into_parts();
    let [(name, held)] = &plane.gate().gateway().streams().list()[..] else { panic!("no stream") };
    assert_eq!((held.right.effective.name(), &*held.what), ("alice", "watch /api/v1/namespaces/a/pods"));
    assert_eq!(held.audit_id, head.headers["audit-id"].to_str().unwrap());
    // In the middle of an event: its rest still comes, what follows does not.
    soon(feed.send(Ok("{\"a\":1}\n{\"b\"".into()))).await.unwrap();
    assert_eq!(piece(&mut body).await.unwrap().unwrap(), "{\"a\":1}\n{\"b\"");
    assert!(plane.gate().gateway().streams().end(*name, "revoked".into()));
    soon(feed.send(Ok(":2}\n{\"c\":3".into()))).await.unwrap();
    assert_eq!(piece(&mut body).await.unwrap().unwrap(), ":2}\n");
    assert!(piece(&mut body).await.is_none(), "no clean end");
    soon(feed.closed()).await;
    let event = plane.last(&head.headers).await;
    assert_eq!(event["annotations"]["gatelog.dev/end"], "revoked");
    assert_eq!(event["annotations"]["gatelog.dev/bytes-out"], "16");
    assert_eq!(event["responseStatus"]["code"], 200);
}

#[tokio::test]
async fn a_stream_is_ended_by_name_before_it_is_answered() {
    let mut plane = Plane::new().await;
    let alice = plane.caller("alice").await;
    let asking = alice.get(WATCH);
    let call = plane.upstream.call().await;
    let streams = plane.gate().gateway().streams().clone();
    assert_eq!(streams.end_where(|held| held.right.effective.name() == "alice", &"revoked".into()), 1);
    soon(call.cancelled()).await;
    let (code, headers, body) = asking.whole().await;
    assert_eq!((code, &*message(&body)), (503, "revoked"));
    let event = plane.last(&headers).await;
    assert_eq!(
        (&event["responseStatus"]["code"], &event["annotations"]["gatelog.dev/end"]),
        (&503.into(), &"revoked".into())
    );
    assert!(streams.is_empty());
}
