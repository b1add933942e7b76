//! Connections to the upstream: HTTP/2 for everything that is no upgrade, opened before their streams run out, so that
//! ten thousand watches do not queue behind one connection. An upstream that does not speak HTTP/2 is served over
//! HTTP/1.1 connections, one request at a time on each.

use super::{Config, NoAnswer};
use crate::endpoint::Endpoint;
use crate::{
    body::{BadBody, Outbound},
    sockets,
};
use arc_swap::ArcSwap;
use http::{Request, Response, Uri, Version, header};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    error::Error as _,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{AcqRel, Relaxed},
        },
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// client-go's own liveness figures: a PING after 30 s, gone 15 s later.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_ANSWER: Duration = Duration::from_secs(15);

/// A stream's flow-control window, kube-apiserver's own figure: it bounds what a caller leaves unread. A connection's window is
/// as large as those of its streams together, so that one who reads slowly does not hold up the others' answers.
const STREAM_WINDOW: u32 = 256 << 10;
/// The largest there is (RFC 9113 section 6.9.1).
const LARGEST_WINDOW: u32 = i32::MAX as u32;
const FRAME: u32 = 64 << 10;

/// Idle HTTP/1.1 connections kept for an upstream without HTTP/2.
const IDLE_HTTP1: usize = 32;

/// SETTINGS are the first frame a server sends, so they have been read after this many turns of the connection.
const SETTINGS_BY: u32 = 32;

#[derive(Debug)]
pub(super) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    endpoint: Arc<Endpoint>,
    config: Config,
    connections: ArcSwap<Vec<Arc<Connection>>>,
    /// Held while one connection is opened for all who wait for it; says how the last attempt failed.
    opening: tokio::sync::Mutex<Option<Failed>>,
    /// Somebody already opens one ahead of need.
    ahead: AtomicBool,
    /// The upstream chose HTTP/1.1.
    http1: AtomicBool,
    idle: Mutex<Vec<http1::SendRequest<Outbound>>>,
}

#[derive(Debug)]
struct Connection {
    sender: http2::SendRequest<Outbound>,
    open: AtomicUsize,
    /// Streams the upstream allows at once; known once its SETTINGS have come.
    allowed: Arc<AtomicUsize>,
}

/// A stream's place on its connection, held until the answer has ended.
#[derive(Debug)]
pub struct Place(Taken);

#[derive(Debug)]
enum Taken {
    Http2(Arc<Connection>),
    Http1(Option<http1::SendRequest<Outbound>>, Arc<Shared>),
}

/// A request that did not get an answer, and whether the upstream can have seen it.
pub(super) enum Lost {
    /// It never left: here it is again.
    Unsent(Box<Request<Outbound>>),
    /// The upstream said that it did not process it (REFUSED_STREAM, GOAWAY below the stream).
    Unprocessed(NoAnswer),
    /// It may have been processed, or no connection could be had.
    Broken(NoAnswer),
}

impl Pool {
    pub(super) fn new(endpoint: Arc<Endpoint>, config: Config) -> Self {
        Self(Arc::new(Shared {
            endpoint,
            config,
            connections: ArcSwap::default(),
            opening: tokio::sync::Mutex::default(),
            ahead: AtomicBool::default(),
            http1: AtomicBool::default(),
            idle: Mutex::default(),
        }))
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0.endpoint
    }

    /// Makes sure that the upstream can be connected to.
    pub(super) async fn warm(&self) -> Result<(), NoAnswer> {
        match self.0.place().await? {
            Some(place) => drop(place),
            None => drop(self.0.connect_http1().await?),
        }
        Ok(())
    }

    /// Sends a request on the connection with the fewest open streams.
    pub(super) async fn send(&self, request: Request<Outbound>) -> Result<(Response<Incoming>, Place), Lost> {
        match self.0.place().await.map_err(Lost::Broken)? {
            Some(place) => place.send(request).await,
            None => Box::pin(self.0.send_http1(request)).await,
        }
    }

    /// A connection of its own with ALPN http/1.1 only, for one upgrade.
    pub(super) async fn dedicated(&self) -> Result<TlsStream<TcpStream>, NoAnswer> {
        self.0.dial(Alpn::Http1).await
    }
}

