//! The hash tree over the record: what makes an altered record noticed.
//!
//! Every line of the journal has a small leaf that commits to it ([`leaf`]). The leaves are the entries of one tree in the
//! sense of RFC 6962 and RFC 9162, which only ever grows, across segments and restarts. Its size and root, signed, are a
//! checkpoint ([`checkpoint`], [`note`]); whoever keeps one can later tell whether the record that it was made over is
//! still the same. Leaves and hashes are stored as C2SP tlog-tiles ([`tile`]), from which proofs of single entries, and that
//! one checkpoint continues another, are made ([`proof`]). [`verify`] reads all of it and names the first thing that does
//! not fit.
//!
//! ```text
//! line of the journal --SHA-256--> leaf --RFC 6962--> tree --size, root--> checkpoint --Ed25519--> signed note
//! ```
//!
//! Nothing here reads a clock or a file: bytes in, bytes out.

pub mod checkpoint;
pub mod leaf;
pub mod note;
pub mod proof;
pub mod tile;
pub mod verify;

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use proof::Node;
use std::fmt;

/// A SHA-256 hash: of a line, a leaf or an inner node. Shown as base64 with padding, as checkpoints and proofs write it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; Self::BYTES]);

/// What a checkpoint says of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// How many leaves it has.
    pub size: u64,
    /// The hash of them all.
    pub root: Hash,
}

/// A tree that only grows, of which the right edge is kept: the roots of the full subtrees that make up its leaves, greatest
/// first. There are as many of them as the size has ones in binary, so at most 64.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    size: u64,
    edge: Vec<Hash>,
}

/// A right edge that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tree of {size} leaves has an edge of {} hashes, found {found}", size.count_ones())]
pub struct BadEdge {
    /// Leaves of the tree.
    pub size: u64,
    /// Hashes that were given.
    pub found: usize,
}

// === impl Hash ===

impl Hash {
    /// Bytes of a hash.
    pub const BYTES: usize = 32;

    /// The root of a tree without leaves.
    pub const EMPTY: Self = Self([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
        0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
    ]);

    /// SHA-256 of `bytes`, such as a line of the journal without its newline.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_digest(&digest::digest(&digest::SHA256, bytes))
    }

    /// The hash of an entry of the tree: a zero byte goes before it.
    pub fn leaf(entry: &[u8]) -> Self {
        // One call over one buffer takes half the time of three calls; our own entries all fit.
        let mut whole = [0; 1 + leaf::LONGEST];
        if let Some(place) = whole.get_mut(1..=entry.len()) {
            place.copy_from_slice(entry);
            return Self::of(&whole[..=entry.len()]);
        }
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&[0]);
        context.update(entry);
        Self::from_digest(&context.finish())
    }

    /// The hash of an inner node: a one goes before its halves.
    pub fn node(left: &Self, right: &Self) -> Self {
        let mut whole = [1; 1 + 2 * Self::BYTES];
        whole[1..=Self::BYTES].copy_from_slice(&left.0);
        whole[1 + Self::BYTES..].copy_from_slice(&right.0);
        Self::of(&whole)
    }

    /// Reads what is shown; None for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        // Decoding fails in a buffer that is too small, so nothing long is ever decoded.
        let mut bytes = [0; Self::BYTES + 1];
        let length = BASE64.decode_slice(text, &mut bytes).ok()?;
        bytes[..length].try_into().ok().map(Self)
    }

    /// The root over the roots of full subtrees, greatest first.
    fn fold(edge: &[Self]) -> Self {
        let mut from_right = edge.iter().rev();
        let Some(last) = from_right.next() else { return Self::EMPTY };
        from_right.fold(*last, |right, left| Self::node(left, &right))
    }

    fn from_digest(digest: &digest::Digest) -> Self {
        let mut bytes = [0; Self::BYTES];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl Tree ===

impl Tree {
    /// A tree without leaves.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tree of `size` leaves with this right edge: the hashes of [`Tree::nodes`], in their order. Whether they are the
    /// right ones only a checkpoint can tell.
    pub fn with_edge(size: u64, edge: Vec<Hash>) -> Result<Self, BadEdge> {
        if edge.len() != size.count_ones() as usize {
            return Err(BadEdge { size, found: edge.len() });
        }
        Ok(Self { size, edge })
    }

    /// The full subtrees that make up a tree of `size` leaves, greatest first.
    pub fn nodes(size: u64) -> Vec<Node> {
        proof::full_subtrees(0, size)
    }

    /// How many leaves there are; also the sequence of the next one.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The right edge, as [`Tree::with_edge`] takes it.
    pub fn edge(&self) -> &[Hash] {
        &self.edge
    }

    /// Size and root.
    pub fn head(&self) -> Head {
        Head { size: self.size, root: self.root() }
    }

    /// The root: one hash for every one in the binary size.
    pub fn root(&self) -> Hash {
        Hash::fold(&self.edge)
    }

    /// Adds a leaf's hash.
    pub fn append(&mut self, leaf: Hash) {
        self.append_with(leaf, |_, _| ());
    }

    /// The same, telling each node that thereby became whole, with its hash, from the leaf upwards.
    pub fn append_with(&mut self, leaf: Hash, mut whole: impl FnMut(Node, Hash)) {
        let (mut node, mut hash) = (Node { level: 0, index: self.size }, leaf);
        whole(node, hash);
        while node.index & 1 == 1
            && let Some(left) = self.edge.pop()
        {
            node = Node { level: node.level + 1, index: node.index >> 1 };
            hash = Hash::node(&left, &hash);
            whole(node, hash);
        }
        self.edge.push(hash);
        self.size += 1;
    }
}

#[cfg(test)]
mod tests;
