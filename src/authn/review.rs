//! TokenReview: somebody else is asked whose token it is, the upstream or a webhook (`authentication.k8s.io/v1`).
//!
//! A call belongs to nobody: callers who ask about one token wait for one call, and it runs to its end and is remembered
//! even when all of them have left. So a client that is more impatient than the webhook gets its answer the second time,
//! and one that asks and hangs up, again and again, holds one of a bounded number of calls instead of starting ever more.

use super::{
    Authenticated, Method, Objection,
    cache::{Cache, Digest, Opinion},
    metrics::Metrics,
};
use crate::{
    cluster::{Claimed, Cluster, Reviewed},
    identity::{self, User},
};
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};

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
pub(super) struct Review {
    config: Config,
    cluster: Arc<Cluster>,
    metrics: Arc<Metrics>,
    answers: Cache,
    calls: Mutex<HashMap<Digest, Call>>,
    places: Arc<Semaphore>,
}

/// A call under way; None until there is an answer.
type Call = watch::Receiver<Option<Opinion>>;

/// Answers that are remembered, of each kind.
const REMEMBERED: usize = 16_384;

/// Calls at one time: a flood of tokens is none on whoever is asked.
const CALLS: usize = 64;

/// Nobody waits longer, neither for a place nor for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Characters of somebody else's text in an error.
const CLIPPED: usize = 200;

impl Review {
    /// Asks `cluster`.
    pub(super) fn new(config: Config, cluster: Arc<Cluster>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            config,
            cluster,
            metrics,
            answers: Cache::new(REMEMBERED),
            calls: Mutex::default(),
            places: Arc::new(Semaphore::new(CALLS)),
        })
    }

    /// Whose token it is. Remembered; several callers who ask about one token at once make one call.
    pub(super) async fn authenticate(self: &Arc<Self>, token: &str) -> Opinion {
        self.authenticate_while(token, || true).await
    }

    /// [`Self::authenticate`], but no call is begun any more once it would not be `allowed`: while one waits for a place, others of the
    /// same source may have failed.
    pub(super) async fn authenticate_while(
        self: &Arc<Self>,
        token: &str,
        allowed: impl Fn() -> bool + Send,
    ) -> Opinion {
        if !may_be_sent(token) {
            return Err("TokenReview: the token is empty or holds a space or a control character".into());
        }
        let Some(digest) = self.answers.digest(token) else {
            return Err(Objection::unjudged("TokenReview: the system has no randomness"));
        };
        if let Some(known) = self.answers.known(&digest) {
            return known;
        }
        let answer = timeout(PATIENCE, async {
            let mut call = self.call(digest, token, allowed).await?;
            let answer = call.wait_for(Option::is_some).await;
            answer
                .ok()
                .and_then(|answer| Option::clone(&answer))
                .ok_or(Objection::unjudged("the call ended without an answer"))
        });
        match answer.await {
            Ok(Ok(opinion)) => opinion,
            Ok(Err(why)) => Err(why.by("TokenReview")),
            Err(_) => Err(Objection::unjudged(format!(
                "TokenReview: no answer within {} seconds",
                PATIENCE.as_secs()
            ))),
        }
    }

    /// Whether it is remembered whose token this is.
    pub(super) fn knows(&self, token: &str) -> bool {
        matches!(self.answers.get(token), Some(Ok(Some(_))))
    }

    /// The call about this token, a new one if there is none and it is still allowed.
    async fn call(
        self: &Arc<Self>,
        digest: Digest,
        token: &str,
        allowed: impl Fn() -> bool,
    ) -> Result<Call, Objection> {
        if let Some(call) = self.calls().get(&digest) {
            return Ok(call.clone());
        }
        // The places stay open, so this is never an error.
        let place = self
            .places
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Objection::unjudged("no more calls are made"))?;
        let mut calls = self.calls();
        // While this one waited for a place another may have begun, or even ended.
        if let Some(call) = calls.get(&digest) {
            return Ok(call.clone());
        }
        if let Some(known) = self.answers.known(&digest) {
            return Ok(watch::channel(Some(known)).1);
        }
        if !allowed() {
            return Err("too many attempts from this source have failed, nobody was asked".into());
        }
        let (answer, call) = watch::channel(None);
        calls.insert(digest, call.clone());
        drop(calls);
        tokio::spawn(self.clone().run(digest, token.to_owned(), answer, place));
        Ok(call)
    }

    async fn run(
        self: Arc<Self>,
        digest: Digest,
        token: String,
        answer: watch::Sender<Option<Opinion>>,
        _place: OwnedSemaphorePermit,
    ) {
        let running = Running { review: &self, digest };
        let (opinion, time) = self.ask(&token).await;
        self.answers.keep(digest, &opinion, time);
        drop(running);
        // Nobody may be waiting any more.
        let _ = answer.send(Some(opinion));
    }

    /// An error is not kept; that an answer is not believed is.
    async fn ask(&self, token: &str) -> (Opinion, Duration) {
        let since = Instant::now();
        let answer = self.cluster.token_review(token, &self.config.audiences).await;
        self.metrics.reviewed(since.elapsed(), answer.is_ok());
        match answer {
            Ok(reviewed) => self.config.judge(reviewed, token),
            Err(why) => (Err(Objection::unjudged(format!("TokenReview: {why}"))), Duration::ZERO),
        }
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<Digest, Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a call off the list, whichever way it ends.
struct Running<'a> {
    review: &'a Review,
    digest: Digest,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.review.calls().remove(&self.digest);
    }
}

