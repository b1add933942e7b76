//! The values of a custom resource held against its schema, with the causes that kube-apiserver gives.

use super::flag;
use crate::demo::{
    answer::Cause,
    value::{items, map, text},
};
use regex::Regex;
use serde_json::{Map, Value};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Everything that is wrong.
pub(super) fn validate(schema: &Value, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    at(schema, object, "", &mut causes);
    causes
}

fn cause(reason: &'static str, field: &str, message: String) -> Cause {
    let field = if field.is_empty() { "<nil>" } else { field };
    Cause { reason, field: field.to_owned(), message }
}

fn invalid(path: &str, value: &Value, why: &str) -> Cause {
    cause("FieldValueInvalid", path, format!("Invalid value: {value}: {path} in body {why}"))
}

/// A type as OpenAPI names it.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_whole(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_whole(value: &Value) -> bool {
    const MOST: f64 = 9.2e18;
    value.is_i64() || value.as_f64().is_some_and(|f| f.fract() == 0.0 && f.abs() < MOST)
}

fn at(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    if value.is_null() && flag(schema, "nullable") {
        return;
    }
    types(schema, value, path, causes);
    combined(schema, value, path, causes);
    match value {
        Value::String(s) => strings(schema, s, path, causes),
        Value::Number(_) => numbers(schema, value, path, causes),
        Value::Array(list) => lists_of(schema, list, path, causes),
        _ => {}
    }
    choices(schema, value, path, causes);
    if let Value::Object(map) = value {
        objects(schema, map, path, causes);
    }
}

fn types(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let wrong = |wanted: &str, found: &str| {
        let why = format!("Invalid value: {found:?}: {path} in body must be of type {wanted}: {found:?}");
        cause("FieldValueTypeInvalid", path, why)
    };
    let found = type_of(value);
    if flag(schema, "x-kubernetes-int-or-string") {
        if !matches!(found, "integer" | "string") {
            causes.push(wrong("integer,string", found));
        }
        return;
    }
    let wanted = text(schema, "/type");
    let format = text(schema, "/format");
    match (wanted, found) {
        ("", _) => {}
        ("number", "integer") => {}
        ("integer", "number") if matches!(format, "int32" | "int64") => causes.push(wrong(format, "float64")),
        (wanted, found) if wanted != found => causes.push(wrong(wanted, found)),
        _ => {}
    }
}

/// `allOf`, `anyOf`, `oneOf` and `not`.
fn combined(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let faults = |schema: &Value| {
        let mut causes = Vec::new();
        at(schema, value, path, &mut causes);
        causes
    };
    let note = |why: String| cause("FieldValueInvalid", "", format!("Invalid value: \"\": {path:?} {why}"));
    let all = |key: &str| items(schema, &format!("/{key}")).iter().map(faults).collect::<Vec<_>>();
    let best = |tried: Vec<Vec<Cause>>| tried.into_iter().min_by_key(Vec::len).unwrap_or_default();
    let any = all("anyOf");
    if !any.is_empty() && any.iter().all(|c| !c.is_empty()) {
        causes.push(note("must validate at least one schema (anyOf)".into()));
        causes.extend(best(any));
    }
    let one = all("oneOf");
    let valid = one.iter().filter(|c| c.is_empty()).count();
    if !one.is_empty() && valid == 0 {
        causes.push(note("must validate one and only one schema (oneOf). Found none valid".into()));
        causes.extend(best(one));
    } else if valid > 1 {
        let why = format!("must validate one and only one schema (oneOf). Found {valid} valid alternatives");
        causes.push(note(why));
    }
    let every = all("allOf");
    let failed = every.iter().filter(|c| !c.is_empty()).count();
    if failed > 0 {
        let none = if failed == every.len() { ". None validated" } else { "" };
        causes.extend(every.into_iter().flatten());
        causes.push(note(format!("must validate all the schemas (allOf){none}")));
    }
    if schema.get("not").is_some_and(|not| faults(not).is_empty()) {
        causes.push(note("must not validate the schema (not)".into()));
    }
}

fn strings(schema: &Value, s: &str, path: &str, causes: &mut Vec<Cause>) {
    let shown = Value::from(s);
    let length = s.chars().count() as u64;
    let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
    if let Some(most) = bound("maxLength").filter(|most| length > *most) {
        let why = format!("Too long: may not be more than {most} bytes");
        causes.push(cause("FieldValueTooLong", path, why));
    } else if let Some(least) = bound("minLength").filter(|least| length < *least) {
        causes.push(invalid(path, &shown, &format!("should be at least {least} chars long")));
    } else {
        let pattern = text(schema, "/pattern");
        if !pattern.is_empty() && Regex::new(pattern).is_ok_and(|re| !re.is_match(s)) {
            causes.push(invalid(path, &shown, &format!("should match '{pattern}'")));
        }
    }
    let format = text(schema, "/format");
    if !has_format(format, s) {
        let why = format!("Invalid value: {shown}: {path} in body must be of type {format}: {shown}");
        causes.push(cause("FieldValueTypeInvalid", path, why));
    }
}

