//! Running a command in a daemon, within bounded time.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use rpc::{Client, ClientError, Execute};

/// How long a daemon may take to accept us, and how long it may fall silent. It answers at once or is in trouble: a
/// shell that waits for longer is a shell that freezes.
const CONNECT: Duration = Duration::from_secs(2);
const SILENCE: Duration = Duration::from_secs(10);

/// One of the two daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Daemon {
    /// BGP, BFD, the FIB.
    Bgpd,
    /// IKE, ESP, WAN links.
    Ipsecd,
}

impl Daemon {
    /// Its socket in `run_dir`.
    pub fn socket(self, run_dir: &Path) -> PathBuf {
        run_dir.join(match self {
            Self::Bgpd => rpc::BGPD_SOCKET,
            Self::Ipsecd => rpc::IPSECD_SOCKET,
        })
    }
}

impl fmt::Display for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bgpd => "bgpd",
            Self::Ipsecd => "ipsecd",
        })
    }
}

/// Why a command has no (whole) answer.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Nobody is there, or it does not let us in.
    #[error("% {daemon} cannot be reached: {error}\n  Is it running? Its socket is looked for at {}", socket.display())]
    Unreachable {
        /// Which daemon.
        daemon: Daemon,
        /// Where it was looked for.
        socket: PathBuf,
        /// What went wrong.
        error: ClientError,
    },
    /// It does not answer in time.
    #[error("% {daemon} has said nothing for {} s; the command was given up", waited.as_secs())]
    Silent {
        /// Which daemon.
        daemon: Daemon,
        /// For how long it was waited.
        waited: Duration,
    },
    /// It refused, or the connection broke in the middle.
    #[error("{0}")]
    Failed(String),
}

/// Runs `line` in `daemon`, handing each piece of its output to `out`.
///
/// # Errors
/// When the daemon cannot be reached, falls silent, or refuses; what came before has been handed over.
pub async fn execute(
    daemon: Daemon,
    run_dir: &Path,
    line: &str,
    mut out: impl FnMut(&str) -> std::io::Result<()>,
) -> Result<(), RemoteError> {
    let socket = daemon.socket(run_dir);
    let connected = tokio::time::timeout(CONNECT, Client::connect(&socket, "holdfast")).await;
    let client = match connected {
        Err(_) => return Err(RemoteError::Silent { daemon, waited: CONNECT }),
        Ok(Err(error)) => return Err(RemoteError::Unreachable { daemon, socket, error }),
        Ok(Ok(client)) => client,
    };
    let silent = |_| RemoteError::Silent { daemon, waited: SILENCE };
    let refused = |error: ClientError| match error {
        ClientError::Failed(failure) => RemoteError::Failed(failure.message),
        other => RemoteError::Failed(format!("% {daemon}: {other}")),
    };
    let request = Execute { line: line.to_owned() };
    let mut stream = tokio::time::timeout(SILENCE, client.stream(&request)).await.map_err(silent)?.map_err(refused)?;
    loop {
        match tokio::time::timeout(SILENCE, stream.next()).await.map_err(silent)? {
            Some(Ok(text)) => {
                out(&text.0).map_err(|error| RemoteError::Failed(format!("% cannot print: {error}")))?;
            }
            Some(Err(error)) => return Err(refused(error)),
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rpc::{Code, Failure, Limits, Server, Service, Text};

    use super::*;

    fn collect(pieces: &mut String) -> impl FnMut(&str) -> std::io::Result<()> {
        |piece| {
            pieces.push_str(piece);
            Ok(())
        }
    }

    #[tokio::test]
    async fn output_comes_in_pieces_and_a_refusal_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let service = Service::new("bgpd").stream::<Execute, _, _>(|_, request, sink| async move {
            if request.line == "bad" {
                return Err(Failure::new(Code::BadRequest, "% no such command"));
            }
            for word in request.line.split(' ') {
                sink.send(&Text(format!("{word}\n"))).await?;
            }
            Ok(())
        });
        let server = Server::bind(&Daemon::Bgpd.socket(dir.path()), service, Limits::default()).unwrap();
        tokio::spawn(server.run());

        let mut out = String::new();
        execute(Daemon::Bgpd, dir.path(), "show bgp", collect(&mut out)).await.unwrap();
        assert_eq!(out, "show\nbgp\n");
        let refused = execute(Daemon::Bgpd, dir.path(), "bad", collect(&mut out)).await;
        assert!(matches!(refused, Err(RemoteError::Failed(text)) if text.contains("no such command")));
    }

    #[tokio::test]
    async fn a_daemon_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = execute(Daemon::Ipsecd, dir.path(), "show wan", |_| Ok(())).await.unwrap_err();
        assert!(error.to_string().contains("% ipsecd cannot be reached"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_hangs_does_not_hang_the_shell() {
        let dir = tempfile::tempdir().unwrap();
        let listener = tokio::net::UnixListener::bind(Daemon::Bgpd.socket(dir.path())).unwrap();
        let error = execute(Daemon::Bgpd, dir.path(), "show bgp", |_| Ok(())).await.unwrap_err();
        drop(listener);
        assert!(matches!(error, RemoteError::Silent { .. } | RemoteError::Unreachable { .. }), "{error}");
    }
}
