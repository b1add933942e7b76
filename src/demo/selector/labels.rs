//! The text form of label selectors, read token by token, with the refusals of Kubernetes' own parser.

use super::{Label, Test};

const NAME: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
                    character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const PREFIX: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
                      must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
                      '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
                     start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
                     for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// Reads a selector; the error is the text of a 400.
pub(super) fn parse(text: &str) -> Result<Vec<Label>, String> {
    let mut reader = Reader { rest: text };
    let mut labels = Vec::new();
    loop {
        match reader.look() {
            "" => return Ok(labels),
            token if is_word(token) || token == "!" => {}
            token => return Err(format!("found '{token}', expected: !, identifier, or 'end of string'")),
        }
        labels.push(reader.requirement().map_err(|why| format!("unable to parse requirement: {why}"))?);
        match reader.take() {
            "" => return Ok(labels),
            "," => {
                let next = reader.look();
                if !is_word(next) && next != "!" {
                    return Err(format!("found '{next}', expected: identifier after ','"));
                }
            }
            token => return Err(format!("found '{token}', expected: ',' or 'end of string'")),
        }
    }
}

/// What is wrong with a value; None when nothing is.
pub(super) fn bad_value(value: &str) -> Option<&'static str> {
    if value.len() > 63 {
        return Some("must be no more than 63 bytes");
    }
    (!value.is_empty() && !is_name(value)).then_some(VALUE)
}

fn is_special(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn is_word(token: &str) -> bool {
    token.chars().next().is_some_and(|c| !is_special(c))
}

fn is_name(text: &str) -> bool {
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    end(text.chars().next())
        && end(text.chars().last())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn is_subdomain(text: &str) -> bool {
    let label = |l: &str| {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !l.is_empty() && l.chars().all(fits) && !l.starts_with('-') && !l.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn check_key(key: &str) -> Result<(), String> {
    let mut faults = Vec::new();
    let parts: Vec<&str> = key.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".to_owned());
            } else if !is_subdomain(prefix) {
                faults.push(format!("prefix part {PREFIX}"));
            }
            name
        }
        _ => {
            let why = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return Err(format!("<nil>: Invalid value: {key:?}: a valid label key {NAME} {why}"));
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        faults.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_name(name) {
        faults.push(format!("name part {NAME}"));
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(format!("<nil>: Invalid value: {key:?}: {}", faults.join("; ")))
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    /// The next token, and what follows it. "" at the end.
    fn token(&self) -> (&'a str, &'a str) {
        let rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let two = rest.get(..2).filter(|t| matches!(*t, "==" | "!="));
        let length = match (two, rest.chars().next()) {
            (_, None) => 0,
            (Some(two), _) => two.len(),
            (None, Some(c)) if is_special(c) => 1,
            _ => rest.find(|c: char| is_special(c) || c.is_ascii_whitespace()).unwrap_or(rest.len()),
        };
        rest.split_at(length)
    }

    fn look(&self) -> &'a str {
        self.token().0
    }

    fn take(&mut self) -> &'a str {
        let (token, rest) = self.token();
        self.rest = rest;
        token
    }

    fn requirement(&mut self) -> Result<Label, String> {
        let mut key = self.take();
        let missing = key == "!";
        if missing {
            key = self.take();
        }
        if !is_word(key) {
            return Err(format!("found '{key}', expected: identifier"));
        }
        check_key(key)?;
        let label = |test| Label { key: key.to_owned(), test };
        if missing {
            return Ok(label(Test::Missing));
        }
        if matches!(self.look(), "" | ",") {
            return Ok(label(Test::Exists));
        }
        let test = match self.take() {
            "in" => Test::In(checked(key, self.values()?)?),
            "notin" => Test::NotIn(checked(key, self.values()?)?),
            "=" | "==" => Test::In(checked(key, vec![self.exact()?])?),
            "!=" => Test::NotIn(checked(key, vec![self.exact()?])?),
            ">" => Test::Greater(whole(&self.exact()?)?),
            "<" => Test::Less(whole(&self.exact()?)?),
            other => return Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        Ok(label(test))
    }

    fn exact(&mut self) -> Result<String, String> {
        if matches!(self.look(), "" | ",") {
            return Ok(String::new());
        }
        match self.take() {
            word if is_word(word) => Ok(word.to_owned()),
            other => Err(format!("found '{other}', expected: identifier")),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        let open = self.take();
        if open != "(" {
            return Err(format!("found '{open}' expected: '('"));
        }
        let mut values = Vec::new();
        let mut value = String::new();
        match self.look() {
            "," | ")" => {}
            word if is_word(word) => {}
            other => return Err(format!("found '{other}', expected: ',', ')' or identifier")),
        }
        loop {
            match self.take() {
                ")" => {
                    values.push(value);
                    values.sort();
                    return Ok(values);
                }
                "," => values.push(std::mem::take(&mut value)),
                word if is_word(word) => {
                    word.clone_into(&mut value);
                    let next = self.look();
                    if !matches!(next, "," | ")") {
                        return Err(format!("found '{next}', expected: ',' or ')'"));
                    }
                }
                other => return Err(format!("found '{other}', expected: ',', or identifier")),
            }
        }
    }
}

fn checked(key: &str, values: Vec<String>) -> Result<Vec<String>, String> {
    for (i, value) in values.iter().enumerate() {
        if let Some(why) = bad_value(value) {
            return Err(format!("values[{i}][{key}]: Invalid value: {value:?}: {why}"));
        }
    }
    Ok(values)
}

fn whole(value: &str) -> Result<i64, String> {
    value.parse().map_err(|_| {
        format!("values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals() {
        #[rustfmt::skip]
        let rows = [
            ("a=b,", "found '', expected: identifier after ','"),
            (",", "found ',', expected: !, identifier, or 'end of string'"),
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            ("(a)", "found '(', expected: !, identifier, or 'end of string'"),
            ("a=1=2", "found '=', expected: ',' or 'end of string'"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a!", "unable to parse requirement: found '!', expected: in, notin, =, ==, !=, gt, lt"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a===b", "unable to parse requirement: found '=', expected: identifier"),
            ("a>x", "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer"),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(text).unwrap_err(), expected, "{text}");
        }
        for (text, part) in [
            ("a=$", "values[0][a]: Invalid value: \"$\": a valid label must be"),
            ("a/b/c", "<nil>: Invalid value: \"a/b/c\": a valid label key must consist"),
            ("A/b", "<nil>: Invalid value: \"A/b\": prefix part a lowercase RFC 1123 subdomain"),
            ("-a", "<nil>: Invalid value: \"-a\": name part must consist"),
        ] {
            assert!(parse(text).unwrap_err().contains(part), "{text}");
        }
    }
}
