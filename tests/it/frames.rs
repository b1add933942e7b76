//! HTTP/2 frame by frame, for what no library would send.

use crate::raw::{Tls, Wire};
use std::{io, net::SocketAddr};

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// One frame's bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = length[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A header block of literals: no table, no Huffman code.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            integer(&mut out, text.len());
            out.extend(text.as_bytes());
        }
    }
    out
}

/// RFC 7541 section 5.1, a prefix of seven bits.
fn integer(out: &mut Vec<u8>, n: usize) {
    if n < 127 {
        return out.push(n as u8);
    }
    out.push(127);
    let mut n = n - 127;
    while n >= 128 {
        out.push((n % 128) as u8 | 128);
        n /= 128;
    }
    out.push(n as u8);
}

/// The fields of an ordinary GET by the owner of `token`.
pub(crate) fn get<'a>(path: &'a str, bearer: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "gate.example"),
        (":path", path),
        ("authorization", bearer),
    ]
}

/// A connection whose preface and SETTINGS have been sent.
pub(crate) struct Http2 {
    /// The bytes below.
    pub(crate) wire: Wire,
}

impl Http2 {
    /// Connects; `settings` are (identifier, value) pairs.
    pub(crate) async fn open(addr: SocketAddr, ca: &str, settings: &[(u16, u32)]) -> io::Result<Self> {
        let mut wire = Wire::open(addr, &Tls::new(ca, None, "h2")).await?;
        assert_eq!(wire.alpn(), Some(&b"h2"[..]));
        let mut payload = Vec::new();
        for (id, value) in settings {
            payload.extend(id.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        hello.extend(frame(SETTINGS, 0, 0, &payload));
        wire.send(hello).await?;
        Ok(Self { wire })
    }

    /// Sends one frame.
    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.wire.send(frame(kind, flags, stream, payload)).await
    }

    /// The next frame; None at the end. SETTINGS and PINGs are acknowledged on the way.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            let head = self.wire.take(9).await;
            let [a, b, c, kind, flags, ref s @ ..] = head[..] else { return None };
            let payload = self.wire.take(u32::from_be_bytes([0, a, b, c]) as usize).await;
            let stream = u32::from_be_bytes(s.try_into().ok()?) & 0x7fff_ffff;
            if (kind == SETTINGS || kind == PING) && flags & ACK == 0 {
                let echo = if kind == PING { payload.as_slice() } else { &[] };
                let _ = self.send(kind, ACK, 0, echo).await;
                if kind == PING {
                    continue;
                }
            }
            return Some(Frame { kind, flags, stream, payload });
        }
    }

    /// The next frame of this kind, skipping others; None at the end.
    pub(crate) async fn until(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }
}

/// The error code of a RST_STREAM or GOAWAY.
pub(crate) fn error_code(frame: &Frame) -> Option<u32> {
    let at = if frame.kind == GOAWAY { 4 } else { 0 };
    Some(u32::from_be_bytes(frame.payload.get(at..at + 4)?.try_into().ok()?))
}
