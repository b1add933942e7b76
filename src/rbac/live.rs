//! Objects as an API server holds them, read as its authorizer reads them.
//!
//! What is checked when such objects are written is not checked again: an empty list matches nothing, `apiGroup` of subjects and of
//! `roleRef` decides nothing, a subject of another kind is nobody. `aggregationRule` is not computed: the server keeps the union in
//! `rules`, and that is what counts there.
//!
//! Stricter than the authorizer on purpose: a field that is not known here could be one that narrows, so what holds it grants nothing.

use super::model::{Binding, BindingName, GROUP, Place, Role, RoleName, Rule, Subject};
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, LazyLock},
};

/// One of the four kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Kind {
    Role,
    ClusterRole,
    RoleBinding,
    ClusterRoleBinding,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Role, Self::ClusterRole, Self::RoleBinding, Self::ClusterRoleBinding];

    /// As in `kind`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Role => "Role",
            Self::ClusterRole => "ClusterRole",
            Self::RoleBinding => "RoleBinding",
            Self::ClusterRoleBinding => "ClusterRoleBinding",
        }
    }

    /// As in a path.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Role => "roles",
            Self::ClusterRole => "clusterroles",
            Self::RoleBinding => "rolebindings",
            Self::ClusterRoleBinding => "clusterrolebindings",
        }
    }

    /// Whether its objects live in namespaces.
    pub const fn namespaced(self) -> bool {
        matches!(self, Self::Role | Self::RoleBinding)
    }
}

/// `roles.rbac.authorization.k8s.io`
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{GROUP}", self.plural())
    }
}

/// Namespace (empty for what has none) and name.
pub type Key = (Arc<str>, Arc<str>);

/// What one object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A Role or ClusterRole.
    Role(Role),
    /// A RoleBinding or ClusterRoleBinding.
    Binding(Binding),
}

/// An object, as far as it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What it grants.
    pub object: Object,
    /// Rules and subjects that grant nothing though they look as if they did, and why: `rules[2]: field "when" is not known`.
    pub left_out: Vec<String>,
}

/// What an object is called; None for one that no server would hold.
pub fn key(kind: Kind, object: &Value) -> Option<Key> {
    let metadata = object.get("metadata")?;
    let text = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
    let namespace = if kind.namespaced() { text("namespace") } else { "" };
    let whole = !text("name").is_empty() && namespace.is_empty() != kind.namespaced();
    whole.then(|| (namespace.into(), text("name").into()))
}

/// Reads an object of this kind and name.
///
/// # Errors
/// Why all of it grants nothing.
pub fn read(kind: Kind, key: &Key, object: &Value) -> Result<Held, String> {
    let map = object.as_object().ok_or("is not an object")?;
    let namespace = kind.namespaced().then(|| Arc::clone(&key.0));
    let name = Arc::clone(&key.1);
    let place = PLACE.clone();
    let mut left_out = Vec::new();
    let object = match kind {
        Kind::Role | Kind::ClusterRole => {
            known(map, &["apiVersion", "kind", "metadata", "rules", "aggregationRule"])?;
            let rules = collect(map, "rules", &mut left_out, rule)?.into_iter().map(Arc::new).collect();
            let name = RoleName { namespace, name };
            Object::Role(Role { name, labels: BTreeMap::new(), rules, aggregation: None, place })
        }
        Kind::RoleBinding | Kind::ClusterRoleBinding => {
            known(map, &["apiVersion", "kind", "metadata", "subjects", "roleRef"])?;
            let role =
                role_ref(map.get("roleRef"), namespace.as_ref()).map_err(|why| format!("roleRef: {why}"))?;
            let subjects =
                collect(map, "subjects", &mut left_out, |value| subject(value, namespace.as_deref()))?;
            let name = Arc::new(BindingName { namespace, name, role });
            Object::Binding(Binding { name, subjects, place })
        }
    };
    Ok(Held { object, left_out })
}

static PLACE: LazyLock<Place> = LazyLock::new(|| Place { file: "the cluster".into(), document: 0, line: 0 });

