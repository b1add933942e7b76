//! `gatelog demo`: a cluster in memory, the gate in front of it, and three users to be.

use super::{Outcome, misconfigured, print, serve::Signals, usage};
use crate::{
    config,
    demo::{
        apiserver::{ApiServer, Options},
        oidc::{self, Provider},
        site::{self, RULES_OF_CLUSTER, RULES_OF_FILES, Setup, Site, TOKEN_HOURS},
    },
    server,
    telemetry::{
        health::Question,
        log::{self, Filter, Format},
    },
};
use anyhow::{Context as _, anyhow};
use std::{
    env,
    fmt::Write as _,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// Try gatelog on a cluster of its own
///
/// Starts a small API server in memory and the gate in front of it, both on the loopback interface, and prints what to try.
/// Runs until Ctrl-C. The cluster is gone then; the record stays.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the kubeconfigs, the gate's configuration and the record go: a new folder, or an earlier demo's
    #[arg(long, value_name = "DIR", default_value = "gatelog-demo")]
    dir: PathBuf,
    /// Where the gate listens; port 0 takes a free one [default: 127.0.0.1:6443, or a free port if that is taken]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Start an OpenID provider as well, and be somebody whom the gate knows by a token of it
    #[arg(long)]
    oidc: bool,
    /// Decide by the cluster's own roles and bindings, watched, instead of by those in a file
    #[arg(long)]
    cluster_rules: bool,
    /// off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log_level: Filter,
}

/// Where the gate listens unless told otherwise, as kube-apiserver does.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 6443);
/// The cluster's and the admin listener's address: a free port.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(super) fn run(args: Args) -> Outcome {
    if let Some(address) = args.listen
        && !address.ip().is_loopback()
    {
        return Err(usage(anyhow!(
            "--listen {address}: a demo listens on loopback only: 127.0.0.1 or [::1]"
        )));
    }
    let _log = log::init(Format::Text, &args.log_level).map_err(anyhow::Error::new)?;
    let site = Site::claim(&args.dir).map_err(|error| match error {
        error @ site::Error::NotOurs(_) => usage(anyhow::Error::new(error).context("--dir")),
        error => anyhow::Error::new(error).into(),
    })?;
    let runtime = super::runtime()?;
    let outcome = runtime.block_on(demo(&args, &site));
    // Whatever still blocks a thread has had its time.
    runtime.shutdown_background();
    outcome
}

async fn demo(args: &Args, site: &Site) -> Outcome {
    let signals = Signals::listen().context("cannot listen for signals")?;
    let options = Options::new(site.cluster_tls().map_err(anyhow::Error::new)?);
    let mut options = options.context("cannot listen on the loopback interface")?;
    options.gateway.reads_rules = args.cluster_rules;
    let cluster = ApiServer::start(options).await.context("cannot start the cluster")?;
    let asked = args.listen.unwrap_or(LISTEN);
    let listen = match settled(asked) {
        Err(_) if args.listen.is_none() => settled(ANY),
        settled => settled,
    };
    let listen = listen.map_err(|error| anyhow!("cannot listen on {asked}: {error}"))?;
    let admin = settled(ANY).context("cannot listen on the loopback interface")?;
    let provider = match args.oidc {
        true => Some(Provider::start(oidc::Options::default()).await.context("cannot start the provider")?),
        false => None,
    };
    let provider = provider.as_ref();
    let setup = Setup {
        listen,
        admin,
        upstream: cluster.addr(),
        provider,
        authentication: "",
        authorization: if args.cluster_rules { RULES_OF_CLUSTER } else { RULES_OF_FILES },
        more: "",
    };
    let file = site.write_gate(setup).map_err(anyhow::Error::new)?;
    let config = match config::load(&file) {
        Ok(config) => config,
        Err(errors) => return Ok(misconfigured(&errors)),
    };
    let mut gate = server::start(config).await.map_err(anyhow::Error::new)?;
    gate.check_account();
    site.write_kubeconfigs(gate.address(), provider).map_err(anyhow::Error::new)?;
    let program = env::args_os().next().map_or_else(|| "gatelog".into(), PathBuf::from);
    // The cluster's rules are listed within moments.
    let ready = async {
        while gate.health().answer(Question::Ready, "").code != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), ready).await;
    print(&welcome(&program, site, gate.address(), gate.admin(), cluster.addr(), provider))?;
    signals.first(gate.gateway().audit().clone()).await;
    print(&format!("\nStopping. The record stays in {}\n", site.record().display()))?;
    gate.drain().await;
    cluster.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// The address with a port that is free now, so that the files can name it before the gate is there.
fn settled(address: SocketAddr) -> io::Result<SocketAddr> {
    TcpListener::bind(address)?.local_addr()
}

/// What a newcomer needs to know.
fn welcome(
    program: &Path,
    site: &Site,
    gate: SocketAddr,
    admin: Option<SocketAddr>,
    cluster: SocketAddr,
    provider: Option<&Provider>,
) -> String {
    let dir = std::path::absolute(site.dir()).unwrap_or_else(|_| site.dir().to_owned());
    let shell = |path: &Path| {
        let text = path.display().to_string();
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+~".contains(c);
        if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
    };
    let (here, record) = (shell(&dir), shell(&site.record()));
    let program = shell(program);
    let mut out = format!(
        "The gate      https://{gate}\n\
         The cluster   https://{cluster}  (in memory, gone when this ends)\n"
    );
    // Writing to a String cannot fail.
    if let Some(provider) = provider {
        let _ = writeln!(out, "The provider  {}", provider.issuer());
    }
    if let Some(admin) = admin {
        let _ = writeln!(out, "Metrics       http://{admin}/metrics");
    }
    let _ = write!(
        out,
        "Files         {here}\n\n\
         Now, in another shell, be a developer:\n\n\
         \x20 export KUBECONFIG={here}/developer.kubeconfig\n\
         \x20 kubectl get pods\n\
         \x20 kubectl logs -f deploy/web\n\
         \x20 kubectl exec -it deploy/web -- sh\n\
         \x20 kubectl port-forward deploy/web 8080\n\
         \x20 kubectl scale deploy/web --replicas=5\n\
         \x20 kubectl delete namespace shop          refused, and the answer says why\n\
         \x20 kubectl auth whoami\n\
         \x20 kubectl --token \"$(kubectl create token app)\" auth whoami      a service account\n\n"
    );
    if provider.is_some() {
        let _ = write!(
            out,
            "or be Carol, whom the gate knows by a token of the provider (good for {TOKEN_HOURS} hours; what is believed of it is \
             in authentication.yaml):\n\n\
             \x20 export KUBECONFIG={here}/oidc.kubeconfig\n\
             \x20 kubectl auth whoami\n\n"
        );
    }
    let _ = write!(
        out,
        "or look around as viewer.kubeconfig, or do anything as admin.kubeconfig. Then read what was recorded:\n\n\
         \x20 {program} audit show {record}\n\
         \x20 {program} audit verify {record} --key {record}/audit.pub      was it altered?\n\n\
         Ctrl-C ends it.\n"
    );
    out
}
