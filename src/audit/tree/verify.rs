//! Reads a whole record again and names the first thing that does not fit.
//!
//! Two passes, each in one go over any amount of data: [`leaves`] computes the tree from its leaves and compares it with
//! every checkpoint; what that finds right is what the holder of the key signed. [`lines`] then compares the journal with
//! the leaves, so that whatever does not fit there was done to the journal.
//!
//! A line, or the beginning of the tree, may be missing only when a prune or an erase says so that a checkpoint covers.

use super::{
    Hash, Head, Tree,
    leaf::{BadLeaf, Kind, Leaf},
    proof::Node,
};
use std::collections::BTreeSet;

/// What [`leaves`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaves {
    /// The tree that they make.
    pub tree: Tree,
    /// The leaves from which on they were there.
    pub first: u64,
    /// The leaves that a checkpoint covers: those below this. What follows is an unsigned tail.
    pub signed: u64,
    /// Checkpoints that were compared.
    pub checkpoints: u64,
    /// Checkpoints over less than the first leaf that is there: nothing is known of them.
    pub unchecked: u64,
    /// Leaves of events.
    pub events: u64,
    /// Leaves of lines that a crash cut off.
    pub torn: u64,
    /// Events that were lost, as the record itself says.
    pub lost: u64,
    /// Lines that were committed to by a later process than the one that wrote them.
    pub recovered: u64,
    /// Starts without a stop before them.
    pub crashes: u64,
    /// Whether the last leaf is a stop.
    pub stopped: bool,
    /// What was removed, as far as a checkpoint covers it.
    pub gone: Gone,
}

/// Lines that need not be there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gone {
    /// Those of all sequences below this.
    pub before: u64,
    /// Single ones.
    pub erased: BTreeSet<u64>,
}

/// What [`lines`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lines {
    /// Lines that their leaf commits to.
    pub matched: u64,
    /// Lines that are missing as they may.
    pub absent: u64,
    /// Lines behind the last that a leaf commits to.
    pub uncommitted: u64,
}

/// The first thing that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sequence {sequence}: {what}")]
pub struct Fault {
    /// Where it is, or begins.
    pub sequence: u64,
    /// What it is.
    pub what: What,
}

