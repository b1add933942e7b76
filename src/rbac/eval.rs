//! A decision: one request against the rules of everyone the caller is.
//!
//! [`Rule::allows`] is what Kubernetes says, word by word; [`Rules::decide`] gives the same answer from the index
//! (a test holds the two together). There are no deny rules: the first rule that allows ends it.

use super::{
    index::{
        CLUSTER, EMPTY, Grant, Grants, RoleIndex, Rules, STAR, Scope, SubjectKind, Test, UNHEARD, Word, has,
    },
    model::{BindingName, RoleName, Rule},
};
use crate::{
    request::{Attributes, Object},
    status::push_go_quoted,
};
use std::{fmt, sync::Arc};

/// May they?
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Decision {
    /// No rule allows it.
    #[default]
    Deny,
    /// A rule does, and this is which.
    Allow(Grounds),
}

/// The rule that allowed a request. Holds names, not rules, so that it may outlive them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grounds {
    /// The binding, and in it the role.
    pub binding: Arc<BindingName>,
    /// How the binding names the caller.
    pub kind: SubjectKind,
    /// The user name or group that the binding names.
    pub subject: Arc<str>,
    /// The rule's position in the role, counted from 0.
    pub rule: usize,
}

/// In kube-apiserver's words: `RBAC: allowed by RoleBinding "readers/dev" of Role "reader" to User "bob"`.
impl fmt::Display for Grounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BindingName { namespace, name, role } = &*self.binding;
        write!(f, "RBAC: allowed by {} ", self.binding.kind())?;
        match namespace {
            Some(namespace) => Quoted([name, "/", namespace]).fmt(f)?,
            None => Quoted([name]).fmt(f)?,
        }
        write!(f, " of {} {} to ", role.kind(), Quoted([&role.name]))?;
        let account =
            self.subject.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
        match (self.kind, account) {
            (SubjectKind::ServiceAccount, Some((namespace, name))) => {
                write!(f, "ServiceAccount {}", Quoted([name, "/", namespace]))
            }
            (SubjectKind::Group, _) => write!(f, "Group {}", Quoted([&self.subject])),
            _ => write!(f, "User {}", Quoted([&self.subject])),
        }
    }
}

/// Roles that bindings of the caller refer to and that do not exist, as kube-apiserver appends them to a denial:
/// `RBAC: clusterrole.rbac.authorization.k8s.io "x" not found`. Empty if there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing(pub Vec<RoleName>);

impl Missing {
    /// Those of `other` as well, each once, the first few of them.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        other.0.iter().for_each(|role| self.add(role));
        self
    }

    fn add(&mut self, role: &RoleName) {
        if self.0.len() < MAX_MISSING && !self.0.contains(role) {
            self.0.push(role.clone());
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.0.split_first() else { return Ok(()) };
        let one = |f: &mut fmt::Formatter<'_>, role: &RoleName| {
            let kind = if role.namespace.is_some() { "role" } else { "clusterrole" };
            write!(f, "{kind}.rbac.authorization.k8s.io {} not found", Quoted([&role.name]))
        };
        f.write_str("RBAC: ")?;
        if rest.is_empty() {
            return one(f, first);
        }
        f.write_str("[")?;
        one(f, first)?;
        for role in rest {
            f.write_str(", ")?;
            one(f, role)?;
        }
        f.write_str("]")
    }
}

/// A message is no place for thousands of names.
const MAX_MISSING: usize = 16;
/// Grants of one caller that are looked through for them.
const LOOKED_AT: usize = 10_000;

impl Rule {
    /// Whether this rule alone allows `asked`, by exact and case-sensitive comparison; the namespace is not its business.
    pub fn allows(&self, asked: Attributes<'_>) -> bool {
        let any = |list: &[String], word: &str| list.iter().any(|entry| entry == "*" || entry == word);
        if !any(&self.verbs, asked.verb) {
            return false;
        }
        match asked.object {
            Object::Resource { group, resource, subresource, name, .. } => {
                any(&self.api_groups, group)
                    && self.resources.iter().any(|entry| lists_resource(entry, resource, subresource))
                    && (self.resource_names.is_empty()
                        || self.resource_names.iter().any(|entry| entry == name))
            }
            Object::Path(path) => self.non_resource_urls.iter().any(|entry| {
                entry == path || entry.ends_with('*') && path.starts_with(entry.trim_end_matches('*'))
            }),
        }
    }
}

