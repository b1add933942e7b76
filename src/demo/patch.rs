//! JSON Patch (RFC 6902), JSON Merge Patch (RFC 7396) and Kubernetes' strategic merge patch.

use super::{
    schema::{Merge, Spot},
    value::object,
};
use serde_json::{Map, Value};

/// Why a patch cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// Not a patch of this sort.
    #[error("{0}")]
    Malformed(String),
    /// A well-formed JSON patch that this object does not take.
    #[error("the server rejected our request due to an error in our request")]
    NotApplicable,
    /// A directive that strategic merge does not know.
    #[error("{0}")]
    Directive(String),
}

/// Whether this is a type of patch, in the only spelling there is; custom resources do not merge kind by kind.
pub(super) fn is_known(media: &str, custom: bool) -> bool {
    match media {
        "application/json-patch+json" | "application/merge-patch+json" | "application/apply-patch+yaml" => {
            true
        }
        media => media == "application/strategic-merge-patch+json" && !custom,
    }
}

/// Applies a merge patch: null removes, objects merge, the rest replaces.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    let target = object(target);
    for (key, value) in patch {
        if value.is_null() {
            target.shift_remove(key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// Applies a JSON patch; all of it or nothing counts.
pub(super) fn json(target: &mut Value, patch: &Value) -> Result<(), Error> {
    if patch.is_null() {
        return Ok(());
    }
    let Value::Array(operations) = patch else {
        return Err(Error::Malformed(
            "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch"
                .into(),
        ));
    };
    for operation in operations {
        let text = |key: &str| operation.get(key).and_then(Value::as_str);
        let path = text("path").ok_or(Error::NotApplicable)?;
        let value = || operation.get("value").cloned().ok_or(Error::NotApplicable);
        let from = || text("from").ok_or(Error::NotApplicable);
        match text("op").unwrap_or_default() {
            "add" => add(target, path, value()?)?,
            "remove" => drop(take(target, path)?),
            "replace" => match target.pointer_mut(path) {
                Some(found) => *found = value()?,
                // What is not there is added to an object, not to a list.
                None => match path
                    .rsplit_once('/')
                    .and_then(|(above, last)| Some((target.pointer_mut(above)?, last)))
                {
                    Some((Value::Object(map), last)) => drop(map.insert(unescape(last), value()?)),
                    _ => return Err(Error::NotApplicable),
                },
            },
            "move" => {
                let moved = take(target, from()?)?;
                add(target, path, moved)?;
            }
            "copy" => {
                let copied = target.pointer(from()?).cloned().ok_or(Error::NotApplicable)?;
                add(target, path, copied)?;
            }
            "test" => {
                let found = target.pointer(path).unwrap_or(&Value::Null);
                if *found != value()? {
                    return Err(Error::NotApplicable);
                }
            }
            _ => return Err(Error::NotApplicable),
        }
    }
    Ok(())
}

fn unescape(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), Error> {
    let Some((parent, last)) = path.rsplit_once('/') else {
        return if path.is_empty() {
            *target = value;
            Ok(())
        } else {
            Err(Error::NotApplicable)
        };
    };
    match target.pointer_mut(parent) {
        Some(Value::Object(map)) => {
            map.insert(unescape(last), value);
            Ok(())
        }
        Some(Value::Array(list)) if last == "-" => {
            list.push(value);
            Ok(())
        }
        Some(Value::Array(list)) => match last.parse::<usize>() {
            Ok(at) if at <= list.len() => {
                list.insert(at, value);
                Ok(())
            }
            _ => Err(Error::NotApplicable),
        },
        _ => Err(Error::NotApplicable),
    }
}

fn take(target: &mut Value, path: &str) -> Result<Value, Error> {
    let (parent, last) = path.rsplit_once('/').ok_or(Error::NotApplicable)?;
    match target.pointer_mut(parent) {
        Some(Value::Object(map)) => map.shift_remove(&unescape(last)).ok_or(Error::NotApplicable),
        Some(Value::Array(list)) => match last.parse::<usize>() {
            Ok(at) if at < list.len() => Ok(list.remove(at)),
            _ => Err(Error::NotApplicable),
        },
        _ => Err(Error::NotApplicable),
    }
}

/// A value as Go prints it.
pub(super) fn go(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut members: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go(v))).collect();
            members.sort();
            format!("map[{}]", members.join(" "))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(go).collect::<Vec<_>>().join(" ")),
        Value::String(s) => s.clone(),
        Value::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

/// Applies a strategic merge patch to what is at `spot`.
pub(super) fn strategic(target: &mut Value, patch: &Value, spot: Spot) -> Result<(), Error> {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    match patch.get(PATCH) {
        Some(Value::String(s)) if s == "replace" => {
            let mut whole = patch.clone();
            whole.shift_remove(PATCH);
            *target = Value::Object(whole);
            return Ok(());
        }
        Some(Value::String(s)) if s == "delete" => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some(Value::String(s)) if s == "merge" => {}
        Some(other) => {
            let shown = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
            let map = go(&Value::Object(patch.clone()));
            return Err(Error::Directive(format!("unknown patch type: {shown} in map: {map}")));
        }
        None => {}
    }
    let map = object(target);
    if let Some(Value::Array(kept)) = patch.get(RETAIN) {
        map.retain(|key, _| kept.iter().any(|k| k == key));
    }
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix(DELETE_FROM) {
            if let (Some(Value::Array(have)), Value::Array(gone)) = (map.get_mut(list), value) {
                have.retain(|v| !gone.contains(v));
            }
            continue;
        }
        if key.starts_with('$') {
            continue;
        }
        if value.is_null() {
            map.shift_remove(key);
            continue;
        }
        let spot = spot.member(key).unwrap_or_else(Spot::unknown);
        match value {
            Value::Array(list) => {
                let have = map.entry(key).or_insert(Value::Null);
                merge_list(have, list, spot)?;
            }
            Value::Object(_) => strategic(map.entry(key).or_insert(Value::Null), value, spot)?,
            scalar => drop(map.insert(key.clone(), scalar.clone())),
        }
    }
    for (key, order) in patch.iter().filter_map(|(k, v)| Some((k.strip_prefix(ORDER)?, v))) {
        let spot = spot.member(key).unwrap_or_else(Spot::unknown);
        if let (Some(Value::Array(have)), Value::Array(order)) = (map.get_mut(key), order) {
            sort_by_order(have, order, spot.merge);
        }
    }
    Ok(())
}

