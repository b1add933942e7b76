//! The way of a line to the disk.
//!
//! Lines are queued in one byte buffer behind a short lock, which nobody holds while he does anything with a file. The buffer is
//! bounded in bytes. An open request holds the place of its last event from its beginning on, so that the event can be appended
//! without waiting or failing, whatever the others do; a request for which there is no place is refused.
//!
//! The files have a lock of their own. Who holds it takes the whole buffer and writes it, so that lines are written in the order
//! of the queue, whoever writes:
//!
//! - the caller's own thread, if it waits for its line to be written and nobody is in its way: a system call costs less than
//!   a change of threads. Before a request is forwarded those who are ready to run go first, so that one call is for many lines;
//! - the writer, when somebody waits and cannot do it himself, when the buffer is big, or after [`LINGER`];
//! - the syncer, before it syncs. One sync is for all that wait when it begins; while it runs the next ones gather. It runs when
//!   somebody waits for the disk, else after [`EVENTS`](super::ledger::feed::EVENTS) lines or [`EVERY`], and never on a
//!   caller's thread.
//!
//! What is synced is told to the tree ([`Feed`]) and to those who read along ([`Journal::position`]), and is never taken back.
//! Until then lines stay in memory: a sync that fails says nothing of the disk, and they are written to another file (`segment`).
//!
//! When the disk fails, the lines that could not be written are kept and tried again with growing pauses; until it works,
//! [`Journal::reserve`] refuses, or, under [`OnFailure::Open`], takes what fits and counts what does not. The count is
//! written to the record once the disk is back. A disk that does not come back from a call for [`HUNG`] fails as well, although it
//! gives no error.

use super::{
    Metrics, OnFailure, Unkept,
    ledger::{
        Position,
        feed::{EVERY, Feed},
    },
};
use disk::Disk;
use line::Line;
use open::Open;
use segment::Segments;
use shared::Shared;
use std::{
    io,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, PoisonError},
    task::{Context, Poll},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use writer::Writer;

mod disk;
pub(crate) mod line;
pub(crate) mod open;
pub(crate) mod recover;
mod seal;
pub(crate) mod segment;
mod shared;
mod syncer;
mod writer;

