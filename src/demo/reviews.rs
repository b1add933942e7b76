//! Kinds that are answered on the spot: who am I, may I, may they, whose token is this. kubectl asks some of them in
//! protobuf, so their few messages are read here.

use super::{
    answer::Failure,
    caller::{Caller, decide},
    kinds::Kind,
    store::Store,
    value::{items, set, text},
};
use crate::{
    rbac::Rules,
    request::{Attributes, Object},
};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// What a review is answered from.
pub(super) struct Known<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// What is allowed.
    pub rules: &'a Rules,
    /// The objects behind the rules.
    pub store: &'a Store,
    /// Whose tokens are which.
    pub tokens: &'a HashMap<String, Caller>,
}

impl Known<'_> {
    /// Answers a review of `kind`.
    pub(super) fn answer(&self, kind: &Kind, namespace: &str, mut review: Value) -> Result<Value, Failure> {
        set(&mut review, "/kind", kind.kind);
        set(&mut review, "/apiVersion", kind.api_version());
        super::value::default(&mut review, "/metadata/creationTimestamp", Value::Null);
        let status = match kind.kind {
            "SelfSubjectReview" => json!({"userInfo": self.caller.info()}),
            "TokenReview" => match self.tokens.get(text(&review, "/spec/token")) {
                Some(caller) => json!({"authenticated": true, "user": caller.info()}),
                None => json!({"authenticated": false, "error": "the token is not known"}),
            },
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
        let (verb, object) = if review.pointer("/spec/resourceAttributes").is_some() {
            let object = Object::Resource {
                group: &group,
                version: &version,
                resource: &plural,
                subresource: &sub,
                namespace: &namespace,
                name: &name,
            };
            (resource("verb"), object)
        } else if review.pointer("/spec/nonResourceAttributes").is_some() {
            (spec("nonResourceAttributes/verb"), Object::Path(&path))
        } else {
            let text = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            return Err(Failure::bad_request(text));
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
        self.store.read(|state| {
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

/// Reads a protobuf body of one of these kinds; None: not one that is understood.
pub(super) fn from_protobuf(kind: &Kind, body: &[u8]) -> Option<Value> {
    let unknown = fields(body.strip_prefix(b"k8s\0")?)?;
    let object = unknown.iter().find(|(n, _)| *n == 2).map_or(&[][..], |(_, raw)| raw);
    let object = fields(object)?;
    let spec = object.iter().find(|(n, _)| *n == 2).map_or(&[][..], |(_, raw)| raw);
    let spec = fields(spec)?;
    const RESOURCE: &[&str] = &["namespace", "verb", "group", "version", "resource", "subresource", "name"];
    let mut out = Map::new();
    let nested = |raw: &[u8], names: &[&str]| -> Option<Value> {
        let mut map = Map::new();
        for (number, raw) in fields(raw)? {
            if let Some(name) = usize::try_from(number).ok().and_then(|n| names.get(n.checked_sub(1)?)) {
                map.insert((*name).into(), String::from_utf8(raw.to_vec()).ok()?.into());
            }
        }
        Some(map.into())
    };
    let string = |raw: &[u8]| String::from_utf8(raw.to_vec()).ok();
    for (number, raw) in spec {
        match (kind.kind, number) {
            ("SelfSubjectReview", _) => {}
            ("SelfSubjectRulesReview", 1) => drop(out.insert("namespace".into(), string(raw)?.into())),
            ("TokenReview", 1) => drop(out.insert("token".into(), string(raw)?.into())),
            ("SelfSubjectAccessReview" | "SubjectAccessReview" | "LocalSubjectAccessReview", 1) => {
                drop(out.insert("resourceAttributes".into(), nested(raw, RESOURCE)?))
            }
            ("SelfSubjectAccessReview" | "SubjectAccessReview" | "LocalSubjectAccessReview", 2) => {
                drop(out.insert("nonResourceAttributes".into(), nested(raw, &["path", "verb"])?))
            }
            ("SubjectAccessReview" | "LocalSubjectAccessReview", 3) => {
                out.insert("user".into(), string(raw)?.into());
            }
            ("SubjectAccessReview" | "LocalSubjectAccessReview", 4) => {
                let groups = out.entry("groups").or_insert_with(|| json!([]));
                groups.as_array_mut()?.push(string(raw)?.into());
            }
            _ => {}
        }
    }
    kind.is_virtual().then(|| json!({"spec": out}))
}

/// The fields of a protobuf message: their numbers, and the bytes of those with a length.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        match key & 7 {
            0 => drop(varint(&mut bytes)?),
            1 => bytes = bytes.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                found.push((key >> 3, value));
                bytes = rest;
            }
            5 => bytes = bytes.get(4..)?,
            _ => return None,
        }
    }
    Some(found)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::kinds::KINDS;

    fn message(fields: &[(u8, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, value) in fields {
            out.extend([number << 3 | 2, u8::try_from(value.len()).unwrap()]);
            out.extend(*value);
        }
        out
    }

    #[test]
    fn an_access_review_in_protobuf() {
        let attributes = message(&[(1, b"shop"), (2, b"get"), (5, b"pods"), (6, b"log")]);
        let review = message(&[(1, b""), (2, &message(&[(1, &attributes)]))]);
        let mut body = b"k8s\0".to_vec();
        body.extend(message(&[(1, b""), (2, &review), (3, b""), (4, b"")]));
        let kind = KINDS.iter().find(|k| k.kind == "SelfSubjectAccessReview").unwrap();
        let expected = json!({"spec": {"resourceAttributes":
            {"namespace": "shop", "verb": "get", "resource": "pods", "subresource": "log"}}});
        assert_eq!(from_protobuf(kind, &body), Some(expected));
        for cut in [&body[..3], &body[..body.len() - 1], b"k8s\0\xff"] {
            assert_eq!(from_protobuf(kind, cut), None);
        }
        let pods = KINDS.iter().find(|k| k.kind == "Pod").unwrap();
        assert_eq!(from_protobuf(pods, &body), None);
    }
}
