use super::*;
use crate::audit::tests::Folder;
use serde_json::json;
use std::fs;

const A: &str = "6f1c0000-0000-4000-8000-00000000000a";
const B: &str = "6f1c0000-0000-4000-8000-00000000000b";

/// A line as the gate writes them.
fn line(id: &str, stage: &str, more: &str) -> String {
    format!(
        "{{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"level\":\"Metadata\",\"auditID\":\"{id}\",\"stage\":\"{stage}\",\
         \"requestURI\":\"/api/v1/pods?a=\\u0026b\",\"verb\":\"list\",\"user\":{{\"username\":\"a\\\"b\"}},\"sourceIPs\":[\"192.0.2.1\"],\
         \"objectRef\":{{\"resource\":\"pods\"}}{more},\"requestReceivedTimestamp\":\"2026-01-02T03:04:05.678901Z\",\
         \"stageTimestamp\":\"2026-01-02T03:04:06.000000Z\",\"annotations\":{{\"gatelog.dev/effect\":\"read\",\
         \"gatelog.dev/journal-only\":\"true\",\"gatelog.dev/salt\":\"00112233445566778899aabbccddeeff\"}}}}\n"
    )
}

fn id(text: &str) -> AuditId {
    text.parse().unwrap()
}

fn segment(folder: &Folder, number: u64, text: &str) {
    fs::write(folder.0.join(format!("audit-20260102T030405.678Z-{number:08}.jsonl")), text).unwrap();
}

/// Every way that a line can be: what is known of it.
#[test]
fn lines_are_known_by_their_form_or_by_their_content() {
    let plain = line(A, "RequestReceived", "");
    let pretty: Value = serde_json::from_str(&plain).unwrap();
    let mut reordered: Vec<_> = pretty.as_object().unwrap().clone().into_iter().rev().collect();
    reordered.push(("more".into(), json!(1)));
    let reordered = Value::Object(reordered.into_iter().collect()).to_string();
    let nested = line(
        A,
        "ResponseComplete",
        ",\"requestObject\":{\"x\":\"\",\"stageTimestamp\":\"1999-01-01T00:00:00.000000Z\",\"y\":1}",
    );
    let rows = [
        (plain.clone(), Some((A, Stage::RequestReceived))),
        (line(B, "Panic", ""), Some((B, Stage::Panic))),
        (nested, Some((A, Stage::ResponseComplete))),
        (reordered + "\n", Some((A, Stage::RequestReceived))),
        (format!("{}\n", &plain[..plain.len() - 2]), None),
        // A part that happens to end as a line does.
        (format!("{}\"user\":{{\"extra\":{{}}}}\n", &plain[..plain.find("\"user\"").unwrap()]), None),
        (line("not-an-id", "Panic", ""), None),
        (line(A, "Unknown", ""), None),
        ("\n".to_owned(), None),
        ("{}\n".to_owned(), None),
        ("\0\0\0\n".to_owned(), None),
    ];
    let at = MicroTime::parse("2026-01-02T03:04:06Z").unwrap();
    for (line, want) in rows {
        let entry = Known::of(line.trim_end().as_bytes()).and_then(|known| known.entry(line.as_bytes()));
        assert_eq!(entry.map(|e| (e.id, e.stage, e.at)), want.map(|(i, stage)| (id(i), stage, at)), "{line}");
        if let Some(entry) = entry {
            assert_eq!((entry.size, entry.hash), (line.len(), Hash::of(line.trim_end().as_bytes())));
        }
    }
}

#[test]
fn steps_are_read_from_a_position_on() {
    let folder = Folder::new();
    let (first, last) = (line(A, "RequestReceived", ""), line(A, "ResponseComplete", ""));
    segment(&folder, 3, &(first.clone() + "{\"kind\":\"Ev\n"));
    segment(&folder, 5, &last);
    segment(&folder, 6, "");
    let read = |segment, offset| {
        let mut steps = Vec::new();
        let end = steps_of(&folder, Position { segment, offset }, &mut steps);
        (steps, end)
    };
    let long = first.len() as u64;
    let after = Position { segment: 6, offset: 0 };
    let rows = [
        (0, 0, "segment 3, RequestReceived, torn, segment 5, ResponseComplete, segment 6"),
        (3, 0, "RequestReceived, torn, segment 5, ResponseComplete, segment 6"),
        (3, long, "torn, segment 5, ResponseComplete, segment 6"),
        (3, long + 12, "segment 5, ResponseComplete, segment 6"),
        (5, last.len() as u64, "segment 6"),
    ];
    for (number, offset, want) in rows {
        let (steps, end) = read(number, offset);
        assert_eq!((steps.join(", ").as_str(), end), (want, after), "{number} {offset}");
    }
    assert_eq!(read(6, 0), (vec![], after));
}

