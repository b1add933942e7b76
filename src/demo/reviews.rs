//! Kinds that are answered on the spot: who am I, may I, may they, whose token is this.

use super::{
    accounts::ISSUER,
    answer::{Cause, Failure},
    apiserver::Server,
    caller::{self, Caller, decide},
    kinds::Kind,
    value::{items, set, text},
};
use crate::{
    rbac::Rules,
    request::{Attributes, Object},
};
use serde_json::{Value, json};

/// What a review is answered from.
pub(super) struct Known<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// What is allowed.
    pub rules: &'a Rules,
    /// The objects behind the rules, and whose tokens are which.
    pub server: &'a Server,
}

impl Known<'_> {
    /// Answers a review of `kind`.
    pub(super) fn answer(&self, kind: &Kind, namespace: &str, mut review: Value) -> Result<Value, Failure> {
        set(&mut review, "/kind", kind.kind);
        set(&mut review, "/apiVersion", kind.api_version());
        super::value::default(&mut review, "/metadata/creationTimestamp", Value::Null);
        let status = match kind.kind {
            "SelfSubjectReview" => json!({"userInfo": self.caller.info()}),
            "TokenReview" => self.whose(&review)?,
            "SelfSubjectAccessReview" => self.access(self.caller, &review)?,
            "SubjectAccessReview" | "LocalSubjectAccessReview" => {
                let asked = text(&review, "/spec/resourceAttributes/namespace");
                if kind.namespaced && asked != namespace {
                    return Err(Failure::bad_request(
                        "spec.resourceAttributes.namespace must match the namespace of the request",
                    ));
                }
                let groups =
                    items(&review, "/spec/groups").iter().filter_map(|g| g.as_str().map(str::to_owned));
                let caller = Caller {
                    name: text(&review, "/spec/user").into(),
                    groups: groups.collect(),
                    ..Caller::default()
                };
                self.access(&caller, &review)?
            }
            "SelfSubjectRulesReview" => self.rules_of(text(&review, "/spec/namespace"))?,
            _ => return Err(Failure::no_route()),
        };
        set(&mut review, "/status", status);
        Ok(review)
    }

    /// Whose token it is. As in kube-apiserver, the token is put behind `Bearer ` and judged like any header: a space in it
    /// splits it, and what then is no token at all is nobody's, so `system:anonymous` owns it.
    fn whose(&self, review: &Value) -> Result<Value, Failure> {
        let token = text(review, "/spec/token");
        if token.is_empty() {
            return Err(Failure::bad_request("token is required for TokenReview in authentication"));
        }
        let mut wanted: Vec<String> =
            items(review, "/spec/audiences").iter().filter_map(|a| a.as_str().map(str::to_owned)).collect();
        if wanted.is_empty() {
            wanted.push(ISSUER.to_owned());
        }
        let (caller, audiences) = match caller::by_header(self.server, &format!("Bearer {token}"), &wanted) {
            Ok(Some(known)) => known,
            Ok(None) => (Caller::anonymous(), wanted),
            Err(why) => return Ok(json!({"user": {}, "error": why})),
        };
        Ok(json!({"authenticated": true, "user": caller.info(), "audiences": audiences}))
    }

    fn access(&self, caller: &Caller, review: &Value) -> Result<Value, Failure> {
        let spec = |field: &str| text(review, &format!("/spec/{field}")).to_owned();
        let resource = |field: &str| spec(&format!("resourceAttributes/{field}"));
        let (group, version, plural, sub, namespace, name) = (
            resource("group"),
            resource("version"),
            resource("resource"),
            resource("subresource"),
            resource("namespace"),
            resource("name"),
        );
        let path = spec("nonResourceAttributes/path");
        let there = |field: &str| review.pointer(field).is_some_and(|value| !value.is_null());
        let (verb, object) = if there("/spec/resourceAttributes") {
            let object = Object::Resource {
                group: &group,
                version: &version,
                resource: &plural,
                subresource: &sub,
                namespace: &namespace,
                name: &name,
            };
            (resource("verb"), object)
        } else if there("/spec/nonResourceAttributes") {
            (spec("nonResourceAttributes/verb"), Object::Path(&path))
        } else {
            let text = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            let cause = Cause::invalid("spec.resourceAttributes", "null", text);
            return Err(Failure::invalid("authorization.k8s.io", "", "", &[cause]));
        };
        let mut status = match decide(caller, self.rules, Attributes { verb: &verb, object }) {
            Ok(why) => json!({"allowed": true, "reason": why}),
            Err(why) => json!({"allowed": false, "reason": why}),
        };
        if text(&status, "/reason").is_empty() {
            super::value::remove(&mut status, "/reason");
        }
        Ok(status)
    }

    /// The rules that the caller holds in a namespace, as `kubectl auth can-i --list` shows them.
    fn rules_of(&self, namespace: &str) -> Result<Value, Failure> {
        if namespace.is_empty() {
            return Err(Failure::bad_request("no namespace on request"));
        }
        let mut rules = Vec::new();
        if self.caller.groups.iter().any(|g| g == "system:masters") {
            rules.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
            rules.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
        }
        const RBAC: &str = "rbac.authorization.k8s.io";
        let at = |plural| super::kinds::by_plural(RBAC, plural).unwrap_or_default();
        self.server.store.read(|state| {
            for plural in ["clusterrolebindings", "rolebindings"] {
                let inside = if plural == "rolebindings" { namespace } else { "" };
                for (_, binding) in state.range(at(plural), inside, None) {
                    if !items(binding, "/subjects").iter().any(|s| is_subject(self.caller, s)) {
                        continue;
                    }
                    let role = match text(binding, "/roleRef/kind") {
                        "Role" => state.get(at("roles"), namespace, text(binding, "/roleRef/name")),
                        _ => state.get(at("clusterroles"), "", text(binding, "/roleRef/name")),
                    };
                    rules.extend(role.iter().flat_map(|r| items(r, "/rules")).cloned());
                }
            }
        });
        let split = |field: &str| -> Vec<Value> {
            rules.iter().filter(|r| r.get(field).is_some()).cloned().collect()
        };
        Ok(
            json!({"resourceRules": split("resources"), "nonResourceRules": split("nonResourceURLs"), "incomplete": false}),
        )
    }
}

fn is_subject(caller: &Caller, subject: &Value) -> bool {
    let name = text(subject, "/name");
    match text(subject, "/kind") {
        "User" => name == caller.name,
        "Group" => caller.groups.iter().any(|g| g == name),
        _ => caller.name == format!("system:serviceaccount:{}:{name}", text(subject, "/namespace")),
    }
}
