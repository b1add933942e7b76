//! Disks that fail, in every way and at every moment, and what is in the folder afterwards.

use super::*;
use crate::audit::{
    event::{MicroTime, Stage},
    folder,
    journal::{
        line::{Line, Part},
        recover,
        segment::{Keep, Segments},
    },
    tests::Folder,
    tree::leaf::AuditId,
};
use proptest::prelude::*;
use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    sync::Mutex,
};

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::audit::journal) enum Fault {
    /// Nothing.
    None,
    /// It fails, and nothing was done.
    Undone,
    /// It fails, and yet it was done.
    Done,
    /// Half of it is done: of a write, without an error.
    Half,
    /// Half of it is done, and it fails.
    HalfDone,
}

const FAULTS: [Fault; 5] = [Fault::None, Fault::Undone, Fault::Done, Fault::Half, Fault::HalfDone];

/// A disk whose calls fail as planned; how much of each file would survive a power cut.
#[derive(Debug, Clone, Default)]
pub(in crate::audit::journal) struct Faulty(std::sync::Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    /// For the next calls; None: it dies, and no call does anything any more.
    next: VecDeque<Option<Fault>>,
    dead: bool,
    calls: usize,
    syncs: usize,
    /// How long a sync takes.
    slow: Duration,
    /// From this one on no sync comes back.
    hangs: Option<usize>,
    /// Bytes of each file that are on the disk.
    durable: HashMap<PathBuf, u64>,
}

struct Handle {
    disk: Faulty,
    file: File,
    path: PathBuf,
}

impl Faulty {
    pub(in crate::audit::journal) fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.0.lock().unwrap().next = faults.into_iter().map(Some).collect();
    }

    /// It dies with the call after `calls` more.
    fn dies_after(&self, calls: usize) {
        let mut plan = self.0.lock().unwrap();
        plan.next = std::iter::repeat_n(Some(Fault::None), calls).chain([None]).collect();
    }

    pub(in crate::audit::journal) fn syncs(&self) -> usize {
        self.0.lock().unwrap().syncs
    }

    pub(in crate::audit::journal) fn calls(&self) -> usize {
        self.0.lock().unwrap().calls
    }

    pub(in crate::audit::journal) fn take(&self, time: Duration) {
        self.0.lock().unwrap().slow = time;
    }

    pub(in crate::audit::journal) fn hang(&self, hangs: bool) {
        self.0.lock().unwrap().hangs = hangs.then_some(0);
    }

    /// After so many more syncs it hangs.
    pub(in crate::audit::journal) fn hang_after(&self, syncs: usize) {
        let mut plan = self.0.lock().unwrap();
        plan.hangs = Some(plan.syncs + syncs);
    }

    fn hangs(&self) -> bool {
        let plan = self.0.lock().unwrap();
        plan.hangs.is_some_and(|from| plan.syncs >= from)
    }

    /// What would survive if the power went now.
    pub(in crate::audit::journal) fn durable(&self, dir: &Path) -> String {
        let mut all = Vec::new();
        for segment in folder::segments(dir).unwrap() {
            let durable = self.0.lock().unwrap().durable.get(&segment.path).copied().unwrap_or(u64::MAX);
            segment.open().unwrap().take(durable).read_to_end(&mut all).unwrap();
        }
        String::from_utf8(all).unwrap()
    }

    fn next(&self) -> Fault {
        let mut plan = self.0.lock().unwrap();
        plan.calls += 1;
        if plan.dead {
            return Fault::Undone;
        }
        match plan.next.pop_front() {
            None => Fault::None,
            Some(Some(fault)) => fault,
            Some(None) => {
                plan.dead = true;
                Fault::Undone
            }
        }
    }

    pub(in crate::audit::journal) fn attach(&self, segments: &mut Segments) {
        let disk = self.clone();
        segments.set_create(Box::new(move |path: &Path| {
            let fault = disk.next();
            if matches!(fault, Fault::Undone | Fault::HalfDone) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let file = File::options().append(true).create_new(true).open(path)?;
            disk.0.lock().unwrap().durable.insert(path.to_owned(), 0);
            if fault == Fault::Done {
                fs::remove_file(path)?;
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(Arc::new(Handle { disk: disk.clone(), file, path: path.to_owned() }))
        }));
    }

    /// What was not synced is lost from some point on.
    fn cut_power(&self, kept: f64) {
        let plan = self.0.lock().unwrap();
        for (path, durable) in &plan.durable {
            let Ok(file) = File::options().write(true).open(path) else { continue };
            let len = file.metadata().unwrap().len();
            let more = (len.saturating_sub(*durable) as f64 * kept) as u64;
            file.set_len(len.min(durable + more)).unwrap();
        }
    }
}