/// The items of a list that can be understood; of the others, why not.
fn collect<T>(
    map: &Map<String, Value>,
    key: &str,
    left_out: &mut Vec<String>,
    mut read: impl FnMut(&Map<String, Value>) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let list = match map.get(key) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(format!("{key}: is not a list")),
    };
    let mut items = Vec::with_capacity(list.len());
    for (i, value) in list.iter().enumerate() {
        match value.as_object().ok_or_else(|| "is not an object".to_owned()).and_then(&mut read) {
            Ok(item) => items.push(item),
            Err(why) => left_out.push(format!("{key}[{i}]: {why}")),
        }
    }
    Ok(items)
}

fn rule(map: &Map<String, Value>) -> Result<Rule, String> {
    known(map, &["verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs"])?;
    Ok(Rule {
        verbs: texts(map, "verbs")?,
        api_groups: texts(map, "apiGroups")?,
        resources: texts(map, "resources")?,
        resource_names: texts(map, "resourceNames")?,
        non_resource_urls: texts(map, "nonResourceURLs")?,
    })
}

fn subject(map: &Map<String, Value>, binding: Option<&str>) -> Result<Subject, String> {
    known(map, &["kind", "apiGroup", "name", "namespace"])?;
    let (kind, name, namespace) = (text(map, "kind")?, text(map, "name")?, text(map, "namespace")?);
    if name.is_empty() {
        return Err("has no name".to_owned());
    }
    let name = name.to_owned();
    match (kind, namespace, binding) {
        ("User", ..) => Ok(Subject::User(name)),
        ("Group", ..) => Ok(Subject::Group(name)),
        ("ServiceAccount", "", Some(own)) => Ok(Subject::ServiceAccount { namespace: own.to_owned(), name }),
        ("ServiceAccount", "", None) => Err("a ServiceAccount without a namespace is nobody".to_owned()),
        ("ServiceAccount", namespace, _) => {
            Ok(Subject::ServiceAccount { namespace: namespace.to_owned(), name })
        }
        _ => Err(format!("kind {kind:?} is nobody's")),
    }
}

fn role_ref(value: Option<&Value>, namespace: Option<&Arc<str>>) -> Result<RoleName, String> {
    let map = value.and_then(Value::as_object).ok_or("is not an object")?;
    known(map, &["apiGroup", "kind", "name"])?;
    let name = text(map, "name")?.into();
    match text(map, "kind")? {
        "ClusterRole" => Ok(RoleName { namespace: None, name }),
        // From a ClusterRoleBinding it is one in no namespace, which cannot exist.
        "Role" => Ok(RoleName { namespace: Some(namespace.map_or_else(|| "".into(), Arc::clone)), name }),
        other => Err(format!("kind {other:?} is not supported")),
    }
}

fn known(map: &Map<String, Value>, fields: &[&str]) -> Result<(), String> {
    match map.keys().find(|key| !fields.contains(&key.as_str())) {
        Some(key) => Err(format!("field {key:?} is not known")),
        None => Ok(()),
    }
}

fn text<'v>(map: &'v Map<String, Value>, key: &str) -> Result<&'v str, String> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(format!("{key}: is not a string")),
    }
}

