//! What the tree commits to: one small record for each line of the journal, and marks between them.
//!
//! A leaf holds no more of an event than is needed to find and to prove it: the line itself may hold anything, may be
//! larger than an entry of the log may be, and may one day have to be erased while the leaf stays. A line holds randomness
//! of its own, so that its hash does not give away a content that somebody guesses.
//!
//! # Format
//!
//! All numbers are big-endian and of fixed width, so that there is exactly one way to write a leaf and its length follows
//! from its kind. Every leaf begins with the same 18 bytes:
//!
//! | bytes | type | what |
//! |---|---|---|
//! | 0 | u8 | version of the format: 1 |
//! | 1 | u8 | kind, see below |
//! | 2..10 | u64 | sequence: the index of the leaf in the tree, from 0 |
//! | 10..18 | i64 | microseconds since 1970-01-01T00:00:00Z: an event's stageTimestamp, else when the leaf was made |
//!
//! and goes on by its kind:
//!
//! | kind | length | name | fields after the first 18 bytes |
//! |---|---|---|---|
//! | 1 | 75 | event | stage u8 (1 RequestReceived, 2 ResponseStarted, 3 ResponseComplete, 4 Panic); auditID 16 bytes; SHA-256 of the line 32 bytes; lost u64: events that were lost since the leaf before |
//! | 2 | 50 | torn | SHA-256 of a line that a crash cut off, 32 bytes |
//! | 3 | 26 | start | recovered u64: that many of the line leaves that follow are for lines that an earlier process wrote and did not come to commit to |
//! | 4 | 26 | stop | lost u64: as for an event |
//! | 5 | 26 | rotate | segment u64: the number of the segment that the lines which follow stand in |
//! | 6 | 34 | prune | before u64: the lines of all sequences below it are removed, and the leaves and tiles below it may be; segment u64: the number of the first segment that stays |
//! | 7 | 26 | erase | line u64: the sequence of the one line that is removed; its leaf stays |
//!
//! A line is hashed without the newline that ends it. The auditID is the 16 bytes of the UUID.
//!
//! # Order
//!
//! The first leaf of a tree is a start; what follows a stop is a start. The segments of rotations only grow. What a prune
//! or an erase names lies before it, prunes only grow, and both are signed before anything is removed.

use super::Hash;
use crate::audit::event::{MicroTime, Stage};
use std::{fmt, str::FromStr};

/// The version of the format.
pub const VERSION: u8 = 1;
/// Bytes of the longest leaf. An entry of a log may have 65,535.
pub const LONGEST: usize = 75;

/// One leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// Its index in the tree.
    pub sequence: u64,
    /// An event's stageTimestamp; of a mark, when it was made.
    pub time: MicroTime,
    /// What it commits to.
    pub kind: Kind,
}

/// What a leaf commits to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A line that is an event.
    Event(Event),
    /// A line that a crash cut off; its hash.
    Torn(Hash),
    /// A process begins to write.
    Start {
        /// So many of the line leaves that follow are for lines that an earlier process left uncommitted.
        recovered: u64,
    },
    /// A process ended in order.
    Stop {
        /// Events that were lost since the leaf before.
        lost: u64,
    },
    /// A segment begins.
    Rotate {
        /// Its number.
        segment: u64,
    },
    /// The oldest segments are removed.
    Prune {
        /// The lines of all sequences below are gone; leaves and tiles below may be.
        before: u64,
        /// The number of the first segment that stays.
        segment: u64,
    },
    /// One line is removed.
    Erase {
        /// Its sequence.
        line: u64,
    },
}

/// A line that is an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Its stage.
    pub stage: Stage,
    /// Its auditID.
    pub id: AuditId,
    /// SHA-256 of the line, without its newline.
    pub line: Hash,
    /// Events that were lost since the leaf before.
    pub lost: u64,
}

/// An auditID: a UUID, shown in lower case with hyphens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuditId(pub [u8; 16]);

/// A text that is no auditID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a UUID in lower case with hyphens")]
pub struct BadAuditId;

/// Bytes that are no leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLeaf {
    /// Of a later format, or none at all.
    #[error("leaf of version {0}, expected {VERSION}")]
    Version(u8),
    /// No such kind.
    #[error("leaf of kind {0}, expected 1 to 7")]
    Kind(u8),
    /// No such stage.
    #[error("leaf of stage {0}, expected 1 to 4")]
    Stage(u8),
    /// Too short or too long for its kind.
    #[error("leaf of {0} bytes, which is not the length of its kind")]
    Length(usize),
}

