//! Announcements that depend on what else is in the table: `advertise-map … exist-map|non-exist-map`, and a default route
//! that is only told while some route passes a route-map.
//!
//! For each condition that somebody asks about, the entries with a path that meets it are noted when their paths change. So
//! nothing is ever scanned for, but once when a condition is new; and peers are looked at only when the first entry comes
//! or the last one goes. As in FRR it is enough that a path is in the table: it need not be the best, nor its next hop be
//! reachable.

use bgp_wire::{Attributes, Origin};
use net_types::{Family, Prefix};

use super::{
    IdSet, Install, PathAttrs, Rib, Slot,
    local::ourselves,
    peer::{LocalSource, Peer, Standing},
    state::Shared,
    table::{Entry, Path},
};
use crate::policy::{Changes, Policy};

/// `advertise-map`: what is announced to a peer only under a condition.
#[derive(Clone, Debug, PartialEq)]
pub struct ConditionalAdvertisement {
    /// The routes that it is about; all others are announced as ever.
    pub routes: Policy,
    /// Whether something must pass `condition`, or nothing.
    pub wanted: Existence,
    /// What is asked of every path.
    pub condition: Policy,
}

/// Whether something must exist, or must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existence {
    /// `exist-map`
    Exists,
    /// `non-exist-map`
    Missing,
}

/// `default-originate`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DefaultOriginate {
    /// Something must pass this; what it would change about that route is changed about the default route. Without, it is
    /// always told.
    pub condition: Option<Policy>,
}

/// A condition, and which entries meet it.
#[derive(Debug)]
pub(crate) struct Condition {
    policy: Policy,
    meeting: IdSet,
    /// One of them, and what the policy would change about it; unknown once that one has gone.
    example: Option<(u32, Changes)>,
    /// The first came, the last went, or the example did, since peers were told.
    flipped: bool,
}

impl Condition {
    fn note(&mut self, id: u32, meets: Option<Changes>) {
        if meets.is_some() {
            self.meeting.insert(id);
        } else if !self.meeting.remove(id) {
            return;
        }
        let is_example = self.example.as_ref().is_none_or(|(example, _)| *example == id);
        let example = meets.map(|changes| (id, changes));
        if is_example && self.example != example {
            self.example = example;
            self.flipped = true;
        }
    }
}

/// The slot of the default route that some peers are told.
pub(crate) fn default_slot() -> Slot {
    LocalSource::Default.slot()
}

/// The prefix of the default route; in no VPN there is one that is nobody's.
fn default_prefix(family: Family) -> Option<Prefix> {
    match family {
        Family::Ipv4Unicast => Some(Prefix::DEFAULT_V4),
        Family::Ipv6Unicast => Some(Prefix::DEFAULT_V6),
        Family::Ipv4Vpn | Family::Ipv6Vpn => None,
    }
}

/// The path that a peer with these terms is told, before policy: the best, or the default route made for it.
pub(crate) fn told(entry: &Entry, prefix: &Prefix, wants_default: bool) -> Option<Path> {
    if wants_default && prefix.bits() == 0 {
        return entry.position(default_slot(), 0).and_then(|at| entry.paths.get(at)).copied();
    }
    entry.best().copied()
}

/// Conditions that the configuration of `peer` asks about.
fn asked(peer: &Peer, family: Family) -> impl Iterator<Item = &Policy> {
    let config = &peer.config.families[family as usize];
    let default = config.default_originate.as_ref().and_then(|default| default.condition.as_ref());
    default.into_iter().chain(config.advertise.as_ref().map(|advertise| &advertise.condition))
}

impl Shared {
    /// The paths of an entry changed: notes which conditions it meets now.
    pub(super) fn note_conditions(&mut self, family: Family, prefix: &Prefix, id: u32, entry: &Entry) {
        let mut conditions = std::mem::take(&mut self.conditions[family as usize]);
        for condition in &mut conditions {
            let meets = self.meets(family, &condition.policy, prefix, entry);
            condition.note(id, meets);
        }
        self.conditions[family as usize] = conditions;
    }

    /// What `policy` would change about the first path of an entry that it permits, if it permits any.
    fn meets(&self, family: Family, policy: &Policy, prefix: &Prefix, entry: &Entry) -> Option<Changes> {
        entry.paths.iter().filter(|path| path.source != default_slot()).find_map(|path| {
            match self.standing(family, path) {
                Standing::Fresh | Standing::Stale => policy.verdict(prefix, &self.attrs.attrs(path.effective?), None),
                Standing::Ghost | Standing::Gone => None,
            }
        })
    }

    /// What `policy`, which somebody asks about, would change about an example of what meets it; `None` if nothing does.
    fn example(&self, family: Family, policy: &Policy) -> Option<&Changes> {
        let condition = self.conditions[family as usize].iter().find(|condition| condition.policy == *policy)?;
        condition.example.as_ref().map(|(_, changes)| changes)
    }

