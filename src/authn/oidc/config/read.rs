//! A document as a tree of objects that is asked for its fields. What is wrong is noted with its place; null is the same as
//! absent, as in Kubernetes, and what nobody knows is an error.

use serde_json::{Map, Value};
use std::{cell::RefCell, fmt::Display};

/// What has been noticed so far, a line each.
#[derive(Debug, Default)]
pub(super) struct Notes {
    errors: RefCell<Vec<String>>,
    warnings: RefCell<Vec<String>>,
}

/// Something cannot be had, and why has been noted.
#[derive(Debug)]
pub(super) struct Noted;

/// An object, or one that is absent: then all its fields are.
#[derive(Debug)]
pub(super) struct Object<'a> {
    notes: &'a Notes,
    /// `jwt[0].issuer`; empty for the whole document.
    place: String,
    fields: Option<&'a Map<String, Value>>,
}

impl Notes {
    /// Errors, and what is odd but harmless.
    pub(super) fn into_lists(self) -> (Vec<String>, Vec<String>) {
        (self.errors.into_inner(), self.warnings.into_inner())
    }
}

impl<'a> Object<'a> {
    /// The whole document.
    pub(super) fn document(notes: &'a Notes, value: &'a Value, known: &[&str]) -> Self {
        Self::new(notes, String::new(), Some(value), known)
    }

    fn new(notes: &'a Notes, place: String, value: Option<&'a Value>, known: &[&str]) -> Self {
        let mut object = Self { notes, place, fields: None };
        match value {
            None => {}
            Some(Value::Object(fields)) => object.fields = Some(fields),
            Some(_) => {
                object.wrong("", "expected a mapping");
            }
        }
        for field in object.fields.iter().flat_map(|fields| fields.keys()) {
            if !known.contains(&field.as_str()) {
                let expected = known.join(", ");
                object.wrong(
                    &field.escape_debug().to_string(),
                    format!("unknown field, expected one of {expected}"),
                );
            }
        }
        object
    }

    /// Whether there is such an object.
    pub(super) fn is_there(&self) -> bool {
        self.fields.is_some()
    }

    pub(super) fn object(&self, field: &str, known: &[&str]) -> Self {
        Self::new(self.notes, self.at(field), self.value(field), known)
    }

    pub(super) fn objects(&self, field: &str, known: &[&str]) -> Vec<Self> {
        let item = |(i, item)| Self::new(self.notes, self.at(&format!("{field}[{i}]")), Some(item), known);
        self.list(field).iter().enumerate().map(item).collect()
    }

    /// Empty when it is absent, as in Kubernetes.
    pub(super) fn text(&self, field: &str) -> &'a str {
        self.text_or_none(field).unwrap_or_default()
    }

    pub(super) fn text_or_none(&self, field: &str) -> Option<&'a str> {
        let value = self.value(field)?;
        if value.as_str().is_none() {
            self.wrong(field, "expected a string");
        }
        value.as_str()
    }

    /// Strings that are not empty; in the place of what is none, an empty one.
    pub(super) fn texts(&self, field: &str) -> Vec<&'a str> {
        let text = |(i, item): (usize, &'a Value)| {
            let text = item.as_str().unwrap_or_default();
            if text.is_empty() {
                self.wrong(&format!("{field}[{i}]"), "expected text");
            }
            text
        };
        self.list(field).iter().enumerate().map(text).collect()
    }

    pub(super) fn flag(&self, field: &str) -> bool {
        let value = self.value(field);
        if value.is_some_and(|value| !value.is_boolean()) {
            self.wrong(field, "expected true or false");
        }
        value.and_then(Value::as_bool).unwrap_or(false)
    }

    /// Notes an error; without a field, about the object itself.
    pub(super) fn wrong(&self, field: &str, problem: impl Display) -> Noted {
        self.notes.errors.borrow_mut().push(self.line(field, problem));
        Noted
    }

    /// Notes what is odd but harmless.
    pub(super) fn odd(&self, field: &str, problem: impl Display) {
        self.notes.warnings.borrow_mut().push(self.line(field, problem));
    }

    fn line(&self, field: &str, problem: impl Display) -> String {
        match self.at(field).as_str() {
            "" => problem.to_string(),
            place => format!("{place}: {problem}"),
        }
    }

    fn at(&self, field: &str) -> String {
        let dot = if self.place.is_empty() || field.is_empty() { "" } else { "." };
        format!("{}{dot}{field}", self.place)
    }

    fn value(&self, field: &str) -> Option<&'a Value> {
        self.fields?.get(field).filter(|value| !value.is_null())
    }

    fn list(&self, field: &str) -> &'a [Value] {
        match self.value(field) {
            None => &[],
            Some(Value::Array(items)) => items,
            Some(_) => {
                self.wrong(field, "expected a list");
                &[]
            }
        }
    }
}
