//! What keeping the record costs as a whole, on a real disk: events a second, bytes of them after sealing, what strict adds to a
//! change, and how fast a record is verified. Plain rows, since a run is one long sample and not many short ones.
//!
//! ```text
//! cargo bench --bench strict            all rows
//! cargo bench --bench strict -- strict  those with this word
//! ```
//!
//! `BENCH_DIR` is where the journals are made; it should be the disk that counts.

// A benchmark that cannot run must say so.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

use gatelog::{
    audit::{Audit, Config, End, folder, policy::Policy, tree::Hash},
    identity::User,
    request::Asked,
};
use http::{HeaderMap, HeaderValue, request::Parts};
use prometheus::Registry;
use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead as _, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

const TARGET: &str = "/api/v1/namespaces/default/configmaps/settings";
const REASON: &str =
    "RBAC: allowed by RoleBinding \"developers/default\" of ClusterRole \"edit\" to Group \"dev\"";
/// Requests of the long row, two events each.
const REQUESTS: u64 = 1_000_000;
/// Changes of each row of latencies, of all callers together.
const CHANGES: usize = 4_000;

fn main() {
    let wanted: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let rows: [(&str, fn()); 4] =
        [("throughput", throughput), ("bare-sync", bare_sync), ("strict", strict), ("verify", verify)];
    for (name, row) in rows {
        if wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str())) {
            row();
        }
    }
}

/// One thread makes Metadata events of GETs, waiting for nothing; all is journalled, hashed, in the tree, and signed each
/// second or 1,000 events. CPU time is that of the whole process: the thread itself, the writer, the tree.
fn throughput() {
    for (name, policy) in
        [("metadata, first and last", "metadata"), ("recommended, last only", "recommended")]
    {
        let record = Record::new("throughput", policy, |config| config.compress = false);
        let head = parts("GET", TARGET);
        let asked = Asked::parse(&head).expect("a request");
        let user = alice();
        let headers = json();
        let (begun, used) = (Instant::now(), cpu());
        for _ in 0..REQUESTS {
            let mut trail = record.audit.open(peer(), &head);
            while trail.begin_as(&user, "token-file", &asked).is_err() {
                // The queue is full: the disk is slower than the thread.
                std::thread::sleep(Duration::from_millis(1));
                trail = record.audit.open(peer(), &head);
            }
            trail.decided(true, REASON);
            trail.started(200, &headers);
            drop(trail.complete(End { bytes_to_caller: 4096, ..End::default() }));
        }
        record.audit.shutdown().expect("all written");
        let (wall, used) = (begun.elapsed().as_secs_f64(), (cpu() - used).as_secs_f64());
        let events = record.lines() as f64;
        println!(
            "throughput, {name}: {events} events, {:.0} a second, {:.0} a second of CPU, all threads together; {:.2} cores",
            events / wall,
            events / used,
            used / wall
        );
        let (plain, log) = (record.segments(), size(&record.dir.join(folder::LOG)));
        println!("  on disk: {:.1} bytes an event, {:.1} of them tree", (plain + log) / events, log / events);
        let packed = gzip(&record.dir);
        println!("  sealed:  {:.1} bytes an event", (packed + log) / events);
    }
}

/// What a disk takes to make 1 KB durable, once after the other.
fn bare_sync() {
    let times = bare();
    println!("bare-sync: write 1 KB, fdatasync: median {:?}, 99% {:?}", at(&times, 50), at(&times, 99));
}

