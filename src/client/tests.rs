use super::*;
use crate::{
    demo::pki::{Ca, Client as Presented, Pair},
    endpoint::{Config, Explicit},
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use std::{
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const BOUNDS: Bounds = Bounds { timeout: Duration::from_secs(20), body: 1 << 16 };

/// A server that tells what it was asked, unless the path says otherwise.
struct Server {
    addr: SocketAddr,
    ca: Ca,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(protocols: &[&str], clients: bool) -> Self {
        let ca = Ca::new("server").unwrap();
        let Pair { chain, key } = ca.server(&["127.0.0.1", "api.test"]).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = if clients {
            let mut roots = RootCertStore::empty();
            roots.add(ca.der().to_vec().into()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut config =
            builder.with_single_cert(chain.into_iter().map(CertificateDer::from).collect(), key).unwrap();
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (acceptor, accepted) = (TlsAcceptor::from(Arc::new(config)), connections.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, SeqCst);
                tokio::spawn(connection(acceptor.clone(), stream));
            }
        });
        Self { addr, ca, connections }
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.addr)
    }

    fn roots(&self) -> Roots {
        Roots::Only(vec![self.ca.der().to_vec().into()])
    }

    fn client(&self) -> Client {
        Client::to_anywhere(&self.roots()).unwrap()
    }
}

async fn connection(acceptor: TlsAcceptor, stream: TcpStream) {
    let Ok(tls) = acceptor.accept(stream).await else { return };
    let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    let io = TokioIo::new(tls);
    let _ = match http2 {
        true => {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(io, service_fn(answer))
                .await
        }
        false => hyper::server::conn::http1::Builder::new().serve_connection(io, service_fn(answer)).await,
    };
}

async fn answer(request: Request<Incoming>) -> Result<http::Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let path = head.uri.path().to_owned();
    let answer = http::Response::builder();
    if path == "/hang" {
        pending::<()>().await;
    }
    if path == "/elsewhere" {
        return Ok(answer.status(302).header("location", "/").body(Full::default()).unwrap());
    }
    if let Some(size) = path.strip_prefix("/size/") {
        return Ok(answer.body(Full::new(vec![b'x'; size.parse().unwrap()].into())).unwrap());
    }
    if path == "/missing" {
        return Ok(answer.status(404).body(Full::new("{}".into())).unwrap());
    }
    let header = |name: &str| head.headers.get(name).map_or("-", |v| v.to_str().unwrap()).to_owned();
    let told = format!(
        "{} {} {:?} accept={} agent={} type={} authorization={} body={}",
        head.method,
        head.uri.path_and_query().unwrap(),
        head.version,
        header("accept"),
        header("user-agent"),
        header("content-type"),
        header("authorization"),
        String::from_utf8(body.to_vec()).unwrap(),
    );
    Ok(answer.body(Full::new(told.into())).unwrap())
}

fn text(answer: Answer) -> String {
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.body.to_vec()).unwrap()
}

fn failed(result: Result<Answer, Error>) -> String {
    result.map(|answer| answer.status).unwrap_err().to_string()
}

const AGENT_TEXT: &str = concat!("gatelog/", env!("CARGO_PKG_VERSION"));

#[tokio::test]
async fn asks_in_either_version_of_http_and_keeps_the_connection() {
    for (protocols, version) in [
        (&["h2", "http/1.1"][..], "HTTP/2.0"),
        (&["h2"], "HTTP/2.0"),
        (&["http/1.1"], "HTTP/1.1"),
        (&[], "HTTP/1.1"),
    ] {
        let server = Server::start(protocols, false).await;
        let client = server.client();
        for _ in 0..3 {
            let told = text(client.get(&server.url("/a?b=c"), BOUNDS).await.unwrap());
            let want = format!(
                "GET /a?b=c {version} accept=application/json, application/jwk-set+json agent={AGENT_TEXT} type=- authorization=- body="
            );
            assert_eq!(told, want);
        }
        let told = text(client.post(&server.url("/"), "{}".into(), BOUNDS).await.unwrap());
        assert!(
            told.starts_with("POST / ") && told.ends_with("type=application/json authorization=- body={}"),
            "{told}"
        );
        assert_eq!(server.connections.load(SeqCst), 1, "{version}");
    }
}

#[tokio::test]
async fn every_status_is_an_answer_and_redirects_are_not_followed() {
    let server = Server::start(&["h2"], false).await;
    let client = server.client();
    let answer = client.get(&server.url("/missing"), BOUNDS).await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (404, &b"{}"[..]));
    let answer = client.get(&server.url("/elsewhere"), BOUNDS).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.headers["location"].to_str().unwrap()), (302, "/"));
}

#[tokio::test]
async fn answers_are_bounded_in_size_and_time() {
    for protocols in [&["h2"][..], &["http/1.1"]] {
        let server = Server::start(protocols, false).await;
        let client = server.client();
        let bounds = Bounds { body: 1000, ..BOUNDS };
        assert_eq!(client.get(&server.url("/size/1000"), bounds).await.unwrap().body.len(), 1000);
        let larger = format!("{}: the answer is larger than 1000 bytes", server.addr);
        assert_eq!(failed(client.get(&server.url("/size/1001"), bounds).await), larger);
        assert_eq!(failed(client.get(&server.url("/size/10000000"), bounds).await), larger);
        let short = Bounds { timeout: Duration::from_millis(50), ..BOUNDS };
        let late = format!("{}: no answer within 50ms", server.addr);
        assert_eq!(failed(client.get(&server.url("/hang"), short).await), late);
        // The connection did not suffer.
        assert!(client.get(&server.url("/"), BOUNDS).await.is_ok());
    }
    // One that accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Server::start(&[], false).await.client();
    let url = format!("https://{}/", silent.local_addr().unwrap());
    let short = Bounds { timeout: Duration::from_millis(50), ..BOUNDS };
    assert!(failed(client.get(&url, short).await).ends_with("no answer within 50ms"));
}

