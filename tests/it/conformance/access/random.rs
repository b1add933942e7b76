//! Rules and questions of a small vocabulary, most of it traps, drawn from a seed.

use super::naive::{Question, What, text};
use serde_json::{Value, json};

const VERBS: &[&str] = &["get", "list", "create", "delete", "impersonate", "*", "GET", "get*", ""];
const GROUPS: &[&str] = &["", "apps", "*", "Apps", "apps/v1", "v1", "ap*"];
const RESOURCES: &[&str] = &[
    "pods",
    "pods/log",
    "pods/exec",
    "pods/*",
    "*/log",
    "*",
    "*/*",
    "Pods",
    "deployments",
    "deployments/scale",
    "*/scale",
    "po*",
    "**",
    "",
    "/",
    "/log",
    "pods/",
    "*/",
    "users",
    "userextras/a/b",
    "*/a/b",
    "userextras/*",
    "pods/log/x",
    "*/log/x",
    "log",
];
const NAMES: &[&str] = &["", "*", "a", "A", "a*", "a/b", "b"];
const URLS: &[&str] = &[
    "*", "**", "/", "/*", "/a", "/a/", "/a*", "/a/*", "/a**", "/*/x", "/a*b", "/a*b*", "a*", "", "/A*",
    "/api", "/api/*", "/a/*/", "/*x*", "//*",
];
const PATHS: &[&str] = &[
    "/",
    "*",
    "/*",
    "/a",
    "/a/",
    "/a/x",
    "/ab",
    "/aXb",
    "/a*b",
    "/a*bY",
    "/aXbY",
    "/A",
    "/x",
    "/a/b/x",
    "",
    "a",
    "//a",
    "/api",
    "/api/v1",
    "/api/v1/pods",
    "/a/*/",
    "**",
    "/a**",
];
const SPACES: &[&str] = &["ra", "rb"];
/// Whatever the set.
const PEOPLE: &[&str] = &[
    "system:serviceaccount:ra:sa",
    "system:serviceaccount:rb:sa",
    "system:serviceaccount::sa",
    "system:serviceaccount:ra:",
    "*",
    "sa",
    "system:anonymous",
];
const SETS_PEOPLE: &[&str] = &["u", "U", "v", "u v", "u:v", "w\"w", "ü"];
const SETS_GROUPS: &[&str] = &["g", "G", "h", "u", "g,h"];
const LABELS: &[&str] = &["acme/a", "acme/b"];
const VALUES: &[&str] = &["true", "false", ""];

/// Draws; the same seed draws the same.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66)
    }

    /// splitmix64
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Once in `n` times.
    fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    /// From none or one upwards, mostly few.
    fn some<'a>(&mut self, list: &[&'a str], least: usize) -> Vec<&'a str> {
        let n = least + self.below(3).min(self.below(3));
        (0..n).map(|_| self.of(list)).collect()
    }
}

/// Objects and questions of one set: their users and roles are its own, so that sets can share a cluster.
pub(super) struct Set {
    dice: Dice,
    tag: String,
}

