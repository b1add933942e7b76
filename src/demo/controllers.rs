//! What keeps the world going: small controllers that run to rest after every write, in a fixed order and without a clock.
//!
//! A Deployment makes a ReplicaSet, that makes pods, a pod finds its node and runs; a Job's pods succeed at once; what
//! nobody owns any more is collected; a namespace that is deleted takes everything with it.

mod network;
mod pods;
mod roles;
mod workloads;

use super::{
    answer::Failure,
    custom,
    kinds::{self, Kind},
    store::{State, key_of},
    value::{self, default, items, same, set, text},
    write::{self, Delete, FOREGROUND, Write, now},
};
use network::{budgets, endpoints};
use pods::{is_ready, node_changed, pod};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};
use workloads::{deployment, job, numbered, replicas};

/// Steps after which something must be going in circles; the rest then waits for the next write.
const STEPS: usize = 100_000;
/// Events that are kept.
const EVENTS: usize = 2000;

/// Lets every controller look at what changed until nothing changes any more.
pub(super) fn settle(state: &mut State) {
    for _ in 0..STEPS {
        let Some((at, object)) = state.pending.pop_front() else { return };
        let Some(kind) = state.kind(at) else { continue };
        let (namespace, name) = key_of(&object);
        match state.get(at, &namespace, &name) {
            Some(live) if text(&live, "/metadata/uid") == text(&object, "/metadata/uid") => {
                foreground(state, at, &live);
                match (kind.group, kind.plural) {
                    ("", "namespaces") => namespace_changed(state, &live),
                    ("", "nodes") => node_changed(state),
                    ("", "pods") => pod(state, at, &live),
                    ("", "services") => endpoints(state, &namespace),
                    ("", "replicationcontrollers") => replicas(state, at, &live),
                    ("apps", "deployments") => deployment(state, at, &live),
                    ("apps", "replicasets") => replicas(state, at, &live),
                    ("apps", "statefulsets" | "daemonsets") => numbered(state, at, &live),
                    ("batch", "jobs") => job(state, at, &live),
                    ("apiextensions.k8s.io", _) => custom::establish(state, at, &live),
                    ("rbac.authorization.k8s.io", "clusterroles") => roles::aggregate(state),
                    ("policy", "poddisruptionbudgets") => budgets(state, &namespace),
                    _ => {}
                }
            }
            _ => gone(state, kind, &object),
        }
        for owner in items(&object, "/metadata/ownerReferences") {
            wake(state, &namespace, owner);
        }
    }
}

fn find(group: &str, plural: &str) -> usize {
    kinds::by_plural(group, plural).unwrap_or_default()
}

fn create(state: &mut State, at: usize, namespace: &str, object: Value) -> Result<Arc<Value>, Failure> {
    let by = Write { manager: "kube-controller-manager".into(), dry_run: false };
    let of = write::own(state, at)?;
    write::create(state, of, namespace, object, &by)
}

/// Has the controller of an owner look again.
fn wake(state: &mut State, namespace: &str, owner: &Value) {
    let group = text(owner, "/apiVersion").split_once('/').map_or("", |(g, _)| g);
    let Some(at) = state.served().by_kind(group, text(owner, "/kind")) else { return };
    if let Some(owner) = state.get(at, namespace, text(owner, "/name")) {
        state.pending.push_back((at, owner));
    }
}

/// Changes an object's status; nothing happens when it is the same.
fn put_status(state: &mut State, at: usize, object: &Value, status: Value) {
    if !same(object.get("status"), Some(&status)) {
        let mut changed = object.clone();
        set(&mut changed, "/status", status);
        state.put(at, changed);
    }
}

fn is_going(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

// --- deletion -----------------------------------------------------------------------------------

/// An object is gone: so is what only it owned, and a namespace may have waited for it.
fn gone(state: &mut State, kind: &Kind, object: &Value) {
    let uid = text(object, "/metadata/uid");
    for (at, dependent) in write::dependents(state, uid) {
        let others = items(&dependent, "/metadata/ownerReferences").iter().any(|o| {
            let group = text(o, "/apiVersion").split_once('/').map_or("", |(g, _)| g);
            text(o, "/uid") != uid
                && state.served().by_kind(group, text(o, "/kind")).is_some_and(|owner| {
                    state
                        .get(owner, text(&dependent, "/metadata/namespace"), text(o, "/name"))
                        .is_some_and(|live| text(&live, "/metadata/uid") == text(o, "/uid"))
                })
        });
        if !others {
            let (namespace, name) = key_of(&dependent);
            let _ = write::delete(state, at, &namespace, &name, &Delete::default());
        }
    }
    let namespace = text(object, "/metadata/namespace").to_owned();
    if kind.is("", "services") {
        for (group, plural) in [("", "endpoints"), ("discovery.k8s.io", "endpointslices")] {
            state.remove(find(group, plural), &namespace, text(object, "/metadata/name"));
        }
    }
    if kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
        custom::gone(state, object);
    }
    if kind.custom.is_some() {
        custom::one_less(state, kind);
    }
    if kind.plural == "clusterroles" {
        roles::aggregate(state);
    }
    if kind.is("", "pods") {
        endpoints(state, &namespace);
        budgets(state, &namespace);
    }
    let at = find("", "namespaces");
    if let Some(parent) = state.get(at, "", &namespace).filter(|n| is_going(n)) {
        state.pending.push_back((at, parent));
    }
}

