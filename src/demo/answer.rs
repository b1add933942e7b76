//! What the demo's API server answers with: bodies, JSON, and failures in kube-apiserver's own texts.
//!
//! Written apart from `crate::status` on purpose: an upstream that shares the gate's words could not show the gate wrong.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame};
use serde_json::{Map, Value, json};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::mpsc;

/// Any body: a page, a watch, a log that is followed, a fault. An error cuts the connection.
pub type DemoBody = UnsyncBoxBody<Bytes, io::Error>;
/// A whole answer.
pub type Answer = Response<DemoBody>;

/// A refusal or an error, answered as `metav1.Status` or, where kube-apiserver does so, as plain text.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// HTTP status.
    pub code: u16,
    /// metav1 reason; empty: none.
    pub reason: &'static str,
    /// The text a person reads.
    pub message: String,
    /// `details`; None leaves the key out.
    pub details: Option<Value>,
    /// Answered as text/plain instead of a Status.
    pub plain: bool,
    /// Seconds, as a header.
    pub retry_after: Option<u32>,
    /// `X-Content-Type-Options: nosniff`; plain text has it anyway.
    pub nosniff: bool,
}

/// A group and a plural, as failures name them: `pods`, `deployments.apps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupResource<'a> {
    /// Empty for the core group.
    pub group: &'a str,
    /// The plural.
    pub resource: &'a str,
}

impl std::fmt::Display for GroupResource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.resource)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

impl GroupResource<'_> {
    fn details(self, name: &str) -> Map<String, Value> {
        let mut details = Map::new();
        if !name.is_empty() {
            details.insert("name".into(), name.into());
        }
        if !self.group.is_empty() {
            details.insert("group".into(), self.group.into());
        }
        if !self.resource.is_empty() {
            details.insert("kind".into(), self.resource.into());
        }
        details
    }
}

/// One cause of an `Invalid` (422): the metav1 cause type, the field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, ...
    pub reason: &'static str,
    /// Path of the field.
    pub field: String,
    /// Without the field's name in front.
    pub message: String,
}

impl Cause {
    /// `Invalid value: …`
    pub fn invalid(field: &str, value: &str, why: &str) -> Self {
        Self {
            reason: "FieldValueInvalid",
            field: field.into(),
            message: format!("Invalid value: {value}: {why}"),
        }
    }

    /// `Required value[: …]`
    pub fn required(field: &str, why: &str) -> Self {
        let message =
            if why.is_empty() { "Required value".to_owned() } else { format!("Required value: {why}") };
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }

    /// `Unsupported value: "v": supported values: …`
    pub fn unsupported(field: &str, value: &str, known: &[&str]) -> Self {
        let known: Vec<String> = known.iter().map(|k| format!("{k:?}")).collect();
        Self {
            reason: "FieldValueNotSupported",
            field: field.into(),
            message: format!("Unsupported value: {value:?}: supported values: {}", known.join(", ")),
        }
    }
}

