//! The metrics of requests that are alike, resolved once and then only counted.

use super::call::{Call, OTHER};
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};
use std::{sync::OnceLock, time::Duration};

/// How many status codes one [`Series`] tells apart; the rest is counted under the code `other`. A caller with the right to
/// a proxy subresource can make a backend answer with any code.
pub(super) const MAX_CODES: usize = 24;

/// The metrics of requests that are alike in everything but code and time.
#[derive(Debug)]
pub struct Series {
    pub(super) labels: [Box<str>; 8],
    pub(super) requests: IntCounterVec,
    pub(super) duration: Histogram,
    /// Filled from the front, never emptied.
    pub(super) codes: [OnceLock<(u16, IntCounter)>; MAX_CODES],
    pub(super) now: IntGauge,
    pub(super) long_running: bool,
    pub(super) mutating: bool,
}

impl Series {
    /// Counts the request among those that run now, until the guard is dropped.
    pub fn running(&self) -> Running {
        self.now.inc();
        Running { now: self.now.clone() }
    }

    /// Counts a request whose answer has ended; `elapsed` since its head was read.
    pub fn finish(&self, code: u16, elapsed: Duration) {
        self.duration.observe(elapsed.as_secs_f64());
        for slot in &self.codes {
            let (slot_code, counter) = slot.get_or_init(|| (code, self.counter(&code.to_string())));
            if *slot_code == code {
                counter.inc();
                return;
            }
        }
        self.counter(OTHER).inc();
    }

    fn counter(&self, code: &str) -> IntCounter {
        let mut labels: Vec<&str> = self.labels.iter().map(AsRef::as_ref).collect();
        labels.push(code);
        self.requests.with_label_values(&labels)
    }

    pub(super) fn is(&self, call: &Call<'_>) -> bool {
        self.long_running == call.long_running
            && self.mutating == call.mutating
            && self.labels.iter().zip(call.labels()).all(|(mine, asked)| same(mine, asked))
    }
}

/// Keeps a request counted among those that run now.
#[derive(Debug)]
#[must_use = "the request counts as running only while this lives"]
pub struct Running {
    now: IntGauge,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.now.dec();
    }
}

/// Empty texts are many here, and comparing them for nothing is not free: with AVX-512, glibc's memcmp loads from their
/// dangling addresses under a mask, which took fifty nanoseconds each.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && (a.is_empty() || a == b)
}
