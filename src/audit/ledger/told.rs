//! Checkpoints that leave the machine: as lines of the record's own kind, so that whatever takes the record takes them too.
//! On standard output at most every so often, when a segment begins, and at the end.

use super::Signed;
use crate::audit::{
    event::{Annotations, Event, Head, Level, MicroTime, Stage},
    id, stdout,
};
use std::{
    io,
    sync::mpsc::{self, SyncSender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long an end waits for standard output.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// An Event and a newline: user `{}`, and the checkpoint, a signed note, in the annotation `gatelog.dev/checkpoint`.
pub(crate) fn line(signed: &Signed) -> Vec<u8> {
    let mut annotations = Annotations::default();
    annotations.add("gatelog.dev/checkpoint", signed.note.to_string());
    let at = MicroTime(i64::try_from(signed.time).unwrap_or(0).saturating_mul(1_000_000));
    let event = Event {
        level: Level::Metadata,
        id: &id::text(id::new()),
        stage: Stage::ResponseComplete,
        head: &Head::new("", "", "{}", None, None),
        impersonated: None,
        status: None,
        request: None,
        response: None,
        received: at,
        at,
        annotations: &annotations,
        salt: &id::salt(),
        journal_only: false,
    };
    let mut text = Vec::new();
    event.write(&mut text);
    text
}

/// Writes checkpoints to standard output, on a thread of its own: whoever reads it may be slow, and the tree does not wait.
#[derive(Debug)]
pub(super) struct Teller {
    every: Duration,
    last: Option<Instant>,
    segment: u64,
    lines: SyncSender<Vec<u8>>,
    thread: JoinHandle<()>,
}

impl Teller {
    pub(super) fn start(every: Duration) -> io::Result<Self> {
        let (lines, taken) = mpsc::sync_channel::<Vec<u8>>(1);
        let write = move || {
            for line in taken {
                // Where nobody listens there is nobody to tell.
                let _ = stdout::write(&line);
            }
        };
        let thread = thread::Builder::new().name("audit-head".into()).spawn(write)?;
        Ok(Self { every, last: None, segment: 0, lines, thread })
    }

    /// Tells it, if it is time.
    pub(super) fn tell(&mut self, signed: &Signed) {
        let due = signed.stopped
            || signed.segment != self.segment
            || self.last.is_none_or(|last| last.elapsed() >= self.every);
        if due && self.lines.try_send(line(signed)).is_ok() {
            self.last = Some(Instant::now());
            self.segment = signed.segment;
        }
    }

    /// What is on its way is written, if that goes quickly.
    pub(super) fn end(self) {
        drop(self.lines);
        let until = Instant::now() + LAST_WAIT;
        while !self.thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
    }
}
