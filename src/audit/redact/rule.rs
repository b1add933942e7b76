//! Rules: those that are there by default, each with a name by which alone it is switched off, and those that an operator
//! adds.

use crate::request::names::is_dns_subdomain;
use std::fmt;

/// A rule that is there by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Builtin {
    /// Everything of a Secret but its names: `data`, `stringData` and what does not belong there, in objects, lists, patches,
    /// tables, applied configurations, `managedFields`, and in what a Status says of them.
    SecretData,
    /// `status.token` of a TokenRequest.
    TokenRequest,
    /// `spec.token` of a TokenReview.
    TokenReview,
    /// Bootstrap tokens, `abcdef.0123456789abcdef`, in any text.
    BootstrapToken,
    /// Values of `Authorization`, `Cookie` and the like; `Bearer …` and `Basic …` in any text.
    AuthorizationHeader,
    /// Registry credentials: `auths`, `.dockerconfigjson`, `.dockercfg`.
    DockerConfig,
    /// The users of a kubeconfig.
    Kubeconfig,
    /// Members and name/value pairs that are called `password`, `token`, `clientSecret` and the like.
    CredentialFields,
    /// JSON Web Tokens and PEM private keys in any text, in base64 too.
    CredentialShapes,
    /// Passwords in URLs; query parameters that are called like credentials.
    UrlCredentials,
    /// Texts that are gzip in base64, as appliers and Helm store whole manifests: nobody can see here what is in them.
    PackedText,
}

/// A set of default rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Builtins(u16);

/// A rule that an operator adds. All conditions must hold; an empty list holds always.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// How the record and errors call it.
    pub name: String,
    /// API groups; `""` is the core group, `*` any.
    pub groups: Vec<String>,
    /// `pods`, `pods/exec`, `pods/*` (each subresource, and pods themselves), `*/proxy`, `*`.
    pub resources: Vec<String>,
    /// Namespaces; `*` stands for any characters.
    pub namespaces: Vec<String>,
    /// Names of objects; `*` stands for any characters. Where the name is not known, the rule applies.
    pub names: Vec<String>,
    /// Places of values, from the object's root: `spec.containers[*].env[*].value`, `data.*`, `data['tls.key']`, `**.password`.
    /// Arrays are looked through with and without `[*]`.
    pub fields: Vec<String>,
    /// Names of query parameters of the request's URI; `*` stands for any characters.
    pub query: Vec<String>,
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct RuleError {
    /// Which of the rules, counted from 0.
    pub index: usize,
    /// The rule's name, or its number when it has none.
    pub rule: String,
    /// The key, `groups[1]`; empty: the rule as a whole.
    pub key: String,
    /// What was found, and what was expected.
    pub fault: String,
}

impl RuleError {
    /// Where it stands in the section `audit` of a configuration: `redaction.rules[0].groups[1]`.
    pub fn path(&self) -> String {
        let dot = if self.key.is_empty() { "" } else { "." };
        format!("redaction.rules[{}]{dot}{}", self.index, self.key)
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, key, fault, .. } = self;
        let colon = if key.is_empty() { "" } else { ": " };
        write!(f, "redaction rule {rule:?}: {key}{colon}{fault}")
    }
}

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Name(String),
    Index(usize),
    /// Any one.
    Any,
    /// Any number of any.
    Deep,
}

/// A rule that was found to make sense.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) rule: Rule,
    pub(super) paths: Vec<Vec<Step>>,
}

// === impl Builtin ===

impl Builtin {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::SecretData,
        Self::TokenRequest,
        Self::TokenReview,
        Self::BootstrapToken,
        Self::AuthorizationHeader,
        Self::DockerConfig,
        Self::Kubeconfig,
        Self::CredentialFields,
        Self::CredentialShapes,
        Self::UrlCredentials,
        Self::PackedText,
    ];

    /// The name by which it is switched off.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SecretData => "secret-data",
            Self::TokenRequest => "token-request",
            Self::TokenReview => "token-review",
            Self::BootstrapToken => "bootstrap-token",
            Self::AuthorizationHeader => "authorization-header",
            Self::DockerConfig => "docker-config",
            Self::Kubeconfig => "kubeconfig",
            Self::CredentialFields => "credential-fields",
            Self::CredentialShapes => "credential-shapes",
            Self::UrlCredentials => "url-credentials",
            Self::PackedText => "packed-text",
        }
    }

    /// The rule of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == name)
    }
}

