//! Reads a whole journal again and verifies all of it: every line, every request, every leaf, and every checkpoint that was
//! ever seen. A test calls it after each of its steps.

use gatelog::audit::{
    event::{MicroTime, Stage},
    folder,
    tree::{
        Hash, Head,
        checkpoint::Checkpoint,
        leaf::{Kind, Leaf},
        note::VerifierKey,
        tile::{BadTile, Entries, Holds, Reader, Tile, WIDTH},
        verify::{self, Gone},
    },
};
use serde::Deserialize;
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    io::{self, BufRead as _, ErrorKind},
    path::{Path, PathBuf},
    time::Duration,
};

/// In what state a journal is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Its process was killed, and no other has begun.
    Killed,
    /// A process writes to it, at this very moment.
    Running,
    /// Its last process ended in order.
    Stopped,
}

/// A journal under watch. Remembers every head that was signed.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: PathBuf,
    heads: BTreeMap<u64, Hash>,
    times: u64,
    /// Whether events may be lost, and with them a last one.
    gaps: bool,
}

/// What a journal holds, all of it verified.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// By audit id.
    pub(crate) requests: HashMap<String, Request>,
    /// All lines.
    pub(crate) lines: u64,
    /// Lines that are cut off.
    pub(crate) torn: u64,
    /// Segments, of them compressed.
    pub(crate) segments: (usize, usize),
    /// Lines that no signed leaf commits to yet.
    pub(crate) uncommitted: u64,
    /// Events that are lost by the record's own word.
    pub(crate) lost: u64,
    /// Sequences below this are removed, as a signed leaf says.
    pub(crate) pruned: u64,
    /// Leaves that are signed.
    pub(crate) size: u64,
    /// Starts without a stop before them.
    pub(crate) crashes: u64,
}

/// The events of one request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// In their order.
    pub(crate) stages: Vec<Stage>,
    /// Whether nobody knows how it ended.
    pub(crate) unknown: bool,
    /// Whether nobody was authenticated.
    pub(crate) stranger: bool,
    /// Verb and requestURI of the first of them.
    pub(crate) line: String,
}

/// What is read of a line; the rest has to be JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    #[serde(rename = "auditID", borrow)]
    audit_id: Cow<'a, str>,
    #[serde(borrow)]
    stage: Cow<'a, str>,
    #[serde(borrow)]
    stage_timestamp: Cow<'a, str>,
    #[serde(borrow)]
    verb: Cow<'a, str>,
    #[serde(rename = "requestURI", borrow)]
    request_uri: Cow<'a, str>,
    user: serde_json::Map<String, serde_json::Value>,
    #[serde(borrow, default)]
    annotations: HashMap<Cow<'a, str>, Cow<'a, str>>,
}

/// A line as it lies in a file.
struct Raw {
    segment: u64,
    text: Vec<u8>,
    hash: Hash,
}

/// The leaves that are signed.
struct Log {
    size: u64,
    first: u64,
    leaves: Vec<Leaf>,
    found: verify::Leaves,
}

impl Request {
    /// Whether its first event is there.
    pub(crate) fn begun(&self) -> bool {
        self.stages.contains(&Stage::RequestReceived)
    }

    /// Whether its last event is there.
    pub(crate) fn ended(&self) -> bool {
        self.stages.iter().any(|s| matches!(s, Stage::ResponseComplete | Stage::Panic))
    }
}

impl Found {
    /// Requests that have a first event and no last one.
    pub(crate) fn open(&self) -> impl Iterator<Item = (&String, &Request)> {
        self.requests.iter().filter(|(_, r)| !r.stranger && !r.ended())
    }
}

