//! `cargo xtask test`: everything, from unit tests to real peers, with one line at the end.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use clap::Args;
use integration::{packages, topotests};

use crate::{build, fuzz, kernel, licences, root};

/// What to test.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds for each fuzz target; 0 leaves fuzzing out
    #[arg(long, default_value_t = 3)]
    fuzz_seconds: u32,
    /// Only the labs (namespaces and real peers)
    #[arg(long)]
    labs: bool,
    /// Only what needs another kernel than this machine's: TCP-AO, VRF devices and the kernel's datapath, in a guest
    #[arg(long)]
    kernel: bool,
    /// The program that boots the guest: PROGRAM --kernel new --timeout SECONDS -- COMMAND
    #[arg(long, value_name = "PROGRAM")]
    kernelbox: Option<PathBuf>,
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// No part of the suite may take longer than this.
const UNIT_LIMIT: &str = "1800";
const LAB_LIMIT: &str = "1800";

#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

/// Runs the suite; `false` when something failed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut tally = Tally::default();
    packages::ensure(
        &[&packages::BASE[..], &packages::PEERS[..], &packages::NAT[..], &topotests::PACKAGES[..]].concat(),
    )?;
    let binaries = build::daemons()?;
    if options.kernel {
        let argv = kernel::command(options.kernelbox.clone(), &binaries)?;
        tally.run(&argv, &binaries.path(""))?;
        println!("{} passed, {} failed", tally.passed, tally.failed);
        return Ok(tally.failed == 0);
    }
    let whole = !options.labs && options.filter.is_none();
    if whole {
        tally.count("licences", licences::run());
    }
    let filter: Vec<&str> = options.filter.as_deref().into_iter().collect();
    if !options.labs {
        let mut argv = limited(UNIT_LIMIT, &["test", "--workspace", "--no-fail-fast"]);
        argv.extend(filter.iter().map(|word| (*word).to_owned()));
        tally.cargo_test(&argv)?;
    }
    // The labs measure and wait: two at once would disturb each other on a small machine.
    let mut argv: Vec<String> = root::wrapper().into_iter().map(str::to_owned).collect();
    argv.extend(limited(LAB_LIMIT, &["test", "-p", "integration", "--tests", "--no-fail-fast", "--offline"]));
    argv.extend(filter.iter().map(|word| (*word).to_owned()));
    argv.extend(["--", "--ignored", "--test-threads=1"].map(str::to_owned));
    tally.cargo_test_with(&argv, &binaries.path(""))?;
    if whole && options.fuzz_seconds > 0 {
        match fuzz::all(options.fuzz_seconds, &[]) {
            Ok(verdict) => {
                tally.passed += verdict.passed;
                tally.failed += verdict.failed;
            }
            Err(error) => tally.count("fuzz", Err(error)),
        }
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(tally.failed == 0)
}

/// A call of cargo that `timeout` ends when it takes too long.
fn limited(seconds: &str, arguments: &[&str]) -> Vec<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let head = ["timeout", "--kill-after=10", seconds, &cargo].map(str::to_owned);
    head.into_iter().chain(arguments.iter().map(|word| (*word).to_owned())).collect()
}

impl Tally {
    fn count(&mut self, what: &str, outcome: Result<bool>) {
        match outcome {
            Ok(true) => self.passed += 1,
            Ok(false) => self.failed += 1,
            Err(error) => {
                println!("{what}: {error:#}");
                self.failed += 1;
            }
        }
    }

    fn cargo_test(&mut self, argv: &[String]) -> Result<()> {
        self.cargo_test_with(argv, "")
    }

    /// Runs cargo's tests, passing on what they print and adding up what they say.
    fn cargo_test_with(&mut self, argv: &[String], binaries: &str) -> Result<()> {
        self.run(&argv.iter().map(OsString::from).collect::<Vec<_>>(), binaries)
    }

    fn run(&mut self, argv: &[OsString], binaries: &str) -> Result<()> {
        let (program, arguments) = argv.split_first().context("an empty command")?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(build::workspace()).stdout(Stdio::piped());
        if !binaries.is_empty() {
            command.env("HOLDFAST_BIN", binaries);
        }
        let mut child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
        let before = self.failed;
        for line in BufReader::new(child.stdout.take().context("no standard output")?).lines() {
            let line = line?;
            println!("{line}");
            self.add(&line);
        }
        let status = child.wait()?;
        // What did not even build, or was ended for taking too long, has no result line.
        if !status.success() && self.failed == before {
            println!("{}: {status}", argv.join(OsStr::new(" ")).display());
            self.failed += 1;
        }
        Ok(())
    }

    /// `test result: ok. 3 passed; 0 failed; ...`
    fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        let number = |word: &str| {
            let parts = rest.split([';', '.']).map(str::trim);
            parts.filter_map(|part| part.strip_suffix(word)?.trim().parse::<usize>().ok()).next().unwrap_or(0)
        };
        self.passed += number("passed");
        self.failed += number("failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_added_up() {
        let mut tally = Tally::default();
        for line in [
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s",
            "test some::name ... ok",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.81s",
        ] {
            tally.add(line);
        }
        assert_eq!((tally.passed, tally.failed), (15, 2));
    }
}
