//! One `audit.k8s.io/v1` Event as one line of JSON: kube-apiserver's keys, in its order, with its escapes.
//!
//! Written by hand into a byte buffer, since several are written for every request. Strings that come from a caller may
//! hold anything; what is written is always valid UTF-8, one line, and bounded (`LONGEST_*`).
//!
//! A divergence from kube-apiserver, on purpose: an over-long `requestURI` is cut instead of losing the event.

use crate::{request::RequestInfo, status::push_json_str};
use http::HeaderValue;
use std::{
    borrow::Cow,
    fmt::Write as _,
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How much of a request is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing.
    None,
    /// Who, what, when, from where, with which outcome.
    Metadata,
    /// Also the request's body.
    Request,
    /// Also the answer's body.
    RequestResponse,
}

impl Level {
    /// All of them, least first.
    pub const ALL: [Self; 4] = [Self::None, Self::Metadata, Self::Request, Self::RequestResponse];

    /// As policies and events spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }

    /// The level spelled `text`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|l| l.as_str() == text)
    }
}

/// The moment of a request's life that an event tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The caller is known, nothing is decided yet.
    RequestReceived,
    /// The head of a long-running answer went out; also the one event of a request that was not authenticated.
    ResponseStarted,
    /// The answer ended.
    ResponseComplete,
    /// The gate itself failed; stands in place of ResponseComplete.
    Panic,
}

impl Stage {
    /// All of them, in the order of a request's life.
    pub const ALL: [Self; 4] =
        [Self::RequestReceived, Self::ResponseStarted, Self::ResponseComplete, Self::Panic];

    /// As policies and events spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }

    /// The stage spelled `text`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

/// A set of stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stages(u8);

impl Stages {
    /// No stage at all.
    pub const EMPTY: Self = Self(0);

    /// This set and `stage`.
    #[must_use]
    pub fn with(self, stage: Stage) -> Self {
        Self(self.0 | 1 << stage as u8)
    }

    /// This set but for `stage`.
    #[must_use]
    pub fn without(self, stage: Stage) -> Self {
        Self(self.0 & !(1 << stage as u8))
    }

    /// What is in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `stage` is in the set.
    pub fn contains(self, stage: Stage) -> bool {
        self.0 & 1 << stage as u8 != 0
    }

    /// The stages of the set, in the order of a request's life.
    pub fn iter(self) -> impl Iterator<Item = Stage> {
        Stage::ALL.into_iter().filter(move |s| self.contains(*s))
    }
}

/// A moment as Kubernetes' MicroTime: RFC 3339, UTC, always six digits of fraction. Counted in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MicroTime(pub i64);

impl MicroTime {
    /// The clock's time; 1970 for a clock before it.
    pub fn at(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// How long after `earlier` this is; zero when it is before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0).try_into().unwrap_or(0))
    }

    /// `2026-01-02T03:04:05.678901Z`. Years 0 to 9999; what is outside is clamped.
    pub fn text(self) -> [u8; 27] {
        const SECOND: i64 = 1_000_000;
        const DAY: i64 = 86_400 * SECOND;
        let at = self.0.clamp(-62_167_219_200 * SECOND, 253_402_300_800 * SECOND - 1);
        let (year, month, day) = civil(at.div_euclid(DAY));
        let rest = at.rem_euclid(DAY);
        let mut out = *b"0000-00-00T00:00:00.000000Z";
        let fields = [
            (0, 4, year),
            (5, 2, month),
            (8, 2, day),
            (11, 2, rest / (3600 * SECOND)),
            (14, 2, rest / (60 * SECOND) % 60),
            (17, 2, rest / SECOND % 60),
            (20, 6, rest % SECOND),
        ];
        for (at, width, mut value) in fields {
            for digit in out[at..at + width].iter_mut().rev() {
                *digit = b'0' + (value % 10) as u8;
                value /= 10;
            }
        }
        out
    }