impl Journal {
    /// That of this folder, which need not be there yet.
    pub(crate) fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), heads: BTreeMap::new(), times: 0, gaps: false }
    }

    /// How often it was checked.
    pub(crate) fn times(&self) -> u64 {
        self.times
    }

    /// Reads and verifies everything; panics with the first thing that does not fit.
    #[track_caller]
    pub(crate) fn check(&mut self, state: State) -> Found {
        self.times += 1;
        let mut attempts = 0;
        loop {
            match self.read(state) {
                Ok(found) => return found,
                // Who writes also removes, maybe between two looks of ours: what was compressed, or filled, or is too old.
                Err(_) if state == State::Running && attempts < 20 => {
                    attempts += 1;
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(e) => panic!("{}: {state:?}: {e}", self.dir.display()),
            }
        }
    }

    /// The same where events were lost, and maybe the last one of a request.
    #[track_caller]
    pub(crate) fn check_with_gaps(&mut self, state: State) -> Found {
        self.gaps = true;
        self.check(state)
    }

    fn read(&mut self, state: State) -> io::Result<Found> {
        let log = self.log()?;
        let (lines, tail, segments) = lines(&self.dir)?;
        assert!(tail == 0 || state != State::Stopped, "a torn line of {tail} bytes stays after a stop");
        let mut found = Found { segments, lines: lines.len() as u64, ..Found::default() };
        let Some(log) = log else {
            // The first checkpoint is to come.
            assert!(state != State::Stopped, "{}: no checkpoint", self.dir.display());
            found.uncommitted = found.lines;
            found.events(&lines, state == State::Stopped && !self.gaps);
            return Ok(found);
        };
        let hashes = lines.iter().map(|line| io::Result::Ok(line.hash));
        let gone = &log.found.gone;
        let compared = match verify::lines(log.leaves.iter().map(|leaf| Ok(*leaf)), hashes, gone)? {
            Ok(compared) => compared,
            Err(fault) => return Err(io::Error::other(fault)),
        };
        if state == State::Stopped {
            assert_eq!(compared.uncommitted, 0, "{}: lines without a leaf", self.dir.display());
            assert!(log.found.stopped, "{}: the last leaf is no stop", self.dir.display());
        }
        let committed = (lines.len() as u64 - compared.uncommitted) as usize;
        log.agrees(&lines[..committed], gone);
        found.uncommitted = compared.uncommitted;
        found.lost = log.found.lost;
        found.pruned = gone.before;
        found.size = log.size;
        found.crashes = log.found.crashes;
        found.events(&lines, state == State::Stopped && !self.gaps);
        Ok(found)
    }

    /// The tree up to its newest checkpoint, which continues all that were seen before; None if there is none yet.
    fn log(&mut self) -> io::Result<Option<Log>> {
        let dir = self.dir.join(folder::LOG);
        let note = match fs::read(dir.join("checkpoint")) {
            Err(e) if e.kind() == ErrorKind::NotFound && self.heads.is_empty() => return Ok(None),
            note => note?,
        };
        let key = fs::read_to_string(self.dir.join(folder::PUBLIC_KEY))?;
        let key: VerifierKey = key.trim().parse().unwrap_or_else(|e| panic!("audit.pub: {e}"));
        let origin = key.name().to_owned();
        let checkpoint =
            Checkpoint::open(&note, &origin, &[key]).unwrap_or_else(|e| panic!("checkpoint: {e}"));
        let (size, root) = (checkpoint.head.size, checkpoint.head.root);
        let known = *self.heads.entry(size).or_insert(root);
        assert_eq!(known, root, "two roots over {size} leaves were signed");
        let (&newest, _) = self.heads.last_key_value().unwrap();
        assert_eq!(newest, size, "a checkpoint over more leaves was signed before");

        let read = |tile| read_tile(&dir, tile);
        let bundle = |at: u64| Tile {
            holds: Holds::Entries,
            index: at / u64::from(WIDTH),
            width: (size - at).min(WIDTH.into()) as u16,
        };
        let mut first = 0;
        while first < size
            && matches!(read(bundle(first)), Err(Missing::Io(e)) if e.kind() == ErrorKind::NotFound)
        {
            first += u64::from(WIDTH);
        }
        let first = first.min(size);
        let from = Reader::new(size, read).tree(first).map_err(Missing::into_io)?;
        let mut entries = Vec::new();
        let mut at = first;
        while at < size {
            let tile = bundle(at);
            let bytes = read(tile).map_err(Missing::into_io)?;
            let hashes = read(Tile { holds: Holds::Hashes(0), ..tile }).map_err(Missing::into_io)?;
            for (entry, hash) in Entries(&bytes).zip(hashes.as_chunks().0) {
                entries.push((entry.unwrap().to_vec(), Some(Hash(*hash))));
            }
            at += u64::from(tile.width);
        }
        assert_eq!(entries.len() as u64, size - first, "entries");
        let heads: Vec<_> = self.heads.iter().map(|(&size, &root)| Head { size, root }).collect();
        let mut leaves = Vec::new();
        let found = verify::leaves(
            from,
            entries.iter().map(|(bytes, hash)| io::Result::Ok((bytes, *hash))),
            heads.into_iter().map(Ok),
            |leaf| leaves.push(*leaf),
        )?
        .unwrap_or_else(|fault| panic!("{}: {fault}", dir.display()));
        assert_eq!((found.signed, found.tree.size()), (size, size));
        Ok(Some(Log { size, first, leaves, found }))
    }
}

