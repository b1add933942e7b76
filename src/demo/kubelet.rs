//! The demo's kubelet: what answers at a pod's `exec`, `attach`, `portforward` and `log`.
//!
//! There are no containers. Commands run in a small built-in shell ([`super::shell`]), logs are made up, and two ports
//! answer. The protocols around them are the real ones: SPDY/3.1 as kubectl spoke it up to 1.30 and still falls back to,
//! and the WebSocket subprotocols since.

use super::answer::{Answer, Failure};
use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use serde_json::Value;

/// Which subresource of a pod is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sub {
    /// Run a command.
    Exec,
    /// See and feed what the container's own process says and reads.
    Attach,
    /// Connect to ports.
    PortForward,
    /// Read what the container has printed.
    Log,
}

/// What the kubelet remembers of the pods it was asked about: their files, their logs. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Kubelet {}

impl Kubelet {
    /// Answers one request for a subresource of `pod`, a `v1` Pod as the API server stores it. `upgrade` is what
    /// `hyper::upgrade::on` returned for the request. Does not wait: sessions go on in tasks of their own.
    pub fn serve(
        &self,
        _parts: &Parts,
        _upgrade: Option<OnUpgrade>,
        _pod: &Value,
        _sub: Sub,
    ) -> Result<Answer, Failure> {
        Err(Failure::new(501, "NotImplemented", "the demo's kubelet does not do this"))
    }

    /// The pod with this `metadata.uid` is gone: everything that streams from it ends.
    pub fn removed(&self, _uid: &str) {}
}
