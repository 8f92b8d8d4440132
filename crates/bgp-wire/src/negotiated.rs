//! What the two OPENs of a session settled, as far as the bytes of later messages depend on it.

use net_types::{Asn, Family};

use crate::{FamilySet, MAX_EXTENDED_OCTETS, MAX_MESSAGE_OCTETS};

/// Whether a peer is in our autonomous system (RFC 4271 §1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerKind {
    /// In our AS: iBGP.
    Internal,
    /// In another member AS of our confederation, which is one AS for everybody outside (RFC 5065 §3).
    Confederation,
    /// In another AS: eBGP.
    External,
}

/// The terms of one session that decide how its messages are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Negotiated {
    /// AS numbers are four octets wide (RFC 6793).
    pub four_octet_as: bool,
    /// The families that both sides carry (RFC 4760 §8).
    pub families: FamilySet,
    /// Messages other than OPEN and KEEPALIVE may take 65535 octets (RFC 8654).
    pub extended_message: bool,
    /// Decides which attributes are expected, and which are discarded (RFC 7606 §7.5, §7.9, §7.10).
    pub peer_kind: PeerKind,
    /// Refuse paths of an external peer whose leftmost AS is another one (RFC 4271 §6.3; off for route servers).
    pub enforce_first_as: Option<Asn>,
    /// The families whose routes may have IPv6 next hops although they are not IPv6 themselves (RFC 8950).
    pub over_ipv6: FamilySet,
    /// The families whose prefixes the peer sends with path identifiers (RFC 7911 §5).
    pub add_path_in: FamilySet,
    /// The families whose prefixes are sent to it with path identifiers.
    pub add_path_out: FamilySet,
    /// Both sides know what [`ExtCommunity::TUNNEL_LOST`](crate::ExtCommunity::TUNNEL_LOST) means.
    pub tunnel_marks: bool,
}

impl Negotiated {
    /// The terms before anything was negotiated: IPv4 unicast with two-octet AS numbers.
    pub fn base(peer_kind: PeerKind) -> Self {
        Self {
            four_octet_as: false,
            families: FamilySet::from(Family::Ipv4Unicast),
            extended_message: false,
            peer_kind,
            enforce_first_as: None,
            over_ipv6: FamilySet::EMPTY,
            add_path_in: FamilySet::EMPTY,
            add_path_out: FamilySet::EMPTY,
            tunnel_marks: false,
        }
    }

    /// The longest UPDATE, NOTIFICATION or ROUTE-REFRESH (RFC 4271 §4.1, RFC 8654 §3).
    pub fn max_message_octets(&self) -> usize {
        if self.extended_message { MAX_EXTENDED_OCTETS } else { MAX_MESSAGE_OCTETS }
    }
}
