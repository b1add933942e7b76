//! Signed heads of the tree, on their way to a receiver: behind the lines that they cover.

use super::batch::Batch;
use crate::audit::ledger::{Position, Signed};
use std::{future::pending, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// How often a receiver is sent one, at most, but for the last one.
const EVERY: Duration = Duration::from_secs(30);

/// The heads for one receiver.
pub(super) struct Heads {
    signed: Option<watch::Receiver<Signed>>,
    line: fn(&Signed) -> Vec<u8>,
    next: Instant,
    /// The one that was taken last.
    seen: Option<Signed>,
    /// One that goes once everything up to this place has gone.
    waiting: Option<(Vec<u8>, Position)>,
}

impl Heads {
    /// `line` makes an event of a head.
    pub(super) fn new(signed: Option<watch::Receiver<Signed>>, line: fn(&Signed) -> Vec<u8>) -> Self {
        Self { signed, line, next: Instant::now(), seen: None, waiting: None }
    }

    /// Takes the newest, if it is time. `last`: it is time.
    pub(super) fn look(&mut self, progress: &watch::Receiver<Position>, last: bool) {
        let Some(signed) = &mut self.signed else { return };
        let now = Instant::now();
        if self.waiting.is_some() || !last && now < self.next {
            return;
        }
        let newest = signed.borrow_and_update().clone();
        if self.seen.as_ref() != Some(&newest) {
            // By now the journal has at least what the head is of.
            self.waiting = Some(((self.line)(&newest), *progress.borrow()));
            self.next = now + EVERY;
            self.seen = Some(newest);
        }
    }

    /// Adds to `batch`, which leads to `at`, the one that is covered by then.
    pub(super) fn add(&mut self, batch: &mut Batch, at: Position) {
        if let Some((line, _)) = self.waiting.take_if(|(_, covered)| *covered <= at) {
            batch.push_own(&line);
        }
    }

    /// Until it is time to look.
    pub(super) async fn due(&mut self) {
        let next = self.next;
        match &mut self.signed {
            Some(signed) if self.waiting.is_none() => {
                sleep_until(next).await;
                if signed.changed().await.is_err() {
                    // The tree has ended: what came last goes at the stop.
                    pending().await
                }
            }
            _ => pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tree::Tree;

    fn signed(time: u64) -> Signed {
        Signed { head: Tree::new().head(), time, note: "".into(), segment: 1, stopped: false }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_goes_behind_what_it_covers_now_and_then_and_once() {
        let heads = watch::Sender::new(signed(0));
        let line = |signed: &Signed| format!("{}\n", signed.time).into_bytes();
        let place = |offset| Position { segment: 1, offset };
        let progress = watch::Sender::new(place(100));
        let mut sent = Heads::new(Some(heads.subscribe()), line);
        let mut goes = |at: u64, last: bool| {
            sent.look(&progress.subscribe(), last);
            let mut batch = Batch::default();
            sent.add(&mut batch, place(at));
            String::from_utf8(batch.lines(0..batch.len()).text().to_vec()).unwrap()
        };
        // Not before what was there when it was taken up, whatever has come since.
        assert_eq!(goes(99, false), "");
        heads.send_replace(signed(1));
        progress.send_replace(place(200));
        assert_eq!(goes(99, false), "");
        assert_eq!(goes(100, false), "0\n");
        assert_eq!(goes(200, false), "", "it is not time");
        tokio::time::advance(EVERY).await;
        assert_eq!(goes(200, false), "1\n");
        tokio::time::advance(EVERY).await;
        assert_eq!(goes(200, false), "", "there is no other");
        assert_eq!(goes(200, true), "");
        heads.send_replace(signed(2));
        assert_eq!(goes(200, false), "2\n");
        heads.send_replace(signed(3));
        drop(heads);
        assert_eq!(goes(200, false), "");
        assert_eq!([goes(200, true), goes(200, true)], ["3\n", ""]);
    }
}
