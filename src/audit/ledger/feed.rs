//! How the journal tells the tree what it has written.
//!
//! Only what is on the disk is told: a line is pushed after the sync that covers it, with its final place. A line whose sync
//! failed and that was written again elsewhere is told once, from there. So nothing that was told is ever taken back, and
//! whatever is told may be signed at once. To keep the head of the tree close behind, the journal syncs what nobody waits
//! for after [`EVERY`] or [`EVENTS`] lines at the latest.

use super::{Position, Step};
use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Time between checkpoints, at most.
pub(crate) const EVERY: Duration = Duration::from_secs(1);
/// Lines between checkpoints, at most, as long as signing keeps up.
pub(crate) const EVENTS: usize = 1000;
/// Lines that may wait to be signed.
const MOST: u64 = 1 << 20;

/// The journal's end. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Lines that were pushed and are not signed yet.
    unsigned: AtomicU64,
}

/// What waits for the tree's thread.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// In the order of the journal.
    pub(super) steps: Vec<Step>,
    /// The place after them.
    pub(super) position: Option<Position>,
    /// Nothing comes any more; so many events were lost since the last step.
    pub(super) stop: Option<u64>,
    /// Whether the thread need not wait for its time to come.
    hurry: bool,
}

// === impl Feed ===

impl Feed {
    pub(crate) fn new() -> Self {
        let shared = Shared { queue: Mutex::default(), wake: Condvar::new(), unsigned: AtomicU64::new(0) };
        Self { shared: Arc::new(shared) }
    }

    /// Takes all `steps`, which are on the disk and follow in the journal's order on those before; `position` is the place
    /// after them. Waits for nothing, and takes them even when it is full.
    pub(crate) fn push(&self, steps: &mut Vec<Step>, position: Position) {
        let lines = steps.iter().filter(|step| step.is_line()).count() as u64;
        let rotated = steps.iter().any(|step| matches!(step, Step::Segment(_)));
        self.shared.unsigned.fetch_add(lines, Ordering::Relaxed);
        let mut queue = self.lock();
        if queue.steps.is_empty() {
            std::mem::swap(&mut queue.steps, steps);
        } else {
            queue.steps.append(steps);
        }
        queue.position = Some(position);
        let hurry = rotated || queue.steps.len() >= EVENTS;
        let wake = hurry && !std::mem::replace(&mut queue.hurry, hurry);
        drop(queue);
        if wake {
            self.shared.wake.notify_one();
        }
    }

    /// So many lines wait to be signed that no more should be written: to be treated as a disk that fails.
    pub(crate) fn is_full(&self) -> bool {
        self.unsigned() >= MOST
    }

    /// As if nothing had been signed for long.
    #[cfg(test)]
    pub(crate) fn fill(&self) {
        self.shared.unsigned.fetch_add(MOST, Ordering::Relaxed);
    }

    /// Lines that are on the disk and not signed yet.
    pub(crate) fn unsigned(&self) -> u64 {
        self.shared.unsigned.load(Ordering::Relaxed)
    }

    /// Ends the tree's thread once everything is signed; `lost` events were lost since the last step.
    pub(super) fn stop(&self, lost: u64) {
        self.lock().stop = Some(lost);
        self.shared.wake.notify_one();
    }

    /// For the thread: so many lines were signed.
    pub(super) fn signed(&self, lines: u64) {
        self.shared.unsigned.fetch_sub(lines, Ordering::Relaxed);
    }

    /// For the thread: waits until there is reason to hurry, or so long; then takes all that there is into `into`, which is
    /// empty. Says where they end, and whether it is the end, with the events that were lost.
    pub(super) fn take(&self, into: &mut Vec<Step>, patience: Duration) -> (Option<Position>, Option<u64>) {
        let quiet = |queue: &mut Queue| !queue.hurry && queue.stop.is_none();
        let waited = self.shared.wake.wait_timeout_while(self.lock(), patience, quiet);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        std::mem::swap(&mut queue.steps, into);
        queue.hurry = false;
        (queue.position.take(), queue.stop)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing under the lock leaves it half-changed.
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Step ===

impl Step {
    /// Whether it stands for a line of the journal.
    pub(super) fn is_line(&self) -> bool {
        matches!(self, Self::Line(_) | Self::Torn(_))
    }
}
