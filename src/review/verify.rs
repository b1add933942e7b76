//! `gatelog audit verify`: reads a whole record again and names the first thing that does not fit.
//!
//! Three readers at once: one thread computes the tree from its leaves and compares it with every checkpoint; others hash the
//! lines of the segments; and the lines are compared with the leaves as these come. What the first finds right is what the
//! holder of the key signed, so that whatever does not fit then was done to the journal.
//!
//! A record that is being written to is read in an order in which nothing can be missing: checkpoints that were kept elsewhere,
//! the newest checkpoint, the leaves, the lines. Lines that come later are a tail, which the next checkpoint will cover. When
//! something is missing and there is a newer checkpoint by then, it may have been pruned meanwhile: all is read again.

mod against;
mod lines;
mod offbox;
mod report;
mod tree;

use super::{
    hashing::Pieces,
    record::{Keys, NoKeys, Record},
};
use crate::audit::{
    event::MicroTime,
    folder,
    tree::{Head, checkpoint::Checkpoint, leaf::Leaf, verify::What},
};
use lines::{Compare, Misfit};
use offbox::{Known, Root};
use std::{
    io,
    path::PathBuf,
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};
use tree::TreeFault;

pub use against::Against;
pub use lines::Tail;
pub use report::{Fault, Kind, OffBox, Report};

/// A gate signs every second: a checkpoint of this age, in seconds, or less is of one that runs.
const FRESH: u64 = 10;
/// How often a record that changes is read again.
const ATTEMPTS: usize = 5;
/// Bundles of leaves that wait for their lines.
const AHEAD: usize = 256;

/// Verifies a record: exit code 2 when something does not fit
#[derive(Debug, Clone, clap::Args)]
pub struct VerifyArgs {
    /// Folder of the record (or one that holds `audit`)
    pub dir: PathBuf,
    /// The public key, NAME+ID+KEY, or a file with one a line; keep it away from the record
    #[arg(long, value_name = "KEY")]
    pub key: String,
    /// A head that was kept elsewhere: a file with a checkpoint, with lines of a log or with metrics; or SIZE:ROOT
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Vec<String>,
    /// Lines after the newest checkpoint are no fault: the folder is a copy of one that was being written to
    #[arg(long)]
    pub allow_tail: bool,
    /// kube-apiserver's own audit log (JSON lines): is there what the record has, and only that?
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// The gate's account there [default: who impersonates most in the requests that the record has]
    #[arg(long, value_name = "NAME", requires = "against")]
    pub account: Option<String>,
}

