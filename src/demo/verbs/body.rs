//! Request bodies: read with a bound, decoded, and held against the schemas.

use super::{Call, Place};
use crate::{
    codec::yaml,
    demo::{
        answer::{Cause, Failure},
        custom::Version,
        kinds::Kind,
        protobuf,
        schema::{self, Type, Wrong},
        value::{remove, set, text},
        write::Write,
    },
};
use bytes::{Bytes, BytesMut};
use http::{Method, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;

/// Most bytes of a request body.
const LIMIT: usize = 3 << 20;
/// Most bytes read of a body that is too large.
const DRAINED: usize = 64 << 20;

/// A request body, or why it could not be read. Read before anything is decided: a stream that is answered while its body
/// still comes would be reset, and some clients then lose the answer.
pub(in crate::demo) type Body = Result<Bytes, Failure>;

/// Reads a whole body. What exceeds the limit is read, too, within reason, but not kept.
pub(in crate::demo) async fn read(mut body: Incoming) -> Body {
    let (mut kept, mut size) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Failure::bad_request(format!("unable to read body: {e}")))?;
        let Ok(data) = frame.into_data() else { continue };
        size += data.len();
        if size <= LIMIT {
            kept.extend_from_slice(&data);
        } else if size > DRAINED {
            break;
        }
    }
    if size > LIMIT {
        let text = format!("Request entity too large: limit is {LIMIT}");
        return Err(Failure::new(413, "RequestEntityTooLarge", text));
    }
    Ok(kept.freeze())
}

impl Call<'_> {
    pub(super) fn by(&self) -> Result<Write, Failure> {
        let query = &self.asked.query;
        let mut dry_run = false;
        for value in query.all("dryRun") {
            if value != "All" {
                let options = match self.parts.method {
                    Method::POST => "CreateOptions",
                    Method::PATCH => "PatchOptions",
                    Method::DELETE => "DeleteOptions",
                    _ => "UpdateOptions",
                };
                let cause = Cause::unsupported("dryRun", value, &["All"]);
                return Err(Failure::invalid("meta.k8s.io", options, "", &[cause]));
            }
            dry_run = true;
        }
        let agent = self.parts.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok());
        let agent = agent.and_then(|a| a.split('/').next()).unwrap_or("unknown");
        let manager = query.get("fieldManager").filter(|m| !m.is_empty()).unwrap_or(agent);
        Ok(Write { manager: manager.to_owned(), dry_run })
    }

    pub(super) fn media(&self) -> &str {
        let value = self.parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        value.unwrap_or_default().split(';').next().unwrap_or_default().trim()
    }

    /// Reads a body as an object that should be of `kind`.
    pub(super) fn decode(&self, kind: &Kind, bytes: &[u8]) -> Result<Value, Failure> {
        self.decode_as(schema::kind(kind.group, kind.version, kind.kind), kind.kind, bytes)
    }

    /// Reads a body as an object of a type that no path stands for, such as `Eviction`.
    pub(super) fn decode_as(
        &self,
        of: Option<&'static Type>,
        name: &str,
        bytes: &[u8],
    ) -> Result<Value, Failure> {
        match self.media().to_ascii_lowercase().as_str() {
            "" | "application/json" => parse_json(name, bytes),
            "application/yaml" => parse_yaml(name, bytes),
            "application/vnd.kubernetes.protobuf" => {
                of.and_then(|of| protobuf::read(of, bytes)).ok_or_else(Failure::unknown_format)
            }
            _ => Err(Failure::unknown_format()),
        }
    }

    /// Checks form, kind and names of what was sent to `kind`; what is only worth a warning is returned.
    pub(super) fn check(
        &self,
        kind: &Kind,
        place: &Place,
        object: &mut Value,
    ) -> Result<Vec<String>, Failure> {
        if let Some(version) = kind.custom {
            return self.check_custom(place, version, object);
        }
        let sent = (text(object, "/apiVersion"), text(object, "/kind"));
        let expected = kind.api_version();
        if !sent.1.is_empty() && sent.1 != kind.kind {
            return Err(Failure::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: converting ({}.{}) to ({}.{}): unknown conversion",
                sent.1,
                kind.version,
                kind.kind,
                kind.version,
                sent.1,
                if kind.group.is_empty() { "core" } else { kind.group },
                kind.kind
            )));
        }
        if !sent.0.is_empty() && sent.0 != expected {
            return Err(Failure::bad_request(format!(
                "the API version in the data ({}) does not match the expected API version ({expected})",
                sent.0
            )));
        }
        let warnings = self.check_fields(kind, object)?;
        self.check_namespace(place, object)?;
        Ok(warnings)
    }

    /// The same for a custom resource, whose kind is looked at last.
    fn check_custom(
        &self,
        place: &Place,
        version: &Version,
        object: &mut Value,
    ) -> Result<Vec<String>, Failure> {
        let kind = place.kind;
        let (sent, expected) = (text(object, "/apiVersion"), kind.api_version());
        if sent != expected {
            return Err(Failure::bad_request(format!(
                "the API version in the data ({sent}) does not match the expected API version ({expected})"
            )));
        }
        let metadata = object.get("metadata").unwrap_or(&Value::Null);
        let wrong = schema::named("ObjectMeta").map(|of| schema::check(of, metadata)).unwrap_or_default();
        let mut unknown = Vec::new();
        for wrong in wrong {
            match wrong {
                Wrong::Type(text) => return Err(cannot(kind, &text)),
                Wrong::Unknown(field) => unknown.push(format!("metadata.{field}")),
            }
        }
        let unknown_metadata: Vec<String> =
            unknown.iter().map(|f| format!("/{}", f.replace('.', "/"))).collect();
        for field in unknown_metadata {
            remove(object, &field);
        }
        unknown.extend(version.prune(object));
        let warnings =
            self.judge(kind, unknown.into_iter().map(|f| format!("unknown field {f:?}")).collect())?;
        self.check_namespace(place, object)?;
        let (sent, name) = (text(object, "/kind"), text(object, "/metadata/name"));
        if sent != kind.kind {
            let why = format!("must be {}", kind.kind);
            let cause = Cause::invalid("kind", &format!("{sent:?}"), &why);
            return Err(Failure::invalid(kind.group, sent, name, &[cause]));
        }
        Ok(warnings)
    }

    /// The object is in the namespace of the path.
    fn check_namespace(&self, place: &Place, object: &mut Value) -> Result<(), Failure> {
        let inside = text(object, "/metadata/namespace");
        if place.kind.namespaced && !inside.is_empty() && inside != place.namespace {
            return Err(Failure::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        if place.kind.namespaced {
            set(object, "/metadata/namespace", place.namespace.as_str());
        }
        Ok(())
    }

    /// What `fieldValidation` makes of fields that are not known or there twice: nothing, warnings, or a refusal.
    fn judge(&self, kind: &Kind, found: Vec<String>) -> Result<Vec<String>, Failure> {
        match self.asked.query.text("fieldValidation") {
            "Strict" if !found.is_empty() => {
                Err(cannot(kind, &format!("strict decoding error: {}", found.join(", "))))
            }
            "Ignore" => Ok(Vec::new()),
            _ => Ok(found),
        }
    }

    pub(super) fn check_fields(&self, kind: &Kind, object: &Value) -> Result<Vec<String>, Failure> {
        let Some(of) = schema::kind(kind.group, kind.version, kind.kind) else { return Ok(Vec::new()) };
        let wrong = schema::check(of, object);
        let mut unknown = Vec::new();
        for wrong in &wrong {
            match wrong {
                Wrong::Type(text) => return Err(cannot(kind, text)),
                Wrong::Unknown(field) => unknown.push(format!("unknown field {field:?}")),
            }
        }
        self.judge(kind, unknown)
    }

    pub(super) fn check_name(&self, object: &Value) -> Result<(), Failure> {
        let (sent, name) = (text(object, "/metadata/name"), &self.resource.name);
        if sent.is_empty() {
            return Err(Failure::bad_request(format!(
                "the name of the object ({name} based on URL) was undeterminable: name must be provided"
            )));
        }
        if sent != name {
            return Err(Failure::bad_request(format!(
                "the name of the object ({sent}) does not match the name on the URL ({name})"
            )));
        }
        Ok(())
    }
}

fn cannot(kind: &Kind, why: &str) -> Failure {
    let version = kind.version;
    Failure::bad_request(format!("{0} in version {version:?} cannot be handled as a {0}: {why}", kind.kind))
}

pub(super) fn unrecognized(kind: &str, why: &str, bytes: &[u8]) -> Failure {
    let start: Vec<u8> = bytes.iter().take(30).copied().collect();
    let shown = match start.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(&start).into_owned(),
        Some(_) => start.iter().map(|b| format!("{b:02x}")).collect(),
    };
    Failure::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {why} ({shown})"
    ))
}

