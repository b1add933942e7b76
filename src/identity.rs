//! Who: users, groups, extras; impersonation headers parsed and written.

use crate::{
    headers::{IMPERSONATE_EXTRA_PREFIX, IMPERSONATE_GROUP, IMPERSONATE_UID, IMPERSONATE_USER},
    request::names,
    status::push_json_str,
};
use http::{HeaderName, HeaderValue};
use std::{collections::BTreeMap, sync::Arc};

mod impersonation;
#[cfg(test)]
mod tests;

pub use impersonation::Impersonation;

/// The user of a request without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// Every user that authenticated is a member.
pub const ALL_AUTHENTICATED: &str = "system:authenticated";
/// Every user that did not.
pub const ALL_UNAUTHENTICATED: &str = "system:unauthenticated";
/// Members may do everything.
pub const MASTERS: &str = "system:masters";
/// Extra keys below this are the gate's own; nobody else may claim one.
pub const RESERVED_EXTRA_PREFIX: &str = "gatelog.dev/";

/// An identity that can be carried upstream without change. Immutable; made once, shared by requests.
/// Holds, rendered once, what every request needs of it: its upstream impersonation headers and its JSON for the record.
#[derive(Debug, PartialEq, Eq)]
pub struct User {
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
    headers: Vec<(HeaderName, HeaderValue)>,
    json: String,
}

/// An identity that a header cannot carry unchanged, or that nobody may claim.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadIdentity {
    /// An empty name upstream means: not impersonating, so the gate's own account.
    #[error("the user name is empty")]
    EmptyName,
    /// HTTP trims blanks and refuses control bytes: somebody else would arrive.
    #[error("{what} {value:?} cannot be carried in a header without change")]
    NotAHeaderValue {
        /// `user name`, `uid`, `group` or `extra value`.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// Longer than a header name may be.
    #[error("extra key {key:?} cannot be carried in a header name")]
    NotAHeaderName {
        /// The key.
        key: String,
    },
    /// The prefix `gatelog.dev/` is the gate's own.
    #[error("extra key {key:?} is reserved")]
    ReservedExtra {
        /// The key.
        key: String,
    },
}

impl User {
    /// Refuses what a header cannot carry unchanged (control bytes, leading or trailing space or tab, an empty name).
    /// An empty uid is no uid, an extra key without values no key. Groups are taken as final: adding `system:authenticated` is the
    /// caller's business ([`add_authenticated`]), and upstream would add it where neither it nor `system:unauthenticated` is there.
    ///
    /// # Errors
    /// See [`BadIdentity`].
    pub fn new(
        name: &str,
        uid: &str,
        groups: Vec<String>,
        mut extra: BTreeMap<String, Vec<String>>,
    ) -> Result<Arc<Self>, BadIdentity> {
        if name.is_empty() {
            return Err(BadIdentity::EmptyName);
        }
        extra.retain(|_, values| !values.is_empty());
        let count = 2 + groups.len() + extra.values().map(Vec::len).sum::<usize>();
        let mut headers = Vec::with_capacity(count);
        headers.push((IMPERSONATE_USER, header_value("user name", name)?));
        if !uid.is_empty() {
            headers.push((IMPERSONATE_UID, header_value("uid", uid)?));
        }
        for group in &groups {
            headers.push((IMPERSONATE_GROUP, header_value("group", group)?));
        }
        for (key, values) in &extra {
            let name = extra_header(key)?;
            for value in values {
                headers.push((name.clone(), header_value("extra value", value)?));
            }
        }
        let json = render_json(name, uid, &groups, &extra);
        Ok(Arc::new(Self { name: name.to_owned(), uid: uid.to_owned(), groups, extra, headers, json }))
    }

