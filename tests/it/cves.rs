//! How gates of this kind were broken before: one test per advisory that concerns these rooms.
//!
//! The upstream is a script that remembers every byte it was sent, because the question is always what went over the
//! wire. Rapid reset and its relatives are at the end.

use crate::{
    frames::{
        self, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, RST_STREAM, WINDOW_UPDATE,
    },
    raw::Reply,
    scene::{Scene, upgrade},
    upstream::{Act, Heard},
};

/// alice may stream, bob may nothing, imp may impersonate alice.
const RIGHTS: &str = "
user alice dev
user bob
can alice get,list,watch,create - pods,pods/log,pods/exec,pods/attach,pods/portforward,configmaps
can imp impersonate - users names=alice
";

const LIST: &str = r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#;

async fn scene(script: impl Fn(&Heard) -> Vec<Act> + Send + Sync + 'static) -> Scene {
    Scene::new(RIGHTS, script).await
}

async fn answering() -> Scene {
    scene(|_| vec![Act::answer("200 OK", LIST)]).await
}

/// Sends an upgrade with bytes behind it, then more once the answer is there; returns the answer.
async fn try_to_upgrade(scene: &Scene) -> Reply {
    let mut wire = scene.wire("alice").await;
    let mut request =
        scene.head("alice", "POST", "/api/v1/namespaces/team/pods/p/exec?command=id", &upgrade::SPDY);
    request.extend(b"EARLY");
    wire.send(request).await.unwrap();
    let reply = wire.reply("POST").await;
    // The peer may be gone already.
    let _ = wire.send("GET /api/v1/secrets HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(
        wire.closes().await,
        "the connection stays open after an upgrade that came to nothing: {reply:?}"
    );
    reply
}

/// What no upstream may ever get of a caller whose upgrade failed.
async fn nothing_got_through(scene: &Scene) {
    let heard = scene.upstream.until(|h| h.iter().all(|h| h.ended)).await;
    assert_eq!(heard.len(), 1, "{heard:#?}");
    assert!(heard[0].line().starts_with("POST /api/v1/namespaces/team/pods/p/exec?command=id "));
    assert_eq!(String::from_utf8_lossy(&heard[0].after), "", "bytes reached the upstream");
}

/// CVE-2018-1002105: after a failed upgrade the authenticated connection to the backend stayed open as a raw tunnel.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2018_1002105_a_failed_upgrade_leaves_no_tunnel() {
    let refused =
        r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"no","code":403}"#;
    for (status, body, code) in [
        ("403 Forbidden", refused, 403),
        ("404 Not Found", refused, 404),
        ("500 Internal Server Error", "oops", 500),
        ("200 OK", LIST, 500),
        ("204 No Content", "", 500),
        ("301 Moved Permanently", "", 500),
    ] {
        let scene = scene(move |_| vec![Act::answer(status, body), Act::Listen]).await;
        let reply = try_to_upgrade(&scene).await;
        assert_eq!(reply.code, code, "{status}: {}", reply.text());
        if code == 500 && body != "oops" {
            assert_eq!(reply.json()["kind"], "Status", "{status}: {}", reply.text());
        } else {
            assert_eq!(reply.text(), body, "{status}");
        }
        nothing_got_through(&scene).await;
    }
}

/// CVE-2018-1002105 again: a 101 that does not say what was asked for opens nothing either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2018_1002105_a_wrong_101_joins_nothing() {
    for head in [
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade\r\n",
        "",
        "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v9.channel.k8s.io\r\n",
    ] {
        let answer = format!("HTTP/1.1 101 Switching Protocols\r\n{head}\r\nHELLO");
        let scene = scene(move |_| vec![Act::say(&answer), Act::Listen]).await;
        let reply = try_to_upgrade(&scene).await;
        assert!(matches!(reply.code, 500 | 502 | 503), "{head:?}: {} {}", reply.code, reply.text());
        assert_eq!(reply.json()["kind"], "Status", "{head:?}");
        assert!(!reply.text().contains("HELLO"));
        nothing_got_through(&scene).await;
    }
}

/// An upstream that says something before its 101 (an early hint) or garbage instead of a head gets no tunnel by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2018_1002105_bytes_before_the_101() {
    for answer in ["garbage\r\n\r\n", "\x16\x03\x01", "HTTP/1.1 99 Odd\r\n\r\n", "HTTP/1.1 101\r\n\r\n"] {
        let scene = scene(move |_| vec![Act::say(answer), Act::Close]).await;
        let reply = try_to_upgrade(&scene).await;
        assert!(reply.code >= 500, "{answer:?}: {}", reply.code);
        assert_eq!(reply.json()["kind"], "Status", "{answer:?}");
    }
}

