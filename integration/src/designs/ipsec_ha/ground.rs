//! What two routers with one tunnel address stand on: their LAN and their WAN, the Internet, two spokes, hosts.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;

use super::super::{PATIENCE, Story, ground::router};
use crate::edge::{Binaries, Edge};
use crate::kernel;
use crate::lab::Lab;
use crate::lan::Lan;
use crate::node::Node;
use crate::packages;
use crate::peers::{Connection, Secret, StrongSwan};
use crate::pki::{Authority, CredentialFiles, KeyKind, Validity};
use crate::probe::{PORT, Probe};

/// The routers' nodes.
pub(super) const ROUTERS: [&str; 2] = ["router-a", "router-b"];
/// Of a router.
pub(super) const LINKS: [&str; 2] = ["wan0", "lan0"];
/// What the spokes call headquarters.
pub(super) const SHARED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 4);
/// What hosts of headquarters have for a gateway.
pub(super) const GATEWAY: &str = "10.1.0.1";
/// A host of headquarters, and one behind each spoke.
pub(super) const HOSTS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 1, 0, 10), Ipv4Addr::new(10, 2, 0, 10), Ipv4Addr::new(10, 3, 0, 10)];
/// The spokes: name, outer address, prefix.
pub(super) const SPOKES: [(&str, &str, &str); 2] =
    [("spoke1", "203.0.113.2", "10.2.0.0/24"), ("spoke2", "203.0.113.6", "10.3.0.0/24")];
const SPOKE1: &str = include_str!("../../../../examples/ipsec-ha/spoke1.conf");

/// All but what runs on the routers.
pub(super) struct Ground<'lab> {
    pub(super) lab: &'lab Lab,
    pub(super) routers: [Node; 2],
    /// What both routers are known by.
    pub(super) identity: [CredentialFiles; 2],
    pub(super) spoke1: Edge,
    pub(super) spoke2: StrongSwan,
    pub(super) hosts: [Node; 3],
    pub(super) wan: Lan<'lab>,
    pub(super) internet: Node,
}

impl<'lab> Ground<'lab> {
    /// With strongSwan running at the second spoke, and nothing at the first.
    pub(super) fn build(lab: &'lab Lab, binaries: &Binaries) -> Result<Self> {
        packages::ensure(&packages::PEERS)?;
        let node = |name: &str| router(lab, name);
        let (internet, authority) = (node("inet")?, Authority::new("IPsec HA CA")?);
        let issue = |name: &str| authority.issue(&format!("{name}.example.net"), KeyKind::EcdsaP256, Validity::Current);
        let (wan, lan) = (Lan::new(lab, "wan")?, Lan::new(lab, "lan")?);
        wan.plug(&internet, "hq", "198.51.100.1/29")?;
        let routers = [node(ROUTERS[0])?, node(ROUTERS[1])?];
        for (n, router) in (2..).zip(&routers) {
            wan.plug(router, "wan0", &format!("198.51.100.{n}/29"))?;
            lan.plug(router, "lan0", &format!("10.1.0.{n}/24"))?;
            // Whatever is not sealed finds its way out: nothing but the routers' own care keeps it in.
            router.route("default via 198.51.100.1")?;
        }
        let hq = issue("hq")?;
        let identity = |router: &Node| hq.write(router.folder(), "hq", &authority);
        let identity = [identity(&routers[0])?, identity(&routers[1])?];
        let hosts = [lab.node("h1")?, lab.node("h2")?, lab.node("h3")?];
        lan.plug(&hosts[0], "lan0", &format!("{}/24", HOSTS[0]))?;
        hosts[0].route(&format!("default via {GATEWAY}"))?;
        let spokes = [node("spoke1")?, node("spoke2")?];
        for (n, spoke) in spokes.iter().enumerate() {
            let (ours, gateway) = (4 * n + 2, 4 * n + 1);
            lab.join((spoke, "wan0"), (&internet, spoke.name()))?;
            internet.address(spoke.name(), &format!("203.0.113.{gateway}/30"))?;
            spoke.address("wan0", &format!("203.0.113.{ours}/30"))?;
            lab.join((&hosts[n + 1], "lan0"), (spoke, "lan0"))?;
            spoke.address("lan0", &format!("10.{}.0.1/24", n + 2))?;
            hosts[n + 1].address("lan0", &format!("{}/24", HOSTS[n + 1]))?;
            hosts[n + 1].route(&format!("default via 10.{}.0.1", n + 2))?;
        }
        internet.ip_batch(
            "route add 10.1.0.0/24 via 198.51.100.2\nroute add 10.2.0.0/24 via 203.0.113.2\nroute add 10.3.0.0/24 via 203.0.113.6",
        )?;
        spokes[0].route("default via 203.0.113.1")?;
        issue("spoke1")?.write(spokes[0].folder(), "spoke1", &authority)?;
        let spoke1 = Edge::new(&spokes[0], binaries, &kernel::fitted(SPOKE1))?;
        // What strongSwan does with packets that no policy holds is not ours to show.
        spokes[1].route("198.51.100.0/29 via 203.0.113.5")?;
        let files = issue("spoke2")?.write(spokes[1].folder(), "spoke2", &authority)?;
        let ends = [SPOKES[1].1.to_owned(), SHARED.to_string()];
        let names = ["spoke2", "hq"];
        let spoke2 = policy_based(ends, names, ["10.3.0.0/24", "10.1.0.0/24"], files);
        let spoke2 = StrongSwan::start(&spokes[1], &spoke2)?;
        Ok(Self { lab, routers, identity, spoke1, spoke2, hosts, wan, internet })
    }

