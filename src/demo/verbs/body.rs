//! Request bodies: read with a bound, decoded, and held against the schemas.

use super::{Call, Place};
use crate::demo::{
    answer::{Cause, Failure},
    custom::Version,
    json,
    kinds::{self, Kind},
    media, options, protobuf,
    schema::{self, Type, Wrong},
    value::{remove, set, text},
    write::Write,
    yaml,
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

/// A body that was read, and what a strict reader minds about it: keys that are there twice.
pub(super) struct Decoded {
    /// The object.
    pub value: Value,
    /// `duplicate field "spec.replicas"`
    pub twice: Vec<String>,
}

impl Call<'_> {
    /// Who writes, and whether for real.
    pub(super) fn by(&self) -> Result<Write, Failure> {
        let query = &self.asked.query;
        let name = match self.parts.method {
            Method::POST => "CreateOptions",
            Method::PATCH => "PatchOptions",
            _ => "UpdateOptions",
        };
        let apply = self.patch_media() == "application/apply-patch+yaml";
        let dry_run = options::write(name, query, apply)?;
        let agent = self.parts.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok());
        let agent = agent.and_then(|a| a.split('/').next()).unwrap_or("unknown");
        let manager = query.get("fieldManager").filter(|m| !m.is_empty()).unwrap_or(agent);
        Ok(Write { manager: manager.to_owned(), dry_run })
    }

    fn content_type(&self) -> &str {
        self.parts.headers.get(header::CONTENT_TYPE).map_or("", |v| v.to_str().unwrap_or("?"))
    }

    /// The type of a patch, in the spelling of the request.
    pub(super) fn patch_media(&self) -> &str {
        self.content_type().split(';').next().unwrap_or_default().trim()
    }

    /// In which of the formats of objects the body is.
    pub(super) fn format(&self) -> Result<Format, Failure> {
        let sent = self.content_type().trim();
        if !sent.is_empty() && !media::is_media_type(sent) {
            return Err(Failure::unknown_format());
        }
        match self.patch_media().to_ascii_lowercase().as_str() {
            "" | "application/json" => Ok(Format::Json),
            "application/yaml" => Ok(Format::Yaml),
            "application/vnd.kubernetes.protobuf" => Ok(Format::Protobuf),
            _ => Err(Failure::unknown_format()),
        }
    }

    /// Reads a body as an object that should be of `kind`.
    pub(super) fn decode(&self, kind: &Kind, bytes: &[u8]) -> Result<Decoded, Failure> {
        let of = schema::kind(kind.group, kind.version, kind.kind);
        let decoded = self.read(of, kind.kind, bytes)?;
        if kind.custom.is_some() && text(&decoded.value, "/kind").is_empty() {
            let why = format!("Object 'Kind' is missing in '{}'", String::from_utf8_lossy(bytes));
            return Err(unrecognized(kind.kind, &why, bytes));
        }
        Ok(decoded)
    }

    /// Reads a body as an object of a type that no path stands for, such as `Eviction`.
    pub(super) fn decode_as(
        &self,
        of: Option<&'static Type>,
        name: &str,
        bytes: &[u8],
    ) -> Result<Value, Failure> {
        self.read(of, name, bytes).map(|d| d.value)
    }

    fn read(&self, of: Option<&'static Type>, name: &str, bytes: &[u8]) -> Result<Decoded, Failure> {
        let mut decoded = match self.format()? {
            Format::Json => parse_json(bytes),
            Format::Yaml => parse_yaml(bytes),
            Format::Protobuf => {
                let why = match bytes {
                    [] => "empty data",
                    b"k8s\0" => "empty body",
                    [b'k', b'8', b's', 0, ..] => "",
                    _ => "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
                };
                if !why.is_empty() {
                    return Err(unrecognized(name, why, bytes));
                }
                let read = of.and_then(|of| protobuf::read(of, bytes)).ok_or_else(Failure::unknown_format)?;
                return Ok(Decoded { value: read, twice: Vec::new() });
            }
        }
        .map_err(|why| unrecognized(name, &why, bytes))?;
        head(&decoded.value).map_err(|why| unrecognized(name, &why, bytes))?;
        if decoded.value.is_null() && of.is_some() {
            decoded.value = Value::Object(serde_json::Map::new());
        }
        Ok(decoded)
    }

    /// Checks form, kind and place of what was sent; what is only worth a warning is returned.
    pub(super) fn check(
        &self,
        place: &Place,
        object: &mut Value,
        twice: Vec<String>,
    ) -> Result<Vec<String>, Failure> {
        let warnings = self.recognize(place.kind, object, twice)?;
        self.check_namespace(place, object)?;
        self.check_kind(place.kind, object)?;
        Ok(warnings)
    }

    /// Checks form and kind, and takes out what is not known.
    pub(super) fn recognize(
        &self,
        kind: &Kind,
        object: &mut Value,
        twice: Vec<String>,
    ) -> Result<Vec<String>, Failure> {
        if let Some(version) = kind.custom {
            return self.recognize_custom(kind, version, object, twice);
        }
        let expected = kind.api_version();
        let or = |sent: &str, own: &str| if sent.is_empty() { own.to_owned() } else { sent.to_owned() };
        let api = or(text(object, "/apiVersion"), &expected);
        let name = or(text(object, "/kind"), kind.kind);
        let (group, version) = api.rsplit_once('/').unwrap_or(("", &api));
        let cannot = |why: &str| {
            Failure::bad_request(format!(
                "{name} in version {version:?} cannot be handled as a {}: {why}",
                kind.kind
            ))
        };
        let Some(of) = schema::kind(group, version, &name) else {
            if name == kind.kind && kinds::was_registered(group, version) {
                return Err(other_version(&api, &expected));
            }
            let listed = name.strip_suffix("List").is_some_and(|n| schema::kind(group, version, n).is_some());
            if listed || matches!(&*name, "Status" | "DeleteOptions") {
                return Err(cannot(&unknown_conversion(kind, version, &name)));
            }
            return Err(cannot(&format!(
                "no kind {name:?} is registered for version {api:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
            )));
        };
        let mut found = twice;
        for wrong in schema::check(of, object) {
            match wrong {
                Wrong::Type(text) => return Err(cannot(&text)),
                Wrong::Unknown(field) => found.push(format!("unknown field {field:?}")),
            }
        }
        let warnings = self.judge(kind, found)?;
        if name != kind.kind {
            return Err(cannot(&unknown_conversion(kind, version, &name)));
        }
        if api != expected {
            return Err(other_version(&api, &expected));
        }
        schema::prune(of, object);
        Ok(warnings)
    }

    /// The same for a custom resource, whose kind is looked at last.
    fn recognize_custom(
        &self,
        kind: &Kind,
        version: &Version,
        object: &mut Value,
        twice: Vec<String>,
    ) -> Result<Vec<String>, Failure> {
        let (sent, expected) = (text(object, "/apiVersion"), kind.api_version());
        if sent != expected {
            return Err(other_version(sent, &expected));
        }
        let mut unknown = Vec::new();
        for (at, metadata) in version.embedded(object) {
            let text_of = |why: String| match at.as_str() {
                "metadata" => why,
                at => format!("{at}: Invalid value: {metadata}: {why}"),
            };
            if !metadata.is_object() {
                let go = json::type_of(metadata);
                let why = format!("json: cannot unmarshal {go} into Go value of type v1.ObjectMeta");
                return Err(cannot(kind, &text_of(why)));
            }
            let of = schema::named("ObjectMeta");
            for wrong in of.map(|of| schema::check(of, metadata)).unwrap_or_default() {
                match wrong {
                    Wrong::Type(why) => return Err(cannot(kind, &text_of(why))),
                    Wrong::Unknown(field) => unknown.push(format!("{at}.{field}")),
                }
            }
        }
        for field in &unknown {
            remove(object, &format!("/{}", field.replace(['.', '['], "/").replace(']', "")));
        }
        unknown.extend(version.prune(object));
        let unknown = unknown.into_iter().map(|field| format!("unknown field {field:?}"));
        self.judge(kind, twice.into_iter().chain(unknown).collect())
    }

    /// A custom resource is of the kind that its path says; those that are built in were found to be.
    fn check_kind(&self, kind: &Kind, object: &Value) -> Result<(), Failure> {
        let (sent, name) = (text(object, "/kind"), text(object, "/metadata/name"));
        if kind.custom.is_none() || sent == kind.kind {
            return Ok(());
        }
        let why = format!("must be {}", kind.kind);
        let cause = Cause::invalid("kind", &format!("{sent:?}"), &why);
        Err(Failure::invalid(kind.group, sent, name, &[cause]))
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
                let told = |(i, text): (usize, &String)| match text.starts_with("line ") {
                    true if i == 0 => format!("yaml: unmarshal errors:\n  {text}"),
                    _ => text.clone(),
                };
                let all: Vec<String> = found.iter().enumerate().map(told).collect();
                Err(cannot(kind, &format!("strict decoding error: {}", all.join(", "))))
            }
            "Ignore" => Ok(Vec::new()),
            _ => Ok(found),
        }
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

