//! The process: everything checked and loaded, then the socket bound, then served until told to stop, then drained.
//!
//! Draining, in kube-apiserver's order: readiness off, the load balancer's delay, no new connections, GOAWAY or
//! `Connection: close` on the old ones, watches ended a few at a time at an event's boundary, tunnels last, the record
//! flushed.

mod account;
mod catalog;
mod listener;
mod rules;
mod socket;
pub mod tls;

use crate::{
    audit::{
        self, Audit,
        policy::Policy,
        sink::{self, Sinks},
    },
    authn,
    authz::Mode,
    cluster::{self, Needs},
    config,
    gateway::{Gateway, SHUTTING_DOWN},
    limits::Limits,
    reload::{self, Reloader},
    sockets,
    telemetry::{
        Health, Metrics, admin,
        health::{Scope, State},
    },
    validate::{self, Validate, catalog::Catalog},
};
use listener::{Listener, Phase};
use prometheus::Registry;
use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::{interval, sleep, timeout, timeout_at},
};

pub use listener::Config as ListenerConfig;

/// Where the gate listens and how it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The front door; port 0 takes a free one.
    pub address: SocketAddr,
    /// What bounds a connection.
    pub listener: ListenerConfig,
    /// `/metrics` and the health endpoints, over plain HTTP; None for none.
    pub admin: Option<SocketAddr>,
    /// Where the gate answers what its rules say (`gatelog explain --socket`), to its own user only; None for nowhere.
    pub socket: Option<PathBuf>,
    /// How long requests are still accepted after readiness is off (kube-apiserver's `--shutdown-delay-duration`).
    pub shutdown_delay: Duration,
    /// How long what is under way may go on after that.
    pub shutdown_grace: Duration,
}

/// A gate that serves. Dropping it without [`Gate::drain`] leaves at once what is under way.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    admin: Option<SocketAddr>,
    gateway: Arc<Gateway>,
    reloader: Arc<Reloader>,
    health: Arc<Health>,
    config: Config,
    serving: State,
    phase: watch::Sender<Phase>,
    places: Arc<Semaphore>,
    tasks: Vec<JoinHandle<()>>,
    sinks: Sinks,
    needs: Needs,
    /// Given up when all else has ended.
    _socket: Option<socket::Place>,
}

