//! The keys of an issuer as they change: fetched ahead of time, kept while the issuer cannot be reached, fetched again
//! (not too often) when a token names a key that is not known.

use super::jwt::key::KeySet;
use crate::{client::Roots, cluster::Cluster};
use std::{sync::Arc, time::Duration};

/// How keys are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Config {
    /// Between two fetches.
    pub refresh_interval: Duration,
    /// Keys older than this are not used any more.
    pub max_age: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { refresh_interval: Duration::from_secs(600), max_age: Duration::from_secs(24 * 3600) }
    }
}

/// Where an issuer publishes its keys.
#[derive(Debug)]
pub(super) enum Source {
    /// OpenID Connect discovery.
    Discovery {
        /// As tokens and the document spell it.
        issuer: String,
        /// Where the document is, if not below the issuer.
        url: Option<String>,
        roots: Roots,
    },
    /// `/openid/v1/jwks` of the upstream.
    Upstream(Arc<Cluster>),
    /// Key files.
    Fixed(Arc<KeySet>),
}

/// The live keys of one issuer. The fetching stops when the last holder lets go.
#[derive(Debug)]
pub(super) struct Keys {}

impl Keys {
    /// Nothing is fetched before [`Keys::start`].
    ///
    /// # Errors
    /// Roots that cannot be used.
    pub(super) fn new(source: Source, config: Config) -> Result<Arc<Self>, String> {
        let _ = (source, config);
        todo!()
    }

    /// Begins to fetch, on the current runtime. Once is enough, twice does no harm.
    pub(super) fn start(self: &Arc<Self>) {
        todo!()
    }

    /// The keys, unless none have been fetched yet or they are too old; the error says why.
    pub(super) fn current(&self) -> Result<Arc<KeySet>, String> {
        todo!()
    }

    /// Fetches again because a token names an unknown key; None when that was done a moment ago, or failed.
    pub(super) async fn newer_than(&self, known: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        let _ = known;
        todo!()
    }

    /// Whether there are keys to verify with; the error says why not, for `/readyz/<check>`.
    pub(super) fn health(&self) -> Result<(), String> {
        self.current().map(drop)
    }
}
