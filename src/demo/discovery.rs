//! Discovery, aggregated and legacy, and `/version`.

use super::{
    answer::{Answer, json_answer, typed},
    kinds::{Kind, Served, Sub, group_version},
};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const AGGREGATED_BETA: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// `/api` and `/apis`: what the client accepts decides between aggregated and legacy.
pub(super) fn roots(served: &Served, path: &str, headers: &HeaderMap) -> Answer {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let core = path.trim_matches('/') == "api";
    for clause in accept.split(',') {
        if !clause.contains("as=APIGroupDiscoveryList") || !clause.contains("g=apidiscovery.k8s.io") {
            continue;
        }
        let (media, version) = if clause.contains("v=v2beta1") {
            (AGGREGATED_BETA, "v2beta1")
        } else if clause.contains("v=v2") {
            (AGGREGATED, "v2")
        } else {
            continue;
        };
        return tagged(media, &aggregated(served, core, version), headers);
    }
    json_answer(200, &if core { core_versions() } else { group_list(served) })
}

/// Answers with an ETag, or 304 if the client has this already.
pub(super) fn tagged(media: &'static str, value: &Value, headers: &HeaderMap) -> Answer {
    let body = value.to_string();
    let tag = format!("\"{}\"", digest(body.as_bytes()));
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == tag.as_bytes());
    let mut answer = if known {
        let mut answer = Response::new(super::answer::full(""));
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer
    } else {
        typed(200, media, body)
    };
    let headers = answer.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    answer
}

/// SHA-512 in upper-case hexadecimal digits, as discovery and OpenAPI name versions of a document.
pub(super) fn digest(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, bytes);
    digest.as_ref().iter().map(|b| format!("{b:02X}")).collect()
}

fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn aggregated(served: &Served, core: bool, version: &str) -> Value {
    let items = served.groups().into_iter().filter(|(group, _)| group.is_empty() == core).map(|(group, versions)| {
        let versions = versions.into_iter().map(|version| {
            let resources = served.of(group, version);
            json!({"version": version, "freshness": "Current", "resources": resources.map(resource).collect::<Vec<_>>()})
        });
        json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": versions.collect::<Vec<_>>()})
    });
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {},
        "items": items.collect::<Vec<_>>()})
}

fn resource(kind: &Kind) -> Value {
    // Custom resources repeat the group and version that they are listed under.
    let own = if kind.custom.is_some() { (kind.group, kind.version) } else { ("", "") };
    let mut out = json!({"resource": kind.plural, "responseKind": gvk(own.0, own.1, kind.kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" }, "singularResource": kind.singular,
        "verbs": kind.verbs});
    let Some(map) = out.as_object_mut() else { return out };
    if !kind.short.is_empty() {
        map.insert("shortNames".into(), json!(kind.short));
    }
    if !kind.categories.is_empty() {
        map.insert("categories".into(), json!(kind.categories));
    }
    if !kind.subs.is_empty() {
        let sub = |s: &Sub| {
            let name = if s.kind.is_empty() { kind.kind } else { s.kind };
            let (group, version) = if s.group.is_empty() { own } else { (s.group, s.version) };
            json!({"subresource": s.name, "responseKind": gvk(group, version, name), "verbs": s.verbs})
        };
        map.insert("subresources".into(), kind.subs.iter().map(sub).collect());
    }
    out
}

fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1:443"}]})
}

fn group(name: &str, versions: &[&str]) -> Value {
    let each: Vec<Value> =
        versions.iter().map(|v| json!({"groupVersion": group_version(name, v), "version": v})).collect();
    json!({"name": name, "versions": each, "preferredVersion": each.first()})
}

fn group_list(served: &Served) -> Value {
    let named = served.groups().into_iter().filter(|(name, _)| !name.is_empty());
    json!({"kind": "APIGroupList", "apiVersion": "v1",
        "groups": named.map(|(name, versions)| group(name, &versions)).collect::<Vec<_>>()})
}

