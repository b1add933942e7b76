//! Bodies to one value, bounded.

pub mod cbor;
pub mod json;
pub mod protobuf;
pub mod yaml;
