//! What an attacker would try first: at the parser, at the handshake, at the record, by leaving at the wrong moment.
//!
//! The groups follow a survey of how gates of this kind were attacked; what a table of [`crate::conformance`] or an
//! advisory in [`crate::cves`] already says is not repeated.

use crate::{
    conformance::record,
    frames::{self, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2},
    raw::{self, Reply, Tls, Wire},
    scene::{Options, Scene, upgrade},
    upstream::{Act, Heard, Upstream},
};
use gatelog::reload::Look;
use serde_json::Value;
use std::{fs, net::Ipv4Addr, time::Duration};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};

/// alice may stream and write, bob may nothing, imp may impersonate anybody.
const RIGHTS: &str = "
user alice dev
user bob
can alice get,list,watch,create,update,patch,delete - pods,pods/log,pods/exec,pods/attach,pods/portforward,configmaps
can imp impersonate - users,groups
can imp impersonate authentication.k8s.io uids,userextras/scopes
";

const LIST: &str = r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#;
const EXEC: &str = "/api/v1/namespaces/team/pods/p/exec?command=id";
const CONFIGMAPS: &str = "/api/v1/namespaces/team/configmaps";

async fn scene(script: impl Fn(&Heard) -> Vec<Act> + Send + Sync + 'static) -> Scene {
    Scene::new(RIGHTS, script).await
}

async fn answering() -> Scene {
    scene(|_| vec![Act::answer("200 OK", LIST)]).await
}

// --- identity ---

/// Whatever names and values a caller invents, what goes upstream about identity is what the gate wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invented_identity_headers_never_arrive() {
    let scene = answering().await;
    let names = [
        "Impersonate-User",
        "IMPERSONATE-USER",
        "impersonate-group",
        "Impersonate-Uid",
        "Impersonate-Extra-Scopes",
        "Impersonate-Extra-",
        "Impersonate-Extra-a%2fb",
        "Impersonate-Extra-%zz",
        "Impersonate_User",
        "impersonate_group",
        "Impersonate-",
        "Impersonate",
        "Impersonate-Foo",
        "X-Remote-User",
        "x-remote-group",
        "X-Remote-Uid",
        "X-Remote-Extra-Scopes",
        "X-Remote-",
        "X_Remote_User",
        "X-Remote_Group",
    ];
    let values = ["admin", "system:masters", "", "admin,root", "admin ", "\tadmin", "\u{e9}", "a\u{1}b"];
    for name in names {
        for value in values {
            for who in ["alice", "bob"] {
                let before = scene.upstream.heard().len();
                let reply = scene.ask(who, "GET", "/api/v1/pods", &[(name, value)]).await;
                let heard = scene.upstream.heard();
                let what = format!("{who} {name}: {value:?} -> {} {}", reply.code, reply.text());
                match reply.code {
                    200 => {
                        assert_eq!((who, heard.len()), ("alice", before + 1), "{what}");
                        only_alice(heard.last().unwrap());
                    }
                    400 | 403 => assert_eq!(heard.len(), before, "{what}"),
                    _ => panic!("{what}"),
                }
            }
        }
    }
}

fn only_alice(heard: &Heard) {
    let identity = heard.headers().filter(|(n, _)| {
        let n = n.to_ascii_lowercase().replace('_', "-");
        n.starts_with("impersonate") || n.starts_with("x-remote") || n.starts_with("authorization")
    });
    let mut identity: Vec<String> =
        identity.map(|(n, v)| format!("{}: {v}", n.to_ascii_lowercase())).collect();
    identity.sort();
    assert_eq!(
        identity,
        [
            "authorization: Bearer gatelog-token",
            "impersonate-group: dev",
            "impersonate-group: system:authenticated",
            "impersonate-uid: uid-alice",
            "impersonate-user: alice",
        ],
        "{}",
        heard.head
    );
}

/// Trailers are headers that come late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_do_not_arrive() {
    let scene = answering().await;
    let mut wire = scene.wire("alice").await;
    let mut request = scene.head(
        "alice",
        "POST",
        CONFIGMAPS,
        &[
            ("Transfer-Encoding", "chunked"),
            ("Trailer", "Impersonate-User"),
            ("Content-Type", "application/json"),
        ],
    );
    request.extend(b"2\r\n{}\r\n0\r\nImpersonate-User: admin\r\nX-Remote-User: admin\r\n\r\n");
    wire.send(request).await.unwrap();
    assert_eq!(wire.reply("POST").await.code, 200);
    let heard = scene.upstream.heard().pop().unwrap();
    assert_eq!(heard.body, b"{}");
    assert_eq!(heard.values("impersonate-user"), ["alice"], "{}", heard.head);
    assert!(heard.values("trailer").is_empty(), "{}", heard.head);
}

/// HTTP/2 carries spaces that HTTP/1.1 would trim: ` system:masters` must not lose its space on the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spaces_around_a_value_are_not_trimmed_into_another_identity() {
    let scene = answering().await;
    for (name, value) in [
        ("impersonate-user", " alice"),
        ("impersonate-user", "alice\t"),
        ("impersonate-group", " system:masters"),
        ("impersonate-group", "system:masters "),
        ("impersonate-uid", " 0"),
        ("impersonate-extra-scopes", "all "),
    ] {
        let mut h2 = Http2::open(scene.address(), &scene.ca(), &[]).await.unwrap();
        let mut fields = frames::get("/api/v1/pods", "Bearer imp-token");
        if name != "impersonate-user" {
            fields.push(("impersonate-user", "joe"));
        }
        fields.push((name, value));
        h2.send(HEADERS, END_HEADERS | END_STREAM, 1, &frames::block(&fields)).await.unwrap();
        // The status is a literal or an index; what matters is that the upstream heard nothing.
        let _ = h2.until(HEADERS).await;
        assert!(scene.upstream.heard().is_empty(), "{name}: {value:?} was forwarded");
    }
}

