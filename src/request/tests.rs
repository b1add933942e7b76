//! Every row of the tables of request parsing, then properties.

use super::*;
use crate::request::{
    names::{is_dns_label, is_dns_subdomain, is_path_segment},
    selector::{FieldSelector, LabelSelector},
};
use http::Request;
use proptest::prelude::*;

/// What a request line means, in one line: `verb group/version namespace resource/subresource name`, `-` for what is empty;
/// `verb path` for anything else; or the code of the refusal.
fn says(line: &str) -> String {
    let (method, target) = line.split_once(' ').unwrap();
    let info = Target::parse(target).and_then(|t| RequestInfo::parse(&method.parse().unwrap(), &t));
    let info = match info {
        Ok(info) => info,
        Err(bad) => return bad.code.to_string(),
    };
    let or_dash = |s: &str| if s.is_empty() { "-".to_owned() } else { s.to_owned() };
    if !info.is_resource() {
        return format!("{} {}", info.verb().as_str(), info.path());
    }
    let mut resource = or_dash(info.resource());
    if !info.subresource().is_empty() {
        resource = format!("{resource}/{}", info.subresource());
    }
    format!(
        "{} {}/{} {} {resource} {}",
        info.verb().as_str(),
        or_dash(info.group()),
        info.version(),
        or_dash(info.namespace()),
        or_dash(info.name())
    )
}

fn info(line: &str) -> RequestInfo {
    let (method, target) = line.split_once(' ').unwrap();
    RequestInfo::parse(&method.parse().unwrap(), &Target::parse(target).unwrap()).unwrap()
}

fn rows(rows: &[(&str, &str)]) {
    for (line, want) in rows {
        assert_eq!(says(line), *want, "{line}");
    }
}

#[test]
fn resource_or_not() {
    rows(&[
        ("GET /api", "get /api"),
        ("GET /api/", "get /api/"),
        ("GET /api/v1", "get /api/v1"),
        ("GET /api/v1/", "get /api/v1/"),
        ("GET /apis", "get /apis"),
        ("GET /apis/apps/v1", "get /apis/apps/v1"),
        ("GET /apis/apps/v1/", "get /apis/apps/v1/"),
        ("GET /apis/v1/pods", "get /apis/v1/pods"),
        ("GET /apis/v1/pods/foo", "list v1/pods - foo -"),
        ("GET /API/v1/pods", "get /API/v1/pods"),
        ("GET /Api/v1/pods", "get /Api/v1/pods"),
        ("GET /api/v1/Pods", "list -/v1 - Pods -"),
        ("GET /", "get /"),
        ("HEAD /healthz", "head /healthz"),
        ("POST /healthz", "post /healthz"),
        ("PUT /x", "put /x"),
        ("PATCH /x", "patch /x"),
        ("DELETE /x", "delete /x"),
        ("GET /healthz/", "get /healthz/"),
        ("GET /version?timeout=32s", "get /version"),
        ("GET /logs/a%20b", "get /logs/a b"),
        ("GET /apis/apps/v1/deployments", "list apps/v1 - deployments -"),
        ("GET /api/v1/pods/", "list -/v1 - pods -"),
    ]);
}

#[test]
fn verb_namespace_resource_name() {
    rows(&[
        ("GET /api/v1/namespaces", "list -/v1 - namespaces -"),
        ("GET /api/v1/namespaces/x", "get -/v1 x namespaces x"),
        ("GET /api/v1/namespaces/x/", "get -/v1 x namespaces x"),
        ("POST /apis/foo/v1/namespaces/ns", "create foo/v1 ns namespaces ns"),
        ("PUT /api/v1/namespaces/x/finalize", "update -/v1 x namespaces/finalize x"),
        ("GET /api/v1/namespaces/x/status/y/z", "get -/v1 x namespaces/status x"),
        ("GET /apis/foo/v1/namespaces/x/status", "get foo/v1 x namespaces/status x"),
        ("GET /api/v1/namespaces/status/pods", "list -/v1 status pods -"),
        ("GET /api/v1/namespaces/ns/namespaces/x", "get -/v1 ns namespaces x"),
        ("GET /api/v1/pods/namespaces/x", "get -/v1 - pods/x namespaces"),
        ("GET /api/v1/namespaces/ns/pods/p", "get -/v1 ns pods p"),
        ("HEAD /api/v1/namespaces/ns/pods/p", "get -/v1 ns pods p"),
        ("POST /api/v1/namespaces/ns/pods", "create -/v1 ns pods -"),
        ("PUT /api/v1/namespaces/ns/pods/p", "update -/v1 ns pods p"),
        ("PATCH /api/v1/namespaces/ns/pods/p", "patch -/v1 ns pods p"),
        ("DELETE /api/v1/namespaces/ns/pods/p", "delete -/v1 ns pods p"),
        ("DELETE /api/v1/namespaces/ns/pods", "deletecollection -/v1 ns pods -"),
        ("PUT /api/v1/namespaces/ns/pods", "update -/v1 ns pods -"),
        ("PATCH /api/v1/namespaces/ns/pods", "patch -/v1 ns pods -"),
        ("GET /api/v1/namespaces/ns/pods/p/proxy/a/b", "get -/v1 ns pods/proxy p"),
        (
            "GET /api/v1/namespaces/ns/services/https:svc:443/proxy/x",
            "get -/v1 ns services/proxy https:svc:443",
        ),
        ("GET /api/v1/namespaces/ns/pods/p/exec", "get -/v1 ns pods/exec p"),
        ("POST /api/v1/namespaces/ns/pods/p/exec", "create -/v1 ns pods/exec p"),
        ("POST /api/v1/namespaces/ns/pods/p/eviction/x/y", "create -/v1 ns pods/eviction p"),
        ("GET /api/v1/watch/pods", "watch -/v1 - pods -"),
        ("GET /api/v1/watch/namespaces/ns/pods/p/status", "watch -/v1 ns pods/status p"),
        ("GET /api/v1/watch/namespaces/ns", "watch -/v1 ns namespaces ns"),
        ("GET /api/v1/watch/watch/pods", "watch -/v1 - watch pods"),
        ("DELETE /api/v1/watch/pods", "watch -/v1 - pods -"),
        ("POST /apis/ex.io/v1/watch/foos", "watch ex.io/v1 - foos -"),
        ("PUT /api/v1/proxy/namespaces/ns/services/s/foo", "proxy -/v1 ns services s"),
        ("GET /api/v1/proxy/namespaces/ns/status", "proxy -/v1 ns namespaces ns"),
        ("GET /api/v1/namespaces/ns/watch/pods", "get -/v1 ns watch pods"),
        ("HEAD /api/v1/pods", "list -/v1 - pods -"),
        ("GET /api/v1/pods/foo?watch=1", "get -/v1 - pods foo"),
        ("GET /api/v1/namespaces/a/pods/b%3Fc", "get -/v1 a pods b?c"),
        ("GET /api/v1/namespaces/a/pods/b+c", "get -/v1 a pods b+c"),
        ("GET /api/v1/namespaces/a/pods/b%20c", "get -/v1 a pods b c"),
        (
            "GET /apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
            "get rbac.authorization.k8s.io/v1 - clusterroles system:node",
        ),
        ("GET /api/v1/n%61mespaces/%61/pods", "list -/v1 a pods -"),
        ("GET /api/v1/namespaces/%C3%A9/pods", "list -/v1 é pods -"),
    ]);
}

