//! Whether the cluster serves what is asked for: 404 and 405.

use super::{Findings, Invalid, catalog::Lookup};
use crate::request::Asked;

/// Looks at the path of a request.
pub(super) fn check(_found: &mut Findings, _asked: &Asked, _route: &Lookup) -> Result<(), Box<Invalid>> {
    Ok(())
}
