//! TCP-AO (RFC 5925) between two of ours, since no peer of Debian's speaks it: keys on the wire, one following another while
//! the session lasts, and nothing for those who have the wrong one.
//!
//! Under a kernel without TCP-AO the labs show that it is named; `cargo xtask test --kernel` boots one that has it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::capture::{Capture, Captured};
use integration::edge::{Binaries, Daemon, Edge};
use integration::packet::Packet;
use integration::{Lab, Node, kernel};
use rustix::process::Signal;
use serde_json::Value;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// Two nodes on a link: 10.0.0.1 and 10.0.0.2.
fn nodes(lab: &Lab) -> Result<(Node, Node)> {
    let (left, right) = (lab.node("left")?, lab.node("right")?);
    lab.join((&left, "eth0"), (&right, "eth0"))?;
    left.address("eth0", "10.0.0.1/24")?;
    right.address("eth0", "10.0.0.2/24")?;
    Ok((left, right))
}

/// A key chain with these keys: number, algorithm, secret.
fn chain(keys: &[(u8, &str, &str)]) -> String {
    let key = |(number, algorithm, secret): &(u8, &str, &str)| {
        format!(" key {number}\n  cryptographic-algorithm {algorithm}\n  key-string {secret}\n")
    };
    format!("key chain CORE\n{}", keys.iter().map(key).collect::<String>())
}

const SHA1: &str = "hmac-sha-1-96";

fn config(number: u8, keys: &[(u8, &str, &str)], neighbor: &str) -> String {
    let other = 3 - number;
    format!(
        "{}router bgp 6500{number}\n bgp router-id 10.0.0.{number}\n neighbor 10.0.0.{other} remote-as 6500{other}\n \
         neighbor 10.0.0.{other} timers connect 2\n neighbor 10.0.0.{other} timers 3 30\n{neighbor} \
         address-family ipv4 unicast\n  network 10.{number}.0.0/16\n",
        chain(keys)
    )
}

fn start(node: &Node, config: &str) -> Result<Edge> {
    let mut edge = Edge::new(node, &Binaries::find()?, config)?;
    edge.start_bgpd()?;
    Ok(edge)
}

fn reload(edge: &mut Edge, text: &str) -> Result<()> {
    edge.configure(text)?;
    edge.process(Daemon::Bgpd)?.signal(Signal::HUP)
}

/// What `show bgp neighbors` says of a session.
fn shown(edge: &Edge, neighbor: &str) -> Result<Value> {
    let all = edge.json(&format!("show bgp neighbors {neighbor} json"))?;
    all.get(neighbor).cloned().with_context(|| format!("no {neighbor} in {all}"))
}

/// The KeyID that a session's segments are signed with, and how many keys it has.
fn current(edge: &Edge, neighbor: &str) -> Result<(Option<u64>, usize)> {
    let shown = shown(edge, neighbor)?;
    let keys = shown.pointer("/tcpAo/keys").and_then(Value::as_array).map_or(0, Vec::len);
    Ok((shown.pointer("/tcpAo/currentSendId").and_then(Value::as_u64), keys))
}

/// A counter of the namespace's /proc/net/netstat.
fn counter(node: &Node, name: &str) -> Result<u64> {
    let text = node.run(&["nstat", "-az", name])?;
    let line = text.lines().find(|line| line.starts_with(name)).with_context(|| format!("no {name}: {text}"))?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
}

/// KeyID and RNextKeyID of a BGP segment; `None` for one without the option, the outer one for other packets.
fn option(packet: &Packet) -> Option<Option<(u8, u8, usize)>> {
    let header = packet.header().filter(|header| header.protocol == 6)?;
    let tcp = packet.bytes.get(header.payload_at..)?;
    let ports = tcp.first_chunk::<4>()?;
    let bgp = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]) == 179;
    if !bgp(0) && !bgp(2) {
        return None;
    }
    let end = usize::from(tcp.get(12)? >> 4) * 4;
    let mut options = tcp.get(20..end)?;
    while let [kind, rest @ ..] = options {
        match (kind, rest) {
            (0, _) => break,
            (1, _) => options = rest,
            // RFC 5925 §2.2
            (29, [length, key, next, ..]) => return Some(Some((*key, *next, usize::from(*length)))),
            (_, [length, ..]) => options = options.get(usize::from(*length).max(2)..)?,
            _ => break,
        }
    }
    Some(None)
}

