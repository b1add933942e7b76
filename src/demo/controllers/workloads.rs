//! What makes pods: Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs.

use super::{create, event, find, is_going, is_ready, put_status};
use crate::demo::{
    store::{State, key_of},
    value::{int, items, map, remove, same, set, text},
    write::{self, Delete, now},
};
use serde_json::{Value, json};
use std::sync::Arc;

fn owner_reference(kind: &str, api_version: &str, owner: &Value) -> Value {
    json!([{"apiVersion": api_version, "kind": kind, "name": text(owner, "/metadata/name"),
        "uid": text(owner, "/metadata/uid"), "controller": true, "blockOwnerDeletion": true}])
}

/// The living objects of a table that an owner controls.
fn owned(state: &State, at: usize, owner: &Value) -> Vec<Arc<Value>> {
    let uid = text(owner, "/metadata/uid");
    let mine = |o: &Value| {
        items(o, "/metadata/ownerReferences")
            .iter()
            .any(|r| text(r, "/uid") == uid && r.get("controller") == Some(&Value::Bool(true)))
    };
    let namespace = text(owner, "/metadata/namespace");
    state.range(at, namespace, None).map(|(_, o)| o.clone()).filter(|o| mine(o)).collect()
}

fn pod_from(owner: &Value, template: &Value, name: (&str, &str), labels: &[(&str, &str)]) -> Value {
    let kind = text(owner, "/kind");
    let mut pod = json!({"metadata": template.get("metadata").cloned().unwrap_or_default(),
        "spec": template.get("spec").cloned().unwrap_or_default()});
    set(&mut pod, &format!("/metadata/{}", name.0), name.1);
    for (key, value) in labels {
        set(&mut pod, &format!("/metadata/labels/{}", key.replace('/', "~1")), *value);
    }
    set(&mut pod, "/metadata/ownerReferences", owner_reference(kind, text(owner, "/apiVersion"), owner));
    remove(&mut pod, "/metadata/creationTimestamp");
    pod
}

/// Ten characters that follow from a pod template.
fn hash(template: &Value) -> String {
    // FNV-1a: short, stable, and nothing depends on its strength.
    let digest = canonical(template)
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rest = digest;
    let mut out = String::new();
    for _ in 0..9 {
        let at = usize::try_from(rest % 27).unwrap_or_default();
        out.push(ALPHABET.get(at).copied().map_or('x', char::from));
        rest /= 27;
    }
    out
}

/// JSON with sorted keys: the same template in another order is the same template.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut members: Vec<String> =
                map.iter().map(|(k, v)| format!("{k:?}:{}", canonical(v))).collect();
            members.sort_unstable();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(list) => {
            format!("[{}]", list.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        scalar => scalar.to_string(),
    }
}

