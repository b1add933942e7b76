//! Certificate revocation lists out of a file.
//!
//! A list speaks for the CA that has its issuer's name and has signed it. A CA without a list revokes nothing; one whose list
//! has expired is believed nothing any more, since what it revoked since then is unknown.

use super::{
    authorities::{Authorities, seconds},
    why::describe,
};
use crate::pem::File;
use rustls::pki_types::{
    CertificateRevocationListDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer,
};
use std::{sync::Arc, time::SystemTime};
use webpki::{CertRevocationList, OwnedCertRevocationList, RawPublicKeyEntity};
use x509_parser::{prelude::FromDer as _, revocation_list::CertificateRevocationList, x509::X509Version};

/// One day, in seconds: a list that is not replaced before will soon refuse everybody.
const SOON: u64 = 86_400;

/// The lists of one file, the newest first.
#[derive(Debug)]
pub(in crate::authn) struct Revocations(Vec<Read>);

/// What is kept of a list.
#[derive(Debug)]
pub(super) struct List {
    pub(super) list: CertRevocationList<'static>,
    /// Seconds since the epoch; from then on it is not the newest any more.
    pub(super) next_update: u64,
}

/// A list that has just been read.
#[derive(Debug)]
struct Read {
    /// Which of the file, from 1, and whose.
    what: String,
    list: Arc<List>,
    der: CertificateRevocationListDer<'static>,
    this_update: i64,
}

impl Revocations {
    /// The lists of a PEM file; the problems of each are said.
    pub(in crate::authn) fn new(file: &File) -> Result<Self, Vec<String>> {
        let ders = file.revocation_lists().map_err(|e| vec![e.to_string()])?;
        let (mut lists, mut errors) = (Vec::new(), Vec::new());
        for (i, der) in ders.into_iter().enumerate() {
            match Read::new(i + 1, der) {
                Ok(list) => lists.push(list),
                Err(problem) => errors.push(format!("{}: list {}: {problem}", file.origin, i + 1)),
            }
        }
        // Of several lists of a CA the first counts.
        lists.sort_by_key(|list| std::cmp::Reverse(list.this_update));
        if errors.is_empty() { Ok(Self(lists)) } else { Err(errors) }
    }

    /// The lists to consult under the CA of this name and key: all but those of another CA in `all` with the same name. A list
    /// that none of them has signed stays, so that it refuses.
    pub(super) fn concerning(
        &self,
        name: &[u8],
        key: &SubjectPublicKeyInfoDer<'_>,
        all: &[(Vec<u8>, SubjectPublicKeyInfoDer<'_>)],
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> Vec<Arc<List>> {
        let concerns = |read: &&Read| {
            read.list.list.issuer() != name
                || read.is_signed_by(key, algorithms)
                || !all.iter().any(|(other, key)| other == name && read.is_signed_by(key, algorithms))
        };
        self.0.iter().filter(concerns).map(|read| read.list.clone()).collect()
    }

    /// What is odd at `now` about the lists of the CAs of these bundles.
    pub(in crate::authn) fn warnings(&self, now: SystemTime, bundles: &[&Authorities]) -> Vec<String> {
        let now = seconds(now);
        let mut warnings = Vec::new();
        for read in &self.0 {
            let mut warn = |odd: &str| warnings.push(format!("{}: {odd}", read.what));
            let signed = bundles.iter().filter_map(|bundle| {
                bundle.signed(read.list.list.issuer(), |key| read.is_signed_by(key, bundle.algorithms()))
            });
            match signed.reduce(|one, other| one || other) {
                Some(true) => {}
                Some(false) => warn("not signed by the CA of that name, whose certificates are refused"),
                None => warn("not of one of the CAs, so only of use if clients present a CA of that name"),
            }
            match read.list.next_update {
                until if until <= now => {
                    warn("has expired; unless there is a newer one the certificates of that CA are refused");
                }
                until if until - now <= SOON => warn("expires within a day"),
                _ => {}
            }
        }
        warnings
    }
}

impl Read {
    fn new(place: usize, der: CertificateRevocationListDer<'static>) -> Result<Self, String> {
        let parsed = parsed(&der)?;
        if parsed.version() != Some(X509Version::V2) {
            return Err("not a revocation list of version 2".to_owned());
        }
        let Some(next) = parsed.next_update() else {
            return Err("does not say when the next one comes (nextUpdate)".to_owned());
        };
        let list = OwnedCertRevocationList::from_der(&der).map_err(|e| refused(&e))?;
        let next_update = u64::try_from(next.timestamp()).unwrap_or(0);
        let what = format!("list {place} ({})", parsed.issuer());
        let this_update = parsed.last_update().timestamp();
        drop(parsed);
        Ok(Self { what, list: Arc::new(List { list: list.into(), next_update }), der, this_update })
    }

    fn is_signed_by(
        &self,
        key: &SubjectPublicKeyInfoDer<'_>,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> bool {
        let (Ok(list), Ok(key)) = (parsed(&self.der), RawPublicKeyEntity::try_from(key)) else {
            return false;
        };
        let (text, signature) = (list.tbs_cert_list.as_ref(), &list.signature_value.data);
        algorithms.iter().any(|algorithm| key.verify_signature(*algorithm, text, signature).is_ok())
    }
}

fn parsed<'a>(der: &'a CertificateRevocationListDer<'_>) -> Result<CertificateRevocationList<'a>, String> {
    match CertificateRevocationList::from_der(der) {
        Ok(([], list)) => Ok(list),
        Ok(_) => Err("bytes follow the revocation list".to_owned()),
        Err(e) => Err(format!("not a revocation list: {e}")),
    }
}

fn refused(error: &webpki::Error) -> String {
    use webpki::Error::*;
    let words = match error {
        UnsupportedDeltaCrl => "a delta list, expected a complete one",
        UnsupportedIndirectCrl => "a list of several CAs' certificates, expected one of its own only",
        UnsupportedRevocationReasonsPartitioning => "a list of some reasons only, expected a complete one",
        UnsupportedCriticalExtension => "a critical extension is not understood",
        other => return format!("not a usable revocation list: {}", describe(other)),
    };
    words.to_owned()
}
