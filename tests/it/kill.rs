//! `kill -9` at a random moment under load, again and again on the same folder: what the upstream was sent has its first event,
//! what a caller was told has its last one, no torn line stays, and the tree goes on from one process to the next.
//!
//! `GATELOG_KILLS` says how many rounds; `GATELOG_SEED` repeats one run's choices, though not its timing.

use crate::{
    conformance::world::World,
    record::{Found, Journal, Request, State},
    record_gate::{Dice, Forwarded, Load, RIGHTS, Running, Site, Told, Upstream, tally},
};
use gatelog::audit::{event::Stage, folder};
use std::{
    collections::HashMap,
    fs::{self, File},
    path::Path,
    time::{Duration, Instant},
};

/// How many rounds share a folder; a check reads all of it.
const PER_FOLDER: u64 = 20;

/// What differs from one folder to the next.
struct Manner {
    name: &'static str,
    /// Of the section `audit`.
    audit: &'static str,
    /// Bytes of the bodies, at most.
    size: u64,
    /// Milliseconds until most kills.
    most: u64,
    /// Whether the policy has first events, so that each request's is waited for.
    firsts: bool,
}

const MANNERS: [Manner; 3] = [
    Manner { name: "everything", audit: "  policy: everything", size: 4 << 10, most: 150, firsts: true },
    // First events are the journal's own.
    Manner { name: "recommended", audit: "  policy: recommended", size: 2 << 10, most: 150, firsts: false },
    // A new segment, and soon a prune, every few dozens of requests.
    Manner {
        name: "rotating",
        audit: "  policy: everything\n  maxSize: 1Mi\n  maxBackups: 6",
        size: 60 << 10,
        most: 350,
        firsts: true,
    },
];

