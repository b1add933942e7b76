//! `gatelog check`: is this a file that the gate would take?

use super::{Outcome, misconfigured};
use crate::config;
use std::{path::PathBuf, process::ExitCode};

/// Read a configuration and everything it points to; say what is wrong, or what is on and what is off
///
/// Files that a configuration is made of can be looked at by themselves: parts of a configuration (kind GatewayPart),
/// AuthenticationConfigurations, audit policies, RBAC manifests.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").args(["config", "files"]).required(true).multiple(true))]
pub(super) struct Args {
    /// The gate's configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Any files that the gate reads, known by their kind
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(super) fn run(args: Args) -> Outcome {
    let mut code = ExitCode::SUCCESS;
    if let Some(path) = &args.config {
        match config::load(path).and_then(|config| config::check(&config)) {
            Ok(report) => super::print(&report)?,
            Err(errors) => code = misconfigured(&errors),
        }
    }
    for path in &args.files {
        match config::examine(path) {
            Ok(document) => super::print(&document)?,
            Err(errors) => code = misconfigured(&errors),
        }
    }
    Ok(code)
}
