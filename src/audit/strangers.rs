//! Requests that were refused before anybody was authenticated: they are recorded, but a stranger must not be able to fill the
//! record, nor to push out of it what others did. Each source has a small allowance that grows back with time; what is over
//! it is counted, and the count is recorded from time to time.

use super::{journal::line::Line, note::Note};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// Events that one source may leave at once, and how many grow back in a second.
const ALLOWANCE: (f64, f64) = (20.0, 1.0);
/// The same for all those together for whom there is no own place in the table.
const OTHERS: (f64, f64) = (100.0, 10.0);
/// Sources that have an own place.
const SOURCES: usize = 4096;
/// How often a full table is searched for those that may be forgotten.
const SWEEP: Duration = Duration::from_secs(1);
/// Sources whose count is told by name; the rest is told as one number.
const NAMED: usize = 32;
/// How often counts are told.
const EVERY: Duration = Duration::from_secs(60);

/// The allowance of everybody who was not authenticated.
#[derive(Debug)]
pub(super) struct Strangers(Mutex<Table>);

#[derive(Debug)]
struct Table {
    sources: HashMap<IpAddr, Source>,
    others: Source,
    told: Instant,
    swept: Instant,
}

#[derive(Debug)]
struct Source {
    left: f64,
    at: Instant,
    suppressed: u64,
    since: Option<SystemTime>,
}

impl Strangers {
    pub(super) fn new(now: Instant) -> Self {
        let others = Source::new(OTHERS.0, now);
        Self(Mutex::new(Table { sources: HashMap::new(), others, told: now, swept: now }))
    }

    /// Whether an event of `ip` may be recorded now. One that may not must be counted with [`Self::suppress`].
    pub(super) fn admit(&self, ip: IpAddr, now: Instant) -> bool {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (source, allowance) = table.source(ip, now);
        source.admit(allowance, now)
    }

    /// Counts an event of `ip` that is not recorded.
    pub(super) fn suppress(&self, ip: IpAddr, now: Instant) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (source, _) = table.source(ip, now);
        source.suppressed += 1;
        source.since.get_or_insert_with(SystemTime::now);
    }

    /// Hands on the lines that tell what was suppressed, if it is time, or `at_once`.
    pub(super) fn tell(&self, at_once: bool, now: Instant, mut deliver: impl FnMut(&Line<'_>)) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !at_once && now.duration_since(table.told) < EVERY {
            return;
        }
        table.told = now;
        let mut counts: Vec<_> = table
            .sources
            .iter_mut()
            .map(|(ip, source)| (source.take(), Some(*ip)))
            .filter(|((count, _), _)| *count > 0)
            .collect();
        counts.sort_by_key(|((count, _), ip)| (std::cmp::Reverse(*count), *ip));
        let mut rest = table.others.take();
        for ((count, since), _) in counts.drain(NAMED.min(counts.len())..) {
            rest = (rest.0 + count, rest.1.or(since));
        }
        if rest.0 > 0 {
            counts.push((rest, None));
        }
        table.sources.retain(|_, s| !s.is_rested(now));
        drop(table);
        let wall = SystemTime::now();
        for ((count, since), ip) in counts {
            Note::Suppressed(count, ip).write(since.unwrap_or(wall), wall, &mut deliver);
        }
    }
}

impl Table {
    fn source(&mut self, ip: IpAddr, now: Instant) -> (&mut Source, (f64, f64)) {
        let ip = network(ip);
        if self.sources.len() >= SOURCES && now.saturating_duration_since(self.swept) > SWEEP {
            self.swept = now;
            self.sources.retain(|_, s| !s.is_rested(now));
        }
        if self.sources.len() >= SOURCES && !self.sources.contains_key(&ip) {
            return (&mut self.others, OTHERS);
        }
        (self.sources.entry(ip).or_insert_with(|| Source::new(ALLOWANCE.0, now)), ALLOWANCE)
    }
}

impl Source {
    fn new(left: f64, now: Instant) -> Self {
        Self { left, at: now, suppressed: 0, since: None }
    }

    fn admit(&mut self, (most, per_second): (f64, f64), now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * per_second).min(most);
        self.at = now;
        let admitted = self.left >= 1.0;
        if admitted {
            self.left -= 1.0;
        }
        admitted
    }

    fn take(&mut self) -> (u64, Option<SystemTime>) {
        (std::mem::take(&mut self.suppressed), self.since.take())
    }

    /// Whether forgetting it changes nothing.
    fn is_rested(&self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.suppressed == 0 && self.left + passed * ALLOWANCE.1 >= ALLOWANCE.0
    }
}

/// One customer is given a whole /64 of IPv6 addresses.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(strangers: &Strangers, now: Instant) -> Vec<(String, String)> {
        let mut out = Vec::new();
        strangers.tell(true, now, |line| out.extend_from_slice(line.text));
        let line = |l: &str| {
            let event: serde_json::Value = serde_json::from_str(l).unwrap();
            let ip = event["sourceIPs"][0].as_str().unwrap_or("many").to_owned();
            (ip, event["annotations"]["gatelog.dev/suppressed"].as_str().unwrap().to_owned())
        };
        String::from_utf8(out).unwrap().lines().map(line).collect()
    }

    #[test]
    fn a_source_has_its_allowance_and_the_rest_is_counted() {
        let now = Instant::now();
        let strangers = Strangers::new(now);
        let ask = |ip: &str, at| {
            let ip = ip.parse().unwrap();
            let admitted = strangers.admit(ip, at);
            if !admitted {
                strangers.suppress(ip, at);
            }
            admitted
        };
        assert_eq!((0..50).filter(|_| ask("192.0.2.1", now)).count(), 20);
        assert!(ask("192.0.2.2", now), "another source is not concerned");
        assert_eq!((0..50).filter(|_| ask("192.0.2.1", now + Duration::from_secs(5))).count(), 5);
        assert_eq!(
            (0..50).filter(|i| ask(&format!("2001:db8::{i}"), now)).count(),
            20,
            "one /64 is one source"
        );
        assert_eq!(
            told(&strangers, now),
            [("192.0.2.1".into(), "75".into()), ("2001:db8::".into(), "30".into())]
        );
        assert_eq!(told(&strangers, now), []);
    }

    #[test]
    fn the_table_is_bounded_and_the_rest_is_one_number() {
        let now = Instant::now();
        let strangers = Strangers::new(now);
        let ip = |i: u32| IpAddr::from(i.to_be_bytes());
        let admitted = (0..6000).filter(|i| strangers.admit(ip(*i), now)).count();
        assert_eq!(admitted, SOURCES + OTHERS.0 as usize);
        (0..6000).for_each(|i| strangers.suppress(ip(i), now));
        let told = told(&strangers, now);
        assert_eq!(told.len(), NAMED + 1);
        assert_eq!(told.last().unwrap(), &("many".to_owned(), (6000 - NAMED).to_string()));
        assert!(strangers.admit(ip(9999), now + Duration::from_secs(60)), "rested sources make room");
        assert_eq!(strangers.0.lock().unwrap().sources.len(), 1);
    }

    #[test]
    fn counts_are_told_once_a_minute() {
        let now = Instant::now();
        let strangers = Strangers::new(now);
        strangers.suppress(ip_of(1), now);
        let mut out = Vec::new();
        strangers.tell(false, now + Duration::from_secs(59), |line| out.extend_from_slice(line.text));
        assert!(out.is_empty());
        strangers.tell(false, now + Duration::from_secs(60), |line| out.extend_from_slice(line.text));
        assert!(!out.is_empty());
    }

    fn ip_of(i: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, i])
    }
}
