//! `meta.k8s.io` Table: the columns that kubectl prints.

use super::{
    custom,
    kinds::Kind,
    value::{int, items, map, text},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// One column.
struct Column {
    name: &'static str,
    /// 0: always; 1: with `-o wide`.
    priority: u8,
    cell: fn(&Value) -> Value,
}

const fn col(name: &'static str, cell: fn(&Value) -> Value) -> Column {
    Column { name, priority: 0, cell }
}

const fn wide(name: &'static str, cell: fn(&Value) -> Value) -> Column {
    Column { name, priority: 1, cell }
}

/// What is put into a row besides the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Include {
    /// Nothing.
    None,
    /// The object's metadata.
    Metadata,
    /// The whole object.
    Object,
}

impl Include {
    /// Reads `includeObject`; the error is the text of a 400.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', \
                 'Object', 'None', or empty"
            )),
        }
    }
}

/// `columnDefinitions` of a kind.
pub(super) fn definitions(kind: &Kind) -> Value {
    let mut all = vec![json!({"name": "Name", "type": "string", "format": "name",
        "description": "Name of the object, unique in its namespace.", "priority": 0})];
    if let Some(version) = kind.custom {
        all.extend(version.columns.iter().map(|c| c.definition.clone()));
        return Value::Array(all);
    }
    all.extend(columns(kind).iter().map(|c| {
        let sort = if matches!(c.name, "Desired" | "Current" | "Up-to-date" | "Available" | "Data") {
            "integer"
        } else {
            "string"
        };
        json!({"name": c.name, "type": sort, "format": "", "description": format!("{} of the object.", c.name),
            "priority": c.priority})
    }));
    Value::Array(all)
}

/// One object as a row.
pub(super) fn row(kind: &Kind, object: &Value, include: Include) -> Value {
    let mut cells = vec![Value::from(text(object, "/metadata/name"))];
    match kind.custom {
        None => cells.extend(columns(kind).iter().map(|c| (c.cell)(object))),
        Some(version) => {
            let shown = custom::shown(kind, object);
            cells.extend(version.columns.iter().map(|c| custom_cell(c, &shown)));
        }
    }
    let mut row = json!({"cells": cells});
    let shown = match include {
        Include::None => None,
        Include::Metadata => Some(partial(object)),
        Include::Object => Some(custom::shown(kind, object).into_owned()),
    };
    if let (Some(map), Some(shown)) = (row.as_object_mut(), shown) {
        map.insert("object".into(), shown);
    }
    row
}

fn custom_cell(column: &custom::Column, object: &Value) -> Value {
    match column.cell(object) {
        Some(Value::String(time)) if column.sort == "date" => age(&time).into(),
        cell => cell.unwrap_or_default(),
    }
}

/// An object's metadata alone.
pub(super) fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_default()})
}

