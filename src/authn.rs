//! Who is calling: the union of authenticators, kube-apiserver's outcome algebra, and the proof it hands on.
//!
//! Every authenticator says *this is the user*, *no opinion*, or *error*. The first user wins; errors are collected and
//! stop nobody; anonymous is reached only when nobody had an opinion. Tried in this order: front proxy, client
//! certificate, bearer token (of the `Authorization` header, then of the WebSocket subprotocol), anonymous. A bearer token is
//! looked for in the token file, then among service accounts, then among the issuers of an AuthenticationConfiguration, and at
//! last others are asked (TokenReview).
//!
//! The caller learns nothing but 401; what was tried and why it failed is for the log, and holds no secret.

mod bearer;
mod cache;
mod files;
mod front_proxy;
mod guard;
mod jwt;
mod keys;
mod metrics;
mod objection;
mod oidc;
mod review;
mod service_account;
mod signed;
mod token_file;
mod websocket;
mod x509;

pub use files::{Anonymous, Config, Files, IssuerSettings};
pub use front_proxy::Config as FrontProxyConfig;
pub use jwt::key::Algorithm;
pub use keys::Config as KeysConfig;
pub use metrics::Metrics;
pub use oidc::config::{Outline, outline};
pub use review::{Config as ReviewConfig, To as ReviewBy};
pub use service_account::{Config as ServiceAccountConfig, ReviewTokens};

use crate::{cluster::Cluster, identity::User, request::Asked};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bearer::Bearer;
use cache::{Cache, Opinion};
use front_proxy::FrontProxy;
use guard::Guard;
use http::{
    HeaderMap, HeaderName,
    header::{self, HeaderValue},
};
use jwt::Jws;
use metrics::By;
use objection::Objection;
use oidc::Oidc;
use review::Review;
use rustls::pki_types::CertificateDer;
use service_account::ServiceAccounts;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use token_file::TokenFile;
use x509::X509;

/// What the gate knows of a connection: its peer and the client certificates whose possession the handshake proved.
#[derive(Debug)]
pub struct Conn {
    /// The socket's other end.
    pub peer: SocketAddr,
    /// As presented, leaf first; empty without a client certificate. Nothing about the chain has been judged.
    pub certificates: Vec<CertificateDer<'static>>,
    judged: x509::Cache<Option<Authenticated>>,
    /// When the certificate that the proxy may speak with expires.
    judged_as_proxy: x509::Cache<Option<SystemTime>>,
}

/// Proof that authentication succeeded; only this module makes one.
#[derive(Debug, Clone)]
pub struct Authenticated {
    user: Arc<User>,
    method: Method,
    expires: Option<SystemTime>,
    /// Until when the answer of whoever was asked may be believed; None: nobody was asked.
    answered_until: Option<Instant>,
    warning: Option<&'static str>,
    annotations: Option<Arc<[Annotation]>>,
}

/// Key and value of an annotation of the audit event.
pub type Annotation = (&'static str, String);

/// What proved an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Method {
    FrontProxy,
    X509,
    TokenFile,
    ServiceAccount,
    Jwt,
    TokenReview,
    Anonymous,
}

/// The authenticators of one snapshot.
#[derive(Debug)]
pub struct Authn {
    front_proxy: Option<FrontProxy>,
    x509: Option<X509>,
    tokens: Option<TokenFile>,
    service_accounts: Option<ServiceAccounts>,
    oidc: Option<Arc<Oidc>>,
    review: Option<Arc<Review>>,
    /// Identities of tokens that were verified a moment ago.
    proven: Cache,
    anonymous: Option<Arc<User>>,
    anonymous_paths: Vec<String>,
    clusters: Vec<Arc<Cluster>>,
    shared: Arc<Shared>,
}

/// What outlives a change of the authenticators.
#[derive(Debug)]
pub struct Shared {
    metrics: Arc<Metrics>,
    guard: Guard,
}

/// kube-apiserver's --authentication-token-webhook… has its own; every other verified token is verified again after this.
const PROVEN_KEPT: Duration = Duration::from_secs(10);

