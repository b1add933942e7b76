//! Keeps the list as the upstream of now serves it.

use super::{Catalog, Known, Served, Standing, source::Source};
use crate::{
    cluster::{
        Cluster, chance,
        discovery::{Group, Listing, Root, Told},
    },
    endpoint::Endpoint,
};
use http::HeaderValue;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// Between two looks; what is asked then is only whether anything has changed.
const EVERY: Duration = Duration::from_secs(30);
/// The same where every group and version has to be asked on its own.
const EVERY_LEGACY: Duration = Duration::from_secs(120);
/// After a look that failed: so long at first, then twice as long each time.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// However often something new is found.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// The upstream may be another after a reload.
const LOOK: Duration = Duration::from_secs(1);
/// What was listed longer ago tells nothing.
const OLD: Duration = Duration::from_secs(600);

/// Keeps the catalogue as the upstream of now, which `endpoint` tells, serves; until dropped. `tell` hears of every change of the standing.
pub async fn follow(
    catalog: Arc<Catalog>,
    endpoint: impl Fn() -> Arc<Endpoint> + Send,
    tell: impl Fn(&Standing) + Send,
) {
    let mut at = endpoint();
    loop {
        let source: Arc<dyn Source> = Arc::new(Cluster::new(at.clone()));
        let mut follower = Follower::new(&catalog, source);
        tell(&follower.standing);
        loop {
            follower.step(&tell).await;
            let now = endpoint();
            if !Arc::ptr_eq(&now, &at) {
                tracing::info!(upstream = %now.authority(), "listing the API of another upstream");
                at = now;
                break;
            }
        }
    }
}

pub(super) struct Follower<'c> {
    catalog: &'c Catalog,
    known: Arc<Known>,
    core: Half,
    named: Half,
    pub(super) standing: Standing,
    /// When all of it was last known to hold.
    held: Option<Instant>,
    due: Instant,
    failures: u32,
    looked: Option<Instant>,
}

/// How to ask one root again.
struct Half {
    root: Root,
    tag: Option<HeaderValue>,
    legacy: bool,
}

impl<'c> Follower<'c> {
    /// Forgets all that was known.
    pub(super) fn new(catalog: &'c Catalog, source: Arc<dyn Source>) -> Self {
        let known = Arc::new(Known::new(source));
        catalog.known.store(Some(known.clone()));
        catalog.metrics.listed(None);
        catalog.metrics.documents(0, 0);
        let half = |root| Half { root, tag: None, legacy: false };
        Self {
            catalog,
            known,
            core: half(Root::Core),
            named: half(Root::Named),
            standing: Standing::Unknown(NOT_LISTED.to_owned()),
            held: None,
            due: Instant::now(),
            failures: 0,
            looked: None,
        }
    }

    /// Waits until something may have to be done, and does it.
    pub(super) async fn step(&mut self, tell: &(impl Fn(&Standing) + Send)) {
        let wake = self.due.min(Instant::now() + LOOK);
        tokio::select! {
            biased;
            () = sleep_until(wake) => {}
            () = self.catalog.again.notified() => {
                let soonest = self.looked.map_or_else(Instant::now, |looked| looked + AT_MOST_EVERY);
                self.due = self.due.min(soonest);
            }
        }
        let mut standing = None;
        if Instant::now() >= self.due {
            standing = Some(self.look().await);
        }
        let age = self.held.map(|held| held.elapsed());
        self.catalog.metrics.age(age.unwrap_or_default());
        if age.is_some_and(|age| age > OLD) {
            self.forget();
            let why = format!("the cluster's API was last listed more than {OLD:?} ago");
            standing = Some(Standing::Unknown(why));
        }
        if let Some(standing) = standing.filter(|standing| *standing != self.standing) {
            match &standing {
                Standing::Fresh => tracing::info!("the cluster's API is listed"),
                Standing::Stale(why) | Standing::Unknown(why) => tracing::warn!("{why}"),
            }
            tell(&standing);
            self.standing = standing;
        }
    }

