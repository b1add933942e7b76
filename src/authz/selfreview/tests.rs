//! Reviews as clients send them, and what they get.

use super::*;
use crate::{
    authz::{Explain, Tell},
    identity::MASTERS,
    rbac::{self, Objects, Rule},
    request::Target,
};
use http::{HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc};

const ACCESS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const RULES: &str = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
const SUBJECT: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

const ROLES: &str = r#"
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: reader}, rules: [
  {verbs: [get, list], apiGroups: [""], resources: [pods, pods/exec]},
  {verbs: [get], nonResourceURLs: [/healthz]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: readers},
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader},
  subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: ann}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: shells, namespace: shop}, rules: [
  {verbs: ["*"], apiGroups: [""], resources: [pods/exec]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: shells, namespace: shop},
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: shells},
  subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: ann}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: gone},
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: nobody},
  subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: bob}]}
"#;

fn authz(explain: Explain) -> Authz {
    let (mut objects, mut problems) = (Objects::default(), Vec::new());
    rbac::read("rows", ROLES, &mut objects, &mut problems);
    assert_eq!(problems, []);
    Authz::new(rbac::Rules::new(objects), Tell { explain, ..Tell::default() })
}

fn user(name: &str) -> Arc<User> {
    let groups = if name == "root" { vec![MASTERS.to_owned()] } else { Vec::new() };
    User::new(name, "", groups, BTreeMap::new()).unwrap()
}

fn info(method: &str, path: &str) -> RequestInfo {
    RequestInfo::parse(&method.parse::<Method>().unwrap(), &Target::parse(path).unwrap()).unwrap()
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect()
}

/// A JSON body to a path.
fn ask(authz: &Authz, who: &str, path: &str, body: &str) -> Result<Review, Unanswered> {
    authz.review_of(&user(who), &info("POST", path), None, &HeaderMap::new(), body.as_bytes())
}

