//! What the authenticators are made of: the configuration, the files it points to, and one out of the other.

use super::{
    Algorithm, Authn, Error, FrontProxyConfig, KeysConfig, PROVEN, ReviewBy, ReviewConfig, ReviewTokens,
    ServiceAccountConfig, Shared,
    cache::Cache,
    front_proxy::FrontProxy,
    oidc::{Oidc, config::AuthenticationConfiguration},
    review::Review,
    service_account::ServiceAccounts,
    token_file::TokenFile,
    x509::{Revocations, X509},
};
use crate::{
    cluster::Cluster,
    endpoint::{self, Endpoint},
    identity::{self, User},
    pem::File,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

/// Which authenticators there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Config {
    /// PEM bundle of the CAs whose client certificates are accepted; None: client certificates are not looked at.
    pub client_ca_file: Option<PathBuf>,
    /// PEM certificate revocation lists, for client certificates and for the front proxy's.
    pub client_crl_file: Option<PathBuf>,
    /// The proxy whose word is taken for an identity.
    pub front_proxy: Option<FrontProxyConfig>,
    /// kube-apiserver's CSV of static tokens.
    pub token_auth_file: Option<PathBuf>,
    /// Tokens of service accounts.
    pub service_account: Option<ServiceAccountConfig>,
    /// An AuthenticationConfiguration.
    pub authentication_config_file: Option<PathBuf>,
    /// What the gate wants of an issuer of the AuthenticationConfiguration beyond what stands there.
    pub issuers: Vec<IssuerSettings>,
    /// How keys of issuers are kept.
    pub keys: KeysConfig,
    /// Who is asked about tokens that nobody here knows.
    pub review: Option<ReviewConfig>,
    /// Requests without credentials. None: as the AuthenticationConfiguration says, else refused.
    pub anonymous: Option<Anonymous>,
    /// The upstream, for keys and reviews that come from there.
    pub upstream: Option<endpoint::Config>,
}

/// Requests without credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Anonymous {
    /// Whether they are let on as `system:anonymous`.
    pub enabled: bool,
    /// Only to these paths, exactly; empty: to all.
    pub paths: Vec<String>,
}

/// What the gate wants of an issuer beyond what stands in the AuthenticationConfiguration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct IssuerSettings {
    /// Its `url`, exactly.
    pub url: String,
    /// Empty: all that kube-apiserver accepts.
    pub signing_algs: Vec<Algorithm>,
    /// Whether user names and groups that begin with `system:` are believed.
    pub allow_system_identities: bool,
}

/// What [`Config`] points to, read but not yet understood. Equal files make equal authenticators.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Files {
    config: Config,
    client_ca: Option<File>,
    client_crl: Option<File>,
    front_proxy_ca: Option<File>,
    tokens: Option<File>,
    service_account_keys: Vec<File>,
    authentication_config: Option<File>,
    webhook: Option<endpoint::Source>,
    upstream: Option<endpoint::Source>,
}

const CLIENT_CA_FILE: &str = "clientCAFile";
const CLIENT_CRL_FILE: &str = "clientCRLFile";
const REQUESTHEADER_CA_FILE: &str = "requestheader.clientCAFile";
const REQUESTHEADER_ALLOWED_NAMES: &str = "requestheader.allowedNames";
const TOKEN_AUTH_FILE: &str = "tokenAuthFile";
const SERVICE_ACCOUNT: &str = "serviceAccount";
const KEY_FILES: &str = "serviceAccount.keyFiles";
const AUTHENTICATION_CONFIG_FILE: &str = "authenticationConfigFile";
const ISSUERS: &str = "issuers";
const TOKEN_REVIEW: &str = "tokenReview";
const ANONYMOUS: &str = "anonymous";

