//! JSON Web Tokens as issuers make them: key pairs, signatures, and what is published of a key (RFC 7515, 7517, 7518).
//!
//! Written apart from `crate::authn` on purpose: an issuer that shares the gate's reading of a token could not show the gate
//! wrong.

use super::pki::{self, der};
use aws_lc_rs::{
    digest,
    encoding::{AsDer as _, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RsaEncoding, RsaKeyPair, UnparsedPublicKey,
        VerificationAlgorithm,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A signature algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alg {
    /// RSA, PKCS #1 v1.5, SHA-256
    Rs256,
    /// RSA, PKCS #1 v1.5, SHA-384
    Rs384,
    /// RSA, PKCS #1 v1.5, SHA-512
    Rs512,
    /// RSA, PSS, SHA-256
    Ps256,
    /// RSA, PSS, SHA-384
    Ps384,
    /// RSA, PSS, SHA-512
    Ps512,
    /// ECDSA, P-256, SHA-256
    Es256,
    /// ECDSA, P-384, SHA-384
    Es384,
    /// ECDSA, P-521, SHA-512
    Es512,
}

/// A key pair.
#[derive(Debug)]
pub struct Key {
    kid: String,
    pair: Pair,
}

#[derive(Debug)]
enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ec(Alg, EcdsaKeyPair),
}

/// A key that cannot be made, for lack of randomness or memory.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a signing key")]
pub struct Error;

impl Alg {
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

    /// As a header spells it.
    pub const fn name(self) -> &'static str {
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

    /// None: it is for curves.
    fn rsa(self) -> Option<(&'static dyn RsaEncoding, &'static dyn VerificationAlgorithm)> {
        Some(match self {
            Self::Rs256 => (&signature::RSA_PKCS1_SHA256, &signature::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => (&signature::RSA_PKCS1_SHA384, &signature::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => (&signature::RSA_PKCS1_SHA512, &signature::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => (&signature::RSA_PSS_SHA256, &signature::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => (&signature::RSA_PSS_SHA384, &signature::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => (&signature::RSA_PSS_SHA512, &signature::RSA_PSS_2048_8192_SHA512),
            Self::Es256 | Self::Es384 | Self::Es512 => return None,
        })
    }

    /// The curve's name, how it signs and how it verifies; None: it is for RSA.
    #[allow(clippy::type_complexity)] // named once, here
    fn curve(
        self,
    ) -> Option<(&'static str, &'static EcdsaSigningAlgorithm, &'static dyn VerificationAlgorithm)> {
        Some(match self {
            Self::Es256 => {
                ("P-256", &signature::ECDSA_P256_SHA256_FIXED_SIGNING, &signature::ECDSA_P256_SHA256_FIXED)
            }
            Self::Es384 => {
                ("P-384", &signature::ECDSA_P384_SHA384_FIXED_SIGNING, &signature::ECDSA_P384_SHA384_FIXED)
            }
            Self::Es512 => {
                ("P-521", &signature::ECDSA_P521_SHA512_FIXED_SIGNING, &signature::ECDSA_P521_SHA512_FIXED)
            }
            _ => return None,
        })
    }
}

impl Key {
    /// A new key that signs with `alg`; an RSA key, of 2048 bits, signs with every algorithm of RSA.
    pub fn new(alg: Alg) -> Result<Self, Error> {
        let pair = match alg.curve() {
            Some((_, signing, _)) => Pair::Ec(alg, EcdsaKeyPair::generate(signing).map_err(|_| Error)?),
            None => Pair::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| Error)?)),
        };
        let mut key = Self { kid: String::new(), pair };
        key.kid = base64url(digest::digest(&digest::SHA256, &key.public_der()).as_ref());
        Ok(key)
    }

    /// Its name: the digest of the public key, as kube-apiserver names its own.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public key as SubjectPublicKeyInfo, DER.
    pub fn public_der(&self) -> Vec<u8> {
        let der: Result<PublicKeyX509Der<'_>, _> = match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_der(),
            Pair::Ec(_, pair) => pair.public_key().as_der(),
        };
        der.map(|der| der.as_ref().to_vec()).unwrap_or_default()
    }

    /// The public key as PEM.
    pub fn public_pem(&self) -> String {
        pki::pem("PUBLIC KEY", &self.public_der())
    }

    /// The public key as a JSON Web Key.
    pub fn jwk(&self) -> Value {
        let (alg, members) = match &self.pair {
            Pair::Rsa(pair) => {
                // PKCS #1: the modulus and the exponent, each with a zero in front where it would look negative.
                let (inside, _) = der::content(pair.public_key().as_ref()).unwrap_or_default();
                let number = |element: &[u8]| {
                    let (number, _) = der::content(element).unwrap_or_default();
                    base64url(number.strip_prefix(&[0]).unwrap_or(number))
                };
                let numbers: Vec<String> = der::members(inside).into_iter().map(number).collect();
                let [n, e] = &numbers[..] else { return Value::Null };
                (Alg::Rs256, json!({"kty": "RSA", "n": n, "e": e}))
            }
            Pair::Ec(alg, pair) => {
                // The uncompressed point: 4, x, y.
                let point = pair.public_key().as_ref().get(1..).unwrap_or_default();
                let (x, y) = point.split_at(point.len() / 2);
                let curve = alg.curve().map_or("", |(name, ..)| name);
                (*alg, json!({"kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y)}))
            }
        };
        let mut jwk = json!({"use": "sig", "kid": self.kid, "alg": alg.name()});
        if let (Some(jwk), Value::Object(members)) = (jwk.as_object_mut(), members) {
            jwk.extend(members);
        }
        jwk
    }

    /// A signature. It is empty, so good for nothing, where `alg` is not for this key or there is no randomness.
    pub fn sign(&self, alg: Alg, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => alg.rsa().and_then(|(encoding, _)| {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signature).ok()?;
                Some(signature)
            }),
            Pair::Ec(own, pair) if *own == alg => {
                pair.sign(&random, message).ok().map(|signature| signature.as_ref().to_vec())
            }
            Pair::Ec(..) => None,
        }
        .unwrap_or_default()
    }

    /// Whether this key has made a signature.
    pub fn verifies(&self, alg: Alg, message: &[u8], signature: &[u8]) -> bool {
        let (verification, public) = match &self.pair {
            Pair::Rsa(pair) => (alg.rsa().map(|(_, how)| how), pair.public_key().as_ref()),
            Pair::Ec(own, pair) => {
                let how = alg.curve().filter(|_| *own == alg).map(|(.., how)| how);
                (how, pair.public_key().as_ref())
            }
        };
        verification.is_some_and(|how| UnparsedPublicKey::new(how, public).verify(message, signature).is_ok())
    }
}

/// A token in compact form, whatever its parts are.
pub fn compact(header: &[u8], payload: &[u8], sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", base64url(header), base64url(payload));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", base64url(&signature))
}

/// Without padding.
pub(super) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::value::text;

    #[test]
    fn every_algorithm_signs_what_its_key_verifies() {
        let keys = [Alg::Rs256, Alg::Es256, Alg::Es384, Alg::Es512].map(|alg| Key::new(alg).unwrap());
        for alg in Alg::ALL {
            let able: Vec<&Key> = keys.iter().filter(|key| !key.sign(alg, b"message").is_empty()).collect();
            let [key] = able[..] else { panic!("{alg:?}: {able:?}") };
            let signature = key.sign(alg, b"message");
            assert!(key.verifies(alg, b"message", &signature), "{alg:?}");
            assert!(!key.verifies(alg, b"another", &signature), "{alg:?}");
            let others = Alg::ALL.into_iter().filter(|other| *other != alg);
            assert!(others.into_iter().all(|other| !key.verifies(other, b"message", &signature)), "{alg:?}");
            assert!(!Key::new(alg).unwrap().verifies(alg, b"message", &signature), "{alg:?}");
        }
    }

    #[test]
    fn what_is_published_is_the_public_key() {
        #[rustfmt::skip]
        let rows = [
            // algorithm, members, bytes of each
            (Alg::Rs256, "RSA", &[("n", 256), ("e", 3)][..]),
            (Alg::Es256, "EC", &[("x", 32), ("y", 32)]),
            (Alg::Es384, "EC", &[("x", 48), ("y", 48)]),
            (Alg::Es512, "EC", &[("x", 66), ("y", 66)]),
        ];
        for (alg, kind, members) in rows {
            let key = Key::new(alg).unwrap();
            let jwk = key.jwk();
            assert_eq!((text(&jwk, "/kty"), text(&jwk, "/alg")), (kind, alg.name()));
            assert_eq!(text(&jwk, "/kid"), key.kid());
            let der = key.public_der();
            for (member, length) in members {
                let bytes = URL_SAFE_NO_PAD.decode(jwk[*member].as_str().unwrap()).unwrap();
                assert_eq!(bytes.len(), *length, "{alg:?} {member}");
                assert!(der.windows(bytes.len()).any(|window| window == bytes), "{alg:?} {member}");
            }
            assert!(key.public_pem().starts_with("-----BEGIN PUBLIC KEY-----\n"));
        }
    }
}
