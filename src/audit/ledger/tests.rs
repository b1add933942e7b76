use super::*;
use crate::audit::{
    event::{MicroTime, Stage},
    journal::line::Part,
    policy::Policy,
    tests::METADATA,
    tree::{
        Hash,
        checkpoint::Checkpoint,
        leaf::{AuditId, Kind, Leaf},
        note::VerifierKey,
        tile::{Entries, Holds, Reader, Tile, WIDTH},
        verify::{self, Leaves},
    },
};
use memory::{Loss, Memory};
use std::{collections::BTreeMap, convert::Infallible};

mod memory;
mod thread;

/// Random enough, and the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// A journal without files: what is in it is on the disk.
#[derive(Default)]
struct Written {
    segments: BTreeMap<u64, Vec<Entry>>,
    made: u64,
}

impl Written {
    fn line(&mut self) -> Entry {
        self.made += 1;
        let hash = Hash::of(&self.made.to_be_bytes());
        let entry = Entry {
            id: AuditId([7; 16]),
            stage: Stage::ResponseComplete,
            at: MicroTime(0),
            hash,
            size: 10,
            part: Part::Only,
        };
        self.segments.last_entry().unwrap().get_mut().push(entry);
        entry
    }

    fn rotate(&mut self, disk: &Memory) -> u64 {
        let number = self.segments.keys().last().map_or(1, |last| last + 1);
        self.segments.insert(number, Vec::new());
        disk.plant(&name(number));
        number
    }

    fn end(&self) -> Position {
        self.segments
            .last_key_value()
            .map(|(segment, lines)| Position { segment: *segment, offset: lines.len() as u64 * 10 })
            .unwrap_or_default()
    }

    /// What the journal does at a start.
    fn after(&self, at: Position) -> Vec<Step> {
        let mut steps = Vec::new();
        for (segment, lines) in self.segments.range(at.segment..) {
            let from = if *segment == at.segment { at.offset as usize / 10 } else { 0 };
            if *segment != at.segment {
                steps.push(Step::Segment(*segment));
            }
            steps.extend(lines[from..].iter().map(|entry| Step::Line(*entry)));
        }
        steps
    }
}

fn name(segment: u64) -> String {
    format!("audit-20260102T030405.678Z-{segment:08}.jsonl")
}

fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::new("record", Policy::parse(METADATA).unwrap());
    (config.max_age, config.max_total_size) = (None, None);
    config.signing.origin = Some("gatelog.example/test".to_owned());
    change(&mut config);
    config
}

fn open_at(disk: &Memory, config: &Config) -> Result<Opened, Error> {
    Opened::find(Box::new(disk.clone()), config)
}

fn keeper(opened: Opened, config: &Config) -> Keeper {
    Keeper::new(opened, Feed::new(), Limits::of(config), Cursors::open(Path::new("none"), &[]))
}