    /// Reads any RFC 3339 time, whatever its fraction (cut to microseconds) and offset.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let number = |range: std::ops::Range<usize>| -> Option<i64> {
            let digits = bytes.get(range)?;
            digits
                .iter()
                .all(u8::is_ascii_digit)
                .then(|| digits.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
        };
        let is = |at: usize, set: &[u8]| bytes.get(at).is_some_and(|b| set.contains(b));
        if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
            return None;
        }
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let mut at = 19;
        let mut micros = 0;
        if is(at, b".") {
            let digits = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            for i in 0..6 {
                let digit = if i < digits { bytes[at + 1 + i] - b'0' } else { 0 };
                micros = micros * 10 + i64::from(digit);
            }
            at += 1 + digits;
        }
        let offset = match bytes.get(at)? {
            b'Z' | b'z' if bytes.len() == at + 1 => 0,
            sign @ (b'+' | b'-') if bytes.len() == at + 6 && is(at + 3, b":") => {
                let minutes = number(at + 1..at + 3)? * 60 + number(at + 4..at + 6)?;
                if *sign == b'+' { minutes } else { -minutes }
            }
            _ => return None,
        };
        let seconds = days(year, month, day) * 86_400 + hour * 3600 + (minute - offset) * 60 + second;
        Some(Self(seconds * 1_000_000 + micros))
    }
}

impl std::fmt::Display for MicroTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

/// The date that is `days` after 1970-01-01 in the proleptic Gregorian calendar. Years are counted from March, so that the
/// leap day is a year's last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// How a line says that it is for the journal alone.
pub const JOURNAL_ONLY: &[u8] = b"gatelog.dev/journal-only\":\"true\"";
/// Bytes of a user agent that are recorded; kube-apiserver's own figure.
pub const LONGEST_USER_AGENT: usize = 1024;
/// Bytes of a request URI that are recorded.
pub const LONGEST_URI: usize = 64 << 10;
/// Bytes of one annotation's value, or of one message, that are recorded.
pub const LONGEST_TEXT: usize = 8 << 10;
/// Addresses of one request that are recorded, the connection's own not counted.
const MOST_ADDRESSES: usize = 32;
/// What stands behind a text that was cut.
const CUT: &str = "...TRUNCATED";

/// `key: value` pairs, sorted by key, first value wins.
#[derive(Debug, Clone, Default)]
pub struct Annotations(Vec<(&'static str, Cow<'static, str>)>);

impl Annotations {
    /// Notes `value` under `key` unless something stands there. Cut at [`LONGEST_TEXT`].
    pub fn add(&mut self, key: &'static str, value: impl Into<Cow<'static, str>>) {
        let Err(place) = self.0.binary_search_by(|(k, _)| (*k).cmp(key)) else { return };
        let mut value = value.into();
        if value.len() > LONGEST_TEXT {
            value = Cow::Owned(cut(&value, LONGEST_TEXT).into_owned());
        }
        if self.0.capacity() == 0 {
            self.0.reserve(6);
        }
        self.0.insert(place, (key, value));
    }

    /// Notes `value` under `key`, whatever stands there.
    pub fn set(&mut self, key: &'static str, value: String) {
        self.0.retain(|(k, _)| *k != key);
        self.add(key, value);
    }

    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| *k == key).map(|(_, v)| &**v)
    }

    /// What it takes in memory and, nearly, on the line.
    pub fn size(&self) -> usize {
        self.0.iter().map(|(k, v)| k.len() + v.len() + 8).sum()
    }
}

/// The parts of an event's line that are the same at every stage of a request, rendered once.
#[derive(Debug, Default)]
pub struct Head {
    text: Vec<u8>,
    /// Where `user` ends and `impersonatedUser` belongs.
    after_user: usize,
    /// Where `objectRef` begins.
    object_ref: usize,
}

