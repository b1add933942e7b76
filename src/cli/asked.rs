//! What `explain` and `who-can` are asked, as kubectl auth can-i takes it, and by which rules.
//!
//! There is no cluster to ask what a name means: what every cluster has is known here, of all else the API group must be said.

use super::usage;
use crate::{
    authz::{self, needs_create},
    config,
    rbac::{BindingName, Grounds, Rules, SubjectKind},
    request::{Attributes, Object},
};
use anyhow::{anyhow, bail};
use serde_json::{Value, json};
use std::{
    fmt::{self, Display},
    path::PathBuf,
    process::ExitCode,
};

/// By which rules.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("source").args(["config", "rbac"]).required(true))]
pub(super) struct Source {
    /// The gate's configuration, whose rules are asked
    #[arg(long, value_name = "FILE", conflicts_with = "rbac")]
    config: Option<PathBuf>,
    /// Manifests of roles and bindings, or a folder of them; may be given more than once
    #[arg(long, value_name = "FILE|DIR")]
    rbac: Vec<PathBuf>,
    /// Without the roles and bindings that every cluster starts with
    #[arg(long, conflicts_with = "config")]
    no_bootstrap: bool,
}

impl Source {
    /// Warnings go to standard error. The inner error: said already.
    pub(super) fn rules(self) -> Result<Result<Rules, ExitCode>, super::Failure> {
        let from = match &self.config {
            Some(path) => match config::load(path) {
                Ok(config) => config.authz,
                Err(errors) => return Ok(Err(super::misconfigured(&errors))),
            },
            None => {
                authz::Config { paths: self.rbac, bootstrap: !self.no_bootstrap, ..authz::Config::default() }
            }
        };
        let loaded = from
            .read()
            .map_err(lines)
            .and_then(|manifests| manifests.rules().map_err(lines))
            .map_err(usage)?;
        for warning in &loaded.warnings {
            eprintln!("gatelog: {warning}");
        }
        Ok(Ok(loaded.rules))
    }
}

fn lines<E: Display>(errors: Vec<E>) -> anyhow::Error {
    anyhow!(errors.iter().map(E::to_string).collect::<Vec<_>>().join("\n"))
}

/// How it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// One object, for programs
    Json,
}

/// The question.
#[derive(Debug, clap::Args)]
pub(super) struct Question {
    /// The verb, as RBAC rules name it: get, list, watch, create, update, patch, delete, …
    verb: String,
    /// RESOURCE[.GROUP], RESOURCE/SUBRESOURCE or RESOURCE/NAME; or a path, as /metrics
    #[arg(value_name = "RESOURCE|PATH")]
    what: String,
    /// The name of the object
    name: Option<String>,
    /// The subresource, as exec or log; what stands after a slash is a name then
    #[arg(long, value_name = "NAME")]
    subresource: Option<String>,
    /// The namespace [default: none, which is the cluster's scope]
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
    /// In all namespaces at once
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,
}

/// The question, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    verb: String,
    what: What,
    /// What of the question was not taken as it stood.
    pub(super) notes: Vec<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Path(String),
    Resource { group: String, resource: String, subresource: String, namespace: String, name: String },
}

/// Resources that every cluster has: the group, whether they are in namespaces, plural and short names of each.
const KNOWN: [(&str, bool, &[&str]); 23] = [
    (
        "",
        true,
        &[
            "pods po",
            "services svc",
            "configmaps cm",
            "secrets",
            "serviceaccounts sa",
            "endpoints ep",
            "events ev",
            "persistentvolumeclaims pvc",
            "replicationcontrollers rc",
            "resourcequotas quota",
            "limitranges limits",
            "podtemplates",
            "bindings",
        ],
    ),
    (
        "",
        false,
        &["namespaces ns", "nodes no", "persistentvolumes pv", "componentstatuses cs", "users", "groups"],
    ),
    ("apps", true, &["deployments deploy", "daemonsets ds", "statefulsets sts", "replicasets rs"]),
    ("apps", true, &["controllerrevisions"]),
    ("batch", true, &["jobs", "cronjobs cj"]),
    ("autoscaling", true, &["horizontalpodautoscalers hpa"]),
    ("policy", true, &["poddisruptionbudgets pdb"]),
    ("networking.k8s.io", true, &["ingresses ing", "networkpolicies netpol"]),
    ("networking.k8s.io", false, &["ingressclasses", "ipaddresses ip", "servicecidrs"]),
    ("discovery.k8s.io", true, &["endpointslices"]),
    ("coordination.k8s.io", true, &["leases"]),
    ("rbac.authorization.k8s.io", true, &["roles", "rolebindings"]),
    ("rbac.authorization.k8s.io", false, &["clusterroles", "clusterrolebindings"]),
    ("storage.k8s.io", false, &["storageclasses sc", "volumeattachments", "csidrivers", "csinodes"]),
    ("storage.k8s.io", true, &["csistoragecapacities"]),
    ("scheduling.k8s.io", false, &["priorityclasses pc"]),
    ("node.k8s.io", false, &["runtimeclasses"]),
    ("apiextensions.k8s.io", false, &["customresourcedefinitions crd crds"]),
    ("apiregistration.k8s.io", false, &["apiservices"]),
    (
        "admissionregistration.k8s.io",
        false,
        &[
            "mutatingwebhookconfigurations",
            "validatingwebhookconfigurations",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
        ],
    ),
    ("certificates.k8s.io", false, &["certificatesigningrequests csr", "signers"]),
    ("authentication.k8s.io", false, &["tokenreviews", "selfsubjectreviews", "uids", "userextras"]),
    (
        "authorization.k8s.io",
        false,
        &["subjectaccessreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews"],
    ),
];

