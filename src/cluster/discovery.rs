//! What an API server says that it serves: discovery, aggregated or legacy, and OpenAPI v3.

use super::Cluster;
use crate::client::{Answer, Bounds, Error};
use bytes::Bytes;
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_TYPE, ETAG},
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use std::{collections::HashMap, time::Duration};

#[cfg(test)]
mod tests;

/// Where discovery begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Root {
    /// `/api`, the core group.
    Core,
    /// `/apis`, every group that has a name.
    Named,
}

/// An answer to somebody who may know it already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told<T> {
    /// Nothing has changed.
    Same,
    /// This, and the entity tag that names it.
    New(T, Option<HeaderValue>),
    /// There is no such thing: 404.
    Nothing,
}

/// What there is below a [`Root`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// In the server's order.
    pub groups: Vec<Group>,
    /// Every group and version was asked on its own: the server does not know the aggregated form.
    pub legacy: bool,
}

/// An API group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// Empty for the core group.
    pub name: String,
    /// In the server's order.
    pub versions: Vec<Version>,
}

/// A version of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Version {
    /// e.g. `v1`
    pub name: String,
    /// False: who serves it does not answer, and the resources may be out of date or lacking.
    pub current: bool,
    /// What it has.
    pub resources: Vec<Resource>,
}

/// A resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resource {
    /// The plural, as in paths.
    pub name: String,
    /// Its objects.
    pub kind: Kind,
    /// False: cluster-wide.
    pub namespaced: bool,
    /// As the server spells them.
    pub verbs: Vec<String>,
    /// What is below its objects.
    pub subresources: Vec<Subresource>,
}

/// Something below an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subresource {
    /// The path segment.
    pub name: String,
    /// What travels there.
    pub kind: Kind,
    /// As the server spells them.
    pub verbs: Vec<String>,
}

/// A kind; group and version are empty where they are those of the resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Kind {
    /// API group.
    #[serde(deserialize_with = "lenient")]
    pub group: String,
    /// API version.
    #[serde(deserialize_with = "lenient")]
    pub version: String,
    /// e.g. `Deployment`
    #[serde(deserialize_with = "lenient")]
    pub kind: String,
}

const LISTING: HeaderValue = HeaderValue::from_static(concat!(
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,",
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,",
    "application/json"
));
const AGGREGATED: &str = "APIGroupDiscoveryList";
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A thousand CRDs take half a megabyte.
const LISTED: Bounds = Bounds { timeout: Duration::from_secs(15), body: 32 << 20 };
/// One group and version; somebody waits for it.
const PART: Bounds = Bounds { timeout: Duration::from_secs(5), body: 8 << 20 };
/// The largest of Kubernetes' own is a little more than one megabyte.
const DOCUMENT: Bounds = Bounds { timeout: Duration::from_secs(10), body: 32 << 20 };
/// Groups and versions that are asked one by one.
const PARTS: usize = 2_000;

