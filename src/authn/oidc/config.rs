//! `apiserver.config.k8s.io` AuthenticationConfiguration: read strictly, checked as kube-apiserver checks it, expressions
//! compiled. Everything that is wrong is reported, with its place in the file.

use super::cel::Expression;
use rustls::pki_types::CertificateDer;

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

impl AuthenticationConfiguration {
    /// Reads `text`. `service_account_issuers` may not be claimed by an entry of `jwt`. Every problem is a line of its own that
    /// begins with its place, such as `jwt[0].claimMappings.username.expression: …`.
    pub(in crate::authn) fn parse(
        text: &str,
        service_account_issuers: &[String],
    ) -> Result<Self, Vec<String>> {
        let _ = (text, service_account_issuers);
        todo!()
    }
}
