//! Questions to the rules with nothing behind them that would be forwarded: may they, and why or why not; who may.
//!
//! [`Authz::explain`] and [`Authz::who_can`] ask what requests are decided by, so that they cannot tell anything else. Questions
//! and answers are JSON: what `gatelog explain -o json` prints is what a running gate answers.

use super::{Authz, Denial, Mode, Reason, Source, needs_create};
use crate::{
    identity::{Impersonation, MASTERS, User, add_authenticated},
    rbac::{self, BindingName, Grounds, Rules, SubjectKind},
    request::{Attributes, Object},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

#[cfg(test)]
mod tests;

/// Who, and what; empty is not given. Either a `resource` or a `path`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Question {
    /// The user; none for who may.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// As kube-apiserver would take them from impersonation headers: what it adds is added.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// RBAC does not look at it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// RBAC does not look at it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
    /// As rules name it.
    pub verb: String,
    /// The API group; empty is the core group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The plural.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// As exec or log.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
    /// Empty: the cluster's scope, or all namespaces at once.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The object's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// A path outside the resources, as `/metrics`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
}

/// What was asked, without for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[allow(missing_docs)]
pub enum Asked {
    /// A path outside the resources.
    Path { verb: String, path: String },
    /// See [`Question`].
    Resource {
        verb: String,
        group: String,
        resource: String,
        subresource: String,
        namespace: String,
        name: String,
    },
}

/// May they?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// Who.
    pub user: String,
    /// Those that count, with what kube-apiserver adds.
    pub groups: Vec<String>,
    /// What.
    pub asked: Asked,
    /// Whether denials are carried out.
    pub mode: Mode,
    /// Whether a denial of this is.
    pub enforced: bool,
    /// By the rules that count.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// By those that are rehearsed, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Verdict>,
}

/// A decision and its reasons.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The decision.
    pub allowed: bool,
    /// They are a member of `system:masters`, who need no rule.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub masters: bool,
    /// What allows it: one for each thing that had to be allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<Grant>,
    /// Why not.
    #[serde(flatten)]
    pub denied: Option<Denied>,
}

/// Why not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Denied {
    /// The verb that was not allowed, which may be one that is needed besides.
    pub refused_verb: String,
    /// Roles bound to the user that nearly allowed it, the nearest first.
    pub near_misses: Vec<Near>,
    /// In one sentence.
    #[serde(default)]
    pub nearest: String,
    /// Roles that bindings of the user refer to and that do not exist.
    pub missing: String,
    /// A few who may instead, and by which roles, in one sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub others: String,
    /// Why rules that should have been asked are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

/// A binding that gives somebody a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The binding.
    pub binding: Named,
    /// The role it refers to.
    pub role: Named,
    /// Whom it names.
    pub subject: Named,
    /// The rule's position in the role, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// The rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// Where it is from, where there are rules of both sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// A role that came near.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Near {
    /// The binding.
    pub binding: Named,
    /// The role it refers to.
    pub role: Named,
    /// How it falls short.
    pub text: String,
    /// Where it is from, where there are rules of both sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// An object or a subject.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Named {
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub name: String,
}

/// What a rule says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Rule {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verbs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

/// Who may?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// What.
    pub asked: Asked,
    /// Whether denials are carried out.
    pub mode: Mode,
    /// Whether a denial of this is.
    pub enforced: bool,
    /// Who needs no rule.
    pub always: Vec<Named>,
    /// Everybody who is named by a binding, sorted.
    pub may: Vec<Grant>,
    /// Why rules that should have been asked are not known: there may be more who may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// By the rules that are rehearsed, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Vec<Grant>>,
}

/// A question that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadQuestion(String);

impl Authz {
    /// Decides as for a request, and says why.
    ///
    /// # Errors
    /// A question that is none.
    pub fn explain(&self, question: &Question) -> Result<Explained, BadQuestion> {
        let asked = question.asked()?;
        let user = question.user()?;
        let rehearsed = self.shadow.as_ref().map(|candidate| candidate.verdict(&user, &asked));
        Ok(Explained {
            user: user.name().to_owned(),
            groups: user.groups().to_vec(),
            mode: self.mode,
            enforced: self.enforces(asked.attributes(), false),
            verdict: self.verdict(&user, &asked),
            shadow: rehearsed,
            asked,
        })
    }

