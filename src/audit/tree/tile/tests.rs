use super::{
    super::{
        leaf::{AuditId, Event},
        proof,
        tests::{hash, naive_root, unhex},
    },
    *,
};
use crate::audit::event::Stage;
use proptest::prelude::*;

const T0: i64 = 1_767_323_045_678_901;

/// Leaf `i` of the record that the golden figures are of.
fn append(tiles: &mut Tiles, i: u64) -> Leaf {
    let kind = match i {
        0 => Kind::Start { recovered: 0 },
        1 => Kind::Rotate { segment: 1 },
        _ => {
            let id = AuditId((u128::from(i) << 64 | u128::from(!i)).to_be_bytes());
            let line = Hash::of(format!("line {i}").as_bytes());
            Kind::Event(Event { stage: Stage::ALL[(i % 4) as usize], id, line, lost: i % 3 })
        }
    };
    tiles.append(MicroTime(T0 + i as i64), kind)
}

fn grown(size: u64) -> Tiles {
    let mut tiles = Tiles::new();
    (0..size).for_each(|i| _ = append(&mut tiles, i));
    tiles
}

fn tile(path: &str) -> Tile {
    path.parse().unwrap()
}

#[test]
fn paths_are_those_of_the_specification() {
    let hashes = |level, index, width| Tile { holds: Holds::Hashes(level), index, width };
    let entries = |index, width| Tile { holds: Holds::Entries, index, width };
    let rows = [
        ("tile/0/000", hashes(0, 0, 256)),
        ("tile/0/x001/x234/067", hashes(0, 1_234_067, 256)),
        ("tile/0/x001/x234/067.p/8", hashes(0, 1_234_067, 8)),
        ("tile/2/000.p/1", hashes(2, 0, 1)),
        ("tile/63/x001/000.p/255", hashes(63, 1000, 255)),
        ("tile/entries/000", entries(0, 256)),
        ("tile/entries/x273/999.p/112", entries(273_999, 112)),
        ("tile/0/x018/x446/x744/x073/x709/x551/615", hashes(0, u64::MAX, 256)),
    ];
    for (path, tile) in rows {
        assert_eq!(tile.to_string(), path);
        assert_eq!(path.parse(), Ok(tile));
    }
}

#[test]
fn other_paths_are_refused() {
    for path in [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "/tile/0/000",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/+1/000",
        "tile/data/000",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/1000",
        "tile/0/x000/000",
        "tile/0/x000/001",
        "tile/0/001/000",
        "tile/0/xx01/000",
        "tile/0/x001/x000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/257",
        "tile/0/000.p/08",
        "tile/0/000.p/",
        "tile/0/000.p/8/",
        "tile/0/000.p/8.p/8",
        "tile/0/000/",
        "tile/0/../000",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
    ] {
        assert_eq!(path.parse::<Tile>(), Err(BadPath), "{path}");
    }
}

