//! One entry of `jwt`: what kube-apiserver's own validation demands of it.

use super::{
    super::cel::{Expression, Returns, Scope},
    ClaimRule, Issuer, Rule, TextMapping,
    read::{Noted, Object},
};
use crate::{identity::RESERVED_EXTRA_PREFIX, pem::File, request::names::is_dns_subdomain};
use http::{Uri, uri::Scheme};
use rustls::{RootCertStore, pki_types::CertificateDer};
use std::collections::BTreeSet;

/// The fields of an entry.
pub(super) const FIELDS: &[&str] =
    &["issuer", "claimValidationRules", "claimMappings", "userValidationRules"];

const PREFIXED: &[&str] = &["claim", "prefix", "expression"];
const BOTH: &str = "expected either claim or expression, found both";

/// The URLs that no further entry may have.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    service_account_issuers: &'a [String],
    urls: BTreeSet<&'a str>,
    discovery_urls: BTreeSet<&'a str>,
}

impl<'a> Taken<'a> {
    /// Only by service accounts, so far.
    pub(super) fn by(service_account_issuers: &'a [String]) -> Self {
        Self { service_account_issuers, urls: BTreeSet::new(), discovery_urls: BTreeSet::new() }
    }
}

/// Reads an entry. Everything that is wrong with it is noted, not only the first.
pub(super) fn read<'a>(entry: &Object<'a>, taken: &mut Taken<'a>) -> Result<Issuer, Noted> {
    const ISSUER: &[&str] = &[
        "url",
        "discoveryURL",
        "certificateAuthority",
        "audiences",
        "audienceMatchPolicy",
        "egressSelectorType",
    ];
    let issuer = entry.object("issuer", ISSUER);
    let (url, discovery_url) = urls(&issuer, taken);
    let audiences = audiences(&issuer);
    let certificate_authority = certificate_authority(&issuer);
    if !issuer.text("egressSelectorType").is_empty() {
        issuer.wrong(
            "egressSelectorType",
            "not supported: the gate has no egress selector, it connects directly",
        );
    }
    let claim_rules = claim_rules(entry);

    let mappings = entry.object("claimMappings", &["username", "groups", "uid", "extra"]);
    let username = mapping(&mappings, "username", PREFIXED, Returns::Text);
    if let Ok(None) = username {
        mappings.wrong("username", "expected claim or expression");
    }
    let groups = mapping(&mappings, "groups", PREFIXED, Returns::Texts);
    let uid = mapping(&mappings, "uid", &["claim", "expression"], Returns::Text);
    let extra = extra(&mappings);
    email_is_verified(&mappings, &username, &extra, &claim_rules);

    let user_rules = user_rules(entry);
    Ok(Issuer {
        url: url.to_owned(),
        discovery_url: discovery_url.map(str::to_owned),
        certificate_authority: certificate_authority?,
        audiences,
        claim_rules: claim_rules?,
        username: username?.ok_or(Noted)?,
        groups: groups?,
        uid: uid?,
        extra: extra?,
        user_rules: user_rules?,
    })
}

// === issuer ===

fn urls<'a>(issuer: &Object<'a>, taken: &mut Taken<'a>) -> (&'a str, Option<&'a str>) {
    let url = issuer.text("url");
    if url.is_empty() {
        issuer.wrong("url", "is missing");
    } else {
        check_url(issuer, "url");
        if taken.service_account_issuers.iter().any(|other| other == url) {
            issuer.wrong("url", "is an issuer of service account tokens");
        }
        if !taken.urls.insert(url) {
            issuer.wrong("url", "stands here twice");
        }
    }
    let discovery_url = issuer.text("discoveryURL");
    if discovery_url.is_empty() {
        return (url, None);
    }
    check_url(issuer, "discoveryURL");
    if url.trim_end_matches('/') == discovery_url.trim_end_matches('/') {
        issuer.wrong("discoveryURL", "expected another URL than url");
    }
    if !taken.discovery_urls.insert(discovery_url) {
        issuer.wrong("discoveryURL", "stands here twice");
    }
    (url, Some(discovery_url))
}

/// Never repeats the URL, which may hold a password.
fn check_url(issuer: &Object<'_>, field: &str) {
    let url = issuer.text(field);
    let uri = url.parse::<Uri>().ok().filter(|_| escapes_are_whole(url));
    let authority = uri.as_ref().and_then(Uri::authority);
    let reachable = authority.is_some_and(|at| {
        !at.host().is_empty() && (at.port_u16().is_some() || at.as_str().len() == at.host().len())
    });
    if uri.as_ref().is_some_and(|uri| uri.scheme() != Some(&Scheme::HTTPS)) {
        issuer.wrong(field, "expected a URL that begins with https://");
    } else if authority.is_some_and(|authority| authority.as_str().contains('@')) {
        issuer.wrong(field, "expected a URL without a user name or password");
    } else if !reachable {
        issuer.wrong(field, "expected a URL such as https://issuer.example.com");
    }
    for (mark, what) in [('?', "query"), ('#', "fragment")] {
        if url.contains(mark) {
            issuer.wrong(field, format!("expected a URL without a {what}"));
        }
    }
}

