//! The section `audit`: what is recorded, how it is kept, and where it goes.

use super::{PolicySource, bytes, reader::Section};
use crate::{
    audit::{
        self, Cidr, Mode, Modes, OnFailure, Redaction, Signing,
        policy::{self, Policy},
        redact::{Builtin, Builtins, Rule},
        sink::{self, Receiver, Webhook},
    },
    endpoint,
};
use std::time::Duration;

/// All of the section.
pub(super) fn recording(
    section: &Section<'_>,
    trusted_proxies: Vec<Cidr>,
) -> (Option<audit::Config>, PolicySource) {
    let shipped = policy::SHIPPED.map(|(name, _)| (name, name));
    let name = section.word("policy", &shipped, "recommended");
    let source = match section.path("policyFile") {
        Some(_) if section.has("policy") => {
            section.wrong("policyFile", "expected either policy or policyFile");
            PolicySource::Shipped(name.to_owned())
        }
        Some(path) => PolicySource::File(path),
        None => PolicySource::Shipped(name.to_owned()),
    };
    let policy =
        source.read().map_err(|problem| vec![problem]).and_then(|file| source.understand(file.as_ref()));
    let policy = policy.map_err(|problems| {
        problems.into_iter().for_each(|problem| section.wrong("policyFile", problem));
    });
    let dir = section.required("dir", section.path("dir"));
    if dir.as_ref().is_some_and(|dir| dir.exists() && !dir.is_dir()) {
        section.wrong("dir", "expected a folder");
    }
    // Every key is asked for, so that none of them is taken for unknown.
    let policy = policy.ok().or_else(|| Policy::shipped("recommended"));
    let default = policy.map(|policy| audit::Config::new(dir.clone().unwrap_or_default(), policy));
    let config = default.map(|default| audit::Config {
        max_size: section.size("maxSize", default.max_size),
        rotate_every: section.duration_or_none("rotateEvery", default.rotate_every),
        max_age: section.duration_or_none("maxAge", default.max_age),
        max_backups: section.count_or_none("maxBackups", default.max_backups),
        max_total_size: section.size_or_none("maxTotalSize", default.max_total_size),
        queue_size: bytes(section.size("queueSize", default.queue_size as u64)),
        max_request_object: bytes(section.size("maxRequestObject", default.max_request_object as u64)),
        max_response_object: bytes(section.size("maxResponseObject", default.max_response_object as u64)),
        on_failure: section.word(
            "onFailure",
            &[("refuse", OnFailure::Refuse), ("open", OnFailure::Open)],
            default.on_failure,
        ),
        modes: modes(section, default.modes),
        compress: section.flag("compress", default.compress),
        signing: signing(section),
        watch_events: section.flag("watchEvents", default.watch_events),
        redaction: redaction(section),
        sinks: sinks(section),
        trusted_proxies,
        ..default
    });
    for fault in config.iter().flat_map(audit::Config::faults) {
        match fault {
            audit::Error::Config(key, why) => section.wrong(key, why),
            // That the name is missing was said.
            audit::Error::Redaction(fault) if fault.key == "name" && fault.rule.starts_with('#') => {}
            audit::Error::Redaction(fault) => section.wrong(&fault.path(), &fault.fault),
            other => section.wrong("", other),
        }
    }
    (config.filter(|_| dir.is_some()), source)
}

fn modes(section: &Section<'_>, default: Modes) -> Modes {
    let mode = section.section("mode");
    let words = [("strict", Mode::Strict), ("blocking", Mode::Blocking), ("batch", Mode::Batch)];
    let modes = Modes {
        changes: mode.word("changes", &words, default.changes),
        reads: mode.word("reads", &words, default.reads),
    };
    mode.done();
    modes
}

fn signing(section: &Section<'_>) -> Signing {
    let part = section.section("signing");
    let signing = Signing {
        key_file: part.path("keyFile"),
        origin: part.text("origin"),
        previous_keys: part.all_parsed("previousKeys"),
        stdout: part.duration_or_none("stdout", Some(Duration::from_secs(60))),
    };
    part.done();
    signing
}

fn redaction(section: &Section<'_>) -> Redaction {
    let part = section.section("redaction");
    let off = part.each("off", |name| {
        let known = || Builtin::ALL.map(Builtin::as_str).join(", ");
        Builtin::parse(name)
            .ok_or_else(|| format!("{name:?} is no default rule, expected one of {}", known()))
    });
    let off = off.unwrap_or_default().into_iter().fold(Builtins::NONE, Builtins::with);
    let rules = part.sections("rules").into_iter().map(|rule| {
        let list = |key| rule.texts(key).unwrap_or_default();
        let read = Rule {
            name: rule.required("name", rule.text("name")).unwrap_or_default(),
            groups: rule.texts_or_empty("groups").unwrap_or_default(),
            resources: list("resources"),
            namespaces: list("namespaces"),
            names: list("names"),
            fields: list("fields"),
            query: list("query"),
        };
        rule.done();
        read
    });
    let redaction = Redaction { off, rules: rules.collect() };
    part.done();
    redaction
}

fn sinks(section: &Section<'_>) -> Vec<sink::Config> {
    let mut names = Vec::new();
    let mut stdouts = 0;
    let mut read = |sink: Section<'_>| {
        let name = sink.required("name", sink.text("name"));
        if let Some(name) = &name {
            if !is_label(name) {
                sink.wrong(
                    "name",
                    format!("{name:?} is no DNS label: expected a-z, 0-9 and - within, 63 at most"),
                );
            } else if names.contains(name) {
                sink.wrong("name", format!("{name:?} is the name of another sink"));
            }
            names.push(name.clone());
        }
        let webhook = sink.optional("webhook").map(|part| {
            let default = Webhook::default();
            let kubeconfig = part.required("kubeconfig", part.path("kubeconfig"));
            let webhook = Webhook {
                endpoint: endpoint::Config::Kubeconfig {
                    path: kubeconfig.clone().unwrap_or_default(),
                    context: part.text("context"),
                },
                batch_max_events: part.count("batchMaxSize", default.batch_max_events),
                batch_max_bytes: part.size("batchMaxBytes", default.batch_max_bytes),
                batch_max_wait: part.duration("batchMaxWait", default.batch_max_wait),
                initial_backoff: part.duration("initialBackoff", default.initial_backoff),
                timeout: part.duration("timeout", default.timeout),
            };
            part.done();
            // What comes of a file that is not named was said.
            kubeconfig.map(|_| Receiver::Webhook(Box::new(webhook)))
        });
        let stdout = sink.optional("stdout").map(|part| {
            part.done();
            stdouts += 1;
            if stdouts > 1 {
                sink.wrong("stdout", "there is one standard output, expected one sink for it");
            }
            Receiver::Stdout
        });
        let receiver = match (webhook, stdout) {
            (Some(receiver), None) => receiver,
            (None, Some(receiver)) => Some(receiver),
            _ => {
                sink.wrong("", "expected exactly one of webhook and stdout");
                None
            }
        };
        sink.done();
        Some(sink::Config { name: name?, receiver: receiver? })
    };
    section.sections("sinks").into_iter().filter_map(&mut read).collect()
}

/// Names of sinks are names of files.
fn is_label(name: &str) -> bool {
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    name.len() <= 63 && name.as_bytes().iter().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}
