//! The upstream in its moods: down, back again, leaving, refusing, of another protocol, too busy for one connection.

use crate::{
    frames,
    plane::{JSON, Options, Plane, acceptor, answer, message, soon, until, whole},
    raw::Wire,
};
use http_body_util::BodyExt as _;
use std::sync::{Arc, Mutex};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::server::TlsStream;

const PODS: &str = "/api/v1/namespaces/a/pods";
const BOTH: [&[&str]; 2] = [&["h2"], &["http/1.1"]];

#[tokio::test]
async fn an_upstream_that_is_down_is_503_and_found_again() {
    for alpn in BOTH {
        let mut plane = Plane::with(Options { alpn, ..Options::default() }).await;
        let alice = plane.caller("alice").await;
        for round in 0..2 {
            let asking = alice.get(PODS);
            plane.upstream.call().await.answer(answer(200, &[JSON], whole("{}")));
            assert_eq!(asking.whole().await.0, 200, "{alpn:?} {round}");
            plane.upstream.stop().await;
            let (code, headers, body) = alice.send("POST", PODS, Some(whole("{}"))).whole().await;
            assert_eq!((code, &*message(&body)), (503, "the upstream API server cannot be reached"));
            assert_eq!(headers["retry-after"], "1");
            let status: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(
                (&status["kind"], &status["reason"]),
                (&"Status".into(), &"ServiceUnavailable".into())
            );
            assert_eq!(plane.last(&headers).await["responseStatus"]["code"], 503);
            plane.upstream.listen().await;
        }
        assert_eq!(plane.metric("gatelog_upstream_errors_total{kind=\"connect\"}").await, 2.0);
    }
}

#[tokio::test]
async fn a_silent_upstream_is_found_out_once_for_all_who_wait() {
    let plane = Plane::with(Options { upstream: ", connectTimeout: 500ms", ..Options::default() }).await;
    plane.upstream.stop().await;
    // Accepts, and never says a word.
    let _silent = TcpListener::bind(plane.upstream.addr).await.unwrap();
    let alice = plane.caller("alice").await;
    let begun = std::time::Instant::now();
    let asking: Vec<_> = (0..20).map(|_| alice.get(PODS)).collect();
    for one in asking {
        assert_eq!(one.whole().await.0, 503);
    }
    assert!(begun.elapsed().as_millis() < 5_000, "one after another: {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_redirect_is_passed_on_and_not_followed() {
    let plane = Plane::new().await;
    let alice = plane.caller("alice").await;
    for (code, location) in [(301, "/elsewhere"), (307, "https://evil.test/"), (302, "/api/v1/secrets")] {
        let asking = alice.get(PODS);
        plane.upstream.call().await.answer(answer(code, &[("location", location)], whole("")));
        let (got, headers, _) = asking.whole().await;
        assert_eq!((got, headers["location"].to_str().unwrap()), (code, location));
        assert!(!plane.upstream.called());
    }
}

#[tokio::test]
async fn an_upstream_of_http1_has_its_connections_used_again() {
    let plane = Plane::with(Options { alpn: &["http/1.1"], ..Options::default() }).await;
    let alice = plane.caller("alice").await;
    let mut used = std::collections::BTreeSet::new();
    for n in 0..20 {
        let body = (n % 2 == 0).then(|| whole(vec![b' '; 100_000]));
        let asking = alice.send(if body.is_some() { "POST" } else { "GET" }, PODS, body);
        let mut call = plane.upstream.call().await;
        used.insert(call.connection);
        let received = soon(call.request.body_mut().collect()).await.unwrap().to_bytes().len();
        assert_eq!(received, if n % 2 == 0 { 100_000 } else { 0 });
        assert_eq!(call.request.version(), http::Version::HTTP_11);
        call.answer(answer(200, &[JSON], whole("{}")));
        assert_eq!(asking.whole().await.0, 200);
    }
    assert!(used.len() <= 3, "{used:?}");
}

#[tokio::test]
async fn watches_get_as_many_connections_as_they_need() {
    let plane = Plane::with(Options { streams: 40, ..Options::default() }).await;
    let (alice, bob) = (plane.caller("alice").await, plane.caller("bob").await);
    let mut open = Vec::new();
    let mut used = std::collections::BTreeMap::<usize, usize>::new();
    for n in 0..130 {
        let asking = if n % 2 == 0 { &alice } else { &bob }.get("/api/v1/pods?watch=1");
        let call = plane.upstream.call().await;
        *used.entry(call.connection).or_default() += 1;
        let feed = call.stream("application/json");
        open.push((asking.head().await, feed));
    }
    assert!(used.len() >= 4 && used.values().all(|streams| *streams <= 40), "{used:?}");
    assert!(used.len() <= 6, "{used:?}");
    drop(open);
    until(|| plane.gate().gateway().streams().is_empty()).await;
}

#[derive(Debug, Clone, Copy)]
enum Mood {
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code that counts the request among those not processed, then an end.
    Leave(u32),
    /// GOAWAY with NO_ERROR that counts it among the processed, then an end.
    LeaveAfter,
    /// The connection just ends.
    End,
}

/// An upstream of HTTP/2 by hand: the first request meets its mood, later ones are answered. Tells the requests it saw.
fn moody(tcp: TcpListener, acceptor: tokio_rustls::TlsAcceptor, mood: Mood) -> Arc<Mutex<usize>> {
    let seen = Arc::new(Mutex::new(0));
    let requests = seen.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = tcp.accept().await {
            let Ok(io) = acceptor.accept(tcp).await else { continue };
            tokio::spawn(speak(io, requests.clone(), mood));
        }
    });
    seen
}

