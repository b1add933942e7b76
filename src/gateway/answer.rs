//! The answer on its way to the caller: passed on piece by piece, counted, teed for the record, and ended where its
//! protocol allows when somebody ends the stream by name.

use super::{Failure, Way};
use crate::{
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
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, response::Parts};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    future::Future,
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll},
};
use tokio::time::{Sleep, sleep_until};

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
}

/// What is held until the answer has ended. Dropping it unfinished means that the caller left.
#[derive(Debug)]
struct Rest {
    way: Box<Way>,
    sent: u64,
    expected: Option<u64>,
    tee: bool,
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

/// The answer of an upstream or of the gate itself, or the joining of both connections.
pub(super) fn open(
    head: Parts,
    source: Source,
    way: Box<Way>,
    slot: Slot,
    lease: Option<Lease>,
) -> Response<Answer> {
    let events = if lease.is_some() { Events::of(&head.headers) } else { Events::Anywhere };
    let tee = way.trail.wants_response();
    let expected = head.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    let rest =
        Rest { way, sent: 0, expected, tee, events, ending: None, timer: None, lease, _slot: Some(slot) };
    let answer = match source {
        Source::Tunnel(tunnel) => {
            tokio::spawn(rest.tunnel(tunnel));
            Answer { source: Source::Local(Bytes::new()), rest: None }
        }
        source => Answer { source, rest: Some(Box::new(rest)) },
    };
    Response::from_parts(head, answer.settled())
}

/// A refusal, with its request's way at an end.
pub(super) fn refused(status: &Status, failure: &Failure, way: Box<Way>) -> Response<Answer> {
    let mut response = local(status, way.trail.audit_id());
    warn(response.headers_mut(), failure.warning());
    warn(response.headers_mut(), way.observation().as_deref());
    let sent = response.body().size_hint().exact().unwrap_or_default();
    way.end(sent, 0, None);
    response
}

/// A warning of the gate's own, beside those of the upstream. Clients read its text as a quoted string; what none may hold, or not
/// all of them understand, becomes a question mark.
pub(super) fn warn(headers: &mut HeaderMap, text: Option<&str>) {
    let Some(text) = text else { return };
    let mut value = String::with_capacity(text.len() + 16);
    value.push_str("299 - \"");
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            value.push('\\');
        }
        value.push(if matches!(c, ' '..='~') { c } else { '?' });
    }
    value.push('"');
    headers.extend(HeaderValue::try_from(value).map(|value| (header::WARNING, value)));
}