/// A thousand impersonation headers are a thousand questions; they are few enough, or refused, and cheap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_impersonation_headers_are_bounded() {
    let scene = answering().await;
    let groups: Vec<String> = (0..2_000).map(|n| format!("g{n}")).collect();
    for (count, codes) in [(100, vec![403, 200]), (900, vec![400, 403]), (2_000, vec![431])] {
        let mut headers = vec![("Impersonate-User", "joe")];
        headers.extend(groups.iter().take(count).map(|g| ("Impersonate-Group", g.as_str())));
        let reply = scene.ask("imp", "GET", "/api/v1/pods", &headers).await;
        assert!(codes.contains(&reply.code), "{count}: {} {}", reply.code, reply.text());
    }
}

// --- the parser ---

/// What no second parser should have to guess at is refused, and nothing of it goes upstream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_are_refused_and_counted() {
    let scene = answering().await;
    let before = scene.metric("gatelog_http_malformed_total").await;
    let auth = "Host: x\r\nAuthorization: Bearer alice-token\r\n";
    let rows: &[(&str, String)] = &[
        (
            "two lengths",
            format!("POST {CONFIGMAPS} HTTP/1.1\r\n{auth}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}"),
        ),
        (
            "two lengths in one",
            format!("POST {CONFIGMAPS} HTTP/1.1\r\n{auth}Content-Length: 2, 3\r\n\r\n{{}}"),
        ),
        ("a negative length", format!("POST {CONFIGMAPS} HTTP/1.1\r\n{auth}Content-Length: -1\r\n\r\n")),
        ("a signed length", format!("POST {CONFIGMAPS} HTTP/1.1\r\n{auth}Content-Length: +2\r\n\r\n{{}}")),
        ("no coding", format!("POST {CONFIGMAPS} HTTP/1.1\r\n{auth}Transfer-Encoding: identity\r\n\r\n{{}}")),
        (
            "chunked not last",
            format!("POST {CONFIGMAPS} HTTP/1.1\r\n{auth}Transfer-Encoding: chunked, identity\r\n\r\n"),
        ),
        (
            "an unknown coding",
            format!("POST {CONFIGMAPS} HTTP/1.1\r\n{auth}Transfer-Encoding: xchunked\r\n\r\n"),
        ),
        ("a folded line", format!("GET /api/v1/pods HTTP/1.1\r\n{auth}X-A: b\r\n c\r\n\r\n")),
        (
            "a space before the colon",
            format!("GET /api/v1/pods HTTP/1.1\r\n{auth}Impersonate-User : admin\r\n\r\n"),
        ),
        ("a name of nothing", format!("GET /api/v1/pods HTTP/1.1\r\n{auth}: admin\r\n\r\n")),
        ("no colon", format!("GET /api/v1/pods HTTP/1.1\r\n{auth}Impersonate-User\r\n\r\n")),
        ("a NUL", format!("GET /api/v1/pods HTTP/1.1\r\n{auth}X-A: b\0c\r\n\r\n")),
        ("a bare CR", format!("GET /api/v1/pods HTTP/1.1\r\n{auth}X-A: b\rImpersonate-User: admin\r\n\r\n")),
        ("an odd version", format!("GET /api/v1/pods HTTP/1.2\r\n{auth}\r\n")),
        ("no version", "GET /api/v1/pods\r\n\r\n".into()),
        ("two spaces", format!("GET  /api/v1/pods HTTP/1.1\r\n{auth}\r\n")),
        ("a control byte", format!("GET /api/v1/\u{1}pods HTTP/1.1\r\n{auth}\r\n")),
        ("a method of nothing", format!(" /api/v1/pods HTTP/1.1\r\n{auth}\r\n")),
        ("another protocol", "SSH-2.0-OpenSSH_9.9\r\n\r\n".into()),
    ];
    for (what, request) in rows {
        let mut wire = scene.wire("-").await;
        wire.send(request).await.unwrap();
        let reply = wire.reply("GET").await;
        assert!(matches!(reply.code, 0 | 400), "{what}: {} {}", reply.code, reply.text());
        assert!(wire.closes().await, "{what}: the connection goes on");
        assert!(scene.upstream.heard().is_empty(), "{what} was forwarded: {:#?}", scene.upstream.heard());
    }
    let counted = scene.metric("gatelog_http_malformed_total").await - before;
    assert!(counted >= rows.len() as f64 - 3.0, "only {counted} of {} were counted", rows.len());
}