impl Cluster {
    /// What is served below `root`. Where one group and version cannot be had, the others are told all the same.
    ///
    /// # Errors
    /// No answer, or one that is none; for the log.
    pub async fn discovery(&self, root: Root, known: Option<&HeaderValue>) -> Result<Told<Listing>, String> {
        let path = root.path();
        let answer = self.ask(path, LISTING, known, LISTED).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if known.is_some() => return Ok(Told::Same),
            StatusCode::NOT_FOUND => return Ok(Told::Nothing),
            status => return Err(self.unexpected(path, status)),
        }
        let tag = answer.headers.get(ETAG).cloned();
        let listed: Listed = self.read(path, &answer)?;
        if listed.kind == AGGREGATED {
            let groups = listed.items.into_iter().map(Group::from).collect();
            return Ok(Told::New(Listing { groups, legacy: false }, tag));
        }
        let named = match (root, listed.kind.as_str()) {
            (Root::Core, "APIVersions") => vec![(String::new(), listed.versions)],
            (Root::Named, "APIGroupList") => listed.groups.into_iter().map(LegacyGroup::named).collect(),
            _ => {
                let kind: String = listed.kind.chars().take(64).collect();
                return Err(format!("{}{path}: {kind:?}, expected a list of groups", self.authority()));
            }
        };
        Ok(Told::New(Listing { groups: self.one_by_one(named).await, legacy: true }, None))
    }

    /// What a group's version has at this moment, as whoever serves it says; None: there is none.
    ///
    /// # Errors
    /// No answer, or one that is none; for the log.
    pub async fn group_version(&self, group: &str, version: &str) -> Result<Option<Version>, String> {
        let path =
            if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        let answer = self.ask(&path, JSON, None, PART).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(self.unexpected(&path, status)),
        }
        let list: LegacyList = self.read(&path, &answer)?;
        if list.kind != "APIResourceList" {
            return Err(format!("{}{path}: expected an APIResourceList", self.authority()));
        }
        Ok(Some(Version { name: version.to_owned(), current: true, resources: list.resources() }))
    }

    /// The hashes of all OpenAPI v3 documents, by `apis/apps/v1`. In kube-apiserver those of custom resources are up to a second old, those of
    /// aggregated API servers a minute.
    ///
    /// # Errors
    /// No answer, or one that is none; for the log.
    pub async fn openapi_hashes(&self) -> Result<HashMap<String, String>, String> {
        let path = "/openapi/v3";
        let answer = self.ask(path, JSON, None, LISTED).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(HashMap::new()),
            status => return Err(self.unexpected(path, status)),
        }
        let index: Index = self.read(path, &answer)?;
        let hash = |url: &str| url.split_once("hash=").map(|(_, hash)| hash.to_owned());
        Ok(index.paths.into_iter().filter_map(|(path, at)| Some((path, hash(&at.url)?))).collect())
    }

    /// The OpenAPI v3 document of a group's version as it is at this moment. It is asked for without a hash: whoever serves the group then answers
    /// for itself, while the index, which names hashes, is only polled by the aggregator.
    ///
    /// # Errors
    /// No answer, or one that is none; for the log.
    pub async fn openapi(
        &self,
        group: &str,
        version: &str,
        known: Option<&HeaderValue>,
    ) -> Result<Told<Bytes>, String> {
        let path = format!("/openapi/v3/{}", openapi_path(group, version));
        let answer = self.ask(&path, JSON, known, DOCUMENT).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if known.is_some() => return Ok(Told::Same),
            StatusCode::NOT_FOUND => return Ok(Told::Nothing),
            status => return Err(self.unexpected(&path, status)),
        }
        let tag = answer.headers.get(ETAG).cloned();
        match answer.headers.get(CONTENT_TYPE) {
            Some(media) if media.as_bytes().starts_with(b"application/json") => {
                Ok(Told::New(answer.body, tag))
            }
            _ => Err(format!("{}{path}: expected application/json", self.authority())),
        }
    }

    async fn one_by_one(&self, named: Vec<(String, Vec<String>)>) -> Vec<Group> {
        let mut left = PARTS;
        let mut groups = Vec::with_capacity(named.len());
        for (name, versions) in named {
            let mut group = Group { name, versions: Vec::with_capacity(versions.len()) };
            for version in versions {
                let asked = match left.checked_sub(1) {
                    Some(fewer) => {
                        left = fewer;
                        self.group_version(&group.name, &version).await
                    }
                    None => Err(format!("more than {PARTS} groups and versions")),
                };
                group.versions.push(match asked {
                    Ok(Some(version)) => version,
                    // Removed a moment ago, or not answered for.
                    Ok(None) => Version { name: version, current: false, resources: Vec::new() },
                    Err(problem) => {
                        tracing::debug!(problem, "a part of the cluster's API cannot be listed");
                        Version { name: version, current: false, resources: Vec::new() }
                    }
                });
            }
            groups.push(group);
        }
        groups
    }

    async fn ask(
        &self,
        path: &str,
        accept: HeaderValue,
        known: Option<&HeaderValue>,
        bounds: Bounds,
    ) -> Result<Answer, String> {
        // Whoever else keeps the token fresh may have let go of this endpoint; the old token may do as well.
        if let Err(problem) = self.endpoint.refresh() {
            tracing::debug!("the token for the upstream cannot be read again: {problem}");
        }
        let answered = self.client.get_as(path, accept, known, bounds).await;
        answered.map_err(|Error::Failed(why)| why)
    }

    fn read<T: DeserializeOwned>(&self, path: &str, answer: &Answer) -> Result<T, String> {
        let read = serde_json::from_slice(&answer.body);
        read.map_err(|error| format!("{}{path}: {error}", self.authority()))
    }

    fn unexpected(&self, path: &str, status: StatusCode) -> String {
        let hint = match status {
            StatusCode::FORBIDDEN => ", the gate's account needs the ClusterRole system:discovery",
            StatusCode::UNAUTHORIZED => ", the gate's account is not known there",
            _ => ", expected 200",
        };
        format!("{}{path}: status {}{hint}", self.authority(), status.as_u16())
    }

    fn authority(&self) -> &str {
        self.endpoint.authority().as_str()
    }
}

/// A group and version as the OpenAPI index names them: `api/v1`, `apis/apps/v1`.
pub fn openapi_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

impl Root {
    /// Where it is.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Core => "/api",
            Self::Named => "/apis",
        }
    }
}

/// The groups of an APIGroupDiscoveryList.
///
/// # Errors
/// It is none.
pub fn aggregated(text: &[u8]) -> Result<Vec<Group>, String> {
    let listed: Listed = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if listed.kind != AGGREGATED {
        return Err(format!("expected the kind {AGGREGATED}"));
    }
    Ok(listed.items.into_iter().map(Group::from).collect())
}

