//! GRE interfaces: their ends, and the policies that nothing passes them in the clear by.
//!
//! An xfrm interface drops what no policy of its number protects; a GRE interface sends and takes whatever the machine lets
//! through. So for as long as there is one, GRE between its two addresses meets a policy of the machine, in both directions: an
//! association's, or one that blocks. It is there before the interface is made or gets other addresses, and goes after.
//!
//! The kernel holds such policies against all packets of the machine. Those of other addresses are left alone, and so is
//! another program's GRE with the same peer from another address of ours; between the same two it would be blocked.

use std::{collections::BTreeMap, io, net::IpAddr};

use net_types::{Prefix, TunnelName};
use rustix::io::Errno;
use xfrm::{
    Action, GreDf, GreHeader, Interface, InterfaceKind, Mode, Policy, PolicyDirection, Ports, SaInfo, Selector,
    Template,
};

use super::{
    Control, IF_ID_BASE, failed,
    selectors::reversed,
    socket::{Netlink, NetlinkError},
    tunnel::{Device, Key, PRIORITY, PRIORITY_OF_BLOCK, Tunnel, Value},
};
use crate::{DataplaneError, Df, Dscp, Gre, PacketPolicy, Path};

/// Protocol number of GRE (RFC 2784 §4).
const PROTOCOL: u8 = 47;
/// What ties associations of GRE interfaces to their policies: this number, with the interface's index.
pub(super) const NUMBERS: u32 = 0x4700_0000;
const INDEX: u32 = 0x00ff_ffff;

/// A GRE interface of a tunnel.
#[derive(Debug)]
pub(super) struct GreDevice {
    /// As configured.
    pub(super) spec: Gre,
    pub(super) mtu: u16,
    /// As the kernel has it.
    pub(super) ends: xfrm::Gre,
    /// As the kernel has it; unknown of one that an earlier process made.
    pub(super) header: Option<GreHeader>,
}

/// The number of the interface with this index.
pub(super) fn number(ifindex: u32) -> u32 {
    NUMBERS | (ifindex & INDEX)
}

/// Whether an association is of a GRE interface, whichever.
pub(super) fn is_of_gre(sa: &SaInfo) -> bool {
    (sa.if_id, sa.mode, sa.reqid & !INDEX) == (0, Mode::Transport, NUMBERS)
}

/// Whether this process or an earlier one made the interface: its mark is that of a link.
pub(super) fn is_ours(ends: &xfrm::Gre) -> bool {
    ends.mark & 0xffff_0000 == IF_ID_BASE
}

fn header(policy: PacketPolicy) -> GreHeader {
    GreHeader {
        dscp: match policy.dscp {
            Dscp::Copy => None,
            Dscp::Set(dscp) => Some(dscp),
        },
        df: match policy.df {
            Df::Copy => GreDf::Copy,
            Df::Set => GreDf::Set,
            Df::Clear => GreDf::Clear,
        },
    }
}

/// GRE from one address, or any, to another.
fn selector(local: Option<IpAddr>, remote: IpAddr) -> Selector {
    let any = if remote.is_ipv4() { Prefix::DEFAULT_V4 } else { Prefix::DEFAULT_V6 };
    Selector {
        source: local.map_or(any, Prefix::host),
        destination: Prefix::host(remote),
        protocol: PROTOCOL,
        source_ports: Ports::ANY,
        destination_ports: Ports::ANY,
    }
}

/// What an association of a GRE interface carries.
pub(super) fn selector_of(path: &Path) -> Selector {
    selector(Some(path.local.ip()), path.remote.ip())
}

/// That nothing goes between these ends in the clear.
fn block(ends: &xfrm::Gre) -> [Key; 2] {
    let leaving = selector(ends.local, ends.remote);
    [(PolicyDirection::Out, leaving), (PolicyDirection::In, reversed(&leaving))]
}

impl GreDevice {
    /// The ends that the interface should have. `current` is our address and the mark of the association that is sent by.
    fn aim(&self, current: Option<(IpAddr, u32)>, inherited: bool) -> xfrm::Gre {
        let Gre { remote, key, local, link, mark } = self.spec;
        let (local, mark) = match current {
            Some((local, mark)) => (Some(local), mark),
            // What goes on by associations of an earlier process goes on between their addresses.
            None if inherited => return xfrm::Gre { remote, key, ..self.ends },
            None => (local.or(self.ends.local.filter(|local| local.is_ipv4() == remote.is_ipv4())), mark),
        };
        // Over another link it is bound by the mark alone.
        let link = link.filter(|_| mark == self.spec.mark).unwrap_or(0);
        xfrm::Gre { local, remote, key, link, mark }
    }
}

