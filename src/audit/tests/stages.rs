//! Which events a request leaves, and with which codes.
use super::*;
