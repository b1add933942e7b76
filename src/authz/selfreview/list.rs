//! What a SelfSubjectRulesReview lists: what the upstream lists, cut to what these rules allow as well.

use super::{
    Answer, Form, Unanswered,
    media::{Encoding, Malformed, Members, Sent},
};
use crate::{
    codec::{json, protobuf::Writer},
    identity::User,
    rbac::{Rule, Rules, intersection},
    status::Status,
};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use std::sync::Arc;

/// A list that is asked of the upstream, and cut before the caller sees it.
#[derive(Debug)]
pub struct Cut {
    pub(super) form: Form,
    pub(super) encoding: Encoding,
    pub(super) user: Arc<User>,
    /// The one asked about.
    pub(super) namespace: String,
    /// What counts here. What they let the caller do is looked up when it is compared.
    pub(super) rules: Vec<Arc<Rules>>,
    /// Some of these rules are not known.
    pub(super) unknown: bool,
}

/// The upstream's answer, as far as it could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theirs<'a> {
    /// The whole body of a success.
    Whole(&'a [u8]),
    /// Larger than [`Cut::LARGEST`].
    TooLarge,
}

/// Rules in an answer: what a person or a program can still make something of.
const MOST: usize = 5_000;

impl Cut {
    /// An upstream's largest answer, in bytes: some ten thousand rules.
    pub const LARGEST: u64 = 4 << 20;

    /// Makes a caller's headers ask for what can be cut here: plain JSON, unconditionally.
    pub fn ask(headers: &mut HeaderMap) {
        for name in [
            header::ACCEPT_ENCODING,
            header::ACCEPT_CHARSET,
            header::ACCEPT_RANGES,
            header::RANGE,
            header::IF_RANGE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            header::IF_MODIFIED_SINCE,
            header::IF_UNMODIFIED_SINCE,
        ] {
            headers.remove(name);
        }
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    }

    /// What the caller gets. Takes some tens of milliseconds and megabytes for lists of thousands of rules: for a thread that may
    /// block.
    ///
    /// # Errors
    /// The upstream's answer is not understood: 500.
    pub fn answer(&self, theirs: Theirs<'_>) -> Result<Answer, Unanswered> {
        let mut list = match theirs {
            Theirs::TooLarge => List {
                incomplete: true,
                errors: vec![format!("the upstream's list is larger than {} bytes", Self::LARGEST)],
                ..List::default()
            },
            Theirs::Whole(body) => List::read(body).map_err(|why| {
                let text =
                    format!("the upstream's answer to a SelfSubjectRulesReview is not understood: {why}");
                Unanswered::from(Status::internal(text))
            })?,
        };
        let cut = intersection(&list.rules, &self.ours(), MOST);
        list.rules = cut.rules;
        if cut.incomplete {
            list.incomplete = true;
            list.errors.push("there is more than can be listed".into());
        }
        if self.unknown {
            list.incomplete = true;
            list.errors.push("the cluster's rules are not known at the moment".into());
        }
        let write = |review: &mut Writer| {
            review.bytes(1, b"");
            review.bytes(2, b"");
            review.message(3, |status| list.write(status));
        };
        let members = json!({"spec": {}, "status": list.json()});
        Ok(self.form.answer(members, write, self.encoding, "cut"))
    }

    /// What these rules let the caller do in the namespace asked.
    pub(super) fn ours(&self) -> Vec<Arc<Rule>> {
        let (user, groups) = (self.user.name(), self.user.groups());
        self.rules.iter().flat_map(|rules| rules.listed(user, groups, &self.namespace)).collect()
    }
}

/// The namespace whose rules are asked for; may be empty.
pub(super) fn namespace(sent: &Sent<'_>) -> Result<String, Malformed> {
    let mut namespace = String::new();
    match sent {
        Sent::Value(value) => {
            if let Some(spec) = Members::of(value, String::new())?.object("spec")? {
                spec.text("namespace")?.clone_into(&mut namespace);
            }
        }
        Sent::Protobuf(envelope) => {
            for field in Sent::message(envelope) {
                let field = field?;
                if field.number == 2 {
                    for field in field.message()? {
                        let field = field?;
                        if field.number == 1 {
                            field.text()?.clone_into(&mut namespace);
                        }
                    }
                }
            }
        }
    }
    Ok(namespace)
}

/// `status`.
#[derive(Debug, Default)]
struct List {
    /// Both kinds, each in its order.
    rules: Vec<Rule>,
    incomplete: bool,
    errors: Vec<String>,
}

/// Of the upstream's answer.
const JSON: json::Limits = json::Limits { depth: 64, nodes: 600_000 };

impl List {
    fn read(body: &[u8]) -> Result<Self, Malformed> {
        let value = json::value(body, JSON).map_err(|e| Malformed(e.to_string()))?;
        let object = Members::of(&value, String::new())?;
        if object.text("kind")? != "SelfSubjectRulesReview" {
            return Err(Malformed("it is of another kind".into()));
        }
        let status = object.object("status")?.ok_or_else(|| Malformed("it has no status".into()))?;
        let mut rules = Vec::new();
        for rule in status.objects("resourceRules")? {
            rules.push(Rule {
                verbs: rule.texts("verbs")?,
                api_groups: rule.texts("apiGroups")?,
                resources: rule.texts("resources")?,
                resource_names: rule.texts("resourceNames")?,
                ..Rule::default()
            });
        }
        for rule in status.objects("nonResourceRules")? {
            rules.push(Rule {
                verbs: rule.texts("verbs")?,
                non_resource_urls: rule.texts("nonResourceURLs")?,
                ..Rule::default()
            });
        }
        let said = status.text("evaluationError")?;
        let errors = if said.is_empty() { Vec::new() } else { vec![said.to_owned()] };
        Ok(Self { rules, incomplete: status.flag("incomplete")?, errors })
    }

    fn of_resources(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| !rule.resources.is_empty())
    }

    fn of_paths(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| !rule.non_resource_urls.is_empty())
    }

    fn json(&self) -> Value {
        let of_resource = |rule: &Rule| {
            let mut members =
                json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
            if !rule.resource_names.is_empty() {
                members["resourceNames"] = rule.resource_names.as_slice().into();
            }
            members
        };
        let of_path = |rule: &Rule| json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls});
        let mut status = json!({
            "resourceRules": self.of_resources().map(of_resource).collect::<Vec<_>>(),
            "nonResourceRules": self.of_paths().map(of_path).collect::<Vec<_>>(),
            "incomplete": self.incomplete,
        });
        if !self.errors.is_empty() {
            status["evaluationError"] = self.errors.join("; ").into();
        }
        status
    }

    fn write(&self, status: &mut Writer) {
        for rule in self.of_resources() {
            status.message(1, |of| {
                of.texts(1, &rule.verbs);
                of.texts(2, &rule.api_groups);
                of.texts(3, &rule.resources);
                of.texts(4, &rule.resource_names);
            });
        }
        for rule in self.of_paths() {
            status.message(2, |of| {
                of.texts(1, &rule.verbs);
                of.texts(2, &rule.non_resource_urls);
            });
        }
        status.flag(3, self.incomplete);
        status.text(4, &self.errors.join("; "));
    }
}
