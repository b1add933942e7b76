//! A webhook that gets EventLists as from kube-apiserver (`--audit-webhook-config-file`, mode batch).
//!
//! POST to the URL of the kubeconfig with `?timeout=`; 200 to 206 is taken, whatever the body says; 400, 413 and 422 are
//! about what was sent; everything else is tried again. Divergences, on purpose: one batch at a time and for ever, where
//! kube-apiserver sends several at once, so that they arrive in any order, and drops a batch after five attempts.
//!
//! The kubeconfig and what it points to are read again now and then; what cannot be used leaves the old in force.

use super::{Deliver, Manner, Outcome, batch::Lines, batch::Room, line};
use crate::{
    client::Client,
    endpoint::{Endpoint, Source},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::spawn_blocking;

/// The sink.
pub(super) struct Webhook {
    config: super::Webhook,
    to: Option<To>,
    looked: Option<Instant>,
    /// What was wrong at the last look, so that it is said once.
    problem: Option<String>,
}

#[derive(Clone)]
struct To {
    source: Source,
    endpoint: Arc<Endpoint>,
    client: Arc<Client>,
}

/// How often files are read again, at most.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The longest pause between attempts.
const LONGEST: Duration = Duration::from_secs(120);

impl Webhook {
    pub(super) fn new(config: super::Webhook) -> Self {
        Self { config, to: None, looked: None, problem: None }
    }

    /// The receiver as its files describe it by now.
    async fn to(&mut self) -> Result<To, String> {
        if let (Some(to), true) = (&self.to, self.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY))
        {
            return Ok(to.clone());
        }
        let (config, before) = (self.config.endpoint.clone(), self.to.clone());
        let read = spawn_blocking(move || To::read(&config, before)).await;
        self.looked = Some(Instant::now());
        match read.map_err(|e| e.to_string()).flatten() {
            Ok(to) => {
                self.problem = None;
                self.to = Some(to);
            }
            Err(problem) => {
                if self.problem.as_ref() != Some(&problem) {
                    tracing::error!("audit sink: its kubeconfig cannot be used: {problem}");
                }
                self.problem = Some(problem);
            }
        }
        self.to.clone().ok_or_else(|| self.problem.clone().unwrap_or_default())
    }
}

impl To {
    fn read(config: &crate::endpoint::Config, before: Option<Self>) -> Result<Self, String> {
        let text = |errors: Vec<crate::endpoint::Error>| {
            errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        let source = config.read().map_err(text)?;
        if let Some(before) = before.filter(|before| before.source == source) {
            before.endpoint.refresh()?;
            return Ok(before);
        }
        let endpoint = Arc::new(Endpoint::webhook(&source).map_err(text)?);
        Ok(Self { source, client: Arc::new(Client::to(endpoint.clone())), endpoint })
    }
}

impl Deliver for Webhook {
    fn manner(&self) -> Manner {
        Manner {
            room: Room { events: self.config.batch_max_events, bytes: self.config.batch_max_bytes },
            wait: self.config.batch_max_wait,
            backoff: self.config.initial_backoff,
            longest: LONGEST,
        }
    }

    async fn deliver(&mut self, lines: Lines<'_>) -> Outcome {
        let to = match self.to().await {
            Ok(to) => to,
            Err(why) => return Outcome::TryAgain { why, after: None },
        };
        let timeout = self.config.timeout;
        let target = format!("{}?timeout={}", to.endpoint.path(), go(timeout));
        let outcome = match to.client.tell(&target, list(lines), timeout).await {
            Ok((status, headers)) => outcome(status, &headers),
            Err(error) => Outcome::TryAgain { why: error.to_string(), after: None },
        };
        if matches!(outcome, Outcome::TryAgain { .. }) {
            // A credential or a certificate may be the reason.
            self.looked = None;
        }
        outcome
    }
}

/// As kube-apiserver writes it: items without kind and apiVersion.
fn list(lines: Lines<'_>) -> Bytes {
    const BEGIN: &[u8] = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#;
    let mut body = Vec::with_capacity(BEGIN.len() + lines.text().len() + 2);
    body.extend_from_slice(BEGIN);
    let mut first = true;
    for line in lines.each() {
        if !mem::take(&mut first) {
            body.push(b',');
        }
        body.push(b'{');
        // Nothing gets here that does not begin like this.
        body.extend_from_slice(line.strip_prefix(line::HEAD).unwrap_or_default());
    }
    body.extend_from_slice(b"]}");
    body.into()
}

fn outcome(status: StatusCode, headers: &HeaderMap) -> Outcome {
    let why = format!("the receiver answered with {}", status.as_u16());
    match status.as_u16() {
        200..=206 => Outcome::Taken,
        400 | 413 | 422 => Outcome::Never(why),
        _ => {
            let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            Outcome::TryAgain { why, after: after.map(Duration::from_secs) }
        }
    }
}

/// A span of time in Go's manner.
fn go(span: Duration) -> String {
    match (span.as_secs(), span.subsec_millis()) {
        (seconds, 0) => format!("{seconds}s"),
        _ => format!("{}ms", span.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::sink::note;
    use serde_json::Value;

    #[test]
    fn a_list_holds_the_events_without_their_kind() {
        let text = [note::gap("a"), note::gap("b \" \n")].concat();
        let mut batch = super::super::batch::Batch::default();
        text.split_inclusive(|b| *b == b'\n').for_each(|line| batch.push_own(line));
        let list: Value = serde_json::from_slice(&list(batch.lines(0..2))).unwrap();
        assert_eq!((&list["kind"], &list["apiVersion"]), (&"EventList".into(), &"audit.k8s.io/v1".into()));
        assert_eq!(list["metadata"], serde_json::json!({}));
        let items = list["items"].as_array().unwrap();
        assert_eq!(items.len(), 2);
        for (item, what) in items.iter().zip(["a", "b \" \n"]) {
            assert_eq!(item["annotations"]["gatelog.dev/sink-gap"], what);
            assert_eq!(item["level"], "Metadata");
            assert!(item.get("kind").is_none() && item.get("apiVersion").is_none());
        }
    }

    #[test]
    fn answers_mean_what_they_mean_to_kube_apiserver() {
        let told = |status: u16, after: &str| {
            let mut headers = HeaderMap::new();
            if !after.is_empty() {
                headers.insert(RETRY_AFTER, after.parse().unwrap());
            }
            match outcome(StatusCode::from_u16(status).unwrap(), &headers) {
                Outcome::Taken => "taken".to_owned(),
                Outcome::Never(_) => "never".to_owned(),
                Outcome::TryAgain { after, .. } => format!("again {}", after.unwrap_or_default().as_secs()),
            }
        };
        for (status, after, want) in [
            (200, "", "taken"),
            (201, "7", "taken"),
            (206, "", "taken"),
            (207, "", "again 0"),
            (301, "", "again 0"),
            (400, "", "never"),
            (401, "", "again 0"),
            (403, "", "again 0"),
            (404, "", "again 0"),
            (413, "7", "never"),
            (422, "", "never"),
            (429, "7", "again 7"),
            (429, "x", "again 0"),
            (500, "", "again 0"),
            (503, " 9 ", "again 9"),
            (503, "-1", "again 0"),
        ] {
            assert_eq!(told(status, after), want, "{status} {after}");
        }
    }

    #[test]
    fn spans_are_spelled_as_in_go() {
        for (millis, want) in [(30_000, "30s"), (1500, "1500ms"), (90_000, "90s"), (5, "5ms")] {
            assert_eq!(go(Duration::from_millis(millis)), want);
        }
    }
}
