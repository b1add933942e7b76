//! The tree on the disk: a leaf for every line of the journal, stored as tiles, its head signed again and again.
//!
//! Start: the journal takes its folder; [`open`] finds the tree and says up to which [`Position`] it is signed; the journal
//! reads all whole lines after it again, syncs their files and hands them over as [`Step`]s (with a [`Step::Segment`] before the
//! first line of each segment after the position's own); [`Opened::begin`] signs them, after a `start`, and starts the
//! thread; then the journal's writer begins, with a [`Feed`]. Stop: the journal's writer ends, then [`Ledger::stop`].
//!
//! The thread signs every [`feed::EVERY`] or [`feed::EVENTS`] lines, whichever comes first, when a segment begins and at the
//! stop; it rests for a while after each time, so that under load its syncs leave the disk to the journal's. When nothing
//! happens a checkpoint with the new time says so. While the disk fails, it tries again with growing pauses; leaves stay in
//! memory until they are signed, and when too many wait, the journal takes no more ([`Feed::is_full`]).
//!
//! What is written in which order, and what a crash leaves: `store`. Who signs: `keys`. What is removed and when: `prune`.
//!
//! A tree that does not fit its checkpoint, or segments without a tree, are never begun anew over: whoever could make the gate
//! sign again what is there could alter it first.

mod disk;
pub(crate) mod feed;
mod keeper;
mod keys;
mod metrics;
mod prune;
mod store;
pub(crate) mod told;

use super::{Config, Error, journal::line::Entry, segment::FolderError, sink::Cursors, tree::Head};
use crate::audit::tree::tile::Tiles;
use disk::{Disk, Files};
use feed::Feed;
use keeper::Keeper;
use keys::Keys;
use metrics::Metrics;
use prometheus::Registry;
use prune::Limits;
use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};
use store::{Store, Unfit};
use tokio::sync::watch;

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
    /// The number of the newest segment that it knows of.
    pub(crate) segment: u64,
    /// Whether it is the last one of this process.
    pub(crate) stopped: bool,
}

/// A tree that was found, or that is yet to begin.
pub(crate) struct Opened {
    keys: Keys,
    store: Store,
    tiles: Tiles,
    /// Nothing is signed yet.
    fresh: bool,
}

/// The tree's thread.
#[derive(Debug)]
pub(crate) struct Ledger {
    feed: Feed,
    heads: watch::Receiver<Signed>,
    health: Arc<Mutex<Option<String>>>,
    /// And what is gone when it has ended.
    thread: Mutex<Option<(JoinHandle<()>, Receiver<()>)>>,
}

/// How long a stop waits for a disk that hangs, in all.
const LAST_WAIT: Duration = Duration::from_secs(10);

/// Finds the tree in `dir`, which this process has locked.
pub(crate) fn open(config: &Config) -> Result<Opened, Error> {
    Opened::find(Box::new(Files(config.dir.clone())), config)
}

// === impl Opened ===

impl Opened {
    fn find(disk: Box<dyn Disk>, config: &Config) -> Result<Self, Error> {
        let (dir, signing) = (&*config.dir, &config.signing);
        let unread = |e| Error::Folder(FolderError::Io(dir.to_owned(), "its tree cannot be read", e));
        let unwritten = |e| Error::Folder(FolderError::Io(dir.to_owned(), "audit.pub cannot be written", e));
        let mut store = Store::new(disk);
        let origin = store.origin().map_err(unread)?;
        if origin.is_none()
            && (has_segments(store.disk()).map_err(unread)? || store.has_tiles().map_err(unread)?)
        {
            let why = "log/checkpoint is missing, but segments or tiles are there";
            return Err(unfit(dir, why));
        }
        if origin.as_deref() == Some("") {
            return Err(unfit(dir, "log/checkpoint is no checkpoint"));
        }
        let keys = Keys::open(signing, origin.as_deref(), store.disk(), dir)?;
        let mut tiles = Tiles::new();
        if let Some(origin) = &origin {
            tiles = store.resume(origin, &keys.known).map_err(|why| refused(dir, &keys, &why))?.tiles;
        }
        keys.publish(store.disk()).map_err(unwritten)?;
        if signing.key_file.is_none() {
            tracing::warn!(
                audit.dir = %dir.display(),
                "the key that signs the audit record stands beside it: whoever can write the record can sign it; name another in \
                 audit.signing.keyFile"
            );
        }
        Ok(Self { keys, store, tiles, fresh: origin.is_none() })
    }

