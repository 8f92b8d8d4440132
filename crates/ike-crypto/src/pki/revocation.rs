//! Which certificates were taken back: what the authorities' lists (RFC 5280 §5) and OCSP responders (RFC 6960) said.
//!
//! Nothing is fetched here and nothing waits: who verifies a peer is given what is known at that moment, and is told
//! what else to ask for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest;
use ike_wire::Certificate;
use pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject};
use webpki::{CertRevocationList, EndEntityCert, OwnedCertRevocationList};
use x509_cert::{
    crl::CertificateList,
    der::{Decode, Encode, asn1::Uint},
};

use super::{
    dn::DistinguishedName,
    ocsp::{CertificateNumber, CertificateStatus, StatusAnswer, StatusKey},
};

/// id-ce-cRLNumber
const CRL_NUMBER: &str = "2.5.29.20";

/// How much has to be known about a peer's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RevocationPolicy {
    /// What is known to be revoked is refused. What is not known, or was known once, is no obstacle.
    #[default]
    Relaxed,
    /// For every certificate of the path a list that has not expired, or for the peer's own a responder, must say that
    /// it is not revoked.
    Strict,
}

/// A certificate revocation list. Its signature is checked with each path that it is used for, since only then is the
/// key of its issuer known.
#[derive(Clone, Debug)]
pub struct RevocationList {
    pub(super) list: Arc<CertRevocationList<'static>>,
    /// Of its DER.
    digest: [u8; 32],
    issuer: DistinguishedName,
    number: Option<u64>,
    this_update: Duration,
    next_update: Duration,
    revoked: usize,
}

/// Not a list that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevocationListError {
    /// Neither PEM nor DER.
    #[error("not a certificate revocation list: {0}")]
    Unreadable(String),
    /// A list without an end would have to be believed for ever (RFC 5280 §5.1.2.5 demands one).
    #[error("the list of \"{0}\" has no nextUpdate")]
    Endless(DistinguishedName),
    /// Delta lists, version 1, critical extensions that are not known.
    #[error("the list of \"{issuer}\" cannot be used: {reason}")]
    Unusable {
        /// Whose it is.
        issuer: DistinguishedName,
        /// The library's reason.
        reason: String,
    },
}

impl RevocationList {
    /// Reads a list in DER, or in PEM between `BEGIN X509 CRL` and its end.
    ///
    /// # Errors
    /// When it is none, or one that cannot be used.
    pub fn read(octets: &[u8]) -> Result<Self, RevocationListError> {
        let unreadable = |error: &dyn fmt::Display| RevocationListError::Unreadable(error.to_string());
        if octets.first() == Some(&DER_SEQUENCE) {
            return Self::from_der(octets);
        }
        let der = CertificateRevocationListDer::from_pem_slice(octets).map_err(|error| unreadable(&error))?;
        Self::from_der(&der)
    }

    fn from_der(der: &[u8]) -> Result<Self, RevocationListError> {
        let unreadable = |error: &dyn fmt::Display| RevocationListError::Unreadable(error.to_string());
        let CertificateList::<x509_cert::certificate::Rfc5280> { tbs_cert_list: tbs, .. } =
            CertificateList::from_der(der).map_err(|error| unreadable(&error))?;
        let issuer = tbs.issuer.to_der().map_err(|error| unreadable(&error))?;
        let issuer = DistinguishedName::from_der(&issuer).map_err(|error| unreadable(&error))?;
        let Some(next_update) = tbs.next_update else { return Err(RevocationListError::Endless(issuer)) };
        let list = OwnedCertRevocationList::from_der(der)
            .map_err(|error| RevocationListError::Unusable { issuer: issuer.clone(), reason: error.to_string() })?;
        let extensions = tbs.crl_extensions.iter().flatten();
        let number = extensions
            .filter(|extension| extension.extn_id.to_string() == CRL_NUMBER)
            .find_map(|extension| Uint::from_der(extension.extn_value.as_bytes()).ok())
            .and_then(|number| {
                let octets = number.as_bytes();
                let octets = (octets.len() <= 8).then_some(octets)?;
                Some(octets.iter().fold(0, |number, octet| number << 8 | u64::from(*octet)))
            });
        let mut digest = [0; 32];
        digest.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Ok(Self {
            list: Arc::new(list.into()),
            digest,
            issuer,
            number,
            this_update: tbs.this_update.to_unix_duration(),
            next_update: next_update.to_unix_duration(),
            revoked: tbs.revoked_certificates.map_or(0, |revoked| revoked.len()),
        })
    }

