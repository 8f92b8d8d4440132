//! Values in a syntax: what may stand in the place of an upper-case word.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use net_types::{Asn, Family, IfName, Prefix, RouterId, TunnelName, WanName};

use crate::model::{
    Adjust, Community, EspSuite, ExtCommunity, ExtCommunityTerms, Fingerprint, Host, HttpUrl, IkeId, IkeSuite,
    InterfaceAddress, LargeCommunity, Name, NeighborId, Pattern, Secret, Span,
};

/// A value's place in a syntax: a label, unique within the syntax, and what is taken there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// As the syntax says it.
    pub label: &'static str,
    /// What is taken.
    pub kind: Kind,
}

/// Something that is named in one place and defined in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// `wan`
    Wan,
    /// `ipsec identity`
    Identity,
    /// `ipsec proposal`
    Proposal,
    /// `key chain`
    KeyChain,
    /// `ipsec tunnel`
    Tunnel,
    /// `bfd` / `profile`
    BfdProfile,
    /// `route-map`
    RouteMap,
    /// `neighbor NAME peer-group`
    PeerGroup,
    /// `access-list` or `ipv6 access-list`; the section tells which where the statement does not.
    AccessList(Option<Family>),
    /// `bgp as-path access-list`
    AsPathList,
    /// `bgp community-list`
    CommunityList,
    /// `bgp large-community-list`
    LargeCommunityList,
    /// `bgp extcommunity-list`
    ExtCommunityList,
    /// `ip prefix-list` or `ipv6 prefix-list`; the section tells which where the statement does not.
    PrefixList(Option<Family>),
}

/// What is taken in the place of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number between two.
    Range(u64, u64),
    /// An AS number.
    Asn,
    /// Four octets, not all zero.
    RouterId,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// An address.
    Address,
    /// An IPv4 prefix.
    Prefix4,
    /// An IPv6 prefix.
    Prefix6,
    /// A prefix.
    Prefix,
    /// An IPv4 address and the length of its subnet.
    Interface4,
    /// An IPv6 address and the length of its subnet.
    Interface6,
    /// Address and port.
    Socket,
    /// A network interface.
    Interface,
    /// A BGP neighbor: an address, an interface or a peer-group.
    Peer,
    /// A BGP neighbor proper: an address, or the interface that it is known by.
    Neighbor,
    /// A tunnel.
    Tunnel,
    /// A WAN link.
    Wan,
    /// A name of the operator's.
    Name,
    /// The same, of something defined elsewhere.
    Reference(Reference),
    /// A host name or address.
    Host,
    /// Seconds or milliseconds.
    Span,
    /// A file.
    Path,
    /// A URL of a revocation list or of a responder.
    Url,
    /// SHA-256 of a certificate.
    Fingerprint,
    /// A community.
    Community,
    /// A large community.
    LargeCommunity,
    /// An extended community without its kind.
    ExtCommunity,
    /// Extended communities with their kinds: all that is left of the line.
    ExtCommunities,
    /// A regular expression: all that is left of the line.
    Pattern,
    /// A number, or a difference.
    Adjust,
    /// A suite for IKE.
    IkeSuite,
    /// A suite for ESP.
    EspSuite,
    /// An IKE identity: all that is left of the line.
    IkeId,
    /// A password.
    Secret,
    /// Text: all that is left of the line.
    Line,
}

