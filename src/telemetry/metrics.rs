//! Prometheus metrics: kube-apiserver's names where the meaning is the same, `gatelog_…` otherwise.
//!
//! Two things differ from kube-apiserver on purpose, because a gate is watched for what it refuses: refusals (400, 401,
//! 403, 429) are counted in `apiserver_request_total`, and `component` is `gatelog`. A request says which resource it was
//! about only after it was permitted, so that a stranger cannot choose label values; no label ever holds the name of a user,
//! a namespace or an object; and no more than [`MAX_SERIES`] combinations of labels are told apart.
//!
//! The way of a request: [`Metrics::series`] once it is permitted (or [`Metrics::refused`]), [`Series::running`] while it
//! runs, [`Series::finish`] when its answer has ended. The first is one hash and one lookup, the others a few atomics.

mod call;
mod series;

pub use call::Call;
pub use series::{Running, Series};

use arc_swap::ArcSwap;
use call::{LABELS, OTHER};
use http::Method;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

/// How many combinations of verb, dry run, group, version, resource, subresource and scope are told apart; what comes later
/// is counted under the group, version and resource `other`.
pub const MAX_SERIES: usize = 2_000;

/// kube-apiserver's buckets, in seconds.
const REQUEST_BUCKETS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];

/// From the request's last look at the gate to the head of the upstream's answer, in seconds.
const UPSTREAM_BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// How an attempt to authenticate ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication {
    /// Somebody known.
    Success,
    /// No credential, or none that any authenticator takes for its own.
    Failure,
    /// A credential that was judged and rejected.
    Error,
}

/// How a question to the rules ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorization {
    /// A rule allows it.
    Allowed,
    /// No rule allows it, which is a refusal.
    NoOpinion,
}

/// Which way the bytes of a stream went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the caller to the upstream.
    ToUpstream,
    /// From the upstream to the caller.
    ToCaller,
}

/// The metrics of the process; what is counted outside of a request's [`Series`] is a field or a method here.
#[derive(Debug)]
pub struct Metrics {
    requests: IntCounterVec,
    durations: HistogramVec,
    long_running: IntGaugeVec,
    read_only: IntGauge,
    mutating: IntGauge,
    authenticated: [IntCounter; 3],
    authorized: [IntCounter; 2],
    upstream_errors: IntCounterVec,
    stream_bytes: [IntCounter; 2],
    limited: IntCounterVec,
    reloads: [IntCounter; 2],
    shadow: [IntCounter; 4],
    enabled: IntGaugeVec,
    serving_certificate: IntGauge,
    account_excess_rights: IntGauge,
    hasher: RandomState,
    series: ArcSwap<HashMap<u64, Arc<Series>>>,
    adding: Mutex<()>,

    /// Connections that are open now, handshakes included.
    pub connections: IntGauge,
    /// TLS handshakes that failed or took too long.
    pub tls_handshake_errors: IntCounter,
    /// Refusals of the rules that were not carried out, since the gate only observes.
    pub observed_refusals: IntCounter,
    /// Requests that never became one: what the HTTP layer itself answered or hung up on.
    pub malformed: IntCounter,
    /// From sending a request upstream to the head of its answer.
    pub upstream_duration: Histogram,
}

