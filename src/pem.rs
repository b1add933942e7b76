//! PEM: certificates and private keys out of the bytes of a file. The only user of `rustls-pemfile`, so that its
//! successor changes this file alone.
//!
//! Works on bytes, not on paths: a kubeconfig carries PEM inside its own text. `origin` is what errors name.

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_pemfile::Item;

/// Bytes that do not hold what was expected of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {problem}")]
pub struct Error {
    /// The file, or the key of another file, that the bytes came from.
    pub origin: String,
    /// What is wrong with them.
    pub problem: Problem,
}

/// What can be wrong with a PEM file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No block of the kind asked for.
    #[error("no certificate found, expected PEM blocks \"BEGIN CERTIFICATE\"")]
    NoCertificate,
    /// No block of the kind asked for.
    #[error(
        "no private key found, expected a PEM block \"BEGIN PRIVATE KEY\", \"BEGIN RSA PRIVATE KEY\" or \"BEGIN EC PRIVATE KEY\""
    )]
    NoPrivateKey,
    /// There is nobody to ask for the passphrase.
    #[error("the private key is encrypted, expected one without a passphrase")]
    EncryptedPrivateKey,
    /// The text between the markers is not base64, or a marker is missing.
    #[error("not PEM: {0}")]
    Malformed(String),
}

/// All certificates in `pem`, in order; blocks of other kinds are passed over. At least one, or an error.
pub fn certificates(pem: &[u8], origin: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = items(pem, origin)?
        .into_iter()
        .filter_map(|item| match item {
            Item::X509Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect::<Vec<_>>();
    if found.is_empty() { Err(error(origin, Problem::NoCertificate)) } else { Ok(found) }
}

/// The first private key in `pem` (PKCS#8, PKCS#1 or SEC1); blocks of other kinds are passed over.
pub fn private_key(pem: &[u8], origin: &str) -> Result<PrivateKeyDer<'static>, Error> {
    let found = items(pem, origin).map(|items| {
        items.into_iter().find_map(|item| match item {
            Item::Pkcs1Key(key) => Some(key.into()),
            Item::Pkcs8Key(key) => Some(key.into()),
            Item::Sec1Key(key) => Some(key.into()),
            _ => None,
        })
    });
    match found {
        Ok(Some(key)) => Ok(key),
        _ if is_encrypted(pem) => Err(error(origin, Problem::EncryptedPrivateKey)),
        Ok(None) => Err(error(origin, Problem::NoPrivateKey)),
        Err(malformed) => Err(malformed),
    }
}

/// The two ways a passphrase shows: PKCS#8's own marker, and the header line of the older form.
fn is_encrypted(pem: &[u8]) -> bool {
    let holds = |marker: &[u8]| pem.windows(marker.len()).any(|w| w == marker);
    holds(b"BEGIN ENCRYPTED PRIVATE KEY") || holds(b"Proc-Type: 4,ENCRYPTED")
}

fn items(pem: &[u8], origin: &str) -> Result<Vec<Item>, Error> {
    let mut rest = pem;
    rustls_pemfile::read_all(&mut rest)
        .collect::<Result<_, _>>()
        .map_err(|e| error(origin, Problem::Malformed(e.to_string())))
}

fn error(origin: &str, problem: Problem) -> Error {
    Error { origin: origin.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "AAECAwQF";

    fn block(kind: &str) -> String {
        format!("-----BEGIN {kind}-----\n{BODY}\n-----END {kind}-----\n")
    }

    #[test]
    fn certificates_come_in_order_and_other_blocks_are_passed_over() {
        let pem =
            format!("a comment\n{}{}{}", block("CERTIFICATE"), block("PRIVATE KEY"), block("CERTIFICATE"));
        assert_eq!(certificates(pem.as_bytes(), "ca.crt").unwrap().len(), 2);
    }

    #[test]
    fn every_kind_of_key_is_read() {
        for kind in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"] {
            let pem = block("CERTIFICATE") + &block(kind);
            assert_eq!(
                private_key(pem.as_bytes(), "tls.key").unwrap().secret_der(),
                [0, 1, 2, 3, 4, 5],
                "{kind}"
            );
        }
    }

    #[test]
    fn errors_name_the_file_and_what_was_expected() {
        let broken = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
        let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        let unended = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        for (pem, cert, key) in [
            ("", "f: no certificate found", "f: no private key found"),
            ("hello", "f: no certificate found", "f: no private key found"),
            (broken, "f: not PEM: ", "f: not PEM: "),
            (unended, "f: not PEM: ", "f: not PEM: "),
            (&block("PRIVATE KEY"), "f: no certificate found", ""),
            (&block("ENCRYPTED PRIVATE KEY"), "f: no certificate found", "f: the private key is encrypted"),
            (older, "f: not PEM: ", "f: the private key is encrypted"),
        ] {
            let got = certificates(pem.as_bytes(), "f").map_or_else(|e| e.to_string(), |_| String::new());
            assert!(got.starts_with(cert), "{pem:?}: {got}");
            let got = private_key(pem.as_bytes(), "f").map_or_else(|e| e.to_string(), |_| String::new());
            assert!(got.starts_with(key) && got.is_empty() == key.is_empty(), "{pem:?}: {got}");
        }
    }
}