impl Tunnel {
    /// The policies that there should be while the interface goes from the ends that it has to `aim`.
    pub(super) fn wanted_of_gre(&self, gre: &GreDevice, aim: &xfrm::Gre) -> BTreeMap<Key, Value> {
        let mut wanted = BTreeMap::new();
        for key in [&gre.ends, aim].into_iter().flat_map(block) {
            wanted.insert(key, (PRIORITY_OF_BLOCK, Action::Block));
        }
        let template = |spi| Template { path: None, spi, reqid: self.number, mode: Mode::Transport };
        let inherited = |direction: PolicyDirection| {
            let protects =
                move |((at, _), (_, action)): &(&Key, &Value)| *at == direction && matches!(action, Action::Protect(_));
            self.installed.iter().filter(protects).map(|(key, value)| (*key, *value))
        };
        match self.outbound.last() {
            Some(current) => {
                let protect = (PRIORITY, Action::Protect(template(Some(current.id.spi))));
                wanted.insert((PolicyDirection::Out, selector_of(&current.path)), protect);
            }
            None if !self.inherited.outbound.is_empty() => wanted.extend(inherited(PolicyDirection::Out)),
            None => {}
        }
        if !self.inherited.inbound.is_empty() {
            wanted.extend(inherited(PolicyDirection::In));
        }
        for sa in self.inbound.values() {
            let key = (PolicyDirection::In, reversed(&selector_of(&sa.path)));
            wanted.insert(key, (PRIORITY, Action::Protect(template(None))));
        }
        wanted
    }

    /// Whether a policy that the kernel has is of this GRE interface.
    pub(super) fn owns_as_gre(&self, gre: &GreDevice, policy: &Policy) -> bool {
        let here = || block(&gre.ends).contains(&(policy.direction, policy.selector));
        match policy.action {
            _ if policy.if_id != 0 => false,
            Action::Protect(template) => template.reqid == self.number,
            Action::Block => policy.priority == PRIORITY_OF_BLOCK && here(),
        }
    }
}

impl Control {
    /// The ends that a tunnel's GRE interface should have; `None` for another interface.
    pub(super) fn aim_of(&self, tunnel: &Tunnel) -> Option<xfrm::Gre> {
        let Device::Gre(gre) = &tunnel.device else { return None };
        let current = tunnel.outbound.last().and_then(|sa| {
            let mark = self.wans.get(&sa.path.wan)?;
            Some((sa.path.local.ip(), *mark))
        });
        Some(gre.aim(current, !tunnel.inherited.outbound.is_empty()))
    }

    /// Brings a tunnel's GRE interface to the ends and the outer header that it should have; whether there was something to do.
    pub(super) fn aim(&mut self, name: &TunnelName) -> Result<bool, DataplaneError> {
        let Some(tunnel) = self.tunnels.get(name) else { return Ok(false) };
        let (Some(aim), Device::Gre(gre)) = (self.aim_of(tunnel), &tunnel.device) else { return Ok(false) };
        let header = header(tunnel.policy);
        if (gre.ends, gre.header) == (aim, Some(header)) {
            return Ok(false);
        }
        if gre.ends != aim {
            let local = aim.local.map_or_else(|| "any".to_owned(), |local| local.to_string());
            tracing::info!(tunnel = %name, local, remote = %aim.remote, "the GRE interface has other ends");
        }
        for outcome in self.routes.batch(aim.change(tunnel.ifindex, gre.mtu, header)) {
            outcome.map_err(failed(name, "giving its GRE interface other ends"))?;
        }
        if let Some(Tunnel { device: Device::Gre(gre), .. }) = self.tunnels.get_mut(name) {
            (gre.ends, gre.header) = (aim, Some(header));
        }
        Ok(true)
    }

