//! Fields that a field selector may name.

use super::{Bad, quoted};
use crate::{
    request::{Asked, selector::FieldSelector},
    validate::handler::Server,
};

/// A resource whose objects can be selected by more, or by less, than name and namespace.
struct Selectable {
    group: &'static str,
    resource: &'static str,
    /// As of 1.36; fields are added, not taken away.
    fields: &'static [&'static str],
}

/// A custom resource says in its definition what can be selected; the upstream knows.
pub(super) fn check(selector: &FieldSelector, asked: &Asked, server: Server) -> Result<(), Bad> {
    if server != Server::BuiltIn {
        return Ok(());
    }
    let (group, resource) = (asked.info.group(), asked.info.resource());
    let special = SELECTABLE.iter().find(|entry| entry.group == group && entry.resource == resource);
    for field in selector.requirements.iter().map(|requirement| requirement.field.as_str()) {
        match special {
            None if matches!(field, "metadata.name" | "metadata.namespace") => {}
            None if UNSURE.contains(&group) => {}
            None => {
                let why = "is not a known field selector: only \"metadata.name\", \"metadata.namespace\"";
                return Err(Bad::new("field-label", format!("{} {why}", quoted(field))));
            }
            Some(entry) if field == "metadata.name" || entry.fields.contains(&field) => {}
            Some(Selectable { resource: "jobs", .. }) => {
                let field = quoted(field);
                return Err(Bad::new("field-label", format!("field label {field} not supported for Job")));
            }
            Some(_) => return Err(Bad::new("field-label", format!("field label not supported: {field}"))),
        }
    }
    Ok(())
}

/// Groups whose resources still gain fields.
const UNSURE: [&str; 5] = [
    "resource.k8s.io",
    "certificates.k8s.io",
    "storagemigration.k8s.io",
    "internal.apiserver.k8s.io",
    "scheduling.k8s.io",
];

const SELECTABLE: [Selectable; 10] = [
    Selectable {
        group: "",
        resource: "pods",
        fields: &[
            "metadata.namespace",
            "spec.nodeName",
            "spec.host",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
    },
    Selectable { group: "", resource: "nodes", fields: &["spec.unschedulable"] },
    Selectable { group: "", resource: "namespaces", fields: &["status.phase"] },
    Selectable { group: "", resource: "secrets", fields: &["metadata.namespace", "type"] },
    Selectable {
        group: "",
        resource: "services",
        fields: &["metadata.namespace", "spec.clusterIP", "spec.type"],
    },
    Selectable {
        group: "",
        resource: "replicationcontrollers",
        fields: &["metadata.namespace", "status.replicas"],
    },
    Selectable {
        group: "",
        resource: "events",
        fields: &[
            "metadata.namespace",
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
    },
    Selectable {
        group: "events.k8s.io",
        resource: "events",
        fields: &[
            "metadata.namespace",
            "reason",
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reportingController",
            "type",
        ],
    },
    Selectable {
        group: "certificates.k8s.io",
        resource: "certificatesigningrequests",
        fields: &["spec.signerName"],
    },
    Selectable { group: "batch", resource: "jobs", fields: &["metadata.namespace", "status.successful"] },
];
