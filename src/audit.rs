//! The record: `audit.k8s.io/v1` Events, one JSON object a line, of every request from first to last.
//!
//! A [`Trail`] accompanies a request. It is opened before anything is parsed; [`Trail::begin`] asks the policy how much is
//! recorded, writes the first event and holds the place of the last one; [`Trail::kept`] hands out [`Kept`], without which
//! nothing is forwarded; whatever happens then, refusal, disconnect, panic or a plain end, exactly one last event is written
//! when the Trail is completed or dropped. A request that was refused before anybody was authenticated (400, 401) is one
//! ResponseStarted event with `user` `{}`, within an allowance for each source.
//!
//! `sourceIPs` is the peer of the socket. Only when that peer is one of [`Config::trusted_proxies`] is what `X-Forwarded-For`
//! and `X-Real-Ip` claim put before it.
//!
//! What gatelog adds stands in `annotations`:
//!
//! | key | value |
//! |---|---|
//! | `gatelog.dev/effect` | `read`, `write` or `connect` |
//! | `gatelog.dev/authn-method` | which authenticator knew the caller |
//! | `gatelog.dev/authn-attempted` | which credentials a 401 was for, in kube-apiserver's words |
//! | `gatelog.dev/client-audit-id` | the `Audit-ID` that the caller sent (64 characters of it); the gate's own counts |
//! | `gatelog.dev/impersonation-refused`, `gatelog.dev/impersonation-reason` | which header's check failed, and why |
//! | `gatelog.dev/self-review` | what the gate did to the answer of a review of oneself |
//! | `gatelog.dev/validated` | `envelope`: an object was looked at, but not its fields |
//! | `gatelog.dev/observed`, `gatelog.dev/shadow` | the refusal not carried out; what shadow rules would have decided |
//! | `gatelog.dev/exec-command` | exec: what is to be run, a JSON array of strings (4 KiB of it) |
//! | `gatelog.dev/exec-container`, `gatelog.dev/exec-streams` | exec, attach: the container named; which of `stdin,stdout,stderr,tty` |
//! | `gatelog.dev/portforward-ports` | port-forward: the ports, where the URI names them |
//! | `gatelog.dev/watch-events` | with `watchEvents`: how many events of each type a watch has brought, `{"ADDED":2}`; `{"uncounted":…}` says why not |
//! | `gatelog.dev/bytes-in`, `gatelog.dev/bytes-out` | of a long-running request: from and to the caller |
//! | `gatelog.dev/end` | why it ended, when that was not the plain end of the answer |
//! | `gatelog.dev/outcome` | `unknown`: the process ended before the request did, and the next one wrote this last event |
//! | `gatelog.dev/journal-only` | `true`: the policy omits this stage; only the journal has it |
//! | `gatelog.dev/salt` | randomness, behind all others, so that nobody finds a line by guessing what its hash was made of |
//! | `gatelog.dev/redacted` | which rules of the redaction took something out, separated by commas |
//! | `gatelog.dev/body-name` | of a create: the name in the body, where the URL has another one |
//! | `gatelog.dev/lost`, `gatelog.dev/suppressed`, `gatelog.dev/torn` | on lines of their own: what the record lacks |
//! | `gatelog.dev/sink-gap` | on lines that only a sink's receiver gets: what it lacks, or is sent again |
//!
//! How long lines wait, and what happens when the disk fails: `journal`. What is recorded of bodies: `object`.
//!
//! What a caller wrote goes through [`redact`] before it is written, all of it: bodies, URI, user agent, messages, annotations.
//!
//! Divergences from kube-apiserver, on purpose: `docs/audit.md`.

mod capture;
mod cidr;
pub mod event;
pub mod folder;
mod id;
mod journal;
mod ledger;
mod metrics;
mod note;
mod object;
pub mod policy;
pub mod redact;
pub mod sink;
mod stdout;
mod strangers;
mod trail;
pub mod tree;

