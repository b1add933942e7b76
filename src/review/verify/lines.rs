//! The lines of a journal against the leaves that speak of them, segment by segment.

use super::{Fault, Kind};
use crate::{
    audit::{
        folder::Segment,
        tree::{
            Hash,
            leaf::{self, Leaf},
            verify::Gone,
        },
    },
    review::hashing::{End, Line, Piece, Pieces},
};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// Lines that their leaf commits to.
    pub(super) matched: u64,
    /// Lines that are missing as they may.
    pub(super) absent: u64,
    /// Segments with such lines.
    pub(super) segments: u64,
    /// Bytes that were read, uncompressed.
    pub(super) bytes: u64,
    /// Requests that were closed without anybody knowing how they ended.
    pub(super) outcome_unknown: u64,
    /// What follows the last line that a leaf commits to.
    pub(super) tail: Option<Tail>,
}

/// Lines that no leaf commits to yet.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Tail {
    /// The file of the first.
    pub file: String,
    /// Its number in that file, from 1.
    pub line: u64,
    /// How many there are.
    pub lines: u64,
    /// Whether a further one has no end yet.
    pub partial: bool,
}

/// The first line that does not fit, as far as is known without looking further.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) fault: Fault,
    /// The line that is missing: to be looked for behind.
    pub(super) missing: Option<Hash>,
    /// The line that stands there: to be looked for among the leaves.
    pub(super) stranger: Option<Hash>,
}

impl Misfit {
    fn alone(fault: Fault) -> Box<Self> {
        Box::new(Self { fault, missing: None, stranger: None })
    }
}

/// Compares.
pub(super) struct Compare<'a> {
    lines: Cursor<'a>,
    gone: &'a Gone,
    place: Place,
    pub(super) found: Compared,
}

/// Where the lines of the leaves at hand stand.
enum Place {
    /// Not known: the leaf that says so is pruned, or is still to come.
    Unknown,
    /// In the segment that the cursor is in.
    Here,
    /// In a segment of this number, which is not there.
    Missing(u64),
}

impl<'a> Compare<'a> {
    /// Of `segments`, whose pieces these are. `gone`: lines that need not be there.
    pub(super) fn new(segments: &'a [Segment], pieces: Pieces<'a>, gone: &'a Gone) -> Self {
        let lines =
            Cursor { segments, pieces, current: None, upcoming: None, at: 0, number: 0, end: End::Whole };
        Self { lines, gone, place: Place::Unknown, found: Compared::default() }
    }

    /// Takes the next leaf.
    pub(super) fn leaf(&mut self, leaf: &Leaf) -> Result<(), Box<Misfit>> {
        match leaf.kind {
            leaf::Kind::Rotate { segment } => self.rotate(segment, leaf),
            _ => match leaf.line() {
                Some(expected) => self.line(expected, leaf),
                None => Ok(()),
            },
        }
    }

    fn line(&mut self, expected: Hash, leaf: &Leaf) -> Result<(), Box<Misfit>> {
        let may_lack = leaf.sequence < self.gone.before || self.gone.erased.contains(&leaf.sequence);
        if matches!(self.place, Place::Unknown) && !may_lack && self.lines.enter_next() {
            self.place = Place::Here;
            self.found.segments += 1;
        }
        let found = if matches!(self.place, Place::Here) { self.lines.peek() } else { None };
        match found {
            Some(line) if line.hash == expected => {
                self.found.outcome_unknown += u64::from(line.says.is_some_and(|says| says.outcome_unknown));
                self.found.matched += 1;
                self.lines.advance();
                self.agrees(&line, leaf)
            }
            _ if may_lack => {
                self.found.absent += 1;
                Ok(())
            }
            Some(line) => {
                let fault = self.fault(Kind::Altered, leaf, "the line was altered".to_owned());
                Err(Box::new(Misfit { fault, missing: Some(expected), stranger: Some(line.hash) }))
            }
            None => Err(Box::new(self.lacks(expected, leaf))),
        }
    }

