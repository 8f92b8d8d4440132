//! What peers announce and withdraw (RFC 4271 §9.1.1, §9.2).

use std::{fmt, net::IpAddr, time::Instant};

use bgp_wire::{Announcement, AsPath, Attributes, Community, Labels, Reach, Role, Update};
use net_types::{Asn, Family, Prefix};

use super::{
    Alias, AllowOwnAs, DEFAULT_LOCAL_PREF, FamilyConfig, Install, LocalSource, Path, Rib, RibConfig, RibEvent, Slot,
    attrs::{AttrId, PathAttrs},
    peer::{GHOST_EPOCH, MaximumPrefix, Peer, Protection, Retain, Source, Visit},
    state::{CONFIGURED, Shared},
    table::LOOKUPS,
};
use crate::{
    PeerId,
    decision::SourceKind,
    policy::{Changes, Origins, Policy, Route, Way},
};

/// Why a path that a peer announced is not used. It stays in the Adj-RIB-In: a change of policy may admit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Our own AS is on the path more often than allowed (RFC 4271 §9.1.2).
    OwnAs(Asn),
    /// We are the originator (RFC 4456 §8).
    OwnOriginator,
    /// It went through our cluster before (RFC 4456 §8).
    OwnCluster,
    /// The next hop is no host's address, or ours (RFC 4271 §6.3, §5.1.3).
    NextHop,
    /// There is a set on the path (RFC 6472 §3).
    AsSet,
    /// It was not meant to come this way (RFC 9234 §5).
    RouteLeak,
    /// The prefix-list or route-map denied it.
    Policy,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnAs(asn) => write!(f, "own AS{asn} on the path"),
            Self::OwnOriginator => f.write_str("own router-id as originator"),
            Self::OwnCluster => f.write_str("own cluster on the cluster list"),
            Self::NextHop => f.write_str("next hop is not a host or is this router"),
            Self::AsSet => f.write_str("a set of ASes on the path"),
            Self::RouteLeak => f.write_str("leaked: ONLY_TO_CUSTOMER forbids it from this neighbor"),
            Self::Policy => f.write_str("denied by inbound policy"),
        }
    }
}

/// Checks that no policy can turn off.
pub(super) fn admit(peer: &Peer, own: &RibConfig, family: Family, attrs: &PathAttrs) -> Result<(), Refusal> {
    if peer.kind == SourceKind::Local {
        return Ok(());
    }
    let (config, attributes) = (&peer.config, &attrs.attributes);
    let rules = &config.families[family as usize].rules;
    let cluster = own.cluster_id();
    let alias = config.alias.map(|alias| alias.asn);
    let ours = [Some(own.asn), own.confederation, alias].into_iter().flatten();
    if let Some(asn) = ours.into_iter().find(|asn| loops(&attributes.as_path, *asn, rules.allow_own_as)) {
        return Err(Refusal::OwnAs(asn));
    }
    if attributes.originator_id.is_some_and(|id| u32::from(id) == own.router_id.get()) {
        return Err(Refusal::OwnOriginator);
    }
    if attributes.cluster_list.contains(&cluster) {
        return Err(Refusal::OwnCluster);
    }
    if !attrs.next_hop.is_host() || peer.is_ourselves(attrs.next_hop.address()) {
        return Err(Refusal::NextHop);
    }
    if own.reject_as_sets && attributes.as_path.has_sets() {
        return Err(Refusal::AsSet);
    }
    if config.role.is_some_and(|role| is_leak(role, peer.remote_as, attributes.only_to_customer)) {
        return Err(Refusal::RouteLeak);
    }
    Ok(())
}

/// Whether a route with ONLY_TO_CUSTOMER cannot come from a peer to whom we are `role` (RFC 9234 §5, ingress 1 and 2).
fn is_leak(role: Role, remote_as: Option<Asn>, only_to_customer: Option<Asn>) -> bool {
    match role {
        Role::Provider | Role::RouteServer => only_to_customer.is_some(),
        Role::Peer => only_to_customer.is_some_and(|asn| Some(asn) != remote_as),
        Role::Customer | Role::RouteServerClient => false,
    }
}

