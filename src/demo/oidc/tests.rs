use super::*;
use crate::demo::value::{items, text as at};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http_body_util::{BodyExt as _, Empty};
use rustls::pki_types::ServerName;

/// What is at `path`; the error is that of the connection.
async fn get(provider: &Provider, path: &str) -> Result<(u16, Value), String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(provider.ca_pem().as_bytes()).unwrap()).unwrap();
    let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(provider.addr()).await.map_err(|e| e.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::from(provider.addr().ip());
    let tls = connector.connect(name, tcp).await.map_err(|e| e.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    let request = Request::get(path).header("host", "provider").body(Empty::<bytes::Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

fn part(token: &str, n: usize) -> Value {
    let part = token.split('.').nth(n).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn documents_are_where_the_issuer_says() {
    for (path, document, keys) in [
        ("", "/.well-known/openid-configuration", "/keys"),
        ("/", "/.well-known/openid-configuration", "/keys"),
        ("/realms/demo", "/realms/demo/.well-known/openid-configuration", "/realms/demo/keys"),
    ] {
        let options = Options { path: path.to_owned(), ..Options::default() };
        let provider = Provider::start(options).await.unwrap();
        let (status, found) = get(&provider, document).await.unwrap();
        assert_eq!((status, at(&found, "/issuer")), (200, provider.issuer()), "{path}");
        assert!(provider.issuer().ends_with(&format!(":{}{path}", provider.addr().port())), "{path}");
        assert_eq!(at(&found, "/jwks_uri"), format!("https://{}{keys}", provider.addr()), "{path}");
        assert_eq!(get(&provider, keys).await.unwrap(), (200, provider.jwks()), "{path}");
        assert_eq!((provider.discovery_requests(), provider.keys_requests()), (1, 1), "{path}");
        assert_eq!(get(&provider, "/elsewhere").await.unwrap().0, 404, "{path}");
    }
    let options = Options { discovery: Some("/elsewhere".into()), ..Options::default() };
    let provider = Provider::start(options).await.unwrap();
    assert_eq!(get(&provider, "/elsewhere").await.unwrap().0, 200);
    assert_eq!(get(&provider, WELL_KNOWN).await.unwrap().0, 404);
}

#[tokio::test]
async fn tokens_are_signed_by_what_is_published() {
    let provider = Provider::start(Options::default()).await.unwrap();
    let claims = provider.claims("carol");
    for alg in Alg::ALL {
        let token = provider.mint(&claims, &Signing::new(alg));
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let keys = provider.shared.keys();
        assert!(keys.of(alg).verifies(alg, signed.as_bytes(), &signature), "{alg:?}");
        let kid = provider.kid(alg);
        let header = part(&token, 0);
        assert_eq!(header, json!({"typ": "JWT", "alg": alg.name(), "kid": kid}));
        assert!(items(&provider.jwks(), "/keys").iter().any(|key| at(key, "/kid") == kid), "{alg:?}");
        assert_eq!(part(&token, 1), claims);
    }
    let kid = |kid| part(&provider.mint(&claims, &Signing::new(Alg::Es256).kid(kid)), 0)["kid"].clone();
    assert_eq!(kid(Kid::None), Value::Null);
    assert_eq!(kid(Kid::Other("x".into())), "x");
}

#[tokio::test]
async fn broken_tokens_are_made_to_the_letter() {
    let provider = Provider::start(Options::default()).await.unwrap();
    let none = provider.mint_raw(r#"{"alg":"none"}"#, r#"{"a":1,"a":2}"#, Signature::Bytes(b""));
    assert_eq!(none, "eyJhbGciOiJub25lIn0.eyJhIjoxLCJhIjoyfQ.");
    let pem = provider.public_pem(Alg::Rs256);
    let token = provider.mint_raw(r#"{"alg":"HS256"}"#, "{}", Signature::Hmac(pem.as_bytes()));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, pem.as_bytes());
    hmac::verify(&key, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
}

#[tokio::test]
async fn keys_rotate() {
    let provider = Provider::start(Options::default()).await.unwrap();
    let kids = |jwks: &Value| -> Vec<String> {
        items(jwks, "/keys").iter().map(|key| at(key, "/kid").to_owned()).collect()
    };
    let before = kids(&provider.jwks());
    provider.rotate().unwrap();
    let after = kids(&get(&provider, "/keys").await.unwrap().1);
    assert_eq!((before.len(), after.len()), (4, 4));
    assert!(before.iter().all(|kid| !after.contains(kid)));
    provider.asked(0, 1).await;
}

#[tokio::test]
async fn what_goes_wrong_goes_wrong_until_it_recovers() {
    let provider = Provider::start(Options::default()).await.unwrap();
    provider.fail(Mode::Refuse);
    get(&provider, WELL_KNOWN).await.unwrap_err();
    provider.fail(Mode::Status(500));
    assert_eq!(get(&provider, WELL_KNOWN).await.unwrap().0, 500);
    provider.fail(Mode::Issuer("https://evil.example".into()));
    assert_eq!(at(&get(&provider, WELL_KNOWN).await.unwrap().1, "/issuer"), "https://evil.example");
    provider.fail(Mode::Hang);
    let hangs = get(&provider, "/keys");
    tokio::select! {
        answer = hangs => panic!("{answer:?}"),
        () = provider.asked(2, 1) => {}
    }
    provider.recover();
    assert_eq!(get(&provider, WELL_KNOWN).await.unwrap().0, 200);
    let addr = provider.addr();
    drop(provider);
    // The listener is closed by a task of its own.
    let closed = async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed).await.unwrap();
}
