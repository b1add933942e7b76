//! Two lists of rules into one that allows what both allow.
//!
//! A caller who asks what they may is shown a list of rules, and behind the gate two sets of rules must agree. Whatever the
//! lists are, the answer never shows more than both allow; it may show less, and says so.

use super::{
    index::{CLUSTER, Rules},
    model::Rule,
};
use std::{collections::HashSet, sync::Arc};

/// What is left of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cut {
    /// What both lists allow, in the order of theirs.
    pub rules: Vec<Rule>,
    /// Whether there is more: the list grew too long, or the work too much.
    pub incomplete: bool,
}

/// Comparisons of words in one call: some tens of milliseconds.
const WORK: usize = 1_000_000;

/// What both `theirs` and `ours` allow, in at most `cap` rules.
///
/// A rule of theirs that one of ours covers stays as it is. Of any other, what it has in common with each of ours is left,
/// unless another rule of the answer covers that.
pub fn intersection(theirs: &[Rule], ours: &[Arc<Rule>], cap: usize) -> Cut {
    let mut work = Work(WORK);
    let same: HashSet<&Rule> = ours.iter().map(|rule| &**rule).collect();
    let mut covered =
        |rule: &Rule| same.contains(rule) || ours.iter().any(|o| !work.spent() && work.covers(o, rule));
    let (whole, parts): (Vec<_>, Vec<_>) = theirs.iter().enumerate().partition(|(_, rule)| covered(rule));
    let mut incomplete = whole.len() > cap;
    let whole: Vec<(usize, Rule)> =
        whole.into_iter().take(cap).map(|(at, rule)| (at, rule.clone())).collect();
    let mut pieces: Vec<(usize, Rule)> = Vec::new();
    'all: for (at, rule) in parts {
        if work.spent() {
            break;
        }
        for piece in ours.iter().flat_map(|o| work.common(rule, o)).collect::<Vec<_>>() {
            if whole.iter().chain(&pieces).any(|(_, known)| work.covers(known, &piece)) {
                continue;
            }
            pieces.retain(|(_, known)| !work.covers(&piece, known));
            if whole.len() + pieces.len() >= cap || work.spent() {
                incomplete = true;
                break 'all;
            }
            pieces.push((at, piece));
        }
    }
    let mut rules = [whole, pieces].concat();
    rules.sort_by_key(|&(at, _)| at);
    Cut { rules: rules.into_iter().map(|(_, rule)| rule).collect(), incomplete: incomplete || work.spent() }
}

impl Rules {
    /// Every rule that the caller holds in `namespace`, as a SelfSubjectRulesReview lists them: those of ClusterRoleBindings
    /// first, then those of the namespace's RoleBindings, if one is named. Each once, and no path behind a RoleBinding: it
    /// would allow nothing.
    pub fn listed(&self, user: &str, groups: &[String], namespace: &str) -> Vec<Arc<Rule>> {
        let scope = if namespace.is_empty() { None } else { self.scopes.get(namespace).copied() };
        let (mut rules, mut roles, mut seen) = (Vec::new(), HashSet::new(), HashSet::new());
        for scope in [Some(CLUSTER), scope].into_iter().flatten() {
            for grant in self.holders(user, groups).flat_map(|holder| holder.grants.at(scope).all) {
                let Some(role) = self.roles.get(grant.role as usize) else { continue };
                if !roles.insert((scope == CLUSTER, grant.role)) {
                    continue;
                }
                for rule in &role.rules {
                    let rule = match scope {
                        CLUSTER => Arc::clone(rule),
                        _ if rule.resources.is_empty() => continue,
                        _ if rule.non_resource_urls.is_empty() => Arc::clone(rule),
                        _ => Arc::new(Rule { non_resource_urls: Vec::new(), ..(**rule).clone() }),
                    };
                    if seen.insert(Arc::clone(&rule)) {
                        rules.push(rule);
                    }
                }
            }
        }
        rules
    }
}

/// What is left to spend. Without any, nothing covers anything, and nothing has anything in common.
struct Work(usize);

impl Work {
    fn spent(&self) -> bool {
        self.0 == 0
    }