fn answered(review: Result<Review, Unanswered>) -> Value {
    match review {
        Ok(Review::Answered(answer)) => serde_json::from_slice(&answer.json).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn which_requests_are_reviews_of_oneself() {
    for (method, path, is) in [
        ("POST", ACCESS, true),
        ("POST", RULES, true),
        ("POST", SUBJECT, true),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews/", true),
        ("POST", "/apis/authorization.k8s.io/v1beta1/selfsubjectaccessreviews", true),
        ("POST", "/apis/authentication.k8s.io/v1alpha1/selfsubjectreviews", true),
        ("GET", ACCESS, false),
        ("PUT", ACCESS, false),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews/x", false),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews/x/status", false),
        ("POST", "/apis/authorization.k8s.io/v1/namespaces/n/selfsubjectaccessreviews", false),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectreviews", false),
        ("POST", "/apis/authentication.k8s.io/v1/selfsubjectaccessreviews", false),
        ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", false),
        ("POST", "/apis/authorization.k8s.io/v1/namespaces/n/localsubjectaccessreviews", false),
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews", false),
        ("POST", "/api/v1/selfsubjectaccessreviews", false),
    ] {
        assert_eq!(is_self_review(&info(method, path)), is, "{method} {path}");
    }
}

/// What these rules say: `pass`, or `no` and the reason.
fn said(authz: &Authz, who: &str, spec: &str) -> String {
    match ask(authz, who, ACCESS, &format!("{{\"spec\":{spec}}}")) {
        Ok(Review::Pass) => "pass".into(),
        Ok(Review::Answered(answer)) => {
            let review: Value = serde_json::from_slice(&answer.json).unwrap();
            assert_eq!(review["status"]["allowed"], false);
            assert_eq!(answer.how, "denied by the gate");
            format!("no {}", review["status"]["reason"].as_str().unwrap_or("-"))
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn what_these_rules_allow_is_the_upstreams_to_answer() {
    let authz = authz(Explain::Off);
    for (who, spec, want) in [
        ("ann", r#"{"resourceAttributes":{"verb":"get","resource":"pods","namespace":"x"}}"#, "pass"),
        (
            "ann",
            r#"{"resourceAttributes":{"verb":"get","resource":"pods","version":"v9","name":"n"}}"#,
            "pass",
        ),
        ("ann", r#"{"resourceAttributes":{"verb":"delete","resource":"pods"}}"#, "no -"),
        ("ann", r#"{"resourceAttributes":{"verb":"get","resource":"pods","group":"apps"}}"#, "no -"),
        // Taken literally: only a rule with `*` allows `*`.
        ("ann", r#"{"resourceAttributes":{"verb":"*","resource":"pods"}}"#, "no -"),
        ("ann", r#"{"resourceAttributes":{"verb":"GET","resource":"pods"}}"#, "no -"),
        (
            "ann",
            r#"{"resourceAttributes":{"verb":"*","resource":"pods","subresource":"exec","namespace":"shop"}}"#,
            "pass",
        ),
        // The gate itself takes `create` besides.
        (
            "ann",
            r#"{"resourceAttributes":{"verb":"get","resource":"pods","subresource":"exec","namespace":"x"}}"#,
            "no -",
        ),
        (
            "ann",
            r#"{"resourceAttributes":{"verb":"get","resource":"pods","subresource":"exec","namespace":"shop"}}"#,
            "pass",
        ),
        ("ann", r#"{"nonResourceAttributes":{"verb":"get","path":"/healthz"}}"#, "pass"),
        ("ann", r#"{"nonResourceAttributes":{"verb":"get","path":"/healthz/x"}}"#, "no -"),
        ("root", r#"{"nonResourceAttributes":{"verb":"get","path":"/healthz/x"}}"#, "pass"),
        (
            "bob",
            r#"{"resourceAttributes":{}}"#,
            "no RBAC: clusterrole.rbac.authorization.k8s.io \"nobody\" not found",
        ),
        // What it is not exactly one question, the upstream refuses.
        ("bob", "{}", "pass"),
        ("bob", "null", "pass"),
        ("bob", r#"{"resourceAttributes":null}"#, "pass"),
        ("bob", r#"{"resourceAttributes":{},"nonResourceAttributes":{}}"#, "pass"),
    ] {
        assert_eq!(said(&authz, who, spec), want, "{who} {spec}");
    }
}

/// What a review says is what becomes of the request itself.
#[test]
fn a_review_and_the_request_it_is_about_agree() {
    let authz = authz(Explain::Own);
    let questions =
        ["/api/v1/namespaces/x/pods/p", "/api/v1/pods", "/healthz", "/healthz/"].map(|p| ("GET", p));
    let streams = ["exec", "attach", "log"].into_iter().flat_map(|sub| {
        ["x", "shop"].into_iter().flat_map(move |ns| {
            ["GET", "POST"].map(|method| (method, format!("/api/v1/namespaces/{ns}/pods/p/{sub}")))
        })
    });
    let all = questions.into_iter().map(|(method, path)| (method, path.to_owned())).chain(streams);
    let (mut yes, mut no) = (0, 0);
    for (method, path) in all {
        let about = info(method, &path);
        let verb = about.verb().as_str();
        let spec = if about.is_resource() {
            json!({"resourceAttributes": {"verb": verb, "group": about.group(), "resource": about.resource(),
                "subresource": about.subresource(), "namespace": about.namespace(), "name": about.name()}})
        } else {
            json!({"nonResourceAttributes": {"verb": verb, "path": about.path()}})
        };
        for who in ["ann", "bob", "root"] {
            let allowed = authz.decide(&user(who), &about, false).is_ok();
            let said = said(&authz, who, &spec.to_string());
            assert_eq!(said == "pass", allowed, "{who} {method} {path}: {said}");
            if allowed { yes += 1 } else { no += 1 }
        }
    }
    assert!(yes > 15 && no > 15, "{yes} {no}");
}

#[test]
fn the_reason_is_as_much_as_callers_are_told() {
    let spec =
        r#"{"resourceAttributes":{"verb":"get","resource":"pods","subresource":"exec","namespace":"x"}}"#;
    assert_eq!(said(&authz(Explain::Off), "ann", spec), "no -");
    let own = said(&authz(Explain::Own), "ann", spec);
    assert!(own.starts_with("no opening a stream takes create besides get; "), "{own}");
    assert!(own.contains("Role shop/shells") && own.contains("ask for create on pods/exec"), "{own}");
}

#[test]
fn what_is_only_observed_binds_for_streams_alone() {
    let authz = authz(Explain::Off).with_mode(Mode::Observe);
    for (spec, want) in [
        (r#"{"resourceAttributes":{"verb":"delete","resource":"pods"}}"#, "pass"),
        (r#"{"resourceAttributes":{"verb":"create","resource":"pods","subresource":"exec"}}"#, "no -"),
        (r#"{"resourceAttributes":{"verb":"get","resource":"pods","subresource":"log"}}"#, "pass"),
        (r#"{"nonResourceAttributes":{"verb":"get","path":"/x"}}"#, "pass"),
    ] {
        assert_eq!(said(&authz, "carl", spec), want, "{spec}");
    }
    let list = ask(&authz, "bob", RULES, r#"{"spec":{"namespace":"shop"}}"#);
    assert!(matches!(list, Ok(Review::Pass)), "{list:?}");
}

#[test]
fn rules_that_are_not_known_deny_nothing_for_good() {
    let unknown = || authz(Explain::Off).with_cluster(Live::Unknown("not synced".into()));
    let asks = |who, spec: &str| ask(&unknown(), who, ACCESS, &format!("{{\"spec\":{spec}}}"));
    let no = asks("ann", r#"{"resourceAttributes":{"verb":"delete","resource":"pods"}}"#).unwrap_err();
    assert_eq!((no.status.code, no.status.retry_after), (503, Some(1)));
    assert!(no.why.ends_with("not synced") && !no.status.message.contains("synced"), "{no:?}");
    let yes = asks("ann", r#"{"resourceAttributes":{"verb":"get","resource":"pods"}}"#);
    assert!(matches!(yes, Ok(Review::Pass)), "{yes:?}");
    let Ok(Review::Cut(cut)) = ask(&unknown(), "ann", RULES, r#"{"spec":{"namespace":"shop"}}"#) else {
        panic!()
    };
    let answer = cut.answer(Theirs::Whole(&list(&[], false, ""))).unwrap();
    let status = &serde_json::from_slice::<Value>(&answer.json).unwrap()["status"];
    assert_eq!(status["incomplete"], true);
    assert_eq!(status["evaluationError"], "the cluster's rules are not known at the moment");
}

/// A question with everything in it.
const WHOLE: &str = r#"{"resourceAttributes":{"namespace":"n","verb":"get","group":"g","version":"v","resource":"r",
    "subresource":"s","name":"x","fieldSelector":{"rawSelector":"a=b"},
    "labelSelector":{"requirements":[{"key":"k","operator":"In","values":["1","2"]},{"key":"l","operator":"Exists"}]}}}"#;

fn question(body: &[u8]) -> Question {
    Question::read(&media::read(&headers(&[("content-type", PROTOBUF)]), body).unwrap().unwrap()).unwrap()
}

#[test]
fn a_question_is_the_same_in_each_encoding() {
    for spec in [WHOLE, r#"{"nonResourceAttributes":{"path":"/x","verb":"get"}}"#, "{}"] {
        let spec: Value = serde_json::from_str(spec).unwrap();
        let sent = Sent::Value(json!({"spec": spec}));
        let read = Question::read(&sent).unwrap();
        assert_eq!(read.json(), spec);
        let raw = Writer::of(|review| review.message(2, |of| read.write(of)));
        assert_eq!(question(&Envelope { raw: &raw, ..Envelope::default() }.write()), read);
        let yaml = format!("spec: {spec}\n");
        let by_yaml = media::read(&headers(&[("content-type", "application/yaml")]), yaml.as_bytes());
        assert_eq!(Question::read(&by_yaml.unwrap().unwrap()).unwrap(), read);
    }
}

/// What kubectl 1.33 sends for `auth can-i get pods`: metadata and status are there and say nothing.
#[test]
fn a_question_of_kubectl() {
    let mut body = b"k8s\0\n2\n\x17authorization.k8s.io/v1\x12\x17SelfSubjectAccessReview\x12".to_vec();
    let spec = b"\n\x1a\n\x07default\x12\x03get\x1a\0\"\0*\x04pods2\0:\0";
    let metadata = b"\n\x10\n\0\x12\0\x1a\0\"\0*\x002\x008\0B\0";
    let status = b"\x1a\x08\x08\0\x12\0\x1a\0 \0";
    body.push((metadata.len() + 2 + spec.len() + status.len()) as u8);
    body.extend_from_slice(metadata);
    body.extend([0x12, spec.len() as u8]);
    body.extend_from_slice(spec);
    body.extend_from_slice(status);
    body.extend(b"\x1a\0\"\0");
    let read = question(&body);
    let want = json!({"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}});
    assert_eq!(read.json(), want);
    let sent = headers(&[
        ("content-type", PROTOBUF),
        ("accept", "application/vnd.kubernetes.protobuf,application/json"),
    ]);
    let review = authz(Explain::Off).review_of(&user("carl"), &info("POST", ACCESS), None, &sent, &body);
    let Ok(Review::Answered(answer)) = review else { panic!("{review:?}") };
    assert_eq!(answer.content_type, PROTOBUF);
    let limits = crate::codec::protobuf::Limits { bytes: 1 << 20, depth: 8 };
    let envelope = Envelope::read(&answer.body, limits).unwrap();
    assert_eq!((envelope.api_version, envelope.kind), ("authorization.k8s.io/v1", "SelfSubjectAccessReview"));
    assert_eq!(question(&answer.body), read);
    assert!(envelope.raw.ends_with(b"\x1a\x04\x08\0\x12\0"), "{:?}", answer.body);
}

#[test]
fn who_one_is() {
    let authz = authz(Explain::Own);
    let extra = BTreeMap::from([("k<>".to_owned(), vec!["1".to_owned(), "2".to_owned()])]);
    let user = User::new("zoë", "7", vec!["a".into(), "b".into()], extra).unwrap();
    for (version, body) in [("v1", "{}"), ("v1beta1", "null"), ("v1alpha1", r#"{"metadata":{"name":"x"}}"#)] {
        let path = format!("/apis/authentication.k8s.io/{version}/selfsubjectreviews");
        let at = info("POST", &path);
        let review = authz.review_of(&user, &at, None, &HeaderMap::new(), body.as_bytes());
        let want = json!({"kind": "SelfSubjectReview", "apiVersion": format!("authentication.k8s.io/{version}"),
            "metadata": {"creationTimestamp": null},
            "status": {"userInfo": {"username": "zoë", "uid": "7", "groups": ["a", "b"], "extra": {"k<>": ["1", "2"]}}}});
        assert_eq!(answered(review), want);
    }
    let bare = answered(ask(&authz, "ann", SUBJECT, "{}"));
    assert_eq!(bare["status"], json!({"userInfo": {"username": "ann"}}));
    let sent = headers(&[("accept", PROTOBUF)]);
    let review = authz.review_of(&user, &info("POST", SUBJECT), None, &sent, b"{}");
    let Ok(Review::Answered(answer)) = review else { panic!("{review:?}") };
    let want =
        b"\n\0\x12\x20\n\x1e\n\x04zo\xc3\xab\x12\x017\x1a\x01a\x1a\x01b\"\r\n\x03k<>\x12\x06\n\x011\n\x012";
    let limits = crate::codec::protobuf::Limits { bytes: 1 << 20, depth: 8 };
    assert_eq!(Envelope::read(&answer.body, limits).unwrap().raw, want);
    assert_eq!(answer.how, "answered by the gate");
}

#[test]
fn what_cannot_be_understood_is_refused() {
    let authz = authz(Explain::Off);
    let json = "application/json";
    let unknown = "the body of the request was in an unknown format";
    for (media, body, code, why) in [
        (json, &b""[..], 400, "unrecognized (must be of type SelfSubjectAccessReview): the body is empty"),
        (json, b"{bad", 400, "not JSON"),
        (json, b"[]", 400, "expected an object"),
        (json, b"{} {}", 400, "not JSON"),
        (json, br#"{"spec":{},"spec":{}}"#, 400, "an object holds a key twice"),
        (json, br#"{"spec":[]}"#, 400, "spec: expected an object"),
        (
            json,
            br#"{"spec":{"resourceAttributes":{"verb":1}}}"#,
            400,
            "spec.resourceAttributes.verb: expected a string",
        ),
        (json, br#"{"kind":"Pod"}"#, 400, "it is of another kind"),
        (json, br#"{"kind":7}"#, 400, "kind: expected a string"),
        (
            json,
            br#"{"apiVersion":"authorization.k8s.io/v1beta1"}"#,
            400,
            "not the expected authorization.k8s.io/v1",
        ),
        (json, b"spec: {}", 400, "not JSON"),
        (json, b"\x1f\x8b\x08\0", 400, "not JSON"),
        ("text/plain", b"{}", 415, unknown),
        ("application/cbor", b"{}", 415, unknown),
        ("garbage", b"{}", 415, unknown),
        ("application/yaml", b"", 400, "the body is empty"),
        ("application/yaml", b"a: b: c", 400, "line 1"),
        ("application/yaml", b"spec: {}\n---\nspec: {}\n", 400, "unrecognized"),
        ("application/yaml", b"\xff", 400, "not UTF-8"),
        (PROTOBUF, b"", 400, "expected the prefix"),
        (PROTOBUF, b"{}", 400, "expected the prefix"),
        (PROTOBUF, b"k8s\0\x0a\x40\x0a", 400, "it ends early"),
        (PROTOBUF, b"k8s\0\x12\x03\x12\x01\x0a", 400, "it ends early"),
        (PROTOBUF, b"k8s\0\x12\x04\x12\x02\x08\x01", 400, "field 1 is of an unexpected type"),
        (PROTOBUF, b"k8s\0\x1a\x04gzip", 400, "contentEncoding"),
        (PROTOBUF, b"k8s\0\x0a\x05\x12\x03Pod", 400, "it is of another kind"),
    ] {
        let sent = headers(&[("content-type", media)]);
        let refused = authz.review_of(&user("bob"), &info("POST", ACCESS), None, &sent, body).unwrap_err();
        assert_eq!(refused.status.code, code, "{media} {body:?}: {refused:?}");
        assert!(refused.status.message.contains(why), "{media} {body:?}: {refused:?}");
    }
    let large = format!("{{\"x\":\"{}\"}}", "y".repeat(LARGEST));
    assert_eq!(ask(&authz, "ann", SUBJECT, &large).unwrap_err().status.code, 413);
}

#[test]
fn what_content_types_mean() {
    let authz = authz(Explain::Off);
    for sent in [
        &[][..],
        &[("content-type", "")],
        &[("content-type", "APPLICATION/JSON; charset=x")],
        // kube-apiserver does not look at it.
        &[("content-encoding", "gzip")],
    ] {
        let review = authz.review_of(&user("bob"), &info("POST", SUBJECT), None, &headers(sent), b"{}");
        assert!(matches!(review, Ok(Review::Answered(_))), "{sent:?}: {review:?}");
    }
}

#[test]
fn in_which_encoding_the_answer_goes() {
    use Encoding::{Json, Pretty, Protobuf, Yaml};
    let router = "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf";
    let late = "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf";
    for (accept, want) in [
        ("", Ok(Json)),
        ("*/*", Ok(Json)),
        ("application/json, */*", Ok(Json)),
        ("application/vnd.kubernetes.protobuf,application/json", Ok(Protobuf)),
        ("application/json,application/vnd.kubernetes.protobuf", Ok(Json)),
        ("application/json;q=0.1, application/yaml", Ok(Yaml)),
        ("application/json;q=0, application/vnd.kubernetes.protobuf;q=0.1", Ok(Protobuf)),
        ("application/json;q=0", Ok(Json)),
        ("application/json;q=x, application/yaml", Ok(Json)),
        ("*/*, application/yaml", Ok(Yaml)),
        ("application/*, application/yaml;q=0.5", Ok(Json)),
        ("application/json;stream=watch", Ok(Json)),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Ok(Json)),
        ("text/html, application/yaml", Ok(Yaml)),
        ("application/json;as=Table;v=v1;g=meta.k8s.io", Err(late)),
        ("text/html", Err(router)),
        ("text/html;q=0.9, application/*;q=0.1", Err(router)),
        ("APPLICATION/JSON", Err(router)),
        ("\u{e9}", Err(router)),
        (",", Err(router)),
    ] {
        let found = Encoding::accepted(&headers(&[("accept", accept)]), None).map_err(|status| {
            assert_eq!(status.code, 406);
            status.message
        });
        assert_eq!(found.as_ref().map_err(String::as_str), want.as_ref().map_err(|text| *text), "{accept}");
    }
    for (agent, query, want) in [
        ("curl/8", None, Pretty),
        ("curl/8", Some("pretty=0"), Json),
        ("kubectl", Some("pretty=true"), Pretty),
        ("kubectl", Some("pretty="), Json),
        ("Mozilla/5.0 (X11)", Some("x=y"), Pretty),
    ] {
        let found = Encoding::accepted(&headers(&[("user-agent", agent)]), query);
        assert_eq!(found, Ok(want), "{agent} {query:?}");
    }
}

#[test]
fn a_second_accept_line_does_not_count() {
    let mut sent = headers(&[("accept", "text/html")]);
    sent.append("accept", HeaderValue::from_static("application/json"));
    assert_eq!(Encoding::accepted(&sent, None).unwrap_err().code, 406);
}

// --- lists --------------------------------------------------------------------------------------------------

fn list(rules: &[Value], incomplete: bool, error: &str) -> Vec<u8> {
    let (paths, resources): (Vec<_>, Vec<_>) =
        rules.iter().cloned().partition(|rule| rule.get("nonResourceURLs").is_some());
    json!({"kind": "SelfSubjectRulesReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {}, "spec": {},
        "status": {"resourceRules": resources, "nonResourceRules": paths, "incomplete": incomplete, "evaluationError": error}})
    .to_string()
    .into_bytes()
}

fn cut(who: &str, namespace: &str) -> Cut {
    let body = json!({"spec": {"namespace": namespace}}).to_string();
    match ask(&authz(Explain::Own), who, RULES, &body) {
        Ok(Review::Cut(cut)) => cut,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_list_is_what_both_allow() {
    let theirs = [
        json!({"verbs": ["*"], "apiGroups": [""], "resources": ["pods", "secrets"]}),
        json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["x"]}),
        json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/metrics"]}),
    ];
    let status = |who, namespace| {
        let answer = cut(who, namespace).answer(Theirs::Whole(&list(&theirs, false, ""))).unwrap();
        assert_eq!(answer.how, "cut");
        let review: Value = serde_json::from_slice(&answer.json).unwrap();
        assert_eq!(review["spec"], json!({}));
        review["status"].clone()
    };
    assert_eq!(
        status("ann", "x"),
        json!({"resourceRules": [
            {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]},
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["x"]}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}], "incomplete": false})
    );
    assert_eq!(
        status("carl", "x"),
        json!({"resourceRules": [], "nonResourceRules": [], "incomplete": false})
    );
}

#[test]
fn what_the_upstream_does_not_know_stays_said() {
    let said = "webhook authorizer does not support user rule resolution";
    let answer = cut("ann", "shop").answer(Theirs::Whole(&list(&[], true, said))).unwrap();
    let review: Value = serde_json::from_slice(&answer.json).unwrap();
    assert_eq!(
        (&review["status"]["incomplete"], &review["status"]["evaluationError"]),
        (&true.into(), &said.into())
    );
    let answer = cut("ann", "shop").answer(Theirs::TooLarge).unwrap();
    let review: Value = serde_json::from_slice(&answer.json).unwrap();
    assert_eq!(review["status"]["incomplete"], true);
    assert_eq!(review["status"]["evaluationError"], "the upstream's list is larger than 4194304 bytes");
}

#[test]
fn a_list_that_is_longer_than_any_ends_and_says_so() {
    let theirs: Vec<Value> = (0..MANY)
        .map(|n| json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": [n.to_string()]}))
        .collect();
    let answer = cut("ann", "shop").answer(Theirs::Whole(&list(&theirs, false, ""))).unwrap();
    let review: Value = serde_json::from_slice(&answer.json).unwrap();
    assert_eq!(review["status"]["resourceRules"].as_array().unwrap().len(), 5_000);
    assert_eq!(review["status"]["evaluationError"], "there is more than can be listed");
}
const MANY: usize = 5_001;

#[test]
fn a_list_that_is_not_understood_is_no_list() {
    for theirs in [
        &b""[..],
        b"{",
        b"{}",
        br#"{"kind":"SelfSubjectRulesReview"}"#,
        br#"{"kind":"Status","status":{}}"#,
        br#"{"kind":"SelfSubjectRulesReview","status":{"resourceRules":[{"verbs":"get"}]}}"#,
        b"k8s\0",
    ] {
        let refused = cut("ann", "shop").answer(Theirs::Whole(theirs)).unwrap_err();
        assert_eq!(refused.status.code, 500, "{theirs:?}");
    }
    let nothing = br#"{"kind":"SelfSubjectRulesReview","status":{"resourceRules":null,"nonResourceRules":null,"incomplete":false}}"#;
    assert!(cut("ann", "shop").answer(Theirs::Whole(nothing)).is_ok());
}

#[test]
fn whose_list_is_not_cut() {
    for (who, body) in
        [("root", r#"{"spec":{"namespace":"shop"}}"#), ("ann", "{}"), ("ann", r#"{"spec":{"namespace":""}}"#)]
    {
        let review = ask(&authz(Explain::Own), who, RULES, body);
        assert!(matches!(review, Ok(Review::Pass)), "{who} {body}: {review:?}");
    }
}

#[test]
fn a_list_is_asked_for_in_json() {
    let mut sent =
        headers(&[("accept", PROTOBUF), ("accept-encoding", "gzip"), ("if-none-match", "*"), ("x", "y")]);
    sent.append("accept", HeaderValue::from_static("text/html"));
    Cut::ask(&mut sent);
    assert_eq!(sent, headers(&[("accept", "application/json"), ("x", "y")]));
}

#[test]
fn a_list_in_protobuf() {
    let body = Envelope { raw: b"\x12\x06\x0a\x04shop", ..Envelope::default() }.write();
    let sent = headers(&[("content-type", PROTOBUF), ("accept", PROTOBUF)]);
    let review = authz(Explain::Own).review_of(&user("ann"), &info("POST", RULES), None, &sent, &body);
    let Ok(Review::Cut(cut)) = review else { panic!("{review:?}") };
    assert!(cut.ours().iter().any(|rule: &Arc<Rule>| rule.verbs == ["*"]), "{cut:?}");
    let theirs = [
        json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["x"]}),
        json!({"verbs": ["get"], "nonResourceURLs": ["/healthz"]}),
    ];
    let answer = cut.answer(Theirs::Whole(&list(&theirs, true, "e"))).unwrap();
    let limits = crate::codec::protobuf::Limits { bytes: 1 << 20, depth: 8 };
    let raw = Envelope::read(&answer.body, limits).unwrap().raw.to_vec();
    assert_eq!(
        raw,
        b"\n\0\x12\0\x1a\x28\n\x10\n\x03get\x12\0\x1a\x04pods\x22\x01x\x12\x0f\n\x03get\x12\x08/healthz\x18\x01\x22\x01e"
    );
}

proptest! {
    #[test]
    fn never_panics(body in prop::collection::vec(any::<u8>(), 0..200), media in 0usize..3) {
        let media = ["application/json", "application/yaml", PROTOBUF][media];
        let sent = headers(&[("content-type", media)]);
        for path in [ACCESS, RULES, SUBJECT] {
            for body in [&body[..], &[b"k8s\0\x12", &body[..]].concat()] {
                let _ = authz(Explain::Off).review_of(&user("ann"), &info("POST", path), None, &sent, body);
            }
        }
        let _ = cut("ann", "shop").answer(Theirs::Whole(&body));
    }
}
