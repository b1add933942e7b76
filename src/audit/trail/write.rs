//! An event becomes a line.

use super::Inner;
use crate::audit::{
    event::{Event, MicroTime, Stage},
    id,
    journal::{
        Mark,
        line::{Line, Part},
    },
};
use std::cell::RefCell;

/// A scratch buffer that grew past this is given back.
const SPARE: usize = 1 << 20;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Inner {
    /// Renders the event and hands the line on.
    pub(super) fn write<T>(
        &self,
        stage: Stage,
        at: MicroTime,
        part: Part,
        deliver: impl FnOnce(&Line<'_>) -> T,
    ) -> T {
        self.write_as(stage, at, part, false, deliver)
    }

    /// The first event, which the policy omits and the journal needs; its place was held, `release` bytes.
    pub(super) fn write_journal_only(&self, at: MicroTime, release: usize) -> Option<Mark> {
        let journal = &self.audit.journal;
        self.write_as(Stage::RequestReceived, at, Part::First, true, |line| match self.place {
            Some(_) => journal.append(Some(line), release),
            None => journal.try_append(line),
        })
    }

    pub(super) fn write_as<T>(
        &self,
        stage: Stage,
        at: MicroTime,
        part: Part,
        journal_only: bool,
        deliver: impl FnOnce(&Line<'_>) -> T,
    ) -> T {
        self.audit.metrics.events.inc();
        let code;
        let status = match (&self.told.status, self.code) {
            _ if stage == Stage::RequestReceived => None,
            (Some(status), _) => Some(status.as_slice()),
            (None, Some(number)) => {
                code = format!("{{\"metadata\":{{}},\"code\":{number}}}");
                Some(code.as_bytes())
            }
            (None, None) => None,
        };
        let event = Event {
            level: self.verdict.level,
            id: self.id_header.to_str().unwrap_or_default(),
            stage,
            head: &self.head,
            impersonated: self.impersonated.as_deref(),
            status,
            request: self.request.as_deref(),
            response: self.told.object.as_deref(),
            received: self.received,
            at,
            annotations: &self.annotations,
            salt: &id::salt(),
            journal_only,
        };
        SCRATCH.with_borrow_mut(|line| {
            line.clear();
            event.write(line);
            let delivered = deliver(&Line::new(line, self.id, stage, at, part));
            if line.capacity() > SPARE {
                *line = Vec::new();
            }
            delivered
        })
    }
}
