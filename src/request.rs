//! What is asked: a request line turned into the attributes that authorization and audit decide on.
//!
//! Follows kube-apiserver's `RequestInfoFactory` (k8s.io/apiserver `pkg/endpoints/request/requestinfo.go`), with a
//! stricter rule in front: a target that two parsers could read differently is refused before any decision.

use http::Method;
use std::time::Duration;

/// An accepted origin-form request target: the exact bytes that came, and the path as it is decided on.
#[derive(Debug, Clone)]
pub struct Target {
    // private: raw: http::uri::PathAndQuery, decoded path only when it differs from the raw one, ...
}

impl Target {
    /// Accepts `raw` or says why it could be read in two ways (DESIGN 1.2).
    pub fn parse(_raw: &str) -> Result<Self, BadRequest> { todo!() }
    /// The target as it came and as it is forwarded.
    pub fn raw(&self) -> &str { todo!() }
    /// The path, percent-decoded once; what decisions are made on.
    pub fn path(&self) -> &str { todo!() }
    /// The raw query, without `?`.
    pub fn query(&self) -> Option<&str> { todo!() }
}

/// What is to be done: the API verb of a resource request, the lower-cased method of any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb { Get, List, Watch, Create, Update, Patch, Delete, DeleteCollection, Proxy, Head, Post, Put }
impl Verb {
    /// The verb as RBAC rules and audit events spell it.
    pub fn as_str(self) -> &'static str { todo!() }
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
    Resource { group: &'a str, version: &'a str, resource: &'a str, subresource: &'a str, namespace: &'a str, name: &'a str },
    /// Any other path, decoded and untrimmed.
    Path(&'a str),
}

/// RequestInfo: the parsed form of method + target. Accessors return "" where nothing is named.
#[derive(Debug, Clone)]
pub struct RequestInfo {}
impl RequestInfo {
    /// Parses; an error is kube-apiserver's "failed to create RequestInfo" (500) or ours (400).
    pub fn parse(_method: &Method, _target: &Target) -> Result<Self, BadRequest> { todo!() }
    pub fn is_resource(&self) -> bool { todo!() }
    pub fn verb(&self) -> Verb { todo!() }
    pub fn group(&self) -> &str { todo!() }
    pub fn version(&self) -> &str { todo!() }
    pub fn namespace(&self) -> &str { todo!() }
    pub fn resource(&self) -> &str { todo!() }
    pub fn subresource(&self) -> &str { todo!() }
    pub fn name(&self) -> &str { todo!() }
    /// Decoded path (non-resource requests are decided on it).
    pub fn path(&self) -> &str { todo!() }
    /// Raw first `fieldSelector`/`labelSelector` where kube-apiserver records them.
    pub fn field_selector(&self) -> Option<&str> { todo!() }
    pub fn label_selector(&self) -> Option<&str> { todo!() }
    pub fn attributes(&self) -> Attributes<'_> { todo!() }
    /// No deadline, no in-flight limit: watch, proxy; attach exec proxy log portforward; /debug/pprof/.
    pub fn is_long_running(&self) -> bool { todo!() }
    /// Whether the call reads the cluster's store, writes it, or opens a connection (exec, attach, portforward, proxy, log is a read).
    pub fn effect(&self) -> Effect { todo!() }
}

/// What a call does to the cluster (`gatelog.dev/effect`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect { Read, Write, Connect }
impl Effect { pub fn as_str(self) -> &'static str { todo!() } }

/// A parsed request: what is asked and how long it may take.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    pub target: Target,
    pub info: RequestInfo,
    /// How long the whole request may take: min(60 s, `?timeout=`); None for long-running requests.
    pub timeout: Option<Duration>,
}
impl Asked {
    pub fn parse(_parts: &http::request::Parts) -> Result<Self, BadRequest> { todo!() }
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
