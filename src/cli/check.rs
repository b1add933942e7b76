//! `gatelog check`: is this a configuration the gate would start with?

use super::Outcome;
use std::{path::PathBuf, process::ExitCode};

/// Read a configuration and everything it points to; say what is wrong, or what is on and what is off
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The gate's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(args: Args) -> Outcome {
    let _ = args.config;
    Ok(ExitCode::SUCCESS)
}