/// CL and TE together: one body, the one both sides agree on, and no second request hidden in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_length_beside_chunks_hides_no_request() {
    let scene = answering().await;
    let mut wire = scene.wire("alice").await;
    let mut request = scene.head(
        "alice",
        "POST",
        CONFIGMAPS,
        &[("Content-Length", "4"), ("Transfer-Encoding", "chunked"), ("Content-Type", "application/json")],
    );
    request.extend(b"2\r\n{}\r\n0\r\n\r\nGET /api/v1/secrets HTTP/1.1\r\nHost: x\r\n\r\n");
    wire.send(request).await.unwrap();
    let reply = wire.reply("POST").await;
    for heard in scene.upstream.heard() {
        assert!(heard.line().starts_with("POST "), "{}", heard.head);
        assert_eq!(heard.body, b"{}");
        assert!(
            heard.values("content-length").len() + heard.values("transfer-encoding").len() == 1,
            "{}",
            heard.head
        );
    }
    assert!(matches!(reply.code, 200 | 400), "{} {}", reply.code, reply.text());
    // The hidden request, if it is taken for one at all, has no credentials.
    let hidden = wire.reply("GET").await;
    assert!(matches!(hidden.code, 0 | 400 | 401), "{} {}", hidden.code, hidden.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_0_and_pipelining_are_served_in_order() {
    let scene = answering().await;
    let mut wire = scene.wire("-").await;
    wire.send("GET /api/v1/pods HTTP/1.0\r\nAuthorization: Bearer alice-token\r\n\r\n").await.unwrap();
    assert_eq!(wire.reply("GET").await.code, 200);
    assert!(wire.closes().await);
    let mut wire = scene.wire("-").await;
    let mut both = scene.head("alice", "GET", "/api/v1/pods", &[]);
    both.extend(scene.head("bob", "GET", "/api/v1/pods", &[]));
    wire.send(both).await.unwrap();
    // One connection, two callers: each is judged by what came with the request.
    assert_eq!(wire.reply("GET").await.code, 200);
    assert_eq!(wire.reply("GET").await.code, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_have_a_size() {
    let scene = answering().await;
    let big = "x".repeat(1_200_000);
    let reply = scene.ask("alice", "GET", "/api/v1/pods", &[("X-Big", &big)]).await;
    assert_eq!(reply.code, 431, "{}", reply.text());
    let many: Vec<(String, String)> = (0..1_001).map(|n| (format!("X-{n}"), "x".into())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let reply = scene.ask("alice", "GET", "/api/v1/pods", &many).await;
    assert_eq!(reply.code, 431, "{}", reply.text());
    let reply = scene.ask("alice", "GET", "/api/v1/pods", &many[..900]).await;
    assert_eq!(reply.code, 200, "{}", reply.text());
    let path = format!("/api/v1/pods?labelSelector={}", "x".repeat(100_000));
    let reply = scene.ask("alice", "GET", &path, &[]).await;
    assert!(matches!(reply.code, 200 | 400 | 414), "{} {}", reply.code, reply.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_have_a_size_on_http_2_too() {
    let scene = answering().await;
    let mut h2 = Http2::open(scene.address(), &scene.ca(), &[]).await.unwrap();
    let mut fields = frames::get("/api/v1/pods", "Bearer alice-token");
    let names: Vec<String> = (0..1_100).map(|n| format!("x-{n}")).collect();
    fields.extend(names.iter().map(|n| (n.as_str(), "x")));
    let block = frames::block(&fields);
    h2.send(HEADERS, END_HEADERS | END_STREAM, 1, &block).await.unwrap();
    assert!(h2.next().await.is_some());
    while let Some(frame) = h2.next().await {
        if frame.stream == 1 || frame.kind == GOAWAY {
            break;
        }
    }
    assert!(scene.upstream.heard().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_is_told_so() {
    let scene = answering().await;
    for request in ["GET /api/v1/pods HTTP/1.1\r\nHost: x\r\n\r\n", "POST / HTTP/1.0\r\n\r\n"] {
        let text = raw::plain(scene.address(), request.as_bytes()).await;
        assert_eq!(text, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
    }
}

/// CONNECT and its kind would make the gate a proxy for anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_no_forward_proxy() {
    let scene = answering().await;
    for (method, target) in [
        ("CONNECT", "example.com:443"),
        ("CONNECT", "/api/v1/pods"),
        ("GET", "http://example.com/"),
        ("GET", "example.com:443"),
        ("OPTIONS", "*"),
        ("TRACE", "/api/v1/pods"),
        ("PRI", "*"),
        ("PROPFIND", "/api/v1/pods"),
        ("Get", "/api/v1/pods"),
    ] {
        let reply = scene.ask("alice", method, target, &[]).await;
        assert!(matches!(reply.code, 0 | 400), "{method} {target}: {} {}", reply.code, reply.text());
        assert!(scene.upstream.heard().is_empty(), "{method} {target} was forwarded");
    }
    let reply = scene.ask("bob", "GET", "/api/v1/pods", &[("X-HTTP-Method-Override", "DELETE")]).await;
    assert_eq!(reply.code, 403);
}

/// Extended CONNECT (RFC 8441) is an upgrade in disguise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extended_connect_is_not_offered() {
    let scene = answering().await;
    let mut h2 = Http2::open(scene.address(), &scene.ca(), &[]).await.unwrap();
    let mut fields = frames::get(EXEC, "Bearer alice-token");
    fields[0].1 = "CONNECT";
    fields.insert(1, (":protocol", "websocket"));
    h2.send(HEADERS, END_HEADERS, 1, &frames::block(&fields)).await.unwrap();
    while let Some(frame) = h2.next().await {
        if frame.kind == frames::SETTINGS {
            let offered = frame.payload.chunks(6).any(|s| s == [0, 8, 0, 0, 0, 1]);
            assert!(!offered, "SETTINGS_ENABLE_CONNECT_PROTOCOL is on");
        } else if frame.stream == 1 || frame.kind == GOAWAY {
            break;
        }
    }
    assert!(scene.upstream.heard().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subresource_is_its_own_right() {
    let rights = "
can plain * - pods,serviceaccounts,namespaces,nodes
can scaler update apps deployments/scale
";
    let scene = Scene::new(rights, |_| vec![Act::answer("200 OK", "{}")]).await;
    for (who, method, target, code) in [
        ("plain", "GET", "/api/v1/namespaces/team/pods/p", 200),
        ("plain", "PATCH", "/api/v1/namespaces/team/pods/p/ephemeralcontainers", 403),
        ("plain", "POST", "/api/v1/namespaces/team/pods/p/eviction", 403),
        ("plain", "POST", "/api/v1/namespaces/team/pods/p/binding", 403),
        ("plain", "POST", "/api/v1/namespaces/team/serviceaccounts/s/token", 403),
        ("plain", "GET", "/api/v1/namespaces/team/pods/p/unheardof", 403),
        ("plain", "PUT", "/api/v1/namespaces/team/finalize", 403),
        ("plain", "GET", "/api/v1/nodes/n/metrics", 403),
        ("scaler", "PUT", "/apis/apps/v1/namespaces/team/deployments/d/scale", 200),
        ("scaler", "PUT", "/apis/apps/v1/namespaces/team/deployments/d", 403),
    ] {
        let reply = scene.ask(who, method, target, &[]).await;
        assert_eq!(reply.code, code, "{who} {method} {target}: {}", reply.text());
    }
}

// --- upgrades ---

/// Which headers ask for an upgrade, where it is allowed, and what arrives upstream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_streams_upgrade() {
    let scene = scene(|h| {
        let spdy = h.values("upgrade").iter().any(|v| v.eq_ignore_ascii_case("spdy/3.1"));
        if spdy { vec![Act::say(upgrade::SPDY_101), Act::Echo] } else { vec![Act::answer("200 OK", LIST)] }
    })
    .await;
    let spdy = |connection: &'static str, protocol: &'static str| {
        vec![
            ("Connection", connection),
            ("Upgrade", protocol),
            ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
        ]
    };
    for (target, headers, codes) in [
        (EXEC, spdy("Upgrade", "SPDY/3.1"), [101, 101]),
        (EXEC, spdy("keep-alive, upgrade", "SPDY/3.1"), [101, 101]),
        (EXEC, spdy("UPGRADE", "spdy/3.1"), [101, 101]),
        // Not asked for: the upstream answers a plain request (kube-apiserver: 400).
        (EXEC, spdy("close", "SPDY/3.1"), [200, 200]),
        (EXEC, spdy("noupgrade", "SPDY/3.1"), [200, 200]),
        // Not known.
        (EXEC, spdy("Upgrade", "h2c"), [400, 400]),
        (EXEC, spdy("Upgrade", "SPDY/3.1, websocket"), [400, 400]),
        (EXEC, spdy("Upgrade", "TLS/1.0"), [400, 400]),
        // Not a stream: an upgrade is ignored and does not arrive.
        ("/api/v1/pods", spdy("Upgrade", "SPDY/3.1"), [200, 400]),
        ("/version", spdy("Upgrade", "SPDY/3.1"), [200, 400]),
    ] {
        let method = if target == EXEC { "POST" } else { "GET" };
        let mut wire = scene.wire("alice").await;
        wire.send(scene.head("alice", method, target, &headers)).await.unwrap();
        let reply = wire.reply(method).await;
        assert!(codes.contains(&reply.code), "{target} {headers:?}: {} {}", reply.code, reply.text());
        if reply.code == 200 {
            let heard = scene.upstream.heard().pop().unwrap();
            assert!(
                heard.values("upgrade").is_empty() && heard.values("connection").is_empty(),
                "{}",
                heard.head
            );
        }
    }
}

/// Bytes behind the request's head wait for the 101, and then go first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_bytes_wait_for_the_101() {
    for (method, headers, answer) in [
        ("POST", upgrade::SPDY.as_slice(), upgrade::SPDY_101),
        ("GET", upgrade::WEBSOCKET.as_slice(), upgrade::WEBSOCKET_101),
    ] {
        let scene = scene(move |_| vec![Act::say(answer), Act::say("WELCOME"), Act::Echo]).await;
        let mut wire = scene.wire("alice").await;
        let mut request = scene.head("alice", method, EXEC, headers);
        request.extend(b"EARLY");
        wire.send(request).await.unwrap();
        assert_eq!(wire.head().await.code, 101, "{method}");
        assert_eq!(wire.take(12).await, b"WELCOMEEARLY", "{method}");
        wire.send("MORE").await.unwrap();
        assert_eq!(wire.take(4).await, b"MORE", "{method}");
    }
}

/// A tunnel's end is recorded with what went through it, whoever ends it and however.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_ends_once_with_its_bytes() {
    for end in ["finish", "vanish", "upstream"] {
        let mut scene = scene(move |_| {
            let last = if end == "upstream" { Act::Close } else { Act::Echo };
            vec![Act::say(upgrade::SPDY_101), Act::say("0123456789"), last]
        })
        .await;
        let mut wire = scene.wire("alice").await;
        wire.send(scene.head("alice", "POST", EXEC, &upgrade::SPDY)).await.unwrap();
        let reply = wire.head().await;
        assert_eq!(reply.code, 101);
        assert_eq!(wire.take(10).await, b"0123456789");
        match end {
            "finish" => {
                wire.send("12345").await.unwrap();
                assert_eq!(wire.take(5).await, b"12345");
                wire.finish().await.unwrap();
                assert!(wire.closes().await);
            }
            "upstream" => assert!(wire.closes().await),
            _ => {}
        }
        drop(wire);
        let events = scene.ended(&reply).await;
        assert_eq!(record::line(&events), "RSC create v1:pods/exec team/p allow", "{end}");
        let last = events.last().unwrap();
        assert_eq!(record::code(last), 101, "{end}");
        let bytes = last["annotations"].to_string();
        let (up, down) = if end == "finish" { (5, 15) } else { (0, 10) };
        for n in [up, down] {
            assert!(bytes.contains(&format!("\"{n}\"")), "{end}: {n} is not in {bytes}");
        }
        assert!(scene.gate.gateway().streams().is_empty(), "{end}");
    }
}

// --- the record ---

/// What a caller writes into a header stays inside its JSON string.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_cannot_write_lines_into_the_record() {
    let mut scene = answering().await;
    let long = "m".repeat(500_000);
    for (name, value) in [
        ("User-Agent", "\u{1b}[2Jkubectl"),
        ("User-Agent", "x\"},{\"kind\":\"Event\",\"auditID\":\"forged\"}"),
        ("User-Agent", "é\u{80}"),
        ("User-Agent", long.as_str()),
        ("X-Forwarded-For", "1.2.3.4, \"},{\""),
        ("Audit-ID", "../../etc/passwd"),
        ("Audit-ID", "a\tb"),
        ("Audit-ID", long.as_str()),
    ] {
        let reply = scene.ask("alice", "GET", "/api/v1/pods", &[(name, value)]).await;
        if reply.code == 400 {
            continue;
        }
        assert_eq!(reply.code, 200, "{name}: {}", reply.text());
        let events = scene.ended(&reply).await;
        assert_eq!(record::stages(&events), "RC", "{name}");
        assert_eq!(events[0]["sourceIPs"], serde_json::json!(["127.0.0.1"]));
        assert!(events[0]["userAgent"].as_str().unwrap_or_default().len() <= 1_040, "{name}");
        assert!(reply.header("audit-id").unwrap().len() <= 64, "{name}");
    }
    assert!(!scene.record.all().contains_key("forged"));
    for entry in fs::read_dir(scene.folder.0.join("audit")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "jsonl") {
            let text = fs::read(&path).unwrap();
            assert!(text.iter().all(|b| *b == b'\n' || *b >= 0x20), "a control byte in {path:?}");
        }
    }
}

/// Exactly one last event, wherever the caller leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leaves_is_recorded_once() {
    let mut scene = scene(|h| {
        let line = h.line();
        if line.contains("watch=1") {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
            vec![Act::say(head), Act::say("c\r\n{\"type\":\"\"}\n\r\n"), Act::Listen]
        } else if line.contains("half") {
            vec![Act::say("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{\"a"), Act::Listen]
        } else if line.contains("never") {
            vec![Act::Listen]
        } else {
            vec![Act::answer("200 OK", LIST)]
        }
    })
    .await;
    let pods = "/api/v1/namespaces/team/pods";
    // In the middle of the body, while the upstream thinks, in the middle of an answer, in a watch.
    for (what, method, target, body, wait) in [
        ("body", "POST", format!("{CONFIGMAPS}?x=body"), "Content-Length: 100\r\n\r\n{\"a", false),
        (
            "chunks",
            "POST",
            format!("{CONFIGMAPS}?x=chunks"),
            "Transfer-Encoding: chunked\r\n\r\n5\r\n{",
            false,
        ),
        ("never", "GET", format!("{pods}/never"), "\r\n", false),
        ("half", "GET", format!("{pods}/half"), "\r\n", true),
        ("watch", "GET", format!("{pods}?watch=1"), "\r\n", true),
    ] {
        let mut wire = scene.wire("alice").await;
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice-token\r\nUser-Agent: {what}\r\n{body}"
        );
        wire.send(request).await.unwrap();
        if wait {
            assert_eq!(wire.head().await.code, 200, "{what}");
        } else if what == "never" {
            scene.upstream.until(|h| h.iter().any(|h| h.line().contains("never"))).await;
        } else {
            // The request is under way when its first event is there.
            by_agent(&mut scene, what, |e| !e.is_empty()).await;
        }
        drop(wire);
        let events = by_agent(&mut scene, what, record::ended).await;
        let stages = record::stages(&events);
        let ends = stages.chars().filter(|c| "CP".contains(*c)).count();
        assert_eq!(ends, 1, "{what}: {stages}");
        assert!(stages.starts_with('R'), "{what}: {stages}");
    }
    // Nothing is left behind.
    timeout(Duration::from_secs(5), async {
        while !scene.gate.gateway().streams().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    scene.upstream.until(|h| h.iter().filter(|h| h.line().starts_with("GET")).all(|h| h.ended)).await;
}

/// The events of the one request with this user agent, once `done` holds for them.
async fn by_agent(scene: &mut Scene, agent: &str, done: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let found = timeout(Duration::from_secs(10), async {
        loop {
            let all = scene.record.all();
            if let Some(events) = all.values().find(|e| e[0]["userAgent"] == agent)
                && done(events)
            {
                return events.clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("the events of {agent} do not end: {:#?}", scene.record.all()))
}

// --- availability ---

/// A connection that never says anything, or says it byte by byte, is ended by a timeout, and others are served meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_callers_are_ended() {
    let options =
        Options { listen: ", handshakeTimeout: 500ms, readHeaderTimeout: 500ms", ..Options::default() };
    let scene = Scene::with(RIGHTS, options, |_| vec![Act::answer("200 OK", LIST)]).await;
    let mut silent = TcpStream::connect(scene.address()).await.unwrap();
    let mut half = TcpStream::connect(scene.address()).await.unwrap();
    half.write_all(&[0x16, 3, 1]).await.unwrap();
    let mut slow = scene.wire("alice").await;
    slow.send("GET /api/v1/pods HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    assert_eq!(scene.ask("alice", "GET", "/api/v1/pods", &[]).await.code, 200);
    for tcp in [&mut silent, &mut half] {
        assert!(raw::hangs_up(tcp).await);
    }
    while slow.send("X-Slow: 1\r\n").await.is_ok() && !ended(&mut slow).await {}
    let reply = slow.head().await;
    assert!(matches!(reply.code, 0 | 408), "{}", reply.code);
    assert!(scene.upstream.heard().len() == 1);
}

async fn ended(wire: &mut Wire) -> bool {
    match timeout(Duration::from_millis(50), wire.more()).await {
        Ok(more) => !more,
        Err(_) => false,
    }
}

/// A bad new certificate or file changes nothing; a good one serves new handshakes while old connections go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_reload_changes_nothing() {
    let scene = answering().await;
    let mut old = scene.wire("alice").await;
    for (file, bad) in [
        ("server.crt", "not a certificate"),
        ("ca.crt", ""),
        ("rbac.yaml", "kind: ["),
        ("tokens.csv", "one,two\n"),
    ] {
        let good = fs::read_to_string(scene.folder.0.join(file)).unwrap();
        scene.folder.put(file, bad);
        let look = scene.gate.reloader().check_now().await;
        assert!(matches!(look, Look::Refused(_)), "{file}: {look:?}");
        assert_eq!(scene.ask("alice", "GET", "/api/v1/pods", &[]).await.code, 200, "{file}");
        scene.folder.put(file, &good);
    }
    old.send(scene.head("alice", "GET", "/api/v1/pods", &[])).await.unwrap();
    assert_eq!(old.reply("GET").await.code, 200);
}

/// The chain of a certificate is judged for every request, so a connection does not outlive its authority.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_does_not_outlive_its_authority() {
    let scene = answering().await;
    let mut wire = scene.wire("cert:masters").await;
    let ask = scene.head("-", "GET", "/api/v1/pods", &[]);
    wire.send(&ask).await.unwrap();
    assert_eq!(wire.reply("GET").await.code, 200);
    scene.folder.put("ca.crt", &gatelog::demo::pki::Ca::new("another").unwrap().pem());
    let look = scene.gate.reloader().check_now().await;
    assert!(!matches!(look, Look::Refused(_)), "{look:?}");
    wire.send(&ask).await.unwrap();
    assert_eq!(wire.reply("GET").await.code, 401);
    assert_eq!(scene.ask("cert:masters", "GET", "/api/v1/pods", &[]).await.code, 401);
}

/// Watches end when the gate leaves: whole events, a clean end of the body, and a last event each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_ends_watches_between_events() {
    let mut scene = scene(|_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        vec![Act::say(head), Act::say("f\r\n{\"type\":\"ADDED\"\r\n"), Act::say("2\r\n}\n\r\n"), Act::Listen]
    })
    .await;
    let mut wires = Vec::new();
    for _ in 0..20 {
        let mut wire = scene.wire("alice").await;
        wire.send(scene.head("alice", "GET", "/api/v1/pods?watch=1", &[])).await.unwrap();
        let reply = wire.head().await;
        assert_eq!(reply.code, 200);
        wires.push((wire, reply));
    }
    scene.gate.drain().await;
    for (mut wire, reply) in wires {
        let mut body = Vec::new();
        while let Some(chunk) = wire.chunk().await {
            body.extend(chunk);
        }
        assert_eq!(String::from_utf8_lossy(&body), "{\"type\":\"ADDED\"}\n");
        let id = reply.header("audit-id").unwrap().to_owned();
        let events = scene.record.events(&id, record::ended).await;
        assert_eq!(record::stages(&events), "RSC");
    }
}

/// An upstream that goes away is a 503 that kubectl shows well, and is found again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_breaks_off_is_a_503() {
    let scene = scene(|h| match h.line().contains("break") {
        true => vec![Act::Close],
        false => vec![Act::answer("200 OK", LIST)],
    })
    .await;
    assert_eq!(scene.ask("alice", "GET", "/api/v1/pods", &[]).await.code, 200);
    let reply: Reply = scene.ask("alice", "GET", "/api/v1/namespaces/team/pods/break", &[]).await;
    assert!(matches!(reply.code, 502 | 503), "{} {}", reply.code, reply.text());
    assert_eq!(reply.json()["kind"], "Status");
    assert!(reply.json()["reason"].is_string(), "{}", reply.text());
    assert_eq!(scene.ask("alice", "GET", "/api/v1/pods", &[]).await.code, 200);
    // A change is never sent twice.
    let reply = scene.post("alice", &format!("{CONFIGMAPS}?x=break"), "{}").await;
    assert!(matches!(reply.code, 502 | 503), "{} {}", reply.code, reply.text());
    let posts = scene.upstream.heard().iter().filter(|h| h.line().starts_with("POST")).count();
    assert_eq!(posts, 1);
}

/// It is found again when it returns, and until then kubectl is told what is the matter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_restarts_is_found_again() {
    let scene = answering().await;
    for _ in 0..3 {
        assert_eq!(scene.ask("alice", "GET", "/api/v1/pods", &[]).await.code, 200);
        scene.upstream.stop();
        let reply = timeout(Duration::from_secs(10), async {
            loop {
                // The first may go to a connection that is about to be cut.
                let reply = scene.ask("alice", "GET", "/api/v1/pods", &[]).await;
                if reply.code != 200 {
                    return reply;
                }
            }
        });
        let reply = reply.await.unwrap();
        assert_eq!(reply.code, 503, "{}", reply.text());
        assert_eq!(reply.json()["reason"], "ServiceUnavailable");
        Upstream::at(scene.upstream.addr, &scene.world.ca, |_| vec![Act::answer("200 OK", LIST)])
            .await
            .replaces(&scene.upstream);
    }
}

/// What is decided on is what is sent: every target that is accepted arrives byte for byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_arrive_byte_for_byte() {
    let rights = "can all * * *\npaths all * *\n";
    let scene = Scene::new(rights, |_| vec![Act::answer("200 OK", LIST)]).await;
    let tls = Tls::new(&scene.ca(), None, "h2");
    for target in [
        "/api/v1/namespaces/team/pods/a%3Ab",
        "/api/v1/namespaces/team/pods/a:b",
        "/api/v1/namespaces/team/pods/%C3%A9",
        "/api/v1/namespaces/team/pods/%7e~%41",
        "/api/v1/pods/",
        "/api/v1/pods?",
        "/api/v1/pods?&&a=&=b&",
        "/api/v1/pods?labelSelector=a%20in+(b,c)&x=%7E'~",
        "/api/v1/pods?a=b?c=/d",
        "/apis/x.example/v1/Things/Name%20With%20Spaces",
        "/api/v1/namespaces/team/services/https:s:443/proxy//a//b;c?d;e=%zz",
        "/api/v1/namespaces/team/pods/p/proxy/%2F%25/x%0a",
        "/",
        "/healthz?verbose",
    ] {
        let reply = scene.ask("all", "GET", target, &[]).await;
        assert_eq!(reply.code, 200, "{target}: {}", reply.text());
        assert_eq!(scene.upstream.heard().pop().unwrap().line(), format!("GET {target} HTTP/1.1"));
        let request = http::Request::get(format!("https://gate.example{target}"))
            .header("authorization", "Bearer all-token")
            .body(())
            .unwrap();
        let before = scene.upstream.heard().len();
        raw::ask_http2(Ipv4Addr::LOCALHOST, scene.address(), &tls, request, "", false).await.unwrap();
        let heard = scene.upstream.heard();
        assert_eq!(heard.len(), before + 1, "{target}");
        assert_eq!(heard[before].line(), format!("GET {target} HTTP/1.1"));
    }
}