#[test]
fn no_request_info() {
    for line in [
        "GET /api/v1/watch",
        "GET /api/v1/watch/",
        "POST /api/v1/proxy",
        "DELETE /apis/ex.io/v1/watch?a=1&b=2",
    ] {
        assert_eq!(says(line), "500", "{line}");
    }
    let error =
        |target| RequestInfo::parse(&Method::GET, &Target::parse(target).unwrap()).unwrap_err().message;
    assert_eq!(
        error("/api/v1/watch"),
        "Internal Server Error: \"/api/v1/watch\": failed to create RequestInfo: unable to determine kind and namespace from url, /api/v1/watch"
    );
    assert!(error("/api/v1/watch?a&b").ends_with("from url, /api/v1/watch?a&amp;b"));
}

/// What follows `GET /api/v1/pods?`.
#[test]
fn queries() {
    for (query, want) in [
        ("watch", "watch -"),
        ("watch=", "watch -"),
        ("watch=true", "watch -"),
        ("watch=True", "watch -"),
        ("watch=f", "watch -"),
        ("watch=no", "watch -"),
        ("watch=2", "watch -"),
        ("watch=0", "list -"),
        ("watch=false", "list -"),
        ("watch=FALSE", "list -"),
        ("", "list -"),
        ("&&", "list -"),
        ("Watch=1", "list -"),
        ("watch=0&watch=1", "list -"),
        ("watch=1&watch=0", "watch -"),
        ("w%61tch=1", "watch -"),
        // The long s folds to s, but is no s in lower case.
        ("watch=fal%C5%BFe", "list -"),
        ("watch=fal%C5%BFe&limit=x", "watch -"),
        ("limit=abc", "list -"),
        ("limit=", "list -"),
        ("limit=abc&watch=1", "watch -"),
        ("limit=abc&watch=0", "list -"),
        ("limit=5&fieldSelector=metadata.name=x", "list x"),
        ("limit=%2B5&fieldSelector=metadata.name=x", "list x"),
        ("limit=5&limit=abc&fieldSelector=metadata.name=x", "list x"),
        ("limit=9223372036854775808&fieldSelector=metadata.name=x", "list -"),
        ("timeoutSeconds=999999999&fieldSelector=metadata.name=x", "list x"),
        ("timeoutSeconds=1s&fieldSelector=metadata.name=x", "list -"),
        ("sendInitialEvents=x&allowWatchBookmarks=y&fieldSelector=metadata.name=x", "list x"),
        ("fieldSelector=metadata.name=x", "list x"),
        ("fieldSelector=metadata.name%3Dx", "list x"),
        ("fieldSelector=metadata.name==x", "list x"),
        ("fieldSelector=metadata.name=x&watch=1", "watch x"),
        ("fieldSelector=metadata.name=x&limit=abc", "list -"),
        ("fieldSelector=metadata.name!=x", "list -"),
        ("fieldSelector=metadata.name=y,metadata.name=x", "list x"),
        ("fieldSelector=status.phase!=R,metadata.name=x", "list x"),
        ("fieldSelector=metadata.name=x,", "list x"),
        ("fieldSelector=+metadata.name=x", "list -"),
        ("fieldSelector=metadata.name=", "list -"),
        ("fieldSelector=metadata.name=a/b", "list -"),
        ("fieldSelector=metadata.name=..", "list -"),
        ("fieldSelector=metadata.name=a%252Fb", "list -"),
        ("fieldSelector=metadata.name=a%5C,b", "list a,b"),
        ("fieldSelector=metadata.name=a%5Cb", "list -"),
        ("fieldSelector=foo", "list -"),
        ("fieldSelector=&fieldSelector=metadata.name=y", "list -"),
        ("fieldSelector=metadata.name=x&fieldSelector=metadata.name=y", "list x"),
        ("labelSelector=!!!bad&fieldSelector=metadata.name=x", "list -"),
        ("labelSelector=a=b&fieldSelector=metadata.name=x", "list x"),
    ] {
        let info = info(&format!("GET /api/v1/pods?{query}"));
        let name = if info.name().is_empty() { "-" } else { info.name() };
        assert_eq!(format!("{} {name}", info.verb().as_str()), want, "{query}");
    }
}

