//! What a structural schema does to an object on its way in and out: unknown fields and stray nulls go, defaults come.

use super::flag;
use crate::demo::value::map;
use serde_json::Value;

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";

/// Takes out what the schema does not know; the paths of that.
pub(super) fn prune(schema: &Value, object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    prune_at(schema, object, "", true, &mut unknown);
    unknown
}

/// The schema of a member: that of the property, or of all others.
fn member<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    let named = map(schema, "/properties").and_then(|p| p.get(key));
    named.or_else(|| schema.get("additionalProperties").filter(|a| a.is_object()))
}

fn prune_at(schema: &Value, value: &mut Value, path: &str, root: bool, unknown: &mut Vec<String>) {
    match value {
        Value::Array(list) => {
            let Some(items) = schema.get("items") else { return };
            for (i, item) in list.iter_mut().enumerate() {
                prune_at(items, item, &format!("{path}[{i}]"), false, unknown);
            }
        }
        Value::Object(map) => {
            let object = root || flag(schema, EMBEDDED);
            let keeps = flag(schema, PRESERVE) || flag(schema, "additionalProperties");
            let own = |key: &str| object && matches!(key, "apiVersion" | "kind" | "metadata");
            let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            map.retain(|key, _| {
                let known = keeps || own(key) || member(schema, key).is_some();
                if !known {
                    unknown.push(below(key));
                }
                known
            });
            for (key, item) in map.iter_mut().filter(|(key, _)| !own(key)) {
                if let Some(schema) = member(schema, key) {
                    prune_at(schema, item, &below(key), false, unknown);
                }
            }
        }
        _ => {}
    }
}

/// The `metadata` of an object and of those embedded in it.
pub(super) fn embedded<'a>(schema: &Value, object: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    embedded_at(schema, object, "", true, found);
}

fn embedded_at<'a>(
    schema: &Value,
    value: &'a Value,
    path: &str,
    root: bool,
    found: &mut Vec<(String, &'a Value)>,
) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Array(list) => {
            let Some(items) = schema.get("items") else { return };
            for (i, item) in list.iter().enumerate() {
                embedded_at(items, item, &format!("{path}[{i}]"), false, found);
            }
        }
        Value::Object(map) => {
            if root || flag(schema, EMBEDDED) {
                let metadata = map.get("metadata").filter(|m| !m.is_null());
                found.extend(metadata.map(|m| (below("metadata"), m)));
            }
            for (key, item) in map {
                if let Some(schema) = member(schema, key) {
                    embedded_at(schema, item, &below(key), false, found);
                }
            }
        }
        _ => {}
    }
}

/// Takes out nulls that the schema does not allow, and fills in what is missing.
pub(super) fn default(schema: &Value, value: &mut Value) {
    match value {
        Value::Array(list) => {
            let Some(items) = schema.get("items") else { return };
            list.iter_mut().for_each(|item| default(items, item));
        }
        Value::Object(object) => {
            object.retain(|key, item| {
                !item.is_null() || member(schema, key).is_none_or(|below| flag(below, "nullable"))
            });
            for (key, below) in map(schema, "/properties").into_iter().flatten() {
                if let Some(default) = below.get("default").filter(|_| !object.contains_key(key)) {
                    object.insert(key.clone(), default.clone());
                }
            }
            for (key, item) in object {
                if let Some(below) = member(schema, key) {
                    default(below, item);
                }
            }
        }
        _ => {}
    }
}

/// Whether there are rules in CEL, at any depth.
pub(super) fn has_rules(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => map.iter().any(|(key, below)| {
            (key == "x-kubernetes-validations" && below.as_array().is_some_and(|r| !r.is_empty()))
                || has_rules(below)
        }),
        Value::Array(list) => list.iter().any(has_rules),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_fields_go() {
        let schema = json!({"type": "object", "properties": {
            "known": {"type": "object", "properties": {"a": {"type": "string"}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"a": {}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {}}}},
            "free": {"type": "object", PRESERVE: true, "properties": {"in": {"type": "object"}}},
            "any": {"type": "object", "additionalProperties": true},
            "bare": {"type": "object"},
            "pod": {"type": "object", EMBEDDED: true}}});
        #[rustfmt::skip]
        let rows = [
            (json!({"kind": "K", "metadata": {"x": 1}, "x": 1}), vec!["x"]),
            (json!({"known": {"a": "", "b": ""}}), vec!["known.b"]),
            (json!({"list": [{"a": 1}, {"b": 1}]}), vec!["list[1].b"]),
            (json!({"map": {"k": {"a": 1, "b": 1}}}), vec!["map.k.b"]),
            (json!({"free": {"x": {"y": 1}, "in": {"z": 1}}}), vec!["free.in.z"]),
            (json!({"any": {"x": {"y": 1}}}), vec![]),
            (json!({"bare": {"x": 1}}), vec!["bare.x"]),
            (json!({"pod": {"kind": "Pod", "apiVersion": "v1", "metadata": {}, "spec": {}}}), vec!["pod.spec"]),
        ];
        for (mut object, expected) in rows {
            let shown = object.to_string();
            assert_eq!(prune(&schema, &mut object), expected, "{shown}");
            assert_eq!(prune(&schema, &mut object), Vec::<String>::new(), "{shown}");
        }
    }

    #[test]
    fn what_is_missing_is_filled_in() {
        let schema = json!({"properties": {"a": {"default": 1}, "n": {"nullable": true, "default": 2}, "s": {},
            "o": {"default": {}, "properties": {"p": {"default": "q"}}}, "l": {"items": {"properties": {"d": {"default": true}}}}}});
        #[rustfmt::skip]
        let rows = [
            (json!({}), json!({"a": 1, "n": 2, "o": {"p": "q"}})),
            (json!({"a": null, "n": null, "s": null, "o": null}), json!({"n": null, "a": 1, "o": {"p": "q"}})),
            (json!({"a": 3, "n": 4, "o": {"p": 5}, "l": [{}]}), json!({"a": 3, "n": 4, "o": {"p": 5}, "l": [{"d": true}]})),
        ];
        for (mut object, expected) in rows {
            default(&schema, &mut object);
            assert_eq!(object, expected);
        }
    }
}
