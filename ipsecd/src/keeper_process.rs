//! The process that keeps the tunnel devices: `ipsecd keep-tunnels`, started as needed and outliving this one.

use std::{
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use dataplane::{KeeperDoor, keeper};

/// Its socket within the run-dir.
pub const KEEPER_SOCKET: &str = "keeper.sock";
/// Its name on the command line.
pub const KEEPER_COMMAND: &str = "keep-tunnels";
/// A process that has not opened its socket by then will not.
const START: Duration = Duration::from_secs(5);

/// A way to the keeper of `run_dir`, which starts one where none answers.
pub fn door(run_dir: &Path) -> KeeperDoor {
    let run_dir = run_dir.to_owned();
    Arc::new(move || {
        let socket = run_dir.join(KEEPER_SOCKET);
        keeper::Client::connect(&socket).or_else(|_| start(&run_dir, &socket))
    })
}

/// What `ipsecd keep-tunnels` does.
///
/// # Errors
/// When its socket cannot be made, or another keeper answers there.
pub fn run(run_dir: &Path) -> io::Result<()> {
    // Stops and interrupts meant for the daemon do not reach it: it leads a session of its own.
    let _already_leader = rustix::process::setsid();
    let _as_it_was = sys::sched::set_nice(0);
    keeper::serve(&run_dir.join(KEEPER_SOCKET))
}

fn start(run_dir: &Path, socket: &Path) -> io::Result<keeper::Client> {
    let mut command = Command::new(this_program()?);
    command
        .arg0("ipsecd")
        .arg(KEEPER_COMMAND)
        .arg("--run-dir")
        // The keeper works elsewhere, so that it keeps no file system busy: a relative path would lead it astray.
        .arg(std::path::absolute(run_dir)?)
        .current_dir("/")
        .stdin(Stdio::null())
        // It outlives the daemon: whoever reads the daemon's output to its end must not wait for it.
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    let mut child = command.spawn()?;
    let deadline = Instant::now() + START;
    loop {
        match keeper::Client::connect(socket) {
            Ok(client) => {
                tracing::info!(pid = child.id(), "started the keeper of tunnel devices");
                // Reaps it when it ends, which is when the last tunnel is removed.
                thread::Builder::new().name("keeper-wait".into()).spawn(move || child.wait())?;
                return Ok(client);
            }
            Err(error) if Instant::now() >= deadline => {
                return Err(io::Error::new(
                    error.kind(),
                    format!("the keeper does not answer on {}: {error}", socket.display()),
                ));
            }
            Err(_) => {}
        }
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!(
                "the keeper ended at once, {status}; is {} writable?",
                run_dir.display()
            )));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The running program, also when its file has been replaced by an upgrade.
fn this_program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    Ok(if path.exists() { path } else { PathBuf::from("/proc/self/exe") })
}
