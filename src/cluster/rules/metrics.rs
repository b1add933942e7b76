//! What following the cluster's rules counts.

use super::{Standing, store::Store};
use crate::rbac::live::Kind;
use prometheus::{Histogram, HistogramOpts, IntGauge, IntGaugeVec, Opts, Registry, core::Collector};
use std::time::Duration;

/// A handful of bindings, to hundreds of thousands.
const BUILD_BUCKETS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];

/// Of the process.
#[derive(Debug, Clone)]
pub struct Metrics {
    synced: IntGauge,
    in_force: IntGauge,
    lost: IntGauge,
    objects: IntGaugeVec,
    skipped: IntGaugeVec,
    builds: Histogram,
}

impl Metrics {
    /// Creates and registers everything; an error is a name registered twice, which is a mistake in the program.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name, help| register(registry, IntGauge::new(name, help)?);
        let by_kind = |name, help| register(registry, IntGaugeVec::new(Opts::new(name, help), &["kind"])?);
        let builds = HistogramOpts::new(
            "gatelog_cluster_rules_build_seconds",
            "From changed roles and bindings to rules that decisions are made by; the count is that of the rebuilds.",
        );
        let objects =
            by_kind("gatelog_cluster_rules_objects", "Roles and bindings of the cluster, by kind.")?;
        let skipped = by_kind(
            "gatelog_cluster_rules_skipped_objects",
            "Roles and bindings of which something is not understood and grants nothing, by kind.",
        )?;
        for kind in Kind::ALL {
            objects.with_label_values(&[kind.name()]).set(0);
            skipped.with_label_values(&[kind.name()]).set(0);
        }
        Ok(Self {
            synced: gauge(
                "gatelog_cluster_rules_synced",
                "Whether the cluster's rules are known and followed (1), or not (0).",
            )?,
            in_force: gauge(
                "gatelog_cluster_rules_in_force",
                "Whether what the cluster's rules allow is allowed (1): not before they are known, nor when they were lost for too long.",
            )?,
            lost: gauge(
                "gatelog_cluster_rules_lost_seconds",
                "For how long it has not been known that the cluster's rules are up to date; 0 while they are followed.",
            )?,
            objects,
            skipped,
            builds: register(registry, Histogram::with_opts(builds.buckets(BUILD_BUCKETS.to_vec()))?)?,
        })
    }

    pub(super) fn standing(&self, standing: &Standing, age: Duration) {
        let (synced, in_force) = match standing {
            Standing::Unknown(_) | Standing::Refused(_) => (0, 0),
            Standing::Current => (1, 1),
            Standing::Kept(_) => (0, 1),
        };
        self.synced.set(synced);
        self.in_force.set(in_force);
        let lost = if matches!(standing, Standing::Current) { 0 } else { age.as_secs() };
        self.lost.set(i64::try_from(lost).unwrap_or(i64::MAX));
    }

    pub(super) fn built(&self, store: &Store, took: Duration) {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        for kind in Kind::ALL {
            let (objects, skipped) = store.counts(kind);
            self.objects.with_label_values(&[kind.name()]).set(number(objects));
            self.skipped.with_label_values(&[kind.name()]).set(number(skipped));
        }
        self.builds.observe(took.as_secs_f64());
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
