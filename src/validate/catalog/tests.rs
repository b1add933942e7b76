use super::{follow::Follower, *};
use crate::cluster::discovery::{self, Listing, Root, Told, Version};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request};
use prometheus::Registry;
use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::time::advance;

/// A cluster in the hands of a test.
#[derive(Debug, Default)]
struct Fake {
    world: Mutex<World>,
    calls: Mutex<Vec<String>>,
    /// How long each answer takes.
    takes: Duration,
    open: AtomicUsize,
}

#[derive(Debug, Default)]
struct World {
    groups: Vec<discovery::Group>,
    /// What single groups and versions are, where that is not what is listed.
    parts: HashMap<String, Result<Option<Version>, String>>,
    documents: HashMap<String, String>,
    hashes: HashMap<String, String>,
    broken: bool,
    revision: usize,
}

impl Fake {
    fn new(world: World) -> Arc<Self> {
        Arc::new(Self { world: Mutex::new(world), takes: Duration::from_millis(10), ..Self::default() })
    }

    fn change(&self, change: impl FnOnce(&mut World)) {
        let mut world = self.world.lock().unwrap();
        change(&mut world);
        world.revision += 1;
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    fn answer<'a, T: Send + 'a>(
        &'a self,
        call: String,
        answer: impl FnOnce(&World) -> Result<T, String> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, String>> {
        self.calls.lock().unwrap().push(call);
        Box::pin(async move {
            self.open.fetch_add(1, SeqCst);
            tokio::time::sleep(self.takes).await;
            self.open.fetch_sub(1, SeqCst);
            let world = self.world.lock().unwrap();
            if world.broken { Err("no answer".to_owned()) } else { answer(&world) }
        })
    }
}

impl Source for Fake {
    fn discovery<'a>(
        &'a self,
        root: Root,
        known: Option<&'a HeaderValue>,
    ) -> BoxFuture<'a, Result<Told<Listing>, String>> {
        self.answer(format!("{} {}", root.path(), known.is_some()), move |world| {
            let tag = HeaderValue::from(world.revision as u64);
            if known == Some(&tag) {
                return Ok(Told::Same);
            }
            let core = root == Root::Core;
            let groups = world.groups.iter().filter(|group| group.name.is_empty() == core).cloned().collect();
            Ok(Told::New(Listing { groups, legacy: false }, Some(tag)))
        })
    }

    fn group_version<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
    ) -> BoxFuture<'a, Result<Option<Version>, String>> {
        self.answer(format!("{group}/{version}"), move |world| {
            if let Some(told) = world.parts.get(&format!("{group}/{version}")) {
                return told.clone();
            }
            let group = world.groups.iter().find(|known| known.name == group);
            Ok(group.and_then(|group| group.versions.iter().find(|known| known.name == version).cloned()))
        })
    }

    fn openapi_hashes(&self) -> BoxFuture<'_, Result<HashMap<String, String>, String>> {
        self.answer("index".to_owned(), |world| Ok(world.hashes.clone()))
    }

    fn openapi<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
        known: Option<&'a HeaderValue>,
    ) -> BoxFuture<'a, Result<Told<Bytes>, String>> {
        let path = discovery::openapi_path(group, version);
        self.answer(format!("document {path}"), move |world| {
            let Some(text) = world.documents.get(&path) else { return Ok(Told::Nothing) };
            let tag =
                world.hashes.get(&path).map(|hash| HeaderValue::from_str(&format!("\"{hash}\"")).unwrap());
            Ok(match tag.as_ref() == known && known.is_some() {
                true => Told::Same,
                false => Told::New(Bytes::from(text.clone()), tag),
            })
        })
    }
}

const CUSTOM: &str = r#"{"openapi": "3.0.0", "info": {"title": "Kubernetes CRD Swagger"}, "components": {"schemas": {}},
    "paths": {"/x": {"post": {"requestBody": {"content": {"application/json": {}, "application/yaml": {}}}}}}}"#;
const OTHER: &str = r#"{"openapi": "3.0.0", "info": {"title": "metrics"}, "components": {"schemas": {}},
    "paths": {"/x": {"post": {"requestBody": {"content": {"*/*": {}}}}}}}"#;