/// Tokens in use at one time.
const PROVEN: usize = 16_384;

// === errors ===

/// 401, or 429. `attempted` is the text of the audit event; `why` is for the log, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{attempted}")]
pub struct Unauthenticated {
    /// `Authentication failed, attempted: bearer, x509`, or that there were no credentials.
    pub attempted: String,
    /// Why each authenticator that had an opinion refused.
    pub why: String,
    /// A credential was judged and rejected; false: there was none that concerned an authenticator.
    pub rejected: bool,
    /// Too many attempts from there have failed, this one was not looked at: 429.
    pub limited: bool,
    /// The text of a `Warning` header (two spaces before the token).
    pub warning: Option<&'static str>,
}

/// A file of the configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct Error {
    /// The key of [`Config`] at fault, as the configuration file spells it.
    pub key: &'static str,
    /// Names the file and what is wrong with it.
    pub problem: String,
}

// === impl Conn ===

impl Conn {
    /// A connection from `peer`, with what it presented in the handshake.
    pub fn new(peer: SocketAddr, certificates: Vec<CertificateDer<'static>>) -> Self {
        Self { peer, certificates, judged: x509::Cache::default(), judged_as_proxy: x509::Cache::default() }
    }
}

// === impl Authenticated ===

impl Authenticated {
    fn new(user: Arc<User>, method: Method, expires: Option<SystemTime>) -> Self {
        Self { user, method, expires, answered_until: None, warning: None, annotations: None }
    }

    fn answered_until(self, until: Option<Instant>) -> Self {
        Self { answered_until: until, ..self }
    }

    fn annotated(self, annotations: Vec<Annotation>) -> Self {
        Self { annotations: (!annotations.is_empty()).then(|| annotations.into()), ..self }
    }

    /// Who it is; `system:authenticated` has been added where Kubernetes adds it.
    pub fn user(&self) -> &Arc<User> {
        &self.user
    }

    /// `x509`, `token-file`, `anonymous`, ...
    pub fn method(&self) -> &'static str {
        self.method.as_str()
    }

    /// When the credential stops proving anything.
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    /// The text of a `Warning` header that the answer must carry.
    pub fn warning(&self) -> Option<&'static str> {
        self.warning
    }

    /// What kube-apiserver would write into the audit event about this credential.
    pub fn annotations(&self) -> &[Annotation] {
        self.annotations.as_deref().unwrap_or_default()
    }
}

// === impl Method ===

impl Method {
    const fn as_str(self) -> &'static str {
        match self {
            Self::FrontProxy => "front-proxy",
            Self::X509 => "x509",
            Self::TokenFile => "token-file",
            Self::ServiceAccount => "service-account",
            Self::Jwt => "jwt",
            Self::TokenReview => "token-review",
            Self::Anonymous => "anonymous",
        }
    }
}

// === impl Shared ===

impl Shared {
    /// `failed_attempts`: how many credentials of one source may be rejected in a minute before further ones are not looked
    /// at any more; None: any number.
    pub fn new(metrics: Arc<Metrics>, failed_attempts: Option<u32>) -> Arc<Self> {
        Arc::new(Self { metrics, guard: Guard::new(failed_attempts) })
    }
}

// === impl Authn ===

impl Authn {
    /// How many CAs' client certificates are accepted; None when certificates are not looked at.
    pub fn client_cas(&self) -> Option<usize> {
        self.x509.as_ref().map(|x509| x509.authorities().len())
    }

    /// How many static tokens there are; None without a token file.
    pub fn tokens(&self) -> Option<usize> {
        self.tokens.as_ref().map(TokenFile::len)
    }

    /// The issuers of the AuthenticationConfiguration.
    pub fn issuers(&self) -> Vec<String> {
        self.oidc.iter().flat_map(|oidc| oidc.health()).map(|(url, _)| url).collect()
    }

    /// The paths that are open to anybody (none: all are); None: nothing is.
    pub fn anonymous(&self) -> Option<&[String]> {
        self.anonymous.as_ref().map(|_| &self.anonymous_paths[..])
    }

