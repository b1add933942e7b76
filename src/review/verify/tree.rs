//! The leaves of a record against its checkpoints, on a thread of its own.

use super::offbox::{Known, Root};
use crate::{
    audit::tree::{
        Hash, Head, Tree,
        leaf::{Kind, Leaf},
        proof::Node,
        tile::{Reader, Tile, WIDTH},
        verify::{self, Gone, Leaves, Pass, What},
    },
    review::record::{Record, Unusable},
};
use std::collections::BTreeMap;

/// Why the tree does not fit.
#[derive(Debug)]
pub(super) enum TreeFault {
    /// Its leaves, or a head; of the heads, which.
    Leaves(verify::Fault, Option<usize>),
    /// A stored hash is not that of the leaves below.
    Tile(Tile, u64),
    /// A file is missing, or is not what it should be.
    Unusable(u64, Unusable),
}

/// The sequences from which on there are leaves, and what those below `size` say is gone, whether or not they are right.
pub(super) fn survey(record: &Record, size: u64) -> Result<(u64, Gone), TreeFault> {
    let first = record
        .first_bundle(size)
        .map_err(|e| TreeFault::Unusable(0, Unusable::Io(record.dir.clone(), e)))?
        .unwrap_or(0)
        .saturating_mul(WIDTH.into());
    let mut gone = Gone::default();
    bundles(record, first, size, |leaf, _, _| {
        match Leaf::parse(leaf).map(|leaf| leaf.kind) {
            Ok(Kind::Prune { before, .. }) => gone.before = gone.before.max(before),
            Ok(Kind::Erase { line }) => drop(gone.erased.insert(line)),
            _ => {}
        }
        Ok(())
    })?;
    Ok((first, gone))
}

/// Finds the leaf that commits to a line, if one does, and how many other lines there are in between from `from` on.
pub(super) fn find(record: &Record, first: u64, size: u64, line: Hash, from: u64) -> Option<(Leaf, u64)> {
    let (mut found, mut before) = (None, 0);
    let _ = bundles(record, first, size, |bytes, _, _| {
        let Ok(leaf) = Leaf::parse(bytes) else { return Ok(()) };
        if leaf.line() == Some(line) && found.is_none_or(|(found, _): (Leaf, u64)| found.sequence < from) {
            found = Some((leaf, before));
        }
        before += u64::from(leaf.sequence >= from && leaf.line().is_some());
        Ok(())
    });
    found
}

/// Verifies the leaves from `first` to `size`, comparing with `heads`, which are in order; `batch` gets them.
pub(super) fn pass(
    record: &Record,
    first: u64,
    size: u64,
    heads: &[Known],
    mut batch: impl FnMut(Vec<Leaf>),
) -> Result<Leaves, TreeFault> {
    let unusable = |at| move |e| TreeFault::Unusable(at, e);
    let from = Reader::new(size, |tile| record.tile(tile)).tree(first.min(size)).map_err(unusable(0))?;
    let mut pass = Pass::new(from);
    let mut upper = Upper { record, size, tiles: BTreeMap::new(), fault: None };
    let mut heads = heads.iter().enumerate().peekable();
    let mut leaves = Vec::new();
    let mut due = |pass: &mut Pass| -> Result<(), TreeFault> {
        while let Some((i, known)) = heads.next_if(|(_, known)| known.size <= pass.found().tree.size()) {
            compare(pass, known).map_err(|fault| TreeFault::Leaves(fault, Some(i)))?;
        }
        Ok(())
    };
    due(&mut pass)?;
    bundles(record, first, size, |bytes, stored, ends| {
        let leaf = pass
            .leaf_with(bytes, Some(stored), |node, hash| upper.compare(node, hash))
            .map_err(|fault| TreeFault::Leaves(fault, None))?;
        if let Some(fault) = upper.fault.take() {
            return Err(fault);
        }
        leaves.push(leaf);
        if ends {
            batch(std::mem::take(&mut leaves));
        }
        due(&mut pass)
    })?;
    let later = heads.next().map(|(i, known)| (i, Head { size: known.size, root: Hash::EMPTY }));
    let (which, head) = later.unzip();
    pass.end(head).map_err(|fault| TreeFault::Leaves(fault, which))
}

/// Compares the tree so far, which is as large, or begins later.
fn compare(pass: &mut Pass, known: &Known) -> Result<(), verify::Fault> {
    let found = pass.found();
    let tree: &Tree = &found.tree;
    let root = match known.root {
        Root::Whole(root) => root,
        // With what it lacks taken from the tree itself, it is right when its beginning is.
        Root::Beginning(_) if known.size == tree.size() && known.root.is(tree.root()) => tree.root(),
        Root::Beginning(_) if known.size < found.first => Hash::EMPTY,
        Root::Beginning(_) => {
            let sequence = found.signed.max(found.first);
            return Err(verify::Fault { sequence, what: What::Root(known.size) });
        }
    };
    pass.head(Head { size: known.size, root })
}

/// Each leaf from `first` to `size` with its stored hash, and whether it is the last one of its bundle.
fn bundles(
    record: &Record,
    first: u64,
    size: u64,
    mut each: impl FnMut(&[u8], Hash, bool) -> Result<(), TreeFault>,
) -> Result<(), TreeFault> {
    let mut at = first;
    while at < size {
        let width = (size - at).min(WIDTH.into());
        let index = at / u64::from(WIDTH);
        let bundle = record.bundle(index, width as u16).map_err(|e| TreeFault::Unusable(at, e))?;
        for (i, (leaf, stored)) in (1..).zip(bundle.iter()) {
            each(leaf, stored, i == width)?;
        }
        at += width;
    }
    Ok(())
}

/// The stored hashes above the leaves.
struct Upper<'a> {
    record: &'a Record,
    size: u64,
    /// The last tile of each level.
    tiles: BTreeMap<u8, (Tile, Vec<u8>)>,
    fault: Option<TreeFault>,
}

impl Upper<'_> {
    /// Of a node that stands in a tile of level 1 or more, compares what is stored.
    fn compare(&mut self, node: Node, hash: Hash) {
        if node.level == 0 || !node.level.is_multiple_of(8) {
            return;
        }
        let level = node.level / 8;
        let tile = Tile::holding(node, self.size);
        if self.tiles.get(&level).is_none_or(|(last, _)| *last != tile) {
            let bytes = self.record.tile(tile).and_then(|bytes| Ok(tile.trim(&bytes)?.to_vec()));
            match bytes {
                Ok(bytes) => drop(self.tiles.insert(level, (tile, bytes))),
                Err(e) => {
                    self.fault = Some(TreeFault::Unusable(node.index << node.level, e));
                    return;
                }
            }
        }
        let bytes = self.tiles.get(&level).map_or(&[][..], |(_, bytes)| bytes);
        let place = (node.index % u64::from(WIDTH)) as usize * Hash::BYTES;
        if bytes.get(place..place + Hash::BYTES) != Some(&hash.0) {
            self.fault = Some(TreeFault::Tile(tile, node.index << node.level));
        }
    }
}
