//! Public keys of issuers: JSON Web Key Sets (RFC 7517) and PEM, and signatures under them.
//!
//! Keys are parsed once, when they are read; a token then costs no more than its signature.

mod jwks;
mod public;

use super::Jws;
use crate::pem::File;
use public::Public;
use std::fmt;

/// Signature algorithms (RFC 7518) that kube-apiserver accepts; never HMAC, never `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
}

/// The keys of one issuer at one time.
pub(in crate::authn) struct KeySet {
    keys: Vec<Key>,
}

struct Key {
    /// What tokens call it.
    kid: Option<String>,
    public: Public,
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::authn) enum Unverified {
    /// The issuer may have rotated its keys.
    #[error("no key for the token's kid")]
    NoKey,
    /// The algorithm is not one of those allowed.
    #[error("algorithm {0} is not allowed")]
    Algorithm(Algorithm),
    /// The signature is not by any key that may have made it.
    #[error("the signature does not verify")]
    Signature,
}

// === impl Algorithm ===

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
    ];

    /// `RS256`, …, exactly so.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    /// The name in a token's header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl KeySet ===

impl KeySet {
    /// A JSON Web Key Set of at most 1 MiB and 256 keys. Keys that cannot be used are passed over; the second value says why,
    /// a line each.
    pub(in crate::authn) fn from_jwks(text: &[u8]) -> Result<(Self, Vec<String>), String> {
        let (keys, passed_over) = jwks::read(text)?;
        Ok((Self { keys }, passed_over))
    }

    /// Public keys, certificates or private keys in PEM, as kube-apiserver's --service-account-key-file holds them. Tokens
    /// call them as kube-apiserver does.
    ///
    /// # Errors
    /// A line for each file without keys, and for each key that cannot be used.
    pub(in crate::authn) fn from_pem(files: &[File]) -> Result<Self, Vec<String>> {
        let (mut keys, mut errors) = (Vec::new(), Vec::new());
        for file in files {
            let blocks = file.public_keys().unwrap_or_else(|e| {
                errors.push(e.to_string());
                Vec::new()
            });
            for (i, block) in blocks.iter().enumerate() {
                match Public::from_pem(block).and_then(|public| Ok((public.kubernetes_id()?, public))) {
                    Ok((kid, public)) => keys.push(Key { kid: Some(kid), public }),
                    Err(why) => errors.push(format!("{}: key {}: {why}", file.origin, i + 1)),
                }
            }
        }
        if errors.is_empty() { Ok(Self { keys }) } else { Err(errors) }
    }

    /// How many keys.
    pub(in crate::authn) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether one of the keys made the signature: one that `kid` names, or any when the token names none.
    pub(in crate::authn) fn verify(&self, token: &Jws<'_>, allowed: &[Algorithm]) -> Result<(), Unverified> {
        if !allowed.contains(&token.algorithm) {
            return Err(Unverified::Algorithm(token.algorithm));
        }
        let named = |key: &&Key| token.kid.is_none() || token.kid == key.kid;
        let mut keys = self.keys.iter().filter(named).peekable();
        if keys.peek().is_none() {
            return Err(Unverified::NoKey);
        }
        let made = |key: &Key| key.public.made(token.algorithm, token.signed.as_bytes(), &token.signature);
        if keys.any(made) { Ok(()) } else { Err(Unverified::Signature) }
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.kid)).finish()
    }
}

#[cfg(test)]
mod tests;
