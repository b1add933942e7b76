//! The keys of an issuer as they change: fetched ahead of time, kept while the issuer cannot be reached, fetched again
//! (not too often) when a token names a key that is not known.
//!
//! One task an issuer does all the fetching, so that callers who want newer keys share a fetch, and one who leaves does not
//! take it along.

mod origin;

use super::{
    jwt::key::KeySet,
    metrics::{KeyFetches, Metrics},
};
use crate::{client::Roots, cluster::Cluster};
use aws_lc_rs::rand;
use origin::{Fetched, Origin};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{Instant, sleep_until},
};

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
pub(super) struct Keys {
    shared: Arc<Shared>,
    task: OnceLock<AbortHandle>,
}

/// What the task holds, which must not keep [`Keys`] alive.
#[derive(Debug)]
struct Shared {
    origin: Origin,
    config: Config,
    state: watch::Sender<State>,
    /// Somebody waits for newer keys.
    wanted: Notify,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    /// Since the last success.
    failing: Option<Failing>,
    /// When the last fetch began.
    begun: Option<Instant>,
    fetching: bool,
    /// Fetches that have.
    ended: u64,
}

#[derive(Debug)]
struct Held {
    keys: Arc<KeySet>,
    at: Instant,
}

#[derive(Debug, Clone)]
struct Failing {
    why: String,
    at: Instant,
    in_a_row: u32,
}

/// After a failure, doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Between two fetches that tokens with an unknown key ask for: anybody can make up such a token.
const ASKED_EVERY: Duration = Duration::from_secs(10);

// === impl Keys ===

impl Keys {
    /// Nothing is fetched before [`Keys::start`].
    ///
    /// # Errors
    /// Roots that cannot be used.
    pub(super) fn new(source: Source, config: Config) -> Result<Arc<Self>, String> {
        let fixed = match &source {
            Source::Fixed(keys) => Some(Held { keys: keys.clone(), at: Instant::now() }),
            Source::Discovery { .. } | Source::Upstream(_) => None,
        };
        Ok(Self::with(Origin::new(source)?, config, fixed))
    }

    fn with(origin: Origin, config: Config, held: Option<Held>) -> Arc<Self> {
        let state = watch::Sender::new(State { held, ..State::default() });
        let shared = Shared { origin, config, state, wanted: Notify::new() };
        Arc::new(Self { shared: Arc::new(shared), task: OnceLock::new() })
    }

