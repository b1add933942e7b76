//! OpenAPI documents, made from the schemas: v3 for each group and version, v2 for old clients.

use super::{
    answer::{Answer, Failure},
    discovery::{digest, tagged},
    kinds::{KINDS, Kind, group_version, groups},
    schema::{self, Field, Merge, Shape, Type},
};
use http::{HeaderMap, HeaderValue, Response, header};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

/// Documents by their path below `/openapi/v3/`, with their digests.
static DOCUMENTS: LazyLock<BTreeMap<String, (Value, String)>> = LazyLock::new(|| {
    let mut all = BTreeMap::new();
    for (group, versions) in groups() {
        for version in versions {
            let document = document(group, version);
            let digest = digest(document.to_string().as_bytes());
            all.insert(path_of(group, version), (document, digest));
        }
    }
    all
});

fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// `/openapi/v3`
pub(super) fn index() -> Value {
    let one = |(path, (_, digest)): (&String, &(Value, String))| {
        (path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={digest}")}))
    };
    json!({"paths": DOCUMENTS.iter().map(one).collect::<Map<_, _>>()})
}

/// `/openapi/v3/<path>`: the document if the hash is right or absent, else where the right one is.
pub(super) fn one(path: &str, hash: Option<&str>, headers: &HeaderMap) -> Result<Answer, Failure> {
    let (document, digest) = DOCUMENTS.get(path).ok_or_else(Failure::no_path)?;
    accepts_json(headers)?;
    match hash {
        Some(hash) if hash != digest => {
            let mut answer = Response::new(super::answer::full(""));
            *answer.status_mut() = http::StatusCode::MOVED_PERMANENTLY;
            if let Ok(to) = HeaderValue::from_str(&format!("/openapi/v3/{path}?hash={digest}")) {
                answer.headers_mut().insert(header::LOCATION, to);
            }
            Ok(answer)
        }
        hash => {
            let mut answer = tagged("application/json", document, headers);
            if hash.is_some() {
                let forever = HeaderValue::from_static("public, immutable");
                answer.headers_mut().insert(header::CACHE_CONTROL, forever);
            }
            Ok(answer)
        }
    }
}

/// What kubectl up to 1.28 asks for, and takes nothing else.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// The same as an answer's type, where `@` is not allowed.
const V2_PROTOBUF_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// An OpenAPI v2 document in protobuf that describes nothing: `swagger: "2.0"` (field 1) and an `info` (2) with a title
/// and a version. An old kubectl then goes by the types it was built with.
const V2_EMPTY: &[u8] = b"\x0a\x032.0\x12\x0c\x0a\x04demo\x12\x04v1.0";

/// `/openapi/v2`
pub(super) fn v2(headers: &HeaderMap) -> Result<Answer, Failure> {
    if headers.get(header::ACCEPT).is_some_and(|v| v.as_bytes() == V2_PROTOBUF.as_bytes()) {
        return Ok(super::answer::typed(200, V2_PROTOBUF_TYPE, V2_EMPTY));
    }
    accepts_json(headers)?;
    let mut paths = Map::new();
    for (group, versions) in groups() {
        for version in versions {
            paths.extend(paths_of(group, version, true));
        }
    }
    let definitions = schema::types().iter().map(|t| (t.definition.clone(), schema_of(t, "#/definitions/")));
    let document = json!({"swagger": "2.0", "info": {"title": "gatelog demo", "version": "v1.33.0"}, "paths": paths,
        "definitions": definitions.collect::<Map<_, _>>()});
    Ok(tagged("application/json", &document, headers))
}

fn accepts_json(headers: &HeaderMap) -> Result<(), Failure> {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("*/*");
    let fits = |clause: &str| {
        let media = clause.split(';').next().unwrap_or_default().trim();
        matches!(media, "application/json" | "*/*" | "application/*")
    };
    if accept.split(',').any(fits) { Ok(()) } else { Err(Failure::plain(406, "406 Not Acceptable\n")) }
}

fn document(group: &str, version: &str) -> Value {
    let mut wanted = BTreeSet::new();
    for t in schema::types() {
        if t.kind && t.group == group && t.version == version {
            collect(t, &mut wanted);
        }
    }
    for name in ["DeleteOptions", "Patch", "Status"] {
        if let Some(t) = schema::named(name) {
            collect(t, &mut wanted);
        }
    }
    // What travels at subresources belongs to the documents of the resources, too.
    for kind in KINDS.iter().filter(|k| k.group == group && k.version == version) {
        for sub in kind.subs {
            if let Some(t) = schema::named(sub.kind) {
                collect(t, &mut wanted);
            }
        }
    }
    let mut schemas = Map::new();
    for name in wanted {
        let Some(t) = schema::named(name) else { continue };
        schemas.insert(t.definition.clone(), schema_of(t, "#/components/schemas/"));
        if KINDS.iter().any(|k| k.kind == t.name && !k.is_virtual()) && t.kind {
            schemas.insert(format!("{}List", t.definition), list_of(t));
        }
    }
    json!({"openapi": "3.0.0", "info": {"title": "gatelog demo", "version": "v1.33.0"},
        "paths": paths_of(group, version, false), "components": {"schemas": schemas}})
}

fn collect(t: &Type, into: &mut BTreeSet<&'static str>) {
    let Some(t) = schema::named(t.name) else { return };
    if !into.insert(t.name) {
        return;
    }
    let metadata = if t.kind { &["ObjectMeta", "ListMeta"][..] } else { &[] };
    let shapes = t.fields.iter().filter_map(|f| name_in(&f.shape)).chain(metadata.iter().copied());
    for name in shapes {
        if let Some(t) = schema::named(name) {
            collect(t, into);
        }
    }
}

fn name_in(shape: &Shape) -> Option<&'static str> {
    match shape {
        Shape::Named(name) => Some(name),
        Shape::List(item) | Shape::Map(item) => name_in(item),
        _ => None,
    }
}

