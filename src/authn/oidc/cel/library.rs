//! Kubernetes' own functions (`k8s.io/apiserver pkg/cel/library`), and those of the interpreter that are bounded here.

pub(super) mod format;
mod lists;
mod name;
mod net;
mod text;
mod url;

pub(super) use text::{is_time, shown};

use cel::{DeclarationError, Env};

/// Declares all of them.
pub(super) fn extend(env: &mut Env) -> Result<(), DeclarationError> {
    text::extend(env)?;
    format::extend(env)?;
    lists::extend(env)?;
    net::extend(env)?;
    url::extend(env)?;
    name::extend(env)
}
