//! Objects in protobuf, read by the schemas: kubectl's typed commands (`create`, `auth can-i`, `drain`) send them.
//!
//! Only reading: every client that prefers protobuf accepts JSON answers, too.

use super::schema::{self, Field, Shape, Type};
use base64::Engine as _;
use serde_json::{Map, Value, json};

/// How deep messages may nest.
const DEPTH: usize = 32;

/// One field of a message: a number, or bytes.
#[derive(Debug, Clone, Copy)]
enum Raw<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Reads a body that should be of type `of`; None: it is broken, of another kind, or has parts that the schemas do not
/// know.
pub(super) fn read(of: &'static Type, body: &[u8]) -> Option<Value> {
    let unknown = fields(body.strip_prefix(b"k8s\0")?)?;
    let bytes = |n| unknown.iter().find_map(|(number, raw)| (*number == n).then(|| raw.bytes())).flatten();
    let mut head = Map::new();
    for (number, raw) in fields(bytes(1).unwrap_or_default())? {
        let key = if number == 1 { "apiVersion" } else { "kind" };
        insert(&mut head, key, Value::String(raw.string()?));
    }
    let Value::Object(rest) = message(of, bytes(2).unwrap_or_default(), DEPTH)? else { return None };
    head.extend(rest);
    Some(Value::Object(head))
}

impl<'a> Raw<'a> {
    fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Number(_) => None,
        }
    }

    fn string(self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn number(self) -> Option<i64> {
        match self {
            // Negative numbers travel as their two's complement.
            Self::Number(n) => Some(n.cast_signed()),
            Self::Bytes(_) => None,
        }
    }
}

fn message(of: &'static Type, bytes: &[u8], depth: usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let mut out = Map::new();
    for (number, raw) in fields(bytes)? {
        if of.kind && number == 1 {
            insert(&mut out, "metadata", message(schema::named("ObjectMeta")?, raw.bytes()?, depth)?);
            continue;
        }
        let inlined = |f: &Field| f.number.0 == number && f.number.1 != 0;
        if of.fields.iter().any(inlined) {
            for (inner, raw) in fields(raw.bytes()?)? {
                let field = of.fields.iter().find(|f| f.number == (number, inner))?;
                one(&mut out, field, raw, depth)?;
            }
            continue;
        }
        // What a newer client knows and this table does not must not be lost in silence.
        let field = of.fields.iter().find(|f| f.number == (number, 0));
        match field {
            Some(field) => one(&mut out, field, raw, depth)?,
            None if raw.is_zero() => {}
            None => return None,
        }
    }
    Some(Value::Object(out))
}

impl Raw<'_> {
    fn is_zero(self) -> bool {
        matches!(self, Self::Number(0) | Self::Bytes([]))
    }
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

fn one(out: &mut Map<String, Value>, field: &'static Field, raw: Raw<'_>, depth: usize) -> Option<()> {
    match &field.shape {
        Shape::List(item) => {
            let value = scalar(item, raw, true, depth)?;
            if let Value::Array(list) = out.entry(field.name).or_insert_with(|| json!([])) {
                list.push(value);
            }
        }
        Shape::Map(item) => {
            let (mut key, mut value) = (String::new(), scalar_default(item));
            for (number, raw) in fields(raw.bytes()?)? {
                match number {
                    1 => key = raw.string()?,
                    _ => value = scalar(item, raw, true, depth)?,
                }
            }
            if let Value::Object(map) = out.entry(field.name).or_insert_with(|| json!({})) {
                map.insert(key, value);
            }
        }
        // The server writes the status itself; what a client sends of it does not count.
        Shape::Any if field.name == "status" => {}
        shape => {
            let value = scalar(shape, raw, field.optional, depth)?;
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
fn scalar(shape: &Shape, raw: Raw<'_>, zero_counts: bool, depth: usize) -> Option<Value> {
    let integer = |raw: Raw<'_>| raw.number();
    Some(match shape {
        Shape::String => raw.string()?.into(),
        Shape::Int | Shape::Int64 => match integer(raw)? {
            0 if !zero_counts => Value::Null,
            n => n.into(),
        },
        Shape::Bool => match integer(raw)? {
            0 if !zero_counts => Value::Null,
            n => (n != 0).into(),
        },
        Shape::Bytes => base64::engine::general_purpose::STANDARD.encode(raw.bytes()?).into(),
        Shape::Quantity => {
            let all = fields(raw.bytes()?)?;
            all.first().map_or(Some(Value::Null), |(_, raw)| raw.string().map(Value::from))?
        }
        Shape::IntOrString => {
            let (mut number, mut text, mut is_text) = (0, String::new(), false);
            for (n, raw) in fields(raw.bytes()?)? {
                match n {
                    1 => is_text = raw.number()? == 1,
                    2 => number = raw.number()?,
                    _ => text = raw.string()?,
                }
            }
            if is_text { text.into() } else { number.into() }
        }
        Shape::Time | Shape::MicroTime => {
            let all = fields(raw.bytes()?)?;
            match all.iter().find(|(n, _)| *n == 1) {
                Some((_, seconds)) => {
                    jiff::Timestamp::from_second(seconds.number()?).ok()?.to_string().into()
                }
                None => Value::Null,
            }
        }
        Shape::Named(name) => message(schema::named(name)?, raw.bytes()?, depth)?,
        Shape::Any if raw.is_zero() => json!({}),
        Shape::Any | Shape::List(_) | Shape::Map(_) => return None,
    })
}

/// The fields of a message, in order.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Raw<'_>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        match key & 7 {
            0 => found.push((key >> 3, Raw::Number(varint(&mut bytes)?))),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                found.push((key >> 3, Raw::Bytes(value)));
                bytes = rest;
            }
            // No Kubernetes type has floating-point or fixed-size fields.
            _ => return None,
        }
    }
    Some(found)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
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
        let found = super::message(schema::named("Volume").unwrap(), &volume, DEPTH);
        assert_eq!(found, Some(json!({"name": "v", "secret": {"secretName": "s"}})));
    }

    #[test]
    fn zeros_count_where_they_were_set() {
        let spec = schema::named("DeploymentSpec").unwrap();
        assert_eq!(super::message(spec, &[8, 0, 40, 0], DEPTH), Some(json!({"replicas": 0})));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let spec = schema::named("DeploymentSpec").unwrap();
        assert_eq!(super::message(spec, &message(&[(99, b"x")]), DEPTH), None);
        let pod = schema::named("PodSpec").unwrap();
        assert_eq!(super::message(pod, &message(&[(18, b"x")]), DEPTH), None);
    }
}
