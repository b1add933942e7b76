//! `gatelog audit verify` and `docs/verify.py` on records that somebody has changed: each change is found and named.

use crate::records::{ORIGIN, Record, event, gatelog, id, verify_py};
use gatelog::audit::tree::{Hash, checkpoint::Checkpoint, leaf::Kind, note::SigningKey, tile::Tile};
use serde_json::Value;
use std::{
    fs,
    process::Output,
    time::{SystemTime, UNIX_EPOCH},
};

fn json(output: &Output) -> (i32, Value) {
    let text = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), value)
}

fn text(output: &Output) -> (i32, String) {
    let all = [&output.stdout[..], &output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(all).unwrap())
}

fn tile(path: &str) -> Tile {
    path.parse().unwrap()
}

/// Where and how a change is seen.
struct Seen {
    kind: &'static str,
    /// Number of the segment, and the line.
    line: Option<(u64, u64)>,
    sequence: Option<u64>,
    /// What the other verifier says, in part.
    py: &'static str,
}

fn seen(kind: &'static str, line: Option<(u64, u64)>, sequence: Option<u64>, py: &'static str) -> Seen {
    Seen { kind, line, sequence, py }
}

type Row = (&'static str, fn(&Record), Seen);

/// One row for each thing that somebody can do.
fn rows() -> Vec<Row> {
    vec![
        (
            "a byte of a line in a sealed segment",
            |r| r.edit(2, |lines| lines[49] = lines[49].replace("\"get\"", "\"put\"")),
            seen(
                "altered",
                Some((2, 50)),
                Some(152),
                "00000002.jsonl line 50: the line is not that of sequence 152",
            ),
        ),
        (
            "a byte of a line in the newest segment",
            |r| r.edit(3, |lines| lines[0] = lines[0].replace("alice", "mallo")),
            seen(
                "altered",
                Some((3, 1)),
                Some(204),
                "00000003.jsonl line 1: the line is not that of sequence 204",
            ),
        ),
        (
            "a byte in the middle of a sealed segment's file",
            |r| {
                r.bytes(&r.segment(2), |bytes| {
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 0x10;
                })
            },
            seen("altered", Some((2, 0)), None, "00000002.jsonl"),
        ),
        (
            "a line removed",
            |r| r.edit(2, |lines| drop(lines.remove(49))),
            seen(
                "removed",
                Some((2, 50)),
                Some(152),
                "00000002.jsonl line 50: the line is not that of sequence 152",
            ),
        ),
        (
            "the first line of all removed",
            |r| r.edit(1, |lines| drop(lines.remove(0))),
            seen(
                "removed",
                Some((1, 1)),
                Some(2),
                "00000001.jsonl line 1: the line is not that of sequence 2",
            ),
        ),
        (
            "a segment removed",
            |r| fs::remove_file(r.segment(2)).unwrap(),
            seen("removed", None, Some(103), "segment 2: the line is not that of sequence 103"),
        ),
        (
            "the newest segment removed",
            |r| fs::remove_file(r.segment(3)).unwrap(),
            seen("removed", None, Some(204), "segment 3: the line is not that of sequence 204"),
        ),
        (
            "a line inserted",
            |r| r.edit(2, |lines| lines.insert(49, event(9999, "delete"))),
            seen(
                "inserted",
                Some((2, 50)),
                None,
                "00000002.jsonl line 50: the line is not that of sequence 152",
            ),
        ),
        (
            "a line repeated",
            |r| r.edit(2, |lines| lines.insert(49, lines[10].clone())),
            seen(
                "inserted",
                Some((2, 50)),
                None,
                "00000002.jsonl line 50: the line is not that of sequence 152",
            ),
        ),
        (
            "a line added to a sealed segment",
            |r| r.edit(2, |lines| lines.push(event(9999, "delete"))),
            seen("inserted", Some((2, 101)), None, "00000002.jsonl line 101: the line was never signed"),
        ),
        (
            "a line replaced by a copy of an earlier one",
            |r| r.edit(2, |lines| lines[49] = lines[10].clone()),
            seen(
                "altered",
                Some((2, 50)),
                Some(152),
                "00000002.jsonl line 50: the line is not that of sequence 152",
            ),
        ),
        (
            "two lines swapped",
            |r| r.edit(2, |lines| lines.swap(49, 50)),
            seen(
                "reordered",
                Some((2, 50)),
                Some(152),
                "00000002.jsonl line 50: the line is not that of sequence 152",
            ),
        ),
        (
            "two segments swapped",
            |r| {
                let (mut one, mut two) = (Vec::new(), Vec::new());
                r.edit(1, |lines| one = lines.clone());
                r.edit(2, |lines| two = std::mem::replace(lines, one));
                r.edit(1, |lines| *lines = two);
            },
            seen(
                "reordered",
                Some((1, 1)),
                Some(2),
                "00000001.jsonl line 1: the line is not that of sequence 2",
            ),
        ),
        (
            "a line moved into the next segment",
            |r| {
                let mut last = None;
                r.edit(1, |lines| last = lines.pop());
                r.edit(2, |lines| lines.insert(0, last.unwrap()));
            },
            seen(
                "reordered",
                Some((1, 100)),
                Some(101),
                "00000001.jsonl line 100: the line is not that of sequence 101",
            ),
        ),
        (
            "the journal truncated",
            |r| r.edit(3, |lines| lines.truncate(60)),
            seen(
                "truncated",
                Some((3, 61)),
                Some(264),
                "00000003.jsonl line 61: the line is not that of sequence 264",
            ),
        ),
        (
            "a sealed segment truncated",
            |r| r.edit(1, |lines| lines.truncate(99)),
            seen(
                "truncated",
                Some((1, 100)),
                Some(101),
                "00000001.jsonl line 100: the line is not that of sequence 101",
            ),
        ),
        (
            "the journal truncated within a line",
            |r| {
                r.edit(3, |lines| {
                    lines.truncate(61);
                    lines[60].truncate(100);
                })
            },
            seen(
                "truncated",
                Some((3, 61)),
                Some(264),
                "00000003.jsonl line 61: the line is not that of sequence 264",
            ),
        ),
        (
            "a segment inserted",
            |r| {
                let path = r.dir().join("audit-20250102T030405.000Z-00000000.jsonl");
                fs::write(path, event(9999, "delete")).unwrap();
            },
            seen("inserted", Some((0, 1)), None, "00000000.jsonl line 1: the line was never signed"),
        ),
        (
            "a line added after the stop",
            |r| r.edit(3, |lines| lines.push(event(9999, "delete"))),
            seen("tail", Some((3, 101)), None, "00000003.jsonl line 101: the line was never signed"),
        ),
        (
            "a segment added after the stop",
            |r| fs::write(r.segment(4), event(9999, "delete")).unwrap(),
            seen("tail", Some((4, 1)), None, "00000004.jsonl line 1: the line was never signed"),
        ),
        (
            "a leaf altered",
            |r| r.bytes(&r.tile(tile("tile/entries/000")), |bytes| bytes[2 + 26 + 2 + 26 + 2 + 40] ^= 1),
            seen("leaf", None, Some(2), "sequence 2: tile/0 holds another hash"),
        ),
        (
            "a leaf altered, and its stored hash",
            |r| {
                let mut leaf = Vec::new();
                r.bytes(&r.tile(tile("tile/entries/001.p/49")), |bytes| {
                    bytes[2 + 40] ^= 1;
                    leaf = bytes[2..77].to_vec();
                });
                r.bytes(&r.tile(tile("tile/0/001.p/49")), |bytes| {
                    bytes[..32].copy_from_slice(&Hash::leaf(&leaf).0);
                });
            },
            seen("checkpoint", None, Some(0), "the leaves up to 305 are not those that"),
        ),
        (
            "two leaves swapped",
            |r| r.bytes(&r.tile(tile("tile/entries/001.p/49")), |bytes| bytes[..154].rotate_left(77)),
            seen("leaf", None, Some(256), "sequence 256: tile/0 holds another hash"),
        ),
        (
            "a stored hash altered",
            |r| r.bytes(&r.tile(tile("tile/0/000")), |bytes| bytes[32 * 7] ^= 1),
            seen("leaf", None, Some(7), "sequence 7: tile/0 holds another hash"),
        ),
        (
            "a stored hash of an upper level altered",
            |r| r.bytes(&r.tile(tile("tile/1/000.p/1")), |bytes| bytes[0] ^= 1),
            seen("tile", None, Some(0), "sequence 0: tile/1 holds another hash"),
        ),
        (
            "a bundle removed",
            |r| fs::remove_file(r.tile(tile("tile/entries/001.p/49"))).unwrap(),
            seen("tile", None, Some(256), "sequence 256: leaves are missing"),
        ),
        (
            "the beginning removed as if it were pruned",
            |r| {
                fs::remove_file(r.tile(tile("tile/entries/000"))).unwrap();
                fs::remove_file(r.tile(tile("tile/0/000"))).unwrap();
                fs::remove_file(r.segment(1)).unwrap();
                fs::remove_file(r.segment(2)).unwrap();
            },
            seen("prune", None, Some(0), "leaves are missing, and no leaf says that they were removed"),
        ),
        (
            "a prune that nobody signed",
            |r| {
                // Made as the gate would, but for the signature.
                let (mut other, _) = Record::usual("forged-prune");
                other.add(Kind::Prune { before: 102, segment: 2 });
                other.publish();
                fs::remove_file(r.segment(1)).unwrap();
                for path in ["tile/entries/001.p/50", "tile/0/001.p/50"] {
                    fs::copy(other.log(path), r.log(path)).unwrap();
                }
            },
            seen("removed", None, Some(2), "segment 1: the line is not that of sequence 2"),
        ),
        (
            "the checkpoint altered",
            |r| r.bytes(&r.log("checkpoint"), |bytes| bytes[ORIGIN.len() + 1] = b'2'),
            seen("checkpoint", None, None, "the signature is not that of the key"),
        ),
        (
            "the checkpoint removed",
            |r| fs::remove_file(r.log("checkpoint")).unwrap(),
            seen("checkpoint", None, None, "cannot be verified"),
        ),
        (
            "the checkpoint signed by another key of the same name",
            |r| {
                let key = SigningKey::generate(ORIGIN).unwrap();
                let note = Checkpoint::new(ORIGIN, r.tiles.tree().head(), 1).sign(&key).unwrap();
                fs::write(r.log("checkpoint"), note).unwrap();
            },
            seen("checkpoint", None, None, "none of the keys signed"),
        ),
        (
            "the checkpoint of another log",
            |r| {
                let key = SigningKey::generate("gatelog.example/other").unwrap();
                let note =
                    Checkpoint::new("gatelog.example/other", r.tiles.tree().head(), 1).sign(&key).unwrap();
                fs::write(r.log("checkpoint"), note).unwrap();
            },
            seen("checkpoint", None, None, "none of the keys signed"),
        ),
    ]
}

#[test]
fn every_tampering_is_found_and_named() {
    for compressed in [false, true] {
        for (name, change, want) in rows() {
            let name = format!("{name}{}", if compressed { ", compressed" } else { "" });
            let (record, _) = Record::usual("tampered");
            if compressed {
                record.compress(1);
                record.compress(2);
            }
            change(&record);
            let (code, report) = json(&record.verify(&["-o", "json"]));
            let fault = &report["faults"][0];
            assert_eq!((code, &report["ok"]), (2, &Value::Bool(false)), "{name}: {report:#}");
            assert_eq!(fault["kind"], want.kind, "{name}: {report:#}");
            if let Some((segment, line)) = want.line {
                let file = fault["file"].as_str().unwrap_or_else(|| panic!("{name}: {report:#}"));
                assert!(file.contains(&format!("-{segment:08}.jsonl")), "{name}: {report:#}");
                // Which line a broken byte is in depends on the compression.
                assert!(line == 0 || fault["line"] == line, "{name}: {report:#}");
            } else {
                assert_eq!(fault.get("file"), None, "{name}: {report:#}");
            }
            if let Some(sequence) = want.sequence {
                assert_eq!(fault["sequence"], sequence, "{name}: {report:#}");
            }
            if let (Some((_, 1..)), Some(sequence)) = (want.line, want.sequence) {
                assert_eq!(fault["auditID"], id(sequence).to_string(), "{name}: {report:#}");
                assert_eq!(fault["stage"], "ResponseComplete", "{name}");
            }
            let (code, said) = text(&record.verify(&[]));
            assert!(code == 2 && said.contains(&format!("{}: ", want.kind)), "{name}: {said}");
            let Some((code, said)) = record.verify_py(&[]) else { continue };
            let py = if compressed { want.py.replace(".jsonl", ".jsonl.gz") } else { want.py.to_owned() };
            // The newest is not compressed, nor is what somebody added.
            let py = [py, want.py.to_owned()];
            assert!(code == 2 && py.iter().any(|py| said.contains(py.as_str())), "{name}: {said}");
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn a_whole_record_fits() {
    for compressed in [false, true] {
        let (record, early) = Record::usual("whole");
        if compressed {
            record.compress(1);
            record.compress(2);
        }
        record.folder.put("early", &early);
        let early = record.dir().join("early").display().to_string();
        let (code, said) = text(&record.verify(&["--checkpoint", &early]));
        let want = "log gatelog.example/prod/0: 305 leaves, signed at 2026-01-02T03:04:08Z
ok   300 lines in 3 segments are those that were signed, 2026-01-02T03:04:05.000000Z to 2026-01-02T03:04:05.304000Z (115 KB)
ok   1 head that was kept elsewhere fits; longest time without one 1.0s
";
        assert_eq!((code, said.as_str()), (0, want));
        let leaves = "305 leaves are those that were signed; 0 events were lost, by the record's own word\n";
        if let Some(said) = record.verify_py(&[&early]) {
            assert_eq!(said, (0, format!("{leaves}300 lines are those that were signed\n")));
        }
        // The key may stand in a file, as the gate writes it; and the folder may be the one above.
        let key = record.dir().join("audit.pub").display().to_string();
        let (code, said) =
            text(&gatelog(&["audit", "verify", record.dir().to_str().unwrap(), "--key", &key]));
        assert_eq!(code, 0, "{said}");
    }
}

/// The journal, the tree and the checkpoint set back to what they were earlier: only who kept a head sees it.
#[test]
fn a_record_that_was_set_back_is_found_by_what_was_kept_elsewhere() {
    let (record, early) = Record::usual("set-back");
    let latest = fs::read_to_string(record.log("checkpoint")).unwrap();
    fs::write(record.log("checkpoint"), &early).unwrap();
    fs::remove_file(record.segment(3)).unwrap();
    let (code, said) = text(&record.verify(&[]));
    assert_eq!(code, 0, "{said}");
    let root =
        Checkpoint::parse(latest.split_once("\n\n").map(|(text, _)| format!("{text}\n")).unwrap().as_str())
            .unwrap();
    let root = root.head.root;
    let bits = u64::from_be_bytes(*root.0.first_chunk().unwrap()) >> 12;
    let line =
        serde_json::json!({"kind": "Event", "annotations": {"gatelog.dev/checkpoint": latest}}).to_string();
    let list = serde_json::json!({"kind": "EventList", "items": [{"kind": "Event", "annotations": {"gatelog.dev/checkpoint": latest}}]});
    let docker = serde_json::json!({"log": format!("{line}\n"), "stream": "stdout"});
    let kept = [
        ("note", latest),
        ("stdout", format!("listening\n{{\"kind\":\"Event\"}}\n{line}\n")),
        ("cri", format!("2026-01-02T03:04:06.1Z stdout F {line}\n")),
        ("docker", format!("{docker}\n")),
        ("webhook", format!("{list}\n")),
        ("metrics", format!("# HELP x\ngatelog_audit_tree_size 305\ngatelog_audit_tree_root {bits}\n")),
        (
            "floats",
            format!(
                "gatelog_audit_tree_size{{pod=\"a\"}} 305\ngatelog_audit_tree_root{{pod=\"a\"}} {:e}\n",
                bits as f64
            ),
        ),
    ];
    let mut sources: Vec<String> = kept
        .iter()
        .map(|(name, text)| {
            record.folder.put(name, text);
            record.dir().join(name).display().to_string()
        })
        .collect();
    if let Some((code, said)) = record.verify_py(&[&sources[0]]) {
        let want = "sequence 203: the record ends here, but ";
        assert!(code == 2 && said.contains(want), "{said}");
    }
    sources.extend([format!("305:{root}"), format!("305:{bits}")]);
    for source in &sources {
        let (code, report) = json(&record.verify(&["-o", "json", "--checkpoint", source]));
        let fault = &report["faults"][0];
        assert_eq!(
            (code, &fault["kind"], &fault["sequence"]),
            (2, &"truncated".into(), &203.into()),
            "{source}: {report:#}"
        );
        assert!(fault["what"].as_str().unwrap().contains(source.as_str()), "{report:#}");
    }
    // They fit what they are of.
    let (record, _) = Record::usual("not-set-back");
    let head = record.tiles.tree().head();
    let bits = u64::from_be_bytes(*head.root.0.first_chunk().unwrap()) >> 12;
    for (source, fits) in [
        (format!("305:{}", head.root), true),
        (format!("305:{bits}"), true),
        (format!("305:{}", bits + 1), false),
        (format!("305:{}", Hash::EMPTY), false),
        (format!("204:{bits}"), false),
    ] {
        let (code, report) = json(&record.verify(&["-o", "json", "--checkpoint", &source]));
        assert_eq!(code == 0, fits, "{source}: {report:#}");
        assert!(fits || report["faults"][0]["kind"] == "checkpoint", "{source}: {report:#}");
    }
}

/// Who has the key can sign what he likes, but not what fits a head that was signed before and kept elsewhere.
#[test]
fn a_record_that_was_written_anew_does_not_fit_what_was_kept() {
    let (record, early) = Record::usual("anew");
    let mut other = Record::new("anew-other");
    other.key = SigningKey::from_pem(ORIGIN, record.key.to_pem().unwrap().as_str()).unwrap();
    for _ in 1..=3 {
        other.rotate();
        (0..100).for_each(|_| drop(other.line("list")));
    }
    other.publish();
    other.folder.put("early", &early);
    let (code, report) = json(&other.verify(&["-o", "json"]));
    assert_eq!(code, 0, "{report:#}");
    let early = other.dir().join("early").display().to_string();
    let (code, report) = json(&other.verify(&["-o", "json", "--checkpoint", &early]));
    let fault = &report["faults"][0];
    assert_eq!((code, &fault["kind"]), (2, &"checkpoint".into()), "{report:#}");
    if let Some((code, said)) = other.verify_py(&[&early]) {
        assert!(code == 2 && said.contains("the leaves up to 203 are not those that"), "{said}");
    }
}

#[test]
fn a_record_that_is_being_written_to_has_a_tail() {
    let mut record = Record::new("live");
    record.rotate();
    (0..10).for_each(|_| drop(record.line("get")));
    record.publish_at(now());
    record.edit(1, |lines| {
        lines.extend([event(900, "get"), event(901, "get"), event(902, "get")]);
        lines[12].truncate(50);
    });
    let (code, report) = json(&record.verify(&["-o", "json"]));
    assert_eq!((code, &report["live"]), (0, &true.into()), "{report:#}");
    assert_eq!((&report["tail"]["line"], &report["tail"]["lines"]), (&11.into(), &2.into()), "{report:#}");
    assert_eq!(report["tail"]["partial"], true, "{report:#}");
    let (code, said_text) = text(&record.verify(&[]));
    assert!(
        code == 0
            && said_text.contains("unsigned tail, still being written: 2 lines and one without an end are"),
        "{said_text}"
    );
    if let Some((code, said)) = record.verify_py(&[]) {
        assert_eq!(code, 0, "{said}");
    }
    // An hour later nobody will sign that any more.
    record.publish_at(now() - 3600);
    let (code, report) = json(&record.verify(&["-o", "json"]));
    assert_eq!(
        (code, &report["faults"][0]["kind"], &report["faults"][0]["line"]),
        (2, &"tail".into(), &11.into()),
        "{report:#}"
    );
    let (code, said) = text(&record.verify(&["--allow-tail"]));
    assert!(code == 0 && said.contains("of a copy"), "{said}");
    if let Some((code, said)) = record.verify_py(&[]) {
        assert!(code == 2 && said.contains("line 11: the line was never signed"), "{said}");
    }
}

#[test]
fn what_was_pruned_or_erased_as_a_leaf_says_may_be_missing() {
    let (mut record, early) = Record::usual("pruned");
    record.add(Kind::Start { recovered: 0 });
    record.add(Kind::Prune { before: 203, segment: 3 });
    record.add(Kind::Erase { line: 210 });
    record.add(Kind::Stop { lost: 2 });
    record.publish();
    let leaves = "309 leaves are those that were signed; 2 events were lost, by the record's own word\n";
    let gone = |lines: u64| format!("{leaves}{lines} lines are those that were signed\n");
    // Nothing is removed yet.
    let (code, report) = json(&record.verify(&["-o", "json"]));
    assert_eq!(
        (code, &report["lines"], &report["prunedBefore"]),
        (0, &300.into(), &203.into()),
        "{report:#}"
    );
    if let Some(said) = record.verify_py(&[]) {
        assert_eq!(said, (0, gone(300)));
    }
    fs::remove_file(record.segment(1)).unwrap();
    fs::remove_file(record.segment(2)).unwrap();
    record.edit(3, |lines| drop(lines.remove(6)));
    record.folder.put("early", &early);
    let early = record.dir().join("early").display().to_string();
    let (code, report) = json(&record.verify(&["-o", "json", "--checkpoint", &early]));
    assert_eq!(
        (code, &report["lines"], &report["absent"], &report["erased"]),
        (0, &99.into(), &201.into(), &serde_json::json!([210])),
        "{report:#}"
    );
    if let Some(said) = record.verify_py(&[&early]) {
        assert_eq!(said, (0, gone(99)));
    }
    // One more is one too many.
    record.edit(3, |lines| drop(lines.remove(6)));
    let (code, report) = json(&record.verify(&["-o", "json"]));
    assert_eq!(
        (code, &report["faults"][0]["kind"], &report["faults"][0]["sequence"]),
        (2, &"removed".into(), &211.into()),
        "{report:#}"
    );
}

/// More leaves than a bundle are pruned, and with them their tiles.
#[test]
fn a_pruned_tree_is_verified_from_its_upper_tiles() {
    let mut record = Record::new("deep");
    let mut rotated = 0;
    for segment in 1..=5 {
        rotated = record.tiles.tree().size();
        record.rotate();
        let lines = if segment == 5 { 10 } else { 700 };
        (0..lines).for_each(|_| drop(record.line("get")));
    }
    let early = record.publish();
    record.add(Kind::Prune { before: rotated, segment: 5 });
    record.publish();
    for segment in 1..=4 {
        fs::remove_file(record.segment(segment)).unwrap();
    }
    for index in 0..rotated / 256 {
        fs::remove_file(record.log(&format!("tile/entries/{index:03}"))).unwrap();
        fs::remove_file(record.log(&format!("tile/0/{index:03}"))).unwrap();
    }
    record.folder.put("early", &early);
    let early = record.dir().join("early").display().to_string();
    let (code, report) =
        json(&record.verify(&["-o", "json", "--checkpoint", &early, "--checkpoint", "5:77"]));
    assert_eq!(
        (code, &report["lines"], &report["offBox"]["unchecked"]),
        (0, &10.into(), &1.into()),
        "{report:#}"
    );
    if let Some((code, said)) = verify_py(record.dir(), &record.key.verifier().to_string(), &[&early]) {
        assert!(code == 0 && said.contains("\n10 lines are those that were signed\n"), "{said}");
    }
    // The consistency proof needs no more than that, the inclusion proof of what is left neither.
    let key = record.key.verifier().to_string();
    let dir = record.dir().to_str().unwrap();
    let (code, proof) = text(&gatelog(&["audit", "prove", dir, "--key", &key, "--from", &early]));
    assert_eq!(code, 0, "{proof}");
    let (code, said_text) =
        text(&gatelog(&["audit", "prove", dir, "--key", &key, "--event", &id(5).to_string()]));
    assert!(code == 2 && said_text.contains("is pruned"), "{said_text}");
    record.bytes(&record.log("tile/1/000.p/11"), |bytes| bytes[3] ^= 1);
    let (code, report) = json(&record.verify(&["-o", "json"]));
    assert_eq!(code, 2, "{report:#}");
}

#[test]
fn a_proof_holds_for_one_line_and_one_key() {
    let (record, early) = Record::usual("prove");
    let key = record.key.verifier().to_string();
    let dir = record.dir().to_str().unwrap();
    let path = |name: &str| record.dir().join(name).display().to_string();
    let (proof, line, old) = (path("proof"), path("line"), path("old"));
    record.folder.put("old", &early);
    record.compress(2);
    let event_id = id(152).to_string();
    let prove = |args: &[&str]| text(&gatelog(&[&["audit", "prove", "--key", &key], args].concat()));
    let (code, said) = prove(&[dir, "--event", &format!("{event_id}/ResponseComplete"), "--line", &line]);
    assert!(code == 0 && said.starts_with("c2sp.org/tlog-proof@v1\nextra "), "{said}");
    record.folder.put("proof", &said);
    assert_eq!(fs::read_to_string(&line).unwrap(), event(152, "get"));
    let want = format!(
        "log {ORIGIN}: event {event_id}, ResponseComplete at 2026-01-02T03:04:05.152000Z is leaf 152 of 305\n"
    );
    assert_eq!(prove(&["--check", &proof, "--line", &line]), (0, want));
    fs::write(&line, event(152, "put")).unwrap();
    let (code, said) = prove(&["--check", &proof, "--line", &line]);
    assert!(code == 2 && said.contains("the line is not the one that the proof is of"), "{said}");
    let other = SigningKey::generate(ORIGIN).unwrap().verifier().to_string();
    let (code, said) =
        text(&gatelog(&["audit", "prove", "--key", &other, "--check", &proof, "--line", &line]));
    assert!(code == 2 && said.contains("by none of the keys that are given, only by "), "{said}");
    let (code, said) = prove(&[dir, "--from", &old]);
    assert!(code == 0 && said.starts_with("old 203\n"), "{said}");
    record.folder.put("proof", &said);
    let want = format!("log {ORIGIN}: the tree of 305 leaves continues that of 203\n");
    assert_eq!(prove(&["--check", &proof, "--old", &old]), (0, want));
    for (args, want, code) in [
        (vec![dir, "--event", "nonsense"], "--event: expected a UUID", 64),
        (vec![dir, "--event", "00000000-0000-0000-0000-000000000098/End"], "expected RequestReceived", 64),
        (vec![dir, "--event", "00000000-0000-0000-0000-00000000ffff"], "no signed leaf is of", 2),
        (vec!["nowhere", "--event", &event_id], "nowhere: ", 64),
        (vec!["--check", &proof], "--check: expected --line", 64),
        (vec![dir], "required", 64),
    ] {
        let (found, said) = prove(&args);
        assert!(found == code && said.contains(want), "{args:?}: {found} {said}");
    }
}

#[test]
fn a_key_is_made_once() {
    let folder = crate::scene::Folder::new("keygen");
    let out = folder.0.join("signing.key").display().to_string();
    let made = gatelog(&["audit", "keygen", "--origin", ORIGIN, "--out", &out]);
    let (code, said) = text(&made);
    assert_eq!(code, 0, "{said}");
    let public = String::from_utf8(made.stdout).unwrap();
    assert!(public.starts_with(&format!("{ORIGIN}+")) && public.ends_with('\n'), "{public}");
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    let key = fs::read_to_string(&out).unwrap();
    assert_eq!(SigningKey::from_pem(ORIGIN, &key).unwrap().verifier().to_string(), public.trim());
    let (code, said) = text(&gatelog(&["audit", "keygen", "--out", &out]));
    assert!(code == 64 && said.contains("it is not overwritten"), "{said}");
    assert_eq!(fs::read_to_string(&out).unwrap(), key);
    let (code, said) =
        text(&gatelog(&["audit", "keygen", "--public", &out, "--origin", "gatelog.example/prod/1"]));
    assert!(code == 0 && said.starts_with("gatelog.example/prod/1+"), "{said}");
    let (code, said) = text(&gatelog(&["audit", "keygen", "--origin", "two words", "--out", "none"]));
    assert!(code == 64 && said.contains("key name"), "{said}");
}

#[test]
fn what_cannot_begin_is_bad_usage() {
    let (record, _) = Record::usual("usage");
    let dir = record.dir().to_str().unwrap();
    let key = record.key.verifier().to_string();
    record.folder.put("empty", "");
    let empty = record.dir().join("empty").display().to_string();
    for (args, want) in [
        (vec!["nowhere", "--key", &key], "nowhere: "),
        (vec![dir, "--key", "nothing"], "is no key"),
        (vec![dir, "--key", &empty], "holds no key"),
        (vec![dir, "--key", &key, "--checkpoint", "nowhere"], "nowhere: expected a checkpoint"),
        (vec![dir, "--key", &key, "--checkpoint", &empty], "expected a checkpoint"),
        (vec![dir], "--key"),
    ] {
        let (code, said) = text(&gatelog(&[&["audit", "verify"], &args[..]].concat()));
        assert!(code == 64 && said.contains(want), "{args:?}: {code} {said}");
    }
}

/// kube-apiserver's own log of the same requests, and what is made of it.
#[test]
fn the_clusters_log_has_what_the_record_has() {
    let at = |n: u64| format!("2026-01-02T03:04:{n:02}.000000Z");
    let request = |n: u64, over: &[(&str, Value)]| {
        let mut event = serde_json::json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": id(1000 + n).to_string(), "stage": "ResponseComplete",
            "requestURI": "/api/v1/pods?limit=5", "verb": "list", "user": {"username": "alice"}, "objectRef": {"resource": "pods"},
            "responseStatus": {"code": 200}, "requestReceivedTimestamp": at(n), "stageTimestamp": at(n),
            "annotations": {"authorization.k8s.io/decision": "allow"},
        });
        for (key, value) in over {
            event[*key] = value.clone();
        }
        format!("{event}\n")
    };
    let gate = serde_json::json!({"username": "system:serviceaccount:gatelog:gatelog"});
    let alice = serde_json::json!({"username": "alice"});
    let through = |n: u64, over: &[(&str, Value)]| {
        request(n, &[&[("user", gate.clone()), ("impersonatedUser", alice.clone())], over].concat())
    };
    let denied = serde_json::json!({"authorization.k8s.io/decision": "forbid"});
    let ours = [
        request(10, &[]),
        request(11, &[]),
        request(12, &[("annotations", denied), ("responseStatus", serde_json::json!({"code": 403}))]),
        request(13, &[("verb", "create".into())]),
        request(20, &[]),
    ];
    // They are in no tree: here only the comparison counts.
    let compare = |theirs: &[String], more: &[&str]| {
        let (record, _) = Record::usual("against-record");
        fs::write(record.segment(3), ours.concat()).unwrap();
        record.folder.put("kube.log", &theirs.concat());
        let kube = record.dir().join("kube.log").display().to_string();
        json(&record.verify(&[&["-o", "json", "--allow-tail", "--against", &kube], more].concat())).1
    };
    let against = |report: &Value| -> Vec<String> {
        let faults = report["faults"].as_array().unwrap().iter().filter(|fault| fault["kind"] == "against");
        faults.map(|fault| fault["what"].as_str().unwrap().to_owned()).collect()
    };
    let own = request(14, &[("user", gate.clone()), ("verb", "watch".into())]);
    let all = [through(10, &[]), through(11, &[]), own, request(15, &[]), through(20, &[])];
    let report = compare(&all, &[]);
    let counts = &report["against"];
    assert_eq!(against(&report), Vec::<String>::new(), "{report:#}");
    assert_eq!(counts["account"], "system:serviceaccount:gatelog:gatelog");
    for (key, want) in
        [("matched", 3), ("own", 1), ("others", 1), ("perhapsOmitted", 1), ("notSeen", 0), ("notRecorded", 0)]
    {
        assert_eq!(counts[key], want, "{key}: {report:#}");
    }
    let rows: [(Vec<String>, &str); 5] = [
        (
            [&all[..], &[through(16, &[("verb", "delete".into())])]].concat(),
            "the record lacks it: alice: delete /api/v1/pods",
        ),
        (
            [&all[1..]].concat().into_iter().chain([request(5, &[("user", gate.clone())])]).collect(),
            "the cluster's log lacks it: alice: list /api/v1/pods",
        ),
        (
            [&all[1..], &[through(10, &[("impersonatedUser", serde_json::json!({"username": "root"}))])]]
                .concat(),
            "the user alice, the cluster root",
        ),
        (
            [&all[1..], &[through(10, &[("requestURI", "/api/v1/secrets".into())])]].concat(),
            "the path /api/v1/pods, the cluster /api/v1/secrets",
        ),
        (
            [&all[1..], &[through(10, &[("responseStatus", serde_json::json!({"code": 403}))])]].concat(),
            "the code 200, the cluster 403",
        ),
    ];
    for (theirs, want) in rows {
        let report = compare(&theirs, &["--account", "system:serviceaccount:gatelog:gatelog"]);
        let found = against(&report);
        assert!(found.len() == 1 && found[0].contains(want), "{want}: {found:?}");
    }
}
