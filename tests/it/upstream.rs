//! An upstream that answers from a script and remembers every byte it was sent: what the gate really puts on the wire.

use crate::raw::Identity;
use gatelog::demo::pki::Ca;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
    server::TlsStream,
};

/// What the upstream does after a request's head and body have arrived.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Sends bytes.
    Say(Vec<u8>),
    /// Returns whatever arrives, until the peer ends; remembers it as [`Heard::after`].
    Echo,
    /// Takes whatever arrives, until the peer ends; remembers it as [`Heard::after`].
    Listen,
    /// Ends the connection.
    Close,
}

impl Act {
    /// A whole answer with this status line and body.
    pub(crate) fn answer(status: &str, body: &str) -> Self {
        let length = body.len();
        Self::Say(
            format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
                .into_bytes(),
        )
    }

    /// Bytes as they are.
    pub(crate) fn say(bytes: &str) -> Self {
        Self::Say(bytes.as_bytes().to_vec())
    }
}

/// A request as it arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard {
    /// Request line and headers.
    pub(crate) head: String,
    /// The body, without its coding.
    pub(crate) body: Vec<u8>,
    /// What followed.
    pub(crate) after: Vec<u8>,
    /// Whether the peer has ended the connection.
    pub(crate) ended: bool,
}

impl Heard {
    /// The values of a header; `name` in any case.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.headers().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v).collect()
    }

    /// Every header, in order.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.head.lines().skip(1).filter_map(|l| l.split_once(": "))
    }

    /// Method and target.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

type Script = dyn Fn(&Heard) -> Vec<Act> + Send + Sync;

/// A TLS server for HTTP/1.1.
#[derive(Clone)]
pub(crate) struct Upstream {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    changed: watch::Sender<u64>,
    accepting: Arc<Mutex<Option<AbortHandle>>>,
}

impl Upstream {
    /// Listens; `script` decides what each request gets.
    pub(crate) async fn start(ca: &Ca, script: impl Fn(&Heard) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), ca, script).await
    }

    /// Goes away: nobody listens any more, and the open connections are cut.
    pub(crate) fn stop(&self) {
        if let Some(accepting) = self.accepting.lock().unwrap().take() {
            accepting.abort();
        }
    }

    /// From now on `gone` stops this one.
    pub(crate) fn replaces(self, gone: &Self) {
        *gone.accepting.lock().unwrap() = self.accepting.lock().unwrap().take();
    }

    /// Listens on a given address.
    pub(crate) async fn at(
        addr: SocketAddr,
        ca: &Ca,
        script: impl Fn(&Heard) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let pair = ca.server(&["127.0.0.1"]).unwrap();
        let identity = Identity { chain: pair.certificates(), key: pair.key };
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let chain =
            CertificateDer::pem_slice_iter(identity.chain.as_bytes()).collect::<Result<_, _>>().unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap())
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(addr).await.unwrap();
        let upstream = Self {
            addr: listener.local_addr().unwrap(),
            heard: Arc::default(),
            changed: watch::Sender::new(0),
            accepting: Arc::default(),
        };
        let (me, script): (_, Arc<Script>) = (upstream.clone(), Arc::new(script));
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, me, script) = (acceptor.clone(), me.clone(), script.clone());
                connections.spawn(async move {
                    if let Ok(io) = acceptor.accept(tcp).await {
                        me.serve(io, &*script).await;
                    }
                });
            }
        });
        *upstream.accepting.lock().unwrap() = Some(accepting.abort_handle());
        upstream
    }

    /// What was heard so far.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// What was heard once `enough` holds for it.
    pub(crate) async fn until(&self, enough: impl Fn(&[Heard]) -> bool) -> Vec<Heard> {
        let mut changed = self.changed.subscribe();
        let waited = timeout(Duration::from_secs(20), async {
            while !enough(&self.heard.lock().unwrap()) {
                changed.changed().await.unwrap();
            }
        });
        assert!(waited.await.is_ok(), "the upstream heard only {:#?}", self.heard());
        self.heard()
    }

    fn note(&self, change: impl FnOnce(&mut Vec<Heard>)) {
        change(&mut self.heard.lock().unwrap());
        self.changed.send_modify(|n| *n += 1);
    }

    async fn serve(&self, mut io: TlsStream<TcpStream>, script: &Script) {
        let mut read = Vec::new();
        loop {
            let Some(request) = next(&mut io, &mut read).await else { return };
            let acts = script(&request);
            let mut at = 0;
            self.note(|heard| {
                at = heard.len();
                heard.push(request);
            });
            for act in acts {
                let done = match act {
                    Act::Say(bytes) => io.write_all(&bytes).await.and(io.flush().await).is_ok(),
                    Act::Echo | Act::Listen => {
                        let echo = matches!(act, Act::Echo);
                        self.listen(&mut io, &mut read, at, echo).await;
                        false
                    }
                    Act::Close => {
                        let _ = io.shutdown().await;
                        false
                    }
                };
                if !done {
                    return;
                }
            }
        }
    }

    async fn listen(&self, io: &mut TlsStream<TcpStream>, read: &mut Vec<u8>, at: usize, echo: bool) {
        loop {
            let bytes = std::mem::take(read);
            if echo && !bytes.is_empty() && (io.write_all(&bytes).await.is_err() || io.flush().await.is_err())
            {
                break;
            }
            self.note(|heard| heard[at].after.extend(bytes));
            if !matches!(io.read_buf(read).await, Ok(n) if n > 0) {
                break;
            }
        }
        self.note(|heard| heard[at].ended = true);
    }
}

/// The next request with its body.
async fn next(io: &mut TlsStream<TcpStream>, read: &mut Vec<u8>) -> Option<Heard> {
    let end = until(io, read, |b| b.windows(4).position(|w| w == b"\r\n\r\n")).await?;
    let head: Vec<u8> = read.drain(..end + 4).collect();
    let mut heard = Heard { head: String::from_utf8_lossy(&head).into_owned(), ..Heard::default() };
    if heard.values("transfer-encoding") == ["chunked"] {
        loop {
            let end = until(io, read, |b| b.windows(2).position(|w| w == b"\r\n")).await?;
            let line: Vec<u8> = read.drain(..end + 2).collect();
            let size = usize::from_str_radix(std::str::from_utf8(&line).ok()?.trim(), 16).ok()?;
            until(io, read, |b| (b.len() >= size + 2).then_some(0)).await?;
            heard.body.extend(read.drain(..size + 2).take(size));
            if size == 0 {
                break;
            }
        }
    } else if let [length] = heard.values("content-length")[..] {
        let length = length.parse().ok()?;
        until(io, read, |b| (b.len() >= length).then_some(0)).await?;
        heard.body = read.drain(..length).collect();
    }
    Some(heard)
}

async fn until(
    io: &mut TlsStream<TcpStream>,
    read: &mut Vec<u8>,
    found: impl Fn(&[u8]) -> Option<usize>,
) -> Option<usize> {
    loop {
        if let Some(at) = found(read) {
            return Some(at);
        }
        if !matches!(io.read_buf(read).await, Ok(n) if n > 0) {
            return None;
        }
    }
}
