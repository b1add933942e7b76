//! May they: the only maker of [`Permit`].

use crate::{authn::Authenticated, identity::User, request::{Asked, Attributes}};
use http::HeaderMap;
use std::sync::Arc;

/// The caller, after impersonation has been authorized.
#[derive(Debug, Clone)]
pub struct Who { effective: Arc<User>, proven: Authenticated, impersonated: bool }
impl Who {
    /// The identity that is authorized and sent upstream.
    pub fn effective(&self) -> &Arc<User> { &self.effective }
    /// The identity that authenticated.
    pub fn proven(&self) -> &Authenticated { &self.proven }
    pub fn impersonated(&self) -> Option<&Arc<User>> { self.impersonated.then_some(&self.effective) }
}

/// Leave to forward exactly one request; owns what will be sent.
#[derive(Debug)]
pub struct Permit { who: Who, asked: Asked, reason: Arc<str> }
impl Permit {
    pub fn who(&self) -> &Who { &self.who }
    pub fn asked(&self) -> &Asked { &self.asked }
    /// `RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "r" to User "u"`.
    pub fn reason(&self) -> &str { &self.reason }
}

/// The rules of one snapshot.
#[derive(Debug)]
pub struct Authz {}
impl Authz {
    /// Consumes the caller's Impersonate-* headers; each authorized as the proven user (spec impersonation 2).
    pub fn impersonate(&self, _proven: Authenticated, _headers: &mut HeaderMap, _asked: &Asked) -> Result<Who, Refused> { todo!() }
    /// Decides. `upgrade`: the request asks to switch protocols (exec, attach, portforward, nodes/proxy then need `create` as well).
    pub fn authorize(&self, _who: Who, _asked: Asked, _upgrade: bool) -> Result<Permit, Refused> { todo!() }
    /// The bare question, for streams re-decided later and for tests.
    pub fn allows(&self, _user: &User, _asked: Attributes<'_>) -> Result<Arc<str>, String> { todo!() }
}

/// 403 (or 400 for impersonation without a user).
#[derive(Debug, Clone)]
pub struct Refused {
    /// What the caller is told.
    pub status: crate::status::Status,
    /// `authorization.k8s.io/reason`; None when the impersonation step refused (kube writes no annotation then).
    pub reason: Option<String>,
    /// Set when impersonation was refused: which header's check failed (`gatelog.dev/impersonation-refused`).
    pub impersonation: Option<String>,
    /// The effective user if impersonation had succeeded (audit `impersonatedUser`).
    pub impersonated: Option<Arc<User>>,
}
