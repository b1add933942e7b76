//! One public key, parsed once for each algorithm it may be used with.

use super::Algorithm;
use crate::pem::KeyBlock;
use aws_lc_rs::{
    digest,
    encoding::AsDer as _,
    rsa,
    signature::{self, EcdsaKeyPair, KeyPair as _, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::pki_types::PrivateKeyDer;
use x509_parser::{
    oid_registry::{OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521},
    prelude::{FromDer, X509Certificate},
    public_key::{PublicKey, RSAPublicKey},
    x509::SubjectPublicKeyInfo,
};

/// An RSA key of 2048 to 8192 bits, or a point on P-256, P-384 or P-521.
pub(super) struct Public {
    /// Never empty; a key is bound to these algorithms.
    verifiers: Vec<(Algorithm, ParsedPublicKey)>,
}

/// The curves of RFC 7518, each with the one algorithm that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

const RSA: [(Algorithm, &RsaParameters); 6] = [
    (Algorithm::Rs256, &signature::RSA_PKCS1_2048_8192_SHA256),
    (Algorithm::Rs384, &signature::RSA_PKCS1_2048_8192_SHA384),
    (Algorithm::Rs512, &signature::RSA_PKCS1_2048_8192_SHA512),
    (Algorithm::Ps256, &signature::RSA_PSS_2048_8192_SHA256),
    (Algorithm::Ps384, &signature::RSA_PSS_2048_8192_SHA384),
    (Algorithm::Ps512, &signature::RSA_PSS_2048_8192_SHA512),
];

const NO_KEY: &str =
    "expected a public key or certificate, or a private key, of RSA or of a curve P-256, P-384 or P-521";

impl Public {
    /// Modulus and exponent, big-endian; leading zeros do not matter.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, String> {
        let (n, e) = (without_zeros(modulus), without_zeros(exponent));
        let bits = 8 * n.len() - n.first().map_or(0, |first| first.leading_zeros() as usize);
        if !(2048..=8192).contains(&bits) {
            return Err(format!("an RSA key of {bits} bits, expected 2048 to 8192"));
        }
        if n.last().is_none_or(|last| last % 2 == 0) {
            return Err("an RSA key with an even modulus".to_owned());
        }
        // Go's own bound; none of those in use comes near it.
        let small = e.len() <= 4 && e.iter().fold(0_u64, |e, byte| e << 8 | u64::from(*byte)) < 1 << 31;
        if !small || e == [1] || e.last().is_none_or(|last| last % 2 == 0) {
            return Err(
                "an RSA key whose exponent is not an odd number of at least 3 and below 2^31".to_owned()
            );
        }
        let parse = |(algorithm, parameters)| {
            let key = RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters);
            key.map(|key| (algorithm, key)).map_err(|e| format!("an RSA key that cannot be used: {e}"))
        };
        Ok(Self { verifiers: RSA.into_iter().map(parse).collect::<Result<_, _>>()? })
    }

    /// The coordinates, each as long as the curve's numbers are.
    pub(super) fn ec(curve: Curve, x: &[u8], y: &[u8]) -> Result<Self, String> {
        let size = curve.size();
        if x.len() != size || y.len() != size {
            return Err(format!("coordinates of {} and {} bytes, expected {size} each", x.len(), y.len()));
        }
        let (algorithm, verification) = curve.algorithm();
        let key = ParsedPublicKey::new(verification, [&[4], x, y].concat());
        let key = key.map_err(|_| "the point is not on its curve".to_owned())?;
        Ok(Self { verifiers: vec![(algorithm, key)] })
    }

    /// The key in, or half of, what stood in a PEM file.
    pub(super) fn from_pem(block: &KeyBlock) -> Result<Self, String> {
        match block {
            KeyBlock::Public(der) => Self::from_der(der),
            KeyBlock::Certificate(der) => {
                let (_, certificate) =
                    X509Certificate::from_der(der).map_err(|_| "not a certificate".to_owned())?;
                Self::from_der(certificate.public_key().raw)
            }
            KeyBlock::Private(key) => Self::from_private(key),
        }
    }

    /// What kube-apiserver calls the key in the tokens that it signs.
    pub(super) fn kubernetes_id(&self) -> Result<String, String> {
        let (_, key) = self.verifiers.first().ok_or(NO_KEY)?;
        let der = key.as_der().map_err(|_| NO_KEY)?;
        Ok(URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, der.as_ref())))
    }

    /// Whether the key made this signature with this algorithm; it never did with one of another type of key.
    pub(super) fn made(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let mut fitting = self.verifiers.iter().filter(|(fits, _)| *fits == algorithm);
        fitting.any(|(_, key)| key.verify_sig(message, signature).is_ok())
    }

    /// A SubjectPublicKeyInfo, or an RSAPublicKey of PKCS#1.
    fn from_der(der: &[u8]) -> Result<Self, String> {
        if let Ok(([], key)) = RSAPublicKey::from_der(der) {
            return Self::rsa(key.modulus, key.exponent);
        }
        let Ok(([], info)) = SubjectPublicKeyInfo::from_der(der) else { return Err(NO_KEY.to_owned()) };
        match info.parsed() {
            Ok(PublicKey::RSA(key)) => Self::rsa(key.modulus, key.exponent),
            Ok(PublicKey::EC(point)) => {
                let named = info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
                let curve = Curve::ALL.into_iter().find(|curve| named.as_ref() == Some(&curve.oid()));
                Self::from_point(curve.ok_or(NO_KEY)?, point.data())
            }
            _ => Err(NO_KEY.to_owned()),
        }
    }

    /// A point in its uncompressed form, the only one that Go reads.
    fn from_point(curve: Curve, point: &[u8]) -> Result<Self, String> {
        match point {
            [4, coordinates @ ..] => {
                let (x, y) = coordinates.split_at(coordinates.len() / 2);
                Self::ec(curve, x, y)
            }
            _ => Err("the point is not in its uncompressed form".to_owned()),
        }
    }

    fn from_private(key: &PrivateKeyDer<'_>) -> Result<Self, String> {
        let der = key.secret_der();
        let rsa = rsa::KeyPair::from_pkcs8(der).or_else(|_| rsa::KeyPair::from_der(der));
        if let Ok(pair) = rsa {
            return Self::from_der(pair.public_key().as_der().map_err(|_| NO_KEY)?.as_ref());
        }
        let ec = |curve: Curve| {
            let signing = match curve {
                Curve::P256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
                Curve::P384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
                Curve::P521 => &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
            };
            // Reads PKCS#8 as well as SEC 1.
            Some((curve, EcdsaKeyPair::from_private_key_der(signing, der).ok()?))
        };
        let (curve, pair) = Curve::ALL.into_iter().find_map(ec).ok_or(NO_KEY)?;
        Self::from_point(curve, pair.public_key().as_ref())
    }
}

impl Curve {
    const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// `P-256`, …
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "P-256" => Some(Self::P256),
            "P-384" => Some(Self::P384),
            "P-521" => Some(Self::P521),
            _ => None,
        }
    }

    /// Bytes of a coordinate.
    const fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    const fn algorithm(self) -> (Algorithm, &'static signature::EcdsaVerificationAlgorithm) {
        match self {
            Self::P256 => (Algorithm::Es256, &signature::ECDSA_P256_SHA256_FIXED),
            Self::P384 => (Algorithm::Es384, &signature::ECDSA_P384_SHA384_FIXED),
            Self::P521 => (Algorithm::Es512, &signature::ECDSA_P521_SHA512_FIXED),
        }
    }

    fn oid(self) -> x509_parser::der_parser::oid::Oid<'static> {
        match self {
            Self::P256 => OID_EC_P256,
            Self::P384 => OID_NIST_EC_P384,
            Self::P521 => OID_NIST_EC_P521,
        }
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}
