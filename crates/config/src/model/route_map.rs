//! Route-maps.

use std::{collections::BTreeMap, net::IpAddr};

use net_types::Asn;

use super::{Action, Community, LargeCommunity, Name};

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
    /// All must hold; at most one of each kind.
    pub matches: Vec<Match>,
    /// Applied in order; at most one of each kind.
    pub sets: Vec<Set>,
    /// What follows a permitting match.
    pub on_match: OnMatch,
}

impl RouteMapEntry {
    /// An entry that matches everything and changes nothing.
    pub fn new(action: Action) -> Self {
        Self { action, description: None, matches: Vec::new(), sets: Vec::new(), on_match: OnMatch::Stop }
    }
}

/// A condition on a route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// `match ip address prefix-list NAME`; never holds for an IPv6 route.
    PrefixListV4(Name),
    /// `match ipv6 address prefix-list NAME`; never holds for an IPv4 route.
    PrefixListV6(Name),
    /// `match metric N`: MULTI_EXIT_DISC.
    Metric(u32),
    /// `match local-preference N`
    LocalPreference(u32),
    /// `match peer ADDRESS`: the neighbor it came from, or goes to.
    Peer(IpAddr),
}

/// A change to a route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set {
    /// `set as-path prepend AS…`
    AsPathPrepend(Vec<Asn>),
    /// `set as-path prepend last-as N`: the leftmost AS again, N times.
    AsPathPrependLast(u8),
    /// `set community`
    Community(CommunityChange<Community>),
    /// `set large-community`
    LargeCommunity(CommunityChange<LargeCommunity>),
    /// `set ip next-hop ADDRESS`, or `set ipv6 next-hop global ADDRESS`
    NextHop(IpAddr),
    /// `set local-preference N`
    LocalPreference(u32),
    /// `set metric N`: MULTI_EXIT_DISC.
    Metric(u32),
    /// `set origin`
    Origin(Origin),
    /// `set weight N`
    Weight(u16),
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
    /// `on-match next`: the next entry is looked at as well.
    Next,
    /// `on-match goto N`: the first entry from N on is looked at as well.
    Goto(u16),
}
