//! A refusal, and how much of it the caller is told.
//!
//! The caller gets kube-apiserver's own text, then what came nearest and what to ask for, then whom, then the id under which
//! the record has it all. However little that is, the log and the record get everything.

use super::{Rehearsed, Source};
use crate::{
    identity::User,
    rbac::{Near, Others},
    request::{Attributes, Object},
    status::Status,
};
use std::{fmt, fmt::Write as _, sync::Arc};

/// How much of the rules a refusal tells the caller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Explain {
    /// Nothing beyond kube-apiserver's own text.
    Off,
    /// Only what is bound to the caller.
    #[default]
    Own,
    /// Also who may instead, and by which role.
    Full,
}

/// What callers are told when they are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Tell {
    /// How much of the rules.
    pub explain: Explain,
    /// Whom to turn to, one line.
    pub contact: Option<Arc<str>>,
}

/// Why something is not allowed. Its text is everything there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Denial {
    /// kube-apiserver's own reason: bindings of the caller to roles that do not exist. Mostly empty.
    pub missing: String,
    /// What came nearest, and what to ask for.
    pub nearest: String,
    /// Who may instead, and by which roles; a few of them.
    pub others: String,
    /// Set when rules that should have been asked are not known: why, for the log. The caller is told to come back.
    pub unknown: Option<Arc<str>>,
}

impl Denial {
    /// What of it the caller is told.
    pub fn told(&self, explain: Explain) -> String {
        match explain {
            Explain::Off => self.missing.clone(),
            Explain::Own => joined(&self.missing, &self.nearest),
            Explain::Full => joined(&joined(&self.missing, &self.nearest), &self.others),
        }
    }

    /// Appends to what is near.
    pub(super) fn add(&mut self, text: &str) {
        self.nearest = joined(&self.nearest, text);
    }

    /// Puts it before what is near.
    pub(super) fn add_first(&mut self, text: &str) {
        self.nearest = joined(text, &self.nearest);
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.told(Explain::Full);
        match &self.unknown {
            Some(why) => f.write_str(&joined(why, &known)),
            None => f.write_str(&known),
        }
    }
}

/// 403, 400 for impersonation that cannot be understood, or 503 for rules that are not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// For the caller, short of what [`Refused::told`] adds.
    pub status: Status,
    /// The message with everything in it, for the log.
    pub whole: String,
    /// Everything of it that is a reason, may be empty; for the record.
    pub reason: String,
    /// Whom the caller may turn to.
    pub contact: Option<Arc<str>>,
    /// Set when impersonation was refused: the header whose check failed, or what is wrong with the headers
    /// (`gatelog.dev/impersonation-refused`).
    pub impersonation: Option<String>,
    /// The effective user if impersonation had succeeded (audit `impersonatedUser`).
    pub impersonated: Option<Arc<User>>,
    /// What the candidate says to it.
    pub rehearsed: Rehearsed,
}

/// Characters of a message that a warning repeats: a client prints one for each request.
const LONGEST_WARNING: usize = 1000;

impl Refused {
    /// 403; 503 when the rules are not all known.
    pub(super) fn forbidden(user: &str, asked: Attributes<'_>, why: &Denial, tell: &Tell) -> Self {
        let reason = why.to_string();
        let status = match why.unknown {
            Some(_) => Status::unavailable("the cluster's rules are not known at the moment", Some(1)),
            None => Status::forbidden(user, asked, &why.told(tell.explain)),
        };
        Self {
            status,
            whole: Status::forbidden(user, asked, &reason).message,
            reason,
            contact: tell.contact.clone(),
            impersonation: None,
            impersonated: None,
            rehearsed: Rehearsed::Unasked,
        }
    }

    /// 400: impersonation headers that cannot be understood.
    pub(super) fn malformed(text: String) -> Self {
        Self {
            status: Status { nosniff: true, ..Status::bad_request(&text) },
            whole: text.clone(),
            reason: String::new(),
            contact: None,
            impersonation: Some(text),
            impersonated: None,
            rehearsed: Rehearsed::Unasked,
        }
    }

    /// What the caller is warned of when it is not carried out: as much as the refusal would tell. Without the audit id, which the
    /// answer has anyway: clients print equal warnings once.
    pub fn warning(&self) -> String {
        let mut text = "would be refused if the rules were enforced: ".to_owned();
        text.extend(self.status.message.chars().take(LONGEST_WARNING));
        if self.status.message.chars().nth(LONGEST_WARNING).is_some() {
            text.push_str("...");
        }
        if let Some(contact) = self.contact.as_ref().filter(|_| self.status.code == 403) {
            text.extend([" (", contact, ")"]);
        }
        text
    }

    /// What the caller is told; `audit_id` is where the record tells more. A malformed request is nobody's to allow, so nobody
    /// is named for it.
    pub fn told(&self, audit_id: &str) -> Status {
        let mut status = self.status.clone();
        if status.code == 403 {
            status.message.push_str(" (");
            if let Some(contact) = &self.contact {
                status.message.push_str(contact);
                status.message.push_str("; ");
            }
            status.message.push_str("audit id ");
            status.message.push_str(audit_id);
            status.message.push(')');
        }
        status
    }
}

/// How many others a refusal names.
pub(super) const OTHERS: usize = 3;

/// With where the role is from.
pub(super) fn sourced(mut near: Near, source: Option<Source>) -> Near {
    if let (true, Some(source)) = (near.is_a_miss(), source) {
        // Writing to a String does not fail.
        let _ = write!(near.text, " ({source})");
    }
    near
}

/// `ClusterRole edit allows it to Group editors (RoleBinding shop/editors), and more`; empty if nobody is known.
pub(super) fn who_may(others: Vec<(Option<Source>, Others)>) -> String {
    let more = others.iter().any(|(_, others)| others.more);
    let mut all: Vec<_> = others
        .into_iter()
        .flat_map(|(source, others)| others.few.into_iter().map(move |g| (source, g)))
        .collect();
    all.sort_by(|(_, a), (_, b)| a.preference().cmp(&b.preference()));
    let mut told: Vec<String> = all
        .iter()
        .take(OTHERS)
        .map(|(source, grounds)| match source {
            Some(source) => format!("{} {source}", grounds.told_to_others()),
            None => grounds.told_to_others(),
        })
        .collect();
    if !told.is_empty() && (more || all.len() > OTHERS) {
        told.push("and more".to_owned());
    }
    told.join(", ")
}

fn joined(one: &str, other: &str) -> String {
    let between = if one.is_empty() || other.is_empty() { "" } else { "; " };
    [one, between, other].concat()
}

/// Whether sessions or connections go through what is asked for: what `get` allows there is seldom what people expect.
pub(super) fn connects(asked: Attributes<'_>) -> bool {
    let Object::Resource { group: "", resource, subresource, .. } = asked.object else { return false };
    matches!(
        (resource, subresource),
        ("pods", "exec" | "attach" | "portforward") | ("pods" | "services" | "nodes", "proxy")
    )
}

/// `ask for create on pods/exec in namespace shop`.
pub(super) fn ask_for(verbs: &[&str], asked: Attributes<'_>) -> String {
    let Object::Resource { resource, subresource, namespace, .. } = asked.object else {
        return String::new();
    };
    let mut text = format!("ask for {} on {resource}/{subresource} ", verbs.join(" and "));
    // Writing to a String does not fail.
    let _ = match namespace {
        "" => text.write_str("at the cluster scope"),
        plain if plain.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => {
            write!(text, "in namespace {plain}")
        }
        odd => write!(text, "in namespace {odd:?}"),
    };
    text
}
