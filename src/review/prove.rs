//! `gatelog audit prove`: takes proofs out of a record's tree, and verifies them without it.

use super::{
    hashing::Line,
    read::{Lines, Read},
    record::{Keys, NoKeys, Record, Unusable},
};
use crate::audit::event::Stage;
use crate::audit::tree::{
    Hash, Head,
    checkpoint::Checkpoint,
    leaf::{AuditId, Kind, Leaf},
    proof::{self, BadProof, Consistency, Inclusion},
    tile::{Reader, WIDTH},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Proves that an event is in the record, or that the record continues an older checkpoint; or verifies such a proof
#[derive(Debug, Clone, Default, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["event", "from", "check"]))]
pub struct ProveArgs {
    /// Folder of the record (or one that holds `audit`)
    #[arg(required_unless_present = "check")]
    pub dir: Option<PathBuf>,
    /// The public key, NAME+ID+KEY, or a file with one a line
    #[arg(long, value_name = "KEY")]
    pub key: String,
    /// Prove the last event of this request, or the one of a stage
    #[arg(long, value_name = "AUDITID[/STAGE]")]
    pub event: Option<String>,
    /// Prove that the newest checkpoint continues the one in this file
    #[arg(long, value_name = "CHECKPOINT")]
    pub from: Option<PathBuf>,
    /// Verify the proof in this file, of the event in --line, or from the checkpoint in --old
    #[arg(long, value_name = "PROOF")]
    pub check: Option<PathBuf>,
    /// File of the event's line: written with --event, read with --check
    #[arg(long, value_name = "FILE")]
    pub line: Option<PathBuf>,
    /// The older checkpoint, with --check
    #[arg(long, value_name = "CHECKPOINT", requires = "check", conflicts_with = "line")]
    pub old: Option<PathBuf>,
}

/// Why there is no proof, or why it proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum NoProof {
    /// What was asked for cannot be looked for.
    #[error("{0}")]
    Args(String),
    /// It is not there, or does not fit.
    #[error("{0}")]
    Unfit(String),
}

/// The proof as text, or what it proves.
pub fn prove(args: &ProveArgs) -> Result<String, NoProof> {
    let keys = Keys::read(&args.key).map_err(|e: NoKeys| NoProof::Args(e.to_string()))?;
    if let Some(proof) = &args.check {
        return check(&read(proof)?, args, &keys);
    }
    let Some(dir) = &args.dir else { return Err(NoProof::Args("no folder of a record".to_owned())) };
    let record = Record::at(dir).map_err(|e| NoProof::Args(format!("{}: {e}", dir.display())))?;
    let (path, note) = record.note();
    let unfit = |e: &dyn std::fmt::Display| NoProof::Unfit(format!("{}: {e}", path.display()));
    let note = note.map_err(|e| unfit(&e))?;
    let checkpoint = keys.open(&note).map_err(|e| unfit(&e))?;
    let note = String::from_utf8(note).map_err(|e| unfit(&e))?;
    match (&args.event, &args.from) {
        (Some(event), _) => included(&record, checkpoint.head, note, event, args.line.as_deref()),
        (None, Some(old)) => {
            let old = keys
                .open(read(old)?.as_bytes())
                .map_err(|e| NoProof::Unfit(format!("{}: {e}", old.display())))?;
            continued(&record, &checkpoint, note, &old)
        }
        (None, None) => Err(NoProof::Args("expected --event, --from or --check".to_owned())),
    }
}

fn included(
    record: &Record,
    head: Head,
    note: String,
    wanted: &str,
    line: Option<&Path>,
) -> Result<String, NoProof> {
    let (id, stage) = wanted.split_once('/').map_or((wanted, None), |(id, stage)| (id, Some(stage)));
    let id: AuditId = id.parse().map_err(|e| NoProof::Args(format!("--event: {e}")))?;
    let stage = stage.map(|stage| {
        let expected = "expected RequestReceived, ResponseStarted, ResponseComplete or Panic";
        Stage::parse(stage).ok_or_else(|| NoProof::Args(format!("--event: {stage:?}: {expected}")))
    });
    let stage = stage.transpose()?;
    let found = find(record, head.size, id, stage)?;
    let path = proof::inclusion(found.sequence, head.size, nodes(record, head.size));
    let path = path.ok_or_else(|| NoProof::Unfit("the tree is smaller than its leaves".to_owned()))?;
    let path = path.map_err(|e| lacking(&e))?;
    let proof = Inclusion { leaf: found.to_bytes(), index: found.sequence, path, checkpoint: note };
    // The tiles are files like others: what is handed out must hold.
    proof::verify_inclusion(Hash::leaf(&proof.leaf), proof.index, head, &proof.path)
        .map_err(|e| NoProof::Unfit(format!("the tree does not fit its checkpoint: {e}")))?;
    if let Some(file) = line {
        let hash = found.line().unwrap_or(Hash::EMPTY);
        let text = find_line(record, hash)?.ok_or_else(|| {
            let what = "no line of the record is the one of its leaf: it was pruned, erased or altered";
            NoProof::Unfit(format!("sequence {}: {what}", found.sequence))
        })?;
        fs::write(file, text).map_err(|e| NoProof::Args(format!("{}: {e}", file.display())))?;
    }
    Ok(proof.to_string())
}

