//! Who calls the demo's API server, and what the RBAC objects in its store let them do.

use super::{
    accounts::{ISSUER, Known},
    answer::Failure,
    apiserver::Server,
    kinds,
    route::Asked,
    store::{Key, Store},
};
use crate::{
    rbac::{
        self, Decision, Rules,
        live::{self, Kind, Object as Read},
    },
    request::{Attributes, Object},
};
use http::HeaderMap;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

/// A user as the server sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// User name.
    pub name: String,
    /// UID; usually empty.
    pub uid: String,
    /// Groups, `system:authenticated` included.
    pub groups: Vec<String>,
    /// Extra attributes.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Caller {
    /// A user of these groups, `system:authenticated` added.
    pub fn new(name: &str, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        groups.push("system:authenticated".into());
        Self { name: name.into(), groups, ..Self::default() }
    }

    /// Nobody.
    pub(super) fn anonymous() -> Self {
        Self {
            name: "system:anonymous".into(),
            groups: vec!["system:unauthenticated".into()],
            ..Self::default()
        }
    }

    /// As `userInfo` of reviews.
    pub(super) fn info(&self) -> Value {
        let mut info = serde_json::json!({"username": self.name, "groups": self.groups});
        if !self.uid.is_empty() {
            super::value::set(&mut info, "/uid", self.uid.as_str());
        }
        if !self.extra.is_empty() {
            super::value::set(&mut info, "/extra", serde_json::json!(self.extra));
        }
        info
    }
}

/// Who a request is from: its client certificate, else its token, else nobody.
pub(super) fn authenticate(
    certificate: Option<&CertificateDer<'_>>,
    server: &Server,
    headers: &HeaderMap,
) -> Result<Caller, Failure> {
    if let Some(caller) = certificate.and_then(|der| from_certificate(der)) {
        return Ok(caller);
    }
    let Some(value) = headers.get(http::header::AUTHORIZATION) else { return Ok(Caller::anonymous()) };
    let value = String::from_utf8_lossy(value.as_bytes());
    match by_header(server, &value, &[ISSUER.to_owned()]) {
        Ok(known) => Ok(known.map_or_else(Caller::anonymous, |(caller, _)| caller)),
        Err(_) => Err(Failure::unauthorized()),
    }
}

/// Whose bearer token is in the value of an `Authorization` header, and for which of the `wanted` audiences it is meant. None:
/// there is no token. Split as kube-apiserver does it: whatever follows a second space is nothing.
pub(super) fn by_header(server: &Server, value: &str, wanted: &[String]) -> Result<Option<Known>, String> {
    let mut pieces = value.trim().splitn(3, ' ');
    let scheme = pieces.next().unwrap_or_default();
    let token = pieces.next().unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Ok(None);
    }
    const UNKNOWN: &str = "invalid bearer token";
    // A static token is for the API server itself.
    if let Some(caller) = server.tokens.get(token)
        && wanted.iter().any(|audience| audience == ISSUER)
    {
        return Ok(Some((caller.clone(), vec![ISSUER.to_owned()])));
    }
    match server.accounts.authenticate(token, wanted, &server.store, Timestamp::now()) {
        Ok(None) => Err(UNKNOWN.to_owned()),
        Ok(known) => Ok(known),
        Err(why) => Err(format!("[{UNKNOWN}, {why}]")),
    }
}

/// CN is the user, each O a group. That the chain is good was the handshake's business.
fn from_certificate(der: &CertificateDer<'_>) -> Option<Caller> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    let groups: Vec<&str> = subject.iter_organization().filter_map(|o| o.as_str().ok()).collect();
    Some(Caller::new(name, &groups))
}

/// Whom a request is for: the caller, or whom it impersonates, if it may.
pub(super) fn impersonate(caller: Caller, headers: &HeaderMap, rules: &Rules) -> Result<Caller, Failure> {
    let text = |name: &str| {
        let value = headers.get(name).and_then(|v| std::str::from_utf8(v.as_bytes()).ok());
        value.unwrap_or_default().to_owned()
    };
    let (user, uid) = (text("impersonate-user"), text("impersonate-uid"));
    let groups: Vec<String> = headers
        .get_all("impersonate-group")
        .iter()
        .map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
        .collect();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        if let Some(key) = name.as_str().strip_prefix("impersonate-extra-") {
            let key = super::route::decode(key);
            extra.entry(key).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
        }
    }
    if user.is_empty() {
        if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok(caller);
        }
        return Err(Failure::new(400, "BadRequest", "requested impersonation without impersonating a user"));
    }
    let account = service_account(&user);
    let check = |group, resource, subresource, namespace, name| {
        let object = Object::Resource { group, version: "v1", resource, subresource, namespace, name };
        allow(&caller, rules, Attributes { verb: "impersonate", object })
    };
    match account {
        Some((namespace, name)) => check("", "serviceaccounts", "", namespace, name)?,
        None => check("", "users", "", "", &user)?,
    }
    for group in &groups {
        check("", "groups", "", "", group)?;
    }
    for (key, values) in &extra {
        for value in values {
            check("authentication.k8s.io", "userextras", key, "", value)?;
        }
    }
    if !uid.is_empty() {
        check("authentication.k8s.io", "uids", "", "", &uid)?;
    }
    let mut all = groups;
    if let Some((namespace, _)) = account.filter(|_| all.is_empty()) {
        all.push("system:serviceaccounts".into());
        all.push(format!("system:serviceaccounts:{namespace}"));
    }
    let has = |all: &[String], group: &str| all.iter().any(|g| g == group);
    if user == "system:anonymous" {
        if !has(&all, "system:unauthenticated") {
            all.push("system:unauthenticated".into());
        }
    } else if !has(&all, "system:authenticated") && !has(&all, "system:unauthenticated") {
        all.push("system:authenticated".into());
    }
    Ok(Caller { name: user, uid, groups: all, extra })
}

fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let good = |s: &str| {
        !s.is_empty() && s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
    };
    (good(namespace) && !namespace.contains('.') && good(name)).then_some((namespace, name))
}

/// Whether a caller may do something; if not, why.
pub(super) fn decide(caller: &Caller, rules: &Rules, asked: Attributes<'_>) -> Result<String, String> {
    if caller.groups.iter().any(|g| g == "system:masters") {
        return Ok(String::new());
    }
    match rules.decide(&caller.name, &caller.groups, asked) {
        Decision::Allow(grounds) => Ok(grounds.to_string()),
        Decision::Deny => Err(rules.missing(&caller.name, &caller.groups, asked).to_string()),
    }
}

/// The 403 of a refusal.
pub(super) fn allow(caller: &Caller, rules: &Rules, asked: Attributes<'_>) -> Result<(), Failure> {
    let Err(why) = decide(caller, rules, asked) else { return Ok(()) };
    let why = if why.is_empty() { why } else { format!(": {why}") };
    let (verb, user) = (asked.verb, &caller.name);
    Err(match asked.object {
        Object::Path(path) => Failure::new(
            403,
            "Forbidden",
            format!("forbidden: User {user:?} cannot {verb} path {path:?}{why}"),
        )
        .with_details(serde_json::json!({})),
        Object::Resource { group, resource, subresource, namespace, name, .. } => {
            let what = super::answer::GroupResource { group, resource };
            let whole = if subresource.is_empty() {
                resource.to_owned()
            } else {
                format!("{resource}/{subresource}")
            };
            let scope = if namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace {namespace:?}")
            };
            let text =
                format!("User {user:?} cannot {verb} resource {whole:?} in API group {group:?} {scope}{why}");
            let mut failure = Failure::forbidden(what, name, &text);
            if name.is_empty() {
                failure.message = format!("{what} is forbidden: {text}");
            }
            failure
        }
    })
}

/// What a request asks, in the words of `crate::rbac`.
pub(super) fn attributes<'a>(asked: &'a Asked, name: &'a str) -> Attributes<'a> {
    let object = match &asked.resource {
        None => Object::Path(&asked.path),
        Some(r) => Object::Resource {
            group: &r.group,
            version: &r.version,
            resource: &r.plural,
            subresource: &r.sub,
            namespace: &r.namespace,
            name,
        },
    };
    Attributes { verb: &asked.verb, object }
}

/// The rules that the store's RBAC objects make; made anew when those change.
#[derive(Debug, Default)]
pub(super) struct RuleCache(Mutex<Made>);

#[derive(Debug, Default)]
struct Made {
    version: u64,
    rules: Arc<Rules>,
    /// What was read of which object, so that only others are read again. None: it grants nothing.
    read: HashMap<(Kind, Key), (Arc<Value>, Option<Read>)>,
}

impl RuleCache {
    /// The rules of now.
    pub(super) fn get(&self, store: &Store) -> Arc<Rules> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (version, objects) = store.read(|state| {
            let version = tables().filter_map(|(_, at)| state.latest(at)).max().unwrap_or_default();
            let all = || {
                let of = |(kind, at)| state.objects(at).map(move |(key, o)| ((kind, key.clone()), o.clone()));
                tables().flat_map(of).collect::<Vec<_>>()
            };
            (version, (version != made.version).then(all))
        });
        if let Some(objects) = objects {
            let mut before = std::mem::take(&mut made.read);
            let read = objects.into_iter().map(|(key, object)| {
                let same = before.remove(&key).filter(|(before, _)| Arc::ptr_eq(before, &object));
                let read = same.map_or_else(|| read(key.0, &object), |(_, read)| read);
                (key, (object, read))
            });
            made.read = read.collect();
            let held = || made.read.values().filter_map(|(_, read)| read.as_ref());
            let roles = held().filter_map(|read| if let Read::Role(role) = read { Some(role) } else { None });
            let bindings =
                held().filter_map(|r| if let Read::Binding(binding) = r { Some(binding) } else { None });
            made.rules = Arc::new(Rules::as_written(roles, bindings));
            made.version = version;
        }
        made.rules.clone()
    }
}

fn read(kind: Kind, object: &Value) -> Option<Read> {
    let key = live::key(kind, object)?;
    Some(live::read(kind, &key, object).ok()?.object)
}

fn tables() -> impl Iterator<Item = (Kind, usize)> {
    Kind::ALL.into_iter().filter_map(|kind| Some((kind, kinds::by_plural(rbac::GROUP, kind.plural())?)))
}
