//! `match …`

use super::*;
use crate::model::{RedistributeSource, Validation};

const V4: Family = Family::Ipv4Unicast;
const V6: Family = Family::Ipv6Unicast;

pub(super) const ROWS: &[Statement] = &[
    row!(
        "match ip address (ACCESS-LIST4|prefix-list PREFIX-LIST4|prefix-len BITS:0-32)",
        "IPv4 routes that a list permits, or of this length",
        |entry, args| matching(entry, address(args, V4, "ACCESS-LIST4", "PREFIX-LIST4")?)
    ),
    row!(
        "match ipv6 address (ACCESS-LIST6|prefix-list PREFIX-LIST6|prefix-len BITS:0-128)",
        "IPv6 routes that a list permits, or of this length",
        |entry, args| matching(entry, address(args, V6, "ACCESS-LIST6", "PREFIX-LIST6")?)
    ),
    row!(
        "match ip next-hop (ACCESS-LIST4|address IPV4|prefix-list PREFIX-LIST4)",
        "Routes whose next hop is this address, or one that a list permits",
        |entry, args| {
            matching(
                entry,
                match args.opt("IPV4")? {
                    Some(address) => Match::NextHopAddress(address),
                    None => next_hop(args, V4, "ACCESS-LIST4", "PREFIX-LIST4")?,
                },
            )
        }
    ),
    row!(
        "match ipv6 next-hop (ACCESS-LIST6|IPV6|address IPV6|prefix-list PREFIX-LIST6)",
        "Routes whose next hop is this address, or one that a list permits",
        |entry, args| {
            matching(
                entry,
                match args.opt("IPV6")? {
                    Some(address) => Match::NextHopAddress(address),
                    None => next_hop(args, V6, "ACCESS-LIST6", "PREFIX-LIST6")?,
                },
            )
        }
    ),
    row!("match as-path AS-PATH-LIST", "Routes whose AS path a list permits", |entry, args| {
        matching(entry, Match::AsPath(args.get("AS-PATH-LIST")?))
    }),
    row!("match community COMMUNITY-LIST [exact-match]", "Routes whose communities a list permits", |entry, args| {
        let (list, exact) = (args.get("COMMUNITY-LIST")?, args.has("exact-match"));
        matching(entry, Match::Community { list, exact })
    }),
    row!(
        "match large-community LARGE-COMMUNITY-LIST [exact-match]",
        "Routes whose large communities a list permits",
        |entry, args| {
            let (list, exact) = (args.get("LARGE-COMMUNITY-LIST")?, args.has("exact-match"));
            matching(entry, Match::LargeCommunity { list, exact })
        }
    ),
    row!("match alias NAME", "Routes with the community that has this alias", |entry, args| {
        matching(entry, Match::Alias(args.get("NAME")?))
    }),
    row!("match extcommunity EXTCOMMUNITY-LIST", "Routes whose extended communities a list permits", |entry, args| {
        matching(entry, Match::ExtCommunity(args.get("EXTCOMMUNITY-LIST")?))
    }),
    row!("match metric NUMBER:0-4294967295", "Routes with this MED", |entry, args| {
        matching(entry, Match::Metric(args.get("NUMBER")?))
    }),
    row!("match local-preference NUMBER:0-4294967295", "Routes with this LOCAL_PREF", |entry, args| {
        matching(entry, Match::LocalPreference(args.get("NUMBER")?))
    }),
    row!("match origin (igp|egp|incomplete)", "Routes with this ORIGIN", |entry, args| {
        matching(entry, Match::Origin(origin(args).unwrap_or(Origin::Incomplete)))
    }),
    row!("match peer (ADDRESS|local)", "Routes from, or to, this neighbor, or from ourselves", |entry, args| {
        let peer = args.opt("ADDRESS")?.map_or(MatchPeer::Local, MatchPeer::Address);
        matching(entry, Match::Peer(peer))
    }),
    row!(
        "match source-protocol (bgp|connected|static|kernel|ipsec)",
        "Routes that this router has from there",
        |entry, args| {
            let source = RedistributeSource::ALL.into_iter().find(|source| args.has(source.as_str()));
            matching(entry, Match::SourceProtocol(source.map_or(Protocol::Bgp, Protocol::Redistributed)))
        }
    ),
    row!("match tag NUMBER:1-4294967295", "Routes with this tag", |entry, args| {
        matching(entry, Match::Tag(args.get("NUMBER")?))
    }),
    row!("match rpki (valid|invalid|notfound)", "Routes whose origin is validated so (RFC 6811)", |entry, args| {
        let state = Validation::ALL.into_iter().find(|state| args.has(state.as_str()));
        matching(entry, Match::Rpki(state.unwrap_or(Validation::NotFound)))
    }),
];

