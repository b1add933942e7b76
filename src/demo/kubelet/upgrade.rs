//! How a request becomes a stream: which protocol is asked for, which of its variants both sides know, and the 101.

use crate::demo::{
    answer::{Answer, Failure, full, text},
    websocket,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};

const SPDY: &str = "SPDY/3.1";
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// What the request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Spdy,
    WebSocket,
}

impl Wanted {
    /// As Kubernetes tells: `Connection` contains `upgrade`, `Upgrade` says to what.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Failure> {
        let has = |name: HeaderName, what: &str| {
            let mut values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
            values.any(|v| v.to_ascii_lowercase().contains(what))
        };
        match () {
            () if !has(header::CONNECTION, "upgrade") => {
                Err(Failure::bad_request("Upgrade request required"))
            }
            () if has(header::UPGRADE, "websocket") => Ok(Self::WebSocket),
            () if has(header::UPGRADE, "spdy/3.1") => Ok(Self::Spdy),
            () => Err(Failure::bad_request("Upgrade request required")),
        }
    }
}

/// Chooses the client's first SPDY stream protocol that is in `known` and makes the 101; Err is the refusal to answer with.
pub(super) fn spdy(parts: &Parts, known: &[&'static str]) -> Result<(&'static str, Answer), Answer> {
    let offered: Vec<&str> = values(&parts.headers, &STREAM_PROTOCOL);
    if offered.is_empty() {
        return Err(text(400, "unable to upgrade: X-Stream-Protocol-Version is required\n"));
    }
    let Some(protocol) = first(&offered, known) else {
        let why = format!(
            "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {known:?}\n"
        );
        let mut answer = text(403, why);
        for protocol in known {
            answer.headers_mut().append(ACCEPTED, HeaderValue::from_static(protocol));
        }
        return Err(answer);
    };
    let mut answer = switching(SPDY);
    answer.headers_mut().insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    Ok((protocol, answer))
}

/// The same for a WebSocket and its subprotocols. Offering none is choosing `""`, where that is known.
pub(super) fn websocket(parts: &Parts, known: &[&'static str]) -> Result<(&'static str, Answer), Answer> {
    let header = |name: HeaderName| parts.headers.get(name).and_then(|v| v.to_str().ok());
    let key =
        header(header::SEC_WEBSOCKET_KEY).filter(|_| header(header::SEC_WEBSOCKET_VERSION) == Some("13"));
    let Some(key) = key else { return Err(text(400, "not a WebSocket handshake of version 13\n")) };
    let mut offered: Vec<&str> = values(&parts.headers, &header::SEC_WEBSOCKET_PROTOCOL);
    if offered.is_empty() {
        offered.push("");
    }
    let Some(protocol) = first(&offered, known) else {
        return Err(text(403, "requested protocol(s) are not supported\n"));
    };
    let Ok(accept) = HeaderValue::try_from(websocket::accept(key)) else {
        return Err(text(400, "not a WebSocket key\n"));
    };
    let mut answer = switching("websocket");
    answer.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if !protocol.is_empty() {
        answer.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok((protocol, answer))
}

fn switching(to: &'static str) -> Answer {
    let mut answer = Answer::new(full(""));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(to));
    answer
}

/// Every value of every line, split at commas.
fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let lines = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    lines.flat_map(|l| l.split(',')).map(str::trim).filter(|v| !v.is_empty()).collect()
}

fn first(offered: &[&str], known: &[&'static str]) -> Option<&'static str> {
    offered.iter().find_map(|o| known.iter().find(|k| *k == o).copied())
}