/// Whether routes from a peer to whom we are `role` may go on to customers only (RFC 9234 §5, ingress 3).
fn marks(role: Role) -> bool {
    matches!(role, Role::Customer | Role::Peer | Role::RouteServerClient)
}

/// Whether `own` is on the path more often than allowed (RFC 4271 §9.1.2, RFC 5065 §4).
fn loops(path: &AsPath, own: Asn, allowed: AllowOwnAs) -> bool {
    match allowed {
        AllowOwnAs::Times(times) => path.count(own) > usize::from(times),
        AllowOwnAs::Origin => path.contains(own) && path.origin() != Some(own),
    }
}

/// Turns received attributes into effective ones; remembers the last answer, since one UPDATE carries many prefixes.
/// Holds the sets that it gives out until [`finish`](Self::finish).
pub(super) struct Importer {
    policy: Policy,
    peer: IpAddr,
    own_as: Asn,
    default_local_pref: u32,
    source: Option<LocalSource>,
    admitted: Result<(), Refusal>,
    /// The received attributes with what is configured for all routes of the peer.
    base: AttrId,
    attrs: PathAttrs,
    /// Whether it comes from outside the AS, and whether we are about to go: what happens then happens after policy.
    external: bool,
    draining: bool,
    host_bits: u8,
    /// What policy said of the first prefix, where it says the same of every one.
    verdict: Option<Option<Changes>>,
    /// The changes that were made last and what came of them.
    last: Option<(Changes, bool, AttrId)>,
}

impl Importer {
    /// `old` is what `received` names.
    pub(super) fn new(
        shared: &mut Shared,
        own: &RibConfig,
        slot: Slot,
        family: Family,
        received: AttrId,
        old: PathAttrs,
    ) -> Self {
        let Shared { peers, attrs, .. } = shared;
        let peer = peers[usize::from(slot.0)].as_ref().expect(CONFIGURED);
        let FamilyConfig { import, weight, .. } = &peer.config.families[family as usize];
        let admitted = admit(peer, own, family, &old);
        let alias = peer.config.alias.filter(|alias| alias.prepend_received);
        let (weight, local_pref) = (weight.unwrap_or(old.weight), old.attributes.local_pref);
        let preference = local_pref.unwrap_or(own.default_local_pref);
        let mark = peer.config.role.filter(|role| marks(*role)).and(peer.remote_as);
        let mark = mark.filter(|_| old.attributes.only_to_customer.is_none());
        let external = peer.kind == SourceKind::External;
        // RFC 9012 §11: tunnels stay within the AS, or who is outside could have our packets sent anywhere.
        let tunnels = external && old.attributes.tunnel_encap.is_some();
        let (base, attrs) = if alias.is_none()
            && mark.is_none()
            && !tunnels
            && weight == old.weight
            && preference == local_pref.unwrap_or(DEFAULT_LOCAL_PREF)
        {
            attrs.hold(received);
            (received, old)
        } else {
            let mut new = old;
            new.weight = weight;
            new.attributes.local_pref = Some(preference);
            new.attributes.only_to_customer = mark.or(new.attributes.only_to_customer);
            if tunnels {
                new.attributes.tunnel_encap = None;
            }
            if let Some(Alias { asn, .. }) = alias {
                new.attributes.as_path.prepend(asn, 1);
            }
            (attrs.intern(&new), new)
        };
        let source = match peer.source {
            Source::Local(source) => Some(source),
            Source::Peer(_) => None,
        };
        let (policy, peer, own_as) = (import.clone(), peer.config.address, own.asn);
        let (draining, host_bits) = (own.graceful_shutdown && source.is_none(), family.max_bits());
        Self {
            policy,
            peer,
            source,
            own_as,
            default_local_pref: own.default_local_pref,
            admitted,
            base,
            attrs,
            external,
            draining,
            host_bits,
            verdict: None,
            last: None,
        }
    }