fn merge_list(target: &mut Value, patch: &[Value], spot: Spot) -> Result<(), Error> {
    let replace = patch.iter().any(|p| p.get(PATCH).is_some_and(|d| d == "replace"));
    let plain = || patch.iter().filter(|p| p.get(PATCH).is_none()).cloned().collect::<Vec<_>>();
    let key = match spot.merge {
        _ if replace => None,
        Merge::Keys(keys) => keys.first(),
        Merge::Set => {
            if !target.is_array() {
                *target = Value::Array(Vec::new());
            }
            if let Value::Array(have) = target {
                for item in patch {
                    if !have.contains(item) {
                        have.push(item.clone());
                    }
                }
            }
            return Ok(());
        }
        Merge::Plain | Merge::Atomic => None,
    };
    let Some(key) = key else {
        *target = Value::Array(plain());
        return Ok(());
    };
    if !target.is_array() {
        *target = Value::Array(Vec::new());
    }
    let Value::Array(have) = target else { return Ok(()) };
    for item in patch {
        let Some(id) = item.get(*key) else {
            return Err(Error::Malformed(format!("map: {item} does not contain declared merge key: {key}")));
        };
        let found = have.iter().position(|h| h.get(*key) == Some(id));
        match (item.get(PATCH).and_then(Value::as_str), found) {
            (Some("delete"), Some(_)) => have.retain(|h| h.get(*key) != Some(id)),
            (Some("delete"), None) => {}
            (_, Some(at)) => {
                if let Some(slot) = have.get_mut(at) {
                    strategic(slot, item, spot.item())?;
                }
            }
            (_, None) => {
                let mut fresh = Value::Object(Map::new());
                strategic(&mut fresh, item, spot.item())?;
                have.push(fresh);
            }
        }
    }
    Ok(())
}

