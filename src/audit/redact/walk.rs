//! The walk: a text's values in order, each with its place, and what is put in place of some of them.

mod added;
mod patch;

use super::{
    About, DEEPEST, MOST_NESTED, Part, Redactor, Unreadable,
    mark::{Key, decoded_base64, is_mark},
    message,
    place::{Fate, Form, Mode, Place, Traits, Word},
    rule::{Builtin, Builtins},
    shapes,
};
use crate::{
    codec::tape::{Kind, Tape},
    status::push_json_str,
};
use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    ops::Range,
};

/// What is the same for a text and the texts inside it.
pub(super) struct Walk<'r> {
    redactor: &'r Redactor,
    about: About<'r>,
    /// The added rules that fit what the request is about.
    active: Vec<usize>,
    /// Nodes that may still be read.
    left: Cell<usize>,
    pub(super) marks: Cell<usize>,
    pub(super) acted: Cell<Builtins>,
    pub(super) acted_added: RefCell<Vec<usize>>,
}

/// How far a path of an added rule has come: rule, path, step.
type State = (usize, usize, usize);

/// Bytes of a Secret's value that is looked for in its labels and annotations; shorter ones (`true`, `dev`) are found there by chance.
const SHORTEST_COPY: usize = 6;

/// One text.
struct Pass<'w, 'r, 't> {
    walk: &'w Walk<'r>,
    tape: &'t Tape<'t>,
    /// How many texts this one is inside of.
    nesting: usize,
    /// In the order of the text, none overlapping.
    edits: Vec<(usize, usize, String)>,
    /// A stack; each value's are a range of it.
    states: Vec<State>,
    /// Of the Table that is walked through: which columns may stay.
    columns: Vec<Column>,
    /// Of the Secret that is walked through: its values, as they are and without their base64.
    values: HashSet<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Name,
    Count,
    Other,
}

// === impl Walk ===

impl<'r> Walk<'r> {
    pub(super) fn new(redactor: &'r Redactor, about: About<'r>, nodes: usize) -> Self {
        let fits = |(i, rule): (usize, &super::rule::Checked)| {
            rule.fits_resource(about.group, about.resource, about.subresource).then_some(i)
        };
        Self {
            redactor,
            about,
            active: redactor.rules.iter().enumerate().filter_map(fits).collect(),
            left: Cell::new(nodes),
            marks: Cell::new(0),
            acted: Cell::new(Builtins::NONE),
            acted_added: RefCell::default(),
        }
    }

    /// For what may be about anything.
    pub(super) fn of_all_rules(redactor: &'r Redactor) -> Self {
        Self {
            active: (0..redactor.rules.len()).collect(),
            ..Self::new(redactor, About::default(), super::MOST_NODES)
        }
    }

    pub(super) fn on(&self, rule: Builtin) -> bool {
        self.redactor.on.has(rule)
    }

    pub(super) fn key(&self) -> &Key {
        &self.redactor.key
    }

    pub(super) fn builtins(&self) -> Builtins {
        self.redactor.on
    }

    /// What the request is about, as far as that alone tells.
    pub(super) fn mode(&self) -> Mode {
        let mode = match (self.about.resource, self.about.subresource) {
            ("secrets", _) => Mode::Secret,
            ("serviceaccounts", "token") => Mode::TokenRequest,
            ("tokenreviews", _) => Mode::TokenReview,
            _ => Mode::Plain,
        };
        if self.on(mode.rule()) { mode } else { Mode::Plain }
    }

    /// Whether what a Status says may quote something that is marked in objects.
    pub(super) fn is_guarded(&self) -> bool {
        self.mode() != Mode::Plain || self.guard().is_some()
    }

    /// An added rule that marks values of such objects.
    fn guard(&self) -> Option<usize> {
        let has_paths = |i: &usize| self.redactor.rules.get(*i).is_some_and(|r| !r.paths.is_empty());
        self.active.iter().copied().find(has_paths)
    }

    /// A body; None when nothing in it has to go.
    pub(super) fn body(&self, text: &str) -> Result<Option<String>, Unreadable> {
        self.document(text, 0, |tape| self.root(tape))
    }

