//! JSON Web Tokens in the compact form of RFC 7515, as kube-apiserver takes them: taken apart, and verified.
//!
//! kube-apiserver reads the claims `iss`, `sub`, `aud`, `exp`, `nbf` and `iat` without regard to case and takes the last of
//! several, so that `EXP` overrides an expired `exp`. Here a token that writes one of them otherwise, or twice, is refused.

pub(super) mod key;
#[cfg(test)]
pub(super) mod mint;

use crate::codec::json;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use key::Algorithm;
use serde_json::{Map, Value};

/// A token taken apart. Nothing in it has been verified.
#[derive(Debug)]
pub(super) struct Jws<'a> {
    /// What is signed: the first two parts with the dot between them.
    pub(super) signed: &'a str,
    /// Raw.
    pub(super) signature: Vec<u8>,
    pub(super) algorithm: Algorithm,
    /// Which key; never empty.
    pub(super) kid: Option<String>,
    pub(super) claims: Map<String, Value>,
}

/// Bytes of a whole token. HTTP servers take about as much for all headers together.
const LARGEST: usize = 64 << 10;

/// Of a header, and of the claims.
const LIMITS: json::Limits = json::Limits { depth: 32, nodes: 20_000 };

/// Claims of RFC 7519 that kube-apiserver reads without regard to case, and `jti` beside them.
const REGISTERED: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];

impl<'a> Jws<'a> {
    /// None: not of the form of a token, so somebody else's business. An error is a token that nobody must accept.
    pub(super) fn parse(token: &'a str) -> Result<Option<Self>, String> {
        if token.len() > LARGEST {
            return Err(format!("the token is longer than {LARGEST} bytes"));
        }
        let Some((signed, signature)) = token.rsplit_once('.') else { return Ok(None) };
        let Some((header, claims)) = signed.split_once('.') else { return Ok(None) };
        // A brace begins the form with JSON around the parts.
        if claims.contains('.') || token.trim_start().starts_with('{') {
            return Ok(None);
        }
        let header = object(header, "header")?;
        let claims = object(claims, "payload")?;
        let signature = decode(signature, "signature")?;
        for extension in ["crit", "b64"] {
            if header.contains_key(extension) {
                return Err(format!("the token's header holds {extension:?}, which is not supported"));
            }
        }
        if let Some((name, standard)) = claims.keys().find_map(|name| Some((name, only_in_case(name)?))) {
            return Err(format!("claim {name:?} differs from {standard:?} only in case"));
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()).filter(|kid| !kid.is_empty()),
            Some(_) => return Err("the token's kid is not text".to_owned()),
        };
        Ok(Some(Self { signed, signature, algorithm: algorithm(header.get("alg"))?, kid, claims }))
    }

    /// The `iss` claim, if it is text. Unverified.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }
}

fn object(part: &str, what: &str) -> Result<Map<String, Value>, String> {
    match json::value(&decode(part, what)?, LIMITS) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(format!("the token's {what} is not a JSON object")),
        Err(e) => Err(format!("the token's {what}: {e}")),
    }
}

/// Exactly one text stands for the bytes: no padding, no spaces, no spare bits that are set.
fn decode(part: &str, what: &str) -> Result<Vec<u8>, String> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| format!("the token's {what} is not base64url without padding"))
}

fn algorithm(alg: Option<&Value>) -> Result<Algorithm, String> {
    let Some(Value::String(name)) = alg else {
        return Err("the token's header names no algorithm".to_owned());
    };
    Algorithm::parse(name).ok_or_else(|| match name.as_str() {
        "none" => "the token is not signed (alg none)".to_owned(),
        "HS256" | "HS384" | "HS512" => format!("a symmetric algorithm ({name}) proves nothing here"),
        _ => "the token's algorithm is not supported".to_owned(),
    })
}

/// The registered claim that Go's encoding/json would take this name for, if it is spelled otherwise.
fn only_in_case(name: &str) -> Option<&'static str> {
    // U+017F is the one letter beyond ASCII that folds to one of these claims'.
    let fold = |c: char| if c == '\u{17f}' { 's' } else { c.to_ascii_lowercase() };
    REGISTERED.into_iter().find(|standard| *standard != name && name.chars().map(fold).eq(standard.chars()))
}

#[cfg(test)]
mod tests;
