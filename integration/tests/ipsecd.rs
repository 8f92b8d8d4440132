//! Two of our ipsecd with each other, and nothing else: what a tunnel lives through.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::capture::Capture;
use integration::edge::{Binaries, Daemon, Edge};
use integration::one_wan::{self, OneWan, Side, Text};
use integration::{Lab, Node, kernel, probe};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

struct Pair {
    wan: OneWan,
    left: Edge,
    right: Edge,
}

/// A tunnel between the two, with a route into it at each end; `more` are lines of both tunnels.
fn pair(lab: &Lab, more: &str) -> Result<Pair> {
    let wan = OneWan::build(lab)?;
    let binaries = Binaries::find()?;
    let edge = |side: Side| -> Result<Edge> {
        let node = wan.node(side);
        one_wan::write_psk(node, "the key of this test")?;
        let number = side.number();
        let text = Text::new(side).psk().tunnel(&format!("ip address 169.254.1.{number}/30")).tunnel(more);
        let mut edge = Edge::new(node, &binaries, &text.to_string())?;
        edge.start_ipsecd()?;
        Ok(edge)
    };
    let (mut left, mut right) = (edge(Side::Left)?, edge(Side::Right)?);
    one_wan::wait_up(lab, &mut left)?;
    one_wan::wait_up(lab, &mut right)?;
    wan.left.route("10.2.0.0/24 dev tun1 src 10.1.0.1")?;
    wan.right.route("10.1.0.0/24 dev tun1 src 10.2.0.1")?;
    Ok(Pair { wan, left, right })
}

fn is_up(edge: &Edge) -> Result<bool> {
    Ok(edge.tunnel_state("tun1")?.starts_with("up"))
}

