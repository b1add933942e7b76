//! One request's way through the record.

mod bodies;
mod insist;
mod session;
mod stranger;
mod write;

use super::{
    Audit, Kept, Mode, OnFailure, Unkept,
    capture::{Capture, Told},
    event::{Addresses, Annotations, Head, Level, MicroTime, Stage},
    id,
    journal::{
        Mark, Settled,
        line::{Line, Part},
    },
    object,
    policy::{Question, Verdict},
    redact::About,
    tree::leaf::AuditId,
};
use crate::{
    authn::Authenticated,
    identity::User,
    request::{Asked, Effect, RequestInfo, Verb},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use std::{borrow::Cow, fmt, net::SocketAddr, sync::Arc, time::SystemTime};

/// What a last event needs beyond its head: status, times, annotations. Reserved with the request.
const LAST_EVENT: usize = 1024;
/// Characters of a caller's own `Audit-ID` that are recorded, as kube-apiserver cuts them for its logs.
const LONGEST_CLIENT_ID: usize = 64;
/// One request's way through the record. Completes on drop.
pub struct Trail(Box<Inner>);

struct Inner {
    audit: Arc<Audit>,
    id: AuditId,
    /// The same as its header.
    id_header: HeaderValue,
    received: MicroTime,
    method: Method,
    uri: Uri,
    addresses: Addresses,
    agent: Option<HeaderValue>,
    annotations: Annotations,
    phase: Phase,
    verdict: Verdict,
    /// How the caller authenticated.
    authenticator: &'static str,
    /// Whether it is recorded beyond what the policy says.
    insisted: bool,
    head: Head,
    /// What is asked for.
    info: Option<RequestInfo>,
    /// The name of what is created is not known yet.
    unnamed: bool,
    /// The redaction's rules that took something out, sorted.
    redacted: Vec<String>,
    verb: Verb,
    effect: Effect,
    is_resource: bool,
    is_discovery: bool,
    long_running: bool,
    /// As JSON.
    impersonated: Option<String>,
    /// The last event's place is held in the journal; so many bytes.
    place: Option<usize>,
    /// That of a first event that only the journal gets; so many bytes besides.
    first_place: usize,
    /// Where the first event stands, if it is journalled.
    mark: Option<Mark>,
    /// Why nothing may be forwarded.
    unkept: Option<Unkept>,
    request: Option<Vec<u8>>,
    code: Option<u16>,
    told: Told,
    capture: Option<Capture>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nobody is authenticated.
    Opened,
    /// The policy has spoken, the last event is owed.
    Begun,
    /// The last event is written.
    Done,
}

/// How a request ended, for its last event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct End {
    /// Bytes that came from the caller.
    pub bytes_from_caller: u64,
    /// Bytes that went to the caller.
    pub bytes_to_caller: u64,
    /// `gatelog.dev/end`: why, when it is not a plain end of the answer.
    pub why: Option<String>,
}

// === impl Audit ===

impl Audit {
    /// Before anything is parsed.
    pub fn open(self: &Arc<Self>, peer: SocketAddr, head: &http::request::Parts) -> Trail {
        let addresses = if self.trusts(peer.ip()) {
            Addresses::forwarded(
                peer.ip(),
                head.headers.get("x-forwarded-for"),
                head.headers.get("x-real-ip"),
            )
        } else {
            Addresses::peer(peer.ip())
        };
        let mut annotations = Annotations::default();
        if let Some(claimed) = head.headers.get("audit-id").filter(|v| !v.is_empty()) {
            let claimed = &claimed.as_bytes()[..claimed.len().min(LONGEST_CLIENT_ID)];
            let claimed = String::from_utf8_lossy(claimed);
            annotations.add("gatelog.dev/client-audit-id", self.redactor.text(&claimed).text.into_owned());
        }
        let id = id::new();
        Trail(Box::new(Inner {
            audit: self.clone(),
            id,
            id_header: id_header(id),
            received: MicroTime::at(SystemTime::now()),
            method: head.method.clone(),
            uri: head.uri.clone(),
            addresses,
            agent: head.headers.get(header::USER_AGENT).cloned(),
            annotations,
            phase: Phase::Opened,
            verdict: Verdict {
                level: Level::None,
                omit_stages: Default::default(),
                omit_managed_fields: false,
            },
            authenticator: "",
            insisted: false,
            head: Head::default(),
            info: None,
            unnamed: false,
            redacted: Vec::new(),
            verb: Verb::Get,
            effect: Effect::Read,
            is_resource: false,
            is_discovery: false,
            long_running: false,
            impersonated: None,
            place: None,
            first_place: 0,
            mark: None,
            unkept: None,
            request: None,
            code: None,
            told: Told::default(),
            capture: None,
        }))
    }
}

