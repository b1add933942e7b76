#![no_main]
//! An object on its way to a kind, held against kube-apiserver's own schemas: bytes as they are, or an object that the bytes and the
//! kind's schema make together.

use flate2::read::GzDecoder;
use gatelog::{
    codec::document::Document,
    request::{Asked, Verb},
    validate::{
        self, Config, Findings, Invalid, Mode,
        catalog::{Kind, Origin, Resource, Route, Subresource, Verbs},
        schema::{Additional, Format, Id, Schemas, Types},
    },
};
use http::{HeaderMap, HeaderValue, Request, header};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

/// Method, path, kind and its version.
const KINDS: [(&str, &str, &str, &str); 8] = [
    ("POST", "/api/v1/namespaces/default/pods", "Pod", "v1"),
    ("PUT", "/api/v1/namespaces/default/configmaps/c", "ConfigMap", "v1"),
    ("POST", "/apis/apps/v1/namespaces/default/deployments", "Deployment", "apps/v1"),
    (
        "POST",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        "ClusterRole",
        "rbac.authorization.k8s.io/v1",
    ),
    ("POST", "/api/v1/namespaces/default/pods/p/eviction", "Eviction", "policy/v1"),
    ("POST", "/apis/ex.io/v1/namespaces/default/foos", "Foo", "ex.io/v1"),
    ("PUT", "/apis/ex.io/v1/namespaces/default/foos/f/status", "Foo", "ex.io/v1"),
    ("POST", "/apis/ex.io/v1/bars", "Bar", "ex.io/v1"),
];
const TYPES: [&str; 4] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor"];

static SCHEMAS: LazyLock<HashMap<String, Schemas>> = LazyLock::new(|| {
    let packed = &include_bytes!("../../tests/golden/openapi.json.gz")[..];
    let documents: Map<String, Value> = serde_json::from_reader(GzDecoder::new(packed)).unwrap();
    let compile = |(path, document): (String, Value)| {
        (path, Schemas::compile(document.to_string().as_bytes()).unwrap())
    };
    documents.into_iter().map(compile).collect()
});

fn kind(name: &str, api_version: &str) -> Kind {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Kind { group: group.into(), version: version.into(), kind: name.into() }
}

fn schemas_of(asked: &Asked) -> &'static Schemas {
    let (group, version) = (asked.info.group(), asked.info.version());
    &SCHEMAS[&if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }]
}

fn asked(method: &str, target: &str) -> Asked {
    let request = Request::builder().method(method).uri(target).body(()).unwrap();
    Asked::parse(&request.into_parts().0).unwrap()
}

fn route(asked: &Asked, kind: Kind) -> Route {
    let info = &asked.info;
    let below = Subresource { name: info.subresource().into(), kind: kind.clone(), verbs: Verbs::default() };
    let has_below = !info.subresource().is_empty();
    let resource = Resource {
        group: info.group().into(),
        version: info.version().into(),
        name: info.resource().into(),
        kind,
        namespaced: !info.namespace().is_empty(),
        verbs: Verbs::default(),
        subresources: if has_below { [below].into() } else { Box::default() },
    };
    Route { resource: Arc::new(resource), subresource: has_below.then_some(0), origin: Origin::Unknown }
}

/// Reads bytes as choices; what is not there is nought.
struct Choices<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl Choices<'_> {
    fn next(&mut self) -> usize {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        usize::from(*first)
    }

    /// A value that mostly is as the schema says.
    fn value(&mut self, schemas: &Schemas, id: Id, depth: usize, out: &mut String) {
        const ODD: [&str; 16] = [
            "null",
            "true",
            "0",
            "-1",
            "1.5",
            "1e3",
            "9223372036854775808",
            "4294967296",
            "\"\"",
            "\"x\"",
            "\"\\ud800\"",
            "[]",
            "{}",
            "[null]",
            "{\"\":null}",
            "\"1Gi\"",
        ];
        let schema = schemas.get(id);
        let choice = self.next();
        self.left = self.left.saturating_sub(1);
        if choice >= 240 || self.left == 0 || depth > 12 {
            return out.push_str(ODD[choice % ODD.len()]);
        }
        let texts: &[&str] = match schema.format {
            Format::Quantity => &["\"1\"", "\"1Gi\"", "1", "\"1e3\"", "\"1.5m\"", "\"x\"", "\"+1E\""],
            Format::Time | Format::MicroTime => &[
                "\"2020-01-01T00:00:00Z\"",
                "\"2020-01-01T00:00:00.000001Z\"",
                "null",
                "\"2020-13-01T00:00:00Z\"",
            ],
            Format::Duration => &["\"1s\"", "\"-1.5h2m\"", "\"1\"", "\"9223372036854775808ns\""],
            Format::Byte => &["\"AA==\"", "\"AA\"", "\"\"", "\"A\\nA==\""],
            Format::IntOrString => &["80", "\"http\"", "\"50%\"", "2147483648"],
            _ if schema.types.has(Types::BOOLEAN) => &["true", "false"],
            _ if schema.types.has(Types::INTEGER) => {
                &["0", "1", "2147483647", "2147483648", "-9223372036854775808"]
            }
            _ if schema.types.has(Types::NUMBER) => &["0.5", "1e400", "-0"],
            _ if schema.types.has(Types::STRING) => {
                &["\"a\"", "\"a.b/c\"", "\"\\u0041\"", "\"A_\"", "\"\u{e9}\""]
            }
            _ => &[],
        };
        if let Some(rules) =
            schema.rules.as_ref().filter(|rules| !rules.enumeration.is_empty() && choice % 4 == 0)
        {
            out.push_str(schemas.text(rules.enumeration[choice % rules.enumeration.len()]));
        } else if !texts.is_empty() {
            out.push_str(texts[choice % texts.len()]);
        } else if let Some(items) = schema.items {
            out.push('[');
            for i in 0..choice % 3 {
                out.push_str(if i == 0 { "" } else { "," });
                self.value(schemas, items, depth + 1, out);
            }
            out.push(']');
        } else {
            self.members(schemas, id, depth, choice % 6, out);
        }
    }

    fn members(&mut self, schemas: &Schemas, id: Id, depth: usize, count: usize, out: &mut String) {
        let schema = schemas.get(id);
        out.push('{');
        let mut comma = if depth == 0 { "" } else { "\u{20}" };
        for _ in 0..count {
            let choice = self.next();
            out.push_str(comma);
            comma = ",";
            let listed =
                schema.properties.get(choice % schema.properties.len().max(1)).filter(|_| choice < 250);
            match (listed, schema.additional) {
                (Some(property), _) => {
                    let name = schemas.text(property.name);
                    let name = if choice == 249 { name.to_uppercase() } else { name.to_owned() };
                    out.push_str(&format!("{:?}:", name));
                    self.value(schemas, property.schema, depth + 1, out);
                }
                (None, Additional::Of(of)) => {
                    out.push_str(&format!("\"k{}\":", choice % 3));
                    self.value(schemas, of, depth + 1, out);
                }
                _ => out.push_str(&format!("\"u{choice}\":{{\"a\":[{choice}]}}")),
            }
        }
        out.push('}');
    }
}