    /// Never empty.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Empty: none.
    pub fn uid(&self) -> &str {
        &self.uid
    }
    /// In the order they were given.
    pub fn groups(&self) -> &[String] {
        &self.groups
    }
    /// Every key has a value.
    pub fn extra(&self) -> &BTreeMap<String, Vec<String>> {
        &self.extra
    }
    /// `system:masters` member.
    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|g| g == MASTERS)
    }
    /// Impersonate-User, -Uid, -Group..., -Extra-...: what is sent upstream for this user.
    pub fn upstream_headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }
    /// `{"username":…,"uid":…,"groups":[…],"extra":{…}}` as the audit event writes it (empty members omitted; Go HTML escapes).
    pub fn json(&self) -> &str {
        &self.json
    }
}

/// kube-apiserver's group adder: `system:authenticated` unless anonymous or already (un)authenticated.
pub fn add_authenticated(name: &str, groups: &mut Vec<String>) {
    if name != ANONYMOUS && !groups.iter().any(|g| g == ALL_AUTHENTICATED || g == ALL_UNAUTHENTICATED) {
        groups.push(ALL_AUTHENTICATED.to_owned());
    }
}

/// The namespace and name in `system:serviceaccount:<namespace>:<name>`; None for every other user name.
pub fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (names::is_dns_label(namespace) && names::is_dns_subdomain(name)).then_some((namespace, name))
}

/// A header value that arrives as it was sent, whatever the protocol version.
fn header_value(what: &'static str, value: &str) -> Result<HeaderValue, BadIdentity> {
    let refused = || BadIdentity::NotAHeaderValue { what, value: value.to_owned() };
    if !carried_unchanged(value) {
        return Err(refused());
    }
    HeaderValue::from_bytes(value.as_bytes()).map_err(|_| refused())
}

/// Neither control bytes nor blanks at the ends.
fn carried_unchanged(value: &str) -> bool {
    !value.starts_with(' ') && !value.ends_with(' ') && !value.bytes().any(|b| b.is_ascii_control())
}

/// `Impersonate-Extra-<key>`: the receiver lower-cases the name and then decodes it, so upper case is escaped, too.
fn extra_header(key: &str) -> Result<HeaderName, BadIdentity> {
    if is_reserved(key) {
        return Err(BadIdentity::ReservedExtra { key: key.to_owned() });
    }
    let mut name = String::with_capacity(IMPERSONATE_EXTRA_PREFIX.len() + key.len() + 8);
    name.push_str(IMPERSONATE_EXTRA_PREFIX);
    for b in key.bytes() {
        match b {
            b'a'..=b'z' | b'0'..=b'9' => name.push(char::from(b)),
            b'!' | b'#' | b'$' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|'
            | b'~' => {
                name.push(char::from(b));
            }
            _ => name.push_str(&format!("%{b:02x}")),
        }
    }
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| BadIdentity::NotAHeaderName { key: key.to_owned() })
}

fn is_reserved(key: &str) -> bool {
    key.get(..RESERVED_EXTRA_PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(RESERVED_EXTRA_PREFIX))
}

fn render_json(name: &str, uid: &str, groups: &[String], extra: &BTreeMap<String, Vec<String>>) -> String {
    let mut out = Vec::with_capacity(64 + name.len() + groups.iter().map(|g| g.len() + 3).sum::<usize>());
    out.extend_from_slice(br#"{"username":"#);
    push_json_str(&mut out, name);
    if !uid.is_empty() {
        out.extend_from_slice(br#","uid":"#);
        push_json_str(&mut out, uid);
    }
    if !groups.is_empty() {
        out.extend_from_slice(br#","groups":"#);
        push_json_list(&mut out, groups);
    }
    for (i, (key, values)) in extra.iter().enumerate() {
        out.extend_from_slice(if i == 0 { br#","extra":{"#.as_slice() } else { b"," });
        push_json_str(&mut out, key);
        out.push(b':');
        push_json_list(&mut out, values);
    }
    if !extra.is_empty() {
        out.push(b'}');
    }
    out.push(b'}');
    String::from_utf8_lossy(&out).into_owned()
}

fn push_json_list(out: &mut Vec<u8>, values: &[String]) {
    for (i, value) in values.iter().enumerate() {
        out.push(if i == 0 { b'[' } else { b',' });
        push_json_str(out, value);
    }
    out.push(b']');
}
