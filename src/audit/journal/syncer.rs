//! The thread that syncs: one sync for all who wait when it begins.

use super::{
    EVERY, TICK,
    shared::{Call, Shared},
};
use std::{
    sync::{Arc, PoisonError},
    time::{Instant, SystemTime},
};

/// After a sync that nobody waited for the disk has so many times its duration for others.
const REST: u32 = 10;

pub(super) struct Syncer(pub(super) Arc<Shared>);

impl Syncer {
    pub(super) fn run(self) {
        let mut rested = Instant::now();
        while self.gather(rested) {
            let began = Instant::now();
            self.sync();
            let took = began.elapsed();
            rested = Instant::now() + (took * REST).min(EVERY);
        }
        // What the writer wrote last.
        self.sync();
    }

    /// Waits until a sync is due: when somebody waits for it, or when there is much, but not before `rested`. Says whether there
    /// may be another one after it.
    fn gather(&self, rested: Instant) -> bool {
        let shared = &*self.0;
        let until = Instant::now() + EVERY;
        let mut state = shared.lock();
        loop {
            let time = if state.sync_due { rested.min(until) } else { until };
            let left = time.saturating_duration_since(Instant::now());
            let due = left.is_zero() || state.wanted > shared.synced.borrow().mark;
            if state.drained || due && state.failing.is_none() {
                break;
            }
            state.syncer_idle = true;
            let time = if state.failing.is_some() { TICK } else { left };
            state = shared.wake_syncer.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0;
            state.syncer_idle = false;
        }
        state.sync_due = false;
        !state.drained
    }

    fn sync(&self) {
        let shared = &*self.0;
        // Those who wait for the disk need not have been written.
        let (mut disk, drained) = shared.drain(shared.disk());
        if drained.is_err() {
            return;
        }
        let Some(sync) = disk.begin_sync() else { return };
        drop(disk);
        let began = Instant::now();
        shared.begins(Call::Sync);
        let result = sync.run();
        let mut disk = shared.disk();
        if result.is_err() {
            shared.metrics.disk_errors.inc();
        }
        let ended = disk.end_sync(&sync, result, began.elapsed(), SystemTime::now());
        // What a failed one was for is written anew by then, which may hang as well.
        shared.ends(Call::Sync);
        drop(disk);
        shared.quiet.notify_all();
        match ended {
            Ok(synced) => shared.publish(synced),
            Err(e) => shared.fails(&e),
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Nobody is to wait for a sync that does not end.
            self.0.disk().syncing = false;
            self.0.quiet.notify_all();
        }
        let mut state = self.0.lock();
        state.closed = true;
        if std::thread::panicking() {
            state.fallen = true;
            state.failing = Some("the audit journal's syncer failed".into());
        }
        drop(state);
        self.0.ended.notify_all();
        self.0.let_go();
    }
}
