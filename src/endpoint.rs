//! Where the upstream is and how the gate proves itself to it: out of a kubeconfig, the service account of the pod, or
//! the configuration itself.
//!
//! The upstream's certificate is judged by the CA that stands beside its address and by no other; the system's CAs are
//! never asked. A token file is read again while the gate runs ([`Endpoint::refresh`]), since tokens of service accounts last
//! an hour; everything else makes a new endpoint.

mod kubeconfig;

use crate::pem::{self, File};
use arc_swap::ArcSwap;
use http::{HeaderValue, Uri, uri::Authority};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WantsClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where everything about the upstream stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Config {
    /// In a kubeconfig; only one, no list of them.
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Which of its contexts; None: its current one.
        context: Option<String>,
    },
    /// Where every pod finds its service account.
    InCluster,
    /// Here.
    Explicit(Explicit),
}

/// An upstream spelled out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Explicit {
    /// `https://host:port`, port 443 if none is given.
    pub server: String,
    /// PEM bundle that the upstream's certificate must lead to.
    pub certificate_authority: Option<PathBuf>,
    /// The name to ask for and to find in the upstream's certificate; None: the host of `server`.
    pub tls_server_name: Option<String>,
    /// Believe any certificate. Whoever answers at the upstream's address then gets the gate's credential.
    pub insecure_skip_tls_verify: bool,
    /// PEM chain that proves who the gate is.
    pub client_certificate: Option<PathBuf>,
    /// Its PEM private key.
    pub client_key: Option<PathBuf>,
    /// A bearer token that proves who the gate is; read again while the gate runs.
    pub token_file: Option<PathBuf>,
}

/// What [`Config`] points to, read but not yet understood. Equal sources make equal endpoints; what a token file holds is
/// no part of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    server: String,
    tls_server_name: Option<String>,
    authority: Option<File>,
    insecure: bool,
    certificate: Option<File>,
    key: Option<File>,
    token: Option<TokenSource>,
    keys: Keys,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum TokenSource {
    Fixed(String),
    File(PathBuf),
}

/// How the configuration spells the places, for errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Keys {
    server: &'static str,
    tls_server_name: &'static str,
    authority: &'static str,
    certificate: &'static str,
    token: &'static str,
}

/// An upstream, ready to be connected to.
#[derive(Debug)]
pub struct Endpoint {
    host: String,
    port: u16,
    authority: Authority,
    host_header: HeaderValue,
    path: String,
    server_name: ServerName<'static>,
    tls: Arc<ClientConfig>,
    tls_http1: Arc<ClientConfig>,
    token: Option<Token>,
    warnings: Vec<String>,
    made_of: Source,
}

/// A bearer token as a header's value. It is not marked as sensitive: the same line goes with every request on the gate's
/// own connection, and HTTP/2 may then send it once.
struct Token {
    bearer: ArcSwap<HeaderValue>,
    file: Option<PathBuf>,
}

/// Something about the upstream that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct Error {
    /// The key of the configuration file at fault.
    pub key: &'static str,
    /// What is wrong, and in which file.
    pub problem: String,
}

const EXPECTED: &str = "expected a URL such as https://10.0.0.1:6443";

/// Where a pod finds its service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

// === impl Config ===

impl Config {
    /// Reads what the upstream is reached with. All errors are reported, not only the first.
    pub fn read(&self) -> Result<Source, Vec<Error>> {
        match self {
            Self::Kubeconfig { path, context } => kubeconfig::read(path, context.as_deref()),
            Self::InCluster => in_cluster(|name| std::env::var(name).ok(), Path::new(SERVICE_ACCOUNT)),
            Self::Explicit(explicit) => explicit.read(),
        }
    }
}

impl Explicit {
    fn read(&self) -> Result<Source, Vec<Error>> {
        let mut errors = Vec::new();
        let mut read = |path: &Option<PathBuf>, key| {
            let file = path.as_deref().map(File::read)?;
            file.map_err(|problem| errors.push(Error { key, problem })).ok()
        };
        let authority = read(&self.certificate_authority, "certificateAuthority");
        let certificate = read(&self.client_certificate, "clientCertificate");
        let key = read(&self.client_key, "clientKey");
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Source {
            server: self.server.clone(),
            tls_server_name: self.tls_server_name.clone(),
            authority,
            insecure: self.insecure_skip_tls_verify,
            certificate,
            key,
            token: self.token_file.clone().map(TokenSource::File),
            keys: Keys {
                server: "server",
                tls_server_name: "tlsServerName",
                authority: "certificateAuthority",
                certificate: "clientCertificate",
                token: "tokenFile",
            },
        })
    }
}

