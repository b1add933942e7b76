//! A bounded buffer between those who log and a thread that writes.
//!
//! Lines are appended to one byte buffer under a lock held for a copy; the thread wakes at most every [`BATCH`], swaps the
//! buffer for an empty one and writes it with one call. Whoever logs neither waits for the reader nor allocates.

use super::{Format, line};
use prometheus::IntCounter;
use std::{
    fmt,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

/// Bytes that wait for the thread at most; further lines are dropped.
const CAPACITY: usize = 4 << 20;
/// Bytes after which the thread does not wait for more.
const ENOUGH: usize = 64 << 10;
/// How long the thread gathers lines before it writes them.
const BATCH: Duration = Duration::from_millis(10);
/// How long [`Sink::flush`] waits for a reader that does not read.
const PATIENCE: Duration = Duration::from_secs(2);

/// Takes lines; cloned freely.
#[derive(Clone)]
pub(super) struct Sink(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// There is something to write, or somebody waits for it to be written.
    work: Condvar,
    /// Something has been written.
    done: Condvar,
    dropped: IntCounter,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Lines dropped since the last batch.
    lost: u64,
    /// Bytes taken, and bytes written or given up, since the start.
    taken: u64,
    written: u64,
    /// `written` is to reach this without delay.
    wanted: u64,
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").finish_non_exhaustive()
    }
}

impl Sink {
    /// Starts the thread; it lives as long as the process.
    pub(super) fn start(output: impl Write + Send + 'static, format: Format) -> io::Result<Self> {
        // The name and the help text are constant and valid.
        let dropped = IntCounter::new(
            "gatelog_log_lines_dropped_total",
            "Log lines lost because stderr was read too slowly, or not at all.",
        )
        .map_err(io::Error::other)?;
        let shared =
            Arc::new(Shared { state: Mutex::default(), work: Condvar::new(), done: Condvar::new(), dropped });
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("log".to_owned()).spawn(move || theirs.write_to(output, format))?;
        Ok(Self(shared))
    }

    /// The counter of lost lines.
    pub(super) fn dropped(&self) -> IntCounter {
        self.0.dropped.clone()
    }

    /// Appends what `render` appends: one whole line.
    pub(super) fn push_with(&self, render: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.lock();
        if state.waiting.len() >= CAPACITY {
            state.lost += 1;
            drop(state);
            self.0.dropped.inc();
            return;
        }
        let before = state.waiting.len();
        render(&mut state.waiting);
        let after = state.waiting.len();
        state.taken += (after - before) as u64;
        drop(state);
        if before == 0 || (before < ENOUGH && after >= ENOUGH) {
            self.0.work.notify_one();
        }
    }

    /// Waits until every line so far is written, but not for ever.
    pub(super) fn flush(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.0.lock();
        let goal = state.taken;
        state.wanted = goal;
        self.0.work.notify_one();
        while state.written < goal {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return };
            state = self.0.done.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, mut output: impl Write, format: Format) {
        let mut batch = Vec::new();
        loop {
            let mut state = self
                .work
                .wait_while(self.lock(), |state| state.waiting.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            state = self
                .work
                .wait_timeout_while(state, BATCH, |state| {
                    state.waiting.len() < ENOUGH && state.wanted <= state.written
                })
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            std::mem::swap(&mut state.waiting, &mut batch);
            let lost = std::mem::take(&mut state.lost);
            drop(state);

            let taken = batch.len() as u64;
            if lost > 0 {
                push_lost(&mut batch, lost, format);
            }
            if output.write_all(&batch).and_then(|()| output.flush()).is_err() {
                // Nobody is left to tell, except by the counter.
                self.dropped.inc_by(batch.iter().filter(|b| **b == b'\n').count() as u64);
            }
            batch.clear();
            // One burst should not hold its memory for ever.
            batch.shrink_to(ENOUGH);

            self.lock().written += taken;
            self.done.notify_all();
        }
    }
}

fn push_lost(out: &mut Vec<u8>, lost: u64, format: Format) {
    // Writing to a Vec cannot fail.
    let _ = match format {
        Format::Text => {
            line::push_time(out, SystemTime::now());
            writeln!(
                out,
                "  WARN gatelog::log: lines were lost because the log is read too slowly lines={lost}"
            )
        }
        Format::Json => {
            out.extend_from_slice(b"{\"timestamp\":\"");
            line::push_time(out, SystemTime::now());
            writeln!(
                out,
                "\",\"level\":\"WARN\",\"message\":\"lines were lost because the log is read too slowly\",\
                 \"lines\":{lost},\"target\":\"gatelog::log\"}}"
            )
        }
    };
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::mpsc;

    /// What was written, for tests to read.
    #[derive(Clone, Default)]
    pub(crate) struct Output(Arc<Mutex<Vec<u8>>>);

    impl Output {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Writes only when let.
    struct Stuck(mpsc::Receiver<()>, Output);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_of_many_threads_arrive_whole_and_in_order() {
        let output = Output::default();
        let sink = Sink::start(output.clone(), Format::Text).unwrap();
        thread::scope(|scope| {
            for who in 0..4 {
                let sink = sink.clone();
                scope.spawn(move || {
                    for i in 0..500 {
                        sink.push_with(|out| writeln!(out, "{who} {i}").unwrap());
                    }
                });
            }
        });
        sink.flush();
        let text = output.text();
        for who in 0..4 {
            let mine: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix(&format!("{who} "))).collect();
            let expected: Vec<String> = (0..500).map(|i| i.to_string()).collect();
            assert_eq!(mine, expected);
        }
        assert_eq!(sink.dropped().get(), 0);
    }

    #[test]
    fn a_stuck_reader_costs_lines_and_nothing_else() {
        let (unstick, stuck) = mpsc::channel();
        let output = Output::default();
        let sink = Sink::start(Stuck(stuck, output.clone()), Format::Json).unwrap();
        let line = vec![b'x'; 1 << 20];
        // One batch may already be with the writer when the buffer fills.
        for _ in 0..16 {
            sink.push_with(|out| {
                out.extend_from_slice(&line);
                out.push(b'\n');
            });
        }
        let lost = sink.dropped().get();
        assert!((8..=12).contains(&lost), "{lost} lost");
        drop(unstick);
        sink.flush();
        let text = output.text();
        let told: u64 = text
            .lines()
            .filter(|l| l.starts_with('{'))
            .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["lines"].as_u64().unwrap())
            .sum();
        assert_eq!(told, lost);
        assert_eq!(text.lines().filter(|l| l.starts_with('x')).count() as u64, 16 - lost);
    }

    #[test]
    fn a_closed_output_is_counted() {
        let sink = Sink::start(Broken, Format::Text).unwrap();
        sink.push_with(|out| out.extend_from_slice(b"a\n"));
        sink.flush();
        assert_eq!(sink.dropped().get(), 1);
    }
}
