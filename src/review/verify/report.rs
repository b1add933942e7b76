//! What a verification found, for programs and for people.

use super::{
    against::Against,
    lines::{Compared, Tail},
    offbox::Known,
    tree::TreeFault,
};
use crate::{
    audit::{
        event::MicroTime,
        tree::{
            leaf::{self, Leaf},
            verify::Leaves,
        },
    },
    review::{event::clean, record::Unusable, show::brief},
};
use serde::Serialize;
use std::{fmt, io, path::PathBuf, time::Duration};

/// Everything that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whether all fits.
    pub ok: bool,
    /// Where the segments are.
    pub folder: PathBuf,
    /// Which log it is.
    pub origin: String,
    /// Leaves that the newest checkpoint covers.
    pub size: u64,
    /// Their root, in base64.
    pub root: String,
    /// When it was signed.
    pub signed_at: Option<String>,
    /// Whether the record is being written to.
    pub live: bool,
    /// Lines that are those that were signed.
    pub lines: u64,
    /// Segments with such lines.
    pub segments: u64,
    /// Bytes of the lines, uncompressed.
    pub bytes: u64,
    /// The earliest time of a leaf that is there.
    #[serde(serialize_with = "text")]
    pub from: Option<MicroTime>,
    /// The latest one.
    #[serde(serialize_with = "text")]
    pub to: Option<MicroTime>,
    /// All lines of sequences below this were pruned.
    pub pruned_before: u64,
    /// Sequences of the lines that were erased.
    pub erased: Vec<u64>,
    /// Lines that are not there, as they may be.
    pub absent: u64,
    /// Events that were lost, by the record's own word.
    pub lost: u64,
    /// Lines that a crash cut off.
    pub torn: u64,
    /// Lines that a later process committed to than the one that wrote them.
    pub recovered: u64,
    /// Processes that did not end in order.
    pub crashes: u64,
    /// Requests whose end nobody knows.
    pub outcome_unknown: u64,
    /// Whether the last process ended in order.
    pub stopped: bool,
    /// What was kept elsewhere.
    pub off_box: OffBox,
    /// Lines after the newest checkpoint.
    pub tail: Option<Tail>,
    /// The cluster's own log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<Against>,
    /// What does not fit; the first of the tree and the first of the lines.
    pub faults: Vec<Fault>,
}

/// Heads that were kept elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OffBox {
    /// How many the record continues.
    pub checked: u64,
    /// How many are over what is pruned: nothing is known of them.
    pub unchecked: u64,
    /// The longest time without one, in seconds.
    pub longest_silence: Option<u64>,
}

/// Something that does not fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// What sort of thing it is.
    pub kind: Kind,
    /// The segment's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line's number in the file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The index of the leaf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// What the leaf says: the event's `auditID`, `stage` and `stageTimestamp`.
    #[serde(rename = "auditID", skip_serializing_if = "Option::is_none")]
    pub audit_id: Option<String>,
    /// See above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<&'static str>,
    /// See above; of a mark, when it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// What it is, for a person.
    pub what: String,
}

/// Sorts of things that do not fit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A line, or the file it is in, is not what it was.
    #[default]
    Altered,
    /// Lines, or a whole segment, are missing.
    Removed,
    /// Lines, or a whole segment, were never written by the gate.
    Inserted,
    /// Lines stand in another place.
    Reordered,
    /// Lines are missing at an end.
    Truncated,
    /// A leaf cannot be, or does not say what its line says.
    Leaf,
    /// A stored hash is wrong, or a file of the tree is missing.
    Tile,
    /// A checkpoint is not signed by the key, or not over these leaves.
    Checkpoint,
    /// Something was removed that no signed leaf says was pruned.
    Prune,
    /// Lines follow that no checkpoint covers, and nobody writes to the record.
    Tail,
    /// The cluster's own log says otherwise.
    Against,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Altered => "altered",
            Self::Removed => "removed",
            Self::Inserted => "inserted",
            Self::Reordered => "reordered",
            Self::Truncated => "truncated",
            Self::Leaf => "leaf",
            Self::Tile => "tile",
            Self::Checkpoint => "checkpoint",
            Self::Prune => "prune",
            Self::Tail => "tail",
            Self::Against => "against",
        }
    }
}

