//! How the gate leaves: in order, within its time, and with everything on record.

use crate::{
    conformance::record,
    plane::{JSON, Options, Plane, answer, ask_admin, piece, soon, whole},
    raw::Wire,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const WATCH: &str = "/api/v1/namespaces/a/pods?watch=1";
const EXEC: &str = "/api/v1/namespaces/a/pods/p/exec?command=sh";
const LEAVING: &str = "the gate is shutting down";

/// What became of each request, by path: stages, and why it ended. Every one has exactly one last event.
fn ends(plane: &mut Plane) -> BTreeMap<String, (String, String)> {
    let all = plane.record.all();
    all.values()
        .map(|events| {
            let last: Vec<&Value> = events.iter().filter(|e| e["stage"] == "ResponseComplete").collect();
            assert_eq!(last.len(), 1, "{events:#?}");
            let end = last[0]["annotations"]["gatelog.dev/end"].as_str().unwrap_or_default().to_owned();
            (last[0]["requestURI"].as_str().unwrap().to_owned(), (record::stages(events), end))
        })
        .collect()
}

async fn exec(plane: &Plane) -> Wire {
    let mut wire = plane.wire().await;
    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "SPDY/3.1"),
        ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
    ];
    wire.send(Plane::head("alice", "POST", EXEC, &upgrade)).await.unwrap();
    let call = plane.upstream.call().await;
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "SPDY/3.1"),
        ("x-stream-protocol-version", "v4.channel.k8s.io"),
    ];
    let mut call = call;
    let upgraded = hyper::upgrade::on(&mut call.request);
    call.answer(answer(101, &headers, whole("")));
    assert_eq!(wire.head().await.code, 101);
    // Holds the upstream's side open.
    tokio::spawn(async move {
        let held = upgraded.await;
        std::future::pending::<()>().await;
        drop(held);
    });
    wire
}

#[tokio::test]
async fn what_is_under_way_ends_in_order() {
    let mut plane = Plane::with(Options {
        alpn: &["http/1.1"],
        listen: ", shutdownDelayDuration: 100ms, shutdownGracePeriod: 2s",
        ..Options::default()
    })
    .await;
    let admin = plane.admin_address();
    let alice = plane.caller("alice").await;
    // A request, a watch between two events and one within an event, over both protocols, and a tunnel.
    let slow = alice.get("/api/v1/pods");
    let slow_call = plane.upstream.call().await;
    let between = alice.get(WATCH);
    let between_feed = plane.upstream.call().await.stream("application/json");
    soon(between_feed.send(Ok("{}\n".into()))).await.unwrap();
    let (_, mut between) = between.head().await.into_parts();
    assert_eq!(piece(&mut between).await.unwrap().unwrap(), "{}\n");
    let mut within = plane.wire().await;
    within.send(Plane::head("alice", "GET", &format!("{WATCH}&within"), &[])).await.unwrap();
    let within_feed = plane.upstream.call().await.stream("application/json");
    soon(within_feed.send(Ok("{\"a\"".into()))).await.unwrap();
    assert_eq!(within.head().await.code, 200);
    assert_eq!(within.chunk().await.unwrap(), b"{\"a\"");
    let mut idle = plane.wire().await;
    let mut tunnel = exec(&plane).await;

    let gate = plane.take_gate();
    let health = gate.health().clone();
    let begun = Instant::now();
    let draining = tokio::spawn(gate.drain());
    crate::plane::until(|| health.answer(gatelog::telemetry::health::Question::Ready, "").code == 500).await;
    assert!(ask_admin(admin, "/readyz").await.contains("shutdown"), "readiness is still told");
    // The watches end cleanly where their events do.
    assert!(piece(&mut between).await.is_none(), "no clean end");
    soon(between_feed.closed()).await;
    assert!(idle.closes().await, "an idle connection stays");
    soon(within_feed.send(Ok(":1}\n{\"b\"".into()))).await.unwrap();
    assert_eq!(within.chunk().await.unwrap(), b":1}\n");
    assert_eq!(within.chunk().await, None, "no last chunk");
    assert!(within.closes().await);
    // No new connections; the request under way completes.
    assert!(tokio::net::TcpStream::connect(plane.address).await.is_err());
    slow_call.answer(answer(200, &[JSON], whole("{}")));
    assert_eq!(slow.whole().await.0, 200);
    soon(alice.connection).await.unwrap();
    // The tunnel has the whole grace period.
    assert!(!draining.is_finished());
    assert!(tunnel.closes().await, "the tunnel is not cut");
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    soon(draining).await.unwrap();
    let expected = [
        (EXEC, "RSC", LEAVING),
        ("/api/v1/pods", "RC", ""),
        (WATCH, "RSC", LEAVING),
        (&format!("{WATCH}&within"), "RSC", LEAVING),
    ];
    let expected = expected.map(|(p, s, e)| (p.to_owned(), (s.to_owned(), e.to_owned())));
    assert_eq!(ends(&mut plane), BTreeMap::from(expected));
}