/// What may stand after a slash without being a name.
const SUBRESOURCES: [&str; 14] = [
    "approval",
    "attach",
    "binding",
    "ephemeralcontainers",
    "eviction",
    "exec",
    "finalize",
    "log",
    "portforward",
    "proxy",
    "resize",
    "scale",
    "status",
    "token",
];

/// What is known by this plural, singular, kind or short name: group, plural, whether in namespaces.
fn known(word: &str, group: Option<&str>) -> Option<(&'static str, &'static str, bool)> {
    let word = word.to_lowercase();
    let singular = |plural: &str| {
        let stem = word.strip_suffix('y').map(|stem| format!("{stem}ies"));
        plural == format!("{word}s") || plural == format!("{word}es") || stem.as_deref() == Some(plural)
    };
    KNOWN.iter().filter(|(of, ..)| group.is_none_or(|group| group == *of)).find_map(|(of, scoped, names)| {
        let names = names.iter().filter_map(|names| {
            let plural = names.split(' ').next()?;
            (names.split(' ').any(|name| name == word) || singular(plural)).then_some(plural)
        });
        Some((*of, names.into_iter().next()?, *scoped))
    })
}

/// `apps` of `apps` and of `v1.apps`.
fn without_version(group: &str) -> &str {
    let version = |text: &str| {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.strip_prefix('v').is_some_and(|rest| {
            digits(rest)
                || ["alpha", "beta"]
                    .iter()
                    .any(|word| rest.split_once(word).is_some_and(|(a, b)| digits(a) && digits(b)))
        })
    };
    match group.split_once('.') {
        Some((first, rest)) if version(first) => rest,
        None if version(group) => "",
        _ => group,
    }
}

impl Question {
    /// What is meant.
    pub(super) fn asked(self) -> Result<Asked, anyhow::Error> {
        let Self { verb, what, name, subresource, namespace, .. } = self;
        if verb.is_empty() || verb.chars().any(char::is_uppercase) {
            bail!("the verb {verb:?}: expected one in lower case, as get or delete");
        }
        if what.starts_with('/') {
            if name.is_some() || subresource.is_some() || namespace.is_some() {
                bail!("the path {what}: a path has no name, no subresource and no namespace");
            }
            return Ok(Asked { verb, what: What::Path(what), notes: Vec::new() });
        }
        let mut notes = Vec::new();
        let (word, after) = match what.split_once('/') {
            Some((word, after)) => (word, Some(after.to_owned())),
            None => (&*what, None),
        };
        let (group, resource, scoped) = match word.split_once('.') {
            _ if word == "*" => ("*", "*", true),
            Some((resource, group)) => {
                let group = without_version(group);
                known(resource, Some(group)).unwrap_or((group, resource, true))
            }
            None => known(word, None).ok_or_else(|| {
                anyhow!(
                    "{word:?} is no resource that every cluster has: say its API group, as in {word}.example.com"
                )
            })?,
        };
        if resource.is_empty() {
            bail!("{what:?}: expected a resource, as pods or deployments.apps");
        }
        let (subresource, mut name) = match (after, subresource, name) {
            (Some(_), Some(_), Some(_)) => bail!("{what}: two names are given besides the subresource"),
            (Some(after), Some(subresource), None) => (subresource, after),
            (Some(after), None, Some(name)) => (after, name),
            (Some(after), None, None) if resource == "userextras" || SUBRESOURCES.contains(&&*after) => {
                (after, String::new())
            }
            (Some(after), None, None) => (String::new(), after),
            (None, subresource, name) => (subresource.unwrap_or_default(), name.unwrap_or_default()),
        };
        let mut namespace = namespace.unwrap_or_default();
        if !scoped && !namespace.is_empty() {
            notes.push("the resource is in no namespace: -n is passed over");
            namespace.clear();
        }
        // As in a request for it, so that rules in the namespace count.
        if (group, resource) == ("", "namespaces") {
            namespace.clone_from(&name);
        }
        if subresource.is_empty() && matches!(&*verb, "create" | "deletecollection") && !name.is_empty() {
            notes.push("a request of this verb has no name: it is passed over");
            name.clear();
            if resource == "namespaces" {
                namespace.clear();
            }
        }
        let (group, resource) = (group.to_owned(), resource.to_owned());
        let what = What::Resource { group, resource, subresource, namespace, name };
        Ok(Asked { verb, what, notes })
    }
}

