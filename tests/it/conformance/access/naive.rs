//! RBAC read straight from its documentation: slow, without an index, on the objects as they are written.

use gatelog::request::{Attributes, Object};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Somebody, and what they want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) user: String,
    pub(super) groups: Vec<String>,
    pub(super) verb: String,
    pub(super) what: What,
}

/// What it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Resource { group: String, resource: String, sub: String, namespace: String, name: String },
    Path(String),
}

/// What may truthfully be answered.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Truth {
    /// Every reason to allow it, in kube-apiserver's words; none: it is not allowed.
    pub(super) reasons: BTreeSet<String>,
    /// Roles that the caller's bindings refer to and that do not exist.
    pub(super) missing: BTreeSet<String>,
}

impl Question {
    /// In the gate's words.
    pub(super) fn attributes(&self) -> Attributes<'_> {
        let object = match &self.what {
            What::Path(path) => Object::Path(path),
            What::Resource { group, resource, sub, namespace, name } => {
                Object::Resource { group, version: "v1", resource, subresource: sub, namespace, name }
            }
        };
        Attributes { verb: &self.verb, object }
    }

    /// As the cluster is asked.
    pub(super) fn review(&self) -> Value {
        let mut spec = json!({"user": self.user, "groups": self.groups});
        let verb = &self.verb;
        match &self.what {
            What::Path(path) => spec["nonResourceAttributes"] = json!({"path": path, "verb": verb}),
            What::Resource { group, resource, sub, namespace, name } => {
                spec["resourceAttributes"] = json!({"verb": verb, "group": group, "version": "v1", "resource": resource,
                    "subresource": sub, "namespace": namespace, "name": name});
            }
        }
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec})
    }

    fn namespace(&self) -> &str {
        match &self.what {
            What::Resource { namespace, .. } => namespace,
            What::Path(_) => "",
        }
    }
}

impl Truth {
    /// Who may do what by these objects, whose aggregation has been worked out.
    pub(super) fn of(objects: &[Value], asked: &Question) -> Self {
        let mut truth = Self::default();
        if asked.groups.iter().any(|g| g == "system:masters") {
            truth.reasons.insert(String::new());
            return truth;
        }
        for binding in objects {
            let own = text(&binding["metadata"]["namespace"]);
            match text(&binding["kind"]) {
                "ClusterRoleBinding" => {}
                "RoleBinding" if !asked.namespace().is_empty() && own == asked.namespace() => {}
                _ => continue,
            }
            let subjects = list(&binding["subjects"]).filter(|s| is_subject(s, own, asked));
            let whom: Vec<String> = subjects.map(|s| subject_name(s, own)).collect();
            if whom.is_empty() {
                continue;
            }
            let (kind, name) = (text(&binding["roleRef"]["kind"]), text(&binding["roleRef"]["name"]));
            let Some(role) = role(objects, kind, own, name) else {
                let kind = kind.to_lowercase();
                truth.missing.insert(format!("{kind}.rbac.authorization.k8s.io {name:?} not found"));
                continue;
            };
            if !list(&role["rules"]).any(|rule| allows(rule, asked)) {
                continue;
            }
            let title = text(&binding["metadata"]["name"]);
            let title = if own.is_empty() { title.to_owned() } else { format!("{title}/{own}") };
            let by = format!("{} {title:?} of {kind} {name:?}", text(&binding["kind"]));
            truth.reasons.extend(whom.iter().map(|whom| format!("RBAC: allowed by {by} to {whom}")));
        }
        truth
    }

    /// What is wrong with an answer: Ok with the reason to allow it, Err with the reason not to.
    pub(super) fn judge(&self, answer: &Result<String, String>) -> Option<String> {
        match answer {
            Ok(reason) if self.reasons.contains(reason) => None,
            Err(reason) if self.reasons.is_empty() && missing(reason) == self.missing => None,
            _ => Some(format!("answered {answer:?}, true is {self:?}")),
        }
    }
}

/// The roles that a denial's reason says are missing.
fn missing(reason: &str) -> BTreeSet<String> {
    let list = reason.strip_prefix("RBAC: ").unwrap_or(reason);
    let list = list.strip_prefix('[').and_then(|l| l.strip_suffix(']')).unwrap_or(list);
    list.split(", ").filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn role<'a>(objects: &'a [Value], kind: &str, namespace: &str, name: &str) -> Option<&'a Value> {
    let namespace = if kind == "Role" { namespace } else { "" };
    objects.iter().find(|o| {
        o["kind"] == kind
            && text(&o["metadata"]["name"]) == name
            && text(&o["metadata"]["namespace"]) == namespace
    })
}

