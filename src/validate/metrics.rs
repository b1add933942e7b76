//! What validation found, counted.

use super::{Finding, Invalid};
use prometheus::{IntCounterVec, Opts, Registry};

/// Counters of what was found.
#[derive(Debug, Clone)]
pub struct Metrics {
    findings: IntCounterVec,
}

impl Metrics {
    /// Registered.
    ///
    /// # Errors
    /// Two metrics of one name: a defect.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new(
            "gatelog_validation_findings_total",
            "Requests found not to be well formed, by part, rule and outcome (refused, warned, passed).",
        );
        let findings = IntCounterVec::new(opts, &["part", "rule", "outcome"])?;
        registry.register(Box::new(findings.clone()))?;
        Ok(Self { findings })
    }

    pub(super) fn refused(&self, invalid: &Invalid) {
        self.findings.with_label_values(&[invalid.part.as_str(), invalid.rule, "refused"]).inc();
    }

    pub(super) fn warned(&self, finding: &Finding) {
        self.findings.with_label_values(&[finding.part.as_str(), finding.rule, "warned"]).inc();
    }

    /// An object whose fields were not looked at: nothing is wrong with it as far as is known.
    pub(super) fn envelope_only(&self) {
        self.findings.with_label_values(&["objects", "envelope-only", "passed"]).inc();
    }
}
