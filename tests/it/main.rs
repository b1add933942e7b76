//! The integration tests: one binary, a file per topic.

mod rooms;
