use super::*;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use serde_json::{Value, json};

const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl";

fn redactor() -> Redactor {
    Redactor::new(Key::new(b"k"), Builtins::NONE, Vec::new()).unwrap()
}

fn about<'a>(verb: &'a str, resource: &'a str, part: Part) -> About<'a> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    About { resource, subresource, verb, namespace: "x", name: "db", part, ..About::default() }
}

/// `«v»` is the mark of `v`.
fn marked(text: &str) -> String {
    let key = Key::new(b"k");
    let mut pieces = text.split(['«', '»']);
    let mut out = pieces.next().unwrap().to_owned();
    while let (Some(value), Some(after)) = (pieces.next(), pieces.next()) {
        out.push_str(&key.mark(value.as_bytes()));
        out.push_str(after);
    }
    out
}

/// Rows of a body and what becomes of it; `=`: nothing.
fn check(about: &About<'_>, rows: &[(&str, &str)]) {
    let redactor = redactor();
    for (body, want) in rows {
        let got = redactor.body(about, body).unwrap();
        let want = if *want == "=" { (*body).to_owned() } else { marked(want) };
        assert_eq!(got.text, want, "{about:?}\n{body}");
        assert_eq!(got.marks == 0, matches!(got.text, Cow::Borrowed(_)));
        assert_eq!(got.rules.is_empty(), got.marks == 0);
        let again = redactor.body(about, &got.text).unwrap();
        assert_eq!(again.text, got.text, "once more: {body}");
    }
}

/// Like [`check`], where values are marked by something else than their text.
fn rules_of(about: &About<'_>, body: &str) -> (Value, Vec<String>) {
    let redactor = redactor();
    let got = redactor.body(about, body).unwrap();
    (serde_json::from_str(&got.text).unwrap(), got.rules.iter().map(|r| (*r).to_owned()).collect())
}