/// From the moment at which a change is committed to the one at which it may be forwarded.
fn strict() {
    let bare = at(&bare(), 50);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    for callers in [1, 16, 256] {
        let registry = Registry::new();
        let record = Record::registered("strict", "metadata", &registry, |_| ());
        let head = parts("DELETE", TARGET);
        let asked = Asked::parse(&head).expect("a request");
        let user = alice();
        let headers = json();
        let each = CHANGES / callers.min(CHANGES / 8);
        let (begun, used) = (Instant::now(), cpu());
        let mut times = runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..callers {
                let (audit, head, asked, user, headers) =
                    (record.audit.clone(), head.clone(), asked.clone(), user.clone(), headers.clone());
                tasks.spawn(async move {
                    let mut times = Vec::with_capacity(each);
                    for _ in 0..each {
                        let mut trail = audit.open(peer(), &head);
                        trail.begin_as(&user, "token-file", &asked).expect("room");
                        trail.decided(true, REASON);
                        let begun = Instant::now();
                        trail.commit();
                        let _kept = trail.kept().await.expect("kept");
                        times.push(begun.elapsed());
                        trail.started(200, &headers);
                        trail.complete(End { bytes_to_caller: 40, ..End::default() }).await;
                    }
                    times
                });
            }
            tasks.join_all().await.concat()
        });
        let (wall, used) = (begun.elapsed().as_secs_f64(), (cpu() - used).as_secs_f64());
        times.sort_unstable();
        let changes = times.len() as f64;
        let syncs = metric(&registry, "sync");
        println!(
            "strict, {callers} at once: median {:?} ({:.2} bare syncs), 99% {:?}; {:.0} changes a second, {:.1} us of CPU each; {syncs}",
            at(&times, 50),
            at(&times, 50).as_secs_f64() / bare.as_secs_f64(),
            at(&times, 99),
            changes / wall,
            used / changes * 1e6,
        );
        record.audit.shutdown().expect("all written");
    }
}

/// A record of a gigabyte: what `gatelog audit verify` takes for it, and what hashing it would.
fn verify() {
    let record = Record::new("verify", "metadata", |config| {
        config.compress = false;
        config.max_total_size = None;
    });
    let head = parts("GET", TARGET);
    let asked = Asked::parse(&head).expect("a request");
    let user = alice();
    for _ in 0..600_000 {
        let mut trail = record.audit.open(peer(), &head);
        while trail.begin_as(&user, "token-file", &asked).is_err() {
            std::thread::sleep(Duration::from_millis(1));
            trail = record.audit.open(peer(), &head);
        }
        trail.decided(true, REASON);
        trail.started(200, &HeaderMap::new());
        drop(trail.complete(End::default()));
    }
    record.audit.shutdown().expect("all written");
    let bytes = record.segments();
    let run = |what: &str, plain: bool| {
        let begun = Instant::now();
        let children = children();
        let out = Command::new(env!("CARGO_BIN_EXE_gatelog"))
            .args(["audit", "verify"])
            .arg(&record.dir)
            .arg("--key")
            .arg(record.dir.join(folder::PUBLIC_KEY))
            .output()
            .expect("the program");
        let wall = begun.elapsed();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&[out.stdout, out.stderr].concat()));
        println!(
            "verify, {what}: {:.2} GB of lines in {wall:.2?}: {:.2} GB/s, {:.2} s of CPU",
            bytes / 1e9,
            bytes / 1e9 / wall.as_secs_f64(),
            (self::children() - children).as_secs_f64()
        );
        assert!(!plain || record.segments() > 0.0);
    };
    run("plain", true);
    run("plain, again", true);
    let begun = Instant::now();
    let mut hashed = 0;
    for segment in folder::segments(&record.dir).expect("segments") {
        let bytes = fs::read(&segment.path).expect("a segment");
        hashed += bytes.split(|b| *b == b'\n').filter(|line| Hash::of(line) != Hash::EMPTY).count();
    }
    println!(
        "  one thread that only reads and hashes {hashed} lines: {:.2} GB/s",
        bytes / 1e9 / begun.elapsed().as_secs_f64()
    );
    gzip(&record.dir);
    run("compressed", false);
}

// === what the rows share ===

/// A record in a folder that goes with it.
struct Record {
    audit: Arc<Audit>,
    dir: PathBuf,
}

impl Record {
    fn new(name: &str, policy: &str, tweak: impl FnOnce(&mut Config)) -> Self {
        Self::registered(name, policy, &Registry::new(), tweak)
    }

