//! UPDATE (RFC 4271 §4.3): routes withdrawn and announced, of both families in one value.

mod emit;
mod parse;
mod remedy;

use net_types::{Family, Prefix};
use smallvec::SmallVec;

pub use emit::{Announcements, EmitError, Withdrawals, emit_end_of_rib};
pub(crate) use parse::parse;
pub use remedy::{AttrError, Remedy, Survived, UpdateError};

use crate::{Attributes, Labels, NextHop};

/// What an UPDATE says.
///
/// Withdrawals come first: a prefix that is also announced is announced (RFC 4271 §4.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Prefixes that the peer no longer reaches, and those that RFC 7606 has us treat so.
    pub withdrawn: Vec<Prefix>,
    /// Prefixes that it reaches.
    pub reach: Option<Reach>,
    /// The UPDATE is the End-of-RIB marker of a family (RFC 4724 §2).
    pub end_of_rib: Option<Family>,
    /// The identifiers of the paths above, where any came with one (RFC 7911 §3), and the labels of VPNs.
    pub path_ids: Option<Box<PathIds>>,
}

/// What stands beside the prefixes of an [`Update`]: identifiers, and the labels of VPNs. Each list is empty, where that
/// part came without, or as long as the list of prefixes that it stands for; in one that was put together of both kinds,
/// the identifier 0 is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathIds {
    /// Of what is withdrawn.
    pub withdrawn: Vec<u32>,
    /// Of each [`Announcement`], in order.
    pub announced: SmallVec<[Vec<u32>; 1]>,
    /// Of each [`Announcement`], in order, the labels of its prefixes (RFC 8277 §2).
    pub labels: SmallVec<[Vec<Labels>; 1]>,
}

impl Update {
    /// The identifiers of what is withdrawn; empty if it has none.
    pub fn withdrawn_ids(&self) -> &[u32] {
        self.path_ids.as_ref().map_or(&[], |ids| &ids.withdrawn)
    }

    /// The identifiers of the announcement numbered `at`; empty if it has none.
    pub fn announced_ids(&self, at: usize) -> &[u32] {
        self.path_ids.as_ref().and_then(|ids| ids.announced.get(at)).map_or(&[], Vec::as_slice)
    }

    /// The labels of the prefixes of the announcement numbered `at`; empty if it has none.
    pub fn announced_labels(&self, at: usize) -> &[Labels] {
        self.path_ids.as_ref().and_then(|ids| ids.labels.get(at)).map_or(&[], Vec::as_slice)
    }
}

/// Prefixes that share attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// What they share.
    pub attributes: Attributes,
    /// One for each next hop, so almost always one.
    pub announced: SmallVec<[Announcement; 1]>,
}

/// Prefixes of one family with one next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Their family.
    pub family: Family,
    /// Their next hop.
    pub next_hop: NextHop,
    /// The prefixes; never empty.
    pub prefixes: Vec<Prefix>,
}
