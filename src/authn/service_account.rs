//! Tokens of service accounts, verified here against the cluster's issuer keys (`k8s.io/kubernetes pkg/serviceaccount`).
//!
//! What cannot be known here is whether the account, pod or secret that a token is bound to still exists; an operator who
//! wants to see revocation asks for a TokenReview as well.

use super::{Authenticated, jwt::Jws, keys, review::Review};
use crate::{cluster::Cluster, pem::File};
use std::{path::PathBuf, sync::Arc, time::SystemTime};

/// Which tokens are believed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Config {
    /// kube-apiserver's --service-account-issuer; at least one.
    pub issuers: Vec<String>,
    /// PEM public keys; empty: fetched from the upstream.
    pub key_files: Vec<PathBuf>,
    /// kube-apiserver's --api-audiences; empty: the issuers.
    pub audiences: Vec<String>,
    /// Which tokens the upstream is asked about as well.
    pub review: ReviewTokens,
}

/// Which tokens the upstream is asked about as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ReviewTokens {
    /// None: a deleted account's token is good until it expires.
    #[default]
    Never,
    /// Those bound to a pod, secret or node.
    Bound,
    /// All.
    Always,
}

/// The authenticator.
#[derive(Debug)]
pub(super) struct ServiceAccounts {}

impl ServiceAccounts {
    /// `files`: the key files; `upstream`: where keys are fetched and tokens reviewed.
    pub(super) fn new(
        config: &Config,
        files: &[File],
        keys: keys::Config,
        upstream: Option<&Arc<Cluster>>,
        review: Option<Arc<Review>>,
        before: Option<&Self>,
    ) -> Result<Self, Vec<String>> {
        let _ = (config, files, keys, upstream, review, before);
        todo!()
    }

    /// Begins to fetch keys.
    pub(super) fn start(&self) {
        todo!()
    }

    /// Whether there are keys.
    pub(super) fn health(&self) -> Result<(), String> {
        todo!()
    }

    /// Whose token it is; no opinion on tokens of other issuers. `raw` is the whole token, for a review.
    pub(super) async fn authenticate(
        &self,
        token: &Jws<'_>,
        raw: &str,
        now: SystemTime,
    ) -> Result<Option<Authenticated>, String> {
        let _ = (token, raw, now);
        todo!()
    }
}