    /// Begins to fetch what is fetched in the background, on the current runtime.
    pub fn start(&self) {
        if let Some(accounts) = &self.service_accounts {
            accounts.start(&self.shared.metrics);
        }
        if let Some(oidc) = &self.oidc {
            oidc.start(&self.shared.metrics);
        }
    }

    /// Whose keys are missing, so that tokens of theirs are refused; a line each.
    pub fn health(&self) -> Result<(), String> {
        let accounts = self.service_accounts.as_ref().map(|a| ("service accounts".to_owned(), a.health()));
        let issuers = self.oidc.iter().flat_map(|oidc| oidc.health());
        let failed: Vec<String> = accounts
            .into_iter()
            .chain(issuers)
            .filter_map(|(who, health)| health.err().map(|why| format!("{who}: {why}")))
            .collect();
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
    }

    /// Reads the gate's own tokens again where they stand in files; the errors name those that could not be read.
    pub fn refresh(&self) -> Result<bool, String> {
        let mut changed = false;
        for cluster in &self.clusters {
            changed |= cluster.endpoint().refresh()?;
        }
        Ok(changed)
    }

    /// Failed attempts are counted by `source`. On success every credential and identity header is gone from `headers` (Impersonate-* stays for `authz::impersonate`).
    pub async fn authenticate(
        &self,
        conn: &Conn,
        source: IpAddr,
        headers: &mut HeaderMap,
        asked: &Asked,
    ) -> Result<Authenticated, Unauthenticated> {
        let (metrics, began) = (&self.shared.metrics, Instant::now());
        match self.prove(conn, source, headers, asked.target.path(), SystemTime::now()).await {
            Ok(proven) => {
                metrics.succeeded(proven.method, began.elapsed());
                self.strip(headers);
                Ok(proven)
            }
            Err(refusal) => {
                metrics.refused(refusal.rejected, began.elapsed());
                if refusal.counts {
                    self.shared.guard.failed(source);
                }
                Err(Unauthenticated {
                    attempted: attempted(conn, headers, asked.target.query()),
                    why: refusal.why,
                    rejected: refusal.rejected,
                    limited: refusal.limited,
                    warning: refusal.warning,
                })
            }
        }
    }

    async fn prove(
        &self,
        conn: &Conn,
        source: IpAddr,
        headers: &HeaderMap,
        path: &str,
        now: SystemTime,
    ) -> Result<Authenticated, Refusal> {
        let mut tried = Tried::new(&self.shared.metrics);
        let mut proven = self
            .front_proxy
            .as_ref()
            .and_then(|proxy| tried.note(By::FrontProxy, proxy.authenticate(conn, headers, now)));
        // A proxy whose words make no sense is not taken for the caller: what it says, a stranger may have made it say.
        let garbled = !tried.errors.is_empty()
            && self.front_proxy.as_ref().is_some_and(|proxy| proxy.may_speak(conn, now));
        if proven.is_none() && !garbled {
            proven = self.x509.as_ref().and_then(|x509| {
                tried.note(By::X509, x509.authenticate(&conn.certificates, &conn.judged, now))
            });
        }
        if proven.is_none() {
            proven = match bearer::find(headers) {
                Bearer::Nothing => None,
                Bearer::ExtraSpace => {
                    tried.warning = Some(bearer::EXTRA_SPACE);
                    None
                }
                Bearer::NotText => {
                    tried.note(By::Bearer, Err("bearer: the Authorization header is not UTF-8".to_owned()))
                }
                Bearer::Token(token) => self.token(source, token, now, &mut tried).await,
            };
        }
        if proven.is_none() {
            proven = match websocket::find(headers) {
                Ok(Some(token)) => self.token(source, &token, now, &mut tried).await,
                other => tried.note(By::Bearer, other.map(|_| None)),
            };
        }
        if proven.is_none() && tried.errors.is_empty() && self.is_open_to_anybody(path) {
            proven =
                self.anonymous.as_ref().map(|user| Authenticated::new(user.clone(), Method::Anonymous, None));
        }
        let Some(proven) = proven else {
            let rejected = !tried.errors.is_empty();
            let why = Objection::all(&tried.errors);
            let counts = rejected && !tried.limited && !why.is_unjudged();
            let why = if rejected { why.to_string() } else { "no credentials".to_owned() };
            return Err(Refusal { why, rejected, counts, limited: tried.limited, warning: tried.warning });
        };
        Ok(Authenticated { warning: tried.warning, ..proven })
    }