/// Why the gate cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Something the configuration points to cannot be used.
    #[error(transparent)]
    Config(#[from] config::Errors),
    /// The record cannot be opened.
    #[error("audit: {0}")]
    Audit(#[from] crate::audit::Error),
    /// The record cannot be sent on.
    #[error("audit.sinks: {0}")]
    Sinks(#[from] sink::StartError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// `admin.socket` cannot be listened on.
    #[error("admin.socket: {}: {problem}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// Two metrics of one name: a defect.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// The upstream is looked at this often while nobody asks for anything.
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// An operator is reminded this often that the gate only observes.
const REMIND_EVERY: Duration = Duration::from_secs(3600);

/// How often the sinks' lag is looked at.
const LAG_EVERY: Duration = Duration::from_secs(5);

/// Watches ended a second while draining, so that their holders do not all come back at once.
const WATCHES_A_SECOND: usize = 200;

/// Loads everything, binds, and serves in the background.
pub async fn start(config: config::Config) -> Result<Gate, StartError> {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry)?;
    let health = Health::new();
    let shared = authn::Shared::new(authn::Metrics::new(&registry)?, config.failed_authentications);
    let loaded = reload::load(&config, &shared)?;
    for line in config::Report::new(&config, &loaded).lines {
        metrics.enabled(line.part, line.on);
        // How the record is kept is said wherever somebody asks how the gate is.
        if !line.on || line.part.starts_with("audit") {
            health.note(line.to_string());
        }
        tracing::info!("{line}");
    }
    for warning in loaded.warnings() {
        tracing::warn!("{warning}");
    }
    let recording = audit::Config { policy: Policy::clone(loaded.policy()), ..config.audit.clone() };
    let audit = Audit::start(recording, &registry)?;
    let sinks = Sinks::start(&config.audit.sinks, &config.audit.dir, &audit, &registry)?;
    let limits = Limits::new(config.limits.clone());
    let catalog = Catalog::new(validate::catalog::Metrics::new(&registry)?);
    let validate =
        Validate::new(config.validate.clone(), catalog.clone(), validate::Metrics::new(&registry)?);
    let validate = Arc::new(validate);
    let gateway = Gateway::new(loaded.snapshot(), audit, limits, validate, metrics, config.gateway.clone());
    let cluster = config.authz.cluster.clone();
    let (server, mode) = (config.server.clone(), config.authz.mode);
    let validates = config.validate.mode != validate::Mode::Off;
    let tcp = listen(server.address).await?;
    let address = local(&tcp, server.address)?;
    let at = |path: &PathBuf| {
        socket::bind(path).map_err(|problem| StartError::Socket { path: path.clone(), problem })
    };
    let (desk, place) = server.socket.as_ref().map(at).transpose()?.unzip();
    let phase = watch::Sender::new(Phase::Serving);
    let places = Arc::new(Semaphore::new(server.listener.max_connections));
    let listener = Listener {
        tcp,
        gateway: gateway.clone(),
        config: Arc::new(server.listener.clone()),
        places: places.clone(),
    };
    let needs = account::needs(&config);
    let reloader = Arc::new(Reloader::new(config, shared, gateway.clone(), loaded));
    let mut tasks = vec![
        tokio::spawn(listener.run(phase.subscribe())),
        tokio::spawn(probe(gateway.clone(), health.state("upstream", Scope::Ready))),
        tokio::spawn(reloader.clone().run()),
    ];
    if let Some(desk) = desk {
        tasks.push(tokio::spawn(socket::serve(desk, gateway.clone())));
    }
    if let Some(cluster) = cluster {
        let state = health.state("rules", Scope::Ready);
        let metrics = cluster::rules::Metrics::new(&registry)?;
        tasks.push(tokio::spawn(rules::follow(cluster, gateway.clone(), reloader.clone(), state, metrics)));
    }
    if validates {
        let state = health.state("catalog", Scope::Partial);
        tasks.push(tokio::spawn(catalog::follow(catalog, gateway.clone(), state)));
    }
    if mode == Mode::Observe {
        tasks.push(tokio::spawn(remind(gateway.metrics().clone())));
    }
    if !sinks.is_empty() {
        tasks.push(tokio::spawn(lag(sinks.healthy(), health.state("audit-sinks", Scope::Partial))));
    }
    let mut admin = None;
    if let Some(asked) = server.admin {
        let tcp = listen(asked).await?;
        admin = Some(local(&tcp, asked)?);
        tasks.push(tokio::spawn(admin::serve(tcp, registry, health.clone(), std::future::pending())));
    }
    let recording = gateway.audit().clone();
    health.check("audit", Scope::Ready, move || recording.healthy());
    let issuers = gateway.clone();
    health.check("issuers", Scope::Partial, move || issuers.snapshot().authn.health());
    let certificates = reloader.clone();
    health.check("certs", Scope::Ready, move || match certificates.serving_expires() {
        Some(at) if at <= SystemTime::now() => Err("the serving certificate has expired".to_owned()),
        _ => Ok(()),
    });
    let serving = health.state("shutdown", Scope::Stopping);
    serving.ok();
    Ok(Gate {
        address,
        admin,
        gateway,
        reloader,
        health,
        config: server,
        serving,
        phase,
        places,
        tasks,
        sinks,
        needs,
        _socket: place,
    })
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let at = |error| StartError::Listen { address, error };
    let tcp = TcpListener::bind(address).await.map_err(at)?;
    sockets::keep_alive(&tcp).map_err(at)?;
    Ok(tcp)
}

fn local(tcp: &TcpListener, address: SocketAddr) -> Result<SocketAddr, StartError> {
    tcp.local_addr().map_err(|error| StartError::Listen { address, error })
}

/// Keeps a connection to the upstream and says in `/readyz` whether there is one.
async fn probe(gateway: Arc<Gateway>, state: State) {
    let mut ticks = interval(PROBE_EVERY);
    loop {
        ticks.tick().await;
        match gateway.snapshot().forward.probe().await {
            Ok(()) => state.ok(),
            Err(error) => {
                tracing::warn!(%error, "the upstream cannot be reached");
                state.failed(error.to_string());
            }
        }
    }
}

/// Says in `/readyz?verbose` whether the record's sinks keep up. Requests are served all the same: nothing is lost.
async fn lag(healthy: impl Fn() -> Result<(), String>, state: State) {
    let mut ticks = interval(LAG_EVERY);
    let mut late = false;
    loop {
        ticks.tick().await;
        match healthy() {
            Ok(()) => {
                state.ok();
                late = false;
            }
            Err(why) => {
                if !std::mem::replace(&mut late, true) {
                    tracing::warn!("{why}");
                }
                state.impaired(why);
            }
        }
    }
}

/// Says again and again that refusals are not carried out: a gate is not left like that by mistake.
async fn remind(metrics: Arc<Metrics>) {
    let mut ticks = interval(REMIND_EVERY);
    loop {
        ticks.tick().await;
        tracing::warn!(observed_refusals = metrics.observed_refusals.get(), "{}", config::OBSERVED);
    }
}

impl Gate {
    /// Where the front door is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where `/metrics` and the health endpoints are.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The gate itself.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// What notices that a file has changed.
    pub fn reloader(&self) -> &Arc<Reloader> {
        &self.reloader
    }

    /// The checks behind `/readyz`.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// In the background, asks the upstream what the gate's own account may do, and says what is too much or too little.
    pub fn check_account(&mut self) {
        let checking = account::check(self.gateway.clone(), self.needs, self.health.clone());
        self.tasks.push(tokio::spawn(checking));
    }

    /// Leaves in order: see the module's doc. Returns when everything has ended or the grace period is over.
    pub async fn drain(mut self) {
        self.serving.failed("shutting down");
        tracing::info!(delay = ?self.config.shutdown_delay, grace = ?self.config.shutdown_grace, "draining");
        sleep(self.config.shutdown_delay).await;
        self.phase.send_replace(Phase::Draining);
        let grace = tokio::time::Instant::now() + self.config.shutdown_grace;
        let all = u32::try_from(self.config.listener.max_connections).unwrap_or(u32::MAX);
        let gone = async {
            self.end_watches().await;
            // A place is given back when the connection and everything that came over it have ended.
            while timeout(STRAGGLERS, self.places.acquire_many(all)).await.is_err() {
                // Opened by requests that were on their way when the connection was told to end.
                self.gateway.streams().end_where(|held| !held.tunnel, &SHUTTING_DOWN.into());
            }
        };
        if timeout_at(grace, gone).await.is_err() {
            let cut = self.gateway.streams().end_where(|_| true, &SHUTTING_DOWN.into());
            tracing::warn!(streams = cut, "the grace period is over");
            if timeout(LAST_WORDS, self.places.acquire_many(all)).await.is_err() {
                self.phase.send_replace(Phase::Cut);
                let _ = timeout(LAST_WORDS, self.places.acquire_many(all)).await;
            }
        }
        self.tasks.iter().for_each(JoinHandle::abort);
        let audit = self.gateway.audit().clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || audit.shutdown()).await {
            tracing::error!(%error, "the record is not complete");
        }
        // Only now is everything there that they can send on.
        std::mem::take(&mut self.sinks).stop().await;
    }

    /// Over half of the grace period at most.
    async fn end_watches(&self) {
        let streams = self.gateway.streams();
        let watches: Vec<u64> =
            streams.list().into_iter().filter(|(_, held)| !held.tunnel).map(|(id, _)| id).collect();
        let begun = Instant::now();
        for slice in watches.chunks(WATCHES_A_SECOND / 20) {
            for id in slice {
                streams.end(*id, SHUTTING_DOWN.into());
            }
            if begun.elapsed() < self.config.shutdown_grace / 2 {
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Nothing goes on in the background of a gate that is gone.
impl Drop for Gate {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// How often streams that opened while the gate drains are looked for.
const STRAGGLERS: Duration = Duration::from_millis(100);

/// For what was ended at the end of the grace period to end in order, and again for what was cut to be recorded.
const LAST_WORDS: Duration = Duration::from_millis(500);
