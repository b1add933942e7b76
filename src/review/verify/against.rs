//! The record against kube-apiserver's own audit log: what the gate never wrote is in no tree, but the cluster saw it.
//!
//! Requests are joined by auditID, which the gate hands on. Of the cluster's log, those count that the gate's account made for
//! somebody else; what it asks of its own is told as a number. Only the time that both cover is looked at. Whether the
//! cluster's policy leaves a request out cannot be known: one that the cluster must have answered and its log lacks is only held
//! against somebody when that log has others of the same verb and resource.

use super::{BadArgs, Fault, Kind, Report};
use crate::{
    audit::event::MicroTime,
    review::{
        event::{Event, Part, clean, word},
        read::{Lines, Read},
        record::Record,
    },
};
use serde::Serialize;
use std::{
    collections::{HashMap, HashSet},
    fmt,
    path::Path,
};

/// Faults that are told one by one; more are counted.
const TOLD: usize = 20;

/// What the comparison with the cluster's log found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Against {
    /// The gate's account.
    pub account: String,
    /// Requests that both have.
    pub matched: u64,
    /// Requests of the account on its own behalf: reviews, rules, discovery, health.
    pub own: u64,
    /// Requests of others, which did not come through this gate.
    pub others: u64,
    /// Requests that the cluster saw from the account, and the record lacks.
    pub not_recorded: u64,
    /// Requests that the cluster answered by the record's word, and its log lacks though it has others of their kind.
    pub not_seen: u64,
    /// The same, but the log has none of their kind: its policy may leave them out.
    pub perhaps_omitted: u64,
    /// Requests of which the two say different things.
    pub different: u64,
}

/// What is known of a request.
#[derive(Debug, Clone, Default)]
struct Request {
    user: String,
    impersonated: Option<String>,
    verb: String,
    path: String,
    kind: String,
    code: Option<u16>,
    at: Option<MicroTime>,
    ended: bool,
    /// Of the record: the cluster must have seen it.
    forwarded: bool,
    /// Of the record: the caller may have got another code than the cluster answered.
    own_end: bool,
}

impl Request {
    fn add(&mut self, event: &Event<'_>) {
        let object = event.object_ref.as_ref();
        let resource =
            object.map_or_else(String::new, |o| format!("{}.{}/{}", o.resource, o.api_group, o.subresource));
        self.user = event.user.username.to_string();
        self.impersonated = event.impersonated_user.as_ref().map(|user| user.username.to_string());
        self.verb = event.verb.to_string();
        self.path = event.request_uri.split('?').next().unwrap_or_default().to_owned();
        self.kind = format!("{} {resource}", event.verb);
        self.code = event.code().or(self.code);
        self.at = self.at.or(MicroTime::parse(&event.request_received_timestamp)).or(event.at());
        self.ended |= event.part() == Part::Last;
        let answered = event.code().is_some_and(|code| code < 400);
        let local = !event.note("gatelog.dev/self-review").is_empty();
        self.forwarded |= answered && !local && event.note("authorization.k8s.io/decision") == "allow";
        self.own_end |=
            !event.note("gatelog.dev/end").is_empty() || event.code().is_some_and(|code| code >= 500);
    }

    /// On whose behalf it was made.
    fn caller(&self) -> &str {
        self.impersonated.as_ref().unwrap_or(&self.user)
    }
}

/// Compares; what cannot be explained is added to the faults.
pub(super) fn compare(
    record: &Record,
    log: &Path,
    account: Option<&str>,
    report: &mut Report,
) -> Result<(), BadArgs> {
    let ours = requests(&record.dir)?;
    let theirs = requests(log)?;
    if theirs.is_empty() {
        return Err(BadArgs::Against { path: log.to_owned(), what: "no audit event in it".to_owned() });
    }
    let account = match account {
        Some(account) => account.to_owned(),
        None => guess(&ours, &theirs).ok_or_else(|| BadArgs::Against {
            path: log.to_owned(),
            what: "no request of the record is in it: expected --account with the gate's account".to_owned(),
        })?,
    };
    let mut found = Against { account, ..Against::default() };
    let mut faults = Vec::new();
    let both = overlap(&ours, &theirs);
    let within = |request: &Request| {
        request.at.is_some_and(|at| both.is_some_and(|(from, to)| from <= at && at <= to))
    };
    for (id, request) in &theirs {
        if request.user != found.account {
            found.others += 1;
        } else if request.impersonated.is_none() {
            found.own += 1;
        } else if let Some(mine) = ours.get(id) {
            found.matched += 1;
            if let Some(what) = difference(mine, request) {
                found.different += 1;
                faults.push(fault(id, request, what));
            }
        } else if within(request) {
            found.not_recorded += 1;
            let what =
                "the cluster saw this request from the gate's account, and the record lacks it".to_owned();
            faults.push(fault(id, request, what));
        }
    }
    let kinds: HashSet<&str> =
        theirs.values().filter(|r| r.user == found.account && r.ended).map(|r| &*r.kind).collect();
    for (id, request) in
        ours.iter().filter(|(id, r)| r.forwarded && r.ended && within(r) && !theirs.contains_key(*id))
    {
        if kinds.contains(&*request.kind) {
            found.not_seen += 1;
            let what =
                "the record says that the cluster answered this request, and the cluster's log lacks it"
                    .to_owned();
            faults.push(fault(id, request, what));
        } else {
            found.perhaps_omitted += 1;
        }
    }
    faults.sort_by(|a, b| (&a.time, &a.audit_id).cmp(&(&b.time, &b.audit_id)));
    let more = faults.len().saturating_sub(TOLD);
    faults.truncate(TOLD);
    if more > 0 {
        faults.push(Fault::of(Kind::Against, format!("{more} more of these")));
    }
    report.faults.extend(faults);
    report.against = Some(found);
    Ok(())
}

