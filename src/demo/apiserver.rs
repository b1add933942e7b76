//! The in-memory Kubernetes API server that `gatelog demo` and the tests put behind the gate.
//!
//! To the gate it is an upstream like any other: TLS with HTTP/1.1 and HTTP/2, callers known by client certificate or
//! token, impersonation that takes a right, RBAC over the objects that it stores itself. Real kubectl can use it directly.

use super::{
    accounts::Accounts,
    answer::{Answer, Failure, full, text},
    caller::{self, RuleCache},
    discovery,
    fault::{self, Fault, Faults},
    kinds,
    kubelet::Kubelet,
    media::Encoding,
    openapi, options,
    pki::{Ca, Pair},
    route::Asked,
    store::{Op, Store},
    value, verbs, world,
};
use http::{HeaderMap, HeaderValue, Method, Request, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use std::{
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

pub use super::{accounts::ISSUER, caller::Caller, world::Gateway};

/// How many requests are remembered.
const SEEN: usize = 10_000;

/// How to run an API server.
#[derive(Debug)]
pub struct Options {
    /// Server certificate, and a verifier that requests client certificates and lets only the right ones through. ALPN
    /// decides between HTTP/2 and HTTP/1.1.
    pub tls: Arc<rustls::ServerConfig>,
    /// Where to listen.
    pub listener: std::net::TcpListener,
    /// Users by bearer token.
    pub tokens: HashMap<String, Caller>,
    /// Who the gate is, and what it may do.
    pub gateway: Gateway,
    /// What goes wrong.
    pub faults: Faults,
    /// HTTP/2 streams a connection may have open.
    pub max_streams: u32,
}

impl Options {
    /// On a free port of the loopback interface, without tokens, with the gate's user being `gatelog`.
    pub fn new(tls: Arc<rustls::ServerConfig>) -> io::Result<Self> {
        Ok(Self {
            tls,
            listener: std::net::TcpListener::bind(("127.0.0.1", 0))?,
            tokens: HashMap::new(),
            gateway: Gateway::default(),
            faults: Faults::default(),
            max_streams: 100,
        })
    }
}

/// The server's side of TLS: HTTP/2 and HTTP/1.1, client certificates of `clients` requested but not required.
pub fn tls(server: &Pair, clients: &Ca) -> Result<Arc<rustls::ServerConfig>, rustls::Error> {
    let other = |e: &dyn std::fmt::Display| rustls::Error::General(e.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(clients.der().to_vec()))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| other(&e))?;
    let chain = server.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes()).map_err(|e| other(&e))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A request that reached the server.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// Path and query as they came.
    pub target: String,
    /// Its headers, in order of arrival.
    pub headers: HeaderMap,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: http::Version,
}

/// A running server.
#[derive(Debug)]
pub struct ApiServer {
    server: Arc<Server>,
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) store: Arc<Store>,
    pub(super) tokens: HashMap<String, Caller>,
    pub(super) accounts: Accounts,
    addr: SocketAddr,
    pub(super) kubelet: Kubelet,
    faults: Faults,
    rules: RuleCache,
    seen: Mutex<VecDeque<Seen>>,
}

/// One connection.
struct Conn {
    server: Arc<Server>,
    certificate: Option<CertificateDer<'static>>,
    /// Ends the connection gracefully.
    goaway: Notify,
}