    /// Whether the line says what its leaf says of it.
    fn agrees(&self, line: &Line, leaf: &Leaf) -> Result<(), Box<Misfit>> {
        let leaf::Kind::Event(event) = leaf.kind else { return Ok(()) };
        let agree = line
            .says
            .is_some_and(|says| (says.id, says.stage, says.at) == (event.id, event.stage, leaf.time));
        if agree {
            return Ok(());
        }
        let what = match line.says {
            Some(says) => {
                format!("the line is one of auditID {}, {} at {}", says.id, says.stage.as_str(), says.at)
            }
            None => "the line is no event".to_owned(),
        };
        let mut fault = self.fault(Kind::Leaf, leaf, format!("{what}, its leaf says something else"));
        fault.line = Some(self.lines.number);
        Err(Misfit::alone(fault))
    }

    /// There is no line where one should be.
    fn lacks(&mut self, expected: Hash, leaf: &Leaf) -> Misfit {
        let mut missing = Some(expected);
        let (kind, what) = match (&self.place, &self.lines.end) {
            (Place::Missing(number), _) => {
                (Kind::Removed, format!("segment {number} was removed, and no leaf says so"))
            }
            (Place::Unknown, _) => (Kind::Removed, "the segment was removed, and no leaf says so".to_owned()),
            (_, End::Unreadable(error)) => {
                missing = None;
                (Kind::Altered, format!("the file cannot be read from this line on: {error}"))
            }
            (_, End::Partial(hash)) if *hash == expected => {
                missing = None;
                (Kind::Altered, "the newline that ends this line was removed".to_owned())
            }
            (_, End::Partial(..)) => (Kind::Truncated, "the file ends within this line".to_owned()),
            _ => (Kind::Truncated, "the file ends before this line".to_owned()),
        };
        let mut fault = self.fault(kind, leaf, what);
        if !matches!(self.place, Place::Here) {
            (fault.file, fault.line) = (None, None);
        }
        Misfit { fault, missing, stranger: None }
    }

    fn rotate(&mut self, segment: u64, leaf: &Leaf) -> Result<(), Box<Misfit>> {
        if let Some(line) = self.lines.peek() {
            let what = "the line is not in the tree: it was inserted before the segment ended".to_owned();
            let fault = self.fault(Kind::Inserted, leaf, what);
            return Err(Box::new(Misfit {
                fault: fault.of_line_only(),
                missing: None,
                stranger: Some(line.hash),
            }));
        }
        self.ended(leaf)?;
        self.place = loop {
            let Some(next) = self.lines.next_segment() else { break Place::Missing(segment) };
            if next.number > segment {
                break Place::Missing(segment);
            }
            let is_it = next.number == segment;
            let is_gone = !self.lines.enter_next();
            match (is_it, is_gone) {
                (true, true) => break Place::Missing(segment),
                (true, false) => {
                    self.found.segments += 1;
                    break Place::Here;
                }
                (false, _) => self.nothing(leaf)?,
            }
        };
        Ok(())
    }

    /// Of the segment at hand, no leaf speaks: it must hold nothing.
    fn nothing(&mut self, leaf: &Leaf) -> Result<(), Box<Misfit>> {
        if self.lines.peek().is_none() && matches!(self.lines.end, End::Whole | End::Gone) {
            return Ok(());
        }
        let what = "the segment is not in the tree: it was inserted".to_owned();
        let fault = self.fault(Kind::Inserted, leaf, what).of_line_only();
        Err(Misfit::alone(fault))
    }

    /// The segment at hand is at its end: nothing may be wrong with that.
    fn ended(&mut self, leaf: &Leaf) -> Result<(), Box<Misfit>> {
        let what = match &self.lines.end {
            End::Whole | End::Gone => return Ok(()),
            End::Partial(..) => "something that is no line was added to the end of the segment".to_owned(),
            End::Unreadable(error) => format!("the file cannot be read to its end: {error}"),
        };
        let kind = match self.lines.end {
            End::Partial(..) => Kind::Inserted,
            _ => Kind::Altered,
        };
        let fault = self.fault(kind, leaf, what).of_line_only();
        Err(Misfit::alone(fault))
    }

