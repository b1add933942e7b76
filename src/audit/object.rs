//! Bodies as the record holds them: the JSON that they are, whatever went over the wire, on one line and without what is secret;
//! or, when that cannot be had, why, the body's size and a keyed digest of its bytes on the wire, so that two bodies can still be
//! compared by whoever has the journal's key, and what the body says of itself as far as it can be seen:
//!
//! ```json
//! {"gatelog.dev/omitted":"size","size":412000,"hmacSHA256":"9f…","contentType":"application/json",
//!  "apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings","namespace":"shop"}}
//! ```
//!
//! Omitted is what cannot be decoded whole (`encoding`; `why` says more); what is larger than the configured cap, before or
//! after it was decoded (`size`); what is nested more deeply than common readers can follow (`depth`), or holds too many values to be
//! looked through (`values`); and what the queue had no room for (`room`). Nothing is ever cut: a piece of a text could not be
//! searched for what is secret. A JSON text keeps its numbers and its key order; only white space between tokens goes, `managedFields` when
//! the policy asks, and halves of surrogate pairs become U+FFFD as in Go.
//!
//! Reading is bounded in bytes, depth and values whatever the body is ([`MOST_READ`]), and long work is done [aside].

mod managed;
mod wire;

use super::{
    event::{ObjectMeta, cut},
    policy::Verdict,
    redact::{About, Redactor, Unreadable},
};
use crate::{
    codec::{
        cbor,
        document::{Document, Undecodable},
        head::Head,
        protobuf,
        tape::{Kind, Tape},
    },
    status::push_json_str,
};
use aws_lc_rs::hmac;
use std::{
    borrow::Cow,
    fmt::Write as _,
    ops::Deref,
    sync::{Condvar, Mutex, PoisonError},
};
use tokio::runtime::{Handle, RuntimeFlavor};

pub(super) use wire::{BEGINNING, Wire, is_gzip};

/// Levels of nesting that are recorded; serde_json, for one, stops at 128.
const DEEPEST: usize = 100;
/// Bytes of JSON that are made of a body to learn what it says of itself, be they recorded or not.
const MOST_READ: usize = 4 << 20;
/// Work, as bytes of JSON, for which other requests of the thread do not wait.
const LONG: usize = 64 << 10;
/// Keys and values that are read of a body; more than are looked through for what is secret, so that it is still told what the body is.
const MOST_NODES: usize = 1 << 21;

/// Why a body is not recorded as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Omitted {
    /// It cannot be decoded whole, for this reason.
    Encoding(Cow<'static, str>),
    Size,
    Depth,
    Values,
    Room,
}

/// A body that was read.
#[derive(Debug)]
pub(super) struct Body<'t> {
    /// What it says of itself.
    pub(super) object: Object,
    /// What of it is recorded, on one line; as it came where nothing is.
    line: Held<'t>,
}

/// A tape that others read too, or one of the record's own.
#[derive(Debug)]
enum Held<'t> {
    Theirs(&'t Tape<'t>),
    Ours(Tape<'t>),
}

/// What a body says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Object {
    /// Top-level `apiVersion`.
    pub(super) api_version: String,
    /// Top-level `kind`.
    pub(super) kind: String,
    /// Top-level `metadata`.
    pub(super) meta: ObjectMeta,
    /// It has a `generateName`.
    pub(super) generated: bool,
    /// How many `items` it has, if it has any.
    pub(super) items: Option<u64>,
}

/// What is wanted of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// All of it.
    Whole,
    /// All but `managedFields`: of the object, of a list's items, and of a Table's rows.
    NoManagedFields,
    /// Only what it says of itself.
    Nothing,
}

/// How bodies of a request are recorded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recipe<'a> {
    pub(super) redactor: &'a Redactor,
    pub(super) about: About<'a>,
    pub(super) keep: Keep,
    /// Longest text, in bytes.
    pub(super) most: usize,
}

/// What stands in the event.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) json: Vec<u8>,
    /// The rules that took something out.
    pub(super) rules: Vec<String>,
}

// === impl Keep ===

impl Keep {
    /// What the policy wants of an object.
    pub(super) fn of(verdict: &Verdict) -> Self {
        if verdict.omit_managed_fields { Self::NoManagedFields } else { Self::Whole }
    }
}

// === impl Recipe ===

