//! What becomes of events when there is no room or no disk.

use super::*;
use crate::codec::document::Document;

/// A record whose disk fails while `broken` is set.
mod disk {
    use super::*;
    use crate::audit::journal::segment::Sink;
    use std::{io, sync::atomic::AtomicBool};

    #[derive(Clone, Default)]
    pub(super) struct Disk {
        pub(super) broken: Arc<AtomicBool>,
        pub(super) stuck: Arc<std::sync::Mutex<()>>,
    }

    struct Faulty(Disk, fs::File);

    impl Sink for Faulty {
        fn write(&self, bytes: &[u8]) -> io::Result<usize> {
            drop(self.0.stuck.lock().unwrap());
            if self.0.broken.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            // Never more than a part, as a disk that is nearly full does.
            Sink::write(&self.1, &bytes[..bytes.len().min(100)])
        }

        fn sync(&self) -> io::Result<()> {
            if self.0.broken.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }

        fn truncate(&self, size: u64) -> io::Result<()> {
            self.1.set_len(size)
        }
    }

    impl Disk {
        pub(super) fn record(&self, change: impl FnOnce(&mut Config)) -> Record {
            let folder = Folder::new();
            let mut config = Config::new(&folder.0, Policy::parse(METADATA).unwrap());
            change(&mut config);
            let keep = segment::Keep { max_size: config.max_size, rotate_every: config.rotate_every };
            let (mut segments, _) = Segments::open(&config.dir, keep).unwrap();
            let disk = self.clone();
            segments.set_create(Box::new(move |path| {
                let file = fs::File::options().append(true).create_new(true).open(path)?;
                Ok(Arc::new(Faulty(disk.clone(), file)))
            }));
            let key = redact::Key::new(&[0; 32]);
            let cursors = Cursors::open(&config.dir, &[]);
            let ledger = Audit::tree(&config, &cursors, &Registry::new()).unwrap();
            let (open, metrics) = (Open::default(), Metrics::unregistered());
            let audit = Audit::with_segments(config, segments, open, key, metrics, ledger, cursors).unwrap();
            Record { folder, audit }
        }

        pub(super) fn break_down(&self) {
            self.broken.store(true, Ordering::SeqCst);
        }

        pub(super) fn mend(&self) {
            self.broken.store(false, Ordering::SeqCst);
        }
    }
}

use disk::Disk;

impl Record {
    fn try_begin(&self, method: &str, target: &str) -> (Trail, Result<(), Unkept>) {
        let (mut trail, parts) = self.open(method, target);
        let begun = trail.begin_as(&alice(), "token-file", &Asked::parse(&parts).unwrap());
        (trail, begun)
    }

