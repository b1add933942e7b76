//! Questions about oneself: may I, what may I, who am I. The upstream would answer them by its own rules alone, or about somebody
//! else; here they are answered for both.
//!
//! - SelfSubjectAccessReview: what these rules deny is denied here; what they allow is the upstream's to answer, unchanged.
//! - SelfSubjectRulesReview: the upstream's list, cut to what these rules allow as well.
//! - SelfSubjectReview: answered here, for nobody knows better who the caller is to the gate.
//!
//! SubjectAccessReview and LocalSubjectAccessReview ask about others, whom only the upstream knows; they are forwarded like
//! everything else.

mod list;
mod media;
mod question;
#[cfg(test)]
mod tests;

pub use list::{Cut, Theirs};

use super::{Authz, Live, Mode, Permit};
use crate::{
    codec::protobuf::{Envelope, Writer},
    identity::User,
    request::{RequestInfo, Verb},
    status::Status,
};
use bytes::Bytes;
use http::HeaderMap;
use media::{Encoding, Sent};
use question::Question;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What becomes of a request that may be a review of oneself.
#[derive(Debug)]
pub enum Review {
    /// It is forwarded as it came.
    Pass,
    /// It is answered here.
    Answered(Answer),
    /// The upstream is asked, in JSON, and its answer is cut.
    Cut(Cut),
}

/// The gate's own answer to a review: 201.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its media type.
    pub content_type: &'static str,
    /// In that type.
    pub body: Bytes,
    /// The same as JSON, for the record.
    pub json: Bytes,
    /// What the gate did to it, for the record (`gatelog.dev/self-review`).
    pub how: &'static str,
}

/// A review that cannot be understood or answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unanswered {
    /// For the caller: 400, 406, 413, 415, or 503 for rules that are not known.
    pub status: Status,
    /// For the log.
    pub why: String,
}

/// The three kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Access,
    Rules,
    Subject,
}

/// A review's largest body, in bytes: a question is a few names. Enough for selectors of some thousand values.
const LARGEST: usize = 256 << 10;

impl Kind {
    /// In whatever version: another one of the same name is no other question.
    fn of(info: &RequestInfo) -> Option<Self> {
        let plain = info.verb() == Verb::Create
            && info.subresource().is_empty()
            && info.namespace().is_empty()
            && info.name().is_empty();
        match (info.group(), info.resource()) {
            _ if !plain => None,
            ("authorization.k8s.io", "selfsubjectaccessreviews") => Some(Self::Access),
            ("authorization.k8s.io", "selfsubjectrulesreviews") => Some(Self::Rules),
            ("authentication.k8s.io", "selfsubjectreviews") => Some(Self::Subject),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Access => "SelfSubjectAccessReview",
            Self::Rules => "SelfSubjectRulesReview",
            Self::Subject => "SelfSubjectReview",
        }
    }
}

/// Whether a request is a review of oneself, whose body must be read whole.
pub fn is_self_review(info: &RequestInfo) -> bool {
    Kind::of(info).is_some()
}

impl Authz {
    /// What becomes of a request that may be a review of oneself. `body`: read whole; None for none.
    ///
    /// # Errors
    /// It is a review, but cannot be understood or answered.
    pub fn review(
        &self,
        permit: &Permit,
        headers: &HeaderMap,
        body: Option<&Bytes>,
    ) -> Result<Review, Unanswered> {
        let asked = permit.asked();
        let body = body.map(|bytes| &**bytes).unwrap_or_default();
        self.review_of(permit.who().effective(), &asked.info, asked.target.query(), headers, body)
    }

