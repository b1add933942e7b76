//! `gatelog audit`: reading what was recorded.

use super::Outcome;
use std::process::ExitCode;

/// Read the record
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: Args) -> Outcome {
    Ok(ExitCode::SUCCESS)
}
