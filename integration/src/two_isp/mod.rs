//! The scenario of `examples/two-isp`: two sites, two WANs, a tunnel over each, a host behind each site.
//!
//! ```text
//!            ┌────── isp1 ──────┐
//! ha ──── a ─┤                  ├─ b ──── hb     tun1 runs over isp1, tun2 over isp2; tun1 is preferred.
//!            └────── isp2 ──────┘
//! ```
//!
//! The edges have default routes to the ISPs, and the ISPs know where the sites are: a packet that leaves an edge
//! unsealed arrives, so nothing but the edges' own care keeps it from doing so.

mod fault;
mod rival;
mod trial;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::capture::{Capture, Clearness};
use crate::edge::{Binaries, Edge};
use crate::feeder::{Feeder, Plan};
use crate::kernel;
use crate::lab::Lab;
use crate::node::Node;
use crate::pki::{Authority, KeyKind, Validity};
use crate::{prefixes, probe};

pub use fault::{Armed, Fault};
pub use rival::Rival;
pub use trial::{Arrival, Moment, Outcome, Trial, Way};

/// The configuration of site A, as an operator would install it.
pub const SITE_A: &str = include_str!("../../../examples/two-isp/site-a.conf");
/// The configuration of site B.
pub const SITE_B: &str = include_str!("../../../examples/two-isp/site-b.conf");

/// Site A's configuration, [fitted](kernel::fitted) to this machine.
pub fn site_a() -> String {
    kernel::fitted(SITE_A)
}

/// Site B's, likewise.
pub fn site_b() -> String {
    kernel::fitted(SITE_B)
}

/// The host behind site A.
pub const HOST_A: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 10);
/// The host behind site B; also its core router.
pub const HOST_B: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 10);
/// Site B as site A's neighbor, over tun1 and tun2.
pub const NEIGHBORS_OF_A: [&str; 2] = ["169.254.1.2", "169.254.2.2"];
/// Site A as site B's neighbor, over tun1 and tun2.
pub const NEIGHBORS_OF_B: [&str; 2] = ["169.254.1.1", "169.254.2.1"];
/// The AS of site B's core router.
const CORE_ASN: u32 = 65100;

/// The scenario, running.
#[derive(Debug)]
pub struct TwoIsp<'lab> {
    /// The lab it lives in.
    pub lab: &'lab Lab,
    /// The host behind site A.
    pub ha: Node,
    /// The edge of site A.
    pub a: Edge,
    /// The first WAN.
    pub isp1: Node,
    /// The second WAN.
    pub isp2: Node,
    /// The edge of site B.
    pub b: Edge,
    /// The host behind site B.
    pub hb: Node,
    /// How many prefixes the core router announces.
    pub routes: usize,
    feeder: Option<Feeder>,
    probed: Ipv4Addr,
}

impl<'lab> TwoIsp<'lab> {
    /// Builds nodes, links, keys and configurations; nothing of ours runs yet.
    pub fn build(lab: &'lab Lab, binaries: &Binaries) -> Result<Self> {
        Self::build_with(lab, binaries, &site_a(), &site_b())
    }

    /// Like [`Self::build`], with other configurations for the sites.
    pub fn build_with(lab: &'lab Lab, binaries: &Binaries, site_a: &str, site_b: &str) -> Result<Self> {
        let node = |name: &str| -> Result<Node> {
            let node = lab.node(name)?;
            for family in ["all", "default"] {
                node.sysctl(&format!("net.ipv4.conf.{family}.rp_filter"), "0")?;
                node.sysctl(&format!("net.ipv6.conf.{family}.accept_dad"), "0")?;
            }
            Ok(node)
        };
        let (ha, a, isp1) = (node("ha")?, node("a")?, node("isp1")?);
        let (isp2, b, hb) = (node("isp2")?, node("b")?, node("hb")?);
        for router in [&a, &isp1, &isp2, &b] {
            router.forward()?;
        }
        lab.join((&ha, "lan0"), (&a, "lan0"))?;
        lab.join((&hb, "lan0"), (&b, "lan0"))?;
        for (edge, port) in [(&a, "to-a"), (&b, "to-b")] {
            lab.join((edge, "wan1"), (&isp1, port))?;
            lab.join((edge, "wan2"), (&isp2, port))?;
        }
        ha.ip_batch("address add 10.1.0.10/24 dev lan0\nroute add default via 10.1.0.1")?;
        hb.ip_batch("address add 10.2.0.10/24 dev lan0\nroute add default via 10.2.0.1")?;
        a.ip_batch(
            "address add 10.1.0.1/24 dev lan0\naddress add 198.51.100.2/30 dev wan1\naddress add 203.0.113.2/30 dev wan2\n\
             route add default via 198.51.100.1 metric 100\nroute add default via 203.0.113.1 metric 200",
        )?;
        b.ip_batch(
            "address add 10.2.0.1/24 dev lan0\naddress add 198.51.100.6/30 dev wan1\naddress add 203.0.113.6/30 dev wan2\n\
             route add default via 198.51.100.5 metric 100\nroute add default via 203.0.113.5 metric 200",
        )?;
        for (isp, net) in [(&isp1, "198.51.100"), (&isp2, "203.0.113")] {
            isp.ip_batch(&format!("address add {net}.1/30 dev to-a\naddress add {net}.5/30 dev to-b"))?;
            isp.ip_batch(&site_routes(net))?;
        }
        let authority = Authority::new("Two ISPs CA")?;
        for (node, name) in [(&a, "a"), (&b, "b")] {
            let credential = authority.issue(&format!("{name}.example.net"), KeyKind::EcdsaP256, Validity::Current)?;
            credential.write(node.folder(), &format!("site-{name}"), &authority)?;
        }
        let a = Edge::new(&a, binaries, site_a)?;
        // One of them as somebody would start it who tries things out.
        let b = Edge::new(&b, binaries, site_b)?.with_relative_paths();
        Ok(Self { lab, ha, a, isp1, isp2, b, hb, routes: 0, feeder: None, probed: HOST_B })
    }

