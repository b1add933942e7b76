//! The record beside the journal: receivers that fail in every way they can, and lose nothing by it.

use crate::{
    conformance::world::World,
    raw::{self, Tls, Wire},
    scene::{self, Folder, Options},
    upstream::{Act, Heard, Upstream},
};
use gatelog::{audit::folder, server::Gate};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::sleep;

const RIGHTS: &str = "
user alice dev
can alice get,list,create - pods
";

/// Changes wait for a first event that only the journal has.
const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
";

const PODS: &str = "/api/v1/namespaces/default/pods";
const LIST: &str = r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#;
const PATIENCE: Duration = Duration::from_secs(30);

/// A gate that is started again and again in one folder.
struct Site {
    world: World,
    upstream: Upstream,
    folder: Folder,
    options: String,
}

impl Site {
    /// `audit`: keys of that section, besides its policy and its folder.
    async fn new(audit: &str) -> Self {
        let world = World::new(&[RIGHTS]);
        let upstream = Upstream::start(&world.ca, |_| vec![Act::answer("200 OK", LIST)]).await;
        let folder = Folder::new("sinks");
        folder.put("policy.yaml", POLICY);
        folder.put("ca.crt", &world.ca.pem());
        Self { world, upstream, folder, options: format!("policyFile: policy.yaml, {audit}") }
    }

    fn options(&self) -> Options {
        Options { audit: self.options.clone(), ..Options::default() }
    }

    async fn gate(&self) -> Gate {
        scene::start(&self.folder, &self.world, self.upstream.addr, self.options()).await
    }