/// `/apis/<group>`
pub(super) fn one_group(served: &Served, name: &str) -> Option<Value> {
    let (name, versions) = served.groups().into_iter().find(|(g, _)| *g == name && !g.is_empty())?;
    let mut out = json!({"kind": "APIGroup", "apiVersion": "v1"});
    if let (Some(out), Value::Object(rest)) = (out.as_object_mut(), group(name, &versions)) {
        out.extend(rest);
    }
    Some(out)
}

/// `/api/v1`, `/apis/<group>/<version>`
pub(super) fn resources(served: &Served, group: &str, version: &str) -> Option<Value> {
    let mut all = Vec::new();
    for kind in served.of(group, version) {
        let mut one = json!({"name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
            "kind": kind.kind, "verbs": kind.verbs});
        if let Some(map) = one.as_object_mut() {
            if !kind.short.is_empty() {
                map.insert("shortNames".into(), json!(kind.short));
            }
            if !kind.categories.is_empty() {
                map.insert("categories".into(), json!(kind.categories));
            }
        }
        all.push(one);
        for sub in kind.subs {
            let name = if sub.kind.is_empty() { kind.kind } else { sub.kind };
            let mut one = json!({"name": format!("{}/{}", kind.plural, sub.name), "singularName": "",
                "namespaced": kind.namespaced, "kind": name, "verbs": sub.verbs});
            if let Some(map) = one.as_object_mut().filter(|_| !sub.group.is_empty()) {
                map.insert("group".into(), sub.group.into());
                map.insert("version".into(), sub.version.into());
            }
            all.push(one);
        }
    }
    if all.is_empty() {
        return None;
    }
    Some(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version(group, version),
        "resources": all}))
}

/// `/version`
pub(super) fn version() -> Value {
    json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0+gatelog-demo", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "2025-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc", "platform": "linux/amd64"})
}

/// `/`
pub(super) fn paths(served: &Served) -> Value {
    let first = ["/.well-known/openid-configuration", "/api", "/api/v1", "/apis", "/apis/"];
    let mut paths: Vec<String> = first.map(str::to_owned).into();
    for (group, versions) in served.groups().into_iter().filter(|(g, _)| !g.is_empty()) {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.iter().map(|v| format!("/apis/{group}/{v}")));
    }
    paths.extend(
        [
            "/healthz",
            "/livez",
            "/openapi/v2",
            "/openapi/v3",
            "/openapi/v3/",
            "/openid/v1/jwks",
            "/readyz",
            "/version",
        ]
        .map(str::to_owned),
    );
    json!({"paths": paths})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::value::{items, text};

    fn accepting(accept: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        headers
    }

    #[test]
    fn clients_get_the_discovery_they_accept() {
        let rows = [
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
                AGGREGATED,
            ),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
                AGGREGATED_BETA,
            ),
            ("application/json", "application/json"),
        ];
        for (accept, media) in rows {
            let answer = roots(&Served::default(), "/apis", &accepting(accept));
            assert_eq!(answer.headers().get(header::CONTENT_TYPE).unwrap(), media);
        }
    }

    #[test]
    fn an_unchanged_document_is_not_sent_again() {
        let served = Served::default();
        let first = roots(&served, "/api", &accepting(AGGREGATED));
        let mut headers = accepting(AGGREGATED);
        headers.insert(header::IF_NONE_MATCH, first.headers().get(header::ETAG).unwrap().clone());
        assert_eq!(roots(&served, "/api", &headers).status(), 304);
    }

    #[test]
    fn subresources_are_listed() {
        let served = Served::default();
        let apps = resources(&served, "apps", "v1").unwrap();
        assert!(
            items(&apps, "/resources")
                .iter()
                .any(|r| text(r, "/name") == "deployments/scale" && text(r, "/kind") == "Scale")
        );
        assert_eq!(resources(&served, "apps", "v9"), None);
    }
}
