//! In which encoding a review came, and in which its answer goes: what kube-apiserver's router and its negotiation make of
//! `Content-Type` and `Accept`.

use crate::{
    codec::{
        json,
        protobuf::{self, Envelope},
        yaml,
    },
    request::query,
    status::{Details, Status},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;
use std::cmp::Reverse;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Compact, on one line.
    Json,
    /// Indented, for people.
    Pretty,
    /// As JSON, which is YAML.
    Yaml,
    /// In Kubernetes' envelope.
    Protobuf,
}

/// A body as it came.
#[derive(Debug)]
pub(super) enum Sent<'a> {
    /// JSON or YAML.
    Value(Value),
    /// Protobuf.
    Protobuf(Envelope<'a>),
}

/// What a body holds at most, beside its size.
const JSON: json::Limits = json::Limits { depth: 64, nodes: 50_000 };
/// The same of YAML.
const YAML: yaml::Limits = yaml::Limits { bytes: super::LARGEST, nodes: 50_000, documents: 1, aliased: 1000 };
/// The same of protobuf.
const PROTOBUF: protobuf::Limits = protobuf::Limits { bytes: super::LARGEST, depth: DEPTH };
/// Levels of messages.
const DEPTH: usize = 16;

/// What is served, as kube-apiserver lists it.
const SERVED: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

impl Encoding {
    /// By the first `Accept` line alone, as kube-apiserver reads it: its router takes only whole names and `*/*`, then the
    /// largest q counts. Other forms of the object (tables) are not given.
    ///
    /// # Errors
    /// 406.
    pub(super) fn accepted(headers: &HeaderMap, query: Option<&str>) -> Result<Self, Status> {
        let accept = headers.get(header::ACCEPT).map(HeaderValue::as_bytes).unwrap_or_default().trim_ascii();
        let plain = || if is_pretty(headers, query) { Self::Pretty } else { Self::Json };
        if accept.is_empty() {
            return Ok(plain());
        }
        let text = std::str::from_utf8(accept).unwrap_or_default();
        let mut clauses: Vec<Clause<'_>> = text.split(',').map(Clause::read).collect();
        let routed = |c: &Clause<'_>| c.media == "*/*" || SERVED.contains(&c.media);
        if !clauses.iter().any(routed) {
            let text = format!("406: Not Acceptable\n\nAvailable representations: {}", SERVED.join(", "));
            return Err(Status {
                details: Some(Box::new(Details::default())),
                ..Status::not_acceptable(text)
            });
        }
        clauses.sort_by_key(|clause| (Reverse(clause.thousandths), clause.media.contains('*')));
        let found = clauses.iter().filter(|clause| !clause.converts).find_map(|clause| match clause.media {
            "application/json" | "application/*" | "*/*" => Some(plain()),
            "application/yaml" => Some(Self::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Self::Protobuf),
            _ => None,
        });
        found.ok_or_else(|| {
            let text = format!("only the following media types are accepted: {}", SERVED.join(", "));
            Status::not_acceptable(text)
        })
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json | Self::Pretty => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    /// The object as JSON on one line, and as it is sent.
    pub(super) fn encode(self, object: &Value, protobuf: impl FnOnce() -> Vec<u8>) -> (Bytes, Bytes) {
        let mut json = object.to_string();
        json.push('\n');
        let json = Bytes::from(json);
        let body = match self {
            Self::Json | Self::Yaml => json.clone(),
            Self::Pretty => format!("{object:#}").into(),
            Self::Protobuf => protobuf().into(),
        };
        (json, body)
    }
}

/// What `pretty` says, else whether it is a person who reads, as far as `User-Agent` tells.
fn is_pretty(headers: &HeaderMap, query: Option<&str>) -> bool {
    match query.and_then(|query| query::first(query, "pretty")).filter(|value| !value.is_empty()) {
        Some(value) => ["1", "t", "T", "true", "TRUE", "True"].contains(&&*value),
        None => {
            let agent = headers.get(header::USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
            [&b"curl"[..], b"Wget", b"Mozilla/5.0"].iter().any(|person| agent.starts_with(person))
        }
    }
}

/// One of the things that a caller accepts.
#[derive(Debug)]
struct Clause<'a> {
    media: &'a str,
    /// Its q; 1 where it has none or none that is a number.
    thousandths: u32,
    /// It asks for another form of the object.
    converts: bool,
}

impl<'a> Clause<'a> {
    fn read(clause: &'a str) -> Self {
        let mut parts = clause.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let mut found = Self { media, thousandths: 1000, converts: false };
        for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
            match name.trim() {
                "q" => {
                    let q = value.trim().parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q));
                    found.thousandths = (q.unwrap_or(1.0) * 1000.0) as u32;
                }
                "as" => found.converts = true,
                _ => {}
            }
        }
        found
    }
}

