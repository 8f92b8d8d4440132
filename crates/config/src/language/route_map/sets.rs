//! `set …`

use std::{fmt::Display, str::FromStr};

use net_types::Asn;

use super::*;

pub(super) const ROWS: &[Statement] = &[
    row!("set as-path prepend ASN...", "Put these in front of the AS path", |entry, args| {
        setting(entry, Set::AsPathPrepend(args.all("ASN")?))
    }),
    row!("set as-path prepend last-as NUMBER:1-10", "Put the leftmost AS in front again", |entry, args| {
        setting(entry, Set::AsPathPrependLast(args.get("NUMBER")?))
    }),
    row!("set as-path exclude ASN...", "Take these off the AS path", |entry, args| {
        setting(entry, Set::AsPathExclude(args.all("ASN")?))
    }),
    row!("set as-path replace (any|ASN)", "Put our own AS in the place of every AS, or of this one", |entry, args| {
        setting(entry, Set::AsPathReplace(args.opt("ASN")?))
    }),
    row!("set community (none|COMMUNITY... [additive])", "Communities", |entry, args| {
        setting(entry, Set::Community(communities(args, "COMMUNITY")?))
    }),
    row!("set comm-list COMMUNITY-LIST delete", "Communities that a list names go", |entry, args| {
        setting(entry, Set::CommunityDelete(args.get("COMMUNITY-LIST")?))
    }),
    row!("set large-community (none|LARGE-COMMUNITY... [additive])", "Large communities", |entry, args| {
        setting(entry, Set::LargeCommunity(communities(args, "LARGE-COMMUNITY")?))
    }),
    row!("set large-comm-list LARGE-COMMUNITY-LIST delete", "Large communities that a list names go", |entry, args| {
        setting(entry, Set::LargeCommunityDelete(args.get("LARGE-COMMUNITY-LIST")?))
    }),
    row!("set extcommunity (none|rt EXTCOMMUNITY...|soo EXTCOMMUNITY...)", "Extended communities", |entry, args| {
        let mut values = args.all("EXTCOMMUNITY")?;
        values.sort();
        values.dedup();
        setting(
            entry,
            Set::ExtCommunity(match () {
                () if args.has("rt") => ExtCommunityChange::RouteTarget(values),
                () if args.has("soo") => ExtCommunityChange::SiteOfOrigin(values),
                () => ExtCommunityChange::Clear,
            }),
        )
    }),
    row!(
        "set extcommunity bandwidth (NUMBER:1-25600|cumulative|num-multipaths) [non-transitive]",
        "Bandwidth of the link, in megabits per second",
        |entry, args| {
            let bandwidth = match args.opt("NUMBER")? {
                Some(megabits) => Bandwidth::Megabits(megabits),
                None if args.has("cumulative") => Bandwidth::Cumulative,
                None => Bandwidth::PerPath,
            };
            let non_transitive = args.has("non-transitive");
            setting(entry, Set::ExtCommunity(ExtCommunityChange::Bandwidth { bandwidth, non_transitive }))
        }
    ),
    row!("set ip next-hop (IPV4|peer-address|unchanged)", "The next hop", |entry, args| {
        setting(
            entry,
            match args.opt("IPV4")? {
                Some(address) => Set::NextHop(address),
                None if args.has("peer-address") => Set::NextHopPeerAddress(Family::Ipv4Unicast),
                None => Set::NextHopUnchanged,
            },
        )
    }),
    row!("set ipv6 next-hop (global IPV6|local IPV6|peer-address|prefer-global)", "The next hop", |entry, args| {
        let change = match () {
            () if args.has("global") => Set::NextHop(args.get("IPV6")?),
            () if args.has("local") => Set::NextHopLocal(args.get("IPV6")?),
            () if args.has("peer-address") => Set::NextHopPeerAddress(Family::Ipv6Unicast),
            () => Set::NextHopPreferGlobal,
        };
        setting(entry, change)
    }),
    row!("set local-preference ADJUST", "LOCAL_PREF, higher is better", |entry, args| {
        setting(entry, Set::LocalPreference(args.get("ADJUST")?))
    }),
    row!("set metric ADJUST", "MED, lower is better", |entry, args| {
        setting(entry, Set::Metric(args.get("ADJUST")?))
    }),
    row!("set origin (igp|egp|incomplete)", "ORIGIN", |entry, args| {
        setting(entry, Set::Origin(origin(args).unwrap_or(Origin::Incomplete)))
    }),
    row!("set weight NUMBER:0-65535", "Preference within this router, higher is better", |entry, args| {
        setting(entry, Set::Weight(args.get("NUMBER")?))
    }),
    row!("set aggregator as ASN IPV4", "Who made the aggregate", |entry, args| {
        setting(entry, Set::Aggregator(args.get("ASN")?, args.get("IPV4")?))
    }),
    row!("set atomic-aggregate", "Something was lost in the aggregate", |entry, _| {
        setting(entry, Set::AtomicAggregate)
    }),
    row!("set originator-id IPV4", "Who brought the route into the AS", |entry, args| {
        setting(entry, Set::OriginatorId(args.get("IPV4")?))
    }),
    row!("set tag NUMBER:1-4294967295", "The tag, within this router", |entry, args| {
        setting(entry, Set::Tag(args.get("NUMBER")?))
    }),
    row!("set distance NUMBER:1-255", "Administrative distance", |entry, args| {
        setting(entry, Set::Distance(args.get("NUMBER")?))
    }),
    row!("set table NUMBER:1-4294967295", "The kernel table to install in", |entry, args| {
        setting(entry, Set::Table(args.get("NUMBER")?))
    }),
    row!("set src ADDRESS", "Source address of our own packets", |entry, args| {
        setting(entry, Set::Source(args.get("ADDRESS")?))
    }),
];

