//! The server's side of a SPDY/3.1 connection: streams that the client opens, over any byte pipe.

use super::{Decoder, Encoder, Frame, Headers, reset};
use bytes::Bytes;
use std::collections::HashMap;
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};

/// Pieces of a stream that may wait for its reader before the whole connection waits, as with moby/spdystream.
const WAITING_PIECES: usize = 16;
/// Streams open at once.
const MAX_STREAMS: usize = 1000;
/// How long the client may take to close after the last frame was sent.
const LINGER: Duration = Duration::from_secs(10);

/// A connection. It ends, with GOAWAY, when this and every [`Sink`] are dropped.
#[derive(Debug)]
pub struct Session {
    opened: mpsc::Receiver<Stream>,
    /// Keeps the connection's write side open.
    _frames: mpsc::Sender<Frame>,
}

/// A stream that the client opened; it has been accepted.
#[derive(Debug)]
pub struct Stream {
    /// Odd.
    pub id: u32,
    /// As they came; names in lower case.
    pub headers: Headers,
    /// What the client sends; ends at its FIN, its reset or the end of the connection.
    pub input: mpsc::Receiver<Bytes>,
    /// Towards the client.
    pub output: Sink,
}

/// The server's half of a stream.
#[derive(Debug, Clone)]
pub struct Sink {
    stream: u32,
    frames: mpsc::Sender<Frame>,
}

/// The connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed")]
pub struct Closed;

impl Session {
    /// Serves a connection that has just been upgraded.
    pub fn serve<T: AsyncRead + AsyncWrite + Send + 'static>(io: T) -> Self {
        let (frames, to_write) = mpsc::channel(32);
        let (accepted, opened) = mpsc::channel(32);
        let (read_half, write_half) = tokio::io::split(io);
        let answers = frames.downgrade();
        let reader = tokio::spawn(read(read_half, answers, accepted));
        tokio::spawn(async move {
            write(write_half, to_write).await;
            // Closing at once could cut off what the client has not read yet.
            let stop = reader.abort_handle();
            if tokio::time::timeout(LINGER, reader).await.is_err() {
                stop.abort();
            }
        });
        Self { opened, _frames: frames }
    }

    /// The next stream; None: the connection is closed.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.opened.recv().await
    }
}

impl Stream {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

impl Sink {
    /// Sends bytes.
    pub async fn send(&self, bytes: Bytes) -> Result<(), Closed> {
        self.frame(Frame::Data { stream: self.stream, fin: false, bytes }).await
    }

    /// Ends the server's half.
    pub async fn finish(&self) -> Result<(), Closed> {
        self.frame(Frame::Data { stream: self.stream, fin: true, bytes: Bytes::new() }).await
    }

    /// Gives the stream up.
    pub async fn reset(&self, status: u32) -> Result<(), Closed> {
        self.frame(Frame::Reset { stream: self.stream, status }).await
    }