impl Log {
    /// Each leaf says what its line does, and where it stands.
    fn agrees(&self, lines: &[Raw], gone: &Gone) {
        let mut lines = lines.iter().peekable();
        let mut segment = None;
        for leaf in &self.leaves {
            if let Kind::Rotate { segment: number } = leaf.kind {
                segment = Some(number);
            }
            let Some(hash) = leaf.line() else { continue };
            let Some(line) = lines.next_if(|line| line.hash == hash) else {
                assert!(leaf.sequence < gone.before || gone.erased.contains(&leaf.sequence));
                continue;
            };
            // Before the first leaf that is there, nobody knows.
            assert!(
                segment == Some(line.segment) || segment.is_none() && self.first > 0,
                "sequence {}: a line of segment {} after the mark of {segment:?}",
                leaf.sequence,
                line.segment
            );
            let read = serde_json::from_slice::<Line<'_>>(&line.text);
            match (leaf.kind, read) {
                (Kind::Event(event), Ok(read)) => {
                    assert_eq!(event.id.to_string(), read.audit_id, "sequence {}", leaf.sequence);
                    assert_eq!(event.stage.as_str(), read.stage, "sequence {}", leaf.sequence);
                    assert_eq!(leaf.time, time(&read.stage_timestamp), "sequence {}", leaf.sequence);
                }
                (Kind::Torn(_), Err(_)) => {}
                (kind, read) => panic!(
                    "sequence {}: {kind:?} for a line that is {}: {}",
                    leaf.sequence,
                    if read.is_ok() { "an event" } else { "none" },
                    String::from_utf8_lossy(&line.text)
                ),
            }
        }
        assert!(lines.next().is_none());
    }
}

