//! Proving who we are, and checking who the peer is (RFC 7296 §2.15, RFC 7427).

mod algorithm;
mod hashes;
mod key;
mod octets;
mod psk;

use std::{fmt, time::Duration};

use aws_lc_rs::digest;
use ike_wire::{AuthMethod, Authentication, Certificate, CertificateRequest, Identification};
use subtle::ConstantTimeEq;

use crate::{
    pki::{
        CertificateChain, ChainError, Identity, Outcome, PeerPolicy, Revocations, StatusQuery, TrustAnchors,
        VerifiedPeer, verify_peer,
    },
    secret::SecretBytes,
};
pub(crate) use algorithm::SignatureAlgorithm;
use algorithm::ecdsa_der;
use key::Scheme;

pub use hashes::{SignatureHash, SignatureHashes};
pub use key::{NoCommonHash, PrivateKey, PrivateKeyError, SigningFailed};
pub use octets::SignedOctets;

/// By what we prove who we are: checked when built, so that it can prove something.
#[derive(PartialEq, Eq)]
pub struct LocalCredential(Local);

enum Local {
    PreSharedKey(SecretBytes),
    Certificate { chain: Box<CertificateChain>, key: PrivateKey },
}

/// By what the peer has to prove who it is.
#[derive(PartialEq, Eq)]
pub struct PeerCredential(Peer);

#[derive(PartialEq, Eq)]
enum Peer {
    PreSharedKey(SecretBytes),
    Certificate(Box<PeerPolicy>),
}

/// A credential that cannot be what the configuration says it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// A pre-shared key without octets would authenticate anybody.
    #[error("the pre-shared key is empty")]
    EmptyKey,
    /// Key and certificate are not a pair.
    #[error("the private key is not the key of the certificate of {0}")]
    KeyMismatch(String),
    /// The peer would refuse us.
    #[error(
        "the certificate is issued to {names}, not to {identity}; \
             set \"id\" to one of its names, or have it issued with this one as alternative name"
    )]
    OtherIdentity {
        /// As whom we are configured.
        identity: String,
        /// Whose the certificate is.
        names: String,
    },
}

/// We cannot prove who we are to this peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// No hash in common.
    #[error(transparent)]
    Hash(#[from] NoCommonHash),
    /// The library failed.
    #[error(transparent)]
    Signing(#[from] SigningFailed),
}

/// Why a peer's proof was not accepted; each calls for AUTHENTICATION_FAILED and nothing more on the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Somebody else.
    #[error("the peer claims to be {claimed}, expected {expected}; check \"remote … id\" here and \"id\" there")]
    OtherIdentity {
        /// What it claims.
        claimed: String,
        /// Who was expected.
        expected: String,
    },
    /// Another kind of proof than configured.
    #[error("the peer authenticates by {found}, expected {expected}")]
    Method {
        /// What it used.
        found: AuthMethod,
        /// What the configuration says.
        expected: &'static str,
    },
    /// The postquantum preshared key.
    #[error("postquantum preshared key: {0}")]
    Ppk(&'static str),
    /// The MAC under the pre-shared key does not match.
    #[error("the pre-shared key of {0} differs from ours")]
    WrongPreSharedKey(String),
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] ChainError),
    /// A signature in an algorithm that is not accepted.
    #[error("{peer} signs with an algorithm that is not accepted here ({algorithm})")]
    SignatureAlgorithm {
        /// Who.
        peer: String,
        /// What it says it is.
        algorithm: String,
    },
    /// The certificate is good, the signature is not: whoever sent it does not hold the certificate's key, or the
    /// messages were changed on the way.
    #[error("the signature of {0} does not verify with the key of its certificate")]
    BadSignature(String),
}

/// What a peer presents in IKE_AUTH.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// Its AUTH payload.
    pub auth: &'a Authentication,
    /// Its CERT payloads, in order.
    pub certificates: &'a [Certificate],
    /// What the proof covers, with the peer's ID payload in it.
    pub octets: SignedOctets<'a>,
}

