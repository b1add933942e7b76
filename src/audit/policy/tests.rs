use super::*;
use crate::request::{RequestInfo, Target};
use http::Method;

/// A policy of one rule at level Metadata, and what a request makes of it.
fn matches(rule: &str, user: Option<(&str, &[&str])>, method: &str, target: &str) -> bool {
    let policy = Policy::parse(&format!(
        "{{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{{level: Metadata, {rule}}}]}}"
    ))
    .unwrap_or_else(|e| panic!("{rule}: {e}"));
    ask(&policy, user, method, target).level == Level::Metadata
}

fn ask(policy: &Policy, user: Option<(&str, &[&str])>, method: &str, target: &str) -> Verdict {
    let target = Target::parse(target).unwrap();
    let info = RequestInfo::parse(&Method::from_bytes(method.as_bytes()).unwrap(), &target).unwrap();
    let groups: Vec<String> =
        user.map(|(_, groups)| groups.iter().map(|g| (*g).to_owned()).collect()).unwrap_or_default();
    let attributes = info.attributes();
    policy.evaluate(&Question {
        user: user.map(|(name, _)| (name, groups.as_slice())),
        verb: attributes.verb,
        object: attributes.object,
    })
}

const ALICE: Option<(&str, &[&str])> = Some(("alice", &["dev", "system:authenticated"]));

macro_rules! rows {
    ($($rule:literal $method:ident $target:literal => $want:literal)*) => {
        $(assert_eq!(matches($rule, ALICE, stringify!($method), $target), $want, "{} {}", $rule, $target);)*
    };
}

