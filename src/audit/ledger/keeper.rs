//! The tree's thread.

use super::{
    Opened, Position, Signed, Step,
    feed::{EVENTS, EVERY, Feed},
    keys::Keys,
    metrics::Metrics,
    prune::{self, Limits},
    seconds,
    store::{Edition, Mark, Pruned, Store},
    told::Teller,
};
use crate::audit::{
    event::MicroTime,
    sink::Cursors,
    tree::{
        Head,
        checkpoint::Checkpoint,
        leaf::{Event, Kind, Leaf},
        tile::{Entries, Holds, Tile, Tiles, WIDTH},
    },
};
use std::{
    io::{self, ErrorKind},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::watch;

/// Pauses between attempts at a failing disk.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// How long a stop waits for a failing disk.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// The rest after a checkpoint, in the time that it took: so much of the disk is the journal's at least.
const REST: u32 = 20;
/// How often it is looked whether sinks still hold segments back.
const HELD_AGAIN: Duration = Duration::from_secs(60);

/// The tree, and all that is done with it.
pub(super) struct Keeper {
    feed: Feed,
    keys: Keys,
    store: Store,
    tiles: Tiles,
    limits: Limits,
    cursors: Arc<Cursors>,
    /// Of the tree in memory.
    position: Position,
    pruned: Pruned,
    /// The prune whose files are removed.
    swept: Option<Pruned>,
    /// Lost since the last leaf that could say so.
    lost: u64,
    /// Lines whose leaves are in memory and not signed.
    lines: u64,
    /// Full tiles that are in memory and not in an edition.
    full: Vec<(Tile, Vec<u8>)>,
    /// A segment began since the last edition.
    rotated: bool,
    held: usize,
    stopped: bool,
    heads: watch::Sender<Signed>,
    health: Arc<Mutex<Option<String>>>,
}

/// What is being published.
pub(super) struct Draft {
    pub(super) edition: Edition,
    /// Lines that it signs.
    lines: u64,
    rotated: bool,
    prunes: bool,
    stopped: bool,
}

impl Keeper {
    pub(super) fn new(opened: Opened, feed: Feed, limits: Limits, cursors: Arc<Cursors>) -> Self {
        let Opened { keys, store, tiles, .. } = opened;
        let mark = store.mark();
        let head = Head { size: 0, root: crate::audit::tree::Hash::EMPTY };
        let none = Signed { head, time: 0, note: "".into(), segment: 0, stopped: false };
        Self {
            feed,
            keys,
            store,
            tiles,
            limits,
            cursors,
            position: mark.position,
            pruned: mark.pruned,
            swept: None,
            lost: 0,
            lines: 0,
            full: Vec::new(),
            rotated: false,
            held: 0,
            stopped: false,
            heads: watch::Sender::new(none),
            health: Arc::default(),
        }
    }

    /// For those who look on.
    pub(super) fn seen(&self) -> (watch::Receiver<Signed>, Arc<Mutex<Option<String>>>) {
        (self.heads.subscribe(), self.health.clone())
    }

    /// Signs the start, and what an earlier process left.
    pub(super) fn start(&mut self, recovered: &mut Vec<Step>, position: Position) -> io::Result<()> {
        let lines = recovered.iter().filter(|step| step.is_line()).count() as u64;
        if lines > 0 {
            tracing::warn!(
                audit.lines = lines,
                "an earlier process left audit lines unsigned, they are signed now"
            );
        }
        self.add(Kind::Start { recovered: lines });
        self.take(recovered, position);
        // They did not come by the feed.
        self.lines = 0;
        let draft = self.draft();
        self.publish(&draft)?;
        self.prune_or_say();
        Ok(())
    }

    pub(super) fn run(mut self, metrics: &Metrics, stdout: Option<Duration>) {
        let fallen = Fallen(self.health.clone());
        let mut teller = stdout.and_then(|every| {
            let started = Teller::start(every);
            started
                .inspect_err(
                    |error| tracing::error!(%error, "checkpoints cannot be written to standard output"),
                )
                .ok()
        });
        let mut steps = Vec::new();
        let mut draft: Option<Draft> = None;
        let (mut pause, mut failing) = (PAUSES[0], false);
        let mut done = Instant::now();
        let mut looked = done;
        // Not before: after a checkpoint that took long, or an attempt that failed.
        let mut rested = done;
        let mut give_up = None;
        loop {
            let now = Instant::now();
            let next = if draft.is_some() || self.is_urgent() { rested } else { (done + EVERY).max(rested) };
            let (position, stop) = self.feed.take(&mut steps, next.saturating_duration_since(now));
            if let Some(position) = position {
                self.take(&mut steps, position);
            }
            if let Some(lost) = stop.filter(|_| !self.stopped) {
                self.stopped = true;
                self.lost += lost;
                let lost = std::mem::take(&mut self.lost);
                self.add(Kind::Stop { lost });
            }
            let now = Instant::now();
            let due = self.is_urgent() || now.saturating_duration_since(done) >= EVERY;
            if draft.is_none() && due && (now >= rested || self.stopped) {
                draft = Some(self.draft());
            }
            let Some(this) = draft.take_if(|_| now >= rested || self.stopped) else { continue };
            match self.publish(&this) {
                Ok(signed) => {
                    let took = now.elapsed();
                    metrics.duration.observe(took.as_secs_f64());
                    if std::mem::take(&mut failing) {
                        tracing::info!("the tree of the audit journal can be written again");
                        self.tell(None);
                    }
                    teller.iter_mut().for_each(|teller| teller.tell(&signed));
                    (pause, done) = (PAUSES[0], Instant::now());
                    rested = done + (took * REST).min(EVERY);
                    if this.stopped {
                        break;
                    }
                    if this.rotated || this.prunes || self.held > 0 && looked.elapsed() >= HELD_AGAIN {
                        looked = done;
                        self.prune_or_say();
                        metrics.held.set(i64::try_from(self.held).unwrap_or(i64::MAX));
                    }
                }
                Err(error) => {
                    metrics.failures.inc();
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(%error, "cannot write the tree of the audit journal, trying again");
                    }
                    self.tell(Some(format!("the tree of the audit journal cannot be written: {error}")));
                    // A folder that was removed does not come back.
                    let patience =
                        if error.kind() == ErrorKind::NotFound { Duration::ZERO } else { LAST_WAIT };
                    draft = Some(this);
                    rested = Instant::now() + pause;
                    pause = (pause * 2).min(PAUSES[1]);
                    if self.stopped {
                        if Instant::now() >= *give_up.get_or_insert_with(|| Instant::now() + patience) {
                            let lines = self.feed.unsigned();
                            tracing::error!(
                                audit.lines = lines,
                                "the end of the audit journal could not be signed"
                            );
                            break;
                        }
                        std::thread::sleep(PAUSES[0]);
                    }
                }
            }
        }
        drop(fallen);
        if let Some(teller) = teller {
            teller.end();
        }
    }

    /// Makes leaves of `steps`, which end at `position`.
    pub(super) fn take(&mut self, steps: &mut Vec<Step>, position: Position) {
        for step in steps.drain(..) {
            match step {
                Step::Line(entry) => {
                    let lost = std::mem::take(&mut self.lost);
                    let event = Event { stage: entry.stage, id: entry.id, line: entry.hash, lost };
                    self.tiles.append(entry.at, Kind::Event(event));
                    self.lines += 1;
                }
                Step::Torn(line) => {
                    self.add(Kind::Torn(line));
                    self.lines += 1;
                }
                // One that is known already: the journal went on with it.
                Step::Segment(number) if number <= self.position.segment => {}
                Step::Segment(segment) => {
                    self.position = Position { segment, offset: 0 };
                    self.add(Kind::Rotate { segment });
                    self.rotated = true;
                }
                Step::Lost(lost) => self.lost += lost,
            }
        }
        self.full.append(&mut self.tiles.take_full());
        self.position = position;
    }

    /// Adds a mark.
    pub(super) fn add(&mut self, kind: Kind) {
        self.tiles.append(MicroTime::at(SystemTime::now()), kind);
        self.full.append(&mut self.tiles.take_full());
    }

    /// The present tree, with all its tiles that are not on the disk.
    pub(super) fn draft(&mut self) -> Draft {
        let head = self.tiles.tree().head();
        let mark = Mark { size: head.size, position: self.position, pruned: self.pruned };
        let mut tiles = std::mem::take(&mut self.full);
        if mark.size > self.store.mark().size {
            tiles.extend(self.tiles.partial().map(|(tile, bytes)| (tile, bytes.to_vec())));
        }
        Draft {
            edition: Edition { mark, head, tiles },
            lines: std::mem::take(&mut self.lines),
            rotated: std::mem::take(&mut self.rotated),
            prunes: self.pruned != self.store.mark().pruned,
            stopped: self.stopped,
        }
    }

    /// Whether a checkpoint is due before its time.
    fn is_urgent(&self) -> bool {
        let prunes = self.pruned != self.store.mark().pruned;
        self.lines >= EVENTS as u64 || self.rotated || self.stopped || prunes
    }

    pub(super) fn publish(&mut self, draft: &Draft) -> io::Result<Signed> {
        let head = draft.edition.head;
        let time = seconds(SystemTime::now());
        let checkpoint = Checkpoint::new(self.keys.signing.verifier().name(), head, time);
        let note = checkpoint.sign(&self.keys.signing).map_err(io::Error::other)?;
        if draft.edition.mark.size > self.store.mark().size {
            self.store.publish(&draft.edition, &note)?;
        } else {
            self.store.renew(&note)?;
        }
        let segment = draft.edition.mark.position.segment;
        let signed = Signed { head, time, note: note.into(), segment, stopped: draft.stopped };
        self.feed.signed(draft.lines);
        self.heads.send_replace(signed.clone());
        Ok(signed)
    }

    pub(super) fn prune_or_say(&mut self) {
        if let Err(error) = self.prune() {
            tracing::warn!(%error, "old audit segments cannot be removed");
        }
    }

    /// Removes what the published tree says is gone, and says of more that it is to go.
    fn prune(&mut self) -> io::Result<()> {
        let mark = self.store.mark();
        if self.swept != Some(mark.pruned) {
            prune::remove(self.store.disk(), mark.pruned)?;
            self.store.prune_tiles()?;
            self.swept = Some(mark.pruned);
        }
        let taken = self.cursors.least();
        let newest = mark.position.segment;
        let over = self.limits.over(self.store.disk(), newest, taken, SystemTime::now())?;
        if over.held > 0 && self.held == 0 {
            tracing::warn!(
                audit.segments = over.held,
                "audit segments over the limits stay until every sink has taken them"
            );
        }
        self.held = over.held;
        let Some((segment, why)) = over.first.filter(|(first, _)| *first > self.pruned.segment) else {
            return Ok(());
        };
        let is_begin =
            |entry: &[u8]| Leaf::parse(entry).is_ok_and(|leaf| leaf.kind == Kind::Rotate { segment });
        let before = match self.store.find(self.pruned.before, mark.size, is_begin)? {
            Some(before) => Some(before),
            None => self.find_in_memory(is_begin),
        };
        let Some(before) = before.filter(|before| *before > self.pruned.before) else {
            tracing::warn!(
                segment.number = segment,
                "no audit segment is removed: the tree does not know the first that stays"
            );
            return Ok(());
        };
        tracing::info!(limit = why, segment.number = segment, "removing the audit segments before this one");
        self.pruned = Pruned { before, segment };
        self.add(Kind::Prune { before, segment });
        Ok(())
    }

    /// As [`Store::find`], in the bundles that are not on the disk, or not full.
    fn find_in_memory(&self, mut wanted: impl FnMut(&[u8]) -> bool) -> Option<u64> {
        let full = self.full.iter().map(|(tile, bytes)| (*tile, &bytes[..]));
        full.chain(self.tiles.partial()).filter(|(tile, _)| tile.holds == Holds::Entries).find_map(
            |(tile, bytes)| {
                let at = Entries(bytes).position(|entry| entry.is_ok_and(&mut wanted))?;
                Some(tile.index * u64::from(WIDTH) + at as u64)
            },
        )
    }

    fn tell(&self, problem: Option<String>) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

/// A thread that falls over must not look as if it were well.
struct Fallen(Arc<Mutex<Option<String>>>);

impl Drop for Fallen {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let what = "the tree of the audit journal is not written any more: its thread failed";
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.to_owned());
        }
    }
}
