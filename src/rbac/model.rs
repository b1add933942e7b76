//! The four kinds of `rbac.authorization.k8s.io/v1`, as far as a decision needs them.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::Arc,
};

/// The group whose version v1 the four kinds belong to.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// One rule of a role: any verb on any of the resources, or on any of the paths.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Verbs, or `*`.
    pub verbs: Vec<String>,
    /// API groups (`""` is the core group), or `*`.
    pub api_groups: Vec<String>,
    /// `resource`, `resource/subresource`, `*/subresource` or `*`.
    pub resources: Vec<String>,
    /// Names of objects; empty means all of them.
    pub resource_names: Vec<String>,
    /// Paths outside the resources: exact, or with `*` at their end.
    pub non_resource_urls: Vec<String>,
}

/// What a role is called: a Role has a namespace, a ClusterRole none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleName {
    /// The Role's namespace; None for a ClusterRole.
    pub namespace: Option<Arc<str>>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl RoleName {
    /// `Role` or `ClusterRole`.
    pub fn kind(&self) -> &'static str {
        if self.namespace.is_some() { "Role" } else { "ClusterRole" }
    }
}

/// `ClusterRole view`, `Role dev/reader`.
impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(f, self.kind(), self.namespace.as_deref(), &self.name)
    }
}

/// A Role or ClusterRole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its kind, namespace and name.
    pub name: RoleName,
    /// `metadata.labels`, by which an aggregated role finds it.
    pub labels: BTreeMap<String, String>,
    /// What it grants; written over if there is an `aggregation`.
    pub rules: Vec<Arc<Rule>>,
    /// `aggregationRule.clusterRoleSelectors`: the rules of all ClusterRoles that one of these selects.
    pub aggregation: Option<Vec<Selector>>,
    /// Where it was read.
    pub place: Place,
}

/// What a binding is called, and the role it refers to: all that a decision says about it. Immutable and shared, so
/// that a decision can keep it after the rules are gone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BindingName {
    /// The RoleBinding's namespace; None for a ClusterRoleBinding.
    pub namespace: Option<Arc<str>>,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `roleRef`, its namespace resolved.
    pub role: RoleName,
}

impl BindingName {
    /// `RoleBinding` or `ClusterRoleBinding`.
    pub fn kind(&self) -> &'static str {
        if self.namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" }
    }
}

/// `ClusterRoleBinding viewers`, `RoleBinding dev/readers`.
impl fmt::Display for BindingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(f, self.kind(), self.namespace.as_deref(), &self.name)
    }
}

/// A RoleBinding or ClusterRoleBinding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Its name and its role's.
    pub name: Arc<BindingName>,
    /// Whom it grants the role to.
    pub subjects: Vec<Subject>,
    /// Where it was read.
    pub place: Place,
}

/// One subject of a binding.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The user of exactly this name.
    User(String),
    /// Every user with this group.
    Group(String),
    /// The user `system:serviceaccount:<namespace>:<name>`.
    ServiceAccount {
        /// The subject's own namespace, else the RoleBinding's.
        namespace: String,
        /// The account's name in it.
        name: String,
    },
}

/// A label selector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// `matchLabels` and `matchExpressions`; all must hold, and none is met by every object.
    pub requirements: Vec<Requirement>,
}

/// One condition of a [`Selector`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// The label has one of the values.
    In(String, Vec<String>),
    /// The label is missing or has another value.
    NotIn(String, Vec<String>),
    /// The label is there.
    Exists(String),
    /// The label is missing.
    DoesNotExist(String),
}

impl Selector {
    /// Whether all requirements hold for `labels`.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|r| match r {
            Requirement::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            Requirement::NotIn(key, values) => labels.get(key).is_none_or(|v| !values.contains(v)),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::DoesNotExist(key) => !labels.contains_key(key),
        })
    }
}

/// Where an object was read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file, or what stands for one.
    pub file: Arc<str>,
    /// The document in it, counted from 1.
    pub document: usize,
    /// The document's first line, counted from 1.
    pub line: u64,
}

/// `rbac.yaml: document 2, line 17`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: document {}, line {}", self.file, self.document, self.line)
    }
}

/// All objects that rules are made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects {
    /// Roles and ClusterRoles.
    pub roles: Vec<Role>,
    /// RoleBindings and ClusterRoleBindings.
    pub bindings: Vec<Binding>,
}

impl Objects {
    /// These objects on top of `base`: one that is in both is as it is here.
    #[must_use]
    pub fn over(mut self, base: Self) -> Self {
        let roles: HashSet<RoleName> = self.roles.iter().map(|r| r.name.clone()).collect();
        let key = |b: &Binding| (b.name.namespace.clone(), b.name.name.clone());
        let bindings: HashSet<_> = self.bindings.iter().map(key).collect();
        self.roles.extend(base.roles.into_iter().filter(|r| !roles.contains(&r.name)));
        self.bindings.extend(base.bindings.into_iter().filter(|b| !bindings.contains(&key(b))));
        self
    }
}

/// Names are path segments, so they may hold anything but `/` and `%`; an odd one is quoted.
fn write_name(f: &mut fmt::Formatter<'_>, kind: &str, namespace: Option<&str>, name: &str) -> fmt::Result {
    f.write_str(kind)?;
    f.write_str(" ")?;
    if let Some(namespace) = namespace {
        write!(f, "{}/", Plain(namespace))?;
    }
    write!(f, "{}", Plain(name))
}

/// A word as it is where that is harmless to a reader, else quoted.
pub(super) struct Plain<'a>(pub(super) &'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let harmless = |b: u8| b.is_ascii_alphanumeric() || b"-._:/*".contains(&b);
        if !self.0.is_empty() && self.0.bytes().all(harmless) {
            f.write_str(self.0)
        } else {
            write!(f, "{:?}", self.0)
        }
    }
}
