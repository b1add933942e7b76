//! A gate before an upstream whose every piece a test controls, over HTTP/2 or HTTP/1.1, and callers of both protocols.

use crate::{
    conformance::{record::Record, world::World},
    raw::{self, Tls, Wire},
    scene::Folder,
};
use bytes::Bytes;
use gatelog::server::Gate;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, client::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    },
};

/// Nothing on a loopback takes longer, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Within [`PATIENCE`], or the test fails.
#[track_caller]
pub(crate) fn soon<T>(what: impl Future<Output = T>) -> impl Future<Output = T> {
    let at = std::panic::Location::caller();
    async move { timeout(PATIENCE, what).await.unwrap_or_else(|_| panic!("hangs at {at}")) }
}

/// Waits until something holds that nobody tells about.
#[track_caller]
pub(crate) fn until(mut holds: impl FnMut() -> bool) -> impl Future<Output = ()> {
    soon(async move {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
}

/// A body that a test feeds.
pub(crate) type Feed = mpsc::Sender<io::Result<Bytes>>;

/// A body in pieces, as they are fed.
pub(crate) struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }
}

/// An empty body and what feeds it; the feed is closed when the peer wants no more.
pub(crate) fn pieces() -> (Feed, Pieces) {
    let (feed, pieces) = mpsc::channel(1);
    (feed, Pieces(pieces))
}

/// A whole body.
pub(crate) fn whole(body: impl Into<Bytes>) -> Pieces {
    let (feed, pieces) = pieces();
    feed.try_send(Ok(body.into())).unwrap();
    pieces
}

/// An answer of the upstream.
pub(crate) fn answer(status: u16, headers: &[(&'static str, &str)], body: Pieces) -> Response<Pieces> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        response.headers_mut().append(*name, value.parse().unwrap());
    }
    response
}

pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");

/// A request on its way into the upstream, for the test to answer.
pub(crate) struct Call {
    pub(crate) request: Request<Incoming>,
    /// Which connection it came on, from 1.
    pub(crate) connection: usize,
    reply: tokio::sync::oneshot::Sender<Response<Pieces>>,
}

impl Call {
    /// Answers it.
    pub(crate) fn answer(self, response: Response<Pieces>) {
        let _ = self.reply.send(response);
    }

    /// Answers with a stream and returns what feeds it.
    pub(crate) fn stream(self, content_type: &str) -> Feed {
        let (feed, body) = pieces();
        self.answer(answer(200, &[("content-type", content_type)], body));
        feed
    }

    /// Waits until the gate gives the request up.
    pub(crate) async fn cancelled(mut self) {
        self.reply.closed().await;
    }

    pub(crate) fn path(&self) -> &str {
        self.request.uri().path()
    }
}

/// The upstream. Its calls are answered by the test, one by one.
pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    calls: tokio::sync::Mutex<mpsc::UnboundedReceiver<Call>>,
    sender: mpsc::UnboundedSender<Call>,
    acceptor: TlsAcceptor,
    accepted: Arc<AtomicUsize>,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
    listening: Mutex<Option<JoinHandle<()>>>,
    streams: u32,
}

/// A TLS server's side for 127.0.0.1.
pub(crate) fn acceptor(world: &World, alpn: &[&str]) -> TlsAcceptor {
    let pair = world.server();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let chain = CertificateDer::pem_slice_iter(pair.chain.as_bytes()).collect::<Result<_, _>>().unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap())
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

impl Upstream {
    async fn start(world: &World, alpn: &[&str], streams: u32) -> Self {
        let (sender, calls) = mpsc::unbounded_channel();
        let mut upstream = Self {
            addr: ([127, 0, 0, 1], 0).into(),
            calls: calls.into(),
            sender,
            acceptor: acceptor(world, alpn),
            accepted: Arc::default(),
            connections: Arc::default(),
            listening: Mutex::default(),
            streams,
        };
        upstream.addr = upstream.listen().await;
        upstream
    }

    /// Listens, again on the same port after [`Self::stop`].
    pub(crate) async fn listen(&self) -> SocketAddr {
        let tcp = TcpListener::bind(self.addr).await.unwrap();
        let addr = tcp.local_addr().unwrap();
        let (sender, acceptor, streams) = (self.sender.clone(), self.acceptor.clone(), self.streams);
        let (accepted, connections) = (self.accepted.clone(), self.connections.clone());
        let listening = tokio::spawn(async move {
            while let Ok((tcp, _)) = tcp.accept().await {
                let connection = accepted.fetch_add(1, Ordering::SeqCst) + 1;
                let serving = serve(tcp, acceptor.clone(), sender.clone(), connection, streams);
                connections.lock().unwrap().push(tokio::spawn(serving));
            }
        });
        *self.listening.lock().unwrap() = Some(listening);
        addr
    }

    /// Cuts every connection and takes no further ones.
    pub(crate) async fn stop(&self) {
        let listening = self.listening.lock().unwrap().take();
        let connections = std::mem::take(&mut *self.connections.lock().unwrap());
        for task in listening.into_iter().chain(connections) {
            task.abort();
            let _ = task.await;
        }
    }

