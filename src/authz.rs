//! May they: the only maker of [`Permit`].
//!
//! [`Authz::impersonate`] turns who authenticated into who acts, each header of theirs authorized; [`Authz::authorize`]
//! then decides on the request itself. Both ask the same rules, and nothing that is missing or unknown becomes a yes.

pub mod explain;
mod live;
mod refusal;
mod rehearsal;
pub mod selfreview;
pub mod source;
#[cfg(test)]
mod tests;

pub use live::{Live, OnLoss, Source};
pub use refusal::{Denial, Explain, Refused, Tell};
pub use rehearsal::Rehearsed;
pub use source::{Cluster, Config, Loaded, Manifests, Shadow, Unreadable, bootstrap};

use crate::{
    authn::Authenticated,
    headers::{self, Class},
    identity::{Impersonation, User},
    rbac::{Decision, Grounds, Missing, Near, Rules},
    request::{Asked, Attributes, Object, RequestInfo},
    streams::Right,
};
use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// The caller, after impersonation has been authorized.
#[derive(Debug, Clone)]
pub struct Who {
    effective: Arc<User>,
    proven: Authenticated,
    impersonation: Option<Impersonation>,
    rehearsed: Rehearsed,
}

impl Who {
    /// The identity that is authorized and sent upstream.
    pub fn effective(&self) -> &Arc<User> {
        &self.effective
    }
    /// The identity that authenticated.
    pub fn proven(&self) -> &Authenticated {
        &self.proven
    }
    /// What the caller asked to be.
    pub fn impersonation(&self) -> Option<&Impersonation> {
        self.impersonation.as_ref()
    }
    /// The effective identity, if it is not the caller's own.
    pub fn impersonated(&self) -> Option<&Arc<User>> {
        self.impersonation.as_ref().map(|_| &self.effective)
    }
}

/// Leave to forward exactly one request; owns what will be sent. Holds no rules: a watch of hours must not keep old ones
/// alive.
#[derive(Debug)]
pub struct Permit {
    who: Who,
    asked: Asked,
    why: Why,
    rehearsed: Rehearsed,
}

impl Permit {
    /// As whom.
    pub fn who(&self) -> &Who {
        &self.who
    }
    /// What.
    pub fn asked(&self) -> &Asked {
        &self.asked
    }
    /// Why; for the record.
    pub fn why(&self) -> &Why {
        &self.why
    }
    /// What the candidate says to it.
    pub fn rehearsed(&self) -> &Rehearsed {
        &self.rehearsed
    }
}

/// Why something is allowed. Rendered where it is wanted, in kube-apiserver's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The caller is a member of `system:masters`; kube-apiserver gives no reason then.
    Master,
    /// `RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "r" to User "u"`; where there are rules of both sources, which of
    /// them it is.
    Rbac(Grounds, Option<Source>),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Master => Ok(()),
            Self::Rbac(grounds, None) => grounds.fmt(f),
            Self::Rbac(grounds, Some(source)) => write!(f, "{grounds} ({source})"),
        }
    }
}

/// Why a request is let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The rules allow it.
    Allowed(Reason),
    /// They do not, but the gate only observes: this is the refusal that is not carried out.
    Observed(Arc<Refused>),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed(reason) => reason.fmt(f),
            Self::Observed(refused) => write!(f, "observed: {}", refused.reason),
        }
    }
}

/// Whether refusals of the rules are carried out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They are.
    #[default]
    Enforce,
    /// They are recorded, and the request is forwarded. Impersonation and the rights of streams are enforced all the same.
    Observe,
}

/// The rules of one snapshot.
#[derive(Debug)]
pub struct Authz {
    files: Arc<Rules>,
    cluster: Live,
    /// The candidate: a whole rule set of its own.
    shadow: Option<Box<Self>>,
    mode: Mode,
    tell: Tell,
}

impl Authz {
    /// Decides by `files`, and says as much as `tell`.
    pub fn new(files: impl Into<Arc<Rules>>, tell: Tell) -> Self {
        Self { files: files.into(), cluster: Live::Off, shadow: None, mode: Mode::default(), tell }
    }

    /// Decides by the cluster's rules as well: what either allows is allowed.
    #[must_use]
    pub fn with_cluster(self, cluster: Live) -> Self {
        Self { cluster, ..self }
    }

    /// Asks a candidate beside the rules that count: it stands for all of them, those of the cluster as well.
    #[must_use]
    pub fn with_shadow(self, shadow: Option<Arc<Rules>>) -> Self {
        let shadow = shadow.map(|rules| Self::new(rules, Tell::default()).into());
        Self { shadow, ..self }
    }