impl ApiServer {
    /// Starts with the demo's world in the store.
    pub async fn start(options: Options) -> io::Result<Self> {
        options.listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(options.listener)?;
        let addr = listener.local_addr()?;
        let store = Arc::new(Store::default());
        world::fill(&store, &options.gateway)?;
        let server = Arc::new(Server {
            store,
            tokens: options.tokens,
            accounts: Accounts::new().map_err(io::Error::other)?,
            addr,
            kubelet: Kubelet::default(),
            faults: options.faults,
            rules: RuleCache::default(),
            seen: Mutex::default(),
        });
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(tell_kubelet(server.clone(), stopped.clone()));
        let acceptor = TlsAcceptor::from(options.tls);
        let accepting =
            tokio::spawn(accept(listener, acceptor, server.clone(), options.max_streams, stopped));
        Ok(Self { server, addr, stop, accepting })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where faults are ordered.
    pub fn faults(&self) -> &Faults {
        &self.server.faults
    }

    /// The last requests that reached it, oldest first.
    pub fn requests(&self) -> Vec<Seen> {
        self.server.seen().iter().cloned().collect()
    }

    /// Forgets the requests seen so far.
    pub fn forget_requests(&self) {
        self.server.seen().clear();
    }

    /// Stores an object, in place of one of its name, as if somebody had applied it: watches tell of it.
    ///
    /// # Errors
    /// What the server would have answered.
    pub fn apply(&self, object: serde_json::Value) -> io::Result<()> {
        world::place(&self.server.store, object)
    }

    /// Deletes the object of this kind, namespace and name; whether it was there.
    ///
    /// # Errors
    /// A kind that the server does not have.
    pub fn remove(&self, object: &serde_json::Value) -> io::Result<bool> {
        world::remove(&self.server.store, object)
    }

    /// Forgets the history of the store: watches from before are answered with 410.
    pub fn compact(&self) {
        self.server.store.compact();
    }

    /// A service account's token of these claims, signed as the server signs its own.
    pub fn mint(&self, claims: &serde_json::Value) -> String {
        self.server.accounts.mint(claims)
    }

    /// The public key that service accounts' tokens are verified with, as PEM.
    pub fn public_pem(&self) -> String {
        self.server.accounts.key().public_pem()
    }

    /// Another key for service accounts' tokens; those under the old one are good for nothing.
    pub fn rotate(&self) -> io::Result<()> {
        self.server.accounts.rotate().map_err(io::Error::other)
    }

    /// Stops: no new connections, and the open ones are cut.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let _ = self.accepting.await;
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    server: Arc<Server>,
    max_streams: u32,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let (acceptor, server, mut stopped) = (acceptor.clone(), server.clone(), stopped.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = connection(stream, acceptor, server, max_streams) => {}
                        _ = stopped.changed() => {}
                    }
                });
            }
            // Out of file descriptors, most likely: the next ones may do better.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, server: Arc<Server>, max_streams: u32) {
    let _ = stream.set_nodelay(true);
    let Ok(Ok(tls)) = tokio::time::timeout(Duration::from_secs(10), acceptor.accept(stream)).await else {
        return;
    };
    let session = tls.get_ref().1;
    let certificate = session.peer_certificates().and_then(|c| c.first()).map(|c| c.clone().into_owned());
    let h2 = session.alpn_protocol() == Some(b"h2");
    let conn = Arc::new(Conn { server, certificate, goaway: Notify::new() });
    let for_service = conn.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let conn = for_service.clone();
        async move {
            let head = request.method() == Method::HEAD;
            let answer = conn.serve(request).await;
            // Over HTTP/1.1 hyper leaves the body out by itself.
            if head { answer.map(|answer| answer.map(|_| full(""))) } else { answer }
        }
    });
    let io = TokioIo::new(tls);
    if h2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).max_concurrent_streams(max_streams);
        let mut serving = pin!(builder.serve_connection(io, service));
        tokio::select! {
            _ = serving.as_mut() => {}
            () = conn.goaway.notified() => {
                serving.as_mut().graceful_shutdown();
                let _ = serving.await;
            }
        }
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new());
        let mut serving = pin!(builder.serve_connection(io, service).with_upgrades());
        tokio::select! {
            _ = serving.as_mut() => {}
            () = conn.goaway.notified() => {
                serving.as_mut().graceful_shutdown();
                let _ = serving.await;
            }
        }
    }
}

/// Tells the kubelet of pods that are gone.
async fn tell_kubelet(server: Arc<Server>, mut stopped: watch::Receiver<bool>) {
    let Some(pods) = kinds::by_plural("", "pods") else { return };
    let Some(mut changed) = server.store.subscribe(pods) else { return };
    let mut at = server.store.read(|s| s.version());
    loop {
        tokio::select! {
            result = changed.changed() => if result.is_err() { return },
            _ = stopped.changed() => return,
        }
        for change in server.store.read(|s| s.since(pods, at)).unwrap_or_default() {
            at = at.max(change.version);
            if change.op == Op::Deleted {
                server.kubelet.removed(value::text(&change.object, "/metadata/uid"));
            }
        }
    }
}

impl Server {
    fn seen(&self) -> std::sync::MutexGuard<'_, VecDeque<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, request: &Request<Incoming>) {
        let target = request.uri().path_and_query().map_or("", |p| p.as_str()).to_owned();
        let seen = Seen {
            method: request.method().clone(),
            target,
            headers: request.headers().clone(),
            version: request.version(),
        };
        let mut all = self.seen();
        if all.len() == SEEN {
            all.pop_front();
        }
        all.push_back(seen);
    }
}

