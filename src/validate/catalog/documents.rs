//! Schemas: fetched when they are first needed, kept while the cluster's index names the same hash.

use super::{Metrics, Origin, Schemas, source::Source};
use crate::cluster::discovery::{Told, openapi_path};
use bytes::Bytes;
use http::HeaderValue;
use serde::{Deserialize, de::IgnoredAny};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// Every document of one upstream that somebody needed, by its path in the index.
#[derive(Debug, Default)]
pub(super) struct Documents(Arc<Mutex<Shelf>>);

#[derive(Debug, Default)]
struct Shelf {
    places: HashMap<Box<str>, Place>,
    /// Of the texts that the schemas were made of.
    bytes: usize,
    held: usize,
}

#[derive(Debug)]
struct Place {
    held: Option<Held>,
    /// The index names another hash.
    outdated: bool,
    /// When it was last asked for in vain.
    failed: Option<Instant>,
    under_way: Option<Flight>,
    used: Instant,
}

#[derive(Debug, Clone)]
struct Held {
    schemas: Arc<Schemas>,
    origin: Origin,
    tag: Option<HeaderValue>,
    bytes: usize,
    /// The cluster told it after this moment.
    as_of: Instant,
}

#[derive(Debug, Clone)]
struct Flight {
    began: Instant,
    landed: watch::Receiver<bool>,
}

/// What fails is not tried again for so long; a new CRD's document is there after a second.
const REST: Duration = Duration::from_secs(3);
/// Texts of documents that are held, all together; those of Kubernetes itself are some ten megabytes.
const MOST: usize = 128 << 20;
/// Places, whether or not anything is held there.
const PLACES: usize = 4_096;

impl Documents {
    /// What the cluster told after `since`, or at any time. Waits for at most so long for it, and so long again where somebody has asked
    /// too early.
    pub(super) async fn get(
        &self,
        source: &Arc<dyn Source>,
        group: &str,
        version: &str,
        since: Option<Instant>,
        patience: Duration,
        metrics: &Metrics,
    ) -> Option<Arc<Schemas>> {
        let path = openapi_path(group, version);
        for _ in 0..2 {
            let mut flight = match self.board(source, &path, group, version, since, metrics) {
                Ok(schemas) => return schemas,
                Err(flight) => flight,
            };
            let landed = timeout(patience, flight.landed.wait_for(|landed| *landed)).await;
            if landed.is_err() {
                // What is old may still do for whoever does not insist.
                return self.held(&path, since);
            }
            if since.is_none_or(|since| flight.began >= since) {
                break;
            }
        }
        self.held(&path, since)
    }

    /// Of a document that is held.
    pub(super) fn origin(&self, group: &str, version: &str) -> Origin {
        let path = openapi_path(group, version);
        let shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = shelf.places.get(path.as_str()).and_then(|place| place.held.as_ref());
        held.map_or(Origin::Unknown, |held| held.origin)
    }

    /// Whether there is anything that an index could outdate.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).held == 0
    }

    /// Compares with the hashes of now.
    pub(super) fn compare(&self, hashes: &HashMap<String, String>, metrics: &Metrics) {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = Vec::new();
        for (path, place) in &mut shelf.places {
            let Some(held) = &place.held else { continue };
            match hashes.get(&**path) {
                Some(hash) => place.outdated = !held.is_named(hash),
                None => gone.push(path.clone()),
            }
        }
        for path in gone {
            shelf.remove(&path);
        }
        metrics.documents(shelf.held, shelf.bytes);
    }

    fn held(&self, path: &str, since: Option<Instant>) -> Option<Arc<Schemas>> {
        let shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = shelf.places.get(path)?.held.as_ref()?;
        since.is_none_or(|since| held.as_of >= since).then(|| held.schemas.clone())
    }

    /// What there is to say at once, or a flight to wait for.
    fn board(
        &self,
        source: &Arc<dyn Source>,
        path: &str,
        group: &str,
        version: &str,
        since: Option<Instant>,
        metrics: &Metrics,
    ) -> Result<Option<Arc<Schemas>>, Flight> {
        let now = Instant::now();
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !shelf.places.contains_key(path) {
            shelf.make_room(now);
            let new = Place { held: None, outdated: false, failed: None, under_way: None, used: now };
            shelf.places.insert(path.into(), new);
        }
        let Some(place) = shelf.places.get_mut(path) else { return Ok(None) };
        place.used = now;
        let told_since = |held: &&Held| match since {
            Some(since) => held.as_of >= since,
            None => !place.outdated,
        };
        if let Some(held) = place.held.as_ref().filter(told_since) {
            return Ok(Some(held.schemas.clone()));
        }
        if let Some(flight) = &place.under_way {
            return Err(flight.clone());
        }
        if place.failed.is_some_and(|failed| now < failed + REST) {
            let old = place.held.as_ref().filter(|_| since.is_none());
            return Ok(old.map(|held| held.schemas.clone()));
        }
        let (tell, landed) = watch::channel(false);
        let flight = Flight { began: now, landed };
        place.under_way = Some(flight.clone());
        let tag = place.held.as_ref().and_then(|held| held.tag.clone());
        drop(shelf);
        let landing = Landing { shelf: self.0.clone(), path: path.into(), fetched: None, tell };
        let fetching =
            fetch(source.clone(), group.into(), version.into(), tag, now, landing, metrics.clone());
        // Who asked first may go away; the others still wait.
        tokio::spawn(fetching);
        Err(flight)
    }
}

