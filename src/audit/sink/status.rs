//! How far behind a sink is, and since when; its metrics.

use super::{batch::Batch, cursor::Cursor, line, reader};
use crate::audit::{event::MicroTime, ledger::Position};
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

/// A lag that an operator is told of.
const LATE: Duration = Duration::from_secs(300);
/// How often the lag is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Bytes of an event, before one has been seen.
const TYPICAL: f64 = 1000.0;

/// The metrics of all sinks.
pub(super) struct Metrics {
    events: IntCounterVec,
    errors: IntCounterVec,
    gaps: IntCounterVec,
    durations: HistogramVec,
    lag_events: IntGaugeVec,
    lag_seconds: GaugeVec,
}

/// Those of one.
#[derive(Debug)]
pub(super) struct OfSink {
    events: IntCounter,
    pub(super) errors: IntCounter,
    pub(super) gaps: IntCounter,
    /// Of `apiserver_audit_error_total`.
    pub(super) left_out: IntCounter,
    pub(super) duration: Histogram,
    lag_events: IntGauge,
    lag_seconds: Gauge,
}

/// What is known of a sink by others than its runner.
#[derive(Debug)]
pub(super) struct Status {
    name: String,
    metrics: OfSink,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Default)]
struct State {
    /// Behind what is in memory; None before there is a segment.
    reached: Option<Cursor>,
    /// Events in memory, and when the first of them was made.
    pending: usize,
    oldest: Option<SystemTime>,
    /// Since when there are others that have not been read.
    behind_since: Option<SystemTime>,
    /// Bytes of an event, by the last batch.
    each: Option<f64>,
    failing: Option<String>,
    lag: Duration,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        const LABEL: &[&str] = &["sink"];
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounterVec> {
            let counter = IntCounterVec::new(Opts::new(name, help), LABEL)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let durations = HistogramVec::new(
            HistogramOpts::new(
                "gatelog_audit_sink_delivery_duration_seconds",
                "How long a sink's receiver took for a batch, whatever came of it.",
            )
            .buckets(vec![0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
            LABEL,
        )?;
        registry.register(Box::new(durations.clone()))?;
        let lag_events = IntGaugeVec::new(
            Opts::new(
                "gatelog_audit_sink_lag_events",
                "Audit events that a sink's receiver has not taken yet; an estimate by bytes for those not read yet.",
            ),
            LABEL,
        )?;
        registry.register(Box::new(lag_events.clone()))?;
        let lag_seconds = GaugeVec::new(
            Opts::new(
                "gatelog_audit_sink_lag_seconds",
                "Age of the oldest audit event that a sink's receiver has not taken yet.",
            ),
            LABEL,
        )?;
        registry.register(Box::new(lag_seconds.clone()))?;
        Ok(Self {
            events: counter(
                "gatelog_audit_sink_events_total",
                "Audit events that a sink's receiver has taken, repetitions included.",
            )?,
            errors: counter(
                "gatelog_audit_sink_errors_total",
                "Failures of a sink: of its receiver, its cursor or the journal's files.",
            )?,
            gaps: counter(
                "gatelog_audit_sink_gaps_total",
                "Notes to a sink's receiver of what it lacks, or is sent again.",
            )?,
            durations,
            lag_events,
            lag_seconds,
        })
    }

    pub(super) fn of(&self, sink: &str, left_out: IntCounter) -> OfSink {
        let label = &[sink];
        OfSink {
            events: self.events.with_label_values(label),
            errors: self.errors.with_label_values(label),
            gaps: self.gaps.with_label_values(label),
            left_out,
            duration: self.durations.with_label_values(label),
            lag_events: self.lag_events.with_label_values(label),
            lag_seconds: self.lag_seconds.with_label_values(label),
        }
    }
}

impl Status {
    pub(super) fn new(name: &str, metrics: OfSink) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), metrics, state: Mutex::default() })
    }

    pub(super) fn metrics(&self) -> &OfSink {
        &self.metrics
    }

    /// `batch` has been filled with what there is before `limit`, as far as it goes.
    pub(super) fn reading(&self, batch: &Batch, limit: Position) {
        let mut state = self.state();
        let lines = batch.lines(0..batch.len());
        if state.pending == 0 {
            state.oldest =
                lines.each().next().map(|first| line::time(first).map_or_else(SystemTime::now, time));
        }
        state.pending = batch.len();
        if !batch.is_empty() {
            state.each = Some(batch.bytes() as f64 / batch.len() as f64);
        }
        state.reached = batch.upto().cloned();
        let behind = state.reached.as_ref().is_none_or(|cursor| cursor.at < limit);
        state.behind_since =
            if behind { state.behind_since.or_else(|| Some(SystemTime::now())) } else { None };
    }

    /// So many of the batch's first events have been taken.
    pub(super) fn delivered(&self, events: usize) {
        self.metrics.events.inc_by(events as u64);
        let mut state = self.state();
        state.pending = state.pending.saturating_sub(events);
        if state.pending == 0 {
            state.oldest = None;
        }
    }

    /// What the receiver says.
    pub(super) fn failing(&self, why: Option<String>) {
        self.state().failing = why;
    }

    /// Whether what has not been taken is young.
    pub(super) fn healthy(&self) -> Result<(), String> {
        let state = self.state();
        if state.lag < LATE {
            return Ok(());
        }
        let why = state.failing.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        Err(format!("audit sink {} is {} s behind{why}", self.name, state.lag.as_secs()))
    }

    fn look(&self, behind: u64, now: SystemTime) {
        let mut state = self.state();
        let since = state.oldest.or(state.behind_since.filter(|_| behind > 0));
        state.lag = since.and_then(|since| now.duration_since(since).ok()).unwrap_or_default();
        self.metrics.lag_seconds.set(state.lag.as_secs_f64());
        let unread = (behind as f64 / state.each.unwrap_or(TYPICAL)).ceil() as i64;
        self.metrics.lag_events.set(unread.saturating_add(i64::try_from(state.pending).unwrap_or(i64::MAX)));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at the lag of all of them, again and again.
pub(super) async fn watch(all: Vec<Arc<Status>>, dir: PathBuf, progress: watch::Receiver<Position>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for status in &all {
            let (dir, limit) = (dir.clone(), *progress.borrow());
            let reached = status.state().reached.clone();
            let behind = match &reached {
                Some(cursor) if cursor.at.segment == limit.segment => {
                    limit.offset.saturating_sub(cursor.at.offset)
                }
                _ => spawn_blocking(move || reader::behind(&dir, reached.as_ref(), limit))
                    .await
                    .ok()
                    .and_then(Result::ok)
                    .unwrap_or(0),
            };
            status.look(behind, SystemTime::now());
        }
    }
}

fn time(at: MicroTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(at.0).unwrap_or(0))
}
