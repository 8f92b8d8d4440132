//! The same two sites and ISPs with what is used today instead of our daemons: FRR's bgpd, bfdd and zebra over strongSwan.
//!
//! A site has a charon for each tunnel, with kernel-libipsec, so that each tunnel is an interface: `ipsec0` over the first WAN and
//! `ipsec1` over the second. BGP and BFD are as in the example's configuration, in FRR's words.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::fault::{Batch, CUT, SILENCE, UNSILENCE, uncut};
use super::trial::{AFTERWARDS, BASELINE, LASTING, PATIENCE, SETTLING, milliseconds};
use super::{Fault, HOST_A, NEIGHBORS_OF_A, NEIGHBORS_OF_B, Outcome, TwoIsp};
use crate::capture::Capture;
use crate::clock;
use crate::lab::Lab;
use crate::node::Node;
use crate::packages;
use crate::peers::{Connection, Frr, SECOND_PORT, Secret, StrongSwan};
use crate::probe::Flow;

/// The interfaces of the first and the second tunnel.
const DEVICES: [&str; 2] = ["ipsec0", "ipsec1"];

/// The scenario with FRR and strongSwan, running.
#[derive(Debug)]
pub struct Rival<'lab> {
    // Dropped in this order: what runs before the nodes that it runs in.
    frr: [Frr; 2],
    /// Of site A and of site B, for each tunnel.
    swans: [[StrongSwan; 2]; 2],
    scenario: TwoIsp<'lab>,
}

/// What one site has.
struct Site<'a> {
    node: &'a Node,
    name: &'a str,
    peer: &'a str,
    /// The last octets of its address on a WAN, of the other's and of its router there.
    wan: (u8, u8, u8),
    /// The last octet of its address in a tunnel.
    inside: u8,
    asn: u32,
    peer_asn: u32,
    neighbors: [&'a str; 2],
    network: &'a str,
    /// A neighbor behind the site, with its AS.
    core: Option<(IpAddr, u32)>,
}

impl<'lab> Rival<'lab> {
    /// Starts FRR and strongSwan in the nodes of a scenario in which none of our daemons runs.
    pub fn start(lab: &'lab Lab, scenario: TwoIsp<'lab>) -> Result<Self> {
        packages::ensure(&packages::PEERS)?;
        let a = Site {
            node: &scenario.a.node,
            name: "a.example.net",
            peer: "b.example.net",
            wan: (2, 6, 1),
            inside: 1,
            asn: 65_001,
            peer_asn: 65_002,
            neighbors: NEIGHBORS_OF_A,
            network: "10.1.0.0/24",
            core: None,
        };
        let b = Site {
            node: &scenario.b.node,
            name: "b.example.net",
            peer: "a.example.net",
            wan: (6, 2, 5),
            inside: 2,
            asn: 65_002,
            peer_asn: 65_001,
            neighbors: NEIGHBORS_OF_B,
            network: "10.2.0.0/24",
            core: Some((super::HOST_B.into(), super::CORE_ASN)),
        };
        let swans = [a.tunnels(lab)?, b.tunnels(lab)?];
        for swan in &swans[0] {
            swan.initiate()?;
        }
        let frr = [a.frr()?, b.frr()?];
        Ok(Self { frr, swans, scenario })
    }

    /// Lets site B's core router announce so many prefixes.
    pub fn feed(&mut self, routes: usize) -> Result<()> {
        self.scenario.feed(routes)
    }

    /// Waits until all routes have arrived over both sessions and traffic takes the first tunnel.
    pub fn wait_converged(&mut self) -> Result<()> {
        let limit = Duration::from_secs(120 + self.scenario.routes as u64 / 1_000);
        self.watch(limit, Self::is_restored).context("FRR and strongSwan do not converge")
    }

    fn is_restored(&self) -> Result<bool> {
        for neighbor in NEIGHBORS_OF_A {
            let answer = self.frr[0].json(&format!("show bgp neighbors {neighbor} json"))?;
            let told = answer.pointer(&format!("/{neighbor}/addressFamilyInfo/ipv4Unicast/acceptedPrefixCounter"));
            let state = answer.pointer(&format!("/{neighbor}/bgpState"));
            ensure!(
                told.and_then(serde_json::Value::as_u64) > Some(self.scenario.routes as u64),
                "{neighbor} is {state:?} and has told {told:?} routes; tunnels: {:?}",
                self.swans.each_ref().map(|site| site.each_ref().map(|swan| swan.sas()))
            );
            ensure!(self.frr[0].bfd_is_up(neighbor)?, "BFD with {neighbor} is down");
        }
        Ok(self.egress() == [Some(DEVICES[0].to_owned()), Some(DEVICES[0].to_owned())])
    }

    fn egress(&self) -> [Option<String>; 2] {
        let scenario = &self.scenario;
        [scenario.a.node.egress(scenario.probed()), scenario.b.node.egress(HOST_A.into())]
    }

