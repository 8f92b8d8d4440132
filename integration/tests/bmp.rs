//! BMP: a station is told what our table and FRR say, whatever its connection goes through.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use bgpkit_parser::models::{AttributeValue, BgpMessage};
use bgpkit_parser::parser::bmp::messages::BmpMessageBody;
use bmp::{Message, PeerType};
use integration::edge::{Binaries, Edge};
use integration::peers::Frr;
use integration::station::Station;
use integration::{Lab, packages};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// bgpd, which prefers what FRR announces less than it announces itself, and refuses one of its prefixes.
const OURS: &str = "\
hostname watched
ip prefix-list most seq 5 deny 10.2.2.0/24
ip prefix-list most seq 10 permit any
router bgp 65001
 bgp router-id 10.1.0.1
 neighbor 192.0.2.2 remote-as 65002
 neighbor 192.0.2.2 timers connect 1
 bmp targets station
  bmp connect 192.0.2.2 port 11019 min-retry 200 max-retry 1000
  bmp monitor ipv4 unicast pre-policy
  bmp monitor ipv4 unicast post-policy
  bmp monitor ipv4 unicast loc-rib
  bmp monitor ipv4 unicast adj-rib-out post-policy
  bmp monitor ipv6 unicast pre-policy
  bmp stats interval 500
  exit
 address-family ipv4 unicast
  network 10.1.0.0/24
  neighbor 192.0.2.2 prefix-list most in
 address-family ipv6 unicast
  neighbor 192.0.2.2 activate
";

/// What the newest connection leaves a station believing: prefixes by view and peer.
#[derive(Debug, Default)]
struct Believed {
    up: BTreeSet<(String, IpAddr)>,
    routes: BTreeMap<(String, IpAddr), BTreeSet<String>>,
    ends: BTreeSet<(String, IpAddr)>,
    stats: usize,
    terminated: bool,
}

fn view(kind: PeerType) -> String {
    match kind {
        PeerType::LocRib => "loc",
        PeerType::AdjRibIn { post_policy: false } => "pre",
        PeerType::AdjRibIn { post_policy: true } => "post",
        PeerType::AdjRibOut { .. } => "out",
    }
    .into()
}

