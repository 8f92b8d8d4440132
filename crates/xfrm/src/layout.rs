//! The structures of linux/xfrm.h, with their padding spelled out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    byteorder::network_endian::{U16, U32},
};

pub(crate) const AF_UNSPEC: u16 = 0;
pub(crate) const AF_INET: u16 = 2;
pub(crate) const AF_INET6: u16 = 10;
pub(crate) const IPPROTO_ESP: u8 = 50;

/// `XFRM_MSG_*`
pub(crate) mod kind {
    pub(crate) const NEW_SA: u16 = 0x10;
    pub(crate) const DELETE_SA: u16 = 0x11;
    pub(crate) const GET_SA: u16 = 0x12;
    pub(crate) const NEW_POLICY: u16 = 0x13;
    pub(crate) const DELETE_POLICY: u16 = 0x14;
    pub(crate) const GET_POLICY: u16 = 0x15;
    pub(crate) const EXPIRE: u16 = 0x18;
    pub(crate) const UPDATE_POLICY: u16 = 0x19;
    pub(crate) const UPDATE_SA: u16 = 0x1a;
    pub(crate) const FLUSH_SA: u16 = 0x1c;
    pub(crate) const MAPPING: u16 = 0x26;
}

/// `XFRMA_*`
pub(crate) mod attribute {
    pub(crate) const ALG_CRYPT: u16 = 2;
    pub(crate) const ENCAP: u16 = 4;
    pub(crate) const TMPL: u16 = 5;
    pub(crate) const LASTUSED: u16 = 15;
    pub(crate) const ALG_AEAD: u16 = 18;
    pub(crate) const ALG_AUTH_TRUNC: u16 = 20;
    pub(crate) const REPLAY_ESN_VAL: u16 = 23;
    pub(crate) const SA_EXTRA_FLAGS: u16 = 24;
    pub(crate) const OFFLOAD_DEV: u16 = 28;
    pub(crate) const SET_MARK: u16 = 29;
    pub(crate) const SET_MARK_MASK: u16 = 30;
    pub(crate) const IF_ID: u16 = 31;
    pub(crate) const MTIMER_THRESH: u16 = 32;
    pub(crate) const SA_DIR: u16 = 33;
}

/// `XFRM_MODE_*`
pub(crate) const MODE_TRANSPORT: u8 = 0;
pub(crate) const MODE_TUNNEL: u8 = 1;
/// `UDP_ENCAP_ESPINUDP` (RFC 3948).
pub(crate) const ESP_IN_UDP: u16 = 2;

/// `xfrm_address_t`: in network order, IPv4 in the first four octets.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Address(pub(crate) [u32; 4]);

impl Address {
    pub(crate) fn new(address: IpAddr) -> Self {
        let mut octets = [0; 16];
        match address {
            IpAddr::V4(v4) => octets[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => octets = v6.octets(),
        }
        Self(zerocopy::transmute!(octets))
    }

    /// In that family; `None` for one that is no IP.
    pub(crate) fn get(self, family: u16) -> Option<IpAddr> {
        let octets: [u8; 16] = zerocopy::transmute!(self.0);
        match family {
            AF_INET => Some(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into()),
            AF_INET6 => Some(Ipv6Addr::from(octets).into()),
            _ => None,
        }
    }
}

pub(crate) fn family_of(address: IpAddr) -> u16 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

#[derive(Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct RawId {
    pub(crate) destination: Address,
    pub(crate) spi: U32,
    pub(crate) protocol: u8,
    pub(crate) pad: [u8; 3],
}

#[derive(Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct RawSelector {
    pub(crate) destination: Address,
    pub(crate) source: Address,
    pub(crate) destination_port: U16,
    pub(crate) destination_port_mask: U16,
    pub(crate) source_port: U16,
    pub(crate) source_port_mask: U16,
    pub(crate) family: u16,
    pub(crate) destination_bits: u8,
    pub(crate) source_bits: u8,
    pub(crate) protocol: u8,
    pub(crate) pad: [u8; 3],
    pub(crate) ifindex: i32,
    pub(crate) user: u32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct RawLimits {
    pub(crate) soft_octets: u64,
    pub(crate) hard_octets: u64,
    pub(crate) soft_packets: u64,
    pub(crate) hard_packets: u64,
    /// Ages, each "none" when zero.
    pub(crate) seconds: [u64; 4],
}

/// `XFRM_INF`
const NO_LIMIT: u64 = u64::MAX;

impl Default for RawLimits {
    fn default() -> Self {
        let none = NO_LIMIT;
        Self { soft_octets: none, hard_octets: none, soft_packets: none, hard_packets: none, seconds: [0; 4] }
    }
}

#[derive(Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct RawCurrent {
    pub(crate) octets: u64,
    pub(crate) packets: u64,
    pub(crate) added: u64,
    pub(crate) used: u64,
}

