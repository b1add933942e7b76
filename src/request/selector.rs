//! Field and label selectors in the text form of query parameters (`k8s.io/apimachinery` `pkg/fields`, `pkg/labels`).
//!
//! RequestInfo needs to know whether they parse and whether they name one object; the requirements themselves are for
//! whoever filters.

mod field;
mod label;

pub use field::{FieldRequirement, FieldSelector};
pub use label::{LabelOperator, LabelRequirement, LabelSelector};

/// A selector that does not parse; the text says where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSelector(String);
