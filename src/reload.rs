//! Files that change while the gate runs: a whole new Snapshot, or the old one.

use crate::{config::{Config, Errors}, gateway::{Gateway, Snapshot}};
use std::sync::Arc;

/// Loads everything that decides on requests.
pub fn load(_config: &Config) -> Result<Snapshot, Errors> { todo!() }

/// Polls the contents of the files a snapshot was made of.
#[derive(Debug)]
pub struct Reloader {}
impl Reloader {
    pub fn new(_config: Config, _gateway: Arc<Gateway>) -> Self { Self {} }
    /// Polls until dropped.
    pub async fn run(self: Arc<Self>) { todo!() }
}
