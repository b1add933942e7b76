//! What a CA's own certificate may say besides its name and key, and what is asked of all certificates of a chain.

use super::{parsed, why::describe};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime};
use std::{ops::RangeInclusive, time::Duration};
use webpki::{ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter, KeyUsage};
use x509_parser::{
    asn1_rs::{Oid, oid},
    prelude::X509Certificate,
};

/// What a CA's certificate says besides name and key. webpki takes anchors as unconditional; Kubernetes does not.
#[derive(Debug)]
pub(super) struct Bounds {
    /// Which of the bundle, from 1.
    pub(super) place: usize,
    pub(super) key: SubjectPublicKeyInfoDer<'static>,
    /// Seconds since the epoch.
    pub(super) valid: RangeInclusive<u64>,
    pub(super) path_len: Option<u32>,
    pub(super) client_auth: bool,
    /// Neither a key usage without `keyCertSign` nor a critical extension that nobody here understands.
    pub(super) may_sign: bool,
}

impl Bounds {
    /// What Kubernetes asks of the CA's own certificate.
    pub(super) fn check(&self, intermediates: usize, now: u64) -> Result<(), webpki::Error> {
        let at = |s: &u64| UnixTime::since_unix_epoch(Duration::from_secs(*s));
        let (time, not_before, not_after) = (at(&now), at(self.valid.start()), at(self.valid.end()));
        if time < not_before {
            return Err(webpki::Error::CertNotValidYet { time, not_before });
        }
        if time > not_after {
            return Err(webpki::Error::CertExpired { time, not_after });
        }
        if self.path_len.is_some_and(|most| u32::try_from(intermediates).is_ok_and(|n| n > most)) {
            return Err(webpki::Error::PathLenConstraintViolated);
        }
        if !self.may_sign {
            return Err(webpki::Error::EndEntityUsedAsCa);
        }
        if !self.client_auth {
            return Err(not_for_clients(Vec::new()));
        }
        Ok(())
    }
}

/// No extended key usage at all, any, or client authentication; asked of the leaf and of each intermediate.
pub(super) struct ClientAuth;

impl ExtendedKeyUsageValidator for ClientAuth {
    fn validate(&self, usages: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        // 1.3.6.1.5.5.7.3.2 and 2.5.29.37.0
        let accepted =
            [KeyPurposeId::new(&[0x2b, 6, 1, 5, 5, 7, 3, 2]), KeyPurposeId::new(&[0x55, 0x1d, 0x25, 0])];
        let mut present = Vec::new();
        for usage in usages {
            let usage = usage?;
            if accepted.contains(&usage) {
                return Ok(());
            }
            present.push(usage.to_decoded_oid());
        }
        if present.is_empty() { Ok(()) } else { Err(not_for_clients(present)) }
    }
}

fn not_for_clients(present: Vec<Vec<usize>>) -> webpki::Error {
    let required = KeyUsage::client_auth();
    webpki::Error::RequiredEkuNotFoundContext(webpki::RequiredEkuNotFoundContext { required, present })
}

/// An authority of a bundle, the `place`th.
pub(super) fn authority(
    certificate: &CertificateDer<'static>,
    place: usize,
) -> Result<(TrustAnchor<'static>, Bounds), String> {
    let parsed = parsed(certificate)?;
    let anchor = webpki::anchor_from_trusted_cert(certificate).map_err(|e| describe(&e))?.to_owned();
    let constraints = parsed.basic_constraints().map_err(|e| format!("basic constraints: {e}"))?;
    // Before version 3 there were no extensions to say it in.
    let is_ca = constraints.as_ref().map_or(parsed.version().0 < 2, |c| c.value.ca);
    if !is_ca {
        return Err("not a CA certificate, expected basic constraints CA:TRUE".to_owned());
    }
    let usage = parsed.extended_key_usage().map_err(|e| format!("extended key usage: {e}"))?;
    let bounds = Bounds {
        place,
        key: SubjectPublicKeyInfoDer::from(parsed.public_key().raw.to_vec()),
        valid: validity(&parsed),
        path_len: constraints.and_then(|c| c.value.path_len_constraint),
        client_auth: usage.is_none_or(|u| u.value.any || u.value.client_auth),
        may_sign: may_sign(&parsed) && is_understood(&parsed),
    };
    Ok((anchor, bounds))
}

/// Without a key usage a CA may sign; with one only if that says so.
pub(super) fn may_sign(ca: &X509Certificate<'_>) -> bool {
    match ca.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
        Err(_) => false,
    }
}

/// Whether every critical extension of a trust anchor is one that is heeded, here or by webpki.
fn is_understood(ca: &X509Certificate<'_>) -> bool {
    // Key usage, alternative names, basic constraints, name constraints, distribution points, policies, extended key usage.
    const HEEDED: [Oid<'static>; 7] = [
        oid!(2.5.29.15),
        oid!(2.5.29.17),
        oid!(2.5.29.19),
        oid!(2.5.29.30),
        oid!(2.5.29.31),
        oid!(2.5.29.32),
        oid!(2.5.29.37),
    ];
    ca.extensions().iter().all(|extension| !extension.critical || HEEDED.contains(&extension.oid))
}

pub(super) fn validity(certificate: &X509Certificate<'_>) -> RangeInclusive<u64> {
    let second = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    let validity = certificate.validity();
    second(validity.not_before)..=second(validity.not_after)
}

pub(super) fn both(a: RangeInclusive<u64>, b: RangeInclusive<u64>) -> RangeInclusive<u64> {
    *a.start().max(b.start())..=*a.end().min(b.end())
}
