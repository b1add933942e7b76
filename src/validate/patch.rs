//! Patches: their shape and size.

use super::{Findings, Invalid};
use crate::{codec::document::Document, request::Asked};
use http::HeaderMap;

/// Looks at a patch, if the request is one.
pub(super) fn check(
    _found: &mut Findings,
    _asked: &Asked,
    _headers: &HeaderMap,
    _document: Option<&Document<'_>>,
) -> Result<(), Box<Invalid>> {
    Ok(())
}
