//! Changing the store as the API's verbs do: create, update, delete, with everything the server adds or insists on.

use super::{
    admit,
    answer::Failure,
    apply::{self, Manager},
    custom,
    kinds::{Kind, Target},
    schema::{self, Spot},
    store::State,
    value::{self, default, int, items, remove, same, set, text},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// Who writes, and whether for real.
#[derive(Debug, Clone)]
pub(super) struct Write {
    /// Field manager.
    pub manager: String,
    /// `dryRun=All`: everything but the storing.
    pub dry_run: bool,
}

/// How to delete.
#[derive(Debug, Clone, Default)]
pub(super) struct Delete {
    /// Must be the object's UID.
    pub uid: Option<String>,
    /// Must be the object's version.
    pub version: Option<String>,
    /// Seconds; zero is at once.
    pub grace: Option<i64>,
    /// What becomes of dependents.
    pub propagation: Propagation,
    /// Nothing is stored.
    pub dry_run: bool,
}

/// What becomes of the objects that a deleted one owns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Propagation {
    /// Deleted afterwards.
    #[default]
    Background,
    /// Deleted before.
    Foreground,
    /// Left alone.
    Orphan,
}

/// The plural of definitions.
const CUSTOM: &str = "customresourcedefinitions";

/// Finalizer of objects that wait for their dependents.
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// The schema spot of a kind.
pub(super) fn spot(kind: &Kind) -> Spot {
    if let Some(version) = kind.custom {
        return version.form.spot();
    }
    schema::kind(kind.group, kind.version, kind.kind).map_or_else(Spot::unknown, schema::Type::spot)
}

/// RFC 3339, whole seconds, UTC.
pub(super) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A random version 4 UUID.
pub(super) fn uid() -> String {
    let mut bytes = [0u8; 16];
    // Only the operating system's failure to give randomness fails this; a zero UID harms no demo.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    let n = (u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{n:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// `n` characters as generated names end with.
pub(super) fn suffix(n: usize) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut bytes = vec![0u8; n];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    let pick = |b: u8| ALPHABET.get(usize::from(b) % ALPHABET.len()).copied().unwrap_or(b'x');
    bytes.into_iter().map(|b| char::from(pick(b))).collect()
}

/// The table as its own kind writes it.
pub(super) fn own(state: &State, at: usize) -> Result<Target, Failure> {
    state.kind(at).map(|kind| Target { at, kind }).ok_or_else(Failure::no_route)
}

/// Stores an object in the version that its table is in.
fn put(state: &mut State, of: Target, mut object: Value) -> Arc<Value> {
    if let Some(version) = of.kind.custom {
        set(&mut object, "/apiVersion", version.stored.as_str());
    }
    state.put(of.at, object)
}

fn invalid(kind: &Kind, name: &str, causes: &[super::answer::Cause]) -> Result<(), Failure> {
    if causes.is_empty() { Ok(()) } else { Err(Failure::invalid(kind.group, kind.kind, name, causes)) }
}

/// Gives a new object what only the server can give: identity, defaults, a first generation. Then looks at it.
fn prepare(state: &mut State, kind: &Kind, namespace: &str, object: &mut Value) -> Result<(), Failure> {
    // In the order in which Kubernetes writes them.
    let mut first = json!({"kind": kind.kind, "apiVersion": kind.api_version()});
    value::object(object).retain(|key, _| key != "kind" && key != "apiVersion");
    value::object(&mut first).append(value::object(object));
    *object = first;
    for server_side in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
        remove(object, &format!("/metadata/{server_side}"));
    }
    if kind.namespaced {
        set(object, "/metadata/namespace", namespace);
    } else {
        remove(object, "/metadata/namespace");
    }
    let prefix = text(object, "/metadata/generateName").to_owned();
    if text(object, "/metadata/name").is_empty() && !prefix.is_empty() {
        let prefix: String = prefix.chars().take(58).collect();
        set(object, "/metadata/name", format!("{prefix}{}", suffix(5)));
    }
    set(object, "/metadata/uid", uid());
    set(object, "/metadata/creationTimestamp", now());
    if (object.get("spec").is_some() && kind.plural != "nodes") || kind.custom.is_some() {
        set(object, "/metadata/generation", 1);
    }
    if kind.has_status() && !matches!(kind.plural, "nodes" | "persistentvolumes") {
        remove(object, "/status");
    }
    admit::defaults(kind, object);
    if kind.is("", "services") {
        address(state, object);
    }
    invalid(kind, text(object, "/metadata/name"), &admit::validate(kind, object))
}

