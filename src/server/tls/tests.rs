use super::*;
use crate::demo::pki::{Ca, Client, Pair, Usage, Validity};
use rustls::{
    ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
    client::ResolvesClientCert,
    pki_types::ServerName,
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

fn ders(pair: &Pair) -> Vec<CertificateDer<'static>> {
    pair.chain.iter().map(|der| CertificateDer::from(der.clone())).collect()
}

fn key(pem: &str) -> PrivateKeyDer<'static> {
    File { origin: "key".to_owned(), bytes: pem.as_bytes().to_vec() }.private_key().unwrap()
}

fn serving(pair: &Pair) -> Serving {
    Serving::new(ders(pair), key(&pair.key)).unwrap()
}

fn load(config: &Config) -> Result<Serving, Vec<Error>> {
    Serving::from_files(&config.read()?)
}

/// Presents whatever it was given, as a hostile client would.
#[derive(Debug)]
struct Presents(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Presents {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// The certificate without its version field, which makes it one of version 1.
fn version_1(der: &[u8]) -> CertificateDer<'static> {
    let length = |at: usize| (u16::from_be_bytes([der[at], der[at + 1]]) - 5).to_be_bytes();
    assert!(der[..2] == [0x30, 0x82] && der[4..6] == [0x30, 0x82] && der[8..13] == [0xa0, 3, 2, 1, 2]);
    [&der[..2], &length(2), &der[4..6], &length(6), &der[13..]].concat().into()
}

/// What one side of a handshake saw.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    version: Option<ProtocolVersion>,
    alpn: Option<Vec<u8>>,
    presented: usize,
}

/// The handshake as the server sees it.
async fn handshake(
    server: &Serving,
    ca: &Ca,
    version: &'static SupportedProtocolVersion,
    alpn: &[&str],
    client: Option<(Vec<CertificateDer<'static>>, &str)>,
) -> Result<Seen, String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.der().to_vec())).unwrap();
    let key = client.map(|(chain, pem)| {
        Arc::new(CertifiedKey::new(chain, aws_lc_rs::sign::any_supported_type(&key(pem)).unwrap()))
    });
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(Presents(key)));
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    let (near, far) = tokio::io::duplex(1 << 16);
    let connector = TlsConnector::from(Arc::new(config));
    let acceptor = TlsAcceptor::from(Arc::clone(server.config()));
    let name = ServerName::try_from("gate.test").unwrap();
    let (client, server) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
    let server = server.map_err(|e| e.to_string())?;
    client.map_err(|e| e.to_string())?;
    let (_, connection) = server.get_ref();
    Ok(Seen {
        version: connection.protocol_version(),
        alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
        presented: connection.peer_certificates().map_or(0, <[_]>::len),
    })
}

#[tokio::test]
async fn any_certificate_passes_whose_key_the_caller_holds() {
    let (ca, clients) = (Ca::new("gates").unwrap(), Ca::new("clients").unwrap());
    let server = serving(&ca.server(&["gate.test"]).unwrap());
    let alice = clients.client(&Client::new("alice").group("dev").group("ops")).unwrap();
    let mallory = clients.client(&Client::new("mallory")).unwrap();
    let expired = clients.client(&Client::new("alice").validity(Validity::Expired)).unwrap();
    let for_servers = clients.client(&Client::new("alice").usages(&[Usage::Server])).unwrap();
    let below = clients.intermediate("middle", &[]).unwrap().client(&Client::new("alice")).unwrap();
    let stranger = Ca::self_signed(&Client::new("alice")).unwrap();
    let of = |pair: &Pair| Some((ders(pair), pair.key.clone()));
    let old = Some((vec![version_1(&alice.chain[0])], alice.key.clone()));
    let broken = "invalid peer certificate";
    for (name, client, want) in [
        ("none", None, Ok(0)),
        ("good", of(&alice), Ok(1)),
        ("with intermediate", of(&below), Ok(2)),
        ("expired", of(&expired), Ok(1)),
        ("for servers", of(&for_servers), Ok(1)),
        ("stranger", of(&stranger), Ok(1)),
        ("a CA", of(&clients.own()), Ok(1)),
        ("version 1", old, Ok(1)),
        ("somebody else's", Some((ders(&alice), mallory.key.clone())), Err(broken)),
        ("not a certificate", Some((vec![vec![0x30, 0].into()], alice.key.clone())), Err(broken)),
    ] {
        for version in [&TLS12, &TLS13] {
            let client = client.as_ref().map(|(chain, key)| (chain.clone(), key.as_str()));
            let got = handshake(&server, &ca, version, &["h2"], client).await;
            let name = format!("{name}, {version:?}");
            match (got, want) {
                (Ok(seen), Ok(presented)) => {
                    let version = Some(version.version);
                    assert_eq!(seen, Seen { version, alpn: Some(b"h2".to_vec()), presented }, "{name}");
                }
                (Err(got), Err(want)) => assert!(got.starts_with(want), "{name}: {got}"),
                (got, _) => panic!("{name}: {got:?}"),
            }
        }
    }
}

