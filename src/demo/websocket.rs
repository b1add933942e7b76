//! The server's side of a WebSocket (RFC 6455), as much of it as Kubernetes' streams need: no extensions, small messages.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream},
    sync::mpsc,
};

/// Messages over this many bytes are refused; kubectl writes up to 32 KiB.
pub const MAX_MESSAGE: usize = 1 << 20;
/// How long the client may take to close after we did.
const LINGER: Duration = Duration::from_secs(10);

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// UTF-8, though nobody here checks.
    Text(Bytes),
    /// Any bytes.
    Binary(Bytes),
    /// To be answered by a pong with the same bytes.
    Ping(Bytes),
    /// The answer to a ping.
    Pong(Bytes),
    /// The end, with its code when one was given.
    Close(Option<u16>),
}

/// Bytes that are not a client's WebSocket frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Reserved bits set, though no extension was agreed on.
    #[error("a frame with reserved bits")]
    Reserved,
    /// A client must mask every frame.
    #[error("a frame that is not masked")]
    Unmasked,
    /// An opcode that RFC 6455 does not know.
    #[error("a frame of unknown opcode {0}")]
    Opcode(u8),
    /// Fragmented, or longer than 125 bytes.
    #[error("a control frame that is fragmented or too long")]
    Control,
    /// A continuation of nothing, or a new message inside another.
    #[error("fragments out of order")]
    Fragments,
    /// Over [`MAX_MESSAGE`].
    #[error("a message of more than {MAX_MESSAGE} bytes")]
    TooLong,
}

