//! `gatelog audit show`: one line for each request, newest last.

use super::{
    Error,
    event::{Event, Part, clean, clean_json, word},
    filter::Filter,
    follow::{Forever, Once, Patience},
    read::{Lines, Read},
};
use std::{
    borrow::Cow,
    collections::HashMap,
    io::{self, Write},
    path::PathBuf,
    time::{Duration, SystemTime},
};

/// Requests whose end is waited for; more are not remembered.
const MOST_OPEN: usize = 100_000;
/// Characters of a reason that are shown.
const LONGEST_REASON: usize = 240;

/// Shows a record: one line for each request, newest last
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ShowArgs {
    /// Folder of the record (or one that holds `audit`), a log file of audit.k8s.io/v1 events, or `-`
    pub dir: PathBuf,
    /// Wait for more
    #[arg(short, long)]
    pub follow: bool,
    /// Only of this user, authenticated or impersonated
    #[arg(long, value_name = "NAME")]
    pub user: Vec<String>,
    /// Only this verb: get, list, watch, create, ...
    #[arg(long, value_name = "VERB")]
    pub verb: Vec<String>,
    /// Only this resource: pods, pods/exec, deployments.apps
    #[arg(long, value_name = "RESOURCE")]
    pub resource: Vec<String>,
    /// Only in this namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Vec<String>,
    /// Only objects of this name
    #[arg(long, value_name = "NAME")]
    pub name: Vec<String>,
    /// Only answers with this code: 403, 4xx
    #[arg(long, value_name = "CODE")]
    pub code: Vec<String>,
    /// Only since then: 2h, 1d12h, 2026-01-02, 2026-01-02T03:04:05Z
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Also lines that only the journal has: stages that the policy omits
    #[arg(short, long)]
    pub all: bool,
    /// A line to read, or the last event of each request as it was recorded
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// How a request is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// One clear line.
    #[default]
    Compact,
    /// The event as it was recorded.
    Json,
}

/// What was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shown {
    /// Requests.
    pub requests: u64,
    /// Lines that are no events: torn by a crash, or not of an audit log.
    pub unreadable: u64,
}

/// Writes what `args` ask for to `out`. That nobody reads any more is no error.
pub fn show(args: &ShowArgs, out: &mut impl Write) -> Result<Shown, Error> {
    let shown =
        if args.follow { show_with(args, out, &mut Forever) } else { show_with(args, out, &mut Once) };
    match shown {
        Err(Error::Write(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(Shown::default()),
        shown => shown,
    }
}

pub(super) fn show_with(
    args: &ShowArgs,
    out: &mut impl Write,
    patience: &mut impl Patience,
) -> Result<Shown, Error> {
    let filter = Filter::new(args, SystemTime::now())?;
    let mut lines = Lines::open(&args.dir, filter.since())?;
    let mut view = View {
        filter,
        all: args.all,
        output: args.output,
        out,
        open: HashMap::new(),
        shown: Shown::default(),
    };
    loop {
        match lines.read().map_err(Error::Read)? {
            Read::Line(line) => view.line(line)?,
            Read::Torn => view.shown.unreadable += 1,
            Read::End => {
                view.out.flush().map_err(Error::Write)?;
                if !lines.can_grow() || !patience.wait() {
                    break;
                }
            }
        }
    }
    // The last line of a log that nobody writes to any more may be whole all the same.
    if !lines.rest().is_empty() && Event::parse(lines.rest()).is_some() {
        view.line(lines.rest())?;
    }
    view.unfinished()?;
    view.out.flush().map_err(Error::Write)?;
    Ok(view.shown)
}

struct View<'w, W> {
    filter: Filter,
    all: bool,
    output: Output,
    out: &'w mut W,
    /// The latest event of each request that has not ended, with its place in the record.
    open: HashMap<String, (u64, Vec<u8>)>,
    shown: Shown,
}

impl<W: Write> View<'_, W> {
    fn line(&mut self, line: &[u8]) -> Result<(), Error> {
        let Some(event) = Event::parse(line) else {
            self.shown.unreadable += u64::from(!line.trim_ascii().is_empty());
            return Ok(());
        };
        if !self.all && !event.note("gatelog.dev/journal-only").is_empty() {
            return Ok(());
        }
        match event.part() {
            Part::Begun if self.open.len() < MOST_OPEN || self.open.contains_key(&*event.audit_id) => {
                let place = self.open.len() as u64 + self.shown.requests;
                let entry =
                    self.open.entry(event.audit_id.into_owned()).or_insert_with(|| (place, Vec::new()));
                entry.1 = line.to_owned();
                Ok(())
            }
            Part::Begun => Ok(()),
            Part::Last | Part::Note => {
                self.open.remove(&*event.audit_id);
                self.print(&event, line)
            }
        }
    }

    /// What has no end yet: it is still open, or the process ended before it did.
    fn unfinished(&mut self) -> Result<(), Error> {
        let mut open: Vec<_> = std::mem::take(&mut self.open).into_values().collect();
        open.sort_by_key(|(place, _)| *place);
        for (_, line) in open {
            if let Some(event) = Event::parse(&line) {
                self.print(&event, &line)?;
            }
        }
        Ok(())
    }

    fn print(&mut self, event: &Event<'_>, line: &[u8]) -> Result<(), Error> {
        if !self.filter.matches(event) {
            return Ok(());
        }
        self.shown.requests += u64::from(event.part() != Part::Note);
        let written = match self.output {
            Output::Json => self.out.write_all(&clean_json(line)).and_then(|()| self.out.write_all(b"\n")),
            Output::Compact => writeln!(self.out, "{}", compact(event)),
        };
        written.map_err(Error::Write)
    }
}

