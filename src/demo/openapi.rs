//! OpenAPI documents, made from the schemas: v3 for each group and version, v2 for old clients.

mod custom;

use super::{
    answer::{Answer, Failure},
    discovery::{digest, tagged},
    kinds::{self, KINDS, Kind, Served, group_version},
    schema::{self, Field, Merge, Shape, Type},
};
use http::{HeaderMap, HeaderValue, Response, header};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

/// Documents by their path below `/openapi/v3/`, with their digests.
pub(super) type Documents = BTreeMap<String, Arc<(Value, String)>>;

/// Those of the built-in kinds.
static BUILT_IN: LazyLock<Documents> = LazyLock::new(|| {
    let mut all = BTreeMap::new();
    let served = Served::default();
    for (group, versions) in served.groups() {
        for version in versions {
            all.insert(path_of(group, version), signed(document(&served, group, version)));
        }
    }
    all
});

fn signed(document: Value) -> Arc<(Value, String)> {
    let digest = digest(document.to_string().as_bytes());
    Arc::new((document, digest))
}

fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// Makes the document of a group and version of custom resources anew, or takes it out when nothing is served there.
pub(super) fn renew(documents: &mut Documents, served: &Served, group: &str, version: &str) {
    let path = path_of(group, version);
    if kinds::is_built_in(group) || served.of(group, version).next().is_none() {
        documents.remove(&path);
        return;
    }
    documents.insert(path, signed(custom::document(served, group, version)));
}

/// `/openapi/v3`
pub(super) fn index(served: &Served) -> Value {
    let one = |(path, document): (&String, &Arc<(Value, String)>)| {
        let url = format!("/openapi/v3/{path}?hash={}", document.1);
        (path.clone(), json!({"serverRelativeURL": url}))
    };
    json!({"paths": BUILT_IN.iter().chain(served.documents()).map(one).collect::<Map<_, _>>()})
}

/// `/openapi/v3/<path>`: the document if the hash is right or absent, else where the right one is.
pub(super) fn one(
    served: &Served,
    path: &str,
    hash: Option<&str>,
    headers: &HeaderMap,
) -> Result<Answer, Failure> {
    let found = BUILT_IN.get(path).or_else(|| served.documents().get(path));
    let (document, digest) = &**found.ok_or_else(Failure::no_path)?;
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
pub(super) fn v2(served: &Served, headers: &HeaderMap) -> Result<Answer, Failure> {
    if headers.get(header::ACCEPT).is_some_and(|v| v.as_bytes() == V2_PROTOBUF.as_bytes()) {
        return Ok(super::answer::typed(200, V2_PROTOBUF_TYPE, V2_EMPTY));
    }
    accepts_json(headers)?;
    let mut paths = Map::new();
    for (group, versions) in served.groups() {
        for version in versions {
            paths.extend(paths_of(served, group, version, true));
        }
    }
    let definitions = schema::types().iter().map(|t| (t.definition.clone(), schema_of(t, "#/definitions/")));
    let definitions = definitions.chain(custom::definitions(served));
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

fn document(served: &Served, group: &str, version: &str) -> Value {
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
        "paths": paths_of(served, group, version, false), "components": {"schemas": schemas}})
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

fn gvk_of(group: &str, version: &str, kind: &str) -> Value {
    json!([{"group": group, "version": version, "kind": kind}])
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
        set(&mut out, "x-kubernetes-group-version-kind", gvk_of(t.group, t.version, t.name));
    }
    out
}

fn list_of(t: &Type) -> Value {
    let about = format!("A list of {} objects.", t.name);
    list_schema(&t.definition, &about, gvk_of(t.group, t.version, &format!("{}List", t.name)))
}

