//! FRR's own topology tests, run against our programs.
//!
//! They come from the distribution's source package and never into this repository. Their harness starts daemons by FRR's
//! names and asks `vtysh`; the stand-ins in `integration/frr` pass both on to ours. Each test runs in a process-id namespace
//! of its own, because the harness ends whatever it takes for a leftover of an earlier run.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::edge::Binaries;
use crate::exec;
use crate::process::tail;

/// Debian packages that the tests need beside those of every lab.
pub const PACKAGES: [&str; 7] =
    ["frr", "frr-pythontools", "python3-pytest", "python3-pexpect", "tcpdump", "ethtool", "exabgp"];

/// An exported tree of tests.
#[derive(Debug)]
pub struct Topotests {
    tests: PathBuf,
    /// Gone with the last user, unless it was there before.
    _export: Option<tempfile::TempDir>,
}

impl Topotests {
    /// The tests of the packaged release of FRR: those under `$FRR_TOPOTESTS`, or fetched as a source package.
    ///
    /// # Errors
    /// Why they cannot be had, which says nothing about our programs.
    pub fn fetch() -> Result<Self> {
        if let Some(folder) = std::env::var_os("FRR_TOPOTESTS") {
            let tests = PathBuf::from(folder);
            ensure!(tests.join("conftest.py").is_file(), "{} has no conftest.py", tests.display());
            return Ok(Self { tests, _export: None });
        }
        let export = tempfile::tempdir()?;
        download(export.path())?;
        let archive = fs::read_dir(export.path())?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.to_string_lossy().contains(".orig.tar."))
            .context("the source package has no .orig.tar")?;
        let folder = export.path().join("tree");
        fs::create_dir(&folder)?;
        let (archive, folder) = (archive.into_os_string(), folder.into_os_string());
        let words = ["--strip-components=1", "--wildcards", "*/tests/topotests"].map(OsString::from);
        let mut argv = vec!["tar".into(), "xf".into(), archive, "-C".into(), folder.clone()];
        argv.extend(words);
        exec::output(&argv)?;
        Ok(Self { tests: Path::new(&folder).join("tests/topotests"), _export: Some(export) })
    }

    /// Runs one folder of tests against `binaries`.
    ///
    /// # Errors
    /// With the end of what it printed, when a test failed, none ran, or they took longer than `limit`.
    pub fn run(&self, name: &str, binaries: &Binaries, limit: Duration) -> Result<()> {
        let stand_ins = Path::new(env!("CARGO_MANIFEST_DIR")).join("frr");
        let run = tempfile::tempdir()?;
        let console = run.path().join("console.txt");
        let path = std::env::var("PATH").unwrap_or_default();
        let bgpd = binaries.path("bgpd");
        let folder = Path::new(&bgpd).parent().context("a program in no folder")?;
        let mut child = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc"])
            // A shell is the first process, since some programs do not detach from that one.
            .args(["/bin/sh", "-c", "\"$@\"; exit $?", "sh"])
            .args(["/usr/bin/python3", "-m", "pytest", "-p", "no:cacheprovider", "-p", "topotest_plugin", "-q"])
            .arg(format!("--rundir={}", run.path().display()))
            .arg(name)
            .current_dir(&self.tests)
            .env("PYTHONPATH", &stand_ins)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("FRRDIR", stand_ins.join("lib"))
            .env("HOLDFAST_BIN", folder)
            .env("PATH", format!("{}:{path}", stand_ins.join("bin").display()))
            .stdin(Stdio::null())
            .stdout(fs::File::create(&console)?)
            .stderr(fs::File::options().append(true).open(&console)?)
            .spawn()
            .context("cannot run `unshare` (package util-linux)")?;
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                child.kill()?; // The namespace ends with it.
                child.wait()?;
                bail!("{name} has not ended after {limit:?}: {}", said(&console));
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        // pytest ends with 5 when no test ran.
        ensure!(status.success(), "{name} ended with {status}: {}", said(&console));
        Ok(())
    }
}

fn said(console: &Path) -> String {
    let bytes = fs::read(console).unwrap_or_default();
    tail(&String::from_utf8_lossy(&bytes), 40)
}

/// Fetches the source package into `folder`, by package lists of its own: those of the machine name no sources.
fn download(folder: &Path) -> Result<()> {
    let (lists, parts) = (folder.join("lists"), folder.join("parts"));
    fs::create_dir_all(lists.join("partial"))?;
    fs::create_dir_all(&parts)?;
    let mut found = false;
    for entry in fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "sources") {
            let text = fs::read_to_string(&path)?.replace("Types: deb\n", "Types: deb-src\n");
            fs::write(parts.join(entry.file_name()), text)?;
            found = true;
        }
    }
    if let Ok(text) = fs::read_to_string("/etc/apt/sources.list") {
        let lines = text.lines().filter_map(|line| line.strip_prefix("deb ")).map(|rest| format!("deb-src {rest}\n"));
        let lines: String = lines.collect();
        found |= !lines.is_empty();
        fs::write(parts.join("machine.list"), lines)?;
    }
    ensure!(found, "this machine has no package sources");
    let apt = |words: &[&str]| {
        let options = [
            "Dir::Etc::sourcelist=/dev/null".to_owned(),
            format!("Dir::Etc::sourceparts={}", parts.display()),
            format!("Dir::State::lists={}", lists.display()),
            "APT::Sandbox::User=root".to_owned(),
        ];
        let mut command = Command::new("apt-get");
        command.args(options.iter().flat_map(|option| ["-o", option])).arg("-qq").args(words).current_dir(folder);
        exec::finish(command.stdin(Stdio::null()).output(), words)
    };
    apt(&["update"])?;
    apt(&["source", "--download-only", "frr"])?;
    Ok(())
}
