//! YAML documents, bounded: what an operator writes, read as `sigs.k8s.io/yaml` reads it where that is safe.
//!
//! YAML 1.1 booleans and octal numbers mean what they mean to Kubernetes. Stricter than Kubernetes: a duplicate key is
//! an error in every mode (there the last one wins), and so are infinities. JSON is read as the YAML it is, so that it
//! gets the same duplicate check.
//!
//! Errors carry line and column but never a piece of the text: a configuration may hold secrets.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::{MessageFormatter, Options, Spanned, UserMessageFormatter};
use std::fmt;

/// One document of a stream, with its place in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// What it says; never null.
    pub value: Value,
    /// Counted from 1 among the documents that are not empty.
    pub number: usize,
    /// The line its content starts on, counted from 1.
    pub line: u64,
}

/// How much one text may hold; past it, reading stops with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Size of the text, in bytes.
    pub bytes: usize,
    /// Scalars, sequences and mappings, aliases expanded.
    pub nodes: usize,
    /// Documents in the stream.
    pub documents: usize,
    /// Scalars, sequences and mappings that aliases stand for, each as long as the text at most.
    pub aliased: usize,
}

impl Limits {
    /// For files that people write by hand: 4 MiB, 50,000 nodes, 1,024 documents.
    pub const HAND_WRITTEN: Self = Self { bytes: 4 << 20, nodes: 50_000, documents: 1024, aliased: 50_000 };
    /// For files that programs write, such as a dump of a cluster's roles: 256 MiB, 10,000,000 nodes, 500,000 documents.
    pub const DUMP: Self =
        Self { bytes: 256 << 20, nodes: 10_000_000, documents: 500_000, aliased: 1_000_000 };
}

/// Text that is not YAML, or more of it than allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// Where, line then column, both counted from 1; None when the whole text is at fault.
    pub at: Option<(u64, u64)>,
    /// What is wrong, on one line.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some((line, column)) => write!(f, "line {line}, column {column}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// All documents of `text` that are not empty, within [`Limits::HAND_WRITTEN`].
pub fn documents(text: &str) -> Result<Vec<Document>, Error> {
    documents_within(text, Limits::HAND_WRITTEN)
}

/// All documents of `text` that are not empty, within `limits`.
pub fn documents_within(text: &str, limits: Limits) -> Result<Vec<Document>, Error> {
    check_size(text, limits)?;
    let found: Vec<Spanned<Value>> =
        serde_saphyr::from_multiple_with_options(text, options(limits)).map_err(|e| located(&e))?;
    let place = |(i, d): (usize, Spanned<Value>)| Document {
        line: d.referenced.line(),
        number: i + 1,
        value: d.value,
    };
    Ok(found.into_iter().enumerate().map(place).collect())
}

/// The only document of `text` as a `T`, within [`Limits::HAND_WRITTEN`]. What `T` finds wrong is located, too.
pub fn object<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    check_size(text, Limits::HAND_WRITTEN)?;
    serde_saphyr::from_str_with_options(text, options(Limits::HAND_WRITTEN)).map_err(|e| located(&e))
}

fn check_size(text: &str, limits: Limits) -> Result<(), Error> {
    if text.len() <= limits.bytes {
        return Ok(());
    }
    Err(Error {
        at: None,
        message: format!("{} bytes are more than the allowed {}", text.len(), limits.bytes),
    })
}

fn options(limits: Limits) -> Options {
    let budget = serde_saphyr::budget! {
        max_nodes: limits.nodes,
        // Every node is at most two events, every document two more.
        max_events: limits.nodes.saturating_mul(2).saturating_add(limits.documents.saturating_mul(2)),
        max_documents: limits.documents,
        max_total_scalar_bytes: limits.bytes,
    };
    let mut options = serde_saphyr::options! {
        budget: budget,
        legacy_octal_numbers: true,
        // Comments would be collected for nobody, and long blocks of them hit a limit of their own.
        emit_comments: false,
        // A snippet quotes the text, and so might quote a secret.
        with_snippet: false,
    };
    // The budget counts what stands in the text; this counts what its aliases expand to.
    options.alias_limits.max_total_replayed_events = limits.aliased;
    options
}

