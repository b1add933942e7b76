//! A configuration file as a tree that is asked for its keys. Every question is answered, with the default if need be, and
//! what is wrong is noted; at the end, what nobody asked for is an unknown key.

use super::{Error, Kind, units};
use crate::codec::yaml;
use serde_json::{Map, Value};
use std::{
    cell::RefCell,
    fmt::Display,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

/// One file, and what is wrong with it so far.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    path: &'a Path,
    errors: RefCell<Vec<Error>>,
}

/// A mapping within the file.
#[derive(Debug)]
pub(super) struct Section<'a> {
    reader: &'a Reader<'a>,
    /// Key path with a dot at its end; empty for the whole file.
    prefix: String,
    values: Map<String, Value>,
    asked: RefCell<Vec<&'static str>>,
    /// Nothing that is missing here is missed.
    excused: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(path: &'a Path) -> Self {
        Self { path, errors: RefCell::default() }
    }

    /// The file's only document. Without one, everything is at its default, and the reason is noted.
    pub(super) fn document(&'a self, text: &str) -> Section<'a> {
        let mut documents = yaml::documents(text).unwrap_or_else(|e| {
            self.note("", e.to_string());
            Vec::new()
        });
        if documents.len() > 1 {
            self.note("", "expected one document, found several".to_owned());
        }
        let values = match documents.drain(..).next().map(|d| d.value) {
            Some(Value::Object(values)) => values,
            Some(_) => {
                self.note("", "expected a mapping with apiVersion, kind, listen, upstream, …".to_owned());
                Map::new()
            }
            None => {
                if self.errors.borrow().is_empty() {
                    self.note("", "the file is empty".to_owned());
                }
                Map::new()
            }
        };
        Section { reader: self, prefix: String::new(), values, asked: RefCell::default(), excused: false }
    }

    pub(super) fn note(&self, key: &str, problem: String) {
        let file = self.path.display().to_string();
        self.errors.borrow_mut().push(Error { file, key: key.to_owned(), problem });
    }

    pub(super) fn has_errors(&self) -> bool {
        !self.errors.borrow().is_empty()
    }

    pub(super) fn into_errors(self) -> Vec<Error> {
        self.errors.into_inner()
    }
}

impl<'a> Section<'a> {
    /// A mapping under `key`; an empty one when there is none.
    pub(super) fn section(&self, key: &'static str) -> Self {
        let values = match self.value(key) {
            Some(Value::Object(values)) => values.clone(),
            Some(_) => {
                self.wrong(key, "expected a mapping");
                Map::new()
            }
            None => Map::new(),
        };
        self.below(key, values)
    }

    /// A mapping under `key`. One that may be missing can lack whatever it likes if it is.
    pub(super) fn section_of(&self, kind: Kind, key: &'static str) -> Self {
        let section = self.section(key);
        Self { excused: kind == Kind::GatewayPart && !self.has(key), ..section }
    }

    /// The same, unless the key is not there at all.
    pub(super) fn optional(&self, key: &'static str) -> Option<Self> {
        self.has(key).then(|| self.section(key))
    }

