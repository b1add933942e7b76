//! What is known of the kinds that Kubernetes itself serves: which names they take, and which enumerations the API server does not let
//! anything else into.

use super::{
    cause::{Fault, show},
    custom::MOST_FAULTS,
    meta::{Naming, Prefix},
    names::Rule,
    path::Path,
};
use crate::{
    codec::tape::{Kind, Tape},
    validate::{
        catalog,
        schema::{Additional, Id, Schemas},
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
pub(super) fn is_secret(kind: &catalog::Kind) -> bool {
    kind.group.is_empty() && &*kind.kind == "Secret"
}

/// Enumerations that the API server was seen to refuse everything else for, wherever they occur: the definition (after `io.k8s.api.`),
/// the field, and the values as its text lists them where they are not the document's.
#[rustfmt::skip]
const ENUMERATIONS: [Enumeration; 62] = [
    ("admissionregistration.v1.MatchResources", "matchPolicy", &[]),
    ("admissionregistration.v1.MutatingAdmissionPolicySpec", "failurePolicy", &[]),
    ("admissionregistration.v1.MutatingAdmissionPolicySpec", "reinvocationPolicy", &[]),
    ("admissionregistration.v1.MutatingWebhook", "failurePolicy", &[]),
    ("admissionregistration.v1.MutatingWebhook", "matchPolicy", &[]),
    ("admissionregistration.v1.MutatingWebhook", "reinvocationPolicy", &[]),
    ("admissionregistration.v1.MutatingWebhook", "sideEffects", &["None", "NoneOnDryRun"]),
    ("admissionregistration.v1.Mutation", "patchType", &[]),
    ("admissionregistration.v1.NamedRuleWithOperations", "scope", &[]),
    ("admissionregistration.v1.RuleWithOperations", "operations", &[]),
    ("admissionregistration.v1.RuleWithOperations", "scope", &[]),
    ("admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec", "validationActions", &[]),
    ("admissionregistration.v1.ValidatingAdmissionPolicySpec", "failurePolicy", &[]),
    ("admissionregistration.v1.ValidatingWebhook", "failurePolicy", &[]),
    ("admissionregistration.v1.ValidatingWebhook", "matchPolicy", &[]),
    ("admissionregistration.v1.ValidatingWebhook", "sideEffects", &["None", "NoneOnDryRun"]),
    ("batch.v1.CronJobSpec", "concurrencyPolicy", &[]),
    ("batch.v1.JobSpec", "completionMode", &["NonIndexed", "Indexed"]),
    ("batch.v1.JobSpec", "podReplacementPolicy", &[]),
    ("batch.v1.PodFailurePolicyOnExitCodesRequirement", "operator", &[]),
    ("batch.v1.PodFailurePolicyRule", "action", &[]),
    ("certificates.v1.CertificateSigningRequestSpec", "usages", &[]),
    ("core.v1.AppArmorProfile", "type", &[]),
    ("core.v1.AzureDiskVolumeSource", "cachingMode", &[]),
    ("core.v1.AzureDiskVolumeSource", "kind", &[]),
    ("core.v1.Container", "imagePullPolicy", &[]),
    ("core.v1.Container", "terminationMessagePolicy", &["File", "FallbackToLogsOnError"]),
    ("core.v1.ContainerPort", "protocol", &[]),
    ("core.v1.EndpointPort", "protocol", &[]),
    ("core.v1.EphemeralContainer", "imagePullPolicy", &[]),
    ("core.v1.EphemeralContainer", "terminationMessagePolicy", &["File", "FallbackToLogsOnError"]),
    ("core.v1.ImageVolumeSource", "pullPolicy", &[]),
    ("core.v1.PersistentVolumeClaimSpec", "volumeMode", &[]),
    ("core.v1.PodSecurityContext", "fsGroupChangePolicy", &[]),
    ("core.v1.PodSecurityContext", "supplementalGroupsPolicy", &[]),
    ("core.v1.PodSpec", "dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]),
    ("core.v1.SeccompProfile", "type", &[]),
    ("core.v1.SecurityContext", "procMount", &[]),
    ("core.v1.ServicePort", "protocol", &[]),
    ("core.v1.ServiceSpec", "internalTrafficPolicy", &[]),
    ("core.v1.ServiceSpec", "ipFamilies", &[]),
    ("core.v1.ServiceSpec", "ipFamilyPolicy", &[]),
    ("core.v1.ServiceSpec", "sessionAffinity", &[]),
    ("core.v1.ServiceSpec", "type", &[]),
    ("core.v1.Toleration", "effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"]),
    ("core.v1.TopologySpreadConstraint", "nodeAffinityPolicy", &[]),
    ("core.v1.TopologySpreadConstraint", "nodeTaintsPolicy", &[]),
    ("core.v1.TopologySpreadConstraint", "whenUnsatisfiable", &[]),
    ("discovery.v1.EndpointPort", "protocol", &[]),
    ("discovery.v1.EndpointSlice", "addressType", &[]),
    ("networking.v1.HTTPIngressPath", "pathType", &[]),
    ("networking.v1.NetworkPolicyPort", "protocol", &["TCP", "UDP", "SCTP"]),
    ("networking.v1.NetworkPolicySpec", "policyTypes", &["Ingress", "Egress"]),
    ("policy.v1.PodDisruptionBudgetSpec", "unhealthyPodEvictionPolicy", &[]),
    ("resource.v1.DeviceSubRequest", "allocationMode", &[]),
    ("resource.v1.DeviceTaint", "effect", &[]),
    ("resource.v1.DeviceToleration", "effect", &[]),
    ("resource.v1.DeviceToleration", "operator", &[]),
    ("resource.v1.ExactDeviceRequest", "allocationMode", &[]),
    ("scheduling.v1.PriorityClass", "preemptionPolicy", &["PreemptLowerPriority", "Never"]),
    ("storage.v1.StorageClass", "reclaimPolicy", &["Delete", "Retain"]),
    ("storage.v1.StorageClass", "volumeBindingMode", &[]),
];

type Enumeration = (&'static str, &'static str, &'static [&'static str]);

/// Enumerations of a built-in kind.
pub(super) fn check(schemas: &Schemas, id: Id, tape: &Tape<'_>, out: &mut Vec<Fault>) {
    Walk { schemas, tape, out }.value(id, 0, &Path::root(""));
}

struct Walk<'a> {
    schemas: &'a Schemas,
    tape: &'a Tape<'a>,
    out: &'a mut Vec<Fault>,
}

