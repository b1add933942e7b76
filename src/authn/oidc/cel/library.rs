//! Kubernetes' own functions (`k8s.io/apiserver pkg/cel/library`), and those of the interpreter that are bounded here.

/// Makes a type of ours a value of the interpreter.
macro_rules! value {
    ($this:ty, $cel:expr) => {
        impl cel::common::value::Val for $this {
            fn get_type(&self) -> &cel::common::types::Type {
                &$cel
            }

            fn cel_type() -> &'static cel::common::types::Type {
                &$cel
            }

            fn equals(&self, other: &dyn cel::common::value::Val) -> bool {
                other.downcast_ref::<Self>().is_some_and(|other| self == other)
            }

            fn clone_as_boxed<'v>(&self) -> Box<dyn cel::common::value::Val + 'v>
            where
                Self: 'v,
            {
                Box::new(self.clone())
            }

            fn as_any(&self) -> Option<&dyn std::any::Any> {
                Some(self)
            }
        }

        impl cel::common::value::StaticVal for $this {}
    };
}

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
