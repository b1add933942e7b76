//! Every open stream: who holds it, what it is, and how to end it by name with a reason.
//!
//! A stream is a watch, a followed log, or a tunnel (exec, attach, port-forward, proxy). It is registered when it is
//! admitted and leaves when its [`Lease`] is dropped; whoever ends it by name only sets the reason and wakes its
//! holder, who ends it where its protocol allows (a watch at an event's boundary, a tunnel at once).

use crate::{
    identity::{Impersonation, User},
    request::RequestInfo,
};
use std::{
    borrow::Cow,
    collections::HashMap,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::SystemTime,
};
use tokio::time::{Sleep, sleep};

/// The registry of open streams. One per process, shared by all connections.
#[derive(Debug, Default)]
pub struct Streams {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    streams: HashMap<u64, Arc<Stream>>,
}

/// What is known of a stream.
#[derive(Debug, Clone)]
pub struct Held {
    /// What had to be allowed for it to be opened.
    pub right: Right,
    /// `watch pods`, `create pods/exec shop/web-0`: for people.
    pub what: String,
    /// The request's id in the record.
    pub audit_id: String,
    /// Whether bytes are tunnelled, so that no boundary needs to be waited for.
    pub tunnel: bool,
    /// When it was opened.
    pub since: SystemTime,
    /// When it is ended because the credential that opened it is good no longer; None: never.
    pub expires: Option<SystemTime>,
}

/// What had to be allowed, so that it can be asked again.
#[derive(Debug, Clone)]
pub struct Right {
    /// Who authenticated.
    pub proven: Arc<User>,
    /// Whom they asked to be.
    pub impersonation: Option<Impersonation>,
    /// As whom the stream was opened.
    pub effective: Arc<User>,
    /// What was asked for.
    pub info: RequestInfo,
    /// Whether it switched protocols.
    pub upgrade: bool,
}

/// Why a stream ends at [`Held::expires`].
pub const EXPIRED: &str = "the credential has expired";

/// Why a stream is ended by the gate. Recorded in its last event.
pub type Reason = Cow<'static, str>;

#[derive(Debug)]
struct Stream {
    held: Held,
    end: Mutex<End>,
}

#[derive(Debug, Default)]
struct End {
    reason: Option<Reason>,
    waker: Option<Waker>,
    expiry: Option<Pin<Box<Sleep>>>,
}

/// The holder's side of an open stream; dropping it takes the stream off the registry.
#[derive(Debug)]
pub struct Lease {
    id: u64,
    stream: Arc<Stream>,
    streams: Arc<Streams>,
}

impl Streams {
    /// Registers a stream. One that expires needs a runtime.
    pub fn open(self: &Arc<Self>, held: Held) -> Lease {
        let left = held.expires.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
        let end = End { expiry: left.map(|left| Box::pin(sleep(left))), ..End::default() };
        let stream = Arc::new(Stream { held, end: Mutex::new(end) });
        let mut open = lock(&self.open);
        open.next += 1;
        let id = open.next;
        open.streams.insert(id, stream.clone());
        drop(open);
        Lease { id, stream, streams: self.clone() }
    }

