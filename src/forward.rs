//! The only way upstream: [`Forward::send`] takes the permit and the proof that the record is kept, builds the request
//! from the permit alone, and hands the answer back. Never follows a redirect; tries again only where nothing was sent.

mod pool;
pub mod upgrade;

use crate::{
    audit::Kept,
    authz::Permit,
    body::{BadBody, Outbound, Passage},
    endpoint::Endpoint,
    headers,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header, uri};
use hyper::body::Incoming;
pub use pool::Place;
use pool::{Lost, Pool};
use std::{sync::Arc, time::Duration};

/// How the upstream is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// For TCP and TLS together.
    pub connect_timeout: Duration,
    /// HTTP/2 connections at most; 10,000 watches at 100 streams a connection need 100.
    pub max_connections: usize,
    /// Streams on one connection at most; what the upstream allows counts if it is less.
    pub streams_per_connection: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(5), max_connections: 256, streams_per_connection: 100 }
    }
}

/// The upstream and the connections to it.
#[derive(Debug)]
pub struct Forward {
    pool: Pool,
}

/// What is sent on from the caller; everything else of the request comes from the permit.
#[derive(Debug)]
pub struct Caller<'a> {
    /// As they came, less what authentication and impersonation consumed; the table of header names decides on the rest.
    pub headers: HeaderMap,
    /// The body.
    pub body: Outbound,
    /// The protocol switch asked for, where one is allowed.
    pub upgrade: Option<Wanted>,
    /// The request's id, the same upstream as in the record.
    pub audit_id: &'a HeaderValue,
    /// The hops before us, as far as they can be believed, and the socket's peer.
    pub forwarded_for: HeaderValue,
}

/// What an upgrade asks for; the caller's side is joined only after the upstream's own, validated 101.
#[derive(Debug)]
pub struct Wanted {
    /// The caller's connection, once both sides have agreed.
    pub caller: hyper::upgrade::OnUpgrade,
    /// The protocol asked for, as the caller wrote it (`SPDY/3.1`, `websocket`).
    pub protocol: HeaderValue,
}

/// The upstream's answer.
#[derive(Debug)]
pub enum Answered {
    /// An answer with a body; `place` is held while it streams.
    Body {
        /// Status and headers, not yet made fit for the caller.
        response: Response<Incoming>,
        /// The stream's place on its connection.
        place: Option<Place>,
    },
    /// A validated 101; both sides can be joined.
    Tunnel {
        /// Status and headers of the 101.
        response: Response<()>,
        /// The two halves to join.
        tunnel: upgrade::Tunnel,
    },
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// No connection: nothing was sent.
    #[error("cannot connect to the upstream {upstream}: {source}")]
    Connect {
        /// Where to.
        upstream: String,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The connection broke or the upstream broke the protocol: something may have been done.
    #[error("the upstream broke off: {0}")]
    Broken(#[source] hyper::Error),
    /// The caller's body could not be read to its end.
    #[error(transparent)]
    Body(BadBody),
    /// An identity header survived the way it should not have: our defect, nothing was sent.
    #[error("identity header {0} would have been forwarded")]
    Identity(HeaderName),
    /// The upstream answered an upgrade with something that is neither a 101 nor an error.
    #[error("invalid upgrade response: status code {0}")]
    NotUpgraded(u16),
    /// The upstream switched to a protocol that was not asked for.
    #[error("the upstream switched to {got}, but {asked} was asked for")]
    WrongProtocol {
        /// What the 101 says.
        got: String,
        /// What was asked for.
        asked: String,
    },
}

impl NoAnswer {
    /// The kind of failure, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Broken(_) => "broken",
            Self::Body(_) => "request-body",
            Self::Identity(_) => "identity",
            Self::NotUpgraded(_) | Self::WrongProtocol { .. } => "upgrade",
        }
    }
}

/// Sends of one request at most, counting the ones that never left.
const ATTEMPTS: usize = 4;

impl Forward {
    /// Nothing is connected yet.
    pub fn new(endpoint: Arc<Endpoint>, config: Config) -> Arc<Self> {
        Arc::new(Self { pool: Pool::new(endpoint, config) })
    }

