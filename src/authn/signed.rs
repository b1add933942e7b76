//! What every signed token has, whoever issued it: a signature, times, audiences, an id. Read strictly: a claim of a form that it
//! should not have is refused, never taken for absent. No text here holds a claim's value.

use super::{
    Algorithm, Objection,
    jwt::{Jws, key::Unverified},
    keys::Keys,
};
use crate::identity::{BadIdentity, User};
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A token's claims.
pub(super) type Claims = Map<String, Value>;

/// The extra key of what tells one credential of a user from another.
pub(super) const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// How far the clock of an issuer may be ahead.
pub(super) const LEEWAY: Duration = Duration::from_secs(60);

/// The last second of the year 9999. What is later is not a date, and would overflow a timer.
const LAST: u64 = 253_402_300_799;

/// What a `kid` may take of a line of the log.
const KID_SHOWN: usize = 64;

/// Whether one of the issuer's keys made the signature. Keys are fetched again when the token names one that is not known.
pub(super) async fn verify(
    token: &Jws<'_>,
    keys: &Arc<Keys>,
    allowed: &[Algorithm],
) -> Result<(), Objection> {
    let known = keys.current().map_err(Objection::unjudged)?;
    let mut outcome = known.verify(token, allowed);
    let rotated = match outcome {
        Err(Unverified::NoKey) => true,
        // Any of the keys may have been meant, also one that is not known yet.
        Err(Unverified::Signature) => token.kid.is_none(),
        _ => false,
    };
    if rotated && let Some(newer) = keys.newer_than(&known).await {
        outcome = newer.verify(token, allowed);
    }
    outcome.map_err(|why| match &token.kid {
        Some(kid) => format!("{why} (kid {:?})", kid.chars().take(KID_SHOWN).collect::<String>()).into(),
        None => why.to_string().into(),
    })
}

/// A NumericDate, cut to whole seconds; None: absent or null. kube-apiserver takes quoted numbers for OpenID Connect, too.
pub(super) fn time(claims: &Claims, name: &str) -> Result<Option<SystemTime>, String> {
    let value = match claims.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    let seconds = value.as_f64().ok_or_else(|| format!("claim {name}: expected a number of seconds"))?;
    let time = (0.0..LAST as f64 + 1.0).contains(&seconds).then(|| Duration::from_secs(seconds as u64));
    let time = time.and_then(|since| UNIX_EPOCH.checked_add(since));
    time.map(Some).ok_or_else(|| format!("claim {name}: the number is no time"))
}

/// Whom the token is for; empty: it does not say.
pub(super) fn audiences(claims: &Claims) -> Result<Vec<&str>, String> {
    let Some(value) = claims.get("aud") else { return Ok(Vec::new()) };
    texts(value).ok_or_else(|| "claim aud: expected a string or a list of strings".to_owned())
}

/// A string, or a list of nothing but strings.
pub(super) fn texts(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(list) => list.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// `JTI=<jti>`, if there is one; kube-apiserver passes over one that is not text.
pub(super) fn credential_id(claims: &Claims) -> Option<String> {
    let jti = claims.get("jti")?.as_str()?;
    (!jti.is_empty()).then(|| format!("JTI={jti}"))
}

/// The user, or what it cannot be carried with; unlike [`BadIdentity`] without the value.
pub(super) fn user(
    name: &str,
    uid: &str,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
) -> Result<Arc<User>, String> {
    User::new(name, uid, groups, extra).map_err(|why| match why {
        BadIdentity::NotAHeaderValue { what, .. } => {
            format!("the {what} cannot be carried in a header without change")
        }
        BadIdentity::EmptyName | BadIdentity::NotAHeaderName { .. } | BadIdentity::ReservedExtra { .. } => {
            why.to_string()
        }
    })
}

#[cfg(test)]
pub(super) mod cases;
#[cfg(test)]
mod tests;