    /// Everybody who may all that it takes, by what bindings name: users, groups and service accounts. Who is in a group, the
    /// rules do not know; who has the parts of it only by being in two groups is not there.
    ///
    /// # Errors
    /// A question that is none.
    pub fn who_can(&self, question: &Question) -> Result<Allowed, BadQuestion> {
        let asked = question.asked()?;
        if !question.user.is_empty() || !question.groups.is_empty() {
            return Err(BadQuestion(
                "who may is asked for nobody: expected no user and no groups".to_owned(),
            ));
        }
        Ok(Allowed {
            mode: self.mode,
            enforced: self.enforces(asked.attributes(), false),
            always: vec![Named { kind: "Group".to_owned(), namespace: None, name: MASTERS.to_owned() }],
            may: self.all(&asked),
            unknown: self.cluster.unknown().map(|why| why.to_string()),
            shadow: self.shadow.as_ref().map(|candidate| candidate.all(&asked)),
            asked,
        })
    }

    fn verdict(&self, user: &User, asked: &Asked) -> Verdict {
        let mut verdict = Verdict { allowed: true, ..Verdict::default() };
        for question in [Some(asked.attributes()), asked.also()].into_iter().flatten() {
            match self.allows(user, question) {
                Ok(Reason::Master) => verdict.masters = true,
                Ok(Reason::Rbac(grounds, source)) => {
                    let rules = self.rules().find(|(of, _)| *of == source.unwrap_or(Source::Files));
                    let rule = rules.and_then(|(_, rules)| rules.rule(&grounds)).map(Rule::from);
                    verdict.by.push(Grant { index: Some(grounds.rule), rule, ..grant(&grounds, source) });
                }
                Err(denial) => {
                    let denied = Some(self.denied(user, question, denial));
                    return Verdict { denied, ..Verdict::default() };
                }
            }
        }
        verdict
    }

    fn denied(&self, user: &User, question: Attributes<'_>, denial: Denial) -> Denied {
        let near = self.rules().flat_map(|(source, rules)| {
            let near = rules.near_misses(user.name(), user.groups(), question);
            near.into_iter().map(move |near| (source, near))
        });
        let mut near: Vec<_> = near.collect();
        near.sort_by_key(|(_, near)| near.distance);
        let near = near.into_iter().map(|(source, near)| {
            let (binding, role) = named(&near.binding);
            Near { binding, role, text: near.text, source: self.told(source) }
        });
        Denied {
            refused_verb: question.verb.to_owned(),
            near_misses: near.collect(),
            nearest: denial.nearest,
            missing: denial.missing,
            others: denial.others,
            unknown: denial.unknown.map(|why| why.to_string()),
        }
    }

    fn all(&self, asked: &Asked) -> Vec<Grant> {
        let who = |question: Attributes<'_>| -> Vec<(Source, Grounds)> {
            let each = |(source, rules): (Source, &Arc<Rules>)| {
                rules.who_can(question).into_iter().map(move |grounds| (source, grounds)).collect::<Vec<_>>()
            };
            self.rules().flat_map(each).collect()
        };
        let first = who(asked.attributes());
        let found = match asked.also() {
            Some(also) => both(first, who(also)),
            None => first,
        };
        let mut found: Vec<(SubjectKind, Grant)> =
            found.iter().map(|(source, g)| (g.kind, grant(g, self.told(*source)))).collect();
        found.sort_by(|(kind, a), (other, b)| {
            (kind, &a.subject, &a.binding).cmp(&(other, &b.subject, &b.binding))
        });
        found.into_iter().map(|(_, grant)| grant).collect()
    }
}

/// Who may one thing and the other: by name, or by a group that everybody of that name is in.
fn both(first: Vec<(Source, Grounds)>, second: Vec<(Source, Grounds)>) -> Vec<(Source, Grounds)> {
    type Subjects = BTreeSet<(bool, Arc<str>)>;
    let key = |g: &Grounds| (g.kind == SubjectKind::Group, Arc::clone(&g.subject));
    let of = |found: &[(Source, Grounds)]| -> Subjects { found.iter().map(|(_, g)| key(g)).collect() };
    let (one, two) = (of(&first), of(&second));
    let has = |set: &Subjects, g: &Grounds| {
        set.contains(&key(g)) || implied(g).into_iter().any(|group| set.contains(&(true, group.into())))
    };
    let first = first.into_iter().filter(|(_, g)| has(&two, g));
    let by_second = second.into_iter().filter(|(_, g)| !one.contains(&key(g)) && has(&one, g));
    first.chain(by_second).collect()
}

/// The groups that everybody is in who is called this, or is in this group.
fn implied(grounds: &Grounds) -> Vec<String> {
    if grounds.kind == SubjectKind::Group {
        let mut groups = vec![grounds.subject.to_string()];
        if grounds.subject.starts_with("system:serviceaccounts:") {
            groups.push("system:serviceaccounts".to_owned());
        }
        add_authenticated("", &mut groups);
        return groups;
    }
    let user = grounds.subject.to_string();
    let user = Impersonation { user, uid: None, groups: Vec::new(), extra: BTreeMap::new() };
    user.effective().map(|user| user.groups().to_vec()).unwrap_or_default()
}

