//! Who asks and what they may: written beside the rows, turned into a token file, certificates and RBAC objects.
//!
//! ```text
//! user alice dev,ops                      a token `alice-token`, uid `uid-alice`, groups; users that only `can` need no line
//! can bob get,list - configmaps names=a   a ClusterRole and its ClusterRoleBinding; `-` is the core group; in=NS: a Role and a RoleBinding
//! paths bob get /foo*,/bar                the same for nonResourceURLs
//! role reader get - pods in=team          a role without a binding
//! bind user:bob ClusterRole:view in=team  a binding; subjects `user:`, `group:`, `account:NS:NAME`
//! ```
//!
//! In a row, `bob` sends that token, `cert:NAME` presents a certificate (`certificates`), `cert:NAME+bob` does both, `-` neither.

use crate::raw::Identity;
use gatelog::demo::pki::{Attribute, Ca, Client, Pair, Usage, Validity};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Everybody and everything that the rows need.
pub(crate) struct World {
    /// Signs clients' and servers' certificates.
    pub(crate) ca: Ca,
    /// Signs front proxies' certificates.
    pub(crate) proxies: Ca,
    users: BTreeMap<String, Vec<String>>,
    certificates: BTreeMap<&'static str, Identity>,
    objects: Vec<Value>,
}

impl World {
    /// Reads the `user`, `can` and `paths` lines of these tables, and leaves the rows.
    pub(crate) fn new(tables: &[&str]) -> Self {
        let ca = Ca::new("conformance").unwrap();
        let proxies = Ca::new("front proxies").unwrap();
        let certificates = certificates(&ca, &proxies);
        let mut world = Self { ca, proxies, users: BTreeMap::new(), certificates, objects: Vec::new() };
        world.users.insert("admin".into(), vec!["system:masters".into()]);
        world.users.insert("gatelog".into(), Vec::new());
        for line in tables.iter().flat_map(|t| t.lines()) {
            world.line(line);
        }
        world
    }

    /// The same users and certificates with other rules; users that only these name are known from now on, too.
    pub(crate) fn ruled_by(mut self, table: &str) -> Self {
        self.objects.clear();
        table.lines().for_each(|line| self.line(line));
        self
    }

    /// Whether a line of a table is one of ours.
    pub(crate) fn owns(line: &str) -> bool {
        ["user ", "can ", "paths ", "role ", "bind "].iter().any(|w| line.starts_with(w))
    }

    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if !Self::owns(line) {
            return;
        }
        let name = words[1];
        match words[..] {
            ["user", _] => _ = self.users.insert(name.into(), Vec::new()),
            ["user", _, groups] => {
                let groups = list(groups).into_iter().map(str::to_owned).collect();
                self.users.insert(name.into(), groups);
            }
            ["paths", _, verbs, urls] => {
                self.grant(name, "", json!({"verbs": list(verbs), "nonResourceURLs": list(urls)}));
            }
            [word @ ("can" | "role"), _, verbs, groups, resources, ref options @ ..] => {
                let mut rule =
                    json!({"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources)});
                let mut namespace = "";
                for option in options {
                    match option.split_once('=') {
                        Some(("names", names)) => rule["resourceNames"] = json!(list(names)),
                        Some(("in", ns)) => namespace = ns,
                        _ => panic!("unknown option {option:?} in {line:?}"),
                    }
                }
                match word {
                    "can" => self.grant(name, namespace, rule),
                    _ => self.role(name, namespace, rule),
                }
            }
            ["bind", _, role, ref options @ ..] => {
                let namespace = options.first().and_then(|o| o.strip_prefix("in=")).unwrap_or_default();
                self.bind(name, role, namespace);
            }
            _ => panic!("not understood: {line:?}"),
        }
    }

    fn grant(&mut self, user: &str, namespace: &str, rule: Value) {
        let name = format!("{user}-{}", self.objects.len());
        let kind = if namespace.is_empty() { "ClusterRole" } else { "Role" };
        self.role(&name, namespace, rule);
        self.bind(&format!("user:{user}"), &format!("{kind}:{name}"), namespace);
    }

    fn role(&mut self, name: &str, namespace: &str, rule: Value) {
        let kind = if namespace.is_empty() { "ClusterRole" } else { "Role" };
        self.add(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata(name, namespace), "rules": [rule]}));
    }

    fn bind(&mut self, subject: &str, role: &str, namespace: &str) {
        let api = "rbac.authorization.k8s.io";
        let (kind, name) = subject.split_once(':').unwrap();
        let subject = match (kind, name.split_once(':')) {
            ("user", _) => {
                self.users.entry(name.to_owned()).or_default();
                json!({"apiGroup": api, "kind": "User", "name": name})
            }
            ("group", _) => json!({"apiGroup": api, "kind": "Group", "name": name}),
            ("account", Some((ns, name))) => {
                json!({"kind": "ServiceAccount", "namespace": ns, "name": name})
            }
            _ => panic!("no subject: {subject:?}"),
        };
        let (role_kind, role) = role.split_once(':').unwrap();
        let kind = if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
        let name = format!("binding-{}", self.objects.len());
        self.add(
            json!({"apiVersion": format!("{api}/v1"), "kind": kind, "metadata": metadata(&name, namespace),
            "roleRef": {"apiGroup": api, "kind": role_kind, "name": role}, "subjects": [subject]}),
        );
    }

    /// Adds an RBAC object.
    pub(crate) fn add(&mut self, object: Value) {
        self.objects.push(object);
    }

    /// The RBAC objects.
    pub(crate) fn objects(&self) -> &[Value] {
        &self.objects
    }

    /// kube-apiserver's `--token-auth-file`.
    pub(crate) fn tokens(&self) -> String {
        let mut out = String::new();
        for (user, groups) in &self.users {
            out += &format!("{user}-token,{user},uid-{user}");
            if !groups.is_empty() {
                out += &format!(",\"{}\"", groups.join(","));
            }
            out.push('\n');
        }
        // Names and groups that the lines above cannot spell; the rows of authentication's topic know them.
        out += "eve-token,eve,,\"\"\n";
        out += "spaced-token,spa ced,uid-spaced,\"a,b c\"\n";
        out += "twice-token,first,uid-first\ntwice-token,second,uid-second\n";
        out
    }

    /// The certificate and the user whose token goes along.
    pub(crate) fn credentials(who: &str) -> (Option<&str>, Option<&str>) {
        match who.strip_prefix("cert:").map(|who| who.split_once('+').unwrap_or((who, "-"))) {
            Some((certificate, "-")) => (Some(certificate), None),
            Some((certificate, user)) => (Some(certificate), Some(user)),
            None if who == "-" => (None, None),
            None => (None, Some(who)),
        }
    }

    /// The certificate of `cert:NAME`.
    pub(crate) fn certificate(&self, name: &str) -> &Identity {
        self.certificates.get(name).unwrap_or_else(|| panic!("no certificate {name:?}"))
    }

    /// A server certificate for 127.0.0.1.
    pub(crate) fn server(&self) -> Identity {
        identity(self.ca.server(&["127.0.0.1", "localhost"]).unwrap())
    }

    /// Whether `user` sends a token of its own.
    pub(crate) fn knows(&self, user: &str) -> bool {
        self.users.contains_key(user) || ["eve", "spaced", "twice"].contains(&user)
    }
}

