//! What is between the queue and the disk: the batch that is being written, the lines that are written and not synced, and the
//! files. Behind a lock of its own, so that nobody who queues a line waits for the disk.

use super::{
    line::Entry,
    open::Open,
    segment::{Segments, Sink},
    shared::Due,
};
use crate::audit::ledger::{Position, Step};
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// Bytes written by one call, at most; also how often a slow disk gives back room.
const CHUNK: usize = 1 << 20;
/// Bytes that may be written and not synced: they stay in memory, in case the sync fails.
const MOST_UNSYNCED: usize = 16 << 20;

/// The files and what is on its way to them.
pub(super) struct Disk {
    pub(super) segments: Segments,
    /// Taken from the queue, not wholly written.
    pub(super) batch: Batch,
    /// Requests without a last line.
    open: Open,
    /// Lines written since the last good sync began.
    unsynced: Vec<u8>,
    /// What they are, in order.
    steps: Vec<Step>,
    /// Bytes of the queue's lines that are written.
    written: u64,
    /// Somebody syncs, without the lock.
    pub(super) syncing: bool,
    /// Which sync was asked for since the last one ended.
    pub(super) asked: Option<Due>,
    /// The last sync failed, and its lines are not written anew yet.
    failed: bool,
}

/// Lines on their way.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) text: Vec<u8>,
    pub(super) entries: Vec<Entry>,
    /// Bytes and entries of them that are written.
    done: (usize, usize),
    /// They came by the queue and give back its room.
    pub(super) queued: bool,
    /// Events that were lost before them, which the first of them tells.
    pub(super) lost: u64,
}

/// A sync that is under way.
pub(super) struct Sync {
    sink: Arc<dyn Sink>,
    /// Bytes and steps that it covers.
    covers: (usize, usize),
    written: u64,
    end: Position,
}

/// What has reached the disk.
pub(super) struct Synced {
    pub(super) steps: Vec<Step>,
    /// Bytes of the queue's lines.
    pub(super) written: u64,
    pub(super) end: Position,
    /// How long the sync took.
    pub(super) took: Duration,
}

// === impl Disk ===

impl Disk {
    pub(super) fn new(segments: Segments, open: Open) -> Self {
        Self {
            segments,
            batch: Batch::default(),
            open,
            unsynced: Vec::new(),
            steps: Vec::new(),
            written: 0,
            syncing: false,
            asked: None,
            failed: false,
        }
    }

    /// Bytes of the queue's lines that are written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Bytes and lines that are written and not synced.
    pub(super) fn unsynced(&self) -> (usize, usize) {
        (self.unsynced.len(), self.steps.len())
    }

    /// Whether there is nothing to do.
    pub(super) fn is_done(&self) -> bool {
        !self.failed && self.batch.is_done()
    }

    /// Whether nothing is amiss, nor anything due that takes its time, if `bytes` are to be written.
    pub(super) fn is_quiet(&self, bytes: usize, now: SystemTime) -> bool {
        !self.syncing
            && !self.failed
            && self.batch.is_done()
            && bytes <= CHUNK
            && self.unsynced.len() < MOST_UNSYNCED
            && self.segments.is_ready(bytes, now)
    }

    /// Whether the next write has to sync first, which it must not do while somebody else does.
    pub(super) fn needs_sync(&self, now: SystemTime) -> bool {
        self.failed
            || self.unsynced.len() >= MOST_UNSYNCED
            || self.segments.is_due(self.batch.next(CHUNK).len(), now)
    }

    /// Writes the next piece of the batch. Says how many bytes it had; `synced`: what had to be synced for it.
    pub(super) fn write(&mut self, now: SystemTime, synced: &mut Vec<Synced>) -> io::Result<usize> {
        if self.failed {
            synced.push(self.replace(now)?);
        }
        if self.batch.is_done() {
            return Ok(0);
        }
        let due = self.segments.is_due(self.batch.next(CHUNK).len(), now);
        if due || self.unsynced.len() >= MOST_UNSYNCED {
            synced.extend(self.sync_here(now)?);
        }
        if due {
            self.begin(now)?;
        }
        let at = self.segments.end();
        let lines = self.batch.next(CHUNK);
        if let Err(e) = self.segments.append(lines) {
            // Of a file that nobody can read any more, nothing is believed.
            self.failed = self.segments.is_gone();
            return Err(e);
        }
        let size = lines.len();
        self.unsynced.extend_from_slice(lines);
        if self.batch.lost > 0 {
            self.steps.push(Step::Lost(std::mem::take(&mut self.batch.lost)));
        }
        let mut offset = at.offset;
        for entry in self.batch.take(size) {
            self.open.note(entry.id, entry.part, Position { offset, ..at });
            offset += entry.size as u64;
            self.steps.push(Step::Line(*entry));
        }
        if self.batch.queued {
            self.written += size as u64;
        }
        Ok(size)
    }

