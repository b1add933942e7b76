//! THE table of header names: which are hop-by-hop, which say who somebody is, which are secret. Reference: spec impersonation 6.

use http::{HeaderMap, HeaderName};

/// What becomes of a caller's header on the way upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Goes through.
    EndToEnd,
    /// Of this connection only (RFC 9110 7.6.1): Connection, Keep-Alive, TE, Trailer, Transfer-Encoding, Upgrade, Proxy-*.
    HopByHop,
    /// Proves or claims an identity: Authorization, Impersonate-*, X-Remote-* and names that fold onto them (`_` for `-`).
    Identity,
    /// Written by the gate itself: Host, Audit-Id, X-Forwarded-*, Forwarded, Via, …
    Ours,
}
pub fn class(_name: &HeaderName) -> Class { todo!() }
/// The names that the `Connection` values nominate, lower-cased.
pub fn nominated(_headers: &HeaderMap) -> Vec<HeaderName> { todo!() }
/// Copies what may go upstream into an empty map: hop-by-hop and nominated first out, then identity, then ours.
pub fn for_upstream(_from: &HeaderMap) -> HeaderMap { todo!() }
/// Same for an answer on its way to the caller (hop-by-hop out; on a 101 too).
pub fn for_caller(_from: HeaderMap) -> HeaderMap { todo!() }
/// The last look before the wire: an identity header other than those the permit set is an error (500).
pub fn survivors(_headers: &HeaderMap, _allowed: &[(HeaderName, http::HeaderValue)]) -> Result<(), HeaderName> { todo!() }