impl LocalCredential {
    /// A pre-shared key; an empty one is refused.
    pub fn pre_shared_key(key: SecretBytes) -> Result<Self, CredentialError> {
        if key.is_empty() { Err(CredentialError::EmptyKey) } else { Ok(Self(Local::PreSharedKey(key))) }
    }

    /// A certificate with its key, checked to be a pair.
    pub fn certificate(chain: CertificateChain, key: PrivateKey) -> Result<Self, CredentialError> {
        let mismatch = || CredentialError::KeyMismatch(chain.names().to_string());
        let probe = b"is this key the key of this certificate";
        let scheme = key.scheme(SignatureHashes::supported()).map_err(|_| mismatch())?;
        let made = key.sign(scheme, probe).map_err(|_| mismatch())?;
        let own = chain.end_entity().ok_or_else(mismatch)?;
        let own = webpki::EndEntityCert::try_from(own).map_err(|_| mismatch())?;
        let Scheme::Digital(algorithm) = scheme else { return Err(mismatch()) };
        let verifies =
            |one: &&dyn pki_types::SignatureVerificationAlgorithm| own.verify_signature(*one, probe, &made).is_ok();
        if algorithm.verifiers().iter().any(verifies) {
            Ok(Self(Local::Certificate { chain: Box::new(chain), key }))
        } else {
            Err(mismatch())
        }
    }

    /// Whether a peer could accept us as this identity; to be asked when the configuration is loaded.
    pub fn vouches_for(&self, identity: &Identity) -> Result<(), CredentialError> {
        match &self.0 {
            Local::Certificate { chain, .. } if !chain.names().vouch_for(identity) => {
                let names = chain.names().to_string();
                Err(CredentialError::OtherIdentity { identity: identity.to_string(), names })
            }
            _ => Ok(()),
        }
    }

    /// Our ID payload. A distinguished name goes out as the certificate encodes it, so that peers that compare octets
    /// find it equal.
    pub fn id_payload(&self, identity: &Identity) -> Identification {
        match (&self.0, identity) {
            (Local::Certificate { chain, .. }, Identity::Dn(name)) if *name == chain.names().subject => {
                Identity::Dn(chain.names().subject.clone()).payload()
            }
            _ => identity.payload(),
        }
    }

    /// Our chain; none with a pre-shared key.
    pub fn chain(&self) -> Option<&CertificateChain> {
        match &self.0 {
            Local::PreSharedKey(_) => None,
            Local::Certificate { chain, .. } => Some(chain),
        }
    }

    /// Our CERT payloads; none with a pre-shared key.
    pub fn cert_payloads(&self) -> Vec<Certificate> {
        match &self.0 {
            Local::PreSharedKey(_) => Vec::new(),
            Local::Certificate { chain, .. } => chain.payloads(),
        }
    }

    /// Our AUTH payload, for a peer that announced these hashes.
    pub fn prove(&self, octets: &SignedOctets<'_>, peer: SignatureHashes) -> Result<Authentication, ProofError> {
        let key = match &self.0 {
            Local::PreSharedKey(secret) => return Ok(psk::prove(secret, octets)),
            Local::Certificate { key, .. } => key,
        };
        let scheme = key.scheme(peer)?;
        let made = key.sign(scheme, &octets.octets())?;
        Ok(match scheme {
            Scheme::Digital(algorithm) => {
                let identifier = algorithm.identifier();
                // RFC 7427 §3: one octet of length, the AlgorithmIdentifier, the signature.
                let len = u8::try_from(identifier.len()).map_err(|_| SigningFailed)?;
                Authentication { method: AuthMethod::DigitalSignature, data: [&[len], &identifier[..], &made].concat() }
            }
            Scheme::RsaSignature => Authentication { method: AuthMethod::RsaSignature, data: made },
            Scheme::Ecdsa256 => Authentication { method: AuthMethod::Ecdsa256, data: made },
            Scheme::Ecdsa384 => Authentication { method: AuthMethod::Ecdsa384, data: made },
        })
    }
}

