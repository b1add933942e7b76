//! What the gate's own account may do, against what it needs.
//!
//! A header that is lost on the way would make a request the gate's own. So its account should hold the right to act for others,
//! and no other right but those that the configuration has a use for and those that every account has.

use super::Cluster;
use crate::{
    client::Bounds,
    codec::json,
    identity,
    rbac::{GROUP as RBAC, Rule, live::Kind},
};
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

#[cfg(test)]
mod tests;

/// What the configuration has a use for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Roles and bindings are watched.
    pub rules: bool,
    /// TokenReviews are asked for.
    pub token_reviews: bool,
}

/// The rights of an account, as far as the API server told them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// Who the account is; empty if the API server does not tell.
    pub name: String,
    /// By the namespace that was asked about; those of the whole cluster are in each.
    pub namespaces: BTreeMap<String, Vec<Rule>>,
    /// What could not be told, a line each.
    pub unknown: Vec<String>,
}

/// What an account has too much, and what it lacks; a line each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// `get, list on secrets in namespace kube-system`.
    pub excess: Vec<String>,
    /// `impersonate on groups`.
    pub missing: Vec<String>,
}

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// Where RoleBindings are looked for, besides the account's own namespace.
const NAMESPACES: [&str; 2] = ["default", "kube-system"];

const BOUNDS: Bounds = Bounds { timeout: Duration::from_secs(10), body: 8 << 20 };
const LIMITS: json::Limits = json::Limits { depth: 32, nodes: 500_000 };

/// Rights in one namespace that are looked at, and those that are counted. A rule is a right for every group, resource and verb of it, and a Role that somebody binds
/// to the account could hold thousands of each.
const EXAMINED: usize = 1_000_000;
const COUNTED: usize = 10_000;

/// Of an error of the API server.
const LONGEST: usize = 300;

/// What every account may look at: system:discovery, system:public-info-viewer, system:service-account-issuer-discovery.
const PATHS: [&str; 15] = [
    "/.well-known/openid-configuration",
    "/.well-known/openid-configuration/",
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/openid/v1/jwks",
    "/openid/v1/jwks/",
    "/readyz",
    "/version",
    "/version/",
];

impl Cluster {
    /// Asks what the gate's own account may do.
    ///
    /// # Errors
    /// No answer, or one that is none; for the log.
    pub async fn own_rights(&self) -> Result<Rights, String> {
        // An old token may have been replaced since the endpoint was made.
        if let Err(problem) = self.endpoint().refresh() {
            tracing::debug!("the token for the upstream cannot be read again: {problem}");
        }
        let mut rights = Rights::default();
        let mut namespaces = NAMESPACES.map(str::to_owned).to_vec();
        // Older servers do not know it.
        let whoami = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        if let Ok(answer) = self.review(AUTHENTICATION, "selfsubjectreviews", &whoami).await {
            rights.name = text(&answer, "/status/userInfo/username").to_owned();
            if let Some((namespace, _)) = identity::service_account(&rights.name) {
                namespaces.push(namespace.to_owned());
            }
        }
        for namespace in namespaces {
            if rights.namespaces.contains_key(&namespace) {
                continue;
            }
            let asked = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
                "spec": {"namespace": namespace},
            });
            let answer = self.review(AUTHORIZATION, "selfsubjectrulesreviews", &asked).await?;
            if answer.pointer("/status/incomplete") == Some(&Value::Bool(true)) {
                let why: String = text(&answer, "/status/evaluationError").chars().take(LONGEST).collect();
                let line = format!("what it may do by other authorizers than RBAC is not listed: {why:?}");
                if !rights.unknown.contains(&line) {
                    rights.unknown.push(line);
                }
            }
            rights.namespaces.insert(namespace, rules(&answer));
        }
        Ok(rights)
    }

    async fn review(&self, group: &str, resource: &str, review: &Value) -> Result<Value, String> {
        let body = Bytes::from(review.to_string());
        let answer = self.client.post(&format!("/apis/{group}/v1/{resource}"), body, BOUNDS).await;
        let answer = answer.map_err(|error| error.to_string())?;
        match answer.status {
            StatusCode::OK | StatusCode::CREATED => {
                json::value(&answer.body, LIMITS).map_err(|error| format!("the answer: {error}"))
            }
            StatusCode::UNAUTHORIZED => Err("the gate's own credential was refused (401)".to_owned()),
            status => Err(format!("the question for {resource} was answered with {}", status.as_u16())),
        }
    }
}

impl Rights {
    /// Compares with what is needed.
    pub fn against(&self, needs: Needs) -> Findings {
        let mut found: BTreeMap<Right<'_>, (BTreeSet<String>, BTreeSet<&str>)> = BTreeMap::new();
        for (namespace, rules) in &self.namespaces {
            let all = rules.iter().flat_map(rights).take(EXAMINED);
            let unfit = all.filter(|(right, verb)| !right.is_fit(verb, needs));
            for (right, verb) in unfit.take(COUNTED) {
                let (verbs, places) = found.entry(right).or_default();
                verbs.insert(verb.to_owned());
                places.insert(namespace);
            }
        }
        let excess = found.iter().map(|(right, (verbs, places))| {
            let verbs = verbs.iter().map(|verb| plain(verb)).collect::<Vec<_>>().join(", ");
            // What was found wherever it was looked for is most likely the whole cluster's.
            if places.len() == self.namespaces.len() || matches!(right, Right::Path(_)) {
                return format!("{verbs} on {right}");
            }
            let places = places.iter().map(|place| plain(place)).collect::<Vec<_>>().join(", ");
            format!("{verbs} on {right} in namespace {places}")
        });
        Findings { excess: excess.collect(), missing: self.missing(needs) }
    }