/// Finds the whole folder right, against all heads that were ever seen.
fn check(disk: &Memory, written: &Written, heads: &[Head], config: &Config) -> Leaves {
    let keys: Vec<VerifierKey> = disk.text("audit.pub").lines().map(|line| line.parse().unwrap()).collect();
    let origin = config.signing.origin.as_deref().unwrap();
    let note = disk.text("log/checkpoint");
    let head = Checkpoint::open(note.as_bytes(), origin, &keys).unwrap().head;
    let read = |tile: Tile| -> Result<Vec<u8>, verify::Fault> {
        let exact = disk.read(&format!("log/{tile}"));
        Ok(exact.or_else(|_| disk.read(&format!("log/{}", tile.full()))).unwrap_or_default())
    };
    let bundle = |index: u64| {
        let width = (head.size - index * u64::from(WIDTH)).min(WIDTH.into()) as u16;
        // A reader may take the full one if there is one, so it must not be an old one.
        let tile = Tile { holds: Holds::Entries, index, width };
        let bytes = disk.read(&format!("log/{}", tile.full())).or_else(|_| disk.read(&format!("log/{tile}")));
        bytes.ok().map(|bytes| tile.trim(&bytes).unwrap().to_vec())
    };
    let bundles: Vec<_> = (0..head.size.div_ceil(WIDTH.into())).map(bundle).collect();
    let first = bundles.iter().position(Option::is_some).unwrap();
    let mut leaves = Vec::new();
    for bundle in &bundles[first..] {
        leaves.extend(Entries(bundle.as_ref().unwrap()).map(|entry| entry.unwrap().to_vec()));
    }
    let first = first as u64 * u64::from(WIDTH);
    let reader = |tile| read(tile).map_err(|_| crate::audit::tree::tile::BadTile::Short(tile));
    let from = Reader::new(head.size, reader).tree(first).unwrap();
    let mut heads: Vec<Head> = heads.iter().copied().filter(|head| head.size >= first).collect();
    assert!(heads.iter().all(|old| old.size <= head.size), "less is there than was signed");
    heads.push(head);
    heads.sort_by_key(|head| head.size);
    let each = leaves.iter().map(|leaf| Ok::<_, Infallible>((leaf, None)));
    let found = verify::leaves(from, each, heads.into_iter().map(Ok), |_| ()).unwrap();
    let found = found.unwrap_or_else(|fault| panic!("{fault}"));
    let parsed = leaves.iter().map(|leaf| Ok::<_, Infallible>(Leaf::parse(leaf).unwrap()));
    let there = written.segments.iter().filter(|(number, _)| disk.has(&name(**number)));
    let hashes: Vec<Hash> = there.flat_map(|(_, lines)| lines.iter().map(|line| line.hash)).collect();
    let lines = verify::lines(parsed, hashes.into_iter().map(Ok), &found.gone).unwrap();
    lines.unwrap_or_else(|fault| panic!("{fault}"));
    found
}

/// One process, from start to crash or stop. Heads are noted when they are published.
fn live(
    dice: &mut Dice,
    disk: &Memory,
    written: &mut Written,
    heads: &mut Vec<Head>,
    config: &Config,
) -> std::io::Result<()> {
    let crashed = || std::io::Error::other("it crashed");
    let opened = match open_at(disk, config) {
        Ok(opened) => opened,
        Err(_) if disk.is_dead() => return Err(crashed()),
        Err(error) => panic!("{error}"),
    };
    let from = opened.position().unwrap_or_default();
    let mut keeper = keeper(opened, config);
    let (seen, _) = keeper.seen();
    let mut recovered = written.after(from);
    keeper.start(&mut recovered, written.end())?;
    heads.push(seen.borrow().head);
    let mut steps = vec![Step::Segment(written.rotate(disk))];
    let mut draft = None;
    for _ in 0..dice.roll(60) {
        match dice.roll(12) {
            0..5 => {
                let most = [3, 30, 300, 3000][dice.roll(4) as usize];
                steps.extend((0..dice.roll(most)).map(|_| Step::Line(written.line())));
            }
            5..7 => keeper.take(&mut steps, written.end()),
            7 => steps.push(Step::Segment(written.rotate(disk))),
            8 => steps.push(Step::Lost(dice.roll(9))),
            9 => keeper.prune_or_say(),
            _ => {
                let this = draft.take().unwrap_or_else(|| keeper.draft());
                match keeper.publish(&this) {
                    Ok(signed) => heads.push(signed.head),
                    Err(_) if disk.is_dead() => return Err(crashed()),
                    // Tried again later, as it is.
                    Err(_) => draft = Some(this),
                }
            }
        }
    }
    Ok(())
}

/// Crashes at any step, in all ways, with a disk that fails now and then; segments begin, are removed, are left; and one tree
/// goes through all of it.
#[test]
fn one_tree_goes_through_everything() {
    for seed in 1..=30 {
        let dice = &mut Dice(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(seed));
        let config = config(|config| config.max_backups = Some(2));
        let mut disk = Memory::new();
        let (mut written, mut heads) = (Written::default(), Vec::new());
        for _ in 0..12 {
            let steps = [20, 100, 1000, 1 << 40][dice.roll(4) as usize];
            let flaky = [0, 0, 20][dice.roll(3) as usize];
            disk.fail(Some(dice.roll(steps)), flaky);
            let _ = live(dice, &disk, &mut written, &mut heads, &config);
            let loss = match dice.roll(3) {
                0 => Loss::Nothing,
                1 => Loss::Everything,
                _ => Loss::Some(dice.roll(u64::MAX)),
            };
            disk = disk.rebooted(loss);
            let before = heads.len();
            // What was seen last may have got no further.
            if let Some(last) = heads.last() {
                let opened = open_at(&disk, &config).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
                assert!(opened.store.mark().size >= last.size, "seed {seed}: {before}");
                check(&disk, &written, &heads, &config);
            }
        }
        disk.fail(None, 0);
        let opened = open_at(&disk, &config).unwrap();
        let from = opened.position().unwrap_or_default();
        let mut keeper = keeper(opened, &config);
        keeper.start(&mut written.after(from), written.end()).unwrap();
        let found = check(&disk, &written, &heads, &config);
        let missing: u64 = written.segments.iter().filter(|(n, _)| !disk.has(&name(**n))).count() as u64;
        assert!(found.first == 0 || missing > 0, "seed {seed}");
    }
}

