//! Redaction that knows Kubernetes: what is secret is taken out of everything that is recorded, before it is written.
//!
//! A value becomes a mark, `gatelog:redacted:hmac-sha256:` and 32 hex digits: a keyed hash (HMAC-SHA256, 128 bits of it), so that
//! equal values have equal marks, in a Secret's `data` as in its `stringData`, in an object as in a patch, today as next year,
//! as long as the key is the same. Without the key a mark says nothing, however short the value; with the key, short values
//! are found by trying. A value that has exactly the form of a mark is taken for one and stays, so that what was redacted
//! once can be redacted again; whoever writes such a value shows nothing but that.
//!
//! What is empty (`""`, `{}`, `[]`, `null`) stays: that a value was emptied or removed is what an auditor wants to see, and its mark
//! would be known anyway. Names stay: of objects, fields, and of the keys in `data`.
//!
//! Rules are there by default, each with a [name](Builtin) by which alone it is switched off; [rules that are added](Rule) can only take
//! more. A body is read once into a flat list of places in its own text, and only what is marked is replaced: all else, key
//! order, numbers and blanks included, stays byte for byte. What cannot be read as JSON, or is nested too deeply or too large
//! to be walked through, is never recorded as it is: the caller gets [`Unreadable`] and records a [`Digest`].
//!
//! What is secret is decided by the request's resource and by every object's own kind, whichever is stricter, and never by
//! one of two equal keys: all are looked at.

mod mark;
mod message;
mod place;
mod rule;
mod shapes;
mod uri;
mod walk;

use crate::{codec::tape::Tape, request::RequestInfo};
use place::Place;
use rule::Checked;
use std::borrow::Cow;
use walk::Walk;

pub use crate::codec::tape::Unreadable;
pub use mark::{Digest, Key, PREFIX, is_mark};
pub use rule::{Builtin, Builtins, Rule, RuleError};

/// Levels of nesting that are walked through.
const DEEPEST: usize = 100;
/// Keys and values of a body, those in its texts included.
const MOST_NODES: usize = 1 << 20;
/// Texts that are JSON themselves, in one another.
const MOST_NESTED: usize = 4;

/// The rules and the key. One for the process, as long as its configuration is.
#[derive(Debug)]
pub struct Redactor {
    key: Key,
    on: Builtins,
    rules: Vec<Checked>,
}

/// What is known of a body or a target from its request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct About<'a> {
    /// API group; all are empty for a path that is no resource.
    pub group: &'a str,
    /// Resource, in the plural.
    pub resource: &'a str,
    /// Subresource.
    pub subresource: &'a str,
    /// Namespace.
    pub namespace: &'a str,
    /// Object's name.
    pub name: &'a str,
    /// API verb.
    pub verb: &'a str,
    /// Which body.
    pub part: Part,
}

/// Whose body it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Part {
    /// The caller's.
    #[default]
    Request,
    /// The answer's.
    Response,
}

/// A text without what is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redacted<'r, 't> {
    /// The text that came, if nothing in it had to go.
    pub text: Cow<'t, str>,
    /// How many marks it got.
    pub marks: usize,
    /// The names of the rules that made them, the default ones first.
    pub rules: Vec<&'r str>,
}

// === impl Redactor ===

impl Redactor {
    /// All default rules but those in `off`, and `rules`. Tells everything that is wrong with them.
    pub fn new(key: Key, off: Builtins, rules: Vec<Rule>) -> Result<Self, Vec<RuleError>> {
        let on = off.iter().fold(Builtins::ALL, Builtins::without);
        Ok(Self { key, on, rules: Checked::all(rules)? })
    }

    /// The key of the marks, for digests of what is not recorded.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// A body that is JSON: an object, a list, a Table, a Status, a watch event, a patch of any kind (an apply patch turned into
    /// JSON). That a patch is a JSON patch is told by its being an array.
    ///
    /// # Errors
    /// What it cannot look through must not be recorded.
    pub fn body<'r, 't>(&'r self, about: &About<'r>, text: &'t str) -> Result<Redacted<'r, 't>, Unreadable> {
        let walk = Walk::new(self, *about, MOST_NODES);
        let new = walk.body(text)?;
        Ok(self.told(&walk, text, new))
    }

    /// The same, read: the text of node 0, without what stands around it.
    ///
    /// # Errors
    /// What it cannot look through must not be recorded.
    pub fn tape<'r, 't>(
        &'r self,
        about: &About<'r>,
        tape: &'t Tape<'_>,
    ) -> Result<Redacted<'r, 't>, Unreadable> {
        if tape.depth() > DEEPEST {
            return Err(Unreadable::Depth(b'{'));
        }
        let left = MOST_NODES.checked_sub(tape.count()).ok_or(Unreadable::Nodes)?;
        let walk = Walk::new(self, *about, left);
        let new = walk.tape(tape);
        Ok(self.told(&walk, tape.raw(0), new))
    }

    /// A request's target, as `requestURI` holds it: path and query.
    pub fn target<'r, 't>(&'r self, about: &About<'r>, target: &'t str) -> Redacted<'r, 't> {
        let walk = Walk::new(self, *about, MOST_NODES);
        let new = uri::redacted(&walk, target);
        self.told(&walk, target, new)
    }

    /// The target of a request that could not be parsed, so that any rule may be about it.
    pub fn unparsed_target<'r, 't>(&'r self, target: &'t str) -> Redacted<'r, 't> {
        let walk = Walk::of_all_rules(self);
        let new = uri::redacted(&walk, target);
        self.told(&walk, target, new)
    }

    /// Any other text: an annotation's value, a user agent. May be JSON.
    pub fn text<'r, 't>(&'r self, text: &'t str) -> Redacted<'r, 't> {
        let walk = Walk::new(self, About::default(), MOST_NODES);
        let new = walk.text(text, Place::Any, 0);
        self.told(&walk, text, new)
    }

    /// The message of a Status that answers the request, where it stands outside of a body (`responseStatus`). The details'
    /// causes have messages too: `details` are best taken from the redacted body.
    pub fn message<'r, 't>(&'r self, about: &About<'r>, text: &'t str) -> Redacted<'r, 't> {
        let walk = Walk::new(self, *about, MOST_NODES);
        let new = if walk.is_guarded() { walk.message(text) } else { walk.text(text, Place::Any, 0) };
        self.told(&walk, text, new)
    }

    fn told<'r, 't>(&'r self, walk: &Walk<'_>, text: &'t str, new: Option<String>) -> Redacted<'r, 't> {
        let mut rules: Vec<_> = walk.acted.get().iter().map(Builtin::as_str).collect();
        let added = walk.acted_added.borrow();
        rules.extend(added.iter().filter_map(|i| self.rules.get(*i)).map(|r| r.rule.name.as_str()));
        Redacted { text: new.map_or(Cow::Borrowed(text), Cow::Owned), marks: walk.marks.get(), rules }
    }
}

// === impl About ===

impl<'a> About<'a> {
    /// What a request line tells.
    pub fn of(info: &'a RequestInfo, part: Part) -> Self {
        Self {
            group: info.group(),
            resource: info.resource(),
            subresource: info.subresource(),
            namespace: info.namespace(),
            name: info.name(),
            verb: info.verb().as_str(),
            part,
        }
    }
}

#[cfg(test)]
mod tests;
