//! A throwaway public-key infrastructure: the demo's and the tests' authorities, server and client certificates.
//!
//! rcgen writes the certificates. Its subjects hold each attribute type once, but a Kubernetes client certificate has an
//! `O` for every group, so a client's subject is written here and the certificate signed again.

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, RevokedCertParams,
    SerialNumber, SigningKey,
};
use std::{fs, io, io::Write as _, path::Path, sync::Arc, time::Duration};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What an extended-key-usage extension may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// `clientAuth`
    Client,
    /// `serverAuth`
    Server,
    /// `anyExtendedKeyUsage`
    Any,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Since yesterday, for a year.
    Year,
    /// Since yesterday, for this long from now (whole seconds).
    For(Duration),
    /// Until yesterday.
    Expired,
    /// From tomorrow.
    NotYet,
}

/// An attribute of a client certificate's subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute {
    /// `CN`: the user name.
    CommonName,
    /// `O`: a group.
    Organization,
    /// `OU`: nothing to Kubernetes.
    Unit,
    /// 1.3.6.1.4.1.57683.2: the user's UID.
    Uid,
}

/// What a client certificate says. Values are written as they are: untrimmed, unchecked.
#[derive(Debug, Clone)]
pub struct Client {
    /// In this order; types may repeat.
    pub subject: Vec<(Attribute, String)>,
    /// Empty: no extended-key-usage extension.
    pub usages: Vec<Usage>,
    /// From when to when.
    pub validity: Validity,
}

/// A certificate with its private key and the intermediates that lead to its root.
#[derive(Debug, Clone)]
pub struct Pair {
    /// DER, leaf first; the root is not among them.
    pub chain: Vec<Vec<u8>>,
    /// PKCS#8 PEM.
    pub key: String,
}

/// An authority that issues certificates.
#[derive(Debug, Clone)]
pub struct Ca {
    params: CertificateParams,
    key: Arc<KeyPair>,
    der: Vec<u8>,
    /// This authority's own certificate and the intermediates above it; empty for a root.
    above: Vec<Vec<u8>>,
}

/// A certificate that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// rcgen refused: a name that is not one, a key that cannot sign.
    #[error("cannot make a certificate: {0}")]
    Rcgen(#[from] rcgen::Error),
    /// The certificate that rcgen wrote has not the expected structure.
    #[error("cannot rewrite a certificate's subject: its structure is not X.509")]
    Structure,
}

impl Client {
    /// CN = `name`, for client authentication, valid for a year.
    pub fn new(name: &str) -> Self {
        Self {
            subject: vec![(Attribute::CommonName, name.to_owned())],
            usages: vec![Usage::Client],
            validity: Validity::Year,
        }
    }

    /// Adds a subject attribute.
    #[must_use]
    pub fn with(mut self, attribute: Attribute, value: &str) -> Self {
        self.subject.push((attribute, value.to_owned()));
        self
    }

    /// Adds a group (`O`).
    #[must_use]
    pub fn group(self, name: &str) -> Self {
        self.with(Attribute::Organization, name)
    }

    /// Replaces the extended key usages; an empty list leaves the extension out.
    #[must_use]
    pub fn usages(mut self, usages: &[Usage]) -> Self {
        self.usages = usages.to_vec();
        self
    }

    /// Replaces the validity.
    #[must_use]
    pub fn validity(mut self, validity: Validity) -> Self {
        self.validity = validity;
        self
    }
}

impl Pair {
    /// The chain as PEM, leaf first.
    pub fn certificates(&self) -> String {
        self.chain.iter().map(|der| pem("CERTIFICATE", der)).collect()
    }
}

impl Ca {
    /// A root with this common name.
    pub fn new(name: &str) -> Result<Self, Error> {
        let (params, key) = authority(name, &[])?;
        let der = params.self_signed(&key)?.der().to_vec();
        Ok(Self { params, key: Arc::new(key), der, above: Vec::new() })
    }

    /// An authority below this one, limited to `usages` (none: not limited).
    pub fn intermediate(&self, name: &str, usages: &[Usage]) -> Result<Self, Error> {
        let (params, key) = authority(name, usages)?;
        let der = params.signed_by(&key, &self.issuer())?.der().to_vec();
        let above = std::iter::once(der.clone()).chain(self.above.iter().cloned()).collect();
        Ok(Self { params, key: Arc::new(key), der, above })
    }

