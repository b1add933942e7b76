//! `gatelog audit prove`: one event, or that one checkpoint continues another, for somebody who has no record.

use super::UNFIT;
use crate::{
    cli::{Outcome, print, usage},
    review::{self, NoProof, ProveArgs},
};
use std::process::ExitCode;

pub(super) fn run(args: &ProveArgs) -> Outcome {
    match review::prove(args) {
        Ok(said) => {
            print(&said)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error @ NoProof::Args(_)) => Err(usage(error)),
        Err(error) => {
            eprintln!("gatelog: {error}");
            Ok(ExitCode::from(UNFIT))
        }
    }
}
