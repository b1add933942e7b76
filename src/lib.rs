//! **gatelog**: the gate that keeps a log, in front of the Kubernetes API.
//!
//! ```text
//! words      request identity status headers codec rbac audit::{event,policy}   pure: no tokio, no clock, no files
//! services   pem endpoint client cluster body streams sockets                   what several domains need
//! domains    authn authz validate limits audit forward                          each its own Config, errors, metrics
//! assembly   gateway server telemetry config reload                             the request's way, the process
//! edge       cli review demo                                                    what a person runs
//! ```
//!
//! [`gateway`] is the product in one function: the steps of a request, each handing on the proof of the one before.
//! Each band imports only the bands above it; `tests/it/rooms.rs` holds that true.

pub mod codec;
pub mod headers;
pub mod identity;
pub mod rbac;
pub mod request;
pub mod status;

pub mod body;
pub mod client;
pub mod cluster;
pub mod endpoint;
pub mod pem;
mod sockets;
pub mod streams;

pub mod audit;
pub mod authn;
pub mod authz;
pub mod forward;
pub mod limits;
pub mod validate;

pub mod config;
pub mod gateway;
pub mod reload;
pub mod server;
pub mod telemetry;

pub mod cli;
#[cfg(feature = "demo")]
pub mod demo;
pub mod review;
