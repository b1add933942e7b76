//! What the objects look like: one table from which come the OpenAPI documents, the check for unknown fields, and how
//! lists merge in strategic and server-side patches.

use serde_json::Value;
use std::sync::LazyLock;

static TEXT: &str = include_str!("schema/schemas.txt");
static SCHEMAS: LazyLock<Vec<Type>> = LazyLock::new(|| parse(TEXT));

/// A named type, or the form of custom resources.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Type {
    /// Short name, also the kind's name.
    pub name: &'static str,
    /// Name in OpenAPI documents.
    pub definition: String,
    /// API group of its section.
    pub group: &'static str,
    /// Version of its section.
    pub version: &'static str,
    /// Has apiVersion, kind and metadata.
    pub kind: bool,
    /// Replaced whole by server-side apply.
    pub atomic: bool,
    /// One sentence.
    pub about: &'static str,
    /// Without those that `kind` adds.
    pub fields: Vec<Field>,
}

/// A field of a type.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// JSON name.
    pub name: &'static str,
    /// What it holds.
    pub shape: Shape,
    /// Number in protobuf, after that of the inlined message it is in; 0: none known.
    pub number: (u32, u32),
    /// A scalar that protobuf sends only when it was set, so that zero counts.
    pub optional: bool,
    /// Must be there.
    pub required: bool,
    /// How a list or map merges.
    pub merge: Merge,
    /// One sentence.
    pub about: &'static str,
}

/// What a value holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    String,
    Int,
    Int64,
    Number,
    Bool,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    Bytes,
    /// An object that is nobody's business.
    Any,
    /// Any JSON.
    Json,
    /// Any JSON, whose objects merge member by member.
    Free,
    List(Box<Self>),
    Map(Box<Self>),
    Named(&'static str),
    /// A type without a name.
    Object(&'static Type),
}

/// How lists and maps merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Merge {
    /// Field by field; a list without more is replaced whole.
    Plain,
    /// Replaced whole.
    Atomic,
    /// A set of scalars.
    Set,
    /// A list of objects told apart by these fields.
    Keys(Vec<&'static str>),
}

/// A place in an object: what is there, and how it merges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    /// What is there.
    pub shape: &'static Shape,
    /// How it merges.
    pub merge: &'static Merge,
    /// True at the root and at embedded objects with their own apiVersion and kind.
    root: Option<&'static Type>,
}

static STRING: Shape = Shape::String;
static ANY: Shape = Shape::Any;
static FREE: Shape = Shape::Free;
static METADATA: Shape = Shape::Named("ObjectMeta");
static PLAIN: Merge = Merge::Plain;

/// All types, in the file's order.
pub(super) fn types() -> &'static [Type] {
    &SCHEMAS
}

/// The type of this kind.
pub(super) fn kind(group: &str, version: &str, kind: &str) -> Option<&'static Type> {
    types().iter().find(|t| t.kind && t.name == kind && t.group == group && t.version == version)
}

/// A type by its short name.
pub(super) fn named(name: &str) -> Option<&'static Type> {
    types().iter().find(|t| t.name == name)
}

impl Type {
    /// The root of an object of this type.
    pub(super) fn spot(&'static self) -> Spot {
        Spot { shape: &ANY, merge: &PLAIN, root: Some(self) }
    }
}

impl Spot {
    /// A place that nothing is known about.
    pub(super) fn unknown() -> Self {
        Self { shape: &ANY, merge: &PLAIN, root: None }
    }

    fn object(&self) -> Option<&'static Type> {
        match self.shape {
            Shape::Named(name) => named(name),
            Shape::Object(of) => Some(of),
            _ => self.root,
        }
    }

    fn free() -> Self {
        Self { shape: &FREE, merge: &PLAIN, root: None }
    }

    /// The place of a member; None when the type has no such field.
    pub(super) fn member(&self, name: &str) -> Option<Self> {
        let plain = |shape| Self { shape, merge: &PLAIN, root: None };
        if let Some(object) = self.object() {
            if object.kind {
                match name {
                    "apiVersion" | "kind" => return Some(plain(&STRING)),
                    "metadata" => return Some(plain(&METADATA)),
                    _ => {}
                }
            }
            let field = object.fields.iter().find(|f| f.name == name);
            // What a custom resource keeps though it is not known merges like any JSON.
            if field.is_none() && object.name.is_empty() {
                return Some(Self::free());
            }
            return field.map(|field| Self { shape: &field.shape, merge: &field.merge, root: None });
        }
        match self.shape {
            Shape::Map(item) => Some(plain(item)),
            Shape::Free => Some(Self::free()),
            _ => Some(Self::unknown()),
        }
    }

    /// The place of a list's items.
    pub(super) fn item(&self) -> Self {
        match self.shape {
            Shape::List(item) => Self { shape: item, merge: &PLAIN, root: None },
            Shape::Free => Self::free(),
            _ => Self::unknown(),
        }
    }

    /// Whether what is here is replaced whole by server-side apply.
    pub(super) fn is_atomic(&self, value: &Value) -> bool {
        match value {
            Value::Object(_) => {
                *self.merge == Merge::Atomic
                    || self
                        .object()
                        .map_or(matches!(self.shape, Shape::Any | Shape::Json) && self.root.is_none(), |t| {
                            t.atomic
                        })
            }
            Value::Array(_) => matches!(self.merge, Merge::Atomic | Merge::Plain),
            _ => true,
        }
    }
}

