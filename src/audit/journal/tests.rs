use super::*;
use crate::audit::{
    event::{MicroTime, Stage},
    folder,
    ledger::feed::EVENTS,
    tests::Folder,
    tree::leaf::AuditId,
};
use disk::tests::{Fault, Faulty};
use line::Part;
use segment::Keep;
use std::io::Read as _;

const KEEP: Keep = Keep { max_size: 1 << 20, rotate_every: None };

fn setup(segments: Segments) -> Setup {
    Setup {
        segments,
        open: Open::default(),
        capacity: 1 << 20,
        on_failure: OnFailure::Refuse,
        hung: HUNG,
        compress: false,
        feed: Feed::new(),
        metrics: Metrics::unregistered(),
        summaries: Box::new(|_, _| {}),
    }
}

fn journal(folder: &Folder, capacity: usize) -> Journal {
    let (segments, _) = Segments::open(&folder.0, KEEP).unwrap();
    Journal::start(Setup { capacity, ..setup(segments) }).unwrap()
}

fn written(folder: &Folder) -> String {
    let mut text = String::new();
    for segment in folder::segments(&folder.0).unwrap() {
        segment.open().unwrap().read_to_string(&mut text).unwrap();
    }
    text
}

/// A line of no particular request.
pub(super) fn line(text: &[u8]) -> Line<'_> {
    Line::new(text, AuditId([7; 16]), Stage::ResponseComplete, MicroTime(0), Part::Only)
}

#[tokio::test]
async fn waiting_ends_when_the_line_is_in_the_file() {
    let folder = Folder::new();
    let journal = journal(&folder, 1 << 20);
    for i in 0..100 {
        let line = format!("{i}\n");
        let mark = journal.reserve(Some(&self::line(line.as_bytes())), 0).unwrap();
        journal.written(mark).await.unwrap();
        assert!(written(&folder).ends_with(&line));
    }
    journal.written(Mark(0)).await.unwrap();
    journal.flush().await.unwrap();
}

#[test]
fn many_writers_lose_and_mix_nothing() {
    let folder = Folder::new();
    let journal = journal(&folder, 64 << 20);
    let (writers, lines) = (4, 5000);
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let journal = &journal;
            scope.spawn(move || {
                for i in 0..lines {
                    let first = format!("{writer} {i} first\n");
                    journal.reserve(Some(&line(first.as_bytes())), 100).unwrap();
                    let last = format!("{writer} {i} last {}\n", "x".repeat(100));
                    journal.append(Some(&line(last.as_bytes())), 100);
                }
            });
        }
    });
    assert_eq!(journal.close(), 0);
    assert_eq!(journal.used(), 0);
    let text = written(&folder);
    assert!(segment::names(&folder.0).unwrap().len() > 1);
    assert_eq!(text.lines().count(), writers * lines * 2);
    let mut next = vec![0; writers];
    for line in text.lines() {
        let mut words = line.split(' ');
        let writer: usize = words.next().unwrap().parse().unwrap();
        let i: usize = words.next().unwrap().parse().unwrap();
        assert_eq!(i, next[writer] / 2, "{line}");
        assert_eq!(words.next().unwrap(), if next[writer] % 2 == 0 { "first" } else { "last" });
        next[writer] += 1;
    }
}

#[test]
fn room_is_held_and_given_back() {
    let folder = Folder::new();
    let journal = journal(&folder, 1000);
    journal.reserve(None, 600).unwrap();
    assert_eq!(journal.reserve(None, 401).unwrap_err().0, "its queue is full");
    assert!(journal.hold(400));
    assert!(!journal.hold(1));
    journal.append(Some(&line(b"x\n")), 1000);
    assert!(journal.used() <= 2);
    assert_eq!(journal.close(), 0);
    assert_eq!(journal.used(), 0);
}

#[test]
fn the_journals_own_lines_are_written_now_and_then() {
    let folder = Folder::new();
    let (segments, _) = Segments::open(&folder.0, KEEP).unwrap();
    let summaries = |at_end: bool, deliver: &mut dyn FnMut(&Line<'_>)| {
        if at_end {
            deliver(&line(b"summary\n"));
        }
    };
    let journal = Journal::start(Setup { summaries: Box::new(summaries), ..setup(segments) }).unwrap();
    journal.try_append(&line(b"line\n"));
    journal.close();
    assert_eq!(written(&folder), "line\nsummary\n");
}

