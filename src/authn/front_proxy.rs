//! Identities that an authenticating proxy in front has proven: request headers, believed only behind that proxy's own
//! client certificate (`k8s.io/apiserver pkg/authentication/request/headerrequest`).

use super::{Authenticated, Conn};
use crate::pem::File;
use http::{HeaderMap, HeaderName};
use std::{path::PathBuf, time::SystemTime};

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
pub(super) struct FrontProxy {}

impl FrontProxy {
    /// `ca`: the file that `config` names.
    pub(super) fn new(
        config: &Config,
        ca: &File,
        crls: Option<&File>,
    ) -> Result<(Self, Vec<String>), Vec<String>> {
        let _ = (config, ca, crls);
        todo!()
    }

    /// Whom the proxy vouches for.
    pub(super) fn authenticate(
        &self,
        conn: &Conn,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Option<Authenticated>, String> {
        let _ = (conn, headers, now);
        todo!()
    }

    /// Whether a header carries such a claim, so that it goes no further.
    pub(super) fn is_claim(&self, name: &HeaderName) -> bool {
        let _ = name;
        todo!()
    }
}
