//! What a peer's certificate has to be, beyond leading to an authority.

use std::{fmt, sync::Arc};

use aws_lc_rs::digest;

use super::{chain::TrustAnchors, identity::Identity, names::CertificateNames, revocation::RevocationPolicy};

/// Whom to believe that a peer is who it claims to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPolicy {
    /// Authorities, one of which has to vouch for it.
    pub anchors: Arc<TrustAnchors>,
    /// What has to be known of its revocation.
    pub revocation: RevocationPolicy,
    /// The URL of the responder to ask (RFC 6960), if any.
    pub responder: Option<Arc<str>>,
    /// What else its certificate must have.
    pub requirements: Requirements,
}

impl PeerPolicy {
    /// Any certificate that leads to one of these authorities and is not known to be revoked.
    pub fn trusting(anchors: TrustAnchors) -> Self {
        Self {
            anchors: Arc::new(anchors),
            revocation: RevocationPolicy::default(),
            responder: None,
            requirements: Requirements::default(),
        }
    }
}

/// What a peer's own certificate must have beside its identity: all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    /// Each among its subject alternative names, or its subject.
    pub names: Vec<Identity>,
    /// Each as an organizational unit of its subject.
    pub units: Vec<String>,
    /// To be one of these certificates; any where empty.
    pub fingerprints: Vec<Fingerprint>,
}

/// SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of this certificate.
    pub fn of(der: &[u8]) -> Self {
        let mut octets = [0; 32];
        octets.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Self(octets)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Requirements {
    /// The first that the certificate does not meet, in words.
    pub(super) fn missing(&self, der: &[u8], names: &CertificateNames) -> Option<String> {
        if let Some(name) = self.names.iter().find(|name| !names.vouch_for(name)) {
            return Some(format!("the name {name}"));
        }
        if let Some(unit) = self.units.iter().find(|unit| !names.subject.has_unit(unit)) {
            return Some(format!("the organizational unit \"{unit}\""));
        }
        if self.fingerprints.is_empty() {
            return None;
        }
        let own = Fingerprint::of(der);
        (!self.fingerprints.contains(&own)).then(|| format!("one of the configured fingerprints (it is {own})"))
    }
}
