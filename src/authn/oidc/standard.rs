//! The claims that OpenID Connect itself defines for an ID token, read before any mapping. One of another form than it should
//! have is an error even when nothing is made of it, as for kube-apiserver.

use super::super::signed::{self, Claims};
use serde_json::Value;
use std::time::SystemTime;

/// Text, if it is there at all, in whatever case.
const TEXTS: [&str; 3] = ["sub", "nonce", "at_hash"];

/// Says for each claim that is not in the token which source has it (OpenID Connect Core 5.6.2).
const CLAIM_NAMES: &str = "_claim_names";
const CLAIM_SOURCES: &str = "_claim_sources";

/// When the token expires, if it is for one of `audiences` and its time is now. It must say when, and there is no leeway; only
/// its beginning may lie a little in the future.
pub(super) fn read(claims: &Claims, audiences: &[String], now: SystemTime) -> Result<SystemTime, String> {
    for (name, value) in claims {
        let text = TEXTS.into_iter().find(|text| name.eq_ignore_ascii_case(text));
        if let Some(text) = text.filter(|_| !matches!(value, Value::Null | Value::String(_))) {
            return Err(format!("claim {text}: expected a string"));
        }
    }
    if !matches!(claims.get("iat"), None | Some(Value::Number(_))) {
        return Err("claim iat: expected a number of seconds".to_owned());
    }
    sources(claims)?;
    if !signed::audiences(claims)?.iter().any(|aud| audiences.iter().any(|accepted| accepted == aud)) {
        return Err("the token is for other audiences".to_owned());
    }
    let expires = signed::time(claims, "exp")?.ok_or("the token does not expire")?;
    if expires < now {
        return Err("the token has expired".to_owned());
    }
    if signed::time(claims, "nbf")?.is_some_and(|begins| begins > now + signed::LEEWAY) {
        return Err("the token is not valid yet".to_owned());
    }
    Ok(expires)
}

/// Whether a claim is to be had from a source only. kube-apiserver fetches groups from an address that stands in the token.
pub(super) fn is_elsewhere(claims: &Claims, claim: &str) -> bool {
    let names = claims.get(CLAIM_NAMES).and_then(Value::as_object);
    names.is_some_and(|names| names.contains_key(claim)) && !claims.contains_key(claim)
}

/// Whether every name has a source that is one.
fn sources(claims: &Claims) -> Result<(), String> {
    let sources = match claims.get(CLAIM_SOURCES) {
        None => None,
        Some(Value::Object(sources)) if sources.values().all(is_source) => Some(sources),
        Some(_) => return Err(format!("claim {CLAIM_SOURCES}: expected sources by name")),
    };
    let named =
        |name: &Value| name.as_str().is_some_and(|name| sources.is_some_and(|s| s.contains_key(name)));
    match claims.get(CLAIM_NAMES) {
        None => Ok(()),
        Some(Value::Object(names)) if sources.is_some() && names.values().all(named) => Ok(()),
        Some(_) => Err(format!("claim {CLAIM_NAMES}: expected names of sources in claim {CLAIM_SOURCES}")),
    }
}

fn is_source(value: &Value) -> bool {
    value.as_object().is_some_and(|source| source.values().all(Value::is_string))
}
