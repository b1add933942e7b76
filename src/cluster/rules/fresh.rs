//! Whether changes of one kind still reach the gate.
//!
//! kube's watcher swallows bookmarks and watches that are opened again, so this is seen where its calls go out: a watch that was
//! answered with 200 is up until its body ends, fails or is let go.
//!
//! That a watch is up proves little: its peer may have vanished, or be slow to send what was missed before. What proves something is
//! a list, and the end that the server itself puts to a watch after the time that was asked for: until then everything has come.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// A watch that ends sooner was none: so ends one that is answered with an error in its body.
pub(super) const SETTLED: Duration = Duration::from_millis(200);
/// From one opening to the next, should a server end every watch at once.
const BETWEEN: Duration = Duration::from_secs(1);

/// Of one kind.
#[derive(Debug)]
pub(super) struct Fresh {
    line: Mutex<Line>,
    /// What was not followed for so long is listed anew.
    limit: Duration,
    /// Told of every change.
    noticed: Arc<Notify>,
}

#[derive(Debug)]
struct Line {
    /// Since when a watch is open.
    up: Option<Instant>,
    /// Since when changes may have been missed; means nothing while a watch is settled.
    down: Instant,
    opened: Option<Instant>,
    /// When everything was last known: listed to its end, or followed.
    known: Instant,
    /// Until when it is proven that nothing was missed.
    proven: Instant,
    /// The last watch fell silent.
    silent: bool,
    /// Which of all watches is the last.
    last: u64,
}

impl Fresh {
    /// Nothing has reached the gate since then.
    pub(super) fn new(since: Instant, limit: Duration, noticed: Arc<Notify>) -> Self {
        let line =
            Line { up: None, down: since, opened: None, known: since, proven: since, silent: false, last: 0 };
        Self { line: Mutex::new(line), limit, noticed }
    }

    /// A list has been read to its end; a watch may go on from there.
    pub(super) fn known(&self) {
        let mut line = self.line();
        line.known = Instant::now();
        line.silent = false;
    }

    /// Why no watch may go on from where the last one was: what was missed could be a revocation, and would be on its way for as long
    /// as the server likes while the watch counts as open.
    pub(super) fn must_list(&self, now: Instant) -> Option<&'static str> {
        let line = self.line();
        match line.up {
            Some(_) => None,
            None if line.silent => Some("the last watch fell silent"),
            None if now.saturating_duration_since(line.known) >= self.limit => {
                Some("the last watch was too long ago")
            }
            None => None,
        }
    }

    /// A watch has been answered.
    pub(super) fn opened(self: &Arc<Self>) -> Open {
        let now = Instant::now();
        let mut line = self.line();
        line.up = Some(now);
        line.opened = Some(now);
        line.last += 1;
        let number = line.last;
        drop(line);
        self.noticed.notify_one();
        Open { of: Arc::clone(self), number, heard: now, ended: false }
    }

    /// Everything was listed, as of then.
    pub(super) fn listed(&self, as_of: Instant) {
        let mut line = self.line();
        line.down = line.down.max(as_of);
        line.proven = line.proven.max(as_of);
        drop(line);
        self.noticed.notify_one();
    }

    /// Until when it is proven that nothing was missed.
    pub(super) fn proven(&self) -> Instant {
        self.line().proven
    }

    /// Since when changes may have been missed; None: they have not.
    pub(super) fn lost(&self, now: Instant) -> Option<Instant> {
        let line = self.line();
        (!line.settled(now)).then_some(line.down)
    }

    /// When [`Self::lost`] will say something else by itself.
    pub(super) fn settles(&self, now: Instant) -> Option<Instant> {
        let line = self.line();
        line.up.map(|up| up + SETTLED).filter(|at| *at > now)
    }

    /// Before when no further watch should be opened.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.line().opened.map(|opened| opened + BETWEEN)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn settled(&self, now: Instant) -> bool {
        self.up.is_some_and(|up| now.saturating_duration_since(up) >= SETTLED)
    }
}

/// An open watch.
#[derive(Debug)]
pub(super) struct Open {
    of: Arc<Fresh>,
    number: u64,
    /// When something last came.
    heard: Instant,
    /// It has ended or failed; else it is let go because nothing came.
    ended: bool,
}

impl Open {
    /// Something has come.
    pub(super) fn hear(&mut self) {
        self.heard = Instant::now();
    }

