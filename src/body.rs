//! Request bodies on their way upstream: read whole when somebody must look at them, else passed on frame by frame.
//!
//! Nothing is buffered without a bound: a body has its own cap, and all buffered bodies together share one [`Budget`].
//! Trailers are dropped: nothing in the Kubernetes API uses them, and they are a second place for headers.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep, timeout};

/// The process-wide allowance, in bytes, for bodies that are held in memory.
#[derive(Debug)]
pub struct Budget {
    left: AtomicUsize,
}

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

/// How a request body is read.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The largest body, in bytes; None for connections (exec, port-forward, proxy), whose bodies have no end to speak of.
    pub limit: Option<u64>,
    /// The longest silence between two pieces.
    pub idle: Duration,
    /// When the request's time is up.
    pub deadline: Option<Instant>,
}

/// A request body, after the gate has decided whether it wants to see it.
#[derive(Debug)]
pub enum Inbound {
    /// Read whole; the budget is charged until the upstream has taken it.
    Whole(Whole),
    /// Passed on as it comes.
    Stream(Outbound),
}

/// A body read whole.
#[derive(Debug)]
pub struct Whole {
    bytes: Bytes,
    _held: Held,
}

/// Why a request body cannot be passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    /// Larger than the cap: 413.
    #[error("the request body is larger than {0} bytes")]
    TooLarge(u64),
    /// All buffered bodies together would exceed the budget: 429.
    #[error("the budget for buffered request bodies is used up")]
    NoBudget,
    /// The caller sent nothing for too long: 408 in spirit, 400 on the wire.
    #[error("no piece of the request body came for {0:?}")]
    Idle(Duration),
    /// The request's time was up before its body had come: 504.
    #[error("the request's time was up before its body had come")]
    Late,
    /// The caller went away or broke the framing.
    #[error("the request body ended early: {0}")]
    Broken(String),
}

impl Budget {
    /// A budget of that many bytes.
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(bytes) })
    }

    /// What is left, in bytes.
    pub fn left(&self) -> usize {
        self.left.load(Relaxed)
    }

    /// Sets some of it aside.
    ///
    /// # Errors
    /// There is not so much left.
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Result<Held, BadBody> {
        let mut held = Held::new(self);
        held.grow(bytes)?;
        Ok(held)
    }

    fn take(self: &Arc<Self>, bytes: usize) -> Result<(), BadBody> {
        self.left
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes))
            .map(drop)
            .map_err(|_| BadBody::NoBudget)
    }
}

impl Held {
    fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: budget.clone(), bytes: 0 }
    }

    fn grow(&mut self, bytes: usize) -> Result<(), BadBody> {
        self.budget.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes, Relaxed);
    }
}

impl Inbound {
    /// Reads the body whole when `whole`, else wraps it for passing on. A declared length over the cap is refused
    /// before a byte is read and leaves `body` where it is.
    pub async fn read(
        body: &mut Option<Incoming>,
        headers: &HeaderMap,
        whole: bool,
        reading: Reading,
        budget: &Arc<Budget>,
    ) -> Result<Self, BadBody> {
        let declared = headers
            .get(http::header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse::<u64>().ok());
        if let (Some(declared), Some(limit)) = (declared, reading.limit)
            && declared > limit
        {
            return Err(BadBody::TooLarge(limit));
        }
        let Some(body) = body.take() else { return Ok(Self::Stream(Outbound::empty())) };
        if whole && !body.is_end_stream() {
            return Box::pin(Whole::read(body, declared, &reading, budget)).await.map(Self::Whole);
        }
        Ok(Self::Stream(Outbound::streaming(body, &reading)))
    }

    /// The bytes, when the body was read whole.
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Whole(whole) => Some(&whole.bytes),
            Self::Stream(_) => None,
        }
    }

    /// The body as it is sent upstream.
    pub fn into_outbound(self) -> Outbound {
        match self {
            Self::Whole(whole) => {
                let passage =
                    Passage { bytes: AtomicU64::new(whole.bytes.len() as u64), ..Passage::default() };
                let whole = Some(whole).filter(|whole| !whole.bytes.is_empty());
                Outbound { from: From::Whole(whole), passage: Some(Arc::new(passage)) }
            }
            Self::Stream(outbound) => outbound,
        }
    }
}