impl Place {
    async fn send(self, request: Request<Outbound>) -> Result<(Response<Incoming>, Self), Lost> {
        let Taken::Http2(connection) = &self.0 else { return Err(Lost::Unsent(Box::new(request))) };
        let mut sender = connection.sender.clone();
        match sender.try_send_request(request).await {
            Ok(response) => Ok((response, self)),
            Err(error) => Err(lost(error)),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match &mut self.0 {
            Taken::Http2(connection) => {
                connection.open.fetch_sub(1, AcqRel);
            }
            Taken::Http1(sender, shared) => {
                let mut idle = shared.idle.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(sender) = sender.take().filter(|s| !s.is_closed() && idle.len() < IDLE_HTTP1) {
                    idle.push(sender);
                }
            }
        }
    }
}

impl Shared {
    /// A place on an HTTP/2 connection; None when the upstream speaks only HTTP/1.1.
    async fn place(self: &Arc<Self>) -> Result<Option<Place>, NoAnswer> {
        if let Some(place) = self.least_loaded() {
            return Ok(Some(place));
        }
        // Boxed, as every path that a request seldom takes: the future of a request is copied when it is spawned.
        Box::pin(self.first_or_further()).await
    }

    async fn first_or_further(self: &Arc<Self>) -> Result<Option<Place>, NoAnswer> {
        if self.http1.load(Relaxed) {
            return Ok(None);
        }
        let asked = Instant::now();
        let mut last = self.opening.lock().await;
        if let Some(place) = self.least_loaded() {
            return Ok(Some(place));
        }
        // Who has waited for an attempt that failed does not make another one, else a silent upstream would be found out by each
        // in turn.
        if let Some(failed) = last.as_ref().filter(|failed| failed.at > asked) {
            let source = io::Error::new(failed.kind, failed.text.clone());
            return Err(NoAnswer::Connect { upstream: self.endpoint.authority().to_string(), source });
        }
        let opened = self.open().await;
        *last = match &opened {
            Err(NoAnswer::Connect { source, .. }) => {
                Some(Failed { at: Instant::now(), kind: source.kind(), text: source.to_string() })
            }
            _ => None,
        };
        Ok(opened?.map(|connection| take(&connection)))
    }

    fn least_loaded(self: &Arc<Self>) -> Option<Place> {
        let connections = self.connections.load();
        let mut count = 0;
        let (connection, open) = connections
            .iter()
            .filter(|connection| !connection.sender.is_closed())
            .inspect(|_| count += 1)
            .map(|connection| (connection, connection.open.load(Relaxed)))
            .min_by_key(|(_, open)| *open)?;
        let limit = connection.allowed.load(Relaxed).min(self.config.streams_per_connection);
        // From three quarters on a further connection is opened, so that nobody waits for its handshake; with as many
        // connections as there may be, h2 itself queues what exceeds the upstream's limit.
        if open >= limit - limit / 4 && count < self.config.max_connections {
            if open >= limit {
                return None;
            }
            self.open_ahead();
        }
        Some(take(connection))
    }

    fn open_ahead(self: &Arc<Self>) {
        if self.ahead.swap(true, AcqRel) {
            return;
        }
        let this = self.clone();
        tokio::spawn(async move {
            let opening = this.opening.lock().await;
            if let Err(error) = this.open().await {
                tracing::warn!(%error, "cannot open a further upstream connection");
            }
            drop(opening);
            this.ahead.store(false, Relaxed);
        });
    }

