//! The paths of added rules, followed side by side on the way down: a stack of how far each has come, one range of it for a
//! value.

use super::{Pass, State};
use crate::audit::redact::rule::Step;
use std::{borrow::Cow, ops::Range};

impl Pass<'_, '_, '_> {
    /// The added rules' paths begin at every object.
    pub(super) fn begin(&mut self, at: usize, states: Range<usize>) -> Range<usize> {
        if self.walk.active.is_empty() {
            return states;
        }
        let tape = self.tape;
        // Of two, neither is known.
        let told = |field: &'static str, own: &'static str| -> Option<Cow<'_, str>> {
            let mut found = tape.get(at, field).flat_map(|m| tape.get(m, own).collect::<Vec<_>>());
            match (found.next(), found.next()) {
                (None, _) => None,
                (Some(one), None) => Some(tape.string(one)),
                (Some(_), Some(_)) => Some(Cow::Borrowed("")),
            }
        };
        let about = self.walk.about;
        let namespace = told("metadata", "namespace").unwrap_or(Cow::Borrowed(about.namespace));
        let name = told("metadata", "name").unwrap_or(Cow::Borrowed(about.name));
        self.begin_at(&namespace, &name, states)
    }

    pub(super) fn begin_at(&mut self, namespace: &str, name: &str, states: Range<usize>) -> Range<usize> {
        let walk = self.walk;
        let start = self.states.len();
        for i in states {
            if let Some(state) = self.states.get(i).copied() {
                self.add(start, state);
            }
        }
        for rule in &walk.active {
            let Some(checked) = walk.redactor.rules.get(*rule) else { continue };
            if checked.fits_object(namespace, name) {
                (0..checked.paths.len()).for_each(|path| self.add(start, (*rule, path, 0)));
            }
        }
        start..self.states.len()
    }

    /// Where the paths are after one more key or index (or what may be either); and the rule whose path ends there.
    pub(super) fn step(
        &mut self,
        states: Range<usize>,
        key: Option<&str>,
        index: Option<usize>,
    ) -> (Range<usize>, Option<usize>) {
        let start = self.states.len();
        let mut matched = None;
        for i in states {
            let Some((rule, path, at)) = self.states.get(i).copied() else { continue };
            let steps = self.steps(rule, path);
            let goes = match steps.get(at) {
                Some(Step::Name(name)) => key.is_some_and(|key| key.eq_ignore_ascii_case(name)),
                Some(Step::Index(wanted)) => index.is_some_and(|i| i == *wanted || i == usize::MAX),
                Some(Step::Any) => true,
                Some(Step::Deep) | None => false,
            };
            // Arrays are looked through, whether or not the path says so.
            let stays = index.is_some() || matches!(steps.get(at), Some(Step::Deep));
            if goes && at + 1 == steps.len() {
                matched = Some(rule);
            } else if goes {
                self.add(start, (rule, path, at + 1));
            }
            if stays {
                self.add(start, (rule, path, at));
            }
        }
        (start..self.states.len(), matched)
    }

    /// Adds a state to those from `start` on, and what it may be as well: `**` may stand for nothing.
    fn add(&mut self, start: usize, (rule, path, mut at): State) {
        loop {
            let state = (rule, path, at);
            if !self.states.get(start..).unwrap_or_default().contains(&state) {
                self.states.push(state);
            }
            if self.steps(rule, path).get(at) != Some(&Step::Deep) {
                break;
            }
            at += 1;
        }
    }

    fn steps(&self, rule: usize, path: usize) -> &[Step] {
        let rule = self.walk.redactor.rules.get(rule);
        rule.and_then(|rule| rule.paths.get(path)).map_or(&[], Vec::as_slice)
    }
}