/// Takes a body apart by its `Content-Type`: parameters do not count, none at all is JSON. `Content-Encoding` is not looked at,
/// by kube-apiserver neither.
///
/// # Errors
/// Outer: 415. Inner: what is wrong with the body.
pub(super) fn read<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<Result<Sent<'a>, String>, Status> {
    let media = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let media = media.split(|b| *b == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    let sent = match &*media {
        b"" | b"application/json" if body.is_empty() => Err("the body is empty, expected JSON".into()),
        b"" | b"application/json" => json::value(body, JSON).map(Sent::Value).map_err(|e| e.to_string()),
        b"application/yaml" => yaml_value(body).map(Sent::Value),
        b"application/vnd.kubernetes.protobuf" => {
            Envelope::read(body, PROTOBUF).map(Sent::Protobuf).map_err(|e| e.to_string())
        }
        _ => return Err(Status::unsupported_media_type(&SERVED.join(", "))),
    };
    Ok(sent)
}

fn yaml_value(body: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(body).map_err(|_| "not UTF-8".to_owned())?;
    let documents = yaml::documents_within(text, YAML).map_err(|e| e.to_string())?;
    documents.into_iter().next().map(|d| d.value).ok_or_else(|| "the body is empty, expected YAML".into())
}

impl<'a> Sent<'a> {
    /// apiVersion and kind; empty where they are left out.
    pub(super) fn type_meta(&self) -> Result<(&str, &str), Malformed> {
        match self {
            Self::Value(value) => {
                let object = Members::of(value, String::new())?;
                Ok((object.text("apiVersion")?, object.text("kind")?))
            }
            Self::Protobuf(envelope) if !envelope.content_encoding.is_empty() => {
                Err(Malformed("its contentEncoding is not empty".into()))
            }
            Self::Protobuf(envelope) => Ok((envelope.api_version, envelope.kind)),
        }
    }
}

impl<'a> Sent<'a> {
    /// The object's message, of one that came as protobuf.
    pub(super) fn message(envelope: &Envelope<'a>) -> protobuf::Message<'a> {
        protobuf::Message::new(envelope.raw, DEPTH)
    }
}

/// A member of another type than expected. Names it, and does not repeat it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) String);

impl From<protobuf::Error> for Malformed {
    fn from(error: protobuf::Error) -> Self {
        Self(error.to_string())
    }
}

/// The members of an object, with its place in the body; null is an empty one, as in Go.
#[derive(Debug)]
pub(super) struct Members<'v> {
    object: Option<&'v serde_json::Map<String, Value>>,
    place: String,
}

impl<'v> Members<'v> {
    pub(super) fn of(value: &'v Value, place: String) -> Result<Self, Malformed> {
        match value {
            Value::Object(object) => Ok(Self { object: Some(object), place }),
            Value::Null => Ok(Self { object: None, place }),
            _ if place.is_empty() => Err(Malformed("expected an object".into())),
            _ => Err(Malformed(format!("{place}: expected an object"))),
        }
    }

    /// None where it is left out or null.
    fn get(&self, name: &str) -> Option<&'v Value> {
        self.object?.get(name).filter(|value| !value.is_null())
    }

    fn place(&self, name: &str) -> String {
        if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) }
    }

    pub(super) fn text(&self, name: &str) -> Result<&'v str, Malformed> {
        match self.get(name) {
            None => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(Malformed(format!("{}: expected a string", self.place(name)))),
        }
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Malformed> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(Malformed(format!("{}: expected true or false", self.place(name)))),
        }
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<Self>, Malformed> {
        self.get(name).map(|value| Members::of(value, self.place(name))).transpose()
    }

    /// Each member of a list; none where it is left out.
    pub(super) fn list(&self, name: &str) -> Result<&'v [Value], Malformed> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(Malformed(format!("{}: expected a list", self.place(name)))),
        }
    }

    pub(super) fn objects(&self, name: &str) -> Result<Vec<Self>, Malformed> {
        self.list(name)?.iter().map(|value| Members::of(value, self.place(name))).collect()
    }

    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, Malformed> {
        let text = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            _ => Err(Malformed(format!("{}: expected strings", self.place(name)))),
        };
        self.list(name)?.iter().map(text).collect()
    }
}
