//! What a peer is told, and how a route has to look for it (RFC 4271 §5, §9.1.3, §9.2).
//!
//! Nothing that was sent is kept but one bit a prefix and peer: what a route looks like towards a peer follows from
//! its best path and the export policy, so it is worked out when the peer has room for it, once for all prefixes that
//! share attributes. [`Terms`] is all of a peer that the outcome depends on; peers with equal terms get equal
//! messages, which is what an [update group](group) is.

mod as_path;
mod batch;
mod group;
mod making;
mod offers;
mod poll;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use bgp_wire::{Community, ExtCommunity, NextHop, Role};
use net_types::{Afi, Family, Prefix};

pub use batch::{Audience, GroupBatch, OutBatch, OutGroup, Polled, Room, Withdrawn};
pub use group::GroupId;
pub(crate) use group::{Behind, Group, Left, Member, Several, Told};
pub(crate) use offers::Alternatives;

use crate::{
    decision::SourceKind,
    policy::{Changes, NextHopRule, Origins, Policy, Route, Sharing, Way},
    rib::{
        ConditionalAdvertisement, DEFAULT_LOCAL_PREF, DefaultOriginate, Install, LocalAddresses, NextHopSelf, Path,
        PathAttrs, RibConfig, Unchanged, Withheld,
        attrs::AttrId,
        conditions,
        peer::{GHOST_EPOCH, Peer, PeerUp, Standing},
        state::Shared,
    },
    validation::RoaTable,
};
use as_path::PathRules;

/// Who a route comes from, as far as it matters to those that are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Teller {
    kind: SourceKind,
    /// `route-reflector-client`
    client: bool,
    /// For ORIGINATOR_ID, from internal peers.
    router_id: u32,
    /// The session that it was told in has ended (RFC 4724 §4.2).
    stale: bool,
    /// It came through a tunnel of ours.
    through_tunnel: bool,
    /// It is told as what has been lost ([`Shared::tunnel_lost`]).
    lost: bool,
}

impl Teller {
    /// Who tells `path`.
    pub(crate) fn of(shared: &Shared, path: &Path, family: Family) -> Self {
        let peer = shared.peer(path.source);
        let internal = peer.kind == SourceKind::Internal;
        Self {
            kind: peer.kind,
            client: internal && peer.config.families[family as usize].rules.reflector_client,
            router_id: if internal { peer.router_id } else { 0 },
            stale: path.source != conditions::default_slot() && shared.standing(family, path) == Standing::Stale,
            through_tunnel: peer.has_tunnel(),
            lost: path.epoch == GHOST_EPOCH,
        }
    }
}

/// How routes of internal peers reach other internal peers (RFC 4456).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reflection {
    /// The peer is a client of ours.
    client: bool,
    /// Clients get each other's routes from us.
    between_clients: bool,
    cluster_id: Ipv4Addr,
}

/// What the routes sent to a peer depend on, besides the routes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Terms {
    family: Family,
    kind: SourceKind,
    address: IpAddr,
    local: LocalAddresses,
    next_hop_self: NextHopSelf,
    reflection: Reflection,
    path: PathRules,
    unchanged: Unchanged,
    withheld: Withheld,
    role: Option<Role>,
    /// It takes IPv6 next hops for routes that are not IPv6.
    over_ipv6: bool,
    /// Routes with the peer's AS on the path are not worth sending.
    loop_check: bool,
    /// The peer is told its own routes, too, where they are the best.
    pub(crate) echo: bool,
    /// It speaks long-lived graceful restart.
    long_lived: bool,
    /// It knows what is meant by a route that was lost with its tunnel.
    tunnel_marks: bool,
    /// Between bursts of messages: those that go out together have to pause together.
    pub(crate) advertisement_interval: Duration,
    shared_subnets: Vec<Prefix>,
    pub(crate) policy: Policy,
    /// What suppressed routes go through: those that it permits are sent all the same. As in FRR its route-map stands in
    /// the place of the peer's own.
    unsuppress: Option<Policy>,
    /// Peers that depend on different conditions are never told together.
    conditional: (Option<DefaultOriginate>, Option<ConditionalAdvertisement>),
    /// A default route is told, changed like this, instead of what the table has.
    pub(crate) default_route: Option<(Policy, Changes)>,
    /// Routes that it permits are not told while their condition is not met.
    withheld_now: Option<Policy>,
    /// Their condition is met: routes that it permits are told, changed by it. As in FRR its route-map stands in the place of the
    /// peer's own.
    advertised_now: Option<Policy>,
    /// No more prefixes than this are announced.
    pub(crate) maximum_out: Option<u32>,
    /// We are about to go (RFC 8326).
    draining: bool,
    /// Paths with sets are not told (RFC 6472 §3).
    reject_as_sets: bool,
    /// What it may be told in the place of a best path that it may not be told.
    pub(crate) alternatives: Alternatives,
}

