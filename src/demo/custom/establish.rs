//! The life of a definition: what it gets and must have, when its kinds begin to be served, and how they end.

use super::{compile, flag};
use crate::demo::{
    answer::Cause,
    kinds::{self, Kind},
    store::State,
    value::{default, int, items, map, same, set, text},
    write::{self, Delete, now},
};
use regex::Regex;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Keeps a definition until its objects are gone.
const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
const LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
                     character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
                     validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];

/// Names that follow from others.
pub(in crate::demo) fn defaults(crd: &mut Value) {
    let kind = text(crd, "/spec/names/kind").to_owned();
    if !kind.is_empty() {
        default(crd, "/spec/names/singular", kind.to_lowercase());
        default(crd, "/spec/names/listKind", format!("{kind}List"));
    }
    default(crd, "/spec/conversion/strategy", "None");
    let stored = stored(crd);
    if !stored.is_empty() && items(crd, "/status/storedVersions").is_empty() {
        default(crd, "/status", json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}}));
        set(crd, "/status/storedVersions", json!([stored]));
    }
}

/// The version that is stored.
fn stored(crd: &Value) -> String {
    let stored = items(crd, "/spec/versions").iter().find(|v| flag(v, "storage"));
    stored.map_or(String::new(), |v| text(v, "/name").to_owned())
}

fn is_label(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(fits)
        && !name.ends_with('-')
}

/// What is wrong with a definition.
pub(in crate::demo) fn check(crd: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let at = |pointer: &str| text(crd, pointer);
    let (name, group, plural) = (at("/metadata/name"), at("/spec/group"), at("/spec/names/plural"));
    if name != format!("{plural}.{group}") {
        let why = "must be spec.names.plural+\".\"+spec.group";
        causes.push(Cause::invalid("metadata.name", &format!("{name:?}"), why));
    }
    let approved = "api-approved.kubernetes.io";
    let protected = [".k8s.io", ".kubernetes.io"].iter().any(|end| group.ends_with(end));
    if protected && map(crd, "/metadata/annotations").is_none_or(|a| !a.contains_key(approved)) {
        let field = format!("metadata.annotations[{approved}]");
        let see = "https://github.com/kubernetes/enhancements/pull/1111";
        let why = format!("protected groups must have approval annotation {approved:?}, see {see}");
        causes.push(Cause::required(&field, &why));
    }
    if group.is_empty() {
        causes.push(Cause::required("spec.group", ""));
    }
    match at("/spec/scope") {
        "" => causes.push(Cause::required("spec.scope", "")),
        "Cluster" | "Namespaced" => {}
        other => causes.push(Cause::unsupported("spec.scope", other, &["Cluster", "Namespaced"])),
    }
    versions(crd, &mut causes);
    for (key, lower) in [("plural", true), ("singular", true), ("kind", false), ("listKind", false)] {
        let field = format!("spec.names.{key}");
        match at(&format!("/spec/names/{key}")) {
            "" => causes.push(Cause::required(&field, "")),
            name if !is_label(&if lower { name.to_owned() } else { name.to_lowercase() }) => {
                causes.push(Cause::invalid(&field, &format!("{name:?}"), LABEL));
            }
            _ => {}
        }
    }
    causes
}

fn versions(crd: &Value, causes: &mut Vec<Cause>) {
    let versions = items(crd, "/spec/versions");
    let shown = crd.pointer("/spec/versions").cloned().unwrap_or_else(|| json!([])).to_string();
    let names: BTreeSet<&str> = versions.iter().map(|v| text(v, "/name")).collect();
    if names.len() < versions.len() {
        causes.push(Cause::invalid("spec.versions", &shown, "must contain unique version names"));
    }
    if versions.iter().filter(|v| flag(v, "storage")).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid("spec.versions", &shown, why));
    }
    for (i, version) in versions.iter().enumerate() {
        let name = text(version, "/name");
        if !is_label(name) {
            causes.push(Cause::invalid(&format!("spec.versions[{i}].name"), &format!("{name:?}"), LABEL));
        }
        // One schema is found fault with as if all versions shared it.
        let base = match versions.len() {
            1 => "spec.validation.openAPIV3Schema".to_owned(),
            _ => format!("spec.versions[{i}].schema.openAPIV3Schema"),
        };
        match version.pointer("/schema/openAPIV3Schema") {
            Some(Value::Null) | None => {
                causes.push(Cause::required(&format!("spec.versions[{i}].schema.openAPIV3Schema"), ""));
            }
            Some(schema) => {
                if text(schema, "/type") != "object" {
                    let found = text(schema, "/type");
                    causes.push(Cause::invalid(
                        &format!("{base}.type"),
                        &format!("{found:?}"),
                        "must be object at the root",
                    ));
                }
                structure(schema, &base, causes);
            }
        }
    }
    if items(crd, "/status/storedVersions").is_empty() {
        causes.push(Cause::invalid("status.storedVersions", "null", "must have at least one stored version"));
    }
}

