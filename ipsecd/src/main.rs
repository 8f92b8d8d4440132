//! ipsecd: the command line, the process, and what is started in which order.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use ipsecd::{
    daemon::{Daemon, Loaded, Loader},
    keeper_process,
    load::load,
    metrics,
    service::service,
    state::{Request, State},
    state_folder::crash_token_secret,
};
use telemetry::{Format, Logs, MetricsServer, service_manager};
use tokio::signal::unix::{SignalKind, signal};

/// IKEv2 and ESP, one network interface a tunnel.
#[derive(Parser)]
#[command(name = "ipsecd", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/holdfast/holdfast.conf")]
    config: PathBuf,
    /// Where sockets are made.
    #[arg(long, value_name = "DIR", default_value = "/run/holdfast")]
    run_dir: PathBuf,
    /// What is kept from one start to the next.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/holdfast")]
    state_dir: PathBuf,
    /// Read the configuration and the files that it names, report every mistake, and exit.
    #[arg(long)]
    check: bool,
    /// error, warn, info, debug or trace; also per module, as in info,ipsecd=debug. The configuration's otherwise.
    #[arg(long, value_name = "LEVEL", value_parser = log_level)]
    log_level: Option<String>,
    /// text or json. The configuration's otherwise.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<Format>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Hold the tunnel interfaces for a daemon that may end (started by the daemon itself).
    KeepTunnels {
        /// Where its socket is made.
        #[arg(long, value_name = "DIR", default_value = "/run/holdfast")]
        run_dir: PathBuf,
    },
}

fn log_level(text: &str) -> Result<String, String> {
    telemetry::logs::check_level(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        Some(Command::KeepTunnels { run_dir }) => keeper_process::run(run_dir).context("keeping tunnel devices"),
        None => run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ipsecd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // Before the first key is read.
    sys::process::forbid_dumps().context("forbidding core dumps")?;
    let loaded = load(&arguments.config, |warning| eprintln!("ipsecd: {warning}")).map_err(anyhow::Error::msg)?;
    if arguments.check {
        return Ok(());
    }
    let logs = Logs::init("ipsecd", &level(arguments, &loaded), format(arguments, &loaded))?;
    sys::process::raise_open_files().context("raising the limit of open files")?;
    // A fault must be told while a full table is being loaded beside us; threads inherit this.
    let _unprivileged = sys::sched::set_nice(-10);
    let _lock = lock(&arguments.run_dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2) // the loop has the main thread; these serve readers
        .thread_name("ipsecd-rpc")
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(serve(arguments, loaded, logs))
}

async fn serve(arguments: &Arguments, loaded: Loaded, logs: Logs) -> anyhow::Result<()> {
    let keeper = keeper_process::door(&arguments.run_dir);
    let secret = crash_token_secret(&arguments.state_dir);
    let secret = secret.inspect_err(|error| tracing::warn!("{error}")).ok();
    let daemon = Daemon::start(Some(keeper), loader(arguments, logs), loaded, secret).await?;
    let state = daemon.state().clone();
    // Whoever connects is told of all tunnels first: they are known by now.
    let socket = arguments.run_dir.join(rpc::IPSECD_SOCKET);
    tokio::spawn(rpc::Server::bind(&socket, service(state.clone()), rpc::Limits::default())?.run());
    if let Some(address) = state.config().metrics.ipsecd {
        serve_metrics(address, state.clone()).await;
    }
    tokio::spawn(reload_on_hangup(state.clone())?);
    tokio::spawn(service_manager::watchdog(move || {
        let state = state.clone();
        async move {
            let _the_loop_went_round = state.request(Request::Ping).await;
        }
    }));
    service_manager::ready(&daemon.summary());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %arguments.config.display(), "ipsecd serves");
    daemon.run(stopped()?).await?;
    tracing::info!("ipsecd ends; tunnel interfaces stay and drop what is sent to them");
    Ok(())
}

/// Tunnels matter more than their metrics: an address that is taken is an error in the log and no more.
async fn serve_metrics(address: SocketAddr, state: State) {
    match MetricsServer::bind(address, metrics::registry(state)).await {
        Ok(server) => {
            tokio::spawn(server.run());
        }
        Err(error) => {
            tracing::error!(%address, %error, "metrics cannot be served there; change \"metrics ipsecd\" and restart")
        }
    }
}

/// Reads the file again, and takes up its log level unless the command line has one.
fn loader(arguments: &Arguments, logs: Logs) -> Loader {
    let path = arguments.config.clone();
    let fixed = arguments.log_level.is_some();
    Box::new(move || {
        let loaded = load(&path, |warning| tracing::warn!("{warning}"))?;
        if !fixed {
            logs.set_level(level_of(&loaded)).map_err(|error| error.to_string())?;
        }
        Ok(loaded)
    })
}

fn level(arguments: &Arguments, loaded: &Loaded) -> String {
    arguments.log_level.clone().unwrap_or_else(|| level_of(loaded).to_owned())
}

fn level_of(loaded: &Loaded) -> &'static str {
    loaded.config.log.level.map_or("info", config::model::LogLevel::as_str)
}

fn format(arguments: &Arguments, loaded: &Loaded) -> Format {
    let configured = match loaded.config.log.format {
        Some(config::model::LogFormat::Json) => Format::Json,
        Some(config::model::LogFormat::Text) | None => Format::Text,
    };
    arguments.log_format.unwrap_or(configured)
}

/// One daemon a run-dir: a second one would fight over ports and interfaces.
fn lock(run_dir: &Path) -> anyhow::Result<fs::File> {
    let shown = run_dir.display();
    fs::DirBuilder::new().recursive(true).mode(0o750).create(run_dir).with_context(|| format!("making {shown}"))?;
    let path = run_dir.join("ipsecd.lock");
    let file = fs::File::create(&path).with_context(|| format!("making {}", path.display()))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .with_context(|| format!("another ipsecd runs in {shown}; give this one a --run-dir of its own"))?;
    Ok(file)
}

fn reload_on_hangup(state: State) -> anyhow::Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup()).context("receiving SIGHUP")?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            let _logged_already = state.request(Request::Reload).await;
        }
    })
}

fn stopped() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("receiving SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("receiving SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