/// How long a line may stay in memory for company, when nobody waits for it.
const LINGER: Duration = Duration::from_millis(5);
/// Bytes of company that are enough.
const ENOUGH: usize = 256 << 10;
/// Bytes that are written and not synced from which on a sync is due.
const ENOUGH_UNSYNCED: usize = 4 << 20;
/// How often an idle journal looks at its clock.
const TICK: Duration = Duration::from_secs(1);
/// A call to the disk that takes longer is as good as one that fails: a sensible [`Setup::hung`].
pub(crate) const HUNG: Duration = Duration::from_secs(10);
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
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a journal is begun with.
pub(crate) struct Setup {
    /// The files.
    pub(crate) segments: Segments,
    /// Requests that earlier processes left without a last line.
    pub(crate) open: Open,
    /// Bytes that lines may take in memory.
    pub(crate) capacity: usize,
    /// What becomes of lines that cannot be kept.
    pub(crate) on_failure: OnFailure,
    /// A call to the disk that takes longer is as good as one that fails.
    pub(crate) hung: Duration,
    /// Whether finished segments are compressed.
    pub(crate) compress: bool,
    /// Who is told what is on the disk.
    pub(crate) feed: Feed,
    /// Its figures.
    pub(crate) metrics: Metrics,
    /// See [`Summaries`].
    pub(crate) summaries: Summaries,
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
pub struct Waiting(Pin<Box<dyn Future<Output = ()> + Send + Sync>>);

/// Lines that the writer is to add of its own, asked for now and then; `true` when the journal stops.
pub(crate) type Summaries = Box<dyn FnMut(bool, &mut dyn FnMut(&Line<'_>)) + Send>;

/// Lets those who are ready to run go first; unlike tokio's `yield_now` not those as well whom a look at the sockets would find.
fn turn() -> impl Future<Output = ()> {
    let mut asked = false;
    std::future::poll_fn(move |cx| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

// === impl Settled ===

impl Future for Settled {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self {
            Self::Ready => Poll::Ready(()),
            Self::Waiting(waiting) => waiting.0.as_mut().poll(cx),
        }
    }
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waiting")
    }
}

// === impl Journal ===

impl Journal {
    /// Begins to write.
    pub(crate) fn start(setup: Setup) -> io::Result<Self> {
        let Setup { segments, open, capacity, on_failure, hung, compress, feed, metrics, summaries } = setup;
        let sealer = compress.then(|| seal::start(segments.dir(), segments.finished())).transpose()?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            wake_syncer: Condvar::new(),
            ended: Condvar::new(),
            quiet: Condvar::new(),
            written: watch::Sender::default(),
            synced: watch::Sender::default(),
            position: watch::Sender::new(segments.end()),
            disk: Mutex::new(Disk::new(segments, open)),
            busy: Default::default(),
            started: Instant::now(),
            capacity,
            on_failure,
            hung,
            feed,
            metrics,
        });
        let thread = |name: &str| std::thread::Builder::new().name(name.into());
        let writer = Writer { shared: shared.clone(), summaries, sealer };
        let mut threads = vec![thread("audit-journal").spawn(move || writer.run())?];
        let journal = |threads| Self { shared: shared.clone(), threads: Mutex::new(threads) };
        let syncer = syncer::Syncer(shared.clone());
        match thread("audit-sync").spawn(move || syncer.run()) {
            Ok(syncer) => threads.push(syncer),
            Err(e) => {
                shared.lock().closed = true;
                drop(journal(threads));
                return Err(e);
            }
        }
        Ok(journal(threads))
    }

    /// Appends `line`, if there is one, and holds `hold` bytes for what is to follow.
    pub(crate) fn reserve(&self, line: Option<&Line<'_>>, hold: usize) -> Result<Mark, Unkept> {
        let size = line.map_or(0, |line| line.text.len());
        let shared = &*self.shared;
        if shared.on_failure == OnFailure::Refuse {
            shared.blocked()?;
        }
        let mut state = shared.lock();
        if state.failing.is_some() && shared.on_failure == OnFailure::Refuse {
            return Err(Unkept("its disk fails".into()));
        }
        if state.closing {
            return Err(Unkept("the gate is stopping".into()));
        }
        if state.used + size + hold > shared.capacity {
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

    /// Appends `line`, whose place was held: `release` bytes. None: it is lost, since nobody writes any more.
    pub(crate) fn append(&self, line: Option<&Line<'_>>, release: usize) -> Option<Mark> {
        let mut state = self.shared.lock();
        state.used = state.used.saturating_sub(release);
        if state.closed {
            self.shared.lose(state, line.map_or(0, |_| 1));
            return None;
        }
        Some(self.shared.append(state, line))
    }

    /// Appends `line`, for which no place was held, if there is room; else it is lost.
    pub(crate) fn try_append(&self, line: &Line<'_>) -> Option<Mark> {
        let state = self.shared.lock();
        if !state.closed && state.used + line.text.len() <= self.shared.capacity {
            Some(self.shared.append(state, Some(line)))
        } else {
            self.shared.lose(state, 1);
            None
        }
    }

    /// Appends a `line` of the start, before there are requests; waits for room while the disk works.
    pub(crate) fn append_early(&self, line: &Line<'_>) {
        while self.healthy().is_ok() && self.shared.lock().used + line.text.len() > self.shared.capacity {
            std::thread::sleep(LINGER);
        }
        self.try_append(line);
    }

    /// Appends the `line` of somebody who was not authenticated, within the share of such.
    pub(crate) fn append_stranger(&self, line: &Line<'_>, max_segment: u64) -> bool {
        let mut state = self.shared.lock();
        let size = line.text.len() as u64;
        let fits = !state.closing
            && state.failing.is_none()
            && state.used + line.text.len() <= self.shared.capacity
            && state.strangers_buffer + state.strangers_writer + size
                <= self.shared.capacity as u64 / STRANGERS
            && state.strangers_segment + size <= max_segment / STRANGERS;
        if fits {
            state.strangers_buffer += size;
            state.strangers_segment += size;
            self.shared.append(state, Some(line));
        }
        fits
    }

    /// Waits until everything before `mark` is in the file, or the disk fails.
    pub(crate) async fn written(&self, mark: Mark) -> Result<(), Unkept> {
        if self.shared.written.borrow().mark >= mark.0 {
            return Ok(());
        }
        // Those who are ready to run add their lines first, and one of them writes for all.
        turn().await;
        if self.shared.is_written(mark) {
            return Ok(());
        }
        self.shared.urge();
        self.shared.reached(&self.shared.written, mark).await
    }

    /// Begins to write and sync everything before `mark`; waits for nothing.
    pub(crate) fn commit(&self, mark: Mark) {
        if self.shared.synced.borrow().mark < mark.0 {
            let mut state = self.shared.lock();
            state.wanted = state.wanted.max(mark.0);
            self.shared.call_syncer(state);
        }
    }

    /// Waits until everything before `mark` is on the disk, or the disk fails.
    pub(crate) async fn synced(&self, mark: Mark) -> Result<(), Unkept> {
        if self.shared.synced.borrow().mark >= mark.0 {
            return Ok(());
        }
        self.commit(mark);
        self.shared.reached(&self.shared.synced, mark).await
    }

    /// For the last event of a request, which is before `mark`: ready when it is written.
    pub(crate) fn settled(&self, mark: Mark) -> Settled {
        if self.shared.is_written(mark) {
            return Settled::Ready;
        }
        self.shared.urge();
        let shared = self.shared.clone();
        Settled::Waiting(Waiting(Box::pin(async move {
            // The answer is on its way already; that the disk fails, others are told.
            let _ = shared.reached(&shared.written, mark).await;
        })))
    }

    /// Waits until everything that was appended by now is in the file, or the disk fails.
    pub(crate) async fn flush(&self) -> Result<(), Unkept> {
        let (mark, fallen) = {
            let state = self.shared.lock();
            (Mark(state.appended), state.failing.clone().filter(|_| state.fallen))
        };
        match fallen {
            Some(why) => Err(Unkept(why)),
            None => self.written(mark).await,
        }
    }

    /// Blocks until everything that was appended by now is on the disk, but no longer than `limit`.
    pub(crate) fn flush_within(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mark = Mark(self.shared.lock().appended);
        loop {
            self.commit(mark);
            let reach = *self.shared.synced.borrow();
            if reach.mark >= mark.0 || reach.failing || Instant::now() >= until {
                return reach.mark >= mark.0;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Up to where there are whole lines on the disk.
    pub(crate) fn position(&self) -> watch::Receiver<Position> {
        self.shared.position.subscribe()
    }

    /// What is wrong with the disk.
    pub(crate) fn healthy(&self) -> Result<(), String> {
        self.shared.blocked().map_err(|Unkept(why)| format!("the audit journal cannot be written: {why}"))?;
        self.shared.lock().failing.clone().map_or(Ok(()), Err)
    }

    /// Writes out what is there and ends the writer. Says how many events could not be written.
    pub(crate) fn close(&self) -> u64 {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        if threads.is_empty() {
            return 0;
        }
        let mut state = self.shared.lock();
        state.closing = true;
        self.shared.wake.notify_all();
        self.shared.wake_syncer.notify_all();
        // A disk that hangs would hold its threads for ever.
        let patience = LAST_WAIT + self.shared.hung;
        let ended = self.shared.ended.wait_timeout_while(state, patience, |state| !state.closed);
        let (mut state, late) = ended.unwrap_or_else(PoisonError::into_inner);
        state.closed = true;
        // What came after the writer's last look, or what a fallen one left.
        let left = state.entries.len() as u64;
        state.buffer.clear();
        state.entries.clear();
        state.lost += left;
        let lost = state.lost;
        drop(state);
        self.shared.let_go();
        if !late.timed_out() {
            // One that fell says so itself.
            threads.into_iter().for_each(|thread| drop(thread.join()));
        }
        lost
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

#[cfg(test)]
mod tests;