impl Recipe<'_> {
    /// The whole body. `document`: the same, where others read it too.
    pub(super) fn read<'t, 'd: 't>(
        &self,
        wire: &Wire<'t>,
        document: Option<&'t Document<'d>>,
    ) -> Result<Body<'t>, Omitted> {
        let most = self.most.max(MOST_READ);
        let tape = match document.filter(|_| wire.is_plain()) {
            Some(document) => Held::Theirs(document.tape()?),
            None => Held::Ours(wire.tape(most)?),
        };
        if tape.text().len() > most {
            return Err(Omitted::Size);
        }
        Body::of(tape, self.keep)
    }

    /// What the event says of a body. `digest`: of its bytes on the wire, `size` of them.
    pub(super) fn write(
        &self,
        wire: &Wire<'_>,
        read: &Result<Body<'_>, Omitted>,
        size: u64,
        digest: impl FnOnce() -> hmac::Tag,
    ) -> Written {
        let (why, object) = match read {
            Ok(body) if body.line.raw(0).len() > self.most => (Omitted::Size, Cow::Borrowed(&body.object)),
            Ok(body) => match self.redactor.tape(&self.about, &body.line) {
                // Marks are longer than short values.
                Ok(redacted) if redacted.text.len() <= self.most.saturating_mul(2) => {
                    let rules = redacted.rules.iter().map(|rule| (*rule).to_owned()).collect();
                    return Written { json: redacted.text.into_owned().into_bytes(), rules };
                }
                Ok(_) => (Omitted::Size, Cow::Borrowed(&body.object)),
                Err(why) => (why.into(), Cow::Borrowed(&body.object)),
            },
            // What a text is that is none, nobody knows.
            Err(why @ Omitted::Encoding(_)) if !wire.is_protobuf() => {
                (why.clone(), Cow::Owned(Object::default()))
            }
            Err(why) => (why.clone(), Cow::Owned(wire.beginning())),
        };
        Written { json: self.omitted(&why, size, &digest(), wire.content_type(), &object), rules: Vec::new() }
    }

    /// What stands in place of a body of `size` bytes whose digest is `tag`.
    pub(super) fn omitted(
        &self,
        why: &Omitted,
        size: u64,
        tag: &hmac::Tag,
        content_type: &str,
        object: &Object,
    ) -> Vec<u8> {
        let word = why.as_str();
        let mut out = format!("{{\"gatelog.dev/omitted\":\"{word}\",\"size\":{size},\"hmacSHA256\":\"");
        for byte in tag.as_ref() {
            // Infallible: it is a string.
            let _ = write!(out, "{byte:02x}");
        }
        let mut out = out.into_bytes();
        out.push(b'"');
        if let Omitted::Encoding(why) = why {
            member(&mut out, "why", why);
        }
        if let Some(items) = object.items {
            out.extend_from_slice(format!(",\"items\":{items}").as_bytes());
        }
        member(&mut out, "contentType", &self.redactor.text(&cut(content_type, 256)).text);
        let head = head(object);
        if let Ok(head) = self.redactor.body(&self.about, &head)
            && let Some(members) = head.text.strip_prefix('{').filter(|members| members.len() > 1)
        {
            out.push(b',');
            out.extend_from_slice(members.as_bytes());
        } else {
            out.push(b'}');
        }
        out
    }
}

// === impl Body ===

impl<'t> Body<'t> {
    fn of(tape: Held<'t>, keep: Keep) -> Result<Self, Omitted> {
        if tape.depth() > DEEPEST {
            return Err(Omitted::Depth);
        }
        if tape.traits().odd_numbers && (0..tape.count()).any(|at| is_out_of_range(&tape, at)) {
            return Err(Omitted::encoding("a number is out of range"));
        }
        let object = Object::of(&tape);
        let left_out = if keep == Keep::NoManagedFields { managed::keys(&tape) } else { Vec::new() };
        let line = if keep == Keep::Nothing || left_out.is_empty() && tape.is_one_line() {
            tape
        } else {
            Held::Ours(tape.one_line(&left_out))
        };
        Ok(Self { object, line })
    }
}

/// Beyond what a double holds, readers disagree or give up.
fn is_out_of_range(tape: &Tape<'_>, at: usize) -> bool {
    tape.kind(at) == Kind::Number && !tape.raw(at).parse().is_ok_and(|n: f64| n.is_finite())
}

impl<'t> Deref for Held<'t> {
    type Target = Tape<'t>;

    fn deref(&self) -> &Tape<'t> {
        match self {
            Self::Theirs(tape) => tape,
            Self::Ours(tape) => tape,
        }
    }
}

// === impl Object ===

impl Object {
    /// Of a text, or of the beginning of one.
    fn of(tape: &Tape<'_>) -> Self {
        let mut items = 0;
        for list in tape.get(0, "items") {
            items += tape.elements(list).count() as u64;
        }
        Self { items: (items > 0).then_some(items), ..Head::of_tape(tape).into() }
    }
}

impl From<Head> for Object {
    fn from(head: Head) -> Self {
        let meta = ObjectMeta {
            namespace: head.namespace,
            name: head.name,
            uid: head.uid,
            resource_version: head.resource_version,
        };
        let generated = !head.generate_name.is_empty();
        Self { api_version: head.api_version, kind: head.kind, meta, generated, items: None }
    }
}

