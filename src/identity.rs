//! Who: users, groups, extras; impersonation headers parsed and written. Reference: spec impersonation.

use std::{collections::BTreeMap, sync::Arc};
use http::{HeaderMap, HeaderName, HeaderValue};

/// An identity that can be carried upstream without change. Immutable; made once, shared by requests.
/// Holds, rendered once, what every request needs of it: its upstream impersonation headers and its JSON for the record.
#[derive(Debug)]
pub struct User {}
impl User {
    /// Refuses what a header cannot carry unchanged (control bytes, leading or trailing space or tab, an empty name).
    /// Groups are taken as final: adding `system:authenticated` is the caller's business (`with_authenticated`).
    pub fn new(_name: &str, _uid: &str, _groups: Vec<String>, _extra: BTreeMap<String, Vec<String>>) -> Result<Arc<Self>, BadIdentity> { todo!() }
    pub fn name(&self) -> &str { todo!() }
    pub fn uid(&self) -> &str { todo!() }
    pub fn groups(&self) -> &[String] { todo!() }
    pub fn extra(&self) -> &BTreeMap<String, Vec<String>> { todo!() }
    /// `system:masters` member.
    pub fn is_master(&self) -> bool { todo!() }
    /// Impersonate-User, -Uid, -Group..., -Extra-...: what is sent upstream for this user.
    pub fn upstream_headers(&self) -> &[(HeaderName, HeaderValue)] { todo!() }
    /// `{"username":…,"uid":…,"groups":[…],"extra":{…}}` as the audit event writes it (empty members omitted; Go HTML escapes).
    pub fn json(&self) -> &str { todo!() }
}

/// kube-apiserver's group adder: `system:authenticated` unless anonymous or already (un)authenticated.
pub fn add_authenticated(_name: &str, _groups: &mut Vec<String>) { todo!() }

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadIdentity { #[error("the user name is empty")] EmptyName, #[error("{what} {value:?} cannot be carried in a header without change")] NotAHeaderValue { what: &'static str, value: String } }

/// What a caller's `Impersonate-*` headers ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impersonation { pub user: String, pub uid: Option<String>, pub groups: Vec<String>, pub extra: BTreeMap<String, Vec<String>> }
impl Impersonation {
    /// None: nothing asked (empty Impersonate-User with no others). Err: kube's 400 text, or ours (two Impersonate-User lines; non-UTF-8; over the bound of values).
    pub fn parse(_headers: &HeaderMap) -> Result<Option<Self>, String> { todo!() }
}
