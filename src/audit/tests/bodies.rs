//! What becomes of bodies.
use super::*;