fn in_cluster(env: impl Fn(&str) -> Option<String>, folder: &Path) -> Result<Source, Vec<Error>> {
    const KEY: &str = "inCluster";
    let error = |problem: String| Error { key: KEY, problem };
    let from_env = |name: &str| env(name).filter(|value| !value.is_empty());
    let (Some(host), Some(port)) = (from_env("KUBERNETES_SERVICE_HOST"), from_env("KUBERNETES_SERVICE_PORT"))
    else {
        let problem = "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set, this is no pod";
        return Err(vec![error(problem.to_owned())]);
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Ok(Source {
        server: format!("https://{host}:{port}"),
        tls_server_name: None,
        authority: Some(File::read(&folder.join("ca.crt")).map_err(|e| vec![error(e)])?),
        insecure: false,
        certificate: None,
        key: None,
        token: Some(TokenSource::File(folder.join("token"))),
        keys: Keys { server: KEY, tls_server_name: KEY, authority: KEY, certificate: KEY, token: KEY },
    })
}

// === impl Endpoint ===

impl Endpoint {
    /// The upstream that `source` describes. All errors are reported, not only the first.
    pub fn new(source: &Source) -> Result<Self, Vec<Error>> {
        Self::at(source, Server::parse(&source.server).and_then(Server::without_path))
    }

    /// The webhook that `source` describes: its URL may name a path.
    pub fn webhook(source: &Source) -> Result<Self, Vec<Error>> {
        Self::at(source, Server::parse(&source.server))
    }

    fn at(source: &Source, server: Result<Server, String>) -> Result<Self, Vec<Error>> {
        let keys = source.keys;
        let mut errors = Vec::new();
        let server = keep(server, keys.server, &mut errors);
        let name = match (&source.tls_server_name, &server) {
            (Some(name), _) => keep(server_name(name), keys.tls_server_name, &mut errors),
            (None, Some(server)) => keep(server_name(&server.host), keys.server, &mut errors),
            (None, None) => None,
        };
        let trust = keep(source.trust(), keys.authority, &mut errors);
        let identity = keep(source.identity(), keys.certificate, &mut errors);
        let token = keep(source.token.as_ref().map(Token::new).transpose(), keys.token, &mut errors);
        let (Some(server), Some(server_name), Some(trust), Some(identity), Some(token)) =
            (server, name, trust, identity, token)
        else {
            return Err(errors);
        };
        let warnings = source.warnings(identity.is_some(), token.is_some());
        let tls = client_config(trust, identity)
            .map_err(|problem| vec![Error { key: keys.certificate, problem }])?;
        let alpn = |protocols: &[&[u8]]| {
            let mut tls = tls.clone();
            tls.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
            Arc::new(tls)
        };
        Ok(Self {
            host: server.host,
            port: server.port,
            authority: server.authority,
            host_header: server.host_header,
            path: server.path,
            server_name,
            tls: alpn(&[b"h2", b"http/1.1"]),
            tls_http1: alpn(&[b"http/1.1"]),
            token,
            warnings,
            made_of: source.clone(),
        })
    }

    /// What to open a TCP connection to.
    pub fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// What to ask for, and to find in the upstream's certificate.
    pub fn server_name(&self) -> &ServerName<'static> {
        &self.server_name
    }

    /// For everything that is no upgrade: HTTP/2, or HTTP/1.1 if the upstream has no other.
    pub fn tls(&self) -> &Arc<ClientConfig> {
        &self.tls
    }

    /// For upgrades: HTTP/1.1 only.
    pub fn tls_http1(&self) -> &Arc<ClientConfig> {
        &self.tls_http1
    }

    /// Host, and port if the configuration names one.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The same as a `Host` header.
    pub fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }

    /// The path of the server's URL; `/` but for a webhook.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The gate's own `Authorization` header, as of now.
    pub fn bearer(&self) -> Option<HeaderValue> {
        self.token.as_ref().map(|token| HeaderValue::clone(&token.bearer.load()))
    }

    /// Reads the token file again, if there is one; true when it holds another token. After an error the old token goes on.
    pub fn refresh(&self) -> Result<bool, String> {
        self.token.as_ref().map_or(Ok(false), Token::refresh)
    }

    /// Whether both were made of the same; what their token files hold may differ.
    pub fn is_like(&self, other: &Self) -> bool {
        self.made_of == other.made_of
    }

    /// What is odd about this upstream, a line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

// === impl Source ===

