//! From method and target to what is asked: the demo's own reading, kept apart from `crate::request` so that the two
//! can disagree in a test.

use http::{Method, Uri};

/// Attributes of a request as authorization sees them, and its query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// API verb, or the lower-cased method of a non-resource request.
    pub verb: String,
    /// Decoded path.
    pub path: String,
    /// The resource, if the path is one of the API's.
    pub resource: Option<Resource>,
    /// The query.
    pub query: Query,
}

/// Where a resource request goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Resource {
    /// API group; empty: core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace, empty if none.
    pub namespace: String,
    /// Plural.
    pub plural: String,
    /// Name in the path, empty if none.
    pub name: String,
    /// Subresource, empty if none.
    pub sub: String,
    /// Segments after the subresource.
    pub tail: Vec<String>,
}

/// Decoded query parameters, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a raw query.
    pub(super) fn parse(raw: &str) -> Self {
        let pair = |p: &str| {
            let (key, value) = p.split_once('=').unwrap_or((p, ""));
            (decode(&key.replace('+', " ")), decode(&value.replace('+', " ")))
        };
        Self(raw.split('&').filter(|p| !p.is_empty()).map(pair).collect())
    }

    /// The first value, if the key is there.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// All values.
    pub(super) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The first value, or "".
    pub(super) fn text(&self, key: &str) -> &str {
        self.get(key).unwrap_or_default()
    }

    /// Whatever is there and not `false` or `0` is true.
    pub(super) fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|v| !v.eq_ignore_ascii_case("false") && v != "0")
    }
}

impl Asked {
    /// Reads a request line.
    pub(super) fn parse(method: &Method, uri: &Uri) -> Self {
        let path = decode(uri.path());
        let query = Query::parse(uri.query().unwrap_or_default());
        let resource = resource(&path);
        let verb = match &resource {
            None => method.as_str().to_ascii_lowercase(),
            Some(r) => verb(method, r, &query).to_owned(),
        };
        Self { verb, path, resource, query }
    }

    /// Whether the answer may take any time: watches and what a kubelet serves.
    pub(super) fn is_long(&self) -> bool {
        let Some(resource) = &self.resource else { return false };
        self.verb == "watch"
            || matches!(resource.sub.as_str(), "attach" | "exec" | "log" | "portforward" | "proxy")
    }

    /// The name that rules with `resourceNames` see: the path's, or the one a list is narrowed to.
    pub(super) fn name(&self) -> String {
        let Some(r) = &self.resource else { return String::new() };
        let narrowed = matches!(self.verb.as_str(), "list" | "watch" | "deletecollection");
        if r.name.is_empty() && narrowed {
            let terms = self.query.text("fieldSelector").split(',');
            let mut named = terms.filter_map(|t| t.strip_prefix("metadata.name="));
            return named.next().unwrap_or_default().trim_start_matches('=').to_owned();
        }
        r.name.clone()
    }
}

fn verb(method: &Method, resource: &Resource, query: &Query) -> &'static str {
    let named = !resource.name.is_empty();
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ if named => "get",
        _ if query.flag("watch") => "watch",
        _ => "list",
    }
}

fn resource(path: &str) -> Option<Resource> {
    let mut parts = path.trim_matches('/').split('/').map(str::to_owned);
    let group = match parts.next()?.as_str() {
        "api" => String::new(),
        "apis" => parts.next()?,
        _ => return None,
    };
    let version = parts.next()?;
    let mut rest: Vec<String> = parts.collect();
    let mut found = Resource { group, version, ..Resource::default() };
    if rest.first().is_none_or(String::is_empty) {
        return None;
    }
    if rest.first().is_some_and(|p| p == "namespaces")
        && let Some(namespace) = rest.get(1)
    {
        found.namespace.clone_from(namespace);
        if rest.get(2).is_some_and(|p| p != "status" && p != "finalize") {
            rest.drain(..2);
        }
    }
    let mut rest = rest.into_iter();
    found.plural = rest.next().unwrap_or_default();
    found.name = rest.next().unwrap_or_default();
    found.sub = rest.next().unwrap_or_default();
    found.tail = rest.collect();
    Some(found)
}

/// Percent-decodes once; what is not an escape stays.
pub(super) fn decode(raw: &str) -> String {
    if !raw.contains('%') {
        return raw.to_owned();
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.as_bytes();
    while let [first, rest @ ..] = bytes {
        if let (b'%', [a, b, after @ ..]) = (first, rest)
            && let (Some(a), Some(b)) = (char::from(*a).to_digit(16), char::from(*b).to_digit(16))
        {
            out.push(u8::try_from(a * 16 + b).unwrap_or_default());
            bytes = after;
            continue;
        }
        out.push(*first);
        bytes = rest;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_lines() {
        #[rustfmt::skip]
        let rows = [
            // method, target, verb, group version namespace plural name sub
            ("GET", "/api/v1/pods", "list", Some(["", "v1", "", "pods", "", ""])),
            ("GET", "/api/v1/pods?watch=true", "watch", Some(["", "v1", "", "pods", "", ""])),
            ("GET", "/api/v1/pods?watch=0", "list", Some(["", "v1", "", "pods", "", ""])),
            ("GET", "/api/v1/namespaces", "list", Some(["", "v1", "", "namespaces", "", ""])),
            ("GET", "/api/v1/namespaces/a", "get", Some(["", "v1", "a", "namespaces", "a", ""])),
            ("PUT", "/api/v1/namespaces/a/finalize", "update", Some(["", "v1", "a", "namespaces", "a", "finalize"])),
            ("GET", "/api/v1/namespaces/a/pods/p/log", "get", Some(["", "v1", "a", "pods", "p", "log"])),
            ("GET", "/api/v1/namespaces/a/pods/p%2Flog", "get", Some(["", "v1", "a", "pods", "p", "log"])),
            ("DELETE", "/apis/apps/v1/namespaces/a/deployments", "deletecollection", Some(["apps", "v1", "a", "deployments", "", ""])),
            ("PATCH", "/apis/apps/v1/namespaces/a/deployments/d/scale", "patch", Some(["apps", "v1", "a", "deployments", "d", "scale"])),
            ("GET", "/apis/apps/v1", "get", None),
            ("GET", "/api/v1/", "get", None),
            ("GET", "/version", "get", None),
            ("POST", "/x", "post", None),
        ];
        for (method, target, verb, expected) in rows {
            let asked = Asked::parse(&method.parse().unwrap(), &target.parse().unwrap());
            assert_eq!(asked.verb, verb, "{target}");
            let found = asked.resource.map(|r| [r.group, r.version, r.namespace, r.plural, r.name, r.sub]);
            assert_eq!(found, expected.map(|e| e.map(str::to_owned)), "{target}");
        }
    }

    #[test]
    fn queries() {
        let query = Query::parse("a=1&a=2&b&c=x%2Cy+z&w=False");
        assert_eq!(query.get("a"), Some("1"));
        assert_eq!(query.all("a").count(), 2);
        assert!(query.flag("b") && !query.flag("w") && !query.flag("none"));
        assert_eq!(query.text("c"), "x,y z");
    }

    #[test]
    fn lists_may_be_narrowed_to_a_name() {
        let uri = "/api/v1/pods?fieldSelector=metadata.name%3Dp".parse().unwrap();
        assert_eq!(Asked::parse(&Method::GET, &uri).name(), "p");
    }
}