/// The upstream's own hop-by-hop headers end at the gate, and the request's id is the gate's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_cleaned() {
    let answer = format!(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nAudit-Id: forged\r\nWarning: 299 - \"one\"\r\nWarning: 299 - \"two\"\r\nContent-Length: {}\r\n\r\n{LIST}",
        LIST.len()
    );
    let scene = scene(move |_| vec![Act::say(&answer)]).await;
    let reply = scene.ask("alice", "GET", "/api/v1/pods", &[]).await;
    assert_eq!((reply.code, reply.text().as_ref()), (200, LIST));
    for name in ["x-hop", "keep-alive", "proxy-authenticate", "upgrade"] {
        assert_eq!(reply.header(name), None, "{name}");
    }
    let all = |name: &str| reply.headers.iter().filter(|(n, _)| n == name).count();
    assert_eq!((all("audit-id"), all("warning")), (1, 2), "{:?}", reply.headers);
    assert_ne!(reply.header("audit-id"), Some("forged"));
}

/// HTTP/2 has its own ways of saying things twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_http_2_requests_go_nowhere() {
    let scene = answering().await;
    let ok = frames::get("/api/v1/pods", "Bearer alice-token");
    let with = |extra: &[(&'static str, &'static str)]| {
        let mut fields = ok.clone();
        fields.extend(extra);
        fields
    };
    let replaced = |name: &str, value: &'static str| {
        let mut fields = ok.clone();
        fields.iter_mut().filter(|(n, _)| *n == name).for_each(|(_, v)| *v = value);
        fields
    };
    for (what, fields) in [
        ("connection", with(&[("connection", "impersonate-user")])),
        ("upgrade", with(&[("upgrade", "websocket")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("te", with(&[("te", "gzip")])),
        ("an uppercase name", with(&[("Impersonate-User", "admin")])),
        ("a name with a space", with(&[("impersonate-user ", "admin")])),
        ("a line break", with(&[("x-a", "b\r\nimpersonate-user: admin")])),
        ("two paths", with(&[(":path", "/api/v1/secrets")])),
        ("a late pseudo header", with(&[(":method", "DELETE")])),
        ("an unknown pseudo header", with(&[(":impersonate-user", "admin")])),
        ("no path", ok.iter().filter(|(n, _)| *n != ":path").copied().collect()),
        ("an empty path", replaced(":path", "")),
        ("a relative path", replaced(":path", "api/v1/pods")),
        ("an absolute path", replaced(":path", "https://evil.example/api/v1/pods")),
        ("a method with a space", replaced(":method", "GET /api/v1/secrets")),
        ("CONNECT", replaced(":method", "CONNECT")),
        ("a body that is too long", with(&[("content-length", "3")])),
    ] {
        let mut h2 = Http2::open(scene.address(), &scene.ca(), &[]).await.unwrap();
        let block = frames::block(&fields);
        let end = if what.starts_with("a body") { 0 } else { END_STREAM };
        h2.send(HEADERS, END_HEADERS | end, 1, &block).await.unwrap();
        if end == 0 {
            h2.send(frames::DATA, END_STREAM, 1, b"four").await.unwrap();
        }
        while let Some(frame) = h2.next().await {
            if frame.stream == 1 || frame.kind == GOAWAY {
                break;
            }
        }
        for heard in scene.upstream.heard() {
            assert!(heard.line() == "GET /api/v1/pods HTTP/1.1", "{what} was forwarded: {}", heard.head);
            only_alice(&heard);
        }
    }
}

// --- bodies and time ---

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_have_a_size() {
    let mut scene = answering().await;
    let reply = scene.post("alice", CONFIGMAPS, &"x".repeat(3 << 20)).await;
    assert_eq!(reply.code, 200, "{}", reply.text());
    let mut wire = scene.wire("alice").await;
    let head = scene.head("alice", "POST", CONFIGMAPS, &[("Content-Length", "52428800")]);
    wire.send(head).await.unwrap();
    let reply = wire.reply("POST").await;
    assert_eq!(reply.code, 413, "{}", reply.text());
    assert_eq!(reply.json()["reason"], "RequestEntityTooLarge");
    assert_eq!(record::stages(&scene.ended(&reply).await), "RC");
    // Without end: the answer comes in the middle of it.
    let mut wire = scene.wire("alice").await;
    wire.send(scene.head("alice", "POST", CONFIGMAPS, &[("Transfer-Encoding", "chunked")])).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(65_536));
    let mut sent = 0;
    while sent < 1_000 && wire.send(&chunk).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 1_000, "64 MiB were taken");
    for heard in scene.upstream.heard().iter().skip(1) {
        assert!(heard.body.len() <= 3 << 20);
    }
}

