//! What the VRFs of the configuration come to: what the routing table imports for each, and what it exports.
//!
//! A plain function of configuration and links to a whole desired state, as in [`local_routes`](crate::local_routes). A VRF
//! is a kernel table: the one that `vrf` names, or that of the VRF device of its name. Which packets look there is for the
//! device, or for routing rules, to say; nothing is forwarded by MPLS labels here.

use std::collections::{BTreeMap, BTreeSet};

use bgp_core::rib::{VpnRoute, VrfConfig, VrfFamily};
use bgp_wire::{ExtCommunity, Label, Labels, Origin};
use config::{
    Config,
    model::{self, Name, VpnLabel},
};
use net_types::{Family, Prefix};
use netwatch::View;

/// What is to be in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vrfs {
    /// By the number of the kernel table.
    pub imports: BTreeMap<u32, VrfConfig>,
    /// By prefix, each with its VRF's distinguisher.
    pub exports: BTreeMap<Prefix, VpnRoute>,
}

/// The kernel table of a VRF, where it has one by now.
pub fn table(config: &Config, view: &View, name: &Name) -> Option<u32> {
    let device = || view.link_named(name.as_str()).and_then(|link| link.vrf_table);
    config.vrfs.get(name).and_then(|vrf| vrf.table).or_else(device)
}

/// What VRFs import and export while links are as they are. Of two that name one table the first has it.
pub fn vrfs(config: &Config, view: &View) -> Vrfs {
    let mut wanted = Vrfs::default();
    let Some(bgp) = &config.bgp else { return wanted };
    for (name, vrf) in &bgp.vrfs {
        let table = table(config, view, name);
        if let Some(table) = table {
            let families = Family::UNICAST.map(|family| vrf.families.get(&family).map(import).unwrap_or_default());
            wanted.imports.entry(table).or_insert(VrfConfig { families });
        }
        for family in vrf.families.values().filter(|family| family.export) {
            // As in FRR: what is to be told apart and found has both.
            let Some(rd) = family.rd.filter(|_| !family.export_targets.is_empty()) else { continue };
            let targets: Vec<ExtCommunity> = family.export_targets.iter().map(target).collect();
            for prefix in &family.networks {
                let (targets, labels) = (targets.clone(), label(family.label, table));
                wanted.exports.insert(prefix.in_vpn(rd), VpnRoute { targets, labels, origin: Origin::Igp });
            }
        }
    }
    wanted
}

fn import(family: &model::VrfFamily) -> VrfFamily {
    let import = if family.import { family.import_targets.iter().map(target).collect() } else { BTreeSet::new() };
    VrfFamily { rd: family.rd.filter(|_| family.export), import }
}

/// A route target on the wire (RFC 4360 §4, RFC 5668).
fn target(value: &model::ExtCommunity) -> ExtCommunity {
    const ROUTE_TARGET: u8 = 2;
    let (kind, administrator) = match *value {
        model::ExtCommunity::TwoOctetAs(asn, number) => (0, [&asn.to_be_bytes()[..], &number.to_be_bytes()].concat()),
        model::ExtCommunity::Ipv4(address, number) => (1, [&address.octets()[..], &number.to_be_bytes()].concat()),
        model::ExtCommunity::FourOctetAs(asn, number) => (2, [&asn.to_be_bytes()[..], &number.to_be_bytes()].concat()),
    };
    let mut octets = [kind, ROUTE_TARGET, 0, 0, 0, 0, 0, 0];
    octets[2..].copy_from_slice(&administrator);
    ExtCommunity(octets)
}

/// The label of a VRF's routes. One that is chosen follows from the number of its table, so that it stays as it is
/// whatever else is configured.
fn label(label: VpnLabel, table: Option<u32>) -> Labels {
    let number = match label {
        VpnLabel::None => None,
        VpnLabel::Auto => table.and_then(|table| table.checked_add(Label::FIRST.get())),
        VpnLabel::Number(number) => Some(number),
    };
    number.and_then(|number| Label::try_from(number).ok()).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
vrf RED
 table 100
router bgp 65001
 bgp router-id 10.0.0.1
router bgp 65001 vrf RED
 address-family ipv4 unicast
  network 10.1.0.0/16
  label vpn export auto
  rd vpn export 65001:1
  rt vpn import 65001:7 70000:8
  rt vpn export 192.0.2.1:9
  import vpn
  export vpn
router bgp 65001 vrf BLUE
 address-family ipv4 unicast
  network 10.2.0.0/16
  rd vpn export 65001:2
  export vpn
";

    #[test]
    fn a_vrf_imports_into_its_table_and_exports_with_its_targets() {
        let parsed = config::parse(FILE).unwrap_or_else(|errors| panic!("{}", errors.render("test", FILE)));
        let found = vrfs(&parsed.config, &View::default());
        let red = &found.imports[&100].families[0];
        assert_eq!(red.rd, Some("65001:1".parse().unwrap()));
        let import: Vec<String> = red.import.iter().map(ToString::to_string).collect();
        assert_eq!(import, ["RT:65001:7", "RT:70000:8"]);
        assert_eq!(found.imports[&100].families[1], VrfFamily::default());
        let exports: Vec<String> = found
            .exports
            .iter()
            .map(|(prefix, route)| format!("{prefix} {:?} {:?}", route.targets, route.labels))
            .collect();
        assert_eq!(exports, ["65001:1:10.1.0.0/16 [RT:192.0.2.1:9] [116]"], "BLUE has no targets to be found by");
        assert_eq!(found.imports.len(), 1, "BLUE has no table");
    }
}