/// `pods Namespaced Pod get,list log:get`
fn resource(line: &str) -> discovery::Resource {
    let words: Vec<&str> = line.split(' ').collect();
    let verbs = |text: &str| -> Vec<String> {
        let all = "create,delete,deletecollection,get,list,patch,update,watch";
        let text = if text == "*" { all } else { text };
        text.split(',').map(str::to_owned).collect()
    };
    let kind = |kind: &str| discovery::Kind { kind: kind.to_owned(), ..discovery::Kind::default() };
    let below = |word: &&str| {
        let (name, list) = word.split_once(':').unwrap();
        discovery::Subresource { name: name.to_owned(), kind: kind(words[2]), verbs: verbs(list) }
    };
    discovery::Resource {
        name: words[0].to_owned(),
        kind: kind(words[2]),
        namespaced: words[1] == "Namespaced",
        verbs: verbs(words[3]),
        subresources: words[4..].iter().map(below).collect(),
    }
}

fn version(name: &str, lines: &[&str]) -> Version {
    let current = !name.starts_with('!');
    let resources = lines.iter().map(|line| resource(line)).collect();
    Version { name: name.trim_start_matches('!').to_owned(), current, resources }
}

fn group(name: &str, versions: Vec<Version>) -> discovery::Group {
    discovery::Group { name: name.to_owned(), versions }
}

fn world() -> World {
    let groups = vec![
        group(
            "",
            vec![version(
                "v1",
                &[
                    "pods Namespaced Pod * status:get,patch,update log:get exec:create,get proxy:create,delete,get,patch,update",
                    "namespaces Cluster Namespace create,delete,get,list,patch,update,watch status:get,patch,update finalize:update",
                    "nodes Cluster Node *",
                    "bindings Namespaced Binding create",
                    "componentstatuses Cluster ComponentStatus get,list",
                ],
            )],
        ),
        group("apps", vec![version("v1", &["deployments Namespaced Deployment *"])]),
        group("authentication.k8s.io", vec![version("v1", &["tokenreviews Cluster TokenReview create"])]),
        group(
            "ex.io",
            vec![version("v1", &["foos Namespaced Foo * status:get,patch,update", "clus Cluster Clu *"])],
        ),
        group("metrics.k8s.io", vec![version("v1", &["pods Namespaced PodMetrics get,list"])]),
        group("down.io", vec![version("!v1", &["old Cluster Old get"])]),
    ];
    let documents = [("apis/ex.io/v1", CUSTOM), ("apis/metrics.k8s.io/v1", OTHER), ("api/v1", OTHER)];
    let hashes = documents.map(|(path, _)| (path.to_owned(), "A1".to_owned()));
    let documents = documents.map(|(path, text)| (path.to_owned(), text.to_owned()));
    let parts = [("down.io/v1".to_owned(), Err("status 503".to_owned()))];
    World {
        groups,
        parts: parts.into(),
        documents: documents.into(),
        hashes: hashes.into(),
        ..World::default()
    }
}

fn catalog() -> Arc<Catalog> {
    Catalog::new(Metrics::new(&Registry::new()).unwrap())
}

fn asked(line: &str) -> Asked {
    let (method, target) = line.split_once(' ').unwrap();
    let (parts, ()) = Request::builder().method(method).uri(target).body(()).unwrap().into_parts();
    Asked::parse(&parts).unwrap()
}

/// A catalogue that has listed this, and what goes on listing it.
async fn listed<'c>(catalog: &'c Catalog, fake: &Arc<Fake>) -> Follower<'c> {
    let mut follower = Follower::new(catalog, fake.clone());
    follower.step(&|_: &Standing| {}).await;
    fake.calls();
    follower
}

