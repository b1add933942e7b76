//! `metav1.Status`: kube-apiserver's own texts and shapes, always as JSON.
//!
//! The original answers some failures as plain text, or as what the caller accepts; clients take a JSON Status everywhere, so
//! there is one form. Where the original has no Status at all (429, 431, 504), its text is the message.

use crate::request::{Attributes, BadRequest, Object};
use bytes::Bytes;
use std::collections::HashSet;

#[cfg(test)]
mod tests;
mod text;

pub use text::{is_printable, push_go_quoted, push_html_escaped, push_json_str};

/// A failure as a Kubernetes client understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason, e.g. `NotFound`; empty where Kubernetes has no word for it.
    pub reason: &'static str,
    /// What a person reads.
    pub message: String,
    /// None: no `details` key. Some(default): `"details":{}`.
    pub details: Option<Box<Details>>,
    /// Seconds, for the `Retry-After` header; the constructors put the same into `details`.
    pub retry_after: Option<u32>,
    /// X-Content-Type-Options: nosniff.
    pub nosniff: bool,
    /// Connection: close / GOAWAY afterwards.
    pub close: bool,
}

/// What the failure is about. Empty members are not written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Object name.
    pub name: String,
    /// API group.
    pub group: String,
    /// Resource (for path errors) or Kind (for validation errors).
    pub kind: String,
    /// One entry a cause.
    pub causes: Vec<Cause>,
    /// Seconds.
    pub retry_after_seconds: u32,
}

/// One cause, e.g. one invalid field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cause {
    /// e.g. `FieldValueInvalid`
    pub reason: String,
    /// What a person reads.
    pub message: String,
    /// Path of the field.
    pub field: String,
}

