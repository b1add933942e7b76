//! The configuration: one file, `gatelog.yaml`, read into each domain's own part; every problem is reported, not only the
//! first. Keys that have a kube-apiserver namesake have its name. Relative paths begin at the file's own folder.
//!
//! What may stand in it, with the defaults:
//!
#![doc = "```yaml"]
#![doc = include_str!("config/reference.yaml")]
#![doc = "```"]

mod authentication;
mod check;
mod document;
mod reader;
mod recording;
mod units;

pub(crate) use check::OBSERVED;
pub use check::{Line, Report, check};
pub use document::{Document, examine};

use crate::{
    audit::{self, Cidr, policy::Policy},
    authn,
    authz::{self, Explain, Mode as Enforcement, OnLoss, Tell},
    endpoint::{self, Explicit},
    forward, gateway, limits,
    pem::File,
    server::{self, tls},
    validate::{self, Mode, Part},
};
use reader::{Reader, Section};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// The annotated example: every key, with its default.
pub const REFERENCE: &str = include_str!("config/reference.yaml");

/// Of everything that is the gate's own.
const API_VERSION: &str = "gatelog.dev/v1alpha1";

/// What a configuration is made of.
const SECTIONS: [&str; 9] = [
    "listen",
    "upstream",
    "authentication",
    "authorization",
    "validation",
    "audit",
    "limits",
    "admin",
    "reload",
];

/// Of one source and minute: more than a person mistypes, far less than a guess needs.
const FAILED_AUTHENTICATIONS: usize = 100;

/// Characters; it stands in every refusal.
const LONGEST_CONTACT: usize = 200;

/// Everything that a gate needs to know; each domain's own part.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from, for messages.
    pub file: PathBuf,
    /// Where the gate listens and how it leaves.
    pub server: server::Config,
    /// What callers are shown.
    pub tls: tls::Config,
    /// What bounds a request.
    pub gateway: gateway::Config,
    /// Where requests go.
    pub endpoint: endpoint::Config,
    /// How the upstream is reached.
    pub forward: forward::Config,
    /// Who is calling.
    pub authn: authn::Config,
    /// Rejected credentials of one source in a minute, before further ones are not looked at; None: any number.
    pub failed_authentications: Option<u32>,
    /// What they may do.
    pub authz: authz::source::Config,
    /// What is well formed.
    pub validate: validate::Config,
    /// How many may do it at once.
    pub limits: limits::Config,
    /// What is recorded.
    pub audit: audit::Config,
    /// Where the audit policy stands.
    pub policy: PolicySource,
    /// How often files are looked at for changes.
    pub reload_interval: Duration,
}

/// Where the audit policy stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicySource {
    /// One of those in the program: metadata, recommended, everything.
    Shipped(String),
    /// A file.
    File(PathBuf),
}

/// Every problem of a configuration at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Errors(
    /// One for each thing that is wrong; never empty.
    pub Vec<Error>,
);

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// The configuration file.
    pub file: String,
    /// The key's path, such as `listen.handshakeTimeout`; empty for the whole file.
    pub key: String,
    /// What is wrong; names the file that the key points to where that is the one at fault.
    pub problem: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.file, self.problem),
            key => write!(f, "{}: {key}: {}", self.file, self.problem),
        }
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}{error}")?;
        }
        Ok(())
    }
}

/// Reads a configuration. When it has errors, the files that it points to are looked at as well, so that theirs are reported together
/// with its own; when it has none, that is left to [`crate::reload::load`].
pub fn load(path: &Path) -> Result<Config, Errors> {
    let file = path.display().to_string();
    let text = File::read(path).and_then(|file| Ok(file.text()?.to_owned()));
    // Errors of the file as a whole already begin with its name.
    let whole = |problem: String| {
        let problem = problem.strip_prefix(&format!("{file}: ")).unwrap_or(&problem).to_owned();
        Errors(vec![Error { file: file.clone(), key: String::new(), problem }])
    };
    parse(path, &text.map_err(whole)?)
}

