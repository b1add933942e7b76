//! Identities that an authenticating proxy in front has proven: request headers, believed only behind that proxy's own
//! client certificate (`k8s.io/apiserver pkg/authentication/request/headerrequest`).
//!
//! The proxy is trusted as kube-apiserver trusts it: any user and any group, `system:masters` included. Stricter than
//! kube-apiserver: bytes that are not UTF-8, values that a header upstream cannot carry unchanged and more than
//! 1,000 groups are errors.

use super::{
    Authenticated, Conn, Method,
    x509::{self, Authorities, Revocations},
};
use crate::identity::{self, User};
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use std::{collections::BTreeMap, path::PathBuf, time::SystemTime};
use x509_parser::prelude::X509Certificate;

/// More than anybody is a member of; bounds what one request can make upstream carry.
const MAX_GROUPS: usize = 1_000;

/// kube-apiserver's --requestheader-* flags.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Config {
    /// PEM bundle of the CAs that the proxy's certificate must lead to.
    pub client_ca_file: PathBuf,
    /// Common names; empty: every certificate of the CA.
    pub allowed_names: Vec<String>,
    /// X-Remote-User, if none is given.
    pub username_headers: Vec<HeaderName>,
    /// X-Remote-Uid.
    pub uid_headers: Vec<HeaderName>,
    /// X-Remote-Group.
    pub group_headers: Vec<HeaderName>,
    /// X-Remote-Extra-, in lower case.
    pub extra_header_prefixes: Vec<String>,
}

/// The authenticator.
#[derive(Debug)]
pub(super) struct FrontProxy {
    config: Config,
    authorities: Authorities,
}

impl FrontProxy {
    /// `bundle`: the certificates of the file that `config` names. The problems of each are said.
    pub(super) fn new(
        config: &Config,
        bundle: &[CertificateDer<'static>],
        revocations: Option<&Revocations>,
    ) -> Result<Self, Vec<String>> {
        Ok(Self { config: config.clone(), authorities: Authorities::new(bundle, revocations)? })
    }

    /// The CAs of the proxy's certificate.
    pub(super) fn authorities(&self) -> &Authorities {
        &self.authorities
    }

    /// Whether every certificate of the CAs may speak.
    pub(super) fn takes_any_name(&self) -> bool {
        self.config.allowed_names.is_empty()
    }

    /// Whom the proxy vouches for. None: there is no certificate, or no user name behind one that may speak.
    pub(super) fn authenticate(
        &self,
        conn: &Conn,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Option<Authenticated>, String> {
        self.vouched(conn, headers, now).map_err(|why| format!("front proxy: {why}"))
    }

    /// Whether the connection is that of a proxy which is believed.
    pub(super) fn may_speak(&self, conn: &Conn, now: SystemTime) -> bool {
        self.judge(conn, now).is_ok_and(|judged| judged.is_some())
    }

    /// When the proxy's certificate expires. None: there is no certificate.
    fn judge(&self, conn: &Conn, now: SystemTime) -> Result<Option<Option<SystemTime>>, String> {
        self.authorities.judge(&conn.certificates, &conn.judged_as_proxy, now, |leaf, expires| {
            self.is_allowed(leaf).map(|()| expires)
        })
    }

    fn vouched(
        &self,
        conn: &Conn,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Option<Authenticated>, String> {
        let Some(expires) = self.judge(conn, now)? else { return Ok(None) };
        let name = first(headers, &self.config.username_headers, "user name")?;
        if name.is_empty() {
            return Ok(None);
        }
        let uid = first(headers, &self.config.uid_headers, "uid")?;
        let mut groups = self.groups(headers)?;
        identity::add_authenticated(name, &mut groups);
        let user = User::new(name, uid, groups, self.extra(headers)?).map_err(|e| e.to_string())?;
        Ok(Some(Authenticated::new(user, Method::FrontProxy, expires)))
    }

    /// Whether a header carries such a claim, so that it goes no further. `_` counts as `-`, as for the names that everybody knows.
    pub(super) fn is_claim(&self, name: &HeaderName) -> bool {
        let Config { username_headers, uid_headers, group_headers, extra_header_prefixes, .. } = &self.config;
        let name = name.as_str();
        let mut names = username_headers.iter().chain(uid_headers).chain(group_headers);
        names.any(|claim| claim.as_str().len() == name.len() && folds_onto(name, claim.as_str()))
            || extra_header_prefixes.iter().any(|prefix| folds_onto(name, prefix))
    }

    fn is_allowed(&self, leaf: &X509Certificate<'_>) -> Result<(), String> {
        if self.takes_any_name() {
            return Ok(());
        }
        let name = x509::common_name(leaf)?.unwrap_or_default();
        if self.config.allowed_names.contains(&name) {
            return Ok(());
        }
        Err(format!("the common name {name:?} is not one of allowedNames"))
    }

    /// All values but the empty ones, as they are: a comma is part of a name.
    fn groups(&self, headers: &HeaderMap) -> Result<Vec<String>, String> {
        let names = self.config.group_headers.iter();
        let values = names.flat_map(|name| headers.get_all(name)).filter(|value| !value.is_empty());
        let groups: Vec<_> =
            values.map(|value| text(value, "group").map(str::to_owned)).collect::<Result<_, _>>()?;
        if groups.len() > MAX_GROUPS {
            return Err(format!("{} groups, at most {MAX_GROUPS} are accepted", groups.len()));
        }
        Ok(groups)
    }

    fn extra(&self, headers: &HeaderMap) -> Result<BTreeMap<String, Vec<String>>, String> {
        let mut extra = BTreeMap::<_, Vec<_>>::new();
        for prefix in &self.config.extra_header_prefixes {
            for (name, value) in headers {
                if let Some(key) = name.as_str().strip_prefix(prefix.as_str()) {
                    let value = text(value, "extra value")?.to_owned();
                    extra.entry(extra_key(key)?).or_default().push(value);
                }
            }
        }
        Ok(extra)
    }
}

/// The first of these headers whose first value is not empty; empty: none.
fn first<'a>(headers: &'a HeaderMap, names: &[HeaderName], what: &str) -> Result<&'a str, String> {
    let mut values = names.iter().filter_map(|name| headers.get(name));
    values.find(|value| !value.is_empty()).map_or(Ok(""), |value| text(value, what))
}

fn text<'a>(value: &'a HeaderValue, what: &str) -> Result<&'a str, String> {
    std::str::from_utf8(value.as_bytes()).map_err(|_| format!("the {what} is not UTF-8"))
}

/// The key as a path segment is decoded; with an escape that is none it stays as it is. `encoded` is in lower case already.
fn extra_key(encoded: &str) -> Result<String, String> {
    let mut key = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            key.push(byte);
            continue;
        }
        let mut digit =
            || bytes.next().and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        let (Some(high), Some(low)) = (digit(), digit()) else { return Ok(encoded.to_owned()) };
        key.push(high << 4 | low);
    }
    String::from_utf8(key).map_err(|_| "an extra key is not UTF-8".to_owned())
}

/// Whether `name` begins with `prefix`, `_` counting as `-`.
fn folds_onto(name: &str, prefix: &str) -> bool {
    let plain = |b: u8| if b == b'_' { b'-' } else { b };
    name.len() >= prefix.len() && name.bytes().zip(prefix.bytes()).all(|(n, p)| plain(n) == plain(p))
}

#[cfg(test)]
#[cfg(feature = "demo")]
mod tests;