impl Walk<'_> {
    fn value(&mut self, id: Id, at: usize, path: &Path<'_>) {
        if path.is_too_deep() {
            return;
        }
        let (schemas, tape) = (self.schemas, self.tape);
        let schema = schemas.get(id);
        match tape.kind(at) {
            Kind::Object => {
                let known = schema.name.map_or(&[][..], |name| enumerations(schemas.text(name)));
                let others = match schema.additional {
                    Additional::Of(id) if has_more(schemas, id) => Some(id),
                    _ => None,
                };
                if schema.properties.is_empty() && others.is_none() {
                    return;
                }
                for (key, member) in tape.members(at) {
                    let name = tape.string(key);
                    // What a new object says of its state is dropped, and its metadata is looked at elsewhere.
                    if path.is_object() && matches!(&*name, "metadata" | "status") {
                        continue;
                    }
                    let Some(property) = schemas.property(schema, &name) else {
                        if let Some(id) = others {
                            self.value(id, member, &path.key(&name));
                        }
                        continue;
                    };
                    let below = path.name(&name);
                    if let Some((_, _, shown)) = known.iter().find(|(_, field, _)| *field == name) {
                        self.enumeration(property.schema, member, &below, shown);
                    } else if has_more(schemas, property.schema) {
                        self.value(property.schema, member, &below);
                    }
                }
            }
            Kind::Array => {
                let Some(items) = schema.items.filter(|items| has_more(schemas, *items)) else { return };
                for (i, element) in tape.elements(at).enumerate() {
                    self.value(items, element, &path.index(i));
                }
            }
            _ => {}
        }
    }

    /// One value, or each of a list. An empty one is completed by the server.
    fn enumeration(&mut self, id: Id, at: usize, path: &Path<'_>, shown: &[&str]) {
        let (schemas, tape) = (self.schemas, self.tape);
        let schema = schemas.get(id);
        if let Some(items) = schema.items {
            for (i, element) in tape.elements(at).enumerate() {
                self.enumeration(items, element, &path.index(i), shown);
            }
            return;
        }
        let Some(rules) = schema.rules.as_deref().filter(|rules| !rules.enumeration.is_empty()) else {
            return;
        };
        if !tape.is_text(at) || tape.is_empty(at) || self.out.len() >= MOST_FAULTS {
            return;
        }
        let text = tape.string(at);
        let read = |raw: &str| serde_json::from_str::<String>(raw).unwrap_or_default();
        let allowed: Vec<String> = rules.enumeration.iter().map(|raw| read(schemas.text(*raw))).collect();
        if allowed.iter().any(|allowed| *allowed == text) {
            return;
        }
        let listed: Vec<&str> = match shown {
            [] => allowed.iter().map(String::as_str).filter(|value| !value.is_empty()).collect(),
            shown => shown.to_vec(),
        };
        let fault = Fault::not_supported("enum", &path.bracketed(), &show(tape, at), listed.into_iter());
        self.out.push(fault);
    }
}

/// Whether there may be enumerations below.
fn has_more(schemas: &Schemas, id: Id) -> bool {
    let schema = schemas.get(id);
    !schema.properties.is_empty() || schema.items.is_some() || matches!(schema.additional, Additional::Of(_))
}

fn enumerations(definition: &str) -> &'static [Enumeration] {
    let Some(name) = definition.strip_prefix("io.k8s.api.") else { return &[] };
    let start = ENUMERATIONS.partition_point(|(known, ..)| *known < name);
    let end = ENUMERATIONS.partition_point(|(known, ..)| *known <= name);
    ENUMERATIONS.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_in_order() {
        assert!(ENUMERATIONS.is_sorted_by_key(|(definition, field, _)| (*definition, *field)));
        assert!(SUBDOMAINS.is_sorted());
        assert_eq!(enumerations("io.k8s.api.core.v1.ServiceSpec").len(), 5);
        assert!(enumerations("io.k8s.api.core.v1.Secret").is_empty());
    }
}