impl Whole {
    /// What was read.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Reads a body to its end. `declared`: the length it is said to have.
    ///
    /// # Errors
    /// It is too large, too slow, or breaks off.
    pub async fn read(
        mut body: Incoming,
        declared: Option<u64>,
        reading: &Reading,
        budget: &Arc<Budget>,
    ) -> Result<Self, BadBody> {
        let limit = reading.limit.unwrap_or(u64::MAX);
        let mut held = Held::new(budget);
        let mut pieces: Option<BytesMut> = None;
        let mut first = Bytes::new();
        let mut total = 0u64;
        loop {
            let wait = match reading.deadline {
                Some(deadline) => reading.idle.min(deadline.saturating_duration_since(Instant::now())),
                None => reading.idle,
            };
            let frame = match timeout(wait, body.frame()).await {
                Ok(Some(frame)) => frame.map_err(|error| BadBody::Broken(error.to_string()))?,
                Ok(None) => break,
                Err(_) if wait < reading.idle => return Err(BadBody::Late),
                Err(_) => return Err(BadBody::Idle(reading.idle)),
            };
            let Ok(data) = frame.into_data() else { continue };
            total += data.len() as u64;
            if total > limit {
                return Err(BadBody::TooLarge(limit));
            }
            held.grow(data.len())?;
            match &mut pieces {
                None if first.is_empty() => first = data,
                None => {
                    let room = declared.unwrap_or(0).min(MOST_AHEAD).max(total) as usize;
                    let mut joined = BytesMut::with_capacity(room);
                    joined.extend_from_slice(&first);
                    joined.extend_from_slice(&data);
                    pieces = Some(joined);
                }
                Some(joined) => joined.extend_from_slice(&data),
            }
        }
        Ok(Self { bytes: pieces.map_or(first, BytesMut::freeze), _held: held })
    }
}

/// Reads off what is on its way of a body that nobody wants. A caller that is answered in the middle of its own sentence gets a
/// stream reset behind the answer, and some (curl 7) then lose the answer.
pub async fn drain(body: Option<Incoming>) {
    let Some(mut body) = body.filter(|body| !body.is_end_stream()) else { return };
    let _ = timeout(DRAIN_TIME, async {
        let mut left = DRAIN_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
            left = rest;
        }
    })
    .await;
}

/// What [`drain`] waits for: a body of ordinary size, already under way.
const DRAIN_TIME: Duration = Duration::from_millis(250);
const DRAIN_BYTES: usize = 1 << 20;

/// Room made for a body before it has come, in bytes, whatever its length is said to be.
const MOST_AHEAD: u64 = 1 << 20;

/// A body read whole goes upstream in pieces of so many bytes, so that what the upstream does not take stays here and
/// on the budget, and does not pile up in its connection.
const PIECE: usize = 64 << 10;

/// A request body as hyper sends it upstream. An error in it resets the upstream request.
#[derive(Debug)]
pub struct Outbound {
    from: From,
    passage: Option<Arc<Passage>>,
}

/// How a body fares, also after it has gone.
#[derive(Debug, Default)]
pub struct Passage {
    bytes: AtomicU64,
    bad: OnceLock<BadBody>,
}

impl Passage {
    /// How many bytes have been passed on so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Why it could not be passed on to its end. An HTTP/2 connection only tells that the request was reset.
    pub fn bad(&self) -> Option<&BadBody> {
        self.bad.get()
    }
}

#[derive(Debug)]
enum From {
    Nothing,
    Whole(Option<Whole>),
    Stream { body: Incoming, left: u64, limit: u64, idle: Duration, silence: Option<Pin<Box<Sleep>>> },
}

