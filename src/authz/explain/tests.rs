use super::*;
use crate::authz::{Live, Tell};
use crate::rbac::{Objects, read};
use serde_json::{Value, json};

/// Rules in short: `NAMESPACE/BINDING ROLE KIND NAME: VERBS RESOURCES`, `/` before a binding of the whole cluster.
fn rules(lines: &[&str]) -> Rules {
    let (mut objects, mut problems) = (Objects::default(), Vec::new());
    for line in lines {
        let (head, rule) = line.split_once(": ").unwrap();
        let [binding, role, kind, name] = head.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (verbs, resources) = rule.split_once(' ').unwrap();
        let (namespace, binding) = binding.split_once('/').unwrap();
        let what = if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
        let list = |words: &str| words.split(',').map(str::to_owned).collect::<Vec<_>>();
        let of = if resources.starts_with('/') {
            json!({"verbs": list(verbs), "nonResourceURLs": list(resources)})
        } else {
            json!({"verbs": list(verbs), "apiGroups": [""], "resources": list(resources)})
        };
        let api = "rbac.authorization.k8s.io";
        let v1 = format!("{api}/v1");
        let role_object =
            json!({"apiVersion": v1, "kind": "ClusterRole", "metadata": {"name": role}, "rules": [of]});
        let mut binding = json!({
            "apiVersion": v1, "kind": what, "metadata": {"name": binding},
            "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": api, "kind": kind, "name": name}],
        });
        if !namespace.is_empty() {
            binding["metadata"]["namespace"] = namespace.into();
        }
        read("rules", &role_object.to_string(), &mut objects, &mut problems);
        read("rules", &binding.to_string(), &mut objects, &mut problems);
    }
    assert!(problems.is_empty(), "{problems:?}");
    Rules::new(objects)
}

fn authz(files: &[&str]) -> Authz {
    Authz::new(rules(files), Tell::default())
}

fn question(value: Value) -> Question {
    serde_json::from_value(value).unwrap()
}

fn explained(authz: &Authz, asked: Value) -> Value {
    let answer = authz.explain(&question(asked)).unwrap();
    let json = serde_json::to_value(&answer).unwrap();
    // What is printed is what is understood.
    assert_eq!(serde_json::from_value::<Explained>(json.clone()).unwrap(), answer);
    json
}

fn who(authz: &Authz, asked: Value) -> Value {
    let answer = authz.who_can(&question(asked)).unwrap();
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!(serde_json::from_value::<Allowed>(json.clone()).unwrap(), answer);
    json
}

fn pods(verb: &str) -> Value {
    json!({"user": "alice", "verb": verb, "resource": "pods", "namespace": "shop"})
}

const READERS: &str = "shop/readers reader User alice: get,list pods";

#[test]
fn what_allows_it_is_told() {
    let told = explained(&authz(&[READERS]), pods("get"));
    assert_eq!(
        told,
        json!({
            "user": "alice", "groups": ["system:authenticated"],
            "asked": {"verb": "get", "group": "", "resource": "pods", "subresource": "", "namespace": "shop", "name": ""},
            "mode": "enforce", "enforced": true, "allowed": true,
            "by": [{
                "binding": {"kind": "RoleBinding", "namespace": "shop", "name": "readers"},
                "role": {"kind": "ClusterRole", "name": "reader"},
                "subject": {"kind": "User", "name": "alice"},
                "index": 0,
                "rule": {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]},
            }],
        })
    );
    let path = explained(
        &authz(&["/all all Group system:authenticated: get /metrics"]),
        json!({"user": "alice", "verb": "get", "path": "/metrics"}),
    );
    assert_eq!(path["asked"], json!({"verb": "get", "path": "/metrics"}));
    assert_eq!(path["by"][0]["rule"], json!({"verbs": ["get"], "nonResourceURLs": ["/metrics"]}));
    let root = json!({"user": "root", "groups": ["system:masters"], "verb": "*", "resource": "*"});
    let root = explained(&authz(&[]), root);
    assert_eq!((&root["allowed"], &root["masters"], &root["by"]), (&true.into(), &true.into(), &Value::Null));
}

#[test]
fn what_came_near_is_told() {
    let told = explained(&authz(&[READERS]), pods("delete"));
    assert_eq!((&told["allowed"], &told["refusedVerb"]), (&false.into(), &"delete".into()));
    assert_eq!(
        told["nearMisses"],
        json!([{
            "binding": {"kind": "RoleBinding", "namespace": "shop", "name": "readers"},
            "role": {"kind": "ClusterRole", "name": "reader"},
            "text": "ClusterRole reader, bound by RoleBinding shop/readers, allows get, list on pods; not delete",
        }])
    );
    assert_eq!(
        (&told["missing"], &told["unknown"], &told["others"]),
        (&"".into(), &Value::Null, &Value::Null)
    );
    let told =
        explained(&authz(&[READERS, "shop/editors editor Group editors: delete pods"]), pods("delete"));
    assert_eq!(told["others"], "ClusterRole editor allows it to Group editors (RoleBinding shop/editors)");
    let nothing = explained(&authz(&[]), pods("delete"));
    assert_eq!(nothing["nearest"], "no binding names this user or its groups");
}

