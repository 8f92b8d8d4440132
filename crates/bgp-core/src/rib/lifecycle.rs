//! Peers that are configured, come up, go down, ask for everything again, or are no longer wanted.

use std::{collections::BTreeSet, time::Instant};

use bgp_wire::FamilySet;
use net_types::Family;

use super::{
    Awaited, Deferral, FamilyConfig, IdSet, Protection, Rib, RibConfig, RibEvent, Slot, Unclaimed,
    aggregate::Aggregates,
    outbound_filter::OutboundFilter,
    peer::{Departure, Peer, PeerConfig, PeerUp, Retain, Source, UNUSED_EPOCH, Visit},
};
use crate::{
    PeerId,
    adj_out::Left,
    decision::{DecisionOptions, SourceKind},
};

impl Rib {
    /// Adds a peer, or changes the configuration of one: policies that changed are applied again, in both directions,
    /// without the session noticing. Whether there was room (65,000 peers).
    pub fn configure_peer(&mut self, peer: PeerId, config: PeerConfig) -> bool {
        let Some(slot) = self.slot(peer) else { return self.add_peer(peer, config) };
        let known = self.shared.peer_mut(slot);
        let config_now = config.clone();
        let old = std::mem::replace(&mut known.config, config);
        known.kind = known.config.kind();
        let same_terms = |a: &PeerConfig, b: &PeerConfig| {
            (a.address, a.kind, a.local_as, a.alias, a.loop_check, a.role, a.protection)
                == (b.address, b.kind, b.local_as, b.alias, b.loop_check, b.role, b.protection)
        };
        let terms_changed = !same_terms(&old, &config_now);
        for family in Family::ALL {
            let (before, after) = (&old.families[family as usize], &config_now.families[family as usize]);
            let known = self.shared.peer_mut(slot);
            let own_as = before.rules.allow_own_as != after.rules.allow_own_as;
            if terms_changed || own_as || (&before.import, before.weight) != (&after.import, after.weight) {
                known.visit(family, Visit { reimport: true, ..Visit::default() });
            }
            let conditional = |config: &FamilyConfig| (config.default_originate.clone(), config.advertise.clone());
            if conditional(before) != conditional(after) {
                self.renew_conditions(family, slot);
                self.renew_default(family);
            }
            let Self { shared, tables, retired, config: own, .. } = self;
            if let Some(left) = shared.regroup(own, &mut tables[family as usize], slot) {
                retire(retired, family, left);
            }
            if before.rules.reflector_client != after.rules.reflector_client {
                self.resend_to_all(family); // its routes go to other internal peers now, or no longer
            }
            // What an earlier session left follows what is configured now.
            let known = self.shared.peer_mut(slot);
            let remains = known.remains();
            let ghosts = known.families[family as usize].retain == Retain::Ghosts;
            if terms_changed && ghosts && remains == Retain::Nothing {
                known.retain(family, Retain::Nothing);
            }
        }
        true
    }

    fn add_peer(&mut self, peer: PeerId, config: PeerConfig) -> bool {
        let peers = &mut self.shared.peers;
        let at = peers.iter().position(Option::is_none).unwrap_or(peers.len());
        // The greatest number names nobody.
        let Some(slot) = u16::try_from(at).ok().filter(|slot| *slot < u16::MAX) else { return false };
        let new = Some(Peer::new(Source::Peer(peer), config));
        if at == peers.len() {
            peers.push(new)
        } else {
            peers[at] = new
        }
        self.by_id.insert(peer, Slot(slot));
        self.renew_announcements(Slot(slot));
        true
    }

    /// What `slot` is told beyond the table, if its configuration says anything of that.
    fn renew_announcements(&mut self, slot: Slot) {
        for family in Family::ALL {
            let config = &self.shared.peer(slot).config.families[family as usize];
            if config.default_originate.is_some() || config.advertise.is_some() {
                self.renew_conditions(family, slot);
                self.renew_default(family);
            }
        }
    }

    /// Takes a peer out of the configuration: whatever came from it goes, protected or not.
    pub fn remove_peer(&mut self, now: Instant, peer: PeerId) {
        let Some(slot) = self.slot(peer) else { return };
        self.shared.peer_mut(slot).removed = true;
        self.peer_down(now, peer, Departure::Withdraw);
        self.by_id.remove(&peer);
        self.forgive(slot);
        for family in Family::ALL {
            let config = &mut self.shared.peer_mut(slot).config.families[family as usize];
            let asked = config.default_originate.take().is_some() | config.advertise.take().is_some();
            if asked {
                self.renew_conditions(family, slot);
                self.renew_default(family);
            }
        }
        let removed = self.shared.peer_mut(slot);
        for family in Family::ALL {
            removed.retain(family, Retain::Nothing);
            removed.visit(family, Visit { exorcise: true, ..Visit::default() });
        }
    }