/// `struct xfrm_usersa_info`
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct RawSa {
    pub(crate) selector: RawSelector,
    pub(crate) id: RawId,
    pub(crate) source: Address,
    pub(crate) limits: RawLimits,
    pub(crate) current: RawCurrent,
    pub(crate) outside_window: u32,
    pub(crate) replayed: u32,
    pub(crate) forged: u32,
    pub(crate) sequence: u32,
    pub(crate) reqid: u32,
    pub(crate) family: u16,
    pub(crate) mode: u8,
    pub(crate) replay_window: u8,
    pub(crate) flags: u8,
    pub(crate) pad: [u8; 7],
}

/// Flags of [`RawSa`] (`XFRM_STATE_*`).
pub(crate) mod sa_flag {
    /// The inner family is not bound to that of the selector: IPv6 in IPv4 and back.
    pub(crate) const AF_UNSPEC: u8 = 32;
    pub(crate) const ESN: u8 = 128;
    /// ECN is not copied into the outer header.
    pub(crate) const NO_ECN: u8 = 1;
    /// The outer DSCP goes to the inner header when a packet is opened.
    pub(crate) const DECAP_DSCP: u8 = 2;
    /// The outer header never forbids fragmentation.
    pub(crate) const NO_PMTU_DISC: u8 = 4;
}

/// Flags of `XFRMA_SA_EXTRA_FLAGS`.
pub(crate) const DONT_ENCAP_DSCP: u32 = 1;

/// `struct xfrm_usersa_id`
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct RawSaId {
    pub(crate) destination: Address,
    pub(crate) spi: U32,
    pub(crate) family: u16,
    pub(crate) protocol: u8,
    pub(crate) pad: u8,
}

/// `struct xfrm_encap_tmpl`
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct RawEncapsulation {
    pub(crate) kind: u16,
    pub(crate) source_port: U16,
    pub(crate) destination_port: U16,
    pub(crate) pad: u16,
    pub(crate) original: Address,
}

/// `struct xfrm_replay_state_esn`; the bitmap follows.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct RawReplay {
    /// Words of bitmap.
    pub(crate) words: u32,
    pub(crate) sent: u32,
    pub(crate) received: u32,
    pub(crate) sent_high: u32,
    pub(crate) received_high: u32,
    /// Packets.
    pub(crate) window: u32,
}

/// `struct xfrm_user_offload`
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct RawOffload {
    pub(crate) ifindex: i32,
    pub(crate) flags: u8,
    pub(crate) pad: [u8; 3],
}

/// `struct xfrm_userpolicy_info`
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct RawPolicy {
    pub(crate) selector: RawSelector,
    pub(crate) limits: RawLimits,
    pub(crate) current: RawCurrent,
    pub(crate) priority: u32,
    pub(crate) index: u32,
    pub(crate) direction: u8,
    pub(crate) action: u8,
    pub(crate) flags: u8,
    pub(crate) share: u8,
    pub(crate) pad: [u8; 4],
}

/// `struct xfrm_userpolicy_id`
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct RawPolicyId {
    pub(crate) selector: RawSelector,
    pub(crate) index: u32,
    pub(crate) direction: u8,
    pub(crate) pad: [u8; 3],
}

/// `struct xfrm_user_tmpl`
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct RawTemplate {
    pub(crate) id: RawId,
    pub(crate) family: u16,
    pub(crate) pad: u16,
    pub(crate) source: Address,
    pub(crate) reqid: u32,
    pub(crate) mode: u8,
    pub(crate) share: u8,
    pub(crate) optional: u8,
    pub(crate) pad2: u8,
    /// Masks of algorithms, all of them when all bits are set.
    pub(crate) algorithms: [u32; 3],
}

/// `struct xfrm_user_expire`
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct RawExpire {
    pub(crate) sa: RawSa,
    pub(crate) hard: u8,
    pub(crate) pad: [u8; 7],
}

/// `struct xfrm_user_mapping`
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct RawMapping {
    pub(crate) id: RawSaId,
    pub(crate) reqid: u32,
    pub(crate) old_source: Address,
    pub(crate) new_source: Address,
    pub(crate) old_port: U16,
    pub(crate) new_port: U16,
}

const _: () = {
    assert!(size_of::<RawId>() == 24);
    assert!(size_of::<RawSelector>() == 56);
    assert!(size_of::<RawSa>() == 224);
    assert!(size_of::<RawSaId>() == 24);
    assert!(size_of::<RawEncapsulation>() == 24);
    assert!(size_of::<RawReplay>() == 24);
    assert!(size_of::<RawOffload>() == 8);
    assert!(size_of::<RawLimits>() == 64 && size_of::<RawCurrent>() == 32);
    assert!(size_of::<RawPolicy>() == 168);
    assert!(size_of::<RawPolicyId>() == 64);
    assert!(size_of::<RawTemplate>() == 64);
    assert!(size_of::<RawExpire>() == 232);
    assert!(size_of::<RawMapping>() == 64);
};
