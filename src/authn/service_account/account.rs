//! The claim `kubernetes.io` of a bound token: whose it is, and what it lives and dies with.

use crate::{
    authn::signed::{self, Claims},
    request::names,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

/// What the token says, of the form that Kubernetes writes.
#[derive(Debug)]
pub(super) struct Account<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    /// Never empty.
    pub(super) uid: &'a str,
    /// There is something beside the account whose end is the token's end.
    pub(super) is_bound: bool,
    /// After this its holder should have got another.
    pub(super) warn_after: Option<SystemTime>,
    pod: Option<Object<'a>>,
    node: Option<Object<'a>>,
    credential_id: Option<String>,
}

/// An object that the token names.
#[derive(Debug)]
struct Object<'a> {
    name: &'a str,
    uid: &'a str,
}

const KUBERNETES: &str = "kubernetes.io";

impl<'a> Account<'a> {
    /// # Errors
    /// A claim that is missing or of another form, and a `sub` that names somebody else.
    pub(super) fn read(claims: &'a Claims) -> Result<Self, String> {
        let within = claims.get(KUBERNETES).and_then(Value::as_object);
        let within = within.ok_or_else(|| format!("claim {KUBERNETES}: expected an object"))?;
        let namespace = within.get("namespace").and_then(Value::as_str).filter(|ns| names::is_dns_label(ns));
        let namespace = namespace.ok_or_else(|| format!("claim {KUBERNETES}: expected a namespace"))?;
        let account = object(within, "serviceaccount")?;
        let account = account.ok_or_else(|| format!("claim {KUBERNETES}: expected a serviceaccount"))?;
        let (pod, node) = (object(within, "pod")?, object(within, "node")?);
        // A pod's node may be gone when the token is made; then only its name is known.
        let has_no_uid = |object: &Object<'_>| object.uid.is_empty();
        let secret = object(within, "secret")?;
        if [Some(&account), pod.as_ref(), secret.as_ref(), node.as_ref().filter(|_| pod.is_none())]
            .into_iter()
            .flatten()
            .any(has_no_uid)
        {
            return Err(format!("claim {KUBERNETES}: expected the uid of every object"));
        }
        let warn_after = signed::time(within, "warnafter")?.filter(|time| *time != UNIX_EPOCH);
        let other = |key: &str| !matches!(key, "namespace" | "serviceaccount" | "warnafter");
        let read = Self {
            namespace,
            name: account.name,
            uid: account.uid,
            is_bound: within.iter().any(|(key, value)| other(key) && !value.is_null()),
            warn_after,
            pod,
            node,
            credential_id: signed::credential_id(claims),
        };
        if !matches!(claims.get("jti"), None | Some(Value::Null | Value::String(_))) {
            return Err("claim jti: expected a string".to_owned());
        }
        // kube-apiserver does not look at it, but never writes anything else.
        match claims.get("sub") {
            Some(subject) if subject.as_str() != Some(&read.user_name()) => {
                Err("claim sub names another account than claim kubernetes.io".to_owned())
            }
            _ => Ok(read),
        }
    }

    /// `system:serviceaccount:<namespace>:<name>`.
    pub(super) fn user_name(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }

    /// What kube-apiserver says of a token beside the user.
    pub(super) fn extra(&self) -> BTreeMap<String, Vec<String>> {
        let pod = self.pod.iter().flat_map(|pod| [("pod-name", pod.name), ("pod-uid", pod.uid)]);
        let node = self.node.iter().flat_map(|node| [("node-name", node.name), ("node-uid", node.uid)]);
        let id = self.credential_id.iter().map(|id| ("credential-id", id.as_str()));
        pod.chain(node)
            .chain(id)
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| (format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]))
            .collect()
    }
}

/// `{"name":…,"uid":…}`; None: absent or null.
fn object<'a>(within: &'a Claims, key: &str) -> Result<Option<Object<'a>>, String> {
    let value = match within.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    let text = |key: &str| value.get(key).map_or(Some(""), Value::as_str);
    match (text("name"), text("uid")) {
        (Some(name), Some(uid)) if names::is_dns_subdomain(name) => Ok(Some(Object { name, uid })),
        _ => Err(format!("claim {KUBERNETES}: expected a name and a uid of the {key}")),
    }
}
