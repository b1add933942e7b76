//! Why not: what came nearest when nothing allowed a request.
//!
//! One short sentence, only about roles that are bound to the caller, so that it tells nobody more than
//! `kubectl auth can-i --list` does. The work is bounded, and so is the length.

use super::{
    eval::{Question, What},
    index::{CLUSTER, Grant, RoleIndex, Rules, UNHEARD, has},
    model::{BindingName, Plain},
};
use crate::request::{Attributes, Object};
use std::{fmt, sync::Arc};

/// Roles that are looked at; of a caller with more, the first.
const EXAMINED: usize = 1000;
/// Words in a list; an ellipsis stands for further ones.
const LISTED: usize = 8;
/// Bytes of a whole sentence.
const LENGTH: usize = 400;

/// Near misses that [`Rules::near_misses`] tells.
const TOLD: usize = 32;

/// A role bound to the caller that nearly allowed what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearMiss {
    /// The binding, and in it the role.
    pub binding: Arc<BindingName>,
    /// The sentence that [`Rules::nearest`] would say of it.
    pub text: String,
    /// From 0, the nearest.
    pub distance: u8,
}

/// What came nearest to allowing something; [`Near::nearer`] says of two which that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Near {
    /// From 0; a role that fell short is nearer than none.
    distance: u8,
    /// One sentence, or nothing if there was more than could be looked at.
    pub text: String,
}

impl Near {
    const UNTOLD: u8 = 5;
    const NO_ROLE: u8 = 6;
    const NOBODY: u8 = 7;

    /// Whether it is about a role that is bound to the caller.
    pub fn is_a_miss(&self) -> bool {
        self.distance < Self::UNTOLD
    }

    /// The nearer of two; of equals, this one.
    #[must_use]
    pub fn nearer(self, other: Self) -> Self {
        if other.distance < self.distance { other } else { self }
    }
}

