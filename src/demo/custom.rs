//! CustomResourceDefinitions: what they make of the kinds that are served.
//!
//! A definition that is accepted is compiled once and then never freed: everything here goes by `&'static Kind`, and a demo
//! has few of them.

mod establish;
mod path;
mod structural;
mod validate;

pub(super) use establish::{check, defaults, establish, gone, linger, one_less};

use super::{
    answer::Cause,
    kinds::{self, Kind, STATUS, Sub, own, sub},
    schema::{Field, Merge, Shape, Type},
    value::{int, items, map, set, text},
};
use path::Path;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Verbs of a custom resource, in discovery's order.
const VERBS: &[&str] = &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];

/// A definition that is served.
#[derive(Debug)]
pub(super) struct Definition {
    /// `backups.demo.example`
    pub name: &'static str,
    /// Of the object that defines it.
    pub uid: String,
    /// Of the object that defines it, when this was made.
    pub generation: i64,
    /// The versions that are served, the preferred one first.
    pub served: Vec<Kind>,
    /// The version in which objects are stored.
    pub stored: Kind,
}

/// What a definition says of one version.
#[derive(Debug)]
pub(super) struct Version {
    /// Go type name of lists.
    pub list_kind: String,
    /// `apiVersion` of what is stored.
    pub stored: String,
    /// The schema, as it was sent.
    pub schema: Value,
    /// How objects merge.
    pub form: &'static Type,
    /// What kubectl prints besides the name.
    pub columns: Vec<Column>,
    /// Fields that selectors may name.
    pub selectable: Vec<String>,
    /// Where the numbers of replicas are.
    pub scale: Option<Scale>,
    /// Sent with every answer.
    pub deprecated: Option<String>,
}

/// One of `additionalPrinterColumns`.
#[derive(Debug)]
pub(super) struct Column {
    /// Its definition in a Table.
    pub definition: Value,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub sort: String,
    path: Path,
}

/// JSON pointers into an object.
#[derive(Debug)]
pub(super) struct Scale {
    /// Replicas that are wanted.
    pub spec: String,
    /// Replicas that are there.
    pub status: String,
    /// A label selector, as text.
    pub selector: Option<String>,
}

impl Version {
    /// Drops what the schema does not know; the paths of that.
    pub(super) fn prune(&self, object: &mut Value) -> Vec<String> {
        structural::prune(&self.schema, object)
    }

    /// The `metadata` of the object and of the objects in it, with their paths.
    pub(super) fn embedded<'a>(&self, object: &'a Value) -> Vec<(String, &'a Value)> {
        let mut found = Vec::new();
        structural::embedded(&self.schema, object, &mut found);
        found
    }

    /// Drops what the schema does not know and nulls that it does not allow, and fills in its defaults.
    pub(super) fn normalize(&self, object: &mut Value) {
        self.prune(object);
        structural::default(&self.schema, object);
    }

    /// What is wrong with the values of an object.
    pub(super) fn validate(&self, object: &Value) -> Vec<Cause> {
        let mut causes = validate::validate(&self.schema, object);
        if let Some(scale) = &self.scale {
            validate::replicas(object, &scale.spec, &mut causes);
        }
        validate::lists(&self.schema, object, &mut causes);
        causes
    }

    /// The cause that stands for the rules in CEL, which are not looked at while an object has other faults.
    pub(super) fn unchecked(&self, causes: &[Cause]) -> Option<Cause> {
        let blocks = |c: &Cause| {
            matches!(
                c.reason,
                "FieldValueRequired"
                    | "FieldValueTypeInvalid"
                    | "FieldValueNotSupported"
                    | "FieldValueTooLong"
                    | "FieldValueTooMany"
            )
        };
        let rules = causes.iter().any(blocks) && structural::has_rules(&self.schema);
        rules.then(|| {
            let why = "some validation rules were not checked because the object was invalid; correct the \
                       existing errors to complete validation";
            Cause::invalid("<nil>", "null", why)
        })
    }
}

