//! The follower with a clock that a test moves, and watches that say what it wants.

use super::*;
use crate::{
    cluster::rules::{
        fresh::Open,
        store::{Change, Item},
    },
    endpoint,
};
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};
use tokio::time::sleep;

type Told = (Standing, Option<Arc<Rules>>);

struct Rig {
    to: mpsc::Sender<(Kind, Heard)>,
    fresh: [Arc<Fresh>; 4],
    open: [Option<Open>; 4],
    told: Arc<Mutex<Vec<Told>>>,
    /// Makes a watch's task fail.
    crash: Arc<Notify>,
}

fn endpoint() -> Arc<Endpoint> {
    let server = "https://127.0.0.1:1".to_owned();
    let explicit = endpoint::Explicit { server, insecure_skip_tls_verify: true, ..Default::default() };
    Arc::new(Endpoint::new(&endpoint::Config::Explicit(explicit).read().unwrap()).unwrap())
}

impl Rig {
    fn new(max_age: Duration, keep: bool) -> Self {
        let (to, heard) = mpsc::channel(QUEUE);
        let noticed = Arc::new(Notify::new());
        let fresh = [(); 4].map(|()| Arc::new(Fresh::new(Instant::now(), max_age, noticed.clone())));
        let told: Arc<Mutex<Vec<_>>> = Arc::default();
        let telling = told.clone();
        let tell = move |standing: &Standing, rules: Option<&Arc<Rules>>| {
            let mut told = telling.lock().unwrap_or_else(PoisonError::into_inner);
            told.push((standing.clone(), rules.cloned()));
        };
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let config = Config { max_age, keep };
        let (endpoint, crash) = (endpoint(), Arc::new(Notify::new()));
        let mut tasks = JoinSet::new();
        let crashing = crash.clone();
        tasks.spawn(async move {
            crashing.notified().await;
            panic!("a defect");
        });
        let watches = Watches {
            endpoint: endpoint.clone(),
            fresh: fresh.clone(),
            noticed,
            heard,
            _to: to.clone(),
            tasks,
            started: Instant::now(),
        };
        let new = Follower::new(config, endpoint.clone(), metrics, Arc::new(tell));
        let make: Make = |roles, bindings| {
            assert!(bindings.iter().all(|binding| &*binding.name.name != "defect"), "a defect");
            super::make(roles, bindings)
        };
        let mut follower = Follower { watches, make, ..new };
        tokio::spawn(async move {
            loop {
                follower.moved(endpoint.clone());
                follower.step().await;
            }
        });
        Self { to, fresh, open: [const { None }; 4], told, crash }
    }

    async fn hear(&self, kind: Kind, change: Change) {
        self.to.send((kind, Heard::Change(change))).await.unwrap();
    }

    async fn done(&self, kind: Kind) {
        self.to.send((kind, Heard::Done(Instant::now()))).await.unwrap();
    }

    async fn fail(&self, kind: Kind, problem: &str) {
        self.to.send((kind, Heard::Failed(problem.to_owned()))).await.unwrap();
    }

    /// A list of these, and the watch after it.
    async fn list(&mut self, kind: Kind, objects: &[Value]) {
        self.hear(kind, Change::Listing).await;
        for object in objects {
            self.hear(kind, Change::Listed(item(kind, object))).await;
        }
        self.done(kind).await;
        self.open(kind);
    }

    /// All four, with one binding for each of these users.
    async fn sync(&mut self, users: &[&str]) {
        self.list(Kind::Role, &[]).await;
        self.list(Kind::ClusterRole, &[role(1)]).await;
        let bindings: Vec<Value> = users.iter().map(|user| binding(user, 1)).collect();
        self.list(Kind::ClusterRoleBinding, &bindings).await;
        self.list(Kind::RoleBinding, &[]).await;
        sleep(Duration::from_secs(1)).await;
    }

    fn open(&mut self, kind: Kind) {
        self.open[kind as usize] = Some(self.fresh[kind as usize].opened());
    }

    /// The server ends it, so that until now nothing was missed.
    fn end(&mut self, kind: Kind) {
        self.open[kind as usize].take().unwrap().finish();
    }