    fn missing(&self, needs: Needs) -> Vec<String> {
        let has = |verb: &str, group: &str, resource: &str| {
            let any = |list: &[String], word: &str| list.iter().any(|entry| entry == "*" || entry == word);
            self.namespaces.values().flatten().any(|rule| {
                any(&rule.verbs, verb) && any(&rule.api_groups, group) && any(&rule.resources, resource)
            })
        };
        let mut missing = Vec::new();
        let mut need = |there: bool, what: String| {
            if !there {
                missing.push(what);
            }
        };
        let someone = ["users", "serviceaccounts"].iter().any(|resource| has("impersonate", "", resource));
        need(someone, "impersonate on users".to_owned());
        need(has("impersonate", "", "groups"), "impersonate on groups".to_owned());
        for resource in Kind::ALL.map(Kind::plural).into_iter().filter(|_| needs.rules) {
            let there = ["list", "watch"].iter().all(|verb| has(verb, RBAC, resource));
            need(there, format!("list and watch on {resource}.{RBAC}"));
        }
        if needs.token_reviews {
            let there = has("create", AUTHENTICATION, "tokenreviews");
            need(there, format!("create on tokenreviews.{AUTHENTICATION}"));
        }
        missing
    }
}

/// What a verb may be done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Right<'r> {
    Resource { group: &'r str, resource: &'r str, names: &'r [String] },
    Path(&'r str),
}

/// Every verb that a rule allows, and to what.
fn rights(rule: &Rule) -> impl Iterator<Item = (Right<'_>, &str)> {
    let names = &*rule.resource_names;
    let of =
        move |group| rule.resources.iter().map(move |resource| Right::Resource { group, resource, names });
    let paths = rule.non_resource_urls.iter().map(|path| Right::Path(path));
    let objects = rule.api_groups.iter().flat_map(move |group| of(group)).chain(paths);
    objects.flat_map(|right| rule.verbs.iter().map(move |verb| (right, verb.as_str())))
}

impl Right<'_> {
    /// Whether the gate needs it, or every account has it.
    fn is_fit(&self, verb: &str, needs: Needs) -> bool {
        let (group, resource) = match self {
            Self::Resource { group, resource, .. } => (*group, *resource),
            Self::Path(path) => {
                let within = |known: &&str| match known.strip_suffix('*') {
                    Some(prefix) => path.starts_with(prefix),
                    None => path == known,
                };
                return matches!(verb, "get" | "head") && PATHS.iter().any(within);
            }
        };
        match (verb, group, resource) {
            ("impersonate", "", "users" | "groups" | "serviceaccounts") => true,
            ("impersonate", AUTHENTICATION, "uids") => true,
            ("impersonate", AUTHENTICATION, extra) => extra.starts_with("userextras/"),
            ("create", AUTHENTICATION, "tokenreviews") => needs.token_reviews,
            ("get" | "list" | "watch", RBAC, kind) => {
                needs.rules && Kind::ALL.iter().any(|known| known.plural() == kind)
            }
            // system:basic-user
            ("create", AUTHENTICATION, "selfsubjectreviews") => true,
            ("create", AUTHORIZATION, "selfsubjectaccessreviews" | "selfsubjectrulesreviews") => true,
            // system:cluster-trust-bundle-discovery, of every service account: certificates that are public.
            ("get" | "list" | "watch", "certificates.k8s.io", "clustertrustbundles") => true,
            _ => false,
        }
    }
}

/// `pods`, `deployments.apps named a, b`, `*.*`, `/metrics`.
impl fmt::Display for Right<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (group, resource, names) = match self {
            Self::Path(path) => return f.write_str(&plain(path)),
            Self::Resource { group, resource, names } => (group, resource, names),
        };
        f.write_str(&plain(resource))?;
        if !group.is_empty() {
            write!(f, ".{}", plain(group))?;
        }
        if let Some((first, others)) = names.split_first() {
            write!(f, " named {}", plain(first))?;
            if !others.is_empty() {
                write!(f, " and {} more", others.len())?;
            }
        }
        Ok(())
    }
}

/// A stranger's word for the log.
fn plain(word: &str) -> String {
    let harmless = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
    if !word.is_empty() && word.chars().all(harmless) { word.to_owned() } else { format!("{word:?}") }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The rules of an answer; what is none grants nothing.
fn rules(answer: &Value) -> Vec<Rule> {
    let list = |value: &Value, key: &str| -> Vec<String> {
        let items = value.get(key).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let of = |pointer: &str| answer.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    let rule = |value: &Value| Rule {
        verbs: list(value, "verbs"),
        api_groups: list(value, "apiGroups"),
        resources: list(value, "resources"),
        resource_names: list(value, "resourceNames"),
        non_resource_urls: list(value, "nonResourceURLs"),
    };
    of("/status/resourceRules").chain(of("/status/nonResourceRules")).map(rule).collect()
}
