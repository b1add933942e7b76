//! Which segments go: those over the limits, oldest first, as far as every sink has taken them, and never the newest.
//!
//! The tree says so first: a `prune` names the first segment that stays and the sequence of the `rotate` that it began
//! with. When that is signed and durable, the files of all segments before go, and then the entry bundles and level 0 tiles
//! that hold nothing from that sequence on. The higher levels stay: they are an 8,000th of it all, and the tree up to the
//! first leaf that is left is computed from them. A removal that a crash cut off is finished at the next start.

use super::{Position, disk::Disk, store::Pruned};
use crate::audit::{Config, folder::Segment};
use std::{
    io,
    path::Path,
    time::{Duration, SystemTime},
};

/// How much stays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Age at which a finished segment is removed.
    pub(super) max_age: Option<Duration>,
    /// Finished segments that stay.
    pub(super) max_backups: Option<usize>,
    /// Bytes of all finished segments that stay.
    pub(super) max_total_size: Option<u64>,
}

/// What is over the limits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Over {
    /// The first segment that stays, when another one goes, and why the last of these does.
    pub(super) first: Option<(u64, &'static str)>,
    /// Segments that would go if the sinks had taken them.
    pub(super) held: usize,
}

/// A finished segment.
#[derive(Debug, Clone, Copy)]
struct Finished {
    number: u64,
    size: u64,
    modified: SystemTime,
}

impl Limits {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            max_age: config.max_age,
            max_backups: config.max_backups,
            max_total_size: config.max_total_size,
        }
    }

    /// Looks at the segments before `newest`. `taken`: the place that every sink has come to.
    pub(super) fn over(
        &self,
        disk: &dyn Disk,
        newest: u64,
        taken: Option<Position>,
        now: SystemTime,
    ) -> io::Result<Over> {
        let mut finished: Vec<Finished> = Vec::new();
        for (name, segment) in segments(disk)? {
            // One that goes while this looks at it, because it is compressed, is there in the other form.
            let Ok((size, modified)) = disk.look(&name) else { continue };
            finished.push(Finished { number: segment.number, size, modified });
        }
        finished.retain(|segment| segment.number < newest);
        finished.sort_by_key(|segment| segment.number);
        finished.dedup_by(|later, first| {
            let same = later.number == first.number;
            if same {
                first.size += later.size;
            }
            same
        });
        let mut total: u64 = finished.iter().map(|segment| segment.size).sum();
        let mut over = Vec::new();
        for (i, segment) in finished.iter().enumerate() {
            let age = now.duration_since(segment.modified).unwrap_or_default();
            let why = if self.max_backups.is_some_and(|most| finished.len() - i > most) {
                "maxBackups"
            } else if self.max_total_size.is_some_and(|most| total > most) {
                "maxTotalSize"
            } else if self.max_age.is_some_and(|most| age > most) {
                "maxAge"
            } else {
                break;
            };
            total -= segment.size;
            over.push(why);
        }
        let free = finished.partition_point(|segment| taken.is_none_or(|at| segment.number < at.segment));
        let goes = over.len().min(free);
        let first = finished.get(goes).map_or(newest, |segment| segment.number);
        let why = goes.checked_sub(1).and_then(|last| over.get(last));
        Ok(Over { first: why.map(|why| (first, *why)), held: over.len() - goes })
    }
}

/// Removes the segments of which the published tree says that they may go; for good, since their leaves go next.
pub(super) fn remove(disk: &mut dyn Disk, pruned: Pruned) -> io::Result<()> {
    let mut gone: Vec<_> =
        segments(disk)?.into_iter().filter(|(_, segment)| segment.number < pruned.segment).collect();
    gone.sort_by_key(|(_, segment)| segment.number);
    for (name, _) in &gone {
        disk.remove(name)?;
        tracing::info!(segment.name = name, "removed old audit segment");
    }
    disk.sync_folder("")
}

/// All files of segments; of one that is being compressed, both.
fn segments(disk: &dyn Disk) -> io::Result<Vec<(String, Segment)>> {
    let of = |name: String| Segment::of(Path::new(""), &name).map(|segment| (name, segment));
    Ok(disk.names("")?.into_iter().filter_map(of).collect())
}
