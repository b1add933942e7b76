//! Standard output, one event a line.
//!
//! A thread of its own writes, so that a reader that stalls holds up this sink and nothing else; that thread is left behind
//! when the process ends. Lines are taken when the operating system has them: what a reader had read when it was killed is
//! not known here. It goes past the buffer that Rust has for standard output, where nobody could tell how much of a line got through;
//! that buffer's lock is held for as long as a line is unfinished.

use super::{Deliver, Manner, Outcome, batch::Lines, batch::Room};
use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd as _,
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

/// Writes whole lines, whatever became of the one before.
struct Whole<W> {
    to: W,
    /// The last write ended within a line.
    torn: bool,
}

/// Before a full pipe of somebody who does not want to block is tried again.
const FULL: Duration = Duration::from_millis(20);

impl Stdout {
    /// # Errors
    /// The process has no more threads or descriptors.
    pub(super) fn start() -> io::Result<Self> {
        let mut out = Whole { to: File::from(io::stdout().as_fd().try_clone_to_owned()?), torn: false };
        let (jobs, taken) = mpsc::sync_channel::<Job>(1);
        let write = move || {
            for Job { lines, done } in taken {
                let lock = io::stdout().lock();
                let written = out.write(&lines);
                drop(lock);
                // Whoever gave it up will give it again.
                let _ = done.send(written);
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

impl<W: Write> Whole<W> {
    /// Writes all of `lines`, or is to be asked to again.
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            // What is there of a line may be read or not; the next one must not become part of it.
            self.all(b"\n")?;
        }
        self.all(lines)
    }

    fn all(&mut self, mut rest: &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            match self.to.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    let (written, left) = rest.split_at(n.min(rest.len()));
                    self.torn = !written.ends_with(b"\n");
                    rest = left;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => thread::sleep(FULL),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does what it is told, a step a write.
    struct Script {
        steps: Vec<Result<usize, io::ErrorKind>>,
        got: Vec<u8>,
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let step = if self.steps.is_empty() { Ok(usize::MAX) } else { self.steps.remove(0) };
            let n = step?.min(bytes.len());
            self.got.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_stay_whole_whatever_becomes_of_a_write() {
        use io::ErrorKind::{BrokenPipe, Interrupted, StorageFull, WouldBlock};
        type Row<'a> = (&'a [Result<usize, io::ErrorKind>], usize, &'a str);
        let rows: &[Row<'_>] = &[
            (&[], 0, "one\ntwo\n"),
            (&[Ok(2), Err(Interrupted), Ok(1), Err(WouldBlock), Ok(3)], 0, "one\ntwo\n"),
            (&[Err(BrokenPipe)], 1, "one\ntwo\n"),
            (&[Ok(4), Err(BrokenPipe)], 1, "one\none\ntwo\n"),
            (&[Ok(6), Err(StorageFull), Err(StorageFull)], 2, "one\ntw\none\ntwo\n"),
            (&[Ok(0), Ok(1), Err(BrokenPipe), Ok(1), Ok(4), Err(BrokenPipe)], 3, "o\none\none\ntwo\n"),
        ];
        for (steps, failures, want) in rows {
            let mut out = Whole { to: Script { steps: steps.to_vec(), got: Vec::new() }, torn: false };
            let mut failed = 0;
            while out.write(b"one\ntwo\n").is_err() {
                failed += 1;
            }
            assert_eq!((failed, &*String::from_utf8_lossy(&out.to.got)), (*failures, *want), "{steps:?}");
        }
    }
}