// === impl Leaf ===

impl Leaf {
    /// The hash of the line that it commits to; None of a mark.
    pub fn line(&self) -> Option<Hash> {
        match self.kind {
            Kind::Event(event) => Some(event.line),
            Kind::Torn(line) => Some(line),
            _ => None,
        }
    }

    /// Appends its bytes to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let code = match self.kind {
            Kind::Event(_) => 1,
            Kind::Torn(_) => 2,
            Kind::Start { .. } => 3,
            Kind::Stop { .. } => 4,
            Kind::Rotate { .. } => 5,
            Kind::Prune { .. } => 6,
            Kind::Erase { .. } => 7,
        };
        out.reserve(LONGEST);
        out.extend_from_slice(&[VERSION, code]);
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.time.0.to_be_bytes());
        match self.kind {
            Kind::Event(Event { stage, id, line, lost }) => {
                out.push(stage_code(stage));
                out.extend_from_slice(&id.0);
                out.extend_from_slice(&line.0);
                out.extend_from_slice(&lost.to_be_bytes());
            }
            Kind::Torn(line) => out.extend_from_slice(&line.0),
            Kind::Prune { before, segment } => {
                out.extend_from_slice(&before.to_be_bytes());
                out.extend_from_slice(&segment.to_be_bytes());
            }
            Kind::Start { recovered: number }
            | Kind::Stop { lost: number }
            | Kind::Rotate { segment: number }
            | Kind::Erase { line: number } => out.extend_from_slice(&number.to_be_bytes()),
        }
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LONGEST);
        self.write(&mut out);
        out
    }

    /// Reads what [`Leaf::write`] wrote, and nothing else.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadLeaf> {
        let short = BadLeaf::Length(bytes.len());
        let mut rest = Rest(bytes);
        let [version] = rest.take().ok_or(short)?;
        if version != VERSION {
            return Err(BadLeaf::Version(version));
        }
        let [code] = rest.take().ok_or(short)?;
        let (sequence, time) = (rest.number().ok_or(short)?, rest.take().ok_or(short)?);
        let kind = match code {
            1 => {
                let [stage] = rest.take().ok_or(short)?;
                Kind::Event(Event {
                    stage: stage_of(stage).ok_or(BadLeaf::Stage(stage))?,
                    id: AuditId(rest.take().ok_or(short)?),
                    line: Hash(rest.take().ok_or(short)?),
                    lost: rest.number().ok_or(short)?,
                })
            }
            2 => Kind::Torn(Hash(rest.take().ok_or(short)?)),
            3 => Kind::Start { recovered: rest.number().ok_or(short)? },
            4 => Kind::Stop { lost: rest.number().ok_or(short)? },
            5 => Kind::Rotate { segment: rest.number().ok_or(short)? },
            6 => Kind::Prune { before: rest.number().ok_or(short)?, segment: rest.number().ok_or(short)? },
            7 => Kind::Erase { line: rest.number().ok_or(short)? },
            other => return Err(BadLeaf::Kind(other)),
        };
        if !rest.0.is_empty() {
            return Err(short);
        }
        Ok(Self { sequence, time: MicroTime(i64::from_be_bytes(time)), kind })
    }
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }
}

/// Written out, so that no change of the enum changes the format.
fn stage_code(stage: Stage) -> u8 {
    match stage {
        Stage::RequestReceived => 1,
        Stage::ResponseStarted => 2,
        Stage::ResponseComplete => 3,
        Stage::Panic => 4,
    }
}

fn stage_of(code: u8) -> Option<Stage> {
    Stage::ALL.into_iter().find(|stage| stage_code(*stage) == code)
}

// === impl AuditId ===

impl FromStr for AuditId {
    type Err = BadAuditId;

    fn from_str(text: &str) -> Result<Self, BadAuditId> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(BadAuditId),
        };
        let groups = text.split('-').map(str::len);
        if !groups.eq([8, 4, 4, 4, 12]) {
            return Err(BadAuditId);
        }
        let mut digits = text.bytes().filter(|byte| *byte != b'-');
        let mut id = [0; 16];
        for byte in &mut id {
            let (Some(high), Some(low)) = (digits.next(), digits.next()) else { return Err(BadAuditId) };
            *byte = digit(high)? << 4 | digit(low)?;
        }
        Ok(Self(id))
    }
}

impl fmt::Display for AuditId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let hyphen = if matches!(i, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{hyphen}{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
