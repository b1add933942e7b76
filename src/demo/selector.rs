//! Label and field selectors of lists and watches.

use super::{kinds::Kind, value};
use serde_json::Value;

/// Both selectors of a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Selector {
    labels: Vec<Label>,
    fields: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Label {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
    Greater(i64),
    Less(i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    path: String,
    value: String,
    equal: bool,
}

impl Selector {
    /// Reads both; the error is the text of a 400.
    pub(super) fn parse(kind: &Kind, labels: &str, fields: &str) -> Result<Self, String> {
        Ok(Self { labels: parse_labels(labels)?, fields: parse_fields(kind, fields)? })
    }

    /// Whether the object is selected.
    pub(super) fn matches(&self, object: &Value) -> bool {
        let labels = value::map(object, "/metadata/labels");
        let label = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
        self.labels.iter().all(|l| l.test.holds(label(&l.key)))
            && self.fields.iter().all(|f| (field(object, &f.path) == f.value) == f.equal)
    }
}

/// Whether the labels of `object` satisfy a `metav1.LabelSelector`; an empty one selects everything.
pub(super) fn label_selector(selector: &Value, object: &Value) -> bool {
    let labels = value::map(object, "/metadata/labels");
    let label = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
    let equal = value::map(selector, "/matchLabels")
        .is_none_or(|wanted| wanted.iter().all(|(k, v)| label(k) == v.as_str()));
    let strings = |e: &Value| {
        value::items(e, "/values").iter().filter_map(|v| v.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    equal
        && value::items(selector, "/matchExpressions").iter().all(|e| {
            let test = match value::text(e, "/operator") {
                "In" => Test::In(strings(e)),
                "NotIn" => Test::NotIn(strings(e)),
                "Exists" => Test::Exists,
                "DoesNotExist" => Test::Missing,
                _ => return false,
            };
            test.holds(label(value::text(e, "/key")))
        })
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match self {
            Self::In(values) => value.is_some_and(|v| values.iter().any(|w| w == v)),
            Self::NotIn(values) => value.is_none_or(|v| !values.iter().any(|w| w == v)),
            Self::Exists => value.is_some(),
            Self::Missing => value.is_none(),
            Self::Greater(than) => number().is_some_and(|n| n > *than),
            Self::Less(than) => number().is_some_and(|n| n < *than),
        }
    }
}

fn parse_labels(text: &str) -> Result<Vec<Label>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    split_outside_parentheses(text).map(|term| parse_label(term.trim())).collect()
}

fn split_outside_parentheses(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0i32;
    text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
}

fn parse_label(term: &str) -> Result<Label, String> {
    let checked = |key: &str, test| {
        let key = key.trim();
        match is_label_key(key) {
            true => Ok(Label { key: key.to_owned(), test }),
            false => Err(format!(
                "unable to parse requirement: <nil>: Invalid value: {key:?}: name part must consist of \
                 alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character \
                 (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                 '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            )),
        }
    };
    if let Some(key) = term.strip_prefix('!') {
        return checked(key, Test::Missing);
    }
    if let Some(open) = term.find('(') {
        let (head, values) = term.split_at(open);
        let inner = values
            .strip_prefix('(')
            .and_then(|v| v.strip_suffix(')'))
            .ok_or_else(|| "unable to parse requirement: found '', expected: ',', or ')'".to_owned())?;
        let values = inner.split(',').map(|v| v.trim().to_owned()).collect();
        let mut words = head.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => checked(key, Test::In(values)),
            (Some(key), Some("notin"), None) => checked(key, Test::NotIn(values)),
            _ => Err("unable to parse requirement: found '(', expected: in, notin, =, ==, !=, gt, lt".into()),
        };
    }
    let value = |v: &str| {
        let v = v.trim().to_owned();
        match v.len() <= 63 && v.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            true => Ok(v),
            false => Err(format!(
                "unable to parse requirement: values[0][{v}]: Invalid value: {v:?}: a valid label must be an empty \
                 string or consist of alphanumeric characters, '-', '_' or '.'"
            )),
        }
    };
    for (operator, negated) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((key, v)) = term.split_once(operator) {
            let values = vec![value(v)?];
            return checked(key, if negated { Test::NotIn(values) } else { Test::In(values) });
        }
    }
    for (operator, greater) in [('>', true), ('<', false)] {
        if let Some((key, v)) = term.split_once(operator) {
            let n = v.trim().parse().map_err(|_| {
                format!("unable to parse requirement: values[0][{v}]: Invalid value: {v:?}: for 'Gt', 'Lt' operators, the value must be an integer")
            })?;
            return checked(key, if greater { Test::Greater(n) } else { Test::Less(n) });
        }
    }
    if term.is_empty() || term.contains(char::is_whitespace) {
        let found = term.split_whitespace().nth(1).unwrap_or_default();
        let expected = if term.is_empty() {
            "!, identifier, or 'end of string'"
        } else {
            "in, notin, =, ==, !=, gt, lt"
        };
        return Err(format!("unable to parse requirement: found '{found}', expected: {expected}"));
    }
    checked(term, Test::Exists)
}

