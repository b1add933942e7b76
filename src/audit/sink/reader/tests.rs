use super::*;
use crate::audit::tests::Folder;
use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use std::io::Write as _;

const ROOM: Room = Room { events: 1000, bytes: 1 << 20 };
const ALL: Position = Position { segment: u64::MAX, offset: 0 };

/// A line as the journal has it.
fn event(n: usize) -> String {
    format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"{n}","stage":"ResponseComplete","annotations":{{"gatelog.dev/salt":"00"}}}}
"#
    )
}

fn journal_only(n: usize) -> String {
    event(n).replace("\"gatelog.dev/salt", "\"gatelog.dev/journal-only\":\"true\",\"gatelog.dev/salt")
}

fn stem(number: u64) -> String {
    format!("audit-20260102T030405.678Z-{number:08}")
}

impl Folder {
    fn segment(&self, number: u64, text: &str) {
        fs::write(self.0.join(format!("{}.jsonl", stem(number))), text).unwrap();
    }

    fn compress(&self, number: u64) {
        let plain = self.0.join(format!("{}.jsonl", stem(number)));
        let file = File::create(self.0.join(format!("{}.jsonl.gz", stem(number)))).unwrap();
        let mut gz = GzEncoder::new(file, Compression::fast());
        gz.write_all(&fs::read(&plain).unwrap()).unwrap();
        gz.finish().unwrap();
        fs::remove_file(plain).unwrap();
    }

    fn reader(&self, at: Option<(u64, u64)>) -> Reader {
        let cursor =
            at.map(|(segment, offset)| Cursor { stem: stem(segment), at: Position { segment, offset } });
        Reader::new("s", &self.0, Ok(cursor), IntCounter::new("a", "b").unwrap())
    }
}

/// What a batch says: audit ids, and `!` and the text of notes.
fn said(batch: &Batch) -> Vec<String> {
    let one = |line: &[u8]| {
        let event: Value = serde_json::from_slice(line).unwrap();
        match event["annotations"]["gatelog.dev/sink-gap"].as_str() {
            Some(gap) => format!("!{gap}"),
            None => event["auditID"].as_str().unwrap().to_owned(),
        }
    };
    batch.lines(0..batch.len()).each().map(one).collect()
}

/// All that there is, and where it ends.
fn all(reader: &mut Reader, limit: Position, room: Room) -> (Vec<String>, Option<(u64, u64)>) {
    let mut found = Vec::new();
    loop {
        let mut batch = Batch::default();
        let ended = reader.read(limit, room, &mut batch).unwrap();
        found.extend(said(&batch));
        if ended == Ended::Dry {
            return (found, batch.upto().map(|cursor| (cursor.at.segment, cursor.at.offset)));
        }
    }
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[test]
fn everything_is_read_once_in_order_and_journal_only_lines_are_not() {
    let folder = Folder::new();
    folder.segment(1, &[event(0), journal_only(90), event(1)].concat());
    folder.segment(2, &[event(2), event(3)].concat());
    folder.compress(2);
    folder.segment(3, &[event(4), event(5)].concat());
    let end = 2 * event(0).len() as u64;
    for (events, bytes) in [(1000, 1 << 20), (1, 1 << 20), (2, 1 << 20), (1000, 1), (1000, 200)] {
        let limit = Position { segment: 3, offset: end };
        let read = all(&mut folder.reader(None), limit, Room { events, bytes });
        assert_eq!(read, (numbers(0..6), Some((3, end))), "{events} {bytes}");
    }
    // From every place between two lines.
    for n in 0..3 {
        let at = n * event(0).len() as u64;
        let want = (numbers(2 + n as usize..6), Some((3, end)));
        assert_eq!(all(&mut folder.reader(Some((2, at))), Position { segment: 3, offset: end }, ROOM), want);
    }
}

#[test]
fn of_the_newest_only_what_the_journal_vouches_for() {
    let folder = Folder::new();
    let size = event(0).len() as u64;
    folder.segment(7, &[event(0), event(1), event(2), "{\"kind".to_owned()].concat());
    let mut reader = folder.reader(None);
    for lines in 0..=3 {
        let limit = Position { segment: 7, offset: lines * size };
        let want = if lines == 0 { Vec::new() } else { vec![(lines - 1).to_string()] };
        assert_eq!(all(&mut reader, limit, ROOM), (want, Some((7, limit.offset))));
    }
    // What was behind it has been written anew, and there is a next one.
    folder.segment(7, &[event(0), event(1), event(2), event(3)].concat());
    folder.segment(8, &event(4));
    let want = (numbers(3..5), Some((8, size)));
    assert_eq!(all(&mut reader, Position { segment: 8, offset: size }, ROOM), want);
    assert_eq!(all(&mut folder.reader(Some((9, 0))), ALL, ROOM).0.len(), 6, "all and a note");
}

#[test]
fn compression_under_the_reader_changes_nothing() {
    let folder = Folder::new();
    let room = Room { events: 2, bytes: 1 << 20 };
    for opened in [false, true] {
        folder.segment(1, &(0..9).map(event).collect::<String>());
        folder.segment(2, &(9..12).map(event).collect::<String>());
        let mut reader = folder.reader(None);
        let mut batch = Batch::default();
        reader.read(ALL, room, &mut batch).unwrap();
        assert_eq!(said(&batch), numbers(0..2));
        folder.compress(1);
        if !opened {
            reader.open = None;
            reader.held = None;
        }
        assert_eq!(all(&mut reader, ALL, room).0, numbers(2..12));
    }
}

#[test]
fn what_is_missing_is_told() {
    let size = event(0).len() as u64;
    let was = stem(2);
    type Row<'a> = (Option<(u64, u64)>, &'a str, usize);
    let rows: &[Row<'_>] = &[
        // Removed in its middle, whether or not it was read to its end.
        (Some((2, 5 * size)), "was removed before this sink had taken it", 3),
        (Some((1, 0)), "was removed before this sink had taken it", 3),
        // Not of this journal.
        (Some((9, 0)), "everything is sent again: this journal has no", 3),
        // Beyond the end; between two lines.
        (Some((4, 7 * size)), "is sent again: no line begins at byte", 3),
        (Some((4, size + 1)), "is sent again: no line begins at byte", 3),
        (Some((5, u64::MAX)), "is sent again: no line begins at byte", 5),
    ];
    for (at, want, first) in rows {
        let folder = Folder::new();
        folder.segment(4, &[event(3), event(4)].concat());
        folder.segment(5, &[event(5), event(6)].concat());
        folder.compress(5);
        let (said, _) = all(&mut folder.reader(*at), ALL, ROOM);
        assert!(said[0].starts_with('!') && said[0].contains(want), "{at:?} {said:?}");
        assert_eq!(said[1..], numbers(*first..7), "{at:?}");
    }
    let folder = Folder::new();
    folder.segment(4, &event(3));
    let other = Cursor {
        stem: was.replace("2026", "2025").replace('2', "4"),
        at: Position { segment: 4, offset: size },
    };
    let mut reader = Reader::new("s", &folder.0, Ok(Some(other)), IntCounter::new("a", "b").unwrap());
    let (said, _) = all(&mut reader, ALL, ROOM);
    assert!(said[0].contains("everything is sent again") && said[1..] == numbers(3..4), "{said:?}");
    let mut reader = Reader::new("s", &folder.0, Err("odd".to_owned()), IntCounter::new("a", "b").unwrap());
    assert_eq!(all(&mut reader, ALL, ROOM).0, ["!everything is sent again: odd", "3"]);
}

