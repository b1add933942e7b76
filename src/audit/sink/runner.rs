//! The work of one sink: read, wait for company, deliver until it is taken, remember.
//!
//! One batch is in memory and on its way at a time, so order is kept. A batch that the receiver refuses for good is halved, and
//! its halves are delivered in turn. A single event that is refused again and again is left out, but only once the receiver
//! has taken a note in its place: a receiver that refuses everything is out of order, not out of luck with one event.

use super::{
    Deliver, Manner, Outcome,
    batch::{Batch, Lines},
    cursor::{Cursor, Cursors},
    heads::Heads,
    line, note,
    reader::{Ended, Reader},
    status::Status,
};
use crate::audit::ledger::Position;
use std::{future::pending, io, mem, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until},
};

/// Everything that a sink works with.
pub(super) struct Runner<D> {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    pub(super) to: D,
    pub(super) manner: Manner,
    pub(super) reader: Option<Reader>,
    pub(super) cursors: Arc<Cursors>,
    pub(super) progress: watch::Receiver<Position>,
    pub(super) heads: Heads,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) status: Arc<Status>,
    /// How far the receiver has come, and whether that is to be stored.
    pub(super) taken: Option<Cursor>,
    pub(super) unstored: bool,
    pub(super) stored: Instant,
    pub(super) spare: Batch,
}

/// How long a sink that is told to stop goes on.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// How often a cursor is stored, at most.
const STORE_EVERY: Duration = Duration::from_secs(1);
/// Lines are read together that come within this time.
const PACE: Duration = Duration::from_millis(20);
/// After a failure to read the journal.
const AGAIN: Duration = Duration::from_secs(1);
/// Refusals of a single event before a note takes its place.
const PATIENCE: u32 = 3;
/// What a receiver may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(600);

impl<D: Deliver> Runner<D> {
    /// Until it is told to stop, and has delivered everything or the time for that is over.
    pub(super) async fn run(mut self) {
        let mut stop = self.stop.clone();
        let over = async {
            // An error says that nobody is left to tell it.
            let _ = stop.wait_for(|stop| *stop).await;
            sleep(GRACE).await;
        };
        tokio::select! {
            () = self.work() => {}
            () = over => tracing::warn!(
                sink = self.name, "audit sink: what it has not delivered is sent after the next start"
            ),
        }
        self.store().await;
    }

    async fn work(&mut self) {
        loop {
            let batch = self.gather().await;
            if !batch.is_empty() {
                self.deliver(&batch).await;
            } else if *self.stop.borrow() {
                return;
            }
            self.taken_up_to(batch.upto().cloned());
            self.store_now_and_then().await;
            self.spare = batch;
        }
    }

    /// A batch that is full, or has waited long enough; an empty one only when it is time to stop.
    async fn gather(&mut self) -> Batch {
        let mut batch = Batch::reuse(mem::take(&mut self.spare));
        let mut due: Option<Instant> = None;
        if let Some(taken) = &self.taken {
            self.heads.add(&mut batch, taken.at);
        }
        loop {
            let stopping = *self.stop.borrow();
            let limit = *self.progress.borrow_and_update();
            let ended;
            (batch, ended) = self.read(batch, limit).await;
            if let (Ok(Ended::Dry), Some(at)) = (&ended, batch.upto().map(|cursor| cursor.at)) {
                self.heads.look(&self.progress, stopping);
                self.heads.add(&mut batch, at);
            }
            self.status.reading(&batch, limit);
            if matches!(ended, Ok(Ended::Full)) {
                self.heads.look(&self.progress, stopping);
                return batch;
            }
            if batch.is_empty() {
                self.taken_up_to(batch.upto().cloned());
            } else {
                due.get_or_insert_with(|| Instant::now() + self.manner.wait);
            }
            if stopping || due.is_some_and(|due| due <= Instant::now()) {
                return batch;
            }
            self.wait(due, ended.is_err()).await;
        }
    }

    /// Until there may be something to do.
    async fn wait(&mut self, due: Option<Instant>, failed: bool) {
        let at = |time: Option<Instant>| async move {
            match time {
                Some(time) => sleep_until(time).await,
                None => pending().await,
            }
        };
        let store = self.unstored.then(|| self.stored + STORE_EVERY);
        tokio::select! {
            () = sleep(AGAIN), if failed => {}
            () = more(&mut self.progress), if !failed => sleep(PACE).await,
            () = at(due) => {}
            () = self.heads.due() => {}
            () = at(store) => self.store().await,
            _ = self.stop.changed() => {}
        }
    }

    async fn read(&mut self, mut batch: Batch, limit: Position) -> (Batch, io::Result<Ended>) {
        let room = self.manner.room;
        let begin =
            || Reader::new(&self.name, &self.dir, Ok(self.taken.clone()), self.status.metrics().gaps.clone());
        let mut reader = self.reader.take().unwrap_or_else(begin);
        let read = spawn_blocking(move || {
            let ended = reader.read(limit, room, &mut batch);
            (reader, batch, ended)
        });
        match read.await {
            Ok((reader, batch, ended)) => {
                self.reader = Some(reader);
                if let Err(error) = &ended {
                    self.status.metrics().errors.inc();
                    tracing::error!(sink = self.name, %error, "audit sink: the journal cannot be read");
                }
                (batch, ended)
            }
            // What it had in its hands is read again.
            Err(error) => (Batch::default(), Err(io::Error::other(error))),
        }
    }

