//! Whom a side claims to be, and whom a certificate says it is (RFC 7296 §3.5, RFC 4945 §3.1).

use std::{fmt, net::IpAddr, str::FromStr};

use ike_wire::{IdKind, Identification};

use super::dn::{DistinguishedName, DnError};

/// A name for one end of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// ID_IPV4_ADDR or ID_IPV6_ADDR.
    Address(IpAddr),
    /// ID_FQDN, in lower case.
    Fqdn(String),
    /// ID_RFC822_ADDR: the local part as it is, the domain in lower case.
    Email(String),
    /// ID_DER_ASN1_DN.
    Dn(DistinguishedName),
    /// ID_KEY_ID: meaningful to the two sides only, so for pre-shared keys only.
    KeyId(Vec<u8>),
}

/// A text that names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It looks like a distinguished name and is none.
    #[error(transparent)]
    Dn(#[from] DnError),
    /// After `keyid:` come hexadecimal digits.
    #[error("\"{0}\" is not a key ID, expected keyid: and pairs of hexadecimal digits")]
    KeyId(String),
    /// Nothing else fits.
    #[error("\"{0}\" is no identity, expected a host name, an address, user@domain, CN=…,O=… or keyid:HEX")]
    Text(String),
}

impl Identity {
    /// A host name.
    pub fn fqdn(name: &str) -> Self {
        Self::Fqdn(name.to_ascii_lowercase())
    }

    /// An e-mail address. Only the domain is without case (RFC 5280 §7.5).
    pub fn email(address: &str) -> Self {
        Self::Email(match address.rsplit_once('@') {
            Some((local, domain)) => format!("{local}@{}", domain.to_ascii_lowercase()),
            None => address.to_owned(),
        })
    }

    /// What the peer put into its ID payload; `None` for kinds nobody can be configured as.
    pub fn from_payload(id: &Identification) -> Option<Self> {
        let text = || std::str::from_utf8(&id.data).ok();
        match id.kind {
            IdKind::Ipv4 => <[u8; 4]>::try_from(id.data.as_slice()).ok().map(|octets| Self::Address(octets.into())),
            IdKind::Ipv6 => <[u8; 16]>::try_from(id.data.as_slice()).ok().map(|octets| Self::Address(octets.into())),
            IdKind::Fqdn => text().map(Self::fqdn),
            IdKind::Rfc822 => text().map(Self::email),
            IdKind::DerAsn1Dn => DistinguishedName::from_der(&id.data).ok().map(Self::Dn),
            IdKind::KeyId => Some(Self::KeyId(id.data.clone())),
            IdKind::DerAsn1Gn | IdKind::Null | IdKind::Other(_) => None,
        }
    }

    /// As it goes into an ID payload.
    pub fn payload(&self) -> Identification {
        match self {
            Self::Address(IpAddr::V4(address)) => Identification::new(IdKind::Ipv4, address.octets()),
            Self::Address(IpAddr::V6(address)) => Identification::new(IdKind::Ipv6, address.octets()),
            Self::Fqdn(name) => Identification::new(IdKind::Fqdn, name.as_bytes()),
            Self::Email(address) => Identification::new(IdKind::Rfc822, address.as_bytes()),
            Self::Dn(name) => Identification::new(IdKind::DerAsn1Dn, name.der()),
            Self::KeyId(octets) => Identification::new(IdKind::KeyId, octets.as_slice()),
        }
    }

    /// Whether an ID payload claims this identity.
    pub fn is_claimed_by(&self, id: &Identification) -> bool {
        Self::from_payload(id).as_ref() == Some(self)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        if let Some(hex) = text.strip_prefix("keyid:") {
            let octets = decode_hex(hex).filter(|octets| !octets.is_empty());
            return octets.map(Self::KeyId).ok_or_else(|| IdentityError::KeyId(text.to_owned()));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        if text.contains('=') {
            return Ok(Self::Dn(text.parse()?));
        }
        let plain = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_graphic());
        match text.rsplit_once('@') {
            Some((local, domain)) if plain && !local.is_empty() && !domain.is_empty() => Ok(Self::email(text)),
            None if plain => Ok(Self::fqdn(text)),
            _ => Err(IdentityError::Text(text.to_owned())),
        }
    }
}

fn decode_hex(hex: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let octets = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { octets } else { None }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Fqdn(name) | Self::Email(name) => f.write_str(name),
            Self::Dn(name) => name.fmt(f),
            Self::KeyId(octets) => {
                f.write_str("keyid:")?;
                octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(text: &str) -> Identity {
        text.parse().unwrap()
    }

    #[test]
    fn texts_are_read_as_what_they_look_like_and_claimed_as_such() {
        for (text, kind) in [
            ("edge1.example.net", IdKind::Fqdn),
            ("192.0.2.1", IdKind::Ipv4),
            ("2001:db8::1", IdKind::Ipv6),
            ("ops@example.net", IdKind::Rfc822),
            ("CN=edge1,O=Example", IdKind::DerAsn1Dn),
            ("keyid:00c0ffee", IdKind::KeyId),
        ] {
            let id = identity(text);
            assert_eq!(id.payload().kind, kind, "{text}");
            assert_eq!(id.to_string(), text);
            assert!(id.is_claimed_by(&id.payload()), "{text}");
            assert!(!identity("other.example.net").is_claimed_by(&id.payload()), "{text}");
        }
        for text in ["", "a b", "@example.net", "keyid:", "keyid:0", "keyid:xy"] {
            assert!(text.parse::<Identity>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn host_names_and_mail_domains_have_no_case() {
        assert!(identity("edge1.example.net").is_claimed_by(&Identification::new(IdKind::Fqdn, "EDGE1.Example.net")));
        assert_eq!(identity("Ops@Example.NET"), identity("Ops@example.net"));
        assert_ne!(identity("Ops@example.net"), identity("ops@example.net"));
    }

    #[test]
    fn the_kind_of_a_claim_matters() {
        assert!(!identity("192.0.2.1").is_claimed_by(&Identification::new(IdKind::Fqdn, "192.0.2.1")));
        assert!(!identity("a.example").is_claimed_by(&Identification::new(IdKind::KeyId, "a.example")));
        assert_eq!(Identity::from_payload(&Identification::new(IdKind::Null, [])), None);
        assert_eq!(Identity::from_payload(&Identification::new(IdKind::Ipv4, [1, 2, 3])), None);
    }
}
