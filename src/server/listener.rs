//! The front door: accepts connections, ends TLS, speaks HTTP/1.1 and HTTP/2, and drains when told to.

use crate::{
    authn::Conn,
    gateway::{Client, Gateway, answer::CloseAfter},
    telemetry::Metrics,
};
use http::Request;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    error::Error as _,
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, interval, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// What bounds a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Connections at once; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// For the TLS handshake.
    pub handshake_timeout: Duration,
    /// For a request's head (kube-apiserver: 32 s).
    pub read_header_timeout: Duration,
    /// How long a connection may stay without a request (kube-apiserver: 90 s).
    pub idle_timeout: Duration,
    /// The largest header block, in bytes, on both protocols (kube-apiserver: 1 MiB).
    pub max_header_bytes: usize,
    /// Header lines at most.
    pub max_headers: usize,
    /// HTTP/2 streams at once on a connection.
    pub max_streams_per_connection: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            handshake_timeout: Duration::from_secs(10),
            read_header_timeout: Duration::from_secs(32),
            idle_timeout: Duration::from_secs(90),
            max_header_bytes: 1 << 20,
            max_headers: 1_000,
            max_streams_per_connection: 250,
        }
    }
}

/// kube-apiserver's words for a caller who forgot the `s` in `https`.
const PLAIN_HTTP: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// Streams reset by a caller before they were accepted (rapid reset, CVE-2023-44487) and streams the gate resets for a
/// caller's errors (MadeYouReset, CVE-2025-8671) before the connection is ended.
const PENDING_RESETS: usize = 20;
const ERROR_RESETS: usize = 256;

/// How often a connection is looked at for requests that outlive their time; longer than that time. A caller who reads nothing
/// is not noticed otherwise: hyper asks for no more of an answer that it cannot write.
const OVERDUE: Duration = Duration::from_secs(75);

const PING_EVERY: Duration = Duration::from_secs(30);
const PING_ANSWER: Duration = Duration::from_secs(15);

/// How far the gate is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    /// No new connections; the old ones end when they are idle.
    Draining,
    /// Nothing more is waited for.
    Cut,
}

impl Phase {
    fn leaving(&self) -> bool {
        *self != Self::Serving
    }
}

/// The accepting side of the gate.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) tcp: TcpListener,
    pub(super) gateway: Arc<Gateway>,
    pub(super) config: Arc<Config>,
    pub(super) places: Arc<Semaphore>,
}

