//! JSON Web Key Sets (RFC 7517), as issuers publish them.

use super::{
    Key,
    public::{Curve, Public},
};
use crate::codec::json;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

const LARGEST: usize = 1 << 20;
const MOST: usize = 256;
const LIMITS: json::Limits = json::Limits { depth: 32, nodes: 20_000 };

/// The keys that can verify a token, and why others cannot, a line each.
pub(super) fn read(text: &[u8]) -> Result<(Vec<Key>, Vec<String>), String> {
    if text.len() > LARGEST {
        return Err(format!("the key set is larger than {LARGEST} bytes"));
    }
    let set = json::value(text, LIMITS).map_err(|e| format!("the key set: {e}"))?;
    let listed = set.get("keys").and_then(Value::as_array);
    let listed = listed.ok_or_else(|| "the key set has no list of \"keys\"".to_owned())?;
    if listed.len() > MOST {
        return Err(format!("the key set lists more than {MOST} keys"));
    }
    let (mut keys, mut passed_over) = (Vec::new(), Vec::new());
    for (i, listed) in listed.iter().enumerate() {
        match key(listed) {
            Ok(key) => keys.push(key),
            Err(why) => passed_over.push(format!("key {}{} is passed over: {why}", i + 1, called(listed))),
        }
    }
    Ok((keys, passed_over))
}

fn called(key: &Value) -> String {
    let kid = key.get("kid").and_then(Value::as_str);
    kid.map_or_else(String::new, |kid| format!(" ({:?})", kid.chars().take(64).collect::<String>()))
}

fn key(jwk: &Value) -> Result<Key, String> {
    let jwk = jwk.as_object().ok_or("not an object")?;
    let kid = match jwk.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid.clone()),
        Some(_) => return Err("\"kid\" is not text".to_owned()),
    };
    match jwk.get("use") {
        None => {}
        Some(Value::String(usage)) if usage == "sig" => {}
        Some(_) => return Err("\"use\" is not \"sig\"".to_owned()),
    }
    match jwk.get("key_ops") {
        None => {}
        Some(Value::Array(ops)) if ops.iter().any(|op| op == "verify") => {}
        Some(_) => return Err("\"key_ops\" does not hold \"verify\"".to_owned()),
    }
    let kty = jwk.get("kty").and_then(Value::as_str);
    if kty == Some("oct") {
        return Err("a symmetric key proves nothing here".to_owned());
    }
    if jwk.contains_key("d") {
        return Err("a private key; whoever can read it here can sign tokens".to_owned());
    }
    let public = match kty {
        Some("RSA") => Public::rsa(&number(jwk, "n")?, &number(jwk, "e")?)?,
        Some("EC") => {
            let curve = jwk.get("crv").and_then(Value::as_str).and_then(Curve::parse);
            let curve = curve.ok_or("\"crv\" is not P-256, P-384 or P-521")?;
            Public::ec(curve, &number(jwk, "x")?, &number(jwk, "y")?)?
        }
        _ => return Err("\"kty\" is not RSA or EC".to_owned()),
    };
    Ok(Key { kid, public })
}

/// Padding is against RFC 7518, but kube-apiserver takes it off as well.
fn number(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let text = jwk.get(name).and_then(Value::as_str).map(|text| text.trim_end_matches('='));
    let number = text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    number.ok_or_else(|| format!("{name:?} is not a number in base64url"))
}
