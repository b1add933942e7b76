//! What authentication counts: kube-apiserver's names where the meaning is the same.
//!
//! No label holds anything of a caller. Issuers are named by the hash of their URL, as kube-apiserver does it, and only
//! those of the configuration are.

use super::Method;
use aws_lc_rs::digest;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};
use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// Of the process; outlives reloads.
#[derive(Debug)]
pub struct Metrics {
    /// None: counts nowhere.
    counted: Option<Counted>,
}

#[derive(Debug)]
struct Counted {
    durations: [Histogram; 3],
    succeeded: [IntCounter; METHODS.len()],
    failed: [IntCounter; By::ALL.len()],
    limited: IntCounter,
    cache_requests: [IntCounter; 2],
    cache_misses: Histogram,
    fetches: [IntCounter; 2],
    fetching: IntGauge,
    blocked: IntGauge,
    reviews: Histogram,
    review_errors: IntCounter,
    key_fetches: IntCounterVec,
    key_fetched_at: IntGaugeVec,
    /// How many hold each issuer's [`KeyFetches`].
    issuers: Mutex<HashMap<String, usize>>,
}

/// Who refused a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    FrontProxy,
    X509,
    ServiceAccount,
    Jwt,
    TokenReview,
    /// A token that nobody knew, or that is none.
    Bearer,
    /// There was no credential.
    Nothing,
}

/// Somebody waits for what is not in the cache.
pub(super) struct Miss<'a> {
    counted: Option<(&'a Counted, Instant)>,
}

/// A token is judged.
pub(super) struct Fetch<'a> {
    counted: Option<&'a Counted>,
}

/// Where the fetches of one issuer's keys are counted. Nothing of the issuer is left when the last one goes.
#[derive(Debug)]
pub(super) struct KeyFetches {
    metrics: Arc<Metrics>,
    issuer: String,
    counters: Option<[(IntCounter, IntGauge); 2]>,
}

/// In the order of the type.
const METHODS: [Method; 7] = [
    Method::FrontProxy,
    Method::X509,
    Method::TokenFile,
    Method::ServiceAccount,
    Method::Jwt,
    Method::TokenReview,
    Method::Anonymous,
];

const KEY_LABELS: [&str; 2] = ["result", "jwt_issuer_hash"];
const RESULTS: [&str; 2] = ["success", "failure"];

/// A first answer of a webhook may take seconds; the last bucket is the longest that is waited for one.
const REVIEW_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

impl Metrics {
    /// Counts nowhere.
    pub fn unregistered() -> Arc<Self> {
        Arc::new(Self { counted: None })
    }

    /// Creates and registers everything; an error is a name registered twice, which is a mistake in the program.
    pub fn new(registry: &Registry) -> Result<Arc<Self>, prometheus::Error> {
        Ok(Arc::new(Self { counted: Some(Counted::new(registry)?) }))
    }

    /// An attempt to authenticate has ended after this time: somebody was known by this method.
    pub(super) fn succeeded(&self, method: Method, took: Duration) {
        if let Some(counted) = &self.counted {
            counted.succeeded[method as usize].inc();
            counted.durations[0].observe(took.as_secs_f64());
        }
    }

    /// An attempt to authenticate has ended after this time: there was no credential, or one was `rejected`.
    pub(super) fn refused(&self, rejected: bool, took: Duration) {
        if let Some(counted) = &self.counted {
            if !rejected {
                self.failed(By::Nothing);
            }
            counted.durations[if rejected { 2 } else { 1 }].observe(took.as_secs_f64());
        }
    }

    /// A credential was refused; one attempt may count several times, once for each who refused.
    pub(super) fn failed(&self, by: By) {
        if let Some(counted) = &self.counted {
            counted.failed[by as usize].inc();
        }
    }

    /// An attempt was not looked at because too many before it have failed.
    pub(super) fn limited(&self) {
        if let Some(counted) = &self.counted {
            counted.limited.inc();
        }
    }