    /// The leaves are at their end: what follows is not committed to.
    pub(super) fn rest(mut self) -> Result<Compared, Box<Misfit>> {
        let mut tail: Option<Tail> = None;
        loop {
            while self.lines.peek().is_some() {
                let (file, line) = (self.lines.file(), self.lines.number + 1);
                tail.get_or_insert(Tail { file, line, lines: 0, partial: false }).lines += 1;
                self.lines.advance();
            }
            let last = self.lines.next_segment().is_none();
            if let End::Unreadable(error) = &self.lines.end {
                let what = format!("the file cannot be read to its end: {error}");
                let fault = Fault::of(Kind::Altered, what).at(self.lines.file(), self.lines.number + 1);
                return Err(Misfit::alone(fault));
            }
            if let End::Partial(..) = self.lines.end {
                let (file, line) = (self.lines.file(), self.lines.number + 1);
                tail.get_or_insert(Tail { file, line, lines: 0, partial: false }).partial = last;
            }
            if last {
                break;
            }
            self.lines.enter_next();
        }
        self.found.bytes = self.lines.pieces.bytes();
        self.found.tail = tail;
        Ok(self.found)
    }

    /// Looks for `wanted` in the lines that follow: the file and the line, and how many come before it.
    pub(super) fn find(&mut self, wanted: Hash) -> Option<(String, u64, u64)> {
        let mut before = 0;
        loop {
            while let Some(line) = self.lines.peek() {
                if line.hash == wanted {
                    return Some((self.lines.file(), self.lines.number + 1, before));
                }
                before += 1;
                self.lines.advance();
            }
            self.lines.next_segment()?;
            self.lines.enter_next();
        }
    }

    fn fault(&self, kind: Kind, leaf: &Leaf, what: String) -> Fault {
        Fault::of_leaf(kind, leaf, what).at(self.lines.file(), self.lines.number + 1)
    }
}

/// The lines of one segment after the other.
struct Cursor<'a> {
    segments: &'a [Segment],
    pieces: Pieces<'a>,
    /// Of the segment at hand.
    current: Option<Piece>,
    /// The first piece of the next one.
    upcoming: Option<Piece>,
    at: usize,
    /// Lines of the segment that were taken.
    number: u64,
    /// How the segment at hand ends, known when there are no more lines.
    end: End,
}

impl Cursor<'_> {
    /// The next line of the segment at hand.
    fn peek(&mut self) -> Option<Line> {
        loop {
            let line = self.current.as_ref()?.lines.get(self.at);
            if line.is_some() {
                return line.copied();
            }
            self.look_ahead();
            if self.upcoming.as_ref().is_none_or(|piece| piece.begins) {
                self.keep_end();
                return None;
            }
            self.keep_end();
            self.current = self.upcoming.take();
            self.at = 0;
        }
    }

    fn advance(&mut self) {
        self.at += 1;
        self.number += 1;
    }

    /// What comes after the segment at hand, the rest of which is passed over.
    fn next_segment(&mut self) -> Option<&Segment> {
        while self.peek().is_some() {
            self.advance();
        }
        self.look_ahead();
        self.segments.get(self.upcoming.as_ref()?.segment)
    }

    /// Goes there; false when there is none, or it was removed.
    fn enter_next(&mut self) -> bool {
        self.look_ahead();
        let Some(next) = self.upcoming.take() else { return false };
        let is_there = !matches!(next.end, End::Gone);
        self.current = Some(next);
        (self.at, self.number, self.end) = (0, 0, End::Whole);
        is_there
    }

    fn look_ahead(&mut self) {
        if self.upcoming.is_none() {
            self.upcoming = self.pieces.next();
        }
    }

    /// A segment ends as its first piece that does not end well.
    fn keep_end(&mut self) {
        if let Some(piece) = &mut self.current
            && matches!(self.end, End::Whole)
        {
            self.end = std::mem::replace(&mut piece.end, End::Whole);
        }
    }

    fn file(&self) -> String {
        let segment = self.current.as_ref().and_then(|piece| self.segments.get(piece.segment));
        let name = segment.and_then(|segment| segment.path.file_name());
        name.map_or_else(|| "the journal".to_owned(), |name| name.to_string_lossy().into_owned())
    }
}
