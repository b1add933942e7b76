//! What becomes of events when there is no room or no disk.
use super::*;
