//! bgpd: BGP and BFD over tunnels, and the kernel's forwarding table.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context;
use bgpd::daemon::{
    Options,
    start::{ready, start},
    supervisor::{Signals, read_config},
};
use clap::Parser;
use config::{
    UnknownLines,
    model::{Config, LogFormat},
};
use telemetry::{Format, Logs};

/// BGP and BFD over IPsec tunnels; programs the kernel's forwarding table.
///
/// SIGHUP reads the configuration again and applies the difference. SIGTERM tells the neighbors and ends; routes stay
/// in the kernel, and the next start takes them over.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, default_value = "/etc/holdfast/holdfast.conf")]
    config: PathBuf,
    /// Where the sockets of the daemons are.
    #[arg(long, default_value = "/run/holdfast")]
    run_dir: PathBuf,
    /// Only say whether the configuration can be used.
    #[arg(long)]
    check: bool,
    /// What becomes of lines of the configuration that this version does not have: refuse, or warn and pass over them,
    /// as FRR does. For files that were written for FRR.
    #[arg(long, value_name = "refuse|warn", default_value = "refuse", value_parser = unknown_lines)]
    unknown_lines: UnknownLines,
    /// Write nothing into the kernel; for tests.
    #[arg(long)]
    no_kernel: bool,
    /// Accept BGP connections here, in place of port 179 on all addresses; may be given several times.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// Put the routes of this MRT file into the table, as the shell's "load mrt" does; may be given several times.
    #[arg(long, value_name = "FILE")]
    load: Vec<PathBuf>,
    /// How logs are written: text or json.
    #[arg(long)]
    log_format: Option<Format>,
    /// What is logged: error, warn, info, debug or trace, or by module such as info,fib=debug.
    #[arg(long)]
    log_level: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (config, warnings) = match read_config(&arguments.config, arguments.unknown_lines) {
        Ok(read) => read,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::FAILURE;
        }
    };
    if arguments.check {
        warnings.iter().for_each(|line| eprintln!("{line}"));
        println!("{}: the configuration can be used", arguments.config.display());
        return ExitCode::SUCCESS;
    }
    match run(arguments, config, &warnings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bgpd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments, config: Config, warnings: &[String]) -> anyhow::Result<()> {
    let configured = config.log.format.map(|format| match format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    });
    let level = arguments.log_level.as_deref().or(config.log.level.map(|level| level.as_str())).unwrap_or("info");
    let logs = Logs::init("bgpd", level, arguments.log_format.or(configured).unwrap_or_default())?;
    end_on_panic();
    // Only now is there a log.
    warnings.iter().for_each(|line| tracing::warn!("{line}"));
    sys::process::raise_open_files().context("cannot raise the limit of open files")?;
    let options = Options {
        config: arguments.config,
        run_dir: arguments.run_dir,
        unknown_lines: arguments.unknown_lines,
        no_kernel: arguments.no_kernel,
        listen: arguments.listen,
        load: arguments.load,
        logs: arguments.log_level.is_none().then_some(logs),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let threads = runtime.block_on(async {
        let mut signals = Signals::new().context("cannot catch signals")?;
        let (mut supervisor, threads) = start(options, config).await?;
        ready(&supervisor);
        supervisor.run(&mut signals).await;
        supervisor.shut_down().await;
        anyhow::Ok(threads)
    })?;
    threads.join();
    Ok(())
}

fn unknown_lines(word: &str) -> Result<UnknownLines, String> {
    match word {
        "refuse" => Ok(UnknownLines::Refuse),
        "warn" => Ok(UnknownLines::Warn),
        other => Err(format!("\"{other}\" is neither \"refuse\" nor \"warn\"")),
    }
}

/// A daemon that has lost one of its threads serves nobody: it ends, the kernel goes on forwarding, and the service
/// manager starts it anew.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}