    /// The tunnel's GRE interface, which is made, behind its block, if there is none.
    pub(super) fn gre_interface(
        &mut self,
        name: &TunnelName,
        spec: Gre,
        mtu: u16,
        policy: PacketPolicy,
    ) -> Result<(u32, GreDevice), DataplaneError> {
        let query = |routes: &mut Netlink| match routes.ask(xfrm::query_link(name.as_str()), Interface::parse) {
            Err(error) if error.is(Errno::NODEV) => Ok(None),
            other => other.map_err(failed(name, "looking for its interface")),
        };
        let Gre { remote, key, local, link, mark } = spec;
        let ends = xfrm::Gre { local, remote, key, link: link.unwrap_or(0), mark };
        match query(&mut self.routes)? {
            Some(Interface { ifindex, kind: InterfaceKind::Gre(ends) })
                if is_ours(&ends) && ends.kind() == spec_kind(&spec) =>
            {
                return Ok((ifindex, GreDevice { spec, mtu, ends, header: None }));
            }
            Some(other) => self.make_room(name, other)?,
            None => {}
        }
        let blocks = block(&ends).map(|(direction, selector)| {
            Policy { selector, direction, if_id: 0, priority: PRIORITY_OF_BLOCK, action: Action::Block }.replace()
        });
        for outcome in self.requests.batch(blocks.into()) {
            outcome.map_err(failed(name, "blocking GRE in the clear"))?;
        }
        let header = header(policy);
        self.routes.request(ends.create(name.as_str(), mtu, header)).map_err(|error| {
            let next = match () {
                () if error.is(Errno::OPNOTSUPP) => {
                    "; the kernel has no GRE: modprobe ip_gre, or ip6_gre for IPv6 outside"
                }
                () if error.is(Errno::EXIST) => {
                    "; another GRE interface has these addresses: \"ip -d tunnel\" lists them"
                }
                () => "",
            };
            failed(name, &format!("making its GRE interface{next}"))(error)
        })?;
        let made = query(&mut self.routes)?;
        let gone = || NetlinkError::Socket(io::ErrorKind::NotFound.into());
        let made = made.ok_or_else(gone).map_err(failed(name, "looking for the interface just made"))?;
        Ok((made.ifindex, GreDevice { spec, mtu, ends, header: Some(header) }))
    }
}

