//! The section `authentication`: who is believed, and by what proof.

use super::reader::Section;
use crate::{
    authn::{
        Algorithm, Anonymous, Config, FrontProxyConfig, IssuerSettings, KeysConfig, ReviewBy, ReviewConfig,
        ReviewTokens, ServiceAccountConfig,
    },
    endpoint,
    headers::{self, Class},
};
use http::HeaderName;
use std::time::Duration;

/// kube-apiserver's --authentication-token-webhook-cache-ttl.
const CACHE_TTL: Duration = Duration::from_secs(120);

/// All of the section but `endTunnelsAtExpiry`. `upstream`: where the cluster's own keys and reviews come from.
pub(super) fn authentication(section: &Section<'_>, upstream: Option<endpoint::Config>) -> Config {
    let config = Config {
        client_ca_file: section.path("clientCAFile"),
        client_crl_file: section.path("clientCRLFile"),
        front_proxy: front_proxy(section),
        token_auth_file: section.path("tokenAuthFile"),
        service_account: service_account(section),
        authentication_config_file: section.path("authenticationConfigFile"),
        issuers: issuers(section),
        keys: keys(section),
        review: review(section),
        anonymous: anonymous(section),
        upstream,
    };
    let files = [&config.client_ca_file, &config.token_auth_file, &config.authentication_config_file];
    let anybody = files.into_iter().any(Option::is_some)
        || ["requestheader", "serviceAccount", "tokenReview"].into_iter().any(|key| section.has(key));
    if !anybody {
        section.wrong(
            "",
            "nobody could authenticate, expected one of clientCAFile, requestheader, tokenAuthFile, serviceAccount, \
             authenticationConfigFile and tokenReview",
        );
    }
    if section.has("clientCRLFile") && !section.has("clientCAFile") && !section.has("requestheader") {
        section.wrong("clientCRLFile", "only goes with clientCAFile or requestheader");
    }
    if section.has("issuers") && !section.has("authenticationConfigFile") {
        section.wrong("issuers", "only goes with authenticationConfigFile");
    }
    config
}

fn front_proxy(section: &Section<'_>) -> Option<FrontProxyConfig> {
    let proxy = section.optional("requestheader")?;
    let given = |key, read: fn(&str) -> Result<HeaderName, String>, default: &'static str| {
        proxy.each(key, read).unwrap_or_else(|| vec![HeaderName::from_static(default)])
    };
    let names = |key, default| given(key, header_name, default);
    let client_ca_file = proxy.required("clientCAFile", proxy.path("clientCAFile"));
    let allowed_names = proxy.texts("allowedNames").unwrap_or_default();
    let username_headers = names("usernameHeaders", "x-remote-user");
    let uid_headers = names("uidHeaders", "x-remote-uid");
    let group_headers = names("groupHeaders", "x-remote-group");
    let prefixes = given("extraHeadersPrefix", header_prefix, "x-remote-extra-");
    if proxy.is_empty_list("usernameHeaders") {
        proxy.wrong("usernameHeaders", "expected at least one");
    }
    proxy.done();
    Some(FrontProxyConfig {
        client_ca_file: client_ca_file?,
        allowed_names,
        username_headers,
        uid_headers,
        group_headers,
        extra_header_prefixes: prefixes.iter().map(|prefix| prefix.as_str().to_owned()).collect(),
    })
}

/// A name that may carry an identity; in lower case.
fn header_name(text: &str) -> Result<HeaderName, String> {
    let name: HeaderName = text.parse().map_err(|_| format!("{text:?} is not a header name"))?;
    let taken = match headers::class(&name) {
        Class::HopByHop => true,
        Class::Identity => !name.as_str().starts_with('x'),
        Class::EndToEnd | Class::Ours => false,
    };
    if taken { Err(format!("{text:?} means something else")) } else { Ok(name) }
}

/// What names begin with that may carry an identity. A credential must not become one.
fn header_prefix(text: &str) -> Result<HeaderName, String> {
    const CREDENTIALS: [&str; 5] =
        ["authorization", "cookie", "impersonate-", "proxy-authorization", "sec-websocket-protocol"];
    let prefix = header_name(text)?;
    match CREDENTIALS.into_iter().find(|name| name.starts_with(prefix.as_str())) {
        Some(name) => Err(format!("{text:?} is how {name:?} begins, too")),
        None => Ok(prefix),
    }
}