    /// Ends a segment that is old, or whose file was taken away.
    pub(super) fn tick(&mut self, now: SystemTime) -> io::Result<Option<Synced>> {
        self.segments.trim();
        if self.failed || self.syncing || !self.segments.is_over(now) {
            return Ok(None);
        }
        if self.segments.is_gone() {
            tracing::warn!("the audit segment was moved or removed, beginning another");
        }
        let synced = self.sync_here(now)?;
        self.segments.finish();
        Ok(synced)
    }

    /// Begins a sync of what is written, if there is something.
    pub(super) fn begin_sync(&mut self) -> Option<Sync> {
        if self.failed || self.syncing || self.steps.is_empty() {
            return None;
        }
        let sink = self.segments.sink()?;
        self.syncing = true;
        let covers = (self.unsynced.len(), self.steps.len());
        Some(Sync { sink, covers, written: self.written, end: self.segments.end() })
    }

    /// Ends it. What a failed one was to cover is written anew, and what came since, too.
    pub(super) fn end_sync(
        &mut self,
        sync: &Sync,
        result: io::Result<()>,
        took: Duration,
        now: SystemTime,
    ) -> io::Result<Synced> {
        self.syncing = false;
        self.asked = None;
        if let Err(e) = result {
            self.failed = true;
            tracing::error!(error = %e, "cannot sync the audit segment, writing its last lines to another");
            return self.replace(now);
        }
        self.unsynced.drain(..sync.covers.0);
        let steps = self.steps.drain(..sync.covers.1).collect();
        Ok(Synced { steps, written: sync.written, end: sync.end, took })
    }

    fn sync_here(&mut self, now: SystemTime) -> io::Result<Option<Synced>> {
        let Some(sync) = self.begin_sync() else { return Ok(None) };
        let began = Instant::now();
        let result = sync.run();
        self.end_sync(&sync, result, began.elapsed(), now).map(Some)
    }

    fn begin(&mut self, now: SystemTime) -> io::Result<()> {
        // An older list makes the search at a start longer, not wrong.
        if let Err(e) = self.open.store(self.segments.dir(), self.segments.next()) {
            tracing::warn!(error = %e, "cannot write the list of open requests beside the audit journal");
        }
        self.segments.begin(now)?;
        self.steps.push(Step::Segment(self.segments.end().segment));
        Ok(())
    }

    /// Writes to a new segment what is not known to be on the disk.
    fn replace(&mut self, now: SystemTime) -> io::Result<Synced> {
        let began = Instant::now();
        let synced = self.segments.end().offset.saturating_sub(self.unsynced.len() as u64);
        self.segments.replace(&self.unsynced, synced, now)?;
        self.failed = false;
        let end = self.segments.end();
        if matches!(self.steps.first(), Some(Step::Segment(_))) {
            self.steps.remove(0);
        }
        self.steps.insert(0, Step::Segment(end.segment));
        let mut at = Position { segment: end.segment, offset: 0 };
        for step in &self.steps {
            if let Step::Line(entry) = step {
                self.open.moved(entry, at);
                at.offset += entry.size as u64;
            }
        }
        self.unsynced.clear();
        let steps = std::mem::take(&mut self.steps);
        Ok(Synced { steps, written: self.written, end, took: began.elapsed() })
    }
}

// === impl Batch ===

impl Batch {
    /// Whether all of it is written.
    pub(super) fn is_done(&self) -> bool {
        self.done.0 == self.text.len()
    }

    /// The lines that are not written.
    pub(super) fn rest(&self) -> (&[u8], &[Entry]) {
        (
            self.text.get(self.done.0..).unwrap_or_default(),
            self.entries.get(self.done.1..).unwrap_or_default(),
        )
    }

    /// Empties it; a buffer that grew past `spare` is given back.
    pub(super) fn clear(&mut self, spare: usize) {
        self.text.clear();
        self.entries.clear();
        if self.text.capacity() > spare {
            self.text = Vec::new();
            self.entries = Vec::new();
        }
        (self.done, self.queued, self.lost) = ((0, 0), false, 0);
    }

    /// As many whole lines as fit into `most` bytes; one at least.
    fn next(&self, most: usize) -> &[u8] {
        let (text, entries) = self.rest();
        let mut size = 0;
        for entry in entries {
            if size > 0 && size + entry.size > most {
                break;
            }
            size += entry.size;
        }
        text.get(..size).unwrap_or(text)
    }

    /// Takes note that `bytes` more are written, and says what they are.
    fn take(&mut self, bytes: usize) -> &[Entry] {
        let first = self.done.1;
        let mut left = bytes;
        while let Some(entry) = self.entries.get(self.done.1).filter(|entry| entry.size <= left && left > 0) {
            left -= entry.size;
            self.done.1 += 1;
        }
        self.done.0 += bytes;
        self.entries.get(first..self.done.1).unwrap_or_default()
    }
}

// === impl Sync ===

impl Sync {
    pub(super) fn run(&self) -> io::Result<()> {
        self.sink.sync()
    }
}

#[cfg(test)]
pub(super) mod tests;
