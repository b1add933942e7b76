use super::*;
use crate::{
    authn::{Authn, Conn, Shared},
    demo::pki::{Ca, Pair},
    endpoint::{Config as Place, Endpoint, Explicit},
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};
use std::{fs, sync::atomic::Ordering::Relaxed};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tokio_rustls::TlsAcceptor;

/// A question, for the test to answer.
struct Asked {
    path: String,
    headers: HeaderMap,
    spec: Value,
    reply: oneshot::Sender<(u16, Value)>,
}

impl Asked {
    fn token(&self) -> &str {
        self.spec["token"].as_str().unwrap()
    }

    fn answer(self, status: Value) {
        self.reply
            .send((
                201,
                json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status}),
            ))
            .unwrap();
    }
}

/// Somebody who is asked, and who asks.
struct Hook {
    asked: mpsc::Receiver<Asked>,
    review: Arc<Review>,
}

fn config(to: To) -> Config {
    Config { to, audiences: Vec::new(), cache_ttl: Duration::from_secs(120), allow_system_identities: false }
}

fn webhook() -> To {
    To::Webhook { kubeconfig: "webhook.kubeconfig".into(), context: None }
}

impl Hook {
    async fn start(config: Config) -> Self {
        let ca = Ca::new("hook").unwrap();
        let Pair { chain, key } = ca.server(&["127.0.0.1"]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        let mut tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let (asks, asked) = mpsc::channel(200);
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), asks));

        let folder =
            std::env::temp_dir().join(format!("gatelog-review-{}-{}", std::process::id(), address.port()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ca.crt"), ca.pem()).unwrap();
        fs::write(folder.join("token"), "gate").unwrap();
        let path = if config.to == To::Upstream { "" } else { "/hooks/authenticate" };
        let place = Place::Explicit(Explicit {
            server: format!("https://{address}{path}"),
            certificate_authority: Some(folder.join("ca.crt")),
            token_file: Some(folder.join("token")),
            ..Explicit::default()
        });
        let source = place.read().unwrap();
        let cluster = match config.to {
            To::Upstream => Cluster::new(Endpoint::new(&source).unwrap().into()),
            To::Webhook { .. } => Cluster::webhook(Endpoint::webhook(&source).unwrap().into()),
        };
        fs::remove_dir_all(&folder).unwrap();
        Self { asked, review: Review::new(config, cluster.into(), Metrics::unregistered()) }
    }

    /// The next question.
    async fn asked(&mut self) -> Asked {
        timeout(PATIENCE, self.asked.recv()).await.unwrap().unwrap()
    }

    /// Somebody asks.
    fn ask(&self, token: &str) -> tokio::task::JoinHandle<String> {
        let (review, token) = (self.review.clone(), token.to_owned());
        tokio::spawn(async move { said(review.authenticate(&token).await) })
    }

    fn is_quiet(&mut self) -> bool {
        self.asked.try_recv().is_err()
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, asks: mpsc::Sender<Asked>) {
    while let Ok((tcp, _)) = listener.accept().await {
        let (acceptor, asks) = (acceptor.clone(), asks.clone());
        tokio::spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            let service = service_fn(move |request| reply(request, asks.clone()));
            let _ =
                http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tls), service).await;
        });
    }
}