impl Conn {
    async fn serve(&self, mut request: Request<Incoming>) -> io::Result<Answer> {
        self.server.remember(&request);
        let upgrade =
            request.headers().contains_key(header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
        let fault = self.server.faults.take(request.uri().path());
        let (parts, body) = request.into_parts();
        let mut upgrade = upgrade;
        if let Some(fault) = &fault {
            if matches!(fault, Fault::GoAway) {
                self.goaway.notify_one();
            }
            let taken = if matches!(fault, Fault::Delay(_) | Fault::GoAway) { None } else { upgrade.take() };
            if let Some(done) = fault::act(fault, taken).await {
                return done;
            }
        }
        let body = verbs::body::read(body).await;
        let asked = Asked::parse(&parts.method, &parts.uri);
        let mut answer = match self.answer(&asked, &parts, body, upgrade) {
            Ok(answer) => answer,
            Err(failure) => Encoding::plain(&parts.headers, &asked.query).failure(&failure),
        };
        let headers = answer.headers_mut();
        let audit = parts.headers.get("audit-id").cloned();
        if let Some(id) = audit.or_else(|| HeaderValue::from_str(&super::write::uid()).ok()) {
            headers.insert("audit-id", id);
        }
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
        Ok(answer)
    }

    fn answer(
        &self,
        asked: &Asked,
        parts: &http::request::Parts,
        body: verbs::body::Body,
        upgrade: Option<hyper::upgrade::OnUpgrade>,
    ) -> Result<Answer, Failure> {
        let server = &*self.server;
        if !asked.is_long() {
            options::timeout(&asked.query)?;
        }
        let caller = caller::authenticate(self.certificate.as_ref(), server, &parts.headers)?;
        let rules = server.rules.get(&server.store);
        let nosniff = |mut f: Failure| {
            f.nosniff = true;
            f
        };
        let caller = caller::impersonate(caller, &parts.headers, &rules).map_err(nosniff)?;
        let name = asked.name();
        caller::allow(&caller, &rules, caller::attributes(asked, &name)).map_err(nosniff)?;
        match &asked.resource {
            None => page(server, asked, parts),
            Some(resource) => {
                let call = verbs::Call { server, caller: &caller, rules: &rules, asked, resource, parts };
                call.answer(body, upgrade)
            }
        }
    }
}

/// Everything that is not a resource.
fn page(server: &Server, asked: &Asked, parts: &http::request::Parts) -> Result<Answer, Failure> {
    let path = asked.path.as_str();
    let trimmed = if path == "/" { path } else { path.strip_suffix('/').unwrap_or(path) };
    let segments: Vec<&str> = trimmed.split('/').skip(1).collect();
    let headers = &parts.headers;
    let served = server.store.served();
    let json_answer =
        |code, value: &serde_json::Value| Encoding::plain(headers, &asked.query).answer(code, value);
    let found = match segments.as_slice() {
        [""] => json_answer(200, &discovery::paths(&served)),
        ["api"] | ["apis"] => discovery::roots(&served, trimmed, headers),
        [".well-known", "openid-configuration"] => server.accounts.discovery(server.addr),
        ["openid", "v1", "jwks"] => server.accounts.jwks(),
        ["version"] => json_answer(200, &discovery::version()),
        ["healthz" | "livez" | "readyz"] if trimmed == path => health(segments.first(), asked),
        ["healthz" | "livez" | "readyz", "ping"] => text(200, "ok"),
        ["openapi", "v2"] if trimmed == path => openapi::v2(&served, headers)?,
        ["openapi", "v3"] if trimmed == path => {
            discovery::tagged("application/json", &openapi::index(&served), headers)
        }
        ["openapi", "v3", rest @ ..] if !rest.is_empty() => {
            openapi::one(&served, &rest.join("/"), asked.query.get("hash"), headers)?
        }
        ["api", version] => {
            json_answer(200, &discovery::resources(&served, "", version).ok_or_else(Failure::no_path)?)
        }
        ["apis", group] => {
            json_answer(200, &discovery::one_group(&served, group).ok_or_else(Failure::no_path)?)
        }
        ["apis", group, version] => {
            let missing = || if kinds::is_built_in(group) { Failure::no_route() } else { Failure::no_path() };
            json_answer(200, &discovery::resources(&served, group, version).ok_or_else(missing)?)
        }
        _ => return Err(Failure::no_path()),
    };
    if matches!(parts.method, Method::GET | Method::HEAD) {
        Ok(found)
    } else {
        Err(Failure::method_not_allowed())
    }
}

fn health(which: Option<&&str>, asked: &Asked) -> Answer {
    if asked.query.get("verbose").is_some() {
        let which = which.copied().unwrap_or_default();
        return text(200, format!("[+]ping ok\n[+]store ok\n{which} check passed\n"));
    }
    text(200, "ok")
}
