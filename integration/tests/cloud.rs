//! The examples for cloud gateways, as they are, against strongSwan set up as a gateway's documents say, with FRR as its BGP.
//!
//! ```text
//! edge ──── isp ──┬── gateway1   198.51.100.2; 203.0.113.6 and 203.0.113.10; behind them 10.1.0.0/24 and 10.2.0.0/16
//!                 └── gateway2
//! ```

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::edge::{Binaries, Edge};
use integration::node::Node;
use integration::peers::{Connection, Frr, Secret, StrongSwan};
use integration::{Lab, packages, pki};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// What a gateway's documents say of one tunnel.
struct Terms {
    /// The tunnel's name in the example.
    tunnel: &'static str,
    ike: &'static str,
    esp: &'static str,
    /// AS of the gateway.
    asn: u32,
    /// Its address within the tunnel, with the length of its network, and ours.
    inside: (&'static str, &'static str),
    /// BGP's keepalive and hold time.
    timers: (u16, u16),
    /// What `swanctl --list-sas` shows of the child.
    shown: &'static str,
}

struct Gateway {
    terms: Terms,
    node: Node,
    ipsec: StrongSwan,
    bgp: Frr,
}

impl Gateway {
    /// The `number`th gateway, on its own link to the ISP.
    fn start(lab: &Lab, isp: &Node, number: u8, terms: Terms) -> Result<Self> {
        let node = lab.node(&format!("gateway{number}"))?;
        node.forward()?;
        let (ours, router) = (public(number), format!("203.0.113.{}", 4 * number + 1));
        let link = format!("to-gateway{number}");
        lab.join((&node, "wan1"), (isp, &link))?;
        isp.address(&link, &format!("{router}/30"))?;
        node.ip_batch(&format!(
            "address add {ours}/30 dev wan1\naddress add 10.2.0.1/16 dev lo\nroute add default via {router}"
        ))?;
        let connection = Connection {
            local: ours.clone(),
            remote: "198.51.100.2".to_owned(),
            local_id: ours,
            remote_id: "198.51.100.2".to_owned(),
            selectors: ("0.0.0.0/0".to_owned(), "0.0.0.0/0".to_owned()),
            ike: terms.ike.to_owned(),
            esp: terms.esp.to_owned(),
            secret: Secret::Psk(key(terms.tunnel)),
            more: "dpd_delay = 10s".to_owned(),
            more_child: String::new(),
        };
        let ipsec = StrongSwan::start_route_based(&node, &connection)?;
        lab.wait_for("the gateway's tunnel device", SECONDS(10), || Ok(node.ip("link show ipsec0").is_ok()))?;
        let (inside, neighbor) = terms.inside;
        node.ip_batch(&format!("link set ipsec0 up\naddress add {inside} dev ipsec0"))?;
        if node.ip(&format!("route get {neighbor}"))?.contains("wan1") {
            node.route(&format!("{neighbor}/32 dev ipsec0"))?;
        }
        let address = inside.split('/').next().unwrap_or(inside);
        let (keepalive, hold) = terms.timers;
        let bgp = format!(
            "router bgp {}\n bgp router-id {address}\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
             neighbor {neighbor} remote-as 65000\n neighbor {neighbor} timers {keepalive} {hold}\n \
             neighbor {neighbor} timers connect 2\n neighbor {neighbor} ebgp-multihop 2\n \
             neighbor {neighbor} update-source {address}\n \
             address-family ipv4 unicast\n  network 10.2.0.0/16\n exit-address-family\n",
            terms.asn
        );
        let bgp = Frr::start(&node, &["bgpd"], &bgp)?;
        Ok(Self { terms, node, ipsec, bgp })
    }

    fn neighbor(&self) -> &'static str {
        self.terms.inside.1
    }

    /// How often its session with us has been lost.
    fn losses(&self) -> Result<u64> {
        let answer = self.bgp.json(&format!("show bgp neighbors {} json", self.neighbor()))?;
        let dropped = answer.get(self.neighbor()).and_then(|neighbor| neighbor.get("connectionsDropped")?.as_u64());
        dropped.with_context(|| format!("no count of lost sessions: {answer}"))
    }
}

fn public(number: u8) -> String {
    format!("203.0.113.{}", 4 * number + 2)
}

fn key(tunnel: &str) -> String {
    format!("the key of {tunnel}")
}

