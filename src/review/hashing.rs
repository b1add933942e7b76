//! The lines of a journal, hashed on several threads and handed out in their order.
//!
//! A plain segment is cut into ranges of bytes: a range's lines are those that begin in it. A compressed one is one piece, and
//! so goes to one thread. Only so many pieces are under way that memory is bounded, however long the record.

use super::event::Event;
use crate::audit::{
    event::{MicroTime, Stage},
    folder::Segment,
    tree::{Hash, leaf::AuditId},
};
use flate2::read::MultiGzDecoder;
use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead as _, Read},
    os::unix::fs::FileExt as _,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread::Scope,
};

/// Bytes of a piece of a plain segment.
const PIECE: u64 = 16 << 20;
/// Bytes read at once; what stays in a processor's cache.
const BLOCK: usize = 256 << 10;
/// A longer line is none of ours.
const LONGEST_LINE: usize = 64 << 20;

/// A line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    /// Of its bytes without the newline.
    pub(super) hash: Hash,
    /// What it says of itself; None when it is no event.
    pub(super) says: Option<Says>,
}

/// What a line says of itself that its leaf says as well, and what is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Says {
    pub(super) id: AuditId,
    pub(super) stage: Stage,
    pub(super) at: MicroTime,
    /// Whether it closes a request whose end nobody knows.
    pub(super) outcome_unknown: bool,
}

/// A piece of a segment, or all of it.
#[derive(Debug)]
pub(super) struct Piece {
    /// Of the segments that were given, which.
    pub(super) segment: usize,
    /// Whether it is the first of its segment.
    pub(super) begins: bool,
    pub(super) lines: Vec<Line>,
    pub(super) end: End,
    bytes: u64,
}

/// How a piece ended.
#[derive(Debug)]
pub(super) enum End {
    /// Another one of the same segment follows, or it ended with a newline.
    Whole,
    /// Something follows the last newline: its hash.
    Partial(Hash),
    /// It could not be read any further.
    Unreadable(io::Error),
    /// The segment's file is not there any more.
    Gone,
}

/// The pieces of segments, in their order.
pub(super) struct Pieces<'a> {
    segments: &'a [Segment],
    next: usize,
    /// The plain segment that is being cut: its number in `segments`, where the next piece begins, and its size.
    cut: Option<(usize, Arc<File>, u64, u64)>,
    jobs: Sender<Job>,
    under_way: VecDeque<Receiver<Piece>>,
    most: usize,
    bytes: u64,
}

struct Job {
    segment: usize,
    begins: bool,
    source: Source,
    done: Sender<Piece>,
}

enum Source {
    Range(Arc<File>, u64, u64),
    Compressed(File),
    Missing,
    Failed(io::Error),
}

impl<'a> Pieces<'a> {
    /// Begins to hash the lines of `segments` on `threads` threads, which end when this is dropped.
    pub(super) fn start<'s>(segments: &'a [Segment], threads: usize, scope: &'s Scope<'s, '_>) -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = queue.clone();
            scope.spawn(move || {
                let mut block = Vec::new();
                loop {
                    let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(job) = job else { break };
                    let piece = hash(job.segment, job.begins, job.source, &mut block);
                    // Who does not wait for it any more has seen enough.
                    let _ = job.done.send(piece);
                }
            });
        }
        Self {
            segments,
            next: 0,
            cut: None,
            jobs,
            under_way: VecDeque::new(),
            most: threads * 2 + 2,
            bytes: 0,
        }
    }

    /// Bytes of the lines that were handed out, uncompressed.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is to be hashed next.
    fn job(&mut self) -> Option<(usize, bool, Source)> {
        if let Some((segment, file, from, size)) = &mut self.cut {
            let start = *from;
            *from = (start + PIECE).min(*size);
            let job = (*segment, start == 0, Source::Range(file.clone(), start, *from));
            if *from >= *size {
                self.cut = None;
            }
            return Some(job);
        }
        let (number, segment) = (self.next, self.segments.get(self.next)?);
        self.next += 1;
        Some(match open(segment) {
            Ok((file, true)) => (number, true, Source::Compressed(file)),
            Ok((file, false)) => match file.metadata() {
                Ok(meta) => {
                    self.cut = Some((number, Arc::new(file), 0, meta.len()));
                    return self.job();
                }
                Err(e) => (number, true, Source::Failed(e)),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => (number, true, Source::Missing),
            Err(e) => (number, true, Source::Failed(e)),
        })
    }
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        while self.under_way.len() < self.most {
            let Some((segment, begins, source)) = self.job() else { break };
            let (done, piece) = mpsc::channel();
            // The threads only end when this is dropped.
            let _ = self.jobs.send(Job { segment, begins, source, done });
            self.under_way.push_back(piece);
        }
        let piece = self.under_way.pop_front()?.recv().ok()?;
        self.bytes += piece.bytes;
        Some(piece)
    }
}

/// Opens a segment, whether or not it was compressed since it was listed; says whether it is.
fn open(segment: &Segment) -> io::Result<(File, bool)> {
    match File::open(&segment.path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !segment.compressed => {
            let path = segment.path.with_extension("jsonl.gz");
            Ok((File::open(path)?, true))
        }
        file => Ok((file?, segment.compressed)),
    }
}

