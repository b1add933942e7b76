//! How keys are fetched, once: by OpenID Connect discovery, or from the upstream.

use super::{KeySet, Source};
use crate::{
    client::{Answer, Bounds, Client, Error, Roots},
    cluster::Cluster,
    codec::json,
};
use http::{StatusCode, Uri};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// Ready to be asked.
#[derive(Debug)]
pub(super) enum Origin {
    Discovery {
        issuer: String,
        document: String,
        roots: Roots,
        client: Client,
    },
    Upstream(Arc<Cluster>),
    Fixed,
    #[cfg(test)]
    Scripted(Arc<super::tests::Script>),
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

/// Characters of a stranger's text that an error shows.
const SHOWN: usize = 200;

impl Origin {
    pub(super) fn new(source: Source) -> Result<Self, String> {
        Ok(match source {
            Source::Discovery { issuer, url, roots } => {
                let client = Client::to_anywhere(&roots)?;
                let below = || format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
                let document = url.unwrap_or_else(below);
                Self::Discovery { issuer, document, roots, client }
            }
            Source::Upstream(cluster) => Self::Upstream(cluster),
            Source::Fixed(_) => Self::Fixed,
        })
    }

    /// Whether the same keys are fetched in the same way.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Discovery { issuer, document, roots, .. },
                Self::Discovery { issuer: i, document: d, roots: r, .. },
            ) => (issuer, document, roots) == (i, d, r),
            (Self::Upstream(one), Self::Upstream(other)) => one.endpoint().is_like(other.endpoint()),
            _ => false,
        }
    }

    /// For the log.
    pub(super) fn issuer(&self) -> &str {
        match self {
            Self::Discovery { issuer, .. } => issuer,
            Self::Upstream(_) | Self::Fixed => "service accounts",
            #[cfg(test)]
            Self::Scripted(_) => "scripted",
        }
    }

    /// The error says at which step, and why.
    pub(super) async fn fetch(&self) -> Result<Fetched, String> {
        let text = match self {
            Self::Discovery { issuer, document, client, .. } => {
                let place =
                    discover(client, issuer, document).await.map_err(|e| format!("discovery: {e}"))?;
                get(client, &place).await
            }
            Self::Upstream(cluster) => cluster.signing_keys(BOUNDS).await,
            Self::Fixed => Err("they stand in files".to_owned()),
            #[cfg(test)]
            Self::Scripted(script) => script.play().await,
        };
        text.and_then(|text| read(&text)).map_err(|e| format!("keys: {e}"))
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

/// Where the issuer says its keys are.
async fn discover(client: &Client, issuer: &str, url: &str) -> Result<String, String> {
    let text = get(client, url).await?;
    let document = json::value(&text, LIMITS).map_err(|e| format!("{url}: {e}"))?;
    let member = |name: &str| {
        let text = document.get(name).and_then(Value::as_str);
        text.ok_or_else(|| format!("{url}: expected an object with the text {name:?}"))
    };
    let shown = |text: &str| text.chars().take(SHOWN).collect::<String>();
    let own = member("issuer")?;
    if own != issuer {
        // OpenID Connect Discovery 1.0 section 4.3: exactly.
        return Err(format!("{url}: the document is of issuer {:?}, expected {issuer:?}", shown(own)));
    }
    let place = member("jwks_uri")?;
    match place.parse::<Uri>() {
        Ok(uri) if uri.scheme_str() == Some("https") => Ok(place.to_owned()),
        _ => Err(format!("{url}: jwks_uri {:?} is no https URL", shown(place))),
    }
}

async fn get(client: &Client, url: &str) -> Result<bytes::Bytes, String> {
    match client.get(url, BOUNDS).await {
        Ok(Answer { status: StatusCode::OK, body, .. }) => Ok(body),
        Ok(Answer { status, .. }) => {
            let url: String = url.chars().take(SHOWN).collect();
            Err(format!("{url}: status {}, expected 200", status.as_u16()))
        }
        Err(Error::Failed(why)) => Err(why),
    }
}
