//! What the upstream serves: groups, versions, resources and verbs from its discovery, and the schemas of their objects from its
//! OpenAPI documents, through the gate's own account.
//!
//! [`follow`] lists the API in the background. [`Catalog::find`] looks up what was listed, without a lock; what it does not find may have been
//! created a moment ago, so [`Catalog::find_again`] asks the cluster about that one group and version. Nothing is said to be missing that
//! was not looked for after the request came, and nothing that may be served though it is not listed: API servers behind the aggregator list
//! what they like (metrics adapters serve names that they never list).

mod desk;
mod documents;
mod follow;
mod metrics;
mod served;
mod source;
#[cfg(test)]
mod tests;

pub use follow::follow;
pub use metrics::Metrics;
pub use served::{Served, is_builtin};

use super::schema::Schemas;
use crate::request::{Asked, RequestInfo, Verb};
use arc_swap::{ArcSwap, ArcSwapOption};
use desk::{Desk, Reply};
use documents::Documents;
use metrics::Unsure;
use served::GroupVersion;
use source::{Nobody, Source};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, sleep_until},
};

/// What is known of the upstream's API.
#[derive(Debug)]
pub struct Catalog {
    known: ArcSwapOption<Known>,
    /// Requests that wait for a second look.
    waiting: Semaphore,
    /// The follower is to look again at once.
    again: Notify,
    metrics: Metrics,
}

/// What is known of one upstream.
#[derive(Debug)]
struct Known {
    source: Arc<dyn Source>,
    served: ArcSwap<Option<Served>>,
    desk: Desk,
    documents: Documents,
}

/// A resource in one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: Arc<str>,
    /// API version.
    pub version: Arc<str>,
    /// The plural, as in paths.
    pub name: Arc<str>,
    /// What its objects are.
    pub kind: Kind,
    /// False: cluster-wide.
    pub namespaced: bool,
    /// What can be asked of it.
    pub verbs: Verbs,
    /// What is below its objects.
    pub subresources: Box<[Subresource]>,
}

/// Something below an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subresource {
    /// The path segment.
    pub name: Arc<str>,
    /// What travels there.
    pub kind: Kind,
    /// What can be asked of it.
    pub verbs: Verbs,
}

/// A kind of object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kind {
    /// API group.
    pub group: Arc<str>,
    /// API version.
    pub version: Arc<str>,
    /// e.g. `Deployment`
    pub kind: Arc<str>,
}

/// A set of verbs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verbs(u16);

/// Who serves a group's version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Origin {
    /// It is not known yet: nobody has needed its OpenAPI document, or it has none.
    #[default]
    Unknown,
    /// kube-apiserver itself.
    BuiltIn,
    /// kube-apiserver, by a CustomResourceDefinition: no protobuf, no strategic merge patches.
    Custom,
    /// Another API server, behind the aggregator.
    Aggregated,
}

/// Where a request leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// To something that is served, by the verb of the request.
    Known(Route),
    /// To nothing: what is missing. From [`Catalog::find_again`] it is certain.
    Missing(Missing),
    /// The path is no resource's, or what is known of the cluster is not good enough to say.
    Unsure,
}

/// Something that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The resource.
    pub resource: Arc<Resource>,
    /// Which of its subresources.
    pub subresource: Option<usize>,
    /// Who serves it.
    pub origin: Origin,
}

/// What is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The API group.
    Group,
    /// This version of the group.
    Version,
    /// The resource.
    Resource,
    /// This subresource of the resource.
    Subresource,
    /// The resource is there, but not on such a path: a namespace is named for what has none, or not where one is needed.
    Path,
    /// The path is there, but not for this verb.
    Verb,
}

/// How much the catalogue is worth. The texts are for the log and the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is not known yet, or no longer.
    Unknown(String),
    /// All of it is as the cluster told a moment ago.
    Fresh,
    /// Of some groups, or of all, it is not known whether it still holds.
    Stale(String),
}

/// Between the moment that something is served and the moment that the cluster lists it, with its schema. In kube-apiserver both follow from the
/// same event, in either order, some milliseconds apart; a burst of new CRDs takes longer.
const SETTLE: Duration = Duration::from_secs(1);
/// Requests that wait for as long at a time; each holds its place among those in flight.
const WAITING: usize = 64;
/// A request in more of a hurry is not kept waiting.
const HURRY: Duration = Duration::from_secs(5);
/// First need of a document.
const PATIENCE: Duration = Duration::from_secs(2);

