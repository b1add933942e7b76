//! Bodies to one value, bounded.

pub mod cbor;
pub mod document;
pub mod goyaml;
pub mod head;
pub mod json;
pub mod protobuf;
pub mod tape;
pub mod yaml;
