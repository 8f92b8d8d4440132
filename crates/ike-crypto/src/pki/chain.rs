//! Certificates from PEM: our own chain, and the authorities we trust.

use std::fmt;

use aws_lc_rs::digest;
use ike_wire::{CertEncoding, Certificate, CertificateRequest};
use pki_types::{CertificateDer, TrustAnchor, pem::PemObject};

use super::{
    names::{CertificateNames, UnreadableCertificate},
    policy::Fingerprint,
};

/// A PEM file that does not hold the certificates it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFileError {
    /// Not PEM.
    #[error("not a PEM file: {0}")]
    Pem(String),
    /// PEM, but no CERTIFICATE section.
    #[error("no certificate in it; expected \"-----BEGIN CERTIFICATE-----\"")]
    Empty,
    /// One certificate cannot be read.
    #[error("certificate {at}: {reason}")]
    Unreadable {
        /// Counting from 1.
        at: usize,
        /// Why.
        #[source]
        reason: UnreadableCertificate,
    },
    /// A certificate cannot be a trust anchor.
    #[error("certificate {at} cannot be a trust anchor: {reason}")]
    Anchor {
        /// Counting from 1.
        at: usize,
        /// Why.
        reason: String,
    },
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateFileError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| CertificateFileError::Pem(error.to_string()))?;
    if found.is_empty() { Err(CertificateFileError::Empty) } else { Ok(found) }
}

/// Our certificate and those between it and a root, own one first.
#[derive(Clone, PartialEq, Eq)]
pub struct CertificateChain {
    certificates: Vec<CertificateDer<'static>>,
    names: CertificateNames,
}

impl CertificateChain {
    /// Reads a PEM file.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CertificateFileError> {
        let certificates = certificates(pem)?;
        let mut own = None;
        for (at, certificate) in (1..).zip(&certificates) {
            let names = CertificateNames::read(certificate)
                .map_err(|reason| CertificateFileError::Unreadable { at, reason })?;
            own.get_or_insert(names);
        }
        own.map(|names| Self { certificates, names }).ok_or(CertificateFileError::Empty)
    }

    /// What the own certificate says about us.
    pub fn names(&self) -> &CertificateNames {
        &self.names
    }

    /// What each of them says, own certificate first.
    pub fn all(&self) -> Vec<CertificateNames> {
        self.certificates.iter().filter_map(|one| CertificateNames::read(one).ok()).collect()
    }

    /// SHA-256 of each of them, own certificate first.
    pub fn fingerprints(&self) -> impl Iterator<Item = Fingerprint> {
        self.certificates.iter().map(|one| Fingerprint::of(one))
    }

    /// The own certificate.
    pub(crate) fn end_entity(&self) -> Option<&CertificateDer<'static>> {
        self.certificates.first()
    }

    /// CERT payloads, own certificate first (RFC 7296 §3.6). A self-signed last one is left out: the peer has it or
    /// does not trust it.
    pub fn payloads(&self) -> Vec<Certificate> {
        let is_root = |certificate: &CertificateDer<'_>| {
            CertificateNames::read(certificate).is_ok_and(|names| names.subject == names.issuer)
        };
        let sent = self.certificates.iter().enumerate().filter(|(at, one)| *at == 0 || !is_root(one));
        sent.map(|(_, one)| Certificate { encoding: CertEncoding::X509Signature, data: one.to_vec() }).collect()
    }
}

impl fmt::Debug for CertificateChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateChain({}, {} certificates)", self.names, self.certificates.len())
    }
}

/// Authorities that may vouch for a peer.
#[derive(Clone)]
pub struct TrustAnchors {
    anchors: Vec<TrustAnchor<'static>>,
    subjects: Vec<String>,
    names: Vec<CertificateNames>,
}

impl TrustAnchors {
    /// Reads PEM files of one or more authorities each.
    pub fn from_pem<'a>(files: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, CertificateFileError> {
        let (mut anchors, mut subjects, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for pem in files {
            for (at, certificate) in (1..).zip(&certificates(pem)?) {
                let names = CertificateNames::read(certificate)
                    .map_err(|reason| CertificateFileError::Unreadable { at, reason })?;
                let anchor = webpki::anchor_from_trusted_cert(certificate)
                    .map_err(|error| CertificateFileError::Anchor { at, reason: error.to_string() })?;
                anchors.push(anchor.to_owned());
                subjects.push(names.subject.to_string());
                all.push(names);
            }
        }
        if anchors.is_empty() { Err(CertificateFileError::Empty) } else { Ok(Self { anchors, subjects, names: all }) }
    }

    /// The CERTREQ payload that names them: SHA-1 of each SubjectPublicKeyInfo, as RFC 7296 §3.7 has it.
    pub fn request(&self) -> CertificateRequest {
        let hash = |anchor: &TrustAnchor<'_>| {
            digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, webpki::spki_for_anchor(anchor).as_ref())
        };
        let authorities = self.anchors.iter().flat_map(|anchor| hash(anchor).as_ref().to_vec()).collect();
        CertificateRequest { encoding: CertEncoding::X509Signature, authorities }
    }

    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// What each of their certificates says.
    pub fn all(&self) -> &[CertificateNames] {
        &self.names
    }

    /// Their subjects, for people.
    pub fn subjects(&self) -> &[String] {
        &self.subjects
    }
}

impl PartialEq for TrustAnchors {
    fn eq(&self, other: &Self) -> bool {
        self.anchors == other.anchors
    }
}

impl Eq for TrustAnchors {}

impl fmt::Debug for TrustAnchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TrustAnchors").field(&self.subjects).finish()
    }
}
