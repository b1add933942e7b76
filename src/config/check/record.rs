//! What is said of the record: how safe it is, who signs it, what is taken out of it, and where else it goes.

use super::{Line, of, on};
use crate::audit::{
    self, Mode, OnFailure,
    redact::{Builtin, Builtins},
    sink::Receiver,
};

/// `rules`: of the policy.
pub(super) fn lines(config: &audit::Config, rules: usize) -> [Line; 4] {
    let failing = match config.on_failure {
        OnFailure::Refuse => "requests are refused",
        OnFailure::Open => "requests are NOT refused",
    };
    let record = format!(
        "{} to {}, {failing} when they cannot be kept; changes wait until they are {}, reads until they are {}",
        of(rules, "policy rule"),
        config.dir.display(),
        waited_for(config.modes.changes),
        waited_for(config.modes.reads),
    );
    let sinks: Vec<String> = config
        .sinks
        .iter()
        .map(|sink| match sink.receiver {
            Receiver::Webhook(_) => format!("{} by webhook", sink.name),
            Receiver::Stdout => format!("{} on standard output", sink.name),
        })
        .collect();
    [
        on("audit", true, record),
        on("audit signing", true, signing(config)),
        on("audit redaction", config.redaction.off != Builtins::ALL, redaction(&config.redaction)),
        on("audit sinks", !sinks.is_empty(), sinks.join(", ")),
    ]
}

fn waited_for(mode: Mode) -> &'static str {
    match mode {
        Mode::Strict => "on the disk (strict)",
        Mode::Blocking => "written (blocking)",
        Mode::Batch => "queued (batch)",
    }
}

fn signing(config: &audit::Config) -> String {
    let key = match &config.signing.key_file {
        Some(path) => format!("key {}", path.display()),
        None => "key in the record's own folder, so whoever can write there can sign".to_owned(),
    };
    match config.signing.stdout {
        Some(every) => format!("{key}; checkpoints on standard output every {every:?}"),
        None => format!("{key}; no checkpoints on standard output"),
    }
}

fn redaction(redaction: &audit::Redaction) -> String {
    let off: Vec<_> = redaction.off.iter().map(Builtin::as_str).collect();
    let without = match off.len() {
        0 => of(Builtin::ALL.len(), "default rule"),
        _ => format!("default rules WITHOUT {}", off.join(", ")),
    };
    match redaction.rules.len() {
        0 => without,
        more => format!("{without}, {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Config, Modes, policy::Policy, redact::Rule, sink};
    use std::path::Path;

    #[test]
    fn what_is_less_safe_than_it_could_be_is_said() {
        let mut default = Config::new("/d", Policy::shipped("metadata").unwrap());
        default.signing.stdout = Some(std::time::Duration::from_secs(60));
        let said = |config: &Config| lines(config, 1).map(|line| line.to_string());
        assert_eq!(
            said(&default),
            [
                "audit: on (1 policy rule to /d, requests are refused when they cannot be kept; changes wait until they are on the \
                 disk (strict), reads until they are written (blocking))",
                "audit signing: on (key in the record's own folder, so whoever can write there can sign; checkpoints on standard \
                 output every 60s)",
                "audit redaction: on (11 default rules)",
                "audit sinks: off",
            ]
        );
        let mut other = default;
        other.on_failure = OnFailure::Open;
        other.modes = Modes { changes: Mode::Blocking, reads: Mode::Batch };
        other.signing.key_file = Some(Path::new("/k").to_owned());
        other.signing.stdout = None;
        other.redaction.off = Builtins::NONE.with(Builtin::SecretData).with(Builtin::TokenReview);
        other.redaction.rules = vec![Rule::default()];
        other.sinks = vec![sink::Config { name: "loki".into(), receiver: Receiver::Stdout }];
        assert_eq!(
            said(&other),
            [
                "audit: on (1 policy rule to /d, requests are NOT refused when they cannot be kept; changes wait until they are written \
                 (blocking), reads until they are queued (batch))",
                "audit signing: on (key /k; no checkpoints on standard output)",
                "audit redaction: on (default rules WITHOUT secret-data, token-review, 1 more)",
                "audit sinks: on (loki on standard output)",
            ]
        );
        other.redaction.off = Builtins::ALL;
        assert!(!lines(&other, 1)[2].on);
    }
}
