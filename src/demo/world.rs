//! What the demo's cluster holds when it starts.

use super::{
    answer::Failure,
    store::{Store, key_of},
    value::{set, text},
    write::{self, Write},
};
use crate::{
    codec::yaml,
    rbac::{GROUP, live::Kind},
};
use serde_json::{Value, json};
use std::io;

/// The user that the gate is to the API server.
pub const GATEWAY_USER: &str = "gatelog";
/// Members may do everything.
pub const ADMINS: &str = "demo:admins";
/// Members may edit in `shop` and look around in `team-a`.
pub const DEVELOPERS: &str = "demo:developers";
/// Members may look around everywhere.
pub const VIEWERS: &str = "demo:viewers";

/// The provider's developers: members may do what [`DEVELOPERS`] may.
pub const OIDC_DEVELOPERS: &str = "oidc:developers";

/// What the demo's users may do, on top of the bootstrap roles: RBAC manifests for the gate and for the API server.
pub fn rbac_yaml() -> &'static str {
    include_str!("world/rbac.yaml")
}

/// What every cluster has: the roles and bindings that the gate ships as its defaults, too.
static BOOTSTRAP: [&str; 2] =
    [include_str!("../../policies/rbac/system.yaml"), include_str!("../../policies/rbac/user.yaml")];
/// Namespaces, a node, and what runs on it.
static OBJECTS: &str = include_str!("world/objects.yaml");

/// Who the gate is to the API server, and what it may do there: always to impersonate anybody, and to read the keys of service
/// accounts; nothing else unless it is said here.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// The users that it may be.
    pub users: Vec<String>,
    /// Whether it may ask whose token it is.
    pub reviews_tokens: bool,
    /// Whether it may read the cluster's rules.
    pub reads_rules: bool,
}

impl Default for Gateway {
    fn default() -> Self {
        Self { users: vec![GATEWAY_USER.into()], reviews_tokens: false, reads_rules: false }
    }
}

/// Fills an empty store.
pub(super) fn fill(store: &Store, gate: &Gateway) -> io::Result<()> {
    let mut objects = Vec::new();
    for text in [BOOTSTRAP[0], BOOTSTRAP[1], OBJECTS, rbac_yaml()] {
        let documents = yaml::documents(text).map_err(io::Error::other)?;
        objects.extend(documents.into_iter().map(|d| d.value));
    }
    objects.extend(gateway(gate));
    objects.into_iter().try_for_each(|object| place(store, object))
}

/// Stores an object as the server's own administrators would, in place of one of its name.
pub(super) fn place(store: &Store, object: Value) -> io::Result<()> {
    let by = Write { manager: "gatelog-demo".into(), dry_run: false };
    let at = table(store, &object)?;
    let (namespace, name) = key_of(&object);
    let placed = store.write(|s| {
        let of = write::own(s, at)?;
        let keep = Some(of.kind).filter(|k| k.plural == "nodes").and(object.get("status").cloned());
        if s.get(at, &namespace, &name).is_some() {
            return write::update(s, of, "", &namespace, &name, object, &by).map(|_| ());
        }
        let made = write::create(s, of, &namespace, object, &by)?;
        if let Some(status) = keep {
            let mut with_status = Value::clone(&made);
            set(&mut with_status, "/status", status);
            s.put(at, with_status);
        }
        Ok(())
    });
    placed.map_err(|f: Failure| io::Error::other(f.message))
}

/// Takes an object of this kind, namespace and name out of the store; whether it was there.
pub(super) fn remove(store: &Store, object: &Value) -> io::Result<bool> {
    let at = table(store, object)?;
    let (namespace, name) = key_of(object);
    Ok(store.write(|s| s.remove(at, &namespace, &name)).is_some())
}

fn table(store: &Store, object: &Value) -> io::Result<usize> {
    let group = text(object, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
    let kind = text(object, "/kind");
    store
        .served()
        .by_kind(group, kind)
        .ok_or_else(|| io::Error::other(format!("the demo has no kind {kind:?}")))
}

/// The gate's own rights.
fn gateway(gate: &Gateway) -> Vec<Value> {
    let rule = |verb: &str, group: &str, resources: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": [verb]});
    let subjects: Vec<Value> = gate
        .users
        .iter()
        .map(|u| json!({"kind": "User", "name": u, "apiGroup": "rbac.authorization.k8s.io"}))
        .collect();
    let typed = |kind: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
        "metadata": {"name": "gatelog:gateway"}})
    };
    let (mut role, mut binding) = (typed("ClusterRole"), typed("ClusterRoleBinding"));
    // Each key is listed: `userextras/*` would match only a key that is an asterisk.
    let extra = ["credential-id", "node-name", "node-uid", "pod-name", "pod-uid"]
        .map(|key| format!("userextras/authentication.kubernetes.io/{key}"));
    let authn: Vec<&str> = std::iter::once("uids").chain(extra.iter().map(String::as_str)).collect();
    let mut rules = vec![
        rule("impersonate", "", &["users", "groups", "serviceaccounts"]),
        rule("impersonate", "authentication.k8s.io", &authn),
        // In a pod, a service account would have this one from the cluster.
        json!({"nonResourceURLs": ["/.well-known/openid-configuration", "/openid/v1/jwks"], "verbs": ["get"]}),
    ];
    if gate.reviews_tokens {
        rules.push(rule("create", "authentication.k8s.io", &["tokenreviews"]));
    }
    if gate.reads_rules {
        let kinds = Kind::ALL.map(Kind::plural);
        rules.extend(["get", "list", "watch"].map(|verb| rule(verb, GROUP, &kinds)));
    }
    set(&mut role, "/rules", rules);
    set(
        &mut binding,
        "/roleRef",
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "gatelog:gateway"}),
    );
    set(&mut binding, "/subjects", subjects);
    vec![role, binding]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{
        kinds::{self, KINDS},
        value::int,
    };

    #[test]
    fn the_world_comes_to_rest() {
        let store = Store::default();
        fill(&store, &Gateway::default()).unwrap();
        let deployments = kinds::by_plural("apps", "deployments").unwrap();
        let web = store.read(|s| s.get(deployments, "shop", "web")).unwrap();
        assert_eq!(int(&web, "/status/readyReplicas"), Some(3));
        let pods = kinds::by_plural("", "pods").unwrap();
        store.read(|s| {
            for (_, pod) in s.objects(pods) {
                assert!(matches!(text(pod, "/status/phase"), "Running" | "Succeeded"));
            }
        });
    }

    #[test]
    fn all_that_is_stored_has_the_form_of_its_kind() {
        let store = Store::default();
        fill(&store, &Gateway::default()).unwrap();
        for (at, kind) in KINDS.iter().enumerate() {
            let of = crate::demo::schema::kind(kind.group, kind.version, kind.kind).unwrap();
            store.read(|s| {
                for (key, object) in s.objects(at) {
                    assert_eq!(crate::demo::schema::check(of, object), [], "{} {key:?}", kind.kind);
                }
            });
        }
    }

    #[test]
    fn the_users_rights_have_no_faults() {
        let (mut objects, mut problems) = (crate::rbac::Objects::default(), Vec::new());
        crate::rbac::read("demo", rbac_yaml(), &mut objects, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
    }
}