    /// The next request.
    pub(crate) async fn call(&self) -> Call {
        soon(async { self.calls.lock().await.recv().await.unwrap() }).await
    }

    /// A request that has come, if one has.
    pub(crate) fn called(&self) -> bool {
        !self.calls.try_lock().is_ok_and(|calls| calls.is_empty())
    }
}

async fn serve(
    tcp: TcpStream,
    acceptor: TlsAcceptor,
    sender: mpsc::UnboundedSender<Call>,
    connection: usize,
    streams: u32,
) {
    tcp.set_nodelay(true).unwrap();
    let Ok(io) = acceptor.accept(tcp).await else { return };
    let http2 = io.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| {
        let sender = sender.clone();
        async move {
            let (reply, answered) = tokio::sync::oneshot::channel();
            let _ = sender.send(Call { request, connection, reply });
            // Who drops the call does not answer.
            match answered.await {
                Ok(response) => Ok::<_, Infallible>(response),
                Err(_) => std::future::pending().await,
            }
        }
    });
    let io = TokioIo::new(io);
    if http2 {
        let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = http2.max_concurrent_streams(streams).serve_connection(io, service).await;
    } else {
        let _ =
            hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades().await;
    }
}

/// All of it.
pub(crate) struct Plane {
    pub(crate) world: World,
    pub(crate) folder: Folder,
    pub(crate) upstream: Upstream,
    gate: Option<Gate>,
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    pub(crate) record: Record,
}

/// What differs from one to the next.
pub(crate) struct Options {
    /// What the upstream speaks.
    pub(crate) alpn: &'static [&'static str],
    /// Streams that the upstream allows on a connection.
    pub(crate) streams: u32,
    /// More keys of `listen`.
    pub(crate) listen: &'static str,
    /// More keys of `authentication`.
    pub(crate) authentication: &'static str,
    /// More keys of `limits`.
    pub(crate) limits: &'static str,
    /// More keys of `upstream`.
    pub(crate) upstream: &'static str,
    /// Of `audit`.
    pub(crate) policy: &'static str,
    /// Who may do what, in lines as [`World`] reads them.
    pub(crate) rights: &'static str,
    /// The same for the rules that are rehearsed: in `candidate.yaml`.
    pub(crate) candidate: &'static str,
    /// More keys of `authorization`.
    pub(crate) authorization: &'static str,
    /// Of `validation`; an upstream whose answers are the test's is to hear nothing but what the test sends.
    pub(crate) validation: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            alpn: &["h2", "http/1.1"],
            streams: 250,
            listen: "",
            authentication: "",
            limits: "",
            upstream: "",
            policy: "everything",
            rights: USERS,
            candidate: "",
            authorization: "",
            validation: "mode: off",
        }
    }
}

/// Users who may do everything, with tokens.
const USERS: &str = "can alice * * *\npaths alice * /*\ncan bob * * *\ncan carol * * *";

impl Plane {
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let world = World::new(&[options.rights]);
        let upstream = Upstream::start(&world, options.alpn, options.streams).await;
        let folder = Folder::new("plane");
        write(&folder, &world, upstream.addr, &options);
        let config = gatelog::config::load(&folder.0.join("gatelog.yaml")).unwrap_or_else(|e| panic!("{e}"));
        let gate = gatelog::server::start(config).await.unwrap_or_else(|e| panic!("{e}"));
        let (address, admin) = (gate.address(), gate.admin().unwrap());
        let record = Record::at(folder.0.join("audit"));
        Self { world, folder, upstream, gate: Some(gate), address, admin, record }
    }

    pub(crate) fn gate(&self) -> &Gate {
        self.gate.as_ref().unwrap()
    }

    /// The gate, to be drained.
    pub(crate) fn take_gate(&mut self) -> Gate {
        self.gate.take().unwrap()
    }

    /// A caller over HTTP/2.
    pub(crate) async fn caller(&self, user: &'static str) -> Caller {
        self.caller_with(user, 1 << 20).await
    }

    /// One who takes only so much of an answer before reading it.
    pub(crate) async fn caller_with(&self, user: &'static str, window: u32) -> Caller {
        let io = connect(&self.world.ca.pem(), self.address, "h2").await;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .initial_connection_window_size(window.max(65_535))
            .handshake(TokioIo::new(io))
            .await
            .unwrap();
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Caller { sender, address: self.address, token: format!("Bearer {user}-token"), connection }
    }

    /// A connection for HTTP/1.1, byte by byte.
    pub(crate) async fn wire(&self) -> Wire {
        Wire::open(self.address, &Tls::new(&self.world.ca.pem(), None, "http/1.1")).await.unwrap()
    }

    /// A request's head over HTTP/1.1.
    pub(crate) fn head(user: &str, method: &str, target: &str, headers: &[(&str, &str)]) -> String {
        let mut head =
            format!("{method} {target} HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {user}-token\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head + "\r\n"
    }

    /// The last event of a request, once it is there.
    pub(crate) async fn last(&mut self, headers: &HeaderMap) -> Value {
        let id = headers["audit-id"].to_str().unwrap().to_owned();
        let events = self.record.events(&id, crate::conformance::record::ended).await;
        assert!(crate::conformance::record::ended(&events), "no last event: {events:#?}");
        events.last().unwrap().clone()
    }

    /// What the admin listener says to this path.
    pub(crate) async fn admin(&self, path: &str) -> String {
        ask_admin(self.admin, path).await
    }

    /// A metric's value, all its series with this text together.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = self.admin("/metrics").await;
        let lines = text.lines().filter(|l| l.starts_with(series) && !l.starts_with('#'));
        lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin
    }
}