/// The same from text that would stand in `path`.
pub fn parse(path: &Path, text: &str) -> Result<Config, Errors> {
    let reader = Reader::new(path);
    let root = reader.document(text);
    if root.is_text("kind", Kind::GatewayPart.name()) {
        root.wrong(
            "kind",
            "a GatewayPart is for gatelog check and for pasting, the gate needs a whole Gateway",
        );
        return Err(Errors(reader.into_errors()));
    }
    if root.text("apiVersion").is_some_and(|api| !api.starts_with("gatelog.dev/")) {
        root.wrong("apiVersion", format!("expected {API_VERSION}"));
    }
    // No document, or another file altogether: all that a Gateway needs besides would only hide that.
    if reader.has_errors() {
        return Err(Errors(reader.into_errors()));
    }
    let draft = Draft::read(root, Kind::Gateway);
    let mut errors = reader.into_errors();
    if errors.is_empty()
        && let Some(config) = draft.complete(path)
    {
        return Ok(config);
    }
    errors.extend(check::pointed_to(path, &draft));
    Err(Errors(errors))
}

/// What could be read of a configuration, be it whole or not.
#[derive(Debug)]
struct Draft {
    server: Option<server::Config>,
    tls: Option<tls::Config>,
    gateway: gateway::Config,
    endpoint: Option<endpoint::Config>,
    forward: forward::Config,
    authn: authn::Config,
    failed_authentications: Option<u32>,
    authz: authz::source::Config,
    validate: validate::Config,
    limits: limits::Config,
    audit: Option<audit::Config>,
    policy: PolicySource,
    reload_interval: Duration,
}

/// How much of a configuration a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// All that a gate needs.
    Gateway,
    /// Some sections of one.
    GatewayPart,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "Gateway",
            Self::GatewayPart => "GatewayPart",
        }
    }
}

impl Draft {
    fn read(root: Section<'_>, kind: Kind) -> Self {
        for (key, expected) in [("apiVersion", API_VERSION), ("kind", kind.name())] {
            let found = root.text(key);
            if root.required(key, found).is_some_and(|found| found != expected) {
                root.wrong(key, format!("expected {expected}"));
            }
        }
        let section = |key| root.section_of(kind, key);
        let listen = section("listen");
        let trusted_proxies = listen.all_parsed::<Cidr>("trustedProxies");
        let tls = serving_pair(&listen);
        let body_read_timeout = listen.duration("bodyReadTimeout", Duration::from_secs(30));
        let admin = section("admin");
        let server = server(&listen, &admin);
        listen.done();
        admin.done();
        let upstream = section("upstream");
        let (endpoint, forward) = (endpoint(&upstream), forward(&upstream));
        upstream.done();
        let part = section("authentication");
        let authn = authentication::authentication(&part, endpoint.clone());
        let end_tunnels_at_expiry = part.flag("endTunnelsAtExpiry", false);
        part.done();
        let part = section("authorization");
        let authz = authorization(&part);
        part.done();
        let part = section("validation");
        let validate = validation(&part);
        part.done();
        let part = section("limits");
        let limits = limits(&part);
        let failed = part.count_or_none("failedAuthentications", Some(FAILED_AUTHENTICATIONS));
        let failed_authentications = failed.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        let gateway = gateway::Config {
            request_body: part.size("requestBody", 3 << 20),
            body_read_timeout,
            buffered_bodies: bytes(part.size("bufferedBodies", 256 << 20)),
            max_headers: server.as_ref().map_or(1_000, |s| s.listener.max_headers),
            end_tunnels_at_expiry,
        };
        part.done();
        let part = section("audit");
        let (audit, policy) = recording::recording(&part, trusted_proxies);
        part.done();
        let reload = section("reload");
        let reload_interval = reload.duration("interval", Duration::from_secs(5));
        reload.done();
        root.done();
        Self {
            server,
            tls,
            gateway,
            endpoint,
            forward,
            authn,
            failed_authentications,
            authz,
            validate,
            limits,
            audit,
            policy,
            reload_interval,
        }
    }

    fn complete(&self, path: &Path) -> Option<Config> {
        Some(Config {
            file: path.to_owned(),
            server: self.server.clone()?,
            tls: self.tls.clone()?,
            gateway: self.gateway.clone(),
            endpoint: self.endpoint.clone()?,
            forward: self.forward.clone(),
            authn: self.authn.clone(),
            failed_authentications: self.failed_authentications,
            authz: self.authz.clone(),
            validate: self.validate.clone(),
            limits: self.limits.clone(),
            audit: self.audit.clone()?,
            policy: self.policy.clone(),
            reload_interval: self.reload_interval,
        })
    }
}

