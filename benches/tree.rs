//! What tamper evidence costs: a leaf appended, a checkpoint signed, a record verified.

// A benchmark that cannot run must say so.
#![allow(clippy::expect_used)]

use divan::{
    Bencher, black_box,
    counter::{BytesCount, ItemsCount},
};
use gatelog::audit::{
    event::{MicroTime, Stage},
    tree::{
        Hash, Tree,
        checkpoint::Checkpoint,
        leaf::{AuditId, Event, Kind, Leaf},
        note::SigningKey,
        tile::Tiles,
        verify::{self, Gone},
    },
};
use std::convert::Infallible;

fn main() {
    divan::main();
}

/// Leaves of a sample.
const LEAVES: u64 = 100_000;
/// Bytes of a line: a Metadata event takes about so many.
const LINE: usize = 900;

fn event(line: Hash) -> Kind {
    Kind::Event(Event { stage: Stage::ResponseComplete, id: AuditId([7; 16]), line, lost: 0 })
}

fn leaves(lines: impl IntoIterator<Item = Hash>) -> Vec<Leaf> {
    let kinds = [Kind::Start { recovered: 0 }].into_iter().chain(lines.into_iter().map(event));
    (0..).zip(kinds).map(|(sequence, kind)| Leaf { sequence, time: MicroTime(0), kind }).collect()
}

/// Into the tree alone.
#[divan::bench]
fn append_hash(bencher: Bencher<'_, '_>) {
    let hash = Hash::of(b"a leaf");
    bencher.counter(ItemsCount::new(LEAVES)).bench_local(|| {
        let mut tree = Tree::new();
        (0..LEAVES).for_each(|_| tree.append(black_box(hash)));
        tree.root()
    });
}

/// Encoded, hashed, into the tree and its tiles.
#[divan::bench]
fn append_leaf(bencher: Bencher<'_, '_>) {
    let kind = event(Hash::of(b"a line"));
    bencher.counter(ItemsCount::new(LEAVES)).bench_local(|| {
        let mut tiles = Tiles::new();
        for _ in 0..LEAVES {
            tiles.append(MicroTime(0), black_box(kind));
        }
        tiles.take_full()
    });
}

/// The same, and the line hashed before.
#[divan::bench]
fn append_line(bencher: Bencher<'_, '_>) {
    let line = vec![b'x'; LINE];
    bencher.counter(ItemsCount::new(LEAVES)).bench_local(|| {
        let mut tiles = Tiles::new();
        for _ in 0..LEAVES {
            tiles.append(MicroTime(0), event(Hash::of(black_box(&line))));
        }
        tiles.take_full()
    });
}

#[divan::bench]
fn sign_checkpoint(bencher: Bencher<'_, '_>) {
    let key = SigningKey::generate("gatelog.example/0").expect("a key");
    let mut tree = Tree::new();
    (0..LEAVES - 1).for_each(|_| tree.append(Hash::EMPTY));
    bencher.bench_local(|| Checkpoint::new("gatelog.example/0", tree.head(), 1).sign(&key).expect("a note"));
}

#[divan::bench]
fn open_checkpoint(bencher: Bencher<'_, '_>) {
    let key = SigningKey::generate("gatelog.example/0").expect("a key");
    let note = Checkpoint::new("gatelog.example/0", Tree::new().head(), 1).sign(&key).expect("a note");
    let keys = [key.verifier().clone()];
    bencher.bench_local(|| Checkpoint::open(note.as_bytes(), "gatelog.example/0", &keys).expect("believed"));
}

/// Leaves against the root.
#[divan::bench]
fn verify_leaves(bencher: Bencher<'_, '_>) {
    let leaves = leaves(vec![Hash::EMPTY; LEAVES as usize]);
    let mut tree = Tree::new();
    let entries: Vec<Vec<u8>> = leaves.iter().map(Leaf::to_bytes).collect();
    entries.iter().for_each(|entry| tree.append(Hash::leaf(entry)));
    bencher.counter(ItemsCount::new(LEAVES)).bench_local(|| {
        let entries = entries.iter().map(|entry| Ok::<_, Infallible>((entry, None)));
        let found = verify::leaves(Tree::new(), entries, [Ok(tree.head())], |_| ());
        assert!(found.is_ok_and(|found| found.is_ok()));
    });
}

/// Lines, hashed, against their leaves: on one core.
#[divan::bench]
fn verify_lines(bencher: Bencher<'_, '_>) {
    let line = vec![b'x'; LINE];
    let leaves = leaves(vec![Hash::of(&line); LEAVES as usize]);
    bencher.counter(BytesCount::new(LEAVES as usize * LINE)).bench_local(|| {
        let lines = (0..LEAVES).map(|_| Ok::<_, Infallible>(Hash::of(black_box(&line))));
        let found = verify::lines(leaves.iter().map(|leaf| Ok(*leaf)), lines, &Gone::default());
        assert!(found.is_ok_and(|found| found.is_ok()));
    });
}
