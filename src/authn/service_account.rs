//! Tokens of service accounts, verified here against the cluster's issuer keys (`k8s.io/kubernetes pkg/serviceaccount`).
//!
//! What cannot be known here is whether the account, pod or secret that a token is bound to still exists; an operator who
//! wants to see revocation asks for a TokenReview as well. Tokens of the old kind, which lie in Secrets and never expire, mean
//! nothing without their Secret: only a TokenReview can tell, and here there is no opinion on them.

mod account;

use super::{
    Algorithm, Authenticated, Method, Objection,
    jwt::{Jws, key::KeySet},
    keys::{self, Keys, Source},
    metrics::Metrics,
    review::Review,
    signed::{self, Claims},
};
use crate::{
    cluster::Cluster,
    identity::{self, User},
    pem::File,
};
use account::Account;
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Instant, SystemTime},
};

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
pub(super) struct ServiceAccounts {
    issuers: Vec<String>,
    audiences: Vec<String>,
    keys: Arc<Keys>,
    review: ReviewTokens,
    reviewer: Option<Arc<Review>>,
}

/// kube-apiserver's annotation of a token without an audience.
const LEGACY: &str = "authentication.k8s.io/legacy-token";

/// kube-apiserver's annotation of a token that its holder should have read anew.
const STALE: &str = "authentication.k8s.io/stale-token";

// === impl ServiceAccounts ===

impl ServiceAccounts {
    /// `files`: the key files; `upstream`: where keys are fetched. `review`: who is asked about the tokens that `config` names.
    /// Keys that `before` has from the same place are taken over.
    ///
    /// # Errors
    /// Key files that hold no keys, and an upstream that would be needed; a line each.
    pub(super) fn new(
        config: &Config,
        files: &[File],
        keys: keys::Config,
        upstream: Option<&Arc<Cluster>>,
        review: Option<Arc<Review>>,
        before: Option<&Self>,
    ) -> Result<Self, Vec<String>> {
        if config.review != ReviewTokens::Never && review.is_none() {
            return Err(vec!["expected an upstream to review tokens, found none".to_owned()]);
        }
        let source = if files.is_empty() {
            let none =
                || vec!["expected keyFiles or an upstream to fetch keys from, found neither".to_owned()];
            Source::Upstream(upstream.ok_or_else(none)?.clone())
        } else {
            Source::Fixed(Arc::new(KeySet::from_pem(files)?))
        };
        let keys = Keys::new(source, keys).map_err(|why| vec![why])?;
        let keys = keys.or_same_of(before.map(|before| &before.keys));
        let audiences = if config.audiences.is_empty() { &config.issuers } else { &config.audiences };
        Ok(Self {
            issuers: config.issuers.clone(),
            audiences: audiences.clone(),
            keys,
            review: config.review,
            reviewer: review,
        })
    }

    /// Begins to fetch keys.
    pub(super) fn start(&self, metrics: &Arc<Metrics>) {
        self.keys.start(metrics, self.issuers.first().map_or("", String::as_str));
    }

    /// Whether there are keys.
    pub(super) fn health(&self) -> Result<(), String> {
        self.keys.health()
    }

    /// Whose token it is; no opinion on tokens of other issuers. `raw` is the whole token, for a review.
    pub(super) async fn authenticate(
        &self,
        token: &Jws<'_>,
        raw: &str,
        now: SystemTime,
    ) -> Result<Option<Authenticated>, Objection> {
        match token.issuer() {
            Some(named) if self.issuers.iter().any(|issuer| issuer == named) => {}
            _ => return Ok(None),
        }
        match self.prove(token, raw, now).await {
            Ok(proven) => Ok(Some(proven)),
            Err(why) => Err(why.by("service account")),
        }
    }

    async fn prove(&self, token: &Jws<'_>, raw: &str, now: SystemTime) -> Result<Authenticated, Objection> {
        signed::verify(token, &self.keys, &Algorithm::ALL).await?;
        let audiences = signed::audiences(&token.claims)?;
        if !audiences.is_empty() && !audiences.iter().any(|aud| self.audiences.iter().any(|a| a == aud)) {
            return Err("the token is for other audiences".into());
        }
        let expires = lasts(&token.claims, now)?;
        let account = Account::read(&token.claims)?;
        let name = account.user_name();
        let mut groups = vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{}", account.namespace),
        ];
        identity::add_authenticated(&name, &mut groups);
        let user = signed::user(&name, account.uid, groups, account.extra())?;
        let reviewed = match self.review {
            ReviewTokens::Never => false,
            ReviewTokens::Bound => account.is_bound,
            ReviewTokens::Always => true,
        };
        let answered_until = if reviewed { self.review(raw, &user).await? } else { None };
        let mut annotations = Vec::new();
        if audiences.is_empty() {
            annotations.push((LEGACY, name.clone()));
        }
        let late =
            account.warn_after.filter(|warn| *warn < now).and_then(|warn| now.duration_since(warn).ok());
        if let Some(seconds) = late.map(|late| late.as_secs()) {
            annotations.push((STALE, format!("subject: {name}, seconds after warning threshold: {seconds}")));
        }
        let proven = Authenticated::new(user, Method::ServiceAccount, Some(expires));
        Ok(proven.answered_until(answered_until).annotated(annotations))
    }

    /// The upstream must know the token, and by the same user; the rest of what it says is in the token as well. Until when its
    /// answer may be believed.
    async fn review(&self, raw: &str, user: &User) -> Result<Option<Instant>, Objection> {
        let reviewer = self.reviewer.as_ref().ok_or("nobody to review the token")?;
        match reviewer.authenticate(raw).await {
            Ok(Some(known)) if known.user().name() == user.name() && known.user().uid() == user.uid() => {
                Ok(known.answered_until)
            }
            Ok(Some(_)) => Err("the upstream knows the token by another user".into()),
            Ok(None) => Err("the upstream does not accept the token".into()),
            Err(why) => Err(why.by("review")),
        }
    }
}

/// When the token stops counting. It must say so: tokens for ever are of the old kind.
fn lasts(claims: &Claims, now: SystemTime) -> Result<SystemTime, String> {
    let later = now + signed::LEEWAY;
    let starts = signed::time(claims, "nbf")?;
    let expires = signed::time(claims, "exp")?.ok_or("service account token does not expire")?;
    let issued = signed::time(claims, "iat")?;
    if starts.is_some_and(|starts| starts > later) {
        return Err("service account token is not valid yet".to_owned());
    }
    let counts_until = expires + signed::LEEWAY;
    if counts_until < now {
        return Err("service account token has expired".to_owned());
    }
    if issued.is_some_and(|issued| issued > later) {
        return Err("service account token is issued in the future".to_owned());
    }
    Ok(counts_until)
}

#[cfg(test)]
#[cfg(feature = "demo")]
mod live;
#[cfg(test)]
mod tests;
