//! Whether a chain leads from a peer's certificate to one of our authorities, for the use in IKE.
//!
//! Path building and its budgets are webpki's, and so is what revocation lists say of a path. Ours is the policy:
//! extended key usage after RFC 4945 §5.1.3.12, key usage after §5.1.3.2, the identity after §3.1, what has to be known
//! of revocation, and what a responder said.

use std::time::Duration;

use ike_wire::{CertEncoding, Certificate};
use pki_types::{CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, ExtendedKeyUsageValidator, KeyPurposeIdIter,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy, aws_lc_rs as algorithm,
};

use super::{
    chain::TrustAnchors,
    identity::Identity,
    names::{CertificateNames, UnreadableCertificate},
    ocsp::StatusQuery,
    policy::PeerPolicy,
    revocation::{Known, RevocationPolicy, Revocations},
};

/// Most certificates of a peer that are looked at; more only cost time.
const MAX_PEER_CERTIFICATES: usize = 16;

/// Signatures that certificates may bear.
pub(super) static CERTIFICATE_SIGNATURES: &[&dyn SignatureVerificationAlgorithm] = &[
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
    /// Taken back by its authority.
    #[error("the certificate of {names}, or one above it, has been revoked")]
    Revoked {
        /// Whose it is.
        names: String,
    },
    /// Nobody vouches that it was not taken back, and the configuration demands it.
    #[error(
        "it is not known whether the certificate of {names}, or one above it, has been revoked ({why}), and \
             \"revocation strict\" demands to know; see \"show ipsec certificate\" for the lists and when they end"
    )]
    StatusUnknown {
        /// Whose it is.
        names: String,
        /// What is missing.
        why: &'static str,
    },
    /// Not what this tunnel asks for.
    #[error("the certificate of {names} lacks what the tunnel demands: {missing}")]
    Requirement {
        /// Whose it is.
        names: String,
        /// What it lacks.
        missing: String,
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

/// What came of verifying a peer's certificate.
pub(crate) enum Outcome {
    /// It is good, as far as is known and has to be known.
    Verified {
        peer: VerifiedPeer,
        /// What a responder should be asked, for what is decided on what is known already.
        ask: Option<StatusQuery>,
    },
    /// Everything else is good; it depends on the answer of a responder.
    Undecided { peer: VerifiedPeer, query: StatusQuery },
}

/// Builds and checks the chain. The first X.509 certificate is the peer's own (RFC 7296 §3.6), the others may help to
/// build the path. `now` is the time since 1970.
pub(crate) fn verify_peer(
    certificates: &[Certificate],
    policy: &PeerPolicy,
    identity: &Identity,
    now: Duration,
    revocations: &Revocations,
) -> Result<Outcome, ChainError> {
    let mut sent = certificates
        .iter()
        .filter(|one| one.encoding == CertEncoding::X509Signature)
        .take(MAX_PEER_CERTIFICATES)
        .map(|one| CertificateDer::from(one.data.clone()));
    let own = sent.next().ok_or(ChainError::Missing)?;
    let intermediates: Vec<_> = sent.collect();
    let names = CertificateNames::read(&own)?;
    let end_entity = EndEntityCert::try_from(&own).map_err(|error| refusal(error, &names, &policy.anchors))?;
    let path = Path { end_entity: &end_entity, intermediates: &intermediates, policy, now };
    let issuer = path.verify(revocations).map_err(|error| refusal(error, &names, &policy.anchors))?;
    if !names.may_sign {
        return Err(ChainError::KeyUsage { names: names.to_string() });
    }
    if !names.vouch_for(identity) {
        return Err(ChainError::OtherIdentity { identity: identity.to_string(), names: names.to_string() });
    }
    if let Some(missing) = policy.requirements.missing(&own, &names) {
        return Err(ChainError::Requirement { names: names.to_string(), missing });
    }
    let query = policy
        .responder
        .as_ref()
        .and_then(|responder| StatusQuery::new(responder.clone(), end_entity.issuer(), issuer, end_entity.serial()));
    let known = query.as_ref().map(|query| revocations.known(&query.key(), now));
    let unknown = |why| Err(ChainError::StatusUnknown { names: names.to_string(), why });
    let ask = match (known, policy.revocation) {
        (Some(Known::Revoked), _) => return Err(ChainError::Revoked { names: names.to_string() }),
        (None, RevocationPolicy::Relaxed) => None,
        (None, RevocationPolicy::Strict) => match path.status_known(revocations, RevocationCheckDepth::Chain) {
            true => None,
            false => return unknown("no list in force covers it"),
        },
        (Some(Known::Good | Known::Unknown), RevocationPolicy::Relaxed) => None,
        (Some(Known::NotAsked), RevocationPolicy::Relaxed) => query,
        (Some(known), RevocationPolicy::Strict) => {
            if !path.issuers_known(revocations) {
                return unknown("no list in force covers an authority between it and ours");
            }
            let listed = path.status_known(revocations, RevocationCheckDepth::EndEntity);
            match (known, query) {
                (Known::NotAsked, Some(query)) if !listed => {
                    return Ok(Outcome::Undecided { peer: VerifiedPeer { certificate: own }, query });
                }
                (Known::NotAsked, query) => query,
                (Known::Unknown, _) if !listed => return unknown("its responder does not know it or did not answer"),
                _ => None,
            }
        }
    };
    Ok(Outcome::Verified { peer: VerifiedPeer { certificate: own }, ask })
}

/// A path to be built.
struct Path<'a> {
    end_entity: &'a EndEntityCert<'a>,
    intermediates: &'a [CertificateDer<'a>],
    policy: &'a PeerPolicy,
    now: Duration,
}

