//! A record as a gate leaves it in its folder, made by hand: the tree, the segments and whatever is done to them.

use crate::scene::Folder;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use gatelog::audit::{
    event::{MicroTime, Stage},
    tree::{
        Hash,
        checkpoint::Checkpoint,
        leaf::{AuditId, Event, Kind, Leaf},
        note::SigningKey,
        tile::{Tile, Tiles},
    },
};
use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output},
};

pub(crate) const ORIGIN: &str = "gatelog.example/prod/0";
/// Of the first leaf, in microseconds since 1970.
const BEGIN: i64 = 1_767_323_045_000_000;

/// A record.
pub(crate) struct Record {
    pub(crate) folder: Folder,
    pub(crate) key: SigningKey,
    pub(crate) tiles: Tiles,
    segment: u64,
    /// Lines that are not in a file yet.
    pending: String,
}

impl Record {
    /// With a start and no lines.
    pub(crate) fn new(what: &str) -> Self {
        let folder = Folder::new(what);
        let key = SigningKey::generate(ORIGIN).unwrap();
        let mut this = Self { folder, key, tiles: Tiles::new(), segment: 0, pending: String::new() };
        this.add(Kind::Start { recovered: 0 });
        this
    }

    /// Three segments with 100 lines each: sequences 2 to 101, 103 to 202, 204 to 303; then a stop. Also the checkpoint
    /// after the second.
    pub(crate) fn usual(what: &str) -> (Self, String) {
        let mut this = Self::new(what);
        let mut early = String::new();
        for segment in 1..=3 {
            this.rotate();
            (0..100).for_each(|_| drop(this.line("get")));
            if segment == 2 {
                early = this.publish();
            }
        }
        this.add(Kind::Stop { lost: 0 });
        this.publish();
        (this, early)
    }

    pub(crate) fn add(&mut self, kind: Kind) -> Leaf {
        let at = MicroTime(BEGIN + self.tiles.tree().size() as i64 * 1000);
        self.tiles.append(at, kind)
    }

    /// Begins the next segment.
    pub(crate) fn rotate(&mut self) {
        self.flush();
        self.segment += 1;
        self.add(Kind::Rotate { segment: self.segment });
    }

    /// Writes an event.
    pub(crate) fn line(&mut self, verb: &str) -> (u64, String) {
        let sequence = self.tiles.tree().size();
        let line = event(sequence, verb);
        let event = Event {
            stage: Stage::ResponseComplete,
            id: id(sequence),
            line: Hash::of(line.trim_end().as_bytes()),
            lost: 0,
        };
        self.add(Kind::Event(event));
        self.pending.push_str(&line);
        (sequence, line)
    }

    fn flush(&mut self) {
        if self.segment > 0 {
            let mut file =
                File::options().append(true).create(true).open(self.segment(self.segment)).unwrap();
            file.write_all(std::mem::take(&mut self.pending).as_bytes()).unwrap();
        }
    }

    /// Writes what there is, and signs it as long ago as the leaves are.
    pub(crate) fn publish(&mut self) -> String {
        self.publish_at((BEGIN / 1_000_000) as u64 + self.tiles.tree().size() / 100)
    }

    /// The same, at a time in seconds since 1970.
    pub(crate) fn publish_at(&mut self, time: u64) -> String {
        self.flush();
        self.store_tiles();
        let note = Checkpoint::new(ORIGIN, self.tiles.tree().head(), time).sign(&self.key).unwrap();
        fs::write(self.log("checkpoint"), &note).unwrap();
        self.folder.put("audit.pub", &format!("{}\n", self.key.verifier()));
        note
    }

