//! Heads of the tree that were kept elsewhere: signed notes, logs that checkpoints were written to, and what metrics showed.

use super::BadArgs;
use crate::{
    audit::tree::{
        Hash,
        checkpoint::{self, Checkpoint},
        note::BadNote,
    },
    review::record::Keys,
};
use serde_json::Value;
use std::{fs, path::Path};

/// The annotation that a checkpoint stands in.
const KEY: &str = "gatelog.dev/checkpoint";
/// What the metrics are called.
const METRICS: [&str; 2] = ["gatelog_audit_tree_size", "gatelog_audit_tree_root"];

/// A head that the record must be a continuation of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// Leaves.
    pub(super) size: u64,
    /// Their root.
    pub(super) root: Root,
    /// When it was signed, in seconds since 1970, if that is known.
    pub(super) time: Option<u64>,
    /// Where it comes from, for a person.
    pub(super) source: String,
}

/// A root, or the beginning of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    Whole(Hash),
    /// The first 52 bits, as a number.
    Beginning(u64),
}

/// What one argument holds.
#[derive(Debug, Default)]
pub(super) struct OffBox {
    pub(super) heads: Vec<Known>,
    /// Checkpoints that are signed by nobody who may: where they stand and why.
    pub(super) forged: Vec<(String, String)>,
}

impl Root {
    /// Whether it is that of `root`.
    pub(super) fn is(self, root: Hash) -> bool {
        match self {
            Self::Whole(whole) => whole == root,
            Self::Beginning(number) => first_bits(root) == number,
        }
    }
}

/// The first 52 bits of a root, which a metric can hold.
fn first_bits(root: Hash) -> u64 {
    root.0.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes) >> 12)
}

/// `text`: `SIZE:ROOT`, or a file with a signed note, with lines of a log, or with metrics. Checkpoints of logs that no key has
/// the name of are passed over: the logs of many gates may stand in one file.
pub(super) fn read(text: &str, keys: &Keys) -> Result<OffBox, BadArgs> {
    if let Some(head) = text.split_once(':').and_then(|(size, root)| pair(size, root)) {
        let (size, root) = head;
        let heads = vec![Known { size, root, time: None, source: text.to_owned() }];
        return Ok(OffBox { heads, forged: Vec::new() });
    }
    let bytes = fs::read(Path::new(text))
        .map_err(|source| BadArgs::Checkpoint { file: text.to_owned(), what: source.to_string() })?;
    let bytes = String::from_utf8_lossy(&bytes);
    let mut found = OffBox::default();
    let mut others = 0;
    if let Some(head) = scrape(&bytes) {
        found.heads.push(Known { size: head.0, root: head.1, time: None, source: text.to_owned() });
        return Ok(found);
    }
    let notes = match bytes.contains(KEY) {
        true => in_lines(&bytes, text),
        false => vec![(text.to_owned(), bytes.trim_start().trim_end().to_owned() + "\n")],
    };
    for (source, note) in notes {
        match keys.open(note.as_bytes()) {
            Ok(Checkpoint { head, extensions, origin }) => {
                let time = Checkpoint { head, extensions, origin }.time();
                found.heads.push(Known { size: head.size, root: Root::Whole(head.root), time, source });
            }
            Err(checkpoint::Error::Origin { .. }) => others += 1,
            // The file itself is something else.
            Err(e @ checkpoint::Error::Note(BadNote::Shape)) if !bytes.contains(KEY) => {
                return Err(BadArgs::Checkpoint { file: text.to_owned(), what: e.to_string() });
            }
            Err(e) => found.forged.push((source, e.to_string())),
        }
    }
    if found.heads.is_empty() && found.forged.is_empty() {
        let what = match others {
            0 => "no checkpoint in it".to_owned(),
            _ => format!("only checkpoints of other logs in it ({others})"),
        };
        return Err(BadArgs::Checkpoint { file: text.to_owned(), what });
    }
    Ok(found)
}

/// Size and root as somebody wrote them down.
fn pair(size: &str, root: &str) -> Option<(u64, Root)> {
    let size = number(size)?;
    Some((size, Hash::parse(root).map(Root::Whole).or_else(|| Some(Root::Beginning(number(root)?)))?))
}

/// A whole number, in the form that programs which know only floating point write as well.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    text.parse().ok().or_else(|| {
        let number: f64 = text.parse().ok()?;
        let whole = number >= 0.0 && number < (1u64 << 53) as f64 && number.fract() == 0.0;
        whole.then_some(number as u64)
    })
}

/// Size and root out of a page of metrics.
fn scrape(text: &str) -> Option<(u64, Root)> {
    let [size, root] = METRICS.map(|name| {
        text.lines().find_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = if rest.starts_with('{') { rest.split_once('}')?.1 } else { rest };
            number(value.strip_prefix(' ')?.split(' ').next()?)
        })
    });
    Some((size?, Root::Beginning(root?)))
}

/// The notes in lines of JSON, whatever stands around them, with the place of each.
fn in_lines(text: &str, file: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| line.contains(KEY)) {
        // A collector may have put something before the line, such as the time.
        let json = line.find('{').and_then(|at| line.get(at..)).unwrap_or_default();
        let value: Option<Value> =
            serde_json::Deserializer::from_str(json).into_iter().next().and_then(Result::ok);
        let mut notes = Vec::new();
        if let Some(value) = value {
            collect(&value, &mut notes, 0);
        }
        found.extend(notes.into_iter().map(|note| (format!("{file} line {number}"), note)));
    }
    found
}

/// The notes in a value: of an Event, of a list of them, or of the line of a log in a string. Of an Event only its own annotations
/// count: whatever else is in it, callers write.
fn collect(value: &Value, notes: &mut Vec<String>, depth: u8) {
    match value {
        Value::Object(event) if event.get("kind").is_some_and(|kind| kind == "Event") => {
            let note = event.get("annotations").and_then(|annotations| annotations.get(KEY)?.as_str());
            notes.extend(note.map(str::to_owned));
        }
        Value::Object(members) => members.values().for_each(|value| collect(value, notes, depth)),
        Value::Array(items) => items.iter().for_each(|item| collect(item, notes, depth)),
        Value::String(text) if depth < 3 && text.contains(KEY) => {
            if let Ok(value) = serde_json::from_str(text.trim()) {
                collect(&value, notes, depth + 1);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_caller_puts_a_checkpoint_into_a_log() {
        let event = r#"{"kind":"Event","annotations":{"gatelog.dev/checkpoint":"own"}}"#;
        let forged = r#"{"kind":"Event","annotations":{"a":"b"},"requestObject":{"kind":"ConfigMap","metadata":{"annotations":
            {"gatelog.dev/checkpoint":"x"}}},"userAgent":"{\"kind\":\"Event\",\"annotations\":{\"gatelog.dev/checkpoint\":\"y\"}}"}"#
            .replace('\n', "");
        let wrapped = serde_json::json!({"log": forged, "stream": "stdout"}).to_string();
        let rows: [(&str, &[&str]); 6] = [
            (event, &["own"]),
            (&format!("12:00 stdout F {event}"), &["own"]),
            (&format!("{{\"items\":[{event},{forged},{event}]}}"), &["own", "own"]),
            (&forged, &[]),
            (&wrapped, &[]),
            (r#"{"path":"/","gatelog.dev/checkpoint":"x"}"#, &[]),
        ];
        for (line, notes) in rows {
            let found: Vec<_> = in_lines(line, "f").into_iter().map(|(_, note)| note).collect();
            assert_eq!(found, notes, "{line}");
        }
    }
}