/// The formats of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Yaml,
    Protobuf,
}

fn other_version(sent: &str, expected: &str) -> Failure {
    Failure::bad_request(format!(
        "the API version in the data ({sent}) does not match the expected API version ({expected})"
    ))
}

fn unknown_conversion(kind: &Kind, version: &str, name: &str) -> String {
    let package = if kind.group.is_empty() { "core" } else { kind.group };
    let package = package.split('.').next().unwrap_or_default();
    format!("converting ({version}.{name}) to ({package}.{}): unknown conversion", kind.kind)
}

fn cannot(kind: &Kind, why: &str) -> Failure {
    let version = kind.version;
    Failure::bad_request(format!("{0} in version {version:?} cannot be handled as a {0}: {why}", kind.kind))
}

pub(super) fn unrecognized(kind: &str, why: &str, bytes: &[u8]) -> Failure {
    let start: Vec<u8> = bytes.iter().take(30).copied().collect();
    let more = if bytes.len() > 30 { " ..." } else { "" };
    let shown = match start.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(&start).into_owned() + more,
        Some(_) => start.iter().map(|b| format!("{b:02x}")).collect::<String>() + more,
    };
    // Options are decoded without saying what they should be.
    if kind == "DeleteOptions" {
        return Failure::bad_request(why);
    }
    Failure::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): {why} ({shown})"
    ))
}

