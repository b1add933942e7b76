//! What is known of the kinds that Kubernetes itself serves: which names they take, and which enumerations the API server does not let
//! anything else into.

use super::{
    cause::Fault,
    meta::{Naming, Prefix},
    names::Rule,
};
use crate::{
    codec::tape::Tape,
    validate::{
        catalog::Kind,
        schema::{Id, Schemas},
    },
};

/// The names of custom resources.
pub(super) const CUSTOM: Naming =
    Naming { rule: Some(Rule::Subdomain), required: true, prefix: Prefix::Unnamed };

/// API groups of Kubernetes itself; the kinds of others may follow rules of their own.
const GROUPS: [&str; 20] = [
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

/// Resources whose names are RFC 1123 subdomains in every version from 1.27 to 1.36.
const SUBDOMAINS: [&str; 43] = [
    "configmaps",
    "controllerrevisions",
    "cronjobs",
    "csidrivers",
    "csinodes",
    "csistoragecapacities",
    "customresourcedefinitions",
    "daemonsets",
    "deployments",
    "deviceclasses",
    "endpoints",
    "endpointslices",
    "flowschemas",
    "horizontalpodautoscalers",
    "ingressclasses",
    "ingresses",
    "jobs",
    "leases",
    "limitranges",
    "mutatingwebhookconfigurations",
    "networkpolicies",
    "nodes",
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "priorityclasses",
    "prioritylevelconfigurations",
    "replicasets",
    "replicationcontrollers",
    "resourceclaims",
    "resourceclaimtemplates",
    "resourcequotas",
    "resourceslices",
    "runtimeclasses",
    "secrets",
    "serviceaccounts",
    "statefulsets",
    "storageclasses",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
    "volumeattachments",
    "volumeattributesclasses",
];

/// Whether a resource's objects have metadata that is validated as everybody's is.
pub(super) fn has_metadata(group: &str, resource: &str) -> bool {
    // Bindings are an action, not an object.
    GROUPS.contains(&group) && resource != "bindings"
}

/// What the name of a new object must be like.
pub(super) fn naming(group: &str, resource: &str) -> Naming {
    let rule = match (group, resource) {
        // Service names were stricter before 1.36; a namespace's always were.
        ("", "namespaces" | "services") => Some(Rule::Label),
        ("rbac.authorization.k8s.io", _) => Some(Rule::Segment),
        // Some events are checked and others are not.
        ("" | "events.k8s.io", "events") => None,
        (_, resource) if SUBDOMAINS.contains(&resource) => Some(Rule::Subdomain),
        _ => None,
    };
    // A LimitRange without a name is given one.
    let required = (group, resource) != ("", "limitranges");
    Naming { rule, required, prefix: Prefix::Generated }
}

/// Whether its values are nobody's business.
pub(super) fn is_secret(kind: &Kind) -> bool {
    kind.group.is_empty() && &*kind.kind == "Secret"
}

/// Enumerations of a built-in kind.
pub(super) fn check(_schemas: &Schemas, _id: Id, _tape: &Tape<'_>, _out: &mut Vec<Fault>) {}