impl Terms {
    pub(crate) fn of(own: &RibConfig, peer: &Peer, up: &PeerUp, family: Family) -> Self {
        let config = &peer.config.families[family as usize];
        let rules = &config.rules;
        let loop_check = peer.config.loop_check;
        let asked = peer.families[family as usize].filter.list.clone();
        let export = Policy { outbound_filter: asked, ..config.export.clone() };
        // Peers in different ASes may have equal terms as long as nothing asks for their AS.
        let asks = rules.as_override || rules.remove_private.is_some() || loop_check;
        Self {
            family,
            kind: peer.kind,
            address: peer.config.address,
            local: up.local,
            next_hop_self: config.next_hop_self,
            reflection: Reflection {
                client: rules.reflector_client,
                between_clients: own.client_to_client_reflection,
                cluster_id: own.cluster_id(),
            },
            path: PathRules {
                kind: peer.kind,
                local_as: peer.config.local_as,
                alias: peer.config.alias,
                unchanged: rules.unchanged.as_path,
                remove_private: rules.remove_private,
                as_override: rules.as_override,
                bare: false,
                remote_as: asks.then_some(up.remote_as),
            },
            unchanged: rules.unchanged,
            withheld: rules.withheld,
            role: peer.config.role,
            over_ipv6: up.negotiated.over_ipv6.contains(family),
            loop_check,
            echo: peer.config.echo && !rules.own_view,
            long_lived: up.long_lived.contains(family),
            tunnel_marks: up.negotiated.tunnel_marks,
            advertisement_interval: peer.config.advertisement_interval,
            shared_subnets: up.shared_subnets.clone(),
            unsuppress: config
                .unsuppress
                .as_ref()
                .map(|unsuppress| Policy { route_map: unsuppress.route_map.clone(), ..export.clone() }),
            policy: export,
            conditional: (config.default_originate.clone(), config.advertise.clone()),
            default_route: peer.families[family as usize].default_route.clone(),
            withheld_now: peer.families[family as usize].withheld.clone(),
            advertised_now: config
                .advertise
                .as_ref()
                .filter(|_| peer.families[family as usize].withheld.is_none())
                .map(|advertise| Policy { route_map: advertise.routes.route_map.clone(), ..config.export.clone() }),
            maximum_out: config.maximum_out,
            draining: own.graceful_shutdown,
            reject_as_sets: own.reject_as_sets,
            alternatives: match peer.kind {
                SourceKind::Internal if rules.best_external => Alternatives::External,
                SourceKind::Internal => Alternatives::None,
                _ if rules.own_view => Alternatives::Permitted,
                _ => Alternatives::None,
            },
        }
    }

    /// As far as several peers can have them: with the address of nobody, unless policy asks for it.
    pub(crate) fn shared(self) -> Self {
        let nobody = match self.address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let asks = self.policy.concerns_peer() || self.advertised_now.as_ref().is_some_and(Policy::concerns_peer);
        let address = if asks { self.address } else { nobody };
        Self { address, ..self }
    }