impl Config {
    /// Reads the files, all or none.
    pub fn read(&self) -> Result<Files, Vec<Error>> {
        let mut errors = Vec::new();
        let mut read = |path: Option<&Path>, key| {
            let read = path.map(File::read)?;
            read.map_err(|problem| errors.push(Error { key, problem })).ok()
        };
        let client_ca = read(self.client_ca_file.as_deref(), CLIENT_CA_FILE);
        let client_crl = read(self.client_crl_file.as_deref(), CLIENT_CRL_FILE);
        let front_proxy_ca =
            read(self.front_proxy.as_ref().map(|p| p.client_ca_file.as_path()), REQUESTHEADER_CA_FILE);
        let tokens = read(self.token_auth_file.as_deref(), TOKEN_AUTH_FILE);
        let key_files = self.service_account.iter().flat_map(|accounts| &accounts.key_files);
        let service_account_keys = key_files.filter_map(|path| read(Some(path), KEY_FILES)).collect();
        let authentication_config =
            read(self.authentication_config_file.as_deref(), AUTHENTICATION_CONFIG_FILE);
        let mut place = |config: Option<&endpoint::Config>| {
            let failed = |failed: Vec<endpoint::Error>| {
                let error = |e: endpoint::Error| Error { key: TOKEN_REVIEW, problem: e.problem };
                errors.extend(failed.into_iter().map(error));
            };
            config.map(endpoint::Config::read)?.map_err(failed).ok()
        };
        let webhook = match self.review.as_ref().map(|review| &review.to) {
            Some(ReviewBy::Webhook { kubeconfig, context }) => {
                let (path, context) = (kubeconfig.clone(), context.clone());
                place(Some(&endpoint::Config::Kubeconfig { path, context }))
            }
            _ => None,
        };
        let upstream = place(self.upstream.as_ref().filter(|_| self.asks_the_upstream()));
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Files {
            config: self.clone(),
            client_ca,
            client_crl,
            front_proxy_ca,
            tokens,
            service_account_keys,
            authentication_config,
            webhook,
            upstream,
        })
    }

    /// Whether the gate calls the upstream to authenticate somebody.
    pub fn asks_the_upstream(&self) -> bool {
        self.review.as_ref().is_some_and(|review| review.to == ReviewBy::Upstream)
            || self.service_account.as_ref().is_some_and(|accounts| {
                accounts.key_files.is_empty() || accounts.review != ReviewTokens::Never
            })
    }
}

impl Authn {
    /// The authenticators that `files` describe; what `before` has fetched and still holds is taken over. The second list is
    /// what is odd but harmless, a line each; all errors are reported, not only the first.
    pub fn new(
        files: &Files,
        shared: &Arc<Shared>,
        before: Option<&Self>,
    ) -> Result<(Self, Vec<String>), Vec<Error>> {
        let mut said = Said::default();
        let config = &files.config;
        let revocations = said.revocations(files.client_crl.as_ref());
        let x509 = files.client_ca.as_ref().and_then(|file| said.client_ca(file, revocations.as_ref()));
        let front_proxy = said.front_proxy(files, revocations.as_ref());
        said.certificates(files, x509.as_ref(), front_proxy.as_ref(), revocations.as_ref());
        let tokens = files.tokens.as_ref().and_then(|file| said.token_file(file));
        // Who fetches keys goes on using the cluster they came by, so that one must go on being refreshed.
        let known = |new: Arc<Cluster>| {
            let like = before.and_then(|before| before.clusters.iter().find(|old| old.is_like(&new)));
            like.cloned().unwrap_or(new)
        };
        let upstream = files.upstream.as_ref().and_then(|source| said.cluster(source)).map(known);
        let webhook = files.webhook.as_ref().and_then(|source| said.webhook(source)).map(known);
        let review = config.review.as_ref().and_then(|review| {
            let cluster = if review.to == ReviewBy::Upstream { upstream.clone() } else { webhook.clone() };
            Some(Review::new(review.clone(), cluster?, shared.metrics.clone()))
        });
        let service_accounts = said.service_accounts(files, upstream.as_ref(), shared, before);
        let structured = files.authentication_config.as_ref().and_then(|file| said.structured(file, config));
        let (issuers, written) = structured.map_or((None, None), |s| (Some(s.issuers), s.anonymous));
        let wanted = |issuers: &Vec<_>| !issuers.is_empty() || !config.issuers.is_empty();
        let oidc = issuers.filter(wanted).and_then(|issuers| {
            let before = before.and_then(|before| before.oidc.as_deref());
            said.keep(ISSUERS, Oidc::new(issuers, &config.issuers, config.keys, before)).map(Arc::new)
        });
        let written = written.map(|a| Anonymous { enabled: a.enabled, paths: a.paths });
        if written.is_some() && config.anonymous.is_some() {
            said.keep::<()>(
                ANONYMOUS,
                Err(vec![
                    "expected either here or in the authenticationConfigFile, found in both".to_owned(),
                ]),
            );
        }
        let open = config.anonymous.clone().or(written).unwrap_or_default();
        let anonymous = if open.enabled { said.anonymous() } else { None };
        if !said.errors.is_empty() {
            return Err(said.errors);
        }
        let authn = Self {
            front_proxy,
            x509,
            tokens,
            service_accounts,
            oidc,
            review,
            proven: Cache::new(PROVEN),
            anonymous,
            anonymous_paths: open.paths,
            clusters: [upstream, webhook].into_iter().flatten().collect(),
            shared: shared.clone(),
        };
        Ok((authn, said.warnings))
    }
}

