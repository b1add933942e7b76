//! The tree on the disk: a leaf for every line of the journal, stored as tiles, its head signed again and again.

use super::{journal::line::Entry, tree::Head};
use std::sync::Arc;

/// A place in the journal: all whole lines before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Position {
    /// Number of the segment.
    pub(crate) segment: u64,
    /// Bytes of it.
    pub(crate) offset: u64,
}

/// What happened to the journal, in order; each becomes a leaf but for what is lost, which goes with the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A line was written.
    Line(Entry),
    /// A segment begins.
    Segment(u64),
    /// So many events could not be kept.
    Lost(u64),
}

/// A head that was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    /// Size and root.
    pub(crate) head: Head,
    /// When, in seconds since 1970.
    pub(crate) time: u64,
    /// The checkpoint, a signed note.
    pub(crate) note: Arc<str>,
}