    /// A route as export policy sees it, unless it may not be told to this peer at all.
    pub(crate) fn outline(&self, from: Teller, attrs: PathAttrs) -> Option<PathAttrs> {
        if !self.passes_on(from) {
            return None;
        }
        let reflected = (from.kind, self.kind) == (SourceKind::Internal, SourceKind::Internal);
        if self.loop_check && self.path.remote_as.is_some_and(|asn| attrs.attributes.as_path.contains(asn)) {
            return None;
        }
        if self.reject_as_sets && attrs.attributes.as_path.has_sets() {
            return None;
        }
        if from.lost && !self.tells_lost() {
            return None;
        }
        let external = self.kind == SourceKind::External;
        let has = |community| attrs.attributes.communities.contains(&community);
        // RFC 1997: NO_EXPORT keeps a route within the confederation, NO_EXPORT_SUBCONFED within the member AS.
        let stays = match self.kind {
            SourceKind::External => has(Community::NO_EXPORT) || has(Community::NO_EXPORT_SUBCONFED),
            SourceKind::Confederation => has(Community::NO_EXPORT_SUBCONFED),
            SourceKind::Internal | SourceKind::Local => false,
        };
        // RFC 9494 §4.3: who does not know what it means would prefer it.
        let misleading = has(Community::LLGR_STALE) && !self.long_lived;
        let marked = from.stale && self.marks_stale() && !has(Community::LLGR_STALE);
        if has(Community::NO_ADVERTISE) || stays || misleading {
            return None;
        }
        // RFC 9234 §5, egress 2.
        let upward = matches!(self.role, Some(Role::Customer | Role::Peer | Role::RouteServerClient));
        if upward && attrs.attributes.only_to_customer.is_some() {
            return None;
        }
        self.next_hop(from.kind, attrs.next_hop)?; // what it will be is settled when policy has spoken
        let mut out = PathAttrs { scope: 0, weight: 0, ..attrs };
        let attributes = &mut out.attributes;
        if marked {
            attributes.communities.push(Community::LLGR_STALE);
        }
        if from.kind != SourceKind::Internal {
            let ours = [ExtCommunity::THROUGH_TUNNEL, ExtCommunity::TUNNEL_LOST];
            attributes.ext_communities.retain(|community| !ours.contains(community));
            let tunnel = from.through_tunnel && self.kind == SourceKind::Internal;
            attributes.ext_communities.extend(tunnel.then_some(ours[usize::from(from.lost)]));
        }
        if from.lost {
            // In case somebody passes it on who does not know what it says.
            attributes.local_pref = Some(0);
            attributes.communities.push(Community::NO_EXPORT);
        }
        if external {
            attributes.ext_communities.retain(|community: &ExtCommunity| community.is_transitive());
            attributes.tunnel_encap = None; // RFC 9012 §11: they stay within the AS
            if from.kind != SourceKind::Local && !self.unchanged.med {
                attributes.med = None; // §5.1.4: not beyond the AS that it was meant for
            }
        } else {
            attributes.local_pref.get_or_insert(DEFAULT_LOCAL_PREF);
        }
        if reflected {
            // RFC 4456 §8: who brought it in, and that it came through here.
            attributes.originator_id.get_or_insert(from.router_id.into());
            attributes.cluster_list.insert(0, self.reflection.cluster_id);
        } else if self.kind != SourceKind::Internal {
            attributes.originator_id = None; // RFC 4456 §8: both stay within the AS
            attributes.cluster_list.clear();
        }
        // RFC 9234 §5, egress 1.
        if matches!(self.role, Some(Role::Provider | Role::Peer | Role::RouteServer)) {
            attributes.only_to_customer.get_or_insert(self.path.front());
        }
        self.path.before_policy(&mut attributes.as_path);
        Some(out)
    }

    /// Whether routes that are kept from a session that ended are marked for this peer as the last resort that they are here:
    /// within our AS all have to know. Two routers that have lost the same neighbor would else each take what the other tells
    /// it for fresh, prefer that to its own, and send packets to and fro. For that the community of RFC 9494 §4.3 serves from
    /// the beginning on, and not just after the restart time.
    pub(crate) fn marks_stale(&self) -> bool {
        matches!(self.kind, SourceKind::Internal | SourceKind::Confederation)
    }

    /// Whether it is told of what came through a tunnel and was lost: within our AS all have to know, or those that have no way
    /// of their own would let packets out in the clear. But not who would take it for a route: it may have another way there by
    /// another protocol, and one that is worth less than a route of BGP's.
    pub(crate) fn tells_lost(&self) -> bool {
        self.kind == SourceKind::Internal && self.tunnel_marks
    }

    /// Whether routes of `from` go to this peer at all.
    pub(crate) fn passes_on(&self, from: Teller) -> bool {
        let reflected = (from.kind, self.kind) == (SourceKind::Internal, SourceKind::Internal);
        !reflected || self.reflects(from.client)
    }