fn failed() -> io::Error {
    io::Error::other("as planned")
}

impl Sink for Handle {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let half = bytes.len().div_ceil(2);
        let write = |bytes: &[u8]| io::Write::write_all(&mut &self.file, bytes);
        match self.disk.next() {
            Fault::None => write(bytes).map(|()| bytes.len()),
            Fault::Undone => Err(failed()),
            Fault::Done => write(bytes).and(Err(failed())),
            Fault::Half => write(&bytes[..half]).map(|()| half),
            Fault::HalfDone => write(&bytes[..half]).and(Err(failed())),
        }
    }

    fn sync(&self) -> io::Result<()> {
        let len = self.file.metadata()?.len();
        std::thread::sleep(self.disk.0.lock().unwrap().slow);
        while self.disk.hangs() {
            std::thread::sleep(Duration::from_millis(2));
        }
        let fault = self.disk.next();
        let mut plan = self.disk.0.lock().unwrap();
        plan.syncs += 1;
        if matches!(fault, Fault::None | Fault::Done | Fault::Half) {
            // No more than what was there when it began.
            plan.durable.insert(self.path.clone(), len);
        }
        if matches!(fault, Fault::None | Fault::Half) { Ok(()) } else { Err(failed()) }
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let fault = self.disk.next();
        if matches!(fault, Fault::None | Fault::Done | Fault::Half) {
            self.file.set_len(size)?;
            let mut plan = self.disk.0.lock().unwrap();
            let durable = plan.durable.entry(self.path.clone()).or_default();
            *durable = (*durable).min(size);
        }
        if matches!(fault, Fault::None | Fault::Half) { Ok(()) } else { Err(failed()) }
    }
}

/// A journal without its threads, and what should be in it.
struct World {
    folder: Folder,
    faulty: Faulty,
    disk: Disk,
    number: u64,
    /// Lines that are written, in order.
    written: Vec<String>,
    /// Lines that the tree was told of.
    told: Vec<String>,
    /// Where the tree is.
    position: Position,
    now: SystemTime,
}

fn keep(max_size: u64) -> Keep {
    Keep { max_size, rotate_every: None }
}

fn open_disk(folder: &Folder, faulty: &Faulty, max_size: u64) -> Disk {
    let (mut segments, _) = Segments::open(&folder.0, keep(max_size)).unwrap();
    faulty.attach(&mut segments);
    Disk::new(segments, recover::open(&folder.0).unwrap())
}

fn id(number: u64) -> AuditId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    AuditId(bytes)
}

/// A line of the request `number`.
fn text(number: u64, stage: Stage, filler: usize) -> String {
    format!(
        "{{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"level\":\"Metadata\",\"auditID\":\"{}\",\"stage\":\"{}\",\
         \"requestURI\":\"{}\",\"stageTimestamp\":\"1970-01-01T00:00:00.000000Z\",\"annotations\":{{\"gatelog.dev/salt\":\"{:032}\"}}}}\n",
        id(number),
        stage.as_str(),
        "x".repeat(filler),
        number * 4 + stage as u64
    )
}

fn lines(folder: &Folder) -> Vec<String> {
    let mut all = String::new();
    for segment in folder::segments(&folder.0).unwrap() {
        segment.open().unwrap().read_to_string(&mut all).unwrap();
    }
    all.split_inclusive('\n').map(str::to_owned).collect()
}

impl World {
    fn new() -> Self {
        let folder = Folder::new();
        let faulty = Faulty::default();
        let disk = open_disk(&folder, &faulty, 1500);
        let position = disk.segments.end();
        Self {
            folder,
            faulty,
            disk,
            number: 0,
            written: Vec::new(),
            told: Vec::new(),
            position,
            now: SystemTime::UNIX_EPOCH,
        }
    }

    /// Queues lines: first ones, and the last one of every second request.
    fn queue(&mut self, requests: usize, filler: usize) {
        if !self.disk.batch.is_done() {
            return;
        }
        self.disk.batch.clear(0);
        self.disk.batch.queued = true;
        for _ in 0..requests {
            self.number += 1;
            self.push(Stage::RequestReceived, Part::First, filler);
            if self.number.is_multiple_of(2) {
                self.push(Stage::ResponseComplete, Part::Last, filler);
            }
        }
    }

    fn push(&mut self, stage: Stage, part: Part, filler: usize) {
        let text = text(self.number, stage, filler);
        let line = Line::new(text.as_bytes(), id(self.number), stage, MicroTime(0), part);
        self.disk.batch.text.extend_from_slice(line.text);
        self.disk.batch.entries.push(line.entry);
    }

