//! The copy of an answer's body on its way to the caller: bounded, and only as much as the record needs of it.

use super::{
    event::{LONGEST_TEXT, cut},
    object::{self, Object, Omitted},
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
    /// `responseObject` is a digest whatever it is.
    pub(super) secret: bool,
    /// Longest `responseObject`, in bytes.
    pub(super) most: usize,
}

/// The copy itself.
#[derive(Debug)]
pub(super) struct Capture {
    need: Need,
    bytes: Vec<u8>,
    total: u64,
    /// Why the bytes are not kept any more, and their digest so far.
    digest: Option<(Omitted, hmac::Context)>,
    is_gzip: bool,
    content_type: Option<HeaderValue>,
}

/// What an answer's body tells the record.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// `responseObject`.
    pub(super) object: Option<Vec<u8>>,
    /// `responseStatus`.
    pub(super) status: Option<Vec<u8>>,
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
            digest: None,
            is_gzip: object::is_gzip(headers),
            content_type: headers.get(header::CONTENT_TYPE).cloned(),
        }
    }

    /// Takes a piece; `hold` asks for room. Says how much was held.
    pub(super) fn push(&mut self, chunk: &[u8], key: &hmac::Key, hold: impl FnOnce(usize) -> bool) -> usize {
        self.total += chunk.len() as u64;
        if let Some((_, digest)) = &mut self.digest {
            digest.update(chunk);
            return 0;
        }
        let (most, over) = match self.need {
            Need { object: true, secret: false, most, .. } => (most, Omitted::Size),
            Need { status: true, secret, .. } => {
                (LONGEST_STATUS, if secret { Omitted::Secret } else { Omitted::Size })
            }
            Need { .. } => (0, Omitted::Secret),
        };
        let why = if self.bytes.len() + chunk.len() > most {
            over
        } else if !hold(chunk.len()) {
            Omitted::Room
        } else {
            self.bytes.extend_from_slice(chunk);
            return chunk.len();
        };
        let mut digest = hmac::Context::with_key(key);
        digest.update(&std::mem::take(&mut self.bytes));
        digest.update(chunk);
        self.digest = Some((why, digest));
        0
    }

    /// What there is to record. `code`: as it went over the wire.
    pub(super) fn finish(self, code: u16, drop_managed_fields: bool, key: &hmac::Key) -> Told {
        if self.total == 0 {
            return Told::default();
        }
        let content_type = self.content_type.as_ref().and_then(|v| v.to_str().ok()).unwrap_or_default();
        let stand_in = |why, tag: &hmac::Tag| object::omitted(why, self.total, tag, content_type);
        if let Some((why, digest)) = self.digest {
            let object = self.need.object.then(|| stand_in(why, &digest.sign()));
            return Told { object, status: None };
        }
        let read = if self.is_gzip {
            object::gunzip(&self.bytes, self.need.most.max(LONGEST_STATUS))
                .and_then(|bytes| object::read(&bytes, drop_managed_fields))
        } else {
            object::read(&self.bytes, drop_managed_fields)
        };
        let status = read
            .as_ref()
            .ok()
            .filter(|o| self.need.status && o.kind == "Status")
            .and_then(|o| status(o, code, self.need.secret));
        let object = self.need.object.then(|| {
            let why = match read {
                Ok(o) if self.need.secret || o.secret => Omitted::Secret,
                Ok(o) if o.json.len() > self.need.most => Omitted::Size,
                Ok(o) => return o.json,
                Err(why) => why,
            };
            stand_in(why, &hmac::sign(key, &self.bytes))
        });
        Told { object, status }
    }
}

/// `responseStatus` of an answer that is a Status itself.
fn status(object: &Object, code: u16, is_secret: bool) -> Option<Vec<u8>> {
    let mut body: StatusBody<'_> = serde_json::from_slice(&object.json).ok()?;
    if is_secret && matches!(code, 400 | 422 | 500) {
        // What could not be decoded or validated may be quoted in these.
        body.message.clear();
        body.details = None;
    }
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