fn escapes_are_whole(url: &str) -> bool {
    let hex = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_hexdigit());
    url.split('%').skip(1).all(|rest| {
        let mut bytes = rest.bytes();
        hex(bytes.next()) && hex(bytes.next())
    })
}

fn audiences(issuer: &Object<'_>) -> Vec<String> {
    let audiences = issuer.texts("audiences");
    if audiences.is_empty() {
        issuer.wrong("audiences", "expected at least one");
    }
    for (i, audience) in audiences.iter().enumerate() {
        if !audience.is_empty() && audiences.iter().take(i).any(|before| before == audience) {
            issuer.wrong(&format!("audiences[{i}]"), "stands here twice");
        }
    }
    match (issuer.text("audienceMatchPolicy"), audiences.len()) {
        ("MatchAny", _) | ("", 0 | 1) => {}
        ("", _) => {
            issuer.wrong("audienceMatchPolicy", "expected MatchAny, since there are several audiences");
        }
        _ => {
            issuer.wrong("audienceMatchPolicy", "expected MatchAny");
        }
    }
    audiences.into_iter().map(str::to_owned).collect()
}

fn certificate_authority(issuer: &Object<'_>) -> Result<Option<Vec<CertificateDer<'static>>>, Noted> {
    const FIELD: &str = "certificateAuthority";
    let pem = issuer.text(FIELD);
    if pem.is_empty() {
        return Ok(None);
    }
    let file = File { origin: FIELD.to_owned(), bytes: pem.as_bytes().to_vec() };
    let certificates = file.certificates().map_err(|e| issuer.wrong(FIELD, e.problem))?;
    let mut roots = RootCertStore::empty();
    for (i, certificate) in certificates.iter().enumerate() {
        if let Err(e) = roots.add(certificate.clone()) {
            issuer.wrong(FIELD, format!("certificate {}: {e}", i + 1));
        }
    }
    Ok(Some(certificates))
}

// === rules ===

fn claim_rules(entry: &Object<'_>) -> Result<Vec<ClaimRule>, Noted> {
    let rules = entry.objects("claimValidationRules", &["claim", "requiredValue", "expression", "message"]);
    let (mut claims, mut expressions) = (BTreeSet::new(), BTreeSet::new());
    let read = |rule: &Object<'_>| match (rule.text("claim"), rule.text("expression")) {
        ("", "") => Err(rule.wrong("", "expected claim or expression")),
        ("", expression) => {
            if !rule.text("requiredValue").is_empty() {
                rule.wrong("requiredValue", "only goes with claim");
            }
            if !expressions.insert(expression.to_owned()) {
                return Err(rule.wrong("expression", "stands here twice"));
            }
            let expression = compile(rule, "expression", Scope::Claims, Returns::Truth)?;
            Ok(ClaimRule::Rule(Rule { expression, message: rule.text("message").to_owned() }))
        }
        (claim, "") => {
            if !rule.text("message").is_empty() {
                rule.wrong("message", "only goes with expression");
            }
            if !claims.insert(claim.to_owned()) {
                rule.wrong("claim", "stands here twice");
            }
            let value = rule.text("requiredValue").to_owned();
            Ok(ClaimRule::Required { claim: claim.to_owned(), value })
        }
        _ => Err(rule.wrong("", BOTH)),
    };
    all(rules.iter().map(read))
}

fn user_rules(entry: &Object<'_>) -> Result<Vec<Rule>, Noted> {
    let rules = entry.objects("userValidationRules", &["expression", "message"]);
    let mut expressions = BTreeSet::new();
    let read = |rule: &Object<'_>| {
        let expression = rule.text("expression");
        if expression.is_empty() {
            return Err(rule.wrong("expression", "is missing"));
        }
        if !expressions.insert(expression.to_owned()) {
            return Err(rule.wrong("expression", "stands here twice"));
        }
        let expression = compile(rule, "expression", Scope::User, Returns::Truth)?;
        Ok(Rule { expression, message: rule.text("message").to_owned() })
    };
    all(rules.iter().map(read))
}

// === mappings ===