#[test]
fn rules_match_as_in_kubernetes() {
    rows! {
        "resources: [{group: ''}]" GET "/api/v1/namespaces/a/pods/p/log" => true
        "resources: [{group: ''}]" GET "/apis/apps/v1/deployments" => false
        "resources: [{group: '', resources: [pods]}]" GET "/api/v1/namespaces/a/pods/p" => true
        "resources: [{group: '', resources: [pods]}]" GET "/api/v1/namespaces/a/pods/p/log" => false
        "resources: [{group: '', resources: [pods]}]" GET "/api/v1/namespaces/a/pods/p/status" => false
        "resources: [{group: '', resources: [pods]}]" POST "/api/v1/namespaces/a/pods/p/exec" => false
        "resources: [{group: '', resources: [pods/log]}]" GET "/api/v1/namespaces/a/pods/p/log" => true
        "resources: [{group: '', resources: [pods/log]}]" GET "/api/v1/namespaces/a/pods/p" => false
        "resources: [{group: '', resources: ['*']}]" GET "/api/v1/namespaces/a/pods/p/log" => true
        "resources: [{group: '*', resources: ['*/scale']}]" GET "/apis/apps/v1/namespaces/a/deployments/d/scale" => true
        "resources: [{group: '*', resources: ['*/scale']}]" GET "/apis/apps/v1/namespaces/a/deployments/d" => false
        "resources: [{group: '', resources: ['pods/*']}]" GET "/api/v1/namespaces/a/pods/p/log" => true
        "resources: [{group: '', resources: ['pods/*']}]" GET "/api/v1/namespaces/a/pods/p" => true
        "resources: [{group: '', resources: ['*/*']}]" GET "/api/v1/namespaces/a/pods/p/log" => false
        "resources: [{group: '', resources: ['*/*']}]" GET "/api/v1/namespaces/a/pods/p" => false
        "resources: [{group: '', resources: [secrets], resourceNames: [a]}]" GET "/api/v1/namespaces/x/secrets" => false
        "resources: [{group: '', resources: [secrets], resourceNames: [a]}]" GET "/api/v1/namespaces/x/secrets?fieldSelector=metadata.name%3Da" => true
        "resources: [{group: '', resources: [secrets], resourceNames: [a]}]" GET "/api/v1/namespaces/x/secrets?watch=1&fieldSelector=metadata.name%3Da" => true
        "resources: [{group: '', resources: [secrets], resourceNames: [a]}]" DELETE "/api/v1/namespaces/x/secrets?fieldSelector=metadata.name%3Da" => false
        "resources: [{group: '', resources: [secrets], resourceNames: [a]}]" GET "/api/v1/namespaces/x/secrets/a" => true
        "resources: [{group: '', resources: [secrets], resourceNames: [a]}]" GET "/api/v1/namespaces/x/secrets/b" => false
        "resources: [{group: '', resources: [secrets], resourceNames: [a]}]" POST "/api/v1/namespaces/x/secrets" => false
        "resources: [{group: '*'}]" GET "/apis/unknown.example/v1/foos" => true
        "resources: [{group: '*'}]" GET "/healthz" => false
        "namespaces: ['']" GET "/api/v1/nodes" => true
        "namespaces: ['']" GET "/api/v1/pods" => true
        "namespaces: ['']" GET "/api/v1/namespaces/foo" => false
        "namespaces: ['']" GET "/healthz" => false
        "namespaces: [kube-system]" GET "/api/v1/namespaces/kube-system/pods" => true
        "namespaces: [kube-system]" GET "/api/v1/namespaces/kube-system" => true
        "namespaces: [kube-system]" GET "/api/v1/namespaces/default/pods" => false
        "namespaces: [kube-system]" GET "/version" => false
        "namespaces: [a], resources: [{group: '', resources: [pods]}]" GET "/api/v1/namespaces/b/pods" => false
        "namespaces: [a], resources: [{group: '', resources: [pods]}]" GET "/api/v1/namespaces/a/pods" => true
        "nonResourceURLs: ['/healthz*']" GET "/healthz/etcd" => true
        "nonResourceURLs: ['/healthz*']" GET "/healthzfoo" => true
        "nonResourceURLs: ['/api/*']" GET "/api" => false
        "nonResourceURLs: ['*']" GET "/anything" => true
        "nonResourceURLs: ['*']" GET "/api/v1/pods" => false
        "nonResourceURLs: ['/version']" GET "/version" => true
        "nonResourceURLs: ['/version']" GET "/versions" => false
        "verbs: ['*']" GET "/api/v1/pods" => false
        "verbs: [get]" GET "/metrics" => true
        "verbs: [list]" GET "/api/v1/pods" => true
        "verbs: [get]" GET "/api/v1/pods" => false
        "verbs: [watch]" GET "/api/v1/pods?watch=1" => true
        "users: [alice]" GET "/api/v1/pods" => true
        "users: [ALICE]" GET "/api/v1/pods" => false
        "users: [bob]" GET "/api/v1/pods" => false
        "userGroups: [ops, dev]" GET "/api/v1/pods" => true
        "userGroups: [ops]" GET "/api/v1/pods" => false
        "users: [alice], userGroups: [ops]" GET "/api/v1/pods" => false
        "users: []" GET "/api/v1/pods" => true
    }
}

#[test]
fn nobody_matches_no_rule_about_users() {
    for (rule, want) in [
        ("users: [alice]", false),
        ("users: ['']", false),
        ("userGroups: ['']", false),
        ("verbs: [list]", true),
    ] {
        assert_eq!(matches(rule, None, "GET", "/api/v1/pods"), want, "{rule}");
    }
}

#[test]
fn stages_are_the_union_and_managed_fields_the_nearer() {
    let policy = Policy::parse(
        "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- {level: None, verbs: [get], omitStages: [Panic]}
- {level: Request, verbs: [list], omitStages: [Panic], omitManagedFields: false}
- {level: Metadata, verbs: [create]}",
    )
    .unwrap();
    let row = |method, target| {
        let v = ask(&policy, ALICE, method, target);
        (v.level, v.omit_stages.iter().collect::<Vec<_>>(), v.omit_managed_fields)
    };
    use Stage::{Panic, RequestReceived};
    assert_eq!(row("GET", "/version"), (Level::None, vec![RequestReceived, Panic], true));
    assert_eq!(row("GET", "/api/v1/pods"), (Level::Request, vec![RequestReceived, Panic], false));
    assert_eq!(row("POST", "/api/v1/namespaces"), (Level::Metadata, vec![RequestReceived], true));
    assert_eq!(row("PUT", "/api/v1/namespaces/x"), (Level::None, vec![RequestReceived], true));
}

