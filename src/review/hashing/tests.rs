use super::*;
use proptest::prelude::*;
use std::io::Write as _;

fn file(bytes: &[u8]) -> Arc<File> {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("gatelog-hashing-{}-{n}", std::process::id()));
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(file)
}

proptest! {
    /// However a file is cut, its lines are those that a plain reader finds, each once.
    #[test]
    fn pieces_have_each_line_once(
        lines in prop::collection::vec(prop::collection::vec(any::<u8>().prop_filter("newline", |b| *b != b'\n'), 0..20), 0..20),
        rest in "[a-z]{0,5}",
        mut cuts in prop::collection::vec(0u64..500, 0..8),
    ) {
        let mut text: Vec<u8> = lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect();
        text.extend(rest.as_bytes());
        let size = text.len() as u64;
        let file = file(&text);
        cuts.retain(|cut| *cut > 0 && *cut < size);
        cuts.sort_unstable();
        cuts.dedup();
        let (mut found, mut partial) = (Vec::new(), Vec::new());
        let from = [0].into_iter().chain(cuts.clone());
        for (from, to) in from.zip(cuts.iter().copied().chain([size])) {
            let piece = hash(0, from == 0, Source::Range(file.clone(), from, to), &mut Vec::new());
            found.extend(piece.lines.iter().map(|line| line.hash));
            match piece.end {
                End::Whole => {}
                End::Partial(hash) => partial.push(hash),
                other => panic!("{other:?}"),
            }
        }
        prop_assert_eq!(found, lines.iter().map(|line| Hash::of(line)).collect::<Vec<_>>());
        let rest = (!rest.is_empty()).then(|| Hash::of(rest.as_bytes()));
        prop_assert_eq!(partial, Vec::from_iter(rest));
    }

    #[test]
    fn the_last_place_of_a_pattern_is_found(text in "[abc]{0,40}") {
        let want = text.rfind("abcab").map(|at| at + 5);
        prop_assert_eq!(find_last(text.as_bytes(), b"abcab"), want);
    }
}

#[test]
fn a_long_line_is_one_line() {
    let long = vec![b'x'; 3 * BLOCK + 5];
    let text = [&long[..], b"\nshort\n"].concat();
    let piece = hash(0, true, Source::Range(file(&text), 0, text.len() as u64), &mut Vec::new());
    let hashes: Vec<_> = piece.lines.iter().map(|line| line.hash).collect();
    assert_eq!(hashes, [Hash::of(&long), Hash::of(b"short")]);
    assert_eq!(piece.bytes, text.len() as u64);
}

#[test]
fn a_line_says_the_same_however_it_is_written() {
    let id = "01020304-0506-4708-890a-0b0c0d0e0f10";
    let at = "2026-01-02T03:04:05.678901Z";
    let line = |more: &str, note: &str| {
        format!(
            r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Request","auditID":"{id}","stage":"Panic"{more},"stageTimestamp":"{at}","annotations":{{{note}"gatelog.dev/salt":"00"}}}}"#
        )
    };
    let forged = r#","requestObject":{"a":1,"stageTimestamp":"2020-01-02T03:04:05.678901Z"}"#;
    let rows = [
        (line("", ""), false),
        (line(forged, ""), false),
        (line("", r#""gatelog.dev/outcome":"unknown","#), true),
        (line("", r#""x":"\"gatelog.dev/outcome\":\"unknown\"","#), false),
        (line("", r#""x":",\"stageTimestamp\":\"2020-01-02T03:04:05.678901Z\"","#), false),
    ];
    for (line, outcome_unknown) in rows {
        let want = Says {
            id: id.parse().unwrap(),
            stage: Stage::Panic,
            at: MicroTime::parse(at).unwrap(),
            outcome_unknown,
        };
        assert_eq!(Says::quickly(line.as_bytes()), Some(want), "{line}");
        assert_eq!(Says::slowly(line.as_bytes()), Some(want), "{line}");
        let spaced = line.replacen(':', ": ", 1);
        assert_eq!(Says::quickly(spaced.as_bytes()), None);
        assert_eq!(Line::of(spaced.as_bytes()).says, Some(want));
    }
    assert_eq!(Line::of(b"{\"kind\":\"Ev").says, None);
}