async fn speak(io: TlsStream<TcpStream>, seen: Arc<Mutex<usize>>, mood: Mood) -> Option<()> {
    let (mut from, mut to) = tokio::io::split(io);
    let mut preface = [0; 24];
    from.read_exact(&mut preface).await.ok()?;
    to.write_all(&frames::frame(frames::SETTINGS, 0, 0, &[])).await.ok()?;
    loop {
        let mut head = [0; 9];
        from.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        from.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        if kind == frames::SETTINGS && flags & frames::ACK == 0 {
            to.write_all(&frames::frame(frames::SETTINGS, frames::ACK, 0, &[])).await.ok()?;
        }
        if kind == frames::PING && flags & frames::ACK == 0 {
            to.write_all(&frames::frame(frames::PING, frames::ACK, 0, &payload)).await.ok()?;
        }
        // A request is whole with its last frame.
        let whole = matches!(kind, frames::HEADERS | frames::DATA) && flags & frames::END_STREAM != 0;
        if !whole {
            continue;
        }
        let nth = {
            let mut seen = seen.lock().unwrap();
            *seen += 1;
            *seen
        };
        let goaway = |last: u32, code: u32| {
            frames::frame(frames::GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
        };
        let (reply, end) = match mood {
            // `:status: 204` of the static table.
            _ if nth > 1 => {
                let flags = frames::END_STREAM | frames::END_HEADERS;
                (frames::frame(frames::HEADERS, flags, stream, &[0x89]), false)
            }
            Mood::Reset(code) => (frames::frame(frames::RST_STREAM, 0, stream, &code.to_be_bytes()), false),
            Mood::Leave(code) => (goaway(stream.saturating_sub(2), code), true),
            Mood::LeaveAfter => (goaway(stream, 0), true),
            Mood::End => (Vec::new(), true),
        };
        to.write_all(&reply).await.ok()?;
        to.flush().await.ok()?;
        if end {
            let _ = to.shutdown().await;
            return None;
        }
    }
}

#[tokio::test]
async fn only_what_cannot_have_been_done_is_sent_again() {
    const REFUSED: u32 = 7;
    const INTERNAL: u32 = 2;
    const NO_ERROR: u32 = 0;
    // The mood, whether a request without a body is sent again; one with a body never is.
    let rows = [
        (Mood::Reset(REFUSED), true),
        (Mood::Reset(INTERNAL), false),
        (Mood::Leave(NO_ERROR), true),
        (Mood::Leave(INTERNAL), false),
        (Mood::LeaveAfter, false),
        (Mood::End, false),
    ];
    for (mood, again) in rows {
        for (method, body) in [("GET", false), ("DELETE", false), ("POST", true), ("PUT", true)] {
            let plane = Plane::new().await;
            plane.upstream.stop().await;
            let tcp = TcpListener::bind(plane.upstream.addr).await.unwrap();
            let seen = moody(tcp, acceptor(&plane.world, &["h2"]), mood);
            let alice = plane.caller("alice").await;
            let target = format!("{PODS}/p");
            let (code, _, answer) = alice.send(method, &target, body.then(|| whole("{}"))).whole().await;
            let (expected, times) = if again && !body { (204, 2) } else { (503, 1) };
            assert_eq!((code, *seen.lock().unwrap()), (expected, times), "{mood:?} {method}");
            if expected == 503 {
                let text = "the upstream API server broke off before it answered; the request may have been carried out";
                assert_eq!(message(&answer), text, "{mood:?} {method}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_malformed_is_counted() {
    let plane = Plane::new().await;
    let counted = "gatelog_http_malformed_total";
    let rows: [(&str, &[u8]); 5] = [
        ("http/1.1", b"GET /api HTTP/1.1\r\nBroken\r\n\r\n"),
        ("http/1.1", b"GET /api HTTP/9.9\r\n\r\n"),
        ("http/1.1", b"\x00\x01\x02\r\n\r\n"),
        ("h2", b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n"),
        // DATA on a stream that was never opened.
        ("h2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x01x"),
    ];
    for (n, (alpn, bytes)) in rows.iter().enumerate() {
        let mut wire = Wire::open(plane.address, &crate::raw::Tls::new(&plane.world.ca.pem(), None, alpn))
            .await
            .unwrap();
        wire.send(bytes).await.unwrap();
        while wire.more().await {}
        let expected = (n + 1) as f64;
        soon(async {
            while plane.metric(counted).await < expected {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(plane.metric(counted).await, expected, "{alpn} {:?}", String::from_utf8_lossy(bytes));
    }
    // Plain HTTP on the TLS port counts, too.
    let text = crate::raw::plain(plane.address, b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(text.ends_with("Client sent an HTTP request to an HTTPS server.\n"), "{text}");
    soon(async {
        while plane.metric(counted).await < 6.0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}
