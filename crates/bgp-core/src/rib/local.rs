//! Routes that this router originates (RFC 4271 §9.4).

use std::{net::IpAddr, time::Instant};

use bgp_wire::{Attributes, Community, NextHop, Origin};
use net_types::{Family, Prefix};

use super::{
    Install, Path, PathAttrs, Rib,
    input::Importer,
    next_hops::{NOWHERE, OWN},
    peer::LocalSource,
};
use crate::policy::Policy;

/// Weight of our own routes: as with every vendor, they win over what peers say.
pub(super) const OWN_WEIGHT: u32 = 32768;

/// What is to be said about a route of our own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalRoute {
    /// Its metric in the protocol that it comes from, announced as MED.
    pub metric: Option<u32>,
    /// Its tag there, which route-maps may ask for.
    pub tag: u32,
    /// What it is announced with, sorted, unless a route-map says otherwise.
    pub communities: Vec<Community>,
    /// The router that it leads to, for neighbors that reach that one themselves (RFC 4271 §5.1.3); none stands for us.
    pub next_hop: Option<IpAddr>,
    /// There is nothing that it would lead to (`bgp network import-check`): it is shown, and may be a condition, and is
    /// neither used nor announced.
    pub idle: bool,
}

impl Rib {
    /// Originates `prefix`, or changes what is said about it.
    pub fn originate(&mut self, now: Instant, source: LocalSource, prefix: Prefix, route: LocalRoute) {
        let origin = if source == LocalSource::Network { Origin::Igp } else { Origin::Incomplete };
        let next_hop = route.next_hop.filter(|address| address.is_ipv4() == (prefix.family() == Family::Ipv4Unicast));
        let next_hop = next_hop.map(NextHop::from);
        let attrs = PathAttrs {
            attributes: Attributes {
                origin,
                med: route.metric,
                communities: route.communities,
                ..Attributes::default()
            },
            next_hop: next_hop.unwrap_or_else(|| ourselves(prefix.family())),
            scope: match next_hop {
                _ if route.idle => NOWHERE,
                Some(_) => OWN,
                None => 0,
            },
            weight: OWN_WEIGHT,
            install: Install { tag: route.tag, ..Install::default() },
        };
        self.originate_as(now, source, prefix, attrs);
    }

    /// The same with these attributes.
    pub(super) fn originate_as(&mut self, now: Instant, source: LocalSource, prefix: Prefix, attrs: PathAttrs) {
        let learned = self.learned(now);
        let (slot, family) = (source.slot(), prefix.family());
        let Self { shared, tables, config, .. } = self;
        let received = shared.attrs.intern(&attrs);
        let epoch = shared.peer(slot).epoch;
        let table = &mut tables[family as usize];
        let mut importer = Importer::new(shared, config, slot, family, received, attrs);
        let effective = importer.effective(shared, &prefix).ok();
        if let Some(id) = table.number(&prefix) {
            table.put(shared, id, Path { source: slot, epoch, received, effective, learned, id: 0 });
        }
        importer.finish(shared);
        shared.attrs.release(received);
    }

    /// Tells everybody of the labels that a prefix of a VPN has now.
    pub(super) fn relabelled(&mut self, prefix: &Prefix) {
        let Self { shared, tables, .. } = self;
        let table = &mut tables[prefix.family() as usize];
        if let Some(id) = table.table.find(prefix) {
            table.relabelled(shared, id);
        }
    }

    /// Originates `prefix` no longer.
    pub fn retract(&mut self, source: LocalSource, prefix: &Prefix) {
        self.withdraw(source.slot(), prefix);
    }

    /// What routes of `source` go through (`redistribute … route-map`). Those there already are evaluated again in
    /// [`work`](Self::work).
    pub fn set_local_policy(&mut self, source: LocalSource, family: Family, policy: Policy) {
        let peer = self.shared.peer_mut(source.slot());
        if peer.config.families[family as usize].import != policy {
            peer.config.families[family as usize].import = policy;
            peer.visit(family, super::peer::Visit { reimport: true, ..Default::default() });
        }
    }

    /// Every prefix originated by `source`.
    pub fn originated(&self, source: LocalSource, family: Family) -> Vec<Prefix> {
        let ids = &self.shared.peer(source.slot()).families[family as usize].adj_in;
        ids.iter().map(|id| self.tables[family as usize].table.prefix(id)).collect()
    }
}

/// The next hop that stands for ourselves.
pub(super) fn ourselves(family: Family) -> NextHop {
    match family {
        Family::Ipv4Unicast | Family::Ipv4Vpn | Family::Ipv6Vpn => NextHop::V4(std::net::Ipv4Addr::UNSPECIFIED),
        Family::Ipv6Unicast => NextHop::V6 { global: std::net::Ipv6Addr::UNSPECIFIED, link_local: None },
    }
}
