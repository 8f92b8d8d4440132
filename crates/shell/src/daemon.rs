//! The two daemons, as the shell sees them.

use std::path::{Path, PathBuf};

use config::Owner;
use rpc::ClientError;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Daemon {
    Bgpd,
    Ipsecd,
}

impl Daemon {
    /// As it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bgpd => "bgpd",
            Self::Ipsecd => "ipsecd",
        }
    }

    /// Its socket within `run_dir`.
    pub(crate) fn socket(self, run_dir: &Path) -> PathBuf {
        run_dir.join(match self {
            Self::Bgpd => rpc::BGPD_SOCKET,
            Self::Ipsecd => rpc::IPSECD_SOCKET,
        })
    }

    /// Those who run a command of `owner`.
    pub(crate) fn of(owner: Owner) -> &'static [Self] {
        match owner {
            Owner::Bgpd => &[Self::Bgpd],
            Owner::Ipsecd => &[Self::Ipsecd],
            Owner::Either | Owner::Both => &[Self::Bgpd, Self::Ipsecd],
            Owner::Shell => &[],
        }
    }

    /// What it means that it could not be reached, and what to do.
    pub(crate) fn explain(self, run_dir: &Path, error: &ClientError) -> String {
        let name = self.name();
        match error {
            ClientError::Connect { error, .. } if error.kind() == std::io::ErrorKind::PermissionDenied => format!(
                "{name}: this user may not open {}; become root or a member of the group holdfast",
                self.socket(run_dir).display()
            ),
            ClientError::Connect { .. } => format!(
                "{name} does not run here: nobody serves {}; look at \"systemctl status {name}\" or \"journalctl -u {name}\", \
                 or name another directory with --run-dir",
                self.socket(run_dir).display()
            ),
            ClientError::Silent(_) => format!(
                "{name} runs but does not answer; its log, \"journalctl -u {name}\", may tell what it is busy with"
            ),
            ClientError::Lost(why) => format!("{name} went away during the command: {why}"),
            other => format!("{name}: {other}"),
        }
    }
}