    /// Those of `before` that come from the same place and are kept in the same way, with all that they have fetched; else these.
    pub(super) fn or_same_of<'a>(
        self: Arc<Self>,
        before: impl IntoIterator<Item = &'a Arc<Self>>,
    ) -> Arc<Self> {
        let same = |other: &&Arc<Self>| {
            self.shared.config == other.shared.config && self.shared.origin.is(&other.shared.origin)
        };
        before.into_iter().find(same).cloned().unwrap_or(self)
    }

    /// Begins to fetch, on the current runtime. Once is enough, twice does no harm. Fetches are counted as those of `issuer`.
    pub(super) fn start(self: &Arc<Self>, metrics: &Arc<Metrics>, issuer: &str) {
        if !matches!(self.shared.origin, Origin::Fixed) {
            let run = || self.shared.clone().run(metrics.key_fetches(issuer));
            self.task.get_or_init(|| tokio::spawn(run()).abort_handle());
        }
    }

    /// The keys, unless none have been fetched yet or they are too old; the error says why.
    pub(super) fn current(&self) -> Result<Arc<KeySet>, String> {
        let state = self.shared.state.borrow();
        if let Some(held) = self.shared.fresh(&state) {
            return Ok(held.keys.clone());
        }
        let last = state.failing.as_ref().map(|failing| {
            format!(
                "{} (attempt {}, {} s ago)",
                failing.why,
                failing.in_a_row,
                failing.at.elapsed().as_secs()
            )
        });
        Err(match (&state.held, last) {
            (Some(_), last) => {
                let last = last.unwrap_or_else(|| "no fetch has ended since".to_owned());
                format!("the keys are older than {:?}: {last}", self.shared.config.max_age)
            }
            (None, Some(last)) => last,
            (None, None) => "the keys have not been fetched yet".to_owned(),
        })
    }

    /// Keys that came after `known`, fetched now if need be, because a token names an unknown key. None when that was done a
    /// moment ago, or failed.
    pub(super) async fn newer_than(&self, known: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        let shared = &self.shared;
        let mut seen = shared.state.subscribe();
        let ended = {
            let state = seen.borrow_and_update();
            if let Some(newer) = shared.newer(&state, known) {
                return Some(newer);
            }
            if !state.fetching {
                // Without the task nobody would answer.
                if self.task.get().is_none() || !state.may_be_asked() {
                    return None;
                }
                shared.wanted.notify_one();
            }
            state.ended
        };
        let state = seen.wait_for(|state| state.ended > ended).await.ok()?;
        shared.newer(&state, known)
    }

    /// Whether there are keys to verify with; the error says why not, for `/readyz/<check>`.
    pub(super) fn health(&self) -> Result<(), String> {
        self.current().map(drop)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

// === impl Shared ===

impl Shared {
    async fn run(self: Arc<Self>, counted: KeyFetches) {
        loop {
            counted.fetched(self.fetch().await);
            let pause = match &self.state.borrow().failing {
                None => shortened(self.config.refresh_interval, 0.1),
                Some(failing) => {
                    let doubled = FIRST_RETRY * 2_u32.pow(failing.in_a_row.saturating_sub(1).min(10));
                    shortened(doubled.min(LAST_RETRY), 0.5)
                }
            };
            self.wait(Instant::now() + pause).await;
        }
    }

    /// Until then, or until somebody may have newer keys at once.
    async fn wait(&self, next: Instant) {
        loop {
            tokio::select! {
                () = sleep_until(next) => return,
                () = self.wanted.notified() => {
                    if self.state.borrow().may_be_asked() {
                        return;
                    }
                }
            }
        }
    }

    /// Whether that succeeded.
    async fn fetch(&self) -> bool {
        self.state.send_modify(|state| {
            state.fetching = true;
            state.begun = Some(Instant::now());
        });
        let fetched = self.origin.fetch().await;
        self.tell(&fetched);
        let success = fetched.is_ok();
        self.state.send_modify(|state| state.settle(fetched));
        success
    }

    /// What has changed, for the log.
    fn tell(&self, fetched: &Result<Fetched, String>) {
        let issuer = self.origin.issuer();
        let before = self.state.borrow();
        match (fetched, &before.failing) {
            (Ok(fetched), failing) => {
                let keys = fetched.keys.len();
                match (failing, &before.held) {
                    (Some(_), _) => tracing::info!(issuer, keys, "the issuer's keys can be fetched again"),
                    (None, None) => tracing::info!(issuer, keys, "fetched the issuer's keys"),
                    (None, Some(_)) => tracing::debug!(issuer, keys, "fetched the issuer's keys"),
                }
                // Many issuers list keys for other purposes.
                for passed_over in fetched.passed_over.iter().filter(|_| before.held.is_none()) {
                    tracing::info!(issuer, "{passed_over}");
                }
            }
            (Err(why), Some(failing)) if *why == failing.why => {}
            (Err(why), _) => {
                let kept = before.held.is_some();
                tracing::warn!(issuer, kept, "the issuer's keys cannot be fetched: {why}");
            }
        }
    }

    fn fresh<'a>(&self, state: &'a State) -> Option<&'a Held> {
        let fixed = matches!(self.origin, Origin::Fixed);
        state.held.as_ref().filter(|held| fixed || held.at.elapsed() <= self.config.max_age)
    }

    fn newer(&self, state: &State, known: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        let keys = &self.fresh(state)?.keys;
        (!Arc::ptr_eq(keys, known)).then(|| keys.clone())
    }
}

// === impl State ===

impl State {
    fn may_be_asked(&self) -> bool {
        self.begun.is_none_or(|begun| begun.elapsed() >= ASKED_EVERY)
    }

    fn settle(&mut self, fetched: Result<Fetched, String>) {
        let now = Instant::now();
        self.fetching = false;
        self.ended += 1;
        match fetched {
            Ok(fetched) => {
                self.held = Some(Held { keys: Arc::new(fetched.keys), at: now });
                self.failing = None;
            }
            Err(why) => {
                let in_a_row = self.failing.as_ref().map_or(0, |failing| failing.in_a_row).saturating_add(1);
                self.failing = Some(Failing { why, at: now, in_a_row });
            }
        }
    }
}

/// By up to this part of it, so that many gates do not ask at the same time.
fn shortened(pause: Duration, part: f64) -> Duration {
    let mut random = [0];
    // Without randomness it is only less spread out.
    let _ = rand::fill(&mut random);
    pause.mul_f64(1.0 - part * f64::from(random[0]) / 256.0)
}

#[cfg(test)]
mod tests;
