//! What the record says of itself: lines that belong to no request, so that no gap is silent. They are Events like the
//! others (`user` is `{}`, `verb` and `requestURI` are empty) and say what happened in an annotation.

use super::{
    event::{Addresses, Annotations, Event, Head, Level, MicroTime, Stage},
    id,
    journal::{
        line::{Line, Part},
        segment::Torn,
    },
};
use std::{net::IpAddr, time::SystemTime};

/// Something that happened to the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// `gatelog.dev/lost`: so many events could not be kept.
    Lost(u64),
    /// `gatelog.dev/suppressed`: so many requests without authentication left no event of their own; from this address, or
    /// from many.
    Suppressed(u64, Option<IpAddr>),
    /// `gatelog.dev/torn`: an earlier process ended in the middle of a line.
    Torn(Torn),
}

impl Note {
    /// Hands on the line. `since`: when it began to happen.
    pub(crate) fn write<T>(
        &self,
        since: SystemTime,
        now: SystemTime,
        deliver: impl FnOnce(&Line<'_>) -> T,
    ) -> T {
        let mut annotations = Annotations::default();
        let (stage, from) = match self {
            Self::Lost(events) => {
                annotations.add("gatelog.dev/lost", events.to_string());
                (Stage::ResponseComplete, None)
            }
            Self::Suppressed(requests, from) => {
                annotations.add("gatelog.dev/suppressed", requests.to_string());
                (Stage::ResponseStarted, *from)
            }
            Self::Torn(Torn { file, bytes }) => {
                annotations.add(
                    "gatelog.dev/torn",
                    format!("{file}: its last line was cut off after {bytes} bytes"),
                );
                (Stage::ResponseComplete, None)
            }
        };
        let (id, at) = (id::new(), MicroTime::at(now));
        let event = Event {
            level: Level::Metadata,
            id: &id::text(id),
            stage,
            head: &Head::new("", "", "{}", from.map(Addresses::peer).as_ref(), None),
            impersonated: None,
            status: None,
            request: None,
            response: None,
            received: MicroTime::at(since),
            at,
            annotations: &annotations,
            salt: &id::salt(),
            journal_only: false,
        };
        let mut text = Vec::new();
        event.write(&mut text);
        deliver(&Line::new(&text, id, stage, at, Part::Only))
    }
}
