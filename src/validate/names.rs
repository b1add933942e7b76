//! Names and namespaces in the path.
//!
//! What kube-apiserver refuses in a path (`.`, `..`, `/` and `%` in a segment) is no target that the gate takes at all; it accepts
//! everything else, and finds no object of that name.

use super::{
    Findings, Invalid, Part,
    catalog::Lookup,
    handler::{self, Handler, Server},
};
use crate::{request::Asked, status::Status};

/// Looks at the path of a request.
pub(super) fn check(found: &mut Findings, asked: &Asked, route: &Lookup) -> Result<(), Box<Invalid>> {
    // A built-in resource has no such route: 405.
    let nameless = matches!(handler::handler(asked), Some(Handler::Update | Handler::Patch))
        && asked.info.name().is_empty()
        && handler::server(asked, route) == Server::Custom;
    if nameless {
        let mode = found.mode(Part::Names);
        return found
            .fault(mode, Part::Names, "name-missing", || Status::bad_request("name must be provided"));
    }
    Ok(())
}
