//! Lines on standard output, whole whoever writes them: a sink's events and the tree's checkpoints go there together.
//!
//! They go past the buffer that Rust has for standard output, where nobody could tell how much of a line got through; that
//! buffer's lock is held for as long as a line is unfinished.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd as _,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

/// Writes whole lines, whatever became of the one before.
struct Whole<W> {
    to: W,
    /// The last write ended within a line.
    torn: bool,
}

/// Before a full pipe of somebody who does not want to block is tried again.
const FULL: Duration = Duration::from_millis(20);

/// What became of the last line matters to whoever writes the next one.
static OUT: Mutex<Option<Whole<File>>> = Mutex::new(None);

/// Writes all of `lines`, or is to be asked to again. Blocks for as long as nobody reads.
pub(super) fn write(lines: &[u8]) -> io::Result<()> {
    let lock = io::stdout().lock();
    let mut out = OUT.lock().unwrap_or_else(PoisonError::into_inner);
    let out = match &mut *out {
        Some(out) => out,
        none => none.insert(Whole { to: File::from(lock.as_fd().try_clone_to_owned()?), torn: false }),
    };
    out.write(lines)
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
