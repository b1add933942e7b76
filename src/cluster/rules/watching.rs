//! One kind, listed and watched for as long as somebody hears of it.

use super::{
    fresh::Fresh,
    raw::{self, Raw},
    store::{Change, Item},
    transport::Transport,
};
use crate::{client::Client, cluster::chance, endpoint::Endpoint, rbac::live::Kind};
use futures_util::StreamExt as _;
use kube::{
    Api,
    runtime::{
        watcher,
        watcher::{Error, Event},
    },
};
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};

/// A server ends a watch after so many seconds at most, and it is opened again at once. Only then is it known that nothing was missed.
/// Over HTTP/1.1 a peer that has vanished is noticed by it, for kube lets go of a watch on which nothing came for five seconds more.
const WATCH: u64 = 60;
/// Between attempts: the first, and the longest.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3);
/// What comes so long after the last failure is another one.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// What a watched kind tells.
#[derive(Debug)]
pub(super) enum Heard {
    Change(Change),
    /// A list has been read to its end; it is what was known then.
    Done(Instant),
    /// For the log and the health check.
    Failed(String),
}

/// What a kind is watched with, and who hears of it.
pub(super) struct Watching {
    pub(super) kind: Kind,
    pub(super) client: Arc<Client>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) fresh: Arc<Fresh>,
    /// For how long the rules count of which nothing is known any more.
    pub(super) max_age: Duration,
    pub(super) to: mpsc::Sender<(Kind, Heard)>,
}

impl Watching {
    /// Until nobody hears of it any more.
    pub(super) async fn run(self) {
        let (mut pauses, mut page) = (Pauses::default(), Page::default());
        while let Some(failed) = self.follow(&mut pauses, &mut page).await {
            tracing::debug!(kind = self.kind.plural(), failed, "listing anew");
        }
    }

    /// One list and the watches after it. Why another list is needed; None: nobody hears of it.
    async fn follow(&self, pauses: &mut Pauses, page: &mut Page) -> Option<String> {
        let too_large = Arc::new(AtomicBool::new(false));
        let (client, fresh) = (self.client.clone(), self.fresh.clone());
        let transport = Transport { client, fresh, too_large: too_large.clone() };
        let client = kube::Client::new(transport, "default");
        let api: Api<Raw> = Api::all_with(client, &raw::resource(self.kind));
        let config = watcher::Config::default().timeout(watch_seconds(self.max_age)).page_size(page.0);
        let mut events = pin!(watcher(api, config));
        let mut begun = Instant::now();
        while let Some(event) = events.next().await {
            let item = |raw: &Raw| Item::read(self.kind, &raw.object);
            let heard = match event {
                Ok(Event::Init) => {
                    begun = Instant::now();
                    Some(Heard::Change(Change::Listing))
                }
                Ok(Event::InitApply(raw)) => item(&raw).map(Change::Listed).map(Heard::Change),
                Ok(Event::InitDone) => {
                    self.fresh.known();
                    page.grow();
                    Some(Heard::Done(begun))
                }
                Ok(Event::Apply(raw)) => item(&raw).map(Change::Applied).map(Heard::Change),
                Ok(Event::Delete(raw)) => item(&raw).map(Change::Deleted).map(Heard::Change),
                Err(error) => {
                    let (failure, expired) = failure(self.kind, &error);
                    let too_large = too_large.swap(false, Relaxed);
                    if too_large {
                        page.shrink();
                    }
                    let anew = expired || too_large || self.fresh.must_list(Instant::now()).is_some();
                    if refused(&error) {
                        // Whoever else keeps the token fresh may be between two looks at it.
                        let _ = self.endpoint.refresh();
                    }
                    self.to.send((self.kind, Heard::Failed(failure.clone()))).await.ok()?;
                    tokio::time::sleep(pauses.next(Instant::now(), chance())).await;
                    if anew {
                        return Some(failure);
                    }
                    continue;
                }
            };
            if let Some(heard) = heard {
                self.to.send((self.kind, heard)).await.ok()?;
            }
        }
        // kube's streams go on for ever.
        Some("the watcher has ended".to_owned())
    }
}

/// Several times within the age that counts.
fn watch_seconds(max_age: Duration) -> u32 {
    u32::try_from((max_age.as_secs() / 4).clamp(1, WATCH)).unwrap_or(1)
}

/// What an operator needs to know, and whether going on from where it failed could miss a change.
fn failure(kind: Kind, error: &Error) -> (String, bool) {
    match error {
        Error::InitialListFailed(error) => (reason(kind, "list", error), false),
        Error::WatchStartFailed(error) => {
            let expired = matches!(error, kube::Error::Api(status) if status.code == 410);
            (reason(kind, "watch", error), expired)
        }
        // The watcher would pass over what it cannot read, and what it is of might be a revocation.
        Error::WatchFailed(error) => {
            (reason(kind, "watch", error), matches!(error, kube::Error::SerdeError(_) | kube::Error::Api(_)))
        }
        // After 410 it lists by itself.
        Error::WatchError(status) => (status_reason(kind, "watch", status), status.code != 410),
        Error::NoResourceVersion => (format!("{kind}: the answer has no resourceVersion"), true),
    }
}

