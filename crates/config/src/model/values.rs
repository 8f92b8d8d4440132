//! Small values that more than one section uses.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
    sync::Arc,
};

use ipnet::IpNet;
use zeroize::Zeroize;

/// Why a text is not one of the small values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{found}\" is not {wanted}")]
pub struct ValueError {
    /// What was given, shortened.
    pub found: String,
    /// What would have been right.
    pub wanted: &'static str,
}

impl ValueError {
    pub(crate) fn new(found: &str, wanted: &'static str) -> Self {
        Self { found: found.chars().take(64).collect(), wanted }
    }
}

/// The name of something that the operator made up: a route-map, a prefix-list, a profile, a hostname.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let fits = (1..=128).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic());
        // A leading `!` or `#` would make the line a comment when it is read back; `|` starts a filter in the shell.
        if fits && !text.starts_with(['!', '#', '|']) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(ValueError::new(text, "a name: 1 to 128 printable characters without spaces"))
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A password that stands in the configuration itself. It is wiped when dropped and `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret; for the one place that hands it to the kernel, and for `show running-config`.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        // 80 octets: TCP_MD5SIG_MAXKEYLEN of Linux. The error must not repeat the secret.
        if (1..=80).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ValueError::new("(not shown)", "a password of 1 to 80 printable characters without spaces"))
        }
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// An address of an interface with the length of its subnet: `169.254.1.2/30`. Unlike a prefix it keeps the host bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceAddress(IpNet);

impl InterfaceAddress {
    /// The address itself.
    pub fn address(&self) -> IpAddr {
        self.0.addr()
    }

    /// Length of the subnet, in bits.
    pub fn bits(&self) -> u8 {
        self.0.prefix_len()
    }

    /// The subnet.
    pub fn subnet(&self) -> net_types::Prefix {
        self.0.into()
    }
}

impl FromStr for InterfaceAddress {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        const WANTED: &str = "an interface address: expected ADDRESS/LENGTH such as 169.254.1.2/30";
        let net: IpNet = text.parse().map_err(|_| ValueError::new(text, WANTED))?;
        let address = net.addr();
        if address.is_unspecified() || address.is_multicast() {
            return Err(ValueError::new(text, "a unicast address"));
        }
        Ok(Self(net))
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A standard community (RFC 1997).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

/// The well-known ones that FRR spells out (RFC 1997, RFC 3765, RFC 7611, RFC 7999, RFC 8326, RFC 9494).
const WELL_KNOWN: [(&str, u32); 14] = [
    ("graceful-shutdown", 0xffff_0000),
    ("accept-own", 0xffff_0001),
    ("route-filter-translated-v4", 0xffff_0002),
    ("route-filter-v4", 0xffff_0003),
    ("route-filter-translated-v6", 0xffff_0004),
    ("route-filter-v6", 0xffff_0005),
    ("llgr-stale", 0xffff_0006),
    ("no-llgr", 0xffff_0007),
    ("accept-own-nexthop", 0xffff_0008),
    ("blackhole", 0xffff_029a),
    ("no-export", 0xffff_ff01),
    ("no-advertise", 0xffff_ff02),
    ("local-AS", 0xffff_ff03),
    ("no-peer", 0xffff_ff04),
];

/// In a list it stands for any community, in FRR's reading of RFC 1997; it is printed as the number that it is.
const INTERNET: &str = "internet";

impl FromStr for Community {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Some((_, value)) = WELL_KNOWN.iter().find(|(name, _)| *name == text) {
            return Ok(Self(*value));
        }
        if text == INTERNET {
            return Ok(Self(0));
        }
        let parts = text.split_once(':').and_then(|(high, low)| Some((digits::<u16>(high)?, digits::<u16>(low)?)));
        let (high, low) =
            parts.ok_or_else(|| ValueError::new(text, "a community: expected AA:NN or a name such as no-export"))?;
        Ok(Self(u32::from(high) << 16 | u32::from(low)))
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match WELL_KNOWN.iter().find(|(_, value)| *value == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff),
        }
    }
}

/// A large community (RFC 8092).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity(pub u32, pub u32, pub u32);

impl FromStr for LargeCommunity {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut parts = text.split(':').map(digits::<u32>);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Some(global)), Some(Some(first)), Some(Some(second)), None) => Ok(Self(global, first, second)),
            _ => Err(ValueError::new(text, "a large community: expected AA:BB:CC")),
        }
    }
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.0, self.1, self.2)
    }
}

/// A route target or another extended community that has an administrator and a number (RFC 4360 §3, RFC 5668).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExtCommunity {
    /// `ASN:NN` of an AS of two octets.
    TwoOctetAs(u16, u32),
    /// `A.B.C.D:NN`
    Ipv4(Ipv4Addr, u16),
    /// `ASN:NN` of an AS of four octets.
    FourOctetAs(u32, u16),
}

impl FromStr for ExtCommunity {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError::new(text, "an extended community: expected ASN:NN or A.B.C.D:NN");
        let (administrator, number) = text.split_once(':').ok_or_else(wrong)?;
        let community = match (administrator.parse::<Ipv4Addr>(), digits::<u16>(administrator)) {
            (Ok(address), _) => digits(number).map(|number| Self::Ipv4(address, number)),
            (_, Some(asn)) => digits(number).map(|number| Self::TwoOctetAs(asn, number)),
            _ => digits::<u32>(administrator).and_then(|asn| Some(Self::FourOctetAs(asn, digits(number)?))),
        };
        community.ok_or_else(wrong)
    }
}

impl fmt::Display for ExtCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwoOctetAs(asn, number) => write!(f, "{asn}:{number}"),
            Self::Ipv4(address, number) => write!(f, "{address}:{number}"),
            Self::FourOctetAs(asn, number) => write!(f, "{asn}:{number}"),
        }
    }
}

/// An extended community with its kind, as lists spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExtCommunityTerm {
    /// `rt VALUE`: route target (RFC 4360 §4).
    RouteTarget(ExtCommunity),
    /// `soo VALUE`: route origin, also called site of origin (RFC 4360 §5).
    SiteOfOrigin(ExtCommunity),
}

impl fmt::Display for ExtCommunityTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RouteTarget(value) => write!(f, "rt {value}"),
            Self::SiteOfOrigin(value) => write!(f, "soo {value}"),
        }
    }
}

/// What a rule of an extcommunity-list names: `rt VALUE soo VALUE …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtCommunityTerms(pub Vec<ExtCommunityTerm>);

