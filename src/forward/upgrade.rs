//! Upgrades: a connection of its own to the upstream, its answer judged before the caller gets one, then bytes both ways.
//!
//! Only a 101 that switches to the protocol that was asked for, with a subprotocol that was offered, joins the two
//! sides (CVE-2018-1002105 came of less); an error is relayed and both connections end; anything else is a 500.

use super::{Answered, NoAnswer, Wanted, pool::Pool};
use crate::{
    body::Outbound,
    streams::{Lease, Reason},
};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use hyper::{
    client::conn::http1,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    time::timeout,
};

/// How long the upstream may go on after the caller has ended its half, and the other way about.
const HALF_CLOSED: Duration = Duration::from_secs(10);

/// How long a caller says nothing before what it said is taken to have arrived.
const LULL: Duration = Duration::from_millis(10);

/// Both sides have agreed to switch; nothing flows until [`Tunnel::join`].
#[derive(Debug)]
pub struct Tunnel {
    caller: OnUpgrade,
    upstream: OnUpgrade,
}

/// The bytes that have flowed, readable while the tunnel runs.
#[derive(Debug, Default)]
pub struct Flow {
    /// Caller to upstream.
    pub from_caller: AtomicU64,
    /// Upstream to caller.
    pub to_caller: AtomicU64,
}

/// The protocol the caller asks to switch to: `Connection` names `upgrade` and `Upgrade` says what to. HTTP/1.0 and
/// HTTP/2 have no upgrades.
pub fn asked(request: &http::request::Parts) -> Option<HeaderValue> {
    if request.version != http::Version::HTTP_11 {
        return None;
    }
    let named = request.headers.get_all(header::CONNECTION).iter().any(|value| {
        value.to_str().is_ok_and(|text| text.split(',').any(|t| t.trim().eq_ignore_ascii_case("upgrade")))
    });
    named.then(|| request.headers.get(header::UPGRADE).cloned()).flatten()
}

/// Sends an upgrade request on a connection of its own and judges the answer.
pub(super) async fn send(
    pool: &Pool,
    request: Request<Outbound>,
    wanted: Wanted,
) -> Result<Answered, NoAnswer> {
    let io = pool.dedicated().await?;
    let (mut sender, driver) = http1::handshake(TokioIo::new(io)).await.map_err(NoAnswer::Broken)?;
    tokio::spawn(driver.with_upgrades());
    let offered = request.headers().clone();
    let mut response = sender.send_request(request).await.map_err(NoAnswer::Broken)?;
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => {
            agreed(&offered, response.headers())?;
            let upstream = hyper::upgrade::on(&mut response);
            let tunnel = Tunnel { caller: wanted.caller, upstream };
            Ok(Answered::Tunnel { response: response.map(drop), tunnel })
        }
        status if status.as_u16() >= 400 => Ok(Answered::Body { response, place: None }),
        status => Err(NoAnswer::NotUpgraded(status.as_u16())),
    }
}

/// Whether a 101 switches to what was asked for.
fn agreed(offered: &HeaderMap, answer: &HeaderMap) -> Result<(), NoAnswer> {
    let refuse = |got: String, asked: String| Err(NoAnswer::WrongProtocol { got, asked });
    let (asked, got) = (joined(offered, "upgrade"), joined(answer, "upgrade"));
    if !asked.eq_ignore_ascii_case(&got) {
        return refuse(got, asked);
    }
    if asked.eq_ignore_ascii_case("websocket")
        && joined(answer, "sec-websocket-accept") != accept(&joined(offered, "sec-websocket-key"))
    {
        return refuse("a Sec-WebSocket-Accept that does not fit the key".into(), asked);
    }
    for name in ["sec-websocket-protocol", "x-stream-protocol-version"] {
        let (asked, got) = (joined(offered, name), joined(answer, name));
        if !got.is_empty() && !asked.split(',').any(|one| one.trim() == got) {
            return refuse(format!("{name}: {got}"), format!("{name}: {asked}"));
        }
    }
    Ok(())
}

fn joined(headers: &HeaderMap, name: &str) -> String {
    let all: Vec<_> =
        headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    all.join(",")
}

/// RFC 6455 section 4.2.2: the key and a fixed GUID, hashed.
fn accept(key: &str) -> String {
    const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    base64(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes()).as_ref())
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let missing = 3 - chunk.len();
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * missing);
        for place in 0..4 {
            let six = (word >> (18 - 6 * place)) as usize & 63;
            text.push(if place <= chunk.len() { char::from(ALPHABET[six]) } else { '=' });
        }
    }
    text
}

/// The caller's side of a tunnel that is over.
#[derive(Debug)]
pub struct Goodbye(TokioIo<Upgraded>);