impl Found {
    /// Reads the lines, and finds fault with their requests; `whole`: none is still open.
    fn events(&mut self, lines: &[Raw], whole: bool) {
        let mut salts = HashSet::new();
        for (number, raw) in (1..).zip(lines) {
            let text = || String::from_utf8_lossy(&raw.text[..raw.text.len().min(2000)]);
            let read = match serde_json::from_slice::<Line<'_>>(&raw.text) {
                Ok(read) => read,
                // That it has its leaf was seen, if it has one by now.
                Err(e) => {
                    let whole = serde_json::from_slice::<serde_json::Value>(&raw.text).is_ok();
                    assert!(!whole, "line {number} is no event: {e}: {}", text());
                    self.torn += 1;
                    continue;
                }
            };
            assert_eq!((&*read.kind, &*read.api_version), ("Event", "audit.k8s.io/v1"), "line {number}");
            let salt =
                read.annotations.get("gatelog.dev/salt").unwrap_or_else(|| panic!("no salt: {}", text()));
            assert!(salt.len() == 32 && salts.insert(salt.to_string()), "line {number}: salt {salt}");
            let stage = Stage::ALL.into_iter().find(|s| s.as_str() == read.stage);
            let stage = stage.unwrap_or_else(|| panic!("stage: {}", text()));
            let stranger = read.user.is_empty();
            let request = self.requests.entry(read.audit_id.into_owned()).or_insert_with(|| Request {
                stranger,
                line: format!("{} {}", read.verb, read.request_uri),
                ..Request::default()
            });
            assert!(!request.ended(), "line {number}: an event after the last one: {}", text());
            assert!(!request.stages.contains(&stage), "line {number}: twice the same stage: {}", text());
            request.stages.push(stage);
            request.unknown |= read.annotations.contains_key("gatelog.dev/outcome");
        }
        if whole && let Some((id, request)) = self.open().next() {
            panic!("{id} has no last event: {}: {request:?}", request.line);
        }
    }
}

/// What can be wrong with a tile.
enum Missing {
    Io(io::Error),
    Bad(BadTile),
}

impl From<BadTile> for Missing {
    fn from(bad: BadTile) -> Self {
        Self::Bad(bad)
    }
}

impl Missing {
    fn into_io(self) -> io::Error {
        match self {
            Self::Io(e) => e,
            Self::Bad(bad) => panic!("{bad}"),
        }
    }
}

/// A tile, or what there is of it in a wider one.
fn read_tile(dir: &Path, tile: Tile) -> Result<Vec<u8>, Missing> {
    let path = dir.join(tile.to_string());
    let bytes = fs::read(&path)
        .or_else(|_| fs::read(dir.join(tile.full().to_string())))
        .map_err(|e| Missing::Io(io::Error::new(e.kind(), format!("{}: {e}", path.display()))))?;
    Ok(tile.trim(&bytes)?.to_vec())
}

/// All whole lines, the bytes of the one that is not, and how many segments there are, and compressed ones.
fn lines(dir: &Path) -> io::Result<(Vec<Raw>, usize, (usize, usize))> {
    let segments = match folder::segments(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
        segments => segments?,
    };
    let compressed = segments.iter().filter(|s| s.compressed).count();
    let mut lines = Vec::new();
    let mut tail = 0;
    for segment in &segments {
        assert_eq!(tail, 0, "{} is not the last segment, and torn", segment.path.display());
        let mut file = segment.open()?;
        loop {
            let mut text = Vec::new();
            if file.read_until(b'\n', &mut text)? == 0 {
                break;
            }
            if text.pop_if(|b| *b == b'\n').is_none() {
                tail = text.len();
                break;
            }
            lines.push(Raw { segment: segment.number, hash: Hash::of(&text), text });
        }
    }
    Ok((lines, tail, (segments.len(), compressed)))
}

/// `2026-01-02T03:04:05.678901Z`
fn time(text: &str) -> MicroTime {
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().unwrap();
    let (y, m, d) = (number(0..4), number(5..7), number(8..10));
    // Days since 1970 in the Gregorian calendar, the year beginning in March.
    let (y, m) = if m > 2 { (y, m - 3) } else { (y - 1, m + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + d - 1 - 719_468;
    let seconds = days * 86_400 + number(11..13) * 3600 + number(14..16) * 60 + number(17..19);
    MicroTime(seconds * 1_000_000 + number(20..26))
}

#[test]
fn times_are_read() {
    assert_eq!(time("1970-01-01T00:00:00.000001Z"), MicroTime(1));
    assert_eq!(time("2026-01-02T03:04:05.678901Z"), MicroTime(1_767_323_045_678_901));
    assert_eq!(time("2024-02-29T23:59:59.999999Z"), MicroTime(1_709_251_199_999_999));
}