#[test]
fn the_example_of_the_specification_has_its_tiles() {
    let paths = |tiles: Vec<Tile>| tiles.iter().map(Tile::to_string).collect::<Vec<_>>();
    assert_eq!(
        paths(Tile::partial(70_000)),
        ["tile/entries/273.p/112", "tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]
    );
    assert_eq!(paths(Tile::partial(256)), ["tile/1/000.p/1"]);
    assert_eq!(paths(Tile::partial(0)), [""; 0]);
    let all = Tile::filled(0, 70_000);
    assert_eq!(all.len(), 273 + 273 + 1);
    assert_eq!(paths(Tile::filled(255, 256)), ["tile/entries/000", "tile/0/000"]);
    assert_eq!(paths(Tile::filled(65_535, 65_536)), ["tile/entries/255", "tile/0/255", "tile/1/000"]);
    assert_eq!(paths(Tile::filled(256, 511)), [""; 0]);
    assert_eq!(Tile::partial(u64::MAX).len(), 9);
}

#[test]
fn tiles_have_the_bytes_that_others_compute() {
    // SHA-256 of the tiles, made with a plain recursive Python implementation.
    let mut tiles = grown(1000);
    assert_eq!(tiles.tree().root(), hash("aa4dc89fd1f9f4347b6e5495536f564257793251ad884936022c77add5557a93"));
    (1000..70_000).for_each(|i| _ = append(&mut tiles, i));
    let root = hash("5e27fde8fcb623e3d519701473de206b0338e0850c95078e120155bcf4f5b9f7");
    assert_eq!(tiles.tree().root(), root);
    let full = tiles.take_full();
    assert!(tiles.take_full().is_empty());
    let mut told: Vec<Tile> = full.iter().map(|(tile, _)| *tile).collect();
    let mut filled = Tile::filled(0, 70_000);
    told.sort();
    filled.sort();
    assert_eq!(told, filled);
    let stored: BTreeMap<Tile, Vec<u8>> =
        full.into_iter().chain(tiles.partial().map(|(tile, bytes)| (tile, bytes.to_vec()))).collect();
    for (path, want) in [
        ("tile/0/000", "2d0d14ab8a8479d25e404cb698dfaa3ed44f6f0243e20fd7ff5942f5ad9894c6"),
        ("tile/0/273.p/112", "3569d131c72acb98c6cdb105867fa4293fb1b5bcdb403d6dbfea760c32a56694"),
        ("tile/1/000", "d0cb63bd76c1bcb3d5438abe3265501e0d2c8557759211025480cf368564dd92"),
        ("tile/1/001.p/17", "0b317fc42aec4b3e6bc669db5afa27e5c0e69ae74bfea7561138d9c11a9cbc45"),
        ("tile/2/000.p/1", "d43aecdf241aca38292c8f445dd6fe7a88904ad08f561fae449d54bef5657c70"),
        ("tile/entries/000", "9a135fcdeade881d828705fd80c90a4000d2c0402142c3862110372dfd4bc432"),
        ("tile/entries/273.p/112", "8a0ce8b543fc5e6382b8bd74f8a21a5160033ee9181c9cc0b2e67cb5f7a18ee1"),
    ] {
        assert_eq!(Hash::of(&stored[&tile(path)]), hash(want), "{path}");
    }
    let third = Entries(&stored[&tile("tile/entries/000")]).nth(2).unwrap().unwrap();
    assert_eq!(
        third,
        unhex(
            "010100000000000000020006475ef6574f37030000000000000002fffffffffffffffd16317305c684c75328ba1b1ee6a3509d7e21a8207e8d1d6e8b2faa9a7bfe6d0c0000000000000002"
        )
    );

    // From what is stored: any size's tree, and proofs for it.
    let read = |wanted: Tile| {
        let found = stored.get(&wanted).or_else(|| stored.get(&wanted.full()));
        Ok::<_, BadTile>(found.cloned().unwrap_or_default())
    };
    for size in [1, 255, 256, 257, 65_535, 65_536, 65_537, 69_888, 70_000] {
        let mut reader = Reader::new(size, read);
        let tree = reader.tree(size).unwrap();
        let then = Tiles::resume(size, read).unwrap();
        assert_eq!(then.tree(), &tree, "{size}");
        for index in [0, size / 2, size - 1] {
            let path = proof::inclusion(index, size, |node| reader.node(node)).unwrap().unwrap();
            let mut bundle = Tile::holding(Node { level: 0, index }, size);
            bundle.holds = Holds::Entries;
            let bytes = read(bundle).unwrap();
            let entry = Entries(&bytes).nth((index % 256) as usize).unwrap().unwrap();
            assert_eq!(proof::verify_inclusion(Hash::leaf(entry), index, tree.head(), &path), Ok(()));
        }
        let mut reader = Reader::new(70_000, read);
        let path = proof::consistency(size, 70_000, |node| reader.node(node)).unwrap().unwrap();
        assert_eq!(proof::verify_consistency(tree.head(), tiles.tree().head(), &path), Ok(()));
    }
}

#[test]
fn a_stored_tree_goes_on_as_if_it_had_not_stopped() {
    let mut tiles = Tiles::new();
    for size in 0..1100u64 {
        let stored: BTreeMap<Tile, Vec<u8>> =
            tiles.partial().map(|(tile, bytes)| (tile, bytes.to_vec())).collect();
        assert_eq!(stored.keys().count(), Tile::partial(size).len());
        let mut asked = Vec::new();
        let again = Tiles::resume::<BadTile>(size, |tile| {
            asked.push(tile);
            Ok(stored[&tile].clone())
        });
        assert_eq!(again.as_ref(), Ok(&tiles), "{size}");
        assert_eq!(asked, Tile::partial(size));
        let leaf = append(&mut tiles, size);
        assert_eq!(leaf.sequence, size);
        tiles.take_full();
    }
}

#[test]
fn what_is_stored_wrongly_does_not_go_on() {
    let tiles = grown(300);
    let with = |path: &'static str, change: fn(&mut Vec<u8>)| {
        Tiles::resume::<BadTile>(300, |wanted| {
            let mut bytes = tiles.partial().find(|(tile, _)| *tile == wanted).unwrap().1.to_vec();
            if wanted == tile(path) {
                change(&mut bytes);
            }
            Ok(bytes)
        })
    };
    let (entries, hashes) = (tile("tile/entries/001.p/44"), tile("tile/0/001.p/44"));
    assert_eq!(with("tile/0/001.p/44", |_| ()).as_ref().map(Tiles::tree), Ok(tiles.tree()));
    // A wider tile in the same place is good enough.
    let wider = with("tile/0/001.p/44", |bytes| bytes.extend([9; 32]));
    assert_eq!(wider.as_ref().map(Tiles::tree), Ok(tiles.tree()));
    let wider = with("tile/entries/001.p/44", |bytes| bytes.extend([0, 1, 9]));
    assert_eq!(wider.as_ref().map(Tiles::tree), Ok(tiles.tree()));

    assert_eq!(with("tile/0/001.p/44", |b| b.truncate(44 * 32 - 1)), Err(BadTile::Short(hashes)));
    assert_eq!(with("tile/0/001.p/44", |b| b.extend([9; 31])), Err(BadTile::Short(hashes)));
    assert_eq!(with("tile/0/001.p/44", |b| b.resize(257 * 32, 0)), Err(BadTile::Long(hashes)));
    assert_eq!(with("tile/entries/001.p/44", |b| b.truncate(100)), Err(BadTile::Short(entries)));
    assert_eq!(with("tile/entries/001.p/44", |b| b.push(0)), Err(BadTile::Short(entries)));
    assert_eq!(with("tile/entries/001.p/44", |b| b.extend([0; 2 * 213])), Err(BadTile::Long(entries)));
    assert_eq!(with("tile/entries/001.p/44", |b| b[2 + 75 + 2 + 20] ^= 1), Err(BadTile::Entry(entries, 1)));
    assert_eq!(with("tile/0/001.p/44", |b| b[43 * 32] ^= 1), Err(BadTile::Entry(entries, 43)));
    assert_eq!(with("tile/1/000.p/1", |b| b.clear()), Err(BadTile::Short(tile("tile/1/000.p/1"))));
}