    pub(crate) fn store_tiles(&mut self) {
        let full = self.tiles.take_full();
        let partial = self.tiles.partial().map(|(tile, bytes)| (tile, bytes.to_vec()));
        for (tile, bytes) in full.into_iter().chain(partial) {
            let path = self.tile(tile);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.folder.0
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.dir().join("log").join(name)
    }

    pub(crate) fn tile(&self, tile: Tile) -> PathBuf {
        self.log(&tile.to_string())
    }

    /// The file of a segment, in the form in which it is there.
    pub(crate) fn segment(&self, number: u64) -> PathBuf {
        let plain = self.dir().join(format!("audit-20260102T03040{number}.000Z-{number:08}.jsonl"));
        let compressed = plain.with_extension("jsonl.gz");
        if compressed.exists() { compressed } else { plain }
    }

    pub(crate) fn compress(&self, number: u64) {
        let plain = self.segment(number);
        let text = fs::read_to_string(&plain).unwrap();
        fs::remove_file(&plain).unwrap();
        write(&plain.with_extension("jsonl.gz"), &text);
    }

    /// Changes the lines of a segment, whatever form it has.
    pub(crate) fn edit(&self, number: u64, change: impl FnOnce(&mut Vec<String>)) {
        let path = self.segment(number);
        let text = read(&path);
        let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
        change(&mut lines);
        write(&path, &lines.concat());
    }

    /// Changes the bytes of a file.
    pub(crate) fn bytes(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    /// `gatelog audit verify` with the public key and these arguments.
    pub(crate) fn verify(&self, args: &[&str]) -> Output {
        let key = self.key.verifier().to_string();
        let dir = self.dir().to_str().unwrap();
        gatelog(&[&["audit", "verify", dir, "--key", &key], args].concat())
    }

    /// `docs/verify.py`; None where it cannot run.
    pub(crate) fn verify_py(&self, kept: &[&str]) -> Option<(i32, String)> {
        verify_py(self.dir(), &self.key.verifier().to_string(), kept)
    }
}

/// An event as a gate writes it, newline and all.
pub(crate) fn event(sequence: u64, verb: &str) -> String {
    let at = MicroTime(BEGIN + sequence as i64 * 1000);
    let id = id(sequence);
    format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"{id}","stage":"ResponseComplete","requestURI":"/api/v1/pods","verb":"{verb}","user":{{"username":"alice"}},"requestReceivedTimestamp":"{at}","stageTimestamp":"{at}","annotations":{{"gatelog.dev/salt":"{sequence:032x}"}}}}
"#
    )
}

pub(crate) fn id(sequence: u64) -> AuditId {
    AuditId(u128::from(sequence).to_be_bytes())
}

fn read(path: &Path) -> String {
    let mut text = String::new();
    let mut file = File::open(path).unwrap();
    match path.extension().is_some_and(|e| e == "gz") {
        true => GzDecoder::new(file).read_to_string(&mut text).unwrap(),
        false => file.read_to_string(&mut text).unwrap(),
    };
    text
}

fn write(path: &Path, text: &str) {
    if path.extension().is_some_and(|e| e == "gz") {
        let mut gz = GzEncoder::new(File::create(path).unwrap(), Compression::fast());
        gz.write_all(text.as_bytes()).unwrap();
        gz.finish().unwrap();
    } else {
        fs::write(path, text).unwrap();
    }
}

/// Runs the program.
pub(crate) fn gatelog(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gatelog")).args(args).output().unwrap()
}

/// Exit code and output of `docs/verify.py`; None where it cannot run.
pub(crate) fn verify_py(dir: &Path, key: &str, kept: &[&str]) -> Option<(i32, String)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verify.py");
    let ready = Command::new("python3").args(["-c", "import cryptography"]).output();
    if !ready.is_ok_and(|output| output.status.success()) {
        assert!(
            std::env::var_os("GATELOG_REQUIRE_PYTHON").is_none(),
            "no python3 with the package cryptography"
        );
        eprintln!("skipped: no python3 with the package cryptography");
        return None;
    }
    let mut command = Command::new("python3");
    let output = command.arg("-B").arg(script).arg(dir).arg(key).args(kept).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.code().unwrap(), String::from_utf8(said).unwrap()))
}