    /// A serving certificate for these DNS names and IP addresses.
    pub fn server(&self, names: &[&str]) -> Result<Pair, Error> {
        let mut params = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name = named(names.first().copied().unwrap_or("server"));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, Validity::Year);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let der = params.signed_by(&key, &self.issuer())?.der().to_vec();
        Ok(self.pair(der, &key))
    }

    /// A client certificate.
    pub fn client(&self, client: &Client) -> Result<Pair, Error> {
        let (params, key) = leaf(client)?;
        let der = params.signed_by(&key, &self.issuer())?.der().to_vec();
        Ok(self.pair(der::resubject(&der, &client.subject, &self.key)?, &key))
    }

    /// A client certificate signed by its own key, so by no authority at all.
    pub fn self_signed(client: &Client) -> Result<Pair, Error> {
        let (params, key) = leaf(client)?;
        let der = params.self_signed(&key)?.der().to_vec();
        Ok(Pair { chain: vec![der::resubject(&der, &client.subject, &key)?], key: key.serialize_pem() })
    }

    /// A list of the certificates that this authority has revoked, as PEM. `validity`: when it was made, and when the next is due.
    pub fn revocation_list(&self, revoked: &[&Pair], validity: Validity) -> Result<String, Error> {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let (from, until) = span(validity);
        let serial = |pair: &&Pair| {
            let leaf = pair.chain.first().ok_or(Error::Structure)?;
            let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| Error::Structure)?;
            Ok::<_, Error>(RevokedCertParams {
                serial_number: SerialNumber::from_slice(leaf.raw_serial()),
                revocation_time: epoch + from,
                reason_code: None,
                invalidity_date: None,
            })
        };
        let list = CertificateRevocationListParams {
            this_update: epoch + from,
            next_update: epoch + until,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(serial).collect::<Result<_, _>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(pem("X509 CRL", list.signed_by(&self.issuer())?.der()))
    }

    /// The authority's own certificate and key, to be used as a client's.
    pub fn own(&self) -> Pair {
        Pair { chain: vec![self.der.clone()], key: self.key.serialize_pem() }
    }

    /// The authority's certificate as PEM.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    /// The authority's certificate as DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &*self.key)
    }

    fn pair(&self, leaf: Vec<u8>, key: &KeyPair) -> Pair {
        Pair {
            chain: std::iter::once(leaf).chain(self.above.iter().cloned()).collect(),
            key: key.serialize_pem(),
        }
    }
}

/// Writes a file that only its owner can read, whole or not at all.
pub fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?.to_string_lossy();
    let part = path.with_file_name(format!(".{name}.part"));
    match fs::remove_file(&part) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&part)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&part, path)
}

fn authority(name: &str, usages: &[Usage]) -> Result<(CertificateParams, KeyPair), Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // DigitalSignature: the authority's own certificate can then prove itself in a handshake, too.
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages.iter().map(|u| purpose(*u)).collect();
    valid(&mut params, Validity::Year);
    Ok((params, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?))
}

fn leaf(client: &Client) -> Result<(CertificateParams, KeyPair), Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("to be replaced");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = client.usages.iter().map(|u| purpose(*u)).collect();
    valid(&mut params, client.validity);
    Ok((params, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?))
}

fn named(name: &str) -> rcgen::DistinguishedName {
    let mut dn = rcgen::DistinguishedName::new();
    dn.push(DnType::CommonName, name);
    dn
}

fn purpose(usage: Usage) -> ExtendedKeyUsagePurpose {
    match usage {
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Usage::Any => ExtendedKeyUsagePurpose::Any,
    }
}

fn valid(params: &mut CertificateParams, validity: Validity) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let (from, until) = span(validity);
    params.not_before = epoch + from;
    params.not_after = epoch + until;
}