    /// Carries refusals out, or not.
    #[must_use]
    pub fn with_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// What it decides by, and where that is from.
    pub fn rules(&self) -> impl Iterator<Item = (Source, &Arc<Rules>)> {
        let cluster = self.cluster.known().map(|rules| (Source::Cluster, rules));
        [(Source::Files, &self.files)].into_iter().chain(cluster)
    }

    /// Consumes the caller's `Impersonate-*` headers, and any other identity header that should still be there. Each header
    /// is authorized as the proven user; the first that is not allowed refuses the request.
    ///
    /// # Errors
    /// 403, or 400 for headers that cannot be understood.
    pub fn impersonate(&self, proven: Authenticated, headers: &mut HeaderMap) -> Result<Who, Refused> {
        let wanted = Impersonation::parse(headers).map_err(Refused::malformed)?;
        let identity: Vec<HeaderName> =
            headers.keys().filter(|n| headers::class(n) == Class::Identity).cloned().collect();
        for name in identity {
            headers.remove(name);
        }
        let Some(wanted) = wanted else {
            let (effective, rehearsed) = (Arc::clone(proven.user()), Rehearsed::Unasked);
            return Ok(Who { effective, proven, impersonation: None, rehearsed });
        };
        let user = proven.user();
        // As many as there are values, which `parse` has bounded.
        for check in wanted.checks() {
            self.allows(user, check).map_err(|why| Refused {
                impersonation: Some(header_of(check)),
                rehearsed: self.rehearse_impersonation(user, &wanted, Some((check, &why))),
                ..Refused::forbidden(user.name(), check, &why, &self.tell)
            })?;
        }
        let rehearsed = self.rehearse_impersonation(user, &wanted, None);
        let effective = wanted.effective().map_err(|e| Refused::malformed(e.to_string()))?;
        Ok(Who { effective, proven, impersonation: Some(wanted), rehearsed })
    }

    /// Decides. `upgrade`: the request asks to switch protocols.
    ///
    /// exec, attach and portforward into a pod need `create` besides the verb of their method, and so does an upgrade on
    /// nodes/proxy, behind which the kubelet's exec lies: else a right to `get` would be one to run commands.
    ///
    /// What is refused while the gate only observes gets a permit, but for what [`Authz::enforces`].
    ///
    /// # Errors
    /// 403.
    pub fn authorize(&self, who: Who, asked: Asked, upgrade: bool) -> Result<Permit, Refused> {
        let decided = self.decide(&who.effective, &asked.info, upgrade);
        let rehearsed = self.rehearse(&who.effective, &asked.info, upgrade, &decided);
        let why = match decided {
            Ok(reason) => Why::Allowed(reason),
            Err((question, why)) => {
                let refused = Refused {
                    impersonated: who.impersonated().cloned(),
                    ..Refused::forbidden(who.effective.name(), question, &why, &self.tell)
                };
                if self.enforces(asked.info.attributes(), upgrade) {
                    return Err(Refused { rehearsed, ..refused });
                }
                // The one refusal that is not carried out.
                Why::Observed(refused.into())
            }
        };
        Ok(Permit { who, asked, why, rehearsed })
    }

    /// Whether everything that was allowed for a stream still is; the error says what is not.
    ///
    /// # Errors
    /// No longer allowed.
    pub fn still_allows(&self, right: &Right) -> Result<(), String> {
        let checks = right.impersonation.iter().flat_map(Impersonation::checks);
        for check in checks {
            self.allows(&right.proven, check)
                .map_err(|why| format!("may no longer send {}: {why}", header_of(check)))?;
        }
        match self.decide(&right.effective, &right.info, right.upgrade) {
            Err((_, why)) if self.enforces(right.info.attributes(), right.upgrade) => Err(why.to_string()),
            _ => Ok(()),
        }
    }

