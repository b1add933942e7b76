//! What the cluster serves on its way into validation and into `/readyz`.

use crate::{
    gateway::Gateway,
    telemetry::health::State,
    validate::catalog::{self, Catalog, Standing},
};
use std::sync::Arc;

/// Follows the upstream's API until dropped.
pub(super) async fn follow(catalog: Arc<Catalog>, gateway: Arc<Gateway>, state: State) {
    let endpoint = move || gateway.snapshot().forward.endpoint().clone();
    let tell = move |standing: &Standing| match standing {
        Standing::Fresh => state.ok(),
        Standing::Stale(why) | Standing::Unknown(why) => state.impaired(why),
    };
    catalog::follow(catalog, endpoint, tell).await;
}