/// All requests of a log, by auditID.
fn requests(path: &Path) -> Result<HashMap<String, Request>, BadArgs> {
    let bad = |what: String| BadArgs::Against { path: path.to_owned(), what };
    let mut lines = Lines::open(path, None).map_err(|e| bad(e.to_string()))?;
    let mut found: HashMap<String, Request> = HashMap::new();
    let mut take = |line: &[u8]| {
        let event =
            Event::parse(line).filter(|event| event.part() != Part::Note && !event.audit_id.is_empty());
        if let Some(event) = event {
            found.entry(event.audit_id.to_string()).or_default().add(&event);
        }
    };
    loop {
        match lines.read().map_err(|e| bad(e.to_string()))? {
            Read::Line(line) => take(line),
            Read::Torn => {}
            Read::End => break,
        }
    }
    take(lines.rest());
    Ok(found)
}

/// Who impersonates most in the requests that both have.
fn guess(ours: &HashMap<String, Request>, theirs: &HashMap<String, Request>) -> Option<String> {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for request in
        theirs.iter().filter(|(id, r)| r.impersonated.is_some() && ours.contains_key(*id)).map(|(_, r)| r)
    {
        *counts.entry(&request.user).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(name, count)| (*count, *name)).map(|(name, _)| name.to_owned())
}

/// The time that both cover.
fn overlap(
    ours: &HashMap<String, Request>,
    theirs: &HashMap<String, Request>,
) -> Option<(MicroTime, MicroTime)> {
    let span = |requests: &HashMap<String, Request>| {
        let times = || requests.values().filter_map(|request| request.at);
        Some((times().min()?, times().max()?))
    };
    let ((a, b), (c, d)) = (span(ours)?, span(theirs)?);
    Some((a.max(c), b.min(d)))
}

/// What the two say differently of a request.
fn difference(ours: &Request, theirs: &Request) -> Option<String> {
    let said = |what: &str, ours: &str, theirs: &str| {
        (ours != theirs)
            .then(|| format!("the record has the {what} {}, the cluster {}", word(ours), word(theirs)))
    };
    let code = match (ours.code, theirs.code) {
        (Some(mine), Some(other)) if ours.ended && theirs.ended && !ours.own_end => {
            said("code", &mine.to_string(), &other.to_string())
        }
        _ => None,
    };
    said("user", ours.caller(), theirs.caller())
        .or_else(|| said("verb", &ours.verb, &theirs.verb))
        .or_else(|| said("path", &ours.path, &theirs.path))
        .or(code)
}

fn fault(id: &str, request: &Request, what: String) -> Fault {
    let (caller, path) = (word(request.caller()).into_owned(), clean(&request.path).into_owned());
    Fault {
        audit_id: Some(id.to_owned()),
        time: request.at.map(|at| at.to_string()),
        ..Fault::of(Kind::Against, format!("{what}: {caller}: {} {path}", request.verb))
    }
}

impl fmt::Display for Against {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let account = word(&self.account);
        writeln!(
            f,
            "log  {} requests of {account} for others are in the record and in the cluster's log; {} of its own and {} of others are \
             only there",
            self.matched, self.own, self.others
        )?;
        if self.perhaps_omitted > 0 {
            writeln!(
                f,
                "note {} requests that the cluster answered are not in its log, nor any of their kind: its policy may leave them out",
                self.perhaps_omitted
            )?;
        }
        Ok(())
    }
}