fn is_subject(subject: &Value, binding_namespace: &str, asked: &Question) -> bool {
    let name = text(&subject["name"]);
    match text(&subject["kind"]) {
        "User" => name == asked.user,
        "Group" => asked.groups.iter().any(|g| g == name),
        "ServiceAccount" => {
            let namespace = account_namespace(subject, binding_namespace);
            !namespace.is_empty() && asked.user == format!("system:serviceaccount:{namespace}:{name}")
        }
        _ => false,
    }
}

fn account_namespace<'a>(subject: &'a Value, binding_namespace: &'a str) -> &'a str {
    let own = text(&subject["namespace"]);
    if own.is_empty() { binding_namespace } else { own }
}

fn subject_name(subject: &Value, binding_namespace: &str) -> String {
    let (kind, name) = (text(&subject["kind"]), text(&subject["name"]));
    if kind == "ServiceAccount" {
        let place = format!("{name}/{}", account_namespace(subject, binding_namespace));
        return format!("{kind} {place:?}");
    }
    format!("{kind} {name:?}")
}

/// Whether one rule is enough.
fn allows(rule: &Value, asked: &Question) -> bool {
    let any = |field: &str, word: &str| texts(&rule[field]).any(|e| e == "*" || e == word);
    if !any("verbs", &asked.verb) {
        return false;
    }
    match &asked.what {
        What::Path(path) => texts(&rule["nonResourceURLs"]).any(|url| {
            url == "*" || url == path || url.ends_with('*') && path.starts_with(url.trim_end_matches('*'))
        }),
        What::Resource { group, resource, sub, name, .. } => {
            let whole = if sub.is_empty() { resource.clone() } else { format!("{resource}/{sub}") };
            let of_any = format!("*/{sub}");
            let mut names = texts(&rule["resourceNames"]).peekable();
            any("apiGroups", group)
                && (any("resources", &whole)
                    || !sub.is_empty() && texts(&rule["resources"]).any(|e| e == of_any))
                && (names.peek().is_none() || names.any(|e| e == name))
        }
    }
}

/// Writes the rules of aggregated roles as a controller would who starts from nothing and repeats until nothing changes.
pub(super) fn aggregate(objects: &mut [Value]) {
    let aggregated: Vec<usize> =
        (0..objects.len()).filter(|&i| objects[i]["aggregationRule"].is_object()).collect();
    for &i in &aggregated {
        objects[i]["rules"] = json!([]);
    }
    let cluster_roles: BTreeMap<String, usize> = objects
        .iter()
        .enumerate()
        .filter(|(_, o)| o["kind"] == "ClusterRole")
        .map(|(i, o)| (text(&o["metadata"]["name"]).to_owned(), i))
        .collect();
    loop {
        let mut changed = false;
        for &i in &aggregated {
            let mut rules: Vec<Value> = Vec::new();
            for selector in list(&objects[i]["aggregationRule"]["clusterRoleSelectors"]) {
                for &j in cluster_roles.values().filter(|&&j| j != i) {
                    if selects(selector, &objects[j]["metadata"]["labels"]) {
                        let new = list(&objects[j]["rules"]).filter(|r| !rules.contains(r));
                        let new: Vec<Value> = new.cloned().collect();
                        rules.extend(new);
                    }
                }
            }
            let rules = Value::Array(rules);
            changed |= rules != objects[i]["rules"];
            objects[i]["rules"] = rules;
        }
        if !changed {
            return;
        }
    }
}

fn selects(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    equal.into_iter().all(|(key, value)| labels[key] == *value)
        && list(&selector["matchExpressions"]).all(|e| {
            let label = labels[text(&e["key"])].as_str();
            let listed = label.is_some_and(|l| texts(&e["values"]).any(|v| v == l));
            match text(&e["operator"]) {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => label.is_some(),
                "DoesNotExist" => label.is_none(),
                other => panic!("unknown operator {other:?}"),
            }
        })
}

/// Nothing is the empty string.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    list(value).map(text)
}