fn ifindex(node: &Node) -> Result<u64> {
    let links = node.run_json(&["ip", "-j", "link", "show", "dev", "tun1"])?;
    links.pointer("/0/ifindex").and_then(serde_json::Value::as_u64).context("tun1 has no index")
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn both_ends_may_initiate_at_once() {
    Lab::test("at-once", |lab| {
        let pair = pair(lab, "")?;
        pair.wan.ping_through(Side::Left)?;
        pair.wan.ping_through(Side::Right)?;
        lab.holds_for("the tunnel stays up at both ends", SECONDS(3), || Ok(is_up(&pair.left)? && is_up(&pair.right)?))
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_killed_ipsecd_leaves_its_interface_and_routes() {
    Lab::test("killed", |lab| {
        let mut pair = pair(lab, "dpd interval 1 timeout 4")?;
        let before = ifindex(&pair.wan.left)?;
        pair.left.kill(Daemon::Ipsecd)?;
        lab.holds_for("the route into the tunnel stays", SECONDS(2), || {
            Ok(ifindex(&pair.wan.left)? == before
                && pair.wan.left.egress(Side::Right.inner()).as_deref() == Some("tun1"))
        })?;
        pair.left.start_ipsecd()?;
        one_wan::wait_up(lab, &mut pair.left)?;
        ensure!(ifindex(&pair.wan.left)? == before, "the interface is another one");
        lab.wait_for("traffic again", SECONDS(20), || pair.wan.ping_through(Side::Left).map(|()| true))?;
        pair.wan.ping_through(Side::Right)
    });
}

/// In the kernel, associations do not need anybody: traffic goes on without ipsecd, and under a new one until that has made
/// its own.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn traffic_goes_on_in_the_kernel_while_there_is_no_ipsecd() {
    if kernel::datapath().as_deref() != Some("kernel") {
        return;
    }
    Lab::test("orphaned", |lab| {
        let mut pair = pair(lab, "")?;
        let shown = |edge: &Edge| edge.node.run(&["ip", "xfrm", "state"]);
        let before = shown(&pair.left)?;
        pair.left.kill(Daemon::Ipsecd)?;
        ensure!(shown(&pair.left)? == before, "the associations are as they were");
        for side in [Side::Left, Side::Right, Side::Left] {
            pair.wan.ping_through(side)?;
        }
        pair.left.start_ipsecd()?;
        one_wan::wait_up(lab, &mut pair.left)?;
        lab.wait_for("traffic through new associations", SECONDS(20), || {
            pair.wan.ping_through(Side::Left).map(|()| true)
        })?;
        let spis = |text: &str| -> Vec<String> {
            text.split_whitespace()
                .filter(|word| word.len() == 10 && word.starts_with("0x"))
                .map(str::to_owned)
                .collect()
        };
        let old = spis(&before);
        lab.wait_for("the old associations' end", SECONDS(20), || {
            let now = spis(&shown(&pair.left)?);
            Ok(old.iter().filter(|spi| !spi.starts_with("0x4846")).all(|spi| !now.contains(spi)))
        })?;
        pair.wan.ping_through(Side::Right)
    });
}

/// Nothing on the WAN is anything but IKE and ESP, whatever becomes of the tunnel.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn nothing_leaves_in_the_clear_when_there_is_no_association() {
    Lab::test("clear", |lab| {
        let mut pair = pair(lab, "")?;
        let capture = Capture::start(&pair.wan.isp, |_| true)?;
        pair.wan.ping_through(Side::Left)?;
        pair.right.shell("terminate ipsec tunnel tun1")?;
        lab.wait_for("the tunnel is down", SECONDS(10), || Ok(!is_up(&pair.left)? && !is_up(&pair.right)?))?;
        ensure!(pair.wan.ping_through(Side::Left).is_err(), "a ping was answered without a tunnel");
        ensure!(pair.wan.ping_through(Side::Right).is_err(), "a ping was answered without a tunnel");
        pair.right.kill(Daemon::Ipsecd)?;
        ensure!(pair.wan.ping_through(Side::Right).is_err(), "a ping was answered without a daemon");
        let captured = capture.finish()?;
        let leaks = pair.wan.clearness()?.findings(&captured);
        ensure!(leaks.is_empty(), "in the clear: {leaks:?}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_operator_renews_keys_while_traffic_flows() {
    Lab::test("renewed", |lab| {
        let pair = pair(lab, "")?;
        let socket = |side: Side| std::net::SocketAddr::from((side.inner(), probe::PORT));
        let rekeys = |edge: &Edge| -> Result<u64> {
            let shown = edge.json("show ipsec tunnel tun1 json")?;
            shown.pointer("/tun1/childRekeys").and_then(serde_json::Value::as_u64).context("no number of rekeys")
        };
        lab.holds_for("one pair of SAs is left", SECONDS(3), || Ok(true))?;
        let probe = probe::Probe::start((&pair.wan.left, socket(Side::Left)), (&pair.wan.right, socket(Side::Right)))?;
        for turn in 1..=4 {
            let edge = if turn % 2 == 0 { &pair.left } else { &pair.right };
            let before = rekeys(edge)?;
            edge.shell("rekey ipsec tunnel tun1")?;
            lab.wait_for("new keys", SECONDS(10), || Ok(rekeys(edge)? > before))?;
        }
        lab.wait_for("some traffic after that", SECONDS(20), || {
            Ok(probe.counts().iter().all(|(_, came)| *came > 2000))
        })?;
        let flows = probe.finish()?;
        let (forth, back) = (flows.forth.lost(0, i64::MAX), flows.back.lost(0, i64::MAX));
        let counters = |node: &Node| node.run(&["sh", "-c", "grep -v ' 0$' /proc/net/xfrm_stat; nstat -a"]);
        ensure!(
            forth == 0 && back == 0,
            "{forth} and {back} packets were lost; left: {}\nright: {}",
            counters(&pair.wan.left)?,
            counters(&pair.wan.right)?
        );
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_operator_ends_and_starts_a_tunnel() {
    Lab::test("operator", |lab| {
        let mut pair = pair(lab, "")?;
        pair.right.shell("terminate ipsec tunnel tun1")?;
        lab.wait_for("the tunnel is down at both ends", SECONDS(10), || {
            Ok(!is_up(&pair.left)? && !is_up(&pair.right)?)
        })?;
        lab.holds_for("the other end cannot bring it back", SECONDS(3), || Ok(!is_up(&pair.right)?))?;
        pair.right.shell("initiate ipsec tunnel tun1")?;
        one_wan::wait_up(lab, &mut pair.left)?;
        one_wan::wait_up(lab, &mut pair.right)?;
        lab.wait_for("traffic again", SECONDS(20), || pair.wan.ping_through(Side::Left).map(|()| true))
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_clean_stop_deletes_the_tunnel_at_the_other_end() {
    Lab::test("stop", |lab| {
        let mut pair = pair(lab, "")?;
        pair.left.stop(SECONDS(10))?;
        lab.wait_for("the other end has heard", SECONDS(5), || Ok(!is_up(&pair.right)?))
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn keys_are_renewed_while_traffic_flows() {
    Lab::test("rekey", |lab| {
        // Both ends want to at about the same time.
        let pair = pair(lab, "rekey ike 60\nrekey child 30")?;
        let socket = |side: Side| std::net::SocketAddr::from((side.inner(), integration::probe::PORT));
        let probe = integration::probe::Probe::start(
            (&pair.wan.left, socket(Side::Left)),
            (&pair.wan.right, socket(Side::Right)),
        )?;
        let renewed = |what: &str| -> Result<u64> {
            let shown = pair.left.json("show ipsec tunnel tun1 json")?;
            let count = shown.pointer(&format!("/tun1/{what}")).and_then(serde_json::Value::as_u64);
            count.with_context(|| format!("no {what} in {shown}"))
        };
        lab.wait_for("the children have been renewed twice, and the IKE SA", SECONDS(120), || {
            Ok(renewed("childRekeys")? >= 2 && renewed("ikeRekeys")? >= 1)
        })?;
        let flows = probe.finish()?;
        let (forth, back) = (flows.forth.lost(0, i64::MAX), flows.back.lost(0, i64::MAX));
        let counters =
            |node: &Node| node.run(&["sh", "-c", "cat /proc/net/xfrm_stat; cat /proc/net/softnet_stat; nstat -a"]);
        ensure!(
            forth == 0 && back == 0,
            "{forth} and {back} packets were lost; left: {}\nright: {}",
            counters(&pair.wan.left)?,
            counters(&pair.wan.right)?
        );
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn without_a_nat_esp_may_go_without_udp() {
    Lab::test("plain-esp", |lab| {
        let pair = pair(lab, "encapsulation if-nat\ndscp set 46\nreplay-window 64")?;
        let capture = Capture::start(&pair.wan.isp, |_| true)?;
        pair.wan.ping_through(Side::Left)?;
        pair.wan.ping_through(Side::Right)?;
        pair.left.shell("rekey ipsec tunnel tun1")?;
        lab.wait_for("new keys", SECONDS(10), || {
            let tunnels = pair.left.json("show ipsec tunnel json")?;
            Ok(tunnels.pointer("/tun1/childRekeys").and_then(serde_json::Value::as_u64) >= Some(1))
        })?;
        pair.wan.ping_through(Side::Left)?;
        let packets = capture.finish()?.packets;
        let esp: Vec<_> =
            packets.iter().filter(|packet| packet.header().is_some_and(|header| header.protocol == 50)).collect();
        ensure!(esp.len() >= 16, "{} of {} packets are ESP", esp.len(), packets.len());
        // The kernel copies a class or leaves it out; it sets none of its own.
        let class = if kernel::datapath().as_deref() == Some("kernel") { 0 } else { 46 << 2 };
        ensure!(esp.iter().all(|packet| packet.bytes[1] == class), "the class of outer packets is another");
        ensure!(
            packets.iter().all(|packet| packet.udp_ports().is_none_or(|ports| ports != (4500, 4500))),
            "ESP in UDP"
        );
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_path_that_takes_less_is_found_out_and_told_inside() {
    Lab::test("path-mtu", |lab| {
        let pair = pair(lab, "")?;
        pair.wan.ping_through(Side::Left)?;
        let mtu = || -> Result<(u64, u64)> {
            let links = pair.wan.left.run_json(&["ip", "-j", "link", "show", "dev", "tun1"])?;
            let interface = links.pointer("/0/mtu").and_then(serde_json::Value::as_u64).context("no MTU")?;
            let shown = pair.left.json("show ipsec tunnel json")?;
            let shown = shown.pointer("/tun1/mtu").and_then(serde_json::Value::as_u64).context("no MTU shown")?;
            Ok((interface, shown))
        };
        ensure!(mtu()? == (1438, 1438), "the tunnel begins with {:?}", mtu()?);
        // Behind the first hop, so that only ICMP can tell. The other direction is left as it is.
        pair.wan.isp.ip("route replace 198.51.100.4/30 dev to-right src 198.51.100.5 mtu lock 1400")?;
        let ends = [(&pair.wan.left, Side::Left.inner()), (&pair.wan.right, Side::Right.inner())];
        integration::esp_load::tcp_stream(ends[0], ends[1], SECONDS(2))?;
        lab.wait_for("the tunnel fits the path", SECONDS(10), || Ok(mtu()? == (1338, 1338)))?;
        // Inside, who may not be fragmented is told, and who may be is.
        let ping = |more: [&str; 2]| {
            let target = Side::Right.inner().to_string();
            pair.wan
                .left
                .run(&["ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", "-s", "1350", more[0], more[1], &target])
        };
        ensure!(ping(["-M", "do"]).is_err(), "a packet of 1378 octets with DF went through 1338");
        ping(["-M", "dont"])?;
        // And nothing on the way is fragmented for it.
        let capture = Capture::start(&pair.wan.right, |packet| packet.protocol == 0x0800)?;
        integration::esp_load::tcp_stream(ends[0], ends[1], SECONDS(1))?;
        let packets = capture.finish()?.packets;
        let fragments = packets.iter().filter(|packet| {
            packet.bytes.get(6..8).is_some_and(|word| u16::from_be_bytes([word[0], word[1]]) & 0x3fff != 0)
        });
        ensure!(fragments.count() == 0, "outer packets arrive in fragments");
        Ok(())
    });
}