    /// Where a sink finds its receiver.
    fn kubeconfig(&self, name: &str, addr: SocketAddr, token: &str) {
        let text = format!(
            "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}],
              clusters: [{{name: c, cluster: {{server: 'https://{addr}/audit', certificate-authority: ca.crt}}}}],
              users: [{{name: u, user: {{token: {token}}}}}]}}"
        );
        // As a mounted Secret is swapped: at once.
        self.folder.put("kubeconfig.new", &text);
        fs::rename(self.folder.0.join("kubeconfig.new"), self.folder.0.join(name)).unwrap();
    }

    /// A receiver that was stopped, with another script.
    async fn again(&self, receiver: &Upstream, script: impl Fn(&Heard) -> Vec<Act> + Send + Sync + 'static) {
        while std::net::TcpStream::connect(receiver.addr).is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
        Upstream::at(receiver.addr, &self.world.ca, script).await.replaces(receiver);
    }

    /// So many requests, one after the other; every other one is a change.
    async fn load(&self, address: SocketAddr, requests: usize) {
        let mut wire = Wire::open(address, &Tls::new(&self.world.ca.pem(), None, "http/1.1")).await.unwrap();
        for i in 0..requests {
            let (method, body) = [("GET", ""), ("POST", r#"{"kind":"Pod","apiVersion":"v1"}"#)][i % 2];
            let request = format!(
                "{method} {PODS} HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer alice-token\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            wire.send(request).await.unwrap();
            assert_eq!(wire.reply(method).await.code, 200);
        }
    }

    /// What the sinks are to deliver, in order, and how many lines of the journal they are not.
    fn journal(&self) -> (Vec<String>, usize) {
        let (mut events, mut others) = (Vec::new(), 0);
        for segment in folder::segments(&self.folder.0.join("audit")).unwrap() {
            for line in segment.open().unwrap().lines() {
                let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
                match event["annotations"]["gatelog.dev/journal-only"].is_null() {
                    true => events.push(name(&event)),
                    false => others += 1,
                }
            }
        }
        (events, others)
    }

    /// Waits until `taken` holds every event of the journal, in its order, each once or more.
    async fn complete(&self, taken: &Taken) {
        let begun = Instant::now();
        loop {
            let (journal, _) = self.journal();
            let firsts = firsts(&taken.names());
            assert!(journal.starts_with(&firsts), "another order, or others: {firsts:#?}\n{journal:#?}");
            if firsts.len() == journal.len() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{} of {}", firsts.len(), journal.len());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// By what duplicates are known.
fn name(event: &Value) -> String {
    format!("{} {}", event["auditID"].as_str().unwrap(), event["stage"].as_str().unwrap())
}

/// Without repetitions.
fn firsts(names: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    names.iter().filter(|name| seen.insert((*name).clone())).cloned().collect()
}

/// What a receiver has taken, in its order; checkpoints aside.
#[derive(Clone, Default)]
struct Taken(Arc<Mutex<Vec<Value>>>, Arc<Mutex<Heard>>);

impl Taken {
    fn take(&self, heard: &Heard) {
        let list: Value = serde_json::from_slice(&heard.body).unwrap();
        assert_eq!((&list["kind"], &list["apiVersion"]), (&"EventList".into(), &"audit.k8s.io/v1".into()));
        *self.1.lock().unwrap() = heard.clone();
        self.0.lock().unwrap().extend(list["items"].as_array().unwrap().iter().cloned());
    }

    fn names(&self) -> Vec<String> {
        let events = self.0.lock().unwrap();
        events.iter().filter(|e| e["annotations"]["gatelog.dev/checkpoint"].is_null()).map(name).collect()
    }

    /// The signed heads among them.
    fn heads(&self) -> Vec<String> {
        let events = self.0.lock().unwrap();
        let note = |event: &Value| Some(event["annotations"]["gatelog.dev/checkpoint"].as_str()?.to_owned());
        events.iter().filter_map(note).collect()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Takes everything.
fn willing(taken: &Taken) -> impl Fn(&Heard) -> Vec<Act> + Send + Sync + 'static {
    let taken = taken.clone();
    move |heard| {
        taken.take(heard);
        vec![Act::answer("200 OK", "")]
    }
}

/// Does something else with each list.
fn moody(taken: &Taken) -> impl Fn(&Heard) -> Vec<Act> + Send + Sync + 'static {
    let (taken, calls) = (taken.clone(), AtomicUsize::new(0));
    move |heard| {
        let list: Value = serde_json::from_slice(&heard.body).unwrap();
        if list["items"].as_array().unwrap().len() > 6 {
            return vec![Act::answer("413 Payload Too Large", "")];
        }
        match calls.fetch_add(1, Ordering::Relaxed) % 10 {
            0 => vec![Act::answer("500 Internal Server Error", "")],
            1 => vec![Act::say(
                "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n",
            )],
            2 => vec![Act::say("HTTP/1.1 20"), Act::Close],
            3 => vec![Act::Close],
            4 => {
                taken.take(heard);
                // Taken, but nobody is told.
                vec![Act::Close]
            }
            5 => {
                taken.take(heard);
                vec![Act::say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), Act::Close]
            }
            6 => vec![Act::Listen],
            7 => vec![Act::answer("302 Found", "")],
            _ => {
                taken.take(heard);
                vec![Act::answer("201 Created", "{}")]
            }
        }
    }
}

const HOOK: &str = "sinks: [{name: hook, webhook: {kubeconfig: hook.kubeconfig, batchMaxSize: 20, batchMaxWait: 30ms, \
                    initialBackoff: 10ms, timeout: 200ms}}]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_fails_in_every_way_gets_everything_in_order() {
    let site = Site::new(HOOK).await;
    let taken = Taken::default();
    let receiver = Upstream::start(&site.world.ca, moody(&taken)).await;
    site.kubeconfig("hook.kubeconfig", receiver.addr, "hooks-own");
    let mut gate = site.gate().await;
    // Killed and started again, with the gate at work and also going away in between.
    for round in 0..6 {
        site.load(gate.address(), 16).await;
        receiver.stop();
        site.load(gate.address(), 8).await;
        if round % 3 == 1 {
            gate.drain().await;
            gate = site.gate().await;
        }
        site.again(&receiver, moody(&taken)).await;
    }
    site.complete(&taken).await;
    gate.drain().await;
    receiver.stop();
    site.again(&receiver, willing(&taken)).await;
    let gate = site.gate().await;
    site.complete(&taken).await;
    let (journal, others) = site.journal();
    assert!(journal.len() >= 144 && others >= 72, "{} {others}", journal.len());
    assert!(taken.names().len() > journal.len(), "nothing came twice");

    let last = taken.1.lock().unwrap().clone();
    assert_eq!(last.line(), "POST /audit?timeout=200ms HTTP/1.1");
    assert_eq!(last.values("authorization"), ["Bearer hooks-own"]);
    assert_eq!(last.values("content-type"), ["application/json"]);
    assert_eq!(last.values("accept"), ["application/json, */*"]);
    assert_eq!(last.values("content-length"), [last.body.len().to_string()]);
    for event in taken.0.lock().unwrap().iter() {
        assert!(event.get("kind").is_none() && event.get("apiVersion").is_none());
        let annotations = &event["annotations"];
        assert!(
            annotations["gatelog.dev/journal-only"].is_null()
                && annotations["gatelog.dev/sink-gap"].is_null()
        );
    }
    gate.drain().await;
    // The last head is the journal's own.
    let head = fs::read_to_string(site.folder.0.join("audit/log/checkpoint")).unwrap();
    assert_eq!(taken.heads().last(), Some(&head));
    assert!(taken.heads().len() >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_credential_is_taken_up_while_the_gate_runs() {
    let site = Site::new(HOOK).await;
    let taken = Taken::default();
    let willing = willing(&taken);
    let receiver = Upstream::start(&site.world.ca, move |heard| match heard.values("authorization")[..] {
        ["Bearer new"] => willing(heard),
        _ => vec![Act::answer("401 Unauthorized", "")],
    })
    .await;
    site.kubeconfig("hook.kubeconfig", receiver.addr, "old");
    let gate = site.gate().await;
    site.load(gate.address(), 4).await;
    receiver.until(|heard| heard.len() > 2).await;
    assert_eq!(taken.len(), 0);
    site.kubeconfig("hook.kubeconfig", receiver.addr, "new");
    site.complete(&taken).await;
    // One that cannot be used leaves the old in force.
    site.folder.put("hook.kubeconfig", "{");
    site.load(gate.address(), 4).await;
    site.complete(&taken).await;
    gate.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_that_are_finished_and_compressed_under_a_sink_are_delivered() {
    let site = Site::new(&format!("rotateEvery: 1s, maxBackups: 1, {HOOK}")).await;
    let taken = Taken::default();
    let receiver =
        Upstream::start(&site.world.ca, |_| vec![Act::answer("503 Service Unavailable", "")]).await;
    site.kubeconfig("hook.kubeconfig", receiver.addr, "t");
    let gate = site.gate().await;
    let audit = site.folder.0.join("audit");
    let begun = Instant::now();
    // More than the limits leave, since the sink has not taken them.
    let compressed = || folder::segments(&audit).unwrap().iter().filter(|segment| segment.compressed).count();
    while compressed() < 3 {
        assert!(begun.elapsed() < PATIENCE, "{:?}", folder::segments(&audit));
        site.load(gate.address(), 2).await;
        sleep(Duration::from_millis(100)).await;
    }
    let (all, _) = site.journal();
    receiver.stop();
    site.again(&receiver, willing(&taken)).await;
    while firsts(&taken.names()).len() < all.len() {
        assert!(begun.elapsed() < PATIENCE, "{} of {}", taken.len(), all.len());
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(firsts(&taken.names())[..all.len()], all);
    // Now that it has, they go, and nobody calls that a gap.
    while folder::segments(&audit).unwrap().len() > 3 {
        assert!(begun.elapsed() < PATIENCE, "{:?}", folder::segments(&audit));
        site.load(gate.address(), 2).await;
        sleep(Duration::from_millis(100)).await;
    }
    gate.drain().await;
    let gaps = |event: &Value| !event["annotations"]["gatelog.dev/sink-gap"].is_null();
    assert!(!taken.0.lock().unwrap().iter().any(gaps));
}

/// A metric's value.
async fn metric(gate: &Gate, name: &str) -> f64 {
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let text = raw::plain(gate.admin().unwrap(), request).await;
    let line =
        text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}: {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_sink_delays_neither_the_other_nor_the_callers() {
    let sink = |name: &str| {
        format!(
            "{{name: {name}, webhook: {{kubeconfig: {name}.kubeconfig, batchMaxWait: 30ms, initialBackoff: 10ms}}}}"
        )
    };
    let site = Site::new(&format!("sinks: [{}, {}]", sink("dead"), sink("live"))).await;
    let (taken, late) = (Taken::default(), Taken::default());
    // It accepts connections and never says a word.
    let dead = Upstream::start(&site.world.ca, |_| vec![Act::Listen]).await;
    let live = Upstream::start(&site.world.ca, willing(&taken)).await;
    site.kubeconfig("dead.kubeconfig", dead.addr, "t");
    site.kubeconfig("live.kubeconfig", live.addr, "t");
    let gate = site.gate().await;
    let begun = Instant::now();
    for _ in 0..5 {
        site.load(gate.address(), 20).await;
        site.complete(&taken).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let lag = |sink: &str, unit: &str| format!("gatelog_audit_sink_lag_{unit}{{sink=\"{sink}\"}}");
    while metric(&gate, &lag("dead", "events")).await < 50.0
        || metric(&gate, &lag("live", "events")).await > 0.0
    {
        assert!(begun.elapsed() < PATIENCE);
        sleep(Duration::from_millis(100)).await;
    }
    assert!(metric(&gate, &lag("dead", "seconds")).await > 0.5);
    assert!(metric(&gate, "gatelog_audit_sink_events_total{sink=\"live\"}").await >= 100.0);
    let health = raw::plain(
        gate.admin().unwrap(),
        b"GET /readyz?verbose HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    assert!(health.await.contains("[+]audit-sinks ok"));
    // A stop does not wait for it for long, and after that it lacks nothing.
    let stopping = Instant::now();
    gate.drain().await;
    assert!(stopping.elapsed() < Duration::from_secs(15), "{:?}", stopping.elapsed());
    dead.stop();
    site.again(&dead, willing(&late)).await;
    let gate = site.gate().await;
    site.complete(&late).await;
    gate.drain().await;
}

/// A gate in a process of its own, killed when dropped.
struct Process(Child);

impl Process {
    fn start(folder: &Path, stdout: File) -> (Self, SocketAddr) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gatelog"))
            .args(["serve", "--config", "gatelog.yaml", "--log-format", "json"])
            .current_dir(folder)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let address = log.by_ref().find_map(|line| {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            said.push(line.to_string());
            (line["message"] == "serving").then(|| line["address"].as_str().unwrap().parse().unwrap())
        });
        std::thread::spawn(move || log.for_each(drop));
        (Self(child), address.unwrap_or_else(|| panic!("{said:#?}")))
    }

    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already ended, in most cases.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads a pipe into a text that its readers, who come and go, have together; until it is so long.
fn reader(fifo: &Path, text: &Arc<Mutex<Vec<u8>>>, until: usize) -> std::thread::JoinHandle<()> {
    let (mut pipe, text) = (File::open(fifo).unwrap(), text.clone());
    std::thread::spawn(move || {
        let mut some = [0; 700];
        while text.lock().unwrap().len() < until {
            match pipe.read(&mut some) {
                Ok(0) | Err(_) => return,
                Ok(n) => text.lock().unwrap().extend_from_slice(&some[..n]),
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_output_survives_its_readers() {
    let site = Site::new("sinks: [{name: out, stdout: {}}]").await;
    let config = scene::write(&site.folder, &site.world, site.upstream.addr, &site.options());
    assert!(config.ends_with("gatelog.yaml"));
    let fifo = site.folder.0.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // With both ends open nobody waits for the other.
    let both = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let stdout = OpenOptions::new().write(true).open(&fifo).unwrap();
    let text = Arc::new(Mutex::new(Vec::new()));
    let (process, address) = Process::start(&site.folder.0, stdout);
    let mut reading = reader(&fifo, &text, 5000);
    drop(both);
    let kills = 4;
    for kill in 1..=kills {
        site.load(address, 30).await;
        let begun = Instant::now();
        while !reading.is_finished() {
            assert!(begun.elapsed() < PATIENCE);
            sleep(Duration::from_millis(10)).await;
        }
        // Nobody reads.
        site.load(address, 30).await;
        let so_far = text.lock().unwrap().len();
        reading = reader(&fifo, &text, if kill < kills { so_far + 9000 } else { usize::MAX });
    }
    let begun = Instant::now();
    let mut events: Vec<String>;
    loop {
        let read = String::from_utf8(text.lock().unwrap().clone()).unwrap();
        let whole: Vec<Value> = read.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        events =
            whole.iter().filter(|e| e["annotations"]["gatelog.dev/checkpoint"].is_null()).map(name).collect();
        let torn = read.lines().filter(|line| serde_json::from_str::<Value>(line).is_err()).count();
        assert!(torn <= 2 * kills + 1, "{torn} lines are torn");
        if firsts(&events).len() == site.journal().0.len() {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{} of {}", firsts(&events).len(), site.journal().0.len());
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(firsts(&events), site.journal().0);
    assert!(!String::from_utf8_lossy(&text.lock().unwrap()).contains("journal-only"));
    process.signal("TERM");
    drop(process);
}
