//! SPDY/3.1 frames, as Kubernetes clients and kubelets speak them under exec, attach and port-forward.
//!
//! Header blocks of one direction are one zlib stream with a preset dictionary, so a [`Decoder`] and an [`Encoder`] live as
//! long as their connection and see every frame in order. There is no flow control: moby/spdystream ignores it.

pub mod session;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::sync::LazyLock;

/// Frames over this many bytes are refused; the clients write frames of 32 KiB.
pub const MAX_FRAME: usize = 1 << 20;
/// Header blocks over this many bytes, decompressed, are refused.
const MAX_BLOCK: usize = 256 << 10;
/// More headers in a block are refused.
const MAX_HEADERS: usize = 1000;
/// `Z_BEST_SPEED` is enough for blocks of a few dozen bytes.
const LEVEL: Compression = Compression::fast();

/// Header names (lower case) and values, in order.
pub type Headers = Vec<(String, String)>;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Bytes of a stream; `fin` ends the sender's half.
    Data {
        /// The stream.
        stream: u32,
        /// The sender's half ends.
        fin: bool,
        /// May be empty.
        bytes: Bytes,
    },
    /// A stream is opened.
    SynStream {
        /// Odd from the client, even from the server.
        stream: u32,
        /// The opener's half ends at once.
        fin: bool,
        /// What the stream is for.
        headers: Headers,
    },
    /// A stream is accepted.
    SynReply {
        /// The stream.
        stream: u32,
        /// The accepter's half ends at once.
        fin: bool,
        /// Usually none.
        headers: Headers,
    },
    /// A stream is given up.
    Reset {
        /// The stream.
        stream: u32,
        /// One of the `reset` constants.
        status: u32,
    },
    /// To be answered with itself by the side of the other parity.
    Ping(u32),
    /// No streams after `last` will be answered.
    GoAway {
        /// The last stream that was.
        last: u32,
        /// 0 is a normal end.
        status: u32,
    },
    /// More headers of a stream.
    Headers {
        /// The stream.
        stream: u32,
        /// The sender's half ends.
        fin: bool,
        /// The headers.
        headers: Headers,
    },
    /// A control frame of this type, which nobody here needs: SETTINGS, WINDOW_UPDATE, unknown ones.
    Other(u16),
}

/// RST_STREAM's status codes.
pub mod reset {
    /// The stream broke the protocol.
    pub const PROTOCOL_ERROR: u32 = 1;
    /// The stream is refused.
    pub const REFUSED: u32 = 3;
    /// The stream is no longer needed.
    pub const CANCEL: u32 = 5;
}

/// Bytes that are not SPDY/3.1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A control frame of another version.
    #[error("SPDY version {0}, expected 3")]
    Version(u16),
    /// A frame over [`MAX_FRAME`].
    #[error("a frame of {0} bytes, at most {MAX_FRAME} are accepted")]
    TooLong(usize),
    /// A control frame whose payload is shorter than its type demands.
    #[error("a control frame of type {0} is too short")]
    TooShort(u16),
    /// A header block that cannot be read; the connection's compression state is lost.
    #[error("header block: {0}")]
    Block(&'static str),
}

mod kind {
    pub(super) const SYN_STREAM: u16 = 1;
    pub(super) const SYN_REPLY: u16 = 2;
    pub(super) const RST_STREAM: u16 = 3;
    pub(super) const PING: u16 = 6;
    pub(super) const GOAWAY: u16 = 7;
    pub(super) const HEADERS: u16 = 8;
}

const FIN: u8 = 1;
const HEAD: usize = 8;

/// Bytes to frames, for one direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    inflate: Decompress,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { buffer: BytesMut::new(), inflate: Decompress::new(true) }
    }
}

