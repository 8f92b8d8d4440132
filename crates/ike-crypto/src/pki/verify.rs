//! Whether a chain leads from a peer's certificate to one of our authorities, for the use in IKE.
//!
//! Path building and its budgets are webpki's. Ours is the policy: extended key usage after RFC 4945 §5.1.3.12, key
//! usage after §5.1.3.2, and the identity after §3.1. No revocation lists: none are configured.

use std::time::Duration;

use ike_wire::{CertEncoding, Certificate};
use pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, aws_lc_rs as algorithm};

use super::{
    chain::TrustAnchors,
    identity::Identity,
    names::{CertificateNames, UnreadableCertificate},
};

/// Most certificates of a peer that are looked at; more only cost time.
const MAX_PEER_CERTIFICATES: usize = 16;

/// Signatures that certificates may bear.
static CERTIFICATE_SIGNATURES: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithm::ECDSA_P256_SHA256,
    algorithm::ECDSA_P256_SHA384,
    algorithm::ECDSA_P256_SHA512,
    algorithm::ECDSA_P384_SHA256,
    algorithm::ECDSA_P384_SHA384,
    algorithm::ECDSA_P384_SHA512,
    algorithm::ECDSA_P521_SHA256,
    algorithm::ECDSA_P521_SHA384,
    algorithm::ECDSA_P521_SHA512,
    algorithm::ED25519,
    algorithm::RSA_PKCS1_2048_8192_SHA256,
    algorithm::RSA_PKCS1_2048_8192_SHA384,
    algorithm::RSA_PKCS1_2048_8192_SHA512,
    algorithm::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithm::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithm::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// Why a peer's certificate does not prove its identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// No CERT payload with an X.509 certificate.
    #[error("the peer sent no X.509 certificate; it has to send its own and any intermediate ones")]
    Missing,
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] UnreadableCertificate),
    /// Past its end.
    #[error("the certificate of {names}, or one above it, expired {} ago; renew it", days(*.since))]
    Expired {
        /// Whose it is.
        names: String,
        /// How long ago.
        since: Duration,
    },
    /// Before its beginning.
    #[error("the certificate of {names}, or one above it, is valid only in {}; check the clocks of both ends", days(*.until))]
    NotYetValid {
        /// Whose it is.
        names: String,
        /// How long until then.
        until: Duration,
    },
    /// No path to an authority of ours.
    #[error(
        "the certificate of {names} is issued by \"{issuer}\", which leads to no trust anchor of ours ({trusted}); \
             add the authority as trust-anchor, or have the peer send its intermediate certificates"
    )]
    UntrustedIssuer {
        /// Whose it is.
        names: String,
        /// Who issued it.
        issuer: String,
        /// Whom we trust.
        trusted: String,
    },
    /// A certificate in the chain has a signature that does not verify.
    #[error("the signature on the certificate of {names}, or on one above it, does not verify")]
    ForgedCertificate {
        /// Whose it is.
        names: String,
    },
    /// Not for IKE.
    #[error("the extended key usage of the certificate of {names} allows neither IPsec nor TLS (RFC 4945 §5.1.3.12)")]
    ExtendedKeyUsage {
        /// Whose it is.
        names: String,
    },
    /// Not for signatures.
    #[error("the key usage of the certificate of {names} does not allow digital signatures (RFC 4945 §5.1.3.2)")]
    KeyUsage {
        /// Whose it is.
        names: String,
    },
    /// A certificate for somebody else.
    #[error(
        "the certificate is issued to {names}, not to {identity}; the identity has to be among its alternative names"
    )]
    OtherIdentity {
        /// Whom the peer claims to be.
        identity: String,
        /// Whose the certificate is.
        names: String,
    },
    /// Anything else webpki refuses.
    #[error("the certificate of {names} is refused: {reason}")]
    Refused {
        /// Whose it is.
        names: String,
        /// The library's reason.
        reason: Box<webpki::Error>,
    },
}