impl Column {
    /// Its cell in the row of an object.
    pub(super) fn cell(&self, object: &Value) -> Option<Value> {
        let found = self.path.first(object)?;
        Some(match (self.sort.as_str(), found) {
            ("integer" | "number" | "boolean", scalar) if !scalar.is_string() => scalar.clone(),
            ("string" | "date", Value::String(text)) => text.as_str().into(),
            ("string", other) => other.to_string().into(),
            _ => return None,
        })
    }
}

/// The object as a version of its kind shows it.
pub(super) fn shown<'a>(kind: &Kind, object: &'a Value) -> Cow<'a, Value> {
    let Some(version) = kind.custom else { return Cow::Borrowed(object) };
    let mut object = object.clone();
    set(&mut object, "/apiVersion", kind.api_version());
    version.normalize(&mut object);
    Cow::Owned(object)
}

/// Reads a definition that was found to be right.
fn compile(crd: &Value) -> Definition {
    let leak = |text: &str| -> &'static str { String::leak(text.to_owned()) };
    let list = |pointer: &str| -> &'static [&'static str] {
        Vec::leak(items(crd, pointer).iter().filter_map(Value::as_str).map(leak).collect())
    };
    let group = leak(text(crd, "/spec/group"));
    let (plural, singular) = (leak(text(crd, "/spec/names/plural")), leak(text(crd, "/spec/names/singular")));
    let name = leak(text(crd, "/spec/names/kind"));
    let (short, categories) = (list("/spec/names/shortNames"), list("/spec/names/categories"));
    let versions = items(crd, "/spec/versions");
    let is = |version: &Value, key: &str| version.get(key) == Some(&Value::Bool(true));
    let stored = versions.iter().find(|v| is(v, "storage")).unwrap_or(&Value::Null);
    let stored_as = kinds::group_version(group, text(stored, "/name"));
    let kind = |v: &Value| Kind {
        group,
        version: leak(text(v, "/name")),
        plural,
        singular,
        kind: name,
        namespaced: text(crd, "/spec/scope") == "Namespaced",
        short,
        categories,
        verbs: VERBS,
        subs: subresources(v),
        custom: Some(Box::leak(Box::new(version(crd, v, &stored_as)))),
    };
    let mut served: Vec<Kind> = versions.iter().filter(|v| is(v, "served")).map(kind).collect();
    served.sort_by_key(|k| kinds::priority(k.version));
    Definition {
        name: leak(text(crd, "/metadata/name")),
        uid: text(crd, "/metadata/uid").to_owned(),
        generation: int(crd, "/metadata/generation").unwrap_or_default(),
        served,
        stored: kind(stored),
    }
}

fn subresources(version: &Value) -> &'static [Sub] {
    let mut subs = Vec::new();
    let has = |name: &str| version.pointer(&format!("/subresources/{name}")).is_some_and(|s| !s.is_null());
    if has("status") {
        subs.push(own("status", STATUS));
    }
    if has("scale") {
        subs.push(sub("scale", "autoscaling", "v1", "Scale", STATUS));
    }
    Vec::leak(subs)
}

fn version(crd: &Value, version: &Value, stored: &str) -> Version {
    let (group, name, kind) =
        (text(crd, "/spec/group"), text(version, "/name"), text(crd, "/spec/names/kind"));
    let schema = version.pointer("/schema/openAPIV3Schema").cloned().unwrap_or_default();
    let scale = version.pointer("/subresources/scale").filter(|s| !s.is_null()).map(|scale| Scale {
        spec: pointer(text(scale, "/specReplicasPath")),
        status: pointer(text(scale, "/statusReplicasPath")),
        selector: scale.get("labelSelectorPath").and_then(Value::as_str).map(pointer),
    });
    let columns = items(version, "/additionalPrinterColumns");
    let selectable = items(version, "/selectableFields").iter();
    let deprecated = version.get("deprecated") == Some(&Value::Bool(true));
    Version {
        list_kind: text(crd, "/spec/names/listKind").to_owned(),
        stored: stored.to_owned(),
        form: form(&schema, true),
        columns: if columns.is_empty() { vec![age()] } else { columns.iter().map(column).collect() },
        selectable: selectable.map(|f| text(f, "/jsonPath").trim_start_matches('.').to_owned()).collect(),
        scale,
        deprecated: deprecated.then(|| match text(version, "/deprecationWarning") {
            "" => format!("{group}/{name} {kind} is deprecated"),
            text => text.to_owned(),
        }),
        schema,
    }
}

