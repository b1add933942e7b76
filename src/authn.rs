//! Who is calling: the union of authenticators, kube-apiserver's outcome algebra, and the proof it hands on.

use crate::{identity::User, request::Asked};
use http::HeaderMap;
use std::{net::SocketAddr, sync::Arc, time::SystemTime};

/// What the gate knows of a connection: its peer and the client certificates whose possession the handshake proved.
#[derive(Debug)]
pub struct Conn {
    pub peer: SocketAddr,
    /// As presented, leaf first; empty without a client certificate. Nothing about the chain has been judged.
    pub certificates: Vec<rustls::pki_types::CertificateDer<'static>>,
    // private: the judgement of the chain, cached per (authn generation), with its notAfter
}

/// Proof that authentication succeeded; only this module makes one.
#[derive(Debug, Clone)]
pub struct Authenticated { user: Arc<User>, method: &'static str, expires: Option<SystemTime> }
impl Authenticated {
    pub fn user(&self) -> &Arc<User> { &self.user }
    /// `x509`, `token-file`, `anonymous`, ...
    pub fn method(&self) -> &'static str { self.method }
    /// When the credential stops proving anything.
    pub fn expires(&self) -> Option<SystemTime> { self.expires }
}

/// The authenticators of one snapshot.
#[derive(Debug)]
pub struct Authn {}
impl Authn {
    /// On success every credential and identity header is gone from `headers` (Impersonate-* stays for `authz::impersonate`).
    pub async fn authenticate(&self, _conn: &Conn, _headers: &mut HeaderMap, _asked: &Asked) -> Result<Authenticated, Unauthenticated> { todo!() }
}

/// 401. `attempted` is the text of the audit event; `why` is for the log, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{attempted}")]
pub struct Unauthenticated { pub attempted: String, pub why: String, /** response warnings (two spaces before the token) */ pub warning: Option<&'static str> }

impl Conn {
    /// What the handshake showed.
    pub fn new(peer: SocketAddr, certificates: Vec<rustls::pki_types::CertificateDer<'static>>) -> Self { Self { peer, certificates } }
}
