//! RequestInfo: method and target become the attributes of a decision.

use super::{
    Attributes, BadRequest, Effect, Object, Target, Verb, check_method, names, query,
    selector::{FieldSelector, LabelSelector},
};
use crate::status::{push_go_quoted, push_html_escaped};
use http::Method;

/// RequestInfo: the parsed form of method + target. Accessors return "" where nothing is named.
#[derive(Debug, Clone)]
pub struct RequestInfo {
    target: Target,
    verb: Verb,
    /// None: a non-resource path.
    resource: Option<ResourcePath>,
    /// The name that a field selector gives to a list or watch.
    selected: Option<Box<str>>,
    field_selector: Option<Box<str>>,
    label_selector: Option<Box<str>>,
}

/// A request that holds its connection open, told by how it does so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// An ordinary call, over when it is answered.
    None,
    /// Verb watch.
    Watch,
    /// Subresource log.
    Log,
    /// Subresource exec.
    Exec,
    /// Subresource attach.
    Attach,
    /// Subresource portforward.
    PortForward,
    /// Subresource proxy, or the legacy verb.
    Proxy,
}

/// Places in the decided path.
#[derive(Debug, Clone, Copy, Default)]
struct ResourcePath {
    group: Span,
    version: Span,
    namespace: Span,
    resource: Span,
    subresource: Span,
    name: Span,
}

#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: usize,
    end: usize,
}

impl RequestInfo {
    /// Parses what [`Target`] has accepted.
    ///
    /// # Errors
    /// 500 with kube-apiserver's "failed to create RequestInfo", 400 for a method that is not accepted.
    pub fn parse(method: &Method, target: &Target) -> Result<Self, BadRequest> {
        check_method(method)?;
        let path = target.decided();
        let segments = Segments::of(path);
        let mut info = Self {
            target: target.clone(),
            verb: method_verb(method),
            resource: None,
            selected: None,
            field_selector: None,
            label_selector: None,
        };
        let (group, version, mut parts) = match segments.as_slice() {
            [api, version, parts @ ..] if api.of(path) == "api" && !parts.is_empty() => {
                (Span::default(), *version, parts)
            }
            [apis, group, version, parts @ ..] if apis.of(path) == "apis" && !parts.is_empty() => {
                (*group, *version, parts)
            }
            _ => return Ok(info),
        };
        let mut at = ResourcePath { group, version, ..ResourcePath::default() };

        let prefix = match parts {
            [first, ..] if first.of(path) == "watch" => Some(Verb::Watch),
            [first, ..] if first.of(path) == "proxy" => Some(Verb::Proxy),
            _ => None,
        };
        info.verb = prefix.unwrap_or(resource_verb(method));
        if prefix.is_some() {
            parts = parts.get(1..).unwrap_or_default();
            if parts.is_empty() {
                return Err(no_request_info(target));
            }
        }
        if let [first, namespace, rest @ ..] = parts
            && first.of(path) == "namespaces"
        {
            at.namespace = *namespace;
            if rest.first().is_some_and(|kind| !matches!(kind.of(path), "status" | "finalize")) {
                parts = rest;
            }
        }
        let part = |i: usize| parts.get(i).copied().unwrap_or_default();
        at.resource = part(0);
        at.name = part(1);
        if info.verb != Verb::Proxy {
            at.subresource = part(2);
        }
        info.resource = Some(at);

        if at.name.is_empty() {
            match info.verb {
                Verb::Get => info.read_list_options(),
                Verb::Delete => info.verb = Verb::DeleteCollection,
                _ => {}
            }
        }
        if prefix.is_none() && matches!(info.verb, Verb::List | Verb::Watch | Verb::DeleteCollection) {
            info.field_selector = info.selector("fieldSelector");
            info.label_selector = info.selector("labelSelector");
        }
        Ok(info)
    }

