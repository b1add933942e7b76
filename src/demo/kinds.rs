//! The kinds that the demo serves, as discovery describes them: the table of those that are built in, and what definitions
//! add to it. Routing, discovery, storage and printing go by this alone.

use super::{
    answer::GroupResource,
    custom::{Definition, Version},
    openapi::{self, Documents},
};

/// Verbs of an ordinary collection, in discovery's order.
pub(super) const ALL_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const CREATE: &[&str] = &["create"];
/// Verbs of `status` and `scale`.
pub(super) const STATUS: &[&str] = &["get", "patch", "update"];

/// One resource: its names, where it lives, and what can be asked of it.
#[derive(Debug)]
pub(super) struct Kind {
    /// Empty for the core group.
    pub group: &'static str,
    /// `v1`, `v2`.
    pub version: &'static str,
    /// Plural, as in paths.
    pub plural: &'static str,
    /// Singular name.
    pub singular: &'static str,
    /// Go type name.
    pub kind: &'static str,
    /// False: cluster-wide.
    pub namespaced: bool,
    /// What kubectl accepts for short.
    pub short: &'static [&'static str],
    /// `all`.
    pub categories: &'static [&'static str],
    /// Empty of everything but `create`: answered, never stored.
    pub verbs: &'static [&'static str],
    /// Below the single object.
    pub subs: &'static [Sub],
    /// What a definition says of it; None: it is built in.
    pub custom: Option<&'static Version>,
}

/// A table of the store, and the version of its kind that a request goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    /// The table.
    pub at: usize,
    /// The kind.
    pub kind: &'static Kind,
}

/// A subresource.
#[derive(Debug)]
pub(super) struct Sub {
    /// The path segment.
    pub name: &'static str,
    /// What travels there: group, version, kind. Empty group and version: the resource's own.
    pub group: &'static str,
    /// See `group`.
    pub version: &'static str,
    /// See `group`.
    pub kind: &'static str,
    /// In discovery's order.
    pub verbs: &'static [&'static str],
}

impl Kind {
    /// As failures name it.
    pub(super) fn resource(&self) -> GroupResource<'static> {
        GroupResource { group: self.group, resource: self.plural }
    }

    /// `v1`, `apps/v1`.
    pub(super) fn api_version(&self) -> String {
        group_version(self.group, self.version)
    }

    /// Whether it is this built-in resource.
    pub(super) fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    /// Answered on the spot instead of stored.
    pub(super) fn is_virtual(&self) -> bool {
        self.verbs == CREATE
    }

    /// The subresource of this name.
    pub(super) fn sub(&self, name: &str) -> Option<&'static Sub> {
        self.subs.iter().find(|s| s.name == name)
    }

    /// Go type name of its list.
    pub(super) fn list_kind(&self) -> String {
        self.custom.map_or_else(|| format!("{}List", self.kind), |v| v.list_kind.clone())
    }

    /// Whether `status` is written through its own subresource only.
    pub(super) fn has_status(&self) -> bool {
        self.sub("status").is_some()
    }
}

/// `v1`, `apps/v1`.
pub(super) fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// The built-in resource of this group, version and plural: its place in [`KINDS`], which is its table, too.
#[cfg(test)]
pub(super) fn find(group: &str, version: &str, plural: &str) -> Option<usize> {
    KINDS.iter().position(|k| k.group == group && k.version == version && k.plural == plural)
}

/// The built-in resource of this group and plural in any version, and its table.
pub(super) fn by_plural(group: &str, plural: &str) -> Option<usize> {
    KINDS.iter().position(|k| k.group == group && k.plural == plural)
}

/// Whether the group has built-in kinds.
pub(super) fn is_built_in(group: &str) -> bool {
    KINDS.iter().any(|k| k.group == group)
}

/// Whether kube-apiserver knows an older version of this group, which it converts, but which this server does not serve.
pub(super) fn was_registered(group: &str, version: &str) -> bool {
    let older: &[&str] = match group {
        "apps" => &["v1beta1", "v1beta2"],
        "extensions"
        | "batch"
        | "policy"
        | "discovery.k8s.io"
        | "networking.k8s.io"
        | "coordination.k8s.io" => &["v1beta1"],
        "autoscaling" => &["v1"],
        "rbac.authorization.k8s.io" | "scheduling.k8s.io" | "storage.k8s.io" => &["v1alpha1", "v1beta1"],
        _ => &[],
    };
    older.contains(&version)
}

/// All that is served now. The tables of custom resources follow those of [`KINDS`]; a table is never used again.
#[derive(Debug, Clone, Default)]
pub(super) struct Served {
    custom: Vec<Option<&'static Definition>>,
    documents: Documents,
}

