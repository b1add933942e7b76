//! One object, judged: what is refused, and what is only told.

use super::{
    custom,
    envelope::{self, Envelope, Names},
    fields::{self, Strict, Walk, Way},
};
use crate::{
    codec::{
        document::{Document, Format, Undecodable},
        tape::{Tape, Unreadable},
    },
    request::{Asked, Verb, query},
    status::{Cause, Status, push_go_quoted},
    validate::{
        catalog::{Kind, Origin, Route},
        schema::{Id, Schemas},
    },
};
use std::fmt::Write as _;

/// Bytes of a body that are repeated where it is no object.
const SUMMARY: usize = 30;

/// An object that is sent somewhere.
#[derive(Clone, Copy)]
pub(super) struct Object<'a, 'd> {
    pub(super) asked: &'a Asked,
    pub(super) route: &'a Route,
    /// What it says it is written in.
    pub(super) format: Format,
    /// None: it is empty.
    pub(super) document: Option<&'a Document<'d>>,
}

/// What is wrong with an object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// By which rule.
    pub(super) rule: &'static str,
    /// What kube-apiserver answers.
    pub(super) status: Status,
    /// Whether it was found with a schema, which may be out of date.
    pub(super) by_schema: bool,
}

/// What came of looking at an object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    /// Why it is refused.
    pub(super) wrong: Option<Wrong>,
    /// What kube-apiserver warns of.
    pub(super) warnings: Vec<Strict>,
    /// Whether its fields could be held against a schema.
    pub(super) fields: bool,
}

/// Who decodes objects of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decoder {
    /// Go structs of Kubernetes itself.
    Struct(Id),
    /// The handler of custom resources.
    Custom(Id),
    /// Another API server, or it is not known.
    Other,
}

