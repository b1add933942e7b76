use super::*;
use crate::validate::{
    Config,
    catalog::{self, Resource, Route, Verbs},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;

const OBJECT: &str = "/api/v1/namespaces/default/configmaps/c";
const NODE: &str = "/api/v1/nodes/n1";
const NAMESPACE: &str = "/api/v1/namespaces/default";

/// `code rule: message`, or the warnings, or nothing.
fn look(path: &str, kind: &str, validation: &str, route: &Lookup, body: &[u8]) -> String {
    let target = format!("{path}?fieldManager=x&fieldValidation={validation}");
    let request = http::Request::patch(target).header("content-type", kind).body(()).unwrap();
    let (parts, ()) = request.into_parts();
    let asked = Asked::parse(&parts).unwrap();
    let mut found = Findings::new(Arc::new(Config::default()));
    assert!(wants_body(&found, &asked, &parts.headers));
    let document = Document::new(&parts.headers, body);
    let document = Some(&document).filter(|_| !body.is_empty());
    match check(&mut found, &asked, &parts.headers, route, document) {
        Err(invalid) => {
            let reasons = [(400, "BadRequest"), (413, "RequestEntityTooLarge"), (422, "Invalid")];
            assert!(reasons.contains(&(invalid.status.code, invalid.status.reason)), "{invalid:?}");
            format!("{} {}: {}", invalid.status.code, invalid.rule, invalid.status.message)
        }
        Ok(()) => found.list.iter().map(|f| format!("{}: {}", f.rule, f.text)).collect::<Vec<_>>().join("; "),
    }
}

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

const GENERIC: &str = "422 operation: the server rejected our request due to an error in our request";

/// Body, answer with `fieldValidation=Warn`, answer with `Ignore` where it is another one.
type Row<'a> = (&'a str, &'a str, Option<&'a str>);

