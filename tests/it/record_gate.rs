//! The real program on a journal of its own: started, killed, starved of its disk, before an upstream that remembers what it was
//! sent, under callers who remember what they were told.

use crate::{
    conformance::world::World,
    plane::{self, until},
    raw::{self, Tls},
    record::Journal,
    scene::Folder,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, client::conn::http2, server::conn as server, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs::{self, File},
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::{net::TcpListener, task::JoinSet, time::timeout};

/// Random enough, and the same again for the same seed.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// `GATELOG_SEED`, or another each time; told, so that a failure can be had again.
    pub(crate) fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let seed = std::env::var("GATELOG_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or(now.as_nanos() as u64 | 1);
        println!("GATELOG_SEED={seed}");
        Self(seed)
    }

    /// Below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    /// Another one.
    pub(crate) fn split(&mut self) -> Self {
        Self((self.below(u64::MAX) | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
}

/// A request that reached the upstream.
#[derive(Debug, Clone)]
pub(crate) struct Forwarded {
    pub(crate) id: String,
    pub(crate) line: String,
    /// Whether it changes something.
    pub(crate) change: bool,
    /// When it came.
    pub(crate) at: SystemTime,
}

/// An HTTP/2 API server that takes everything.
pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    forwarded: Arc<Mutex<Vec<Forwarded>>>,
}

type Answer = BoxBody<Bytes, Infallible>;

impl Upstream {
    /// `answer_size`: bytes in what is read from it.
    pub(crate) async fn start(world: &World, answer_size: usize) -> Self {
        let tcp = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = tcp.local_addr().unwrap();
        let acceptor = plane::acceptor(world, &["h2"]);
        let forwarded: Arc<Mutex<Vec<Forwarded>>> = Arc::default();
        let heard = forwarded.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = tcp.accept().await {
                let (acceptor, heard) = (acceptor.clone(), heard.clone());
                tokio::spawn(async move {
                    tcp.set_nodelay(true).unwrap();
                    let Ok(io) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(move |request: Request<Incoming>| {
                        match request.headers().get("audit-id") {
                            Some(id) => heard.lock().unwrap().push(Forwarded {
                                id: id.to_str().unwrap().to_owned(),
                                line: format!("{} {}", request.method(), request.uri()),
                                change: !matches!(request.method().as_str(), "GET" | "HEAD"),
                                at: SystemTime::now(),
                            }),
                            // The gate's own.
                            None => assert!(
                                request.method() == "GET" || request.uri().path().contains("selfsubject")
                            ),
                        }
                        answer(request, answer_size)
                    });
                    let _ = server::http2::Builder::new(TokioExecutor::new())
                        .max_concurrent_streams(250)
                        .serve_connection(TokioIo::new(io), service)
                        .await;
                });
            }
        });
        Self { addr, forwarded }
    }

    /// What came since this was last asked.
    pub(crate) fn take(&self) -> Vec<Forwarded> {
        std::mem::take(&mut *self.forwarded.lock().unwrap())
    }
}

async fn answer(request: Request<Incoming>, size: usize) -> Result<Response<Answer>, Infallible> {
    let (head, body) = request.into_parts();
    let sent = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let query = head.uri.query().unwrap_or_default();
    let created = head.method == "POST";
    let text = match head.method.as_str() {
        "POST" | "PUT" | "PATCH" => sent,
        "DELETE" => r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success"}"#.into(),
        _ if query.contains("watch=1") => {
            let body = StreamBody::new(watch()).boxed();
            return Ok(json(200, body));
        }
        _ => {
            let (open, close) =
                (r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},"data":{"a":""#, r#""}}"#);
            format!("{open}{}{close}", "x".repeat(size)).into()
        }
    };
    Ok(json(if created { 201 } else { 200 }, Full::new(text).boxed()))
}

/// An event now and then, for ever.
fn watch() -> impl futures_core::Stream<Item = Result<Frame<Bytes>, Infallible>> {
    let event = r#"{"type":"ADDED","object":{"kind":"ConfigMap","metadata":{"name":"x"}}}"#;
    futures_util::stream::unfold((), move |()| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((Ok(Frame::data(Bytes::from(format!("{event}\n")))), ()))
    })
}

fn json(status: u16, body: Answer) -> Response<Answer> {
    Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
}

/// Everything that a gate needs, in a folder.
pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) folder: Folder,
    started: AtomicU32,
}

/// The program, running. It is killed when this is dropped.
pub(crate) struct Running {
    child: Option<Child>,
    log: PathBuf,
    address: Option<(SocketAddr, Option<SocketAddr>)>,
}