#[tokio::test]
async fn the_protocol_is_agreed_on() {
    let ca = Ca::new("gates").unwrap();
    let server = serving(&ca.server(&["gate.test"]).unwrap());
    for (offered, want) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let seen = handshake(&server, &ca, &TLS13, offered, None).await.unwrap();
        assert_eq!(seen.alpn.as_deref(), want.map(str::as_bytes), "{offered:?}");
    }
    let refused = handshake(&server, &ca, &TLS13, &["spdy/3.1"], None).await.unwrap_err();
    assert!(refused.contains("known protocol"), "{refused}");
}

#[tokio::test]
async fn no_session_outlives_its_connection() {
    let ca = Ca::new("gates").unwrap();
    let server = serving(&ca.server(&["gate.test"]).unwrap());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.der().to_vec())).unwrap();
    for version in [&TLS12, &TLS13] {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        for _ in 0..2 {
            let (near, far) = tokio::io::duplex(1 << 16);
            let acceptor = TlsAcceptor::from(Arc::clone(server.config()));
            let name = ServerName::try_from("gate.test").unwrap();
            let (client, server) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
            // What a server has to say after the handshake, tickets for one, is read with the first bytes.
            let (mut client, mut server) = (client.unwrap(), server.unwrap());
            tokio::io::AsyncWriteExt::write_all(&mut server, b"x").await.unwrap();
            tokio::io::AsyncReadExt::read_u8(&mut client).await.unwrap();
            let kind = client.get_ref().1.handshake_kind();
            assert_ne!(kind, Some(rustls::HandshakeKind::Resumed), "{version:?}");
        }
    }
}

#[test]
fn a_pair_that_does_not_fit_is_refused() {
    let ca = Ca::new("gates").unwrap();
    let (one, two) = (ca.server(&["one.test"]).unwrap(), ca.server(&["two.test"]).unwrap());
    assert_eq!(
        Serving::new(ders(&one), key(&two.key)).unwrap_err(),
        "the certificate and the private key do not belong together"
    );
    assert!(
        Serving::new(vec![vec![0x30, 0].into()], key(&one.key)).unwrap_err().starts_with("not a certificate")
    );
    let junk = PrivateKeyDer::Pkcs8(vec![1, 2, 3].into());
    assert!(Serving::new(ders(&one), junk).unwrap_err().starts_with("the private key cannot be used"));
}

#[test]
fn the_certificate_says_what_it_is_for() {
    let ca = Ca::new("gates").unwrap();
    let server = serving(&ca.server(&["one.test", "127.0.0.1", "::1"]).unwrap());
    assert_eq!(server.names(), ["one.test", "127.0.0.1", "::1"]);
    let expires = server.expires().unwrap();
    let (before, after) = (expires - Duration::from_secs(7_300), expires + Duration::from_secs(1));
    assert_eq!(server.warnings(SystemTime::now()), Vec::<String>::new());
    assert_eq!(server.warnings(before), ["the serving certificate expires in 2 h"]);
    assert_eq!(server.warnings(after), ["the serving certificate has expired"]);
    let nameless = serving(&ca.client(&Client::new("gate")).unwrap());
    let none = "the serving certificate has no subject alternative name, no client will accept it";
    assert_eq!(nameless.warnings(SystemTime::now()), [none]);
}

#[test]
fn both_bad_files_are_reported_at_once() {
    let dir = std::env::temp_dir().join(format!("gatelog-tls-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let config = Config { cert_file: dir.join("tls.crt"), key_file: dir.join("tls.key") };
    let errors = || {
        let errors = load(&config).unwrap_err();
        let name = |e: Error| format!("{}: {}", e.key, e.problem.replace(&format!("{}/", dir.display()), ""));
        errors.into_iter().map(name).collect::<Vec<_>>()
    };
    let missing = errors();
    assert!(missing[0].starts_with("tlsCertFile: tls.crt: No such file"), "{missing:?}");
    assert!(missing[1].starts_with("tlsPrivateKeyFile: tls.key: No such file"), "{missing:?}");
    let ca = Ca::new("gates").unwrap();
    let (one, two) = (ca.server(&["one.test"]).unwrap(), ca.server(&["two.test"]).unwrap());
    std::fs::write(&config.cert_file, one.certificates()).unwrap();
    std::fs::write(&config.key_file, &two.key).unwrap();
    assert_eq!(
        errors(),
        ["tlsCertFile: tls.crt: the certificate and the private key do not belong together (tls.key)"]
    );
    std::fs::write(&config.key_file, &one.key).unwrap();
    assert!(load(&config).is_ok());
    std::fs::remove_dir_all(&dir).unwrap();
}