impl Served {
    /// How many tables there are or were.
    pub(super) fn tables(&self) -> usize {
        KINDS.len() + self.custom.len()
    }

    /// The kind of a table, in the version in which it is stored.
    pub(super) fn kind(&self, at: usize) -> Option<&'static Kind> {
        match at.checked_sub(KINDS.len()) {
            None => KINDS.get(at),
            Some(slot) => self.custom.get(slot).copied().flatten().map(|d| &d.stored),
        }
    }

    /// Everything, with its table: built-in kinds, and each served version of the others.
    pub(super) fn all(&self) -> impl Iterator<Item = Target> {
        let built_in = KINDS.iter().enumerate().map(|(at, kind)| Target { at, kind });
        let custom = self.custom.iter().enumerate().flat_map(|(slot, definition)| {
            let kinds = definition.iter().flat_map(|d| &d.served);
            kinds.map(move |kind| Target { at: KINDS.len() + slot, kind })
        });
        built_in.chain(custom)
    }

    /// The kinds of a group and version.
    pub(super) fn of(&self, group: &str, version: &str) -> impl Iterator<Item = &'static Kind> {
        self.all().map(|t| t.kind).filter(move |k| k.group == group && k.version == version)
    }

    /// The resource of this group, version and plural.
    pub(super) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Target> {
        self.all().find(|t| t.kind.group == group && t.kind.version == version && t.kind.plural == plural)
    }

    /// The table that holds this group and kind.
    pub(super) fn by_kind(&self, group: &str, kind: &str) -> Option<usize> {
        self.all().find(|t| t.kind.group == group && t.kind.kind == kind).map(|t| t.at)
    }

    /// Groups with their versions, core first, in discovery's order.
    pub(super) fn groups(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
        for Target { kind, .. } in self.all() {
            match groups.iter_mut().find(|(g, _)| *g == kind.group) {
                Some((_, versions)) if !versions.contains(&kind.version) => versions.push(kind.version),
                Some(_) => {}
                None => groups.push((kind.group, vec![kind.version])),
            }
        }
        for (_, versions) in &mut groups {
            versions.sort_by_key(|v| priority(v));
        }
        groups
    }

    /// The definition of this name, and its table.
    pub(super) fn definition(&self, name: &str) -> Option<(usize, &'static Definition)> {
        let found = |(slot, d): (usize, &Option<&'static Definition>)| {
            d.filter(|d| d.name == name).map(|d| (KINDS.len() + slot, d))
        };
        self.custom.iter().enumerate().find_map(found)
    }

    /// Puts a definition in place of the one in its table, or into a new table.
    pub(super) fn install(&mut self, at: Option<usize>, definition: &'static Definition) {
        let before = match at.and_then(|at| self.custom.get_mut(at.checked_sub(KINDS.len())?)) {
            Some(slot) => slot.replace(definition),
            None => {
                self.custom.push(Some(definition));
                None
            }
        };
        self.renew(before.into_iter().chain([definition]));
    }

    /// Takes a definition out.
    pub(super) fn uninstall(&mut self, at: usize) {
        let slot = at.checked_sub(KINDS.len()).and_then(|slot| self.custom.get_mut(slot));
        let before = slot.and_then(Option::take);
        self.renew(before.into_iter());
    }

    /// The OpenAPI documents of custom resources.
    pub(super) fn documents(&self) -> &Documents {
        &self.documents
    }

    fn renew(&mut self, changed: impl Iterator<Item = &'static Definition>) {
        let mut documents = std::mem::take(&mut self.documents);
        for kind in changed.flat_map(|d| &d.served) {
            openapi::renew(&mut documents, self, kind.group, kind.version);
        }
        self.documents = documents;
    }
}

/// Sorts versions as Kubernetes prefers them: stable before beta before alpha, higher before lower, then whatever has
/// another form, by name.
pub(super) fn priority(version: &str) -> (u8, std::cmp::Reverse<(u64, u64)>, String) {
    let read = || {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (major, rest) = rest.split_at(digits);
        let major: u64 = major.parse().ok()?;
        let minor = |text: &str| text.parse::<u64>().ok();
        Some(match rest {
            "" => (0, major, 0),
            rest if rest.starts_with("beta") => (1, major, minor(rest.strip_prefix("beta")?)?),
            rest => (2, major, minor(rest.strip_prefix("alpha")?)?),
        })
    };
    match read() {
        Some((stage, major, minor)) => (stage, std::cmp::Reverse((major, minor)), String::new()),
        None => (3, std::cmp::Reverse((0, 0)), version.to_owned()),
    }
}

