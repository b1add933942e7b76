//! What a start makes of what an earlier process left: lines that the tree does not know yet, and requests without an end.
//!
//! Lines are known by what they begin with, which is the same for all that the gate writes; what looks otherwise is parsed. A
//! line that is no event is what a crash cut off.

use super::{
    line::{Entry, Line, Part},
    open::Open,
};
use crate::audit::{
    event::{MicroTime, Stage},
    folder::{self, Segment},
    id,
    ledger::{Position, Step},
    tree::{Hash, leaf::AuditId},
};
use serde_json::{Value, value::RawValue};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead},
    path::Path,
};

const BEGIN: &[u8] = b"{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"level\":\"";
const ID: &[u8] = b"\",\"auditID\":\"";
const STAGE: &[u8] = b"\",\"stage\":\"";
const AT: &[u8] = b"\",\"stageTimestamp\":\"";
const SALT: &[u8] = b"\"gatelog.dev/salt\":\"";
/// Characters of a UUID.
const UUID: usize = 36;
/// Bytes of a line's end: the salt and what closes it.
const END: usize = SALT.len() + 32 + 3;

/// Hands on what stands in the segments of `dir` after `from`, in order, and the place after it; all of it is on the disk. Says
/// where it ends.
pub(crate) fn steps(
    dir: &Path,
    from: Position,
    mut each: impl FnMut(Step, Position),
) -> io::Result<Position> {
    let mut end = from;
    for segment in folder::segments(dir)?.iter().filter(|s| s.number >= from.segment) {
        if !segment.compressed {
            File::open(&segment.path)?.sync_all()?;
        }
        let skip = if segment.number == from.segment { from.offset } else { 0 };
        if segment.number > from.segment {
            end = Position { segment: segment.number, offset: 0 };
            each(Step::Segment(segment.number), end);
        }
        lines(segment, |offset, line| {
            if offset < skip {
                return;
            }
            end = Position { segment: segment.number, offset: offset + line.len() as u64 };
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let step = Known::of(text).and_then(|known| known.entry(line));
            each(step.map_or_else(|| Step::Torn(Hash::of(text)), Step::Line), end);
        })?;
    }
    Ok(end)
}

/// The requests in `dir` that have a first line and no last one.
pub(crate) fn open(dir: &Path) -> io::Result<Open> {
    let (mut open, since) = Open::load(dir).unwrap_or_default();
    for segment in folder::segments(dir)?.iter().filter(|s| s.number >= since) {
        lines(segment, |offset, line| {
            if let Some(known) = Known::of(line.strip_suffix(b"\n").unwrap_or(line)) {
                open.note(known.id, known.part(), Position { segment: segment.number, offset });
            }
        })?;
    }
    Ok(open)
}

/// Hands on, for every request that is `open` (in the order of the journal), the line that ends it. One whose first line is gone
/// has no end to miss.
pub(crate) fn close(
    dir: &Path,
    open: &[(AuditId, Position)],
    now: MicroTime,
    mut deliver: impl FnMut(&Line<'_>),
) -> io::Result<usize> {
    let mut closed = 0;
    let mut numbers: Vec<u64> = open.iter().map(|(_, at)| at.segment).collect();
    numbers.dedup();
    for number in numbers {
        // A segment that is sealed meanwhile has another name then, and one that is pruned none.
        for tries in 1.. {
            let Some(segment) = folder::segments(dir)?.into_iter().find(|s| s.number == number) else {
                break;
            };
            let mut wanted = open.iter().filter(|(_, at)| at.segment == number).peekable();
            let read = lines(&segment, |offset, line| {
                while wanted.next_if(|(_, at)| at.offset < offset).is_some() {}
                if let Some((id, _)) = wanted.next_if(|(_, at)| at.offset == offset)
                    && let Some(text) = last_line(line, *id, now)
                {
                    closed += 1;
                    deliver(&Line::new(&text, *id, Stage::ResponseComplete, now, Part::Last));
                }
            });
            match read {
                Err(e) if e.kind() == io::ErrorKind::NotFound && tries < 10 => {}
                read => {
                    read?;
                    break;
                }
            }
        }
    }
    Ok(closed)
}

/// Every line of a segment, with the newline that ends it, and where it begins.
fn lines(segment: &Segment, mut each: impl FnMut(u64, &[u8])) -> io::Result<()> {
    let mut reader = segment.open()?;
    let mut offset = 0;
    let mut held = Vec::new();
    loop {
        let block = reader.fill_buf()?;
        let Some(last) = block.iter().rposition(|b| *b == b'\n') else {
            if block.is_empty() {
                return Ok(());
            }
            held.extend_from_slice(block);
            let used = block.len();
            reader.consume(used);
            continue;
        };
        for line in block[..=last].split_inclusive(|b| *b == b'\n') {
            let line = if held.is_empty() {
                line
            } else {
                held.extend_from_slice(line);
                &held
            };
            each(offset, line);
            offset += line.len() as u64;
            held.clear();
        }
        held.extend_from_slice(&block[last + 1..]);
        let used = block.len();
        reader.consume(used);
    }
}

/// What a line says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    id: AuditId,
    stage: Stage,
    /// `stageTimestamp`, if it had to be parsed.
    at: Option<MicroTime>,
}

