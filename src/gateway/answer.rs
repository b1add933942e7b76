//! The answer on its way to the caller: passed on piece by piece, counted, teed for the record, and ended where its
//! protocol allows when somebody ends the stream by name.
//!
//! Nobody has the whole of an answer before its last event is where its mode demands. The piece with which an answer ends
//! is kept back until then; where a piece does not tell that it is the last (chunks of HTTP/1.1, an empty END_STREAM
//! frame), a change's answer is one piece behind, and of all others the end alone is kept back. hyper sends a head without a
//! body at once, so what has no body waits before its head.

mod events;

use super::{Failure, Way};
use crate::{
    audit::Settled,
    authz::selfreview::Answer as Review,
    forward::{
        Place,
        upgrade::{Flow, Tunnel},
    },
    headers::AUDIT_ID,
    limits::Slot,
    status::Status,
    streams::{Lease, Reason},
    telemetry::metrics::Direction,
    validate::Finding,
};
use bytes::Bytes;
use events::Events;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, response::Parts};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    future::Future,
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep_until, timeout};

/// Where an answer's body comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// The upstream; `place` is the stream's place on its connection.
    Upstream { body: Incoming, _place: Option<Place> },
    /// The gate itself.
    Local(Bytes),
    /// Nowhere: the two connections are joined.
    Tunnel(Tunnel),
}

/// The body of an answer, as hyper sends it to the caller.
#[derive(Debug)]
pub struct Answer {
    source: Source,
    rest: Option<Box<Rest>>,
    held: Option<Box<Held>>,
}

/// How an answer ends, kept back until its last event is written.
#[derive(Debug)]
struct Held {
    settled: Settled,
    data: Option<Bytes>,
    error: Option<Cut>,
}

/// What is held until the answer has ended. Dropping it unfinished means that the caller left.
#[derive(Debug)]
struct Rest {
    way: Box<Way>,
    sent: u64,
    expected: Option<u64>,
    tee: bool,
    /// Whether a piece waits for the next one, since it may turn out to have been the last.
    looks_ahead: bool,
    ahead: Option<Bytes>,
    events: Events,
    ending: Option<Reason>,
    timer: Option<Pin<Box<Sleep>>>,
    lease: Option<Lease>,
    _slot: Option<Slot>,
}

/// Why an answer is cut off.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// The upstream broke off.
    #[error("the upstream broke off: {0}")]
    Upstream(#[from] hyper::Error),
    /// The request's time was up after the answer had begun.
    #[error("the request's time was up while it was answered")]
    Late,
}

/// After this answer the connection takes no further requests (kube-apiserver does so after a 401).
#[derive(Debug, Clone, Copy)]
pub struct CloseAfter;

/// What the gate answers to a review of oneself; `head` is the upstream's, where it was asked.
pub(super) fn review(head: Option<Parts>, answer: Review) -> Response<Source> {
    let mut response = Response::new(Source::Local(answer.body));
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    if let Some(head) = head {
        *headers = head.headers;
        for of_another_body in
            [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::ETAG, header::LAST_MODIFIED]
        {
            headers.remove(of_another_body);
        }
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    response
}

/// The answer of an upstream or of the gate itself, or the joining of both connections; and what its head has to wait for.
pub(super) fn open(
    head: Parts,
    source: Source,
    way: Box<Way>,
    slot: Slot,
    lease: Option<Lease>,
) -> (Response<Answer>, Settled) {
    let counted = head.status.as_u16() < 300 && way.trail.counts_events();
    let events = match (&source, &lease) {
        (Source::Tunnel(_), _) => Events::tunnelled(counted),
        (_, Some(_)) => Events::of(&head.headers, counted),
        (_, None) => Events::NONE,
    };
    let expected = head.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    let tee = way.trail.wants_response();
    let looks_ahead = way.change && expected.is_none();
    let head_only = way.method == Method::HEAD;
    let mut rest = Rest {
        way,
        sent: 0,
        expected,
        tee,
        looks_ahead,
        ahead: None,
        events,
        ending: None,
        timer: None,
        lease,
        _slot: Some(slot),
    };
    let mut settled = Settled::default();
    let answer = match source {
        Source::Tunnel(tunnel) => {
            tokio::spawn(rest.tunnel(tunnel));
            Answer { source: Source::Local(Bytes::new()), rest: None, held: None }
        }
        Source::Local(bytes) => {
            rest.sent = bytes.len() as u64;
            settled = rest.finish(None);
            Answer { source: Source::Local(bytes), rest: None, held: None }
        }
        source @ Source::Upstream { .. } => {
            let mut answer = Answer { source, rest: None, held: None };
            // hyper does not poll the body of a HEAD's answer, nor one that says it is over.
            if head_only || answer.is_end_stream() {
                settled = rest.finish(None);
            } else {
                answer.rest = Some(Box::new(rest));
            }
            answer
        }
    };
    (Response::from_parts(head, answer), settled)
}

/// A refusal, with its request's way at an end; and what it has to wait for.
pub(super) fn refused(status: &Status, failure: &Failure, way: Box<Way>) -> (Response<Answer>, Settled) {
    let mut response = local(status, way.trail.audit_id());
    warn(response.headers_mut(), failure.warning());
    warn(response.headers_mut(), way.observation().as_deref());
    let sent = response.body().size_hint().exact().unwrap_or_default();
    (response, way.end(sent, 0, None))
}

/// A warning of the gate's own, beside those of the upstream. Clients read its text as a quoted string; what none may hold, or not
/// all of them understand, becomes a question mark.
pub(super) fn warn(headers: &mut HeaderMap, text: Option<&str>) {
    headers.extend(text.and_then(warning).map(|value| (header::WARNING, value)));
}

/// Tells what validation found beside what the upstream itself warned of. An upstream that refuses says why.
pub(super) fn warn_of(head: &mut Parts, findings: &[Finding]) {
    if findings.is_empty() || !head.status.is_success() {
        return;
    }
    for value in findings.iter().filter_map(|finding| warning(&finding.text)) {
        if !head.headers.get_all(header::WARNING).iter().any(|told| *told == value) {
            head.headers.append(header::WARNING, value);
        }
    }
}

fn warning(text: &str) -> Option<HeaderValue> {
    let mut value = String::with_capacity(text.len() + 16);
    value.push_str("299 - \"");
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            value.push('\\');
        }
        value.push(if matches!(c, ' '..='~') { c } else { '?' });
    }
    value.push('"');
    HeaderValue::try_from(value).ok()
}