    async fn look(&mut self) -> Standing {
        let began = Instant::now();
        self.looked = Some(began);
        match self.list().await {
            Ok(()) => {
                self.compare().await;
                (self.held, self.failures) = (Some(began), 0);
                let every = if self.core.legacy || self.named.legacy { EVERY_LEGACY } else { EVERY };
                self.due = Instant::now() + every.mul_f64(0.8 + 0.4 * chance());
                let served = self.known.served.load();
                let stale = served.as_ref().as_ref().map(Served::stale).unwrap_or_default();
                match few(&stale) {
                    None => Standing::Fresh,
                    Some(stale) => {
                        Standing::Stale(format!("of the cluster's API nobody answers for {stale}"))
                    }
                }
            }
            Err(problem) => {
                self.catalog.metrics.failed("discovery");
                let pause = (AFTER_FAILURE * (1 << self.failures.min(5))).min(EVERY);
                self.failures += 1;
                self.due = Instant::now() + pause.mul_f64(0.8 + 0.4 * chance());
                match self.held {
                    Some(_) => {
                        Standing::Stale(format!("the cluster's API can no longer be listed: {problem}"))
                    }
                    None => Standing::Unknown(format!("{NOT_LISTED}: {problem}")),
                }
            }
        }
    }

    /// Both roots; what has not changed stays.
    async fn list(&mut self) -> Result<(), String> {
        let source = self.known.source.clone();
        let core = self.core.look(&*source).await?;
        let named = self.named.look(&*source).await?;
        if core.is_none() && named.is_none() {
            return Ok(());
        }
        let before = self.known.served.load_full();
        let before = before.as_ref().as_ref();
        // What one tells is no part of the other.
        let mut served = Served::default();
        for (groups, is_mine) in [(core, true), (named, false)] {
            match groups {
                Some(groups) => {
                    served.add(groups.iter().filter(|group| group.name.is_empty() == is_mine), before)
                }
                None => served.keep(before, |group| group.is_empty() == is_mine),
            }
        }
        self.catalog.metrics.listed(Some(&served));
        self.known.served.store(Arc::new(Some(served)));
        Ok(())
    }

    fn forget(&mut self) {
        (self.core.tag, self.named.tag, self.held) = (None, None, None);
        self.known.served.store(Arc::new(None));
        self.catalog.metrics.listed(None);
    }

    /// Schemas that somebody holds may have changed.
    async fn compare(&self) {
        if self.known.documents.is_empty() {
            return;
        }
        match self.known.source.openapi_hashes().await {
            Ok(hashes) => self.known.documents.compare(&hashes, &self.catalog.metrics),
            Err(problem) => {
                tracing::debug!(problem, "the index of the cluster's OpenAPI documents cannot be had");
                self.catalog.metrics.failed("openapi-index");
            }
        }
    }
}

impl Half {
    /// What there is, unless it is as it was.
    async fn look(&mut self, source: &dyn Source) -> Result<Option<Vec<Group>>, String> {
        match source.discovery(self.root, self.tag.as_ref()).await? {
            Told::Same => Ok(None),
            Told::New(Listing { groups, legacy }, tag) => {
                (self.legacy, self.tag) = (legacy, tag);
                Ok(Some(groups))
            }
            Told::Nothing => Err(format!("there is no {}", self.root.path())),
        }
    }
}

/// The first of them.
fn few(list: &[String]) -> Option<String> {
    const FEW: usize = 5;
    let first = list.iter().take(FEW).cloned().collect::<Vec<_>>().join(", ");
    match list.len() {
        0 => None,
        1..=FEW => Some(first),
        many => Some(format!("{first} and {} more", many - FEW)),
    }
}

const NOT_LISTED: &str = "the cluster's API has not been listed yet";