#[test]
fn opening_a_stream_takes_two_things() {
    let asked = || json!({"user": "alice", "verb": "get", "resource": "pods", "subresource": "exec", "namespace": "shop"});
    let get = "shop/g g User alice: get pods/exec";
    let create = "shop/c c User alice: create pods/exec";
    let told = explained(&authz(&[get]), asked());
    assert_eq!((&told["allowed"], &told["refusedVerb"]), (&false.into(), &"create".into()));
    // One from each source.
    let live = Live::Known(Arc::new(rules(&[create])));
    let told = explained(&authz(&[get]).with_cluster(live.clone()), asked());
    assert_eq!(told["allowed"], true);
    assert_eq!((&told["by"][0]["source"], &told["by"][1]["source"]), (&"files".into(), &"cluster".into()));
    let mut nobody = asked();
    nobody.as_object_mut().unwrap().remove("user");
    let told = who(&authz(&[get]).with_cluster(live), nobody);
    assert_eq!(told["may"].as_array().unwrap().len(), 1, "{told}");
}

#[test]
fn each_source_is_named_where_there_are_two() {
    let live = Live::Known(Arc::new(rules(&["/viewers viewer User alice: watch pods"])));
    let both = authz(&[READERS]).with_cluster(live);
    assert_eq!(explained(&both, pods("get"))["by"][0]["source"], "files");
    let watch = explained(&both, pods("watch"));
    assert_eq!(watch["by"][0]["source"], "cluster");
    assert_eq!(watch["by"][0]["rule"]["verbs"], json!(["watch"]));
    let near = explained(&both, pods("delete"))["nearMisses"].clone();
    let sources: BTreeSet<&str> =
        near.as_array().unwrap().iter().map(|near| near["source"].as_str().unwrap()).collect();
    assert_eq!(sources, BTreeSet::from(["cluster", "files"]), "{near}");
    let told = who(&both, json!({"verb": "watch", "resource": "pods", "namespace": "shop"}));
    assert_eq!(told["may"][0]["source"], "cluster");
    // The nearest first, wherever it is from: bound elsewhere is nearer than another verb.
    let live = Live::Known(Arc::new(rules(&["lab/editors editor User alice: delete pods"])));
    let near = explained(&authz(&[READERS]).with_cluster(live), pods("delete"))["nearMisses"].clone();
    assert_eq!((&near[0]["source"], &near[1]["source"]), (&"cluster".into(), &"files".into()), "{near}");
}

#[test]
fn what_is_not_known_is_no_denial() {
    let lost = authz(&[READERS]).with_cluster(Live::Unknown("not listed yet".into()));
    let told = explained(&lost, pods("delete"));
    assert_eq!((&told["allowed"], &told["unknown"]), (&false.into(), &"not listed yet".into()));
    assert_eq!(explained(&lost, pods("get"))["allowed"], true);
    let told = who(&lost, json!({"verb": "get", "resource": "pods", "namespace": "shop"}));
    assert_eq!((told["may"].as_array().unwrap().len(), &told["unknown"]), (1, &"not listed yet".into()));
}

#[test]
fn rehearsed_rules_answer_beside_the_others() {
    let candidate =
        Arc::new(rules(&["shop/readers reader User alice: list pods", "shop/b b User bob: get pods"]));
    let authz = authz(&[READERS]).with_shadow(Some(candidate));
    let told = explained(&authz, pods("get"));
    assert_eq!((&told["allowed"], &told["shadow"]["allowed"]), (&true.into(), &false.into()));
    assert_eq!(told["shadow"]["refusedVerb"], "get");
    let told = who(&authz, json!({"verb": "get", "resource": "pods", "namespace": "shop"}));
    assert_eq!(told["may"][0]["subject"]["name"], "alice");
    assert_eq!(told["shadow"][0]["subject"]["name"], "bob");
}

#[test]
fn what_observing_does_not_relax_is_told() {
    let observing = authz(&[]).with_mode(Mode::Observe);
    let told = explained(&observing, pods("get"));
    assert_eq!((&told["mode"], &told["enforced"]), (&"observe".into(), &false.into()));
    let mut exec = pods("create");
    exec["subresource"] = "exec".into();
    assert_eq!(explained(&observing, exec)["enforced"], true);
}

#[test]
fn what_is_no_question_is_refused() {
    let none = authz(&[]);
    for (asked, why) in [
        (json!({"user": "a", "resource": "pods"}), "verb: is missing"),
        (json!({"user": "a", "verb": "get"}), "expected a resource or a path"),
        (
            json!({"user": "a", "verb": "get", "resource": "pods", "path": "/x"}),
            "expected either a resource or a path",
        ),
        (json!({"user": "a", "verb": "get", "path": "x"}), "path: expected one that begins with /"),
        (
            json!({"user": "a", "verb": "get", "path": "/x", "name": "b"}),
            "a path has no group, no subresource, no namespace and no name",
        ),
        (json!({"verb": "get", "resource": "pods"}), "the user name is empty"),
        (
            json!({"user": " a", "verb": "get", "resource": "pods"}),
            "user name \" a\" cannot be carried in a header without change",
        ),
    ] {
        assert_eq!(none.explain(&question(asked.clone())).unwrap_err().to_string(), why, "{asked}");
    }
    let who = none.who_can(&question(pods("get"))).unwrap_err().to_string();
    assert_eq!(who, "who may is asked for nobody: expected no user and no groups");
    for unread in [json!({"verb": "get", "nmespace": "a"}), json!({"verb": 7})] {
        assert!(serde_json::from_value::<Question>(unread.clone()).is_err(), "{unread}");
    }
}
