//! A NAT that forgets its mapping and makes another (RFC 7296 §2.23): the end behind it notices nothing, the other end has
//! to follow its packets to another port, and nobody else's.
//!
//! ```text
//! left ──── isp ──── right     isp masquerades left's UDP: right sees 198.51.100.5 and a port out of a range
//! ```

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::capture::Capture;
use integration::edge::{Binaries, Edge};
use integration::one_wan::{self, OneWan, Side, Text};
use integration::peers::{Connection, Secret, StrongSwan};
use integration::probe::Probe;
use integration::{Lab, Node, packages};
use serde_json::Value;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;
const KEY: &str = "correct horse battery staple";
/// Where right sees left.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 5);
const FIRST: RangeInclusive<u16> = 20000..=20099;
const SECOND: RangeInclusive<u16> = 30000..=30099;

fn build(lab: &Lab) -> Result<OneWan> {
    packages::ensure(&packages::PEERS)?;
    packages::ensure(&packages::NAT)?;
    let wan = OneWan::build(lab)?;
    masquerade(&wan.isp, &FIRST)?;
    Ok(wan)
}

/// Gives left's packets ports out of this range, whatever mappings there have been.
fn masquerade(isp: &Node, ports: &RangeInclusive<u16>) -> Result<()> {
    let (inside, first, last) = (Side::Left.wan_address(), ports.start(), ports.end());
    let rules = format!(
        "flush ruleset\ntable ip nat {{\n chain out {{\n  type nat hook postrouting priority srcnat;\n  \
         oifname \"to-right\" ip saddr {inside} meta l4proto udp masquerade to :{first}-{last}\n }}\n}}\n"
    );
    isp.run_with_input(&["nft", "-f", "-"], &rules)?;
    isp.run(&["conntrack", "-F"]).map(drop)
}

fn selectors(side: Side) -> String {
    format!("local-ts 10.{}.0.0/24\nremote-ts 10.{}.0.0/24", side.number(), side.other().number())
}

/// Ours on the right, which waits for who comes from behind the NAT.
fn right(wan: &OneWan) -> Result<Edge> {
    one_wan::write_psk(&wan.right, KEY)?;
    let text = Text::new(Side::Right).psk().tunnel(&selectors(Side::Right)).tunnel("initiate never").to_string();
    let known = format!("remote {} ", Side::Left.wan_address());
    let mut edge = Edge::new(&wan.right, &Binaries::find()?, &text.replace(&known, &format!("remote {OUTSIDE} ")))?;
    edge.start_ipsecd()?;
    Ok(edge)
}

/// Ours on the left, behind the NAT.
fn left(wan: &OneWan, more: &str) -> Result<Edge> {
    one_wan::write_psk(&wan.left, KEY)?;
    let text = Text::new(Side::Left).psk().tunnel(&selectors(Side::Left)).tunnel(more);
    let mut edge = Edge::new(&wan.left, &Binaries::find()?, &text.to_string())?;
    edge.start_ipsecd()?;
    Ok(edge)
}

fn connection(side: Side, remote: &str) -> Connection {
    Connection {
        local: side.wan_address().to_owned(),
        remote: remote.to_owned(),
        local_id: side.id().to_owned(),
        remote_id: side.other().id().to_owned(),
        selectors: (format!("10.{}.0.0/24", side.number()), format!("10.{}.0.0/24", side.other().number())),
        ike: "aes256gcm16-prfsha384-ecp384".to_owned(),
        esp: "aes256gcm16".to_owned(),
        secret: Secret::Psk(KEY.to_owned()),
        more: String::new(),
        more_child: String::new(),
    }
}

fn sa(edge: &Edge) -> Result<Value> {
    edge.json("show ipsec sa tun1 json")?.get_mut("tun1").map(Value::take).context("no tun1")
}

fn text_at(value: &Value, place: &str) -> Result<String> {
    Ok(value.pointer(place).and_then(Value::as_str).with_context(|| format!("no {place} in {value}"))?.to_owned())
}

/// The port that an edge sends to.
fn port_of_peer(edge: &Edge) -> Result<u16> {
    let remote: SocketAddr = text_at(&sa(edge)?, "/ikeSa/remote")?.parse()?;
    ensure!(remote.ip() == OUTSIDE, "the peer is not where the NAT is, but at {remote}");
    Ok(remote.port())
}

fn probe(wan: &OneWan) -> Result<Probe> {
    let port = |side: Side| SocketAddr::new(side.inner(), 7000);
    Probe::start((&wan.left, port(Side::Left)), (&wan.right, port(Side::Right)))
}

/// Waits until so many more packets have come through, each way.
fn traffic_goes_on(lab: &Lab, probe: &Probe) -> Result<()> {
    let before = probe.counts();
    lab.wait_for("500 more packets each way", SECONDS(10), || {
        Ok(probe.counts().iter().zip(&before).all(|((_, now), (_, before))| now - before >= 500))
    })
}

/// The NAT forgets; right follows, and it is the same SA.
fn survives_another_mapping(lab: &Lab, wan: &OneWan, right: &Edge, probe: &Probe) -> Result<()> {
    let before = sa(right)?;
    masquerade(&wan.isp, &SECOND)?;
    lab.wait_for("right sends to the new port", SECONDS(10), || Ok(SECOND.contains(&port_of_peer(right)?)))?;
    traffic_goes_on(lab, probe)?;
    let after = sa(right)?;
    for place in ["/ikeSa/responderSpi", "/childSas/0/spiIn"] {
        ensure!(text_at(&before, place)? == text_at(&after, place)?, "{place} is another: {before}, {after}");
    }
    Ok(())
}