    /// Whether an internal peer's route is passed on to this internal peer: not at all by RFC 4271 §9.2, but between
    /// clients and all others by RFC 4456 §6.
    fn reflects(&self, from_client: bool) -> bool {
        match (from_client, self.reflection.client) {
            (false, false) => false,
            (true, true) => self.reflection.between_clients,
            _ => true,
        }
    }

    /// Whether an aggregate stands for the route towards this peer.
    pub(crate) fn is_suppressed(&self, shared: &Shared, prefix: &Prefix, attrs: AttrId) -> bool {
        let aggregates = &shared.aggregates[self.family as usize];
        let attrs = || shared.attrs.attrs(attrs);
        !aggregates.is_empty() && aggregates.suppresses(prefix, attrs)
    }

    /// Whether some suppressed routes may be sent all the same.
    pub(crate) fn may_unsuppress(&self) -> bool {
        self.unsuppress.is_some()
    }

    /// A suppressed route as it is sent, if the unsuppress-map lets it.
    pub(crate) fn unsuppressed(&self, from: Teller, prefix: &Prefix, attrs: PathAttrs) -> Option<PathAttrs> {
        let policy = self.unsuppress.as_ref()?;
        let outline = self.outline(from, attrs)?;
        let changes = policy.evaluate(self.judged(prefix, &outline))?;
        Some(self.finish_by(policy, from.kind, outline, &changes, Sharing::default()))
    }

    /// Whether what policy says depends on origin validation.
    pub(crate) fn uses_validation(&self) -> bool {
        self.policy.uses_validation()
    }

    /// What policy says of the outline for `prefix`: the changes to make, if the route may go out.
    pub(crate) fn permits(&self, prefix: &Prefix, outline: &PathAttrs, roas: &RoaTable) -> Option<Changes> {
        let origins = Some(Origins { roas, own_as: self.path.local_as });
        self.policy.evaluate(Route { origins, ..self.judged(prefix, outline) })
    }

    /// A route on its way to this peer, as policy is asked about it.
    fn judged<'a>(&self, prefix: &'a Prefix, attrs: &'a PathAttrs) -> Route<'a> {
        Route {
            prefix,
            attrs,
            peer: self.address,
            source: None,
            inbound: false,
            default_local_pref: DEFAULT_LOCAL_PREF,
            origins: None,
        }
    }

    /// Whether a route waits for its condition (`advertise-map`).
    pub(crate) fn is_withheld(&self, shared: &Shared, prefix: &Prefix, attrs: AttrId) -> bool {
        let withheld = self.withheld_now.as_ref();
        withheld.is_some_and(|map| map.judge(prefix, &shared.attrs.attrs(attrs), None).is_some())
    }

    /// A route as it is sent because its condition is met, if it has one.
    pub(crate) fn advertised(
        &self,
        shared: &Shared,
        from: Teller,
        prefix: &Prefix,
        attrs: AttrId,
    ) -> Option<PathAttrs> {
        let policy = self.advertised_now.as_ref()?;
        let outline = self.outline(from, shared.attrs.attrs(attrs))?;
        let changes = policy.evaluate(self.judged(prefix, &outline))?;
        Some(self.finish_by(policy, from.kind, outline, &changes, Sharing::default()))
    }

    /// The default route as it is sent: no filter of this peer's stands in its way, only its own route-map changes it.
    pub(crate) fn default_route(&self, from: Teller, attrs: PathAttrs) -> Option<PathAttrs> {
        let (map, changes) = self.default_route.as_ref()?;
        let outline = self.outline(from, attrs)?;
        Some(self.finish_by(map, from.kind, outline, changes, Sharing::default()))
    }

    /// The route as it is sent.
    pub(crate) fn finish(
        &self,
        from: SourceKind,
        outline: PathAttrs,
        changes: &Changes,
        sharing: Sharing,
    ) -> PathAttrs {
        self.finish_by(&self.policy, from, outline, changes, sharing)
    }

