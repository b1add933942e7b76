use super::{
    super::{
        Tree,
        leaf::{AuditId, Event, Kind},
        note::SigningKey,
        tests::{ENTRIES, hash, naive_root, some_leaves, unhex},
    },
    *,
};
use crate::audit::event::{MicroTime, Stage};
use proptest::prelude::*;
use std::convert::Infallible;

/// Looks up nodes in a list of leaves; a node that is not full in it is a mistake.
fn of(leaves: &[Hash]) -> impl FnMut(Node) -> Result<Hash, Infallible> {
    |node| {
        let first = (node.index << node.level) as usize;
        Ok(naive_root(&leaves[first..first + (1 << node.level)]))
    }
}

fn head(leaves: &[Hash]) -> Head {
    Head { size: leaves.len() as u64, root: naive_root(leaves) }
}

#[test]
fn the_known_tree_has_its_known_proofs() {
    // The same as the reference proofs of Certificate Transparency; made with a plain Python implementation.
    let leaves = ENTRIES.map(|entry| Hash::leaf(&unhex(entry)));
    let rows: [(u64, u64, &[&str]); 4] = [
        (
            0,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            8,
            &[
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (2, 3, &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
        (
            1,
            5,
            &[
                "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ];
    for (index, size, want) in rows {
        let Some(Ok(path)) = inclusion(index, size, of(&leaves[..size as usize])) else { panic!() };
        assert_eq!(path, want.iter().map(|text| hash(text)).collect::<Vec<_>>(), "{index} of {size}");
    }
    let rows: [(u64, u64, &[&str]); 3] = [
        (
            1,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            &[
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            5,
            &[
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ];
    for (old, size, want) in rows {
        let Some(Ok(path)) = consistency(old, size, of(&leaves[..size as usize])) else { panic!() };
        assert_eq!(path, want.iter().map(|text| hash(text)).collect::<Vec<_>>(), "{old} to {size}");
    }
}

/// Every proof that differs in one thing: a bit of a hash, a hash left out, two exchanged, one more.
fn altered(path: &[Hash]) -> Vec<Vec<Hash>> {
    let mut all = Vec::new();
    for i in 0..path.len() {
        for alter in [
            |p: &mut Vec<Hash>, i: usize| p[i].0[i % 32] ^= 1 << (i % 8),
            |p: &mut Vec<Hash>, i: usize| _ = p.remove(i),
            |p: &mut Vec<Hash>, i: usize| p.insert(i, p[i]),
            |p: &mut Vec<Hash>, i: usize| {
                let last = p.len() - 1;
                p.swap(i, last);
            },
        ] {
            let mut other = path.to_vec();
            alter(&mut other, i);
            all.push(other);
        }
    }
    all.push([path, &[Hash::EMPTY]].concat());
    all.retain(|other| other != path);
    all
}

#[test]
fn every_inclusion_is_proved_and_nothing_else() {
    let leaves = some_leaves(131);
    let heads: Vec<Head> = (0..=leaves.len()).map(|size| head(&leaves[..size])).collect();
    for size in 1..=130u64 {
        let now = heads[size as usize];
        for index in 0..size {
            let Some(Ok(path)) = inclusion(index, size, of(&leaves[..size as usize])) else { panic!() };
            let leaf = leaves[index as usize];
            assert_eq!(verify_inclusion(leaf, index, now, &path), Ok(()), "{index} of {size}");
            let wrong = |leaf, index, head, path: &[Hash]| {
                assert!(verify_inclusion(leaf, index, head, path).is_err(), "{index} of {size}");
            };
            wrong(leaves[index as usize + 1], index, now, &path);
            for other in [index.wrapping_sub(1), index + 1, index ^ 2, size, u64::MAX] {
                wrong(leaf, other, now, &path);
            }
            wrong(leaf, index, heads[size as usize - 1], &path);
            wrong(leaf, index, heads[size as usize + 1], &path);
            for path in altered(&path) {
                wrong(leaf, index, now, &path);
            }
        }
        assert!(inclusion(size, size, of(&leaves)).is_none());
    }
}

#[test]
fn every_continuation_is_proved_and_nothing_else() {
    let leaves = some_leaves(131);
    let heads: Vec<Head> = (0..=leaves.len()).map(|size| head(&leaves[..size])).collect();
    for new in heads.iter().take(131) {
        for old in &heads[..=new.size as usize] {
            let Some(Ok(path)) = consistency(old.size, new.size, of(&leaves[..new.size as usize])) else {
                panic!()
            };
            let what = format!("{} to {}", old.size, new.size);
            assert_eq!(verify_consistency(*old, *new, &path), Ok(()), "{what}");
            let other = Head { root: Hash::leaf(b"x"), ..*old };
            assert!(verify_consistency(other, *new, &path).is_err(), "{what}");
            let next = Head { size: old.size + 1, ..*old };
            assert!(verify_consistency(next, *new, &path).is_err(), "{what}");
            if old.size > 0 {
                let other = Head { root: Hash::leaf(b"x"), ..*new };
                assert!(verify_consistency(*old, other, &path).is_err(), "{what}");
                if let Some(before) = heads.get(old.size as usize - 1).filter(|before| before.size > 0) {
                    assert!(verify_consistency(*before, *new, &path).is_err(), "{what}");
                }
            }
            for path in altered(&path) {
                assert!(verify_consistency(*old, *new, &path).is_err(), "{what}");
            }
        }
        assert!(consistency(new.size + 1, new.size, of(&leaves)).is_none());
    }
}

#[test]
fn the_largest_tree_has_proofs() {
    let same = |_| Ok::<_, Infallible>(Hash::EMPTY);
    let Some(Ok(path)) = inclusion(u64::MAX - 1, u64::MAX, same) else { panic!() };
    assert_eq!(path.len(), 63);
    let Some(Ok(path)) = inclusion(0, u64::MAX, same) else { panic!() };
    let head = Head { size: u64::MAX, root: Hash::EMPTY };
    assert_eq!(verify_inclusion(Hash::EMPTY, 0, head, &path), Err(BadProof::Root));
    let Some(Ok(path)) = consistency(u64::MAX - 1, u64::MAX, same) else { panic!() };
    let old = Head { size: u64::MAX - 1, root: Hash::EMPTY };
    assert_eq!(verify_consistency(old, head, &path), Err(BadProof::Root));
}

// --- texts ---

const ORIGIN: &str = "gatelog.example/prod/0";

struct Log {
    key: SigningKey,
    leaves: Vec<Leaf>,
}

impl Log {
    fn new() -> Self {
        let id = AuditId([1; 16]);
        let leaf = |sequence| {
            let line = Hash::of(&[sequence as u8]);
            let event = Event { stage: Stage::ResponseComplete, id, line, lost: 0 };
            Leaf { sequence, time: MicroTime(5), kind: Kind::Event(event) }
        };
        Self { key: SigningKey::generate(ORIGIN).unwrap(), leaves: (0..21).map(leaf).collect() }
    }

    fn keys(&self) -> [VerifierKey; 1] {
        [self.key.verifier().clone()]
    }

    fn hashes(&self, size: u64) -> Vec<Hash> {
        self.leaves[..size as usize].iter().map(|leaf| Hash::leaf(&leaf.to_bytes())).collect()
    }

    fn checkpoint(&self, size: u64) -> Checkpoint {
        let mut tree = Tree::new();
        self.hashes(size).into_iter().for_each(|leaf| tree.append(leaf));
        Checkpoint::new(ORIGIN, tree.head(), 1_767_323_045)
    }

    fn inclusion(&self, index: u64, size: u64) -> Inclusion {
        let Some(Ok(path)) = inclusion(index, size, of(&self.hashes(size))) else { panic!() };
        let checkpoint = self.checkpoint(size).sign(&self.key).unwrap();
        Inclusion { leaf: self.leaves[index as usize].to_bytes(), index, path, checkpoint }
    }

    fn consistency(&self, old: u64, size: u64) -> Consistency {
        let Some(Ok(path)) = consistency(old, size, of(&self.hashes(size))) else { panic!() };
        Consistency { old, path, checkpoint: self.checkpoint(size).sign(&self.key).unwrap() }
    }
}

#[test]
fn proofs_of_entries_are_texts() {
    let log = Log::new();
    let proof = log.inclusion(13, 21);
    let text = proof.to_string();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra AQEAAAAA"), "{text}");
    assert_eq!(text.lines().nth(2), Some("index 13"));
    assert_eq!(Inclusion::parse(&text).as_ref(), Ok(&proof));
    assert_eq!(proof.verify(ORIGIN, &log.keys()), Ok((log.leaves[13], log.checkpoint(21))));

    let only = log.inclusion(0, 1);
    assert_eq!(only.path, []);
    assert_eq!(Inclusion::parse(&only.to_string()).as_ref(), Ok(&only));
    assert!(only.verify(ORIGIN, &log.keys()).is_ok());

    let other = SigningKey::generate(ORIGIN).unwrap();
    let verify = |proof: &Inclusion| proof.verify(ORIGIN, &log.keys());
    assert!(matches!(proof.verify(ORIGIN, &[other.verifier().clone()]), Err(BadProof::Checkpoint(_))));
    assert!(matches!(proof.verify("elsewhere", &log.keys()), Err(BadProof::Checkpoint(_))));
    assert_eq!(verify(&Inclusion { index: 12, ..proof.clone() }), Err(BadProof::Root));
    let leaf = log.leaves[12].to_bytes();
    assert_eq!(verify(&Inclusion { leaf, ..proof.clone() }), Err(BadProof::Root));
    let checkpoint = proof.checkpoint.replace("\n21\n", "\n20\n");
    assert!(matches!(verify(&Inclusion { checkpoint, ..proof }), Err(BadProof::Checkpoint(_))));
}

#[test]
fn a_leaf_in_another_place_proves_nothing() {
    let mut log = Log::new();
    log.leaves.swap(3, 4);
    assert_eq!(log.inclusion(3, 21).verify(ORIGIN, &log.keys()), Err(BadProof::Sequence(4, 3)));
}

#[test]
fn proofs_of_continuation_are_texts() {
    let log = Log::new();
    for old in 0..=21 {
        let proof = log.consistency(old, 21);
        let text = proof.to_string();
        assert!(text.starts_with(&format!("old {old}\n")), "{text}");
        assert_eq!(Consistency::parse(&text).as_ref(), Ok(&proof));
        let head = log.checkpoint(old).head;
        assert_eq!(proof.verify(head, ORIGIN, &log.keys()), Ok(log.checkpoint(21)));
        let forked = Head { root: Hash::of(b"x"), ..head };
        assert_eq!(proof.verify(forked, ORIGIN, &log.keys()), Err(BadProof::Root));
        let size = Head { size: old + 1, ..head };
        assert!(matches!(proof.verify(size, ORIGIN, &log.keys()), Err(BadProof::Text(1, _))));
    }
}

#[test]
fn texts_that_are_no_proofs_are_refused() {
    let text = Log::new().inclusion(13, 21).to_string();
    let (head, checkpoint) = text.split_once("\n\n").unwrap();
    let lines: Vec<&str> = head.lines().collect();
    let with = |at: usize, line: &str| {
        let mut lines = lines.clone();
        lines[at] = line;
        format!("{}\n\n{checkpoint}", lines.join("\n"))
    };
    assert_eq!(with(0, MAGIC), text);
    let rows = [
        (String::new(), 1),
        (with(0, "c2sp.org/tlog-proof@v2"), 1),
        (with(1, "extra"), 2),
        (with(1, "extra !"), 2),
        (with(1, "index 13"), 2),
        (with(2, "index 013"), 3),
        (with(2, "index -1"), 3),
        (with(2, "index +13"), 3),
        (with(2, "index 18446744073709551616"), 3),
        (with(3, "AAAA"), 4),
        (with(3, &lines[3][..43]), 4),
        (head.to_owned(), lines.len()),
        (format!("{head}\n"), lines.len() + 1),
        (with(2, &format!("index 13\n{}", vec![lines[3]; LONGEST].join("\n"))), 4 + LONGEST),
    ];
    for (text, line) in rows {
        let Err(BadProof::Text(found, _)) = Inclusion::parse(&text) else { panic!("{text}") };
        assert_eq!(found, line, "{text}");
    }
    for text in ["", "old", "old \n\n", "old 01\n\n", "old 1", "old 1\nx\n\n"] {
        assert!(Consistency::parse(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn altered_texts_prove_nothing(at: prop::sample::Index, byte in b' '..b'~', cut: bool) {
        let log = Log::new();
        for text in [log.inclusion(5, 21).to_string(), log.consistency(5, 21).to_string()] {
            let mut bytes = text.clone().into_bytes();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            let Ok(other) = String::from_utf8(bytes) else { continue };
            if other == text {
                continue;
            }
            if let Ok(proof) = Inclusion::parse(&other) {
                prop_assert_eq!(proof.to_string(), other.clone());
                prop_assert!(proof.verify(ORIGIN, &log.keys()).is_err());
            }
            if let Ok(proof) = Consistency::parse(&other) {
                prop_assert_eq!(proof.to_string(), other);
                prop_assert!(proof.verify(log.checkpoint(5).head, ORIGIN, &log.keys()).is_err());
            }
        }
    }

    #[test]
    fn any_text_may_come(text in "(c2sp.org/tlog-proof@v1\n|old |extra |index |[0-9]|[A-Za-z=+/]|\n|.){0,40}") {
        if let Ok(proof) = Inclusion::parse(&text) {
            prop_assert_eq!(proof.to_string(), text.clone());
        }
        if let Ok(proof) = Consistency::parse(&text) {
            prop_assert_eq!(proof.to_string(), text);
        }
    }
}
