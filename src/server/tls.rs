//! How connections are secured.
