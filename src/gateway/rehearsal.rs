//! What is told of rules that do not count, or do not count yet: where a candidate would have decided otherwise, and what was
//! refused and forwarded all the same. It goes into the record whatever the policy says, for it is what was asked for.

use super::Way;
use crate::{
    authz::{Refused, Rehearsed},
    telemetry::metrics::Authorization,
};
use std::sync::Arc;

impl Way {
    /// Notes what the candidate says to a decision.
    pub(super) fn rehearsed(&mut self, said: &Rehearsed) {
        if let Some((enforced, shadow)) = said.outcome() {
            self.metrics.shadow(enforced, shadow);
        }
        let Some(other) = said.difference() else { return };
        self.shadow = Some(match self.shadow.take() {
            Some(first) => format!("{first}; {other}"),
            None => other,
        });
    }

    /// All decisions are made.
    pub(super) fn tell_shadow(&mut self) {
        if let (Some(shadow), Some(user)) = (&self.shadow, &self.user) {
            self.trail.annotate("gatelog.dev/shadow", shadow.clone());
            self.trail.insist(user);
        }
    }

    /// The rules refuse it, and it is forwarded all the same.
    pub(super) fn observed(&mut self, refused: &Arc<Refused>) {
        self.metrics.authorization(Authorization::NoOpinion);
        self.metrics.observed_refusals.inc();
        self.trail.annotate("gatelog.dev/observed", refused.whole.clone());
        if let Some(user) = &self.user {
            self.trail.insist(user);
        }
        self.observed = Some(refused.clone());
    }

    /// What the caller is warned of: the refusal that was not carried out.
    pub(super) fn observation(&self) -> Option<String> {
        self.observed.as_ref().map(|refused| refused.warning())
    }
}