    /// Starts the daemons of both sites.
    pub fn start(&mut self) -> Result<()> {
        self.a.start()?;
        self.b.start()
    }

    /// Lets site B's core router announce so many prefixes.
    ///
    /// Host B takes an address out of the last of them, and traffic goes there: the route that a router which moves its
    /// routes one by one would move last.
    pub fn feed(&mut self, routes: usize) -> Result<()> {
        self.feeder = None;
        self.routes = routes;
        let table = prefixes::take(routes)?;
        if let Some(last) = table.last() {
            let inside = u32::from(last.prefix.network()) + u32::from(last.prefix.prefix_len() < 32);
            self.probed = Ipv4Addr::from(inside);
            self.hb.ip(&format!("address replace {}/32 dev lo", self.probed))?;
            let peer = SocketAddr::from(([10, 2, 0, 1], 179));
            self.feeder = Some(Feeder::start(&self.hb, Plan { asn: CORE_ASN, address: HOST_B, peer, table })?);
        }
        Ok(())
    }

    /// The address at site B that traffic goes to.
    pub fn probed(&self) -> IpAddr {
        self.probed.into()
    }

    /// Waits until both tunnels and sessions are up, all routes have arrived over both and traffic takes the first.
    pub fn wait_converged(&mut self) -> Result<()> {
        let limit = Duration::from_secs(60 + self.routes as u64 / 4_000);
        let lab = self.lab;
        lab.wait_for("both tunnels at both sites", limit, || {
            self.must_run()?;
            let sites = [&self.a, &self.b];
            let up = |edge: &&Edge| {
                ["tun1", "tun2"].iter().try_fold(true, |up, tunnel| {
                    Ok::<bool, anyhow::Error>(up && edge.tunnel_state(tunnel)?.starts_with("up"))
                })
            };
            sites.iter().map(up).try_fold(true, |all, up| Ok(all && up?))
        })?;
        for (edge, tunnel) in [(&self.a, "tun1"), (&self.a, "tun2"), (&self.b, "tun1"), (&self.b, "tun2")] {
            edge.must_have_the_labs_datapath(tunnel)?;
        }
        lab.wait_for("every route over both sessions", limit, || {
            self.must_run()?;
            if let Some(feeder) = &self.feeder {
                let told = feeder.announced();
                ensure!(told == self.routes, "site B was told {told} of {}: {}", self.routes, feeder.last_error());
            }
            self.has_all_routes()
        })?;
        lab.wait_for("traffic on tun1", Duration::from_secs(60), || {
            Ok(self.egress() == (Some("tun1".into()), Some("tun1".into())))
        })?;
        lab.wait_for("an answer from host to host", Duration::from_secs(20), || {
            self.ha.ping(self.probed(), 2).map(|()| true)
        })
    }

    /// Whether every session is up and site A has every route from each.
    pub fn has_all_routes(&self) -> Result<bool> {
        for neighbor in NEIGHBORS_OF_B {
            ensure!(self.b.is_established(neighbor)?, "site B: session with {neighbor} is not up");
        }
        for neighbor in NEIGHBORS_OF_A {
            let count = self.a.prefixes_from(neighbor)?;
            ensure!(
                count > self.routes as u64,
                "site A: {count} prefixes from {neighbor}, expected {}",
                self.routes + 1
            );
        }
        Ok(true)
    }

    /// By which interface the kernels of site A and of site B would send the hosts' traffic.
    pub fn egress(&self) -> (Option<String>, Option<String>) {
        (self.a.node.egress(self.probed()), self.b.node.egress(HOST_A.into()))
    }

    /// Fails when one of our daemons is gone.
    pub fn must_run(&mut self) -> Result<()> {
        self.a.must_run()?;
        self.b.must_run()
    }

    /// What on the WANs counts as being in the clear.
    pub fn clearness(&self) -> Result<Clearness> {
        let transport = vec!["198.51.100.0/24".parse()?, "203.0.113.0/24".parse()?];
        Ok(Clearness { transport, secret: probe::MAGIC.to_vec() })
    }

    /// Captures what comes into both ISPs.
    pub fn watch_wans(&self) -> Result<[Capture; 2]> {
        let watch = |isp| Capture::start(isp, |packet| !packet.outgoing);
        Ok([watch(&self.isp1)?, watch(&self.isp2)?])
    }

    /// Fails if anything was in the clear.
    pub fn must_have_been_sealed(&self, captures: [Capture; 2]) -> Result<()> {
        let clearness = self.clearness()?;
        for capture in captures {
            let leaks = clearness.findings(&capture.finish()?);
            ensure!(leaks.is_empty(), "{} packets in the clear, the first: {}", leaks.len(), leaks[0]);
        }
        Ok(())
    }

    /// Starts the exchange of probes between the hosts.
    pub fn probe(&self) -> Result<probe::Probe> {
        let first = SocketAddr::from((HOST_A, probe::PORT));
        let second = SocketAddr::from((self.probed, probe::PORT));
        probe::Probe::start((&self.ha, first), (&self.hb, second)).context("cannot start to probe")
    }
}

/// How an ISP reaches the sites' own networks: it would carry what leaks.
fn site_routes(net: &str) -> String {
    format!(
        "route replace 10.1.0.0/16 via {net}.2\nroute replace 10.2.0.0/16 via {net}.6\nroute replace default via {net}.6\n"
    )
}