    /// Traffic with both spokes.
    pub(super) fn probes(&self) -> Result<[Probe; 2]> {
        let probe = |n: usize, port: u16| {
            let at = |host: usize| SocketAddr::from((HOSTS[host], port));
            Probe::start((&self.hosts[0], at(0)), (&self.hosts[n], at(n)))
        };
        let probes = [probe(1, PORT)?, probe(2, PORT + 1)?];
        self.some_traffic(&probes, 200)?;
        Ok(probes)
    }

    /// Waits until `count` more packets have come both ways, of both spokes; as many fewer as the machine sends in the time.
    pub(super) fn some_traffic(&self, probes: &[Probe; 2], count: u64) -> Result<()> {
        let count = count / u64::from(kernel::slowness());
        let received = |probe: &Probe| probe.counts().map(|(_, received)| received);
        let before = probes.each_ref().map(received);
        self.lab.wait_for("traffic with both spokes", PATIENCE, || {
            let now = probes.each_ref().map(received);
            Ok(now.iter().flatten().zip(before.iter().flatten()).all(|(now, before)| *now >= before + count))
        })
    }

    /// Lets more packets pass; tells how long the spokes were away.
    pub(super) fn tell_outage(&self, story: &mut Story<'_>, what: &str, probes: [Probe; 2]) -> Result<()> {
        self.some_traffic(&probes, 500)?;
        for ((spoke, ..), probe) in SPOKES.iter().zip(probes) {
            story.outage(&format!("{what}, to {spoke}"), &probe.finish()?);
        }
        Ok(())
    }
}

/// A strongSwan's connection whose child is a policy, as `swanctl.conf` of the example has it. Ours comes first.
pub(super) fn policy_based(
    [local, remote]: [String; 2],
    [local_name, remote_name]: [&str; 2],
    [local_prefix, remote_prefix]: [&str; 2],
    files: CredentialFiles,
) -> Connection {
    Connection {
        local,
        remote,
        local_id: format!("{local_name}.example.net"),
        remote_id: format!("{remote_name}.example.net"),
        selectors: (local_prefix.to_owned(), remote_prefix.to_owned()),
        ike: "aes256gcm16-prfsha384-ecp384".to_owned(),
        esp: "aes256gcm16".to_owned(),
        secret: Secret::Certificate(files),
        more: String::new(),
        more_child: String::new(),
    }
}
