//! The decisions as callers meet them, and the shipped roles against their tables.

use super::*;
use crate::rbac::{self, Objects};
use std::{collections::BTreeSet, path::PathBuf};

fn resource<'a>(verb: &'a str, group: &'a str, what: &'a str) -> Attributes<'a> {
    let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
    let object = Object::Resource { group, version: "v1", resource, subresource, namespace: "ns", name: "x" };
    Attributes { verb, object }
}

// --- the shipped roles --------------------------------------------------------------------------------------

const R: &str = "get list watch";
const W: &str = "create delete deletecollection patch update";

/// `verbs on group: resources` by role. What a role includes of another one stands there.
const TABLES: [(&str, &[(&str, &str, &str)]); 6] = [
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

const VIEW: &[(&str, &str, &str)] = &[
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

const EDIT: &[(&str, &str, &str)] = &[
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

const ADMIN: &[(&str, &str, &str)] = &[
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

fn table(rows: &[(&str, &str, &str)]) -> BTreeSet<(String, String, String)> {
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
        Config { paths: paths.iter().map(|p| self.0.join(p)).collect(), bootstrap: false }
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
