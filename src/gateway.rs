//! The product in one function: [`Gateway::handle`] is the list of steps a request goes through, each handing on the
//! proof of the one before. Around it `wrap` owns what must happen whatever happens: the record, the clock, the one
//! access line, the metrics, and the table that turns a failure into what the caller is told.

pub mod answer;
mod client;
pub mod failure;
mod rehearsal;
mod way;

pub use client::Client;

use crate::{
    audit::{self, Audit},
    authn::Authn,
    authz::{
        Authz, Permit,
        selfreview::{self, Review, Unanswered},
    },
    body::{self, BadBody, Budget, Inbound, Reading},
    codec::document::Document,
    forward::{Answered, Caller, Forward, Wanted, upgrade},
    headers,
    limits::{Kind, Limits, Slot},
    request::{Asked, Effect},
    status::Status,
    streams::{Held, Lease, Reason, Right, Streams},
    telemetry::metrics::Metrics,
    validate::Validate,
};
use answer::{Answer, Source};
use arc_swap::ArcSwap;
use failure::Failure;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    sync::Semaphore,
    time::{Timeout, timeout_at},
};
use way::Way;

/// What decides on requests; replaced as a whole by a reload. A request takes one and keeps it until it is answered.
#[derive(Debug)]
pub struct Snapshot {
    /// Who is calling.
    pub authn: Arc<Authn>,
    /// What they may do.
    pub authz: Arc<Authz>,
    /// Where it goes, with the connections there.
    pub forward: Arc<Forward>,
    /// How new connections are answered: the serving pair.
    pub tls: Arc<rustls::ServerConfig>,
}

/// What bounds a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The largest body of a request that is no connection, in bytes (kube-apiserver: 3 MiB).
    pub request_body: u64,
    /// The longest silence while a body is read.
    pub body_read_timeout: Duration,
    /// Bytes of buffered bodies, all requests together.
    pub buffered_bodies: usize,
    /// Header lines at most.
    pub max_headers: usize,
    /// Whether exec and its kin end when the credential expires that opened them; watches and followed logs always do.
    pub end_tunnels_at_expiry: bool,
}

/// The gate. One per process.
#[derive(Debug)]
pub struct Gateway {
    snapshot: ArcSwap<Snapshot>,
    audit: Arc<Audit>,
    limits: Arc<Limits>,
    validate: Arc<Validate>,
    streams: Arc<Streams>,
    budget: Arc<Budget>,
    /// Lists of rights that are cut at a time.
    cutting: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    config: Config,
}

/// A request as it came; what it may switch to is taken before it is split.
#[derive(Debug)]
struct Came {
    head: Parts,
    /// Taken when it is read.
    body: Option<Incoming>,
    caller: OnUpgrade,
}

/// A request that has been let through and answered, and what is held until its answer has ended.
#[derive(Debug)]
struct Open {
    response: Response<Source>,
    slot: Slot,
    lease: Option<Lease>,
}

impl Gateway {
    /// A gate that decides by `snapshot` until another one is swapped in.
    pub fn new(
        snapshot: Snapshot,
        audit: Arc<Audit>,
        limits: Arc<Limits>,
        validate: Arc<Validate>,
        metrics: Arc<Metrics>,
        config: Config,
    ) -> Arc<Self> {
        let budget = Budget::new(config.buffered_bodies);
        let snapshot = ArcSwap::from_pointee(snapshot);
        let (streams, cutting) = (Arc::default(), Arc::new(Semaphore::new(CUTTING)));
        Arc::new(Self { snapshot, audit, limits, validate, streams, budget, cutting, metrics, config })
    }

    /// What decides at the moment.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// From now on requests are decided by `snapshot`; those under way keep theirs, but streams that its rules would refuse are
    /// ended. Says how many.
    pub fn swap(&self, snapshot: Snapshot) -> usize {
        let rules = snapshot.authz.clone();
        let before = self.snapshot.swap(Arc::new(snapshot));
        if Arc::ptr_eq(&before.authz, &rules) {
            return 0;
        }
        self.streams.end_for(|held| Some(revoked(rules.still_allows(&held.right).err()?)))
    }

