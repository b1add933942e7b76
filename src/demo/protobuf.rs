//! Objects in protobuf, read by the schemas: kubectl's typed commands (`create`, `auth can-i`, `drain`) send them.
//!
//! Only reading: every client that prefers protobuf accepts JSON answers, too.

use super::schema::{self, Field, Shape, Type};
use crate::codec::protobuf::{self, Envelope, Limits, Message};
use base64::Engine as _;
use serde_json::{Map, Value, json};

/// More than a request body may have, and more levels than any type.
const LIMITS: Limits = Limits { bytes: 4 << 20, depth: DEPTH };

/// How deep messages may nest.
const DEPTH: usize = 32;

/// One field's value, whatever its number.
type Raw<'a> = protobuf::Field<'a>;

/// Reads a body that should be of type `of`; None: it is broken, of another kind, or has parts that the schemas do not
/// know.
pub(super) fn read(of: &'static Type, body: &[u8]) -> Option<Value> {
    let envelope = Envelope::read(body, LIMITS).ok()?;
    let mut head = Map::new();
    for (key, value) in [("apiVersion", envelope.api_version), ("kind", envelope.kind)] {
        insert(&mut head, key, value.into());
    }
    let Value::Object(rest) = message(of, Message::new(envelope.raw, DEPTH))? else { return None };
    head.extend(rest);
    Some(Value::Object(head))
}

fn message(of: &'static Type, fields: Message<'_>) -> Option<Value> {
    let mut out = Map::new();
    for raw in fields {
        let raw = raw.ok()?;
        if of.kind && raw.number == 1 {
            insert(&mut out, "metadata", message(schema::named("ObjectMeta")?, raw.message().ok()?)?);
            continue;
        }
        let inlined = |f: &Field| f.number.0 == raw.number && f.number.1 != 0;
        if of.fields.iter().any(inlined) {
            for inner in raw.message().ok()? {
                let inner = inner.ok()?;
                let field = of.fields.iter().find(|f| f.number == (raw.number, inner.number))?;
                one(&mut out, field, inner)?;
            }
            continue;
        }
        // What a newer client knows and this table does not must not be lost in silence.
        let field = of.fields.iter().find(|f| f.number == (raw.number, 0));
        match field {
            Some(field) => one(&mut out, field, raw)?,
            None if is_zero(raw) => {}
            None => return None,
        }
    }
    Some(Value::Object(out))
}

fn is_zero(raw: Raw<'_>) -> bool {
    matches!(raw.value, protobuf::Value::Number(0) | protobuf::Value::Bytes([]))
}

fn string(raw: Raw<'_>) -> Option<String> {
    raw.text().ok().map(str::to_owned)
}

fn insert(out: &mut Map<String, Value>, name: &str, value: Value) {
    let empty = match &value {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Object(map) => map.is_empty() && matches!(name, "metadata" | "spec" | "status"),
        _ => false,
    };
    if !empty {
        out.insert(name.into(), value);
    }
}

fn one(out: &mut Map<String, Value>, field: &'static Field, raw: Raw<'_>) -> Option<()> {
    match &field.shape {
        Shape::List(item) => {
            let value = scalar(item, raw, true)?;
            if let Value::Array(list) = out.entry(field.name).or_insert_with(|| json!([])) {
                list.push(value);
            }
        }
        Shape::Map(item) => {
            let (mut key, mut value) = (String::new(), scalar_default(item));
            for raw in raw.message().ok()? {
                let raw = raw.ok()?;
                match raw.number {
                    1 => key = string(raw)?,
                    _ => value = scalar(item, raw, true)?,
                }
            }
            if let Value::Object(map) = out.entry(field.name).or_insert_with(|| json!({})) {
                map.insert(key, value);
            }
        }
        // The server writes the status itself; what a client sends of it does not count.
        Shape::Any if field.name == "status" => {}
        shape => {
            let value = scalar(shape, raw, field.optional)?;
            insert(out, field.name, value);
        }
    }
    Some(())
}

fn scalar_default(shape: &Shape) -> Value {
    match shape {
        Shape::String | Shape::Bytes => "".into(),
        _ => Value::Null,
    }
}

