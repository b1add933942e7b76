//! What the upstream serves: groups, versions, resources and verbs from its discovery, and the schemas of their objects from its
//! OpenAPI documents, through the gate's own account.

use super::schema::Schemas;
use crate::{
    endpoint::Endpoint,
    request::{RequestInfo, Verb},
};
use arc_swap::ArcSwapOption;
use std::{collections::HashMap, sync::Arc};

/// What is known of the upstream's API.
#[derive(Debug, Default)]
pub struct Catalog {
    served: ArcSwapOption<Served>,
}

/// All that is served, as of one look.
#[derive(Debug, Default)]
pub struct Served {
    groups: HashMap<Box<str>, HashMap<Box<str>, Version>>,
}

#[derive(Debug, Default)]
struct Version {
    resources: HashMap<Box<str>, Arc<Resource>>,
}

/// A resource in one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: Box<str>,
    /// API version.
    pub version: Box<str>,
    /// The plural, as in paths.
    pub name: Box<str>,
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
    pub name: Box<str>,
    /// What travels there.
    pub kind: Kind,
    /// What can be asked of it.
    pub verbs: Verbs,
}

/// A kind of object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kind {
    /// API group.
    pub group: Box<str>,
    /// API version.
    pub version: Box<str>,
    /// e.g. `Deployment`
    pub kind: Box<str>,
}

/// A set of verbs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verbs(u16);

/// Where a request leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// To something that is served.
    Known(Route),
    /// To nothing: what is missing.
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

// === impl Catalog ===

impl Catalog {
    /// Nothing is known yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Where a request leads, as far as is known. No lock, no allocation.
    pub fn find(&self, info: &RequestInfo) -> Lookup {
        let served = self.served.load();
        let Some(served) = served.as_ref().filter(|_| info.is_resource()) else { return Lookup::Unsure };
        served.find(info)
    }

    /// The same after another look at the cluster, unless there was one a moment ago: then `Unsure`.
    pub async fn find_again(&self, _info: &RequestInfo) -> Lookup {
        Lookup::Unsure
    }

    /// The schemas of a group's version; None where they are not known.
    pub async fn schemas(&self, _group: &str, _version: &str) -> Option<Arc<Schemas>> {
        None
    }

    /// The same, as the cluster tells them after this question was asked; for refusals that rest on them. None where that cannot be had.
    pub async fn schemas_now(&self, _group: &str, _version: &str) -> Option<Arc<Schemas>> {
        None
    }
}

impl Served {
    fn find(&self, info: &RequestInfo) -> Lookup {
        let Some(versions) = self.groups.get(info.group()) else { return Lookup::Missing(Missing::Group) };
        let Some(version) = versions.get(info.version()) else { return Lookup::Missing(Missing::Version) };
        let Some(resource) = version.resources.get(info.resource()) else {
            return Lookup::Missing(Missing::Resource);
        };
        let subresource = match info.subresource() {
            "" => None,
            name => match resource.subresources.iter().position(|below| &*below.name == name) {
                None => return Lookup::Missing(Missing::Subresource),
                found => found,
            },
        };
        Lookup::Known(Route { resource: resource.clone(), subresource })
    }
}

/// Keeps the catalogue as the upstream of now, which `endpoint` tells, serves; until dropped.
pub async fn follow(
    _catalog: Arc<Catalog>,
    _endpoint: impl Fn() -> Arc<Endpoint> + Send,
    tell: impl Fn(&Standing) + Send,
) {
    tell(&Standing::Unknown("the cluster's API has not been listed yet".to_owned()));
    std::future::pending().await
}