// === impl Builtins ===

impl Builtins {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// Every default rule.
    pub const ALL: Self = Self((1 << Builtin::ALL.len()) - 1);

    /// This set and `rule`.
    #[must_use]
    pub fn with(self, rule: Builtin) -> Self {
        Self(self.0 | 1 << rule as u16)
    }

    /// This set but `rule`.
    #[must_use]
    pub fn without(self, rule: Builtin) -> Self {
        Self(self.0 & !(1 << rule as u16))
    }

    /// What is in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `rule` is in the set.
    pub fn has(self, rule: Builtin) -> bool {
        self.0 & 1 << rule as u16 != 0
    }

    /// The rules of the set.
    pub fn iter(self) -> impl Iterator<Item = Builtin> {
        Builtin::ALL.into_iter().filter(move |rule| self.has(*rule))
    }
}

// === impl Checked ===

impl Checked {
    /// Checks all rules and tells every fault.
    pub(super) fn all(rules: Vec<Rule>) -> Result<Vec<Self>, Vec<RuleError>> {
        let mut faults = Vec::new();
        let mut checked: Vec<Self> = Vec::with_capacity(rules.len());
        for (i, rule) in rules.into_iter().enumerate() {
            let shown = if rule.name.is_empty() { format!("#{}", i + 1) } else { rule.name.clone() };
            let index = i;
            let mut fault = |key: &str, fault: String| {
                faults.push(RuleError { index, rule: shown.clone(), key: key.to_owned(), fault });
            };
            if !is_dns_subdomain(&rule.name) {
                fault("name", "expected lower-case letters, digits, \"-\" and \".\"".to_owned());
            } else if Builtin::parse(&rule.name).is_some() {
                fault("name", "a default rule is called so".to_owned());
            } else if checked.iter().any(|c| c.rule.name == rule.name) {
                fault("name", "another rule is called so".to_owned());
            }
            if rule.fields.is_empty() && rule.query.is_empty() {
                fault("", "expected at least one of fields and query".to_owned());
            }
            for (i, group) in rule.groups.iter().enumerate() {
                if !matches!(group.as_str(), "" | "*") && !is_dns_subdomain(group) {
                    let expected = "expected \"\", \"*\" or an API group's name";
                    fault(&format!("groups[{i}]"), format!("{expected}, found {group:?}"));
                }
            }
            for (i, resource) in rule.resources.iter().enumerate() {
                let is_part = |part: &str| {
                    part == "*"
                        || !part.is_empty()
                            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                };
                let mut parts = resource.splitn(2, '/');
                if !parts.all(is_part) {
                    let expected = "expected \"pods\", \"pods/exec\", \"pods/*\", \"*/proxy\" or \"*\"";
                    fault(&format!("resources[{i}]"), format!("{expected}, found {resource:?}"));
                }
            }
            for (key, patterns) in
                [("namespaces", &rule.namespaces), ("names", &rule.names), ("query", &rule.query)]
            {
                for i in patterns.iter().enumerate().filter(|(_, p)| p.is_empty()).map(|(i, _)| i) {
                    fault(&format!("{key}[{i}]"), "expected a name or a pattern, found nothing".to_owned());
                }
            }
            let mut paths = Vec::with_capacity(rule.fields.len());
            for (i, field) in rule.fields.iter().enumerate() {
                match path(field) {
                    Ok(path) => paths.push(path),
                    Err(why) => fault(&format!("fields[{i}]"), format!("{why} in {field:?}")),
                }
            }
            checked.push(Self { rule, paths });
        }
        if faults.is_empty() { Ok(checked) } else { Err(faults) }
    }