pub(super) const fn own(name: &'static str, verbs: &'static [&'static str]) -> Sub {
    Sub { name, group: "", version: "", kind: "", verbs }
}

pub(super) const fn sub(
    name: &'static str,
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    verbs: &'static [&'static str],
) -> Sub {
    Sub { name, group, version, kind, verbs }
}

const STATUS_ONLY: &[Sub] = &[own("status", STATUS)];
const SCALED: &[Sub] = &[sub("scale", "autoscaling", "v1", "Scale", STATUS), own("status", STATUS)];
const POD_SUBS: &[Sub] = &[
    sub("attach", "", "", "PodAttachOptions", &["create", "get"]),
    sub("binding", "", "", "Binding", CREATE),
    sub("eviction", "policy", "v1", "Eviction", CREATE),
    sub("exec", "", "", "PodExecOptions", &["create", "get"]),
    own("log", &["get"]),
    sub("portforward", "", "", "PodPortForwardOptions", &["create", "get"]),
    own("status", STATUS),
];
const ALL: &[&str] = &["all"];
const NONE: &[&str] = &[];
const NO_SUBS: &[Sub] = &[];

const fn kind(
    gv: (&'static str, &'static str),
    names: (&'static str, &'static str, &'static str),
    namespaced: bool,
    short: &'static [&'static str],
    categories: &'static [&'static str],
    subs: &'static [Sub],
) -> Kind {
    Kind {
        group: gv.0,
        version: gv.1,
        plural: names.0,
        singular: names.1,
        kind: names.2,
        namespaced,
        short,
        categories,
        verbs: ALL_VERBS,
        subs,
        custom: None,
    }
}