fn short(found: &Lookup) -> String {
    match found {
        Lookup::Known(route) => {
            let below = route.below().map_or(String::new(), |below| format!("/{}", below.name));
            format!("{}{below}", route.resource.name)
        }
        Lookup::Missing(what) => format!("no {what:?}"),
        Lookup::Unsure => "unsure".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn paths_and_verbs() {
    let (catalog, fake) = (catalog(), Fake::new(world()));
    let _follower = listed(&catalog, &fake).await;
    for (line, want) in [
        ("GET /api/v1/namespaces/a/pods/p", "pods"),
        ("GET /api/v1/namespaces/a/pods/", "pods"),
        ("GET /api/v1/pods", "pods"),
        ("GET /api/v1/pods?watch=1&fieldSelector=metadata.name%3Dx", "pods"),
        ("GET /api/v1/pods?fieldSelector=metadata.name%3Dx", "pods"),
        ("DELETE /api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dx", "pods"),
        ("GET /api/v1/pods/p", "no Path"),
        ("PUT /api/v1/pods/p", "no Path"),
        ("POST /api/v1/pods/p", "no Path"),
        ("POST /api/v1/pods", "no Verb"),
        ("DELETE /api/v1/pods", "no Verb"),
        ("PATCH /api/v1/pods", "no Verb"),
        ("PUT /api/v1/namespaces/a/pods", "no Verb"),
        ("POST /api/v1/namespaces/a/pods/p", "no Verb"),
        ("GET /api/v1/namespaces/a/pods/p/log", "pods/log"),
        ("POST /api/v1/namespaces/a/pods/p/log", "no Verb"),
        ("GET /api/v1/namespaces/a/pods/p/exec", "pods/exec"),
        ("POST /api/v1/namespaces/a/pods/p/exec", "pods/exec"),
        ("PUT /api/v1/namespaces/a/pods/p/exec", "no Verb"),
        ("DELETE /api/v1/namespaces/a/pods/p/proxy/x/y", "pods/proxy"),
        ("GET /api/v1/namespaces/a/pods/p/nosub", "no Subresource"),
        ("GET /api/v1/pods/p/log", "no Path"),
        ("GET /api/v1/Pods", "no Resource"),
        ("GET /api/v1/nosuch", "no Resource"),
        ("GET /api/v2/pods", "no Version"),
        ("GET /apis/apps/v9/deployments", "no Version"),
        ("GET /apis/nosuch.io/v1/x", "no Group"),
        ("GET /api/v1/namespaces/a", "namespaces"),
        ("DELETE /api/v1/namespaces", "no Verb"),
        ("POST /api/v1/namespaces/a", "no Verb"),
        ("GET /api/v1/namespaces/a/status", "namespaces/status"),
        ("GET /api/v1/namespaces/a/finalize", "no Verb"),
        ("PUT /api/v1/namespaces/a/finalize", "namespaces/finalize"),
        ("GET /api/v1/nodes/n", "nodes"),
        ("GET /api/v1/namespaces/a/nodes", "no Path"),
        ("GET /api/v1/namespaces/a/nodes/n", "no Path"),
        ("POST /api/v1/bindings", "no Path"),
        ("GET /api/v1/bindings", "no Path"),
        ("POST /api/v1/namespaces/a/bindings", "bindings"),
        ("GET /api/v1/namespaces/a/bindings/x", "no Path"),
        ("GET /api/v1/componentstatuses?watch=1", "no Verb"),
        ("GET /apis/authentication.k8s.io/v1/tokenreviews", "no Verb"),
        ("GET /apis/authentication.k8s.io/v1/tokenreviews/x", "no Path"),
        ("GET /api/v1/watch/namespaces/a/pods/p", "pods"),
        ("GET /api/v1/watch/pods", "pods"),
        ("GET /api/v1/watch/nosuch", "no Resource"),
        ("GET /api/v1/proxy/nodes/x", "unsure"),
        ("GET /apis/ex.io/v1/foos", "foos"),
        ("GET /apis/ex.io/v1/namespaces/a/foos/f", "foos"),
        ("POST /apis/ex.io/v1/namespaces/a/foos/f", "foos"),
        ("PUT /apis/ex.io/v1/namespaces/a/foos", "foos"),
        ("GET /apis/ex.io/v1/foos/f", "no Path"),
        ("POST /apis/ex.io/v1/foos", "no Path"),
        ("DELETE /apis/ex.io/v1/foos", "no Path"),
        ("GET /apis/ex.io/v1/namespaces/a/clus", "no Path"),
        ("GET /apis/ex.io/v1/namespaces/a/foos/f/scale", "no Subresource"),
        ("DELETE /apis/ex.io/v1/namespaces/a/foos/f/status", "no Verb"),
        ("GET /apis/ex.io/v1/nosuch", "no Resource"),
        ("GET /apis/ex.io/v2/foos", "no Version"),
        ("GET /apis/metrics.k8s.io/v1/nodes", "unsure"),
        ("GET /apis/metrics.k8s.io/v1/pods", "pods"),
        ("GET /apis/down.io/v1/new", "unsure"),
        ("GET /apis/down.io/v1/old/x", "old"),
        ("GET /apis/EX%3Fio/v1/foos", "unsure"),
        ("GET /healthz", "unsure"),
        ("GET /apis/apps/v1", "unsure"),
    ] {
        advance(Duration::from_secs(5)).await;
        let asked = asked(line);
        let again = catalog.find_again(&asked, true).await;
        assert_eq!(short(&again), want, "{line}");
        // The first look says no more than the second.
        let found = catalog.find(&asked.info);
        assert!(matches!(found, Lookup::Missing(_)) || found == again, "{line}: {found:?}");
    }
}

/// How often a request could not be judged for this reason.
fn unsure(catalog: &Catalog, why: Unsure) -> u64 {
    catalog.metrics.count(why)
}

#[tokio::test(start_paused = true)]
async fn what_was_created_a_moment_ago_is_found() {
    let (catalog, fake) = (catalog(), Fake::new(world()));
    let mut follower = listed(&catalog, &fake).await;
    fake.change(|world| world.groups.push(group("new.io", vec![version("v1", &["news Cluster News *"])])));
    let asked = asked("GET /apis/new.io/v1/news");
    assert_eq!(short(&catalog.find(&asked.info)), "no Group");
    let began = Instant::now();
    assert_eq!(short(&catalog.find_again(&asked, true).await), "news");
    assert!(began.elapsed() < SETTLE);
    assert_eq!(fake.calls(), ["new.io/v1"]);
    assert_eq!(short(&catalog.find(&asked.info)), "news");
    // The whole list follows, as soon as it may.
    follower.step(&|_: &Standing| {}).await;
    follower.step(&|_: &Standing| {}).await;
    assert_eq!(fake.calls(), ["/api true", "/apis true"]);
    assert!(began.elapsed() <= SETTLE * 2);
    assert_eq!(short(&catalog.find(&asked.info)), "news");
}

#[tokio::test(start_paused = true)]
async fn what_is_served_before_it_is_listed_is_looked_for_twice() {
    let (catalog, fake) = (catalog(), Fake::new(world()));
    let _follower = listed(&catalog, &fake).await;
    let began = Instant::now();
    let late = asked("GET /apis/ex.io/v1/bars");
    let (found, ()) = tokio::join!(catalog.find_again(&late, true), async {
        tokio::time::sleep(SETTLE / 2).await;
        fake.change(|world| {
            let ex = world.groups.iter_mut().find(|group| group.name == "ex.io").unwrap();
            ex.versions[0].resources.push(resource("bars Cluster Bar *"));
        });
    });
    assert_eq!(short(&found), "bars");
    assert_eq!(fake.calls(), ["ex.io/v1", "ex.io/v1"]);
    // In Kubernetes' own groups nothing appears.
    assert!(began.elapsed() >= SETTLE);
    let began = Instant::now();
    assert_eq!(short(&catalog.find_again(&asked("GET /apis/apps/v1/nosuch"), true).await), "no Resource");
    assert!(began.elapsed() < SETTLE / 2);
    // Nobody waits who is in a hurry, or would not be refused.
    for (target, certain) in [("/apis/no.io/v1/x?timeout=2s", true), ("/apis/no.io/v1/x", false)] {
        let began = Instant::now();
        let asked = asked(&format!("GET {target}"));
        assert_eq!(catalog.find_again(&asked, certain).await, Lookup::Unsure);
        assert!(began.elapsed() < SETTLE / 2);
    }
    assert_eq!(unsure(&catalog, Unsure::Hurry), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_answered_for_is_not_missing() {
    let (catalog, fake) = (catalog(), Fake::new(world()));
    let row = asked("GET /apis/apps/v1/nosuch");
    assert_eq!(catalog.find_again(&row, true).await, Lookup::Unsure, "nothing is listed");
    assert_eq!(unsure(&catalog, Unsure::Unknown), 1);
    let mut follower = listed(&catalog, &fake).await;
    assert_eq!(
        follower.standing,
        Standing::Stale("of the cluster's API nobody answers for down.io/v1".to_owned())
    );
    fake.change(|world| world.broken = true);
    assert_eq!(catalog.find_again(&row, true).await, Lookup::Unsure, "nobody answers");
    assert_eq!(unsure(&catalog, Unsure::Failed), 1);
    // What was listed goes on to count for a while.
    let told = Mutex::new(Vec::new());
    let known = asked("GET /api/v1/pods");
    let began = Instant::now();
    while short(&catalog.find(&known.info)) == "pods" {
        follower.step(&|standing: &Standing| told.lock().unwrap().push(standing.clone())).await;
        assert!(began.elapsed() < Duration::from_secs(1000));
    }
    assert!(began.elapsed() > Duration::from_secs(500));
    assert_eq!(
        *told.lock().unwrap(),
        [
            Standing::Stale("the cluster's API can no longer be listed: no answer".to_owned()),
            Standing::Unknown("the cluster's API was last listed more than 600s ago".to_owned()),
        ]
    );
    // And is there again when the cluster is.
    fake.change(|world| {
        world.broken = false;
        world.groups.retain(|group| group.name != "down.io");
    });
    while follower.standing != Standing::Fresh {
        follower.step(&|_: &Standing| {}).await;
        assert!(began.elapsed() < Duration::from_secs(2000));
    }
    assert_eq!(short(&catalog.find(&known.info)), "pods");
}

#[tokio::test(start_paused = true)]
async fn a_look_is_cheap_while_nothing_changes() {
    let (catalog, fake) = (catalog(), Fake::new(world()));
    let mut follower = listed(&catalog, &fake).await;
    let before = catalog.known.load_full().unwrap().served.load_full();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(300) {
        follower.step(&|_: &Standing| {}).await;
    }
    let calls = fake.calls();
    assert!((14..=26).contains(&calls.len()), "{calls:?}");
    assert!(calls.iter().all(|call| call.ends_with(" true")), "{calls:?}");
    // A change of one group leaves the others where they are.
    fake.change(|world| world.groups.push(group("new.io", vec![version("v1", &["news Cluster News *"])])));
    while short(&catalog.find(&asked("GET /apis/new.io/v1/news").info)) != "news" {
        follower.step(&|_: &Standing| {}).await;
    }
    let pods = |served: &Option<Served>| match served.as_ref().unwrap().find(&asked("GET /api/v1/pods").info)
    {
        Ok(Lookup::Known(route)) => route.resource,
        other => panic!("{other:?}"),
    };
    let after = catalog.known.load_full().unwrap().served.load_full();
    assert!(Arc::ptr_eq(&pods(&before), &pods(&after)));
}

#[tokio::test(start_paused = true)]
async fn a_storm_is_no_load_for_the_cluster() {
    let (catalog, fake) = (catalog(), Fake::new(world()));
    let _follower = listed(&catalog, &fake).await;
    let began = Instant::now();
    let mut found = Vec::new();
    for second in 0..10 {
        let storm = (0..200).map(|i| {
            let catalog = catalog.clone();
            let target = if i % 2 == 0 {
                "GET /apis/no.io/v1/x".to_owned()
            } else {
                format!("GET /apis/no{i}.io/v{second}/x")
            };
            tokio::spawn(async move { catalog.find_again(&asked(&target), true).await })
        });
        for task in storm.collect::<Vec<_>>() {
            found.push(short(&task.await.unwrap()));
        }
    }
    let took = began.elapsed().as_secs_f64();
    let (asked, missing) =
        (fake.calls().len() as f64, found.iter().filter(|found| *found == "no Group").count());
    assert!(asked <= 9.0 + took * 4.0, "{asked} in {took} s");
    assert!(missing > 0);
    assert_eq!(found.iter().filter(|found| *found == "unsure").count() + missing, 2000);
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_leaves_the_question_to_the_others() {
    let (catalog, fake) = (catalog(), Fake::new(world()));
    let _follower = listed(&catalog, &fake).await;
    fake.change(|world| world.groups.push(group("new.io", vec![version("v1", &["news Cluster News *"])])));
    let ask = || {
        let catalog = catalog.clone();
        tokio::spawn(async move { catalog.find_again(&asked("GET /apis/new.io/v1/news"), true).await })
    };
    let (first, second) = (ask(), ask());
    tokio::time::sleep(fake.takes / 2).await;
    first.abort();
    assert_eq!(short(&second.await.unwrap()), "news");
    assert_eq!(fake.calls(), ["new.io/v1"]);
}

#[tokio::test(start_paused = true)]
async fn another_upstream_is_another_world() {
    let (catalog, fake) = (catalog(), Fake::new(world()));
    let _follower = listed(&catalog, &fake).await;
    let row = asked("GET /apis/ex.io/v1/foos");
    assert_eq!(short(&catalog.find(&row.info)), "foos");
    assert!(catalog.schemas("ex.io", "v1").await.is_some());
    let other = Fake::new(World { groups: vec![group("", vec![version("v1", &[])])], ..World::default() });
    let mut follower = Follower::new(&catalog, other.clone());
    assert_eq!(catalog.find(&row.info), Lookup::Unsure);
    assert!(catalog.schemas("ex.io", "v1").await.is_none());
    follower.step(&|_: &Standing| {}).await;
    assert_eq!(short(&catalog.find(&row.info)), "no Group");
}

#[tokio::test(start_paused = true)]
async fn documents_are_fetched_once() {
    let (catalog, fake) = (catalog(), Fake::new(world()));
    let mut follower = listed(&catalog, &fake).await;
    let route = |target: &str| match catalog.find(&asked(target).info) {
        Lookup::Known(route) => route,
        other => panic!("{target}: {other:?}"),
    };
    assert_eq!(route("GET /apis/ex.io/v1/foos").origin, Origin::Unknown);
    assert_eq!(route("GET /apis/apps/v1/deployments").origin, Origin::BuiltIn);
    let all = (0..10).map(|_| {
        let catalog = catalog.clone();
        tokio::spawn(async move { catalog.schemas("ex.io", "v1").await.unwrap() })
    });
    let mut had = Vec::new();
    for task in all.collect::<Vec<_>>() {
        had.push(task.await.unwrap());
    }
    assert!(had.iter().all(|one| Arc::ptr_eq(one, &had[0])));
    assert!(Arc::ptr_eq(&catalog.schemas("ex.io", "v1").await.unwrap(), &had[0]));
    assert_eq!(fake.calls(), ["document apis/ex.io/v1"]);
    // Who serves the group is known from then on.
    assert_eq!(route("GET /apis/ex.io/v1/foos").origin, Origin::Custom);
    let other = route("GET /apis/metrics.k8s.io/v1/pods");
    assert_eq!((other.origin, catalog.origin_of(&other).await), (Origin::Unknown, Origin::Aggregated));
    // Confirmed by the cluster: of custom resources a second later, unchanged without a new document.
    let began = Instant::now();
    fake.calls();
    assert!(Arc::ptr_eq(&catalog.schemas_now("ex.io", "v1").await.unwrap(), &had[0]));
    assert!(began.elapsed() >= SETTLE);
    assert_eq!(fake.calls(), ["document apis/ex.io/v1"]);
    let began = Instant::now();
    assert!(catalog.schemas_now("", "v1").await.is_some());
    assert!(began.elapsed() < SETTLE / 2);
    // Another hash makes the next need wait for the new one.
    fake.change(|world| drop(world.hashes.insert("apis/ex.io/v1".to_owned(), "B2".to_owned())));
    fake.calls();
    while !fake.calls().contains(&"index".to_owned()) {
        follower.step(&|_: &Standing| {}).await;
    }
    let new = catalog.schemas("ex.io", "v1").await.unwrap();
    assert!(!Arc::ptr_eq(&new, &had[0]));
    // A removed one is dropped.
    fake.change(|world| {
        world.hashes.remove("apis/ex.io/v1");
        world.documents.remove("apis/ex.io/v1");
    });
    while !fake.calls().contains(&"index".to_owned()) {
        follower.step(&|_: &Standing| {}).await;
    }
    assert!(catalog.schemas("ex.io", "v1").await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_document_that_cannot_be_had_is_left_alone_for_a_while() {
    let (catalog, fake) = (catalog(), Fake::new(world()));
    let _follower = listed(&catalog, &fake).await;
    for (target, calls) in [("none.io", 1), ("ex.io", 0)] {
        if calls == 0 {
            assert!(catalog.schemas(target, "v1").await.is_some());
            fake.change(|world| world.broken = true);
            assert!(catalog.schemas_now(target, "v1").await.is_none(), "it cannot be confirmed");
            assert!(catalog.schemas(target, "v1").await.is_some(), "what there is does all the same");
            fake.calls();
        }
        for _ in 0..20 {
            let _ = catalog.schemas(target, "v1").await;
        }
        assert_eq!(fake.calls().len(), calls, "{target}");
        advance(Duration::from_secs(5)).await;
        let _ = catalog.schemas(target, "v1").await;
        assert_eq!(fake.calls().len(), calls, "{target}");
    }
    // An answer that does not come is not waited for.
    let slow = Arc::new(Fake { takes: Duration::from_secs(60), ..Fake::default() });
    let _follower = Follower::new(&catalog, slow);
    let began = Instant::now();
    assert!(catalog.schemas("ex.io", "v1").await.is_none());
    assert!(began.elapsed() <= PATIENCE * 2);
}

#[test]
fn kubernetes_own_groups_are_in_order() {
    for (group, want) in
        [("", true), ("apps", true), ("storage.k8s.io", true), ("metrics.k8s.io", false), ("ex.io", false)]
    {
        assert_eq!(is_builtin(group), want, "{group}");
    }
}
