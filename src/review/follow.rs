//! Waiting for more of a record.

use std::time::Duration;

/// How often a record is looked at for more.
const PAUSE: Duration = Duration::from_millis(200);

/// Says, at the end of a record, whether to look again.
pub(super) trait Patience {
    /// Waits a while; false to stop.
    fn wait(&mut self) -> bool;
}

/// Never again.
pub(super) struct Once;

/// As long as the program runs.
pub(super) struct Forever;

impl Patience for Once {
    fn wait(&mut self) -> bool {
        false
    }
}

impl Patience for Forever {
    fn wait(&mut self) -> bool {
        std::thread::sleep(PAUSE);
        true
    }
}
