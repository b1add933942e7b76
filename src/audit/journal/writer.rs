//! The thread that writes what nobody writes himself, tries again what failed, and looks at the clock.

use super::{
    ENOUGH, LAST_WAIT, LINGER, Summaries, TICK,
    line::{Entry, Line},
    seal::Sealer,
    shared::{Call, Shared},
};
use crate::audit::note::Note;
use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// Pauses between attempts at a failing disk.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) summaries: Summaries,
    pub(super) sealer: Option<Sealer>,
}

impl Writer {
    pub(super) fn run(mut self) {
        let mut ticked = Instant::now();
        let mut finished = 0;
        loop {
            let closing = self.gather();
            self.write_out();
            self.tell_lost();
            if closing || ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.summarize(closing);
                self.tick();
            }
            let now = self.shared.disk().segments.finished();
            if let Some(sealer) = self.sealer.as_ref().filter(|_| finished != now) {
                sealer.finished(now);
                finished = now;
            }
            if closing && self.shared.lock().buffer.is_empty() {
                return;
            }
        }
    }

    /// Waits for lines, or for the clock. Says whether the journal is to stop.
    fn gather(&self) -> bool {
        let mut state = self.shared.lock();
        if state.buffer.is_empty() && !state.closing && state.failing.is_none() {
            state.idle = true;
            state = self.shared.wait(state, TICK);
            state.idle = false;
        }
        let until = Instant::now() + LINGER;
        while !state.buffer.is_empty() && !state.urgent && !state.closing && state.buffer.len() < ENOUGH {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state.lingering = true;
            state = self.shared.wait(state, left);
        }
        state.lingering = false;
        state.urgent = false;
        state.closing
    }

    /// Writes what is there, however long it takes; what a failing disk did not take at a stop is lost.
    fn write_out(&self) {
        let mut pause = PAUSES[0];
        let mut give_up = None;
        loop {
            let (mut disk, result) = self.shared.drain(self.shared.disk());
            if result.is_ok() {
                return;
            }
            let state = self.shared.lock();
            if state.closing && Instant::now() > *give_up.get_or_insert_with(|| Instant::now() + LAST_WAIT) {
                let (bytes, events) = {
                    let (text, entries) = disk.batch.rest();
                    (text.len(), entries.len() as u64)
                };
                let (queued, untold) = (disk.batch.queued, disk.batch.lost);
                disk.batch.clear(0);
                drop((state, disk));
                tracing::error!(
                    audit.events = events,
                    "audit events are lost: the disk failed until the end"
                );
                // A line that tells of lost events stands for these, which were counted.
                match untold {
                    0 => self.shared.lose(self.shared.lock(), events),
                    untold => self.shared.owe(self.shared.lock(), untold),
                }
                drop(self.shared.release(if queued { bytes } else { 0 }));
                return;
            }
            drop(disk);
            // Only a stop ends the pause early, and then it is cut short to try a few times more.
            let until = Instant::now() + if state.closing { PAUSES[0] } else { pause };
            let was_closing = state.closing;
            let mut state = state;
            while state.closing == was_closing {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                state = self.shared.wait(state, left);
            }
            pause = (pause * 2).min(PAUSES[1]);
        }
    }

    /// Writes how many events were lost while the disk failed or the queue was full.
    fn tell_lost(&self) {
        let mut state = self.shared.lock();
        if state.lost == 0 || state.failing.is_some() {
            return;
        }
        let lost = std::mem::take(&mut state.lost);
        let since = state.lost_since.take();
        drop(state);
        let now = SystemTime::now();
        self.add(lost, |deliver| Note::Lost(lost).write(since.unwrap_or(now), now, deliver));
    }

    fn summarize(&mut self, at_end: bool) {
        let mut text = Vec::new();
        let mut entries: Vec<Entry> = Vec::new();
        (self.summaries)(at_end, &mut |line| {
            text.extend_from_slice(line.text);
            entries.push(line.entry);
        });
        self.add(0, |deliver| {
            let mut rest = text.as_slice();
            for entry in entries {
                let (line, after) = rest.split_at_checked(entry.size).unwrap_or((rest, &[]));
                rest = after;
                deliver(&Line { text: line, entry });
            }
        });
    }

    /// Writes lines of the record's own, which did not come by the queue.
    fn add(&self, lost: u64, tell: impl FnOnce(&mut dyn FnMut(&Line<'_>))) {
        let mut disk = self.shared.disk();
        if !disk.batch.is_done() {
            // Somebody else's write failed just now.
            drop(disk);
            self.write_out();
            disk = self.shared.disk();
        }
        disk.batch.clear(0);
        disk.batch.lost = lost;
        tell(&mut |line| {
            disk.batch.text.extend_from_slice(line.text);
            disk.batch.entries.push(line.entry);
        });
        drop(disk);
        self.write_out();
    }

    fn tick(&self) {
        let mut disk = self.shared.disk();
        while disk.syncing {
            disk = self.shared.quiet.wait(disk).unwrap_or_else(PoisonError::into_inner);
        }
        self.shared.begins(Call::Write);
        let ticked = disk.tick(SystemTime::now());
        self.shared.ends(Call::Write);
        match ticked {
            Ok(Some(synced)) => self.shared.publish(synced),
            Ok(None) => {}
            Err(e) => self.shared.fails(&e),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.drained = true;
        if std::thread::panicking() {
            // One that falls over must not look as if it were well.
            state.fallen = true;
            state.failing = Some("the audit journal's writer failed".into());
        }
        self.shared.call_syncer(state);
        if std::thread::panicking() {
            self.shared.let_go();
        }
    }
}
