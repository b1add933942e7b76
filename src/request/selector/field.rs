//! `lhs=value,lhs!=value`: terms between unescaped commas; values escape `\`, `,` and `=` by `\`.

use super::BadSelector;

/// A parsed field selector: all requirements hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    /// Sorted by the terms' text, as the original sorts them.
    pub requirements: Vec<FieldRequirement>,
}

/// One term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRequirement {
    /// The field's path, as written (spaces kept).
    pub field: String,
    /// `=` or `==`; otherwise `!=`.
    pub equal: bool,
    /// Unescaped.
    pub value: String,
}

impl FieldSelector {
    /// # Errors
    /// A term without an operator, or a value with an unescaped `=` or a bad escape.
    pub fn parse(text: &str) -> Result<Self, BadSelector> {
        let mut terms = split_terms(text);
        terms.sort_unstable();
        let terms = terms.into_iter().filter(|t| !t.is_empty());
        let mut requirements = terms.map(|term| parse_term(text, term)).collect::<Result<Vec<_>, _>>()?;
        // The original makes nothing of a bare operator.
        requirements.retain(|r| !r.field.is_empty() || !r.value.is_empty());
        Ok(Self { requirements })
    }

    /// The value that the field must have: the first equality wins.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements.iter().find(|r| r.equal && r.field == field).map(|r| r.value.as_str())
    }

    /// Whether an object matches; `value_of` gives a field's value, "" where there is none.
    pub fn matches<'o>(&self, value_of: impl Fn(&str) -> &'o str) -> bool {
        self.requirements.iter().all(|r| (value_of(&r.field) == r.value) == r.equal)
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut escaped = false;
    text.split(|c| match (escaped, c) {
        (true, _) => {
            escaped = false;
            false
        }
        (false, '\\') => {
            escaped = true;
            false
        }
        (false, _) => c == ',',
    })
    .collect()
}

fn parse_term(selector: &str, term: &str) -> Result<FieldRequirement, BadSelector> {
    // The leftmost operator splits; at one place the longer one does.
    let Some(at) = term.char_indices().map(|(i, _)| i).find(|i| {
        let rest = term.get(*i..).unwrap_or_default();
        rest.starts_with('=') || rest.starts_with("!=")
    }) else {
        return Err(BadSelector(format!("invalid selector: '{selector}'; can't understand '{term}'")));
    };
    let (field, rest) = term.split_at(at);
    let (equal, value) = match rest.strip_prefix("!=") {
        Some(value) => (false, value),
        None => (true, rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')).unwrap_or(rest)),
    };
    Ok(FieldRequirement { field: field.to_owned(), equal, value: unescape(value)? })
}

fn unescape(value: &str) -> Result<String, BadSelector> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(BadSelector(format!(
                        "invalid field selector: invalid escape sequence: \\{other}"
                    )));
                }
            },
            ',' | '=' => {
                return Err(BadSelector(format!(
                    "invalid field selector: unescaped character in value: {}",
                    u32::from(c)
                )));
            }
            _ => out.push(c),
        }
    }
    Ok(out)
}
