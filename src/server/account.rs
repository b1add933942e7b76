//! Once, after the start: does the gate's own account hold what it needs, and nothing else? What is found is said; nothing
//! waits for it, and nothing fails for it.

use crate::{
    authn::{ReviewBy, ReviewTokens},
    cluster::{Cluster, Findings, Needs, Rights},
    config::Config,
    gateway::Gateway,
    telemetry::Health,
};
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

/// Seconds between attempts; an API server that starts beside the gate is there by then.
const PAUSES: [u64; 6] = [1, 2, 5, 10, 30, 60];

/// Lines in the log.
const TOLD: usize = 20;

/// What the configuration takes.
pub(super) fn needs(config: &Config) -> Needs {
    let by_upstream = config.authn.review.as_ref().is_some_and(|review| review.to == ReviewBy::Upstream);
    let of_accounts = config.authn.service_account.as_ref().map(|accounts| accounts.review);
    Needs {
        rules: config.authz.cluster.is_some(),
        token_reviews: by_upstream || of_accounts.is_some_and(|review| review != ReviewTokens::Never),
    }
}

/// Asks until there is an answer, or a few times.
pub(super) async fn check(gateway: Arc<Gateway>, needs: Needs, health: Arc<Health>) {
    let mut pauses = PAUSES.into_iter().map(Duration::from_secs);
    let rights = loop {
        let cluster = Cluster::new(gateway.snapshot().forward.endpoint().clone());
        match (cluster.own_rights().await, pauses.next()) {
            (Ok(rights), _) => break rights,
            (Err(problem), Some(pause)) => {
                tracing::debug!("the gate's own account cannot be checked yet: {problem}");
                sleep(pause).await;
            }
            (Err(problem), None) => {
                tracing::warn!("what the gate's own account may do could not be checked: {problem}");
                return;
            }
        }
    };
    let findings = rights.against(needs);
    gateway.metrics().account_excess_rights(findings.excess.len());
    tell(&rights, &findings);
    if !findings.excess.is_empty() {
        let what = if findings.excess.len() == 1 { "a right" } else { "rights" };
        health.note(format!("the gate's own account has {what} that it does not need, see the log"));
    }
    tracing::debug!(account = rights.name, "the gate's own account has been checked");
}

fn tell(rights: &Rights, findings: &Findings) {
    let account = &rights.name;
    for right in findings.excess.iter().take(TOLD) {
        tracing::warn!(account, right, "the gate's own account has a right that it does not need");
    }
    if let Some(more) = findings.excess.len().checked_sub(TOLD).filter(|more| *more > 0) {
        tracing::warn!(account, "the gate's own account has {more} more rights that it does not need");
    }
    for right in &findings.missing {
        tracing::warn!(account, right, "the gate's own account lacks a right that it needs");
    }
    for what in &rights.unknown {
        tracing::warn!(account, "the gate's own account is not wholly checked: {what}");
    }
}
