//! Names, label keys and label values, with the texts of the API machinery (`k8s.io/apimachinery pkg/util/validation`).

/// What is wrong with a name; mostly nothing or one thing.
pub(super) type Complaints = Vec<String>;

/// What the name of an object must be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// RFC 1123 labels joined by dots, at most 253 bytes.
    Subdomain,
    /// One RFC 1123 label, at most 63 bytes.
    Label,
    /// Anything that can stand in a path.
    Segment,
}

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const NAME_PART: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

impl Rule {
    /// What is wrong with a name, or with one that more will be appended to.
    pub(super) fn check(self, name: &str, prefix: bool) -> Complaints {
        match self {
            Self::Segment => segment(name, prefix),
            Self::Subdomain | Self::Label => {
                // A dash at the end is fine where more follows.
                let masked = name.strip_suffix('-').filter(|rest| prefix && !rest.is_empty());
                let masked = masked.map(|rest| format!("{rest}a"));
                let name = masked.as_deref().unwrap_or(name);
                if self == Self::Label { label(name) } else { subdomain(name, "characters") }
            }
        }
    }
}

fn segment(name: &str, prefix: bool) -> Complaints {
    if !prefix && matches!(name, "." | "..") {
        return vec![format!("may not be '{name}'")];
    }
    let found = ['/', '%'].into_iter().filter(|c| name.contains(*c));
    found.map(|c| format!("may not contain '{c}'")).collect()
}

/// `unit` is how the text calls what it counts; it counts bytes.
fn subdomain(name: &str, unit: &str) -> Complaints {
    let mut all = Vec::new();
    if name.len() > 253 {
        all.push(format!("must be no more than 253 {unit}"));
    }
    if !is_subdomain(name) {
        all.push(format!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{LABEL}(\\.{LABEL})*')"
        ));
    }
    all
}

fn label(name: &str) -> Complaints {
    let mut all = Vec::new();
    if name.len() > 63 {
        all.push("must be no more than 63 characters".to_owned());
    }
    if is_label(name) {
        return all;
    }
    if is_subdomain(name) {
        all.push("must not contain dots".to_owned());
    } else {
        all.push(format!(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{LABEL}')"
        ));
    }
    all
}

/// What is wrong with the name of a namespace.
pub(super) fn namespace(name: &str) -> Complaints {
    label(name)
}

/// What is wrong with a kind in lower case.
pub(super) fn kind(name: &str) -> Complaints {
    let mut all = Vec::new();
    if name.len() > 63 {
        all.push("must be no more than 63 characters".to_owned());
    }
    if !(is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase())) {
        all.push(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
                .to_owned(),
        );
    }
    all
}

/// What is wrong with the key of a label or an annotation, or with a finalizer.
pub(super) fn qualified(name: &str) -> Complaints {
    let mut all = Vec::new();
    let parts: Vec<&str> = name.splitn(3, '/').collect();
    let part = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                all.push("prefix part must be non-empty".to_owned());
            } else {
                all.extend(subdomain(prefix, "bytes").iter().map(|text| format!("prefix part {text}")));
            }
            *name
        }
        _ => {
            return vec![format!(
                "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{NAME_PART}') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if part.is_empty() {
        all.push("name part must be non-empty".to_owned());
    } else if part.len() > 63 {
        all.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_name_part(part) {
        all.push(format!(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{NAME_PART}')"
        ));
    }
    all
}

/// What is wrong with the value of a label.
pub(super) fn label_value(value: &str) -> Complaints {
    let mut all = Vec::new();
    if value.len() > 63 {
        all.push("must be no more than 63 bytes".to_owned());
    }
    if !value.is_empty() && !is_name_part(value) {
        all.push(format!(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '({NAME_PART})?')"
        ));
    }
    all
}

fn is_label(name: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
}

fn is_subdomain(name: &str) -> bool {
    name.split('.').all(is_label)
}

fn is_name_part(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_names() {
        let rows: [(Rule, &str, bool, &[&str]); 14] = [
            (Rule::Subdomain, "a.b-c.1", false, &[]),
            (Rule::Subdomain, "a-", true, &[]),
            (Rule::Subdomain, "-", true, &["a lowercase RFC 1123 subdomain"]),
            (Rule::Subdomain, "a.-", true, &[]),
            (Rule::Subdomain, "a..b", false, &["a lowercase RFC 1123 subdomain"]),
            (Rule::Subdomain, "", false, &["a lowercase RFC 1123 subdomain"]),
            (Rule::Label, "a.b", false, &["must not contain dots"]),
            (Rule::Label, "1a", false, &[]),
            (Rule::Label, "A", false, &["a lowercase RFC 1123 label"]),
            (Rule::Segment, "..", false, &["may not be '..'"]),
            (Rule::Segment, "..", true, &[]),
            (Rule::Segment, "a/%", false, &["may not contain '/'", "may not contain '%'"]),
            (Rule::Segment, "A: é", false, &[]),
            (Rule::Label, "a.b.", false, &["a lowercase RFC 1123 label"]),
        ];
        for (rule, name, prefix, want) in rows {
            let found = rule.check(name, prefix);
            assert_eq!(found.len(), want.len(), "{rule:?} {name}: {found:?}");
            assert!(found.iter().zip(want).all(|(f, w)| f.starts_with(w)), "{rule:?} {name}: {found:?}");
        }
        let long = "x".repeat(254);
        assert_eq!(Rule::Subdomain.check(&long, false), ["must be no more than 253 characters"]);
        assert_eq!(Rule::Label.check(&long, false), ["must be no more than 63 characters"]);
    }
}
