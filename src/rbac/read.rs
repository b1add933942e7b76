//! Manifests to objects: what kube-apiserver checks when RBAC objects are written is checked here when they are read.
//!
//! Stricter than kube-apiserver where a slip would be silent there: unknown fields outside `metadata`, and an object
//! defined twice. Nothing stops at the first fault: every problem is reported with its file, document, object and field.

use super::model::{
    Binding, BindingName, GROUP, Objects, Place, Plain, Requirement, Role, RoleName, Rule, Selector, Subject,
};
use crate::{codec::yaml, request::names};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

/// Something wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// `rbac.yaml: document 2, line 17`, or as much of it as there is.
    pub place: String,
    /// `RoleBinding dev/readers`; empty when no object could be made out.
    pub object: String,
    /// `rules[0].verbs`; empty when the whole object is at fault.
    pub field: String,
    /// What is wrong and what was expected.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.place, &self.object, &self.field].into_iter().filter(|p| !p.is_empty()) {
            write!(f, "{part}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Reads all documents of `text` into `objects`; what is wrong goes to `problems`. `file` only names the source.
pub fn read(file: &str, text: &str, objects: &mut Objects, problems: &mut Vec<Problem>) {
    let documents = match yaml::documents_within(text, yaml::Limits::DUMP) {
        Ok(documents) => documents,
        Err(e) => {
            let place = match e.at {
                Some((line, column)) => format!("{file}: line {line}, column {column}"),
                None => file.to_owned(),
            };
            return problems.push(Problem {
                place,
                object: String::new(),
                field: String::new(),
                message: e.message,
            });
        }
    };
    let file: Arc<str> = file.into();
    for document in documents {
        let place = Place { file: Arc::clone(&file), document: document.number, line: document.line };
        Reader { place, object: String::new(), objects, problems }.document(&document.value, None);
    }
}

/// Objects that `objects` holds more than once: which of the two is meant, nobody can say.
pub fn duplicates(objects: &Objects) -> Vec<Problem> {
    let mut seen: HashMap<String, &Place> = HashMap::new();
    let roles = objects.roles.iter().map(|r| (r.name.to_string(), &r.place));
    let bindings = objects.bindings.iter().map(|b| (b.name.to_string(), &b.place));
    let mut found = Vec::new();
    for (object, place) in roles.chain(bindings) {
        match seen.get(&object) {
            Some(first) => found.push(Problem {
                place: place.to_string(),
                object,
                field: String::new(),
                message: format!("is already defined in {first}"),
            }),
            None => drop(seen.insert(object, place)),
        }
    }
    found
}

/// Bindings whose role does not exist: harmless, for they grant nothing, but seldom meant.
pub fn dangling(objects: &Objects) -> Vec<Problem> {
    let roles: std::collections::HashSet<&RoleName> = objects.roles.iter().map(|r| &r.name).collect();
    let dangling = objects.bindings.iter().filter(|b| !roles.contains(&b.name.role));
    let problem = |b: &Binding| Problem {
        place: b.place.to_string(),
        object: b.name.to_string(),
        field: "roleRef".into(),
        message: format!("{} does not exist, so the binding grants nothing", b.name.role),
    };
    dangling.map(problem).collect()
}

const KINDS: [&str; 4] = ["Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"];

struct Reader<'a> {
    place: Place,
    /// What is being read, for problems.
    object: String,
    objects: &'a mut Objects,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, field: impl Into<String>, message: impl Into<String>) {
        let (place, object) = (self.place.to_string(), self.object.clone());
        self.problems.push(Problem { place, object, field: field.into(), message: message.into() });
    }

    /// One document or list item. `kind`: what the items of a typed list are, which may leave it out.
    fn document(&mut self, value: &Value, kind: Option<&str>) {
        let Value::Object(map) = value else {
            return self.problem("", format!("expected an object, found {}", name_of(value)));
        };
        let api = match map.get("apiVersion") {
            None if kind.is_some() => format!("{GROUP}/v1"),
            _ => self.string(map, "", "apiVersion"),
        };
        let kind = match (map.get("kind"), kind) {
            (None, Some(kind)) => kind.to_owned(),
            _ => self.string(map, "", "kind"),
        };
        let ours = api.strip_prefix(GROUP) == Some("/v1");
        let of = kind.strip_suffix("List").filter(|of| KINDS.contains(of));
        match kind.as_str() {
            "List" if api == "v1" => self.items(map, None),
            _ if ours && of.is_some() => self.items(map, of),
            "Role" | "ClusterRole" if ours => self.role(map, kind == "Role"),
            "RoleBinding" | "ClusterRoleBinding" if ours => self.binding(map, kind == "RoleBinding"),
            _ => self.problem(
                "",
                format!(
                    "expected a Role, ClusterRole, RoleBinding or ClusterRoleBinding of {GROUP}/v1, or a List of them; found kind {kind:?} of apiVersion {api:?}"
                ),
            ),
        }
    }

    fn items(&mut self, map: &Map<String, Value>, kind: Option<&str>) {
        self.unknown(map, "", &["apiVersion", "kind", "metadata", "items"]);
        for (i, item) in self.list(map, "", "items").iter().enumerate() {
            self.object = format!("items[{i}]");
            self.document(item, kind);
        }
        self.object.clear();
    }

    fn role(&mut self, map: &Map<String, Value>, namespaced: bool) {
        let (kind, fields): (_, &[_]) = match namespaced {
            true => ("Role", &["apiVersion", "kind", "metadata", "rules"]),
            false => ("ClusterRole", &["apiVersion", "kind", "metadata", "rules", "aggregationRule"]),
        };
        let (namespace, name, labels) = self.metadata(map, kind, namespaced);
        self.unknown(map, "", fields);
        let list = self.list(map, "", "rules");
        let rules = list
            .iter()
            .enumerate()
            .filter_map(|(i, v)| self.rule(v, &format!("rules[{i}]"), namespaced))
            .collect();
        let aggregation = match map.get("aggregationRule") {
            Some(Value::Object(rule)) if !namespaced => Some(self.aggregation(rule)),
            Some(Value::Null) | None => None,
            Some(other) if !namespaced => {
                self.problem("aggregationRule", format!("expected an object, found {}", name_of(other)));
                None
            }
            // Reported as unknown above.
            Some(_) => None,
        };
        let name = RoleName { namespace, name };
        self.objects.roles.push(Role { name, labels, rules, aggregation, place: self.place.clone() });
    }

    fn rule(&mut self, value: &Value, path: &str, namespaced: bool) -> Option<Arc<Rule>> {
        let map = self.object(value, path)?;
        self.unknown(map, path, &["verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs"]);
        let rule = Rule {
            verbs: self.strings(map, path, "verbs"),
            api_groups: self.strings(map, path, "apiGroups"),
            resources: self.strings(map, path, "resources"),
            resource_names: self.strings(map, path, "resourceNames"),
            non_resource_urls: self.strings(map, path, "nonResourceURLs"),
        };
        if rule.verbs.is_empty() {
            self.problem(format!("{path}.verbs"), "a rule needs at least one verb");
        }
        if !rule.non_resource_urls.is_empty() {
            let field = format!("{path}.nonResourceURLs");
            if namespaced {
                self.problem(&field, "a Role cannot grant paths; put them into a ClusterRole");
            }
            if !(rule.api_groups.is_empty() && rule.resources.is_empty() && rule.resource_names.is_empty()) {
                self.problem(&field, "one rule cannot grant both resources and paths; make it two");
            }
            return Some(Arc::new(rule));
        }
        if rule.api_groups.is_empty() {
            self.problem(
                format!("{path}.apiGroups"),
                "a rule for resources needs at least one API group; \"\" is the core group",
            );
        }
        if rule.resources.is_empty() {
            self.problem(
                format!("{path}.resources"),
                "a rule needs at least one resource, or nonResourceURLs",
            );
        }
        Some(Arc::new(rule))
    }

    fn aggregation(&mut self, map: &Map<String, Value>) -> Vec<Selector> {
        self.unknown(map, "aggregationRule", &["clusterRoleSelectors"]);
        let field = "aggregationRule.clusterRoleSelectors";
        let list = self.list(map, "aggregationRule", "clusterRoleSelectors");
        if list.is_empty() {
            self.problem(field, "expected at least one selector");
        }
        list.iter().enumerate().filter_map(|(i, v)| self.selector(v, &format!("{field}[{i}]"))).collect()
    }

    fn selector(&mut self, value: &Value, path: &str) -> Option<Selector> {
        let map = self.object(value, path)?;
        self.unknown(map, path, &["matchLabels", "matchExpressions"]);
        let labels = self.string_map(map, path, "matchLabels");
        let mut requirements: Vec<_> =
            labels.into_iter().map(|(key, value)| Requirement::In(key, vec![value])).collect();
        for (i, value) in self.list(map, path, "matchExpressions").iter().enumerate() {
            let path = format!("{path}.matchExpressions[{i}]");
            let Some(map) = self.object(value, &path) else { continue };
            self.unknown(map, &path, &["key", "operator", "values"]);
            let (key, values) = (self.required(map, &path, "key"), self.strings(map, &path, "values"));
            let operator = self.string(map, &path, "operator");
            match (operator.as_str(), values.is_empty()) {
                ("In", false) => requirements.push(Requirement::In(key, values)),
                ("NotIn", false) => requirements.push(Requirement::NotIn(key, values)),
                ("Exists", true) => requirements.push(Requirement::Exists(key)),
                ("DoesNotExist", true) => requirements.push(Requirement::DoesNotExist(key)),
                ("In" | "NotIn", true) => {
                    self.problem(format!("{path}.values"), format!("{operator} needs at least one value"))
                }
                ("Exists" | "DoesNotExist", false) => {
                    self.problem(format!("{path}.values"), format!("{operator} takes no values"))
                }
                _ => self.problem(
                    format!("{path}.operator"),
                    format!("expected In, NotIn, Exists or DoesNotExist, found {operator:?}"),
                ),
            }
        }
        Some(Selector { requirements })
    }

    fn binding(&mut self, map: &Map<String, Value>, namespaced: bool) {
        let kind = if namespaced { "RoleBinding" } else { "ClusterRoleBinding" };
        let (namespace, name, _) = self.metadata(map, kind, namespaced);
        self.unknown(map, "", &["apiVersion", "kind", "metadata", "subjects", "roleRef"]);
        let role = self.role_ref(map, namespace.as_ref());
        let list = self.list(map, "", "subjects");
        let subjects = list.iter().enumerate();
        let subjects = subjects
            .filter_map(|(i, v)| self.subject(v, &format!("subjects[{i}]"), namespace.as_deref()))
            .collect();
        let Some(role) = role else { return };
        let name = Arc::new(BindingName { namespace, name, role });
        self.objects.bindings.push(Binding { name, subjects, place: self.place.clone() });
    }

    fn role_ref(&mut self, map: &Map<String, Value>, namespace: Option<&Arc<str>>) -> Option<RoleName> {
        let Some(value) = map.get("roleRef") else {
            self.problem("roleRef", "is missing");
            return None;
        };
        let map = self.object(value, "roleRef")?;
        self.unknown(map, "roleRef", &["apiGroup", "kind", "name"]);
        self.group(map, "roleRef", GROUP);
        let kind = self.string(map, "roleRef", "kind");
        let name: Arc<str> = self.path_segment(map, "roleRef", "name").into();
        match (kind.as_str(), namespace) {
            ("ClusterRole", _) => Some(RoleName { namespace: None, name }),
            ("Role", Some(namespace)) => Some(RoleName { namespace: Some(Arc::clone(namespace)), name }),
            ("Role", None) => {
                self.problem("roleRef.kind", "a ClusterRoleBinding can only refer to a ClusterRole");
                None
            }
            _ => {
                let expected = if namespace.is_some() { "Role or ClusterRole" } else { "ClusterRole" };
                self.problem("roleRef.kind", format!("expected {expected}, found {kind:?}"));
                None
            }
        }
    }

    fn subject(&mut self, value: &Value, path: &str, binding_namespace: Option<&str>) -> Option<Subject> {
        let map = self.object(value, path)?;
        self.unknown(map, path, &["kind", "apiGroup", "name", "namespace"]);
        let (kind, name) = (self.string(map, path, "kind"), self.required(map, path, "name"));
        // Kubernetes accepts a namespace here for users and groups and ignores it; so does this.
        let namespace = self.string(map, path, "namespace");
        match kind.as_str() {
            "User" | "Group" => {
                self.group(map, path, GROUP);
                Some(if kind == "User" { Subject::User(name) } else { Subject::Group(name) })
            }
            "ServiceAccount" => {
                self.group(map, path, "");
                if !name.is_empty() && !names::is_dns_subdomain(&name) {
                    self.problem(
                        format!("{path}.name"),
                        format!("{name:?} is not a name that a ServiceAccount can have"),
                    );
                }
                let namespace = match (namespace.as_str(), binding_namespace) {
                    ("", Some(own)) => own.to_owned(),
                    ("", None) => {
                        self.problem(
                            format!("{path}.namespace"),
                            "a ServiceAccount in a ClusterRoleBinding needs its namespace",
                        );
                        namespace
                    }
                    (other, _) => {
                        if !names::is_dns_label(other) {
                            self.problem(
                                format!("{path}.namespace"),
                                format!("{other:?} is not a name that a namespace can have"),
                            );
                        }
                        namespace
                    }
                };
                Some(Subject::ServiceAccount { namespace, name })
            }
            _ => {
                self.problem(
                    format!("{path}.kind"),
                    format!("expected User, Group or ServiceAccount, found {kind:?}"),
                );
                None
            }
        }
    }

    /// Namespace, name and labels; the rest of `metadata` decides nothing. From here on problems name the object.
    fn metadata(
        &mut self,
        map: &Map<String, Value>,
        kind: &str,
        namespaced: bool,
    ) -> (Option<Arc<str>>, Arc<str>, BTreeMap<String, String>) {
        let empty = Map::new();
        let metadata = match map.get("metadata") {
            Some(Value::Object(metadata)) => metadata,
            _ => &empty,
        };
        let text = |key| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
        let (namespace, name) = (text("namespace"), text("name"));
        if !name.is_empty() {
            let scope = if namespaced { format!("{}/", Plain(namespace)) } else { String::new() };
            self.object = format!("{kind} {scope}{}", Plain(name));
        } else {
            self.object = [kind, &self.object].join(" ").trim_end().to_owned();
        }
        let name = self.path_segment(metadata, "metadata", "name");
        let namespace = self.string(metadata, "metadata", "namespace");
        match (namespaced, namespace.as_str()) {
            (true, "") => self.problem("metadata.namespace", format!("a {kind} needs a namespace")),
            (true, ns) if !names::is_dns_label(ns) => {
                self.problem("metadata.namespace", format!("{ns:?} is not a name that a namespace can have"));
            }
            (false, ns) if !ns.is_empty() => {
                self.problem("metadata.namespace", format!("a {kind} has no namespace"))
            }
            _ => {}
        }
        let labels = self.string_map(metadata, "metadata", "labels");
        (namespaced.then(|| namespace.into()), name.into(), labels)
    }

    /// `apiGroup`, which may be left out.
    fn group(&mut self, map: &Map<String, Value>, path: &str, expected: &str) {
        let found = self.string(map, path, "apiGroup");
        if !found.is_empty() && found != expected {
            self.problem(join(path, "apiGroup"), format!("expected {expected:?}, found {found:?}"));
        }
    }

    fn path_segment(&mut self, map: &Map<String, Value>, path: &str, key: &str) -> String {
        let name = self.required(map, path, key);
        if !names::is_path_segment(&name) {
            self.problem(
                join(path, key),
                format!("{name:?} cannot be a name: it may not be . or .., nor contain / or %"),
            );
        }
        name
    }

    fn required(&mut self, map: &Map<String, Value>, path: &str, key: &str) -> String {
        let missing = matches!(map.get(key), None | Some(Value::Null))
            || map.get(key).and_then(Value::as_str) == Some("");
        if missing {
            self.problem(join(path, key), "is missing");
            return String::new();
        }
        self.string(map, path, key)
    }

    /// A string; empty when there is none.
    fn string(&mut self, map: &Map<String, Value>, path: &str, key: &str) -> String {
        match map.get(key) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(s)) => s.clone(),
            Some(other) => {
                self.problem(join(path, key), format!("expected a string, found {}", name_of(other)));
                String::new()
            }
        }
    }

    fn strings(&mut self, map: &Map<String, Value>, path: &str, key: &str) -> Vec<String> {
        let list = self.list(map, path, key).iter().enumerate();
        let mut strings = Vec::with_capacity(list.len());
        for (i, value) in list {
            match value {
                Value::String(s) => strings.push(s.clone()),
                other => self.problem(
                    format!("{}[{i}]", join(path, key)),
                    format!("expected a string, found {}", name_of(other)),
                ),
            }
        }
        strings
    }

    fn string_map(&mut self, map: &Map<String, Value>, path: &str, key: &str) -> BTreeMap<String, String> {
        let path = join(path, key);
        let map = match map.get(key) {
            Some(Value::Object(map)) => map,
            None | Some(Value::Null) => return BTreeMap::new(),
            Some(other) => {
                self.problem(path, format!("expected an object, found {}", name_of(other)));
                return BTreeMap::new();
            }
        };
        map.keys().map(|k| (k.clone(), self.string(map, &path, k))).collect()
    }

    fn list<'v>(&mut self, map: &'v Map<String, Value>, path: &str, key: &str) -> &'v [Value] {
        match map.get(key) {
            None | Some(Value::Null) => &[],
            Some(Value::Array(list)) => list,
            Some(other) => {
                self.problem(join(path, key), format!("expected a list, found {}", name_of(other)));
                &[]
            }
        }
    }

    fn object<'v>(&mut self, value: &'v Value, path: &str) -> Option<&'v Map<String, Value>> {
        if value.as_object().is_none() {
            self.problem(path, format!("expected an object, found {}", name_of(value)));
        }
        value.as_object()
    }

    fn unknown(&mut self, map: &Map<String, Value>, path: &str, known: &[&str]) {
        for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
            let message = format!("is not a field here; expected {}", known.join(", "));
            self.problem(join(path, &Plain(key).to_string()), message);
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean (unquoted y, n, yes, no, on and off are booleans)",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