    /// Validation.
    pub fn validate(&self) -> &Arc<Validate> {
        &self.validate
    }

    /// Every open stream.
    pub fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    /// The record.
    pub fn audit(&self) -> &Arc<Audit> {
        &self.audit
    }

    /// The process's metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Answers one request. Never fails: a refusal, a failure and a panic are answers, too.
    pub async fn serve(&self, client: &Arc<Client>, mut request: Request<Incoming>) -> Response<Answer> {
        let caller = hyper::upgrade::on(&mut request);
        let (head, body) = request.into_parts();
        let head_only = head.method == Method::HEAD;
        let switching = head.headers.contains_key(header::UPGRADE) && head.version < Version::HTTP_2;
        let way = Way::open(self, client, &head);
        let audit_id = way.trail.audit_id().clone();
        let mut wrapped = pin!(self.wrap(Came { head, body: Some(body), caller }, way));
        // A panic ends its request, not the other requests of the connection; the trail it unwinds records it.
        let caught =
            std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| wrapped.as_mut().poll(cx))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(response)) => Poll::Ready(Ok(response)),
                Err(_) => Poll::Ready(Err(())),
            });
        let mut response = match caught.await {
            Ok(response) => response,
            Err(()) => {
                // As with any other answer, its event comes first. A disk that fails is nothing to wait for.
                let _ = self.audit.flush().await;
                answer::local(&failure::panicked(), &audit_id)
            }
        };
        if switching && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // Bytes that a caller sent ahead, for a protocol that was not switched to, are no next request.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if head_only { answer::head_only(response) } else { response }
    }

    async fn wrap(&self, mut came: Came, mut way: Box<Way>) -> Response<Answer> {
        let snapshot = self.snapshot();
        let (response, settled) = match self.handle(&snapshot, &mut came, &mut way).await {
            Ok(Open { response, slot, lease }) => {
                let (mut head, source) = response.into_parts();
                let switched = head.headers.get(header::UPGRADE).filter(|_| head.status == 101).cloned();
                head.headers = headers::for_caller(head.headers);
                if let Some(protocol) = switched {
                    head.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
                    head.headers.insert(header::UPGRADE, protocol);
                }
                head.headers.insert(headers::AUDIT_ID, way.trail.audit_id().clone());
                answer::warn(&mut head.headers, way.warning);
                answer::warn(&mut head.headers, way.observation().as_deref());
                answer::warn_of(&mut head, &way.findings);
                way.code = head.status.as_u16();
                way.trail.started(way.code, &head.headers);
                answer::open(head, source, way, slot, lease)
            }
            Err(failure) => {
                let status = failure.status(way.trail.audit_id());
                way.refuse(&failure, &status);
                if came.head.version == Version::HTTP_2 {
                    body::drain(came.body).await;
                }
                answer::refused(&status, &failure, way)
            }
        };
        settled.await;
        response
    }

    /// The way of a request.
    async fn handle(&self, s: &Snapshot, came: &mut Came, way: &mut Way) -> Result<Open, Failure> {
        let Came { head, body, caller } = came;
        let asked = self.parse(head, way)?;
        let switch = upgrade_asked(head, &asked);
        let source = way.client.source(&head.headers);
        let proving = s.authn.authenticate(&way.client.conn, source, &mut head.headers, &asked);
        let proven = by(way.deadline, proving).await??;
        way.proven(&proven);
        way.trail.begin(&proven, &asked)?;
        let who = s.authz.impersonate(proven, &mut head.headers)?;
        way.effective(&who);
        let kind = if asked.info.is_long_running() { Kind::Stream } else { Kind::Request };
        let slot = self.limits.admit(who.effective(), kind)?;
        let permit = s.authz.authorize(who, asked, switch.is_some())?;
        way.permitted(&permit, head);
        check_protocol(switch.as_ref())?;
        let mut plan = by(way.deadline, self.validate.head(&permit, &head.headers)).await??;
        way.trail.commit();
        let reading = self.reading(&permit, way);
        let whole = way.trail.wants_request()
            || plan.wants_body()
            || selfreview::is_self_review(&permit.asked().info);
        let body = Inbound::read(body, &head.headers, whole, reading, &self.budget).await?;
        let document = body.bytes().map(|bytes| Document::new(&head.headers, bytes));
        if let Some(document) = &document {
            way.trail.request(&head.headers, document);
        }
        // Others wait neither for a long body to be read nor for what is held of it meanwhile.
        if let Some(document) = document.as_ref().filter(|_| plan.wants_body()) {
            audit::aside(document.bytes().len(), || document.tape().is_ok());
        }
        let weight = document.as_ref().map_or(0, Document::weight);
        let held = self.budget.hold(weight)?;
        let checking = self.validate.body(&mut plan, &permit, &head.headers, document.as_ref());
        by(way.deadline, checking).await??;
        drop((document, held));
        if plan.is_envelope_only() {
            way.trail.annotate("gatelog.dev/validated", "envelope".to_owned());
        }
        way.found(plan.into_findings());
        let cut = match s.authz.review(&permit, &head.headers, body.bytes())? {
            Review::Answered(answer) => {
                way.received = body.into_outbound().passage();
                return Ok(Open { response: way.review(None, answer), slot, lease: None });
            }
            Review::Cut(cut) => {
                selfreview::Cut::ask(&mut head.headers);
                Some(cut)
            }
            Review::Pass => None,
        };
        let kept = by(way.deadline, way.trail.kept()).await??;
        let lease = match kind {
            Kind::Stream => Some(self.lease(&permit, way, switch.is_some(), s)),
            Kind::Request => None,
        };
        let body = body.into_outbound();
        way.received = body.passage();
        let forwarded_for = way.client.forwarded_for(&head.headers);
        let caller = Caller {
            headers: std::mem::take(&mut head.headers),
            body,
            upgrade: switch.map(|protocol| Wanted { caller: caller.clone(), protocol }),
            audit_id: way.trail.audit_id(),
            forwarded_for,
        };
        // A timer is no finer than a millisecond, and a quick answer would be in time for it.
        if way.deadline.is_some_and(|deadline| deadline <= tokio::time::Instant::now()) {
            return Err(Failure::Late);
        }
        let sent = Instant::now();
        let answered = tokio::select! {
            biased;
            answered = by(way.deadline, s.forward.send(permit, kept, caller)) => answered,
            reason = ended(lease.as_ref()) => return Err(Failure::Ended(reason)),
        };
        way.answered(sent.elapsed());
        let response = match (cut, answered??) {
            (Some(cut), Answered::Body { response, .. }) if response.status().is_success() => {
                self.cut(cut, response, way).await?
            }
            (_, answered) => answered.into(),
        };
        Ok(Open { response, slot, lease })
    }

    /// Reads a list of rights, and leaves of it what the gate's own rules allow as well.
    async fn cut(
        &self,
        cut: selfreview::Cut,
        response: Response<Incoming>,
        way: &mut Way,
    ) -> Result<Response<Source>, Failure> {
        let (head, body) = response.into_parts();
        let reading = Reading {
            limit: Some(selfreview::Cut::LARGEST),
            idle: self.config.body_read_timeout,
            deadline: way.deadline,
        };
        let whole = body::Whole::read(body, None, &reading, &self.budget).await;
        if let Err(bad) = &whole
            && !matches!(bad, BadBody::TooLarge(_))
        {
            return Err(Failure::Answer(bad.clone()));
        }
        // Lists can be made so long that comparing them is work, and takes many times their size in memory.
        let cutting = async {
            let turn = self.cutting.clone().acquire_owned().await.ok();
            tokio::task::spawn_blocking(move || {
                let _until_done = (turn, &whole);
                cut.answer(match &whole {
                    Ok(whole) => selfreview::Theirs::Whole(whole.bytes()),
                    Err(_) => selfreview::Theirs::TooLarge,
                })
            })
            .await
        };
        let answer = by(way.deadline, cutting).await?;
        let answer =
            answer.map_err(|_| Unanswered::from(Status::internal("the list could not be cut")))??;
        Ok(way.review(Some(head), answer))
    }

    fn parse(&self, head: &Parts, way: &mut Way) -> Result<Asked, Failure> {
        if head.headers.len() > self.config.max_headers {
            return Err(Failure::TooManyHeaders(self.config.max_headers));
        }
        let asked = Asked::parse(head)?;
        way.verb = asked.info.verb().as_str();
        way.deadline = asked.timeout.map(|timeout| (way.started + timeout).into());
        way.bounded = asked.timeout.map(|_| way.client.begin_bounded());
        Ok(asked)
    }

    fn reading(&self, permit: &Permit, way: &Way) -> Reading {
        let connects = permit.asked().info.effect() == Effect::Connect;
        Reading {
            limit: (!connects).then_some(self.config.request_body),
            idle: self.config.body_read_timeout,
            deadline: way.deadline,
        }
    }

    fn lease(&self, permit: &Permit, way: &Way, tunnel: bool, decided_by: &Snapshot) -> Lease {
        let lease = self.streams.open(Held {
            right: right(permit, tunnel),
            what: format!("{} {}", way.verb, permit.asked().target.path()),
            audit_id: String::from_utf8_lossy(way.trail.audit_id().as_bytes()).into_owned(),
            tunnel,
            since: SystemTime::now(),
            expires: way.expires.filter(|_| !tunnel || self.config.end_tunnels_at_expiry),
        });
        // Rules that changed since the decision did not find this stream among the open ones.
        let present = self.snapshot.load();
        if !Arc::ptr_eq(&present.authz, &decided_by.authz)
            && let Err(why) = present.authz.still_allows(&right(permit, tunnel))
        {
            self.streams.end(lease.id(), revoked(why));
        }
        lease
    }
}

