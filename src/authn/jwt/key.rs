//! Public keys of issuers: JSON Web Key Sets (RFC 7517) and PEM, and signatures under them.

use super::Jws;
use crate::pem::File;

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
#[derive(Debug)]
pub(in crate::authn) struct KeySet {}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::authn) enum Unverified {
    /// The issuer may have rotated its keys.
    #[error("no key for the token's kid")]
    NoKey,
    /// The algorithm is not one of those allowed.
    #[error("algorithm {0:?} is not allowed")]
    Algorithm(Algorithm),
    /// The signature is not by any key that may have made it.
    #[error("the signature does not verify")]
    Signature,
}

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

    /// `RS256`, …
    pub fn parse(name: &str) -> Option<Self> {
        let _ = name;
        todo!()
    }
}

impl KeySet {
    /// A JSON Web Key Set. Keys that cannot be used are passed over; the second value says why, a line each.
    pub(in crate::authn) fn from_jwks(text: &[u8]) -> Result<(Self, Vec<String>), String> {
        let _ = text;
        todo!()
    }

    /// Public keys, certificates or private keys in PEM, as kube-apiserver's --service-account-key-file holds them.
    pub(in crate::authn) fn from_pem(files: &[File]) -> Result<Self, Vec<String>> {
        let _ = files;
        todo!()
    }

    /// How many keys.
    pub(in crate::authn) fn len(&self) -> usize {
        todo!()
    }

    /// Whether one of the keys made the signature: the one that `kid` names, or any when the token names none.
    pub(in crate::authn) fn verify(&self, token: &Jws<'_>, allowed: &[Algorithm]) -> Result<(), Unverified> {
        let _ = (token, allowed);
        todo!()
    }
}
