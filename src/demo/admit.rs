//! What an object gets on its way into the store: defaults, and a look at whether it can be meant.

use super::{
    answer::Cause,
    custom,
    kinds::Kind,
    selector,
    value::{default, int, items, map, same, set, text},
};
use base64::Engine as _;
use serde_json::{Value, json};

/// Where the pod template of a kind is, if it has one.
pub(super) fn template(kind: &Kind) -> Option<&'static str> {
    match kind.plural {
        _ if kind.custom.is_some() => None,
        "deployments" | "replicasets" | "statefulsets" | "daemonsets" | "replicationcontrollers" | "jobs" => {
            Some("/spec/template")
        }
        "cronjobs" => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

/// Fills in what was left out.
pub(super) fn defaults(kind: &Kind, object: &mut Value) {
    if let Some(at) = template(kind)
        && let Some(template) = object.pointer_mut(at)
    {
        default(template, "/metadata", json!({}));
        pod_spec(template);
    }
    if let Some(version) = kind.custom {
        version.normalize(object);
        return;
    }
    match kind.plural {
        "customresourcedefinitions" => custom::defaults(object),
        "pods" => {
            pod_spec(object);
            default(object, "/spec/serviceAccountName", "default");
            let account = text(object, "/spec/serviceAccountName").to_owned();
            default(object, "/spec/serviceAccount", account);
            default(object, "/spec/preemptionPolicy", "PreemptLowerPriority");
            default(object, "/spec/priority", 0);
            default(object, "/status/phase", "Pending");
            let quality = quality(object);
            default(object, "/status/qosClass", quality);
        }
        "deployments" => {
            default(object, "/spec/replicas", 1);
            default(object, "/spec/strategy/type", "RollingUpdate");
            if text(object, "/spec/strategy/type") == "RollingUpdate" {
                default(object, "/spec/strategy/rollingUpdate/maxUnavailable", "25%");
                default(object, "/spec/strategy/rollingUpdate/maxSurge", "25%");
            }
            default(object, "/spec/revisionHistoryLimit", 10);
            default(object, "/spec/progressDeadlineSeconds", 600);
        }
        "replicasets" => default(object, "/spec/replicas", 1),
        "replicationcontrollers" => {
            default(object, "/spec/replicas", 1);
            let labels = object.pointer("/spec/template/metadata/labels").cloned().unwrap_or_default();
            default(object, "/spec/selector", labels);
        }
        "statefulsets" => {
            default(object, "/spec/replicas", 1);
            default(object, "/spec/podManagementPolicy", "OrderedReady");
            default(
                object,
                "/spec/updateStrategy",
                json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}),
            );
            default(object, "/spec/revisionHistoryLimit", 10);
        }
        "daemonsets" => {
            let rolling =
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}});
            default(object, "/spec/updateStrategy", rolling);
            default(object, "/spec/revisionHistoryLimit", 10);
        }
        "jobs" => job(object),
        "cronjobs" => {
            default(object, "/spec/concurrencyPolicy", "Allow");
            default(object, "/spec/suspend", false);
            default(object, "/spec/successfulJobsHistoryLimit", 3);
            default(object, "/spec/failedJobsHistoryLimit", 1);
        }
        "services" => service(object),
        "secrets" => secret(object),
        "namespaces" => {
            default(object, "/spec/finalizers", json!(["kubernetes"]));
            default(object, "/status/phase", "Active");
            let name = text(object, "/metadata/name").to_owned();
            set(object, "/metadata/labels/kubernetes.io~1metadata.name", name);
        }
        "persistentvolumeclaims" => {
            default(object, "/spec/volumeMode", "Filesystem");
            default(object, "/status/phase", "Pending");
        }
        "persistentvolumes" => {
            default(object, "/spec/volumeMode", "Filesystem");
            default(object, "/spec/persistentVolumeReclaimPolicy", "Retain");
            default(object, "/status/phase", "Available");
        }
        "horizontalpodautoscalers" => default(object, "/spec/minReplicas", 1),
        "storageclasses" => {
            default(object, "/reclaimPolicy", "Delete");
            default(object, "/volumeBindingMode", "Immediate");
        }
        "networkpolicies" => default(object, "/spec/policyTypes", json!(["Ingress"])),
        "rolebindings" | "clusterrolebindings" => binding(object),
        _ => {}
    }
}