fn texts(map: &Map<String, Value>, key: &str) -> Result<Vec<String>, String> {
    let list = match map.get(key) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(format!("{key}: is not a list")),
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    list.iter().map(text).collect::<Option<_>>().ok_or_else(|| format!("{key}: holds what is no string"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        rbac::{Decision, Rules},
        request::{Attributes, Object as Asked},
    };
    use serde_json::json;

    fn held(kind: Kind, object: &Value) -> Result<Held, String> {
        read(kind, &key(kind, object).unwrap(), object)
    }

    /// Objects as the server would list them; what is left out goes to the second.
    fn rules(objects: &[(Kind, Value)]) -> (Rules, Vec<String>) {
        let (mut roles, mut bindings, mut odd) = (Vec::new(), Vec::new(), Vec::new());
        for (kind, object) in objects {
            match held(*kind, object) {
                Ok(Held { object: Object::Role(role), left_out }) => {
                    roles.push(role);
                    odd.extend(left_out);
                }
                Ok(Held { object: Object::Binding(binding), left_out }) => {
                    bindings.push(binding);
                    odd.extend(left_out);
                }
                Err(why) => odd.push(why),
            }
        }
        (Rules::as_written(&roles, &bindings), odd)
    }

    fn gets_pods(rules: &Rules, user: &str, groups: &[String]) -> bool {
        let object = Asked::Resource {
            group: "",
            version: "v1",
            resource: "pods",
            subresource: "",
            namespace: "dev",
            name: "x",
        };
        rules.decide(user, groups, Attributes { verb: "get", object }) != Decision::Deny
    }

    fn role(rules: Value) -> (Kind, Value) {
        (Kind::ClusterRole, json!({"metadata": {"name": "r"}, "rules": rules}))
    }

    fn whole_role() -> (Kind, Value) {
        role(json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]))
    }

    fn binding(subjects: Value) -> (Kind, Value) {
        let role = json!({"kind": "ClusterRole", "name": "r"});
        (
            Kind::RoleBinding,
            json!({"metadata": {"name": "b", "namespace": "dev"}, "roleRef": role, "subjects": subjects}),
        )
    }

    #[test]
    fn rules_match_as_they_stand() {
        let u = json!([{"kind": "User", "name": "u"}]);
        #[rustfmt::skip]
        let rows = [
            (json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]), true, ""),
            (json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": null}]), true, ""),
            (json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["y"]}]), false, ""),
            (json!([{"verbs": [], "apiGroups": [""], "resources": ["pods"]}]), false, ""),
            (json!([{"verbs": ["get"], "apiGroups": [], "resources": ["pods"]}]), false, ""),
            (json!([{"verbs": ["get"], "resources": ["pods"]}]), false, ""),
            (json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": []}]), false, ""),
            (json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]), false, ""),
            (json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "nonResourceURLs": ["/x"]}]), true, ""),
            (json!([]), false, ""),
            (Value::Null, false, ""),
            (json!([{}]), false, ""),
            (json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "when": "never"}]), false, r#"rules[0]: field "when" is not known"#),
            (json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["x"]}]), false, r#"rules[0]: field "namespaces" is not known"#),
            (json!(["x", {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]), true, "rules[0]: is not an object"),
            (json!([{"verbs": "get", "apiGroups": [""], "resources": ["pods"]}]), false, "rules[0]: verbs: is not a list"),
            (json!([{"verbs": ["get", 1], "apiGroups": [""], "resources": ["pods"]}]), false, "rules[0]: verbs: holds what is no string"),
            (json!({"verbs": ["get"]}), false, "rules: is not a list"),
        ];
        for (listed, allowed, odd) in rows {
            let (rules, left_out) = rules(&[role(listed.clone()), binding(u.clone())]);
            assert_eq!(gets_pods(&rules, "u", &[]), allowed, "{listed}");
            assert_eq!(left_out.join(""), odd, "{listed}");
        }
    }

    #[test]
    fn subjects_are_whom_they_name() {
        let account = "system:serviceaccount:dev:app";
        #[rustfmt::skip]
        let rows = [
            (json!({"kind": "User", "name": "u"}), "u", true, ""),
            (json!({"kind": "User", "name": "u", "apiGroup": "example.com", "namespace": "x"}), "u", true, ""),
            (json!({"kind": "User", "name": "*"}), "u", false, ""),
            (json!({"kind": "User", "name": account}), account, true, ""),
            (json!({"kind": "Group", "name": "g"}), "u", true, ""),
            (json!({"kind": "Group", "name": "u"}), "u", false, ""),
            (json!({"kind": "ServiceAccount", "name": "app"}), account, true, ""),
            (json!({"kind": "ServiceAccount", "name": "app", "namespace": "dev", "apiGroup": "x"}), account, true, ""),
            (json!({"kind": "ServiceAccount", "name": "app", "namespace": "prod"}), account, false, ""),
            // No namespace is called so; nobody is that user.
            (json!({"kind": "ServiceAccount", "name": "app", "namespace": "Dev"}), account, false, ""),
            (json!({"kind": "ServiceAccount", "name": "app", "namespace": "Dev"}), "system:serviceaccount:Dev:app", true, ""),
            (json!({"kind": "user", "name": "u"}), "u", false, r#"subjects[0]: kind "user" is nobody's"#),
            (json!({"name": "u"}), "u", false, r#"subjects[0]: kind "" is nobody's"#),
            (json!({"kind": "User", "name": ""}), "", false, "subjects[0]: has no name"),
            (json!({"kind": "User", "name": "u", "except": ["sundays"]}), "u", false, r#"subjects[0]: field "except" is not known"#),
            (json!({"kind": "User", "name": ["u"]}), "u", false, "subjects[0]: name: is not a string"),
            (json!("u"), "u", false, "subjects[0]: is not an object"),
        ];
        for (subject, user, allowed, odd) in rows {
            let (rules, left_out) = rules(&[whole_role(), binding(json!([subject]))]);
            assert_eq!(gets_pods(&rules, user, &["g".to_owned()]), allowed, "{subject}");
            assert_eq!(left_out.join(""), odd, "{subject}");
        }
    }

    #[test]
    fn a_role_is_referred_to_by_kind_and_name_alone() {
        let kinds = [Kind::RoleBinding, Kind::ClusterRoleBinding];
        let subjects = json!([{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "app"}]);
        let dev = (
            Kind::Role,
            json!({"metadata": {"name": "own", "namespace": "dev"},
            "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}),
        );
        let mut nowhere = dev.clone();
        nowhere.1["metadata"]["namespace"] = "".into();
        assert_eq!(key(nowhere.0, &nowhere.1), None, "no server holds it");
        #[rustfmt::skip]
        let rows = [
            (json!({"kind": "ClusterRole", "name": "r"}), [true, true], ""),
            (json!({"kind": "ClusterRole", "name": "r", "apiGroup": "example.com"}), [true, true], ""),
            (json!({"kind": "Role", "name": "own"}), [true, false], ""),
            (json!({"kind": "Role", "name": "r"}), [false, false], ""),
            (json!({"kind": "clusterrole", "name": "r"}), [false, false], r#"roleRef: kind "clusterrole" is not supported"#),
            (json!({"kind": "ClusterRole", "name": "r", "namespace": "dev"}), [false, false], r#"roleRef: field "namespace" is not known"#),
            (json!({"kind": "ClusterRole", "name": 1}), [false, false], "roleRef: name: is not a string"),
            (Value::Null, [false, false], "roleRef: is not an object"),
        ];
        for (reference, allowed, odd) in rows {
            for (kind, allowed) in kinds.into_iter().zip(allowed) {
                let metadata = json!({"name": "b", "namespace": if kind.namespaced() { "dev" } else { "" }});
                let object = json!({"metadata": metadata, "roleRef": reference, "subjects": subjects});
                let (rules, left_out) = rules(&[whole_role(), dev.clone(), (kind, object)]);
                assert_eq!(gets_pods(&rules, "u", &[]), allowed, "{kind:?} {reference}");
                let accounts = gets_pods(&rules, "system:serviceaccount:dev:app", &[]);
                assert_eq!(accounts, allowed && kind.namespaced(), "{kind:?} {reference}");
                let nobody = "subjects[1]: a ServiceAccount without a namespace is nobody";
                let odd = if odd.is_empty() && !kind.namespaced() { nobody } else { odd };
                assert_eq!(left_out.join(""), odd, "{kind:?} {reference}");
            }
        }
    }

    #[test]
    fn aggregation_is_the_servers_business() {
        let mut role = whole_role();
        role.1["aggregationRule"] =
            json!({"clusterRoleSelectors": [{"matchLabels": {"no": "where"}}], "new": 1});
        let (rules, odd) = rules(&[role, binding(json!([{"kind": "User", "name": "u"}]))]);
        assert!(gets_pods(&rules, "u", &[]) && odd.is_empty(), "{odd:?}");
    }

    #[test]
    fn what_is_not_known_of_the_whole_grants_nothing() {
        let mut role = whole_role();
        role.1["expires"] = "yesterday".into();
        assert_eq!(held(role.0, &role.1).unwrap_err(), r#"field "expires" is not known"#);
        let mut bound = binding(json!([]));
        bound.1["conditions"] = json!([]);
        assert_eq!(held(bound.0, &bound.1).unwrap_err(), r#"field "conditions" is not known"#);
        let mut slip = binding(json!([]));
        slip.1["subject"] = json!([]);
        assert_eq!(held(slip.0, &slip.1).unwrap_err(), r#"field "subject" is not known"#);
        for nameless in [json!({}), json!({"metadata": {}}), json!([]), json!({"metadata": {"name": 1}})] {
            assert_eq!(key(Kind::ClusterRole, &nameless), None);
        }
    }
}