/// `a,-,b`; `-` is the empty string.
fn list(s: &str) -> Vec<&str> {
    s.split(',').map(|p| if p == "-" { "" } else { p }).collect()
}

fn metadata(name: &str, namespace: &str) -> Value {
    let mut out = json!({"name": name});
    if !namespace.is_empty() {
        out["namespace"] = namespace.into();
    }
    out
}

fn identity(pair: Pair) -> Identity {
    Identity { chain: pair.certificates(), key: pair.key }
}

fn certificates(ca: &Ca, proxies: &Ca) -> BTreeMap<&'static str, Identity> {
    let stranger = Ca::new("conformance").unwrap();
    let narrow = ca.intermediate("servers only", &[Usage::Server]).unwrap();
    let below = ca.intermediate("below", &[]).unwrap();
    let proxy = || Client::new("front-proxy");
    let alice = || Client::new("alice").group("dev").group("ops");
    let by = |ca: &Ca, client: Client| identity(ca.client(&client).unwrap());
    let alone = |mut pair: Pair| {
        pair.chain.truncate(1);
        identity(pair)
    };
    BTreeMap::from([
        ("alice", by(ca, alice())),
        ("no-usage", by(ca, alice().usages(&[]))),
        ("any-usage", by(ca, alice().usages(&[Usage::Any]))),
        ("server-usage", by(ca, alice().usages(&[Usage::Server]))),
        ("expired", by(ca, alice().validity(Validity::Expired))),
        ("not-yet", by(ca, alice().validity(Validity::NotYet))),
        ("stranger", by(&stranger, alice())),
        ("self-signed", identity(Ca::self_signed(&Client::new("root").group("system:masters")).unwrap())),
        ("authority", identity(ca.own())),
        ("intermediate", by(&below, alice())),
        ("missing-intermediate", alone(below.client(&alice()).unwrap())),
        ("narrow-intermediate", by(&narrow, alice())),
        ("no-name", by(ca, Client { subject: Vec::new(), ..alice() }.group("dev"))),
        ("two-names", by(ca, Client::new("first").with(Attribute::CommonName, "second"))),
        ("uid", by(ca, alice().with(Attribute::Uid, "abc-123"))),
        ("two-uids", by(ca, alice().with(Attribute::Uid, "a").with(Attribute::Uid, "b"))),
        ("anonymous", by(ca, Client::new("system:anonymous").group("dev"))),
        ("masters", by(ca, Client::new("root").group("system:masters"))),
        ("named-masters", by(ca, Client::new("system:masters"))),
        ("space-masters", by(ca, Client::new("mallory").group(" system:masters"))),
        ("space-name", by(ca, Client::new("alice "))),
        ("accents", by(ca, Client::new("zoë").group("dév"))),
        ("proxy", by(proxies, proxy())),
        ("proxy-other", by(proxies, Client::new("another-proxy"))),
        ("proxy-server", by(proxies, proxy().usages(&[Usage::Server]))),
        ("proxy-expired", by(proxies, proxy().validity(Validity::Expired))),
        // The right name below the wrong authority.
        ("proxy-named", by(ca, proxy())),
        ("many-groups", by(ca, (0..500).fold(Client::new("alice"), |c, n| c.group(&format!("g{n}"))))),
    ])
}