/// What every body must say rightly of itself: nothing, or its version and kind.
fn head(value: &Value) -> Result<(), String> {
    let unread = "couldn't get version/kind; json parse error: json: cannot unmarshal";
    let go = json::type_of(value);
    if !value.is_object() && !value.is_null() {
        return Err(format!(
            "{unread} {go} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind \
             string \"json:\\\"kind,omitempty\\\"\" }}"
        ));
    }
    for key in ["apiVersion", "kind"] {
        if let Some(wrong) = value.get(key).filter(|v| !v.is_string() && !v.is_null()) {
            let go = json::type_of(wrong);
            return Err(format!("{unread} {go} into Go struct field .{key} of type string"));
        }
    }
    let api = text(value, "/apiVersion");
    if api.matches('/').count() > 1 {
        return Err(format!("unexpected GroupVersion string: {api}"));
    }
    Ok(())
}

pub(super) fn parse_json(bytes: &[u8]) -> Result<Decoded, String> {
    let read =
        json::read(bytes).map_err(|why| format!("couldn't get version/kind; json parse error: {why}"))?;
    let twice = read.duplicates.iter().map(|path| format!("duplicate field {path:?}")).collect();
    Ok(Decoded { value: read.value, twice })
}

pub(super) fn parse_yaml(bytes: &[u8]) -> Result<Decoded, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "yaml: invalid leading UTF-8 octet")?;
    let read = yaml::read(text)?;
    Ok(Decoded { value: read.value, twice: read.duplicate.into_iter().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_that_are_not_objects() {
        let rows: [(&[u8], &str); 4] = [
            (b"", "unexpected end of JSON input (<empty>)"),
            (b"{bad", "looking for beginning of object key string ({bad)"),
            (b"[1]", "(5b315d)"),
            (b"{\"apiVersion\": \"a/b/c\", \"kind\": 1}", "({\"apiVersion\": \"a/b/c\", \"kind\" ...)"),
        ];
        for (bytes, end) in rows {
            let read = parse_json(bytes).and_then(|d| head(&d.value));
            let message = unrecognized("ConfigMap", &read.unwrap_err(), bytes).message;
            assert!(message.ends_with(end), "{message}");
            assert!(message.starts_with("the object provided is unrecognized (must be of type ConfigMap)"));
        }
    }
}