impl Held {
    /// Whether its entity tag is this hash, in quotes.
    fn is_named(&self, hash: &str) -> bool {
        let tag = self.tag.as_ref().and_then(|tag| tag.to_str().ok());
        tag.is_some_and(|tag| tag.trim_start_matches("W/").trim_matches('"') == hash)
    }
}

impl Shelf {
    fn put(&mut self, path: &str, held: Held) {
        let Some(place) = self.places.get_mut(path) else { return };
        let before = place.held.replace(held);
        (place.failed, place.outdated) = (None, false);
        self.bytes += place.held.as_ref().map_or(0, |held| held.bytes);
        self.bytes -= before.as_ref().map_or(0, |held| held.bytes);
        self.held += usize::from(before.is_none());
        while self.bytes > MOST && self.held > 1 {
            let others =
                self.places.iter().filter(|(other, place)| &***other != path && place.held.is_some());
            let Some(oldest) = others.min_by_key(|(_, place)| place.used).map(|(path, _)| path.clone())
            else {
                break;
            };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, path: &str) {
        let Some(place) = self.places.get_mut(path) else { return };
        if let Some(held) = place.held.take() {
            self.bytes -= held.bytes;
            self.held -= 1;
        }
    }

    /// Callers could ask for ever new groups.
    fn make_room(&mut self, now: Instant) {
        if self.places.len() >= PLACES {
            self.places.retain(|_, place| {
                let resting = place.failed.is_some_and(|failed| now < failed + REST);
                place.held.is_some() || place.under_way.is_some() || resting
            });
        }
        if self.places.len() >= PLACES {
            let oldest = self.places.iter().min_by_key(|(_, place)| place.used).map(|(path, _)| path.clone());
            if let Some(path) = oldest {
                self.remove(&path);
                self.places.remove(&path);
            }
        }
    }
}

/// Whatever becomes of a fetch, it is no longer under way.
struct Landing {
    shelf: Arc<Mutex<Shelf>>,
    path: Box<str>,
    /// None: it failed.
    fetched: Option<Fetched>,
    tell: watch::Sender<bool>,
}

enum Fetched {
    Same(Instant),
    New(Held),
    Nothing,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let path = &*self.path;
        if let Some(place) = shelf.places.get_mut(path) {
            place.under_way = None;
            match self.fetched.take() {
                Some(Fetched::Same(as_of)) => {
                    (place.failed, place.outdated) = (None, false);
                    if let Some(held) = &mut place.held {
                        held.as_of = as_of;
                    }
                }
                Some(Fetched::New(held)) => shelf.put(path, held),
                Some(Fetched::Nothing) => {
                    place.failed = Some(Instant::now());
                    shelf.remove(path);
                }
                None => place.failed = Some(Instant::now()),
            }
        }
        drop(shelf);
        self.tell.send_replace(true);
    }
}

async fn fetch(
    source: Arc<dyn Source>,
    group: String,
    version: String,
    known: Option<HeaderValue>,
    began: Instant,
    mut landing: Landing,
    metrics: Metrics,
) {
    let fetched = match source.openapi(&group, &version, known.as_ref()).await {
        Ok(Told::Same) => Ok(Fetched::Same(began)),
        Ok(Told::Nothing) => Ok(Fetched::Nothing),
        Ok(Told::New(text, tag)) => compiled(text, tag, began).await.map(Fetched::New),
        Err(problem) => Err(problem),
    };
    landing.fetched = fetched
        .inspect_err(|problem| {
            tracing::warn!(problem, group, version, "an OpenAPI document of the cluster cannot be had");
        })
        .ok();
    if landing.fetched.is_none() {
        metrics.failed("openapi");
    }
    let shelf = landing.shelf.clone();
    drop(landing);
    let shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
    metrics.documents(shelf.held, shelf.bytes);
}

/// On a thread that may be busy for some milliseconds.
async fn compiled(text: Bytes, tag: Option<HeaderValue>, as_of: Instant) -> Result<Held, String> {
    let bytes = text.len();
    let compiling = tokio::task::spawn_blocking(move || {
        let origin = origin(&text);
        Schemas::compile(&text).map(|schemas| (schemas, origin))
    });
    let compiled = compiling.await.map_err(|error| error.to_string())?;
    let (schemas, origin) = compiled.map_err(|error| error.to_string())?;
    Ok(Held { schemas: Arc::new(schemas), origin, tag, bytes, as_of })
}

/// Who wrote a document. That of custom resources says so in its title, and takes JSON and YAML; API servers take anything (`*/*`).
fn origin(text: &[u8]) -> Origin {
    let Ok(document) = serde_json::from_slice::<Outline>(text) else { return Origin::Unknown };
    let mut bodies = document.paths.values().flat_map(|path| [&path.post, &path.put]).flatten().peekable();
    let custom = document.info.title.starts_with("Kubernetes CRD")
        && bodies.peek().is_some()
        && bodies.all(|operation| {
            let content = &operation.request_body.content;
            content.contains_key("application/json") && !content.contains_key("*/*")
        });
    if custom { Origin::Custom } else { Origin::Aggregated }
}

#[derive(Deserialize)]
struct Outline {
    #[serde(default)]
    info: Info,
    #[serde(default)]
    paths: HashMap<String, Path>,
}

#[derive(Deserialize, Default)]
struct Info {
    #[serde(default)]
    title: String,
}

#[derive(Deserialize)]
struct Path {
    post: Option<Operation>,
    put: Option<Operation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Operation {
    #[serde(default)]
    request_body: RequestBody,
}

#[derive(Deserialize, Default)]
struct RequestBody {
    #[serde(default)]
    content: HashMap<String, IgnoredAny>,
}
