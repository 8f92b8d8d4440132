//! MRT dumps of a session with FRR, and the log of events.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use bgpkit_parser::models::ElemType;
use bgpkit_parser::{BgpElem, BgpkitParser};
use integration::edge::{Binaries, Edge};
use integration::peers::Frr;
use integration::{Lab, packages};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// Every element of a file, as another reader reads it.
fn elements(file: &Path) -> Result<Vec<BgpElem>> {
    Ok(BgpkitParser::from_reader(std::io::Cursor::new(std::fs::read(file)?)).into_iter().collect())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_frr_says_is_in_the_dumps() {
    Lab::test("mrt", |lab| {
        packages::ensure(&["frr"])?;
        let (ours, theirs) = (lab.node("ours")?, lab.node("theirs")?);
        lab.join((&ours, "eth0"), (&theirs, "eth0"))?;
        for (node, number) in [(&ours, 1), (&theirs, 2)] {
            node.sysctl("net.ipv6.conf.all.accept_dad", "0")?;
            node.address("eth0", &format!("192.0.2.{number}/24"))?;
            node.address("eth0", &format!("fd00::{number}/64"))?;
        }
        let folder = ours.folder().to_path_buf();
        let file = |name: &str| folder.join(name);
        let mut edge = Edge::new(
            &ours,
            &Binaries::find()?,
            "dump bgp all /etc/holdfast/all.mrt\ndump bgp updates /etc/holdfast/updates.mrt\n\
             dump bgp routes-mrt /etc/holdfast/rib.mrt 1\n\
             router bgp 65001\n bgp router-id 10.1.0.1\n neighbor 192.0.2.2 remote-as 65002\n \
             neighbor 192.0.2.2 timers connect 1\n address-family ipv4 unicast\n  network 10.1.0.0/24\n \
             address-family ipv6 unicast\n  neighbor 192.0.2.2 activate\n",
        )?;
        edge.start_bgpd()?;
        let frr = Frr::start(
            &theirs,
            &["bgpd"],
            "router bgp 65002\n bgp router-id 10.2.0.1\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
             neighbor 192.0.2.1 remote-as 65001\n address-family ipv4 unicast\n  network 10.2.1.0/24\n \
             exit-address-family\n address-family ipv6 unicast\n  network fd10:2::/64\n  neighbor 192.0.2.1 activate\n \
             exit-address-family\n",
        )?;
        let announced = |name: &str, kind: ElemType| -> Result<BTreeSet<String>> {
            let of_kind = elements(&file(name))?.into_iter().filter(|element| element.elem_type == kind);
            Ok(of_kind.map(|element| element.prefix.to_string()).collect())
        };
        let wanted = |prefixes: &[&str]| prefixes.iter().map(|text| (*text).to_owned()).collect::<BTreeSet<String>>();
        lab.wait_for("the table in a file", SECONDS(60), || {
            edge.must_run()?;
            Ok(announced("rib.mrt", ElemType::ANNOUNCE)? == wanted(&["10.1.0.0/24", "10.2.1.0/24", "fd10:2::/64"]))
        })?;
        frr.vtysh("configure terminal\nrouter bgp 65002\naddress-family ipv4 unicast\nno network 10.2.1.0/24")?;
        for name in ["updates.mrt", "all.mrt"] {
            lab.wait_for("the withdrawal in a file", SECONDS(20), || {
                let announced = announced(name, ElemType::ANNOUNCE)?;
                Ok(announced.contains("10.2.1.0/24") && announced.contains("fd10:2::/64"))
            })?;
            lab.wait_for("the withdrawal in a file", SECONDS(20), || {
                Ok(announced(name, ElemType::WITHDRAW)?.contains("10.2.1.0/24"))
            })?;
        }
        lab.wait_for("the table without it", SECONDS(20), || {
            Ok(announced("rib.mrt", ElemType::ANNOUNCE)? == wanted(&["10.1.0.0/24", "fd10:2::/64"]))
        })?;
        let peers: BTreeSet<String> = elements(&file("updates.mrt"))?.iter().map(|e| e.peer_ip.to_string()).collect();
        ensure!(peers == wanted(&["192.0.2.2"]), "{peers:?}");

        // The log of events tells of the session, and of its end.
        frr.vtysh("clear bgp *")?;
        lab.wait_for("events of the session", SECONDS(30), || {
            let events = edge.json("show bgp events json")?;
            let list = events["events"].as_array().cloned().unwrap_or_default();
            let of = |what: &str| {
                list.iter().any(|event| {
                    event["kind"] == "session"
                        && event["subject"] == "192.0.2.2"
                        && event["what"].as_str().is_some_and(|text| text.ends_with(what))
                })
            };
            Ok(of("to Established") && of("to Idle") && list.iter().any(|event| event["kind"] == "nextHop"))
        })
    });
}

/// A table that somebody else wrote.
const TABLE: &[u8] = include_bytes!("../../crates/mrt/testdata/table-dump-v2.mrt");

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_table_is_loaded_told_to_frr_and_taken_out_again() {
    Lab::test("mrt-load", |lab| {
        packages::ensure(&["frr"])?;
        let (ours, theirs) = (lab.node("ours")?, lab.node("theirs")?);
        lab.join((&ours, "eth0"), (&theirs, "eth0"))?;
        ours.address("eth0", "192.0.2.1/24")?;
        theirs.address("eth0", "192.0.2.2/24")?;
        let file = ours.write("table.mrt", TABLE)?;
        let all = elements(&file)?;
        let v4 = |element: &&BgpElem| element.prefix.prefix.addr().is_ipv4();
        let prefixes: BTreeSet<String> = all.iter().filter(v4).map(|element| element.prefix.to_string()).collect();
        ensure!(prefixes.len() >= 3, "{prefixes:?}");
        let text = "router bgp 64999\n bgp router-id 10.1.0.1\n no bgp ebgp-requires-policy\n neighbor 192.0.2.2 remote-as 64998\n \
                    neighbor 192.0.2.2 timers connect 1\n";
        let mut edge = Edge::new(&ours, &Binaries::find()?, text)?;
        edge.start_bgpd()?;
        let frr = Frr::start(
            &theirs,
            &["bgpd"],
            "router bgp 64998\n bgp router-id 10.2.0.1\n no bgp ebgp-requires-policy\n neighbor 192.0.2.1 remote-as 64999\n",
        )?;
        lab.wait_for("session", SECONDS(60), || edge.is_established("192.0.2.2"))?;
        let refused = edge.shell("load mrt /no/such/file");
        ensure!(refused.is_err_and(|error| format!("{error:#}").contains("/no/such/file")));
        edge.shell(&format!("load mrt {} next-hop 192.0.2.2", file.display()))?;
        let shown = lab.wait_until("all of the file", SECONDS(60), || {
            let answer = edge.json("show mrt json")?;
            Ok((answer.pointer("/files/0/state").is_some_and(|state| state == "complete")).then_some(answer))
        })?;
        ensure!(
            shown.pointer("/files/0/routes").and_then(serde_json::Value::as_u64) == Some(all.len() as u64),
            "{shown}"
        );
        // To FRR the next hop is its own address, so that it is told ours.
        let at_frr = || -> Result<BTreeSet<String>> {
            let answer = frr.json("show bgp ipv4 unicast json")?;
            let routes = answer.get("routes").and_then(serde_json::Value::as_object);
            Ok(routes.into_iter().flat_map(|routes| routes.keys().cloned()).collect())
        };
        lab.wait_for("the table at FRR", SECONDS(60), || Ok(at_frr()? == prefixes))?;
        let listed = edge.json("show bgp ipv4 unicast json")?;
        ensure!(listed.get("routes").and_then(serde_json::Value::as_object).map(|it| it.len()) == Some(prefixes.len()));
        edge.shell("clear mrt all")?;
        lab.wait_for("nothing left", SECONDS(60), || Ok(at_frr()?.is_empty()))?;
        ensure!(edge.shell("show mrt")?.starts_with("No MRT file"));
        edge.must_run()
    });
}
