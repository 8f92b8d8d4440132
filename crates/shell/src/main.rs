//! `holdfast`: the shell of bgpd and ipsecd.
//!
//! It knows the commands by the grammar that the daemons read them with, and leaves running them to the daemon that a command
//! belongs to. It holds no state of its own and trusts no output: what a remote could have put into it cannot move the cursor.

mod daemon;
mod filter;
mod interactive;
mod run;

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use clap::Parser;

use run::{Runner, Status};

/// Shell of bgpd and ipsecd.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast",
    version,
    about,
    after_help = "Exit status: 0 done, 1 the command failed, 2 no such command, 3 a daemon does not answer."
)]
struct Arguments {
    /// Directory with the sockets of the daemons.
    #[arg(long, value_name = "DIR", default_value = "/run/holdfast", env = "HOLDFAST_RUN_DIR")]
    run_dir: PathBuf,
    /// Run this command and leave; may be given several times, the first that fails ends it.
    #[arg(short = 'c', long = "command", value_name = "COMMAND")]
    commands: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("holdfast: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let runner = Runner::new(arguments.run_dir);
    if arguments.commands.is_empty() {
        return interactive::run(&runtime, &runner, std::io::stdin().is_terminal()).into();
    }
    let mut status = Status::Done;
    for line in &arguments.commands {
        status = runtime.block_on(runner.run(line));
        if status != Status::Done {
            break;
        }
    }
    status.into()
}
