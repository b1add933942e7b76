//! The keys that the API server signs tokens of service accounts with.

use super::Cluster;
use crate::client::{Bounds, Error};
use bytes::Bytes;
use http::StatusCode;

const PATH: &str = "/openid/v1/jwks";

impl Cluster {
    /// The JSON Web Key Set as it came.
    ///
    /// # Errors
    /// No answer, or one other than 200; for the log.
    pub async fn signing_keys(&self, bounds: Bounds) -> Result<Bytes, String> {
        // Whoever else keeps the token fresh may have let go of this endpoint; the old token may do as well.
        if let Err(problem) = self.endpoint.refresh() {
            tracing::debug!("the token for the upstream cannot be read again: {problem}");
        }
        let Error::Failed(why) = match self.client.get(PATH, bounds).await {
            Ok(answer) if answer.status == StatusCode::OK => return Ok(answer.body),
            Ok(answer) => Error::Failed(format!(
                "{}{PATH}: status {}{}",
                self.endpoint.authority(),
                answer.status.as_u16(),
                hint(answer.status)
            )),
            Err(failed) => failed,
        };
        Err(why)
    }
}

/// What an operator can do about it.
fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::FORBIDDEN => {
            ", the gate's account needs the ClusterRole system:service-account-issuer-discovery"
        }
        StatusCode::UNAUTHORIZED => ", the gate's account is not known there",
        _ => ", expected 200",
    }
}