#[test]
fn every_fault_is_told_with_its_place() {
    let text = "apiVersion: audit.k8s.io/v1beta1
kind: Policy
omitStages: [Nope]
rules:
- {level: Metadata, verb: [get]}
- {level: Everything, nonResourceURLs: [x, '/a*b'], resources: [{group: apps/v1, resourceNames: [q]}, {groups: ['']}]}
- {users: alice, namespaces: [1], omitManagedFields: 'yes'}
";
    let want = [
        "apiVersion: expected \"audit.k8s.io/v1\"",
        "omitStages[0]: expected one of RequestReceived, ResponseStarted, ResponseComplete, Panic, found \"Nope\"",
        "rules[0].verb: unknown field, expected one of level, users, userGroups, verbs, resources, namespaces, nonResourceURLs, omitStages, omitManagedFields",
        "rules[1].level: expected one of None, Metadata, Request, RequestResponse, found \"Everything\"",
        "rules[1].resources[0].group: expected \"\", \"*\" or an API group's name without a version, found \"apps/v1\"",
        "rules[1].resources[0].resourceNames: expected at least one item in resources beside it",
        "rules[1].resources[1].groups: unknown field, expected one of group, resources, resourceNames",
        "rules[1].nonResourceURLs: a rule is either about resources and namespaces or about other URLs",
        "rules[1].nonResourceURLs[0]: expected \"*\" or a path that begins with \"/\"",
        "rules[1].nonResourceURLs[1]: \"*\" may only be the last character",
        "rules[2].level: required",
        "rules[2].namespaces[0]: expected a string",
        "rules[2].omitManagedFields: expected true or false",
        "rules[2].users: expected a list",
    ];
    assert_eq!(Policy::parse(text).unwrap_err().0, want);
    assert_eq!(Policy::parse("").unwrap_err().0, ["the policy is empty"]);
    assert_eq!(
        Policy::parse("{apiVersion: audit.k8s.io/v1, kind: Policy}").unwrap_err().0,
        ["rules: expected at least one rule"]
    );
    assert_eq!(Policy::parse("a: [").unwrap_err().0.len(), 1);
    let two = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None}]\n---\nkind: Policy\n";
    assert_eq!(Policy::parse(two).unwrap_err().0, ["line 5: expected one document, found a second"]);
}

