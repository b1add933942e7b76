//! The copy of an answer's body on its way to the caller: bounded, and only as much as the record needs of it.

use super::{
    event::{LONGEST_TEXT, cut},
    object::{BEGINNING, Omitted, Recipe, Wire, is_gzip},
    redact::{Digest, Redactor},
};
use crate::status::push_json_str;
use aws_lc_rs::hmac;
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Bytes of an answer that are read to find a Status in it.
const LONGEST_STATUS: usize = 64 << 10;

/// What the record needs of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    /// It may be a Status, whose reason and message belong in `responseStatus`.
    pub(super) status: bool,
    /// `responseObject`.
    pub(super) object: bool,
    /// The name that the server gave to what was created.
    pub(super) name: bool,
    /// Longest `responseObject`, in bytes.
    pub(super) most: usize,
}

/// The copy itself.
#[derive(Debug)]
pub(super) struct Capture {
    need: Need,
    /// All that came, or the beginning of it.
    bytes: Vec<u8>,
    total: u64,
    /// Bytes of the journal's that are held for it.
    held: usize,
    over: Option<Over>,
    is_gzip: bool,
    content_type: Option<HeaderValue>,
}

/// Why only the beginning is kept.
#[derive(Debug)]
struct Over {
    why: Omitted,
    /// Of everything so far, if it stands for the object.
    digest: Option<Digest>,
}

/// What an answer's body tells the record.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// `responseObject`.
    pub(super) object: Option<Vec<u8>>,
    /// `responseStatus`.
    pub(super) status: Option<Vec<u8>>,
    /// The object's name.
    pub(super) name: String,
    /// The rules that took something out.
    pub(super) rules: Vec<String>,
    /// Bytes of the journal's that are held for what is in it, beyond those of the pieces.
    pub(super) held: usize,
}

/// The members of a Status that `responseStatus` repeats.
#[derive(Default, Deserialize)]
#[serde(default)]
struct StatusBody<'a> {
    status: String,
    message: String,
    reason: String,
    #[serde(borrow)]
    details: Option<&'a RawValue>,
}

// === impl Capture ===

impl Capture {
    pub(super) fn new(need: Need, headers: &HeaderMap) -> Self {
        Self {
            need,
            bytes: Vec::new(),
            total: 0,
            held: 0,
            over: None,
            is_gzip: is_gzip(headers),
            content_type: headers.get(header::CONTENT_TYPE).cloned(),
        }
    }

    /// Takes a piece; `hold` asks for room. Says how much was held.
    pub(super) fn push(&mut self, chunk: &[u8], redactor: &Redactor, hold: impl Fn(usize) -> bool) -> usize {
        self.total += chunk.len() as u64;
        if let Some(over) = &mut self.over {
            if let Some(digest) = &mut over.digest {
                digest.update(chunk);
            }
            return 0;
        }
        let most = match self.need {
            Need { object: true, most, .. } => most,
            Need { status: true, .. } => LONGEST_STATUS,
            Need { .. } => BEGINNING,
        };
        let why = if self.bytes.len() + chunk.len() > most {
            Omitted::Size
        } else if !hold(chunk.len()) {
            Omitted::Room
        } else {
            self.bytes.extend_from_slice(chunk);
            self.held += chunk.len();
            return chunk.len();
        };
        let digest = self.need.object.then(|| {
            let mut digest = redactor.key().digest();
            digest.update(&self.bytes);
            digest.update(chunk);
            digest
        });
        self.over = Some(Over { why, digest });
        // The first piece may be too long by itself, and says what the rest is of.
        let missing = BEGINNING.saturating_sub(self.bytes.len()).min(chunk.len());
        let taken = if missing > 0 && hold(missing) { missing } else { 0 };
        self.bytes.extend_from_slice(chunk.get(..taken).unwrap_or_default());
        self.bytes.truncate(BEGINNING);
        self.bytes.shrink_to_fit();
        self.held += taken;
        taken
    }

    /// How much work [`Self::finish`] is.
    pub(super) fn weight(&self) -> usize {
        self.wire().weight()
    }

    fn wire(&self) -> Wire<'_> {
        let content_type = self.content_type.as_ref().and_then(|v| v.to_str().ok()).unwrap_or_default();
        Wire::new(&self.bytes, content_type, self.is_gzip)
    }

    /// What there is to record. `code`: as it went over the wire. `hold` asks for room, as an object may have grown.
    pub(super) fn finish(
        &mut self,
        code: u16,
        recipe: &Recipe<'_>,
        hold: impl FnOnce(usize) -> bool,
    ) -> Told {
        let mut told = Told::default();
        if self.total == 0 {
            return told;
        }
        if let Some(over) = self.over.take() {
            let wire = self.wire();
            let object = wire.beginning();
            told.object = over.digest.map(|digest| {
                recipe.omitted(&over.why, self.total, &digest.finish(), wire.content_type(), &object)
            });
            if self.need.name {
                told.name = object.meta.name;
            }
            return told;
        }
        let wire = self.wire();
        if !self.need.object && !self.need.status {
            told.name = wire.beginning().meta.name;
            return told;
        }
        let read = recipe.read(&wire, None);
        if self.need.name {
            told.name = read
                .as_ref()
                .map_or_else(|_| wire.beginning().meta.name, |body| body.object.meta.name.clone());
        }
        let is_status = self.need.status && read.as_ref().is_ok_and(|body| body.object.kind == "Status");
        if !self.need.object && !is_status {
            return told;
        }
        let longest = if is_status { LONGEST_STATUS } else { 0 };
        let recipe = Recipe { most: recipe.most.max(longest), ..*recipe };
        let digest = || self.digest(recipe.redactor);
        let written = recipe.write(&wire, &read, self.total, digest);
        told.status = if is_status { status(&written.json, code) } else { None };
        told.rules = written.rules;
        if !self.need.object {
            return told;
        }
        let grown = written.json.len().saturating_sub(self.held);
        told.object = Some(if grown == 0 || hold(grown) {
            told.held = grown;
            written.json
        } else {
            let object = read.map(|body| body.object).unwrap_or_default();
            recipe.omitted(&Omitted::Room, self.total, &digest(), wire.content_type(), &object)
        });
        told
    }

    fn digest(&self, redactor: &Redactor) -> hmac::Tag {
        let mut digest = redactor.key().digest();
        digest.update(&self.bytes);
        digest.finish()
    }
}

/// `responseStatus` of an answer that is a Status itself, in which nothing secret is left.
fn status(json: &[u8], code: u16) -> Option<Vec<u8>> {
    let body: StatusBody<'_> = serde_json::from_slice(json).ok()?;
    let mut out = b"{\"metadata\":{}".to_vec();
    for (key, value) in [("status", &body.status), ("message", &body.message), ("reason", &body.reason)] {
        if !value.is_empty() {
            out.extend_from_slice(format!(",\"{key}\":").as_bytes());
            push_json_str(&mut out, &cut(value, LONGEST_TEXT));
        }
    }
    if let Some(details) = body.details.map(RawValue::get).filter(|d| d.len() <= LONGEST_TEXT && *d != "null")
    {
        out.extend_from_slice(b",\"details\":");
        out.extend_from_slice(details.as_bytes());
    }
    out.extend_from_slice(format!(",\"code\":{code}}}").as_bytes());
    Some(out)
}
