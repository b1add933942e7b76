//! The log: one line an event, as text or JSON, on stderr; and one line a request ([`access`]).
//!
//! Nothing that writes a line ever waits for whoever reads it: lines go through a bounded [`sink`] whose thread writes them
//! in batches, and what does not fit is dropped, counted (`gatelog_log_lines_dropped_total`) and said. A caller cannot forge
//! a line or reach a terminal: control characters arrive escaped.

mod line;
mod sink;

pub use line::AccessLine;
use sink::Sink;

use prometheus::IntCounter;
use std::{io, str::FromStr, sync::OnceLock, time::SystemTime};
use tracing::{Level, Subscriber};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt,
};

/// The target of access lines; `info,gatelog::access=off` silences them.
pub const ACCESS: &str = "gatelog::access";

/// What a line looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// For people: time, level, where, what, then `key=value`.
    #[default]
    Text,
    /// For machines: one JSON object.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("log format {s:?} is neither text nor json")),
        }
    }
}

/// Which lines are written: a level (`off`, `error`, `warn`, `info`, `debug`, `trace`), or several `target=level`,
/// separated by commas, beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter(Targets);

impl Default for Filter {
    fn default() -> Self {
        Self(quiet(Targets::new().with_default(Level::INFO), ""))
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        for directive in s.split(',') {
            // On its own a word could also name a target; a mistyped level would then silence everything.
            let level = directive.split_once('=').map_or(directive, |(_target, level)| level);
            if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
                return Err(format!("log level {level:?} is none of {}", LEVELS.join(", ")));
            }
        }
        let targets = Targets::from_str(s).map_err(|error| format!("log level {s:?}: {error}"))?;
        Ok(Self(quiet(targets, s)))
    }
}

/// kube warns of every attempt, and repeats whole answers. What it is about is said once, by whoever uses it.
fn quiet(targets: Targets, asked: &str) -> Targets {
    let unasked = ["kube_client", "kube_runtime"].into_iter().filter(|target| !asked.contains(target));
    targets.with_targets(unasked.map(|target| (target, LevelFilter::OFF)))
}

/// Where the lines of the process go, once [`init`] has run.
static LOG: OnceLock<(Sink, Format)> = OnceLock::new();

/// Writes out what is still in memory when it is dropped, last thing in the program.
#[derive(Debug)]
#[must_use = "lines are lost at exit unless this lives until then"]
pub struct Guard(());

impl Drop for Guard {
    fn drop(&mut self) {
        flush();
    }
}

/// Starts the log of the process, panics included; once.
pub fn init(format: Format, filter: &Filter) -> Result<Guard, InitError> {
    let sink = Sink::start(io::stderr(), format).map_err(InitError::Thread)?;
    tracing::subscriber::set_global_default(subscriber(sink.clone(), format, filter))
        .map_err(|_| InitError::Twice)?;
    LOG.set((sink, format)).map_err(|_| InitError::Twice)?;
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let what = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("of a kind that cannot be shown");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(location, what, "panicked");
        flush();
    }));
    Ok(Guard(()))
}

/// Why the log cannot start.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The operating system gives no thread.
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(io::Error),
    /// It runs already.
    #[error("the log was started twice")]
    Twice,
}

/// The counter of lost lines, once there is a log.
pub(super) fn dropped() -> Option<IntCounter> {
    LOG.get().map(|(sink, _)| sink.dropped())
}

/// Waits, for two seconds at most, until every line so far is written.
pub fn flush() {
    if let Some((sink, _)) = LOG.get() {
        sink.flush();
    }
}

/// Writes the one line of a request.
pub fn access(line: &AccessLine<'_>) {
    // Before anything is rendered; a static look-up.
    if !tracing::enabled!(target: ACCESS, Level::INFO) {
        return;
    }
    if let Some((sink, format)) = LOG.get() {
        sink.push_with(|out| line.render(*format, SystemTime::now(), out));
    }
}

fn subscriber(sink: Sink, format: Format, filter: &Filter) -> impl Subscriber + Send + Sync {
    let layer = tracing_subscriber::fmt::layer().with_writer(sink).with_ansi(false);
    let layer = match format {
        Format::Text => layer.boxed(),
        Format::Json => {
            layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
    };
    tracing_subscriber::registry().with(layer.with_filter(filter.0.clone()))
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Event<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Event(self)
    }
}

/// One event on its way to the sink; tracing-subscriber writes it in one piece.
#[derive(Debug)]
pub struct Event<'a>(&'a Sink);

impl io::Write for Event<'_> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.push_with(|out| line::push_sanitized(out, event));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{sink::tests::Output, *};

    #[test]
    fn filters() {
        for good in ["info", "INFO", "off", "warn,gatelog::authn=debug", "info,gatelog::access=off"] {
            assert!(good.parse::<Filter>().is_ok(), "{good:?}");
        }
        for (bad, message) in [
            ("inof", r#"log level "inof" is none of off, error, warn, info, debug, trace"#),
            ("", r#"log level "" is none of off, error, warn, info, debug, trace"#),
            ("info,", r#"log level "" is none of off, error, warn, info, debug, trace"#),
            ("gatelog=loud", r#"log level "loud" is none of off, error, warn, info, debug, trace"#),
        ] {
            assert_eq!(bad.parse::<Filter>(), Err(message.to_owned()), "{bad:?}");
        }
    }

    fn logged(format: Format, filter: &str, log: impl FnOnce()) -> String {
        let output = Output::default();
        let sink = Sink::start(output.clone(), format).unwrap();
        tracing::subscriber::with_default(subscriber(sink.clone(), format, &filter.parse().unwrap()), log);
        sink.flush();
        output.text()
    }

    #[test]
    fn text_events_are_one_line_each() {
        let text = logged(Format::Text, "info", || {
            tracing::info!(user = "eve\nforged", file = %"a\r\n\u{1b}[2Jb\u{9b}c", "hello");
            tracing::debug!("not this");
        });
        let (time, rest) = text.split_once(' ').unwrap();
        assert_eq!(time.len(), "2026-01-02T03:04:05.000006Z".len(), "{time}");
        assert_eq!(
            rest,
            " INFO gatelog::telemetry::log::tests: hello user=\"eve\\nforged\" file=a\\u000d\\u000a\\u001b[2Jb\\u009bc\n"
        );
    }

    #[test]
    fn json_events_are_flat_objects() {
        let text = logged(Format::Json, "info", || tracing::warn!(file = %"a\nb", "hello"));
        let event: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(event["message"], "hello");
        assert_eq!(event["file"], "a\nb");
        assert_eq!(event["level"], "WARN");
        assert_eq!(text.matches('\n').count(), 1);
    }

    #[test]
    fn targets_have_levels_of_their_own() {
        let text = logged(Format::Text, "warn,gatelog::x=debug", || {
            tracing::info!("not this");
            tracing::debug!(target: "gatelog::x", "but this");
        });
        assert!(text.ends_with("DEBUG gatelog::x: but this\n"), "{text}");
        assert_eq!(text.lines().count(), 1);
    }
}
