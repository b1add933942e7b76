//! The cluster's own roles and bindings, listed and watched with the gate's account, and the rules that they make.
//!
//! [`follow`] runs for as long as the gate does. Of each kind a task lists and watches; what decides is kept in a store of our own; when
//! all four kinds were listed, and whenever something has changed since, the rules are built on a thread of their own and told as a
//! whole. So is how much they are worth: whether they are followed, or lost and kept, or lost for too long.

mod fresh;
mod metrics;
mod raw;
mod store;
#[cfg(test)]
mod tests;
mod transport;
mod watching;

pub use metrics::Metrics;

use crate::{
    client::Client,
    endpoint::Endpoint,
    rbac::{Binding, Role, Rules, live::Kind},
};
use fresh::Fresh;
use std::{sync::Arc, time::Duration};
use store::{Change, Store};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use watching::{Heard, Watching};

/// How long rules count that are no longer followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// From when it was last known of all four kinds that nothing was missed; several seconds at least.
    pub max_age: Duration,
    /// They go on to count after that.
    pub keep: bool,
}

/// How much the cluster's rules are worth. The texts are for the log and the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// They are not known yet.
    Unknown(String),
    /// They are followed.
    Current,
    /// They are no longer followed, and still count.
    Kept(String),
    /// They have not been followed for too long, and no longer count.
    Refused(String),
}

impl Standing {
    /// What is the matter; empty when nothing is.
    pub fn why(&self) -> &str {
        match self {
            Self::Current => "",
            Self::Unknown(why) | Self::Kept(why) | Self::Refused(why) => why,
        }
    }
}

/// Between a first change and a build, so that what is written together is built together.
const TOGETHER: Duration = Duration::from_millis(50);
/// After a build that took long, twice as long nothing is built; but no longer than this.
const REST: Duration = Duration::from_millis(400);
/// A watch is missed when it is not open again by then.
const GRACE: Duration = Duration::from_secs(3);
/// So long after its end a watch is opened again from where it was, however short the rules' age; later, after half of that age, a list
/// is read first.
const RESUMED: Duration = Duration::from_secs(3);
/// The upstream may be another after a reload; and a gauge counts seconds.
const LOOK: Duration = Duration::from_secs(1);
/// Changes that are on their way.
const QUEUE: usize = 4_096;
/// Warnings of single objects; a cluster could be full of what is not understood.
const WARNINGS: usize = 100;

/// Follows the rules of the upstream of now, which `endpoint` tells, until dropped. `tell` hears of every change of the standing and of
/// every new set of rules, and gets those that count, if any do; it may block.
pub async fn follow(
    config: Config,
    endpoint: impl Fn() -> Arc<Endpoint> + Send,
    metrics: Metrics,
    tell: impl Fn(&Standing, Option<&Arc<Rules>>) + Send + Sync + 'static,
) {
    let mut follower = Follower::new(config, endpoint(), metrics, Arc::new(tell));
    loop {
        follower.moved(endpoint());
        follower.step().await;
    }
}

type Tell = Arc<dyn Fn(&Standing, Option<&Arc<Rules>>) + Send + Sync>;

/// Another one fails, in tests.
type Make = fn(&[Arc<Role>], &[Arc<Binding>]) -> Rules;

fn make(roles: &[Arc<Role>], bindings: &[Arc<Binding>]) -> Rules {
    Rules::as_written(roles.iter().map(|role| &**role), bindings.iter().map(|binding| &**binding))
}

struct Follower {
    config: Config,
    metrics: Metrics,
    tell: Tell,
    make: Make,
    watches: Watches,
    store: Store,
    /// Of this or an earlier upstream.
    rules: Option<Arc<Rules>>,
    standing: Standing,
    /// The last failure of each kind, until its watch has settled.
    problems: [Option<String>; 4],
    /// The first change that is not built yet.
    changed: Option<Instant>,
    /// No build before.
    rested: Instant,
    /// Since when building fails: a defect, but one that must not keep rules alive.
    broken: Option<Instant>,
    warnings: usize,
}

/// The four kinds of one upstream.
struct Watches {
    endpoint: Arc<Endpoint>,
    fresh: [Arc<Fresh>; 4],
    noticed: Arc<Notify>,
    heard: mpsc::Receiver<(Kind, Heard)>,
    /// So that hearing does not end.
    _to: mpsc::Sender<(Kind, Heard)>,
    /// Ends them when it is dropped.
    tasks: JoinSet<()>,
    started: Instant,
}

