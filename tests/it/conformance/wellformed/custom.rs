//! Custom resources with everything that a schema can say.

use serde_json::{Value, json};

/// The definitions.
pub(in crate::conformance) fn definitions() -> Vec<Value> {
    let schema = json!({"type": "object", "required": ["spec"], "properties": {
        "spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 10},
            "ratio": {"type": "number", "multipleOf": 0.5},
            "word": {"type": "string", "pattern": "^[a-z]+$", "minLength": 1, "maxLength": 8},
            "mode": {"type": "string", "enum": ["On", "Off"], "default": "On"},
            "when": {"type": "string", "format": "date-time"},
            "day": {"type": "string", "format": "date"},
            "blob": {"type": "string", "format": "byte"},
            "port": {"x-kubernetes-int-or-string": true},
            "amount": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "maybe": {"type": "string", "nullable": true},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "loose": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"known": {"type": "integer"}}},
            "any": {"x-kubernetes-preserve-unknown-fields": true},
            "map": {"type": "object", "additionalProperties": {"type": "integer"}},
            "deep": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "object", "properties": {
                "a": {"type": "string"}, "b": {"type": "boolean"}}}}},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "maxItems": 4,
                "items": {"type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string"}, "value": {"type": "integer", "format": "int64"}}}},
            "atomic": {"type": "array", "x-kubernetes-list-type": "atomic", "items": {"type": "array", "items": {"type": "number"}}},
            "object": {"type": "object", "x-kubernetes-map-type": "atomic", "minProperties": 1, "maxProperties": 3,
                "properties": {"x": {"type": "string", "default": "y"}}},
            "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
            "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {
                "spec": {"type": "object", "properties": {"x": {"type": "string"}}}}},
            "either": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
            "even": {"type": "integer", "x-kubernetes-validations": [{"rule": "self % 2 == 0", "message": "must be even"}]},
        }},
        "status": {"type": "object", "properties": {"phase": {"type": "string"}}},
    }});
    let everything = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": "everythings.features.example.com"},
    "spec": {"group": "features.example.com", "scope": "Namespaced",
        "names": {"plural": "everythings", "singular": "everything", "kind": "Everything", "listKind": "EverythingList"},
        "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}}},
            {"name": "v1beta1", "served": true, "storage": false, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}},
        ]}});
    let wide = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "wides.features.example.com"},
        "spec": {"group": "features.example.com", "scope": "Cluster",
            "names": {"plural": "wides", "singular": "wide", "kind": "Wide", "listKind": "WideList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
                "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}}}}}]}});
    vec![everything, wide]
}

/// Objects of theirs, as lines of the corpus.
pub(super) fn objects() -> Vec<String> {
    let metadata = json!({"name": "e", "labels": {"app": "x"}, "annotations": {"note": "ü"}});
    let object = |version: &str, spec: Value| {
        let api_version = format!("features.example.com/{version}");
        let body =
            json!({"apiVersion": api_version, "kind": "Everything", "metadata": metadata, "spec": spec});
        format!("/apis/features.example.com/{version}/namespaces/default/everythings {body}")
    };
    let full = json!({
        "size": 3, "ratio": 1.5, "word": "abc", "mode": "Off", "when": "2026-01-31T12:00:00Z", "day": "2026-01-31",
        "blob": "aGVsbG8=", "port": "http", "amount": 5, "maybe": null, "free": {"a": [1, {"b": null}]},
        "loose": {"known": 1, "other": "x"}, "any": [1, "x"], "map": {"a": 1, "b/c": 2},
        "deep": {"k": [{"a": "x", "b": true}, {}]}, "set": ["a", "b"],
        "list": [{"name": "a", "value": 1}, {"name": "b", "value": 9007199254740993_i64}], "atomic": [[1, 2.5], []],
        "object": {"x": "z"},
        "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"anything": [1]}},
        "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"x": "y"}},
        "either": {"a": "x"}, "even": 4,
    });
    let wide = json!({"apiVersion": "features.example.com/v1", "kind": "Wide", "metadata": {"name": "w"}, "spec": {"a": "x"}});
    vec![
        object("v1", json!({"size": 1})),
        object("v1", full.clone()),
        object("v1beta1", full),
        format!("/apis/features.example.com/v1/wides {wide}"),
    ]
}
