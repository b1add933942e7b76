//! One HTTPS client for the gate's own calls: issuers of tokens, webhooks, and the upstream's reviews and keys. Callers'
//! requests never go through it.
//!
//! Answers are read whole and bounded, but for those that go on ([`Client::open`]); redirects are not followed, no proxy is used.

use crate::{endpoint::Endpoint, sockets};
use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, Response, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, IF_NONE_MATCH, USER_AGENT},
};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
};
use std::{error, sync::Arc, time::Duration};

/// Whose certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// Those of the system.
    System,
    /// These and no others.
    Only(Vec<CertificateDer<'static>>),
}

/// A client with its connections.
#[derive(Debug)]
pub struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// None: anywhere.
    endpoint: Option<Arc<Endpoint>>,
}

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

/// The body of an answer that goes on.
pub type Opened = UnsyncBoxBody<Bytes, Error>;

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

const AGENT: HeaderValue = HeaderValue::from_static(concat!("gatelog/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Key sets are served as a type of their own, and kube-apiserver answers 406 to those who do not ask for it.
const ANY_JSON: HeaderValue = HeaderValue::from_static("application/json, application/jwk-set+json");

const ANYTHING: HeaderValue = HeaderValue::from_static("application/json, */*");

/// Of an answer that nobody reads: bytes of it, and time for it.
const LITTLE: usize = 64 << 10;
const SHORTLY: Duration = Duration::from_secs(1);

/// A connection of its own, before other addresses of the host are tried for what is left of the time.
const CONNECT: Duration = Duration::from_secs(5);
/// Shorter than servers keep a connection that nothing is asked on, so that a call seldom meets one that is being closed.
const IDLE: Duration = Duration::from_secs(30);
const IDLE_CONNECTIONS: usize = 8;
/// A connection that leads nowhere any more is noticed by the time a call has waited for so long.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_ANSWER: Duration = Duration::from_secs(5);

impl Client {
    /// For absolute `https` URLs; nothing is presented.
    ///
    /// # Errors
    /// A certificate that is none, or a system without any.
    pub fn to_anywhere(roots: &Roots) -> Result<Self, String> {
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots.store()?)
            .with_no_client_auth();
        Ok(Self { http: pool(tls, None), endpoint: None })
    }

    /// For paths on one server that a kubeconfig describes; its credentials go with every call.
    pub fn to(endpoint: Arc<Endpoint>) -> Self {
        let tls = ClientConfig::clone(endpoint.tls());
        Self { http: pool(tls, Some(endpoint.server_name().clone())), endpoint: Some(endpoint) }
    }

    /// GET of JSON. `target` is an absolute URL, or a path and query on the endpoint.
    pub async fn get(&self, target: &str, bounds: Bounds) -> Result<Answer, Error> {
        self.call(Method::GET, target, Bytes::new(), bounds, |_| {}).await
    }

    /// GET of what `accept` names; an answer that `known`, its entity tag, still names is 304 without a body.
    pub async fn get_as(
        &self,
        target: &str,
        accept: HeaderValue,
        known: Option<&HeaderValue>,
        bounds: Bounds,
    ) -> Result<Answer, Error> {
        let change = |headers: &mut HeaderMap| {
            headers.insert(ACCEPT, accept);
            if let Some(tag) = known {
                headers.insert(IF_NONE_MATCH, tag.clone());
            }
        };
        self.call(Method::GET, target, Bytes::new(), bounds, change).await
    }

    /// POST of JSON, asking for JSON.
    pub async fn post(&self, target: &str, body: Bytes, bounds: Bounds) -> Result<Answer, Error> {
        self.call(Method::POST, target, body, bounds, |_| {}).await
    }

    /// GET of JSON that is read as it comes; `head` is how long its beginning may take. What bounds the rest is the caller's business.
    pub async fn open(&self, target: &str, head: Duration) -> Result<Response<Opened>, Error> {
        let uri = self.uri(target).map_err(Error::Failed)?;
        let host = uri.authority().map_or_else(String::new, ToString::to_string);
        let failed = |why: String| Error::Failed(format!("{host}: {why}"));
        let request = self.request(Method::GET, uri, Bytes::new()).map_err(failed)?;
        let answered = tokio::time::timeout(head, self.http.request(request)).await;
        let answer = answered.map_err(|_| failed(format!("no answer within {head:?}")))?;
        let answer = answer.map_err(|e| failed(reason(&e)))?;
        Ok(answer.map(|body| {
            body.map_err(move |e| Error::Failed(format!("{host}: {}", reason(&e)))).boxed_unsync()
        }))
    }

    /// POST of JSON to somebody whose answer is its status alone; what follows is read only to use the connection again.
    pub async fn tell(
        &self,
        target: &str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<(StatusCode, HeaderMap), Error> {
        let uri = self.uri(target).map_err(Error::Failed)?;
        let host = uri.authority().map_or_else(String::new, ToString::to_string);
        let failed = |why: String| Error::Failed(format!("{host}: {why}"));
        let mut request = self.request(Method::POST, uri, body).map_err(failed)?;
        request.headers_mut().insert(ACCEPT, ANYTHING);
        let answered = tokio::time::timeout(timeout, self.http.request(request)).await;
        let answer = answered.map_err(|_| failed(format!("no answer within {timeout:?}")))?;
        let (head, body) = answer.map_err(|e| failed(reason(&e)))?.into_parts();
        let rest = Limited::new(body, LITTLE).collect();
        let _ = tokio::time::timeout(timeout.min(SHORTLY), rest).await;
        Ok((head.status, head.headers))
    }

    async fn call(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
        bounds: Bounds,
        change: impl FnOnce(&mut HeaderMap),
    ) -> Result<Answer, Error> {
        let uri = self.uri(target).map_err(Error::Failed)?;
        let host = uri.authority().map_or_else(String::new, ToString::to_string);
        let failed = |why: String| Error::Failed(format!("{host}: {why}"));
        let mut request = self.request(method, uri, body).map_err(failed)?;
        change(request.headers_mut());
        let answered = tokio::time::timeout(bounds.timeout, self.answer(request, bounds.body)).await;
        answered.unwrap_or_else(|_| Err(format!("no answer within {:?}", bounds.timeout))).map_err(failed)
    }

    async fn answer(&self, request: Request<Full<Bytes>>, most: usize) -> Result<Answer, String> {
        let answer = self.http.request(request).await.map_err(|e| reason(&e))?;
        let (head, body) = answer.into_parts();
        let body =
            Limited::new(body, most).collect().await.map_err(|e| match e.is::<LengthLimitError>() {
                true => format!("the answer is larger than {most} bytes"),
                false => reason(&*e),
            })?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    }

    fn request(&self, method: Method, uri: Uri, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        let has_body = method == Method::POST;
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(headers) = request.headers_mut() {
            headers.insert(ACCEPT, ANY_JSON);
            headers.insert(USER_AGENT, AGENT);
            if has_body {
                headers.insert(CONTENT_TYPE, JSON);
            }
            if let Some(bearer) = self.endpoint.as_ref().and_then(|endpoint| endpoint.bearer()) {
                headers.insert(AUTHORIZATION, bearer);
            }
        }
        request.body(Full::new(body)).map_err(|e| e.to_string())
    }

    /// A user name in a URL is a credential, so such a URL is not repeated.
    fn uri(&self, target: &str) -> Result<Uri, String> {
        if let Some(endpoint) = &self.endpoint {
            let authority = endpoint.authority().clone();
            if !target.starts_with('/') {
                return Err(format!("{authority}: {target:?} is no path on it"));
            }
            let uri = Uri::builder().scheme("https").authority(authority).path_and_query(target).build();
            return uri.map_err(|e| format!("{}: {target:?}: {e}", endpoint.authority()));
        }
        let uri: Uri = target.parse().map_err(|e| format!("not a URL: {e}"))?;
        match (uri.scheme_str(), uri.authority()) {
            (Some("https"), Some(authority)) if !authority.as_str().contains('@') => Ok(uri),
            (Some("https"), Some(authority)) => {
                Err(format!("{}: a URL with a user name, expected none", authority.host()))
            }
            _ => Err("expected a URL that begins with https://".to_owned()),
        }
    }
}

// === impl Roots ===

impl Roots {
    fn store(&self) -> Result<RootCertStore, String> {
        let mut store = RootCertStore::empty();
        match self {
            Self::System => {
                let found = rustls_native_certs::load_native_certs();
                store.add_parsable_certificates(found.certs);
                if store.is_empty() {
                    let why = found.errors.first().map_or_else(String::new, |e| format!(": {e}"));
                    return Err(format!("the system has no certificate authorities{why}"));
                }
            }
            Self::Only(certificates) => {
                for (i, certificate) in certificates.iter().enumerate() {
                    store
                        .add(certificate.clone())
                        .map_err(|e| format!("certificate authority {}: {e}", i + 1))?;
                }
            }
        }
        Ok(store)
    }
}

fn pool(
    mut tls: ClientConfig,
    name: Option<ServerName<'static>>,
) -> legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>> {
    let mut tcp = HttpConnector::new();
    // Otherwise it would refuse what is not plain HTTP.
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    // HTTP/1.1 has no PING.
    tcp.set_keepalive(Some(sockets::SILENCE));
    tcp.set_keepalive_interval(Some(sockets::SILENCE));
    tcp.set_keepalive_retries(Some(sockets::PROBES));
    // The connector writes the protocols itself, and insists.
    tls.alpn_protocols.clear();
    let mut https = HttpsConnectorBuilder::new().with_tls_config(tls).https_only();
    if let Some(name) = name {
        https = https.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .http2_keep_alive_interval(PING_EVERY)
        .http2_keep_alive_timeout(PING_ANSWER)
        .http2_keep_alive_while_idle(true)
        .build(https.enable_all_versions().wrap_connector(tcp))
}

/// What lies below the first error, which only says that there was one.
fn reason(error: &(dyn error::Error + 'static)) -> String {
    let mut reasons: Vec<String> = Vec::new();
    let mut below = error.source();
    while let Some(cause) = below {
        let cause_text = cause.to_string();
        if reasons.last() != Some(&cause_text) {
            reasons.push(cause_text);
        }
        below = cause.source();
    }
    if reasons.is_empty() { error.to_string() } else { reasons.join(": ") }
}

#[cfg(test)]
#[cfg(feature = "demo")]
mod tests;