impl Decoder {
    /// Takes bytes as they arrive.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; None: more bytes are needed. After an error nothing more can be read.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        let Some(mut head) = self.buffer.get(..HEAD) else { return Ok(None) };
        let (first, second) = (head.get_u32(), head.get_u32());
        let length = (second & 0x00ff_ffff) as usize;
        let fin = (second >> 24) as u8 & FIN != 0;
        if length > MAX_FRAME {
            return Err(Malformed::TooLong(length));
        }
        if self.buffer.len() < HEAD + length {
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        let bytes = self.buffer.split_to(length).freeze();
        if first >> 31 == 0 {
            return Ok(Some(Frame::Data { stream: first, fin, bytes }));
        }
        match (first >> 16) as u16 & 0x7fff {
            3 => self.control(first as u16, fin, bytes).map(Some),
            other => Err(Malformed::Version(other)),
        }
    }

    fn control(&mut self, kind: u16, fin: bool, mut payload: Bytes) -> Result<Frame, Malformed> {
        let short = |_| Malformed::TooShort(kind);
        let mut number = || payload.try_get_u32();
        Ok(match kind {
            kind::SYN_STREAM => {
                let stream = number().map_err(short)? & 0x7fff_ffff;
                // The associated stream; then priority and slot.
                number().map_err(short)?;
                payload.try_get_u16().map_err(short)?;
                Frame::SynStream { stream, fin, headers: self.headers(&payload)? }
            }
            kind::SYN_REPLY => {
                let stream = number().map_err(short)? & 0x7fff_ffff;
                Frame::SynReply { stream, fin, headers: self.headers(&payload)? }
            }
            kind::HEADERS => {
                let stream = number().map_err(short)? & 0x7fff_ffff;
                Frame::Headers { stream, fin, headers: self.headers(&payload)? }
            }
            kind::RST_STREAM => Frame::Reset {
                stream: number().map_err(short)? & 0x7fff_ffff,
                status: number().map_err(short)?,
            },
            kind::PING => Frame::Ping(number().map_err(short)?),
            kind::GOAWAY => Frame::GoAway {
                last: number().map_err(short)? & 0x7fff_ffff,
                status: number().map_err(short)?,
            },
            other => Frame::Other(other),
        })
    }

    fn headers(&mut self, block: &[u8]) -> Result<Headers, Malformed> {
        read_block(&self.inflate_block(block)?)
            .ok_or(Malformed::Block("cut short, too many headers or not UTF-8"))
    }

    fn inflate_block(&mut self, mut block: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::with_capacity(512);
        loop {
            let before = self.inflate.total_in();
            let result = self.inflate.decompress_vec(block, &mut out, FlushDecompress::Sync);
            let read = usize::try_from(self.inflate.total_in() - before).unwrap_or(block.len());
            block = block.get(read..).unwrap_or_default();
            match result {
                Err(e) if e.needs_dictionary().is_some() => {
                    self.inflate
                        .set_dictionary(&DICTIONARY)
                        .map_err(|_| Malformed::Block("not the SPDY dictionary"))?;
                }
                Err(_) => return Err(Malformed::Block("not a zlib stream")),
                Ok(Status::StreamEnd) => return Err(Malformed::Block("the zlib stream ends")),
                // Room left in `out` means that all there was has come out.
                Ok(_) if block.is_empty() && out.len() < out.capacity() => return Ok(out),
                Ok(_) if out.len() >= MAX_BLOCK => return Err(Malformed::Block("too long")),
                Ok(_) if out.len() == out.capacity() => out.reserve(out.len()),
                Ok(_) if read == 0 => return Err(Malformed::Block("not a zlib stream")),
                Ok(_) => {}
            }
        }
    }
}

/// Frames to bytes, for one direction of a connection.
#[derive(Debug)]
pub struct Encoder {
    deflate: Compress,
    dictionary_set: bool,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { deflate: Compress::new(LEVEL, true), dictionary_set: false }
    }
}