impl TreeFault {
    /// Of a thread that fell.
    pub(super) fn fallen() -> Self {
        let path = PathBuf::from("tile");
        Self::Unusable(0, Unusable::Io(path, io::Error::other("the thread that read it fell")))
    }
}

// === impl Fault ===

impl Fault {
    pub(super) fn of(kind: Kind, what: String) -> Self {
        Self { kind, what, ..Self::default() }
    }

    pub(super) fn of_leaf(kind: Kind, leaf: &Leaf, what: String) -> Self {
        let event = match leaf.kind {
            leaf::Kind::Event(event) => Some(event),
            _ => None,
        };
        Self {
            sequence: Some(leaf.sequence),
            audit_id: event.map(|event| event.id.to_string()),
            stage: event.map(|event| event.stage.as_str()),
            time: Some(leaf.time.to_string()),
            ..Self::of(kind, what)
        }
    }

    pub(super) fn at(self, file: String, line: u64) -> Self {
        Self { file: Some(file), line: Some(line), ..self }
    }

    /// Of something that no leaf speaks of.
    pub(super) fn of_line_only(self) -> Self {
        Self { sequence: None, audit_id: None, stage: None, time: None, ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}", clean(file))?;
            if let Some(line) = self.line {
                write!(f, " line {line}")?;
            }
            write!(f, ": ")?;
        }
        write!(f, "{}: {}", self.kind.as_str(), clean(&self.what))?;
        let parts = [
            self.sequence.map(|sequence| format!("sequence {sequence}")),
            self.audit_id.as_ref().map(|id| format!("auditID {}", clean(id))),
            self.stage.map(str::to_owned),
            self.time.clone(),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() { Ok(()) } else { write!(f, " [{}]", parts.join(", ")) }
    }
}

// === impl Report ===

impl Report {
    pub(super) fn covers(&mut self, leaf: &Leaf) {
        self.from = Some(self.from.map_or(leaf.time, |from| from.min(leaf.time)));
        self.to = self.to.max(Some(leaf.time));
    }

    pub(super) fn count(&mut self, leaves: &Leaves) {
        self.lost = leaves.lost;
        self.torn = leaves.torn;
        self.recovered = leaves.recovered;
        self.crashes = leaves.crashes;
        self.stopped = leaves.stopped;
        self.pruned_before = leaves.gone.before;
        self.erased = leaves.gone.erased.iter().copied().collect();
        self.off_box.unchecked = leaves.unchecked;
    }

    pub(super) fn add(&mut self, compared: &Compared) {
        self.lines = compared.matched;
        self.segments = compared.segments;
        self.bytes = compared.bytes;
        self.absent = compared.absent;
        self.outcome_unknown = compared.outcome_unknown;
        self.tail = compared.tail.clone();
    }

    /// `heads`: all of them in order, of which `kept` were kept elsewhere.
    pub(super) fn off_box(&mut self, heads: &[Known], kept: usize) {
        self.off_box.checked = (kept as u64).saturating_sub(self.off_box.unchecked);
        let mut times: Vec<u64> = heads.iter().filter_map(|known| known.time).collect();
        times.sort_unstable();
        // One time alone says nothing of the others.
        self.off_box.longest_silence = times.windows(2).map(|pair| pair[1] - pair[0]).max();
    }

