//! The files of the tree, and the order in which they are written. All are below `log/`:
//!
//! | path | what |
//! |---|---|
//! | `tile/…` | tiles and entry bundles, as C2SP tlog-tiles |
//! | `position` | for the published checkpoint, and for the one that is under way, a line: its size; segment and offset of the journal up to which its leaves go; what the last prune said, sequence and segment |
//! | `checkpoint` | the signed head |
//!
//! A checkpoint over a tree that has grown takes these steps; the lines that its leaves commit to are on the disk before.
//!
//! | step | system calls | what a crash right after it leaves |
//! |---|---|---|
//! | 1 | each full and partial tile: a `.new` file in `log` written, synced, renamed to the tile; a full tile in the place of a partial one, left by an earlier crash, removed; their folders synced | the old checkpoint with its own tiles, and some that are written anew; no lines are lost: the next start commits to those after the old position |
//! | 2 | `position.new` written, synced, renamed | the same: the old checkpoint's line is still there |
//! | 3 | `checkpoint.new` written, synced | the same, or, if both names are there and whole, as after 4 |
//! | 4 | `log` synced | the next start finds the new checkpoint under its temporary name, position and tiles with it, and goes on from it |
//! | 5 | `checkpoint.new` renamed: the checkpoint is public | the same, or the new checkpoint in its place |
//! | 6 | `log` synced | the new checkpoint |
//! | 7 | the partial tiles of the checkpoint before the last one removed | some of them stay |
//!
//! So nothing was ever seen by a reader that a later start does not go on from: its tiles, its position and itself were
//! durable before it got its name. A checkpoint over the same tree at a later time is 3 and 5 only: losing it loses no leaf.
//! When any step fails, all are done again, under new descriptors, for the same tree; a later one comes after.

use super::{
    Position,
    disk::{Disk, parent, put, read_if_there},
};
use crate::audit::tree::{
    Head,
    checkpoint::Checkpoint,
    note::{Note, VerifierKey},
    tile::{BadTile, Entries, Holds, Tile, Tiles, WIDTH},
};
use std::{
    collections::{BTreeSet, HashSet},
    io,
    str::FromStr,
};

const CHECKPOINT: &str = "log/checkpoint";
const CHECKPOINT_NEW: &str = "log/checkpoint.new";
const POSITION: &str = "log/position";

/// What is known of a checkpoint's tree besides its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    /// Its leaves.
    pub(super) size: u64,
    /// Up to where they commit to the journal.
    pub(super) position: Position,
    /// What its last prune said.
    pub(super) pruned: Pruned,
}

/// What a prune said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Pruned {
    /// The lines of all sequences below are gone.
    pub(super) before: u64,
    /// The first segment that stays.
    pub(super) segment: u64,
}

/// A tree that is to be published.
#[derive(Debug, Clone)]
pub(super) struct Edition {
    /// The tree.
    pub(super) mark: Mark,
    /// Size and root.
    pub(super) head: Head,
    /// Tiles that are not on the disk yet.
    pub(super) tiles: Vec<(Tile, Vec<u8>)>,
}

/// A log that was found.
#[derive(Debug)]
pub(super) struct Found {
    /// What its newest checkpoint is of.
    pub(super) mark: Mark,
    /// The tree of that.
    pub(super) tiles: Tiles,
}