fn gvk(t: &Type) -> Value {
    json!([{"group": t.group, "version": t.version, "kind": t.name}])
}

fn schema_of(t: &Type, refs: &str) -> Value {
    let mut properties = Map::new();
    if t.kind {
        let string = |about: &str| json!({"type": "string", "description": about});
        properties.insert("apiVersion".into(), string("Version of this object's form."));
        properties.insert("kind".into(), string("What this object is."));
        let mut metadata = reference("ObjectMeta", refs, false);
        set(&mut metadata, "description", "Name, labels and history of the object.".into());
        properties.insert("metadata".into(), metadata);
    }
    for field in &t.fields {
        properties.insert(field.name.into(), property(field, refs));
    }
    let mut out = json!({"type": "object", "description": t.about});
    if !properties.is_empty() {
        set(&mut out, "properties", properties.into());
    }
    let required: Vec<&str> = t.fields.iter().filter(|f| f.required).map(|f| f.name).collect();
    if !required.is_empty() {
        set(&mut out, "required", json!(required));
    }
    if t.atomic {
        set(&mut out, "x-kubernetes-map-type", "atomic".into());
    }
    if t.kind || t.name == "DeleteOptions" {
        set(&mut out, "x-kubernetes-group-version-kind", gvk(t));
    }
    out
}

fn list_of(t: &Type) -> Value {
    json!({"type": "object", "description": format!("A list of {} objects.", t.name),
        "properties": {"apiVersion": {"type": "string", "description": "Version of this list's form."},
            "kind": {"type": "string", "description": "What this list is."},
            "metadata": {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"},
            "items": {"type": "array", "description": "The objects.",
                "items": {"$ref": format!("#/components/schemas/{}", t.definition)}}},
        "required": ["items"],
        "x-kubernetes-group-version-kind": [{"group": t.group, "version": t.version, "kind": format!("{}List", t.name)}]})
}

fn set(value: &mut Value, key: &str, new: Value) {
    if let Some(map) = value.as_object_mut() {
        map.insert(key.into(), new);
    }
}

fn reference(name: &str, refs: &str, bare: bool) -> Value {
    let definition = schema::named(name).map_or(name, |t| t.definition.as_str());
    let to = json!({"$ref": format!("{refs}{definition}")});
    // In v3 a reference has no siblings, so a description needs a wrapper.
    if bare || refs == "#/definitions/" { to } else { json!({"allOf": [to], "default": {}}) }
}

fn property(field: &Field, refs: &str) -> Value {
    let mut out = of_shape(&field.shape, refs, false);
    set(&mut out, "description", field.about.into());
    match &field.merge {
        Merge::Keys(keys) => {
            set(&mut out, "x-kubernetes-list-type", "map".into());
            set(&mut out, "x-kubernetes-list-map-keys", json!(keys));
            set(&mut out, "x-kubernetes-patch-strategy", "merge".into());
            if let Some(key) = keys.first() {
                set(&mut out, "x-kubernetes-patch-merge-key", (*key).into());
            }
        }
        Merge::Set => {
            set(&mut out, "x-kubernetes-list-type", "set".into());
            set(&mut out, "x-kubernetes-patch-strategy", "merge".into());
        }
        Merge::Atomic if matches!(field.shape, Shape::Map(_)) => {
            set(&mut out, "x-kubernetes-map-type", "atomic".into());
        }
        Merge::Atomic => set(&mut out, "x-kubernetes-list-type", "atomic".into()),
        Merge::Plain => {}
    }
    out
}

fn of_shape(shape: &Shape, refs: &str, bare: bool) -> Value {
    match shape {
        Shape::String => json!({"type": "string"}),
        Shape::Int => json!({"type": "integer", "format": "int32"}),
        Shape::Int64 => json!({"type": "integer", "format": "int64"}),
        Shape::Bool => json!({"type": "boolean"}),
        // Both are written as strings or as numbers.
        Shape::Quantity if refs == "#/definitions/" => json!({"type": "string"}),
        Shape::Quantity => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        Shape::IntOrString if refs == "#/definitions/" => {
            json!({"type": "string", "format": "int-or-string"})
        }
        Shape::IntOrString => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        Shape::Time | Shape::MicroTime => json!({"type": "string", "format": "date-time"}),
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        Shape::Any => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        Shape::List(item) => json!({"type": "array", "items": of_shape(item, refs, true)}),
        Shape::Map(item) => json!({"type": "object", "additionalProperties": of_shape(item, refs, true)}),
        Shape::Named(name) => reference(name, refs, bare),
    }
}

fn parameters(names: &[(&str, &str)], v2: bool) -> Value {
    let one = |(name, sort): &(&str, &str)| {
        if v2 {
            json!({"name": name, "in": "query", "type": sort, "uniqueItems": true})
        } else {
            json!({"name": name, "in": "query", "schema": {"type": sort, "uniqueItems": true}})
        }
    };
    names.iter().map(one).collect()
}

const WRITE: &[(&str, &str)] =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("pretty", "string")];
const PATCH: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("force", "boolean"),
    ("pretty", "string"),
];
const LIST: &[(&str, &str)] = &[
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const DELETE: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("propagationPolicy", "string"),
    ("pretty", "string"),
];

