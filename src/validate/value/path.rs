//! Where a value stands, as the API server's texts say it. Nothing is allocated until somebody asks.

use super::cause::quoted;
use std::fmt::{self, Write as _};

/// Levels of nesting that are looked at.
const DEEPEST: u32 = 200;

/// A place in an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path<'p> {
    parent: Option<&'p Self>,
    step: Step<'p>,
    depth: u32,
}

#[derive(Debug, Clone, Copy)]
enum Step<'p> {
    Root(&'p str),
    Name(&'p str),
    /// Of a map.
    Key(&'p str),
    Index(usize),
}

impl<'p> Path<'p> {
    /// The whole object; or, with a name, what is looked at as if it were.
    pub(super) fn root(name: &'p str) -> Self {
        Self { parent: None, step: Step::Root(name), depth: 0 }
    }

    /// Whether it is the whole object.
    pub(super) fn is_object(&self) -> bool {
        matches!(self.step, Step::Root(""))
    }

    fn is_root(&self) -> bool {
        matches!(self.step, Step::Root(_))
    }

    /// The field of a fault that has none of its own.
    pub(super) fn whole(&self) -> &'p str {
        match (self.step, self.parent) {
            (Step::Root(""), _) => "<nil>",
            (Step::Root(name), _) => name,
            (_, Some(parent)) => parent.whole(),
            (_, None) => "<nil>",
        }
    }

    /// A member.
    pub(super) fn name<'q>(&'q self, name: &'q str) -> Path<'q> {
        self.below(Step::Name(name))
    }

    /// A member of a map.
    pub(super) fn key<'q>(&'q self, key: &'q str) -> Path<'q> {
        self.below(Step::Key(key))
    }

    /// An element.
    pub(super) fn index(&self, index: usize) -> Path<'_> {
        self.below(Step::Index(index))
    }

    fn below<'q>(&'q self, step: Step<'q>) -> Path<'q> {
        Path { parent: Some(self), step, depth: self.depth + 1 }
    }

    /// Whether it is deeper than anybody's object: nothing is looked at there, so that no stack is used up.
    pub(super) fn is_too_deep(&self) -> bool {
        self.depth > DEEPEST
    }

    /// As the cause of a schema's fault names it.
    pub(super) fn field(&self) -> String {
        let path = self.to_string();
        match (self.whole(), path.strip_prefix('.').unwrap_or(&path)) {
            (whole, "") => whole.to_owned(),
            ("<nil>", path) => path.to_owned(),
            (whole, path) if path.starts_with('[') => format!("{whole}{path}"),
            (whole, path) => format!("{whole}.{path}"),
        }
    }

    /// With keys of maps in brackets, as everybody but the schema's validator names it.
    pub(super) fn bracketed(&self) -> String {
        let mut out = String::new();
        self.push_bracketed(&mut out);
        out
    }

    /// In quotes.
    pub(super) fn quoted(&self) -> String {
        quoted(&self.to_string())
    }

    fn push_bracketed(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.push_bracketed(out);
        }
        let dot = if out.is_empty() { "" } else { "." };
        // To write to a string cannot fail.
        let _ = match self.step {
            Step::Root(name) => write!(out, "{name}"),
            Step::Name(name) => write!(out, "{dot}{name}"),
            Step::Key(key) => write!(out, "[{key}]"),
            Step::Index(index) => write!(out, "[{index}]"),
        };
    }
}

/// As the schema's validator names it: it knows no root, and keys of maps are names.
impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root(_) => Ok(()),
            Step::Name(name) if self.parent.is_some_and(Path::is_root) => f.write_str(name),
            Step::Name(name) | Step::Key(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let root = Path::root("");
        let spec = root.name("spec");
        let map = spec.name("m");
        let key = map.key("a.b");
        let element = key.index(3);
        assert_eq!(root.field(), "<nil>");
        assert_eq!((spec.field(), spec.bracketed()), ("spec".to_owned(), "spec".to_owned()));
        assert_eq!(
            (element.field(), element.bracketed()),
            ("spec.m.a.b[3]".to_owned(), "spec.m[a.b][3]".to_owned())
        );
        assert_eq!(element.quoted(), "\"spec.m.a.b[3]\"");
        let status = Path::root("status");
        assert_eq!(status.field(), "status");
        assert_eq!(
            (status.name("n").field(), status.name("n").to_string()),
            ("status.n".to_owned(), "n".to_owned())
        );
        assert_eq!(status.name("n").bracketed(), "status.n");
    }
}