impl Site {
    /// `audit`: further keys of that section, and after a newline further sections.
    pub(crate) fn new(world: World, upstream: SocketAddr, audit: &str) -> Self {
        let folder = Folder::new("record");
        let server = world.server();
        folder.put("ca.crt", &world.ca.pem());
        folder.put("server.crt", &server.chain);
        folder.put("server.key", &server.key);
        folder.put("tokens.csv", &world.tokens());
        folder.put("gate.token", "gatelog-token");
        folder.put("rbac.yaml", &plane::manifest(&world));
        let site = Self { world, folder, started: AtomicU32::new(0) };
        site.configure(upstream, audit);
        site
    }

    /// Writes the configuration anew.
    pub(crate) fn configure(&self, upstream: SocketAddr, audit: &str) {
        let text = format!(
            "apiVersion: gatelog.dev/v1alpha1
kind: Gateway
listen: {{address: '127.0.0.1:0', tlsCertFile: server.crt, tlsPrivateKeyFile: server.key, shutdownGracePeriod: 1s}}
upstream: {{server: 'https://{upstream}', certificateAuthority: ca.crt, tokenFile: gate.token}}
authentication: {{tokenAuthFile: tokens.csv}}
authorization: {{rbac: {{files: [rbac.yaml]}}}}
admin: {{address: '127.0.0.1:0'}}
validation: {{mode: off}}
reload: {{interval: 1h}}
audit:
  dir: audit
  signing: {{stdout: none}}
{audit}
"
        );
        self.folder.put("gatelog.yaml", &text);
    }

    /// Of the journal.
    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.0.join("audit")
    }

    pub(crate) fn journal(&self) -> Journal {
        Journal::at(self.dir())
    }

    pub(crate) fn tls(&self, alpn: &'static str) -> Tls {
        Tls::new(&self.world.ca.pem(), None, alpn)
    }

    /// Starts it and waits for nothing.
    pub(crate) fn spawn(&self) -> Running {
        self.spawn_by(&[], &[])
    }

    /// The same by another program, which is to run it, and with further arguments.
    pub(crate) fn spawn_by(&self, by: &[&str], more: &[&str]) -> Running {
        let n = self.started.fetch_add(1, Ordering::Relaxed);
        let log = self.folder.0.join(format!("log-{n}"));
        let out = self.folder.0.join(format!("out-{n}"));
        let program =
            [env!("CARGO_BIN_EXE_gatelog"), "serve", "--config", "gatelog.yaml", "--log-format", "json"];
        let mut words = by.iter().chain(&program).chain(more);
        let child = Command::new(words.next().unwrap())
            .args(words)
            .current_dir(&self.folder.0)
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Running { child: Some(child), log, address: None }
    }

    /// Starts it and waits until it serves.
    pub(crate) async fn start(&self) -> Running {
        let mut running = self.spawn();
        running.serving().await;
        running
    }
}

impl Running {
    /// Waits until it serves.
    pub(crate) async fn serving(&mut self) {
        let begun = Instant::now();
        while self.address.is_none() {
            let log = self.log();
            let serving = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(line) = { serving }.find(|line| line["message"] == "serving") {
                let at = |key: &str| line[key].as_str().and_then(|at| at.parse().ok());
                self.address = Some((at("address").unwrap(), at("admin")));
                return;
            }
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "it ended before it served: {ended:?}\n{log}");
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not serve:\n{log}");
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address.unwrap().0
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.address.unwrap().1.unwrap()
    }

    /// All that it said so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// `kill -9`, and it is gone.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let status = child.wait().unwrap();
            if !std::thread::panicking() {
                let log = self.log();
                assert!(!log.contains("panicked"), "{log}");
                assert!(status.signal() == Some(9) || status.code().is_some(), "{status:?}\n{log}");
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let mut status = None;
        until(|| {
            status = child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
        status.unwrap()
    }

    /// SIGTERM, and all that is under way has its time.
    pub(crate) async fn stop(self) {
        self.signal("TERM");
        let (log, status) = (self.log.clone(), self.ended().await);
        assert!(status.success(), "{status:?}\n{}", fs::read_to_string(log).unwrap());
    }

    /// Whether it is ready, and all that it says of it.
    pub(crate) async fn ready(&self) -> (bool, String) {
        let said = plane::ask_admin(self.admin(), "/readyz?verbose").await;
        (said.starts_with("HTTP/1.1 200"), said)
    }

    /// A metric's value, all its series with this text together.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = plane::ask_admin(self.admin(), "/metrics").await;
        let lines = text.lines().filter(|l| l.starts_with(series) && !l.starts_with('#'));
        lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a caller was told.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) code: u16,
    /// Whether the answer came whole.
    pub(crate) whole: bool,
    pub(crate) line: String,
}

/// Callers at work, until they are told to stop or their connection ends.
pub(crate) struct Load {
    callers: JoinSet<()>,
    told: Arc<Mutex<Vec<Told>>>,
    enough: Arc<AtomicBool>,
}

impl Load {
    /// `callers` of them, each on a connection of its own; bodies have up to `size` bytes. They are `alice`, who may do everything, and
    /// now and then `mallory`, who may do nothing, or somebody unknown.
    pub(crate) fn start(address: SocketAddr, tls: &Tls, callers: usize, size: u64, dice: &mut Dice) -> Self {
        let told: Arc<Mutex<Vec<Told>>> = Arc::default();
        let enough = Arc::new(AtomicBool::new(false));
        let mut load = Self { callers: JoinSet::new(), told: told.clone(), enough: enough.clone() };
        for n in 0..callers {
            let (tls, dice, told, enough) = (tls.clone(), dice.split(), told.clone(), enough.clone());
            load.callers.spawn(async move {
                // Who was killed before may have left the port to somebody who says nothing.
                let connection = timeout(Duration::from_secs(5), raw::http2(address, &tls)).await;
                let Ok(Ok(connection)) = connection else { return };
                work(connection, address, n, size, dice, &told, &enough).await;
            });
        }
        load
    }

