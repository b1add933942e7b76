//! Proofs: that an entry is in a tree, and that one tree continues another (RFC 9162, sections 2.1.3 and 2.1.4).
//!
//! They are made from the hashes of full subtrees, which the caller looks up, in memory or in tiles ([`super::tile`]), and
//! verified with nothing but themselves.
//!
//! As texts they are what C2SP has: [`Inclusion`] is a [tlog-proof](https://c2sp.org/tlog-proof) whose extra data is the
//! leaf, and [`Consistency`] is what a [witness](https://c2sp.org/tlog-witness) is sent, `old` and the old size in its first line.

use super::{
    Hash, Head,
    checkpoint::{self, Checkpoint, decimal},
    leaf::{BadLeaf, Leaf},
    note::VerifierKey,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use std::fmt;

/// Hashes of a proof, at most: a tree of 2^64 leaves has paths no longer.
const LONGEST: usize = 128;
/// The first line of an [`Inclusion`].
const MAGIC: &str = "c2sp.org/tlog-proof@v1";

/// A full subtree: 2^`level` leaves from `index` times 2^`level` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// 0 is a leaf.
    pub level: u8,
    /// How many nodes of the level are left of it.
    pub index: u64,
}

/// That a leaf is in the tree of a checkpoint; shown as a tlog-proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inclusion {
    /// The bytes of the leaf.
    pub leaf: Vec<u8>,
    /// Where in the tree it is.
    pub index: u64,
    /// From [`inclusion`].
    pub path: Vec<Hash>,
    /// The checkpoint, signed.
    pub checkpoint: String,
}

/// That the tree of a checkpoint continues an older one; shown as the request to a witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consistency {
    /// Leaves of the older tree.
    pub old: u64,
    /// From [`consistency`].
    pub path: Vec<Hash>,
    /// The newer checkpoint, signed.
    pub checkpoint: String,
}

/// A proof that proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadProof {
    /// Its text.
    #[error("line {0} of the proof: expected {1}")]
    Text(usize, &'static str),
    /// An index, or a size, beyond the tree.
    #[error("{0} lies beyond a tree of {1} leaves")]
    Beyond(u64, u64),
    /// Too many hashes, or too few.
    #[error("the proof has {0} hashes, which is not the number that its place in the tree takes")]
    Length(usize),
    /// They lead to another root.
    #[error("the proof leads to another root")]
    Root,
    /// Its leaf is none.
    #[error(transparent)]
    Leaf(#[from] BadLeaf),
    /// Its leaf says that it belongs elsewhere.
    #[error("the leaf of sequence {0} stands at index {1}")]
    Sequence(u64, u64),
    /// Its checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
}

/// The proof that leaf `index` is in the tree of `size` leaves: the hashes beside its way to the root, the lowest first.
/// `hash` is asked for nodes that are full in a tree of that size. None for an index that is not in the tree.
pub fn inclusion<E>(
    index: u64,
    size: u64,
    hash: impl FnMut(Node) -> Result<Hash, E>,
) -> Option<Result<Vec<Hash>, E>> {
    if index >= size {
        return None;
    }
    let (mut from, mut to) = (0, size);
    let mut beside = Vec::new();
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            beside.push((middle, to));
            to = middle;
        } else {
            beside.push((from, middle));
            from = middle;
        }
    }
    Some(roots(beside, hash))
}

/// The proof that the tree of `size` leaves begins with the tree of `old` leaves; `hash` as for [`inclusion`]. Empty when
/// `old` is `size` or zero. None when there are fewer.
pub fn consistency<E>(
    old: u64,
    size: u64,
    hash: impl FnMut(Node) -> Result<Hash, E>,
) -> Option<Result<Vec<Hash>, E>> {
    if old > size {
        return None;
    }
    if old == 0 {
        return Some(Ok(Vec::new()));
    }
    let (mut from, mut to) = (0, size);
    let mut beside = Vec::new();
    while old != to {
        let middle = from + split(to - from);
        if old <= middle {
            beside.push((middle, to));
            to = middle;
        } else {
            beside.push((from, middle));
            from = middle;
        }
    }
    // The verifier knows the old root; a part of it has to be told.
    if from != 0 {
        beside.push((from, to));
    }
    Some(roots(beside, hash))
}