/// `2026-01-02T03:04:05.678Z DENIED 403   312us alice as bob: delete secrets prod/db (no rule matches)`
pub(super) fn compact(event: &Event<'_>) -> String {
    let time = event.at().map_or_else(|| "-".to_owned(), |t| format!("{}Z", &t.to_string()[..23]));
    if event.part() == Part::Note {
        return format!("{time} NOTE   {}", gap(event));
    }
    let code = event.code().map_or_else(|| "-".to_owned(), |c| c.to_string());
    let last = event.part() == Part::Last;
    let duration = event.duration().filter(|_| last).map_or_else(|| "-".to_owned(), brief);
    let mut line =
        format!("{time} {:<6} {code:>3} {duration:>7} {}: {}", outcome(event, last), who(event), what(event));
    let why = why(event);
    if !why.is_empty() {
        line.push_str(&format!(" ({})", clean(&shortened(&why))));
    }
    line
}

fn outcome(event: &Event<'_>, last: bool) -> &'static str {
    match event.code() {
        _ if event.stage == "Panic" => "PANIC",
        _ if !last => "open",
        _ if event.note("gatelog.dev/outcome") == "unknown" => "LOST",
        Some(401 | 403) => "DENIED",
        Some(400..=499) => "failed",
        Some(500..) => "ERROR",
        _ => "ok",
    }
}

fn who(event: &Event<'_>) -> String {
    let name = match &*event.user.username {
        "" => Cow::Borrowed("(nobody)"),
        name => word(name),
    };
    let from = event.source_ips.first().filter(|_| event.user.username.is_empty());
    match (&event.impersonated_user, from) {
        (Some(user), _) => format!("{name} as {}", word(&user.username)),
        (None, Some(ip)) => format!("{name} at {}", word(ip)),
        (None, None) => name.into_owned(),
    }
}

fn what(event: &Event<'_>) -> String {
    let verb = word(&event.verb);
    let (path, query) = event.request_uri.split_once('?').unwrap_or((&event.request_uri, ""));
    let Some(object) = &event.object_ref else { return format!("{verb} {}", shortened(&clean(path))) };
    let mut text = format!("{verb} {}", clean(&object.resource));
    for (mark, part) in [('.', &object.api_group), ('/', &object.subresource)] {
        if !part.is_empty() {
            text.push(mark);
            text.push_str(&clean(part));
        }
    }
    let namespaced = !object.namespace.is_empty() && object.resource != "namespaces";
    match (namespaced, object.name.is_empty()) {
        (true, true) => text.push_str(&format!(" in {}", word(&object.namespace))),
        (true, false) => text.push_str(&format!(" {}/{}", clean(&object.namespace), word(&object.name))),
        (false, false) => text.push_str(&format!(" {}", word(&object.name))),
        (false, true) => {}
    }
    // What is run is what matters of an exec.
    if !query.is_empty() && matches!(&*object.subresource, "exec" | "attach" | "portforward") {
        text.push_str(&format!(" ?{}", shortened(&clean(query))));
    }
    text
}

/// Why it ended as it did, in few words.
fn why(event: &Event<'_>) -> String {
    let mut parts = Vec::new();
    let status = event.response_status.as_ref();
    let reason = event.note("authorization.k8s.io/reason");
    let failed = event.code().is_some_and(|c| c >= 400);
    let refused = event.note("gatelog.dev/impersonation-refused");
    if !refused.is_empty() {
        parts.push(format!("impersonation refused: {refused}"));
    } else if event.code() == Some(403) && !reason.is_empty() {
        // What was allowed here and is refused all the same was refused behind the gate.
        if event.note("authorization.k8s.io/decision") == "allow" {
            parts.push("refused by the cluster".to_owned());
        }
        parts.push(allowed_by(reason).map_or_else(|| reason.to_owned(), |by| format!("allowed here {by}")));
    } else if let Some(status) = status.filter(|_| failed) {
        let told = [event.note("gatelog.dev/authn-attempted"), &status.message, &status.reason];
        parts.extend(told.iter().find(|t| !t.is_empty()).map(|t| (*t).to_owned()));
    } else if let Some(binding) = allowed_by(reason) {
        parts.push(binding);
    }
    if event.note("gatelog.dev/outcome") == "unknown" {
        parts.push("outcome unknown".to_owned());
    }
    let end = event.note("gatelog.dev/end");
    if !end.is_empty() {
        parts.push(format!("ended: {end}"));
    }
    parts.retain(|p| !p.is_empty());
    parts.join("; ")
}

/// `by ClusterRoleBinding "b"` out of `RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "r" to User "u"`, and what a gate
/// with rules of two sources adds.
fn allowed_by(reason: &str) -> Option<String> {
    const LIVE: &str = " (from the cluster)";
    let (binding, rest) = reason.strip_prefix("RBAC: allowed by ")?.split_once(" of ")?;
    Some(format!("by {binding}{}", if rest.ends_with(LIVE) { LIVE } else { "" }))
}

/// What the record says of itself.
fn gap(event: &Event<'_>) -> String {
    let from = event.source_ips.first().map(|ip| format!(" from {}", word(ip))).unwrap_or_default();
    let (lost, suppressed, torn) = (
        event.note("gatelog.dev/lost"),
        event.note("gatelog.dev/suppressed"),
        event.note("gatelog.dev/torn"),
    );
    let since = clean(&event.request_received_timestamp);
    if !lost.is_empty() {
        format!("{} events since {since} could not be kept", clean(lost))
    } else if !suppressed.is_empty() {
        format!("{} more requests without authentication{from} since {since}", clean(suppressed))
    } else {
        clean(torn).into_owned()
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_REASON) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// A duration in at most seven characters, for a person.
pub(super) fn brief(duration: Duration) -> String {
    let micros = duration.as_micros();
    let seconds = duration.as_secs();
    match micros {
        0..1000 => format!("{micros}us"),
        1000..10_000 => format!("{:.1}ms", duration.as_secs_f64() * 1e3),
        10_000..1_000_000 => format!("{}ms", micros / 1000),
        1_000_000..60_000_000 => format!("{:.1}s", duration.as_secs_f64()),
        _ if seconds < 3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ if seconds < 86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}