    /// The authority that signed it.
    pub fn issuer(&self) -> &DistinguishedName {
        &self.issuer
    }

    /// Its CRL number, where it has one that fits.
    pub fn number(&self) -> Option<u64> {
        self.number
    }

    /// When it was made, as time since 1970.
    pub fn this_update(&self) -> Duration {
        self.this_update
    }

    /// When the next one is due at the latest, as time since 1970.
    pub fn next_update(&self) -> Duration {
        self.next_update
    }

    /// How many certificates it takes back.
    pub fn revoked(&self) -> usize {
        self.revoked
    }
}

/// Tag of the outermost element of every list in DER.
const DER_SEQUENCE: u8 = 0x30;

/// All that is known.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    lists: Vec<RevocationList>,
    answers: BTreeMap<StatusKey, Heard>,
}

/// Whose status may be another than before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Names of the authorities whose lists changed, came or went.
    issuers: BTreeSet<Vec<u8>>,
    /// Certificates of which a responder said something else.
    certificates: BTreeSet<CertificateNumber>,
}

impl Changes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.issuers.is_empty() && self.certificates.is_empty()
    }

    /// Whether they may concern a peer that presented these. Costs no signature.
    pub fn concern(&self, presented: &[Certificate]) -> bool {
        presented.iter().any(|certificate| {
            let der = CertificateDer::from(&certificate.data[..]);
            // What cannot be read is looked at by whom it is up to.
            EndEntityCert::try_from(&der).map_or(true, |one| {
                self.issuers.contains(one.issuer())
                    || self.certificates.contains(&CertificateNumber::new(one.issuer(), one.serial()))
            })
        })
    }
}

/// What came of asking a responder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An authentic answer.
    Answer(StatusAnswer),
    /// None that could be used; it is not worth asking again before this time since 1970.
    Nothing {
        /// Until when.
        until: Duration,
    },
}

/// What is known of one certificate by its responder.
pub(super) enum Known {
    Good,
    Revoked,
    /// The responder does not know it, or could not be asked.
    Unknown,
    /// Nothing, or nothing that is still valid.
    NotAsked,
}

impl Revocations {
    /// Exactly these lists, and what responders said.
    pub fn new(lists: Vec<RevocationList>, answers: BTreeMap<StatusKey, Heard>) -> Self {
        Self { lists, answers }
    }

    /// The same with these lists in the place of those there are.
    #[must_use]
    pub fn with_lists(&self, lists: Vec<RevocationList>) -> Self {
        Self { lists, answers: self.answers.clone() }
    }

    /// The lists.
    pub fn lists(&self) -> &[RevocationList] {
        &self.lists
    }

    /// What is known otherwise than `before`.
    pub fn changes_since(&self, before: &Self) -> Changes {
        let (mut issuers, mut certificates) = (BTreeSet::new(), BTreeSet::new());
        for (one, other) in [(self, before), (before, self)] {
            let known: BTreeSet<_> = other.lists.iter().map(|list| list.digest).collect();
            let lists = one.lists.iter().filter(|list| !known.contains(&list.digest));
            issuers.extend(lists.map(|list| list.list.issuer().to_vec()));
            let answers = one.answers.iter().filter(|(key, heard)| other.answers.get(key) != Some(heard));
            certificates.extend(answers.map(|(key, _)| key.certificate()));
        }
        Changes { issuers, certificates }
    }

    /// A revocation is final (RFC 5280 §5.3.1 lets only `certificateHold` end), so it stands until the responder says
    /// otherwise; anything else stands as long as the responder said.
    pub(super) fn known(&self, key: &StatusKey, now: Duration) -> Known {
        match self.answers.get(key) {
            None => Known::NotAsked,
            Some(Heard::Nothing { until }) if now < *until => Known::Unknown,
            Some(Heard::Nothing { .. }) => Known::NotAsked,
            Some(Heard::Answer(answer)) => match answer.status {
                CertificateStatus::Revoked { .. } => Known::Revoked,
                _ if now >= answer.next_update => Known::NotAsked,
                CertificateStatus::Good => Known::Good,
                CertificateStatus::Unknown => Known::Unknown,
            },
        }
    }
}