impl Asked {
    /// As the rules are asked.
    pub(super) fn attributes(&self) -> Attributes<'_> {
        let object = match &self.what {
            What::Path(path) => Object::Path(path),
            What::Resource { group, resource, subresource, namespace, name } => {
                Object::Resource { group, version: "", resource, subresource, namespace, name }
            }
        };
        Attributes { verb: &self.verb, object }
    }

    /// What has to be allowed besides.
    pub(super) fn also(&self) -> Option<Attributes<'_>> {
        let asked = self.attributes();
        needs_create(asked, false).then_some(Attributes { verb: "create", ..asked })
    }

    pub(super) fn json(&self) -> Value {
        match &self.what {
            What::Path(path) => json!({"verb": self.verb, "path": path}),
            What::Resource { group, resource, subresource, namespace, name } => json!({
                "verb": self.verb, "group": group, "resource": resource, "subresource": subresource,
                "namespace": namespace, "name": name,
            }),
        }
    }
}

/// `delete pods web-0 in namespace shop`.
impl Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", plain(&self.verb))?;
        let What::Resource { group, resource, subresource, namespace, name } = &self.what else {
            let What::Path(path) = &self.what else { return Ok(()) };
            return f.write_str(&plain(path));
        };
        f.write_str(&plain(resource))?;
        if !group.is_empty() {
            write!(f, ".{}", plain(group))?;
        }
        if !subresource.is_empty() {
            write!(f, "/{}", plain(subresource))?;
        }
        if !name.is_empty() {
            write!(f, " {}", plain(name))?;
        }
        match (&**namespace, &**resource) {
            (_, "namespaces") => Ok(()),
            ("", _) => f.write_str(" at the cluster scope"),
            (namespace, _) => write!(f, " in namespace {}", plain(namespace)),
        }
    }
}

/// A word for a terminal.
pub(super) fn plain(word: &str) -> String {
    let harmless = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
    if !word.is_empty() && word.chars().all(harmless) { word.to_owned() } else { format!("{word:?}") }
}

/// `Group demo:developers`, `ServiceAccount shop/app`.
pub(super) fn subject(grounds: &Grounds) -> String {
    match (grounds.kind, account(grounds)) {
        (SubjectKind::ServiceAccount, Some((namespace, name))) => {
            format!("ServiceAccount {}/{}", plain(namespace), plain(name))
        }
        (SubjectKind::Group, _) => format!("Group {}", plain(&grounds.subject)),
        _ => format!("User {}", plain(&grounds.subject)),
    }
}

pub(super) fn subject_json(grounds: &Grounds) -> Value {
    match (grounds.kind, account(grounds)) {
        (SubjectKind::ServiceAccount, Some((namespace, name))) => {
            json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
        }
        (SubjectKind::Group, _) => json!({"kind": "Group", "name": &*grounds.subject}),
        _ => json!({"kind": "User", "name": &*grounds.subject}),
    }
}

fn account(grounds: &Grounds) -> Option<(&str, &str)> {
    grounds.subject.strip_prefix("system:serviceaccount:")?.split_once(':')
}

