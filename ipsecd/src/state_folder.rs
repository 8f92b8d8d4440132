//! What the daemon keeps from one life to the next: the secret of its crash tokens (RFC 6290).
//!
//! Without it peers find out about a crash by dead peer detection, and all else works: so what goes wrong here is said and
//! does not keep the daemon from starting.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use ike_crypto::CrashTokenSecret;
use rand::TryRngCore as _;
use zeroize::Zeroizing;

/// The file in the state folder; the secret as it is, readable by its owner only.
const FILE: &str = "crash-token.secret";

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}: {error}; peers will need dead peer detection to notice a crash of this daemon")]
pub struct StateError {
    what: &'static str,
    path: PathBuf,
    #[source]
    error: io::Error,
}

/// Reads the secret of the daemon's earlier lives, or draws one and keeps it.
///
/// A file that others may read, or of another length, is replaced: it is no secret.
///
/// # Errors
/// When the folder or the file cannot be made, or the system has no randomness.
pub fn crash_token_secret(folder: &Path) -> Result<CrashTokenSecret, StateError> {
    let path = folder.join(FILE);
    if let Some(known) = read(&path) {
        return Ok(CrashTokenSecret::new(&known));
    }
    let failed = |what, error| StateError { what, path: path.clone(), error };
    let made = fs::DirBuilder::new().recursive(true).mode(0o750).create(folder);
    made.map_err(|error| failed("making the folder of", error))?;
    let mut secret = Zeroizing::new([0; CrashTokenSecret::OCTETS]);
    let drawn = rand::rngs::OsRng.try_fill_bytes(secret.as_mut());
    drawn.map_err(|error| failed("drawing", io::Error::other(error)))?;
    write(folder, &path, &secret[..]).map_err(|error| failed("writing", error))?;
    Ok(CrashTokenSecret::new(&secret))
}

fn read(path: &Path) -> Option<Zeroizing<[u8; CrashTokenSecret::OCTETS]>> {
    let mut file = fs::File::open(path).ok()?;
    let shared = file.metadata().ok()?.permissions().mode() & 0o077 != 0;
    if shared {
        tracing::warn!(path = %path.display(), "others could read this secret; it is replaced");
        return None;
    }
    let mut secret = Zeroizing::new([0; CrashTokenSecret::OCTETS]);
    file.read_exact(secret.as_mut()).ok()?;
    Some(secret)
}

/// Whole or not at all: a daemon that is killed meanwhile leaves no half of a secret.
fn write(folder: &Path, path: &Path, secret: &[u8]) -> io::Result<()> {
    let draft = folder.join(format!("{FILE}.new"));
    let _none_is_left = fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(secret)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use ike_wire::IkeSpi;

    use super::*;

    fn token(folder: &Path) -> Vec<u8> {
        let spi = |spi| IkeSpi::new(spi).unwrap();
        crash_token_secret(folder).unwrap().token((spi(1), spi(2)), true).to_notify()
    }

    #[test]
    fn the_secret_outlives_the_daemon_and_is_its_owners() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("holdfast");
        let first = token(&folder);
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(folder.join(FILE)), 0o600);
        assert_eq!(token(&folder), first);
        fs::set_permissions(folder.join(FILE), fs::Permissions::from_mode(0o640)).unwrap();
        let second = token(&folder);
        assert_ne!(second, first, "what others could read is no secret");
        fs::write(folder.join(FILE), "short").unwrap();
        assert_ne!(token(&folder), second);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let error = crash_token_secret(Path::new("/proc/holdfast")).map(drop).unwrap_err().to_string();
        assert!(error.starts_with("making the folder of /proc/holdfast/crash-token.secret: "), "{error}");
    }
}