/// The connection is reset when the test drops the question.
async fn reply(
    request: Request<Incoming>,
    asks: mpsc::Sender<Asked>,
) -> Result<Response<Full<Bytes>>, oneshot::error::RecvError> {
    let (head, body) = request.into_parts();
    let question: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(
        (&question["kind"], &question["apiVersion"]),
        (&json!("TokenReview"), &json!("authentication.k8s.io/v1"))
    );
    let (reply, answer) = oneshot::channel();
    let (path, headers) = (head.uri.path().to_owned(), head.headers);
    let _ = asks.send(Asked { path, headers, spec: question["spec"].clone(), reply }).await;
    let (status, body) = answer.await?;
    let mut response = Response::new(Full::new(body.to_string().into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    Ok(response)
}

/// `name uid groups extra`, `nobody`, or the error.
fn said(opinion: Opinion) -> String {
    match opinion {
        Ok(Some(proven)) => {
            assert_eq!((proven.method(), proven.expires()), ("token-review", None));
            let user = proven.user();
            format!("{} {:?} {} {:?}", user.name(), user.uid(), user.groups().join(","), user.extra())
        }
        Ok(None) => "nobody".to_owned(),
        Err(why) => why.to_string().strip_prefix("TokenReview: ").unwrap().to_owned(),
    }
}

fn yes(name: &str) -> Value {
    json!({"authenticated": true, "user": {"username": name}})
}

#[tokio::test]
async fn an_answer_is_believed_or_not() {
    let audiences = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let up = config(To::Upstream);
    let for_api = Config { audiences: audiences(&["api", "gate"]), ..up.clone() };
    let hook = config(webhook());
    let trusted = Config { allow_system_identities: true, ..hook.clone() };
    let user = |user: Value| json!({"authenticated": true, "user": user});
    let bob = "bob \"\" system:authenticated {}";
    let other = "the token is for other audiences";
    let stranger = "the token proves nobody: system:anonymous";
    // who is asked, status => outcome, whether it is remembered
    let rows: Vec<(&Config, Value, &str, bool)> = vec![
        (&up, yes("bob"), bob, true),
        (
            &hook,
            user(
                json!({"username": "bob", "uid": "7", "groups": ["dev", " ops"], "extra": {"a/B": ["x", "y"], "none": []}}),
            ),
            "group \" ops\" cannot be carried in a header without change",
            true,
        ),
        (
            &hook,
            user(
                json!({"username": "bob", "uid": "7", "groups": ["dev", "ops"], "extra": {"a/B": ["x", "y"], "none": []}}),
            ),
            "bob \"7\" dev,ops,system:authenticated {\"a/B\": [\"x\", \"y\"]}",
            true,
        ),
        // `authenticated` decides, whatever else there is.
        (&up, json!({}), "nobody", true),
        (&up, json!({"authenticated": false}), "nobody", true),
        (
            &up,
            json!({"authenticated": false, "user": {"username": "bob", "groups": ["system:masters"]}}),
            "nobody",
            true,
        ),
        (&up, json!({"authenticated": false, "audiences": ["api"]}), "nobody", true),
        (&up, json!({"authenticated": false, "error": "ldap is down"}), "ldap is down", false),
        (
            &up,
            json!({"error": "invalid bearer token", "user": {"username": "bob"}}),
            "invalid bearer token",
            false,
        ),
        (&up, json!({"error": "no such token: t0ken"}), "its reason repeats the token", false),
        (&for_api, json!({"error": "ldap is down"}), "ldap is down", false),
        (&up, json!({"authenticated": true, "user": {"username": "bob"}, "error": "odd"}), bob, true),
        (&up, json!({"authenticated": "true"}), "status.authenticated: expected true or false", false),
        // The user.
        (&up, json!({"authenticated": true}), "the user name is empty", true),
        (&up, user(json!({"groups": ["dev"]})), "the user name is empty", true),
        (&up, yes("system:anonymous"), stranger, true),
        (&trusted, yes("system:anonymous"), stranger, true),
        (&up, user(json!({"username": "bob", "groups": ["system:unauthenticated"]})), stranger, true),
        (&up, yes("a\nb"), "user name \"a\\nb\" cannot be carried in a header without change", true),
        (&up, user(json!({"username": "bob", "groups": ["system:authenticated"]})), bob, true),
        (
            &up,
            user(json!({"username": "bob", "extra": {"gatelog.dev/user": ["root"]}})),
            "extra key \"gatelog.dev/user\" is reserved",
            true,
        ),
        // Names of Kubernetes' own.
        (
            &up,
            user(json!({"username": "system:serviceaccount:a:b", "groups": ["system:masters"]})),
            "system:serviceaccount:a:b \"\" system:masters,system:authenticated {}",
            true,
        ),
        (&hook, yes("system:admin"), "\"system:admin\" is not believed, it begins with system:", true),
        (
            &hook,
            user(json!({"username": "bob", "groups": ["a", "system:masters"]})),
            "\"system:masters\" is not believed, it begins with system:",
            true,
        ),
        (&hook, user(json!({"username": "bob", "groups": ["system:authenticated"]})), bob, true),
        (&trusted, yes("system:admin"), "system:admin \"\" system:authenticated {}", true),
        // Audiences.
        (&up, json!({"authenticated": true, "user": {"username": "bob"}, "audiences": ["other"]}), bob, true),
        (
            &for_api,
            json!({"authenticated": true, "user": {"username": "bob"}, "audiences": ["x", "gate"]}),
            bob,
            true,
        ),
        (
            &for_api,
            json!({"authenticated": true, "user": {"username": "bob"}, "audiences": ["other"]}),
            other,
            true,
        ),
        (
            &for_api,
            json!({"authenticated": true, "user": {"username": "bob"}, "audiences": ["API"]}),
            other,
            true,
        ),
        (
            &for_api,
            yes("bob"),
            "the answer names no audience, so it does not say that the token is for this one",
            true,
        ),
    ];
    for (config, status, want, remembered) in rows {
        let mut hook = Hook::start(config.clone()).await;
        for again in [false, true] {
            let answer = hook.ask("t0ken");
            if !again || !remembered {
                let asked = hook.asked().await;
                assert_eq!(asked.token(), "t0ken");
                asked.answer(status.clone());
            }
            assert_eq!(answer.await.unwrap(), want, "{status} again: {again}");
        }
        assert!(hook.is_quiet(), "{status}");
    }
}

#[tokio::test]
async fn what_an_api_server_would_take_for_something_else_is_never_sent() {
    let mut hook = Hook::start(config(To::Upstream)).await;
    for token in [
        "",
        " ",
        " x",
        "x ",
        "x y",
        "tokbob zz",
        "tokbob\n",
        "\ttokbob",
        "\u{a0}",
        "\u{a0}x",
        "\u{2028}x",
        "x\u{85}",
        "a\0b",
        "a\u{7f}",
        "a\u{9f}",
    ] {
        let why = said(hook.review.authenticate(token).await);
        assert_eq!(why, "the token is empty or holds a space or a control character", "{token:?}");
    }
    assert!(hook.is_quiet());
    for token in ["x", "a.b-c_d~e+f/g=", "tök,en\"'"] {
        let answer = hook.ask(token);
        let asked = hook.asked().await;
        assert_eq!(asked.token(), token);
        asked.answer(yes("bob"));
        assert!(answer.await.unwrap().starts_with("bob"));
    }
}

#[tokio::test]
async fn the_question_goes_where_it_should() {
    for (to, path) in
        [(To::Upstream, "/apis/authentication.k8s.io/v1/tokenreviews"), (webhook(), "/hooks/authenticate")]
    {
        for audiences in [vec![], vec!["api".to_owned(), "gate".to_owned()]] {
            let mut hook = Hook::start(Config { audiences: audiences.clone(), ..config(to.clone()) }).await;
            let answer = hook.ask("t0ken");
            let asked = hook.asked().await;
            assert_eq!(asked.path, path);
            assert_eq!(asked.headers["authorization"], "Bearer gate");
            let want = if audiences.is_empty() {
                json!({"token": "t0ken"})
            } else {
                json!({"token": "t0ken", "audiences": audiences})
            };
            assert_eq!(asked.spec, want);
            asked.answer(json!({"authenticated": false}));
            assert_eq!(answer.await.unwrap(), "nobody");
        }
    }
}

#[tokio::test]
async fn fifty_callers_make_one_call() {
    let mut hook = Hook::start(config(webhook())).await;
    let callers: Vec<_> = (0..50).map(|_| hook.ask("t0ken")).collect();
    hook.asked().await.answer(json!({"error": "not even this is kept"}));
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "not even this is kept");
    }
    assert!(hook.is_quiet() && hook.review.calls().is_empty());
    assert_eq!(hook.review.places.available_permits(), CALLS);
}