    /// Asks everyone who knows bearer tokens. A token that nobody accepts is an error, so that it never ends as anonymous.
    async fn token(
        &self,
        source: IpAddr,
        token: &str,
        now: SystemTime,
        tried: &mut Tried<'_>,
    ) -> Option<Authenticated> {
        if let Some(user) = self.tokens.as_ref().and_then(|tokens| tokens.find(token)) {
            return Some(Authenticated::new(user.clone(), Method::TokenFile, None));
        }
        let others = self.service_accounts.is_some() || self.oidc.is_some() || self.review.is_some();
        let metrics = &self.shared.metrics;
        let opinion = match others.then(|| self.proven.get(token)) {
            None => Ok(None),
            Some(Some(known)) => {
                metrics.hit();
                known
            }
            Some(None) if self.is_known(token) || self.shared.guard.allows(source) => {
                let _waits = metrics.miss();
                let attempt = self.shared.guard.attempt(source);
                let opinion = self.proven.get_or(token, self.judge(source, token, now)).await;
                attempt.ended();
                opinion
            }
            Some(None) => {
                metrics.limited();
                tried.limited = true;
                Err("too many attempts from this source have failed, this one was not looked at".into())
            }
        };
        match opinion {
            Ok(Some(known)) => Some(known),
            Ok(None) => tried.note(By::Bearer, Err(format!("bearer: {}", unknown(token, others)))),
            // Counted where it was judged.
            Err(why) => {
                tried.errors.push(why.by("bearer"));
                None
            }
        }
    }

    /// Whether the token was good when it was last judged: its holder need not suffer for a neighbour who guesses.
    fn is_known(&self, token: &str) -> bool {
        self.proven.knew(token) || self.review.as_ref().is_some_and(|review| review.knows(token))
    }

    /// What everyone says of a token that is in no file, and for how long that holds.
    async fn judge(&self, source: IpAddr, token: &str, now: SystemTime) -> (Opinion, Duration) {
        let fetch = self.shared.metrics.fetch();
        let mut tried = Tried::new(&self.shared.metrics);
        let mut proven = None;
        match Jws::parse(token) {
            Ok(Some(jws)) => {
                if let Some(accounts) = &self.service_accounts {
                    let opinion = accounts.authenticate(&jws, token, now).await;
                    proven = tried.note(By::ServiceAccount, opinion);
                }
                if let (None, Some(oidc)) = (&proven, &self.oidc) {
                    proven = tried.note(By::Jwt, oidc.authenticate(&jws, now).await);
                }
            }
            Ok(None) => {}
            Err(why) => {
                tried.note(By::Jwt, Err(why));
            }
        }
        if let (None, Some(review)) = (&proven, &self.review) {
            let allowed = || self.is_known(token) || self.shared.guard.allows(source);
            proven = tried.note(By::TokenReview, review.authenticate_while(token, allowed).await);
        }
        let opinion = match proven {
            None if !tried.errors.is_empty() => Err(Objection::all(&tried.errors)),
            proven => Ok(proven),
        };
        fetch.done(opinion.is_ok());
        // Never longer than the answer that it rests on.
        let time = match &opinion {
            Ok(Some(proven)) => proven.answered_until.map_or(PROVEN_KEPT, |until| {
                until.saturating_duration_since(Instant::now()).min(PROVEN_KEPT)
            }),
            Ok(None) | Err(_) => Duration::ZERO,
        };
        (opinion, time)
    }

    fn is_open_to_anybody(&self, path: &str) -> bool {
        self.anonymous_paths.is_empty() || self.anonymous_paths.iter().any(|open| open == path)
    }

