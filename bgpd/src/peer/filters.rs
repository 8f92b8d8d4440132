//! Filters that neighbors apply for us (outbound route filtering, RFC 5291): the inbound prefix-list of a neighbor, told to it.

use std::{collections::BTreeMap, sync::Arc};

use bgp_wire::PrefixFilter;
use config::{
    Config,
    model::{self, Action, NeighborSettings, PrefixList},
};
use net_types::{Family, Prefix};

/// By family in which filters are sent: what the neighbor is to keep back.
pub type Filters = BTreeMap<Family, Arc<Vec<PrefixFilter>>>;

/// What a neighbor with these settings is told to keep back, where we may tell it.
pub fn filters(config: &Config, settings: &NeighborSettings) -> Filters {
    let family = |family: Family| {
        let said = settings.families.get(&family).filter(|said| sends(said))?;
        let lines = said.prefix_list_in.as_ref().map_or_else(Vec::new, |name| {
            // As here: a list that is used but not defined denies everything, and one without a line permits it.
            let list = config.prefix_lists.get(&(family, name.clone()));
            list.map_or_else(|| vec![nothing(family)], |list| lines(family, list))
        });
        Some((family, Arc::new(lines)))
    };
    Family::UNICAST.into_iter().filter_map(family).collect()
}

/// Whether we send filters.
pub(super) fn sends(settings: &model::NeighborFamily) -> bool {
    settings.outbound_filter.is_some_and(|way| way.sends())
}

/// Whether we take them.
pub(super) fn receives(settings: &model::NeighborFamily) -> bool {
    settings.outbound_filter.is_some_and(|way| way.receives())
}

fn nothing(family: Family) -> PrefixFilter {
    let prefix = if family == Family::Ipv4Unicast { Prefix::DEFAULT_V4 } else { Prefix::DEFAULT_V6 };
    PrefixFilter { sequence: 1, permit: false, min: 0, max: family.max_bits(), prefix }
}

fn lines(family: Family, list: &PrefixList) -> Vec<PrefixFilter> {
    let line = |(sequence, entry): (&u32, &model::PrefixListEntry)| PrefixFilter {
        sequence: *sequence,
        permit: entry.action == Action::Permit,
        min: entry.ge.unwrap_or(0),
        // "ge 0" cannot be said by a shortest length of 0, which says nothing.
        max: entry.le.unwrap_or(if entry.ge == Some(0) { family.max_bits() } else { 0 }),
        prefix: entry.prefix,
    };
    list.entries.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inbound_list_is_what_the_neighbor_is_told() {
        let config = config::parse(
            "ip prefix-list IN seq 5 permit 10.0.0.0/8 ge 9 le 24\nip prefix-list IN seq 10 deny 0.0.0.0/0 ge 0\n\
             router bgp 65001\n bgp router-id 10.0.0.1\n neighbor 192.0.2.1 remote-as 65002\n \
             address-family ipv4 unicast\n  neighbor 192.0.2.1 capability orf prefix-list send\n  \
             neighbor 192.0.2.1 prefix-list IN in\n address-family ipv6 unicast\n  neighbor 192.0.2.1 activate\n  \
             neighbor 192.0.2.1 capability orf prefix-list both\n  neighbor 192.0.2.1 prefix-list NONE in\n",
        )
        .unwrap()
        .config;
        let address: std::net::IpAddr = "192.0.2.1".parse().unwrap();
        let neighbor = config.bgp.as_ref().unwrap().resolve(&address.into()).unwrap();
        let told = filters(&config, &neighbor.settings);
        let shown = |family| {
            told[&family]
                .iter()
                .map(|f: &PrefixFilter| (f.sequence, f.permit, f.prefix.to_string(), f.min, f.max))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            shown(Family::Ipv4Unicast),
            [(5, true, "10.0.0.0/8".to_owned(), 9, 24), (10, false, "0.0.0.0/0".to_owned(), 0, 32)]
        );
        assert_eq!(
            shown(Family::Ipv6Unicast),
            [(1, false, "::/0".to_owned(), 0, 128)],
            "what is not defined denies all"
        );
    }
}