pub(super) fn parse_json(kind: &str, bytes: &[u8]) -> Result<Value, Failure> {
    if bytes.is_empty() {
        return Err(unrecognized(kind, "unexpected end of JSON input", bytes));
    }
    match serde_json::from_slice(bytes) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(unrecognized(kind, "json: cannot unmarshal into Go value of type struct", bytes)),
        Err(e) => Err(unrecognized(kind, &e.to_string(), bytes)),
    }
}

pub(super) fn parse_yaml(kind: &str, bytes: &[u8]) -> Result<Value, Failure> {
    // JSON is most of what comes here, and the quicker to read.
    if let Ok(value @ Value::Object(_)) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let text = std::str::from_utf8(bytes).map_err(|e| unrecognized(kind, &e.to_string(), bytes))?;
    let documents = yaml::documents(text).map_err(|e| unrecognized(kind, &e.to_string(), bytes))?;
    match documents.into_iter().next().map(|d| d.value) {
        Some(value @ Value::Object(_)) => Ok(value),
        _ => Err(unrecognized(kind, "unexpected end of JSON input", b"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bodies_that_are_not_objects() {
        let rows: [(&[u8], &str); 3] =
            [(b"", "unexpected end of JSON input (<empty>)"), (b"{bad", "({bad)"), (b"[1]", "(5b315d)")];
        for (bytes, end) in rows {
            let message = parse_json("ConfigMap", bytes).unwrap_err().message;
            assert!(message.ends_with(end), "{message}");
            assert!(message.starts_with("the object provided is unrecognized (must be of type ConfigMap)"));
        }
        assert_eq!(parse_yaml("ConfigMap", b"a: 1\n---\nb: 2").unwrap(), json!({"a": 1}));
    }
}