/// `.spec.replicas` as `/spec/replicas`.
fn pointer(path: &str) -> String {
    path.replace('.', "/")
}

fn column(column: &Value) -> Column {
    let (sort, path) = (text(column, "/type"), text(column, "/jsonPath"));
    let about = match text(column, "/description") {
        "" => format!("Custom resource definition column (in JSONPath format): {path}"),
        about => about.to_owned(),
    };
    Column {
        definition: serde_json::json!({"name": text(column, "/name"), "type": sort, "format": text(column, "/format"),
            "description": about, "priority": int(column, "/priority").unwrap_or_default()}),
        sort: sort.to_owned(),
        path: Path::read(path),
    }
}

/// The column of kinds that have none of their own.
fn age() -> Column {
    let path = ".metadata.creationTimestamp";
    column(&serde_json::json!({"name": "Age", "type": "date", "jsonPath": path,
        "description": "When the object was created."}))
}

// --- how objects merge --------------------------------------------------------------------------

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key) == Some(&Value::Bool(true))
}

/// The form of an object that a schema describes.
fn form(schema: &Value, root: bool) -> &'static Type {
    let properties = map(schema, "/properties").into_iter().flatten();
    let own = |name: &str| root && matches!(name, "apiVersion" | "kind" | "metadata");
    let fields = properties.filter(|(name, _)| !own(name)).map(|(name, schema)| Field {
        name: String::leak(name.clone()),
        shape: shape(schema),
        number: (0, 0),
        optional: false,
        required: false,
        merge: merge(schema),
        about: "",
    });
    Box::leak(Box::new(Type {
        name: "",
        definition: String::new(),
        group: "",
        version: "",
        kind: root || flag(schema, "x-kubernetes-embedded-resource"),
        atomic: text(schema, "/x-kubernetes-map-type") == "atomic",
        about: "",
        fields: fields.collect(),
    }))
}

fn shape(schema: &Value) -> Shape {
    if flag(schema, "x-kubernetes-int-or-string") {
        return Shape::IntOrString;
    }
    match text(schema, "/type") {
        "string" => Shape::String,
        "integer" => Shape::Int64,
        "boolean" => Shape::Bool,
        "array" => Shape::List(Box::new(schema.get("items").map_or(Shape::Free, shape))),
        _ if map(schema, "/properties").is_some_and(|p: &Map<_, _>| !p.is_empty()) => {
            Shape::Object(form(schema, false))
        }
        _ => match schema.get("additionalProperties") {
            Some(items @ Value::Object(_)) => Shape::Map(Box::new(shape(items))),
            _ => Shape::Free,
        },
    }
}

fn merge(schema: &Value) -> Merge {
    let keys = || {
        let keys = items(schema, "/x-kubernetes-list-map-keys").iter().filter_map(Value::as_str);
        keys.map(|k| &*String::leak(k.to_owned())).collect()
    };
    match (text(schema, "/x-kubernetes-list-type"), text(schema, "/x-kubernetes-map-type")) {
        ("map", _) => Merge::Keys(keys()),
        ("set", _) => Merge::Set,
        ("atomic", _) | (_, "atomic") => Merge::Atomic,
        _ => Merge::Plain,
    }
}
