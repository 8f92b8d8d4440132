//! Link messages of interfaces (`NETLINK_ROUTE`), above all xfrm interfaces: a device whose packets meet the policies with its
//! number.

use crate::gre::Gre;
use crate::message::{Attributes, Message, Received, flag, nested, number};

/// `RTM_*LINK`
pub(crate) const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;

pub(crate) const IFLA_IFNAME: u16 = 3;
pub(crate) const IFLA_LINKINFO: u16 = 18;
pub(crate) const IFLA_INFO_KIND: u16 = 1;
pub(crate) const IFLA_INFO_DATA: u16 = 2;
const IFLA_XFRM_LINK: u16 = 1;
const IFLA_XFRM_IF_ID: u16 = 2;
/// `NLA_F_NESTED`
pub(crate) const NESTED: u16 = 0x8000;

/// `struct ifinfomsg` with nothing but an index.
pub(crate) fn link(ifindex: u32) -> [u32; 4] {
    [0, ifindex, 0, 0] // family and type, index, flags, change
}

/// A device as the kernel tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index.
    pub ifindex: u32,
    /// What it is.
    pub kind: InterfaceKind,
}

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfaceKind {
    /// An xfrm interface.
    Xfrm {
        /// The number that its policies and associations carry.
        if_id: u32,
        /// The device that outer packets leave by, whatever their routes say; 0 for none in particular.
        link: u32,
    },
    /// A GRE interface with a peer.
    Gre(Gre),
    /// Another, as `ip -d link` names the kind; empty for a physical one.
    Other(String),
}

/// The message that makes an xfrm interface. The kernel refuses a name and a number that it has already.
pub fn create_interface(name: &str, if_id: u32, link_index: u32) -> Message {
    let mut message = Message::new(NEW_LINK, flag::CREATE | flag::EXCL | flag::ACK, &link(0));
    message.attribute_of(IFLA_IFNAME, &[name.as_bytes(), &[0]]);
    let mut data = nested(IFLA_XFRM_IF_ID, &if_id.to_ne_bytes());
    if link_index != 0 {
        data.extend(nested(IFLA_XFRM_LINK, &link_index.to_ne_bytes()));
    }
    let info = [nested(IFLA_INFO_KIND, b"xfrm"), nested(IFLA_INFO_DATA | NESTED, &data)].concat();
    message.attribute(IFLA_LINKINFO | NESTED, info.as_slice());
    message
}

/// The message that removes a device.
pub fn delete_link(ifindex: u32) -> Message {
    Message::new(DELETE_LINK, flag::ACK, &link(ifindex))
}

/// The message that asks for a device by its name; the answer is read by [`Interface::parse`].
pub fn query_link(name: &str) -> Message {
    let mut message = Message::new(GET_LINK, 0, &link(0));
    message.attribute_of(IFLA_IFNAME, &[name.as_bytes(), &[0]]);
    message
}

impl Interface {
    /// Of an answer to [`query_link`]; `None` for what is no device.
    pub fn parse(received: Received<'_>) -> Option<Self> {
        if received.kind != NEW_LINK {
            return None;
        }
        let ([_, ifindex, _, _], mut attributes) = received.split::<[u32; 4]>()?;
        let info = attributes.find(|(kind, _)| *kind == IFLA_LINKINFO).map_or(&[][..], |(_, value)| value);
        let find = |wanted: u16| Attributes(info).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        let name = String::from_utf8_lossy(find(IFLA_INFO_KIND).unwrap_or_default()).trim_end_matches('\0').to_owned();
        let data = find(IFLA_INFO_DATA).unwrap_or_default();
        if name != "xfrm" {
            let gre = Gre::parse(data).filter(|gre| gre.kind() == name);
            return Some(Self { ifindex, kind: gre.map_or(InterfaceKind::Other(name), InterfaceKind::Gre) });
        }
        let word =
            |wanted: u16| Attributes(data).find(|(kind, _)| *kind == wanted).and_then(|(_, value)| number(value));
        let kind = InterfaceKind::Xfrm { if_id: word(IFLA_XFRM_IF_ID)?, link: word(IFLA_XFRM_LINK).unwrap_or(0) };
        Some(Self { ifindex, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Messages;

    #[test]
    fn what_makes_an_interface_describes_it() {
        for (name, if_id, link) in [("tun1", 0x4846_0001, 0), ("a-name-of-15-oc", 1, 7)] {
            let message = create_interface(name, if_id, link);
            let received = Messages::new(message.as_bytes()).next().unwrap().unwrap();
            let expected = Interface { ifindex: 0, kind: InterfaceKind::Xfrm { if_id, link } };
            assert_eq!(Interface::parse(received), Some(expected));
        }
    }

    #[test]
    fn other_devices_are_told_by_their_kind() {
        let mut message = Message::new(NEW_LINK, 0, &link(4));
        message.attribute(IFLA_LINKINFO, nested(IFLA_INFO_KIND, b"veth\0").as_slice());
        let received = Messages::new(message.as_bytes()).next().unwrap().unwrap();
        let expected = Interface { ifindex: 4, kind: InterfaceKind::Other("veth".to_owned()) };
        assert_eq!(Interface::parse(received), Some(expected));
    }
}
