//! The project's own commands: `cargo xtask demo | test | bench | fuzz | licences`.

mod bench;
mod build;
mod demo;
mod fuzz;
mod kernel;
mod licences;
mod root;
mod suite;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Demonstrates, tests and measures Holdfast")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Two sites, two WANs, a fault: shows what happens, packet by packet
    Demo(demo::Options),
    /// Runs every test there is, the labs with real peers included
    Test(suite::Options),
    /// Measures
    Bench(bench::Options),
    /// Runs every fuzz target for a while
    Fuzz(fuzz::Options),
    /// Checks the licences of all dependencies against deny.toml
    Licences,
    /// Packs a table of prefixes and origins for integration/testdata
    #[command(hide = true)]
    PackTable {
        /// Lines of prefix, tab, origin AS
        text: PathBuf,
        /// The packed table
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a task; `false` means that it ran and something did not hold.
fn run(task: Task) -> Result<bool> {
    match task {
        Task::Demo(options) => demo::run(&options),
        Task::Test(options) => suite::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Licences => licences::run(),
        Task::PackTable { text, out } => {
            let table = integration::prefixes::read_text(&std::fs::read_to_string(text)?)?;
            let packed = integration::prefixes::pack(&table)?;
            std::fs::write(&out, packed).with_context(|| format!("cannot write {}", out.display()))?;
            Ok(true)
        }
    }
}