/// What becomes of fields that are unknown or there twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl Object<'_, '_> {
    /// Holds it against `schemas`, those of its resource's group and version.
    pub(super) fn judge(&self, schemas: Option<&Schemas>) -> Judged {
        let mut judged = Judged::default();
        judged.wrong = self.find(schemas, &mut judged).err().map(|wrong| *wrong);
        judged
    }

    fn find(&self, schemas: Option<&Schemas>, judged: &mut Judged) -> Result<(), Box<Wrong>> {
        let Some(tape) = self.tape()? else { return Ok(()) };
        let read = Envelope::read(tape).map_err(|why| self.unrecognized(&why))?;
        let decoder = self.decoder(schemas);
        match (decoder, schemas) {
            (Decoder::Struct(id), Some(schemas)) => {
                self.check_kind(&read, schemas)?;
                let of_it = self.is_expected(&read);
                judged.fields = of_it && self.decodes(schemas, id, tape, false, judged)?;
            }
            (Decoder::Custom(id), Some(schemas)) => {
                let exact = Envelope::exact(tape).map_err(|why| self.unrecognized(&why))?;
                if exact.kind.is_empty() {
                    let why = format!("Object 'Kind' is missing in '{}'", cut(self.bytes()));
                    return Err(by_schema(self.unrecognized(&why)));
                }
                let of_it = exact.api_version() == self.expected_version();
                judged.fields = of_it && self.decodes(schemas, id, tape, true, judged)?;
                if !of_it {
                    return Err(by_schema(self.other_version(&exact)));
                }
                self.names(tape)?;
                return self.custom_kind(&exact, tape);
            }
            // What a subresource of another server takes is its own affair.
            _ if self.route.subresource.is_none() => self.other(&read)?,
            _ => {}
        }
        self.names(tape)
    }

    // --- what it is written in ---

    fn bytes(&self) -> &[u8] {
        self.document.map(Document::bytes).unwrap_or_default()
    }

    /// None where it is not known how the upstream reads it.
    fn tape(&self) -> Result<Option<&Tape<'_>>, Box<Wrong>> {
        let bytes = self.bytes();
        match self.format {
            Format::Json if bytes.is_empty() => {
                return Err(self.unrecognized(&version_kind("unexpected end of JSON input")));
            }
            Format::Protobuf => self.check_protobuf(bytes)?,
            _ => {}
        }
        match self.document.map(Document::tape) {
            Some(Ok(tape)) => Ok(Some(tape)),
            Some(Err(Undecodable::Json(why @ (Unreadable::Syntax(_) | Unreadable::Depth(_)))))
                if self.format == Format::Json =>
            {
                Err(self.unrecognized(&version_kind(&why.to_string())))
            }
            _ => Ok(None),
        }
    }

    fn check_protobuf(&self, bytes: &[u8]) -> Result<(), Box<Wrong>> {
        const MAGIC: &[u8] = b"k8s\0";
        match bytes.strip_prefix(MAGIC) {
            Some([]) => Err(self.unrecognized("empty body")),
            Some(_) => Ok(()),
            None if bytes.is_empty() => Err(self.unrecognized("empty data")),
            None => Err(self.unrecognized(
                "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
            )),
        }
    }

    // --- what it says that it is ---

    fn expected(&self) -> &Kind {
        self.route.kind()
    }

    fn expected_version(&self) -> String {
        envelope::api_version(&self.expected().group, &self.expected().version)
    }

    /// Whether it is of the expected kind and version, once what it does not say is filled in.
    fn is_expected(&self, read: &Envelope<'_>) -> bool {
        let expected = self.expected();
        let (group, version, kind) = self.defaulted(read);
        (group, version, kind) == (&*expected.group, &*expected.version, &*expected.kind)
    }

    fn defaulted<'e>(&'e self, read: &'e Envelope<'_>) -> (&'e str, &'e str, &'e str) {
        let expected = self.expected();
        let kind = if read.kind.is_empty() { &*expected.kind } else { &*read.kind };
        match (&*read.group, &*read.version) {
            ("", "") => (&*expected.group, &*expected.version, kind),
            (group, "") if *group == *expected.group => (group, &*expected.version, kind),
            (group, version) => (group, version, kind),
        }
    }

    /// The kind and version of what a built-in kind's handler takes.
    fn check_kind(&self, read: &Envelope<'_>, schemas: &Schemas) -> Result<(), Box<Wrong>> {
        let expected = self.expected();
        let (group, version, kind) = self.defaulted(read);
        if self.is_expected(read) {
            return Ok(());
        }
        // The one subresource that takes more than one version.
        let is_same = *kind == *expected.kind;
        if is_same && group == &*expected.group && self.asked.info.subresource() == "eviction" {
            return Ok(());
        }
        if is_same && SIBLINGS.contains(&(kind, group, version)) {
            return Err(self.other_version(read));
        }
        let ours = &self.route.resource;
        let known = (group, version) == (&*ours.group, &*ours.version) && schemas.has_kind(kind);
        let in_version = envelope::api_version(group, version);
        let why = if known {
            format!(
                "converting ({version}.{kind}) to ({}.{}): unknown conversion",
                internal(&expected.group),
                expected.kind
            )
        } else {
            let mut why = "no kind ".to_owned();
            push_go_quoted(&mut why, kind);
            why.push_str(" is registered for version ");
            push_go_quoted(&mut why, &in_version);
            why + " in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        };
        Err(self.unhandled("kind", kind, version, &why))
    }

    /// The version of what another server's handler takes, or one that is not known.
    fn other(&self, read: &Envelope<'_>) -> Result<(), Box<Wrong>> {
        let expected = self.expected();
        let (group, version, kind) = self.defaulted(read);
        let is_same = (group, version) == (&*expected.group, &*expected.version);
        if is_same || *kind != *expected.kind { Ok(()) } else { Err(self.other_version(read)) }
    }

    fn custom_kind(&self, exact: &Envelope<'_>, tape: &Tape<'_>) -> Result<(), Box<Wrong>> {
        let expected = self.expected();
        if *exact.kind == *expected.kind {
            return Ok(());
        }
        let mut value = String::new();
        push_go_quoted(&mut value, &exact.kind);
        let cause = Cause {
            reason: "FieldValueInvalid".to_owned(),
            message: format!("Invalid value: {value}: must be {}", expected.kind),
            field: "kind".to_owned(),
        };
        let name = Names::read(tape).unwrap_or_default().name;
        let status = Status::invalid(&expected.group, &exact.kind, &name, vec![cause]);
        Err(Box::new(Wrong { rule: "kind", status, by_schema: true }))
    }

    // --- what is in it ---

    fn decoder(&self, schemas: Option<&Schemas>) -> Decoder {
        let info = &self.asked.info;
        let body = schemas.and_then(|s| Some((s, s.body(info.resource(), info.subresource(), info.verb())?)));
        let Some((schemas, id)) = body else { return Decoder::Other };
        match schemas.is_custom() {
            // The scale of a custom resource has a decoder of its own.
            true if info.subresource() == "scale" => Decoder::Other,
            true => Decoder::Custom(id),
            false if self.route.origin != Origin::Aggregated && schemas.is_built_in(schemas.get(id)) => {
                Decoder::Struct(id)
            }
            false => Decoder::Other,
        }
    }

    /// Whether its fields were looked at; an error where they cannot be decoded.
    fn decodes(
        &self,
        schemas: &Schemas,
        id: Id,
        tape: &Tape<'_>,
        is_custom: bool,
        judged: &mut Judged,
    ) -> Result<bool, Box<Wrong>> {
        let format = self.format;
        if !matches!(format, Format::Json | Format::Yaml) {
            return Ok(false);
        }
        let validation = FieldValidation::asked(self.asked);
        let strict = validation != FieldValidation::Ignore;
        let yaml = format == Format::Yaml;
        let decoded = if is_custom {
            custom::decode(schemas, id, tape, strict)
        } else {
            let way = Way { strict, sorted: yaml, ..Way::JSON };
            let mut walk = Walk::new(schemas, tape, way);
            walk.value(id, 0);
            walk.decoded
        };
        let expected = self.expected();
        if let Some(error) = &decoded.error {
            let wrong = self.unhandled("field-type", &expected.kind, &expected.version, error);
            return Err(by_schema(wrong));
        }
        // In YAML a key that is there twice is told of in other words, and in another place.
        let told = decoded.strict.into_iter().filter(|told| !yaml || told.rule == "unknown-field");
        let told: Vec<Strict> = told.collect();
        match validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => judged.warnings = told.into_iter().take(fields::MOST).collect(),
            FieldValidation::Strict if told.is_empty() => {}
            FieldValidation::Strict => {
                let unknown = told.iter().find(|told| told.rule == "unknown-field");
                let rule = unknown.or(told.first()).map_or("unknown-field", |told| told.rule);
                let texts: Vec<&str> = told.iter().map(|told| &*told.text).collect();
                let why = format!("strict decoding error: {}", texts.join(", "));
                return Err(by_schema(self.unhandled(rule, &expected.kind, &expected.version, &why)));
            }
        }
        Ok(true)
    }

    // --- where it is sent ---

    fn names(&self, tape: &Tape<'_>) -> Result<(), Box<Wrong>> {
        let Some(names) = Names::read(tape) else { return Ok(()) };
        let info = &self.asked.info;
        let namespaced = self.route.resource.namespaced && !info.namespace().is_empty();
        if namespaced && !names.namespace.is_empty() && *names.namespace != *info.namespace() {
            let text =
                "the namespace of the provided object does not match the namespace sent on the request";
            return Err(bad("namespace", text));
        }
        let (theirs, ours) = (&*names.name, info.name());
        match (info.verb(), info.subresource()) {
            (Verb::Update, _) if theirs.is_empty() => Err(bad(
                "name",
                format!(
                    "the name of the object ({ours} based on URL) was undeterminable: name must be provided"
                ),
            )),
            (Verb::Update, _) if theirs != ours => Err(bad(
                "name",
                format!("the name of the object ({theirs}) does not match the name on the URL ({ours})"),
            )),
            // A webhook may yet fill it in.
            (Verb::Create, "eviction" | "binding") if !theirs.is_empty() && theirs != ours => {
                let kind = &self.expected().kind;
                Err(bad("name", format!("name in URL does not match name in {kind} object")))
            }
            _ => Ok(()),
        }
    }

    // --- how it is told ---

    fn unrecognized(&self, why: &str) -> Box<Wrong> {
        let summary = summary(self.bytes());
        let kind = &self.expected().kind;
        bad(
            "undecodable",
            format!("the object provided is unrecognized (must be of type {kind}): {why} ({summary})"),
        )
    }

    fn unhandled(&self, rule: &'static str, kind: &str, version: &str, why: &str) -> Box<Wrong> {
        let mut text = format!("{kind} in version ");
        push_go_quoted(&mut text, version);
        // To write to a String cannot fail.
        let _ = write!(text, " cannot be handled as a {}: {why}", self.expected().kind);
        bad(rule, text)
    }

    fn other_version(&self, read: &Envelope<'_>) -> Box<Wrong> {
        let (theirs, ours) = (read.api_version(), self.expected_version());
        bad(
            "api-version",
            format!(
                "the API version in the data ({theirs}) does not match the expected API version ({ours})"
            ),
        )
    }
}