/// How a role falls short, the nearest first.
#[derive(Debug, Clone)]
enum Short<'a> {
    /// It is limited to these names.
    Names(&'a [String]),
    /// It allows the request, but bound in another namespace.
    Namespace(&'a str),
    /// It allows other verbs.
    Verbs(Vec<&'a str>),
    /// It means the resources of other groups.
    Groups(&'a [String]),
    /// It means the resource, but not the subresource.
    Subresource,
}

impl Short<'_> {
    fn distance(&self) -> u8 {
        match self {
            Self::Names(_) => 0,
            Self::Namespace(_) => 1,
            Self::Verbs(_) => 2,
            Self::Groups(_) => 3,
            Self::Subresource => 4,
        }
    }
}

impl Rules {
    /// What came nearest to allowing a request that [`Rules::decide`] denied, as in
    /// `Role dev/reader, bound by RoleBinding dev/readers, allows get, list on pods; not delete`.
    pub fn nearest(&self, user: &str, groups: &[String], asked: Attributes<'_>) -> Near {
        let question = self.question(asked);
        let (mut looked, mut nearest) = (0, None);
        for (grant, role) in self.grants(user, groups, asked).take(EXAMINED) {
            looked += 1;
            let Some(short) = self.short_of(role, &question, asked) else { continue };
            let known = nearest.as_ref().map_or(u8::MAX, |(_, known): &(_, Short<'_>)| known.distance());
            if short.distance() < known {
                nearest = Some((grant, short));
            }
        }
        if !matches!(nearest, Some((_, Short::Names(_)))) {
            nearest = self.elsewhere(user, groups, &question).next().or(nearest);
        }
        let (distance, text) = match nearest {
            Some((grant, short)) => (short.distance(), self.sentence(grant, &short, asked)),
            None if looked == EXAMINED => (Near::UNTOLD, String::new()),
            None if self.holders(user, groups).next().is_none() => {
                (Near::NOBODY, "no binding names this user or its groups".to_owned())
            }
            None => (Near::NO_ROLE, "no role bound to this user or its groups comes near it".to_owned()),
        };
        Near { distance, text: cut(text) }
    }

    /// Every role bound to the caller that came near, the nearest first, up to a bound; empty if there is none.
    pub fn near_misses(&self, user: &str, groups: &[String], asked: Attributes<'_>) -> Vec<NearMiss> {
        let question = self.question(asked);
        let here = self.grants(user, groups, asked).take(EXAMINED);
        let here = here.filter_map(|(grant, role)| Some((grant, self.short_of(role, &question, asked)?)));
        let mut found: Vec<(&Grant, Short<'_>)> =
            here.chain(self.elsewhere(user, groups, &question)).collect();
        found.sort_by_key(|(_, short)| short.distance());
        let mut told: Vec<NearMiss> = Vec::new();
        for (grant, short) in found {
            let Some(binding) = self.bindings.get(grant.binding as usize) else { continue };
            let text = cut(self.sentence(grant, &short, asked));
            // A caller may be named twice by one binding.
            if told.len() < TOLD && told.iter().all(|known| known.text != text) {
                let distance = short.distance();
                told.push(NearMiss { binding: Arc::clone(binding), text, distance });
            }
        }
        told
    }

    /// Roles that would do, had they been bound where it is asked.
    fn elsewhere<'a>(
        &'a self,
        user: &str,
        groups: &[String],
        question: &Question<'_>,
    ) -> impl Iterator<Item = (&'a Grant, Short<'a>)> {
        let others = self.holders(user, groups).flat_map(|holder| holder.grants.all);
        let others = others.filter(|g| g.scope != CLUSTER && Some(g.scope) != question.scope);
        others.take(EXAMINED).filter_map(|grant| {
            self.roles.get(grant.role as usize)?.allows(question)?;
            let namespace = self.bindings.get(grant.binding as usize)?.namespace.as_deref()?;
            Some((grant, Short::Namespace(namespace)))
        })
    }

    fn sentence(&self, grant: &Grant, short: &Short<'_>, asked: Attributes<'_>) -> String {
        let Some(binding) = self.bindings.get(grant.binding as usize) else { return String::new() };
        let (verb, what) = (Plain(asked.verb), Thing(asked.object));
        let role = format!("{}, bound by {binding}, allows", binding.role);
        match (short, asked.object) {
            (Short::Names(names), Object::Resource { name: "", .. }) => {
                format!("{role} {verb} on {what} named {} only, and this names none", List(names))
            }
            (Short::Names(names), Object::Resource { name, .. }) => {
                format!("{role} {verb} on {what} named {} only; not {}", List(names), Plain(name))
            }
            (Short::Namespace(own), Object::Resource { namespace: "", .. }) => {
                format!("{role} {verb} on {what} in namespace {} only; not at the cluster scope", Plain(own))
            }
            (Short::Namespace(own), Object::Resource { namespace, .. }) => {
                format!(
                    "{role} {verb} on {what} in namespace {} only; not in {}",
                    Plain(own),
                    Plain(namespace)
                )
            }
            (Short::Verbs(verbs), _) => format!("{role} {} on {what}; not {verb}", List(verbs)),
            (Short::Groups(groups), Object::Resource { group, .. }) => {
                format!("{role} {verb} on {what} in API group {}; not in {}", List(groups), Plain(group))
            }
            (Short::Subresource, Object::Resource { resource, .. }) => {
                format!("{role} {verb} on {}; not on {what}", Plain(resource))
            }
            // Paths have neither names nor namespaces nor groups.
            (_, Object::Path(_)) => String::new(),
        }
    }

    /// The least that keeps a role from allowing it; None if the role is about other things.
    fn short_of<'a>(
        &self,
        role: &'a RoleIndex,
        question: &Question<'_>,
        asked: Attributes<'_>,
    ) -> Option<Short<'a>> {
        let mut nearest: Option<Short<'a>> = None;
        let mut consider = |short: Short<'a>| match (&mut nearest, short) {
            (Some(Short::Verbs(verbs)), Short::Verbs(more)) => {
                for verb in more {
                    if verbs.len() <= LISTED && !verbs.contains(&verb) {
                        verbs.push(verb);
                    }
                }
            }
            (Some(known), short) if known.distance() <= short.distance() => {}
            (slot, short) => *slot = Some(short),
        };
        let rule = |i: u32| Some((role.rules.get(i as usize)?, role.tests.get(i as usize)?));
        match (&question.what, asked.object) {
            (What::Path { .. }, _) => {
                for (rule, _) in role.matching(question).filter_map(rule) {
                    consider(Short::Verbs(rule.verbs.iter().take(LISTED + 1).map(String::as_str).collect()));
                }
            }
            (What::Resource { group, name, .. }, Object::Resource { resource, subresource, .. }) => {
                for (rule, test) in role.matching(question).filter_map(rule) {
                    match (has(&test.groups, *group), has(&test.verbs, question.verb), test.means(name)) {
                        (true, true, false) => consider(Short::Names(&rule.resource_names)),
                        (true, false, true) => {
                            consider(Short::Verbs(
                                rule.verbs.iter().take(LISTED + 1).map(String::as_str).collect(),
                            ));
                        }
                        (false, true, true) => consider(Short::Groups(&rule.api_groups)),
                        _ => {}
                    }
                }
                let whole = if subresource.is_empty() { UNHEARD } else { self.word(resource) };
                if role
                    .resources
                    .get(whole)
                    .iter()
                    .filter_map(|&(_, i)| rule(i))
                    .any(|(_, test)| test.passes(question))
                {
                    consider(Short::Subresource);
                }
            }
            (What::Resource { .. }, Object::Path(_)) => {}
        }
        nearest
    }
}

/// What is asked for, as people write it: `pods/exec`, `/metrics`.
struct Thing<'a>(Object<'a>);

impl fmt::Display for Thing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Object::Path(path) => Plain(path).fmt(f),
            Object::Resource { resource, subresource: "", .. } => Plain(resource).fmt(f),
            Object::Resource { resource, subresource, .. } => {
                write!(f, "{}/{}", Plain(resource), Plain(subresource))
            }
        }
    }
}

/// A list of words, cut.
struct List<'a, T>(&'a [T]);

impl<T: AsRef<str>> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, word) in self.0.iter().take(LISTED).enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { ", " }, Plain(word.as_ref()))?;
        }
        if self.0.len() > LISTED { f.write_str(", …") } else { Ok(()) }
    }
}

pub(super) fn cut(mut sentence: String) -> String {
    if sentence.len() > LENGTH {
        let end = (0..=LENGTH).rev().find(|&i| sentence.is_char_boundary(i)).unwrap_or(0);
        sentence.truncate(end);
        sentence.push('…');
    }
    sentence
}
