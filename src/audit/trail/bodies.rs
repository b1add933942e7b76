//! What is recorded of bodies and of what a caller wrote, and what is taken out of it before.

use super::{Inner, Phase, Trail, session};
use crate::{
    audit::{
        OnFailure, Unkept,
        capture::{Capture, Need},
        event::{Head, Level, ObjectMeta, Stage},
        object::{self, Keep, Omitted, Recipe, Wire},
        redact::{About, Part},
    },
    codec::document::Document,
    request::{RequestInfo, Verb},
    status::Status,
};
use bytes::Bytes;
use http::HeaderMap;
use std::borrow::Cow;

impl Trail {
    /// Whether the record needs the whole request body: at Metadata for the name of what is created, else for
    /// `requestObject`.
    pub fn wants_request(&self) -> bool {
        let this = &*self.0;
        let least = match this.verb {
            Verb::Create | Verb::Update => Level::Metadata,
            Verb::Patch | Verb::Delete | Verb::DeleteCollection => Level::Request,
            _ => return false,
        };
        let wanted = this.is_resource && !this.long_running && this.verdict.level >= least;
        this.phase == Phase::Begun && wanted && !this.insisted
    }

    /// The whole request body, when it was read whole.
    pub fn request(&mut self, headers: &HeaderMap, document: &Document<'_>) {
        let body = document.bytes();
        if !self.wants_request() || body.is_empty() {
            return;
        }
        let this = &mut *self.0;
        let Some(info) = &this.info else { return };
        let redactor = &this.audit.redactor;
        let is_recorded = this.verdict.level >= Level::Request;
        let recipe = Recipe {
            redactor,
            about: About::of(info, Part::Request),
            keep: match this.verb {
                _ if !is_recorded => Keep::Nothing,
                // A patch is recorded untouched.
                Verb::Patch => Keep::Whole,
                _ => Keep::of(&this.verdict),
            },
            most: this.audit.max_request_object,
        };
        let wire = Wire::of(headers, body);
        let digest = || {
            let mut digest = redactor.key().digest();
            digest.update(body);
            digest.finish()
        };
        let (read, written) = object::aside(wire.weight(), || {
            let read = recipe.read(&wire, Some(document));
            let written = is_recorded.then(|| recipe.write(&wire, &read, body.len() as u64, digest));
            (read, written)
        });
        let said = match &read {
            Ok(body) => Cow::Borrowed(&body.object),
            Err(_) => Cow::Owned(wire.beginning()),
        };
        if matches!(this.verb, Verb::Create | Verb::Update) {
            this.head.set_object(info, &said.meta);
            let named = [info.name(), &said.meta.name];
            this.unnamed = this.verb == Verb::Create
                && named.iter().all(|name| name.is_empty())
                && (read.is_err() || said.generated);
            if this.verb == Verb::Create
                && info.subresource().is_empty()
                && named.iter().all(|name| !name.is_empty())
                && info.name() != said.meta.name
            {
                this.annotations.add("gatelog.dev/body-name", said.meta.name.clone());
            }
        }
        let Some(written) = written else { return };
        let mut object = written.json;
        if !this.audit.journal.hold(object.len()) {
            let size = body.len() as u64;
            object = recipe.omitted(&Omitted::Room, size, &digest(), wire.content_type(), &said);
            if this.audit.on_failure == OnFailure::Refuse {
                this.unkept = Some(Unkept("its queue is full".into()));
            }
        } else if let Some(place) = &mut this.place {
            *place += object.len();
        } else {
            this.place = Some(object.len());
        }
        this.request = Some(object);
        this.acted(&written.rules);
    }

    /// A piece of the response body; only called when `wants_response`.
    pub fn tee(&mut self, chunk: &Bytes) {
        let this = &mut *self.0;
        let Some(capture) = &mut this.capture else { return };
        let held = capture.push(chunk, &this.audit.redactor, |bytes| this.audit.journal.hold(bytes));
        if held > 0 {
            *this.place.get_or_insert(0) += held;
        }
    }

    /// The gate itself answers with this Status. Before `begin` (400, 401): one ResponseStarted event, user `{}`.
    pub fn refused(&mut self, status: &Status) {
        let this = &mut *self.0;
        match this.phase {
            Phase::Opened => {
                let (status, rules) = this.own(status);
                this.acted(&rules);
                this.told.status = Some(response_status(&status));
                this.stranger(Stage::ResponseStarted);
            }
            Phase::Begun if this.code.is_none() => {
                this.code = Some(status.code);
                if this.verdict.level == Level::None {
                    return;
                }
                let (status, rules) = this.own(status);
                this.acted(&rules);
                this.told.status = Some(response_status(&status));
                if this.verdict.level == Level::RequestResponse {
                    this.told.object = Some(status.json().trim_ascii_end().to_vec());
                }
                this.response_started();
            }
            // The answer had begun: its code stands.
            Phase::Begun => {
                let (status, rules) = this.own(status);
                this.acted(&rules);
                this.annotations.add("gatelog.dev/end", status.message.clone());
            }
            Phase::Done => {}
        }
    }

