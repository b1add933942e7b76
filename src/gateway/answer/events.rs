//! The events in a stream's answer: where between two of them it may be ended and, if that is asked for, how many of each
//! type there were.

use http::{HeaderMap, HeaderValue, header};
use std::fmt::Write as _;

/// What is known of the events that have passed.
#[derive(Debug)]
pub(super) struct Events {
    form: Form,
    count: Count,
}

#[derive(Debug)]
enum Form {
    /// It has no events, or none that can be told apart.
    Anywhere,
    /// One JSON object a line.
    Lines { between: bool },
    /// A big-endian length of four bytes before each message (protobuf).
    Lengths { head: [u8; 4], have: usize, left: usize },
}

#[derive(Debug)]
enum Count {
    /// Nobody asks.
    No,
    /// Why it cannot be told.
    Unknown(&'static str),
    Yes(Box<Tally>),
}

/// Events by type.
#[derive(Debug, Default)]
struct Tally {
    /// Where the event that is passing began: its type comes first.
    head: [u8; 32],
    have: usize,
    counts: [u64; TYPES.len()],
}

/// The types of a WatchEvent; the last one stands for whatever else an upstream makes up.
const TYPES: [&str; 6] = ["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR", "other"];

impl Events {
    /// Of an answer that nobody ends before its end.
    pub(super) const NONE: Self = Self { form: Form::Anywhere, count: Count::No };

    /// Of the stream that begins with these headers.
    pub(super) fn of(headers: &HeaderMap, counted: bool) -> Self {
        let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let form = match kind {
            _ if headers.contains_key(header::CONTENT_ENCODING) => Form::Anywhere,
            k if k.starts_with(b"application/json") => Form::Lines { between: true },
            k if k.starts_with(b"application/vnd.kubernetes.protobuf") => {
                Form::Lengths { head: [0; 4], have: 0, left: 0 }
            }
            _ => Form::Anywhere,
        };
        let count = match form {
            _ if !counted => Count::No,
            Form::Anywhere if headers.contains_key(header::CONTENT_ENCODING) => {
                Count::Unknown("content-encoding")
            }
            Form::Anywhere => Count::Unknown("content-type"),
            _ => Count::Yes(Box::default()),
        };
        Self { form, count }
    }

    /// Of a watch whose connection is passed on as it is.
    pub(super) fn tunnelled(counted: bool) -> Self {
        let count = if counted { Count::Unknown("websocket") } else { Count::No };
        Self { form: Form::Anywhere, count }
    }

    /// Whether everything so far was whole events.
    pub(super) fn between(&self) -> bool {
        match self.form {
            Form::Anywhere => true,
            Form::Lines { between } => between,
            Form::Lengths { have, left, .. } => have == 0 && left == 0,
        }
    }

    /// Takes note of a piece and says where in it its last whole event ends.
    pub(super) fn feed(&mut self, data: &[u8]) -> Option<usize> {
        let tally = match &mut self.count {
            Count::Yes(tally) => Some(&mut **tally),
            Count::No | Count::Unknown(_) => None,
        };
        match &mut self.form {
            Form::Anywhere => Some(data.len()),
            Form::Lines { between } => {
                let last = data.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
                *between = if data.is_empty() { *between } else { last == Some(data.len()) };
                if let Some(tally) = tally {
                    tally.lines(data);
                }
                last
            }
            Form::Lengths { head, have, left } => lengths(data, head, have, left, tally),
        }
    }

    /// What came after the last whole event has been cut off.
    pub(super) fn cut(&mut self) {
        match &mut self.form {
            Form::Anywhere => {}
            Form::Lines { between } => *between = true,
            Form::Lengths { have, left, .. } => (*have, *left) = (0, 0),
        }
    }

    /// How many whole events of each type there were, as JSON; None when nobody asks.
    pub(super) fn counts(&self) -> Option<String> {
        let tally = match &self.count {
            Count::No => return None,
            Count::Unknown(why) => return Some(format!("{{\"uncounted\":\"{why}\"}}")),
            Count::Yes(tally) => tally,
        };
        let mut text = String::with_capacity(96);
        for (name, count) in TYPES.iter().zip(tally.counts).filter(|(_, count)| *count > 0) {
            let _ = write!(text, "{}\"{name}\":{count}", if text.is_empty() { '{' } else { ',' });
        }
        text.push_str(if text.is_empty() { "{}" } else { "}" });
        Some(text)
    }
}

fn lengths(
    data: &[u8],
    head: &mut [u8; 4],
    have: &mut usize,
    left: &mut usize,
    mut tally: Option<&mut Tally>,
) -> Option<usize> {
    let mut last = None;
    let mut at = 0;
    while let Some(byte) = data.get(at) {
        if *left > 0 {
            let step = (*left).min(data.len() - at);
            if let Some(tally) = &mut tally {
                tally.take(data.get(at..at + step).unwrap_or_default());
            }
            *left -= step;
            at += step;
        } else {
            if let Some(slot) = head.get_mut(*have) {
                *slot = *byte;
            }
            *have += 1;
            at += 1;
            if *have < head.len() {
                continue;
            }
            *have = 0;
            *left = u32::from_be_bytes(*head) as usize;
        }
        if *left == 0 && *have == 0 {
            last = Some(at);
            if let Some(tally) = &mut tally {
                tally.count(type_in_message);
            }
        }
    }
    last
}

impl Tally {
    fn lines(&mut self, data: &[u8]) {
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            self.take(piece);
            if piece.ends_with(b"\n") {
                self.count(type_in_line);
            }
        }
    }

