//! Lines of a record, in the order they were written: the segments of a folder, one log file, or standard input.

use super::Error;
use crate::audit::{
    event::MicroTime,
    folder::{Segment, segments},
};
use flate2::read::MultiGzDecoder;
use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A line longer than this is not an event of anybody; it is skipped without being held.
const LONGEST_LINE: usize = 64 << 20;

/// The lines of a record, from its beginning. At the end it may be asked again: more may have come.
pub(super) struct Lines {
    from: From,
    reader: Option<Box<dyn BufRead>>,
    inode: Option<u64>,
    /// What came of a line whose end is not there yet.
    line: Vec<u8>,
    overlong: bool,
    /// The file at hand has a successor, so that its end is one for good.
    sealed: bool,
}

enum From {
    /// A folder of segments, and the one at hand.
    Folder {
        dir: PathBuf,
        current: Option<Segment>,
    },
    File(PathBuf),
    Input,
}

/// What there is to read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read<'a> {
    /// A line, without its end.
    Line(&'a [u8]),
    /// A line that lacks its end, though others follow in another file; or one that is too long.
    Torn,
    /// No more for now.
    End,
}

impl Lines {
    /// `path`: a folder of segments, a folder that holds one called `audit`, a file, or `-`. Segments that ended before `since`
    /// are passed over.
    pub(super) fn open(path: &Path, since: Option<MicroTime>) -> Result<Self, Error> {
        let fault = |source| Error::Open { path: path.to_owned(), source };
        let mut this = Self {
            from: From::Input,
            reader: None,
            inode: None,
            line: Vec::new(),
            overlong: false,
            sealed: false,
        };
        if path == Path::new("-") {
            this.reader = Some(Box::new(BufReader::new(io::stdin())));
        } else if fs::metadata(path).map_err(fault)?.is_dir() {
            let dir = folder(path).map_err(fault)?;
            let current = before(segments(&dir).map_err(fault)?, since);
            this.from = From::Folder { dir, current };
        } else {
            this.from = From::File(path.to_owned());
            this.advance().map_err(fault)?;
        }
        Ok(this)
    }

    /// The next line.
    pub(super) fn read(&mut self) -> io::Result<Read<'_>> {
        if self.line.last() == Some(&b'\n') {
            self.line.clear();
        }
        loop {
            let ended = match &mut self.reader {
                Some(reader) => take_line(reader, &mut self.line, &mut self.overlong)?,
                None => false,
            };
            if ended && std::mem::take(&mut self.overlong) {
                return Ok(Read::Torn);
            }
            if ended {
                return Ok(Read::Line(&self.line[..self.line.len() - 1]));
            }
            // What was written between the look at the file and the look at its successor is still to be read.
            if !std::mem::replace(&mut self.sealed, true) {
                self.sealed = self.has_successor()?;
                if self.sealed {
                    continue;
                }
                return Ok(Read::End);
            }
            self.sealed = false;
            let torn = !self.line.is_empty() || std::mem::take(&mut self.overlong);
            self.line.clear();
            if !self.advance()? {
                return Ok(Read::End);
            }
            if torn {
                return Ok(Read::Torn);
            }
        }
    }

    /// What is left without an end when there is no more to come; a log that is not being written to may end so.
    pub(super) fn rest(&self) -> &[u8] {
        if self.line.last() == Some(&b'\n') { b"" } else { &self.line }
    }

    /// Whether to look for more makes sense.
    pub(super) fn can_grow(&self) -> bool {
        !matches!(self.from, From::Input)
    }

    fn has_successor(&self) -> io::Result<bool> {
        Ok(match &self.from {
            From::Folder { dir, current } => {
                segments(dir)?.last().is_some_and(|last| is_after(last, current))
            }
            From::File(path) => fs::metadata(path).is_ok_and(|m| Some(m.ino()) != self.inode),
            From::Input => false,
        })
    }

    /// Opens the next file.
    fn advance(&mut self) -> io::Result<bool> {
        match &mut self.from {
            From::Folder { dir, current } => {
                // What is gone by now was compressed in the meantime, or removed because of its age.
                loop {
                    let Some(next) = segments(dir)?.into_iter().find(|next| is_after(next, current)) else {
                        return Ok(false);
                    };
                    match next.open() {
                        Ok(reader) => {
                            self.reader = Some(reader);
                            *current = Some(next);
                            break;
                        }
                        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                        Err(e) => return Err(e),
                    }
                }
            }
            From::File(path) => {
                let file = File::open(&*path)?;
                self.inode = file.metadata().ok().map(|m| m.ino());
                self.reader = Some(match path.extension().is_some_and(|e| e == "gz") {
                    true => Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(file))),
                    false => Box::new(BufReader::with_capacity(1 << 18, file)),
                });
            }
            From::Input => return Ok(false),
        }
        Ok(true)
    }
}

/// Adds to `line` up to and with the next newline; false when the file ends before it.
fn take_line(reader: &mut Box<dyn BufRead>, line: &mut Vec<u8>, overlong: &mut bool) -> io::Result<bool> {
    loop {
        let available = match reader.fill_buf() {
            Ok(available) => available,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let end = available.iter().position(|b| *b == b'\n');
        let used = end.map_or(available.len(), |at| at + 1);
        if line.len() + used > LONGEST_LINE {
            *overlong = true;
            line.clear();
        }
        if !*overlong || end.is_some() {
            line.extend_from_slice(&available[..used]);
        }
        reader.consume(used);
        if end.is_some() {
            return Ok(true);
        }
        if used == 0 {
            return Ok(false);
        }
    }
}

/// The folder with the segments: `path` itself, or the one in it that is called `audit`.
pub(super) fn folder(path: &Path) -> io::Result<PathBuf> {
    let inner = path.join("audit");
    let is_outer = segments(path)?.is_empty() && inner.is_dir();
    Ok(if is_outer { inner } else { path.to_owned() })
}

fn is_after(segment: &Segment, current: &Option<Segment>) -> bool {
    current.as_ref().is_none_or(|current| (segment.number, &segment.stem) > (current.number, &current.stem))
}

/// The last segment that was over before `since`: the one that is followed by another which began no later.
fn before(segments: Vec<Segment>, since: Option<MicroTime>) -> Option<Segment> {
    // 2026-01-02T03:04:05.678901Z as 20260102T030405.678, as it stands in a name.
    let since: String = since?.to_string()[..23].chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let is_over =
        |next: &Segment| next.stem.get("audit-".len()..).is_some_and(|start| start < since.as_str());
    let over = segments.iter().skip(1).take_while(|next| is_over(next)).count();
    over.checked_sub(1).and_then(|i| segments.into_iter().nth(i))
}