pub(super) fn deployment(state: &mut State, at: usize, object: &Arc<Value>) {
    if is_going(object) {
        return;
    }
    const REVISION: &str = "/metadata/annotations/deployment.kubernetes.io~1revision";
    let sets = find("apps", "replicasets");
    let (namespace, name) = key_of(object);
    let template = object.pointer("/spec/template").cloned().unwrap_or_default();
    let wanted = int(object, "/spec/replicas").unwrap_or(1);
    let hash = hash(&template);
    let current = format!("{name}-{hash}");
    let existing = owned(state, sets, object);
    let revision_of = |o: &Value| text(o, REVISION).parse::<i64>().unwrap_or_default();
    let newest = existing.iter().map(|s| revision_of(s)).max().unwrap_or_default();
    let paused = object.pointer("/spec/paused") == Some(&Value::Bool(true));
    let mut revision = newest;

    match existing.iter().find(|s| text(s, "/metadata/name") == current) {
        _ if paused && !existing.is_empty() => {}
        Some(set_now) => {
            let mut changed = Value::clone(set_now);
            if revision_of(set_now) < newest {
                revision = newest + 1;
                set(&mut changed, REVISION, revision.to_string());
            }
            scale(state, object, sets, changed, set_now, wanted);
        }
        None if !paused => {
            revision = newest + 1;
            let mut fresh = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
                "metadata": {"name": current, "labels": map(&template, "/metadata/labels").cloned()},
                "spec": {"replicas": wanted, "selector": object.pointer("/spec/selector").cloned(), "template": template}});
            for labels in ["/metadata/labels", "/spec/selector/matchLabels", "/spec/template/metadata/labels"]
            {
                set(&mut fresh, &format!("{labels}/pod-template-hash"), hash.as_str());
            }
            set(&mut fresh, REVISION, revision.to_string());
            set(&mut fresh, "/metadata/ownerReferences", owner_reference("Deployment", "apps/v1", object));
            if create(state, sets, &namespace, fresh).is_ok() {
                let said = format!("Scaled up replica set {current} from 0 to {wanted}");
                event(
                    state,
                    object,
                    "Deployment",
                    "Normal",
                    "ScalingReplicaSet",
                    &said,
                    "deployment-controller",
                );
            }
        }
        None => {}
    }
    if !paused {
        for old in existing.iter().filter(|s| text(s, "/metadata/name") != current) {
            scale(state, object, sets, Value::clone(old), old, 0);
        }
        prune_history(state, sets, object, &existing, &current);
    }

    let mut changed = Value::clone(&state.get(at, &namespace, &name).unwrap_or_else(|| object.clone()));
    if revision > 0 {
        set(&mut changed, REVISION, revision.to_string());
    }
    let status = deployment_status(state, sets, object, &current, wanted);
    set(&mut changed, "/status", status);
    if !same(Some(&changed), Some(object)) {
        state.put(at, changed);
    }
}

fn prune_history(state: &mut State, sets: usize, object: &Value, existing: &[Arc<Value>], current: &str) {
    let limit = int(object, "/spec/revisionHistoryLimit").and_then(|l| usize::try_from(l).ok()).unwrap_or(10);
    let mut old: Vec<&Arc<Value>> =
        existing.iter().filter(|s| text(s, "/metadata/name") != current).collect();
    old.sort_by_key(|s| {
        text(s, "/metadata/annotations/deployment.kubernetes.io~1revision").parse::<i64>().unwrap_or_default()
    });
    let extra = old.len().saturating_sub(limit);
    for set in old.into_iter().take(extra) {
        let (namespace, name) = key_of(set);
        let _ = write::delete(state, sets, &namespace, &name, &Delete::default());
    }
}

fn scale(state: &mut State, owner: &Value, sets: usize, mut changed: Value, before: &Value, wanted: i64) {
    let had = int(before, "/spec/replicas").unwrap_or_default();
    if had != wanted {
        set(&mut changed, "/spec/replicas", wanted);
        let generation = int(before, "/metadata/generation").unwrap_or(1);
        set(&mut changed, "/metadata/generation", generation + 1);
        let way = if wanted > had { "up" } else { "down" };
        let said =
            format!("Scaled {way} replica set {} from {had} to {wanted}", text(before, "/metadata/name"));
        event(state, owner, "Deployment", "Normal", "ScalingReplicaSet", &said, "deployment-controller");
    }
    if !same(Some(before), Some(&changed)) {
        state.put(sets, changed);
    }
}

