//! Key material from files, on its way to the IKE engine.
//!
//! Files are read whole, once, into memory that is wiped. A secret that others on the machine may read is refused, not
//! only warned of: whoever starts with a bad habit keeps it.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use config::model::{self, IkeId, ListSource};
use ike_crypto::{
    CertificateChain, CertificateFileError, CredentialError, EmptyPpk, Identity, IdentityError, LocalCredential,
    PeerCredential, PeerPolicy, Ppk, PrivateKey, PrivateKeyError, RevocationPolicy, SecretBytes, TrustAnchors,
    pki::{Fingerprint, Requirements, RevocationList},
};
use rustix::fs::{Mode, OFlags};
use zeroize::{Zeroize, Zeroizing};

use crate::trust::read_list;

/// More than any certificate bundle or key.
const MAX_FILE_OCTETS: u64 = 1 << 20;
/// Permissions of group and others.
const NOT_OURS: u32 = 0o077;

/// An `ipsec identity` with its material.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Who we are.
    pub id: Identity,
    /// By what we prove it.
    pub local: Arc<LocalCredential>,
    /// By what peers prove who they are.
    pub peer: Arc<PeerCredential>,
}

/// An identity that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its `id` is none.
    #[error("id \"{id}\": {reason}")]
    Id {
        /// As configured.
        id: String,
        /// Why.
        #[source]
        reason: IdentityError,
    },
    /// A file.
    #[error("{what} {}: {reason}", .path.display())]
    File {
        /// As the configuration calls it.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        reason: FileError,
    },
    /// The parts do not fit each other.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The postquantum preshared key.
    #[error(transparent)]
    Ppk(#[from] EmptyPpk),
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Not a file.
    #[error("is not a regular file")]
    NotAFile,
    /// Too long for what it should be.
    #[error("is longer than {MAX_FILE_OCTETS} octets")]
    TooLong,
    /// Somebody else can read or change the secret in it.
    #[error("holds a secret and has mode {mode:04o}: others may use it; run chmod 600 on it")]
    Permissions {
        /// What was found.
        mode: u32,
    },
    /// Not the certificates it should hold.
    #[error(transparent)]
    Certificates(#[from] CertificateFileError),
    /// Not a revocation list.
    #[error("{0}")]
    List(String),
    /// Not a key.
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
}

/// Reads what an identity names and checks that it fits together.
///
/// # Errors
/// The first thing that is wrong, with the file and what to do.
pub fn load(identity: &model::Identity) -> Result<Loaded, LoadError> {
    let id = identity_of(&identity.id)?;
    let (local, peer) = match &identity.credential {
        model::Credential::PreSharedKey { file } => {
            let (ours, theirs) = pre_shared_key(file)?;
            (LocalCredential::pre_shared_key(ours)?, PeerCredential::pre_shared_key(theirs)?)
        }
        model::Credential::Certificate { certificate, private_key, trust_anchors, revocation } => {
            let chain = open("certificate", certificate, |pem| Ok(CertificateChain::from_pem(&pem)?))?;
            let key = open_secret("private-key", private_key, |pem| Ok(PrivateKey::from_pem(&pem)?))?;
            let local = LocalCredential::certificate(chain, key)?;
            local.vouches_for(&id)?;
            let policy = PeerPolicy {
                revocation: match revocation.policy {
                    model::RevocationPolicy::Relaxed => RevocationPolicy::Relaxed,
                    model::RevocationPolicy::Strict => RevocationPolicy::Strict,
                },
                responder: revocation.responder.as_ref().map(|url| url.as_str().into()),
                ..PeerPolicy::trusting(anchors("trust-anchor", trust_anchors)?)
            };
            (local, PeerCredential::certificates(policy))
        }
    };
    Ok(Loaded { id, local: Arc::new(local), peer: Arc::new(peer) })
}

/// By what this tunnel's peer has to prove who it is: as its identity has it, and what the tunnel demands beyond.
///
/// # Errors
/// When a file or a name that the tunnel names cannot be read.
pub fn of_tunnel(identity: &Loaded, demands: &model::PeerDemands) -> Result<Arc<PeerCredential>, LoadError> {
    let policy = match identity.peer.policy() {
        Some(policy) if !demands.is_empty() => policy,
        // A demand on a pre-shared key is refused with the configuration.
        _ => return Ok(identity.peer.clone()),
    };
    let own = match &demands.authorities[..] {
        [] => policy.anchors.clone(),
        files => Arc::new(anchors("remote-ca", files)?),
    };
    let requirements = Requirements {
        names: demands.names.iter().map(identity_of).collect::<Result<_, _>>()?,
        units: demands.units.clone(),
        fingerprints: demands.fingerprints.iter().map(|pin| Fingerprint(pin.0)).collect(),
    };
    Ok(Arc::new(PeerCredential::certificates(PeerPolicy { anchors: own, requirements, ..policy.clone() })))
}

/// The lists that identities name: those in files read, those on servers still to be fetched.
///
/// # Errors
/// The first file that is no list.
pub fn lists(identity: &model::Identity) -> Result<Vec<(ListSource, Option<RevocationList>)>, LoadError> {
    let model::Credential::Certificate { revocation, .. } = &identity.credential else { return Ok(Vec::new()) };
    let read = |source: &ListSource| match source {
        ListSource::Url(_) => Ok((source.clone(), None)),
        ListSource::File(path) => match read_list(path) {
            Ok(list) => Ok((source.clone(), Some(list))),
            Err(reason) => {
                Err(LoadError::File { what: "crl file", path: path.clone(), reason: FileError::List(reason) })
            }
        },
    };
    revocation.lists.iter().map(read).collect()
}

/// The identity that the configuration means.
///
/// # Errors
/// When a distinguished name cannot be read; everything else was checked with the configuration.
pub fn identity_of(id: &IkeId) -> Result<Identity, LoadError> {
    Ok(match id {
        IkeId::Fqdn(name) => Identity::fqdn(name),
        IkeId::Email(address) => Identity::email(address),
        IkeId::Address(address) => Identity::Address(*address),
        IkeId::KeyId(octets) => Identity::KeyId(octets.clone()),
        IkeId::DistinguishedName(text) => text
            .parse()
            .map_err(|reason| LoadError::Id { id: text.clone(), reason: IdentityError::Dn(reason) })
            .map(Identity::Dn)?,
    })
}

/// One copy for each direction: both sides of a tunnel have the same key.
fn pre_shared_key(path: &Path) -> Result<(SecretBytes, SecretBytes), LoadError> {
    open_secret("pre-shared-key file", path, |octets| {
        let octets = without_line_ends(octets);
        Ok((SecretBytes::new(octets.clone()), SecretBytes::new(octets)))
    })
}

/// A tunnel's postquantum preshared key, read as other keys are.
///
/// # Errors
/// When the file cannot be read, others may read it, or it is empty.
pub fn ppk(ppk: Option<&model::Ppk>) -> Result<Option<Ppk>, LoadError> {
    let Some(model::Ppk { id, file, required }) = ppk else { return Ok(None) };
    let key = open_secret("ppk file", file, |octets| Ok(SecretBytes::new(without_line_ends(octets))))?;
    Ok(Some(Ppk::new(id.as_str(), key, *required)?))
}

/// A secret as it was meant: an editor's line ends are not part of it.
fn without_line_ends(mut octets: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    let end = octets.iter().rposition(|octet| !matches!(octet, b'\r' | b'\n')).map_or(0, |last| last + 1);
    octets.truncate(end);
    octets
}

fn anchors(what: &'static str, paths: &[PathBuf]) -> Result<TrustAnchors, LoadError> {
    let mut files = Vec::new();
    for path in paths {
        // Each on its own first, so that a mistake is told with its file.
        let pem = open(what, path, |pem| {
            TrustAnchors::from_pem([pem.as_slice()])?;
            Ok(pem)
        })?;
        files.push(pem);
    }
    TrustAnchors::from_pem(files.iter().map(|pem| pem.as_slice())).map_err(|reason| {
        let path = paths.first().cloned().unwrap_or_default();
        LoadError::File { what, path, reason: reason.into() }
    })
}

fn open<T>(
    what: &'static str,
    path: &Path,
    parse: impl FnOnce(Zeroizing<Vec<u8>>) -> Result<T, FileError>,
) -> Result<T, LoadError> {
    let parsed = read(path, 0).and_then(parse);
    parsed.map_err(|reason| LoadError::File { what, path: path.to_owned(), reason })
}

fn open_secret<T>(
    what: &'static str,
    path: &Path,
    parse: impl FnOnce(Zeroizing<Vec<u8>>) -> Result<T, FileError>,
) -> Result<T, LoadError> {
    let parsed = read(path, NOT_OURS).and_then(parse);
    parsed.map_err(|reason| LoadError::File { what, path: path.to_owned(), reason })
}

/// Reads a regular file that none of the `refused` permission bits is set on. What is checked is the open file, so
/// that it cannot be exchanged in between.
fn read(path: &Path, refused: u32) -> Result<Zeroizing<Vec<u8>>, FileError> {
    // NONBLOCK: a FIFO would otherwise hold the daemon until somebody writes to it.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from)?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(FileError::NotAFile);
    }
    let mode = metadata.mode() & 0o7777;
    if mode & refused != 0 {
        return Err(FileError::Permissions { mode });
    }
    if metadata.len() > MAX_FILE_OCTETS {
        return Err(FileError::TooLong);
    }
    // The whole buffer at once: one that grows leaves copies behind. One more octet shows a file that grows meanwhile.
    let room = usize::try_from(metadata.len()).unwrap_or(usize::MAX).saturating_add(1);
    let mut octets = Zeroizing::new(vec![0; room]);
    let mut len = 0;
    while let Some(rest) = octets.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    if len == room {
        return Err(FileError::Io(io::Error::other("it grew while it was read")));
    }
    octets.get_mut(len..).unwrap_or_default().zeroize();
    octets.truncate(len);
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use tempfile::TempDir;

    use super::*;

    fn write(directory: &TempDir, name: &str, contents: &str, mode: u32) -> PathBuf {
        let path = directory.path().join(name);
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn psk(file: PathBuf) -> model::Identity {
        let credential = model::Credential::PreSharedKey { file };
        model::Identity { id: "edge1.example.net".parse().unwrap(), credential }
    }

    /// Certificate, key and authority in PEM, for edge1.example.net.
    fn pki() -> [String; 3] {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(["edge1.example.net".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        [own.pem(), key.serialize_pem(), authority]
    }

    #[test]
    fn a_pre_shared_key_ends_before_its_line_end() {
        let directory = tempfile::tempdir().unwrap();
        let with_end = load(&psk(write(&directory, "a", "correct horse\n", 0o600))).unwrap();
        let without = load(&psk(write(&directory, "b", "correct horse", 0o400))).unwrap();
        let windows = load(&psk(write(&directory, "c", "correct horse\r\n\r\n", 0o600))).unwrap();
        let other = load(&psk(write(&directory, "d", "correct horse \n", 0o600))).unwrap();
        assert_eq!(with_end.local, without.local);
        assert_eq!(with_end.peer, windows.peer);
        assert_ne!(with_end.local, other.local);
        let empty = load(&psk(write(&directory, "e", "\n", 0o600))).unwrap_err();
        assert_eq!(empty.to_string(), "the pre-shared key is empty");
    }

    #[test]
    fn secrets_that_others_may_read_are_refused_with_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        for mode in [0o640, 0o604, 0o660, 0o601] {
            let path = write(&directory, "key", "secret", mode);
            let refused = load(&psk(path.clone())).unwrap_err().to_string();
            let expected = format!(
                "pre-shared-key file {}: holds a secret and has mode {mode:04o}: others may use it; run chmod 600 on it",
                path.display()
            );
            assert_eq!(refused, expected);
        }
    }

    #[test]
    fn what_is_not_a_readable_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let missing = load(&psk(directory.path().join("none"))).unwrap_err().to_string();
        assert!(missing.contains("No such file"), "{missing}");
        let refused = load(&psk(directory.path().to_owned())).unwrap_err().to_string();
        assert!(refused.contains("is not a regular file"), "{refused}");
        let long = write(&directory, "long", &"x".repeat(1 << 20 | 1), 0o600);
        assert!(load(&psk(long)).unwrap_err().to_string().contains("is longer than"));
    }

    #[test]
    fn certificates_keys_and_names_have_to_fit() {
        let directory = tempfile::tempdir().unwrap();
        let [certificate, key, authority] = pki();
        let [_, other_key, _] = pki();
        let identity = |id: &str, key: &str, key_mode, anchor: &str| {
            let credential = model::Credential::Certificate {
                certificate: write(&directory, "own.pem", &certificate, 0o644),
                private_key: write(&directory, "own.key", key, key_mode),
                trust_anchors: vec![write(&directory, "ca.pem", anchor, 0o644)],
                revocation: model::Revocation::default(),
            };
            load(&model::Identity { id: id.parse().unwrap(), credential })
        };
        assert!(identity("edge1.example.net", &key, 0o600, &authority).is_ok());
        let refusal =
            |id, key: &str, key_mode, anchor: &str| identity(id, key, key_mode, anchor).unwrap_err().to_string();
        let text = refusal("edge1.example.net", &other_key, 0o600, &authority);
        assert!(text.contains("is not the key of the certificate"), "{text}");
        let text = refusal("edge2.example.net", &key, 0o600, &authority);
        assert!(text.contains("issued to") && text.contains("edge2.example.net"), "{text}");
        let text = refusal("edge1.example.net", &key, 0o644, &authority);
        assert!(text.starts_with("private-key ") && text.contains("chmod 600"), "{text}");
        let text = refusal("edge1.example.net", &key, 0o600, &key);
        assert!(text.starts_with("trust-anchor ") && text.contains("no certificate in it"), "{text}");
        assert!(!text.contains("PRIVATE KEY"), "{text}");
    }
}