impl Encoder {
    /// Appends the frame's bytes to `out`. [`Frame::Other`] is written without a payload.
    pub fn encode(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        match frame {
            Frame::Data { stream, fin, bytes } => {
                // A frame's length has 24 bits; longer data is several frames, the last of which ends the stream.
                let mut rest = &bytes[..];
                loop {
                    let (now, later) = rest.split_at(rest.len().min(MAX_FRAME));
                    head(out, *stream, *fin && later.is_empty(), now.len());
                    out.extend_from_slice(now);
                    rest = later;
                    if rest.is_empty() {
                        break;
                    }
                }
            }
            Frame::SynStream { stream, fin, headers } => {
                let block = self.deflate_block(headers);
                control(out, kind::SYN_STREAM, *fin, 10 + block.len());
                out.put_u32(*stream);
                out.put_u32(0);
                out.put_u16(0);
                out.extend(block);
            }
            Frame::SynReply { stream, fin, headers } => {
                self.headers(out, kind::SYN_REPLY, *stream, *fin, headers)
            }
            Frame::Headers { stream, fin, headers } => {
                self.headers(out, kind::HEADERS, *stream, *fin, headers)
            }
            Frame::Reset { stream, status } => pair(out, kind::RST_STREAM, *stream, *status),
            Frame::GoAway { last, status } => pair(out, kind::GOAWAY, *last, *status),
            Frame::Ping(id) => {
                control(out, kind::PING, false, 4);
                out.put_u32(*id);
            }
            Frame::Other(kind) => control(out, *kind, false, 0),
        }
    }

    fn headers(&mut self, out: &mut Vec<u8>, kind: u16, stream: u32, fin: bool, headers: &Headers) {
        let block = self.deflate_block(headers);
        control(out, kind, fin, 4 + block.len());
        out.put_u32(stream);
        out.extend(block);
    }

    fn deflate_block(&mut self, headers: &Headers) -> Vec<u8> {
        let mut raw = Vec::new();
        raw.put_u32(headers.len() as u32);
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            raw.put_u32(text.len() as u32);
            raw.extend_from_slice(text.as_bytes());
        }
        if !self.dictionary_set {
            // Fails only in the middle of a stream, and this is its start.
            self.dictionary_set = self.deflate.set_dictionary(&DICTIONARY).is_ok();
        }
        let mut out = Vec::with_capacity(raw.len() + 64);
        let mut rest = &raw[..];
        loop {
            let before = self.deflate.total_in();
            // Deflating into growing memory has no way to fail.
            let _ = self.deflate.compress_vec(rest, &mut out, FlushCompress::Sync);
            let read = usize::try_from(self.deflate.total_in() - before).unwrap_or(rest.len());
            rest = rest.get(read..).unwrap_or_default();
            if rest.is_empty() && out.len() < out.capacity() {
                return out;
            }
            out.reserve(64);
        }
    }
}

fn head(out: &mut Vec<u8>, first: u32, fin: bool, length: usize) {
    out.put_u32(first);
    out.put_u32(u32::from(fin) << 24 | length as u32 & 0x00ff_ffff);
}

fn control(out: &mut Vec<u8>, kind: u16, fin: bool, length: usize) {
    head(out, 0x8003_0000 | u32::from(kind), fin, length);
}

fn pair(out: &mut Vec<u8>, kind: u16, first: u32, second: u32) {
    control(out, kind, false, 8);
    out.put_u32(first);
    out.put_u32(second);
}

fn read_block(mut raw: &[u8]) -> Option<Headers> {
    let count = raw.try_get_u32().ok()? as usize;
    if count > MAX_HEADERS {
        return None;
    }
    let mut text = || {
        let length = raw.try_get_u32().ok()? as usize;
        let (text, rest) = raw.split_at_checked(length)?;
        raw = rest;
        String::from_utf8(text.to_vec()).ok()
    };
    (0..count).map(|_| Some((text()?, text()?))).collect()
}