impl Metrics {
    /// Creates and registers everything; an error is a name registered twice, which is a mistake in the program.
    pub fn new(registry: &Registry) -> Result<Arc<Self>, prometheus::Error> {
        let without_code = LABELS;
        let mut with_code = LABELS.to_vec();
        with_code.push("code");
        let long_running_labels: Vec<&str> = LABELS.iter().copied().filter(|l| *l != "dry_run").collect();

        let inflight = register(
            registry,
            IntGaugeVec::new(
                Opts::new(
                    "apiserver_current_inflight_requests",
                    "Requests that run now, long-running ones excepted.",
                ),
                &["request_kind"],
            )?,
        )?;
        let authentication = register(
            registry,
            IntCounterVec::new(
                Opts::new("authentication_attempts", "Attempts to authenticate, by how they ended."),
                &["result"],
            )?,
        )?;
        let authorization = register(
            registry,
            IntCounterVec::new(
                Opts::new(
                    "authorization_attempts_total",
                    "Decisions on requests, by result; no-opinion is a refusal, carried out or only observed.",
                ),
                &["result"],
            )?,
        )?;
        let bytes = register(
            registry,
            IntCounterVec::new(
                Opts::new(
                    "gatelog_stream_bytes_total",
                    "Bytes carried through upgraded connections, by direction.",
                ),
                &["direction"],
            )?,
        )?;
        let reloads = register(
            registry,
            IntCounterVec::new(
                Opts::new(
                    "gatelog_reloads_total",
                    "Attempts to take up changed files, by result; after a failure the old state serves on.",
                ),
                &["result"],
            )?,
        )?;
        let shadow = register(
            registry,
            IntCounterVec::new(
                Opts::new(
                    "gatelog_shadow_decisions_total",
                    "Decisions that the shadow rules were asked about as well, by what both said.",
                ),
                &["enforced", "shadow"],
            )?,
        )?;
        let build = register(
            registry,
            IntGaugeVec::new(
                Opts::new("gatelog_build_info", "Always 1; the labels say what runs."),
                &["version"],
            )?,
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let account_excess_rights = register(
            registry,
            IntGauge::new(
                "gatelog_account_excess_rights",
                "Rights of the gate's own account that it does not need; -1 while that is not known.",
            )?,
        )?;
        account_excess_rights.set(-1);
        if let Some(dropped) = super::log::dropped() {
            registry.register(Box::new(dropped))?;
        }
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;

        Ok(Arc::new(Self {
            requests: register(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "apiserver_request_total",
                        "Requests answered, by what was asked and the code; refused ones tell only their method.",
                    ),
                    &with_code,
                )?,
            )?,
            durations: register(
                registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "apiserver_request_duration_seconds",
                        "From a request's head to the end of its answer.",
                    )
                    .buckets(REQUEST_BUCKETS.to_vec()),
                    &without_code,
                )?,
            )?,
            long_running: register(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "apiserver_longrunning_requests",
                        "Watches, logs, sessions and proxied requests open now.",
                    ),
                    &long_running_labels,
                )?,
            )?,
            read_only: inflight.with_label_values(&["readOnly"]),
            mutating: inflight.with_label_values(&["mutating"]),
            authenticated: ["success", "failure", "error"].map(|l| authentication.with_label_values(&[l])),
            authorized: ["allowed", "no-opinion"].map(|l| authorization.with_label_values(&[l])),
            upstream_errors: register(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "gatelog_upstream_errors_total",
                        "Requests that the upstream did not answer, by kind.",
                    ),
                    &["kind"],
                )?,
            )?,
            stream_bytes: ["to_upstream", "to_caller"].map(|l| bytes.with_label_values(&[l])),
            limited: register(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "gatelog_limited_total",
                        "Requests and connections turned away by a limit, by kind.",
                    ),
                    &["kind"],
                )?,
            )?,
            reloads: ["success", "failure"].map(|l| reloads.with_label_values(&[l])),
            shadow: [["allow", "allow"], ["allow", "deny"], ["deny", "allow"], ["deny", "deny"]]
                .map(|both| shadow.with_label_values(&both)),
            enabled: register(
                registry,
                IntGaugeVec::new(
                    Opts::new("gatelog_enabled", "Whether a part of the gate is on (1) or switched off (0)."),
                    &["part"],
                )?,
            )?,
            serving_certificate: register(
                registry,
                IntGauge::new(
                    "gatelog_serving_certificate_expiration_timestamp_seconds",
                    "When the serving certificate expires, in seconds since 1970; 0 when that cannot be told.",
                )?,
            )?,
            account_excess_rights,
            hasher: RandomState::new(),
            series: ArcSwap::default(),
            adding: Mutex::new(()),
            connections: register(
                registry,
                IntGauge::new("gatelog_connections", "Connections from callers open now.")?,
            )?,
            tls_handshake_errors: register(
                registry,
                IntCounter::new(
                    "apiserver_tls_handshake_errors_total",
                    "TLS handshakes that failed or took too long.",
                )?,
            )?,
            observed_refusals: register(
                registry,
                IntCounter::new(
                    "gatelog_observed_refusals_total",
                    "Requests that the rules refuse and that were forwarded, since the gate only observes.",
                )?,
            )?,
            malformed: register(
                registry,
                IntCounter::new(
                    "gatelog_http_malformed_total",
                    "Requests that broke HTTP itself and were answered below the gate, without a record.",
                )?,
            )?,
            upstream_duration: register(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "gatelog_upstream_duration_seconds",
                        "From sending a request upstream to the head of its answer.",
                    )
                    .buckets(UPSTREAM_BUCKETS.to_vec()),
                )?,
            )?,
        }))
    }

    /// The series of a permitted request.
    pub fn series(&self, call: &Call<'_>) -> Arc<Series> {
        let key = self.hasher.hash_one(call);
        match self.series.load().get(&key) {
            Some(series) if series.is(call) => return Arc::clone(series),
            // Two calls with one keyed hash: practically never, and then only a label is wrong.
            Some(_) => return self.overflow(call),
            None => {}
        }
        self.add(key, call)
    }

    /// The series of a request that was refused, or failed, before it was permitted.
    pub fn refused(&self, method: &Method) -> Arc<Series> {
        self.series(&Call::bare(match method.as_str() {
            "GET" => "GET",
            "POST" => "POST",
            "PUT" => "PUT",
            "PATCH" => "PATCH",
            "DELETE" => "DELETE",
            _ => OTHER,
        }))
    }

    #[cold]
    fn add(&self, key: u64, call: &Call<'_>) -> Arc<Series> {
        let _one_at_a_time = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.series.load_full();
        if let Some(series) = known.get(&key) {
            return Arc::clone(series);
        }
        if known.len() >= MAX_SERIES {
            return self.overflow(call);
        }
        let series = Arc::new(self.make(call));
        let mut more = HashMap::clone(&known);
        more.insert(key, Arc::clone(&series));
        self.series.store(Arc::new(more));
        series
    }

    /// Not cached: the labels of these are few, so the registry's own look-up does.
    #[cold]
    fn overflow(&self, call: &Call<'_>) -> Arc<Series> {
        Arc::new(self.make(&call.overflow()))
    }

    fn make(&self, call: &Call<'_>) -> Series {
        let labels = call.labels();
        let now = match (call.long_running, call.mutating) {
            (true, _) => {
                let [verb, _dry_run, rest @ ..] = labels;
                let mut labels = vec![verb];
                labels.extend(rest);
                self.long_running.with_label_values(&labels)
            }
            (false, true) => self.mutating.clone(),
            (false, false) => self.read_only.clone(),
        };
        Series {
            labels: labels.map(Box::from),
            requests: self.requests.clone(),
            duration: self.durations.with_label_values(&labels),
            codes: Default::default(),
            now,
            long_running: call.long_running,
            mutating: call.mutating,
        }
    }

    /// Counts an attempt to authenticate.
    pub fn authentication(&self, result: Authentication) {
        let [success, failure, error] = &self.authenticated;
        match result {
            Authentication::Success => success,
            Authentication::Failure => failure,
            Authentication::Error => error,
        }
        .inc();
    }

    /// Counts a decision.
    pub fn authorization(&self, result: Authorization) {
        let [allowed, no_opinion] = &self.authorized;
        match result {
            Authorization::Allowed => allowed,
            Authorization::NoOpinion => no_opinion,
        }
        .inc();
    }

    /// Counts a decision that the candidate was asked about as well: whether it was allowed, and whether it would be.
    pub fn shadow(&self, enforced: bool, shadow: bool) {
        let [both, refuses, allows, neither] = &self.shadow;
        match (enforced, shadow) {
            (true, true) => both,
            (true, false) => refuses,
            (false, true) => allows,
            (false, false) => neither,
        }
        .inc();
    }

    /// Counts a request that the upstream did not answer; `kind` is one of a fixed set of words such as `connect`.
    pub fn upstream_error(&self, kind: &'static str) {
        self.upstream_errors.with_label_values(&[kind]).inc();
    }

    /// Counts what a limit turned away; `kind` is one of a fixed set of words such as `user_inflight`.
    pub fn limited(&self, kind: &'static str) {
        self.limited.with_label_values(&[kind]).inc();
    }

    /// Counts bytes carried through an upgraded connection.
    pub fn stream_bytes(&self, direction: Direction, bytes: u64) {
        let [to_upstream, to_caller] = &self.stream_bytes;
        match direction {
            Direction::ToUpstream => to_upstream,
            Direction::ToCaller => to_caller,
        }
        .inc_by(bytes);
    }

    /// Counts an attempt to take up changed files.
    pub fn reload(&self, success: bool) {
        let [succeeded, failed] = &self.reloads;
        if success { succeeded } else { failed }.inc();
    }

    /// Says when the serving certificate that is in force expires.
    pub fn serving_certificate(&self, expires: Option<SystemTime>) {
        let since = expires.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        self.serving_certificate.set(since.and_then(|d| i64::try_from(d.as_secs()).ok()).unwrap_or(0));
    }

    /// Says how many rights the gate's own account has that it does not need.
    pub fn account_excess_rights(&self, count: usize) {
        self.account_excess_rights.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Says whether a part of the gate is on; `part` is one of a fixed set of words such as `anonymous`.
    pub fn enabled(&self, part: &'static str, on: bool) {
        self.enabled.with_label_values(&[part]).set(i64::from(on));
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests;