    /// A token was found in the cache.
    pub(super) fn hit(&self) {
        if let Some(counted) = &self.counted {
            counted.cache_requests[0].inc();
        }
    }

    /// A token was not found in the cache; somebody waits until the guard is dropped.
    pub(super) fn miss(&self) -> Miss<'_> {
        let counted = self.counted.as_ref();
        if let Some(counted) = counted {
            counted.blocked.inc();
        }
        Miss { counted: counted.map(|counted| (counted, Instant::now())) }
    }

    /// A token is judged until the guard is dropped.
    pub(super) fn fetch(&self) -> Fetch<'_> {
        let counted = self.counted.as_ref();
        if let Some(counted) = counted {
            counted.fetching.inc();
        }
        Fetch { counted }
    }

    /// A TokenReview was answered, or was not, after this time.
    pub(super) fn reviewed(&self, took: Duration, answered: bool) {
        if let Some(counted) = &self.counted {
            counted.reviews.observe(took.as_secs_f64());
            if !answered {
                counted.review_errors.inc();
            }
        }
    }

    /// Where the fetches of this issuer's keys are counted; `issuer` is out of the configuration, never out of a token.
    pub(super) fn key_fetches(self: &Arc<Self>, issuer: &str) -> KeyFetches {
        let issuer = hash(issuer);
        let counters = self.counted.as_ref().map(|counted| {
            let mut issuers = counted.issuers.lock().unwrap_or_else(PoisonError::into_inner);
            *issuers.entry(issuer.clone()).or_default() += 1;
            RESULTS.map(|result| {
                let labels = [result, &issuer];
                (
                    counted.key_fetches.with_label_values(&labels),
                    counted.key_fetched_at.with_label_values(&labels),
                )
            })
        });
        KeyFetches { metrics: self.clone(), issuer, counters }
    }
}

impl Counted {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let make = Make { registry };
        let attempts = make.counters(
            "gatelog_authentication_attempts_total",
            "Credentials judged, by method and result; a request may bring several.",
            &["method", "result"],
        )?;
        let durations = make.histograms(
            "authentication_duration_seconds",
            "Time to authenticate, by how it ended.",
            "result",
            prometheus::exponential_buckets(0.001, 2.0, 15)?,
        )?;
        let cache_requests = make.counters(
            "authentication_token_cache_request_total",
            "Tokens looked up in the cache, by what was found.",
            &["status"],
        )?;
        let cache_durations = make.histograms(
            "authentication_token_cache_request_duration_seconds",
            "Time until a token that was not in the cache was known or refused; hits are not timed.",
            "status",
            prometheus::DEFAULT_BUCKETS.to_vec(),
        )?;
        let fetches = make.counters(
            "authentication_token_cache_fetch_total",
            "Tokens judged because the cache did not hold them, by how that ended.",
            &["status"],
        )?;
        let active = make.gauges(
            "authentication_token_cache_active_fetch_count",
            "Tokens judged now (in_flight), and requests that wait for it (blocked).",
            &["status"],
        )?;
        Ok(Self {
            durations: ["success", "failure", "error"].map(|l| durations.with_label_values(&[l])),
            succeeded: METHODS.map(|method| attempts.with_label_values(&[method.as_str(), "success"])),
            failed: By::ALL.map(|by| attempts.with_label_values(&by.labels())),
            limited: make.counter(
                "gatelog_authentication_limited_total",
                "Tokens that were not looked at because too many of their source have failed.",
            )?,
            cache_requests: ["hit", "miss"].map(|l| cache_requests.with_label_values(&[l])),
            cache_misses: cache_durations.with_label_values(&["miss"]),
            fetches: ["ok", "error"].map(|l| fetches.with_label_values(&[l])),
            fetching: active.with_label_values(&["in_flight"]),
            blocked: active.with_label_values(&["blocked"]),
            reviews: make.keep(Histogram::with_opts(
                HistogramOpts::new(
                    "gatelog_token_review_duration_seconds",
                    "From asking for a TokenReview to its answer, all attempts together.",
                )
                .buckets(REVIEW_BUCKETS.to_vec()),
            )?)?,
            review_errors: make.counter(
                "gatelog_token_review_errors_total",
                "TokenReviews without an answer that could be used.",
            )?,
            key_fetches: make.counters(
                "gatelog_issuer_key_fetches_total",
                "Attempts to fetch an issuer's keys, by result.",
                &KEY_LABELS,
            )?,
            key_fetched_at: make.gauges(
                "apiserver_authentication_jwt_authenticator_jwks_fetch_last_timestamp_seconds",
                "When an issuer's keys were last fetched, or that last failed, in seconds since 1970.",
                &KEY_LABELS,
            )?,
            issuers: Mutex::default(),
        })
    }
}