    /// The server has ended it.
    pub(super) fn finish(self) {
        let now = Instant::now();
        let mut line = self.of.line();
        if line.last == self.number && line.settled(now) {
            line.proven = now;
        }
        drop(line);
        self.end();
    }

    /// It has ended or failed.
    pub(super) fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut line = self.of.line();
        if line.last != self.number {
            return;
        }
        if line.settled(now) {
            line.down = if self.ended { now } else { line.down.max(self.heard) };
            line.known = line.down;
        }
        line.silent |= !self.ended;
        line.up = None;
        drop(line);
        self.of.noticed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, sleep};

    #[tokio::test(start_paused = true)]
    async fn a_watch_counts_from_when_it_has_settled_until_it_ends() {
        let start = Instant::now();
        let fresh = Arc::new(Fresh::new(start, Duration::from_secs(100), Arc::default()));
        let lost = || fresh.lost(Instant::now()).map(|at| at - start);
        let secs = |s| Some(Duration::from_secs(s));
        advance(Duration::from_secs(5)).await;
        assert_eq!(lost(), secs(0));
        fresh.listed(start + Duration::from_secs(4));
        assert_eq!(lost(), secs(4), "as of when the list was begun");
        fresh.listed(start);
        assert_eq!(lost(), secs(4));
        let open = fresh.opened();
        assert_eq!(lost(), secs(4), "it could end at once");
        sleep(SETTLED).await;
        assert_eq!(lost(), None);
        advance(Duration::from_secs(60)).await;
        open.end();
        let ended = Some(Duration::from_secs(65) + SETTLED);
        assert_eq!(lost(), ended);
        for _ in 0..3 {
            fresh.opened().end();
            advance(Duration::from_secs(1)).await;
        }
        assert_eq!(lost(), ended, "a watch that ends at once is none");
        let before = fresh.opened();
        let open = fresh.opened();
        before.end();
        sleep(SETTLED).await;
        assert_eq!((lost(), fresh.settles(Instant::now())), (None, None));
        open.end();
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_and_a_watch_to_its_end_are_proof() {
        let start = Instant::now();
        let fresh = Arc::new(Fresh::new(start, Duration::from_secs(100), Arc::default()));
        let proven = || (fresh.proven() - start).as_secs();
        advance(Duration::from_secs(5)).await;
        fresh.listed(start + Duration::from_secs(4));
        assert_eq!(proven(), 4);
        let open = fresh.opened();
        advance(Duration::from_secs(60)).await;
        assert_eq!((fresh.lost(Instant::now()), proven()), (None, 4), "what was missed may be on its way");
        open.finish();
        assert_eq!(proven(), 65);
        for end in [Open::end, drop] {
            let open = fresh.opened();
            advance(Duration::from_secs(60)).await;
            end(open);
            assert_eq!(proven(), 65, "not to its end");
        }
        fresh.opened().finish();
        assert_eq!(proven(), 65, "one that ends at once is none");
    }

    #[tokio::test(start_paused = true)]
    async fn after_silence_or_a_long_time_a_list_is_needed() {
        let start = Instant::now();
        let fresh = Arc::new(Fresh::new(start, Duration::from_secs(100), Arc::default()));
        let anew = || fresh.must_list(Instant::now()).unwrap_or_default();
        let lost = || fresh.lost(Instant::now()).map(|at| (at - start).as_secs());
        fresh.known();
        assert_eq!(anew(), "");
        let mut open = fresh.opened();
        advance(Duration::from_secs(50)).await;
        open.hear();
        advance(Duration::from_secs(65)).await;
        assert_eq!((anew(), lost()), ("", None));
        // kube lets go of it.
        drop(open);
        assert_eq!(lost(), Some(50), "since something last came");
        assert_eq!(anew(), "the last watch fell silent");
        fresh.known();
        assert_eq!(anew(), "");
        let open = fresh.opened();
        advance(Duration::from_secs(65)).await;
        open.end();
        assert_eq!((anew(), lost()), ("", Some(180)), "a watch on which nothing happened");
        advance(Duration::from_secs(99)).await;
        assert_eq!(anew(), "");
        advance(Duration::from_secs(1)).await;
        assert_eq!(anew(), "the last watch was too long ago");
        fresh.known();
        assert_eq!(anew(), "");
    }
}