#[test]
fn a_segment_that_goes_while_nobody_reads_it_is_told_in_its_place() {
    let folder = Folder::new();
    (1..=3).for_each(|n| folder.segment(n, &event(n as usize)));
    let mut reader = folder.reader(None);
    let mut batch = Batch::default();
    assert_eq!(reader.read(ALL, ROOM, &mut batch).unwrap(), Ended::Full);
    fs::remove_file(folder.0.join(format!("{}.jsonl", stem(2)))).unwrap();
    let (said, _) = all(&mut reader, ALL, ROOM);
    assert!(said[0].contains("whatever stood between them is missing"), "{said:?}");
    assert_eq!((said.len(), &*said[1]), (2, "3"));
    assert_eq!(reader.gaps.get(), 1);
}

#[test]
fn what_is_no_event_is_told_and_passed_over() {
    let folder = Folder::new();
    folder.segment(1, &[&event(0), "{\"kind\":\"Event\",\"apiV\n", &event(1), "torn"].concat());
    folder.segment(2, &event(2));
    for events in [1, 2, 1000] {
        let (said, _) = all(&mut folder.reader(None), ALL, Room { events, bytes: 1 << 20 });
        assert_eq!(said.len(), 5, "{said:?}");
        assert!(said[1].contains("at byte") && said[3].contains("that is no event"), "{said:?}");
        assert_eq!((&*said[0], &*said[2], &*said[4]), ("0", "1", "2"));
    }
}

#[test]
fn a_compressed_segment_that_is_spoilt_is_given_up_and_told() {
    let folder = Folder::new();
    folder.segment(1, &(0..1000).map(event).collect::<String>());
    folder.compress(1);
    let path = folder.0.join(format!("{}.jsonl.gz", stem(1)));
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    folder.segment(2, &event(1000));
    let mut reader = folder.reader(None);
    let (mut found, mut failures) = (Vec::new(), 0);
    loop {
        let mut batch = Batch::default();
        let ended = reader.read(ALL, ROOM, &mut batch);
        found.extend(said(&batch));
        match ended {
            Ok(Ended::Dry) => break,
            Ok(Ended::Full) => {}
            Err(_) => failures += 1,
        }
    }
    assert_eq!(failures, 3);
    let told = found.iter().position(|said| said.starts_with('!')).unwrap();
    assert!(found[told].contains("cannot be read, what it holds is missing"), "{}", found[told]);
    assert_eq!(found[..told], numbers(0..told));
    assert_eq!(found[told + 1..], ["1000"]);
}

#[test]
fn bytes_that_are_left_are_counted_over_all_segments() {
    let folder = Folder::new();
    let size = event(0).len() as u64;
    folder.segment(1, &(0..10).map(event).collect::<String>());
    folder.segment(2, &(0..20).map(|n| event(n % 10)).collect::<String>());
    folder.compress(1);
    let limit = Position { segment: 2, offset: 20 * size };
    for (at, want) in [(None, 30), (Some((1, 4)), 26), (Some((2, 4)), 16), (Some((2, 20)), 0)] {
        let cursor = at.map(|(segment, lines)| Cursor {
            stem: stem(segment),
            at: Position { segment, offset: lines * size },
        });
        assert_eq!(behind(&folder.0, cursor.as_ref(), limit).unwrap(), want * size);
    }
}
