use super::{
    fields::Strict,
    judge::{Judged, Object},
    options,
};
use crate::{
    codec::document::Document,
    request::{Asked, Verb},
    validate::{
        catalog::{Kind, Origin, Resource, Route, Subresource, Verbs},
        schema::Schemas,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, header};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{
    collections::HashMap,
    fs,
    io::Read as _,
    path::Path,
    sync::{Arc, LazyLock},
};

/// Documents of kube-apiserver 1.36, by their path below `/openapi/v3/`, without descriptions and answers.
static DOCUMENTS: LazyLock<Map<String, Value>> =
    LazyLock::new(|| serde_json::from_str(&golden("openapi.json.gz")).unwrap());

static SCHEMAS: LazyLock<HashMap<String, Schemas>> = LazyLock::new(|| {
    let compile = |(path, document): (&String, &Value)| {
        (path.clone(), Schemas::compile(document.to_string().as_bytes()).unwrap())
    };
    DOCUMENTS.iter().map(compile).collect()
});

fn golden(name: &str) -> String {
    let bytes = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap();
    let mut text = String::new();
    if name.ends_with(".gz") {
        GzDecoder::new(&*bytes).read_to_string(&mut text).unwrap();
    } else {
        text = String::from_utf8(bytes).unwrap();
    }
    text
}

/// A request, and what kube-apiserver answered.
#[derive(Debug, Deserialize)]
struct Row {
    method: String,
    path: String,
    r#type: Option<String>,
    body: Option<String>,
    base64: Option<String>,
    code: u16,
    message: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

fn rows(name: &str) -> Vec<Row> {
    golden(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

impl Row {
    fn bytes(&self) -> Vec<u8> {
        let decode = |text: &String| STANDARD.decode(text).unwrap();
        self.base64.as_ref().map_or_else(|| self.body.clone().unwrap().into_bytes(), decode)
    }

    fn asked(&self) -> Asked {
        asked(&self.method, &self.path)
    }

    fn headers(&self) -> HeaderMap {
        let given = self.r#type.as_deref().unwrap_or("application/json");
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_str(given).unwrap())])
    }
}

fn asked(method: &str, path: &str) -> Asked {
    let (parts, ()) = http::Request::builder().method(method).uri(path).body(()).unwrap().into_parts();
    Asked::parse(&parts).unwrap()
}

fn document_of(asked: &Asked) -> String {
    let (group, version) = (asked.info.group(), asked.info.version());
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// As discovery would tell of it.
fn route(asked: &Asked) -> Option<Route> {
    let info = &asked.info;
    let document = DOCUMENTS.get(&document_of(asked))?;
    let below = match info.subresource() {
        "" => String::new(),
        below => format!("/{{name}}/{below}"),
    };
    let method = if info.verb() == Verb::Update { "put" } else { "post" };
    let name = if method == "put" && below.is_empty() { "/{name}" } else { "" };
    let tail = format!("/{}{name}{below}", info.resource());
    let fits = |path: &&String| path.ends_with(&tail) && document["paths"][*path].get(method).is_some();
    let path = document["paths"].as_object()?.keys().find(fits)?;
    let kind = &document["paths"][path][method]["x-kubernetes-group-version-kind"];
    let text = |key: &str| kind[key].as_str().unwrap_or_default().into();
    let kind = Kind { group: text("group"), version: text("version"), kind: text("kind") };
    let sub = Subresource { name: info.subresource().into(), kind: kind.clone(), verbs: Verbs::default() };
    let resource = Resource {
        group: info.group().into(),
        version: info.version().into(),
        name: info.resource().into(),
        kind,
        namespaced: path.contains("{namespace}"),
        verbs: Verbs::default(),
        subresources: vec![sub].into(),
    };
    Some(Route {
        resource: Arc::new(resource),
        subresource: (!below.is_empty()).then_some(0),
        origin: Origin::Unknown,
    })
}

fn judge(asked: &Asked, headers: &HeaderMap, body: &[u8]) -> Judged {
    let route = route(asked).unwrap_or_else(|| panic!("{}", asked.target.path()));
    let document = Document::new(headers, body);
    let document = (!body.is_empty()).then_some(&document);
    Object { asked, route: &route, format: super::format(headers), document }
        .judge(SCHEMAS.get(&document_of(asked)))
}

fn json_headers() -> HeaderMap {
    HeaderMap::new()
}

fn judged(method: &str, path: &str, body: &Value) -> Judged {
    judge(&asked(method, path), &json_headers(), body.to_string().as_bytes())
}

/// Refusals that are left to the upstream, by what kube-apiserver says.
const LEFT: &[&str] = &[
    // What a reader of YAML takes a text for, and keys that are there twice in it.
    ": yaml: ",
    "strict decoding error: yaml: ",
    // The same of an object that is empty to it.
    "name in URL does not match name in",
    // The scale of custom resources.
    "no kind is registered for the type v1.Scale",
    "unexpected EOF",
    // What reads itself in the schema of a CustomResourceDefinition.
    "additionalProperties.type of type string",
    "boolean or JSON schema expected",
    // Not all releases of Go mind.
    "time zone offset",
];

/// Answers to what was decoded.
fn is_decoded(row: &Row) -> bool {
    row.code != 400 && !row.message.as_ref().is_some_and(|message| message.contains(": kind: Invalid value:"))
}

#[test]
fn answers_are_those_of_kube_apiserver() {
    let (mut wrong, mut same, mut left) = (Vec::new(), 0, 0);
    for row in rows("objects.jsonl") {
        let (asked, headers, body) = (row.asked(), row.headers(), row.bytes());
        let (told, told_rule, warnings) = if row.method == "DELETE" {
            let document = Document::new(&headers, &body);
            (options::wrong(&document).map(|(_, status)| status), "", Vec::new())
        } else {
            let judged = judge(&asked, &headers, &body);
            let rule = judged.wrong.as_ref().map_or("", |wrong| wrong.rule);
            (judged.wrong.map(|wrong| wrong.status), rule, judged.warnings)
        };
        let message = row.message.clone().unwrap_or_default();
        let yaml = row.r#type.as_deref() == Some("application/yaml");
        match &told {
            None if is_decoded(&row) => {}
            None if LEFT.iter().any(|text| message.contains(text)) => left += 1,
            // Metadata that is there twice is merged by some decoders.
            None if body.windows(10).filter(|text| text == b"\"metadata\"").count() > 1 => left += 1,
            Some(status) if !is_decoded(&row) && status.code == row.code => {
                let cut: String = status.message.chars().take(600).collect();
                let long = message.chars().count() >= 600;
                // How much of a body is repeated is another matter.
                let missing = message.contains("Object 'Kind' is missing in");
                // Which kinds beside those of its document a server has types of is not known.
                let head = |text: &str| text.split(" cannot be handled as a ").next().map(str::to_owned);
                let other = told_rule == "kind" && head(&status.message) == head(&message);
                let yaml = yaml && message.contains("yaml: unmarshal errors");
                if status.message == message || long && message == cut || missing || other || yaml {
                    same += 1;
                } else {
                    wrong.push(format!("{row:?}\n  {}", status.message));
                }
            }
            _ => wrong.push(format!("{row:?}\n  {told:?}")),
        }
        let unquoted = |text: &String| serde_json::from_str::<String>(text).unwrap();
        let theirs: Vec<String> =
            row.warnings.iter().map(unquoted).filter(|w| !w.starts_with("line ")).collect();
        let ours: Vec<String> = warnings.into_iter().map(|w: Strict| w.text).collect();
        if told.is_none() && !yaml && ours != theirs {
            wrong.push(format!("{row:?}\n  warned: {ours:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(same > 250 && left < 30, "{same} {left}");
}

#[test]
fn every_field_of_every_kind_has_its_type() {
    let rows = rows("field-types.jsonl.gz");
    assert!(rows.len() > 2_000);
    let mut wrong = Vec::new();
    for row in &rows {
        let judged = judge(&row.asked(), &row.headers(), &row.bytes());
        let told = judged.wrong.map(|wrong| wrong.status.message);
        if told != row.message {
            wrong.push(format!("{} {:?}\n  {told:?}\n  {:?}", row.path, row.body, row.message));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// A value that a schema of a document takes, some levels deep.
fn example(schemas: &Value, schema: &Value, depth: usize) -> Value {
    let to = schema.get("$ref").or_else(|| schema.pointer("/allOf/0/$ref")).and_then(Value::as_str);
    if let Some(to) = to {
        let name = to.rsplit('/').next().unwrap();
        return match name.rsplit('.').next().unwrap() {
            "Time" => json!("2026-11-22T10:00:00Z"),
            "MicroTime" => json!("2026-11-22T10:00:00.123456Z"),
            "Quantity" => json!("1.5Gi"),
            "IntOrString" => json!("25%"),
            _ => example(schemas, &schemas[name], depth),
        };
    }
    match schema["type"].as_str() {
        Some("object") if depth == 0 => json!({}),
        Some("object") => match (&schema["properties"], &schema["additionalProperties"]) {
            (Value::Object(properties), _) => {
                let each =
                    |(name, schema): (&String, &Value)| (name.clone(), example(schemas, schema, depth - 1));
                properties.iter().map(each).collect::<Map<_, _>>().into()
            }
            (_, each) if each.is_object() => json!({"a": example(schemas, each, depth - 1)}),
            _ => json!({"anything": [1, "x"]}),
        },
        Some("array") if depth == 0 => json!([]),
        Some("array") => json!([example(schemas, &schema["items"], depth - 1), null]),
        Some("string") if schema["format"] == "byte" => json!("eHl6"),
        Some("string") => json!("x"),
        Some("integer") => json!(-1),
        Some("number") => json!(0.5),
        Some("boolean") => json!(true),
        _ if schema["x-kubernetes-int-or-string"] == true => json!("x"),
        _ => json!({"anything": 1}),
    }
}

/// The bodies of all creates, with examples of them.
fn examples() -> impl Iterator<Item = (String, Value)> {
    DOCUMENTS.values().flat_map(|document| {
        let schemas = &document["components"]["schemas"];
        let paths = document["paths"].as_object().unwrap().iter();
        paths.filter_map(move |(path, item)| {
            let content = item.pointer("/post/requestBody/content")?.as_object()?;
            let schema = &content.values().next()?["schema"];
            let mut body = example(schemas, schema, 9);
            let kind = &item["post"]["x-kubernetes-group-version-kind"];
            let (group, version) = (kind["group"].as_str().unwrap(), kind["version"].as_str().unwrap());
            body["apiVersion"] =
                if group.is_empty() { json!(version) } else { json!(format!("{group}/{version}")) };
            body["kind"] = kind["kind"].clone();
            body["metadata"]["namespace"] = json!("default");
            let path = path.replace("{namespace}", "default").replace("{name}", "x");
            Some((path + "?fieldValidation=Strict", body))
        })
    })
}

#[test]
fn what_fits_its_schema_is_decoded() {
    let mut kinds = 0;
    for (path, body) in examples() {
        let judged = judged("POST", &path, &body);
        assert_eq!(judged.wrong, None, "{path} {body}");
        assert!(judged.fields, "{path}");
        kinds += 1;
    }
    assert!(kinds > 70, "{kinds}");
}

#[test]
fn null_is_decoded_everywhere() {
    fn nulled(value: &mut Value, left: &mut usize) {
        match value {
            _ if *left == 0 => *value = Value::Null,
            Value::Object(members) => {
                for (name, member) in members {
                    if *left > 0 && !matches!(&**name, "kind" | "apiVersion" | "metadata") {
                        *left -= 1;
                        nulled(member, left);
                    }
                }
            }
            Value::Array(elements) => elements.iter_mut().for_each(|element| nulled(element, left)),
            _ => {}
        }
    }
    for (path, body) in examples() {
        for at in 1..40 {
            let mut body = body.clone();
            nulled(&mut body, &mut { at });
            assert_eq!(judged("POST", &path, &body).wrong, None, "{path} {body}");
        }
    }
}

#[test]
fn nothing_that_is_known_nowhere_is_judged_by_its_fields() {
    let asked = asked("POST", "/apis/apps/v1/namespaces/default/deployments?fieldValidation=Strict");
    let route = route(&asked).unwrap();
    let headers = json_headers();
    let rule = |body: &str| {
        let document = Document::new(&headers, body.as_bytes());
        let judged = Object {
            asked: &asked,
            route: &route,
            format: super::format(&headers),
            document: Some(&document),
        }
        .judge(None);
        assert!(!judged.fields);
        judged.wrong.map(|wrong| (wrong.rule, wrong.by_schema))
    };
    for (body, want) in [
        (r#"{"spec":{"replicas":"x","foo":1}}"#, None),
        (r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x"}}"#, None),
        (r#"{"kind":"Other"}"#, None),
        (r#"{"apiVersion":"apps/v2"}"#, Some(("api-version", false))),
        (r#"{"metadata":{"namespace":"other"}}"#, Some(("namespace", false))),
        ("{", Some(("undecodable", false))),
        ("[]", Some(("undecodable", false))),
    ] {
        assert_eq!(rule(body), want, "{body}");
    }
}

#[test]
fn what_is_told_is_bounded() {
    let path = "/api/v1/namespaces/default/configmaps?fieldValidation=Strict";
    let long = "x".repeat(500_000);
    let data: Map<_, _> = (0..300).map(|i| (format!("u{i}"), json!(1))).collect();
    let many = judged("POST", path, &data.into()).wrong.unwrap().status.message;
    assert_eq!(many.matches("unknown field").count(), 100);
    let big = json!({(long.clone()): 1, (long + "y"): 2});
    assert!(judged("POST", path, &big).wrong.unwrap().status.message.len() < 1_200_000);
    let deep = format!("{}1{}", r#"{"a":["#.repeat(4_000), "]}".repeat(4_000));
    for path in ["/api/v1/namespaces/default/configmaps", "/apis/ex.io/v1/namespaces/default/foos"] {
        let body =
            format!(r#"{{"apiVersion":"ex.io/v1","kind":"Foo","metadata":{deep},"spec":{{"any":{deep}}}}}"#);
        let _ = judge(&asked("POST", path), &json_headers(), body.as_bytes());
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "metadata",
        "spec",
        "name",
        "containers",
        "labels",
        "template",
        "kind",
        "apiVersion",
        "emb",
        "list",
        "map",
        "data",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9.:+-]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..6).prop_map(|entries| {
                entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>().into()
            }),
        ]
    })
}

proptest! {
    #[test]
    fn never_panics(body in any_json(), yaml: bool, which in 0..5usize) {
        let path = [
            "/api/v1/namespaces/default/pods",
            "/apis/ex.io/v1/namespaces/default/foos",
            "/apis/ex.io/v1/bars",
            "/apis/apps/v1/namespaces/default/deployments",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        ][which];
        let mut headers = HeaderMap::new();
        if yaml {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
        }
        let _ = judge(&asked("POST", path), &headers, body.to_string().as_bytes());
    }

    #[test]
    fn numbers_and_texts_never_panic(text in "[ -~]{0,40}", odd in ".{0,20}") {
        for text in [text, odd] {
            let _ = (super::scalars::quantity(&text), super::scalars::duration(&text), super::scalars::base64(&text));
            let _ = (super::scalars::time(&text, true), super::scalars::time(&text, false));
        }
    }

    #[test]
    fn base64_is_what_another_decoder_takes(bytes in prop::collection::vec(any::<u8>(), 0..60), cut in 0..80usize) {
        let text = STANDARD.encode(&bytes);
        prop_assert!(super::scalars::base64(&text).is_ok());
        let text = &text[..cut.min(text.len())];
        prop_assert_eq!(super::scalars::base64(text).is_ok(), STANDARD.decode(text).is_ok() || text.len() % 4 == 0);
    }
}

#[test]
fn durations_are_those_of_go() {
    for (text, fits) in [
        ("0", true),
        ("1s", true),
        ("-1.5h", true),
        ("+5m3s", true),
        (".5s", true),
        ("1.s", true),
        ("1us", true),
        ("1µs", true),
        ("", false),
        ("1", false),
        ("s", false),
        ("1x", false),
        (".s", false),
        ("-", false),
        ("1 s", false),
        ("1.2.3s", false),
    ] {
        assert_eq!(super::scalars::duration(text).is_ok(), fits, "{text}");
    }
}