    fn finish_by(
        &self,
        policy: &Policy,
        from: SourceKind,
        outline: PathAttrs,
        changes: &Changes,
        sharing: Sharing,
    ) -> PathAttrs {
        let (next_hop, mut out) = (outline.next_hop, outline);
        let named = if sharing.weighted { bandwidth(&out.attributes.ext_communities) } else { None };
        let rule = policy.apply(changes, &mut out, Way::Out(sharing));
        let chosen = match rule {
            NextHopRule::Given => Some(out.next_hop),
            NextHopRule::Unchanged if from != SourceKind::Local => Some(next_hop),
            NextHopRule::Ourselves => self.ourselves(),
            NextHopRule::Usual | NextHopRule::Unchanged => None,
        };
        out.next_hop = chosen.or_else(|| self.next_hop(from, next_hop)).unwrap_or(next_hop);
        let ourselves = Some(out.next_hop) == self.ourselves();
        let attributes = &mut out.attributes;
        // Packets for all paths come to us, who have the bandwidth of all of them; unless policy has named one.
        if ourselves && named.is_some() && bandwidth(&attributes.ext_communities) == named {
            let one = attributes.ext_communities.iter_mut().find(|community| Some(**community) == named);
            one.into_iter().for_each(|one| *one = self.sum(*one, sharing));
        }
        if self.kind == SourceKind::External {
            attributes.local_pref = None; // §5.1.5; policy may ask for it before
        }
        self.path.finish(&mut attributes.as_path);
        if self.withheld.standard {
            attributes.communities.clear();
        }
        if self.withheld.extended {
            attributes.ext_communities.clear();
        }
        if self.withheld.large {
            attributes.large_communities.clear();
        }
        if self.draining {
            match self.kind {
                // RFC 8326 §4.2: the neighbor is asked to prefer anything else.
                SourceKind::External => add(&mut attributes.communities, Community::GRACEFUL_SHUTDOWN),
                _ => attributes.local_pref = Some(0),
            }
        }
        (out.weight, out.install) = (0, Install::default());
        out
    }

    /// A link bandwidth of ours in the place of the one that a path names.
    fn sum(&self, named: ExtCommunity, sharing: Sharing) -> ExtCommunity {
        let like = ExtCommunity::link_bandwidth(self.path.local_as, 0.0, named.is_transitive());
        like.with_bandwidth(sharing.octets)
    }

    /// The next hop that stands for this router.
    fn ourselves(&self) -> Option<NextHop> {
        match self.family {
            // RFC 8950 §4: on a session over IPv6 that agreed to it, IPv4 routes point where all others do.
            Family::Ipv4Unicast if self.over_ipv6 && (self.address.is_ipv6() || self.local.v4.is_none()) => {
                self.local.ipv6().or_else(|| self.local.next_hop(self.family))
            }
            family => self.local.next_hop(family),
        }
    }

    /// RFC 4271 §5.1.3.
    fn next_hop(&self, from: SourceKind, received: NextHop) -> Option<NextHop> {
        let address = received.address();
        let asked = self.next_hop_self != NextHopSelf::WhereRequired;
        let unchanged = match (from, self.kind) {
            (SourceKind::Local, _) if address.is_unspecified() => false,
            (_, SourceKind::External) if self.unchanged.next_hop => true,
            // Third party: the next hop is on the peer's own subnet, so it need not come through us.
            (_, SourceKind::External) => !asked && self.shared_subnets.iter().any(|subnet| subnet.contains(address)),
            // RFC 4456 §10: a reflector that named itself would draw the traffic of its clients.
            (SourceKind::Internal, SourceKind::Internal) => self.next_hop_self != NextHopSelf::Always,
            _ => !asked,
        };
        // A link-local address means nothing but on the link that it was learned on, and nobody is told to use himself.
        let usable = !matches!(address, IpAddr::V6(a) if a.is_unicast_link_local()) && address != self.address;
        let fits = self.family.afi() == Afi::Ipv6 || address.is_ipv4() || self.over_ipv6;
        if !unchanged || !usable || !fits {
            return self.ourselves();
        }
        match received {
            NextHop::V6 { global, .. } => Some(NextHop::V6 { global, link_local: None }), // RFC 2545 §3
            v4 => Some(v4),
        }
    }
}

/// The first that names a link bandwidth.
fn bandwidth(communities: &[ExtCommunity]) -> Option<ExtCommunity> {
    communities.iter().copied().find(|community| community.bandwidth().is_some())
}

fn add(communities: &mut Vec<Community>, community: Community) {
    if let Err(place) = communities.binary_search(&community) {
        communities.insert(place, community);
    }
}

#[cfg(test)]
mod tests;
