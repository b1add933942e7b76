//! The stored form of the tree (<https://c2sp.org/tlog-tiles>): files that hold 256 hashes, or 256 entries, each.
//!
//! `tile/0/<N>` holds the hashes of 256 leaves; each hash in `tile/<L>/<N>` is the root over a whole tile of the level below;
//! `tile/entries/<N>` holds the leaves themselves, each after its length in two big-endian bytes. The rightmost tiles are
//! partial, `.p/<W>` with the number of what they hold, until they are full. A number is written in groups of three digits,
//! all but the last after an `x`: `tile/0/x001/x234/067.p/8`.
//!
//! A tree of 70,000 leaves is in 273 full and one partial tile of level 0, one full and one partial tile of level 1, and one
//! partial tile of level 2, with one hash in it.
//!
//! Tiles are written before the checkpoint that covers them is signed: a log that goes on from less than it has signed
//! contradicts itself. A partial tile may be removed when the full one, or one of a later checkpoint, is there; a full one
//! when a prune that is signed names its end.

use super::{
    Hash, Tree,
    leaf::{Kind, Leaf},
    proof::Node,
};
use crate::audit::event::MicroTime;
use std::{collections::BTreeMap, fmt, str::FromStr};

/// Hashes, or entries, of a full tile.
pub const WIDTH: u16 = 256;
/// Levels of the tree between two levels of tiles.
const HEIGHT: u8 = 8;
/// Levels of tiles of the largest tree.
const LEVELS: u8 = 8;

/// One tile. Shown, and read, as its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// What it holds.
    pub holds: Holds,
    /// How many tiles of its kind are left of it.
    pub index: u64,
    /// How many hashes or entries it holds, 1 to [`WIDTH`].
    pub width: u16,
}

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holds {
    /// Hashes of this level: 0 are leaves, each further level is 256 times as high.
    Hashes(u8),
    /// Leaves.
    Entries,
}

/// A text that is no path of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected the path of a tile such as tile/0/x001/067 or tile/entries/002.p/8")]
pub struct BadPath;

/// Bytes that are not those of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTile {
    /// Too few hashes or entries, or a part of one.
    #[error("{0}: too short, or cut off")]
    Short(Tile),
    /// More than a full tile.
    #[error("{0}: too long")]
    Long(Tile),
    /// An entry is not the one whose hash is stored.
    #[error("{0}: its entry {1} is not the one whose hash is stored")]
    Entry(Tile, usize),
}

/// The growing tree: gives out tiles as they become full, and the partial ones when asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tiles {
    tree: Tree,
    /// The bytes of the partial tile of each level.
    hashes: Vec<Vec<u8>>,
    entries: Vec<u8>,
    full: Vec<(Tile, Vec<u8>)>,
}

/// Looks up the hashes of nodes in stored tiles, for proofs.
#[derive(Debug)]
pub struct Reader<F> {
    size: u64,
    read: F,
    /// The last tile of each level.
    last: BTreeMap<u8, (u64, Vec<u8>)>,
}

// === impl Tile ===

impl Tile {
    /// Whether nothing more can be put into it.
    pub fn is_full(self) -> bool {
        self.width == WIDTH
    }

    /// The same place, full.
    #[must_use]
    pub fn full(self) -> Self {
        Self { width: WIDTH, ..self }
    }

    /// The partial tiles of a tree of `size` leaves: the entries first, then the hashes from level 0 up.
    pub fn partial(size: u64) -> Vec<Self> {
        Self::right_edge(size).into_iter().filter(|tile| tile.width > 0).collect()
    }

    /// The tiles that are full in a tree of `new` leaves and were not in one of `old`, in the order of [`Tile::partial`].
    pub fn filled(old: u64, new: u64) -> Vec<Self> {
        let pairs = Self::right_edge(old).into_iter().zip(Self::right_edge(new));
        pairs
            .flat_map(|(from, to)| (from.index..to.index).map(move |index| Self { index, ..to }.full()))
            .collect()
    }

    /// The tile that holds `node`, or what it is the root of, as wide as a tree of `size` leaves has it.
    pub fn holding(node: Node, size: u64) -> Self {
        let level = node.level / HEIGHT;
        let index = Self::span(node).0 / u64::from(WIDTH);
        let stored = size.checked_shr(u32::from(level * HEIGHT)).unwrap_or(0);
        let width = stored.saturating_sub(index * u64::from(WIDTH)).min(WIDTH.into());
        Self { holds: Holds::Hashes(level), index, width: width as u16 }
    }