/// What an object says of itself, without the rest of it.
fn head(object: &Object) -> String {
    let meta = &object.meta;
    let mut out = Vec::new();
    member(&mut out, "apiVersion", &object.api_version);
    member(&mut out, "kind", &object.kind);
    let start = out.len();
    out.extend_from_slice(b",\"metadata\":");
    let names = out.len();
    member(&mut out, "name", &meta.name);
    member(&mut out, "namespace", &meta.namespace);
    member(&mut out, "uid", &meta.uid);
    member(&mut out, "resourceVersion", &meta.resource_version);
    match out.get_mut(names) {
        Some(comma) => {
            *comma = b'{';
            out.push(b'}');
        }
        None => out.truncate(start),
    }
    match out.first_mut() {
        Some(comma) => *comma = b'{',
        None => out.push(b'{'),
    }
    out.push(b'}');
    String::from_utf8(out).unwrap_or_else(|_| "{}".to_owned())
}

/// Appends `,"key":"value"` unless it is empty.
fn member(out: &mut Vec<u8>, key: &str, value: &str) {
    /// Bytes of a name; Kubernetes' own are not longer than 253.
    const LONGEST: usize = 1024;
    if !value.is_empty() {
        out.extend_from_slice(format!(",\"{key}\":").as_bytes());
        push_json_str(out, &cut(value, LONGEST));
    }
}

/// The documents that kube-apiserver records as objects though they are no resources.
pub(super) fn is_discovery(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    path == "/api" || path == "/apis" || path.starts_with("/api/") || path.starts_with("/apis/")
}

/// Does `work` of that `weight` (bytes of JSON). Where it is long, the other requests of this thread are handed to another one
/// meanwhile, and no more of it is done at a time than there are processors.
pub(crate) fn aside<T>(weight: usize, work: impl FnOnce() -> T) -> T {
    let shared =
        || Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if weight <= LONG || std::thread::panicking() || !shared() {
        return work();
    }
    tokio::task::block_in_place(|| {
        let _turn = Turn::take();
        work()
    })
}

/// Leave to do long work.
struct Turn;

static TAKEN: Mutex<usize> = Mutex::new(0);
static GIVEN_BACK: Condvar = Condvar::new();

impl Turn {
    fn take() -> Self {
        let most = std::thread::available_parallelism().map_or(1, usize::from);
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = GIVEN_BACK.wait_while(taken, |taken| *taken >= most);
        *taken.unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        *taken = taken.saturating_sub(1);
        GIVEN_BACK.notify_one();
    }
}

// === impl Omitted ===

impl Omitted {
    fn encoding(why: &'static str) -> Self {
        Self::Encoding(Cow::Borrowed(why))
    }

    fn as_str(&self) -> &'static str {
        match self {
            Self::Encoding(_) => "encoding",
            Self::Size => "size",
            Self::Depth => "depth",
            Self::Values => "values",
            Self::Room => "room",
        }
    }
}

impl From<protobuf::json::Undecodable> for Omitted {
    fn from(why: protobuf::json::Undecodable) -> Self {
        use protobuf::{Error, json::Undecodable};
        match why {
            Undecodable::TooLong(_) | Undecodable::Wire(Error::TooLarge(_)) => Self::Size,
            Undecodable::Wire(Error::TooDeep) => Self::Depth,
            why => Self::Encoding(why.to_string().into()),
        }
    }
}

impl From<cbor::Error> for Omitted {
    fn from(why: cbor::Error) -> Self {
        match why {
            cbor::Error::TooLarge(_) => Self::Size,
            cbor::Error::TooDeep => Self::Depth,
            why => Self::Encoding(why.to_string().into()),
        }
    }
}

impl From<&Undecodable> for Omitted {
    fn from(why: &Undecodable) -> Self {
        match why {
            Undecodable::Json(why) => (*why).into(),
            Undecodable::Protobuf(why) => (*why).into(),
            Undecodable::Cbor(why) => (*why).into(),
            Undecodable::Yaml(_) => Self::encoding(NO_YAML),
            Undecodable::Unsure(why) => Self::Encoding(why.clone()),
        }
    }
}

/// The parser's own words may quote the text.
const NO_YAML: &str = "it is no YAML document, or has too many values";

impl From<Unreadable> for Omitted {
    fn from(why: Unreadable) -> Self {
        match why {
            Unreadable::Syntax(_) => Self::encoding("it is not JSON"),
            Unreadable::Depth(_) => Self::Depth,
            Unreadable::Nodes => Self::Values,
            Unreadable::Size => Self::Size,
        }
    }
}

#[cfg(test)]
mod tests;
