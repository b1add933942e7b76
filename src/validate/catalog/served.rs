//! The list of what is served, compact, and the look-up in it.

use super::{Kind, Lookup, Missing, Origin, Resource, Route, Subresource, Verbs, metrics::Unsure};
use crate::{
    cluster::discovery,
    request::{RequestInfo, Verb},
};
use foldhash::fast::RandomState;
use std::{
    collections::{HashMap, HashSet},
    mem::size_of,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
};

/// All that is served, as of one look.
#[derive(Debug, Clone, Default)]
pub struct Served {
    groups: HashMap<Arc<str>, Vec<Arc<GroupVersion>>, RandomState>,
}

/// A group's version.
#[derive(Debug, Default)]
pub(super) struct GroupVersion {
    version: Arc<str>,
    /// False: what is not there may be there all the same.
    current: bool,
    /// An [`Origin`]; known later than the rest.
    origin: AtomicU8,
    resources: HashMap<Arc<str>, Arc<Resource>, RandomState>,
}

/// Groups of kube-apiserver itself. No CustomResourceDefinition and no other API server can add to them: their paths end there.
const BUILTIN: [&str; 23] = [
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "extensions",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

/// Whether it is one of Kubernetes' own groups, whose kinds never change while an API server runs.
pub fn is_builtin(group: &str) -> bool {
    BUILTIN.binary_search(&group).is_ok()
}

// === impl Served ===

impl Served {
    /// Adds what discovery told. What has not changed is taken over from `before`.
    pub fn add<'a>(&mut self, groups: impl IntoIterator<Item = &'a discovery::Group>, before: Option<&Self>) {
        let mut words = Words::default();
        for group in groups {
            let known = before.and_then(|before| before.groups.get(group.name.as_str()));
            let versions = group.versions.iter().map(|version| {
                let new = GroupVersion::made(&mut words, &group.name, version);
                let old = known.into_iter().flatten().find(|old| old.version == new.version);
                match old {
                    Some(old) if old.is_like(&new) => old.clone(),
                    Some(old) => {
                        new.origin.store(old.origin.load(Relaxed), Relaxed);
                        Arc::new(new)
                    }
                    None => Arc::new(new),
                }
            });
            let versions = versions.collect();
            self.groups.insert(words.intern(&group.name), versions);
        }
    }

    /// Takes over some of the groups of `before`.
    pub(super) fn keep(&mut self, before: Option<&Self>, which: impl Fn(&str) -> bool) {
        let groups = before.into_iter().flat_map(|before| &before.groups).filter(|(group, _)| which(group));
        self.groups.extend(groups.map(|(group, versions)| (group.clone(), versions.clone())));
    }

    /// The same with what this group's version was found to have.
    pub(super) fn with(&self, group: &str, version: &discovery::Version) -> Self {
        let mut more = self.clone();
        let new = Arc::new(GroupVersion::new(group, version));
        let versions = more.groups.entry(group.into()).or_default();
        match versions.iter_mut().find(|old| old.version == new.version) {
            Some(old) => {
                new.origin.store(old.origin.load(Relaxed), Relaxed);
                *old = new;
            }
            None => versions.push(new),
        }
        more
    }

    pub(super) fn find(&self, info: &RequestInfo) -> Result<Lookup, Unsure> {
        let Some(versions) = self.groups.get(info.group()) else {
            return Ok(Lookup::Missing(Missing::Group));
        };
        match versions.iter().find(|version| *version.version == *info.version()) {
            Some(version) => version.find(info),
            None => Ok(Lookup::Missing(Missing::Version)),
        }
    }

    pub(super) fn has(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    pub(super) fn originates(&self, group: &str, version: &str, origin: Origin) {
        let versions = self.groups.get(group).into_iter().flatten();
        for known in versions.filter(|known| *known.version == *version) {
            known.origin.store(origin as u8, Relaxed);
        }
    }

    /// Groups and versions of which it is not known whether they still hold: `metrics.k8s.io/v1beta1`.
    pub(super) fn stale(&self) -> Vec<String> {
        let mut stale: Vec<String> = self
            .versions()
            .filter(|(_, version)| !version.current)
            .map(|(group, version)| format!("{group}/{}", version.version))
            .collect();
        stale.sort();
        stale
    }

    /// Groups, and resources of all their versions.
    pub fn counts(&self) -> (usize, usize) {
        (self.groups.len(), self.versions().map(|(_, version)| version.resources.len()).sum())
    }

    /// About so many bytes of memory.
    pub fn bytes(&self) -> usize {
        let shared = |text: &str| text.len() + 2 * size_of::<usize>();
        let version = |version: &GroupVersion| -> usize {
            let below = |resource: &Resource| -> usize {
                resource.subresources.len() * size_of::<Subresource>()
                    + size_of::<Resource>()
                    + size_of::<(Arc<str>, Arc<Resource>)>()
                    + shared(&resource.name)
                    + shared(&resource.kind.kind)
            };
            size_of::<GroupVersion>()
                + version.resources.values().map(|resource| below(resource)).sum::<usize>()
        };
        let groups: usize = self.groups.keys().map(|group| shared(group)).sum();
        groups + self.versions().map(|(_, one)| version(one)).sum::<usize>()
    }

    fn versions(&self) -> impl Iterator<Item = (&str, &GroupVersion)> {
        self.groups.iter().flat_map(|(group, versions)| versions.iter().map(move |one| (&**group, &**one)))
    }
}

// === impl GroupVersion ===

impl GroupVersion {
    pub(super) fn new(group: &str, version: &discovery::Version) -> Self {
        Self::made(&mut Words::default(), group, version)
    }

    fn made(words: &mut Words, group: &str, version: &discovery::Version) -> Self {
        let origin = if is_builtin(group) { Origin::BuiltIn } else { Origin::Unknown };
        let (group, name) = (words.intern(group), words.intern(&version.name));
        let kind = |words: &mut Words, kind: &discovery::Kind| {
            // Those of a subresource may be another's.
            let own = kind.group.is_empty() && kind.version.is_empty();
            Kind {
                group: if own { group.clone() } else { words.intern(&kind.group) },
                version: if kind.version.is_empty() { name.clone() } else { words.intern(&kind.version) },
                kind: words.intern(&kind.kind),
            }
        };
        let mut resources = HashMap::default();
        for resource in &version.resources {
            let below = resource.subresources.iter().map(|below| Subresource {
                name: words.intern(&below.name),
                kind: kind(words, &below.kind),
                verbs: verbs(&below.verbs),
            });
            let subresources = below.collect();
            let made = Resource {
                group: group.clone(),
                version: name.clone(),
                name: words.intern(&resource.name),
                kind: kind(words, &resource.kind),
                namespaced: resource.namespaced,
                verbs: verbs(&resource.verbs),
                subresources,
            };
            resources.insert(made.name.clone(), Arc::new(made));
        }
        Self { version: name, current: version.current, origin: AtomicU8::new(origin as u8), resources }
    }

    fn is_like(&self, other: &Self) -> bool {
        self.version == other.version && self.current == other.current && self.resources == other.resources
    }

    fn origin(&self) -> Origin {
        const KNOWN: [Origin; 3] = [Origin::BuiltIn, Origin::Custom, Origin::Aggregated];
        let told = self.origin.load(Relaxed);
        KNOWN.into_iter().find(|origin| *origin as u8 == told).unwrap_or_default()
    }

    /// Where a request for this group's version leads.
    pub(super) fn find(&self, info: &RequestInfo) -> Result<Lookup, Unsure> {
        let origin = self.origin();
        let missing = |what: Missing| match origin {
            _ if !self.current => Err(Unsure::Stale),
            Origin::Aggregated => Err(Unsure::Unlisted),
            _ => Ok(Lookup::Missing(what)),
        };
        let Some(resource) = self.resources.get(info.resource()) else { return missing(Missing::Resource) };
        let subresource = match info.subresource() {
            "" => None,
            name => match resource.subresources.iter().position(|below| *below.name == *name) {
                None => return missing(Missing::Subresource),
                found => found,
            },
        };
        let route = Route { resource: resource.clone(), subresource, origin };
        match unserved(&route, info) {
            Some(what) => missing(what),
            None => Ok(Lookup::Known(route)),
        }
    }
}

/// Verbs of a collection, of a collection across all namespaces, and of an object.
const COLLECTION: [Verb; 4] = [Verb::Create, Verb::List, Verb::Watch, Verb::DeleteCollection];
const EVERYWHERE: [Verb; 2] = [Verb::List, Verb::Watch];
const OBJECT: [Verb; 4] = [Verb::Get, Verb::Update, Verb::Patch, Verb::Delete];

/// What is wrong with a path that leads to something, or with the verb there.
fn unserved(route: &Route, info: &RequestInfo) -> Option<Missing> {
    let (resource, verb) = (&route.resource, info.verb());
    // An object's namespace, not the namespace that is the object.
    let is_namespace = resource.group.is_empty() && &*resource.name == "namespaces";
    let in_namespace = !info.namespace().is_empty() && !is_namespace;
    if in_namespace && !resource.namespaced {
        return Some(Missing::Path);
    }
    let served = route.verbs();
    if route.subresource.is_some() {
        let homeless = resource.namespaced && !in_namespace;
        let lacks = !served.has(verb);
        return if homeless { Some(Missing::Path) } else { lacks.then_some(Missing::Verb) };
    }
    // By the old form of a watch, `/watch/`, single objects are followed, too.
    if verb == Verb::Watch {
        return (!served.has(verb)).then_some(Missing::Verb);
    }
    let on_object = !info.name().is_empty() && !COLLECTION[1..].contains(&verb);
    let everywhere = resource.namespaced && !in_namespace;
    let here = match (on_object, everywhere) {
        (true, true) => return Some(Missing::Path),
        (true, false) => verbs_of(&OBJECT),
        (false, true) => verbs_of(&EVERYWHERE),
        (false, false) => verbs_of(&COLLECTION),
    };
    let there = served.among(here);
    if there.has(verb) {
        return None;
    }
    if route.origin == Origin::BuiltIn {
        return Some(if there.is_empty() { Missing::Path } else { Missing::Verb });
    }
    if everywhere {
        return Some(Missing::Path);
    }
    // A create with a name in the path is served by custom resources, and a change without one is refused by them in words of their own.
    here.has(verb).then_some(Missing::Verb)
}

fn verbs_of(list: &[Verb]) -> Verbs {
    list.iter().fold(Verbs::default(), |verbs, verb| verbs.with(*verb))
}

/// Verbs that no request can have are passed over.
fn verbs(names: &[String]) -> Verbs {
    const ALL: [Verb; 8] = [
        Verb::Get,
        Verb::List,
        Verb::Watch,
        Verb::Create,
        Verb::Update,
        Verb::Patch,
        Verb::Delete,
        Verb::DeleteCollection,
    ];
    let named = |name: &String| ALL.into_iter().find(|verb| verb.as_str() == name);
    names.iter().filter_map(named).fold(Verbs::default(), Verbs::with)
}

/// Every text once.
#[derive(Default)]
struct Words(HashSet<Arc<str>, RandomState>);

impl Words {
    fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        self.0.insert(new.clone());
        new
    }
}
