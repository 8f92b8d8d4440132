//! Certificates: whose they are, who vouches for them, and whether to believe it.

mod chain;
mod dn;
mod identity;
mod names;
mod verify;

pub use chain::{CertificateChain, CertificateFileError, TrustAnchors};
pub use dn::{DistinguishedName, DnError};
pub use identity::{Identity, IdentityError};
pub use names::{CertificateNames, UnreadableCertificate};
pub use verify::ChainError;
pub(crate) use verify::{VerifiedPeer, verify_peer};
