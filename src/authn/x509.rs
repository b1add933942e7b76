//! Client certificates: the chain judged against the client CA bundle, the leaf's subject read as a user.
//!
//! The handshake has proved possession of the leaf's key and nothing else. The chain is judged when the connection's first request comes and the
//! judgement kept with the connection; every later request checks only that the authenticators are still the same and
//! that no certificate of the chain has expired.
//!
//! Deliberately stricter than kube-apiserver: a CA's own certificate is no client certificate, and neither is one
//! of a version before 3; a subject in an encoding other than UTF-8 or ASCII is an error where it is needed.

mod subject;

use super::{Authenticated, Method};
use crate::identity::{self, User};
use arc_swap::ArcSwapOption;
use aws_lc_rs::digest;
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter, KeyUsage};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The key under which the user's extra names the certificate.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
/// More certificates than any real chain has; bounds what a stranger can make the gate verify.
const MAX_PRESENTED: usize = 16;
/// How long a refusal is kept with its connection. Seconds. (A certificate may become valid meanwhile.)
const REFUSAL_KEPT: u64 = 10;

/// The client CAs of one snapshot.
#[derive(Debug)]
pub(super) struct X509 {
    /// Tells judgements under these CAs from those under others.
    generation: u64,
    anchors: Vec<TrustAnchor<'static>>,
    /// What a trust anchor leaves out of its certificate; parallel to `anchors`.
    bounds: Vec<Bounds>,
    algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
}

/// What a CA's certificate says besides name and key. webpki takes anchors as unconditional; Kubernetes does not.
#[derive(Debug)]
struct Bounds {
    /// Seconds since the epoch.
    valid: RangeInclusive<u64>,
    path_len: Option<u32>,
    client_auth: bool,
}

/// The judgement of a connection's chain, kept with the connection.
#[derive(Debug, Default)]
pub(super) struct Cache(ArcSwapOption<Judgement>);

#[derive(Debug)]
struct Judgement {
    generation: u64,
    /// When this judgement holds, in seconds since the epoch.
    holds: RangeInclusive<u64>,
    outcome: Result<Option<Authenticated>, String>,
}