#[test]
fn selectors_are_recorded_where_the_original_records_them() {
    for (line, field, label) in [
        ("GET /api/v1/pods?fieldSelector=a%3Db&labelSelector=c", Some("a=b"), Some("c")),
        ("GET /api/v1/pods?watch=1&fieldSelector=a=b", Some("a=b"), None),
        ("GET /api/v1/pods?fieldSelector=foo&limit=abc", Some("foo"), None),
        ("GET /api/v1/pods?fieldSelector=a&fieldSelector=b", Some("a"), None),
        ("GET /api/v1/pods?fieldSelector=&fieldSelector=a=b", None, None),
        ("DELETE /api/v1/namespaces/d/pods?fieldSelector=metadata.name=x", Some("metadata.name=x"), None),
        ("POST /api/v1/namespaces/d/pods?fieldSelector=a=b&labelSelector=c", None, None),
        ("GET /api/v1/namespaces/d/pods/p?fieldSelector=a=b&labelSelector=c", None, None),
        ("GET /api/v1/watch/pods?fieldSelector=metadata.name=x", None, None),
        ("GET /version?fieldSelector=a=b", None, None),
    ] {
        let info = info(line);
        assert_eq!((info.field_selector(), info.label_selector()), (field, label), "{line}");
    }
    assert_eq!(
        says("DELETE /api/v1/namespaces/d/pods?fieldSelector=metadata.name=x"),
        "deletecollection -/v1 d pods -"
    );
    assert_eq!(says("GET /api/v1/watch/pods?fieldSelector=metadata.name=x"), "watch -/v1 - pods -");
}

#[test]
fn names_have_three_shapes() {
    let many = "a".repeat(64);
    for (name, label, subdomain, segment) in [
        ("a", true, true, true),
        ("a-b", true, true, true),
        ("0a", true, true, true),
        ("a.b", false, true, true),
        ("A", false, false, true),
        ("a_b", false, false, true),
        ("-a", false, false, true),
        ("a-", false, false, true),
        ("", false, false, true),
        ("a..b", false, false, true),
        (".a", false, false, true),
        (&many, false, true, true),
        ("a/b", false, false, false),
        ("a%b", false, false, false),
        (".", false, false, false),
        ("..", false, false, false),
    ] {
        assert_eq!(
            (is_dns_label(name), is_dns_subdomain(name), is_path_segment(name)),
            (label, subdomain, segment),
            "{name}"
        );
    }
    assert!(is_dns_subdomain(&vec!["a"; 127].join(".")));
    assert!(!is_dns_subdomain(&vec!["a"; 128].join(".")));
}

#[test]
fn ambiguous_targets_are_refused() {
    let many = format!("/api/v1/pods?{}", "&".repeat(10_000));
    let many_named = format!("/api/v1/pods?fieldSelector=metadata.name%3Donly{}", "&a".repeat(10_000));
    for (target, why) in [
        // More than one way to split.
        ("//api/v1/pods", "empty segment"),
        ("///api/v1/pods///", "empty segment"),
        ("/api//v1/pods", "empty segment"),
        ("/api/v1//pods", "empty segment"),
        ("/apis//v1/pods", "empty segment"),
        ("/apis/apps//deployments", "empty segment"),
        ("/api/v1/namespaces//pods", "empty segment"),
        ("/api/v1/namespaces//secrets", "empty segment"),
        ("/api/v1/namespaces//configmaps/x", "empty segment"),
        ("/api/v1/pods//log", "empty segment"),
        ("/api/v1/namespaces/x//pods", "empty segment"),
        ("/api/v1/pods//", "empty segment"),
        ("/api/v1//", "empty segment"),
        ("//", "empty segment"),
        ("//evil.example/api/v1/pods", "empty segment"),
        // Dot segments.
        ("/version/../api/v1/pods", "the segment \"..\""),
        ("/foo/../metrics", "the segment \"..\""),
        ("/api/v1/./namespaces", "the segment \".\""),
        ("/./api/v1/pods", "the segment \".\""),
        ("/../api/v1/pods", "the segment \"..\""),
        ("/api/v1/namespaces/kube-system/../default/pods", "the segment \"..\""),
        ("/api/v1/namespaces/d/pods/..", "the segment \"..\""),
        ("/api/v1/namespaces/a/pods/%2e%2e/secrets", "the escape %2E"),
        ("/api/v1/namespaces/%2E%2e/pods", "the escape %2E"),
        ("/api/v1/namespaces/.%2e/pods", "the escape %2E"),
        // Escapes of what has a meaning.
        ("/api/v1/namespaces/a/pods/b%2Fc", "the escape %2F"),
        ("/api/v1/namespaces/a%2Fpods/b", "the escape %2F"),
        ("/api/v1/namespaces/default/pods/a%2flog", "the escape %2F"),
        ("/api%2fv1/namespaces", "the escape %2F"),
        ("/api/v1/namespaces/a/pods/b%252Fc", "the escape %25"),
        ("/api/v1/namespaces/a/pods/a%5cb", "the escape %5C"),
        ("/api/v1/namespaces/a/pods/a%00", "the escape %00"),
        ("/api/v1/namespaces/a/pods/a%0ab", "the escape %0A"),
        ("/api/v1/namespaces/a/pods/a%1F", "the escape %1F"),
        ("/api/v1/namespaces/a/pods/a%7f", "the escape %7F"),
        // Broken and foreign escapes.
        ("/api/v1/namespaces/a/pods/b%", "two hexadecimal digits"),
        ("/api/v1/namespaces/a/pods/b%z", "two hexadecimal digits"),
        ("/api/v1/namespaces/a/pods/b%zz", "two hexadecimal digits"),
        ("/api/v1/namespaces/a/pods/b%4", "two hexadecimal digits"),
        ("/api/v1/namespaces/a%4/pods", "two hexadecimal digits"),
        ("/api/v1/pods?watch=%zz", "two hexadecimal digits"),
        ("/api/v1/pods?watch=1&a=%zz", "two hexadecimal digits"),
        ("/api/v1/pods?a%", "two hexadecimal digits"),
        ("/api/v1/namespaces/a/pods/%ff", "not UTF-8"),
        ("/api/v1/namespaces/a/pods/%c3", "not UTF-8"),
        ("/api/v1/namespaces/a/pods/%ed%a0%80", "not UTF-8"),
        ("/api/v1/namespaces/%c3/%a9", "not UTF-8"),
        ("/api/v1/pods?a=%c3&b=%a9", "not UTF-8"),
        // Bytes that are read in two ways.
        ("/api/v1/namespaces/a/pods/b;c", "\";\""),
        ("/api/v1;x=1/pods", "\";\""),
        ("/api/v1/pods?watch=1;x=2", "\";\""),
        ("/api/v1/pods?x=1;watch=1", "\";\""),
        ("/api/v1/namespaces/a\\b/pods", "\"\\\""),
        ("/api/v1/namespaces/a/pods/é", "the byte 0xc3"),
        ("/api/v1/pods?a=é", "the byte 0xc3"),
        ("/api/v1/pods\t", "the byte 0x09"),
        ("/api/v1/pods?a\n", "the byte 0x0a"),
        ("/api/v1/a b", "the byte 0x20"),
        ("/api/v1/pods\u{7f}", "the byte 0x7f"),
        ("/api/v1/namespaces/a/pods/b#c", "\"#\""),
        ("/api/v1/pods?a#b", "\"#\""),
        // Other forms.
        ("*", "origin form"),
        ("", "origin form"),
        ("?watch=1", "origin form"),
        ("api/v1/pods", "origin form"),
        ("http://evil/api/v1/namespaces", "origin form"),
        ("HTTPS://evil//api/v1/pods", "origin form"),
        ("evil:443", "origin form"),
        ("mailto:foo", "origin form"),
        ("/a<b>", "no valid URI"),
        // Too many to be read at all.
        (&many, "10001 parameters"),
        (&many_named, "10001 parameters"),
    ] {
        match Target::parse(target) {
            Ok(accepted) => panic!("{target:?} accepted as {accepted:?}"),
            Err(bad) => {
                assert_eq!(bad.code, 400, "{target}");
                assert!(bad.message.contains(why), "{target}: {bad}, not {why}");
                assert!(bad.message.contains("expected "), "{bad}");
            }
        }
    }
    let just = format!("/api/v1/pods?{}", "&".repeat(9_999));
    assert_eq!(says(&format!("GET {just}")), "list -/v1 - pods -");
}