const fn review(
    gv: (&'static str, &'static str),
    names: (&'static str, &'static str, &'static str),
    ns: bool,
) -> Kind {
    Kind { verbs: CREATE, ..kind(gv, names, ns, NONE, NONE, NO_SUBS) }
}

const CORE: (&str, &str) = ("", "v1");
const APIEXTENSIONS: (&str, &str) = ("apiextensions.k8s.io", "v1");
const APPS: (&str, &str) = ("apps", "v1");
const AUTHN: (&str, &str) = ("authentication.k8s.io", "v1");
const AUTHZ: (&str, &str) = ("authorization.k8s.io", "v1");
const AUTOSCALING: (&str, &str) = ("autoscaling", "v2");
const BATCH: (&str, &str) = ("batch", "v1");
const COORDINATION: (&str, &str) = ("coordination.k8s.io", "v1");
const DISCOVERY: (&str, &str) = ("discovery.k8s.io", "v1");
const NETWORKING: (&str, &str) = ("networking.k8s.io", "v1");
const POLICY: (&str, &str) = ("policy", "v1");
const RBAC: (&str, &str) = ("rbac.authorization.k8s.io", "v1");
const SCHEDULING: (&str, &str) = ("scheduling.k8s.io", "v1");
const STORAGE: (&str, &str) = ("storage.k8s.io", "v1");

/// Everything served.
#[rustfmt::skip] // a table
pub(super) const KINDS: &[Kind] = &[
    kind(CORE, ("configmaps", "configmap", "ConfigMap"), true, &["cm"], NONE, NO_SUBS),
    kind(CORE, ("endpoints", "endpoints", "Endpoints"), true, &["ep"], NONE, NO_SUBS),
    kind(CORE, ("events", "event", "Event"), true, &["ev"], NONE, NO_SUBS),
    kind(CORE, ("limitranges", "limitrange", "LimitRange"), true, &["limits"], NONE, NO_SUBS),
    kind(CORE, ("namespaces", "namespace", "Namespace"), false, &["ns"], NONE, &[own("finalize", &["update"]), own("status", STATUS)]),
    kind(CORE, ("nodes", "node", "Node"), false, &["no"], NONE, STATUS_ONLY),
    kind(CORE, ("persistentvolumeclaims", "persistentvolumeclaim", "PersistentVolumeClaim"), true, &["pvc"], NONE, STATUS_ONLY),
    kind(CORE, ("persistentvolumes", "persistentvolume", "PersistentVolume"), false, &["pv"], NONE, STATUS_ONLY),
    kind(CORE, ("pods", "pod", "Pod"), true, &["po"], ALL, POD_SUBS),
    kind(CORE, ("replicationcontrollers", "replicationcontroller", "ReplicationController"), true, &["rc"], ALL, SCALED),
    kind(CORE, ("resourcequotas", "resourcequota", "ResourceQuota"), true, &["quota"], NONE, STATUS_ONLY),
    kind(CORE, ("secrets", "secret", "Secret"), true, NONE, NONE, NO_SUBS),
    kind(CORE, ("serviceaccounts", "serviceaccount", "ServiceAccount"), true, &["sa"], NONE, &[sub("token", "authentication.k8s.io", "v1", "TokenRequest", CREATE)]),
    kind(CORE, ("services", "service", "Service"), true, &["svc"], ALL, STATUS_ONLY),
    kind(APIEXTENSIONS, ("customresourcedefinitions", "customresourcedefinition", "CustomResourceDefinition"), false, &["crd", "crds"], &["api-extensions"], STATUS_ONLY),
    kind(APPS, ("daemonsets", "daemonset", "DaemonSet"), true, &["ds"], ALL, STATUS_ONLY),
    kind(APPS, ("deployments", "deployment", "Deployment"), true, &["deploy"], ALL, SCALED),
    kind(APPS, ("replicasets", "replicaset", "ReplicaSet"), true, &["rs"], ALL, SCALED),
    kind(APPS, ("statefulsets", "statefulset", "StatefulSet"), true, &["sts"], ALL, SCALED),
    review(AUTHN, ("selfsubjectreviews", "selfsubjectreview", "SelfSubjectReview"), false),
    review(AUTHN, ("tokenreviews", "tokenreview", "TokenReview"), false),
    review(AUTHZ, ("localsubjectaccessreviews", "localsubjectaccessreview", "LocalSubjectAccessReview"), true),
    review(AUTHZ, ("selfsubjectaccessreviews", "selfsubjectaccessreview", "SelfSubjectAccessReview"), false),
    review(AUTHZ, ("selfsubjectrulesreviews", "selfsubjectrulesreview", "SelfSubjectRulesReview"), false),
    review(AUTHZ, ("subjectaccessreviews", "subjectaccessreview", "SubjectAccessReview"), false),
    kind(AUTOSCALING, ("horizontalpodautoscalers", "horizontalpodautoscaler", "HorizontalPodAutoscaler"), true, &["hpa"], ALL, STATUS_ONLY),
    kind(BATCH, ("cronjobs", "cronjob", "CronJob"), true, &["cj"], ALL, STATUS_ONLY),
    kind(BATCH, ("jobs", "job", "Job"), true, NONE, ALL, STATUS_ONLY),
    kind(COORDINATION, ("leases", "lease", "Lease"), true, NONE, NONE, NO_SUBS),
    kind(DISCOVERY, ("endpointslices", "endpointslice", "EndpointSlice"), true, NONE, NONE, NO_SUBS),
    kind(NETWORKING, ("ingressclasses", "ingressclass", "IngressClass"), false, NONE, NONE, NO_SUBS),
    kind(NETWORKING, ("ingresses", "ingress", "Ingress"), true, &["ing"], NONE, STATUS_ONLY),
    kind(NETWORKING, ("networkpolicies", "networkpolicy", "NetworkPolicy"), true, &["netpol"], NONE, NO_SUBS),
    kind(POLICY, ("poddisruptionbudgets", "poddisruptionbudget", "PodDisruptionBudget"), true, &["pdb"], NONE, STATUS_ONLY),
    kind(RBAC, ("clusterrolebindings", "clusterrolebinding", "ClusterRoleBinding"), false, NONE, NONE, NO_SUBS),
    kind(RBAC, ("clusterroles", "clusterrole", "ClusterRole"), false, NONE, NONE, NO_SUBS),
    kind(RBAC, ("rolebindings", "rolebinding", "RoleBinding"), true, NONE, NONE, NO_SUBS),
    kind(RBAC, ("roles", "role", "Role"), true, NONE, NONE, NO_SUBS),
    kind(SCHEDULING, ("priorityclasses", "priorityclass", "PriorityClass"), false, &["pc"], NONE, NO_SUBS),
    kind(STORAGE, ("storageclasses", "storageclass", "StorageClass"), false, &["sc"], NONE, NO_SUBS),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plurals_are_unique_within_a_version() {
        for (i, k) in KINDS.iter().enumerate() {
            assert_eq!(find(k.group, k.version, k.plural), Some(i), "{}", k.plural);
        }
    }

    #[test]
    fn groups_start_with_core() {
        let groups = Served::default().groups();
        assert_eq!(groups.first(), Some(&("", vec!["v1"])));
        assert_eq!(groups.len(), 14);
    }

    #[test]
    fn versions_are_sorted_by_how_stable_they_are() {
        let mut versions = ["foo", "v1alpha1", "v10", "v2", "v1beta2", "v1", "v11beta2", "bar", "v3beta1"];
        versions.sort_by_key(|v| priority(v));
        assert_eq!(versions, ["v10", "v2", "v1", "v11beta2", "v3beta1", "v1beta2", "v1alpha1", "bar", "foo"]);
    }
}
