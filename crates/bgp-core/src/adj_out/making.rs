//! How a piece comes about: prefixes with the same thing to say of them, put together for each audience.

use hashbrown::HashMap;
use net_types::{Family, Prefix};
use smallvec::SmallVec;

use super::{Audience, Group, OutGroup, Teller, Terms, Withdrawn};
use crate::{
    PeerId,
    policy::{Changes, Sharing},
    rib::{
        Path, PathAttrs, RibConfig, Slot, Source, attrs::AttrId, bandwidth, conditions, state::Shared, table::Entry,
    },
};

/// A path, who tells it, and whom.
type Offer = (AttrId, Teller, Audience);

/// What was worked out for earlier prefixes of the same batch.
#[derive(Default)]
struct Memo {
    /// Whom they are for decides which terms were asked.
    outlines: HashMap<Offer, Option<PathAttrs>, foldhash::fast::FixedState>,
    /// By path, audience and what policy changes: the place in the batch.
    groups: HashMap<Key, usize, foldhash::fast::FixedState>,
    /// The same where there is no policy; nowhere if the path may not be told.
    open: HashMap<Offer, Option<usize>, foldhash::fast::FixedState>,
    /// What was looked up last: neighbors in the table mostly arrived together.
    last: Option<(Offer, Option<usize>)>,
    /// The last attributes asked about, and the member that they name as next hop.
    through: Option<(AttrId, Option<Slot>)>,
    /// The last attributes of which it was asked whether they name a bandwidth, and whether they do.
    named: Option<(AttrId, bool)>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    attrs: AttrId,
    from: Teller,
    audience: Audience,
    changes: Changes,
    sharing: Sharing,
}

/// What is made for one batch.
pub(super) struct Making {
    memo: Memo,
    /// Of the entry that is looked at, where policy asks for it.
    sharing: Sharing,
    /// Whether a path may go out is to be found out, but it is not to be announced.
    pub(super) only_asking: bool,
    pub(super) announced: Vec<(Audience, OutGroup)>,
    pub(super) withdrawn: SmallVec<[(Audience, Withdrawn); 2]>,
}

/// Who `slot` is, if it is a member that is not behind.
pub(super) fn keeping_pace(shared: &Shared, family: Family, group: usize, slot: Slot) -> Option<PeerId> {
    let peer = shared.peers.get(usize::from(slot.0))?.as_ref()?;
    let member = peer.families[family as usize].member.as_ref()?;
    match peer.source {
        Source::Peer(id) if member.group == group && member.behind.is_none() => Some(id),
        _ => None,
    }
}

/// What matters of the paths of an entry that share packets, if `named` says that they name bandwidths or policy asks.
pub(super) fn sharing(shared: &Shared, terms: &Terms, entry: &Entry, named: impl FnOnce(AttrId) -> bool) -> Sharing {
    let asks = terms.policy.concerns_sharing();
    let best = entry.best().and_then(|path| path.effective).filter(|_| entry.sharing().len() > 1);
    if !asks && !best.is_some_and(named) {
        return Sharing::default();
    }
    let found = bandwidth::sharing(shared, entry);
    if asks || found.weighted { found } else { Sharing::default() }
}

impl Making {
    pub(super) fn new() -> Self {
        let (memo, sharing) = Default::default();
        Self { memo, sharing, only_asking: false, announced: Vec::new(), withdrawn: SmallVec::new() }
    }

    /// Looks at an entry's paths that share packets.
    pub(super) fn share(&mut self, shared: &Shared, terms: &Terms, entry: &Entry) {
        let memo = &mut self.memo.named;
        self.sharing = sharing(shared, terms, entry, |best| match *memo {
            Some((asked, named)) if asked == best => named,
            _ => {
                let named = bandwidth::of(&shared.attrs.attrs(best)).is_some();
                *memo = Some((best, named));
                named
            }
        });
    }

    pub(super) fn withdraw(&mut self, audience: Audience, prefix: Prefix, id: Option<u32>) {
        let at = self.withdrawn.iter().position(|(other, _)| *other == audience).unwrap_or_else(|| {
            self.withdrawn.push((audience, Withdrawn::default()));
            self.withdrawn.len() - 1
        });
        let (_, withdrawn) = &mut self.withdrawn[at];
        withdrawn.prefixes.push(prefix);
        withdrawn.ids.extend(id);
    }