/// Why a log cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error("{0}: {1}")]
    Io(&'static str, #[source] io::Error),
    #[error("{0}: expected a signed checkpoint: {1}")]
    Checkpoint(&'static str, crate::audit::tree::checkpoint::Error),
    #[error("log/position: says nothing of the checkpoint over {0} leaves")]
    Position(u64),
    #[error("log/{0}: {1}")]
    Unread(Tile, #[source] io::Error),
    #[error("log/{0}")]
    Tile(#[from] BadTile),
    #[error("its tiles do not make the tree of {0} leaves that the checkpoint was signed over")]
    Root(u64),
}

/// The files.
pub(super) struct Store {
    disk: Box<dyn Disk>,
    /// Folders that are there for good.
    folders: HashSet<String>,
    /// The published tree.
    mark: Mark,
    /// Partial tiles of the published tree, and of the one before.
    partial: [Vec<Tile>; 2],
}

// === impl Store ===

impl Store {
    pub(super) fn new(disk: Box<dyn Disk>) -> Self {
        Self { disk, folders: HashSet::new(), mark: Mark::default(), partial: [Vec::new(), Vec::new()] }
    }

    pub(super) fn disk(&mut self) -> &mut dyn Disk {
        &mut *self.disk
    }

    /// The published tree.
    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    /// Which log the newest checkpoint is of, unverified; None when there is no checkpoint.
    pub(super) fn origin(&self) -> io::Result<Option<String>> {
        for path in [CHECKPOINT, CHECKPOINT_NEW] {
            let Some(note) = read_if_there(&*self.disk, path)? else { continue };
            let text = Note::parse(&note).ok().and_then(|note| Checkpoint::parse(note.unverified()).ok());
            match text {
                Some(checkpoint) => return Ok(Some(checkpoint.origin)),
                // Of the other one a crash can leave any part.
                None if path == CHECKPOINT => return Ok(Some(String::new())),
                None => {}
            }
        }
        Ok(None)
    }

    /// Whether there are tiles of more than a first leaf; a first start that was cut off leaves no more.
    pub(super) fn has_tiles(&self) -> io::Result<bool> {
        let first = |width| Tile { holds: Holds::Entries, index: 0, width };
        for tile in [first(2), first(WIDTH)] {
            if read_if_there(&*self.disk, &path(tile))?.is_some() {
                return Ok(true);
            }
        }
        Ok(self.marks()?.iter().any(|mark| mark.size > 1))
    }

    /// Goes on from the newest checkpoint, which one of `keys` must have signed for the log called `origin`.
    pub(super) fn resume(&mut self, origin: &str, keys: &[VerifierKey]) -> Result<Found, Unfit> {
        let public = self.found(CHECKPOINT, origin, keys);
        // A crash may have come before it got its name; whatever else is wrong with it does not matter.
        let newer = self.found(CHECKPOINT_NEW, origin, keys).ok().flatten();
        let found = match (public, newer) {
            (Ok(Some(public)), Some(newer)) if newer.mark.size <= public.mark.size => public,
            (Ok(_), Some(newer)) => {
                let fault = |e| Unfit::Io(CHECKPOINT_NEW, e);
                self.disk.rename(CHECKPOINT_NEW, CHECKPOINT).map_err(fault)?;
                self.disk.sync_folder("log").map_err(fault)?;
                newer
            }
            (Ok(Some(public)), None) => public,
            (Ok(None), None) => return Err(Unfit::Io(CHECKPOINT, io::ErrorKind::NotFound.into())),
            (Err(error), _) => return Err(error),
        };
        self.mark = found.mark;
        self.partial[0] = Tile::partial(found.mark.size);
        self.clear().map_err(|e| Unfit::Io("log/tile", e))?;
        Ok(found)
    }

    fn found(&self, name: &'static str, origin: &str, keys: &[VerifierKey]) -> Result<Option<Found>, Unfit> {
        let fault = |e| Unfit::Io(name, e);
        let Some(note) = read_if_there(&*self.disk, name).map_err(fault)? else { return Ok(None) };
        let checkpoint = Checkpoint::open(&note, origin, keys).map_err(|e| Unfit::Checkpoint(name, e))?;
        let size = checkpoint.head.size;
        let marks = self.marks().map_err(|e| Unfit::Io(POSITION, e))?;
        let mark = marks.into_iter().find(|mark| mark.size == size).ok_or(Unfit::Position(size))?;
        let tiles = Tiles::resume(size, |tile| self.tile(tile).map_err(|e| Unfit::Unread(tile, e)))?;
        if tiles.tree().head() != checkpoint.head {
            return Err(Unfit::Root(size));
        }
        Ok(Some(Found { mark, tiles }))
    }

    fn marks(&self) -> io::Result<Vec<Mark>> {
        let text = read_if_there(&*self.disk, POSITION)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Removes the partial tiles beside those of the published tree.
    fn clear(&mut self) -> io::Result<()> {
        for tile in Tile::partial(self.mark.size) {
            let kept = path(tile);
            let folder = parent(&kept).to_owned();
            // None, when a full tile has its place.
            for name in self.disk.names(&folder).unwrap_or_default() {
                let other = format!("{folder}/{name}");
                if other != kept {
                    self.disk.remove(&other)?;
                }
            }
        }
        Ok(())
    }

    /// The bytes of a stored tile; of one that is partial, perhaps those of the full one.
    pub(super) fn tile(&self, tile: Tile) -> io::Result<Vec<u8>> {
        match read_if_there(&*self.disk, &path(tile))? {
            Some(bytes) => Ok(bytes),
            None => self.disk.read(&path(tile.full())),
        }
    }

    /// All steps of the module's doc for a tree that has grown.
    pub(super) fn publish(&mut self, edition: &Edition, note: &str) -> io::Result<()> {
        let mut dirty = BTreeSet::new();
        let mut made = Vec::new();
        for (tile, _) in &edition.tiles {
            self.make_folders(&path(*tile), &mut made, &mut dirty)?;
        }
        let files: Vec<_> = edition.tiles.iter().map(|(tile, bytes)| (path(*tile), &bytes[..])).collect();
        put(&mut *self.disk, &files, &mut dirty)?;
        for (tile, _) in edition.tiles.iter().filter(|(tile, _)| !tile.is_full()) {
            let full = path(tile.full());
            self.disk.remove(&full)?;
            dirty.insert(parent(&full).to_owned());
        }
        let marks = format!("{}\n{}\n", Line(self.mark), Line(edition.mark));
        let mut log = BTreeSet::new();
        self.make_folders(POSITION, &mut made, &mut dirty)?;
        dirty.iter().try_for_each(|folder| self.disk.sync_folder(folder))?;
        put(&mut *self.disk, &[(POSITION.to_owned(), marks.as_bytes())], &mut log)?;
        self.disk.write(&[(CHECKPOINT_NEW.to_owned(), note.as_bytes())])?;
        self.disk.sync_folder("log")?;
        self.disk.rename(CHECKPOINT_NEW, CHECKPOINT)?;
        self.disk.sync_folder("log")?;
        self.folders.extend(made);
        self.mark = edition.mark;
        self.supersede(&edition.tiles);
        Ok(())
    }

    /// Steps 3 and 5: another time for the same tree.
    pub(super) fn renew(&mut self, note: &str) -> io::Result<()> {
        self.disk.write(&[(CHECKPOINT_NEW.to_owned(), note.as_bytes())])?;
        self.disk.rename(CHECKPOINT_NEW, CHECKPOINT)
    }

    /// Makes the folders that a path is in; what was not known to be durable becomes so with `dirty`.
    fn make_folders(
        &mut self,
        path: &str,
        made: &mut Vec<String>,
        dirty: &mut BTreeSet<String>,
    ) -> io::Result<()> {
        let folders = path.match_indices('/').map(|(end, _)| &path[..end]);
        for folder in folders {
            if !self.folders.contains(folder) && !made.iter().any(|known| known == folder) {
                self.disk.make_folder(folder)?;
                dirty.insert(parent(folder).to_owned());
                made.push(folder.to_owned());
            }
        }
        Ok(())
    }

    /// Removes the partial tiles of the checkpoint before the last: who reads the last has time to.
    fn supersede(&mut self, tiles: &[(Tile, Vec<u8>)]) {
        let partial = tiles.iter().map(|(tile, _)| *tile).filter(|tile| !tile.is_full()).collect();
        let last = std::mem::replace(&mut self.partial[0], partial);
        for old in std::mem::replace(&mut self.partial[1], last) {
            if self.partial.iter().any(|kept| kept.contains(&old)) {
                continue;
            }
            // One that stays does no harm.
            let old = path(old);
            let _ = self.disk.remove(&old);
            let _ = self.disk.remove_folder(parent(&old));
        }
    }

    /// The sequence of the first leaf from `from` on for which `wanted` is true, among those of full tiles.
    pub(super) fn find(
        &self,
        from: u64,
        size: u64,
        mut wanted: impl FnMut(&[u8]) -> bool,
    ) -> io::Result<Option<u64>> {
        let width = u64::from(WIDTH);
        for index in from / width..size / width {
            let bytes = self.disk.read(&path(Tile { holds: Holds::Entries, index, width: WIDTH }))?;
            let found = Entries(&bytes).position(|entry| entry.is_ok_and(&mut wanted));
            if let Some(at) = found {
                return Ok(Some(index * width + at as u64));
            }
        }
        Ok(None)
    }

    /// Removes the full tiles of which the published tree says that they may go, oldest first; those of higher levels stay.
    pub(super) fn prune_tiles(&mut self) -> io::Result<()> {
        let kinds = [Holds::Entries, Holds::Hashes(0)];
        let end = self.mark.pruned.before / u64::from(WIDTH);
        let place = |holds, index| path(Tile { holds, index, width: WIDTH });
        // What an earlier prune removed went from the beginning.
        let mut first = end;
        while first > 0 && kinds.iter().any(|holds| self.disk.look(&place(*holds, first - 1)).is_ok()) {
            first -= 1;
        }
        for index in first..end {
            for holds in kinds {
                let tile = place(holds, index);
                self.disk.remove(&tile)?;
                if index % 1000 == 999 && index > 999 {
                    self.disk.remove_folder(parent(&tile))?;
                    self.folders.remove(parent(&tile));
                }
            }
        }
        Ok(())
    }
}

/// Where a tile is.
fn path(tile: Tile) -> String {
    format!("log/{tile}")
}

/// A line of `position`.
struct Line(Mark);

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Mark { size, position: at, pruned } = self.0;
        write!(f, "{size} {} {} {} {}", at.segment, at.offset, pruned.before, pruned.segment)
    }
}

impl FromStr for Mark {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let numbers: Vec<u64> =
            line.split(' ').map(|n| n.parse().map_err(|_| ())).collect::<Result<_, _>>()?;
        let [size, segment, offset, before, first] = numbers[..] else { return Err(()) };
        Ok(Self { size, position: Position { segment, offset }, pruned: Pruned { before, segment: first } })
    }
}
