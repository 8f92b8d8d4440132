//! Nexthop objects on rtnetlink: `RTM_NEWNEXTHOP`, `RTM_DELNEXTHOP`, `RTM_GETNEXTHOP` (linux/nexthop.h, since 5.3).
//!
//! Only what this suite uses: an interface with or without gateway, and the blackhole. Groups are recognised when
//! somebody else made them ([`NexthopMessage::kind`] is then `None`), never built.

use std::net::IpAddr;

use net_types::Family;
use netlink_packet_core::{DecodeError, DefaultNla, Emitable, NlasIterator, parse_u32};

use crate::backend::{Nexthop, NexthopId};

const HEADER_LEN: usize = 8;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// The gateway is reachable on the interface whatever the routes say.
const RTNH_F_ONLINK: u32 = 4;

const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;

/// The body of a nexthop message.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NexthopMessage {
    /// Which object; `None` asks for all of them.
    pub id: Option<NexthopId>,
    /// Who made it. Must be 0 when asking and when removing.
    pub protocol: u8,
    /// What it does; `None` when asking or removing, or when it is of a kind not used here.
    pub kind: Option<Nexthop>,
}

impl NexthopMessage {
    fn attributes(&self) -> Vec<DefaultNla> {
        let mut attributes = Vec::with_capacity(3);
        if let Some(NexthopId(id)) = self.id {
            attributes.push(DefaultNla::new(NHA_ID, id.to_ne_bytes().to_vec()));
        }
        match self.kind {
            Some(Nexthop::Blackhole(_)) => attributes.push(DefaultNla::new(NHA_BLACKHOLE, Vec::new())),
            Some(Nexthop::Via { ifindex, gateway, .. }) => {
                attributes.push(DefaultNla::new(NHA_OIF, ifindex.to_ne_bytes().to_vec()));
                match gateway {
                    Some(IpAddr::V4(v4)) => attributes.push(DefaultNla::new(NHA_GATEWAY, v4.octets().to_vec())),
                    Some(IpAddr::V6(v6)) => attributes.push(DefaultNla::new(NHA_GATEWAY, v6.octets().to_vec())),
                    None => {}
                }
            }
            None => {}
        }
        attributes
    }

    /// The object's own family: that of its gateway, which may be IPv6 below an IPv4 route (RFC 8950).
    fn family(&self) -> u8 {
        let family = match self.kind {
            None => return 0,
            Some(Nexthop::Via { gateway: Some(IpAddr::V4(_)), .. }) => Family::Ipv4Unicast,
            Some(Nexthop::Via { gateway: Some(IpAddr::V6(_)), .. }) => Family::Ipv6Unicast,
            Some(Nexthop::Blackhole(family) | Nexthop::Via { family, .. }) => family,
        };
        match family {
            Family::Ipv4Unicast => AF_INET,
            Family::Ipv6Unicast => AF_INET6,
        }
    }

    fn flags(&self) -> u32 {
        match self.kind {
            Some(Nexthop::Via { gateway: Some(_), .. }) => RTNH_F_ONLINK,
            _ => 0,
        }
    }

    /// Reads the body of a nexthop message.
    ///
    /// # Errors
    /// When an attribute is cut short or has an impossible length.
    pub fn parse(body: &[u8]) -> Result<Self, DecodeError> {
        let Some((header, rest)) = body.split_first_chunk::<HEADER_LEN>() else {
            return Err(DecodeError::from(format!("nexthop message of {} octets, expected {HEADER_LEN}", body.len())));
        };
        let [family, _scope, protocol, ..] = *header;
        let family = match family {
            AF_INET6 => Family::Ipv6Unicast,
            _ => Family::Ipv4Unicast,
        };
        let (mut id, mut group, mut blackhole, mut ifindex, mut gateway) = (None, false, false, None, None);
        for attribute in NlasIterator::new(rest) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() {
                NHA_ID => id = Some(NexthopId(parse_u32(value)?)),
                NHA_GROUP => group = true,
                NHA_BLACKHOLE => blackhole = true,
                NHA_OIF => ifindex = Some(parse_u32(value)?),
                NHA_GATEWAY => gateway = Some(parse_address(value)?),
                _ => {}
            }
        }
        let kind = match (group, blackhole, ifindex) {
            (false, true, _) => Some(Nexthop::Blackhole(family)),
            (false, false, Some(ifindex)) => Some(Nexthop::Via { family, ifindex, gateway }),
            _ => None,
        };
        Ok(Self { id, protocol, kind })
    }
}

