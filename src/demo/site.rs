//! A demo's folder: certificates, tokens, rules, the gate's configuration and the kubeconfigs of its users.
//!
//! ```text
//! DIR/admin.kubeconfig developer.kubeconfig viewer.kubeconfig   for kubectl, through the gate
//! DIR/gatelog.yaml                                              the gate's configuration, and what it points to:
//! DIR/pki/{ca,gate}.crt gate.key                                the gate's authority and serving certificate
//! DIR/tokens.csv rbac.yaml audit-policy.yaml upstream.kubeconfig
//! DIR/oidc.kubeconfig authentication.yaml                       with a provider: its user's, and what the gate believes of it
//! DIR/audit/                                                    the record; the only thing that outlives a run
//! ```

use super::{
    apiserver::ISSUER,
    jws::Alg,
    oidc::{self, Provider, Signing},
    pki::{self, Ca, Client, Pair, write_private},
    value::set,
    world,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::json;
use std::{
    fs::{self, File, TryLockError},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Says that a folder is a demo's; locked while one runs.
const MARK: &str = ".gatelog-demo";
const OIDC_KUBECONFIG: &str = "oidc.kubeconfig";
const AUTHENTICATION: &str = "authentication.yaml";

/// One of the demo's users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// The user's name, and that of the kubeconfig.
    pub name: &'static str,
    /// The group that the rules speak of.
    pub group: &'static str,
    /// The namespace that kubectl uses unless told otherwise.
    pub namespace: &'static str,
}

/// May do everything; has a client certificate.
pub const ADMIN: User = User { name: "admin", group: world::ADMINS, namespace: "shop" };
/// May edit in one namespace and look into another; has a token.
pub const DEVELOPER: User = User { name: "developer", group: world::DEVELOPERS, namespace: "shop" };
/// May look around; has a token.
pub const VIEWER: User = User { name: "viewer", group: world::VIEWERS, namespace: "shop" };

/// May do what the developer may; has a token of the provider's.
pub const CAROL: User =
    User { name: "oidc:carol@example.com", group: world::OIDC_DEVELOPERS, namespace: "shop" };

/// How long a token of the provider's is good for: a long day.
pub const TOKEN_HOURS: i64 = 12;

/// What the gate's configuration says besides what is the same in every demo.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// Where the gate listens.
    pub listen: SocketAddr,
    /// Where it serves metrics.
    pub admin: SocketAddr,
    /// The API server.
    pub upstream: SocketAddr,
    /// Whose tokens are believed besides the cluster's own.
    pub provider: Option<&'a Provider>,
    /// What follows `authentication.serviceAccount.issuers`: keys beside it, indented by four, then keys beside
    /// `serviceAccount`, indented by two.
    pub authentication: &'a str,
    /// What the section `authorization` holds, indented by two; empty: [`RULES_OF_FILES`].
    pub authorization: &'a str,
    /// Further sections.
    pub more: &'a str,
}

/// The users' rights are in a file beside the configuration.
pub const RULES_OF_FILES: &str = "  rbac:\n    files: [rbac.yaml]\n";
/// They are what the cluster says.
pub const RULES_OF_CLUSTER: &str = "  rbac:\n    cluster: {}\n";

/// A demo's folder, claimed by this process.
#[derive(Debug)]
pub struct Site {
    dir: PathBuf,
    /// Signs the gate's serving certificate and the admin's.
    gate: Ca,
    /// Signs the API server's certificate and the gate's as its client.
    cluster: Ca,
    admin: Pair,
    developer: String,
    viewer: String,
    _mark: File,
}

/// Why a folder cannot be a demo's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody's files are in it.
    #[error("{}: is not empty and not the folder of an earlier demo", .0.display())]
    NotOurs(PathBuf),
    /// Another demo runs in it.
    #[error("{}: another demo is running here", .0.display())]
    Busy(PathBuf),
    /// The system's own reason.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A certificate cannot be made.
    #[error(transparent)]
    Pki(#[from] pki::Error),
    /// A certificate cannot be used.
    #[error("cannot serve with a certificate just made: {0}")]
    Tls(String),
}

