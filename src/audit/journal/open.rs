//! The requests whose first line is in the journal and whose last one is not: what a crash would leave without an end.
//!
//! They are kept in memory, and written to the file `open` beside each new segment, so that a start need not read the whole
//! journal: what is in the file, and then the lines of that segment and of all after it.
//!
//! ```text
//! open 42                                          (the segment that it was written for)
//! 6f1c0000-0000-4000-8000-000000000001 41 81234    (auditID; segment and offset of the first line)
//! end 1                                            (how many)
//! ```

use super::{
    line::{Entry, Part},
    segment,
};
use crate::audit::{ledger::Position, tree::leaf::AuditId};
use std::{
    collections::HashMap,
    fmt::Write as _,
    fs,
    hash::{BuildHasherDefault, Hasher},
    io,
    path::Path,
};

/// The name of the file.
const FILE: &str = "open";

/// Requests that are open, and where their first lines begin.
#[derive(Debug, Default)]
pub(crate) struct Open(HashMap<AuditId, Position, BuildHasherDefault<Random>>);

/// Ids are random already.
#[derive(Debug, Default)]
pub(crate) struct Random(u64);

impl Hasher for Random {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = self.0.rotate_left(23) ^ u64::from_le_bytes(word);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Open {
    /// Takes note of a line that begins at `at`.
    pub(crate) fn note(&mut self, id: AuditId, part: Part, at: Position) {
        match part {
            Part::First => {
                self.0.insert(id, at);
            }
            Part::Last => {
                self.0.remove(&id);
            }
            Part::Only | Part::Between => {}
        }
    }

    /// A line that was noted stands elsewhere by now.
    pub(super) fn moved(&mut self, entry: &Entry, at: Position) {
        if entry.part == Part::First
            && let Some(place) = self.0.get_mut(&entry.id)
        {
            *place = at;
        }
    }

    /// All of them, in the order of the journal.
    pub(crate) fn list(&self) -> Vec<(AuditId, Position)> {
        let mut list: Vec<_> = self.0.iter().map(|(id, at)| (*id, *at)).collect();
        list.sort_unstable_by_key(|(_, at)| *at);
        list
    }

    /// Writes the file for `segment`, which is about to begin.
    pub(super) fn store(&self, dir: &Path, segment: u64) -> io::Result<()> {
        let mut text = format!("open {segment}\n");
        for (id, at) in self.list() {
            let _ = writeln!(text, "{id} {} {}", at.segment, at.offset);
        }
        let _ = writeln!(text, "end {}", self.0.len());
        segment::write_whole(dir, FILE, text.as_bytes())
    }

    /// What the file says, and which segment it was written for. None if there is none, or if it says nothing sensible.
    pub(super) fn load(dir: &Path) -> Option<(Self, u64)> {
        let text = fs::read_to_string(dir.join(FILE)).ok()?;
        let mut lines = text.lines();
        let segment = lines.next()?.strip_prefix("open ")?.parse().ok()?;
        let mut open = Self::default();
        for line in lines {
            if let Some(count) = line.strip_prefix("end ") {
                return (count.parse() == Ok(open.0.len())).then_some((open, segment));
            }
            let mut words = line.split(' ');
            let id = words.next()?.parse().ok()?;
            let at = Position { segment: words.next()?.parse().ok()?, offset: words.next()?.parse().ok()? };
            open.0.insert(id, at);
        }
        None
    }
}