    pub(super) fn fits_resource(&self, group: &str, resource: &str, subresource: &str) -> bool {
        let rule = &self.rule;
        (rule.groups.is_empty() || rule.groups.iter().any(|g| g == "*" || g == group))
            && (rule.resources.is_empty()
                || rule.resources.iter().any(|item| {
                    let (of, sub) = item.split_once('/').map_or((&**item, None), |(of, sub)| (of, Some(sub)));
                    (of == "*" || of == resource)
                        && match sub {
                            None => of == "*" || subresource.is_empty(),
                            Some(sub) => sub == "*" || sub == subresource,
                        }
                }))
    }

    /// Empty texts are not known, and fit.
    pub(super) fn fits_object(&self, namespace: &str, name: &str) -> bool {
        let fits = |patterns: &[String], text: &str| {
            patterns.is_empty() || text.is_empty() || patterns.iter().any(|p| fits_pattern(p, text))
        };
        fits(&self.rule.namespaces, namespace) && fits(&self.rule.names, name)
    }

    pub(super) fn fits_parameter(&self, name: &str) -> bool {
        self.rule.query.iter().any(|p| fits_pattern(p, name))
    }
}

/// `*` stands for any characters. Goes back to the last star only, so that it takes pattern times text at most.
fn fits_pattern(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(c) if Some(c) == text.get(t) => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    (p, t) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|b| *b == b'*'))
}