impl Site {
    /// Takes a folder that is new, empty or an earlier demo's, and writes what does not depend on addresses.
    pub fn claim(dir: &Path) -> Result<Self, Error> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| Error::Io { path, error }
        };
        fs::create_dir_all(dir).map_err(failed(dir))?;
        let mark = dir.join(MARK);
        let mut entries = fs::read_dir(dir).map_err(failed(dir))?;
        if !mark.exists() && entries.next().is_some() {
            return Err(Error::NotOurs(dir.to_owned()));
        }
        let file = File::create(&mark).map_err(failed(&mark))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Busy(dir.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(&mark)(error)),
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(failed(dir))?;
        }
        // An earlier demo's, whose provider is gone.
        for name in [OIDC_KUBECONFIG, AUTHENTICATION] {
            let _ = fs::remove_file(dir.join(name));
        }
        let gate = Ca::new("gatelog demo")?;
        let admin = gate.client(&Client::new(ADMIN.name).group(ADMIN.group))?;
        let site = Self {
            dir: dir.to_owned(),
            admin,
            gate,
            cluster: Ca::new("gatelog demo cluster")?,
            developer: token()?,
            viewer: token()?,
            _mark: file,
        };
        fs::create_dir_all(dir.join("pki")).map_err(failed(&dir.join("pki")))?;
        let serving = site.gate.server(&["localhost", "127.0.0.1", "::1"])?;
        site.write("pki/ca.crt", &site.gate.pem())?;
        site.write("pki/gate.crt", &serving.certificates())?;
        site.write("pki/gate.key", &serving.key)?;
        site.write("rbac.yaml", world::rbac_yaml())?;
        site.write("audit-policy.yaml", include_str!("../../policies/audit/recommended.yaml"))?;
        let line = |token: &str, user: User| format!("{token},{0},{0}-uid,{1}\n", user.name, user.group);
        site.write("tokens.csv", &(line(&site.developer, DEVELOPER) + &line(&site.viewer, VIEWER)))?;
        Ok(site)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the record goes.
    pub fn record(&self) -> PathBuf {
        self.dir.join("audit")
    }

    /// The gate's authority: it signs what callers trust, and what the gate trusts of callers.
    pub fn gate_ca(&self) -> &Ca {
        &self.gate
    }

    /// A user's bearer token; the admin has a certificate.
    pub fn token(&self, user: User) -> Option<&str> {
        match user {
            DEVELOPER => Some(&self.developer),
            VIEWER => Some(&self.viewer),
            _ => None,
        }
    }

    /// The admin's client certificate.
    pub fn admin(&self) -> &Pair {
        &self.admin
    }

    /// How the demo's API server serves: clients may show a certificate of the cluster's authority, and no other.
    pub fn cluster_tls(&self) -> Result<Arc<rustls::ServerConfig>, Error> {
        let tls = |error: &dyn std::fmt::Display| Error::Tls(error.to_string());
        let pair = self.cluster.server(&["localhost", "127.0.0.1", "::1"])?;
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(|e| tls(&e))?;
        let chain = pair.chain.into_iter().map(CertificateDer::from).collect();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(self.cluster.der().to_vec())).map_err(|e| tls(&e))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .allow_unauthenticated()
                .build()
                .map_err(|e| tls(&e))?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| tls(&e))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|e| tls(&e))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Writes the gate's configuration; returns its path.
    pub fn write_gate(&self, setup: Setup<'_>) -> Result<PathBuf, Error> {
        let Setup { listen, admin, upstream, provider, authentication, authorization, more } = setup;
        let authorization = if authorization.is_empty() { RULES_OF_FILES } else { authorization };
        let structured = match provider {
            Some(provider) => {
                self.write(AUTHENTICATION, &believing(provider))?;
                format!("  authenticationConfigFile: {AUTHENTICATION}\n")
            }
            None => String::new(),
        };
        let us = self.cluster.client(&Client::new(world::GATEWAY_USER))?;
        self.write(
            "upstream.kubeconfig",
            &kubeconfig(upstream, &self.cluster, "gatelog", "default", &by_certificate(&us)),
        )?;
        let text = format!(
            "# The gate of `gatelog demo`. Written anew each time it starts.\n\
             apiVersion: gatelog.dev/v1alpha1\n\
             kind: Gateway\n\
             listen:\n  address: \"{listen}\"\n  tlsCertFile: pki/gate.crt\n  tlsPrivateKeyFile: pki/gate.key\n  shutdownGracePeriod: 2s\n\
             upstream:\n  kubeconfig: upstream.kubeconfig\n\
             authentication:\n  clientCAFile: pki/ca.crt\n  tokenAuthFile: tokens.csv\n{structured}  \
             serviceAccount:\n    issuers: [\"{ISSUER}\"]\n{authentication}\
             authorization:\n{authorization}\
             audit:\n  policyFile: audit-policy.yaml\n  dir: audit\n  signing: {{stdout: none}}\n\
             admin:\n  address: \"{admin}\"\n{more}"
        );
        self.write("gatelog.yaml", &text)
    }

    /// Writes the users' kubeconfigs, which lead to the gate.
    pub fn write_kubeconfigs(&self, gate: SocketAddr, provider: Option<&Provider>) -> Result<(), Error> {
        if let Some(provider) = provider {
            let token = format!("token: {}", carols_token(provider));
            let text = kubeconfig(gate, &self.gate, "carol", CAROL.namespace, &token);
            self.write(OIDC_KUBECONFIG, &text)?;
        }
        for user in [ADMIN, DEVELOPER, VIEWER] {
            let credentials = match self.token(user) {
                Some(token) => format!("token: {token}"),
                None => by_certificate(&self.admin),
            };
            let text = kubeconfig(gate, &self.gate, user.name, user.namespace, &credentials);
            self.write(&format!("{}.kubeconfig", user.name), &text)?;
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.dir.join(name);
        match write_private(&path, text.as_bytes()) {
            Ok(()) => Ok(path),
            Err(error) => Err(Error::Io { path, error }),
        }
    }
}

