//! The per-peer header (RFC 7854 §4.2, RFC 8671 §4, RFC 9069 §4).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::BufMut;
use net_types::{Asn, RouterId};

/// Octets of the header.
pub(crate) const OCTETS: usize = 42;

/// Which routes a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerType {
    /// What a peer announced, before or after import policy.
    AdjRibIn {
        /// After import policy (L flag).
        post_policy: bool,
    },
    /// What a peer is told, before or after export policy (RFC 8671).
    AdjRibOut {
        /// After export policy (L flag).
        post_policy: bool,
    },
    /// What the router itself decided on (RFC 9069).
    LocRib,
}

/// Whom a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Which of its routes.
    pub kind: PeerType,
    /// Its address; of no meaning for Loc-RIB, where zero is written.
    pub address: IpAddr,
    /// Its AS; ours for Loc-RIB.
    pub asn: Asn,
    /// Its BGP identifier, once known; ours for Loc-RIB.
    pub router_id: Option<RouterId>,
    /// AS paths in the message have two octets an AS (A flag).
    pub two_octet_as: bool,
    /// When what is told happened; `None` where that is not known.
    pub at: Option<SystemTime>,
}

const V6: u8 = 0x80;
const POST_POLICY: u8 = 0x40;
const TWO_OCTET_AS: u8 = 0x20;
const ADJ_RIB_OUT: u8 = 0x10;

impl Peer {
    pub(crate) fn emit(&self, out: &mut impl BufMut) {
        let address = if self.kind == PeerType::LocRib { Ipv4Addr::UNSPECIFIED.into() } else { self.address };
        let (code, kind_flags) = match self.kind {
            PeerType::AdjRibIn { post_policy } => (0, if post_policy { POST_POLICY } else { 0 }),
            PeerType::AdjRibOut { post_policy } => (0, ADJ_RIB_OUT | if post_policy { POST_POLICY } else { 0 }),
            PeerType::LocRib => (3, 0), // RFC 9069 §4.2: the F flag says that the view is filtered, which ours is not
        };
        let family = if address.is_ipv6() { V6 } else { 0 };
        let width = if self.two_octet_as { TWO_OCTET_AS } else { 0 };
        out.put_u8(code);
        out.put_u8(if self.kind == PeerType::LocRib { 0 } else { kind_flags | family | width });
        out.put_u64(0); // no VPN, so no distinguisher
        emit_address(address, out);
        out.put_u32(self.asn.get());
        out.put_u32(self.router_id.map_or(0, RouterId::get));
        let since = self.at.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        out.put_u32(u32::try_from(since.as_secs()).unwrap_or(u32::MAX));
        out.put_u32(since.subsec_micros());
    }

    /// Reads the header; `None` when it is of a kind that is not known here, or has no AS.
    pub(crate) fn parse(octets: &[u8; OCTETS]) -> Option<Self> {
        let [code, flags, rest @ ..] = octets;
        let post_policy = flags & POST_POLICY != 0;
        let kind = match code {
            0..=2 if flags & ADJ_RIB_OUT != 0 => PeerType::AdjRibOut { post_policy },
            0..=2 => PeerType::AdjRibIn { post_policy },
            3 => PeerType::LocRib,
            _ => return None,
        };
        let number = |at: usize| rest.get(at..)?.first_chunk().map(|octets| u32::from_be_bytes(*octets));
        let address = parse_address(rest.get(8..)?.first_chunk()?, *code != 3 && flags & V6 != 0);
        let (seconds, micros) = (number(32)?, number(36)?);
        let since = Duration::from_secs(seconds.into()) + Duration::from_micros(micros.into());
        Some(Self {
            kind,
            address,
            asn: number(24)?.try_into().ok()?,
            router_id: number(28)?.try_into().ok(),
            two_octet_as: *code != 3 && flags & TWO_OCTET_AS != 0,
            at: (since != Duration::ZERO).then(|| UNIX_EPOCH + since),
        })
    }
}

/// Sixteen octets; an IPv4 address in the last four (RFC 7854 §4.2).
pub(crate) fn emit_address(address: IpAddr, out: &mut impl BufMut) {
    match address {
        IpAddr::V4(v4) => {
            out.put_bytes(0, 12);
            out.put_slice(&v4.octets());
        }
        IpAddr::V6(v6) => out.put_slice(&v6.octets()),
    }
}

pub(crate) fn parse_address(octets: &[u8; 16], v6: bool) -> IpAddr {
    match octets {
        _ if v6 => Ipv6Addr::from(*octets).into(),
        [.., a, b, c, d] => Ipv4Addr::new(*a, *b, *c, *d).into(),
    }
}
