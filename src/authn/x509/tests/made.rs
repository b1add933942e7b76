//! Certificates as odd as they come: rcgen's, and what is made of them by exchanging pieces and signing again.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, RsaKeySize, SignatureAlgorithm, SigningKey as _,
};
use rustls::pki_types::CertificateDer;
use std::time::Duration;

/// A CA and what it says of itself.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) der: CertificateDer<'static>,
}

impl Authority {
    /// A root for P-256.
    pub(super) fn root(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::with_key(name, key(), change)
    }

    pub(super) fn with_key(name: &str, key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let params = authority(name, change);
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), der }
    }

    /// A CA below this one.
    pub(super) fn below(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (params, key) = (authority(name, change), key());
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), der }
    }

    /// The same key and name in another certificate, its own.
    pub(super) fn again(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        authority(name, change).self_signed(self.issuer.key()).unwrap().der().clone()
    }

    /// A client certificate of alice.
    pub(super) fn leaf(&self, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("alice");
        valid(&mut params);
        change(&mut params);
        params.signed_by(&key(), &self.issuer).unwrap().der().clone()
    }

    /// `der` with other pieces in what is signed, and signed again.
    pub(super) fn changed(
        &self,
        der: &CertificateDer<'_>,
        change: impl FnOnce(&mut Vec<Vec<u8>>),
    ) -> CertificateDer<'static> {
        resigned(der, None, change, |tbs| self.issuer.key().sign(tbs).unwrap())
    }
}

/// `der` with other pieces in what is signed, another algorithm (its content) or none, and the signature over it.
pub(super) fn resigned(
    der: &[u8],
    algorithm: Option<&[u8]>,
    change: impl FnOnce(&mut Vec<Vec<u8>>),
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> CertificateDer<'static> {
    let outer = members(content(der).0);
    let mut pieces = members(content(&outer[0]).0);
    let algorithm = algorithm.map_or_else(|| outer[1].clone(), |content| tlv(0x30, content));
    // After the version, where there is one, come the serial number and the algorithm.
    let at = if pieces[0][0] == 0xa0 { 2 } else { 1 };
    pieces[at] = algorithm.clone();
    change(&mut pieces);
    let tbs = tlv(0x30, &pieces.concat());
    let signature = tlv(0x03, &[vec![0], sign(&tbs)].concat());
    tlv(0x30, &[tbs, algorithm, signature].concat()).into()
}

/// Where what can be exchanged stands in a certificate of version 3.
pub(super) const VERSION: usize = 0;
pub(super) const VALIDITY: usize = 4;
pub(super) const SUBJECT: usize = 5;
pub(super) const EXTENSIONS: usize = 7;

pub(super) fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

pub(super) fn rsa(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_rsa_for(algorithm, RsaKeySize::_2048).unwrap()
}

pub(super) fn named(name: &str) -> DistinguishedName {
    let mut dn = DistinguishedName::new();
    dn.push(DnType::CommonName, name);
    dn
}

fn authority(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params);
    change(&mut params);
    params
}

/// Long enough for every test.
fn valid(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = params.not_before + Duration::from_secs(100 * 365 * 86_400);
}

pub(super) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let head = match length {
        0..0x80 => vec![tag, length as u8],
        0x80..0x100 => vec![tag, 0x81, length as u8],
        0x100..0x1_0000 => vec![tag, 0x82, (length >> 8) as u8, length as u8],
        _ => vec![tag, 0x83, (length >> 16) as u8, (length >> 8) as u8, length as u8],
    };
    [&head[..], content].concat()
}

/// A subject of (attribute, tag of the value, value), one attribute a set.
pub(super) fn subject(attributes: &[(&[u8], u8, &[u8])]) -> Vec<u8> {
    let set = |(kind, tag, value): &(&[u8], u8, &[u8])| {
        tlv(0x31, &tlv(0x30, &[tlv(6, kind), tlv(*tag, value)].concat()))
    };
    tlv(0x30, &attributes.iter().flat_map(set).collect::<Vec<u8>>())
}

/// The content of the first element, and what follows it.
fn content(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (size, at) = match bytes[1] {
        short @ 0..0x80 => (usize::from(short), 2),
        long => {
            let at = 2 + usize::from(long & 0x7f);
            (bytes[2..at].iter().fold(0, |n, b| n << 8 | usize::from(*b)), at)
        }
    };
    bytes[at..].split_at(size)
}

/// The elements that follow one another, each with its head.
pub(super) fn members(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let rest = content(bytes).1;
        out.push(bytes[..bytes.len() - rest.len()].to_vec());
        bytes = rest;
    }
    out
}

/// The elements within the first one.
pub(super) fn within(bytes: &[u8]) -> Vec<Vec<u8>> {
    members(content(bytes).0)
}