#[tokio::test]
async fn a_call_outlives_those_who_asked() {
    let mut hook = Hook::start(config(webhook())).await;
    let gone = [hook.ask("t0ken"), hook.ask("t0ken")];
    let asked = hook.asked().await;
    for caller in gone {
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
    }
    // Whoever comes meanwhile waits for the same call.
    let late = hook.ask("t0ken");
    tokio::task::yield_now().await;
    asked.answer(yes("bob"));
    assert!(late.await.unwrap().starts_with("bob"));
    assert!(hook.ask("t0ken").await.unwrap().starts_with("bob"));
    assert!(hook.is_quiet());
}

#[tokio::test]
async fn a_flood_of_tokens_is_none_of_calls() {
    let mut hook = Hook::start(config(webhook())).await;
    let mut callers: Vec<_> = (0..CALLS + 8).map(|i| hook.ask(&format!("t{i}"))).collect();
    let mut asked = Vec::new();
    for _ in 0..CALLS {
        asked.push(hook.asked().await);
    }
    // Those who wait for a place and leave take none, and two about one token take one together.
    callers.drain(CALLS..).take(4).for_each(|caller| caller.abort());
    let same = [hook.ask("same"), hook.ask("same")];
    tokio::task::yield_now().await;
    assert!(hook.is_quiet());
    for asked in asked {
        asked.answer(yes("bob"));
    }
    for _ in 0..5 {
        hook.asked().await.answer(yes("bob"));
    }
    for caller in callers.into_iter().take(CALLS).chain(same) {
        assert!(caller.await.unwrap().starts_with("bob"));
    }
    assert!(hook.is_quiet());
}

