//! `apiserver.config.k8s.io` AuthenticationConfiguration: read strictly, checked as kube-apiserver checks it, expressions
//! compiled. Everything that is wrong is reported, with its place in the file.

mod issuer;
mod outline;
mod read;

pub use outline::{Outline, outline};

use super::cel::Expression;
use crate::codec::yaml;
use read::{Noted, Notes, Object};
use rustls::pki_types::CertificateDer;

/// The `kind` of such a file.
const KIND: &str = "AuthenticationConfiguration";

/// A file that may be used.
#[derive(Debug)]
pub(in crate::authn) struct AuthenticationConfiguration {
    pub(in crate::authn) issuers: Vec<Issuer>,
    /// None: the file says nothing of it.
    pub(in crate::authn) anonymous: Option<Anonymous>,
    /// What is odd but harmless, a line each.
    pub(in crate::authn) warnings: Vec<String>,
}

/// Who may come without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::authn) struct Anonymous {
    pub(in crate::authn) enabled: bool,
    /// Only to these paths, exactly; empty: to all.
    pub(in crate::authn) paths: Vec<String>,
}

/// One entry of `jwt`.
#[derive(Debug)]
pub(in crate::authn) struct Issuer {
    pub(in crate::authn) url: String,
    pub(in crate::authn) discovery_url: Option<String>,
    /// None: the system's.
    pub(in crate::authn) certificate_authority: Option<Vec<CertificateDer<'static>>>,
    /// At least one; one of the token's must be among them.
    pub(in crate::authn) audiences: Vec<String>,
    pub(in crate::authn) claim_rules: Vec<ClaimRule>,
    pub(in crate::authn) username: TextMapping,
    pub(in crate::authn) groups: Option<TextMapping>,
    /// A claim without prefix, or an expression.
    pub(in crate::authn) uid: Option<TextMapping>,
    pub(in crate::authn) extra: Vec<(String, Expression)>,
    pub(in crate::authn) user_rules: Vec<Rule>,
}

/// Where a value comes from.
#[derive(Debug)]
pub(in crate::authn) enum TextMapping {
    /// A claim's value behind a prefix, which may be empty.
    Claim {
        /// Exact name.
        claim: String,
        prefix: String,
    },
    /// An expression over `claims`.
    Expression(Expression),
}

/// What a token's claims must meet.
#[derive(Debug)]
pub(in crate::authn) enum ClaimRule {
    /// A claim that is text and equal.
    Required {
        /// Exact name.
        claim: String,
        value: String,
    },
    /// An expression over `claims`.
    Rule(Rule),
}

/// An expression that must be true.
#[derive(Debug)]
pub(in crate::authn) struct Rule {
    pub(in crate::authn) expression: Expression,
    /// For the log; empty: none was given.
    pub(in crate::authn) message: String,
}

/// What is read here is the same in all of them.
const VERSIONS: [&str; 3] =
    ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];

/// As many as kube-apiserver takes.
const MOST_ISSUERS: usize = 64;

// === impl AuthenticationConfiguration ===

impl AuthenticationConfiguration {
    /// Reads `text`. `service_account_issuers` may not be claimed by an entry of `jwt`. Every problem is a line of its own that
    /// begins with its place, such as `jwt[0].claimMappings.username.expression: …`.
    pub(in crate::authn) fn parse(
        text: &str,
        service_account_issuers: &[String],
    ) -> Result<Self, Vec<String>> {
        let documents =
            yaml::documents(text.trim_start_matches('\u{feff}')).map_err(|e| vec![e.to_string()])?;
        let document = match &documents[..] {
            [document] => &document.value,
            [] => return Err(vec!["the file is empty".to_owned()]),
            [_, second, ..] => {
                return Err(vec![format!("line {}: expected one document, found a second", second.line)]);
            }
        };
        let notes = Notes::default();
        let root = Object::document(&notes, document, &["apiVersion", "kind", "jwt", "anonymous"]);
        if !VERSIONS.contains(&root.text("apiVersion")) {
            root.wrong("apiVersion", format!("expected one of {}", VERSIONS.join(", ")));
        }
        if root.text("kind") != KIND {
            root.wrong("kind", format!("expected {KIND}"));
        }
        let issuers = jwt(&root, service_account_issuers);
        let anonymous = anonymous(&root);
        let (errors, warnings) = notes.into_lists();
        match issuers {
            Ok(issuers) if errors.is_empty() => Ok(Self { issuers, anonymous, warnings }),
            _ => Err(errors),
        }
    }
}

fn jwt(root: &Object<'_>, service_account_issuers: &[String]) -> Result<Vec<Issuer>, Noted> {
    let entries = root.objects("jwt", issuer::FIELDS);
    if entries.len() > MOST_ISSUERS {
        let count = entries.len();
        return Err(root.wrong("jwt", format!("{count} issuers are more than the allowed {MOST_ISSUERS}")));
    }
    let mut taken = issuer::Taken::by(service_account_issuers);
    // All of them before the first that failed counts, so that each is reported.
    let issuers: Vec<_> = entries.iter().map(|entry| issuer::read(entry, &mut taken)).collect();
    issuers.into_iter().collect()
}

fn anonymous(root: &Object<'_>) -> Option<Anonymous> {
    let anonymous = root.object("anonymous", &["enabled", "conditions"]);
    let enabled = anonymous.flag("enabled");
    let mut paths = Vec::new();
    for condition in anonymous.objects("conditions", &["path"]) {
        let path = condition.text("path");
        if !path.starts_with('/') {
            condition.odd("path", "no request has such a path, they begin with /");
        }
        paths.push(path.to_owned());
    }
    if !enabled && !paths.is_empty() {
        anonymous.wrong("conditions", "only goes with enabled: true");
    }
    anonymous.is_there().then_some(Anonymous { enabled, paths })
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
