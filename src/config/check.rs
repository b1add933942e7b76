//! Is this a configuration the gate would start with, and what would be on?

mod record;

use super::{Config, Draft, Error, Errors};
use crate::{
    authn::{self, ReviewBy, ReviewTokens},
    authz::{Mode as Enforcement, OnLoss},
    endpoint,
    rbac::Counts,
    reload::{self, Loaded},
    server::{self, tls::Serving},
    validate::{self, Mode, Part},
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
    errors.extend(reload::candidate(path, &draft.authz, None).err());
    if let Some(endpoint) = &draft.endpoint {
        errors.extend(reload::forward(path, endpoint, &draft.forward, None).err());
    }
    if let Some(audit) = &draft.audit {
        errors.push(reload::sinks(path, &audit.sinks));
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
        let authn = &loaded.authn.made;
        let cluster = config.authz.cluster.as_ref().map(|cluster| match cluster.on_loss {
            OnLoss::Refuse => {
                format!("; the cluster's own as well, for {:?} when they are lost", cluster.max_age)
            }
            OnLoss::Keep => "; the cluster's own as well, however long they are lost".to_owned(),
        });
        let rules = format!(
            "{} from files; the bootstrap rules are {}{}",
            counts(loaded.rules.made.own),
            on_or_off(config.authz.bootstrap),
            cluster.unwrap_or_default(),
        );
        let rehearsed = config.authz.shadow.as_ref().zip(loaded.candidate.made.own).map(|(shadow, own)| {
            format!("{}; the bootstrap rules are {}", counts(own), on_or_off(shadow.bootstrap))
        });
        let mut lines = vec![
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
            front_proxy(&config.authn),
            service_accounts(&config.authn),
            on("issuers", !authn.issuers().is_empty(), authn.issuers().join(", ")),
            token_review(&config.authn),
            anonymous(authn.anonymous()),
            on(
                "limit of failed authentications",
                config.failed_authentications.is_some(),
                config
                    .failed_authentications
                    .map_or_else(String::new, |n| format!("{n} of one source in a minute")),
            ),
            on("rbac", true, rules),
            enforcement(config.authz.mode),
            on("shadow rules", rehearsed.is_some(), rehearsed.unwrap_or_default()),
            validation(&config.validate),
        ];
        lines.extend(record::lines(&config.audit, loaded.policy().rules()));
        lines.push(admin(&config.server));
        Self { lines, warnings: loaded.warnings().cloned().collect() }
    }
}

fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// `1 rule`, `2 rules`.
pub(super) fn of(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// How much there is of RBAC.
pub(super) fn counts(counts: Counts) -> String {
    let Counts { roles, rules, bindings } = counts;
    format!("{}, {} and {}", of(roles, "role"), of(rules, "rule"), of(bindings, "binding"))
}

fn validation(config: &validate::Config) -> Line {
    let parts = |mode| {
        let parts = Part::ALL.into_iter().filter(|part| config.part(*part) == mode).map(Part::as_str);
        let mut parts: Vec<String> = parts.map(str::to_owned).collect();
        if mode == config.mode && !config.enforce_values_of.is_empty() {
            parts.push(format!("values of {}", config.enforce_values_of.join(", ")));
        }
        parts.join(", ")
    };
    let modes = [("enforced: ", Mode::Enforce), ("only warned of: ", Mode::Warn), ("off: ", Mode::Off)];
    let told =
        modes.map(|(word, mode)| (word, parts(mode))).into_iter().filter(|(_, parts)| !parts.is_empty());
    let how: Vec<String> = told.map(|(word, parts)| format!("{word}{parts}")).collect();
    let is_on = config.mode != Mode::Off;
    on("validation", is_on, if is_on { how.join("; ") } else { String::new() })
}

fn admin(server: &server::Config) -> Line {
    let address = server.admin.map(|address| format!("http://{address}, without authentication"));
    let socket = server.socket.as_ref().map(|path| format!("{}, for the gate's own user", path.display()));
    let how: Vec<String> = address.into_iter().chain(socket).collect();
    on("admin", !how.is_empty(), how.join("; "))
}

fn on(part: &'static str, on: bool, how: String) -> Line {
    Line { part, on, how }
}

fn front_proxy(authn: &authn::Config) -> Line {
    let how = authn.front_proxy.as_ref().map(|proxy| match &proxy.allowed_names[..] {
        [] => "every certificate of its CA".to_owned(),
        names => names.join(", "),
    });
    on("front proxy", how.is_some(), how.unwrap_or_default())
}

fn service_accounts(authn: &authn::Config) -> Line {
    let how = authn.service_account.as_ref().map(|accounts| {
        let keys = match accounts.key_files.len() {
            0 => "keys of the upstream".to_owned(),
            n => format!("keys of {}", of(n, "file")),
        };
        let reviewed = match accounts.review {
            ReviewTokens::Never => "the upstream is not asked about tokens",
            ReviewTokens::Bound => "the upstream is asked about bound tokens",
            ReviewTokens::Always => "the upstream is asked about every token",
        };
        format!("{}, {keys}; {reviewed}", accounts.issuers.join(", "))
    });
    on("service accounts", how.is_some(), how.unwrap_or_default())
}

fn token_review(authn: &authn::Config) -> Line {
    let how = authn.review.as_ref().map(|review| match &review.to {
        ReviewBy::Upstream => "by the upstream".to_owned(),
        ReviewBy::Webhook { kubeconfig, context } => {
            format!("by {}", of_kubeconfig(kubeconfig, context.as_deref()))
        }
    });
    on("token review", how.is_some(), how.unwrap_or_default())
}

fn enforcement(mode: Enforcement) -> Line {
    match mode {
        Enforcement::Enforce => on("enforcement", true, String::new()),
        Enforcement::Observe => on("enforcement", false, OBSERVED.to_owned()),
    }
}

/// What it means that the gate only observes.
pub(crate) const OBSERVED: &str = "mode observe: what the rules refuse is recorded and FORWARDED; impersonation and the rights of \
                                   streams are enforced";

fn anonymous(paths: Option<&[String]>) -> Line {
    let how = paths.map(|paths| if paths.is_empty() { "everywhere".to_owned() } else { paths.join(", ") });
    on("anonymous", how.is_some(), how.unwrap_or_default())
}

fn of_kubeconfig(path: &Path, context: Option<&str>) -> String {
    match context {
        Some(context) => format!("context {context} of {}", path.display()),
        None => format!("current context of {}", path.display()),
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
        endpoint::Config::Kubeconfig { path, context } => of_kubeconfig(path, context.as_deref()),
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