    /// Where requests go.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        self.pool.endpoint()
    }

    /// Opens a connection if there is none; for the readiness check and to be warm at start.
    pub async fn probe(&self) -> Result<(), NoAnswer> {
        self.pool.warm().await
    }

    /// Sends what the permit allows, as its identity, and returns the answer's head.
    pub async fn send(&self, permit: Permit, _kept: Kept, caller: Caller<'_>) -> Result<Answered, NoAnswer> {
        let Caller { headers: from_caller, body, upgrade, audit_id, forwarded_for } = caller;
        let head = || {
            let mut request = Request::new(Outbound::empty());
            *request.method_mut() = permit.asked().method.clone();
            *request.headers_mut() = headers::for_upstream(&from_caller);
            self.identify(request.headers_mut(), &permit)?;
            request.headers_mut().insert(headers::AUDIT_ID, audit_id.clone());
            request.headers_mut().insert(headers::X_FORWARDED_FOR, forwarded_for.clone());
            Ok(request)
        };
        let target = permit.asked().target.path_and_query();
        let passage = body.passage();
        let Some(wanted) = upgrade else {
            return self
                .send_plain(body, || {
                    let mut request = head()?;
                    *request.uri_mut() = self.absolute(target);
                    Ok(request)
                })
                .await
                .map_err(blamed(passage));
        };
        let mut request = head()?.map(|_| body);
        *request.uri_mut() = Uri::from(target.clone());
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.endpoint().host_header().clone());
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, wanted.protocol.clone());
        Box::pin(upgrade::send(&self.pool, request, wanted)).await.map_err(blamed(passage))
    }

    /// Tries again only what cannot have been done: never sent, or refused unprocessed and without a body.
    async fn send_plain(
        &self,
        body: Outbound,
        head: impl Fn() -> Result<Request<Outbound>, NoAnswer>,
    ) -> Result<Answered, NoAnswer> {
        let mut again = body.again();
        let mut request = head()?.map(|_| body);
        for attempt in 1.. {
            match self.pool.send(request).await {
                Ok((response, place)) => return Ok(Answered::Body { response, place: Some(place) }),
                Err(Lost::Unsent(unsent)) if attempt < ATTEMPTS => request = *unsent,
                Err(Lost::Unprocessed(error)) if attempt < ATTEMPTS => {
                    let Some(body) = again.take() else { return Err(error) };
                    again = body.again();
                    request = head()?.map(|_| body);
                }
                Err(Lost::Unprocessed(error) | Lost::Broken(error)) => return Err(error),
                Err(Lost::Unsent(_)) => break,
            }
        }
        Err(NoAnswer::Connect {
            upstream: self.endpoint().authority().to_string(),
            source: std::io::Error::other("every connection closed before the request could be sent"),
        })
    }

    /// HTTP/2 wants scheme and authority; the path and query are the permit's, byte for byte.
    fn absolute(&self, target: &uri::PathAndQuery) -> Uri {
        let mut parts = uri::Parts::default();
        parts.scheme = Some(uri::Scheme::HTTPS);
        parts.authority = Some(self.endpoint().authority().clone());
        parts.path_and_query = Some(target.clone());
        // Three parts of valid URIs make a valid one.
        Uri::from_parts(parts).unwrap_or_default()
    }

    /// The identity is written last and looked at once more: an identity header that is not the permit's is a defect.
    fn identify(&self, headers: &mut HeaderMap, permit: &Permit) -> Result<(), NoAnswer> {
        let identity = permit.who().effective().upstream_headers();
        for (name, value) in identity {
            headers.append(name.clone(), value.clone());
        }
        headers::survivors(headers, identity).map_err(NoAnswer::Identity)?;
        if let Some(bearer) = self.endpoint().bearer() {
            headers.insert(header::AUTHORIZATION, bearer);
        }
        Ok(())
    }
}

/// When the caller's body is at fault, the upstream is not, whatever became of the request.
fn blamed(passage: Option<Arc<Passage>>) -> impl FnOnce(NoAnswer) -> NoAnswer {
    move |error| match passage.as_ref().and_then(|passage| passage.bad()) {
        Some(bad) => NoAnswer::Body(bad.clone()),
        None => error,
    }
}
