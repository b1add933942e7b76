//! Who is calling: the union of authenticators, kube-apiserver's outcome algebra, and the proof it hands on.
//!
//! Every authenticator says *this is the user*, *no opinion*, or *error*. The first user wins; errors are collected and
//! stop nobody; anonymous is reached only when nobody had an opinion. Tried in this order: client certificate, bearer
//! token (of the `Authorization` header), anonymous.
//!
//! The caller learns nothing but 401; what was tried and why it failed is for the log, and holds no secret.

mod bearer;
mod token_file;
mod x509;

use crate::{
    identity::{self, User},
    pem::File,
    request::Asked,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bearer::Bearer;
use http::{
    HeaderMap, HeaderName,
    header::{self, HeaderValue},
};
use rustls::pki_types::CertificateDer;
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::SystemTime};
use token_file::TokenFile;
use x509::X509;

/// Which authenticators there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// PEM bundle of the CAs whose client certificates are accepted; None: client certificates are not looked at.
    pub client_ca_file: Option<PathBuf>,
    /// kube-apiserver's CSV of static tokens.
    pub token_auth_file: Option<PathBuf>,
    /// Whether a request without credentials is let on as `system:anonymous`.
    pub anonymous: bool,
}

/// What [`Config`] points to, read but not yet understood. Equal files make equal authenticators.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Files {
    client_ca: Option<File>,
    tokens: Option<File>,
    anonymous: bool,
}

/// What the gate knows of a connection: its peer and the client certificates whose possession the handshake proved.
#[derive(Debug)]
pub struct Conn {
    /// The socket's other end.
    pub peer: SocketAddr,
    /// As presented, leaf first; empty without a client certificate. Nothing about the chain has been judged.
    pub certificates: Vec<CertificateDer<'static>>,
    judged: x509::Cache,
}

/// Proof that authentication succeeded; only this module makes one.
#[derive(Debug, Clone)]
pub struct Authenticated {
    user: Arc<User>,
    method: Method,
    expires: Option<SystemTime>,
    warning: Option<&'static str>,
}

/// What proved an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    X509,
    TokenFile,
    Anonymous,
}

/// The authenticators of one snapshot.
#[derive(Debug)]
pub struct Authn {
    x509: Option<X509>,
    tokens: Option<TokenFile>,
    anonymous: Option<Arc<User>>,
}

// === errors ===

/// 401. `attempted` is the text of the audit event; `why` is for the log, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{attempted}")]
pub struct Unauthenticated {
    /// `Authentication failed, attempted: bearer, x509`, or that there were no credentials.
    pub attempted: String,
    /// Why each authenticator that had an opinion refused.
    pub why: String,
    /// A credential was judged and rejected; false: there was none that concerned an authenticator.
    pub rejected: bool,
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
        Self { peer, certificates, judged: x509::Cache::default() }
    }
}

// === impl Authenticated ===

impl Authenticated {
    fn new(user: Arc<User>, method: Method, expires: Option<SystemTime>) -> Self {
        Self { user, method, expires, warning: None }
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
}

// === impl Method ===

impl Method {
    const fn as_str(self) -> &'static str {
        match self {
            Self::X509 => "x509",
            Self::TokenFile => "token-file",
            Self::Anonymous => "anonymous",
        }
    }
}

// === impl Authn ===

impl Authn {
    /// The authenticators that `files` describe. The second list is what is odd but harmless, a line each; all errors
    /// are reported, not only the first.
    pub fn new(files: &Files) -> Result<(Self, Vec<String>), Vec<Error>> {
        let mut said = Said::default();
        let x509 = files.client_ca.as_ref().and_then(|file| said.client_ca(file));
        let tokens = files.tokens.as_ref().and_then(|file| said.token_file(file));
        let anonymous = if files.anonymous { said.anonymous() } else { None };
        if said.errors.is_empty() {
            Ok((Self { x509, tokens, anonymous }, said.warnings))
        } else {
            Err(said.errors)
        }
    }

    /// How many CAs' client certificates are accepted; None when certificates are not looked at.
    pub fn client_cas(&self) -> Option<usize> {
        self.x509.as_ref().map(X509::len)
    }

    /// How many static tokens there are; None without a token file.
    pub fn tokens(&self) -> Option<usize> {
        self.tokens.as_ref().map(TokenFile::len)
    }

    /// On success every credential and identity header is gone from `headers` (Impersonate-* stays for `authz::impersonate`).
    pub async fn authenticate(
        &self,
        conn: &Conn,
        headers: &mut HeaderMap,
        asked: &Asked,
    ) -> Result<Authenticated, Unauthenticated> {
        match self.prove(conn, headers, SystemTime::now()) {
            Ok(proven) => {
                strip(headers);
                Ok(proven)
            }
            Err(refusal) => Err(Unauthenticated {
                attempted: attempted(conn, headers, asked.target.query()),
                why: refusal.why,
                rejected: refusal.rejected,
                warning: refusal.warning,
            }),
        }
    }