/// Whether the gate's own credential was not taken.
fn refused(error: &Error) -> bool {
    let (Error::InitialListFailed(error) | Error::WatchStartFailed(error)) = error else { return false };
    matches!(error, kube::Error::Api(status) if status.code == 401)
}

fn reason(kind: Kind, verb: &str, error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status_reason(kind, verb, status),
        kube::Error::Service(error) => format!("{verb} {kind}: {error}"),
        kube::Error::SerdeError(error) => format!("{verb} {kind}: the answer cannot be read: {error}"),
        kube::Error::ReadEvents(error) => format!("{verb} {kind}: {error}"),
        error => format!("{verb} {kind}: {error}"),
    }
}

fn status_reason(kind: Kind, verb: &str, status: &kube::core::Status) -> String {
    match status.code {
        401 => format!("{verb} {kind}: the gate's own credential was refused (401)"),
        403 => format!("the gate's own account may not {verb} {kind} (403)"),
        404 => format!("{verb} {kind}: the upstream has no such resource (404)"),
        code => {
            let message: String = status.message.chars().take(200).collect();
            format!("{verb} {kind}: status {code}: {message}")
        }
    }
}

/// Objects in a page of a list. Whoever may write roles can make them large, and must not keep the list from being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Page(u32);

impl Default for Page {
    fn default() -> Self {
        Self(500)
    }
}

impl Page {
    /// One was too large.
    fn shrink(&mut self) {
        self.0 = (self.0 / 8).max(1);
    }

    /// A list was read to its end.
    fn grow(&mut self) {
        self.0 = self.0.saturating_mul(8).min(Self::default().0);
    }
}

/// How long to wait after a failure: twice as long each time, and never all gates at once.
#[derive(Debug, Default)]
struct Pauses {
    failures: u32,
    last: Option<Instant>,
}

impl Pauses {
    /// `chance` is from 0 to 1.
    fn next(&mut self, now: Instant, chance: f64) -> Duration {
        if self.last.is_none_or(|last| now.saturating_duration_since(last) > FORGOTTEN) {
            self.failures = 0;
        }
        self.last = Some(now);
        let pause = PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures += 1;
        pause.mul_f64(0.75 + 0.5 * chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_are_forgotten() {
        let mut pauses = Pauses::default();
        let mut next = async |after: u64| {
            tokio::time::advance(Duration::from_secs(after)).await;
            pauses.next(Instant::now(), 0.5).as_millis()
        };
        let mut got = Vec::new();
        for after in [0, 0, 0, 0, 0, 0, 9, 11, 0] {
            got.push(next(after).await);
        }
        assert_eq!(got, [100, 200, 400, 800, 1600, 3000, 3000, 100, 200]);
        assert_eq!(Pauses::default().next(Instant::now(), 0.0).as_millis(), 75);
        assert_eq!(Pauses::default().next(Instant::now(), 1.0).as_millis(), 125);
    }

    #[test]
    fn pages_shrink_to_one_object_and_grow_again() {
        let mut page = Page::default();
        let mut sizes = Vec::new();
        for _ in 0..4 {
            page.shrink();
            sizes.push(page.0);
        }
        for _ in 0..4 {
            page.grow();
            sizes.push(page.0);
        }
        assert_eq!(sizes, [62, 7, 1, 1, 8, 64, 500, 500]);
    }

    #[test]
    fn a_watch_ends_several_times_within_the_age_that_counts() {
        for (age, watch) in [(5, 1), (20, 5), (60, 15), (300, 60), (86_400, 60)] {
            assert_eq!(watch_seconds(Duration::from_secs(age)), watch);
        }
    }

    #[test]
    fn failures_are_told_so_that_something_can_be_done() {
        let api = |code, message: &str| {
            let status = kube::core::Status { code, message: message.into(), ..Default::default() };
            kube::Error::Api(Box::new(status))
        };
        let kind = Kind::RoleBinding;
        let of = |error: Error| failure(kind, &error);
        let rows = [
            (
                Error::InitialListFailed(api(403, "no")),
                "the gate's own account may not list rolebindings.rbac.authorization.k8s.io (403)",
                false,
            ),
            (
                Error::WatchStartFailed(api(403, "no")),
                "the gate's own account may not watch rolebindings.rbac.authorization.k8s.io (403)",
                false,
            ),
            (
                Error::InitialListFailed(api(401, "no")),
                "list rolebindings.rbac.authorization.k8s.io: the gate's own credential was refused (401)",
                false,
            ),
            (
                Error::InitialListFailed(api(404, "no")),
                "list rolebindings.rbac.authorization.k8s.io: the upstream has no such resource (404)",
                false,
            ),
            (
                Error::WatchStartFailed(api(410, "too old")),
                "watch rolebindings.rbac.authorization.k8s.io: status 410: too old",
                true,
            ),
            (
                Error::InitialListFailed(api(410, "expired")),
                "list rolebindings.rbac.authorization.k8s.io: status 410: expired",
                false,
            ),
            (
                Error::NoResourceVersion,
                "rolebindings.rbac.authorization.k8s.io: the answer has no resourceVersion",
                true,
            ),
        ];
        for (error, text, anew) in rows {
            assert_eq!(of(error), (text.to_owned(), anew));
        }
    }
}