/// Sorts the items that `order` names as it says; the others keep their places after those before them.
fn sort_by_order(have: &mut [Value], order: &[Value], merge: &Merge) {
    let place = |item: &Value| match merge {
        Merge::Keys(keys) => {
            let key = keys.first().copied().unwrap_or_default();
            order.iter().position(|o| o.get(key).is_some() && o.get(key) == item.get(key))
        }
        _ => order.iter().position(|o| o == item),
    };
    let mut last = 0;
    let mut placed: Vec<(usize, Value)> = Vec::with_capacity(have.len());
    for item in have.iter() {
        last = place(item).unwrap_or(last);
        placed.push((last, item.clone()));
    }
    placed.sort_by_key(|(at, _)| *at);
    for (slot, (_, item)) in have.iter_mut().zip(placed) {
        *slot = item;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::schema;
    use serde_json::json;

    #[test]
    fn merge_patches() {
        let rows = [
            (json!({"a": 1}), json!({"b": 2}), json!({"a": 1, "b": 2})),
            (json!({"a": 1}), json!({"a": null}), json!({})),
            (json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": null}}), json!({"a": {"c": 2}})),
            (json!({"a": [1]}), json!({"a": [2]}), json!({"a": [2]})),
            (json!({}), json!({"a": {"b": null, "c": 1}}), json!({"a": {"c": 1}})),
        ];
        for (mut target, patch, expected) in rows {
            merge(&mut target, &patch);
            assert_eq!(target, expected, "{patch}");
        }
    }

    #[test]
    fn json_patches() {
        let rows = [
            (json!([{"op": "add", "path": "/a", "value": 1}]), Some(json!({"l": [1, 2], "a": 1}))),
            (json!([{"op": "add", "path": "/l/0", "value": 0}]), Some(json!({"l": [0, 1, 2]}))),
            (json!([{"op": "add", "path": "/l/-", "value": 3}]), Some(json!({"l": [1, 2, 3]}))),
            (json!([{"op": "remove", "path": "/l/0"}]), Some(json!({"l": [2]}))),
            (json!([{"op": "replace", "path": "/l", "value": 0}]), Some(json!({"l": 0}))),
            (json!([{"op": "move", "from": "/l", "path": "/m~1n"}]), Some(json!({"m/n": [1, 2]}))),
            (json!([{"op": "copy", "from": "/l/0", "path": "/c"}]), Some(json!({"l": [1, 2], "c": 1}))),
            (json!([{"op": "test", "path": "/l/0", "value": 1}]), Some(json!({"l": [1, 2]}))),
            (json!([{"op": "test", "path": "/l/0", "value": 2}]), None),
            (json!([{"op": "remove", "path": "/x"}]), None),
            (json!([{"op": "add", "path": "/l/9", "value": 1}]), None),
            (json!([{"op": "bogus", "path": "/l"}]), None),
            (json!({}), None),
        ];
        for (patch, expected) in rows {
            let mut target = json!({"l": [1, 2]});
            let result = json(&mut target, &patch);
            assert_eq!(result.ok().map(|()| target), expected, "{patch}");
        }
    }

    #[test]
    fn strategic_patches() {
        let pod = || {
            json!({"spec": {"containers": [
            {"name": "a", "image": "1", "ports": [{"containerPort": 80}], "args": ["x"]}, {"name": "b", "image": "1"}],
            "tolerations": [{"key": "k"}]}, "metadata": {"finalizers": ["f"], "labels": {"l": "1"}}})
        };
        let containers = |v: Value| json!({"spec": {"containers": v}});
        #[rustfmt::skip]
        let rows = [
            (containers(json!([{"name": "a", "image": "2"}])), "/spec/containers/0/image", json!("2")),
            (containers(json!([{"name": "a", "image": "2"}])), "/spec/containers/1/image", json!("1")),
            (containers(json!([{"name": "c", "image": "3"}])), "/spec/containers/2/image", json!("3")),
            (containers(json!([{"name": "a", "$patch": "delete"}])), "/spec/containers/0/name", json!("b")),
            (containers(json!([{"$patch": "replace"}, {"name": "z"}])), "/spec/containers", json!([{"name": "z"}])),
            (containers(json!([{"name": "a", "ports": [{"containerPort": 81}]}])), "/spec/containers/0/ports", json!([{"containerPort": 80}, {"containerPort": 81}])),
            (containers(json!([{"name": "a", "args": ["y"]}])), "/spec/containers/0/args", json!(["y"])),
            (json!({"spec": {"tolerations": [{"key": "m"}]}}), "/spec/tolerations", json!([{"key": "m"}])),
            (json!({"metadata": {"finalizers": ["g"]}}), "/metadata/finalizers", json!(["f", "g"])),
            (json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["f"]}}), "/metadata/finalizers", json!([])),
            (json!({"metadata": {"labels": {"l": null, "m": "2"}}}), "/metadata/labels", json!({"m": "2"})),
            (json!({"metadata": {"labels": {"$patch": "replace", "n": "3"}}}), "/metadata/labels", json!({"n": "3"})),
            (json!({"spec": {"$retainKeys": ["containers"]}}), "/spec/tolerations", Value::Null),
            (json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}), "/spec/containers/0/name", json!("b")),
        ];
        let spot = schema::kind("", "v1", "Pod").unwrap().spot();
        for (patch, pointer, expected) in rows {
            let mut target = pod();
            strategic(&mut target, &patch, spot).unwrap();
            assert_eq!(target.pointer(pointer).unwrap_or(&Value::Null), &expected, "{patch}");
        }
        let bogus = strategic(&mut pod(), &json!({"$patch": "bogus"}), spot).unwrap_err();
        assert!(matches!(bogus, Error::Directive(m) if m.starts_with("unknown patch type: bogus")));
    }
}