impl Failure {
    /// A Status with these three and no details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
            plain: false,
            retry_after: None,
            nosniff: false,
        }
    }

    /// The same with `details`.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// text/plain.
    pub fn plain(code: u16, message: impl Into<String>) -> Self {
        Self { plain: true, ..Self::new(code, "", message) }
    }

    /// 400
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403 of admission: `pods "x" is forbidden: why`
    pub fn forbidden(what: GroupResource<'_>, name: &str, why: &str) -> Self {
        Self::new(403, "Forbidden", format!("{what} {name:?} is forbidden: {why}"))
            .with_details(what.details(name).into())
    }

    /// 404 of an object.
    pub fn not_found(what: GroupResource<'_>, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{what} {name:?} not found"))
            .with_details(what.details(name).into())
    }

    /// 404 of a path inside a served group and version.
    pub fn no_route() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").with_details(json!({}))
    }

    /// 404 of any other path.
    pub fn no_path() -> Self {
        Self::plain(404, "404 page not found\n")
    }

    /// 405
    pub fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
            .with_details(json!({}))
    }

    /// 405 of a custom resource.
    pub fn unsupported(what: GroupResource<'_>, verb: &str) -> Self {
        let text = format!("{verb} is not supported on resources of kind \"{what}\"");
        Self::new(405, "MethodNotAllowed", text).with_details(what.details("").into())
    }

    /// 409 of a create.
    pub fn already_exists(what: GroupResource<'_>, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{what} {name:?} already exists"))
            .with_details(what.details(name).into())
    }

    /// 409 of an update.
    pub fn conflict(what: GroupResource<'_>, name: &str, why: &str) -> Self {
        Self::new(409, "Conflict", format!("Operation cannot be fulfilled on {what} {name:?}: {why}"))
            .with_details(what.details(name).into())
    }

    /// 409 of an update on a stale resourceVersion.
    pub fn modified(what: GroupResource<'_>, name: &str) -> Self {
        Self::conflict(
            what,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 410
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 415 of create and update.
    pub fn unknown_format() -> Self {
        Self::new(
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: \
             application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )
    }

    /// 415 of a patch; custom resources say which they take.
    pub fn unknown_patch(custom: bool) -> Self {
        if custom {
            let text = "the body of the request was in an unknown format - accepted media types include: \
                        application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
            return Self::new(415, "UnsupportedMediaType", text);
        }
        Self::new(415, "UnsupportedMediaType", "415: Unsupported Media Type").with_details(json!({}))
    }

    /// 422
    pub fn invalid(group: &str, kind: &str, name: &str, causes: &[Cause]) -> Self {
        let typed = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let each: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        let said = if let [one] = each.as_slice() { one.clone() } else { format!("[{}]", each.join(", ")) };
        let mut details = GroupResource { group, resource: kind }.details(name);
        let causes =
            causes.iter().map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field}));
        details.insert("causes".into(), causes.collect());
        Self::new(422, "Invalid", format!("{typed} {name:?} is invalid: {said}")).with_details(details.into())
    }

    /// The Status object.
    pub fn status(&self) -> Value {
        let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"});
        if let Value::Object(map) = &mut status {
            map.insert("message".into(), self.message.as_str().into());
            if !self.reason.is_empty() {
                map.insert("reason".into(), self.reason.into());
            }
            if let Some(details) = &self.details {
                map.insert("details".into(), details.clone());
            }
            map.insert("code".into(), self.code.into());
        }
        status
    }

    /// The answer.
    pub fn answer(&self) -> Answer {
        let mut answer = if self.plain {
            text(self.code, self.message.clone())
        } else {
            json_answer(self.code, &self.status())
        };
        if self.plain || self.nosniff {
            answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
        if let Some(seconds) = self.retry_after {
            answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        answer
    }
}

/// A body that is there already.
pub fn full(bytes: impl Into<Bytes>) -> DemoBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Compact JSON and a newline.
pub fn json_answer(code: u16, value: &Value) -> Answer {
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    typed(code, "application/json", bytes)
}

/// Plain text.
pub fn text(code: u16, body: impl Into<Bytes>) -> Answer {
    typed(code, "text/plain; charset=utf-8", body)
}

/// Any other media type.
pub fn typed(code: u16, media: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(full(body));
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    answer
}

/// A body whose pieces are sent one by one; it ends with the sender, or with the error that is sent.
pub fn channel() -> (mpsc::Sender<io::Result<Bytes>>, DemoBody) {
    let (sender, receiver) = mpsc::channel(16);
    (sender, Pieces(receiver).boxed_unsync())
}

struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|p| p.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_read_as_kubernetes_writes_them() {
        let pods = GroupResource { group: "", resource: "pods" };
        let deployments = GroupResource { group: "apps", resource: "deployments" };
        let rows = [
            (
                Failure::not_found(pods, "x"),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"x\" not found","reason":"NotFound","details":{"name":"x","kind":"pods"},"code":404}"#,
            ),
            (
                Failure::already_exists(deployments, "x"),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"deployments.apps \"x\" already exists","reason":"AlreadyExists","details":{"name":"x","group":"apps","kind":"deployments"},"code":409}"#,
            ),
            (
                Failure::unauthorized(),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}"#,
            ),
            (
                Failure::invalid("", "ConfigMap", "B", &[Cause::required("metadata.name", "")]),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"ConfigMap \"B\" is invalid: metadata.name: Required value","reason":"Invalid","details":{"name":"B","kind":"ConfigMap","causes":[{"reason":"FieldValueRequired","message":"Required value","field":"metadata.name"}]},"code":422}"#,
            ),
        ];
        for (failure, expected) in rows {
            assert_eq!(failure.status().to_string(), expected);
        }
    }
}
