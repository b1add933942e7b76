//! Field ownership: who manages which fields, and server-side apply on top of it.
//!
//! No finer than apply needs: fields are followed to the leaves that the schemas know, lists by their keys.

use super::{
    answer::Failure,
    schema::{Merge, Spot},
    value::{items, object, text},
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A set of fields, as `fieldsV1` nests it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields {
    own: bool,
    below: BTreeMap<String, Self>,
}

/// Who changes an object: what an entry of `managedFields` is found by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manager<'a> {
    /// `fieldManager`, or the start of the user agent.
    pub name: &'a str,
    /// API version of the object sent.
    pub api_version: &'a str,
    /// Empty: the object itself.
    pub sub: &'a str,
    /// RFC 3339, seconds.
    pub now: &'a str,
}

/// What identifies an object or is kept by the server: managed by nobody.
const UNMANAGED: &[&str] = &["/apiVersion", "/kind"];
const UNMANAGED_METADATA: &[&str] = &[
    "name",
    "namespace",
    "generateName",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "managedFields",
];

impl Fields {
    /// The fields of a whole object.
    pub(super) fn of_object(value: &Value, spot: Spot) -> Self {
        let mut bare = value.clone();
        for path in UNMANAGED {
            super::value::remove(&mut bare, path);
        }
        if let Some(metadata) = bare.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|k, _| !UNMANAGED_METADATA.contains(&k.as_str()));
            if metadata.is_empty() {
                super::value::remove(&mut bare, "/metadata");
            }
        }
        let mut fields = Self::of(&bare, spot);
        fields.own = false;
        fields
    }

    fn of(value: &Value, spot: Spot) -> Self {
        let mut fields = Self::default();
        match value {
            Value::Object(map) if !map.is_empty() && !spot.is_atomic(value) => {
                for (key, item) in map {
                    let spot = spot.member(key).unwrap_or_else(Spot::unknown);
                    fields.below.insert(format!("f:{key}"), Self::of(item, spot));
                }
            }
            Value::Array(list) if !list.is_empty() && !spot.is_atomic(value) => {
                for item in list {
                    let mut below =
                        if item.is_object() { Self::of(item, spot.item()) } else { Self::default() };
                    below.own = true;
                    fields.below.insert(element(item, spot.merge), below);
                }
            }
            _ => fields.own = true,
        }
        fields
    }

    /// Reads `fieldsV1`.
    pub(super) fn read(value: &Value) -> Self {
        let Value::Object(map) = value else { return Self::default() };
        let below = map.iter().filter(|(k, _)| *k != ".").map(|(k, v)| (k.clone(), Self::read(v))).collect();
        Self { own: map.is_empty() || map.contains_key("."), below }
    }

    /// Writes `fieldsV1`.
    pub(super) fn write(&self) -> Value {
        let mut map = Map::new();
        if self.own && !self.below.is_empty() {
            map.insert(".".into(), json!({}));
        }
        for (key, below) in &self.below {
            map.insert(key.clone(), below.write());
        }
        Value::Object(map)
    }

    fn is_empty(&self) -> bool {
        !self.own && self.below.is_empty()
    }

    fn union(&mut self, other: &Self) {
        self.own |= other.own;
        for (key, below) in &other.below {
            self.below.entry(key.clone()).or_default().union(below);
        }
    }

    /// Takes the fields of `other` out.
    fn subtract(&mut self, other: &Self) {
        if other.own {
            self.own = false;
        }
        for (key, below) in &other.below {
            if let Some(mine) = self.below.get_mut(key) {
                mine.subtract(below);
                if mine.is_empty() {
                    self.below.remove(key);
                }
            }
        }
    }

    /// Keeps what `other` has, too; a leaf there keeps all that is below here.
    fn intersect(&mut self, other: &Self) {
        if other.below.is_empty() {
            return;
        }
        self.own &= other.own;
        self.below.retain(|key, mine| {
            other.below.get(key).is_some_and(|theirs| {
                mine.intersect(theirs);
                !mine.is_empty()
            })
        });
    }

    /// The paths of the owned fields, as conflict messages show them.
    fn paths(&self, prefix: &str, out: &mut Vec<String>) {
        if self.own {
            out.push(prefix.to_owned());
        }
        for (key, below) in &self.below {
            below.paths(&format!("{prefix}{}", shown(key)), out);
        }
    }
}

fn shown(element: &str) -> String {
    match element.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("k", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("[{}]", keys.join(","))
        }
        Some((_, value)) => format!("[={value}]"),
        None => format!(".{element}"),
    }
}

