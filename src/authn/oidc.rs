//! Structured authentication: the JWT issuers of an AuthenticationConfiguration (`k8s.io/apiserver
//! plugin/pkg/authenticator/token/oidc`).
//!
//! A token is its issuer's business alone: who it names is asked, and nobody else. Whatever fails is said with the issuer's URL
//! and the rule that failed, never with what the token claims.

pub(super) mod cel;
pub(super) mod config;
mod mapping;
mod standard;

use super::{
    Algorithm, Authenticated, IssuerSettings, Method, Objection,
    jwt::Jws,
    keys::{self, Keys, Source},
    metrics::Metrics,
    signed::{self, Claims},
};
use crate::{
    client::Roots,
    identity::{self, User},
};
use config::Issuer;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::Semaphore;

/// All issuers of the file.
#[derive(Debug)]
pub(super) struct Oidc {
    providers: Vec<Arc<Provider>>,
    evaluations: Arc<Semaphore>,
}

/// One issuer.
#[derive(Debug)]
struct Provider {
    issuer: Issuer,
    keys: Arc<Keys>,
    /// Never empty.
    algorithms: Vec<Algorithm>,
    allow_system_identities: bool,
    evaluates: bool,
}

/// Everything an issuer's expressions do with one token, the wait for a free place included.
const EVALUATION_TIME: Duration = Duration::from_secs(1);

/// Tokens whose expressions are evaluated at one time. One that never ends keeps its place, so there are never more of them.
const EVALUATIONS: usize = 4;

/// Names and groups of Kubernetes' own.
const SYSTEM: &str = "system:";

// === impl Oidc ===

impl Oidc {
    /// Keys of issuers that `before` has as well, fetched the same way, are taken over.
    ///
    /// # Errors
    /// Settings of an issuer that is not there, and roots that cannot be used; a line each.
    pub(super) fn new(
        issuers: Vec<Issuer>,
        settings: &[IssuerSettings],
        keys: keys::Config,
        before: Option<&Self>,
    ) -> Result<Self, Vec<String>> {
        let before =
            || before.into_iter().flat_map(|before| &before.providers).map(|provider| &provider.keys);
        let keys = |issuer: &Issuer| Ok(Keys::new(source(issuer), keys)?.or_same_of(before()));
        Self::with(issuers, settings, keys)
    }

    fn with(
        issuers: Vec<Issuer>,
        settings: &[IssuerSettings],
        keys: impl Fn(&Issuer) -> Result<Arc<Keys>, String>,
    ) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        for (i, one) in settings.iter().enumerate() {
            if !issuers.iter().any(|issuer| issuer.url == one.url) {
                errors.push(format!("{}: no issuer of the authenticationConfigFile has this url", one.url));
            }
            if settings[..i].iter().any(|other| other.url == one.url) {
                errors.push(format!("{}: expected one entry for this url, found another", one.url));
            }
        }
        let mut providers = Vec::with_capacity(issuers.len());
        for issuer in issuers {
            let settings = settings.iter().find(|settings| settings.url == issuer.url);
            match keys(&issuer) {
                Ok(keys) => providers.push(Arc::new(Provider::new(issuer, keys, settings))),
                Err(why) => errors.push(format!("{}: {why}", issuer.url)),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self { providers, evaluations: Arc::new(Semaphore::new(EVALUATIONS)) })
    }

    /// Begins to fetch keys.
    pub(super) fn start(&self, metrics: &Arc<Metrics>) {
        for provider in &self.providers {
            provider.keys.start(metrics, &provider.issuer.url);
        }
    }

    /// Issuer URLs, and whether their keys are there.
    pub(super) fn health(&self) -> Vec<(String, Result<(), String>)> {
        self.providers.iter().map(|p| (p.issuer.url.clone(), p.keys.health())).collect()
    }

    /// Whose token it is; no opinion on tokens of other issuers. URLs are unique, so at most one issuer is asked.
    pub(super) async fn authenticate(
        &self,
        token: &Jws<'_>,
        now: SystemTime,
    ) -> Result<Option<Authenticated>, Objection> {
        let named = match token.issuer() {
            // Google's own way of writing it, see OpenID Connect Core 15.6.2.
            Some("accounts.google.com") => "https://accounts.google.com",
            Some(named) => named,
            None => return Ok(None),
        };
        let Some(provider) = self.providers.iter().find(|p| p.issuer.url == named) else { return Ok(None) };
        match provider.authenticate(token, now, &self.evaluations).await {
            Ok(proven) => Ok(Some(proven)),
            Err(why) => Err(why.by(format_args!("issuer {named}"))),
        }
    }
}

fn source(issuer: &Issuer) -> Source {
    Source::Discovery {
        issuer: issuer.url.clone(),
        url: issuer.discovery_url.clone(),
        roots: issuer.certificate_authority.clone().map_or(Roots::System, Roots::Only),
    }
}

// === impl Provider ===

impl Provider {
    fn new(issuer: Issuer, keys: Arc<Keys>, settings: Option<&IssuerSettings>) -> Self {
        let algorithms = settings.map(|settings| settings.signing_algs.clone()).unwrap_or_default();
        Self {
            evaluates: mapping::evaluates(&issuer),
            issuer,
            keys,
            algorithms: if algorithms.is_empty() { Algorithm::ALL.to_vec() } else { algorithms },
            allow_system_identities: settings.is_some_and(|settings| settings.allow_system_identities),
        }
    }

    async fn authenticate(
        self: &Arc<Self>,
        token: &Jws<'_>,
        now: SystemTime,
        evaluations: &Arc<Semaphore>,
    ) -> Result<Authenticated, Objection> {
        signed::verify(token, &self.keys, &self.algorithms).await?;
        let expires = standard::read(&token.claims, &self.issuer.audiences, now)?;
        let user = if self.evaluates {
            self.identify_aside(token.claims.clone(), evaluations.clone()).await?
        } else {
            self.identify(&token.claims)?
        };
        Ok(Authenticated::new(user, Method::Jwt, Some(expires)))
    }

    /// An expression's time cannot be told beforehand, so it must not hold up other requests.
    async fn identify_aside(
        self: &Arc<Self>,
        claims: Claims,
        evaluations: Arc<Semaphore>,
    ) -> Result<Arc<User>, String> {
        let provider = self.clone();
        let identified = tokio::time::timeout(EVALUATION_TIME, async {
            // It is never closed, so there is always a place in the end.
            let place = evaluations.acquire_owned().await;
            let evaluate = move || {
                let _place = place;
                provider.identify(&claims)
            };
            tokio::task::spawn_blocking(evaluate).await
        });
        match identified.await {
            Ok(Ok(identified)) => identified,
            Ok(Err(_)) => Err("an expression could not be evaluated".to_owned()),
            Err(_) => Err(format!("the expressions took longer than {EVALUATION_TIME:?}")),
        }
    }

    fn identify(&self, claims: &Claims) -> Result<Arc<User>, String> {
        let mut who = mapping::identity(&self.issuer, claims)?;
        let reserved = |name: &String| name.starts_with(SYSTEM);
        if !self.allow_system_identities && (reserved(&who.name) || who.groups.iter().any(reserved)) {
            return Err("may not mint system: identities".to_owned());
        }
        identity::add_authenticated(&who.name, &mut who.groups);
        signed::user(&who.name, &who.uid, who.groups, who.extra)
    }
}

#[cfg(test)]
#[cfg(feature = "demo")]
mod golden;
#[cfg(test)]
#[cfg(feature = "demo")]
mod live;
#[cfg(test)]
mod tests;
