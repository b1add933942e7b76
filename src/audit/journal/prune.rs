//! Which segments are over the limits of the configuration, and their removal.

use super::segment::Keep;
use crate::audit::folder::{self, Segment};
use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

/// A segment that may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expired {
    /// What goes.
    pub(crate) segment: Segment,
    /// The key of the configuration that says so.
    pub(crate) limit: &'static str,
}

/// The segments of `dir` that are over the limits, oldest first; never the newest one.
pub(crate) fn expired(dir: &Path, keep: &Keep, now: SystemTime) -> io::Result<Vec<Expired>> {
    let mut segments = folder::segments(dir)?;
    segments.pop();
    let sized: Vec<_> = segments
        .into_iter()
        .filter_map(|segment| fs::metadata(&segment.path).ok().map(|meta| (segment, meta)))
        .collect();
    let mut total: u64 = sized.iter().map(|(_, meta)| meta.len()).sum();
    let mut left = sized.len();
    let mut expired = Vec::new();
    for (segment, meta) in sized {
        let age = meta.modified().ok().and_then(|t| now.duration_since(t).ok()).unwrap_or(Duration::ZERO);
        let limit = if keep.max_backups.is_some_and(|most| left > most) {
            "maxBackups"
        } else if keep.max_total_size.is_some_and(|most| total > most) {
            "maxTotalSize"
        } else if keep.max_age.is_some_and(|most| age > most) {
            "maxAge"
        } else {
            break;
        };
        left -= 1;
        total = total.saturating_sub(meta.len());
        expired.push(Expired { segment, limit });
    }
    Ok(expired)
}

/// Removes them. One that cannot be removed is told, and stays for the next time, with those after it.
pub(crate) fn remove(expired: &[Expired]) {
    for Expired { segment, limit } in expired {
        match fs::remove_file(&segment.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(segment.path = %segment.path.display(), error = %e, "cannot remove old audit segment");
                return;
            }
            _ => tracing::info!(segment.path = %segment.path.display(), limit, "removed old audit segment"),
        }
    }
}