/// CVE-2020-8559: the answer to an upgrade was a redirect, and the proxy went where it pointed, with its credentials.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2020_8559_redirects_are_never_followed() {
    let elsewhere = answering().await;
    let location = format!("https://{}/api/v1/secrets", elsewhere.upstream.addr);
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let answer = format!("HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let scene = scene(move |_| vec![Act::say(&answer), Act::Listen]).await;
        let reply = try_to_upgrade(&scene).await;
        assert_eq!(reply.code, 500, "{status}: {}", reply.text());
        assert_eq!(reply.header("location"), None);
        let reply = scene.ask("alice", "GET", "/api/v1/pods", &[]).await;
        assert!(reply.code < 400 || reply.json()["kind"] == "Status", "{status}: {}", reply.text());
        assert_eq!(scene.upstream.heard().len(), 2, "{status}");
    }
    assert!(elsewhere.upstream.heard().is_empty(), "a redirect was followed");
}

/// CVE-2018-1002102, CVE-2022-3294, CVE-2020-8562, CVE-2026-44945 and relatives: the target came from the request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2022_3294_the_upstream_is_the_configured_one() {
    let (scene, evil) = (answering().await, answering().await);
    let addr = evil.upstream.addr.to_string();
    for headers in [
        vec![("Host", addr.as_str())],
        vec![("X-Forwarded-Host", addr.as_str()), ("Forwarded", addr.as_str())],
        vec![("X-Original-URL", "/api/v1/secrets"), ("X-Rewrite-URL", "/api/v1/secrets")],
    ] {
        let reply = scene.ask("alice", "GET", "/api/v1/pods", &headers).await;
        assert_eq!(reply.code, 200, "{headers:?}: {}", reply.text());
        let heard = scene.upstream.heard().pop().unwrap();
        assert_eq!(heard.line(), "GET /api/v1/pods HTTP/1.1");
        assert_eq!(heard.values("host"), [scene.upstream.addr.to_string()], "{headers:?}");
        for name in ["x-forwarded-host", "forwarded"] {
            assert!(heard.values(name).is_empty(), "{}", heard.head);
        }
    }
    for target in
        [format!("https://{addr}/api/v1/pods"), format!("//{addr}/api/v1/pods"), format!("http://{addr}")]
    {
        let before = scene.upstream.heard().len();
        assert_eq!(scene.ask("alice", "GET", &target, &[]).await.code, 400, "{target}");
        assert_eq!(scene.upstream.heard().len(), before, "{target} was forwarded");
    }
    assert!(evil.upstream.heard().is_empty());
}

/// CVE-2022-23652 (capsule-proxy), GHSA-2vjp-5q24-hqjv (Kyma), GHSA-r5c2-7hp9-v678 (bored-agent): `Connection` named the
/// identity headers, so they were dropped and the request ran as the proxy itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2022_23652_connection_cannot_name_the_identity_away() {
    let scene = answering().await;
    for headers in [
        vec![("Connection", "Impersonate-User")],
        vec![("Connection", "Impersonate-User, Impersonate-Group, Authorization, X-Remote-User")],
        vec![("connection", "close, impersonate-group"), ("Connection", "IMPERSONATE-USER")],
        vec![("Connection", "keep-alive"), ("Proxy-Connection", "Impersonate-User")],
        vec![("Connection", "Impersonate-User,,\t, Impersonate-Uid ,Host,Audit-ID")],
        vec![("Connection", "Impersonate-Extra-authentication.kubernetes.io%2fcredential-id")],
        vec![("Keep-Alive", "Impersonate-User"), ("TE", "Impersonate-User"), ("Trailer", "Impersonate-User")],
    ] {
        let reply = scene.ask("alice", "GET", "/api/v1/pods", &headers).await;
        assert_eq!(reply.code, 200, "{headers:?}: {}", reply.text());
        alice_arrived(&scene.upstream.heard().pop().unwrap());
    }
}