use arc_swap::ArcSwap;
use journal::{
    Journal,
    line::Line,
    open::Open,
    segment::{self, Segments},
};
use ledger::Ledger;
use metrics::Metrics;
use note::Note;
use policy::Policy;
use prometheus::{IntCounter, Registry};
use redact::Redactor;
use sink::Cursors;
use std::{
    fs::File,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use strangers::Strangers;
use tokio::sync::watch;
use tree::leaf::AuditId;

pub use cidr::{BadCidr, Cidr};
pub use journal::{Settled, segment::FolderError};
pub(crate) use object::aside;
pub use trail::{End, Trail};

/// How the record is kept.
#[derive(Debug, Clone)]
pub struct Config {
    /// What is recorded.
    pub policy: Policy,
    /// The folder of the journal; made if it is missing.
    pub dir: PathBuf,
    /// Bytes of a segment, at most.
    pub max_size: u64,
    /// Age at which a segment is finished and the next begins.
    pub rotate_every: Option<Duration>,
    /// Age at which a finished segment is removed.
    pub max_age: Option<Duration>,
    /// Finished segments that are not removed.
    pub max_backups: Option<usize>,
    /// Bytes of finished segments that are not removed.
    pub max_total_size: Option<u64>,
    /// Bytes that events may take in memory until they are written, the places held for last events included.
    pub queue_size: usize,
    /// Bytes of a `requestObject` that are recorded; a longer body is a digest.
    pub max_request_object: usize,
    /// The same for `responseObject`.
    pub max_response_object: usize,
    /// What becomes of a request whose events cannot be kept.
    pub on_failure: OnFailure,
    /// What is waited for.
    pub modes: Modes,
    /// Whether finished segments are compressed (gzip).
    pub compress: bool,
    /// Who signs the tree, and where its head goes.
    pub signing: Signing,
    /// Whether the events of watches are counted.
    pub watch_events: bool,
    /// What is taken out of everything that is recorded.
    pub redaction: Redaction,
    /// Where the record goes besides the journal.
    pub sinks: Vec<sink::Config>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Cidr>,
}

/// Who signs the tree, and where its head goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signing {
    /// A private key (PKCS#8, PEM) of `gatelog audit keygen`; None: one in the journal's folder, made with its first use.
    pub key_file: Option<PathBuf>,
    /// Which log it is, for as long as there is this journal; None: `gatelog/` and the name of the host that began it.
    pub origin: Option<String>,
    /// Public keys of the same origin, whose checkpoints the key goes on from.
    pub previous_keys: Vec<tree::note::VerifierKey>,
    /// How often a checkpoint is written to standard output, at most; None: never.
    pub stdout: Option<Duration>,
}

/// What is taken out of everything that is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redaction {
    /// Default rules that do not count.
    pub off: redact::Builtins,
    /// Rules besides.
    pub rules: Vec<redact::Rule>,
}

impl Default for Redaction {
    fn default() -> Self {
        Self { off: redact::Builtins::NONE, rules: Vec::new() }
    }
}

impl Redaction {
    /// Every rule that makes no sense.
    pub fn faults(&self) -> Vec<redact::RuleError> {
        // The key does not matter: nothing is marked.
        Redactor::new(redact::Key::new(&[]), self.off, self.rules.clone()).err().unwrap_or_default()
    }
}

/// What becomes of a request whose events cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// It is refused (503).
    #[default]
    Refuse,
    /// It is forwarded; what is lost is counted, and the count recorded once that is possible.
    Open,
}

/// What is waited for, by what a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// create, update, patch, delete; exec, attach, port-forward and `*/proxy`.
    pub changes: Mode,
    /// All else: get, list, watch and logs.
    pub reads: Mode,
}

/// What is waited for before a request is forwarded, and before its answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Its first event is on the disk before it is forwarded, whatever the policy omits; its last one is written before the
    /// caller has the end of the answer.
    Strict,
    /// Its first event, if the policy has one, is written to the file, not synced; its last one as well, before the
    /// caller has the end of the answer.
    Blocking,
    /// Its events are queued.
    Batch,
}

/// The record's writer: policy, journal, id source. One per process.
#[derive(Debug)]
pub struct Audit {
    policy: ArcSwap<Policy>,
    journal: Journal,
    // Goes after the journal, which tells it what is written.
    ledger: Ledger,
    /// The folder is ours until this goes, everywhere.
    lock: Mutex<Option<Arc<File>>>,
    strangers: Arc<Strangers>,
    metrics: Metrics,
    redactor: Redactor,
    modes: Modes,
    on_failure: OnFailure,
    max_size: u64,
    max_request_object: usize,
    max_response_object: usize,
    watch_events: bool,
    trusted_proxies: Vec<Cidr>,
    cursors: Arc<Cursors>,
}

/// Proof that the first event is kept; only this module makes one.
#[derive(Debug)]
pub struct Kept(());

/// The record cannot take the event: 503 unless the operator wrote `onFailure: open`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the audit record cannot be kept: {0}")]
pub struct Unkept(pub String);