fn made(schemas: &Schemas, asked: &Asked, kind: &str, api_version: &str, bytes: &[u8]) -> Option<String> {
    let info = &asked.info;
    let id = schemas.body(info.resource(), info.subresource(), info.verb())?;
    let mut choices = Choices { bytes, left: 400 };
    let mut members = String::new();
    let count = 1 + choices.next() % 6;
    choices.members(schemas, id, 0, count, &mut members);
    let name = if info.verb() == Verb::Update { info.name() } else { "x" };
    let head = format!(r#"{{"apiVersion":"{api_version}","kind":"{kind}","metadata":{{"name":"{name}"}},"#);
    Some(head + &members[1..])
}

fn held(
    asked: &Asked,
    headers: &HeaderMap,
    route: &Route,
    bytes: &[u8],
    values: Mode,
) -> Result<usize, Box<Invalid>> {
    let mut config = Config::default();
    config.parts[validate::Part::Values as usize] = values;
    let found = Findings::new(Arc::new(config));
    let document = Document::new(headers, bytes);
    validate::hold(found, asked, headers, route, schemas_of(asked), &document).map(|found| found.len())
}

fuzz_target!(|data: &[u8]| {
    let [choice, form, bytes @ ..] = data else { return };
    let (method, path, name, api_version) = KINDS[usize::from(*choice) % KINDS.len()];
    let asked_with = |validation: &str| asked(method, &format!("{path}?fieldValidation={validation}"));
    let (ignoring, warning, strict) = (asked_with("Ignore"), asked_with("Warn"), asked_with("Strict"));
    let is_made = form & 0x80 == 0;
    let made = is_made.then(|| made(schemas_of(&strict), &strict, name, api_version, bytes)).flatten();
    let bytes = made.as_ref().map_or(bytes, |made| made.as_bytes());
    let media = TYPES[if is_made { usize::from(*form) % 2 } else { usize::from(*form) % TYPES.len() }];
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(media))]);
    let route = route(&strict, kind(name, api_version));
    let held = |asked: &Asked, values| held(asked, &headers, &route, bytes, values);
    let (ignored, warned, strictly) =
        (held(&ignoring, Mode::Off), held(&warning, Mode::Off), held(&strict, Mode::Off));
    for invalid in [&ignored, &warned, &strictly].into_iter().filter_map(|held| held.as_ref().err()) {
        assert!([400, 422].contains(&invalid.status.code), "{invalid:?}");
    }
    // What fieldValidation says changes nothing but what becomes of fields that are unknown or there twice.
    assert_eq!(ignored.as_ref().err(), warned.as_ref().err());
    match (&warned, &strictly) {
        (Ok(warnings), strictly) => assert_eq!(*warnings == 0, strictly.is_ok(), "{warnings} {strictly:?}"),
        (Err(_), strictly) => assert!(strictly.is_err()),
    }
    // Values are told of, or refused, together.
    let told = held(&ignoring, Mode::Warn);
    let enforced = held(&ignoring, Mode::Enforce);
    match (told, enforced) {
        (Ok(told), enforced) => assert_eq!(told == 0, enforced.is_ok(), "{told} {enforced:?}"),
        (Err(told), enforced) => assert_eq!(Some(told), enforced.err()),
    }
});