/// A Status of the gate's own.
pub(super) fn local(status: &Status, audit_id: &HeaderValue) -> Response<Answer> {
    let mut response = Response::new(Answer { source: Source::Local(status.json()), rest: None });
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
    /// hyper does not poll a body that says it is over, so the end is noted here.
    fn settled(mut self) -> Self {
        if self.is_end_stream() {
            self.finish(None);
        }
        self
    }

    fn finish(&mut self, why: Option<Reason>) {
        if let Some(rest) = self.rest.take() {
            rest.finish(why);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        let body = match &mut this.source {
            Source::Local(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Source::Local(bytes) => {
                let bytes = std::mem::take(bytes);
                if let Some(rest) = &mut this.rest {
                    rest.sent = bytes.len() as u64;
                }
                this.finish(None);
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Source::Tunnel(_) => return Poll::Ready(None),
            Source::Upstream { body, .. } => body,
        };
        let Some(rest) = &mut this.rest else { return Poll::Ready(None) };
        loop {
            if let Poll::Ready(reason) = rest.poll_ended(cx)
                && rest.events.between()
            {
                this.finish(Some(reason));
                return Poll::Ready(None);
            }
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending if rest.poll_late(cx) => {
                    this.finish(Some("deadline".into()));
                    return Poll::Ready(Some(Err(Cut::Late)));
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    this.finish(None);
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => {
                    this.finish(Some(format!("the upstream broke off: {error}").into()));
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let data = rest.pass(data);
                    // hyper asks for no more than the length that was declared, and the upstream may tell its end later.
                    if body.is_end_stream() || rest.expected == Some(rest.sent) {
                        this.finish(None);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Upstream { body, .. } => body.is_end_stream(),
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
            rest.finish(Some(left));
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

    fn finish(self, why: Option<Reason>) {
        let received = self.way.received.as_ref().map_or(0, |passage| passage.bytes());
        self.way.end(self.sent, received, why);
    }

    async fn tunnel(self, tunnel: Tunnel) {
        let flow = Flow::default();
        let why = match &self.lease {
            Some(lease) => tunnel.join(&flow, lease).await,
            None => None,
        };
        let (sent, received) = (flow.to_caller.load(Relaxed), flow.from_caller.load(Relaxed));
        self.way.metrics.stream_bytes(Direction::ToCaller, sent);
        self.way.metrics.stream_bytes(Direction::ToUpstream, received);
        self.way.end(sent, received, why);
    }
}

/// Where a stream may be ended: between two events of a watch, anywhere in what has no events.
#[derive(Debug)]
enum Events {
    Anywhere,
    /// One JSON object a line.
    Lines {
        between: bool,
    },
    /// A big-endian length of four bytes before each message (protobuf).
    Lengths {
        head: [u8; 4],
        have: usize,
        left: usize,
    },
}

impl Events {
    fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        match kind {
            _ if headers.contains_key(header::CONTENT_ENCODING) => Self::Anywhere,
            k if k.starts_with(b"application/json") => Self::Lines { between: true },
            k if k.starts_with(b"application/vnd.kubernetes.protobuf") => {
                Self::Lengths { head: [0; 4], have: 0, left: 0 }
            }
            _ => Self::Anywhere,
        }
    }

    /// Whether everything so far was whole events.
    fn between(&self) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Lines { between } => *between,
            Self::Lengths { have, left, .. } => *have == 0 && *left == 0,
        }
    }

    /// Takes note of a piece and says where in it its last whole event ends.
    fn feed(&mut self, data: &[u8]) -> Option<usize> {
        match self {
            Self::Anywhere => Some(data.len()),
            Self::Lines { between } => {
                let last = data.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
                *between = if data.is_empty() { *between } else { last == Some(data.len()) };
                last
            }
            Self::Lengths { head, have, left } => {
                let mut last = None;
                let mut at = 0;
                while let Some(byte) = data.get(at) {
                    if *left > 0 {
                        let step = (*left).min(data.len() - at);
                        *left -= step;
                        at += step;
                    } else {
                        if let Some(slot) = head.get_mut(*have) {
                            *slot = *byte;
                        }
                        *have += 1;
                        at += 1;
                        if *have < head.len() {
                            continue;
                        }
                        *have = 0;
                        *left = u32::from_be_bytes(*head) as usize;
                    }
                    if *left == 0 && *have == 0 {
                        last = Some(at);
                    }
                }
                last
            }
        }
    }

    /// What came after the last whole event has been cut off.
    fn cut(&mut self) {
        match self {
            Self::Anywhere => {}
            Self::Lines { between } => *between = true,
            Self::Lengths { have, left, .. } => (*have, *left) = (0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Events {
        Events::Lines { between: true }
    }

    fn lengths() -> Events {
        Events::Lengths { head: [0; 4], have: 0, left: 0 }
    }

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

    #[test]
    fn a_stream_is_cut_after_its_last_whole_event() {
        struct Row(Events, &'static [&'static [u8]], Option<usize>, bool);
        let rows = [
            Row(lines(), &[b"{\"a\":1}\n"], Some(8), true),
            Row(lines(), &[b"{\"a\":1}\n{\"b\""], Some(8), false),
            Row(lines(), &[b"{\"a\""], None, false),
            Row(lines(), &[b"{\"a\"", b":1}\n"], Some(4), true),
            Row(lengths(), &[&[0, 0, 0, 2, 7, 7]], Some(6), true),
            Row(lengths(), &[&[0, 0, 0, 2, 7, 7, 0, 0]], Some(6), false),
            Row(lengths(), &[&[0, 0], &[0, 2, 7], &[7, 0, 0, 0, 1]], Some(1), false),
            Row(lengths(), &[&[0, 0, 0, 0]], Some(4), true),
            Row(Events::Anywhere, &[b"log line"], Some(8), true),
        ];
        for Row(mut events, pieces, last, between) in rows {
            let fed = pieces.iter().map(|piece| events.feed(piece)).last().flatten();
            assert_eq!((fed, events.between()), (last, between), "{pieces:?}");
        }
    }
}
