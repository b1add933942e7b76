//! What the queue, its threads and those who wait have in common.

use super::{
    ENOUGH, ENOUGH_UNSYNCED, Mark, SPARE, TICK,
    disk::{Disk, Synced},
    line::{Entry, Line},
};
use crate::audit::{
    Metrics, OnFailure, Unkept,
    ledger::{
        Position,
        feed::{EVENTS, Feed},
    },
};
use std::{
    io,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::watch;

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// For the writer.
    pub(super) wake: Condvar,
    /// For the syncer.
    pub(super) wake_syncer: Condvar,
    /// For whoever waits for the end of them both.
    pub(super) ended: Condvar,
    pub(super) disk: Mutex<Disk>,
    /// A sync is over.
    pub(super) quiet: Condvar,
    pub(super) written: watch::Sender<Reach>,
    pub(super) synced: watch::Sender<Reach>,
    pub(super) position: watch::Sender<Position>,
    /// Since when somebody writes, and syncs: milliseconds after the start; 0: nobody does.
    pub(super) busy: [AtomicU64; 2],
    pub(super) started: Instant,
    pub(super) capacity: usize,
    pub(super) on_failure: OnFailure,
    pub(super) hung: Duration,
    pub(super) feed: Feed,
    pub(super) metrics: Metrics,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) buffer: Vec<u8>,
    pub(super) entries: Vec<Entry>,
    /// Bytes ever appended.
    pub(super) appended: u64,
    /// Bytes in the buffer, on their way to the file, and held for last events.
    pub(super) used: usize,
    /// Bytes of strangers in the buffer, on their way to the file, and in the current segment.
    pub(super) strangers_buffer: u64,
    pub(super) strangers_writer: u64,
    pub(super) strangers_segment: u64,
    /// The writer sleeps until told.
    pub(super) idle: bool,
    /// The writer gathers company for what is there.
    pub(super) lingering: bool,
    /// Somebody waits for the file.
    pub(super) urgent: bool,
    /// Up to where somebody waits for the disk.
    pub(super) wanted: u64,
    /// As soon as possible, though nobody waits.
    pub(super) sync_due: Option<Due>,
    /// The syncer sleeps until told.
    pub(super) syncer_idle: bool,
    pub(super) closing: bool,
    /// The writer has ended.
    pub(super) drained: bool,
    /// Nobody writes any more; what comes now is lost.
    pub(super) closed: bool,
    /// A thread of the journal fell over.
    pub(super) fallen: bool,
    pub(super) failing: Option<String>,
    /// Events that could not be kept, not yet told in the record, and since when.
    pub(super) lost: u64,
    pub(super) lost_since: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reach {
    pub(super) mark: u64,
    pub(super) failing: bool,
}

/// Why a sync is due that nobody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// Many lines are not signed.
    Many,
    /// Much is in memory.
    Much,
}

/// What can be busy.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call {
    Write,
    Sync,
}