/// What every request of alice's looks like upstream, whatever she sent along.
fn alice_arrived(heard: &Heard) {
    assert_eq!(heard.values("impersonate-user"), ["alice"], "{}", heard.head);
    assert_eq!(heard.values("impersonate-group"), ["dev", "system:authenticated"], "{}", heard.head);
    assert_eq!(heard.values("impersonate-uid"), ["uid-alice"], "{}", heard.head);
    assert_eq!(heard.values("authorization"), ["Bearer gatelog-token"], "{}", heard.head);
    let known = ["impersonate-user", "impersonate-group", "impersonate-uid", "authorization"];
    for (name, _) in heard.headers() {
        let folded = name.to_ascii_lowercase().replace('_', "-");
        let about =
            folded.starts_with("impersonate") || folded.starts_with("x-remote") || folded == "authorization";
        assert!(
            !about || known.contains(&name.to_ascii_lowercase().as_str()),
            "{name} arrived: {}",
            heard.head
        );
    }
    for name in ["connection", "proxy-connection", "keep-alive", "te", "trailer", "upgrade"] {
        assert!(heard.values(name).is_empty(), "{name} arrived: {}", heard.head);
    }
    assert!(!heard.head.contains("alice-token"), "the caller's token arrived: {}", heard.head);
}

/// CVE-2021-31999, CVE-2021-36776 (Rancher), CVE-2026-17107 (cluster-proxy): the client's own Impersonate-* arrived.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2021_31999_the_callers_impersonation_never_arrives() {
    let scene = answering().await;
    for (headers, code) in [
        (vec![("Impersonate-User", "admin")], 403),
        (vec![("Impersonate-User", "alice"), ("Impersonate-Group", "system:masters")], 403),
        (vec![("Impersonate-Group", "system:masters")], 400),
        (vec![("IMPERSONATE-GROUP", "system:masters")], 400),
        (vec![("impersonate-extra-scopes", "all")], 400),
        (vec![("Impersonate-Uid", "0")], 400),
        (vec![("Impersonate-User", ""), ("Impersonate-Group", "system:masters")], 400),
        // A family nobody knows yet: refused rather than ignored, since its sender means something by it.
        (vec![("Impersonate-Future", "system:masters")], 400),
        (vec![("Impersonate-Groups", "system:masters")], 400),
        (vec![("Impersonate_User", "admin"), ("Impersonate_Group", "system:masters")], 400),
        // Nobody asks to be somebody else here: these are dropped.
        (vec![("Impersonate-User", "")], 200),
    ] {
        let before = scene.upstream.heard().len();
        let reply = scene.ask("alice", "GET", "/api/v1/pods", &headers).await;
        assert_eq!(reply.code, code, "{headers:?}: {}", reply.text());
        let heard = scene.upstream.heard();
        assert_eq!(heard.len() - before, usize::from(code == 200), "{headers:?}");
        if code == 200 {
            alice_arrived(heard.last().unwrap());
        }
    }
    // Who may impersonate arrives as the one impersonated, with nothing of her own.
    let reply = scene.ask("imp", "GET", "/api/v1/pods", &[("Impersonate-User", "alice")]).await;
    assert_eq!(reply.code, 200, "{}", reply.text());
    let heard = scene.upstream.heard().pop().unwrap();
    assert_eq!(heard.values("impersonate-user"), ["alice"]);
    assert_eq!(heard.values("impersonate-group"), ["system:authenticated"]);
    assert!(heard.values("impersonate-uid").is_empty(), "{}", heard.head);
}

/// CVE-2026-61682 (kcp) and kubectl-rexec: X-Remote-* was believed from anyone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2026_61682_x_remote_headers_are_worth_nothing() {
    let scene = answering().await;
    let claims = [
        ("X-Remote-User", "admin"),
        ("x-remote-group", "system:masters"),
        ("X-REMOTE-UID", "0"),
        ("X-Remote-Extra-Scopes", "all"),
        ("X_Remote_User", "admin"),
    ];
    let reply = scene.ask("alice", "GET", "/api/v1/pods", &claims).await;
    assert_eq!(reply.code, 200, "{}", reply.text());
    alice_arrived(&scene.upstream.heard().pop().unwrap());
    assert_eq!(scene.ask("bob", "GET", "/api/v1/pods", &claims).await.code, 403);
    assert_eq!(scene.ask("-", "GET", "/api/v1/pods", &claims).await.code, 401);
    assert_eq!(scene.ask("cert:masters", "GET", "/api/v1/pods", &claims).await.code, 200);
    let heard = scene.upstream.heard().pop().unwrap();
    assert_eq!(heard.values("impersonate-user"), ["root"], "{}", heard.head);
    assert_eq!(scene.upstream.heard().len(), 2);
}

/// CVE-2023-48312 (capsule-proxy): an empty token passed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2023_48312_an_empty_token_is_nobody() {
    let scene = answering().await;
    for value in
        ["", "Bearer", "Bearer ", "Bearer  ", "bearer \t", "Bearer  alice-token", "alice-token", "Bearer x"]
    {
        let reply = scene.ask("-", "GET", "/api/v1/pods", &[("Authorization", value)]).await;
        assert_eq!(reply.code, 401, "{value:?}: {}", reply.text());
        assert_eq!(reply.text().trim_end(), UNAUTHORIZED, "{value:?}");
    }
    assert!(scene.upstream.heard().is_empty());
}

