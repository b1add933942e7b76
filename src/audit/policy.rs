//! `audit.k8s.io/v1` Policy: which requests are recorded, and how much of them. First matching rule wins; no match is
//! level None.
//!
//! Evaluated exactly as kube-apiserver does, its oddities included (`*` is no verb, `pods/*` matches plain pods, `*/*`
//! matches nothing useful). Loaded more strictly: kube-apiserver drops a field it does not know with a warning, whereby the
//! rule gets broader than it was meant; here that is an error, and all errors are told at once.

use super::event::{Level, Stage, Stages};
use crate::{
    codec::yaml,
    request::{Object, names::is_dns_subdomain},
};
use serde_json::{Map, Value};

/// The policies that come with gatelog: name and text.
pub const SHIPPED: [(&str, &str); 3] = [
    ("metadata", include_str!("../../policies/audit/metadata.yaml")),
    ("recommended", include_str!("../../policies/audit/recommended.yaml")),
    ("everything", include_str!("../../policies/audit/everything.yaml")),
];

/// The rules, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
    omit_stages: Stages,
    omit_managed_fields: bool,
}

/// What the policy says of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// How much is recorded.
    pub level: Level,
    /// Stages that leave no event.
    pub omit_stages: Stages,
    /// Whether `metadata.managedFields` is left out of recorded objects.
    pub omit_managed_fields: bool,
}

/// Who is asking for what: all that a rule can look at.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The authenticated user's name and groups, before impersonation; None when nobody was authenticated.
    pub user: Option<(&'a str, &'a [String])>,
    /// The API verb, or the lower-cased method.
    pub verb: &'a str,
    /// What it is done to.
    pub object: Object<'a>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    level: Level,
    omit_stages: Stages,
    omit_managed_fields: bool,
    users: Vec<String>,
    groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<Resources>,
    namespaces: Vec<String>,
    urls: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Resources {
    group: String,
    resources: Vec<String>,
    names: Vec<String>,
}

/// Everything that is wrong with a policy's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Errors(
    /// One fault each, beginning with the place: `line 1, column 2`, `rules[0].verbs`, …
    pub Vec<String>,
);

// === impl Policy ===

impl Policy {
    /// Reads the only document of `text`, YAML or JSON.
    pub fn parse(text: &str) -> Result<Self, Errors> {
        let mut documents = yaml::documents(text.trim_start_matches('\u{feff}'))
            .map_err(|e| Errors(vec![e.to_string()]))?
            .into_iter();
        match (documents.next(), documents.next()) {
            (Some(document), None) => Self::from_value(&document.value),
            (None, _) => Err(Errors(vec!["the policy is empty".into()])),
            (_, Some(second)) => {
                Err(Errors(vec![format!("line {}: expected one document, found a second", second.line)]))
            }
        }
    }

    /// The shipped policy of that name; see [`SHIPPED`].
    pub fn shipped(name: &str) -> Option<Self> {
        let (_, text) = SHIPPED.iter().find(|(n, _)| *n == name)?;
        Self::parse(text).ok()
    }

    /// Reads a policy that is a value already.
    pub fn from_value(value: &Value) -> Result<Self, Errors> {
        let mut faults = Faults::default();
        let policy = Reader { faults: &mut faults }.policy(value);
        if faults.0.is_empty() { Ok(policy) } else { Err(Errors(faults.0)) }
    }

    /// What is to be recorded of the request.
    pub fn evaluate(&self, asked: &Question<'_>) -> Verdict {
        let rule = self.rules.iter().find(|rule| rule.matches(asked));
        rule.map_or(
            Verdict {
                level: Level::None,
                omit_stages: self.omit_stages,
                omit_managed_fields: self.omit_managed_fields,
            },
            |rule| Verdict {
                level: rule.level,
                omit_stages: rule.omit_stages,
                omit_managed_fields: rule.omit_managed_fields,
            },
        )
    }

    /// How many rules there are.
    pub fn rules(&self) -> usize {
        self.rules.len()
    }
}

// === impl Rule ===

impl Rule {
    fn matches(&self, asked: &Question<'_>) -> bool {
        if !self.verbs.is_empty() && !holds(&self.verbs, asked.verb) {
            return false;
        }
        if !self.users.is_empty() && !asked.user.is_some_and(|(name, _)| holds(&self.users, name)) {
            return false;
        }
        if !self.groups.is_empty()
            && !asked.user.is_some_and(|(_, groups)| groups.iter().any(|g| holds(&self.groups, g)))
        {
            return false;
        }
        if !self.resources.is_empty() || !self.namespaces.is_empty() {
            let Object::Resource { group, resource, subresource, namespace, name, .. } = asked.object else {
                return false;
            };
            return (self.namespaces.is_empty() || holds(&self.namespaces, namespace))
                && (self.resources.is_empty()
                    || self.resources.iter().any(|r| r.matches(group, resource, subresource, name)));
        }
        if !self.urls.is_empty() {
            let Object::Path(path) = asked.object else { return false };
            return self.urls.iter().any(|url| match url.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => path == url,
            });
        }
        true
    }
}