    /// Announces `path` to the members of a group that are `ready`. Whether it may go out at all.
    pub(super) fn announce(
        &mut self,
        own: &RibConfig,
        shared: &Shared,
        (group, index): (&Group, usize),
        prefix: &Prefix,
        path: &Path,
    ) -> bool {
        let Some(attrs) = path.effective else { return false };
        let member = |slot: Slot| keeping_pace(shared, prefix.family(), index, slot);
        let hidden = (!group.terms.echo).then_some(path.source);
        let source = hidden.and_then(member);
        // Nobody is told to use himself as next hop: that member gets ours (RFC 4271 §5.1.3).
        let through = match self.memo.through {
            Some((asked, through)) if asked == attrs => through,
            _ => group.by_address.get(&shared.attrs.next_hop(attrs).address()).copied(),
        };
        self.memo.through = Some((attrs, through));
        if let Some(slot) = through.filter(|slot| Some(*slot) != hidden)
            && let Some(id) = member(slot)
        {
            let peer = shared.peer(slot);
            let Some(up) = &peer.up else { return false };
            let terms = Terms::of(own, peer, up, prefix.family());
            self.place(shared, &terms, prefix, path, Audience::Only(id), None);
            return self
                .place(shared, &group.terms, prefix, path, Audience::Except([source, Some(id)]), None)
                .is_some();
        }
        self.place(shared, &group.terms, prefix, path, Audience::Except([source, None]), None).is_some()
    }

    /// Announces `path` to `whose`, a member of a group, in the place of its own. Whether it may go out at all; nobody
    /// gets it if that member is not ready.
    pub(super) fn announce_to(
        &mut self,
        own: &RibConfig,
        shared: &Shared,
        group: &Group,
        whose: Slot,
        prefix: &Prefix,
        path: &Path,
    ) -> bool {
        let peer = shared.peer(whose);
        let (Some(attrs), Some(up), Source::Peer(id)) = (path.effective, &peer.up, peer.source) else { return false };
        let only = Audience::Only(id);
        if shared.attrs.next_hop(attrs).address() == peer.config.address {
            let terms = Terms::of(own, peer, up, prefix.family()); // it is told ours as next hop, as above
            return self.place(shared, &terms, prefix, path, only, None).is_some();
        }
        self.place(shared, &group.terms, prefix, path, only, None).is_some()
    }

    /// Puts `prefix` where it belongs for `path`, unless it may not go out; `name` is the path's identifier.
    pub(super) fn place(
        &mut self,
        shared: &Shared,
        terms: &Terms,
        prefix: &Prefix,
        path: &Path,
        audience: Audience,
        name: Option<u32>,
    ) -> Option<()> {
        let Self { memo, announced, sharing, only_asking, .. } = self;
        let (attrs, from) = (path.effective?, Teller::of(shared, path, terms.family));
        let by_itself = if path.source == conditions::default_slot() {
            Some(terms.default_route(from, shared.attrs.attrs(attrs))?)
        } else if terms.is_withheld(shared, prefix, attrs) {
            return None;
        } else if terms.is_suppressed(shared, prefix, attrs) {
            Some(terms.unsuppressed(from, prefix, shared.attrs.attrs(attrs))?)
        } else {
            terms.advertised(shared, from, prefix, attrs)
        };
        if let Some(attrs) = by_itself {
            let mut group = OutGroup::new(attrs);
            group.push(shared, prefix, path, name);
            if !*only_asking {
                announced.push((audience, group));
            }
            return Some(());
        }
        let offer = (attrs, from, audience);
        if *only_asking {
            let outline = memo.outlines.entry(offer);
            let outline = outline.or_insert_with(|| terms.outline(from, shared.attrs.attrs(attrs))).as_ref()?;
            return terms.permits(prefix, outline, &shared.roas).map(|_| ());
        }
        let mut add = |finished: PathAttrs| {
            announced.push((audience, OutGroup::new(finished)));
            announced.len() - 1
        };
        let open = terms.policy.is_open() && *sharing == Sharing::default();
        let place = if open {
            // Whatever the prefix is, what is said of it is the same.
            match memo.last {
                Some((last, place)) if last == offer => place,
                _ => *memo.open.entry(offer).or_insert_with(|| {
                    let outline = terms.outline(from, shared.attrs.attrs(attrs))?;
                    Some(add(terms.finish(from.kind, outline, &Changes::default(), *sharing)))
                }),
            }
        } else {
            let outline = memo.outlines.entry(offer);
            let outline = outline.or_insert_with(|| terms.outline(from, shared.attrs.attrs(attrs))).as_ref()?;
            let changes = terms.permits(prefix, outline, &shared.roas)?;
            let key = Key { attrs, from, audience, changes, sharing: *sharing };
            let finished = |key: &Key| terms.finish(from.kind, outline.clone(), &key.changes, key.sharing);
            Some(*memo.groups.entry(key).or_insert_with_key(|key| add(finished(key))))
        };
        if open {
            memo.last = Some((offer, place));
        }
        announced[place?].1.push(shared, prefix, path, name);
        Some(())
    }
}
