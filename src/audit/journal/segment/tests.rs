use super::*;
use crate::audit::tests::Folder;
use std::{os::unix::fs::PermissionsExt, time::UNIX_EPOCH};

const KEEP: Keep = Keep { max_size: 100, rotate_every: None };

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn write(segments: &mut Segments, lines: &str, now: SystemTime) {
    if segments.is_due(lines.len(), now) {
        segments.begin(now).unwrap();
    }
    segments.append(lines.as_bytes()).unwrap();
}

fn contents(dir: &Path) -> Vec<String> {
    names(dir).unwrap().iter().map(|n| fs::read_to_string(dir.join(n)).unwrap()).collect()
}

#[test]
fn files_are_private_and_named_so_that_they_sort() {
    let folder = Folder::new();
    let dir = folder.0.join("deep/audit");
    let (mut segments, torn) = Segments::open(&dir, KEEP).unwrap();
    assert_eq!(torn, []);
    assert_eq!(names(&dir).unwrap(), Vec::<String>::new(), "a segment begins with its first line");
    write(&mut segments, "a\n", at(1_767_323_045));
    segments.finish();
    // The clock went back.
    write(&mut segments, "b\n", at(1_767_000_000));
    let names = names(&dir).unwrap();
    assert_eq!(
        names,
        ["audit-20260102T030405.000Z-00000001.jsonl", "audit-20260102T030405.000Z-00000002.jsonl"]
    );
    assert_eq!(start_of(names[0].strip_suffix(".jsonl").unwrap()), Some("20260102T030405.000Z"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for file in [names[0].as_str(), "lock"] {
        assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
    }
    drop(segments);
    let (mut segments, _) = Segments::open(&dir, KEEP).unwrap();
    write(&mut segments, "c\n", at(0));
    assert_eq!(contents(&dir), ["a\n", "b\n", "c\n"], "a restart begins another");
}

#[test]
fn segments_end_by_size_and_by_age() {
    let folder = Folder::new();
    let keep = Keep { rotate_every: Some(Duration::from_secs(60)), ..KEEP };
    let (mut segments, _) = Segments::open(&folder.0, keep).unwrap();
    let line = |c: &str| c.repeat(39) + "\n";
    write(&mut segments, &line("a"), at(0));
    write(&mut segments, &line("b"), at(1));
    write(&mut segments, &line("c"), at(2));
    assert_eq!(contents(&folder.0), [line("a") + &line("b"), line("c")]);
    write(&mut segments, "d\n", at(61));
    assert_eq!(names(&folder.0).unwrap().len(), 2, "not yet a minute old");
    write(&mut segments, "e\n", at(62));
    assert_eq!(names(&folder.0).unwrap().len(), 3);
    assert!(segments.is_over(at(200)), "an idle segment ends, too");
    segments.finish();
    assert_eq!(names(&folder.0).unwrap().len(), 3, "and the next one begins with a line");
    // What is longer than a segment has one of its own.
    write(&mut segments, &"x".repeat(500), at(201));
    write(&mut segments, "y\n", at(202));
    assert_eq!(names(&folder.0).unwrap().len(), 5);
}

#[test]
fn a_segment_that_was_taken_away_is_noticed() {
    let folder = Folder::new();
    let (mut segments, _) = Segments::open(&folder.0, KEEP).unwrap();
    write(&mut segments, "a\n", at(0));
    let path = folder.0.join(&names(&folder.0).unwrap()[0]);
    assert!(!segments.is_over(at(0)));
    fs::rename(&path, folder.0.join("elsewhere")).unwrap();
    assert!(segments.is_over(at(0)) && segments.is_gone());
    fs::write(&path, "somebody else's").unwrap();
    assert!(segments.is_gone());
}

#[test]
fn torn_lines_are_ended_whatever_their_length() {
    let long = "x".repeat(200 << 10);
    let rows = [
        ("", "", None),
        ("a\n", "a\n", None),
        ("a\nb", "a\nb\n", Some(1)),
        ("abc", "abc\n", Some(3)),
        (&format!("a\n{long}"), &format!("a\n{long}\n"), Some(200 << 10)),
        (&long, &format!("{long}\n"), Some(200 << 10)),
    ];
    for (before, after, torn) in rows {
        let folder = Folder::new();
        let name = "audit-20260102T030405.678Z-00000003.jsonl";
        let older = "audit-20260101T030405.678Z-00000002.jsonl";
        fs::write(folder.0.join(older), "older and torn").unwrap();
        fs::write(folder.0.join(name), before).unwrap();
        let (_segments, found) = Segments::open(&folder.0, KEEP).unwrap();
        let found: Vec<_> = found.into_iter().map(|t| (t.file, t.bytes)).collect();
        let older_torn = Some((older.to_owned(), 14));
        let want: Vec<_> = older_torn.into_iter().chain(torn.map(|bytes| (name.to_owned(), bytes))).collect();
        assert_eq!(found, want);
        assert_eq!(fs::read_to_string(folder.0.join(name)).unwrap(), after);
    }
}

#[test]
fn the_key_is_made_once_and_is_private() {
    let folder = Folder::new();
    let made = key(&folder.0).unwrap();
    assert_ne!(made, [0; 32]);
    assert_eq!(key(&folder.0).unwrap(), made);
    let path = folder.0.join("hmac.key");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!folder.0.join("hmac.key.new").exists());
    fs::write(&path, "short").unwrap();
    assert!(key(&folder.0).unwrap_err().to_string().contains("expected 32 bytes"));
}

#[test]
fn a_folder_that_cannot_be_is_named() {
    let folder = Folder::new();
    fs::write(folder.0.join("file"), "").unwrap();
    let error = Segments::open(&folder.0.join("file/audit"), KEEP).unwrap_err().to_string();
    assert!(error.contains("file/audit: cannot be made: "), "{error}");
}