    /// The path outlived its session's restart time (RFC 9494 §4.2).
    pub(super) fn make_long_lived(&mut self, shared: &mut Shared) {
        let communities = &mut self.attrs.attributes.communities;
        if !communities.contains(&Community::LLGR_STALE) {
            communities.push(Community::LLGR_STALE);
            let base = shared.attrs.intern(&self.attrs);
            shared.attrs.release(std::mem::replace(&mut self.base, base));
        }
    }

    pub(super) fn effective(&mut self, shared: &mut Shared, prefix: &Prefix) -> Result<AttrId, Refusal> {
        self.admitted?;
        let origins = Some(Origins { roas: &shared.roas, own_as: self.own_as });
        let Self { peer, source, .. } = *self;
        let verdict = match &self.verdict {
            Some(known) => known.clone(),
            None => {
                let verdict = self.policy.evaluate(Route {
                    prefix,
                    attrs: &self.attrs,
                    peer,
                    source,
                    inbound: true,
                    default_local_pref: self.default_local_pref,
                    origins,
                });
                self.verdict = (!self.policy.looks_at_prefix()).then(|| verdict.clone());
                verdict
            }
        };
        let changes = verdict.ok_or(Refusal::Policy)?;
        // What well-known communities ask for depends on the length of the prefix in one case only.
        let host = prefix.bits() == self.host_bits;
        if changes.is_empty() && !self.is_asked_for(&self.attrs, host) {
            return Ok(self.base);
        }
        if let Some((made, of_host, id)) = &self.last
            && (made, *of_host) == (&changes, host)
        {
            return Ok(*id);
        }
        let mut attrs = self.attrs.clone();
        let way = source.map_or(Way::In(peer), |_| Way::Own(self.default_local_pref));
        self.policy.apply(&changes, &mut attrs, way);
        self.do_as_asked(&mut attrs, host);
        let id = shared.attrs.intern(&attrs);
        if let Some((_, _, old)) = self.last.replace((changes, host, id)) {
            shared.attrs.release(old);
        }
        Ok(id)
    }

    /// Whether a well-known community, or our own state, asks for a change that no policy makes.
    fn is_asked_for(&self, attrs: &PathAttrs, host: bool) -> bool {
        let has = |community| attrs.attributes.communities.contains(&community);
        let kept = has(Community::BLACKHOLE) && (host || !has(Community::NO_EXPORT));
        self.draining || self.external && (has(Community::GRACEFUL_SHUTDOWN) || kept)
    }

    fn do_as_asked(&self, attrs: &mut PathAttrs, host: bool) {
        let has = |community| attrs.attributes.communities.contains(&community);
        let (drained, blackhole) = (has(Community::GRACEFUL_SHUTDOWN), has(Community::BLACKHOLE));
        if self.draining || self.external && drained {
            attrs.attributes.local_pref = Some(0); // RFC 8326 §4.3: used when nothing else is there
        }
        if self.external && blackhole {
            // RFC 7999 §3.2, §3.3: packets to a host end here, and nobody outside of our AS is told. Those within are, so that
            // they end at every edge.
            attrs.install.blackhole |= host;
            attrs.attributes.communities.push(Community::NO_EXPORT);
            attrs.attributes.communities.sort_unstable();
            attrs.attributes.communities.dedup();
        }
    }

    pub(super) fn finish(self, shared: &mut Shared) {
        shared.attrs.release(self.base);
        if let Some((_, _, id)) = self.last {
            shared.attrs.release(id);
        }
    }
}

/// What stands beside the prefixes of an announcement; each empty, or one for each prefix.
#[derive(Clone, Copy)]
struct Beside<'a> {
    /// The paths' identifiers.
    ids: &'a [u32],
    /// The labels of prefixes of VPNs.
    labels: &'a [Labels],
}

