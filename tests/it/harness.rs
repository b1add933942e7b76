//! A gate in front of the demo's API server, with the demo's users, and real clients to drive it.

use bytes::Bytes;
use gatelog::{
    config,
    demo::{
        apiserver::{ApiServer, Gateway, Options},
        fault::Faults,
        oidc::Provider,
        site::{ADMIN, Setup, Site, User},
    },
    server,
};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    env, fs,
    io::{Read as _, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Nothing on a loopback takes longer, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Headers that an answer through the gate may have; anything else has leaked from somewhere.
const HEADERS: [&str; 24] = [
    "accept-patch",
    "allow",
    "audit-id",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "etag",
    "last-modified",
    "location",
    "retry-after",
    "sec-websocket-accept",
    "sec-websocket-protocol",
    "transfer-encoding",
    "upgrade",
    "vary",
    "warning",
    "www-authenticate",
    "x-content-type-options",
    "x-kubernetes-pf-flowschema-uid",
    "x-kubernetes-pf-prioritylevel-uid",
    "x-stream-protocol-version",
];

/// What differs from `gatelog demo`.
#[derive(Debug, Default)]
pub(crate) struct Tweaks {
    /// Further sections of `gatelog.yaml`.
    pub(crate) config: &'static str,
    /// Further keys of the section `authentication`, see [`Setup::authentication`].
    pub(crate) authentication: &'static str,
    /// The section `authorization`, see [`Setup::authorization`].
    pub(crate) authorization: &'static str,
    /// Further files beside the configuration, by name.
    pub(crate) files: &'static [(&'static str, &'static str)],
    /// The audit policy, as YAML; empty: the demo's.
    pub(crate) policy: &'static str,
    /// Whose tokens are believed, too.
    pub(crate) provider: Option<Provider>,
    /// Whether the cluster tells the gate whose a token is.
    pub(crate) reviews_tokens: bool,
    /// Whether the gate may read the cluster's rules.
    pub(crate) reads_rules: bool,
    /// What goes wrong from the start.
    pub(crate) faults: Faults,
    /// Whether the way to the cluster can be cut.
    pub(crate) relayed: bool,
    /// Whether the cluster speaks HTTP/1.1 only.
    pub(crate) http1: bool,
}

/// A gate, its upstream and their folder. Everything ends when it is dropped.
pub(crate) struct Gate {
    pub(crate) site: Site,
    pub(crate) cluster: ApiServer,
    pub(crate) provider: Option<Provider>,
    pub(crate) relay: Option<Relay>,
    gate: Option<server::Gate>,
    address: SocketAddr,
    folder: PathBuf,
}

impl Gate {
    /// Starts both on free ports.
    pub(crate) async fn start(tweaks: Tweaks) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("gatelog-it-{}-{n}", std::process::id()));
        let site = Site::claim(&folder.join("site")).unwrap();
        let mut tls = site.cluster_tls().unwrap();
        if tweaks.http1 {
            Arc::make_mut(&mut tls).alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        let mut options = Options::new(tls).unwrap();
        let (reviews_tokens, reads_rules) = (tweaks.reviews_tokens, tweaks.reads_rules);
        options.gateway = Gateway { reviews_tokens, reads_rules, ..Gateway::default() };
        options.faults = tweaks.faults;
        let cluster = ApiServer::start(options).await.unwrap();
        if !tweaks.policy.is_empty() {
            fs::write(site.dir().join("audit-policy.yaml"), tweaks.policy).unwrap();
        }
        for (name, text) in tweaks.files {
            fs::write(site.dir().join(name), text).unwrap();
        }
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let provider = tweaks.provider.as_ref();
        let Tweaks { authentication, authorization, config: more, .. } = tweaks;
        let relay = if tweaks.relayed { Some(Relay::start(cluster.addr()).await) } else { None };
        let upstream = relay.as_ref().map_or(cluster.addr(), |relay| relay.addr);
        let setup =
            Setup { listen: any, admin: any, upstream, provider, authentication, authorization, more };
        let file = site.write_gate(setup).unwrap();
        let config = config::load(&file).unwrap_or_else(|e| panic!("{e}"));
        let gate = server::start(config).await.unwrap_or_else(|e| panic!("{e}"));
        let address = gate.address();
        site.write_kubeconfigs(address, provider).unwrap();
        Self { site, cluster, provider: tweaks.provider, relay, gate: Some(gate), address, folder }
    }

    /// The gate's front door.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it serves metrics and health.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.gate.as_ref().and_then(server::Gate::admin).unwrap()
    }

    /// The gate itself.
    pub(crate) fn gate(&self) -> &server::Gate {
        self.gate.as_ref().unwrap()
    }

    /// Drains the gate, so that the record is complete, and reads it.
    pub(crate) async fn stop(&mut self) -> Record {
        if let Some(gate) = self.gate.take() {
            gate.drain().await;
        }
        let record = Record::read(&self.site.record());
        record.check();
        record
    }

    /// A TLS connection with nothing said on it yet. `alpn` empty offers none.
    pub(crate) async fn raw(&self, user: Option<User>, alpn: &str) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(self.site.gate_ca().der().to_vec())).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = if user == Some(ADMIN) {
            let pair = self.site.admin();
            let chain = pair.chain.iter().map(|d| CertificateDer::from(d.clone())).collect();
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        if !alpn.is_empty() {
            config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        }
        let tcp = TcpStream::connect(self.address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::from(self.address.ip());
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
    }

    /// Sends a request over HTTP/2 on a connection of its own; the answer's headers are checked.
    pub(crate) async fn send(&self, user: User, mut request: Request<Full<Bytes>>) -> Response<Incoming> {
        if let Some(token) = self.site.token(user) {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let uri = format!("https://{}{}", self.address, request.uri().path_and_query().unwrap());
        *request.uri_mut() = uri.parse().unwrap();
        let io = TokioIo::new(self.raw(Some(user), "h2").await);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let what = format!("{} {}", request.method(), request.uri());
        let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
        let response = answer
            .unwrap_or_else(|_| panic!("no answer: {what}"))
            .unwrap_or_else(|e| panic!("{what}: {e:?}"));
        checked(response.headers());
        response
    }

    /// A request without a body, and its whole answer.
    pub(crate) async fn ask(&self, user: User, method: &str, target: &str) -> (StatusCode, Bytes) {
        let request = Request::builder().method(method).uri(target).body(Full::default()).unwrap();
        let response = self.send(user, request).await;
        let status = response.status();
        (status, response.into_body().collect().await.unwrap().to_bytes())
    }

    /// Runs this kubectl as a user, with this on its stdin.
    pub(crate) fn run(&self, kubectl: &Path, user: User, args: &[&str], stdin: &[u8]) -> Ran {
        self.run_with(kubectl, user, args, stdin, &[])
    }

    /// The same with further environment variables.
    pub(crate) fn run_with(
        &self,
        kubectl: &Path,
        user: User,
        args: &[&str],
        stdin: &[u8],
        env: &[(&str, &str)],
    ) -> Ran {
        self.run_by(kubectl, user.name, args, stdin, env)
    }

    /// Runs kubectl by a kubeconfig of the site's folder, named without its ending.
    pub(crate) fn run_by(
        &self,
        kubectl: &Path,
        kubeconfig: &str,
        args: &[&str],
        stdin: &[u8],
        env: &[(&str, &str)],
    ) -> Ran {
        let mut child = self.command(kubectl, kubeconfig, args).envs(env.iter().copied()).spawn().unwrap();
        let mut to = child.stdin.take().unwrap();
        let stdin = stdin.to_vec();
        // A command that does not read is no error.
        let feeding = std::thread::spawn(move || drop(to.write_all(&stdin)));
        let output = finished(child, &format!("{} {args:?}", kubectl.display()));
        feeding.join().unwrap();
        Ran::from(output)
    }

    /// Starts this kubectl as a user; all three streams are pipes.
    pub(crate) fn spawn(&self, kubectl: &Path, user: User, args: &[&str]) -> Child {
        self.spawn_with(kubectl, user, args, &[])
    }

    /// The same with further environment variables.
    pub(crate) fn spawn_with(
        &self,
        kubectl: &Path,
        user: User,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Child {
        self.command(kubectl, user.name, args).envs(env.iter().copied()).spawn().unwrap()
    }

    fn command(&self, kubectl: &Path, kubeconfig: &str, args: &[&str]) -> Command {
        let home = self.folder.join(format!("home-{}", kubectl.file_name().unwrap().to_string_lossy()));
        fs::create_dir_all(&home).unwrap();
        let mut command = Command::new(kubectl);
        command
            .args(args)
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("HOME", &home)
            .env("KUBECONFIG", self.site.dir().join(format!("{kubeconfig}.kubeconfig")))
            .current_dir(&home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// The way to the cluster, in the hands of a test.
pub(crate) struct Relay {
    pub(crate) addr: SocketAddr,
    cuts: watch::Sender<u32>,
    silent: watch::Sender<bool>,
}

impl Relay {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (cuts, silent) = (watch::Sender::new(0), watch::Sender::new(false));
        let told = (cuts.clone(), silent.clone());
        tokio::spawn(async move {
            while let Ok((mut one, _)) = listener.accept().await {
                let (mut cut, mut silent) = (told.0.subscribe(), told.1.subscribe());
                tokio::spawn(async move {
                    let Ok(mut other) = TcpStream::connect(to).await else { return };
                    let _ = (one.set_nodelay(true), other.set_nodelay(true));
                    let passing = async {
                        tokio::select! {
                            biased;
                            () = async { drop(silent.wait_for(|silent| *silent).await) } => std::future::pending().await,
                            _ = tokio::io::copy_bidirectional(&mut one, &mut other) => {}
                        }
                    };
                    tokio::select! {
                        () = passing => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { addr, cuts, silent }
    }

    /// Ends every connection; new ones are let through.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|n| *n += 1);
    }

    /// From now on nothing comes through, and no connection ends: as if the other side had vanished. Until `false`, which leaves those
    /// connections as they are.
    pub(crate) fn silence(&self, silent: bool) {
        self.silent.send_replace(silent);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if env::var_os("GATELOG_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Waits for a process, not for ever.
fn finished(mut child: Child, what: &str) -> Output {
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let out = std::thread::spawn(move || {
        let mut text = Vec::new();
        stdout.read_to_end(&mut text).map(|_| text)
    });
    let err = std::thread::spawn(move || {
        let mut text = Vec::new();
        stderr.read_to_end(&mut text).map(|_| text)
    });
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            let status = child.wait().unwrap();
            let text = |t: std::thread::JoinHandle<std::io::Result<Vec<u8>>>| {
                String::from_utf8_lossy(&t.join().unwrap().unwrap()).into_owned()
            };
            panic!("{what} hangs ({status}): {} {}", text(out), text(err));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Output { status, stdout: out.join().unwrap().unwrap(), stderr: err.join().unwrap().unwrap() }
}

/// How a kubectl ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit code; -1 if a signal ended it.
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Its output, if it succeeded.
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "{self:?}");
        &self.out
    }

    /// Its complaint, if it failed.
    #[track_caller]
    pub(crate) fn failed(&self) -> &str {
        assert_ne!(self.code, 0, "{self:?}");
        &self.err
    }
}

/// Every kubectl here, oldest first: that of `PATH`, or `kubectl.1.27` and the like beside it. Without one the test says so and
/// passes, or fails where one is required.
pub(crate) fn kubectls() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|dir| dir.join("kubectl")).find(|file| file.is_file());
    let Some(found) = found.and_then(|file| fs::canonicalize(file).ok()) else {
        assert!(
            env::var_os("GATELOG_REQUIRE_KUBECTL").is_none(),
            "kubectl not found in PATH, and one is required"
        );
        println!("kubectl not found: the test is left out");
        return Vec::new();
    };
    let beside = fs::read_dir(found.parent().unwrap()).unwrap().filter_map(Result::ok);
    let mut versions: Vec<(u32, PathBuf)> = beside
        .filter_map(|e| Some((e.file_name().to_str()?.strip_prefix("kubectl.1.")?.parse().ok()?, e.path())))
        .collect();
    versions.sort();
    // One that stands alone is its own version; one among versions only chooses between them.
    if versions.is_empty() { vec![found] } else { versions.into_iter().map(|(_, file)| file).collect() }
}

/// Fails on a header that no answer of the gate should have.
pub(crate) fn checked(headers: &HeaderMap) {
    for name in headers.keys() {
        assert!(HEADERS.contains(&name.as_str()), "the answer has a header {name}");
    }
    assert!(headers.contains_key("audit-id"), "the answer has no Audit-Id");
}

/// What was recorded.
#[derive(Debug)]
pub(crate) struct Record(pub(crate) Vec<Value>);

impl Record {
    /// Every event of every segment, in order. A line that is not JSON fails.
    pub(crate) fn read(dir: &Path) -> Self {
        let mut segments: Vec<PathBuf> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
            .collect();
        segments.sort();
        let texts = segments.iter().map(|p| fs::read_to_string(p).unwrap());
        let events = texts
            .flat_map(|t| {
                t.lines()
                    .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}")))
                    .collect::<Vec<Value>>()
            })
            .collect();
        Self(events)
    }

    /// Every request has exactly one last event, and no stage twice.
    pub(crate) fn check(&self) {
        let mut requests: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for event in &self.0 {
            assert_eq!(
                (&event["kind"], &event["apiVersion"]),
                (&"Event".into(), &"audit.k8s.io/v1".into()),
                "{event}"
            );
            let id = event["auditID"].as_str().unwrap_or_else(|| panic!("no auditID: {event}"));
            requests.entry(id).or_default().push(event);
        }
        for (id, events) in requests {
            let stages: Vec<&str> = events.iter().map(|e| e["stage"].as_str().unwrap()).collect();
            let count = |stage: &str| stages.iter().filter(|s| **s == stage).count();
            let refused_early = || {
                let code = events[0]["responseStatus"]["code"].as_u64();
                stages == ["ResponseStarted"] && matches!(code, Some(400 | 401))
            };
            let last = count("ResponseComplete") + count("Panic");
            assert!(last == 1 || refused_early(), "{id}: {stages:?} {events:#?}");
            for stage in ["RequestReceived", "ResponseStarted"] {
                assert!(count(stage) <= 1, "{id}: {stages:?}");
            }
        }
    }

    /// The last events of requests to this resource, `pods` or `pods/exec`.
    pub(crate) fn of<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = &'a Value> {
        let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
        self.0.iter().filter(move |e| {
            let object = &e["objectRef"];
            e["stage"] == "ResponseComplete"
                && object["resource"] == resource
                && object["subresource"].as_str().unwrap_or_default() == sub
        })
    }
}
