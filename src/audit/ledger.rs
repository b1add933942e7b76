//! The tree on the disk: a leaf for every line of the journal, stored as tiles, its head signed again and again.
//!
//! Start: the journal takes its folder; the ledger opens the tree and says up to which [`Position`] it is signed; the journal
//! reads all whole lines after it again, syncs their files and hands them over as [`Step`]s (with a [`Step::Segment`] before the
//! first line of each segment after the position's own); with these the tree's thread begins, and then the journal's writer,
//! with a [`feed::Feed`]. Stop: the journal's writer ends, then the tree's thread.

use super::{journal::line::Entry, tree::Head};
use std::sync::Arc;

pub(crate) mod feed;

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
    /// A line that a crash cut off was ended with a newline; its hash, without that newline.
    Torn(super::tree::Hash),
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
