//! From claims to an identity: mappings first, then the rules that it must meet, in kube-apiserver's order.

use super::{
    super::signed::{self, Claims},
    cel::{Expression, Input},
    config::{ClaimRule, Issuer, Rule, TextMapping},
    standard,
};
use serde_json::Value;
use std::{cell::LazyCell, collections::BTreeMap};

/// What the issuer says of the user, before the gate has judged it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) groups: Vec<String>,
    pub(super) extra: BTreeMap<String, Vec<String>>,
}

/// Groups of one user, and values of its extra keys. Each is a header upstream.
const MOST: usize = 1_000;

/// Whether any expression is evaluated.
pub(super) fn evaluates(issuer: &Issuer) -> bool {
    let expression = |mapping: &TextMapping| matches!(mapping, TextMapping::Expression(_));
    let rule = |rule: &ClaimRule| matches!(rule, ClaimRule::Rule(_));
    expression(&issuer.username)
        || issuer.groups.as_ref().is_some_and(expression)
        || issuer.uid.as_ref().is_some_and(expression)
        || !issuer.extra.is_empty()
        || !issuer.user_rules.is_empty()
        || issuer.claim_rules.iter().any(rule)
}

/// Who the claims of a verified token describe, if that meets the rules.
pub(super) fn identity(issuer: &Issuer, claims: &Claims) -> Result<Identity, String> {
    let input = LazyCell::new(|| Input::claims(claims));
    let mapped = |place: &str, why: String| format!("claimMappings.{place}: {why}");
    let name = match &issuer.username {
        TextMapping::Claim { claim, prefix } => username(claims, claim).map(|name| format!("{prefix}{name}")),
        TextMapping::Expression(expression) => expression.text(&input).and_then(not_empty),
    }
    .map_err(|why| mapped("username", why))?;
    let groups = match &issuer.groups {
        None => Ok(Vec::new()),
        Some(TextMapping::Claim { claim, prefix }) => groups(claims, claim, prefix),
        Some(TextMapping::Expression(expression)) => expression.texts(&input).and_then(not_too_many),
    }
    .map_err(|why| mapped("groups", why))?;
    let uid = match &issuer.uid {
        None => Ok(String::new()),
        Some(TextMapping::Claim { claim, prefix }) => text(claims, claim).map(|uid| format!("{prefix}{uid}")),
        Some(TextMapping::Expression(expression)) => expression.text(&input),
    }
    .map_err(|why| mapped("uid", why))?;
    let credential = signed::credential_id(claims).map(|id| (signed::CREDENTIAL_ID.to_owned(), vec![id]));
    let mut extra = BTreeMap::from_iter(credential);
    if !issuer.extra.is_empty() {
        mapped_extra(&issuer.extra, &input, &mut extra).map_err(|why| mapped("extra", why))?;
    }
    for (i, rule) in issuer.claim_rules.iter().enumerate() {
        match rule {
            ClaimRule::Required { claim, value } => required(claims, claim, value),
            ClaimRule::Rule(rule) => met(rule, &input),
        }
        .map_err(|why| format!("claimValidationRules[{i}]: {why}"))?;
    }
    if !issuer.user_rules.is_empty() {
        let user = Input::user(&name, &uid, &groups, &extra);
        for (i, rule) in issuer.user_rules.iter().enumerate() {
            met(rule, &user).map_err(|why| format!("userValidationRules[{i}]: {why}"))?;
        }
    }
    Ok(Identity { name, uid, groups, extra })
}

/// A claim that must be there and be text. kube-apiserver takes null for "".
fn text<'a>(claims: &'a Claims, name: &str) -> Result<&'a str, String> {
    let value = claims.get(name).ok_or_else(|| format!("claim {name:?} is missing"))?;
    value.as_str().ok_or_else(|| format!("claim {name:?}: expected a string"))
}

/// kube-apiserver takes "" as well, so that everybody without a name is one user: the prefix.
fn username<'a>(claims: &'a Claims, claim: &str) -> Result<&'a str, String> {
    let name = text(claims, claim)?;
    if name.is_empty() {
        return Err(format!("claim {claim:?} is empty"));
    }
    if claim == "email" && claims.get("email_verified").is_some_and(|verified| *verified != Value::Bool(true))
    {
        return Err("claim \"email_verified\" is not true".to_owned());
    }
    Ok(name)
}

fn groups(claims: &Claims, claim: &str, prefix: &str) -> Result<Vec<String>, String> {
    let groups = match claims.get(claim) {
        None if standard::is_elsewhere(claims, claim) => {
            return Err(format!("claim {claim:?} would have to be fetched, expected it in the token"));
        }
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(value) => signed::texts(value),
    }
    .ok_or_else(|| format!("claim {claim:?}: expected a string or a list of strings"))?;
    not_too_many(groups.into_iter().map(|group| format!("{prefix}{group}")).collect())
}

fn mapped_extra(
    mappings: &[(String, Expression)],
    input: &Input,
    extra: &mut BTreeMap<String, Vec<String>>,
) -> Result<(), String> {
    let mut count = 0;
    for (key, expression) in mappings {
        let values = expression.texts(input).map_err(|why| format!("key {key:?}: {why}"))?;
        count += values.len();
        if count > MOST {
            return Err(too_many());
        }
        if !values.is_empty() {
            extra.insert(key.clone(), values);
        }
    }
    Ok(())
}

fn required(claims: &Claims, claim: &str, value: &str) -> Result<(), String> {
    if text(claims, claim)? == value {
        Ok(())
    } else {
        Err(format!("claim {claim:?} has another value than required"))
    }
}

fn met(rule: &Rule, input: &Input) -> Result<(), String> {
    if rule.expression.truth(input)? {
        return Ok(());
    }
    Err(if rule.message.is_empty() { "not met".to_owned() } else { format!("not met: {}", rule.message) })
}

fn not_empty(name: String) -> Result<String, String> {
    if name.is_empty() { Err("expected a name, got an empty one".to_owned()) } else { Ok(name) }
}

fn not_too_many(values: Vec<String>) -> Result<Vec<String>, String> {
    if values.len() > MOST { Err(too_many()) } else { Ok(values) }
}

fn too_many() -> String {
    format!("expected at most {MOST} values")
}