impl PartialEq for Local {
    /// A key belongs to its certificate, so equal chains have equal keys.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::PreSharedKey(ours), Self::PreSharedKey(theirs)) => ours == theirs,
            (Self::Certificate { chain: ours, .. }, Self::Certificate { chain: theirs, .. }) => ours == theirs,
            _ => false,
        }
    }
}

impl Eq for Local {}

impl PeerCredential {
    /// A pre-shared key; an empty one is refused.
    pub fn pre_shared_key(key: SecretBytes) -> Result<Self, CredentialError> {
        if key.is_empty() { Err(CredentialError::EmptyKey) } else { Ok(Self(Peer::PreSharedKey(key))) }
    }

    /// Any certificate that leads to one of these authorities and is issued to the peer's identity.
    pub fn trust_anchors(anchors: TrustAnchors) -> Self {
        Self::certificates(PeerPolicy::trusting(anchors))
    }

    /// Certificates that are issued to the peer's identity and keep to a policy.
    pub fn certificates(policy: PeerPolicy) -> Self {
        Self(Peer::Certificate(Box::new(policy)))
    }

    /// The policy for the peer's certificate; none with a pre-shared key.
    pub fn policy(&self) -> Option<&PeerPolicy> {
        match &self.0 {
            Peer::PreSharedKey(_) => None,
            Peer::Certificate(policy) => Some(policy),
        }
    }

    /// Our CERTREQ payload; none with a pre-shared key.
    pub fn cert_request(&self) -> Option<CertificateRequest> {
        match &self.0 {
            Peer::PreSharedKey(_) => None,
            Peer::Certificate(policy) => Some(policy.anchors.request()),
        }
    }

    /// Whether the peer is `expected` and proves it. `now` is the time since 1970.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn check(
        &self,
        expected: &Identity,
        presented: &Presented<'_>,
        now: Duration,
        revocations: &Revocations,
    ) -> Result<Verdict, AuthError> {
        let id = presented.octets.id;
        if !expected.is_claimed_by(id) {
            return Err(AuthError::OtherIdentity { claimed: id.to_string(), expected: expected.to_string() });
        }
        match &self.0 {
            Peer::PreSharedKey(secret) => check_mac(secret, presented).map(|()| Verdict::Accepted { ask: None }),
            Peer::Certificate(policy) => {
                if presented.auth.method == AuthMethod::SharedKey {
                    let expected = "a certificate";
                    return Err(AuthError::Method { found: presented.auth.method, expected });
                }
                match verify_peer(presented.certificates, policy, expected, now, revocations)? {
                    Outcome::Verified { peer, ask } => {
                        check_signature(&peer, presented)?;
                        Ok(Verdict::Accepted { ask })
                    }
                    Outcome::Undecided { peer, query } => {
                        // Strangers make nobody ask anything: first the signature.
                        check_signature(&peer, presented)?;
                        Ok(Verdict::Undecided(query))
                    }
                }
            }
        }
    }

    /// Whether a peer with these certificates is `expected`, apart from its signature. Gives what a responder should be
    /// asked.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn examine(
        &self,
        expected: &Identity,
        certificates: &[Certificate],
        now: Duration,
        revocations: &Revocations,
    ) -> Result<Option<StatusQuery>, ChainError> {
        let Peer::Certificate(policy) = &self.0 else { return Ok(None) };
        Ok(match verify_peer(certificates, policy, expected, now, revocations)? {
            Outcome::Verified { ask, .. } => ask,
            Outcome::Undecided { query, .. } => Some(query),
        })
    }

    /// Whether a peer that was accepted with these certificates would be accepted still: its certificate may have been
    /// revoked since, and the policy may be another one. One that has merely expired is, and one of which less is known
    /// than before, until it authenticates again.
    ///
    /// # Errors
    /// Why not.
    pub fn examine_again(
        &self,
        expected: &Identity,
        certificates: &[Certificate],
        now: Duration,
        revocations: &Revocations,
    ) -> Result<Option<StatusQuery>, ChainError> {
        match self.examine(expected, certificates, now, revocations) {
            Err(ChainError::Expired { .. } | ChainError::NotYetValid { .. } | ChainError::StatusUnknown { .. }) => {
                Ok(None)
            }
            outcome => outcome,
        }
    }
}

