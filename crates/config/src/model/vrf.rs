//! VRFs: `vrf NAME`, and what `router bgp ASN vrf NAME` says of each.

use std::collections::{BTreeMap, BTreeSet};

use net_types::{Family, Prefix, Rd};

use super::ExtCommunity;

/// `vrf NAME`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vrf {
    /// `table`: the kernel table that its routes are in; that of the VRF device of its name without.
    pub table: Option<u32>,
}

/// `router bgp ASN vrf NAME`, by family; only unicast ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BgpVrf {
    /// `address-family ipv4|ipv6 unicast`
    pub families: BTreeMap<Family, VrfFamily>,
}

/// One address family of a VRF.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VrfFamily {
    /// `network PREFIX`
    pub networks: BTreeSet<Prefix>,
    /// `rd vpn export`
    pub rd: Option<Rd>,
    /// `rt vpn import`
    pub import_targets: BTreeSet<ExtCommunity>,
    /// `rt vpn export`
    pub export_targets: BTreeSet<ExtCommunity>,
    /// `label vpn export`
    pub label: VpnLabel,
    /// `import vpn`
    pub import: bool,
    /// `export vpn`
    pub export: bool,
}

/// The label of what a VRF exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VpnLabel {
    /// Nothing said: packets need no label (implicit null).
    #[default]
    None,
    /// `auto`: one for the VRF, chosen.
    Auto,
    /// This one.
    Number(u32),
}
