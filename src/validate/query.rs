//! Options in the query: their types, their values, and how they go together.

use super::{Findings, Invalid, catalog::Lookup};
use crate::request::Asked;
use http::HeaderMap;

/// Looks at the head of a request.
pub(super) fn check(
    _found: &mut Findings,
    _asked: &Asked,
    _headers: &HeaderMap,
    _route: &Lookup,
) -> Result<(), Box<Invalid>> {
    Ok(())
}