    /// However long it takes.
    async fn deliver(&mut self, batch: &Batch) {
        let whole = 0..batch.len();
        let mut ranges = vec![whole];
        while let Some(range) = ranges.pop() {
            if self.whole(batch.lines(range.clone())).await {
                self.status.delivered(range.len());
                self.taken_up_to(batch.cursor(range.end));
                continue;
            }
            let middle = range.start + range.len() / 2;
            ranges.push(middle..range.end);
            ranges.push(range.start..middle);
        }
    }

    /// Until the lines are taken, or refused for good although there are several.
    async fn whole(&mut self, lines: Lines<'_>) -> bool {
        let mut pauses = Pauses::new(self.manner.backoff, self.manner.longest);
        let (mut refusals, mut failures) = (0, 0_u64);
        loop {
            let (why, after) = match self.attempt(lines).await {
                Outcome::Taken => {
                    if failures > 0 {
                        tracing::info!(sink = self.name, "audit sink: the receiver takes events again");
                    }
                    return true;
                }
                Outcome::TryAgain { why, after } => (why, after),
                Outcome::Never(why) if lines.len() > 1 => {
                    tracing::warn!(
                        sink = self.name,
                        events = lines.len(),
                        "audit sink: {why}; the batch is halved"
                    );
                    return false;
                }
                Outcome::Never(why) => {
                    refusals += 1;
                    if refusals >= PATIENCE && self.leave_out(lines, &why).await {
                        return true;
                    }
                    (why, None)
                }
            };
            failures += 1;
            if failures.is_power_of_two() {
                tracing::warn!(sink = self.name, failures, "audit sink: {why}; trying again");
            }
            self.status.failing(Some(why));
            self.pause(pauses.next(after, crate::cluster::chance())).await;
        }
    }

    /// A note in place of an event that the receiver does not want. Whether it wants that.
    async fn leave_out(&mut self, event: Lines<'_>, why: &str) -> bool {
        let name = line::name(event.text());
        let note = note::gap(&format!("{name} is left out: {why}"));
        let taken = matches!(self.attempt(Lines::one(&note)).await, Outcome::Taken);
        if taken {
            tracing::error!(sink = self.name, event = name, "audit sink: an event is left out: {why}");
            self.status.metrics().left_out.inc();
            self.status.metrics().gaps.inc();
        }
        taken
    }

    async fn attempt(&mut self, lines: Lines<'_>) -> Outcome {
        let begun = Instant::now();
        let outcome = self.to.deliver(lines).await;
        let metrics = self.status.metrics();
        metrics.duration.observe(begun.elapsed().as_secs_f64());
        match outcome {
            Outcome::Taken => self.status.failing(None),
            Outcome::TryAgain { .. } | Outcome::Never(_) => metrics.errors.inc(),
        }
        outcome
    }

    /// Cut short by a stop, so that there is a last attempt or two.
    async fn pause(&mut self, pause: Duration) {
        self.store_now_and_then().await;
        if *self.stop.borrow() {
            return sleep(pause.min(AGAIN)).await;
        }
        tokio::select! {
            () = sleep(pause) => {}
            _ = self.stop.changed() => {}
        }
    }

    fn taken_up_to(&mut self, cursor: Option<Cursor>) {
        if cursor.is_some() && cursor != self.taken {
            self.taken = cursor;
            self.unstored = true;
        }
    }

    async fn store_now_and_then(&mut self) {
        if self.stored.elapsed() >= STORE_EVERY {
            self.store().await;
        }
    }

    async fn store(&mut self) {
        let (true, Some(cursor)) = (self.unstored, self.taken.clone()) else { return };
        let (cursors, name) = (self.cursors.clone(), self.name.clone());
        let stored = spawn_blocking(move || cursors.store(&name, &cursor)).await;
        self.stored = Instant::now();
        match stored.map_err(io::Error::other).flatten() {
            Ok(()) => self.unstored = false,
            Err(error) => {
                self.status.metrics().errors.inc();
                tracing::error!(sink = self.name, %error, "audit sink: its cursor cannot be stored, trying again");
            }
        }
    }
}

/// Until the journal has more.
async fn more(progress: &mut watch::Receiver<Position>) {
    if progress.changed().await.is_err() {
        // It is gone, and with it whoever would tell.
        pending().await
    }
}

/// Growing pauses: each half as long again as the one before, and up to a fifth longer by chance.
struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest: first.max(longest) }
    }

    fn next(&mut self, asked: Option<Duration>, chance: f64) -> Duration {
        let regular = self.next.mul_f64(1.0 + 0.2 * chance.clamp(0.0, 1.0));
        self.next = self.next.mul_f64(1.5).min(self.longest);
        regular.max(asked.unwrap_or_default().min(LONGEST_ASKED))
    }
}

#[cfg(test)]
mod tests;