/// The element of a list item in a set.
fn element(item: &Value, merge: &Merge) -> String {
    match merge {
        Merge::Keys(keys) => {
            let mut sorted: Vec<&str> = keys.clone();
            sorted.sort_unstable();
            let named = sorted.into_iter().filter_map(|k| Some((k.to_owned(), key_value(item, k)?)));
            format!("k:{}", Value::Object(named.collect()))
        }
        _ => format!("v:{item}"),
    }
}

/// A key's value; ports are TCP unless they say otherwise.
fn key_value(item: &Value, key: &str) -> Option<Value> {
    item.get(key).cloned().or_else(|| (key == "protocol").then(|| "TCP".into()))
}

/// The fields in which `new` differs from `old`: changed or added.
fn changed(old: &Value, new: &Value, spot: Spot) -> Fields {
    let mut fields = Fields::default();
    match (old, new) {
        (Value::Object(a), Value::Object(b)) if !spot.is_atomic(new) => {
            for (key, value) in b {
                let spot = spot.member(key).unwrap_or_else(Spot::unknown);
                let below = match a.get(key) {
                    Some(before) => changed(before, value, spot),
                    None => Fields::of(value, spot),
                };
                if !below.is_empty() {
                    fields.below.insert(format!("f:{key}"), below);
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if !spot.is_atomic(new) => {
            let before: BTreeMap<String, &Value> = a.iter().map(|i| (element(i, spot.merge), i)).collect();
            for item in b {
                let key = element(item, spot.merge);
                let below = match before.get(&key) {
                    Some(before) if item.is_object() => changed(before, item, spot.item()),
                    Some(_) => Fields::default(),
                    None => {
                        let mut fields = Fields::of(item, spot.item());
                        fields.own = true;
                        fields
                    }
                };
                if !below.is_empty() {
                    fields.below.insert(key, below);
                }
            }
        }
        (a, b) if a == b => {}
        (_, b) => return Fields::of(b, spot),
    }
    fields
}

#[derive(Debug, Clone)]
struct Entry {
    raw: Value,
    fields: Fields,
}

impl Entry {
    fn is(&self, manager: &Manager<'_>, operation: &str) -> bool {
        text(&self.raw, "/manager") == manager.name
            && text(&self.raw, "/operation") == operation
            && text(&self.raw, "/subresource") == manager.sub
    }

    fn new(manager: &Manager<'_>, operation: &str, fields: Fields) -> Self {
        let mut raw = json!({"manager": manager.name, "operation": operation, "apiVersion": manager.api_version,
            "time": manager.now, "fieldsType": "FieldsV1", "fieldsV1": {}});
        if !manager.sub.is_empty() {
            super::value::set(&mut raw, "/subresource", manager.sub);
        }
        Self { raw, fields }
    }

    fn shown(&self) -> String {
        let mut shown = format!("{:?}", text(&self.raw, "/manager"));
        if !text(&self.raw, "/subresource").is_empty() {
            shown.push_str(&format!(" with subresource {:?}", text(&self.raw, "/subresource")));
        }
        if text(&self.raw, "/operation") == "Update" {
            shown.push_str(&format!(" using {}", text(&self.raw, "/apiVersion")));
            if !text(&self.raw, "/time").is_empty() {
                shown.push_str(&format!(" at {}", text(&self.raw, "/time")));
            }
        }
        shown
    }
}

fn entries(object: &Value) -> Vec<Entry> {
    let read =
        |raw: &Value| Entry { raw: raw.clone(), fields: Fields::read(raw.get("fieldsV1").unwrap_or(raw)) };
    items(object, "/metadata/managedFields")
        .iter()
        .filter(|raw| raw.get("manager").is_some())
        .map(read)
        .collect()
}

fn write_entries(into: &mut Value, entries: Vec<Entry>) {
    let entries: Vec<Value> = entries
        .into_iter()
        .filter(|e| !e.fields.is_empty())
        .map(|mut e| {
            super::value::set(&mut e.raw, "/fieldsV1", e.fields.write());
            e.raw
        })
        .collect();
    if entries.is_empty() {
        super::value::remove(into, "/metadata/managedFields");
    } else {
        super::value::set(into, "/metadata/managedFields", entries);
    }
}

/// Notes in `new.metadata.managedFields` what an update from `old` changed. Entries that the client itself sent count.
pub(super) fn track_update(old: Option<&Value>, new: &mut Value, spot: Spot, manager: &Manager<'_>) {
    let sent = new.pointer("/metadata/managedFields").is_some();
    let mut entries = entries(if sent { new } else { old.unwrap_or(&Value::Null) });
    let now = Fields::of_object(new, spot);
    let mut changed = match old {
        Some(old) => changed(old, new, spot),
        None => now.clone(),
    };
    for path in ["f:apiVersion", "f:kind"] {
        changed.below.remove(path);
    }
    if let Some(metadata) = changed.below.get_mut("f:metadata") {
        metadata.below.retain(|k, _| !UNMANAGED_METADATA.contains(&k.trim_start_matches("f:")));
        if metadata.is_empty() {
            changed.below.remove("f:metadata");
        }
    }
    for entry in &mut entries {
        if !entry.is(manager, "Update") {
            entry.fields.subtract(&changed);
        }
        entry.fields.intersect(&now);
    }
    if !changed.is_empty() {
        match entries.iter_mut().find(|e| e.is(manager, "Update")) {
            Some(mine) => {
                mine.fields.union(&changed);
                super::value::set(&mut mine.raw, "/time", manager.now);
            }
            None => entries.push(Entry::new(manager, "Update", changed)),
        }
    }
    write_entries(new, entries);
}

/// Server-side apply of `applied` to `live`: the merged object with its ownership, or the 409.
pub(super) fn apply(
    live: Option<&Value>,
    applied: &Value,
    spot: Spot,
    manager: &Manager<'_>,
    force: bool,
) -> Result<Value, Failure> {
    let mine = Fields::of_object(applied, spot);
    let nothing = json!({});
    let base = live.unwrap_or(&nothing);
    let mut entries = entries(base);

    let differing = changed(base, applied, spot);
    let mut conflicts: Vec<(String, Vec<String>)> = Vec::new();
    for entry in entries.iter_mut().filter(|e| !e.is(manager, "Apply")) {
        let mut contested = entry.fields.clone();
        contested.intersect_leaves(&differing);
        if contested.is_empty() {
            continue;
        }
        let mut paths = Vec::new();
        contested.paths("", &mut paths);
        if force {
            entry.fields.subtract(&contested);
        } else {
            conflicts.push((entry.shown(), paths));
        }
    }
    if !conflicts.is_empty() {
        return Err(conflict(&conflicts));
    }

    let mut merged = base.clone();
    merge(&mut merged, applied, spot);
    let before = entries.iter().position(|e| e.is(manager, "Apply")).map(|at| entries.remove(at));
    if let Some(before) = &before {
        let mut dropped = before.fields.clone();
        dropped.subtract(&mine);
        for entry in &entries {
            dropped.subtract(&entry.fields);
        }
        prune(&mut merged, &dropped, spot);
    }
    let entry = match before {
        Some(before) if before.fields == mine => before,
        _ => Entry::new(manager, "Apply", mine),
    };
    entries.insert(0, entry);
    let now = Fields::of_object(&merged, spot);
    for entry in entries.iter_mut().skip(1) {
        entry.fields.intersect(&now);
    }
    write_entries(&mut merged, entries);
    Ok(merged)
}

impl Fields {
    /// Keeps the owned fields that are owned in `other`, too.
    fn intersect_leaves(&mut self, other: &Self) {
        self.own &= other.own && other.below.is_empty();
        self.below.retain(|key, mine| {
            other.below.get(key).is_some_and(|theirs| {
                mine.intersect_leaves(theirs);
                !mine.is_empty()
            })
        });
    }
}

fn conflict(conflicts: &[(String, Vec<String>)]) -> Failure {
    let count: usize = conflicts.iter().map(|(_, paths)| paths.len()).sum();
    let each = conflicts.iter().map(|(who, paths)| match paths.as_slice() {
        [one] => format!("conflict with {who}: {one}"),
        many => format!("conflicts with {who}:\n- {}", many.join("\n- ")),
    });
    let said = each.collect::<Vec<_>>().join("\n");
    let plural = if count == 1 { "" } else { "s" };
    let causes = conflicts.iter().flat_map(|(who, paths)| {
        paths.iter().map(move |path| {
            json!({"reason": "FieldManagerConflict", "message": format!("conflict with {who}"), "field": path})
        })
    });
    let message = format!("Apply failed with {count} conflict{plural}: {said}");
    Failure::new(409, "Conflict", message).with_details(json!({"causes": causes.collect::<Vec<_>>()}))
}

/// Merges as apply does: objects field by field, lists by key, what is atomic whole.
fn merge(target: &mut Value, applied: &Value, spot: Spot) {
    match applied {
        Value::Object(map) if !spot.is_atomic(applied) => {
            let target = object(target);
            for (key, value) in map {
                let spot = spot.member(key).unwrap_or_else(Spot::unknown);
                if value.is_null() {
                    continue;
                }
                merge(target.entry(key).or_insert(Value::Null), value, spot);
            }
        }
        Value::Array(list) if !spot.is_atomic(applied) => {
            if !target.is_array() {
                *target = Value::Array(Vec::new());
            }
            let Value::Array(have) = target else { return };
            for item in list {
                let key = element(item, spot.merge);
                match have.iter_mut().find(|h| element(h, spot.merge) == key) {
                    Some(slot) => merge(slot, item, spot.item()),
                    None => have.push(item.clone()),
                }
            }
        }
        scalar => *target = scalar.clone(),
    }
}

/// Takes the fields of `dropped` out of the object, and what is left empty by it.
fn prune(target: &mut Value, dropped: &Fields, spot: Spot) {
    for (key, below) in &dropped.below {
        if let Some(name) = key.strip_prefix("f:") {
            let Some(map) = target.as_object_mut() else { continue };
            if below.own {
                map.shift_remove(name);
                continue;
            }
            let Some(member) = map.get_mut(name) else { continue };
            prune(member, below, spot.member(name).unwrap_or_else(Spot::unknown));
            let emptied = match member {
                Value::Object(m) => m.is_empty(),
                Value::Array(l) => l.is_empty(),
                _ => false,
            };
            if emptied {
                map.shift_remove(name);
            }
        } else {
            let Some(list) = target.as_array_mut() else { continue };
            if below.own {
                list.retain(|item| element(item, spot.merge) != *key);
            } else if let Some(item) = list.iter_mut().find(|item| element(item, spot.merge) == *key) {
                prune(item, below, spot.item());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::schema;

    fn spot() -> Spot {
        schema::kind("apps", "v1", "Deployment").unwrap().spot()
    }

    fn manager(name: &str) -> Manager<'_> {
        Manager { name, api_version: "apps/v1", sub: "", now: "2024-01-01T00:00:00Z" }
    }

    fn deployment(replicas: i64, image: &str) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"a": "1"}},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "1"}},
                "template": {"spec": {"containers": [{"name": "c", "image": image, "ports": [{"containerPort": 80}]}]}}}})
    }

    #[test]
    fn sets_are_written_as_kubernetes_writes_them() {
        let fields = Fields::of_object(&deployment(1, "i"), spot());
        let expected = json!({
            "f:metadata": {"f:labels": {"f:a": {}}},
            "f:spec": {"f:replicas": {}, "f:selector": {}, "f:template": {"f:spec": {"f:containers": {
                "k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}, "f:ports": {
                    "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}}});
        assert_eq!(fields.write(), expected);
        assert_eq!(Fields::read(&expected), fields);
    }

    #[test]
    fn an_apply_owns_and_drops() {
        let one = apply(None, &deployment(1, "i"), spot(), &manager("m"), false).unwrap();
        assert_eq!(text(&one, "/metadata/managedFields/0/operation"), "Apply");
        let mut less = deployment(1, "j");
        super::super::value::remove(&mut less, "/spec/replicas");
        super::super::value::remove(&mut less, "/metadata/labels");
        let two = apply(Some(&one), &less, spot(), &manager("m"), false).unwrap();
        assert_eq!(two.pointer("/spec/replicas"), None);
        assert_eq!(two.pointer("/metadata/labels"), None);
        assert_eq!(text(&two, "/spec/template/spec/containers/0/image"), "j");
    }

    #[test]
    fn others_fields_conflict_unless_forced() {
        let one = apply(None, &deployment(1, "i"), spot(), &manager("a"), false).unwrap();
        let mut scaled = one.clone();
        super::super::value::set(&mut scaled, "/spec/replicas", 5);
        track_update(Some(&one), &mut scaled, spot(), &manager("scaler"));
        let failure = apply(Some(&scaled), &deployment(1, "i"), spot(), &manager("a"), false).unwrap_err();
        assert_eq!(
            failure.message,
            "Apply failed with 1 conflict: conflict with \"scaler\" using apps/v1 at 2024-01-01T00:00:00Z: .spec.replicas"
        );
        let forced = apply(Some(&scaled), &deployment(1, "i"), spot(), &manager("a"), true).unwrap();
        assert_eq!(forced.pointer("/spec/replicas"), Some(&json!(1)));
        assert_eq!(items(&forced, "/metadata/managedFields").len(), 1);
        let failure = apply(Some(&forced), &deployment(2, "k"), spot(), &manager("b"), false).unwrap_err();
        assert_eq!(
            failure.message,
            "Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.replicas\n- .spec.template.spec.containers[name=\"c\"].image"
        );
    }

    #[test]
    fn the_same_value_is_shared() {
        let one = apply(None, &deployment(1, "i"), spot(), &manager("a"), false).unwrap();
        let two = apply(Some(&one), &deployment(1, "i"), spot(), &manager("b"), false).unwrap();
        assert_eq!(items(&two, "/metadata/managedFields").len(), 2);
        let mut less = deployment(1, "i");
        super::super::value::remove(&mut less, "/spec/replicas");
        let three = apply(Some(&two), &less, spot(), &manager("a"), false).unwrap();
        assert_eq!(three.pointer("/spec/replicas"), Some(&json!(1)));
    }
}
