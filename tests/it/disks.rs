//! The real program on disks that fail: nothing is forwarded that is not kept, or the gap is told; and all is well again once the
//! disk is.
//!
//! Disks of their own have to be mounted, which takes root and more; where that cannot be had, those tests say so and pass. A limit
//! on the size of files (EFBIG) fails like a disk and takes neither.

use crate::{
    conformance::world::World,
    raw::{self, Reply},
    record::State,
    record_gate::{Dice, Load, RIGHTS, Running, Site, Upstream, object},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant, SystemTime},
};

/// A site's gate, and what is asked of it.
struct Disk {
    upstream: Upstream,
    site: Site,
}

impl Disk {
    async fn new(audit: &str) -> Self {
        let world = World::new(&[RIGHTS]);
        let upstream = Upstream::start(&world, 200).await;
        let site = Site::new(world, upstream.addr, audit);
        Self { upstream, site }
    }

    /// Starts the program so that a limit on file sizes is an error, not a signal.
    async fn start(&self) -> Running {
        let mut gate = self.site.spawn_by(&["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"], &[]);
        gate.serving().await;
        gate
    }

    async fn ask(&self, gate: &Running, method: &str, size: usize) -> Reply {
        self.ask_as("alice", gate, method, size).await
    }

    async fn ask_as(&self, user: &str, gate: &Running, method: &str, size: usize) -> Reply {
        let body = if method == "GET" { String::new() } else { object(1, size) };
        let length = body.len();
        let request = format!(
            "{method} /api/v1/namespaces/a/configmaps HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {user}-token\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        raw::ask(gate.address(), &self.site.tls("http/1.1"), method, request.as_bytes()).await.unwrap()
    }

    /// Changes until one is answered so; those before are all answered `other`.
    async fn until(&self, gate: &Running, code: u16, other: u16) {
        let begun = Instant::now();
        loop {
            let reply = self.ask(gate, "POST", 10).await;
            if reply.code == code {
                return;
            }
            assert_eq!(reply.code, other, "{}", reply.text());
            assert!(begun.elapsed() < Duration::from_secs(20), "still {other}:\n{}", gate.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Readiness, once it is so.
    async fn ready(&self, gate: &Running, ready: bool) -> String {
        let begun = Instant::now();
        loop {
            let (is, said) = gate.ready().await;
            if is == ready {
                return said;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "ready: {is}: {said}\n{}", gate.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// While the disk fails under `refuse`: nobody is let through, and everybody who asks is told.
    async fn refused(&self, gate: &Running) {
        self.until(gate, 503, 201).await;
        self.upstream.take();
        for method in ["POST", "DELETE", "GET"] {
            let reply = self.ask(gate, method, 10).await;
            assert_eq!(reply.code, 503, "{method}: {}", reply.text());
            let status = reply.json();
            assert_eq!(status["kind"], "Status", "{status}");
            let message = status["message"].as_str().unwrap();
            assert!(message.contains("audit"), "{message}");
        }
        assert!(self.upstream.take().is_empty(), "something was forwarded that is not kept");
        let said = self.ready(gate, false).await;
        assert!(said.contains("[-]audit"), "{said}");
        assert!(gate.metric("apiserver_audit_requests_rejected_total").await >= 3.0);
    }

    /// Once the disk is back: all is as before.
    async fn recovered(&self, gate: &Running) {
        self.until(gate, 201, 503).await;
        self.ready(gate, true).await;
        assert_eq!(self.ask(gate, "GET", 0).await.code, 200);
    }
}

/// Of any file's size from now on; only the soft limit, which anybody may raise again.
fn limit(gate: &Running, bytes: &str) {
    let pid = gate.pid().to_string();
    let done = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:")]).status();
    assert!(done.is_ok_and(|status| status.success()), "prlimit");
}

/// A folder with a disk of its own, until it is dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// None, and a word about it, where nothing can be mounted.
    fn mount(dir: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(dir).unwrap();
        let size = format!("size={size},mode=700");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir).output();
        if !done.is_ok_and(|done| done.status.success()) {
            println!("nothing can be mounted here: the test is left out");
            return None;
        }
        Some(Self(dir.to_owned()))
    }

    /// Takes all room that is left.
    fn fill(&self) {
        let mut size = 1 << 20;
        let mut ballast = fs::File::create(self.0.join("ballast")).unwrap();
        while size > 0 {
            if std::io::Write::write_all(&mut ballast, &vec![0; size]).is_err() {
                size /= 2;
            }
        }
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: who still runs there is killed later.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

const SYNCS: &str = "gatelog_audit_sync_duration_seconds_count";

/// As the kernel is asked: between the caller's request and what the upstream gets of it, the segment was synced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_synced_before_it_is_forwarded() {
    if !Command::new("strace").arg("true").output().is_ok_and(|done| done.status.success()) {
        println!("nothing can be traced here: the test is left out");
        return;
    }
    // Even where the policy omits the first event.
    let disk = Disk::new("  policy: recommended").await;
    let trace = disk.site.folder.0.join("trace");
    let words =
        ["strace", "-f", "-y", "-ttt", "-T", "-e", "trace=fdatasync,fsync", "-o", trace.to_str().unwrap()];
    let mut gate = disk.site.spawn_by(&words, &[]);
    gate.serving().await;
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let mut spans = Vec::new();
    for method in ["POST", "PUT", "DELETE", "PATCH"].repeat(5) {
        let begun = now();
        let code = disk.ask(&gate, method, 10).await.code;
        assert!(matches!(code, 200 | 201), "{method}: {code}");
        let heard = disk.upstream.take().pop().unwrap().at;
        spans.push((method, begun, heard.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()));
    }
    // The program, not strace.
    let pid = fs::read_to_string(&trace).unwrap().split(' ').next().unwrap().to_owned();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    gate.ended().await;
    let done: Vec<f64> = fs::read_to_string(&trace).unwrap().lines().filter_map(synced).collect();
    for (method, from, to) in &spans {
        assert!(
            done.iter().any(|at| from < at && at < to),
            "{method} was not synced from {from} to {to}: {done:?}"
        );
    }
}

/// When a sync of a segment was over, by a line of strace.
fn synced(line: &str) -> Option<f64> {
    let (_, rest) = line.trim_start().split_once(' ')?;
    let (at, call) = rest.trim_start().split_once(' ')?;
    let (_, took) = call.strip_suffix('>')?.rsplit_once("= 0 <")?;
    // Where threads are in each other's way, the end has a line of its own, which does not name the file.
    let resumed = call.starts_with("<... f");
    (resumed || call.contains(".jsonl")).then(|| {
        let took = if resumed { 0.0 } else { took.parse().unwrap() };
        at.parse::<f64>().unwrap() + took
    })
}

/// Those who wait at one time share a sync; who is refused, or only reads, costs none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn syncs_are_shared_and_only_for_changes() {
    let disk = Disk::new("  policy: everything").await;
    let gate = disk.start().await;
    let syncs = async || gate.metric(SYNCS).await;
    // The tree asks for some besides: one in a second.
    let (before, begun) = (syncs().await, Instant::now());
    for _ in 0..30 {
        assert_eq!(disk.ask(&gate, "GET", 0).await.code, 200);
        assert_eq!(disk.ask_as("mallory", &gate, "POST", 10).await.code, 403);
    }
    let more = syncs().await - before;
    assert!(more <= 3.0 + 2.0 * begun.elapsed().as_secs_f64(), "{more} syncs for what changes nothing");
    let before = syncs().await;
    for _ in 0..20 {
        assert_eq!(disk.ask(&gate, "POST", 10).await.code, 201);
    }
    let alone = syncs().await - before;
    assert!(alone >= 20.0, "{alone} syncs for 20 changes, one after the other");
    let before = syncs().await;
    let load = Load::start(gate.address(), &disk.site.tls("h2"), 32, 10, &mut Dice::new());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let told = load.stop().await;
    let changes = told.iter().filter(|one| !one.line.starts_with("GET") && one.code < 300).count();
    let shared = syncs().await - before;
    println!("{changes} changes by 32 callers: {shared} syncs");
    assert!(shared < changes as f64, "{shared} syncs for {changes} changes");
    gate.stop().await;
    disk.site.journal().check(State::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_disk_refuses_and_is_forgiven() {
    let disk = Disk::new("  policy: everything").await;
    let mut journal = disk.site.journal();
    let gate = disk.start().await;
    for round in 0..3 {
        assert_eq!(disk.ask(&gate, "POST", 1000).await.code, 201, "{round}");
        // Not at all; or, at some byte, a part of what is written.
        let bytes = if round == 0 { 0 } else { 1000 * round + newest_size(&disk.site.dir()) };
        limit(&gate, &bytes.to_string());
        disk.refused(&gate).await;
        limit(&gate, "unlimited");
        disk.recovered(&gate).await;
    }
    gate.stop().await;
    let found = journal.check(State::Stopped);
    assert_eq!((found.lost, found.torn), (0, 0));
    assert!(found.requests.values().all(|r| !r.unknown));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_disk_lets_through_what_is_counted() {
    let disk = Disk::new("  policy: everything\n  onFailure: open\n  queueSize: 1Mi\n  maxRequestObject: 128Ki\n  maxResponseObject: 128Ki").await;
    let mut journal = disk.site.journal();
    let gate = disk.start().await;
    assert_eq!(disk.ask(&gate, "POST", 10).await.code, 201);
    limit(&gate, "0");
    let load = Load::start(gate.address(), &disk.site.tls("h2"), 8, 10, &mut Dice::new());
    let lost = async || gate.metric("gatelog_audit_lost_events_total").await;
    let begun = Instant::now();
    while lost().await == 0.0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the queue holds more than it may");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let told = load.stop().await;
    assert!(told.iter().all(|one| one.code < 500), "{told:?}");
    assert!(disk.upstream.take().len() > 300);
    limit(&gate, "unlimited");
    disk.ready(&gate, true).await;
    assert_eq!(disk.ask(&gate, "POST", 10).await.code, 201);
    let lost = lost().await;
    gate.stop().await;
    let found = journal.check_with_gaps(State::Stopped);
    println!("{} requests, {lost} events lost, {} lines", told.len(), found.lines);
    assert_eq!(found.lost as f64, lost, "by the tree, and by the metric");
    assert_eq!(told_lost(&disk.site.dir()), found.lost, "by the record, and by the tree");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_is_forgiven() {
    let disk = Disk::new("  policy: everything\n  maxSize: 1Mi\n  maxTotalSize: 4Mi").await;
    let Some(tmpfs) = Tmpfs::mount(&disk.site.dir(), "8m") else { return };
    let mut journal = disk.site.journal();
    let gate = disk.start().await;
    for round in 0..3 {
        assert_eq!(disk.ask(&gate, "POST", 1000).await.code, 201, "{round}");
        tmpfs.fill();
        disk.refused(&gate).await;
        tmpfs.empty();
        disk.recovered(&gate).await;
    }
    // And by a process that is killed while it is full.
    tmpfs.fill();
    disk.refused(&gate).await;
    gate.kill();
    tmpfs.empty();
    let gate = disk.start().await;
    disk.recovered(&gate).await;
    gate.stop().await;
    let found = journal.check(State::Stopped);
    assert_eq!((found.lost, found.crashes), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_on_a_disk_that_is_full_or_read_only_says_so() {
    for read_only in [false, true] {
        let disk = Disk::new("  policy: everything").await;
        let Some(tmpfs) = Tmpfs::mount(&disk.site.dir(), "1m") else { return };
        if read_only {
            let done = Command::new("mount").args(["-o", "remount,ro"]).arg(&tmpfs.0).status();
            assert!(done.is_ok_and(|status| status.success()));
        } else {
            tmpfs.fill();
        }
        let mut gate = disk.site.spawn();
        let begun = Instant::now();
        // Either it does not start, or it starts and refuses.
        loop {
            let log = gate.log();
            if log.contains("\"serving\"") {
                gate.serving().await;
                disk.refused(&gate).await;
                break;
            }
            if log.contains("audit folder") || log.contains("audit journal") || log.contains("cannot start") {
                assert!(!gate.ended().await.success(), "read-only: {read_only}\n{log}");
                break;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "read-only: {read_only}: says nothing:\n{log}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_taken_away_is_missed() {
    let disk = Disk::new("  policy: everything").await;
    let mut journal = disk.site.journal();
    let gate = disk.start().await;
    assert_eq!(disk.ask(&gate, "POST", 10).await.code, 201);
    let (dir, away) = (disk.site.dir(), disk.site.folder.0.join("away"));
    fs::rename(&dir, &away).unwrap();
    disk.refused(&gate).await;
    fs::rename(&away, &dir).unwrap();
    disk.recovered(&gate).await;
    gate.stop().await;
    assert_eq!(journal.check(State::Stopped).lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_removed_is_missed() {
    let disk = Disk::new("  policy: everything").await;
    let gate = disk.start().await;
    assert_eq!(disk.ask(&gate, "POST", 10).await.code, 201);
    // It writes there meanwhile.
    while fs::remove_dir_all(disk.site.dir()).is_err() {}
    assert!(!disk.site.dir().exists());
    disk.refused(&gate).await;
}

/// Somebody removes the very segment that is written: what comes after is kept, and what is gone is known to be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_is_removed_is_missed() {
    let disk = Disk::new("  policy: everything").await;
    let gate = disk.start().await;
    assert_eq!(disk.ask(&gate, "POST", 10).await.code, 201);
    let newest = newest(&disk.site.dir());
    fs::remove_file(&newest).unwrap();
    let begun = Instant::now();
    while !segments(&disk.site.dir()).iter().any(|segment| *segment != newest) {
        assert!(begun.elapsed() < Duration::from_secs(20), "no other segment is begun:\n{}", gate.log());
        let _ = disk.ask(&gate, "POST", 10).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(gate.log().contains("removed"), "{}", gate.log());
    assert_eq!(disk.ask(&gate, "POST", 10).await.code, 201);
    gate.stop().await;
    let dir = disk.site.dir();
    let verify = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatelog"));
        let out = command
            .args(["audit", "verify"])
            .arg(&dir)
            .arg("--key")
            .arg(dir.join("audit.pub"))
            .args(more)
            .output();
        let out = out.unwrap();
        (out.status.code(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    };
    let (code, said) = verify(&[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("removed"), "{said}");
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    gatelog::audit::folder::segments(dir).unwrap().into_iter().map(|segment| segment.path).collect()
}

fn newest(dir: &Path) -> PathBuf {
    segments(dir).pop().expect("a segment")
}

fn newest_size(dir: &Path) -> u64 {
    fs::metadata(newest(dir)).unwrap().len()
}

/// The sum of what the record's own lines say.
fn told_lost(dir: &Path) -> u64 {
    let mut sum = 0;
    for segment in gatelog::audit::folder::segments(dir).unwrap() {
        for line in std::io::BufRead::lines(segment.open().unwrap()) {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            sum += event["annotations"]["gatelog.dev/lost"].as_str().map_or(0, |n| n.parse::<u64>().unwrap());
        }
    }
    sum
}
