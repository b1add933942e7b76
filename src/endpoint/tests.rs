use super::*;
use crate::demo::pki::{Ca, Client, Pair};
use rustls::{ServerConfig, server::WebPkiClientVerifier};
use std::fs;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A folder with the files of one upstream: `ca.crt`, `proxy.crt`, `proxy.key`, `token`.
struct Folder {
    path: PathBuf,
    ca: Ca,
}

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gatelog-endpoint-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let ca = Ca::new("upstream").unwrap();
        let proxy = ca.client(&Client::new("gatelog")).unwrap();
        let folder = Self { path, ca };
        folder.write("ca.crt", folder.ca.pem());
        folder.write("proxy.crt", proxy.certificates());
        folder.write("proxy.key", &proxy.key);
        folder.write("token", "s3same\n");
        folder
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, contents).unwrap();
        path
    }

    fn explicit(&self) -> Explicit {
        Explicit {
            server: "https://api.test:6443".to_owned(),
            certificate_authority: Some(self.path.join("ca.crt")),
            ..Explicit::default()
        }
    }

    /// `key: problem` of every error, without the folder's name.
    fn errors(&self, config: &Config) -> Vec<String> {
        let errors = load(config).map(|_| ()).unwrap_err();
        let here = format!("{}/", self.path.display());
        errors.into_iter().map(|e| format!("{}: {}", e.key, e.problem.replace(&here, ""))).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn load(config: &Config) -> Result<Endpoint, Vec<Error>> {
    Endpoint::new(&config.read()?)
}

#[test]
fn a_server_s_url_is_taken_apart_or_refused() {
    let good = [
        ("https://10.0.0.1:6443", "10.0.0.1", 6443, "10.0.0.1:6443"),
        ("https://api.test", "api.test", 443, "api.test"),
        ("https://api.test/", "api.test", 443, "api.test"),
        ("HTTPS://Api.Test:1/", "Api.Test", 1, "Api.Test:1"),
        ("https://[::1]:6443", "::1", 6443, "[::1]:6443"),
        ("https://[fd00::1]", "fd00::1", 443, "[fd00::1]"),
    ];
    for (url, host, port, authority) in good {
        let server = Server::parse(url).map_err(|e| format!("{url}: {e}")).unwrap();
        assert_eq!((server.host.as_str(), server.port, server.authority.as_str()), (host, port, authority));
        assert_eq!(server.host_header, authority, "{url}");
    }
    for url in [
        "",
        "10.0.0.1:6443",
        "api.test",
        "http://api.test",
        "https://",
        "https://api.test:99999",
        "https://api.test:0",
        "https://api.test:",
        "https://user:pw@api.test",
        "https://api.test/?a=b",
        "https://api.test/?",
        "unix:///run/api.sock",
        "https://a b",
    ] {
        let problem = Server::parse(url).map(|_| ()).unwrap_err();
        assert!(problem.contains("expected a URL such as https://10.0.0.1:6443"), "{url}: {problem}");
        assert!(!problem.contains("pw"), "{problem}");
    }
}

#[test]
fn only_a_webhook_s_url_may_name_a_path() {
    let folder = Folder::new("path");
    let at = |server: &str| {
        let explicit = Explicit { server: server.to_owned(), ..folder.explicit() };
        Config::Explicit(explicit).read().unwrap()
    };
    for (url, path) in [
        ("https://hook.test", "/"),
        ("https://hook.test/", "/"),
        ("https://hook.test/authenticate", "/authenticate"),
        ("https://hook.test:8443/k8s/clusters/c-1/", "/k8s/clusters/c-1/"),
    ] {
        assert_eq!(Endpoint::webhook(&at(url)).unwrap().path(), path, "{url}");
        let upstream = Endpoint::new(&at(url)).map(|upstream| upstream.path().to_owned());
        assert_eq!(upstream.is_ok(), path == "/", "{url}: {upstream:?}");
    }
    let path = Endpoint::new(&at("https://hook.test/authenticate")).unwrap_err();
    assert!(path[0].problem.contains("the path \"/authenticate\", which is not supported"), "{path:?}");
    for url in ["https://hook.test/a?b=c", "http://hook.test/a", "https://u:pw@hook.test/a"] {
        assert!(Endpoint::webhook(&at(url)).is_err(), "{url}");
    }
}

#[test]
fn an_upstream_is_spelled_out() {
    let folder = Folder::new("explicit");
    let plain = load(&Config::Explicit(folder.explicit())).unwrap();
    assert_eq!(plain.address(), ("api.test", 6443));
    assert_eq!(plain.bearer(), None);
    assert_eq!(plain.warnings(), ["https://api.test:6443: the gate has no credential there"]);
    assert_eq!(plain.tls().alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert_eq!(plain.tls_http1().alpn_protocols, [b"http/1.1".to_vec()]);

    let named = Explicit { tls_server_name: Some("kubernetes".to_owned()), ..folder.explicit() };
    let named = load(&Config::Explicit(named)).unwrap();
    assert_eq!(named.server_name(), &ServerName::try_from("kubernetes").unwrap());

    let both = Explicit {
        client_certificate: Some(folder.path.join("proxy.crt")),
        client_key: Some(folder.path.join("proxy.key")),
        token_file: Some(folder.path.join("token")),
        ..folder.explicit()
    };
    let both = load(&Config::Explicit(both)).unwrap();
    assert_eq!(both.bearer().unwrap(), "Bearer s3same");
    assert!(both.warnings()[0].contains("one of them counts"), "{:?}", both.warnings());
    assert!(!format!("{both:?}").contains("s3same"));

    let blind = Explicit { insecure_skip_tls_verify: true, certificate_authority: None, ..folder.explicit() };
    assert!(load(&Config::Explicit(blind)).unwrap().warnings()[0].contains("is NOT checked"));
}

#[test]
fn everything_wrong_is_said_at_once() {
    let folder = Folder::new("errors");
    let file = |name: &str| Some(folder.path.join(name));
    let explicit = |change: &dyn Fn(&mut Explicit)| {
        let mut explicit = folder.explicit();
        change(&mut explicit);
        folder.errors(&Config::Explicit(explicit))
    };
    let missing = explicit(&|e| {
        e.certificate_authority = file("no-ca");
        e.client_certificate = file("no-crt");
        e.client_key = file("no-key");
    });
    for (error, begin) in missing.iter().zip([
        "certificateAuthority: no-ca: No such file",
        "clientCertificate: no-crt: No such file",
        "clientKey: no-key: No such file",
    ]) {
        assert!(error.starts_with(begin), "{error}");
    }
    assert_eq!(missing.len(), 3);
    let wrong = explicit(&|e| {
        e.server = "http://api.test".to_owned();
        e.tls_server_name = Some("a b".to_owned());
        e.certificate_authority = file("token");
        e.client_certificate = file("proxy.crt");
        e.token_file = file("no-token");
    });
    for (error, begin) in wrong.iter().zip([
        "server: \"http://api.test\" is no https URL",
        "tlsServerName: \"a b\" is neither a DNS name nor an IP address",
        "certificateAuthority: token: no certificate found",
        "clientCertificate: proxy.crt: the client certificate has no private key beside it",
        "tokenFile: no-token: No such file",
    ]) {
        assert!(error.starts_with(begin), "{error}");
    }
    assert_eq!(wrong.len(), 5, "{wrong:?}");

    let none = explicit(&|e| e.certificate_authority = None);
    assert!(none[0].starts_with("certificateAuthority: no certificate authority"), "{none:?}");
    let blind = explicit(&|e| e.insecure_skip_tls_verify = true);
    assert!(blind[0].ends_with("contradict each other"), "{blind:?}");
    let key = explicit(&|e| e.client_key = file("proxy.key"));
    assert!(key[0].ends_with("the private key has no client certificate beside it"), "{key:?}");
    let other = folder.ca.client(&Client::new("other")).unwrap();
    folder.write("other.key", other.key);
    let mixed = explicit(&|e| (e.client_certificate, e.client_key) = (file("proxy.crt"), file("other.key")));
    assert_eq!(
        mixed,
        ["clientCertificate: the client certificate and its private key do not belong together"]
    );
    for (token, why) in [
        ("", "the token is empty"),
        (" \n", "the token is empty"),
        ("a b", "bytes that no token"),
        ("a\nb", "bytes"),
    ] {
        folder.write("bad-token", token);
        let bad = explicit(&|e| e.token_file = file("bad-token"));
        assert!(bad[0].starts_with("tokenFile: bad-token: ") && bad[0].contains(why), "{bad:?}");
    }
}

#[test]
fn a_pod_finds_its_service_account() {
    let folder = Folder::new("pod");
    let env = |host: &'static str, port: &'static str| {
        move |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some(host.to_owned()),
            "KUBERNETES_SERVICE_PORT" => Some(port.to_owned()),
            _ => None,
        }
    };
    let endpoint = Endpoint::new(&in_cluster(env("10.96.0.1", "443"), &folder.path).unwrap()).unwrap();
    assert_eq!((endpoint.address(), endpoint.authority().as_str()), (("10.96.0.1", 443), "10.96.0.1:443"));
    assert_eq!(endpoint.bearer().unwrap(), "Bearer s3same");
    assert_eq!(endpoint.warnings(), [] as [&str; 0]);
    let v6 = Endpoint::new(&in_cluster(env("fd00::1", "6443"), &folder.path).unwrap()).unwrap();
    assert_eq!((v6.address(), v6.authority().as_str()), (("fd00::1", 6443), "[fd00::1]:6443"));
    let outside = in_cluster(|_| None, &folder.path).unwrap_err();
    assert!(outside[0].problem.ends_with("this is no pod"), "{outside:?}");
    assert!(in_cluster(env("", "443"), &folder.path).is_err());
    fs::remove_file(folder.path.join("token")).unwrap();
    let source = in_cluster(env("10.96.0.1", "443"), &folder.path).unwrap();
    assert_eq!(Endpoint::new(&source).unwrap_err()[0].key, "inCluster");
}

#[test]
fn a_token_file_is_read_again() {
    let folder = Folder::new("token");
    let explicit = Explicit { token_file: Some(folder.path.join("token")), ..folder.explicit() };
    let config = Config::Explicit(explicit);
    let (source, endpoint) = (config.read().unwrap(), load(&config).unwrap());
    assert_eq!(endpoint.refresh(), Ok(false));
    folder.write("token", "next");
    assert_eq!(endpoint.refresh(), Ok(true));
    assert_eq!(endpoint.bearer().unwrap(), "Bearer next");
    // The token's change alone makes no other upstream, and so breaks no connection.
    assert_eq!(config.read().unwrap(), source);
    folder.write("token", "");
    assert!(endpoint.refresh().unwrap_err().ends_with("the token is empty"));
    fs::remove_file(folder.path.join("token")).unwrap();
    assert!(endpoint.refresh().is_err());
    assert_eq!(endpoint.bearer().unwrap(), "Bearer next");
    folder.write("ca.crt", Ca::new("another").unwrap().pem());
    assert_ne!(config.read().unwrap(), source);
}

const KUBECONFIG: &str = r#"
apiVersion: v1
kind: Config
preferences: {colors: true}
current-context: one
contexts:
- {name: one, context: {cluster: c1, user: u1, namespace: x}}
- {name: two, context: {cluster: c2, user: u2}}
- {name: nobody, context: {cluster: c1}}
- {name: token, context: {cluster: c1, user: token}}
- {name: both, context: {cluster: c1, user: both}}
- {name: lost, context: {cluster: none, user: none}}
- {name: plugin, context: {cluster: proxied, user: plugin}}
- {name: old, context: {cluster: c1, user: old}}
- {name: badly, context: {cluster: coded, user: coded}}
clusters:
- {name: c1, cluster: {server: "https://one.test:6443", certificate-authority: ca.crt, extensions: []}}
- {name: c2, cluster: {server: "https://10.0.0.2", certificate-authority-data: CADATA, certificate-authority: gone, tls-server-name: two.test}}
- {name: proxied, cluster: {server: "https://one.test", certificate-authority: ca.crt, proxy-url: "http://proxy"}}
- {name: coded, cluster: {server: "https://one.test", certificate-authority-data: "!"}}
users:
- {name: u1, user: {client-certificate: proxy.crt, client-key: proxy.key}}
- {name: u2, user: {client-certificate-data: CRTDATA, client-key-data: KEYDATA}}
- {name: token, user: {token: sesame}}
- {name: both, user: {token: sesame, tokenFile: token}}
- {name: plugin, user: {exec: {command: aws, args: [eks]}, as: root}}
- {name: old, user: {username: me, password: secret, auth-provider: {name: gcp}}}
- {name: coded, user: {client-certificate: gone.crt, client-key-data: "AAAA"}}
"#;

#[test]
fn a_kubeconfig_is_read_as_kubectl_reads_it() {
    let folder = Folder::new("kubeconfig");
    let data = |name: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(fs::read(folder.path.join(name)).unwrap())
    };
    let text = KUBECONFIG
        .replace("CADATA", &data("ca.crt"))
        .replace("CRTDATA", &data("proxy.crt"))
        .replace("KEYDATA", &data("proxy.key"));
    let path = folder.write("kubeconfig", text);
    let config = |context: Option<&str>| Config::Kubeconfig {
        path: path.clone(),
        context: context.map(str::to_owned),
    };
    let said = |context| {
        let e = load(&config(context)).unwrap();
        (
            e.authority().to_string(),
            e.server_name().to_str().into_owned(),
            e.bearer().map(|b| format!("{b:?}")),
            e.warnings().len(),
        )
    };
    let row = |authority: &str, name: &str, bearer: Option<&str>, warnings| {
        (
            authority.to_owned(),
            name.to_owned(),
            bearer.map(|b| format!("{:?}", HeaderValue::from_str(b).unwrap())),
            warnings,
        )
    };
    assert_eq!(said(None), row("one.test:6443", "one.test", None, 0));
    assert_eq!(said(Some("one")), said(None));
    assert_eq!(said(Some("two")), row("10.0.0.2", "two.test", None, 0));
    assert_eq!(said(Some("nobody")), row("one.test:6443", "one.test", None, 1));
    assert_eq!(said(Some("token")), row("one.test:6443", "one.test", Some("Bearer sesame"), 0));
    assert_eq!(said(Some("both")), row("one.test:6443", "one.test", Some("Bearer s3same"), 0));

    let errors = |context: &str| folder.errors(&config(Some(context)));
    let instead = "is not supported, expected a client certificate, a token or a tokenFile";
    assert_eq!(errors("three"), ["kubeconfig: kubeconfig: no context \"three\""]);
    assert_eq!(
        errors("lost"),
        [
            "kubeconfig: kubeconfig: context \"lost\": no cluster \"none\"",
            "kubeconfig: kubeconfig: context \"lost\": no user \"none\""
        ]
    );
    assert_eq!(
        errors("plugin"),
        [
            "kubeconfig: kubeconfig: cluster \"proxied\": proxy-url is not supported".to_owned(),
            format!("kubeconfig: kubeconfig: user \"plugin\": exec {instead}"),
            format!("kubeconfig: kubeconfig: user \"plugin\": as {instead}"),
        ]
    );
    assert_eq!(errors("old").len(), 3);
    assert!(errors("old").iter().all(|e| e.ends_with(instead) && !e.contains("secret")));
    let badly = errors("badly");
    assert_eq!(
        badly[0],
        "kubeconfig: kubeconfig: cluster \"coded\": certificate-authority-data is not base64"
    );
    assert!(
        badly[1].starts_with("kubeconfig: kubeconfig: user \"coded\": client-certificate: gone.crt: No such"),
        "{badly:?}"
    );

    folder.write("kubeconfig", "contexts: []");
    assert_eq!(folder.errors(&config(None)), ["kubeconfig: kubeconfig: no current-context, name a context"]);
    folder.write("kubeconfig", "users: [{name: a, user: {token: sesame, token: sesame}}]");
    let twice = folder.errors(&config(None));
    assert!(
        twice[0].starts_with("kubeconfig: kubeconfig: line 1") && !twice[0].contains("sesame"),
        "{twice:?}"
    );
}