fn pod_spec(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec") else { return };
    for (path, value) in [
        ("/restartPolicy", json!("Always")),
        ("/terminationGracePeriodSeconds", json!(30)),
        ("/dnsPolicy", json!("ClusterFirst")),
        ("/securityContext", json!({})),
        ("/schedulerName", json!("default-scheduler")),
    ] {
        default(spec, path, value);
    }
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let latest = {
                let image = text(container, "/image");
                let tag = image.rsplit('/').next().unwrap_or_default();
                tag.ends_with(":latest") || !tag.contains([':', '@'])
            };
            default(container, "/imagePullPolicy", if latest { "Always" } else { "IfNotPresent" });
            default(container, "/terminationMessagePath", "/dev/termination-log");
            default(container, "/terminationMessagePolicy", "File");
            default(container, "/resources", json!({}));
            for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                default(port, "/protocol", "TCP");
            }
        }
    }
}

fn quality(pod: &Value) -> &'static str {
    let containers = items(pod, "/spec/containers");
    let given = |c: &Value, what: &str| map(c, what).is_some_and(|m| !m.is_empty());
    let guaranteed = |c: &Value| {
        let limits = map(c, "/resources/limits");
        let full = limits.is_some_and(|l| l.contains_key("cpu") && l.contains_key("memory"));
        let requests = c.pointer("/resources/requests");
        full && (requests.is_none() || same(requests, c.pointer("/resources/limits")))
    };
    if containers.iter().all(guaranteed) && !containers.is_empty() {
        "Guaranteed"
    } else if containers.iter().any(|c| given(c, "/resources/requests") || given(c, "/resources/limits")) {
        "Burstable"
    } else {
        "BestEffort"
    }
}

fn job(object: &mut Value) {
    if object.pointer("/spec/parallelism").is_none() {
        default(object, "/spec/completions", 1);
    }
    for (path, value) in [
        ("/spec/parallelism", json!(1)),
        ("/spec/backoffLimit", json!(6)),
        ("/spec/completionMode", json!("NonIndexed")),
        ("/spec/suspend", json!(false)),
        ("/spec/podReplacementPolicy", json!("TerminatingOrFailed")),
    ] {
        default(object, path, value);
    }
    let uid = text(object, "/metadata/uid").to_owned();
    let name = text(object, "/metadata/name").to_owned();
    if !uid.is_empty() && object.pointer("/spec/manualSelector") != Some(&Value::Bool(true)) {
        default(
            object,
            "/spec/selector",
            json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}),
        );
        for (label, value) in [
            ("batch.kubernetes.io~1controller-uid", &uid),
            ("batch.kubernetes.io~1job-name", &name),
            ("controller-uid", &uid),
            ("job-name", &name),
        ] {
            default(object, &format!("/spec/template/metadata/labels/{label}"), value.as_str());
        }
    }
}

fn service(object: &mut Value) {
    default(object, "/spec/type", "ClusterIP");
    default(object, "/spec/sessionAffinity", "None");
    if text(object, "/spec/type") != "ExternalName" {
        default(object, "/spec/internalTrafficPolicy", "Cluster");
        default(object, "/spec/ipFamilies", json!(["IPv4"]));
        default(object, "/spec/ipFamilyPolicy", "SingleStack");
    }
    for port in object.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
        default(port, "/protocol", "TCP");
        let number = port.get("port").cloned().unwrap_or_default();
        if port.get("targetPort").is_none_or(|p| p.is_null() || p == 0 || p == "") {
            set(port, "/targetPort", number);
        }
    }
    default(object, "/status/loadBalancer", json!({}));
}

fn secret(object: &mut Value) {
    default(object, "/type", "Opaque");
    let Some(Value::Object(plain)) = super::value::remove(object, "/stringData") else { return };
    for (key, value) in plain {
        let encoded = base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default());
        set(object, &format!("/data/{}", key.replace('/', "~1")), encoded);
    }
}

fn binding(object: &mut Value) {
    const RBAC: &str = "rbac.authorization.k8s.io";
    default(object, "/roleRef/apiGroup", RBAC);
    for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
        if text(subject, "/kind") != "ServiceAccount" {
            default(subject, "/apiGroup", RBAC);
        }
    }
}

/// What is wrong with a name; None when nothing is.
pub(super) fn bad_name(kind: &Kind, name: &str) -> Option<&'static str> {
    let label = |l: &str| {
        let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        end(l.chars().next())
            && end(l.chars().last())
            && l.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    match kind.plural {
        _ if kind.group == "rbac.authorization.k8s.io" => {
            (name == "." || name == ".." || name.contains(['/', '%'])).then_some("may not contain '/' or '%'")
        }
        "namespaces" | "services" if kind.custom.is_none() => (name.len() > 63 || !label(name)).then_some(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
             end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        ),
        _ if name.len() > 253 => Some("must be no more than 253 characters"),
        _ => (!name.split('.').all(label)).then_some(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ),
    }
}