/// Gives a service its address and its node ports.
fn address(state: &mut State, service: &mut Value) {
    let sort = text(service, "/spec/type").to_owned();
    if sort == "ExternalName" {
        return;
    }
    if text(service, "/spec/clusterIP").is_empty() {
        state.addresses.1 += 1;
        let n = state.addresses.1;
        set(service, "/spec/clusterIP", format!("10.96.{}.{}", n / 250, n % 250 + 1));
    }
    let ip = text(service, "/spec/clusterIP").to_owned();
    default(service, "/spec/clusterIPs", json!([ip]));
    if matches!(sort.as_str(), "NodePort" | "LoadBalancer") {
        for port in service.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
            if int(port, "/nodePort").is_none() {
                state.addresses.1 += 1;
                set(port, "/nodePort", 30000 + state.addresses.1);
            }
        }
    }
}

fn check_namespace(state: &State, kind: &Kind, namespace: &str, name: &str) -> Result<(), Failure> {
    if !kind.namespaced {
        return Ok(());
    }
    let namespaces = super::kinds::by_plural("", "namespaces").unwrap_or_default();
    let found = state.get(namespaces, "", namespace).ok_or_else(|| {
        Failure::not_found(super::answer::GroupResource { group: "", resource: "namespaces" }, namespace)
    })?;
    if found.pointer("/metadata/deletionTimestamp").is_some() {
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut failure = Failure::forbidden(kind.resource(), name, &why);
        if let Some(details) = &mut failure.details {
            let message = format!("namespace {namespace} is being terminated");
            let cause =
                json!({"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"});
            set(details, "/causes", json!([cause]));
        }
        return Err(failure);
    }
    Ok(())
}

/// Creates an object.
pub(super) fn create(
    state: &mut State,
    of: Target,
    namespace: &str,
    mut object: Value,
    by: &Write,
) -> Result<Arc<Value>, Failure> {
    let Target { at, kind } = of;
    prepare(state, kind, namespace, &mut object)?;
    let name = text(&object, "/metadata/name").to_owned();
    check_namespace(state, kind, namespace, &name)?;
    let namespace = if kind.namespaced { namespace } else { "" };
    if state.get(at, namespace, &name).is_some() {
        return Err(Failure::already_exists(kind.resource(), &name));
    }
    if items(&object, "/metadata/managedFields").iter().all(|e| text(e, "/operation") != "Apply") {
        remove(&mut object, "/metadata/managedFields");
        let (api_version, now) = (kind.api_version(), now());
        let manager = Manager { name: &by.manager, api_version: &api_version, sub: "", now: &now };
        apply::track_update(None, &mut object, spot(kind), &manager);
    }
    Ok(if by.dry_run { Arc::new(object) } else { put(state, of, object) })
}

/// Finds an object or says that it is not there.
pub(super) fn find(state: &State, at: usize, namespace: &str, name: &str) -> Result<Arc<Value>, Failure> {
    state.get(at, namespace, name).ok_or_else(|| match own(state, at) {
        Ok(of) => Failure::not_found(of.kind.resource(), name),
        Err(failure) => failure,
    })
}

/// Replaces an object, or with `sub` = `status` its status alone.
pub(super) fn update(
    state: &mut State,
    of: Target,
    sub: &str,
    namespace: &str,
    name: &str,
    new: Value,
    by: &Write,
) -> Result<Arc<Value>, Failure> {
    replace(state, (of, sub), (namespace, name), new, None, by)
}