pub(crate) async fn ask_admin(admin: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    raw::plain(admin, request.as_bytes()).await
}

/// A TLS connection to the gate by somebody without a certificate.
pub(crate) async fn connect(ca: &str, address: SocketAddr, alpn: &str) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(der.unwrap()).unwrap();
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let tcp = TcpStream::connect(address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    soon(TlsConnector::from(Arc::new(config)).connect(ServerName::from(address.ip()), tcp)).await.unwrap()
}

/// Somebody with a token, on one HTTP/2 connection.
pub(crate) struct Caller {
    sender: http2::SendRequest<Pieces>,
    address: SocketAddr,
    token: String,
    /// Ends when the connection does.
    pub(crate) connection: JoinHandle<()>,
}

impl Caller {
    /// A request under way; dropping the task's handle does not end it, aborting it does.
    pub(crate) fn send(&self, method: &str, target: &str, body: Option<Pieces>) -> Asking {
        let uri = format!("https://{}{target}", self.address);
        let body = body.unwrap_or_else(|| pieces().1);
        let mut request = Request::builder().method(method).uri(uri).body(body).unwrap();
        request.headers_mut().insert("authorization", self.token.parse().unwrap());
        request.headers_mut().insert("content-type", "application/json".parse().unwrap());
        let mut sender = self.sender.clone();
        Asking(tokio::spawn(async move { sender.send_request(request).await }))
    }

    pub(crate) fn get(&self, target: &str) -> Asking {
        self.send("GET", target, None)
    }
}

/// A request under way.
pub(crate) struct Asking(pub(crate) JoinHandle<hyper::Result<Response<Incoming>>>);

impl Asking {
    /// The answer's head.
    pub(crate) async fn head(self) -> Response<Incoming> {
        soon(self.0).await.unwrap().unwrap()
    }

    /// The whole answer.
    pub(crate) async fn whole(self) -> (u16, HeaderMap, Bytes) {
        let (head, body) = self.head().await.into_parts();
        (head.status.as_u16(), head.headers, soon(body.collect()).await.unwrap().to_bytes())
    }
}

/// The next piece of an answer; None at its clean end.
pub(crate) async fn piece(body: &mut Incoming) -> Option<hyper::Result<Bytes>> {
    loop {
        let piece = soon(body.frame()).await?.map(|frame| frame.into_data().unwrap_or_default());
        // HTTP/2 may end with an empty frame.
        if !matches!(&piece, Ok(data) if data.is_empty()) {
            return Some(piece);
        }
    }
}

/// The message of a Status.
pub(crate) fn message(body: &[u8]) -> String {
    let status: Value = serde_json::from_slice(body).unwrap_or_default();
    status["message"].as_str().unwrap_or_default().to_owned()
}

/// The world's RBAC objects in one text.
pub(crate) fn manifest(world: &World) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": world.objects()}).to_string()
}

fn write(folder: &Folder, world: &World, upstream: SocketAddr, options: &Options) {
    let server = world.server();
    folder.put("ca.crt", &world.ca.pem());
    folder.put("upstream-ca.crt", &world.ca.pem());
    folder.put("server.crt", &server.chain);
    folder.put("server.key", &server.key);
    folder.put("tokens.csv", &world.tokens());
    folder.put("gate.token", "gatelog-token");
    folder.put("rbac.yaml", &manifest(world));
    let Options { listen, authentication, limits, upstream: more, policy, authorization, validation, .. } =
        options;
    let shadow = match options.candidate {
        "" => "",
        candidate => {
            folder.put("candidate.yaml", &manifest(&World::new(&[candidate])));
            ", shadow: {files: [candidate.yaml]}"
        }
    };
    folder.put(
        "gatelog.yaml",
        &format!(
            "apiVersion: gatelog.dev/v1alpha1
kind: Gateway
listen: {{address: '127.0.0.1:0', tlsCertFile: server.crt, tlsPrivateKeyFile: server.key{listen}}}
upstream: {{server: 'https://{upstream}', certificateAuthority: upstream-ca.crt, tokenFile: gate.token{more}}}
authentication: {{clientCAFile: ca.crt, tokenAuthFile: tokens.csv, {authentication}}}
authorization: {{rbac: {{files: [rbac.yaml]}}{shadow}{authorization}}}
audit: {{policy: {policy}, dir: audit, signing: {{stdout: none}}}}
limits: {{requestBody: 3Mi{limits}}}
validation: {{{validation}}}
admin: {{address: '127.0.0.1:0'}}
reload: {{interval: 1h}}
"
        ),
    );
}
