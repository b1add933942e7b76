//! One HTTPS client for the gate's own calls: issuers of tokens, webhooks, and the upstream's reviews and keys. Callers'
//! requests never go through it.
//!
//! Answers are read whole and bounded, redirects are not followed, no proxy is used.

use crate::endpoint::Endpoint;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use rustls::pki_types::CertificateDer;
use std::{sync::Arc, time::Duration};

/// Whose certificates are believed.
#[derive(Debug, Clone)]
pub enum Roots {
    /// Those of the system.
    System,
    /// These and no others.
    Only(Vec<CertificateDer<'static>>),
}

/// A client with its connections.
#[derive(Debug)]
pub struct Client {}

/// What came back, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: StatusCode,
    /// Header.
    pub headers: HeaderMap,
    /// Whole body.
    pub body: Bytes,
}

/// No answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// For the log; names the host and never the credential.
    #[error("{0}")]
    Failed(String),
}

/// What bounds a call.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// From connecting to the last byte.
    pub timeout: Duration,
    /// Bytes of the answer's body.
    pub body: usize,
}

impl Client {
    /// For absolute `https` URLs; nothing is presented.
    ///
    /// # Errors
    /// A certificate that is none, or a system without any.
    pub fn to_anywhere(roots: &Roots) -> Result<Self, String> {
        let _ = roots;
        todo!()
    }

    /// For paths on one server that a kubeconfig describes; its credentials go with every call.
    pub fn to(endpoint: Arc<Endpoint>) -> Self {
        let _ = endpoint;
        todo!()
    }

    /// GET of JSON. `target` is an absolute URL, or a path and query on the endpoint.
    pub async fn get(&self, target: &str, bounds: Bounds) -> Result<Answer, Error> {
        let _ = (target, bounds);
        todo!()
    }

    /// POST of JSON, asking for JSON.
    pub async fn post(&self, target: &str, body: Bytes, bounds: Bounds) -> Result<Answer, Error> {
        let _ = (target, body, bounds);
        todo!()
    }
}
