//! `gatelog check`: is this a configuration the gate would start with?

use super::{Outcome, misconfigured};
use crate::config;
use std::{path::PathBuf, process::ExitCode};

/// Read a configuration and everything it points to; say what is wrong, or what is on and what is off
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The gate's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(args: Args) -> Outcome {
    match config::load(&args.config).and_then(|config| config::check(&config)) {
        Ok(report) => {
            super::print(&report)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => Ok(misconfigured(&errors)),
    }
}
