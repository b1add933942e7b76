//! The demo's API server judges requests as kube-apiserver does: routes, media types, options, selectors, bodies, patches.
//! What is expected was observed on kube-apiserver 1.36.

use super::demo_api::Demo;

const CM: &str = "/api/v1/namespaces/default/configmaps";
const ONE: &str = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"b"}}"#;

/// `method target, content type, accept, body -> code, part of the body`
type Row = (&'static str, &'static str, &'static str, &'static str, u16, &'static str);

async fn judge(demo: &Demo, rows: &[Row]) {
    for (request, media, accept, body, code, part) in rows {
        let (method, target) = request.split_once(' ').unwrap();
        let target = target.replace("CM", CM);
        let mut headers = vec![("Accept", *accept)];
        if !media.is_empty() {
            headers.push(("Content-Type", media));
        }
        headers.retain(|(_, value)| !value.is_empty());
        let reply = demo.ask(method, &target, &headers, &body.replace("ONE", ONE)).await;
        let text = reply.json()["message"].as_str().map_or_else(|| reply.text().into_owned(), str::to_owned);
        assert!(
            reply.code == *code && text.contains(part),
            "{request} {media} {accept} {body}: expected {code} {part}, have {} {text}",
            reply.code
        );
    }
}

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const OPS: &str = "application/json-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const NO_ROUTE: &str = "the server could not find the requested resource";
const NO_METHOD: &str = "the server does not allow this method on the requested resource";
const UNKNOWN_FORMAT: &str = "the body of the request was in an unknown format - accepted media types include: application/json, \
                              application/yaml, application/vnd.kubernetes.protobuf";
const NO_VALUE: &str = "looking for beginning of object key string ({bad)";

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_judged_as_by_kube_apiserver() {
    let demo = Demo::start("strict").await;
    #[rustfmt::skip]
    judge(&demo, &[
        ("POST CM", JSON, "", ONE, 201, "\"name\":\"x\""),
        // routes
        ("GET /foo", "", "", "", 404, "404 page not found\n"),
        ("GET /apis/unknown.group/v1/x", "", "", "", 404, "404 page not found\n"),
        ("GET /api/v1/foo", "", "", "", 404, NO_ROUTE),
        ("GET /apis/apps/v9/x", "", "", "", 404, NO_ROUTE),
        ("GET /api/v1/pods/p", "", "", "", 404, NO_ROUTE),
        ("GET /api/v1/namespaces/default/pods/y/z/w", "", "", "", 404, NO_ROUTE),
        ("POST CM/x", JSON, "", ONE, 405, NO_METHOD),
        ("PUT CM", JSON, "", ONE, 405, NO_METHOD),
        ("DELETE /api/v1/configmaps", "", "", "", 405, NO_METHOD),
        ("DELETE /api/v1/namespaces", "", "", "", 405, NO_METHOD),
        ("OPTIONS CM", "", "", "", 405, NO_METHOD),
        ("GET /api/v1/", "", "", "", 200, "APIResourceList"),
        // media types
        ("POST CM", "text/plain", "", ONE, 415, UNKNOWN_FORMAT),
        ("POST CM", ";", "", ONE, 415, UNKNOWN_FORMAT),
        ("POST CM?dryRun=All", "APPLICATION/JSON; charset=utf-8", "", r#"{"metadata":{"name":"y"}}"#, 201, ""),
        ("PATCH CM/x", JSON, "", "{}", 415, "415: Unsupported Media Type"),
        ("PATCH CM/x", "Application/Merge-Patch+Json", "", "{}", 415, "415: Unsupported Media Type"),
        ("PATCH CM/x?dryRun=All", "application/merge-patch+json; charset=utf-8", "", "{}", 200, ""),
        ("GET CM/x", "", "text/html", "", 406, "406: Not Acceptable\n\nAvailable representations: application/json"),
        ("GET CM", "", "application/*", "", 406, "application/vnd.kubernetes.protobuf;stream=watch"),
        ("GET CM/x", "", "application/json;as=Foo;g=x;v=v1", "", 406, "only the following media types are accepted"),
        ("GET CM/x", "", "application/json;as=Foo;g=x;v=v1, application/json", "", 200, ""),
        ("GET CM/x", "", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", "", 406, "not a list (*core.ConfigMap)"),
        ("GET CM/x", "", "application/yaml", "", 200, "\nkind: ConfigMap\n"),
        ("GET CM/none", "", "application/yaml", "", 404, "\nreason: NotFound\n"),
        ("GET CM?watch=1", "", "application/yaml", "", 406, "application/json;stream=watch"),
        // options
        ("POST CM?dryRun=All&dryRun=x", JSON, "", ONE, 422, r#"CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["All","x"]: supported values: "All""#),
        ("PUT CM/x?dryRun=bad", JSON, "", "{bad", 422, "UpdateOptions.meta.k8s.io"),
        ("PATCH CM/x?force=true", MERGE, "", "{}", 422, "force: Forbidden: may not be specified for non-apply patch"),
        ("PATCH CM/x", APPLY, "", ONE, 422, "fieldManager: Required value: is required for apply patch"),
        ("POST CM?fieldValidation=strict", JSON, "", ONE, 422, r#"fieldValidation: Unsupported value: "strict": supported values: "", "Ignore", "Strict", "Warn""#),
        ("GET CM?timeout=1", "", "", "", 400, r#"invalid timeout specified in the request URL - time: missing unit in duration "1""#),
        ("GET CM?limit=abc", "", "", "", 400, r#"strconv.ParseInt: parsing "abc": invalid syntax"#),
        ("GET CM?watch=&limit=abc", "", "", "", 400, r#"strconv.ParseInt: parsing "abc": invalid syntax"#),
        ("GET CM?resourceVersion=abc", "", "", "", 400, "invalid resource version: resourceVersion: Invalid value"),
        ("GET CM?watch=1&resourceVersion=abc", "", "", "", 500, "strconv.ParseUint: parsing"),
        ("GET CM/x?resourceVersion=abc", "", "", "", 500, "strconv.ParseUint: parsing"),
        ("GET CM?resourceVersionMatch=Exact", "", "", "", 422, "resourceVersionMatch is forbidden unless resourceVersion is provided"),
        ("GET CM?sendInitialEvents=true", "", "", "", 422, "sendInitialEvents is forbidden for list"),
        ("GET CM?continue=abc", "", "", "", 400, "invalid continue token: continue key is not valid: invalid character 'i' looking"),
        ("GET CM/x?export=true", "", "", "", 400, "the export parameter, deprecated since v1.14"),
        ("DELETE CM/x?propagationPolicy=x", "", "", "", 422, r#"supported values: "Foreground", "Background", "Orphan", "nil""#),
        ("DELETE CM/x", JSON, "", r#"{"kind":"Pod","apiVersion":"v1"}"#, 400, r#"no kind "Pod" is registered for version "v1""#),
        ("DELETE CM/x", JSON, "", r#"{"preconditions":{"uid":"z"}}"#, 409, r#"on ConfigMap "x": the UID in the precondition (z)"#),
        // selectors
        ("GET CM?labelSelector=a%20b", "", "", "", 400, "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("GET CM?labelSelector=a%3Db,", "", "", "", 400, "found '', expected: identifier after ','"),
        ("GET CM?fieldSelector=x", "", "", "", 400, "invalid selector: 'x'; can't understand 'x'"),
        ("GET CM?fieldSelector=x%3Dy", "", "", "", 400, r#""x" is not a known field selector: only "metadata.name", "metadata.namespace""#),
        ("GET /api/v1/pods?fieldSelector=x%3Dy", "", "", "", 400, "field label not supported: x"),
        ("GET /apis/batch/v1/jobs?fieldSelector=x%3Dy", "", "", "", 400, r#"field label "x" not supported for Job"#),
        // bodies
        ("POST CM", JSON, "", "{bad", 400, NO_VALUE),
        ("POST CM", JSON, "", "[1]", 400, "json: cannot unmarshal array into Go value of type struct { APIVersion string"),
        ("POST CM", JSON, "", r#"{"apiVersion":"v1","kind":"Foo"}"#, 400, r#"Foo in version "v1" cannot be handled as a ConfigMap: no kind "Foo" is registered"#),
        ("POST CM", JSON, "", r#"{"apiVersion":"v1","kind":"Secret"}"#, 400, "converting (v1.Secret) to (core.ConfigMap): unknown conversion"),
        ("POST CM", JSON, "", r#"{"apiVersion":"a/b/c","kind":"ConfigMap"}"#, 400, "unexpected GroupVersion string: a/b/c"),
        ("POST CM", JSON, "", r#"{"metadata":{"name":"y","namespace":"z"}}"#, 400, "the namespace of the provided object does not match the namespace sent on the request"),
        ("POST CM", JSON, "", r#"{"metadata":{"name":"y"},"data":{"a":1}}"#, 400, "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"),
        ("POST CM?fieldValidation=Strict", JSON, "", r#"{"metadata":{"name":"y","name":"y"},"bogus":1}"#, 400, r#"strict decoding error: duplicate field "metadata.name", unknown field "bogus""#),
        ("POST CM?fieldValidation=Strict", "application/yaml", "", "metadata: {name: z}\nbogus: 1\nbogus: 2\n", 400, "strict decoding error: yaml: unmarshal errors:\n  line 3: key \"bogus\" already set in map, unknown field \"bogus\""),
        ("PUT CM/x", JSON, "", r#"{"metadata":{"name":"q"}}"#, 400, "the name of the object (q) does not match the name on the URL (x)"),
        ("PUT CM/x", JSON, "", "{}", 400, "the name of the object (x based on URL) was undeterminable: name must be provided"),
        // patches
        ("PATCH CM/x", MERGE, "", "[]", 400, "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"),
        ("PATCH CM/x", OPS, "", r#"[{"op":"test","path":"/data/a","value":"z"}]"#, 422, "the server rejected our request due to an error in our request"),
        ("PATCH CM/x", STRATEGIC, "", r#"{"$patch":"bogus"}"#, 500, "unknown patch type: bogus in map: map[$patch:bogus]"),
        ("PATCH CM/x?fieldValidation=Strict", STRATEGIC, "", r#"{"bogus":1}"#, 422, r#"patch: Invalid value: "map[bogus:1]": strict decoding error: unknown field "bogus""#),
        ("PATCH CM/x?fieldManager=m", APPLY, "", r#"{"apiVersion":"v1","kind":"Secret"}"#, 400, "invalid object type: /v1, Kind=Secret"),
        ("PATCH CM/x?fieldManager=m", APPLY, "", r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"bogus":1}"#, 500, ".bogus: field not declared in schema"),
        ("PATCH CM/none", MERGE, "", "{bad", 404, r#"configmaps "none" not found"#),
    ]).await;
    let many = format!("[{}]", vec![r#"{"op":"test","path":"/data/a","value":"b"}"#; 10_001].join(","));
    let reply = demo.ask("PATCH", &format!("{CM}/x"), &[("Content-Type", OPS)], &many).await;
    assert_eq!((reply.code, reply.json()["reason"].as_str()), (413, Some("RequestEntityTooLarge")));
    let warned = r#"{"metadata":{"name":"w","name":"w"},"bogus":1}"#;
    let reply = demo.ask("POST", CM, &[], warned).await;
    let mut warnings = reply.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("warning"));
    assert_eq!(warnings.next().unwrap().1, r#"299 - "duplicate field \"metadata.name\"""#);
    assert_eq!(warnings.next().unwrap().1, r#"299 - "unknown field \"bogus\"""#);
    assert!(reply.code == 201 && reply.json().get("bogus").is_none());
    // A body hides the query: this is no dry run.
    let reply = demo.ask("DELETE", &format!("{CM}/w?dryRun=All"), &[("Content-Type", JSON)], "{}").await;
    assert_eq!(reply.code, 200);
    assert_eq!(demo.ask("GET", &format!("{CM}/w"), &[], "").await.code, 404);
    demo.end().await;
}
