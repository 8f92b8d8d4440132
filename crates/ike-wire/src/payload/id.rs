//! Identification, payload types 35 and 36 (RFC 7296 §3.5).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use bytes::BufMut;

use crate::{
    codes::codes,
    reader::{Reader, Truncated},
};

codes! {
    /// What kind of name an identification holds.
    pub enum IdKind: u8 {
        /// Four octets of address.
        Ipv4 = 1, "ID_IPV4_ADDR";
        /// A fully qualified domain name.
        Fqdn = 2, "ID_FQDN";
        /// An e-mail address.
        Rfc822 = 3, "ID_RFC822_ADDR";
        /// Sixteen octets of address.
        Ipv6 = 5, "ID_IPV6_ADDR";
        /// A distinguished name in DER.
        DerAsn1Dn = 9, "ID_DER_ASN1_DN";
        /// A general name in DER.
        DerAsn1Gn = 10, "ID_DER_ASN1_GN";
        /// Octets only the two sides know the meaning of.
        KeyId = 11, "ID_KEY_ID";
        /// No identity (RFC 7619).
        Null = 13, "ID_NULL";
    }
}

/// The name a side claims; AUTH covers exactly these octets, reserved ones too (RFC 7296 §2.15).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Identification {
    /// How to read `data`.
    pub kind: IdKind,
    /// Zero when sent; kept because the peer's AUTH covers them as it sent them.
    pub reserved: [u8; 3],
    /// The name itself.
    pub data: Vec<u8>,
}

impl Identification {
    /// An identity with zero reserved octets, as one sends it.
    pub fn new(kind: IdKind, data: impl Into<Vec<u8>>) -> Self {
        Self { kind, reserved: [0; 3], data: data.into() }
    }

    /// Reads the payload's body.
    pub fn parse(body: &[u8]) -> Result<Self, Truncated> {
        let mut reader = Reader::new(body);
        let kind = reader.u8()?.into();
        Ok(Self { kind, reserved: reader.array()?, data: reader.rest().to_vec() })
    }

    /// Writes the payload's body.
    pub fn emit(&self, out: &mut impl BufMut) {
        out.put_u8(self.kind.code());
        out.put_slice(&self.reserved);
        out.put_slice(&self.data);
    }

    /// The body's octets: RestOfInitIDPayload and RestOfRespIDPayload of RFC 7296 §2.15.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.data.len() + 4);
        self.emit(&mut out);
        out
    }
}

impl fmt::Display for Identification {
    /// Names and addresses as people write them, anything else as its kind and hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = match self.kind {
            IdKind::Ipv4 => <[u8; 4]>::try_from(self.data.as_slice()).ok().map(|a| IpAddr::V4(Ipv4Addr::from(a))),
            IdKind::Ipv6 => <[u8; 16]>::try_from(self.data.as_slice()).ok().map(|a| IpAddr::V6(Ipv6Addr::from(a))),
            _ => None,
        };
        let text = match self.kind {
            IdKind::Fqdn | IdKind::Rfc822 => std::str::from_utf8(&self.data).ok(),
            _ => None,
        };
        match (address, text) {
            (Some(address), _) => write!(f, "{address}"),
            // A name from the wire reaches logs and terminals: control characters must not.
            (_, Some(text)) if !text.chars().any(char::is_control) => f.write_str(text),
            _ => {
                write!(f, "{}:", self.kind)?;
                // Enough to recognise it by; a peer does not get to fill the log.
                self.data.iter().take(64).try_for_each(|octet| write!(f, "{octet:02x}"))
            }
        }
    }
}

impl fmt::Debug for Identification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({self})", self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_print_as_people_write_them() {
        assert_eq!(Identification::new(IdKind::Fqdn, "edge1.example.net").to_string(), "edge1.example.net");
        assert_eq!(Identification::new(IdKind::Ipv4, [192, 0, 2, 7]).to_string(), "192.0.2.7");
        assert_eq!(Identification::new(IdKind::Ipv4, [192, 0, 2]).to_string(), "ID_IPV4_ADDR:c00002");
        assert_eq!(Identification::new(IdKind::Fqdn, "a\x1b[2J").to_string(), "ID_FQDN:611b5b324a");
    }

    #[test]
    fn reserved_octets_survive_because_auth_covers_them() {
        let body = [2, 1, 2, 3, b'a'];
        assert_eq!(Identification::parse(&body).unwrap().to_bytes(), body);
    }
}
