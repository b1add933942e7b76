//! What `explain` and `who-can` are asked, as kubectl auth can-i takes it, and by which rules.
//!
//! There is no cluster to ask what a name means: what every cluster has is known here, of all else the API group must be said.

use super::{misconfigured, socket, usage};
use crate::{
    authz::{
        self, Authz, Live,
        explain::{Asked, BadQuestion, Grant, Named, Question as Posed},
    },
    config, reload,
};
use anyhow::{anyhow, bail};
use serde::de::DeserializeOwned;
use std::{fmt::Display, path::PathBuf, process::ExitCode, sync::Arc};

/// By which rules.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("source").args(["config", "rbac", "socket"]).required(true))]
pub(super) struct Source {
    /// A gate's configuration: the files that it names are read, now, and no gate is asked
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rbac", "socket"])]
    config: Option<PathBuf>,
    /// Manifests of roles and bindings, or a folder of them; may be given more than once
    #[arg(long, value_name = "FILE|DIR", conflicts_with = "socket")]
    rbac: Vec<PathBuf>,
    /// The `admin.socket` of a gate that runs: it answers by the rules that it decides by, the cluster's own among them
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Without the roles and bindings that every cluster starts with
    #[arg(long, conflicts_with_all = ["config", "socket"])]
    no_bootstrap: bool,
}

/// Why a configuration's files do not tell what the gate does.
const ONLY_LIVE: &str =
    "the cluster's own rules count as well, which only the running gate knows: ask it by --socket";

/// How a question is answered from files.
type Answerer<T> = fn(&Authz, &Posed) -> Result<T, BadQuestion>;

impl Source {
    /// The answer of a gate, or `by_files`. The inner error: said already. Warnings go to standard error.
    pub(super) fn ask<T: DeserializeOwned>(
        self,
        what: &str,
        question: &Posed,
        by_files: Answerer<T>,
    ) -> Result<Result<T, ExitCode>, super::Failure> {
        if let Some(path) = &self.socket {
            return socket::ask(path, what, question).map(Ok);
        }
        let (authz, warnings) = match &self.config {
            Some(path) => {
                let rules = config::load(path).and_then(|config| {
                    let only_live = config.authz.cluster.is_some().then(|| Live::Unknown(ONLY_LIVE.into()));
                    let rules = reload::rules(path, &config.authz, None).map_err(config::Errors)?;
                    let candidate = reload::candidate(path, &config.authz, None).map_err(config::Errors)?;
                    let both = rules.warnings.iter().chain(&*candidate.warnings);
                    let warnings: Arc<[String]> = both.cloned().collect();
                    Ok((rules.made.authz(&candidate.made, &only_live.unwrap_or_default()), warnings))
                });
                match rules {
                    Ok(rules) => rules,
                    Err(errors) => return Ok(Err(misconfigured(&errors))),
                }
            }
            None => {
                let from = authz::Config {
                    paths: self.rbac,
                    bootstrap: !self.no_bootstrap,
                    ..authz::Config::default()
                };
                let read = from.read().map_err(lines);
                let loaded = read.and_then(|manifests| manifests.rules().map_err(lines)).map_err(usage)?;
                (Arc::new(Authz::new(loaded.rules, authz::Tell::default())), loaded.warnings.into())
            }
        };
        for warning in warnings.iter() {
            eprintln!("gatelog: {warning}");
        }
        by_files(&authz, question).map(Ok).map_err(usage)
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
    /// What is meant, and what of it was not taken as it stood.
    pub(super) fn asked(self) -> Result<(Asked, Vec<&'static str>), anyhow::Error> {
        let Self { verb, what, name, subresource, namespace, .. } = self;
        if verb.is_empty() || verb.chars().any(char::is_uppercase) {
            bail!("the verb {verb:?}: expected one in lower case, as get or delete");
        }
        if what.starts_with('/') {
            if name.is_some() || subresource.is_some() || namespace.is_some() {
                bail!("the path {what}: a path has no name, no subresource and no namespace");
            }
            return Ok((Asked::Path { verb, path: what }, Vec::new()));
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
        Ok((Asked::Resource { verb, group, resource, subresource, namespace, name }, notes))
    }
}

/// `delete pods web-0 in namespace shop`.
pub(super) fn sentence(asked: &Asked) -> String {
    let (verb, group, resource, subresource, namespace, name) = match asked {
        Asked::Path { verb, path } => return format!("{} {}", plain(verb), plain(path)),
        Asked::Resource { verb, group, resource, subresource, namespace, name } => {
            (verb, group, resource, subresource, namespace, name)
        }
    };
    let mut text = format!("{} {}", plain(verb), plain(resource));
    for (before, word) in [(".", group), ("/", subresource), (" ", name)] {
        if !word.is_empty() {
            text.push_str(before);
            text.push_str(&plain(word));
        }
    }
    match (&**namespace, &**resource) {
        (_, "namespaces") => {}
        ("", _) => text.push_str(" at the cluster scope"),
        (namespace, _) => text.push_str(&format!(" in namespace {}", plain(namespace))),
    }
    text
}

/// A word for a terminal.
pub(super) fn plain(word: &str) -> String {
    let harmless = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
    if !word.is_empty() && word.chars().all(harmless) { word.to_owned() } else { format!("{word:?}") }
}

/// `ClusterRole view`, `RoleBinding shop/demo:developers`, `ServiceAccount shop/app`, `Group demo:developers`.
pub(super) fn object(named: &Named) -> String {
    let name = plain(&named.name);
    match &named.namespace {
        Some(namespace) => format!("{} {}/{name}", named.kind, plain(namespace)),
        None => format!("{} {name}", named.kind),
    }
}

/// ` (from files)` where there are two sources, else nothing.
pub(super) fn of_source(source: Option<authz::Source>) -> String {
    source.map_or_else(String::new, |source| format!(" ({source})"))
}

/// A line about denials that are not carried out.
pub(super) fn observed(mode: authz::Mode, enforced: bool) -> &'static str {
    match (mode, enforced) {
        (authz::Mode::Enforce, _) => "",
        (authz::Mode::Observe, false) => "mode observe: a denial of this is recorded, and NOT refused\n",
        (authz::Mode::Observe, true) => "mode observe, but a denial of this is refused all the same\n",
    }
}

/// Subject, binding and role.
pub(super) fn row(grant: &Grant) -> [String; 3] {
    [object(&grant.subject), object(&grant.binding), object(&grant.role) + &of_source(grant.source)]
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
        line.question.asked().map(|(asked, _)| asked).map_err(|e| e.to_string())
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
            assert_eq!(asked(line).map(|a| sentence(&a)), Ok(expected.to_owned()), "{line}");
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
            assert_eq!(asked(line).map(|a| sentence(&a)), Err(expected.to_owned()), "{line}");
        }
    }

    #[test]
    fn a_namespace_is_in_itself() {
        let Ok(Asked::Resource { namespace, .. }) = asked("delete namespaces shop") else {
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
