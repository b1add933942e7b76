//! What the catalogue holds, and how often it could not tell.

use super::Served;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use std::time::Duration;

/// Counters and gauges of the catalogue.
#[derive(Debug, Clone)]
pub struct Metrics {
    unsure: IntCounterVec,
    failures: IntCounterVec,
    groups: IntGauge,
    resources: IntGauge,
    bytes: IntGauge,
    age: IntGauge,
    documents: IntGauge,
    document_bytes: IntGauge,
}

/// Why a request passes to the upstream whose path could not be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsure {
    /// Nothing has been listed yet, or too long ago.
    Unknown,
    /// Who serves the group does not answer.
    Stale,
    /// The group's API server is free to serve what it does not list.
    Unlisted,
    /// The cluster was asked often enough, or too many requests wait.
    Limited,
    /// The cluster did not answer.
    Failed,
    /// The request has no time for a second look, or nobody would refuse it.
    Hurry,
    /// No group or version can be called so.
    Odd,
}

impl Unsure {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Stale => "stale",
            Self::Unlisted => "unlisted",
            Self::Limited => "limited",
            Self::Failed => "failed",
            Self::Hurry => "hurry",
            Self::Odd => "odd",
        }
    }
}

impl Metrics {
    /// Registered.
    ///
    /// # Errors
    /// Two metrics of one name: a defect.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self::unregistered()?;
        registry.register(Box::new(metrics.unsure.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        let Self { groups, resources, bytes, age, documents, document_bytes, .. } = metrics.clone();
        for gauge in [groups, resources, bytes, age, documents, document_bytes] {
            registry.register(Box::new(gauge))?;
        }
        Ok(metrics)
    }

    fn unregistered() -> Result<Self, prometheus::Error> {
        let counters =
            |name: &str, help: &str, label: &str| IntCounterVec::new(Opts::new(name, help), &[label]);
        Ok(Self {
            unsure: counters(
                "gatelog_validation_unsure_total",
                "Requests passed to the upstream because the catalogue could not tell whether it serves them, by reason.",
                "reason",
            )?,
            failures: counters(
                "gatelog_catalog_failures_total",
                "Questions about the upstream's API that were not answered, by what was asked for.",
                "what",
            )?,
            groups: IntGauge::new("gatelog_catalog_groups", "API groups in the catalogue.")?,
            resources: IntGauge::new(
                "gatelog_catalog_resources",
                "Resources in the catalogue, in each of their versions.",
            )?,
            bytes: IntGauge::new("gatelog_catalog_bytes", "About how much memory the catalogue takes.")?,
            age: IntGauge::new(
                "gatelog_catalog_age_seconds",
                "Since when the catalogue has not been known to hold.",
            )?,
            documents: IntGauge::new(
                "gatelog_catalog_documents",
                "OpenAPI documents whose schemas are held.",
            )?,
            document_bytes: IntGauge::new(
                "gatelog_catalog_document_bytes",
                "How long the OpenAPI documents were that are held.",
            )?,
        })
    }

    pub(super) fn unsure(&self, why: Unsure) {
        self.unsure.with_label_values(&[why.as_str()]).inc();
    }

    #[cfg(test)]
    pub(super) fn count(&self, why: Unsure) -> u64 {
        self.unsure.with_label_values(&[why.as_str()]).get()
    }

    pub(super) fn failed(&self, what: &str) {
        self.failures.with_label_values(&[what]).inc();
    }

    pub(super) fn listed(&self, served: Option<&Served>) {
        let (groups, resources) = served.map(Served::counts).unwrap_or_default();
        self.groups.set(number(groups));
        self.resources.set(number(resources));
        self.bytes.set(number(served.map_or(0, Served::bytes)));
    }

    pub(super) fn age(&self, age: Duration) {
        self.age.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    }

    pub(super) fn documents(&self, documents: usize, bytes: usize) {
        self.documents.set(number(documents));
        self.document_bytes.set(number(bytes));
    }
}

fn number(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