/// Why nothing was verified.
#[derive(Debug, thiserror::Error)]
pub enum BadArgs {
    /// The folder.
    #[error("{}: {source}", path.display())]
    Folder {
        /// Which one.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// The key.
    #[error(transparent)]
    Key(#[from] NoKeys),
    /// The cluster's own log.
    #[error("--against {}: {what}", path.display())]
    Against {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// What was kept elsewhere.
    #[error("{file}: expected a checkpoint that was kept elsewhere: {what}")]
    Checkpoint {
        /// Which file.
        file: String,
        /// What is wrong with it.
        what: String,
    },
}

/// Verifies. What does not fit is in the report; an error says that it could not even begin.
pub fn verify(args: &VerifyArgs) -> Result<Report, BadArgs> {
    let keys = Keys::read(&args.key)?;
    let mut known = offbox::OffBox::default();
    for text in &args.checkpoint {
        let read = offbox::read(text, &keys)?;
        known.heads.extend(read.heads);
        known.forged.extend(read.forged);
    }
    let bad = |source| BadArgs::Folder { path: args.dir.clone(), source };
    let mut attempt = 1;
    loop {
        let record = Record::at(&args.dir).map_err(bad)?;
        let (path, note) = record.note();
        let mut report = Report { folder: record.dir.clone(), ..Report::default() };
        for (source, what) in &known.forged {
            report.faults.push(Fault::of(Kind::Checkpoint, format!("{source}: {what}")));
        }
        let checkpoint = match note.as_ref().map_err(ToString::to_string) {
            Ok(note) => keys.open(note).map_err(|e| e.to_string()),
            Err(e) => Err(e),
        };
        match checkpoint {
            Ok(checkpoint) => {
                Verifier { record: &record, checkpoint, known: &known.heads }.run(&mut report).map_err(bad)?
            }
            Err(what) => {
                report.faults.push(Fault::of(Kind::Checkpoint, format!("{}: {what}", path.display())))
            }
        }
        let changed = note.ok() != record.note().1.ok();
        if !report.faults.is_empty() && changed && attempt < ATTEMPTS {
            attempt += 1;
            continue;
        }
        report.live |= changed;
        if let Some(log) = &args.against {
            against::compare(&record, log, args.account.as_deref(), &mut report)?;
        }
        report.judge_tail(args.allow_tail);
        return Ok(report);
    }
}

struct Verifier<'a> {
    record: &'a Record,
    checkpoint: Checkpoint,
    known: &'a [Known],
}

impl Verifier<'_> {
    fn run(&self, report: &mut Report) -> io::Result<()> {
        let Head { size, root } = self.checkpoint.head;
        self.introduce(report);
        let mut heads = self.known.to_vec();
        let source = "log/checkpoint".to_owned();
        heads.push(Known { size, root: Root::Whole(root), time: self.checkpoint.time(), source });
        heads.sort_by_key(|known| known.size);
        let segments = folder::segments(&self.record.dir)?;
        let (first, gone) = match tree::survey(self.record, size) {
            Ok(found) => found,
            Err(fault) => {
                report.faults.push(self.tree_fault(fault, &heads));
                return Ok(());
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let (leaves, misfit) = thread::scope(|scope| {
            let (batches, leaves) = sync_channel::<Vec<Leaf>>(AHEAD);
            let heads = &heads;
            let pass = scope.spawn(move || {
                // When nobody compares any more, the tree is still verified to its end.
                tree::pass(self.record, first, size, heads, |batch| drop(batches.send(batch)))
            });
            let compare = Compare::new(&segments, Pieces::start(&segments, threads, scope), &gone);
            let misfit = self.compare(compare, leaves, report, first);
            (pass.join(), misfit)
        });
        // A thread that fell has said so itself.
        match leaves.unwrap_or_else(|_| Err(TreeFault::fallen())) {
            Ok(leaves) => {
                if leaves.gone != gone {
                    let what = "the leaves changed while they were read".to_owned();
                    report.faults.push(Fault::of(Kind::Leaf, what));
                }
                report.count(&leaves);
            }
            // What was found of the lines before says where in the leaves it is.
            Err(fault) => report.faults.push(self.tree_fault(fault, &heads)),
        }
        report.faults.extend(misfit);
        report.off_box(&heads, self.known.len());
        Ok(())
    }

    fn introduce(&self, report: &mut Report) {
        report.origin = self.checkpoint.origin.clone();
        report.size = self.checkpoint.head.size;
        report.root = self.checkpoint.head.root.to_string();
        report.signed_at = self.checkpoint.time().map(seconds);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        report.live = self.checkpoint.time().is_some_and(|time| now.abs_diff(time) <= FRESH);
    }

    /// Compares lines with leaves; the first that does not fit, with what else can be said of it.
    fn compare(
        &self,
        mut compare: Compare<'_>,
        leaves: Receiver<Vec<Leaf>>,
        report: &mut Report,
        first: u64,
    ) -> Option<Fault> {
        let mut taken = first;
        for leaf in leaves.into_iter().flatten() {
            report.covers(&leaf);
            taken += 1;
            if let Err(misfit) = compare.leaf(&leaf) {
                return Some(self.explain(*misfit, &mut compare, first, leaf.sequence));
            }
        }
        if taken < self.checkpoint.head.size {
            // The tree broke off before: what follows is not known to be a tail.
            report.add(&compare.found);
            return None;
        }
        match compare.rest() {
            Ok(compared) => {
                report.add(&compared);
                None
            }
            Err(misfit) => Some(misfit.fault),
        }
    }

    /// Why one line stands where another should.
    fn explain(&self, misfit: Misfit, compare: &mut Compare<'_>, first: u64, from: u64) -> Fault {
        let Misfit { mut fault, missing, stranger } = misfit;
        let size = self.checkpoint.head.size;
        let belongs = stranger.and_then(|line| tree::find(self.record, first, size, line, from));
        let later = missing.and_then(|line| compare.find(line));
        match (belongs, later, fault.kind) {
            (Some((leaf, _)), Some((file, line, _)), Kind::Altered) if leaf.sequence >= from => {
                fault.kind = Kind::Reordered;
                fault.what = format!(
                    "the line of sequence {} stands here; the one that belongs here is {file} line {line}",
                    leaf.sequence
                );
            }
            (Some((leaf, lines)), None, Kind::Altered) if leaf.sequence >= from => {
                fault.kind = Kind::Removed;
                fault.what = format!("{} removed before this line", lines_are(lines));
            }
            (belongs, Some((_, _, lines)), Kind::Altered) => {
                fault.kind = Kind::Inserted;
                // What was read when the search began is the first of them.
                fault.what = format!("{} inserted here", lines_are(lines));
                copy_of(belongs, &mut fault);
                fault = fault.of_line_only();
            }
            (Some((leaf, _)), _, Kind::Altered) => {
                fault.what = format!("the line was replaced by a copy of that of sequence {}", leaf.sequence);
            }
            (belongs, _, Kind::Inserted) => copy_of(belongs, &mut fault),
            (_, Some((file, line, _)), Kind::Truncated | Kind::Removed) => {
                fault.what = format!("{}; it stands in {file} line {line}", fault.what);
                fault.kind = Kind::Reordered;
            }
            _ => {}
        }
        fault
    }

    fn tree_fault(&self, fault: TreeFault, heads: &[Known]) -> Fault {
        match fault {
            TreeFault::Leaves(fault, which) => {
                let source = which.and_then(|i| heads.get(i)).map_or("a checkpoint", |known| &known.source);
                let sequence = fault.sequence;
                let (kind, what) = match fault.what {
                    What::Root(size) => (
                        Kind::Checkpoint,
                        format!("the leaves from here to {size} are not those that {source} was made over"),
                    ),
                    What::Truncated(size) => (
                        Kind::Truncated,
                        format!(
                            "the record ends here, after {sequence} leaves, but {source} was made over {size}"
                        ),
                    ),
                    What::Gap(_) => (Kind::Prune, fault.what.to_string()),
                    _ => (Kind::Leaf, fault.what.to_string()),
                };
                Fault { sequence: Some(sequence), ..Fault::of(kind, what) }
            }
            TreeFault::Tile(tile, sequence) => Fault {
                sequence: Some(sequence),
                ..Fault::of(
                    Kind::Tile,
                    format!("log/{tile} holds another hash than that of the leaves from here on"),
                )
            },
            TreeFault::Unusable(sequence, error) => {
                Fault { sequence: Some(sequence), ..Fault::of(Kind::Tile, format!("log: {error}")) }
            }
        }
    }
}

/// `1 line was`, `3 lines were`.
fn lines_are(lines: u64) -> String {
    if lines == 1 { "1 line was".to_owned() } else { format!("{lines} lines were") }
}

fn copy_of(original: Option<(Leaf, u64)>, fault: &mut Fault) {
    if let Some((leaf, _)) = original {
        fault.what = format!("{}, a copy of that of sequence {}", fault.what, leaf.sequence);
    }
}

/// A time in seconds since 1970, for a person.
fn seconds(time: u64) -> String {
    let micros = i64::try_from(time).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    format!("{}Z", &MicroTime(micros).to_string()[..19])
}