impl Watches {
    fn start(endpoint: Arc<Endpoint>, since: Instant, max_age: Duration) -> Self {
        let client = Arc::new(Client::to(endpoint.clone()));
        let (to, heard) = mpsc::channel(QUEUE);
        let noticed = Arc::new(Notify::new());
        let fresh =
            [(); 4].map(|()| Arc::new(Fresh::new(since, (max_age / 2).max(RESUMED), noticed.clone())));
        let mut tasks = JoinSet::new();
        for (kind, fresh) in Kind::ALL.into_iter().zip(&fresh) {
            let (client, endpoint, fresh) = (client.clone(), endpoint.clone(), fresh.clone());
            tasks.spawn(Watching { kind, client, endpoint, fresh, max_age, to: to.clone() }.run());
        }
        Self { endpoint, fresh, noticed, heard, _to: to, tasks, started: Instant::now() }
    }

    /// Whether one of them has ended, which none does by itself.
    fn died(&mut self, now: Instant) -> bool {
        now.saturating_duration_since(self.started) > GRACE && self.tasks.try_join_next().is_some()
    }

    /// Since when the first of them has been lost.
    fn lost(&self, now: Instant) -> Option<Instant> {
        self.fresh.iter().filter_map(|fresh| fresh.lost(now)).min()
    }

    /// Until when nothing was missed of any of them.
    fn proven(&self) -> Option<Instant> {
        self.fresh.iter().map(|fresh| fresh.proven()).min()
    }
}

impl Follower {
    fn new(config: Config, endpoint: Arc<Endpoint>, metrics: Metrics, tell: Tell) -> Self {
        let now = Instant::now();
        Self {
            config,
            metrics,
            tell,
            make,
            watches: Watches::start(endpoint, now, config.max_age),
            store: Store::default(),
            rules: None,
            standing: Standing::Unknown(NOT_LISTED.to_owned()),
            problems: [const { None }; 4],
            changed: None,
            rested: now,
            broken: None,
            warnings: 0,
        }
    }

    /// Starts anew when the upstream is another. The rules stay until those of the new one are whole.
    fn moved(&mut self, endpoint: Arc<Endpoint>) {
        let now = Instant::now();
        let same = Arc::ptr_eq(&self.watches.endpoint, &endpoint);
        if same && !self.watches.died(now) {
            return;
        }
        let since = self.watches.proven().unwrap_or(now);
        match same {
            true => tracing::error!("a watch of the cluster's rules has failed, all of them start anew"),
            false => {
                tracing::info!(upstream = %endpoint.authority(), "following the rules of another upstream")
            }
        }
        self.watches = Watches::start(endpoint, since, self.config.max_age);
        self.store = Store::default();
        self.problems = [const { None }; 4];
        self.changed = None;
    }

    /// Waits for something to happen, and does what follows from it.
    async fn step(&mut self) {
        let now = Instant::now();
        let mut wake = now + LOOK;
        let settles = self.watches.fresh.iter().filter_map(|fresh| fresh.settles(now));
        let graced = self.lost(now).map(|lost| lost + GRACE);
        let judged = graced.into_iter().chain(self.proven().map(|proven| proven + self.config.max_age));
        let built = self.changed.filter(|_| self.store.whole()).map(|at| (at + TOGETHER).max(self.rested));
        for at in settles.chain(judged.filter(|at| *at > now)).chain(built) {
            wake = wake.min(at);
        }
        let mut heard = Vec::new();
        tokio::select! {
            biased;
            _ = self.watches.heard.recv_many(&mut heard, 1_024) => {}
            () = self.watches.noticed.notified() => {}
            () = sleep_until(wake) => {}
        }
        heard.into_iter().for_each(|(kind, heard)| self.hear(kind, heard));
        if built.is_some_and(|at| Instant::now() >= at) {
            self.build().await;
        }
        self.judge().await;
    }

    fn hear(&mut self, kind: Kind, heard: Heard) {
        match heard {
            Heard::Change(change) => self.take(kind, change),
            Heard::Done(as_of) => {
                self.take(kind, Change::Done);
                self.watches.fresh[kind as usize].listed(as_of);
            }
            Heard::Failed(problem) => {
                let before = self.problems[kind as usize].replace(problem.clone());
                if before.as_ref() != Some(&problem) {
                    tracing::warn!(problem, "the cluster's rules cannot be followed");
                }
            }
        }
    }

    fn take(&mut self, kind: Kind, change: Change) {
        let mut odd = Vec::new();
        if self.store.take(kind, change, &mut odd) {
            self.changed.get_or_insert_with(Instant::now);
        }
        odd.into_iter().for_each(|odd| self.warn(&odd));
    }

    fn warn(&mut self, odd: &str) {
        self.warnings += 1;
        match self.warnings {
            ..WARNINGS => tracing::warn!("of the cluster's rules this grants nothing: {odd}"),
            WARNINGS => tracing::warn!(
                "of the cluster's rules this grants nothing: {odd}; further ones are only counted"
            ),
            _ => {}
        }
    }

