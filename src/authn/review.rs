//! TokenReview: somebody else is asked whose token it is, the upstream or a webhook (`authentication.k8s.io/v1`).

use super::{Authenticated, metrics::Metrics};
use crate::cluster::Cluster;
use std::{path::PathBuf, sync::Arc, time::Duration};

/// Who is asked, and for how long the answer holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Config {
    /// Who is asked.
    pub to: To,
    /// One of these must be among those that the answer names; empty: audiences are not asked about.
    pub audiences: Vec<String>,
    /// kube-apiserver's --authentication-token-webhook-cache-ttl, for both outcomes.
    pub cache_ttl: Duration,
    /// Whether names and groups that begin with `system:` are believed. Always so of the upstream: it is the cluster.
    pub allow_system_identities: bool,
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum To {
    /// The upstream, by the gate's own account.
    Upstream,
    /// The server of a kubeconfig.
    Webhook {
        /// The kubeconfig.
        kubeconfig: PathBuf,
        /// Which of its contexts; None: its current one.
        context: Option<String>,
    },
}

/// The authenticator, with the answers it remembers.
#[derive(Debug)]
pub(super) struct Review {}

impl Review {
    /// Asks `cluster`.
    pub(super) fn new(config: Config, cluster: Arc<Cluster>, metrics: Arc<Metrics>) -> Arc<Self> {
        let _ = (config, cluster, metrics);
        todo!()
    }

    /// Whose token it is. Remembered; several callers who ask about one token at once make one call.
    pub(super) async fn authenticate(&self, token: &str) -> Result<Option<Authenticated>, String> {
        let _ = token;
        todo!()
    }
}
