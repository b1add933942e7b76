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
    /// One that goes once everything up to this place has gone.
    waiting: Option<(Vec<u8>, Position)>,
}

impl Heads {
    /// `line` makes an event of a head.
    pub(super) fn new(signed: Option<watch::Receiver<Signed>>, line: fn(&Signed) -> Vec<u8>) -> Self {
        Self { signed, line, next: Instant::now(), waiting: None }
    }

    /// Takes the newest, if it is time. `last`: it is time.
    pub(super) fn look(&mut self, progress: &watch::Receiver<Position>, last: bool) {
        let Some(signed) = &mut self.signed else { return };
        let now = Instant::now();
        if self.waiting.is_none() && (last || self.next <= now) && signed.has_changed().unwrap_or(last) {
            let line = (self.line)(&signed.borrow_and_update());
            // By now the journal has at least what the head is of.
            self.waiting = Some((line, *progress.borrow()));
            self.next = now + EVERY;
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
                    pending().await
                }
                signed.mark_changed();
            }
            _ => pending().await,
        }
    }
}
