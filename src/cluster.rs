//! The gate's own calls to an API server: a closed list, by the gate's own account. Nothing of a caller's request goes
//! this way but the token that is to be reviewed.

mod account;
pub mod discovery;
pub mod rules;
mod signing_keys;
mod token_review;

pub use account::{Findings, Needs, Rights};
pub use token_review::{Claimed, Reviewed};

use crate::{client::Client, endpoint::Endpoint};
use std::sync::Arc;

/// An API server (or a webhook that answers like one) and the gate's account there.
#[derive(Debug)]
pub struct Cluster {
    client: Client,
    endpoint: Arc<Endpoint>,
    /// Where TokenReviews go.
    reviews: String,
}

impl Cluster {
    /// An API server at `endpoint`.
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        Self::with(endpoint, token_review::PATH.to_owned())
    }

    /// A webhook: its URL itself is where TokenReviews go.
    pub fn webhook(endpoint: Arc<Endpoint>) -> Self {
        let reviews = endpoint.path().to_owned();
        Self::with(endpoint, reviews)
    }

    fn with(endpoint: Arc<Endpoint>, reviews: String) -> Self {
        Self { client: Client::to(endpoint.clone()), endpoint, reviews }
    }

    /// Whether the calls of both go to the same place by the same account; what their token files hold may differ.
    pub fn is_like(&self, other: &Self) -> bool {
        self.reviews == other.reviews && self.endpoint.is_like(&other.endpoint)
    }

    /// Where the calls go, with the credential that is read again while the gate runs.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

/// From 0 to 1, so that not all gates ask again at once.
pub(crate) fn chance() -> f64 {
    let mut byte = [0];
    // Without chance the pauses are regular, which does no harm.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}
