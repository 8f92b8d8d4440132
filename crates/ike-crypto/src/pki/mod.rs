//! Certificates: whose they are, who vouches for them, and whether to believe it.

mod chain;
mod dn;
mod identity;
mod names;
mod ocsp;
mod policy;
mod revocation;
mod verify;

pub use chain::{CertificateChain, CertificateFileError, TrustAnchors};
pub use dn::{DistinguishedName, DnError};
pub use identity::{Identity, IdentityError};
pub use names::{CertificateNames, UnreadableCertificate, utc};
pub use ocsp::{CertificateStatus, StatusAnswer, StatusError, StatusKey, StatusQuery};
pub use policy::{Fingerprint, PeerPolicy, Requirements};
pub use revocation::{Changes, Heard, RevocationList, RevocationListError, RevocationPolicy, Revocations};
pub use verify::ChainError;
pub(crate) use verify::{Outcome, VerifiedPeer, verify_peer};