impl FromStr for ExtCommunityTerms {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        const WANTED: &str = "a list of extended communities: expected \"rt VALUE\" or \"soo VALUE\", one or more";
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        if words.is_empty() || !words.len().is_multiple_of(2) {
            return Err(ValueError::new(text, WANTED));
        }
        let terms = words.chunks_exact(2).map(|pair| match pair {
            ["rt", value] => Ok(ExtCommunityTerm::RouteTarget(value.parse()?)),
            ["soo", value] => Ok(ExtCommunityTerm::SiteOfOrigin(value.parse()?)),
            _ => Err(ValueError::new(text, WANTED)),
        });
        let mut terms = terms.collect::<Result<Vec<_>, _>>()?;
        terms.sort();
        terms.dedup();
        Ok(Self(terms))
    }
}

/// `str::parse` takes a leading `+`; numbers of the language do not.
pub(crate) fn digits<T: FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Who an IKE peer says it is (RFC 7296 §3.5).
///
/// Which kind a text means is told by its look, as operators of strongSwan know it: `C=DE, O=x, CN=y` is a distinguished name,
/// an address is an address, `name@example.net` is an e-mail address, `keyid:6869` is opaque octets, anything else is a host name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IkeId {
    /// ID_FQDN
    Fqdn(String),
    /// ID_RFC822_ADDR
    Email(String),
    /// ID_IPV4_ADDR or ID_IPV6_ADDR
    Address(IpAddr),
    /// ID_DER_ASN1_DN, in RFC 4514-like text, most significant part first.
    DistinguishedName(String),
    /// ID_KEY_ID
    KeyId(Vec<u8>),
}