mod opcode {
    pub(super) const CONTINUATION: u8 = 0;
    pub(super) const TEXT: u8 = 1;
    pub(super) const BINARY: u8 = 2;
    pub(super) const CLOSE: u8 = 8;
    pub(super) const PING: u8 = 9;
    pub(super) const PONG: u8 = 10;
}

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`.
pub fn accept(key: &str) -> String {
    use aws_lc_rs::digest;
    use base64::Engine as _;
    // RFC 6455 fixes SHA-1 and this GUID; neither guards anything.
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(hash)
}

/// Bytes of a client to messages.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    /// Opcode and bytes so far of a fragmented message.
    partial: Option<(u8, BytesMut)>,
}

impl Decoder {
    /// Takes bytes as they arrive.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message; None: more bytes are needed. After an error nothing more can be read.
    pub fn next_message(&mut self) -> Result<Option<Message>, Malformed> {
        while let Some((fin, code, payload)) = self.frame()? {
            if code >= opcode::CLOSE {
                return Ok(Some(match code {
                    opcode::PING => Message::Ping(payload.freeze()),
                    opcode::PONG => Message::Pong(payload.freeze()),
                    _ => Message::Close((&payload[..]).try_get_u16().ok()),
                }));
            }
            let (code, payload) = match (self.partial.take(), code) {
                (None, opcode::CONTINUATION) => return Err(Malformed::Fragments),
                (None, first) => (first, payload),
                (Some((first, mut all)), opcode::CONTINUATION) => {
                    if all.len() + payload.len() > MAX_MESSAGE {
                        return Err(Malformed::TooLong);
                    }
                    all.unsplit(payload);
                    (first, all)
                }
                (Some(_), _) => return Err(Malformed::Fragments),
            };
            if !fin {
                self.partial = Some((code, payload));
                continue;
            }
            let payload = payload.freeze();
            return Ok(Some(if code == opcode::TEXT {
                Message::Text(payload)
            } else {
                Message::Binary(payload)
            }));
        }
        Ok(None)
    }

    /// FIN, opcode and unmasked payload of the next whole frame.
    fn frame(&mut self) -> Result<Option<(bool, u8, BytesMut)>, Malformed> {
        let mut head = &self.buffer[..];
        let (Ok(first), Ok(second)) = (head.try_get_u8(), head.try_get_u8()) else { return Ok(None) };
        let (fin, code) = (first & 0x80 != 0, first & 0x0f);
        let length = match second & 0x7f {
            126 => head.try_get_u16().map(u64::from),
            127 => head.try_get_u64(),
            short => Ok(short.into()),
        };
        match code {
            _ if first & 0x70 != 0 => return Err(Malformed::Reserved),
            _ if second & 0x80 == 0 => return Err(Malformed::Unmasked),
            opcode::CONTINUATION..=opcode::BINARY => {}
            opcode::CLOSE..=opcode::PONG if fin && second & 0x7f <= 125 => {}
            opcode::CLOSE..=opcode::PONG => return Err(Malformed::Control),
            other => return Err(Malformed::Opcode(other)),
        }
        let Ok(length) = length else { return Ok(None) };
        let length = usize::try_from(length).ok().filter(|l| *l <= MAX_MESSAGE).ok_or(Malformed::TooLong)?;
        let Ok(mask) = head.try_get_u32() else { return Ok(None) };
        if head.len() < length {
            return Ok(None);
        }
        let start = self.buffer.len() - head.len();
        self.buffer.advance(start);
        let mut payload = self.buffer.split_to(length);
        for (byte, mask) in payload.iter_mut().zip(mask.to_be_bytes().iter().cycle()) {
            *byte ^= mask;
        }
        Ok(Some((fin, code, payload)))
    }
}

/// Appends a server's frame for the whole message to `out`.
pub fn encode(message: &Message, out: &mut Vec<u8>) {
    let code_bytes = |code: &Option<u16>| code.map(u16::to_be_bytes);
    let close;
    let (code, payload): (u8, &[u8]) = match message {
        Message::Text(bytes) => (opcode::TEXT, bytes),
        Message::Binary(bytes) => (opcode::BINARY, bytes),
        Message::Ping(bytes) => (opcode::PING, bytes),
        Message::Pong(bytes) => (opcode::PONG, bytes),
        Message::Close(code) => {
            close = code_bytes(code);
            (opcode::CLOSE, close.as_ref().map_or(&[], |c| &c[..]))
        }
    };
    out.push(0x80 | code);
    match payload.len() {
        short @ 0..126 => out.push(short as u8),
        medium @ 126..0x1_0000 => {
            out.push(126);
            out.put_u16(medium as u16);
        }
        long => {
            out.push(127);
            out.put_u64(long as u64);
        }
    }
    out.extend_from_slice(payload);
}

/// A connection that has just been upgraded. Pings are answered, the closing handshake is done, inside.
#[derive(Debug)]
pub struct Socket {
    /// Text and binary messages; ends when the client closes or leaves.
    pub input: mpsc::Receiver<Message>,
    /// Towards the client. When it and its clones are dropped, the socket closes with code 1000.
    pub output: mpsc::Sender<Message>,
}

impl Socket {
    /// Serves the connection.
    pub fn serve<T: AsyncRead + AsyncWrite + Send + 'static>(io: T) -> Self {
        let (output, to_write) = mpsc::channel(32);
        let (received, input) = mpsc::channel(16);
        let (read_half, write_half) = tokio::io::split(io);
        let reader = tokio::spawn(read(read_half, output.downgrade(), received));
        tokio::spawn(async move {
            write(write_half, to_write).await;
            // Closing at once could cut off what the client has not read yet.
            let stop = reader.abort_handle();
            if tokio::time::timeout(LINGER, reader).await.is_err() {
                stop.abort();
            }
        });
        Self { input, output }
    }

    /// The bytes of binary messages as one pipe; where they are cut means nothing.
    pub fn into_pipe(self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let (mut from, mut to) = tokio::io::split(ours);
        let Self { mut input, output } = self;
        tokio::spawn(async move {
            while let Some(message) = input.recv().await {
                if let Message::Binary(bytes) = message
                    && to.write_all(&bytes).await.is_err()
                {
                    break;
                }
            }
            // The pipe may have been closed at the other end already.
            let _ = to.shutdown().await;
        });
        tokio::spawn(async move {
            let mut buffer = BytesMut::with_capacity(32 << 10);
            while let Ok(1..) = from.read_buf(&mut buffer).await {
                if output.send(Message::Binary(buffer.split().freeze())).await.is_err() {
                    break;
                }
                buffer.reserve(32 << 10);
            }
        });
        theirs
    }
}

async fn write<W: AsyncWrite>(io: W, mut messages: mpsc::Receiver<Message>) {
    let mut io = std::pin::pin!(io);
    let mut out = Vec::new();
    let mut ended = false;
    while !ended {
        // All senders gone: we are the ones who close.
        let message = messages.recv().await.unwrap_or(Message::Close(Some(1000)));
        ended = matches!(message, Message::Close(_));
        encode(&message, &mut out);
        if io.write_all(&out).await.is_err() || io.flush().await.is_err() {
            return;
        }
        out.clear();
    }
    // The client may have left already.
    let _ = io.shutdown().await;
}

/// Returns when the client closes, leaves, or breaks the protocol.
async fn read<R: AsyncRead>(io: R, answers: mpsc::WeakSender<Message>, received: mpsc::Sender<Message>) {
    let mut io = std::pin::pin!(io);
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match io.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(n) => decoder.push(buffer.get(..n).unwrap_or_default()),
        }
        loop {
            let answer = match decoder.next_message() {
                Ok(None) => break,
                Ok(Some(Message::Pong(_))) => continue,
                Ok(Some(Message::Ping(bytes))) => Message::Pong(bytes),
                Ok(Some(Message::Close(code))) => Message::Close(code.or(Some(1000))),
                Ok(Some(message)) => {
                    // Nobody reads any more: what still comes is dropped, but pings are answered.
                    let _ = received.send(message).await;
                    continue;
                }
                Err(Malformed::TooLong) => Message::Close(Some(1009)),
                Err(_) => Message::Close(Some(1002)),
            };
            let last = matches!(answer, Message::Close(_));
            if let Some(answers) = answers.upgrade() {
                // Fails when the writer has ended, and then nothing is owed.
                let _ = answers.send(answer).await;
            }
            if last {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy, any, prop, prop_assert_eq, proptest};

    /// A frame as a client writes it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let mut out = vec![first];
        match payload.len() {
            short @ 0..126 => out.push(0x80 | short as u8),
            medium @ 126..0x1_0000 => {
                out.push(0x80 | 126);
                out.put_u16(medium as u16);
            }
            long => {
                out.push(0x80 | 127);
                out.put_u64(long as u64);
            }
        }
        out.extend(mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
        out
    }

    fn all(decoder: &mut Decoder) -> Vec<Message> {
        std::iter::from_fn(|| decoder.next_message().unwrap()).collect()
    }

    #[test]
    fn the_rfcs_own_examples() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let mut decoder = Decoder::default();
        decoder.push(&[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        assert_eq!(decoder.next_message(), Ok(Some(Message::Text("Hello".into()))));
        let mut out = Vec::new();
        encode(&Message::Text("Hello".into()), &mut out);
        encode(&Message::Close(Some(1000)), &mut out);
        assert_eq!(out, [&b"\x81\x05Hello"[..], b"\x88\x02\x03\xe8"].concat());
    }

    #[test]
    fn fragments_join_around_control_frames_whatever_the_splits() {
        let wire = [
            frame(0x02, b"\x00one "),
            frame(0x89, b"ping"),
            frame(0x00, b""),
            frame(0x80, b"two"),
            frame(0x82, &[9; 200]),
            frame(0x88, &1000u16.to_be_bytes()),
        ]
        .concat();
        let expected = [
            Message::Ping("ping".into()),
            Message::Binary("\0one two".into()),
            Message::Binary(vec![9; 200].into()),
            Message::Close(Some(1000)),
        ];
        for split in 0..=wire.len() {
            let mut decoder = Decoder::default();
            decoder.push(&wire[..split]);
            let mut read = all(&mut decoder);
            decoder.push(&wire[split..]);
            read.extend(all(&mut decoder));
            assert_eq!(read, expected, "split at {split}");
        }
    }

    #[test]
    fn what_a_client_must_not_send_is_refused() {
        let rows: [(Vec<u8>, Malformed); 9] = [
            (vec![0x82, 0x00], Malformed::Unmasked),
            (frame(0xc2, b""), Malformed::Reserved),
            (frame(0x83, b""), Malformed::Opcode(3)),
            (frame(0x8b, b""), Malformed::Opcode(11)),
            (frame(0x09, b""), Malformed::Control),
            (frame(0x89, &[0; 126]), Malformed::Control),
            (frame(0x80, b"x"), Malformed::Fragments),
            ([frame(0x02, b"x"), frame(0x82, b"y")].concat(), Malformed::Fragments),
            (vec![0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Malformed::TooLong),
        ];
        for (wire, expected) in rows {
            let mut decoder = Decoder::default();
            decoder.push(&wire);
            assert_eq!(decoder.next_message(), Err(expected), "{wire:?}");
        }
        let mut decoder = Decoder::default();
        decoder.push(&frame(0x02, &vec![0; MAX_MESSAGE]));
        decoder.push(&frame(0x80, b"x"));
        assert_eq!(decoder.next_message(), Err(Malformed::TooLong));
    }

    #[tokio::test]
    async fn a_socket_answers_pings_and_closes_politely() {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let mut socket = Socket::serve(server);
        client.write_all(&[frame(0x89, b"hi"), frame(0x82, b"\0in")].concat()).await.unwrap();
        assert_eq!(socket.input.recv().await, Some(Message::Binary("\0in".into())));
        socket.output.send(Message::Binary("\x01out".into())).await.unwrap();
        drop(socket);
        client.write_all(&frame(0x88, &1000u16.to_be_bytes())).await.unwrap();
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"\x8a\x02hi\x82\x04\x01out\x88\x02\x03\xe8");
    }

    #[tokio::test]
    async fn a_client_that_closes_is_answered_with_its_code() {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let mut socket = Socket::serve(server);
        client.write_all(&frame(0x88, &3001u16.to_be_bytes())).await.unwrap();
        assert_eq!(socket.input.recv().await, None);
        let mut read = [0; 4];
        client.read_exact(&mut read).await.unwrap();
        assert_eq!(read, [0x88, 2, 0x0b, 0xb9]);
    }

    #[tokio::test]
    async fn a_pipe_carries_the_bytes_of_binary_messages() {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let mut pipe = Socket::serve(server).into_pipe();
        client.write_all(&[frame(0x82, b"ab"), frame(0x02, b"c"), frame(0x80, b"d")].concat()).await.unwrap();
        let mut read = [0; 4];
        pipe.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"abcd");
        pipe.write_all(b"xyz").await.unwrap();
        drop(pipe);
        client.write_all(&frame(0x88, b"")).await.unwrap();
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"\x82\x03xyz\x88\x02\x03\xe8");
    }

    proptest! {
        #[test]
        fn messages_read_back(
            messages in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 1..4), 0..6),
            piece in (1usize..900).no_shrink(),
        ) {
            let mut wire = Vec::new();
            for fragments in &messages {
                for (i, fragment) in fragments.iter().enumerate() {
                    let fin = if i + 1 == fragments.len() { 0x80 } else { 0 };
                    wire.extend(frame(fin | if i == 0 { 2 } else { 0 }, fragment));
                }
            }
            let mut decoder = Decoder::default();
            let mut read = Vec::new();
            for piece in wire.chunks(piece) {
                decoder.push(piece);
                read.extend(all(&mut decoder));
            }
            let expected: Vec<_> = messages.iter().map(|m| Message::Binary(m.concat().into())).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn no_bytes_make_it_panic(wire in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut decoder = Decoder::default();
            decoder.push(&wire);
            while let Ok(Some(_)) = decoder.next_message() {}
        }
    }
}