/// Adds a change in the place of one of its kind, behind all others.
fn setting(entry: &mut RouteMapEntry, change: Set) -> Result<(), Complaint> {
    entry.sets.retain(|known| !change.replaces(known));
    entry.sets.push(change);
    Ok(())
}

fn communities<C: FromStr + Ord>(args: &Args<'_>, label: &str) -> Result<CommunityChange<C>, Complaint>
where
    C::Err: Display,
{
    if args.has("none") {
        return Ok(CommunityChange::Clear);
    }
    let mut communities = args.all(label)?;
    communities.sort();
    communities.dedup();
    Ok(if args.has("additive") { CommunityChange::Add(communities) } else { CommunityChange::Replace(communities) })
}

/// A change behind `set`.
pub(super) fn spell(change: &Set) -> String {
    let numbers = |path: &[Asn]| spaced(&path.iter().map(|asn| asn.get()).collect::<Vec<_>>());
    match change {
        Set::AsPathPrepend(path) => format!("as-path prepend {}", numbers(path)),
        Set::AsPathPrependLast(times) => format!("as-path prepend last-as {times}"),
        Set::AsPathExclude(path) => format!("as-path exclude {}", numbers(path)),
        Set::AsPathReplace(None) => "as-path replace any".to_owned(),
        Set::AsPathReplace(Some(asn)) => format!("as-path replace {}", asn.get()),
        Set::Community(change) => format!("community {}", spell_communities(change)),
        Set::CommunityDelete(name) => format!("comm-list {name} delete"),
        Set::LargeCommunity(change) => format!("large-community {}", spell_communities(change)),
        Set::LargeCommunityDelete(name) => format!("large-comm-list {name} delete"),
        Set::ExtCommunity(ExtCommunityChange::Clear) => "extcommunity none".to_owned(),
        Set::ExtCommunity(ExtCommunityChange::RouteTarget(values)) => format!("extcommunity rt {}", spaced(values)),
        Set::ExtCommunity(ExtCommunityChange::SiteOfOrigin(values)) => format!("extcommunity soo {}", spaced(values)),
        Set::ExtCommunity(ExtCommunityChange::Bandwidth { bandwidth, non_transitive }) => {
            let said = match bandwidth {
                Bandwidth::Megabits(megabits) => megabits.to_string(),
                Bandwidth::Cumulative => "cumulative".to_owned(),
                Bandwidth::PerPath => "num-multipaths".to_owned(),
            };
            let kind = if *non_transitive { " non-transitive" } else { "" };
            format!("extcommunity bandwidth {said}{kind}")
        }
        Set::NextHop(address) if address.is_ipv4() => format!("ip next-hop {address}"),
        Set::NextHop(address) => format!("ipv6 next-hop global {address}"),
        Set::NextHopLocal(address) => format!("ipv6 next-hop local {address}"),
        Set::NextHopPeerAddress(family) => format!("{} next-hop peer-address", keyword(*family)),
        Set::NextHopUnchanged => "ip next-hop unchanged".to_owned(),
        Set::NextHopPreferGlobal => "ipv6 next-hop prefer-global".to_owned(),
        Set::LocalPreference(adjust) => format!("local-preference {adjust}"),
        Set::Metric(adjust) => format!("metric {adjust}"),
        Set::Origin(origin) => format!("origin {}", spell_origin(*origin)),
        Set::Weight(weight) => format!("weight {weight}"),
        Set::Aggregator(asn, address) => format!("aggregator as {} {address}", asn.get()),
        Set::AtomicAggregate => "atomic-aggregate".to_owned(),
        Set::OriginatorId(id) => format!("originator-id {id}"),
        Set::Tag(tag) => format!("tag {tag}"),
        Set::Distance(distance) => format!("distance {distance}"),
        Set::Table(table) => format!("table {table}"),
        Set::Source(address) => format!("src {address}"),
    }
}

fn spell_communities<C: ToString>(change: &CommunityChange<C>) -> String {
    match change {
        CommunityChange::Clear => "none".to_owned(),
        CommunityChange::Replace(communities) => spaced(communities),
        CommunityChange::Add(communities) => format!("{} additive", spaced(communities)),
    }
}

impl std::fmt::Display for Set {
    /// As the configuration has it, behind `set`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&spell(self))
    }
}
