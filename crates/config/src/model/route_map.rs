//! Route-maps.

use std::{
    collections::BTreeMap,
    fmt,
    mem::discriminant,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use net_types::{Asn, Family};

use super::{Action, Community, ExtCommunity, LargeCommunity, Name, RedistributeSource, ValueError, digits};

/// `route-map NAME`: the first entry in sequence of which every `match` holds decides, and none denies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteMap {
    /// By sequence number.
    pub entries: BTreeMap<u16, RouteMapEntry>,
}

/// `route-map NAME permit|deny SEQUENCE`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteMapEntry {
    /// What a match means.
    pub action: Action,
    /// `description`
    pub description: Option<String>,
    /// All must hold; sorted, at most one of each kind.
    pub matches: Vec<Match>,
    /// Applied in the order they were written; at most one of each kind.
    pub sets: Vec<Set>,
    /// `call NAME`: asked after that.
    pub call: Option<Name>,
    /// What follows a permitting match.
    pub on_match: OnMatch,
}

impl RouteMapEntry {
    /// An entry that matches everything and changes nothing.
    pub fn new(action: Action) -> Self {
        Self { action, description: None, matches: Vec::new(), sets: Vec::new(), call: None, on_match: OnMatch::Stop }
    }
}

/// A condition on a route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// `match ip|ipv6 address NAME`: an access-list; never holds for a route of another family.
    Address(Family, Name),
    /// `match ip|ipv6 address prefix-list NAME`
    AddressPrefixList(Family, Name),
    /// `match ip|ipv6 address prefix-len N`
    AddressLength(Family, u8),
    /// `match ip|ipv6 next-hop NAME`: an access-list.
    NextHop(Family, Name),
    /// `match ip|ipv6 next-hop address ADDRESS`
    NextHopAddress(IpAddr),
    /// `match ip|ipv6 next-hop prefix-list NAME`
    NextHopPrefixList(Family, Name),
    /// `match as-path NAME`
    AsPath(Name),
    /// `match community NAME [exact-match]`
    Community {
        /// The list.
        list: Name,
        /// No others may be there.
        exact: bool,
    },
    /// `match large-community NAME [exact-match]`
    LargeCommunity {
        /// The list.
        list: Name,
        /// No others may be there.
        exact: bool,
    },
    /// `match alias NAME`: the community that has this name of the operator's.
    Alias(Name),
    /// `match extcommunity NAME`
    ExtCommunity(Name),
    /// `match metric N`: MULTI_EXIT_DISC.
    Metric(u32),
    /// `match local-preference N`
    LocalPreference(u32),
    /// `match origin`
    Origin(Origin),
    /// `match peer`
    Peer(MatchPeer),
    /// `match source-protocol`: where this router has it from.
    SourceProtocol(Protocol),
    /// `match tag N`
    Tag(u32),
    /// `match rpki`: origin validation (RFC 6811).
    Rpki(Validation),
}

impl Match {
    /// Whether this takes the place of `other` in an entry.
    pub(crate) fn replaces(&self, other: &Self) -> bool {
        let family = |one: &Self| match one {
            Self::Address(family, _)
            | Self::AddressPrefixList(family, _)
            | Self::AddressLength(family, _)
            | Self::NextHop(family, _)
            | Self::NextHopPrefixList(family, _) => Some(*family),
            Self::NextHopAddress(IpAddr::V4(_)) => Some(Family::Ipv4Unicast),
            Self::NextHopAddress(IpAddr::V6(_)) => Some(Family::Ipv6Unicast),
            _ => None,
        };
        discriminant(self) == discriminant(other) && family(self) == family(other)
    }
}

/// Whom `match peer` means: whom a route came from, or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MatchPeer {
    /// The neighbor with this address.
    Address(IpAddr),
    /// `local`: ourselves.
    Local,
}

/// Where a route comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// A neighbor.
    Bgp,
    /// `redistribute` of this source.
    Redistributed(RedistributeSource),
}

/// What origin validation says of a route (RFC 6811 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Validation {
    /// `valid`
    Valid,
    /// `invalid`
    Invalid,
    /// `notfound`
    NotFound,
}

impl Validation {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Valid, Self::Invalid, Self::NotFound];

    /// As the configuration spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::NotFound => "notfound",
        }
    }
}

/// A change to a number: `N`, `+N` or `-N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjust {
    /// Becomes this.
    To(u32),
    /// Grows by this, up to the greatest number.
    Add(u32),
    /// Shrinks by this, down to zero.
    Subtract(u32),
}

impl FromStr for Adjust {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let make: fn(u32) -> Self = match text.as_bytes().first() {
            Some(b'+') => Self::Add,
            Some(b'-') => Self::Subtract,
            _ => Self::To,
        };
        let number = digits(text.strip_prefix(['+', '-']).unwrap_or(text));
        number.map(make).ok_or_else(|| ValueError::new(text, "a number from 0 to 4294967295, which + or - may precede"))
    }
}