/// What comes of a peer's proof that is not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the expected peer.
    Accepted {
        /// What a responder should be asked meanwhile; a revocation that it tells of is found by
        /// [`PeerCredential::examine_again`].
        ask: Option<StatusQuery>,
    },
    /// It is the expected peer unless the responder says that its certificate was revoked, and has to be heard first.
    Undecided(StatusQuery),
}

fn check_mac(secret: &SecretBytes, presented: &Presented<'_>) -> Result<(), AuthError> {
    let Authentication { method, data } = presented.auth;
    if *method != AuthMethod::SharedKey {
        return Err(AuthError::Method { found: *method, expected: "a pre-shared key" });
    }
    let expected = psk::mac(secret, &presented.octets);
    if bool::from(expected.expose().ct_eq(data)) {
        Ok(())
    } else {
        Err(AuthError::WrongPreSharedKey(presented.octets.id.to_string()))
    }
}

fn check_signature(peer: &VerifiedPeer, presented: &Presented<'_>) -> Result<(), AuthError> {
    let name = || presented.octets.id.to_string();
    let Authentication { method, data } = presented.auth;
    let refused = |algorithm: String| AuthError::SignatureAlgorithm { peer: name(), algorithm };
    let bad = || AuthError::BadSignature(name());
    let octets = presented.octets.octets();
    let verifies = |algorithm: SignatureAlgorithm, signature: &[u8]| {
        algorithm.verifiers().iter().any(|one| peer.verify(*one, &octets, signature).is_ok())
    };
    let good = match method {
        AuthMethod::DigitalSignature => {
            let (identifier, signature) = data
                .split_first()
                .and_then(|(len, rest)| rest.split_at_checked(usize::from(*len)))
                .ok_or_else(|| refused("an AUTH payload without AlgorithmIdentifier".to_owned()))?;
            let algorithm = SignatureAlgorithm::from_identifier(identifier)
                .ok_or_else(|| refused(format!("AlgorithmIdentifier {}", hex(identifier))))?;
            verifies(algorithm, signature)
        }
        // RFC 7296 §3.8 leaves the hash to the signer; SHA-1, its default then, is not accepted now (RFC 8247 §3.2).
        AuthMethod::RsaSignature => [SignatureHash::Sha256, SignatureHash::Sha384, SignatureHash::Sha512]
            .into_iter()
            .any(|hash| verifies(SignatureAlgorithm::RsaPkcs1(hash), data)),
        AuthMethod::Ecdsa256 => {
            let signature = ecdsa_der(data, 32).ok_or_else(bad)?;
            peer.verify(webpki::aws_lc_rs::ECDSA_P256_SHA256, &octets, &signature).is_ok()
        }
        AuthMethod::Ecdsa384 => {
            let signature = ecdsa_der(data, 48).ok_or_else(bad)?;
            peer.verify(webpki::aws_lc_rs::ECDSA_P384_SHA384, &octets, &signature).is_ok()
        }
        other => return Err(refused(format!("method {other}"))),
    };
    if good { Ok(()) } else { Err(bad()) }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

impl fmt::Debug for LocalCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Local::PreSharedKey(_) => f.write_str("PreSharedKey"),
            Local::Certificate { chain, key } => {
                f.debug_struct("Certificate").field("chain", chain).field("key", key).finish()
            }
        }
    }
}

impl fmt::Debug for PeerCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Peer::PreSharedKey(_) => f.write_str("PreSharedKey"),
            Peer::Certificate(policy) => f.debug_tuple("Certificate").field(policy).finish(),
        }
    }
}

/// SHA-256 of a certificate in hexadecimal digits, for people who compare.
pub fn fingerprint(certificate: &Certificate) -> String {
    hex(digest::digest(&digest::SHA256, &certificate.data).as_ref())
}
