//! A bearer token in the WebSocket subprotocol, for browsers, which can set no header (`k8s.io/apiserver
//! pkg/authentication/request/websocket`).

use http::HeaderMap;

/// What the header offers: None for no opinion. The error is for the log.
pub(super) fn find(headers: &HeaderMap) -> Result<Option<String>, String> {
    let _ = headers;
    Ok(None)
}