    /// An API object or collection, not just a path.
    pub fn is_resource(&self) -> bool {
        self.resource.is_some()
    }
    /// What is to be done.
    pub fn verb(&self) -> Verb {
        self.verb
    }
    /// API group; empty for the core group.
    pub fn group(&self) -> &str {
        self.part(|at| at.group)
    }
    /// API version.
    pub fn version(&self) -> &str {
        self.part(|at| at.version)
    }
    /// Namespace; for the object `namespaces/x` itself, `x`.
    pub fn namespace(&self) -> &str {
        self.part(|at| at.namespace)
    }
    /// Resource, in the plural.
    pub fn resource(&self) -> &str {
        self.part(|at| at.resource)
    }
    /// Subresource, e.g. `log`.
    pub fn subresource(&self) -> &str {
        self.part(|at| at.subresource)
    }
    /// Object name, from the path or from a `metadata.name` field selector of a list or watch.
    pub fn name(&self) -> &str {
        match &self.selected {
            Some(name) => name,
            None => self.part(|at| at.name),
        }
    }
    /// Decoded path (non-resource requests are decided on it).
    pub fn path(&self) -> &str {
        self.target.path()
    }
    /// Unparsed first `fieldSelector` where kube-apiserver records it: list, watch and deletecollection.
    pub fn field_selector(&self) -> Option<&str> {
        self.field_selector.as_deref()
    }
    /// Unparsed first `labelSelector`, likewise.
    pub fn label_selector(&self) -> Option<&str> {
        self.label_selector.as_deref()
    }

    /// What is decided on.
    pub fn attributes(&self) -> Attributes<'_> {
        let object = if self.is_resource() {
            Object::Resource {
                group: self.group(),
                version: self.version(),
                resource: self.resource(),
                subresource: self.subresource(),
                namespace: self.namespace(),
                name: self.name(),
            }
        } else {
            Object::Path(self.path())
        };
        Attributes { verb: self.verb.as_str(), object }
    }

    /// No deadline, no in-flight limit: watch, proxy; attach exec proxy log portforward; /debug/pprof/.
    pub fn is_long_running(&self) -> bool {
        self.stream_kind() != StreamKind::None
            || (!self.is_resource() && self.path().starts_with("/debug/pprof/"))
    }

    /// Whether collections or objects are followed.
    pub fn is_watch(&self) -> bool {
        self.verb == Verb::Watch
    }

    /// How the request holds its connection open. By name alone, whatever the resource: aggregated APIs have the same
    /// subresources.
    pub fn stream_kind(&self) -> StreamKind {
        match (self.subresource(), self.verb) {
            ("exec", _) => StreamKind::Exec,
            ("attach", _) => StreamKind::Attach,
            ("portforward", _) => StreamKind::PortForward,
            ("proxy", _) | (_, Verb::Proxy) => StreamKind::Proxy,
            ("log", _) => StreamKind::Log,
            (_, Verb::Watch) => StreamKind::Watch,
            _ => StreamKind::None,
        }
    }

    /// Whether the caller may ask to switch protocols here: exec, attach, portforward, proxy, watch and log only.
    pub fn upgrade_allowed(&self) -> bool {
        self.stream_kind() != StreamKind::None
    }

    /// Whether the call reads the cluster's store, writes it, or opens a connection. Reviews ask and do not write.
    pub fn effect(&self) -> Effect {
        match self.stream_kind() {
            StreamKind::Exec | StreamKind::Attach | StreamKind::PortForward | StreamKind::Proxy => {
                return Effect::Connect;
            }
            StreamKind::None | StreamKind::Watch | StreamKind::Log => {}
        }
        match self.verb {
            Verb::Get | Verb::List | Verb::Watch | Verb::Head => Effect::Read,
            Verb::Create if self.is_review() => Effect::Read,
            _ => Effect::Write,
        }
    }

    fn is_review(&self) -> bool {
        matches!(self.group(), "authorization.k8s.io" | "authentication.k8s.io")
            && self.resource().ends_with("reviews")
            && self.subresource().is_empty()
    }

    fn part(&self, which: fn(&ResourcePath) -> Span) -> &str {
        self.resource.as_ref().map_or("", |at| which(at).of(self.target.path()))
    }

    fn selector(&self, parameter: &str) -> Option<Box<str>> {
        let value = query::first(self.target.query()?, parameter)?;
        (!value.is_empty()).then(|| value.into())
    }

    /// A GET without a name is a list or a watch, and a field selector may name the one object that it is about.
    fn read_list_options(&mut self) {
        let options = ListOptions::decode(self.target.query().unwrap_or_default());
        self.verb = if options.watch { Verb::Watch } else { Verb::List };
        self.selected = options.name.filter(|name| !name.is_empty() && names::is_path_segment(name));
    }
}