/// The record cannot be started, or was not wholly written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key of the configuration, and what is wrong with it.
    #[error("audit.{0}: {1}")]
    Config(&'static str, String),
    /// A rule of the redaction.
    #[error("audit.{}: {}", .0.path(), .0.fault)]
    Redaction(redact::RuleError),
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The tree of hashes in the folder.
    #[error("audit folder {}: {}", .0.display(), .1)]
    Tree(PathBuf, String),
    /// The writer's thread.
    #[error("cannot start the audit journal's thread: {0}")]
    Thread(#[source] std::io::Error),
    /// Another thing of the same name is registered.
    #[error("cannot register the audit metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// At the end.
    #[error("{0} audit events could not be written")]
    Lost(u64),
}

// === impl Config ===

impl Config {
    /// The defaults: segments of 100 MiB or a day; removed after 366 days, or when all are over 10 GiB (as kube-apiserver's 100
    /// files of 100 MB are); 64 MiB of queue; 256 KiB of each body; refuse what cannot be kept; wait for changes.
    pub fn new(dir: impl Into<PathBuf>, policy: Policy) -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self {
            policy,
            dir: dir.into(),
            max_size: 100 << 20,
            rotate_every: Some(DAY),
            max_age: Some(DAY * 366),
            max_backups: None,
            max_total_size: Some(10 << 30),
            queue_size: 64 << 20,
            max_request_object: 256 << 10,
            max_response_object: 256 << 10,
            on_failure: OnFailure::default(),
            modes: Modes { changes: Mode::Strict, reads: Mode::Blocking },
            compress: true,
            signing: Signing::default(),
            watch_events: false,
            redaction: Redaction::default(),
            sinks: Vec::new(),
            trusted_proxies: Vec::new(),
        }
    }

    /// Every value that makes no sense, as key and reason.
    pub fn faults(&self) -> Vec<Error> {
        let rows = [
            ("maxSize", self.max_size < 1 << 20, "expected at least 1 MiB"),
            ("queueSize", self.queue_size < 1 << 20, "expected at least 1 MiB"),
            (
                "rotateEvery",
                self.rotate_every.is_some_and(|d| d < Duration::from_secs(1)),
                "expected at least a second",
            ),
            (
                "maxTotalSize",
                self.max_total_size.is_some_and(|total| total < self.max_size),
                "expected at least maxSize",
            ),
            (
                "maxRequestObject",
                self.max_request_object > self.queue_size / 4,
                "expected at most a quarter of queueSize",
            ),
            (
                "maxResponseObject",
                self.max_response_object > self.queue_size / 4,
                "expected at most a quarter of queueSize",
            ),
        ];
        rows.into_iter()
            .filter(|(_, bad, _)| *bad)
            .map(|(key, _, why)| Error::Config(key, why.to_owned()))
            .chain(self.signing.faults())
            .chain(self.redaction.faults().into_iter().map(Error::Redaction))
            .collect()
    }
}

// === impl Audit ===

impl Audit {
    /// Takes the folder and starts the writer.
    pub fn start(config: Config, registry: &Registry) -> Result<Arc<Self>, Error> {
        if let Some(fault) = config.faults().into_iter().next() {
            return Err(fault);
        }
        let metrics = Metrics::register(registry)?;
        let keep = segment::Keep { max_size: config.max_size, rotate_every: config.rotate_every };
        let (segments, torn) = Segments::open(&config.dir, keep)?;
        let key = redact::Key::new(&segment::key(&config.dir)?);
        let fault = |e| FolderError::Io(config.dir.clone(), "its segments cannot be read", e);
        let open = journal::recover::open(&config.dir).map_err(fault)?;
        let dir = config.dir.clone();
        let unended = open.list();
        let cursors = Cursors::open(&config.dir, &config.sinks);
        let ledger = Self::tree(&config, &cursors, registry)?;
        let audit = Self::with_segments(config, segments, open, key, metrics, ledger, cursors)?;
        audit.recover(&dir, torn, &unended);
        Ok(audit)
    }

    /// Goes on with the tree, first of all with what an earlier process left unsigned.
    fn tree(config: &Config, cursors: &Arc<Cursors>, registry: &Registry) -> Result<Ledger, Error> {
        let fault = |e| FolderError::Io(config.dir.clone(), "its segments cannot be read", e);
        let opened = ledger::open(config)?;
        let from = opened.position().unwrap_or_default();
        let mut steps = Vec::new();
        let end = journal::recover::steps(&config.dir, from, |step, _| steps.push(step)).map_err(fault)?;
        opened.begin(&mut steps, end, config, cursors.clone(), registry)
    }