    /// Up to where the journal's lines are signed; None when there was nothing to sign.
    pub(crate) fn position(&self) -> Option<Position> {
        (!self.fresh).then(|| self.store.mark().position)
    }

    /// Signs that a process begins, with what an earlier one left unsigned: `recovered`, all on the disk, which end at
    /// `position`. Then goes on in the background.
    pub(crate) fn begin(
        self,
        recovered: &mut Vec<Step>,
        position: Position,
        config: &Config,
        cursors: Arc<Cursors>,
        registry: &Registry,
    ) -> Result<Ledger, Error> {
        let unwritten =
            |e| Error::Folder(FolderError::Io(config.dir.clone(), "its tree cannot be written", e));
        let feed = Feed::new();
        let mut keeper = Keeper::new(self, feed.clone(), Limits::of(config), cursors);
        keeper.start(recovered, position).map_err(unwritten)?;
        let (heads, health) = keeper.seen();
        let metrics = Metrics::register(registry, heads.clone(), feed.clone())?;
        let stdout = config.signing.stdout;
        let (running, ended) = mpsc::channel();
        let run = move || {
            let _running = running;
            keeper.run(&metrics, stdout);
        };
        let thread = thread::Builder::new().name("audit-tree".into()).spawn(run).map_err(Error::Thread)?;
        Ok(Ledger { feed, heads, health, thread: Mutex::new(Some((thread, ended))) })
    }
}

fn has_segments(disk: &dyn Disk) -> std::io::Result<bool> {
    Ok(disk.names("")?.iter().any(|name| super::folder::Segment::of(Path::new(""), name).is_some()))
}

fn unfit(dir: &Path, why: impl std::fmt::Display) -> Error {
    let what = format!(
        "{why}; its tree of hashes is not as it was signed, and is not begun anew over it. Move the whole folder away, to be \
         looked into, and the gate begins another"
    );
    Error::Tree(dir.to_owned(), what)
}

fn refused(dir: &Path, keys: &Keys, why: &Unfit) -> Error {
    use super::tree::{checkpoint::Error as Bad, note::BadNote};
    match why {
        Unfit::Checkpoint(_, Bad::Note(BadNote::Unknown(_))) => {
            let why = format!(
                "{}: its log was signed by another key than {}; if that is meant, name the other key, as audit.pub has it, in \
                 audit.signing.previousKeys",
                dir.display(),
                keys.signing.verifier()
            );
            Error::Config("signing.keyFile", why)
        }
        Unfit::Io(..) | Unfit::Unread(..) => Error::Tree(
            dir.to_owned(),
            format!(
                "{why}; without it the tree of hashes cannot be gone on with: put it back, or move the whole folder away"
            ),
        ),
        why => unfit(dir, why),
    }
}

// === impl Ledger ===

impl Ledger {
    /// Where the journal's writer tells what it has written.
    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }

    /// The last checkpoint, and each that follows.
    pub(crate) fn heads(&self) -> watch::Receiver<Signed> {
        self.heads.clone()
    }

    /// What is wrong with the disk.
    pub(crate) fn healthy(&self) -> Result<(), String> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }

    /// Signs everything and the end, and ends the thread; blocks for some seconds if the disk fails or hangs. `lost`: events that were
    /// lost since the journal's last step.
    pub(crate) fn stop(&self, lost: u64) {
        self.stop_within(lost, LAST_WAIT);
    }

    fn stop_within(&self, lost: u64, limit: Duration) {
        let Some((thread, ended)) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        self.feed.stop(lost);
        if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            tracing::error!("the end of the audit journal is not signed: its disk hangs");
            return;
        }
        // One that fell over says so itself.
        let _ = thread.join();
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.stop(0);
    }
}

/// Seconds since 1970.
fn seconds(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests;