/// Each step of the module's table, crashed at, in every way.
#[test]
fn a_crash_at_each_step_leaves_a_log_to_go_on_from() {
    let config = config(|_| {});
    for loss in [Loss::Nothing, Loss::Everything, Loss::Some(1), Loss::Some(2), Loss::Some(3)] {
        let mut crashes = 0;
        loop {
            let disk = Memory::new();
            let mut written = Written::default();
            let mut keeper = keeper(open_at(&disk, &config).unwrap(), &config);
            keeper.start(&mut Vec::new(), Position::default()).unwrap();
            let segment = written.rotate(&disk);
            let mut steps = vec![Step::Segment(segment)];
            steps.extend((0..700).map(|_| Step::Line(written.line())));
            keeper.take(&mut steps, written.end());
            let draft = keeper.draft();
            let mut heads = vec![keeper.publish(&draft).unwrap().head];
            steps.extend((0..700).map(|_| Step::Line(written.line())));
            keeper.take(&mut steps, written.end());
            disk.fail(Some(crashes), 0);
            let draft = keeper.draft();
            let done = keeper.publish(&draft);
            heads.extend(done.as_ref().ok().map(|signed| signed.head));
            let disk = disk.rebooted(loss);
            check(&disk, &written, &heads, &config);
            let opened = open_at(&disk, &config).unwrap();
            let from = opened.position().unwrap();
            let mut again = self::keeper(opened, &config);
            again.start(&mut written.after(from), written.end()).unwrap();
            let found = check(&disk, &written, &heads, &config);
            assert_eq!((found.events, found.crashes), (1400, 1), "{crashes} {loss:?}");
            assert!([0, 700].contains(&found.recovered), "{crashes} {loss:?}: {found:?}");
            if done.is_ok() {
                break;
            }
            crashes += 1;
        }
        assert!(crashes > 20, "{crashes}");
    }
}

#[test]
fn a_first_start_that_is_cut_off_is_begun_again() {
    let config = config(|_| {});
    for loss in [Loss::Nothing, Loss::Everything, Loss::Some(5)] {
        let mut crashes = 0;
        loop {
            let disk = Memory::new();
            disk.fail(Some(crashes), 0);
            let begun = open_at(&disk, &config).map_err(|_| ()).and_then(|opened| {
                keeper(opened, &config).start(&mut Vec::new(), Position::default()).map_err(|_| ())
            });
            let disk = disk.rebooted(loss);
            let again = open_at(&disk, &config).unwrap();
            keeper(again, &config).start(&mut Vec::new(), Position::default()).unwrap();
            if begun.is_ok() {
                break;
            }
            crashes += 1;
        }
        assert!(crashes > 10, "{crashes}");
    }
}

/// A log of a few hundred lines.
fn some_log(config: &Config) -> Memory {
    let disk = Memory::new();
    let mut written = Written::default();
    let mut keeper = keeper(open_at(&disk, config).unwrap(), config);
    keeper.start(&mut Vec::new(), Position::default()).unwrap();
    let mut steps = vec![Step::Segment(written.rotate(&disk))];
    steps.extend((0..600).map(|_| Step::Line(written.line())));
    keeper.take(&mut steps, written.end());
    let draft = keeper.draft();
    keeper.publish(&draft).unwrap();
    disk
}

