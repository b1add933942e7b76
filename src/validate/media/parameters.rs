//! Parameters of a `Content-Type`, as Go's `mime` package takes them.

/// Whether all behind the first semicolon is `name=value`, values quoted or not, no name with two values. One semicolon may stand at the end.
pub(super) fn are_read(parameters: &str) -> bool {
    let mut seen: Vec<(String, String)> = Vec::new();
    let mut rest = parameters;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return true;
        }
        let Some((name, value, after)) = parameter(rest) else { return false };
        let name = name.to_ascii_lowercase();
        // Continuations (RFC 2231) have rules of their own.
        if name.contains('*') {
            return true;
        }
        if seen.iter().any(|(other, said)| *other == name && *said != value) {
            return false;
        }
        seen.push((name, value));
        rest = match after.trim_start().strip_prefix(';') {
            Some(rest) => rest,
            None => return after.trim_start().is_empty(),
        };
    }
}

/// Name, value, and what follows.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = token(text)?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let Some(quoted) = rest.strip_prefix('"') else {
        let (value, rest) = token(rest)?;
        return Some((name, value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((name, value, quoted.get(at + 1..)?)),
            // A backslash stands for itself, unless before what a token cannot hold: file names of Windows are sent so.
            '\\' => match chars.clone().next() {
                Some((_, next)) if !is_token(next) => {
                    value.push(next);
                    chars.next();
                }
                _ => value.push(c),
            },
            '\r' | '\n' => return None,
            _ => value.push(c),
        }
    }
    None
}

fn token(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(token, _)| !token.is_empty())
}

fn is_token(c: char) -> bool {
    c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?=".contains(c)
}