    /// A session came up: everything is owed to it, and an End-of-RIB after that.
    pub fn peer_up(&mut self, now: Instant, peer: PeerId, up: PeerUp) {
        let Some(slot) = self.slot(peer) else { return };
        if self.shared.peer(slot).up.is_some() {
            self.peer_down(now, peer, Departure::Withdraw);
        }
        let known = self.shared.peer_mut(slot);
        known.router_id = up.router_id.get();
        known.remote_as = Some(up.remote_as);
        let remains = known.remains();
        for family in Family::ALL {
            let state = &mut known.families[family as usize];
            state.active = up.negotiated.families.contains(family);
            // RFC 4724 §4.2: without the F bit, or without the family, the forwarding state there is gone.
            let preserved = if state.long_lived { up.long_lived_preserved } else { up.preserved };
            let lost = !preserved.contains(family) || !state.active;
            if state.retain == Retain::Stale && lost {
                known.retain(family, remains);
                known.visit(family, Visit::default());
            }
            let state = &mut known.families[family as usize];
            let leftovers = state.retain != Retain::Nothing;
            state.retain_until = leftovers.then(|| (now + up.stale_limit, Retain::Nothing));
        }
        let families = up.negotiated.families;
        for family in up.awaits_filters.iter() {
            known.families[family as usize].filter.waits = true;
        }
        if !up.sends_end_of_rib {
            self.no_longer_awaited(peer, None);
        }
        let awaited = up.awaits_filters;
        self.shared.peer_mut(slot).up = Some(up);
        self.shared.monitors.sessions_changed();
        for family in families.iter().filter(|family| !awaited.contains(*family)) {
            self.shared.join(&self.config, &mut self.tables[family as usize], slot, IdSet::default(), true);
        }
    }

    /// A session ended. At once no path of it counts as fresh; entries are decided again in [`work`](Self::work).
    pub fn peer_down(&mut self, now: Instant, peer: PeerId, departure: Departure) {
        let Some(slot) = self.slot(peer) else { return };
        if self.shared.peer_mut(slot).up.take().is_none() {
            return self.give_up_on(slot, departure);
        }
        self.next_epoch(slot);
        self.shared.monitors.sessions_changed();
        let Self { shared, retired, .. } = self;
        for family in Family::ALL {
            if let Some(left) = shared.leave(family, slot) {
                retire(retired, family, left);
            }
        }
        let known = shared.peer_mut(slot);
        let remains = known.remains();
        for family in Family::ALL {
            let state = &mut known.families[family as usize];
            (state.active, state.received, state.accepted) = (false, 0, 0);
            (state.warned, state.exceeded) = (false, false);
            state.filter = OutboundFilter::default();
            match departure {
                _ if state.adj_in.is_empty() => known.retain(family, Retain::Nothing),
                Departure::Stale { until, families, long_lived } => {
                    let short = families.contains(family) && until > now;
                    let long = long_lived[family as usize];
                    if short || !long.is_zero() {
                        known.retain(family, Retain::Stale);
                        let state = &mut known.families[family as usize];
                        state.retain_until = Some((if short { until } else { now }, remains));
                        state.long_lived_for = long;
                    } else {
                        known.retain(family, remains);
                    }
                }
                _ => known.retain(family, remains),
            }
            known.visit(family, Visit { departed: true, ..Visit::default() });
        }
    }

    /// The peer will not come back soon after all (its tunnel died, the operator shut it down): no waiting for it.
    fn give_up_on(&mut self, slot: Slot, departure: Departure) {
        let known = self.shared.peer_mut(slot);
        let remains = known.remains();
        for family in Family::ALL {
            let stale = known.families[family as usize].retain == Retain::Stale;
            if departure == Departure::Withdraw && stale {
                known.retain(family, remains);
                known.visit(family, Visit { departed: true, ..Visit::default() });
            }
        }
    }

    /// Lets a source that was configured like a peer announce routes without a session: nobody is told anything, and what it
    /// says is judged as an external neighbor's would be.
    pub fn begin_feed(&mut self, peer: PeerId) {
        let Some(slot) = self.slot(peer) else { return };
        let known = self.shared.peer_mut(slot);
        known.families.iter_mut().zip(Family::ALL).for_each(|(state, family)| state.active = !family.is_vpn());
    }