    /// The error names what of it is not allowed.
    fn decide<'a>(
        &self,
        user: &User,
        info: &'a RequestInfo,
        upgrade: bool,
    ) -> Result<Reason, (Attributes<'a>, Denial)> {
        self.decide_on(user, info.attributes(), upgrade)
    }

    fn decide_on<'a>(
        &self,
        user: &User,
        question: Attributes<'a>,
        upgrade: bool,
    ) -> Result<Reason, (Attributes<'a>, Denial)> {
        let also = needs_create(question, upgrade).then_some(Attributes { verb: "create", ..question });
        let created = also.map_or(Ok(()), |also| self.allows(user, also).map(drop));
        let (what, mut why, verbs) = match (self.allows(user, question), also, created) {
            (Ok(reason), _, Ok(())) => return Ok(reason),
            (Ok(_), also, Err(mut why)) => {
                why.add_first(&format!("opening a stream takes create besides {}", question.verb));
                (also.unwrap_or(question), why, vec!["create"])
            }
            (Err(why), _, Ok(())) => (question, why, vec![question.verb]),
            (Err(why), _, Err(_)) => (question, why, vec![question.verb, "create"]),
        };
        if refusal::connects(question) {
            why.add(&refusal::ask_for(&verbs, question));
        }
        Err((what, why))
    }

    /// Whether a denial of this question is carried out: always, unless the mode is to observe. Even then what opens a tunnel is
    /// enforced; a watch or a log is not one, however it is carried.
    pub fn enforces(&self, asked: Attributes<'_>, upgrade: bool) -> bool {
        self.mode == Mode::Enforce || opens_tunnel(asked, upgrade)
    }

    /// The bare question, for streams that are decided again later. The error says why not.
    ///
    /// # Errors
    /// Not allowed.
    pub fn allows(&self, user: &User, asked: Attributes<'_>) -> Result<Reason, Denial> {
        if let Some(reason) = self.reason(user, asked) {
            return Ok(reason);
        }
        Err(self.denial(user, asked))
    }

    /// Why what no rules allow is not allowed.
    fn denial(&self, user: &User, asked: Attributes<'_>) -> Denial {
        let (name, groups) = (user.name(), user.groups());
        let (mut missing, mut nearest, mut others) = (Missing::default(), None, Vec::new());
        for (source, rules) in self.rules() {
            let source = self.told(source);
            missing = missing.and(rules.missing(name, groups, asked));
            let near = refusal::sourced(rules.nearest(name, groups, asked), source);
            nearest = Some(match nearest {
                Some(known) => Near::nearer(known, near),
                None => near,
            });
            others.push((source, rules.others(asked, refusal::OTHERS)));
        }
        Denial {
            missing: missing.to_string(),
            nearest: nearest.map_or_else(String::new, |near| near.text),
            others: refusal::who_may(others),
            unknown: self.cluster.unknown().cloned(),
        }
    }

    /// The source, where there are two.
    fn told(&self, source: Source) -> Option<Source> {
        (self.cluster != Live::Off).then_some(source)
    }

    /// Why it is allowed, if it is.
    fn reason(&self, user: &User, asked: Attributes<'_>) -> Option<Reason> {
        if user.is_master() {
            return Some(Reason::Master);
        }
        self.rules().find_map(|(source, rules)| match rules.decide(user.name(), user.groups(), asked) {
            Decision::Allow(grounds) => Some(Reason::Rbac(grounds, self.told(source))),
            Decision::Deny => None,
        })
    }
}

/// Whether the request opens a stream that takes `create` besides its own verb.
pub(crate) fn needs_create(asked: Attributes<'_>, upgrade: bool) -> bool {
    let Object::Resource { group: "", resource, subresource, .. } = asked.object else { return false };
    let stream = match (resource, subresource) {
        ("pods", "exec" | "attach" | "portforward") => true,
        ("nodes", "proxy") => upgrade,
        _ => false,
    };
    stream && asked.verb != "create"
}

/// Whether bytes go through unseen once this is allowed. Exec and its kin do by name alone: aggregated APIs have the same
/// subresources. Behind `create` on nodes/proxy the kubelet runs commands, without an upgrade as well.
fn opens_tunnel(asked: Attributes<'_>, upgrade: bool) -> bool {
    match asked.object {
        Object::Resource { subresource: "exec" | "attach" | "portforward", .. } => true,
        Object::Resource { group: "", resource: "nodes", subresource: "proxy", .. } => {
            upgrade || asked.verb == "create"
        }
        Object::Resource { group: "", resource: "pods", subresource: "log", .. } => false,
        Object::Resource { subresource, .. } => upgrade && !(asked.verb == "watch" && subresource.is_empty()),
        Object::Path(_) => upgrade,
    }
}

/// The header that led to an impersonation check, as a person would write it.
fn header_of(check: Attributes<'_>) -> String {
    match check.object {
        Object::Resource { resource: "groups", name, .. } => format!("Impersonate-Group: {name}"),
        Object::Resource { resource: "uids", name, .. } => format!("Impersonate-Uid: {name}"),
        Object::Resource { resource: "userextras", subresource, name, .. } => {
            format!("Impersonate-Extra-{subresource}: {name}")
        }
        Object::Resource { resource: "serviceaccounts", namespace, name, .. } => {
            format!("Impersonate-User: system:serviceaccount:{namespace}:{name}")
        }
        Object::Resource { name, .. } => format!("Impersonate-User: {name}"),
        Object::Path(path) => path.to_owned(),
    }
}
