//! The integration tests: one binary, a file per topic.

// A test's helpers fail the test; the lints know only the test functions themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod account;
#[cfg(feature = "demo")]
mod answers;
mod ask;
mod attacks;
mod audit_verify;
#[cfg(feature = "demo")]
mod can_i;
#[cfg(feature = "demo")]
mod canary;
#[cfg(feature = "demo")]
mod catalog;
mod cli;
#[cfg(feature = "demo")]
mod cluster_rules;
mod conformance;
#[cfg(feature = "demo")]
mod credentials;
mod cves;
#[cfg(feature = "demo")]
mod demo;
#[cfg(feature = "demo")]
mod demo_api;
#[cfg(feature = "demo")]
mod demo_crds;
#[cfg(feature = "demo")]
mod demo_strict;
mod deploy;
#[cfg(feature = "demo")]
mod disks;
mod docs;
#[cfg(feature = "demo")]
mod drain;
mod expiry;
mod frames;
mod golden;
mod golden_audit;
mod golden_bodies;
mod golden_protobuf;
#[cfg(feature = "demo")]
mod harness;
#[cfg(feature = "demo")]
mod held;
#[cfg(feature = "demo")]
mod identity;
#[cfg(feature = "demo")]
mod kill;
#[cfg(feature = "demo")]
mod kube_client;
#[cfg(feature = "demo")]
mod kubectl;
#[cfg(feature = "demo")]
mod limits;
#[cfg(feature = "demo")]
mod objects;
#[cfg(feature = "demo")]
mod odd_reviews;
#[cfg(feature = "demo")]
mod odd_strings;
mod one_id;
#[cfg(feature = "demo")]
mod plane;
mod raw;
#[cfg(feature = "demo")]
mod record;
#[cfg(feature = "demo")]
mod record_gate;
mod records;
#[cfg(feature = "demo")]
mod rehearsal;
#[cfg(feature = "demo")]
mod reload_live;
#[cfg(feature = "demo")]
mod revocation;
mod rooms;
mod scene;
mod sessions;
mod sinks;
#[cfg(feature = "demo")]
mod streams;
mod token_review;
#[cfg(feature = "demo")]
mod transparency;
mod upstream;
#[cfg(feature = "demo")]
mod upstreams;
#[cfg(feature = "demo")]
mod values;
#[cfg(feature = "demo")]
mod wellformed;