    /// Takes the credentials away; `X-Remote-*` is only ever a claim.
    fn strip(&self, headers: &mut HeaderMap) {
        headers.remove(header::AUTHORIZATION);
        let claimed = |name: &HeaderName| {
            is_claim(name.as_str()) || self.front_proxy.as_ref().is_some_and(|p| p.is_claim(name))
        };
        // Nearly always there is none, and then nothing is allocated.
        let claims: Vec<HeaderName> = headers.keys().filter(|name| claimed(name)).cloned().collect();
        for name in claims {
            headers.remove(name);
        }
    }
}

/// Why nobody knows a token. A wrong issuer URL is the usual mistake, so what the token says its issuer is, is told if it is a URL.
fn unknown(token: &str, looked_at: bool) -> String {
    const LONGEST: usize = 256;
    let invalid = "invalid bearer token";
    let jws = looked_at.then(|| Jws::parse(token).ok().flatten()).flatten();
    let url = |issuer: &&str| {
        let plain = |b: u8| b.is_ascii_graphic() && !b"?#@".contains(&b);
        issuer.starts_with("https://") && issuer.len() <= LONGEST && issuer.bytes().all(plain)
    };
    match jws.as_ref().and_then(|jws| jws.issuer()).filter(url) {
        Some(issuer) => format!("{invalid}, nobody here knows the issuer {issuer}"),
        None => invalid.to_owned(),
    }
}

/// What has been tried without success.
struct Tried<'a> {
    metrics: &'a Metrics,
    errors: Vec<Objection>,
    limited: bool,
    warning: Option<&'static str>,
}

impl<'a> Tried<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        Self { metrics, errors: Vec::new(), limited: false, warning: None }
    }

    fn note(
        &mut self,
        by: By,
        opinion: Result<Option<Authenticated>, impl Into<Objection>>,
    ) -> Option<Authenticated> {
        opinion.unwrap_or_else(|why| {
            self.metrics.failed(by);
            self.errors.push(why.into());
            None
        })
    }
}

/// Why nobody proved who they are.
struct Refusal {
    why: String,
    rejected: bool,
    /// As a failed attempt of its source.
    counts: bool,
    limited: bool,
    warning: Option<&'static str>,
}

// === headers ===

/// `X-Remote-*`, also spelled with `_`, which some servers read as `-`.
fn is_claim(name: &str) -> bool {
    matches!(name.as_bytes(), [b'x', b'-' | b'_', b'r', b'e', b'm', b'o', b't', b'e', b'-' | b'_', ..])
}

/// What kube-apiserver writes into the audit event of a 401: the kinds of credentials that came, in its order.
fn attempted(conn: &Conn, headers: &HeaderMap, query: Option<&str>) -> String {
    let authorization = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let authorization = authorization.trim_ascii();
    let value = |kind: &[u8]| {
        let (scheme, value) = authorization.split_at_checked(kind.len())?;
        scheme.eq_ignore_ascii_case(kind).then(|| value.strip_prefix(b" "))?
    };
    let kinds: Vec<&str> = [
        ("basic", value(b"basic").is_some_and(is_name_and_password)),
        ("bearer", value(b"bearer").is_some()),
        ("access_token", query.is_some_and(has_access_token)),
        ("x509", !conn.certificates.is_empty()),
    ]
    .into_iter()
    .filter_map(|(kind, came)| came.then_some(kind))
    .collect();
    if kinds.is_empty() {
        "Authentication failed, no credentials provided".to_owned()
    } else {
        format!("Authentication failed, attempted: {}", kinds.join(", "))
    }
}

/// Whether an `Authorization: Basic` holds what it should; it is never a credential either.
fn is_name_and_password(value: &[u8]) -> bool {
    BASE64.decode(value).is_ok_and(|text| text.contains(&b':'))
}

/// Whether the query has an `access_token` that is not empty; it is never a credential.
fn has_access_token(query: &str) -> bool {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .any(|(key, value)| key == "access_token" && !value.is_empty())
}

#[cfg(test)]
#[cfg(feature = "demo")]
mod tests;