#[tokio::test]
async fn errors_name_the_host_and_the_reason() {
    let server = Server::start(&["h2"], false).await;
    let stranger = Server::start(&["h2"], false).await;
    let why = failed(server.client().get(&stranger.url("/"), BOUNDS).await);
    assert!(why.starts_with(&format!("{}: invalid peer certificate: ", stranger.addr)), "{why}");
    let why =
        failed(server.client().get(&format!("https://localhost:{}/", server.addr.port()), BOUNDS).await);
    assert!(why.starts_with("localhost:") && why.contains("certificate not valid for name"), "{why}");
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let why = failed(server.client().get(&format!("https://{free}/hunter2?hunter2"), BOUNDS).await);
    assert!(why.starts_with(&format!("{free}: ")) && why.contains("Connection refused"), "{why}");
    assert!(!why.contains("hunter2"), "{why}");
}

#[tokio::test]
async fn only_https_urls_without_a_user_are_called() {
    let server = Server::start(&["http/1.1"], false).await;
    let client = server.client();
    let https = "expected a URL that begins with https://";
    for (url, why) in [
        (server.url("/").replace("https", "http"), https),
        ("/path".to_owned(), https),
        ("127.0.0.1:1".to_owned(), https),
        (String::new(), "not a URL: empty string"),
        ("https://".to_owned(), "not a URL: empty string"),
        ("https://a b".to_owned(), "not a URL: invalid uri character"),
        ("https://me:hunter2@127.0.0.1/".to_owned(), "127.0.0.1: a URL with a user name, expected none"),
    ] {
        assert_eq!(failed(client.get(&url, BOUNDS).await), why, "{url}");
    }
    assert_eq!(server.connections.load(SeqCst), 0);
}

#[test]
fn roots_must_be_certificates() {
    let broken = Client::to_anywhere(&Roots::Only(vec![vec![1, 2, 3].into()])).map(|_| ()).unwrap_err();
    assert!(broken.starts_with("certificate authority 1: "), "{broken}");
}

/// An endpoint in files of its own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gatelog-client-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Option<PathBuf> {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn endpoint(explicit: Explicit) -> Arc<Endpoint> {
    Arc::new(Endpoint::new(&Config::Explicit(explicit).read().unwrap()).unwrap())
}

#[tokio::test]
async fn an_endpoint_s_credentials_go_with_every_call() {
    let server = Server::start(&["h2"], true).await;
    let folder = Folder::new("credentials");
    let pair = server.ca.client(&Presented::new("gatelog")).unwrap();
    let explicit = Explicit {
        server: server.url(""),
        certificate_authority: folder.write("ca.crt", server.ca.pem()),
        client_certificate: folder.write("tls.crt", pair.certificates()),
        client_key: folder.write("tls.key", &pair.key),
        token_file: folder.write("token", "first\n"),
        ..Explicit::default()
    };
    let endpoint = endpoint(explicit.clone());
    let client = Client::to(endpoint.clone());
    let told = text(client.get("/openid/v1/jwks?x=1", BOUNDS).await.unwrap());
    assert!(told.starts_with("GET /openid/v1/jwks?x=1 HTTP/2.0"), "{told}");
    assert!(told.contains("authorization=Bearer first "), "{told}");
    // The token is read at each call.
    folder.write("token", "second");
    assert_eq!(endpoint.refresh(), Ok(true));
    let told = text(client.post("/x", "{}".into(), BOUNDS).await.unwrap());
    assert!(told.contains("authorization=Bearer second body={}"), "{told}");
    assert!(!format!("{client:?}").contains("second"));
    // The server insists on the certificate.
    let without = Explicit { client_certificate: None, client_key: None, ..explicit };
    let why = failed(Client::to(self::endpoint(without)).get("/", BOUNDS).await);
    assert!(why.starts_with(&server.addr.to_string()) && !why.contains("second"), "{why}");
}

#[tokio::test]
async fn an_endpoint_may_go_by_another_name() {
    let server = Server::start(&["http/1.1"], false).await;
    let folder = Folder::new("name");
    let explicit = Explicit {
        server: format!("https://localhost:{}", server.addr.port()),
        certificate_authority: folder.write("ca.crt", server.ca.pem()),
        ..Explicit::default()
    };
    let why = failed(Client::to(endpoint(explicit.clone())).get("/", BOUNDS).await);
    assert!(why.contains("certificate not valid for name"), "{why}");
    let named = Explicit { tls_server_name: Some("api.test".to_owned()), ..explicit };
    let client = Client::to(endpoint(named));
    assert!(text(client.get("/a", BOUNDS).await.unwrap()).starts_with("GET /a HTTP/1.1"));
    for target in ["a", "https://evil.test/", "", "@evil.test/"] {
        let want = format!("localhost:{}: {target:?} is no path on it", server.addr.port());
        assert_eq!(failed(client.get(target, BOUNDS).await), want);
    }
}
