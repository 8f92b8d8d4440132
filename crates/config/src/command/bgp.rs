//! The commands about BGP, with the words that FRR's users type: `show ip bgp …` is `show bgp ipv4 unicast …`, and `vrf all`
//! or `vrf default` is this speaker, which is the only one.

use net_types::{Asn, Family};

use super::{
    Clear, Cleared, Command, Destination, NeighborRoutes, Nesting, Owner, Paths, Row, SummaryOf, destination, json, row,
};
use crate::grammar::{Args, Complaint};

/// `show [ip|ipv6] bgp [vrf …] [ipv4|ipv6 [unicast]] …`
macro_rules! show {
    ($rest:literal) => {
        concat!("show [ip|ipv6] bgp [vrf (all|default)] [(ipv4|ipv6) [unicast]] ", $rest)
    };
}

pub(super) const ROWS: &[Row] = &[
    row(Owner::Bgpd, show!("summary [established|failed] [wide] [json]"), "Neighbors, one line each", summary),
    row(
        Owner::Bgpd,
        "show (ip|ipv6) bgp [vrf (all|default)] [(ipv4|ipv6) [unicast]] [wide] [detail] [json]",
        "The table of routes",
        table,
    ),
    row(
        Owner::Bgpd,
        "show bgp [vrf (all|default)] (ipv4|ipv6) [unicast] [wide] [detail] [json]",
        "The table of routes",
        table,
    ),
    row(
        Owner::Bgpd,
        show!("(PREFIX4|IPV4|PREFIX6|IPV6) [bestpath|multipath] [json]"),
        "The paths to a destination",
        table,
    ),
    row(Owner::Bgpd, show!("neighbors [NEIGHBOR] [json]"), "Neighbors in detail", |args| {
        Ok(Command::ShowBgpNeighbors { neighbor: args.opt("NEIGHBOR")?, json: json(args) })
    }),
    row(
        Owner::Bgpd,
        show!("neighbors [NEIGHBOR] graceful-restart [json]"),
        "How neighbors and we restart (RFC 4724)",
        |args| Ok(Command::ShowBgpRestart { neighbor: args.opt("NEIGHBOR")?, json: json(args) }),
    ),
    row(
        Owner::Bgpd,
        show!("neighbors NEIGHBOR (routes|received-routes|filtered-routes|advertised-routes) [json]"),
        "Routes of one neighbor",
        neighbor_routes,
    ),
    row(
        Owner::Bgpd,
        show!("neighbors NEIGHBOR received prefix-filter [json]"),
        "What the neighbor asked us to keep back (RFC 5291)",
        |args| {
            let neighbor = args.get("NEIGHBOR")?;
            Ok(Command::ShowOutboundFilter { family: family(args), neighbor, json: json(args) })
        },
    ),
    row(
        Owner::Bgpd,
        "show interface [IFNAME] [vrf (all|default)] [json]",
        "Links and addresses as bgpd knows them",
        |args| Ok(Command::ShowInterface { interface: args.opt("IFNAME")?, json: json(args) }),
    ),
    row(Owner::Bgpd, "show [ip] bgp attribute-info", "Sets of attributes in use", |_| Ok(Command::ShowBgpAttributes)),
    row(Owner::Bgpd, "show [ip] bgp memory [json]", "What the table takes", |args| {
        Ok(Command::ShowBgpMemory { json: json(args) })
    }),
    row(Owner::Bgpd, "show [ip] bgp peer-group [NAME] [json]", "Peer-groups and their members", |args| {
        Ok(Command::ShowBgpPeerGroups { name: args.opt("NAME")?, json: json(args) })
    }),
    row(Owner::Bgpd, "show [ip] bgp vrfs [json]", "Speakers: there is one", |args| {
        Ok(Command::ShowBgpVrfs { json: json(args) })
    }),
    row(
        Owner::Bgpd,
        "clear [ip|ipv6] bgp [vrf (all|default)] [(ipv4|ipv6) [unicast]] (*|NEIGHBOR|ASN|external|peer-group NAME) [soft [in|out]|in [prefix-filter]|out]",
        "Begin sessions anew",
        clear,
    ),
];

/// The family that the words name.
fn said(args: &Args<'_>) -> Option<Family> {
    let v4 = args.has("ipv4") || args.has("ip");
    if args.has("ipv6") { Some(Family::Ipv6Unicast) } else { v4.then_some(Family::Ipv4Unicast) }
}

fn family(args: &Args<'_>) -> Family {
    said(args).unwrap_or(Family::Ipv4Unicast)
}

fn summary(args: &Args<'_>) -> Result<Command, Complaint> {
    let of = match (args.has("established"), args.has("failed")) {
        (true, _) => SummaryOf::Established,
        (_, true) => SummaryOf::Failed,
        _ => SummaryOf::All,
    };
    let nesting = match (args.has("vrf") && args.has("all"), args.has("unicast")) {
        (true, _) => Nesting::Instances,
        (_, true) => Nesting::Bare,
        _ => Nesting::Families,
    };
    Ok(Command::ShowBgpSummary { family: said(args), of, nesting, json: json(args) })
}

fn table(args: &Args<'_>) -> Result<Command, Complaint> {
    let destination = destination(args)?;
    if let (Some(destination), Some(said)) = (&destination, said(args))
        && destination.family() != said
    {
        return Err(Complaint::new(format!("this is no destination of {said}")));
    }
    let family = destination.as_ref().map_or_else(|| family(args), Destination::family);
    let paths = match (args.has("bestpath"), args.has("multipath")) {
        (true, _) => Paths::Best,
        (_, true) => Paths::Multipath,
        _ => Paths::All,
    };
    Ok(Command::ShowBgp { family, destination, paths, detail: args.has("detail"), json: json(args) })
}

fn neighbor_routes(args: &Args<'_>) -> Result<Command, Complaint> {
    let which = NeighborRoutes::said(args);
    Ok(Command::ShowBgpNeighborRoutes {
        family: family(args),
        neighbor: args.get("NEIGHBOR")?,
        which,
        json: json(args),
    })
}

impl NeighborRoutes {
    /// Which routes the words name.
    pub(super) fn said(args: &Args<'_>) -> Self {
        let words = [
            ("received-routes", Self::Received),
            ("filtered-routes", Self::Filtered),
            ("advertised-routes", Self::Advertised),
        ];
        words.into_iter().find(|(word, _)| args.has(word)).map_or(Self::Accepted, |(_, which)| which)
    }
}

fn clear(args: &Args<'_>) -> Result<Command, Complaint> {
    let how = match (args.has("in"), args.has("out"), args.has("soft")) {
        (true, ..) => Clear::SoftIn,
        (_, true, _) => Clear::SoftOut,
        (_, _, true) => Clear::Soft,
        _ => Clear::Hard,
    };
    let whom = if let Some(peer) = args.opt("NEIGHBOR")? {
        Cleared::Neighbor(peer)
    } else if let Some(asn) = args.opt::<Asn>("ASN")? {
        Cleared::As(asn)
    } else if let Some(name) = args.opt("NAME")? {
        Cleared::Group(name)
    } else if args.has("external") {
        Cleared::External
    } else {
        Cleared::All
    };
    Ok(Command::ClearBgp { whom, how })
}