/// A few kilobytes that unpack to a gigabyte cost the record neither memory nor time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gzip_bomb_does_not_go_off() {
    let mut scene = answering().await;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let zeros = vec![b' '; 1 << 20];
    for _ in 0..256 {
        std::io::Write::write_all(&mut packed, &zeros).unwrap();
    }
    let packed = packed.finish().unwrap();
    let length = packed.len().to_string();
    let headers = [
        ("Content-Length", length.as_str()),
        ("Content-Encoding", "gzip"),
        ("Content-Type", "application/json"),
    ];
    let mut request = scene.head("alice", "POST", CONFIGMAPS, &headers);
    request.extend(&packed);
    let mut wire = scene.wire("alice").await;
    let began = std::time::Instant::now();
    wire.send(request).await.unwrap();
    let reply = wire.reply("POST").await;
    assert!(matches!(reply.code, 200 | 400 | 413 | 415), "{} {}", reply.code, reply.text());
    let events = scene.ended(&reply).await;
    assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    assert!(events.iter().all(|e| e.to_string().len() < 1 << 20));
}

/// A policy that records everything still records no secret.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_never_reach_the_record() {
    let rights = "can all * * *\n";
    let secret = r#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"s","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"data\":{\"k\":\"aHVudGVyMg==\"}}"}},"stringData":{"k":"hunter2"},"data":{"k":"aHVudGVyMg=="}}"#;
    let mut scene = Scene::new(rights, move |_| vec![Act::answer("200 OK", secret)]).await;
    for (method, target) in [
        ("POST", "/api/v1/namespaces/team/secrets"),
        ("PUT", "/api/v1/namespaces/team/secrets/s"),
        ("PATCH", "/api/v1/namespaces/team/secrets/s"),
        ("GET", "/api/v1/namespaces/team/secrets/s"),
        ("GET", "/api/v1/secrets"),
        ("DELETE", "/api/v1/namespaces/team/secrets"),
        ("POST", "/api/v1/namespaces/team/serviceaccounts/s/token"),
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews"),
        ("GET", "/api/v1/namespaces/team/secrets/s?access_token=hunter2"),
    ] {
        let length = secret.len().to_string();
        let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let headers = [("Content-Length", length.as_str()), ("Content-Type", media)];
        let mut request = scene.head("all", method, target, &headers);
        request.extend(secret.as_bytes());
        let mut wire = scene.wire("all").await;
        wire.send(request).await.unwrap();
        let reply = wire.reply(method).await;
        assert_eq!((reply.code, reply.text().as_ref()), (200, secret), "{method} {target}");
        let events = scene.ended(&reply).await;
        assert_eq!(record::stages(&events), "RC", "{method} {target}");
        let text = serde_json::to_string(&events).unwrap();
        for part in ["hunter2", "aHVudGVyMg", "all-token", "gatelog-token"] {
            assert!(!text.contains(part), "{method} {target}: {part} is in {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_is_limited() {
    let options = Options { listen: ", bodyReadTimeout: 300ms", ..Options::default() };
    let mut scene = Scene::with(RIGHTS, options, |_| vec![Act::Listen]).await;
    // The caller's own deadline.
    let reply = scene.ask("alice", "GET", "/api/v1/pods?timeout=300ms", &[]).await;
    assert_eq!(reply.code, 504, "{}", reply.text());
    assert_eq!(reply.json()["message"], "Timeout: request did not complete within the allotted timeout");
    let events = scene.ended(&reply).await;
    assert_eq!((record::stages(&events).as_str(), record::code(events.last().unwrap())), ("RC", 504));
    // A body that stops coming.
    let mut wire = scene.wire("alice").await;
    let mut request = scene.head("alice", "POST", CONFIGMAPS, &[("Content-Length", "100")]);
    request.extend(b"{\"a\"");
    wire.send(request).await.unwrap();
    let reply = wire.reply("POST").await;
    assert!(matches!(reply.code, 400 | 408 | 504), "{} {}", reply.code, reply.text());
    assert_eq!(record::stages(&scene.ended(&reply).await), "RC");
}

/// One user's flood is that user's problem.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_users_flood_leaves_room_for_others() {
    let options =
        Options { more: "limits: {requestsInFlightPerUser: 3, streamsPerUser: 2}", ..Options::default() };
    let rights = "can one get,list,watch - pods\ncan two get,list,watch - pods\n";
    let mut scene =
        Scene::with(rights, options, |h| match h.line().contains("never") || h.line().contains("watch") {
            true => vec![Act::Listen],
            false => vec![Act::answer("200 OK", LIST)],
        })
        .await;
    let mut held = Vec::new();
    for (n, target) in ["never", "never", "never", "?watch=1", "?watch=1"].iter().enumerate() {
        let slash = if target.starts_with('?') { "" } else { "/" };
        let mut wire = scene.wire("one").await;
        let target = format!("/api/v1/namespaces/team/pods{slash}{target}");
        wire.send(scene.head("one", "GET", &target, &[])).await.unwrap();
        scene.upstream.until(|h| h.len() == n + 1).await;
        held.push(wire);
    }
    for target in ["/api/v1/pods", "/api/v1/pods?watch=1"] {
        let reply = scene.ask("one", "GET", target, &[]).await;
        assert_eq!(reply.code, 429, "{target}: {}", reply.text());
        assert!(reply.header("retry-after").is_some_and(|v| v.parse::<u32>().is_ok()), "{:?}", reply.headers);
        let events = scene.ended(&reply).await;
        assert_eq!(record::code(events.last().unwrap()), 429);
    }
    assert_eq!(scene.ask("two", "GET", "/api/v1/pods", &[]).await.code, 200);
    // Room is given back by whoever leaves.
    held.clear();
    timeout(Duration::from_secs(10), async {
        while scene.ask("one", "GET", "/api/v1/pods", &[]).await.code != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
}

/// Invented groups, resources and methods do not fill the metrics.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_do_not_grow_with_what_callers_invent() {
    let scene =
        Scene::new("can all * * *\npaths all * *\n", |_| vec![Act::answer("404 Not Found", "{}")]).await;
    let mut wire = scene.wire("all").await;
    for n in 0..3_000 {
        wire.send(scene.head("all", "GET", &format!("/apis/g{n}.example/v{n}/r{n}/x/s{n}"), &[]))
            .await
            .unwrap();
        assert_eq!(wire.reply("GET").await.code, 404);
    }
    let lines = scene.metrics().await.lines().filter(|l| l.starts_with("apiserver_request_total")).count();
    assert!(lines < 2_500, "{lines} series");
}

/// Certificates are renewed by a swap of symbolic links, as mounted secrets are: new connections get the new one, old
/// ones go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_serves_new_connections() {
    let scene =
        scene(|_| vec![Act::say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), Act::Listen]).await;
    let folder = &scene.folder;
    let pair = |version: &str, chain: &str, key: &str| {
        fs::create_dir(folder.0.join(version)).unwrap();
        folder.put(&format!("{version}/server.crt"), chain);
        folder.put(&format!("{version}/server.key"), key);
    };
    let read = |name: &str| fs::read_to_string(folder.0.join(name)).unwrap();
    pair("v1", &read("server.crt"), &read("server.key"));
    let renewed = scene.world.server();
    pair("v2", &renewed.chain, &renewed.key);
    std::os::unix::fs::symlink("v1", folder.0.join("..data")).unwrap();
    for name in ["server.crt", "server.key"] {
        std::os::unix::fs::symlink(format!("..data/{name}"), folder.0.join("link")).unwrap();
        fs::rename(folder.0.join("link"), folder.0.join(name)).unwrap();
    }
    let mut old = scene.wire("alice").await;
    old.send(scene.head("alice", "GET", "/api/v1/pods?watch=1", &[])).await.unwrap();
    assert_eq!(old.head().await.code, 200);
    assert_eq!(scene.gate.reloader().check_now().await, Look::Same);
    std::os::unix::fs::symlink("v2", folder.0.join("..tmp")).unwrap();
    fs::rename(folder.0.join("..tmp"), folder.0.join("..data")).unwrap();
    let look = scene.gate.reloader().check_now().await;
    assert!(!matches!(look, Look::Refused(_) | Look::Moving), "{look:?}");
    let new = scene.wire("alice").await;
    assert_ne!(new.certificate(), old.certificate());
    assert_eq!(scene.gate.gateway().streams().list().len(), 1, "the watch was ended by the renewal");
}

/// Connections that say nothing take places, but only so many, and give them back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_bounded() {
    let options = Options { listen: ", maxConnections: 8", ..Options::default() };
    let scene = Scene::with(RIGHTS, options, |_| vec![Act::answer("200 OK", LIST)]).await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(scene.wire("alice").await);
    }
    let tls = Tls::new(&scene.ca(), None, "http/1.1");
    let ninth = Wire::open(scene.address(), &tls);
    tokio::pin!(ninth);
    assert!(timeout(Duration::from_millis(200), &mut ninth).await.is_err(), "a ninth connection was served");
    idle.pop();
    let mut ninth = ninth.await.unwrap();
    ninth.send(scene.head("alice", "GET", "/api/v1/pods", &[])).await.unwrap();
    assert_eq!(ninth.reply("GET").await.code, 200);
}
