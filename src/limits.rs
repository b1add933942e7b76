//! How much one caller, and all of them together, may have under way: requests in flight and open streams.
//!
//! Counts, not rates, and no queue: what does not fit is answered 429 with `Retry-After`, which client-go retries by
//! itself. The caps are kube-apiserver's idea of `--max-requests-inflight`, per user besides.

use crate::identity::User;
use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// The caps. Streams are watches, followed logs and tunnels; everything else is a request in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Requests in flight at once, of all users.
    pub requests: usize,
    /// Requests in flight at once, of one user.
    pub requests_per_user: usize,
    /// Streams open at once, of all users.
    pub streams: usize,
    /// Streams open at once, of one user.
    pub streams_per_user: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { requests: 600, requests_per_user: 200, streams: 20_000, streams_per_user: 2_000 }
    }
}

/// Which cap a request falls under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ends by its deadline.
    Request,
    /// Ends when one side wants it to.
    Stream,
}

/// The counts of what is under way. One per process.
#[derive(Debug)]
pub struct Limits {
    config: Config,
    all: [AtomicUsize; 2],
    hasher: RandomState,
    users: [Mutex<HashMap<Box<str>, [usize; 2]>>; SHARDS],
}

/// A place among what is under way; held until the request or stream has ended.
#[derive(Debug)]
pub struct Slot {
    limits: Arc<Limits>,
    kind: Kind,
    user: Arc<User>,
}

/// No place left: 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", match (.kind, .per_user) {
    (Kind::Request, true) => "too many requests of this user in flight",
    (Kind::Request, false) => "too many requests in flight",
    (Kind::Stream, true) => "too many open streams of this user",
    (Kind::Stream, false) => "too many open streams",
})]
pub struct Exceeded {
    /// Which cap.
    pub kind: Kind,
    /// The user's own cap rather than everybody's.
    pub per_user: bool,
}

impl Exceeded {
    /// The cap's name, for metrics.
    pub fn label(&self) -> &'static str {
        match (self.kind, self.per_user) {
            (Kind::Request, true) => "requests-per-user",
            (Kind::Request, false) => "requests",
            (Kind::Stream, true) => "streams-per-user",
            (Kind::Stream, false) => "streams",
        }
    }
}

/// Enough that two cores seldom meet in one.
const SHARDS: usize = 16;

/// Users without anything under way are remembered up to this many in a shard, which saves an allocation a request.
const REMEMBERED: usize = 256;

impl Limits {
    /// Nothing under way yet.
    pub fn new(config: Config) -> Arc<Self> {
        Arc::new(Self {
            config,
            all: Default::default(),
            hasher: RandomState::new(),
            users: Default::default(),
        })
    }

    /// Takes a place for `user`, or says which cap is reached.
    pub fn admit(self: &Arc<Self>, user: &Arc<User>, kind: Kind) -> Result<Slot, Exceeded> {
        let (all, one) = match kind {
            Kind::Request => (self.config.requests, self.config.requests_per_user),
            Kind::Stream => (self.config.streams, self.config.streams_per_user),
        };
        if self.all[kind as usize].fetch_add(1, Relaxed) >= all {
            self.all[kind as usize].fetch_sub(1, Relaxed);
            return Err(Exceeded { kind, per_user: false });
        }
        let mut users = self.shard(user.name()).lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = match users.get_mut(user.name()) {
            Some(counts) => counts,
            None => users.entry(user.name().into()).or_default(),
        };
        if under_way[kind as usize] >= one {
            drop(users);
            self.all[kind as usize].fetch_sub(1, Relaxed);
            return Err(Exceeded { kind, per_user: true });
        }
        under_way[kind as usize] += 1;
        drop(users);
        Ok(Slot { limits: self.clone(), kind, user: user.clone() })
    }

    /// How many are under way, of all users.
    pub fn under_way(&self, kind: Kind) -> usize {
        self.all[kind as usize].load(Relaxed)
    }

    fn shard(&self, user: &str) -> &Mutex<HashMap<Box<str>, [usize; 2]>> {
        &self.users[self.hasher.hash_one(user) as usize % SHARDS]
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.limits.all[self.kind as usize].fetch_sub(1, Relaxed);
        let mut users = self.limits.shard(self.user.name()).lock().unwrap_or_else(PoisonError::into_inner);
        let forget = users.len() > REMEMBERED;
        if let Some(counts) = users.get_mut(self.user.name()) {
            counts[self.kind as usize] = counts[self.kind as usize].saturating_sub(1);
            if forget && *counts == [0, 0] {
                users.remove(self.user.name());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Arc<Limits> {
        Limits::new(Config { requests: 3, requests_per_user: 2, streams: 1, streams_per_user: 1 })
    }

    fn user(name: &str) -> Arc<User> {
        User::new(name, "", vec![], Default::default()).unwrap()
    }

    #[test]
    fn each_cap_is_its_own_and_names_itself() {
        let limits = limits();
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(user);
        let two = [(); 2].map(|()| limits.admit(&alice, Kind::Request).unwrap());
        let refused = |user, kind| limits.admit(user, kind).unwrap_err().to_string();
        assert_eq!(refused(&alice, Kind::Request), "too many requests of this user in flight");
        let _third = limits.admit(&bob, Kind::Request).unwrap();
        assert_eq!(refused(&carol, Kind::Request), "too many requests in flight");
        let watch = limits.admit(&alice, Kind::Stream).unwrap();
        assert_eq!(refused(&bob, Kind::Stream), "too many open streams");
        drop((two, watch));
        assert_eq!((limits.under_way(Kind::Request), limits.under_way(Kind::Stream)), (1, 0));
        limits.admit(&carol, Kind::Request).unwrap();
    }

    #[test]
    fn users_without_anything_under_way_are_forgotten_in_the_end() {
        let limits = limits();
        for n in 0..10_000 {
            drop(limits.admit(&user(&format!("user-{n}")), Kind::Request).unwrap());
        }
        let remembered: usize = limits.users.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(remembered <= SHARDS * (REMEMBERED + 1), "{remembered}");
    }
}
