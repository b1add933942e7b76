//! The documents of custom resources: the schemas of their definitions, made whole.

use super::{collect, definition, gvk_of, list_schema, paths_of, reference, schema_of, set};
use crate::demo::{
    kinds::{Kind, Served},
    schema,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The v3 document of a group and version.
pub(super) fn document(served: &Served, group: &str, version: &str) -> Value {
    let mut schemas = Map::new();
    for kind in served.of(group, version) {
        let name = definition(group, version, kind.kind, true);
        schemas.insert(name.clone(), whole(kind, "#/components/schemas/"));
        schemas.insert(format!("{name}List"), list(kind, &name));
    }
    let mut wanted = BTreeSet::new();
    for name in ["DeleteOptions", "ListMeta", "ObjectMeta", "Patch", "Scale", "Status"] {
        if let Some(t) = schema::named(name) {
            collect(t, &mut wanted);
        }
    }
    for t in wanted.into_iter().filter_map(schema::named) {
        schemas.insert(t.definition.clone(), schema_of(t, "#/components/schemas/"));
    }
    json!({"openapi": "3.0.0", "info": {"title": "Kubernetes CRD Swagger", "version": "v0.1.0"},
        "paths": paths_of(served, group, version, false), "components": {"schemas": schemas}})
}

/// The v2 definitions of all custom resources.
pub(super) fn definitions(served: &Served) -> Vec<(String, Value)> {
    let custom = served.all().map(|t| t.kind).filter(|k| k.custom.is_some());
    let one = |kind: &'static Kind| {
        let mut schema = whole(kind, "#/definitions/");
        plain(&mut schema);
        (definition(kind.group, kind.version, kind.kind, true), schema)
    };
    custom.map(one).collect()
}

/// A kind's schema with what every object has.
fn whole(kind: &Kind, refs: &str) -> Value {
    let Some(version) = kind.custom else { return Value::Null };
    let mut schema = version.schema.clone();
    complete(&mut schema, refs);
    about_objects(&mut schema, refs);
    set(&mut schema, "x-kubernetes-group-version-kind", gvk_of(kind.group, kind.version, kind.kind));
    if !version.selectable.is_empty() {
        let fields: Vec<Value> = version.selectable.iter().map(|f| json!({"fieldPath": f})).collect();
        set(&mut schema, "x-kubernetes-selectable-fields", fields.into());
    }
    schema
}

/// `apiVersion`, `kind` and `metadata`.
fn about_objects(schema: &mut Value, refs: &str) {
    let Some(map) = schema.as_object_mut() else { return };
    let properties = map.entry("properties").or_insert_with(|| json!({}));
    let string = |about: &str| json!({"type": "string", "description": about});
    set(properties, "apiVersion", string("Version of this object's form."));
    set(properties, "kind", string("What this object is."));
    let mut metadata = reference("ObjectMeta", refs, false);
    metadata.as_object_mut().map(|m| m.shift_remove("default"));
    set(&mut metadata, "description", "Name, labels and history of the object.".into());
    set(properties, "metadata", metadata);
}

/// Says in OpenAPI's own words what an extension says.
fn complete(schema: &mut Value, refs: &str) {
    let is = |schema: &Value, key: &str| schema.get(key) == Some(&Value::Bool(true));
    if is(schema, "x-kubernetes-int-or-string") && schema.get("anyOf").is_none() {
        set(schema, "anyOf", json!([{"type": "integer"}, {"type": "string"}]));
    }
    if is(schema, "x-kubernetes-embedded-resource") {
        about_objects(schema, refs);
        set(schema, "required", json!(["kind", "apiVersion"]));
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(|below| complete(below, refs));
    }
    for key in ["items", "additionalProperties"] {
        if let Some(below) = schema.get_mut(key).filter(|b| b.is_object()) {
            complete(below, refs);
        }
    }
}

/// Leaves out what v2 has no words for.
fn plain(schema: &mut Value) {
    let is = |schema: &Value, key: &str| schema.get(key) == Some(&Value::Bool(true));
    let free = is(schema, "x-kubernetes-preserve-unknown-fields") || is(schema, "x-kubernetes-int-or-string");
    let nullable = is(schema, "nullable");
    let Some(map) = schema.as_object_mut() else { return };
    if nullable {
        map.clear();
    }
    map.retain(|key, _| match key.as_str() {
        "default" | "allOf" | "anyOf" | "oneOf" | "not" | "nullable" => false,
        "type" | "properties" | "required" => !free,
        _ => true,
    });
    if let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(plain);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(below) = map.get_mut(key).filter(|b| b.is_object()) {
            plain(below);
        }
    }
}

fn list(kind: &Kind, name: &str) -> Value {
    let about = format!("{} is a list of {}", kind.list_kind(), kind.kind);
    list_schema(name, &about, gvk_of(kind.group, kind.version, &kind.list_kind()))
}
