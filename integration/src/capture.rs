//! Captures: what crosses a node, seen by the kernel rather than by the programs under test.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use serde_json::Value;
use sys::packet::PacketTap;

use crate::node::Node;
use crate::packet::Packet;
use crate::peers::SECOND_PORT;

/// How much of a packet is kept: its headers and the beginning of what they carry.
const KEPT_OCTETS: usize = 160;
/// Seconds of traffic: on a busy machine the reader may not run for a while.
const BUFFER_OCTETS: usize = 64 << 20;
/// How often the reader looks. It is not woken for each packet: that would disturb what is measured, and the times are
/// the kernel's anyway.
const LOOK: Duration = Duration::from_millis(5);

/// A running capture of all interfaces of a node.
#[derive(Debug)]
pub struct Capture {
    node: Node,
    stop: Arc<AtomicBool>,
    reader: JoinHandle<Result<Vec<Packet>>>,
    interfaces: BTreeMap<u32, String>,
}

/// What a capture saw.
#[derive(Debug, Default)]
pub struct Captured {
    /// The packets in the order the kernel saw them.
    pub packets: Vec<Packet>,
    /// Interface names by index, of all that existed when the capture began or ended.
    pub interfaces: BTreeMap<u32, String>,
}

impl Capture {
    /// Begins to capture all packets of a node for which `keep` holds.
    pub fn start(node: &Node, keep: impl Fn(&Packet) -> bool + Send + 'static) -> Result<Self> {
        let tap = node.enter(|| PacketTap::open(BUFFER_OCTETS))?;
        let tap = tap.with_context(|| format!("cannot capture in {}", node.name()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let reader = std::thread::Builder::new().name("capture".into()).spawn(move || read(&tap, &told, keep))?;
        Ok(Self { node: node.clone(), stop, reader, interfaces: interfaces(node)? })
    }

    /// Ends the capture; what the kernel saw until now is part of it.
    pub fn finish(mut self) -> Result<Captured> {
        self.interfaces.append(&mut interfaces(&self.node)?);
        self.stop.store(true, Ordering::Relaxed);
        let packets = self.reader.join().ok().context("the capturing thread failed")?;
        let packets = packets.with_context(|| format!("the capture in {}", self.node.name()))?;
        Ok(Captured { packets, interfaces: self.interfaces })
    }
}

fn read(tap: &PacketTap, stop: &AtomicBool, keep: impl Fn(&Packet) -> bool) -> Result<Vec<Packet>> {
    let mut packets = Vec::new();
    let mut buffer = [0; KEPT_OCTETS];
    loop {
        // Asked before the queue is emptied, so that nothing older than the wish to stop is left in it.
        let last = stop.load(Ordering::Relaxed);
        while let Some(tapped) = tap.next(&mut buffer)? {
            let bytes = buffer.get(..tapped.length).unwrap_or_default().to_vec();
            let packet = Packet {
                at_ns: tapped.at_ns,
                ifindex: tapped.ifindex,
                protocol: tapped.protocol,
                outgoing: tapped.outgoing,
                bytes,
            };
            if keep(&packet) {
                packets.push(packet);
            }
        }
        if last {
            break;
        }
        std::thread::sleep(LOOK);
    }
    match tap.dropped()? {
        0 => Ok(packets),
        dropped => bail!("lost {dropped} packets: its verdict would be worth nothing"),
    }
}

impl Captured {
    /// The name of the interface a packet was seen on.
    pub fn interface(&self, packet: &Packet) -> &str {
        self.interfaces.get(&packet.ifindex).map_or("?", String::as_str)
    }
}

fn interfaces(node: &Node) -> Result<BTreeMap<u32, String>> {
    let links = node.run_json(&["ip", "-j", "link"])?;
    let name_of = |link: &Value| {
        let index = u32::try_from(link.get("ifindex")?.as_u64()?).ok()?;
        Some((index, link.get("ifname")?.as_str()?.to_owned()))
    };
    Ok(links.as_array().into_iter().flatten().filter_map(name_of).collect())
}

/// Decides what on a WAN is in the clear.
#[derive(Clone, Debug)]
pub struct Clearness {
    /// The addresses that the WANs themselves use.
    pub transport: Vec<IpNet>,
    /// Octets that only ever travel inside tunnels.
    pub secret: Vec<u8>,
}

/// What a packet on a WAN is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// ESP, IKE, or what a link needs to live (ARP, neighbour discovery, group membership, VRRP, ICMP between routers).
    Proper,
    /// Something that should have been in a tunnel.
    Clear,
}

impl Clearness {
    /// Judges one packet.
    pub fn nature(&self, packet: &Packet) -> Nature {
        if !self.secret.is_empty() && packet.bytes.windows(self.secret.len()).any(|octets| octets == self.secret) {
            return Nature::Clear;
        }
        let Some(header) = packet.header() else { return Nature::Proper };
        if !self.is_transport(header.source) || !self.is_transport(header.destination) {
            return Nature::Clear;
        }
        match header.protocol {
            0 | 1 | 2 | 50 | 58 | 112 => Nature::Proper, // hop-by-hop (MLD), ICMP, IGMP, ESP, ICMPv6, VRRP
            17 => match packet.udp_ports() {
                Some((500 | 4500 | SECOND_PORT, _) | (_, 500 | 4500 | SECOND_PORT)) => Nature::Proper,
                _ => Nature::Clear,
            },
            _ => Nature::Clear,
        }
    }