fn service_account(section: &Section<'_>) -> Option<ServiceAccountConfig> {
    let accounts = section.optional("serviceAccount")?;
    let issuers = accounts.required("issuers", accounts.texts("issuers"));
    if accounts.is_empty_list("issuers") {
        accounts.wrong("issuers", "expected at least one");
    }
    let which =
        [("never", ReviewTokens::Never), ("bound", ReviewTokens::Bound), ("always", ReviewTokens::Always)];
    let config = ServiceAccountConfig {
        issuers: issuers.unwrap_or_default(),
        key_files: accounts.paths("keyFiles"),
        audiences: accounts.texts("audiences").unwrap_or_default(),
        review: accounts.word("review", &which, ReviewTokens::Never),
    };
    accounts.done();
    Some(config)
}

fn issuers(section: &Section<'_>) -> Vec<IssuerSettings> {
    let mut issuers: Vec<IssuerSettings> = Vec::new();
    for issuer in section.sections("issuers") {
        let url = issuer.required("url", issuer.text("url")).unwrap_or_default();
        if issuers.iter().any(|before| before.url == url && !url.is_empty()) {
            issuer.wrong("url", "stands here twice");
        }
        issuers.push(IssuerSettings {
            url,
            signing_algs: issuer.each("signingAlgs", algorithm).unwrap_or_default(),
            allow_system_identities: issuer.flag("allowSystemIdentities", false),
        });
        issuer.done();
    }
    issuers
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    let known = || Algorithm::ALL.map(Algorithm::as_str).join(", ");
    Algorithm::parse(text).ok_or_else(|| format!("{text:?} is none of {}", known()))
}

fn keys(section: &Section<'_>) -> KeysConfig {
    let (keys, default) = (section.section("keys"), KeysConfig::default());
    let config = KeysConfig {
        refresh_interval: keys.duration("refreshInterval", default.refresh_interval),
        max_age: keys.duration("maxAge", default.max_age),
    };
    if config.max_age < config.refresh_interval {
        keys.wrong("maxAge", "expected at least refreshInterval, or there would be no keys in between");
    }
    keys.done();
    config
}

fn review(section: &Section<'_>) -> Option<ReviewConfig> {
    let review = section.optional("tokenReview")?;
    let (kubeconfig, context) = (review.path("kubeconfig"), review.text("context"));
    let upstream = review.optional("upstream").map(Section::done).is_some();
    let audiences = review.texts("audiences").unwrap_or_default();
    let cache_ttl = review.duration("cacheTTL", CACHE_TTL);
    let allow_system_identities = review.flag("allowSystemIdentities", false);
    let to = match (upstream, kubeconfig) {
        (false, Some(kubeconfig)) => Some(ReviewBy::Webhook { kubeconfig, context }),
        (true, None) => {
            for key in ["context", "allowSystemIdentities"].into_iter().filter(|key| review.has(key)) {
                review.wrong(key, "only goes with kubeconfig");
            }
            Some(ReviewBy::Upstream)
        }
        // What is wrong with the kubeconfig has been said.
        (false, None) if review.has("kubeconfig") => None,
        _ => {
            review.wrong("", "expected exactly one of upstream and kubeconfig");
            None
        }
    };
    review.done();
    Some(ReviewConfig {
        to: to?,
        audiences,
        cache_ttl,
        // The upstream is the cluster: its own names are its own.
        allow_system_identities: allow_system_identities || upstream,
    })
}

fn anonymous(section: &Section<'_>) -> Option<Anonymous> {
    let anonymous = section.optional("anonymous")?;
    let enabled = anonymous.flag("enabled", false);
    let mut paths = Vec::new();
    for condition in anonymous.sections("conditions") {
        let path = condition.required("path", condition.text("path"));
        if path.as_ref().is_some_and(|path| !path.starts_with('/')) {
            condition.wrong("path", "expected a path that begins with /");
        }
        paths.extend(path);
        condition.done();
    }
    if !enabled && anonymous.has("conditions") {
        anonymous.wrong("conditions", "only goes with enabled: true");
    }
    anonymous.done();
    Some(Anonymous { enabled, paths })
}
