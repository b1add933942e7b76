//! What it costs to know a caller: everything from the headers to the proof, its metrics included.

// A benchmark that cannot run must say so.
#![allow(clippy::expect_used)]

use divan::{Bencher, black_box};
use gatelog::{
    authn::{
        Authenticated, Authn, Config, Conn, Metrics, ReviewBy, ReviewConfig, ServiceAccountConfig, Shared,
        Unauthenticated,
    },
    demo::{
        apiserver::{self, ApiServer, Caller},
        jws::{self, Alg, Key},
        pki::{Ca, Client},
    },
    endpoint::{self, Explicit},
    request::Asked,
};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use rustls::pki_types::CertificateDer;
use serde_json::json;
use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};

fn main() {
    divan::main();
}

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const ALGORITHMS: [Alg; 5] = [Alg::Rs256, Alg::Ps256, Alg::Es256, Alg::Es384, Alg::Es512];

/// The authenticators of a configuration whose files are gone when it is.
struct Gate {
    authn: Authn,
    asked: Asked,
    peer: SocketAddr,
}

/// Files for a configuration.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("gatelog-bench-authn-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn put(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, contents).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays is in the temporary folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Gate {
    fn new(config: &Config, failed_attempts: Option<u32>) -> Self {
        let metrics = Metrics::new(&prometheus::Registry::new()).expect("metrics");
        let files = config.read().expect("files");
        let (authn, _) =
            Authn::new(&files, &Shared::new(metrics, failed_attempts), None).expect("authenticators");
        let request =
            http::Request::get("/api/v1/namespaces/default/pods?limit=500").body(()).expect("a request");
        let asked = Asked::parse(&request.into_parts().0).expect("a request");
        Self { authn, asked, peer: ([192, 0, 2, 7], 40_000).into() }
    }

    /// Tokens of service accounts, under one key.
    fn of(key: &Key, failed_attempts: Option<u32>) -> Self {
        let folder = Folder::new();
        let accounts = ServiceAccountConfig {
            issuers: vec![ISSUER.to_owned()],
            key_files: vec![folder.put("issuer.pub", key.public_pem())],
            ..ServiceAccountConfig::default()
        };
        Self::new(&Config { service_account: Some(accounts), ..Config::default() }, failed_attempts)
    }

    /// Of a caller whom nobody has to be asked about.
    fn prove(&self, conn: &Conn, headers: &mut HeaderMap) -> Result<Authenticated, Unauthenticated> {
        let proving = pin!(self.authn.authenticate(conn, self.peer.ip(), headers, &self.asked));
        match proving.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(proven) => proven,
            Poll::Pending => unreachable!("nobody is asked"),
        }
    }

    /// The same headers again and again.
    fn bench(&self, bencher: Bencher<'_, '_>, conn: &Conn, headers: &HeaderMap, known: bool) {
        assert_eq!(self.prove(conn, &mut headers.clone()).is_ok(), known);
        bencher
            .with_inputs(|| headers.clone())
            .bench_local_refs(|headers| self.prove(black_box(conn), headers).is_ok());
    }

    fn conn(&self) -> Conn {
        Conn::new(self.peer, Vec::new())
    }
}

/// As kubectl sends them.
fn headers(token: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("gate.example.org"));
    headers.insert(
        "accept",
        HeaderValue::from_static("application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
    );
    headers
        .insert("user-agent", HeaderValue::from_static("kubectl/v1.33.1 (linux/amd64) kubernetes/8adc0f0"));
    headers.insert("accept-encoding", HeaderValue::from_static("gzip"));
    if let Some(token) = token {
        headers.insert(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}")).expect("a token"));
    }
    headers
}

/// A token as TokenRequest gives it to a pod, about a kilobyte; no two are the same.
fn token(key: &Key, alg: Alg) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs();
    let reference = |name: &str| json!({"name": name, "uid": "6a7c6b2e-53a5-4d1e-9e0c-6f1d2b3c4d5e"});
    let claims = json!({
        "aud": [ISSUER], "iss": ISSUER, "iat": now, "nbf": now, "exp": now + 3600,
        "jti": format!("0e8d3f5a-2c1b-4a6d-8e7f-{:012x}", NEXT.fetch_add(1, Relaxed)),
        "sub": "system:serviceaccount:default:builder",
        "kubernetes.io": {
            "namespace": "default",
            "node": reference("node-1"), "pod": reference("builder-7d4b9"), "serviceaccount": reference("builder"),
            "warnafter": now + 3000,
        },
    });
    let header = json!({"alg": alg.name(), "kid": key.kid()});
    jws::compact(header.to_string().as_bytes(), claims.to_string().as_bytes(), |signed| key.sign(alg, signed))
}

#[divan::bench]
fn token_file(bencher: Bencher<'_, '_>) {
    let folder = Folder::new();
    let mut csv = String::from("s3same,alice,1,\"dev,ops\"\n");
    (0..1_000).for_each(|i| csv.push_str(&format!("token-{i},user-{i},{i}\n")));
    let config = Config { token_auth_file: Some(folder.put("tokens.csv", csv)), ..Config::default() };
    let gate = Gate::new(&config, None);
    gate.bench(bencher, &gate.conn(), &headers(Some("s3same")), true);
}

