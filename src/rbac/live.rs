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