    fn pay(&mut self, one: usize, other: usize) -> bool {
        self.0 = self.0.saturating_sub(one.saturating_mul(other).max(1));
        !self.spent()
    }

    /// Whether `rule` allows everything that `other` does.
    fn covers(&mut self, rule: &Rule, other: &Rule) -> bool {
        self.all(&rule.verbs, &other.verbs, covers_word)
            && (other.resources.is_empty()
                || self.all(&rule.api_groups, &other.api_groups, covers_word)
                    && self.all(&rule.resources, &other.resources, covers_resource)
                    && (rule.resource_names.is_empty()
                        || !other.resource_names.is_empty()
                            && self.all(&rule.resource_names, &other.resource_names, str::eq)))
            && self.all(&rule.non_resource_urls, &other.non_resource_urls, covers_path)
    }

    /// What two rules both allow: one rule about resources, one about paths, or none.
    fn common(&mut self, one: &Rule, other: &Rule) -> Vec<Rule> {
        let mut found = Vec::new();
        let verbs = self.both(&one.verbs, &other.verbs, covers_word);
        if verbs.is_empty() {
            return found;
        }
        if let Some(rule) = self.common_resources(one, other) {
            found.push(Rule { verbs: verbs.clone(), ..rule });
        }
        let paths = self.both(&one.non_resource_urls, &other.non_resource_urls, covers_path);
        if !paths.is_empty() {
            found.push(Rule { verbs, non_resource_urls: paths, ..Rule::default() });
        }
        found
    }

    fn common_resources(&mut self, one: &Rule, other: &Rule) -> Option<Rule> {
        let api_groups = self.both(&one.api_groups, &other.api_groups, covers_word);
        if api_groups.is_empty() {
            return None;
        }
        let resources = self.both(&one.resources, &other.resources, covers_resource);
        if resources.is_empty() {
            return None;
        }
        let resource_names = match (&*one.resource_names, &*other.resource_names) {
            ([], names) | (names, []) => names.to_vec(),
            // No name in common is not the empty list, which means all of them.
            (one, other) => Some(self.both(one, other, str::eq)).filter(|names| !names.is_empty())?,
        };
        Some(Rule { api_groups, resources, resource_names, ..Rule::default() })
    }

    /// Whether each of `others` is covered by an entry of `list`.
    fn all(&mut self, list: &[String], others: &[String], covers: Covers) -> bool {
        self.pay(list.len(), others.len())
            && others.iter().all(|other| list.iter().any(|entry| covers(entry, other)))
    }

    /// The entries of either list that one of the other covers, without those that a further one covers. Of any two entries
    /// that have something in common, one covers the other.
    fn both(&mut self, one: &[String], other: &[String], covers: Covers) -> Vec<String> {
        if !self.pay(one.len(), other.len()) {
            return Vec::new();
        }
        let within = |list: &[String], entry: &str| list.iter().any(|e| covers(e, entry));
        let from_one = one.iter().filter(|entry| within(other, entry));
        let from_other = other.iter().filter(|entry| within(one, entry));
        let mut both: Vec<String> = Vec::new();
        for entry in from_one.chain(from_other) {
            if !self.pay(both.len(), 2) {
                return Vec::new();
            }
            if !within(&both, entry) {
                both.retain(|known| !covers(entry, known));
                both.push(entry.clone());
            }
        }
        both
    }
}

type Covers = fn(&str, &str) -> bool;

/// Verbs and API groups.
fn covers_word(entry: &str, other: &str) -> bool {
    entry == "*" || entry == other
}

fn covers_resource(entry: &str, other: &str) -> bool {
    covers_word(entry, other)
        || entry.strip_prefix("*/").is_some_and(|subresource| {
            !subresource.is_empty() && other.split_once('/').is_some_and(|(_, sub)| sub == subresource)
        })
}

fn covers_path(entry: &str, other: &str) -> bool {
    // An exact path does not end in a star, so cutting stars off leaves it what it is.
    entry == other
        || entry.ends_with('*') && other.trim_end_matches('*').starts_with(entry.trim_end_matches('*'))
}