/// Somebody who cannot seal sends from other ports of the NAT's address: an SPI that right has with nonsense behind it, and
/// again what has been through.
fn others_send(lab: &Lab, wan: &OneWan, right: &Edge) -> Result<()> {
    let capture =
        Capture::start(&wan.isp, |packet| packet.outgoing && packet.udp_ports().is_some_and(|(_, to)| to == 4500))?;
    let counted = |what: &str| -> Result<u64> {
        let shown = sa(right)?;
        let count = shown.pointer(&format!("/childSas/0/in/{what}")).and_then(Value::as_u64);
        count.with_context(|| format!("no {what} in {shown}"))
    };
    let first = counted("packets")?;
    lab.wait_for("some packets to repeat", SECONDS(10), || Ok(counted("packets")? > first + 50))?;
    let spi = text_at(&sa(right)?, "/childSas/0/spiIn")?;
    let spi = u32::from_str_radix(spi.trim_start_matches("0x"), 16)?;
    let to = (Side::Right.wan_address(), 4500);
    let is_esp = |payload: &&[u8]| payload.get(..4) == Some(&spi.to_be_bytes());
    let captured = capture.finish()?;
    let payloads = captured.packets.iter().filter_map(|packet| packet.bytes.get(packet.header()?.payload_at + 8..));
    let sealed: Vec<&[u8]> = payloads.filter(is_esp).collect();
    let newest = sealed.last().context("no ESP to right was captured")?;
    // Its number is far ahead, so that nothing but its seal is wrong with it.
    let mut forged = newest.to_vec();
    forged[4..8].copy_from_slice(&(u32::MAX / 2).to_be_bytes());
    let port = port_of_peer(right)?;
    for (from, octets, counter) in [(40001, &forged[..], "forgeries"), (40002, *newest, "replays")] {
        let before = counted(counter)?;
        let socket = wan.isp.enter(|| UdpSocket::bind((OUTSIDE, from)))??;
        socket.send_to(octets, to)?;
        lab.wait_for(&format!("right counts {counter}"), SECONDS(10), || Ok(counted(counter)? > before))?;
        ensure!(port_of_peer(right)? == port, "right follows who cannot seal");
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_called_end_follows_its_peer_to_another_port_and_nobody_else() {
    Lab::test("nat", |lab| {
        let wan = build(lab)?;
        let (mut right, mut left) = (right(&wan)?, left(&wan, "")?);
        one_wan::wait_up(lab, &mut left)?;
        one_wan::wait_up(lab, &mut right)?;
        wan.left.route("10.2.0.0/24 dev tun1 src 10.1.0.1")?;
        wan.right.route("10.1.0.0/24 dev tun1 src 10.2.0.1")?;
        let probe = probe(&wan)?;
        traffic_goes_on(lab, &probe)?;
        ensure!(FIRST.contains(&port_of_peer(&right)?), "right sends to port {}", port_of_peer(&right)?);
        others_send(lab, &wan, &right)?;
        traffic_goes_on(lab, &probe)?;
        survives_another_mapping(lab, &wan, &right, &probe)
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn we_follow_a_strongswan_behind_a_nat() {
    Lab::test("nat-theirs", |lab| {
        let wan = build(lab)?;
        let mut right = right(&wan)?;
        let theirs = StrongSwan::start(&wan.left, &connection(Side::Left, Side::Right.wan_address()))?;
        lab.wait_for("strongSwan's tunnel", SECONDS(30), || theirs.initiate().map(|_| true))?;
        one_wan::wait_up(lab, &mut right)?;
        wan.right.route("10.1.0.0/24 dev tun1 src 10.2.0.1")?;
        let probe = probe(&wan)?;
        traffic_goes_on(lab, &probe)?;
        ensure!(FIRST.contains(&port_of_peer(&right)?), "right sends to port {}", port_of_peer(&right)?);
        survives_another_mapping(lab, &wan, &right, &probe)
    });
}

/// charon follows IKE, and so waits for ours to ask whether it lives, which we do when nothing comes back.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_strongswan_follows_us_from_behind_a_nat() {
    is_followed_by_strongswan("nat-ours", "mobike = no");
}

/// With MOBIKE charon follows nothing by itself: we notice by what it says it sees, and tell it (RFC 4555 §3.8).
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_strongswan_with_mobike_is_told_of_another_mapping() {
    is_followed_by_strongswan("nat-mobike", "mobike = yes");
}

fn is_followed_by_strongswan(name: &str, mobike: &str) {
    Lab::test(name, |lab| {
        let wan = build(lab)?;
        let theirs = Connection { more: mobike.to_owned(), ..connection(Side::Right, &OUTSIDE.to_string()) };
        let theirs = StrongSwan::start(&wan.right, &theirs)?;
        let mut left = left(&wan, "dpd interval 1 timeout 30")?;
        one_wan::wait_up(lab, &mut left)?;
        lab.wait_for("strongSwan has installed the child", SECONDS(10), || theirs.is_up())?;
        wan.left.route("10.2.0.0/24 dev tun1 src 10.1.0.1")?;
        let probe = probe(&wan)?;
        traffic_goes_on(lab, &probe)?;
        let before = text_at(&sa(&left)?, "/childSas/0/spiIn")?;
        masquerade(&wan.isp, &SECOND)?;
        lab.wait_for("strongSwan sends to the new port", SECONDS(15), || {
            let sas = theirs.sas()?;
            Ok(SECOND.clone().any(|port| sas.contains(&format!("@ {OUTSIDE}[{port}]"))))
        })?;
        traffic_goes_on(lab, &probe)?;
        ensure!(text_at(&sa(&left)?, "/childSas/0/spiIn")? == before, "the child was replaced");
        Ok(())
    });
}
