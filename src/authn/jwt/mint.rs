//! Tokens for tests, signed with keys that are made once in a run.

use super::key::Algorithm;
use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    rsa::{self, KeySize},
    signature::{self, EcdsaKeyPair, KeyPair as _},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// A private key, and what its tokens call it.
pub(in crate::authn) struct Signer {
    pub(in crate::authn) kid: &'static str,
    pair: Pair,
}

enum Pair {
    Rsa(rsa::KeyPair),
    Ec(Algorithm, EcdsaKeyPair),
}

pub(in crate::authn) static RSA: LazyLock<Signer> = LazyLock::new(|| Signer::rsa("rsa"));
/// Another of the same kind.
pub(in crate::authn) static RSA2: LazyLock<Signer> = LazyLock::new(|| Signer::rsa("rsa2"));
pub(in crate::authn) static P256: LazyLock<Signer> = LazyLock::new(|| Signer::ec("p256", Algorithm::Es256));
pub(in crate::authn) static P384: LazyLock<Signer> = LazyLock::new(|| Signer::ec("p384", Algorithm::Es384));
pub(in crate::authn) static P521: LazyLock<Signer> = LazyLock::new(|| Signer::ec("p521", Algorithm::Es512));

/// The key that signs with this algorithm.
pub(in crate::authn) fn signer(algorithm: Algorithm) -> &'static Signer {
    match algorithm {
        Algorithm::Es256 => &P256,
        Algorithm::Es384 => &P384,
        Algorithm::Es512 => &P521,
        _ => &RSA,
    }
}

pub(in crate::authn) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key set of these.
pub(in crate::authn) fn jwks(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

impl Signer {
    fn rsa(kid: &'static str) -> Self {
        Self { kid, pair: Pair::Rsa(rsa::KeyPair::generate(KeySize::Rsa2048).unwrap()) }
    }

    fn ec(kid: &'static str, algorithm: Algorithm) -> Self {
        let signing = match algorithm {
            Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            Algorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
            _ => &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
        };
        Self { kid, pair: Pair::Ec(algorithm, EcdsaKeyPair::generate(signing).unwrap()) }
    }

    /// RS256, or the curve's own.
    pub(in crate::authn) fn algorithm(&self) -> Algorithm {
        match self.pair {
            Pair::Rsa(_) => Algorithm::Rs256,
            Pair::Ec(algorithm, _) => algorithm,
        }
    }

    /// A good token of these claims.
    pub(in crate::authn) fn token(&self, claims: &Value) -> String {
        let header = json!({"alg": self.algorithm().as_str(), "kid": self.kid});
        self.sign(&header.to_string(), &claims.to_string(), self.algorithm())
    }

    /// A token of any header and claims, signed with this algorithm whatever the header says.
    pub(in crate::authn) fn sign(&self, header: &str, claims: &str, algorithm: Algorithm) -> String {
        let signed = format!("{}.{}", base64url(header), base64url(claims));
        let signature = self.signature(signed.as_bytes(), algorithm);
        format!("{signed}.{}", base64url(signature))
    }

    fn signature(&self, message: &[u8], algorithm: Algorithm) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let padding: &dyn signature::RsaEncoding = match algorithm {
                    Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
                    Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
                    Algorithm::Ps512 => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
            Pair::Ec(_, pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
        }
    }

    /// The public half as issuers publish it.
    pub(in crate::authn) fn jwk(&self) -> Value {
        match &self.pair {
            Pair::Rsa(pair) => {
                let der = pair.public_key().as_ref();
                let (_, key) = x509_parser::prelude::FromDer::from_der(der)
                    .map(|(rest, key): (_, x509_parser::public_key::RSAPublicKey<'_>)| (rest, key))
                    .unwrap();
                let modulus = key.modulus.strip_prefix(&[0]).unwrap_or(key.modulus);
                json!({"kty": "RSA", "kid": self.kid, "use": "sig", "alg": "RS256", "n": base64url(modulus), "e": base64url(key.exponent)})
            }
            Pair::Ec(algorithm, pair) => {
                let coordinates = &pair.public_key().as_ref()[1..];
                let (x, y) = coordinates.split_at(coordinates.len() / 2);
                let curve = match algorithm {
                    Algorithm::Es256 => "P-256",
                    Algorithm::Es384 => "P-384",
                    _ => "P-521",
                };
                json!({"kty": "EC", "kid": self.kid, "use": "sig", "crv": curve, "x": base64url(x), "y": base64url(y)})
            }
        }
    }

    /// `BEGIN PUBLIC KEY`
    pub(in crate::authn) fn public_pem(&self) -> String {
        pem("PUBLIC KEY", &self.public_der())
    }

    /// SubjectPublicKeyInfo.
    pub(in crate::authn) fn public_der(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Pair::Ec(_, pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
        }
    }

    /// `BEGIN RSA PUBLIC KEY`, of an RSA key.
    pub(in crate::authn) fn pkcs1_pem(&self) -> String {
        match &self.pair {
            Pair::Rsa(pair) => pem("RSA PUBLIC KEY", pair.public_key().as_ref()),
            Pair::Ec(..) => panic!("not RSA"),
        }
    }

    /// `BEGIN PRIVATE KEY`
    pub(in crate::authn) fn private_pem(&self) -> String {
        match &self.pair {
            Pair::Rsa(pair) => pem("PRIVATE KEY", pair.as_der().unwrap().as_ref()),
            Pair::Ec(_, pair) => pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref()),
        }
    }

    /// `BEGIN EC PRIVATE KEY`, of an EC key.
    pub(in crate::authn) fn sec1_pem(&self) -> String {
        match &self.pair {
            Pair::Ec(_, pair) => pem("EC PRIVATE KEY", pair.private_key().as_der().unwrap().as_ref()),
            Pair::Rsa(_) => panic!("not EC"),
        }
    }
}

pub(in crate::authn) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