impl Leaf {
    /// What the upper-case word `text` of a syntax stands for.
    pub(super) fn from_syntax(text: &'static str) -> Option<Self> {
        if let Some((label, range)) = text.split_once(':') {
            let (low, high) = range.split_once('-')?;
            return Some(Self { label, kind: Kind::Range(low.parse().ok()?, high.parse().ok()?) });
        }
        let kind = match text {
            "ASN" => Kind::Asn,
            "ROUTER-ID" => Kind::RouterId,
            "IPV4" | "WILDCARD" => Kind::Ipv4,
            "IPV6" => Kind::Ipv6,
            "ADDRESS" | "LOCAL" | "GATEWAY" => Kind::Address,
            "NEIGHBOR" => Kind::Neighbor,
            "PEER" => Kind::Peer,
            "PEER-GROUP" => Kind::Reference(Reference::PeerGroup),
            "PREFIX4" => Kind::Prefix4,
            "PREFIX6" => Kind::Prefix6,
            "PREFIX" => Kind::Prefix,
            "INTERFACE4" => Kind::Interface4,
            "INTERFACE6" => Kind::Interface6,
            "ADDRESS-PORT" => Kind::Socket,
            "IFNAME" => Kind::Interface,
            "TUNNEL" => Kind::Tunnel,
            "TUNNEL-USED" => Kind::Reference(Reference::Tunnel),
            "WAN" => Kind::Wan,
            "WAN-USED" => Kind::Reference(Reference::Wan),
            "NAME" => Kind::Name,
            "IDENTITY" => Kind::Reference(Reference::Identity),
            "PROPOSAL" => Kind::Reference(Reference::Proposal),
            "KEY-CHAIN" => Kind::Reference(Reference::KeyChain),
            "PROFILE" => Kind::Reference(Reference::BfdProfile),
            "ROUTE-MAP" | "CONDITION" | "SUPPRESS" => Kind::Reference(Reference::RouteMap),
            "ACCESS-LIST" => Kind::Reference(Reference::AccessList(None)),
            "ACCESS-LIST4" => Kind::Reference(Reference::AccessList(Some(Family::Ipv4Unicast))),
            "ACCESS-LIST6" => Kind::Reference(Reference::AccessList(Some(Family::Ipv6Unicast))),
            "AS-PATH-LIST" => Kind::Reference(Reference::AsPathList),
            "COMMUNITY-LIST" => Kind::Reference(Reference::CommunityList),
            "LARGE-COMMUNITY-LIST" => Kind::Reference(Reference::LargeCommunityList),
            "EXTCOMMUNITY-LIST" => Kind::Reference(Reference::ExtCommunityList),
            "EXTCOMMUNITY" | "RD" => Kind::ExtCommunity,
            "EXTCOMMUNITIES" => Kind::ExtCommunities,
            "REGEX" => Kind::Pattern,
            "ADJUST" => Kind::Adjust,
            "PREFIX-LIST" => Kind::Reference(Reference::PrefixList(None)),
            "PREFIX-LIST4" => Kind::Reference(Reference::PrefixList(Some(Family::Ipv4Unicast))),
            "PREFIX-LIST6" => Kind::Reference(Reference::PrefixList(Some(Family::Ipv6Unicast))),
            "HOST" | "SERVER-NAME" => Kind::Host,
            "FILE" | "ANCHOR-FILE" | "CERTIFICATE-FILE" | "KEY-FILE" => Kind::Path,
            "INTERVAL" | "TIMEOUT" | "WINDOW" | "HOLD-TIME" | "HOLD-MAX" => Kind::Span,
            "URL" => Kind::Url,
            "FINGERPRINT" => Kind::Fingerprint,
            "COMMUNITY" => Kind::Community,
            "LARGE-COMMUNITY" => Kind::LargeCommunity,
            "IKE-SUITE" => Kind::IkeSuite,
            "ESP-SUITE" => Kind::EspSuite,
            "IKE-ID" => Kind::IkeId,
            "PASSWORD" => Kind::Secret,
            "INTERVAL-TEXT" => Kind::Name,
            "TEXT" => Kind::Line,
            _ => return None,
        };
        Some(Self { label: text, kind })
    }
}

impl Kind {
    /// Whether the value takes all that is left of the line.
    pub fn takes_line(self) -> bool {
        matches!(self, Self::Line | Self::IkeId | Self::Pattern | Self::ExtCommunities)
    }

    /// Whether any word will do, so that the position of a typing error is not here.
    pub(super) fn is_vague(self) -> bool {
        matches!(
            self,
            Self::Name
                | Self::Reference(_)
                | Self::Host
                | Self::Path
                | Self::Peer
                | Self::Neighbor
                | Self::Interface
                | Self::Tunnel
                | Self::Wan
        )
    }

