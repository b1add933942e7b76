//! What is counted of the tree.

use super::{Signed, feed::Feed};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntGauge, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use tokio::sync::watch;

/// What the tree's thread counts.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    pub(super) failures: IntCounter,
    pub(super) duration: Histogram,
    pub(super) held: IntGauge,
}

impl Metrics {
    /// `head`: the last checkpoint.
    pub(super) fn register(
        registry: &Registry,
        head: watch::Receiver<Signed>,
        feed: Feed,
    ) -> prometheus::Result<Self> {
        let this = Self {
            failures: IntCounter::new(
                "gatelog_audit_checkpoint_failures_total",
                "Attempts to write the tree of the audit journal and its checkpoint that failed.",
            )?,
            duration: Histogram::with_opts(
                HistogramOpts::new(
                    "gatelog_audit_checkpoint_duration_seconds",
                    "Time that it took to write the tree of the audit journal and to sign its checkpoint.",
                )
                .buckets(vec![0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0]),
            )?,
            held: IntGauge::new(
                "gatelog_audit_held_segments",
                "Segments of the audit journal that are over its limits and stay until a sink has taken them.",
            )?,
        };
        registry.register(Box::new(this.failures.clone()))?;
        registry.register(Box::new(this.duration.clone()))?;
        registry.register(Box::new(this.held.clone()))?;
        registry.register(Box::new(OfHead::new(head, feed)?))?;
        Ok(this)
    }
}

/// Size and root together: a scrape that had them of two checkpoints would prove nothing.
struct OfHead {
    head: watch::Receiver<Signed>,
    feed: Feed,
    size: IntGauge,
    root: IntGauge,
    time: IntGauge,
    unsigned: IntGauge,
}

impl OfHead {
    fn new(head: watch::Receiver<Signed>, feed: Feed) -> prometheus::Result<Self> {
        Ok(Self {
            head,
            feed,
            size: IntGauge::new(
                "gatelog_audit_tree_size",
                "Leaves of the tree of the audit journal, as they were signed.",
            )?,
            root: IntGauge::new(
                "gatelog_audit_tree_root",
                "The first 52 bits of the signed root hash of that tree, as a number.",
            )?,
            time: IntGauge::new(
                "gatelog_audit_checkpoint_timestamp_seconds",
                "When the last checkpoint was signed, in seconds since 1970.",
            )?,
            unsigned: IntGauge::new(
                "gatelog_audit_unsigned_events",
                "Events of the audit journal that are on the disk and that no checkpoint covers yet.",
            )?,
        })
    }

    fn gauges(&self) -> [&IntGauge; 4] {
        [&self.size, &self.root, &self.time, &self.unsigned]
    }
}

impl Collector for OfHead {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let signed = self.head.borrow();
        let [a, b, c, d, e, f, g, ..] = signed.head.root.0;
        self.size.set(number(signed.head.size));
        // As many bits as a sample, which is a float, can hold.
        self.root.set(number(u64::from_be_bytes([0, a, b, c, d, e, f, g]) >> 4));
        self.time.set(number(signed.time));
        self.unsigned.set(number(self.feed.unsigned()));
        self.gauges().into_iter().flat_map(Collector::collect).collect()
    }
}