/// An update whose ownership of fields is noted here, or decided already.
fn replace(
    state: &mut State,
    (of, sub): (Target, &str),
    (namespace, name): (&str, &str),
    mut new: Value,
    ownership: Option<Value>,
    by: &Write,
) -> Result<Arc<Value>, Failure> {
    let Target { at, kind } = of;
    let stored = find(state, at, namespace, name)?;
    let old = custom::shown(kind, &stored);
    let version = text(&new, "/metadata/resourceVersion");
    if !version.is_empty() && version.parse::<u64>().is_err() {
        let why = format!("strconv.ParseUint: parsing {version:?}: invalid syntax");
        return Err(Failure::new(500, "", why));
    }
    if !version.is_empty() && version != text(&old, "/metadata/resourceVersion") {
        return Err(Failure::modified(kind.resource(), name));
    }
    if version.is_empty() && needs_version(kind) {
        let why = "must be specified for an update";
        let cause = super::answer::Cause::invalid("metadata.resourceVersion", "0", why);
        return Err(Failure::invalid(kind.group, kind.plural, name, &[cause]));
    }
    let uid = text(&new, "/metadata/uid");
    if !uid.is_empty() && uid != text(&old, "/metadata/uid") {
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: /{}/{namespace}/{name}, ResourceVersion: 0, AdditionalErrorMsg: \
             Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            kind.plural,
            text(&old, "/metadata/uid")
        );
        return Err(Failure::conflict(kind.resource(), name, &why));
    }
    set(&mut new, "/apiVersion", kind.api_version());
    set(&mut new, "/kind", kind.kind);
    keep(&old, &mut new, kind, sub);
    admit::defaults(kind, &mut new);
    if kind.is("", "services") {
        if let Some(ip) = old.pointer("/spec/clusterIP") {
            default(&mut new, "/spec/clusterIP", ip.clone());
        }
        address(state, &mut new);
    }
    let changed = match kind.custom {
        None => !same(old.get("spec"), new.get("spec")),
        Some(_) => wanted(kind, &old) != wanted(kind, &new),
    };
    if changed && let Some(generation) = int(&old, "/metadata/generation") {
        set(&mut new, "/metadata/generation", generation + 1);
    }
    let mut causes = admit::validate(kind, &new);
    causes.extend(admit::validate_update(kind, &old, &new));
    invalid(kind, name, &causes)?;

    match ownership {
        Some(fields) => set(&mut new, "/metadata/managedFields", fields),
        None => {
            let (api_version, now) = (kind.api_version(), now());
            let manager = Manager { name: &by.manager, api_version: &api_version, sub, now: &now };
            apply::track_update(Some(&old), &mut new, spot(kind), &manager);
        }
    }
    if same(Some(&timeless(&old)), Some(&timeless(&new))) {
        return Ok(stored);
    }
    if let (false, Some(version)) = (by.dry_run, kind.custom) {
        set(&mut new, "/apiVersion", version.stored.as_str());
    }
    Ok(if by.dry_run { Arc::new(new) } else { settle_finalizers(state, at, new) })
}

/// Whether an update must say which version it is of.
fn needs_version(kind: &Kind) -> bool {
    kind.custom.is_some()
        || matches!(kind.plural, "leases" | "poddisruptionbudgets" | "customresourcedefinitions")
}

/// What of a custom resource counts as its generation: all but its metadata and a status that is written apart.
fn wanted(kind: &Kind, object: &Value) -> Value {
    let mut wanted = object.clone();
    remove(&mut wanted, "/metadata");
    if kind.has_status() {
        remove(&mut wanted, "/status");
    }
    wanted
}

/// Server-side apply: creates (true) or changes.
pub(super) fn apply(
    state: &mut State,
    (of, sub): (Target, &str),
    (namespace, name): (&str, &str),
    applied: &Value,
    force: bool,
    by: &Write,
) -> Result<(Arc<Value>, bool), Failure> {
    let Target { at, kind } = of;
    let live = state.get(at, if kind.namespaced { namespace } else { "" }, name);
    let live = live.map(|live| custom::shown(kind, &live).into_owned());
    if live.is_none() && (!text(applied, "/metadata/uid").is_empty() || !sub.is_empty()) {
        return Err(Failure::not_found(kind.resource(), name));
    }
    let (api_version, now) = (kind.api_version(), now());
    let manager = Manager { name: &by.manager, api_version: &api_version, sub, now: &now };
    let merged = apply::apply(live.as_ref(), applied, spot(kind), &manager, force)?;
    if live.is_none() {
        return create(state, of, namespace, merged, by).map(|o| (o, true));
    }
    let fields = merged.pointer("/metadata/managedFields").cloned().unwrap_or_default();
    replace(state, (of, sub), (namespace, name), merged, Some(fields), by).map(|o| (o, false))
}

/// The object without what changes by itself.
fn timeless(object: &Value) -> Value {
    let mut bare = object.clone();
    remove(&mut bare, "/metadata/resourceVersion");
    if let Some(entries) = bare.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut) {
        for entry in entries {
            remove(entry, "/time");
        }
    }
    bare
}

/// Carries over what a client cannot change.
fn keep(old: &Value, new: &mut Value, kind: &Kind, sub: &str) {
    match sub {
        "status" => {
            let status = new.get("status").cloned().unwrap_or_default();
            let fields = new.pointer("/metadata/managedFields").cloned();
            *new = old.clone();
            set(new, "/status", status);
            if let Some(fields) = fields {
                set(new, "/metadata/managedFields", fields);
            }
        }
        _ if kind.has_status() => match old.get("status") {
            Some(status) => set(new, "/status", status.clone()),
            None => drop(remove(new, "/status")),
        },
        _ => {}
    }
    for fixed in [
        "name",
        "namespace",
        "generateName",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let path = format!("/metadata/{fixed}");
        match old.pointer(&path) {
            Some(was) => set(new, &path, was.clone()),
            None => drop(remove(new, &path)),
        }
    }
}

