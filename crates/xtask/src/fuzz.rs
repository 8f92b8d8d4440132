//! `cargo xtask fuzz`: every fuzz target, briefly, on the stable compiler.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::build::{cargo, workspace};

/// Coverage as libFuzzer wants it. cargo-fuzz asks for the same through an option of the nightly compiler; the pass
/// itself is in the stable one. Without the address sanitizer, which safe code does not need.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                        -Cllvm-args=-sanitizer-coverage-trace-compares";

/// How long to fuzz.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds for each target
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Only these targets
    targets: Vec<String>,
}

/// How many targets held and how many did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

/// Runs the targets; `false` when one found something.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let verdict = all(options.seconds, &options.targets)?;
    println!("{} fuzz targets held, {} did not", verdict.passed, verdict.failed);
    Ok(verdict.failed == 0)
}

/// Builds and runs all targets, or those named.
pub(crate) fn all(seconds: u32, only: &[String]) -> Result<Verdict> {
    let folder = workspace().join("fuzz");
    let triple = host_triple()?;
    let built = cargo()
        .current_dir(&folder)
        .args(["build", "--quiet", "--release", "--bins", "--target", &triple])
        .env("RUSTFLAGS", COVERAGE)
        .status()
        .context("cannot run cargo")?;
    ensure!(built.success(), "the fuzz targets do not build");
    let mut verdict = Verdict::default();
    for target in targets(&folder)? {
        if !only.is_empty() && !only.contains(&target) {
            continue;
        }
        let program = folder.join("target").join(&triple).join("release").join(&target);
        if fuzz(&folder, &target, &program, seconds)? {
            verdict.passed += 1;
        } else {
            verdict.failed += 1;
        }
    }
    Ok(verdict)
}

/// Runs one target; `true` when it found nothing.
fn fuzz(folder: &Path, target: &str, program: &Path, seconds: u32) -> Result<bool> {
    let artifacts = folder.join("artifacts").join(target);
    std::fs::create_dir_all(&artifacts)?;
    // The first folder takes what is new; the seeds are only read.
    let found = tempfile::tempdir()?;
    let seeds = folder.join("corpus").join(target);
    let mut command = Command::new(program);
    command
        .arg(format!("-max_total_time={seconds}"))
        .args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(found.path());
    if seeds.is_dir() {
        command.arg(&seeds);
    }
    let outcome = command.output().with_context(|| format!("cannot run {}", program.display()))?;
    let log = String::from_utf8_lossy(&outcome.stderr);
    let runs = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:")).map_or("?", str::trim);
    if outcome.status.success() {
        println!("fuzz {target}: ok, {runs} inputs");
    } else {
        println!("fuzz {target}: FAILED\n{log}");
    }
    Ok(outcome.status.success())
}

/// The targets as the manifest lists them.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let output = cargo().current_dir(folder).args(["metadata", "--no-deps", "--format-version", "1"]).output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")?;
    let targets = metadata.pointer("/packages/0/targets").and_then(Value::as_array).context("no targets")?;
    let is_binary =
        |target: &&Value| target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "bin"));
    Ok(targets.iter().filter(is_binary).filter_map(|target| Some(target["name"].as_str()?.to_owned())).collect())
}

fn host_triple() -> Result<String> {
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("-vV").output()?;
    let text = String::from_utf8(output.stdout)?;
    let triple = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    Ok(triple.to_owned())
}
