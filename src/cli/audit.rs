//! `gatelog audit`: reading what was recorded, and proving that it is what was recorded.

mod keygen;
mod prove;
mod verify;

use super::{Outcome, usage};
use crate::review::{self, Error, ProveArgs, ShowArgs};
use std::{
    io::{self, BufWriter},
    process::ExitCode,
};

/// Something does not fit.
const UNFIT: u8 = 2;

/// Read the record, and prove that nobody altered it
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Show(ShowArgs),
    Verify(verify::Args),
    Prove(ProveArgs),
    Keygen(keygen::Args),
}

pub(super) fn run(args: Args) -> Outcome {
    match args.command {
        Command::Show(args) => show(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Prove(args) => prove::run(&args),
        Command::Keygen(args) => keygen::run(&args),
    }
}

fn show(args: &ShowArgs) -> Outcome {
    let shown =
        review::show(args, &mut BufWriter::new(io::stdout().lock())).map_err(|error| match error {
            Error::Open { .. } | Error::Filter { .. } => usage(error),
            Error::Read(_) | Error::Write(_) => anyhow::Error::new(error).into(),
        })?;
    if shown.unreadable > 0 {
        eprintln!("gatelog: {} lines are no audit events", shown.unreadable);
    }
    Ok(ExitCode::SUCCESS)
}
