use super::{
    super::leaf::{AuditId, Event},
    *,
};
use crate::audit::event::{MicroTime, Stage};
use proptest::prelude::*;
use std::convert::Infallible;

/// A record as it lies on the disk.
#[derive(Clone)]
struct Record {
    leaves: Vec<Vec<u8>>,
    /// The stored hashes of the leaves.
    hashes: Vec<Hash>,
    lines: Vec<Hash>,
    heads: Vec<Head>,
}

fn line(i: u64) -> Kind {
    let line = Hash::of(format!("line {i}").as_bytes());
    Kind::Event(Event { stage: Stage::ResponseComplete, id: AuditId([0; 16]), line, lost: 0 })
}

impl Record {
    /// Of these leaves, with a checkpoint after every fourth and the last.
    fn of(kinds: &[Kind]) -> Self {
        let mut this = Self { leaves: Vec::new(), hashes: Vec::new(), lines: Vec::new(), heads: Vec::new() };
        let mut tree = Tree::new();
        for (sequence, kind) in (0..).zip(kinds) {
            let leaf = Leaf { sequence, time: MicroTime(0), kind: *kind };
            this.lines.extend(leaf.line());
            this.leaves.push(leaf.to_bytes());
            let hash = Hash::leaf(&leaf.to_bytes());
            this.hashes.push(hash);
            tree.append(hash);
            if sequence % 4 == 3 || sequence + 1 == kinds.len() as u64 {
                this.heads.push(tree.head());
            }
        }
        this
    }

    /// Start, rotate, eight lines at 2 to 9, stop.
    fn simple() -> Self {
        let mut kinds = vec![Kind::Start { recovered: 0 }, Kind::Rotate { segment: 1 }];
        kinds.extend((2..10).map(line));
        kinds.push(Kind::Stop { lost: 0 });
        Self::of(&kinds)
    }

    fn leaves(&self) -> Result<Leaves, Fault> {
        self.leaves_from(0)
    }

    /// As if all before `first` were pruned.
    fn leaves_from(&self, first: usize) -> Result<Leaves, Fault> {
        let mut from = Tree::new();
        self.hashes[..first].iter().for_each(|hash| from.append(*hash));
        let stored = self.hashes.iter().map(|hash| Some(*hash)).chain(std::iter::repeat(None));
        let entries = self.leaves.iter().zip(stored).skip(first).map(Ok::<_, Infallible>);
        let Ok(found) = leaves(from, entries, self.heads.iter().copied().map(Ok), |_| ());
        found
    }

    fn lines(&self, gone: &Gone) -> Result<Lines, Fault> {
        let leaves = self.leaves.iter().map(|bytes| Ok::<_, Infallible>(Leaf::parse(bytes).unwrap()));
        let Ok(found) = lines(leaves, self.lines.iter().copied().map(Ok), gone);
        found
    }

    /// Makes a leaf anew, and the stored hash with it, as somebody would who has no key.
    fn rewrite(&mut self, at: usize, kind: Kind) {
        let bytes = Leaf { sequence: at as u64, time: MicroTime(0), kind }.to_bytes();
        self.hashes[at] = Hash::leaf(&bytes);
        self.leaves[at] = bytes;
    }
}

fn fault<T>(sequence: u64, what: What) -> Result<T, Fault> {
    Err(Fault { sequence, what })
}

#[test]
fn a_whole_record_fits() {
    let record = Record::simple();
    let found = record.leaves().unwrap();
    assert_eq!((found.tree.head(), found.signed), (record.heads[2], 11));
    assert_eq!((found.checkpoints, found.events, found.stopped, found.crashes), (3, 8, true, 0));
    assert_eq!(found.gone, Gone::default());
    assert_eq!(record.lines(&found.gone), Ok(Lines { matched: 8, ..Lines::default() }));
}

#[test]
fn an_empty_record_fits() {
    let mut record = Record::of(&[]);
    assert_eq!(record.leaves().unwrap().tree, Tree::new());
    record.heads = vec![Head { size: 0, root: Hash::EMPTY }; 3];
    assert_eq!(record.leaves().unwrap().checkpoints, 3);
    assert_eq!(record.lines(&Gone::default()), Ok(Lines::default()));
    record.heads[2].root = Hash::of(b"x");
    assert_eq!(record.leaves(), fault(0, What::Root(0)));
}