impl Tunnel {
    /// Joins the two sides until one ends, or `lease` ends the tunnel by name. Returns why it ended when it was not a plain
    /// end, and the caller's side, which knows nothing of the end yet.
    ///
    /// A caller that has ended its half gets what still comes for ten seconds more; so does one that has more to say than the
    /// upstream wants to hear. When the upstream has ended, it is over once what is on its way to it has been passed on:
    /// neither protocol goes on after that, and the caller is told only then.
    pub async fn join(self, flow: &Flow, lease: &Lease) -> (Option<Reason>, Option<Goodbye>) {
        let mut joined = None;
        let relayed = async {
            let (caller, upstream) =
                tokio::try_join!(self.caller, self.upstream).map_err(io::Error::other)?;
            relay(joined.insert(TokioIo::new(caller)), TokioIo::new(upstream), flow).await
        };
        let why = tokio::select! {
            reason = lease.ended() => Some(reason),
            result = relayed => result.err().map(|error| error.to_string().into()),
        };
        (why, joined.map(Goodbye))
    }
}

impl Goodbye {
    /// Tells the caller that it is over. What he still says is read for a moment and goes nowhere: a connection that is closed upon
    /// unread bytes is reset, and the caller may lose what he has not read himself.
    pub async fn close(mut self) {
        let _ = timeout(HALF_CLOSED, async {
            self.0.shutdown().await?;
            let mut nowhere = [0; 1024];
            while self.0.read(&mut nowhere).await? > 0 {}
            io::Result::Ok(())
        })
        .await;
    }
}

async fn relay<C, U>(caller: &mut C, upstream: U, flow: &Flow) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite,
{
    let (from_caller, mut to_caller) = split(caller);
    let (from_upstream, mut to_upstream) = split(upstream);
    let busy = AtomicBool::new(false);
    let up = async {
        match copy(from_caller, &mut to_upstream, &flow.from_caller, &busy).await {
            Err(Stopped::Reading(error)) => return Err(error),
            // An upstream that takes no more may have said a last word, such as how a command ended.
            Ok(()) | Err(Stopped::Writing(_)) => {}
        }
        let _ = to_upstream.shutdown().await;
        Ok(())
    };
    let unheeded = AtomicBool::new(false);
    let down = async {
        let copied = copy(from_upstream, &mut to_caller, &flow.to_caller, &unheeded).await;
        copied.map_err(|(Stopped::Reading(error) | Stopped::Writing(error))| error)
    };
    tokio::pin!(up, down);
    let late = |_| {
        let why = "the caller's side ended, the upstream's did not within 10 s";
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
    };
    tokio::select! {
        first = &mut up => { first?; timeout(HALF_CLOSED, down).await.unwrap_or_else(late) }
        over = &mut down => {
            over?;
            let quiet = async {
                let mut before = None;
                while timeout(LULL, &mut up).await.is_err() {
                    let passed = flow.from_caller.load(Relaxed);
                    if before.replace(passed) == Some(passed) && !busy.load(Relaxed) {
                        break;
                    }
                }
            };
            // It may be that nobody listens any more.
            let _ = timeout(HALF_CLOSED, quiet).await;
            Ok(())
        }
    }
}

/// Why bytes are passed on no longer.
enum Stopped {
    Reading(io::Error),
    Writing(io::Error),
}