    /// Whether `text` may stand here.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(self, text: &str) -> Result<(), String> {
        fn is<T: FromStr>(text: &str) -> Result<(), String>
        where
            T::Err: fmt::Display,
        {
            text.parse::<T>().map(drop).map_err(|error| error.to_string())
        }
        fn not(text: &str, what: &str) -> String {
            let shown: String = text.chars().take(64).collect();
            format!("\"{shown}\" is not {what}")
        }
        let v4 = |net: ipnet::IpNet| matches!(net, ipnet::IpNet::V4(_));
        match self {
            Self::Range(low, high) => match crate::model::digits::<u64>(text) {
                Some(number) if (low..=high).contains(&number) => Ok(()),
                _ => Err(not(text, &format!("a number from {low} to {high}"))),
            },
            Self::Asn => is::<Asn>(text),
            Self::RouterId => is::<RouterId>(text),
            Self::Ipv4 => is::<Ipv4Addr>(text).map_err(|_| not(text, "an IPv4 address")),
            Self::Ipv6 => is::<Ipv6Addr>(text).map_err(|_| not(text, "an IPv6 address")),
            Self::Address => is::<IpAddr>(text).map_err(|_| not(text, "an IP address")),
            Self::Prefix => is::<Prefix>(text),
            Self::Prefix4 => match text.parse() {
                Ok(net) if v4(net) => Ok(()),
                _ => Err(not(text, "an IPv4 prefix such as 10.0.0.0/8")),
            },
            Self::Prefix6 => match text.parse() {
                Ok(net) if !v4(net) => Ok(()),
                _ => Err(not(text, "an IPv6 prefix such as 2001:db8::/32")),
            },
            Self::Interface4 | Self::Interface6 => {
                let address: InterfaceAddress =
                    text.parse().map_err(|error: crate::model::ValueError| error.to_string())?;
                if address.address().is_ipv4() == (self == Self::Interface4) {
                    Ok(())
                } else {
                    Err(not(text, if self == Self::Interface4 { "an IPv4 address" } else { "an IPv6 address" }))
                }
            }
            Self::Socket => {
                is::<SocketAddr>(text).map_err(|_| not(text, "ADDRESS:PORT such as 127.0.0.1:9179 or [::1]:9179"))
            }
            Self::Interface => is::<IfName>(text),
            Self::Tunnel | Self::Reference(Reference::Tunnel) => is::<TunnelName>(text),
            Self::Wan | Self::Reference(Reference::Wan) => is::<WanName>(text),
            Self::Neighbor => is::<NeighborId>(text),
            Self::Name | Self::Peer | Self::Reference(_) => is::<Name>(text),
            Self::Host => is::<Host>(text),
            Self::Path => {
                if text.starts_with('/') {
                    Ok(())
                } else {
                    Err(not(text, "an absolute path such as /etc/holdfast/edge1.pem"))
                }
            }
            Self::Url => is::<HttpUrl>(text),
            Self::Fingerprint => is::<Fingerprint>(text),
            Self::Span => is::<Span>(text),
            Self::Community => is::<Community>(text),
            Self::LargeCommunity => is::<LargeCommunity>(text),
            Self::ExtCommunity => is::<ExtCommunity>(text),
            Self::ExtCommunities => is::<ExtCommunityTerms>(text),
            Self::Pattern => is::<Pattern>(text),
            Self::Adjust => is::<Adjust>(text),
            Self::IkeSuite => is::<IkeSuite>(text),
            Self::EspSuite => is::<EspSuite>(text),
            Self::IkeId => is::<IkeId>(text),
            Self::Secret => is::<Secret>(text),
            Self::Line => {
                if text.len() <= 255 && !text.chars().any(char::is_control) {
                    Ok(())
                } else {
                    Err("a text of at most 255 octets without control characters was expected".to_owned())
                }
            }
        }
    }
}

impl fmt::Display for Leaf {
    /// As help and "expected" show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Range(low, high) => write!(f, "({low}-{high})"),
            Kind::Ipv4 | Kind::RouterId => f.write_str("A.B.C.D"),
            Kind::Ipv6 => f.write_str("X:X::X:X"),
            Kind::Address => f.write_str("A.B.C.D|X:X::X:X"),
            Kind::Prefix4 | Kind::Interface4 => f.write_str("A.B.C.D/M"),
            Kind::Prefix6 | Kind::Interface6 => f.write_str("X:X::X:X/M"),
            Kind::Prefix => f.write_str("A.B.C.D/M|X:X::X:X/M"),
            Kind::Community => f.write_str("AA:NN"),
            Kind::LargeCommunity => f.write_str("AA:BB:CC"),
            Kind::ExtCommunity => f.write_str("ASN:NN|A.B.C.D:NN"),
            Kind::Adjust => f.write_str("(0-4294967295)|+N|-N"),
            Kind::Reference(Reference::AccessList(_)) => f.write_str("ACCESS-LIST"),
            Kind::Reference(Reference::Wan) => f.write_str("WAN"),
            Kind::Reference(Reference::Tunnel) => f.write_str("TUNNEL"),
            Kind::Peer => f.write_str("A.B.C.D|X:X::X:X|IFNAME|PEER-GROUP"),
            Kind::Neighbor => f.write_str("A.B.C.D|X:X::X:X|IFNAME"),
            Kind::Reference(Reference::PrefixList(_)) => f.write_str("PREFIX-LIST"),
            _ => f.write_str(self.label),
        }
    }
}