impl Status {
    /// Any failure without details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
            retry_after: None,
            nosniff: false,
            close: false,
        }
    }

    /// 400: a bad query, body or header.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self { nosniff: true, ..Self::new(400, "BadRequest", message) }
    }

    /// 401. Says no more than the original; the reason is in the log.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403: `<head>: User "u" cannot <verb> …[: reason]`.
    pub fn forbidden(user: &str, asked: Attributes<'_>, reason: &str) -> Self {
        let (group, resource, name) = match asked.object {
            Object::Resource { group, resource, name, .. } => (group, resource, name),
            Object::Path(_) => ("", "", ""),
        };
        let mut message = String::with_capacity(160 + reason.len());
        if group.is_empty() && resource.is_empty() {
            message.push_str("forbidden: ");
        } else {
            message.push_str(resource);
            if !group.is_empty() {
                message.push('.');
                message.push_str(group);
            }
            if !name.is_empty() {
                message.push(' ');
                push_go_quoted(&mut message, name);
            }
            message.push_str(" is forbidden: ");
        }
        push_html_escaped(&mut message, &cannot(user, asked));
        if !reason.is_empty() {
            message.push_str(": ");
            message.push_str(reason);
        }
        let details = Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: resource.to_owned(),
            ..Details::default()
        };
        Self { details: Some(Box::new(details)), nosniff: true, ..Self::new(403, "Forbidden", message) }
    }

    /// 404: no such object.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let qualified = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
        let mut message = qualified;
        message.push(' ');
        push_go_quoted(&mut message, name);
        message.push_str(" not found");
        let details =
            Details { name: name.into(), group: group.into(), kind: resource.into(), ..Details::default() };
        Self { details: Some(Box::new(details)), ..Self::new(404, "NotFound", message) }
    }

    /// 404: nothing is served there.
    pub fn no_route() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").with_empty_details()
    }

    /// 405: the route exists, the method does not.
    pub fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
            .with_empty_details()
    }

    /// 406: nothing that the caller accepts can be given.
    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::new(406, "NotAcceptable", message)
    }

    /// 413. `limit` in bytes.
    pub fn too_large(limit: u64) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit}"))
    }

    /// 415: a body in a media type that is not served; `accepted` as the text lists it.
    pub fn unsupported_media_type(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 422 for an object of `kind`; the message is made of the causes' messages.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let mut message = kind.to_owned();
        if !group.is_empty() {
            message.push('.');
            message.push_str(group);
        }
        message.push(' ');
        push_go_quoted(&mut message, name);
        message.push_str(" is invalid: ");
        let text = |c: &Cause| {
            if c.field.is_empty() { c.message.clone() } else { format!("{}: {}", c.field, c.message) }
        };
        // The same text twice is one: so the API machinery joins errors.
        let mut texts: Vec<String> = Vec::with_capacity(causes.len());
        let mut seen = HashSet::with_capacity(causes.len());
        texts.extend(causes.iter().map(text).filter(|text| seen.insert(text.clone())));
        match texts.as_slice() {
            [one] => message.push_str(one),
            many => {
                message.push('[');
                message.push_str(&many.join(", "));
                message.push(']');
            }
        }
        let details = Details {
            name: name.into(),
            group: group.into(),
            kind: kind.into(),
            causes,
            ..Details::default()
        };
        Self { details: Some(Box::new(details)), ..Self::new(422, "Invalid", message) }
    }

    /// 429. `retry_after` in seconds.
    pub fn too_many_requests(message: &str, retry_after: u32) -> Self {
        Self { nosniff: true, ..Self::new(429, "TooManyRequests", message).retry_after(retry_after) }
    }

    /// 431; the connection cannot be used further.
    pub fn header_too_large() -> Self {
        Self { close: true, ..Self::new(431, "", "431 Request Header Fields Too Large") }
    }

    /// 500. `message` says what failed, without secrets.
    pub fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        let text = format!("Internal error occurred: {message}");
        let details = Details { causes: vec![Cause { message, ..Cause::default() }], ..Details::default() };
        Self { details: Some(Box::new(details)), nosniff: true, ..Self::new(500, "InternalError", text) }
    }

    /// 503. `retry_after` in seconds; clients retry by themselves when it is given.
    pub fn unavailable(message: impl Into<String>, retry_after: Option<u32>) -> Self {
        let status = Self { nosniff: true, ..Self::new(503, "ServiceUnavailable", message) };
        match retry_after {
            Some(seconds) => status.retry_after(seconds),
            None => status,
        }
    }

    /// 504: the request's deadline.
    pub fn timeout() -> Self {
        Self::new(504, "Timeout", "Timeout: request did not complete within the allotted timeout")
            .with_empty_details()
    }

    /// Compact JSON and a newline, Go's HTML escapes.
    pub fn json(&self) -> Bytes {
        let mut out = Vec::with_capacity(192 + self.message.len() * 2);
        out.extend_from_slice(br#"{"kind":"Status","apiVersion":"v1","#);
        self.push_members(&mut out);
        out.push(b'\n');
        out.into()
    }

    /// Appends what an audit event's `responseStatus` says: the same without kind and apiVersion.
    pub fn push_audit_json(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        self.push_members(out);
    }

    /// From `metadata` to the closing brace.
    fn push_members(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#""metadata":{},"status":"Failure""#);
        push_member(out, "message", &self.message);
        push_member(out, "reason", self.reason);
        if let Some(details) = &self.details {
            out.extend_from_slice(br#","details":"#);
            details.push_json(out);
        }
        out.extend_from_slice(br#","code":"#);
        out.extend_from_slice(self.code.to_string().as_bytes());
        out.push(b'}');
    }

    fn with_empty_details(mut self) -> Self {
        self.details = Some(Box::default());
        self
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }
}

/// What could not be parsed: 400, or kube-apiserver's 500 for a failed RequestInfo.
impl From<BadRequest> for Status {
    fn from(bad: BadRequest) -> Self {
        match bad.code {
            400 => Self::bad_request(bad.message),
            code => Self { nosniff: true, ..Self::new(code, "InternalError", bad.message) },
        }
    }
}

impl Details {
    fn push_json(&self, out: &mut Vec<u8>) {
        let start = out.len();
        push_member(out, "name", &self.name);
        push_member(out, "group", &self.group);
        push_member(out, "kind", &self.kind);
        for (i, cause) in self.causes.iter().enumerate() {
            out.extend_from_slice(if i == 0 { br#","causes":["#.as_slice() } else { b"," });
            cause.push_json(out);
        }
        if !self.causes.is_empty() {
            out.push(b']');
        }
        if self.retry_after_seconds > 0 {
            out.extend_from_slice(br#","retryAfterSeconds":"#);
            out.extend_from_slice(self.retry_after_seconds.to_string().as_bytes());
        }
        close_object(out, start);
    }
}

impl Cause {
    fn push_json(&self, out: &mut Vec<u8>) {
        let start = out.len();
        push_member(out, "reason", &self.reason);
        push_member(out, "message", &self.message);
        push_member(out, "field", &self.field);
        close_object(out, start);
    }
}

/// Appends `,"key":"value"`, or nothing for an empty value.
fn push_member(out: &mut Vec<u8>, key: &str, value: &str) {
    if !value.is_empty() {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        push_json_str(out, value);
    }
}

/// Makes an object of the members appended since `start`: the first one's comma becomes the brace.
fn close_object(out: &mut Vec<u8>, start: usize) {
    match out.get_mut(start) {
        Some(comma) => *comma = b'{',
        None => out.push(b'{'),
    }
    out.push(b'}');
}

/// `User "u" cannot get resource …`, before HTML escapes.
fn cannot(user: &str, asked: Attributes<'_>) -> String {
    let mut text = String::from("User ");
    push_go_quoted(&mut text, user);
    text.push_str(" cannot ");
    text.push_str(asked.verb);
    match asked.object {
        Object::Path(path) => {
            text.push_str(" path ");
            push_go_quoted(&mut text, path);
        }
        Object::Resource { group, resource, subresource, namespace, .. } => {
            text.push_str(" resource ");
            if subresource.is_empty() {
                push_go_quoted(&mut text, resource);
            } else {
                push_go_quoted(&mut text, &format!("{resource}/{subresource}"));
            }
            text.push_str(" in API group ");
            push_go_quoted(&mut text, group);
            if namespace.is_empty() {
                text.push_str(" at the cluster scope");
            } else {
                text.push_str(" in the namespace ");
                push_go_quoted(&mut text, namespace);
            }
        }
    }
    text
}
