//! The other way round: not whether somebody may, but who may.

use super::{
    eval::{Grounds, Question},
    explain::cut,
    index::{CLUSTER, Rules, Scope, SubjectKind},
    model::{Plain, Rule},
};
use crate::request::Attributes;
use std::sync::Arc;

/// A few of those who may, for a refusal to name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Others {
    /// By [`Grounds::preference`].
    pub few: Vec<Grounds>,
    /// Whether there may be more.
    pub more: bool,
}

/// Roles that [`Rules::others`] looks at in one scope, grants of theirs, and grants that it chooses from.
const EXAMINED: usize = 256;
const GRANTS: usize = 4_096;
const FOUND: usize = 64;

impl Rules {
    /// Every grant that allows `asked` by itself, sorted by subject, then by binding. Of several bindings of one role to one
    /// subject in one namespace, the first. Members of `system:masters` may everything, and need no grant.
    pub fn who_can(&self, asked: Attributes<'_>) -> Vec<Grounds> {
        let question = self.question(asked);
        let scopes = question.scopes();
        let mut found: Vec<Grounds> =
            scopes.flat_map(|scope| self.allowing(&question, scope, usize::MAX).0).collect();
        found.sort_by(|a, b| order(a).cmp(&order(b)));
        found
    }

    /// At most `few` of them, and none that belong to the cluster itself: nobody can be asked to act for those. The work is
    /// bounded, so there may be others even if none is found.
    pub fn others(&self, asked: Attributes<'_>, few: usize) -> Others {
        let question = self.question(asked);
        let mut others = Others::default();
        for scope in [question.scope, Some(CLUSTER)].into_iter().flatten() {
            let (found, all) = self.allowing(&question, scope, EXAMINED);
            let mut looked = 0;
            let found = found.take(GRANTS).inspect(|_| looked += 1).filter(|grounds| !grounds.system());
            others.few.extend(found.take(FOUND.saturating_sub(others.few.len())));
            others.more |= !all || looked == GRANTS || others.few.len() == FOUND;
        }
        others.few.sort_by(|a, b| a.preference().cmp(&b.preference()));
        others.more |= others.few.len() > few;
        others.few.truncate(few);
        others
    }

    /// The rule that `grounds` of these rules are about.
    pub fn rule(&self, grounds: &Grounds) -> Option<&Rule> {
        let named = |binding: u32| {
            self.bindings.get(binding as usize).is_some_and(|b| Arc::ptr_eq(b, &grounds.binding))
        };
        let holder = self.held_by(grounds.kind, &grounds.subject)?;
        let grant = holder.grants.all.iter().find(|grant| named(grant.binding))?;
        self.roles.get(grant.role as usize)?.rules.get(grounds.rule).map(|rule| &**rule)
    }

    /// The grants in `scope` that allow it, by at most `roles` roles, and whether these were all.
    fn allowing<'a>(
        &'a self,
        question: &'a Question<'_>,
        scope: Scope,
        roles: usize,
    ) -> (impl Iterator<Item = Grounds> + 'a, bool) {
        let (bound, all) = self.bound(question, scope, roles);
        let found = bound.into_iter().filter_map(move |(role, held)| {
            let rule = self.roles.get(role as usize)?.allows(question)?;
            Some(held.iter().filter_map(move |&i| {
                let (subject, grant) = self.grant(i)?;
                self.grounds(subject, grant, rule)
            }))
        });
        (found.flatten(), all)
    }
}

impl Grounds {
    /// What helps most to know comes first: grants in a namespace before those for the whole cluster, groups before users
    /// before accounts.
    pub fn preference(&self) -> impl Ord + '_ {
        let kind = [SubjectKind::Group, SubjectKind::User].iter().position(|&kind| kind == self.kind);
        (self.binding.namespace.is_none(), kind.unwrap_or(2), &self.subject, &self.binding.name)
    }

    /// Whether it is to a component of the cluster, or a group that only the cluster puts people in.
    fn system(&self) -> bool {
        match self.subject.strip_prefix("system:serviceaccount:") {
            Some(account) => account.starts_with("kube-system:"),
            None => self.subject.starts_with("system:"),
        }
    }

    /// `ClusterRole edit allows it to Group shop:editors (RoleBinding shop/editors)`.
    pub fn told_to_others(&self) -> String {
        let Self { binding, kind, subject, .. } = self;
        let account = subject.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
        let subject = match (kind, account) {
            (SubjectKind::ServiceAccount, Some((namespace, name))) => {
                format!("ServiceAccount {}/{}", Plain(namespace), Plain(name))
            }
            (SubjectKind::Group, _) => format!("Group {}", Plain(subject)),
            _ => format!("User {}", Plain(subject)),
        };
        cut(format!("{} allows it to {subject} ({binding})", binding.role))
    }
}

fn order(grounds: &Grounds) -> (SubjectKind, &str, Option<&str>, &str) {
    let binding = &grounds.binding;
    (grounds.kind, &grounds.subject, binding.namespace.as_deref(), &binding.name)
}