    /// One attempt to write all.
    fn write(&mut self) -> io::Result<()> {
        while !self.disk.is_done() {
            let before = String::from_utf8(self.disk.batch.rest().0.to_vec()).unwrap();
            let mut synced = Vec::new();
            let result = self.disk.write(self.now, &mut synced);
            let wrote = before.len() - self.disk.batch.rest().0.len();
            // What is synced in between comes before what is written.
            synced.into_iter().for_each(|synced| self.tell(synced));
            self.written.extend(before[..wrote].split_inclusive('\n').map(str::to_owned));
            result?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let Some(sync) = self.disk.begin_sync() else { return Ok(()) };
        let result = sync.run();
        let synced = self.disk.end_sync(&sync, result, Duration::ZERO, self.now)?;
        self.tell(synced);
        Ok(())
    }

    fn tell(&mut self, synced: Synced) {
        for step in synced.steps {
            if let Step::Line(entry) = step {
                let line = self.written[self.told.len()].clone();
                assert_eq!(
                    Line::new(line.as_bytes(), entry.id, entry.stage, entry.at, entry.part).entry,
                    entry
                );
                self.told.push(line);
            }
        }
        self.position = synced.end;
    }

    /// The process ends as it is, and another one begins.
    fn restart(&mut self, power_cut: Option<f64>) {
        if let Some(kept) = power_cut {
            self.faulty.cut_power(kept);
        }
        self.faulty = Faulty::default();
        let number = self.disk.segments.next();
        // Its lock goes first.
        self.disk.segments.take_lock();
        self.disk = open_disk(&self.folder, &self.faulty, 1500);
        assert!(self.disk.segments.next() <= number);
        // What was torn or cut off is not there any more, and what was told is.
        let found: Vec<_> = lines(&self.folder);
        let known: Vec<String> = found
            .iter()
            .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
            .cloned()
            .collect();
        let mut again = Vec::new();
        let mut torn = 0;
        let mut place = self.position;
        recover::steps(&self.folder.0, self.position, |step, end| {
            assert!(end >= place);
            place = end;
            match step {
                Step::Line(entry) => again.push(entry),
                Step::Torn(_) => torn += 1,
                Step::Segment(_) | Step::Lost(_) => {}
            }
        })
        .unwrap();
        let told = known.len() - again.len();
        assert_eq!(known[..told], self.told[..], "what was told is there, in order, and nothing among it");
        for (line, entry) in known[told..].iter().zip(&again) {
            assert_eq!(crate::audit::tree::Hash::of(line.trim_end().as_bytes()), entry.hash);
        }
        assert!(found.len() - known.len() >= torn);
        let mut open: HashMap<&str, bool> = HashMap::new();
        for line in &known {
            let id = &line[line.find("auditID").unwrap() + 10..][..36];
            *open.entry(id).or_default() |= line.contains("ResponseComplete");
        }
        let mut want: Vec<_> =
            open.into_iter().filter(|(_, ended)| !ended).map(|(id, _)| id.to_owned()).collect();
        want.sort();
        let mut got: Vec<_> =
            recover::open(&self.folder.0).unwrap().list().iter().map(|(id, _)| id.to_string()).collect();
        got.sort();
        assert_eq!(got, want, "whose request has no end");
        // And each of them is found by the place of its first line.
        let list = recover::open(&self.folder.0).unwrap().list();
        let closed = recover::close(&self.folder.0, &list, MicroTime(0), |_| {}).unwrap();
        assert_eq!(closed, want.len());
        // The tree takes it from here; what is there twice stays so.
        self.written = known.clone();
        self.told = known;
        self.position = self.disk.segments.end();
    }

    /// When nothing is amiss, the files hold what was written, once and in order.
    fn check(&self) {
        let found: Vec<_> = lines(&self.folder)
            .into_iter()
            .filter(|l| serde_json::from_str::<serde_json::Value>(l).is_ok())
            .collect();
        if self.disk.is_done() {
            assert_eq!(found, self.written);
        }
        assert!(found.len() >= self.told.len());
        assert_eq!(found[..self.told.len()], self.told[..]);
    }
}

/// Every call of a little story fails once, in every way: nothing is lost, doubled or torn.
#[test]
fn whatever_call_fails_the_lines_are_there_once() {
    for fault in FAULTS {
        for at in 0.. {
            let mut world = World::new();
            world.faulty.plan(std::iter::repeat_n(Fault::None, at).chain([fault]));
            for round in 0..6 {
                world.queue(3, 40);
                for _ in 0..4 {
                    if world.write().is_ok() {
                        break;
                    }
                }
                world.check();
                if round % 2 == 0 {
                    let _ = world.sync();
                    let _ = world.write();
                }
                world.check();
            }
            assert!(world.disk.is_done());
            world.sync().unwrap();
            assert_eq!(world.told, lines(&world.folder), "{fault:?} {at}");
            assert_eq!(world.told.len(), 6 * 3 + 9);
            let calls = world.faulty.0.lock().unwrap().calls;
            world.restart(Some(0.0));
            assert_eq!(world.told.len(), 6 * 3 + 9);
            if at > calls {
                break;
            }
        }
    }
}

/// The process, or the machine, ends before every call of a little story, among them those that follow a failed sync.
#[test]
fn wherever_a_crash_comes_what_was_synced_is_there() {
    let stories: [&[Fault]; 3] = [
        &[],
        // The first sync fails.
        &[Fault::None, Fault::None, Fault::Undone],
        &[Fault::None, Fault::None, Fault::None, Fault::None, Fault::Done],
    ];
    for story in stories {
        for power in [None, Some(0.0), Some(0.4)] {
            for at in 0..40 {
                let mut world = World::new();
                world.faulty.dies_after(at);
                for (call, fault) in story.iter().enumerate().take(at) {
                    world.faulty.0.lock().unwrap().next[call] = Some(*fault);
                }
                for _ in 0..5 {
                    world.queue(3, 40);
                    let _ = world.write();
                    let _ = world.sync();
                }
                let before = world.told.clone();
                world.restart(power);
                assert_eq!(world.told[..before.len()], before[..], "{story:?} {power:?} {at}");
                // And it goes on.
                world.queue(2, 10);
                world.write().unwrap();
                world.sync().unwrap();
                world.check();
            }
        }
    }
}

#[test]
fn a_file_that_was_taken_away_takes_nothing_with_it_that_was_not_synced() {
    let mut world = World::new();
    world.queue(2, 10);
    world.write().unwrap();
    world.sync().unwrap();
    world.queue(2, 10);
    world.write().unwrap();
    fs::remove_file(&folder::segments(&world.folder.0).unwrap()[0].path).unwrap();
    // The first attempt shows that it is gone.
    world.faulty.plan([Fault::Undone, Fault::Undone]);
    world.queue(1, 10);
    world.write().unwrap_err();
    world.write().unwrap();
    assert_eq!(lines(&world.folder), world.written[3..]);
    let number = world.disk.segments.end().segment;
    fs::remove_file(&folder::segments(&world.folder.0).unwrap()[0].path).unwrap();
    world.disk.tick(world.now).unwrap();
    world.queue(1, 10);
    world.write().unwrap();
    assert_eq!(world.disk.segments.end().segment, number + 1, "noticed without an error, too");
}

#[test]
fn what_is_not_synced_is_bounded() {
    let folder = Folder::new();
    let faulty = Faulty::default();
    let mut disk = open_disk(&folder, &faulty, 1 << 30);
    for number in 0..40 {
        let text = text(number, Stage::Panic, 1 << 20);
        let line = Line::new(text.as_bytes(), id(number), Stage::Panic, MicroTime(0), Part::Last);
        disk.batch.clear(0);
        disk.batch.text.extend_from_slice(line.text);
        disk.batch.entries.push(line.entry);
        let mut synced = Vec::new();
        disk.write(SystemTime::UNIX_EPOCH, &mut synced).unwrap();
        assert!(disk.unsynced().0 <= MOST_UNSYNCED + (2 << 20));
    }
    assert!(faulty.syncs() >= 2);
}

#[derive(Debug, Clone)]
enum Act {
    Queue(usize, usize),
    Write,
    Sync,
    Tick,
    Faults(Vec<Fault>),
    Restart(Option<f64>),
}

fn act() -> impl Strategy<Value = Act> {
    let faults = proptest::collection::vec(proptest::sample::select(&FAULTS[..]), 0..6);
    prop_oneof![
        4 => (1..6_usize, 0..300_usize).prop_map(|(requests, filler)| Act::Queue(requests, filler)),
        6 => Just(Act::Write),
        3 => Just(Act::Sync),
        1 => Just(Act::Tick),
        2 => faults.prop_map(Act::Faults),
        1 => proptest::option::of(0.0..1.0).prop_map(Act::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_mixture_of_work_failures_and_crashes(acts in proptest::collection::vec(act(), 1..60)) {
        let mut world = World::new();
        for act in acts {
            match act {
                Act::Queue(requests, filler) => world.queue(requests, filler),
                Act::Write => drop(world.write()),
                Act::Sync => drop(world.sync()),
                Act::Tick => {
                    if let Ok(Some(synced)) = world.disk.tick(world.now) {
                        world.tell(synced);
                    }
                }
                Act::Faults(faults) => world.faulty.plan(faults),
                Act::Restart(power) => world.restart(power),
            }
            world.check();
        }
        world.faulty.plan([]);
        world.write().unwrap();
        world.sync().unwrap();
        world.disk.segments.trim();
        world.check();
        prop_assert_eq!(&world.told, &world.written);
    }
}
