//! PEM: certificates and keys out of files. The only user of `rustls-pemfile`, so that its successor changes this
//! file alone.
//!
//! Reading and parsing are two steps: a reload reads everything first, so that what is parsed belongs together, and a
//! kubeconfig carries PEM inside its own text.

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls_pemfile::Item;
use std::{fmt, io::Read as _, path::Path};

/// Bytes of one file. A bundle of CAs takes some kilobytes.
const LARGEST: u64 = 16 << 20;

/// A file in memory, and the name that errors call it by. May hold a secret: its bytes are never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct File {
    /// The path, or the key of another file that the bytes stood under.
    pub origin: String,
    /// As they were.
    pub bytes: Vec<u8>,
}

/// A block that a public key can be had from.
#[derive(Debug, PartialEq, Eq)]
pub enum KeyBlock {
    /// DER of a SubjectPublicKeyInfo (`BEGIN PUBLIC KEY`) or of PKCS#1 (`BEGIN RSA PUBLIC KEY`); labels and contents do not
    /// always agree, so the bytes must tell.
    Public(Vec<u8>),
    /// The key that it certifies.
    Certificate(CertificateDer<'static>),
    /// Its public half.
    Private(PrivateKeyDer<'static>),
}

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
    /// No block of the kind asked for.
    #[error(
        "no public key found, expected PEM blocks \"BEGIN PUBLIC KEY\", \"BEGIN RSA PUBLIC KEY\" or \"BEGIN CERTIFICATE\""
    )]
    NoPublicKey,
    /// No block of the kind asked for.
    #[error("no revocation list found, expected PEM blocks \"BEGIN X509 CRL\"")]
    NoRevocationList,
    /// There is nobody to ask for the passphrase.
    #[error("the private key is encrypted, expected one without a passphrase")]
    EncryptedPrivateKey,
    /// The text between the markers is not base64, or a marker is missing.
    #[error("not PEM: {0}")]
    Malformed(String),
}

impl File {
    /// Reads a file of at most 16 MiB. The error names it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let origin = path.display().to_string();
        let mut bytes = Vec::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
        match read {
            Ok(n) if n as u64 > LARGEST => Err(format!("{origin}: larger than the allowed {LARGEST} bytes")),
            Ok(_) => Ok(Self { origin, bytes }),
            Err(e) => Err(format!("{origin}: {e}")),
        }
    }

    /// The bytes as text in UTF-8. The error names the file.
    pub fn text(&self) -> Result<&str, String> {
        std::str::from_utf8(&self.bytes).map_err(|_| format!("{}: expected text in UTF-8", self.origin))
    }

    /// All certificates, in order; blocks of other kinds are passed over. At least one, or an error.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let found = self
            .items()?
            .into_iter()
            .filter_map(|item| match item {
                Item::X509Certificate(certificate) => Some(certificate),
                _ => None,
            })
            .collect::<Vec<_>>();
        if found.is_empty() { Err(self.error(Problem::NoCertificate)) } else { Ok(found) }
    }

    /// All certificate revocation lists, in order; blocks of other kinds are passed over. At least one, or an error.
    pub fn revocation_lists(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
        let found = self
            .items()?
            .into_iter()
            .filter_map(|item| match item {
                Item::Crl(list) => Some(list),
                _ => None,
            })
            .collect::<Vec<_>>();
        if found.is_empty() { Err(self.error(Problem::NoRevocationList)) } else { Ok(found) }
    }

    /// The first private key (PKCS#8, PKCS#1 or SEC1); blocks of other kinds are passed over.
    pub fn private_key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        let found = self.items().map(|items| items.into_iter().find_map(private));
        match found {
            Ok(Some(key)) => Ok(key),
            _ if self.is_encrypted() => Err(self.error(Problem::EncryptedPrivateKey)),
            Ok(None) => Err(self.error(Problem::NoPrivateKey)),
            Err(malformed) => Err(malformed),
        }
    }

    /// Everything that a public key can be had from, in order; blocks of other kinds are passed over. At least one, or an error.
    pub fn public_keys(&self) -> Result<Vec<KeyBlock>, Error> {
        // The reader below does not know this label.
        let relabelled = self.with_label(b"RSA PUBLIC KEY-----", b"PUBLIC KEY-----");
        let found: Vec<KeyBlock> = relabelled
            .items()?
            .into_iter()
            .filter_map(|item| match item {
                Item::SubjectPublicKeyInfo(key) => Some(KeyBlock::Public(key.to_vec())),
                Item::X509Certificate(certificate) => Some(KeyBlock::Certificate(certificate)),
                other => private(other).map(KeyBlock::Private),
            })
            .collect();
        match found.is_empty() {
            false => Ok(found),
            true if self.is_encrypted() => Err(self.error(Problem::EncryptedPrivateKey)),
            true => Err(self.error(Problem::NoPublicKey)),
        }
    }

    fn with_label(&self, old: &[u8], new: &[u8]) -> Self {
        let (mut bytes, mut rest) = (Vec::with_capacity(self.bytes.len()), &self.bytes[..]);
        while let Some((first, after)) = rest.split_first() {
            if let Some(after) = rest.strip_prefix(old) {
                bytes.extend_from_slice(new);
                rest = after;
            } else {
                bytes.push(*first);
                rest = after;
            }
        }
        Self { origin: self.origin.clone(), bytes }
    }

    /// The two ways a passphrase shows: PKCS#8's own marker, and the header line of the older form.
    fn is_encrypted(&self) -> bool {
        let holds = |marker: &[u8]| self.bytes.windows(marker.len()).any(|w| w == marker);
        holds(b"BEGIN ENCRYPTED PRIVATE KEY") || holds(b"Proc-Type: 4,ENCRYPTED")
    }

    fn items(&self) -> Result<Vec<Item>, Error> {
        let mut rest = &self.bytes[..];
        rustls_pemfile::read_all(&mut rest)
            .collect::<Result<_, _>>()
            .map_err(|e| self.error(Problem::Malformed(e.to_string())))
    }

    fn error(&self, problem: Problem) -> Error {
        Error { origin: self.origin.clone(), problem }
    }
}