    fn registered(name: &str, policy: &str, registry: &Registry, tweak: impl FnOnce(&mut Config)) -> Self {
        let dir = base().join(format!("gatelog-bench-{}-{name}", std::process::id()));
        // Of an earlier row.
        let _ = fs::remove_dir_all(&dir);
        let mut config = Config::new(&dir, Policy::shipped(policy).expect("a policy"));
        config.signing.stdout = None;
        tweak(&mut config);
        let audit = Audit::start(config, registry).expect("a record");
        Self { audit, dir }
    }

    /// Bytes of its segments.
    fn segments(&self) -> f64 {
        let segments = folder::segments(&self.dir).expect("segments");
        segments.iter().map(|segment| fs::metadata(&segment.path).map_or(0, |m| m.len())).sum::<u64>() as f64
    }

    fn lines(&self) -> usize {
        let segments = folder::segments(&self.dir).expect("segments");
        segments.iter().map(|segment| segment.open().expect("a segment").split(b'\n').count()).sum()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // What stays is in a folder for such things.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn base() -> PathBuf {
    env::var_os("BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from)
}

fn parts(method: &str, target: &str) -> Parts {
    let agent = "kubectl/v1.33.1 (linux/amd64) kubernetes/8adc0f0";
    let request = http::Request::builder().method(method).uri(target).header("user-agent", agent);
    request.body(()).expect("a request").into_parts().0
}

fn alice() -> Arc<User> {
    let groups = ["dev", "system:authenticated"].map(String::from).to_vec();
    User::new("alice", "", groups, BTreeMap::new()).expect("a user")
}

fn peer() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 7], 40_000))
}

fn json() -> HeaderMap {
    HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

/// Bytes of all files below.
fn size(dir: &Path) -> f64 {
    let mut sum = 0.0;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let of = entry.metadata().expect("a file");
        sum += if of.is_dir() { size(&entry.path()) } else { of.len() as f64 };
    }
    sum
}

/// Packs every segment as the gate does once they are finished, and says how many bytes they have then.
fn gzip(dir: &Path) -> f64 {
    for segment in folder::segments(dir).expect("segments").into_iter().filter(|s| !s.compressed) {
        let to = fs::File::create(dir.join(format!("{}.jsonl.gz", segment.stem))).expect("a file");
        let mut gz = flate2::write::GzEncoder::new(to, flate2::Compression::fast());
        gz.write_all(&fs::read(&segment.path).expect("a segment")).expect("packed");
        gz.finish().expect("packed");
        fs::remove_file(segment.path).expect("removed");
    }
    let segments = folder::segments(dir).expect("segments");
    segments.iter().map(|segment| fs::metadata(&segment.path).map_or(0, |m| m.len())).sum::<u64>() as f64
}

/// Times of a write and fdatasync each, sorted.
fn bare() -> Vec<Duration> {
    let path = base().join(format!("gatelog-bench-{}-bare", std::process::id()));
    let mut file = fs::File::create(&path).expect("a file");
    let mut times = Vec::new();
    for _ in 0..500 {
        let begun = Instant::now();
        file.write_all(&[b'x'; 1024]).expect("written");
        file.sync_data().expect("synced");
        times.push(begun.elapsed());
    }
    fs::remove_file(path).expect("removed");
    times.sort_unstable();
    times
}

fn at(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

/// Histograms and counters with this word: name and count.
fn metric(registry: &Registry, word: &str) -> String {
    let families = registry.gather();
    let counts = families.iter().filter(|family| family.name().contains(word)).map(|family| {
        let count: f64 = family
            .get_metric()
            .iter()
            .map(|m| {
                m.get_histogram().get_sample_count() as f64
                    + m.get_counter().get_value()
                    + m.get_gauge().get_value()
            })
            .sum();
        format!("{} {count}", family.name())
    });
    counts.collect::<Vec<_>>().join(", ")
}

/// CPU time of this process.
fn cpu() -> Duration {
    ticks(11)
}

/// CPU time of children that have ended.
fn children() -> Duration {
    ticks(13)
}

/// Two fields of /proc/self/stat together, from this one on, counted behind the program's name; in hundredths of a second.
fn ticks(field: usize) -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("/proc");
    let (_, rest) = stat.rsplit_once(") ").expect("a name in brackets");
    let ticks: u64 = rest.split(' ').skip(field).take(2).map(|n| n.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}