pub(super) fn parse_address(value: &[u8]) -> Result<IpAddr, DecodeError> {
    if let Ok(v4) = <[u8; 4]>::try_from(value) {
        return Ok(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(value)
        .map(IpAddr::from)
        .map_err(|_| DecodeError::from(format!("gateway of {} octets, expected 4 or 16", value.len())))
}

impl Emitable for NexthopMessage {
    fn buffer_len(&self) -> usize {
        HEADER_LEN + self.attributes().as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        let (header, rest) = buffer.split_at_mut(HEADER_LEN);
        header[..4].copy_from_slice(&[self.family(), 0, self.protocol, 0]);
        header[4..].copy_from_slice(&self.flags().to_ne_bytes());
        self.attributes().as_slice().emit(rest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn emitted(message: &NexthopMessage) -> Vec<u8> {
        let mut buffer = vec![0xff; message.buffer_len()];
        message.emit(&mut buffer);
        buffer
    }

    #[test]
    fn the_layout_is_the_kernels() {
        let message = NexthopMessage {
            id: Some(NexthopId(0x0102_0304)),
            protocol: 201,
            kind: Some(Nexthop::Via {
                family: Family::Ipv4Unicast,
                ifindex: 7,
                gateway: Some("192.0.2.1".parse().unwrap()),
            }),
        };
        let mut wanted = vec![AF_INET, 0, 201, 0];
        wanted.extend(RTNH_F_ONLINK.to_ne_bytes());
        for (kind, value) in
            [(NHA_ID, 0x0102_0304_u32.to_ne_bytes()), (NHA_OIF, 7_u32.to_ne_bytes()), (NHA_GATEWAY, [192, 0, 2, 1])]
        {
            wanted.extend(8_u16.to_ne_bytes());
            wanted.extend(kind.to_ne_bytes());
            wanted.extend(value);
        }
        assert_eq!(emitted(&message), wanted);
    }

    #[test]
    fn a_group_is_recognised_and_not_mistaken_for_a_path() {
        let mut body = vec![0, 0, 201, 0, 0, 0, 0, 0];
        for (kind, value) in [(NHA_ID, vec![1, 0, 0, 0]), (NHA_GROUP, vec![0; 8])] {
            body.extend((4 + u16::try_from(value.len()).unwrap()).to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(value);
        }
        assert_eq!(NexthopMessage::parse(&body).unwrap().kind, None);
    }

    fn any_nexthop() -> impl Strategy<Value = Nexthop> {
        let family = prop_oneof![Just(Family::Ipv4Unicast), Just(Family::Ipv6Unicast)];
        (family, any::<bool>(), any::<u32>(), any::<Option<IpAddr>>()).prop_map(|(family, hole, ifindex, gateway)| {
            let family = match gateway {
                Some(IpAddr::V4(_)) => Family::Ipv4Unicast,
                Some(IpAddr::V6(_)) => Family::Ipv6Unicast,
                None => family,
            };
            if hole { Nexthop::Blackhole(family) } else { Nexthop::Via { family, ifindex, gateway } }
        })
    }

    proptest! {
        #[test]
        fn emitted_objects_parse_back(id in any::<u32>(), protocol in any::<u8>(), kind in any_nexthop()) {
            let message = NexthopMessage { id: Some(NexthopId(id)), protocol, kind: Some(kind) };
            prop_assert_eq!(NexthopMessage::parse(&emitted(&message)).unwrap(), message);
        }

        #[test]
        fn any_octets_are_survived(body in proptest::collection::vec(any::<u8>(), 0..96)) {
            let _ = NexthopMessage::parse(&body);
        }
    }
}