/// From when to when, since the epoch.
fn span(validity: Validity) -> (Duration, Duration) {
    const DAY: u64 = 86_400;
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
    let (from, until) = match validity {
        Validity::Year => (now - DAY, now + 365 * DAY),
        Validity::For(time) => (now - DAY, now + time.as_secs()),
        Validity::Expired => (now - 30 * DAY, now - DAY),
        Validity::NotYet => (now + DAY, now + 30 * DAY),
    };
    (Duration::from_secs(from), Duration::from_secs(until))
}

/// DER as PEM.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// Just enough DER to exchange the subject of a certificate, and to take a public key apart.
pub(super) mod der {
    use super::{Attribute, Error, KeyPair, SigningKey as _};

    const SEQUENCE: u8 = 0x30;
    const SET: u8 = 0x31;
    const OID: u8 = 0x06;
    const UTF8: u8 = 0x0c;
    const BIT_STRING: u8 = 0x03;
    /// Of a TBSCertificate's members: version, serial, algorithm, issuer, validity, subject.
    const SUBJECT: usize = 5;

    pub(super) fn resubject(
        certificate: &[u8],
        subject: &[(Attribute, String)],
        signer: &KeyPair,
    ) -> Result<Vec<u8>, Error> {
        let (body, _) = content(certificate).ok_or(Error::Structure)?;
        let [tbs, algorithm, ..] = members(body)[..] else { return Err(Error::Structure) };
        let (inner, _) = content(tbs).ok_or(Error::Structure)?;
        let fields = members(inner);
        if fields.len() <= SUBJECT {
            return Err(Error::Structure);
        }
        let name = name(subject);
        let fields = fields.iter().enumerate().flat_map(|(i, f)| if i == SUBJECT { &name[..] } else { f });
        let tbs = tlv(SEQUENCE, &fields.copied().collect::<Vec<u8>>());
        let mut signature = vec![0];
        signature.extend(signer.sign(&tbs)?);
        Ok(tlv(SEQUENCE, &[&tbs[..], algorithm, &tlv(BIT_STRING, &signature)].concat()))
    }

    fn name(subject: &[(Attribute, String)]) -> Vec<u8> {
        let rdns: Vec<u8> = subject
            .iter()
            .flat_map(|(attribute, value)| {
                let pair = [tlv(OID, oid(*attribute)), tlv(UTF8, value.as_bytes())].concat();
                tlv(SET, &tlv(SEQUENCE, &pair))
            })
            .collect();
        tlv(SEQUENCE, &rdns)
    }

