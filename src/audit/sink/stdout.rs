//! Standard output, one event a line.
//!
//! A thread of its own writes, so that a reader that stalls holds up this sink and nothing else; that thread is left behind
//! when the process ends. Lines are taken when the operating system has them: what a reader had read when it was killed is
//! not known here.

use super::{Deliver, Manner, Outcome, batch::Lines, batch::Room};
use crate::audit::stdout;
use std::{
    io,
    sync::mpsc::{self, SyncSender},
    thread,
    time::Duration,
};
use tokio::sync::oneshot;

/// The sink.
pub(super) struct Stdout {
    jobs: SyncSender<Job>,
}

struct Job {
    lines: Vec<u8>,
    done: oneshot::Sender<io::Result<()>>,
}

impl Stdout {
    /// # Errors
    /// The process has no more threads.
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, taken) = mpsc::sync_channel::<Job>(1);
        let write = move || {
            for Job { lines, done } in taken {
                // Whoever gave it up will give it again.
                let _ = done.send(stdout::write(&lines));
            }
        };
        thread::Builder::new().name("audit-stdout".into()).spawn(write)?;
        Ok(Self { jobs })
    }
}

impl Deliver for Stdout {
    fn manner(&self) -> Manner {
        Manner {
            room: Room { events: 1000, bytes: 256 << 10 },
            wait: Duration::ZERO,
            backoff: Duration::from_millis(250),
            longest: Duration::from_secs(5),
        }
    }

    async fn deliver(&mut self, lines: Lines<'_>) -> Outcome {
        let again = |why: String| Outcome::TryAgain { why: format!("standard output: {why}"), after: None };
        let (done, written) = oneshot::channel();
        if self.jobs.try_send(Job { lines: lines.text().to_vec(), done }).is_err() {
            return again("an earlier write has not ended".to_owned());
        }
        match written.await {
            Ok(Ok(())) => Outcome::Taken,
            Ok(Err(error)) => again(error.to_string()),
            Err(_) => again("its thread is gone".to_owned()),
        }
    }
}
