//! Failed attempts by source, so that somebody who guesses costs next to nothing.
//!
//! Each source has a token bucket: full it holds the attempts of a minute that may fail, and it fills up within a minute.
//! The table is bounded and forgets the source that was seen least: whoever owns more networks than that can guess as
//! often as before, but nobody else's attempts are counted as theirs.

use quick_cache::sync::Cache;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How many attempts of a source may fail.
#[derive(Debug)]
pub(super) struct Guard {
    buckets: Option<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    /// When each source's bucket is full again, in nanoseconds since `start`; a failed attempt moves that by `step`.
    full_at: Cache<Source, Arc<AtomicU64>>,
    step: u64,
    start: Instant,
}

/// An attempt that is being judged. One that is dropped before it has [ended](Attempt::ended) has failed: whoever hangs up before
/// the answer has made the gate work as much as others.
#[derive(Debug)]
#[must_use]
pub(super) struct Attempt<'a> {
    guard: &'a Guard,
    source: Option<IpAddr>,
}

/// An IPv4 address, or the /64 of an IPv6 address: whoever has one address of it has them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    V4(Ipv4Addr),
    V6([u16; 4]),
}

/// Sources that are told apart.
const SOURCES: usize = 16_384;

/// An empty bucket is full again after this.
const FILLS: u64 = Duration::from_secs(60).as_nanos() as u64;

impl Guard {
    /// Failed attempts of one source in a minute; None: no limit.
    pub(super) fn new(per_minute: Option<u32>) -> Self {
        // One at least, or nobody could ever be let in again.
        let buckets = per_minute.map(|n| Buckets {
            full_at: Cache::new(SOURCES),
            step: FILLS / u64::from(n.max(1)),
            start: Instant::now(),
        });
        Self { buckets }
    }

    /// Whether another attempt of `source` may be looked at. IPv6 sources are told apart by their /64.
    pub(super) fn allows(&self, source: IpAddr) -> bool {
        self.buckets.as_ref().is_none_or(|buckets| buckets.allows(source.into(), Instant::now()))
    }

    /// An attempt of `source` begins.
    pub(super) fn attempt(&self, source: IpAddr) -> Attempt<'_> {
        Attempt { guard: self, source: Some(source) }
    }

    /// An attempt of `source` has failed.
    pub(super) fn failed(&self, source: IpAddr) {
        if let Some(buckets) = &self.buckets {
            buckets.failed(source.into(), Instant::now());
        }
    }
}

impl Attempt<'_> {
    /// It was judged; what came of it is known to the caller.
    pub(super) fn ended(mut self) {
        self.source = None;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(source) = self.source {
            self.guard.failed(source);
        }
    }
}

impl Buckets {
    fn allows(&self, source: Source, now: Instant) -> bool {
        let Some(full_at) = self.full_at.get(&source) else { return true };
        full_at.load(Relaxed).saturating_add(self.step) <= self.since_start(now).saturating_add(FILLS)
    }

    fn failed(&self, source: Source, now: Instant) {
        let now = self.since_start(now);
        let later = |full_at: u64| Some(full_at.max(now).saturating_add(self.step).min(now + FILLS));
        let fresh = || Ok::<_, std::convert::Infallible>(Arc::new(AtomicU64::new(now)));
        let Ok(full_at) = self.full_at.get_or_insert_with(&source, fresh);
        let _ = full_at.fetch_update(Relaxed, Relaxed, later);
    }

    fn since_start(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX - FILLS)
    }
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4),
            IpAddr::V6(v6) => Self::network(v6),
        }
    }
}

impl Source {
    fn network(address: Ipv6Addr) -> Self {
        let [a, b, c, d, ..] = address.segments();
        Self::V6([a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn buckets(per_minute: u32) -> Buckets {
        Guard::new(Some(per_minute)).buckets.unwrap()
    }

    #[test]
    fn sources_are_told_apart() {
        let rows = [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::1", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
            ("::1", "0.0.0.1", false),
        ];
        for (a, b, same) in rows {
            assert_eq!(source(a) == source(b), same, "{a} {b}");
        }
    }

    #[test]
    fn so_many_attempts_fail_and_then_so_many_a_minute() {
        let (buckets, a, b) = (buckets(3), source("192.0.2.1"), source("192.0.2.2"));
        let at = |seconds: u64| buckets.start + Duration::from_secs(seconds);
        for _ in 0..3 {
            assert!(buckets.allows(a, at(100)));
            buckets.failed(a, at(100));
        }
        assert!(!buckets.allows(a, at(100)) && buckets.allows(b, at(100)));
        // Attempts that were let in at the same time make the wait no longer.
        buckets.failed(a, at(100));
        assert!(!buckets.allows(a, at(119)) && buckets.allows(a, at(120)));
        buckets.failed(a, at(120));
        assert!(!buckets.allows(a, at(139)) && buckets.allows(a, at(140)));
        // After a minute of peace it is as in the beginning.
        for _ in 0..3 {
            assert!(buckets.allows(a, at(300)));
            buckets.failed(a, at(300));
        }
        assert!(!buckets.allows(a, at(300)));
    }

    #[test]
    fn asking_leaves_nothing_behind_and_the_table_is_bounded() {
        let (buckets, now) = (buckets(1), Instant::now());
        for i in 0..1_000 {
            assert!(buckets.allows(Source::V4(Ipv4Addr::from_bits(i)), now));
        }
        assert_eq!(buckets.full_at.len(), 0);
        for i in 0..40_000 {
            buckets.failed(Source::V4(Ipv4Addr::from_bits(i)), now);
        }
        assert!(buckets.full_at.len() <= SOURCES + 64, "{}", buckets.full_at.len());
    }

    #[test]
    fn an_attempt_that_is_given_up_has_failed() {
        let (guard, me) = (Guard::new(Some(1)), IpAddr::from([192, 0, 2, 1]));
        guard.attempt(me).ended();
        assert!(guard.allows(me));
        drop(guard.attempt(me));
        assert!(!guard.allows(me));
    }

    #[test]
    fn limits_at_the_edges() {
        let (open, one, most) = (Guard::new(None), Guard::new(Some(0)), Guard::new(Some(u32::MAX)));
        let me: IpAddr = [192, 0, 2, 1].into();
        for _ in 0..1_000 {
            open.failed(me);
            most.failed(me);
        }
        assert!(open.allows(me) && most.allows(me) && one.allows(me));
        one.failed(me);
        assert!(!one.allows(me) && one.allows([192, 0, 2, 2].into()));
    }
}