#[tokio::test]
async fn a_writer_that_fell_over_is_a_failing_disk() {
    let folder = Folder::new();
    let (segments, _) = Segments::open(&folder.0, KEEP).unwrap();
    let falls = |_: bool, _: &mut dyn FnMut(&Line<'_>)| panic!("as it is wanted here");
    let journal = Journal::start(Setup { summaries: Box::new(falls), ..setup(segments) }).unwrap();
    while journal.healthy().is_ok() {
        // It falls with its first tick.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(journal.reserve(Some(&line(b"line\n")), 0).unwrap_err().0, "its disk fails");
    journal.append(Some(&line(b"line\n")), 0);
    journal.flush().await.unwrap_err();
    assert!(journal.healthy().is_err());
    // What came before the syncer has ended as well, it wrote.
    assert_eq!(journal.close() + written(&folder).lines().count() as u64, 1);
}

/// A journal on a disk that does as it is told.
fn on_disk(folder: &Folder, faulty: &Faulty, change: impl FnOnce(Setup) -> Setup) -> Journal {
    let (mut segments, _) = Segments::open(&folder.0, KEEP).unwrap();
    faulty.attach(&mut segments);
    Journal::start(change(setup(segments))).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_wait_for_the_disk_share_a_sync() {
    const CHANGES: usize = 400;
    let (folder, faulty) = (Folder::new(), Faulty::default());
    faulty.take(Duration::from_millis(5));
    let journal = Arc::new(on_disk(&folder, &faulty, |setup| setup));
    let changes: Vec<_> = (0..CHANGES)
        .map(|i| {
            let (journal, faulty, dir) = (journal.clone(), faulty.clone(), folder.0.clone());
            tokio::spawn(async move {
                let text = format!("change {i}\n");
                let mark = journal.reserve(Some(&line(text.as_bytes())), 0).unwrap();
                journal.commit(mark);
                journal.synced(mark).await.unwrap();
                // Nothing less is there when the power goes now.
                assert!(faulty.durable(&dir).contains(&text));
            })
        })
        .collect();
    for change in changes {
        change.await.unwrap();
    }
    let syncs = faulty.syncs();
    assert!((1..CHANGES / 4).contains(&syncs), "{syncs} syncs for {CHANGES} changes");
    assert_eq!(journal.shared.metrics.sync_lines.get_sample_count(), syncs as u64);
    assert_eq!(journal.close(), 0);
}

#[tokio::test]
async fn those_who_are_ready_share_a_write() {
    let (folder, faulty) = (Folder::new(), Faulty::default());
    let journal = Arc::new(on_disk(&folder, &faulty, |setup| setup));
    // A segment begins with it.
    let first = journal.reserve(Some(&line(b"first\n")), 0).unwrap();
    journal.written(first).await.unwrap();
    let before = faulty.calls();
    let reads: Vec<_> = (0..100)
        .map(|i| {
            let (journal, dir) = (journal.clone(), folder.0.clone());
            tokio::spawn(async move {
                let text = format!("read {i}\n");
                let mark = journal.reserve(Some(&line(text.as_bytes())), 0).unwrap();
                journal.written(mark).await.unwrap();
                // Whoever wrote it.
                let text = format!("\n{text}");
                assert!(
                    folder::segments(&dir)
                        .unwrap()
                        .iter()
                        .any(|segment| { std::fs::read_to_string(&segment.path).unwrap().contains(&text) })
                );
            })
        })
        .collect();
    for read in reads {
        read.await.unwrap();
    }
    let calls = faulty.calls() - before;
    assert!((1..20).contains(&calls), "{calls} calls for 100 lines");
}

#[tokio::test]
async fn a_sync_is_asked_for_once() {
    let folder = Folder::new();
    let journal = journal(&folder, 1 << 20);
    let mut position = journal.position();
    for round in 1..=3 {
        let mut mark = Mark::default();
        for _ in 0..EVENTS {
            mark = journal.reserve(Some(&line(b"read\n")), 0).unwrap();
        }
        journal.written(mark).await.unwrap();
        let all = (round * EVENTS * 5) as u64;
        let synced = tokio::time::timeout(Duration::from_secs(10), position.wait_for(|at| at.offset == all));
        synced.await.unwrap().unwrap();
        assert_eq!(journal.shared.disk().asked, None);
    }
}

#[tokio::test]
async fn what_nobody_waits_for_is_synced_soon_and_told() {
    let folder = Folder::new();
    let journal = journal(&folder, 1 << 20);
    let mut position = journal.position();
    let mark = journal.reserve(Some(&line(b"read\n")), 0).unwrap();
    journal.written(mark).await.unwrap();
    assert_eq!(written(&folder), "read\n");
    tokio::time::timeout(Duration::from_secs(10), position.wait_for(|at| at.offset == 5))
        .await
        .unwrap()
        .unwrap();
    journal.commit(mark);
    journal.synced(mark).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_hangs_refuses_and_goes_on_when_it_is_back() {
    for (on_failure, goes_on) in [(OnFailure::Refuse, false), (OnFailure::Open, true)] {
        let (folder, faulty) = (Folder::new(), Faulty::default());
        let journal = on_disk(&folder, &faulty, |setup| Setup {
            hung: Duration::from_millis(100),
            on_failure,
            ..setup
        });
        journal.flush().await.unwrap();
        faulty.hang(true);
        let mark = journal.reserve(Some(&line(b"change\n")), 0).unwrap();
        journal.commit(mark);
        assert_eq!(journal.synced(mark).await.is_ok(), goes_on);
        let why = journal.healthy().unwrap_err();
        assert_eq!(why, "the audit journal cannot be written: its disk hangs");
        let refused = journal.reserve(Some(&line(b"later\n")), 0);
        assert_eq!(refused.is_ok(), goes_on);
        assert!(!journal.flush_within(Duration::from_millis(20)));
        faulty.hang(false);
        while journal.healthy().is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mark = journal.reserve(Some(&line(b"last\n")), 0).unwrap();
        journal.synced(mark).await.unwrap();
        let want = if goes_on { "change\nlater\nlast\n" } else { "change\nlast\n" };
        assert_eq!(faulty.durable(&folder.0), want);
    }
}

/// Whatever the disk hangs in, nobody waits for ever: here, in what is done because a sync failed.
#[tokio::test]
async fn a_disk_that_hangs_after_it_failed_holds_nobody() {
    let (folder, faulty) = (Folder::new(), Faulty::default());
    let hung = Duration::from_millis(100);
    let journal = on_disk(&folder, &faulty, |setup| Setup { hung, ..setup });
    // A file, a line, and a sync that fails; the sync of the file instead hangs.
    faulty.plan([Fault::None, Fault::None, Fault::Undone]);
    faulty.hang_after(1);
    let mark = journal.reserve(Some(&line(b"change\n")), 0).unwrap();
    let synced = tokio::time::timeout(Duration::from_secs(20), journal.synced(mark)).await;
    assert_eq!(synced.unwrap().unwrap_err().0, "its disk hangs");
    faulty.hang(false);
    while journal.healthy().is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    journal.synced(mark).await.unwrap();
}

/// Signing that falls behind is a reason to begin nothing, and none to hand out an answer before its last event.
#[tokio::test]
async fn signing_that_falls_behind_hurries_nobody() {
    let (folder, faulty) = (Folder::new(), Faulty::default());
    let feed = Feed::new();
    let journal = on_disk(&folder, &faulty, |setup| Setup { feed: feed.clone(), ..setup });
    let mark = journal.reserve(Some(&line(b"change\n")), 0).unwrap();
    feed.fill();
    journal.synced(mark).await.unwrap();
    let refused = journal.reserve(Some(&line(b"later\n")), 0);
    assert_eq!(refused.unwrap_err().0, "its signing falls behind");
}

#[tokio::test]
async fn what_comes_too_late_is_nowhere() {
    let folder = Folder::new();
    let journal = journal(&folder, 1 << 20);
    let mark = journal.reserve(Some(&line(b"a\n")), 100).unwrap();
    assert_eq!(journal.close(), 0);
    assert_eq!(journal.append(Some(&line(b"b\n")), 100), None);
    journal.synced(mark).await.unwrap();
    // Nor is it waited for.
    journal.synced(Mark(mark.0 + 1)).await.unwrap_err();
}

/// A sync that fails costs a segment, and neither a line nor a refusal.
#[tokio::test]
async fn after_a_failed_sync_the_lines_are_elsewhere() {
    for fault in [Fault::Undone, Fault::Done] {
        let (folder, faulty) = (Folder::new(), Faulty::default());
        let journal = on_disk(&folder, &faulty, |setup| setup);
        let mark = journal.reserve(Some(&line(b"a\n")), 0).unwrap();
        journal.synced(mark).await.unwrap();
        // Its write, then its sync.
        faulty.plan([Fault::None, fault]);
        let mark = journal.reserve(Some(&line(b"b\n")), 0).unwrap();
        journal.synced(mark).await.unwrap();
        assert_eq!(faulty.durable(&folder.0), "a\nb\n");
        assert_eq!(folder::segments(&folder.0).unwrap().len(), 2);
        assert_eq!(journal.shared.metrics.disk_errors.get(), 1);
        assert!(journal.healthy().is_ok());
        assert_eq!(journal.close(), 0);
    }
}

/// The disk works, fails for a while in every way, and works again: under load nothing is lost, mixed or doubled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_under_load() {
    let (folder, faulty) = (Folder::new(), Faulty::default());
    let journal = Arc::new(on_disk(&folder, &faulty, |setup| Setup {
        capacity: 64 << 20,
        on_failure: OnFailure::Open,
        ..setup
    }));
    let load: Vec<_> = (0..8)
        .map(|task| {
            let journal = journal.clone();
            tokio::spawn(async move {
                for i in 0..150 {
                    let text = format!("{task} {i} {}\n", "x".repeat(2000));
                    let mark = journal.reserve(Some(&line(text.as_bytes())), 0).unwrap();
                    match i % 3 {
                        0 => journal.synced(mark).await.unwrap(),
                        1 => journal.written(mark).await.unwrap(),
                        _ => journal.settled(mark).await,
                    }
                }
            })
        })
        .collect();
    let faults = [Fault::Undone, Fault::Done, Fault::Half, Fault::HalfDone];
    for round in 0..12 {
        faulty.plan([Fault::None, faults[round % 4], Fault::None, faults[round / 4]]);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for task in load {
        task.await.unwrap();
    }
    assert_eq!(journal.close(), 0);
    let text = written(&folder);
    assert_eq!(text, faulty.durable(&folder.0));
    let mut next = [0; 8];
    for line in text.lines() {
        let mut words = line.split(' ').map(|word| word.parse::<usize>());
        let (task, i) = (words.next().unwrap().unwrap(), words.next().unwrap().unwrap());
        assert_eq!(i, next[task], "{line:.20}");
        next[task] += 1;
    }
    assert_eq!(next, [150; 8]);
}

#[tokio::test]
async fn finished_segments_are_compressed_and_leftovers_cleaned() {
    let folder = Folder::new();
    let name = |number: u64, more: &str| {
        folder.0.join(format!("audit-20260102T030405.678Z-{number:08}.jsonl{more}"))
    };
    // A crash left one that was not begun, one in the middle of it, and one before the plain form was removed.
    std::fs::write(name(1, ""), "one\n").unwrap();
    std::fs::write(name(2, ""), "two\n").unwrap();
    std::fs::write(name(2, ".gz.new"), "half").unwrap();
    std::fs::write(name(3, ""), "three\n").unwrap();
    seal::seal(&folder.0, &folder::segments(&folder.0).unwrap()[2]).unwrap();
    std::fs::write(name(3, ""), "three\n").unwrap();
    let (segments, _) = Segments::open(&folder.0, KEEP).unwrap();
    assert!(!name(2, ".gz.new").exists() && !name(3, "").exists());
    let journal = Journal::start(Setup { compress: true, ..setup(segments) }).unwrap();
    let mark = journal.reserve(Some(&line(b"four\n")), 0).unwrap();
    journal.written(mark).await.unwrap();
    while folder::segments(&folder.0).unwrap().iter().filter(|s| s.compressed).count() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(written(&folder), "one\ntwo\nthree\nfour\n");
    let segments = folder::segments(&folder.0).unwrap();
    assert_eq!(segments.iter().map(|s| s.compressed).collect::<Vec<_>>(), [true, true, true, false]);
    assert!(!name(1, "").exists());
    // What was pruned while it was compressed does not come back.
    let gone = folder::Segment { compressed: false, ..segments[0].clone() };
    std::fs::remove_file(&segments[0].path).unwrap();
    seal::seal(&folder.0, &folder::Segment { path: name(1, ""), ..gone }).unwrap();
    assert!(!name(1, ".gz").exists());
}