/// Marked sensitive for HPACK alone: a value that never comes again would only push others out of its table.
fn id_header(id: AuditId) -> HeaderValue {
    // An id is plain ASCII; the empty value would only show that it is not.
    let mut id =
        HeaderValue::from_maybe_shared(Bytes::from(id::text(id))).unwrap_or(HeaderValue::from_static(""));
    id.set_sensitive(true);
    id
}

// === impl Trail ===

impl Trail {
    /// This request's id: to the caller, upstream, in every event and log line.
    pub fn audit_id(&self) -> &HeaderValue {
        &self.0.id_header
    }

    /// After authentication: level by policy, RequestReceived enqueued, the last event's place reserved.
    pub fn begin(&mut self, proven: &Authenticated, asked: &Asked) -> Result<(), Unkept> {
        let annotations = &mut self.0.annotations;
        proven.annotations().iter().for_each(|(key, value)| annotations.add(key, value.clone()));
        self.begin_as(proven.user(), proven.method(), asked)
    }

    /// [`Self::begin`] without the proof, for tests and benchmarks: to record somebody is no right of theirs.
    #[doc(hidden)]
    pub fn begin_as(
        &mut self,
        user: &User,
        authenticator: &'static str,
        asked: &Asked,
    ) -> Result<(), Unkept> {
        let this = &mut *self.0;
        if this.phase != Phase::Opened {
            return Ok(());
        }
        this.phase = Phase::Begun;
        this.authenticator = authenticator;
        let info = &asked.info;
        let attributes = info.attributes();
        let question = Question {
            user: Some((user.name(), user.groups())),
            verb: attributes.verb,
            object: attributes.object,
        };
        this.verdict = this.audit.policy.load().evaluate(&question);
        this.count_level();
        if this.verdict.level == Level::None {
            return Ok(());
        }
        this.describe(user, info, asked.target.raw());
        this.first()
    }

    /// The effective user, once the right to impersonate it is established.
    pub fn impersonated(&mut self, user: &Arc<User>) {
        let this = &mut *self.0;
        let mut json = user.json().to_owned();
        // Names stay; what else a caller says of somebody may be anything.
        if !user.extra().is_empty() {
            let audit = this.audit.clone();
            if let Ok(redacted) = audit.redactor.body(&About::default(), user.json()) {
                this.acted(&redacted.rules);
                json = redacted.text.into_owned();
            }
        }
        this.impersonated = Some(json);
    }

    /// `authorization.k8s.io/decision` and `/reason`.
    pub fn decided(&mut self, allow: bool, reason: impl Into<Cow<'static, str>>) {
        let annotations = &mut self.0.annotations;
        annotations.add("authorization.k8s.io/decision", if allow { "allow" } else { "forbid" });
        annotations.add("authorization.k8s.io/reason", reason);
    }

    /// `gatelog.dev/authn-attempted`: which credentials came with a request that is about to be refused with 401.
    pub fn attempted(&mut self, methods: &str) {
        self.annotate("gatelog.dev/authn-attempted", methods.to_owned());
    }

    /// Whether the record needs the answer's body. To be asked after [`Self::started`].
    pub fn wants_response(&self) -> bool {
        self.0.capture.is_some()
    }

    /// Whether the events of the answer, a watch's, are to be counted.
    pub fn counts_events(&self) -> bool {
        let this = &*self.0;
        let recorded = this.phase == Phase::Begun && this.verdict.level > Level::None;
        recorded && this.verb == Verb::Watch && this.audit.watch_events
    }

