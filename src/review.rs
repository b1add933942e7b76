//! Reading what was recorded: gatelog's own journal and any other log of `audit.k8s.io/v1` Events, one JSON object a line,
//! such as kube-apiserver's.
//!
//! What a log holds was written by strangers in part: every value is cleaned before it reaches a terminal.

mod event;
mod filter;
mod follow;
mod hashing;
mod prove;
mod read;
mod record;
mod show;
mod verify;

pub use prove::{NoProof, ProveArgs, prove};
pub use record::NoKeys;
pub use show::{Output, ShowArgs, Shown, show};
pub use verify::{Against, BadArgs, Fault, Kind, OffBox, Report, Tail, VerifyArgs, verify};

use std::{io, path::PathBuf};

/// Why a record cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a folder of segments nor a log.
    #[error("{}: {source}", path.display())]
    Open {
        /// What was asked for.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// A log that broke off.
    #[error("cannot read the record: {0}")]
    Read(#[source] io::Error),
    /// Where it should be shown.
    #[error("cannot write: {0}")]
    Write(#[source] io::Error),
    /// Something that is not a filter.
    #[error("{flag}: expected {expected}, found {found:?}")]
    Filter {
        /// The flag, as it is typed.
        flag: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What was typed.
        found: String,
    },
}

#[cfg(test)]
mod tests;