/// A Status of the gate's own.
pub(super) fn local(status: &Status, audit_id: &HeaderValue) -> Response<Answer> {
    let mut response = Response::new(Answer { source: Source::Local(status.json()), rest: None, held: None });
    *response.status_mut() = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(AUDIT_ID, audit_id.clone());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if status.nosniff {
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    if let Some(seconds) = status.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status.close {
        response.extensions_mut().insert(CloseAfter);
    }
    response
}

/// Leaves the gate's own body out of a HEAD's answer: over HTTP/1.1 hyper does so, over HTTP/2 it does not.
pub(super) fn head_only(mut response: Response<Answer>) -> Response<Answer> {
    if let Source::Local(bytes) = &mut response.body_mut().source {
        let length = HeaderValue::from(std::mem::take(bytes).len());
        response.headers_mut().insert(header::CONTENT_LENGTH, length);
    }
    response
}

impl Answer {
    /// The answer is over: with this piece, without one, or cut off.
    fn end(
        &mut self,
        why: Option<Reason>,
        data: Option<Bytes>,
        error: Option<Cut>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Some(mut rest) = self.rest.take() else { return Poll::Ready(None) };
        let data = data.or(rest.ahead.take());
        let settled = rest.finish(why);
        if matches!(settled, Settled::Ready) && error.is_none() {
            return Poll::Ready(data.map(|data| Ok(Frame::data(data))));
        }
        self.held = Some(Box::new(Held { settled, data, error }));
        self.poll_held(cx)
    }

    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Some(held) = &mut self.held else { return Poll::Ready(None) };
        ready!(Pin::new(&mut held.settled).poll(cx));
        held.settled = Settled::Ready;
        let next = held.data.take().map(|data| Ok(Frame::data(data)));
        let next = next.or_else(|| held.error.take().map(Err));
        if held.error.is_none() {
            self.held = None;
        }
        Poll::Ready(next)
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        if this.held.is_some() {
            return this.poll_held(cx);
        }
        let body = match &mut this.source {
            Source::Local(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Source::Local(bytes) => return Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Source::Tunnel(_) => return Poll::Ready(None),
            Source::Upstream { body, .. } => body,
        };
        let Some(rest) = &mut this.rest else { return Poll::Ready(None) };
        loop {
            if let Poll::Ready(reason) = rest.poll_ended(cx)
                && rest.events.between()
            {
                return this.end(Some(reason), None, None, cx);
            }
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending if rest.poll_late(cx) => {
                    return this.end(Some("deadline".into()), None, Some(Cut::Late), cx);
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return this.end(None, None, None, cx),
                Poll::Ready(Some(Err(error))) => {
                    let why = format!("the upstream broke off: {error}");
                    return this.end(Some(why.into()), None, Some(error.into()), cx);
                }
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    // With an empty piece HTTP/2 tells the end of what is held back: it is none to pass on in its place.
                    if data.is_empty() {
                        continue;
                    }
                    let data = rest.pass(data);
                    if rest.looks_ahead {
                        match rest.ahead.replace(data) {
                            Some(before) => return Poll::Ready(Some(Ok(Frame::data(before)))),
                            None => continue,
                        }
                    }
                    // hyper asks for no more than the length that was declared, and the upstream may tell its end later.
                    if body.is_end_stream() || rest.expected == Some(rest.sent) {
                        return this.end(None, Some(data), None, cx);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Upstream { body, .. } => {
                let ahead = self.rest.as_ref().is_some_and(|rest| rest.ahead.is_some());
                !ahead && self.held.is_none() && body.is_end_stream()
            }
            Source::Local(bytes) => bytes.is_empty(),
            Source::Tunnel(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            // A stream may be ended before the upstream ends it.
            Source::Upstream { .. } if self.rest.as_ref().is_some_and(|rest| rest.lease.is_some()) => {
                SizeHint::default()
            }
            Source::Upstream { body, .. } => body.size_hint(),
            Source::Local(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Tunnel(_) => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take() {
            let left = rest.way.client.left();
            // Nobody is left to wait.
            drop(rest.finish(Some(left)));
        }
    }
}

impl Rest {
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        if let Some(reason) = &self.ending {
            return Poll::Ready(reason.clone());
        }
        let Some(lease) = &self.lease else { return Poll::Pending };
        let ended = lease.poll_ended(cx);
        if let Poll::Ready(reason) = &ended {
            self.ending = Some(reason.clone());
        }
        ended
    }

    /// Only asked while the upstream has nothing, so that an answer that flows needs no timer.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.way.deadline else { return false };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        timer.as_mut().poll(cx).is_ready()
    }

    /// Counts and tees a piece; of a stream that is to end, only what belongs to its last whole event.
    fn pass(&mut self, mut data: Bytes) -> Bytes {
        let last = self.events.feed(&data);
        if self.ending.is_some()
            && let Some(last) = last
        {
            data.truncate(last);
            self.events.cut();
        }
        self.sent += data.len() as u64;
        if self.tee {
            self.way.trail.tee(&data);
        }
        data
    }

    fn finish(mut self, why: Option<Reason>) -> Settled {
        let received = self.way.received.as_ref().map_or(0, |passage| passage.bytes());
        self.tell_events();
        self.way.end(self.sent, received, why)
    }

    fn tell_events(&mut self) {
        if let Some(counts) = self.events.counts() {
            self.way.trail.annotate("gatelog.dev/watch-events", counts);
        }
    }

    async fn tunnel(mut self, tunnel: Tunnel) {
        let flow = Flow::default();
        let (why, caller) = match &self.lease {
            Some(lease) => tunnel.join(&flow, lease).await,
            None => return,
        };
        let (sent, received) = (flow.to_caller.load(Relaxed), flow.from_caller.load(Relaxed));
        self.way.metrics.stream_bytes(Direction::ToCaller, sent);
        self.way.metrics.stream_bytes(Direction::ToUpstream, received);
        self.tell_events();
        let settled = self.way.end(sent, received, why);
        // Nothing flows any more, so a disk that hangs without failing keeps nothing back but this.
        let _ = timeout(LONGEST_GOODBYE, settled).await;
        drop((self.lease, self._slot));
        if let Some(caller) = caller {
            caller.close().await;
        }
    }
}

/// How long the end of a tunnel waits for its last event.
const LONGEST_GOODBYE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_a_quoted_string_whatever_it_says() {
        let rows = [
            ("plain", r#"299 - "plain""#),
            (r#"pods "p" is forbidden"#, r#"299 - "pods \"p\" is forbidden""#),
            (r"a\b", r#"299 - "a\\b""#),
            ("a\r\nSet-Cookie: x\u{1b}[2J\0\u{7f}", r#"299 - "a??Set-Cookie: x?[2J??""#),
            ("caf\u{e9} \u{202e}", r#"299 - "caf? ?""#),
        ];
        for (text, value) in rows {
            let mut headers = HeaderMap::new();
            warn(&mut headers, Some(text));
            assert_eq!(headers[header::WARNING], value);
        }
        // Beside others, of the upstream's or the gate's own.
        let mut headers = HeaderMap::from_iter([(header::WARNING, HeaderValue::from_static("299 - \"x\""))]);
        warn(&mut headers, Some("y"));
        warn(&mut headers, None);
        assert_eq!(headers.get_all(header::WARNING).iter().count(), 2);
    }
}
