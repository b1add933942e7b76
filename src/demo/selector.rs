//! Label and field selectors of lists and watches.

mod labels;

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
        Ok(Self { labels: labels::parse(labels)?, fields: parse_fields(kind, fields)? })
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

/// What is wrong with the value of a label; None when nothing is.
pub(super) fn bad_label_value(value: &str) -> Option<&'static str> {
    labels::bad_value(value)
}

fn parse_fields(kind: &Kind, text: &str) -> Result<Vec<Field>, String> {
    let mut fields = Vec::new();
    for term in split_unescaped(text).into_iter().filter(|t| !t.is_empty()) {
        let operator = (0..term.len()).find_map(|at| {
            let rest = term.get(at..).filter(|_| !term.get(..at).is_some_and(|t| t.ends_with('\\')))?;
            ["!=", "==", "="].into_iter().find(|o| rest.starts_with(o)).map(|o| (at, o))
        });
        let Some((at, operator)) = operator else {
            return Err(format!("invalid selector: '{text}'; can't understand '{term}'"));
        };
        let path = term.get(..at).unwrap_or_default();
        let value = unescape(term.get(at + operator.len()..).unwrap_or_default())?;
        let path = if path == "spec.host" && kind.is("", "pods") { "spec.nodeName" } else { path };
        check_field(kind, path)?;
        fields.push(Field { path: path.to_owned(), value, equal: operator != "!=" });
    }
    Ok(fields)
}

/// The terms between commas that no backslash stands before.
fn split_unescaped(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(text.get(start..).unwrap_or_default());
    terms
}

fn unescape(value: &str) -> Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => return Err(format!("invalid field selector: invalid escape sequence: \\{c}")),
                None => return Err("invalid field selector: invalid escape sequence: \\".to_owned()),
            },
            ',' | '=' => {
                return Err(format!(
                    "invalid field selector: unescaped character in value: {}",
                    u32::from(c)
                ));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

fn check_field(kind: &Kind, path: &str) -> Result<(), String> {
    let selectable = kind.custom.is_some_and(|v| v.selectable.iter().any(|field| field == path));
    let known = known_fields(kind);
    if matches!(path, "metadata.name" | "metadata.namespace") || known.contains(&path) || selectable {
        return Ok(());
    }
    Err(match (kind.group, kind.custom) {
        ("batch", None) if !known.is_empty() => {
            format!("field label {path:?} not supported for {}", kind.kind)
        }
        (_, None) if known.is_empty() => {
            format!("{path:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
        _ => format!("field label not supported: {path}"),
    })
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
            ("metadata.name=a=b", "invalid field selector: unescaped character in value: 61"),
            ("metadata.name=a\\b", "invalid field selector: invalid escape sequence: \\b"),
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