fn serving_pair(listen: &Section<'_>) -> Option<tls::Config> {
    let cert_file = listen.required("tlsCertFile", listen.path("tlsCertFile"));
    let key_file = listen.required("tlsPrivateKeyFile", listen.path("tlsPrivateKeyFile"));
    Some(tls::Config { cert_file: cert_file?, key_file: key_file? })
}

fn server(listen: &Section<'_>, admin: &Section<'_>) -> Option<server::Config> {
    let default = server::ListenerConfig::default();
    let address = listen.required("address", listen.parsed("address"));
    let listener = server::ListenerConfig {
        max_connections: listen.count("maxConnections", default.max_connections),
        handshake_timeout: listen.duration("handshakeTimeout", default.handshake_timeout),
        read_header_timeout: listen.duration("readHeaderTimeout", default.read_header_timeout),
        idle_timeout: listen.duration("idleTimeout", default.idle_timeout),
        max_header_bytes: bytes(listen.size("maxHeaderBytes", default.max_header_bytes as u64)),
        max_headers: listen.count("maxHeaders", default.max_headers),
        max_streams_per_connection: u32::try_from(
            listen.count("http2MaxStreamsPerConnection", default.max_streams_per_connection as usize),
        )
        .unwrap_or(u32::MAX),
    };
    let shutdown_delay = listen.duration_or_zero("shutdownDelayDuration", Duration::ZERO);
    let shutdown_grace = listen.duration_or_zero("shutdownGracePeriod", Duration::from_secs(30));
    let (admin_address, socket) = (admin.parsed("address"), admin.path("socket"));
    Some(server::Config {
        address: address?,
        listener,
        admin: admin_address,
        socket,
        shutdown_delay,
        shutdown_grace,
    })
}