    /// Takes such a source and everything that it announced away, by the piece in [`work`](Self::work).
    pub fn end_feed(&mut self, now: Instant, peer: PeerId) {
        let Some(slot) = self.slot(peer) else { return };
        self.next_epoch(slot);
        let known = self.shared.peer_mut(slot);
        for state in &mut known.families {
            (state.active, state.received, state.accepted) = (false, 0, 0);
        }
        self.remove_peer(now, peer);
    }

    /// Forgets what a peer left behind and what is only kept to protect prefixes (`clear bgp … fail-closed`).
    pub fn clear_leftovers(&mut self, peer: PeerId) {
        let Some(slot) = self.slot(peer) else { return };
        let known = self.shared.peer_mut(slot);
        for family in Family::ALL {
            known.retain(family, Retain::Nothing);
            known.visit(family, Visit { exorcise: true, ..Visit::default() });
        }
    }

    /// ROUTE-REFRESH (RFC 2918): everything of `family` is sent to `peer` again.
    pub fn route_refresh(&mut self, peer: PeerId, family: Family) {
        if let Some(slot) = self.slot(peer) {
            self.shared.resend(&mut self.tables[family as usize], slot);
        }
    }

    /// Applies inbound policy again to what `peer` sent (`clear bgp … soft in`).
    pub fn reimport(&mut self, peer: PeerId, family: Family) {
        if let Some(slot) = self.slot(peer) {
            self.shared.peer_mut(slot).visit(family, Visit { reimport: true, ..Visit::default() });
        }
    }

    /// Changes how this router is configured; what that touches is looked at again in [`work`](Self::work). The hash
    /// seed stays.
    pub fn configure(&mut self, config: RibConfig) {
        let old = std::mem::replace(&mut self.config, config);
        let new = &self.config;
        if old.decision != new.decision {
            self.shared.decision = new.decision;
            self.redecide = [Some(0); Family::COUNT];
            // Shares are no part of what is decided.
            if old.decision.link_bandwidth != self.config.decision.link_bandwidth {
                self.replay_changes();
            }
        }
        let new = &self.config;
        let export =
            |c: &RibConfig| (c.cluster_id(), c.client_to_client_reflection, c.graceful_shutdown, c.reject_as_sets);
        if export(&old) != export(new) {
            Family::ALL.into_iter().for_each(|family| self.resend_to_all(family));
        }
        if old.reject_as_sets != self.config.reject_as_sets {
            self.shared.aggregates.iter_mut().for_each(Aggregates::renew);
        }
        let new = &self.config;
        let import = |c: &RibConfig| {
            let policy = (c.default_local_pref, c.graceful_shutdown, c.reject_as_sets);
            (c.asn, c.router_id, c.cluster_id, c.confederation, policy)
        };
        if import(&old) != import(new) {
            for peer in self.shared.peers.iter_mut().flatten() {
                if peer.kind == SourceKind::Local {
                    peer.router_id = new.router_id.get();
                }
                for family in Family::ALL {
                    peer.visit(family, Visit { reimport: true, ..Visit::default() });
                }
            }
        }
    }

    /// Compares paths by other rules from now on.
    pub fn set_decision(&mut self, decision: DecisionOptions) {
        self.configure(RibConfig { decision, ..self.config.clone() });
    }

    /// After our own restart, before it is known who will be waited for: says nothing to anybody until
    /// [`defer`](Self::defer) has told that and they have spoken, or until `until`. Who speaks meanwhile has spoken.
    pub fn hold(&mut self, until: Instant) {
        self.deferral = Some(Deferral { until, awaited: Awaited::Unknown(BTreeSet::new()) });
    }

    /// After our own restart: says nothing to anybody until each of `awaited` has sent its End-of-RIB and every next hop has
    /// been answered, or `until` (RFC 4724 §4.1). Then comes [`RibEvent::Settled`].
    pub fn defer(&mut self, until: Instant, awaited: impl IntoIterator<Item = (PeerId, FamilySet)>) {
        let spoken = match self.deferral.take() {
            Some(Deferral { awaited: Awaited::Unknown(spoken), .. }) => spoken,
            _ => BTreeSet::new(),
        };
        let each = |(peer, families): (PeerId, FamilySet)| families.iter().map(move |family| (peer, family)).collect();
        let mut awaited: Vec<_> = awaited.into_iter().flat_map::<Vec<_>, _>(each).collect();
        awaited.retain(|(peer, family)| !spoken.contains(&(*peer, None)) && !spoken.contains(&(*peer, Some(*family))));
        self.deferral = Some(Deferral { until, awaited: Awaited::Peers(awaited) });
        self.check_deferral(None);
    }