#[test]
fn what_is_done_to_the_journal_is_named() {
    type Change = fn(&mut Vec<Hash>);
    let other = || Hash::of(b"another line");
    // The line of sequence n is at n - 2.
    let rows: [(Change, u64, What); 14] = [
        (|lines| lines[3] = Hash::of(b"x"), 5, What::Altered),
        (|lines| lines[0] = Hash::of(b"x"), 2, What::Altered),
        (|lines| lines[7] = Hash::of(b"x"), 9, What::Altered),
        (|lines| _ = lines.remove(3), 5, What::Removed(6)),
        (|lines| drop(lines.drain(1..4)), 3, What::Removed(6)),
        (|lines| lines.insert(3, Hash::of(b"x")), 5, What::Inserted(1)),
        (|lines| lines.insert(0, Hash::of(b"x")), 2, What::Inserted(1)),
        (|lines| lines.insert(4, lines[1]), 6, What::Inserted(1)),
        (|lines| drop(lines.splice(3..3, [Hash::of(b"x"), Hash::of(b"y")])), 5, What::Inserted(2)),
        (|lines| lines.swap(2, 3), 4, What::Moved(5)),
        (|lines| lines[1..].reverse(), 3, What::Moved(9)),
        (|lines| lines.truncate(5), 7, What::Ended),
        (|lines| _ = lines.pop(), 9, What::Ended),
        (Vec::clear, 2, What::Ended),
    ];
    for (i, (change, sequence, what)) in rows.into_iter().enumerate() {
        let mut record = Record::simple();
        change(&mut record.lines);
        assert_eq!(record.lines(&Gone::default()), fault(sequence, what), "row {i}");
    }
    let mut record = Record::simple();
    record.lines.extend([other(), other()]);
    let found = record.lines(&Gone::default());
    assert_eq!(found, Ok(Lines { matched: 8, absent: 0, uncommitted: 2 }));
}

#[test]
fn what_is_done_to_the_leaves_is_named() {
    type Change = fn(&mut Record);
    let rows: [(Change, u64, What); 17] = [
        // With files changed one at a time the place shows.
        (|r| r.leaves[5][40] ^= 1, 5, What::Hash),
        (|r| r.hashes[5].0[0] ^= 1, 5, What::Hash),
        (|r| r.leaves.swap(5, 6), 5, What::Hash),
        (|r| drop(r.leaves.remove(5)), 5, What::Hash),
        (|r| drop((r.leaves.remove(5), r.hashes.remove(5))), 5, What::Sequence(6)),
        (|r| r.leaves.truncate(9), 9, What::Truncated(11)),
        // Whoever rewrites all of them still lacks the key.
        (|r| r.rewrite(5, line(77)), 4, What::Root(8)),
        (|r| r.rewrite(1, Kind::Rotate { segment: 2 }), 0, What::Root(4)),
        (|r| r.rewrite(8, line(77)), 8, What::Root(11)),
        (|r| (5..10).for_each(|i| r.rewrite(i, line(i as u64 + 1))), 4, What::Root(8)),
        (
            |r| {
                r.leaves.insert(5, r.leaves[4].clone());
                r.hashes.insert(5, r.hashes[4]);
            },
            5,
            What::Sequence(4),
        ),
        // Checkpoints.
        (|r| r.heads[1].root = Hash::EMPTY, 4, What::Root(8)),
        (|r| r.heads[1].size = 7, 4, What::Root(7)),
        (|r| r.heads.swap(0, 1), 4, What::Order(4)),
        (|r| r.heads.push(Head { size: 12, root: Hash::EMPTY }), 11, What::Truncated(12)),
        (|r| r.heads.push(Head { size: 11, root: Hash::EMPTY }), 11, What::Root(11)),
        (|r| r.heads.insert(0, Head { size: 0, root: Hash::of(b"x") }), 0, What::Root(0)),
    ];
    for (i, (change, sequence, what)) in rows.into_iter().enumerate() {
        let mut record = Record::simple();
        change(&mut record);
        assert_eq!(record.leaves(), fault(sequence, what), "row {i}");
    }
    let mut record = Record::simple();
    record.leaves[5].pop();
    record.hashes[5] = Hash::leaf(&record.leaves[5]);
    assert_eq!(record.leaves(), fault(5, What::Leaf(BadLeaf::Length(74))));
}

#[test]
fn what_no_checkpoint_covers_is_told() {
    let mut record = Record::simple();
    record.heads.pop();
    assert_eq!(record.leaves().unwrap().signed, 8);
    record.heads.clear();
    let found = record.leaves().unwrap();
    assert_eq!((found.signed, found.checkpoints, found.tree.size()), (0, 0, 11));
}

