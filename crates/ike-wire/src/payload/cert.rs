//! Certificate and Certificate Request, payload types 37 and 38 (RFC 7296 §3.6, §3.7).

use bytes::BufMut;

use super::PayloadError;
use crate::{codes::codes, reader::Reader};

/// Octets of a SHA-1 hash, which names an authority by its key.
const AUTHORITY_HASH_LEN: usize = 20;

codes! {
    /// How a certificate is encoded.
    pub enum CertEncoding: u8 {
        /// PKCS #7 wrapped.
        Pkcs7 = 1, "PKCS7";
        /// One DER X.509 certificate, signature purpose: the only one we send.
        X509Signature = 4, "X509_SIGNATURE";
        /// A revocation list.
        Crl = 7, "CRL";
        /// SHA-1 and URL of one certificate.
        HashUrl = 12, "HASH_URL";
        /// SHA-1 and URL of a bundle.
        HashUrlBundle = 13, "HASH_URL_BUNDLE";
        /// An OCSP answer (RFC 4806).
        Ocsp = 14, "OCSP";
        /// A bare public key (RFC 7670).
        RawPublicKey = 15, "RAW_PUBLIC_KEY";
    }
}

/// One certificate; the first of a message is the sender's own (RFC 7296 §3.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// How `data` is encoded.
    pub encoding: CertEncoding,
    /// The certificate.
    pub data: Vec<u8>,
}

impl Certificate {
    /// Reads the payload's body.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader::new(body);
        Ok(Self { encoding: reader.u8()?.into(), data: reader.rest().to_vec() })
    }

    /// Writes the payload's body.
    pub fn emit(&self, out: &mut impl BufMut) {
        out.put_u8(self.encoding.code());
        out.put_slice(&self.data);
    }
}

/// Asks for a certificate, preferably under one of the named authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// The encoding asked for.
    pub encoding: CertEncoding,
    /// For X.509 encodings SHA-1 hashes of the authorities' SubjectPublicKeyInfo, one after the other.
    pub authorities: Vec<u8>,
}

impl CertificateRequest {
    /// Reads the payload's body.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader::new(body);
        let encoding: CertEncoding = reader.u8()?.into();
        let authorities = reader.rest();
        let hashed = matches!(encoding, CertEncoding::X509Signature | CertEncoding::HashUrl);
        if hashed && !authorities.len().is_multiple_of(AUTHORITY_HASH_LEN) {
            return Err(PayloadError::AuthorityHashes(authorities.len()));
        }
        Ok(Self { encoding, authorities: authorities.to_vec() })
    }

    /// Writes the payload's body.
    pub fn emit(&self, out: &mut impl BufMut) {
        out.put_u8(self.encoding.code());
        out.put_slice(&self.authorities);
    }

    /// The hashes one by one.
    pub fn hashes(&self) -> impl Iterator<Item = &[u8]> {
        self.authorities.chunks_exact(AUTHORITY_HASH_LEN)
    }
}