    /// The bytes that it takes of `bytes`, which may be those of a wider tile in the same place.
    pub fn trim(self, bytes: &[u8]) -> Result<&[u8], BadTile> {
        let length = match self.holds {
            Holds::Hashes(_) => usize::from(self.width) * Hash::BYTES,
            Holds::Entries => {
                let mut at = Entries(bytes);
                for _ in 0..self.width {
                    at.next().transpose().ok().flatten().ok_or(BadTile::Short(self))?;
                }
                bytes.len() - at.0.len()
            }
        };
        let trimmed = bytes.get(..length).ok_or(BadTile::Short(self))?;
        let rest = &bytes[length..];
        let (more, whole) = match self.holds {
            Holds::Hashes(_) => (rest.len() / Hash::BYTES, rest.len().is_multiple_of(Hash::BYTES)),
            Holds::Entries => (Entries(rest).count(), Entries(rest).all(|entry| entry.is_ok())),
        };
        if !whole {
            return Err(BadTile::Short(self));
        }
        if usize::from(self.width) + more > usize::from(WIDTH) {
            return Err(BadTile::Long(self));
        }
        Ok(trimmed)
    }

    /// The rightmost tile of every kind, full ones left of it; their width may be zero.
    fn right_edge(size: u64) -> Vec<Self> {
        let hashes = (0..LEVELS).map(|level| (Holds::Hashes(level), size >> (level * HEIGHT)));
        [(Holds::Entries, size)]
            .into_iter()
            .chain(hashes)
            .map(|(holds, stored)| {
                let width = stored % u64::from(WIDTH);
                Self { holds, index: stored / u64::from(WIDTH), width: width as u16 }
            })
            .collect()
    }

    /// Of the hashes of its level that are stored, the first that `node` is over, and how many.
    fn span(node: Node) -> (u64, u64) {
        let above = node.level % HEIGHT;
        (node.index << above, 1 << above)
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.holds {
            Holds::Hashes(level) => write!(f, "tile/{level}")?,
            Holds::Entries => write!(f, "tile/entries")?,
        }
        let groups = self.index.checked_ilog10().unwrap_or(0) / 3;
        for group in (0..=groups).rev() {
            let x = if group == 0 { "" } else { "x" };
            write!(f, "/{x}{:03}", self.index / 1000u64.pow(group) % 1000)?;
        }
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

impl FromStr for Tile {
    type Err = BadPath;

    fn from_str(path: &str) -> Result<Self, BadPath> {
        let (holds, place) =
            path.strip_prefix("tile/").and_then(|rest| rest.split_once('/')).ok_or(BadPath)?;
        let holds = match holds {
            "entries" => Holds::Entries,
            level => Holds::Hashes(level.parse().ok().filter(|level| *level < 64).ok_or(BadPath)?),
        };
        let (number, width) = match place.split_once(".p/") {
            Some((number, width)) => (number, width.parse().map_err(|_| BadPath)?),
            None => (place, WIDTH),
        };
        let mut index = 0u64;
        for group in number.split('/') {
            let group: u64 = group.trim_start_matches('x').parse().map_err(|_| BadPath)?;
            index = index.checked_mul(1000).and_then(|n| n.checked_add(group)).ok_or(BadPath)?;
        }
        let tile = Self { holds, index, width };
        // There is one way to write each; what was read loosely above shows here.
        if width == 0 || width > WIDTH || tile.to_string() != path {
            return Err(BadPath);
        }
        Ok(tile)
    }
}

/// The entries in the bytes of an entry tile; after an error there are no more.
#[derive(Debug, Clone)]
pub struct Entries<'a>(pub &'a [u8]);

/// An entry tile that ends in the middle of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the last entry is cut off")]
pub struct CutOff;

impl<'a> Iterator for Entries<'a> {
    type Item = Result<&'a [u8], CutOff>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let entry = self
            .0
            .split_first_chunk()
            .and_then(|(length, rest)| rest.split_at_checked(usize::from(u16::from_be_bytes(*length))));
        let (entry, rest) = entry.map_or((Err(CutOff), &[][..]), |(entry, rest)| (Ok(entry), rest));
        self.0 = rest;
        Some(entry)
    }
}

// === impl Tiles ===

impl Tiles {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on with a stored tree of `size` leaves. `read` is asked for its partial tiles, a few of them, and may answer
    /// with a wider tile of the same place.
    pub fn resume<E: From<BadTile>>(
        size: u64,
        mut read: impl FnMut(Tile) -> Result<Vec<u8>, E>,
    ) -> Result<Self, E> {
        let mut this = Self::new();
        let mut bundle = None;
        for tile in Tile::partial(size) {
            let bytes = read(tile)?;
            let bytes = tile.trim(&bytes)?.to_vec();
            match tile.holds {
                Holds::Entries => bundle = Some((tile, bytes)),
                Holds::Hashes(level) => {
                    this.hashes.resize(usize::from(level), Vec::new());
                    this.hashes.push(bytes);
                }
            }
        }
        if let Some((tile, bytes)) = bundle {
            let hashes = this.hashes.first().map_or(&[][..], |hashes| hashes);
            for (i, (entry, hash)) in Entries(&bytes).zip(hashes.chunks_exact(Hash::BYTES)).enumerate() {
                if entry.is_ok_and(|entry| Hash::leaf(entry).0 != hash) {
                    Err(BadTile::Entry(tile, i))?;
                }
            }
            this.entries = bytes;
        }
        let edge = Tree::nodes(size).into_iter().map(|node| {
            let tile = Tile::holding(node, size);
            let bytes = this.hashes.get(usize::from(node.level / HEIGHT)).map_or(&[][..], |b| b);
            root_in(node, bytes).ok_or(BadTile::Short(tile))
        });
        this.tree = Tree { size, edge: edge.collect::<Result<_, _>>()? };
        Ok(this)
    }

