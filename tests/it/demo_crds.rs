//! CustomResourceDefinitions in the demo's API server, by kubectl and by plain requests. What is expected was observed on
//! kube-apiserver 1.36.

use super::{
    demo_api::{Demo, kubectls},
    kubectl::minor,
};
use serde_json::Value;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const FOOS: &str = "/apis/ex.io/v1/namespaces/default/foos";

const FOO: &str = r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"foos.ex.io"},
"spec":{"group":"ex.io","scope":"Namespaced","names":{"plural":"foos","kind":"Foo","shortNames":["fo"],"categories":["all"]},"versions":[
{"name":"v1","served":true,"storage":true,"subresources":{"status":{},"scale":{"specReplicasPath":".spec.replicas","statusReplicasPath":".status.replicas","labelSelectorPath":".status.sel"}},
"selectableFields":[{"jsonPath":".spec.color"}],"additionalPrinterColumns":[{"name":"Color","type":"string","jsonPath":".spec.color"}],
"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object","required":["color"],"properties":{
"color":{"type":"string","enum":["red","green"]},"replicas":{"type":"integer","format":"int32","minimum":0,"maximum":10,"default":1},
"name":{"type":"string","pattern":"^[a-z]+$","minLength":2,"maxLength":5},"any":{"type":"object","x-kubernetes-preserve-unknown-fields":true},
"port":{"x-kubernetes-int-or-string":true},"emb":{"type":"object","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true},
"set":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"string"}},
"map":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"items":{"type":"object","required":["k"],"properties":{"k":{"type":"string"},"v":{"type":"integer"}}}},
"labels":{"type":"object","maxProperties":2,"additionalProperties":{"type":"string"}},"nul":{"type":"string","nullable":true},"when":{"type":"string","format":"date-time"},
"list":{"type":"array","minItems":1,"maxItems":3,"items":{"type":"number","exclusiveMinimum":true,"minimum":1}},
"one":{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string"}},"oneOf":[{"required":["a"]},{"required":["b"]}]}}},
"status":{"type":"object","properties":{"replicas":{"type":"integer"},"sel":{"type":"string"}}}}}}},
{"name":"v1beta1","served":true,"storage":false,"deprecated":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}"#;

