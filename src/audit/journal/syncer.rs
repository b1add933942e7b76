//! The thread that syncs: one sync for all who wait when it begins.

use super::{
    EVERY, TICK,
    shared::{Call, Due, Shared},
};
use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// After a sync the disk has so many times its duration for others, before one that nobody waits for: where there is much in
/// memory, and where there are many lines.
const REST: [u32; 2] = [10, 100];
/// For many lines it is no more than this, so that the head of the tree stays close behind, or what it is for much.
const LONGEST: Duration = Duration::from_millis(250);

pub(super) struct Syncer(pub(super) Arc<Shared>);

impl Syncer {
    pub(super) fn run(self) {
        let mut rested = [Instant::now(); 2];
        while self.gather(rested) {
            let began = Instant::now();
            self.sync();
            let took = began.elapsed();
            let much = (took * REST[0]).min(EVERY);
            let many = (took * REST[1]).min(LONGEST).max(much);
            rested = [much, many].map(|rest| Instant::now() + rest);
        }
        // What the writer wrote last.
        self.sync();
    }

    /// Waits until a sync is due: when somebody waits for it, or when there is much, but not before `rested`: a time
    /// for much, and one for many lines. Says whether there may be another one after it.
    fn gather(&self, [much, many]: [Instant; 2]) -> bool {
        let shared = &*self.0;
        let until = Instant::now() + EVERY;
        let mut state = shared.lock();
        loop {
            let time = match state.sync_due {
                Some(Due::Much) => much.min(until),
                Some(Due::Many) => many.min(until),
                None => until,
            };
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
        state.sync_due = None;
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