impl Resources {
    fn matches(&self, group: &str, resource: &str, subresource: &str, name: &str) -> bool {
        if self.group != "*" && self.group != group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        if !self.names.is_empty() && !holds(&self.names, name) {
            return false;
        }
        self.resources.iter().any(|item| item_matches(item, resource, subresource))
    }
}

fn item_matches(item: &str, resource: &str, subresource: &str) -> bool {
    let exactly = match item.strip_prefix(resource) {
        Some("") => subresource.is_empty(),
        Some(rest) => !subresource.is_empty() && rest.strip_prefix('/') == Some(subresource),
        None => false,
    };
    exactly
        || item == "*"
        || !subresource.is_empty() && item.strip_prefix("*/") == Some(subresource)
        // Asks for the resource's name only, and so `pods/*` matches plain pods.
        || item.strip_suffix("/*") == Some(resource)
}

fn holds(list: &[String], item: &str) -> bool {
    list.iter().any(|i| i == item)
}

// === reading ===

#[derive(Debug, Default)]
struct Faults(Vec<String>);

/// Walks the document and notes every fault with its place. Null is the same as absent, as in Kubernetes.
struct Reader<'a> {
    faults: &'a mut Faults,
}

impl Reader<'_> {
    fn policy(mut self, value: &Value) -> Policy {
        const FIELDS: &[&str] =
            &["apiVersion", "kind", "metadata", "rules", "omitStages", "omitManagedFields"];
        let map = self.object(value, "", FIELDS);
        for (key, want) in [("apiVersion", "audit.k8s.io/v1"), ("kind", "Policy")] {
            if self.text(&map, "", key) != want {
                self.fault(key, &format!("expected {want:?}"));
            }
        }
        self.metadata(&map);
        let omit_stages = self.stages(&map, "");
        let omit_managed_fields = self.flag(&map, "").unwrap_or(false);
        let rules: Vec<_> = self
            .list(&map, "", "rules")
            .iter()
            .enumerate()
            .map(|(i, rule)| self.rule(rule, &format!("rules[{i}]"), omit_stages, omit_managed_fields))
            .collect();
        if rules.is_empty() {
            self.fault("rules", "expected at least one rule");
        }
        Policy { rules, omit_stages, omit_managed_fields }
    }

    fn metadata(&mut self, map: &Map<String, Value>) {
        // Fields of metav1.ObjectMeta that a person may write; none has a meaning here.
        const FIELDS: &[&str] = &[
            "name",
            "generateName",
            "namespace",
            "uid",
            "labels",
            "annotations",
            "creationTimestamp",
            "resourceVersion",
            "generation",
            "selfLink",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "ownerReferences",
            "finalizers",
            "managedFields",
        ];
        if let Some(metadata) = map.get("metadata").filter(|v| !v.is_null()) {
            self.object(metadata, "metadata", FIELDS);
        }
    }

    fn rule(&mut self, value: &Value, at: &str, stages: Stages, managed: bool) -> Rule {
        const FIELDS: &[&str] = &[
            "level",
            "users",
            "userGroups",
            "verbs",
            "resources",
            "namespaces",
            "nonResourceURLs",
            "omitStages",
            "omitManagedFields",
        ];
        let map = self.object(value, at, FIELDS);
        let level = match self.text(&map, at, "level") {
            "" => {
                self.fault(&format!("{at}.level"), "required");
                Level::None
            }
            text => Level::parse(text).unwrap_or_else(|| {
                let known = Level::ALL.map(Level::as_str).join(", ");
                self.fault(&format!("{at}.level"), &format!("expected one of {known}, found {text:?}"));
                Level::None
            }),
        };
        let resources: Vec<_> = self
            .list(&map, at, "resources")
            .iter()
            .enumerate()
            .map(|(i, entry)| self.resources(entry, &format!("{at}.resources[{i}]")))
            .collect();
        let namespaces = self.texts(&map, at, "namespaces");
        let urls = self.texts(&map, at, "nonResourceURLs");
        let about_resources = !resources.is_empty() || !namespaces.is_empty();
        if about_resources && !urls.is_empty() {
            self.fault(
                &format!("{at}.nonResourceURLs"),
                "a rule is either about resources and namespaces or about other URLs",
            );
        }
        for (i, url) in urls.iter().enumerate() {
            if url != "*" && !url.starts_with('/') {
                self.fault(
                    &format!("{at}.nonResourceURLs[{i}]"),
                    "expected \"*\" or a path that begins with \"/\"",
                );
            }
            if url.find('*').is_some_and(|star| star + 1 != url.len()) {
                self.fault(&format!("{at}.nonResourceURLs[{i}]"), "\"*\" may only be the last character");
            }
        }
        Rule {
            level,
            omit_stages: stages.union(self.stages(&map, at)),
            omit_managed_fields: self.flag(&map, at).unwrap_or(managed),
            users: self.texts(&map, at, "users"),
            groups: self.texts(&map, at, "userGroups"),
            verbs: self.texts(&map, at, "verbs"),
            resources,
            namespaces,
            urls,
        }
    }

    fn resources(&mut self, value: &Value, at: &str) -> Resources {
        let map = self.object(value, at, &["group", "resources", "resourceNames"]);
        let group = self.text(&map, at, "group").to_owned();
        if !matches!(&*group, "" | "*") && !is_dns_subdomain(&group) {
            self.fault(
                &format!("{at}.group"),
                &format!("expected \"\", \"*\" or an API group's name without a version, found {group:?}"),
            );
        }
        let resources = self.texts(&map, at, "resources");
        let names = self.texts(&map, at, "resourceNames");
        if !names.is_empty() && resources.is_empty() {
            self.fault(&format!("{at}.resourceNames"), "expected at least one item in resources beside it");
        }
        Resources { group, resources, names }
    }

    fn stages(&mut self, map: &Map<String, Value>, at: &str) -> Stages {
        let mut stages = Stages::EMPTY;
        for (i, text) in self.texts(map, at, "omitStages").iter().enumerate() {
            match Stage::parse(text) {
                Some(stage) => stages = stages.with(stage),
                None => {
                    let known = Stage::ALL.map(Stage::as_str).join(", ");
                    let place = join(at, &format!("omitStages[{i}]"));
                    self.fault(&place, &format!("expected one of {known}, found {text:?}"));
                }
            }
        }
        stages
    }

    fn flag(&mut self, map: &Map<String, Value>, at: &str) -> Option<bool> {
        match map.get("omitManagedFields") {
            None | Some(Value::Null) => None,
            Some(Value::Bool(flag)) => Some(*flag),
            Some(_) => {
                self.fault(&join(at, "omitManagedFields"), "expected true or false");
                None
            }
        }
    }

    /// The members of `value`, which must be an object with no other than the `known` fields.
    fn object(&mut self, value: &Value, at: &str, known: &[&str]) -> Map<String, Value> {
        let map = match value {
            Value::Object(map) => map.clone(),
            Value::Null if !at.is_empty() => Map::new(),
            _ => {
                self.fault(at, "expected an object");
                return Map::new();
            }
        };
        for key in map.keys().filter(|k| !known.contains(&k.as_str())) {
            self.fault(
                &join(at, &key.escape_debug().to_string()),
                &format!("unknown field, expected one of {}", known.join(", ")),
            );
        }
        map
    }

    fn list(&mut self, map: &Map<String, Value>, at: &str, key: &str) -> Vec<Value> {
        match map.get(key) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => items.clone(),
            Some(_) => {
                self.fault(&join(at, key), "expected a list");
                Vec::new()
            }
        }
    }

    fn texts(&mut self, map: &Map<String, Value>, at: &str, key: &str) -> Vec<String> {
        let items = self.list(map, at, key);
        let text = |(i, item)| match item {
            Value::String(text) => text,
            _ => {
                self.fault(&join(at, &format!("{key}[{i}]")), "expected a string");
                String::new()
            }
        };
        items.into_iter().enumerate().map(text).collect()
    }

    fn text<'a>(&mut self, map: &'a Map<String, Value>, at: &str, key: &str) -> &'a str {
        match map.get(key) {
            None | Some(Value::Null) => "",
            Some(Value::String(text)) => text,
            Some(_) => {
                self.fault(&join(at, key), "expected a string");
                ""
            }
        }
    }

    fn fault(&mut self, at: &str, what: &str) {
        self.faults.0.push(if at.is_empty() { what.to_owned() } else { format!("{at}: {what}") });
    }
}

fn join(at: &str, key: &str) -> String {
    if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }
}

#[cfg(test)]
mod tests;