#[test]
fn a_target_is_kept_as_it_came() {
    for (raw, path, query) in [
        ("/", "/", None),
        ("/?", "/", Some("")),
        ("/api/v1/pods/?a=b?c", "/api/v1/pods/", Some("a=b?c")),
        ("/a%3Ab%3bc/%C3%a9?x=%2f%00", "/a:b;c/é", Some("x=%2f%00")),
        ("/api/v1/namespaces/n%3A/pods/p/proxy/%3A//x%", "/api/v1/namespaces/n:/pods/p/proxy/%3A//x%", None),
    ] {
        let target = Target::parse(raw).unwrap();
        assert_eq!((target.raw(), target.path(), target.query()), (raw, path, query));
        assert_eq!(target.path_and_query().as_str(), raw);
    }
    let target = Target::parse("/x?command=sh&command=-c&command=a+b%0Ac%26&stdin").unwrap();
    let parameters: Vec<_> = target.parameters().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(parameters, ["command=sh", "command=-c", "command=a b\nc&", "stdin="]);
    assert!(!format!("{target:?}").contains("command"), "a query may hold secrets");
}

#[test]
fn behind_proxy_is_not_ours_to_read() {
    for root in [
        "/api/v1/namespaces/ns/pods/p/proxy/",
        "/api/v1/namespaces/ns/services/https:s:443/proxy/",
        "/api/v1/nodes/n/proxy/",
        "/api/v1/namespaces/%61/pods/p/proxy/",
    ] {
        let want = says(&format!("GET {root}"));
        assert!(want.contains("/proxy "), "{want}");
        for tail in [
            "",
            "a/b",
            "/",
            "//a///b",
            "a;b=c",
            "%2F",
            "%zz",
            "%",
            "%00",
            "%25%5",
            "%ff",
            "...",
            ".a",
            "a.",
            "a..b/.../c",
            "?a;b",
            "?%",
            "?%zz&a=%ff",
            "x?y#z".split('#').next().unwrap(),
            "%2e%2e%2e",
            "watch/namespaces/x",
            "%252e%252e/",
            "é",
        ] {
            let line = format!("{root}{tail}");
            let target = Target::parse(&line).unwrap_or_else(|bad| panic!("{line}: {bad}"));
            assert_eq!(target.raw(), line);
            assert_eq!(says(&format!("GET {line}")), want, "{line}");
        }
        let many = format!("?{}", "&".repeat(20_000));
        assert_eq!(says(&format!("GET {root}{many}")), want);
        for tail in [
            ".",
            "..",
            "./",
            "../",
            "a/..",
            "a/../b",
            "a/./b",
            "%2e",
            "%2E%2e",
            ".%2e/a",
            "a/%2E.",
            "a/%2e%2E?x",
            "a%2f..%2Fb",
            "a%2f..",
            "..%2f",
            "a\\b",
            "%5c",
            "a%5Cb",
            "a b",
            "a\u{7f}",
            "x\n",
            "?a b",
        ] {
            let line = format!("{root}{tail}");
            assert!(Target::parse(&line).is_err(), "{line}");
        }
    }
    // Only there: by position, and literally.
    for line in [
        "/api/v1/namespaces/ns/configmaps/p/proxy/a//b",
        "/api/v1/namespaces/ns/pods/p/prox%79/a//b",
        "/api/v1/n%61mespaces/ns/pods/p/proxy/a//b",
        "/api/v1/namespaces/ns/pods/p/log/a//b",
        "/api/v1/namespaces/ns/pods/p/proxy//../b",
        "/api/v1/namespaces/ns/pods/p/proxy?a;b",
        "/api/v1/watch/namespaces/ns/pods/p/proxy/a//b",
        "/api/v1/proxy/namespaces/ns/pods/p/proxy/a//b",
        "/api/v1/namespaces/ns/x/pods/p/proxy/a//b",
        "/api/v1/namespaces/ns/x/p/proxy/pods/p/proxy/a//b",
        "/apis/apps/v1/namespaces/ns/pods/p/proxy/a//b",
        "/api/v2/namespaces/ns/pods/p/proxy/a//b",
        "/api/v1/nodes/n/x/proxy/a//b",
        // What stands before it keeps every rule.
        "/api/v1/namespaces//pods/p/proxy/a",
        "/api/v1/namespaces/ns/pods//proxy/a",
        "/api/v1/namespaces/../pods/p/proxy/a",
        "/api/v1/namespaces/ns/pods/%2e%2e/proxy/a",
        "/api/v1/namespaces/ns/pods/a%2fb/proxy/a",
        "/api/v1/nodes//proxy/a",
        "/api/v1/nodes/../proxy/a",
    ] {
        assert!(Target::parse(line).is_err(), "{line}");
    }
}

