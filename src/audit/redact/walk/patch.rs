//! JSON patches (RFC 6902): an operation's value is what its path says.

use super::Pass;
use crate::{
    audit::redact::{
        place::{Fate, Form, Mode, Place, Traits, Word},
        rule::Builtin,
    },
    codec::tape::Kind,
};
use std::{borrow::Cow, ops::Range};

impl Pass<'_, '_, '_> {
    /// One operation: its value is what its path says.
    pub(super) fn op(&mut self, at: usize, mode: Mode) {
        let tape = self.tape;
        if tape.kind(at) != Kind::Object {
            return self.visit(at, if mode == Mode::Plain { Place::Any } else { Place::Object(mode) }, 0..0);
        }
        let mut paths = Vec::new();
        let traits = Traits::of(tape, at);
        for (key, value) in tape.members(at) {
            if Word::fold(&tape.string(key)).as_str() == "path" {
                paths.push(value);
            }
        }
        for (key, value) in tape.members(at) {
            let name = tape.string(key);
            self.key(key, &name, Place::Any);
            let height = self.states.len();
            match (Word::fold(&name).as_str(), paths.as_slice()) {
                ("op" | "path" | "from", _) => self.visit(value, Place::Scalar(mode), 0..0),
                ("value", [path]) if tape.is_text(*path) => {
                    let pointer = tape.string(*path);
                    match self.pointed(&pointer, mode, tape.kind(value)) {
                        Ok((fate, states)) => self.meet(value, fate, states),
                        Err(rule) => self.mark_added(value, rule),
                    }
                }
                _ if mode == Mode::Plain => {
                    let fate =
                        Place::Any.member(&name, traits, Some(tape.kind(value)), self.walk.redactor.on);
                    self.meet(value, fate, 0..0);
                }
                _ => self.mark(value, mode.rule()),
            }
            self.states.truncate(height);
        }
    }

    /// What stands at a JSON pointer; an error is the added rule that marks it.
    fn pointed(&mut self, pointer: &str, mode: Mode, value: Kind) -> Result<(Fate, Range<usize>), usize> {
        let mut place = Place::Object(mode);
        if pointer.is_empty() {
            return Ok((Fate::Go(place), 0..0));
        }
        let mut states = self.begin_at(self.walk.about.namespace, self.walk.about.name, 0..0);
        let mut segments = pointer.strip_prefix('/').unwrap_or(pointer).split('/').peekable();
        while let Some(segment) = segments.next() {
            let name: Cow<'_, str> = if segment.contains('~') {
                segment.replace("~1", "/").replace("~0", "~").into()
            } else {
                segment.into()
            };
            // `-` is the place behind an array's last element; no rule is about one number but by chance.
            let index = if name == "-" { Some(usize::MAX) } else { name.parse().ok() };
            let (next, matched) = self.step(states, Some(&name), index);
            if let Some(rule) = matched {
                return Err(rule);
            }
            states = next;
            let is_list = matches!(place, Place::Items(_) | Place::Rows(_) | Place::Ops(_));
            let value = segments.peek().is_none().then_some(value);
            let fate = match place.form() {
                Form::Scalar(rule) => Fate::Mark(rule),
                _ if matches!(place, Place::Annotation { .. }) => Fate::Mark(Builtin::SecretData),
                Form::List(_) => place.element(),
                _ if is_list => place.element(),
                _ => place.member(&name, Traits::default(), value, self.walk.redactor.on),
            };
            match fate {
                Fate::Go(next) => place = next,
                fate => return Ok((fate, 0..0)),
            }
        }
        Ok((Fate::Go(place), states))
    }
}