    fn review_of(
        &self,
        user: &Arc<User>,
        info: &RequestInfo,
        query: Option<&str>,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Review, Unanswered> {
        let Some(kind) = Kind::of(info) else { return Ok(Review::Pass) };
        let encoding = Encoding::accepted(headers, query)?;
        let form = Form { kind, api_version: format!("{}/{}", info.group(), info.version()) };
        let sent = form.read(headers, body)?;
        match kind {
            Kind::Subject => Ok(Review::Answered(form.subject(user, encoding))),
            // Members of system:masters are above these rules, and what is only observed cuts nothing.
            Kind::Rules if user.is_master() || self.mode == Mode::Observe => Ok(Review::Pass),
            Kind::Rules => {
                let namespace = list::namespace(&sent).map_err(|why| form.malformed(&why.to_string()))?;
                if namespace.is_empty() {
                    // The upstream says what is missing.
                    return Ok(Review::Pass);
                }
                let rules = self.rules().map(|(_, rules)| Arc::clone(rules)).collect();
                let unknown = matches!(self.cluster, Live::Unknown(_));
                let user = Arc::clone(user);
                Ok(Review::Cut(Cut { form, encoding, user, namespace, rules, unknown }))
            }
            Kind::Access => {
                let question = Question::read(&sent).map_err(|why| form.malformed(&why.to_string()))?;
                let reason = self.denies(user, &question)?;
                Ok(reason.map_or(Review::Pass, |reason| {
                    Review::Answered(form.denied(&question, &reason, encoding))
                }))
            }
        }
    }

    /// Why these rules deny what is asked, as far as the caller is told; None: they do not, or it is not for them to say.
    fn denies(&self, user: &User, question: &Question) -> Result<Option<String>, Unanswered> {
        let Some(attributes) = question.attributes() else { return Ok(None) };
        let Err((_, why)) = self.decide_on(user, attributes, false) else { return Ok(None) };
        if !self.enforces(attributes, false) {
            return Ok(None);
        }
        match &why.unknown {
            Some(unknown) => Err(Unanswered {
                status: Status::unavailable("the cluster's rules are not known at the moment", Some(1)),
                why: format!("the answer to a SelfSubjectAccessReview is not known: {unknown}"),
            }),
            None => Ok(Some(why.told(self.tell.explain))),
        }
    }
}

/// A kind of review in the version asked.
#[derive(Debug)]
struct Form {
    kind: Kind,
    api_version: String,
}

impl Form {
    /// Takes a body apart, as far as is the same for all kinds.
    fn read<'a>(&self, headers: &HeaderMap, body: &'a [u8]) -> Result<Sent<'a>, Unanswered> {
        if body.len() > LARGEST {
            return Err(Status::too_large(LARGEST as u64).into());
        }
        let sent = media::read(headers, body)?.map_err(|why| {
            let kind = self.kind.as_str();
            Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {kind}): {why}"
            ))
        })?;
        let (api_version, kind) = sent.type_meta().map_err(|why| self.malformed(&why.to_string()))?;
        if !kind.is_empty() && kind != self.kind.as_str() {
            return Err(self.malformed("it is of another kind"));
        }
        if !api_version.is_empty() && api_version != self.api_version {
            let text = format!("its apiVersion is not the expected {}", self.api_version);
            return Err(self.malformed(&text));
        }
        Ok(sent)
    }

    fn malformed(&self, why: &str) -> Unanswered {
        let (kind, version) = (self.kind.as_str(), &self.api_version);
        Status::bad_request(format!("the object cannot be handled as a {kind} of {version}: {why}")).into()
    }

    /// `status.userInfo`.
    fn subject(&self, user: &User, encoding: Encoding) -> Answer {
        let mut info = Map::new();
        info.insert("username".into(), user.name().into());
        if !user.uid().is_empty() {
            info.insert("uid".into(), user.uid().into());
        }
        if !user.groups().is_empty() {
            info.insert("groups".into(), user.groups().into());
        }
        if !user.extra().is_empty() {
            info.insert("extra".into(), json!(user.extra()));
        }
        let write = |review: &mut Writer| {
            review.bytes(1, b"");
            review.message(2, |status| status.message(1, |info| write_user(info, user)));
        };
        self.answer(json!({"status": {"userInfo": info}}), write, encoding, "answered by the gate")
    }

    /// `allowed: false`.
    fn denied(&self, question: &Question, reason: &str, encoding: Encoding) -> Answer {
        let mut status = json!({"allowed": false});
        if !reason.is_empty() {
            status["reason"] = reason.into();
        }
        let write = |review: &mut Writer| {
            review.bytes(1, b"");
            review.message(2, |spec| question.write(spec));
            review.message(3, |status| {
                status.flag(1, false);
                status.text(2, reason);
            });
        };
        self.answer(json!({"spec": question.json(), "status": status}), write, encoding, "denied by the gate")
    }

    /// In the encoding asked; `members` are those behind `metadata`.
    fn answer(
        &self,
        members: Value,
        write: impl FnOnce(&mut Writer),
        encoding: Encoding,
        how: &'static str,
    ) -> Answer {
        let (kind, api_version) = (self.kind.as_str(), &self.api_version);
        let mut object =
            json!({"kind": kind, "apiVersion": api_version, "metadata": {"creationTimestamp": null}});
        if let (Value::Object(object), Value::Object(members)) = (&mut object, members) {
            object.extend(members);
        }
        let protobuf = || {
            let raw = Writer::of(write);
            Envelope { api_version, kind, raw: &raw, ..Envelope::default() }.write()
        };
        let (json, body) = encoding.encode(&object, protobuf);
        Answer { content_type: encoding.content_type(), body, json, how }
    }
}

fn write_user(info: &mut Writer, user: &User) {
    info.text(1, user.name());
    info.text(2, user.uid());
    info.texts(3, user.groups());
    for (key, values) in user.extra() {
        info.message(4, |entry| {
            entry.text(1, key);
            entry.message(2, |list| list.texts(1, values));
        });
    }
}

impl From<Status> for Unanswered {
    fn from(status: Status) -> Self {
        let why = status.message.replace('\n', " ");
        Self { status, why }
    }
}