    async fn frame(&self, frame: Frame) -> Result<(), Closed> {
        self.frames.send(frame).await.map_err(|_| Closed)
    }
}

async fn write<W: AsyncWrite>(io: W, mut frames: mpsc::Receiver<Frame>) {
    let mut io = std::pin::pin!(io);
    let mut encoder = Encoder::default();
    let mut out = Vec::new();
    let mut last = 0;
    while let Some(mut frame) = frames.recv().await {
        loop {
            if let Frame::SynReply { stream, .. } = frame {
                last = stream;
            }
            encoder.encode(&frame, &mut out);
            match frames.try_recv() {
                Ok(next) if out.len() < super::MAX_FRAME => frame = next,
                Ok(next) => {
                    encoder.encode(&next, &mut out);
                    break;
                }
                Err(_) => break,
            }
        }
        if io.write_all(&out).await.is_err() || io.flush().await.is_err() {
            return;
        }
        out.clear();
    }
    encoder.encode(&Frame::GoAway { last, status: 0 }, &mut out);
    // The client may have left already.
    let _ = io.write_all(&out).await;
    let _ = io.shutdown().await;
}

/// Returns when the client closes, or breaks the protocol.
async fn read<R: AsyncRead>(io: R, answers: mpsc::WeakSender<Frame>, accepted: mpsc::Sender<Stream>) {
    let mut io = std::pin::pin!(io);
    let mut decoder = Decoder::default();
    let mut streams: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match io.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(n) => decoder.push(buffer.get(..n).unwrap_or_default()),
        }
        loop {
            let frame = match decoder.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => return,
            };
            match frame {
                Frame::SynStream { stream, fin, headers } => {
                    // After the last Sink is gone new streams are not answered; GOAWAY says so.
                    let Some(frames) = answers.upgrade() else { continue };
                    let status = match stream {
                        even if even % 2 == 0 => reset::PROTOCOL_ERROR,
                        again if streams.contains_key(&again) => reset::PROTOCOL_ERROR,
                        _ if streams.len() >= MAX_STREAMS => reset::REFUSED,
                        _ => {
                            let (to, input) = mpsc::channel(WAITING_PIECES);
                            if !fin {
                                streams.insert(stream, to);
                            }
                            let reply = Frame::SynReply { stream, fin: false, headers: Headers::new() };
                            let output = Sink { stream, frames };
                            // Errors mean that the connection or the session ended: the next read or recv sees that.
                            let _ = output.frame(reply).await;
                            let _ = accepted.send(Stream { id: stream, headers, input, output }).await;
                            continue;
                        }
                    };
                    let _ = frames.send(Frame::Reset { stream, status }).await;
                }
                Frame::Data { stream, fin, bytes } => {
                    if let Some(to) = streams.get(&stream)
                        && !bytes.is_empty()
                        // Whoever read this stream has gone; what still comes is dropped.
                        && to.send(bytes).await.is_err()
                    {
                        streams.remove(&stream);
                    }
                    if fin {
                        streams.remove(&stream);
                    }
                }
                Frame::Reset { stream, .. } => {
                    streams.remove(&stream);
                }
                Frame::Ping(id) if id % 2 == 1 => {
                    if let Some(frames) = answers.upgrade() {
                        let _ = frames.send(Frame::Ping(id)).await;
                    }
                }
                Frame::Ping(_)
                | Frame::GoAway { .. }
                | Frame::SynReply { .. }
                | Frame::Headers { .. }
                | Frame::Other(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::DuplexStream;

    struct Client {
        io: DuplexStream,
        encoder: Encoder,
        decoder: Decoder,
    }

    impl Client {
        async fn send(&mut self, frame: Frame) {
            let mut out = Vec::new();
            self.encoder.encode(&frame, &mut out);
            self.io.write_all(&out).await.unwrap();
        }

        async fn open(&mut self, stream: u32, kind: &str) {
            let headers = vec![("streamtype".to_owned(), kind.to_owned())];
            self.send(Frame::SynStream { stream, fin: false, headers }).await;
        }

        async fn next(&mut self) -> Option<Frame> {
            let mut buffer = [0; 1000];
            loop {
                if let Some(frame) = self.decoder.next_frame().unwrap() {
                    return Some(frame);
                }
                match self.io.read(&mut buffer).await.unwrap() {
                    0 => return None,
                    n => self.decoder.push(&buffer[..n]),
                }
            }
        }
    }

    fn connected() -> (Client, Session) {
        let (io, server) = tokio::io::duplex(1 << 16);
        (Client { io, encoder: Encoder::default(), decoder: Decoder::default() }, Session::serve(server))
    }

    fn data(stream: u32, fin: bool, bytes: &'static str) -> Frame {
        Frame::Data { stream, fin, bytes: bytes.into() }
    }

    #[tokio::test]
    async fn streams_carry_bytes_both_ways_and_close_by_halves() {
        let (mut client, mut session) = connected();
        client.open(1, "error").await;
        // spdystream does not wait for the reply.
        client.send(data(1, true, "hello")).await;
        let mut stream = session.accept().await.unwrap();
        assert_eq!((stream.id, stream.header("streamtype")), (1, Some("error")));
        assert_eq!(stream.input.recv().await.unwrap(), "hello");
        assert_eq!(stream.input.recv().await, None);
        stream.output.send("bye".into()).await.unwrap();
        stream.output.finish().await.unwrap();
        drop((stream, session));
        let expected = [
            Frame::SynReply { stream: 1, fin: false, headers: vec![] },
            data(1, false, "bye"),
            data(1, true, ""),
            Frame::GoAway { last: 1, status: 0 },
        ];
        for frame in expected {
            assert_eq!(client.next().await, Some(frame));
        }
        assert_eq!(client.next().await, None);
    }

    #[tokio::test]
    async fn pings_of_the_client_are_answered() {
        let (mut client, _session) = connected();
        client.send(Frame::Ping(2)).await;
        client.send(Frame::Ping(7)).await;
        assert_eq!(client.next().await, Some(Frame::Ping(7)));
    }

    #[tokio::test]
    async fn a_stream_opened_twice_or_by_the_wrong_side_is_reset() {
        let (mut client, mut session) = connected();
        client.open(1, "data").await;
        client.open(1, "data").await;
        client.open(2, "data").await;
        let _stream = session.accept().await.unwrap();
        assert!(matches!(client.next().await, Some(Frame::SynReply { stream: 1, .. })));
        assert_eq!(client.next().await, Some(Frame::Reset { stream: 1, status: reset::PROTOCOL_ERROR }));
        assert_eq!(client.next().await, Some(Frame::Reset { stream: 2, status: reset::PROTOCOL_ERROR }));
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_everything() {
        let (mut client, mut session) = connected();
        client.open(1, "stdin").await;
        let mut stream = session.accept().await.unwrap();
        drop(client);
        assert_eq!(stream.input.recv().await, None);
        assert!(session.accept().await.is_none());
    }

    #[tokio::test]
    async fn nonsense_ends_the_connection() {
        let (mut client, mut session) = connected();
        client.io.write_all(&[0xff; 64]).await.unwrap();
        assert!(session.accept().await.is_none());
    }
}
