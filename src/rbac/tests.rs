//! The tables of the RBAC reference, row by row, and the index held against the plain reading of the rules.

use super::*;
use crate::request::{Attributes, Object};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc};

// --- one rule against one request ---------------------------------------------------------------------------

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|&s| s.to_owned()).collect()
}

fn resources(resources: &[&str]) -> Rule {
    Rule { verbs: words(&["get"]), api_groups: words(&[""]), resources: words(resources), ..Rule::default() }
}

fn urls(urls: &[&str]) -> Rule {
    Rule { verbs: words(&["get"]), non_resource_urls: words(urls), ..Rule::default() }
}

fn resource<'a>(verb: &'a str, namespace: &'a str, what: &'a str, name: &'a str) -> Attributes<'a> {
    let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    Attributes {
        verb,
        object: Object::Resource { group, version: "v1", resource, subresource, namespace, name },
    }
}

fn path<'a>(verb: &'a str, path: &'a str) -> Attributes<'a> {
    Attributes { verb, object: Object::Path(path) }
}

fn place() -> Place {
    Place { file: "test".into(), document: 1, line: 1 }
}

/// The answer of the rule itself, and of an index in which user `u` holds nothing else: they must be one.
fn allows(rule: &Rule, asked: Attributes<'_>) -> bool {
    let name = RoleName { namespace: None, name: "r".into() };
    let role = Role {
        name: name.clone(),
        labels: BTreeMap::new(),
        rules: vec![Arc::new(rule.clone())],
        aggregation: None,
        place: place(),
    };
    let binding = Binding {
        name: Arc::new(BindingName { namespace: None, name: "b".into(), role: name }),
        subjects: vec![Subject::User("u".into())],
        place: place(),
    };
    let rules = Rules::new(Objects { roles: vec![role], bindings: vec![binding] });
    let indexed = rules.decide("u", &[], asked) != Decision::Deny;
    assert_eq!(rule.allows(asked), indexed, "{rule:?} {asked:?}");
    indexed
}

/// `rule: yes request, … ; no request, …`
macro_rules! rule {
    ($rule:expr; $(yes $yes:expr),* ; $(no $no:expr),*) => {{
        let rule = $rule;
        $(assert!(allows(&rule, $yes), "{rule:?} should allow {:?}", $yes);)*
        $(assert!(!allows(&rule, $no), "{rule:?} should not allow {:?}", $no);)*
    }};
}

#[test]
fn a_rule_matches_resources_exactly() {
    let get = |what| resource("get", "ns", what, "x");
    rule!(resources(&["pods"]); yes get("pods"); no get("pods/log"));
    rule!(resources(&["pods/log"]); yes get("pods/log"); no get("pods"));
    rule!(resources(&["*"]); yes get("pods/log"), yes get("pods"), yes get(""); no path("get", "/api"));
    rule!(resources(&["*/log"]); yes get("pods/log"), yes get("x/log"); no get("pods"), no get("pods/xlog"), no get("log"));
    rule!(resources(&["*/*"]); ; no get("pods/log"), no get("pods"));
    rule!(resources(&["pods/*"]); yes get("pods/*"); no get("pods/log"), no get("pods"));
    rule!(resources(&["*/a/b"]); yes get("userextras/a/b"); no get("userextras/a"), no get("userextras/b"));
    rule!(resources(&["userextras/a/b"]); yes get("userextras/a/b"); no get("userextras/a"));
    rule!(resources(&["Pods"]); ; no get("pods"));
    rule!(resources(&["pod*"]); ; no get("pods"));
    rule!(resources(&[]); ; no get("pods"), no get(""));
    rule!(resources(&["pods", "pods/log"]); yes get("pods"), yes get("pods/log"); no get("pods/exec"));
    // A namespace is an object of its own, and so is each of its subresources.
    rule!(resources(&["namespaces"]); yes get("namespaces"); no get("namespaces/status"), no get("namespaces/finalize"));
    rule!(resources(&["services"]); ; no get("services/proxy"));
    let long = format!("pods/{}", "x".repeat(300));
    rule!(resources(&[&long]); yes get(&long); no get("pods"));
}

#[test]
fn a_rule_matches_names_verbs_and_groups_exactly() {
    let get = |name| resource("get", "ns", "pods", name);
    let named = |names| Rule { resource_names: words(names), ..resources(&["pods"]) };
    rule!(named(&["x"]); yes get("x"); no get("y"), no get(""));
    rule!(named(&["*"]); ; no get("x"), no get(""));
    rule!(named(&[""]); yes get(""); no get("x"));
    rule!(named(&["b", "a", "c"]); yes get("a"), yes get("b"), yes get("c"); no get("d"));

    let verbs = |verbs| Rule { verbs: words(verbs), ..resources(&["pods"]) };
    rule!(verbs(&["*"]); yes resource("", "ns", "pods", "x"), yes resource("impersonate", "", "pods", ""); no path("get", "/"));
    rule!(verbs(&["get"]); ; no resource("", "ns", "pods", "x"), no resource("*", "ns", "pods", "x"));
    rule!(verbs(&["GET"]); ; no get("x"));
    rule!(verbs(&["get*"]); ; no get("x"));
    rule!(verbs(&["list", "get"]); yes get("x"); no resource("watch", "ns", "pods", "x"));
    rule!(verbs(&[""]); yes resource("", "ns", "pods", "x"); no get("x"));

    let groups = |groups| Rule { api_groups: words(groups), ..resources(&["pods"]) };
    rule!(groups(&[]); ; no get("x"));
    rule!(groups(&["*"]); yes get("x"), yes resource("get", "", "pods.apps", ""); no resource("get", "", "deployments.apps", ""));
    rule!(groups(&["apps"]); yes resource("get", "", "pods.apps", ""); no get("x"));
    rule!(groups(&["", "apps"]); yes resource("get", "", "pods.apps", ""), yes get("x"); no resource("get", "", "pods.batch", ""));

    let all = Rule { verbs: words(&["*"]), api_groups: words(&["*"]), ..resources(&["*"]) };
    rule!(all; yes get("x"), yes resource("", "", "x.y/z", "n"); no path("get", "/api"));
}

#[test]
fn a_rule_matches_paths() {
    let get = |p| path("get", p);
    rule!(urls(&["*"]); yes get("/"), yes get("/api"), yes get("*"); no resource("get", "ns", "pods", ""));
    rule!(urls(&["/foo"]); yes get("/foo"); no get("/foo/"), no get("/"), no get("/foobar"));
    rule!(urls(&["/foo*"]); yes get("/foo"), yes get("/foobar/x"), yes get("/foo*"); no get("/fo"));
    rule!(urls(&["/foo/*"]); yes get("/foo/"), yes get("/foo/a/b"); no get("/foo"));
    rule!(urls(&["/foo**"]); yes get("/foox"); no get("/x"));
    rule!(urls(&["**"]); yes get("/x"); );
    rule!(urls(&["/*"]); yes get("/x"); no get("*"));
    rule!(urls(&["*/x"]); ; no get("/a/x"));
    rule!(urls(&["/a*b"]); yes get("/a*b"); no get("/aXb"));
    rule!(urls(&["/a*b*"]); yes get("/a*bY"); no get("/aXbY"));
    rule!(urls(&["/foo*"]); ; no path("head", "/foo"), no path("post", "/foo"));
    rule!(Rule { verbs: words(&["*"]), ..urls(&["/foo"]) }; yes path("post", "/foo"), yes path("foo", "/foo"); no get("/"));
    rule!(Rule { verbs: words(&["*"]), ..urls(&["pods"]) }; ; no resource("get", "", "pods", ""));
}

#[test]
fn a_rule_with_names_and_verbs_without() {
    let only = Rule {
        verbs: words(&["*"]),
        resource_names: words(&["only"]),
        ..resources(&["configmaps", "pods/exec"])
    };
    let configmaps = |verb, name| resource(verb, "ns", "configmaps", name);
    rule!(only; yes configmaps("get", "only"), yes configmaps("list", "only"), yes configmaps("watch", "only"),
        yes resource("create", "ns", "pods/exec", "only");
        no configmaps("get", "other"), no configmaps("list", ""), no configmaps("deletecollection", ""), no configmaps("create", ""));
}

