//! A pod's life: it finds a node, runs, and ends.

use super::{budgets, endpoints, event, find, is_going};
use crate::demo::{
    store::{State, key_of},
    value::{int, items, map, set, text},
    write::now,
};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn node_changed(state: &mut State) {
    let at = find("", "pods");
    let waiting: Vec<Arc<Value>> =
        state.objects(at).map(|(_, p)| p.clone()).filter(|p| text(p, "/spec/nodeName").is_empty()).collect();
    state.pending.extend(waiting.into_iter().map(|p| (at, p)));
}

/// One step of a pod's life: find a node, start, end.
pub(super) fn pod(state: &mut State, at: usize, pod: &Arc<Value>) {
    let (namespace, name) = key_of(pod);
    let container = text(pod, "/spec/containers/0/name").to_owned();
    if is_going(pod) {
        if items(pod, "/metadata/finalizers").is_empty() {
            let said = format!("Stopping container {container}");
            event(state, pod, "Pod", "Normal", "Killing", &said, "kubelet");
            state.remove(at, &namespace, &name);
        }
        return;
    }
    let phase = text(pod, "/status/phase");
    if text(pod, "/spec/nodeName").is_empty() {
        return schedule(state, at, pod);
    }
    match phase {
        "Pending" => {
            let mut running = Value::clone(pod);
            start(state, &mut running);
            for (i, container) in items(pod, "/spec/containers").iter().enumerate() {
                let image = text(container, "/image");
                let name = text(container, "/name");
                let pulled = format!("Container image {image:?} already present on machine");
                event(state, pod, "Pod", "Normal", "Pulled", &pulled, "kubelet");
                event(
                    state,
                    pod,
                    "Pod",
                    "Normal",
                    "Created",
                    &format!("Created container: {name}"),
                    "kubelet",
                );
                event(
                    state,
                    pod,
                    "Pod",
                    "Normal",
                    "Started",
                    &format!("Started container {name}"),
                    "kubelet",
                );
                let status = status_of(container, pod, i);
                if let Some(all) =
                    running.pointer_mut("/status/containerStatuses").and_then(Value::as_array_mut)
                {
                    all.push(status);
                }
            }
            state.put(at, running);
            endpoints(state, &namespace);
            budgets(state, &namespace);
        }
        "Running" => {
            let owner = items(pod, "/metadata/ownerReferences").first();
            if owner.is_some_and(|o| text(o, "/kind") == "Job") {
                let mut done = Value::clone(pod);
                finish(&mut done);
                state.put(at, done);
            } else {
                restate(state, at, pod);
                endpoints(state, &namespace);
            }
        }
        _ => {}
    }
}

fn schedule(state: &mut State, at: usize, pod: &Arc<Value>) {
    let wanted = map(pod, "/spec/nodeSelector").cloned().unwrap_or_default();
    let fits = |node: &Value| {
        let labels = map(node, "/metadata/labels");
        node.pointer("/spec/unschedulable") != Some(&Value::Bool(true))
            && wanted.iter().all(|(k, v)| labels.is_some_and(|l| l.get(k) == Some(v)))
    };
    let nodes: Vec<Arc<Value>> = state.objects(find("", "nodes")).map(|(_, n)| n.clone()).collect();
    let mut changed = Value::clone(pod);
    let Some(node) = nodes.iter().find(|n| fits(n)) else {
        let said = format!("0/{} nodes are available.", nodes.len());
        let condition =
            json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said});
        if items(pod, "/status/conditions").is_empty() {
            set(&mut changed, "/status/conditions", json!([condition]));
            state.put(at, changed);
            event(state, pod, "Pod", "Warning", "FailedScheduling", &said, "default-scheduler");
        }
        return;
    };
    let node = text(node, "/metadata/name").to_owned();
    set(&mut changed, "/spec/nodeName", node.as_str());
    let condition =
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now()});
    set(&mut changed, "/status/conditions", json!([condition]));
    let (namespace, name) = key_of(pod);
    let said = format!("Successfully assigned {namespace}/{name} to {node}");
    event(state, pod, "Pod", "Normal", "Scheduled", &said, "default-scheduler");
    state.put(at, changed);
}

fn start(state: &mut State, pod: &mut Value) {
    state.addresses.0 += 1;
    let n = state.addresses.0;
    let ip = format!("10.244.{}.{}", n / 250, n % 250 + 2);
    let time = now();
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": time});
    let conditions: Vec<Value> =
        ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
            .map(condition)
            .into();
    set(pod, "/status/phase", "Running");
    set(pod, "/status/conditions", conditions);
    set(pod, "/status/hostIP", "192.0.2.10");
    set(pod, "/status/hostIPs", json!([{"ip": "192.0.2.10"}]));
    set(pod, "/status/podIP", ip.as_str());
    set(pod, "/status/podIPs", json!([{"ip": ip}]));
    set(pod, "/status/startTime", time);
    set(pod, "/status/containerStatuses", json!([]));
}

fn status_of(container: &Value, pod: &Value, i: usize) -> Value {
    let image = text(container, "/image");
    let id = format!("{}{i}", text(pod, "/metadata/uid").replace('-', ""));
    json!({"name": text(container, "/name"), "image": image, "imageID": format!("{image}@sha256:{id:0>64}"),
        "containerID": format!("containerd://{id:0>64}"), "ready": true, "started": true, "restartCount": 0,
        "state": {"running": {"startedAt": now()}}, "lastState": {}})
}

/// A running pod's containers follow the images that its spec was changed to.
fn restate(state: &mut State, at: usize, pod: &Value) {
    let images: Vec<&str> = items(pod, "/spec/containers").iter().map(|c| text(c, "/image")).collect();
    let mut changed = pod.clone();
    let mut any = false;
    let statuses = changed.pointer_mut("/status/containerStatuses").and_then(Value::as_array_mut);
    for (status, image) in statuses.into_iter().flatten().zip(images) {
        if text(status, "/image") != image {
            any = true;
            set(status, "/image", image);
            let restarts = int(status, "/restartCount").unwrap_or_default();
            set(status, "/restartCount", restarts + 1);
        }
    }
    if any {
        state.put(at, changed);
    }
}

fn finish(pod: &mut Value) {
    set(pod, "/status/phase", "Succeeded");
    let time = now();
    for condition in pod.pointer_mut("/status/conditions").and_then(Value::as_array_mut).into_iter().flatten()
    {
        if matches!(text(condition, "/type"), "Ready" | "ContainersReady") {
            set(condition, "/status", "False");
            set(condition, "/reason", "PodCompleted");
        }
    }
    for status in
        pod.pointer_mut("/status/containerStatuses").and_then(Value::as_array_mut).into_iter().flatten()
    {
        set(status, "/ready", false);
        set(status, "/started", false);
        let started = status.pointer("/state/running/startedAt").cloned().unwrap_or_default();
        let ended = json!({"exitCode": 0, "reason": "Completed", "startedAt": started, "finishedAt": time});
        set(status, "/state", json!({"terminated": ended}));
    }
}

pub(super) fn is_ready(pod: &Value) -> bool {
    !is_going(pod)
        && items(pod, "/status/conditions")
            .iter()
            .any(|c| text(c, "/type") == "Ready" && text(c, "/status") == "True")
}