/// What is said while files are understood.
#[derive(Default)]
struct Said {
    warnings: Vec<String>,
    errors: Vec<Error>,
}

impl Said {
    fn revocations(&mut self, file: Option<&File>) -> Option<Revocations> {
        self.keep(CLIENT_CRL_FILE, Revocations::new(file?))
    }

    fn client_ca(&mut self, file: &File, revocations: Option<&Revocations>) -> Option<X509> {
        let bundle = match file.certificates() {
            Ok(bundle) => bundle,
            Err(e) => return self.refuse(CLIENT_CA_FILE, [e.to_string()]),
        };
        match X509::new(&bundle, revocations) {
            Ok(x509) => {
                self.warnings.extend(named(file, x509.authorities().warnings(SystemTime::now())));
                Some(x509)
            }
            Err(problems) => self.refuse(CLIENT_CA_FILE, named(file, problems)),
        }
    }

    fn front_proxy(&mut self, files: &Files, revocations: Option<&Revocations>) -> Option<FrontProxy> {
        let (config, file) = (files.config.front_proxy.as_ref()?, files.front_proxy_ca.as_ref()?);
        let bundle = match file.certificates() {
            Ok(bundle) => bundle,
            Err(e) => return self.refuse(REQUESTHEADER_CA_FILE, [e.to_string()]),
        };
        match FrontProxy::new(config, &bundle, revocations) {
            Ok(proxy) => {
                self.warnings.extend(named(file, proxy.authorities().warnings(SystemTime::now())));
                Some(proxy)
            }
            Err(problems) => self.refuse(REQUESTHEADER_CA_FILE, named(file, problems)),
        }
    }

    /// What only shows when the bundles and the lists are seen together.
    fn certificates(
        &mut self,
        files: &Files,
        x509: Option<&X509>,
        proxy: Option<&FrontProxy>,
        revocations: Option<&Revocations>,
    ) {
        let clients = x509.map(X509::authorities);
        let proxies = proxy.map(FrontProxy::authorities);
        if let (Some(file), Some(revocations)) = (&files.client_crl, revocations) {
            let bundles: Vec<_> = clients.into_iter().chain(proxies).collect();
            self.warnings.extend(named(file, revocations.warnings(SystemTime::now(), &bundles)));
        }
        if let (Some(clients), Some(proxy)) = (clients, proxy)
            && proxy.takes_any_name()
            && clients.overlap(proxy.authorities())
        {
            let problem = "expected the name of the proxy's certificate: its CA signs client certificates, too, \
                           and each of those could claim to be anybody";
            self.refuse::<()>(REQUESTHEADER_ALLOWED_NAMES, [problem.to_owned()]);
        }
    }