    /// Whether changes are being held back after our own restart.
    pub fn is_deferring(&self) -> bool {
        self.deferral.is_some()
    }

    pub(super) fn no_longer_awaited(&mut self, peer: PeerId, family: Option<Family>) {
        match &mut self.deferral {
            Some(Deferral { awaited: Awaited::Unknown(spoken), .. }) => {
                spoken.insert((peer, family));
            }
            Some(Deferral { awaited: Awaited::Peers(awaited), .. }) => {
                awaited.retain(|(p, f)| *p != peer || family.is_some_and(|family| family != *f));
                self.check_deferral(None);
            }
            None => {}
        }
    }

    pub(super) fn check_deferral(&mut self, now: Option<Instant>) {
        // A path whose next hop has not been asked about is not chosen, and its route would be taken for stale.
        let resolved = !self.shared.next_hops.has_unanswered();
        let all_spoken = |d: &Deferral| resolved && matches!(&d.awaited, Awaited::Peers(awaited) if awaited.is_empty());
        let over = |d: &Deferral| all_spoken(d) || now.is_some_and(|now| now >= d.until);
        if let Some(deferral) = self.deferral.take_if(|deferral| over(deferral)) {
            let unclaimed = self.unclaimed(&deferral);
            self.events.push_back(RibEvent::Settled(unclaimed));
        }
    }

    fn unclaimed(&self, deferral: &Deferral) -> Unclaimed {
        let silent = |peer: &PeerId| match &deferral.awaited {
            Awaited::Unknown(spoken) => !spoken.iter().any(|(spoke, _)| spoke == peer),
            Awaited::Peers(awaited) => awaited.iter().any(|(silent, _)| silent == peer),
        };
        let peers = self.shared.peers.iter().flatten();
        let protected = peers.filter(|peer| peer.config.protection != Protection::None && !peer.removed);
        let always = protected.clone().any(|peer| peer.config.protection == Protection::Always);
        // Who has no tunnel would have to drop everything for the sake of peers that have none, either.
        let has_tunnels = protected.clone().any(|peer| peer.config.protection != Protection::AsTold);
        let ids = protected.filter(|_| has_tunnels).filter_map(|peer| match peer.source {
            Source::Peer(id) => Some(id),
            Source::Local(_) => None,
        });
        let protected: Vec<PeerId> = ids.collect();
        Unclaimed { silent: protected.iter().copied().filter(silent).collect(), protected, always }
    }

    /// Everything is looked at again for everybody, on the terms of now.
    fn resend_to_all(&mut self, family: Family) {
        let Self { shared, tables, retired, config, .. } = self;
        let table = &mut tables[family as usize];
        for slot in (0..shared.peers.len() as u16).map(Slot) {
            if shared.peers[usize::from(slot.0)].is_some()
                && let Some(left) = shared.regroup(config, table, slot)
            {
                retire(retired, family, left);
            }
        }
        for group in shared.groups[family as usize].iter_mut().flatten() {
            table.live().for_each(|id| group.changed(id));
        }
    }

    /// Starts a new epoch. When the numbers run out, paths of old ones are renamed to the two lowest, once in 65,534
    /// sessions: 0 for what is gone and not visited yet, 1 for what is kept.
    fn next_epoch(&mut self, slot: Slot) {
        let Self { shared, tables, .. } = self;
        let peer = shared.peer_mut(slot);
        peer.epoch += 1;
        if peer.epoch < UNUSED_EPOCH {
            return;
        }
        peer.epoch = 2;
        for family in Family::ALL {
            let state = &mut peer.families[family as usize];
            for id in state.adj_in.iter() {
                let entry = &mut tables[family as usize].table.entries[id as usize];
                for path in entry.paths.iter_mut().filter(|path| path.source == slot && path.epoch < UNUSED_EPOCH) {
                    path.epoch = u16::from(path.epoch >= state.retain_from);
                }
            }
            state.retain_from = 1;
        }
    }
}

/// What was sent to a peer is taken back in the entries by the piece.
pub(super) fn retire(retired: &mut Vec<(Family, IdSet)>, family: Family, left: Left) {
    retired.extend(left.counted.into_iter().filter(|set| !set.is_empty()).map(|set| (family, set)));
}