    fn document(
        &self,
        text: &str,
        nesting: usize,
        root: impl FnOnce(&Tape<'_>) -> Place,
    ) -> Result<Option<String>, Unreadable> {
        let tape = Tape::read(text, DEEPEST, &self.left)?;
        let place = root(&tape);
        Ok(self.rewritten(&tape, place, nesting, 0..text.len()))
    }

    /// A body that was read; None when nothing in it has to go. What stands around it is not there.
    pub(super) fn tape(&self, tape: &Tape<'_>) -> Option<String> {
        let (start, end) = tape.span(0);
        self.rewritten(tape, self.root(tape), 0, start..end)
    }

    /// That range of the text, without what has to go.
    fn rewritten(
        &self,
        tape: &Tape<'_>,
        place: Place,
        nesting: usize,
        range: Range<usize>,
    ) -> Option<String> {
        let mut pass = Pass {
            walk: self,
            tape,
            nesting,
            edits: Vec::new(),
            states: Vec::new(),
            columns: Vec::new(),
            values: HashSet::new(),
        };
        pass.visit(0, place, 0..0);
        if pass.edits.is_empty() {
            return None;
        }
        let text = tape.text();
        let mut out = String::with_capacity(range.len() + 64 * pass.edits.len());
        let mut done = range.start;
        for (start, end, new) in &pass.edits {
            debug_assert!(done <= *start && start <= end, "edits are in order");
            out.push_str(text.get(done..*start).unwrap_or_default());
            out.push_str(new);
            done = *end;
        }
        out.push_str(text.get(done..range.end).unwrap_or_default());
        Some(out)
    }

    fn root(&self, tape: &Tape<'_>) -> Place {
        let mode = self.mode();
        let request = self.about.part == Part::Request;
        match tape.kind(0) {
            Kind::Array if request => Place::Ops(mode),
            Kind::Array => Place::Items(mode),
            Kind::Object if request && mode == Mode::Secret && self.about.verb.starts_with("delete") => {
                Place::Options
            }
            Kind::Object if !request && self.is_guarded() && Traits::of(tape, 0).is(Traits::STATUS) => {
                Place::Status
            }
            _ => Place::Object(mode),
        }
    }

    /// A string's value; None when nothing in it has to go.
    pub(super) fn text(&self, text: &str, place: Place, nesting: usize) -> Option<String> {
        if text.is_empty() || is_mark(text) {
            return None;
        }
        let whole = |rule| {
            self.act(rule);
            Some(self.redactor.key.mark(text.as_bytes()))
        };
        let is_annotation = matches!(place, Place::Annotation { .. });
        let blank = text.bytes().take_while(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).count();
        if matches!(text.as_bytes().get(blank), Some(b'{' | b'[')) {
            let mode = if is_annotation { Mode::Secret } else { Mode::Plain };
            let root = |tape: &Tape<'_>| match tape.kind(0) {
                Kind::Array => Place::Items(mode),
                _ => Place::Object(mode),
            };
            // Texts in texts in texts: nobody writes them, but to hide something.
            if nesting >= MOST_NESTED {
                return whole(Builtin::SecretData);
            }
            match self.document(text, nesting + 1, root) {
                Ok(new) => return new,
                Err(Unreadable::Syntax(_)) if !is_annotation => {}
                Err(_) => return whole(Builtin::SecretData),
            }
        }
        if is_annotation && (place == (Place::Annotation { applied: true }) || shapes::has_data(text)) {
            return whole(Builtin::SecretData);
        }
        if self.on(Builtin::PackedText) && shapes::is_packed(text) {
            return whole(Builtin::PackedText);
        }
        if self.on(Builtin::SecretData) && shapes::has_secret(text) {
            return whole(Builtin::SecretData);
        }
        if self.on(Builtin::Kubeconfig) && shapes::has_kubeconfig(text) {
            return whole(Builtin::Kubeconfig);
        }
        let (new, acted) = shapes::redacted(text, self.redactor.on, &self.redactor.key)?;
        acted.iter().for_each(|rule| self.act(rule));
        Some(new)
    }

