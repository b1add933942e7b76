use super::*;
use crate::audit::{
    event::{MicroTime, Stage},
    folder,
    tests::Folder,
    tree::leaf::AuditId,
};
use line::Part;
use segment::Keep;
use std::io::Read as _;

const KEEP: Keep =
    Keep { max_size: 1 << 20, rotate_every: None, max_age: None, max_backups: None, max_total_size: None };

fn setup(segments: Segments) -> Setup {
    Setup {
        segments,
        open: Open::default(),
        capacity: 1 << 20,
        on_failure: OnFailure::Refuse,
        compress: false,
        feed: None,
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