    /// Watches that are open are ended and opened again meanwhile.
    async fn pass(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            for kind in Kind::ALL {
                if self.open[kind as usize].is_some() {
                    self.end(kind);
                    self.open(kind);
                }
            }
            sleep(Duration::from_secs(60).min(until - Instant::now())).await;
        }
    }

    /// What was told since the last time: the standing, and who may.
    fn told(&self) -> Vec<(Standing, String)> {
        let mut told = self.told.lock().unwrap();
        told.drain(..)
            .map(|(standing, rules)| (standing, rules.map_or_else(|| "-".to_owned(), may)))
            .collect()
    }
}

fn item(kind: Kind, object: &Value) -> Item {
    Item::read(kind, object).unwrap()
}

fn role(version: u32) -> Value {
    json!({"metadata": {"name": "reader", "resourceVersion": version.to_string()},
        "rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]})
}

fn binding(user: &str, version: u32) -> Value {
    json!({"metadata": {"name": user, "resourceVersion": version.to_string()},
        "roleRef": {"kind": "ClusterRole", "name": "reader"}, "subjects": [{"kind": "User", "name": user}]})
}

/// Which of a, b, c may.
fn may(rules: Arc<Rules>) -> String {
    let asked = crate::request::Attributes { verb: "get", object: crate::request::Object::Path("/x") };
    let may = |user: &&str| rules.decide(user, &[], asked) != crate::rbac::Decision::Deny;
    ["a", "b", "c"].into_iter().filter(may).collect()
}

const AGE: Duration = Duration::from_secs(300);
const CRB: Kind = Kind::ClusterRoleBinding;

fn current(who: &str) -> (Standing, String) {
    (Standing::Current, who.to_owned())
}

fn lost(why: &str) -> Standing {
    Standing::Kept(format!("the cluster's rules are no longer followed{why}"))
}

#[tokio::test(start_paused = true)]
async fn nothing_counts_before_all_four_kinds_are_listed() {
    let mut rig = Rig::new(AGE, false);
    rig.list(Kind::Role, &[]).await;
    rig.list(Kind::ClusterRole, &[role(1)]).await;
    rig.list(CRB, &[binding("a", 1)]).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(rig.told(), []);
    rig.fail(Kind::RoleBinding, "may not list").await;
    sleep(Duration::from_secs(1)).await;
    let why = "the cluster's rules have not been listed yet: may not list".to_owned();
    assert_eq!(rig.told(), [(Standing::Unknown(why), "-".to_owned())]);
    rig.list(Kind::RoleBinding, &[]).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.told(), [current("a")]);
}

#[tokio::test(start_paused = true)]
async fn changes_count_together_and_a_list_that_changes_nothing_is_none() {
    let mut rig = Rig::new(AGE, false);
    rig.sync(&["a"]).await;
    assert_eq!(rig.told(), [current("a")]);
    for user in ["b", "c"] {
        rig.hear(CRB, Change::Applied(item(CRB, &binding(user, 2)))).await;
    }
    rig.hear(CRB, Change::Deleted(item(CRB, &binding("a", 2)))).await;
    let begun = Instant::now();
    while rig.told.lock().unwrap().is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    assert!(begun.elapsed() <= TOGETHER + Duration::from_millis(5), "{:?}", begun.elapsed());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.told(), [current("bc")], "one build for all");

    // The same again, and the same with another version or with labels.
    rig.sync_same(&["b", "c"]).await;
    let mut labelled = binding("b", 9);
    labelled["metadata"]["labels"] = json!({"team": "x"});
    rig.hear(CRB, Change::Applied(item(CRB, &labelled))).await;
    rig.hear(CRB, Change::Deleted(item(CRB, &binding("nobody", 9)))).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.told(), []);

    // While a list is read, what was known counts.
    rig.hear(CRB, Change::Listing).await;
    rig.hear(CRB, Change::Listed(item(CRB, &binding("c", 9)))).await;
    rig.hear(
        Kind::ClusterRole,
        Change::Applied(item(Kind::ClusterRole, &json!({"metadata": {"name": "other"}}))),
    )
    .await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.told(), [current("bc")]);
    // It failed, and is read again.
    rig.list(CRB, &[binding("a", 9)]).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.told(), [current("a")]);
}

