//! A record as it lies in a folder, read by the verifier that is not ours: `docs/verify.py`.

use gatelog::audit::{
    event::{MicroTime, Stage},
    tree::{
        Hash,
        checkpoint::Checkpoint,
        leaf::{AuditId, Event, Kind},
        note::SigningKey,
        tile::{Tile, Tiles},
    },
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const ORIGIN: &str = "gatelog.example/prod/0";
/// The leaf that says that the first segment is removed.
const PRUNE: u64 = 599;
/// The first sequence that stays.
const STAYS: u64 = 300;
/// The one line that is erased.
const ERASED: u64 = 400;

/// Start, a segment with the lines 2 to 298, another with the lines 300 to 598, a prune of the first, an erasure, a stop.
struct Log {
    dir: PathBuf,
    key: SigningKey,
    tiles: Tiles,
    lines: Vec<(u64, String)>,
}

impl Log {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("gatelog-transparency-{}-{name}", std::process::id()));
        let key = SigningKey::generate(ORIGIN).unwrap();
        let mut this = Self { dir, key, tiles: Tiles::new(), lines: Vec::new() };
        this.append(Kind::Start { recovered: 0 });
        this.append(Kind::Rotate { segment: 1 });
        (2..STAYS - 1).for_each(|_| this.line());
        this.append(Kind::Rotate { segment: 2 });
        (STAYS..PRUNE).for_each(|_| this.line());
        this.append(Kind::Prune { before: STAYS, segment: 2 });
        this.append(Kind::Erase { line: ERASED });
        this.append(Kind::Stop { lost: 3 });
        this.store();
        this
    }

    fn append(&mut self, kind: Kind) {
        self.tiles.append(MicroTime(1_767_323_045_678_901), kind);
    }

    fn line(&mut self) {
        let sequence = self.tiles.tree().size();
        let line = format!(r#"{{"kind":"Event","n":{sequence}}}"#);
        let line_hash = Hash::of(line.as_bytes());
        let event = Event { stage: Stage::Panic, id: AuditId([1; 16]), line: line_hash, lost: 0 };
        self.append(Kind::Event(event));
        self.lines.push((sequence, line));
    }

    fn store(&mut self) {
        let full = self.tiles.take_full();
        let partial = self.tiles.partial().map(|(tile, bytes)| (tile, bytes.to_vec()));
        for (tile, bytes) in full.into_iter().chain(partial) {
            let path = self.path(tile);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let note = Checkpoint::new(ORIGIN, self.tiles.tree().head(), 1_767_323_045).sign(&self.key).unwrap();
        fs::write(self.dir.join("checkpoint"), note).unwrap();
        for (segment, lines) in self.segments() {
            fs::write(segment, lines).unwrap();
        }
    }

    fn path(&self, tile: Tile) -> PathBuf {
        self.dir.join(tile.to_string())
    }

    fn segments(&self) -> [(PathBuf, String); 2] {
        [("1.jsonl", 0..STAYS), ("2.jsonl", STAYS..PRUNE)].map(|(name, sequences)| {
            let lines = self.lines.iter().filter(|(sequence, _)| sequences.contains(sequence));
            (self.dir.join(name), lines.map(|(_, line)| format!("{line}\n")).collect())
        })
    }

    /// Exit code and output; None where the verifier cannot run.
    fn verify(&self, segments: &[&str]) -> Option<(i32, String)> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verify.py");
        let ready = Command::new("python3").args(["-c", "import cryptography"]).output();
        if !ready.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: no python3 with the package cryptography");
            return None;
        }
        let mut command = Command::new("python3");
        command.arg("-B").arg(script).arg(&self.dir).arg(self.key.verifier().to_string());
        let output = command.args(segments.iter().map(|name| self.dir.join(name))).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        Some((output.status.code().unwrap(), String::from_utf8(said).unwrap()))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // What stays is in the temporary folder.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

const BOTH: [&str; 2] = ["1.jsonl", "2.jsonl"];

#[test]
fn a_record_is_verified_without_us() {
    let log = Log::new("whole");
    let Some(said) = log.verify(&BOTH) else { return };
    let leaves = "602 leaves are those that were signed; 3 events were lost, by the record's own word\n";
    assert_eq!(said, (0, format!("{leaves}596 lines are those that were signed\n")));
    // As after the prune: the segment is gone, and with it what the tree no longer needs.
    fs::remove_file(log.dir.join("1.jsonl")).unwrap();
    fs::remove_file(log.path("tile/entries/000".parse().unwrap())).unwrap();
    fs::remove_file(log.path("tile/0/000".parse().unwrap())).unwrap();
    // And after the erasure.
    let [_, (path, lines)] = log.segments();
    fs::write(path, lines.replace("{\"kind\":\"Event\",\"n\":400}\n", "")).unwrap();
    let Some(said) = log.verify(&["2.jsonl"]) else { return };
    assert_eq!(said, (0, format!("{leaves}298 lines are those that were signed\n")));
}

#[test]
fn tampering_is_found_without_us() {
    type Change = fn(&Log);
    fn lines(log: &Log, change: impl Fn(String) -> String) {
        let [_, (path, lines)] = log.segments();
        fs::write(path, change(lines)).unwrap();
    }
    fn file(log: &Log, name: &str, change: impl Fn(&mut Vec<u8>)) {
        let path = log.dir.join(name);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }
    let unlike = "the line is not the one that was signed, or is missing";
    let rows: [(&str, Change, String); 10] = [
        (
            "altered",
            |log| lines(log, |l| l.replace("\"n\":350", "\"n\":351")),
            format!("sequence 350: {unlike}"),
        ),
        (
            "removed",
            |log| lines(log, |l| l.replace("{\"kind\":\"Event\",\"n\":350}\n", "")),
            format!("sequence 350: {unlike}"),
        ),
        (
            "truncated",
            |log| lines(log, |l| l[..l.len() - 1 - 24].to_owned()),
            format!("sequence 598: {unlike}"),
        ),
        (
            "appended",
            |log| lines(log, |l| l + "{}\n"),
            "sequence 602: lines follow that are not signed".to_owned(),
        ),
        (
            "a leaf",
            |log| file(log, "tile/entries/001", |bytes| bytes[2 + 40] ^= 1),
            "sequence 0: the leaves up to 602 are not those that were signed".to_owned(),
        ),
        (
            "a moved leaf",
            |log| {
                file(log, "tile/entries/001", |bytes| {
                    let first: Vec<u8> = bytes.drain(..77).collect();
                    bytes.splice(77..77, first);
                });
            },
            "sequence 256: another leaf stands here".to_owned(),
        ),
        (
            "a missing bundle",
            |log| fs::remove_file(log.path("tile/entries/002.p/90".parse().unwrap())).unwrap(),
            "sequence 512: leaves are missing".to_owned(),
        ),
        (
            "a bundle missing in the middle",
            |log| fs::remove_file(log.dir.join("tile/entries/001")).unwrap(),
            "sequence 256: leaves are missing".to_owned(),
        ),
        (
            "more removed than was said",
            |log| {
                for index in 0..2 {
                    fs::remove_file(log.dir.join(format!("tile/entries/00{index}"))).unwrap();
                }
            },
            "sequence 300: leaves are missing, and no leaf says that they were removed".to_owned(),
        ),
        (
            "the checkpoint",
            |log| file(log, "checkpoint", |bytes| bytes[ORIGIN.len() + 1] = b'5'),
            "cannot be verified: InvalidSignature()".to_owned(),
        ),
    ];
    for (name, change, want) in rows {
        let log = Log::new(name);
        change(&log);
        let Some((code, said)) = log.verify(&BOTH) else { return };
        assert_eq!((code, said.lines().last()), (2, Some(want.as_str())), "{name}: {said}");
    }
}