// === impl Verbs ===

impl Verbs {
    /// With one more.
    pub fn with(self, verb: Verb) -> Self {
        Self(self.0 | 1 << verb as u16)
    }

    /// Whether it is among them.
    pub fn has(self, verb: Verb) -> bool {
        self.0 & 1 << verb as u16 != 0
    }

    /// None.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn among(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }
}

// === impl Route ===

impl Route {
    /// What travels there.
    pub fn kind(&self) -> &Kind {
        self.below().map_or(&self.resource.kind, |below| &below.kind)
    }

    /// What can be asked.
    pub fn verbs(&self) -> Verbs {
        self.below().map_or(self.resource.verbs, |below| below.verbs)
    }

    /// The subresource.
    pub fn below(&self) -> Option<&Subresource> {
        self.subresource.and_then(|at| self.resource.subresources.get(at))
    }
}

// === impl Known ===

impl Known {
    /// Nothing, of an upstream that can be asked.
    fn new(source: Arc<dyn Source>) -> Self {
        let served = ArcSwap::from_pointee(None);
        Self { source, served, desk: Desk::default(), documents: Documents::default() }
    }
}

// === impl Catalog ===

impl Catalog {
    /// Nothing is known yet.
    pub fn new(metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            known: ArcSwapOption::empty(),
            waiting: Semaphore::new(WAITING),
            again: Notify::new(),
            metrics,
        })
    }

    /// A catalogue that holds this, and asks nobody.
    pub fn of(served: Served, metrics: Metrics) -> Arc<Self> {
        let catalog = Self::new(metrics);
        let known = Known::new(Arc::new(Nobody));
        known.served.store(Arc::new(Some(served)));
        catalog.known.store(Some(Arc::new(known)));
        catalog
    }

    /// Where a request leads, as far as is known. No lock, no allocation. Something `Missing` may have been created since: see
    /// [`Self::find_again`].
    pub fn find(&self, info: &RequestInfo) -> Lookup {
        if !info.is_resource() || info.verb() == Verb::Proxy {
            return Lookup::Unsure;
        }
        let known = self.known.load();
        let Some(known) = known.as_ref() else { return self.unsure(Unsure::Unknown) };
        match known.served.load().as_ref() {
            Some(served) => match served.find(info) {
                Ok(lookup) => lookup,
                Err(why) => self.unsure(why),
            },
            None => self.unsure(Unsure::Unknown),
        }
    }

    /// The same after another look at the cluster: what was created since is `Known`, and what is `Missing` is so for certain. Asks about
    /// the group's version alone, so often as the cluster can bear; who comes oftener gets `Unsure`.
    ///
    /// Where custom resources are concerned the second answer is asked for a second later, because they are served
    /// before they are listed. `certain` false does without.
    pub async fn find_again(&self, asked: &Asked, certain: bool) -> Lookup {
        let (came, info) = (Instant::now(), &asked.info);
        let found = self.find(info);
        let Lookup::Missing(_) = found else { return found };
        let Some(known) = self.known.load_full() else { return self.unsure(Unsure::Unknown) };
        let (group, version) = (info.group(), info.version());
        if !is_plain(group) || !is_plain(version) {
            return self.unsure(Unsure::Odd);
        }
        match self.ask(&known, info, came).await {
            Ok((found, _)) if !matches!(found, Lookup::Missing(_)) => return found,
            // Nothing appears in Kubernetes' own groups.
            Ok((missing, true)) if is_builtin(group) => return missing,
            Ok(_) => {}
            Err(why) => return self.unsure(why),
        }
        if !certain || asked.timeout.is_some_and(|timeout| timeout < HURRY) {
            return self.unsure(Unsure::Hurry);
        }
        let Ok(_waiting) = self.waiting.try_acquire() else { return self.unsure(Unsure::Limited) };
        sleep_until(came + SETTLE).await;
        match self.ask(&known, info, came + SETTLE).await {
            Ok((Lookup::Missing(Missing::Group | Missing::Version), false)) => self.unsure(Unsure::Limited),
            Ok((missing @ Lookup::Missing(Missing::Group | Missing::Version), true)) => missing,
            Ok((Lookup::Missing(missing), fresh)) => match self.origin(&known, group, version).await {
                Origin::Custom if fresh => Lookup::Missing(missing),
                Origin::Custom => self.unsure(Unsure::Limited),
                _ => self.unsure(Unsure::Unlisted),
            },
            Ok((found, _)) => found,
            Err(why) => self.unsure(why),
        }
    }

    /// Who serves the group's version, where its OpenAPI document has to be asked for that; waits for that for two seconds at most.
    pub async fn origin_of(&self, route: &Route) -> Origin {
        if route.origin != Origin::Unknown {
            return route.origin;
        }
        let Some(known) = self.known.load_full() else { return Origin::Unknown };
        self.origin(&known, &route.resource.group, &route.resource.version).await
    }

    /// The schemas of a group's version; None where they are not known. First need waits for them, for two seconds at most.
    pub async fn schemas(&self, group: &str, version: &str) -> Option<Arc<Schemas>> {
        let known = self.known.load_full().filter(|_| is_plain(group) && is_plain(version))?;
        self.documents(&known, group, version, None).await
    }

    /// The same, as the cluster tells them after this question was asked; for refusals that rest on them. None where that cannot be had.
    /// Schemas of other than Kubernetes' own kinds may be in force before they are told, so these are asked for a second later.
    pub async fn schemas_now(&self, group: &str, version: &str) -> Option<Arc<Schemas>> {
        let since = Instant::now() + if is_builtin(group) { Duration::ZERO } else { SETTLE };
        let known = self.known.load_full().filter(|_| is_plain(group) && is_plain(version))?;
        sleep_until(since).await;
        self.documents(&known, group, version, Some(since)).await
    }

    async fn origin(&self, known: &Known, group: &str, version: &str) -> Origin {
        if is_builtin(group) {
            return Origin::BuiltIn;
        }
        match self.documents(known, group, version, None).await {
            Some(_) => known.documents.origin(group, version),
            None => Origin::Unknown,
        }
    }

    async fn documents(
        &self,
        known: &Known,
        group: &str,
        version: &str,
        since: Option<Instant>,
    ) -> Option<Arc<Schemas>> {
        let Known { source, documents, .. } = known;
        let schemas = documents.get(source, group, version, since, PATIENCE, &self.metrics).await?;
        if let (Some(served), false) = (known.served.load().as_ref(), is_builtin(group)) {
            served.originates(group, version, documents.origin(group, version));
        }
        Some(schemas)
    }

    /// What the cluster says now, and whether it said so after `since`.
    async fn ask(&self, known: &Known, info: &RequestInfo, since: Instant) -> Result<(Lookup, bool), Unsure> {
        let asked = known.desk.ask(&known.source, info.group(), info.version(), since).await;
        let Some(Reply { said, fresh }) = asked else { return Err(Unsure::Limited) };
        let said = said.as_ref().as_ref().map_err(|problem| {
            tracing::debug!(problem, "a part of the cluster's API cannot be listed");
            self.metrics.failed("group-version");
            Unsure::Failed
        })?;
        let Some(version) = said else {
            let has_group =
                known.served.load().as_ref().as_ref().is_some_and(|served| served.has(info.group()));
            let missing = if has_group { Missing::Version } else { Missing::Group };
            return Ok((Lookup::Missing(missing), fresh));
        };
        let found = GroupVersion::new(info.group(), version).find(info)?;
        if !matches!(found, Lookup::Missing(_)) {
            self.learn(known, info.group(), version);
        }
        Ok((found, fresh))
    }

    /// Puts what was found besides into the list, until the whole is listed again: soon.
    fn learn(&self, known: &Known, group: &str, version: &crate::cluster::discovery::Version) {
        known.served.rcu(|served| served.as_ref().as_ref().map(|served| served.with(group, version)));
        self.again.notify_one();
    }

    fn unsure(&self, why: Unsure) -> Lookup {
        self.metrics.unsure(why);
        Lookup::Unsure
    }
}

/// Whether a decoded path segment can be put into a path again, and be the name of a group or version at all.
fn is_plain(segment: &str) -> bool {
    segment.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-'))
}
