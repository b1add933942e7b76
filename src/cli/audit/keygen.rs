//! `gatelog audit keygen`: the key that signs the tree.

use crate::{
    audit::{Signing, tree::note::SigningKey},
    cli::{Outcome, print, usage},
};
use anyhow::{Context as _, anyhow};
use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Makes the key that signs the record (Ed25519, PKCS#8 in PEM), and prints its public half
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which log it signs, as audit.signing.origin; a word [default: gatelog/ and the name of this host]
    #[arg(long, value_name = "NAME")]
    origin: Option<String>,
    /// Where the private key goes; never overwritten
    #[arg(long, value_name = "FILE", default_value = "signing.key")]
    out: PathBuf,
    /// Make none: print the public half of this private key, under the name of --origin
    #[arg(long, value_name = "KEYFILE", requires = "origin", conflicts_with = "out")]
    public: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Outcome {
    let origin = args.origin.clone().unwrap_or_else(Signing::default_origin);
    let key = match &args.public {
        Some(path) => {
            let pem = fs::read_to_string(path).with_context(|| path.display().to_string()).map_err(usage)?;
            SigningKey::from_pem(&origin, &pem).map_err(|e| usage(anyhow!("{}: {e}", path.display())))?
        }
        None => {
            let key = SigningKey::generate(&origin).map_err(usage)?;
            let pem = key.to_pem().map_err(anyhow::Error::new)?;
            keep(&args.out, pem.as_str())?;
            eprintln!(
                "{}: the private key, for audit.signing.keyFile; its log is {origin}",
                args.out.display()
            );
            key
        }
    };
    print(&format_args!("{}\n", key.verifier()))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a private key to a file that is not there yet.
fn keep(path: &Path, pem: &str) -> Result<(), crate::cli::Failure> {
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            return Err(usage(anyhow!("{}: there is a file already, it is not overwritten", path.display())));
        }
        file => file.with_context(|| path.display().to_string()).map_err(usage)?,
    };
    let written = file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    });
    written.with_context(|| path.display().to_string())?;
    Ok(())
}