/// Why a text is not an IKE identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IkeIdError {
    /// Empty, too long or not printable.
    #[error("an identity is 1 to 255 printable ASCII characters")]
    Characters,
    /// `keyid:` wants hexadecimal octets.
    #[error("\"{0}\" is not a key id: expected keyid: and an even number of hexadecimal digits")]
    KeyId(String),
    /// A name with a space in it that is no distinguished name.
    #[error("\"{0}\" has a space in it but is no distinguished name such as \"C=DE, O=Example, CN=hub1\"")]
    Space(String),
}

impl FromStr for IkeId {
    type Err = IkeIdError;
    fn from_str(text: &str) -> Result<Self, IkeIdError> {
        let printable = text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
        if text.is_empty() || text.len() > 255 || !printable || text.trim() != text {
            return Err(IkeIdError::Characters);
        }
        if let Some(hex) = text.strip_prefix("keyid:") {
            return unhex(hex).map(Self::KeyId).ok_or_else(|| IkeIdError::KeyId(text.to_owned()));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        if text.contains('=') {
            return Ok(Self::DistinguishedName(text.to_owned()));
        }
        if text.contains(' ') {
            return Err(IkeIdError::Space(text.to_owned()));
        }
        if text.contains('@') { Ok(Self::Email(text.to_owned())) } else { Ok(Self::Fqdn(text.to_owned())) }
    }
}

impl fmt::Display for IkeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fqdn(text) | Self::Email(text) | Self::DistinguishedName(text) => f.write_str(text),
            Self::Address(address) => address.fmt(f),
            Self::KeyId(octets) => {
                f.write_str("keyid:")?;
                octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
        }
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || !text.len().is_multiple_of(2) {
        return None;
    }
    let nibble = |b: u8| (b as char).to_digit(16).and_then(|n| u8::try_from(n).ok());
    text.as_bytes().chunks_exact(2).map(|pair| Some(nibble(*pair.first()?)? << 4 | nibble(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_told_apart_by_their_look() {
        for (text, id) in [
            ("hub1.example.net", IkeId::Fqdn("hub1.example.net".into())),
            ("ops@example.net", IkeId::Email("ops@example.net".into())),
            ("192.0.2.1", IkeId::Address("192.0.2.1".parse().unwrap())),
            ("2001:db8::1", IkeId::Address("2001:db8::1".parse().unwrap())),
            ("C=DE, O=Example, CN=hub1", IkeId::DistinguishedName("C=DE, O=Example, CN=hub1".into())),
            ("keyid:c0ffee", IkeId::KeyId(vec![0xc0, 0xff, 0xee])),
        ] {
            assert_eq!(text.parse(), Ok(id.clone()));
            assert_eq!(id.to_string(), text);
        }
        for bad in ["", "keyid:abc", "keyid:", "keyid:zz", "two words", " lead", "ü"] {
            assert!(bad.parse::<IkeId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn communities_are_read_and_printed_as_frr_does() {
        for text in ["65000:100", "no-export", "local-AS", "blackhole", "0:0"] {
            assert_eq!(text.parse::<Community>().unwrap().to_string(), text);
        }
        for bad in ["65536:1", "1:65536", "1", "1:2:3", "+1:2", ""] {
            assert!(bad.parse::<Community>().is_err(), "{bad}");
        }
        assert_eq!("65000:1:2".parse(), Ok(LargeCommunity(65000, 1, 2)));
        assert!("65000:1".parse::<LargeCommunity>().is_err());
        assert!("1:2:3:4".parse::<LargeCommunity>().is_err());
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        let secret: Secret = "hunter2".parse().unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert!(!"x\u{7f}".parse::<Secret>().unwrap_err().to_string().contains('x'));
    }

    #[test]
    fn an_interface_address_keeps_its_host_bits() {
        let address: InterfaceAddress = "169.254.1.2/30".parse().unwrap();
        assert_eq!(address.to_string(), "169.254.1.2/30");
        assert_eq!(address.subnet().to_string(), "169.254.1.0/30");
        assert!("0.0.0.0/8".parse::<InterfaceAddress>().is_err());
    }
}