    /// The names of all open streams with what is known of them, oldest first.
    pub fn list(&self) -> Vec<(u64, Held)> {
        let mut all: Vec<_> =
            lock(&self.open).streams.iter().map(|(id, stream)| (*id, stream.held.clone())).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// How many streams are open.
    pub fn len(&self) -> usize {
        lock(&self.open).streams.len()
    }

    /// Whether no stream is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the stream of that name; false when there is none any more.
    pub fn end(&self, id: u64, reason: Reason) -> bool {
        let stream = lock(&self.open).streams.get(&id).cloned();
        stream.inspect(|s| s.end(reason)).is_some()
    }

    /// Ends every stream for which `why` finds a reason, and says how many.
    pub fn end_for(&self, why: impl Fn(&Held) -> Option<Reason>) -> usize {
        let open: Vec<_> = lock(&self.open).streams.values().cloned().collect();
        let ended = open.iter().filter_map(|stream| Some((stream, why(&stream.held)?)));
        ended.map(|(stream, reason)| stream.end(reason)).count()
    }

    /// Ends every stream that `which` picks, and says how many.
    pub fn end_where(&self, which: impl Fn(&Held) -> bool, reason: &Reason) -> usize {
        let picked: Vec<_> =
            lock(&self.open).streams.values().filter(|stream| which(&stream.held)).cloned().collect();
        picked.iter().for_each(|stream| stream.end(reason.clone()));
        picked.len()
    }
}

impl Stream {
    fn end(&self, reason: Reason) {
        let mut end = lock(&self.end);
        end.reason.get_or_insert(reason);
        let waker = end.waker.take();
        drop(end);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Lease {
    /// The stream's name, for [`Streams::end`].
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Ready with the reason once somebody has ended the stream by name, or its time is up.
    pub fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<Reason> {
        let mut end = lock(&self.stream.end);
        if end.reason.is_none() && end.expiry.as_mut().is_some_and(|at| at.as_mut().poll(cx).is_ready()) {
            end.reason = Some(EXPIRED.into());
        }
        match &end.reason {
            Some(reason) => Poll::Ready(reason.clone()),
            None => {
                if !end.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    end.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// Waits until somebody ends the stream by name, or its time is up.
    pub async fn ended(&self) -> Reason {
        poll_fn(|cx| self.poll_ended(cx)).await
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        lock(&self.streams.open).streams.remove(&self.id);
    }
}

/// A panic while one of these locks is held leaves nothing half-done, so a poisoned lock is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Target;
    use std::time::Duration;

    fn right(user: &str) -> Right {
        let user = User::new(user, "", Vec::new(), Default::default()).unwrap();
        let target = Target::from_path_and_query("/api/v1/pods?watch=1".parse().unwrap()).unwrap();
        let info = RequestInfo::parse(&http::Method::GET, &target).unwrap();
        Right { proven: user.clone(), impersonation: None, effective: user, info, upgrade: false }
    }

    fn held(user: &str, tunnel: bool) -> Held {
        Held {
            right: right(user),
            what: "watch pods".into(),
            audit_id: "id".into(),
            tunnel,
            since: SystemTime::UNIX_EPOCH,
            expires: None,
        }
    }

    #[tokio::test]
    async fn a_stream_is_ended_by_name_with_the_first_reason() {
        let streams = Arc::new(Streams::default());
        let (a, b) = (streams.open(held("alice", false)), streams.open(held("bob", true)));
        assert!(streams.end(a.id(), "revoked".into()));
        assert!(streams.end(a.id(), "drained".into()));
        assert_eq!(a.ended().await, "revoked");
        assert_eq!(
            streams.list().iter().map(|(_, h)| h.right.effective.name()).collect::<Vec<_>>(),
            ["alice", "bob"]
        );
        assert_eq!(streams.end_where(|h| h.tunnel, &"drained".into()), 1);
        assert_eq!(b.ended().await, "drained");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_the_credential_that_opened_it() {
        let streams = Arc::new(Streams::default());
        let at = |seconds| Some(SystemTime::now() + Duration::from_secs(seconds));
        let lease = streams.open(Held { expires: at(300), ..held("alice", false) });
        let began = tokio::time::Instant::now();
        assert_eq!(lease.ended().await, EXPIRED);
        assert!((299..=300).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        let past = streams.open(Held { expires: Some(SystemTime::UNIX_EPOCH), ..held("bob", false) });
        assert_eq!(past.ended().await, EXPIRED);
        let revoked = streams.open(Held { expires: at(300), ..held("carol", false) });
        streams.end(revoked.id(), "revoked".into());
        assert_eq!(revoked.ended().await, "revoked", "the first reason counts");
    }

    #[tokio::test]
    async fn ending_wakes_a_waiting_holder() {
        let streams = Arc::new(Streams::default());
        let lease = streams.open(held("alice", false));
        let id = lease.id();
        let waiting = tokio::spawn(async move { lease.ended().await });
        tokio::task::yield_now().await;
        assert!(streams.end(id, "expired".into()));
        assert_eq!(waiting.await.unwrap(), "expired");
        assert!(streams.is_empty(), "a dropped lease leaves the registry");
        assert!(!streams.end(id, "late".into()));
    }
}