/// One value; null where a zero stands for nothing.
fn scalar(shape: &Shape, raw: Raw<'_>, zero_counts: bool) -> Option<Value> {
    Some(match shape {
        Shape::String => string(raw)?.into(),
        Shape::Int | Shape::Int64 => match raw.number().ok()? {
            0 if !zero_counts => Value::Null,
            n => n.into(),
        },
        Shape::Bool => match raw.flag().ok()? {
            false if !zero_counts => Value::Null,
            flag => flag.into(),
        },
        Shape::Bytes => base64::engine::general_purpose::STANDARD.encode(raw.bytes().ok()?).into(),
        Shape::Quantity => match raw.message().ok()?.next() {
            Some(text) => string(text.ok()?)?.into(),
            None => Value::Null,
        },
        Shape::IntOrString => {
            let (mut number, mut text, mut is_text) = (0, String::new(), false);
            for raw in raw.message().ok()? {
                let raw = raw.ok()?;
                match raw.number {
                    1 => is_text = raw.number().ok()? == 1,
                    2 => number = raw.number().ok()?,
                    _ => text = string(raw)?,
                }
            }
            if is_text { text.into() } else { number.into() }
        }
        Shape::Time | Shape::MicroTime => {
            let mut at = Value::Null;
            for raw in raw.message().ok()? {
                let raw = raw.ok()?;
                if raw.number == 1 {
                    at = jiff::Timestamp::from_second(raw.number().ok()?).ok()?.to_string().into();
                }
            }
            at
        }
        Shape::Named(name) => message(schema::named(name)?, raw.message().ok()?)?,
        Shape::Any if is_zero(raw) => json!({}),
        Shape::Number
        | Shape::Any
        | Shape::Json
        | Shape::Free
        | Shape::Object(_)
        | Shape::List(_)
        | Shape::Map(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(fields: &[(u8, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, value) in fields {
            out.extend([number << 3 | 2, u8::try_from(value.len()).unwrap()]);
            out.extend(*value);
        }
        out
    }

    fn envelope(kind: &[u8], raw: &[u8]) -> Vec<u8> {
        let mut body = b"k8s\0".to_vec();
        body.extend(message(&[(1, &message(&[(1, b"v1"), (2, kind)])), (2, raw), (3, b""), (4, b"")]));
        body
    }

    #[test]
    fn an_access_review() {
        let attributes = message(&[(1, b"shop"), (2, b"get"), (3, b""), (5, b"pods"), (6, b"log")]);
        let review = message(&[(1, b""), (2, &message(&[(1, &attributes)])), (3, &[8, 0])]);
        let body = envelope(b"SelfSubjectAccessReview", &review);
        let of = schema::named("SelfSubjectAccessReview").unwrap();
        let expected = json!({"apiVersion": "v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes":
            {"namespace": "shop", "verb": "get", "resource": "pods", "subresource": "log"}}});
        assert_eq!(read(of, &body), Some(expected));
        for cut in [&body[..3], &body[..body.len() - 5], b"k8s\0\xff"] {
            assert_eq!(read(of, cut), None);
        }
    }

    #[test]
    fn maps_bytes_and_inlined_messages() {
        let entry = message(&[(1, b"k"), (2, b"v")]);
        let body = envelope(b"Secret", &message(&[(1, &message(&[(1, b"s"), (8, b"")])), (2, &entry)]));
        let expected =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "dg=="}});
        assert_eq!(read(schema::named("Secret").unwrap(), &body), Some(expected));
        let volume = message(&[(1, b"v"), (2, &message(&[(6, &message(&[(1, b"s")]))]))]);
        let found = super::message(schema::named("Volume").unwrap(), Message::new(&volume, DEPTH));
        assert_eq!(found, Some(json!({"name": "v", "secret": {"secretName": "s"}})));
    }

    #[test]
    fn zeros_count_where_they_were_set() {
        let spec = schema::named("DeploymentSpec").unwrap();
        assert_eq!(super::message(spec, Message::new(&[8, 0, 40, 0], DEPTH)), Some(json!({"replicas": 0})));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let spec = schema::named("DeploymentSpec").unwrap();
        assert_eq!(super::message(spec, Message::new(&message(&[(99, b"x")]), DEPTH)), None);
        let pod = schema::named("PodSpec").unwrap();
        assert_eq!(super::message(pod, Message::new(&message(&[(18, b"x")]), DEPTH)), None);
    }
}
