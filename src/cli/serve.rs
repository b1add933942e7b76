//! `gatelog serve`: the gate itself.

use super::{Outcome, misconfigured};
use crate::{
    audit::Audit,
    config,
    server::{self, StartError},
    telemetry::log::{self, Filter, Format},
};
use anyhow::Context;
use std::{io, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Run the gate
///
/// Runs until SIGTERM or Ctrl-C, then lets what is under way end; a second signal stops it at once.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The gate's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Listen here rather than on `listen.address`; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// off, error, warn, info, debug or trace; TARGET=LEVEL beside it, after a comma, for one part
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: Filter,
    /// text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: Format,
}

pub(super) fn run(args: Args) -> Outcome {
    let _log = log::init(args.log_format, &args.log_level).map_err(anyhow::Error::new)?;
    let mut config = match config::load(&args.config) {
        Ok(config) => config,
        Err(errors) => return Ok(misconfigured(&errors)),
    };
    if let Some(address) = args.listen {
        config.server.address = address;
    }
    let runtime = super::runtime()?;
    let outcome = runtime.block_on(async {
        let signals = Signals::listen().context("cannot listen for signals")?;
        let mut gate = match server::start(config).await {
            Ok(gate) => gate,
            Err(StartError::Config(errors)) => return Ok(misconfigured(&errors)),
            Err(error) => return Err(anyhow::Error::new(error).into()),
        };
        let admin = gate.admin().map(|address| address.to_string());
        tracing::info!(address = %gate.address(), admin, version = env!("CARGO_PKG_VERSION"), "serving");
        gate.check_account();
        signals.first(gate.gateway().audit().clone()).await;
        gate.drain().await;
        Ok(ExitCode::SUCCESS)
    });
    // Whatever still blocks a thread has had its time.
    runtime.shutdown_background();
    outcome
}

/// How long the second signal waits for the record.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// The signals that end the process. To be made on a runtime, and early: from then on they no longer kill.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Ready at the first SIGTERM or SIGINT; the second ends the process with exit code 1, whatever it is doing, but for what
    /// `audit` has to write.
    pub(super) async fn first(mut self, audit: Arc<Audit>) {
        let signal = self.next().await;
        tracing::info!(signal, "stopping; a second signal stops at once");
        tokio::spawn(async move {
            let signal = self.next().await;
            tracing::warn!(signal, "stopped at once, what was under way is cut");
            if !audit.flush_within(LAST_WRITE) {
                tracing::error!("the end of the audit record is not on the disk");
            }
            log::flush();
            std::process::exit(1);
        });
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
