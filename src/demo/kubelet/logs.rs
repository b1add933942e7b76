//! What a container has printed: made up, the same for the same pod, a line every tick.

use super::{Container, Options};
use crate::demo::answer::{Answer, Cause, DemoBody, Failure};
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use jiff::Timestamp;
use serde_json::Value;
use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::{mpsc, watch};

/// Older lines are forgotten, as a kubelet rotates its files.
const KEPT: usize = 2000;
/// What a container says as it starts.
const START: [&str; 3] = ["starting up", "configuration read from /etc/demo/config.yaml", "ready to serve"];

/// One line, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) time: Timestamp,
    pub(super) text: String,
}

/// A container's log. Lines appear as time goes by, when somebody looks.
#[derive(Debug)]
pub(super) struct Log {
    start: Timestamp,
    tick: Duration,
    /// Makes pods differ.
    seed: u64,
    lines: Mutex<Lines>,
    /// Something was said out of turn.
    spoken: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<Line>,
    /// Lines ever printed; the number of the next one.
    printed: u64,
    /// Ticks that have had their line.
    ticks: u64,
}

impl Log {
    pub(super) fn new(pod: &Value, container: &str, tick: Duration) -> Self {
        let started = pod["status"]["startTime"].as_str().or(pod["metadata"]["creationTimestamp"].as_str());
        let start = started.and_then(|t| t.parse().ok()).unwrap_or_else(Timestamp::now);
        let named = pod["metadata"]["name"].as_str().unwrap_or_default();
        let seed = named
            .bytes()
            .chain(container.bytes())
            .fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
        let log = Self { start, tick, seed, lines: Mutex::default(), spoken: watch::channel(()).0 };
        for text in START {
            log.push(&mut log.lines.lock().unwrap_or_else(PoisonError::into_inner), start, text.to_owned());
        }
        log
    }

    /// Adds a line that the container's process was given to say.
    pub(super) fn say(&self, text: &str) {
        let now = Timestamp::now();
        let mut lines = self.caught_up(now);
        self.push(&mut lines, now, text.to_owned());
        drop(lines);
        self.spoken.send_replace(());
    }

    /// Lines from number `from` on, and the number of the line after them.
    pub(super) fn since(&self, from: u64) -> (Vec<Line>, u64) {
        let lines = self.caught_up(Timestamp::now());
        let fresh = usize::try_from(lines.printed.saturating_sub(from)).unwrap_or(usize::MAX);
        let skipped = lines.kept.len().saturating_sub(fresh);
        (lines.kept.iter().skip(skipped).cloned().collect(), lines.printed)
    }

    /// Waits until line number `next` may be there.
    pub(super) async fn more(&self, next: u64) {
        let mut spoken = self.spoken.subscribe();
        let wait = {
            let now = Timestamp::now();
            let lines = self.caught_up(now);
            if lines.printed > next {
                return;
            }
            let due = self.due(lines.ticks + 1);
            Duration::try_from(due.duration_since(now)).unwrap_or_default()
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = spoken.changed() => {}
        }
    }

    fn due(&self, tick: u64) -> Timestamp {
        let after = self.tick.saturating_mul(u32::try_from(tick).unwrap_or(u32::MAX));
        self.start.checked_add(after).unwrap_or(Timestamp::MAX)
    }

    fn caught_up(&self, now: Timestamp) -> std::sync::MutexGuard<'_, Lines> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let age = Duration::try_from(now.duration_since(self.start)).unwrap_or_default();
        let ticks = u64::try_from(age.as_nanos() / self.tick.as_nanos().max(1)).unwrap_or(u64::MAX);
        // Lines that would be forgotten at once need not be made.
        let first = lines.ticks.max(ticks.saturating_sub(KEPT as u64));
        lines.printed += first - lines.ticks;
        for tick in first + 1..=ticks {
            let text = self.made_up(tick);
            self.push(&mut lines, self.due(tick), text);
        }
        lines.ticks = ticks.max(lines.ticks);
        lines
    }

    fn push(&self, lines: &mut Lines, time: Timestamp, text: String) {
        lines.printed += 1;
        lines.kept.push_back(Line { time, text });
        if lines.kept.len() > KEPT {
            lines.kept.pop_front();
        }
    }

    fn made_up(&self, tick: u64) -> String {
        const PATHS: [&str; 5] = ["/", "/healthz", "/cart", "/orders/42", "/static/app.js"];
        // A multiplicative hash is random enough to read well.
        let mixed = (self.seed ^ tick).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let path = PATHS.get(mixed as usize % PATHS.len()).copied().unwrap_or("/");
        let status = if mixed.is_multiple_of(17) { 404 } else { 200 };
        format!("request {tick}: GET {path} {status} {}ms", 1 + mixed % 40)
    }
}

