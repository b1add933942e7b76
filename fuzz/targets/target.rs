#![no_main]
//! A method and a request target.

use gatelog::request::{Asked, Object};
use http::{Method, Request};
use libfuzzer_sys::fuzz_target;

const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

fuzz_target!(|data: &[u8]| {
    let Some((choice, raw)) = data.split_first() else { return };
    let Ok(raw) = std::str::from_utf8(raw) else { return };
    let method = METHODS[usize::from(*choice) % METHODS.len()].clone();
    let Ok(request) = Request::builder().method(method).uri(raw).body(()) else { return };
    let (parts, ()) = request.into_parts();
    let Ok(asked) = Asked::parse(&parts) else { return };
    assert_eq!(Some(asked.target.path_and_query()), parts.uri.path_and_query());
    let path = asked.target.path();
    let proxied = path.contains("/proxy/");
    let ambiguous = |segment: &str| matches!(segment, "." | "..") || segment.contains(['\\', '\0']);
    assert!(proxied || !parts.uri.path().contains(';'));
    assert!(proxied || !path.split('/').any(ambiguous), "{path:?}");
    if let Object::Resource { name, namespace, resource, .. } = asked.info.attributes().object {
        let in_path = |part: &str| path.contains(part);
        // Of a list or a watch of one object the name is in its field selector.
        let selected = asked.target.query().is_some_and(|query| query.contains('='));
        assert!(in_path(namespace) && in_path(resource) && (selected || in_path(name)));
    }
});
