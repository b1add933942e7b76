//! Whole lines of one segment, to be delivered together.

use super::cursor::Cursor;
use crate::audit::ledger::Position;
use std::ops::Range;

/// What a batch holds at most. A line that is longer than all of it is a batch of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) events: usize,
    pub(super) bytes: u64,
}

/// Lines in the journal's order, and how far a sink has come that has delivered them.
#[derive(Debug, Default)]
pub(super) struct Batch {
    text: Vec<u8>,
    ends: Vec<End>,
    /// Behind the last line, and behind what was passed over after it.
    upto: Option<Cursor>,
}

/// The end of a line: in the batch, and in the segment if it stands there.
#[derive(Debug, Clone, Copy)]
struct End {
    text: usize,
    offset: Option<u64>,
}

/// Some of the lines of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lines<'a> {
    text: &'a [u8],
    count: usize,
}

impl Batch {
    /// An empty one in the memory of `used`.
    pub(super) fn reuse(mut used: Self) -> Self {
        /// A buffer that grew past this is given back.
        const SPARE: usize = 1 << 20;
        used.text.clear();
        used.text.shrink_to(SPARE);
        used.ends.clear();
        Self { upto: None, ..used }
    }

    /// How many lines there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all lines.
    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Whether a line of so many bytes would be too much.
    pub(super) fn is_full(&self, more: usize, room: Room) -> bool {
        !self.is_empty() && (self.ends.len() >= room.events || (self.text.len() + more) as u64 > room.bytes)
    }

    /// Adds `line`, which ends with a newline and, in its segment, at `offset`.
    pub(super) fn push(&mut self, line: &[u8], offset: u64) {
        self.text.extend_from_slice(line);
        self.ends.push(End { text: self.text.len(), offset: Some(offset) });
    }

    /// Adds a line that stands in no segment.
    pub(super) fn push_own(&mut self, line: &[u8]) {
        self.text.extend_from_slice(line);
        self.ends.push(End { text: self.text.len(), offset: None });
    }

    /// Where the reader is by now.
    pub(super) fn reached(&mut self, cursor: &Cursor) {
        self.upto = Some(cursor.clone());
    }

    /// Where the reader was behind all of it.
    pub(super) fn upto(&self) -> Option<&Cursor> {
        self.upto.as_ref()
    }

    /// Behind the first `count` lines; None when they are not of a segment.
    pub(super) fn cursor(&self, count: usize) -> Option<Cursor> {
        let upto = self.upto.as_ref()?;
        if count == self.ends.len() {
            return Some(upto.clone());
        }
        let offset = self.ends.iter().take(count).rev().find_map(|end| end.offset)?;
        Some(Cursor { stem: upto.stem.clone(), at: Position { offset, ..upto.at } })
    }

    /// Lines by their numbers.
    pub(super) fn lines(&self, range: Range<usize>) -> Lines<'_> {
        let end =
            |count: usize| count.checked_sub(1).and_then(|at| self.ends.get(at)).map_or(0, |end| end.text);
        let text = self.text.get(end(range.start)..end(range.end)).unwrap_or_default();
        Lines { text, count: range.len() }
    }
}

impl<'a> Lines<'a> {
    /// One line, with its newline.
    pub(super) fn one(line: &'a [u8]) -> Self {
        Self { text: line, count: 1 }
    }

    /// How many.
    pub(super) fn len(self) -> usize {
        self.count
    }

    /// All of them, each with its newline.
    pub(super) fn text(self) -> &'a [u8] {
        self.text
    }

    /// Each of them, without its newline.
    pub(super) fn each(self) -> impl Iterator<Item = &'a [u8]> {
        self.text.split_inclusive(|b| *b == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(lines: &[(&str, u64)], upto: u64) -> Batch {
        let mut batch = Batch::default();
        for (line, offset) in lines {
            match offset {
                0 => batch.push_own(line.as_bytes()),
                offset => batch.push(line.as_bytes(), *offset),
            }
        }
        batch.reached(&Cursor { stem: "s".to_owned(), at: Position { segment: 1, offset: upto } });
        batch
    }

    #[test]
    fn lines_are_counted_and_found() {
        let batch = batch(&[("a\n", 10), ("bcd\n", 20), ("e\n", 22)], 30);
        for (range, text, each) in [
            (0..0, "", &[][..]),
            (0..1, "a\n", &["a"]),
            (1..3, "bcd\ne\n", &["bcd", "e"]),
            (0..3, "a\nbcd\ne\n", &["a", "bcd", "e"]),
        ] {
            let lines = batch.lines(range.clone());
            assert_eq!((lines.text(), lines.len()), (text.as_bytes(), range.len()));
            assert!(lines.each().eq(each.iter().map(|line| line.as_bytes())));
        }
    }

    #[test]
    fn a_part_of_a_batch_leads_as_far_as_its_own_lines_do() {
        let batch = batch(&[("own\n", 0), ("a\n", 10), ("b\n", 20), ("own\n", 0), ("own\n", 0)], 30);
        let offsets = [None, None, Some(10), Some(20), Some(20), Some(30)];
        for (count, want) in offsets.into_iter().enumerate() {
            assert_eq!(batch.cursor(count).map(|cursor| cursor.at.offset), want, "{count}");
        }
    }

    #[test]
    fn a_batch_is_full_by_lines_or_bytes_but_takes_one_of_any_size() {
        let of = |lines: usize| batch(&vec![("12345678\n", 0); lines], 0);
        for (lines, more, events, bytes, full) in [
            (0, 100, 1, 10, false),
            (1, 1, 1, 1000, true),
            (1, 1, 2, 10, false),
            (1, 2, 2, 10, true),
            (2, 9, 3, 27, false),
            (2, 10, 3, 27, true),
            (3, 0, 3, 1000, true),
        ] {
            assert_eq!(
                of(lines).is_full(more, Room { events, bytes }),
                full,
                "{lines} {more} {events} {bytes}"
            );
        }
    }
}