fn steps_of(folder: &Folder, from: Position, out: &mut Vec<String>) -> Position {
    steps(&folder.0, from, |step, _| {
        out.push(match step {
            Step::Line(entry) => entry.stage.as_str().to_owned(),
            Step::Torn(_) => "torn".to_owned(),
            Step::Segment(number) => format!("segment {number}"),
            Step::Lost(lost) => format!("lost {lost}"),
        });
    })
    .unwrap()
}

#[test]
fn a_request_without_an_end_gets_one() {
    let folder = Folder::new();
    let (first, other) = (line(A, "RequestReceived", ""), line(B, "RequestReceived", ""));
    segment(&folder, 1, &(other.clone() + &first));
    segment(&folder, 2, &line(B, "ResponseComplete", ""));
    let open = open(&folder.0).unwrap().list();
    assert_eq!(open, [(id(A), Position { segment: 1, offset: other.len() as u64 })]);
    let now = MicroTime::parse("2026-02-03T04:05:06Z").unwrap();
    let mut closing = Vec::new();
    let deliver = |line: &Line<'_>| {
        assert_eq!(
            (line.entry.id, line.entry.part, line.entry.stage),
            (id(A), Part::Last, Stage::ResponseComplete)
        );
        closing.push(String::from_utf8(line.text.to_vec()).unwrap());
    };
    assert_eq!(close(&folder.0, &open, now, deliver).unwrap(), 1);
    let [closing] = closing.try_into().unwrap();
    let mut end: Value = serde_json::from_str(&closing).unwrap();
    let salt = end["annotations"].as_object_mut().unwrap().remove("gatelog.dev/salt").unwrap();
    assert!(closing.ends_with(&format!("\"gatelog.dev/salt\":{salt}}}}}\n")), "{closing}");
    assert_ne!(salt, "00112233445566778899aabbccddeeff", "a salt of its own");
    let mut want: Value = serde_json::from_str(&first).unwrap();
    want["stage"] = json!("ResponseComplete");
    want["stageTimestamp"] = json!("2026-02-03T04:05:06.000000Z");
    want["annotations"] = json!({
        "gatelog.dev/effect": "read",
        "gatelog.dev/end": "the gate ended before the request did",
        "gatelog.dev/outcome": "unknown",
    });
    assert_eq!(end, want);
    // As it was written there, whatever the escapes.
    let head =
        |text: &str| text[text.find("\"requestURI\"").unwrap()..text.find("\"stageT").unwrap()].to_owned();
    assert_eq!(head(&closing), head(&first));
    assert_eq!(Known::of(closing.trim_end().as_bytes()).unwrap().stage, Stage::ResponseComplete);
}

/// The file `open`, and what the search finds then.
#[test]
fn the_list_of_open_requests_shortens_the_search() {
    let at = |segment, offset| Position { segment, offset };
    let (first, last) = (line(A, "RequestReceived", ""), line(A, "ResponseComplete", ""));
    let listed = format!("open 2\n{A} 1 0\nend 1\n");
    let rows = [
        // Far back, and the segments between are not read.
        (listed.as_str(), "", vec![(A, at(1, 0))]),
        (listed.as_str(), last.as_str(), vec![]),
        ("open 2\nend 0\n", "", vec![]),
        // What says nothing sensible is as if it were not there.
        ("", "", vec![(A, at(1, 0))]),
        ("open 2\n", "", vec![(A, at(1, 0))]),
        ("open 2\nend 1\n", "", vec![(A, at(1, 0))]),
        ("open x\nend 0\n", "", vec![(A, at(1, 0))]),
        ("open 2\nnonsense\nend 1\n", "", vec![(A, at(1, 0))]),
    ];
    for (list, second, want) in rows {
        let folder = Folder::new();
        segment(&folder, 1, &first);
        segment(&folder, 2, second);
        fs::write(folder.0.join("open"), list).unwrap();
        let found: Vec<_> = open(&folder.0).unwrap().list();
        assert_eq!(found, want.into_iter().map(|(i, at)| (id(i), at)).collect::<Vec<_>>(), "{list:?}");
    }
    // Of a first line that was pruned there is nothing to end.
    let folder = Folder::new();
    segment(&folder, 2, "");
    fs::write(folder.0.join("open"), &listed).unwrap();
    let open = open(&folder.0).unwrap().list();
    assert_eq!(close(&folder.0, &open, MicroTime(0), |_| panic!("nothing to tell")).unwrap(), 0);
}

#[test]
fn what_is_stored_is_loaded() {
    let folder = Folder::new();
    let mut open = Open::default();
    for i in 0..100_u64 {
        let mut bytes = [7; 16];
        bytes[..8].copy_from_slice(&i.to_be_bytes());
        open.note(AuditId(bytes), Part::First, Position { segment: i / 10, offset: i });
    }
    open.store(&folder.0, 11).unwrap();
    let (loaded, segment) = Open::load(&folder.0).unwrap();
    assert_eq!((loaded.list(), segment), (open.list(), 11));
    assert!(!folder.0.join("open.new").exists());
}