/// `GET …/log`
pub(super) fn serve(options: &Options, pod: &Value, container: &Container) -> Result<Answer, Failure> {
    let asked = Asked::read(options, pod)?;
    if asked.previous {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        return Err(Failure::bad_request(format!(
            "previous terminated container {:?} in pod {name:?} not found",
            container.shell.name
        )));
    }
    let (to, from) = mpsc::channel(16);
    let (log, mut alive) = (container.log.clone(), container.alive.clone());
    tokio::spawn(async move {
        let (mut lines, mut next) = log.since(0);
        lines.retain(|l| asked.since.is_none_or(|since| l.time >= since));
        if let Some(tail) = asked.tail {
            lines.drain(..lines.len().saturating_sub(tail));
        }
        let mut left = asked.limit;
        loop {
            if !send(&to, &lines, asked.timestamps, &mut left).await || !asked.follow {
                return;
            }
            tokio::select! {
                () = log.more(next) => {}
                () = to.closed() => return,
                _ = alive.changed() => return,
            }
            (lines, next) = log.since(next);
        }
    });
    let mut answer = Response::new(DemoBody::new(
        Pieces(from).map_err(|never: Infallible| -> io::Error { match never {} }),
    ));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(answer)
}

/// False: the limit is reached or the caller has left.
async fn send(to: &mpsc::Sender<Bytes>, lines: &[Line], timestamps: bool, left: &mut Option<usize>) -> bool {
    let mut text = String::new();
    for line in lines {
        if timestamps {
            text.push_str(&format!("{:.9} ", line.time));
        }
        text.push_str(&line.text);
        text.push('\n');
    }
    let mut bytes = Bytes::from(text);
    if let Some(left) = left {
        bytes.truncate(*left);
        *left -= bytes.len();
    }
    (bytes.is_empty() || to.send(bytes).await.is_ok()) && *left != Some(0)
}

/// A `v1` PodLogOptions, as far as it matters here.
#[derive(Debug)]
struct Asked {
    follow: bool,
    previous: bool,
    timestamps: bool,
    since: Option<Timestamp>,
    tail: Option<usize>,
    limit: Option<usize>,
}

impl Asked {
    fn read(options: &Options, pod: &Value) -> Result<Self, Failure> {
        let mut causes = Vec::new();
        let mut number = |name: &str, least: i64, why: &str| -> Result<Option<i64>, Failure> {
            let Some(text) = options.text(name) else { return Ok(None) };
            let value: i64 = text.parse().map_err(|_| {
                Failure::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
            })?;
            if value < least {
                causes.push(Cause::invalid(name, &value.to_string(), why));
            }
            Ok(Some(value))
        };
        let tail = number("tailLines", 0, "must be greater than or equal to 0")?;
        let limit = number("limitBytes", 1, "must be greater than 0")?;
        let seconds = number("sinceSeconds", 1, "must be greater than 0")?;
        let time = match options.text("sinceTime") {
            None => None,
            Some(text) => Some(text.parse::<Timestamp>().map_err(|_| {
                Failure::bad_request(format!("parsing time {text:?}: cannot parse it as RFC 3339"))
            })?),
        };
        if seconds.is_some() && time.is_some() {
            let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
            causes.push(Cause {
                reason: "FieldValueForbidden",
                field: String::new(),
                message: format!("Forbidden: {why}"),
            });
        }
        if !causes.is_empty() {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            return Err(Failure::invalid("", "PodLogOptions", name, &causes));
        }
        let ago = |seconds: i64| {
            Timestamp::now().checked_sub(jiff::SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MIN)
        };
        let count = |n: i64| usize::try_from(n).unwrap_or(usize::MAX);
        Ok(Self {
            follow: options.flag("follow"),
            previous: options.flag("previous"),
            timestamps: options.flag("timestamps"),
            since: time.or(seconds.map(ago)),
            tail: tail.map(count),
            limit: limit.map(count),
        })
    }
}

/// A body of pieces as they are sent.
struct Pieces(mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}