#[test]
fn methods() {
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
        assert_ne!(says(&format!("{method} /api/v1/pods")), "400", "{method}");
    }
    for method in ["OPTIONS", "TRACE", "CONNECT", "get", "Get", "DELETE1", "LIST", "QUERY", "PROPFIND", "FOO"]
    {
        assert_eq!(says(&format!("{method} /api/v1/pods")), "400", "{method}");
        assert_eq!(says(&format!("{method} /healthz")), "400", "{method}");
    }
}

#[test]
fn asked() {
    let parse = |method: &str, uri: &str, version: Version| {
        Asked::parse(
            &Request::builder().method(method).uri(uri).version(version).body(()).unwrap().into_parts().0,
        )
    };
    let h1 = |uri: &str| parse("GET", uri, Version::HTTP_11);
    // HTTP/2 carries scheme and authority beside the path.
    let asked = parse("GET", "https://gate.example/api/v1/pods?watch=1", Version::HTTP_2).unwrap();
    assert_eq!(asked.target.raw(), "/api/v1/pods?watch=1");
    assert_eq!(asked.info.verb(), Verb::Watch);
    assert_eq!(h1("/api/v1/pods").unwrap().target.raw(), "/api/v1/pods");
    for (method, uri, version) in [
        ("GET", "http://evil/api/v1/namespaces", Version::HTTP_11),
        ("GET", "http://evil//api/v1/pods", Version::HTTP_10),
        ("GET", "evil:443", Version::HTTP_11),
        ("CONNECT", "evil:443", Version::HTTP_11),
        ("CONNECT", "https://gate.example/api/v1/pods", Version::HTTP_2),
        ("GET", "*", Version::HTTP_11),
        ("OPTIONS", "*", Version::HTTP_11),
        ("OPTIONS", "/api/v1/pods", Version::HTTP_2),
    ] {
        assert_eq!(parse(method, uri, version).unwrap_err().code, 400, "{method} {uri}");
    }
    // RequestInfo comes before the timeout, and what can be read in two ways before both.
    assert_eq!(h1("/api/v1/watch?timeout=zz").unwrap_err().code, 500);
    assert_eq!(h1("/api/v1/../watch?timeout=zz").unwrap_err().code, 400);
    // `X-HTTP-Method-Override` means nothing.
    let overridden =
        Request::builder().uri("/api/v1/pods").header("x-http-method-override", "DELETE").body(()).unwrap();
    assert_eq!(Asked::parse(&overridden.into_parts().0).unwrap().info.verb(), Verb::List);
}

#[test]
fn timeouts() {
    let timeout = |target: &str| {
        Asked::parse(&Request::builder().uri(target).body(()).unwrap().into_parts().0).map(|a| a.timeout)
    };
    let millis = |ms| Ok(Some(Duration::from_millis(ms)));
    for (query, want) in [
        ("", millis(60_000)),
        ("timeout=", millis(60_000)),
        ("timeout=10s", millis(10_000)),
        ("timeout=1m", millis(60_000)),
        ("timeout=2m", millis(60_000)),
        ("timeout=1h", millis(60_000)),
        ("timeout=1.5s", millis(1_500)),
        ("timeout=.5s", millis(500)),
        ("timeout=1m30s", millis(60_000)),
        ("timeout=%2B3s", millis(3_000)),
        ("timeout=1s200ms", millis(1_200)),
        ("timeout=1500us", Ok(Some(Duration::from_micros(1_500)))),
        ("timeout=1500%C2%B5s", Ok(Some(Duration::from_micros(1_500)))),
        ("timeout=1500%CE%BCs", Ok(Some(Duration::from_micros(1_500)))),
        ("timeout=1ns", Ok(Some(Duration::from_nanos(1)))),
        ("timeout=0", millis(60_000)),
        ("timeout=-0", millis(60_000)),
        ("timeout=0s", millis(60_000)),
        ("timeout=-5s", millis(60_000)),
        ("timeout=2540400h10m10s", millis(60_000)),
        ("timeout=-9223372036854775808ns", millis(60_000)),
        ("timeout=9223372036854775807ns", millis(60_000)),
        ("timeout=3s&timeout=zz", millis(3_000)),
        ("Timeout=zz", millis(60_000)),
        ("timeout=1", Err("time: missing unit in duration \"1\"")),
        ("timeout=zz", Err("time: invalid duration \"zz\"")),
        ("timeout=-", Err("time: invalid duration \"-\"")),
        ("timeout=.", Err("time: invalid duration \".\"")),
        ("timeout=.s", Err("time: invalid duration \".s\"")),
        ("timeout=1.", Err("time: missing unit in duration \"1.\"")),
        ("timeout=3+s", Err("time: unknown unit \" s\" in duration \"3 s\"")),
        ("timeout=1x", Err("time: unknown unit \"x\" in duration \"1x\"")),
        ("timeout=1S", Err("time: unknown unit \"S\" in duration \"1S\"")),
        ("timeout=1s1", Err("time: missing unit in duration \"1s1\"")),
        ("timeout=1d", Err("time: unknown unit \"d\" in duration \"1d\"")),
        ("timeout=9223372036854775808ns", Err("time: invalid duration \"9223372036854775808ns\"")),
        ("timeout=9223372036854775809ns", Err("time: invalid duration \"9223372036854775809ns\"")),
        ("timeout=3000000h", Err("time: invalid duration \"3000000h\"")),
        ("timeout=%22%5C%C3%A9%0A", Err("time: invalid duration \"\\\"\\\\\\xc3\\xa9\\x0a\"")),
    ] {
        let want = want
            .map_err(|why| BadRequest::new(format!("invalid timeout specified in the request URL - {why}")));
        assert_eq!(timeout(&format!("/version?{query}")), want, "{query}");
    }
    // No deadline, nothing to read.
    for target in [
        "/api/v1/pods?watch=1&timeout=zz",
        "/api/v1/namespaces/d/pods/p/log?timeout=1ns",
        "/debug/pprof/profile?timeout=1",
    ] {
        assert_eq!(timeout(target), Ok(None), "{target}");
    }
}