    /// Keeps the beginning of an event.
    fn take(&mut self, piece: &[u8]) {
        let room = self.head.get_mut(self.have..).unwrap_or_default();
        let fits = room.len().min(piece.len());
        if let (Some(room), Some(piece)) = (room.get_mut(..fits), piece.get(..fits)) {
            room.copy_from_slice(piece);
        }
        self.have += fits;
    }

    /// An event has passed.
    fn count(&mut self, type_in: impl Fn(&[u8]) -> Option<&[u8]>) {
        let head = self.head.get(..self.have).unwrap_or_default();
        self.have = 0;
        // An empty line is none.
        if head.trim_ascii().is_empty() && !head.is_empty() {
            return;
        }
        let name = type_in(head).unwrap_or_default();
        let which = TYPES.iter().position(|known| known.as_bytes() == name).unwrap_or(TYPES.len() - 1);
        if let Some(count) = self.counts.get_mut(which) {
            *count += 1;
        }
    }
}

/// `{"type":"ADDED",…`, as API servers write it; the type anywhere else is not looked for.
fn type_in_line(head: &[u8]) -> Option<&[u8]> {
    let mut rest = head;
    for token in [&b"{"[..], b"\"type\"", b":", b"\""] {
        rest = rest.trim_ascii_start().strip_prefix(token)?;
    }
    rest.split(|byte| *byte == b'"').next()
}

/// Field 1 of a WatchEvent, a string.
fn type_in_message(head: &[u8]) -> Option<&[u8]> {
    let [0x0a, length, rest @ ..] = head else { return None };
    rest.get(..usize::from(*length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(form: Form) -> Events {
        Events { form, count: Count::Yes(Box::default()) }
    }

    fn lines() -> Events {
        stream(Form::Lines { between: true })
    }

    fn messages() -> Events {
        stream(Form::Lengths { head: [0; 4], have: 0, left: 0 })
    }

    fn message(kind: &str, size: u8) -> Vec<u8> {
        let mut out = vec![0, 0, 0, 2 + kind.len() as u8 + size, 0x0a, kind.len() as u8];
        out.extend(kind.bytes());
        out.resize(out.len() + usize::from(size), b'x');
        out
    }

    #[test]
    fn a_stream_is_cut_after_its_last_whole_event() {
        struct Row(Events, &'static [&'static [u8]], Option<usize>, bool);
        let rows = [
            Row(lines(), &[b"{\"a\":1}\n"], Some(8), true),
            Row(lines(), &[b"{\"a\":1}\n{\"b\""], Some(8), false),
            Row(lines(), &[b"{\"a\""], None, false),
            Row(lines(), &[b"{\"a\"", b":1}\n"], Some(4), true),
            Row(messages(), &[&[0, 0, 0, 2, 7, 7]], Some(6), true),
            Row(messages(), &[&[0, 0, 0, 2, 7, 7, 0, 0]], Some(6), false),
            Row(messages(), &[&[0, 0], &[0, 2, 7], &[7, 0, 0, 0, 1]], Some(1), false),
            Row(messages(), &[&[0, 0, 0, 0]], Some(4), true),
            Row(Events::NONE, &[b"log line"], Some(8), true),
        ];
        for Row(mut events, pieces, last, between) in rows {
            let fed = pieces.iter().map(|piece| events.feed(piece)).last().flatten();
            assert_eq!((fed, events.between()), (last, between), "{pieces:?}");
        }
    }

    #[test]
    fn whole_events_are_counted_by_their_type_however_they_are_cut_up() {
        let json =
            b"{\"type\":\"ADDED\",\"object\":{}}\n{\"type\":\"ADDED\"}\n\n{ \"type\" : \"BOOKMARK\"}\n\
                     {\"object\":{\"type\":\"ADDED\"}}\n{\"type\":\"ERROR\"}\n{\"type\":\"DELETED\"";
        let told = r#"{"ADDED":2,"BOOKMARK":1,"ERROR":1,"other":1}"#;
        let kinds = [("ADDED", 0), ("MODIFIED", 200), ("MODIFIED", 1), ("NEWER", 90)];
        let protobuf: Vec<u8> = kinds.iter().flat_map(|(kind, size)| message(kind, *size)).collect();
        let told_too = r#"{"ADDED":1,"MODIFIED":2,"other":1}"#;
        for size in 1..64 {
            let (mut text, mut binary) = (lines(), messages());
            json.chunks(size).for_each(|piece| _ = text.feed(piece));
            protobuf.chunks(size).for_each(|piece| _ = binary.feed(piece));
            assert_eq!(text.counts().as_deref(), Some(told), "pieces of {size}");
            assert_eq!(binary.counts().as_deref(), Some(told_too), "pieces of {size}");
        }
        assert_eq!(lines().counts().as_deref(), Some("{}"));
    }

    #[test]
    fn what_cannot_be_counted_is_said() {
        let rows: [(&[(&str, &str)], &str); 4] = [
            (&[("content-type", "application/json"), ("content-encoding", "gzip")], "content-encoding"),
            (&[("content-type", "application/cbor-seq")], "content-type"),
            (&[("content-type", "text/plain")], "content-type"),
            (&[], "content-type"),
        ];
        for (headers, why) in rows {
            let headers = headers
                .iter()
                .map(|(n, v)| (n.parse::<http::HeaderName>().unwrap(), v.parse().unwrap()))
                .collect();
            let told = format!("{{\"uncounted\":\"{why}\"}}");
            assert_eq!(Events::of(&headers, true).counts(), Some(told));
            assert_eq!(Events::of(&headers, false).counts(), None);
        }
        assert_eq!(Events::tunnelled(true).counts().unwrap(), r#"{"uncounted":"websocket"}"#);
    }
}
