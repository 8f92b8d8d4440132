//! MRT files, octets to records and back (RFC 6396, with the add-path subtypes of RFC 8050). No I/O.
//!
//! Attributes stay octets: [`Entry::to_update`] makes of a table entry the UPDATE that it would have come in, and
//! [`entry_attributes`] the other way round, so that one parser reads routes wherever they come from.

mod attributes;
mod emit;
mod parse;
mod record;

pub use attributes::entry_attributes;
pub use parse::{FrameError, ParseError, frame_length};
pub use record::{Body, Entry, Peer, PeerIndex, Record, Rib, Session, TableDump};

/// Octets of the common header (RFC 6396 §2).
pub(crate) const HEADER: usize = 12;
/// TABLE_DUMP (§4.2).
pub(crate) const TABLE_DUMP: u16 = 12;
/// TABLE_DUMP_V2 (§4.3).
pub(crate) const TABLE_DUMP_V2: u16 = 13;
/// BGP4MP (§4.4).
pub(crate) const BGP4MP: u16 = 16;
/// BGP4MP_ET: the same with microseconds (§3).
pub(crate) const BGP4MP_ET: u16 = 17;