    async fn open(&self) -> Result<Option<Arc<Connection>>, NoAnswer> {
        let io = self.dial(Alpn::Http2).await?;
        if io.get_ref().1.alpn_protocol() != Some(b"h2") {
            self.http1.store(true, Relaxed);
            return Ok(None);
        }
        let (sender, mut driver) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(self.connection_window())
            .max_frame_size(FRAME)
            .max_header_list_size(1 << 20)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_ANSWER)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(io))
            .await
            .map_err(NoAnswer::Broken)?;
        let (open, allowed) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(usize::MAX)));
        let connection = Arc::new(Connection { sender, open, allowed: allowed.clone() });
        tokio::spawn(async move {
            let mut polls = 0;
            let ended = poll_fn(|cx| {
                let ended = Pin::new(&mut driver).poll(cx);
                if polls < SETTINGS_BY {
                    polls += 1;
                    allowed.store(driver.current_max_send_streams().max(1), Relaxed);
                }
                ended
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        self.connections.rcu(|all| {
            let mut all: Vec<_> = all.iter().filter(|c| !c.sender.is_closed()).cloned().collect();
            all.push(connection.clone());
            all
        });
        Ok(Some(connection))
    }

    fn connection_window(&self) -> u32 {
        let streams = u32::try_from(self.config.streams_per_connection).unwrap_or(u32::MAX);
        STREAM_WINDOW.saturating_mul(streams).min(LARGEST_WINDOW)
    }

    /// A connection that takes a request now. One whose last request is still being sent, though it has been answered, is left
    /// where it is.
    fn idle_http1(&self) -> Option<http1::SendRequest<Outbound>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        let at = idle.iter().rposition(http1::SendRequest::is_ready)?;
        Some(idle.swap_remove(at))
    }

    async fn dial(&self, alpn: Alpn) -> Result<TlsStream<TcpStream>, NoAnswer> {
        let endpoint = &self.endpoint;
        let connect = async {
            let tcp = TcpStream::connect(endpoint.address()).await?;
            tcp.set_nodelay(true)?;
            sockets::keep_alive(&tcp)?;
            let tls = match alpn {
                Alpn::Http2 => endpoint.tls(),
                Alpn::Http1 => endpoint.tls_http1(),
            };
            TlsConnector::from(tls.clone()).connect(endpoint.server_name().clone(), tcp).await
        };
        let timed_out = || io::Error::new(io::ErrorKind::TimedOut, "timed out");
        let connected = timeout(self.config.connect_timeout, connect).await;
        connected
            .unwrap_or_else(|_| Err(timed_out()))
            .map_err(|source| NoAnswer::Connect { upstream: endpoint.authority().to_string(), source })
    }

    async fn connect_http1(&self) -> Result<http1::SendRequest<Outbound>, NoAnswer> {
        let io = self.dial(Alpn::Http1).await?;
        let (sender, driver) = http1::handshake(TokioIo::new(io)).await.map_err(NoAnswer::Broken)?;
        tokio::spawn(driver);
        Ok(sender)
    }

    async fn send_http1(
        self: &Arc<Self>,
        mut request: Request<Outbound>,
    ) -> Result<(Response<Incoming>, Place), Lost> {
        *request.version_mut() = Version::HTTP_11;
        request.headers_mut().insert(header::HOST, self.endpoint.host_header().clone());
        if let Some(target) = request.uri().path_and_query().cloned() {
            *request.uri_mut() = Uri::from(target);
        }
        let mut sender = match self.idle_http1() {
            Some(sender) => sender,
            None => self.connect_http1().await.map_err(Lost::Broken)?,
        };
        match sender.try_send_request(request).await {
            Ok(response) => Ok((response, Place(Taken::Http1(Some(sender), self.clone())))),
            Err(error) => Err(lost(error)),
        }
    }
}

/// What was wrong at the last attempt to connect, for everybody who waited for it.
#[derive(Debug)]
struct Failed {
    at: Instant,
    kind: io::ErrorKind,
    text: String,
}

#[derive(Clone, Copy)]
enum Alpn {
    Http2,
    Http1,
}

fn take(connection: &Arc<Connection>) -> Place {
    connection.open.fetch_add(1, AcqRel);
    Place(Taken::Http2(connection.clone()))
}

fn lost(mut error: TrySendError<Request<Outbound>>) -> Lost {
    if let Some(request) = error.take_message() {
        return Lost::Unsent(Box::new(request));
    }
    let error = error.into_error();
    let source = error.source();
    if let Some(body) = source.and_then(|source| source.downcast_ref::<BadBody>()) {
        return Lost::Broken(NoAnswer::Body(body.clone()));
    }
    let unprocessed = source.and_then(|source| source.downcast_ref::<h2::Error>()).is_some_and(|h2| {
        let refused = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
        let leaving = h2.is_go_away() && h2.reason() == Some(h2::Reason::NO_ERROR);
        h2.is_remote() && (refused || leaving)
    });
    match unprocessed {
        true => Lost::Unprocessed(NoAnswer::Broken(error)),
        false => Lost::Broken(NoAnswer::Broken(error)),
    }
}
