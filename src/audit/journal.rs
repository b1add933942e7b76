//! The way of a line to the disk: one byte buffer behind a short lock, and one thread that writes it out in batches.
//!
//! The buffer is bounded in bytes. An open request holds the place of its last event from its beginning on, so that the
//! event can be appended without waiting or failing, whatever the others do; a request for which there is no place is
//! refused. Nobody waits for the disk but those who ask for it with [`Journal::written`].
//!
//! When the disk fails, the lines that could not be written are kept and tried again with growing pauses; until it works,
//! [`Journal::reserve`] refuses, or, under [`OnFailure::Open`], takes what fits and counts what does not. The count is
//! written to the record once the disk is back.
//!
//! A batch is written when somebody waits for it, when it is big, or after [`LINGER`], whichever comes first: a system call
//! and a change of threads for every line would cost more than all the rest of the record.

use super::{Metrics, OnFailure, Unkept, ledger::Position, note::Note};
use line::Line;
use segment::Segments;
use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::watch;

pub(crate) mod line;
pub(crate) mod segment;

/// How long a line may stay in memory for company, when nobody waits for it.
const LINGER: Duration = Duration::from_millis(5);
/// Bytes of company that are enough.
const ENOUGH: usize = 256 << 10;
/// Bytes written by one call, at most; also how often a slow disk gives back room.
const CHUNK: usize = 1 << 20;
/// How often an idle journal looks at its clock.
const TICK: Duration = Duration::from_secs(1);
/// Pauses between attempts at a failing disk.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// Failures after which another file is tried.
const PATIENCE: u32 = 3;
/// How long a stop waits for a failing disk.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// A buffer that grew past this is given back after use.
const SPARE: usize = 4 << 20;
/// The part of the queue, and of a segment, that is for those who are not authenticated: a tenth.
const STRANGERS: u64 = 10;

/// A place in the stream of lines: the bytes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Mark(u64);

/// The queue and its writer.
#[derive(Debug)]
pub(crate) struct Journal {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    progress: watch::Sender<Progress>,
    position: watch::Sender<Position>,
    capacity: usize,
    on_failure: OnFailure,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct State {
    buffer: Vec<u8>,
    /// Bytes ever appended.
    appended: u64,
    /// Bytes in the buffer, with the writer, and held for last events.
    used: usize,
    /// Bytes of strangers in the buffer, with the writer, and in the current segment.
    strangers_buffer: u64,
    strangers_writer: u64,
    strangers_segment: u64,
    /// The writer sleeps until told.
    idle: bool,
    /// The writer gathers company for what is there.
    lingering: bool,
    /// Somebody waits for the disk.
    urgent: bool,
    closing: bool,
    /// The writer is gone; what comes now is lost.
    closed: bool,
    failing: Option<String>,
    /// Events that could not be kept, not yet told in the record, and since when.
    lost: u64,
    lost_since: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    written: u64,
    failing: bool,
}

/// Ready when a last event is where its mode demands, or when the disk fails: it never keeps an answer back for ever.
#[derive(Debug, Default)]
pub enum Settled {
    /// It is there.
    #[default]
    Ready,
    /// It is on its way.
    Waiting(Waiting),
}

/// The way of a line to the file.
pub struct Waiting(std::pin::Pin<Box<dyn Future<Output = ()> + Send + Sync>>);

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waiting")
    }
}

impl Future for Settled {
    type Output = ();

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        match &mut *self {
            Self::Ready => std::task::Poll::Ready(()),
            Self::Waiting(waiting) => waiting.0.as_mut().poll(cx),
        }
    }
}

