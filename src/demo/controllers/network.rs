//! What follows from pods: the addresses behind services, and how many pods may be missing.

use super::{create, find, is_ready, put_status};
use crate::demo::{
    selector::label_selector,
    store::State,
    value::{int, items, map, same, set, text},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// Keeps Endpoints and EndpointSlices of a namespace's services.
pub(super) fn endpoints(state: &mut State, namespace: &str) {
    let services: Vec<Arc<Value>> =
        state.range(find("", "services"), namespace, None).map(|(_, s)| s.clone()).collect();
    for service in services {
        let Some(wanted) = map(&service, "/spec/selector").filter(|s| !s.is_empty()) else { continue };
        let selector = json!({"matchLabels": wanted});
        let pods: Vec<Arc<Value>> = state
            .range(find("", "pods"), namespace, None)
            .map(|(_, p)| p.clone())
            .filter(|p| label_selector(&selector, p) && is_ready(p))
            .collect();
        let name = text(&service, "/metadata/name");
        let target = |p: &Value| {
            json!({"kind": "Pod", "namespace": namespace, "name": text(p, "/metadata/name"),
                "uid": text(p, "/metadata/uid")})
        };
        let ports: Vec<Value> = items(&service, "/spec/ports")
            .iter()
            .map(|p| endpoint_port(p, pods.first().map(|p| &**p)))
            .collect();
        let addresses: Vec<Value> = pods
            .iter()
            .map(|p| json!({"ip": text(p, "/status/podIP"), "nodeName": text(p, "/spec/nodeName"), "targetRef": target(p)}))
            .collect();
        let subsets =
            if addresses.is_empty() { json!([]) } else { json!([{"addresses": addresses, "ports": ports}]) };
        let endpoints = json!({"metadata": {"name": name}, "subsets": subsets});
        let each: Vec<Value> = pods
            .iter()
            .map(|p| {
                json!({"addresses": [text(p, "/status/podIP")], "nodeName": text(p, "/spec/nodeName"),
                    "conditions": {"ready": true, "serving": true, "terminating": false}, "targetRef": target(p)})
            })
            .collect();
        let slice = json!({"metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "endpoints": each, "ports": ports});
        for (at, fields, object) in [
            (find("", "endpoints"), &["subsets"][..], endpoints),
            (find("discovery.k8s.io", "endpointslices"), &["endpoints", "ports"][..], slice),
        ] {
            match state.get(at, namespace, name) {
                Some(live) if fields.iter().all(|f| same(live.get(f), object.get(f))) => {}
                Some(live) => {
                    let mut changed = Value::clone(&live);
                    for field in fields {
                        set(
                            &mut changed,
                            &format!("/{field}"),
                            object.get(field).cloned().unwrap_or_default(),
                        );
                    }
                    state.put(at, changed);
                }
                None => drop(create(state, at, namespace, object)),
            }
        }
    }
}

fn endpoint_port(port: &Value, pod: Option<&Value>) -> Value {
    let target = port.get("targetPort");
    let named = target.and_then(Value::as_str).and_then(|name| {
        let containers = pod.map_or(&[][..], |p| items(p, "/spec/containers"));
        let ports = containers.iter().flat_map(|c| items(c, "/ports"));
        ports.into_iter().find(|p| text(p, "/name") == name).and_then(|p| p.get("containerPort").cloned())
    });
    let number =
        named.or_else(|| target.filter(|t| t.is_i64()).cloned()).or_else(|| port.get("port").cloned());
    let mut out = json!({"port": number, "protocol": port.get("protocol").cloned().unwrap_or("TCP".into())});
    if let Some(name) = port.get("name") {
        set(&mut out, "/name", name.clone());
    }
    out
}

/// Keeps the status of a namespace's disruption budgets.
pub(super) fn budgets(state: &mut State, namespace: &str) {
    let at = find("policy", "poddisruptionbudgets");
    let budgets: Vec<Arc<Value>> = state.range(at, namespace, None).map(|(_, b)| b.clone()).collect();
    for budget in budgets {
        let selector = budget.pointer("/spec/selector").cloned().unwrap_or_default();
        let pods: Vec<Arc<Value>> = state
            .range(find("", "pods"), namespace, None)
            .map(|(_, p)| p.clone())
            .filter(|p| label_selector(&selector, p))
            .collect();
        let expected = i64::try_from(pods.len()).unwrap_or_default();
        let healthy = i64::try_from(pods.iter().filter(|p| is_ready(p)).count()).unwrap_or_default();
        let amount = |v: &Value| match v.as_str().and_then(|s| s.strip_suffix('%')) {
            Some(percent) => (percent.parse::<i64>().unwrap_or_default() * expected + 99) / 100,
            None => v.as_i64().unwrap_or_default(),
        };
        let desired = match (budget.pointer("/spec/minAvailable"), budget.pointer("/spec/maxUnavailable")) {
            (Some(least), _) => amount(least),
            (None, Some(most)) => (expected - amount(most)).max(0),
            (None, None) => 0,
        };
        let status = json!({"observedGeneration": int(&budget, "/metadata/generation"), "expectedPods": expected,
            "currentHealthy": healthy, "desiredHealthy": desired, "disruptionsAllowed": (healthy - desired).max(0)});
        put_status(state, at, &budget, status);
    }
}
