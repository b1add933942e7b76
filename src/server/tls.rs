//! TLS as the callers meet it: versions 1.2 and 1.3, HTTP/2 and HTTP/1.1, a client certificate asked for but never demanded.
//!
//! The handshake proves that the caller holds the key of the certificate it presents, and that is all: whether the chain
//! leads anywhere is `authn`'s question, so that a bad certificate is a 401 with an audit event and not a broken handshake.
//! For that reason the callers are not told which CAs would do, either: some keep back a certificate that is not on the list.
//!
//! No session is ever resumed: every connection proves possession anew, and nothing outlives a change of the serving pair. Callers
//! keep their connections for long, so that this costs next to nothing.

use crate::pem::{self, File};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, InconsistentKeys, PeerMisbehaved,
    ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer, UnixTime},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Where the serving pair is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// PEM chain, leaf first.
    pub cert_file: PathBuf,
    /// PEM private key of the leaf.
    pub key_file: PathBuf,
}

/// A serving pair, read but not yet understood. Equal files make equal pairs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Files {
    chain: File,
    key: File,
}

/// A serving pair that fits together, ready to accept connections with.
#[derive(Debug, Clone)]
pub struct Serving {
    config: Arc<ServerConfig>,
    expires: Option<SystemTime>,
    names: Vec<String>,
}

/// A serving pair that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct Error {
    /// The key of the configuration file at fault.
    pub key: &'static str,
    /// Names the file and what is wrong with it.
    pub problem: String,
}

impl Config {
    /// Reads the pair, both files or neither.
    pub fn read(&self) -> Result<Files, Vec<Error>> {
        let chain = File::read(&self.cert_file).map_err(|problem| Error { key: CERT_FILE, problem });
        let key = File::read(&self.key_file).map_err(|problem| Error { key: KEY_FILE, problem });
        match (chain, key) {
            (Ok(chain), Ok(key)) => Ok(Files { chain, key }),
            (chain, key) => Err([chain.err(), key.err()].into_iter().flatten().collect()),
        }
    }
}

const CERT_FILE: &str = "tlsCertFile";
const KEY_FILE: &str = "tlsPrivateKeyFile";

impl Serving {
    /// The pair that `files` hold. All errors are reported, not only the first.
    pub fn from_files(files: &Files) -> Result<Self, Vec<Error>> {
        let error = |key| move |e: pem::Error| Error { key, problem: e.to_string() };
        let chain = files.chain.certificates().map_err(error(CERT_FILE));
        let key = files.key.private_key().map_err(error(KEY_FILE));
        match (chain, key) {
            (Ok(chain), Ok(key)) => Self::new(chain, key).map_err(|problem| {
                let problem = format!("{}: {problem} ({})", files.chain.origin, files.key.origin);
                vec![Error { key: CERT_FILE, problem }]
            }),
            (chain, key) => Err([chain.err(), key.err()].into_iter().flatten().collect()),
        }
    }

    /// A pair from memory; the error says what does not fit.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, String> {
        let (expires, names) = chain.first().map(|leaf| described(leaf)).transpose()?.unwrap_or_default();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Arc::new(Possession { algorithms: provider.signature_verification_algorithms });
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|e| match e {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    "the certificate and the private key do not belong together".to_owned()
                }
                rustls::Error::InvalidCertificate(_) => format!("the certificate cannot be served: {e}"),
                e => format!("the private key cannot be used: {e}"),
            })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Self { config: Arc::new(config), expires, names })
    }

    /// What a TLS acceptor is made of.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// When the serving certificate expires.
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    /// The DNS names and IP addresses that the serving certificate is for.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What is odd about the pair at `now` but no reason to refuse it.
    pub fn warnings(&self, now: SystemTime) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.names.is_empty() {
            warnings.push(
                "the serving certificate has no subject alternative name, no client will accept it"
                    .to_owned(),
            );
        }
        match self.expires.map(|at| at.duration_since(now)) {
            Some(Err(_)) => warnings.push("the serving certificate has expired".to_owned()),
            Some(Ok(left)) if left < Duration::from_secs(7 * 86_400) => {
                let hours = left.as_secs() / 3600;
                warnings.push(format!("the serving certificate expires in {hours} h"));
            }
            _ => {}
        }
        warnings
    }
}

fn described(leaf: &CertificateDer<'_>) -> Result<(Option<SystemTime>, Vec<String>), String> {
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|e| format!("not a certificate: {e}"))?;
    let expires = u64::try_from(leaf.validity().not_after.timestamp()).ok();
    let expires = expires.and_then(|at| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(at)));
    let names = leaf.subject_alternative_name().ok().flatten().map(|extension| {
        let name = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match **bytes {
                [a, b, c, d] => Some(std::net::Ipv4Addr::new(a, b, c, d).to_string()),
                _ => <[u8; 16]>::try_from(*bytes).ok().map(|ip| std::net::Ipv6Addr::from(ip).to_string()),
            },
            _ => None,
        };
        extension.value.general_names.iter().filter_map(name).collect()
    });
    Ok((expires, names.unwrap_or_default()))
}

/// Asks for a client certificate and checks that the caller holds its key.
#[derive(Debug)]
struct Possession {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Possession {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = public_key(leaf)?;
        let key = webpki::RawPublicKeyEntity::try_from(&key).map_err(|_| BAD_ENCODING)?;
        // In TLS 1.2 a scheme does not fix the curve, so that several algorithms may be meant; at most one fits the key.
        let mapped = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == signature.scheme);
        let Some((_, algorithms)) = mapped else {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        };
        algorithms
            .iter()
            .any(|algorithm| key.verify_signature(*algorithm, message, signature.signature()).is_ok())
            .then(HandshakeSignatureValid::assertion)
            .ok_or(rustls::Error::InvalidCertificate(CertificateError::BadSignature))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature_with_raw_key(message, &public_key(leaf)?, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

const BAD_ENCODING: rustls::Error = rustls::Error::InvalidCertificate(CertificateError::BadEncoding);

/// The key alone, read by a parser that is not choosy: webpki refuses the certificates of old versions, and those, too, are
/// to end as a 401.
fn public_key(leaf: &CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'static>, rustls::Error> {
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| BAD_ENCODING)?;
    Ok(SubjectPublicKeyInfoDer::from(leaf.public_key().raw.to_vec()))
}

#[cfg(test)]
#[cfg(feature = "demo")]
mod tests;
