//! What accompanies a request to its end, whatever that is: the record, the clock, the access line, the metrics.

use super::{
    Gateway,
    answer::{self, Source},
    client::Client,
    failure::Failure,
};
use crate::{
    audit::{End, Settled, Trail},
    authn::Authenticated,
    authz::{Permit, Refused, Why, selfreview},
    body::Passage,
    identity::User,
    request::Effect,
    status::Status,
    streams::Reason,
    telemetry::{
        log::{self, AccessLine},
        metrics::{self, Authentication, Authorization, Metrics, Running, Series},
    },
    validate::Finding,
};
use http::{Method, Response, StatusCode, request::Parts, uri::PathAndQuery};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// What accompanies a request to its end, whatever that is.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) trail: Trail,
    pub(super) started: Instant,
    pub(super) client: Arc<Client>,
    pub(super) method: Method,
    pub(super) target: Option<PathAndQuery>,
    pub(super) deadline: Option<tokio::time::Instant>,
    pub(super) expires: Option<SystemTime>,
    pub(super) bounded: Option<usize>,
    pub(super) user: Option<Arc<User>>,
    pub(super) impersonated: Option<Arc<User>>,
    pub(super) verb: &'static str,
    /// It writes, and its answer is no stream.
    pub(super) change: bool,
    pub(super) metrics: Arc<Metrics>,
    pub(super) series: Option<Arc<Series>>,
    pub(super) running: Option<Running>,
    pub(super) code: u16,
    pub(super) received: Option<Arc<Passage>>,
    pub(super) warning: Option<&'static str>,
    pub(super) upstream: Option<Duration>,
    pub(super) refusal: Option<String>,
    /// The refusal that was not carried out.
    pub(super) observed: Option<Arc<Refused>>,
    /// Where the candidate would have decided otherwise, and how.
    pub(super) shadow: Option<String>,
    /// What validation found and did not refuse.
    pub(super) findings: Vec<Finding>,
    pub(super) over: bool,
}

impl Drop for Way {
    fn drop(&mut self) {
        if !self.over {
            self.abandoned();
        }
        if let Some(turn) = self.bounded {
            self.client.end_bounded(turn);
        }
        self.client.end();
    }
}

impl Way {
    pub(super) fn open(gateway: &Gateway, client: &Arc<Client>, head: &Parts) -> Box<Self> {
        client.begin();
        Box::new(Self {
            trail: gateway.audit.open(client.conn.peer, head),
            started: Instant::now(),
            client: client.clone(),
            method: head.method.clone(),
            target: head.uri.path_and_query().cloned(),
            deadline: None,
            expires: None,
            bounded: None,
            user: None,
            impersonated: None,
            verb: "",
            change: false,
            metrics: gateway.metrics.clone(),
            series: None,
            running: None,
            code: 0,
            received: None,
            warning: None,
            upstream: None,
            refusal: None,
            observed: None,
            shadow: None,
            findings: Vec::new(),
            over: false,
        })
    }

    /// Nobody waits for the answer any more: told as kube-apiserver does, with code 0.
    fn abandoned(&mut self) {
        let why = if std::thread::panicking() { "panic".into() } else { self.client.left() };
        let elapsed = self.started.elapsed();
        let received = self.received.as_ref().map_or(0, |passage| passage.bytes());
        log::access(&self.line(0, received, elapsed, Some(&why)));
        self.trail.annotate("gatelog.dev/end", why.into_owned());
        let series = self.series.take().unwrap_or_else(|| self.metrics.refused(&self.method));
        series.finish(self.code, elapsed);
    }

    /// The request's last event, its metrics, its line in the access log. The caller's last piece waits for what is returned.
    pub(super) fn end(mut self: Box<Self>, sent: u64, received: u64, why: Option<Reason>) -> Settled {
        self.over = true;
        let elapsed = self.started.elapsed();
        let why = why.map(Reason::into_owned);
        log::access(&self.line(sent, received, elapsed, why.as_deref()));
        let settled = self.trail.complete(End { bytes_from_caller: received, bytes_to_caller: sent, why });
        let series = self.series.take().unwrap_or_else(|| self.metrics.refused(&self.method));
        series.finish(self.code, elapsed);
        settled
    }

    fn line<'a>(
        &'a self,
        sent: u64,
        received: u64,
        elapsed: Duration,
        why: Option<&'a str>,
    ) -> AccessLine<'a> {
        AccessLine {
            audit_id: self.trail.audit_id().to_str().unwrap_or_default(),
            peer: self.client.conn.peer,
            method: self.method.as_str(),
            path: self.target.as_ref().map_or("", PathAndQuery::path),
            user: self.user.as_ref().map(|user| user.name()),
            impersonated: self.impersonated.as_ref().map(|user| user.name()),
            verb: (!self.verb.is_empty()).then_some(self.verb),
            code: self.code,
            duration: elapsed,
            upstream: self.upstream,
            bytes_in: received,
            bytes_out: sent,
            reason: self.refusal.as_deref().or(why),
            observed: self.observed.as_ref().map(|refused| &*refused.whole),
            shadow: self.shadow.as_deref(),
        }
    }

    pub(super) fn proven(&mut self, proven: &Authenticated) {
        self.user = Some(proven.user().clone());
        self.warning = proven.warning();
        self.expires = proven.expires();
        self.metrics.authentication(Authentication::Success);
    }

    pub(super) fn effective(&mut self, who: &crate::authz::Who) {
        if let Some(user) = who.impersonated() {
            self.trail.impersonated(user);
            self.impersonated = Some(user.clone());
        }
        self.rehearsed(who.rehearsed());
    }

    pub(super) fn permitted(&mut self, permit: &Permit, head: &Parts) {
        self.rehearsed(permit.rehearsed());
        self.tell_shadow();
        self.trail.decided(true, permit.why().to_string());
        let info = &permit.asked().info;
        self.change = info.effect() == Effect::Write && !info.is_long_running();
        match permit.why() {
            Why::Observed(refused) => self.observed(refused),
            _ => self.metrics.authorization(Authorization::Allowed),
        }
        let series = self.metrics.series(&metrics::Call::of(permit.asked(), &head.headers));
        self.running = Some(series.running());
        self.series = Some(series);
    }

    /// Notes what validation only tells.
    pub(super) fn found(&mut self, findings: Vec<Finding>) {
        if !findings.is_empty() {
            let mut rules: Vec<String> = findings.iter().map(Finding::name).collect();
            rules.sort_unstable();
            rules.dedup();
            self.trail.annotate("gatelog.dev/validation", format!("warned: {}", rules.join(", ")));
            self.findings = findings;
        }
    }

    /// Notes what the gate itself answers.
    pub(super) fn review(
        &mut self,
        head: Option<http::response::Parts>,
        answer: selfreview::Answer,
    ) -> Response<Source> {
        self.trail.annotate("gatelog.dev/self-review", answer.how.to_owned());
        self.trail.answered(StatusCode::CREATED.as_u16(), &answer.json);
        answer::review(head, answer)
    }

    pub(super) fn answered(&mut self, after: Duration) {
        self.metrics.upstream_duration.observe(after.as_secs_f64());
        self.upstream = Some(after);
    }

    pub(super) fn refuse(&mut self, failure: &Failure, status: &Status) {
        self.code = status.code;
        if let Failure::Refused(refused) = failure {
            self.rehearsed(&refused.rehearsed);
        }
        self.tell_shadow();
        failure.record(&mut self.trail, &self.metrics);
        self.trail.refused(status);
        self.refusal = Some(failure.to_string());
    }
}