fn is_label_key(key: &str) -> bool {
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    name.len() <= 63
        && end(name.chars().next())
        && end(name.chars().last())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn parse_fields(kind: &Kind, text: &str) -> Result<Vec<Field>, String> {
    let mut fields = Vec::new();
    for term in text.split(',').filter(|t| !t.is_empty()) {
        let (path, value, equal) = if let Some((k, v)) = term.split_once("!=") {
            (k, v, false)
        } else if let Some((k, v)) = term.split_once("==") {
            (k, v, true)
        } else if let Some((k, v)) = term.split_once('=') {
            (k, v, true)
        } else {
            return Err(format!("invalid selector: '{text}'; can't understand '{term}'"));
        };
        let path = if path == "spec.host" { "spec.nodeName" } else { path };
        let general = ["metadata.name", "metadata.namespace"];
        let selectable = kind.custom.is_some_and(|v| v.selectable.iter().any(|field| field == path));
        if !general.contains(&path) && !known_fields(kind).contains(&path) && !selectable {
            return Err(format!("field label not supported: {path}"));
        }
        fields.push(Field { path: path.to_owned(), value: value.to_owned(), equal });
    }
    Ok(fields)
}

fn known_fields(kind: &Kind) -> &'static [&'static str] {
    match (kind.group, kind.plural) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "namespaces") => &["status.phase"],
        ("", "secrets") => &["type"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("", "replicationcontrollers") => &["status.replicas"],
        ("batch", "jobs") => &["status.successful"],
        _ => &[],
    }
}

/// A field's value as selectors compare it: absent strings are empty, absent booleans false.
fn field(object: &Value, path: &str) -> String {
    let pointer = match path {
        "status.podIPs" => "/status/podIP".to_owned(),
        "status.successful" => "/status/succeeded".to_owned(),
        "source" => "/source/component".to_owned(),
        _ => format!("/{}", path.replace('.', "/")),
    };
    match object.pointer(&pointer) {
        Some(Value::String(s)) => s.clone(),
        Some(Value::Null) | None => match path {
            "spec.hostNetwork" | "spec.unschedulable" => "false".into(),
            "status.successful" | "status.replicas" => "0".into(),
            _ => String::new(),
        },
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::kinds::{KINDS, find};
    use serde_json::json;

    fn pods() -> &'static Kind {
        &KINDS[find("", "v1", "pods").unwrap()]
    }

    #[test]
    fn labels() {
        let pod = json!({"metadata": {"labels": {"app": "web", "n": "5", "x/y": ""}}});
        let rows = [
            ("", true),
            ("app=web", true),
            ("app==web,n", true),
            ("app!=web", false),
            ("no!=web", true),
            ("app in (db, web)", true),
            ("app notin (db,web)", false),
            ("no notin (db)", true),
            ("!app", false),
            ("!no", true),
            ("n>4", true),
            ("n<4", false),
            ("app>4", false),
            ("x/y=", true),
            ("x/y in ()", true),
        ];
        for (text, expected) in rows {
            let selector = Selector::parse(pods(), text, "").unwrap();
            assert_eq!(selector.matches(&pod), expected, "{text}");
        }
        for bad in ["a=b,", "a b", "a in b", "a in (b", "=", "a=$", "n>x"] {
            assert!(Selector::parse(pods(), bad, "").is_err(), "{bad}");
        }
    }

    #[test]
    fn fields() {
        let pod = json!({"metadata": {"name": "p"}, "status": {"phase": "Running"}});
        let rows = [
            ("metadata.name=p", true),
            ("metadata.name==q", false),
            ("status.phase!=Running", false),
            ("spec.nodeName=", true),
            ("spec.hostNetwork=false", true),
            ("metadata.name=p,", true),
        ];
        for (text, expected) in rows {
            let selector = Selector::parse(pods(), "", text).unwrap();
            assert_eq!(selector.matches(&pod), expected, "{text}");
        }
        for (bad, message) in [
            ("x", "invalid selector: 'x'; can't understand 'x'"),
            ("spec.x=1", "field label not supported: spec.x"),
        ] {
            assert_eq!(Selector::parse(pods(), "", bad).unwrap_err(), message);
        }
    }

    #[test]
    fn label_selectors_of_objects() {
        let pod = json!({"metadata": {"labels": {"app": "web"}}});
        let rows = [
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "db"}}), false),
            (json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}), true),
            (json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}), false),
            (json!({"matchExpressions": [{"key": "app", "operator": "?"}]}), false),
        ];
        for (selector, expected) in rows {
            assert_eq!(label_selector(&selector, &pod), expected, "{selector}");
        }
    }
}
