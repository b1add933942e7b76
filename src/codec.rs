//! Bodies to one value, bounded.

pub mod yaml;
