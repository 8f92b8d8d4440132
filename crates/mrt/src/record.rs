//! What stands in a file.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::SystemTime,
};

use bytes::Bytes;
use net_types::{Asn, Family, Prefix};

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When; in whole seconds where the record has no more.
    pub at: SystemTime,
    /// What.
    pub body: Body,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A route of a table, with its peer (TABLE_DUMP, RFC 6396 §4.2).
    TableDump(TableDump),
    /// The peers that entries refer to by their place (§4.3.1).
    PeerIndex(PeerIndex),
    /// A prefix and its routes (§4.3.2).
    Rib(Rib),
    /// A session went from one state to another, by their numbers (§4.4.1).
    StateChange {
        /// Whose.
        session: Session,
        /// 1 Idle to 6 Established.
        from: u16,
        /// The same.
        to: u16,
    },
    /// A BGP message (§4.4.2, §4.4.3).
    Message {
        /// Whose.
        session: Session,
        /// AS paths in it have four octets an AS.
        four_octet_as: bool,
        /// Its prefixes have path identifiers (RFC 8050 §4).
        add_path: bool,
        /// We sent it (the LOCAL subtypes).
        sent: bool,
        /// The whole message.
        message: Bytes,
    },
    /// Of a type that is not looked at.
    Other {
        /// Type.
        kind: u16,
        /// Subtype.
        subtype: u16,
    },
}

/// A route of a TABLE_DUMP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDump {
    /// Which of several views.
    pub view: u16,
    /// Counts up, and wraps.
    pub sequence: u16,
    /// Of what.
    pub prefix: Prefix,
    /// Who announced it.
    pub peer_address: IpAddr,
    /// Its AS; 0 is none.
    pub peer_asn: Option<Asn>,
    /// The route itself; AS paths have two octets an AS.
    pub entry: Entry,
}

/// A route, without its prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Place of its peer in the index; 0 in a TABLE_DUMP.
    pub peer: u16,
    /// When it came.
    pub originated: SystemTime,
    /// Path identifier (RFC 8050 §4.1).
    pub path_id: Option<u32>,
    /// Path attributes as on the wire, with MP_REACH_NLRI cut down to the next hop (RFC 6396 §4.3.4).
    pub attributes: Bytes,
}

/// The peers of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIndex {
    /// BGP identifier of the collector.
    pub collector: Ipv4Addr,
    /// Name of the view; may be empty.
    pub view: String,
    /// The peers.
    pub peers: Vec<Peer>,
}

/// A peer of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// BGP identifier; 0.0.0.0 where it is not known.
    pub router_id: Ipv4Addr,
    /// Address.
    pub address: IpAddr,
    /// AS; 0 is none.
    pub asn: Option<Asn>,
}

/// A prefix and its routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rib {
    /// Counts up.
    pub sequence: u32,
    /// Its family.
    pub family: Family,
    /// The prefix.
    pub prefix: Prefix,
    /// Entries have path identifiers.
    pub add_path: bool,
    /// The routes; AS paths have four octets an AS.
    pub entries: Vec<Entry>,
}

/// A session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The peer's AS; 0 is none.
    pub peer_asn: Option<Asn>,
    /// The collector's.
    pub local_asn: Option<Asn>,
    /// The interface, or 0.
    pub ifindex: u16,
    /// The peer's address.
    pub peer: IpAddr,
    /// The collector's, of the same family.
    pub local: IpAddr,
}
