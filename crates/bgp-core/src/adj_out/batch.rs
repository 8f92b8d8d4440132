//! What is handed over: pieces of what peers are owed.

use std::sync::Arc;

use bgp_wire::Labels;
use net_types::{Family, Prefix};

use crate::{
    PeerId,
    rib::{LocalSource, Path, PathAttrs, state::Shared},
};

/// Prefixes that share everything but themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct OutGroup {
    /// Attributes and next hop as they go out.
    pub attrs: Arc<PathAttrs>,
    /// The prefixes.
    pub prefixes: Vec<Prefix>,
    /// The paths' identifiers, for a peer that takes several for a prefix (RFC 7911 §3); otherwise empty.
    pub ids: Vec<u32>,
    /// The labels of prefixes of VPNs, one for each (RFC 8277 §2); otherwise empty.
    pub labels: Vec<Labels>,
}

impl OutGroup {
    /// A group of nobody yet.
    pub(super) fn new(attrs: PathAttrs) -> Self {
        Self { attrs: Arc::new(attrs), prefixes: Vec::new(), ids: Vec::new(), labels: Vec::new() }
    }

    /// Puts a path in; `name` is its identifier.
    pub(super) fn push(&mut self, shared: &Shared, prefix: &Prefix, path: &Path, name: Option<u32>) {
        self.prefixes.push(*prefix);
        self.ids.extend(name);
        if prefix.rd().is_some() {
            // RFC 8277 §3.2.1: labels are those of whoever is the next hop; in our own name packets come without any.
            let ours = path.source == LocalSource::Vrf.slot();
            let kept = path.effective.map(|attrs| shared.attrs.next_hop(attrs).address())
                == Some(self.attrs.next_hop.address());
            self.labels.push(if ours || kept { shared.labels(prefix, path) } else { Labels::new() });
        }
    }
}

/// Prefixes, or single paths of them, that are no longer reachable through us.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Withdrawn {
    /// The prefixes.
    pub prefixes: Vec<Prefix>,
    /// As in [`OutGroup`].
    pub ids: Vec<u32>,
}

/// A piece of what a peer is owed, in the order to send it.
#[derive(Clone, Debug, PartialEq)]
pub struct OutBatch {
    /// All of it belongs to this family.
    pub family: Family,
    /// No longer reachable through us.
    pub withdrawn: Vec<Prefix>,
    /// The paths' identifiers beside them, as in [`OutGroup`].
    pub withdrawn_ids: Vec<u32>,
    /// Reachable through us.
    pub announced: Vec<OutGroup>,
    /// After that, End-of-RIB (RFC 4724 §2).
    pub end_of_rib: bool,
}

/// Whom of a group a part of a batch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Audience {
    /// Everybody but these: who announced it, unless it is echoed, and who is the next hop.
    Except([Option<PeerId>; 2]),
    /// This one alone.
    Only(PeerId),
}

impl Audience {
    /// Whether it is for `peer`.
    pub fn includes(&self, peer: PeerId) -> bool {
        match self {
            Self::Except(others) => !others.contains(&Some(peer)),
            Self::Only(one) => *one == peer,
        }
    }
}

/// A piece of what a group of peers is owed. Made once; each member takes the parts that are for it.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupBatch {
    /// All of it belongs to this family.
    pub family: Family,
    /// Who is to get it. Members that have fallen behind are not among them.
    pub members: Vec<PeerId>,
    /// Reachable through us. A prefix occurs once for each member.
    pub announced: Vec<(Audience, OutGroup)>,
    /// No longer reachable through us.
    pub withdrawn: Vec<(Audience, Withdrawn)>,
    /// To whom End-of-RIB goes after that (RFC 4724 §2).
    pub end_of_rib: Vec<PeerId>,
}

impl GroupBatch {
    /// What `peer` gets; nothing if it is none of the members.
    pub fn of(&self, peer: PeerId) -> OutBatch {
        let concerned = |audience: &Audience| self.members.contains(&peer) && audience.includes(peer);
        let withdrawn = self.withdrawn.iter().filter(|(audience, _)| concerned(audience));
        let announced = self.announced.iter().filter(|(audience, _)| concerned(audience));
        OutBatch {
            family: self.family,
            withdrawn: withdrawn.clone().flat_map(|(_, withdrawn)| withdrawn.prefixes.iter().copied()).collect(),
            withdrawn_ids: withdrawn.flat_map(|(_, withdrawn)| withdrawn.ids.iter().copied()).collect(),
            announced: announced.map(|(_, group)| group.clone()).collect(),
            end_of_rib: self.end_of_rib.contains(&peer),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.announced.is_empty() && self.withdrawn.is_empty() && self.end_of_rib.is_empty()
    }
}

/// Whether a member takes more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It does.
    Ready,
    /// Not now; the group waits for it.
    Full,
    /// Not for so long that others are not to wait for it.
    Stuck,
}

/// What came of asking a group for more.
#[derive(Clone, Debug, PartialEq)]
pub enum Polled {
    /// Every member that is not behind is up to date.
    Nothing,
    /// There is more, and a member to wait for.
    Blocked,
    /// More; it may concern nobody.
    Batch(GroupBatch),
}