/// What is wrong with an object of this kind, beyond its form.
pub(super) fn validate(kind: &Kind, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = text(object, "/metadata/name");
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if let Some(why) = bad_name(kind, name) {
        causes.push(Cause::invalid("metadata.name", &format!("{name:?}"), why));
    }
    for value in map(object, "/metadata/labels").into_iter().flatten().filter_map(|(_, v)| v.as_str()) {
        if let Some(why) = selector::bad_label_value(value) {
            causes.push(Cause::invalid("metadata.labels", &format!("{value:?}"), why));
        }
    }
    if let Some(version) = kind.custom {
        causes.extend(version.validate(object));
        causes.extend(version.unchecked(&causes));
        return causes;
    }
    if let Some(replicas) = int(object, "/spec/replicas").filter(|r| *r < 0) {
        let why = "must be greater than or equal to 0";
        causes.push(Cause::invalid("spec.replicas", &replicas.to_string(), why));
    }
    if let Some(at) = template(kind) {
        let field = at.trim_start_matches('/').replace('/', ".");
        workload(kind, object, at, &field, &mut causes);
    }
    match kind.plural {
        "customresourcedefinitions" => causes.extend(custom::check(object)),
        "pods" => containers(object, "spec", &mut causes),
        "services"
            if items(object, "/spec/ports").is_empty()
                && text(object, "/spec/clusterIP") != "None"
                && text(object, "/spec/type") != "ExternalName" =>
        {
            causes.push(Cause::required("spec.ports", ""));
        }
        "rolebindings" | "clusterrolebindings" => {
            let role = text(object, "/roleRef/kind");
            let known: &[&str] = if kind.namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
            if !known.contains(&role) {
                causes.push(Cause::unsupported("roleRef.kind", role, known));
            }
            if text(object, "/roleRef/name").is_empty() {
                causes.push(Cause::required("roleRef.name", ""));
            }
        }
        _ => {}
    }
    causes
}

fn workload(kind: &Kind, object: &Value, at: &str, field: &str, causes: &mut Vec<Cause>) {
    let template = object.pointer(at).unwrap_or(&Value::Null);
    if matches!(kind.plural, "deployments" | "replicasets" | "statefulsets" | "daemonsets") {
        let selector = object.pointer("/spec/selector").unwrap_or(&Value::Null);
        let empty = selector.as_object().is_none_or(serde_json::Map::is_empty);
        if empty {
            causes.push(Cause::required("spec.selector", ""));
        } else if !selector::label_selector(selector, template) {
            let labels = map(template, "/metadata/labels").cloned().unwrap_or_default();
            let shown = labels.iter().map(|(k, v)| format!("{k:?}:{v}")).collect::<Vec<_>>().join(", ");
            causes.push(Cause::invalid(
                &format!("{field}.metadata.labels"),
                &format!("map[string]string{{{shown}}}"),
                "`selector` does not match template `labels`",
            ));
        }
    }
    let policy = text(template, "/spec/restartPolicy");
    if matches!(kind.plural, "jobs" | "cronjobs") {
        if !matches!(policy, "OnFailure" | "Never") {
            let known = ["OnFailure", "Never"];
            causes.push(Cause::unsupported(&format!("{field}.spec.restartPolicy"), policy, &known));
        }
    } else if !matches!(policy, "Always" | "") {
        causes.push(Cause::unsupported(&format!("{field}.spec.restartPolicy"), policy, &["Always"]));
    }
    containers(template, &format!("{field}.spec"), causes);
}

fn containers(pod: &Value, field: &str, causes: &mut Vec<Cause>) {
    let containers = items(pod, "/spec/containers");
    if containers.is_empty() {
        causes.push(Cause::required(&format!("{field}.containers"), ""));
    }
    for (i, container) in containers.iter().enumerate() {
        for key in ["name", "image"] {
            if text(container, &format!("/{key}")).is_empty() {
                causes.push(Cause::required(&format!("{field}.containers[{i}].{key}"), ""));
            }
        }
    }
}