    fn is_transport(&self, address: IpAddr) -> bool {
        let link_local = match address {
            IpAddr::V4(address) => address.is_multicast() || address.is_unspecified(),
            IpAddr::V6(address) => {
                address.is_multicast() || address.is_unspecified() || (address.segments()[0] & 0xffc0) == 0xfe80
            }
        };
        link_local || self.transport.iter().any(|net| net.contains(&address))
    }

    /// The packets in the clear, each spelled for people: where it was seen, from whom, to whom.
    pub fn findings(&self, captured: &Captured) -> Vec<String> {
        let clear = captured.packets.iter().filter(|packet| self.nature(packet) == Nature::Clear);
        clear
            .map(|packet| match packet.header() {
                Some(header) => format!(
                    "{}: {} -> {} protocol {}",
                    captured.interface(packet),
                    header.source,
                    header.destination,
                    header.protocol
                ),
                None => format!("{}: EtherType {:#06x}", captured.interface(packet), packet.protocol),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(source: [u8; 4], destination: [u8; 4], port: u16, payload: &[u8]) -> Packet {
        let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
        bytes.extend(source);
        bytes.extend(destination);
        bytes.extend(port.to_be_bytes());
        bytes.extend(port.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        Packet { at_ns: 0, ifindex: 1, protocol: 0x0800, outgoing: false, bytes }
    }

    #[test]
    fn only_esp_ike_and_the_links_own_chatter_are_proper() -> Result<()> {
        let judge = Clearness { transport: vec!["198.51.100.0/24".parse()?], secret: b"SECRET".to_vec() };
        let (a, b) = ([198, 51, 100, 2], [198, 51, 100, 6]);
        assert_eq!(judge.nature(&udp(a, b, 4500, b"\0\0\0\x07sealed")), Nature::Proper);
        assert_eq!(judge.nature(&udp(a, b, 4500, b"\0\0\0\x07SECRET")), Nature::Clear, "sealed with nothing");
        assert_eq!(judge.nature(&udp(a, b, SECOND_PORT, b"\0\0\0\x07sealed")), Nature::Proper, "a second charon's");
        assert_eq!(judge.nature(&udp(a, b, 53, b"")), Nature::Clear);
        assert_eq!(judge.nature(&udp([10, 1, 0, 10], [10, 2, 0, 10], 4500, b"")), Nature::Clear, "inner addresses");
        Ok(())
    }
}