#[test]
fn what_does_not_fit_is_refused() {
    type Change = fn(&Memory);
    let rows: [(Change, &str); 10] = [
        (|disk| disk.forget("log/checkpoint"), "log/checkpoint is missing"),
        (
            |disk| {
                disk.forget("log/checkpoint");
                disk.forget(&name(1));
            },
            "log/checkpoint is missing",
        ),
        (|disk| disk.plant("log/checkpoint"), "log/checkpoint is no checkpoint"),
        (|disk| disk.forget("log/position"), "says nothing of the checkpoint over 602 leaves"),
        (|disk| disk.forget("log/tile/0/002.p/90"), "log/tile/0/002.p/90"),
        (|disk| disk.flip("log/tile/0/002.p/90", 40), "its entry 1 is not the one whose hash is stored"),
        (|disk| disk.flip("log/tile/entries/002.p/90", 40), "its entry 0 is not the one"),
        (|disk| disk.flip("log/tile/1/000.p/2", 40), "its tiles do not make the tree of 602 leaves"),
        (|disk| disk.forget("signing.key"), "signing.key: is missing"),
        (|disk| disk.flip("log/checkpoint", 21), "the signature of gatelog.example/test does not verify"),
    ];
    let config = config(|_| {});
    for (change, want) in rows {
        let disk = some_log(&config);
        change(&disk);
        let error = open_at(&disk, &config).err().expect(want).to_string();
        assert!(error.contains(want), "{error:?}, expected {want:?}");
        // And nothing was made good in passing.
        let again = open_at(&disk, &config).err().expect(want).to_string();
        assert_eq!(error, again);
    }
}

#[test]
fn an_origin_stays() {
    let named = config(|_| {});
    let disk = some_log(&named);
    let unnamed = config(|config| config.signing.origin = None);
    let opened = open_at(&disk, &unnamed).unwrap();
    assert_eq!(opened.keys.signing.verifier().name(), "gatelog.example/test");
    let other = config(|config| config.signing.origin = Some("gatelog.example/other".to_owned()));
    let error = open_at(&disk, &other).err().unwrap().to_string();
    assert_eq!(error, "audit.signing.origin: the log in record is \"gatelog.example/test\", and stays that");
    // A log that begins has its host's name.
    let opened = open_at(&Memory::new(), &unnamed).unwrap();
    assert!(opened.keys.signing.verifier().name().starts_with("gatelog/"));
}

#[test]
fn another_key_goes_on_only_when_it_knows_the_one_before() {
    let mut config = config(|_| {});
    let disk = some_log(&config);
    let old: VerifierKey = disk.text("audit.pub").trim_end().parse().unwrap();
    disk.forget("signing.key");
    config.signing.previous_keys = vec![old.clone()];
    let opened = open_at(&disk, &config).unwrap();
    let new = opened.keys.signing.verifier().clone();
    assert_ne!(new, old);
    assert_eq!(disk.text("audit.pub"), format!("{new}\n{old}\n"));
    let mut keeper = keeper(opened, &config);
    let (seen, _) = keeper.seen();
    keeper.start(&mut Vec::new(), Position { segment: 1, offset: 6000 }).unwrap();
    let head = seen.borrow().head;
    assert_eq!(head.size, 603);
    // From then on the new one is enough.
    config.signing.previous_keys = Vec::new();
    assert!(open_at(&disk, &config).is_ok());
    assert_eq!(disk.text("audit.pub"), format!("{new}\n"));
    // A key that was not named is refused.
    let other = crate::audit::tree::note::SigningKey::generate("gatelog.example/test").unwrap();
    disk.put("signing.key", other.to_pem().unwrap().as_str());
    let error = open_at(&disk, &config).err().unwrap().to_string();
    assert!(error.starts_with("audit.signing.keyFile: record: its log was signed by another key"), "{error}");
}

