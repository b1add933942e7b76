//! The integration tests: one binary, a file per topic.

// A test's helpers fail the test; the lints know only the test functions themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(feature = "demo")]
mod answers;
mod attacks;
mod cli;
mod conformance;
mod cves;
#[cfg(feature = "demo")]
mod demo;
#[cfg(feature = "demo")]
mod demo_api;
mod deploy;
mod docs;
mod frames;
mod golden;
mod golden_audit;
#[cfg(feature = "demo")]
mod harness;
#[cfg(feature = "demo")]
mod kubectl;
mod raw;
mod rooms;
mod scene;
mod upstream;
