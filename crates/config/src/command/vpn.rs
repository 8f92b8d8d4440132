//! The commands about VPNs and VRFs.

use net_types::{Family, Prefix, Rd};

use super::{Command, NeighborRoutes, Nesting, Owner, Row, SummaryOf, json, row};
use crate::{
    grammar::{Args, Complaint},
    model::Name,
};

/// What of VPNs is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VpnView {
    /// `show bgp ipv4 vpn [rd RD]`: the table of a VPN family, or what of it has one distinguisher.
    Table {
        /// The VPN family.
        family: Family,
        /// Only this one's.
        rd: Option<Rd>,
    },
    /// `show bgp ipv4 vpn [rd RD] PREFIX`: the paths of a prefix, whatever its distinguisher where none is said.
    Prefix {
        /// Without its distinguisher.
        prefix: Prefix,
        /// Only this one's.
        rd: Option<Rd>,
    },
    /// `show bgp vrf NAME ipv4 unicast`: what a VRF has.
    Vrf {
        /// Its name.
        name: Name,
        /// The unicast family.
        family: Family,
    },
}

pub(super) const ROWS: &[Row] = &[
    row(Owner::Bgpd, "show bgp (ipv4|ipv6) vpn [all] [rd RD] [json]", "Routes of VPNs", |args| {
        Ok(Command::ShowBgpVpn { what: VpnView::Table { family: family(args), rd: args.opt("RD")? }, json: json(args) })
    }),
    row(Owner::Bgpd, "show bgp (ipv4|ipv6) vpn [rd RD] (PREFIX4|PREFIX6) [json]", "The paths to a prefix", |args| {
        let prefix = match args.opt("PREFIX4")? {
            Some(prefix) => prefix,
            None => args.get::<Prefix>("PREFIX6")?,
        };
        if prefix.family().vpn() != family(args) {
            return Err(Complaint::new(format!("this is no prefix of {}", family(args))));
        }
        Ok(Command::ShowBgpVpn { what: VpnView::Prefix { prefix, rd: args.opt("RD")? }, json: json(args) })
    }),
    row(Owner::Bgpd, "show bgp (ipv4|ipv6) vpn summary [json]", "Neighbors, one line each", |args| {
        let (family, of, nesting) = (Some(family(args)), SummaryOf::All, Nesting::Bare);
        Ok(Command::ShowBgpSummary { family, of, nesting, json: json(args) })
    }),
    row(
        Owner::Bgpd,
        "show bgp (ipv4|ipv6) vpn neighbors NEIGHBOR (routes|received-routes|filtered-routes|advertised-routes) [json]",
        "Routes of one neighbor",
        |args| {
            Ok(Command::ShowBgpNeighborRoutes {
                family: family(args),
                neighbor: args.get("NEIGHBOR")?,
                which: NeighborRoutes::said(args),
                json: json(args),
            })
        },
    ),
    row(Owner::Bgpd, "show bgp vrf NAME (ipv4|ipv6) [unicast] [json]", "The routes of a VRF", |args| {
        let what = VpnView::Vrf { name: args.get("NAME")?, family: family(args).unicast() };
        Ok(Command::ShowBgpVpn { what, json: json(args) })
    }),
];

fn family(args: &Args<'_>) -> Family {
    if args.has("ipv6") { Family::Ipv6Vpn } else { Family::Ipv4Vpn }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vpns_and_vrfs_are_asked_for_as_in_frr() {
        let parse = |line: &str| Command::parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let table = |family, rd: Option<&str>, json| Command::ShowBgpVpn {
            what: VpnView::Table { family, rd: rd.map(|rd| rd.parse().unwrap()) },
            json,
        };
        assert_eq!(parse("show bgp ipv4 vpn"), table(Family::Ipv4Vpn, None, false));
        assert_eq!(parse("show bgp ipv6 vpn all json"), table(Family::Ipv6Vpn, None, true));
        assert_eq!(parse("show bgp ipv4 vpn rd 65000:1"), table(Family::Ipv4Vpn, Some("65000:1"), false));
        let vrf = VpnView::Vrf { name: "RED".parse().unwrap(), family: Family::Ipv4Unicast };
        assert_eq!(parse("show bgp vrf RED ipv4 unicast json"), Command::ShowBgpVpn { what: vrf, json: true });
        assert!(matches!(parse("show bgp vrf all ipv4 unicast"), Command::ShowBgp { .. }));
        assert!(Command::parse("show bgp ipv4 vpn 2001:db8::/32").is_err());
    }
}