fn columns(kind: &Kind) -> Vec<Column> {
    match (kind.group, kind.plural) {
        ("", "pods") => vec![
            col("Ready", |o| {
                let all = items(o, "/status/containerStatuses");
                let ready = all.iter().filter(|c| c.get("ready") == Some(&Value::Bool(true))).count();
                format!("{ready}/{}", items(o, "/spec/containers").len()).into()
            }),
            col("Status", |o| pod_status(o).into()),
            col("Restarts", |o| {
                let restarts = |c: &Value| int(c, "/restartCount").unwrap_or_default();
                items(o, "/status/containerStatuses").iter().map(restarts).sum::<i64>().to_string().into()
            }),
            AGE,
            wide("IP", |o| none(text(o, "/status/podIP"))),
            wide("Node", |o| none(text(o, "/spec/nodeName"))),
            wide("Nominated Node", |o| none(text(o, "/status/nominatedNodeName"))),
            wide("Readiness Gates", |_| "<none>".into()),
        ],
        ("", "configmaps") => vec![
            col("Data", |o| {
                let count = |at| map(o, at).map_or(0, serde_json::Map::len);
                (count("/data") + count("/binaryData")).into()
            }),
            AGE,
        ],
        ("", "secrets") => vec![
            col("Type", |o| text(o, "/type").into()),
            col("Data", |o| map(o, "/data").map_or(0, serde_json::Map::len).into()),
            AGE,
        ],
        ("", "namespaces") => vec![col("Status", |o| text(o, "/status/phase").into()), AGE],
        ("", "nodes") => vec![
            col("Status", |o| node_status(o).into()),
            col("Roles", roles),
            AGE,
            col("Version", |o| text(o, "/status/nodeInfo/kubeletVersion").into()),
            wide("Internal-IP", |o| none(text(o, "/status/addresses/0/address"))),
            wide("External-IP", |_| "<none>".into()),
            wide("OS-Image", |o| text(o, "/status/nodeInfo/osImage").into()),
            wide("Kernel-Version", |o| text(o, "/status/nodeInfo/kernelVersion").into()),
            wide("Container-Runtime", |o| text(o, "/status/nodeInfo/containerRuntimeVersion").into()),
        ],
        ("", "services") => vec![
            col("Type", |o| text(o, "/spec/type").into()),
            col("Cluster-IP", |o| none(text(o, "/spec/clusterIP"))),
            col("External-IP", |o| match text(o, "/spec/type") {
                "LoadBalancer" => "<pending>".into(),
                _ => none(text(o, "/spec/externalName")),
            }),
            col("Port(s)", |o| none(&join(items(o, "/spec/ports"), service_port))),
            AGE,
            wide("Selector", |o| labels(map(o, "/spec/selector"))),
        ],
        ("", "endpoints") => vec![
            col("Endpoints", |o| {
                let subset = |s: &Value| {
                    let port = int(s, "/ports/0/port").unwrap_or_default();
                    join(items(s, "/addresses"), |a| format!("{}:{port}", text(a, "/ip")))
                };
                none(&join(items(o, "/subsets"), subset))
            }),
            AGE,
        ],
        ("", "events") => vec![
            col("Last Seen", |o| age(text(o, "/lastTimestamp")).into()),
            col("Type", |o| text(o, "/type").into()),
            col("Reason", |o| text(o, "/reason").into()),
            col("Object", |o| {
                let kind = text(o, "/involvedObject/kind").to_lowercase();
                format!("{kind}/{}", text(o, "/involvedObject/name")).into()
            }),
            wide("Subobject", |o| text(o, "/involvedObject/fieldPath").into()),
            wide("Source", |o| text(o, "/source/component").into()),
            col("Message", |o| text(o, "/message").into()),
            wide("First Seen", |o| age(text(o, "/firstTimestamp")).into()),
            wide("Count", |o| int(o, "/count").unwrap_or(1).to_string().into()),
            wide("Name", |o| text(o, "/metadata/name").into()),
        ],
        ("", "serviceaccounts") => vec![col("Secrets", |o| items(o, "/secrets").len().into()), AGE],
        ("", "persistentvolumes") => vec![
            col("Capacity", |o| text(o, "/spec/capacity/storage").into()),
            col("Access Modes", modes),
            col("Reclaim Policy", |o| text(o, "/spec/persistentVolumeReclaimPolicy").into()),
            col("Status", |o| text(o, "/status/phase").into()),
            col("Claim", |o| match text(o, "/spec/claimRef/name") {
                "" => "".into(),
                name => format!("{}/{name}", text(o, "/spec/claimRef/namespace")).into(),
            }),
            col("StorageClass", |o| text(o, "/spec/storageClassName").into()),
            AGE,
        ],
        ("", "persistentvolumeclaims") => vec![
            col("Status", |o| text(o, "/status/phase").into()),
            col("Volume", |o| text(o, "/spec/volumeName").into()),
            col("Capacity", |o| text(o, "/status/capacity/storage").into()),
            col("Access Modes", modes),
            col("StorageClass", |o| text(o, "/spec/storageClassName").into()),
            AGE,
        ],
        ("apps", "deployments") => vec![
            col("Ready", ready),
            col("Up-to-date", |o| count(o, "/status/updatedReplicas")),
            col("Available", |o| count(o, "/status/availableReplicas")),
            AGE,
            wide("Containers", |o| containers(o, "/name")),
            wide("Images", |o| containers(o, "/image")),
            wide("Selector", |o| labels(map(o, "/spec/selector/matchLabels"))),
        ],
        ("apps", "replicasets") | ("", "replicationcontrollers") => vec![
            col("Desired", |o| count(o, "/spec/replicas")),
            col("Current", |o| count(o, "/status/replicas")),
            col("Ready", |o| count(o, "/status/readyReplicas")),
            AGE,
            wide("Containers", |o| containers(o, "/name")),
            wide("Images", |o| containers(o, "/image")),
            wide("Selector", |o| {
                labels(map(o, "/spec/selector/matchLabels").or_else(|| map(o, "/spec/selector")))
            }),
        ],
        ("apps", "statefulsets") => vec![
            col("Ready", ready),
            AGE,
            wide("Containers", |o| containers(o, "/name")),
            wide("Images", |o| containers(o, "/image")),
        ],
        ("apps", "daemonsets") => vec![
            col("Desired", |o| count(o, "/status/desiredNumberScheduled")),
            col("Current", |o| count(o, "/status/currentNumberScheduled")),
            col("Ready", |o| count(o, "/status/numberReady")),
            col("Up-to-date", |o| count(o, "/status/updatedNumberScheduled")),
            col("Available", |o| count(o, "/status/numberAvailable")),
            col("Node Selector", |o| labels(map(o, "/spec/template/spec/nodeSelector"))),
            AGE,
            wide("Containers", |o| containers(o, "/name")),
            wide("Images", |o| containers(o, "/image")),
            wide("Selector", |o| labels(map(o, "/spec/selector/matchLabels"))),
        ],
        ("batch", "jobs") => vec![
            col("Status", |o| {
                let done = items(o, "/status/conditions").iter().any(|c| text(c, "/type") == "Complete");
                let suspended = o.pointer("/spec/suspend") == Some(&Value::Bool(true));
                if done {
                    "Complete"
                } else if suspended {
                    "Suspended"
                } else {
                    "Running"
                }
                .into()
            }),
            col("Completions", |o| {
                let wanted = int(o, "/spec/completions").unwrap_or(1);
                format!("{}/{wanted}", int(o, "/status/succeeded").unwrap_or_default()).into()
            }),
            col("Duration", |o| {
                between(text(o, "/status/startTime"), text(o, "/status/completionTime")).into()
            }),
            AGE,
            wide("Containers", |o| containers(o, "/name")),
            wide("Images", |o| containers(o, "/image")),
        ],
        ("batch", "cronjobs") => vec![
            col("Schedule", |o| text(o, "/spec/schedule").into()),
            col("Timezone", |o| none(text(o, "/spec/timeZone"))),
            col("Suspend", |o| {
                if o.pointer("/spec/suspend") == Some(&Value::Bool(true)) { "True" } else { "False" }.into()
            }),
            col("Active", |o| items(o, "/status/active").len().into()),
            col("Last Schedule", |o| match text(o, "/status/lastScheduleTime") {
                "" => "<none>".into(),
                time => age(time).into(),
            }),
            AGE,
        ],
        ("autoscaling", _) => vec![
            col("Reference", |o| {
                format!("{}/{}", text(o, "/spec/scaleTargetRef/kind"), text(o, "/spec/scaleTargetRef/name"))
                    .into()
            }),
            col("Targets", |_| "<unknown>".into()),
            col("MinPods", |o| count(o, "/spec/minReplicas")),
            col("MaxPods", |o| count(o, "/spec/maxReplicas")),
            col("Replicas", |o| count(o, "/status/currentReplicas")),
            AGE,
        ],
        ("coordination.k8s.io", _) => vec![col("Holder", |o| text(o, "/spec/holderIdentity").into()), AGE],
        ("discovery.k8s.io", _) => vec![
            col("AddressType", |o| text(o, "/addressType").into()),
            col("Ports", |o| none(&join(items(o, "/ports"), |p| count(p, "/port").to_string()))),
            col("Endpoints", |o| none(&join(items(o, "/endpoints"), |e| text(e, "/addresses/0").to_owned()))),
            AGE,
        ],
        ("networking.k8s.io", "ingresses") => vec![
            col("Class", |o| none(text(o, "/spec/ingressClassName"))),
            col("Hosts", |o| {
                let host = |r: &Value| match text(r, "/host") {
                    "" => "*".to_owned(),
                    host => host.to_owned(),
                };
                match join(items(o, "/spec/rules"), host).as_str() {
                    "" => "*".into(),
                    hosts => hosts.into(),
                }
            }),
            col("Address", |_| "".into()),
            col("Ports", |o| if items(o, "/spec/tls").is_empty() { "80" } else { "80, 443" }.into()),
            AGE,
        ],
        ("networking.k8s.io", "networkpolicies") => {
            vec![col("Pod-Selector", |o| labels(map(o, "/spec/podSelector/matchLabels"))), AGE]
        }
        ("networking.k8s.io", _) => vec![col("Controller", |o| text(o, "/spec/controller").into()), AGE],
        ("policy", _) => vec![
            col("Min Available", |o| amount(o.pointer("/spec/minAvailable"))),
            col("Max Unavailable", |o| amount(o.pointer("/spec/maxUnavailable"))),
            col("Allowed Disruptions", |o| count(o, "/status/disruptionsAllowed")),
            AGE,
        ],
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => vec![
            col("Role", |o| format!("{}/{}", text(o, "/roleRef/kind"), text(o, "/roleRef/name")).into()),
            AGE,
            wide("Users", |o| subjects(o, "User")),
            wide("Groups", |o| subjects(o, "Group")),
            wide("ServiceAccounts", |o| subjects(o, "ServiceAccount")),
        ],
        ("rbac.authorization.k8s.io", _) => {
            vec![col("Created At", |o| text(o, "/metadata/creationTimestamp").into())]
        }
        ("scheduling.k8s.io", _) => vec![
            col("Value", |o| count(o, "/value")),
            col("Global-Default", |o| (o.get("globalDefault") == Some(&Value::Bool(true))).into()),
            AGE,
        ],
        ("storage.k8s.io", _) => vec![
            col("Provisioner", |o| text(o, "/provisioner").into()),
            col("ReclaimPolicy", |o| text(o, "/reclaimPolicy").into()),
            col("VolumeBindingMode", |o| text(o, "/volumeBindingMode").into()),
            col("AllowVolumeExpansion", |o| {
                (o.get("allowVolumeExpansion") == Some(&Value::Bool(true))).into()
            }),
            AGE,
        ],
        ("", "resourcequotas") => vec![
            col("Request", |o| {
                let used = |k: &str| text(o, &format!("/status/used/{}", k.replace('/', "~1"))).to_owned();
                let hard = map(o, "/spec/hard").into_iter().flatten();
                let each = hard.map(|(k, v)| format!("{k}: {}/{}", used(k), v.as_str().unwrap_or_default()));
                each.collect::<Vec<_>>().join(", ").into()
            }),
            AGE,
        ],
        ("", "limitranges") | ("apiextensions.k8s.io", _) => {
            vec![col("Created At", |o| text(o, "/metadata/creationTimestamp").into())]
        }
        _ => vec![AGE],
    }
}