/// `a.b[*].c[0]['d.e'].**.f`.
fn path(text: &str) -> Result<Vec<Step>, &'static str> {
    let mut steps = Vec::new();
    let mut rest = text.strip_prefix('$').unwrap_or(text);
    rest = rest.strip_prefix('.').unwrap_or(rest);
    if rest.is_empty() {
        return Err("expected a path");
    }
    let mut is_name_due = true;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let quote = inner.chars().next().filter(|c| matches!(c, '\'' | '"'));
            let (step, after) = match quote {
                Some(quote) => {
                    let (name, after) = inner[1..].split_once(quote).ok_or("a quote does not end")?;
                    (Step::Name(name.to_owned()), after.strip_prefix(']').ok_or("expected \"]\"")?)
                }
                None => {
                    let (index, after) = inner.split_once(']').ok_or("a \"[\" does not end")?;
                    let step = match index {
                        "*" => Step::Any,
                        index => Step::Index(
                            index
                                .parse()
                                .map_err(|_| "expected \"*\", a number or a quoted name in brackets")?,
                        ),
                    };
                    (step, after)
                }
            };
            steps.push(step);
            rest = after;
        } else {
            if !is_name_due {
                rest = rest.strip_prefix('.').ok_or("expected \".\" or \"[\"")?;
            }
            let (name, after) = rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()));
            if name.contains(['*', ']', '\'', '"']) && !matches!(name, "*" | "**") {
                return Err("expected a name, \"*\" or \"**\" (quote other names: ['a*'])");
            }
            steps.push(match name {
                "" => return Err("a name is missing"),
                "*" => Step::Any,
                "**" => Step::Deep,
                name => Step::Name(name.to_owned()),
            });
            rest = after;
        }
        is_name_due = false;
    }
    if steps.last() == Some(&Step::Deep) {
        return Err("expected a name behind \"**\"");
    }
    if steps.len() > 64 {
        return Err("expected at most 64 steps");
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(steps: &[Step]) -> String {
        let step = |step: &Step| match step {
            Step::Name(name) => format!("/{name}"),
            Step::Index(index) => format!("/{index}"),
            Step::Any => "/*".to_owned(),
            Step::Deep => "/**".to_owned(),
        };
        steps.iter().map(step).collect()
    }

    #[test]
    fn names_are_one_to_one() {
        for rule in Builtin::ALL {
            assert_eq!(Builtin::parse(rule.as_str()), Some(rule));
            assert!(Builtins::ALL.has(rule) && !Builtins::ALL.without(rule).has(rule));
            assert_eq!(Builtins::NONE.with(rule).iter().collect::<Vec<_>>(), [rule]);
        }
    }

    #[test]
    fn paths_are_read() {
        for (text, want) in [
            ("data.*", "/data/*"),
            ("$.data", "/data"),
            (".data", "/data"),
            ("spec.containers[*].env[0].value", "/spec/containers/*/env/0/value"),
            ("data['tls.key']", "/data/tls.key"),
            ("['a']['b']", "/a/b"),
            ("metadata.annotations[\"a/b.c\"].x", "/metadata/annotations/a/b.c/x"),
            ("**.password", "/**/password"),
            ("spec.**.env.value", "/spec/**/env/value"),
        ] {
            assert_eq!(path(text).map(|p| shown(&p)), Ok(want.to_owned()), "{text}");
        }
        for (text, why) in [
            ("", "expected a path"),
            ("$", "expected a path"),
            ("a..b", "a name is missing"),
            ("a.", "a name is missing"),
            ("a[", "a \"[\""),
            ("a[x]", "expected \"*\""),
            ("a['x]", "a quote"),
            ("a['x'", "expected \"]\""),
            ("a[0]b", "expected \".\""),
            ("a*", "expected a name"),
            ("spec.**", "expected a name"),
        ] {
            let got = path(text).map(|p| shown(&p));
            assert!(got.as_ref().is_err_and(|e| e.starts_with(why)), "{text}: {got:?}");
        }
    }

    #[test]
    fn patterns_fit() {
        for (pattern, text, want) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("*", "abc", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abbc", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*c", "ab", false),
            ("", "a", false),
        ] {
            assert_eq!(fits_pattern(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn resources_fit() {
        for (item, resource, subresource, want) in [
            ("pods", "pods", "", true),
            ("pods", "pods", "exec", false),
            ("pods/exec", "pods", "exec", true),
            ("pods/exec", "pods", "", false),
            ("pods/*", "pods", "exec", true),
            ("pods/*", "pods", "", true),
            ("*/proxy", "services", "proxy", true),
            ("*/proxy", "services", "", false),
            ("*", "pods", "exec", true),
        ] {
            let rule = Rule { resources: vec![item.into()], ..Rule::default() };
            let checked = Checked { rule, paths: Vec::new() };
            assert_eq!(
                checked.fits_resource("", resource, subresource),
                want,
                "{item} {resource}/{subresource}"
            );
        }
    }

    #[test]
    fn every_fault_is_told() {
        let rule = |name: &str| Rule { name: name.into(), query: vec!["x".into()], ..Rule::default() };
        let list = |item: &str| vec![item.to_owned()];
        let rows = [
            (rule("ok"), ""),
            (rule("ok"), "redaction rule \"ok\": name: another rule is called so"),
            (rule(""), "redaction rule \"#3\": name: expected"),
            (rule("secret-data"), "redaction rule \"secret-data\": name: a default rule is called so"),
            (Rule { query: Vec::new(), ..rule("a") }, "redaction rule \"a\": expected at least one of"),
            (Rule { groups: list("Apps!"), ..rule("b") }, "redaction rule \"b\": groups[0]: expected"),
            (Rule { resources: list("pods/"), ..rule("c") }, "redaction rule \"c\": resources[0]: expected"),
            (Rule { names: list(""), ..rule("d") }, "redaction rule \"d\": names[0]: expected"),
            (Rule { fields: list("a[x]"), ..rule("e") }, "redaction rule \"e\": fields[0]: expected \"*\""),
        ];
        let (rules, wants): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        let faults = Checked::all(rules).unwrap_err();
        let wants: Vec<_> = wants.into_iter().filter(|w| !w.is_empty()).collect();
        assert_eq!(faults.len(), wants.len(), "{faults:?}");
        for (fault, want) in faults.iter().zip(wants) {
            assert!(fault.to_string().starts_with(want), "{fault}");
        }
    }
}