fn days(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..3600 => format!("{seconds} seconds"),
        seconds @ 3600..172_800 => format!("{} hours", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// A peer's own certificate, verified: it can check the peer's signature.
pub(crate) struct VerifiedPeer {
    certificate: CertificateDer<'static>,
}

impl VerifiedPeer {
    /// Whether a signature was made with the certified key. The algorithm has to fit the key.
    pub(crate) fn verify(
        &self,
        algorithm: &dyn SignatureVerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), webpki::Error> {
        EndEntityCert::try_from(&self.certificate)?.verify_signature(algorithm, message, signature)
    }
}

/// Builds and checks the chain. The first X.509 certificate is the peer's own (RFC 7296 §3.6), the others may help to
/// build the path. `now` is the time since 1970.
pub(crate) fn verify_peer(
    certificates: &[Certificate],
    anchors: &TrustAnchors,
    identity: &Identity,
    now: Duration,
) -> Result<VerifiedPeer, ChainError> {
    let mut sent = certificates
        .iter()
        .filter(|one| one.encoding == CertEncoding::X509Signature)
        .take(MAX_PEER_CERTIFICATES)
        .map(|one| CertificateDer::from(one.data.clone()));
    let own = sent.next().ok_or(ChainError::Missing)?;
    let intermediates: Vec<_> = sent.collect();
    let names = CertificateNames::read(&own)?;
    let refused = |error: webpki::Error| refusal(error, &names, anchors);
    EndEntityCert::try_from(&own)
        .and_then(|end_entity| {
            let time = UnixTime::since_unix_epoch(now);
            end_entity
                .verify_for_usage(CERTIFICATE_SIGNATURES, anchors.anchors(), &intermediates, time, IkeUsage, None, None)
                .map(|_| ())
        })
        .map_err(refused)?;
    if !names.may_sign {
        return Err(ChainError::KeyUsage { names: names.to_string() });
    }
    if !names.vouch_for(identity) {
        return Err(ChainError::OtherIdentity { identity: identity.to_string(), names: names.to_string() });
    }
    Ok(VerifiedPeer { certificate: own })
}

fn refusal(error: webpki::Error, names: &CertificateNames, anchors: &TrustAnchors) -> ChainError {
    let issuer = names.issuer.to_string();
    let names = names.to_string();
    match error {
        webpki::Error::CertExpired { time, not_after } => {
            let since = Duration::from_secs(time.as_secs().saturating_sub(not_after.as_secs()));
            ChainError::Expired { names, since }
        }
        webpki::Error::CertNotValidYet { time, not_before } => {
            let until = Duration::from_secs(not_before.as_secs().saturating_sub(time.as_secs()));
            ChainError::NotYetValid { names, until }
        }
        webpki::Error::UnknownIssuer => {
            ChainError::UntrustedIssuer { names, issuer, trusted: anchors.subjects().join("; ") }
        }
        webpki::Error::InvalidSignatureForPublicKey => ChainError::ForgedCertificate { names },
        webpki::Error::RequiredEkuNotFoundContext(_) | webpki::Error::EmptyEkuExtension => {
            ChainError::ExtendedKeyUsage { names }
        }
        reason => ChainError::Refused { names, reason: Box::new(reason) },
    }
}

/// RFC 4945 §5.1.3.12: without the extension anything goes; with it ipsecIKE or any. serverAuth and clientAuth are
/// accepted because that is what most public and enterprise CAs put on gateways.
struct IkeUsage;

const ACCEPTED_PURPOSES: [&[usize]; 4] = [
    &[1, 3, 6, 1, 5, 5, 7, 3, 17], // id-kp-ipsecIKE
    &[2, 5, 29, 37, 0],            // anyExtendedKeyUsage
    &[1, 3, 6, 1, 5, 5, 7, 3, 1],  // id-kp-serverAuth
    &[1, 3, 6, 1, 5, 5, 7, 3, 2],  // id-kp-clientAuth
];

impl ExtendedKeyUsageValidator for IkeUsage {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let mut present = false;
        for purpose in purposes {
            present = true;
            if ACCEPTED_PURPOSES.contains(&purpose?.to_decoded_oid().as_slice()) {
                return Ok(());
            }
        }
        if present { Err(webpki::Error::EmptyEkuExtension) } else { Ok(()) }
    }
}