#[test]
fn checkpoints_may_come_again() {
    let mut record = Record::simple();
    let doubled = record.heads.iter().flat_map(|head| [*head; 3]).collect();
    record.heads = doubled;
    assert_eq!(record.leaves().unwrap().checkpoints, 9);
}

#[test]
fn marks_stand_where_they_can() {
    let start = Kind::Start { recovered: 0 };
    let stop = Kind::Stop { lost: 0 };
    let rotate = |segment| Kind::Rotate { segment };
    let prune = |before, segment| Kind::Prune { before, segment };
    let erase = |line| Kind::Erase { line };
    let rows: [(&[Kind], Option<u64>); 21] = [
        (&[start], None),
        (&[start, stop, start, stop], None),
        (&[start, start, stop], None),
        (&[start, rotate(1), line(1), rotate(2), rotate(9)], None),
        (&[start, prune(1, 1), prune(2, 2)], None),
        (&[start, line(1), erase(1), erase(1)], None),
        (&[line(1)], Some(0)),
        (&[stop], Some(0)),
        (&[rotate(1)], Some(0)),
        (&[start, stop, line(1)], Some(2)),
        (&[start, stop, stop], Some(2)),
        (&[start, stop, rotate(1)], Some(2)),
        (&[start, rotate(1), rotate(1)], Some(2)),
        (&[start, rotate(2), start, rotate(1)], Some(3)),
        (&[start, prune(2, 1)], Some(1)),
        (&[start, prune(0, 1)], Some(1)),
        (&[start, prune(1, 0)], Some(1)),
        (&[start, prune(1, 1), prune(1, 2)], Some(2)),
        (&[start, prune(1, 1), prune(2, 1)], Some(2)),
        (&[start, erase(1)], Some(1)),
        (&[start, erase(7)], Some(1)),
    ];
    for (kinds, want) in rows {
        let found = Record::of(kinds).leaves();
        let fault = match found {
            Ok(_) => None,
            Err(Fault { sequence, what: What::Mark(_) }) => Some(sequence),
            Err(other) => panic!("{kinds:?}: {other}"),
        };
        assert_eq!(fault, want, "{kinds:?}");
    }
}

#[test]
fn runs_are_counted() {
    let lost = |lost| match line(1) {
        Kind::Event(event) => Kind::Event(Event { lost, ..event }),
        other => other,
    };
    let record = Record::of(&[
        Kind::Start { recovered: 0 },
        lost(3),
        Kind::Start { recovered: 2 },
        line(2),
        Kind::Torn(Hash::of(b"li")),
        lost(u64::MAX),
        Kind::Stop { lost: 4 },
        Kind::Start { recovered: 1 },
        Kind::Stop { lost: 0 },
    ]);
    let found = record.leaves().unwrap();
    assert_eq!((found.events, found.torn, found.crashes, found.recovered), (3, 1, 1, 3));
    assert_eq!((found.lost, found.stopped), (u64::MAX, true));
    assert_eq!(record.lines(&Gone::default()).unwrap().matched, 4);
}

/// Start, rotate, lines 2 and 3, rotate, lines 5 and 6, a prune of the first segment, line 8, an erasure of line 6.
fn pruned() -> Record {
    Record::of(&[
        Kind::Start { recovered: 0 },
        Kind::Rotate { segment: 1 },
        line(2),
        line(3),
        Kind::Rotate { segment: 2 },
        line(5),
        line(6),
        Kind::Prune { before: 4, segment: 2 },
        line(8),
        Kind::Erase { line: 6 },
    ])
}

#[test]
fn what_was_removed_by_the_rules_may_be_missing() {
    let record = pruned();
    let found = record.leaves().unwrap();
    let gone = Gone { before: 4, erased: BTreeSet::from([6]) };
    assert_eq!(found.gone, gone);
    // All of it may still be there, any part of what is pruned and erased may be gone, and nothing else.
    let sequences = [2, 3, 5, 6, 8];
    for keep in 0..1u32 << 5 {
        let mut some = record.clone();
        let kept = |i: &usize| keep >> i & 1 == 1;
        some.lines = (0..5).filter(kept).map(|i| record.lines[i]).collect();
        let first_wrong = (0..5).filter(|i| !kept(i)).map(|i| sequences[i]).find(|s| [5, 8].contains(s));
        let got = some.lines(&gone).map_err(|fault| fault.sequence);
        let matched = u64::from(keep.count_ones());
        let want = Lines { matched, absent: 5 - matched, uncommitted: 0 };
        assert_eq!(got, first_wrong.map_or(Ok(want), Err), "{keep:05b}");
    }
    let mut replaced = record;
    replaced.lines[3] = Hash::of(b"x");
    assert_eq!(replaced.lines(&gone), fault(8, What::Inserted(1)));
}

