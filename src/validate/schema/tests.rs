use super::*;
use serde_json::{Value, json};

fn compiled(schemas: Value) -> Schemas {
    let to = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let body = |media: &str| json!({"requestBody": {"content": {media: {"schema": to("Thing")}}}});
    let document = json!({"openapi": "3.0.0", "components": {"schemas": schemas}, "paths": {
        "/apis/ex.io/v1/": {"get": {}},
        "/apis/ex.io/v1/namespaces/{namespace}/things": {"get": {}, "post": body("*/*")},
        "/apis/ex.io/v1/namespaces/{namespace}/things/{name}": {"put": body("*/*"), "patch": body("application/merge-patch+json")},
        "/apis/ex.io/v1/namespaces/{namespace}/things/{name}/part": {"put": body("*/*")},
        "/apis/ex.io/v1/watch/things": {"get": {}},
    }});
    Schemas::compile(document.to_string().as_bytes()).unwrap()
}

fn thing(schemas: &Schemas) -> &Schema {
    schemas.get(schemas.body("things", "", Verb::Create).unwrap())
}

fn below<'s>(schemas: &'s Schemas, of: &Schema, name: &str) -> &'s Schema {
    schemas.get(schemas.property(of, name).unwrap().schema)
}

#[test]
fn bodies_are_found_by_what_they_are_sent_to() {
    let s = compiled(json!({"Thing": {"type": "object"}}));
    for (resource, below, verb, there) in [
        ("things", "", Verb::Create, true),
        ("things", "", Verb::Update, true),
        ("things", "", Verb::Patch, true),
        ("things", "", Verb::Delete, false),
        ("things", "part", Verb::Update, true),
        ("things", "part", Verb::Patch, true),
        ("things", "part", Verb::Create, false),
        ("things", "other", Verb::Update, false),
        ("others", "", Verb::Create, false),
        ("watch", "", Verb::Create, false),
    ] {
        assert_eq!(s.body(resource, below, verb).is_some(), there, "{resource}/{below} {verb:?}");
    }
    assert!(!s.is_custom());
}

#[test]
fn properties_are_found_by_name() {
    let names = ["a", "b", "ab", "", "name", "names", "Name", "é", "selector"];
    let properties: serde_json::Map<_, _> =
        names.iter().map(|n| ((*n).to_owned(), json!({"type": "string", "pattern": n}))).collect();
    let s = compiled(json!({"Thing": {"type": "object", "properties": properties}}));
    for name in names {
        let rules = below(&s, thing(&s), name).rules.as_deref().unwrap();
        assert_eq!(s.text(rules.pattern.unwrap()), name);
    }
    for name in ["c", "nam", "nameS", "e"] {
        assert!(s.property(thing(&s), name).is_none(), "{name}");
    }
}

#[test]
fn references_are_followed_in_circles_too() {
    let to = json!({"$ref": "#/components/schemas/Thing"});
    let s = compiled(json!({"Thing": {"properties": {
        "me": to,
        "mine": {"allOf": [to], "default": {}, "description": "x"},
        "more": {"allOf": [to], "minProperties": 1},
        "list": {"type": "array", "items": to},
        "map": {"additionalProperties": to},
        "lost": {"$ref": "#/components/schemas/Nowhere"},
    }}}));
    let thing = thing(&s);
    assert!(std::ptr::eq(below(&s, thing, "me"), thing));
    assert!(std::ptr::eq(below(&s, thing, "mine"), thing));
    assert!(s.property(thing, "mine").unwrap().has_default && !s.property(thing, "me").unwrap().has_default);
    let more = below(&s, thing, "more").rules.as_deref().unwrap();
    assert!(std::ptr::eq(s.get(more.all_of[0]), thing));
    assert!(std::ptr::eq(s.get(below(&s, thing, "list").items.unwrap()), thing));
    let Additional::Of(of) = below(&s, thing, "map").additional else { panic!() };
    assert!(std::ptr::eq(s.get(of), thing));
    assert_eq!(below(&s, thing, "lost").format, Format::Raw);
    assert_eq!(s.short_name(thing), Some("Thing"));
}