/// Whether a text has a format; formats that are not known are had by all.
fn has_format(format: &str, s: &str) -> bool {
    let digits = |s: &str| s.chars().all(|c| c.is_ascii_hexdigit());
    match format {
        "date" => s.parse::<jiff::civil::Date>().is_ok() && s.len() == 10,
        "date-time" | "datetime" => s.parse::<jiff::Timestamp>().is_ok(),
        "ipv4" => s.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => s.parse::<Ipv6Addr>().is_ok(),
        "cidr" => s.split_once('/').is_some_and(|(ip, bits)| {
            let most = ip.parse::<IpAddr>().map_or(-1, |ip| if ip.is_ipv4() { 32 } else { 128 });
            bits.parse::<i32>().is_ok_and(|bits| (0..=most).contains(&bits))
        }),
        "uuid" => {
            let parts: Vec<&str> = s.split('-').collect();
            parts.iter().map(|p| p.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(|p| digits(p))
        }
        "uri" => http::Uri::try_from(s).is_ok_and(|uri| uri.scheme().is_some() || s.starts_with('/')),
        "email" => {
            s.split_once('@').is_some_and(|(user, host)| !user.is_empty() && has_format("hostname", host))
        }
        "hostname" => {
            let label = |l: &str| {
                let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
                (1..=63).contains(&l.len()) && l.chars().all(fits) && !l.starts_with('-') && !l.ends_with('-')
            };
            s.len() <= 255 && s.split('.').all(label)
        }
        "mac" => {
            let parts: Vec<&str> = s.split([':', '-']).collect();
            matches!(parts.len(), 6 | 8) && parts.iter().all(|p| p.len() == 2 && digits(p))
        }
        "hexcolor" => s.strip_prefix('#').is_some_and(|h| matches!(h.len(), 3 | 6) && digits(h)),
        "byte" => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(s).is_ok()
        }
        "duration" => {
            Regex::new(r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h|d|w)\s*)+$").is_ok_and(|re| re.is_match(s))
        }
        _ => true,
    }
}

fn numbers(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let number = value.as_f64().unwrap_or_default();
    let of = |key: &str| schema.get(key).and_then(Value::as_f64);
    if text(schema, "/type") == "integer" {
        let format = text(schema, "/format");
        let fits = is_whole(value) && (format != "int32" || i32::try_from(number as i64).is_ok());
        if !fits {
            let format = match format {
                "int32" | "int64" => format!("with format {format}"),
                _ => "(default format)".to_owned(),
            };
            let why =
                format!("Invalid value: \"\": Checked value must be of type integer {format} in {path}");
            causes.push(cause("FieldValueInvalid", "", why));
        }
    }
    if let Some(factor) = of("multipleOf") {
        // A whole number is divided by the whole part of the factor.
        if is_whole(value) && factor.trunc() == 0.0 {
            let why = format!("Invalid value: 0: factor MultipleOf declared for {path} must be positive: 0");
            causes.push(cause("FieldValueInvalid", path, why));
        } else if (number / factor).fract() != 0.0 {
            causes.push(invalid(
                path,
                value,
                &format!("should be a multiple of {}", shown(schema, "multipleOf")),
            ));
        }
    }
    if let Some(most) = of("maximum") {
        let exclusive = flag(schema, "exclusiveMaximum");
        if number > most || exclusive && number == most {
            let than = if exclusive { "less than" } else { "less than or equal to" };
            causes.push(invalid(path, value, &format!("should be {than} {}", shown(schema, "maximum"))));
        }
    }
    if let Some(least) = of("minimum") {
        let exclusive = flag(schema, "exclusiveMinimum");
        if number < least || exclusive && number == least {
            let than = if exclusive { "greater than" } else { "greater than or equal to" };
            causes.push(invalid(path, value, &format!("should be {than} {}", shown(schema, "minimum"))));
        }
    }
}

fn shown(schema: &Value, key: &str) -> String {
    let number = schema.get(key).and_then(Value::as_f64).unwrap_or_default();
    number.to_string()
}

fn lists_of(schema: &Value, list: &[Value], path: &str, causes: &mut Vec<Cause>) {
    if let Some(below) = schema.get("items") {
        for (i, item) in list.iter().enumerate() {
            at(below, item, &format!("{path}[{i}]"), causes);
        }
    }
    let count = list.len() as u64;
    let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
    if let Some(least) = bound("minItems").filter(|least| count < *least) {
        causes.push(invalid(path, &count.into(), &format!("should have at least {least} items")));
    }
    if let Some(most) = bound("maxItems").filter(|most| count > *most) {
        causes.push(too_many(path, count, most));
    }
}