/// Lines that the writer is to add of its own, asked for now and then; `true` when the journal stops.
pub(crate) type Summaries = Box<dyn FnMut(bool, &mut dyn FnMut(&Line<'_>)) + Send>;

// === impl Journal ===

impl Journal {
    /// Begins to write to `segments`. `capacity` in bytes.
    pub(crate) fn start(
        segments: Segments,
        capacity: usize,
        on_failure: OnFailure,
        metrics: Metrics,
        summaries: Summaries,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            progress: watch::Sender::default(),
            position: watch::Sender::new(segments.position()),
            capacity,
            on_failure,
            metrics,
        });
        let writer = Writer { shared: shared.clone(), segments, summaries };
        let thread = std::thread::Builder::new().name("audit-journal".into()).spawn(move || writer.run())?;
        Ok(Self { shared, writer: Mutex::new(Some(thread)) })
    }

    /// Appends `line`, if there is one, and holds `hold` bytes for what is to follow.
    pub(crate) fn reserve(&self, line: Option<&Line<'_>>, hold: usize) -> Result<Mark, Unkept> {
        let line = line.map_or(&b""[..], |line| line.text);
        let shared = &*self.shared;
        let mut state = shared.lock();
        if state.failing.is_some() && shared.on_failure == OnFailure::Refuse {
            return Err(Unkept("its disk fails".into()));
        }
        if state.closing {
            return Err(Unkept("the gate is stopping".into()));
        }
        if state.used + line.len() + hold > shared.capacity {
            return Err(Unkept("its queue is full".into()));
        }
        state.used += hold;
        Ok(shared.append(state, line))
    }

    /// Holds `bytes` more, if there is room.
    pub(crate) fn hold(&self, bytes: usize) -> bool {
        let mut state = self.shared.lock();
        let fits = state.used + bytes <= self.shared.capacity;
        if fits {
            state.used += bytes;
        }
        fits
    }

    /// Appends `line`, whose place was held: `release` bytes.
    pub(crate) fn append(&self, line: Option<&Line<'_>>, release: usize) -> Mark {
        let line = line.map_or(&b""[..], |line| line.text);
        let mut state = self.shared.lock();
        state.used = state.used.saturating_sub(release);
        if state.closed {
            let mark = Mark(state.appended);
            self.shared.lose(state, count_lines(line));
            return mark;
        }
        self.shared.append(state, line)
    }

    /// Appends `line`, for which no place was held, if there is room; else it is lost.
    pub(crate) fn try_append(&self, line: &Line<'_>) -> Option<Mark> {
        let line = line.text;
        let state = self.shared.lock();
        if !state.closed && state.used + line.len() <= self.shared.capacity {
            Some(self.shared.append(state, line))
        } else {
            self.shared.lose(state, 1);
            None
        }
    }

    /// Appends the `line` of somebody who was not authenticated, within the share of such.
    pub(crate) fn append_stranger(&self, line: &Line<'_>, max_segment: u64) -> bool {
        let line = line.text;
        let mut state = self.shared.lock();
        let size = line.len() as u64;
        let fits = !state.closing
            && state.failing.is_none()
            && state.used + line.len() <= self.shared.capacity
            && state.strangers_buffer + state.strangers_writer + size
                <= self.shared.capacity as u64 / STRANGERS
            && state.strangers_segment + size <= max_segment / STRANGERS;
        if fits {
            state.strangers_buffer += size;
            state.strangers_segment += size;
            self.shared.append(state, line);
        }
        fits
    }

    /// Waits until everything before `mark` is in the file, or the disk fails.
    pub(crate) async fn written(&self, mark: Mark) -> Result<(), Unkept> {
        let mut progress = self.shared.progress.subscribe();
        let reached = |p: &Progress| p.written >= mark.0 || p.failing;
        if !reached(&progress.borrow_and_update()) {
            self.shared.urge();
        }
        let now = *progress.wait_for(reached).await.map_err(|_| Unkept("its writer is gone".into()))?;
        if now.written < mark.0 && self.shared.on_failure == OnFailure::Refuse {
            return Err(Unkept("its disk fails".into()));
        }
        Ok(())
    }

    /// Begins to write and sync everything before `mark`; waits for nothing.
    pub(crate) fn commit(&self, mark: Mark) {
        if self.shared.progress.borrow().written < mark.0 {
            self.shared.urge();
        }
    }

    /// Waits until everything before `mark` is on the disk, or the disk fails.
    pub(crate) async fn synced(&self, mark: Mark) -> Result<(), Unkept> {
        self.written(mark).await
    }

    /// For the last event of a request, which is before `mark`.
    pub(crate) fn settled(&self, mark: Mark) -> Settled {
        let mut progress = self.shared.progress.subscribe();
        let reached = move |p: &Progress| p.written >= mark.0 || p.failing;
        if reached(&progress.borrow_and_update()) {
            return Settled::Ready;
        }
        self.shared.urge();
        Settled::Waiting(Waiting(Box::pin(async move {
            // An error says that the writer is gone, and with it what could be waited for.
            let _ = progress.wait_for(reached).await;
        })))
    }

    /// Waits until everything that was appended by now is in the file, or the disk fails.
    pub(crate) async fn flush(&self) -> Result<(), Unkept> {
        let mark = Mark(self.shared.lock().appended);
        self.written(mark).await
    }

    /// Up to where there are whole lines in the files.
    pub(crate) fn position(&self) -> watch::Receiver<Position> {
        self.shared.position.subscribe()
    }

    /// What is wrong with the disk.
    pub(crate) fn healthy(&self) -> Result<(), String> {
        self.shared.lock().failing.clone().map_or(Ok(()), Err)
    }

    /// Writes out what is there and ends the writer. Says how many events could not be written.
    pub(crate) fn close(&self) -> u64 {
        let Some(thread) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return 0;
        };
        self.shared.lock().closing = true;
        self.shared.wake.notify_all();
        // A writer that fell says so itself.
        let _ = thread.join();
        let mut state = self.shared.lock();
        state.closed = true;
        // What came after the writer's last look, or what a fallen one left.
        let left = count_lines(&state.buffer);
        state.buffer.clear();
        state.lost += left;
        state.lost
    }

    /// Bytes in use, for tests.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.shared.lock().used
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock leaves the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, mut state: MutexGuard<'_, State>, line: &[u8]) -> Mark {
        state.buffer.extend_from_slice(line);
        state.appended += line.len() as u64;
        state.used += line.len();
        self.metrics.queue_bytes.set(i64::try_from(state.used).unwrap_or(i64::MAX));
        let mark = Mark(state.appended);
        let wake = !line.is_empty()
            && (std::mem::take(&mut state.idle)
                || state.buffer.len() >= ENOUGH && std::mem::take(&mut state.lingering));
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        mark
    }

    fn lose(&self, mut state: MutexGuard<'_, State>, events: u64) {
        state.lost += events;
        state.lost_since.get_or_insert_with(SystemTime::now);
        drop(state);
        self.metrics.lost.inc_by(events);
        self.metrics.errors.inc_by(events);
    }

    fn urge(&self) {
        let mut state = self.lock();
        state.urgent = true;
        let wake = std::mem::take(&mut state.idle) | std::mem::take(&mut state.lingering);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.wake.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }
}