impl Rib {
    /// To be called with UPDATEs that will be applied in a moment: looks their prefixes up, so that the lookups, which do not
    /// depend on each other, wait for memory together and not one by one.
    pub fn look_ahead(&self, updates: &[Update]) {
        let announced = updates.iter().filter_map(|update| update.reach.as_ref()).flat_map(|reach| &reach.announced);
        for family in Family::ALL {
            let of_family = announced.clone().filter(|announcement| announcement.family == family);
            let prefixes = of_family.flat_map(|announcement| &announcement.prefixes);
            self.tables[family as usize].table.look_ahead(prefixes);
        }
    }

    /// Applies an UPDATE of `peer`; one of a session that is not up is ignored.
    pub fn update(&mut self, now: Instant, peer: PeerId, update: Update) {
        let Some(slot) = self.slot(peer) else { return };
        // Found first and taken out then: lookups that do not depend on each other wait for memory together.
        let ids = update.path_ids.unwrap_or_default();
        for (prefixes, at) in update.withdrawn.chunks(LOOKUPS).zip((0..).step_by(LOOKUPS)) {
            // Nearly always of one family; those of another one are looked up again, each by itself.
            let Some(first) = prefixes.first().map(Prefix::family) else { continue };
            let found = self.tables[first as usize].table.find_all(prefixes);
            for ((prefix, found), at) in prefixes.iter().zip(found).zip(at..) {
                let family = prefix.family();
                let found = if family == first { found } else { self.tables[family as usize].table.find(prefix) };
                let Some(id) = found else { continue };
                let theirs = ids.withdrawn.get(at).copied();
                self.note_withdrawal(now, slot, family, id, theirs);
                self.withdraw_entry(slot, family, id, theirs);
            }
        }
        if let Some(Reach { attributes, mut announced }) = update.reach {
            let last = announced.pop(); // nearly always the only one: its attributes need no copy
            let of = |at: usize| Beside {
                ids: ids.announced.get(at).map_or(&[][..], Vec::as_slice),
                labels: ids.labels.get(at).map_or(&[][..], Vec::as_slice),
            };
            for (at, announcement) in announced.iter().enumerate() {
                self.announce(now, slot, attributes.clone(), announcement, of(at));
            }
            if let Some(announcement) = &last {
                self.announce(now, slot, attributes, announcement, of(announced.len()));
            }
        }
        if let Some(family) = update.end_of_rib {
            self.end_of_rib(slot, family);
        }
    }

    fn announce(
        &mut self,
        now: Instant,
        slot: Slot,
        attributes: Attributes,
        announcement: &Announcement,
        beside: Beside<'_>,
    ) {
        let Beside { ids, labels } = beside;
        let Announcement { family, next_hop, prefixes } = announcement;
        let Self { shared, tables, events, config, .. } = self;
        let peer = shared.peer(slot);
        let (epoch, state) = (peer.epoch, &peer.families[*family as usize]);
        if !state.active || state.exceeded {
            return;
        }
        let scope = match next_hop.address() {
            IpAddr::V6(a) if a.is_unicast_link_local() => peer.up.as_ref().map_or(0, |up| up.scope),
            _ => 0,
        };
        let learned = now.saturating_duration_since(self.origin).as_secs() as u32;
        let maximum = peer.config.families[*family as usize].maximum_prefix;
        let attrs = PathAttrs { attributes, next_hop: *next_hop, scope, weight: 0, install: Install::default() };
        let received = shared.attrs.intern(&attrs);
        let mut importer = Importer::new(shared, config, slot, *family, received, attrs);
        let table = &mut tables[*family as usize];
        let dampens = shared.dampens(*family, slot);
        for (at, prefix) in prefixes.iter().enumerate() {
            let mut effective = importer.effective(shared, prefix).ok();
            let Some(id) = table.number(prefix) else { continue };
            let number = ids.get(at).map_or(0, |theirs| shared.path_ids.hold(slot, *theirs));
            if dampens {
                let entry = &table.table.entries[id as usize];
                let old = entry.position(slot, number).map(|at| entry.paths[at]);
                if let Some(old) = old.filter(|old| old.epoch == epoch && old.received != received) {
                    shared.flapped(now, *prefix, &old, false);
                }
                effective = effective.filter(|_| !shared.is_damped(prefix, slot, number));
            }
            let path = Path { source: slot, epoch, received, effective, learned, id: number };
            let relabelled = labels.get(at).is_some_and(|labels| shared.label(*prefix, slot, number, Some(labels)));
            let new = table.put(shared, id, path);
            if relabelled {
                table.relabelled(shared, id);
            }
            shared.path_ids.release(number);
            if new && let Some(maximum) = maximum {
                let event = count(shared.peer_mut(slot), *family, &maximum);
                events.extend(event);
                if shared.peer(slot).families[*family as usize].exceeded {
                    break;
                }
            }
        }
        importer.finish(shared);
        shared.attrs.release(received);
    }