    /// The tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Adds a leaf, and tells it with the sequence that it got.
    pub fn append(&mut self, time: MicroTime, kind: Kind) -> Leaf {
        let leaf = Leaf { sequence: self.tree.size(), time, kind };
        let at = self.entries.len();
        self.entries.extend_from_slice(&[0; 2]);
        leaf.write(&mut self.entries);
        let entry = &self.entries[at + 2..];
        let (hash, length) = (Hash::leaf(entry), entry.len() as u16);
        self.entries[at..at + 2].copy_from_slice(&length.to_be_bytes());
        let Self { tree, hashes, entries, full } = self;
        tree.append_with(hash, |node, hash| {
            if node.level % HEIGHT != 0 {
                return;
            }
            let level = node.level / HEIGHT;
            if hashes.len() == usize::from(level) {
                hashes.push(Vec::new());
            }
            let Some(tile) = hashes.get_mut(usize::from(level)) else { return };
            tile.extend_from_slice(&hash.0);
            if tile.len() == usize::from(WIDTH) * Hash::BYTES {
                let (index, width) = (node.index / u64::from(WIDTH), WIDTH);
                if level == 0 {
                    full.push((Tile { holds: Holds::Entries, index, width }, std::mem::take(entries)));
                }
                full.push((Tile { holds: Holds::Hashes(level), index, width }, std::mem::take(tile)));
            }
        });
        leaf
    }

    /// The tiles that became full since this was last asked, in the order in which they did.
    pub fn take_full(&mut self) -> Vec<(Tile, Vec<u8>)> {
        std::mem::take(&mut self.full)
    }

    /// The partial tiles of the present size, in the order of [`Tile::partial`].
    pub fn partial(&self) -> impl Iterator<Item = (Tile, &[u8])> {
        Tile::partial(self.tree.size()).into_iter().map(|tile| {
            let bytes = match tile.holds {
                Holds::Entries => Some(&self.entries),
                Holds::Hashes(level) => self.hashes.get(usize::from(level)),
            };
            (tile, bytes.map_or(&[][..], |bytes| bytes))
        })
    }
}

// === impl Reader ===

impl<E: From<BadTile>, F: FnMut(Tile) -> Result<Vec<u8>, E>> Reader<F> {
    /// For the nodes of a tree of `size` leaves. `read` may answer with a wider tile of the same place, as there is when
    /// the tree has grown since.
    pub fn new(size: u64, read: F) -> Self {
        Self { size, read, last: BTreeMap::new() }
    }

    /// The hash of a full subtree.
    pub fn node(&mut self, node: Node) -> Result<Hash, E> {
        let tile = Tile::holding(node, self.size);
        let level = node.level / HEIGHT;
        if tile.width == 0 {
            Err(BadTile::Short(tile))?;
        }
        if self.last.get(&level).is_none_or(|(index, _)| *index != tile.index) {
            let bytes = (self.read)(tile)?;
            self.last.insert(level, (tile.index, tile.trim(&bytes)?.to_vec()));
        }
        let bytes = self.last.get(&level).map_or(&[][..], |(_, bytes)| bytes);
        Ok(root_in(node, bytes).ok_or(BadTile::Short(tile))?)
    }

    /// The tree, at this size or a smaller one, to go on from there.
    pub fn tree(&mut self, size: u64) -> Result<Tree, E> {
        let edge = Tree::nodes(size).into_iter().map(|node| self.node(node)).collect::<Result<_, _>>()?;
        Ok(Tree { size, edge })
    }
}

/// The hash of `node` in the bytes of the tile that holds it.
fn root_in(node: Node, tile: &[u8]) -> Option<Hash> {
    let (first, count) = Tile::span(node);
    let from = (first % u64::from(WIDTH)) as usize * Hash::BYTES;
    let bytes = tile.get(from..from + count as usize * Hash::BYTES)?;
    let mut tree = Tree::new();
    for hash in bytes.as_chunks().0 {
        tree.append(Hash(*hash));
    }
    Some(tree.root())
}

#[cfg(test)]
mod tests;
