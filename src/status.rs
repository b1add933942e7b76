//! `metav1.Status`: kube-apiserver's own texts and shapes, always as JSON. Reference: spec errors.

use bytes::Bytes;

/// A failure as a Kubernetes client understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
    /// None: no `details` key. Some(default): `"details":{}`.
    pub details: Option<Box<Details>>,
    /// Seconds; header and details.
    pub retry_after: Option<u32>,
    /// X-Content-Type-Options: nosniff (spec errors 4).
    pub nosniff: bool,
    /// Connection: close / GOAWAY afterwards.
    pub close: bool,
}
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details { pub name: String, pub group: String, pub kind: String, pub causes: Vec<Cause>, pub retry_after_seconds: u32 }
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cause { pub reason: String, pub message: String, pub field: String }

impl Status {
    pub fn bad_request(_message: impl Into<String>) -> Self { todo!() }
    pub fn unauthorized() -> Self { todo!() }
    /// `<head>: User "u" cannot <verb> …[: reason]` per spec rbac 9.
    pub fn forbidden(_user: &str, _asked: crate::request::Attributes<'_>, _reason: &str) -> Self { todo!() }
    pub fn not_acceptable(_message: impl Into<String>) -> Self { todo!() }
    pub fn too_large(_limit: u64) -> Self { todo!() }
    pub fn too_many_requests(_message: &str, _retry_after: u32) -> Self { todo!() }
    pub fn header_too_large() -> Self { todo!() }
    pub fn internal(_message: impl Into<String>) -> Self { todo!() }
    pub fn unavailable(_message: impl Into<String>, _retry_after: Option<u32>) -> Self { todo!() }
    pub fn timeout() -> Self { todo!() }
    /// Compact JSON and a newline, Go's HTML escapes.
    pub fn json(&self) -> Bytes { todo!() }
}
/// Appends `s` as a JSON string with Go's escapes (`<`, `>`, `&`, U+2028/9 as \u00XX).
pub fn push_json_str(_out: &mut Vec<u8>, _s: &str) { todo!() }