/// An object that waits for its dependents asks them to go, and goes after the last.
fn foreground(state: &mut State, at: usize, object: &Arc<Value>) {
    let waits = |o: &Value| items(o, "/metadata/finalizers").iter().any(|f| f == FOREGROUND);
    if !is_going(object) || !waits(object) {
        return;
    }
    let dependents = write::dependents(state, text(object, "/metadata/uid"));
    if dependents.is_empty() {
        let mut free = Value::clone(object);
        if let Some(finalizers) = free.pointer_mut("/metadata/finalizers").and_then(Value::as_array_mut) {
            finalizers.retain(|f| f != FOREGROUND);
        }
        write::settle_finalizers(state, at, free);
        return;
    }
    for (at, dependent) in dependents.into_iter().filter(|(_, d)| !is_going(d)) {
        let (namespace, name) = key_of(&dependent);
        let how = Delete { propagation: write::Propagation::Foreground, ..Delete::default() };
        let _ = write::delete(state, at, &namespace, &name, &how);
    }
}

fn namespace_changed(state: &mut State, namespace: &Value) {
    let name = text(namespace, "/metadata/name").to_owned();
    if !is_going(namespace) {
        let account = json!({"metadata": {"name": "default"}});
        let root = json!({"metadata": {"name": "kube-root-ca.crt", "annotations": {"kubernetes.io/description":
            "The authority that the cluster's certificates lead to."}}, "data": {"ca.crt": ""}});
        for (plural, object) in [("serviceaccounts", account), ("configmaps", root)] {
            let at = find("", plural);
            if state.get(at, &name, text(&object, "/metadata/name")).is_none() {
                let _ = create(state, at, &name, object);
            }
        }
        return;
    }
    let mut left = 0;
    for at in 0..state.served().tables() {
        let inside: Vec<_> = state.range(at, &name, None).map(|(key, _)| key.clone()).collect();
        for (_, object) in inside {
            if !state.kind(at).is_some_and(|k| k.namespaced) {
                continue;
            }
            let how = Delete { grace: Some(0), ..Delete::default() };
            left += usize::from(!matches!(write::delete(state, at, &name, &object, &how), Ok((_, true))));
        }
    }
    if left == 0 && items(namespace, "/metadata/finalizers").is_empty() {
        state.remove(find("", "namespaces"), "", &name);
    }
}

/// Writes an Event about an object.
pub(super) fn event(
    state: &mut State,
    about: &Value,
    kind: &str,
    sort: &str,
    reason: &str,
    message: &str,
    source: &str,
) {
    let at = find("", "events");
    let namespace = text(about, "/metadata/namespace");
    let namespace = if namespace.is_empty() { "default" } else { namespace };
    let time = now();
    let name = format!("{}.{:016x}", text(about, "/metadata/name"), state.version());
    let host = if source == "kubelet" { text(about, "/spec/nodeName") } else { "" };
    let mut object = json!({"metadata": {"name": name}, "involvedObject": {"kind": kind,
            "namespace": text(about, "/metadata/namespace"), "name": text(about, "/metadata/name"),
            "uid": text(about, "/metadata/uid"), "apiVersion": text(about, "/apiVersion"),
            "resourceVersion": text(about, "/metadata/resourceVersion")},
        "reason": reason, "message": message, "source": {"component": source}, "firstTimestamp": time,
        "lastTimestamp": time, "count": 1, "type": sort, "eventTime": null, "reportingComponent": source,
        "reportingInstance": host});
    if !host.is_empty() {
        set(&mut object, "/source/host", host);
    }
    default(&mut object, "/metadata/namespace", namespace);
    if create(state, at, namespace, object).is_ok() {
        let kept: BTreeSet<u64> = state
            .objects(at)
            .filter_map(|(_, e)| text(e, "/metadata/resourceVersion").parse().ok())
            .collect();
        if kept.len() > EVENTS
            && let Some(oldest) = kept.first().map(u64::to_string)
        {
            let found =
                state.objects(at).find(|(_, e)| value::text(e, "/metadata/resourceVersion") == oldest);
            if let Some((namespace, name)) = found.map(|(key, _)| key.clone()) {
                state.remove(at, &namespace, &name);
            }
        }
    }
}