fn endpoint(upstream: &Section<'_>) -> Option<endpoint::Config> {
    let kubeconfig = upstream.path("kubeconfig");
    let context = upstream.text("context");
    let in_cluster = upstream.has("inCluster");
    if in_cluster {
        upstream.section("inCluster").done();
    }
    let server = upstream.text("server");
    let explicit = Explicit {
        server: server.clone().unwrap_or_default(),
        certificate_authority: upstream.path("certificateAuthority"),
        tls_server_name: upstream.text("tlsServerName"),
        insecure_skip_tls_verify: upstream.flag("insecureSkipTLSVerify", false),
        client_certificate: upstream.path("clientCertificate"),
        client_key: upstream.path("clientKey"),
        token_file: upstream.path("tokenFile"),
    };
    let (config, of_others): (_, &[&'static str]) = match (kubeconfig, in_cluster, server) {
        (Some(path), false, None) => (endpoint::Config::Kubeconfig { path, context }, &OF_SERVER),
        (None, true, None) => (endpoint::Config::InCluster, &[&["context"], &OF_SERVER[..]].concat()),
        (None, false, Some(_)) => (endpoint::Config::Explicit(explicit), &["context"]),
        _ => {
            upstream.wrong("", "expected exactly one of kubeconfig, inCluster and server");
            return None;
        }
    };
    for key in of_others.iter().copied().filter(|key| upstream.has(key)) {
        let owner = if key == "context" { "kubeconfig" } else { "server" };
        upstream.wrong(key, format!("only goes with {owner}"));
    }
    Some(config)
}

/// What an upstream that is spelled out may have.
const OF_SERVER: [&str; 6] = [
    "certificateAuthority",
    "tlsServerName",
    "insecureSkipTLSVerify",
    "clientCertificate",
    "clientKey",
    "tokenFile",
];

fn forward(upstream: &Section<'_>) -> forward::Config {
    let default = forward::Config::default();
    forward::Config {
        connect_timeout: upstream.duration("connectTimeout", default.connect_timeout),
        max_connections: upstream.count("maxConnections", default.max_connections),
        streams_per_connection: upstream.count("streamsPerConnection", default.streams_per_connection),
    }
}

fn authorization(section: &Section<'_>) -> authz::Config {
    let rbac = section.section("rbac");
    let cluster = rbac.optional("cluster").map(|cluster| {
        let words = [("refuse", OnLoss::Refuse), ("keep", OnLoss::Keep)];
        let max_age = cluster.duration("maxAge", Duration::from_secs(300));
        if max_age < Duration::from_secs(5) {
            cluster.wrong("maxAge", "expected at least 5s, for which a watch may be silent");
        }
        let on_loss = cluster.word("onLoss", &words, OnLoss::Refuse);
        cluster.done();
        authz::Cluster { max_age, on_loss }
    });
    // A cluster has its own.
    let (paths, bootstrap) = (rbac.paths("files"), rbac.flag("bootstrap", cluster.is_none()));
    rbac.done();
    let shadow = section.optional("shadow").map(|shadow| {
        let (paths, bootstrap) = (shadow.paths("files"), shadow.flag("bootstrap", true));
        if paths.is_empty() {
            shadow.wrong("files", "expected at least one file or folder");
        }
        shadow.done();
        authz::Shadow { paths, bootstrap }
    });
    let modes = [("enforce", Enforcement::Enforce), ("observe", Enforcement::Observe)];
    let mode = section.word("mode", &modes, Enforcement::Enforce);
    // YAML reads a bare `off` as false.
    let explain = match section.is_false("explain") {
        true => Explain::Off,
        false => {
            let words = [("off", Explain::Off), ("own", Explain::Own), ("full", Explain::Full)];
            section.word("explain", &words, Explain::Own)
        }
    };
    let unfit = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let fits = |text: &String| {
        let fits = text.chars().count() <= LONGEST_CONTACT && !text.contains(unfit);
        if !fits {
            let expected = format!("expected one line of at most {LONGEST_CONTACT} characters");
            section.wrong("contact", expected);
        }
        fits
    };
    let contact = section.text("contact").filter(fits).map(Arc::from);
    authz::Config { paths, bootstrap, cluster, shadow, mode, tell: Tell { explain, contact } }
}

fn validation(section: &Section<'_>) -> validate::Config {
    // YAML reads a bare `off` as false.
    let mode = |key: &'static str, strict, default| match section.is_false(key) {
        true => Mode::Off,
        false => {
            section.word(key, &[(strict, Mode::Enforce), ("warn", Mode::Warn), ("off", Mode::Off)], default)
        }
    };
    let whole = mode("mode", "enforce", Mode::Enforce);
    let parts = Part::ALL.map(|part| mode(part.as_str(), "enforce", part.default_mode()));
    let enforce_values_of = section.texts_or_empty("enforceValuesOf").unwrap_or_default();
    validate::Config { mode: whole, parts, enforce_values_of }
}

fn limits(section: &Section<'_>) -> limits::Config {
    let default = limits::Config::default();
    limits::Config {
        requests: section.count("requestsInFlight", default.requests),
        requests_per_user: section.count("requestsInFlightPerUser", default.requests_per_user),
        streams: section.count("streams", default.streams),
        streams_per_user: section.count("streamsPerUser", default.streams_per_user),
    }
}

impl PolicySource {
    /// Reads the file; None: it is shipped, there is no file. The error names it.
    pub(crate) fn read(&self) -> Result<Option<File>, String> {
        match self {
            Self::Shipped(_) => Ok(None),
            Self::File(path) => File::read(path).map(Some),
        }
    }

    /// Understands what was read. Every problem is reported.
    pub(crate) fn understand(&self, file: Option<&File>) -> Result<Policy, Vec<String>> {
        match (self, file) {
            (Self::Shipped(name), _) => {
                Policy::shipped(name).ok_or_else(|| vec![format!("{name:?} is no shipped policy")])
            }
            (Self::File(path), None) => Err(vec![format!("{}: was not read", path.display())]),
            (Self::File(_), Some(file)) => {
                let named = |problem: &String| format!("{}: {problem}", file.origin);
                let text = file.text().map_err(|problem| vec![problem])?;
                Policy::parse(text).map_err(|errors| errors.0.iter().map(named).collect())
            }
        }
    }
}

fn bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
