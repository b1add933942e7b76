//! Where the record goes besides the journal. Each sink has its own cursor into the journal's files, so that a slow one loses
//! nothing and delays nobody.

#[allow(dead_code, reason = "not wired yet")]
mod cursor;

use crate::endpoint;
use std::{path::PathBuf, time::Duration};

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