    fn oid(attribute: Attribute) -> &'static [u8] {
        match attribute {
            Attribute::CommonName => &[0x55, 4, 3],
            Attribute::Organization => &[0x55, 4, 10],
            Attribute::Unit => &[0x55, 4, 11],
            Attribute::Uid => &[0x2b, 6, 1, 4, 1, 0x83, 0xc2, 0x53, 2],
        }
    }

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        match content.len() {
            short @ 0..0x80 => out.push(short as u8),
            long => {
                let bytes = long.to_be_bytes();
                let bytes = &bytes[bytes.iter().take_while(|b| **b == 0).count()..];
                out.push(0x80 | bytes.len() as u8);
                out.extend(bytes);
            }
        }
        out.extend(content);
        out
    }

    /// The content of the element at the start of `bytes`, and what follows the element.
    pub(in crate::demo) fn content(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        let (&length, rest) = bytes.get(1..)?.split_first()?;
        if length < 0x80 {
            return rest.split_at_checked(length.into());
        }
        let (size, rest) = rest.split_at_checked((length & 0x7f).into())?;
        let size = size.iter().try_fold(0usize, |n, b| n.checked_mul(256)?.checked_add((*b).into()))?;
        rest.split_at_checked(size)
    }

    /// The elements that follow one another in `bytes`, each with its header.
    pub(in crate::demo) fn members(mut bytes: &[u8]) -> Vec<&[u8]> {
        let mut out = Vec::new();
        while let Some((_, rest)) = content(bytes) {
            out.push(&bytes[..bytes.len() - rest.len()]);
            bytes = rest;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(pair: &Pair) -> Vec<(String, String)> {
        let (rest, certificate) = X509Certificate::from_der(&pair.chain[0]).unwrap();
        assert!(rest.is_empty());
        let name = certificate.subject().iter_attributes();
        name.map(|a| (a.attr_type().to_id_string(), a.as_str().unwrap().to_owned())).collect()
    }

    /// Whether `pair` leads to `root` for client authentication, now.
    fn judged(pair: &Pair, root: &Ca) -> Result<(), webpki::Error> {
        let root = rustls::pki_types::CertificateDer::from(root.der().to_vec());
        let anchors = [webpki::anchor_from_trusted_cert(&root).unwrap()];
        let chain: Vec<_> =
            pair.chain.iter().map(|d| rustls::pki_types::CertificateDer::from(d.clone())).collect();
        webpki::EndEntityCert::try_from(&chain[0])?
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &anchors,
                &chain[1..],
                rustls::pki_types::UnixTime::now(),
                webpki::KeyUsage::client_auth(),
                None,
                None,
            )
            .map(drop)
    }

    #[test]
    fn a_subject_may_repeat_its_attributes() {
        let ca = Ca::new("clients").unwrap();
        let client = Client::new("zoë ").group("dev").group("ops").with(Attribute::Uid, "abc-123");
        let pair = ca.client(&client).unwrap();
        let expected = [
            ("2.5.4.3", "zoë "),
            ("2.5.4.10", "dev"),
            ("2.5.4.10", "ops"),
            ("1.3.6.1.4.1.57683.2", "abc-123"),
        ];
        assert_eq!(subject(&pair), expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        judged(&pair, &ca).unwrap();
    }

    #[test]
    fn long_subjects_and_many_groups_still_verify() {
        let ca = Ca::new("clients").unwrap();
        let client = (0..300).fold(Client::new(&"n".repeat(200)), |c, i| c.group(&format!("group-{i}")));
        let pair = ca.client(&client).unwrap();
        assert_eq!(subject(&pair).len(), 301);
        judged(&pair, &ca).unwrap();
    }

    #[test]
    fn what_must_not_be_trusted_is_not() {
        let ca = Ca::new("clients").unwrap();
        let alice = Client::new("alice");
        let ok = |c: &Client| judged(&ca.client(c).unwrap(), &ca).is_ok();
        assert!(ok(&alice));
        assert!(ok(&alice.clone().usages(&[])));
        assert!(ok(&alice.clone().validity(Validity::For(Duration::from_secs(60)))));
        assert!(!ok(&alice.clone().usages(&[Usage::Server])));
        assert!(!ok(&alice.clone().validity(Validity::Expired)));
        assert!(!ok(&alice.clone().validity(Validity::NotYet)));
        assert!(judged(&Ca::self_signed(&alice.clone().group("system:masters")).unwrap(), &ca).is_err());
        assert!(judged(&Ca::new("others").unwrap().client(&alice).unwrap(), &ca).is_err());
    }

    #[test]
    fn intermediates_travel_with_the_leaf() {
        let ca = Ca::new("root").unwrap();
        let below = ca.intermediate("below", &[]).unwrap();
        let mut pair = below.client(&Client::new("alice")).unwrap();
        assert_eq!(pair.chain.len(), 2);
        judged(&pair, &ca).unwrap();
        pair.chain.truncate(1);
        assert!(judged(&pair, &ca).is_err());
        let servers = ca.intermediate("servers only", &[Usage::Server]).unwrap();
        assert!(judged(&servers.client(&Client::new("alice")).unwrap(), &ca).is_err());
    }

    #[test]
    fn pem_reads_back() {
        let ca = Ca::new("root").unwrap();
        let pair = ca.intermediate("below", &[]).unwrap().server(&["localhost", "127.0.0.1"]).unwrap();
        let text = pair.certificates();
        let read: Vec<_> = rustls_pemfile::certs(&mut text.as_bytes()).map(|c| c.unwrap().to_vec()).collect();
        assert_eq!(read, pair.chain);
        assert!(rustls_pemfile::private_key(&mut pair.key.as_bytes()).unwrap().is_some());
    }

    #[cfg(unix)]
    #[test]
    fn private_files_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::temp_dir().join(format!("gatelog-pki-{}.key", std::process::id()));
        fs::write(&path, "old").unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_file(path).unwrap();
    }
}
