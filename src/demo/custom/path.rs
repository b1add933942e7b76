//! The JSONPath of printer columns: names, indices, `[*]` and filters that compare a member with a string.

use serde_json::Value;

/// A path; one that cannot be read finds nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(Option<Vec<Step>>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Member(String),
    Item(i64),
    Every,
    /// Items whose member has this value.
    Where(String, String),
}

impl Path {
    /// Reads `.status.conditions[?(@.type=="Ready")].status`.
    pub(super) fn read(text: &str) -> Self {
        let mut rest = text;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let Some((step, after)) = next(rest) else { return Self(None) };
            steps.extend(step);
            rest = after;
        }
        Self(Some(steps))
    }

    /// The first value that it leads to.
    pub(super) fn first<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        let mut found = vec![object];
        for step in self.0.as_ref()? {
            found = found.into_iter().flat_map(|value| step.of(value)).collect();
        }
        found.into_iter().next().filter(|v| !v.is_null())
    }
}

impl Step {
    fn of<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let items = || value.as_array().map_or(&[][..], Vec::as_slice);
        match self {
            Self::Member(name) => value.get(name).into_iter().collect(),
            Self::Item(at) => {
                let len = i64::try_from(items().len()).unwrap_or_default();
                let at = if *at < 0 { len + at } else { *at };
                usize::try_from(at).ok().and_then(|at| items().get(at)).into_iter().collect()
            }
            Self::Every => match value {
                Value::Object(map) => map.values().collect(),
                _ => items().iter().collect(),
            },
            Self::Where(name, wanted) => {
                items().iter().filter(|i| i.get(name).and_then(Value::as_str) == Some(wanted)).collect()
            }
        }
    }
}

/// The step that a text begins with, and what follows it.
fn next(text: &str) -> Option<(Option<Step>, &str)> {
    if let Some(rest) = text.strip_prefix('.') {
        let mut name = String::new();
        let mut chars = rest.char_indices();
        let mut end = rest.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => name.extend(chars.next().map(|(_, c)| c)),
                '.' | '[' => {
                    end = at;
                    break;
                }
                c => name.push(c),
            }
        }
        let step = match name.as_str() {
            "" => None,
            "*" => Some(Step::Every),
            _ => Some(Step::Member(name)),
        };
        return Some((step, rest.get(end..)?));
    }
    let inner = text.strip_prefix('[')?;
    if let Some(filter) = inner.strip_prefix("?(@.") {
        let (filter, rest) = filter.split_once(")]")?;
        let (name, wanted) = filter.split_once("==")?;
        let wanted = wanted.trim().trim_matches(['"', '\'']).to_owned();
        return Some((Some(Step::Where(name.trim().to_owned(), wanted)), rest));
    }
    let (inner, rest) = inner.split_once(']')?;
    let quoted = inner.strip_prefix(['"', '\'']).and_then(|i| i.strip_suffix(['"', '\'']));
    let step = match (quoted, inner) {
        (Some(name), _) => Step::Member(name.to_owned()),
        (None, "*") => Step::Every,
        (None, at) => Step::Item(at.parse().ok()?),
    };
    Some((Some(step), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths() {
        let object = json!({"a": {"b.c": 1, "n": null}, "l": [{"t": "x", "v": 2}, {"t": "y", "v": 3}]});
        let rows = [
            (".a", Some(json!({"b.c": 1, "n": null}))),
            (".a.b\\.c", Some(json!(1))),
            (".a['b.c']", Some(json!(1))),
            (".a.n", None),
            (".l[0].v", Some(json!(2))),
            (".l[-1].v", Some(json!(3))),
            (".l[*].v", Some(json!(2))),
            (".l[?(@.t==\"y\")].v", Some(json!(3))),
            (".l[?(@.t=='z')].v", None),
            (".l[", None),
            ("a", None),
        ];
        for (path, expected) in rows {
            assert_eq!(Path::read(path).first(&object), expected.as_ref(), "{path}");
        }
    }
}