const UNAUTHORIZED: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}"#;

/// CVE-2023-46254 (capsule-proxy): two service accounts of one name in two namespaces were one owner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2023_46254_a_service_account_is_its_namespace_too() {
    let rights = "
role readers list - pods
bind account:one:worker ClusterRole:readers
role keepers list - configmaps in=two
bind account:two:worker Role:keepers in=two
";
    let scene = Scene::new(rights, |_| vec![Act::answer("200 OK", LIST)]).await;
    for (user, path, code) in [
        ("system:serviceaccount:one:worker", "/api/v1/pods", 200),
        ("system:serviceaccount:two:worker", "/api/v1/pods", 403),
        ("system:serviceaccount:three:worker", "/api/v1/pods", 403),
        ("worker", "/api/v1/pods", 403),
        ("one:worker", "/api/v1/pods", 403),
        ("system:serviceaccount:two:worker", "/api/v1/namespaces/two/configmaps", 200),
        ("system:serviceaccount:one:worker", "/api/v1/namespaces/two/configmaps", 403),
        ("system:serviceaccount:two:worker", "/api/v1/namespaces/one/configmaps", 403),
    ] {
        let reply = scene.ask("admin", "GET", path, &[("Impersonate-User", user)]).await;
        assert_eq!(reply.code, code, "{user} {path}: {}", reply.text());
    }
}

/// CVE-2026-44945, CVE-2026-41050 (Rancher, Fleet): credentials reached a third party. Nobody gets the other's here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2026_44945_credentials_stay_on_their_side() {
    let scene = answering().await;
    let headers = [
        ("Cookie", "session=1"),
        ("Proxy-Authorization", "Bearer alice-token"),
        (
            "Sec-WebSocket-Protocol",
            "base64url.bearer.authorization.k8s.io.YWxpY2UtdG9rZW4, v4.channel.k8s.io",
        ),
    ];
    let reply = scene.ask("alice", "GET", "/api/v1/pods", &headers).await;
    assert_eq!(reply.code, 200, "{}", reply.text());
    let heard = scene.upstream.heard().pop().unwrap();
    alice_arrived(&heard);
    for secret in ["alice-token", "YWxpY2UtdG9rZW4"] {
        assert!(!heard.head.contains(secret), "{}", heard.head);
    }
    for reply in [&reply, &scene.ask("bob", "GET", "/api/v1/pods", &[]).await] {
        assert!(!format!("{reply:?}").contains("gatelog-token"), "{reply:?}");
    }
}

/// Teleport 14.0.3 and 17.7.26: `*/proxy` was authorized as a plain get. k8s #119270: `nodes/proxy` is a shell on the node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn teleport_32848_proxy_subresources_are_rights_of_their_own() {
    let rights = "
can plain * - pods,services,nodes
can getter get - pods/proxy,services/proxy,nodes/proxy
can owner * - pods/proxy,services/proxy,nodes/proxy
";
    let scene = Scene::new(rights, |_| vec![Act::answer("403 Forbidden", "{}")]).await;
    let pod = "/api/v1/namespaces/team/pods/p/proxy/x";
    let service = "/api/v1/namespaces/team/services/s:80/proxy/";
    let node = "/api/v1/nodes/n/proxy/run/team/p/c?cmd=id";
    for path in [pod, service, node] {
        for method in ["GET", "POST", "DELETE"] {
            assert_eq!(scene.ask("plain", method, path, &[]).await.code, 403, "{method} {path}");
        }
        assert_eq!(scene.ask("getter", "POST", path, &[]).await.code, 403, "{path}");
    }
    assert!(scene.upstream.heard().is_empty());
    let mut forwarded = 0;
    for path in [pod, service, node] {
        scene.ask("getter", "GET", path, &[]).await;
        scene.ask("owner", "POST", path, &[]).await;
        forwarded += 2;
        assert_eq!(scene.upstream.heard().len(), forwarded, "{path}");
    }
    // An upgrade through a node's proxy runs commands there.
    let reply = scene.ask("getter", "GET", node, &upgrade::WEBSOCKET).await;
    assert_eq!(reply.code, 403);
    assert_eq!(scene.upstream.heard().len(), forwarded, "{}", reply.text());
    assert!(reply.text().contains(r#"cannot create resource \"nodes/proxy\""#), "{}", reply.text());
}

/// Teleport 12.4.28 and GHSA reports of forged addresses: the peer of the socket is who called.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn teleport_12_4_28_the_address_is_the_sockets() {
    let mut scene = answering().await;
    let claims =
        [("X-Forwarded-For", "203.0.113.7"), ("X-Real-Ip", "203.0.113.8"), ("Forwarded", "for=203.0.113.9")];
    let reply = scene.ask("alice", "GET", "/api/v1/pods", &claims).await;
    let events = scene.ended(&reply).await;
    assert_eq!(events.last().unwrap()["sourceIPs"], serde_json::json!(["127.0.0.1"]));
}