fn rows(kind: &str, rows: &[Row<'_>]) {
    for (body, warn, ignore) in rows {
        for (validation, want) in [("", *warn), ("Warn", *warn), ("Ignore", ignore.unwrap_or(warn))] {
            let have = look(OBJECT, kind, validation, &Lookup::Unsure, body.as_bytes());
            assert_eq!(have, want, "{kind} {validation} {body}");
        }
        let strict = look(OBJECT, kind, "Strict", &Lookup::Unsure, body.as_bytes());
        // What is only warned of is refused there, in a text that has the whole object in it.
        let refused = warn.starts_with('4');
        assert_eq!(strict, if refused { warn } else { "" }, "{kind} Strict {body}");
    }
}

#[test]
fn json_patches_are_judged_as_kube_apiserver_does() {
    let decoding = "400 shape: error decoding patch: json: cannot unmarshal";
    let ignoring = "400 shape: json: cannot unmarshal";
    let both = |what: &str, strict: &str, ignore: &str| {
        (format!("{decoding} {what} into Go {strict}"), format!("{ignoring} {what} into Go {ignore}"))
    };
    let (list, whole) = ("value of type []handlers.jsonPatchOp", "value of type jsonpatch.Patch");
    let (one, element) = ("value of type handlers.jsonPatchOp", "value of type jsonpatch.Operation");
    let field = |what: &str, name: &str| {
        format!("{decoding} {what} into Go struct field jsonPatchOp.{name} of type string")
    };
    let overflow = "400 number: error decoding patch: json: cannot unmarshal number 1e999 into Go struct field \
                    jsonPatchOp.value of type float64";
    let shapes = [
        ("{}", both("object", list, whole)),
        ("\"x\"", both("string", list, whole)),
        ("1", both("number", list, whole)),
        ("true", both("bool", list, whole)),
        ("[1]", both("number", one, element)),
        ("[[]]", both("array", one, element)),
        ("[null,\"x\"]", both("string", one, element)),
        ("[1,{\"op\":1}]", both("number", one, element)),
    ];
    for (body, (warn, ignore)) in &shapes {
        rows(JSON, &[(body, warn, Some(ignore))]);
    }
    rows(
        JSON,
        &[
            ("null", "", None),
            ("[]", "", None),
            ("[null]", GENERIC, None),
            ("[{}]", GENERIC, None),
            (r#"[{"op":"bogus","path":"/x"}]"#, GENERIC, None),
            (r#"[{"op":"ADD","path":"/x"}]"#, GENERIC, None),
            (r#"[{"op":1,"path":"/x"}]"#, &field("number", "op"), Some(GENERIC)),
            (r#"[{"op":"add","path":1}]"#, &field("number", "path"), Some(GENERIC)),
            (r#"[{"path":[]}]"#, &field("array", "path"), Some(GENERIC)),
            (r#"[{"op":true}]"#, &field("bool", "op"), Some(GENERIC)),
            (r#"[{"op":"move","from":1,"path":"/b"}]"#, &field("number", "from"), Some(GENERIC)),
            (
                r#"[{"op":{}},{"op":[]},1]"#,
                &field("object", "op"),
                Some("400 shape: json: cannot unmarshal number into Go value of type jsonpatch.Operation"),
            ),
            (r#"[{"op":"test","path":"/a","value":"2"},{"op":1}]"#, &field("number", "op"), Some(GENERIC)),
            (r#"[{"op":"add","path":"x","value":1}]"#, GENERIC, None),
            (r#"[{"op":"add","path":"","value":{}}]"#, GENERIC, None),
            (r#"[{"op":"add","value":{}}]"#, GENERIC, None),
            (r#"[{"op":"add","path":"/data/b"}]"#, "", None),
            (r#"[{"op":"add","path":"a/data/z","value":"1"}]"#, "", None),
            (r#"[{"op":"move","path":"/data/b"}]"#, GENERIC, None),
            (r#"[{"op":"move","from":null,"path":"/data/b"}]"#, GENERIC, None),
            (r#"[{"op":"move","from":"/data/a","path":"/data/a"}]"#, "", None),
            (r#"[{"op":"copy","from":"","path":"/data/b"}]"#, GENERIC, None),
            (r#"[{"op":"copy","from":"/data/a"}]"#, GENERIC, None),
            (r#"[{"op":"remove","path":""}]"#, GENERIC, None),
            (r#"[{"op":null,"path":"/data/a"}]"#, GENERIC, None),
            (r#"[{"op":"test","path":null,"value":"1"}]"#, GENERIC, None),
            (r#"[{"op":"test","path":"/data/~2"}]"#, "", None),
            (r#"[{"op":"test","path":"/metadata/nothing","value":null}]"#, "", None),
            (r#"[{"\u006fp":"test","path":"/data/a","value":"1"}]"#, "", None),
            (r#"[{"op":"\ud800"}]"#, GENERIC, None),
            // These two make it panic.
            (r#"[{"op":"replace","path":""}]"#, GENERIC, None),
            (r#"[{"op":"test","path":""}]"#, GENERIC, None),
            (r#"[{"op":"replace","path":"","value":null}]"#, GENERIC, None),
            (r#"[{"op":"replace","path":"","value":"x"}]"#, GENERIC, None),
            (r#"[{"op":"replace","path":"","value":{}}]"#, "", None),
            (r#"[{"op":"test","path":"","value":1}]"#, GENERIC, None),
            (r#"[{"op":"add","path":"/data/a","value":1e999}]"#, overflow, Some("")),
            (r#"[{"op":"add","path":"/data/a","value":[{"a":1e999}]}]"#, overflow, Some("")),
            (r#"[{"op":"test","path":"/a","value":12345678901234567890123}]"#, "", None),
            (
                r#"[{"op":"test","path":"/a","value":"1","value":"1","x":2}]"#,
                r#"duplicate-field: json patch duplicate field "[0].value"; unknown-field: json patch unknown field "[0].x""#,
                Some(""),
            ),
            (r#"[{"Op":"test","path":"/a","value":"1"}]"#, GENERIC, None),
        ],
    );
}

#[test]
fn json_patches_have_so_many_operations() {
    let list = |count: usize| {
        let one = r#"{"op":"test","path":"/metadata/name","value":"c"}"#;
        format!("[{}]", vec![one; count].join(","))
    };
    rows(JSON, &[(&list(10_000), "", None)]);
    let limit = "413 operations-limit: Request entity too large: The allowed maximum operations in a JSON patch is \
                 10000, got 10001";
    rows(JSON, &[(&list(10_001), limit, None)]);
}

#[test]
fn what_is_no_json_is_told_with_the_patch_s_own_words() {
    let end = "unexpected end of JSON input";
    let decoding = format!("400 syntax: error decoding patch: {end}");
    for body in ["", "{", "[{\"op\":"] {
        rows(JSON, &[(body, &decoding, Some(&format!("400 syntax: {end}")))]);
        rows(MERGE, &[(body, &decoding, Some("400 syntax: Invalid JSON Patch"))]);
        rows(STRATEGIC, &[(body, &format!("400 syntax: {end}"), None)]);
    }
    for (body, text) in [
        (r#"[{"op":"test"}] x"#, "invalid character 'x' after top-level value"),
        ("[{'op':'test'}]", r"invalid character '\'' looking for beginning of object key string"),
        ("[01]", "invalid character '1' after array element"),
        ("[tru]", "invalid character ']' in literal true (expecting 'e')"),
        ("\u{feff}[]", "invalid character 'ï' looking for beginning of value"),
    ] {
        let decoding = format!("400 syntax: error decoding patch: {text}");
        rows(JSON, &[(body, &decoding, Some(&format!("400 syntax: {text}")))]);
    }
    let deep = |levels: usize| "{\"a\":".repeat(levels) + "1" + &"}".repeat(levels);
    rows(MERGE, &[(&deep(10_000), "", None)]);
    let text = "400 syntax: error decoding patch: invalid character '{' exceeded max depth";
    rows(MERGE, &[(&deep(10_001), text, Some("400 syntax: Invalid JSON Patch"))]);
    assert_eq!(look(OBJECT, MERGE, "", &Lookup::Unsure, b"{\"data\":{\"a\":\"\xff\"}}"), "");
}

const NOT_NAMED: &str = "400 name: the name of the object (d) does not match the name on the URL (c)";
const NAMELESS: &str =
    "400 name: the name of the object (c based on URL) was undeterminable: name must be provided";
const ELSEWHERE: &str =
    "400 namespace: the namespace of the provided object does not match the namespace sent on the request";

#[test]
fn merge_patches_are_judged_as_kube_apiserver_does() {
    let decoding = |what: &str| {
        format!(
            "400 shape: error decoding patch: json: cannot unmarshal {what} into Go value of type map[string]interface {{}}"
        )
    };
    let overflow =
        "400 number: error decoding patch: json: cannot unmarshal number 1e999 into Go value of type float64";
    let bad = Some("400 shape: Invalid JSON Patch");
    rows(
        MERGE,
        &[
            ("{}", "", None),
            ("null", "400 shape: Invalid JSON Patch", None),
            ("[]", &decoding("array"), Some("")),
            ("1", &decoding("number"), bad),
            ("\"x\"", &decoding("string"), bad),
            ("true", &decoding("bool"), bad),
            (r#"{"a":1e999}"#, overflow, Some("")),
            (r#"{"data":{"b":1}}"#, "", None),
            (r#"{"kind":"Pod","apiVersion":"v2"}"#, "", None),
            (r#"{"metadata":1}"#, "", None),
            (r#"{"metadata":{"name":1}}"#, "", None),
            (r#"{"metadata":{"name":"c","namespace":"default"}}"#, "", None),
            (r#"{"metadata":{"namespace":null}}"#, "", None),
            (r#"{"metadata":{"namespace":""}}"#, "", None),
            (r#"{"Metadata":{"name":"d"}}"#, "", None),
            (r#"{"metadata":{"managedFields":[{}]}}"#, "", None),
            (r#"{"metadata":{"name":"d"},"metadata":{"labels":{"a":"b"}}}"#, "", None),
            (r#"{"metadata":{"name":"d","name":"c"}}"#, "", None),
            (r#"{"metadata":{"name":"c","name":"d"}}"#, NOT_NAMED, None),
            (r#"{"metadata":{"name":"d","uid":"x"}}"#, NOT_NAMED, None),
            (r#"{"metadata":{"name":null}}"#, NAMELESS, None),
            (r#"{"metadata":{"name":""}}"#, NAMELESS, None),
            (r#"{"metadata":null}"#, NAMELESS, None),
            (r#"{"metadata":{"name":"d","namespace":"d"}}"#, ELSEWHERE, None),
        ],
    );
}

#[test]
fn strategic_merge_patches_are_judged_as_kube_apiserver_does() {
    let array = "400 shape: json: cannot unmarshal array into Go value of type map[string]interface {}";
    let overflow = "400 number: json: cannot unmarshal number 1e999 into Go value of type float64";
    rows(
        STRATEGIC,
        &[
            ("{}", "", None),
            ("null", "", None),
            ("[]", array, None),
            (r#"{"a":1e999}"#, overflow, None),
            (r#"{"metadata":{"name":"d"}}"#, NOT_NAMED, None),
            (r#"{"metadata":{"name":null}}"#, NAMELESS, None),
            (r#"{"metadata":{"namespace":"d"}}"#, ELSEWHERE, None),
            // Directives are left to the upstream, with the names beside them.
            (r#"{"$patch":"bogus","metadata":{"name":"d"}}"#, "", None),
            (r#"{"metadata":{"$patch":"delete","name":"d"}}"#, "", None),
            (r#"{"metadata":{"name":{"$patch":"delete"}}}"#, "", None),
            (r#"{"$setElementOrder/x":1}"#, "", None),
        ],
    );
}

#[test]
fn names_are_those_of_the_path() {
    for (path, body, want) in [
        // A cluster-wide object's namespace is overlooked, a Namespace's as well.
        (NODE, r#"{"metadata":{"namespace":"d"}}"#, ""),
        (NAMESPACE, r#"{"metadata":{"namespace":"d"}}"#, ""),
        (
            NAMESPACE,
            r#"{"metadata":{"name":"d"}}"#,
            "400 name: the name of the object (d) does not match the name on the URL (default)",
        ),
        (
            "/api/v1/nodes/n1/status",
            r#"{"metadata":{"name":"d"}}"#,
            "400 name: the name of the object (d) does not match the name on the URL (n1)",
        ),
        ("/apis/apps/v1/namespaces/a/deployments/d/scale", r#"{"metadata":{"namespace":"b"}}"#, ELSEWHERE),
    ] {
        assert_eq!(look(path, MERGE, "", &Lookup::Unsure, body.as_bytes()), want, "{path} {body}");
    }
}

fn configmaps() -> Lookup {
    let kind = catalog::Kind { group: "".into(), version: "v1".into(), kind: "ConfigMap".into() };
    let resource = Resource {
        group: "".into(),
        version: "v1".into(),
        name: "configmaps".into(),
        kind,
        namespaced: true,
        verbs: Verbs::default(),
        subresources: Box::default(),
    };
    Lookup::Known(Route { resource: Arc::new(resource), subresource: None, origin: catalog::Origin::Unknown })
}

#[test]
fn apply_patches_are_judged_as_kube_apiserver_does() {
    let shape = |what: &str| {
        format!(
            "400 shape: error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {what} \
             into Go value of type map[string]interface {{}}"
        )
    };
    let kind = |text: &str| format!("400 kind: invalid object type: {text}");
    let full =
        |metadata: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}).to_string();
    let managed = "400 managed-fields: metadata.managedFields must be nil";
    let time = |text: &str| full(json!({"managedFields": [{"time": text, "manager": "x", "fieldsV1": {}}]}));
    let rows: &[(&str, &str)] = &[
        ("", &kind("/, Kind=")),
        ("{}", &kind("/, Kind=")),
        ("a: b", &kind("/, Kind=")),
        ("- a", &shape("array")),
        ("\"x\"", &shape("string")),
        // Whether that is YAML is for the upstream to say.
        ("{", ""),
        ("a: [", ""),
        (r#"{"apiVersion":"v1","kind":"ConfigMap"} x"#, ""),
        (&full(json!({"name": "c"})), ""),
        (&full(json!({})), ""),
        (&full(json!(1)), ""),
        (&full(json!({"name": 1})), ""),
        (r#"{"apiVersion":"v1"}"#, &kind("/v1, Kind=")),
        (r#"{"kind":"ConfigMap"}"#, &kind("/, Kind=ConfigMap")),
        (r#"{"apiVersion":1,"kind":"ConfigMap"}"#, &kind("/, Kind=ConfigMap")),
        (r#"{"apiVersion":"v1","kind":1}"#, &kind("/v1, Kind=")),
        (r#"{"apiVersion":"v1/x/y","kind":"ConfigMap"}"#, &kind("/, Kind=")),
        (r#"{"apiVersion":"/v1","kind":"ConfigMap"}"#, ""),
        (r#"{"apiVersion":"v2","kind":"ConfigMap"}"#, &kind("/v2, Kind=ConfigMap")),
        (r#"{"apiVersion":"apps/v1","kind":"ConfigMap"}"#, &kind("apps/v1, Kind=ConfigMap")),
        (r#"{"apiVersion":"v1","kind":"Pod"}"#, &kind("/v1, Kind=Pod")),
        (&full(json!({"name": "d"})), NOT_NAMED),
        (&full(json!({"name": "d", "namespace": "d"})), ELSEWHERE),
        (&full(json!({"managedFields": []})), managed),
        (&full(json!({"managedFields": [{}]})), managed),
        (&full(json!({"managedFields": [{"fieldsV1": 1, "foo": 1}]})), managed),
        (&time("2026-11-22T22:48:26Z"), managed),
        (&time("x"), ""),
        (&full(json!({"managedFields": null})), ""),
        (&full(json!({"managedFields": [null]})), ""),
        (&full(json!({"managedFields": [1]})), ""),
        (&full(json!({"managedFields": {}})), ""),
        (&full(json!({"managedFields": [{"manager": 1}]})), ""),
    ];
    for (body, want) in rows {
        for validation in ["", "Ignore", "Strict"] {
            assert_eq!(look(OBJECT, APPLY, validation, &configmaps(), body.as_bytes()), *want, "{body}");
        }
    }
    // Without the catalogue's word any kind may be right, but one there must be.
    let unknown = |body: &str| look(OBJECT, APPLY, "", &Lookup::Unsure, body.as_bytes());
    assert_eq!(unknown(r#"{"apiVersion":"apps/v1","kind":"Pod"}"#), "");
    assert_eq!(unknown(r#"{"apiVersion":"apps/v1"}"#), kind("apps/v1, Kind="));
}

#[test]
fn media_types_are_compared_as_they_are() {
    let of = |value: &str| Type::of(&HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]));
    assert_eq!(of("application/merge-patch+json"), Some(Type::Merge));
    assert_eq!(of("application/merge-patch+json;charset=utf-8"), Some(Type::Merge));
    for other in
        ["Application/Merge-Patch+json", "application/merge-patch+json ;x", "application/json", ";", ""]
    {
        assert_eq!(of(other), None, "{other}");
    }
}

/// Applies operations as the library does that kube-apiserver uses, as far as an answer of it depends on the operations alone.
fn apply_plainly(object: &mut Value, operations: &[Value]) -> Option<()> {
    for operation in operations {
        let text = |name: &str| operation.get(name).and_then(Value::as_str);
        let path = text("path")?;
        let whole = path.is_empty();
        let at = |path: &str| path.split_once('/').map(|(_, rest)| format!("/{rest}"));
        match text("op")? {
            "test" if whole => (object == operation.get("value")?).then_some(())?,
            "test" => {
                let found = object.pointer(&at(path)?).cloned().unwrap_or_default();
                (found == operation.get("value").cloned().unwrap_or_default()).then_some(())?;
            }
            "replace" if whole => {
                let value = operation.get("value")?;
                (value.is_object() || value.is_array()).then_some(())?;
                *object = value.clone();
            }
            "add" | "replace" => put(object, &at(path)?, operation.get("value").cloned())?,
            "remove" => put(object, &at(path)?, None)?,
            "move" => {
                let from = at(text("from")?)?;
                let value = object.pointer(&from)?.clone();
                put(object, &from, None)?;
                put(object, &at(path)?, Some(value))?;
            }
            "copy" => {
                let value = object.pointer(&at(text("from")?)?)?.clone();
                put(object, &at(path)?, Some(value))?;
            }
            _ => return None,
        }
    }
    Some(())
}

fn put(object: &mut Value, path: &str, value: Option<Value>) -> Option<()> {
    let (parent, key) = path.rsplit_once('/')?;
    let members = object.pointer_mut(parent)?.as_object_mut()?;
    match value {
        Some(value) => members.insert(key.to_owned(), value),
        None => members.remove(key),
    };
    Some(())
}

fn operation() -> impl Strategy<Value = Value> {
    let op = prop_oneof![
        8 => prop::sample::select(vec!["add", "remove", "replace", "move", "copy", "test"]).prop_map(Value::from),
        1 => Just(json!("bogus")),
        1 => Just(json!(1)),
    ];
    let path = || {
        let paths = vec!["/a", "/b", "x/a", "/a/b", "", "a", "/metadata/name"];
        prop_oneof![9 => prop::sample::select(paths).prop_map(Value::from), 1 => Just(Value::Null)]
    };
    let value = prop_oneof![Just(json!({"a": 1})), Just(json!([])), Just(json!("x")), Just(Value::Null)];
    (op, path(), prop::option::of(path()), prop::option::of(value)).prop_map(|(op, path, from, value)| {
        let mut operation = json!({"op": op, "path": path});
        for (name, value) in [("from", from), ("value", value)] {
            if let Some(value) = value {
                operation[name] = value;
            }
        }
        operation
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_can_be_applied_is_not_refused(operations in prop::collection::vec(operation(), 0..4)) {
        let mut object = json!({"a": {"b": "x"}, "metadata": {"name": "c"}});
        let applied = apply_plainly(&mut object, &operations).is_some();
        let body = Value::from(operations).to_string();
        let have = look(OBJECT, JSON, "", &Lookup::Unsure, body.as_bytes());
        prop_assert!(!applied || have.is_empty(), "{body}: {have}");
    }

    #[test]
    fn names_are_read_as_a_merge_would_leave_them(
        name in prop::option::of("[cd]?"),
        namespace in prop::option::of("default|other|"),
        before in prop::option::of("[cd]"),
    ) {
        let mut members = Vec::new();
        members.extend(before.map(|name| format!(r#""name":"{name}""#)));
        members.extend(namespace.as_ref().map(|namespace| format!(r#""namespace":"{namespace}""#)));
        members.extend(name.as_ref().map(|name| format!(r#""name":"{name}""#)));
        let body = format!(r#"{{"metadata":{{{}}}}}"#, members.join(","));
        // A map keeps the last of equal keys.
        let merged: Value = serde_json::from_str(&body).unwrap();
        let member = |name: &str| merged["metadata"][name].as_str();
        let right = member("name").is_none_or(|n| n == "c")
            && member("namespace").is_none_or(|n| n.is_empty() || n == "default");
        for kind in [MERGE, STRATEGIC] {
            let have = look(OBJECT, kind, "", &Lookup::Unsure, body.as_bytes());
            prop_assert_eq!(have.is_empty(), right, "{} {}", body, have);
        }
    }

    #[test]
    fn nothing_panics(body in prop::collection::vec(any::<u8>(), 0..64), kind in 0..4usize) {
        look(OBJECT, [JSON, MERGE, STRATEGIC, APPLY][kind], "", &Lookup::Unsure, &body);
    }
}