/// Whether an entry of `resources` means `resource/subresource`.
pub(super) fn lists_resource(entry: &str, resource: &str, subresource: &str) -> bool {
    let is_subresource = |rest: &str| rest.strip_prefix('/') == Some(subresource);
    entry == "*"
        || match subresource {
            "" => entry == resource,
            _ => {
                entry.strip_prefix(resource).is_some_and(is_subresource)
                    || entry.strip_prefix('*').is_some_and(is_subresource)
            }
        }
}

impl Rules {
    /// Whether `user`, a member of `groups`, may do what is `asked`.
    pub fn decide(&self, user: &str, groups: &[String], asked: Attributes<'_>) -> Decision {
        let question = self.question(asked);
        for holder in self.holders(user, groups) {
            for scope in question.scopes() {
                if let Some((grant, rule)) = self.find(holder.grants.at(scope), &question)
                    && let Some(grounds) = self.grounds(holder.name, grant, rule)
                {
                    return Decision::Allow(grounds);
                }
            }
        }
        Decision::Deny
    }

    pub(super) fn grounds(&self, subject: &Arc<str>, grant: &Grant, rule: u32) -> Option<Grounds> {
        Some(Grounds {
            binding: Arc::clone(self.bindings.get(grant.binding as usize)?),
            kind: grant.kind,
            subject: Arc::clone(subject),
            rule: rule as usize,
        })
    }

    /// The roles missing from a denial of the same question, the first few of them.
    pub fn missing(&self, user: &str, groups: &[String], asked: Attributes<'_>) -> Missing {
        let mut missing = Missing::default();
        if !self.dangling {
            return missing;
        }
        let ghosts = self.grants(user, groups, asked).take(LOOKED_AT).filter(|(_, role)| !role.exists);
        let bindings = ghosts.filter_map(|(grant, _)| self.bindings.get(grant.binding as usize));
        bindings.for_each(|binding| missing.add(&binding.role));
        missing
    }

    /// Every role that the caller holds where `asked` would happen.
    pub(super) fn grants<'a>(
        &'a self,
        user: &str,
        groups: &[String],
        asked: Attributes<'_>,
    ) -> impl Iterator<Item = (&'a Grant, &'a RoleIndex)> {
        let scopes = self.question(asked).scopes();
        let grants = self
            .holders(user, groups)
            .flat_map(move |h| scopes.clone().flat_map(move |s| h.grants.at(s).all));
        grants.filter_map(|grant| Some((grant, self.roles.get(grant.role as usize)?)))
    }

    /// The first of these grants, all of one scope, that allows it, and by which rule.
    fn find<'a>(&'a self, grants: Grants<'a>, question: &Question<'_>) -> Option<(&'a Grant, u32)> {
        let ask = |grant: &'a Grant| {
            let rule = self.roles.get(grant.role as usize)?.allows(question)?;
            Some((grant, rule))
        };
        match self.many(grants) {
            None => grants.all.iter().find_map(ask),
            Some(many) => many
                .of(question.words(), question.is_path())
                .find_map(|i| grants.all.get(i as usize).and_then(ask)),
        }
    }

    pub(super) fn question<'a>(&self, asked: Attributes<'a>) -> Question<'a> {
        let verb = self.word(asked.verb);
        match asked.object {
            Object::Path(path) => {
                Question { verb, scope: None, what: What::Path { word: self.word(path), path } }
            }
            Object::Resource { group, resource, subresource, namespace, name, .. } => {
                let scope = if namespace.is_empty() { None } else { self.scopes.get(namespace).copied() };
                let (resource, any) = match subresource {
                    "" => (self.word(resource), UNHEARD),
                    sub => (self.joined(resource, sub), self.joined("*", sub)),
                };
                Question {
                    verb,
                    scope,
                    what: What::Resource { group: self.word(group), resource, any, name },
                }
            }
        }
    }

    pub(super) fn word(&self, text: &str) -> Word {
        // The core group, in nearly every question.
        if text.is_empty() { EMPTY } else { self.words.get(text).copied().unwrap_or(UNHEARD) }
    }

    /// The word for `resource/subresource`, put together without allocating unless it is absurdly long.
    fn joined(&self, resource: &str, subresource: &str) -> Word {
        let mut buffer = [0u8; 128];
        let len = resource.len() + 1 + subresource.len();
        let Some(place) = buffer.get_mut(..len) else {
            return self.word(&format!("{resource}/{subresource}"));
        };
        let (head, tail) = place.split_at_mut(resource.len());
        head.copy_from_slice(resource.as_bytes());
        tail[0] = b'/';
        tail[1..].copy_from_slice(subresource.as_bytes());
        std::str::from_utf8(place).map_or(UNHEARD, |text| self.word(text))
    }
}