impl fmt::Display for Adjust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::To(number) => number.fmt(f),
            Self::Add(number) => write!(f, "+{number}"),
            Self::Subtract(number) => write!(f, "-{number}"),
        }
    }
}

/// A change to a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Set {
    /// `set as-path prepend AS…`
    AsPathPrepend(Vec<Asn>),
    /// `set as-path prepend last-as N`: the leftmost AS again, N times.
    AsPathPrependLast(u8),
    /// `set as-path exclude AS…`
    AsPathExclude(Vec<Asn>),
    /// `set as-path replace any|AS`: our own AS in the place of every AS, or of this one.
    AsPathReplace(Option<Asn>),
    /// `set community`
    Community(CommunityChange<Community>),
    /// `set comm-list NAME delete`: the communities that the list names go.
    CommunityDelete(Name),
    /// `set large-community`
    LargeCommunity(CommunityChange<LargeCommunity>),
    /// `set large-comm-list NAME delete`
    LargeCommunityDelete(Name),
    /// `set extcommunity`
    ExtCommunity(ExtCommunityChange),
    /// `set ip next-hop ADDRESS`, or `set ipv6 next-hop global ADDRESS`
    NextHop(IpAddr),
    /// `set ipv6 next-hop local ADDRESS`: the link-local address beside it.
    NextHopLocal(Ipv6Addr),
    /// `set ip|ipv6 next-hop peer-address`
    NextHopPeerAddress(Family),
    /// `set ip next-hop unchanged`
    NextHopUnchanged,
    /// `set ipv6 next-hop prefer-global`: packets go to the global address, and not to the link-local one beside it.
    NextHopPreferGlobal,
    /// `set local-preference`
    LocalPreference(Adjust),
    /// `set metric`: MULTI_EXIT_DISC.
    Metric(Adjust),
    /// `set origin`
    Origin(Origin),
    /// `set weight N`
    Weight(u16),
    /// `set aggregator as ASN ADDRESS`
    Aggregator(Asn, Ipv4Addr),
    /// `set atomic-aggregate`
    AtomicAggregate,
    /// `set originator-id ADDRESS`
    OriginatorId(Ipv4Addr),
    /// `set tag N`
    Tag(u32),
    /// `set distance N`
    Distance(u8),
    /// `set table N`
    Table(u32),
    /// `set src ADDRESS`
    Source(IpAddr),
}

impl Set {
    /// Whether this takes the place of `other` in an entry.
    pub(crate) fn replaces(&self, other: &Self) -> bool {
        let kind = |set: &Self| match set {
            // As in FRR, the two ways to prepend replace each other, and so do the ways to choose an IPv4 next hop.
            Self::AsPathPrepend(_) | Self::AsPathPrependLast(_) => (discriminant(&Self::AsPathPrependLast(0)), 0),
            Self::NextHop(IpAddr::V4(_)) | Self::NextHopPeerAddress(Family::Ipv4Unicast) | Self::NextHopUnchanged => {
                (discriminant(&Self::NextHopUnchanged), 0)
            }
            Self::ExtCommunity(change) => (discriminant(set), change.kind()),
            _ => (discriminant(set), 0),
        };
        kind(self) == kind(other)
    }
}

/// A change to extended communities; each kind replaces its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtCommunityChange {
    /// `none`: all go.
    Clear,
    /// `rt VALUE…`
    RouteTarget(Vec<ExtCommunity>),
    /// `soo VALUE…`
    SiteOfOrigin(Vec<ExtCommunity>),
    /// `bandwidth MEGABITS|cumulative|num-multipaths [non-transitive]`: of the link.
    Bandwidth {
        /// How much.
        bandwidth: Bandwidth,
        /// It does not leave the neighbor's AS.
        non_transitive: bool,
    },
}

/// What `set extcommunity bandwidth` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bandwidth {
    /// So many megabits per second.
    Megabits(u16),
    /// `cumulative`: the sum of what the paths name that share the packets.
    Cumulative,
    /// `num-multipaths`: a megabit per second for each of them.
    PerPath,
}

impl ExtCommunityChange {
    fn kind(&self) -> u8 {
        match self {
            Self::Clear => 1,
            Self::RouteTarget(_) => 2,
            Self::SiteOfOrigin(_) => 3,
            Self::Bandwidth { .. } => 4,
        }
    }
}

/// A change to a set of communities.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CommunityChange<C> {
    /// `none`: all go.
    Clear,
    /// These instead of what there was; sorted.
    Replace(Vec<C>),
    /// `additive`: these too; sorted.
    Add(Vec<C>),
}

/// ORIGIN (RFC 4271 §5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `igp`
    Igp,
    /// `egp`
    Egp,
    /// `incomplete`
    Incomplete,
}

/// What follows a match that permits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMatch {
    /// The route-map ends.
    #[default]
    Stop,
    /// `on-match next` or `continue`: the next entry is looked at as well.
    Next,
    /// `on-match goto N` or `continue N`: the first entry from N on is looked at as well.
    Goto(u16),
}
