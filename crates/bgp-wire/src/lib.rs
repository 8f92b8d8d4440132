//! BGP-4 messages, path attributes and capabilities: bytes to values and back (RFC 4271 and what extends it).
//!
//! One file for each thing on the wire, with its parser beside its emitter and its error. No I/O, no clock, no state:
//! what a session settled in its OPENs travels as an argument, [`Negotiated`]. Whatever a peer sends ends in a value,
//! a list of survived mistakes with their remedies (RFC 7606), or a [`MessageError`] that knows its NOTIFICATION.

pub mod attr;
pub mod capability;
mod cursor;
mod families;
mod header;
mod label;
mod message;
mod negotiated;
mod next_hop;
mod nlri;
pub mod notification;
mod open;
mod prefix_filter;
mod route_refresh;
pub mod update;

pub use attr::{
    Aggregator, AsPath, Asns, AttrCode, AttrFlags, Attributes, ClusterId, Community, ExtCommunity, LargeCommunity,
    Origin, Partial, RawAttr, Segment, SegmentKind, SubTlv, Tunnel, TunnelEncap, TunnelEncapError,
};
pub use capability::{
    AddPath, Capability, CapabilityError, ExtendedNextHop, Fqdn, GracefulRestart, GracefulRestartFamily,
    LongLivedFamily, MAX_LONG_LIVED_SECONDS, OutboundFilters, Role,
};
pub use families::FamilySet;
pub use header::{HEADER_OCTETS, HeaderError, MAX_EXTENDED_OCTETS, MAX_MESSAGE_OCTETS, MessageType, frame_length};
pub use label::{Label, LabelError, Labels};
pub use message::{Message, MessageError, Parsed, keepalive};
pub use negotiated::{Negotiated, PeerKind};
pub use next_hop::NextHop;
pub use nlri::{LabelledPath, Nlri, NlriError};
pub use notification::{Notification, NotificationError};
pub use open::{Open, OpenError};
pub use prefix_filter::{FilterChange, PrefixFilter, PrefixFilters};
pub use route_refresh::{RefreshKind, RouteRefresh, RouteRefreshError};
pub use update::{
    Announcement, Announcements, AttrError, EmitError, PathIds, Reach, Remedy, Survived, Update, UpdateError,
    Withdrawals, emit_end_of_rib,
};
