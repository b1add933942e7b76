//! What the record counts of itself; the tree and the sinks have figures of their own.

use super::event::Level;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use std::time::Duration;

/// Counters under kube-apiserver's names where it has them.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    pub(super) events: IntCounter,
    pub(super) levels: [IntCounter; 4],
    /// Of the journal, and of every part.
    pub(super) errors: IntCounter,
    pub(super) plugins: IntCounterVec,
    pub(super) rejected: IntCounter,
    pub(super) queue_bytes: IntGauge,
    pub(super) queue_events: IntGauge,
    pub(super) sync_seconds: Histogram,
    pub(super) sync_lines: Histogram,
    pub(super) disk_errors: IntCounter,
    pub(super) lost: IntCounter,
    pub(super) suppressed: IntCounter,
}

// === impl Metrics ===

impl Metrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name, help| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let vec = |name, help, label| -> prometheus::Result<IntCounterVec> {
            let vec = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(vec.clone()))?;
            Ok(vec)
        };
        let levels =
            vec("apiserver_audit_level_total", "Requests by the level the audit policy gave them.", "level")?;
        let queue_bytes = IntGauge::new(
            "gatelog_audit_queue_bytes",
            "Bytes that audit events take in memory, places held for last events included.",
        )?;
        registry.register(Box::new(queue_bytes.clone()))?;
        let queue_events =
            IntGauge::new("gatelog_audit_queue_events", "Audit events that wait to be written.")?;
        registry.register(Box::new(queue_events.clone()))?;
        let histogram = |name, help, first, factor, count| -> prometheus::Result<Histogram> {
            let buckets = prometheus::exponential_buckets(first, factor, count)?;
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        let plugins = vec(
            "apiserver_audit_error_total",
            "Failures to keep an audit event, by the part that failed.",
            "plugin",
        )?;
        Ok(Self {
            events: counter("apiserver_audit_event_total", "Audit events made.")?,
            levels: Level::ALL.map(|level| levels.with_label_values(&[level.as_str()])),
            errors: plugins.with_label_values(&["journal"]),
            plugins,
            rejected: counter(
                "apiserver_audit_requests_rejected_total",
                "Requests refused because their audit events could not be kept.",
            )?,
            queue_bytes,
            queue_events,
            sync_seconds: histogram(
                "gatelog_audit_sync_duration_seconds",
                "Time that one sync of the audit journal took.",
                0.0001,
                2.0,
                16,
            )?,
            sync_lines: histogram(
                "gatelog_audit_sync_batch_events",
                "Audit events that one sync of the journal was for.",
                1.0,
                2.0,
                16,
            )?,
            disk_errors: counter(
                "gatelog_audit_disk_errors_total",
                "Writes and syncs of the audit journal that failed.",
            )?,
            lost: counter("gatelog_audit_lost_events_total", "Audit events that could not be kept.")?,
            suppressed: counter(
                "gatelog_audit_suppressed_events_total",
                "Requests without authentication that left no audit event of their own.",
            )?,
        })
    }

    /// What is queued at the moment.
    pub(super) fn queue(&self, bytes: usize, events: usize) {
        self.queue_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.queue_events.set(i64::try_from(events).unwrap_or(i64::MAX));
    }

    /// A sync that was for so many lines.
    pub(super) fn synced(&self, lines: usize, took: Duration) {
        self.sync_seconds.observe(took.as_secs_f64());
        self.sync_lines.observe(lines as f64);
    }

    /// For tests that look at no metric.
    #[cfg(test)]
    pub(super) fn unregistered() -> Self {
        Self::register(&Registry::new()).unwrap()
    }
}