#[test]
fn what_goes_is_what_is_over_the_limits_and_taken() {
    type Row = (Option<usize>, Option<u64>, Option<u64>, Option<u64>, Option<u64>, usize);
    // Six segments of 10, 20, .. bytes and an hour less each; the last is the newest.
    // maxBackups, maxTotalSize, maxAge in hours, taken; the first that stays, and how many are held.
    let rows: [Row; 11] = [
        (None, None, None, None, None, 0),
        (Some(5), None, None, None, None, 0),
        (Some(3), None, None, None, Some(3), 0),
        (Some(0), None, None, None, Some(6), 0),
        (None, Some(150), None, None, None, 0),
        (None, Some(149), None, None, Some(2), 0),
        (None, Some(90), None, None, Some(4), 0),
        (None, None, Some(4), None, Some(3), 0),
        (Some(0), None, None, Some(3), Some(3), 3),
        (Some(0), None, None, Some(0), None, 5),
        (Some(3), None, None, Some(6), Some(3), 0),
    ];
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let disk = Memory::new();
    for number in 1..=6u64 {
        let age = Duration::from_secs(3600 * (7 - number) - 60);
        disk.plant_with(&name(number), vec![b'x'; number as usize * 10], now - age);
    }
    for (i, (max_backups, max_total_size, hours, taken, first, held)) in rows.into_iter().enumerate() {
        let max_age = hours.map(|hours| Duration::from_secs(hours * 3600));
        let limits = Limits { max_age, max_backups, max_total_size };
        let taken = taken.map(|segment| Position { segment, offset: 0 });
        let over = limits.over(&disk, 6, taken, now).unwrap();
        assert_eq!((over.first.map(|(first, _)| first), over.held), (first, held), "row {i}: {over:?}");
    }
}

#[test]
fn a_prune_leaves_what_a_verifier_needs() {
    let config = config(|config| config.max_backups = Some(1));
    let disk = Memory::new();
    let mut written = Written::default();
    let mut keeper = keeper(open_at(&disk, &config).unwrap(), &config);
    keeper.start(&mut Vec::new(), Position::default()).unwrap();
    let mut heads = Vec::new();
    for round in 0..5 {
        let mut steps = vec![Step::Segment(written.rotate(&disk))];
        steps.extend((0..70_000).map(|_| Step::Line(written.line())));
        keeper.take(&mut steps, written.end());
        for _ in 0..2 {
            let draft = keeper.draft();
            heads.push(keeper.publish(&draft).unwrap().head);
            keeper.prune_or_say();
        }
        let found = check(&disk, &written, &heads, &config);
        let there = written.segments.keys().filter(|number| disk.has(&name(**number))).count();
        assert_eq!(there, 2.min(round + 1));
        let gone = round.saturating_sub(1) as u64 * 70_001;
        assert!(found.first <= gone.max(1) && found.first + 256 > gone, "{}", found.first);
    }
    assert!(!disk.has("log/tile/entries/000") && !disk.has("log/tile/0/000"));
    assert!(disk.has("log/tile/1/000") && !disk.has("log/tile/0/x001/000.p/1"));
    // All but those of the last three checkpoints are gone.
    let partial = disk.all().into_iter().filter(|path| path.contains(".p/")).count();
    assert!(partial <= 12, "{partial}");
}

#[test]
fn what_is_lost_goes_with_the_next_event_or_the_stop() {
    let config = config(|_| {});
    let disk = Memory::new();
    let mut written = Written::default();
    let mut keeper = keeper(open_at(&disk, &config).unwrap(), &config);
    keeper.start(&mut Vec::new(), Position::default()).unwrap();
    let mut steps = vec![Step::Segment(written.rotate(&disk)), Step::Lost(3), Step::Torn(Hash::of(b"torn"))];
    steps.extend([Step::Lost(4), Step::Line(written.line()), Step::Line(written.line()), Step::Lost(5)]);
    keeper.take(&mut steps, written.end());
    keeper.add(Kind::Stop { lost: 5 });
    let draft = keeper.draft();
    keeper.publish(&draft).unwrap();
    let bundle = disk.read("log/tile/entries/000.p/6").unwrap();
    let kinds: Vec<Kind> = Entries(&bundle).map(|e| Leaf::parse(e.unwrap()).unwrap().kind).collect();
    let lost: Vec<Option<u64>> = kinds
        .iter()
        .map(|kind| match kind {
            Kind::Event(event) => Some(event.lost),
            Kind::Stop { lost } => Some(*lost),
            _ => None,
        })
        .collect();
    assert_eq!(lost, [None, None, None, Some(7), Some(0), Some(5)]);
}
