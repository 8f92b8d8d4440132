//! `holdfast`: the shell of bgpd and ipsecd.
//!
//! It knows the commands by the grammar that the daemons read them with, and leaves running them to the daemon that a command
//! belongs to. It holds no state of its own and trusts no output: what a remote could have put into it cannot move the cursor.

mod console;
mod daemon;
mod filter;
mod interactive;
mod pki;
mod run;

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use console::{Console, Typist};
use run::{Runner, Status};

/// Shell of bgpd and ipsecd.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast",
    version,
    about,
    args_conflicts_with_subcommands = true,
    after_help = "Exit status: 0 done, 1 the command failed, 2 no such command, 3 a daemon does not answer."
)]
struct Arguments {
    /// Directory with the sockets of the daemons.
    #[arg(long, value_name = "DIR", default_value = "/run/holdfast", env = "HOLDFAST_RUN_DIR")]
    run_dir: PathBuf,
    /// Run this command and leave; may be given several times, the first that fails ends it.
    #[arg(short = 'c', long = "command", value_name = "COMMAND")]
    commands: Vec<String>,
    /// Put the lines of this file into the configuration in force, as after "configure terminal", and leave.
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with = "commands")]
    file: Option<PathBuf>,
    #[command(subcommand)]
    tool: Option<Tool>,
}

/// What needs no daemon.
#[derive(Debug, Subcommand)]
enum Tool {
    /// Make an authority, certificates for sites, and revocation lists.
    #[command(subcommand)]
    Pki(pki::Command),
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if let Some(Tool::Pki(command)) = arguments.tool.take() {
        return pki::run(command);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("holdfast: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let runner = Runner::new(arguments.run_dir);
    if let Some(file) = &arguments.file {
        let lines = match std::fs::read_to_string(file) {
            Ok(lines) => lines,
            Err(error) => {
                eprintln!("holdfast: {}: {error}", file.display());
                return ExitCode::FAILURE;
            }
        };
        let mut console = Console::new(runner, Typist::Script);
        console.configure();
        return runtime.block_on(run_all(&mut console, lines.lines())).into();
    }
    let terminal = std::io::stdin().is_terminal();
    if arguments.commands.is_empty() {
        let typist = if terminal { Typist::Person } else { Typist::Script };
        return interactive::run(&runtime, &mut Console::new(runner, typist), terminal).into();
    }
    let mut console = Console::new(runner, Typist::Script);
    runtime.block_on(run_all(&mut console, arguments.commands.iter().map(String::as_str))).into()
}

/// Runs lines until one fails.
async fn run_all<'a>(console: &mut Console, lines: impl Iterator<Item = &'a str>) -> Status {
    for line in lines {
        match console.line(line).await {
            Status::Done => {}
            other => return other,
        }
    }
    console.finish().await
}