impl Config {
    /// What an answer is worth, and for how long.
    fn judge(&self, reviewed: Reviewed, token: &str) -> (Opinion, Duration) {
        let Reviewed { authenticated, user, audiences, error } = reviewed;
        if !authenticated && !error.is_empty() {
            let said =
                if error.contains(token) { "its reason repeats the token".to_owned() } else { clip(&error) };
            return (Err(format!("TokenReview: {said}").into()), Duration::ZERO);
        }
        if !authenticated {
            return (Ok(None), self.cache_ttl);
        }
        let believed = self.believe(user, &audiences);
        (believed.map(Some).map_err(|why| format!("TokenReview: {}", clip(&why)).into()), self.cache_ttl)
    }

    fn believe(&self, user: Claimed, audiences: &[String]) -> Result<Authenticated, String> {
        if !self.audiences.is_empty() && !audiences.iter().any(|audience| self.audiences.contains(audience)) {
            return Err(if audiences.is_empty() {
                "the answer names no audience, so it does not say that the token is for this one".to_owned()
            } else {
                "the token is for other audiences".to_owned()
            });
        }
        let Claimed { name, uid, mut groups, extra } = user;
        // An API server that admits strangers says so of a token that it does not even look at.
        if name == identity::ANONYMOUS || groups.iter().any(|group| group == identity::ALL_UNAUTHENTICATED) {
            return Err(format!("the token proves nobody: {}", identity::ANONYMOUS));
        }
        if self.to != To::Upstream && !self.allow_system_identities {
            let claimed = std::iter::once(&name).chain(&groups);
            let mut reserved =
                claimed.filter(|name| name.starts_with("system:") && *name != identity::ALL_AUTHENTICATED);
            if let Some(reserved) = reserved.next() {
                return Err(format!("{reserved:?} is not believed, it begins with system:"));
            }
        }
        identity::add_authenticated(&name, &mut groups);
        let user = User::new(&name, &uid, groups, extra).map_err(|e| e.to_string())?;
        let until = Instant::now().checked_add(self.cache_ttl);
        Ok(Authenticated::new(user, Method::TokenReview, None).answered_until(until))
    }
}

/// An API server takes a token out of a header again, and what stands before or behind a space is then another token or
/// none at all, which is no error there but a stranger.
fn may_be_sent(token: &str) -> bool {
    !token.is_empty() && !token.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// Somebody else's text, short.
fn clip(text: &str) -> String {
    match text.char_indices().nth(CLIPPED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
#[cfg(feature = "demo")]
mod tests;
