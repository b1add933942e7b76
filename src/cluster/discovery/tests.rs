use super::*;

fn listed(text: &str) -> Listed {
    serde_json::from_str(text).unwrap()
}

fn kind(text: &str) -> Kind {
    let mut words = text.split(' ').map(str::to_owned);
    let mut next = || words.next().unwrap();
    Kind { group: next(), version: next(), kind: next() }
}

#[test]
fn aggregated_form() {
    let text = r#"{"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": [
        {"metadata": {"name": "ex.io", "creationTimestamp": null}, "versions": [
            {"version": "v1", "freshness": "Current", "resources": [
                {"resource": "foos", "responseKind": {"group": "", "version": "", "kind": "Foo"}, "scope": "Namespaced",
                 "singularResource": "foo", "verbs": ["get", "list"], "shortNames": ["f"], "subresources": [
                    {"subresource": "scale", "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"},
                     "acceptedTypes": [{"group": "", "version": "", "kind": ""}], "verbs": ["get"]},
                    {"subresource": "odd", "responseKind": null, "verbs": null}]},
                {"resource": "bars", "scope": "Cluster", "verbs": ["create"]}]},
            {"version": "v2", "freshness": "Stale"}]},
        {"metadata": {}, "versions": null}]}"#;
    assert!(aggregated(br#"{"kind": "APIVersions"}"#).is_err());
    let groups = aggregated(text.as_bytes()).unwrap();
    let [ex, core] = &groups[..] else { panic!("{groups:?}") };
    assert_eq!((core.name.as_str(), core.versions.len()), ("", 0));
    let [v1, v2] = &ex.versions[..] else { panic!("{ex:?}") };
    assert_eq!((v2.current, v2.resources.len()), (false, 0));
    let [foos, bars] = &v1.resources[..] else { panic!("{v1:?}") };
    assert!(v1.current && foos.namespaced && !bars.namespaced);
    assert_eq!((foos.kind.kind.as_str(), bars.kind.kind.as_str()), ("Foo", ""));
    assert_eq!(foos.subresources[0].kind, kind("autoscaling v1 Scale"));
    assert_eq!(foos.subresources[1].verbs, [""; 0]);
}

#[test]
fn legacy_form() {
    let groups = listed(
        r#"{"kind": "APIGroupList", "apiVersion": "v1", "groups": [{"name": "apps", "versions":
        [{"groupVersion": "apps/v1", "version": "v1"}], "preferredVersion": {"groupVersion": "apps/v1", "version": "v1"}}]}"#,
    );
    let named: Vec<_> = groups.groups.into_iter().map(LegacyGroup::named).collect();
    assert_eq!(named, [("apps".to_owned(), vec!["v1".to_owned()])]);
    let core = listed(r#"{"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}"#);
    assert_eq!(core.versions, ["v1"]);
    let text = r#"{"kind": "APIResourceList", "groupVersion": "v1", "resources": [
        {"name": "pods/log", "singularName": "", "namespaced": true, "kind": "Pod", "verbs": ["get"]},
        {"name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "verbs": ["get", "list"], "shortNames": ["po"]},
        {"name": "pods/eviction", "namespaced": true, "group": "policy", "version": "v1", "kind": "Eviction", "verbs": ["create"]},
        {"name": "nodes", "kind": "Node", "verbs": null},
        {"name": "deployments.apps/requests", "namespaced": true, "kind": "MetricValueList", "verbs": ["get"]}]}"#;
    let resources = serde_json::from_str::<LegacyList>(text).unwrap().resources();
    let [pods, nodes, metrics] = &resources[..] else { panic!("{resources:?}") };
    assert_eq!((pods.name.as_str(), pods.namespaced, pods.verbs.len()), ("pods", true, 2));
    let below: Vec<_> = pods.subresources.iter().map(|below| below.name.as_str()).collect();
    assert_eq!(below, ["log", "eviction"]);
    assert_eq!(pods.subresources[1].kind, kind("policy v1 Eviction"));
    assert_eq!((nodes.name.as_str(), nodes.namespaced, nodes.verbs.len()), ("nodes", false, 0));
    assert_eq!(
        (metrics.name.as_str(), metrics.verbs.len(), metrics.subresources.len()),
        ("deployments.apps", 0, 1)
    );
}

#[test]
fn documents_by_path() {
    assert_eq!(openapi_path("", "v1"), "api/v1");
    assert_eq!(openapi_path("apps", "v1"), "apis/apps/v1");
}
