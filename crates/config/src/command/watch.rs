//! The commands about watching and validation: what caches, stations, dumps and the log of events say.

use net_types::{Asn, Family, IfName, Prefix};

use super::{Command, Owner, Row, family, json, row};
use crate::grammar::{Args, Complaint};

/// Something to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watch {
    /// `show bgp ipv4 unicast rpki valid`: the routes with a path of that state, and those paths only.
    Validation(Family, RpkiState),
    /// `show rpki`
    Rpki(RpkiView),
    /// `show bmp`
    Bmp,
    /// `show bgp events`
    Events,
    /// `show mrt`: the files whose routes are in the table.
    Mrt,
    /// `show vrrp`
    Vrrp(WhichVrrp),
    /// `show ip nht`, `show bgp nexthop`: the next hops of paths, and how each is reached.
    NextHops(Option<Family>),
}

/// Of the virtual routers those on this interface, or of this number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhichVrrp {
    /// On every interface without.
    pub interface: Option<IfName>,
    /// Any number without.
    pub vrid: Option<u8>,
}

/// What origin validation says of a route (RFC 6811).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RpkiState {
    /// `valid`
    Valid,
    /// `invalid`
    Invalid,
    /// `notfound`
    NotFound,
}

/// A part of `show rpki`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RpkiView {
    /// `cache-connection`
    Connections,
    /// `cache-server`
    Servers,
    /// `prefix-table`
    Prefixes,
    /// `prefix PREFIX [ASN]`
    Prefix {
        /// The payloads that cover this, and what they say of it.
        prefix: Prefix,
        /// As originated by this AS.
        asn: Option<Asn>,
    },
}

pub(super) const ROWS: &[Row] = &[
    row(
        Owner::Bgpd,
        "show [ip|ipv6] bgp [(ipv4|ipv6) [unicast]] rpki (valid|invalid|notfound) [json]",
        "Routes by what origin validation says of them",
        validation,
    ),
    row(Owner::Bgpd, "show (ip|ipv6) nht [json]", "Next hops, and how each is reached", |args| {
        show(args, Watch::NextHops(Some(family(args))))
    }),
    row(Owner::Bgpd, "show bgp nexthop [json]", "Next hops, and how each is reached", |args| {
        show(args, Watch::NextHops(None))
    }),
    row(Owner::Bgpd, "show bgp events [json]", "The last changes of state", |args| show(args, Watch::Events)),
    row(Owner::Bgpd, "show [bgp] bmp [json]", "BMP stations", |args| show(args, Watch::Bmp)),
    row(Owner::Bgpd, "show vrrp [interface IFNAME] [VRID:1-255] [json]", "Virtual routers", |args| {
        show(args, Watch::Vrrp(WhichVrrp { interface: args.opt("IFNAME")?, vrid: args.opt("VRID")? }))
    }),
    row(Owner::Bgpd, "show mrt [json]", "MRT files whose routes are in the table", |args| show(args, Watch::Mrt)),
    row(Owner::Bgpd, "load mrt FILE [next-hop ADDRESS]", "Put the routes of an MRT file into the table", |args| {
        Ok(Command::LoadMrt { file: args.get("FILE")?, next_hop: args.opt("ADDRESS")? })
    }),
    row(Owner::Bgpd, "clear mrt (all|NUMBER:1-4294967295)", "Take routes of an MRT file out again", |args| {
        Ok(Command::ClearMrt { number: args.opt("NUMBER")? })
    }),
    row(Owner::Bgpd, "show rpki cache-connection [json]", "Connections to caches", |args| {
        show(args, Watch::Rpki(RpkiView::Connections))
    }),
    row(Owner::Bgpd, "show rpki cache-server [json]", "Caches that are configured", |args| {
        show(args, Watch::Rpki(RpkiView::Servers))
    }),
    row(Owner::Bgpd, "show rpki prefix-table [json]", "Validated payloads", |args| {
        show(args, Watch::Rpki(RpkiView::Prefixes))
    }),
    row(Owner::Bgpd, "show rpki prefix PREFIX [ASN] [json]", "What payloads say of a prefix", |args| {
        let view = RpkiView::Prefix { prefix: args.get("PREFIX")?, asn: args.opt("ASN")? };
        show(args, Watch::Rpki(view))
    }),
];

fn show(args: &Args<'_>, what: Watch) -> Result<Command, Complaint> {
    Ok(Command::Watch { what, json: json(args) })
}

fn validation(args: &Args<'_>) -> Result<Command, Complaint> {
    let state = match (args.has("valid"), args.has("invalid")) {
        (true, _) => RpkiState::Valid,
        (_, true) => RpkiState::Invalid,
        _ => RpkiState::NotFound,
    };
    show(args, Watch::Validation(family(args), state))
}