#[tokio::test]
async fn it_is_asked_again_when_that_may_help() {
    let mut hook = Hook::start(config(webhook())).await;
    let caller = hook.ask("t0ken");
    hook.asked().await.reply.send((500, json!({}))).unwrap();
    drop(hook.asked().await);
    hook.asked().await.answer(yes("bob"));
    assert!(caller.await.unwrap().starts_with("bob"));
    let caller = hook.ask("t1ken");
    hook.asked().await.reply.send((403, json!({}))).unwrap();
    assert_eq!(caller.await.unwrap(), "the gate's own account may not create tokenreviews (403)");
    assert!(hook.is_quiet());
}

#[tokio::test]
async fn without_a_time_nothing_is_remembered() {
    let mut hook = Hook::start(Config { cache_ttl: Duration::ZERO, ..config(webhook()) }).await;
    for _ in 0..2 {
        let answer = hook.ask("t0ken");
        hook.asked().await.answer(yes("bob"));
        assert!(answer.await.unwrap().starts_with("bob"));
    }
}

/// All authenticators, of which there is this one; one failed attempt a minute is allowed.
fn alone(review: Arc<Review>) -> Arc<Authn> {
    let shared = Shared::new(Metrics::unregistered(), Some(1));
    let files = crate::authn::Config::default().read().unwrap();
    let (mut authn, _) = Authn::new(&files, &shared, None).unwrap();
    authn.review = Some(review);
    Arc::new(authn)
}

/// A request with this token: whether somebody is known by it, else whether that was the limit.
fn request(authn: &Arc<Authn>, token: &str) -> tokio::task::JoinHandle<Result<(), bool>> {
    let (authn, token) = (authn.clone(), format!("Bearer {token}"));
    tokio::spawn(async move {
        let conn = Conn::new(([192, 0, 2, 1], 1).into(), Vec::new());
        let mut headers = HeaderMap::new();
        headers.insert("authorization", token.parse().unwrap());
        let (head, ()) = Request::get("/api").body(()).unwrap().into_parts();
        let asked = crate::request::Asked::parse(&head).unwrap();
        let proven = authn.authenticate(&conn, conn.peer.ip(), &mut headers, &asked).await;
        proven.map(|_| ()).map_err(|refusal| refusal.limited)
    })
}