#[test]
fn secrets_as_they_should_be() {
    check(
        &about("create", "secrets", Part::Request),
        &[
            (
                r#"{ "kind":"Secret", "type":"Opaque", "immutable":true, "data":{ "a" : "aHVudGVyMg==" }, "stringData":{"b":"hunter2"}}"#,
                r#"{ "kind":"Secret", "type":"Opaque", "immutable":true, "data":{ "a" : "«hunter2»" }, "stringData":{"b":"«hunter2»"}}"#,
            ),
            (r#"{"data":{"a":"no base64"}}"#, r#"{"data":{"a":"«no base64»"}}"#),
            (r#"{"data":null,"stringData":{}}"#, "="),
            (r#"{"data":{"a":"","b":null}}"#, "="),
            (
                r#"{"metadata":{"name":"db","namespace":"x","labels":{"app":"web"},"annotations":{"note":"plain"}}}"#,
                "=",
            ),
            (r#"{"\u0064ata":{"\u0061":"\u0068unter2"}}"#, r#"{"\u0064ata":{"\u0061":"«hunter2»"}}"#),
        ],
    );
}

#[test]
fn secrets_as_they_should_not_be() {
    let redactor = redactor();
    let about = about("create", "secrets", Part::Request);
    for body in [
        r#"{"Data":{"a":"hunter2"}}"#,
        r#"{"DATA":{"a":"hunter2"},"stringdata":{"a":"hunter2"}}"#,
        r#"{"\u017ftringData":{"a":"hunter2"}}"#,
        r#"{"dta":{"a":"hunter2"}}"#,
        r#"{"a":"hunter2"}"#,
        r#"{"1":"hunter2"}"#,
        r#"{"data":"hunter2"}"#,
        r#"{"data":["hunter2"]}"#,
        r#"{"data":{"a":["hunter2"]}}"#,
        r#"{"data":{"a":{"b":{"c":"hunter2"}}}}"#,
        r#"{"data":{"a":"x"},"data":{"b":"hunter2"}}"#,
        r#"{"data":{"a":"hunter2","a":"x"}}"#,
        r#"{"stringData":{"$patch":"hunter2x"}}"#,
        r#"{"kind":"Status","message":"hunter2"}"#,
        r#"{"kind":"DeleteOptions","dryRun":["hunter2"]}"#,
        r#"{"kind":"ConfigMap","binaryData":{"a":"hunter2"}}"#,
        r#"{"kind":["hunter2"]}"#,
        r#"{"kind":{"a":"hunter2"},"type":["hunter2"]}"#,
        r#"{"immutable":"hunter2"}"#,
        r#"{"kind":"Table","columnDefinitions":[{"name":"Name"}],"rows":[{"cells":["hunter2"]}]}"#,
        r#"{"kind":"Table","columnDefinitions":"hunter2"}"#,
        r#"{"metadata":{"ownerReferences":[{"data":"hunter2"}],"finalizers":[{"a":"hunter2"}]}}"#,
        r#"{"metadata":{"annotations":{"a":"{\"data\":{\"a\":\"hunter2\"}} trailing"}}}"#,
        r#"{"metadata":{"annotations":{"a":" \ufeff{\"data\":{\"a\":\"hunter2\"}}"}}}"#,
        r#"{"metadata":{"annotations":{"a":"data:\n  a: hunter2\n"}}}"#,
        r#"{"metadata":{"annotations":{"a":"[hunter2"}}}"#,
        r#"[{"op":"add","path":"/metadata/annotations/a/b","value":"hunter2"}]"#,
        r#"[{"op":"add","path":"/metadata/managedFields/0/fieldsV1","value":{"f:data":{"v:hunter2":{}}}}]"#,
        r#"[{"op":"add","path":"/rows/0/cells/0","value":"hunter2"}]"#,
        r#"[{"op":"add","path":"/items/0/data/x","value":"hunter2"}]"#,
        r#"{"type":"ADDED","object":{"data":{"a":"hunter2"}}}"#,
        r#"{"kind":"Status","kind":"Secret","message":"hunter2"}"#,
        r#"{"metadata":"hunter2"}"#,
        r#"{"metadata":{"data":{"a":"hunter2"}}}"#,
        r#"{"metadata":{"annotations":"hunter2"}}"#,
        r#"{"metadata":{"annotations":{"a":["hunter2"]}}}"#,
        r#"{"items":{"data":"hunter2"}}"#,
        r#"{"items":["hunter2"]}"#,
        r#"{"items":[{"items":[{"x":"hunter2"}]}]}"#,
        r#"["hunter2"]"#,
        r#"[["hunter2"]]"#,
        r#"[{"hunter":"hunter2"}]"#,
        r#""hunter2""#,
    ] {
        let got = redactor.body(&about, body).unwrap();
        assert!(!got.text.contains("hunter2"), "{body}\n{}", got.text);
        assert!(serde_json::from_str::<Value>(&got.text).is_ok(), "{}", got.text);
    }
    let (body, _) = rules_of(&about, r#"{"data":{"a":12345}}"#);
    assert!(is_mark(body["data"]["a"].as_str().unwrap()));
}

#[test]
fn values_that_were_copied_beside_the_data() {
    check(
        &about("patch", "secrets", Part::Response),
        &[
            (
                r#"{"data":{"a":"aHVudGVyMg==","b":"dHJ1ZQ=="},"metadata":{"annotations":{"c":"aHVudGVyMg==","d":"hunter2","e":"true"},"labels":{"f":"hunter2"}}}"#,
                r#"{"data":{"a":"«hunter2»","b":"«true»"},"metadata":{"annotations":{"c":"«hunter2»","d":"«hunter2»","e":"true"},"labels":{"f":"«hunter2»"}}}"#,
            ),
            (
                r#"{"metadata":{"annotations":{"d":"hunter2"}},"items":[{"data":{"a":"aHVudGVyMg=="}}]}"#,
                r#"{"metadata":{"annotations":{"d":"hunter2"}},"items":[{"data":{"a":"«hunter2»"}}]}"#,
            ),
        ],
    );
}

#[test]
fn secrets_under_other_names() {
    check(
        &about("create", "configmaps", Part::Request),
        &[
            (
                r#"{"kind":"Secret","data":{"a":"aHVudGVyMg=="}}"#,
                r#"{"kind":"Secret","data":{"a":"«hunter2»"}}"#,
            ),
            (r#"{"stringData":{"a":"x"},"kind":"secret"}"#, r#"{"stringData":{"a":"«x»"},"kind":"secret"}"#),
            (r#"{"kind":"ConfigMap","data":{"a":"b","kind":"Secret"}}"#, "="),
            (
                r#"{"data":{"a":"eA=="},"kind":"ConfigMap","stringData":{"a":"x"}}"#,
                r#"{"data":{"a":"«x»"},"kind":"ConfigMap","stringData":{"a":"«x»"}}"#,
            ),
            (
                r#"{"kind":"Pod","kind":"Secret","data":{"a":"eA=="}}"#,
                r#"{"kind":"Pod","kind":"Secret","data":{"a":"«x»"}}"#,
            ),
            (
                r#"{"kind":"ManifestWork","spec":{"manifests":[{"kind":"Secret","metadata":{"name":"a"},"data":{"a":"eA=="}},{"kind":"Pod"}]}}"#,
                r#"{"kind":"ManifestWork","spec":{"manifests":[{"kind":"Secret","metadata":{"name":"a"},"data":{"a":"«x»"}},{"kind":"Pod"}]}}"#,
            ),
            (
                r#"{"spec":{"list":{"kind":"SecretList","items":[{"data":{"a":"eA=="}}]}}}"#,
                r#"{"spec":{"list":{"kind":"SecretList","items":[{"data":{"a":"«x»"}}]}}}"#,
            ),
            // References.
            (r#"{"kind":"Issuer","spec":{"ref":{"kind":"Secret","name":"x","key":"tls.key"}}}"#, "="),
            (
                r#"{"kind":"Event","involvedObject":{"kind":"Secret","namespace":"a","name":"b","uid":"c"}}"#,
                "=",
            ),
            (
                r#"{"kind":"APIResourceList","resources":[{"name":"secrets","kind":"Secret","verbs":["get"]}]}"#,
                "=",
            ),
        ],
    );
}

#[test]
fn lists_and_watch_events() {
    let rows = [
        (
            r#"{"kind":"SecretList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"a"},"data":{"a":"eA=="},"type":"Opaque"}]}"#,
            r#"{"kind":"SecretList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"a"},"data":{"a":"«x»"},"type":"Opaque"}]}"#,
        ),
        (
            r#"{"kind":"List","items":[{"kind":"ConfigMap","data":{"a":"b"}},{"kind":"Secret","data":{"a":"eA=="}},{"kind":"List","items":[{"kind":"Secret","data":{"a":"eA=="}}]}]}"#,
            r#"{"kind":"List","items":[{"kind":"ConfigMap","data":{"a":"b"}},{"kind":"Secret","data":{"a":"«x»"}},{"kind":"List","items":[{"kind":"Secret","data":{"a":"«x»"}}]}]}"#,
        ),
        (
            r#"{"type":"ADDED","object":{"kind":"Secret","data":{"a":"eA=="}}}"#,
            r#"{"type":"ADDED","object":{"kind":"Secret","data":{"a":"«x»"}}}"#,
        ),
    ];
    check(&about("list", "widgets", Part::Response), &rows);
    check(&about("list", "secrets", Part::Response), &[rows[0], rows[2]]);
    check(
        &about("watch", "secrets", Part::Response),
        &[(r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7"}}}"#, "=")],
    );
}

#[test]
fn applied_configurations() {
    let applied = |object: &str| {
        json!({"kind": "Secret", "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": object}}})
            .to_string()
    };
    let on_secret = about("patch", "secrets", Part::Request);
    let on_pod = about("get", "pods", Part::Response);
    let rows = [
        (r#"{"kind":"Secret","data":{"a":"eA=="}}"#, r#"{"kind":"Secret","data":{"a":"«x»"}}"#),
        (r#"{"data":{"a":"eA=="}}"#, r#"{"data":{"a":"«x»"}}"#),
        (
            "{\"kind\":\"List\",\"items\":[{\"stringData\":{\"a\":\"x\"}}]}\n",
            "{\"kind\":\"List\",\"items\":[{\"stringData\":{\"a\":\"«x»\"}}]}\n",
        ),
        ("kind: Secret\ndata: {}", "«kind: Secret\ndata: {}»"),
        ("hunter2", "«hunter2»"),
        (r#"{"data":{"a":"e"#, r#"«{"data":{"a":"e»"#),
    ];
    for (object, want) in rows {
        check(&on_secret, &[(&applied(object), &applied(&marked(want)))]);
    }
    let rows = [
        (r#"{"kind":"Secret","data":{"a":"eA=="}}"#, r#"{"kind":"Secret","data":{"a":"«x»"}}"#),
        (
            r#"{"items":[{"kind":"Pod"},{"kind":"Secret","stringData":{"a":"x"}}]}"#,
            r#"{"items":[{"kind":"Pod"},{"kind":"Secret","stringData":{"a":"«x»"}}]}"#,
        ),
        (r#"{"kind":"Pod","spec":{}}"#, r#"{"kind":"Pod","spec":{}}"#),
        (
            "apiVersion: v1\nkind: Secret\ndata:\n  a: eA==\n",
            "«apiVersion: v1\nkind: Secret\ndata:\n  a: eA==\n»",
        ),
    ];
    for (text, want) in rows {
        let body =
            |text: &str| json!({"kind": "Pod", "metadata": {"annotations": {"any": text}}}).to_string();
        check(&on_pod, &[(&body(text), &body(&marked(want)))]);
    }
}

#[test]
fn texts_in_texts() {
    let about = about("create", "configmaps", Part::Request);
    let redactor = redactor();
    let wrap = |text: &str, times: usize| {
        (0..times)
            .fold(text.to_owned(), |inner, _| json!({"kind": "ConfigMap", "data": {"a": inner}}).to_string())
    };
    for times in 1..12 {
        let body = wrap(r#"{"kind":"Secret","stringData":{"a":"hunter2"}}"#, times);
        let got = redactor.body(&about, &body).unwrap();
        assert!(!got.text.contains("hunter2"), "{times}");
        if times <= MOST_NESTED {
            let want = wrap(&marked(r#"{"kind":"Secret","stringData":{"a":"«hunter2»"}}"#), times);
            assert_eq!(got.text, want);
        }
        let plain = wrap("[1, 2]", times.min(MOST_NESTED));
        assert_eq!(redactor.body(&about, &plain).unwrap().text, plain);
    }
    let deeper = wrap("[1, 2]", MOST_NESTED + 1);
    let got = redactor.body(&about, &deeper).unwrap();
    assert_eq!((got.marks, got.rules), (1, vec!["secret-data"]), "deeper ones go as a whole");
}

#[test]
fn managed_fields() {
    check(
        &about("get", "secrets", Part::Response),
        &[
            (
                r#"{"metadata":{"managedFields":[{"manager":"kubectl","operation":"Update","apiVersion":"v1","time":"2026-01-02T03:04:05Z","fieldsType":"FieldsV1","fieldsV1":{"f:data":{".":{},"f:password":{}},"f:metadata":{"f:finalizers":{"v:\"a/b\"":{}},"f:ownerReferences":{"k:{\"uid\":\"1\"}":{}}},"f:type":{}}}]}}"#,
                "=",
            ),
            (
                r#"{"metadata":{"managedFields":[{"fieldsV1":{"f:data":{"v:x":{},"k:x":{},"x":{}}}}]}}"#,
                r#"{"metadata":{"managedFields":[{"fieldsV1":{"f:data":{"v:«x»":{},"k:«x»":{},"«x»":{}}}}]}}"#,
            ),
            (
                r#"{"metadata":{"managedFields":[{"fieldsV1":{"f:data":{"f:a":"x"}},"more":"x"},"x"]}}"#,
                r#"{"metadata":{"managedFields":[{"fieldsV1":{"f:data":{"f:a":"«x»"}},"more":"«x»"},"«x»"]}}"#,
            ),
            (r#"{"metadata":{"managedFields":"x"}}"#, r#"{"metadata":{"managedFields":"«x»"}}"#),
        ],
    );
}

#[test]
fn merge_patches() {
    check(
        &about("patch", "secrets", Part::Request),
        &[
            (r#"{"data":{"a":"eA==","b":null}}"#, r#"{"data":{"a":"«x»","b":null}}"#),
            (
                r#"{"data":{"$patch":"replace","a":"eA=="},"$retainKeys":["data"],"metadata":{"$setElementOrder/finalizers":["a"],"annotations":null}}"#,
                r#"{"data":{"$patch":"replace","a":"«x»"},"$retainKeys":["data"],"metadata":{"$setElementOrder/finalizers":["a"],"annotations":null}}"#,
            ),
            (r#"{"$patch":"delete"}"#, "="),
            (r#"{"data":{"$patch":"x"}}"#, r#"{"data":{"$patch":"«x»"}}"#),
            (r#"{"$deleteFromPrimitiveList/data":"x"}"#, r#"{"$deleteFromPrimitiveList/data":"«x»"}"#),
        ],
    );
}

#[test]
fn json_patches() {
    check(
        &about("patch", "secrets", Part::Request),
        &[
            (
                r#"[{"op":"replace","path":"/data/a","value":"eA=="},{"op":"test","path":"/stringData/a","value":"x"}]"#,
                r#"[{"op":"replace","path":"/data/a","value":"«x»"},{"op":"test","path":"/stringData/a","value":"«x»"}]"#,
            ),
            (
                r#"[{"op":"add","path":"/data","value":{"a":"eA=="}},{"op":"add","path":"","value":{"kind":"Secret","data":{"a":"eA=="}}}]"#,
                r#"[{"op":"add","path":"/data","value":{"a":"«x»"}},{"op":"add","path":"","value":{"kind":"Secret","data":{"a":"«x»"}}}]"#,
            ),
            (r#"[{"op":"move","from":"/data/a","path":"/data/b"},{"op":"remove","path":"/data/a~1b"}]"#, "="),
            (
                r#"[{"op":"add","path":"/metadata/labels/a","value":"b"},{"op":"add","path":"/immutable","value":true}]"#,
                "=",
            ),
            (
                r#"[{"op":"add","path":"/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration","value":"{\"data\":{\"a\":\"eA==\"}}"}]"#,
                r#"[{"op":"add","path":"/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration","value":"{\"data\":{\"a\":\"«x»\"}}"}]"#,
            ),
            (
                r#"[{"op":"add","path":"/d~0ta","value":"x"}]"#,
                r#"[{"op":"add","path":"/d~0ta","value":"«x»"}]"#,
            ),
            (
                r#"[{"op":"add","path":"/\u0064ata/a","value":"x!"}]"#,
                r#"[{"op":"add","path":"/\u0064ata/a","value":"«x!»"}]"#,
            ),
            (
                r#"[{"op":"add","path":"/type/a","value":"x"}]"#,
                r#"[{"op":"add","path":"/type/a","value":"«x»"}]"#,
            ),
            (r#"[{"op":"add","path":"data","value":"x"}]"#, r#"[{"op":"add","path":"data","value":"«x»"}]"#),
            (r#"[{"op":"add","path":7,"value":"x"}]"#, r#"[{"op":"add","path":7,"value":"«x»"}]"#),
            (r#"[{"op":"add","value":"x"}]"#, r#"[{"op":"add","value":"«x»"}]"#),
            (
                r#"[{"op":"add","path":"/metadata/name","path":"/data/a","value":"x"}]"#,
                r#"[{"op":"add","path":"/metadata/name","path":"/data/a","value":"«x»"}]"#,
            ),
            (
                r#"[{"op":"add","path":"/data/a","Value":"x","more":"x"}]"#,
                r#"[{"op":"add","path":"/data/a","Value":"«x»","more":"«x»"}]"#,
            ),
        ],
    );
    check(
        &about("patch", "pods", Part::Request),
        &[
            (r#"[{"op":"add","path":"/spec/nodeName","value":"a"}]"#, "="),
            (
                r#"[{"op":"add","path":"/stringData/a","value":"x"}]"#,
                r#"[{"op":"add","path":"/stringData/a","value":"«x»"}]"#,
            ),
            (
                r#"[{"op":"add","path":"/spec/password","value":"x"}]"#,
                r#"[{"op":"add","path":"/spec/password","value":"«x»"}]"#,
            ),
            (
                r#"[{"op":"add","path":"/items/-","value":{"kind":"Secret","data":{"a":"eA=="}}}]"#,
                r#"[{"op":"add","path":"/items/-","value":{"kind":"Secret","data":{"a":"«x»"}}}]"#,
            ),
        ],
    );
}

#[test]
fn delete_options() {
    check(
        &about("delete", "secrets", Part::Request),
        &[
            (
                r#"{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background","gracePeriodSeconds":0,"preconditions":{"uid":"a"},"dryRun":["All"]}"#,
                "=",
            ),
            (r#"{"kind":"DeleteOptions","data":"x"}"#, r#"{"kind":"DeleteOptions","data":"«x»"}"#),
        ],
    );
}

#[test]
fn tables() {
    let columns = r#""columnDefinitions":[{"name":"Name"},{"name":"Type"},{"name":"Data"},{"name":"Age"},{"name":"Value"}]"#;
    let table =
        |rows: &str| format!(r#"{{"kind":"Table","apiVersion":"meta.k8s.io/v1",{columns},"rows":[{rows}]}}"#);
    let rows = [
        (
            table(
                r#"{"cells":["db","Opaque",2,"3d"],"object":{"kind":"PartialObjectMetadata","metadata":{"name":"db"}}}"#,
            ),
            "=".to_owned(),
        ),
        (
            table(r#"{"cells":["db","Opaque","x","3d","x"]}"#),
            table(r#"{"cells":["db","Opaque","«x»","3d","«x»"]}"#),
        ),
        (
            table(r#"{"cells":["db"],"object":{"kind":"Secret","data":{"a":"eA=="}}}"#),
            table(r#"{"cells":["db"],"object":{"kind":"Secret","data":{"a":"«x»"}}}"#),
        ),
        (
            r#"{"kind":"Table","rows":[{"cells":["x","db"],"object":{"metadata":{"name":"db"}}}]}"#.into(),
            r#"{"kind":"Table","rows":[{"cells":["«x»","db"],"object":{"metadata":{"name":"db"}}}]}"#.into(),
        ),
        (
            r#"{"kind":"Table","rows":[{"cells":"x","more":"x"}]}"#.into(),
            r#"{"kind":"Table","rows":[{"cells":"«x»","more":"«x»"}]}"#.into(),
        ),
    ];
    for (body, want) in &rows {
        check(&about("list", "secrets", Part::Response), &[(body, want)]);
    }
    let mixed = r#"{"kind":"Table","rows":[{"cells":["x","db"],"object":{"kind":"Secret","metadata":{"name":"db"}}},{"cells":["x"]}]}"#;
    check(&about("list", "widgets", Part::Response), &[(mixed, &mixed.replacen("\"x\"", "\"«x»\"", 1))]);
}

#[test]
fn what_a_status_says() {
    let rows = [
        (
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"secrets \"db\" not found","reason":"NotFound","details":{"name":"db","kind":"secrets"},"code":404}"#,
            "=",
        ),
        (
            r#"{"kind":"Status","message":"Secret \"db\" is invalid: data[a]: Invalid value: x","reason":"Invalid","details":{"name":"db","kind":"Secret","causes":[{"reason":"FieldValueInvalid","message":"Invalid value: x","field":"data[a]"}]},"code":422}"#,
            r#"{"kind":"Status","message":"Secret \"db\" is invalid: «data[a]: Invalid value: x»","reason":"Invalid","details":{"name":"db","kind":"Secret","causes":[{"reason":"FieldValueInvalid","message":"«Invalid value: x»","field":"data[a]"}]},"code":422}"#,
        ),
        (
            r#"{"kind":"Status","message":"admission webhook \"a\" denied the request: x","details":{"kind":"secrets"},"code":403}"#,
            r#"{"kind":"Status","message":"«admission webhook "a" denied the request: x»","details":{"kind":"secrets"},"code":403}"#,
        ),
        (
            r#"{"kind":"Status","details":{"kind":"secrets"},"data":"x"}"#,
            r#"{"kind":"Status","details":{"kind":"secrets"},"data":"«x»"}"#,
        ),
    ];
    check(&about("create", "secrets", Part::Response), &rows);
    check(&about("create", "pods", Part::Response), &rows);
    check(
        &about("create", "pods", Part::Response),
        &[(
            r#"{"kind":"Status","message":"Pod \"a\" is invalid: spec.x: Invalid value: \"y\": bad","code":422}"#,
            "=",
        )],
    );
    check(
        &about("create", "tokenreviews", Part::Response),
        &[(r#"{"kind":"Status","message":"x"}"#, r#"{"kind":"Status","message":"«x»"}"#)],
    );
    let redactor = redactor();
    let message = |resource, text: &str| {
        redactor.message(&about("create", resource, Part::Response), text).text.into_owned()
    };
    assert_eq!(message("secrets", "x"), marked("«x»"));
    assert_eq!(message("pods", "x"), "x");
    assert_eq!(message("pods", &format!("bad token {JWT}")), marked(&format!("bad token «{JWT}»")));
}

#[test]
fn tokens() {
    let request = about("create", "serviceaccounts/token", Part::Request);
    let answer = about("create", "serviceaccounts/token", Part::Response);
    check(
        &request,
        &[
            (
                r#"{"kind":"TokenRequest","spec":{"audiences":["a"],"expirationSeconds":600,"boundObjectRef":{"kind":"Pod","name":"a"}}}"#,
                "=",
            ),
            (r#"{"spec":"x","more":"x"}"#, r#"{"spec":"«x»","more":"«x»"}"#),
        ],
    );
    let rows = [(
        r#"{"kind":"TokenRequest","metadata":{"name":"a"},"status":{"token":"x","expirationTimestamp":"2026-01-02T03:04:05Z"}}"#,
        r#"{"kind":"TokenRequest","metadata":{"name":"a"},"status":{"token":"«x»","expirationTimestamp":"2026-01-02T03:04:05Z"}}"#,
    )];
    check(&answer, &rows);
    check(&about("create", "pods", Part::Response), &rows);
    check(
        &about("create", "tokenreviews", Part::Request),
        &[(
            r#"{"kind":"Pod","spec":{"token":"x","audiences":["a"]}}"#,
            r#"{"kind":"Pod","spec":{"token":"«x»","audiences":["a"]}}"#,
        )],
    );
    check(
        &about("create", "tokenreviews", Part::Response),
        &[(
            r#"{"kind":"TokenReview","spec":{"token":"x"},"status":{"authenticated":true,"user":{"username":"me","extra":{"a":["b"]}}}}"#,
            r#"{"kind":"TokenReview","spec":{"token":"«x»"},"status":{"authenticated":true,"user":{"username":"me","extra":{"a":["b"]}}}}"#,
        )],
    );
    check(
        &about("create", "selfsubjectaccessreviews", Part::Response),
        &[(
            r#"{"kind":"SelfSubjectAccessReview","spec":{"resourceAttributes":{"verb":"get","resource":"secrets"}},"status":{"allowed":true,"reason":"rule \"a\""}}"#,
            "=",
        )],
    );
}

#[test]
fn what_is_told_by_name() {
    let annotation = json!({"users": [{"name": "a", "user": {"token": "x"}}], "kind": "Config"}).to_string();
    let (body, rules) = rules_of(
        &about("create", "configmaps", Part::Request),
        &json!({"data": {
            "kubeconfig": annotation,
            "yaml": "kind: Config\nusers:\n- user: {token: abc}",
            ".dockerconfigjson": "{\"auths\":{}}",
            "config.json": "{\"auths\":{\"r.example\":{\"auth\":\"eA==\",\"email\":\"a@b\"}}}",
            "password": "hunter2",
            "client-secret": "hunter2",
            "authorization": "hunter2",
            "passwordFile": "/a",
            "tokens": "b",
        }})
        .to_string(),
    );
    let data = &body["data"];
    assert!(data["kubeconfig"].as_str().unwrap().contains("\"user\":\"gatelog:redacted:"));
    for key in ["yaml", ".dockerconfigjson", "password", "client-secret", "authorization"] {
        assert!(is_mark(data[key].as_str().unwrap()), "{key}");
    }
    assert_eq!(data["password"], data["authorization"]);
    let docker: Value = serde_json::from_str(data["config.json"].as_str().unwrap()).unwrap();
    assert!(is_mark(docker["auths"]["r.example"]["auth"].as_str().unwrap()));
    assert_eq!(docker["auths"]["r.example"]["email"], "a@b");
    assert_eq!((&data["passwordFile"], &data["tokens"]), (&json!("/a"), &json!("b")));
    assert_eq!(rules, ["authorization-header", "docker-config", "kubeconfig", "credential-fields"]);
    check(
        &about("create", "pods", Part::Request),
        &[(
            r#"{"spec":{"containers":[{"env":[{"name":"PASSWORD","value":"x"},{"name":"HOME","value":"y"},{"value":"z","name":"API-TOKEN"}],"livenessProbe":{"httpGet":{"httpHeaders":[{"name":"Authorization","value":"q"}]}}}]}}"#,
            r#"{"spec":{"containers":[{"env":[{"name":"PASSWORD","value":"«x»"},{"name":"HOME","value":"y"},{"value":"«z»","name":"API-TOKEN"}],"livenessProbe":{"httpGet":{"httpHeaders":[{"name":"Authorization","value":"«q»"}]}}}]}}"#,
        )],
    );
    check(
        &about("create", "customresourcedefinitions", Part::Request),
        &[(
            r#"{"properties":{"password":{"type":"string"},"token":{"type":"string"}},"required":["password"]}"#,
            "=",
        )],
    );
}

#[test]
fn what_is_told_by_its_looks() {
    check(
        &about("create", "pods", Part::Request),
        &[
            (
                &format!(
                    r#"{{"spec":{{"args":["--token={JWT}","-H","Authorization: Bearer abc123def","abcdef.0123456789abcdef","https://a:b@c/d"]}}}}"#
                ),
                &format!(
                    r#"{{"spec":{{"args":["--token=«{JWT}»","-H","Authorization: Bearer «abc123def»","«abcdef.0123456789abcdef»","https://a:«b»@c/d"]}}}}"#
                ),
            ),
            (&format!(r#"{{"{JWT}":1}}"#), &format!(r#"{{"«{JWT}»":1}}"#)),
            (&format!(r#"{{"a":"{}"}}"#, STANDARD.encode(JWT)), &format!(r#"{{"a":"«{JWT}»"}}"#)),
            (r#"{"a":"\u0065yJhbGciOiJub25lIn0.eyJzdWIi."}"#, r#"{"a":"«eyJhbGciOiJub25lIn0.eyJzdWIi.»"}"#),
            (
                r#"{"release":"H4sIAAAAAAAAA6tWSkxKVrJSMjI2UaoFAAAA"}"#,
                r#"{"release":"«H4sIAAAAAAAAA6tWSkxKVrJSMjI2UaoFAAAA»"}"#,
            ),
            (
                r#"{"caBundle":"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUI=","request":"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0="}"#,
                "=",
            ),
        ],
    );
    let text = format!("patch by {JWT}");
    assert_eq!(redactor().text(&text).text, marked(&format!("patch by «{JWT}»")));
    assert_eq!(redactor().text("nothing").text, "nothing");
}

#[test]
fn targets() {
    let redactor = redactor();
    for (target, want) in [
        ("/api/v1/namespaces/x/pods/a/exec?command=cat&command=%2Fa", "="),
        ("/apis?access_token=a%20b&x=1", "/apis?access_token=«a b»&x=1"),
        ("/a/proxy/?X-Amz-Signature=a+b&token=", "/a/proxy/?X-Amz-Signature=«a b»&token="),
        ("/a/proxy/?to%6ben=a", "/a/proxy/?to%6ben=«a»"),
        (&format!("/proxy/{JWT}/x?a={JWT}"), &format!("/proxy/«{JWT}»/x?a=«{JWT}»")),
        ("/p?u=http%3A%2F%2Fa%3Ab%40c%2F", "/p?u=http:%2F%2Fa:«b»%40c%2F"),
        ("/p?", "="),
        ("/p?&a&=b&%zz=%", "="),
    ] {
        let about = about("get", "pods/proxy", Part::Request);
        let got = redactor.target(&about, target);
        assert_eq!(got.text, if want == "=" { target.to_owned() } else { marked(want) }, "{target}");
        assert_eq!(redactor.target(&about, &got.text).text, got.text);
    }
}

#[test]
fn added_rules() {
    let list = |items: &[&str]| items.iter().map(|i| (*i).to_owned()).collect::<Vec<_>>();
    let rules = vec![
        Rule {
            name: "env".into(),
            resources: list(&["pods", "deployments"]),
            fields: list(&["**.containers[*].env[*].value"]),
            ..Rule::default()
        },
        Rule {
            name: "maps".into(),
            groups: list(&[""]),
            resources: list(&["configmaps"]),
            namespaces: list(&["prod-*"]),
            names: list(&["db*"]),
            fields: list(&["data.*", "binaryData['a.b']"]),
            ..Rule::default()
        },
        Rule {
            name: "exec".into(),
            resources: list(&["pods/exec"]),
            query: list(&["command"]),
            ..Rule::default()
        },
        Rule { name: "proxy".into(), resources: list(&["*/proxy"]), query: list(&["*"]), ..Rule::default() },
    ];
    let redactor = Redactor::new(Key::new(b"k"), Builtins::NONE, rules).unwrap();
    let body = |about: &About<'_>, body: &str, want: &str| {
        let got = redactor.body(about, body).unwrap();
        assert_eq!(got.text, if want == "=" { body.to_owned() } else { marked(want) }, "{body}");
        assert_eq!(redactor.body(about, &got.text).unwrap().text, got.text, "{body}");
    };
    let pods = about("create", "pods", Part::Request);
    let env = r#"{"containers":[{"env":[{"name":"A","value":"x"},{"name":"B","value":""}]}]}"#;
    let gone = env.replace("\"x\"", "\"«x»\"");
    body(&pods, &format!(r#"{{"spec":{env}}}"#), &format!(r#"{{"spec":{gone}}}"#));
    body(
        &pods,
        &format!(r#"{{"spec":{{"template":{{"spec":{env}}}}}}}"#),
        &format!(r#"{{"spec":{{"template":{{"spec":{gone}}}}}}}"#),
    );
    body(
        &pods,
        &format!(r#"{{"items":[{{"spec":{env}}}]}}"#),
        &format!(r#"{{"items":[{{"spec":{gone}}}]}}"#),
    );
    body(&about("create", "services", Part::Request), &format!(r#"{{"spec":{env}}}"#), "=");
    let patch = about("patch", "deployments", Part::Request);
    let path = "/spec/template/spec/containers/0/env";
    for (pointer, value, want) in [
        (format!("{path}/3/value"), r#""x""#, r#""«x»""#),
        (format!("{path}/-"), r#"{"name":"A","value":"x"}"#, r#"{"name":"A","value":"«x»"}"#),
        (path.to_owned(), r#"[{"name":"A","value":"x"}]"#, r#"[{"name":"A","value":"«x»"}]"#),
        (format!("{path}/3/value/deeper"), r#""x""#, r#""«x»""#),
        ("/spec/replicas".to_owned(), "3", "3"),
    ] {
        let op = |value: &str| format!(r#"[{{"op":"add","path":"{pointer}","value":{value}}}]"#);
        body(&patch, &op(value), &op(want));
    }
    let applied =
        |spec: &str| json!({"metadata": {"annotations": {"a": format!(r#"{{"spec":{spec}}}"#)}}}).to_string();
    body(&pods, &applied(env), &applied(&gone));
    let status = r#"{"kind":"Status","message":"Pod \"a\" is invalid: x"}"#;
    body(&about("create", "pods", Part::Response), status, &status.replace(": x", ": «x»"));

    let map = |ns: &str, name: &str| {
        json!({"metadata": {"namespace": ns, "name": name}, "data": {"a": "x"}}).to_string()
    };
    let maps = About { namespace: "prod-1", name: "", ..about("create", "configmaps", Part::Request) };
    for (ns, name, is_marked) in
        [("prod-1", "db1", true), ("dev", "db1", false), ("prod-1", "web", false), ("prod-1", "", true)]
    {
        let text = map(ns, name);
        body(
            &maps,
            &text,
            if is_marked { "{}" } else { "=" }.replace("{}", &text.replace("\"x\"", "\"«x»\"")).as_str(),
        );
    }
    let got = redactor.body(&maps, r#"{"data":{"a":"x","password":"y"}}"#).unwrap();
    assert_eq!((got.marks, got.rules), (2, vec!["maps"]));
    let got = redactor.body(&maps, r#"{"more":{"password":"y"},"data":{"a":"x"}}"#).unwrap();
    assert_eq!(got.rules, ["credential-fields", "maps"]);

    for (resource, target, want) in [
        (
            "pods/exec",
            "/exec?command=cat&command=%2Fa&stdin=true",
            "/exec?command=«cat»&command=«/a»&stdin=true",
        ),
        ("pods/proxy", "/proxy/a?b=c&d&e=", "/proxy/a?b=«c»&«d»&e="),
        ("pods/log", "/log?command=cat", "="),
    ] {
        let got = redactor.target(&about("get", resource, Part::Request), target);
        assert_eq!(got.text, if want == "=" { target.to_owned() } else { marked(want) });
    }
}

#[test]
fn what_is_switched_off_stays() {
    let rows = [
        (Builtin::SecretData, r#"{"kind":"Secret","data":{"a":"x"}}"#),
        (Builtin::TokenRequest, r#"{"kind":"TokenRequest","status":{"t":"x"}}"#),
        (Builtin::TokenReview, r#"{"kind":"TokenReview","spec":{"t":"x"}}"#),
        (Builtin::BootstrapToken, r#"["abcdef.0123456789abcdef"]"#),
        (Builtin::AuthorizationHeader, r#"{"authorization":"x"}"#),
        (Builtin::DockerConfig, r#"{"auths":{"a":{"auth":"x"}}}"#),
        (Builtin::Kubeconfig, r#"{"kind":"Config","users":[{"user":{"t":"x"}}]}"#),
        (Builtin::CredentialFields, r#"{"password":"x"}"#),
        (Builtin::CredentialShapes, r#"["eyJhbGciOiJub25lIn0.eyJzdWIi."]"#),
        (Builtin::UrlCredentials, r#"["a://b:c@d"]"#),
        (Builtin::PackedText, r#"["H4sIAAAAAAAAA6tWSkxKVrJSMjI2UaoFAAAA"]"#),
    ];
    let about = about("get", "widgets", Part::Response);
    assert_eq!(rows.len(), Builtin::ALL.len());
    for (rule, body) in rows {
        let got = redactor();
        let got = got.body(&about, body).unwrap();
        assert_eq!(got.rules, [rule.as_str()], "{body}");
        let without = Redactor::new(Key::new(b"k"), Builtins::NONE.with(rule), Vec::new()).unwrap();
        assert_eq!(without.body(&about, body).unwrap().text, body);
    }
}

#[test]
fn what_cannot_be_looked_through_is_an_error() {
    let redactor = redactor();
    let about = about("create", "pods", Part::Request);
    let wide = format!("[{}]", "1,".repeat(MOST_NODES) + "1");
    for (body, why) in [
        ("", "unexpected end of JSON input"),
        ("k8s\0", "invalid character 'k' looking for beginning of value"),
        ("{}{}", "invalid character '{' after top-level value"),
        (r#"{"data":{"a":"hunter2}"#, "unexpected end of JSON input"),
        (&"[".repeat(500_000), "invalid character '[' exceeded max depth"),
        (&wide, "too many values"),
    ] {
        assert_eq!(redactor.body(&about, body).unwrap_err().to_string(), why);
    }
}

#[test]
fn the_deepest_texts_fit_a_small_stack() {
    let deep = |inner: &str| {
        let n = DEEPEST - 2;
        format!("{}{inner}{}", "{\"a\":".repeat(n), "}".repeat(n))
    };
    let body = (0..6).fold("\"x\"".to_owned(), |inner, _| {
        let inner = deep(&inner);
        if inner.len() > 1 << 22 { inner } else { serde_json::to_string(&inner).unwrap() }
    });
    let body = format!("{{\"a\":{body}}}");
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let run = move || redactor().body(&about("create", "pods", Part::Request), &body).map(drop);
    thread.spawn(run).unwrap().join().unwrap().unwrap();
}

#[test]
fn it_is_linear() {
    let redactor = redactor();
    for resource in ["secrets", "pods"] {
        let about = about("patch", resource, Part::Request);
        for piece in [
            r#"{"kind":"Secret","data":{"a":"eA=="}}"#,
            r#"{"op":"add","path":"/data/a","value":"x"}"#,
            r#""[[[[""#,
            r#""{\"a\":\"{\\\"b\\\":1}\"}""#,
            r#"{"a":1,"a":2,"kind":"Secret"}"#,
            r#""://a:://b:@""#,
        ] {
            let body = format!("[{}]", vec![piece; 100_000 / 8].join(","));
            redactor.body(&about, &body).unwrap();
            redactor.body(&about, &format!("{{\"items\":{body}}}")).unwrap();
        }
    }
}

// --- properties ---

const CANARY: &str = "c4nary/Value+~ü\"\n?x";

/// All that the canary might look like.
fn forms() -> Vec<String> {
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    let escaped = serde_json::to_string(CANARY).unwrap();
    let ascii: String =
        CANARY.chars().map(|c| if c.is_ascii() { c.to_string() } else { "\\u00fc".into() }).collect();
    let url: String = CANARY.bytes().map(|b| format!("%{b:02X}")).collect();
    let url_part: String = CANARY
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect();
    let mut forms = vec![CANARY.to_owned(), escaped.trim_matches('"').to_owned(), ascii, url, url_part];
    // In base64 at any offset but the first and last letters.
    for skip in 0..3 {
        let shifted = [&b"\0\0"[..skip.min(2)], CANARY.as_bytes()].concat();
        for text in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            forms.push(text[4..text.len() - 3].to_owned());
        }
    }
    // A piece of it that nothing escapes.
    forms.push("c4nary".to_owned());
    forms
}

fn word() -> BoxedStrategy<String> {
    prop_oneof![
        "[a-z]{1,8}",
        "[a-zA-Z0-9._/-]{0,12}",
        Just("data".to_owned()),
        Just("metadata".to_owned()),
        any::<String>()
    ]
    .boxed()
}

fn plain() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z ]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec(("[a-z]{1,6}", inner), 0..3)
                .prop_map(|entries| entries.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
    .boxed()
}

/// A value that holds the canary where a Secret's value stands.
fn value() -> BoxedStrategy<Value> {
    prop_oneof![
        Just(json!(CANARY)),
        Just(json!(STANDARD.encode(CANARY))),
        Just(json!([CANARY, {"a": CANARY}])),
        Just(json!({"a": {"b": STANDARD.encode(CANARY)}})),
    ]
    .boxed()
}

/// A Secret with the canary in it; `kind` tells whether it says so.
fn secret(kind: bool) -> BoxedStrategy<Value> {
    (word(), word(), value(), value(), plain(), 0..6).prop_map(move |(key, other, one, two, plain, where_)| {
        let mut object = json!({"apiVersion": "v1", "metadata": {"name": "db", "labels": {"a": "b"}}});
        if kind {
            object["kind"] = json!("Secret");
        }
        match where_ {
            0 => object["data"] = json!({ key: one, other: two }),
            1 => object["stringData"] = json!({ key: one }),
            2 => object["data"] = one,
            3 => {
                let inner = json!({"kind": "Secret", "data": {key: one}, "stringData": two}).to_string();
                object["metadata"]["annotations"] =
                    json!({"kubectl.kubernetes.io/last-applied-configuration": inner, "x": "y"});
            }
            4 => {
                object["metadata"]["managedFields"] =
                    json!([{"manager": "a", "fieldsV1": {"f:data": {format!("v:{CANARY}"): {}, "f:a": two}}}]);
            }
            _ => {
                object["Data"] = json!({ key: one });
                object["type"] = json!("Opaque");
                object["spec"] = json!([plain, two]);
            }
        }
        object
    })
    .boxed()
}

/// A body about Secrets, and whether the URL says so.
fn document() -> BoxedStrategy<(bool, Part, Value)> {
    let by_url = prop_oneof![
        secret(false),
        secret(true),
        prop::collection::vec(secret(false), 0..3).prop_map(|items| json!({"kind": "List", "items": items})),
        (value(), word()).prop_map(|(value, key)| {
            let key = key.replace('~', "~0").replace('/', "~1");
            json!([{"op": "add", "path": format!("/data/{key}"), "value": value}])
        }),
        (value(), secret(true)).prop_map(|(value, whole)| {
            json!([{"op": "test", "path": "", "value": whole}, {"op": "replace", "path": "/stringData", "value": value}])
        }),
        (value(), plain()).prop_map(|(value, plain)| json!({
            "kind": "Table", "columnDefinitions": [{"name": "Name"}, {"name": "Value"}],
            "rows": [{"cells": ["db", value, plain], "object": {"metadata": {"name": "db"}}}],
        })),
        secret(false).prop_map(|object| json!({"type": "ADDED", "object": object})),
        value().prop_map(|value| json!({"kind": "Status", "message": CANARY, "details": {"causes": [{"message": value}]}})),
        value(),
    ];
    let by_kind = prop_oneof![
        secret(true),
        prop::collection::vec(secret(true), 0..3)
            .prop_map(|items| json!({"kind": "List", "items": items, "more": [{"kind": "ConfigMap"}]})),
        prop::collection::vec(secret(false), 0..3)
            .prop_map(|items| json!({"spec": {"list": {"kind": "SecretList", "items": items}}})),
        secret(true).prop_map(|object| json!({"kind": "ConfigMap", "data": {"a": object.to_string()}})),
        secret(true).prop_map(|object| json!({"spec": {"x": [object.to_string(), object]}})),
        secret(true).prop_map(|object| json!([{"op": "add", "path": "/spec/x", "value": object}])),
        value().prop_map(|value| json!({"kind": "TokenRequest", "status": {"token": value}})),
        value().prop_map(|value| json!({"kind": "TokenReview", "spec": {"token": value}})),
        value().prop_map(|value| json!({"auths": {"a": {"auth": value}}})),
        Just(json!({"a": [{"name": "Authorization", "value": CANARY}, {"password": CANARY}]})),
    ];
    let part = || prop_oneof![Just(Part::Request), Just(Part::Response)];
    prop_oneof![(Just(true), part(), by_url), (Just(false), part(), by_kind),].boxed()
}

/// The same JSON, written otherwise: escapes, blanks, an odd case of nothing.
fn written(value: &Value, style: u8) -> String {
    match style % 3 {
        0 => value.to_string(),
        1 => format!("{value:#}"),
        _ => {
            let text = value.to_string();
            // Each letter of a string may be an escape: `a` is written so wherever it is no part of one.
            let mut out = String::new();
            let (mut in_string, mut escaped) = (false, false);
            for c in text.chars() {
                match c {
                    '"' if !escaped => in_string = !in_string,
                    'a' | 'k' | 'S' if in_string && !escaped => {
                        out.push_str(&format!("\\u{:04x}", u32::from(c)));
                        continue;
                    }
                    _ => {}
                }
                escaped = c == '\\' && !escaped;
                out.push(c);
            }
            out
        }
    }
}

proptest! {
    #[test]
    fn the_canary_never_shows((by_url, part, body) in document(), style in any::<u8>()) {
        let redactor = redactor();
        let about = about("patch", if by_url { "secrets" } else { "widgets" }, part);
        let text = written(&body, style);
        let got = redactor.body(&about, &text).unwrap();
        let read: Value = serde_json::from_str(&got.text).unwrap();
        for form in forms() {
            prop_assert!(!got.text.contains(&form), "{form:?} in {}\nof {text}", got.text);
            prop_assert!(!read.to_string().contains(&form), "{form:?} in {read}");
        }
        let again = redactor.body(&about, &got.text).unwrap();
        prop_assert_eq!(&again.text, &got.text);
    }

    #[test]
    fn what_is_plain_stays_byte_for_byte(body in plain(), style in any::<u8>()) {
        let about = about("create", "widgets", Part::Request);
        let text = written(&json!({"kind": "Widget", "metadata": {"name": "a"}, "zone": body}), style);
        let redactor = redactor();
        let got = redactor.body(&about, &text).unwrap();
        let is_plain = !text.contains("password") && !text.contains("token");
        prop_assert!(!is_plain || matches!(got.text, Cow::Borrowed(same) if same == text), "{}", got.text);
    }

    #[test]
    fn anything_is_redacted_the_same_twice(body in any_json(), resource in prop_oneof![Just("secrets"), Just("pods")]) {
        let redactor = redactor();
        for part in [Part::Request, Part::Response] {
            let about = about("patch", resource, part);
            let text = body.to_string();
            let got = redactor.body(&about, &text).unwrap();
            prop_assert!(serde_json::from_str::<Value>(&got.text).is_ok(), "{}", got.text);
            prop_assert_eq!(&redactor.body(&about, &got.text).unwrap().text, &got.text);
        }
    }

    #[test]
    fn targets_are_redacted_the_same_twice(target in "/[a-z/]{0,12}(\\?([a-z_]{0,6}=?[a-zA-Z0-9%+.:@/-]{0,12}&?){0,4})?") {
        let redactor = redactor();
        let about = about("get", "pods/proxy", Part::Request);
        let got = redactor.target(&about, &target);
        prop_assert_eq!(&redactor.target(&about, &got.text).text, &got.text);
    }

    #[test]
    fn equal_values_have_equal_marks(value in ".{1,20}", other in ".{1,20}") {
        let redactor = redactor();
        let about = about("create", "secrets", Part::Request);
        let body = json!({"data": {"a": STANDARD.encode(&value)}, "stringData": {"a": value, "b": other}}).to_string();
        let got: Value = serde_json::from_str(&redactor.body(&about, &body).unwrap().text).unwrap();
        prop_assert_eq!(&got["data"]["a"], &got["stringData"]["a"]);
        prop_assert_eq!(got["stringData"]["a"] == got["stringData"]["b"], value == other);
        let patch = json!([{"op": "add", "path": "/stringData/z", "value": value}]).to_string();
        let patch: Value = serde_json::from_str(&redactor.body(&about, &patch).unwrap().text).unwrap();
        prop_assert_eq!(&got["data"]["a"], &patch[0]["value"]);
    }
}

/// JSON with the words that matter in it.
fn any_json() -> impl Strategy<Value = Value> {
    let text = || {
        prop_oneof![
            Just("Secret"),
            Just("Status"),
            Just("Table"),
            Just("{\"data\":{\"a\":\"b\"}}"),
            Just("[1"),
            Just("/data/a"),
            Just("aHVudGVyMg=="),
            Just("Bearer abc123def456"),
            Just("http://a:b@c"),
            Just("Secret \"a\" is invalid: b: c"),
            Just(""),
        ]
        .prop_map(str::to_owned)
    };
    let key = prop_oneof![
        Just("kind"),
        Just("data"),
        Just("stringData"),
        Just("metadata"),
        Just("annotations"),
        Just("kubectl.kubernetes.io/last-applied-configuration"),
        Just("items"),
        Just("rows"),
        Just("cells"),
        Just("object"),
        Just("type"),
        Just("message"),
        Just("details"),
        Just("causes"),
        Just("managedFields"),
        Just("fieldsV1"),
        Just("v:x"),
        Just("f:metadata"),
        Just("path"),
        Just("value"),
        Just("op"),
        Just("auths"),
        Just("users"),
        Just("name"),
        Just("password"),
    ]
    .prop_map(str::to_owned);
    let leaf =
        prop_oneof![text().prop_map(Value::from), any::<i8>().prop_map(Value::from), Just(Value::Null)];
    leaf.prop_recursive(6, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|entries| entries.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}
