//! The record. A [`Trail`] accompanies every request and completes on drop; [`Kept`] proves that its first event is where
//! the mode demands.

use crate::{authn::Authenticated, identity::User, request::Asked, status::Status};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use std::{net::SocketAddr, sync::Arc};

/// The record's writer: policy, journal, id source. One per process.
#[derive(Debug)]
pub struct Audit {}
impl Audit {
    /// Before anything is parsed. `source_ips`: the socket's peer last (see `sourceIPs` in the module doc).
    pub fn open(self: &Arc<Self>, _peer: SocketAddr, _head: &http::request::Parts) -> Trail { todo!() }
}

/// One request's way through the record.
#[derive(Debug)]
pub struct Trail {}
impl Trail {
    /// This request's id: to the caller, upstream, in every event and log line.
    pub fn audit_id(&self) -> &HeaderValue { todo!() }
    /// After authentication: level by policy, RequestReceived enqueued, the last event's place reserved.
    pub fn begin(&mut self, _proven: &Authenticated, _asked: &Asked) -> Result<(), Unkept> { todo!() }
    pub fn impersonated(&mut self, _user: &Arc<User>) { todo!() }
    /// `authorization.k8s.io/decision` and `/reason`.
    pub fn decided(&mut self, _allow: bool, _reason: &str) { todo!() }
    /// First value wins.
    pub fn annotate(&mut self, _key: &'static str, _value: String) { todo!() }
    /// Whether the level and the resource ask for the request body / response body.
    pub fn wants_request(&self) -> bool { todo!() }
    pub fn wants_response(&self) -> bool { todo!() }
    /// The whole request body, when it was read whole.
    pub fn request(&mut self, _headers: &HeaderMap, _body: &Bytes) { todo!() }
    /// The first event is enqueued / on disk, as the mode demands.
    pub async fn kept(&mut self) -> Result<Kept, Unkept> { todo!() }
    /// The answer's head is known (ResponseStarted for long-running requests). 101 included.
    pub fn started(&mut self, _code: u16, _headers: &HeaderMap) { todo!() }
    /// A piece of the response body, teed with a cap; only called when `wants_response`.
    pub fn tee(&mut self, _chunk: &Bytes) { todo!() }
    /// The gate itself answers with this Status. Before `begin` (400, 401): one ResponseStarted event, user `{}`;
    /// `attempted` is the preliminary 401 text.
    pub fn refused(&mut self, _status: &Status) { todo!() }
    /// The stream or answer ended; drop without it means "closed early" (or a panic).
    pub fn complete(&mut self, _end: End) { todo!() }
}

/// How a request ended, for its last event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct End { pub bytes_from_caller: u64, pub bytes_to_caller: u64, /** `gatelog.dev/end`: why, when it is not a plain end of the answer */ pub why: Option<String> }

/// Proof that the first event is kept; only this module makes one.
#[derive(Debug)]
pub struct Kept(());

/// The record cannot take the event: 503 unless the operator wrote `onFailure: open`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the audit record cannot be kept: {0}")]
pub struct Unkept(pub String);

/// Where and how the record is kept.
#[derive(Debug, Clone)]
pub struct Config {}
/// Why the record cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot be opened")]
pub struct Error;
impl Audit {
    pub fn start(_config: Config, _registry: &prometheus::Registry) -> Result<Arc<Self>, Error> { todo!() }
    /// Flushes and joins the writer.
    pub fn shutdown(&self) { todo!() }
    /// For `/readyz`.
    pub fn healthy(&self) -> Result<(), String> { todo!() }
}
impl Trail {
    /// The preliminary text of a 401's event; before `refused`.
    pub fn attempted(&mut self, _methods: &str) { todo!() }
}
