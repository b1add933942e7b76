//! A line of the journal, and what is known of it without reading it again.

use crate::audit::{
    event::{MicroTime, Stage},
    tree::{Hash, leaf::AuditId},
};

/// A line on its way to the file, its newline included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    /// The bytes, the last of which is the newline.
    pub(crate) text: &'a [u8],
    /// What the tree commits to.
    pub(crate) entry: Entry,
}

/// What a line is, for the tree and for the list of requests that are still open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// `auditID`.
    pub(crate) id: AuditId,
    /// `stage`.
    pub(crate) stage: Stage,
    /// `stageTimestamp`.
    pub(crate) at: MicroTime,
    /// Of the line, without its newline.
    pub(crate) hash: Hash,
    /// Bytes of the line, with its newline.
    pub(crate) size: usize,
    /// Its place among the lines of its request.
    pub(crate) part: Part,
}

/// A line's place among those of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// It is the only one: of a caller who was not authenticated, or of the record itself.
    Only,
    /// The first one: a last one is owed.
    First,
    /// Between first and last; or the request has no first one.
    Between,
    /// The last one.
    Last,
}

impl<'a> Line<'a> {
    /// `text` ends with a newline.
    pub(crate) fn new(text: &'a [u8], id: AuditId, stage: Stage, at: MicroTime, part: Part) -> Self {
        let hash = Hash::of(text.strip_suffix(b"\n").unwrap_or(text));
        Self { text, entry: Entry { id, stage, at, hash, size: text.len(), part } }
    }
}