/// The members `binding` and `role`.
pub(super) fn binding_json(binding: &BindingName) -> serde_json::Map<String, Value> {
    let named = |kind: &str, namespace: Option<&str>, name: &str| match namespace {
        Some(namespace) => json!({"kind": kind, "namespace": namespace, "name": name}),
        None => json!({"kind": kind, "name": name}),
    };
    let role = &binding.role;
    let members = [
        ("binding", named(binding.kind(), binding.namespace.as_deref(), &binding.name)),
        ("role", named(role.kind(), role.namespace.as_deref(), &role.name)),
    ];
    members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `VERB WHAT [NAME] [--subresource S] [-n N]`, as a person types it.
    fn asked(line: &str) -> Result<Asked, String> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            question: Question,
        }
        let line = <Line as clap::Parser>::try_parse_from(["x"].into_iter().chain(line.split(' '))).unwrap();
        line.question.asked().map_err(|e| e.to_string())
    }

    #[test]
    fn questions() {
        for (line, expected) in [
            ("get pods", "get pods at the cluster scope"),
            ("get pods -A", "get pods at the cluster scope"),
            ("get pods -n shop", "get pods in namespace shop"),
            ("delete pods web-0 -n shop", "delete pods web-0 in namespace shop"),
            ("delete pod/web-0 -n shop", "delete pods web-0 in namespace shop"),
            ("get po/exec -n shop", "get pods/exec in namespace shop"),
            ("get pods/exec web-0 -n shop", "get pods/exec web-0 in namespace shop"),
            ("get pods/exec --subresource log -n shop", "get pods/log exec in namespace shop"),
            ("get pods web-0 --subresource log -n shop", "get pods/log web-0 in namespace shop"),
            ("get deploy -n a", "get deployments.apps in namespace a"),
            ("get Deployment -n a", "get deployments.apps in namespace a"),
            ("get deployments.apps -n a", "get deployments.apps in namespace a"),
            ("get deployments.v1.apps/scale -n a", "get deployments.apps/scale in namespace a"),
            ("get deploy.apps/web -n a", "get deployments.apps web in namespace a"),
            ("get ingress -n a", "get ingresses.networking.k8s.io in namespace a"),
            ("get netpol -n a", "get networkpolicies.networking.k8s.io in namespace a"),
            ("get widgets.v1beta2.example.com w", "get widgets.example.com w at the cluster scope"),
            ("get widgets. w", "get widgets w at the cluster scope"),
            ("get pods.v1", "get pods at the cluster scope"),
            ("get vans.v8.com", "get vans.com at the cluster scope"),
            ("get vans.vw.com", "get vans.vw.com at the cluster scope"),
            ("get nodes n1 -n a", "get nodes n1 at the cluster scope"),
            ("delete ns shop", "delete namespaces shop"),
            ("create pods web-0 -n a", "create pods in namespace a"),
            ("create pods/exec web-0 -n a", "create pods/exec web-0 in namespace a"),
            ("impersonate users alice", "impersonate users alice at the cluster scope"),
            (
                "impersonate userextras.authentication.k8s.io/scopes dev",
                "impersonate userextras.authentication.k8s.io/scopes dev at the cluster scope",
            ),
            ("* *", "* *.* at the cluster scope"),
            ("get /metrics", "get /metrics"),
        ] {
            assert_eq!(asked(line).map(|a| a.to_string()), Ok(expected.to_owned()), "{line}");
        }
        for (line, expected) in [
            ("Get pods", r#"the verb "Get": expected one in lower case, as get or delete"#),
            (
                "get widgets",
                r#""widgets" is no resource that every cluster has: say its API group, as in widgets.example.com"#,
            ),
            ("get .apps", r#"".apps": expected a resource, as pods or deployments.apps"#),
            ("get /metrics -n a", "the path /metrics: a path has no name, no subresource and no namespace"),
            ("get pods/a b --subresource log", "pods/a: two names are given besides the subresource"),
        ] {
            assert_eq!(asked(line).map(|a| a.to_string()), Err(expected.to_owned()), "{line}");
        }
    }

    #[test]
    fn a_namespace_is_in_itself() {
        let Ok(Asked { what: What::Resource { namespace, .. }, .. }) = asked("delete namespaces shop") else {
            panic!("not a resource")
        };
        assert_eq!(namespace, "shop");
    }

    #[test]
    fn streams_take_create_besides() {
        for (line, also) in [
            ("get pods/exec -n a", true),
            ("get pods/portforward -n a", true),
            ("create pods/exec -n a", false),
            ("get pods/log -n a", false),
            ("get nodes/proxy", false),
        ] {
            assert_eq!(asked(line).unwrap().also().is_some_and(|a| a.verb == "create"), also, "{line}");
        }
    }
}
