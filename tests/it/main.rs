//! The integration tests: one binary, a file per topic.

// A test's helpers fail the test; the lints know only the test functions themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attacks;
mod cli;
mod conformance;
mod cves;
#[cfg(feature = "demo")]
mod demo_api;
mod deploy;
mod docs;
mod frames;
mod golden;
mod golden_audit;
mod raw;
mod rooms;
mod scene;
mod upstream;