/// Why a stream is ended that was allowed once.
fn revoked(why: String) -> Reason {
    format!("no longer allowed: {why}").into()
}

/// What was allowed, to be asked again.
fn right(permit: &Permit, upgrade: bool) -> Right {
    let who = permit.who();
    Right {
        proven: who.proven().user().clone(),
        impersonation: who.impersonation().cloned(),
        effective: who.effective().clone(),
        info: permit.asked().info.clone(),
        upgrade,
    }
}

/// The protocol to switch to, where the request is of a kind that switches; elsewhere `Upgrade` is ignored, as RFC 9110
/// 7.8 allows.
fn upgrade_asked(head: &Parts, asked: &Asked) -> Option<HeaderValue> {
    upgrade::asked(head).filter(|_| asked.info.upgrade_allowed())
}

/// Kubernetes streams over these two; whatever else (`h2c`) would be a way around the gate.
fn check_protocol(switch: Option<&HeaderValue>) -> Result<(), Failure> {
    let known = |protocol: &HeaderValue| {
        ["websocket", "SPDY/3.1"]
            .iter()
            .any(|known| known.as_bytes().eq_ignore_ascii_case(protocol.as_bytes()))
    };
    match switch {
        Some(protocol) if !known(protocol) => Err(Failure::Upgrade(protocol.clone())),
        _ => Ok(()),
    }
}

/// Somebody ends the stream by name before the upstream has answered.
async fn ended(lease: Option<&Lease>) -> Reason {
    match lease {
        Some(lease) => lease.ended().await,
        None => std::future::pending().await,
    }
}

/// Within the request's time. The work is held once, so that a request stays small.
fn by<W: Future>(deadline: Option<tokio::time::Instant>, work: W) -> Timeout<W> {
    timeout_at(deadline.unwrap_or_else(|| tokio::time::Instant::now() + FOREVER), work)
}

/// Lists of rights that are cut at a time, whoever asked: each may take a hundred megabytes for a moment.
const CUTTING: usize = 2;

/// Longer than any stream.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Why the gate ends what is under way when it leaves.
pub(crate) const SHUTTING_DOWN: &str = "the gate is shutting down";

impl From<Answered> for Response<Source> {
    fn from(answered: Answered) -> Self {
        match answered {
            Answered::Body { response, place } => {
                response.map(|body| Source::Upstream { body, _place: place })
            }
            Answered::Tunnel { response, tunnel } => response.map(|()| Source::Tunnel(tunnel)),
        }
    }
}