    /// Makes rules of what is held, and tells them.
    async fn build(&mut self) {
        let begun = Instant::now();
        let changed = self.changed.take();
        let (roles, bindings) = self.store.granting();
        let counts = (roles.len(), bindings.len());
        let first = self.rules.is_none();
        let make = self.make;
        let made = tokio::task::spawn_blocking(move || {
            let begun = std::time::Instant::now();
            (Arc::new(make(&roles, &bindings)), begun.elapsed())
        });
        match made.await {
            Ok((rules, took)) => {
                self.metrics.built(&self.store, took);
                self.rules = Some(rules);
                self.broken = None;
                if first {
                    let (roles, bindings) = counts;
                    tracing::info!(roles, bindings, "the cluster's rules are in force");
                } else {
                    tracing::debug!(?took, "the cluster's rules have changed");
                }
                self.standing = self.judged(Instant::now());
                self.say().await;
            }
            Err(error) => {
                tracing::error!(%error, "the cluster's rules cannot be built");
                self.broken.get_or_insert(changed.unwrap_or(begun));
                self.changed = changed;
            }
        }
        let took = begun.elapsed();
        let rest = if self.broken.is_some() { REST } else { (took * 2).min(REST) };
        self.rested = Instant::now() + rest;
    }

    /// Tells how much the rules are worth, if that has changed.
    async fn judge(&mut self) {
        let now = Instant::now();
        for (problem, fresh) in self.problems.iter_mut().zip(&self.watches.fresh) {
            if fresh.lost(now).is_none() {
                *problem = None;
            }
        }
        let standing = self.judged(now);
        self.metrics.standing(&standing, self.age(now));
        if standing == self.standing {
            return;
        }
        let max_age = self.config.max_age;
        match (&self.standing, &standing) {
            (Standing::Kept(_) | Standing::Refused(_), Standing::Current) => {
                tracing::info!("the cluster's rules are followed again");
            }
            (Standing::Refused(_), Standing::Refused(_)) => {}
            (_, Standing::Refused(why)) => {
                tracing::error!("{why}; what they allow is refused until they are followed again");
            }
            (Standing::Kept(_), Standing::Kept(_)) => {}
            (_, Standing::Kept(why)) if self.config.keep => {
                tracing::warn!(?max_age, "{why}; they go on to count, however long that lasts");
            }
            (_, Standing::Kept(why)) => tracing::warn!(?max_age, "{why}; they count until they are too old"),
            _ => {}
        }
        self.standing = standing;
        self.say().await;
    }

    fn judged(&self, now: Instant) -> Standing {
        let problem = self.problems.iter().flatten().next();
        let because = problem.map_or_else(String::new, |problem| format!(": {problem}"));
        let max_age = self.config.max_age;
        // What is known again has to be built first: the rules at hand are still those that were too old.
        if matches!(self.standing, Standing::Refused(_)) && self.changed.is_some() {
            return self.standing.clone();
        }
        if self.rules.is_none() {
            return Standing::Unknown(format!("{NOT_LISTED}{because}"));
        }
        let old = self.age(now) >= max_age;
        let missed = self.lost(now).is_some_and(|lost| now.saturating_duration_since(lost) >= GRACE);
        match () {
            () if old && !self.config.keep => {
                let why = format!("the cluster's rules have not been up to date for {max_age:?}{because}");
                Standing::Refused(why)
            }
            () if old || missed => {
                Standing::Kept(format!("the cluster's rules are no longer followed{because}"))
            }
            () => Standing::Current,
        }
    }

    fn lost(&self, now: Instant) -> Option<Instant> {
        [self.watches.lost(now), self.broken].into_iter().flatten().min()
    }

    fn proven(&self) -> Option<Instant> {
        [self.watches.proven(), self.broken].into_iter().flatten().min()
    }

    /// For how long it has not been known that nothing was missed.
    fn age(&self, now: Instant) -> Duration {
        self.proven().map_or(Duration::MAX, |proven| now.saturating_duration_since(proven))
    }

    /// On a thread that may block: streams are decided again.
    async fn say(&self) {
        let (tell, standing) = (self.tell.clone(), self.standing.clone());
        let counts = matches!(standing, Standing::Current | Standing::Kept(_));
        let rules = self.rules.clone().filter(|_| counts);
        let said = tokio::task::spawn_blocking(move || tell(&standing, rules.as_ref())).await;
        if let Err(error) = said {
            tracing::error!(%error, "the cluster's rules cannot be taken up");
        }
    }
}

const NOT_LISTED: &str = "the cluster's rules have not been listed yet";
