//! A client that sends what it is told, byte for byte, and reads an answer without repairing it.
//!
//! Libraries refuse to send most of what an attacker would, and hide most of what an answer says about its connection.

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    },
};

/// Nothing on a loopback takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client certificate and its key, as PEM.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    /// Leaf first.
    pub(crate) chain: String,
    /// PKCS#8.
    pub(crate) key: String,
}

/// How to connect: whom to trust, what to present, which protocol to speak.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
}

impl Tls {
    /// `alpn` as it goes over the wire; empty offers none. Configurations are remembered: loading roots is slow in a debug build.
    pub(crate) fn new(ca: &str, identity: Option<&Identity>, alpn: &'static str) -> Self {
        type Key = (String, Option<Identity>, &'static str);
        static KNOWN: OnceLock<Mutex<HashMap<Key, Tls>>> = OnceLock::new();
        let key = (ca.to_owned(), identity.cloned(), alpn);
        let mut known = KNOWN.get_or_init(Default::default).lock().unwrap();
        known.entry(key).or_insert_with(|| Self::load(ca, identity, alpn)).clone()
    }

    fn load(ca: &str, identity: Option<&Identity>, alpn: &str) -> Self {
        let mut roots = RootCertStore::empty();
        for der in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            roots.add(der.unwrap()).unwrap();
        }
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(i) => {
                let chain =
                    CertificateDer::pem_slice_iter(i.chain.as_bytes()).collect::<Result<_, _>>().unwrap();
                builder
                    .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(i.key.as_bytes()).unwrap())
                    .unwrap()
            }
        };
        if !alpn.is_empty() {
            config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        }
        Self { config: Arc::new(config) }
    }
}

/// An answer as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    /// 0 if the connection ended without one.
    pub(crate) code: u16,
    /// Names lower-cased, in order.
    pub(crate) headers: Vec<(String, String)>,
    /// Without its transfer coding.
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The first value of a header; `name` in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The body as JSON, null if it is none.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// An open connection.
pub(crate) struct Wire {
    io: TlsStream<TcpStream>,
    read: Vec<u8>,
}

impl Wire {
    /// Connects and shakes hands.
    pub(crate) async fn open(addr: SocketAddr, tls: &Tls) -> io::Result<Self> {
        Self::open_from(Ipv4Addr::LOCALHOST, addr, tls).await
    }

    /// The same from another address of the loopback.
    pub(crate) async fn open_from(from: Ipv4Addr, addr: SocketAddr, tls: &Tls) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let tcp = socket.connect(addr).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::from(addr.ip());
        let io = timeout(PATIENCE, TlsConnector::from(Arc::clone(&tls.config)).connect(name, tcp)).await??;
        Ok(Self { io, read: Vec::new() })
    }

    /// The protocol that the handshake settled on.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.io.get_ref().1.alpn_protocol()
    }

    /// The server's certificate, DER.
    pub(crate) fn certificate(&self) -> Vec<u8> {
        self.io.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    /// Sends bytes.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        timeout(PATIENCE, async {
            self.io.write_all(bytes.as_ref()).await?;
            self.io.flush().await
        })
        .await?
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        timeout(PATIENCE, self.io.shutdown()).await?
    }

    /// Reads more; false at the end of the stream or of the patience with it.
    pub(crate) async fn more(&mut self) -> bool {
        matches!(timeout(PATIENCE, self.io.read_buf(&mut self.read)).await, Ok(Ok(n)) if n > 0)
    }

    /// Whether the peer closes the connection without sending anything more than it already has.
    pub(crate) async fn closes(&mut self) -> bool {
        let had = self.read.len();
        loop {
            match timeout(PATIENCE, self.io.read_buf(&mut self.read)).await {
                Ok(Ok(0) | Err(_)) => return self.read.len() == had,
                Ok(Ok(_)) => {}
                Err(_) => return false,
            }
        }
    }

    /// Reads exactly `n` bytes, fewer at the end.
    pub(crate) async fn take(&mut self, n: usize) -> Vec<u8> {
        while self.read.len() < n && self.more().await {}
        let n = n.min(self.read.len());
        self.read.drain(..n).collect()
    }

    /// Status line and headers of the next answer (an interim 100 is skipped).
    pub(crate) async fn head(&mut self) -> Reply {
        loop {
            let end = loop {
                if let Some(at) = find(&self.read, b"\r\n\r\n") {
                    break at;
                }
                if !self.more().await {
                    return Reply::default();
                }
            };
            let head: Vec<u8> = self.read.drain(..end + 4).collect();
            let head = String::from_utf8_lossy(&head);
            let mut lines = head.trim_end().split("\r\n");
            let code = lines.next().and_then(|l| l.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
            if code == 100 {
                continue;
            }
            let headers = lines
                .filter_map(|l| l.split_once(':'))
                .map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()))
                .collect();
            return Reply { code, headers, body: Vec::new() };
        }
    }

    /// The next answer, whole. `method` decides whether there is a body.
    pub(crate) async fn reply(&mut self, method: &str) -> Reply {
        let mut reply = self.head().await;
        if method == "HEAD" || matches!(reply.code, 0 | 101 | 204 | 304) {
            return reply;
        }
        if reply.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            while let Some(chunk) = self.chunk().await {
                reply.body.extend(chunk);
            }
        } else if let Some(n) = reply.header("content-length").and_then(|v| v.parse().ok()) {
            reply.body = self.take(n).await;
        } else {
            while self.more().await {}
            reply.body = std::mem::take(&mut self.read);
        }
        reply
    }

    /// The next chunk of a chunked body; None at its end.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let end = loop {
            if let Some(at) = find(&self.read, b"\r\n") {
                break at;
            }
            if !self.more().await {
                return None;
            }
        };
        let line: Vec<u8> = self.read.drain(..end + 2).collect();
        let size = std::str::from_utf8(&line).ok()?.trim().split(';').next()?.to_owned();
        let size = usize::from_str_radix(&size, 16).ok()?;
        let mut chunk = self.take(size + 2).await;
        chunk.truncate(size);
        (size > 0).then_some(chunk)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// One request on a connection of its own, from this address of the loopback; of a stream only the head.