/// A request in the words of the rules.
pub(super) struct Question<'a> {
    pub(super) verb: Word,
    /// The namespace; None outside any, or in one where nothing is granted.
    pub(super) scope: Option<Scope>,
    pub(super) what: What<'a>,
}

pub(super) enum What<'a> {
    Resource {
        group: Word,
        /// `resource` or `resource/subresource`.
        resource: Word,
        /// `*/subresource`; [`UNHEARD`] without one.
        any: Word,
        name: &'a str,
    },
    Path {
        word: Word,
        path: &'a str,
    },
}

impl Question<'_> {
    pub(super) fn scopes(&self) -> impl Iterator<Item = Scope> + Clone + use<> {
        [Some(CLUSTER), self.scope].into_iter().flatten()
    }

    pub(super) fn is_path(&self) -> bool {
        matches!(self.what, What::Path { .. })
    }

    /// What a rule that allows this must list.
    pub(super) fn words(&self) -> impl Iterator<Item = Word> + use<> {
        let words = match self.what {
            What::Resource { resource, any, .. } => [STAR, resource, any],
            What::Path { word, .. } => [word, UNHEARD, UNHEARD],
        };
        words.into_iter().filter(|&word| word != UNHEARD)
    }
}

impl RoleIndex {
    /// The first rule found that allows it.
    pub(super) fn allows(&self, question: &Question<'_>) -> Option<u32> {
        self.matching(question)
            .find(|&i| self.tests.get(i as usize).is_some_and(|test| test.passes(question)))
    }

    /// The rules that list the resource or the path, whatever else they say.
    pub(super) fn matching(&self, question: &Question<'_>) -> impl Iterator<Item = u32> {
        let (listed, prefixes, path) = match question.what {
            What::Resource { .. } => (&self.resources, &[][..], ""),
            What::Path { path, .. } => (&self.paths, &*self.prefixes, path),
        };
        let exact = question.words().flat_map(|word| listed.get(word)).map(|&(_, i)| i);
        exact.chain(prefixes.iter().filter(move |(prefix, _)| path.starts_with(&**prefix)).map(|&(_, i)| i))
    }
}

impl Test {
    pub(super) fn passes(&self, question: &Question<'_>) -> bool {
        has(&self.verbs, question.verb)
            && match &question.what {
                What::Path { .. } => true,
                What::Resource { group, name, .. } => has(&self.groups, *group) && self.means(name),
            }
    }
}

/// Go's `%q` of the parts put together.
struct Quoted<'a, const N: usize>([&'a str; N]);

impl<const N: usize> fmt::Display for Quoted<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |b: u8| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\';
        if self.0.iter().all(|part| part.bytes().all(plain)) {
            f.write_str("\"")?;
            self.0.iter().try_for_each(|part| f.write_str(part))?;
            return f.write_str("\"");
        }
        let mut quoted = String::new();
        push_go_quoted(&mut quoted, &self.0.concat());
        f.write_str(&quoted)
    }
}
