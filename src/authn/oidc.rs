//! Structured authentication: the JWT issuers of an AuthenticationConfiguration (`k8s.io/apiserver
//! plugin/pkg/authenticator/token/oidc`).

pub(super) mod cel;
pub(super) mod config;

use super::{Authenticated, IssuerSettings, jwt::Jws, keys};
use config::Issuer;
use std::{sync::Arc, time::SystemTime};

/// All issuers of the file.
#[derive(Debug)]
pub(super) struct Oidc {}

impl Oidc {
    /// Keys of issuers that `before` has as well, fetched the same way, are taken over.
    pub(super) fn new(
        issuers: Vec<Issuer>,
        settings: &[IssuerSettings],
        keys: keys::Config,
        before: Option<&Self>,
    ) -> Result<Self, Vec<String>> {
        let _ = (issuers, settings, keys, before);
        todo!()
    }

    /// Begins to fetch keys.
    pub(super) fn start(&self) {
        todo!()
    }

    /// Issuer URLs, and whether their keys are there.
    pub(super) fn health(&self) -> Vec<(String, Result<(), String>)> {
        todo!()
    }

    /// Issuers are tried in turn; the first error stops.
    pub(super) async fn authenticate(
        self: &Arc<Self>,
        token: &Jws<'_>,
        now: SystemTime,
    ) -> Result<Option<Authenticated>, String> {
        let _ = (token, now);
        todo!()
    }
}