impl Listener {
    /// Accepts while serving; connections live on by themselves and drain by the same signal.
    pub(super) async fn run(self, mut phase: watch::Receiver<Phase>) {
        let metrics = self.gateway.metrics().clone();
        loop {
            let place = tokio::select! {
                _ = phase.wait_for(Phase::leaving) => return,
                place = self.places.clone().acquire_owned() => match place {
                    Ok(place) => place,
                    Err(_) => return,
                },
            };
            let accepted = tokio::select! {
                _ = phase.wait_for(Phase::leaving) => return,
                accepted = self.tcp.accept() => accepted,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    let connection = Connection {
                        gateway: self.gateway.clone(),
                        config: self.config.clone(),
                        phase: phase.clone(),
                        peer,
                    };
                    tokio::spawn(connection.serve(tcp, place, metrics.clone()));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: trying again at once would only spin.
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

struct Connection {
    gateway: Arc<Gateway>,
    config: Arc<Config>,
    phase: watch::Receiver<Phase>,
    peer: SocketAddr,
}

impl Connection {
    async fn serve(self, tcp: TcpStream, place: OwnedSemaphorePermit, metrics: Arc<Metrics>) {
        let _counted = Counted::new(&metrics);
        let mut phase = self.phase.clone();
        let shaken = tokio::select! {
            shaken = timeout(self.config.handshake_timeout, self.handshake(tcp)) => shaken,
            _ = phase.wait_for(Phase::leaving) => return,
        };
        match shaken {
            Ok(Ok(Some(tls))) => self.speak(tls, place, &metrics).await,
            Ok(Ok(None)) => metrics.malformed.inc(),
            Ok(Err(error)) => {
                metrics.tls_handshake_errors.inc();
                tracing::debug!(peer = %self.peer, %error, "TLS handshake failed");
            }
            Err(_) => {
                metrics.tls_handshake_errors.inc();
                tracing::debug!(peer = %self.peer, "TLS handshake timed out");
            }
        }
    }

    /// None when the peer speaks plain HTTP; it has been told so.
    async fn handshake(&self, mut tcp: TcpStream) -> io::Result<Option<TlsStream<TcpStream>>> {
        tcp.set_nodelay(true)?;
        let mut first = [0];
        if tcp.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first[0].is_ascii_uppercase() {
            tcp.write_all(PLAIN_HTTP).await?;
            tcp.shutdown().await?;
            return Ok(None);
        }
        let tls = self.gateway.snapshot().tls.clone();
        TlsAcceptor::from(tls).accept(tcp).await.map(Some)
    }

    async fn speak(self, tls: TlsStream<TcpStream>, place: OwnedSemaphorePermit, metrics: &Metrics) {
        let session = tls.get_ref().1;
        let http2 = session.alpn_protocol() == Some(b"h2");
        let certificates = session.peer_certificates().unwrap_or_default();
        let conn = Conn::new(self.peer, certificates.iter().map(|c| c.clone().into_owned()).collect());
        let trusted = self.gateway.audit().trusts(self.peer.ip());
        let client = Arc::new(Client::new(conn, trusted).holding(place));
        let served = (self.gateway.clone(), client.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (gateway, client) = served.clone();
            async move {
                let response = gateway.serve(&client, request).await;
                if http2 && response.extensions().get::<CloseAfter>().is_some() {
                    client.close.notify_one();
                }
                Ok::<_, Infallible>(response)
            }
        });
        let io = TokioIo::new(tls);
        let ended = if http2 {
            let conn = pin!(self.http2().serve_connection(io, service));
            self.drive(conn, |conn| conn.graceful_shutdown(), &client).await
        } else {
            let conn = pin!(self.http1().serve_connection(io, service).with_upgrades());
            self.drive(conn, |conn| conn.graceful_shutdown(), &client).await
        };
        if let Err(error) = ended {
            // What hyper answers or refuses by itself never becomes a request of ours.
            if error.is_parse() || broke_http2(&error) {
                metrics.malformed.inc();
            }
            tracing::debug!(peer = %self.peer, %error, "connection ended");
        }
    }

    fn http1(&self) -> http1::Builder {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(self.config.read_header_timeout)
            .max_headers(self.config.max_headers)
            .max_header_size(self.config.max_header_bytes)
            .max_buf_size(self.config.max_header_bytes.saturating_add(64 << 10));
        http1
    }

    fn http2(&self) -> http2::Builder<TokioExecutor> {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.config.max_streams_per_connection)
            .max_header_list_size(u32::try_from(self.config.max_header_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_local_error_reset_streams(ERROR_RESETS)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .max_frame_size(64 << 10)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_ANSWER);
        http2
    }

    /// Runs a connection to its end, and asks it to end (GOAWAY, `Connection: close`) when the gate drains, when an
    /// answer was its last, or when it has been idle for too long.
    async fn drive<C>(
        &self,
        mut conn: Pin<&mut C>,
        end: impl Fn(Pin<&mut C>),
        client: &Client,
    ) -> hyper::Result<()>
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let (mut phase, mut cut) = (self.phase.clone(), self.phase.clone());
        let mut asked = false;
        let mut idle = client.idle();
        let mut idle_timer = pin!(sleep(self.config.idle_timeout));
        let mut look = interval(OVERDUE);
        loop {
            tokio::select! {
                ended = conn.as_mut() => return ended,
                _ = cut.wait_for(|phase| *phase == Phase::Cut) => {
                    client.cut();
                    return Ok(());
                }
                _ = phase.wait_for(Phase::leaving), if !asked => {}
                () = client.close.notified(), if !asked => {}
                () = &mut idle_timer => {
                    idle_timer.as_mut().reset(Instant::now() + self.config.idle_timeout);
                    let before = std::mem::replace(&mut idle, client.idle());
                    if idle.is_none() || idle != before {
                        continue;
                    }
                    // Asked to end and with nothing left to do, it has not: the peer does not take its last answer.
                    if asked {
                        return Ok(());
                    }
                }
                _ = look.tick() => {
                    if client.overdue() {
                        return Ok(());
                    }
                    continue;
                }
            }
            end(conn.as_mut());
            asked = true;
        }
    }
}

/// Whether the caller broke HTTP/2's rules so that the connection had to be ended.
fn broke_http2(error: &hyper::Error) -> bool {
    let h2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    h2.is_some_and(|h2| h2.is_library() && h2.is_go_away() && h2.reason() != Some(h2::Reason::NO_ERROR))
}

/// Counts a connection while it lives.
struct Counted(prometheus::IntGauge);

impl Counted {
    fn new(metrics: &Metrics) -> Self {
        metrics.connections.inc();
        Self(metrics.connections.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