impl Rig {
    async fn sync_same(&mut self, users: &[&str]) {
        self.sync(users).await;
        assert_eq!(self.told(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn lost_rules_are_kept_for_a_while_and_then_refused_until_they_are_followed_again() {
    let mut rig = Rig::new(AGE, false);
    rig.sync(&["a"]).await;
    rig.told();
    rig.end(CRB);
    sleep(Duration::from_secs(1)).await;
    rig.open(CRB);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.told(), [], "a watch that ends and is opened again is not lost");

    rig.end(CRB);
    rig.fail(CRB, "connection refused").await;
    sleep(GRACE - Duration::from_millis(10)).await;
    assert_eq!(rig.told(), []);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.told(), [(lost(": connection refused"), "a".to_owned())]);
    // Another one later: the first counts.
    rig.pass(Duration::from_secs(100)).await;
    rig.end(Kind::Role);
    rig.pass(AGE - GRACE - Duration::from_secs(102)).await;
    assert_eq!(rig.told(), []);
    sleep(Duration::from_secs(2)).await;
    let why = "the cluster's rules have not been up to date for 300s: connection refused".to_owned();
    assert_eq!(rig.told(), [(Standing::Refused(why), "-".to_owned())]);
    rig.open(CRB);
    sleep(Duration::from_secs(1)).await;
    let told = rig.told();
    assert!(
        told.iter().all(|(standing, who)| matches!(standing, Standing::Refused(_)) && who == "-"),
        "it may not have told yet what was missed: {told:?}"
    );
    rig.pass(Duration::from_secs(1)).await;
    assert!(
        matches!(&rig.told()[..], [(Standing::Kept(_), who)] if who == "a"),
        "of the other one it is known since later"
    );
    rig.open(Kind::Role);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.told(), [current("a")]);
}

#[tokio::test(start_paused = true)]
async fn lost_rules_are_kept_for_ever_where_that_is_configured() {
    let mut rig = Rig::new(AGE, true);
    rig.sync(&["a"]).await;
    rig.told();
    rig.end(Kind::Role);
    rig.pass(10 * AGE).await;
    assert_eq!(rig.told(), [(lost(""), "a".to_owned())]);
    // What is still heard counts.
    rig.hear(CRB, Change::Applied(item(CRB, &binding("b", 2)))).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.told(), [(lost(""), "ab".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_list_without_a_watch_after_it_grows_old() {
    let mut rig = Rig::new(AGE, false);
    rig.sync(&["a"]).await;
    rig.told();
    rig.end(CRB);
    rig.pass(Duration::from_secs(200)).await;
    rig.told();
    // As fresh as that list, so the age counts from there.
    rig.hear(CRB, Change::Listing).await;
    rig.hear(CRB, Change::Listed(item(CRB, &binding("a", 1)))).await;
    rig.done(CRB).await;
    rig.pass(Duration::from_secs(200)).await;
    assert!(rig.told().iter().all(|(standing, _)| !matches!(standing, Standing::Refused(_))));
    rig.pass(Duration::from_secs(101)).await;
    assert!(matches!(&rig.told()[..], [(Standing::Refused(_), who)] if who == "-"));
}

#[tokio::test(start_paused = true)]
async fn rules_that_were_refused_come_back_only_as_they_are_now() {
    let mut rig = Rig::new(AGE, false);
    rig.sync(&["a"]).await;
    rig.end(CRB);
    rig.pass(2 * AGE).await;
    assert!(matches!(rig.told().last(), Some((Standing::Refused(_), _))));
    rig.list(CRB, &[binding("b", 2)]).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.told(), [current("b")]);
}

#[tokio::test(start_paused = true)]
async fn an_open_watch_proves_nothing() {
    // The peer has vanished, and nobody has noticed.
    let mut rig = Rig::new(AGE, false);
    rig.sync(&["a"]).await;
    sleep(AGE - Duration::from_secs(2)).await;
    assert_eq!(rig.told(), [current("a")]);
    sleep(Duration::from_secs(2)).await;
    let why = "the cluster's rules have not been up to date for 300s".to_owned();
    assert_eq!(rig.told(), [(Standing::Refused(why), "-".to_owned())]);
    // Opening them again is not enough, having heard all of them out is.
    Kind::ALL.into_iter().for_each(|kind| rig.open(kind));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.told(), []);
    Kind::ALL.into_iter().for_each(|kind| rig.end(kind));
    sleep(Duration::from_millis(1)).await;
    assert_eq!(rig.told(), [current("a")]);

    // They go on to count where that is configured, but are not said to be followed.
    let mut rig = Rig::new(AGE, true);
    rig.sync(&["a"]).await;
    rig.told();
    sleep(AGE).await;
    assert_eq!(rig.told(), [(lost(""), "a".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn the_age_counts_from_when_a_lost_watch_was_last_known_to_be_whole() {
    let mut rig = Rig::new(AGE, false);
    rig.sync(&["a"]).await;
    rig.pass(Duration::from_secs(600)).await;
    // Of this one nothing is known since its last opening, 60 seconds ago.
    rig.open[CRB as usize] = None;
    sleep(GRACE + Duration::from_secs(1)).await;
    assert_eq!(rig.told(), [current("a"), (lost(""), "a".to_owned())]);
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != CRB) {
        rig.end(kind);
        rig.open(kind);
    }
    sleep(AGE - GRACE - Duration::from_secs(62)).await;
    assert_eq!(rig.told(), []);
    sleep(Duration::from_secs(2)).await;
    assert!(matches!(&rig.told()[..], [(Standing::Refused(_), _)]));
}

#[tokio::test(start_paused = true)]
async fn rules_that_cannot_be_built_grow_old() {
    let mut rig = Rig::new(AGE, false);
    rig.sync(&["a"]).await;
    rig.told();
    rig.hear(CRB, Change::Applied(item(CRB, &binding("defect", 2)))).await;
    rig.pass(GRACE + Duration::from_secs(1)).await;
    assert_eq!(rig.told(), [(lost(""), "a".to_owned())]);
    rig.pass(AGE).await;
    assert!(matches!(&rig.told()[..], [(Standing::Refused(_), who)] if who == "-"));
    rig.hear(CRB, Change::Deleted(item(CRB, &binding("defect", 3)))).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.told(), [current("a")]);
}

#[tokio::test(start_paused = true)]
async fn when_a_watch_has_failed_all_start_anew_and_the_rules_grow_old_as_before() {
    let mut rig = Rig::new(AGE, false);
    rig.sync(&["a"]).await;
    rig.pass(Duration::from_secs(5)).await;
    rig.told();
    rig.crash.notify_one();
    // Nobody answers the new ones, and what the old ones hear no longer counts.
    rig.pass(Duration::from_secs(10)).await;
    assert!(!rig.told().is_empty());
    assert!(rig.to.is_closed());
    rig.pass(AGE - Duration::from_secs(20)).await;
    assert!(rig.told().iter().all(|(standing, who)| matches!(standing, Standing::Kept(_)) && who == "a"));
    rig.pass(Duration::from_secs(20)).await;
    assert!(matches!(rig.told().last(), Some((Standing::Refused(_), who)) if who == "-"));
}

#[tokio::test(start_paused = true)]
async fn what_grants_nothing_is_told_once_and_stops_nothing() {
    let mut store = Store::default();
    let mut odd = Vec::new();
    let broken = json!({"metadata": {"name": "x"}, "roleRef": 1});
    for _ in 0..2 {
        store.take(CRB, Change::Listing, &mut odd);
        for object in [&broken, &binding("a", 1)] {
            store.take(CRB, Change::Listed(item(CRB, object)), &mut odd);
        }
        store.take(CRB, Change::Done, &mut odd);
    }
    assert_eq!(odd, [r#"ClusterRoleBinding "x": roleRef: is not an object"#]);
    assert_eq!((store.counts(CRB), store.granting().1.len()), ((2, 1), 1));
    // What was understood and is not any more no longer grants.
    let mut worse = binding("a", 2);
    worse["when"] = "never".into();
    assert!(store.take(CRB, Change::Applied(item(CRB, &worse)), &mut odd));
    assert_eq!((store.counts(CRB), store.granting().1.len()), ((2, 2), 0));
    assert_eq!(odd.len(), 2);
}
