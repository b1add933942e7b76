//! The table language: one request and what must come of it, in a few lines of text.
//!
//! ```text
//! ## topic of the rows below
//! carol GET /api/v1/pods              who asks (see `world`), method, target: `\xNN`, `\t`, `\\` and `\{n text}` (repeat) are understood
//!   Impersonate-User: bob             a header, verbatim after the colon and one space
//!   body {"kind":…}                   a JSON body (`body TYPE …` is not needed: a Content-Type header replaces the default)
//!   => 403 pods is forbidden: …       kube-apiserver's code and text; a trailing … makes it a prefix, a leading ~ a substring
//!   gate 400 …                        what the gate answers where it is stricter than kube-apiserver
//!   demo 404                          what comes through the gate where the demo knows less than kube-apiserver
//!   audit RC list v1:pods / forbid    stages, verb, group/version:resource/sub, namespace/name, decision
//!   gate-audit S - - / -              the same where the gate is stricter; `~` stands for anything, `none` for no event
//!   by carol[system:authenticated]    user of the event: name#uid[groups]{extra}
//!   as bob[…]                         impersonatedUser
//!   < X-Content-Type-Options: nosniff a header of the answer; `< !Name` must not be there
//!   refused objects                   the part of validation by which the gate refuses it itself
//!   stream                            the answer goes on: read its head, hang up
//!   real-only, demo-only              asked of the real server or before the demo only
//! ```

use super::world::World;

/// One row of a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    /// Where it stands: `file:line (topic)`.
    pub(crate) at: String,
    /// Who asks.
    pub(crate) who: String,
    /// HTTP method, verbatim.
    pub(crate) method: String,
    /// Request target, verbatim.
    pub(crate) target: Vec<u8>,
    /// Name and value, verbatim.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    /// Request body.
    pub(crate) body: Option<String>,
    /// kube-apiserver's answer.
    pub(crate) real: Option<Answer>,
    /// The gate's, where it is stricter.
    pub(crate) gate: Option<Answer>,
    /// Through the gate to the demo, where that one knows less.
    pub(crate) demo: Option<Answer>,
    /// The expected record.
    pub(crate) audit: Option<String>,
    /// The gate's record, where it is stricter.
    pub(crate) gate_audit: Option<String>,
    /// The event's user.
    pub(crate) by: Option<String>,
    /// The event's impersonated user.
    pub(crate) impersonated: Option<String>,
    /// Headers of the answer; None: must be absent.
    pub(crate) answer_headers: Vec<(String, Option<String>)>,
    /// The part of validation that refuses it at the gate.
    pub(crate) refused: Option<String>,
    /// Whether to hang up after the head.
    pub(crate) stream: bool,
    /// `real` or `demo`; empty: everybody is asked.
    pub(crate) only: String,
}

/// A code and a text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    /// HTTP status code.
    pub(crate) code: u16,
    /// Empty: anything.
    pub(crate) text: String,
}

impl Answer {
    fn parse(s: &str) -> Self {
        let (code, text) = s.split_once(' ').unwrap_or((s, ""));
        Self { code: code.parse().unwrap_or_else(|_| panic!("{s:?} has no status code")), text: plain(text) }
    }

    /// Whether `text` is the expected one.
    pub(crate) fn accepts(&self, text: &str) -> bool {
        match (self.text.strip_prefix('~'), self.text.strip_suffix('…')) {
            _ if self.text.is_empty() => true,
            (Some(part), _) => text.contains(part),
            (_, Some(start)) => text.starts_with(start),
            _ => text == self.text,
        }
    }
}

/// Reads a table. Panics on what it does not understand: a row that is not run is a hole.
pub(crate) fn parse(file: &str, table: &str) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut topic = "";
    for (number, line) in table.lines().enumerate() {
        let at = || format!("{file}:{}", number + 1);
        if let Some(title) = line.strip_prefix("## ") {
            topic = title;
        } else if line.trim().is_empty() || line.starts_with('#') || World::owns(line) {
        } else if !line.starts_with(' ') {
            let mut words = line.splitn(3, ' ');
            let (Some(who), Some(method), Some(target)) = (words.next(), words.next(), words.next()) else {
                panic!("{}: not a request: {line}", at())
            };
            rows.push(Row {
                at: format!("{} ({topic})", at()),
                who: who.into(),
                method: method.into(),
                target: bytes(target.trim_end()),
                ..Row::default()
            });
        } else {
            let row = rows.last_mut().unwrap_or_else(|| panic!("{}: belongs to no row", at()));
            detail(row, line.trim_start()).unwrap_or_else(|| panic!("{}: not understood: {line}", at()));
        }
    }
    rows
}

fn detail(row: &mut Row, line: &str) -> Option<()> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "=>" => row.real = Some(Answer::parse(rest)),
        "gate" => row.gate = Some(Answer::parse(rest)),
        "demo" => row.demo = Some(Answer::parse(rest)),
        "audit" => row.audit = Some(rest.into()),
        "gate-audit" => row.gate_audit = Some(rest.into()),
        "by" => row.by = Some(rest.into()),
        "as" => row.impersonated = Some(rest.into()),
        "body" => row.body = Some(rest.into()),
        "refused" => row.refused = Some(rest.into()),
        "stream" => row.stream = true,
        "real-only" | "demo-only" => row.only = word.strip_suffix("-only")?.into(),
        "<" => row.answer_headers.push(match rest.strip_prefix('!') {
            Some(name) => (name.to_ascii_lowercase(), None),
            None => {
                let (name, value) = rest.split_once(": ")?;
                (name.to_ascii_lowercase(), Some(value.to_owned()))
            }
        }),
        _ => {
            let (name, value) = line.split_once(':')?;
            row.headers.push((name.to_owned(), bytes(value.strip_prefix(' ').unwrap_or(value))));
        }
    }
    Some(())
}

fn plain(s: &str) -> String {
    s.replace("\\n", "\n")
}

/// Undoes the escapes of a request's text.
fn bytes(s: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = s;
    while let Some(at) = rest.find('\\') {
        out.extend(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let taken = match rest.as_bytes().first() {
            Some(b't') => {
                out.push(b'\t');
                1
            }
            Some(b'\\') => {
                out.push(b'\\');
                1
            }
            Some(b'x') => {
                out.push(u8::from_str_radix(&rest[1..3], 16).unwrap());
                3
            }
            Some(b'{') => {
                let end = rest.find('}').unwrap();
                let (n, text) = rest[1..end].split_once(' ').unwrap();
                out.extend(text.repeat(n.parse().unwrap()).as_bytes());
                end + 1
            }
            _ => panic!("unknown escape in {s:?}"),
        };
        rest = &rest[taken..];
    }
    out.extend(rest.as_bytes());
    out
}