/// What is wrong with an object's form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wrong {
    /// No such field; its path.
    Unknown(String),
    /// A value of another JSON type, in the words of Go's decoder.
    Type(String),
}

/// Everything that the type `of` does not know about `object`, in order.
pub(super) fn check(of: &'static Type, object: &Value) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    walk(of.spot(), object, ("", ""), of.name, &mut wrong);
    wrong
}

/// Takes out what the type `of` does not know, and nulls.
pub(super) fn prune(of: &'static Type, object: &mut Value) {
    prune_at(of.spot(), object);
}

fn prune_at(spot: Spot, value: &mut Value) {
    if matches!(spot.shape, Shape::Any | Shape::Json) && spot.root.is_none() {
        return;
    }
    match value {
        Value::Object(map) => map.retain(|key, item| {
            let Some(below) = spot.member(key) else { return false };
            prune_at(below, item);
            !item.is_null() || spot.object().is_none()
        }),
        Value::Array(list) => list.iter_mut().for_each(|item| prune_at(spot.item(), item)),
        _ => {}
    }
}

/// `path` is as warnings show it, `go` as Go's decoder does: without indices and without the keys of maps.
fn walk(spot: Spot, value: &Value, (path, go): (&str, &str), owner: &str, wrong: &mut Vec<Wrong>) {
    let mismatch = |of: &str| {
        let found = match value {
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(n) if matches!(of, "int32" | "int64") => format!("number {n}"),
            Value::Number(_) => "number".into(),
            Value::String(_) => "string".into(),
            Value::Array(_) => "array".into(),
            Value::Object(_) | Value::Null => "object".into(),
        };
        Wrong::Type(format!("json: cannot unmarshal {found} into Go struct field {owner}.{go} of type {of}"))
    };
    let fits = match (spot.shape, value) {
        (_, Value::Null) => return,
        (Shape::String, v) => v.is_string().then_some(()).ok_or("string"),
        (Shape::Time | Shape::MicroTime, Value::String(time)) => {
            if time.parse::<jiff::Timestamp>().is_err() {
                let layout = if *spot.shape == Shape::Time { "05Z07:00" } else { "05.000000Z07:00" };
                let why = format!(
                    "parsing time {time:?} as \"2006-01-02T15:04:{layout}\": cannot parse {time:?} as \"2006\""
                );
                wrong.push(Wrong::Type(why));
            }
            Ok(())
        }
        (Shape::Bytes, Value::String(text)) => {
            let engine = base64::engine::general_purpose::STANDARD;
            if let Err(error) = base64::Engine::decode(&engine, text.replace(['\r', '\n'], "")) {
                let at = match error {
                    base64::DecodeError::InvalidByte(at, _) => at,
                    _ => text.len() - text.len() % 4,
                };
                wrong.push(Wrong::Type(format!("illegal base64 data at input byte {at}")));
            }
            Ok(())
        }
        (Shape::Time | Shape::MicroTime, _) => Err("string"),
        (Shape::Bytes, _) => Err("[]uint8"),
        (Shape::Bool, v) => v.is_boolean().then_some(()).ok_or("bool"),
        (Shape::Int, v) => v.as_i64().filter(|n| i32::try_from(*n).is_ok()).map(|_| ()).ok_or("int32"),
        (Shape::Number, v) => v.is_number().then_some(()).ok_or("float64"),
        (Shape::Int64, v) => v.as_i64().map(|_| ()).ok_or("int64"),
        (Shape::Quantity, v) => (v.is_string() || v.is_number()).then_some(()).ok_or("resource.Quantity"),
        (Shape::IntOrString, v) => (v.is_string() || v.is_i64()).then_some(()).ok_or("intstr.IntOrString"),
        (Shape::Any | Shape::Json | Shape::Free, _) if spot.root.is_none() => return,
        (Shape::List(_), Value::Array(items)) => {
            for (i, item) in items.iter().enumerate() {
                walk(spot.item(), item, (&format!("{path}[{i}]"), go), owner, wrong);
            }
            Ok(())
        }
        (Shape::List(item), _) => Err(match &**item {
            Shape::String => "[]string",
            Shape::Named("OwnerReference") => "[]v1.OwnerReference",
            _ => "[]",
        }),
        (_, Value::Object(map)) => {
            let of = spot.object();
            let owner = of.map_or(owner, |t| t.name);
            let below = |path: &str, key: &str| {
                if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
            };
            for (key, item) in map {
                let at = below(path, key);
                let go = if of.is_some() { below(go, key) } else { go.to_owned() };
                match spot.member(key) {
                    Some(spot) => walk(spot, item, (&at, &go), owner, wrong),
                    None => wrong.push(Wrong::Unknown(at)),
                }
            }
            Ok(())
        }
        (Shape::Map(_), _) => Err("map[string]string"),
        (Shape::Named("ObjectMeta"), _) => Err("v1.ObjectMeta"),
        (Shape::Named(name), _) => Err(*name),
        _ => Err("object"),
    };
    if let Err(go) = fits {
        wrong.push(mismatch(go));
    }
}