impl Head {
    /// `user`: as JSON, `{}` for nobody. `uri` and `agent`: as they came, but without what is secret.
    pub fn new(uri: &str, verb: &str, user: &str, ips: Option<&Addresses>, agent: Option<&str>) -> Self {
        let mut text = Vec::with_capacity(384 + uri.len() + user.len());
        text.extend_from_slice(b",\"requestURI\":");
        push_json_str(&mut text, &cut(uri, LONGEST_URI));
        text.extend_from_slice(b",\"verb\":");
        push_json_str(&mut text, verb);
        text.extend_from_slice(b",\"user\":");
        text.extend_from_slice(user.as_bytes());
        let after_user = text.len();
        if let Some(ips) = ips {
            ips.write(&mut text);
        }
        if let Some(agent) = agent.filter(|a| !a.is_empty()) {
            text.extend_from_slice(b",\"userAgent\":");
            push_json_str(&mut text, &cut(agent, LONGEST_USER_AGENT));
        }
        let object_ref = text.len();
        Self { text, after_user, object_ref }
    }

    /// Says what is asked for; again, when the body has told more of it.
    pub fn set_object(&mut self, info: &RequestInfo, told: &ObjectMeta) {
        self.text.truncate(self.object_ref);
        if !info.is_resource() {
            return;
        }
        // What the request line says comes first.
        fn either<'a>(own: &'a str, told: &'a str) -> &'a str {
            if own.is_empty() { told } else { own }
        }
        let members = [
            ("resource", info.resource()),
            ("namespace", either(info.namespace(), &told.namespace)),
            ("name", either(info.name(), &told.name)),
            ("uid", &told.uid),
            ("apiGroup", info.group()),
            ("apiVersion", info.version()),
            ("resourceVersion", &told.resource_version),
            ("subresource", info.subresource()),
        ];
        self.text.extend_from_slice(b",\"objectRef\":{");
        let mut first = true;
        for (key, value) in members.iter().filter(|(_, v)| !v.is_empty()) {
            if !std::mem::take(&mut first) {
                self.text.push(b',');
            }
            self.text.push(b'"');
            self.text.extend_from_slice(key.as_bytes());
            self.text.extend_from_slice(b"\":");
            push_json_str(&mut self.text, &cut(value, LONGEST_TEXT));
        }
        self.text.push(b'}');
    }

    /// Bytes of it.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether nothing was rendered.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// What a body says of itself in `metadata`, for what the request line leaves open in `objectRef`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectMeta {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
}

/// One event, borrowed from where its parts live.
#[derive(Debug)]
pub struct Event<'a> {
    /// As the policy said.
    pub level: Level,
    /// `auditID`, plain ASCII.
    pub id: &'a str,
    /// `stage`.
    pub stage: Stage,
    /// What is the same at every stage.
    pub head: &'a Head,
    /// `impersonatedUser`, as JSON.
    pub impersonated: Option<&'a str>,
    /// `responseStatus`, as JSON.
    pub status: Option<&'a [u8]>,
    /// `requestObject`, as JSON on one line.
    pub request: Option<&'a [u8]>,
    /// `responseObject`, as JSON on one line.
    pub response: Option<&'a [u8]>,
    /// `requestReceivedTimestamp`.
    pub received: MicroTime,
    /// `stageTimestamp`.
    pub at: MicroTime,
    /// `annotations`.
    pub annotations: &'a Annotations,
    /// `gatelog.dev/salt`: randomness, so that nobody finds the line by guessing what its hash in the tree was made of.
    pub salt: &'a str,
    /// `gatelog.dev/journal-only`: the policy omits this stage, and only the journal has it.
    pub journal_only: bool,
}