    fn with_segments(
        config: Config,
        mut segments: Segments,
        open: Open,
        key: redact::Key,
        metrics: Metrics,
        ledger: Ledger,
        cursors: Arc<Cursors>,
    ) -> Result<Arc<Self>, Error> {
        let Redaction { off, rules } = config.redaction;
        let redactor = Redactor::new(key, off, rules)
            .map_err(|_| Error::Config("redaction", "expected rules that make sense".to_owned()))?;
        let strangers = Arc::new(Strangers::new(Instant::now()));
        let summaries = {
            let strangers = strangers.clone();
            Box::new(move |at_once, deliver: &mut dyn FnMut(&Line<'_>)| {
                strangers.tell(at_once, Instant::now(), deliver)
            })
        };
        let lock = Mutex::new(segments.take_lock().map(Arc::new));
        let journal = Journal::start(journal::Setup {
            segments,
            open,
            capacity: config.queue_size,
            on_failure: config.on_failure,
            hung: journal::HUNG,
            compress: config.compress,
            feed: ledger.feed().clone(),
            metrics: metrics.clone(),
            summaries,
        })
        .map_err(Error::Thread)?;
        Ok(Arc::new(Self {
            policy: ArcSwap::from_pointee(config.policy),
            journal,
            ledger,
            lock,
            strangers,
            metrics,
            redactor,
            modes: config.modes,
            on_failure: config.on_failure,
            max_size: config.max_size,
            max_request_object: config.max_request_object,
            max_response_object: config.max_response_object,
            watch_events: config.watch_events,
            trusted_proxies: config.trusted_proxies,
            cursors,
        }))
    }

    /// Says in the record what an earlier process left: torn lines, and requests without an end.
    fn recover(&self, dir: &Path, torn: Vec<segment::Torn>, unended: &[(AuditId, ledger::Position)]) {
        let now = SystemTime::now();
        for torn in torn {
            tracing::warn!(
                segment.name = torn.file,
                torn.bytes = torn.bytes,
                "the last audit line of an earlier run is torn"
            );
            Note::Torn(torn).write(now, now, |line| self.journal.append_early(line));
        }
        let deliver = |line: &Line<'_>| self.journal.append_early(line);
        match journal::recover::close(dir, unended, event::MicroTime::at(now), deliver) {
            Ok(0) => {}
            Ok(requests) => {
                tracing::warn!(
                    audit.requests = requests,
                    "requests of an earlier run have no end, their outcome is unknown"
                )
            }
            Err(e) => {
                tracing::error!(error = %e, "cannot end the requests of an earlier run, the next start tries again")
            }
        }
    }

    /// From now on; requests that began keep what the old policy said.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
    }

    /// Whoever has it keeps the folder from other processes, also when the record has been shut down.
    pub(crate) fn lock(&self) -> Option<Arc<File>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How far the sinks have come.
    pub(crate) fn cursors(&self) -> &Arc<Cursors> {
        &self.cursors
    }

    /// Blocks until all events so far are on the disk, but no longer than `limit`. Says whether they are.
    pub fn flush_within(&self, limit: Duration) -> bool {
        self.journal.flush_within(limit)
    }

    /// Events that a part of the record gave up.
    pub(crate) fn errors_of(&self, plugin: &str) -> IntCounter {
        self.metrics.plugins.with_label_values(&[plugin])
    }

    /// Waits until all events so far are in the file; an error when the disk fails.
    pub async fn flush(&self) -> Result<(), Unkept> {
        self.journal.flush().await
    }

    /// The last head of the tree that was signed, and each that follows.
    pub(crate) fn checkpoints(&self) -> watch::Receiver<ledger::Signed> {
        self.ledger.heads()
    }

    /// Up to where there are whole lines in the journal's files; who reads them is told by it when there are more.
    pub(crate) fn progress(&self) -> watch::Receiver<ledger::Position> {
        self.journal.position()
    }

    /// What is wrong with the disk, for readiness.
    pub fn healthy(&self) -> Result<(), String> {
        self.journal.healthy()?;
        self.ledger.healthy()
    }

    /// Writes out everything and ends the writer; blocks for some seconds if the disk fails. To be called when no request
    /// is open any more: what comes later is lost.
    pub fn shutdown(&self) -> Result<(), Error> {
        let lost = self.journal.close();
        self.ledger.stop(lost);
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        match lost {
            0 => Ok(()),
            lost => Err(Error::Lost(lost)),
        }
    }

    /// Whether what `peer` says of the hops before it is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|range| range.contains(peer))
    }
}

#[cfg(test)]
mod tests;