/// CVE-2023-44487 (rapid reset): streams opened and reset at once, thousands a second, cost the server everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2023_44487_rapid_reset_ends_the_connection() {
    let scene = scene(|_| vec![Act::Listen]).await;
    let mut h2 = Http2::open(scene.address(), &scene.ca(), &[]).await.unwrap();
    let block = frames::block(&frames::get("/api/v1/pods", "Bearer alice-token"));
    let mut flood = Vec::new();
    for n in 0..2_000u32 {
        flood.extend(frames::frame(HEADERS, END_STREAM | END_HEADERS, 1 + 2 * n, &block));
        flood.extend(frames::frame(RST_STREAM, 0, 1 + 2 * n, &8u32.to_be_bytes()));
    }
    // The server may hang up in the middle.
    let _ = h2.wire.send(flood).await;
    ends(&mut h2).await;
    still_serves(&scene).await;
}

/// CVE-2025-8671 (MadeYouReset): the client's mistakes make the server reset its own streams, which costs the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2025_8671_made_you_reset_ends_the_connection() {
    let scene = scene(|_| vec![Act::Listen]).await;
    let mut h2 = Http2::open(scene.address(), &scene.ca(), &[]).await.unwrap();
    let block = frames::block(&frames::get("/api/v1/pods", "Bearer alice-token"));
    let mut flood = Vec::new();
    for n in 0..4_000u32 {
        flood.extend(frames::frame(HEADERS, END_STREAM | END_HEADERS, 1 + 2 * n, &block));
        flood.extend(frames::frame(WINDOW_UPDATE, 0, 1 + 2 * n, &0x7fff_ffffu32.to_be_bytes()));
    }
    let _ = h2.wire.send(flood).await;
    ends(&mut h2).await;
    still_serves(&scene).await;
}

/// CVE-2024-27316 and its relatives (VU#421644): header blocks that never end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2024_27316_a_continuation_flood_ends_the_connection() {
    let scene = answering().await;
    let mut h2 = Http2::open(scene.address(), &scene.ca(), &[]).await.unwrap();
    h2.send(HEADERS, 0, 1, &frames::block(&frames::get("/", "Bearer alice-token"))).await.unwrap();
    let piece = frames::frame(CONTINUATION, 0, 1, &frames::block(&[("x", &"y".repeat(8_000))]));
    for _ in 0..2_000 {
        if h2.wire.send(&piece).await.is_err() {
            break;
        }
    }
    ends(&mut h2).await;
    still_serves(&scene).await;
    assert!(scene.upstream.heard().is_empty());
}

/// RUSTSEC-2026-0258: DATA frames without data, for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rustsec_2026_0258_empty_data_frames_do_not_go_on_for_ever() {
    let scene = answering().await;
    let mut h2 = Http2::open(scene.address(), &scene.ca(), &[]).await.unwrap();
    let mut fields = frames::get("/api/v1/namespaces/team/configmaps", "Bearer alice-token");
    fields[0].1 = "POST";
    h2.send(HEADERS, END_HEADERS, 1, &frames::block(&fields)).await.unwrap();
    let empty = frames::frame(DATA, 0, 1, &[]).repeat(1_000);
    for _ in 0..200 {
        if h2.wire.send(&empty).await.is_err() {
            break;
        }
    }
    ends(&mut h2).await;
    still_serves(&scene).await;
}

/// RFC 9113 section 7.
const ENHANCE_YOUR_CALM: u32 = 11;

/// The connection is ended by the gate, with a GOAWAY if it had time for one.
async fn ends(h2: &mut Http2) {
    let mut last = None;
    while let Some(frame) = h2.next().await {
        last = Some(frame);
    }
    assert!(h2.wire.closes().await, "the connection goes on");
    if let Some(away) = last.filter(|f| f.kind == GOAWAY) {
        assert_eq!(frames::error_code(&away), Some(ENHANCE_YOUR_CALM), "ended for another reason");
    }
}

/// What one connection did concerns no other.
async fn still_serves(scene: &Scene) {
    assert_eq!(scene.ask("bob", "GET", "/api/v1/pods", &[]).await.code, 403);
}
