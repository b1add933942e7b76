//! JSON Web Tokens in the compact form of RFC 7515, as kube-apiserver takes them: taken apart, and verified.

pub(super) mod key;

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
    /// Which key.
    pub(super) kid: Option<String>,
    pub(super) claims: Map<String, Value>,
}

impl<'a> Jws<'a> {
    /// None: not of the form of a token, so somebody else's business. An error is a token that nobody must accept.
    pub(super) fn parse(token: &'a str) -> Result<Option<Self>, String> {
        let _ = token;
        todo!()
    }

    /// The `iss` claim, if it is text. Unverified.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }
}
