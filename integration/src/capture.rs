//! Captures: what crosses a node, seen by the kernel rather than by the programs under test.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use rustix::process::Signal;
use serde_json::Value;

use crate::node::Node;
use crate::pcap::{self, Packet};
use crate::process::Process;

/// A running capture of all interfaces of a node.
#[derive(Debug)]
pub struct Capture {
    node: Node,
    process: Process,
    file: PathBuf,
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
    /// Begins to capture; returns once the kernel delivers packets.
    ///
    /// `filter` is in tcpdump's language, `octets` how much of each packet is kept.
    pub fn start(node: &Node, name: &str, filter: &str, octets: u32) -> Result<Self> {
        let file = node.folder().join(format!("{name}.pcap"));
        let path = file.to_str().context("a path that is not UTF-8")?;
        let octets = octets.to_string();
        // The buffer (KiB) holds seconds of traffic: on a busy machine tcpdump may not run for a while.
        let mut argv = vec!["tcpdump", "-i", "any", "-n", "-s", &octets, "-B", "16384", "-Z", "root"];
        argv.extend(["--nano", "-w", path]);
        if !filter.is_empty() {
            argv.push(filter);
        }
        let mut process = node.spawn(&format!("{name}-capture"), &argv)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while !process.log().contains("listening on") {
            process.must_run()?;
            if Instant::now() > deadline {
                bail!("tcpdump does not begin to listen: {}", process.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let interfaces = interfaces(node)?;
        Ok(Self { node: node.clone(), process, file, interfaces })
    }

    /// Ends captures and reads them.
    pub fn finish_all<const N: usize>(captures: [Self; N]) -> Result<[Captured; N]> {
        // The kernel hands packets over a block at a time, each at most a second after its first packet; tcpdump drops
        // what it was not given yet when it is told to end. Nothing tells from outside that the last block has come.
        std::thread::sleep(Duration::from_millis(1200));
        let read = captures.into_iter().map(Self::finish).collect::<Result<Vec<Captured>>>()?;
        read.try_into().map_err(|_| anyhow::anyhow!("a capture is missing"))
    }

    fn finish(mut self) -> Result<Captured> {
        self.interfaces.append(&mut interfaces(&self.node)?);
        self.process.signal(Signal::INT)?;
        self.process.wait(Duration::from_secs(10))?;
        if let Some(dropped) = dropped_by_kernel(&self.process.log()).filter(|count| *count > 0) {
            bail!("the capture in {} lost {dropped} packets: its verdict would be worth nothing", self.node.name());
        }
        let packets = pcap::parse(&std::fs::read(&self.file)?)?;
        Ok(Captured { packets, interfaces: self.interfaces })
    }
}

impl Captured {
    /// The name of the interface a packet was seen on.
    pub fn interface(&self, packet: &Packet) -> &str {
        self.interfaces.get(&packet.ifindex).map_or("?", String::as_str)
    }
}

fn dropped_by_kernel(log: &str) -> Option<u64> {
    log.lines().find(|line| line.ends_with("dropped by kernel"))?.split(' ').next()?.parse().ok()
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
    /// ESP, IKE, or what a link needs to live (ARP, neighbour discovery, group membership, ICMP between routers).
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
            0 | 1 | 2 | 50 | 58 => Nature::Proper, // hop-by-hop (MLD), ICMP, IGMP, ESP, ICMPv6
            17 => match packet.udp_ports() {
                Some((500 | 4500, _) | (_, 500 | 4500)) => Nature::Proper,
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
        assert_eq!(judge.nature(&udp(a, b, 53, b"")), Nature::Clear);
        assert_eq!(judge.nature(&udp([10, 1, 0, 10], [10, 2, 0, 10], 4500, b"")), Nature::Clear, "inner addresses");
        Ok(())
    }

    #[test]
    fn a_capture_that_lost_packets_is_noticed() {
        let log = "listening on any\n12 packets captured\n12 packets received by filter\n3 packets dropped by kernel\n";
        assert_eq!(dropped_by_kernel(log), Some(3));
    }
}
