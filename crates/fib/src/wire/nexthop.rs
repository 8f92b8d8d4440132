//! Nexthop objects on rtnetlink: `RTM_NEWNEXTHOP`, `RTM_DELNEXTHOP`, `RTM_GETNEXTHOP` (linux/nexthop.h, since 5.3).
//!
//! Only what this suite uses: an interface with or without gateway, the blackhole, and groups that spread flows by a hash
//! over their members. A resilient group ([`NexthopMessage::kind`] is then `None`) is somebody else's.

use std::net::IpAddr;

use net_types::Family;
use netlink_packet_core::{DecodeError, DefaultNla, Emitable, NlasIterator, parse_u32};

use crate::backend::{GroupMember, Nexthop, NexthopId};

const HEADER_LEN: usize = 8;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// The gateway is reachable on the interface whatever the routes say.
const RTNH_F_ONLINK: u32 = 4;

const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_GROUP_TYPE: u16 = 3;
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
    /// What it does; `None` when asking or removing, or when it is a group or of a kind not used here.
    pub kind: Option<Nexthop>,
    /// The members, when it is a group.
    pub group: Vec<GroupMember>,
}

/// Octets of `struct nexthop_grp`: id, weight less one, and twenty-four bits that are 0 here (the first eight of them are
/// the upper half of the weight since Linux 6.12).
const MEMBER_LEN: usize = 8;

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
            None if !self.group.is_empty() => {
                let mut members = Vec::with_capacity(MEMBER_LEN * self.group.len());
                for GroupMember { id: NexthopId(id), weight } in &self.group {
                    members.extend(id.to_ne_bytes());
                    members.extend([weight.saturating_sub(1), 0, 0, 0]);
                }
                attributes.push(DefaultNla::new(NHA_GROUP, members));
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
            Family::Ipv4Unicast | Family::Ipv4Vpn => AF_INET,
            Family::Ipv6Unicast | Family::Ipv6Vpn => AF_INET6,
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
        let (mut id, mut group, mut plain, mut blackhole) = (None, None, true, false);
        let (mut ifindex, mut gateway) = (None, None);
        for attribute in NlasIterator::new(rest) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() {
                NHA_ID => id = Some(NexthopId(parse_u32(value)?)),
                NHA_GROUP => group = Some(parse_group(value)),
                // 0: flows are spread by a hash over the members (NEXTHOP_GRP_TYPE_MPATH).
                NHA_GROUP_TYPE => plain = value.iter().all(|octet| *octet == 0),
                NHA_BLACKHOLE => blackhole = true,
                NHA_OIF => ifindex = Some(parse_u32(value)?),
                NHA_GATEWAY => gateway = Some(parse_address(value)?),
                _ => {}
            }
        }
        let kind = match (&group, blackhole, ifindex) {
            (None, true, _) => Some(Nexthop::Blackhole(family)),
            (None, false, Some(ifindex)) => Some(Nexthop::Via { family, ifindex, gateway }),
            _ => None,
        };
        let group = group.flatten().filter(|_| plain).unwrap_or_default();
        Ok(Self { id, protocol, kind, group })
    }
}

/// The members, unless there are none or one has a weight that we give to nobody.
fn parse_group(value: &[u8]) -> Option<Vec<GroupMember>> {
    let (members, rest) = value.as_chunks::<MEMBER_LEN>();
    let member = |octets: &[u8; MEMBER_LEN]| {
        let [a, b, c, d, weight, high, ..] = *octets;
        let weight = weight.checked_add(1).filter(|_| high == 0)?;
        Some(GroupMember { id: NexthopId(u32::from_ne_bytes([a, b, c, d])), weight })
    };
    members.iter().map(member).collect::<Option<Vec<_>>>().filter(|members| rest.is_empty() && !members.is_empty())
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
            group: Vec::new(),
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

    fn body(attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut body = vec![0, 0, 201, 0, 0, 0, 0, 0];
        for (kind, value) in attributes {
            body.extend((4 + u16::try_from(value.len()).unwrap()).to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        body
    }

    #[test]
    fn a_group_is_laid_out_as_the_kernel_has_it() {
        let group = vec![
            GroupMember { id: NexthopId(0x0102_0304), weight: 1 },
            GroupMember { id: NexthopId(9), weight: u8::MAX },
        ];
        let message = NexthopMessage { id: Some(NexthopId(7)), protocol: 201, kind: None, group };
        let mut members = 0x0102_0304_u32.to_ne_bytes().to_vec();
        members.extend([0, 0, 0, 0]);
        members.extend(9_u32.to_ne_bytes());
        members.extend([254, 0, 0, 0]);
        assert_eq!(emitted(&message), body(&[(NHA_ID, 7_u32.to_ne_bytes().into()), (NHA_GROUP, members)]));
        assert_eq!(NexthopMessage::parse(&emitted(&message)).unwrap(), message);
    }

    #[test]
    fn a_group_that_is_not_of_our_making_is_not_mistaken_for_one_of_ours_or_a_path() {
        let id = || (NHA_ID, vec![1, 0, 0, 0]);
        let heavy = vec![1, 0, 0, 0, 255, 0, 0, 0];
        let heavier = vec![1, 0, 0, 0, 0, 1, 0, 0];
        for odd in [
            vec![id(), (NHA_GROUP, vec![0; 8]), (NHA_GROUP_TYPE, vec![1, 0])],
            vec![id(), (NHA_GROUP, vec![0; 7])],
            vec![id(), (NHA_GROUP, Vec::new())],
            vec![id(), (NHA_GROUP, heavy)],
            vec![id(), (NHA_GROUP, heavier)],
        ] {
            let message = NexthopMessage::parse(&body(&odd)).unwrap();
            assert_eq!((message.kind, message.group), (None, Vec::new()), "{odd:?}");
        }
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
            let message = NexthopMessage { id: Some(NexthopId(id)), protocol, kind: Some(kind), group: Vec::new() };
            prop_assert_eq!(NexthopMessage::parse(&emitted(&message)).unwrap(), message);
        }

        #[test]
        fn emitted_groups_parse_back(members in proptest::collection::vec((any::<u32>(), 1..=u8::MAX), 1..40)) {
            let group = members.iter().map(|(id, weight)| GroupMember { id: NexthopId(*id), weight: *weight }).collect();
            let message = NexthopMessage { id: Some(NexthopId(1)), protocol: 201, kind: None, group };
            prop_assert_eq!(NexthopMessage::parse(&emitted(&message)).unwrap(), message);
        }

        #[test]
        fn any_octets_are_survived(body in proptest::collection::vec(any::<u8>(), 0..96)) {
            let _ = NexthopMessage::parse(&body);
        }
    }
}
