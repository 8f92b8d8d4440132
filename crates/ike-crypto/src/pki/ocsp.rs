//! Asking a responder about one certificate, and believing its answer (RFC 6960, in the profile of RFC 5019: no nonce,
//! so that answers may come from a cache, and times that say how old they may be).

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest;
use pki_types::{CertificateDer, Der, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, RawPublicKeyEntity};
use x509_cert::{der as der08, spki::SubjectPublicKeyInfoRef};
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspRequest, OcspResponse, OcspResponseStatus, Request,
    SingleResponse, TbsRequest,
};

use der07::{Decode, Encode};

use super::verify::CERTIFICATE_SIGNATURES;
use crate::auth::SignatureAlgorithm;

/// id-kp-OCSPSigning (RFC 6960 §4.2.2.2).
const OCSP_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x09];
/// SHA-1 as RFC 5019 §2.1.1 has it: it only names the issuer, and every responder understands it.
const SHA1: der07::asn1::ObjectIdentifier = der07::asn1::ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
/// Clocks may differ by this much.
const SKEW: Duration = Duration::from_secs(300);
/// How long an answer is believed that does not say when the next one is due.
const WITHOUT_NEXT: Duration = Duration::from_secs(300);
/// Certificates of an answer that are looked at.
const MAX_SIGNERS: usize = 4;

/// Which certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatusKey {
    certificate: CertificateNumber,
    /// A hash of the question, in which the issuer's key is, too.
    question: [u8; 32],
}

impl StatusKey {
    /// The certificate, as far as it can be told without its issuer's key.
    pub(super) fn certificate(&self) -> CertificateNumber {
        self.certificate
    }
}

/// A hash of a certificate's issuer and serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CertificateNumber([u8; 32]);

impl CertificateNumber {
    /// Of contents of the issuer's Name, without tag and length, and of the serial number.
    pub(super) fn new(issuer: &[u8], serial: &[u8]) -> Self {
        let mut hashed = digest::Context::new(&digest::SHA256);
        hashed.update(&(issuer.len() as u64).to_be_bytes()); // where the one ends and the other begins
        hashed.update(issuer);
        hashed.update(serial);
        Self(sha256(hashed.finish()))
    }
}

fn sha256(digest: digest::Digest) -> [u8; 32] {
    let mut octets = [0; 32];
    octets.copy_from_slice(digest.as_ref());
    octets
}

/// A question for a responder. It knows enough of the issuer to tell an authentic answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusQuery {
    responder: Arc<str>,
    id: CertId,
    request: Vec<u8>,
    certificate: CertificateNumber,
    issuer: Issuer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Issuer {
    /// Contents of its Name, without tag and length.
    subject: Vec<u8>,
    spki: SubjectPublicKeyInfoDer<'static>,
}

/// What a responder said about the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateStatus {
    /// Not revoked.
    Good,
    /// Revoked.
    Revoked {
        /// Since then, as time since 1970.
        at: Duration,
    },
    /// The responder does not know the certificate.
    Unknown,
}

/// An authentic answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusAnswer {
    /// What it says.
    pub status: CertificateStatus,
    /// As of then, as time since 1970.
    pub this_update: Duration,
    /// To be believed until then, as time since 1970.
    pub next_update: Duration,
}

/// An answer that is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatusError {
    /// Not an OCSP response.
    #[error("not an OCSP response: {0}")]
    Unreadable(String),
    /// The responder says that it cannot or will not answer.
    #[error("the responder refuses to answer: {0}")]
    Refused(&'static str),
    /// It answers about something else.
    #[error("the answer is not about the certificate that was asked about")]
    OtherCertificate,
    /// Neither signed by the issuer nor by whom the issuer delegated it to.
    #[error("the answer is signed by nobody whom the issuer of the certificate lets answer (RFC 6960 §4.2.2.2)")]
    Forged,
    /// From the future, or too old.
    #[error("the answer is not valid now; check the clocks of both sides")]
    NotCurrent,
}

