//! `gatelog audit verify`: whether a record is what was recorded.

use super::UNFIT;
use crate::{
    cli::{Outcome, pretty, print, usage},
    review::{self, VerifyArgs},
};
use std::process::ExitCode;

/// Verify a record: 0 all fits, 2 something does not, which is named, 64 it could not begin
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    verify: VerifyArgs,
    /// For a person, or for a program
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// A line for each thing.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

pub(super) fn run(args: &Args) -> Outcome {
    let report = review::verify(&args.verify).map_err(usage)?;
    match args.output {
        Output::Text => print(&report)?,
        Output::Json => print(&pretty(&report)?)?,
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::from(UNFIT) })
}