#[tokio::test]
async fn what_was_answered_is_not_believed_for_longer_elsewhere() {
    let mut hook = Hook::start(Config { cache_ttl: Duration::ZERO, ..config(webhook()) }).await;
    let authn = alone(hook.review.clone());
    for _ in 0..2 {
        let known = request(&authn, "t0ken");
        hook.asked().await.answer(yes("bob"));
        assert_eq!(known.await.unwrap(), Ok(()));
    }
}

#[tokio::test]
async fn who_hangs_up_has_failed_and_who_is_known_is_not_limited() {
    let mut hook = Hook::start(config(webhook())).await;
    let authn = alone(hook.review.clone());
    let bob = hook.ask("bob");
    hook.asked().await.answer(yes("bob"));
    bob.await.unwrap();
    let gone = request(&authn, "guess");
    let _unanswered = hook.asked().await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    assert_eq!(request(&authn, "another").await.unwrap(), Err(true));
    assert_eq!(request(&authn, "bob").await.unwrap(), Ok(()));
    assert!(hook.is_quiet());
}

#[tokio::test]
async fn who_was_known_is_judged_again_whatever_the_neighbours_do() {
    let mut hook = Hook::start(Config { cache_ttl: Duration::ZERO, ..config(webhook()) }).await;
    let authn = alone(hook.review.clone());
    let guess = request(&authn, "guess");
    hook.asked().await.answer(json!({"authenticated": false}));
    assert_eq!(guess.await.unwrap(), Err(false));
    assert_eq!(request(&authn, "stranger").await.unwrap(), Err(true));
    // Proven once, a while ago.
    let user = User::new("bob", "", Vec::new(), Default::default()).unwrap();
    let proven = Ok(Some(Authenticated::new(user, Method::Jwt, None)));
    for (status, after) in [(yes("bob"), Ok(())), (json!({"authenticated": false}), Err(false))] {
        authn.proven.keep(authn.proven.digest("bob").unwrap(), &proven, Duration::from_nanos(1));
        let known = request(&authn, "bob");
        hook.asked().await.answer(status);
        assert_eq!(known.await.unwrap(), after);
    }
    assert_eq!(request(&authn, "bob").await.unwrap(), Err(true));
    assert!(hook.is_quiet());
}

#[tokio::test]
async fn who_has_failed_while_others_waited_begins_no_more_calls() {
    let mut hook = Hook::start(config(webhook())).await;
    let places = hook.review.places.clone().acquire_many_owned(CALLS as u32).await.unwrap();
    let allowed = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let waits = tokio::spawn({
        let (review, allowed) = (hook.review.clone(), allowed.clone());
        async move { said(review.authenticate_while("t0ken", || allowed.load(Relaxed)).await) }
    });
    tokio::task::yield_now().await;
    allowed.store(false, Relaxed);
    drop(places);
    let why = "too many attempts from this source have failed, nobody was asked";
    assert_eq!(waits.await.unwrap(), why);
    assert!(hook.is_quiet());
}

#[tokio::test]
async fn a_call_that_falls_leaves_nobody_waiting() {
    let hook = Hook::start(config(webhook())).await;
    let digest = hook.review.answers.digest("t0ken").unwrap();
    let (sender, call) = watch::channel(None);
    hook.review.calls().insert(digest, call);
    let waits = hook.ask("t0ken");
    tokio::task::yield_now().await;
    drop((Running { review: &hook.review, digest }, sender));
    assert_eq!(waits.await.unwrap(), "the call ended without an answer");
    assert!(hook.review.calls().is_empty());
}

#[test]
fn somebody_else_s_text_is_short() {
    assert_eq!(clip("short"), "short");
    assert_eq!(clip(&"é".repeat(200)), "é".repeat(200));
    assert_eq!(clip(&"é".repeat(201)), format!("{}…", "é".repeat(200)));
}