#[test]
fn streams_and_effects() {
    use Effect::{Connect, Read, Write};
    for (line, kind, effect) in [
        ("GET /api/v1/pods", StreamKind::None, Read),
        ("GET /api/v1/pods?watch=1", StreamKind::Watch, Read),
        ("GET /api/v1/watch/pods", StreamKind::Watch, Read),
        ("GET /api/v1/namespaces/d/pods/p", StreamKind::None, Read),
        ("GET /api/v1/namespaces/d/pods/p/log", StreamKind::Log, Read),
        ("GET /api/v1/namespaces/d/pods/p/exec", StreamKind::Exec, Connect),
        ("POST /api/v1/namespaces/d/pods/p/exec", StreamKind::Exec, Connect),
        ("GET /api/v1/namespaces/d/pods/p/attach", StreamKind::Attach, Connect),
        ("POST /api/v1/namespaces/d/pods/p/portforward", StreamKind::PortForward, Connect),
        ("GET /api/v1/namespaces/d/pods/p/proxy/x", StreamKind::Proxy, Connect),
        ("DELETE /api/v1/namespaces/d/services/s/proxy", StreamKind::Proxy, Connect),
        ("GET /api/v1/nodes/n/proxy/metrics", StreamKind::Proxy, Connect),
        ("GET /api/v1/proxy/nodes/n", StreamKind::Proxy, Connect),
        (
            "GET /apis/subresources.kubevirt.io/v1/namespaces/d/vms/v/portforward",
            StreamKind::PortForward,
            Connect,
        ),
        ("POST /api/v1/namespaces/d/pods", StreamKind::None, Write),
        ("PUT /api/v1/namespaces/d/pods/p", StreamKind::None, Write),
        ("PATCH /api/v1/namespaces/d/pods/p", StreamKind::None, Write),
        ("DELETE /api/v1/namespaces/d/pods/p", StreamKind::None, Write),
        ("DELETE /api/v1/namespaces/d/pods", StreamKind::None, Write),
        ("POST /api/v1/namespaces/d/pods/p/eviction", StreamKind::None, Write),
        ("POST /api/v1/namespaces/d/serviceaccounts/s/token", StreamKind::None, Write),
        ("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", StreamKind::None, Read),
        ("POST /apis/authorization.k8s.io/v1/selfsubjectrulesreviews", StreamKind::None, Read),
        ("POST /apis/authorization.k8s.io/v1/namespaces/d/localsubjectaccessreviews", StreamKind::None, Read),
        ("POST /apis/authentication.k8s.io/v1/selfsubjectreviews", StreamKind::None, Read),
        ("POST /apis/authentication.k8s.io/v1/tokenreviews", StreamKind::None, Read),
        ("PUT /apis/authentication.k8s.io/v1/tokenreviews/x", StreamKind::None, Write),
        ("POST /apis/ex.io/v1/bookreviews", StreamKind::None, Write),
        ("GET /version", StreamKind::None, Read),
        ("HEAD /healthz", StreamKind::None, Read),
        ("POST /healthz", StreamKind::None, Write),
        ("GET /debug/pprof/profile", StreamKind::None, Read),
    ] {
        let info = info(line);
        assert_eq!((info.stream_kind(), info.effect()), (kind, effect), "{line}");
        assert_eq!(info.upgrade_allowed(), kind != StreamKind::None, "{line}");
        let profile = line.contains("/debug/pprof/");
        assert_eq!(info.is_long_running(), kind != StreamKind::None || profile, "{line}");
        assert_eq!(info.is_watch(), kind == StreamKind::Watch, "{line}");
    }
    assert!(!info("GET /debug/pprof").is_long_running());
    assert_eq!([Read, Write, Connect].map(Effect::as_str), ["read", "write", "connect"]);
}

#[test]
fn attributes_borrow_what_was_parsed() {
    let resource = info("GET /apis/apps/v1/namespaces/d/deployments?fieldSelector=metadata.name=x");
    let object = Object::Resource {
        group: "apps",
        version: "v1",
        resource: "deployments",
        subresource: "",
        namespace: "d",
        name: "x",
    };
    assert_eq!(resource.attributes(), Attributes { verb: "list", object });
    assert_eq!(info("GET /a%20b/").attributes(), Attributes { verb: "get", object: Object::Path("/a b/") });
}

