//! What a peer is told, and how a route has to look for it (RFC 4271 §5, §9.1.3, §9.2).
//!
//! Nothing that was sent is kept but one bit a prefix and peer: what a route looks like towards a peer follows from
//! its best path and the export policy, so it is worked out when the peer has room for it, once for all prefixes that
//! share attributes. [`Terms`] is all of a peer that the outcome depends on; peers with equal terms get equal
//! messages, which is what an update group is.

mod poll;

use std::net::IpAddr;

use bgp_wire::{Community, ExtCommunity, NextHop};
use net_types::{Asn, Family, Prefix};

pub use poll::{OutBatch, OutGroup};

use crate::{
    decision::SourceKind,
    policy::{Changes, Policy, Route},
    rib::{
        DEFAULT_LOCAL_PREF, LocalAddresses, NextHopSelf, PathAttrs,
        peer::{Peer, PeerUp},
    },
};

/// What the routes sent to a peer depend on, besides the routes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Terms {
    family: Family,
    kind: SourceKind,
    local_as: Asn,
    address: IpAddr,
    local: LocalAddresses,
    next_hop_self: NextHopSelf,
    shared_subnets: Vec<Prefix>,
    policy: Policy,
}

impl Terms {
    pub(crate) fn of(peer: &Peer, up: &PeerUp, family: Family) -> Self {
        let config = &peer.config.families[family as usize];
        Self {
            family,
            kind: peer.kind,
            local_as: peer.config.local_as,
            address: peer.config.address,
            local: up.local,
            next_hop_self: config.next_hop_self,
            shared_subnets: up.shared_subnets.clone(),
            policy: config.export.clone(),
        }
    }

    /// A route as export policy sees it, unless it may not be told to this peer at all.
    pub(crate) fn outline(&self, from: SourceKind, attrs: &PathAttrs) -> Option<PathAttrs> {
        // RFC 4271 §9.2: an internal peer's route is not passed on to internal peers.
        if (from, self.kind) == (SourceKind::Internal, SourceKind::Internal) {
            return None;
        }
        let external = self.kind == SourceKind::External;
        let has = |community| attrs.attributes.communities.contains(&community);
        let stays = has(Community::NO_EXPORT) || has(Community::NO_EXPORT_SUBCONFED);
        if has(Community::NO_ADVERTISE) || external && stays {
            return None; // RFC 1997
        }
        let next_hop = self.next_hop(from, attrs)?;
        let mut out = PathAttrs { next_hop, scope: 0, weight: 0, attributes: attrs.attributes.clone() };
        let attributes = &mut out.attributes;
        if external {
            attributes.local_pref = None; // §5.1.5
            attributes.originator_id = None; // RFC 4456 §8: both stay within the AS
            attributes.cluster_list.clear();
            attributes.ext_communities.retain(|community: &ExtCommunity| community.is_transitive());
            if from != SourceKind::Local {
                attributes.med = None; // §5.1.4: not beyond the AS that it was meant for
            }
        } else {
            attributes.local_pref.get_or_insert(DEFAULT_LOCAL_PREF);
        }
        Some(out)
    }

    /// What policy says of the outline for `prefix`: the changes to make, if the route may go out.
    pub(crate) fn permits(&self, prefix: &Prefix, outline: &PathAttrs) -> Option<Changes> {
        self.policy.evaluate(Route { prefix, attrs: outline, peer: self.address })
    }

    /// The route as it is sent.
    pub(crate) fn finish(&self, outline: &PathAttrs, changes: &Changes) -> PathAttrs {
        let mut out = outline.clone();
        self.policy.apply(changes, &mut out);
        if self.kind == SourceKind::External {
            out.attributes.as_path.prepend(self.local_as, 1); // §5.1.2: in front of what policy put there
        }
        out.weight = 0;
        out
    }

    /// RFC 4271 §5.1.3.
    fn next_hop(&self, from: SourceKind, attrs: &PathAttrs) -> Option<NextHop> {
        let ourselves = || self.local.next_hop(self.family);
        let address = attrs.next_hop.address();
        let unchanged = match (from, self.kind) {
            (SourceKind::Local, _) => false,
            // Third party: the next hop is on the peer's own subnet, so it need not come through us.
            (_, SourceKind::External) => self.shared_subnets.iter().any(|subnet| subnet.contains(address)),
            (SourceKind::External, _) => self.next_hop_self == NextHopSelf::WhereRequired,
            (SourceKind::Internal, _) => true,
        };
        // A link-local address means nothing but on the link that it was learned on, and nobody is told to use himself.
        let usable = !matches!(address, IpAddr::V6(a) if a.is_unicast_link_local()) && address != self.address;
        if !unchanged || !usable {
            return ourselves();
        }
        match attrs.next_hop {
            NextHop::V6 { global, .. } => Some(NextHop::V6 { global, link_local: None }), // RFC 2545 §3
            v4 => Some(v4),
        }
    }
}

#[cfg(test)]
mod tests;