fn too_many(path: &str, count: u64, most: u64) -> Cause {
    cause("FieldValueTooMany", path, format!("Too many: {count}: must have at most {most} items"))
}

fn choices(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let known = items(schema, "/enum");
    if !known.is_empty() && !known.contains(value) {
        let known: Vec<String> = known
            .iter()
            .map(|v| v.as_str().map_or_else(|| format!("\"{v}\""), |s| format!("{s:?}")))
            .collect();
        let why = format!("Unsupported value: {value}: supported values: {}", known.join(", "));
        causes.push(cause("FieldValueNotSupported", path, why));
    }
}

fn objects(schema: &Value, object: &Map<String, Value>, path: &str, causes: &mut Vec<Cause>) {
    let count = object.len() as u64;
    let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
    if let Some(least) = bound("minProperties").filter(|least| count < *least) {
        causes.push(invalid(path, &count.into(), &format!("should have at least {least} properties")));
        return;
    }
    if let Some(most) = bound("maxProperties").filter(|most| count > *most) {
        causes.push(too_many(path, count, most));
        return;
    }
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let properties = map(schema, "/properties");
    let others = schema.get("additionalProperties").filter(|a| a.is_object());
    for (key, value) in object {
        if let Some(schema) = properties.and_then(|p| p.get(key)).or(others) {
            at(schema, value, &below(key), causes);
        }
    }
    let required = items(schema, "/required").iter().filter_map(Value::as_str);
    for key in required.filter(|key| !object.contains_key(*key)) {
        causes.push(Cause::required(&below(key), ""));
    }
    if flag(schema, "x-kubernetes-embedded-resource") {
        for key in ["apiVersion", "kind"] {
            if object.get(key).and_then(Value::as_str).is_none_or(str::is_empty) {
                causes.push(Cause::required(&below(key), ""));
            }
        }
    }
}

/// `spec.replicas` of something that can be scaled.
pub(super) fn replicas(object: &Value, pointer: &str, causes: &mut Vec<Cause>) {
    let field = pointer.replace('/', ".");
    match object.pointer(pointer) {
        Some(Value::Number(n)) if n.as_i64().is_some_and(|n| n < 0) => {
            causes.push(Cause::invalid(&field, &n.to_string(), "should be a non-negative integer"));
        }
        Some(Value::Number(n)) if n.as_i64().is_some_and(|n| n > i64::from(i32::MAX)) => {
            let why = format!("should be less than or equal to {}", i32::MAX);
            causes.push(Cause::invalid(&field, &n.to_string(), &why));
        }
        Some(value) if !value.is_i64() && !value.is_null() => {
            let (found, shown) = match value {
                Value::String(s) => ("string", s.clone()),
                Value::Number(n) => ("float64", n.to_string()),
                Value::Bool(b) => ("bool", b.to_string()),
                other => ("map[string]interface {}", other.to_string()),
            };
            let why = format!("{field} accessor error: {shown} is of the type {found}, expected int64");
            causes.push(Cause::invalid(&field, "0", &why));
        }
        None => {
            let above = pointer.rsplit_once('/').map_or("", |(above, _)| above);
            if let Some(Value::String(s)) = object.pointer(above) {
                let why = format!(
                    "{field} accessor error: {s} is of the type string, expected map[string]interface{{}}"
                );
                causes.push(Cause::invalid(&field, "0", &why));
            }
        }
        _ => {}
    }
}

/// Lists that are sets or maps hold nothing twice.
pub(super) fn lists(schema: &Value, value: &Value, causes: &mut Vec<Cause>) {
    lists_at(schema, value, "", causes);
}

fn lists_at(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    match value {
        Value::Array(list) => {
            let keys = items(schema, "/x-kubernetes-list-map-keys");
            let key = |item: &Value| match text(schema, "/x-kubernetes-list-type") {
                "set" => Some(item.clone()),
                "map" => {
                    let mut names: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
                    names.sort_unstable();
                    let pair = |name: &str| Some((name.to_owned(), item.get(name)?.clone()));
                    Some(Value::Object(names.into_iter().filter_map(pair).collect()))
                }
                _ => None,
            };
            let mut seen = Vec::new();
            for (i, item) in list.iter().enumerate() {
                let at = format!("{path}[{i}]");
                if let Some(key) = key(item) {
                    if seen.contains(&key) {
                        causes.push(cause("FieldValueDuplicate", &at, format!("Duplicate value: {key}")));
                    } else {
                        seen.push(key);
                    }
                }
                if let Some(below) = schema.get("items") {
                    lists_at(below, item, &at, causes);
                }
            }
        }
        Value::Object(object) => {
            let properties = map(schema, "/properties");
            let others = schema.get("additionalProperties");
            for (key, item) in object {
                let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                if let Some(below) = properties.and_then(|p| p.get(key)).or(others) {
                    lists_at(below, item, &at, causes);
                }
            }
        }
        _ => {}
    }
}
