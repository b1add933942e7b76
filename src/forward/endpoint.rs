//! stub
use http::HeaderValue;
use std::sync::Arc;
#[derive(Debug)]
pub struct Endpoint {}
impl Endpoint {
    pub fn address(&self) -> (&str, u16) {
        todo!()
    }
    pub fn server_name(&self) -> &rustls::pki_types::ServerName<'static> {
        todo!()
    }
    pub fn tls(&self) -> &Arc<rustls::ClientConfig> {
        todo!()
    }
    pub fn tls_http1(&self) -> &Arc<rustls::ClientConfig> {
        todo!()
    }
    pub fn authority(&self) -> &http::uri::Authority {
        todo!()
    }
    pub fn host_header(&self) -> &HeaderValue {
        todo!()
    }
    pub fn bearer(&self) -> Option<HeaderValue> {
        todo!()
    }
}
