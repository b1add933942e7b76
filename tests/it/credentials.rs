//! Certificates and tokens that come in other places than the Authorization header, and what the upstream sees of them.

use crate::{
    conformance::{record::Record, world::World},
    raw::{Identity, Tls, Wire},
    scene::{self, Folder, Options, Scene, upgrade},
    upstream::{Act, Heard, Upstream},
};
use gatelog::{
    demo::pki::{Ca, Client, Pair, Validity},
    reload::Look,
};
use serde_json::json;
use std::fs;

const RIGHTS: &str = "
user alice dev
can alice get,list,watch,create - pods,pods/exec
can zed get,list - pods
";

const EXEC: &str = "/api/v1/namespaces/team/pods/p/exec?command=id&stdout=true";
const LIST: &str = r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#;
/// `alice-token`, as a browser offers it.
const PIECE: &str = "base64url.bearer.authorization.k8s.io.YWxpY2UtdG9rZW4";

/// A gate with more files in its folder and more keys under `authentication`.
async fn gate(
    authentication: &'static str,
    files: &dyn Fn(&World) -> Vec<(&'static str, String)>,
    script: impl Fn(&Heard) -> Vec<Act> + Send + Sync + 'static,
) -> Scene {
    let world = World::new(&[RIGHTS]);
    let upstream = Upstream::start(&world.ca, script).await;
    let folder = Folder::new("credentials");
    for (name, text) in files(&world) {
        folder.put(name, &text);
    }
    let options = Options { authentication: authentication.to_owned(), ..Options::default() };
    let gate = scene::start(&folder, &world, upstream.addr, options).await;
    let record = Record::at(folder.0.join("audit"));
    Scene { world, upstream, gate, folder, record }
}

fn listing(_: &Heard) -> Vec<Act> {
    vec![Act::answer("200 OK", LIST)]
}

async fn presenting(scene: &Scene, pair: &Pair) -> Wire {
    let identity = Identity { chain: pair.certificates(), key: pair.key.clone() };
    Wire::open(scene.address(), &Tls::new(&scene.ca(), Some(&identity), "http/1.1")).await.unwrap()
}

fn websocket(protocols: &str) -> Vec<(&str, &str)> {
    let others = upgrade::WEBSOCKET.into_iter().filter(|(name, _)| *name != "Sec-WebSocket-Protocol");
    others.chain([("Sec-WebSocket-Protocol", protocols)]).collect()
}

/// Nothing but what the gate says of the user, and no trace of the token.
fn arrived_as(heard: &Heard, user: &str) {
    assert_eq!(heard.values("impersonate-user"), [user], "{}", heard.head);
    assert_eq!(heard.values("authorization"), ["Bearer gatelog-token"]);
    for secret in ["YWxpY2UtdG9rZW4", "alice-token", "base64url.bearer"] {
        assert!(!heard.head.contains(secret), "{}", heard.head);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_opens_a_shell_with_its_token_among_the_subprotocols() {
    let mut scene = gate("", &|_| Vec::new(), |_| vec![Act::say(upgrade::WEBSOCKET_101), Act::Echo]).await;
    let offers =
        [format!("{PIECE}, v5.channel.k8s.io"), format!("v4.channel.k8s.io,{PIECE},v5.channel.k8s.io")];
    for (n, offer) in offers.iter().enumerate() {
        let mut wire = scene.wire("-").await;
        wire.send(scene.head("-", "GET", EXEC, &websocket(offer))).await.unwrap();
        let reply = wire.head().await;
        assert_eq!(reply.code, 101, "{offer}: {reply:?}");
        assert_eq!(reply.header("sec-websocket-protocol"), Some("v5.channel.k8s.io"));
        wire.send("through the tunnel").await.unwrap();
        assert_eq!(wire.take(18).await, b"through the tunnel");
        wire.finish().await.unwrap();
        let heard = scene.upstream.until(|h| h.len() == n + 1 && h[n].ended).await;
        arrived_as(&heard[n], "alice");
        let kept = ["v5.channel.k8s.io", "v4.channel.k8s.io, v5.channel.k8s.io"][n];
        assert_eq!(heard[n].values("sec-websocket-protocol"), [kept]);
        let events = scene.ended(&reply).await;
        let last = events.last().unwrap();
        assert_eq!(last["user"]["username"], "alice");
        assert!(!events.iter().any(|event| event.to_string().contains("YWxpY2UtdG9rZW4")));
    }
    // The answer may not choose the token.
    let echoed = upgrade::WEBSOCKET_101.replace("v5.channel.k8s.io", PIECE);
    let scene = gate("", &|_| Vec::new(), move |_| vec![Act::say(&echoed), Act::Echo]).await;
    let reply = scene.ask("-", "GET", EXEC, &websocket(&offers[0])).await;
    assert!(reply.code >= 500 && !format!("{reply:?}").contains("YWxpY2UtdG9rZW4"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_among_the_subprotocols_is_judged_as_any_other() {
    let scene = gate("", &|_| Vec::new(), listing).await;
    let both = format!("{PIECE}, v4.channel.k8s.io");
    // What is offered, who else is said to ask, the answer, who arrives.
    let rows = [
        ("watch over a WebSocket", both.as_str(), "-", 200, "alice"),
        ("the header counts first", &both, "zed", 200, "zed"),
        ("a bad header is no harm", &both, "nobody", 200, "alice"),
        ("alone", PIECE, "-", 401, ""),
        ("somebody's", "base64url.bearer.authorization.k8s.io.bm9ib2R5, v4.channel.k8s.io", "-", 401, ""),
        ("of another case", "Base64url.bearer.authorization.k8s.io.YWxpY2UtdG9rZW4, x", "-", 401, ""),
        (
            "of another case, not needed",
            "Base64url.bearer.authorization.k8s.io.YWxpY2UtdG9rZW4, x",
            "alice",
            200,
            "alice",
        ),
    ];
    for (what, offer, who, code, user) in rows {
        let before = scene.upstream.heard().len();
        let reply = scene.ask(who, "GET", "/api/v1/pods", &websocket(offer)).await;
        assert_eq!(reply.code, code, "{what}: {}", reply.text());
        assert!(!format!("{reply:?}").contains("YWxpY2UtdG9rZW4"));
        let heard = scene.upstream.heard();
        assert_eq!(heard.len() - before, usize::from(code == 200), "{what}");
        if code == 200 {
            arrived_as(heard.last().unwrap(), user);
        }
    }
    // Without an upgrade it is no credential, and does not go on either.
    for (connection, code) in [("keep-alive", 401), ("noupgrade", 200)] {
        let offered =
            [("Connection", connection), ("Upgrade", "websocket"), ("Sec-WebSocket-Protocol", &both)];
        let reply = scene.ask("-", "GET", "/api/v1/pods", &offered).await;
        assert_eq!(reply.code, code, "{connection}");
        let reply = scene.ask("alice", "GET", "/api/v1/pods", &offered).await;
        assert_eq!(reply.code, 200, "{connection}");
        arrived_as(scene.upstream.heard().last().unwrap(), "alice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_front_proxy_says_who_asks_and_nobody_else_does() {
    const PROXY: &str = ", requestheader: {clientCAFile: proxies.crt, allowedNames: [front], usernameHeaders: [X-Remote-User, X-Auth-User]}";
    let proxies = Ca::new("proxies").unwrap();
    let pem = proxies.pem();
    let mut scene = gate(PROXY, &|_| vec![("proxies.crt", pem.clone())], listing).await;
    let front = proxies.client(&Client::new("front")).unwrap();
    let claims = "X-Remote-User: zed\r\nX-Remote-Uid: u1\r\nX-Remote-Group: dev,ops\r\nX-Remote-Extra-Scopes%2Fa: b\r\nX-Auth-User: eve\r\n";
    let request = |headers: &str| format!("GET /api/v1/pods HTTP/1.1\r\nHost: gate\r\n{headers}\r\n");

    let mut wire = presenting(&scene, &front).await;
    wire.send(request(claims)).await.unwrap();
    let reply = wire.reply("GET").await;
    assert_eq!(reply.code, 200, "{}", reply.text());
    let heard = scene.upstream.heard().pop().unwrap();
    arrived_as(&heard, "zed");
    assert_eq!(heard.values("impersonate-uid"), ["u1"]);
    assert_eq!(heard.values("impersonate-group"), ["dev,ops", "system:authenticated"]);
    assert_eq!(heard.values("impersonate-extra-scopes%2fa"), ["b"]);
    assert!(
        !heard.headers().any(|(name, _)| name.starts_with("x-remote") || name.starts_with("x-auth")),
        "{}",
        heard.head
    );
    let last = scene.ended(&reply).await.pop().unwrap();
    let user = json!({"username": "zed", "uid": "u1", "groups": ["dev,ops", "system:authenticated"], "extra": {"scopes/a": ["b"]}});
    assert_eq!(last["user"], user);
    // The next of its requests is another's, on the same connection.
    wire.send(request("X-Auth-User: alice\r\n")).await.unwrap();
    assert_eq!(wire.reply("GET").await.code, 200);
    arrived_as(&scene.upstream.heard().pop().unwrap(), "alice");
    wire.send(request("")).await.unwrap();
    assert_eq!(wire.reply("GET").await.code, 401);

    // Others may say what they like.
    let heard = scene.upstream.heard().len();
    for pair in [
        proxies.client(&Client::new("other")).unwrap(),
        Ca::new("proxies").unwrap().client(&Client::new("front")).unwrap(),
        proxies.client(&Client::new("front").validity(Validity::Expired)).unwrap(),
    ] {
        let mut wire = presenting(&scene, &pair).await;
        wire.send(request(claims)).await.unwrap();
        assert_eq!(wire.reply("GET").await.code, 401);
    }
    assert_eq!(scene.upstream.heard().len(), heard);
    for who in ["alice", "cert:masters"] {
        let headers =
            [("X-Remote-User", "zed"), ("X-Remote-Group", "system:masters"), ("X-Auth-User", "zed")];
        let reply = scene.ask(who, "GET", "/api/v1/pods", &headers).await;
        assert_eq!(reply.code, 200, "{}", reply.text());
        let heard = scene.upstream.heard().pop().unwrap();
        arrived_as(&heard, if who == "alice" { "alice" } else { "root" });
        assert!(
            !heard.headers().any(|(name, _)| name.starts_with("x-") && name != "x-forwarded-for"),
            "{}",
            heard.head
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_certificate_is_refused_on_the_connection_that_it_opened() {
    const LISTS: &str = ", clientCRLFile: revoked.crl";
    let empty = |ca: &Ca| ca.revocation_list(&[], Validity::Year).unwrap();
    let scene = gate(LISTS, &|world| vec![("revoked.crl", empty(&world.ca))], listing).await;
    let pair = |name: &str| scene.world.ca.client(&Client::new(name).group("system:masters")).unwrap();
    let (bad, good) = (pair("bad"), pair("good"));
    let (mut bads, mut goods) = (presenting(&scene, &bad).await, presenting(&scene, &good).await);
    let request = "GET /api/v1/pods HTTP/1.1\r\nHost: gate\r\n\r\n";
    let file = scene.folder.0.join("revoked.crl");
    let ca = &scene.world.ca;
    for (text, looked, codes) in [
        (None, "same", [200, 200]),
        (Some(ca.revocation_list(&[&bad], Validity::Year).unwrap()), "changed", [401, 200]),
        // Until there is a good one again, the old one holds.
        (Some("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n".to_owned()), "refused", [401, 200]),
        (Some(ca.revocation_list(&[], Validity::Expired).unwrap()), "changed", [401, 401]),
        (Some(empty(ca)), "changed", [200, 200]),
    ] {
        if let Some(text) = text {
            fs::write(&file, text).unwrap();
        }
        let look = match scene.gate.reloader().check_now().await {
            Look::Same => "same",
            Look::Changed(parts) if parts == ["authentication"] => "changed",
            Look::Refused(_) => "refused",
            other => panic!("{other:?}"),
        };
        assert_eq!(look, looked);
        for (wire, code) in [&mut bads, &mut goods].into_iter().zip(codes) {
            wire.send(request).await.unwrap();
            assert_eq!(wire.reply("GET").await.code, code);
        }
    }
}