    /// The request may be forwarded: where the mode demands it, its first event is on its way to the disk from now on, while the body
    /// is read. Before, nothing is synced for it, since it may be refused.
    pub fn commit(&mut self) {
        let this = &mut *self.0;
        if this.phase != Phase::Begun || this.verdict.level == Level::None || this.mode() != Mode::Strict {
            return;
        }
        let stage = Stage::RequestReceived;
        if this.mark.is_none() && !this.insisted && this.verdict.omit_stages.contains(stage) {
            let release = std::mem::take(&mut this.first_place);
            this.mark = this.write_journal_only(this.received, release);
            if this.mark.is_none() && this.audit.on_failure == OnFailure::Refuse {
                this.unkept = Some(Unkept("its writer is gone".into()));
            }
        }
        if let Some(mark) = this.mark {
            this.audit.journal.commit(mark);
        }
    }

    /// The first event is enqueued, written or on the disk, as the mode demands.
    pub async fn kept(&mut self) -> Result<Kept, Unkept> {
        let this = &mut *self.0;
        let kept = match (&this.unkept, this.mark) {
            _ if this.phase == Phase::Opened => Err(Unkept("the request was not begun".into())),
            (Some(unkept), _) => Err(unkept.clone()),
            (None, Some(mark)) => match this.mode() {
                Mode::Strict => this.audit.journal.synced(mark).await,
                Mode::Blocking => this.audit.journal.written(mark).await,
                Mode::Batch => Ok(()),
            },
            (None, None) => Ok(()),
        };
        if kept.is_err() {
            this.audit.metrics.rejected.inc();
        }
        kept.map(|()| Kept(()))
    }

    /// The answer's head is known (ResponseStarted for long-running requests). 101 included. The first one counts.
    pub fn started(&mut self, code: u16, headers: &HeaderMap) {
        let this = &mut *self.0;
        if this.phase != Phase::Begun || this.code.is_some() {
            return;
        }
        this.code = Some(code);
        if this.verdict.level == Level::None {
            return;
        }
        this.capture = this.need(code).map(|need| Capture::new(need, headers));
        this.response_started();
    }

    /// The gate itself answers, with this object. What goes over the wire may be in another encoding.
    pub fn answered(&mut self, code: u16, json: &Bytes) {
        if self.0.code.is_none() {
            self.started(code, &HeaderMap::new());
            self.tee(json);
        }
    }

    /// The stream or answer ended; drop without it means "closed early" (or a panic). The caller's last piece, or the end of his
    /// answer, is to be held back for what is returned.
    pub fn complete(&mut self, end: End) -> Settled {
        let this = &mut *self.0;
        if this.long_running {
            this.annotations.add("gatelog.dev/bytes-in", end.bytes_from_caller.to_string());
            this.annotations.add("gatelog.dev/bytes-out", end.bytes_to_caller.to_string());
        }
        if let Some(why) = end.why {
            this.annotations.add("gatelog.dev/end", why);
        }
        this.last(Stage::ResponseComplete)
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        let this = &mut *self.0;
        let stage = if std::thread::panicking() { Stage::Panic } else { Stage::ResponseComplete };
        match this.phase {
            Phase::Done => {}
            Phase::Opened => {
                this.stranger(if stage == Stage::Panic { stage } else { Stage::ResponseStarted })
            }
            Phase::Begun => {
                // What the gate answers itself is whole once it is known.
                if this.told.status.is_none() {
                    this.annotations.add("gatelog.dev/end", "closed early");
                }
                drop(this.last(stage));
            }
        }
    }
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trail")
            .field("id", &self.0.id_header)
            .field("phase", &self.0.phase)
            .finish_non_exhaustive()
    }
}

// === impl Inner ===

impl Inner {
    /// Who asks for what, for every event.
    fn describe(&mut self, user: &User, info: &RequestInfo, uri: &str) {
        self.verb = info.verb();
        self.effect = info.effect();
        self.is_resource = info.is_resource();
        self.is_discovery = !self.is_resource && object::is_discovery(info.path());
        self.long_running = info.is_long_running();
        self.info = Some(info.clone());
        self.annotations.add("gatelog.dev/authn-method", self.authenticator);
        self.annotations.add("gatelog.dev/effect", self.effect.as_str());
        self.render(uri, info.attributes().verb, user.json(), Some(info));
    }

