//! What stands in the certificates: names, uses and times (RFC 4945 §5, RFC 5280 §4).

use std::{net::IpAddr, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, CrlDistributionPoint, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints, SanType, SerialNumber,
    SignatureAlgorithm, date_time_ymd,
};

use super::{
    KeyKind,
    authority::{Error, NewAuthority, Subject},
};

/// id-kp-ipsecIKE (RFC 4945 §5.1.3.12).
const IPSEC_IKE: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 17];
/// Clocks of sites may be behind by this much.
const EARLIER: Duration = Duration::from_secs(3600);

impl KeyKind {
    fn algorithm(self) -> &'static SignatureAlgorithm {
        match self {
            Self::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::EcdsaP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Self::Ed25519 => &rcgen::PKCS_ED25519,
            Self::Rsa => &rcgen::PKCS_RSA_SHA256,
        }
    }

    /// A new key of this kind.
    pub(super) fn generate(self) -> Result<KeyPair, Error> {
        Ok(KeyPair::generate_for(self.algorithm())?)
    }
}

/// 20 octets at most, positive, not zero (RFC 5280 §4.1.2.2); from a generator, so that nobody foresees it.
pub(super) fn serial() -> SerialNumber {
    let mut octets: [u8; 16] = rand::random();
    octets[0] = octets[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&octets)
}

fn valid(params: &mut CertificateParams, now: Duration, until: Duration) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now.saturating_sub(EARLIER).as_secs());
    params.not_after = epoch + Duration::from_secs(until.as_secs());
}

/// The authority's own certificate. It may issue to sites and to no further authority.
pub(super) fn authority(new: &NewAuthority, now: Duration, until: Duration) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(organization) = &new.organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params.distinguished_name.push(DnType::CommonName, &new.name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial());
    valid(&mut params, now, until);
    if !new.permit.is_empty() {
        let permitted_subtrees = new.permit.iter().map(|text| subtree(text)).collect::<Result<_, _>>()?;
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    }
    Ok(params)
}

fn subtree(text: &str) -> Result<GeneralSubtree, Error> {
    if let Some((address, length)) = text.split_once('/') {
        let address: IpAddr = address.parse().map_err(|_| Error::Permit(text.to_owned()))?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length = length.parse().ok().filter(|length| *length <= longest);
        let length = length.ok_or_else(|| Error::Permit(text.to_owned()))?;
        return Ok(GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, length)));
    }
    match is_host(text) {
        true => Ok(GeneralSubtree::DnsName(text.to_ascii_lowercase())),
        false => Err(Error::Permit(text.to_owned())),
    }
}

/// A site's certificate: for signatures, in IKE and, as gateways of others ask for it, in TLS.
pub(super) fn site(
    subject: &Subject,
    crl_url: Option<&str>,
    now: Duration,
    until: Duration,
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(unit) = &subject.unit {
        params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
    }
    params.distinguished_name.push(DnType::CommonName, &subject.name);
    let names = [&subject.name].into_iter().chain(&subject.also);
    params.subject_alt_names = names.map(|text| alternative(text)).collect::<Result<_, _>>()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::Other(IPSEC_IKE.to_vec()),
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial());
    params.crl_distribution_points =
        crl_url.into_iter().map(|url| CrlDistributionPoint { uris: vec![url.to_owned()] }).collect();
    valid(&mut params, now, until);
    Ok(params)
}

fn alternative(text: &str) -> Result<SanType, Error> {
    let refused = || Error::Name(text.to_owned());
    if let Ok(address) = text.parse() {
        return Ok(SanType::IpAddress(address));
    }
    let ia5 = |text: &str| text.try_into().map_err(|_| refused());
    match text.split_once('@') {
        Some((user, domain)) if !user.is_empty() && is_host(domain) => Ok(SanType::Rfc822Name(ia5(text)?)),
        None if is_host(text) => Ok(SanType::DnsName(ia5(&text.to_ascii_lowercase())?)),
        _ => Err(refused()),
    }
}

/// Labels of letters, digits and hyphens (RFC 5890 §2.3.1): names of files, too, so nothing else may be in it.
pub(super) fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}