const AGE: Column = col("Age", |o| age(text(o, "/metadata/creationTimestamp")).into());

fn none(text: &str) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

fn count(object: &Value, at: &str) -> Value {
    int(object, at).unwrap_or_default().into()
}

fn amount(value: Option<&Value>) -> Value {
    match value {
        Some(Value::String(s)) => s.as_str().into(),
        Some(number) => number.to_string().into(),
        None => "N/A".into(),
    }
}

fn join(items: &[Value], each: impl Fn(&Value) -> String) -> String {
    items.iter().map(each).filter(|s| !s.is_empty()).collect::<Vec<_>>().join(",")
}

fn labels(map: Option<&serde_json::Map<String, Value>>) -> Value {
    let each = map.into_iter().flatten().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()));
    none(&each.collect::<Vec<_>>().join(","))
}

fn ready(object: &Value) -> Value {
    let number = |at| int(object, at).unwrap_or_default();
    format!("{}/{}", number("/status/readyReplicas"), number("/spec/replicas")).into()
}

fn containers(object: &Value, field: &str) -> Value {
    join(items(object, "/spec/template/spec/containers"), |c| text(c, field).to_owned()).into()
}

fn subjects(object: &Value, kind: &str) -> Value {
    let name = |s: &Value| match (text(s, "/kind") == kind, text(s, "/namespace")) {
        (false, _) => String::new(),
        (true, "") => text(s, "/name").to_owned(),
        (true, namespace) => format!("{namespace}/{}", text(s, "/name")),
    };
    join(items(object, "/subjects"), name).into()
}

