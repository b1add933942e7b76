//! Where the record goes besides the journal.
//!
//! Each sink has a task of its own that reads the journal's files behind a cursor of its own ([`reader`]), so that a slow one
//! loses nothing and delays nobody, and holds one batch in memory. What a receiver has taken is remembered in a file ([`cursor`]); what it had
//! taken when the process fell is sent again: at least once, in order. Duplicates have the same `auditID` and `stage`.
//!
//! What stays in the journal because the policy omits its stage does not get here. What a receiver does not get although it
//! should, it is told (`gatelog.dev/sink-gap`).

mod batch;
mod cursor;
mod heads;
mod line;
mod note;
mod reader;
mod runner;
mod status;
mod stdout;
mod webhook;

use super::{Audit, ledger::told};
use crate::endpoint;
use batch::{Batch, Lines, Room};
use heads::Heads;
use prometheus::Registry;
use reader::Reader;
use runner::Runner;
use status::Status;
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout_at},
};

pub(crate) use cursor::Cursors;

/// One sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How its cursor, its metrics and the log call it; no two have the same.
    pub name: String,
    /// What takes the events.
    pub receiver: Receiver,
}

/// What takes events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receiver {
    /// An HTTP server that gets EventLists, as from kube-apiserver.
    Webhook(Box<Webhook>),
    /// Standard output, one event a line.
    Stdout,
}

/// A webhook; kube-apiserver's flags `--audit-webhook-…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where it is, from a kubeconfig.
    pub endpoint: endpoint::Config,
    /// Events of one EventList, at most.
    pub batch_max_events: usize,
    /// Bytes of one EventList, nearly at most: a single event is never cut.
    pub batch_max_bytes: u64,
    /// How long a batch that is not full waits for more.
    pub batch_max_wait: Duration,
    /// The pause after the first failure; it grows with each further one.
    pub initial_backoff: Duration,
    /// For one attempt.
    pub timeout: Duration,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            endpoint: endpoint::Config::Kubeconfig { path: PathBuf::new(), context: None },
            batch_max_events: 400,
            batch_max_bytes: 10 << 20,
            batch_max_wait: Duration::from_secs(30),
            initial_backoff: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
        }
    }
}

/// Somebody who takes events: a webhook, a stream; a broker or an object store could be one.
pub(crate) trait Deliver: Send + 'static {
    /// How it wants them.
    fn manner(&self) -> Manner;

    /// Delivers lines, each an Event, in order, all or as good as none of them. What was delivered may come again; the next
    /// call is not made before this one has ended. May be given up in its middle.
    fn deliver(&mut self, lines: Lines<'_>) -> impl Future<Output = Outcome> + Send;
}

/// How somebody takes events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// What a batch holds.
    room: Room,
    /// How long one that is not full waits for more.
    wait: Duration,
    /// The first pause after a failure, and the longest.
    backoff: Duration,
    longest: Duration,
}

/// What came of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// They are safe there.
    Taken,
    /// Not this time; why, for the log, and what pause was asked for.
    TryAgain { why: String, after: Option<Duration> },
    /// Not these: it is about what was sent. Why, for the log.
    Never(String),
}

/// All sinks at work. They end when this is dropped.
#[derive(Debug, Default)]
pub struct Sinks {
    tasks: Vec<JoinHandle<()>>,
    watch: Option<JoinHandle<()>>,
    all: Vec<Arc<Status>>,
    stop: watch::Sender<bool>,
    /// No other process delivers from the folder before these have ended.
    lock: Option<Arc<File>>,
}

/// They cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another thing of the same name is registered.
    #[error("cannot register the metrics of audit sinks: {0}")]
    Metrics(#[from] prometheus::Error),
    /// For standard output.
    #[error("audit sink {0}: {1}")]
    Stdout(String, #[source] io::Error),
}

// === impl Sinks ===

impl Sinks {
    /// Starts them behind `audit`, which was started with the same configuration. To be called on a runtime.
    pub fn start(
        sinks: &[Config],
        dir: &Path,
        audit: &Audit,
        registry: &Registry,
    ) -> Result<Self, StartError> {
        let mut this = Self::default();
        if sinks.is_empty() {
            return Ok(this);
        }
        this.lock = audit.lock();
        let metrics = status::Metrics::register(registry)?;
        for sink in sinks {
            let (name, plugin) = (&sink.name, sink.receiver.kind());
            let status = Status::new(name, metrics.of(name, audit.errors_of(plugin)));
            this.all.push(status.clone());
            let task = match &sink.receiver {
                Receiver::Webhook(config) => {
                    let to = webhook::Webhook::new(Webhook::clone(config));
                    tokio::spawn(this.runner(name, dir, to, audit, status).run())
                }
                Receiver::Stdout => {
                    let to = stdout::Stdout::start().map_err(|e| StartError::Stdout(name.clone(), e))?;
                    tokio::spawn(this.runner(name, dir, to, audit, status).run())
                }
            };
            this.tasks.push(task);
        }
        let watching = status::watch(this.all.clone(), dir.to_owned(), audit.progress());
        this.watch = Some(tokio::spawn(watching));
        Ok(this)
    }

    fn runner<D: Deliver>(
        &self,
        name: &str,
        dir: &Path,
        to: D,
        audit: &Audit,
        status: Arc<Status>,
    ) -> Runner<D> {
        let cursors = audit.cursors().clone();
        let cursor = cursors.get(name);
        Runner {
            name: name.to_owned(),
            dir: dir.to_owned(),
            manner: to.manner(),
            to,
            taken: cursor.clone().ok().flatten(),
            reader: Some(Reader::new(name, dir, cursor, status.metrics().gaps.clone())),
            cursors,
            progress: audit.progress(),
            heads: Heads::new(Some(audit.checkpoints()), told::line),
            stop: self.stop.subscribe(),
            status,
            unstored: false,
            stored: Instant::now(),
            spare: Batch::default(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Whether what has not been taken is young.
    pub fn healthy(&self) -> impl Fn() -> Result<(), String> + Send + Sync + 'static {
        let all = self.all.clone();
        move || all.iter().try_for_each(|status| status.healthy())
    }

    /// Delivers what is in the journal by now, as far as that takes no more than some seconds. To be called when the journal
    /// has been shut down.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let until = Instant::now() + runner::GRACE + LAST_WORDS;
        for task in &mut self.tasks {
            let _ = timeout_at(until, task).await;
        }
    }
}

/// For a cursor to be stored.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Drop for Sinks {
    fn drop(&mut self) {
        self.tasks.iter().chain(&self.watch).for_each(JoinHandle::abort);
    }
}

// === impl Receiver ===

impl Receiver {
    /// As the configuration spells it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Stdout => "stdout",
        }
    }
}