/// Brings the example up, sees traffic go through and the gateway renew everything, and gives the parts back.
fn meets(lab: &Lab, example: &str, terms: Vec<Terms>) -> Result<(Edge, Node, Vec<Gateway>)> {
    packages::ensure(&packages::PEERS)?;
    let (edge, isp) = (lab.node("edge")?, lab.node("isp")?);
    edge.forward()?;
    isp.forward()?;
    lab.join((&edge, "eth0"), (&isp, "to-edge"))?;
    isp.address("to-edge", "198.51.100.1/30")?;
    edge.ip_batch(
        "address add 198.51.100.2/30 dev eth0\naddress add 10.1.0.1/24 dev lo\nroute add default via 198.51.100.1",
    )?;
    for terms in &terms {
        pki::write_secret(&edge.folder().join(format!("{}.psk", terms.tunnel)), &key(terms.tunnel))?;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(example).join("edge.conf");
    let mut ours = Edge::new(&edge, &Binaries::find()?, &std::fs::read_to_string(file)?)?;
    let numbered = (1u8..).zip(terms);
    let gateways =
        numbered.map(|(number, terms)| Gateway::start(lab, &isp, number, terms)).collect::<Result<Vec<_>>>()?;
    ours.start()?;
    for gateway in &gateways {
        let tunnel = gateway.terms.tunnel;
        lab.wait_for(&format!("tunnel {tunnel}"), SECONDS(40), || {
            ours.must_run()?;
            Ok(ours.tunnel_state(tunnel)?.starts_with("up"))
        })?;
        lab.wait_for("BGP at the gateway", SECONDS(60), || gateway.bgp.is_established(gateway.neighbor()))?;
        lab.wait_for("the gateway knows our network", SECONDS(30), || gateway.bgp.has_route("10.1.0.0/24"))?;
        let sas = gateway.ipsec.sas()?;
        ensure!(sas.contains(gateway.terms.shown), "{} expected: {sas}", gateway.terms.shown);
        ensure!(sas.matches("INSTALLED").count() == 1, "one child SA: {sas}");
    }
    lab.wait_for("traffic both ways", SECONDS(20), || Ok(ping(&edge, 3).is_ok()))?;
    for gateway in &gateways {
        for what in ["--child net", "--ike net", "--child net"] {
            gateway.ipsec.rekey(what)?;
            lab.wait_for("one SA of each kind is left", SECONDS(30), || {
                let sas = gateway.ipsec.sas()?;
                Ok((sas.matches("INSTALLED").count(), sas.matches("ESTABLISHED").count()) == (1, 1))
            })?;
            ping(&edge, 5)?;
        }
        ensure!(gateway.losses()? == 0, "BGP was lost while the gateway rekeyed");
    }
    Ok((ours, edge, gateways))
}

/// From our network to the cloud's; every packet has to come back.
fn ping(edge: &Node, count: u32) -> Result<()> {
    let output = edge.run(&[
        "ping",
        "-n",
        "-q",
        "-c",
        &count.to_string(),
        "-i",
        "0.2",
        "-W",
        "2",
        "-I",
        "10.1.0.1",
        "10.2.0.1",
    ])?;
    ensure!(output.contains(" 0% packet loss"), "{output}");
    Ok(())
}

fn aws(tunnel: &'static str, inside: (&'static str, &'static str)) -> Terms {
    let (ike, esp) = ("aes256-sha256-modp2048", "aes256-sha256-modp2048");
    Terms { tunnel, ike, esp, asn: 64512, inside, timers: (10, 30), shown: "AES_CBC-256/HMAC_SHA2_256_128" }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn aws_site_to_site_with_two_tunnels() {
    Lab::test("cloud-aws", |lab| {
        let terms =
            vec![aws("aws1", ("169.254.10.1/30", "169.254.10.2")), aws("aws2", ("169.254.11.1/30", "169.254.11.2"))];
        let (ours, edge, gateways) = meets(lab, "aws-site-to-site", terms)?;
        let way = || edge.ip("route get 10.2.0.1");
        lab.wait_for("the first tunnel is preferred", SECONDS(20), || Ok(way()?.contains("dev aws1")))?;
        // Maintenance of the first endpoint: it says goodbye.
        gateways[0].ipsec.swanctl("--terminate --ike net")?;
        lab.wait_for("the second tunnel", SECONDS(10), || Ok(way()?.contains("dev aws2")))?;
        ping(&edge, 3)?;
        ensure!(ours.tunnel_state("aws2")?.starts_with("up"), "the other tunnel is as it was");
        ensure!(gateways[1].node.run(&["ping", "-n", "-c", "1", "-W", "2", "-I", "10.2.0.1", "10.1.0.1"]).is_ok());
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn azure_with_its_fixed_hold_time() {
    Lab::test("cloud-azure", |lab| {
        let terms = Terms {
            tunnel: "azure",
            ike: "aes256-sha256-modp2048",
            esp: "aes256-sha256-modp2048",
            asn: 65515,
            inside: ("10.2.255.30/32", "10.1.255.1"),
            timers: (60, 180),
            shown: "AES_CBC-256/HMAC_SHA2_256_128",
        };
        let (ours, _edge, _gateways) = meets(lab, "azure", vec![terms])?;
        let neighbor = ours.json("show bgp neighbors 10.2.255.30 json")?;
        ensure!(neighbor.to_string().contains("180000"), "a hold time of 180 s: {neighbor}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn gcp_ha_vpn_with_one_child() {
    Lab::test("cloud-gcp", |lab| {
        let terms = Terms {
            tunnel: "gcp",
            ike: "aes256gcm16-prfsha512-modp4096",
            esp: "aes256gcm16-modp4096",
            asn: 64514,
            inside: ("169.254.20.1/30", "169.254.20.2"),
            timers: (20, 60),
            shown: "AES_GCM_16-256",
        };
        meets(lab, "gcp-ha-vpn", vec![terms]).map(drop)
    });
}
