//! Reads the journal's files behind a cursor, while they are written, compressed and removed.
//!
//! Of the segment that is being written only what the journal vouches for is read: behind that, a failing disk may hold what
//! will be written again elsewhere. Of a finished one, compressed or not, everything; a file that is compressed and removed while
//! it is read is read to its end. Whatever a receiver will not get becomes a note in its batch.

use super::{
    batch::{Batch, Room},
    cursor::Cursor,
    line::{self, Kind},
    note,
};
use crate::audit::{
    folder::{self, Segment},
    ledger::Position,
};
use flate2::read::MultiGzDecoder;
use prometheus::IntCounter;
use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom, Take},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// A reader of one sink.
pub(super) struct Reader {
    sink: String,
    dir: PathBuf,
    /// Behind what was put into batches; None before there is a segment.
    at: Option<Cursor>,
    open: Option<Open>,
    /// The next line, for which there was no room.
    held: Option<Vec<u8>>,
    /// To be told before the next line.
    notes: Vec<Vec<u8>>,
    /// Failures in a row.
    failures: u32,
    gaps: IntCounter,
}

struct Open {
    input: BufReader<Take<Box<dyn Read + Send>>>,
    compressed: bool,
}

/// How a reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The batch is to be delivered: it is full, or its segment ends.
    Full,
    /// There is no more for now.
    Dry,
}

/// Attempts at a file that seems to be spoilt, before what is left of it is given up.
const PATIENCE: u32 = 3;

impl Reader {
    /// Goes on at `cursor`; without one, at the oldest segment. An error says why there is none although there should be.
    pub(super) fn new(
        sink: &str,
        dir: &Path,
        cursor: Result<Option<Cursor>, String>,
        gaps: IntCounter,
    ) -> Self {
        let mut this = Self {
            sink: sink.to_owned(),
            dir: dir.to_owned(),
            at: None,
            open: None,
            held: None,
            notes: Vec::new(),
            failures: 0,
            gaps,
        };
        match cursor {
            Ok(cursor) => this.at = cursor,
            Err(problem) => this.tell(&format!("everything is sent again: {problem}")),
        }
        this
    }

    /// Adds to `batch` what there is before `limit`, as far as there is `room`. After an error the same call may be repeated.
    /// Blocks.
    pub(super) fn read(&mut self, limit: Position, room: Room, batch: &mut Batch) -> io::Result<Ended> {
        let read = self.read_on(limit, room, batch);
        match &read {
            Ok(_) => self.failures = 0,
            Err(e) => {
                self.failures += 1;
                (self.open, self.held) = (None, None);
                let spoilt = matches!(
                    e.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof
                );
                if spoilt && self.failures >= PATIENCE {
                    self.give_up(e)?;
                }
            }
        }
        read
    }

    fn read_on(&mut self, limit: Position, room: Room, batch: &mut Batch) -> io::Result<Ended> {
        loop {
            if self.open.is_none() {
                if !self.open()? {
                    return Ok(Ended::Dry);
                }
                let before = batch.upto().map(|cursor| &cursor.stem);
                // A batch is of one segment.
                if !batch.is_empty() && before != self.at.as_ref().map(|at| &at.stem) {
                    return Ok(Ended::Full);
                }
            }
            let ended = self.lines(limit, room, batch);
            if let Some(at) = &self.at {
                batch.reached(at);
            }
            match ended? {
                Some(ended) => return Ok(ended),
                None if !batch.is_empty() => return Ok(Ended::Full),
                None if self.move_on()? => {}
                None => return Ok(Ended::Dry),
            }
        }
    }

    /// Takes lines of the open segment; None at its end.
    fn lines(&mut self, limit: Position, room: Room, batch: &mut Batch) -> io::Result<Option<Ended>> {
        let (Some(Cursor { stem, at }), Some(open)) = (&mut self.at, &mut self.open) else {
            return Ok(Some(Ended::Dry));
        };
        let finished = open.compressed || limit.segment > at.segment;
        let vouched = match finished {
            true => u64::MAX,
            false if limit.segment == at.segment => limit.offset,
            false => 0,
        };
        let ahead = open.input.buffer().len() + self.held.as_ref().map_or(0, Vec::len);
        open.input.get_mut().set_limit(vouched.saturating_sub(at.offset + ahead as u64));
        loop {
            if !self.notes.is_empty() {
                if batch.is_full(0, room) {
                    return Ok(Some(Ended::Full));
                }
                self.notes.drain(..).for_each(|note| batch.push_own(&note));
            }
            let mut line = self.held.take().unwrap_or_default();
            if line.is_empty() {
                if at.offset >= vouched {
                    return Ok(Some(Ended::Dry));
                }
                open.input.read_until(b'\n', &mut line)?;
            }
            if !line.ends_with(b"\n") && !finished {
                // There is less than the journal vouches for: somebody else was at the file.
                self.open = None;
                return Ok(Some(Ended::Dry));
            }
            if line.is_empty() {
                return Ok(None);
            }
            let kind = line::kind(&line);
            if kind != Kind::JournalOnly && batch.is_full(line.len(), room) {
                self.held = Some(line);
                return Ok(Some(Ended::Full));
            }
            if kind == Kind::Other {
                let what = format!("{stem} has a line at byte {} that is no event", at.offset);
                tracing::error!(sink = self.sink, "audit sink: {what}");
                self.gaps.inc();
                self.notes.push(note::gap(&what));
            }
            at.offset += line.len() as u64;
            if kind == Kind::Event {
                batch.push(&line, at.offset);
            }
        }
    }