    /// What `slot` is told beyond the table, and what it is not told of it, as things are.
    fn judge_conditions(&mut self, family: Family, slot: Slot) {
        let config = &self.peer(slot).config.families[family as usize];
        let default = config.default_originate.as_ref().and_then(|default| match &default.condition {
            Some(map) => Some((map.clone(), self.example(family, map)?.clone())),
            None => Some(Default::default()),
        });
        let withheld = config.advertise.as_ref().filter(|advertise| {
            self.example(family, &advertise.condition).is_some() != (advertise.wanted == Existence::Exists)
        });
        let withheld = withheld.map(|advertise| advertise.routes.clone());
        let state = &mut self.peer_mut(slot).families[family as usize];
        (state.default_route, state.withheld) = (default, withheld);
    }
}

impl Rib {
    /// A peer's configuration changed: conditions that are new are looked for, those that nobody asks about are forgotten.
    pub(super) fn renew_conditions(&mut self, family: Family, slot: Slot) {
        let Self { shared, tables, .. } = self;
        let table = &tables[family as usize].table;
        let peers = shared.peers.iter().flatten();
        let mut wanted: Vec<Policy> = Vec::new();
        for policy in peers.flat_map(|peer| asked(peer, family)) {
            if !wanted.contains(policy) {
                wanted.push(policy.clone());
            }
        }
        let mut known = std::mem::take(&mut shared.conditions[family as usize]);
        known.retain(|condition| wanted.contains(&condition.policy));
        for policy in wanted {
            if known.iter().any(|condition| condition.policy == policy) {
                continue;
            }
            let mut condition = Condition { policy, meeting: IdSet::default(), example: None, flipped: false };
            for (id, entry) in table.entries.iter().enumerate().filter(|(_, entry)| entry.live) {
                let id = id as u32;
                condition.note(id, shared.meets(family, &condition.policy, &table.prefix(id), entry));
            }
            condition.flipped = false; // whoever asks is judged by it at once
            known.push(condition);
        }
        shared.conditions[family as usize] = known;
        shared.judge_conditions(family, slot);
    }

    /// There is a default route to tell while some peer is configured for one.
    pub(super) fn renew_default(&mut self, family: Family) {
        let mut configs = self.shared.peers.iter().flatten().map(|peer| &peer.config.families[family as usize]);
        let wanted = configs.any(|config| config.default_originate.is_some());
        let Some(prefix) = default_prefix(family) else { return };
        if wanted {
            let attributes = Attributes { origin: Origin::Igp, ..Attributes::default() };
            let (next_hop, install) = (ourselves(family), Install::default());
            let attrs = PathAttrs { attributes, next_hop, scope: 0, weight: 0, install };
            self.originate_as(self.origin, LocalSource::Default, prefix, attrs); // its age means nothing
        } else {
            self.retract(LocalSource::Default, &prefix);
        }
    }

    pub(super) fn has_conditions_to_tell(&self) -> bool {
        self.shared.conditions.iter().flatten().any(|condition| condition.flipped)
    }

    /// Tells the peers of one condition that is met now, or is not any more; `false` when there is none.
    pub(super) fn condition_next(&mut self, family: Family) -> bool {
        let Self { shared, tables, config: own, .. } = self;
        let conditions = &shared.conditions[family as usize];
        let Some(at) = conditions.iter().position(|condition| condition.flipped) else { return false };
        let Condition { policy, meeting, example, .. } = &conditions[at];
        let policy = policy.clone();
        let another = || {
            let id = meeting.next_from(0)?;
            let table = &tables[family as usize].table;
            Some((id, shared.meets(family, &policy, &table.prefix(id), &table.entries[id as usize])?))
        };
        let example = example.clone().or_else(another);
        let condition = &mut shared.conditions[family as usize][at];
        (condition.example, condition.flipped) = (example, false);
        let mut told_otherwise = Vec::new();
        for slot in (0..shared.peers.len() as u16).map(Slot) {
            let Some(peer) = &shared.peers[usize::from(slot.0)] else { continue };
            if asked(peer, family).any(|asked| *asked == policy) {
                shared.judge_conditions(family, slot);
                told_otherwise.push(slot);
            }
        }
        // All members of a group depend on the same conditions, so its terms change for all of them at once.
        for slot in told_otherwise {
            let Some(terms) = shared.key(own, slot, family).map(|key| key.terms) else { continue };
            let Some(index) = shared.peer(slot).families[family as usize].member.as_ref().map(|member| member.group)
            else {
                continue;
            };
            if let Some(group) = &mut shared.groups[family as usize][index]
                && group.terms != terms
            {
                group.terms = terms;
                tables[family as usize].live().for_each(|id| group.doubt(id));
                if let Some(id) = default_prefix(family).and_then(|prefix| tables[family as usize].table.find(&prefix))
                {
                    group.changed(id); // it may say something else than before
                }
            }
        }
        true
    }
}