pub(crate) async fn ask_from(
    from: Ipv4Addr,
    addr: SocketAddr,
    tls: &Tls,
    method: &str,
    request: &[u8],
    stream: bool,
) -> io::Result<Reply> {
    let mut wire = Wire::open_from(from, addr, tls).await?;
    wire.send(request).await?;
    Ok(if stream { wire.head().await } else { wire.reply(method).await })
}

/// The same over HTTP/2.
pub(crate) async fn ask_http2(
    from: Ipv4Addr,
    addr: SocketAddr,
    tls: &Tls,
    request: http::Request<()>,
    body: &str,
    stream: bool,
) -> Result<Reply, Box<dyn std::error::Error>> {
    let wire = Wire::open_from(from, addr, tls).await?;
    let (send, connection) = h2::client::handshake(wire.io).await?;
    let driver = tokio::spawn(connection);
    let asked = async {
        let (response, mut out) = send.ready().await?.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            out.send_data(body.as_bytes().to_vec().into(), true)?;
        }
        let (head, mut rest) = response.await?.into_parts();
        let text = |v: &http::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
        let headers = head.headers.iter().map(|(n, v)| (n.to_string(), text(v))).collect();
        let mut reply = Reply { code: head.status.as_u16(), headers, body: Vec::new() };
        while !stream && let Some(data) = rest.data().await {
            let data = data?;
            rest.flow_control().release_capacity(data.len())?;
            reply.body.extend(&data);
        }
        Ok(reply)
    };
    let reply = timeout(PATIENCE, asked).await?;
    driver.abort();
    reply
}

/// A connection over which many can be asked at once.
pub(crate) async fn http2(addr: SocketAddr, tls: &Tls) -> io::Result<http2::SendRequest<Full<Bytes>>> {
    let wire = Wire::open(addr, tls).await?;
    let io = TokioIo::new(wire.io);
    let (send, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(send)
}

/// One request on a connection of its own.
pub(crate) async fn ask(addr: SocketAddr, tls: &Tls, method: &str, request: &[u8]) -> io::Result<Reply> {
    let mut wire = Wire::open(addr, tls).await?;
    wire.send(request).await?;
    Ok(wire.reply(method).await)
}

/// Everything a server says over plain TCP to these bytes.
pub(crate) async fn plain(addr: SocketAddr, request: &[u8]) -> String {
    let mut tcp = TcpStream::connect(addr).await.unwrap();
    tcp.write_all(request).await.unwrap();
    let mut text = Vec::new();
    let _ = timeout(PATIENCE, tcp.read_to_end(&mut text)).await;
    String::from_utf8_lossy(&text).into_owned()
}

/// Whether the peer ends this connection.
pub(crate) async fn hangs_up(tcp: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    timeout(PATIENCE, tcp.read_to_end(&mut rest)).await.is_ok()
}