    /// Waits until they had so many answers.
    pub(crate) async fn answers(&self, enough: usize) {
        until(|| self.told.lock().unwrap().len() >= enough).await;
    }

    /// What they were told, after their connections ended by themselves.
    pub(crate) async fn cut(mut self) -> Vec<Told> {
        while let Some(done) = plane::soon(self.callers.join_next()).await {
            done.unwrap();
        }
        std::mem::take(&mut *self.told.lock().unwrap())
    }

    /// What they were told until they are told to stop.
    pub(crate) async fn stop(self) -> Vec<Told> {
        self.enough.store(true, Ordering::Relaxed);
        self.cut().await
    }
}

async fn work(
    mut connection: http2::SendRequest<Full<Bytes>>,
    address: SocketAddr,
    caller: usize,
    size: u64,
    mut dice: Dice,
    told: &Mutex<Vec<Told>>,
    enough: &AtomicBool,
) {
    let mut watches = JoinSet::new();
    for n in 0u64.. {
        if enough.load(Ordering::Relaxed) {
            break;
        }
        let one = format!("/api/v1/namespaces/team-{caller}/configmaps/x-{n}");
        let all = format!("/api/v1/namespaces/team-{caller}/configmaps");
        let (method, target, user) = match dice.below(40) {
            0..20 => ("POST", all, "alice"),
            20..26 => ("GET", one, "alice"),
            26..28 => ("GET", all, "alice"),
            28..32 => ("DELETE", one, "alice"),
            32..34 => ("PUT", one, "alice"),
            34..36 => ("PATCH", one, "alice"),
            36 => ("POST", all, "mallory"),
            37 => ("GET", one, "nobody"),
            _ if watches.len() < 4 => ("GET", format!("{all}?watch=1"), "alice"),
            _ => ("GET", one, "alice"),
        };
        let body = match method {
            "POST" | "PUT" | "PATCH" => object(n, dice.below(size.max(1)) as usize),
            _ => String::new(),
        };
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let line = format!("{method} {target} {user}");
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{address}{target}"))
            .header("authorization", format!("Bearer {user}-token"))
            .header("content-type", kind)
            .body(Full::from(body))
            .unwrap();
        let Ok(()) = connection.ready().await else { return };
        // It was cut, or takes nothing more.
        let Ok(response) = connection.send_request(request).await else { return };
        let (head, body) = response.into_parts();
        let id = head.headers["audit-id"].to_str().unwrap().to_owned();
        let mut one = Told { id, code: head.status.as_u16(), whole: false, line };
        if one.line.contains("watch=1") && one.code == 200 {
            told.lock().unwrap().push(one);
            watches.spawn(body.collect());
            continue;
        }
        one.whole = body.collect().await.is_ok();
        told.lock().unwrap().push(one);
    }
}

/// A ConfigMap with about so many bytes, some of which have to be escaped.
pub(crate) fn object(n: u64, size: usize) -> String {
    let text = "wörter \\\"und\\\" \\n Zeilen ".repeat(size / 25);
    format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"x-{n}"}},"data":{{"a":"{text}"}}}}"#
    )
}

/// Who the callers of a [`Load`] are.
pub(crate) const RIGHTS: &str = "can alice * * *\npaths alice * /*\nuser mallory";

/// How often each of these occurs, for a test's last line.
pub(crate) fn tally<'a>(words: impl IntoIterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut out = BTreeMap::new();
    words.into_iter().for_each(|word| *out.entry(word).or_default() += 1);
    out
}