/// Verifies that `leaf`, a leaf's hash, is at `index` of the tree of `head`.
pub fn verify_inclusion(leaf: Hash, index: u64, head: Head, path: &[Hash]) -> Result<(), BadProof> {
    if index >= head.size {
        return Err(BadProof::Beyond(index, head.size));
    }
    let length = BadProof::Length(path.len());
    let (mut at, mut last) = (index, head.size - 1);
    let mut root = leaf;
    for beside in path {
        if last == 0 {
            return Err(length);
        }
        if at & 1 == 1 || at == last {
            root = Hash::node(beside, &root);
            // Levels at which the last node has nobody beside it.
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            root = Hash::node(&root, beside);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    match (last, root == head.root) {
        (0, true) => Ok(()),
        (0, false) => Err(BadProof::Root),
        _ => Err(length),
    }
}

/// Verifies that the tree of `new` begins with the tree of `old`.
pub fn verify_consistency(old: Head, new: Head, path: &[Hash]) -> Result<(), BadProof> {
    let length = BadProof::Length(path.len());
    if old.size > new.size {
        return Err(BadProof::Beyond(old.size, new.size));
    }
    if old.size == new.size || old.size == 0 {
        let same = if old.size == 0 { old.root == Hash::EMPTY } else { old.root == new.root };
        return match (path.is_empty(), same) {
            (true, true) => Ok(()),
            (true, false) => Err(BadProof::Root),
            (false, _) => Err(length),
        };
    }
    let mut path = path.iter();
    let first = if old.size.is_power_of_two() { Some(&old.root) } else { path.next() };
    let first = *first.ok_or(length.clone())?;
    let (mut at, mut last) = (old.size - 1, new.size - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let (mut old_root, mut new_root) = (first, first);
    for beside in path {
        if last == 0 {
            return Err(length);
        }
        if at & 1 == 1 || at == last {
            old_root = Hash::node(beside, &old_root);
            new_root = Hash::node(beside, &new_root);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            new_root = Hash::node(&new_root, beside);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    match (last, old_root == old.root && new_root == new.root) {
        (0, true) => Ok(()),
        (0, false) => Err(BadProof::Root),
        _ => Err(length),
    }
}

/// The full subtrees that leaves `from..to` are made of, greatest first. `from` must be a multiple of the greatest's size.
pub(super) fn full_subtrees(from: u64, to: u64) -> Vec<Node> {
    let mut at = from;
    (0..64)
        .rev()
        .filter(|level| (to - from) >> level & 1 == 1)
        .map(|level| {
            let node = Node { level, index: at >> level };
            at += 1 << level;
            node
        })
        .collect()
}

/// The greatest power of two below `leaves`, which is at least 2.
fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// The roots of ranges of leaves, the last range first.
fn roots<E>(ranges: Vec<(u64, u64)>, mut hash: impl FnMut(Node) -> Result<Hash, E>) -> Result<Vec<Hash>, E> {
    ranges
        .into_iter()
        .rev()
        .map(|(from, to)| {
            let parts: Result<Vec<Hash>, E> = full_subtrees(from, to).into_iter().map(&mut hash).collect();
            Ok(Hash::fold(&parts?))
        })
        .collect()
}

// === impl Inclusion ===

impl Inclusion {
    /// Reads what is shown.
    pub fn parse(text: &str) -> Result<Self, BadProof> {
        let mut lines = Lines { rest: text, number: 0 };
        if lines.next() != Some(MAGIC) {
            return Err(lines.expected(MAGIC));
        }
        let leaf = lines
            .next()
            .and_then(|line| line.strip_prefix("extra "))
            .and_then(|extra| BASE64.decode(extra).ok())
            .ok_or_else(|| lines.expected("extra and the leaf in base64"))?;
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix("index "))
            .and_then(decimal)
            .ok_or_else(|| lines.expected("index and a number"))?;
        let path = lines.path()?;
        Ok(Self { leaf, index, path, checkpoint: lines.rest.to_owned() })
    }

    /// The leaf and the checkpoint, when one of `keys` signed the checkpoint of the log called `origin`, and the leaf is in
    /// its tree at the place that it names.
    pub fn verify(&self, origin: &str, keys: &[VerifierKey]) -> Result<(Leaf, Checkpoint), BadProof> {
        let checkpoint = Checkpoint::open(self.checkpoint.as_bytes(), origin, keys)?;
        verify_inclusion(Hash::leaf(&self.leaf), self.index, checkpoint.head, &self.path)?;
        let leaf = Leaf::parse(&self.leaf)?;
        if leaf.sequence != self.index {
            return Err(BadProof::Sequence(leaf.sequence, self.index));
        }
        Ok((leaf, checkpoint))
    }
}

impl fmt::Display for Inclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{MAGIC}\nextra {}\nindex {}", BASE64.encode(&self.leaf), self.index)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

// === impl Consistency ===

impl Consistency {
    /// Reads what is shown.
    pub fn parse(text: &str) -> Result<Self, BadProof> {
        let mut lines = Lines { rest: text, number: 0 };
        let old = lines
            .next()
            .and_then(|line| line.strip_prefix("old "))
            .and_then(decimal)
            .ok_or_else(|| lines.expected("old and a number"))?;
        let path = lines.path()?;
        Ok(Self { old, path, checkpoint: lines.rest.to_owned() })
    }

    /// The newer checkpoint, when one of `keys` signed it for the log called `origin`, and its tree begins with that of
    /// `old`.
    pub fn verify(&self, old: Head, origin: &str, keys: &[VerifierKey]) -> Result<Checkpoint, BadProof> {
        let checkpoint = Checkpoint::open(self.checkpoint.as_bytes(), origin, keys)?;
        if old.size != self.old {
            return Err(BadProof::Text(1, "the size of the older checkpoint"));
        }
        verify_consistency(old, checkpoint.head, &self.path)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

/// A text line by line.
struct Lines<'a> {
    rest: &'a str,
    number: usize,
}

impl<'a> Lines<'a> {
    /// None when there is no further newline.
    fn next(&mut self) -> Option<&'a str> {
        self.number += 1;
        let (line, rest) = self.rest.split_once('\n')?;
        self.rest = rest;
        Some(line)
    }

    /// What the line that was just read should have been.
    fn expected(&self, what: &'static str) -> BadProof {
        BadProof::Text(self.number, what)
    }

    /// Hashes to an empty line.
    fn path(&mut self) -> Result<Vec<Hash>, BadProof> {
        let mut path = Vec::new();
        loop {
            match self.next() {
                Some("") => return Ok(path),
                Some(line) if path.len() < LONGEST => {
                    path.push(Hash::parse(line).ok_or_else(|| self.expected("a hash in base64"))?);
                }
                _ => return Err(self.expected("an empty line before the checkpoint")),
            }
        }
    }
}

#[cfg(test)]
mod tests;
