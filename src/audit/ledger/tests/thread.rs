//! The thread, on a real disk.

use super::*;
use crate::audit::tests::Folder;

fn begin(folder: &Folder, steps: &mut Vec<Step>, at: Position) -> (Ledger, Registry) {
    let mut config = config(|_| {});
    (config.dir, config.signing.stdout) = (folder.0.clone(), None);
    let registry = Registry::new();
    let opened = open(&config).unwrap();
    let ledger = opened.begin(steps, at, &config, Cursors::open(&folder.0, &[]), &registry).unwrap();
    (ledger, registry)
}

fn value(registry: &Registry, name: &str) -> f64 {
    let family = registry.gather().into_iter().find(|family| family.name() == name).unwrap();
    family.get_metric()[0].get_gauge().get_value()
}

#[tokio::test]
async fn checkpoints_come_with_the_lines_and_when_there_are_none() {
    let folder = Folder::new();
    let (ledger, registry) = begin(&folder, &mut Vec::new(), Position::default());
    let mut heads = ledger.heads();
    let first = heads.borrow_and_update().clone();
    assert_eq!(first.head.size, 1);
    // Nothing happens, and that is said.
    heads.changed().await.unwrap();
    assert_eq!(heads.borrow_and_update().head, first.head);
    let mut written = Written::default();
    let mut steps = vec![Step::Segment(written.rotate(&Memory::new()))];
    steps.extend((0..2500).map(|_| Step::Line(written.line())));
    ledger.feed().push(&mut steps, written.end());
    let now = heads.wait_for(|signed| signed.head.size == 2502).await.unwrap().clone();
    assert_eq!((now.segment, now.stopped), (1, false));
    assert_eq!(value(&registry, "gatelog_audit_tree_size"), 2502.0);
    assert_eq!(value(&registry, "gatelog_audit_unsigned_events"), 0.0);
    let root: String = now.head.root.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let bits = u64::from_str_radix(&root[..13], 16).unwrap();
    assert_eq!(value(&registry, "gatelog_audit_tree_root"), bits as f64);
    ledger.stop(4);
    let last = heads.borrow_and_update().clone();
    assert_eq!((last.head.size, last.stopped), (2503, true));
    let note = std::fs::read_to_string(folder.0.join("log/checkpoint")).unwrap();
    assert_eq!(*note, *last.note);
    drop(ledger);
    // And again.
    let (ledger, _) = begin(&folder, &mut Vec::new(), written.end());
    assert_eq!(ledger.heads().borrow().head.size, 2504);
}

#[tokio::test]
async fn a_disk_that_fails_is_told_and_gone_on_with() {
    let folder = Folder::new();
    let (ledger, registry) = begin(&folder, &mut Vec::new(), Position::default());
    let log = folder.0.join("log");
    let away = folder.0.join("away");
    std::fs::rename(&log, &away).unwrap();
    // In the way of what would be made anew.
    std::fs::write(&log, "").unwrap();
    let mut written = Written::default();
    let mut steps = vec![Step::Segment(written.rotate(&Memory::new()))];
    steps.extend((0..300).map(|_| Step::Line(written.line())));
    ledger.feed().push(&mut steps, written.end());
    while ledger.healthy().is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let why = ledger.healthy().unwrap_err();
    assert!(why.starts_with("the tree of the audit journal cannot be written: "), "{why}");
    assert_eq!(value(&registry, "gatelog_audit_unsigned_events"), 300.0);
    steps.extend((0..300).map(|_| Step::Line(written.line())));
    ledger.feed().push(&mut steps, written.end());
    std::fs::remove_file(&log).unwrap();
    std::fs::rename(&away, &log).unwrap();
    let mut heads = ledger.heads();
    heads.wait_for(|signed| signed.head.size == 602).await.unwrap();
    while ledger.healthy().is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    ledger.stop(0);
    assert_eq!(heads.borrow().head.size, 603);
}

#[test]
fn a_disk_that_hangs_does_not_hold_the_end() {
    let (memory, config) = (Memory::new(), config(|config| config.signing.stdout = None));
    let opened = Opened::find(Box::new(memory.clone()), &config).unwrap();
    let cursors = Cursors::open(&config.dir, &[]);
    let ledger =
        opened.begin(&mut Vec::new(), Position::default(), &config, cursors, &Registry::new()).unwrap();
    let hangs = memory.hang();
    let begun = std::time::Instant::now();
    ledger.stop_within(0, Duration::from_millis(100));
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(!ledger.heads().borrow().stopped);
    drop(hangs);
}

#[test]
fn a_feed_is_full_when_too_many_wait() {
    let feed = Feed::new();
    let mut written = Written::default();
    let mut steps = vec![Step::Segment(written.rotate(&Memory::new()))];
    let line = Step::Line(written.line());
    for _ in 0..1 << 10 {
        assert!(!feed.is_full());
        steps.extend([line; 1 << 10]);
        feed.push(&mut steps, written.end());
    }
    assert!(feed.is_full());
    feed.signed(1);
    assert!(!feed.is_full());
}

#[test]
fn a_checkpoint_is_an_event_too() {
    let folder = Folder::new();
    let (ledger, _) = begin(&folder, &mut Vec::new(), Position::default());
    let signed = ledger.heads().borrow().clone();
    let line: serde_json::Value = serde_json::from_slice(&told::line(&signed)).unwrap();
    assert_eq!(line["annotations"]["gatelog.dev/checkpoint"], *signed.note);
    assert_eq!((&line["stage"], &line["user"]), (&"ResponseComplete".into(), &serde_json::json!({})));
}