fn service_port(port: &Value) -> String {
    let (number, protocol) = (int(port, "/port").unwrap_or_default(), text(port, "/protocol"));
    match int(port, "/nodePort") {
        Some(node) => format!("{number}:{node}/{protocol}"),
        None => format!("{number}/{protocol}"),
    }
}

fn modes(object: &Value) -> Value {
    let short = |m: &Value| match m.as_str().unwrap_or_default() {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    join(items(object, "/spec/accessModes"), |m| short(m).to_owned()).into()
}

fn pod_status(pod: &Value) -> String {
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        return "Terminating".into();
    }
    let reason = text(pod, "/status/reason");
    if !reason.is_empty() {
        return reason.to_owned();
    }
    match text(pod, "/status/phase") {
        "Succeeded" => "Completed".into(),
        "Pending" if !text(pod, "/spec/nodeName").is_empty() => "ContainerCreating".into(),
        phase => phase.to_owned(),
    }
}

fn node_status(node: &Value) -> String {
    let conditions = items(node, "/status/conditions");
    let ready = conditions.iter().any(|c| text(c, "/type") == "Ready" && text(c, "/status") == "True");
    let cordoned = node.pointer("/spec/unschedulable") == Some(&Value::Bool(true));
    format!(
        "{}{}",
        if ready { "Ready" } else { "NotReady" },
        if cordoned { ",SchedulingDisabled" } else { "" }
    )
}