    fn token_file(&mut self, file: &File) -> Option<TokenFile> {
        let text = match file.text() {
            Ok(text) => text,
            Err(problem) => return self.refuse(TOKEN_AUTH_FILE, [problem]),
        };
        match TokenFile::parse(text) {
            Ok((tokens, odd)) => {
                self.warnings.extend(named(file, odd));
                Some(tokens)
            }
            Err(errors) => self.refuse(TOKEN_AUTH_FILE, named(file, errors)),
        }
    }

    fn cluster(&mut self, source: &endpoint::Source) -> Option<Arc<Cluster>> {
        let text = |errors: Vec<endpoint::Error>| errors.into_iter().map(|e| e.problem).collect();
        let endpoint = self.keep(TOKEN_REVIEW, Endpoint::new(source).map_err(text))?;
        Some(Arc::new(Cluster::new(Arc::new(endpoint))))
    }

    fn webhook(&mut self, source: &endpoint::Source) -> Option<Arc<Cluster>> {
        let text = |errors: Vec<endpoint::Error>| errors.into_iter().map(|e| e.problem).collect();
        let endpoint = self.keep(TOKEN_REVIEW, Endpoint::webhook(source).map_err(text))?;
        self.warnings.extend_from_slice(endpoint.warnings());
        Some(Arc::new(Cluster::webhook(Arc::new(endpoint))))
    }

    fn service_accounts(
        &mut self,
        files: &Files,
        upstream: Option<&Arc<Cluster>>,
        shared: &Arc<Shared>,
        before: Option<&Authn>,
    ) -> Option<ServiceAccounts> {
        let config = files.config.service_account.as_ref()?;
        let review = upstream.filter(|_| config.review != ReviewTokens::Never).map(|cluster| {
            let review = ReviewConfig {
                to: ReviewBy::Upstream,
                audiences: config.audiences.clone(),
                cache_ttl: super::PROVEN_KEPT,
                allow_system_identities: true,
            };
            Review::new(review, cluster.clone(), shared.metrics.clone())
        });
        let before = before.and_then(|before| before.service_accounts.as_ref());
        let keys = &files.service_account_keys;
        let made = ServiceAccounts::new(config, keys, files.config.keys, upstream, review, before);
        self.keep(SERVICE_ACCOUNT, made)
    }

    fn structured(&mut self, file: &File, config: &Config) -> Option<AuthenticationConfiguration> {
        let issuers =
            config.service_account.as_ref().map(|accounts| &accounts.issuers[..]).unwrap_or_default();
        let text = match file.text() {
            Ok(text) => text,
            Err(problem) => return self.refuse(AUTHENTICATION_CONFIG_FILE, [problem]),
        };
        match AuthenticationConfiguration::parse(text, issuers) {
            Ok(mut structured) => {
                self.warnings.extend(named(file, std::mem::take(&mut structured.warnings)));
                Some(structured)
            }
            Err(problems) => self.refuse(AUTHENTICATION_CONFIG_FILE, named(file, problems)),
        }
    }

    fn anonymous(&mut self) -> Option<Arc<User>> {
        let groups = vec![identity::ALL_UNAUTHENTICATED.to_owned()];
        match User::new(identity::ANONYMOUS, "", groups, Default::default()) {
            Ok(user) => Some(user),
            Err(e) => self.refuse(ANONYMOUS, [e.to_string()]),
        }
    }

    fn keep<T>(&mut self, key: &'static str, made: Result<T, Vec<String>>) -> Option<T> {
        made.map_err(|problems| self.refuse::<()>(key, problems)).ok()
    }

    fn refuse<T>(&mut self, key: &'static str, problems: impl IntoIterator<Item = String>) -> Option<T> {
        self.errors.extend(problems.into_iter().map(|problem| Error { key, problem }));
        None
    }
}

/// The lines say which file they are about.
fn named<L: ToString>(file: &File, lines: Vec<L>) -> impl Iterator<Item = String> {
    lines.into_iter().map(|line| format!("{}: {}", file.origin, line.to_string()))
}