    /// Asks until it is so; errors mean "not yet".
    fn watch(&self, limit: Duration, mut so: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let last = so(self);
            if matches!(last, Ok(true)) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "not within {limit:?}: {last:?}, egress {:?}", self.egress());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Runs one trial of a fault, as [`TwoIsp::trial`] does, and measures what the hosts see of it.
    pub fn trial(&mut self, fault: Fault) -> Result<Outcome> {
        let isps = [&self.scenario.isp1, &self.scenario.isp2];
        let captures = isps.map(|isp| Capture::start(isp, |packet| !packet.outgoing));
        let mut batch = Batch::start(&self.scenario.isp1)?;
        let probe = self.scenario.probe()?;
        std::thread::sleep(SETTLING);
        self.wait_converged()?;
        std::thread::sleep(BASELINE);
        let struck = clock::monotonic_ns();
        match fault {
            Fault::Cut => batch.write(CUT)?,
            Fault::Silent => batch.write(SILENCE)?,
            Fault::Sa => self.swans[1][0].swanctl("--terminate --ike net").map(drop)?,
            Fault::Session => self.frr[1].vtysh(&format!("clear bgp {}", NEIGHBORS_OF_B[0])).map(drop)?,
        }
        if fault.lasts() {
            let second = Some(DEVICES[1].to_owned());
            self.watch(PATIENCE, |rival| Ok(rival.egress() == [second.clone(), second.clone()]))
                .with_context(|| format!("after: {}", fault.story()))?;
        }
        std::thread::sleep(LASTING);
        let mended = clock::monotonic_ns();
        match fault {
            Fault::Cut => batch.write(&uncut())?,
            Fault::Silent => batch.write(UNSILENCE)?,
            Fault::Sa => self.swans[0][0].initiate().map(drop)?,
            Fault::Session => {}
        }
        self.wait_converged()?;
        std::thread::sleep(AFTERWARDS);
        let end = clock::monotonic_ns();
        let flows = probe.finish()?;
        let clearness = self.scenario.clearness()?;
        let mut cleartext_packets = 0;
        for capture in captures {
            cleartext_packets += clearness.findings(&capture?.finish()?).len();
        }
        let both = |measure: &dyn Fn(&Flow) -> i64| measure(&flows.forth).max(measure(&flows.back));
        let lost = |from: i64, to: i64| flows.forth.lost(from, to) + flows.back.lost(from, to);
        // A packet that was on its way when the fault struck belongs to the fault.
        let from = struck - 20_000_000;
        Ok(Outcome {
            routes: self.scenario.routes,
            fault,
            detect_ms: None,
            fib_switch_ms: None,
            outage_ms: milliseconds(both(&|flow| flow.outage_ns(from, mended))),
            lost_packets: lost(from, mended),
            cleartext_packets,
            restored: true,
            restore_lost_packets: lost(mended, end),
        })
    }
}

impl Site<'_> {
    /// A charon for each tunnel, and the addresses and routes of a gateway whose tunnels are interfaces.
    fn tunnels(&self, lab: &Lab) -> Result<[StrongSwan; 2]> {
        let (own, other, router) = self.wan;
        let connection = |net: &str, more: String| Connection {
            local: format!("{net}.{own}"),
            remote: format!("{net}.{other}"),
            local_id: self.name.to_owned(),
            remote_id: self.peer.to_owned(),
            selectors: ("0.0.0.0/0".to_owned(), "0.0.0.0/0".to_owned()),
            ike: "aes256gcm16-prfsha384-ecp384".to_owned(),
            esp: "aes256gcm16".to_owned(),
            secret: Secret::Psk("a key for both".to_owned()),
            more: format!("mobike = no\n  {more}"),
            more_child: String::new(),
        };
        // The WANs' far ends are reached by their own routers, whatever the default route says.
        let far = u8::from(other > 4) * 4;
        for net in ["198.51.100", "203.0.113"] {
            self.node.ip(&format!("route add {net}.{far}/30 via {net}.{router}"))?;
        }
        // charon has a table of its own, which sends everything into the tunnel; this router goes by what BGP says.
        self.node.ip("rule add pref 100 lookup main")?;
        let ports = format!("local_port = {SECOND_PORT}\n  remote_port = {SECOND_PORT}");
        let first = StrongSwan::start_route_based(self.node, &connection("198.51.100", String::new()))?;
        self.device(lab, 0)?;
        let second = StrongSwan::start_second_route_based(self.node, &connection("203.0.113", ports))?;
        self.device(lab, 1)?;
        Ok([first, second])
    }

    fn device(&self, lab: &Lab, number: usize) -> Result<()> {
        let device = DEVICES[number];
        lab.wait_for(&format!("{device} at {}", self.name), PATIENCE, || {
            Ok(self.node.ip(&format!("link show {device}")).is_ok())
        })?;
        let inside = format!("169.254.{}.{}/30", number + 1, self.inside);
        self.node.ip_batch(&format!("link set {device} up\naddress add {inside} dev {device}"))
    }

    fn frr(&self) -> Result<Frr> {
        let Self { asn, peer_asn, network, neighbors: [first, second], .. } = self;
        let core =
            self.core.map_or_else(String::new, |(address, asn)| format!(" neighbor {address} remote-as {asn}\n"));
        let neighbor = |address: &str| {
            format!(
                " neighbor {address} remote-as {peer_asn}\n neighbor {address} bfd profile fast\n \
                 neighbor {address} timers connect 1\n"
            )
        };
        // Every daemon reads the whole file and passes over what is not its own, but for `exit`, which it takes for its own end.
        let config = format!(
            "bfd\n profile fast\n  transmit-interval 10\n  receive-interval 10\n  detect-multiplier 3\n\
             route-map FIRST-CHOICE permit 10\n set local-preference 200\n\
             router bgp {asn}\n bgp router-id 10.{}.0.1\n no bgp ebgp-requires-policy\n no bgp network import-check\n{}{}{core} \
             address-family ipv4 unicast\n  network {network}\n  neighbor {first} route-map FIRST-CHOICE in\n exit-address-family\n",
            self.inside,
            neighbor(first),
            neighbor(second)
        );
        Frr::start(self.node, &["bfdd", "bgpd"], &config)
    }
}