fn roles(node: &Value) -> Value {
    let labels = map(node, "/metadata/labels").into_iter().flatten();
    let roles = labels.filter_map(|(k, _)| k.strip_prefix("node-role.kubernetes.io/"));
    none(&roles.collect::<Vec<_>>().join(","))
}

fn age(since: &str) -> String {
    match since.parse::<Timestamp>() {
        Ok(since) => human(Timestamp::now().as_second() - since.as_second()),
        Err(_) => "<unknown>".into(),
    }
}

fn between(from: &str, to: &str) -> String {
    match (from.parse::<Timestamp>(), to.parse::<Timestamp>()) {
        (Ok(from), Ok(to)) => human(to.as_second() - from.as_second()),
        (Ok(_), Err(_)) => age(from),
        _ => String::new(),
    }
}

/// Seconds as kubectl shows them: two units while the larger one is small.
fn human(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let two = |a: i64, unit: char, b: i64, below: char| match b {
        0 => format!("{a}{unit}"),
        b => format!("{a}{unit}{b}{below}"),
    };
    match seconds {
        ..0 => "<invalid>".into(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        691_200..63_072_000 => format!("{days}d"),
        _ => two(days / 365, 'y', days % 365, 'd'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::kinds::KINDS;

    #[test]
    fn ages() {
        let rows = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (3600, "60m"),
            (11_000, "3h3m"),
            (90_000, "25h"),
            (700_000, "8d"),
        ];
        for (seconds, expected) in rows {
            assert_eq!(human(seconds), expected);
        }
    }

    #[test]
    fn every_kind_has_as_many_cells_as_columns() {
        for kind in KINDS {
            let row = row(kind, &json!({"metadata": {"name": "x"}}), Include::None);
            assert_eq!(
                items(&row, "/cells").len(),
                definitions(kind).as_array().unwrap().len(),
                "{}",
                kind.kind
            );
            assert_eq!(row.get("object"), None);
        }
    }

    #[test]
    fn a_pod_in_a_row() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{}, {}], "nodeName": "n"},
            "status": {"phase": "Running", "containerStatuses": [{"ready": true, "restartCount": 2}, {"ready": false}]}});
        let pods = KINDS.iter().find(|k| k.plural == "pods").unwrap();
        let row = row(pods, &pod, Include::Metadata);
        let cells: Vec<&str> = items(&row, "/cells").iter().map(|c| c.as_str().unwrap()).collect();
        assert_eq!(cells, ["p", "1/2", "Running", "2", "<unknown>", "<none>", "n", "<none>", "<none>"]);
        assert_eq!(text(&row, "/object/kind"), "PartialObjectMetadata");
    }
}