/// A token that was verified a moment ago.
#[divan::bench]
fn cached_jwt(bencher: Bencher<'_, '_>) {
    let key = Key::new(Alg::Rs256).expect("a key");
    let gate = Gate::of(&key, None);
    gate.bench(bencher, &gate.conn(), &headers(Some(&token(&key, Alg::Rs256))), true);
}

/// A token that is seen for the first time.
#[divan::bench(args = ALGORITHMS, sample_count = 100, sample_size = 10)]
fn first_jwt(bencher: Bencher<'_, '_>, alg: Alg) {
    let key = Key::new(alg).expect("a key");
    let gate = Gate::of(&key, None);
    let conn = gate.conn();
    assert!(gate.prove(&conn, &mut headers(Some(&token(&key, alg)))).is_ok());
    bencher
        .with_inputs(|| headers(Some(&token(&key, alg))))
        .bench_local_refs(|headers| gate.prove(&conn, headers).is_ok());
}

/// A token that the upstream was asked about.
#[divan::bench]
fn cached_token_review(bencher: Bencher<'_, '_>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ca = Ca::new("bench").expect("a CA");
    let folder = Folder::new();
    let (upstream, gate) = runtime.block_on(async {
        let server = ca.server(&["127.0.0.1"]).expect("a certificate");
        let mut options =
            apiserver::Options::new(apiserver::tls(&server, &ca).expect("TLS")).expect("a listener");
        options.gateway.reviews_tokens = true;
        for (token, name) in [("s3same", "alice"), ("gate", "gatelog")] {
            options.tokens.insert(token.to_owned(), Caller { name: name.into(), ..Caller::default() });
        }
        let upstream = ApiServer::start(options).await.expect("a server");
        let place = endpoint::Config::Explicit(Explicit {
            server: format!("https://{}", upstream.addr()),
            certificate_authority: Some(folder.put("ca.crt", ca.pem())),
            token_file: Some(folder.put("token", "gate")),
            ..Explicit::default()
        });
        let review = ReviewConfig {
            to: ReviewBy::Upstream,
            audiences: Vec::new(),
            cache_ttl: Duration::from_secs(600),
            allow_system_identities: true,
        };
        let gate =
            Gate::new(&Config { review: Some(review), upstream: Some(place), ..Config::default() }, None);
        let mut headers = headers(Some("s3same"));
        let first = gate.authn.authenticate(&gate.conn(), gate.peer.ip(), &mut headers, &gate.asked).await;
        assert_eq!(first.expect("alice").method(), "token-review");
        (upstream, gate)
    });
    gate.bench(bencher, &gate.conn(), &headers(Some("s3same")), true);
    runtime.block_on(upstream.stop());
}

/// The chain was judged with the connection's first request.
#[divan::bench]
fn x509_on_a_live_connection(bencher: Bencher<'_, '_>) {
    let (ca, folder) = (Ca::new("bench").expect("a CA"), Folder::new());
    let config = Config { client_ca_file: Some(folder.put("ca.crt", ca.pem())), ..Config::default() };
    let gate = Gate::new(&config, None);
    let alice = ca.client(&Client::new("alice").group("dev").group("ops")).expect("a certificate");
    let conn = Conn::new(gate.peer, alice.chain.into_iter().map(CertificateDer::from).collect());
    gate.bench(bencher, &conn, &headers(None), true);
}

/// The first request of a connection.
#[divan::bench]
fn x509_on_a_new_connection(bencher: Bencher<'_, '_>) {
    let (ca, folder) = (Ca::new("bench").expect("a CA"), Folder::new());
    let config = Config { client_ca_file: Some(folder.put("ca.crt", ca.pem())), ..Config::default() };
    let gate = Gate::new(&config, None);
    let alice = ca.client(&Client::new("alice").group("dev").group("ops")).expect("a certificate");
    let chain: Vec<_> = alice.chain.into_iter().map(CertificateDer::from).collect();
    bencher
        .with_inputs(|| (Conn::new(gate.peer, chain.clone()), headers(None)))
        .bench_local_refs(|(conn, headers)| gate.prove(conn, headers).is_ok());
}

/// A guess: a token that nobody knows.
#[divan::bench]
fn unknown_token(bencher: Bencher<'_, '_>) {
    let gate = Gate::of(&Key::new(Alg::Es256).expect("a key"), None);
    gate.bench(bencher, &gate.conn(), &headers(Some("s3same")), false);
}

/// One guess too many: not looked at.
#[divan::bench]
fn limited(bencher: Bencher<'_, '_>) {
    let gate = Gate::of(&Key::new(Alg::Es256).expect("a key"), Some(1));
    let (conn, bad) = (gate.conn(), headers(Some("s3same")));
    assert!(gate.prove(&conn, &mut bad.clone()).is_err_and(|refused| !refused.limited));
    assert!(gate.prove(&conn, &mut bad.clone()).is_err_and(|refused| refused.limited));
    gate.bench(bencher, &conn, &bad, false);
}
