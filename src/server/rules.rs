//! The cluster's rules on their way into decisions and into `/readyz`.

use crate::{
    authz::{self, Live, OnLoss},
    cluster::rules::{self, Config, Metrics, Standing},
    gateway::Gateway,
    rbac::Rules,
    reload::Reloader,
    telemetry::health::State,
};
use std::sync::Arc;

/// Follows the upstream's rules until dropped.
pub(super) async fn follow(
    cluster: authz::Cluster,
    gateway: Arc<Gateway>,
    reloader: Arc<Reloader>,
    state: State,
    metrics: Metrics,
) {
    let config = Config { max_age: cluster.max_age, keep: cluster.on_loss == OnLoss::Keep };
    let endpoint = move || gateway.snapshot().forward.endpoint().clone();
    let tell = move |standing: &Standing, rules: Option<&Arc<Rules>>| {
        let live = match rules {
            Some(rules) => Live::Known(rules.clone()),
            None => Live::Unknown(standing.why().into()),
        };
        let ended = reloader.set_live(live);
        if ended > 0 {
            tracing::info!(streams_ended = ended, "the cluster's rules no longer allow open streams");
        }
        match standing {
            Standing::Current => state.ok(),
            Standing::Kept(why) => state.impaired(why),
            Standing::Unknown(why) | Standing::Refused(why) => state.failed(why),
        }
    };
    rules::follow(config, endpoint, metrics, tell).await;
}