// --- which rules apply to whom, and where -------------------------------------------------------------------

fn load(text: &str) -> Rules {
    let (mut objects, mut problems) = (Objects::default(), Vec::new());
    read("test.yaml", text, &mut objects, &mut problems);
    assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
    Rules::new(objects)
}

fn groups(list: &[&str]) -> Vec<String> {
    words(list)
}

/// `rules, user, [groups], request`
macro_rules! allow {
    ($rules:expr, $user:expr, [$($group:expr),*], $asked:expr) => {{
        let groups = groups(&[$($group),*]);
        assert_ne!($rules.decide($user, &groups, $asked), Decision::Deny, "{} {:?}", $user, $asked);
    }};
}
macro_rules! deny {
    ($rules:expr, $user:expr, [$($group:expr),*], $asked:expr) => {{
        let groups = groups(&[$($group),*]);
        assert_eq!($rules.decide($user, &groups, $asked), Decision::Deny, "{} {:?}", $user, $asked);
    }};
}

const OBJECTS: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: all}
rules:
- {verbs: ["*"], apiGroups: ["*"], resources: ["*"]}
- {verbs: ["*"], nonResourceURLs: ["*"]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: alls, namespace: ns1}
subjects: [{kind: User, name: owner, apiGroup: rbac.authorization.k8s.io}, {kind: ServiceAccount, name: a}]
roleRef: {kind: ClusterRole, name: all, apiGroup: rbac.authorization.k8s.io}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: x}
rules: [{verbs: [get], apiGroups: [""], resources: [namespaces, pods]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: readers, namespace: x}
subjects:
- {kind: Group, name: dev}
- {kind: ServiceAccount, name: b, namespace: yy}
- {kind: User, name: "*"}
- {kind: Group, name: "*"}
- {kind: User, name: "system:serviceaccount:z:c"}
roleRef: {kind: Role, name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: readers, namespace: elsewhere}
subjects: [{kind: Group, name: dev}]
roleRef: {kind: Role, name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: ghosts}
subjects: [{kind: Group, name: dev}, {kind: User, name: ghost}]
roleRef: {kind: ClusterRole, name: nonexistent}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: version}
rules: [{verbs: [get], nonResourceURLs: [/version]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: everybody}
subjects: [{kind: Group, name: "system:authenticated"}, {kind: Group, name: "system:unauthenticated"}, {kind: ServiceAccount, name: d, namespace: ns}]
roleRef: {kind: ClusterRole, name: version}
"#;

#[test]
fn bindings_reach_as_far_as_they_stand() {
    let rules = load(OBJECTS);
    // A RoleBinding limits a ClusterRole to its namespace, and its paths to nothing.
    allow!(rules, "owner", [], resource("get", "ns1", "pods", "p"));
    deny!(rules, "owner", [], resource("get", "ns2", "pods", "p"));
    deny!(rules, "owner", [], resource("get", "", "nodes", "n"));
    deny!(rules, "owner", [], resource("list", "", "pods", ""));
    deny!(rules, "owner", [], path("get", "/healthz"));
    // The namespace object carries its own name as namespace.
    allow!(rules, "u", ["dev"], resource("get", "x", "namespaces", "x"));
    deny!(rules, "u", ["dev"], resource("list", "", "namespaces", ""));
    // A Role is the one of the binding's own namespace.
    deny!(rules, "u", ["dev"], resource("get", "elsewhere", "pods", "p"));
    allow!(rules, "u", ["dev"], resource("get", "x", "pods", "p"));
    // ClusterRoleBindings reach paths; users without a name in any binding come by their groups.
    allow!(rules, "system:anonymous", ["system:unauthenticated"], path("get", "/version"));
    allow!(rules, "bob", ["a", "system:authenticated", "b"], path("get", "/version"));
    deny!(rules, "bob", [], path("get", "/version"));
}

#[test]
fn subjects_are_matched_exactly() {
    let rules = load(OBJECTS);
    let pod = resource("get", "x", "pods", "p");
    // The kinds are kept apart.
    deny!(rules, "dev", [], pod);
    deny!(rules, "u", ["owner"], resource("get", "ns1", "pods", "p"));
    // A star is a name like any other.
    deny!(rules, "u", ["g"], pod);
    allow!(rules, "*", [], pod);
    allow!(rules, "u", ["*"], pod);
    deny!(rules, "", [""], pod);
    deny!(rules, "Owner", ["Dev"], resource("get", "ns1", "pods", "p"));
    // ServiceAccounts: their own namespace, or the binding's, and never another's (CVE-2023-46254).
    allow!(rules, "system:serviceaccount:ns1:a", [], resource("get", "ns1", "pods", "p"));
    deny!(rules, "system:serviceaccount:ns2:a", [], resource("get", "ns1", "pods", "p"));
    deny!(rules, "a", [], resource("get", "ns1", "pods", "p"));
    allow!(rules, "system:serviceaccount:yy:b", [], pod);
    deny!(rules, "system:serviceaccount:x:b", [], pod);
    allow!(rules, "system:serviceaccount:ns:d", [], path("get", "/version"));
    // A ServiceAccount named as a user.
    allow!(rules, "system:serviceaccount:z:c", [], pod);
}

#[test]
fn missing_roles_matter_only_to_denials() {
    let rules = load(OBJECTS);
    allow!(rules, "ghost", ["dev"], resource("get", "x", "pods", "p"));
    let missing = |user, list: &[&str], asked| rules.missing(user, &groups(list), asked).to_string();
    let pods = resource("list", "", "pods", "");
    assert_eq!(
        missing("ghost", &[], pods),
        r#"RBAC: clusterrole.rbac.authorization.k8s.io "nonexistent" not found"#
    );
    assert_eq!(
        missing("ghost", &["dev"], pods),
        r#"RBAC: clusterrole.rbac.authorization.k8s.io "nonexistent" not found"#
    );
    assert_eq!(
        missing("u", &["dev"], resource("get", "elsewhere", "pods", "p")),
        r#"RBAC: [clusterrole.rbac.authorization.k8s.io "nonexistent" not found, role.rbac.authorization.k8s.io "reader" not found]"#
    );
    assert_eq!(missing("owner", &[], pods), "");
    assert_eq!(missing("nobody", &["system:authenticated"], path("get", "/x")), "");
}

#[test]
fn grounds_are_told_in_kubernetes_words() {
    let rules = load(OBJECTS);
    let why = |user, list: &[&str], asked| match rules.decide(user, &groups(list), asked) {
        Decision::Allow(grounds) => grounds.to_string(),
        Decision::Deny => panic!("{user} {asked:?}"),
    };
    let version = path("get", "/version");
    assert_eq!(
        why("bob", &["system:authenticated"], version),
        r#"RBAC: allowed by ClusterRoleBinding "everybody" of ClusterRole "version" to Group "system:authenticated""#
    );
    assert_eq!(
        why("owner", &[], resource("get", "ns1", "pods", "p")),
        r#"RBAC: allowed by RoleBinding "alls/ns1" of ClusterRole "all" to User "owner""#
    );
    assert_eq!(
        why("system:serviceaccount:yy:b", &[], resource("get", "x", "pods", "p")),
        r#"RBAC: allowed by RoleBinding "readers/x" of Role "reader" to ServiceAccount "b/yy""#
    );
    assert_eq!(
        why("system:serviceaccount:z:c", &[], resource("get", "x", "pods", "p")),
        r#"RBAC: allowed by RoleBinding "readers/x" of Role "reader" to User "system:serviceaccount:z:c""#
    );
    // Names may hold nearly anything; Go quotes what is not printable.
    let odd = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: \"a\\\"\\n\"}\nrules: [{verbs: [get], nonResourceURLs: [/]}]\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: b}\nsubjects: [{kind: User, name: \"\\e\"}]\nroleRef: {kind: ClusterRole, name: \"a\\\"\\n\"}";
    let Decision::Allow(grounds) = load(odd).decide("\u{1b}", &[], path("get", "/")) else { panic!() };
    assert_eq!(
        grounds.to_string(),
        r#"RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "a\"\n" to User "\x1b""#
    );
    let Decision::Allow(grounds) = rules.decide("owner", &[], resource("get", "ns1", "pods", "p")) else {
        panic!()
    };
    assert_eq!((grounds.rule, grounds.binding.to_string().as_str()), (0, "RoleBinding ns1/alls"));
}

// --- why not ------------------------------------------------------------------------------------------------

#[test]
fn denials_name_what_came_nearest() {
    let rules = load(
        r#"
apiVersion: v1
kind: List
items:
- apiVersion: rbac.authorization.k8s.io/v1
  kind: Role
  metadata: {name: reader, namespace: dev}
  rules:
  - {verbs: [get], apiGroups: [""], resources: [pods]}
  - {verbs: [list, get], apiGroups: ["", apps], resources: [pods, deployments]}
  - {verbs: [get, update], apiGroups: [""], resources: [configmaps], resourceNames: [a, b]}
- apiVersion: rbac.authorization.k8s.io/v1
  kind: RoleBinding
  metadata: {name: readers, namespace: dev}
  subjects: [{kind: User, name: dora}]
  roleRef: {kind: Role, name: reader}
- apiVersion: rbac.authorization.k8s.io/v1
  kind: ClusterRole
  metadata: {name: "odd <name>"}
  rules: [{verbs: [get], nonResourceURLs: [/metrics, /debug/*]}]
- apiVersion: rbac.authorization.k8s.io/v1
  kind: ClusterRoleBinding
  metadata: {name: metrics}
  subjects: [{kind: User, name: dora}]
  roleRef: {kind: ClusterRole, name: "odd <name>"}
"#,
    );
    let why = |user: &str, asked| {
        assert_eq!(rules.decide(user, &[], asked), Decision::Deny, "{asked:?}");
        rules.nearest(user, &[], asked).text
    };
    let reader = |rest: &str| format!("Role dev/reader, bound by RoleBinding dev/readers, allows {rest}");
    let dora = |asked| why("dora", asked);
    assert_eq!(dora(resource("delete", "dev", "pods", "p")), reader("get, list on pods; not delete"));
    assert_eq!(dora(resource("get", "dev", "pods/log", "p")), reader("get on pods; not on pods/log"));
    assert_eq!(
        dora(resource("get", "dev", "deployments.extensions", "d")),
        reader("get on deployments in API group \"\", apps; not in extensions")
    );
    assert_eq!(
        dora(resource("get", "dev", "configmaps", "c")),
        reader("get on configmaps named a, b only; not c")
    );
    assert_eq!(
        dora(resource("update", "dev", "configmaps", "")),
        reader("update on configmaps named a, b only, and this names none")
    );
    assert_eq!(
        dora(resource("get", "prod", "pods", "p")),
        reader("get on pods in namespace dev only; not in prod")
    );
    assert_eq!(
        dora(resource("list", "", "pods", "")),
        reader("list on pods in namespace dev only; not at the cluster scope")
    );
    let odd = r#"ClusterRole "odd <name>", bound by ClusterRoleBinding metrics, allows"#;
    assert_eq!(dora(path("post", "/metrics")), format!("{odd} get on /metrics; not post"));
    assert_eq!(dora(path("put", "/debug/x y")), format!(r#"{odd} get on "/debug/x y"; not put"#));
    assert_eq!(
        dora(resource("get", "dev", "secrets", "s")),
        "no role bound to this user or its groups comes near it"
    );
    assert_eq!(
        dora(resource("delete", "prod", "pods", "p")),
        "no role bound to this user or its groups comes near it"
    );
    assert_eq!(
        why("nobody", resource("get", "dev", "pods", "p")),
        "no binding names this user or its groups"
    );
    // Long names do not make long answers.
    let name = "n".repeat(5000);
    assert!(dora(resource("get", "dev", "configmaps", &name)).len() < 420);
}

// --- aggregation --------------------------------------------------------------------------------------------

/// All of them, the nearest first; a user who is named twice hears it once.
#[test]
fn near_misses_are_told_in_order() {
    let rules = load(
        r#"
apiVersion: v1
kind: List
items:
- apiVersion: rbac.authorization.k8s.io/v1
  kind: ClusterRole
  metadata: {name: viewer}
  rules: [{verbs: [get], apiGroups: [""], resources: [pods]}]
- apiVersion: rbac.authorization.k8s.io/v1
  kind: ClusterRole
  metadata: {name: editor}
  rules: [{verbs: [delete], apiGroups: [""], resources: [pods]}]
- apiVersion: rbac.authorization.k8s.io/v1
  kind: Role
  metadata: {name: one, namespace: dev}
  rules: [{verbs: [delete], apiGroups: [""], resources: [pods], resourceNames: [a]}]
- apiVersion: rbac.authorization.k8s.io/v1
  kind: ClusterRoleBinding
  metadata: {name: viewers}
  subjects: [{kind: User, name: dora}, {kind: Group, name: devs}]
  roleRef: {kind: ClusterRole, name: viewer}
- apiVersion: rbac.authorization.k8s.io/v1
  kind: RoleBinding
  metadata: {name: editors, namespace: prod}
  subjects: [{kind: Group, name: devs}]
  roleRef: {kind: ClusterRole, name: editor}
- apiVersion: rbac.authorization.k8s.io/v1
  kind: RoleBinding
  metadata: {name: ones, namespace: dev}
  subjects: [{kind: User, name: dora}]
  roleRef: {kind: Role, name: one}
"#,
    );
    let asked = resource("delete", "dev", "pods", "b");
    let near = rules.near_misses("dora", &groups(&["devs"]), asked);
    let told: Vec<&str> = near.iter().map(|n| n.text.as_str()).collect();
    assert_eq!(
        told,
        [
            "Role dev/one, bound by RoleBinding dev/ones, allows delete on pods named a only; not b",
            "ClusterRole editor, bound by RoleBinding prod/editors, allows delete on pods in namespace prod only; not in dev",
            "ClusterRole viewer, bound by ClusterRoleBinding viewers, allows get on pods; not delete",
        ]
    );
    assert_eq!(near[0].binding.to_string(), "RoleBinding dev/ones");
    assert_eq!(told[0], rules.nearest("dora", &groups(&["devs"]), asked).text);
    assert!(rules.near_misses("eve", &[], asked).is_empty());
}

#[test]
fn aggregated_roles_are_computed() {
    let role = |name: &str, labels: &str, rest: &str| {
        format!(
            "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n{rest}\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: {name}}}\nsubjects: [{{kind: User, name: {name}}}]\nroleRef: {{kind: ClusterRole, name: {name}}}\n"
        )
    };
    let grants = |what: &str| format!("rules: [{{verbs: [get], apiGroups: [''], resources: [{what}]}}]");
    let select = |selectors: &str| format!("aggregationRule: {{clusterRoleSelectors: [{selectors}]}}");
    let rules = load(&[
        role("view-part", "to-view: 'true'", &grants("pods")),
        role("edit-part", "to-edit: 'true', tier: two", &grants("secrets")),
        role("admin-part", "to-admin: 'true'", &grants("roles")),
        // In an order in which one pass is not enough; hand-written rules do not count.
        role("admin", "", &(select("{matchLabels: {to-admin: 'true'}}") + "\n" + &grants("nodes"))),
        role("edit", "to-admin: 'true'", &select("{matchLabels: {to-edit: 'true'}}")),
        role("view", "to-edit: 'true'", &select("{matchLabels: {to-view: 'true'}}")),
        role("all", "", &select("{}")),
        role("either", "", &select("{matchLabels: {to-view: 'true'}}, {matchLabels: {to-admin: 'true', no: 'x'}}")),
        role("in", "", &select("{matchExpressions: [{key: tier, operator: In, values: [one, two]}]}")),
        role("not-in", "", &select("{matchExpressions: [{key: tier, operator: NotIn, values: [two]}, {key: to-edit, operator: Exists}]}")),
        role("lacks", "", &select("{matchExpressions: [{key: to-view, operator: DoesNotExist}, {key: tier, operator: Exists}]}")),
        // Itself and each other: nothing comes of nothing.
        role("self", "own: 'true'", &(select("{matchLabels: {own: 'true'}}") + "\n" + &grants("nodes"))),
        role("ping", "ping: 'true'", &(select("{matchLabels: {pong: 'true'}}") + "\n" + &grants("nodes"))),
        role("pong", "pong: 'true'", &(select("{matchLabels: {ping: 'true'}}") + "\n" + &grants("nodes"))),
        role("by-label-only", "to-view: 'false'", &grants("never")),
    ].concat());
    let holds = |user: &str| {
        let all = ["pods", "secrets", "roles", "nodes", "never"].into_iter();
        all.filter(|what| rules.decide(user, &[], resource("get", "n", what, "")) != Decision::Deny)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(holds("view"), "pods");
    assert_eq!(holds("edit"), "pods secrets");
    assert_eq!(holds("admin"), "pods secrets roles");
    assert_eq!(holds("all"), "pods secrets roles never");
    assert_eq!(holds("either"), "pods");
    assert_eq!(holds("in"), "secrets");
    assert_eq!(holds("not-in"), "pods");
    assert_eq!(holds("lacks"), "secrets");
    assert_eq!(holds("self"), "");
    assert_eq!((holds("ping"), holds("pong")), (String::new(), String::new()));
}

// --- reading ------------------------------------------------------------------------------------------------

/// The problems of a manifest whose apiVersion is added, without the place.
fn problems(text: &str) -> Vec<String> {
    let text = text.replace("V1", "apiVersion: rbac.authorization.k8s.io/v1");
    let (mut objects, mut problems) = (Objects::default(), Vec::new());
    read("f.yaml", &text, &mut objects, &mut problems);
    problems.extend(duplicates(&objects));
    problems.iter().map(|p| [p.object.as_str(), &p.field, &p.message].join(": ")).collect()
}

/// `manifest => problems`
macro_rules! bad {
    ($text:expr => $($problem:expr),+ $(,)?) => { assert_eq!(problems($text), [$($problem),+], "{}", $text) };
}
macro_rules! good {
    ($text:expr) => {
        assert_eq!(problems($text), [""; 0], "{}", $text)
    };
}

#[test]
fn good_manifests() {
    good!("");
    good!(
        "{V1, kind: ClusterRole, metadata: {name: 'system:x', uid: u, anything: [1]}, rules: null}"
            .replace("V1", "apiVersion: rbac.authorization.k8s.io/v1")
            .as_str()
    );
    good!("V1\nkind: ClusterRole\nmetadata: {name: a}");
    good!("V1\nkind: ClusterRole\nmetadata: {name: a}\nrules: [{verbs: [get], nonResourceURLs: [/x]}]");
    good!("V1\nkind: ClusterRole\nmetadata: {name: a}\naggregationRule: null");
    good!(
        "V1\nkind: Role\nmetadata: {name: a, namespace: ns}\nrules: [{verbs: [get], apiGroups: [''], resources: [pods], resourceNames: null}]"
    );
    good!(
        "V1\nkind: RoleBinding\nmetadata: {name: a, namespace: ns}\nroleRef: {kind: Role, name: r, apiGroup: rbac.authorization.k8s.io}"
    );
    good!(
        "V1\nkind: RoleBinding\nmetadata: {name: a, namespace: ns}\nsubjects: [{kind: User, name: u, namespace: ignored}]\nroleRef: {kind: Role, name: r}"
    );
    good!(
        "V1\nkind: ClusterRoleBinding\nmetadata: {name: a}\nsubjects: [{kind: ServiceAccount, apiGroup: '', name: a.b, namespace: ns}]\nroleRef: {kind: ClusterRole, name: r}"
    );
    good!(
        "V1\nkind: RoleList\nmetadata: {}\nitems: [{metadata: {name: a, namespace: ns}}, {metadata: {name: a, namespace: m}}]"
    );
    good!(
        "V1\nkind: ClusterRoleBindingList\nitems: [{metadata: {name: a}, roleRef: {kind: ClusterRole, name: r}}]"
    );
    good!(
        "apiVersion: v1\nkind: List\nitems: [{V1, kind: ClusterRole, metadata: {name: a}}]"
            .replace("{V1", "{apiVersion: rbac.authorization.k8s.io/v1")
            .as_str()
    );
    good!(
        "V1\nkind: Role\nmetadata: {name: a, namespace: ns}\n---\nV1\nkind: ClusterRole\nmetadata: {name: a}\n---\nV1\nkind: Role\nmetadata: {name: a, namespace: o}"
    );
}

#[test]
fn bad_objects() {
    bad!("[1]" => ": : expected an object, found a list");
    bad!("{}" => r#": : expected a Role, ClusterRole, RoleBinding or ClusterRoleBinding of rbac.authorization.k8s.io/v1, or a List of them; found kind "" of apiVersion """#);
    bad!("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}" => r#": : expected a Role, ClusterRole, RoleBinding or ClusterRoleBinding of rbac.authorization.k8s.io/v1, or a List of them; found kind "Namespace" of apiVersion "v1""#);
    assert!(
        problems("apiVersion: rbac.authorization.k8s.io/v1beta1\nkind: Role")[0]
            .contains("found kind \"Role\"")
    );
    assert!(problems("V1\nkind: role")[0].contains("found kind \"role\""));
    assert!(problems("apiVersion: v1\nkind: RoleList\nitems: []")[0].contains("found kind \"RoleList\""));
    bad!("V1\nkind: Role\nmetadata: {name: a}" => "Role \"\"/a: metadata.namespace: a Role needs a namespace");
    bad!("V1\nkind: RoleBinding\nmetadata: {name: a}\nroleRef: {kind: ClusterRole, name: r}" => "RoleBinding \"\"/a: metadata.namespace: a RoleBinding needs a namespace");
    bad!("V1\nkind: ClusterRole\nmetadata: {name: a, namespace: ns}" => "ClusterRole a: metadata.namespace: a ClusterRole has no namespace");
    bad!("V1\nkind: ClusterRole" => "ClusterRole: metadata.name: is missing");
    bad!("V1\nkind: ClusterRole\nmetadata: {name: a/b}" => "ClusterRole a/b: metadata.name: \"a/b\" cannot be a name: it may not be . or .., nor contain / or %");
    bad!("V1\nkind: Role\nmetadata: {name: a, namespace: Nn}" => "Role Nn/a: metadata.namespace: \"Nn\" is not a name that a namespace can have");
    bad!("V1\nkind: ClusterRole\nmetadata: {name: 1}" => "ClusterRole: metadata.name: expected a string, found a number");
    bad!("V1\nkind: ClusterRole\nmetadata: {name: a, labels: {x: true}}" => "ClusterRole a: metadata.labels.x: expected a string, found a boolean (unquoted y, n, yes, no, on and off are booleans)");
    bad!("V1\nkind: ClusterRole\nmetadata: {name: a}\nrule: []" => "ClusterRole a: rule: is not a field here; expected apiVersion, kind, metadata, rules, aggregationRule");
    bad!("V1\nkind: Role\nmetadata: {name: a, namespace: ns}\naggregationRule: {}" => "Role ns/a: aggregationRule: is not a field here; expected apiVersion, kind, metadata, rules");
    bad!("V1\nkind: ClusterRole\nmetadata: {name: a}\n---\nV1\nkind: ClusterRole\nmetadata: {name: a}" => "ClusterRole a: : is already defined in f.yaml: document 1, line 1");
    bad!("V1\nkind: RoleList\nitems: [{metadata: {name: a}}, 3]" => "Role \"\"/a: metadata.namespace: a Role needs a namespace", "items[1]: : expected an object, found a number");
}

#[test]
fn bad_rules() {
    let role =
        |rule: &str| problems(&format!("V1\nkind: ClusterRole\nmetadata: {{name: a}}\nrules: [{rule}]"));
    let own = |rule: &str| {
        problems(&format!("V1\nkind: Role\nmetadata: {{name: a, namespace: ns}}\nrules: [{rule}]"))
    };
    assert_eq!(
        role("{apiGroups: [''], resources: [pods]}"),
        ["ClusterRole a: rules[0].verbs: a rule needs at least one verb"]
    );
    assert_eq!(
        role("{verbs: [get], resources: [pods]}"),
        [
            "ClusterRole a: rules[0].apiGroups: a rule for resources needs at least one API group; \"\" is the core group"
        ]
    );
    assert_eq!(
        role("{verbs: [get], apiGroups: ['']}"),
        ["ClusterRole a: rules[0].resources: a rule needs at least one resource, or nonResourceURLs"]
    );
    assert_eq!(
        role("{verbs: [get], nonResourceURLs: [/x], resources: [pods]}"),
        [
            "ClusterRole a: rules[0].nonResourceURLs: one rule cannot grant both resources and paths; make it two"
        ]
    );
    assert_eq!(
        own("{verbs: [get], nonResourceURLs: [/x]}"),
        ["Role ns/a: rules[0].nonResourceURLs: a Role cannot grant paths; put them into a ClusterRole"]
    );
    assert_eq!(
        role("{verbs: get, apiGroups: [''], resources: [pods, 7]}"),
        [
            "ClusterRole a: rules[0].verbs: expected a list, found a string",
            "ClusterRole a: rules[0].resources[1]: expected a string, found a number",
            "ClusterRole a: rules[0].verbs: a rule needs at least one verb"
        ]
    );
    assert_eq!(
        role("{verbs: [get], apiGroups: [''], resource: [pods]}"),
        [
            "ClusterRole a: rules[0].resource: is not a field here; expected verbs, apiGroups, resources, resourceNames, nonResourceURLs",
            "ClusterRole a: rules[0].resources: a rule needs at least one resource, or nonResourceURLs"
        ]
    );
    assert_eq!(role("get"), ["ClusterRole a: rules[0]: expected an object, found a string"]);
    assert_eq!(
        problems("V1\nkind: ClusterRole\nmetadata: {name: a}\nrules: {}"),
        ["ClusterRole a: rules: expected a list, found an object"]
    );
}

#[test]
fn bad_bindings() {
    let crb = |rest: &str| problems(&format!("V1\nkind: ClusterRoleBinding\nmetadata: {{name: a}}\n{rest}"));
    let rb = |rest: &str| {
        problems(&format!("V1\nkind: RoleBinding\nmetadata: {{name: a, namespace: ns}}\n{rest}"))
    };
    let subject =
        |subject: &str| crb(&format!("subjects: [{subject}]\nroleRef: {{kind: ClusterRole, name: r}}"));
    assert_eq!(crb(""), ["ClusterRoleBinding a: roleRef: is missing"]);
    assert_eq!(
        crb("roleRef: {kind: Role, name: r}"),
        ["ClusterRoleBinding a: roleRef.kind: a ClusterRoleBinding can only refer to a ClusterRole"]
    );
    assert_eq!(
        crb("roleRef: {kind: X, name: r}"),
        ["ClusterRoleBinding a: roleRef.kind: expected ClusterRole, found \"X\""]
    );
    assert_eq!(
        rb("roleRef: {kind: X, name: r}"),
        ["RoleBinding ns/a: roleRef.kind: expected Role or ClusterRole, found \"X\""]
    );
    assert_eq!(rb("roleRef: {kind: Role}"), ["RoleBinding ns/a: roleRef.name: is missing"]);
    assert_eq!(
        rb("roleRef: {kind: Role, name: r, apiGroup: v1, namespace: ns}"),
        [
            "RoleBinding ns/a: roleRef.namespace: is not a field here; expected apiGroup, kind, name",
            "RoleBinding ns/a: roleRef.apiGroup: expected \"rbac.authorization.k8s.io\", found \"v1\""
        ]
    );
    assert_eq!(subject("{kind: User}"), ["ClusterRoleBinding a: subjects[0].name: is missing"]);
    assert_eq!(
        subject("{kind: user, name: u}"),
        ["ClusterRoleBinding a: subjects[0].kind: expected User, Group or ServiceAccount, found \"user\""]
    );
    assert_eq!(
        subject("{kind: User, name: u, apiGroup: v1}"),
        ["ClusterRoleBinding a: subjects[0].apiGroup: expected \"rbac.authorization.k8s.io\", found \"v1\""]
    );
    assert_eq!(
        subject("{kind: ServiceAccount, name: s, namespace: ns, apiGroup: rbac.authorization.k8s.io}"),
        ["ClusterRoleBinding a: subjects[0].apiGroup: expected \"\", found \"rbac.authorization.k8s.io\""]
    );
    assert_eq!(
        subject("{kind: ServiceAccount, name: s}"),
        [
            "ClusterRoleBinding a: subjects[0].namespace: a ServiceAccount in a ClusterRoleBinding needs its namespace"
        ]
    );
    assert_eq!(
        subject("{kind: ServiceAccount, name: 'a:b', namespace: ns}"),
        ["ClusterRoleBinding a: subjects[0].name: \"a:b\" is not a name that a ServiceAccount can have"]
    );
    assert_eq!(
        subject("{kind: ServiceAccount, name: b, namespace: 'n:a'}"),
        ["ClusterRoleBinding a: subjects[0].namespace: \"n:a\" is not a name that a namespace can have"]
    );
    assert_eq!(
        subject("{kind: User, name: u, group: g}"),
        [
            "ClusterRoleBinding a: subjects[0].group: is not a field here; expected kind, apiGroup, name, namespace"
        ]
    );
}

#[test]
fn bad_selectors() {
    let role = |rule: &str| {
        problems(&format!("V1\nkind: ClusterRole\nmetadata: {{name: a}}\naggregationRule: {rule}"))
    };
    let at = "ClusterRole a: aggregationRule.clusterRoleSelectors";
    assert_eq!(role("{}"), [format!("{at}: expected at least one selector")]);
    assert_eq!(role("[]"), ["ClusterRole a: aggregationRule: expected an object, found a list"]);
    let selector = |selector: &str| role(&format!("{{clusterRoleSelectors: [{selector}]}}"));
    assert_eq!(
        selector("{labels: {}}"),
        [format!("{at}[0].labels: is not a field here; expected matchLabels, matchExpressions")]
    );
    assert_eq!(
        selector("{matchExpressions: [{key: k, operator: In}]}"),
        [format!("{at}[0].matchExpressions[0].values: In needs at least one value")]
    );
    assert_eq!(
        selector("{matchExpressions: [{key: k, operator: Exists, values: [v]}]}"),
        [format!("{at}[0].matchExpressions[0].values: Exists takes no values")]
    );
    assert_eq!(
        selector("{matchExpressions: [{operator: Gt}]}"),
        [
            format!("{at}[0].matchExpressions[0].key: is missing"),
            format!(
                "{at}[0].matchExpressions[0].operator: expected In, NotIn, Exists or DoesNotExist, found \"Gt\""
            )
        ]
    );
}

#[test]
fn problems_say_where() {
    let (mut objects, mut problems) = (Objects::default(), Vec::new());
    let text = "# first\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: a}\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: b}\nroleRef: {kind: ClusterRole, name: c}\n---\n# third\nkind: x\n";
    read("dir/rbac.yaml", text, &mut objects, &mut problems);
    assert!(
        problems[0].to_string().starts_with("dir/rbac.yaml: document 3, line 13: expected a Role, "),
        "{}",
        problems[0]
    );
    let dangling: Vec<_> = dangling(&objects).iter().map(ToString::to_string).collect();
    assert_eq!(
        dangling,
        [
            "dir/rbac.yaml: document 2, line 7: ClusterRoleBinding b: roleRef: ClusterRole c does not exist, so the binding grants nothing"
        ]
    );
    problems.clear();
    read("x.yaml", "a: 1\na: 2", &mut objects, &mut problems);
    assert_eq!(
        problems[0].to_string(),
        "x.yaml: line 2, column 1: duplicate mapping key `a` is not allowed here"
    );
}

// --- the index against the plain reading --------------------------------------------------------------------

/// What Kubernetes does: visit every binding, look at every rule.
fn plainly(objects: &Objects, user: &str, groups: &[String], asked: Attributes<'_>) -> bool {
    let namespace = match asked.object {
        Object::Resource { namespace, .. } => namespace,
        Object::Path(_) => "",
    };
    let applies = |b: &Binding| b.name.namespace.as_deref().is_none_or(|n| n == namespace);
    let names = |s: &Subject| match s {
        Subject::User(name) => name == user,
        Subject::Group(name) => groups.contains(name),
        Subject::ServiceAccount { namespace, name } => {
            user == format!("system:serviceaccount:{namespace}:{name}")
        }
    };
    let held = objects.bindings.iter().filter(|b| applies(b) && b.subjects.iter().any(names));
    let mut rules =
        held.flat_map(|b| objects.roles.iter().filter(|r| r.name == b.name.role)).flat_map(|r| &r.rules);
    rules.any(|r| r.allows(asked))
}

const VERBS: [&str; 5] = ["get", "list", "create", "", "*"];
const GROUPS: [&str; 4] = ["", "apps", "batch", "*"];
const RESOURCES: [&str; 9] = ["pods", "pods/log", "pods/exec", "*/log", "*", "*/*", "jobs", "jobs/log", ""];
const NAMES: [&str; 4] = ["", "a", "b", "*"];
const PATHS: [&str; 8] = ["/", "/a", "/a/", "/a*", "/a/*", "*", "/a/b", "**"];
const NAMESPACES: [&str; 4] = ["", "n1", "n2", "n3"];
const PEOPLE: [&str; 5] = ["u", "v", "g", "h", "system:serviceaccount:n1:a"];

fn some(of: &'static [&'static str], upto: usize) -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(proptest::sample::select(of).prop_map(str::to_owned), 0..=upto)
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let paths = (some(&VERBS, 2), some(&PATHS, 2)).prop_map(|(verbs, non_resource_urls)| Rule {
        verbs,
        non_resource_urls,
        ..Rule::default()
    });
    let resources = (some(&VERBS, 2), some(&GROUPS, 2), some(&RESOURCES, 3), some(&NAMES, 1));
    let resources = resources.prop_map(|(verbs, api_groups, resources, resource_names)| Rule {
        verbs,
        api_groups,
        resources,
        resource_names,
        ..Rule::default()
    });
    prop_oneof![3 => resources, 1 => paths]
}

fn any_subject() -> impl Strategy<Value = Subject> {
    let name = proptest::sample::select(&PEOPLE[..]).prop_map(str::to_owned);
    prop_oneof![
        3 => name.clone().prop_map(Subject::User),
        3 => name.prop_map(Subject::Group),
        1 => (proptest::sample::select(&NAMESPACES[1..]), proptest::sample::select(&NAMES[1..3]))
            .prop_map(|(namespace, name)| Subject::ServiceAccount { namespace: namespace.into(), name: name.into() }),
    ]
}

/// Roles r0.. of which every third is a Role, and bindings to some of them and to some that are missing.
fn any_objects() -> impl Strategy<Value = Objects> {
    let roles = proptest::collection::vec(proptest::collection::vec(any_rule(), 0..3), 1..60);
    let binding = (
        0usize..64,
        proptest::sample::select(&NAMESPACES[..]),
        proptest::collection::vec(any_subject(), 0..4),
    );
    (roles, proptest::collection::vec(binding, 0..150)).prop_map(|(roles, bindings)| {
        let name = |i: usize, ns: &str| RoleName {
            namespace: i.is_multiple_of(3).then(|| ns.into()),
            name: format!("r{i}").into(),
        };
        let role = |(i, rules): (usize, Vec<Rule>)| Role {
            name: name(i, "n1"),
            labels: BTreeMap::new(),
            rules: rules.into_iter().map(Arc::new).collect(),
            aggregation: None,
            place: place(),
        };
        let binding = |(i, (role, namespace, subjects)): (usize, (usize, &str, Vec<Subject>))| Binding {
            name: Arc::new(BindingName {
                namespace: (!namespace.is_empty()).then(|| namespace.into()),
                name: format!("b{i}").into(),
                role: name(role, namespace),
            }),
            subjects,
            place: place(),
        };
        Objects {
            roles: roles.into_iter().enumerate().map(role).collect(),
            bindings: bindings.into_iter().enumerate().map(binding).collect(),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_index_answers_as_a_scan_does(
        objects in any_objects(),
        user in proptest::sample::select(&PEOPLE[..]),
        groups in some(&PEOPLE, 3),
        questions in proptest::collection::vec((
            proptest::sample::select(&VERBS[..]), proptest::sample::select(&GROUPS[..]), proptest::sample::select(&RESOURCES[..]),
            proptest::sample::select(&NAMESPACES[..]), proptest::sample::select(&NAMES[..]), proptest::sample::select(&PATHS[..]),
        ), 40),
    ) {
        let rules = Rules::new(objects.clone());
        for (verb, group, what, namespace, name, at) in questions {
            let (what, sub) = what.split_once('/').unwrap_or((what, ""));
            let thing = Object::Resource { group, version: "", resource: what, subresource: sub, namespace, name };
            for asked in [Attributes { verb, object: thing }, path(verb, at)] {
                let decision = rules.decide(user, &groups, asked);
                prop_assert_eq!(decision != Decision::Deny, plainly(&objects, user, &groups, asked), "{:?}", asked);
                match decision {
                    // What is given as the reason is one.
                    Decision::Allow(grounds) => {
                        let role = objects.roles.iter().find(|r| r.name == grounds.binding.role).unwrap();
                        prop_assert!(role.rules[grounds.rule].allows(asked));
                        let binding = objects.bindings.iter().find(|b| b.name == grounds.binding).unwrap();
                        let named = match grounds.kind {
                            SubjectKind::Group => binding.subjects.contains(&Subject::Group(grounds.subject.to_string())),
                            SubjectKind::User => binding.subjects.contains(&Subject::User(grounds.subject.to_string())),
                            SubjectKind::ServiceAccount => binding.subjects.iter().any(|s| matches!(s, Subject::ServiceAccount { .. })),
                        };
                        prop_assert!(named);
                    }
                    Decision::Deny => prop_assert!(rules.nearest(user, &groups, asked).text.len() < 420),
                }
            }
        }
    }

    #[test]
    fn who_can_lists_exactly_those_who_may(
        objects in any_objects(),
        questions in proptest::collection::vec((
            proptest::sample::select(&VERBS[..]), proptest::sample::select(&GROUPS[..]), proptest::sample::select(&RESOURCES[..]),
            proptest::sample::select(&NAMESPACES[..]), proptest::sample::select(&NAMES[..]), proptest::sample::select(&PATHS[..]),
        ), 20),
    ) {
        let rules = Rules::new(objects.clone());
        for (verb, group, what, namespace, name, at) in questions {
            let (what, sub) = what.split_once('/').unwrap_or((what, ""));
            let thing = Object::Resource { group, version: "", resource: what, subresource: sub, namespace, name };
            for asked in [Attributes { verb, object: thing }, path(verb, at)] {
                let found = rules.who_can(asked);
                // A few of the same.
                let others = rules.others(asked, 3);
                prop_assert!(others.few.iter().all(|grounds| found.contains(grounds)));
                prop_assert_eq!(others.few.len(), found.len().min(3));
                prop_assert_eq!(others.more, found.len() > 3);
                for grounds in &found {
                    let rule = rules.rule(grounds).unwrap();
                    prop_assert!(rule.allows(asked), "{grounds}");
                    let role = objects.roles.iter().find(|r| r.name == grounds.binding.role).unwrap();
                    prop_assert_eq!(&*role.rules[grounds.rule], rule);
                }
                for who in PEOPLE {
                    let listed = |group: bool| {
                        found.iter().any(|g| &*g.subject == who && (g.kind == SubjectKind::Group) == group)
                    };
                    prop_assert_eq!(listed(false), plainly(&objects, who, &[], asked), "user {} {:?}", who, asked);
                    prop_assert_eq!(listed(true), plainly(&objects, "nobody", &groups(&[who]), asked), "group {} {:?}", who, asked);
                    prop_assert_eq!(listed(true), rules.decide("nobody", &groups(&[who]), asked) != Decision::Deny);
                }
            }
        }
    }

    #[test]
    fn reading_never_panics(text in "[ -~\n]{0,200}") {
        let (mut objects, mut problems) = (Objects::default(), Vec::new());
        read("f", &text, &mut objects, &mut problems);
    }
}

// --- lists of rules -----------------------------------------------------------------------------------------

/// `verbs | groups | resources | names`, or `verbs | paths`; words apart by a blank, `""` is the empty one.
fn rule(text: &str) -> Rule {
    let lists: Vec<Vec<String>> = text
        .split('|')
        .map(|list| list.split_whitespace().map(|word| word.trim_matches('"').to_owned()).collect())
        .collect();
    let at = |i: usize| lists.get(i).cloned().unwrap_or_default();
    match lists.len() {
        2 => Rule { verbs: at(0), non_resource_urls: at(1), ..Rule::default() },
        _ => Rule {
            verbs: at(0),
            api_groups: at(1),
            resources: at(2),
            resource_names: at(3),
            ..Rule::default()
        },
    }
}

fn cut(theirs: &[&str], ours: &[&str], cap: usize) -> Cut {
    let theirs: Vec<Rule> = theirs.iter().map(|text| rule(text)).collect();
    let ours: Vec<Arc<Rule>> = ours.iter().map(|text| Arc::new(rule(text))).collect();
    intersection(&theirs, &ours, cap)
}

/// Within a second or so, where it once took minutes: whoever writes roles must not decide how long others wait. A busy machine
/// may take longer.
fn soon<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = std::time::Instant::now();
    let done = work();
    assert!(begun.elapsed().as_secs() < 60, "{what}: {:?}", begun.elapsed());
    done
}

#[test]
fn long_lists_that_have_nothing_in_common_do_not_meet_for_long() {
    let list = |of: &str| (0..30_000).map(|i| rule(&format!("get|{of}|r{i}"))).collect::<Vec<_>>();
    let ours: Vec<Arc<Rule>> = list("a").into_iter().map(Arc::new).collect();
    let cut = soon("intersection", || intersection(&list("b"), &ours, 100));
    assert_eq!(cut, Cut { rules: Vec::new(), incomplete: true });
}

#[test]
fn a_refusal_is_quick_whatever_roles_hold() {
    let name = |name: &str| RoleName { namespace: None, name: name.into() };
    let role = |of: &str, rules| Role {
        name: name(of),
        labels: BTreeMap::new(),
        rules,
        aggregation: None,
        place: place(),
    };
    let binding = |of: &str, to: &str, subjects| Binding {
        name: Arc::new(BindingName { namespace: None, name: of.into(), role: name(to) }),
        subjects,
        place: place(),
    };
    let verbs = |of: &str| {
        let verbs = (0..60_000).map(|i| format!("{of}{i}")).collect();
        let (api_groups, resources) = (vec![String::new()], vec!["pods".to_owned()]);
        Arc::new(Rule { verbs, api_groups, resources, ..Rule::default() })
    };
    let system = |i| Subject::ServiceAccount { namespace: "kube-system".into(), name: format!("a{i}") };
    let roles = [
        role("verbs", vec![verbs("a"), verbs("b"), verbs("c")]),
        role("view", vec![Arc::new(rule("get|\"\"|pods"))]),
    ];
    let bindings = [
        binding("verbs", "verbs", vec![Subject::User("u".into())]),
        binding("view", "view", (0..200_000).map(system).collect()),
    ];
    let rules = Rules::as_written(&roles, &bindings);
    let asked = resource("get", "dev", "pods", "x");
    let near = soon("nearest", || rules.nearest("u", &[], asked));
    assert_eq!(
        near.text,
        "ClusterRole verbs, bound by ClusterRoleBinding verbs, allows a0, a1, a2, a3, a4, a5, a6, a7, … on pods; not get"
    );
    let others = soon("others", || (0..200).map(|_| rules.others(asked, 3)).next_back()).unwrap();
    assert_eq!((others.few.len(), others.more), (0, true), "there may be others");
}

#[test]
fn two_lists_of_rules_meet() {
    let meet = |theirs: &[&str], ours: &[&str], expected: &[&str]| {
        let expected = Cut { rules: expected.iter().map(|text| rule(text)).collect(), incomplete: false };
        assert_eq!(cut(theirs, ours, 100), expected, "{theirs:?} {ours:?}");
    };
    let all = "*|*|*";
    // What one covers stays as it is, in its order, whatever covers it.
    let some = ["get list||pods", "*|apps|*", "get|/api /api/*", "*|*|*|a b", "get|\"\"|configmaps|x"];
    meet(&some, &some, &some);
    meet(&some, &[all, "*|*"], &some);
    meet(&["get|\"\"|pods", "get|\"\"|pods"], &[all], &["get|\"\"|pods", "get|\"\"|pods"]);
    meet(&some, &[], &[]);
    meet(&[], &some, &[]);
    // A star against words is the words.
    meet(&[all], &["get list|apps|deployments"], &["get list|apps|deployments"]);
    meet(&["get watch|*|*"], &["get list|apps|*"], &["get|apps|*"]);
    meet(&["* get|apps|x"], &["list|apps|x"], &["list|apps|x"]);
    meet(&["get|apps|x"], &["list|apps|x"], &[]);
    meet(&["get|apps|x"], &["get|batch|x"], &[]);
    // Resources and their subresources.
    meet(&["get|\"\"|pods */log"], &["get|\"\"|pods/log services"], &["get|\"\"|pods/log"]);
    meet(&["get|\"\"|pods"], &["get|\"\"|pods/log"], &[]);
    meet(&["get|\"\"|*/log"], &["get|\"\"|pods pods/xlog pods/a/log log"], &[]);
    meet(&["get|\"\"|* pods"], &["get|\"\"|*/log pods/log jobs"], &["get|\"\"|*/log jobs"]);
    meet(&["get|\"\"|*/*"], &["get|\"\"|pods/log"], &[]);
    meet(&["get|\"\"|*/a/b"], &["get|\"\"|userextras/a/b"], &["get|\"\"|userextras/a/b"]);
    // No names are all names; a star is a name, and no name in common is not all of them.
    meet(&["get|\"\"|pods"], &["get|\"\"|pods|a b"], &["get|\"\"|pods|a b"]);
    meet(&["get|\"\"|pods|b c"], &["get list|\"\"|pods|a b"], &["get|\"\"|pods|b"]);
    meet(&["get|\"\"|pods|a"], &["get|\"\"|pods|b"], &[]);
    meet(&["get|\"\"|pods|*"], &["get|\"\"|pods|b"], &[]);
    // Paths: the longer beginning.
    meet(&["get|/api*"], &["get|/api/* /apis /metrics"], &["get|/api/* /apis"]);
    meet(&["get|/a/b/*"], &["*|/a**"], &["get|/a/b/*"]);
    meet(&["get post|/a/b /c"], &["get|*"], &["get|/a/b /c"]);
    meet(&["get|/a*b"], &["get|/a*"], &["get|/a*b"]);
    meet(&["get|/a*b"], &["get|/aXb"], &[]);
    meet(&["get|/foo/*"], &["get|/foo"], &[]);
    // The two kinds do not meet.
    meet(&["*|*"], &[all], &[]);
    // Pieces that another one covers are not said.
    meet(&["get list|\"\"|*"], &["get|\"\"|pods", "get|\"\"|*"], &["get|\"\"|*"]);
    meet(&["get list|\"\"|*"], &["get|\"\"|*", "get|\"\"|pods"], &["get|\"\"|*"]);
    meet(
        &["get list|\"\"|*", "get|\"\"|pods"],
        &["get|\"\"|pods services", "list|\"\"|*"],
        &["get|\"\"|pods services", "list|\"\"|*", "get|\"\"|pods"],
    );
}

#[test]
fn long_lists_of_rules_are_cut() {
    let texts: Vec<String> = (0..3000).map(|i| format!("get|\"\"|thing{i}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let all = cut(&texts, &texts, 3000);
    assert!(!all.incomplete && all.rules.len() == 3000);
    let first = cut(&texts, &texts, 10);
    assert!(first.incomplete);
    assert_eq!(first.rules, all.rules[..10]);
    let pieces = cut(&["get list|\"\"|*"], &texts[..20], 10);
    assert!(pieces.incomplete && pieces.rules.len() == 10);
    assert!(!cut(&["get list|\"\"|*"], &texts[..20], 20).incomplete);
    // Neither many rules nor long ones keep anybody waiting.
    let other: Vec<String> = (0..3000).map(|i| format!("get list|\"\"|thing{}", i + 1500)).collect();
    let other: Vec<&str> = other.iter().map(String::as_str).collect();
    assert!(cut(&texts, &other, 10_000).incomplete);
    let long = |from: usize| {
        format!("get|x|{}", (from..from + 50_000).map(|i| format!("t{i} ")).collect::<String>())
    };
    assert!(cut(&[&long(0)], &[&long(1)], 100).incomplete);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_two_lists_have_in_common_is_what_both_allow(
        theirs in proptest::collection::vec(any_rule(), 0..6),
        ours in proptest::collection::vec(any_rule(), 0..6),
        cap in prop_oneof![4 => Just(1000usize), 1 => 0usize..4],
        questions in proptest::collection::vec((
            proptest::sample::select(&VERBS[..]), proptest::sample::select(&GROUPS[..]), proptest::sample::select(&RESOURCES[..]),
            proptest::sample::select(&NAMES[..]), proptest::sample::select(&PATHS[..]),
        ), 60),
    ) {
        let ours: Vec<Arc<Rule>> = ours.into_iter().map(Arc::new).collect();
        let cut = intersection(&theirs, &ours, cap);
        prop_assert!(cut.rules.len() <= cap);
        for (verb, group, what, name, at) in questions {
            let (what, sub) = what.split_once('/').unwrap_or((what, ""));
            let thing = Object::Resource { group, version: "", resource: what, subresource: sub, namespace: "", name };
            for asked in [Attributes { verb, object: thing }, path(verb, at)] {
                let both = theirs.iter().any(|r| r.allows(asked)) && ours.iter().any(|r| r.allows(asked));
                let one = cut.rules.iter().any(|r| r.allows(asked));
                prop_assert!(both || !one, "{:?} is not allowed by both: {:?}", asked, cut);
                prop_assert!(one || cut.incomplete || !both, "{:?} is allowed by both: {:?}", asked, cut);
            }
        }
        let same: Vec<Arc<Rule>> = theirs.iter().cloned().map(Arc::new).collect();
        prop_assert_eq!(intersection(&theirs, &same, 1000), Cut { rules: theirs, incomplete: false });
    }
}

#[test]
fn a_caller_s_rules_are_listed() {
    let rules = load(OBJECTS);
    let listed = |user: &str, list: &[&str], namespace: &str| {
        rules.listed(user, &groups(list), namespace).iter().map(|r| (**r).clone()).collect::<Vec<_>>()
    };
    let version = rule("get|/version");
    let reader = rule("get|\"\"|namespaces pods");
    assert_eq!(listed("u", &["dev", "system:authenticated"], "x"), [version.clone(), reader.clone()]);
    assert_eq!(listed("u", &["dev", "*", "system:authenticated"], "x"), [version, reader]);
    for namespace in ["", "elsewhere", "nowhere"] {
        assert_eq!(listed("u", &["dev", "system:authenticated"], namespace), [rule("get|/version")]);
    }
    // A path behind a RoleBinding allows nothing.
    assert_eq!(listed("owner", &[], "ns1"), [rule("*|*|*")]);
    assert_eq!(listed("owner", &[], "ns2"), []);
    assert_eq!(listed("ghost", &[], "x"), []);
}

/// What files are not read with, and a server does not take, is still compared as it stands.
#[test]
fn an_account_of_an_odd_name_is_a_text_like_any_other() {
    let name = RoleName { namespace: None, name: "r".into() };
    let role = Role {
        name: name.clone(),
        labels: BTreeMap::new(),
        rules: vec![Arc::new(resources(&["pods"]))],
        aggregation: None,
        place: place(),
    };
    let bind = |namespace: Option<&str>, role: RoleName, subject: Subject| Binding {
        name: Arc::new(BindingName { namespace: namespace.map(Arc::from), name: "b".into(), role }),
        subjects: vec![subject],
        place: place(),
    };
    let account = |namespace: &str, name: &str| Subject::ServiceAccount {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let pod = resource("get", "ns", "pods", "p");
    let rules = Rules::as_written([&role], [&bind(Some("ns"), name.clone(), account("ns", "a:b"))]);
    allow!(rules, "system:serviceaccount:ns:a:b", [], pod);
    deny!(rules, "system:serviceaccount:ns:a", [], pod);
    // Without a namespace, in a ClusterRoleBinding: nobody's name.
    let rules = Rules::as_written([&role], [&bind(None, name, account("", "a"))]);
    deny!(rules, "system:serviceaccount:ns:a", [], pod);
    deny!(rules, "a", [], pod);
    // A Role without a namespace is none.
    let nowhere = RoleName { namespace: Some("".into()), name: "r".into() };
    let rules = Rules::as_written([&role], [&bind(None, nowhere, Subject::User("u".into()))]);
    deny!(rules, "u", [], pod);
}

/// A file may not hold two; a program that builds objects might.
#[test]
fn of_roles_with_one_name_the_last_counts() {
    let cluster = |name: &str, part: &str, rest: Rule, sum: bool| Role {
        name: RoleName { namespace: None, name: name.into() },
        labels: BTreeMap::from([("part".to_owned(), part.to_owned())]),
        rules: vec![Arc::new(rest)],
        aggregation: sum.then(|| {
            vec![Selector { requirements: vec![Requirement::In("part".to_owned(), vec!["yes".to_owned()])] }]
        }),
        place: place(),
    };
    let bind = |user: &str, role: &str| Binding {
        name: Arc::new(BindingName {
            namespace: None,
            name: user.into(),
            role: RoleName { namespace: None, name: role.into() },
        }),
        subjects: vec![Subject::User(user.to_owned())],
        place: place(),
    };
    let rules = Rules::new(Objects {
        roles: vec![
            cluster("r", "yes", resources(&["pods"]), false),
            cluster("q", "yes", resources(&["nodes"]), false),
            cluster("sum", "no", Rule::default(), true),
            cluster("r", "yes", resources(&["secrets"]), false),
            cluster("q", "no", resources(&["nodes"]), false),
        ],
        bindings: vec![bind("u", "r"), bind("v", "sum")],
    });
    for user in ["u", "v"] {
        allow!(rules, user, [], resource("get", "n", "secrets", "x"));
        deny!(rules, user, [], resource("get", "n", "pods", "x"));
        deny!(rules, user, [], resource("get", "n", "nodes", "x"));
    }
}

#[test]
fn rules_as_written_are_not_aggregated() {
    let text = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: sum}\naggregationRule: {clusterRoleSelectors: [{matchLabels: {a: b}}]}\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: part, labels: {a: b}}\nrules: [{verbs: [get], nonResourceURLs: [/a]}]\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: b}\nsubjects: [{kind: User, name: u}]\nroleRef: {kind: ClusterRole, name: sum}";
    let (mut objects, mut problems) = (Objects::default(), Vec::new());
    read("test.yaml", text, &mut objects, &mut problems);
    assert!(problems.is_empty());
    let sum = &mut objects.roles[0];
    assert!(sum.name.name.as_ref() == "sum" && sum.aggregation.is_some());
    sum.rules = vec![Arc::new(rule("get|/b"))];
    let written = Rules::as_written(&objects.roles, &objects.bindings);
    allow!(written, "u", [], path("get", "/b"));
    deny!(written, "u", [], path("get", "/a"));
    let computed = Rules::new(objects);
    allow!(computed, "u", [], path("get", "/a"));
    deny!(computed, "u", [], path("get", "/b"));
}

#[test]
fn a_user_with_many_roles_is_answered_from_their_mentions() {
    let mut text = String::new();
    for i in 0..100 {
        text += &format!(
            "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: r{i}}}\nrules: [{{verbs: [get], apiGroups: [''], resources: [thing{i}]}}, {{verbs: [get], nonResourceURLs: [/p{i}, /q{i}/*]}}]\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: b{i}}}\nsubjects: [{{kind: Group, name: g}}]\nroleRef: {{kind: ClusterRole, name: r{i}}}\n"
        );
    }
    let rules = load(&text);
    allow!(rules, "u", ["g"], resource("get", "n", "thing99", "x"));
    deny!(rules, "u", ["g"], resource("get", "n", "thing100", "x"));
    deny!(rules, "u", ["g"], resource("list", "n", "thing99", "x"));
    allow!(rules, "u", ["g"], path("get", "/p50"));
    allow!(rules, "u", ["g"], path("get", "/q50/x"));
    deny!(rules, "u", ["g"], path("get", "/q50"));
    assert_eq!(rules.counts(), Counts { roles: 100, rules: 200, bindings: 100 });
}