    /// What follows the newest checkpoint is a fault when nobody will sign it.
    pub(super) fn judge_tail(&mut self, allowed: bool) {
        if let Some(tail) = self.tail.as_ref().filter(|_| !self.live && !allowed && self.faults.is_empty()) {
            let why = match self.stopped {
                true => "after the gate had stopped",
                false => "and nobody writes to the record: the gate's last moments, or somebody else's lines",
            };
            let what = format!("{} not signed, {why}", tail.amount());
            self.faults.push(Fault::of(Kind::Tail, what).at(tail.file.clone(), tail.line));
        }
        self.ok = self.faults.is_empty();
    }

    /// What else is to be said, each in a few words.
    fn remarks(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut some = |n: u64, one: &str, many: &str| {
            if n > 0 {
                all.push(format!("{n} {}", if n == 1 { one } else { many }));
            }
        };
        some(
            self.lost,
            "event was lost, by the record's own word",
            "events were lost, by the record's own word",
        );
        some(self.torn, "line was cut off by a crash", "lines were cut off by crashes");
        some(self.crashes, "process did not end in order", "processes did not end in order");
        some(
            self.recovered,
            "line was signed only by the process after the one that wrote it",
            "lines were signed only by the process after the one that wrote them",
        );
        some(self.outcome_unknown, "request's outcome is unknown", "requests' outcome is unknown");
        some(
            self.erased.len() as u64,
            "line was erased, as a signed leaf says",
            "lines were erased, as signed leaves say",
        );
        if self.pruned_before > 0 {
            all.push(format!("all before sequence {} was pruned, as a signed leaf says", self.pruned_before));
        }
        if self.off_box.unchecked > 0 {
            all.push(format!(
                "{} of the heads that were kept elsewhere are of what was pruned: nothing is known of them",
                self.off_box.unchecked
            ));
        }
        if let Some(tail) = self.tail.as_ref().filter(|_| self.ok) {
            let state = if self.live { "still being written" } else { "of a copy, as was said" };
            all.push(format!(
                "unsigned tail, {state}: {} after the newest checkpoint, from {} line {} on",
                tail.amount(),
                clean(&tail.file),
                tail.line
            ));
        }
        all
    }
}

impl Tail {
    fn amount(&self) -> String {
        match (self.lines, self.partial) {
            (0, _) => "a line without an end is".to_owned(),
            (1, false) => "1 line is".to_owned(),
            (n, false) => format!("{n} lines are"),
            (n, true) => format!("{n} lines and one without an end are"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.origin.is_empty() {
            let at = self.signed_at.as_deref().unwrap_or("an unknown time");
            writeln!(f, "log {}: {} leaves, signed at {at}", clean(&self.origin), self.size)?;
        }
        if self.ok {
            let [from, to] =
                [self.from, self.to].map(|at| at.map_or_else(|| "-".to_owned(), |at| at.to_string()));
            writeln!(
                f,
                "ok   {} lines in {} segment{} are those that were signed, {from} to {to} ({})",
                self.lines,
                self.segments,
                if self.segments == 1 { "" } else { "s" },
                size(self.bytes)
            )?;
        }
        if self.off_box.checked > 0 && self.ok {
            match self.off_box.checked {
                1 => write!(f, "ok   1 head that was kept elsewhere fits")?,
                n => write!(f, "ok   {n} heads that were kept elsewhere fit")?,
            }
            match self.off_box.longest_silence {
                Some(silence) => {
                    writeln!(f, "; longest time without one {}", brief(Duration::from_secs(silence)))?
                }
                None => writeln!(f)?,
            }
        }
        if let Some(against) = &self.against {
            write!(f, "{against}")?;
        }
        self.remarks().iter().try_for_each(|remark| writeln!(f, "note {remark}"))?;
        self.faults.iter().try_for_each(|fault| writeln!(f, "BAD  {fault}"))
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{} KB", bytes / 1000),
        10_000_000..10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{} GB", bytes / 1_000_000_000),
    }
}

fn text<S: serde::Serializer>(time: &Option<MicroTime>, to: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => to.collect_str(time),
        None => to.serialize_none(),
    }
}