impl Event<'_> {
    /// Appends the event and a newline.
    pub fn write(&self, out: &mut Vec<u8>) {
        let bodies = self.request.map_or(0, <[u8]>::len) + self.response.map_or(0, <[u8]>::len);
        out.reserve(self.head.len() + bodies + self.annotations.size() + 512);
        out.extend_from_slice(b"{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"level\":\"");
        out.extend_from_slice(self.level.as_str().as_bytes());
        out.extend_from_slice(b"\",\"auditID\":\"");
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(b"\",\"stage\":\"");
        out.extend_from_slice(self.stage.as_str().as_bytes());
        out.push(b'"');
        let (user, rest) = self.head.text.split_at(self.head.after_user);
        out.extend_from_slice(user);
        let mut member = |key: &str, value: &[u8]| {
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(value);
        };
        if let Some(user) = self.impersonated {
            member(",\"impersonatedUser\":", user.as_bytes());
        }
        member("", rest);
        if let Some(status) = self.status {
            member(",\"responseStatus\":", status);
        }
        if let Some(object) = self.request {
            member(",\"requestObject\":", object);
        }
        if let Some(object) = self.response {
            member(",\"responseObject\":", object);
        }
        member(",\"requestReceivedTimestamp\":\"", &self.received.text());
        member("\",\"stageTimestamp\":\"", &self.at.text());
        out.push(b'"');
        for (i, (key, value)) in self.annotations.0.iter().enumerate() {
            out.extend_from_slice(if i == 0 { b",\"annotations\":{\"" } else { b",\"" });
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\":");
            push_json_str(out, value);
        }
        out.extend_from_slice(if self.annotations.0.is_empty() { b",\"annotations\":{\"" } else { b",\"" });
        if self.journal_only {
            out.extend_from_slice(JOURNAL_ONLY);
            out.extend_from_slice(b",\"");
        }
        out.extend_from_slice(b"gatelog.dev/salt\":\"");
        out.extend_from_slice(self.salt.as_bytes());
        out.extend_from_slice(b"\"}}\n");
    }
}

/// Where a request came from: what trusted proxies claim, then the connection itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    claimed: Vec<IpAddr>,
    peer: IpAddr,
    nearest: IpAddr,
}

impl Addresses {
    /// The connection only: nobody in front is trusted.
    pub fn peer(peer: IpAddr) -> Self {
        let peer = peer.to_canonical();
        Self { claimed: Vec::new(), peer, nearest: peer }
    }

    /// What a trusted `peer` says in the first `X-Forwarded-For` and `X-Real-Ip`, as kube-apiserver reads them.
    pub fn forwarded(
        peer: IpAddr,
        forwarded_for: Option<&HeaderValue>,
        real_ip: Option<&HeaderValue>,
    ) -> Self {
        let parse = |text: &str| text.trim().parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        let mut claimed: Vec<_> = forwarded_for
            .and_then(|v| v.to_str().ok())
            .map(|v| v.split(',').filter_map(parse).collect())
            .unwrap_or_default();
        // The last ones are those that proxies wrote.
        claimed.drain(..claimed.len().saturating_sub(MOST_ADDRESSES));
        let seen = claimed.last().copied();
        let real_ip = real_ip.and_then(|v| v.to_str().ok()).and_then(parse);
        if let Some(ip) = real_ip
            && !claimed.contains(&ip)
        {
            claimed.push(ip);
        }
        let nearest = seen.or(real_ip).unwrap_or(peer.to_canonical());
        let peer = peer.to_canonical();
        if claimed.last() == Some(&peer) {
            claimed.pop();
        }
        Self { claimed, peer, nearest }
    }

    /// The address that answers for the request: what the trusted proxy itself saw, since what stands before that anybody
    /// may have written; else the connection's.
    pub fn nearest(&self) -> IpAddr {
        self.nearest
    }

    /// In the order of the event: the first claimed first, the connection's own last.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.claimed.iter().copied().chain([self.peer])
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"sourceIPs\":[");
        let mut text = String::with_capacity(48);
        for (i, ip) in self.iter().enumerate() {
            text.clear();
            let _ = write!(text, "{}\"{ip}\"", if i == 0 { "" } else { "," });
            out.extend_from_slice(text.as_bytes());
        }
        out.push(b']');
    }
}

/// `text`, or its first `longest` bytes (at a character's boundary) and a mark that it was cut.
pub(super) fn cut(text: &str, longest: usize) -> Cow<'_, str> {
    if text.len() <= longest {
        return Cow::Borrowed(text);
    }
    let end = (0..=longest).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    Cow::Owned(format!("{}{CUT}", &text[..end]))
}

#[cfg(test)]
mod tests;