/// The KeyIDs seen; fails on a segment of BGP without the option.
fn key_ids(captured: &Captured, option_octets: usize) -> Result<BTreeSet<u8>> {
    let mut ids = BTreeSet::new();
    for packet in &captured.packets {
        let Some(option) = option(packet) else { continue };
        let (key, _, octets) =
            option.with_context(|| format!("a segment without the option: {:02x?}", packet.bytes))?;
        ensure!(octets == option_octets, "an option of {octets} octets: {:02x?}", packet.bytes);
        ids.insert(key);
    }
    Ok(ids)
}

/// Whether there is TCP-AO; where not, bgpd must name it.
fn has_tcp_ao(lab: &Lab, node: &Node, config: &str) -> Result<bool> {
    if sys::tcp_ao::is_supported() {
        return Ok(true);
    }
    ensure!(!kernel::is_required(), "this kernel was booted for its TCP-AO and has none");
    let mut edge = start(node, config)?;
    let log = lab.wait_until("bgpd gives up", SECONDS(20), || {
        let process = edge.process(Daemon::Bgpd)?;
        Ok((!process.is_running()).then(|| process.log()))
    })?;
    ensure!(log.contains("10.0.0.2") && log.contains("CONFIG_TCP_AO"), "{log}");
    Ok(false)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn one_key_follows_another_while_the_session_lasts() {
    Lab::test("ao-rollover", |lab| {
        let (left, right) = nodes(lab)?;
        let ao = |number: u8| format!(" neighbor 10.0.0.{number} ao CORE\n");
        let ours = |keys: &[(u8, &str, &str)]| config(1, keys, &ao(2));
        let theirs = |keys: &[(u8, &str, &str)]| config(2, keys, &ao(1));
        let (one, two, three) = ((1, SHA1, "first"), (2, SHA1, "second"), (3, SHA1, "third"));
        if !has_tcp_ao(lab, &left, &ours(&[one]))? {
            return Ok(());
        }
        let capture = Capture::start(&left, |packet| option(packet).is_some())?;
        let (mut a, mut b) = (start(&left, &ours(&[one]))?, start(&right, &theirs(&[one]))?);
        lab.wait_for("a signed session", SECONDS(120), || {
            a.must_run()?;
            b.must_run()?;
            Ok(a.is_established("10.0.0.2")? && a.prefixes_from("10.0.0.2")? == 1)
        })?;
        ensure!(current(&a, "10.0.0.2")? == (Some(1), 1), "{}", shown(&a, "10.0.0.2")?);

        // A new key on one end alone changes nothing; on both ends it is used, and the old one may go.
        reload(&mut a, &ours(&[one, two]))?;
        lab.wait_for("two keys", SECONDS(20), || Ok(current(&a, "10.0.0.2")? == (Some(1), 2)))?;
        lab.holds_for("the old key is used", SECONDS(6), || Ok(current(&b, "10.0.0.1")? == (Some(1), 1)))?;
        reload(&mut b, &theirs(&[one, two]))?;
        let both = |id: u64, keys: usize| {
            let (a, b) = (&a, &b);
            move || Ok(current(a, "10.0.0.2")? == (Some(id), keys) && current(b, "10.0.0.1")? == (Some(id), keys))
        };
        lab.wait_for("both use the second key", SECONDS(30), both(2, 2))?;
        reload(&mut a, &ours(&[two]))?;
        reload(&mut b, &theirs(&[two]))?;
        let both = |id: u64, keys: usize| {
            let (a, b) = (&a, &b);
            move || Ok(current(a, "10.0.0.2")? == (Some(id), keys) && current(b, "10.0.0.1")? == (Some(id), keys))
        };
        lab.wait_for("the first key is gone", SECONDS(30), both(2, 1))?;

        // One key in the place of another: the old one stays until the neighbor follows.
        reload(&mut a, &ours(&[three]))?;
        lab.wait_for("a key that has left the chain is shown", SECONDS(20), || {
            let shown = shown(&a, "10.0.0.2")?;
            let keys = shown.pointer("/tcpAo/keys").and_then(Value::as_array).context("no keys")?;
            Ok(keys.iter().any(|key| key["removedFromChain"] == true && key["current"] == true))
        })?;
        reload(&mut b, &theirs(&[two, three]))?;
        lab.wait_for("the second key has left where it left the chain", SECONDS(30), || {
            Ok(current(&a, "10.0.0.2")? == (Some(3), 1) && current(&b, "10.0.0.1")? == (Some(3), 2))
        })?;

        for (edge, neighbor) in [(&a, "10.0.0.2"), (&b, "10.0.0.1")] {
            let shown = shown(edge, neighbor)?;
            ensure!(shown["connectionsEstablished"] == 1 && shown["connectionsDropped"] == 0, "{shown}");
            let ao = &shown["tcpAo"];
            ensure!(ao["segmentsBad"] == 0 && ao["segmentsGood"].as_u64() > Some(10), "{ao}");
        }
        ensure!(a.prefixes_from("10.0.0.2")? == 1);
        // HMAC-SHA-1-96: four octets and twelve.
        let ids = key_ids(&capture.finish()?, 16)?;
        ensure!(ids == BTreeSet::from([1, 2, 3]), "KeyIDs on the wire: {ids:?}");

        // Whoever has the wrong key under the right number, or none, gets nowhere.
        for (what, counted, text) in [
            ("a wrong key", "TcpExtTCPAOBad", theirs(&[(3, SHA1, "guess")])),
            ("no key", "TcpExtTCPAORequired", config(2, &[], "")),
        ] {
            let before = counter(&left, counted)?;
            b.stop(SECONDS(20))?;
            b = start(&right, &text)?;
            lab.wait_for("the first session is over", SECONDS(60), || Ok(!a.is_established("10.0.0.2")?))?;
            lab.wait_for(&format!("{what} is counted"), SECONDS(60), || Ok(counter(&left, counted)? > before))?;
            lab.holds_for(&format!("{what} opens nothing"), SECONDS(5), || Ok(!a.is_established("10.0.0.2")?))?;
        }
        b.stop(SECONDS(20))?;
        b = start(&right, &theirs(&[three]))?;
        lab.wait_for("the right key is let in again", SECONDS(120), || {
            b.must_run()?;
            a.is_established("10.0.0.2")
        })
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_other_algorithms_and_a_listen_range() {
    Lab::test("ao-range", |lab| {
        let (left, right) = nodes(lab)?;
        let ours = |keys: &[(u8, &str, &str)]| {
            format!(
                "{}router bgp 65001\n bgp router-id 10.0.0.1\n neighbor EDGE peer-group\n neighbor EDGE remote-as external\n \
                 neighbor EDGE ao CORE exclude-tcp-options\n bgp listen range 10.0.0.0/24 peer-group EDGE\n",
                chain(keys)
            )
        };
        let ao = " neighbor 10.0.0.1 ao CORE exclude-tcp-options\n";
        let cmac = (1, "aes-128-cmac-96", "first");
        let sha256 = (9, "hmac-sha-256-128", "second");
        if !has_tcp_ao(lab, &left, &config(1, &[cmac], " neighbor 10.0.0.2 ao CORE\n"))? {
            return Ok(());
        }
        let (mut a, mut b) = (start(&left, &ours(&[cmac]))?, start(&right, &config(2, &[cmac], ao))?);
        lab.wait_for("a session from the range", SECONDS(120), || {
            a.must_run()?;
            b.must_run()?;
            b.is_established("10.0.0.1")
        })?;
        // The same session goes over to another algorithm, on both ends of a range, too.
        for (edge, text) in [(&mut a, ours(&[cmac, sha256])), (&mut b, config(2, &[cmac, sha256], ao))] {
            reload(edge, &text)?;
        }
        lab.wait_for("both use HMAC-SHA-256", SECONDS(30), || {
            Ok(current(&a, "10.0.0.2")?.0 == Some(9) && current(&b, "10.0.0.1")?.0 == Some(9))
        })?;
        ensure!(shown(&b, "10.0.0.1")?["connectionsDropped"] == 0);
        // Whoever dials with a key that the other end does not have yet goes on to the next one.
        b.stop(SECONDS(20))?;
        reload(&mut a, &ours(&[cmac]))?;
        lab.wait_for("the neighbor is forgotten", SECONDS(200), || Ok(a.neighbor("10.0.0.2").is_err()))?;
        b = start(&right, &config(2, &[cmac, sha256], ao))?;
        lab.wait_for("the key that both have", SECONDS(120), || {
            b.must_run()?;
            Ok(b.is_established("10.0.0.1")? && current(&b, "10.0.0.1")?.0 == Some(1))
        })
    });
}