fn believed(station: &Station) -> Result<Believed> {
    let mut all = Believed::default();
    for (at, (ours, theirs)) in station.messages()?.into_iter().enumerate() {
        ensure!((at == 0) == matches!(ours, Message::Initiation(_)), "message {at} is {ours:?}");
        match (ours, theirs.message_body) {
            (Message::PeerUp { peer, .. }, _) => {
                ensure!(all.up.insert((view(peer.kind), peer.address)), "{peer:?} is up twice");
            }
            (Message::PeerDown { peer, .. }, _) => {
                ensure!(all.up.remove(&(view(peer.kind), peer.address)), "{peer:?} goes down and was not up");
                // One Peer Up serves both views of the Adj-RIB-In.
                let gone = |of: &str| of == view(peer.kind) || (of == "post" && view(peer.kind) == "pre");
                all.routes.retain(|(of, address), _| !(gone(of) && *address == peer.address));
            }
            (Message::RouteMonitoring { peer, .. }, BmpMessageBody::RouteMonitoring(monitoring)) => {
                let name = view(peer.kind);
                let up = if name == "post" { "pre".to_owned() } else { name.clone() };
                ensure!(all.up.contains(&(up, peer.address)), "routes of {peer:?}, which is not up");
                let BgpMessage::Update(update) = monitoring.bgp_message else {
                    anyhow::bail!("route monitoring without an UPDATE")
                };
                let key = (name, peer.address);
                let routes = all.routes.entry(key.clone()).or_default();
                let (mut there, mut gone) = (update.announced_prefixes.clone(), update.withdrawn_prefixes.clone());
                for attribute in &update.attributes {
                    match attribute {
                        AttributeValue::MpReachNlri(nlri) => there.extend(nlri.prefixes.iter().copied()),
                        AttributeValue::MpUnreachNlri(nlri) => gone.extend(nlri.prefixes.iter().copied()),
                        _ => {}
                    }
                }
                if there.is_empty() && gone.is_empty() {
                    all.ends.insert(key);
                }
                for prefix in gone {
                    ensure!(routes.remove(&prefix.prefix.to_string()), "{prefix} is withdrawn and was not there");
                }
                routes.extend(there.iter().map(|prefix| prefix.prefix.to_string()));
            }
            (Message::Statistics { .. }, _) => all.stats += 1,
            (Message::Termination(_), _) => all.terminated = true,
            (Message::Initiation(_), _) => {}
            (ours, theirs) => anyhow::bail!("{ours:?} is read as {theirs:?} by the other decoder"),
        }
    }
    Ok(all)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_station_believes_what_is_so() {
    Lab::test("bmp", |lab| {
        packages::ensure(&["frr"])?;
        let (ours, theirs) = (lab.node("ours")?, lab.node("theirs")?);
        lab.join((&ours, "eth0"), (&theirs, "eth0"))?;
        for (node, number) in [(&ours, 1), (&theirs, 2)] {
            node.sysctl("net.ipv6.conf.all.accept_dad", "0")?;
            node.address("eth0", &format!("192.0.2.{number}/24"))?;
            node.address("eth0", &format!("fd00::{number}/64"))?;
        }
        let station = Station::start(&theirs, 11019)?;
        let frr = Frr::start(
            &theirs,
            &["bgpd"],
            "router bgp 65002\n bgp router-id 10.2.0.1\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
             neighbor 192.0.2.1 remote-as 65001\n address-family ipv4 unicast\n  network 10.2.1.0/24\n  network 10.2.2.0/24\n \
             exit-address-family\n address-family ipv6 unicast\n  network fd10:2::/64\n  neighbor 192.0.2.1 activate\n \
             exit-address-family\n",
        )?;
        let mut edge = Edge::new(&ours, &Binaries::find()?, OURS)?;
        edge.start_bgpd()?;
        let peer: IpAddr = "192.0.2.2".parse()?;
        let nobody: IpAddr = "0.0.0.0".parse()?;
        let believes = |wanted: &[(&str, IpAddr, &[&str])]| -> Result<bool> {
            let all = believed(&station)?;
            let of = |view: &str, peer: IpAddr| all.routes.get(&(view.to_owned(), peer)).cloned().unwrap_or_default();
            for (view, peer, prefixes) in wanted {
                let wanted: BTreeSet<String> = prefixes.iter().map(|text| (*text).to_owned()).collect();
                ensure!(of(view, *peer) == wanted, "{view} of {peer}: {:?} and not {wanted:?}", of(view, *peer));
            }
            Ok(true)
        };
        let everything: &[(&str, IpAddr, &[&str])] = &[
            // FRR tells us our own route as well, which the AS path then refuses.
            ("pre", peer, &["10.1.0.0/24", "10.2.1.0/24", "10.2.2.0/24", "fd10:2::/64"]),
            ("post", peer, &["10.2.1.0/24"]),
            ("loc", nobody, &["10.1.0.0/24", "10.2.1.0/24"]),
            ("out", peer, &["10.1.0.0/24"]),
        ];
        lab.wait_for("every view", SECONDS(60), || {
            edge.must_run()?;
            believes(everything)
        })?;
        let all = believed(&station)?;
        ensure!(
            all.ends.iter().any(|(view, _)| view == "loc") && all.ends.iter().any(|(view, _)| view == "pre"),
            "{all:?}"
        );
        lab.wait_for("statistics", SECONDS(10), || Ok(believed(&station)?.stats > 0))?;

        frr.vtysh("configure terminal\nrouter bgp 65002\naddress-family ipv4 unicast\nno network 10.2.1.0/24\nnetwork 10.2.3.0/24")?;
        let changed: &[(&str, IpAddr, &[&str])] = &[
            ("pre", peer, &["10.1.0.0/24", "10.2.2.0/24", "10.2.3.0/24", "fd10:2::/64"]),
            ("post", peer, &["10.2.3.0/24"]),
            ("loc", nobody, &["10.1.0.0/24", "10.2.3.0/24"]),
        ];
        lab.wait_for("the changes", SECONDS(30), || believes(changed))?;
        let shown = edge.json("show bmp json")?;
        ensure!(shown["targets"]["station"]["stations"][0]["state"] == "Up", "{shown}");

        // The session goes down and comes back: Peer Down, Peer Up, and everything again.
        frr.vtysh("clear bgp *")?;
        lab.wait_for("the end of the session", SECONDS(30), || {
            let downs = station.messages()?.into_iter().filter(|(ours, _)| matches!(ours, Message::PeerDown { .. }));
            Ok(downs.count() >= 2)
        })?;
        lab.wait_for("all of it again", SECONDS(60), || believes(changed))?;

        // The connection to the station breaks: a new one is told everything.
        theirs.run(&["ss", "-K", "sport", "=", "11019"])?;
        lab.wait_for("a new connection that knows everything", SECONDS(30), || {
            Ok(station.connections() == 2 && believes(changed)?)
        })?;

        // Not configured any more: the station is told so.
        let (before, rest) = OURS.split_once(" bmp targets").unwrap_or_default();
        let (_, after) = rest.split_once("  exit\n").unwrap_or_default();
        std::fs::write(edge.config_path(), format!("{before}{after}"))?;
        edge.bgpd.as_ref().map_or(Ok(()), |bgpd| bgpd.signal(rustix::process::Signal::HUP))?;
        lab.wait_for("last words", SECONDS(20), || Ok(believed(&station)?.terminated))
    });
}
