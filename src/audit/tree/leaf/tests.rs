use super::{super::tests::unhex, *};
use proptest::prelude::*;

const AT: MicroTime = MicroTime(1_767_323_045_678_901);

fn event() -> Kind {
    let id = "f81d4fae-7dec-41d0-a765-00a0c91e6bf6".parse().unwrap();
    Kind::Event(Event { stage: Stage::ResponseComplete, id, line: Hash::of(b"{}"), lost: 2 })
}

#[test]
fn leaves_are_written_as_documented() {
    // Made with Python's struct module.
    let rows = [
        (
            event(),
            "010100000000000000070006475ef6574f3503f81d4fae7dec41d0a76500a0c91e6bf644136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a0000000000000002",
        ),
        (
            Kind::Torn(Hash::of(b"{\"ki")),
            "010200000000000000070006475ef6574f35e9a7cc247dbe406b367984ff0500fa66c08e0a10687d69107fea075e828ea4fd",
        ),
        (Kind::Start { recovered: 4 }, "010300000000000000070006475ef6574f350000000000000004"),
        (Kind::Stop { lost: 1 }, "010400000000000000070006475ef6574f350000000000000001"),
        (Kind::Rotate { segment: 12 }, "010500000000000000070006475ef6574f35000000000000000c"),
        (
            Kind::Prune { before: 5, segment: 3 },
            "010600000000000000070006475ef6574f3500000000000000050000000000000003",
        ),
        (Kind::Erase { line: 6 }, "010700000000000000070006475ef6574f350000000000000006"),
    ];
    for (kind, hex) in rows {
        let leaf = Leaf { sequence: 7, time: AT, kind };
        assert_eq!(leaf.to_bytes(), unhex(hex), "{kind:?}");
        assert_eq!(Leaf::parse(&unhex(hex)), Ok(leaf));
        assert!(leaf.to_bytes().len() <= LONGEST);
    }
    let early = Leaf { sequence: u64::MAX, time: MicroTime(-1), kind: Kind::Stop { lost: 0 } };
    assert_eq!(early.to_bytes()[..18], unhex("0104ffffffffffffffffffffffffffffffff"));
}

#[test]
fn only_what_was_written_is_read() {
    for kind in
        [event(), Kind::Torn(Hash::EMPTY), Kind::Prune { before: 1, segment: 1 }, Kind::Erase { line: 0 }]
    {
        let bytes = Leaf { sequence: 7, time: AT, kind }.to_bytes();
        for length in 0..bytes.len() {
            assert_eq!(Leaf::parse(&bytes[..length]), Err(BadLeaf::Length(length)));
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Leaf::parse(&longer), Err(BadLeaf::Length(longer.len())));
    }
    let with = |at: usize, byte: u8| {
        let mut bytes = Leaf { sequence: 7, time: AT, kind: event() }.to_bytes();
        bytes[at] = byte;
        Leaf::parse(&bytes)
    };
    for byte in [0, 2, 255] {
        assert_eq!(with(0, byte), Err(BadLeaf::Version(byte)));
    }
    for byte in [0, 8, 255] {
        assert_eq!(with(1, byte), Err(BadLeaf::Kind(byte)));
    }
    for byte in [0, 5, 255] {
        assert_eq!(with(18, byte), Err(BadLeaf::Stage(byte)));
    }
}

#[test]
fn audit_ids_are_uuids() {
    let id = crate::audit::id::text(crate::audit::id::new());
    assert_eq!(id.parse::<AuditId>().unwrap().to_string(), id);
    for text in [
        "",
        "f81d4fae7dec41d0a76500a0c91e6bf6",
        "F81D4FAE-7dec-41d0-a765-00a0c91e6bf6",
        "f81d4fae-7dec-41d0-a765-00a0c91e6bf",
        "f81d4fae-7dec-41d0-a765-00a0c91e6bf66",
        "f81d4fae-7dec-41d0-a765-00a0c91e6bfg",
        "f81d4fa-e7dec-41d0-a765-00a0c91e6bf6",
        "f81d4fae-7dec-41d0-a765-00a0c91e6b\u{e9}",
        " f81d4fae-7dec-41d0-a765-00a0c91e6bf6",
    ] {
        assert_eq!(text.parse::<AuditId>(), Err(BadAuditId), "{text}");
    }
}

fn any_kind() -> impl Strategy<Value = Kind> {
    let event = (0..4usize, any::<([u8; 16], [u8; 32], u64)>()).prop_map(|(stage, (id, line, lost))| {
        Kind::Event(Event { stage: Stage::ALL[stage], id: AuditId(id), line: Hash(line), lost })
    });
    prop_oneof![
        event,
        any::<[u8; 32]>().prop_map(|line| Kind::Torn(Hash(line))),
        any::<u64>().prop_map(|recovered| Kind::Start { recovered }),
        any::<u64>().prop_map(|lost| Kind::Stop { lost }),
        any::<u64>().prop_map(|segment| Kind::Rotate { segment }),
        any::<(u64, u64)>().prop_map(|(before, segment)| Kind::Prune { before, segment }),
        any::<u64>().prop_map(|line| Kind::Erase { line }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(sequence: u64, time: i64, kind in any_kind()) {
        let leaf = Leaf { sequence, time: MicroTime(time), kind };
        prop_assert_eq!(Leaf::parse(&leaf.to_bytes()), Ok(leaf));
    }

    #[test]
    fn there_is_one_way_to_write_each(
        mut bytes in prop::collection::vec(any::<u8>(), 0..90),
        kind in 0..9u8,
        length in prop::sample::select(&[26usize, 34, 50, 75][..]),
    ) {
        for bytes in [bytes.clone(), { bytes.resize(length, 1); bytes[..2].copy_from_slice(&[1, kind]); bytes }] {
            if let Ok(leaf) = Leaf::parse(&bytes) {
                prop_assert_eq!(leaf.to_bytes(), bytes);
            }
        }
    }
}
