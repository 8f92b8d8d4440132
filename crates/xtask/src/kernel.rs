//! `cargo xtask test --kernel`: tests of what the machine's own kernel may not have (TCP-AO, VRF devices, uneven paths by netem,
//! ESP with xfrm interfaces), under one that has.
//!
//! A program that boots another kernel over this machine's files and runs a command there is somebody else's: its path comes by
//! `--kernelbox` or `HOLDFAST_KERNELBOX`. It is called `PROGRAM --kernel new --timeout SECONDS -- COMMAND…`, and has to pass
//! on the environment, what COMMAND prints, and how it ends. Everything is built before, so that the guest only runs it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use integration::edge::Binaries;
use integration::kernel::{DATAPATH, REQUIRED};
use serde::Deserialize;

use crate::build;

/// Where the program is looked for unless the command line says it.
const VARIABLE: &str = "HOLDFAST_KERNELBOX";
/// Seconds for all of it; an emulated processor is slow.
const LIMIT: &str = "3600";

/// Something that runs in the guest.
struct Test {
    package: &'static str,
    target: &'static str,
    /// What its program is told.
    arguments: &'static str,
    /// The datapath of its tunnels.
    datapath: &'static str,
}

/// What runs in the guest. Lifetimes of less than a minute are nothing for an emulated processor, and the kernel finds out about
/// paths by itself. A fault of the two sites takes minutes there: one that only BFD notices, and one of what is the datapath's.
const TESTS: [Test; 11] = [
    Test { package: "sys", target: "sys", arguments: "tcp_ao", datapath: "userspace" },
    Test { package: "integration", target: "tcp_ao", arguments: "--ignored --test-threads=1", datapath: "userspace" },
    Test { package: "integration", target: "vpn", arguments: "--ignored --test-threads=1", datapath: "userspace" },
    Test {
        package: "integration",
        target: "bfd",
        arguments: "--ignored --test-threads=1 intervals_follow_an_uneven_path",
        datapath: "userspace",
    },
    Test { package: "dataplane", target: "kernel", arguments: "--test-threads=1", datapath: "kernel" },
    Test {
        package: "integration",
        target: "ipsecd",
        arguments: "--ignored --test-threads=1 --skip keys_are_renewed --skip a_path_that_takes_less",
        datapath: "kernel",
    },
    Test {
        package: "integration",
        target: "strongswan",
        arguments: "--ignored --test-threads=1 --skip we_rekey_the_child_and_the_ike_sa",
        datapath: "kernel",
    },
    Test { package: "integration", target: "gre", arguments: "--ignored --test-threads=1", datapath: "kernel" },
    Test { package: "integration", target: "recovery", arguments: "--ignored --test-threads=1", datapath: "kernel" },
    Test {
        package: "integration",
        target: "two_isp",
        arguments: "--ignored --test-threads=1 a_silent_wan a_killed_ipsecd",
        datapath: "kernel",
    },
    Test {
        package: "integration",
        target: "designs",
        arguments: "--ignored --test-threads=1 --exact ipsec_ha",
        datapath: "kernel",
    },
];

/// The call of the guest, to be run with its output read.
pub(crate) fn command(program: Option<PathBuf>, binaries: &Binaries) -> Result<Vec<OsString>> {
    let mut script =
        format!("export HOLDFAST_BIN='{}' {REQUIRED}=1; worst=0;", binaries.path("").trim_end_matches('/'));
    let built = built()?;
    for Test { package, target, arguments, datapath } in TESTS {
        let found = built.iter().find(|built| built.is(package, target));
        let executable = found.and_then(|built| built.executable.as_deref());
        let executable = executable.with_context(|| format!("cargo built no test {target} of {package}"))?;
        script += &format!(" {DATAPATH}={datapath} '{executable}' {arguments} || worst=1;");
    }
    script += " exit $worst";
    guest(program, &["sh".to_owned(), "-c".to_owned(), script])
}

/// The call of the guest for a command. The program's path comes from the command line or the environment.
pub(crate) fn guest(program: Option<PathBuf>, command: &[String]) -> Result<Vec<OsString>> {
    let program = program
        .or_else(|| std::env::var_os(VARIABLE).map(PathBuf::from))
        .with_context(|| format!("no program to boot another kernel with: name it by --kernelbox, or in {VARIABLE}"))?;
    let words = ["--kernel", "new", "--timeout", LIMIT, "--"].map(OsString::from);
    Ok(std::iter::once(program.into_os_string()).chain(words).chain(command.iter().map(OsString::from)).collect())
}

/// Runs this same program in the guest, with these arguments; whether it succeeded.
pub(crate) fn again_in_guest(program: Option<PathBuf>, binaries: &Binaries, arguments: &[&str]) -> Result<bool> {
    let this = std::env::current_exe()?;
    let this = this.to_str().context("a path that is not UTF-8")?;
    let (folder, required) = (format!("HOLDFAST_BIN={}", binaries.path("")), format!("{REQUIRED}=1"));
    let words: Vec<_> = ["env", &folder, &required, this].into_iter().chain(arguments.iter().copied()).collect();
    let argv = guest(program, &words.into_iter().map(str::to_owned).collect::<Vec<_>>())?;
    let (program, arguments) = argv.split_first().context("an empty command")?;
    let status = Command::new(program).args(arguments).status();
    Ok(status.with_context(|| format!("cannot run {}", program.display()))?.success())
}

/// What cargo says of something that it built, as far as it matters here.
#[derive(Deserialize)]
struct Built {
    #[serde(default)]
    executable: Option<String>,
    #[serde(default)]
    package_id: String,
    #[serde(default)]
    target: Target,
}

#[derive(Default, Deserialize)]
struct Target {
    name: String,
}

impl Built {
    fn is(&self, package: &str, target: &str) -> bool {
        let package_is = self.package_id.split('#').next().is_some_and(|place| place.ends_with(&format!("/{package}")));
        package_is && self.target.name == target && self.executable.is_some()
    }
}

fn built() -> Result<Vec<Built>> {
    let mut cargo: Command = build::cargo();
    cargo.args(["test", "--no-run", "--message-format=json", "--quiet"]);
    for Test { package, target, .. } in TESTS {
        cargo.args(["-p", package]);
        if target == package {
            cargo.arg("--lib");
        } else {
            cargo.args(["--test", target]);
        }
    }
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "the tests do not build");
    read(&String::from_utf8_lossy(&output.stdout))
}

fn read(text: &str) -> Result<Vec<Built>> {
    text.lines().map(|line| serde_json::from_str(line).context("cargo prints something else than JSON")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_of_a_test_is_found_in_what_cargo_says() {
        let said = "{\"reason\":\"compiler-artifact\",\"package_id\":\"path+file:///src/crates/sys#0.1.0\",\
                    \"target\":{\"name\":\"sys\"},\"executable\":null}\n\
                    {\"reason\":\"compiler-artifact\",\"package_id\":\"path+file:///src/crates/sys#0.1.0\",\
                    \"target\":{\"name\":\"sys\"},\"executable\":\"/t/sys-1\"}\n{\"reason\":\"build-finished\"}\n";
        let built = read(said).unwrap();
        let found: Vec<_> = built.iter().filter(|built| built.is("sys", "sys")).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].executable.as_deref(), Some("/t/sys-1"));
        assert!(!built.iter().any(|built| built.is("integration", "sys")));
    }
}