    /// Until the writer has noticed.
    async fn until(&self, healthy: bool) {
        while self.audit.healthy().is_ok() != healthy {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn a_failing_disk_refuses_and_loses_nothing() {
    let disk = Disk::default();
    let record = disk.record(|_| {});
    let mut open = record.begin("GET", "/api/v1/pods");
    record.audit.flush().await.unwrap();
    disk.break_down();
    // Whoever waits for the disk is told, and so is everybody who comes later.
    let mut waiting = record.begin("DELETE", "/api/v1/namespaces/a/pods/p");
    let refused = waiting.kept().await.unwrap_err();
    assert_eq!(refused.to_string(), "the audit record cannot be kept: its disk fails");
    waiting.refused(&Status::unavailable("x", None));
    drop(waiting);
    record.until(false).await;
    let (mut late, begun) = record.try_begin("GET", "/api/v1/nodes");
    begun.unwrap_err();
    assert!(late.kept().await.is_err(), "there is no way around a refusal");
    late.refused(&Status::unavailable("x", None));
    drop(late);
    record.audit.flush().await.unwrap_err();
    assert!(record.audit.healthy().unwrap_err().starts_with("the audit journal cannot be written: "));
    // An open request ends as if nothing were wrong.
    open.started(200, &as_json());
    open.complete(End::default());
    disk.mend();
    record.until(true).await;
    drop(record.begin("GET", "/version"));
    let events = record.events();
    let row = |e: &Value| {
        format!(
            "{} {} {}",
            e["verb"].as_str().unwrap(),
            e["stage"].as_str().unwrap(),
            e["responseStatus"]["code"]
        )
    };
    let rows: Vec<_> = events.iter().map(row).collect();
    assert_eq!(
        rows,
        [
            "list RequestReceived null",
            "delete RequestReceived null",
            "delete ResponseComplete 503",
            "list RequestReceived null",
            "list ResponseComplete 503",
            "list ResponseComplete 200",
            "get RequestReceived null",
            "get ResponseComplete 200",
        ]
    );
    assert_eq!((record.audit.metrics.rejected.get(), record.audit.metrics.lost.get()), (3, 0));
}

#[tokio::test]
async fn open_forwards_and_tells_what_was_lost() {
    let disk = Disk::default();
    let record = disk.record(|c| {
        c.on_failure = OnFailure::Open;
        c.queue_size = 1 << 20;
        c.max_request_object = 1 << 10;
        c.max_response_object = 1 << 10;
    });
    disk.break_down();
    let mut first = record.begin("DELETE", "/api/v1/namespaces/a/pods/p");
    first.kept().await.unwrap();
    record.until(false).await;
    drop(first);
    let mut lost = 0;
    while lost < 10 {
        let (mut trail, begun) = record.try_begin("DELETE", "/api/v1/namespaces/a/pods/p");
        begun.unwrap();
        trail.kept().await.unwrap();
        drop(trail);
        lost = record.audit.metrics.lost.get();
    }
    disk.mend();
    record.until(true).await;
    record.audit.flush().await.unwrap();
    drop(record.begin("GET", "/version"));
    let events = record.events();
    // One more may have gone while the queue was emptied.
    let lost = record.audit.metrics.lost.get();
    let told: Vec<u64> =
        events.iter().filter_map(|e| e["annotations"]["gatelog.dev/lost"].as_str()?.parse().ok()).collect();
    assert_eq!(told.iter().sum::<u64>(), lost);
    assert_eq!(record.audit.metrics.events.get(), (events.len() - told.len()) as u64 + lost);
}

#[tokio::test]
async fn a_full_queue_refuses_the_new_and_keeps_the_old() {
    let disk = Disk::default();
    let record = disk.record(|c| {
        c.queue_size = 1 << 20;
        c.max_request_object = 1 << 10;
        c.max_response_object = 1 << 10;
    });
    let stuck = disk.stuck.lock().unwrap();
    let mut watches = Vec::new();
    let refused = loop {
        let (trail, begun) = record.try_begin("GET", "/api/v1/pods?watch=1");
        match begun {
            Ok(()) => watches.push(trail),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.0, "its queue is full");
    assert!(watches.len() > 300, "{}", watches.len());
    let used = record.audit.journal.used();
    assert!(used <= 1 << 20, "{used}");
    drop(stuck);
    for mut watch in watches.drain(..) {
        watch.started(200, &as_json());
        watch.complete(End::default());
    }
    let kept = record.audit.metrics.events.get() - record.audit.metrics.lost.get();
    let told = u64::from(record.audit.metrics.lost.get() > 0);
    assert_eq!(record.events().len() as u64, kept + told);
}

#[tokio::test]
async fn a_body_without_room_is_refused_or_said() {
    for (on_failure, forwarded) in [(OnFailure::Refuse, false), (OnFailure::Open, true)] {
        let folder = Folder::new();
        let mut config = Config::new(&folder.0, Policy::parse(EVERYTHING).unwrap());
        (config.queue_size, config.on_failure) = (1 << 20, on_failure);
        let audit = Audit::start(config, &Registry::new()).unwrap();
        let record = Record { folder, audit };
        let body = Bytes::from(format!("{{\"a\":\"{}\"}}", "x".repeat(200 << 10)));
        let mut open = Vec::new();
        for _ in 0..6 {
            let mut trail = record.begin("POST", "/api/v1/namespaces/a/pods");
            trail.request(&as_json(), &Document::new(&as_json(), &body));
            open.push((trail.kept().await.is_ok(), trail));
        }
        assert!(open[0].0);
        assert!(open.iter().all(|(kept, _)| *kept) == forwarded);
        // The answers get what is left, and those without room say so.
        for (_, trail) in &mut open {
            trail.started(201, &as_json());
            trail.tee(&body);
        }
        drop(open);
        let events = record.events();
        let count = |key: &str| events.iter().filter(|e| e[key]["gatelog.dev/omitted"] == "room").count();
        assert!(count("requestObject") > 0 && count("responseObject") > 0);
    }
}

#[tokio::test]
async fn strangers_have_a_tenth_of_the_queue_at_most() {
    let disk = Disk::default();
    let record = disk.record(|c| {
        c.queue_size = 1 << 20;
        c.max_request_object = 1 << 10;
        c.max_response_object = 1 << 10;
    });
    let stuck = disk.stuck.lock().unwrap();
    let (parts, ()) = http::Request::builder().uri("/api").body(()).unwrap().into_parts();
    for i in 0..2000_u32 {
        let peer = (std::net::Ipv4Addr::from(i), 1);
        let mut trail = record.audit.open(peer.into(), &parts);
        trail.refused(&Status::unauthorized());
    }
    assert!(record.audit.journal.used() < 120 << 10);
    assert!(record.audit.metrics.suppressed.get() > 1000);
    drop(stuck);
    drop(record.begin("GET", "/api/v1/pods"));
    let told: u64 = record
        .events()
        .iter()
        .filter_map(|e| e["annotations"]["gatelog.dev/suppressed"].as_str()?.parse::<u64>().ok())
        .sum();
    assert_eq!(told, record.audit.metrics.suppressed.get());
}

/// A session has no deadline of its own that would end its waiting.
#[test]
fn a_session_is_refused_while_the_disk_hangs() {
    let disk = Disk::default();
    let record = disk.record(|_| {});
    let stuck = disk.stuck.lock().unwrap();
    let mut trail = record.begin("POST", "/api/v1/namespaces/a/pods/p/exec?command=sh&stdin=true");
    trail.commit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let kept = runtime.block_on(async { tokio::time::timeout(journal::HUNG * 3, trail.kept()).await });
    assert_eq!(kept.expect("it waits for ever").unwrap_err().0, "its disk hangs");
    assert!(record.audit.healthy().is_err());
    trail.refused(&Status::unavailable("x", None));
    drop(trail);
    drop(stuck);
    let stages = record.stages();
    assert_eq!(stages.last().unwrap(), &("ResponseComplete".to_owned(), 503));
}

#[test]
fn two_processes_cannot_share_a_folder() {
    let record = Record::new(METADATA);
    let config = Config::new(&record.folder.0, Policy::parse(METADATA).unwrap());
    let error = Audit::start(config.clone(), &Registry::new()).unwrap_err();
    assert!(matches!(&error, Error::Folder(FolderError::Taken(dir)) if *dir == record.folder.0), "{error}");
    record.audit.shutdown().unwrap();
    drop(Audit::start(config, &Registry::new()).unwrap());
}

#[test]
fn what_a_crash_tore_is_ended_and_told() {
    let folder = Folder::new();
    let torn = "audit-20260102T030405.678Z-00000007.jsonl";
    let config = Config::new(&folder.0, Policy::parse(METADATA).unwrap());
    Audit::start(config.clone(), &Registry::new()).unwrap().shutdown().unwrap();
    fs::write(folder.0.join(torn), "{\"kind\":\"Event\"}\n{\"kind\":\"Ev").unwrap();
    let audit = Audit::start(config, &Registry::new()).unwrap();
    audit.shutdown().unwrap();
    let segments = folder::segments(&folder.0).unwrap();
    let text = |segment: &folder::Segment| {
        let mut text = String::new();
        segment.open().unwrap().read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!(text(&segments[0]), "{\"kind\":\"Event\"}\n{\"kind\":\"Ev\n");
    assert_eq!((segments.len(), segments[1].number), (2, 8));
    let note: Value = serde_json::from_str(&text(&segments[1])).unwrap();
    assert_eq!(
        note["annotations"]["gatelog.dev/torn"],
        format!("{torn}: its last line was cut off after 11 bytes")
    );
}

#[test]
fn after_the_end_events_are_counted_as_lost() {
    let record = Record::new(METADATA);
    let open = record.begin("GET", "/api/v1/pods");
    record.audit.shutdown().unwrap();
    drop(open);
    let (_late, begun) = record.try_begin("GET", "/api/v1/pods");
    assert_eq!(begun.unwrap_err().0, "the gate is stopping");
    assert!(record.audit.metrics.lost.get() >= 2);
    assert!(matches!(record.audit.shutdown(), Ok(())), "a second stop does nothing");
}

/// What is not on the disk is not forwarded, whoever has stopped writing in between.
#[tokio::test]
async fn a_change_whose_first_event_comes_too_late_is_refused() {
    let omits = "{apiVersion: audit.k8s.io/v1, kind: Policy, omitStages: [RequestReceived], rules: [{level: Metadata}]}";
    let record = Record::new(omits);
    let mut trail = record.begin("DELETE", "/api/v1/namespaces/a/pods/p");
    record.audit.shutdown().unwrap();
    trail.commit();
    assert!(trail.kept().await.is_err());
}

/// The first event just fits, and the place of the last one does not.
#[tokio::test]
async fn what_is_begun_without_a_place_is_ended_all_the_same() {
    let omits = "{apiVersion: audit.k8s.io/v1, kind: Policy, omitStages: [ResponseComplete], rules: [{level: Metadata}]}";
    for on_failure in [OnFailure::Open, OnFailure::Refuse] {
        let folder = Folder::new();
        let mut config = Config::new(&folder.0, Policy::parse(omits).unwrap());
        (config.queue_size, config.on_failure) = (1 << 20, on_failure);
        let audit = Audit::start(config, &Registry::new()).unwrap();
        let record = Record { folder, audit };
        record.audit.flush().await.unwrap();
        let room = (1 << 20) - record.audit.journal.used() - 1200;
        assert!(record.audit.journal.hold(room));
        let (mut trail, begun) = record.try_begin("DELETE", "/api/v1/namespaces/a/pods/p");
        assert_eq!(begun.is_ok(), on_failure == OnFailure::Open);
        let _ = record.audit.journal.append(None, room);
        assert_eq!(trail.kept().await.is_ok(), on_failure == OnFailure::Open);
        drop(trail);
        let parts: Vec<_> = record.events().iter().map(|e| e["stage"].as_str().unwrap().to_owned()).collect();
        assert_eq!(parts, ["RequestReceived", "ResponseComplete"], "{on_failure:?}");
    }
}

#[test]
fn senseless_values_are_refused() {
    let folder = Folder::new();
    let mut config = Config::new(&folder.0, Policy::parse(METADATA).unwrap());
    assert!(config.faults().is_empty());
    config.max_size = 1;
    config.queue_size = 0;
    config.rotate_every = Some(Duration::ZERO);
    config.max_total_size = Some(0);
    let keys: Vec<_> = config.faults().iter().map(ToString::to_string).collect();
    assert_eq!(keys.len(), 6, "{keys:?}");
    assert!(Audit::start(config, &Registry::new()).is_err());
}

/// mode, method, whether it is refused => how often the disk was waited for
#[tokio::test]
async fn only_what_is_forwarded_costs_a_sync() {
    let omits = "{apiVersion: audit.k8s.io/v1, kind: Policy, omitStages: [RequestReceived], rules: [{level: Metadata}]}";
    let rows = [
        (METADATA, Mode::Strict, "DELETE", false, 1..=2),
        (METADATA, Mode::Strict, "DELETE", true, 0..=1),
        (METADATA, Mode::Blocking, "DELETE", false, 0..=1),
        (METADATA, Mode::Batch, "DELETE", false, 0..=1),
        (METADATA, Mode::Strict, "GET", false, 0..=1),
        (omits, Mode::Strict, "DELETE", false, 1..=2),
        (omits, Mode::Strict, "DELETE", true, 0..=1),
    ];
    for (policy, changes, method, refused, syncs) in rows {
        let record = Record::with(policy, |config| config.modes.changes = changes);
        // One that comes of itself within a second may be among them.
        let before = record.audit.metrics.sync_seconds.get_sample_count();
        let mut trail = record.begin(method, "/api/v1/namespaces/a/pods/p");
        if refused {
            trail.refused(&Status::unavailable("x", None));
        } else {
            trail.commit();
            trail.kept().await.unwrap();
            trail.started(200, &as_json());
        }
        let settled = trail.complete(End::default());
        settled.await;
        let made = record.audit.metrics.sync_seconds.get_sample_count() - before;
        assert!(syncs.contains(&made), "{changes:?} {method} {refused}: {made}");
        if changes != Mode::Batch {
            assert!(
                lines(&record.folder.0).iter().any(|e| e["stage"] == "ResponseComplete"),
                "it is written by then"
            );
        }
        let events = record.events();
        let stages: Vec<_> = events.iter().map(|e| e["stage"].as_str().unwrap()).collect();
        let journal_only = |e: &Value| e["annotations"]["gatelog.dev/journal-only"] == "true";
        if policy == omits && refused {
            assert_eq!(stages, ["ResponseComplete"], "nothing was forwarded");
        } else {
            assert_eq!(stages, ["RequestReceived", "ResponseComplete"]);
            assert_eq!(journal_only(&events[0]), policy == omits);
        }
    }
}

#[test]
fn a_first_event_that_only_the_journal_gets_has_its_place_from_the_beginning() {
    let omits = "{apiVersion: audit.k8s.io/v1, kind: Policy, omitStages: [RequestReceived], rules: [{level: Metadata}]}";
    let room = |method| {
        let record = Record::new(omits);
        let before = record.audit.journal.used();
        let trail = record.begin(method, "/api/v1/namespaces/a/pods/p");
        let held = record.audit.journal.used() - before;
        drop(trail);
        assert_eq!(record.events().len(), 1, "it was never forwarded");
        held
    };
    let (read, change) = (room("GET"), room("DELETE"));
    assert!(change > 2 * read - 100, "{read} {change}");
    let record = Record::new(omits);
    let before = record.audit.journal.used();
    let mut trail = record.begin("DELETE", "/api/v1/namespaces/a/pods/p");
    trail.commit();
    let held = record.audit.journal.used() - before;
    assert!(held <= change, "{held} of {change}");
    drop(trail.complete(End::default()));
    assert_eq!(record.events().len(), 2);
}

/// stages that are omitted, method, whether it was forwarded => what the next start says of it
#[tokio::test]
async fn what_a_crash_leaves_open_is_closed_once() {
    let pods = "/api/v1/namespaces/a/pods/p";
    let rows = [
        ("", "DELETE", true, true),
        ("", "GET", true, true),
        ("", "GET", false, true),
        ("RequestReceived", "DELETE", true, true),
        ("RequestReceived", "DELETE", false, false),
        ("RequestReceived", "GET", true, false),
        ("ResponseComplete", "DELETE", true, true),
        ("RequestReceived, ResponseComplete", "DELETE", true, true),
    ];
    for (omitted, method, forwarded, closed) in rows {
        for ended in [false, true] {
            let policy = format!(
                "{{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{{level: Metadata, omitStages: [{omitted}]}}]}}"
            );
            let record = Record::new(&policy);
            let mut trail = record.begin(method, pods);
            let id = trail.audit_id().to_str().unwrap().to_owned();
            if forwarded {
                trail.commit();
                trail.kept().await.unwrap();
            }
            if ended {
                trail.started(200, &as_json());
                drop(trail.complete(End::default()));
            }
            record.audit.shutdown().unwrap();
            // What comes now does not reach the file, as if the process had died.
            drop(trail);
            for start in 0..2 {
                let config = Config::new(&record.folder.0, Policy::parse(METADATA).unwrap());
                let audit = Audit::start(config, &Registry::new()).unwrap();
                audit.shutdown().unwrap();
                let unknown: Vec<_> = lines(&record.folder.0)
                    .into_iter()
                    .filter(|e| e["annotations"]["gatelog.dev/outcome"] == "unknown")
                    .collect();
                assert_eq!(
                    unknown.len(),
                    usize::from(closed && !ended),
                    "{omitted} {method} {ended} {start}"
                );
                for line in unknown {
                    assert_eq!(
                        (&line["auditID"], &line["verb"]),
                        (&json!(id), &json!(if method == "GET" { "get" } else { "delete" }))
                    );
                    assert_eq!(
                        (&line["stage"], &line["user"]["username"]),
                        (&json!("ResponseComplete"), &json!("alice"))
                    );
                    assert_eq!(line["objectRef"]["name"], "p");
                    assert_eq!(line["annotations"]["gatelog.dev/journal-only"], Value::Null);
                }
            }
        }
    }
}