#[test]
fn nodes_beyond_the_tree_are_not_looked_up() {
    let mut reader = Reader::new(10, |_| -> Result<Vec<u8>, BadTile> { panic!("asked") });
    for node in [
        Node { level: 0, index: 256 },
        Node { level: 8, index: 0 },
        Node { level: 63, index: 1 },
        Node { level: 255, index: u64::MAX },
    ] {
        assert!(matches!(reader.node(node), Err(BadTile::Short(_))), "{node:?}");
    }
}

#[test]
fn tiles_hold_what_the_definition_says() {
    let mut tiles = grown(600);
    let full = tiles.take_full();
    let leaves: Vec<Hash> = full
        .iter()
        .map(|(tile, bytes)| (*tile, &bytes[..]))
        .chain(tiles.partial())
        .filter(|(tile, _)| tile.holds == Holds::Hashes(0))
        .flat_map(|(_, bytes)| bytes.as_chunks().0)
        .map(|bytes| Hash(*bytes))
        .collect();
    assert_eq!(leaves.len(), 600);
    let (_, above) = tiles.partial().find(|(tile, _)| tile.holds == Holds::Hashes(1)).unwrap();
    let above: Vec<Hash> = above.as_chunks().0.iter().map(|bytes| Hash(*bytes)).collect();
    assert_eq!(above, [naive_root(&leaves[..256]), naive_root(&leaves[256..512])]);
    assert_eq!(tiles.tree().root(), naive_root(&leaves));
}

proptest! {
    #[test]
    fn any_path_may_come(path in "tile/(entries|[0-9]{1,2}|.)/(x?[0-9]{1,4}/?){0,4}(\\.p/[0-9]{0,4})?") {
        if let Ok(tile) = path.parse::<Tile>() {
            prop_assert_eq!(tile.to_string(), path);
        }
    }

    #[test]
    fn every_tile_has_a_path(level in 0..64u8, index: u64, width in 1..=256u16, entries: bool) {
        let holds = if entries { Holds::Entries } else { Holds::Hashes(level) };
        let tile = Tile { holds, index, width };
        prop_assert_eq!(tile.to_string().parse(), Ok(tile));
    }

    #[test]
    fn any_entries_may_come(bytes: Vec<u8>, width in 1..=256u16) {
        let whole = Entries(&bytes).filter_map(Result::ok).map(|entry| entry.len() + 2).sum::<usize>();
        prop_assert!(whole <= bytes.len());
        let tile = Tile { holds: Holds::Entries, index: 0, width };
        if let Ok(trimmed) = tile.trim(&bytes) {
            prop_assert_eq!(Entries(trimmed).count(), usize::from(width));
        }
    }
}