#[test]
fn the_shipped_policies_decide_as_they_say() {
    for (name, text) in SHIPPED {
        Policy::parse(text).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let person: Option<(&str, &[&str])> = Some(("jane", &["dev", "system:authenticated"]));
    let node: Option<(&str, &[&str])> = Some(("system:node:n1", &["system:nodes", "system:authenticated"]));
    let anonymous: Option<(&str, &[&str])> = Some(("system:anonymous", &["system:unauthenticated"]));
    let scheduler: Option<(&str, &[&str])> = Some(("system:kube-scheduler", &["system:authenticated"]));
    use Level::{Metadata, None as Nothing, Request, RequestResponse};
    // Who asks what => the recommended level, and whether a first event is written.
    let rows = [
        (person, "GET", "/healthz", Nothing, true),
        (person, "GET", "/livez/ping", Nothing, true),
        (person, "GET", "/readyz?verbose", Nothing, true),
        (anonymous, "GET", "/healthz", Nothing, true),
        (None, "GET", "/healthz", Metadata, false),
        (None, "GET", "/api/v1/namespaces/a/secrets", Metadata, true),
        (None, "POST", "/api/v1/namespaces/a/pods", Request, true),
        (person, "GET", "/openapi/v3", Nothing, true),
        (person, "GET", "/apis/apps/v1", Nothing, true),
        (person, "GET", "/metrics", Metadata, false),
        (node, "PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1", Nothing, true),
        (scheduler, "PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/s", Nothing, true),
        (person, "PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/s", Request, true),
        (node, "POST", "/api/v1/namespaces/a/events", Nothing, true),
        (node, "POST", "/apis/events.k8s.io/v1/namespaces/a/events", Nothing, true),
        (person, "DELETE", "/api/v1/namespaces/a/events", Request, true),
        (node, "GET", "/api/v1/nodes/n1", Nothing, true),
        (node, "PATCH", "/api/v1/nodes/n1/status", Metadata, false),
        (person, "PATCH", "/api/v1/nodes/n1/status", Request, true),
        (person, "GET", "/api/v1/namespaces/a/secrets/s", Metadata, true),
        (node, "GET", "/api/v1/namespaces/a/secrets/s", Metadata, true),
        (person, "POST", "/api/v1/namespaces/a/secrets", Metadata, true),
        (person, "PATCH", "/api/v1/namespaces/a/configmaps/c", Metadata, true),
        (person, "POST", "/api/v1/namespaces/a/serviceaccounts/default/token", Metadata, true),
        (person, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", Metadata, true),
        (person, "PUT", "/apis/certificates.k8s.io/v1/certificatesigningrequests/c/approval", Metadata, true),
        (person, "POST", "/apis/bitnami.com/v1alpha1/namespaces/a/sealedsecrets", Metadata, true),
        (person, "POST", "/apis/cert-manager.io/v1/namespaces/a/certificates", Metadata, true),
        (person, "POST", "/api/v1/namespaces/a/pods/p/exec?command=id", Metadata, true),
        (person, "GET", "/api/v1/namespaces/a/pods/p/exec?command=id", Metadata, true),
        (person, "GET", "/api/v1/namespaces/a/pods/p/log", Metadata, true),
        (person, "GET", "/api/v1/namespaces/a/pods", Metadata, false),
        (person, "GET", "/api/v1/pods?watch=1", Metadata, false),
        (person, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", Metadata, false),
        (person, "POST", "/api/v1/namespaces/a/pods", Request, true),
        (person, "DELETE", "/api/v1/namespaces/a/pods/p", Request, true),
        (person, "DELETE", "/apis/apps/v1/namespaces/a/deployments", Request, true),
        (person, "PATCH", "/apis/example.com/v1/namespaces/a/widgets/w", Request, true),
        (person, "POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", RequestResponse, true),
        (
            person,
            "DELETE",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/x",
            RequestResponse,
            true,
        ),
        (person, "PATCH", "/api/v1/namespaces/a/pods/p/ephemeralcontainers", RequestResponse, true),
        (person, "POST", "/x", Metadata, true),
    ];
    let recommended = Policy::shipped("recommended").unwrap();
    for (user, method, target, level, first) in rows {
        let verdict = ask(&recommended, user, method, target);
        let at = format!("{user:?} {method} {target}");
        assert_eq!(verdict.level, level, "{at}");
        if level != Nothing {
            assert_eq!(!verdict.omit_stages.contains(Stage::RequestReceived), first, "{at}");
            assert!(verdict.omit_managed_fields, "{at}");
        }
        assert!(!verdict.omit_stages.contains(Stage::ResponseStarted), "a 401 is this stage");
        let metadata = ask(&Policy::shipped("metadata").unwrap(), user, method, target);
        assert_eq!(metadata.level, Metadata, "{at}");
        let read = method == "GET" && !target.contains("/exec");
        assert_eq!(metadata.omit_stages.contains(Stage::RequestReceived), read, "{at}");
        assert!(!metadata.omit_stages.contains(Stage::ResponseStarted), "{at}");
        let everything = ask(&Policy::shipped("everything").unwrap(), user, method, target);
        assert_eq!((everything.level, everything.omit_stages), (RequestResponse, Stages::EMPTY), "{at}");
    }
    assert!(Policy::shipped("no such").is_none());
}
