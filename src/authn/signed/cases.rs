//! What the tests of tables have in common: a moment, claims that differ a little from good ones, and an outcome as a line.

use crate::authn::{
    Authenticated, Objection,
    jwt::{
        key::KeySet,
        mint::{P256, RSA, jwks},
    },
    keys::{self, Keys, Source},
};
use serde_json::Value;
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The moment at which all tokens of the tests are judged, in seconds.
pub(in crate::authn) const NOW: u64 = 1_700_000_000;

/// [`NOW`], half a second later, so that whole seconds are on one side of it or the other.
pub(in crate::authn) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(NOW * 1000 + 500)
}

/// Those of an issuer that signs with [`P256`] and [`RSA`] for ever.
pub(in crate::authn) fn keys() -> Arc<Keys> {
    let (set, _) = KeySet::from_jwks(&jwks(&[P256.jwk(), RSA.jwk()])).unwrap();
    Keys::new(Source::Fixed(Arc::new(set)), keys::Config::default()).unwrap()
}

/// `base` with the members of the JSON object `patch` instead of its own; the string `-` takes one away.
pub(in crate::authn) fn patched(base: &Value, patch: &str) -> Value {
    let mut claims = base.clone();
    let patch: Value = serde_json::from_str(patch).unwrap_or_else(|e| panic!("{patch}: {e}"));
    for (key, value) in patch.as_object().unwrap() {
        if value == "-" {
            claims.as_object_mut().unwrap().remove(key);
        } else {
            claims[key] = value.clone();
        }
    }
    claims
}

/// `name uid=… groups=… extra={…}` without what is empty and without `system:authenticated`; `no opinion`; or `401: why`.
pub(in crate::authn) fn shown(opinion: Result<Option<Authenticated>, Objection>) -> String {
    let proven = match opinion {
        Ok(Some(proven)) => proven,
        Ok(None) => return "no opinion".to_owned(),
        Err(why) => return format!("401: {why}"),
    };
    let user = proven.user();
    let mut shown = user.name().to_owned();
    if !user.uid().is_empty() {
        shown += &format!(" uid={}", user.uid());
    }
    let groups: Vec<_> = user.groups().iter().filter(|g| *g != "system:authenticated").cloned().collect();
    if !groups.is_empty() {
        shown += &format!(" groups={}", groups.join(","));
    }
    for (key, values) in user.extra() {
        shown += &format!(" {}=[{}]", key.rsplit('/').next().unwrap(), values.join(","));
    }
    for (key, value) in proven.annotations() {
        shown += &format!(" {}={value:?}", key.rsplit('/').next().unwrap());
    }
    shown
}
