//! The decisions as callers meet them, and the shipped roles against their tables.

mod rehearsal;

use super::*;
use crate::{
    authn::{self, Authn, Conn},
    identity::{ANONYMOUS, MASTERS, add_authenticated},
    rbac::{self, Objects},
    status::Status,
};
use http::{HeaderValue, Method, Request};
use std::{collections::BTreeSet, path::PathBuf};

fn resource<'a>(verb: &'a str, group: &'a str, what: &'a str) -> Attributes<'a> {
    let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
    let object = Object::Resource { group, version: "v1", resource, subresource, namespace: "ns", name: "x" };
    Attributes { verb, object }
}

// --- the shipped roles --------------------------------------------------------------------------------------

const R: &str = "get list watch";
const W: &str = "create delete deletecollection patch update";

/// Verbs, API group, resources; blanks between several.
type Row = (&'static str, &'static str, &'static str);

/// What a role grants, by role. What a role includes of another one stands there.
const TABLES: [(&str, &[Row]); 6] = [
    ("cluster-admin", &[("*", "*", "*")]),
    (
        "system:basic-user",
        &[
            ("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
            ("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
    ),
    ("system:monitoring", &[("get", "", "nodes/metrics")]),
    (
        "system:auth-delegator",
        &[
            ("create", "authentication.k8s.io", "tokenreviews"),
            ("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    ),
    ("system:discovery", &[]),
    ("system:public-info-viewer", &[]),
];

const VIEW: &[Row] = &[
    (
        R,
        "",
        "bindings configmaps endpoints limitranges namespaces namespaces/status persistentvolumeclaims persistentvolumeclaims/status",
    ),
    (
        R,
        "",
        "pods pods/log pods/status replicationcontrollers replicationcontrollers/scale replicationcontrollers/status",
    ),
    (R, "", "resourcequotas resourcequotas/status serviceaccounts services services/status events"),
    (R, "events.k8s.io", "events"),
    (R, "discovery.k8s.io", "endpointslices"),
    (
        R,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status",
    ),
    (
        R,
        "apps",
        "replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
    ),
    (R, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    (R, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    (
        R,
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status",
    ),
    (
        R,
        "extensions",
        "networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale",
    ),
    (R, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    (R, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
    (R, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
];

const EDIT: &[Row] = &[
    (R, "", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
    ("impersonate", "", "serviceaccounts"),
    (W, "", "pods pods/attach pods/exec pods/portforward pods/proxy configmaps persistentvolumeclaims"),
    (
        W,
        "",
        "replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services services/proxy events",
    ),
    ("create", "", "pods/eviction serviceaccounts/token"),
    (W, "events.k8s.io", "events"),
    (
        W,
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale",
    ),
    (W, "apps", "statefulsets statefulsets/scale"),
    (W, "autoscaling", "horizontalpodautoscalers"),
    (W, "batch", "cronjobs jobs"),
    (
        W,
        "extensions",
        "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies",
    ),
    (W, "extensions", "replicasets replicasets/scale replicationcontrollers/scale"),
    (W, "policy", "poddisruptionbudgets"),
    (W, "networking.k8s.io", "ingresses networkpolicies"),
    (R, "coordination.k8s.io", "leases"),
    (W, "coordination.k8s.io", "leases"),
    (W, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
];

const ADMIN: &[Row] = &[
    ("create", "authorization.k8s.io", "localsubjectaccessreviews"),
    (R, "rbac.authorization.k8s.io", "roles rolebindings"),
    (W, "rbac.authorization.k8s.io", "roles rolebindings"),
];

const PATHS: [(&str, &str); 7] = [
    ("cluster-admin", "* *"),
    (
        "system:discovery",
        "get /api /api/* /apis /apis/* /healthz /livez /readyz /openapi /openapi/* /version /version/",
    ),
    ("system:public-info-viewer", "get /healthz /livez /readyz /version /version/"),
    ("system:basic-user", ""),
    (
        "system:service-account-issuer-discovery",
        "get /.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
    ),
    (
        "system:monitoring",
        "get /flagz /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/* /statusz",
    ),
    ("view", ""),
];

const BOUND: [(&str, &[&str]); 6] = [
    ("cluster-admin", &["system:masters"]),
    ("system:discovery", &["system:authenticated"]),
    ("system:public-info-viewer", &["system:authenticated", "system:unauthenticated"]),
    ("system:basic-user", &["system:authenticated"]),
    ("system:service-account-issuer-discovery", &["system:serviceaccounts"]),
    ("system:monitoring", &["system:monitoring"]),
];

/// Every (verb, group, resource) that a role grants.
fn grants<'a>(rules: impl IntoIterator<Item = &'a rbac::Rule>) -> BTreeSet<(String, String, String)> {
    let mut all = BTreeSet::new();
    for rule in rules {
        assert!(rule.resource_names.is_empty());
        for verb in &rule.verbs {
            for group in &rule.api_groups {
                all.extend(rule.resources.iter().map(|r| (verb.clone(), group.clone(), r.clone())));
            }
        }
    }
    all
}

fn table(rows: &[Row]) -> BTreeSet<(String, String, String)> {
    let mut all = BTreeSet::new();
    for (verbs, group, resources) in rows {
        for verb in verbs.split(' ') {
            all.extend(resources.split(' ').map(|r| (verb.to_owned(), (*group).to_owned(), r.to_owned())));
        }
    }
    all
}

fn role<'a>(objects: &'a Objects, name: &str) -> &'a rbac::Role {
    objects.roles.iter().find(|r| &*r.name.name == name).unwrap_or_else(|| panic!("no role {name}"))
}

#[test]
fn the_shipped_roles_are_those_of_kubernetes() {
    let (mut objects, mut problems) = (Objects::default(), Vec::new());
    for (name, text) in source::BOOTSTRAP {
        rbac::read(name, text, &mut objects, &mut problems);
    }
    problems.extend(rbac::duplicates(&objects));
    problems.extend(rbac::dangling(&objects));
    assert_eq!(problems, []);
    assert_eq!(objects, bootstrap());
    assert_eq!((objects.roles.len(), objects.bindings.len()), (13, BOUND.len()));

    let plain = |r: &rbac::Role| grants(r.rules.iter().map(|r| &**r));
    let parts = [
        ("system:aggregate-to-view", VIEW),
        ("system:aggregate-to-edit", EDIT),
        ("system:aggregate-to-admin", ADMIN),
    ];
    for (name, rows) in TABLES.into_iter().chain(parts) {
        assert_eq!(plain(role(&objects, name)), table(rows), "{name}");
    }
    for (name, paths) in PATHS {
        let rules = role(&objects, name).rules.iter().filter(|r| !r.non_resource_urls.is_empty());
        let got: BTreeSet<String> =
            rules.flat_map(|r| r.verbs.iter().chain(&r.non_resource_urls)).cloned().collect();
        let want: BTreeSet<String> = paths.split(' ').filter(|p| !p.is_empty()).map(str::to_owned).collect();
        assert_eq!(got, want, "{name}");
    }
    for (name, groups) in BOUND {
        let binding = objects
            .bindings
            .iter()
            .find(|b| &*b.name.name == name)
            .unwrap_or_else(|| panic!("no binding {name}"));
        let want: Vec<_> = groups.iter().map(|&g| rbac::Subject::Group(g.to_owned())).collect();
        assert_eq!(
            (&binding.subjects, binding.name.role.to_string()),
            (&want, format!("ClusterRole {name}"))
        );
    }
    for role in &objects.roles {
        assert_eq!(role.labels["kubernetes.io/bootstrapping"], "rbac-defaults", "{}", role.name);
    }
}

#[test]
fn view_edit_and_admin_are_put_together() {
    let mut text = String::new();
    for role in ["view", "edit", "admin"] {
        text += &format!(
            "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: {role}, namespace: ns}}\nsubjects: [{{kind: User, name: {role}}}]\nroleRef: {{kind: ClusterRole, name: {role}}}\n"
        );
    }
    let (mut objects, mut problems) = (Objects::default(), Vec::new());
    rbac::read("test", &text, &mut objects, &mut problems);
    assert_eq!(problems, []);
    let rules = Rules::new(objects.over(bootstrap()));
    // All that any table mentions, asked of each: exactly its own tables are granted.
    let all: BTreeSet<_> = [VIEW, EDIT, ADMIN].into_iter().flat_map(table).collect();
    for (user, tables) in [("view", &[VIEW][..]), ("edit", &[VIEW, EDIT]), ("admin", &[VIEW, EDIT, ADMIN])] {
        let granted: BTreeSet<_> = tables.iter().copied().flat_map(table).collect();
        for (verb, group, what) in &all {
            let asked = resource(verb, group, what);
            let allowed = rules.decide(user, &[], asked) != Decision::Deny;
            assert_eq!(
                allowed,
                granted.contains(&(verb.clone(), group.clone(), what.clone())),
                "{user} {verb} {group} {what}"
            );
        }
    }
    let allowed = |user, groups: &[&str], asked| {
        let groups: Vec<_> = groups.iter().map(|&g| g.to_owned()).collect();
        rules.decide(user, &groups, asked) != Decision::Deny
    };
    let get = |path| Attributes { verb: "get", object: Object::Path(path) };
    assert!(!allowed("view", &[], resource("get", "", "secrets")));
    assert!(!allowed("edit", &[], resource("create", "rbac.authorization.k8s.io", "roles")));
    assert!(allowed("system:anonymous", &["system:unauthenticated"], get("/version")));
    assert!(!allowed("system:anonymous", &["system:unauthenticated"], get("/api")));
    assert!(allowed("anybody", &["system:authenticated"], get("/api")));
    assert!(allowed("anybody", &["system:authenticated"], get("/openapi/v3/apis/apps/v1")));
    assert!(allowed("anybody", &["system:masters"], resource("x", "y", "z/a")));
}

// --- files --------------------------------------------------------------------------------------------------

/// A folder that is gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gatelog-authz-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.0.join(name).parent().unwrap()).unwrap();
        std::fs::write(self.0.join(name), text).unwrap();
    }
    fn config(&self, paths: &[&str]) -> Config {
        Config {
            paths: paths.iter().map(|p| self.0.join(p)).collect(),
            bootstrap: false,
            ..Config::default()
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn cluster_role(name: &str) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: {name}}}\nrules: [{{verbs: [get], nonResourceURLs: [/{name}]}}]\n"
    )
}

fn binding(role: &str) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: {role}}}\nsubjects: [{{kind: User, name: u}}]\nroleRef: {{kind: ClusterRole, name: {role}}}\n"
    )
}

fn may(rules: &Rules, path: &str) -> bool {
    rules.decide("u", &[], Attributes { verb: "get", object: Object::Path(path) }) != Decision::Deny
}

#[test]
fn files_and_folders_are_read() {
    let folder = Folder::new("read");
    folder.write("one.txt", &(cluster_role("a") + "---\n" + &binding("a")));
    folder.write("more/b.yaml", &cluster_role("b"));
    folder.write("more/b.yml", &binding("b"));
    folder.write("more/c.json", r#"{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "c"}, "roleRef": {"kind": "ClusterRole", "name": "c"}}"#);
    folder.write("more/.hidden.yaml", "not: rbac");
    folder.write("more/readme.md", "# no YAML: at all: [");
    folder.write("more/deeper/d.yaml", "not: rbac");
    folder.write("more/dir.yaml/e.yaml", "not: rbac");
    folder.write("empty/readme.md", "");
    let manifests = folder.config(&["one.txt", "more", "empty"]).read().unwrap();
    let loaded = manifests.rules().unwrap();
    assert!(may(&loaded.rules, "/a") && may(&loaded.rules, "/b") && !may(&loaded.rules, "/c"));
    assert_eq!((loaded.own.roles, loaded.own.bindings), (2, 3));
    let at = |name: &str| folder.0.join(name).display().to_string();
    assert_eq!(
        loaded.warnings,
        [
            format!("{}: holds no *.yaml, *.yml or *.json file", at("empty")),
            format!(
                "{}: document 1, line 1: ClusterRoleBinding c: roleRef: ClusterRole c does not exist, so the binding grants nothing",
                at("more/c.json")
            ),
        ]
    );
    // Reading again tells whether anything changed.
    assert_eq!(folder.config(&["one.txt", "more", "empty"]).read().unwrap(), manifests);
    folder.write("more/b.yml", "");
    assert_ne!(folder.config(&["one.txt", "more", "empty"]).read().unwrap(), manifests);
}

#[test]
fn everything_unreadable_and_wrong_is_told_at_once() {
    let folder = Folder::new("wrong");
    folder.write("a.yaml", "a: 1\na: 2");
    folder.write("b.yaml", &cluster_role("b"));
    folder.write("c.yaml", &(cluster_role("b") + "rule: 1\n---\nkind: x"));
    let errors = folder.config(&["nowhere", "b.yaml", "neither"]).read().unwrap_err();
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 2);
    assert!(errors[0].ends_with("nowhere: No such file or directory (os error 2)"), "{errors:?}");
    let problems = folder.config(&[""]).read().unwrap().rules().unwrap_err();
    let files: Vec<_> = problems
        .iter()
        .map(|p| (p.place[folder.0.as_os_str().len() + 1..].to_owned(), p.field.as_str()))
        .collect();
    let at = |place: &str, field| (place.to_owned(), field);
    assert_eq!(
        files,
        [
            at("a.yaml: line 2, column 1", ""),
            at("c.yaml: document 1, line 1", "rule"),
            at("c.yaml: document 2, line 7", ""),
            at("c.yaml: document 1, line 1", "")
        ]
    );
    assert!(folder.config(&["/dev/null"]).read().is_err());
    std::fs::write(folder.0.join("latin.yaml"), b"a: \xe9").unwrap();
    assert!(folder.config(&["latin.yaml"]).read().is_err());
}

#[cfg(unix)]
#[test]
fn a_mounted_folder_is_read_as_one() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new("mount");
    folder.write("..2025_1/a.yaml", &(cluster_role("a") + "---\n" + &binding("a")));
    folder.write("..2025_2/a.yaml", &(cluster_role("b") + "---\n" + &binding("b")));
    symlink("..2025_1", folder.0.join("..data")).unwrap();
    symlink("..data/a.yaml", folder.0.join("a.yaml")).unwrap();
    let before = folder.config(&[""]).read().unwrap();
    assert!(may(&before.rules().unwrap().rules, "/a"));
    std::fs::remove_file(folder.0.join("..data")).unwrap();
    symlink("..2025_2", folder.0.join("..data")).unwrap();
    let after = folder.config(&[""]).read().unwrap();
    assert_ne!(before, after);
    assert!(may(&after.rules().unwrap().rules, "/b"));
}

#[test]
fn own_objects_take_the_place_of_shipped_ones() {
    let folder = Folder::new("own");
    folder.write("a.yaml", &(cluster_role("system:discovery") + "---\n" + &binding("system:discovery")));
    let config = Config { bootstrap: true, ..folder.config(&["a.yaml"]) };
    let loaded = config.read().unwrap().rules().unwrap();
    assert_eq!(loaded.warnings, [""; 0]);
    let get = |user, path| {
        let groups = ["system:authenticated".to_owned()];
        loaded.rules.decide(user, &groups, Attributes { verb: "get", object: Object::Path(path) })
            != Decision::Deny
    };
    assert!(get("u", "/system:discovery") && !get("v", "/system:discovery"));
    assert!(!get("u", "/api") && get("v", "/version"));
    let shipped = Config::default().read().unwrap().rules().unwrap();
    assert_eq!((shipped.own.roles, shipped.rules.counts().roles), (0, 13));
}

// --- requests -----------------------------------------------------------------------------------------------

fn authz(rules: &str) -> Authz {
    let (mut objects, mut problems) = (Objects::default(), Vec::new());
    rbac::read("test", rules, &mut objects, &mut problems);
    assert_eq!(problems, []);
    Authz::new(Rules::new(objects), Tell::default())
}

/// One rule bound to one user, in a namespace or in the cluster.
fn grant(user: &str, namespace: &str, rule: &str) -> String {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let (kind, at) = if namespace.is_empty() {
        ("Cluster", String::new())
    } else {
        ("", format!(", namespace: {namespace}"))
    };
    format!(
        "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}Role\nmetadata: {{name: r{n}{at}}}\nrules: [{{{rule}}}]\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}RoleBinding\nmetadata: {{name: b{n}{at}}}\nsubjects: [{{kind: User, name: '{user}'}}]\nroleRef: {{kind: {kind}Role, name: r{n}}}\n"
    )
}

fn core(verbs: &str, resources: &str) -> String {
    format!("verbs: [{verbs}], apiGroups: [''], resources: [{resources}]")
}

fn asked(method: Method, target: &str) -> Asked {
    let (parts, ()) = Request::builder().method(method).uri(target).body(()).unwrap().into_parts();
    Asked::parse(&parts).unwrap()
}

/// The proof that this user authenticated, by way of a token file.
fn proven(user: &str, groups: &[&str]) -> Authenticated {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder = Folder::new(&format!("tokens-{n}"));
    let groups = if groups.is_empty() { String::new() } else { format!(",\"{}\"", groups.join(",")) };
    folder.write("tokens.csv", &format!("secret,{user},{groups}\n"));
    let config =
        authn::Config { token_auth_file: Some(folder.0.join("tokens.csv")), ..authn::Config::default() };
    let (authn, _) =
        Authn::new(&config.read().unwrap(), &authn::Shared::new(authn::Metrics::unregistered(), None), None)
            .unwrap();
    let mut headers =
        HeaderMap::from_iter([(http::header::AUTHORIZATION, HeaderValue::from_static("Bearer secret"))]);
    let (conn, asked) = (Conn::new(([127, 0, 0, 1], 1).into(), Vec::new()), asked(Method::GET, "/"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(authn.authenticate(&conn, conn.peer.ip(), &mut headers, &asked)).unwrap()
}

fn who(authz: &Authz, user: &str, groups: &[&str]) -> Who {
    authz.impersonate(proven(user, groups), &mut HeaderMap::new()).unwrap()
}

/// The reason of the permit, or the text of the refusal.
fn outcome(authz: &Authz, user: &str, method: Method, target: &str, upgrade: bool) -> Result<String, String> {
    match authz.authorize(who(authz, user, &[]), asked(method.clone(), target), upgrade) {
        Ok(permit) => {
            assert_eq!((permit.asked().target.raw(), &permit.asked().method), (target, &method));
            assert_eq!(permit.who().effective().name(), user);
            Ok(permit.why().to_string())
        }
        Err(refused) => {
            assert_eq!((refused.status.code, refused.status.nosniff), (403, true));
            assert_eq!((&refused.impersonation, &refused.impersonated), (&None, &None));
            let reason = refused.reason;
            assert_eq!(refused.status.message, refused.whole);
            assert!(refused.status.message.ends_with(&reason), "{:?} {reason:?}", refused.status);
            Err(refused.status.message)
        }
    }
}

macro_rules! allow {
    ($authz:expr, $user:expr, $method:ident $target:expr $(, $upgrade:ident)?) => {
        assert!(outcome(&$authz, $user, Method::$method, $target, false $(|| stringify!($upgrade) == "upgrade")?).is_ok(), "{} {}", $user, $target)
    };
}
/// `…; text`: the refusal begins so.
macro_rules! deny {
    ($authz:expr, $user:expr, $method:ident $target:expr $(, $upgrade:ident)?; $text:expr) => {{
        let refusal = outcome(&$authz, $user, Method::$method, $target, false $(|| stringify!($upgrade) == "upgrade")?).unwrap_err();
        assert!(refusal.starts_with($text), "{} {}: {refusal}", $user, $target);
    }};
}

#[test]
fn refusals_are_told_in_kubernetes_words() {
    let none = authz("");
    deny!(none, "bob", GET "/api/v1/namespaces/default/pods/x"; r#"pods "x" is forbidden: User "bob" cannot get resource "pods" in API group "" in the namespace "default": no binding"#);
    deny!(none, "carol", GET "/api/v1/pods"; r#"pods is forbidden: User "carol" cannot list resource "pods" in API group "" at the cluster scope: "#);
    deny!(none, "carol", GET "/apis/apps/v1/namespaces/d/deployments/x/scale"; r#"deployments.apps "x" is forbidden: User "carol" cannot get resource "deployments/scale" in API group "apps" in the namespace "d": "#);
    deny!(none, "carol", GET "/api/v1/namespaces/ns"; r#"namespaces "ns" is forbidden: User "carol" cannot get resource "namespaces" in API group "" in the namespace "ns": "#);
    deny!(none, "carol", GET "/api/v1/nodes/n"; r#"nodes "n" is forbidden: User "carol" cannot get resource "nodes" in API group "" at the cluster scope: "#);
    deny!(none, "carol", GET "/metrics"; r#"forbidden: User "carol" cannot get path "/metrics": "#);
    deny!(none, "carol", GET "/x%3Cy%3E&z"; r#"forbidden: User "carol" cannot get path "/x&lt;y&gt;&amp;z": "#);
    deny!(none, "bob", GET "/api/v1/namespaces/d/configmaps?fieldSelector=metadata.name=other"; r#"configmaps "other" is forbidden: User "bob" cannot list resource "configmaps" in API group "" in the namespace "d": "#);
    deny!(none, "bob", DELETE "/api/v1/namespaces/d/pods"; r#"pods is forbidden: User "bob" cannot deletecollection resource "pods" in API group "" in the namespace "d": "#);
}

#[test]
fn names_in_rules_bind_what_carries_a_name() {
    let only =
        authz(&grant("bob", "default", &format!("{}, resourceNames: [only]", core("'*'", "configmaps"))));
    allow!(only, "bob", GET "/api/v1/namespaces/default/configmaps/only");
    deny!(only, "bob", GET "/api/v1/namespaces/default/configmaps/other"; r#"configmaps "other" is forbidden"#);
    deny!(only, "bob", GET "/api/v1/namespaces/default/configmaps"; "configmaps is forbidden");
    allow!(only, "bob", GET "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name=only");
    deny!(only, "bob", GET "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name=only&limit=x"; "configmaps is forbidden");
    // Sorted, so that the lesser name counts; of two selectors the first.
    deny!(only, "bob", GET "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name=only,metadata.name=aaa"; r#"configmaps "aaa" is forbidden"#);
    allow!(only, "bob", GET "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name=other,metadata.name=only");
    allow!(only, "bob", GET "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name=only&fieldSelector=metadata.name=other");
    deny!(only, "bob", GET "/api/v1/configmaps?fieldSelector=metadata.name=only"; r#"configmaps "only" is forbidden"#);
    deny!(only, "bob", DELETE "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name=only"; "configmaps is forbidden");
    deny!(only, "bob", POST "/api/v1/namespaces/default/configmaps"; "configmaps is forbidden");
    allow!(only, "bob", GET "/api/v1/watch/namespaces/default/configmaps/only");
}

#[test]
fn masters_may_do_everything_and_no_reason_is_given() {
    let none = authz("");
    let permit = none.authorize(
        who(&none, "root", &[MASTERS]),
        asked(Method::POST, "/api/v1/namespaces/d/pods/p/exec"),
        true,
    );
    let permit = permit.unwrap();
    assert_eq!((permit.why(), permit.why().to_string().as_str()), (&Why::Allowed(Reason::Master), ""));
    assert!(none.authorize(who(&none, MASTERS, &[]), asked(Method::GET, "/api"), false).is_err());
}

#[test]
fn streams_into_a_pod_take_create_besides() {
    let rights = |verbs: &str| {
        authz(&grant(
            "bob",
            "d",
            &core(verbs, "pods/exec, pods/attach, pods/portforward, pods/log, pods/proxy"),
        ))
    };
    let (get, create, both) = (rights("get"), rights("create"), rights("get, create"));
    for stream in ["exec", "attach", "portforward"] {
        let target = &format!("/api/v1/namespaces/d/pods/p/{stream}?command=ls");
        // WebSocket clients ask by GET, SPDY clients by POST; asking without an upgrade changes nothing.
        allow!(both, "bob", GET target, upgrade);
        allow!(both, "bob", POST target, upgrade);
        allow!(create, "bob", POST target, upgrade);
        allow!(create, "bob", POST target);
        deny!(create, "bob", GET target, upgrade; &format!(r#"pods "p" is forbidden: User "bob" cannot get resource "pods/{stream}" in API group """#));
        deny!(get, "bob", POST target, upgrade; &format!(r#"pods "p" is forbidden: User "bob" cannot create resource "pods/{stream}" in API group "" in the namespace "d": Role d/"#));
        deny!(get, "bob", GET target, upgrade; &format!(r#"pods "p" is forbidden: User "bob" cannot create resource "pods/{stream}" in API group "" in the namespace "d": opening a stream takes create besides get; Role d/"#));
        deny!(get, "bob", GET target; &format!(r#"pods "p" is forbidden: User "bob" cannot create resource "pods/{stream}""#));
    }
    allow!(get, "bob", GET "/api/v1/namespaces/d/pods/p/log?follow=true", upgrade);
    allow!(get, "bob", GET "/api/v1/namespaces/d/pods/p/proxy/x", upgrade);
    // Subresources are rights of their own.
    let pods = authz(&grant("bob", "d", &core("'*'", "pods, services, nodes")));
    for what in ["pods/p/exec", "pods/p/log", "pods/p/proxy/", "services/s/proxy/"] {
        deny!(pods, "bob", GET &format!("/api/v1/namespaces/d/{what}"); &what[..4]);
    }
    let any = authz(&grant("bob", "d", &core("'*'", "'*'")));
    allow!(any, "bob", GET "/api/v1/namespaces/d/pods/p/exec", upgrade);
}

#[test]
fn upgrades_through_a_node_s_kubelet_take_create_besides() {
    let (get, both) = (
        authz(&grant("bob", "", &core("get", "nodes/proxy"))),
        authz(&grant("bob", "", &core("get, create", "nodes/proxy"))),
    );
    allow!(get, "bob", GET "/api/v1/nodes/n/proxy/metrics");
    deny!(get, "bob", GET "/api/v1/nodes/n/proxy/exec/d/p/c?command=id", upgrade; r#"nodes "n" is forbidden: User "bob" cannot create resource "nodes/proxy" in API group "" at the cluster scope: opening a stream takes create besides get"#);
    allow!(both, "bob", GET "/api/v1/nodes/n/proxy/exec/d/p/c?command=id", upgrade);
}

// --- impersonation ------------------------------------------------------------------------------------------

fn headers(text: &str) -> HeaderMap {
    let pair = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (HeaderName::try_from(name.trim()).unwrap(), HeaderValue::from_str(value.trim()).unwrap())
    };
    let mut headers = HeaderMap::new();
    for (name, value) in text.split(';').filter(|l| !l.trim().is_empty()).map(pair) {
        headers.append(name, value);
    }
    headers
}

/// `name; groups` of who results, or `code text`.
fn impersonate(authz: &Authz, user: &str, text: &str) -> String {
    let mut headers = headers(&format!("{text}; accept: */*"));
    match authz.impersonate(proven(user, &[]), &mut headers) {
        Ok(who) => {
            assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
            assert_eq!(who.proven().user().name(), user);
            assert_eq!(who.impersonated().is_some(), who.effective().name() != user);
            format!("{}; {}", who.effective().name(), who.effective().groups().join(", "))
        }
        Err(refused) => {
            assert!(refused.impersonation.is_some() && refused.impersonated.is_none());
            assert!(refused.status.nosniff);
            assert_eq!(refused.reason.is_empty(), refused.status.code == 400);
            format!("{} {}", refused.status.code, refused.status.message)
        }
    }
}

/// May impersonate anybody.
fn anybody() -> Authz {
    authz(&grant("imp", "", "verbs: [impersonate], apiGroups: ['*'], resources: ['*']"))
}

#[test]
fn each_header_is_authorized() {
    let rights = authz(
        &[
            grant("imp", "", &format!("{}, resourceNames: [bob]", core("impersonate", "users"))),
            grant("imp", "", &format!("{}, resourceNames: [dev]", core("impersonate", "groups"))),
            grant("imp", "", "verbs: [impersonate], apiGroups: [authentication.k8s.io], resources: [uids], resourceNames: [u1]"),
            grant("imp", "", "verbs: [impersonate], apiGroups: [authentication.k8s.io], resources: [userextras/foo, userextras/a/b]"),
            grant("imp", "default", &format!("{}, resourceNames: [sa1]", core("impersonate", "serviceaccounts"))),
        ]
        .concat(),
    );
    let imp = |text: &str| impersonate(&rights, "imp", text);
    assert_eq!(imp("impersonate-user: bob"), "bob; system:authenticated");
    assert_eq!(imp("impersonate-user: bob; impersonate-group: dev"), "bob; dev, system:authenticated");
    assert_eq!(
        imp(
            "impersonate-user: bob; impersonate-uid: u1; impersonate-extra-foo: x; impersonate-extra-foo: y; impersonate-extra-a%2fb: z"
        ),
        "bob; system:authenticated"
    );
    assert_eq!(
        imp("impersonate-user: system:serviceaccount:default:sa1"),
        "system:serviceaccount:default:sa1; system:serviceaccounts, system:serviceaccounts:default, system:authenticated"
    );
    for (asked, refusal) in [
        (
            "impersonate-user: joe",
            r#"403 users "joe" is forbidden: User "imp" cannot impersonate resource "users" in API group "" at the cluster scope: "#,
        ),
        (
            "impersonate-user: bob; impersonate-group: ops",
            r#"403 groups "ops" is forbidden: User "imp" cannot impersonate resource "groups" in API group "" at the cluster scope: "#,
        ),
        (
            "impersonate-user: bob; impersonate-group: dev; impersonate-group: ops",
            r#"403 groups "ops" is forbidden"#,
        ),
        ("impersonate-user: bob; impersonate-group: dev,ops", r#"403 groups "dev,ops" is forbidden"#),
        (
            "impersonate-user: bob; impersonate-group:",
            r#"403 groups is forbidden: User "imp" cannot impersonate resource "groups""#,
        ),
        (
            "impersonate-user: bob; impersonate-group: system:masters",
            r#"403 groups "system:masters" is forbidden"#,
        ),
        (
            "impersonate-user: bob; impersonate-uid: u2",
            r#"403 uids.authentication.k8s.io "u2" is forbidden: User "imp" cannot impersonate resource "uids" in API group "authentication.k8s.io" at the cluster scope: "#,
        ),
        (
            "impersonate-user: bob; impersonate-extra-%46oo: y",
            r#"403 userextras.authentication.k8s.io "y" is forbidden: User "imp" cannot impersonate resource "userextras/Foo" in API group"#,
        ),
        (
            "impersonate-user: bob; impersonate-extra-: y",
            r#"403 userextras.authentication.k8s.io "y" is forbidden: User "imp" cannot impersonate resource "userextras" in API group"#,
        ),
        (
            "impersonate-user: system:serviceaccount:default:sa2",
            r#"403 serviceaccounts "sa2" is forbidden: User "imp" cannot impersonate resource "serviceaccounts" in API group "" in the namespace "default": "#,
        ),
        ("impersonate-user: system:serviceaccount:other:sa1", r#"403 serviceaccounts "sa1" is forbidden: "#),
        (
            "impersonate-user: system:serviceaccount:Bad:sa1",
            r#"403 users "system:serviceaccount:Bad:sa1" is forbidden"#,
        ),
        (
            "impersonate-user: system:serviceaccount:default:a:b",
            r#"403 users "system:serviceaccount:default:a:b" is forbidden"#,
        ),
        (
            "impersonate-user: system:serviceaccount:default",
            r#"403 users "system:serviceaccount:default" is forbidden"#,
        ),
    ] {
        let got = imp(asked);
        assert!(got.starts_with(refusal), "{asked}: {got}");
    }
    assert!(
        impersonate(&rights, "bob", "impersonate-user: bob; impersonate-group: dev")
            .starts_with(r#"403 users "bob" is forbidden: User "bob" cannot impersonate"#)
    );
    let marker =
        |text| rights.impersonate(proven("imp", &[]), &mut headers(text)).unwrap_err().impersonation.unwrap();
    assert_eq!(marker("impersonate-user: joe"), "Impersonate-User: joe");
    assert_eq!(marker("impersonate-user: bob; impersonate-group: ops"), "Impersonate-Group: ops");
    assert_eq!(marker("impersonate-user: bob; impersonate-extra-x: y"), "Impersonate-Extra-x: y");
    assert_eq!(marker("impersonate-user: bob; impersonate-uid: u"), "Impersonate-Uid: u");
    assert_eq!(
        marker("impersonate-user: system:serviceaccount:n:s"),
        "Impersonate-User: system:serviceaccount:n:s"
    );
}

#[test]
fn groups_of_the_impersonated_are_final() {
    let rights = anybody();
    let imp = |text: &str| impersonate(&rights, "imp", text);
    assert_eq!(
        imp("impersonate-user: bob; impersonate-group: system:authenticated"),
        "bob; system:authenticated"
    );
    assert_eq!(
        imp("impersonate-user: nobody; impersonate-group: system:unauthenticated"),
        "nobody; system:unauthenticated"
    );
    assert_eq!(imp("impersonate-user: system:anonymous"), "system:anonymous; system:unauthenticated");
    assert_eq!(
        imp("impersonate-user: system:anonymous; impersonate-group: system:authenticated"),
        "system:anonymous; system:authenticated, system:unauthenticated"
    );
    assert_eq!(
        imp("impersonate-user: system:serviceaccount:default:sa1; impersonate-group: dev"),
        "system:serviceaccount:default:sa1; dev, system:authenticated"
    );
    assert_eq!(imp("impersonate-user: system:node:n1"), "system:node:n1; system:authenticated");
    assert_eq!(
        imp("impersonate-user: bob; impersonate-group: system:masters"),
        "bob; system:masters, system:authenticated"
    );
}

#[test]
fn who_asks_for_nobody_stays_who_they_are() {
    let none = authz("");
    assert_eq!(impersonate(&none, "imp", ""), "imp; system:authenticated");
    assert_eq!(impersonate(&none, "imp", "impersonate-user:"), "imp; system:authenticated");
    assert_eq!(
        impersonate(&none, "imp", "x-remote-user: root; authorization: Bearer x"),
        "imp; system:authenticated"
    );
}

#[test]
fn headers_that_cannot_be_understood_are_a_400() {
    let rights = anybody();
    let imp = |text: &str| impersonate(&rights, "imp", text);
    let go = |name: &str| {
        format!(
            "400 requested &user.DefaultInfo{{Name:\"\", UID:\"\", Groups:[]string{name}, Extra:map[string][]string(nil)}} without impersonating a user name"
        )
    };
    assert_eq!(imp("impersonate-group: dev"), go("{\"dev\"}"));
    assert_eq!(imp("impersonate-user:; impersonate-group: dev"), go("{\"dev\"}"));
    for text in [
        "impersonate-uid: u",
        "impersonate-extra-x: y",
        "impersonate-user: a; impersonate-user: b",
        "impersonate-user: a; impersonate-future: b",
        "impersonate_user: a",
    ] {
        assert!(imp(text).starts_with("400 "), "{text}: {}", imp(text));
    }
    let many = "; impersonate-group: g".repeat(1_000);
    assert!(imp(&format!("impersonate-user: bob{many}")).starts_with("400 "));
    // Masters are no exception.
    let mut headers = headers("impersonate-group: dev");
    assert_eq!(rights.impersonate(proven("root", &[MASTERS]), &mut headers).unwrap_err().status.code, 400);
}

#[test]
fn the_request_is_decided_as_the_impersonated_user() {
    let rights = authz(
        &[grant("imp", "", &core("impersonate", "users, groups")), grant("bob", "d", &core("get", "pods"))]
            .concat(),
    );
    let who = |text| rights.impersonate(proven("imp", &[]), &mut headers(text)).unwrap();
    let pod = || asked(Method::GET, "/api/v1/namespaces/d/pods/p");
    let permit = rights.authorize(who("impersonate-user: bob"), pod(), false).unwrap();
    assert_eq!((permit.who().effective().name(), permit.who().proven().user().name()), ("bob", "imp"));
    let refused = rights.authorize(who("impersonate-user: joe"), pod(), false).unwrap_err();
    assert!(refused.status.message.starts_with(r#"pods "p" is forbidden: User "joe" cannot get"#));
    assert_eq!(refused.impersonated.unwrap().name(), "joe");
    assert!(
        rights.authorize(who("impersonate-user: x; impersonate-group: system:masters"), pod(), false).is_ok()
    );
    // Masters may be anybody, and are then no more than that.
    let as_joe =
        rights.impersonate(proven("root", &[MASTERS]), &mut headers("impersonate-user: joe")).unwrap();
    assert!(rights.authorize(as_joe, pod(), false).is_err());
}

#[test]
fn the_bare_question() {
    let rights = authz(&grant(ANONYMOUS, "", "verbs: [get], nonResourceURLs: [/version]"));
    let user = |name: &str, groups: &[&str]| {
        let mut groups = groups.iter().map(|&g| g.to_owned()).collect();
        add_authenticated(name, &mut groups);
        User::new(name, "", groups, std::collections::BTreeMap::new()).unwrap()
    };
    let version = Attributes { verb: "get", object: Object::Path("/version") };
    assert!(matches!(rights.allows(&user(ANONYMOUS, &[]), version), Ok(Reason::Rbac(..))));
    assert_eq!(rights.allows(&user("u", &[MASTERS]), version), Ok(Reason::Master));
    let why = |rules: &Authz| rules.allows(&user("u", &[]), version).unwrap_err().to_string();
    assert_eq!(why(&rights), "no binding names this user or its groups");
    let dangling = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: b}\nsubjects: [{kind: User, name: u}]\nroleRef: {kind: ClusterRole, name: nonexistent}";
    assert_eq!(
        why(&authz(dangling)),
        r#"RBAC: clusterrole.rbac.authorization.k8s.io "nonexistent" not found; no role bound to this user or its groups comes near it"#
    );
}

// --- refusals -----------------------------------------------------------------------------------------------

/// Roles with names that stay the same.
const NAMED: &str = "apiVersion: v1
kind: List
items:
- {kind: Role, apiVersion: rbac.authorization.k8s.io/v1, metadata: {name: reader, namespace: d}, rules: [{verbs: [get, list], apiGroups: [''], resources: [pods]}]}
- {kind: Role, apiVersion: rbac.authorization.k8s.io/v1, metadata: {name: looker, namespace: d}, rules: [{verbs: [get], apiGroups: [''], resources: [pods/exec, services/proxy]}]}
- {kind: RoleBinding, apiVersion: rbac.authorization.k8s.io/v1, metadata: {name: readers, namespace: d}, subjects: [{kind: User, name: bob}], roleRef: {kind: Role, name: reader}}
- {kind: RoleBinding, apiVersion: rbac.authorization.k8s.io/v1, metadata: {name: lookers, namespace: d}, subjects: [{kind: User, name: bob}], roleRef: {kind: Role, name: looker}}
- {kind: ClusterRoleBinding, apiVersion: rbac.authorization.k8s.io/v1, metadata: {name: lost}, subjects: [{kind: User, name: eve}], roleRef: {kind: ClusterRole, name: gone}}
";

/// With `explain` and a contact.
fn telling(explain: Explain, contact: Option<&str>) -> Authz {
    let (mut objects, mut problems) = (Objects::default(), Vec::new());
    rbac::read("test", NAMED, &mut objects, &mut problems);
    assert_eq!(problems, []);
    Authz::new(Rules::new(objects), Tell { explain, contact: contact.map(Arc::from) })
}

#[test]
fn how_much_a_refusal_tells() {
    const READER: &str = "Role d/reader, bound by RoleBinding d/readers, allows";
    const LOOKER: &str = "Role d/looker, bound by RoleBinding d/lookers, allows";
    const NONE: &str = "no role bound to this user or its groups comes near it";
    const GONE: &str = r#": RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found"#;
    let exec = r#"pods "p" is forbidden: User "bob" cannot VERB resource "pods/exec" in API group "" in the namespace "d""#;
    let pod = r#"pods "p" is forbidden: User "USER" cannot delete resource "pods" in API group "" in the namespace "d""#;
    let (create, get) =
        (exec.replace("VERB", "create"), exec.replace("VERB", "get").replace("\"d\"", "\"e\""));
    let proxied = |user, verb, resource, name, place: &str| {
        format!(
            r#"{resource} "{name}" is forbidden: User "{user}" cannot {verb} resource "{resource}/proxy" in API group "" {place}"#
        )
    };
    let no_binding = "no binding names this user or its groups";
    // Who, how, what; kube-apiserver's text and reason, and what the gate adds to it.
    let rows: [(&str, Method, &str, bool, String, &str, String); 10] = [
        (
            "bob",
            Method::DELETE,
            "/api/v1/namespaces/d/pods/p",
            false,
            pod.replace("USER", "bob"),
            "",
            format!("{READER} get, list on pods; not delete"),
        ),
        (
            "joe",
            Method::DELETE,
            "/api/v1/namespaces/d/pods/p",
            false,
            pod.replace("USER", "joe"),
            "",
            no_binding.into(),
        ),
        (
            "eve",
            Method::DELETE,
            "/api/v1/namespaces/d/pods/p",
            false,
            pod.replace("USER", "eve"),
            GONE,
            NONE.into(),
        ),
        (
            "joe",
            Method::GET,
            "/metrics",
            false,
            r#"forbidden: User "joe" cannot get path "/metrics""#.into(),
            "",
            no_binding.into(),
        ),
        (
            "bob",
            Method::POST,
            "/api/v1/namespaces/d/pods/p/exec",
            true,
            create.clone(),
            "",
            format!("{LOOKER} get on pods/exec; not create; ask for create on pods/exec in namespace d"),
        ),
        (
            "bob",
            Method::GET,
            "/api/v1/namespaces/d/pods/p/exec",
            true,
            create,
            "",
            format!(
                "opening a stream takes create besides get; {LOOKER} get on pods/exec; not create; ask for create on pods/exec in namespace d"
            ),
        ),
        (
            "bob",
            Method::GET,
            "/api/v1/namespaces/e/pods/p/exec",
            true,
            get,
            "",
            format!(
                "{LOOKER} get on pods/exec in namespace d only; not in e; ask for get and create on pods/exec in namespace e"
            ),
        ),
        (
            "bob",
            Method::POST,
            "/api/v1/namespaces/d/services/s/proxy/x",
            false,
            proxied("bob", "create", "services", "s", r#"in the namespace "d""#),
            "",
            format!(
                "{LOOKER} get on services/proxy; not create; ask for create on services/proxy in namespace d"
            ),
        ),
        (
            "joe",
            Method::GET,
            "/api/v1/nodes/n/proxy/pods",
            false,
            proxied("joe", "get", "nodes", "n", "at the cluster scope"),
            "",
            format!("{no_binding}; ask for get on nodes/proxy at the cluster scope"),
        ),
        (
            "joe",
            Method::GET,
            "/api/v1/nodes/n/proxy/pods",
            true,
            proxied("joe", "get", "nodes", "n", "at the cluster scope"),
            "",
            format!("{no_binding}; ask for get and create on nodes/proxy at the cluster scope"),
        ),
    ];
    for (explain, contact, end) in [
        (Explain::Full, None, " (audit id 7)"),
        (Explain::Own, None, " (audit id 7)"),
        (Explain::Own, Some("ask ops"), " (ask ops; audit id 7)"),
        (Explain::Off, None, " (audit id 7)"),
        (Explain::Off, Some("ask ops"), " (ask ops; audit id 7)"),
    ] {
        let rights = telling(explain, contact);
        for (user, method, target, upgrade, kube, missing, ours) in &rows {
            let asked = asked(method.clone(), target);
            let bare = Status::forbidden(user, asked.info.attributes(), "").details;
            let refused = rights.authorize(who(&rights, user, &[]), asked, *upgrade).unwrap_err();
            let told = refused.told("7");
            let between = if missing.is_empty() { ": " } else { "; " };
            let whole = format!("{kube}{missing}{between}{ours}");
            let want = if explain != Explain::Off { &whole } else { &format!("{kube}{missing}") };
            assert_eq!(told.message, format!("{want}{end}"));
            assert_eq!((told.code, told.reason, told.details), (403, "Forbidden", bare));
            // Whatever the caller is told, the log and the record have it all.
            assert_eq!((&refused.whole, format!("{kube}: {}", refused.reason)), (&whole, whole.clone()));
        }
        let imp = |text: &str| rights.impersonate(proven("bob", &[]), &mut headers(text)).unwrap_err();
        let kube = r#"users "joe" is forbidden: User "bob" cannot impersonate resource "users" in API group "" at the cluster scope"#;
        let refused = imp("impersonate-user: joe");
        let ours = if explain != Explain::Off { format!(": {NONE}") } else { String::new() };
        assert_eq!(refused.told("7").message, format!("{kube}{ours}{end}"));
        assert_eq!((&*refused.whole, &*refused.reason), (&*format!("{kube}: {NONE}"), NONE));
        // What nobody could allow is nobody's to ask.
        let malformed = imp("impersonate-group: dev");
        assert_eq!(
            (malformed.told("7"), malformed.whole),
            (malformed.status.clone(), malformed.status.message)
        );
    }
}

fn rules(objects: &str) -> Rules {
    let (mut read, mut problems) = (Objects::default(), Vec::new());
    let begin = "- {apiVersion: rbac.authorization.k8s.io/v1, kind:";
    rbac::read(
        "test",
        &format!("apiVersion: v1\nkind: List\nitems:\n{}", objects.replace("- {kind:", begin)),
        &mut read,
        &mut problems,
    );
    assert_eq!(problems, []);
    Rules::new(read)
}

/// Editors of a shop, who are a group, somebody for the whole cluster, and an account.
const SHOP: &str = "
- {kind: ClusterRole, metadata: {name: edit}, rules: [{verbs: [delete], apiGroups: [''], resources: [pods]}]}
- {kind: ClusterRole, metadata: {name: all}, rules: [{verbs: ['*'], apiGroups: ['*'], resources: ['*']}]}
- {kind: ClusterRole, metadata: {name: view}, rules: [{verbs: [get, list], apiGroups: [''], resources: [pods]}]}
- {kind: RoleBinding, metadata: {name: editors, namespace: shop}, subjects: [{kind: Group, name: 'shop:editors'}, {kind: User, name: bob}, {kind: User, name: ann}], roleRef: {kind: ClusterRole, name: edit}}
- {kind: RoleBinding, metadata: {name: viewers, namespace: shop}, subjects: [{kind: Group, name: viewers}], roleRef: {kind: ClusterRole, name: view}}
- {kind: RoleBinding, metadata: {name: cleaner, namespace: cron}, subjects: [{kind: ServiceAccount, name: sweep}], roleRef: {kind: ClusterRole, name: edit}}
- {kind: ClusterRoleBinding, metadata: {name: admins}, subjects: [{kind: Group, name: 'system:masters'}, {kind: Group, name: ops}], roleRef: {kind: ClusterRole, name: all}}
";

#[test]
fn a_full_refusal_names_a_few_who_may_instead() {
    let rows = [
        // Those of the namespace first, groups before users before accounts; none of the cluster's own.
        (
            "/api/v1/namespaces/shop/pods/p",
            "ClusterRole edit allows it to Group shop:editors (RoleBinding shop/editors), \
             ClusterRole edit allows it to User ann (RoleBinding shop/editors), \
             ClusterRole edit allows it to User bob (RoleBinding shop/editors), and more",
        ),
        (
            "/api/v1/namespaces/cron/pods/p",
            "ClusterRole edit allows it to ServiceAccount cron/sweep (RoleBinding cron/cleaner), \
             ClusterRole all allows it to Group ops (ClusterRoleBinding admins)",
        ),
        ("/metrics", ""),
    ];
    for (target, others) in rows {
        for explain in [Explain::Off, Explain::Own, Explain::Full] {
            let rights = Authz::new(rules(SHOP), Tell { explain, contact: None });
            let refused =
                rights.authorize(who(&rights, "joe", &[]), asked(Method::DELETE, target), false).unwrap_err();
            let nearest = "no binding names this user or its groups";
            let whole = if others.is_empty() { nearest.to_owned() } else { format!("{nearest}; {others}") };
            assert_eq!(refused.reason, whole);
            assert!(refused.whole.ends_with(&format!(": {whole}")), "{}", refused.whole);
            let told = refused.told("7").message;
            match explain {
                Explain::Off => assert!(!told.contains(nearest) && !told.contains("ops"), "{told}"),
                Explain::Own => assert!(told.ends_with(&format!(": {nearest} (audit id 7)")), "{told}"),
                Explain::Full => assert!(told.ends_with(&format!(": {whole} (audit id 7)")), "{told}"),
            }
        }
    }
}

#[test]
fn a_refusal_by_two_sources_tells_of_the_nearer() {
    const NO_BINDING: &str = "no binding names this user or its groups";
    const NO_ROLE: &str = "no role bound to this user or its groups comes near it";
    const VIEW: &str =
        "ClusterRole view, bound by RoleBinding shop/viewers, allows get, list on pods; not delete";
    let shop = SHOP.replace("name: viewers}]", "name: viewers}, {kind: User, name: joe}]");
    let elsewhere = "
- {kind: Role, metadata: {name: r, namespace: shop}, rules: [{verbs: [delete], apiGroups: [apps], resources: [pods]}]}
- {kind: RoleBinding, metadata: {name: b, namespace: shop}, subjects: [{kind: User, name: joe}], roleRef: {kind: Role, name: r}}";
    let ghost = |role: &str| {
        format!(
            "- {{kind: RoleBinding, metadata: {{name: g-{role}, namespace: shop}}, subjects: [{{kind: User, name: joe}}], roleRef: {{kind: ClusterRole, name: {role}}}}}"
        )
    };
    let gone = |role: &str| format!("clusterrole.rbac.authorization.k8s.io {role:?} not found");
    let rows = [
        (shop.as_str(), "", format!("{VIEW} (from files)"), String::new()),
        ("", &*shop, format!("{VIEW} (from the cluster)"), String::new()),
        // The nearer, whichever it is of; of equals, that of the files.
        (&shop, elsewhere, format!("{VIEW} (from files)"), String::new()),
        (elsewhere, &shop, format!("{VIEW} (from the cluster)"), String::new()),
        (&shop, &shop, format!("{VIEW} (from files)"), String::new()),
        // Who is bound to something loses to who nearly may, and wins over nobody.
        (&ghost("x"), &shop, format!("{VIEW} (from the cluster)"), format!("RBAC: {}", gone("x"))),
        (&ghost("x"), "", NO_ROLE.to_owned(), format!("RBAC: {}", gone("x"))),
        ("", &ghost("x"), NO_ROLE.to_owned(), format!("RBAC: {}", gone("x"))),
        (&ghost("x"), &ghost("x"), NO_ROLE.to_owned(), format!("RBAC: {}", gone("x"))),
        (&ghost("x"), &ghost("z"), NO_ROLE.to_owned(), format!("RBAC: [{}, {}]", gone("x"), gone("z"))),
        ("", "", NO_BINDING.to_owned(), String::new()),
    ];
    let pod = resource("delete", "", "pods");
    let Object::Resource { group, version, resource, subresource, name, .. } = pod.object else { panic!() };
    let pod = Object::Resource { group, version, resource, subresource, name, namespace: "shop" };
    for (files, cluster, nearest, missing) in rows {
        let rights =
            Authz::new(rules(files), Tell::default()).with_cluster(Live::Known(Arc::new(rules(cluster))));
        let joe = proven("joe", &[]);
        let denial = rights.allows(joe.user(), Attributes { verb: "delete", object: pod }).unwrap_err();
        assert_eq!((denial.nearest, denial.missing), (nearest, missing), "{files} and {cluster}");
    }
    // Others are of both as well.
    let rights =
        Authz::new(rules(SHOP), Tell::default()).with_cluster(Live::Known(Arc::new(rules(elsewhere))));
    let denial =
        rights.allows(proven("eve", &[]).user(), Attributes { verb: "delete", object: pod }).unwrap_err();
    assert_eq!(
        denial.others,
        "ClusterRole edit allows it to Group shop:editors (RoleBinding shop/editors) from files, \
         ClusterRole edit allows it to User ann (RoleBinding shop/editors) from files, \
         ClusterRole edit allows it to User bob (RoleBinding shop/editors) from files, and more"
    );
}

#[test]
fn an_odd_namespace_is_quoted_in_what_to_ask_for() {
    let object = Object::Resource {
        group: "",
        version: "v1",
        resource: "pods",
        subresource: "exec",
        namespace: "a\nb (c)",
        name: "x",
    };
    let text = refusal::ask_for(&["create"], Attributes { verb: "create", object });
    assert_eq!(text, r#"ask for create on pods/exec in namespace "a\nb (c)""#);
}