    /// A list of mappings.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Self> {
        let mapping = |(i, item): (usize, &Value)| match item {
            Value::Object(values) => Some(self.below(&format!("{key}[{i}]"), values.clone())),
            _ => {
                self.wrong(&format!("{key}[{i}]"), "expected a mapping");
                None
            }
        };
        self.items(key).unwrap_or_default().iter().enumerate().filter_map(mapping).collect()
    }

    /// Whether the key is there at all, with or without a value.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.asked.borrow_mut().push(key);
        self.values.contains_key(key)
    }

    /// Whether the key has just this value; it does not count as asked for.
    pub(super) fn is_text(&self, key: &str, text: &str) -> bool {
        self.values.get(key).and_then(Value::as_str) == Some(text)
    }

    /// Whether the key has the value false, which is also how YAML reads a bare `off`.
    pub(super) fn is_false(&self, key: &'static str) -> bool {
        self.value(key) == Some(&Value::Bool(false))
    }

    /// A string that is not empty.
    pub(super) fn text(&self, key: &'static str) -> Option<String> {
        match self.value(key)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            _ => {
                self.wrong(key, "expected text");
                None
            }
        }
    }

    /// A path; relative ones begin at the configuration's own folder.
    pub(super) fn path(&self, key: &'static str) -> Option<PathBuf> {
        self.text(key).map(|text| self.beside(&text))
    }

    /// A list of paths.
    pub(super) fn paths(&self, key: &'static str) -> Vec<PathBuf> {
        self.texts(key).unwrap_or_default().iter().map(|text| self.beside(text)).collect()
    }

    /// What its own parser reads.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&self, key: &'static str) -> Option<T> {
        let text = self.text(key)?;
        text.parse().map_err(|e: T::Err| self.wrong(key, e)).ok()
    }

    /// A list of what its own parser reads.
    pub(super) fn all_parsed<T: FromStr<Err: Display>>(&self, key: &'static str) -> Vec<T> {
        self.each(key, |text| text.parse().map_err(|e: T::Err| e.to_string())).unwrap_or_default()
    }

    /// A list of strings that are not empty; None when there is no list.
    pub(super) fn texts(&self, key: &'static str) -> Option<Vec<String>> {
        self.each(key, |text| Ok(text.to_owned()))
    }

    /// A list of strings, of which one may be empty: the core API group; None when there is no list.
    pub(super) fn texts_or_empty(&self, key: &'static str) -> Option<Vec<String>> {
        let made = |(i, item): (usize, &Value)| {
            let text = item.as_str();
            if text.is_none() {
                self.wrong(&format!("{key}[{i}]"), "expected text");
            }
            text.map(str::to_owned)
        };
        Some(self.items(key)?.iter().enumerate().filter_map(made).collect())
    }

    /// A list of what `read` makes of strings that are not empty; None when there is no list.
    pub(super) fn each<T>(
        &self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let made = |(i, item): (usize, &Value)| {
            let text =
                item.as_str().filter(|text| !text.is_empty()).ok_or_else(|| "expected text".to_owned());
            text.and_then(&read).map_err(|problem| self.wrong(&format!("{key}[{i}]"), problem)).ok()
        };
        Some(self.items(key)?.iter().enumerate().filter_map(made).collect())
    }

    /// Whether there is a list and nothing in it.
    pub(super) fn is_empty_list(&self, key: &'static str) -> bool {
        self.value(key).and_then(Value::as_array).is_some_and(Vec::is_empty)
    }

    /// True or false.
    pub(super) fn flag(&self, key: &'static str, default: bool) -> bool {
        match self.value(key) {
            None => default,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => {
                self.wrong(key, "expected true or false");
                default
            }
        }
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)], default: T) -> T {
        let Some(text) = self.text(key) else { return default };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => *value,
            None => {
                let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                self.wrong(key, format!("{text:?} is none of {}", words.join(", ")));
                default
            }
        }
    }

    /// A whole number of at least one.
    pub(super) fn count(&self, key: &'static str, default: usize) -> usize {
        let Some(value) = self.value(key) else { return default };
        match value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0) {
            Some(count) => count,
            None => {
                self.wrong(key, format!("{} is not a whole number above 0", shown(value)));
                default
            }
        }
    }

    /// The same, or None for `none`.
    pub(super) fn count_or_none(&self, key: &'static str, default: Option<usize>) -> Option<usize> {
        if self.is_none(key) || (default.is_none() && self.value(key).is_none()) {
            return None;
        }
        Some(self.count(key, default.unwrap_or(usize::MAX)))
    }

    /// A span of time that is not zero.
    pub(super) fn duration(&self, key: &'static str, default: Duration) -> Duration {
        let found = self.duration_or_zero(key, default);
        if found.is_zero() {
            self.wrong(key, "expected more than no time at all");
            return default;
        }
        found
    }

    /// A span of time.
    pub(super) fn duration_or_zero(&self, key: &'static str, default: Duration) -> Duration {
        let Some(value) = self.value(key) else { return default };
        match value.as_str().and_then(units::duration) {
            Some(found) => found,
            None => {
                let expected = "expected a number with a unit such as 10s or 1m30s";
                self.wrong(key, format!("{} is not a duration: {expected}", shown(value)));
                default
            }
        }
    }

    /// A span of time that is not zero, or None for `none`.
    pub(super) fn duration_or_none(&self, key: &'static str, default: Option<Duration>) -> Option<Duration> {
        if self.is_none(key) || (default.is_none() && self.value(key).is_none()) {
            return None;
        }
        Some(self.duration(key, default.unwrap_or(Duration::MAX)))
    }

    /// An amount of bytes that is not zero.
    pub(super) fn size(&self, key: &'static str, default: u64) -> u64 {
        let Some(value) = self.value(key) else { return default };
        match value.as_str().and_then(units::size).filter(|size| *size > 0) {
            Some(size) => size,
            None => {
                let expected = "expected a number with a unit such as 512Ki or 3Mi";
                self.wrong(key, format!("{} is not a size: {expected}", shown(value)));
                default
            }
        }
    }

    /// The same, or None for `none`.
    pub(super) fn size_or_none(&self, key: &'static str, default: Option<u64>) -> Option<u64> {
        if self.is_none(key) || (default.is_none() && self.value(key).is_none()) {
            return None;
        }
        Some(self.size(key, default.unwrap_or(u64::MAX)))
    }

    /// Notes that the key's value cannot be used.
    pub(super) fn wrong(&self, key: &str, problem: impl Display) {
        if self.excused {
            return;
        }
        let place = format!("{}{key}", self.prefix);
        // Without a key, the section itself is meant.
        self.reader.note(place.trim_end_matches('.'), problem.to_string());
    }

    /// What must be there.
    pub(super) fn required<T>(&self, key: &'static str, value: Option<T>) -> Option<T> {
        if value.is_none() && self.value(key).is_none() {
            self.wrong(key, "is missing");
        }
        value
    }

    /// Everything that is wanted has been asked for: what is left is unknown.
    pub(super) fn done(self) {
        let asked = self.asked.borrow();
        for key in self.values.keys().filter(|key| !asked.contains(&key.as_str())) {
            let near = asked.iter().map(|known| (distance(key, known), *known)).min();
            let hint = match near {
                Some((distance, known)) if distance <= 2 || key.eq_ignore_ascii_case(known) => {
                    format!(", did you mean {known}?")
                }
                _ => String::new(),
            };
            self.wrong(key, format!("unknown key{hint}"));
        }
    }

    /// A key without a value is as good as none.
    fn value(&self, key: &'static str) -> Option<&Value> {
        self.asked.borrow_mut().push(key);
        self.values.get(key).filter(|value| !value.is_null())
    }

    fn is_none(&self, key: &'static str) -> bool {
        self.value(key).and_then(Value::as_str) == Some("none")
    }

    fn items(&self, key: &'static str) -> Option<&[Value]> {
        match self.value(key)? {
            Value::Array(items) => Some(items),
            _ => {
                self.wrong(key, "expected a list");
                None
            }
        }
    }

    fn below(&self, key: &str, values: Map<String, Value>) -> Self {
        Self {
            reader: self.reader,
            prefix: format!("{}{key}.", self.prefix),
            values,
            asked: RefCell::default(),
            excused: self.excused,
        }
    }

    fn beside(&self, path: &str) -> PathBuf {
        self.reader.path.parent().map_or_else(|| PathBuf::from(path), |folder| folder.join(path))
    }
}

/// A scalar as it may be repeated in an error; nothing larger is.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        scalar => scalar.to_string(),
    }
}

/// How many letters one must insert, remove or change to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let next = (corner + usize::from(x != *y)).min(*cell + 1).min(left + 1);
            corner = std::mem::replace(cell, next);
            left = next;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_between_words() {
        for (a, b, want) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
            ("adress", "address", 1),
            ("address", "address", 0),
            ("clientCaFile", "clientCAFile", 1),
        ] {
            assert_eq!(distance(a, b), want, "{a} {b}");
        }
    }
}