/// `known` without a prefix: there can be none.
fn mapping(
    mappings: &Object<'_>,
    field: &str,
    known: &[&str],
    returns: Returns,
) -> Result<Option<TextMapping>, Noted> {
    let mapping = mappings.object(field, known);
    let prefix = mapping.text_or_none("prefix");
    match (mapping.text("claim"), mapping.text("expression")) {
        ("", "") => {
            if prefix.is_some() {
                mapping.odd("prefix", "has no effect without claim");
            }
            Ok(None)
        }
        ("", _) => {
            if prefix.is_some() {
                mapping.wrong("prefix", "only goes with claim");
            }
            compile(&mapping, "expression", Scope::Claims, returns).map(|e| Some(TextMapping::Expression(e)))
        }
        (claim, "") => {
            if prefix.is_none() && known.contains(&"prefix") {
                mapping.wrong("prefix", "is missing, expected text or \"\" for none");
            }
            let prefix = prefix.unwrap_or_default().to_owned();
            Ok(Some(TextMapping::Claim { claim: claim.to_owned(), prefix }))
        }
        _ => Err(mapping.wrong("", BOTH)),
    }
}

fn extra(mappings: &Object<'_>) -> Result<Vec<(String, Expression)>, Noted> {
    let entries = mappings.objects("extra", &["key", "valueExpression"]);
    let mut keys = BTreeSet::new();
    let read = |entry: &Object<'_>| {
        let key = entry.text("key");
        check_key(entry, key);
        if !key.is_empty() && !keys.insert(key.to_owned()) {
            return Err(entry.wrong("key", "stands here twice"));
        }
        if entry.text("valueExpression").is_empty() {
            return Err(entry.wrong("valueExpression", "is missing"));
        }
        compile(entry, "valueExpression", Scope::Claims, Returns::Texts).map(|e| (key.to_owned(), e))
    };
    all(entries.iter().map(read))
}

/// A path below a domain, in lower case; neither Kubernetes' own nor the gate's.
fn check_key(entry: &Object<'_>, key: &str) {
    let parts = key.split_once('/').filter(|(domain, path)| !domain.is_empty() && !path.is_empty());
    let Some((domain, path)) = parts else {
        entry.wrong("key", "expected a path below a domain such as example.com/team");
        return;
    };
    if key.chars().any(char::is_uppercase) {
        entry.wrong("key", "expected lower case");
    } else if !is_dns_subdomain(domain) {
        entry.wrong("key", "expected a domain such as example.com before the first /");
    }
    let path_mark = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !path.bytes().all(path_mark) {
        entry.wrong("key", "expected the characters of a URL's path behind the first /");
    }
    let within =
        |parent: &str| domain.strip_suffix(parent).is_some_and(|sub| sub.is_empty() || sub.ends_with('.'));
    if within("kubernetes.io") || within("k8s.io") {
        entry.wrong("key", "k8s.io, kubernetes.io and what is below them are Kubernetes' own");
    }
    if key.starts_with(RESERVED_EXTRA_PREFIX) {
        entry.wrong("key", format!("{RESERVED_EXTRA_PREFIX} is the gate's own"));
    }
}

/// A user name out of an address that nobody has verified is anybody's.
fn email_is_verified(
    mappings: &Object<'_>,
    username: &Result<Option<TextMapping>, Noted>,
    extra: &Result<Vec<(String, Expression)>, Noted>,
    claim_rules: &Result<Vec<ClaimRule>, Noted>,
) {
    let (Ok(Some(TextMapping::Expression(username))), Ok(extra), Ok(rules)) = (username, extra, claim_rules)
    else {
        return;
    };
    let rules = rules.iter().filter_map(|rule| match rule {
        ClaimRule::Rule(rule) => Some(&rule.expression),
        ClaimRule::Required { .. } => None,
    });
    let others = extra.iter().map(|(_, expression)| expression).chain(rules);
    let verified = [username].into_iter().chain(others).any(|e| e.selects(&["email_verified"]));
    if username.selects(&["email"]) && !verified {
        mappings.wrong(
            "username.expression",
            "uses claims.email, so expected claims.email_verified in it, in an expression of extra or in one of claimValidationRules",
        );
    }
}

// === helpers ===

fn compile(at: &Object<'_>, field: &str, scope: Scope, returns: Returns) -> Result<Expression, Noted> {
    Expression::compile(at.text(field), scope, returns).map_err(|why| at.wrong(field, why))
}

/// Every one is read before the first that failed counts, so that all are reported.
fn all<T>(read: impl Iterator<Item = Result<T, Noted>>) -> Result<Vec<T>, Noted> {
    let read: Vec<_> = read.collect();
    read.into_iter().collect()
}