fn grant(grounds: &Grounds, source: Option<Source>) -> Grant {
    let (binding, role) = named(&grounds.binding);
    let account =
        grounds.subject.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    let (kind, namespace, name) = match (grounds.kind, account) {
        (SubjectKind::ServiceAccount, Some((namespace, name))) => ("ServiceAccount", Some(namespace), name),
        (SubjectKind::Group, _) => ("Group", None, &*grounds.subject),
        _ => ("User", None, &*grounds.subject),
    };
    let subject =
        Named { kind: kind.to_owned(), namespace: namespace.map(str::to_owned), name: name.to_owned() };
    Grant { binding, role, subject, index: None, rule: None, source }
}

/// The binding, and the role it refers to.
fn named(binding: &BindingName) -> (Named, Named) {
    let named = |kind: &str, namespace: &Option<Arc<str>>, name: &str| Named {
        kind: kind.to_owned(),
        namespace: namespace.as_deref().map(str::to_owned),
        name: name.to_owned(),
    };
    let role = &binding.role;
    (
        named(binding.kind(), &binding.namespace, &binding.name),
        named(role.kind(), &role.namespace, &role.name),
    )
}

// === impl Question ===

impl Question {
    /// What it is about.
    ///
    /// # Errors
    /// No verb, neither a resource nor a path or both, or a path with what only a resource has.
    pub fn asked(&self) -> Result<Asked, BadQuestion> {
        let bad = |text: &str| Err(BadQuestion(text.to_owned()));
        if self.verb.is_empty() {
            return bad("verb: is missing");
        }
        let of_resource = [&self.group, &self.subresource, &self.namespace, &self.name];
        match (&*self.resource, &*self.path) {
            ("", "") => bad("expected a resource or a path"),
            ("", path) if !path.starts_with('/') => bad("path: expected one that begins with /"),
            ("", _) if of_resource.iter().any(|member| !member.is_empty()) => {
                bad("a path has no group, no subresource, no namespace and no name")
            }
            ("", path) => Ok(Asked::Path { verb: self.verb.clone(), path: path.to_owned() }),
            (resource, "") => Ok(Asked::Resource {
                verb: self.verb.clone(),
                group: self.group.clone(),
                resource: resource.to_owned(),
                subresource: self.subresource.clone(),
                namespace: self.namespace.clone(),
                name: self.name.clone(),
            }),
            _ => bad("expected either a resource or a path"),
        }
    }

    /// For whom.
    fn user(&self) -> Result<Arc<User>, BadQuestion> {
        let who = Impersonation {
            user: self.user.clone(),
            uid: (!self.uid.is_empty()).then(|| self.uid.clone()),
            groups: self.groups.clone(),
            extra: self.extra.clone(),
        };
        who.effective().map_err(|error| BadQuestion(error.to_string()))
    }
}

impl Asked {
    /// As the rules are asked.
    pub fn attributes(&self) -> Attributes<'_> {
        match self {
            Self::Path { verb, path } => Attributes { verb, object: Object::Path(path) },
            Self::Resource { verb, group, resource, subresource, namespace, name } => Attributes {
                verb,
                object: Object::Resource { group, version: "", resource, subresource, namespace, name },
            },
        }
    }

    /// What has to be allowed besides.
    pub fn also(&self) -> Option<Attributes<'_>> {
        let asked = self.attributes();
        needs_create(asked, false).then_some(Attributes { verb: "create", ..asked })
    }

    /// What is done.
    pub fn verb(&self) -> &str {
        match self {
            Self::Path { verb, .. } | Self::Resource { verb, .. } => verb,
        }
    }

    /// The same as a question.
    pub fn question(self) -> Question {
        match self {
            Self::Path { verb, path } => Question { verb, path, ..Question::default() },
            Self::Resource { verb, group, resource, subresource, namespace, name } => {
                Question { verb, group, resource, subresource, namespace, name, ..Question::default() }
            }
        }
    }
}

impl From<&rbac::Rule> for Rule {
    fn from(rule: &rbac::Rule) -> Self {
        Self {
            verbs: rule.verbs.clone(),
            api_groups: rule.api_groups.clone(),
            resources: rule.resources.clone(),
            resource_names: rule.resource_names.clone(),
            non_resource_urls: rule.non_resource_urls.clone(),
        }
    }
}
