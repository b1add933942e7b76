//! One id for a request: the caller's, the upstream's, the record's, the access log's; and never one that the caller made up.

use crate::{
    conformance::record::Record,
    raw::{self, Reply, Tls, Wire},
    scene::{Scene, upgrade},
    upstream::{Act, Heard},
};
use serde_json::Value;
use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

const FORGED: &str = "made-up-by-the-caller";
const RIGHTS: &str = "can alice * - pods,pods/exec,pods/log in=d\nuser bob dev";

/// The program in front of a scene's upstream, and its log.
struct Program {
    child: Child,
    address: SocketAddr,
    log: mpsc::Receiver<Value>,
    seen: HashMap<String, Value>,
}

impl Program {
    fn start(scene: &Scene) -> Self {
        let config = scene.folder.0.join("gatelog.yaml");
        let text = std::fs::read_to_string(&config).unwrap().replace("dir: audit", "dir: record");
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_gatelog"))
            .args(["serve", "--log-format", "json", "--config"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = mpsc::channel();
        let pipe = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let _ = lines.send(serde_json::from_str::<Value>(&line).unwrap_or_default());
            }
        });
        let address = loop {
            let line = log.recv_timeout(Duration::from_secs(20)).expect("it does not serve");
            if line["message"] == "serving" || line["fields"]["message"] == "serving" {
                let address = line["address"].as_str().or(line["fields"]["address"].as_str());
                break address.unwrap().parse().unwrap();
            }
        };
        Self { child, address, log, seen: HashMap::new() }
    }

    /// The access line with this id.
    fn access(&mut self, id: &str) -> Option<Value> {
        while !self.seen.contains_key(id) {
            let line = self.log.recv_timeout(Duration::from_secs(5)).ok()?;
            if let Some(id) = line["audit_id"].as_str() {
                self.seen.insert(id.to_owned(), line.clone());
            }
        }
        self.seen.get(id).cloned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// By the name in the path.
fn script(heard: &Heard) -> Vec<Act> {
    let line = heard.line();
    let name = line.split(['/', '?', ' ']).find(|part| part.starts_with("x-")).unwrap_or_default();
    match name {
        "x-missing" => vec![Act::answer("404 Not Found", "{}")],
        "x-empty" => vec![Act::say("HTTP/1.1 204 No Content\r\n\r\n")],
        "x-own" => vec![Act::say("HTTP/1.1 200 OK\r\nAudit-Id: theirs\r\nContent-Length: 0\r\n\r\n")],
        "x-spdy" => vec![Act::say(upgrade::SPDY_101), Act::Close],
        "x-websocket" => vec![Act::say(upgrade::WEBSOCKET_101), Act::Close],
        "x-refused" => vec![Act::answer("403 Forbidden", "{}"), Act::Close],
        "x-redirect" => vec![Act::answer("302 Found", "{}"), Act::Close],
        "x-other" => vec![Act::say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"), Act::Close],
        "x-silent" => vec![Act::Listen],
        "x-gone" => vec![Act::Close],
        "x-broken" => vec![Act::say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"), Act::Close],
        _ => vec![Act::answer("200 OK", "{}")],
    }
}

struct Row {
    name: &'static str,
    who: &'static str,
    method: &'static str,
    target: &'static str,
    headers: &'static [(&'static str, &'static str)],
    code: u16,
    /// Whether the upstream hears of it.
    forwarded: bool,
}

const fn row(
    name: &'static str,
    who: &'static str,
    method: &'static str,
    target: &'static str,
    code: u16,
    forwarded: bool,
) -> Row {
    Row { name, who, method, target, headers: &[], code, forwarded }
}

const ROWS: [Row; 23] = [
    row("plain", "alice", "GET", "/api/v1/namespaces/d/pods/p", 200, true),
    row("change", "alice", "DELETE", "/api/v1/namespaces/d/pods/p", 200, true),
    row("head", "alice", "HEAD", "/api/v1/namespaces/d/pods/p", 200, true),
    row("no content", "alice", "DELETE", "/api/v1/namespaces/d/pods/x-empty", 204, true),
    row("not found", "alice", "GET", "/api/v1/namespaces/d/pods/x-missing", 404, true),
    row("an id of the upstream's", "alice", "GET", "/api/v1/namespaces/d/pods/x-own", 200, true),
    row("broken off", "alice", "GET", "/api/v1/namespaces/d/pods/x-gone", 503, true),
    row("broken off within", "alice", "GET", "/api/v1/namespaces/d/pods/x-broken", 200, true),
    row("late", "alice", "GET", "/api/v1/namespaces/d/pods/x-silent?timeout=1s", 504, true),
    row("bad request", "alice", "GET", "/api//v1", 400, false),
    row("bad method", "alice", "TRACE", "/api", 400, false),
    row("unauthorized", "mallory", "GET", "/api/v1/namespaces/d/pods/p", 401, false),
    row("forbidden", "bob", "GET", "/api/v1/namespaces/d/pods/p", 403, false),
    row("forbidden to all", "alice", "POST", "/api/v1/namespaces/e/pods/p/exec?command=ls", 403, false),
    Row {
        headers: &[("Content-Length", "99999999")],
        ..row("too large", "alice", "POST", "/api/v1/namespaces/d/pods", 413, false)
    },
    Row {
        headers: &[("Impersonate-User", "carol")],
        ..row("impersonation", "alice", "GET", "/api/v1/namespaces/d/pods/p", 403, false)
    },
    Row {
        headers: &[("Impersonate-Uid", "1")],
        ..row("half an impersonation", "alice", "GET", "/api/v1/namespaces/d/pods/p", 400, false)
    },
    Row {
        headers: &upgrade::SPDY,
        ..row("spdy", "alice", "POST", "/api/v1/namespaces/d/pods/x-spdy/exec?command=ls", 101, true)
    },
    Row {
        headers: &upgrade::WEBSOCKET,
        ..row("websocket", "alice", "GET", "/api/v1/namespaces/d/pods/x-websocket/exec?command=ls", 101, true)
    },
    Row {
        headers: &upgrade::SPDY,
        ..row(
            "refused upgrade",
            "alice",
            "POST",
            "/api/v1/namespaces/d/pods/x-refused/exec?command=l",
            403,
            true,
        )
    },
    Row {
        headers: &upgrade::SPDY,
        ..row(
            "redirected upgrade",
            "alice",
            "POST",
            "/api/v1/namespaces/d/pods/x-redirect/exec?a=b",
            500,
            true,
        )
    },
    Row {
        headers: &upgrade::SPDY,
        ..row("another protocol", "alice", "POST", "/api/v1/namespaces/d/pods/x-other/exec?a=b", 500, true)
    },
    Row {
        headers: &[("Connection", "Upgrade"), ("Upgrade", "h2c")],
        ..row("no such upgrade", "alice", "POST", "/api/v1/namespaces/d/pods/p/exec?command=ls", 400, false)
    },
];

async fn check(row: &Row, reply: &Reply, scene: &Scene, record: &mut Record, program: &mut Program) {
    let name = row.name;
    assert_eq!(reply.code, row.code, "{name}: {reply:?}");
    let ids: Vec<_> = reply.headers.iter().filter(|(n, _)| n == "audit-id").map(|(_, v)| v).collect();
    let [id] = ids[..] else { panic!("{name}: {ids:?}") };
    let form: Vec<usize> = id.split('-').map(str::len).collect();
    assert_eq!(form, [8, 4, 4, 4, 12], "{name}: {id}");
    assert_eq!(id.as_bytes()[14], b'4', "{name}: {id}");

    let heard = scene.upstream.heard();
    let heard: Vec<_> = heard.iter().filter(|heard| heard.values("audit-id") == [id.as_str()]).collect();
    assert_eq!(heard.len(), usize::from(row.forwarded), "{name}: the upstream heard {heard:?}");

    let events = record.events(id, crate::conformance::record::ended).await;
    let last = events.last().unwrap_or_else(|| panic!("{name}: no event of {id}"));
    // What broke off has the code that was told.
    assert_eq!(last["responseStatus"]["code"], row.code, "{name}: {last:#}");
    for event in &events {
        assert_eq!(event["annotations"]["gatelog.dev/client-audit-id"], FORGED, "{name}: {event:#}");
        assert_eq!(event.to_string().matches(FORGED).count(), 1, "{name}: {event:#}");
    }
    if matches!(row.name, "forbidden" | "forbidden to all" | "impersonation") {
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(message.ends_with(&format!("audit id {id})")), "{name}: {message}");
    }
    let access = program.access(id).unwrap_or_else(|| panic!("{name}: no access line of {id}"));
    assert_eq!(access["code"], row.code, "{name}: {access}");
    assert!(!access.to_string().contains(FORGED), "{name}: {access}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_id_everywhere_on_every_way_out() {
    let scene = Scene::new(RIGHTS, script).await;
    let mut program = Program::start(&scene);
    let mut record = Record::at(scene.folder.0.join("record"));
    let tls = Tls::new(&scene.ca(), None, "http/1.1");
    for row in &ROWS {
        let mut headers = vec![("Audit-Id", FORGED)];
        headers.extend(row.headers);
        let mut wire = Wire::open(program.address, &tls).await.unwrap();
        wire.send(scene.head(row.who, row.method, row.target, &headers)).await.unwrap();
        let reply = if row.code == 101 { wire.head().await } else { wire.reply(row.method).await };
        // A session's lines come with its end.
        drop(wire);
        check(row, &reply, &scene, &mut record, &mut program).await;
    }
    let tls = Tls::new(&scene.ca(), None, "h2");
    for row in ROWS.iter().filter(|row| row.headers.is_empty() && row.name != "broken off within") {
        let request = http::Request::builder()
            .method(row.method)
            .uri(format!("https://gate{}", row.target))
            .header("authorization", format!("Bearer {}-token", row.who))
            .header("audit-id", FORGED)
            .body(())
            .unwrap();
        let reply = raw::ask_http2(Ipv4Addr::LOCALHOST, program.address, &tls, request, "", false).await;
        let reply = reply.unwrap_or_else(|error| panic!("{}: {error}", row.name));
        check(row, &reply, &scene, &mut record, &mut program).await;
    }
    // No upstream at all.
    scene.upstream.stop();
    let lost = row("no upstream", "alice", "DELETE", "/api/v1/namespaces/d/pods/p", 503, false);
    let tls = Tls::new(&scene.ca(), None, "http/1.1");
    let head = scene.head(lost.who, lost.method, lost.target, &[("Audit-Id", FORGED)]);
    let reply = raw::ask(program.address, &tls, lost.method, &head).await.unwrap();
    check(&lost, &reply, &scene, &mut record, &mut program).await;
}
