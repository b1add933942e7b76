//! Regular expressions of schemas: RE2's syntax, as Go reads it, compiled once and only when a value asks for it.

use crate::validate::schema::Text;
use regex::{Regex, RegexBuilder};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

/// The patterns of one document's schemas.
#[derive(Debug, Default)]
pub(in crate::validate) struct Patterns(RwLock<HashMap<Text, Option<Arc<Regex>>>>);

/// Bytes of a pattern.
const LONGEST: usize = 4096;
/// Bytes that a compiled one may take.
const LARGEST: usize = 2 << 20;

impl Patterns {
    /// Whether a text matches. True where the pattern cannot be compiled.
    pub(super) fn holds(&self, id: Text, pattern: &str, text: &str) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        let regex = known.unwrap_or_else(|| {
            let regex = compile(pattern).map(Arc::new);
            self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id, regex.clone());
            regex
        });
        regex.is_none_or(|regex| regex.is_match(text))
    }
}

fn compile(pattern: &str) -> Option<Regex> {
    let pattern = translated(pattern)?;
    RegexBuilder::new(&pattern).size_limit(LARGEST).dfa_size_limit(LARGEST).build().ok()
}

/// The same pattern in the crate's own syntax: Go's `\d`, `\w`, `\s` and `\b` are about ASCII, and nothing but `\` is special between
/// brackets. None: it holds something that the two read differently and that no schema needs.
fn translated(pattern: &str) -> Option<String> {
    if pattern.len() > LONGEST {
        return None;
    }
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    let mut in_class = false;
    // Whether a `]` would be a member, not the end.
    let mut first = false;
    while let Some(c) = chars.next() {
        let was_first = std::mem::take(&mut first);
        match c {
            '\\' => match (chars.next()?, in_class) {
                ('d', true) => out.push_str("0-9"),
                ('w', true) => out.push_str("0-9A-Za-z_"),
                ('s', true) => out.push_str(r"\t\n\f\r\x20"),
                ('D', true) => out.push_str("[^0-9]"),
                ('W', true) => out.push_str("[^0-9A-Za-z_]"),
                ('S', true) => out.push_str(r"[^\t\n\f\r\x20]"),
                ('d', false) => out.push_str("[0-9]"),
                ('w', false) => out.push_str("[0-9A-Za-z_]"),
                ('s', false) => out.push_str(r"[\t\n\f\r\x20]"),
                ('D', false) => out.push_str("[^0-9]"),
                ('W', false) => out.push_str("[^0-9A-Za-z_]"),
                ('S', false) => out.push_str(r"[^\t\n\f\r\x20]"),
                ('b', false) if chars.peek() != Some(&'{') => out.push_str(r"(?-u:\b)"),
                (c @ ('<' | '>'), _) => out.push(c),
                ('Q' | 'C' | 'b' | 'B', _) => return None,
                (c, _) => out.extend(['\\', c]),
            },
            '[' if !in_class => {
                (in_class, first) = (true, true);
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
            }
            '[' if chars.peek() == Some(&':') => {
                // A named class as it is, to its end.
                out.push('[');
                loop {
                    let c = chars.next()?;
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            ']' if in_class && was_first => out.push_str(r"\]"),
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '-' if in_class && chars.peek() == Some(&'-') => return None,
            '[' | '&' | '~' if in_class => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_reads_them() {
        let rows = [
            (r"^\d+$", "12", true),
            (r"^\d+$", "١٢", false),
            (r"^\w$", "é", false),
            (r"^[\w-]+$", "a-b", true),
            (r"^\s$", "\u{a0}", false),
            (r"^\s$", "\u{b}", false),
            ("^[[]$", "[", true),
            ("^[]a]$", "]", true),
            ("^[^]]$", "x", true),
            ("^[a&&b]$", "&", true),
            ("^[a~~]$", "~", true),
            ("^[[:alpha:]]+$", "ab", true),
            (r"^\<$", "<", true),
            (r"\bab\b", "x ab y", true),
            (r"\bab\b", "xab", false),
            ("^a$", "a\n", false),
            ("(?i)^ab$", "AB", true),
            (r"^\p{L}+$", "é", true),
            (r"^a{2,3}$", "aaa", true),
            ("^(a|b)*$", "", true),
            ("b", "abc", true),
            // Not compiled, so everything holds.
            ("(", "x", true),
            ("(?=a)", "x", true),
            (r"\Qa\E", "x", true),
            ("^[+--]$", "x", true),
            ("^(a{1000}){1000}$", "x", true),
        ];
        for (pattern, text, want) in rows {
            let holds = compile(pattern).is_none_or(|regex| regex.is_match(text));
            assert_eq!(holds, want, "{pattern} {text}");
        }
    }

    #[test]
    fn long_patterns_are_left_alone() {
        assert!(compile(&"a".repeat(LONGEST + 1)).is_none());
        assert!(compile(&"a".repeat(LONGEST)).is_some());
    }
}