#[test]
fn a_beginning_may_be_missing_when_a_signed_prune_says_so() {
    let record = pruned();
    for first in 0..=4 {
        let found = record.leaves_from(first).unwrap();
        assert_eq!((found.first, found.gone.before, found.signed), (first as u64, 4, 10));
        assert_eq!(found.unchecked, 0);
    }
    // More than the prune says.
    for first in 5..=7 {
        assert_eq!(record.leaves_from(first), fault(4, What::Gap(first as u64)));
    }
    // The prune itself is missing, or no checkpoint covers it.
    assert_eq!(record.leaves_from(8), fault(0, What::Gap(8)));
    let mut unsigned = pruned();
    unsigned.heads.truncate(1);
    assert_eq!(unsigned.leaves_from(4), fault(0, What::Gap(4)));
    assert_eq!(unsigned.leaves().unwrap().gone, Gone::default());
    // Another beginning than there was.
    let mut other = pruned();
    other.hashes[1] = Hash::of(b"x");
    assert_eq!(other.leaves_from(4), fault(4, What::Root(4)));
    other.heads.remove(0);
    assert_eq!(other.leaves_from(4), fault(4, What::Root(8)));
}

#[test]
fn checkpoints_over_what_is_pruned_are_counted() {
    let mut record = pruned();
    let mut head = record.heads[0];
    head.size = 3;
    record.heads.insert(0, head);
    assert_eq!(record.leaves_from(4).unwrap().unchecked, 1);
}

#[test]
fn faults_are_said_in_words() {
    let rows = [
        (What::Altered, "sequence 7: the line was altered"),
        (What::Removed(9), "sequence 7: the lines from here to that of sequence 9 were removed"),
        (What::Leaf(BadLeaf::Kind(9)), "sequence 7: leaf of kind 9, expected 1 to 7"),
        (What::Mark("x"), "sequence 7: x"),
    ];
    for (what, want) in rows {
        assert_eq!(Fault { sequence: 7, what }.to_string(), want);
    }
}

#[test]
fn the_errors_of_the_sources_come_back() {
    let none = Vec::<Result<Head, &str>>::new;
    let bad = [Err::<(Vec<u8>, _), _>("leaves")];
    assert_eq!(leaves(Tree::new(), bad, none(), |_| ()), Err("leaves"));
    let nothing = Vec::<Result<(Vec<u8>, _), _>>::new();
    assert_eq!(leaves(Tree::new(), nothing, [Err("heads")], |_| ()), Err("heads"));
    let leaf = Leaf { sequence: 0, time: MicroTime(0), kind: line(0) };
    let gone = Gone::default();
    assert_eq!(lines([Err("leaves")], [Ok(Hash::EMPTY)], &gone), Err("leaves"));
    assert_eq!(lines([Ok(leaf)], [Err("lines")], &gone), Err("lines"));
    assert_eq!(lines([Ok(leaf)], [Ok(Hash::EMPTY), Err("lines")], &gone), Err("lines"));
}

proptest! {
    #[test]
    fn no_change_goes_unnoticed(
        at: prop::sample::Index,
        other: prop::sample::Index,
        how in 0..5,
        bit in 0..600usize,
    ) {
        let whole = Record::simple();
        let mut record = whole.clone();
        let (at, other) = (at.index(8), other.index(8));
        match how {
            0 => record.lines[at].0[bit % 32] ^= 1,
            1 => drop(record.lines.remove(at)),
            2 => record.lines.insert(at, Hash::of(b"x")),
            3 => record.lines.swap(at, other),
            _ => {
                let bytes = &mut record.leaves[at + 2];
                bytes[bit / 8] ^= 1 << (bit % 8);
                record.hashes[at + 2] = Hash::leaf(bytes);
            }
        }
        prop_assume!(record.lines != whole.lines || record.leaves != whole.leaves);
        let (leaves, lines) = (record.leaves(), record.leaves().and_then(|found| record.lines(&found.gone)));
        prop_assert_eq!(leaves.is_err(), how > 3);
        // Up to the first place, everything was as it was.
        let first = (at.min(if how == 3 { other } else { at }) + 2) as u64;
        match lines {
            Err(fault) if how > 3 => prop_assert!(fault.sequence <= first && first < fault.sequence + 4),
            Err(fault) => prop_assert_eq!(fault.sequence, first),
            Ok(found) => prop_assert!(found.uncommitted > 0),
        }
    }
}
