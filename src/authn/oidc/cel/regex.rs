//! Kubernetes' regular expressions (RE2) in terms of the `regex` crate.
//!
//! Both have the same syntax but for a few things. Where the same text would mean something else, it is written anew (`\d`,
//! `\w` and `\s` are ASCII in RE2) or refused (sets within sets).

use regex::{Regex, RegexBuilder};

/// Of the compiled pattern, bytes.
const SIZE: usize = 1 << 20;

/// Compiles `pattern`; the error is one line.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = translated(pattern)?;
    RegexBuilder::new(&translated).size_limit(SIZE).dfa_size_limit(SIZE).build().map_err(|error| {
        let text = error.to_string();
        text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned()
    })
}

fn translated(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern.chars().peekable();
    // Within [...], and whether anything has been in it yet.
    let mut class: Option<bool> = None;
    while let Some(c) = rest.next() {
        match (c, class) {
            ('\\', _) => {
                let Some(escaped) = rest.next() else { return Err("it ends with a backslash".to_owned()) };
                match escaped {
                    'd' => out.push_str("[0-9]"),
                    'D' => out.push_str("[^0-9]"),
                    'w' => out.push_str("[0-9A-Za-z_]"),
                    'W' => out.push_str("[^0-9A-Za-z_]"),
                    's' => out.push_str("[\\t\\n\\f\\r ]"),
                    'S' => out.push_str("[^\\t\\n\\f\\r ]"),
                    'b' | 'B' if class.is_none() => {
                        if rest.peek() == Some(&'{') {
                            return Err(format!("\\{escaped}{{ is not supported"));
                        }
                        out.push_str(if escaped == 'b' { "(?-u:\\b)" } else { "(?-u:\\B)" });
                    }
                    '<' | '>' => out.push(escaped),
                    'u' | 'U' => return Err(format!("\\{escaped} is not supported")),
                    other => {
                        out.push('\\');
                        out.push(other);
                    }
                }
                class = class.map(|_| true);
            }
            ('[', None) => {
                out.push('[');
                if rest.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                class = Some(false);
            }
            ('[', Some(_)) => {
                if rest.peek() != Some(&':') {
                    return Err("a '[' within [...] is written \\[".to_owned());
                }
                out.push('[');
                for c in rest.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
                class = Some(true);
            }
            (']', Some(true)) => {
                out.push(']');
                class = None;
            }
            ('&' | '~' | '-', Some(_)) if rest.peek() == Some(&c) => {
                return Err(format!("{c}{c} within [...] is not supported"));
            }
            // A count to one library, four characters to the other.
            ('{', None) if rest.peek() == Some(&',') => return Err("{, is not supported".to_owned()),
            ('(', None) if rest.peek() == Some(&'?') => {
                out.push('(');
                flags(&mut rest, &mut out)?;
            }
            (c, _) => {
                out.push(c);
                class = class.map(|_| true);
            }
        }
    }
    Ok(out)
}

/// After `(`: names of groups go through, of flags only those that RE2 has.
fn flags(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) -> Result<(), String> {
    while let Some(c) = rest.next_if(|c| matches!(c, '?' | '-' | 'a'..='z' | 'A'..='Z')) {
        match c {
            '?' | '-' | 'i' | 'm' | 's' | 'U' => out.push(c),
            'P' if rest.peek() == Some(&'<') => {
                out.push(c);
                return Ok(());
            }
            other => return Err(format!("(?{other} is not supported")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_to_kubernetes() {
        for (pattern, text, matches) in [
            (r"^\d+$", "42", true),
            (r"^\d+$", "\u{0664}\u{0662}", false),
            (r"^[\d.]+$", "4.2", true),
            (r"^\w+$", "zo\u{eb}", false),
            (r"\bb", "a b", true),
            (r"^\S+@example\.com$", "a@example.com", true),
            (r"^[^\s]+$", "a b", false),
            (r"^[[:alpha:]]+$", "abc", true),
            (r"(?i)^ABC$", "abc", true),
            (r"^(?P<a>x)(?:y)$", "xy", true),
            (r"^\<x\>$", "<x>", true),
            ("^[]a]+$", "a]", true),
            ("^.$", "\u{eb}", true),
            ("a$", "a\n", false),
        ] {
            assert_eq!(compile(pattern).unwrap().is_match(text), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn what_would_mean_something_else_is_refused() {
        for pattern in [
            "[a[b]]",
            "[a&&b]",
            "[a--b]",
            "a{,3}",
            "(?x)a b",
            "(?u)a",
            "a\\",
            "(",
            r"\b{start}",
            "(?=a)",
            "[a",
            "\\1",
        ] {
            let error = compile(pattern).unwrap_err();
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
