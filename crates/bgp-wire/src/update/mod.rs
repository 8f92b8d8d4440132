//! UPDATE (RFC 4271 §4.3): routes withdrawn and announced, of both families in one value.

mod emit;
mod parse;
mod remedy;

use net_types::{Family, Prefix};
use smallvec::SmallVec;

pub use emit::{Announcements, EmitError, Withdrawals, emit_end_of_rib};
pub(crate) use parse::parse;
pub use remedy::{AttrError, Remedy, Survived, UpdateError};

use crate::{Attributes, NextHop};

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
