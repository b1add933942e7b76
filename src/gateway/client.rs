//! The caller's end of a connection, as the gate sees it: its peer and certificates, and what is under way on it.

use super::SHUTTING_DOWN;
use crate::{authn::Conn, headers, streams::Reason};
use http::{HeaderMap, HeaderValue};
use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
};
use tokio::sync::{Notify, OwnedSemaphorePermit};

/// The caller's end of a connection.
#[derive(Debug)]
pub struct Client {
    /// What authentication judges.
    pub conn: Conn,
    /// Set off when an answer was the connection's last.
    pub(crate) close: Notify,
    trusted: bool,
    address: HeaderValue,
    open: AtomicUsize,
    answered: AtomicU64,
    cut: AtomicBool,
    late: AtomicBool,
    /// Turns at every look for overdue requests; those with a deadline that began in an even and in an odd turn.
    turn: AtomicUsize,
    bounded: [AtomicUsize; 2],
    _place: Option<OwnedSemaphorePermit>,
}

impl Client {
    /// A connection without a request yet. `trusted`: what it says of the hops before it is believed.
    pub fn new(conn: Conn, trusted: bool) -> Self {
        // An address is plain ASCII.
        let address = HeaderValue::try_from(conn.peer.ip().to_canonical().to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Self {
            conn,
            trusted,
            address,
            close: Notify::new(),
            open: AtomicUsize::new(0),
            answered: AtomicU64::new(0),
            cut: AtomicBool::new(false),
            late: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
            bounded: Default::default(),
            _place: None,
        }
    }

    /// Holds the connection's place until the last of its requests, which over HTTP/2 may outlive it, has been recorded.
    pub(crate) fn holding(self, place: OwnedSemaphorePermit) -> Self {
        Self { _place: Some(place), ..self }
    }

    /// The gate cuts the connection off with everything on it.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Relaxed);
    }

    /// Who ended what did not come to its end.
    pub(super) fn left(&self) -> Reason {
        match () {
            () if self.cut.load(Relaxed) => SHUTTING_DOWN.into(),
            () if self.late.load(Relaxed) => "deadline".into(),
            () => "the caller left".into(),
        }
    }

    /// A request with a deadline begins, in the turn that is returned.
    pub(super) fn begin_bounded(&self) -> usize {
        let turn = self.turn.load(Relaxed) % 2;
        self.bounded[turn].fetch_add(1, Relaxed);
        turn
    }

    /// One that began in this turn is over.
    pub(super) fn end_bounded(&self, turn: usize) {
        self.bounded[turn % 2].fetch_sub(1, Relaxed);
    }

    /// A request begins.
    pub(super) fn begin(&self) {
        self.open.fetch_add(1, Relaxed);
    }

    /// A request is over.
    pub(super) fn end(&self) {
        self.answered.fetch_add(1, Relaxed);
        self.open.fetch_sub(1, Relaxed);
    }

    /// Whether a request with a deadline is still under way that was so at the last look. The looks are further apart than
    /// any deadline, so its caller has stopped reading.
    pub(crate) fn overdue(&self) -> bool {
        let turn = self.turn.load(Relaxed);
        let overdue = self.bounded[(turn + 1) % 2].load(Relaxed) > 0;
        if overdue {
            self.late.store(true, Relaxed);
        } else {
            self.turn.store(turn + 1, Relaxed);
        }
        overdue
    }

    /// `X-Forwarded-For` as the upstream gets it: a stranger cannot put addresses into the upstream's own record.
    pub(super) fn forwarded_for(&self, headers: &HeaderMap) -> HeaderValue {
        let before = headers::forwarded_for(headers).filter(|_| self.trusted);
        before
            .map(|before| [before.as_bytes(), b", ", self.address.as_bytes()].concat())
            .and_then(|chain| HeaderValue::try_from(chain).ok())
            .unwrap_or_else(|| self.address.clone())
    }

    /// Whose failed attempts are counted together: the peer, or whom a trusted proxy names as its own.
    pub(super) fn source(&self, headers: &HeaderMap) -> IpAddr {
        let hops = headers::forwarded_for(headers).filter(|_| self.trusted);
        let nearest = hops.and_then(|hops| address(hops.to_str().ok()?.rsplit(',').next()?.trim()));
        nearest.unwrap_or_else(|| self.conn.peer.ip())
    }

    /// None while a request is under way, else how many have been answered: the same number twice is idleness between.
    pub(crate) fn idle(&self) -> Option<u64> {
        (self.open.load(Relaxed) == 0).then(|| self.answered.load(Relaxed))
    }
}

/// Some proxies write the port, too.
fn address(hop: &str) -> Option<IpAddr> {
    hop.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_hop_of_a_trusted_proxy_is_the_source_and_the_chain_is_whole() {
        let rows: &[(&[&str], &str, &str)] = &[
            (&[], "10.0.0.1", "10.0.0.1"),
            (&["192.0.2.7"], "192.0.2.7", "192.0.2.7, 10.0.0.1"),
            (&["6.6.6.6, 192.0.2.7"], "192.0.2.7", "6.6.6.6, 192.0.2.7, 10.0.0.1"),
            (&["6.6.6.6", "192.0.2.7"], "192.0.2.7", "6.6.6.6, 192.0.2.7, 10.0.0.1"),
            (&["192.0.2.7:4711"], "192.0.2.7", "192.0.2.7:4711, 10.0.0.1"),
            (&["[2001:db8::1]:4711"], "2001:db8::1", "[2001:db8::1]:4711, 10.0.0.1"),
            (&["unknown"], "10.0.0.1", "unknown, 10.0.0.1"),
        ];
        for (lines, source, chain) in rows {
            let mut headers = HeaderMap::new();
            for line in *lines {
                headers.append(headers::X_FORWARDED_FOR, line.parse().unwrap());
            }
            let conn = || Conn::new(([10, 0, 0, 1], 1).into(), Vec::new());
            let (trusted, stranger) = (Client::new(conn(), true), Client::new(conn(), false));
            assert_eq!(trusted.source(&headers).to_string(), *source, "{lines:?}");
            assert_eq!(trusted.forwarded_for(&headers), *chain, "{lines:?}");
            assert_eq!(stranger.source(&headers).to_string(), "10.0.0.1", "{lines:?}");
            assert_eq!(stranger.forwarded_for(&headers), "10.0.0.1", "{lines:?}");
        }
    }

    #[test]
    fn a_request_is_overdue_at_the_second_look_after_it_began() {
        let client = Client::new(Conn::new(([127, 0, 0, 1], 1).into(), Vec::new()), false);
        assert!(!client.overdue());
        let turn = client.begin_bounded();
        assert!(!client.overdue(), "it may have begun a moment ago");
        let other = client.begin_bounded();
        assert!(client.overdue());
        assert_eq!(client.left(), "deadline");
        client.end_bounded(turn);
        assert!(!client.overdue(), "the other one began later");
        client.end_bounded(other);
        assert!(!client.overdue() && !client.overdue());
    }
}