fn address(args: &Args<'_>, family: Family, access: &str, prefixes: &str) -> Result<Match, Complaint> {
    Ok(match (args.opt("BITS")?, args.opt(prefixes)?) {
        (Some(bits), _) => Match::AddressLength(family, bits),
        (None, Some(name)) => Match::AddressPrefixList(family, name),
        (None, None) => Match::Address(family, args.get(access)?),
    })
}

fn next_hop(args: &Args<'_>, family: Family, access: &str, prefixes: &str) -> Result<Match, Complaint> {
    Ok(match args.opt(prefixes)? {
        Some(name) => Match::NextHopPrefixList(family, name),
        None => Match::NextHop(family, args.get(access)?),
    })
}

/// Adds a condition in the place of one of its kind.
fn matching(entry: &mut RouteMapEntry, condition: Match) -> Result<(), Complaint> {
    entry.matches.retain(|known| !condition.replaces(known));
    entry.matches.push(condition);
    entry.matches.sort();
    Ok(())
}

/// A condition behind `match`.
pub(super) fn spell(condition: &Match) -> String {
    let exactly = |exact: &bool| if *exact { " exact-match" } else { "" };
    match condition {
        Match::Address(family, name) => format!("{} address {name}", keyword(*family)),
        Match::AddressPrefixList(family, name) => format!("{} address prefix-list {name}", keyword(*family)),
        Match::AddressLength(family, bits) => format!("{} address prefix-len {bits}", keyword(*family)),
        Match::NextHop(family, name) => format!("{} next-hop {name}", keyword(*family)),
        Match::NextHopAddress(address) if address.is_ipv4() => format!("ip next-hop address {address}"),
        Match::NextHopAddress(address) => format!("ipv6 next-hop address {address}"),
        Match::NextHopPrefixList(family, name) => format!("{} next-hop prefix-list {name}", keyword(*family)),
        Match::AsPath(name) => format!("as-path {name}"),
        Match::Community { list, exact } => format!("community {list}{}", exactly(exact)),
        Match::LargeCommunity { list, exact } => format!("large-community {list}{}", exactly(exact)),
        Match::Alias(name) => format!("alias {name}"),
        Match::ExtCommunity(name) => format!("extcommunity {name}"),
        Match::Metric(number) => format!("metric {number}"),
        Match::LocalPreference(number) => format!("local-preference {number}"),
        Match::Origin(origin) => format!("origin {}", spell_origin(*origin)),
        Match::Peer(MatchPeer::Address(address)) => format!("peer {address}"),
        Match::Peer(MatchPeer::Local) => "peer local".to_owned(),
        Match::SourceProtocol(Protocol::Bgp) => "source-protocol bgp".to_owned(),
        Match::SourceProtocol(Protocol::Redistributed(source)) => format!("source-protocol {}", source.as_str()),
        Match::Tag(tag) => format!("tag {tag}"),
        Match::Rpki(state) => format!("rpki {}", state.as_str()),
    }
}

impl std::fmt::Display for Match {
    /// As the configuration has it, behind `match`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&spell(self))
    }
}
