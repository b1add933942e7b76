//! What a receiver is told that the journal has and it will not get: Events like the others, which stand in no journal.

use crate::audit::{
    event::{Annotations, Event, Head, Level, MicroTime, Stage},
    id,
};
use std::time::SystemTime;

/// A line with `gatelog.dev/sink-gap`, its newline included.
pub(super) fn gap(what: &str) -> Vec<u8> {
    let mut annotations = Annotations::default();
    annotations.add("gatelog.dev/sink-gap", what.to_owned());
    let now = MicroTime::at(SystemTime::now());
    let mut text = Vec::new();
    Event {
        level: Level::Metadata,
        id: &id::text(id::new()),
        stage: Stage::ResponseComplete,
        head: &Head::new("", "", "{}", None, None),
        impersonated: None,
        status: None,
        request: None,
        response: None,
        received: now,
        at: now,
        annotations: &annotations,
        salt: &id::salt(),
        journal_only: false,
    }
    .write(&mut text);
    text
}