fn parse(text: &'static str) -> Vec<Type> {
    let mut types: Vec<Type> = Vec::new();
    let (mut prefix, mut group, mut version) = ("", "", "");
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        if let Some(section) = line.strip_prefix("@ ") {
            let (p, gv) = section.split_once(' ').unwrap_or((section, ""));
            prefix = p;
            (group, version) = gv.split_once('/').unwrap_or(("", gv));
            continue;
        }
        let (head, about) = line.split_once(" | ").unwrap_or((line, ""));
        let mut words = head.split_whitespace();
        let name = words.next().unwrap_or_default();
        if !line.starts_with(' ') {
            let flags: Vec<&str> = words.collect();
            types.push(Type {
                name,
                definition: format!("{prefix}.{name}"),
                group,
                version,
                kind: flags.contains(&"kind"),
                atomic: flags.contains(&"atomic"),
                about,
                fields: Vec::new(),
            });
            continue;
        }
        let shape = shape(words.next().unwrap_or_default());
        let (name, number) = name.split_once('=').unwrap_or((name, "0"));
        let (outer, inner) = number.split_once('.').unwrap_or((number, "0"));
        let number = (outer.parse().unwrap_or_default(), inner.parse().unwrap_or_default());
        let mut field =
            Field { name, shape, number, optional: false, required: false, merge: Merge::Plain, about };
        for word in words {
            match word {
                "?" => field.optional = true,
                "!" => field.required = true,
                "atomic" => field.merge = Merge::Atomic,
                "set" => field.merge = Merge::Set,
                keys => {
                    let keys = keys.strip_prefix("key=").unwrap_or(keys);
                    field.merge = Merge::Keys(keys.split(',').collect());
                }
            }
        }
        if let Some(last) = types.last_mut() {
            last.fields.push(field);
        }
    }
    types
}

fn shape(word: &'static str) -> Shape {
    if let Some(item) = word.strip_prefix("[]") {
        return Shape::List(Box::new(shape(item)));
    }
    if let Some(item) = word.strip_prefix("map(").and_then(|w| w.strip_suffix(')')) {
        return Shape::Map(Box::new(shape(item)));
    }
    match word {
        "string" => Shape::String,
        "int" => Shape::Int,
        "int64" => Shape::Int64,
        "number" => Shape::Number,
        "bool" => Shape::Bool,
        "quantity" => Shape::Quantity,
        "intstr" => Shape::IntOrString,
        "time" => Shape::Time,
        "microtime" => Shape::MicroTime,
        "bytes" => Shape::Bytes,
        "any" => Shape::Any,
        "json" => Shape::Json,
        name => Shape::Named(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::kinds::KINDS;
    use serde_json::json;

    #[test]
    fn every_name_leads_somewhere() {
        fn names(shape: &Shape) -> Option<&'static str> {
            match shape {
                Shape::Named(name) => Some(name),
                Shape::List(item) | Shape::Map(item) => names(item),
                _ => None,
            }
        }
        for t in types() {
            assert!(!t.about.is_empty(), "{}", t.name);
            for f in &t.fields {
                assert!(!f.about.is_empty(), "{}.{}", t.name, f.name);
                if let Some(name) = names(&f.shape) {
                    assert!(named(name).is_some(), "{}.{}: {name}", t.name, f.name);
                }
            }
        }
        for k in KINDS {
            assert!(kind(k.group, k.version, k.kind).is_some(), "{}", k.kind);
        }
    }

    #[test]
    fn unknown_fields_and_wrong_types_are_found() {
        let deployment = kind("apps", "v1", "Deployment").unwrap();
        let rows = [
            (json!({"spec": {"replicas": 1}, "metadata": {"labels": {"a": "b"}}}), vec![]),
            (json!({"spec": {"foo": 1}}), vec![Wrong::Unknown("spec.foo".into())]),
            (
                json!({"spec": {"template": {"spec": {"containers": [{"nam": 1}]}}}}),
                vec![Wrong::Unknown("spec.template.spec.containers[0].nam".into())],
            ),
            (
                json!({"spec": {"replicas": "x"}}),
                vec![Wrong::Type(
                    "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
                        .into(),
                )],
            ),
            (json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": "25%"}}}}), vec![]),
        ];
        for (object, expected) in rows {
            assert_eq!(check(deployment, &object), expected, "{object}");
        }
    }
}