fn token() -> Result<String, Error> {
    let mut bytes = [0; 24];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Tls("no randomness".to_owned()))?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

/// A token of [`CAROL`]'s, signed by the provider of now.
pub fn carols_token(provider: &Provider) -> String {
    let mut claims = provider.claims("carol");
    let expires = jiff::Timestamp::now().as_second() + TOKEN_HOURS * 3600;
    set(&mut claims, "/email", "carol@example.com");
    set(&mut claims, "/email_verified", true);
    set(&mut claims, "/groups", json!(["developers"]));
    set(&mut claims, "/exp", expires);
    provider.mint(&claims, &Signing::new(Alg::Rs256))
}

/// An AuthenticationConfiguration that believes the provider.
fn believing(provider: &Provider) -> String {
    let (issuer, audience) = (provider.issuer(), oidc::AUDIENCE);
    let ca: String = provider.ca_pem().lines().map(|line| format!("      {line}\n")).collect();
    format!(
        "# Whose tokens the gate of `gatelog demo --oidc` believes. Written anew each time it starts.\n\
         apiVersion: apiserver.config.k8s.io/v1\n\
         kind: AuthenticationConfiguration\n\
         jwt:\n\
         - issuer:\n    url: \"{issuer}\"\n    audiences: [{audience}]\n    certificateAuthority: |\n{ca}  \
         claimMappings:\n    username:\n      claim: email\n      prefix: \"oidc:\"\n    \
         groups:\n      claim: groups\n      prefix: \"oidc:\"\n  \
         userValidationRules:\n  \
         - expression: \"!user.username.startsWith('system:')\"\n    message: names that begin with system are Kubernetes' own\n  \
         - expression: \"user.groups.all(group, !group.startsWith('system:'))\"\n    message: groups that begin with system are Kubernetes' own\n"
    )
}

