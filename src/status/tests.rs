//! Bodies and texts, byte for byte.

use super::*;
use crate::request::{RequestInfo, Target};
use proptest::prelude::*;

fn body(status: &Status) -> String {
    let text = String::from_utf8(status.json().to_vec()).unwrap();
    let head = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#;
    let rest = text.strip_prefix(head).unwrap_or_else(|| panic!("{text}"));
    rest.strip_suffix('\n').unwrap().to_owned()
}

#[test]
fn catalogue() {
    let resource = |group, resource, name| {
        let object =
            Object::Resource { group, version: "v1", resource, subresource: "", namespace: "", name };
        Status::forbidden("u", Attributes { verb: "get", object }, "")
    };
    let cause = Cause {
        reason: "FieldValueInvalid".into(),
        message: "Invalid value: \"BAD\"".into(),
        field: "metadata.name".into(),
    };
    for (status, want) in [
        (Status::bad_request("why"), r#""message":"why","reason":"BadRequest","code":400}"#),
        (Status::unauthorized(), r#""message":"Unauthorized","reason":"Unauthorized","code":401}"#),
        (
            resource("", "pods", "x"),
            r#""message":"pods \"x\" is forbidden: User \"u\" cannot get resource \"pods\" in API group \"\" at the cluster scope","reason":"Forbidden","details":{"name":"x","kind":"pods"},"code":403}"#,
        ),
        (
            resource("apps", "deployments", "x"),
            r#""message":"deployments.apps \"x\" is forbidden: User \"u\" cannot get resource \"deployments\" in API group \"apps\" at the cluster scope","reason":"Forbidden","details":{"name":"x","group":"apps","kind":"deployments"},"code":403}"#,
        ),
        (
            Status::forbidden("u", Attributes { verb: "get", object: Object::Path("/x") }, ""),
            r#""message":"forbidden: User \"u\" cannot get path \"/x\"","reason":"Forbidden","details":{},"code":403}"#,
        ),
        (
            Status::not_found("", "pods", "x"),
            r#""message":"pods \"x\" not found","reason":"NotFound","details":{"name":"x","kind":"pods"},"code":404}"#,
        ),
        (
            Status::not_found("apps", "deployments", "x"),
            r#""message":"deployments.apps \"x\" not found","reason":"NotFound","details":{"name":"x","group":"apps","kind":"deployments"},"code":404}"#,
        ),
        (
            Status::no_route(),
            r#""message":"the server could not find the requested resource","reason":"NotFound","details":{},"code":404}"#,
        ),
        (
            Status::method_not_allowed(),
            r#""message":"the server does not allow this method on the requested resource","reason":"MethodNotAllowed","details":{},"code":405}"#,
        ),
        (
            Status::not_acceptable("only the following media types are accepted: application/json"),
            r#""message":"only the following media types are accepted: application/json","reason":"NotAcceptable","code":406}"#,
        ),
        (
            Status::too_large(3145728),
            r#""message":"Request entity too large: limit is 3145728","reason":"RequestEntityTooLarge","code":413}"#,
        ),
        (
            Status::unsupported_media_type("application/json, application/yaml"),
            r#""message":"the body of the request was in an unknown format - accepted media types include: application/json, application/yaml","reason":"UnsupportedMediaType","code":415}"#,
        ),
        (
            Status::invalid("", "ConfigMap", "BAD", vec![cause.clone()]),
            r#""message":"ConfigMap \"BAD\" is invalid: metadata.name: Invalid value: \"BAD\"","reason":"Invalid","details":{"name":"BAD","kind":"ConfigMap","causes":[{"reason":"FieldValueInvalid","message":"Invalid value: \"BAD\"","field":"metadata.name"}]},"code":422}"#,
        ),
        (
            Status::invalid("meta.k8s.io", "CreateOptions", "", vec![cause, Cause::default()]),
            r#""message":"CreateOptions.meta.k8s.io \"\" is invalid: [metadata.name: Invalid value: \"BAD\", ]","reason":"Invalid","details":{"group":"meta.k8s.io","kind":"CreateOptions","causes":[{"reason":"FieldValueInvalid","message":"Invalid value: \"BAD\"","field":"metadata.name"},{}]},"code":422}"#,
        ),
        (
            Status::too_many_requests("Too many requests, please try again later.", 1),
            r#""message":"Too many requests, please try again later.","reason":"TooManyRequests","details":{"retryAfterSeconds":1},"code":429}"#,
        ),
        (Status::header_too_large(), r#""message":"431 Request Header Fields Too Large","code":431}"#),
        (
            Status::internal("why"),
            r#""message":"Internal error occurred: why","reason":"InternalError","details":{"causes":[{"message":"why"}]},"code":500}"#,
        ),
        (Status::unavailable("why", None), r#""message":"why","reason":"ServiceUnavailable","code":503}"#),
        (
            Status::unavailable("why", Some(5)),
            r#""message":"why","reason":"ServiceUnavailable","details":{"retryAfterSeconds":5},"code":503}"#,
        ),
        (
            Status::timeout(),
            r#""message":"Timeout: request did not complete within the allotted timeout","reason":"Timeout","details":{},"code":504}"#,
        ),
        (
            Status::new(500, "", r#"invalid key: "/pods/..""#),
            r#""message":"invalid key: \"/pods/..\"","code":500}"#,
        ),
    ] {
        assert_eq!(body(&status), want);
    }
}

#[test]
fn what_the_headers_say() {
    let of = |s: Status| (s.nosniff, s.close, s.retry_after);
    let forbidden = Status::forbidden("u", Attributes { verb: "get", object: Object::Path("/") }, "");
    assert_eq!(of(forbidden), (true, false, None));
    assert_eq!(of(Status::unauthorized()), (false, false, None));
    assert_eq!(of(Status::no_route()), (false, false, None));
    assert_eq!(of(Status::header_too_large()), (false, true, None));
    assert_eq!(of(Status::unavailable("", Some(1))), (true, false, Some(1)));
}

#[test]
fn forbidden_as_a_live_server_says_it() {
    let message = |user: &str, line: &str, reason: &str| {
        let (verb, target) = line.split_once(' ').unwrap();
        let target = Target::parse(target).unwrap();
        let info = RequestInfo::parse(&verb.parse().unwrap(), &target).unwrap();
        Status::forbidden(user, info.attributes(), reason).message
    };
    for (user, line, want) in [
        (
            "bob",
            "GET /api/v1/namespaces/default/pods/x",
            r#"pods "x" is forbidden: User "bob" cannot get resource "pods" in API group "" in the namespace "default""#,
        ),
        (
            "carol",
            "GET /api/v1/pods",
            r#"pods is forbidden: User "carol" cannot list resource "pods" in API group "" at the cluster scope"#,
        ),
        (
            "carol",
            "GET /apis/apps/v1/namespaces/d/deployments/x/scale",
            r#"deployments.apps "x" is forbidden: User "carol" cannot get resource "deployments/scale" in API group "apps" in the namespace "d""#,
        ),
        (
            "carol",
            "GET /api/v1/namespaces/ns",
            r#"namespaces "ns" is forbidden: User "carol" cannot get resource "namespaces" in API group "" in the namespace "ns""#,
        ),
        (
            "carol",
            "GET /api/v1/nodes/n",
            r#"nodes "n" is forbidden: User "carol" cannot get resource "nodes" in API group "" at the cluster scope"#,
        ),
        ("carol", "GET /metrics", r#"forbidden: User "carol" cannot get path "/metrics""#),
        (
            "bob",
            "GET /api/v1/namespaces/d/configmaps?fieldSelector=metadata.name=other",
            r#"configmaps "other" is forbidden: User "bob" cannot list resource "configmaps" in API group "" in the namespace "d""#,
        ),
        // Entities in the body, not in the head.
        (
            "a<b>&",
            "GET /api/v1/namespaces/d/pods/x%3Cy%3E&z",
            r#"pods "x<y>&z" is forbidden: User "a&lt;b&gt;&amp;" cannot get resource "pods" in API group "" in the namespace "d""#,
        ),
        ("u", "GET /x%3Cy%3E&z", r#"forbidden: User "u" cannot get path "/x&lt;y&gt;&amp;z""#),
        ("a\"b\\c", "GET /", r#"forbidden: User "a\"b\\c" cannot get path "/""#),
        (
            "zoë\u{ad}\u{301}\u{e000}😀\u{10ffff}",
            "GET /",
            "forbidden: User \"zoë\\u00ad\u{301}\\ue000😀\\U0010ffff\" cannot get path \"/\"",
        ),
    ] {
        assert_eq!(message(user, line, ""), want);
    }
    assert_eq!(
        message("u", "GET /x", "no <rule> & no role"),
        r#"forbidden: User "u" cannot get path "/x": no <rule> & no role"#
    );
    let attributes = |verb, resource, subresource, name| Attributes {
        verb,
        object: Object::Resource { group: "", version: "v1", resource, subresource, namespace: "", name },
    };
    // What the gate's own parser refuses, the text still knows.
    let status = Status::forbidden("carol", attributes("get", "", "", "pods"), "");
    assert_eq!(
        status.message,
        r#"forbidden: User "carol" cannot get resource "" in API group "" at the cluster scope"#
    );
    assert_eq!(status.details.unwrap().name, "pods");
    assert_eq!(
        Status::forbidden("carol", attributes("", "pods", "", ""), "").message,
        r#"pods is forbidden: User "carol" cannot  resource "pods" in API group "" at the cluster scope"#
    );
    let extra = Object::Resource {
        group: "authentication.k8s.io",
        version: "v1",
        resource: "userextras",
        subresource: "Foo",
        namespace: "",
        name: "y",
    };
    assert_eq!(
        Status::forbidden("imp", Attributes { verb: "impersonate", object: extra }, "").message,
        r#"userextras.authentication.k8s.io "y" is forbidden: User "imp" cannot impersonate resource "userextras/Foo" in API group "authentication.k8s.io" at the cluster scope"#
    );
}

#[test]
fn a_bad_request_becomes_a_status() {
    let status = Status::from(Target::parse("//").unwrap_err());
    assert_eq!((status.code, status.reason), (400, "BadRequest"));
    let bad = RequestInfo::parse(&http::Method::GET, &Target::parse("/api/v1/watch").unwrap()).unwrap_err();
    let status = Status::from(bad);
    assert_eq!(status.code, 500);
    assert!(
        status
            .message
            .starts_with("Internal Server Error: \"/api/v1/watch\": failed to create RequestInfo: ")
    );
}

#[test]
fn the_record_writes_it_without_a_kind() {
    let mut out = b"x".to_vec();
    Status::timeout().push_audit_json(&mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"x{"metadata":{},"status":"Failure","message":"Timeout: request did not complete within the allotted timeout","reason":"Timeout","details":{},"code":504}"#
    );
}

#[test]
fn json_strings_as_go_writes_them() {
    let json = |s: &str| {
        let mut out = Vec::new();
        push_json_str(&mut out, s);
        String::from_utf8(out).unwrap()
    };
    for (text, want) in [
        ("", r#""""#),
        ("plain é 😀", r#""plain é 😀""#),
        ("\"\\/", r#""\"\\/""#),
        ("<a&b>", r#""\u003ca\u0026b\u003e""#),
        ("\u{8}\u{c}\n\r\t", r#""\b\f\n\r\t""#),
        ("\0\u{b}\u{1f}\u{7f}", "\"\\u0000\\u000b\\u001f\u{7f}\""),
        ("a\u{2028}b\u{2029}", r#""a\u2028b\u2029""#),
        ("\u{2027}\u{202a}\u{20a8}\u{2128}", "\"\u{2027}\u{202a}\u{20a8}\u{2128}\""),
    ] {
        assert_eq!(json(text), want);
    }
}

#[test]
fn quotes_as_go_writes_them() {
    let quoted = |s: &str| {
        let mut out = String::new();
        push_go_quoted(&mut out, s);
        out
    };
    for (text, want) in [
        ("", r#""""#),
        ("a'b`c<>&", r#""a'b`c<>&""#),
        ("\"\\", r#""\"\\""#),
        ("\x07\x08\x0c\n\r\t\x0b", r#""\a\b\f\n\r\t\v""#),
        ("\0\x1b\x7f", r#""\x00\x1b\x7f""#),
        ("é日\u{301}", "\"é日\u{301}\""),
        // Not printable: no-break space, soft hyphen, zero width space, line separator, byte order mark, private use.
        ("\u{a0}\u{ad}\u{200b}\u{2028}\u{feff}\u{e000}", r#""\u00a0\u00ad\u200b\u2028\ufeff\ue000""#),
        ("\u{85}\u{1f600}\u{e0001}", "\"\\u0085\u{1f600}\\U000e0001\""),
        ("\u{fffd}", "\"\u{fffd}\""),
    ] {
        assert_eq!(quoted(text), want, "{text:?}");
    }
}

proptest! {
    #[test]
    fn json_says_what_it_was_given(text in any::<String>()) {
        let mut out = Vec::new();
        push_json_str(&mut out, &text);
        prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text.clone());
        prop_assert!(!out.iter().any(|b| b"<>&\n".contains(b)));
        let status = Status::bad_request(text.clone());
        let read: serde_json::Value = serde_json::from_slice(&status.json()).unwrap();
        prop_assert_eq!(read.get("message").and_then(|m| m.as_str()).unwrap_or_default(), text);
    }
}
