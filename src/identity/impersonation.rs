//! `Impersonate-*`: what a caller asks to be, which checks that takes, and who results.

use super::{
    ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, ANONYMOUS, BadIdentity, User, carried_unchanged, is_reserved,
    service_account,
};
use crate::{
    headers::{self, Class, IMPERSONATE_EXTRA_PREFIX, IMPERSONATE_GROUP, IMPERSONATE_UID, IMPERSONATE_USER},
    request::{Attributes, Object, query::hex},
    status::push_go_quoted,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::{collections::BTreeMap, sync::Arc};

/// Each value costs an authorization, so that there must be an end to them.
const MAX_VALUES: usize = 1_000;

/// What a caller's `Impersonate-*` headers ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impersonation {
    /// Never empty.
    pub user: String,
    /// Never empty.
    pub uid: Option<String>,
    /// As given, duplicates and empty ones too.
    pub groups: Vec<String>,
    /// As given; empty values, and an empty key, are possible.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Impersonation {
    /// None: nothing asked (empty Impersonate-User with no others).
    ///
    /// # Errors
    /// The text of a 400: kube-apiserver's for groups, uid or extras without a user; ours for two users or uids, an unknown
    /// `Impersonate-…` header, a value that is not UTF-8 or could not be carried on unchanged, a reserved extra key, or more than
    /// 1,000 values.
    pub fn parse(headers: &HeaderMap) -> Result<Option<Self>, String> {
        let mut asked = Self { user: String::new(), uid: None, groups: Vec::new(), extra: BTreeMap::new() };
        let (mut users, mut uids, mut values) = (0, 0, 0);
        for (name, value) in headers {
            if !claims(name) {
                continue;
            }
            let text = value_text(name, value)?;
            values += 1;
            if values > MAX_VALUES {
                return Err(format!("more than {MAX_VALUES} impersonation headers"));
            }
            if *name == IMPERSONATE_USER {
                users += 1;
                text.clone_into(&mut asked.user);
            } else if *name == IMPERSONATE_UID {
                uids += 1;
                asked.uid = (!text.is_empty()).then(|| text.to_owned());
            } else if *name == IMPERSONATE_GROUP {
                asked.groups.push(text.to_owned());
            } else if let Some(key) = name.as_str().strip_prefix(IMPERSONATE_EXTRA_PREFIX) {
                let key = extra_key(key).ok_or_else(|| {
                    format!("the name of the header {name} is not UTF-8: expected a UTF-8 key")
                })?;
                if is_reserved(&key) {
                    return Err(format!("the header {name} names a reserved extra key"));
                }
                asked.extra.entry(key).or_default().push(text.to_owned());
            } else {
                return Err(format!(
                    "the header {name} is unknown: expected Impersonate-User, -Uid, -Group or -Extra-<key>"
                ));
            }
        }
        for (name, lines) in [("Impersonate-User", users), ("Impersonate-Uid", uids)] {
            if lines > 1 {
                return Err(format!("{lines} {name} headers: expected at most one"));
            }
        }
        if !asked.user.is_empty() {
            return Ok(Some(asked));
        }
        if asked.uid.is_none() && asked.groups.is_empty() && asked.extra.is_empty() {
            return Ok(None);
        }
        Err(format!("requested {} without impersonating a user name", asked.as_go()))
    }

    /// The questions that must all be allowed, as the caller's: user, groups, extras, uid.
    pub fn checks(&self) -> impl Iterator<Item = Attributes<'_>> {
        let user = match service_account(&self.user) {
            Some((namespace, name)) => question(CORE, "serviceaccounts", "", namespace, name),
            None => question(CORE, "users", "", "", &self.user),
        };
        let groups = self.groups.iter().map(|group| question(CORE, "groups", "", "", group));
        let extras = self.extra.iter().flat_map(|(key, values)| {
            values.iter().map(|value| question(AUTHENTICATION, "userextras", key, "", value))
        });
        let uid = self.uid.iter().map(|uid| question(AUTHENTICATION, "uids", "", "", uid));
        std::iter::once(user).chain(groups).chain(extras).chain(uid)
    }

    /// Who results: given groups suppress a service account's own, and everybody is either authenticated or not.
    ///
    /// # Errors
    /// What [`User::new`] refuses; [`Impersonation::parse`] has let none of that through.
    pub fn effective(&self) -> Result<Arc<User>, BadIdentity> {
        let mut groups = self.groups.clone();
        if groups.is_empty()
            && let Some((namespace, _)) = service_account(&self.user)
        {
            groups.push("system:serviceaccounts".to_owned());
            groups.push(format!("system:serviceaccounts:{namespace}"));
        }
        let has = |wanted: &str| groups.iter().any(|g| g == wanted);
        if self.user == ANONYMOUS {
            if !has(ALL_UNAUTHENTICATED) {
                groups.push(ALL_UNAUTHENTICATED.to_owned());
            }
        } else if !has(ALL_AUTHENTICATED) && !has(ALL_UNAUTHENTICATED) {
            groups.push(ALL_AUTHENTICATED.to_owned());
        }
        User::new(&self.user, self.uid.as_deref().unwrap_or_default(), groups, self.extra.clone())
    }

    /// Go's `%#v` of the user that was asked for.
    fn as_go(&self) -> String {
        let mut out = String::from("&user.DefaultInfo{Name:");
        push_go_quoted(&mut out, &self.user);
        out.push_str(", UID:");
        push_go_quoted(&mut out, self.uid.as_deref().unwrap_or_default());
        out.push_str(", Groups:");
        push_go_list(&mut out, &self.groups);
        out.push_str(", Extra:map[string][]string");
        if self.extra.is_empty() {
            out.push_str("(nil)");
        } else {
            for (i, (key, values)) in self.extra.iter().enumerate() {
                out.push_str(if i == 0 { "{" } else { ", " });
                push_go_quoted(&mut out, key);
                out.push(':');
                push_go_list(&mut out, values);
            }
            out.push('}');
        }
        out.push('}');
        out
    }
}

/// Group and version of a question.
type Api = (&'static str, &'static str);
const CORE: Api = ("", "v1");
const AUTHENTICATION: Api = ("authentication.k8s.io", "v1");

fn question<'a>(
    (group, version): Api,
    resource: &'a str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
) -> Attributes<'a> {
    let object = Object::Resource { group, version, resource, subresource, namespace, name };
    Attributes { verb: "impersonate", object }
}

/// Whether a header is an impersonation header, known or not.
fn claims(name: &HeaderName) -> bool {
    name.as_str().starts_with('i') && headers::class(name) == Class::Identity
}

fn value_text<'v>(name: &HeaderName, value: &'v HeaderValue) -> Result<&'v str, String> {
    let text = std::str::from_utf8(value.as_bytes())
        .map_err(|_| format!("the value of the header {name} is not UTF-8: expected UTF-8"))?;
    if !carried_unchanged(text) {
        return Err(format!(
            "the value of the header {name} has control characters or blanks at its ends: expected none"
        ));
    }
    Ok(text)
}

/// The key in a header's name, lower-cased already: percent-decoded, or itself where an escape is malformed.
fn extra_key(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
            (Some(high), Some(low)) => out.push(high << 4 | low),
            _ => return Some(text.to_owned()),
        }
    }
    String::from_utf8(out).ok()
}

fn push_go_list(out: &mut String, values: &[String]) {
    out.push_str("[]string");
    if values.is_empty() {
        out.push_str("(nil)");
        return;
    }
    for (i, value) in values.iter().enumerate() {
        out.push_str(if i == 0 { "{" } else { ", " });
        push_go_quoted(out, value);
    }
    out.push('}');
}