fn deployment_status(state: &State, sets: usize, object: &Value, current: &str, wanted: i64) -> Value {
    let all = owned(state, sets, object);
    let sum = |field: &str| all.iter().filter_map(|s| int(s, field)).sum::<i64>();
    let updated = all.iter().find(|s| text(s, "/metadata/name") == current);
    let updated = updated.and_then(|s| int(s, "/status/replicas")).unwrap_or_default();
    let (replicas, ready) = (sum("/status/replicas"), sum("/status/readyReplicas"));
    let before = items(object, "/status/conditions");
    let condition = |kind: &str, holds: bool, reason: &str, message: &str| {
        let status = if holds { "True" } else { "False" };
        let since = before
            .iter()
            .find(|c| text(c, "/type") == kind && text(c, "/status") == status)
            .map_or_else(now, |c| text(c, "/lastTransitionTime").to_owned());
        json!({"type": kind, "status": status, "lastUpdateTime": since, "lastTransitionTime": since,
            "reason": reason, "message": message})
    };
    let available = ready >= wanted;
    let complete = available && updated >= wanted && replicas == updated;
    let progress = if complete {
        ("NewReplicaSetAvailable", format!("ReplicaSet {current:?} has successfully progressed."))
    } else {
        ("ReplicaSetUpdated", format!("ReplicaSet {current:?} is progressing."))
    };
    let availability = if available {
        ("MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    let mut status = json!({"observedGeneration": int(object, "/metadata/generation"), "conditions": [
        condition("Available", available, availability.0, availability.1),
        condition("Progressing", true, progress.0, &progress.1)]});
    for (field, count) in [
        ("replicas", replicas),
        ("updatedReplicas", updated),
        ("readyReplicas", ready),
        ("availableReplicas", ready),
        ("unavailableReplicas", (wanted - ready).max(0)),
    ] {
        if count > 0 {
            set(&mut status, &format!("/{field}"), count);
        }
    }
    status
}

/// ReplicaSet and ReplicationController: as many pods as wanted.
pub(super) fn replicas(state: &mut State, at: usize, object: &Arc<Value>) {
    let (namespace, name) = key_of(object);
    let pods = find("", "pods");
    let living = |state: &State| -> Vec<Arc<Value>> {
        let ended = |p: &Value| matches!(text(p, "/status/phase"), "Succeeded" | "Failed");
        owned(state, pods, object).into_iter().filter(|p| !is_going(p) && !ended(p)).collect()
    };
    let wanted = int(object, "/spec/replicas").and_then(|n| usize::try_from(n).ok()).unwrap_or_default();
    let kind = text(object, "/kind").to_owned();
    let source = if kind == "ReplicaSet" { "replicaset-controller" } else { "replication-controller" };
    if !is_going(object) {
        let have = living(state);
        let template = object.pointer("/spec/template").cloned().unwrap_or_default();
        for _ in have.len()..wanted {
            let pod = pod_from(object, &template, ("generateName", &format!("{name}-")), &[]);
            match create(state, pods, &namespace, pod) {
                Ok(pod) => {
                    let said = format!("Created pod: {}", text(&pod, "/metadata/name"));
                    event(state, object, &kind, "Normal", "SuccessfulCreate", &said, source);
                }
                Err(failure) => {
                    let said = format!("Error creating: {}", failure.message);
                    event(state, object, &kind, "Warning", "FailedCreate", &said, source);
                    break;
                }
            }
        }
        for pod in have.iter().skip(wanted) {
            let name = text(pod, "/metadata/name");
            let said = format!("Deleted pod: {name}");
            event(state, object, &kind, "Normal", "SuccessfulDelete", &said, source);
            let _ = write::delete(state, pods, &namespace, name, &Delete::default());
        }
    }
    let have = living(state);
    let ready = have.iter().filter(|p| is_ready(p)).count();
    let mut status =
        json!({"replicas": have.len(), "observedGeneration": int(object, "/metadata/generation")});
    for (field, count) in
        [("fullyLabeledReplicas", have.len()), ("readyReplicas", ready), ("availableReplicas", ready)]
    {
        if count > 0 {
            set(&mut status, &format!("/{field}"), count);
        }
    }
    put_status(state, at, object, status);
}