// === impl Shared ===

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock leaves the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn disk(&self) -> MutexGuard<'_, Disk> {
        // Whoever falls with it says that the journal fails.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn append(&self, mut state: MutexGuard<'_, State>, line: Option<&Line<'_>>) -> Mark {
        if let Some(line) = line {
            state.buffer.extend_from_slice(line.text);
            state.entries.push(line.entry);
            state.appended += line.text.len() as u64;
            state.used += line.text.len();
        }
        self.metrics.queue(state.used, state.entries.len());
        let mark = Mark(state.appended);
        let wake = line.is_some()
            && (std::mem::take(&mut state.idle)
                || state.buffer.len() >= ENOUGH && std::mem::take(&mut state.lingering));
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        mark
    }

    pub(super) fn lose(&self, state: MutexGuard<'_, State>, events: u64) {
        self.owe(state, events);
        self.metrics.lost.inc_by(events);
        self.metrics.errors.inc_by(events);
    }

    /// So many events, counted as lost, are yet to be told in the record.
    pub(super) fn owe(&self, mut state: MutexGuard<'_, State>, events: u64) {
        state.lost += events;
        state.lost_since.get_or_insert_with(SystemTime::now);
    }

    /// Wakes the writer: somebody waits for the file.
    pub(super) fn urge(&self) {
        let mut state = self.lock();
        state.urgent = true;
        let wake = std::mem::take(&mut state.idle) | std::mem::take(&mut state.lingering);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    pub(super) fn call_syncer(&self, mut state: MutexGuard<'_, State>) {
        let wake = std::mem::take(&mut state.syncer_idle);
        drop(state);
        if wake {
            self.wake_syncer.notify_one();
        }
    }

    pub(super) fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.wake.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whether everything before `mark` is in the file; it is written at once if nobody and nothing is in the way.
    pub(super) fn is_written(&self, mark: Mark) -> bool {
        if self.written.borrow().mark >= mark.0 {
            return true;
        }
        let mut disk = match self.disk.try_lock() {
            Ok(disk) => disk,
            Err(TryLockError::Poisoned(_) | TryLockError::WouldBlock) => return false,
        };
        let state = self.lock();
        if state.failing.is_some() || state.closing || !disk.is_quiet(state.buffer.len(), SystemTime::now()) {
            return false;
        }
        self.take(&mut disk, state);
        self.write(disk).1.is_ok()
    }

    /// Moves what is queued to `disk`, whose batch is done. Says whether there was something.
    pub(super) fn take(&self, disk: &mut Disk, mut state: MutexGuard<'_, State>) -> bool {
        disk.batch.clear(SPARE);
        disk.batch.queued = true;
        std::mem::swap(&mut state.buffer, &mut disk.batch.text);
        std::mem::swap(&mut state.entries, &mut disk.batch.entries);
        state.strangers_writer = std::mem::take(&mut state.strangers_buffer);
        state.urgent = false;
        !disk.batch.is_done()
    }

    /// Writes the batch, and then whatever has been queued; needs time, and no runtime, if something is due.
    pub(super) fn drain<'a>(
        &'a self,
        mut disk: MutexGuard<'a, Disk>,
    ) -> (MutexGuard<'a, Disk>, io::Result<()>) {
        loop {
            let result;
            (disk, result) = self.write(disk);
            if result.is_err() || !self.take(&mut disk, self.lock()) {
                return (disk, result);
            }
        }
    }

    /// Writes the batch.
    pub(super) fn write<'a>(
        &'a self,
        mut disk: MutexGuard<'a, Disk>,
    ) -> (MutexGuard<'a, Disk>, io::Result<()>) {
        let mut synced = Vec::new();
        let mut result = Ok(());
        while result.is_ok() && !disk.is_done() {
            let now = SystemTime::now();
            while disk.syncing && disk.needs_sync(now) {
                disk = self.quiet.wait(disk).unwrap_or_else(PoisonError::into_inner);
            }
            let before = disk.segments.end().segment;
            self.begins(Call::Write);
            let wrote = disk.write(now, &mut synced);
            self.ends(Call::Write);
            synced.drain(..).for_each(|synced| self.publish(synced));
            if disk.segments.end().segment != before {
                self.lock().strangers_segment = 0;
            }
            result = wrote.map(|bytes| self.wrote(if disk.batch.queued { bytes } else { 0 }));
            self.written.send_if_modified(|reach| {
                let changed = reach.mark != disk.written();
                reach.mark = disk.written();
                // Who comes later sees it.
                changed && self.written.receiver_count() > 0
            });
        }
        if let Err(e) = &result {
            self.fails(e);
        }
        let (bytes, lines) = disk.unsynced();
        let due = match () {
            () if bytes >= ENOUGH_UNSYNCED => Some(Due::Much),
            () if lines >= EVENTS => Some(Due::Many),
            () => None,
        };
        // Once: to wake a thread costs more than to write a line.
        if due > disk.asked {
            disk.asked = due;
            let mut state = self.lock();
            state.sync_due = due;
            self.call_syncer(state);
        }
        (disk, result)
    }

    pub(super) fn release(&self, bytes: usize) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.used = state.used.saturating_sub(bytes);
        self.metrics.queue(state.used, state.entries.len());
        state
    }

    /// So many bytes of the queue were written: the disk works.
    pub(super) fn wrote(&self, bytes: usize) {
        let mut state = self.release(bytes);
        if state.fallen || state.failing.take().is_none() {
            return;
        }
        self.call_syncer(state);
        tracing::info!("the audit journal can be written again");
        for reach in [&self.written, &self.synced] {
            reach.send_modify(|reach| reach.failing = false);
        }
    }

    /// Tells everybody what is on the disk.
    pub(super) fn publish(&self, synced: Synced) {
        let Synced { mut steps, written, end, took } = synced;
        self.metrics.synced(steps.len(), took);
        self.feed.push(&mut steps, end);
        self.synced.send_modify(|reach| reach.mark = written);
        self.position.send_replace(end);
    }

    pub(super) fn fails(&self, error: &io::Error) {
        self.metrics.errors.inc();
        self.metrics.disk_errors.inc();
        let mut state = self.lock();
        if state.failing.is_none() {
            tracing::error!(error = %error, "cannot write the audit journal, trying again");
        }
        state.failing = Some(format!("the audit journal cannot be written: {error}"));
        state.urgent = true;
        drop(state);
        self.let_go();
        self.wake.notify_one();
    }

    /// Whoever waits for more than there is need not: it does not come soon.
    pub(super) fn let_go(&self) {
        for reach in [&self.written, &self.synced] {
            reach.send_modify(|reach| reach.failing = true);
        }
    }

    /// The time that `call` has taken so far is counted from now on.
    pub(super) fn begins(&self, call: Call) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.busy[call as usize].store(now.max(1), Ordering::Relaxed);
    }

    pub(super) fn ends(&self, call: Call) {
        self.busy[call as usize].store(0, Ordering::Relaxed);
    }

    /// Why nothing should be begun, although the disk gives no error.
    pub(super) fn blocked(&self) -> Result<(), Unkept> {
        self.hangs()?;
        if self.feed.is_full() {
            return Err(Unkept("its signing falls behind".into()));
        }
        Ok(())
    }

    /// Why nothing should be waited for, although the disk gives no error.
    fn hangs(&self) -> Result<(), Unkept> {
        let since =
            self.busy.iter().map(|busy| busy.load(Ordering::Relaxed)).filter(|since| *since > 0).min();
        if since.is_some_and(|since| self.started.elapsed() > Duration::from_millis(since) + self.hung) {
            return Err(Unkept("its disk hangs".into()));
        }
        Ok(())
    }

    /// Waits until everything before `mark` is reached, or the disk fails.
    pub(super) async fn reached(&self, reach: &watch::Sender<Reach>, mark: Mark) -> Result<(), Unkept> {
        let mut reach = reach.subscribe();
        let over = |reach: &Reach| reach.mark >= mark.0 || reach.failing;
        let failed = loop {
            if let Err(hangs) = self.hangs() {
                break hangs;
            }
            let waited = tokio::time::timeout(TICK, reach.wait_for(over)).await;
            match waited.map(|reach| reach.map(|reach| *reach)) {
                Ok(Ok(reach)) if reach.mark >= mark.0 => return Ok(()),
                Ok(Ok(_)) => break Unkept("its disk fails".into()),
                Ok(Err(_)) => break Unkept("its writer is gone".into()),
                // Time to look again whether it hangs.
                Err(_) => {}
            }
        };
        match self.on_failure {
            OnFailure::Refuse => Err(failed),
            OnFailure::Open => Ok(()),
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}