impl Path<'_> {
    /// Builds it and refuses what is known to be revoked. Gives the public key of the issuer of the peer's own
    /// certificate.
    fn verify(&self, revocations: &Revocations) -> Result<SubjectPublicKeyInfoDer<'static>, webpki::Error> {
        let lists: Vec<&CertRevocationList<'_>> = revocations.lists().iter().map(|list| &*list.list).collect();
        let (status, depth) = (UnknownStatusPolicy::Allow, RevocationCheckDepth::Chain);
        let verified = match self.attempt(&lists, status, depth) {
            // An authority whose key was changed has lists by both keys, and others may share its name: a list by
            // another key says nothing of this path.
            Err(error) if is_of_a_list(&error) => {
                let fits = |list: &&CertRevocationList<'_>| !matches!(self.attempt(&[list], status, depth), Err(error) if is_of_a_list(&error));
                let fitting: Vec<_> = lists.into_iter().filter(fits).collect();
                self.attempt(&fitting, status, depth)
            }
            outcome => outcome,
        };
        verified.map(|path| path.issuer)
    }

    /// Whether lists in force say of every certificate down to `depth` that it was not revoked.
    fn status_known(&self, revocations: &Revocations, depth: RevocationCheckDepth) -> bool {
        let lists: Vec<&CertRevocationList<'_>> = revocations.lists().iter().map(|list| &*list.list).collect();
        !lists.is_empty() && self.attempt(&lists, UnknownStatusPolicy::Deny, depth).is_ok()
    }

    /// The same for the authorities between the peer's own certificate and ours.
    fn issuers_known(&self, revocations: &Revocations) -> bool {
        let Ok(Built { issuers, .. }) = self.attempt(&[], UnknownStatusPolicy::Allow, RevocationCheckDepth::Chain)
        else {
            return false;
        };
        let covers = |issuer: &Vec<u8>| {
            revocations.lists().iter().any(|list| {
                list.list.issuer() == issuer.as_slice()
                    && list.list.issuing_distribution_point().is_none()
                    && self.now < list.next_update()
            })
        };
        issuers.iter().all(covers)
    }

    fn attempt(
        &self,
        lists: &[&CertRevocationList<'_>],
        status: UnknownStatusPolicy,
        depth: RevocationCheckDepth,
    ) -> Result<Built, webpki::Error> {
        let expiration = match self.policy.revocation {
            RevocationPolicy::Strict => ExpirationPolicy::Enforce,
            RevocationPolicy::Relaxed => ExpirationPolicy::Ignore, // an old list still tells who was revoked
        };
        let options = RevocationOptionsBuilder::new(lists).ok().map(|options| {
            options.with_depth(depth).with_status_policy(status).with_expiration_policy(expiration).build()
        });
        let (anchors, time) = (self.policy.anchors.anchors(), UnixTime::since_unix_epoch(self.now));
        let end_entity = self.end_entity;
        let signatures = CERTIFICATE_SIGNATURES;
        end_entity.verify_for_usage(signatures, anchors, self.intermediates, time, IkeUsage, options, None).map(
            |path| {
                let issuers = path.intermediate_certificates().map(|one| one.issuer().to_vec()).collect();
                Built { issuer: path.issuer_spki().into_owned(), issuers }
            },
        )
    }
}

/// A path that was built.
struct Built {
    /// Public key of the issuer of the peer's own certificate.
    issuer: SubjectPublicKeyInfoDer<'static>,
    /// Who issued each authority between.
    issuers: Vec<Vec<u8>>,
}

/// Whether it is a list that does not fit the path, rather than the path.
fn is_of_a_list(error: &webpki::Error) -> bool {
    matches!(
        error,
        webpki::Error::InvalidCrlSignatureForPublicKey
            | webpki::Error::UnsupportedCrlSignatureAlgorithmContext(_)
            | webpki::Error::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_)
            | webpki::Error::IssuerNotCrlSigner
    )
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
        webpki::Error::CertRevoked => ChainError::Revoked { names },
        webpki::Error::CrlExpired { .. } => ChainError::StatusUnknown { names, why: "the list has expired" },
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