    /// What a Status says, when that may quote something secret.
    pub(super) fn message(&self, text: &str) -> Option<String> {
        match message::redacted(text, &self.redactor.key) {
            Some(new) => {
                match (self.mode(), self.guard()) {
                    (Mode::Plain, Some(rule)) => self.act_added(rule),
                    (mode, _) => self.act(mode.rule()),
                }
                Some(new)
            }
            None => self.text(text, Place::Any, 0),
        }
    }

    pub(super) fn act(&self, rule: Builtin) {
        self.marks.set(self.marks.get() + 1);
        self.acted.set(self.acted.get().with(rule));
    }

    pub(super) fn act_added(&self, rule: usize) {
        self.marks.set(self.marks.get() + 1);
        let mut acted = self.acted_added.borrow_mut();
        if !acted.contains(&rule) {
            acted.push(rule);
        }
    }

    /// The added rule that marks this query parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<usize> {
        let fits = |i: &usize| {
            self.redactor.rules.get(*i).is_some_and(|rule| {
                rule.fits_object(self.about.namespace, self.about.name) && rule.fits_parameter(name)
            })
        };
        self.active.iter().copied().find(fits)
    }
}

// === impl Pass ===

impl Pass<'_, '_, '_> {
    fn visit(&mut self, at: usize, place: Place, states: Range<usize>) {
        // That something is empty may be seen: an emptied Secret is what an auditor looks for.
        if self.tape.is_empty(at) {
            return;
        }
        let (form, kind) = (place.form(), self.tape.kind(at));
        match (kind, form) {
            (Kind::Object, Form::List(rule) | Form::Scalar(rule)) => self.mark(at, rule),
            (Kind::Array, Form::Map(rule) | Form::Scalar(rule)) => self.mark(at, rule),
            (Kind::Object | Kind::Array | Kind::Number | Kind::Bool, _)
                if matches!(place, Place::Annotation { .. }) =>
            {
                self.mark(at, Builtin::SecretData);
            }
            (Kind::Object, _) => self.object(at, place, states),
            (Kind::Array, _) => self.array(at, place, states),
            (_, Form::Map(rule) | Form::List(rule)) => self.mark(at, rule),
            (Kind::Text | Kind::Escaped, _) => self.text(at, place),
            (Kind::Number | Kind::Bool | Kind::Null, _) => {}
        }
    }

    fn object(&mut self, at: usize, place: Place, states: Range<usize>) {
        let tape = self.tape;
        let traits = Traits::of(tape, at);
        // Nobody sends a Table; what is called so is to look like one.
        let traits = match self.walk.about.part {
            Part::Request => traits.without(Traits::TABLE),
            Part::Response => traits,
        };
        let place = self.refined(place, traits, at);
        let states = match place {
            Place::Object(_) | Place::Status | Place::Options => self.begin(at, states),
            _ => states,
        };
        if place == Place::Object(Mode::Secret) {
            self.values = self.values(at);
            if traits.is(Traits::TABLE) {
                self.columns = self.columns(at);
            }
        }
        for (key, value) in tape.members(at) {
            let name = tape.string(key);
            self.key(key, &name, place);
            let height = self.states.len();
            let (next, matched) = self.step(states.clone(), Some(&name), None);
            let fate = place.member(&name, traits, Some(tape.kind(value)), self.walk.redactor.on);
            match (matched, fate) {
                (Some(rule), _) => self.mark_added(value, rule),
                (None, Fate::Go(Place::Cells)) => self.cells(value, at),
                (None, Fate::Go(_)) if place == Place::Status && Word::fold(&name).as_str() == "message" => {
                    self.message(value);
                }
                (None, fate) => self.meet(value, fate, next),
            }
            self.states.truncate(height);
        }
    }

    fn array(&mut self, at: usize, place: Place, states: Range<usize>) {
        let tape = self.tape;
        for (index, element) in tape.elements(at).enumerate() {
            let height = self.states.len();
            let (next, matched) = self.step(states.clone(), None, Some(index));
            match (matched, place) {
                (Some(rule), _) => self.mark_added(element, rule),
                (None, Place::Ops(mode)) => self.op(element, mode),
                (None, _) => self.meet(element, place.element(), next),
            }
            self.states.truncate(height);
        }
    }

    fn meet(&mut self, at: usize, fate: Fate, states: Range<usize>) {
        match fate {
            Fate::Go(place) => self.visit(at, place, states),
            Fate::Mark(rule) => self.mark(at, rule),
            Fate::MarkBase64(rule) => self.mark_base64(at, rule),
        }
    }

    /// What an object is by its own account; never less than by its place.
    fn refined(&self, place: Place, traits: Traits, at: usize) -> Place {
        let on = |rule| self.walk.on(rule);
        let is = |one| traits.is(one);
        match place {
            Place::Any | Place::Object(Mode::Plain) => {
                let is_object = place != Place::Any;
                if on(Builtin::SecretData)
                    && (is(Traits::SECRET) && (is_object || is(Traits::WHOLE)) || is(Traits::SECRET_LIST))
                {
                    Place::Object(Mode::Secret)
                } else if on(Builtin::TokenRequest)
                    && is(Traits::TOKEN_REQUEST)
                    && (is_object || is(Traits::SPEC))
                {
                    Place::Object(Mode::TokenRequest)
                } else if on(Builtin::TokenReview)
                    && is(Traits::TOKEN_REVIEW)
                    && (is_object || is(Traits::SPEC))
                {
                    Place::Object(Mode::TokenReview)
                } else if on(Builtin::SecretData) && is(Traits::STATUS) && is(Traits::ABOUT_SECRET) {
                    Place::Status
                } else {
                    place
                }
            }
            Place::Object(Mode::TokenRequest | Mode::TokenReview)
                if on(Builtin::SecretData) && is(Traits::SECRET) =>
            {
                Place::Object(Mode::Secret)
            }
            Place::Row(Mode::Plain) if on(Builtin::SecretData) => {
                let is_secret =
                    self.tape.get(at, "object").any(|o| Traits::of(self.tape, o).is(Traits::SECRET));
                Place::Row(if is_secret { Mode::Secret } else { Mode::Plain })
            }
            place => place,
        }
    }

    /// A Secret's values, if it has labels or annotations: a patch can copy them there.
    fn values(&self, at: usize) -> HashSet<Vec<u8>> {
        let tape = self.tape;
        let mut values = HashSet::new();
        let is_labelled = tape
            .get(at, "metadata")
            .any(|m| tape.get(m, "annotations").chain(tape.get(m, "labels")).any(|map| !tape.is_empty(map)));
        if !is_labelled {
            return values;
        }
        for (key, map) in tape.members(at) {
            let key = tape.string(key);
            if !matches!(Word::fold(&key).as_str(), "data" | "stringdata") {
                continue;
            }
            for (_, value) in tape.members(map).filter(|(_, value)| tape.is_text(*value)) {
                let text = tape.string(value);
                values.extend(decoded_base64(&text).filter(|bytes| bytes.len() >= SHORTEST_COPY));
                values.extend((text.len() >= SHORTEST_COPY).then(|| text.into_owned().into_bytes()));
            }
        }
        values
    }

    // --- Tables ---

    fn columns(&self, table: usize) -> Vec<Column> {
        let mut definitions = self.tape.get(table, "columnDefinitions");
        let (Some(one), None) = (definitions.next(), definitions.next()) else { return Vec::new() };
        self.tape
            .elements(one)
            .map(|column| {
                let mut names = self.tape.get(column, "name");
                let name = names.next().map(|n| self.tape.string(n)).unwrap_or_default();
                match (Word::fold(&name).as_str(), names.next()) {
                    ("name" | "namespace" | "type" | "age" | "created at", None) => Column::Name,
                    ("data", None) => Column::Count,
                    _ => Column::Other,
                }
            })
            .collect()
    }

    /// Of a Secret's row only what is known to be no value stays: its name, type and age, and how many values there are.
    fn cells(&mut self, at: usize, row: usize) {
        let tape = self.tape;
        if tape.kind(at) != Kind::Array {
            return self.visit(at, Place::Cells, 0..0);
        }
        let object = tape.get(row, "object").next();
        let metadata = object.and_then(|o| tape.get(o, "metadata").next());
        let name = metadata.and_then(|m| tape.get(m, "name").next()).map(|n| tape.string(n));
        for (i, cell) in tape.elements(at).enumerate() {
            let column = self.columns.get(i).copied().unwrap_or(Column::Other);
            let stays = match (tape.kind(cell), column) {
                (Kind::Text | Kind::Escaped, Column::Name) => true,
                (Kind::Number, Column::Count) => true,
                (Kind::Text | Kind::Escaped, _) => name.as_ref().is_some_and(|n| *n == tape.string(cell)),
                _ => false,
            };
            let fate = if stays { Fate::Go(Place::Any) } else { Fate::Mark(Builtin::SecretData) };
            self.meet(cell, fate, 0..0);
        }
    }

    // --- what is put in place ---

    /// A key is a name and stays, unless it is a value: of a set's member in `managedFields`, or by its looks.
    fn key(&mut self, at: usize, name: &str, place: Place) {
        let new = if let Place::Fields { metadata } = place {
            let (prefix, value) = match name.split_at_checked(2) {
                Some(("f:" | "i:", _)) => return self.shaped_key(at, name),
                Some((prefix @ ("v:" | "k:"), value)) => (prefix, value),
                _ if name == "." => return,
                _ => ("", name),
            };
            if metadata || is_mark(value) {
                return;
            }
            self.walk.act(Builtin::SecretData);
            format!("{prefix}{}", self.walk.redactor.key.mark(value.as_bytes()))
        } else {
            return self.shaped_key(at, name);
        };
        self.replace(at, &new);
    }

    fn shaped_key(&mut self, at: usize, name: &str) {
        let walk = self.walk;
        if let Some((new, acted)) = shapes::redacted(name, walk.redactor.on, &walk.redactor.key) {
            acted.iter().for_each(|rule| walk.act(rule));
            self.replace(at, &new);
        }
    }

    fn text(&mut self, at: usize, place: Place) {
        let is_directive = || matches!(self.tape.raw(at), "\"merge\"" | "\"replace\"" | "\"delete\"");
        if place == Place::Directive && !is_directive() {
            return self.mark(at, Builtin::SecretData);
        }
        if matches!(place, Place::Annotation { .. })
            && !self.values.is_empty()
            && self.values.contains(self.tape.string(at).as_bytes())
        {
            return self.mark_base64(at, Builtin::SecretData);
        }
        if let Some(new) = self.walk.text(&self.tape.string(at), place, self.nesting) {
            self.replace(at, &new);
        }
    }

    fn message(&mut self, at: usize) {
        if !self.tape.is_text(at) {
            return self.visit(at, Place::Scalar(Mode::Secret), 0..0);
        }
        if let Some(new) = self.walk.message(&self.tape.string(at)) {
            self.replace(at, &new);
        }
    }

    fn mark(&mut self, at: usize, rule: Builtin) {
        if self.stays(at) {
            return;
        }
        self.walk.act(rule);
        let mark = self.walk.redactor.key.mark_node(self.tape, at);
        self.replace(at, &mark);
    }

    fn mark_base64(&mut self, at: usize, rule: Builtin) {
        if !self.tape.is_text(at) {
            return self.mark(at, rule);
        }
        if !self.stays(at) {
            self.walk.act(rule);
            let mark = self.walk.redactor.key.mark_base64(&self.tape.string(at));
            self.replace(at, &mark);
        }
    }

    fn mark_added(&mut self, at: usize, rule: usize) {
        if self.stays(at) {
            return;
        }
        self.walk.act_added(rule);
        let mark = self.walk.redactor.key.mark_node(self.tape, at);
        self.replace(at, &mark);
    }

    fn stays(&self, at: usize) -> bool {
        self.tape.is_empty(at) || self.tape.is_text(at) && is_mark(&self.tape.string(at))
    }

    fn replace(&mut self, at: usize, new: &str) {
        let (start, end) = self.tape.span(at);
        let mut json = Vec::with_capacity(new.len() + 2);
        push_json_str(&mut json, new);
        self.edits.push((start, end, String::from_utf8(json).unwrap_or_else(|_| "\"\"".to_owned())));
    }
}