impl Outbound {
    /// No body.
    pub fn empty() -> Self {
        Self { from: From::Nothing, passage: None }
    }

    fn streaming(body: Incoming, reading: &Reading) -> Self {
        let limit = reading.limit.unwrap_or(u64::MAX);
        if body.is_end_stream() {
            return Self::empty();
        }
        let from = From::Stream { body, left: limit, limit, idle: reading.idle, silence: None };
        Self { from, passage: Some(Arc::default()) }
    }

    /// How it fares, to be asked whenever; None for no body.
    pub fn passage(&self) -> Option<Arc<Passage>> {
        self.passage.clone()
    }

    /// A second copy for another attempt; only a body that holds nothing of the caller's connection can be sent twice.
    pub fn again(&self) -> Option<Self> {
        match &self.from {
            From::Nothing => Some(Self::empty()),
            _ => None,
        }
    }
}

impl From {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BadBody>>> {
        match self {
            Self::Nothing => Poll::Ready(None),
            Self::Whole(whole) => {
                let Some(rest) = whole else { return Poll::Ready(None) };
                let piece = rest.bytes.split_to(rest.bytes.len().min(PIECE));
                if rest.bytes.is_empty() {
                    *whole = None;
                }
                Poll::Ready(Some(Ok(piece)))
            }
            Self::Stream { body, left, limit, idle, silence } => loop {
                let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
                    let timer = silence.get_or_insert_with(|| Box::pin(sleep(*idle)));
                    ready!(timer.as_mut().poll(cx));
                    return Poll::Ready(Some(Err(BadBody::Idle(*idle))));
                };
                *silence = None;
                let Some(frame) = frame else { return Poll::Ready(None) };
                let frame = frame.map_err(|error| BadBody::Broken(error.to_string()))?;
                let Ok(data) = frame.into_data() else { continue };
                let Some(rest) = left.checked_sub(data.len() as u64) else {
                    return Poll::Ready(Some(Err(BadBody::TooLarge(*limit))));
                };
                *left = rest;
                return Poll::Ready(Some(Ok(data)));
            },
        }
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = BadBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BadBody>>> {
        let this = &mut *self;
        let polled = ready!(this.from.poll(cx));
        if let Some(passage) = &this.passage {
            match &polled {
                // Those of a body read whole have been counted.
                Some(Ok(data)) if matches!(this.from, From::Stream { .. }) => {
                    passage.bytes.fetch_add(data.len() as u64, Relaxed);
                }
                Some(Err(bad)) => drop(passage.bad.set(bad.clone())),
                _ => {}
            }
        }
        Poll::Ready(polled.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.from {
            From::Nothing | From::Whole(None) => true,
            From::Whole(Some(_)) => false,
            From::Stream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.from {
            From::Nothing | From::Whole(None) => SizeHint::with_exact(0),
            From::Whole(Some(whole)) => SizeHint::with_exact(whole.bytes.len() as u64),
            From::Stream { body, .. } => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_given_back() {
        let budget = Budget::new(10);
        let mut held = Held::new(&budget);
        held.grow(8).unwrap();
        assert_eq!(Held::new(&budget).grow(3), Err(BadBody::NoBudget));
        assert_eq!(budget.left(), 2);
        drop(held);
        assert_eq!(budget.left(), 10);
    }

    #[tokio::test]
    async fn a_whole_body_stays_on_the_budget_until_its_last_piece_is_taken() {
        let length = 2 * PIECE + 1;
        let budget = Budget::new(length);
        let mut held = Held::new(&budget);
        held.grow(length).unwrap();
        let whole = Whole { bytes: vec![7; length].into(), _held: held };
        let mut body = Inbound::Whole(whole).into_outbound();
        let mut taken = Vec::new();
        while let Some(frame) = body.frame().await {
            taken.push((frame.unwrap().into_data().unwrap().len(), budget.left()));
        }
        assert_eq!(taken, [(PIECE, 0), (PIECE, 0), (1, length)]);
        assert_eq!(body.passage().unwrap().bytes(), length as u64);
    }
}