impl X509 {
    /// Takes the certificates of a client CA bundle; the problems of each are said, not only the first.
    pub(super) fn new(bundle: &[CertificateDer<'static>]) -> Result<Self, Vec<String>> {
        static GENERATION: AtomicU64 = AtomicU64::new(0);
        let (mut anchors, mut bounds, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for (i, certificate) in bundle.iter().enumerate() {
            match authority(certificate) {
                Ok((anchor, bound)) => {
                    anchors.push(anchor);
                    bounds.push(bound);
                }
                Err(problem) => errors.push(format!("certificate {}: {problem}", i + 1)),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all;
        Ok(Self { generation: GENERATION.fetch_add(1, Ordering::Relaxed), anchors, bounds, algorithms })
    }

    /// How many CAs there are.
    pub(super) fn len(&self) -> usize {
        self.anchors.len()
    }

    /// What is odd at `now` but no reason to refuse the bundle.
    pub(super) fn warnings(&self, now: SystemTime) -> Vec<String> {
        let now = seconds(now);
        let warn = |(i, bounds): (usize, &Bounds)| {
            let n = i + 1;
            if !bounds.client_auth {
                return Some(format!(
                    "certificate {n}: its extended key usage rules out client certificates"
                ));
            }
            (now > *bounds.valid.end()).then(|| format!("certificate {n}: has expired"))
        };
        self.bounds.iter().enumerate().filter_map(warn).collect()
    }

    /// Who presented `chain` (leaf first). None: no opinion, since there is no chain or no name in it.
    pub(super) fn authenticate(
        &self,
        chain: &[CertificateDer<'static>],
        cache: &Cache,
        now: SystemTime,
    ) -> Result<Option<Authenticated>, String> {
        let Some((leaf, rest)) = chain.split_first() else { return Ok(None) };
        let now = seconds(now);
        if let Some(known) = &*cache.0.load()
            && known.generation == self.generation
            && known.holds.contains(&now)
        {
            return known.outcome.clone();
        }
        let (outcome, holds) = match self.judge(leaf, rest, now) {
            Ok((user, valid)) => {
                let expires = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(*valid.end()));
                (Ok(user.map(|user| Authenticated::new(user, Method::X509, expires))), valid)
            }
            Err(problem) => {
                let id = credential_id(leaf);
                (Err(format!("client certificate {id}: {problem}")), now..=now.saturating_add(REFUSAL_KEPT))
            }
        };
        let judgement = Judgement { generation: self.generation, holds, outcome: outcome.clone() };
        cache.0.store(Some(Arc::new(judgement)));
        outcome
    }

    /// The user and when every certificate on the way to the CA is valid.
    fn judge(
        &self,
        leaf: &CertificateDer<'static>,
        rest: &[CertificateDer<'static>],
        now: u64,
    ) -> Result<(Option<Arc<User>>, RangeInclusive<u64>), String> {
        if rest.len() >= MAX_PRESENTED {
            return Err(format!("more than {MAX_PRESENTED} certificates were presented"));
        }
        let entity = EndEntityCert::try_from(leaf).map_err(|e| describe(&e))?;
        let bounds = |path: &webpki::VerifiedPath<'_>| {
            let known = |(a, _): &(&TrustAnchor<'static>, &Bounds)| std::ptr::eq(*a, path.anchor());
            self.anchors.iter().zip(&self.bounds).find(known).map(|(_, bounds)| bounds)
        };
        let within = |path: &webpki::VerifiedPath<'_>| {
            let bounds = bounds(path).ok_or(webpki::Error::UnknownIssuer)?;
            bounds.check(path.intermediate_certificates().count(), now)
        };
        let path = entity
            .verify_for_usage(
                self.algorithms,
                &self.anchors,
                rest,
                UnixTime::since_unix_epoch(Duration::from_secs(now)),
                ClientAuth,
                None,
                Some(&within),
            )
            .map_err(|e| describe(&e))?;
        let mut valid = bounds(&path).map_or(0..=u64::MAX, |b| b.valid.clone());
        for link in path.intermediate_certificates() {
            valid = both(valid, validity(&parsed(&link.der())?));
        }
        let leaf_parsed = parsed(leaf)?;
        valid = both(valid, validity(&leaf_parsed));
        Ok((user(leaf, &leaf_parsed)?, valid))
    }
}

impl Bounds {
    /// What Kubernetes asks of the CA's own certificate. An error makes webpki try other ways to an anchor.
    fn check(&self, intermediates: usize, now: u64) -> Result<(), webpki::Error> {
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
        if !self.client_auth {
            return Err(not_for_clients(Vec::new()));
        }
        Ok(())
    }
}

/// No extended key usage at all, any, or client authentication; asked of the leaf and of each intermediate.
struct ClientAuth;

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

fn authority(certificate: &CertificateDer<'static>) -> Result<(TrustAnchor<'static>, Bounds), String> {
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
        valid: validity(&parsed),
        path_len: constraints.and_then(|c| c.value.path_len_constraint),
        client_auth: usage.is_none_or(|u| u.value.any || u.value.client_auth),
    };
    Ok((anchor, bounds))
}

/// What the subject says; None without a common name.
fn user(der: &CertificateDer<'_>, leaf: &X509Certificate<'_>) -> Result<Option<Arc<User>>, String> {
    let subject = subject::read(leaf.subject())?;
    let (Some(name), uid, mut groups) = (subject.name, subject.uid, subject.groups) else { return Ok(None) };
    identity::add_authenticated(&name, &mut groups);
    let extra = BTreeMap::from([(CREDENTIAL_ID.to_owned(), vec![credential_id(der)])]);
    User::new(&name, &uid, groups, extra).map(Some).map_err(|e| e.to_string())
}

fn credential_id(der: &CertificateDer<'_>) -> String {
    let mut id = "X509SHA256=".to_owned();
    for byte in digest::digest(&digest::SHA256, der).as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    id
}

fn parsed<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("bytes follow the certificate".to_owned()),
        Err(e) => Err(format!("not a certificate: {e}")),
    }
}

fn validity(certificate: &X509Certificate<'_>) -> RangeInclusive<u64> {
    let second = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    let validity = certificate.validity();
    second(validity.not_before)..=second(validity.not_after)
}

fn both(a: RangeInclusive<u64>, b: RangeInclusive<u64>) -> RangeInclusive<u64> {
    *a.start().max(b.start())..=*a.end().min(b.end())
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// For the log; webpki's own words are the names of its variants.
fn describe(error: &webpki::Error) -> String {
    use webpki::Error::*;
    match error {
        // A CA of the right name and the wrong key.
        UnknownIssuer | InvalidSignatureForPublicKey => "signed by an unknown authority".to_owned(),
        CertExpired { .. } => "a certificate of the chain has expired".to_owned(),
        CertNotValidYet { .. } => "a certificate of the chain is not yet valid".to_owned(),
        CaUsedAsEndEntity => "a CA's own certificate is not accepted as a client certificate".to_owned(),
        UnsupportedCertVersion => "not a certificate of version 3".to_owned(),
        RequiredEkuNotFoundContext(_) => {
            "the extended key usage of the chain does not allow client authentication".to_owned()
        }
        PathLenConstraintViolated => "a CA of the chain does not allow so many CAs below it".to_owned(),
        other => format!("cannot be verified: {other}"),
    }
}

#[cfg(test)]
#[cfg(feature = "demo")]
mod tests;
