//! Aggregated ClusterRoles: what the controller-manager of a cluster writes into `.rules`, computed.

use super::model::{Role, Rule};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

/// Replaces the rules of every role that has an `aggregation` by the union of the rules of the ClusterRoles it selects,
/// itself excepted. Aggregated roles may select one another: this is the least set of rules that fits all of them, so
/// rules written beside an `aggregationRule` never count.
pub(super) fn aggregate(roles: &mut [Role]) {
    // Of roles with one name the last counts, as everywhere.
    let by_name: BTreeMap<&str, usize> =
        roles.iter().enumerate().filter_map(|(i, r)| cluster_wide(r).map(|n| (n, i))).collect();
    // All numbers are positions in `roles`, which neither grows nor shrinks here:
    // (an aggregated role, the roles it draws from in the controller's order: selector by selector, by name)
    let edges: Vec<(usize, Vec<usize>)> = roles
        .iter()
        .enumerate()
        .filter_map(|(i, role)| {
            let selectors = role.aggregation.as_deref()?;
            let selected = selectors
                .iter()
                .flat_map(|s| by_name.iter().filter(|&(_, &j)| j != i && s.matches(&roles[j].labels)));
            let mut seen = HashSet::new();
            Some((i, selected.map(|(_, &j)| j).filter(|&j| seen.insert(j)).collect()))
        })
        .collect();
    for &(i, _) in &edges {
        roles[i].rules.clear();
    }
    // Every pass only adds rules, and there is an end to the rules that can be added.
    let mut grew = true;
    while grew {
        grew = false;
        for (i, from) in &edges {
            let mut seen = HashSet::new();
            let union: Vec<Arc<Rule>> = from
                .iter()
                .flat_map(|&j| &roles[j].rules)
                .filter(|r| seen.insert(Arc::clone(r)))
                .cloned()
                .collect();
            grew |= union.len() > roles[*i].rules.len();
            roles[*i].rules = union;
        }
    }
}

fn cluster_wide(role: &Role) -> Option<&str> {
    role.name.namespace.is_none().then_some(&*role.name.name)
}
