//! The cryptography of IKEv2: which algorithms, which keys from what, sealed how, and who may prove to be whom.
//!
//! No I/O and no clock: files come as octets and the time as an argument. Randomness is drawn from the caller's
//! generator, except where the library insists on its own (signatures, ML-KEM).
//!
//! Combined-mode ciphers, SHA-2 and elliptic curves by default; AES-CBC with HMAC, P-521 and MODP groups where they are
//! named, for peers that have nothing better. What is left out (SHA-1 signatures, smaller groups) is recognised in offers
//! and passed over. SHA-1 appears where RFC 7296 names it for things that are not secret: NAT detection and the hashes
//! of trust anchors.

mod auth;
mod cipher;
mod cookie;
mod crash_token;
mod dh;
mod int_auth;
mod modp;
mod nat;
pub mod pki;
mod ppk;
mod prf;
mod proposal;
mod schedule;
mod secret;
mod sk;
mod suite;
#[cfg(test)]
mod testing;

pub use auth::{
    AuthError, CredentialError, LocalCredential, NoCommonHash, PeerCredential, Presented, PrivateKey, PrivateKeyError,
    ProofError, SignatureHash, SignatureHashes, SignedOctets, SigningFailed, Verdict, fingerprint,
};
pub use cipher::{Aead, AesCbc, Cipher, Ciphers, HmacAlgorithm, SALT_LEN};
pub use cookie::CookieJar;
pub use crash_token::{CrashToken, CrashTokenSecret};
pub use dh::{DhError, DhKey};
pub use int_auth::IntAuth;
pub use nat::nat_detection_hash;
pub use pki::{
    CertificateChain, CertificateFileError, ChainError, Identity, IdentityError, PeerPolicy, RevocationPolicy,
    Revocations, StatusQuery, TrustAnchors,
};
pub use ppk::{EmptyPpk, Ppk, PpkKeys};
pub use prf::TooMuchKeyMaterial;
pub use proposal::{
    Chosen, EsnPolicy, EspProposal, IkeProposal, NoProposal, ProposalTextError, accept_esp, accept_ike, choose_esp,
    choose_ike, offer_esp, offer_ike,
};
pub use schedule::{ChildKeys, Exchange, IkeKeys, MessageKeys};
pub use secret::SecretBytes;
pub use sk::{KeyLength, OpenError, Opener, SealError, Sealer};
pub use suite::{Additional, EspSuite, Group, IkeSuite, PrfAlgorithm, UnknownAlgorithm};