fn list_schema(definition: &str, about: &str, gvk: Value) -> Value {
    json!({"type": "object", "description": about,
        "properties": {"apiVersion": {"type": "string", "description": "Version of this list's form."},
            "kind": {"type": "string", "description": "What this list is."},
            "metadata": {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"},
            "items": {"type": "array", "description": "The objects.",
                "items": {"$ref": format!("#/components/schemas/{definition}")}}},
        "required": ["items"], "x-kubernetes-group-version-kind": gvk})
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
        Shape::Number => json!({"type": "number", "format": "double"}),
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
        Shape::Json | Shape::Free | Shape::Object(_) => json!({}),
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

/// How a document speaks of bodies: v2 or v3, and for a custom resource or a built-in one.
#[derive(Clone, Copy)]
struct Manner {
    v2: bool,
    custom: bool,
}

/// The name of a kind's definition.
fn definition(group: &str, version: &str, kind: &str, custom: bool) -> String {
    if custom {
        let reversed: Vec<&str> = group.rsplit('.').collect();
        return format!("{}.{version}.{kind}", reversed.join("."));
    }
    let found = schema::kind(group, version, kind).or_else(|| schema::named(kind));
    found.map_or_else(|| kind.to_owned(), |t| t.definition.clone())
}

fn paths_of(served: &Served, group: &str, version: &str, v2: bool) -> Map<String, Value> {
    let mut paths = Map::new();
    let root = format!("/{}", path_of(group, version));
    for kind in served.of(group, version) {
        let manner = Manner { v2, custom: kind.custom.is_some() };
        let places: &[&str] = if kind.namespaced { &["", "/namespaces/{namespace}"] } else { &[""] };
        for (i, place) in places.iter().enumerate() {
            let inside = !kind.namespaced || i == 1;
            let collection = format!("{root}{place}/{}", kind.plural);
            let operation = |action: &str, parameters_of: &[(&str, &str)]| {
                operation(kind, (kind.group, kind.version, kind.kind), action, parameters_of, manner)
            };
            let mut item = Map::new();
            if !kind.is_virtual() {
                item.insert("get".into(), operation("list", LIST));
            }
            if inside {
                item.insert("post".into(), operation("post", WRITE));
                if kind.verbs.contains(&"deletecollection") {
                    item.insert("delete".into(), operation("deletecollection", LIST));
                }
            }
            item.insert("parameters".into(), in_path(&collection, v2));
            paths.insert(collection.clone(), item.into());
            if !inside || kind.is_virtual() {
                continue;
            }
            let at = format!("{collection}/{{name}}");
            let single = json!({"get": operation("get", &[("pretty", "string")]), "put": operation("put", WRITE),
                "patch": operation("patch", PATCH), "delete": operation("delete", DELETE),
                "parameters": in_path(&at, v2)});
            for sub in kind.subs {
                let name = if sub.kind.is_empty() { kind.kind } else { sub.kind };
                let of = if sub.group.is_empty() {
                    (kind.group, kind.version, name)
                } else {
                    (sub.group, sub.version, name)
                };
                let connects = matches!(sub.name, "attach" | "exec" | "portforward");
                let mut item = Map::new();
                for verb in sub.verbs {
                    let (method, action, list) = match *verb {
                        "create" => ("post", "post", WRITE),
                        "update" => ("put", "put", WRITE),
                        "patch" => ("patch", "patch", PATCH),
                        _ => ("get", "get", &[][..]),
                    };
                    let (action, list) = if connects { ("connect", &[][..]) } else { (action, list) };
                    item.insert(method.into(), self::operation(kind, of, action, list, manner));
                }
                let at = format!("{at}/{}", sub.name);
                item.insert("parameters".into(), in_path(&at, v2));
                paths.insert(at, item.into());
            }
            paths.insert(at, single);
        }
    }
    paths
}

/// The parameters that a path has in braces.
fn in_path(path: &str, v2: bool) -> Value {
    let named = ["name", "namespace"].into_iter().filter(|name| path.contains(&format!("{{{name}}}")));
    let one = |name: &str| {
        let mut out = json!({"name": name, "in": "path", "required": true});
        if v2 {
            set(&mut out, "type", "string".into());
        } else {
            set(&mut out, "schema", json!({"type": "string", "uniqueItems": true}));
        }
        out
    };
    named.map(one).collect()
}

fn operation(
    kind: &Kind,
    (group, version, name): (&str, &str, &str),
    action: &str,
    list: &[(&str, &str)],
    manner: Manner,
) -> Value {
    let title = group_version(kind.group, kind.version);
    // The scale of a custom resource is an operation on the resource, whatever travels there.
    let shown = if manner.custom { (kind.group, kind.version, kind.kind) } else { (group, version, name) };
    let mut out = json!({"description": format!("{action} {} of {title}", kind.plural),
        "parameters": parameters(list, manner.v2), "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": shown.0, "version": shown.1, "kind": shown.2}});
    if manner.v2 {
        return out;
    }
    let custom = manner.custom && group == kind.group;
    let of = definition(group, version, name, custom);
    let to = |name: &str| json!({"schema": {"$ref": format!("#/components/schemas/{name}")}});
    let each = |media: &[&str], name: &str| -> Value {
        media.iter().map(|media| ((*media).to_owned(), to(name))).collect::<Map<_, _>>().into()
    };
    let media: &[&str] = if manner.custom { &["application/json", "application/yaml"] } else { &["*/*"] };
    let named = |name: &'static str| schema::named(name).map_or(name, |t| t.definition.as_str());
    let body = match action {
        "post" | "put" => Some((each(media, &of), true)),
        "patch" => Some((each(patches(manner.custom), named("Patch")), true)),
        "delete" => Some((each(media, named("DeleteOptions")), false)),
        "deletecollection" if !manner.custom => Some((each(media, named("DeleteOptions")), false)),
        _ => None,
    };
    if let Some((content, required)) = body {
        let mut body = json!({"content": content});
        if required {
            set(&mut body, "required", true.into());
        }
        set(&mut out, "requestBody", body);
    }
    let answer = match action {
        "list" => format!("{of}List"),
        "delete" | "deletecollection" => named("Status").to_owned(),
        _ => of,
    };
    let answers: &[&str] =
        if action == "connect" { &["*/*"] } else { &["application/json", "application/yaml"] };
    let content = if action == "connect" {
        json!({"*/*": {"schema": {"type": "string"}}})
    } else {
        each(answers, &answer)
    };
    set(&mut out, "responses", json!({"200": {"description": "OK", "content": content}}));
    out
}

/// The patches that are taken; kind by kind merging needs types that only the server's own kinds have.
fn patches(custom: bool) -> &'static [&'static str] {
    const ALL: &[&str] = &[
        "application/apply-patch+yaml",
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
    ];
    if custom { ALL.get(..3).unwrap_or_default() } else { ALL }
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
        for (path, document) in BUILT_IN.iter() {
            let mut found = Vec::new();
            refs(&document.0, &mut found);
            for to in found {
                let name = to.strip_prefix("#/components/schemas/").unwrap();
                assert!(document.0["components"]["schemas"].get(name).is_some(), "{path}: {to}");
            }
        }
    }

    #[test]
    fn the_index_leads_to_documents() {
        let served = Served::default();
        let index = index(&served);
        let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
        let hash = url.split_once("hash=").unwrap().1;
        assert_eq!(one(&served, "apis/apps/v1", Some(hash), &HeaderMap::new()).unwrap().status(), 200);
        assert_eq!(one(&served, "apis/apps/v1", Some("x"), &HeaderMap::new()).unwrap().status(), 301);
        assert!(one(&served, "apis/none/v1", None, &HeaderMap::new()).is_err());
    }

    #[test]
    fn old_clients_that_want_protobuf_get_some() {
        let served = Served::default();
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(V2_PROTOBUF));
        assert_eq!(
            v2(&served, &headers).unwrap().headers().get(header::CONTENT_TYPE).unwrap(),
            V2_PROTOBUF_TYPE
        );
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/html"));
        assert_eq!(v2(&served, &headers).unwrap_err().code, 406);
        assert_eq!(v2(&served, &HeaderMap::new()).unwrap().status(), 200);
    }
}