fn by_certificate(pair: &Pair) -> String {
    format!(
        "client-certificate-data: {}\n    client-key-data: {}",
        STANDARD.encode(pair.certificates()),
        STANDARD.encode(&pair.key)
    )
}

fn kubeconfig(server: SocketAddr, ca: &Ca, user: &str, namespace: &str, credentials: &str) -> String {
    let ca = STANDARD.encode(ca.pem());
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {user}\n\
         clusters:\n- name: demo\n  cluster:\n    server: https://{server}\n    certificate-authority-data: {ca}\n\
         contexts:\n- name: {user}\n  context:\n    cluster: demo\n    user: {user}\n    namespace: {namespace}\n\
         users:\n- name: {user}\n  user:\n    {credentials}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("gatelog-site-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_folder_is_a_demos_or_it_is_refused() {
        let folder = Folder::new("claim");
        let site = Site::claim(&folder.0).unwrap();
        assert!(matches!(Site::claim(&folder.0), Err(Error::Busy(_))));
        let first = site.token(DEVELOPER).unwrap().to_owned();
        drop(site);
        fs::create_dir(folder.0.join("audit")).unwrap();
        fs::write(folder.0.join("audit/kept.jsonl"), "{}").unwrap();
        let again = Site::claim(&folder.0).unwrap();
        assert_ne!(again.token(DEVELOPER).unwrap(), first);
        assert!(again.record().join("kept.jsonl").exists());
        drop(again);
        fs::remove_file(folder.0.join(MARK)).unwrap();
        assert!(matches!(Site::claim(&folder.0), Err(Error::NotOurs(_))));
    }

    #[tokio::test]
    async fn what_is_written_is_yaml_and_private() {
        let provider = Provider::start(oidc::Options::default()).await.unwrap();
        let folder = Folder::new("files");
        let site = Site::claim(&folder.0).unwrap();
        let address: SocketAddr = "[::1]:6443".parse().unwrap();
        let setup = Setup {
            listen: address,
            admin: address,
            upstream: address,
            provider: None,
            authentication: "",
            authorization: "",
            more: "",
        };
        site.write_gate(setup).unwrap();
        site.write_kubeconfigs(address, None).unwrap();
        assert!(!folder.0.join(OIDC_KUBECONFIG).exists() && !folder.0.join(AUTHENTICATION).exists());
        site.write_gate(Setup { provider: Some(&provider), ..setup }).unwrap();
        site.write_kubeconfigs(address, Some(&provider)).unwrap();
        let read = |name: &str| fs::read_to_string(folder.0.join(name)).unwrap();
        for name in [
            "gatelog.yaml",
            "admin.kubeconfig",
            "developer.kubeconfig",
            "viewer.kubeconfig",
            "upstream.kubeconfig",
            OIDC_KUBECONFIG,
            AUTHENTICATION,
        ] {
            let documents = crate::codec::yaml::documents(&read(name)).unwrap();
            assert_eq!(documents.len(), 1, "{name}");
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(
                fs::metadata(folder.0.join(name)).unwrap().permissions().mode() & 0o777,
                0o600,
                "{name}"
            );
        }
        assert!(read("developer.kubeconfig").contains("server: https://[::1]:6443\n"));
        assert!(read("tokens.csv").contains(",viewer,viewer-uid,demo:viewers\n"));
        site.cluster_tls().unwrap();
        let believed: serde_json::Value = crate::codec::yaml::object(&read(AUTHENTICATION)).unwrap();
        let issuer = &believed["jwt"][0]["issuer"];
        assert_eq!(issuer["url"], provider.issuer());
        assert_eq!(issuer["certificateAuthority"], provider.ca_pem());
        assert!(read("gatelog.yaml").contains("\n  authenticationConfigFile: authentication.yaml\n"));
    }
}