fn rounds(share: u64) -> u64 {
    let all = std::env::var("GATELOG_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    all * share / 100
}

/// What holds after a process was killed: `heard` and `told` in its time.
#[track_caller]
fn nothing_is_missing(manner: &Manner, found: &Found, heard: &[Forwarded], told: &[Told]) {
    for one in heard.iter().filter(|one| one.change || manner.firsts) {
        let request = found.requests.get(&one.id);
        assert!(
            request.is_some_and(|r| r.begun()),
            "forwarded without a first event: {} {}: {request:?}",
            one.id,
            one.line
        );
    }
    for one in told.iter().filter(|one| one.whole && one.code != 401) {
        let request = found.requests.get(&one.id);
        assert!(request.is_some_and(|r| r.ended()), "answered without a last event: {one:?} {request:?}");
    }
}

/// What was open when the process was killed is closed, as soon as the next one has come to it.
async fn recovered(journal: &mut Journal, before: &Found) -> Found {
    let begun = Instant::now();
    loop {
        let now = journal.check(State::Running);
        let open = |(id, request): &(&String, &Request)| {
            // One whose first event a prune has taken has no end to miss, though a later event of it may still be there.
            let gone = now.pruned > 0 && !now.requests.get(*id).is_some_and(Request::begun);
            let closed = now.requests.get(*id).is_some_and(|r| r.ended() && r.unknown);
            request.begun() && !gone && !closed
        };
        let Some((id, request)) = before.open().find(open) else { return now };
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "not closed after the crash: {id} {}: {request:?}, now {:?}, {} are pruned",
            request.line,
            now.requests.get(id),
            now.pruned
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn round(
    site: &Site,
    manner: &Manner,
    journal: &mut Journal,
    upstream: &Upstream,
    dice: &mut Dice,
    counts: &mut HashMap<&'static str, u64>,
) {
    let mut count = |what: &'static str, n: usize| *counts.entry(what).or_default() += n as u64;
    let before = journal.check(State::Killed);
    count("open", before.open().count());
    let mut gate = site.spawn();
    if dice.below(6) == 0 {
        // In the middle of its start.
        tokio::time::sleep(Duration::from_millis(dice.below(120))).await;
        gate.kill();
        count("killed early", 1);
        return;
    }
    gate.serving().await;
    let now = recovered(journal, &before).await;
    for (id, request) in before.requests.iter().filter(|(_, r)| r.ended()) {
        // A prune that was signed before the kill may be carried out after it; it may part a request's events.
        let found = now.requests.get(id).map_or(&[][..], |r| &r.stages);
        let stays = request.stages == found || now.pruned > 0 && request.stages.ends_with(found);
        assert!(
            stays,
            "{id} changed with the recovery: {}: {request:?}, now {found:?}, {} are pruned",
            request.line, now.pruned
        );
    }
    let load = Load::start(gate.address(), &site.tls("h2"), 4, manner.size, dice);
    let most = if dice.below(4) == 0 { 4 * manner.most } else { manner.most };
    tokio::time::sleep(Duration::from_millis(dice.below(most))).await;
    match dice.below(8) {
        // Twice: the second one ends it at once.
        0 => {
            gate.signal("TERM");
            tokio::time::sleep(Duration::from_millis(dice.below(30))).await;
            gate.signal("TERM");
            let _ = gate.ended().await;
            count("SIGTERM twice", 1);
        }
        // While it drains.
        1 => {
            gate.signal("TERM");
            tokio::time::sleep(Duration::from_millis(dice.below(60))).await;
            gate.kill();
            count("killed draining", 1);
        }
        _ => gate.kill(),
    }
    let (told, heard) = (load.cut().await, upstream.take());
    let found = journal.check(State::Killed);
    // A request of this very round can only be gone if its segment is.
    if found.pruned <= now.pruned {
        nothing_is_missing(manner, &found, &heard, &told);
    }
    // A power cut would take what is not synced, and it may take half a line; but nothing that a checkpoint covers, be it one that has
    // not got its name yet.
    let unnamed = site.dir().join(folder::LOG).join("checkpoint.new").exists();
    if found.uncommitted > 0 && !unnamed && dice.below(3) == 0 {
        count("torn by us", usize::from(tear(&site.dir(), dice)));
    }
    count("forwarded", heard.len());
    count("answered", told.iter().filter(|one| one.whole).count());
}

/// Cuts off the end of the newest line.
fn tear(dir: &Path, dice: &mut Dice) -> bool {
    let Some(newest) = folder::segments(dir).unwrap().pop().filter(|segment| !segment.compressed) else {
        return false;
    };
    let bytes = fs::read(&newest.path).unwrap();
    let Some(whole) = bytes.strip_suffix(b"\n") else { return false };
    let last = whole.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let left = last as u64 + 1 + dice.below((whole.len() - last) as u64);
    File::options().write(true).open(&newest.path).unwrap().set_len(left).unwrap();
    true
}

async fn kill(manner: &Manner, rounds: u64) {
    let mut dice = Dice::new();
    let mut counts = HashMap::new();
    let mut left = rounds;
    while left > 0 {
        let world = World::new(&[RIGHTS]);
        let upstream = Upstream::start(&world, manner.size as usize / 2).await;
        let site = Site::new(world, upstream.addr, manner.audit);
        let mut journal = site.journal();
        for _ in 0..PER_FOLDER.min(left) {
            round(&site, manner, &mut journal, &upstream, &mut dice, &mut counts).await;
            left -= 1;
        }
        // An end in order signs everything.
        site.start().await.stop().await;
        let found = journal.check(State::Stopped);
        upstream.take();
        let unknown = found.requests.values().filter(|r| r.unknown).count();
        for (what, n) in [
            ("lines", found.lines),
            ("torn", found.torn),
            ("outcome unknown", unknown as u64),
            ("crashes", found.crashes),
            ("checks", journal.times()),
        ] {
            *counts.entry(what).or_default() += n;
        }
        assert_eq!(found.lost, 0, "lost events");
        assert!(manner.name != "rotating" || found.segments.0 > 1 || rounds < PER_FOLDER, "nothing rotated");
    }
    println!("{}: {rounds} kills, {counts:?}", manner.name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missing_after_a_kill() {
    kill(&MANNERS[0], rounds(40)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missing_after_a_kill_where_the_policy_omits_first_events() {
    kill(&MANNERS[1], rounds(30)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missing_after_a_kill_amid_rotation_and_pruning() {
    kill(&MANNERS[2], rounds(30)).await;
}

/// A day's work without a kill: everything is there, and nothing twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_leaves_everything_signed() {
    let world = World::new(&[RIGHTS]);
    let upstream = Upstream::start(&world, 100).await;
    let site = Site::new(world, upstream.addr, "  policy: everything");
    let mut journal = site.journal();
    let mut dice = Dice::new();
    for starts in 1..=2 {
        let gate: Running = site.start().await;
        let load = Load::start(gate.address(), &site.tls("h2"), 3, 1000, &mut dice);
        load.answers(20).await;
        journal.check(State::Running);
        load.answers(40).await;
        let told = load.stop().await;
        gate.stop().await;
        let (found, heard) = (journal.check(State::Stopped), upstream.take());
        assert_eq!((found.crashes, found.lost, found.torn), (0, 0, 0));
        assert!(told.iter().all(|one| one.whole || one.line.contains("watch=1")), "{told:?}");
        for one in &heard {
            let request = &found.requests[&one.id];
            assert!(request.stages[0] == Stage::RequestReceived && !request.unknown, "{request:?}");
        }
        let codes = tally(told.iter().map(|one| one.line.split(' ').next().unwrap()));
        println!("start {starts}: {} lines, {codes:?}", found.lines);
    }
}