#[tokio::test]
async fn what_does_not_end_is_cut_and_recorded() {
    for alpn in [&["h2"][..], &["http/1.1"]] {
        let listen = ", shutdownGracePeriod: 200ms";
        let mut plane = Plane::with(Options { alpn, listen, ..Options::default() }).await;
        let alice = plane.caller("alice").await;
        // Unanswered, a request and a watch; half an answer; half an event; over HTTP/1.1 as well.
        let _asking = [alice.get("/api/v1/pods"), alice.get(WATCH)];
        let _calls = [plane.upstream.call().await, plane.upstream.call().await];
        let half = alice.get("/api/v1/nodes");
        let feed = plane.upstream.call().await.stream("application/json");
        soon(feed.send(Ok("{".into()))).await.unwrap();
        let _half = half.head().await;
        let event = alice.get("/api/v1/nodes?watch=1");
        let feed = plane.upstream.call().await.stream("application/json");
        soon(feed.send(Ok("{".into()))).await.unwrap();
        let _event = event.head().await;
        let mut wire = plane.wire().await;
        wire.send(Plane::head("alice", "GET", "/api/v1/secrets", &[])).await.unwrap();
        let _call = plane.upstream.call().await;

        soon(plane.take_gate().drain()).await;
        let ends = ends(&mut plane);
        let told: Vec<_> = ends.iter().map(|(uri, (_, end))| (uri.as_str(), end.as_str())).collect();
        let expected = [
            "/api/v1/namespaces/a/pods?watch=1",
            "/api/v1/nodes",
            "/api/v1/nodes?watch=1",
            "/api/v1/pods",
            "/api/v1/secrets",
        ];
        assert_eq!(told, expected.map(|uri| (uri, LEAVING)), "{alpn:?}");
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_program_at_once() {
    let plane = Plane::new().await;
    let config = plane.folder.0.join("gatelog.yaml");
    let text = std::fs::read_to_string(&config).unwrap().replace("dir: audit", "dir: audit-of-the-program");
    std::fs::write(&config, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_gatelog"))
        .args(["serve", "--log-format", "json", "--config"])
        .arg(&config)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The log tells the address, and each signal.
    let (lines, mut log) = tokio::sync::mpsc::unbounded_channel();
    let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    for pipe in [Box::new(out) as Box<dyn std::io::Read + Send>, Box::new(err)] {
        let lines = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
    }
    drop(lines);
    let mut told = async |text: &str| {
        loop {
            let line = soon(log.recv()).await.unwrap_or_else(|| panic!("never told: {text}"));
            if line.contains(text) {
                return serde_json::from_str::<Value>(&line).unwrap();
            }
        }
    };
    let serving = told("\"serving\"").await;
    let find = |v: &Value| v["address"].as_str().or(v["fields"]["address"].as_str()).map(str::to_owned);
    let address: std::net::SocketAddr =
        find(&serving).unwrap_or_else(|| panic!("{serving}")).parse().unwrap();
    // A request that never ends would keep it for the grace period of 30 s.
    let tls = crate::raw::Tls::new(&plane.world.ca.pem(), None, "http/1.1");
    let mut wire = Wire::open(address, &tls).await.unwrap();
    wire.send(Plane::head("alice", "GET", "/api/v1/pods", &[])).await.unwrap();
    let _call = plane.upstream.call().await;
    let signal = || {
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    };
    signal();
    told("a second signal stops at once").await;
    signal();
    let status = soon(tokio::task::spawn_blocking(move || child.wait())).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(1));
}
