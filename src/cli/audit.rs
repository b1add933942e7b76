//! `gatelog audit`: reading what was recorded.

use super::{Outcome, usage};
use crate::review::{self, Error, ShowArgs};
use std::{
    io::{self, BufWriter},
    process::ExitCode,
};

/// Read the record
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Show(ShowArgs),
}

pub(super) fn run(args: Args) -> Outcome {
    let Command::Show(args) = args.command;
    let shown =
        review::show(&args, &mut BufWriter::new(io::stdout().lock())).map_err(|error| match error {
            Error::Open { .. } | Error::Filter { .. } => usage(error),
            Error::Read(_) | Error::Write(_) => anyhow::Error::new(error).into(),
        })?;
    if shown.unreadable > 0 {
        eprintln!("gatelog: {} lines are no audit events", shown.unreadable);
    }
    Ok(ExitCode::SUCCESS)
}