    fn prove(&self, conn: &Conn, headers: &HeaderMap, now: SystemTime) -> Result<Authenticated, Refusal> {
        let mut errors = Vec::new();
        let mut warning = None;
        let mut proven = self.certificate(conn, now, &mut errors);
        if proven.is_none() {
            proven = match bearer::find(headers) {
                Bearer::Nothing => None,
                Bearer::ExtraSpace => {
                    warning = Some(bearer::EXTRA_SPACE);
                    None
                }
                Bearer::NotText => {
                    errors.push("bearer: the Authorization header is not UTF-8".to_owned());
                    None
                }
                Bearer::Token(token) => self.token(token, &mut errors),
            };
        }
        if proven.is_none() && errors.is_empty() {
            proven =
                self.anonymous.as_ref().map(|user| Authenticated::new(user.clone(), Method::Anonymous, None));
        }
        let Some(proven) = proven else {
            let rejected = !errors.is_empty();
            let why = if rejected { errors.join("; ") } else { "no credentials".to_owned() };
            return Err(Refusal { why, rejected, warning });
        };
        Ok(Authenticated { warning, ..proven })
    }

    fn certificate(&self, conn: &Conn, now: SystemTime, errors: &mut Vec<String>) -> Option<Authenticated> {
        match self.x509.as_ref()?.authenticate(&conn.certificates, &conn.judged, now) {
            Ok(opinion) => opinion,
            Err(why) => {
                errors.push(why);
                None
            }
        }
    }

    /// Asks everyone who knows bearer tokens. A token that nobody accepts is an error, so that it never ends as anonymous.
    fn token(&self, token: &str, errors: &mut Vec<String>) -> Option<Authenticated> {
        if let Some(user) = self.tokens.as_ref().and_then(|tokens| tokens.find(token)) {
            return Some(Authenticated::new(user.clone(), Method::TokenFile, None));
        }
        errors.push("bearer: invalid bearer token".to_owned());
        None
    }
}

/// Why nobody proved who they are.
struct Refusal {
    why: String,
    rejected: bool,
    warning: Option<&'static str>,
}

// === files ===

const CLIENT_CA_FILE: &str = "clientCAFile";
const TOKEN_AUTH_FILE: &str = "tokenAuthFile";

impl Config {
    /// Reads the files, all or none.
    pub fn read(&self) -> Result<Files, Vec<Error>> {
        let read = |path: &Option<PathBuf>, key| {
            let read = path.as_deref().map(File::read).transpose();
            read.map_err(|problem| Error { key, problem })
        };
        match (read(&self.client_ca_file, CLIENT_CA_FILE), read(&self.token_auth_file, TOKEN_AUTH_FILE)) {
            (Ok(client_ca), Ok(tokens)) => Ok(Files { client_ca, tokens, anonymous: self.anonymous }),
            (client_ca, tokens) => Err([client_ca.err(), tokens.err()].into_iter().flatten().collect()),
        }
    }
}

/// What is said while files are understood.
#[derive(Default)]
struct Said {
    warnings: Vec<String>,
    errors: Vec<Error>,
}

impl Said {
    fn client_ca(&mut self, file: &File) -> Option<X509> {
        let bundle = match file.certificates() {
            Ok(bundle) => bundle,
            Err(e) => return self.refuse(CLIENT_CA_FILE, [e.to_string()]),
        };
        match X509::new(&bundle) {
            Ok(x509) => {
                self.warnings.extend(named(file, x509.warnings(SystemTime::now())));
                Some(x509)
            }
            Err(problems) => self.refuse(CLIENT_CA_FILE, named(file, problems)),
        }
    }

    fn token_file(&mut self, file: &File) -> Option<TokenFile> {
        let text = match file.text() {
            Ok(text) => text,
            Err(problem) => return self.refuse(TOKEN_AUTH_FILE, [problem]),
        };
        match TokenFile::parse(text) {
            Ok((tokens, odd)) => {
                self.warnings.extend(named(file, odd));
                Some(tokens)
            }
            Err(errors) => self.refuse(TOKEN_AUTH_FILE, named(file, errors)),
        }
    }

    fn anonymous(&mut self) -> Option<Arc<User>> {
        let groups = vec![identity::ALL_UNAUTHENTICATED.to_owned()];
        match User::new(identity::ANONYMOUS, "", groups, Default::default()) {
            Ok(user) => Some(user),
            Err(e) => self.refuse("anonymous", [e.to_string()]),
        }
    }

    fn refuse<T>(&mut self, key: &'static str, problems: impl IntoIterator<Item = String>) -> Option<T> {
        self.errors.extend(problems.into_iter().map(|problem| Error { key, problem }));
        None
    }
}

/// The lines say which file they are about.
fn named<L: ToString>(file: &File, lines: Vec<L>) -> impl Iterator<Item = String> {
    lines.into_iter().map(|line| format!("{}: {}", file.origin, line.to_string()))
}

// === headers ===

/// Takes the credentials away; `X-Remote-*` is only ever a claim.
fn strip(headers: &mut HeaderMap) {
    headers.remove(header::AUTHORIZATION);
    // Nearly always there is none, and then nothing is allocated.
    let claims: Vec<HeaderName> = headers.keys().filter(|name| is_claim(name.as_str())).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
}

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
