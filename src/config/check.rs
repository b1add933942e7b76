//! Is this a configuration the gate would start with, and what would be on?

use super::{Config, Draft, Error, Errors};
use crate::{
    audit::{Mode, OnFailure},
    authn, endpoint,
    reload::{self, Loaded},
    server::tls::Serving,
};
use std::{fmt, path::Path, sync::Arc, time::SystemTime};

/// What a configuration leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Each part, on or off, in words.
    pub lines: Vec<Line>,
    /// What is odd but harmless.
    pub warnings: Vec<String>,
}

/// One part of the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Which.
    pub part: &'static str,
    /// Whether it does anything.
    pub on: bool,
    /// How; empty when there is nothing to say.
    pub how: String,
}

/// Loads everything that `config` points to and says what is on and what is off, or all that is wrong.
pub fn check(config: &Config) -> Result<Report, Errors> {
    Ok(Report::new(config, &reload::load(config, &unshared())?))
}

/// What is wrong with the files of a configuration that has errors of its own.
pub(super) fn pointed_to(path: &Path, draft: &Draft) -> Vec<Error> {
    let mut errors = Vec::new();
    if let Some(tls) = &draft.tls {
        errors.extend(reload::serving(path, tls, None).err());
    }
    errors.extend(reload::authn(path, &draft.authn, &unshared(), None).err());
    errors.extend(reload::rules(path, &draft.authz, None).err());
    if let Some(endpoint) = &draft.endpoint {
        errors.extend(reload::forward(path, endpoint, &draft.forward, None).err());
    }
    errors.into_iter().flatten().collect()
}

/// For looking at files only: nothing is counted, nobody is asked.
fn unshared() -> Arc<authn::Shared> {
    authn::Shared::new(authn::Metrics::unregistered(), None)
}

impl Report {
    /// What `loaded` leads to under `config`.
    pub fn new(config: &Config, loaded: &Loaded) -> Self {
        let on = |part, on, how: String| Line { part, on, how };
        let of = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let authn = &loaded.authn.made;
        let own = loaded.rules.made.own;
        let rules = format!(
            "{}, {} and {} from files; the bootstrap rules are {}",
            of(own.roles, "role"),
            of(own.rules, "rule"),
            of(own.bindings, "binding"),
            if config.authz.bootstrap { "on" } else { "off" },
        );
        let record = format!(
            "{} to {}, {} when they cannot be kept, changes wait until they are {}",
            of(loaded.policy().rules(), "policy rule"),
            config.audit.dir.display(),
            match config.audit.on_failure {
                OnFailure::Refuse => "requests are refused",
                OnFailure::Open => "requests are NOT refused",
            },
            match config.audit.mode {
                Mode::Blocking => "written",
                Mode::Batch => "queued",
            },
        );
        let lines = vec![
            on("listen", true, format!("{}, {}", config.server.address, served(&loaded.serving.made))),
            on("upstream", true, upstream(config, loaded)),
            on(
                "client certificates",
                authn.client_cas().is_some(),
                authn.client_cas().map_or_else(String::new, |n| of(n, "CA")),
            ),
            on(
                "static tokens",
                authn.tokens().is_some(),
                authn.tokens().map_or_else(String::new, |n| of(n, "token")),
            ),
            on("anonymous", authn.anonymous().is_some(), String::new()),
            on("rbac", true, rules),
            on("validation", false, String::new()),
            on("audit", true, record),
            on(
                "admin",
                config.server.admin.is_some(),
                config
                    .server
                    .admin
                    .map_or_else(String::new, |a| format!("http://{a}, without authentication")),
            ),
        ];
        Self { lines, warnings: loaded.warnings().cloned().collect() }
    }
}

fn served(serving: &Serving) -> String {
    let left =
        serving.expires().map(|at| at.duration_since(SystemTime::now()).map(|left| left.as_secs() / 86_400));
    let left = match left {
        Some(Ok(days)) => format!("for another {days} days"),
        Some(Err(_)) => "expired".to_owned(),
        None => "for ever".to_owned(),
    };
    format!("certificate for {}, {left}", serving.names().join(", "))
}

fn upstream(config: &Config, loaded: &Loaded) -> String {
    let place = match &config.endpoint {
        endpoint::Config::Kubeconfig { path, context } => match context {
            Some(context) => format!("context {context} of {}", path.display()),
            None => format!("current context of {}", path.display()),
        },
        endpoint::Config::InCluster => "the pod's service account".to_owned(),
        endpoint::Config::Explicit(_) => "spelled out".to_owned(),
    };
    format!("https://{}, {place}; identity by impersonation", loaded.forward.made.endpoint().authority())
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.on { "on" } else { "off" };
        match self.how.as_str() {
            "" => write!(f, "{}: {state}", self.part),
            how => write!(f, "{}: {state} ({how})", self.part),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))
    }
}
