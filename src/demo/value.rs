//! Reading and writing paths of JSON objects, for code that treats every kind alike.

use serde_json::{Map, Value};

/// The string at a JSON pointer; "" when there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The whole number at a JSON pointer.
pub(super) fn int(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

/// The items of the array at a JSON pointer; none when there is no array.
pub(super) fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The map at a JSON pointer.
pub(super) fn map<'a>(value: &'a Value, pointer: &str) -> Option<&'a Map<String, Value>> {
    value.pointer(pointer).and_then(Value::as_object)
}

/// The value as an object; whatever else was there is replaced.
pub(super) fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// Writes `new` at a path of object keys (`/metadata/labels`), making the objects on the way.
pub(super) fn set(value: &mut Value, path: &str, new: impl Into<Value>) {
    let mut at = value;
    for key in path.split('/').skip(1) {
        at = object(at).entry(key.replace("~1", "/")).or_insert(Value::Null);
    }
    *at = new.into();
}

/// Writes `new` unless something is there already.
pub(super) fn default(value: &mut Value, path: &str, new: impl Into<Value>) {
    if value.pointer(path).is_none_or(Value::is_null) {
        set(value, path, new);
    }
}

/// Takes what is at a path of object keys out.
pub(super) fn remove(value: &mut Value, path: &str) -> Option<Value> {
    let (parent, key) = path.rsplit_once('/')?;
    value.pointer_mut(parent)?.as_object_mut()?.shift_remove(&key.replace("~1", "/"))
}

/// Compares as Kubernetes does: a missing key, null and an empty map or list are the same.
pub(super) fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            a.keys().chain(b.keys()).all(|k| same(a.get(k), b.get(k)))
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(Some(a), Some(b)))
        }
        (a, b) => a.filter(|v| !is_empty(v)) == b.filter(|v| !is_empty(v)),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_are_made_on_the_way() {
        let mut v = json!({"a": 1});
        set(&mut v, "/metadata/labels/x~1y", "z");
        default(&mut v, "/a", 2);
        default(&mut v, "/b", 2);
        assert_eq!(v, json!({"a": 1, "metadata": {"labels": {"x/y": "z"}}, "b": 2}));
        assert_eq!(remove(&mut v, "/metadata/labels/x~1y"), Some(json!("z")));
        assert_eq!(remove(&mut v, "/no/such"), None);
        assert_eq!(text(&v, "/none"), "");
    }

    #[test]
    fn nothing_has_many_spellings() {
        let rows = [
            (json!({}), json!({"a": {}}), true),
            (json!({"a": null}), json!({}), true),
            (json!({"a": []}), json!({}), true),
            (json!({"a": 0}), json!({}), false),
            (json!({"a": [1]}), json!({"a": [2]}), false),
        ];
        for (a, b, expected) in rows {
            assert_eq!(same(Some(&a), Some(&b)), expected, "{a} {b}");
        }
    }
}