/// The dictionary of SPDY/3 header blocks: words with their lengths, then a tail without.
static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    const WORDS: [&str; 4] = [
        "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age \
         allow authorization cache-control connection content-base content-encoding content-language content-length \
         content-location content-md5 content-range content-type date etag expect expires from host if-match \
         if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
         proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
         user-agent vary via warning www-authenticate method get status",
        "200 OK",
        "version",
        "HTTP/1.1",
    ];
    const LAST: &str = "url public set-cookie keep-alive origin";
    const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
        Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 \
        Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May \
        Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, \
        GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,\
        text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";
    let [first, ok, version, http] = WORDS;
    let words = first.split(' ').chain([ok, version, http]).chain(LAST.split(' '));
    let mut dictionary = Vec::with_capacity(1423);
    for word in words {
        dictionary.put_u32(word.len() as u32);
        dictionary.extend_from_slice(word.as_bytes());
    }
    dictionary.extend_from_slice(TAIL.as_bytes());
    dictionary
});

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Just, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn all(decoder: &mut Decoder) -> Vec<Frame> {
        std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
    }

    #[test]
    fn the_dictionary_is_the_published_one() {
        assert_eq!(DICTIONARY.len(), 1423);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &DICTIONARY);
        assert_eq!(
            digest.as_ref(),
            bytes("51d27341373f923f3cd88e1eb7162aeaa3723d7585ff2399201dc06498407f02")
        );
    }

    #[test]
    fn successive_blocks_share_one_zlib_stream() {
        let mut decoder = Decoder::default();
        let rows = [
            (
                "78f9e3c6a7c202a62346703a2b294a4dcc851625aca9a08006000000ffff",
                headers(&[("streamtype", "error")]),
            ),
            ("c22e555c02cc2e00000000ffff", headers(&[("streamtype", "stdin")])),
            ("02321800000000ffff", headers(&[])),
        ];
        for (block, expected) in rows {
            assert_eq!(decoder.headers(&bytes(block)).unwrap(), expected);
        }
    }

    /// Frames on the wire, the last one's stream and headers.
    type Captured = (&'static [&'static str], u32, &'static [(&'static str, &'static str)]);
    /// As Go's client compresses them.
    const CAPTURED: [Captured; 5] = [
        (
            &[
                "80030001000000280000000100000000000078f9e3c6a7c202a62346703a2b294a4dcc851625aca9a08006000000ffff",
            ],
            1,
            &[("streamtype", "error")],
        ),
        (
            &[
                "80030001000000290000000100000000000078f9e3c6a7c26260606004a7b392a2d4c45c6851c29a0a0a6800000000ffff",
            ],
            1,
            &[("streamtype", "error")],
        ),
        (
            &[
                "80030001000000290000000100000000000078f9e3c6a7c26260606004a7b392a2d4c45c6851c29a0a0a6800000000ffff",
                "800300010000001900000003000000000000c22ac5565c92925f5a02000000ffff",
            ],
            3,
            &[("streamtype", "stdout")],
        ),
        (
            &[
                "80030001000000290000000100000000000078f9e3c6a7c26260606004a7b392a2d4c45c6851c29a0a0a6800000000ffff",
                "800300010000001900000003000000000000c22ac5565c92925f5a02000000ffff",
                "800300010000001500000005000000000000c229975a5404000000ffff",
            ],
            5,
            &[("streamtype", "stderr")],
        ),
        (
            &[
                "800300010000003d0000000100000000000078f9e3c6a7c202253a703a2b294a4dcc851625aca9a0808614cb45a024cc6461c0c0c0c0590489c44c50e2663400000000ffff",
                "800300010000001800000003000000000000c2aa15540a2512d209000000ffff",
            ],
            3,
            &[("streamtype", "data"), ("port", "80"), ("requestid", "0")],
        ),
    ];

    #[test]
    fn captured_frames_read_whatever_the_splits() {
        for (frames, id, pairs) in CAPTURED {
            let wire: Vec<u8> = frames.iter().flat_map(|f| bytes(f)).collect();
            for split in 0..=wire.len() {
                let mut decoder = Decoder::default();
                decoder.push(&wire[..split]);
                let mut read = all(&mut decoder);
                decoder.push(&wire[split..]);
                read.extend(all(&mut decoder));
                let mut expected = pairs.to_vec();
                let Some(Frame::SynStream { stream, headers: found, .. }) = read.pop() else {
                    panic!("no frame")
                };
                let mut found: Vec<_> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                found.sort_unstable();
                expected.sort_unstable();
                assert_eq!((stream, found), (id, expected), "split at {split}");
            }
        }
    }

    #[test]
    fn what_is_not_spdy_is_refused() {
        let rows = [
            ("8002000600000004000000010", "SPDY version 2"),
            ("00000001ffffffff0", "a frame of 16777215 bytes"),
            ("8003000600000003000000", "type 6 is too short"),
            ("8003000100000003000000", "type 1 is too short"),
            ("80030002000000060000000178f9", "header block"),
            ("80030002000000080000000100000000", "header block"),
        ];
        for (wire, expected) in rows {
            let mut decoder = Decoder::default();
            decoder.push(&bytes(&wire[..wire.len() & !1]));
            let error = decoder.next_frame().unwrap_err().to_string();
            assert!(error.contains(expected), "{wire}: {error}");
        }
    }

    #[test]
    fn a_block_that_unpacks_to_too_much_is_refused() {
        let mut wire = Vec::new();
        let huge = headers(&[("a", &"x".repeat(MAX_BLOCK))]);
        Encoder::default().encode(&Frame::SynReply { stream: 1, fin: false, headers: huge }, &mut wire);
        assert!(wire.len() < 4096);
        let mut decoder = Decoder::default();
        decoder.push(&wire);
        assert_eq!(decoder.next_frame(), Err(Malformed::Block("too long")));
    }

    #[test]
    fn long_data_is_several_frames() {
        let mut wire = Vec::new();
        let bytes = Bytes::from(vec![7; MAX_FRAME + 1]);
        Encoder::default().encode(&Frame::Data { stream: 3, fin: true, bytes }, &mut wire);
        let mut decoder = Decoder::default();
        decoder.push(&wire);
        let read: Vec<_> = all(&mut decoder)
            .into_iter()
            .map(|f| match f {
                Frame::Data { fin, bytes, .. } => (fin, bytes.len()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(read, [(false, MAX_FRAME), (true, 1)]);
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let stream = 1..0x7fff_ffffu32;
        let headers = prop::collection::vec(("[a-z-]{1,20}", "\\PC{0,60}"), 0..6);
        let data = prop::collection::vec(any::<u8>(), 0..3000);
        prop_oneof![
            (stream.clone(), any::<bool>(), data).prop_map(|(stream, fin, bytes)| Frame::Data {
                stream,
                fin,
                bytes: bytes.into()
            }),
            (stream.clone(), any::<bool>(), headers.clone())
                .prop_map(|(stream, fin, headers)| Frame::SynStream { stream, fin, headers }),
            (stream.clone(), any::<bool>(), headers.clone())
                .prop_map(|(stream, fin, headers)| Frame::SynReply { stream, fin, headers }),
            (stream.clone(), any::<bool>(), headers).prop_map(|(stream, fin, headers)| Frame::Headers {
                stream,
                fin,
                headers
            }),
            (stream.clone(), any::<u32>()).prop_map(|(stream, status)| Frame::Reset { stream, status }),
            (stream, any::<u32>()).prop_map(|(last, status)| Frame::GoAway { last, status }),
            any::<u32>().prop_map(Frame::Ping),
            Just(Frame::Other(4)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(frames in prop::collection::vec(frame(), 0..12), piece in 1usize..2000) {
            let mut wire = Vec::new();
            let mut encoder = Encoder::default();
            for frame in &frames {
                encoder.encode(frame, &mut wire);
            }
            let mut decoder = Decoder::default();
            let mut read = Vec::new();
            for piece in wire.chunks(piece) {
                decoder.push(piece);
                read.extend(all(&mut decoder));
            }
            prop_assert_eq!(read, frames);
        }

        #[test]
        fn no_bytes_make_it_panic(wire in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut decoder = Decoder::default();
            decoder.push(&[0x80, 3, 0, 1, 0, 0, 0]);
            decoder.push(&wire);
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }
}