// === impl Writer ===

struct Writer {
    shared: Arc<Shared>,
    segments: Segments,
    summaries: Summaries,
}

impl Writer {
    fn run(mut self) {
        let mut batch = Vec::new();
        let mut own = Vec::new();
        let mut ticked = Instant::now();
        loop {
            let closing = self.gather(&mut batch);
            self.write_out(&batch, true);
            batch.clear();
            if closing || ticked.elapsed() >= TICK {
                ticked = Instant::now();
                (self.summaries)(closing, &mut |line| own.extend_from_slice(line.text));
                self.write_out(&own, false);
                own.clear();
                if let Err(e) = self.segments.tick(SystemTime::now()) {
                    tracing::error!(error = %e, "cannot finish audit segment");
                    self.segments.give_up();
                }
            }
            if closing && self.shared.lock().buffer.is_empty() {
                break;
            }
        }
        if let Err(e) = self.segments.finish() {
            tracing::error!(error = %e, "cannot sync audit segment");
        }
    }

    /// Waits for lines, or for the clock, and takes what there is. Says whether the journal is to stop.
    fn gather(&self, batch: &mut Vec<u8>) -> bool {
        let mut state = self.shared.lock();
        if state.buffer.is_empty() && !state.closing {
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
        state.strangers_writer = std::mem::take(&mut state.strangers_buffer);
        if batch.capacity() > SPARE {
            *batch = Vec::new();
        }
        std::mem::swap(&mut state.buffer, batch);
        state.closing
    }

    /// Writes `lines`, however long it takes. `queued`: they came by the queue and give back its room.
    fn write_out(&mut self, mut lines: &[u8], queued: bool) {
        while !lines.is_empty() {
            let (chunk, rest) = lines.split_at(whole_lines(lines, CHUNK));
            if !self.write_chunk(chunk) {
                let events = count_lines(lines);
                tracing::error!(
                    audit.events = events,
                    "audit events are lost: the disk failed until the end"
                );
                self.shared.lose(self.shared.lock(), events);
                self.release(if queued { lines.len() } else { 0 });
                return;
            }
            self.shared.position.send_replace(self.segments.position());
            if queued {
                self.release(chunk.len());
                self.shared.progress.send_modify(|p| p.written += chunk.len() as u64);
            }
            self.tell_lost();
            lines = rest;
        }
    }

    /// Tries until it is written; false when the journal stops before.
    fn write_chunk(&mut self, chunk: &[u8]) -> bool {
        let mut written = 0;
        let mut pause = PAUSES[0];
        let mut failures = 0;
        let mut give_up = None;
        loop {
            let now = SystemTime::now();
            if written == 0 && self.segments.begins(chunk.len(), now) {
                self.shared.lock().strangers_segment = 0;
            }
            let Err(error) = self.segments.write(chunk, &mut written, now) else {
                if failures > 0 {
                    self.recovered();
                }
                return true;
            };
            failures += 1;
            self.failed(&error, failures);
            if failures % PATIENCE == 0 {
                self.segments.give_up();
            }
            let state = self.shared.lock();
            if state.closing && Instant::now() > *give_up.get_or_insert_with(|| Instant::now() + LAST_WAIT) {
                return false;
            }
            // Only a stop ends the pause early, and then it is cut short to try a few times more.
            let until = Instant::now() + if state.closing { PAUSES[0] } else { pause };
            let mut state = state;
            let was_closing = state.closing;
            while state.closing == was_closing {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                state = self.shared.wait(state, left);
            }
            drop(state);
            pause = (pause * 2).min(PAUSES[1]);
        }
    }

    fn failed(&self, error: &io::Error, failures: u32) {
        self.shared.metrics.errors.inc();
        if failures == 1 {
            tracing::error!(error = %error, "cannot write the audit journal, trying again");
        }
        self.shared.lock().failing = Some(format!("the audit journal cannot be written: {error}"));
        self.shared.progress.send_modify(|p| p.failing = true);
    }

    fn recovered(&self) {
        tracing::info!("the audit journal can be written again");
        self.shared.lock().failing = None;
        self.shared.progress.send_modify(|p| p.failing = false);
    }

    fn release(&self, bytes: usize) {
        let mut state = self.shared.lock();
        state.used = state.used.saturating_sub(bytes);
        self.shared.metrics.queue_bytes.set(i64::try_from(state.used).unwrap_or(i64::MAX));
    }

    /// Writes how many events were lost while the disk failed. If that fails in turn, it is told later.
    fn tell_lost(&mut self) {
        let mut state = self.shared.lock();
        let lost = std::mem::take(&mut state.lost);
        let since = state.lost_since.take();
        drop(state);
        if lost == 0 {
            return;
        }
        let now = SystemTime::now();
        let mut line = Vec::new();
        Note::Lost(lost).write(since.unwrap_or(now), now, |l| line.extend_from_slice(l.text));
        let mut written = 0;
        if self.segments.write(&line, &mut written, now).is_err() {
            self.segments.give_up();
            let mut state = self.shared.lock();
            state.lost += lost;
            state.lost_since = since.or(state.lost_since);
        }
        self.shared.position.send_replace(self.segments.position());
    }
}

impl Drop for Writer {
    /// A writer that falls over must not look as if it were well.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.lock().failing = Some("the audit journal's writer failed".into());
            self.shared.progress.send_modify(|p| p.failing = true);
        }
    }
}

/// As many whole lines from the beginning of `lines` as fit into `most` bytes; one at least.
fn whole_lines(lines: &[u8], most: usize) -> usize {
    let end_before = |end: usize| lines[..end].iter().rposition(|b| *b == b'\n').map(|at| at + 1);
    if lines.len() <= most {
        return lines.len();
    }
    end_before(most)
        .or_else(|| lines.iter().position(|b| *b == b'\n').map(|at| at + 1))
        .unwrap_or(lines.len())
}

fn count_lines(lines: &[u8]) -> u64 {
    lines.iter().filter(|b| **b == b'\n').count() as u64
}

#[cfg(test)]
mod tests;