/// Creates and registers.
struct Make<'a> {
    registry: &'a Registry,
}

impl Make<'_> {
    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.keep(IntCounter::new(name, help)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        label: &str,
        buckets: Vec<f64>,
    ) -> Result<HistogramVec, prometheus::Error> {
        self.keep(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &[label])?)
    }

    fn keep<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }
}

impl By {
    const ALL: [Self; 7] = [
        Self::FrontProxy,
        Self::X509,
        Self::ServiceAccount,
        Self::Jwt,
        Self::TokenReview,
        Self::Bearer,
        Self::Nothing,
    ];

    const fn labels(self) -> [&'static str; 2] {
        match self {
            Self::FrontProxy => [Method::FrontProxy.as_str(), "error"],
            Self::X509 => [Method::X509.as_str(), "error"],
            Self::ServiceAccount => [Method::ServiceAccount.as_str(), "error"],
            Self::Jwt => [Method::Jwt.as_str(), "error"],
            Self::TokenReview => [Method::TokenReview.as_str(), "error"],
            Self::Bearer => ["bearer", "error"],
            Self::Nothing => ["none", "failure"],
        }
    }
}

impl Drop for Miss<'_> {
    fn drop(&mut self) {
        if let Some((counted, since)) = self.counted {
            counted.blocked.dec();
            counted.cache_requests[1].inc();
            counted.cache_misses.observe(since.elapsed().as_secs_f64());
        }
    }
}

impl Fetch<'_> {
    /// The token was judged, or that was not possible.
    pub(super) fn done(self, judged: bool) {
        if let Some(counted) = self.counted {
            counted.fetches[usize::from(!judged)].inc();
        }
    }
}

impl Drop for Fetch<'_> {
    fn drop(&mut self) {
        if let Some(counted) = self.counted {
            counted.fetching.dec();
        }
    }
}

impl KeyFetches {
    /// The keys were fetched, or that failed.
    pub(super) fn fetched(&self, success: bool) {
        if let Some((fetches, at)) = self.counters.as_ref().map(|counters| &counters[usize::from(!success)]) {
            fetches.inc();
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            at.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        }
    }
}

impl Drop for KeyFetches {
    fn drop(&mut self) {
        let Some(counted) = &self.metrics.counted else { return };
        let mut issuers = counted.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(holders) = issuers.get_mut(&self.issuer) else { return };
        *holders -= 1;
        if *holders == 0 {
            issuers.remove(&self.issuer);
            for result in RESULTS {
                // An error says that it was gone already.
                let _ = counted.key_fetches.remove_label_values(&[result, &self.issuer]);
                let _ = counted.key_fetched_at.remove_label_values(&[result, &self.issuer]);
            }
        }
    }
}

/// kube-apiserver's `jwt_issuer_hash`.
fn hash(issuer: &str) -> String {
    let mut text = "sha256:".to_owned();
    for byte in digest::digest(&digest::SHA256, issuer.as_bytes()).as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests;
