//! Client certificates: the chain judged against the client CA bundle, the leaf's subject read as a user.
//!
//! The handshake has proved possession of the leaf's key and nothing else. The chain is judged when the connection's first request comes and the
//! judgement kept with the connection; every later request checks only that the authenticators are still the same and
//! that neither a certificate of the chain nor a revocation list has expired.
//!
//! Deliberately stricter than kube-apiserver: a CA's own certificate is no client certificate, and neither is one
//! of a version before 3; a subject in an encoding other than UTF-8 or ASCII is an error where it is needed.

mod authorities;
mod bounds;
mod revocation;
mod subject;
mod why;

pub(super) use authorities::{Authorities, Cache};
pub(super) use revocation::Revocations;

use super::{Authenticated, Method};
use crate::identity::{self, User};
use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::SystemTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The key under which the user's extra names the certificate.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// The client CAs of one snapshot.
#[derive(Debug)]
pub(super) struct X509 {
    authorities: Authorities,
}

impl X509 {
    /// Takes the certificates of a client CA bundle; the problems of each are said, not only the first.
    pub(super) fn new(
        bundle: &[CertificateDer<'static>],
        revocations: Option<&Revocations>,
    ) -> Result<Self, Vec<String>> {
        Ok(Self { authorities: Authorities::new(bundle, revocations)? })
    }

    /// The CAs.
    pub(super) fn authorities(&self) -> &Authorities {
        &self.authorities
    }

    /// Who presented `chain` (leaf first). None: no opinion, since there is no chain or no name in it.
    pub(super) fn authenticate(
        &self,
        chain: &[CertificateDer<'static>],
        cache: &Cache<Option<Authenticated>>,
        now: SystemTime,
    ) -> Result<Option<Authenticated>, String> {
        let judged = self.authorities.judge(chain, cache, now, |leaf, expires| {
            Ok(user(leaf)?.map(|user| Authenticated::new(user, Method::X509, expires)))
        });
        judged.map(Option::flatten)
    }
}

/// The last common name of a certificate's subject; None when there is none or it is empty.
pub(super) fn common_name(leaf: &X509Certificate<'_>) -> Result<Option<String>, String> {
    subject::common_name(leaf.subject())
}

/// What the subject says; None without a common name.
fn user(leaf: &X509Certificate<'_>) -> Result<Option<Arc<User>>, String> {
    let subject = subject::read(leaf.subject())?;
    let (Some(name), uid, mut groups) = (subject.name, subject.uid, subject.groups) else { return Ok(None) };
    identity::add_authenticated(&name, &mut groups);
    let extra = BTreeMap::from([(CREDENTIAL_ID.to_owned(), vec![credential_id(leaf.as_raw())])]);
    User::new(&name, &uid, groups, extra).map(Some).map_err(|e| e.to_string())
}

fn credential_id(der: &[u8]) -> String {
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

#[cfg(test)]
#[cfg(feature = "demo")]
mod tests;
