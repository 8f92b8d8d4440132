//! Authentication, payload type 39 (RFC 7296 §3.8, RFC 7427 §3).

use std::fmt;

use bytes::BufMut;

use crate::{
    codes::codes,
    reader::{Reader, Truncated},
};

codes! {
    /// How a side proves its identity.
    pub enum AuthMethod: u8 {
        /// RSASSA-PKCS1-v1_5.
        RsaSignature = 1, "RSA";
        /// A key both sides know.
        SharedKey = 2, "PSK";
        /// DSS; named so that a refusal can say so.
        Dss = 3, "DSS";
        /// ECDSA with SHA-256 on P-256 (RFC 4754).
        Ecdsa256 = 9, "ECDSA-256";
        /// ECDSA with SHA-384 on P-384 (RFC 4754).
        Ecdsa384 = 10, "ECDSA-384";
        /// ECDSA with SHA-512 on P-521 (RFC 4754).
        Ecdsa521 = 11, "ECDSA-521";
        /// NULL authentication (RFC 7619); never accepted.
        Null = 13, "NULL";
        /// A signature that says its own algorithm (RFC 7427).
        DigitalSignature = 14, "digital signature";
    }
}

/// The proof.
#[derive(Clone, PartialEq, Eq)]
pub struct Authentication {
    /// What `data` is.
    pub method: AuthMethod,
    /// Signature or MAC.
    pub data: Vec<u8>,
}

impl Authentication {
    /// Reads the payload's body.
    pub fn parse(body: &[u8]) -> Result<Self, Truncated> {
        let mut reader = Reader::new(body);
        let method = reader.u8()?.into();
        let _reserved = reader.array::<3>()?;
        Ok(Self { method, data: reader.rest().to_vec() })
    }

    /// Writes the payload's body.
    pub fn emit(&self, out: &mut impl BufMut) {
        out.put_u8(self.method.code());
        out.put_bytes(0, 3);
        out.put_slice(&self.data);
    }
}

impl fmt::Debug for Authentication {
    /// Without the data: a PSK's MAC in a log is food for a dictionary attack.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authentication({}, {} octets)", self.method, self.data.len())
    }
}