/// Whether a schema is structural, below its root.
fn structure(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let forbidden = |field: String, why: &str| Cause {
        reason: "FieldValueForbidden",
        field,
        message: format!("Forbidden: {why}"),
    };
    let kind = text(schema, "/type");
    let free = flag(schema, "x-kubernetes-preserve-unknown-fields");
    let number_or_text = flag(schema, "x-kubernetes-int-or-string");
    if kind.is_empty() && !free && !number_or_text {
        let why = "must not be empty for specified object fields";
        causes.push(Cause::required(&format!("{path}.type"), why));
    } else if !kind.is_empty() && !TYPES.contains(&kind) {
        causes.push(Cause::unsupported(&format!("{path}.type"), kind, TYPES));
    }
    let pattern = text(schema, "/pattern");
    if Regex::new(pattern).is_err() {
        let why = "must be a valid regular expression, but isn't: error parsing regexp";
        causes.push(Cause::invalid(&format!("{path}.pattern"), &format!("{pattern:?}"), why));
    }
    if flag(schema, "uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        causes.push(forbidden(format!("{path}.uniqueItems"), why));
    }
    let properties = map(schema, "/properties");
    if properties.is_some_and(|p| !p.is_empty()) && schema.get("additionalProperties").is_some() {
        let why = "additionalProperties and properties are mutual exclusive";
        causes.push(forbidden(format!("{path}.additionalProperties"), why));
    }
    if text(schema, "/x-kubernetes-list-type") == "map"
        && items(schema, "/x-kubernetes-list-map-keys").is_empty()
    {
        let why = "must not be empty if x-kubernetes-list-type is map";
        causes.push(Cause::required(&format!("{path}.x-kubernetes-list-map-keys"), why));
    }
    for (name, below) in properties.into_iter().flatten() {
        structure(below, &format!("{path}.properties[{name}]"), causes);
    }
    for (key, below) in
        [("items", schema.get("items")), ("additionalProperties", schema.get("additionalProperties"))]
    {
        if let Some(below @ Value::Object(_)) = below {
            structure(below, &format!("{path}.{key}"), causes);
        }
    }
}

