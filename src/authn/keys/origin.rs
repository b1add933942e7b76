//! How keys are fetched, once: by OpenID Connect discovery, or from the upstream.

use super::{KeySet, Source};
use crate::{
    client::{Answer, Bounds, Client, Error, Roots},
    cluster::Cluster,
    codec::json,
};
use bytes::Bytes;
use http::{StatusCode, Uri};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// Ready to be asked.
#[derive(Debug)]
pub(super) enum Origin {
    Discovery(Box<Discovery>),
    Upstream(Arc<Cluster>),
    Fixed,
    #[cfg(test)]
    Scripted(Arc<super::tests::Script>),
}

/// OpenID Connect Discovery 1.0.
#[derive(Debug)]
pub(super) struct Discovery {
    issuer: String,
    /// URL of the document.
    document: String,
    roots: Roots,
    client: Client,
}

/// What a fetch brings.
#[derive(Debug)]
pub(super) struct Fetched {
    /// At least one.
    pub(super) keys: KeySet,
    /// Why others cannot be used, a line each.
    pub(super) passed_over: Vec<String>,
}

/// Of a call; a fetch takes two at most.
const BOUNDS: Bounds = Bounds { timeout: Duration::from_secs(10), body: 1 << 20 };

const LIMITS: json::Limits = json::Limits { depth: 32, nodes: 20_000 };

const SHOWN: usize = 200;

impl Origin {
    pub(super) fn new(source: Source) -> Result<Self, String> {
        Ok(match source {
            Source::Discovery { issuer, url, roots } => {
                let client = Client::to_anywhere(&roots)?;
                let base = issuer.strip_suffix('/').unwrap_or(&issuer);
                let document = url.unwrap_or_else(|| format!("{base}/.well-known/openid-configuration"));
                Self::Discovery(Box::new(Discovery { issuer, document, roots, client }))
            }
            Source::Upstream(cluster) => Self::Upstream(cluster),
            Source::Fixed(_) => Self::Fixed,
        })
    }

    /// Whether the same keys are fetched in the same way.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Discovery(one), Self::Discovery(other)) => {
                (&one.issuer, &one.document, &one.roots) == (&other.issuer, &other.document, &other.roots)
            }
            (Self::Upstream(one), Self::Upstream(other)) => one.endpoint().is_like(other.endpoint()),
            _ => false,
        }
    }

    /// For the log.
    pub(super) fn issuer(&self) -> &str {
        match self {
            Self::Discovery(discovery) => &discovery.issuer,
            Self::Upstream(_) | Self::Fixed => "service accounts",
            #[cfg(test)]
            Self::Scripted(_) => "scripted",
        }
    }

    /// The error says at which step, and why.
    pub(super) async fn fetch(&self) -> Result<Fetched, String> {
        let text = match self {
            Self::Discovery(discovery) => {
                let place = discovery.place().await.map_err(|e| format!("discovery: {e}"))?;
                discovery.get(&place).await
            }
            Self::Upstream(cluster) => cluster.signing_keys(BOUNDS).await,
            Self::Fixed => Err("they stand in files".to_owned()),
            #[cfg(test)]
            Self::Scripted(script) => script.play().await,
        };
        text.and_then(|text| read(&text)).map_err(|e| format!("keys: {e}"))
    }
}

impl Discovery {
    /// Where the issuer says its keys are; that may be on another host.
    async fn place(&self) -> Result<String, String> {
        let url = &self.document;
        let document = json::value(&self.get(url).await?, LIMITS).map_err(|e| format!("{url}: {e}"))?;
        let member = |name: &str| {
            let text = document.get(name).and_then(Value::as_str);
            text.ok_or_else(|| format!("{url}: expected an object with the text {name:?}"))
        };
        let (own, expected) = (member("issuer")?, &self.issuer);
        // Section 4.3: exactly, a slash at the end included.
        if own != expected {
            return Err(format!("{url}: the document is of issuer {:?}, expected {expected:?}", shown(own)));
        }
        let place = member("jwks_uri")?;
        match place.parse::<Uri>() {
            Ok(uri) if uri.scheme_str() == Some("https") => Ok(place.to_owned()),
            _ => Err(format!("{url}: jwks_uri {:?} is no https URL", shown(place))),
        }
    }

    async fn get(&self, url: &str) -> Result<Bytes, String> {
        match self.client.get(url, BOUNDS).await {
            Ok(Answer { status: StatusCode::OK, body, .. }) => Ok(body),
            Ok(Answer { status, .. }) => {
                Err(format!("{}: status {}, expected 200", shown(url), status.as_u16()))
            }
            Err(Error::Failed(why)) => Err(why),
        }
    }
}

fn read(text: &[u8]) -> Result<Fetched, String> {
    let (keys, passed_over) = KeySet::from_jwks(text)?;
    if keys.len() == 0 {
        let why = passed_over.first().map_or_else(String::new, |why| format!(": {why}"));
        return Err(format!("the key set holds no key that can be used{why}"));
    }
    Ok(Fetched { keys, passed_over })
}

/// As much of a stranger's text as an error shows.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
