//! The other way round: not whether somebody may, but who may.

use super::{
    eval::Grounds,
    index::{Rules, SubjectKind},
    model::Rule,
};
use crate::request::Attributes;
use std::sync::Arc;

impl Rules {
    /// Every grant that allows `asked` by itself, sorted by subject, then by binding. Of several bindings of one role to one
    /// subject in one namespace, the first. Members of `system:masters` may everything, and need no grant.
    pub fn who_can(&self, asked: Attributes<'_>) -> Vec<Grounds> {
        let question = self.question(asked);
        let mut found = Vec::new();
        for (subject, holder) in self.users.iter().chain(&self.groups) {
            for (_, grant) in question.scopes().flat_map(|scope| holder.grants.get(scope)) {
                let rule = self.roles.get(grant.role as usize).and_then(|role| role.allows(&question));
                let (Some(rule), Some(binding)) = (rule, self.bindings.get(grant.binding as usize)) else {
                    continue;
                };
                found.push(Grounds {
                    binding: Arc::clone(binding),
                    kind: grant.kind,
                    subject: Arc::clone(subject),
                    rule: rule as usize,
                });
            }
        }
        found.sort_by(|a, b| order(a).cmp(&order(b)));
        found
    }

    /// The rule that `grounds` of these rules are about.
    pub fn rule(&self, grounds: &Grounds) -> Option<&Rule> {
        let holders = if grounds.kind == SubjectKind::Group { &self.groups } else { &self.users };
        let grants = holders.get(&*grounds.subject)?.grants.iter().flatten();
        let named = |binding: u32| {
            self.bindings.get(binding as usize).is_some_and(|b| Arc::ptr_eq(b, &grounds.binding))
        };
        let (_, grant) = grants.into_iter().find(|(_, grant)| named(grant.binding))?;
        self.roles.get(grant.role as usize)?.rules.get(grounds.rule).map(|rule| &**rule)
    }
}

fn order(grounds: &Grounds) -> (SubjectKind, &str, Option<&str>, &str) {
    let binding = &grounds.binding;
    (grounds.kind, &grounds.subject, binding.namespace.as_deref(), &binding.name)
}