fn foo(spec: &str) -> String {
    format!(r#"{{"apiVersion":"ex.io/v1","kind":"Foo","metadata":{{"name":"f"}},"spec":{spec}}}"#)
}

async fn post(demo: &Demo, target: &str, body: &str) -> (u16, Value) {
    let reply = demo.ask("POST", target, &[("Content-Type", "application/json")], body).await;
    (reply.code, reply.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_held_against_the_schema() {
    let demo = Demo::start("crd-values").await;
    assert_eq!(post(&demo, DEFINITIONS, FOO).await.0, 201);
    #[rustfmt::skip]
    let rows = [
        // spec, code, the only cause or "": none, or what of the answer must be there
        (r#"{"color":"red","port":"http","list":[1.5],"nul":null,"any":{"x":[1]}}"#, 201, ""),
        (r#"{}"#, 422, "spec.color: Required value"),
        (r#"{"color":null}"#, 422, "spec.color: Required value"),
        (r#"{"color":"blue"}"#, 422, r#"spec.color: Unsupported value: "blue": supported values: "red", "green""#),
        (r#"{"color":"red","replicas":11}"#, 422, "spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10"),
        (r#"{"color":"red","name":"AB"}"#, 422, r#"spec.name: Invalid value: "AB": spec.name in body should match '^[a-z]+$'"#),
        (r#"{"color":"red","name":"a"}"#, 422, r#"spec.name: Invalid value: "a": spec.name in body should be at least 2 chars long"#),
        (r#"{"color":"red","name":"abcdef"}"#, 422, "spec.name: Too long: may not be more than 5 bytes"),
        (r#"{"color":"red","port":true}"#, 422, r#"spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean""#),
        (r#"{"color":"red","emb":{"kind":"Pod"}}"#, 422, "spec.emb.apiVersion: Required value"),
        (r#"{"color":"red","set":["a","a"]}"#, 422, r#"spec.set[1]: Duplicate value: "a""#),
        (r#"{"color":"red","map":[{"k":"a"},{"k":"a"}]}"#, 422, r#"spec.map[1]: Duplicate value: {"k":"a"}"#),
        (r#"{"color":"red","map":[{"v":1}]}"#, 422, "spec.map[0].k: Required value"),
        (r#"{"color":"red","labels":{"a":1}}"#, 422, r#"spec.labels.a: Invalid value: "integer": spec.labels.a in body must be of type string: "integer""#),
        (r#"{"color":"red","labels":{"a":"","b":"","c":""}}"#, 422, "spec.labels: Too many: 3: must have at most 2 items"),
        (r#"{"color":"red","when":"x"}"#, 422, r#"spec.when: Invalid value: "x": spec.when in body must be of type date-time: "x""#),
        (r#"{"color":"red","list":[]}"#, 422, "spec.list: Invalid value: 0: spec.list in body should have at least 1 items"),
        (r#"{"color":"red","list":[1]}"#, 422, "spec.list[0]: Invalid value: 1: spec.list[0] in body should be greater than 1"),
        (r#"{"color":"red","one":{"a":"","b":""}}"#, 422, r#"<nil>: Invalid value: "": "spec.one" must validate one and only one schema (oneOf). Found 2 valid alternatives"#),
    ];
    for (spec, code, cause) in rows {
        let (found, status) = post(&demo, &format!("{FOOS}?dryRun=All"), &foo(spec)).await;
        assert_eq!(found, code, "{spec}: {status}");
        if code == 422 {
            let expected = format!("Foo.ex.io \"f\" is invalid: {cause}");
            assert_eq!(status["message"], expected, "{spec}");
            let (field, message) = cause.split_once(": ").unwrap();
            let first = &status["details"]["causes"][0];
            assert_eq!((&first["field"], &first["message"]), (&field.into(), &message.into()), "{spec}");
        } else {
            assert_eq!(status["spec"]["replicas"], 1, "{spec}");
        }
    }
    demo.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_custom_resources() {
    let demo = Demo::start("crd-requests").await;
    assert_eq!(post(&demo, DEFINITIONS, FOO).await.0, 201);
    let good = foo(r#"{"color":"red","bogus":1}"#);
    #[rustfmt::skip]
    let rows = [
        ("POST FOOS?fieldValidation=Strict", "", &*good, 400, r#"Foo in version "v1" cannot be handled as a Foo: strict decoding error: unknown field "spec.bogus""#),
        ("POST FOOS", "", r#"{"apiVersion":"ex.io/v1","metadata":{}}"#, 400, "Object 'Kind' is missing in"),
        ("POST FOOS", "", r#"{"kind":"Foo"}"#, 400, "the API version in the data () does not match the expected API version (ex.io/v1)"),
        ("POST FOOS", "", r#"{"apiVersion":"ex.io/v1","kind":"Bar","metadata":{"name":"f"}}"#, 422, r#"Bar.ex.io "f" is invalid: kind: Invalid value: "Bar": must be Foo"#),
        // The path's name is not looked at.
        ("POST FOOS/zz", "", &good, 201, r#""name":"f""#),
        ("POST FOOS", "", &good, 409, r#"foos.ex.io "f" already exists"#),
        ("GET FOOS/f", "", "", 200, r#""apiVersion":"ex.io/v1""#),
        ("GET /apis/ex.io/v1beta1/namespaces/default/foos/f", "", "", 200, r#""apiVersion":"ex.io/v1beta1""#),
        ("GET FOOS?fieldSelector=spec.color%3Dred", "", "", 200, r#""name":"f""#),
        ("GET FOOS?fieldSelector=spec.x%3Dred", "", "", 400, "field label not supported: spec.x"),
        ("PUT FOOS/f", "", &good, 422, r#"foos.ex.io "f" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update"#),
        ("PATCH FOOS/f", "application/strategic-merge-patch+json", "{}", 415, "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"),
        ("PATCH FOOS/f", "application/merge-patch+json", r#"{"spec":{"color":"blue"}}"#, 422, "spec.color: Unsupported value"),
        ("PATCH FOOS/f/status", "application/merge-patch+json", r#"{"status":{"replicas":2,"sel":"a=b"}}"#, 200, r#""replicas":2"#),
        ("PATCH FOOS/f/scale", "application/merge-patch+json", r#"{"spec":{"replicas":4}}"#, 200, r#""spec":{"replicas":4},"status":{"replicas":2,"selector":"a=b"}"#),
        ("PATCH FOOS/f/scale", "application/merge-patch+json", r#"{"spec":{"replicas":40}}"#, 422, "should be less than or equal to 10"),
        ("GET FOOS/f/bogus", "", "", 404, r#"foos.ex.io "f" not found"#),
        ("GET /apis/ex.io/v1beta1/namespaces/default/foos/f/scale", "", "", 404, r#"foos.ex.io "f" not found"#),
        ("GET /apis/ex.io/v1/bars", "", "", 404, "404 page not found\n"),
        ("GET /apis/ex.io/v2/foos", "", "", 404, "404 page not found\n"),
        ("DELETE /apis/ex.io/v1/foos", "", "", 404, "404 page not found\n"),
        ("OPTIONS FOOS", "", "", 405, r#" is not supported on resources of kind "foos.ex.io""#),
        ("POST FOOS/f/status", "", "{}", 405, r#"create is not supported on resources of kind "foos.ex.io""#),
        ("PUT FOOS", "", "{}", 400, "name must be provided"),
        ("GET /apis/ex.io", "", "", 200, r#""preferredVersion":{"groupVersion":"ex.io/v1","version":"v1"}"#),
        ("GET /apis/ex.io/v1", "", "", 200, r#""name":"foos/scale""#),
    ];
    for (request, media, body, code, part) in rows {
        let (method, target) = request.split_once(' ').unwrap();
        let media = if media.is_empty() { "application/json" } else { media };
        let headers = [("Content-Type", media)];
        let reply = demo.ask(method, &target.replace("FOOS", FOOS), &headers, body).await;
        let text = reply.json()["message"].as_str().map_or_else(|| reply.text().into_owned(), str::to_owned);
        assert!(reply.code == code && text.contains(part), "{request} {body}: have {} {text}", reply.code);
    }
    let old = demo.ask("GET", "/apis/ex.io/v1beta1/foos", &[], "").await;
    assert_eq!(old.header("warning"), Some(r#"299 - "ex.io/v1beta1 Foo is deprecated""#));
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let groups = demo.ask("GET", "/apis", &[("Accept", accept)], "").await.json();
    let found =
        groups["items"].as_array().unwrap().iter().find(|g| g["metadata"]["name"] == "ex.io").unwrap();
    assert_eq!(found["versions"][0]["resources"][0]["responseKind"]["group"], "ex.io");
    assert_eq!(found["versions"][1]["version"], "v1beta1");
    demo.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openapi_follows_definitions() {
    let demo = Demo::start("crd-openapi").await;
    let index = || async { demo.ask("GET", "/openapi/v3", &[], "").await.json()["paths"].clone() };
    assert!(index().await.get("apis/ex.io/v1").is_none());
    assert_eq!(post(&demo, DEFINITIONS, FOO).await.0, 201);
    let first = index().await;
    let url = first["apis/ex.io/v1"]["serverRelativeURL"].as_str().unwrap();
    let document = demo.ask("GET", url, &[], "").await.json();
    let paths = &document["paths"];
    let create = &paths["/apis/ex.io/v1/namespaces/{namespace}/foos"]["post"];
    assert_eq!(create["x-kubernetes-action"], "post");
    assert_eq!(create["x-kubernetes-group-version-kind"]["kind"], "Foo");
    let media = |operation: &Value| {
        let content = operation["requestBody"]["content"].as_object().cloned().unwrap_or_default();
        content.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(media(create), ["application/json", "application/yaml"]);
    let one = &paths["/apis/ex.io/v1/namespaces/{namespace}/foos/{name}"];
    assert!(!media(&one["patch"]).iter().any(|m| m.contains("strategic")));
    let schema = &document["components"]["schemas"]["io.ex.v1.Foo"];
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "Foo");
    assert_eq!(schema["properties"]["spec"]["properties"]["port"]["anyOf"][1]["type"], "string");
    let core = demo.ask("GET", "/openapi/v3/api/v1", &[], "").await.json();
    assert_eq!(media(&core["paths"]["/api/v1/namespaces/{namespace}/configmaps"]["post"]), ["*/*"]);
    let changed = r#"{"spec":{"names":{"categories":["more"]},"versions":null}}"#;
    let path = format!("{DEFINITIONS}/foos.ex.io");
    let merge = [("Content-Type", "application/merge-patch+json")];
    assert_eq!(demo.ask("PATCH", &path, &merge, changed).await.code, 422);
    let ops = r#"[{"op":"replace","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/color/enum/0","value":"blue"}]"#;
    let reply = demo.ask("PATCH", &path, &[("Content-Type", "application/json-patch+json")], ops).await;
    assert_eq!(reply.code, 200, "{}", reply.text());
    let second = index().await;
    assert_ne!(first["apis/ex.io/v1"], second["apis/ex.io/v1"]);
    assert_eq!(first["api/v1"], second["api/v1"]);
    assert_eq!(demo.ask("DELETE", &path, &[], "").await.code, 200);
    assert!(index().await.get("apis/ex.io/v1").is_none());
    assert_eq!(demo.ask("GET", "/apis/ex.io", &[], "").await.code, 404);
    demo.end().await;
}

const BACKUP: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: backups.demo.example}
spec:
  group: demo.example
  scope: Namespaced
  names: {plural: backups, kind: Backup, shortNames: [bk]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns: [{name: Schedule, type: string, jsonPath: .spec.schedule}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [schedule]
            properties:
              schedule: {type: string, description: When it runs.}
              keep: {type: integer, minimum: 1, default: 7}
";
const NIGHTLY: &str =
    "{apiVersion: demo.example/v1, kind: Backup, metadata: {name: nightly}, spec: {schedule: daily}}";

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_takes_custom_resources() {
    for kubectl in kubectls() {
        let demo = Demo::start("crd-kubectl").await;
        let file = |name: &str, text: &str| demo.write(name, text).display().to_string();
        let crd = file("crd.yaml", BACKUP);
        let good = file("good.yaml", NIGHTLY);
        let typo = file("typo.yaml", &NIGHTLY.replace("schedule:", "shedule:"));
        let bad = file("bad.yaml", &BACKUP.replace("backups.demo", "other.demo"));
        let at = |line: &str| {
            line.replace("CRD", &crd).replace("GOOD", &good).replace("TYPO", &typo).replace("BAD", &bad)
        };
        #[rustfmt::skip]
        let rows: Vec<(&str, String, bool, &str)> = [
            ("admin", "apply -f BAD", false, r#"metadata.name: Invalid value: "other.demo.example": must be spec.names.plural+"."+spec.group"#),
            ("developer", "apply -f CRD", false, "forbidden"),
            ("admin", "apply -f CRD", true, "created"),
            ("admin", "wait --for=condition=Established crd/backups.demo.example --timeout=5s", true, "condition met"),
            ("admin", "apply -f GOOD", true, "backup.demo.example/nightly created"),
            ("admin", "apply -f GOOD", true, "unchanged"),
            ("admin", "get bk", true, "daily"),
            ("admin", "get bk nightly -o jsonpath={.spec.keep}", true, "7"),
            ("admin", "apply -f TYPO", false, r#"strict decoding error: unknown field "spec.shedule""#),
            ("admin", "patch bk nightly --type=merge -p {\"spec\":{\"keep\":0}}", false, "spec.keep: Invalid value: 0: spec.keep in body should be greater than or equal to 1"),
            ("admin", "apply --server-side -f GOOD", true, "serverside-applied"),
            ("admin", "explain backup.spec", true, "When it runs."),
            ("admin", "api-resources --api-group=demo.example", true, "backups"),
            ("admin", "delete crd backups.demo.example", true, "deleted"),
            ("admin", "get --raw /apis/demo.example/v1/backups", false, "could not find the requested resource"),
        ].into_iter().map(|(user, line, ok, text)| (user, at(line), ok, text)).collect();
        // Up to 1.28 it reads OpenAPI v2 as protobuf, and checks no fields.
        let old = minor(&kubectl) <= 28;
        let fits = |line: &str| !(old && (line.starts_with("explain") || line.contains("typo.yaml")));
        let rows: Vec<_> =
            rows.iter().map(|(u, l, ok, t)| (*u, l.as_str(), *ok, *t)).filter(|(_, l, ..)| fits(l)).collect();
        demo.rows(&kubectl, &rows).await;
        demo.end().await;
    }
}