impl Known {
    /// `text` is without its newline.
    fn of(text: &[u8]) -> Option<Self> {
        Self::by_its_form(text).or_else(|| Self::by_its_content(text))
    }

    fn by_its_form(text: &[u8]) -> Option<Self> {
        let end = text.len().checked_sub(END).and_then(|at| text.get(at..))?;
        if !(end.starts_with(SALT) && end.ends_with(b"\"}}")) {
            return None;
        }
        let rest = text.strip_prefix(BEGIN)?;
        let level = rest.iter().position(|b| *b == b'"')?;
        let (id, rest) = rest[level..].strip_prefix(ID)?.split_at_checked(UUID)?;
        let rest = rest.strip_prefix(STAGE)?;
        let end = rest.iter().position(|b| *b == b'"')?;
        let id = std::str::from_utf8(id).ok()?.parse().ok()?;
        let stage = Stage::parse(std::str::from_utf8(&rest[..end]).ok()?)?;
        Some(Self { id, stage, at: None })
    }

    fn by_its_content(text: &[u8]) -> Option<Self> {
        let event: Value = serde_json::from_slice(text).ok()?;
        let word = |key: &str| event[key].as_str();
        (word("kind") == Some("Event")).then_some(())?;
        Some(Self {
            id: word("auditID")?.parse().ok()?,
            stage: Stage::parse(word("stage")?)?,
            at: Some(word("stageTimestamp").and_then(MicroTime::parse).unwrap_or_default()),
        })
    }

    fn part(&self) -> Part {
        match self.stage {
            Stage::RequestReceived => Part::First,
            Stage::ResponseStarted => Part::Between,
            Stage::ResponseComplete | Stage::Panic => Part::Last,
        }
    }

    /// `line` is with its newline.
    fn entry(&self, line: &[u8]) -> Option<Entry> {
        let at = self.at.or_else(|| {
            // Behind it are annotations only, in whose texts a quotation mark is escaped.
            let at = line.windows(AT.len()).rposition(|window| window == AT)? + AT.len();
            MicroTime::parse(std::str::from_utf8(line.get(at..at + 27)?).ok()?)
        });
        Some(Line::new(line, self.id, self.stage, at?, self.part()).entry)
    }
}

/// The line that ends the request `id`, made of its `first` one.
fn last_line(first: &[u8], id: AuditId, now: MicroTime) -> Option<Vec<u8>> {
    let known = Known::of(first.strip_suffix(b"\n")?)?;
    if known.id != id || known.stage != Stage::RequestReceived {
        return None;
    }
    let members: Members<'_> = serde_json::from_slice(first).ok()?;
    let mut out = Vec::with_capacity(first.len() + 256);
    let mut member = |key: &str, value: &[u8]| {
        out.extend_from_slice(if out.is_empty() { b"{\"" } else { b",\"" });
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        out.extend_from_slice(value);
    };
    member("kind", b"\"Event\"");
    member("apiVersion", b"\"audit.k8s.io/v1\"");
    member("level", members.level.get().as_bytes());
    member("auditID", format!("\"{id}\"").as_bytes());
    member("stage", b"\"ResponseComplete\"");
    let head = [
        ("requestURI", members.request_uri),
        ("verb", members.verb),
        ("user", members.user),
        ("impersonatedUser", members.impersonated_user),
        ("sourceIPs", members.source_ips),
        ("userAgent", members.user_agent),
        ("objectRef", members.object_ref),
        ("requestObject", members.request_object),
        ("requestReceivedTimestamp", members.received),
    ];
    for (key, value) in head {
        if let Some(value) = value {
            member(key, value.get().as_bytes());
        }
    }
    member("stageTimestamp", format!("\"{now}\"").as_bytes());
    let mut annotations = members.annotations;
    annotations.remove("gatelog.dev/journal-only");
    annotations.remove("gatelog.dev/salt");
    annotations.insert("gatelog.dev/end".into(), "the gate ended before the request did".into());
    annotations.insert("gatelog.dev/outcome".into(), "unknown".into());
    let mut text = serde_json::to_vec(&annotations).ok()?;
    text.pop();
    text.extend_from_slice(b",\"gatelog.dev/salt\":\"");
    text.extend_from_slice(id::salt().as_bytes());
    text.extend_from_slice(b"\"}");
    member("annotations", &text);
    out.extend_from_slice(b"}\n");
    Some(out)
}

/// The members of a first line, as they are written there.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members<'a> {
    #[serde(borrow)]
    level: &'a RawValue,
    #[serde(borrow, rename = "requestURI")]
    request_uri: Option<&'a RawValue>,
    #[serde(borrow)]
    verb: Option<&'a RawValue>,
    #[serde(borrow)]
    user: Option<&'a RawValue>,
    #[serde(borrow)]
    impersonated_user: Option<&'a RawValue>,
    #[serde(borrow, rename = "sourceIPs")]
    source_ips: Option<&'a RawValue>,
    #[serde(borrow)]
    user_agent: Option<&'a RawValue>,
    #[serde(borrow)]
    object_ref: Option<&'a RawValue>,
    #[serde(borrow)]
    request_object: Option<&'a RawValue>,
    #[serde(borrow, rename = "requestReceivedTimestamp")]
    received: Option<&'a RawValue>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests;
