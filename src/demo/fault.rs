//! Faults that tests order: the next requests below a path are answered wrongly, late, or not at all.

use super::answer::{Answer, DemoBody, channel, full, json_answer, typed};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::io::AsyncWriteExt as _;

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The answer is right, but this late.
    Delay(Duration),
    /// The connection (h2: the stream) ends before any answer.
    ResetBeforeHeaders,
    /// Head and a first piece of body, then the connection (h2: the stream) ends.
    ResetAfterHeaders,
    /// This status with a Status object; 3xx without a Location.
    Status(u16),
    /// This status with a body of another type.
    Plain(u16, String),
    /// A redirect to this place.
    Redirect(u16, String),
    /// 101 that switches to this protocol, whatever was asked, then these bytes.
    Switch {
        /// Value of `Upgrade`.
        protocol: String,
        /// Further headers.
        headers: Vec<(String, String)>,
        /// Sent right after the head.
        early: Vec<u8>,
    },
    /// An extra response header of this many bytes.
    HugeHeader(usize),
    /// A body that never ends, as fast as it is read.
    EndlessBody,
    /// A body in pieces: this many bytes, this often, this many times.
    SlowBody {
        /// Bytes a piece.
        piece: usize,
        /// Between pieces.
        every: Duration,
        /// How many pieces.
        times: usize,
    },
    /// The right answer; then the connection is closed gracefully (h2: GOAWAY).
    GoAway,
    /// Neither answer nor end.
    Hang,
}

#[derive(Debug)]
struct Order {
    prefix: String,
    left: usize,
    fault: Fault,
}

/// The faults ordered and not yet used up. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Vec<Order>>>);

impl Faults {
    /// Orders `fault` for the next `times` requests whose path starts with `prefix`.
    pub fn next(&self, prefix: &str, times: usize, fault: Fault) {
        self.lock().push(Order { prefix: prefix.to_owned(), left: times, fault });
    }

    /// Takes all orders back.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// How many requests will still go wrong.
    pub fn left(&self) -> usize {
        self.lock().iter().map(|o| o.left).sum()
    }

    pub(super) fn take(&self, path: &str) -> Option<Fault> {
        let mut orders = self.lock();
        let order = orders.iter_mut().find(|o| o.left > 0 && path.starts_with(&o.prefix))?;
        order.left -= 1;
        let fault = order.fault.clone();
        orders.retain(|o| o.left > 0);
        Some(fault)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Order>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a fault makes of a request: nothing (None: answer it rightly), an answer, or the end of the connection (Err).
pub(super) async fn act(fault: &Fault, upgrade: Option<OnUpgrade>) -> Option<io::Result<Answer>> {
    let reset = || io::Error::new(io::ErrorKind::ConnectionReset, "a fault that was ordered");
    Some(match fault {
        Fault::Delay(time) => {
            tokio::time::sleep(*time).await;
            return None;
        }
        Fault::GoAway => return None,
        Fault::Hang => std::future::pending().await,
        Fault::ResetBeforeHeaders => Err(reset()),
        Fault::ResetAfterHeaders => {
            let (sender, body) = channel();
            tokio::spawn(async move {
                let _ = sender.send(Ok(Bytes::from_static(b"{\"kind\":"))).await;
                // The head and this piece are to be on the wire before the end.
                tokio::time::sleep(Duration::from_millis(20)).await;
                let _ = sender.send(Err(reset())).await;
            });
            Ok(json_body(body))
        }
        Fault::Status(code) => Ok(ordered(*code)),
        Fault::Plain(code, text) => Ok(typed(*code, "text/plain", text.clone())),
        Fault::Redirect(code, to) => {
            let mut answer = typed(*code, "text/plain", "");
            if let Ok(to) = HeaderValue::from_str(to) {
                answer.headers_mut().insert(header::LOCATION, to);
            }
            Ok(answer)
        }
        Fault::Switch { protocol, headers, early } => Ok(switch(protocol, headers, early.clone(), upgrade)),
        Fault::HugeHeader(size) => {
            let mut answer = json_answer(200, &serde_json::json!({}));
            if let Ok(huge) = HeaderValue::from_str(&"x".repeat(*size)) {
                answer.headers_mut().insert("x-huge", huge);
            }
            Ok(answer)
        }
        Fault::EndlessBody => {
            let piece = Bytes::from(vec![b' '; 16 << 10]);
            let (sender, body) = channel();
            tokio::spawn(async move { while sender.send(Ok(piece.clone())).await.is_ok() {} });
            Ok(json_body(body))
        }
        Fault::SlowBody { piece, every, times } => {
            let (piece, every, times) = (Bytes::from(vec![b' '; *piece]), *every, *times);
            let (sender, body) = channel();
            tokio::spawn(async move {
                for _ in 0..times {
                    if sender.send(Ok(piece.clone())).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(every).await;
                }
            });
            Ok(json_body(body))
        }
    })
}

fn ordered(code: u16) -> Answer {
    let mut failure = super::answer::Failure::new(code, "InternalError", "a fault that was ordered");
    failure.reason = match code {
        503 => "ServiceUnavailable",
        429 => "TooManyRequests",
        504 => "Timeout",
        _ => "InternalError",
    };
    failure.answer()
}

fn json_body(body: DemoBody) -> Answer {
    let mut answer = Response::new(body);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn switch(
    protocol: &str,
    headers: &[(String, String)],
    early: Vec<u8>,
    upgrade: Option<OnUpgrade>,
) -> Answer {
    let mut answer = Response::new(full(""));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    let all =
        std::iter::once(("upgrade", protocol)).chain(headers.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    for (name, value) in all {
        if let (Ok(name), Ok(value)) = (header::HeaderName::try_from(name), HeaderValue::from_str(value)) {
            answer.headers_mut().append(name, value);
        }
    }
    if let Some(upgrade) = upgrade {
        tokio::spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let mut io = TokioIo::new(upgraded);
            let _ = io.write_all(&early).await;
            // Holds the connection until the other side ends it.
            let _ = tokio::io::copy(&mut io, &mut tokio::io::sink()).await;
        });
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_used_up() {
        let faults = Faults::default();
        faults.next("/api/v1/pods", 2, Fault::Status(500));
        faults.next("/", 1, Fault::Status(503));
        assert_eq!(faults.take("/api/v1/pods/x"), Some(Fault::Status(500)));
        assert_eq!(faults.take("/version"), Some(Fault::Status(503)));
        assert_eq!(faults.take("/version"), None);
        assert_eq!(faults.left(), 1);
        faults.clear();
        assert_eq!(faults.take("/api/v1/pods"), None);
    }
}