fn hash(segment: usize, begins: bool, source: Source, block: &mut Vec<u8>) -> Piece {
    let mut piece = Piece { segment, begins, lines: Vec::new(), end: End::Whole, bytes: 0 };
    let read = match source {
        Source::Range(file, from, to) => {
            // The byte before tells whether a line begins here.
            let mut reader = At { file, at: from.saturating_sub(1) };
            piece.read(&mut reader, from > 0, to - from, block)
        }
        Source::Compressed(file) => piece.read(
            &mut MultiGzDecoder::new(io::BufReader::with_capacity(BLOCK, file)),
            false,
            u64::MAX,
            block,
        ),
        Source::Missing => {
            piece.end = End::Gone;
            Ok(())
        }
        Source::Failed(error) => Err(error),
    };
    if let Err(error) = read {
        piece.end = End::Unreadable(error);
    }
    piece
}

/// A file read from a place on, whoever else reads it.
struct At {
    file: Arc<File>,
    at: u64,
}

impl Read for At {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Piece {
    /// Hashes the lines that begin in the next `length` bytes. `before`: first comes one byte of what is before.
    fn read(
        &mut self,
        from: &mut impl Read,
        before: bool,
        length: u64,
        block: &mut Vec<u8>,
    ) -> io::Result<()> {
        block.resize(block.len().max(BLOCK), 0);
        // Of the block, the part that is not used yet; of the piece, how far it begins after the start.
        let (mut from_at, mut to_at) = (0, 0);
        let mut skipping = before;
        let mut at: u64 = 0;
        let length = length.saturating_add(u64::from(before));
        loop {
            let mut rest = &block[from_at..to_at];
            while at < length {
                let mut after = rest;
                let Ok(size) = after.skip_until(b'\n') else { break };
                if size == 0 || rest[size - 1] != b'\n' {
                    break;
                }
                if !skipping {
                    self.lines.push(Line::of(&rest[..size - 1]));
                    self.bytes += size as u64;
                }
                skipping = false;
                at += size as u64;
                rest = after;
            }
            let left = rest.len();
            // Done; or a line that begins before this piece reaches beyond it.
            if at >= length || skipping && left as u64 >= length {
                return Ok(());
            }
            if left > LONGEST_LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line of more than 64 MiB"));
            }
            from_at = to_at - left;
            block.copy_within(from_at..to_at, 0);
            (from_at, to_at) = (0, left);
            if to_at == block.len() {
                block.resize(to_at * 2, 0);
            }
            let n = loop {
                match from.read(&mut block[to_at..]) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    n => break n?,
                }
            };
            if n == 0 {
                // What begins before this piece is told of there.
                if left > 0 && !skipping {
                    self.end = End::Partial(Hash::of(&block[..left]));
                }
                return Ok(());
            }
            to_at += n;
        }
    }
}

impl Line {
    pub(super) fn of(line: &[u8]) -> Self {
        Self { hash: Hash::of(line), says: Says::quickly(line).or_else(|| Says::slowly(line)) }
    }
}

impl Says {
    /// Of a line that is written as the gate writes them.
    fn quickly(line: &[u8]) -> Option<Self> {
        let rest =
            line.strip_prefix(b"{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"level\":\"")?;
        let level = rest.iter().take(16).position(|b| *b == b'"')?;
        let rest = rest.get(level..)?.strip_prefix(b"\",\"auditID\":\"")?;
        let (id, rest) = rest.split_first_chunk()?;
        let rest = rest.strip_prefix(b"\",\"stage\":\"")?;
        let stage = Stage::ALL.into_iter().find(|stage| {
            rest.strip_prefix(stage.as_str().as_bytes()).is_some_and(|rest| rest.starts_with(b"\""))
        })?;
        // In a string its quotes would be escaped; behind it stand annotations, whose values are strings.
        let at = find_last(line, b",\"stageTimestamp\":\"")?;
        let (at, annotations) = line.get(at..)?.split_at_checked(27)?;
        let outcome_unknown = find_last(annotations, b"\"gatelog.dev/outcome\":\"unknown\"").is_some();
        Some(Self {
            id: uuid(id)?,
            stage,
            at: MicroTime::parse(std::str::from_utf8(at).ok()?)?,
            outcome_unknown,
        })
    }

    /// Of any event.
    fn slowly(line: &[u8]) -> Option<Self> {
        let event = Event::parse(line)?;
        Some(Self {
            id: event.audit_id.parse().ok()?,
            stage: Stage::parse(&event.stage)?,
            at: event.at()?,
            outcome_unknown: event.note("gatelog.dev/outcome") == "unknown",
        })
    }
}

/// Where the last `pattern` in `text` ends. Looks at few of the bytes: one that is in no place of the pattern rules out as
/// many as the pattern has.
fn find_last<const N: usize>(text: &[u8], pattern: &[u8; N]) -> Option<usize> {
    // How far the pattern can be moved to the left when a byte stands where it begins.
    let mut shifts = [N as u8; 256];
    for (i, byte) in pattern.iter().enumerate().skip(1).rev() {
        shifts[usize::from(*byte)] = i as u8;
    }
    let mut at = text.len().checked_sub(N)?;
    loop {
        if text[at..].starts_with(pattern) {
            return Some(at + N);
        }
        at = at.checked_sub(shifts[usize::from(text[at])].into())?;
    }
}

/// An auditID as the gate writes it.
fn uuid(text: &[u8; 36]) -> Option<AuditId> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut id = [0; 16];
    let mut at = 0;
    for (i, byte) in id.iter_mut().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            if text[at] != b'-' {
                return None;
            }
            at += 1;
        }
        *byte = digit(text[at])? << 4 | digit(text[at + 1])?;
        at += 2;
    }
    Some(AuditId(id))
}

#[cfg(test)]
mod tests;