/// A definition is new, was changed, or is going.
pub(in crate::demo) fn establish(state: &mut State, at: usize, crd: &Value) {
    let name = text(crd, "/metadata/name");
    if crd.pointer("/metadata/deletionTimestamp").is_some() {
        return end(state, at, crd);
    }
    let conflict = conflict(state, name, crd);
    let mut status = crd.get("status").cloned().unwrap_or_default();
    let condition = |sort: &str, good: bool, reason: &str, message: &str| {
        let state = if good { "True" } else { "False" };
        let before = items(crd, "/status/conditions").iter();
        let since = before.filter(|c| text(c, "/type") == sort && text(c, "/status") == state);
        let since = since.map(|c| text(c, "/lastTransitionTime").to_owned()).next().unwrap_or_else(now);
        json!({"type": sort, "status": state, "lastTransitionTime": since, "reason": reason, "message": message})
    };
    let conditions = match &conflict {
        None => [
            condition("NamesAccepted", true, "NoConflicts", "no conflicts found"),
            condition("Established", true, "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        Some((reason, message)) => [
            condition("NamesAccepted", false, reason, message),
            condition("Established", false, "NotAccepted", "not all names are accepted"),
        ],
    };
    set(&mut status, "/conditions", json!(conditions));
    let names = crd.pointer("/spec/names").cloned().unwrap_or_default();
    let none = json!({"plural": text(&names, "/plural"), "kind": ""});
    set(&mut status, "/acceptedNames", if conflict.is_none() { names } else { none });
    let mut versions = items(&status, "/storedVersions").to_vec();
    let stored = Value::from(stored(crd));
    if !versions.contains(&stored) {
        versions.push(stored);
    }
    set(&mut status, "/storedVersions", versions);
    if !same(crd.get("status"), Some(&status)) {
        let mut changed = crd.clone();
        set(&mut changed, "/status", status);
        state.put(at, changed);
    }
    if conflict.is_some() {
        return;
    }
    let before = state.served().definition(name);
    let fresh = |(_, d): &(usize, &super::Definition)| {
        d.uid == text(crd, "/metadata/uid") && Some(d.generation) == int(crd, "/metadata/generation")
    };
    if before.as_ref().is_some_and(fresh) {
        return;
    }
    state.install(before.map(|(table, _)| table), Box::leak(Box::new(compile(crd))));
}

/// Whether another definition of the group has one of the names already.
fn conflict(state: &State, name: &str, crd: &Value) -> Option<(&'static str, String)> {
    let wanted = |key: &str| text(crd, &format!("/spec/names/{key}"));
    let others: Vec<_> = state
        .served()
        .all()
        .map(|t| t.kind)
        .filter(|k| k.group == text(crd, "/spec/group") && format!("{}.{}", k.plural, k.group) != name)
        .collect();
    let taken = |key: &str| format!("{:?} is already in use", wanted(key));
    let short = items(crd, "/spec/names/shortNames").iter().filter_map(Value::as_str);
    let mut short = short.filter(|s| others.iter().any(|k| k.short.contains(s)));
    if let Some(short) = short.next() {
        return Some(("ShortNamesConflict", format!("{short:?} is already in use")));
    }
    // The last conflict is the one that is told.
    if others.iter().any(|k| k.list_kind() == wanted("listKind")) {
        Some(("ListKindConflict", taken("listKind")))
    } else if others.iter().any(|k| k.kind == wanted("kind")) {
        Some(("KindConflict", taken("kind")))
    } else {
        let singular = others.iter().any(|k| k.singular == wanted("singular"));
        singular.then(|| ("SingularConflict", taken("singular")))
    }
}

/// Makes a definition that is deleted wait for its objects.
pub(in crate::demo) fn linger(crd: &mut Value) {
    let mut finalizers = items(crd, "/metadata/finalizers").to_vec();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    set(crd, "/metadata/finalizers", finalizers);
    let mut conditions = items(crd, "/status/conditions").to_vec();
    conditions.retain(|c| text(c, "/type") != "Terminating");
    conditions.push(json!({"type": "Terminating", "status": "True", "lastTransitionTime": now(),
        "reason": "InstanceDeletionPending", "message": "CustomResourceDefinition marked for deletion; \
        CustomResource deletion will begin soon"}));
    set(crd, "/status/conditions", conditions);
}

/// Deletes a definition's objects, and then the definition.
fn end(state: &mut State, at: usize, crd: &Value) {
    if let Some((table, _)) = state.served().definition(text(crd, "/metadata/name")) {
        let keys: Vec<_> = state.objects(table).map(|(key, _)| key.clone()).collect();
        for (namespace, name) in keys {
            let _ = write::delete(state, table, &namespace, &name, &Delete::default());
        }
        if state.objects(table).next().is_some() {
            return;
        }
    }
    let mut finalizers = items(crd, "/metadata/finalizers").to_vec();
    finalizers.retain(|f| f != FINALIZER);
    let mut last = crd.clone();
    set(&mut last, "/metadata/finalizers", finalizers);
    write::settle_finalizers(state, at, last);
}

/// A definition is gone: its kinds are not served any more.
pub(in crate::demo) fn gone(state: &mut State, crd: &Value) {
    let found = state.served().definition(text(crd, "/metadata/name"));
    if let Some((table, _)) = found.filter(|(_, d)| d.uid == text(crd, "/metadata/uid")) {
        state.uninstall(table);
    }
}

/// An object of a definition is gone, which may have waited for it.
pub(in crate::demo) fn one_less(state: &mut State, kind: &Kind) {
    let at = kinds::by_plural("apiextensions.k8s.io", "customresourcedefinitions").unwrap_or_default();
    if let Some(crd) = state.get(at, "", &format!("{}.{}", kind.plural, kind.group))
        && crd.pointer("/metadata/deletionTimestamp").is_some()
    {
        state.pending.push_back((at, crd));
    }
}