// === the forms on the wire ===

/// Any of the answers of `/api` and `/apis`.
#[derive(Deserialize)]
struct Listed {
    kind: String,
    #[serde(default, deserialize_with = "lenient")]
    items: Vec<AggregatedGroup>,
    #[serde(default, deserialize_with = "lenient")]
    groups: Vec<LegacyGroup>,
    #[serde(default, deserialize_with = "lenient")]
    versions: Vec<String>,
}

#[derive(Deserialize)]
struct AggregatedGroup {
    #[serde(default)]
    metadata: Named,
    #[serde(default, deserialize_with = "lenient")]
    versions: Vec<AggregatedVersion>,
}

#[derive(Deserialize, Default)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct AggregatedVersion {
    version: String,
    #[serde(default, deserialize_with = "lenient")]
    resources: Vec<AggregatedResource>,
    #[serde(default)]
    freshness: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AggregatedResource {
    resource: String,
    #[serde(default, deserialize_with = "lenient")]
    response_kind: Kind,
    #[serde(default)]
    scope: String,
    #[serde(default, deserialize_with = "lenient")]
    verbs: Vec<String>,
    #[serde(default, deserialize_with = "lenient")]
    subresources: Vec<AggregatedSubresource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AggregatedSubresource {
    subresource: String,
    #[serde(default, deserialize_with = "lenient")]
    response_kind: Kind,
    #[serde(default, deserialize_with = "lenient")]
    verbs: Vec<String>,
}

#[derive(Deserialize)]
struct LegacyGroup {
    name: String,
    #[serde(default, deserialize_with = "lenient")]
    versions: Vec<LegacyVersion>,
}

#[derive(Deserialize)]
struct LegacyVersion {
    version: String,
}

#[derive(Deserialize)]
struct LegacyList {
    kind: String,
    #[serde(default, deserialize_with = "lenient")]
    resources: Vec<LegacyResource>,
}

#[derive(Deserialize)]
struct LegacyResource {
    name: String,
    #[serde(default)]
    namespaced: bool,
    #[serde(flatten)]
    kind: Kind,
    #[serde(default, deserialize_with = "lenient")]
    verbs: Vec<String>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    paths: HashMap<String, At>,
}

#[derive(Deserialize)]
struct At {
    #[serde(rename = "serverRelativeURL", default)]
    url: String,
}

/// Go writes null for what is empty.
fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(reader: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(reader)?.unwrap_or_default())
}

impl From<AggregatedGroup> for Group {
    fn from(group: AggregatedGroup) -> Self {
        Self { name: group.metadata.name, versions: group.versions.into_iter().map(Version::from).collect() }
    }
}

impl From<AggregatedVersion> for Version {
    fn from(version: AggregatedVersion) -> Self {
        Self {
            name: version.version,
            current: version.freshness != "Stale",
            resources: version.resources.into_iter().map(Resource::from).collect(),
        }
    }
}

impl From<AggregatedResource> for Resource {
    fn from(resource: AggregatedResource) -> Self {
        Self {
            name: resource.resource,
            kind: resource.response_kind,
            namespaced: resource.scope == "Namespaced",
            verbs: resource.verbs,
            subresources: resource.subresources.into_iter().map(Subresource::from).collect(),
        }
    }
}

impl From<AggregatedSubresource> for Subresource {
    fn from(below: AggregatedSubresource) -> Self {
        Self { name: below.subresource, kind: below.response_kind, verbs: below.verbs }
    }
}

impl LegacyGroup {
    fn named(self) -> (String, Vec<String>) {
        (self.name, self.versions.into_iter().map(|version| version.version).collect())
    }
}

impl LegacyList {
    /// `pods/log` is a subresource, even where there are no pods.
    fn resources(self) -> Vec<Resource> {
        let mut resources: Vec<Resource> = Vec::with_capacity(self.resources.len());
        let mut at: HashMap<String, usize> = HashMap::new();
        for LegacyResource { name, namespaced, kind, verbs } in self.resources {
            let (above, below) = match name.split_once('/') {
                Some((above, below)) => (above, Some(below)),
                None => (name.as_str(), None),
            };
            let place = *at.entry(above.to_owned()).or_insert_with(|| {
                resources.push(Resource { name: above.to_owned(), namespaced, ..Resource::default() });
                resources.len() - 1
            });
            let Some(resource) = resources.get_mut(place) else { continue };
            match below {
                Some(below) => {
                    resource.subresources.push(Subresource { name: below.to_owned(), kind, verbs })
                }
                None => (resource.namespaced, resource.kind, resource.verbs) = (namespaced, kind, verbs),
            }
        }
        resources
    }
}
