//! What a request was, in the words of kube-apiserver's metrics.

use crate::request::{Asked, Verb};
use http::{HeaderMap, header::CONTENT_TYPE};

/// The labels of a request's metrics, in the order of [`Call::labels`].
pub(super) const LABELS: [&str; 8] =
    ["verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component"];
/// Of the program that counts; kube-apiserver says `apiserver`.
const COMPONENT: &str = "gatelog";
/// What is not told apart.
pub(super) const OTHER: &str = "other";

/// What a request was, as its metrics tell it. The values are kube-apiserver's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Call<'a> {
    /// GET LIST WATCH POST PUT PATCH APPLY DELETE DELETECOLLECTION CONNECT, or `other`.
    pub verb: &'static str,
    /// `All`, empty or `invalid`.
    pub dry_run: &'static str,
    /// API group, empty for the core group.
    pub group: &'a str,
    /// API version.
    pub version: &'a str,
    /// Resource, plural and lower case; empty for paths outside the API.
    pub resource: &'a str,
    /// Subresource.
    pub subresource: &'a str,
    /// `resource`, `namespace`, `cluster`; empty for paths outside the API.
    pub scope: &'static str,
    /// Counts in `apiserver_longrunning_requests` and not among the requests in flight.
    pub long_running: bool,
    /// Counts as `mutating` among the requests in flight, otherwise as `readOnly`.
    pub mutating: bool,
}

impl<'a> Call<'a> {
    /// What a permitted request was. Only its `Content-Type` is looked at in `headers` (a server-side apply is a PATCH with
    /// a media type of its own).
    pub fn of(asked: &'a Asked, headers: &HeaderMap) -> Self {
        let info = &asked.info;
        let scope = match info.is_resource() {
            false => "",
            true if !info.name().is_empty() || info.verb() == Verb::Create => "resource",
            true if !info.namespace().is_empty() => "namespace",
            true => "cluster",
        };
        let connects = matches!(info.subresource(), "attach" | "exec" | "log" | "portforward" | "proxy");
        let verb = match info.verb() {
            _ if info.is_resource() && connects => "CONNECT",
            Verb::Get if matches!(scope, "namespace" | "cluster") => "LIST",
            Verb::Get => "GET",
            Verb::List => "LIST",
            Verb::Watch => "WATCH",
            Verb::Create | Verb::Post => "POST",
            Verb::Update | Verb::Put => "PUT",
            Verb::Patch if is_apply(headers) => "APPLY",
            Verb::Patch => "PATCH",
            Verb::Delete => "DELETE",
            Verb::DeleteCollection => "DELETECOLLECTION",
            Verb::Proxy | Verb::Head => OTHER,
        };
        Self {
            verb,
            dry_run: dry_run(asked.target.query().unwrap_or_default()),
            group: info.group(),
            version: info.version(),
            resource: info.resource(),
            subresource: info.subresource(),
            scope,
            long_running: info.is_long_running(),
            mutating: !matches!(info.verb(), Verb::Get | Verb::List | Verb::Watch | Verb::Head),
        }
    }

    /// A request that was refused or never understood: only its method is told.
    pub(super) const fn bare(verb: &'static str) -> Self {
        Self {
            verb,
            dry_run: "",
            group: "",
            version: "",
            resource: "",
            subresource: "",
            scope: "",
            long_running: false,
            mutating: false,
        }
    }

    /// What is counted when there are too many combinations already.
    pub(super) const fn overflow(self) -> Self {
        Self {
            dry_run: "",
            group: OTHER,
            version: OTHER,
            resource: OTHER,
            subresource: "",
            scope: "",
            ..self
        }
    }

    pub(super) const fn labels(&self) -> [&str; 8] {
        [
            self.verb,
            self.dry_run,
            self.group,
            self.version,
            self.resource,
            self.subresource,
            self.scope,
            COMPONENT,
        ]
    }
}

fn is_apply(headers: &HeaderMap) -> bool {
    const APPLY: &[u8] = b"application/apply-patch";
    headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.as_bytes().get(..APPLY.len()))
        .is_some_and(|media| media.eq_ignore_ascii_case(APPLY))
}

fn dry_run(query: &str) -> &'static str {
    if !query.contains("dryRun") {
        return "";
    }
    let mut values = query.split('&').filter_map(|pair| match pair.split_once('=') {
        Some(("dryRun", value)) => Some(value),
        None if pair == "dryRun" => Some(""),
        _ => None,
    });
    match values.next() {
        None => "",
        Some("All") if values.all(|v| v == "All") => "All",
        Some(_) => "invalid",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dry_run_values() {
        for (query, expected) in [
            ("", ""),
            ("pretty=true", ""),
            ("dryRun=All", "All"),
            ("a=b&dryRun=All&dryRun=All", "All"),
            ("dryRun=", "invalid"),
            ("dryRun", "invalid"),
            ("dryRun=all", "invalid"),
            ("dryRun=All&dryRun=Some", "invalid"),
            ("xdryRun=All", ""),
        ] {
            assert_eq!(dry_run(query), expected, "{query:?}");
        }
    }

    #[test]
    fn apply_is_told_by_its_media_type() {
        for (value, expected) in [
            ("application/apply-patch+yaml", true),
            ("Application/Apply-Patch+cbor", true),
            ("application/merge-patch+json", false),
            ("application/apply", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, value.parse().unwrap())]);
            assert_eq!(is_apply(&headers), expected, "{value:?}");
        }
        assert!(!is_apply(&HeaderMap::new()));
    }
}