#[test]
fn field_selectors() {
    let parse = |text: &str| {
        FieldSelector::parse(text).ok().map(|s| {
            let one = |r: &selector::FieldRequirement| {
                format!("{}{}{}", r.field, if r.equal { "=" } else { "!=" }, r.value)
            };
            s.requirements.iter().map(one).collect::<Vec<_>>().join(" ")
        })
    };
    for (text, want) in [
        ("", Some("")),
        (",,", Some("")),
        ("a=b", Some("a=b")),
        ("a==b", Some("a=b")),
        ("a!=b", Some("a!=b")),
        ("c=d,a=b", Some("a=b c=d")),
        ("a=", Some("a=")),
        ("=b", Some("=b")),
        ("=", Some("")),
        (" a =b", Some(" a =b")),
        (r"a=x\,y\=z\\", Some(r"a=x,y=z\")),
        (r"a\=b", Some(r"a\=b")),
        (r"a\,b=c", Some(r"a\,b=c")),
        ("a!b=c", Some("a!b=c")),
        ("a=b=c", None),
        ("a===b", None),
        ("a", None),
        (r"a=\b", None),
        (r"a=b\", None),
        ("é=ü", Some("é=ü")),
    ] {
        assert_eq!(parse(text).as_deref(), want, "{text}");
    }
    let selector = FieldSelector::parse("metadata.name=x,spec.nodeName!=n").unwrap();
    assert_eq!(selector.exact("metadata.name"), Some("x"));
    assert_eq!(selector.exact("spec.nodeName"), None);
    assert!(selector.matches(|field| if field == "metadata.name" { "x" } else { "" }));
    assert!(!selector.matches(|field| if field == "metadata.name" { "x" } else { "n" }));
}

#[test]
fn label_selectors() {
    let parse = |text: &str| {
        LabelSelector::parse(text).ok().map(|s| {
            let one = |r: &selector::LabelRequirement| {
                format!("{} {} [{}]", r.key, r.operator.as_str(), r.values.join(","))
            };
            s.requirements.iter().map(one).collect::<Vec<_>>().join("; ")
        })
    };
    let long = "a".repeat(64);
    for (text, want) in [
        ("", Some("")),
        ("  ", Some("")),
        ("a", Some("a exists []")),
        ("!a", Some("a ! []")),
        ("! a", Some("a ! []")),
        ("a=b", Some("a = [b]")),
        ("a==b", Some("a == [b]")),
        ("a = b", Some("a = [b]")),
        ("a!=b", Some("a != [b]")),
        ("a=", Some("a = []")),
        ("a=,b", Some("a = []; b exists []")),
        ("a in (y,x,x)", Some("a in [x,y]")),
        ("a notin (x)", Some("a notin [x]")),
        ("a in ()", Some("a in []")),
        ("a in (,)", Some("a in []")),
        ("a in (x,)", Some("a in [,x]")),
        ("a>1", Some("a gt [1]")),
        ("a<-1", None),
        ("b,a", Some("a exists []; b exists []")),
        ("in in (in)", Some("in in [in]")),
        ("notin", Some("notin exists []")),
        ("acme.io/a=b", Some("acme.io/a = [b]")),
        ("a\0b", None),
        ("a=b\0", Some("a = [b]")),
        ("a,", None),
        (",a", None),
        ("!!a", None),
        ("!a=b", None),
        ("a b", None),
        ("a===b", None),
        ("a in x", None),
        ("a in (x", None),
        ("a in x)", None),
        ("a>x", None),
        ("a>", None),
        ("a=b c", None),
        ("a=-b", None),
        ("-a", None),
        ("Acme/a", None),
        ("a/b/c", None),
        ("/a", None),
        ("a/", None),
        ("é", None),
        (&long, None),
    ] {
        assert_eq!(parse(text).as_deref(), want, "{text:?}");
    }
    let matches = |selector: &str, labels: &[(&str, &'static str)]| {
        LabelSelector::parse(selector)
            .unwrap()
            .matches(|key| labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v))
    };
    for (selector, yes) in [
        ("a=1", true),
        ("a=2", false),
        ("a!=2", true),
        ("b!=2", true),
        ("a", true),
        ("!b", true),
        ("b", false),
        ("a in (1,2)", true),
        ("b notin (1)", true),
        ("a notin (1)", false),
        ("a>0", true),
        ("a<1", false),
        ("b>0", false),
        ("a=1,!b", true),
        ("a=1,b", false),
        ("", true),
    ] {
        assert_eq!(matches(selector, &[("a", "1")]), yes, "{selector}");
    }
}

/// RequestInfo once more, written for plainness: split, decode, walk. Only for targets that are accepted and have no opaque tail.
fn plain(method: &str, target: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let unescape = |s: &str| {
        let mut out = Vec::new();
        for (i, piece) in s.split('%').enumerate() {
            let piece = piece.as_bytes();
            if i > 0 {
                out.push(u8::from_str_radix(std::str::from_utf8(&piece[..2]).unwrap(), 16).unwrap());
            }
            out.extend_from_slice(&piece[if i > 0 { 2 } else { 0 }..]);
        }
        String::from_utf8(out).unwrap()
    };
    let path = unescape(path);
    let trimmed = path.trim_matches('/');
    let mut parts: Vec<&str> = if trimmed.is_empty() { vec![] } else { trimmed.split('/').collect() };
    let need = if path.starts_with("/apis/") { 4 } else { 3 };
    if !matches!(parts.first(), Some(&("api" | "apis"))) || parts.len() < need {
        return format!("{} {path}", method.to_lowercase());
    }
    let group = if parts.remove(0) == "apis" { parts.remove(0) } else { "" };
    let version = parts.remove(0);
    let mut verb = match method {
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "get",
    };
    if ["watch", "proxy"].contains(&parts[0]) {
        verb = parts.remove(0);
        if parts.is_empty() {
            return "500".to_owned();
        }
    }
    let mut namespace = "";
    if parts[0] == "namespaces" && parts.len() > 1 {
        namespace = parts[1];
        if parts.len() > 2 && !["status", "finalize"].contains(&parts[2]) {
            parts.drain(..2);
        }
    }
    let mut name = parts.get(1).copied().unwrap_or_default().to_owned();
    let resource = match parts.get(2) {
        Some(sub) if verb != "proxy" => format!("{}/{sub}", parts[0]),
        _ => parts[0].to_owned(),
    };
    if name.is_empty() && verb == "delete" {
        verb = "deletecollection";
    }
    if name.is_empty() && verb == "get" {
        let value = |key: &str| {
            query.split('&').find_map(|pair| {
                let (k, v) = pair.split_once('=').unwrap_or((pair, ""));
                (!pair.is_empty() && unescape(&k.replace('+', " ")) == key)
                    .then(|| unescape(&v.replace('+', " ")))
            })
        };
        let watch = value("watch").is_some_and(|v| !["0", "false"].contains(&v.to_lowercase().as_str()));
        verb = if watch { "watch" } else { "list" };
        let number = |key| value(key).is_none_or(|v| v.parse::<i64>().is_ok());
        let labels = value("labelSelector").is_none_or(|v| LabelSelector::parse(&v).is_ok());
        let fields = value("fieldSelector").map(|v| FieldSelector::parse(&v));
        if let (Some(Ok(fields)), true, true, true) =
            (fields, labels, number("limit"), number("timeoutSeconds"))
        {
            let exact = fields.exact("metadata.name").unwrap_or_default();
            if !exact.contains(['/', '%']) && exact != "." && exact != ".." {
                name = exact.to_owned();
            }
        }
    }
    let or_dash = |s: &str| if s.is_empty() { "-".to_owned() } else { s.to_owned() };
    format!("{verb} {}/{version} {} {resource} {}", or_dash(group), or_dash(namespace), or_dash(&name))
}

/// Made of what matters to the parser, so that most of it gets past the first rule.
fn targets() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        8 => prop::sample::select(vec![
            "api", "apis", "v1", "apps", "namespaces", "pods", "services", "nodes", "proxy", "watch", "status", "finalize", "log", "exec", "x",
        ]).prop_map(str::to_owned),
        3 => "[a-z0-9.:_~+=@!$'()*,-]{1,8}",
        2 => "([a-z]|%[3-6][0-9A-D]|%C3%A9|%20){1,4}",
        1 => prop::sample::select(vec!["", ".", "..", "%2e", "%2F", "a;b", "%", "%zz", "%ff", "é", "a\\b", "%00", "#"]).prop_map(str::to_owned),
    ];
    let pair = prop_oneof![
        4 => prop::sample::select(vec![
            "watch", "watch=1", "watch=0", "watch=FALSE", "w%61tch=1", "limit=5", "limit=x", "timeoutSeconds=3", "labelSelector=a%3Db",
            "labelSelector=!!", "fieldSelector=metadata.name%3Dx", "fieldSelector=metadata.name=y,a!=b", "fieldSelector=foo", "",
        ]).prop_map(str::to_owned),
        1 => "[a-zA-Z0-9=+.,;%!]{0,12}",
    ];
    // Mostly where a resource is meant, since there the parser has most to do.
    let root = prop_oneof![
        6 => prop::sample::select(vec!["api/v1/", "apis/apps/v1/"]),
        1 => Just(""),
    ];
    let scope = prop::sample::select(vec![
        "",
        "",
        "namespaces/",
        "namespaces/x/",
        "watch/",
        "watch/namespaces/x/",
        "proxy/",
    ]);
    let path = (root, scope, prop::collection::vec(segment, 0..5))
        .prop_map(|(root, scope, segments)| format!("{root}{scope}{}", segments.join("/")));
    (path, prop::option::of(prop::collection::vec(pair, 0..4))).prop_map(|(path, query)| {
        let query = query.map(|pairs| format!("?{}", pairs.join("&"))).unwrap_or_default();
        format!("/{path}{query}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn parsing_never_panics(target in ".{0,80}", method in "[A-Z]{1,8}") {
        let _ = says(&format!("{method} {target}"));
        let _ = says(&format!("{method} /{target}"));
        let _ = says(&format!("{method} /api/v1/namespaces/a/pods/b/proxy/{target}"));
        let _ = duration::parse(&target);
        let _ = FieldSelector::parse(&target);
        let _ = LabelSelector::parse(&target);
        let _ = query::pairs(&target).count();
    }

    #[test]
    fn what_is_accepted_reads_the_same_under_a_plain_parser(
        target in targets(),
        method in prop::sample::select(vec!["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]),
    ) {
        if let Ok(accepted) = Target::parse(&target) {
            prop_assert_eq!(accepted.raw(), &target);
            if accepted.decided() == accepted.path() {
                prop_assert_eq!(says(&format!("{method} {target}")), plain(method, &target));
            }
        }
    }

    #[test]
    fn nothing_behind_proxy_changes_what_is_asked(tail in "[!-~]{0,30}") {
        for root in ["/api/v1/namespaces/n/pods/p/proxy/", "/api/v1/nodes/n/proxy/"] {
            if let Ok(target) = Target::parse(&format!("{root}{tail}")) {
                let alone = says(&format!("GET {root}"));
                prop_assert_eq!(says(&format!("GET {}", target.raw())), alone);
            }
        }
    }

    #[test]
    fn durations_are_never_negative(text in "[-+]?([0-9]{0,20}(\\.[0-9]{0,20})?(ns|us|ms|s|m|h|x)?){0,3}") {
        if let Ok(Some(duration)) = duration::parse(&text) {
            prop_assert!(duration > Duration::ZERO);
        }
    }
}