fn spec_kind(spec: &Gre) -> &'static str {
    if spec.remote.is_ipv4() { "gre" } else { "ip6gre" }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use esp::Cipher;
    use net_types::Spi;
    use xfrm::SaId;

    use super::*;
    use crate::{
        Limits,
        kernel::tunnel::{Inbound, Outbound, Seen, Told},
    };

    fn spec(local: Option<&str>) -> Gre {
        let local = local.map(|text| text.parse().unwrap());
        Gre { remote: [198, 51, 100, 6].into(), key: None, local, link: Some(7), mark: 0x4846_0001 }
    }

    fn tunnel(spec: Gre) -> Tunnel {
        let ends = xfrm::Gre { local: spec.local, remote: spec.remote, key: spec.key, link: 7, mark: spec.mark };
        let device = GreDevice { spec, mtu: 1400, ends, header: Some(header(PacketPolicy::default())) };
        Tunnel::new(2, Device::Gre(device), None, PacketPolicy::default())
    }

    fn path(local: &str) -> Path {
        let local = format!("{local}:4500").parse().unwrap();
        Path { wan: "isp".parse().unwrap(), local, remote: "198.51.100.6:4500".parse().unwrap() }
    }

    fn associate(tunnel: &mut Tunnel, number: u32, local: &str) {
        let (path, spi) = (path(local), Spi::try_from(number).unwrap());
        let seen = Seen::new(Instant::now());
        tunnel.outbound.push(Outbound {
            id: SaId { destination: path.remote.ip(), spi },
            cipher: Cipher::Aes128Gcm16,
            esn: true,
            selectors: vec![selector_of(&path)],
            path: path.clone(),
            encapsulated: false,
            limits: Limits::default(),
            told: Told::default(),
            seen,
        });
        tunnel.inbound.insert(
            spi,
            Inbound {
                id: SaId { destination: path.local.ip(), spi },
                cipher: Cipher::Aes128Gcm16,
                esn: true,
                selectors: Vec::new(),
                path,
                limits: Limits::default(),
                told: Told::default(),
                seen,
            },
        );
    }

    fn aim(tunnel: &Tunnel) -> xfrm::Gre {
        let Device::Gre(gre) = &tunnel.device else { panic!() };
        let current = tunnel.outbound.last().map(|sa| (sa.path.local.ip(), 0x4846_0001));
        gre.aim(current, !tunnel.inherited.outbound.is_empty())
    }

    fn settle(tunnel: &mut Tunnel) -> Vec<String> {
        let aim = aim(tunnel);
        for change in tunnel.changes(Some(&aim)) {
            tunnel.changed(change.key, change.value);
        }
        let shown = tunnel.installed.iter().map(|((direction, selector), (_, action))| {
            let what = match action {
                Action::Block => "block".to_owned(),
                Action::Protect(Template { spi, mode: Mode::Transport, reqid, path: None }) => {
                    format!("{:?} of {reqid:x}", spi.map(Spi::get))
                }
                other => panic!("{other:?}"),
            };
            format!("{direction:?} {} {} {what}", selector.source, selector.destination)
        });
        shown.collect()
    }

    #[test]
    fn gre_between_the_two_addresses_is_protected_or_blocked_in_both_directions() {
        let mut tunnel = self::tunnel(spec(Some("198.51.100.2")));
        let blocked = ["In 198.51.100.6/32 198.51.100.2/32 block", "Out 198.51.100.2/32 198.51.100.6/32 block"];
        assert_eq!(settle(&mut tunnel), blocked);
        associate(&mut tunnel, 0x1001, "198.51.100.2");
        assert_eq!(
            settle(&mut tunnel),
            [
                "In 198.51.100.6/32 198.51.100.2/32 None of 47000002",
                "Out 198.51.100.2/32 198.51.100.6/32 Some(4097) of 47000002",
            ]
        );
        tunnel.outbound.clear();
        assert_eq!(settle(&mut tunnel)[1], blocked[1], "nothing leaves, and what comes by the association is heard");
        tunnel.inbound.clear();
        assert_eq!(settle(&mut tunnel), blocked);
    }

    #[test]
    fn while_the_interface_goes_over_to_another_address_both_are_guarded() {
        let mut tunnel = self::tunnel(spec(None));
        assert_eq!(settle(&mut tunnel), ["In 198.51.100.6/32 0.0.0.0/0 block", "Out 0.0.0.0/0 198.51.100.6/32 block"]);
        associate(&mut tunnel, 0x1001, "198.51.100.2");
        let both = settle(&mut tunnel);
        assert_eq!(both.len(), 4, "{both:?}");
        let there = aim(&tunnel);
        assert_eq!(there.local, Some([198, 51, 100, 2].into()));
        let Device::Gre(gre) = &mut tunnel.device else { panic!() };
        gre.ends = there;
        let after = settle(&mut tunnel);
        assert_eq!(after.len(), 2, "{after:?}");
        assert!(after.iter().all(|line| line.ends_with("of 47000002")), "{after:?}");
    }

    #[test]
    fn what_is_inherited_keeps_its_ends_until_something_better_comes() {
        let mut before = tunnel(spec(Some("198.51.100.2")));
        associate(&mut before, 0x1001, "198.51.100.2");
        settle(&mut before);
        let policies: Vec<_> = before
            .installed
            .iter()
            .map(|(&(direction, selector), &(priority, action))| Policy {
                selector,
                direction,
                if_id: 0,
                priority,
                action,
            })
            .collect();
        let sa = |id, output_mark| SaInfo {
            id,
            source: [198, 51, 100, 2].into(),
            mode: Mode::Transport,
            reqid: number(2),
            if_id: 0,
            esn: true,
            replay: xfrm::Replay::default(),
            encapsulation: None,
            output_mark,
            current: xfrm::Current::default(),
        };
        let inbound = sa(before.inbound.values().next().unwrap().id, None);
        let outbound = sa(before.outbound[0].id, Some(0x4846_0001));
        let now = Instant::now();
        // The link has another address by now.
        let mut after = tunnel(spec(Some("198.51.100.2")));
        let Device::Gre(gre) = &mut after.device else { panic!() };
        gre.spec.local = Some([198, 51, 100, 3].into());
        let foreign = SaInfo { reqid: number(3), ..outbound };
        after.inherit(&[inbound, outbound, foreign], &policies, now + Duration::from_secs(60));
        assert_eq!((after.inherited.inbound.len(), after.inherited.outbound.len()), (1, 1));
        assert_eq!(aim(&after).local, Some([198, 51, 100, 2].into()));
        let kept = settle(&mut after);
        assert_eq!(kept.iter().filter(|line| line.contains("of 47000002")).count(), 2, "{kept:?}");
        after.inherited.end(None);
        assert_eq!(aim(&after).local, Some([198, 51, 100, 3].into()));
        assert!(settle(&mut after).iter().all(|line| line.ends_with("block")));
    }
}
