//! Who may do what: Kubernetes' RBAC, evaluated here. Pure: texts in, decisions out.
//!
//! [`read()`] turns manifests into [`Objects`], [`Rules::new`] those into an index, [`Rules::decide`] answers, and
//! [`Rules::nearest`] says what came nearest when the answer is no; [`Rules::who_can`] and [`Rules::others`] ask the other way round.
//! [`Rules::listed`] and [`intersection()`] are for those who want to see a list.

mod aggregate;
mod eval;
mod explain;
mod index;
mod intersection;
pub mod live;
mod model;
mod read;
#[cfg(test)]
mod tests;
mod who;

pub use eval::{Decision, Grounds, Missing};
pub use explain::{Near, NearMiss};
pub use index::{Counts, Rules, SubjectKind};
pub use intersection::{Cut, intersection};
pub use model::{
    Binding, BindingName, GROUP, Objects, Place, Requirement, Role, RoleName, Rule, Selector, Subject,
};
pub use read::{Problem, dangling, duplicates, read};
pub use who::Others;
