//! What is asked: a request line turned into the attributes that authorization and audit decide on.
//!
//! Follows kube-apiserver's `RequestInfoFactory` (k8s.io/apiserver `pkg/endpoints/request/requestinfo.go`), with a
//! stricter rule in front: a target that two parsers could read differently is refused before any decision
//! ([`Target`]). On everything that is accepted, [`RequestInfo`] equals the original's.

use http::{Method, Version};
use std::time::Duration;

mod duration;
mod info;
pub mod names;
pub mod query;
pub mod selector;
mod target;
#[cfg(test)]
mod tests;

pub use info::{RequestInfo, StreamKind};
pub use target::Target;

/// How long a request that is not long-running may take when its caller names no shorter time.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// What is to be done: the API verb of a resource request, the lower-cased method of any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Reads one object; GET of a non-resource path.
    Get,
    /// Reads a collection.
    List,
    /// Follows a collection or an object.
    Watch,
    /// POST to a resource.
    Create,
    /// PUT to a resource.
    Update,
    /// PATCH of either kind.
    Patch,
    /// DELETE of one object or of a non-resource path.
    Delete,
    /// DELETE of a collection.
    DeleteCollection,
    /// The legacy `/proxy/` path prefix.
    Proxy,
    /// HEAD of a non-resource path.
    Head,
    /// POST to a non-resource path.
    Post,
    /// PUT to a non-resource path.
    Put,
}

impl Verb {
    /// The verb as RBAC rules and audit events spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Proxy => "proxy",
            Self::Head => "head",
            Self::Post => "post",
            Self::Put => "put",
        }
    }
}

/// The attributes of a request, as RBAC and the audit policy see them. Borrowed, so that a decision allocates nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// API verb or lower-cased method; arbitrary in self-made questions such as `impersonate`.
    pub verb: &'a str,
    /// What it is done to.
    pub object: Object<'a>,
}

/// The object of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object<'a> {
    /// An API object or collection; empty strings where nothing is named.
    Resource {
        /// API group; empty for the core group.
        group: &'a str,
        /// API version.
        version: &'a str,
        /// Resource, in the plural.
        resource: &'a str,
        /// Subresource.
        subresource: &'a str,
        /// Namespace; empty for cluster scope and for all namespaces.
        namespace: &'a str,
        /// Object name, from the path or from a `metadata.name` field selector.
        name: &'a str,
    },
    /// Any other path, decoded and untrimmed.
    Path(&'a str),
}

/// What a call does to the cluster (`gatelog.dev/effect`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Reads the store, a log, or asks a question (reviews).
    Read,
    /// Changes the store, or may.
    Write,
    /// Opens a connection into the cluster: exec, attach, portforward, proxy.
    Connect,
}

impl Effect {
    /// As the audit annotation spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Connect => "connect",
        }
    }
}

/// A parsed request: what is asked and how long it may take.
#[derive(Debug, Clone)]
pub struct Asked {
    /// One of GET, HEAD, POST, PUT, PATCH, DELETE.
    pub method: Method,
    /// The target as it came.
    pub target: Target,
    /// What it means.
    pub info: RequestInfo,
    /// How long the whole request may take: min(60 s, `?timeout=`); None for long-running requests.
    pub timeout: Option<Duration>,
}

impl Asked {
    /// Reads a request's head. In kube-apiserver's order: the target, RequestInfo, then `timeout`.
    ///
    /// # Errors
    /// 400 for what could be read in two ways, an unsupported method or a bad `timeout`; 500 where kube-apiserver
    /// fails to make a RequestInfo.
    pub fn parse(parts: &http::request::Parts) -> Result<Self, BadRequest> {
        check_method(&parts.method)?;
        // HTTP/2 carries scheme and authority beside the path; in HTTP/1 they mean a target in absolute-form.
        let http1 = matches!(parts.version, Version::HTTP_09 | Version::HTTP_10 | Version::HTTP_11);
        if http1 && (parts.uri.scheme().is_some() || parts.uri.authority().is_some()) {
            return Err(BadRequest::new(target::NOT_ORIGIN_FORM));
        }
        let Some(raw) = parts.uri.path_and_query() else {
            return Err(BadRequest::new(target::NOT_ORIGIN_FORM));
        };
        let target = Target::from_path_and_query(raw.clone())?;
        let info = RequestInfo::parse(&parts.method, &target)?;
        let timeout = if info.is_long_running() { None } else { Some(deadline(&target)?) };
        Ok(Self { method: parts.method.clone(), target, info, timeout })
    }
}

/// A request that cannot be understood in exactly one way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadRequest {
    /// 400, or 500 where kube-apiserver fails to make a RequestInfo.
    pub code: u16,
    /// The text for the caller.
    pub message: String,
}

impl BadRequest {
    fn new(message: impl Into<String>) -> Self {
        Self { code: 400, message: message.into() }
    }
}

fn check_method(method: &Method) -> Result<(), BadRequest> {
    match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE => Ok(()),
        _ => Err(BadRequest::new(format!(
            "the method {method} is not accepted: expected GET, HEAD, POST, PUT, PATCH or DELETE"
        ))),
    }
}

/// min(60 s, `?timeout=`); the first value counts, an empty, zero or negative one means the default.
fn deadline(target: &Target) -> Result<Duration, BadRequest> {
    let Some(text) = target.query().and_then(|q| query::first(q, "timeout")) else { return Ok(MAX_TIMEOUT) };
    if text.is_empty() {
        return Ok(MAX_TIMEOUT);
    }
    match duration::parse(&text) {
        Ok(Some(asked)) => Ok(asked.min(MAX_TIMEOUT)),
        Ok(None) => Ok(MAX_TIMEOUT),
        Err(why) => Err(BadRequest::new(format!("invalid timeout specified in the request URL - {why}"))),
    }
}