/// What does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum What {
    /// The leaf cannot be read.
    #[error(transparent)]
    Leaf(#[from] BadLeaf),
    /// Another leaf stands there: one was removed, inserted or moved.
    #[error("the leaf of sequence {0} stands here")]
    Sequence(u64),
    /// Leaf and stored hash disagree: one of them was altered.
    #[error("the leaf is not the one whose hash is stored")]
    Hash,
    /// Leaves and checkpoint disagree: one was altered from here on.
    #[error("the leaves from here to {0} are not those that its checkpoint was made over")]
    Root(u64),
    /// The tree is shorter than a checkpoint.
    #[error("the leaves end here, but a checkpoint was made over {0} of them")]
    Truncated(u64),
    /// Checkpoints are given by size.
    #[error("a checkpoint over {0} leaves follows one over more")]
    Order(u64),
    /// A beginning is missing that nobody said was removed.
    #[error("the leaves begin only at {0}, and no prune says so that a checkpoint covers")]
    Gap(u64),
    /// A mark in a place where it cannot be.
    #[error("{0}")]
    Mark(&'static str),
    /// Another line, unlike any other, stands there.
    #[error("the line was altered")]
    Altered,
    /// The lines from here up to that of another sequence are missing.
    #[error("the lines from here to that of sequence {0} were removed")]
    Removed(u64),
    /// So many lines stand before this one that no leaf commits to at this place.
    #[error("{0} lines were inserted before this one")]
    Inserted(u64),
    /// The line comes later; that of another sequence stands in its place.
    #[error("the line of sequence {0} stands here; this one comes later")]
    Moved(u64),
    /// The journal is shorter than the tree.
    #[error("the lines end here: this one and all that follow were removed")]
    Ended,
}

/// Verifies the leaves of a tree against its checkpoints.
///
/// `from` is the tree of what is pruned before the first leaf, empty for a whole record; that it is the right one shows at
/// the first checkpoint. Each leaf comes with the hash that is stored for it, if there is one. `heads` are those of verified
/// checkpoints, by size; `seen` gets every leaf. Errors of the sources come back as they are.
pub fn leaves<B: AsRef<[u8]>, E>(
    from: Tree,
    leaves: impl IntoIterator<Item = Result<(B, Option<Hash>), E>>,
    heads: impl IntoIterator<Item = Result<Head, E>>,
    mut seen: impl FnMut(&Leaf),
) -> Result<Result<Leaves, Fault>, E> {
    let mut heads = heads.into_iter();
    let mut head = heads.next().transpose()?;
    let mut pass = Pass::new(from);
    let mut leaves = leaves.into_iter();
    loop {
        while let Some(due) = head.filter(|head| head.size <= pass.found.tree.size()) {
            if let Err(fault) = pass.head(due) {
                return Ok(Err(fault));
            }
            head = heads.next().transpose()?;
        }
        let Some((bytes, stored)) = leaves.next().transpose()? else { break };
        match pass.leaf(bytes.as_ref(), stored) {
            Ok(leaf) => seen(&leaf),
            Err(fault) => return Ok(Err(fault)),
        }
    }
    Ok(pass.end(head))
}

/// Verifies the lines of a journal against the leaves that [`leaves`] found right. `lines` are the hashes of the lines, in
/// their order; `gone` those that need not be there.
pub fn lines<E>(
    leaves: impl IntoIterator<Item = Result<Leaf, E>>,
    lines: impl IntoIterator<Item = Result<Hash, E>>,
    gone: &Gone,
) -> Result<Result<Lines, Fault>, E> {
    let (mut leaves, mut lines) = (leaves.into_iter(), lines.into_iter());
    let mut line = lines.next().transpose()?;
    let mut found = Lines::default();
    while let Some(leaf) = leaves.next().transpose()? {
        let Some(expected) = leaf.line() else { continue };
        if line == Some(expected) {
            found.matched += 1;
            line = lines.next().transpose()?;
        } else if leaf.sequence < gone.before || gone.erased.contains(&leaf.sequence) {
            found.absent += 1;
        } else {
            let what = match line {
                Some(line) => blame(expected, line, leaves, lines)?,
                None => What::Ended,
            };
            return Ok(Err(Fault { sequence: leaf.sequence, what }));
        }
    }
    while line.is_some() {
        found.uncommitted += 1;
        line = lines.next().transpose()?;
    }
    Ok(Ok(found))
}

/// Why `line` stands where `expected` should: looks for both in all that follows.
fn blame<E>(
    expected: Hash,
    line: Hash,
    leaves: impl Iterator<Item = Result<Leaf, E>>,
    lines: impl Iterator<Item = Result<Hash, E>>,
) -> Result<What, E> {
    let mut belongs = None;
    for leaf in leaves {
        let leaf = leaf?;
        if leaf.line() == Some(line) {
            belongs = Some(leaf.sequence);
            break;
        }
    }
    let mut before = None;
    for (i, later) in (1..).zip(lines) {
        if later? == expected {
            before = Some(i);
            break;
        }
    }
    Ok(match (belongs, before) {
        (Some(sequence), Some(_)) => What::Moved(sequence),
        (Some(sequence), None) => What::Removed(sequence),
        (None, Some(lines)) => What::Inserted(lines),
        (None, None) => What::Altered,
    })
}

/// The first pass, step by step: for who has more to do at each leaf than [`leaves`] does.
#[derive(Debug, Clone)]
pub struct Pass {
    found: Leaves,
    last_head: u64,
    /// What the leaves since the last checkpoint say was removed.
    unsigned: Gone,
    /// The last segment, first sequence that stays, and first segment that stays.
    segment: Option<u64>,
    pruned: (u64, u64),
}

impl Pass {
    /// Begins behind what is pruned, as [`leaves`] does.
    pub fn new(from: Tree) -> Self {
        let first = from.size();
        let found = Leaves {
            tree: from,
            first,
            signed: 0,
            checkpoints: 0,
            unchecked: 0,
            events: 0,
            torn: 0,
            lost: 0,
            recovered: 0,
            crashes: 0,
            stopped: false,
            gone: Gone::default(),
        };
        Self { found, last_head: 0, unsigned: Gone::default(), segment: None, pruned: (0, 0) }
    }

    /// What was found so far.
    pub fn found(&self) -> &Leaves {
        &self.found
    }

    /// Takes the next leaf, with the hash that is stored for it.
    pub fn leaf(&mut self, bytes: &[u8], stored: Option<Hash>) -> Result<Leaf, Fault> {
        self.leaf_with(bytes, stored, |_, _| ())
    }

    /// The same, telling each node that thereby became whole, as [`Tree::append_with`] does.
    pub fn leaf_with(
        &mut self,
        bytes: &[u8],
        stored: Option<Hash>,
        whole: impl FnMut(Node, Hash),
    ) -> Result<Leaf, Fault> {
        let sequence = self.found.tree.size();
        let fault = |what| Fault { sequence, what };
        let hash = Hash::leaf(bytes);
        if stored.is_some_and(|stored| stored != hash) {
            return Err(fault(What::Hash));
        }
        let leaf = Leaf::parse(bytes).map_err(|e| fault(e.into()))?;
        if leaf.sequence != sequence {
            return Err(fault(What::Sequence(leaf.sequence)));
        }
        self.mark(&leaf).map_err(|what| fault(What::Mark(what)))?;
        self.found.tree.append_with(hash, whole);
        Ok(leaf)
    }

    /// Counts a leaf, or tells why it cannot be where it is.
    fn mark(&mut self, leaf: &Leaf) -> Result<(), &'static str> {
        let found = &mut self.found;
        let is_start = matches!(leaf.kind, Kind::Start { .. });
        if !is_start && leaf.sequence == 0 {
            return Err("the first leaf is not a start");
        }
        if !is_start && found.stopped {
            return Err("something follows a stop that is not a start");
        }
        let was_stopped = std::mem::take(&mut found.stopped);
        match leaf.kind {
            Kind::Event(event) => {
                found.events += 1;
                found.lost = found.lost.saturating_add(event.lost);
            }
            Kind::Torn(_) => found.torn += 1,
            Kind::Start { recovered } => {
                found.recovered = found.recovered.saturating_add(recovered);
                // What stands before the first leaf that is there is not known.
                found.crashes += u64::from(!was_stopped && leaf.sequence > found.first);
            }
            Kind::Stop { lost } => {
                found.lost = found.lost.saturating_add(lost);
                found.stopped = true;
            }
            Kind::Rotate { segment } => {
                if self.segment.is_some_and(|last| segment <= last) {
                    return Err("the number of a segment does not grow");
                }
                self.segment = Some(segment);
            }
            Kind::Prune { before, segment } => {
                if before > leaf.sequence || before <= self.pruned.0 || segment <= self.pruned.1 {
                    return Err("a prune goes back, or ahead of itself");
                }
                self.pruned = (before, segment);
                self.unsigned.before = before;
            }
            Kind::Erase { line } => {
                if line >= leaf.sequence {
                    return Err("an erase names no line before itself");
                }
                self.unsigned.erased.insert(line);
            }
        }
        Ok(())
    }

    /// Compares the tree so far with the head of a checkpoint over as many leaves, or over fewer than are there.
    pub fn head(&mut self, head: Head) -> Result<(), Fault> {
        let found = &mut self.found;
        if head.size < self.last_head {
            return Err(Fault { sequence: head.size, what: What::Order(head.size) });
        }
        self.last_head = head.size;
        if head.size < found.first {
            found.unchecked += 1;
            return Ok(());
        }
        if head.root != found.tree.root() {
            return Err(Fault { sequence: found.signed.max(found.first), what: What::Root(head.size) });
        }
        found.checkpoints += 1;
        found.signed = head.size;
        found.gone.before = found.gone.before.max(self.unsigned.before);
        found.gone.erased.append(&mut self.unsigned.erased);
        Ok(())
    }

    /// Ends it. `head`: a checkpoint that is still to come.
    pub fn end(self, head: Option<Head>) -> Result<Leaves, Fault> {
        let Self { found, .. } = self;
        if let Some(head) = head {
            return Err(Fault { sequence: found.tree.size(), what: What::Truncated(head.size) });
        }
        if found.gone.before < found.first {
            return Err(Fault { sequence: found.gone.before, what: What::Gap(found.first) });
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
