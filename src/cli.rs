//! The command line: one subcommand a file. The only place of anyhow and of exit codes.
//!
//! 0: done. 1: it could not start, or failed later; `explain`: denied. 64: bad usage or a bad configuration, nothing was begun.
//! 69: nobody, or no gate, answers at the socket.

mod asked;
mod audit;
mod check;
#[cfg(feature = "demo")]
mod demo;
mod explain;
mod kubeconfig;
mod serve;
mod socket;
mod who_can;

use crate::config;
use clap::{Parser, Subcommand, error::ErrorKind as ClapError};
use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
    process::ExitCode,
};
use tokio::runtime::{Builder, Runtime};

/// The gate that keeps a log: an authenticating reverse proxy and audit gateway for the Kubernetes API.
#[derive(Debug, Parser)]
#[command(name = "gatelog", version, arg_required_else_help = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Check(check::Args),
    Kubeconfig(kubeconfig::Args),
    Audit(audit::Args),
    Explain(explain::Args),
    WhoCan(who_can::Args),
    #[cfg(feature = "demo")]
    Demo(demo::Args),
}

/// `EX_USAGE` of sysexits.h.
const USAGE: u8 = 64;

/// `EX_UNAVAILABLE` of sysexits.h.
const UNAVAILABLE: u8 = 69;

/// What a subcommand comes to.
type Outcome = Result<ExitCode, Failure>;

/// Why a subcommand failed, and what the program exits with.
#[derive(Debug)]
struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { code: 1, error }
    }
}

/// The caller's mistake: bad usage or a bad configuration.
fn usage(error: impl Into<anyhow::Error>) -> Failure {
    Failure { code: USAGE, error: error.into() }
}

/// Says all that is wrong with a configuration, each on a line of its own that begins with the file.
fn misconfigured(errors: &config::Errors) -> ExitCode {
    eprintln!("{errors}");
    ExitCode::from(USAGE)
}

/// Prints to standard output. A reader who has gone away has read enough.
fn print(text: &impl Display) -> Result<(), anyhow::Error> {
    match write!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// JSON for programs, which people can read as well.
fn pretty(value: &impl serde::Serialize) -> Result<String, anyhow::Error> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Runs the program.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // What cannot be printed cannot be helped.
            let _ = error.print();
            return match error.kind() {
                ClapError::DisplayHelp | ClapError::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(USAGE),
            };
        }
    };
    // Only fails when there is one already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let outcome = match args.command {
        Command::Serve(args) => serve::run(args),
        Command::Check(args) => check::run(args),
        Command::Kubeconfig(args) => kubeconfig::run(args),
        Command::Audit(args) => audit::run(args),
        Command::Explain(args) => explain::run(args),
        Command::WhoCan(args) => who_can::run(args),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::run(args),
    };
    outcome.unwrap_or_else(|Failure { code, error }| {
        eprintln!("gatelog: {}", told(&error));
        ExitCode::from(code)
    })
}

/// An error with its causes, but for those that it tells already.
fn told(error: &anyhow::Error) -> String {
    let mut causes = error.chain().map(ToString::to_string);
    let first = causes.next().unwrap_or_default();
    causes.fold(first, |text, cause| if text.ends_with(&cause) { text } else { format!("{text}: {cause}") })
}

/// A runtime for this machine: on one processor, threads would only hand work to each other.
fn runtime() -> Result<Runtime, anyhow::Error> {
    let one = std::thread::available_parallelism().is_ok_and(|n| n.get() == 1);
    let mut builder = if one { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.enable_all().build().map_err(|error| anyhow::anyhow!("cannot start the runtime: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_was_told_is_not_told_again() {
        let rows = [
            (
                vec!["d: cannot be made: exists", "cannot be made: exists", "exists"],
                "d: cannot be made: exists",
            ),
            (vec!["cannot start", "port taken"], "cannot start: port taken"),
            (vec!["once"], "once"),
        ];
        for (mut causes, want) in rows {
            let root = anyhow::anyhow!(causes.pop().unwrap());
            let error = causes.into_iter().rev().fold(root, |error, cause| error.context(cause));
            assert_eq!(told(&error), want);
        }
    }
}