impl Set {
    pub(super) fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed), tag: format!("-{seed}") }
    }

    /// Some of them are not what kube-apiserver takes.
    pub(super) fn objects(&mut self) -> Vec<Value> {
        let mut objects: Vec<Value> = Vec::new();
        for n in 0..24 {
            let object = if n < 10 { self.role() } else { self.binding(n) };
            let name = |o: &Value| (o["kind"].clone(), o["metadata"].clone());
            let taken = |o: &Value| {
                let (kind, metadata) = name(o);
                kind == object["kind"]
                    && metadata["name"] == object["metadata"]["name"]
                    && metadata["namespace"] == object["metadata"]["namespace"]
            };
            if !objects.iter().any(taken) {
                objects.push(object);
            }
        }
        objects
    }

    fn role(&mut self) -> Value {
        let namespaced = self.dice.once_in(2);
        let mut role = self.object(if namespaced { "Role" } else { "ClusterRole" });
        role["metadata"]["name"] = self.role_name().into();
        for label in LABELS {
            if self.dice.once_in(3) {
                role["metadata"]["labels"][label] = self.dice.of(VALUES).into();
            }
        }
        let rules: Vec<Value> = (0..self.dice.below(4)).map(|_| self.rule(namespaced)).collect();
        role["rules"] = rules.into();
        if !namespaced && self.dice.once_in(4) {
            let selectors: Vec<Value> = (0..1 + self.dice.below(2)).map(|_| self.selector()).collect();
            role["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
        }
        role
    }

    fn selector(&mut self) -> Value {
        if self.dice.once_in(8) {
            return json!({});
        }
        let (key, other) = (self.dice.of(LABELS), self.dice.of(LABELS));
        match self.dice.below(5) {
            0 => {
                json!({"matchExpressions": [{"key": key, "operator": "In", "values": self.dice.some(VALUES, 1)}]})
            }
            1 => {
                json!({"matchExpressions": [{"key": key, "operator": "NotIn", "values": self.dice.some(VALUES, 1)},
                {"key": other, "operator": "Exists"}]})
            }
            2 => {
                json!({"matchLabels": {key: self.dice.of(VALUES)}, "matchExpressions": [{"key": other, "operator": "DoesNotExist"}]})
            }
            _ => json!({"matchLabels": {key: self.dice.of(VALUES)}}),
        }
    }

    fn rule(&mut self, namespaced: bool) -> Value {
        // Now and then something is missing that must be there, or there that must not.
        let least = if self.dice.once_in(30) { 0 } else { 1 };
        let verbs = self.dice.some(VERBS, least);
        if self.dice.once_in(if namespaced { 40 } else { 4 }) {
            let mut rule = json!({"verbs": verbs, "nonResourceURLs": self.dice.some(URLS, 1)});
            if self.dice.once_in(20) {
                rule["resources"] = json!(["pods"]);
            }
            return rule;
        }
        let mut rule = json!({"verbs": verbs, "apiGroups": self.dice.some(GROUPS, least), "resources": self.dice.some(RESOURCES, 1)});
        if self.dice.once_in(3) {
            rule["resourceNames"] = json!(self.dice.some(NAMES, 0));
        }
        rule
    }

    fn binding(&mut self, n: usize) -> Value {
        let namespaced = self.dice.once_in(2);
        let mut binding = self.object(if namespaced { "RoleBinding" } else { "ClusterRoleBinding" });
        binding["metadata"]["name"] = format!("b{}{}", n / 2, self.tag).into();
        let kind = match self.dice.below(40) {
            0 => "Rolle",
            1..20 if namespaced => "Role",
            1 => "Role",
            _ => "ClusterRole",
        };
        binding["roleRef"] = json!({"kind": kind, "name": self.role_name()});
        match self.dice.below(30) {
            0 => binding["roleRef"]["apiGroup"] = "".into(),
            1 => binding["roleRef"]["apiGroup"] = "apps".into(),
            2 | 3 => {}
            _ => binding["roleRef"]["apiGroup"] = "rbac.authorization.k8s.io".into(),
        }
        let subjects: Vec<Value> = (0..self.dice.below(4)).map(|_| self.subject()).collect();
        if !subjects.is_empty() || self.dice.once_in(2) {
            binding["subjects"] = subjects.into();
        }
        binding
    }

    fn subject(&mut self) -> Value {
        let mut subject = match self.dice.below(7) {
            0..3 => json!({"kind": "User", "name": self.person()}),
            3..5 => json!({"kind": "Group", "name": self.group()}),
            5 if self.dice.once_in(3) => json!({"kind": "ServiceAccount", "name": "sa"}),
            5 => json!({"kind": "ServiceAccount", "name": "sa", "namespace": self.dice.of(SPACES)}),
            _ if self.dice.once_in(6) => json!({"kind": "Robot", "name": "r"}),
            _ => json!({"kind": "User", "name": self.person(), "namespace": "ra"}),
        };
        match self.dice.below(60) {
            0 => subject["apiGroup"] = "".into(),
            1 => subject["apiGroup"] = "apps".into(),
            2 => subject["apiGroup"] = "rbac.authorization.k8s.io".into(),
            3 => subject["name"] = "".into(),
            4 => subject["name"] = "a:b".into(),
            5 if subject["kind"] != "ServiceAccount" => subject["namespace"] = "Ra".into(),
            _ => {}
        }
        subject
    }

    fn object(&mut self, kind: &str) -> Value {
        let mut object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {}});
        if !kind.starts_with("Cluster") {
            object["metadata"]["namespace"] = self.dice.of(SPACES).into();
        }
        object
    }

    /// Few, so that there are several of one name; some refer to none.
    fn role_name(&mut self) -> String {
        let name = ["r0", "r1", "r2", "r3:x", "R4"][self.dice.below(5)];
        format!("{name}{}", self.tag)
    }

    fn person(&mut self) -> String {
        if self.dice.once_in(3) {
            return self.dice.of(PEOPLE).to_owned();
        }
        format!("{}{}", self.dice.of(SETS_PEOPLE), self.tag)
    }

    fn group(&mut self) -> String {
        match self.dice.below(12) {
            0 => "*".into(),
            1 => "system:serviceaccounts:ra".into(),
            _ => format!("{}{}", self.dice.of(SETS_GROUPS), self.tag),
        }
    }

    /// Some are drawn blindly, most from what a binding grants, with one thing of it changed or none.
    pub(super) fn question(&mut self, objects: &[Value]) -> Question {
        let mut question = self.blind();
        let of = |suffix: &str| -> Vec<&Value> {
            objects.iter().filter(|o| text(&o["kind"]).ends_with(suffix)).collect()
        };
        let (bindings, roles) = (of("Binding"), of("Role"));
        if bindings.is_empty() || roles.is_empty() || self.dice.once_in(5) {
            return question;
        }
        let binding = bindings[self.dice.below(bindings.len())];
        let fits = |role: &&&Value| {
            role["metadata"]["name"] == binding["roleRef"]["name"]
                && role["kind"] == binding["roleRef"]["kind"]
        };
        let role = match roles.iter().find(fits) {
            Some(role) => role,
            None => roles[self.dice.below(roles.len())],
        };
        let (subject, rule) = (self.one(&binding["subjects"]), self.one(&role["rules"]));
        let home = text(&binding["metadata"]["namespace"]);
        match text(&subject["kind"]) {
            "User" => question.user = text(&subject["name"]).to_owned(),
            "Group" => question.groups.push(text(&subject["name"]).to_owned()),
            "ServiceAccount" => {
                let own = text(&subject["namespace"]);
                let own = if own.is_empty() { home } else { own };
                question.user = format!("system:serviceaccount:{own}:{}", text(&subject["name"]));
            }
            _ => {}
        }
        let mut changed = self.blind();
        let changes = self.dice.below(8);
        question.verb = self.meant(&rule["verbs"], &changed.verb);
        question.what = if rule["nonResourceURLs"].is_array() {
            let url = self.meant(&rule["nonResourceURLs"], "/a/x");
            let more = self.dice.of(&["", "", "/", "x", "*", "/x"]);
            What::Path(if self.dice.once_in(2) { url } else { url.replace('*', "") + more })
        } else {
            let whole = self.meant(&rule["resources"], "pods");
            let (resource, sub) = whole.split_once('/').unwrap_or((&whole, ""));
            let resource =
                if resource == "*" { self.dice.of(&["pods", "deployments", "*"]) } else { resource };
            What::Resource {
                group: self.meant(&rule["apiGroups"], "batch"),
                resource: resource.to_owned(),
                sub: sub.to_owned(),
                namespace: if home.is_empty() { self.dice.of(&["", "ra", "rb", "rc"]) } else { home }
                    .to_owned(),
                name: if self.dice.once_in(3) {
                    String::new()
                } else {
                    self.meant(&rule["resourceNames"], "a")
                },
            }
        };
        match (&mut question.what, &mut changed.what, changes) {
            (_, _, 0) => std::mem::swap(&mut question.verb, &mut changed.verb),
            (_, _, 1) => std::mem::swap(&mut question.user, &mut changed.user),
            (What::Resource { group, .. }, What::Resource { group: other, .. }, 2) => {
                std::mem::swap(group, other)
            }
            (What::Resource { resource, .. }, What::Resource { resource: other, .. }, 3) => {
                std::mem::swap(resource, other);
            }
            (What::Resource { sub, .. }, What::Resource { sub: other, .. }, 4) => std::mem::swap(sub, other),
            (What::Resource { namespace, .. }, What::Resource { namespace: other, .. }, 5) => {
                std::mem::swap(namespace, other);
            }
            (What::Resource { name, .. }, What::Resource { name: other, .. }, 6) => {
                std::mem::swap(name, other)
            }
            _ => {}
        }
        question
    }

    /// An element of a list; null of an empty one.
    fn one<'a>(&mut self, list: &'a Value) -> &'a Value {
        const NOTHING: &Value = &Value::Null;
        list.as_array().filter(|l| !l.is_empty()).map_or(NOTHING, |l| &l[self.dice.below(l.len())])
    }

    /// An entry of a rule's list; for a star mostly something that it stands for.
    fn meant(&mut self, list: &Value, anything: &str) -> String {
        match self.one(list) {
            Value::String(entry) if entry != "*" || self.dice.once_in(4) => entry.clone(),
            _ => anything.to_owned(),
        }
    }

    fn blind(&mut self) -> Question {
        let user = self.person();
        let groups = (0..self.dice.below(4)).map(|_| self.group()).collect();
        let verb = self.dice.of(VERBS).to_owned();
        let what = if self.dice.once_in(4) {
            What::Path(self.dice.of(PATHS).to_owned())
        } else {
            // What rules list, and what they might be thought to mean.
            let whole = self.dice.of(RESOURCES);
            let (resource, sub) = match self.dice.below(8) {
                0 => (whole, ""),
                1 => (whole, "log"),
                _ => whole.split_once('/').unwrap_or((whole, "")),
            };
            let resource = if resource == "*" && self.dice.once_in(2) { "pods" } else { resource };
            What::Resource {
                group: self.dice.of(&["", "", "apps", "Apps", "*", "v1", "batch"]).to_owned(),
                resource: resource.to_owned(),
                sub: sub.to_owned(),
                namespace: self.dice.of(&["ra", "ra", "rb", "", "rc", "*"]).to_owned(),
                name: self.dice.of(NAMES).to_owned(),
            }
        };
        Question { user, groups, verb, what }
    }
}
