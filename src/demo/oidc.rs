//! A small OpenID provider on the loopback interface: the discovery document, the keys, and tokens as one likes them, broken
//! ones included. For `gatelog demo --oidc` and for the tests; nobody logs in here.

use super::{
    answer::{Answer, json_answer, text},
    jws::{self, Alg, Key, compact},
    pki::{self, Ca},
    write,
};
use aws_lc_rs::hmac;
use http::{Method, Request};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

/// Where a provider's document is, below its issuer.
const WELL_KNOWN: &str = "/.well-known/openid-configuration";
/// The audience of its tokens unless they say otherwise.
pub const AUDIENCE: &str = "gatelog";

/// How to run a provider.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens; the issuer's URL has this address, so it is one that a certificate can name.
    pub listen: SocketAddr,
    /// Path of the issuer's URL: empty, or `/realms/demo`, or only `/`.
    pub path: String,
    /// Path of the discovery document, where it is not below the issuer.
    pub discovery: Option<String>,
}

/// A running provider. It stops when this is dropped.
#[derive(Debug)]
pub struct Provider {
    shared: Arc<Shared>,
    addr: SocketAddr,
    ca: Ca,
    /// The accepting and all connections end with it.
    _alive: watch::Sender<()>,
}

/// How to sign a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signing {
    /// With which algorithm, so with which of the keys.
    pub alg: Alg,
    /// What the header says of the key.
    pub kid: Kid,
}

/// What a header says of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kid {
    /// Its name.
    Named,
    /// Nothing.
    None,
    /// Something else.
    Other(String),
}

/// What is in the place of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature<'a> {
    /// A good one.
    Good(Alg),
    /// HMAC with SHA-256 under this secret: a public key, say.
    Hmac(&'a [u8]),
    /// These bytes.
    Bytes(&'a [u8]),
}

/// What can go wrong with a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Connections end as soon as they begin.
    Refuse,
    /// Everything is answered with this status.
    Status(u16),
    /// The document names this issuer.
    Issuer(String),
    /// Nothing is answered.
    Hang,
}

/// A provider that cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// Its certificate cannot be made.
    #[error(transparent)]
    Pki(#[from] pki::Error),
    /// Its certificate cannot be used.
    #[error("cannot serve with a certificate just made: {0}")]
    Tls(String),
    /// Its keys cannot be made.
    #[error(transparent)]
    Key(#[from] jws::Error),
}

#[derive(Debug)]
struct Shared {
    issuer: String,
    discovery: String,
    keys: Mutex<Arc<Keys>>,
    mode: Mutex<Option<Mode>>,
    requests: watch::Sender<Requests>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Requests {
    discovery: usize,
    keys: usize,
}

#[derive(Debug)]
struct Keys {
    rsa: Key,
    curves: [(Alg, Key); 3],
}

impl Default for Options {
    /// A free port, and an issuer without a path.
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 0)), path: String::new(), discovery: None }
    }
}

impl Signing {
    /// With a header that names the key.
    pub fn new(alg: Alg) -> Self {
        Self { alg, kid: Kid::Named }
    }

    /// With another `kid`.
    #[must_use]
    pub fn kid(self, kid: Kid) -> Self {
        Self { kid, ..self }
    }
}