impl FieldValidation {
    fn asked(asked: &Asked) -> Self {
        let value = query::first(asked.target.query().unwrap_or_default(), "fieldValidation");
        match value.as_deref() {
            None | Some("" | "Warn") => Self::Warn,
            Some("Strict") => Self::Strict,
            Some(_) => Self::Ignore,
        }
    }
}

/// Kinds that are in more versions than one and can be converted between them, so that only the version is wrong.
const SIBLINGS: &[(&str, &str, &str)] = &[
    ("Event", "", "v1"),
    ("Event", "events.k8s.io", "v1"),
    ("HorizontalPodAutoscaler", "autoscaling", "v1"),
    ("HorizontalPodAutoscaler", "autoscaling", "v2"),
    ("Scale", "apps", "v1beta1"),
    ("Scale", "apps", "v1beta2"),
    ("Scale", "autoscaling", "v1"),
    ("Scale", "extensions", "v1beta1"),
];

/// The package that a group's types are converted to.
fn internal(group: &str) -> &str {
    match group.split('.').next().unwrap_or_default() {
        "" | "events" => "core",
        "internal" => "apiserverinternal",
        first => first,
    }
}

fn bad(rule: &'static str, text: impl Into<String>) -> Box<Wrong> {
    Box::new(Wrong { rule, status: Status::bad_request(text), by_schema: false })
}

fn by_schema(mut wrong: Box<Wrong>) -> Box<Wrong> {
    wrong.by_schema = true;
    wrong
}

pub(super) fn version_kind(why: &str) -> String {
    format!("couldn't get version/kind; json parse error: {why}")
}

/// The beginning of a body, as kube-apiserver repeats it.
fn summary(bytes: &[u8]) -> String {
    let more = if bytes.len() > SUMMARY { " ..." } else { "" };
    let beginning = bytes.get(..SUMMARY).unwrap_or(bytes);
    match beginning.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(beginning).into_owned() + more,
        Some(_) => beginning.iter().map(|b| format!("{b:02x}")).collect::<String>() + more,
    }
}

/// A body's beginning: what it says may be a secret.
fn cut(bytes: &[u8]) -> String {
    let more = if bytes.len() > 2 * SUMMARY { " ..." } else { "" };
    String::from_utf8_lossy(bytes.get(..2 * SUMMARY).unwrap_or(bytes)).into_owned() + more
}
