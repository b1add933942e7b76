//! Names and namespaces in the path.

use super::{Findings, Invalid, catalog::Lookup};
use crate::request::Asked;

/// Looks at the path of a request.
pub(super) fn check(_found: &mut Findings, _asked: &Asked, _route: &Lookup) -> Result<(), Box<Invalid>> {
    Ok(())
}