fn private(item: Item) -> Option<PrivateKeyDer<'static>> {
    match item {
        Item::Pkcs1Key(key) => Some(key.into()),
        Item::Pkcs8Key(key) => Some(key.into()),
        Item::Sec1Key(key) => Some(key.into()),
        _ => None,
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("origin", &self.origin).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "AAECAwQF";

    fn file(text: &str) -> File {
        File { origin: "f".to_owned(), bytes: text.as_bytes().to_vec() }
    }

    fn block(kind: &str) -> String {
        format!("-----BEGIN {kind}-----\n{BODY}\n-----END {kind}-----\n")
    }

    #[test]
    fn certificates_come_in_order_and_other_blocks_are_passed_over() {
        let pem =
            format!("a comment\n{}{}{}", block("CERTIFICATE"), block("PRIVATE KEY"), block("CERTIFICATE"));
        assert_eq!(file(&pem).certificates().unwrap().len(), 2);
        let pem = pem + &block("X509 CRL");
        assert_eq!(file(&pem).certificates().unwrap().len(), 2);
        assert_eq!(file(&pem).revocation_lists().unwrap().len(), 1);
        let none = file(&block("CERTIFICATE")).revocation_lists().unwrap_err().to_string();
        assert_eq!(none, "f: no revocation list found, expected PEM blocks \"BEGIN X509 CRL\"");
    }

    #[test]
    fn every_kind_of_key_is_read() {
        for kind in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"] {
            let pem = block("CERTIFICATE") + &block(kind);
            assert_eq!(file(&pem).private_key().unwrap().secret_der(), [0, 1, 2, 3, 4, 5], "{kind}");
        }
    }

    #[test]
    fn public_keys_are_read_out_of_every_kind_of_block() {
        let kinds = [
            "PUBLIC KEY",
            "RSA PUBLIC KEY",
            "CERTIFICATE",
            "RSA PRIVATE KEY",
            "EC PRIVATE KEY",
            "PRIVATE KEY",
        ];
        let pem: String = kinds.into_iter().chain(["EC PARAMETERS", "X509 CRL"]).map(block).collect();
        let found = file(&pem).public_keys().unwrap();
        let der = |block: &KeyBlock| match block {
            KeyBlock::Public(der) => ("public", der.clone()),
            KeyBlock::Certificate(der) => ("certificate", der.to_vec()),
            KeyBlock::Private(key) => ("private", key.secret_der().to_vec()),
        };
        let body = vec![0, 1, 2, 3, 4, 5];
        let kinds = ["public", "public", "certificate", "private", "private", "private"];
        assert_eq!(found.iter().map(der).collect::<Vec<_>>(), kinds.map(|kind| (kind, body.clone())));
        for (pem, why) in [
            ("", "f: no public key found, expected PEM blocks \"BEGIN PUBLIC KEY\""),
            (&block("EC PARAMETERS"), "f: no public key found"),
            (&block("ENCRYPTED PRIVATE KEY"), "f: the private key is encrypted"),
            ("-----BEGIN RSA PUBLIC KEY-----\nAAAA\n", "f: not PEM: "),
            ("-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----\n", "f: not PEM: "),
        ] {
            let got = file(pem).public_keys().unwrap_err().to_string();
            assert!(got.starts_with(why), "{pem:?}: {got}");
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
            let got = file(pem).certificates().map_or_else(|e| e.to_string(), |_| String::new());
            assert!(got.starts_with(cert), "{pem:?}: {got}");
            let got = file(pem).private_key().map_or_else(|e| e.to_string(), |_| String::new());
            assert!(got.starts_with(key) && got.is_empty() == key.is_empty(), "{pem:?}: {got}");
        }
    }

    #[test]
    fn what_is_read_is_bounded_and_never_shown() {
        let dir = std::env::temp_dir().join(format!("gatelog-pem-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("key");
        std::fs::write(&path, block("PRIVATE KEY")).unwrap();
        let key = File::read(&path).unwrap();
        assert_eq!(format!("{key:?}"), format!("File {{ origin: {:?}, .. }}", path.display().to_string()));
        std::fs::File::create(&path).unwrap().set_len(LARGEST + 1).unwrap();
        assert!(File::read(&path).unwrap_err().ends_with("larger than the allowed 16777216 bytes"));
        assert!(File::read(&dir.join("none")).unwrap_err().contains("none: No such file"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