fn located(error: &serde_saphyr::Error) -> Error {
    let error = error.without_snippet();
    let at = error.location().map(|l| (l.line(), l.column())).filter(|&(line, _)| line > 0);
    let message = UserMessageFormatter.format_message(error);
    // Keys and tags of the text are quoted in some messages: no control character of theirs reaches a terminal.
    let message =
        message.chars().flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] });
    Error { at, message: message.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `yaml => the documents as (line, value)`
    macro_rules! reads {
        ($text:expr => $(($line:expr, $value:tt)),* $(,)?) => {{
            let got: Vec<_> = documents($text).unwrap().into_iter().map(|d| (d.line, d.value)).collect();
            let want: Vec<(u64, Value)> = vec![$(($line, json!($value))),*];
            assert_eq!(got, want, "{:?}", $text);
        }};
    }
    /// `yaml => the error`
    macro_rules! refuses {
        ($text:expr => $error:expr) => {
            assert_eq!(documents($text).unwrap_err().to_string(), $error, "{:?}", $text)
        };
    }

    #[test]
    fn documents_are_counted_and_empty_ones_skipped() {
        reads!("" => );
        reads!("# nothing\n---\n...\n" => );
        reads!("a: 1" => (1, {"a": 1}));
        reads!("---\na: 1\n---\n---\n# c\n\nb: 2\n---\n" => (2, {"a": 1}), (7, {"b": 2}));
        reads!("- 1\n--- \n[2, 3]\n" => (1, [1]), (3, [2, 3]));
        let numbers: Vec<_> =
            documents("---\n---\na: 1\n---\nb: 1").unwrap().iter().map(|d| d.number).collect();
        assert_eq!(numbers, [1, 2]);
    }

    #[test]
    fn scalars_mean_what_they_mean_to_kubernetes() {
        reads!("[yes, on, no, off, true, ~]" => (1, [true, true, false, false, true, null]));
        reads!("[0777, 1_000, 0x10, 1.5, -3]" => (1, [511, 1000, 16, 1.5, -3]));
        reads!("['yes', \"0777\", v1, rbac.authorization.k8s.io/v1]" => (1, ["yes", "0777", "v1", "rbac.authorization.k8s.io/v1"]));
        reads!("a: |\n  x\n  y\nb: >-\n  x\n  y" => (1, {"a": "x\ny\n", "b": "x y"}));
        reads!("['*', '*/*', \"\"]" => (1, ["*", "*/*", ""]));
    }

    #[test]
    fn anchors_and_merge_keys_are_followed() {
        reads!("x: &r {verbs: [get]}\ny: *r" => (1, {"x": {"verbs": ["get"]}, "y": {"verbs": ["get"]}}));
        reads!("x: &r {a: 1}\ny: {<<: *r, b: 2}" => (1, {"x": {"a": 1}, "y": {"a": 1, "b": 2}}));
    }

    #[test]
    fn json_is_read_too() {
        reads!("{\"a\": [\"x\\u00e9\\/y\", 1e3, null], \"b\": {}}" => (1, {"a": ["xé/y", 1000.0, null], "b": {}}));
        reads!("{\n\t\"a\":\t[\n\t\t1\n\t]\n}\n" => (1, {"a": [1]}));
    }

    #[test]
    fn faults_are_located() {
        refuses!("a: 1\nb: 2\na: 3" => "line 3, column 1: duplicate mapping key `a` is not allowed here");
        refuses!("{\"a\": 1, \"a\": 2}" => "line 1, column 10: duplicate mapping key `a` is not allowed here");
        refuses!("a: *nobody" => "line 1, column 4: reference to unknown value");
        assert_eq!(documents("a: [1, 2\nb: 3").unwrap_err().at.unwrap().0, 2);
        assert_eq!(documents("ok: 1\n---\na: b: c").unwrap_err().at.unwrap().0, 3);
        assert!(documents("a: .inf").is_err());
    }

    #[test]
    fn errors_quote_neither_values_nor_control_characters() {
        let e = documents("password: hunter2\nx: [hunter2").unwrap_err().to_string();
        assert!(!e.contains("hunter2"), "{e}");
        let e = documents("\"\\u001b[2J\": 1\n\"\\u001b[2J\": 2").unwrap_err().to_string();
        assert!(!e.contains('\u{1b}'), "{e:?}");
    }

    #[test]
    fn everything_is_bounded() {
        let bomb = (1..9).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |s, i| {
            s + &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(", "))
        });
        assert!(documents(&bomb).is_err());
        let limits = Limits { bytes: 100, nodes: 10, documents: 2, aliased: 10 };
        assert!(documents_within(&" ".repeat(101), limits).is_err());
        assert!(documents_within("[1, 2, 3, 4, 5, 6, 7, 8, 9]", limits).is_ok());
        assert!(documents_within("[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]", limits).is_err());
        assert!(documents_within("1\n---\n2\n---\n3", limits).is_err());
        let many = format!("a: &a {}\nb: [*a, *a, *a]", "x".repeat(20));
        assert!(documents_within(&many, Limits { aliased: 3, ..limits }).is_ok());
        assert!(documents_within(&many, Limits { aliased: 2, ..limits }).is_err());
        assert!(documents(&format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000))).is_err());
        assert!(documents(&"- ".repeat(50_000)).is_err());
        assert_eq!(documents(&format!("{}a: 1", "# comment\n".repeat(10_000))).unwrap()[0].line, 10_001);
    }

    #[test]
    fn typed_reading_locates_what_the_type_refuses() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct T {
            a: u8,
        }
        assert_eq!(object::<T>("a: 7").unwrap().a, 7);
        let e = object::<T>("a: 7\nbb: 8").unwrap_err();
        assert_eq!((e.at.unwrap().0, e.message.as_str()), (2, "unknown field `bb`, expected one of a"));
        assert!(object::<T>("a: 7\n---\na: 8").is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[ -~\n\t]{0,200}") {
            let _ = documents(&text);
        }
    }
}