impl Provider {
    /// Starts one, on the current runtime, with new keys and a certificate of an authority of its own.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let failed = |error| Error::Listen(options.listen, error);
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let ca = Ca::new("gatelog demo provider")?;
        let issuer = format!("https://{addr}{}", options.path);
        let below = || format!("{}{WELL_KNOWN}", options.path.trim_end_matches('/'));
        let shared = Arc::new(Shared {
            discovery: options.discovery.unwrap_or_else(below),
            issuer,
            keys: Mutex::new(Arc::new(Keys::new()?)),
            mode: Mutex::default(),
            requests: watch::Sender::default(),
        });
        let (alive, ends) = watch::channel(());
        tokio::spawn(accept(listener, acceptor(&ca)?, shared.clone(), ends));
        Ok(Self { shared, addr, ca, _alive: alive })
    }

    /// The `iss` of its tokens, and where its document is.
    pub fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The document's URL.
    pub fn discovery_url(&self) -> String {
        format!("https://{}{}", self.addr, self.shared.discovery)
    }

    /// Whose certificates it serves with.
    pub fn ca_pem(&self) -> String {
        self.ca.pem()
    }

    /// Claims of a good token of this subject: `iss`, `aud`, `sub`, `jti`, and an hour to live.
    pub fn claims(&self, subject: &str) -> Value {
        let now = jiff::Timestamp::now().as_second();
        json!({"iss": self.issuer(), "aud": AUDIENCE, "sub": subject, "jti": write::uid(), "iat": now, "nbf": now,
            "exp": now + 3600})
    }

    /// A token of these claims, signed.
    pub fn mint(&self, claims: &Value, how: &Signing) -> String {
        let keys = self.shared.keys();
        let mut header = json!({"typ": "JWT", "alg": how.alg.name()});
        match &how.kid {
            Kid::Named => header["kid"] = keys.of(how.alg).kid().into(),
            Kid::None => {}
            Kid::Other(kid) => header["kid"] = kid.as_str().into(),
        }
        self.mint_raw(&header.to_string(), &claims.to_string(), Signature::Good(how.alg))
    }

    /// A token of these very bytes.
    pub fn mint_raw(&self, header: &str, payload: &str, signature: Signature<'_>) -> String {
        compact(header.as_bytes(), payload.as_bytes(), |message| match signature {
            Signature::Good(alg) => self.shared.keys().of(alg).sign(alg, message),
            Signature::Hmac(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
            }
            Signature::Bytes(bytes) => bytes.to_vec(),
        })
    }

    /// The name of the key that signs with this algorithm.
    pub fn kid(&self, alg: Alg) -> String {
        self.shared.keys().of(alg).kid().to_owned()
    }

    /// The public key that belongs to this algorithm, as PEM.
    pub fn public_pem(&self, alg: Alg) -> String {
        self.shared.keys().of(alg).public_pem()
    }

    /// The public key that belongs to this algorithm, as SubjectPublicKeyInfo, DER.
    pub fn public_der(&self, alg: Alg) -> Vec<u8> {
        self.shared.keys().of(alg).public_der()
    }

    /// What it answers at its keys' place.
    pub fn jwks(&self) -> Value {
        self.shared.keys().jwks()
    }

    /// New keys; the old ones are gone at once.
    pub fn rotate(&self) -> Result<(), Error> {
        let new = Arc::new(Keys::new()?);
        *self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// From now on something is wrong with it.
    pub fn fail(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap_or_else(PoisonError::into_inner) = Some(mode);
    }

    /// It is well again.
    pub fn recover(&self) {
        *self.shared.mode.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// How often its document has been asked for, whatever the answer was.
    pub fn discovery_requests(&self) -> usize {
        self.shared.requests.borrow().discovery
    }

    /// How often its keys have been asked for, whatever the answer was.
    pub fn keys_requests(&self) -> usize {
        self.shared.requests.borrow().keys
    }

    /// Waits until its document and its keys have been asked for at least this often.
    pub async fn asked(&self, discovery: usize, keys: usize) {
        let enough = |asked: &Requests| asked.discovery >= discovery && asked.keys >= keys;
        // The sender lives as long as this.
        let _ = self.shared.requests.subscribe().wait_for(enough).await;
    }
}

impl Shared {
    fn keys(&self) -> Arc<Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn mode(&self) -> Option<Mode> {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Err ends the connection.
    async fn answer(&self, request: &Request<Incoming>) -> io::Result<Answer> {
        let path = request.uri().path();
        let keys_path = format!("{}/keys", self.path());
        self.requests.send_modify(|asked| {
            asked.discovery += usize::from(path == self.discovery);
            asked.keys += usize::from(path == keys_path);
        });
        let issuer = match self.mode() {
            Some(Mode::Refuse) => return Err(io::ErrorKind::ConnectionReset.into()),
            Some(Mode::Hang) => std::future::pending().await,
            Some(Mode::Status(code)) => return Ok(text(code, "the provider is not well\n")),
            Some(Mode::Issuer(other)) => other,
            None => self.issuer.clone(),
        };
        Ok(match *request.method() {
            Method::GET if path == self.discovery => json_answer(
                200,
                &json!({"issuer": issuer, "jwks_uri": format!("{}/keys", self.issuer.trim_end_matches('/')),
                    "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": Alg::ALL.map(Alg::name)}),
            ),
            Method::GET if path == keys_path => json_answer(200, &self.keys().jwks()),
            _ => text(404, "404 page not found\n"),
        })
    }

    /// The path of the issuer, without a slash at its end.
    fn path(&self) -> &str {
        let authority = self.issuer.trim_start_matches("https://");
        authority.find('/').and_then(|at| authority.get(at..)).unwrap_or_default().trim_end_matches('/')
    }
}

impl Keys {
    fn new() -> Result<Self, jws::Error> {
        let curve = |alg| Ok((alg, Key::new(alg)?));
        let curves = [curve(Alg::Es256)?, curve(Alg::Es384)?, curve(Alg::Es512)?];
        Ok(Self { rsa: Key::new(Alg::Rs256)?, curves })
    }

    fn of(&self, alg: Alg) -> &Key {
        self.curves.iter().find(|(own, _)| *own == alg).map_or(&self.rsa, |(_, key)| key)
    }

    fn jwks(&self) -> Value {
        let curves = self.curves.iter().map(|(_, key)| key);
        json!({"keys": std::iter::once(&self.rsa).chain(curves).map(Key::jwk).collect::<Vec<_>>()})
    }
}

fn acceptor(ca: &Ca) -> Result<TlsAcceptor, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Tls(error.to_string());
    let pair = ca.server(&["127.0.0.1", "localhost", "::1"])?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(|e| failed(&e))?;
    let chain = pair.chain.into_iter().map(CertificateDer::from).collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(&e))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| failed(&e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    shared: Arc<Shared>,
    mut ends: watch::Receiver<()>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ends.changed() => return,
        };
        match accepted {
            Ok(_) if shared.mode() == Some(Mode::Refuse) => {}
            Ok((stream, _)) => {
                let (acceptor, shared, mut ends) = (acceptor.clone(), shared.clone(), ends.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = connection(stream, acceptor, shared) => {}
                        _ = ends.changed() => {}
                    }
                });
            }
            // Out of file descriptors, most likely: the next ones may do better.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let Ok(Ok(tls)) = tokio::time::timeout(Duration::from_secs(10), acceptor.accept(stream)).await else {
        return;
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = shared.clone();
        async move { shared.answer(&request).await }
    });
    // How it ended is the other side's business.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
}

#[cfg(test)]
mod tests;
