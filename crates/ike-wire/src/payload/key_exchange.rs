//! Key Exchange, payload type 34 (RFC 7296 §3.4).

use bytes::BufMut;

use super::sa::DhGroup;
use crate::reader::{Reader, Truncated};

/// One side's public value and the group it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyExchange {
    /// The group.
    pub group: DhGroup,
    /// The public value in the group's own encoding.
    pub public: Vec<u8>,
}

impl KeyExchange {
    /// Reads the payload's body.
    pub fn parse(body: &[u8]) -> Result<Self, Truncated> {
        let mut reader = Reader::new(body);
        let group = reader.u16()?.into();
        let _reserved = reader.u16()?;
        Ok(Self { group, public: reader.rest().to_vec() })
    }

    /// Writes the payload's body.
    pub fn emit(&self, out: &mut impl BufMut) {
        out.put_u16(self.group.code());
        out.put_u16(0);
        out.put_slice(&self.public);
    }
}