    /// The first event, if the policy wants it, and the last one's place; that of the first one as well, if it is to be written
    /// once the request may be forwarded.
    fn first(&mut self) -> Result<(), Unkept> {
        let size = self.head.len() + self.annotations.size() + LAST_EVENT;
        let wanted = !self.verdict.omit_stages.contains(Stage::RequestReceived);
        let first = if wanted || self.mode() != Mode::Strict { 0 } else { size };
        let journal = &self.audit.journal;
        let placed = if wanted {
            self.write(Stage::RequestReceived, self.received, Part::First, |line| {
                // What cannot be kept is counted; what can, is owed a last line.
                journal.reserve(Some(line), size).map_err(|unkept| (unkept, journal.try_append(line)))
            })
        } else {
            journal.reserve(None, size + first).map_err(|unkept| (unkept, None))
        };
        match placed {
            Ok(mark) => {
                self.place = Some(size);
                self.first_place = first;
                self.mark = wanted.then_some(mark);
                Ok(())
            }
            Err((_, mark)) if self.audit.on_failure == OnFailure::Open => {
                self.mark = mark;
                Ok(())
            }
            Err((unkept, mark)) => {
                self.mark = mark;
                self.audit.metrics.rejected.inc();
                self.unkept = Some(unkept.clone());
                Err(unkept)
            }
        }
    }

    fn response_started(&mut self) {
        let stage = Stage::ResponseStarted;
        if !self.long_running || self.verdict.omit_stages.contains(stage) {
            return;
        }
        let now = MicroTime::at(SystemTime::now());
        let journal = &self.audit.journal;
        self.write(stage, now, Part::Between, |line| match self.place {
            Some(_) => journal.append(Some(line), 0),
            None => journal.try_append(line),
        });
    }

    /// The last event. Nothing is written after it.
    fn last(&mut self, stage: Stage) -> Settled {
        if self.phase != Phase::Begun {
            return Settled::Ready;
        }
        // What falls over a body falls but once, and before the event is written.
        if let (Some(mut capture), Some(code)) = (self.capture.take(), self.code)
            && stage != Stage::Panic
        {
            self.tell(&mut capture, code);
        }
        self.phase = Phase::Done;
        if self.verdict.level == Level::None {
            return Settled::Ready;
        }
        if stage == Stage::Panic {
            self.told.status = Some(PANIC.to_vec());
        } else if self.code.is_none() {
            self.told.status = Some(CLOSED_EARLY.to_vec());
            self.response_started();
        }
        let now = MicroTime::at(SystemTime::now());
        let wanted = !self.verdict.omit_stages.contains(stage);
        let place = self.place.take().map(|size| size + std::mem::take(&mut self.first_place));
        let audit = self.audit.clone();
        let deliver = |line: &Line<'_>| match place {
            Some(size) => audit.journal.append(Some(line), size),
            None => audit.journal.try_append(line),
        };
        let mark = if wanted {
            self.write(stage, now, Part::Last, deliver)
        } else if self.mark.is_some() {
            // Who looks for requests without an end must not find this one.
            self.write_as(stage, now, Part::Last, true, deliver)
        } else {
            place.and_then(|size| audit.journal.append(None, size))
        };
        match mark {
            Some(mark) if self.mode() != Mode::Batch => audit.journal.settled(mark),
            _ => Settled::Ready,
        }
    }

    /// What is waited for.
    fn mode(&self) -> Mode {
        match self.effect {
            Effect::Read => self.audit.modes.reads,
            Effect::Write | Effect::Connect => self.audit.modes.changes,
        }
    }

    fn count_level(&self) {
        let level = self.verdict.level;
        if let Some(counter) = self.audit.metrics.levels.get(level as usize) {
            counter.inc();
        }
    }
}

/// `responseStatus` when the gate itself failed.
const PANIC: &[u8] = br#"{"metadata":{},"status":"Failure","message":"APIServer panic'd: the gate failed while it handled the request","reason":"InternalError","code":500}"#;
/// `responseStatus` when nothing was answered, as kube-apiserver fakes it.
const CLOSED_EARLY: &[u8] =
    br#"{"metadata":{},"status":"Success","message":"Connection closed early","code":200}"#;
