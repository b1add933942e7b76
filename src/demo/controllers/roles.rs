//! Aggregated ClusterRoles: their rules are those of all ClusterRoles that their selectors find.

use super::find;
use crate::demo::{
    selector::label_selector,
    store::State,
    value::{items, same, set, text},
};
use serde_json::Value;
use std::sync::Arc;

pub(super) fn aggregate(state: &mut State) {
    let at = find("rbac.authorization.k8s.io", "clusterroles");
    let all: Vec<Arc<Value>> = state.objects(at).map(|(_, r)| r.clone()).collect();
    for role in all.iter().filter(|r| r.get("aggregationRule").is_some()) {
        let selectors = items(role, "/aggregationRule/clusterRoleSelectors");
        let name = text(role, "/metadata/name");
        let chosen = all.iter().filter(|other| {
            text(other, "/metadata/name") != name && selectors.iter().any(|s| label_selector(s, other))
        });
        let mut rules: Vec<Value> = Vec::new();
        for rule in chosen.flat_map(|other| items(other, "/rules")) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
        let rules = Value::Array(rules);
        if !same(role.get("rules"), Some(&rules)) {
            let mut changed = Value::clone(role);
            set(&mut changed, "/rules", rules);
            state.put(at, changed);
        }
    }
}
