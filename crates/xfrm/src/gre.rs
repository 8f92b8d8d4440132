//! Link messages of GRE interfaces (`NETLINK_ROUTE`): packets between two outer addresses, which policies protect.
//!
//! The attributes are those of linux/if_tunnel.h. A kernel that has no GRE loads it when the first interface is made.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    interface::{IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, NESTED, NEW_LINK, link},
    message::{Attributes, Message, flag, nested, number},
};

/// `IFLA_MTU`
const IFLA_MTU: u16 = 4;

/// `IFLA_GRE_*`
mod attribute {
    pub(super) const LINK: u16 = 1;
    pub(super) const IFLAGS: u16 = 2;
    pub(super) const OFLAGS: u16 = 3;
    pub(super) const IKEY: u16 = 4;
    pub(super) const OKEY: u16 = 5;
    pub(super) const LOCAL: u16 = 6;
    pub(super) const REMOTE: u16 = 7;
    pub(super) const TTL: u16 = 8;
    pub(super) const TOS: u16 = 9;
    pub(super) const PMTUDISC: u16 = 10;
    pub(super) const FLOWINFO: u16 = 12;
    pub(super) const FLAGS: u16 = 13;
    pub(super) const IGNORE_DF: u16 = 19;
    pub(super) const FWMARK: u16 = 20;
}

/// `GRE_KEY`, in network order: RFC 2890 §2.
const WITH_KEY: u16 = 0x2000;
/// `IP6_TNL_F_IGN_ENCAP_LIMIT`: otherwise a destination option of 8 octets would stand before each GRE header.
const NO_ENCAPSULATION_LIMIT: u32 = 1;
/// `IP6_TNL_F_USE_ORIG_TCLASS`
const COPY_CLASS: u32 = 2;
/// What a TOS of this value means to the kernel.
const INHERIT_TOS: u8 = 1;
/// As most systems send; with 0 it would be the inner packet's, which for routers' own protocols may be 1.
const TTL: u8 = 64;

/// The ends of a GRE interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gre {
    /// Our outer address; `None` is whichever the kernel chooses.
    pub local: Option<IpAddr>,
    /// The peer's, of the same family.
    pub remote: IpAddr,
    /// In each packet, both ways.
    pub key: Option<u32>,
    /// The device that outer packets leave by, whatever their routes say; 0 for none in particular.
    pub link: u32,
    /// What leads outer packets to their routing table; 0 for none.
    pub mark: u32,
}

/// What outer headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GreHeader {
    /// Their class, 0 to 63; that of inner packets without.
    pub dscp: Option<u8>,
    /// Whether routers may fragment them. IPv6 has no such bit.
    pub df: GreDf,
}

/// DF of outer IPv4 headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GreDf {
    /// That of inner IPv4 packets.
    Copy,
    /// Set.
    Set,
    /// Not set.
    Clear,
}