/// StatefulSet (one pod for each number) and DaemonSet (one for each node).
pub(super) fn numbered(state: &mut State, at: usize, object: &Arc<Value>) {
    let (namespace, name) = key_of(object);
    let pods = find("", "pods");
    let stateful = text(object, "/kind") == "StatefulSet";
    let template = object.pointer("/spec/template").cloned().unwrap_or_default();
    let revision = hash(&template);
    let names: Vec<String> = if stateful {
        let wanted = int(object, "/spec/replicas").unwrap_or(1);
        (0..wanted).map(|i| format!("{name}-{i}")).collect()
    } else {
        state.objects(find("", "nodes")).map(|((_, node), _)| format!("{name}-{}", short(node))).collect()
    };
    if !is_going(object) {
        for pod in owned(state, pods, object).iter().filter(|p| !is_going(p)) {
            let current = text(pod, "/metadata/labels/controller-revision-hash") == revision;
            if !current || !names.iter().any(|n| n == text(pod, "/metadata/name")) {
                let _ =
                    write::delete(state, pods, &namespace, text(pod, "/metadata/name"), &Delete::default());
            }
        }
        for (i, pod) in names.iter().enumerate() {
            if state.get(pods, &namespace, pod).is_some() {
                continue;
            }
            let index = i.to_string();
            let mut labels = vec![("controller-revision-hash", revision.as_str())];
            if stateful {
                labels.push(("statefulset.kubernetes.io/pod-name", pod));
                labels.push(("apps.kubernetes.io/pod-index", &index));
            }
            let fresh = pod_from(object, &template, ("name", pod), &labels);
            let _ = create(state, pods, &namespace, fresh);
        }
    }
    let have: Vec<_> = owned(state, pods, object).into_iter().filter(|p| !is_going(p)).collect();
    let ready = have.iter().filter(|p| is_ready(p)).count();
    let generation = int(object, "/metadata/generation");
    let status = if stateful {
        let revision = format!("{name}-{revision}");
        json!({"observedGeneration": generation, "replicas": have.len(), "readyReplicas": ready,
            "currentReplicas": have.len(), "updatedReplicas": have.len(), "availableReplicas": ready,
            "currentRevision": revision, "updateRevision": revision, "collisionCount": 0})
    } else {
        json!({"observedGeneration": generation, "currentNumberScheduled": have.len(), "numberMisscheduled": 0,
            "desiredNumberScheduled": names.len(), "numberReady": ready, "updatedNumberScheduled": have.len(),
            "numberAvailable": ready})
    };
    put_status(state, at, object, status);
}

fn short(node: &str) -> String {
    hash(&Value::from(node)).chars().take(5).collect()
}

pub(super) fn job(state: &mut State, at: usize, object: &Arc<Value>) {
    let (namespace, name) = key_of(object);
    let finished = !text(object, "/status/completionTime").is_empty();
    if is_going(object) || finished || object.pointer("/spec/suspend") == Some(&Value::Bool(true)) {
        return;
    }
    let pods = find("", "pods");
    let wanted = int(object, "/spec/completions").or_else(|| int(object, "/spec/parallelism")).unwrap_or(1);
    let wanted = usize::try_from(wanted).unwrap_or_default();
    let template = object.pointer("/spec/template").cloned().unwrap_or_default();
    for _ in owned(state, pods, object).len()..wanted {
        let pod = pod_from(object, &template, ("generateName", &format!("{name}-")), &[]);
        let Ok(pod) = create(state, pods, &namespace, pod) else { break };
        let said = format!("Created pod: {}", text(&pod, "/metadata/name"));
        event(state, object, "Job", "Normal", "SuccessfulCreate", &said, "job-controller");
    }
    let have = owned(state, pods, object);
    let done = have.iter().filter(|p| text(p, "/status/phase") == "Succeeded").count();
    let since = text(object, "/status/startTime");
    let mut status = json!({"startTime": if since.is_empty() { now() } else { since.to_owned() }, "ready": 0,
        "terminating": 0, "uncountedTerminatedPods": {}});
    if have.len() > done {
        set(&mut status, "/active", have.len() - done);
    }
    if done > 0 {
        set(&mut status, "/succeeded", done);
    }
    if done >= wanted {
        let time = now();
        set(&mut status, "/completionTime", time.as_str());
        let condition = |kind: &str| {
            json!({"type": kind, "status": "True", "lastProbeTime": time, "lastTransitionTime": time,
                "reason": "CompletionsReached", "message": "Reached expected number of succeeded pods"})
        };
        set(&mut status, "/conditions", json!([condition("SuccessCriteriaMet"), condition("Complete")]));
        event(state, object, "Job", "Normal", "Completed", "Job completed", "job-controller");
    }
    put_status(state, at, object, status);
}
