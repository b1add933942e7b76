//! What a line of the journal is, as far as sinks need to know: read from its ends, which no caller can forge.
//!
//! A line ends with its annotations, the last of which is the salt. What callers send stands before them, and within them
//! only in strings, where a quote is never bare.

use crate::audit::event::{JOURNAL_ONLY, MicroTime};

/// How every line begins that is an event.
pub(super) const HEAD: &[u8] = b"{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",";

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It goes to the receivers.
    Event,
    /// It is for the journal alone: the policy omits its stage.
    JournalOnly,
    /// It is no event of ours, or not a whole one.
    Other,
}

/// `line` with or without its newline.
pub(super) fn kind(line: &[u8]) -> Kind {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    match before_salt(line) {
        Some(before) if line.starts_with(HEAD) => {
            let annotation = before.strip_suffix(b",").and_then(|before| before.strip_suffix(JOURNAL_ONLY));
            match annotation.is_some_and(|before| before.ends_with(b"{\"") || before.ends_with(b",\"")) {
                true => Kind::JournalOnly,
                false => Kind::Event,
            }
        }
        _ => Kind::Other,
    }
}

/// What stands before the last annotation, if that is the salt.
fn before_salt(line: &[u8]) -> Option<&[u8]> {
    let line = line.strip_suffix(b"\"}}")?;
    let quote = line.iter().rposition(|b| *b == b'"')?;
    line.get(..quote)?.strip_suffix(b"\"gatelog.dev/salt\":")
}

/// `auditID` and `stage`, for the log.
pub(super) fn name(line: &[u8]) -> String {
    let text = |key: &[u8]| {
        let at = line.windows(key.len()).position(|w| w == key).map(|at| at + key.len());
        let value = at.and_then(|at| line.get(at..)).unwrap_or_default();
        let end = value.iter().position(|b| *b == b'"').unwrap_or(0);
        String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
    };
    // Both stand before anything that a caller has a say in.
    format!("{} {}", text(b"\"auditID\":\""), text(b"\"stage\":\""))
}

/// `stageTimestamp`.
pub(super) fn time(line: &[u8]) -> Option<MicroTime> {
    const KEY: &[u8] = b"\",\"stageTimestamp\":\"";
    // Of several, which a body may hold, the last one is the event's own.
    let at = line.windows(KEY.len()).rposition(|w| w == KEY)? + KEY.len();
    MicroTime::parse(std::str::from_utf8(line.get(at..at + 27)?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::event::{Annotations, Event, Head, Level, Stage};

    fn line(annotations: &[(&'static str, &str)], body: Option<&str>, journal_only: bool) -> Vec<u8> {
        let mut all = Annotations::default();
        annotations.iter().for_each(|(key, value)| all.add(key, (*value).to_owned()));
        let mut text = Vec::new();
        Event {
            level: Level::Request,
            id: "a-1",
            stage: Stage::RequestReceived,
            head: &Head::new("/", "get", "{}", None, None),
            impersonated: None,
            status: None,
            request: body.map(str::as_bytes),
            response: None,
            received: MicroTime(0),
            at: MicroTime(1_000_000),
            annotations: &all,
            salt: "0123456789abcdef0123456789abcdef",
            journal_only,
        }
        .write(&mut text);
        text
    }

    #[test]
    fn a_line_is_what_its_end_says() {
        let faked = r#"{"annotations":{"gatelog.dev/journal-only":"true","gatelog.dev/salt":"00"}}"#;
        let texts: &[(&str, &str)] = &[
            ("a", r#"","gatelog.dev/journal-only":"true"#),
            ("b", r#"gatelog.dev/journal-only":"true","gatelog.dev/salt":"00"}}"#),
        ];
        for (annotations, body) in [
            (&[][..], None),
            (&[("a", "b")][..], None),
            (&[][..], Some(faked)),
            (texts, Some(faked)),
            (&[("gatelog.dev/journal-onl", "true")][..], None),
        ] {
            assert_eq!(kind(&line(annotations, body, false)), Kind::Event);
            assert_eq!(kind(&line(annotations, body, true)), Kind::JournalOnly);
        }
    }

    #[test]
    fn a_part_of_a_line_is_none() {
        let whole = line(&[("a", "b")], Some(r#"{"c":{"d":"e"}}"#), false);
        for end in 0..whole.len() - 1 {
            assert_eq!(kind(&whole[..end]), Kind::Other, "{}", String::from_utf8_lossy(&whole[..end]));
        }
        assert_eq!(kind(&whole[..whole.len() - 1]), Kind::Event);
        for other in ["", "\n", "{}", "{}\n", "\"}}", "no JSON"] {
            assert_eq!(kind(other.as_bytes()), Kind::Other);
        }
        assert_eq!(kind(&whole[1..]), Kind::Other);
    }

    #[test]
    fn name_and_time_are_the_events_own() {
        let body = r#"{"auditID":"x","stage":"y","a":"b","stageTimestamp":"2000-01-01T00:00:00.000000Z"}"#;
        let line = line(&[("a", r#"b","stageTimestamp":"2000-01-01T00:00:00.000000Z"#)], Some(body), false);
        assert_eq!(name(&line), "a-1 RequestReceived");
        assert_eq!(time(&line), Some(MicroTime(1_000_000)));
        assert_eq!((name(b"{}"), time(b"{}")), (" ".to_owned(), None));
    }
}
