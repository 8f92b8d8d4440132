//! The lab itself: what the other tests stand on.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::capture::{Capture, Clearness, Nature};
use integration::feeder::{Feeder, Plan};
use integration::peers::{Bird, Connection, Frr, Gobgp, Secret, StrongSwan};
use integration::{Lab, Node, clock, packages, prefixes, probe};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// Two nodes on one link, 192.0.2.1 and 192.0.2.2.
fn pair(lab: &Lab) -> Result<(Node, Node)> {
    let (left, right) = (lab.node("left")?, lab.node("right")?);
    lab.join((&left, "eth0"), (&right, "eth0"))?;
    for (node, last) in [(&left, 1), (&right, 2)] {
        node.address("eth0", &format!("192.0.2.{last}/24"))?;
        node.address("eth0", &format!("2001:db8::{last}/64"))?;
    }
    Ok((left, right))
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_probe_measures_a_cut_link() {
    Lab::test("probe", |lab| {
        let (left, right) = pair(lab)?;
        let at = |last: u8| SocketAddr::from(([192, 0, 2, last], probe::PORT));
        left.ping(at(2).ip(), 10)?;
        // A neighbour that has to be asked for again would keep hundreds of packets waiting until the link is back.
        let address = right.run_json(&["ip", "-j", "link", "show", "dev", "eth0"])?;
        let address = address[0]["address"].as_str().context("no link-layer address")?.to_owned();
        left.ip(&format!("neigh replace 192.0.2.2 lladdr {address} dev eth0 nud permanent"))?;
        let capture = Capture::start(&right, |_| true)?;
        let probe = probe::Probe::start((&left, at(1)), (&right, at(2)))?;
        lab.wait_for("packets both ways", SECONDS(5), || {
            Ok(probe.counts().iter().all(|(_, received)| *received > 100))
        })?;
        let cut = clock::monotonic_ns();
        right.set_link("eth0", false)?;
        std::thread::sleep(Duration::from_millis(200));
        right.set_link("eth0", true)?;
        let mended = clock::monotonic_ns();
        let before = probe.counts();
        lab.wait_for("packets again", SECONDS(5), || Ok(probe.counts()[0].1 > before[0].1 + 100))?;
        let flows = probe.finish()?;
        ensure!(flows.forth.outage_ns(cut, mended) >= 190_000_000, "the outage was not seen");
        ensure!(
            flows.forth.lost(cut, mended) >= 150 && flows.back.lost(cut, mended) >= 150,
            "the losses were not seen"
        );
        ensure!(flows.forth.lost(0, cut - 50_000_000) == 0, "losses before the cut");
        let captured = capture.finish()?;
        let clearness = Clearness { transport: vec!["192.0.2.0/24".parse()?], secret: probe::MAGIC.to_vec() };
        let probes = captured.packets.iter().filter(|packet| packet.udp_ports() == Some((probe::PORT, probe::PORT)));
        ensure!(probes.clone().count() > 200 && probes.clone().all(|packet| captured.interface(packet) == "eth0"));
        ensure!(
            probes.clone().all(|packet| clearness.nature(packet) == Nature::Clear),
            "an unsealed probe is in the clear"
        );
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn nothing_outlives_an_owner_that_was_killed() -> Result<()> {
    // The victim is this test program itself, told to run the next test.
    let mut victim = Command::new(std::env::current_exe()?)
        .args(["--exact", "a_lab_that_waits_to_be_killed", "--ignored", "--nocapture"])
        .env("HOLDFAST_VICTIM", "1")
        .stdout(Stdio::piped())
        .spawn()?;
    let output = std::io::BufReader::new(victim.stdout.take().context("no standard output")?);
    let line = std::io::BufRead::lines(output)
        .find_map(|line| line.ok()?.split_once("victim ").map(|(_, rest)| rest.to_owned()));
    victim.kill()?;
    victim.wait()?;
    let line = line.context("the victim did not come up")?;
    let (id, folder) = line.split_once(' ').context("no folder")?;
    let (process, folder) = (PathBuf::from(format!("/proc/{id}/exe")), PathBuf::from(folder));
    let deadline = std::time::Instant::now() + SECONDS(10);
    while process.exists() || folder.exists() {
        ensure!(std::time::Instant::now() < deadline, "{} or {} is left", process.display(), folder.display());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
#[ignore = "only as the victim of nothing_outlives_an_owner_that_was_killed"]
fn a_lab_that_waits_to_be_killed() {
    if std::env::var_os("HOLDFAST_VICTIM").is_none() {
        return;
    }
    Lab::test("victim", |lab| {
        // A grandchild, as a daemon that has detached itself would be.
        let node = lab.node("node")?;
        let _process = node.spawn("sleeper", &["sh", "-c", "setsid sleep 1000 & wait"])?;
        let find = || node.run(&["pgrep", "-n", "-f", "^sleep 1000$"]);
        let id = lab.wait_until("the sleeper", SECONDS(5), || Ok(find().ok()))?;
        println!("victim {} {}", id.trim(), lab.folder().display());
        std::thread::sleep(SECONDS(60));
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_feeder_brings_a_table_to_frr() {
    Lab::test("feeder", |lab| {
        packages::ensure(&["frr"])?;
        let (left, right) = pair(lab)?;
        let config = "router bgp 65001\n no bgp ebgp-requires-policy\n neighbor 192.0.2.2 remote-as 65100\n \
                      neighbor 192.0.2.2 timers 3 9\n neighbor 192.0.2.2 passive\n";
        let frr = Frr::start(&left, &["bgpd"], config)?;
        let plan = Plan {
            asn: 65100,
            address: "192.0.2.2".parse()?,
            peer: "192.0.2.1:179".parse()?,
            table: prefixes::take(5000)?,
        };
        let last = plan.table[4999].prefix.to_string();
        let feeder = Feeder::start(&right, plan)?;
        lab.wait_for("the table", SECONDS(60), || {
            ensure!(feeder.announced() == 5000, "announced {}: {}", feeder.announced(), feeder.last_error());
            let summary = frr.json("show bgp ipv4 unicast summary json")?;
            Ok(summary.pointer("/peers/192.0.2.2/pfxRcd").and_then(serde_json::Value::as_u64) == Some(5000))
        })?;
        ensure!(frr.has_route(&last)?, "{last} is not valid");
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_bgp_peers_talk_to_each_other() {
    Lab::test("peers", |lab| {
        packages::ensure(&packages::PEERS)?;
        let (left, right) = pair(lab)?;
        let third = lab.node("third")?;
        lab.join((&left, "eth1"), (&third, "eth0"))?;
        left.address("eth1", "198.51.100.1/24")?;
        third.address("eth0", "198.51.100.2/24")?;
        let frr = Frr::start(
            &left,
            &["bgpd", "bfdd"],
            "router bgp 65001\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
             neighbor 192.0.2.2 remote-as 65002\n neighbor 192.0.2.2 bfd\n neighbor 198.51.100.2 remote-as 65003\n \
             address-family ipv4 unicast\n  network 10.1.0.0/16\n exit-address-family\n",
        )?;
        let bird = Bird::start(
            &right,
            "router id 192.0.2.2;\nprotocol device {}\nprotocol bfd {}\nprotocol static { ipv4; route 10.2.0.0/16 blackhole; }\n\
             protocol bgp edge { local as 65002; neighbor 192.0.2.1 as 65001; bfd on; connect retry time 2; connect delay time 1;\n\
             ipv4 { import all; export all; }; }\n",
        )?;
        let gobgp = Gobgp::start(
            &third,
            "[global.config]\nas = 65003\nrouter-id = \"198.51.100.2\"\n[[neighbors]]\n[neighbors.config]\n\
             neighbor-address = \"198.51.100.1\"\npeer-as = 65001\n[neighbors.timers.config]\nconnect-retry = 5\n",
        )?;
        lab.wait_for("FRR and BIRD", SECONDS(60), || {
            Ok(frr.is_established("192.0.2.2")? && bird.is_established("edge")?)
        })?;
        lab.wait_for("FRR and GoBGP", SECONDS(60), || {
            Ok(frr.is_established("198.51.100.2")? && gobgp.is_established("198.51.100.1")?)
        })?;
        lab.wait_for("BFD", SECONDS(30), || frr.bfd_is_up("192.0.2.2"))?;
        lab.wait_for("routes", SECONDS(30), || {
            Ok(frr.has_route("10.2.0.0/16")?
                && bird.has_route("10.1.0.0/16", "edge")?
                && gobgp.has_route("10.1.0.0/16")?)
        })
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn two_strongswans_build_a_tunnel_without_esp_in_the_kernel() {
    Lab::test("swans", |lab| {
        packages::ensure(&packages::PEERS)?;
        let (left, right) = pair(lab)?;
        left.ip_batch("address add 10.1.0.1/24 dev lo")?;
        right.ip_batch("address add 10.2.0.1/24 dev lo")?;
        let connection = |own: u8, other: u8| Connection {
            local: format!("192.0.2.{own}"),
            remote: format!("192.0.2.{other}"),
            local_id: format!("swan{own}.example.net"),
            remote_id: format!("swan{other}.example.net"),
            selectors: (format!("10.{own}.0.0/24"), format!("10.{other}.0.0/24")),
            ike: "aes256gcm16-prfsha384-ecp384".to_owned(),
            esp: "aes256gcm16-ecp384".to_owned(),
            secret: Secret::Psk("a secret of this test".to_owned()),
            more: String::new(),
            more_child: String::new(),
        };
        let first = StrongSwan::start(&left, &connection(1, 2))?;
        let second = StrongSwan::start(&right, &connection(2, 1))?;
        first.initiate()?;
        lab.wait_for("the tunnel", SECONDS(20), || Ok(first.is_up()? && second.is_up()?))?;
        left.run(&["ping", "-n", "-c", "3", "-i", "0.2", "-W", "2", "-I", "10.1.0.1", "10.2.0.1"])?;
        Ok(())
    });
}