/// The leaf of the event; the last one of its request, if there is no stage.
fn find(record: &Record, size: u64, id: AuditId, stage: Option<Stage>) -> Result<Leaf, NoProof> {
    let first = record.first_bundle(size).map_err(|e| NoProof::Unfit(e.to_string()))?.unwrap_or(0);
    let mut found = None;
    for index in first..size.div_ceil(WIDTH.into()) {
        let width = (size - index * u64::from(WIDTH)).min(WIDTH.into());
        let bundle = record.bundle(index, width as u16).map_err(|e| NoProof::Unfit(format!("log: {e}")))?;
        for (leaf, _) in bundle.iter() {
            let leaf = Leaf::parse(leaf).map_err(|e| NoProof::Unfit(format!("log: bundle {index}: {e}")))?;
            let is_it = matches!(leaf.kind, Kind::Event(event)
                if event.id == id && stage.is_none_or(|stage| stage == event.stage));
            if is_it {
                found = Some(leaf);
            }
        }
    }
    found.ok_or_else(|| {
        let pruned = match first {
            0 => String::new(),
            first => format!("; what came before sequence {} is pruned", first * u64::from(WIDTH)),
        };
        NoProof::Unfit(format!("no signed leaf is of {id}{pruned}"))
    })
}

/// The line with this hash, newline and all.
fn find_line(record: &Record, hash: Hash) -> Result<Option<Vec<u8>>, NoProof> {
    let broken = |e: io::Error| NoProof::Unfit(format!("{}: {e}", record.dir.display()));
    let mut lines = Lines::open(&record.dir, None).map_err(|e| NoProof::Args(e.to_string()))?;
    loop {
        match lines.read().map_err(broken)? {
            Read::Line(line) if Hash::of(line) == hash => return Ok(Some([line, b"\n"].concat())),
            Read::End => return Ok(None),
            _ => {}
        }
    }
}

fn continued(
    record: &Record,
    checkpoint: &Checkpoint,
    note: String,
    old: &Checkpoint,
) -> Result<String, NoProof> {
    if old.origin != checkpoint.origin {
        let what =
            format!("the checkpoint is of the log {:?}, the record is {:?}", old.origin, checkpoint.origin);
        return Err(NoProof::Unfit(what));
    }
    let head = checkpoint.head;
    let path = proof::consistency(old.head.size, head.size, nodes(record, head.size)).ok_or_else(|| {
        NoProof::Unfit(format!(
            "the record has {} leaves, the older checkpoint is over {}: the record was cut",
            head.size, old.head.size
        ))
    })?;
    let path = path.map_err(|e| lacking(&e))?;
    proof::verify_consistency(old.head, head, &path)
        .map_err(|e| NoProof::Unfit(format!("the record does not continue the older checkpoint: {e}")))?;
    Ok(Consistency { old: old.head.size, path, checkpoint: note }.to_string())
}

/// What a proof is made of.
fn nodes(record: &Record, size: u64) -> impl FnMut(proof::Node) -> Result<Hash, Unusable> {
    let mut tiles = Reader::new(size, |tile| record.tile(tile));
    move |node| tiles.node(node)
}

fn lacking(error: &Unusable) -> NoProof {
    NoProof::Unfit(format!("the proof needs a part of the tree that is not there any more: {error}"))
}

/// What a proof says, when it holds.
fn check(proof: &str, args: &ProveArgs, keys: &Keys) -> Result<String, NoProof> {
    let unfit = |e: BadProof| NoProof::Unfit(e.to_string());
    if let Some(old) = &args.old {
        let proof = Consistency::parse(proof).map_err(unfit)?;
        let old = keys
            .open(read(old)?.as_bytes())
            .map_err(|e| NoProof::Unfit(format!("{}: {e}", old.display())))?;
        let new = proof.verify(old.head, &old.origin, keys.all()).map_err(unfit)?;
        return Ok(format!(
            "log {}: the tree of {} leaves continues that of {}\n",
            old.origin, new.head.size, old.head.size
        ));
    }
    let Some(file) = &args.line else {
        return Err(NoProof::Args("--check: expected --line with the event, or --old".to_owned()));
    };
    let proof = Inclusion::parse(proof).map_err(unfit)?;
    let signed = keys.open(proof.checkpoint.as_bytes()).map_err(|e| NoProof::Unfit(e.to_string()))?;
    let (leaf, checkpoint) = proof.verify(&signed.origin, keys.all()).map_err(unfit)?;
    let text = fs::read(file).map_err(|e| NoProof::Args(format!("{}: {e}", file.display())))?;
    let line = Line::of(text.strip_suffix(b"\n").unwrap_or(&text));
    if Some(line.hash) != leaf.line() {
        let what = "the line is not the one that the proof is of";
        return Err(NoProof::Unfit(format!("{}: {what}", file.display())));
    }
    let what = match leaf.kind {
        Kind::Event(event) => format!("event {}, {} at {}", event.id, event.stage.as_str(), leaf.time),
        _ => "a line that a crash cut off".to_owned(),
    };
    let (sequence, size) = (leaf.sequence, checkpoint.head.size);
    Ok(format!("log {}: {what} is leaf {sequence} of {size}\n", checkpoint.origin))
}

fn read(path: &Path) -> Result<String, NoProof> {
    fs::read_to_string(path).map_err(|e| NoProof::Args(format!("{}: {e}", path.display())))
}