/// The part of `ListOptions` that decides.
#[derive(Debug, Default)]
struct ListOptions {
    watch: bool,
    name: Option<Box<str>>,
}

impl ListOptions {
    /// Where any parameter does not decode, all are forgotten but `watch`.
    fn decode(query: &str) -> Self {
        if query.is_empty() {
            return Self::default();
        }
        let mut seen = [false; 5];
        let [watch_seen, field_seen, label_seen, timeout_seen, limit_seen] = &mut seen;
        let first = |seen: &mut bool| !std::mem::replace(seen, true);
        let (mut watch, mut watch_alone, mut name, mut whole) = (false, false, None, true);
        for (key, value) in query::pairs(query) {
            match &*key {
                "watch" if first(watch_seen) => {
                    watch = !is_false(&value);
                    watch_alone = !is_false_in_lower_case(&value);
                }
                "fieldSelector" if first(field_seen) => match FieldSelector::parse(&value) {
                    Ok(selector) => name = selector.exact("metadata.name").map(Box::from),
                    Err(_) => whole = false,
                },
                "labelSelector" if first(label_seen) => whole &= LabelSelector::parse(&value).is_ok(),
                "timeoutSeconds" if first(timeout_seen) => whole &= value.parse::<i64>().is_ok(),
                "limit" if first(limit_seen) => whole &= value.parse::<i64>().is_ok(),
                _ => {}
            }
        }
        if whole { Self { watch, name } } else { Self { watch: watch_alone, name: None } }
    }
}

/// `0` or `false` under Unicode case folding (the long s folds to s), as the original's decoder compares.
fn is_false(value: &str) -> bool {
    is_false_in_lower_case(&value.replace('\u{17f}', "s"))
}

/// The original's fallback lower-cases instead, which leaves the long s alone.
fn is_false_in_lower_case(value: &str) -> bool {
    value == "0" || value.eq_ignore_ascii_case("false")
}

fn resource_verb(method: &Method) -> Verb {
    match *method {
        Method::POST => Verb::Create,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE => Verb::Delete,
        // GET and HEAD; `check_method` has refused all others.
        _ => Verb::Get,
    }
}

fn method_verb(method: &Method) -> Verb {
    match *method {
        Method::HEAD => Verb::Head,
        Method::POST => Verb::Post,
        Method::PUT => Verb::Put,
        Method::PATCH => Verb::Patch,
        Method::DELETE => Verb::Delete,
        _ => Verb::Get,
    }
}

fn no_request_info(target: &Target) -> BadRequest {
    let mut quoted = String::new();
    push_go_quoted(&mut quoted, target.raw());
    let text = format!(
        "Internal Server Error: {quoted}: failed to create RequestInfo: unable to determine kind and namespace from url, {}",
        target.raw()
    );
    let mut message = String::with_capacity(text.len());
    push_html_escaped(&mut message, &text);
    BadRequest { code: 500, message }
}

impl Span {
    fn of(self, text: &str) -> &str {
        text.get(self.start..self.end).unwrap_or_default()
    }
    fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// The path between its slashes, as far as anything depends on it: `apis`, group, version, `watch`, `namespaces`,
/// namespace, resource, name, subresource.
struct Segments {
    spans: [Span; 9],
    len: usize,
}

impl Segments {
    fn of(path: &str) -> Self {
        let mut segments = Self { spans: [Span::default(); 9], len: 0 };
        let trimmed = path.strip_suffix('/').unwrap_or(path);
        let mut start = 1;
        for segment in trimmed.split('/').skip(1) {
            let Some(place) = segments.spans.get_mut(segments.len) else { break };
            *place = Span { start, end: start + segment.len() };
            start += segment.len() + 1;
            segments.len += 1;
        }
        segments
    }

    fn as_slice(&self) -> &[Span] {
        self.spans.get(..self.len).unwrap_or_default()
    }
}
