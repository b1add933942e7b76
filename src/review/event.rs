//! An event as it is read: what a line of a log says of one moment of a request. Everything may be missing.

use crate::audit::event::MicroTime;
use serde::Deserialize;
use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _, time::Duration};

/// An `audit.k8s.io/v1` Event without its bodies.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Event<'a> {
    #[serde(borrow, rename = "auditID")]
    pub(super) audit_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) stage: Cow<'a, str>,
    #[serde(borrow, rename = "requestURI")]
    pub(super) request_uri: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) verb: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) user: User<'a>,
    #[serde(borrow)]
    pub(super) impersonated_user: Option<User<'a>>,
    #[serde(borrow, rename = "sourceIPs")]
    pub(super) source_ips: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) object_ref: Option<ObjectRef<'a>>,
    #[serde(borrow)]
    pub(super) response_status: Option<Status<'a>>,
    #[serde(borrow)]
    pub(super) request_received_timestamp: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) stage_timestamp: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) annotations: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct User<'a> {
    #[serde(borrow)]
    pub(super) username: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ObjectRef<'a> {
    #[serde(borrow)]
    pub(super) resource: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) namespace: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) api_group: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) subresource: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status<'a> {
    #[serde(borrow)]
    pub(super) message: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) reason: Cow<'a, str>,
    pub(super) code: u16,
}

/// What a line is to a reader of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The request goes on.
    Begun,
    /// Nothing follows.
    Last,
    /// It belongs to no request: the record speaks of itself.
    Note,
}

impl<'a> Event<'a> {
    /// None for a line that is no event.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(line).ok().filter(|e: &Self| !e.stage.is_empty())
    }

    pub(super) fn part(&self) -> Part {
        const NOTES: [&str; 3] = ["gatelog.dev/lost", "gatelog.dev/suppressed", "gatelog.dev/torn"];
        if self.verb.is_empty() && NOTES.iter().any(|n| self.annotations.contains_key(*n)) {
            return Part::Note;
        }
        match &*self.stage {
            "ResponseComplete" | "Panic" => Part::Last,
            // What was not authenticated, or not understood, has this event alone.
            "ResponseStarted" if self.user.username.is_empty() => Part::Last,
            _ => Part::Begun,
        }
    }

    pub(super) fn code(&self) -> Option<u16> {
        self.response_status.as_ref().map(|s| s.code).filter(|c| *c > 0)
    }

    /// When it happened.
    pub(super) fn at(&self) -> Option<MicroTime> {
        MicroTime::parse(&self.stage_timestamp)
    }

    /// How long the request had taken by then.
    pub(super) fn duration(&self) -> Option<Duration> {
        Some(self.at()?.since(MicroTime::parse(&self.request_received_timestamp)?))
    }

    pub(super) fn note(&self, key: &str) -> &str {
        self.annotations.get(key).map_or("", |v| v)
    }
}

/// `text` without anything a terminal could obey: control characters, and those that change the direction of text.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_unsafe(c) {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// The same for a line of JSON, which stays the same JSON: only in strings can such characters stand.
pub(super) fn clean_json(line: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(line) {
        Ok(text) => match clean(text) {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        },
        Err(_) => Cow::Owned(clean(&String::from_utf8_lossy(line)).into_owned().into_bytes()),
    }
}

/// [`clean`], in quotes if it could be taken for more than one word, or for none.
pub(super) fn word(text: &str) -> Cow<'_, str> {
    match clean(text) {
        text if !text.is_empty() && !text.contains([' ', '"', '\\', '\u{a0}', '\u{3000}']) => text,
        text => Cow::Owned(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))),
    }
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