/// The handshake with a server that has `pair` and demands a certificate of `clients`, if there are any.
async fn handshake(endpoint: &Endpoint, pair: &Pair, clients: Option<&Ca>) -> Result<Vec<u8>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from(ca.der().to_vec())).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = pair.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let key = File { origin: "key".to_owned(), bytes: pair.key.as_bytes().to_vec() }.private_key().unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let (near, far) = tokio::io::duplex(1 << 16);
    let connector = TlsConnector::from(Arc::clone(endpoint.tls()));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (client, server) =
        tokio::join!(connector.connect(endpoint.server_name().clone(), near), acceptor.accept(far));
    let client = client.map_err(|e| e.to_string())?;
    server.map_err(|e| e.to_string())?;
    Ok(client.get_ref().1.alpn_protocol().unwrap_or_default().to_vec())
}

#[tokio::test]
async fn the_upstream_is_checked_and_the_gate_proves_itself() {
    let folder = Folder::new("handshake");
    let with = |change: &dyn Fn(&mut Explicit)| {
        let mut explicit = folder.explicit();
        change(&mut explicit);
        load(&Config::Explicit(explicit)).unwrap()
    };
    let plain = with(&|_| {});
    let proving = with(&|e| {
        e.client_certificate = Some(folder.path.join("proxy.crt"));
        e.client_key = Some(folder.path.join("proxy.key"));
    });
    let named = with(&|e| e.tls_server_name = Some("kubernetes".to_owned()));
    let address = with(&|e| e.server = "https://127.0.0.1:6443".to_owned());
    let blind = with(&|e| {
        e.certificate_authority = None;
        e.insecure_skip_tls_verify = true;
    });
    let api = folder.ca.server(&["api.test", "127.0.0.1"]).unwrap();
    let kubernetes = folder.ca.server(&["kubernetes"]).unwrap();
    let stranger = Ca::new("stranger").unwrap().server(&["api.test"]).unwrap();
    let ca = Some(&folder.ca);
    let http1 = Ok(b"http/1.1".to_vec());
    assert_eq!(handshake(&plain, &api, None).await, http1);
    assert_eq!(handshake(&address, &api, None).await, http1);
    assert_eq!(handshake(&named, &kubernetes, None).await, http1);
    assert_eq!(handshake(&proving, &api, ca).await, http1);
    assert_eq!(handshake(&blind, &stranger, None).await, http1);
    assert!(handshake(&plain, &api, ca).await.is_err());
    assert!(handshake(&plain, &kubernetes, None).await.is_err());
    assert!(handshake(&named, &api, None).await.is_err());
    assert!(handshake(&plain, &stranger, None).await.is_err());
}
