//! What an operator sees of the gate while it runs: [`metrics`], [`log`], [`health`] and the [`admin`] listener that shows
//! the first and the last. The log is for operators, the record (`audit`) for auditors; neither replaces the other.

pub mod admin;
pub mod health;
pub mod log;
pub mod metrics;

pub use health::Health;
pub use metrics::Metrics;