/// Passes bytes on until there are no more; `busy` while it has some in hand.
async fn copy<R, W>(mut from: R, mut to: W, passed: &AtomicU64, busy: &AtomicBool) -> Result<(), Stopped>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; 32 << 10];
    loop {
        let n = match from.read(&mut buffer).await {
            Ok(0) => break,
            Ok(n) => n,
            // Many peers leave a TLS connection without its close_notify.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(Stopped::Reading(error)),
        };
        busy.store(true, Relaxed);
        to.write_all(buffer.get(..n).unwrap_or_default()).await.map_err(Stopped::Writing)?;
        to.flush().await.map_err(Stopped::Writing)?;
        passed.fetch_add(n as u64, Relaxed);
        busy.store(false, Relaxed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };
    use tokio::io::ReadBuf;

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        headers.iter().map(|(n, v)| (http::HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn a_101_must_switch_to_what_was_asked_for() {
        // RFC 6455 section 1.3 gives this key and its answer.
        let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let fits = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let ws = ("upgrade", "websocket");
        let v5 = ("sec-websocket-protocol", "v5.channel.k8s.io");
        let spdy = ("upgrade", "SPDY/3.1");
        let v4 = ("x-stream-protocol-version", "v4.channel.k8s.io");
        type Headers<'a> = &'a [(&'static str, &'static str)];
        let rows: [(Headers, Headers, bool); 10] = [
            (&[ws, key, v5], &[ws, fits, v5], true),
            (&[ws, key, v5], &[("upgrade", "WebSocket"), fits, v5], true),
            (&[ws, key], &[ws, fits], true),
            (&[ws, key, v5], &[spdy], false),
            (&[ws, key, v5], &[fits, v5], false),
            (&[ws, key, v5], &[ws, ("sec-websocket-accept", "AAAA"), v5], false),
            (&[ws, key, v5], &[ws, fits, ("sec-websocket-protocol", "v4.channel.k8s.io")], false),
            (&[spdy, ("x-stream-protocol-version", "v5.channel.k8s.io"), v4], &[spdy, v4], true),
            (&[spdy, v4], &[spdy, ("x-stream-protocol-version", "v1.channel.k8s.io")], false),
            (&[spdy, v4], &[ws], false),
        ];
        for (offered, answer, fine) in rows {
            let mut headers = HeaderMap::new();
            offered.iter().for_each(|(n, v)| {
                headers.append(*n, HeaderValue::from_static(v));
            });
            assert_eq!(agreed(&headers, &map(answer)).is_ok(), fine, "{offered:?} -> {answer:?}");
        }
    }

    #[test]
    fn base64_as_in_rfc_4648() {
        for (plain, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(plain.as_bytes()), text);
        }
    }

    #[tokio::test]
    async fn bytes_flow_both_ways_and_a_half_close_is_passed_on() {
        let ((mut a, mut caller), (upstream, mut b)) = (tokio::io::duplex(64), tokio::io::duplex(64));
        let flow = Flow::default();
        let joined = async {
            let relayed = relay(&mut caller, upstream, &flow).await;
            drop(caller);
            relayed
        };
        let ends = async {
            a.write_all(b"question").await.unwrap();
            a.shutdown().await.unwrap();
            let mut heard = String::new();
            b.read_to_string(&mut heard).await.unwrap();
            b.write_all(b"answer").await.unwrap();
            drop(b);
            let mut answer = String::new();
            a.read_to_string(&mut answer).await.unwrap();
            (heard, answer)
        };
        let (relayed, (heard, answer)) = tokio::join!(joined, ends);
        relayed.unwrap();
        assert_eq!((heard.as_str(), answer.as_str()), ("question", "answer"));
        assert_eq!((flow.from_caller.load(Relaxed), flow.to_caller.load(Relaxed)), (8, 6));
    }

    #[tokio::test]
    async fn what_is_on_its_way_to_an_upstream_that_has_ended_its_half_arrives() {
        let ((mut a, mut caller), (upstream, mut b)) = (tokio::io::duplex(1 << 20), tokio::io::duplex(64));
        let flow = Flow::default();
        let said = vec![7; 300 << 10];
        a.write_all(&said).await.unwrap();
        b.write_all(b"answer").await.unwrap();
        b.shutdown().await.unwrap();
        let ends = async {
            let mut heard = Vec::new();
            b.read_to_end(&mut heard).await.unwrap();
            heard
        };
        let joined = async {
            relay(&mut caller, upstream, &flow).await.unwrap();
        };
        let (heard, ()) =
            timeout(Duration::from_secs(5), async { tokio::join!(ends, joined) }).await.unwrap();
        assert_eq!(heard.len(), said.len());
        assert_eq!((flow.from_caller.load(Relaxed), flow.to_caller.load(Relaxed)), (300 << 10, 6));
    }

    /// Reads what it was given, and takes nothing.
    struct Deaf<R>(R);

    impl<R: AsyncRead + Unpin> AsyncRead for Deaf<R> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            to: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, to)
        }
    }

    impl<R: Unpin> AsyncWrite for Deaf<R> {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }
    }

    #[tokio::test]
    async fn the_last_word_of_an_upstream_that_takes_no_more_arrives() {
        let ((mut a, mut caller), (upstream, mut b)) = (tokio::io::duplex(64), tokio::io::duplex(1 << 20));
        let said = vec![7; 100 << 10];
        b.write_all(&said).await.unwrap();
        drop(b);
        a.write_all(b"more").await.unwrap();
        let joined = async {
            relay(&mut caller, Deaf(upstream), &Flow::default()).await.unwrap();
            drop(caller);
        };
        let mut heard = Vec::new();
        let (read, ()) = tokio::join!(a.read_to_end(&mut heard), joined);
        read.unwrap();
        assert_eq!(heard.len(), said.len());
    }

    #[tokio::test]
    async fn the_callers_side_is_open_after_the_upstream_has_ended() {
        let ((mut a, mut caller), (upstream, mut b)) = (tokio::io::duplex(64), tokio::io::duplex(64));
        b.write_all(b"answer").await.unwrap();
        drop(b);
        relay(&mut caller, upstream, &Flow::default()).await.unwrap();
        let mut answer = [0; 6];
        a.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
        let more = timeout(Duration::from_millis(50), a.read_u8()).await;
        assert!(more.is_err(), "the end was told before it was recorded: {more:?}");
        drop(caller);
        assert_eq!(a.read(&mut answer).await.unwrap(), 0);
    }
}