    /// Opens the segment where it is, or where it has to be instead. False: there is none.
    fn open(&mut self) -> io::Result<bool> {
        // One that is compressed in the moment between has another name in the next.
        for _ in 0..2 {
            match self.try_open() {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                opened => return opened,
            }
        }
        self.try_open()
    }

    fn try_open(&mut self) -> io::Result<bool> {
        let segments = folder::segments(&self.dir)?;
        let Some(oldest) = segments.first() else { return Ok(false) };
        let at = self.at.get_or_insert_with(|| Cursor::begin(oldest)).clone();
        let segment = match segments.iter().find(|segment| segment.stem == at.stem) {
            Some(segment) => segment,
            None => {
                let number = at.at.segment;
                let same = segments.iter().any(|segment| segment.number == number);
                let next = segments.iter().find(|segment| segment.number > number).filter(|_| !same);
                self.at = Some(Cursor::begin(next.unwrap_or(oldest)));
                self.tell(&match next {
                    Some(next) => format!(
                        "{} was removed before this sink had taken it: what it held behind byte {} is missing, and whatever stood \
                         between it and {}",
                        at.stem, at.at.offset, next.stem
                    ),
                    None => format!("everything is sent again: this journal has no {}", at.stem),
                });
                next.unwrap_or(oldest)
            }
        };
        let offset = self.at.as_ref().map_or(0, |cursor| cursor.at.offset);
        self.open = open_at(segment, offset)?;
        if self.open.is_none() {
            self.at = Some(Cursor::begin(segment));
            self.tell(&format!(
                "{} is sent again: no line begins at byte {offset}, which this sink had come to",
                segment.stem
            ));
            self.open = open_at(segment, 0)?;
        }
        Ok(self.open.is_some())
    }

    /// To the next segment, once there is one.
    fn move_on(&mut self) -> io::Result<bool> {
        let Some(at) = self.at.clone() else { return Ok(false) };
        let segments = folder::segments(&self.dir)?;
        let Some(next) = segments.iter().find(|segment| segment.number > at.at.segment) else {
            return Ok(false);
        };
        (self.at, self.open) = (Some(Cursor::begin(next)), None);
        // Numbers are not used twice, but one may have been used for a file that never held anything.
        if next.number > at.at.segment + 1 {
            self.tell(&format!(
                "{} is followed by {}: whatever stood between them is missing",
                at.stem, next.stem
            ));
        }
        Ok(true)
    }

    /// Passes over what is left of a segment that cannot be read.
    fn give_up(&mut self, error: &io::Error) -> io::Result<()> {
        let Some(at) = self.at.clone() else { return Ok(()) };
        if self.move_on()? {
            self.failures = 0;
            let what = "cannot be read, what it holds is missing";
            self.tell(&format!("{} behind byte {} {what}: {error}", at.stem, at.at.offset));
        }
        Ok(())
    }

    fn tell(&mut self, what: &str) {
        tracing::error!(sink = self.sink, "audit sink: {what}");
        self.gaps.inc();
        self.notes.push(note::gap(what));
    }
}

/// Opens a segment at an offset of its text; None when no line begins there.
fn open_at(segment: &Segment, offset: u64) -> io::Result<Option<Open>> {
    let mut file = File::open(&segment.path)?;
    let mut before = [b'\n'];
    let input: Box<dyn Read + Send> = if segment.compressed {
        let mut text = MultiGzDecoder::new(BufReader::with_capacity(64 << 10, file));
        if offset > 0 {
            let skipped = io::copy(&mut text.by_ref().take(offset - 1), &mut io::sink())?;
            if skipped < offset - 1 || text.read(&mut before)? == 0 {
                return Ok(None);
            }
        }
        Box::new(text)
    } else {
        if file.metadata()?.len() < offset {
            return Ok(None);
        }
        if offset > 0 {
            file.read_exact_at(&mut before, offset - 1)?;
        }
        file.seek(SeekFrom::Start(offset))?;
        Box::new(file)
    };
    let input = BufReader::with_capacity(64 << 10, input.take(u64::MAX));
    Ok((before == *b"\n").then_some(Open { input, compressed: segment.compressed }))
}

/// Bytes between a cursor and `limit`, nearly. Blocks.
pub(super) fn behind(dir: &Path, at: Option<&Cursor>, limit: Position) -> io::Result<u64> {
    let at = at.map(|cursor| cursor.at).unwrap_or_default();
    if at.segment == limit.segment {
        return Ok(limit.offset.saturating_sub(at.offset));
    }
    let mut bytes = 0;
    for segment in folder::segments(dir)?.iter().filter(|s| (at.segment..=limit.segment).contains(&s.number))
    {
        bytes += match size(segment) {
            Ok(size) => size,
            // It may have been compressed since.
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(e),
        };
    }
    Ok(bytes.saturating_sub(at.offset))
}

fn size(segment: &Segment) -> io::Result<u64> {
    let length = fs::metadata(&segment.path)?.len();
    if !segment.compressed {
        return Ok(length);
    }
    // How a gzip member ends: bytes of its text, as far as 32 bits go.
    let mut size = [0; 4];
    File::open(&segment.path)?.read_exact_at(&mut size, length.saturating_sub(4))?;
    Ok(u32::from_le_bytes(size).into())
}

#[cfg(test)]
mod tests;