fn paths_of(group: &str, version: &str, v2: bool) -> Map<String, Value> {
    let mut paths = Map::new();
    let root = format!("/{}", path_of(group, version));
    for kind in KINDS.iter().filter(|k| k.group == group && k.version == version) {
        let places: &[&str] = if kind.namespaced { &["", "/namespaces/{namespace}"] } else { &[""] };
        for (i, place) in places.iter().enumerate() {
            let inside = !kind.namespaced || i == 1;
            let collection = format!("{root}{place}/{}", kind.plural);
            let operation = |action: &str, parameters_of: &[(&str, &str)]| {
                operation(kind, (kind.group, kind.version, kind.kind), action, parameters_of, v2)
            };
            let mut item = Map::new();
            if !kind.is_virtual() {
                item.insert("get".into(), operation("list", LIST));
            }
            if inside {
                item.insert("post".into(), operation("post", WRITE));
            }
            paths.insert(collection.clone(), item.into());
            if !inside || kind.is_virtual() {
                continue;
            }
            let single = json!({"get": operation("get", &[("pretty", "string")]), "put": operation("put", WRITE),
                "patch": operation("patch", PATCH), "delete": operation("delete", DELETE)});
            paths.insert(format!("{collection}/{{name}}"), single);
            for sub in kind.subs {
                let name = if sub.kind.is_empty() { kind.kind } else { sub.kind };
                let of = if sub.group.is_empty() {
                    (kind.group, kind.version, name)
                } else {
                    (sub.group, sub.version, name)
                };
                let mut item = Map::new();
                for verb in sub.verbs {
                    let (method, action, list) = match *verb {
                        "create" => ("post", "post", WRITE),
                        "update" => ("put", "put", WRITE),
                        "patch" => ("patch", "patch", PATCH),
                        _ => ("get", "get", &[][..]),
                    };
                    item.insert(method.into(), self::operation(kind, of, action, list, v2));
                }
                paths.insert(format!("{collection}/{{name}}/{}", sub.name), item.into());
            }
        }
    }
    paths
}

fn operation(
    kind: &Kind,
    (group, version, name): (&str, &str, &str),
    action: &str,
    list: &[(&str, &str)],
    v2: bool,
) -> Value {
    let title = group_version(kind.group, kind.version);
    json!({"description": format!("{action} {} of {title}", kind.plural), "parameters": parameters(list, v2),
        "responses": {"200": {"description": "OK"}}, "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": name}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_resolves() {
        fn refs<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
            match value {
                Value::Object(map) => {
                    for (key, value) in map {
                        match value {
                            Value::String(to) if key == "$ref" => out.push(to),
                            other => refs(other, out),
                        }
                    }
                }
                Value::Array(list) => list.iter().for_each(|v| refs(v, out)),
                _ => {}
            }
        }
        for (path, (document, _)) in DOCUMENTS.iter() {
            let mut found = Vec::new();
            refs(document, &mut found);
            for to in found {
                let name = to.strip_prefix("#/components/schemas/").unwrap();
                assert!(document["components"]["schemas"].get(name).is_some(), "{path}: {to}");
            }
        }
    }

    #[test]
    fn the_index_leads_to_documents() {
        let index = index();
        let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
        let hash = url.split_once("hash=").unwrap().1;
        assert_eq!(one("apis/apps/v1", Some(hash), &HeaderMap::new()).unwrap().status(), 200);
        assert_eq!(one("apis/apps/v1", Some("x"), &HeaderMap::new()).unwrap().status(), 301);
        assert!(one("apis/none/v1", None, &HeaderMap::new()).is_err());
    }

    #[test]
    fn old_clients_that_want_protobuf_get_some() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(V2_PROTOBUF));
        assert_eq!(v2(&headers).unwrap().headers().get(header::CONTENT_TYPE).unwrap(), V2_PROTOBUF_TYPE);
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/html"));
        assert_eq!(v2(&headers).unwrap_err().code, 406);
        assert_eq!(v2(&HeaderMap::new()).unwrap().status(), 200);
    }
}