    pub(super) fn withdraw(&mut self, slot: Slot, prefix: &Prefix) {
        let family = prefix.family();
        if let Some(id) = self.tables[family as usize].table.find(prefix) {
            self.withdraw_entry(slot, family, id, None);
        }
    }

    /// What dampening has to know of a withdrawal.
    fn note_withdrawal(&mut self, now: Instant, slot: Slot, family: Family, id: u32, theirs: Option<u32>) {
        if !self.shared.dampens(family, slot) {
            return;
        }
        let number = theirs.map_or(Some(0), |theirs| self.shared.path_ids.find(slot, theirs));
        let table = &self.tables[family as usize].table;
        let entry = &table.entries[id as usize];
        let path = number.and_then(|number| entry.position(slot, number)).map(|at| entry.paths[at]);
        if let Some(path) = path.filter(|path| path.epoch == self.shared.peer(slot).epoch) {
            self.shared.flapped(now, table.prefix(id), &path, true);
        }
    }

    /// `theirs` is what the path's source calls it, if it tells several a prefix.
    fn withdraw_entry(&mut self, slot: Slot, family: Family, id: u32, theirs: Option<u32>) {
        let Self { shared, tables, .. } = self;
        let number = match theirs {
            None => 0,
            Some(theirs) => match shared.path_ids.find(slot, theirs) {
                Some(number) => number,
                None => return,
            },
        };
        let table = &mut tables[family as usize];
        let peer = shared.peer(slot);
        if peer.kind != SourceKind::Local && !peer.families[family as usize].active {
            return;
        }
        if peer.config.protection == Protection::Always {
            table.haunt(shared, id, slot, number, GHOST_EPOCH);
        } else {
            table.take(shared, id, slot, number);
        }
    }

    /// The peer has said all that it has: what an earlier session left behind is over (RFC 4724 §4.2).
    fn end_of_rib(&mut self, slot: Slot, family: Family) {
        let peer = self.shared.peer_mut(slot);
        let state = &mut peer.families[family as usize];
        if !state.active {
            return;
        }
        let leftovers = state.paths > state.received;
        peer.retain(family, Retain::Nothing);
        if leftovers {
            peer.visit(family, Visit::default());
        }
        if let Source::Peer(id) = peer.source {
            self.no_longer_awaited(id, Some(family));
        }
    }
}

/// Compares a peer's prefixes with its limit, after one came in.
fn count(peer: &mut Peer, family: Family, maximum: &MaximumPrefix) -> Option<RibEvent> {
    let Source::Peer(id) = peer.source else { return None };
    let state = &mut peer.families[family as usize];
    let count = if maximum.force { state.received } else { state.accepted };
    let event = |teardown| RibEvent::MaximumPrefix { peer: id, family, count, limit: maximum.limit, teardown };
    if count > maximum.limit && !maximum.warning_only {
        state.exceeded = true;
        return Some(event(true));
    }
    let near = u64::from(maximum.limit) * u64::from(maximum.threshold) / 100;
    if u64::from(count) > near && !state.warned {
        state.warned = true;
        return Some(event(false));
    }
    None
}
