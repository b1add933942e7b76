//! `gatelog demo`, and the upstream of the tests: a small in-memory API server and what stands around it. Not a product.

pub mod answer;
pub mod kubelet;
pub mod pki;
pub mod shell;
pub mod spdy;
pub mod websocket;