    /// First value wins. What is secret in the value goes.
    pub fn annotate(&mut self, key: &'static str, value: String) {
        let this = &mut *self.0;
        let audit = this.audit.clone();
        let redacted = audit.redactor.text(&value);
        this.acted(&redacted.rules);
        this.annotations.add(key, redacted.text.into_owned());
    }
}

impl Inner {
    /// The head of every event, without what is secret.
    pub(super) fn render(&mut self, uri: &str, verb: &str, user: &str, info: Option<&RequestInfo>) {
        let redactor = &self.audit.redactor;
        let target = match info {
            Some(info) => redactor.target(&About::of(info, Part::Request), uri),
            None => redactor.unparsed_target(uri),
        };
        let agent = self.agent.as_ref().map(|agent| String::from_utf8_lossy(agent.as_bytes()));
        let agent = agent.as_ref().map(|agent| redactor.text(agent));
        let mut rules = target.rules;
        let agent = agent.map(|agent| {
            rules.extend(agent.rules);
            agent.text
        });
        self.head = Head::new(&target.text, verb, user, Some(&self.addresses), agent.as_deref());
        if let Some(info) = info {
            self.head.set_object(info, &ObjectMeta::default());
            session::note(&mut self.annotations, info.stream_kind(), &target.text);
        }
        if !rules.is_empty() {
            let rules: Vec<_> = rules.into_iter().map(str::to_owned).collect();
            self.acted(&rules);
        }
    }

    /// A Status of the gate's own, which may quote the request.
    fn own<'s>(&self, status: &'s Status) -> (Cow<'s, Status>, Vec<String>) {
        let redactor = &self.audit.redactor;
        let mut rules = Vec::new();
        let mut redacted = |text: &str| {
            let new = redactor.text(text);
            rules.extend(new.rules.iter().map(|rule| (*rule).to_owned()));
            let new = (new.marks > 0).then(|| new.text.into_owned());
            // Whose query had to be marked is not quoted.
            let target = self.uri.path_and_query().map_or("", |target| target.as_str());
            let quotes = text.contains('?') && redactor.unparsed_target(target).marks > 0;
            if quotes { Some(redactor.key().mark(text.as_bytes())) } else { new }
        };
        let mut status = Cow::Borrowed(status);
        if let Some(message) = redacted(&status.message) {
            status.to_mut().message = message;
        }
        let causes = status.details.as_ref().map_or(0, |details| details.causes.len());
        for i in 0..causes {
            let cause = |status: &Status| Some(status.details.as_ref()?.causes.get(i)?.message.clone());
            let message = cause(&status).and_then(|message| redacted(&message));
            if let Some(message) = message
                && let Some(details) = &mut status.to_mut().details
                && let Some(cause) = details.causes.get_mut(i)
            {
                cause.message = message;
            }
        }
        (status, rules)
    }

    /// Takes what the answer's body has told.
    pub(super) fn tell(&mut self, capture: &mut Capture, code: u16) {
        let recipe = Recipe {
            redactor: &self.audit.redactor,
            about: self.info.as_ref().map(|info| About::of(info, Part::Response)).unwrap_or_default(),
            keep: Keep::of(&self.verdict),
            most: self.audit.max_response_object,
        };
        let hold = |bytes| self.audit.journal.hold(bytes);
        let told = object::aside(capture.weight(), || capture.finish(code, &recipe, hold));
        if told.held > 0 {
            *self.place.get_or_insert(0) += told.held;
        }
        if let Some(info) = self.info.as_ref().filter(|_| !told.name.is_empty()) {
            self.head.set_object(info, &ObjectMeta { name: told.name.clone(), ..ObjectMeta::default() });
        }
        self.acted(&told.rules);
        self.told = told;
    }

    /// What an answer with this code can tell.
    pub(super) fn need(&self, code: u16) -> Option<Need> {
        if self.insisted {
            return None;
        }
        let object = self.verdict.level == Level::RequestResponse
            && !self.long_running
            && (self.is_resource || self.is_discovery);
        let status = code >= 400 || matches!(self.verb, Verb::Delete | Verb::DeleteCollection);
        let name = self.unnamed && (200..300).contains(&code);
        let most = self.audit.max_response_object;
        (object || status || name).then_some(Need { status, object, name, most })
    }

    /// `gatelog.dev/redacted`: the rules of the redaction that took something out.
    pub(super) fn acted(&mut self, rules: &[impl AsRef<str>]) {
        if rules.is_empty() {
            return;
        }
        self.redacted.extend(rules.iter().map(|rule| rule.as_ref().to_owned()));
        self.redacted.sort_unstable();
        self.redacted.dedup();
        self.annotations.set("gatelog.dev/redacted", self.redacted.join(","));
    }
}

/// `responseStatus` of the gate's own Status.
fn response_status(status: &Status) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    status.push_audit_json(&mut out);
    out
}