/// What an update may not do.
pub(super) fn validate_update(kind: &Kind, old: &Value, new: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut fixed = |pointer: &str, field: &str, why: &str| {
        let (before, after) = (old.pointer(pointer), new.pointer(pointer));
        if !same(before, after) {
            let shown = after.map_or_else(|| "null".to_owned(), Value::to_string);
            causes.push(Cause::invalid(field, &shown, why));
        }
    };
    match kind.plural {
        _ if kind.custom.is_some() => {}
        "customresourcedefinitions" => {
            for field in ["group", "scope", "names/kind", "names/plural"] {
                let shown = format!("spec.{}", field.replace('/', "."));
                fixed(&format!("/spec/{field}"), &shown, "field is immutable");
            }
        }
        "deployments" | "replicasets" | "daemonsets" | "statefulsets" => {
            fixed("/spec/selector", "spec.selector", "field is immutable");
        }
        "jobs" => {
            fixed("/spec/template", "spec.template", "field is immutable");
            fixed("/spec/selector", "spec.selector", "field is immutable");
            fixed("/spec/completions", "spec.completions", "field is immutable");
        }
        "services" if text(old, "/spec/type") != "ExternalName" => {
            fixed("/spec/clusterIP", "spec.clusterIPs[0]", "may not change once set");
        }
        "rolebindings" | "clusterrolebindings" => fixed("/roleRef", "roleRef", "cannot change roleRef"),
        "secrets" => fixed("/type", "type", "field is immutable"),
        _ => {}
    }
    if kind.group.is_empty()
        && matches!(kind.plural, "secrets" | "configmaps")
        && old.get("immutable") == Some(&Value::Bool(true))
    {
        for part in ["data", "binaryData", "immutable"] {
            if !same(old.get(part), new.get(part)) {
                causes.push(Cause {
                    reason: "FieldValueForbidden",
                    field: part.into(),
                    message: "Forbidden: field is immutable when `immutable` is set".into(),
                });
            }
        }
    }
    if kind.is("", "pods") && !same(Some(&fixed_part(old)), Some(&fixed_part(new))) {
        causes.push(Cause {
            reason: "FieldValueForbidden",
            field: "spec".into(),
            message: "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
                      `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
                      existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                      previously negative)"
                .into(),
        });
    }
    causes
}

fn fixed_part(pod: &Value) -> Value {
    let mut spec = pod.get("spec").cloned().unwrap_or_default();
    if let Some(map) = spec.as_object_mut() {
        map.retain(|k, _| {
            !matches!(
                k.as_str(),
                "activeDeadlineSeconds" | "tolerations" | "terminationGracePeriodSeconds" | "nodeName"
            )
        });
    }
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            super::value::remove(container, "/image");
            super::value::remove(container, "/imagePullPolicy");
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::kinds::{KINDS, find};

    fn kind(group: &str, version: &str, plural: &str) -> &'static Kind {
        &KINDS[find(group, version, plural).unwrap()]
    }

    #[test]
    fn names() {
        let rows = [
            ("configmaps", "", "v1", "a.b-c", true),
            ("configmaps", "", "v1", "BAD_Name", false),
            ("configmaps", "", "v1", "a..b", false),
            ("namespaces", "", "v1", "a.b", false),
            ("roles", "rbac.authorization.k8s.io", "v1", "system:x", true),
            ("roles", "rbac.authorization.k8s.io", "v1", "a%b", false),
        ];
        for (plural, group, version, name, good) in rows {
            assert_eq!(bad_name(kind(group, version, plural), name).is_none(), good, "{plural} {name}");
        }
    }

    #[test]
    fn a_secret_in_plain_text_is_encoded() {
        let mut secret = json!({"stringData": {"a": "b"}, "data": {"c": "ZA=="}});
        defaults(kind("", "v1", "secrets"), &mut secret);
        assert_eq!(secret, json!({"data": {"c": "ZA==", "a": "Yg=="}, "type": "Opaque"}));
    }

    #[test]
    fn deployments_must_select_their_pods() {
        let deployments = kind("apps", "v1", "deployments");
        let mut object = json!({"metadata": {"name": "d"}, "spec": {"replicas": -1, "selector": {"matchLabels": {"a": "1"}},
            "template": {"metadata": {"labels": {"a": "2"}}, "spec": {"containers": [{"name": "c"}]}}}});
        defaults(deployments, &mut object);
        let fields: Vec<String> = validate(deployments, &object).into_iter().map(|c| c.field).collect();
        assert_eq!(
            fields,
            ["spec.replicas", "spec.template.metadata.labels", "spec.template.spec.containers[0].image"]
        );
    }

    #[test]
    fn some_fields_stay() {
        let jobs = kind("batch", "v1", "jobs");
        let causes =
            validate_update(jobs, &json!({"spec": {"template": 1}}), &json!({"spec": {"template": 2}}));
        assert_eq!(causes[0].message, "Invalid value: 2: field is immutable");
        let pods = kind("", "v1", "pods");
        let pod = |image: &str, name: &str| json!({"spec": {"containers": [{"name": name, "image": image}]}});
        assert!(validate_update(pods, &pod("a", "c"), &pod("b", "c")).is_empty());
        assert_eq!(validate_update(pods, &pod("a", "c"), &pod("a", "d")).len(), 1);
    }
}