impl Gre {
    /// The kernel's name for the kind: "gre" over IPv4, "ip6gre" over IPv6.
    pub fn kind(&self) -> &'static str {
        if self.remote.is_ipv4() { "gre" } else { "ip6gre" }
    }

    /// The message that makes the interface. The kernel refuses a name that it has, and a second interface with these ends.
    pub fn create(&self, name: &str, mtu: u16, header: GreHeader) -> Message {
        let mut message = Message::new(NEW_LINK, flag::CREATE | flag::EXCL | flag::ACK, &link(0));
        message.attribute_of(IFLA_IFNAME, &[name.as_bytes(), &[0]]);
        self.describe(&mut message, mtu, header);
        message
    }

    /// The messages that bring an interface of the same kind to these ends; all of what it has is said anew. With `df set` after
    /// `df clear` the kernel wants the latter taken back first, so there are two.
    pub fn change(&self, ifindex: u32, mtu: u16, header: GreHeader) -> Vec<Message> {
        let to = |header| {
            let mut message = Message::new(NEW_LINK, flag::ACK, &link(ifindex));
            self.describe(&mut message, mtu, header);
            message
        };
        match header.df {
            GreDf::Set => vec![to(GreHeader { df: GreDf::Copy, ..header }), to(header)],
            GreDf::Copy | GreDf::Clear => vec![to(header)],
        }
    }

    fn describe(&self, message: &mut Message, mtu: u16, header: GreHeader) {
        // Without it the kernel would choose one at each change.
        message.attribute(IFLA_MTU, &u32::from(mtu));
        let info =
            [nested(IFLA_INFO_KIND, self.kind().as_bytes()), nested(IFLA_INFO_DATA | NESTED, &self.data(header))];
        message.attribute(IFLA_LINKINFO | NESTED, info.concat().as_slice());
    }

    fn data(&self, header: GreHeader) -> Vec<u8> {
        let mut data = Vec::new();
        let mut put = |kind: u16, value: &[u8]| data.extend(nested(kind, value));
        put(attribute::LINK, &self.link.to_ne_bytes());
        let flags = if self.key.is_some() { WITH_KEY } else { 0 }.to_be_bytes();
        let key = self.key.unwrap_or(0).to_be_bytes();
        for (of_flags, of_key) in [(attribute::IFLAGS, attribute::IKEY), (attribute::OFLAGS, attribute::OKEY)] {
            put(of_flags, &flags);
            put(of_key, &key);
        }
        match self.local {
            Some(IpAddr::V4(local)) => put(attribute::LOCAL, &local.octets()),
            Some(IpAddr::V6(local)) => put(attribute::LOCAL, &local.octets()),
            None => {}
        }
        put(attribute::TTL, &[TTL]);
        put(attribute::FWMARK, &self.mark.to_ne_bytes());
        match self.remote {
            IpAddr::V4(remote) => {
                put(attribute::REMOTE, &remote.octets());
                put(attribute::TOS, &[header.dscp.map_or(INHERIT_TOS, |dscp| dscp << 2)]);
                put(attribute::PMTUDISC, &[u8::from(header.df == GreDf::Set)]);
                put(attribute::IGNORE_DF, &[u8::from(header.df == GreDf::Clear)]);
            }
            IpAddr::V6(remote) => {
                put(attribute::REMOTE, &remote.octets());
                let class = header.dscp.map_or(0, |dscp| u32::from(dscp) << 22);
                put(attribute::FLOWINFO, &class.to_be_bytes());
                let copy = if header.dscp.is_none() { COPY_CLASS } else { 0 };
                put(attribute::FLAGS, &(NO_ENCAPSULATION_LIMIT | copy).to_ne_bytes());
            }
        }
        data
    }

    /// Of the data of a link of kind `gre` or `ip6gre`; `None` where it has no address of a peer.
    pub(crate) fn parse(data: &[u8]) -> Option<Self> {
        let find = |wanted: u16| Attributes(data).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        let address = |wanted: u16| {
            let octets = find(wanted)?;
            let v4 = <[u8; 4]>::try_from(octets).map(|octets| IpAddr::from(Ipv4Addr::from(octets)));
            let v6 = || <[u8; 16]>::try_from(octets).map(|octets| IpAddr::from(Ipv6Addr::from(octets)));
            v4.or_else(|_| v6()).ok().filter(|address| !address.is_unspecified())
        };
        let with_key = find(attribute::OFLAGS).is_some_and(|flags| flags == WITH_KEY.to_be_bytes());
        let key = find(attribute::OKEY).and_then(|key| <[u8; 4]>::try_from(key).ok());
        Some(Self {
            local: address(attribute::LOCAL),
            remote: address(attribute::REMOTE)?,
            key: key.map(u32::from_be_bytes).filter(|_| with_key),
            link: find(attribute::LINK).and_then(number).unwrap_or(0),
            mark: find(attribute::FWMARK).and_then(number).unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Interface, InterfaceKind, Messages};

    fn header(df: GreDf) -> GreHeader {
        GreHeader { dscp: None, df }
    }

    #[test]
    fn what_makes_an_interface_describes_it() {
        let gre = |local: Option<&str>, remote: &str, key, link| Gre {
            local: local.map(|text| text.parse().unwrap()),
            remote: remote.parse().unwrap(),
            key,
            link,
            mark: 0x4846_0001,
        };
        for gre in [
            gre(Some("198.51.100.2"), "198.51.100.6", None, 0),
            gre(None, "198.51.100.6", Some(0), 7),
            gre(Some("2001:db8::2"), "2001:db8::6", Some(u32::MAX), 7),
            gre(None, "2001:db8::6", None, 0),
        ] {
            let made = gre.create("tun1", 1400, header(GreDf::Copy));
            for message in std::iter::once(made).chain(gre.change(0, 1400, header(GreDf::Set))) {
                let received = Messages::new(message.as_bytes()).next().unwrap().unwrap();
                let expected = Interface { ifindex: 0, kind: InterfaceKind::Gre(gre) };
                assert_eq!(Interface::parse(received), Some(expected));
            }
        }
    }

    #[test]
    fn the_outer_header_is_said_in_the_words_of_each_family() {
        let find = |data: &[u8], wanted: u16| {
            Attributes(data).find(|(kind, _)| *kind == wanted).map(|(_, value)| value.to_vec())
        };
        let v4 = Gre { local: None, remote: [192, 0, 2, 1].into(), key: None, link: 0, mark: 1 };
        for (df, pmtudisc, ignore) in [(GreDf::Copy, 0, 0), (GreDf::Set, 1, 0), (GreDf::Clear, 0, 1)] {
            let data = v4.data(header(df));
            assert_eq!(find(&data, attribute::PMTUDISC), Some(vec![pmtudisc]));
            assert_eq!(find(&data, attribute::IGNORE_DF), Some(vec![ignore]));
            assert_eq!(find(&data, attribute::TOS), Some(vec![1]), "inherited");
        }
        let set = GreHeader { dscp: Some(46), df: GreDf::Copy };
        assert_eq!(find(&v4.data(set), attribute::TOS), Some(vec![0xb8]));
        let v6 = Gre { remote: "2001:db8::6".parse().unwrap(), ..v4 };
        assert_eq!(find(&v6.data(set), attribute::FLOWINFO), Some(vec![0x0b, 0x80, 0, 0]));
        assert_eq!(find(&v6.data(set), attribute::FLAGS), Some(1u32.to_ne_bytes().to_vec()));
        assert_eq!(find(&v6.data(header(GreDf::Copy)), attribute::FLAGS), Some(3u32.to_ne_bytes().to_vec()));
    }
}