impl StatusQuery {
    /// A question about the certificate with this serial number by this issuer; `None` for a public key that cannot be read.
    pub(super) fn new(
        responder: Arc<str>,
        issuer_subject: &[u8],
        issuer_spki: SubjectPublicKeyInfoDer<'static>,
        serial: &[u8],
    ) -> Option<Self> {
        let subject = der07::asn1::AnyRef::new(der07::Tag::Sequence, issuer_subject).ok()?.to_der().ok()?;
        let spki = <SubjectPublicKeyInfoRef<'_> as der08::Decode>::from_der(issuer_spki.as_ref()).ok()?;
        let hash = |octets: &[u8]| {
            let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, octets);
            der07::asn1::OctetString::new(hash.as_ref()).ok()
        };
        let null = der07::asn1::Any::from(der07::asn1::Null);
        let id = CertId {
            hash_algorithm: x509_cert_02::spki::AlgorithmIdentifier { oid: SHA1, parameters: Some(null) },
            issuer_name_hash: hash(&subject)?,
            issuer_key_hash: hash(spki.subject_public_key.raw_bytes())?,
            serial_number: x509_cert_02::serial_number::SerialNumber::new(serial).ok()?,
        };
        let asked = Request { req_cert: id.clone(), single_request_extensions: None };
        let tbs_request = TbsRequest { request_list: vec![asked], ..TbsRequest::default() };
        let request = OcspRequest { tbs_request, optional_signature: None }.to_der().ok()?;
        let certificate = CertificateNumber::new(issuer_subject, serial);
        Some(Self {
            responder,
            id,
            request,
            certificate,
            issuer: Issuer { subject: issuer_subject.to_vec(), spki: issuer_spki },
        })
    }

    /// Whom to ask: the configured URL.
    pub fn responder(&self) -> &str {
        &self.responder
    }

    /// What to send as `application/ocsp-request` (RFC 6960 appendix A.1).
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// The certificate that it is about.
    pub fn key(&self) -> StatusKey {
        let question = sha256(digest::digest(&digest::SHA256, &self.request));
        StatusKey { certificate: self.certificate, question }
    }

    /// Reads an answer, if it is authentic and valid at `now`, which is time since 1970.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn read(&self, response: &[u8], now: Duration) -> Result<StatusAnswer, StatusError> {
        let unreadable = |error: der07::Error| StatusError::Unreadable(error.to_string());
        let response = OcspResponse::from_der(response).map_err(unreadable)?;
        if response.response_status != OcspResponseStatus::Successful {
            return Err(StatusError::Refused(match response.response_status {
                OcspResponseStatus::Unauthorized => "it does not serve this authority (unauthorized)",
                OcspResponseStatus::TryLater => "try later",
                OcspResponseStatus::SigRequired => "it wants signed requests",
                OcspResponseStatus::MalformedRequest => "malformed request",
                OcspResponseStatus::InternalError | OcspResponseStatus::Successful => "internal error",
            }));
        }
        let body = response.response_bytes.ok_or_else(|| StatusError::Unreadable("without a body".to_owned()))?;
        let basic = BasicOcspResponse::from_der(body.response.as_bytes()).map_err(unreadable)?;
        let ours = |one: &&SingleResponse| one.cert_id == self.id || same_certificate(&one.cert_id, &self.id);
        let single = basic.tbs_response_data.responses.iter().find(ours).ok_or(StatusError::OtherCertificate)?;
        if !self.is_signed(&basic, now).map_err(unreadable)? {
            return Err(StatusError::Forged);
        }
        let since_1970 = |time: &OcspGeneralizedTime| time.0.to_unix_duration();
        let this_update = since_1970(&single.this_update);
        let next_update = single.next_update.as_ref().map_or(this_update + WITHOUT_NEXT, since_1970);
        if this_update > now + SKEW || next_update + SKEW <= now {
            return Err(StatusError::NotCurrent);
        }
        let status = match &single.cert_status {
            CertStatus::Good(_) => CertificateStatus::Good,
            CertStatus::Revoked(info) => CertificateStatus::Revoked { at: since_1970(&info.revocation_time) },
            CertStatus::Unknown(_) => CertificateStatus::Unknown,
        };
        Ok(StatusAnswer { status, this_update, next_update: next_update.max(now + Duration::from_secs(1)) })
    }

    /// By the issuer itself, or by a certificate that the issuer gave for this use (RFC 6960 §4.2.2.2).
    fn is_signed(&self, basic: &BasicOcspResponse, now: Duration) -> Result<bool, der07::Error> {
        let message = basic.tbs_response_data.to_der()?;
        let signature = basic.signature.raw_bytes();
        let Some(algorithm) = SignatureAlgorithm::from_identifier(&basic.signature_algorithm.to_der()?) else {
            return Ok(false);
        };
        let by_issuer = RawPublicKeyEntity::try_from(&self.issuer.spki).is_ok_and(|issuer| {
            algorithm.verifiers().iter().any(|one| issuer.verify_signature(*one, &message, signature).is_ok())
        });
        if by_issuer {
            return Ok(true);
        }
        let Some(spki) = contents(self.issuer.spki.as_ref()) else { return Ok(false) };
        let anchor = TrustAnchor {
            subject: Der::from_slice(&self.issuer.subject),
            subject_public_key_info: Der::from_slice(spki),
            name_constraints: None,
        };
        for certificate in basic.certs.iter().flatten().take(MAX_SIGNERS) {
            let certificate = CertificateDer::from(certificate.to_der()?);
            let Ok(signer) = EndEntityCert::try_from(&certificate) else { continue };
            let (usage, time) = (KeyUsage::required(OCSP_SIGNING), UnixTime::since_unix_epoch(now));
            let anchors = std::slice::from_ref(&anchor);
            let delegated =
                signer.verify_for_usage(CERTIFICATE_SIGNATURES, anchors, &[], time, usage, None, None).is_ok();
            let verifies = |one: &&dyn pki_types::SignatureVerificationAlgorithm| {
                signer.verify_signature(*one, &message, signature)
            };
            if delegated && algorithm.verifiers().iter().any(|one| verifies(one).is_ok()) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Responders may leave out the NULL that stands behind the hash algorithm.
fn same_certificate(one: &CertId, other: &CertId) -> bool {
    one.hash_algorithm.oid == other.hash_algorithm.oid
        && one.issuer_name_hash == other.issuer_name_hash
        && one.issuer_key_hash == other.issuer_key_hash
        && one.serial_number == other.serial_number
}

/// What stands in a DER element behind its tag and length.
pub(super) fn contents(der: &[u8]) -> Option<&[u8]> {
    let element = <der08::asn1::AnyRef<'_> as der08::Decode>::from_der(der).ok()?;
    Some(element.value())
}