/// Stores a changed object, unless it was only waiting for its last finalizer.
pub(super) fn settle_finalizers(state: &mut State, at: usize, new: Value) -> Arc<Value> {
    let waits = new.pointer("/metadata/deletionTimestamp").is_some()
        && items(&new, "/metadata/finalizers").is_empty()
        && state.kind(at).is_some_and(|k| !k.is("", "pods") && !k.is("", "namespaces"));
    let stored = state.put(at, new);
    if waits {
        let (namespace, name) = super::store::key_of(&stored);
        state.remove(at, &namespace, &name);
    }
    stored
}

/// Deletes an object. True: it is gone; false: it goes when its finalizers or its pod let it.
pub(super) fn delete(
    state: &mut State,
    at: usize,
    namespace: &str,
    name: &str,
    how: &Delete,
) -> Result<(Arc<Value>, bool), Failure> {
    let kind = own(state, at)?.kind;
    let object = find(state, at, namespace, name)?;
    for (what, wanted, pointer) in
        [("UID", &how.uid, "/metadata/uid"), ("ResourceVersion", &how.version, "/metadata/resourceVersion")]
    {
        let have = text(&object, pointer);
        if let Some(wanted) = wanted.as_deref().filter(|w| *w != have) {
            let fate = if what == "UID" { "deleted and then recreated" } else { "modified" };
            let why = format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record ({have}). The object might \
                 have been {fate}"
            );
            let named = super::answer::GroupResource { group: kind.group, resource: kind.kind };
            return Err(Failure::conflict(named, name, &why));
        }
    }
    if kind.is("", "namespaces") && matches!(name, "default" | "kube-system") {
        return Err(Failure::forbidden(kind.resource(), name, "this namespace may not be deleted"));
    }
    if how.dry_run {
        return Ok((object, true));
    }
    if how.propagation == Propagation::Orphan {
        orphan(state, text(&object, "/metadata/uid"));
    }
    let mut going = Value::clone(&object);
    if kind.plural == CUSTOM {
        custom::linger(&mut going);
    }
    if how.propagation == Propagation::Foreground && !kind.is("", "pods") {
        let mut finalizers = items(&going, "/metadata/finalizers").to_vec();
        if !finalizers.iter().any(|f| f == FOREGROUND) {
            finalizers.push(FOREGROUND.into());
        }
        set(&mut going, "/metadata/finalizers", finalizers);
    }
    let grace = if kind.is("", "pods") {
        how.grace.unwrap_or_else(|| int(&going, "/spec/terminationGracePeriodSeconds").unwrap_or(30))
    } else {
        0
    };
    let lingers = !items(&going, "/metadata/finalizers").is_empty() || grace > 0 || kind.is("", "namespaces");
    if !lingers {
        let gone = state.remove(at, namespace, name);
        return Ok((gone.unwrap_or(object), true));
    }
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        // Asked again: nothing new, but whoever waits looks once more.
        state.pending.push_back((at, object.clone()));
        return Ok((object, false));
    }
    set(&mut going, "/metadata/deletionTimestamp", now());
    if kind.plural != CUSTOM {
        set(&mut going, "/metadata/deletionGracePeriodSeconds", grace);
    }
    if kind.is("", "namespaces") {
        set(&mut going, "/status/phase", "Terminating");
    }
    Ok((state.put(at, going), false))
}

/// Takes an owner out of its dependents' references.
fn orphan(state: &mut State, owner: &str) {
    for (at, dependent) in dependents(state, owner) {
        let mut freed = Value::clone(&dependent);
        if let Some(owners) = freed.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut) {
            owners.retain(|o| value::text(o, "/uid") != owner);
        }
        state.put(at, freed);
    }
}

/// Everything that refers to an owner.
pub(super) fn dependents(state: &State, owner: &str) -> Vec<(usize, Arc<Value>)> {
    let refers = |o: &Value| items(o, "/metadata/ownerReferences").iter().any(|r| text(r, "/uid") == owner);
    let of = |at| state.objects(at).filter(move |(_, o)| refers(o)).map(move |(_, o)| (at, o.clone()));
    (0..state.served().tables()).flat_map(of).collect()
}
