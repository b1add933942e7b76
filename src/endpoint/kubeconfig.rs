//! The upstream as a kubeconfig describes it: one context's cluster and user.
//!
//! What a kubeconfig may hold and the gate does not support (plugins, passwords, proxies, impersonation) is an error; what it does
//! not know is passed over, as kubectl does.

use super::{Error, Keys, Source, TokenSource};
use crate::{codec::yaml, pem::File};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, de::IgnoredAny};
use std::path::{Path, PathBuf};

const KEY: &str = "kubeconfig";

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    #[serde(default)]
    cluster: String,
    #[serde(default)]
    user: String,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    #[serde(default)]
    server: String,
    tls_server_name: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: User,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    username: Option<String>,
    password: Option<String>,
    #[serde(rename = "as")]
    impersonate: Option<String>,
    exec: Option<IgnoredAny>,
    auth_provider: Option<IgnoredAny>,
}

/// Reads the cluster and the user of `context`, or of the current one.
pub(super) fn read(path: &Path, context: Option<&str>) -> Result<Source, Vec<Error>> {
    Reader { path, errors: Vec::new() }.read(context)
}

struct Reader<'a> {
    path: &'a Path,
    errors: Vec<Error>,
}

impl Reader<'_> {
    fn read(mut self, context: Option<&str>) -> Result<Source, Vec<Error>> {
        let parsed = File::read(self.path).and_then(|file| {
            yaml::object::<Kubeconfig>(file.text()?).map_err(|e| format!("{}: {e}", file.origin))
        });
        let source = match parsed {
            Ok(kubeconfig) => self.source(kubeconfig, context),
            Err(problem) => {
                self.errors.push(Error { key: KEY, problem });
                None
            }
        };
        source.filter(|_| self.errors.is_empty()).ok_or(self.errors)
    }

    fn source(&mut self, kubeconfig: Kubeconfig, context: Option<&str>) -> Option<Source> {
        let wanted = context.unwrap_or(&kubeconfig.current_context);
        if wanted.is_empty() {
            return self.fail("no current-context, name a context");
        }
        let Some(context) = kubeconfig.contexts.into_iter().find(|c| c.name == wanted) else {
            return self.fail(format!("no context {wanted:?}"));
        };
        let Context { cluster: cluster_name, user: user_name } = context.context;
        let cluster = kubeconfig.clusters.into_iter().find(|c| c.name == cluster_name);
        if cluster.is_none() {
            self.fail::<()>(format!("context {wanted:?}: no cluster {cluster_name:?}"));
        }
        // A context without a user has no credentials; one with an unknown user is a mistake.
        let user = kubeconfig.users.into_iter().find(|u| u.name == user_name).map(|u| u.user);
        let user = user.or_else(|| user_name.is_empty().then(User::default));
        if user.is_none() {
            self.fail::<()>(format!("context {wanted:?}: no user {user_name:?}"));
        }
        let (cluster, user) = (cluster?.cluster, user?);
        let (in_cluster, in_user) = (format!("cluster {cluster_name:?}"), format!("user {user_name:?}"));
        if cluster.proxy_url.is_some_and(|url| !url.is_empty()) {
            self.fail::<()>(format!("{in_cluster}: proxy-url is not supported"));
        }
        for (key, found) in [
            ("exec", user.exec.is_some()),
            ("auth-provider", user.auth_provider.is_some()),
            ("username", user.username.is_some_and(|v| !v.is_empty())),
            ("password", user.password.is_some_and(|v| !v.is_empty())),
            ("as", user.impersonate.is_some_and(|v| !v.is_empty())),
        ] {
            if found {
                self.fail::<()>(format!(
                    "{in_user}: {key} is not supported, expected a client certificate, a token or a tokenFile"
                ));
            }
        }
        let authority = self.file(
            &in_cluster,
            "certificate-authority",
            cluster.certificate_authority_data,
            cluster.certificate_authority,
        );
        let certificate =
            self.file(&in_user, "client-certificate", user.client_certificate_data, user.client_certificate);
        let key = self.file(&in_user, "client-key", user.client_key_data, user.client_key);
        let token = match (user.token_file.filter(|p| !p.as_os_str().is_empty()), user.token) {
            (Some(path), _) => Some(TokenSource::File(self.beside(&path))),
            (None, Some(token)) if !token.is_empty() => Some(TokenSource::Fixed(token)),
            (None, _) => None,
        };
        Some(Source {
            server: cluster.server,
            tls_server_name: cluster.tls_server_name.filter(|name| !name.is_empty()),
            authority,
            insecure: cluster.insecure_skip_tls_verify,
            certificate,
            key,
            token,
            keys: Keys { server: KEY, tls_server_name: KEY, authority: KEY, certificate: KEY, token: KEY },
        })
    }

    /// What stands in the kubeconfig itself counts before a file.
    fn file(&mut self, place: &str, key: &str, data: Option<String>, path: Option<PathBuf>) -> Option<File> {
        if let Some(data) = data.filter(|data| !data.is_empty()) {
            // People wrap long lines.
            let data: String = data.split_ascii_whitespace().collect();
            return match BASE64.decode(data) {
                Ok(bytes) => {
                    let origin = format!("{}: {place}: {key}-data", self.path.display());
                    Some(File { origin, bytes })
                }
                Err(_) => self.fail(format!("{place}: {key}-data is not base64")),
            };
        }
        let path = self.beside(&path.filter(|path| !path.as_os_str().is_empty())?);
        match File::read(&path) {
            Ok(file) => Some(file),
            Err(problem) => self.fail(format!("{place}: {key}: {problem}")),
        }
    }

    /// Relative paths begin at the kubeconfig's folder.
    fn beside(&self, path: &Path) -> PathBuf {
        self.path.parent().map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }

    fn fail<T>(&mut self, problem: impl Into<String>) -> Option<T> {
        let problem = format!("{}: {}", self.path.display(), problem.into());
        self.errors.push(Error { key: KEY, problem });
        None
    }
}
