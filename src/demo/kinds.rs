//! The kinds that the demo serves, as discovery describes them. The single table that routing, discovery, storage and
//! printing go by.

use super::answer::GroupResource;

/// Verbs of an ordinary collection, in discovery's order.
pub(super) const ALL_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const CREATE: &[&str] = &["create"];
const STATUS: &[&str] = &["get", "patch", "update"];

/// One resource: its names, where it lives, and what can be asked of it.
#[derive(Debug, PartialEq, Eq)]
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
}

/// A subresource.
#[derive(Debug, PartialEq, Eq)]
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

    /// Answered on the spot instead of stored.
    pub(super) fn is_virtual(&self) -> bool {
        self.verbs == CREATE
    }

    /// The subresource of this name.
    pub(super) fn sub(&self, name: &str) -> Option<&'static Sub> {
        self.subs.iter().find(|s| s.name == name)
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

/// The resource of this group, version and plural, and its place in [`KINDS`].
pub(super) fn find(group: &str, version: &str, plural: &str) -> Option<usize> {
    KINDS.iter().position(|k| k.group == group && k.version == version && k.plural == plural)
}

/// The resource of this group and plural in any version, and its place in [`KINDS`].
pub(super) fn by_plural(group: &str, plural: &str) -> Option<usize> {
    KINDS.iter().position(|k| k.group == group && k.plural == plural)
}

/// The resource that holds this group and kind, and its place in [`KINDS`].
pub(super) fn by_kind(group: &str, kind: &str) -> Option<usize> {
    KINDS.iter().position(|k| k.group == group && k.kind == kind)
}

/// Groups with their versions, core first, in discovery's order.
pub(super) fn groups() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for kind in KINDS {
        match groups.iter_mut().find(|(g, _)| *g == kind.group) {
            Some((_, versions)) if !versions.contains(&kind.version) => versions.push(kind.version),
            Some(_) => {}
            None => groups.push((kind.group, vec![kind.version])),
        }
    }
    groups
}

const fn own(name: &'static str, verbs: &'static [&'static str]) -> Sub {
    Sub { name, group: "", version: "", kind: "", verbs }
}

const fn sub(
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
        assert_eq!(groups().first(), Some(&("", vec!["v1"])));
        assert_eq!(groups().len(), 13);
    }
}