#[test]
fn what_a_value_must_be_like_is_kept() {
    let s = compiled(json!({"Thing": {"properties": {
        "n": {"type": "number", "minimum": -1.5, "maximum": 3, "exclusiveMaximum": true, "multipleOf": 0.5, "nullable": true},
        "s": {"type": "string", "enum": ["a", ""], "minLength": 1, "maxLength": 9, "format": "ipv4"},
        "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "v"], "minItems": 2,
              "items": {"type": "object", "required": ["k"]}},
        "o": {"x-kubernetes-preserve-unknown-fields": true, "x-kubernetes-embedded-resource": true, "type": "object"},
        "i": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}], "not": {"enum": [5]}},
        "q": {"allOf": [{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.api.resource.Quantity"}]},
        "any": {"type": "object", "additionalProperties": true},
        "none": {"type": "object", "additionalProperties": false},
    }}}));
    let thing = thing(&s);
    let rules = |name| below(&s, thing, name).rules.as_deref().unwrap();
    let n = rules("n");
    assert_eq!(
        (n.minimum.unwrap().get(), n.maximum.unwrap().get(), n.multiple_of.unwrap().get()),
        (-1.5, 3.0, 0.5)
    );
    assert!(n.exclusive_maximum && !n.exclusive_minimum && below(&s, thing, "n").flags.has(Flags::NULLABLE));
    let text = rules("s");
    assert_eq!(text.enumeration.iter().map(|t| s.text(*t)).collect::<Vec<_>>(), ["\"a\"", "\"\""]);
    assert_eq!(
        (text.min_length, text.max_length, text.format.map(|t| s.text(t))),
        (Some(1), Some(9), Some("ipv4"))
    );
    let list = rules("l");
    assert_eq!((list.list, list.list_keys.len(), list.min_items), (ListType::Map, 2, Some(2)));
    let o = below(&s, thing, "o");
    assert!(o.flags.has(Flags::PRESERVE_UNKNOWN) && o.flags.has(Flags::EMBEDDED) && o.keeps_unknown());
    assert!(below(&s, thing, "i").flags.has(Flags::INT_OR_STRING));
    assert_eq!((rules("i").any_of.len(), rules("i").not.is_some()), (2, true));
    assert_eq!(below(&s, thing, "q").format, Format::Quantity);
    assert_eq!(below(&s, thing, "any").additional, Additional::Any);
    assert_eq!(below(&s, thing, "none").additional, Additional::No);
}

#[test]
fn equal_schemas_are_one() {
    let string = json!({"type": "string", "description": "differs"});
    let properties: serde_json::Map<_, _> = (0..1000)
        .map(|i| (format!("p{i}"), json!({"type": "object", "properties": {"x": string, "y": string}})))
        .collect();
    let s = compiled(json!({"Thing": {"properties": properties}}));
    assert_eq!(s.nodes.len(), 4);
    assert!(s.size() < 40_000, "{}", s.size());
}

#[test]
fn what_is_no_document_is_refused_and_what_is_too_much() {
    let deep = |n: usize| {
        let nested = format!("{}{{}}{}", r#"{"items":"#.repeat(n), "}".repeat(n));
        format!(
            r##"{{"openapi":"3","paths":{{"/api/v1/x":{{"post":{{"requestBody":{{"content":{{"*/*":{{"schema":
            {nested}}}}}}}}}}}}}}}"##
        )
    };
    assert!(Schemas::compile(deep(200).as_bytes()).unwrap().body("x", "", Verb::Create).is_some());
    for (text, why) in [
        ("", "unexpected end of JSON input"),
        ("[]", "no OpenAPI v3 document"),
        (r#"{"swagger":"2.0"}"#, "no OpenAPI v3 document"),
        (&deep(300), "invalid character '{' exceeded max depth"),
    ] {
        assert_eq!(Schemas::compile(text.as_bytes()).unwrap_err().to_string(), why);
    }
    assert_eq!(Schemas::compile(b"\xff").unwrap_err().to_string(), "not UTF-8");
    for odd in [r#"{"openapi":1}"#, r#"{"openapi":"3","paths":[],"components":{"schemas":[1]}}"#] {
        assert!(Schemas::compile(odd.as_bytes()).is_ok(), "{odd}");
    }
}
