//! What a certificate says about its subject: names, validity and key usage.
//!
//! Trust is decided elsewhere and first; this only reads a certificate that was, or is about to be, verified.

use std::{fmt, net::IpAddr, time::Duration};

use x509_cert::{
    Certificate,
    der::{Decode, Encode},
    ext::pkix::{KeyUsage, KeyUsages, SubjectAltName, name::GeneralName},
};

use super::{dn::DistinguishedName, identity::Identity};

/// Names of one certificate, and whether its key may sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateNames {
    /// Its subject.
    pub subject: DistinguishedName,
    /// Who signed it.
    pub issuer: DistinguishedName,
    /// Its subject alternative names that an IKE identity can match.
    pub alternatives: Vec<Identity>,
    /// Key usage permits signatures other than on certificates (RFC 4945 §5.1.3.2).
    pub may_sign: bool,
    /// Its serial number, as the octets of a big-endian integer.
    pub serial: Vec<u8>,
    /// Its first moment, as time since 1970.
    pub not_before: Duration,
    /// Its last moment, as time since 1970.
    pub not_after: Duration,
}

/// A certificate that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the certificate: {0}")]
pub struct UnreadableCertificate(String);

impl CertificateNames {
    /// Reads a certificate in DER.
    pub fn read(der: &[u8]) -> Result<Self, UnreadableCertificate> {
        let unreadable = |error: &dyn fmt::Display| UnreadableCertificate(error.to_string());
        let certificate = Certificate::from_der(der).map_err(|e| unreadable(&e))?;
        let tbs = certificate.tbs_certificate();
        let dn = |name: &x509_cert::name::Name| {
            let der = name.to_der().map_err(|e| unreadable(&e))?;
            DistinguishedName::from_der(&der).map_err(|e| unreadable(&e))
        };
        let alternatives = match tbs.get_extension::<SubjectAltName>().map_err(|e| unreadable(&e))? {
            Some((_, names)) => names.0.iter().filter_map(identity_of).collect(),
            None => Vec::new(),
        };
        let may_sign = match tbs.get_extension::<KeyUsage>().map_err(|e| unreadable(&e))? {
            Some((_, usage)) => {
                usage.0.contains(KeyUsages::DigitalSignature) || usage.0.contains(KeyUsages::NonRepudiation)
            }
            None => true,
        };
        Ok(Self {
            subject: dn(tbs.subject())?,
            issuer: dn(tbs.issuer())?,
            alternatives,
            may_sign,
            serial: without_sign(tbs.serial_number().as_bytes()).to_vec(),
            not_before: tbs.validity().not_before.to_unix_duration(),
            not_after: tbs.validity().not_after.to_unix_duration(),
        })
    }

    /// Whether the certificate was issued to this identity: a distinguished name is its subject, anything else one of
    /// its alternative names, without wildcards (RFC 4945 §3.1). A key ID is in no certificate.
    pub fn vouch_for(&self, identity: &Identity) -> bool {
        match identity {
            Identity::Dn(name) => *name == self.subject || self.alternatives.contains(identity),
            Identity::Address(_) | Identity::Fqdn(_) | Identity::Email(_) => self.alternatives.contains(identity),
            Identity::KeyId(_) => false,
        }
    }
}

impl fmt::Display for CertificateNames {
    /// Subject and alternative names, for refusals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.subject)?;
        self.alternatives.iter().take(8).try_for_each(|name| write!(f, ", {name}"))
    }
}

/// DER puts a zero octet before what would look negative.
fn without_sign(integer: &[u8]) -> &[u8] {
    match integer {
        [0, rest @ ..] if !rest.is_empty() => rest,
        other => other,
    }
}

/// A moment as people read it, to the second, in UTC. `since_1970` may be anything.
pub fn utc(since_1970: Duration) -> String {
    let whole = Duration::from_secs(since_1970.as_secs());
    x509_cert::der::DateTime::from_unix_duration(whole)
        .map_or_else(|_| format!("{} seconds after 1970", whole.as_secs()), |moment| moment.to_string())
}

fn identity_of(name: &GeneralName) -> Option<Identity> {
    match name {
        GeneralName::DnsName(name) => Some(Identity::fqdn(name.as_str())),
        GeneralName::Rfc822Name(address) => Some(Identity::email(address.as_str())),
        GeneralName::IpAddress(octets) => match octets.as_bytes() {
            [a, b, c, d] => Some(Identity::Address(IpAddr::from([*a, *b, *c, *d]))),
            octets => <[u8; 16]>::try_from(octets).ok().map(|octets| Identity::Address(IpAddr::from(octets))),
        },
        GeneralName::DirectoryName(name) => {
            name.to_der().ok().and_then(|der| DistinguishedName::from_der(&der).ok()).map(Identity::Dn)
        }
        GeneralName::OtherName(_)
        | GeneralName::EdiPartyName(_)
        | GeneralName::UniformResourceIdentifier(_)
        | GeneralName::RegisteredId(_) => None,
    }
}