/// How the upstream's certificate is judged.
enum Trust {
    Roots(RootCertStore),
    Anything,
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Source {
    fn trust(&self) -> Result<Trust, String> {
        let file = match (&self.authority, self.insecure) {
            (None, true) => return Ok(Trust::Anything),
            (Some(_), true) => {
                return Err(
                    "a certificate authority and the order not to check it contradict each other".to_owned()
                );
            }
            (None, false) => {
                return Err(
                    "no certificate authority for the server; the system's own are not used, name a file"
                        .to_owned(),
                );
            }
            (Some(file), false) => file,
        };
        let mut roots = RootCertStore::empty();
        for (i, certificate) in file.certificates().map_err(|e| e.to_string())?.into_iter().enumerate() {
            roots.add(certificate).map_err(|e| format!("{}: certificate {}: {e}", file.origin, i + 1))?;
        }
        Ok(Trust::Roots(roots))
    }

    fn identity(&self) -> Result<Option<Identity>, String> {
        let text = |e: pem::Error| e.to_string();
        match (&self.certificate, &self.key) {
            (None, None) => Ok(None),
            (Some(chain), Some(key)) => {
                Ok(Some((chain.certificates().map_err(text)?, key.private_key().map_err(text)?)))
            }
            (Some(chain), None) => {
                Err(format!("{}: the client certificate has no private key beside it", chain.origin))
            }
            (None, Some(key)) => {
                Err(format!("{}: the private key has no client certificate beside it", key.origin))
            }
        }
    }

    fn warnings(&self, certificate: bool, token: bool) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.insecure {
            warnings.push(format!(
                "{}: its certificate is NOT checked; whoever answers there gets the gate's credential",
                self.server
            ));
        }
        if !certificate && !token {
            warnings.push(format!("{}: the gate has no credential there", self.server));
        }
        if certificate && token {
            // kube-apiserver looks at the certificate first.
            warnings.push(format!("{}: a client certificate and a token; one of them counts", self.server));
        }
        warnings
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("Fixed(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// The parts of a server's URL.
struct Server {
    host: String,
    port: u16,
    authority: Authority,
    host_header: HeaderValue,
    path: String,
}

impl Server {
    fn parse(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|e| format!("{url:?}: {e}, {EXPECTED}"))?;
        let (Some("https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(format!("{url:?} is no https URL, {EXPECTED}"));
        };
        if authority.as_str().contains('@') {
            // The URL is not repeated: it holds a password.
            return Err(format!("the URL holds a user name, {EXPECTED}"));
        }
        if uri.query().is_some() {
            return Err(format!("{url:?} holds a query, which is not supported, {EXPECTED}"));
        }
        let host = authority.host();
        let port = match authority.as_str().strip_prefix(host) {
            Some("") => Some(443),
            Some(port) => port.strip_prefix(':').and_then(|p| p.parse().ok()).filter(|p| *p != 0),
            None => None,
        };
        let port = port.ok_or_else(|| format!("{url:?} holds no port, {EXPECTED}"))?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let host_header = HeaderValue::try_from(authority.as_str())
            .map_err(|_| format!("{url:?} is no URL, {EXPECTED}"))?;
        let path = uri.path().to_owned();
        Ok(Self { host: host.to_owned(), port, authority: authority.clone(), host_header, path })
    }

    /// The callers' paths are the upstream's own.
    fn without_path(self) -> Result<Self, String> {
        match self.path.as_str() {
            "/" => Ok(self),
            path => Err(format!("the URL holds the path {path:?}, which is not supported, {EXPECTED}")),
        }
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    let refused = |_| format!("{name:?} is neither a DNS name nor an IP address");
    ServerName::try_from(name.to_owned()).map_err(refused)
}

/// The value, or None and an error more.
fn keep<T>(result: Result<T, String>, key: &'static str, errors: &mut Vec<Error>) -> Option<T> {
    result.map_err(|problem| errors.push(Error { key, problem })).ok()
}

// === impl Token ===

impl Token {
    fn new(source: &TokenSource) -> Result<Self, String> {
        let (bearer, file) = match source {
            TokenSource::Fixed(token) => (bearer(token, "token")?, None),
            TokenSource::File(path) => (read_bearer(path)?, Some(path.clone())),
        };
        Ok(Self { bearer: ArcSwap::from_pointee(bearer), file })
    }

    fn refresh(&self) -> Result<bool, String> {
        let Some(path) = &self.file else { return Ok(false) };
        let bearer = read_bearer(path)?;
        let changed = **self.bearer.load() != bearer;
        if changed {
            self.bearer.store(Arc::new(bearer));
        }
        Ok(changed)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("file", &self.file).finish_non_exhaustive()
    }
}

fn read_bearer(path: &Path) -> Result<HeaderValue, String> {
    let file = File::read(path)?;
    bearer(file.text()?, &file.origin)
}

fn bearer(token: &str, origin: &str) -> Result<HeaderValue, String> {
    let token = token.trim();
    if token.is_empty() {
        return Err(format!("{origin}: the token is empty"));
    }
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("{origin}: the token holds bytes that no token holds"));
    }
    HeaderValue::try_from(format!("Bearer {token}")).map_err(|e| format!("{origin}: {e}"))
}

// === TLS ===

fn client_config(trust: Trust, identity: Option<Identity>) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let builder: rustls::ConfigBuilder<ClientConfig, WantsClientCert> = match trust {
        Trust::Roots(roots) => builder.with_root_certificates(roots),
        Trust::Anything => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified { algorithms }))
        }
    };
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => {
                "the client certificate and its private key do not belong together".to_owned()
            }
            e => format!("the client certificate cannot be used: {e}"),
        }),
    }
}

/// Believes every certificate; the handshake must still be signed with its key.
#[derive(Debug)]
struct Unverified {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[cfg(feature = "demo")]
mod tests;
