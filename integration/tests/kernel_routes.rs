//! What policy says of routes on their way into the kernel, as `ip route` has it: table, source address, and how they rank
//! beside static ones; static routes over several ways, and such that tell senders that there is none.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::edge::{Binaries, Edge};
use integration::peers::Frr;
use integration::{Lab, Node, packages};
use serde_json::Value;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;
const SOURCES: [(&str, &str); 2] = [("192.0.2.1", "2001:db8:ffff::1"), ("192.0.2.2", "2001:db8:ffff::2")];

fn configuration(source: usize, tabled: bool, statics: &str) -> String {
    let (v4, v6) = SOURCES[source];
    let table = if tabled { " set table 100\n" } else { "" };
    format!(
        "router bgp 65001\n bgp router-id 10.254.0.1\n no bgp ebgp-requires-policy\n neighbor 10.254.0.2 remote-as 65002\n \
         neighbor 10.254.0.2 timers connect 1\n address-family ipv4 unicast\n  neighbor 10.254.0.2 route-map in in\n \
         address-family ipv6 unicast\n  neighbor 10.254.0.2 activate\n  neighbor 10.254.0.2 route-map in6 in\n\
         ip prefix-list tabled permit 10.81.0.0/16\nip prefix-list far permit 10.82.0.0/16\n\
         route-map in permit 10\n match ip address prefix-list tabled\n{table} set tag 7\n\
         route-map in permit 20\n match ip address prefix-list far\n set distance 150\n\
         route-map in permit 30\n\
         route-map in6 permit 10\n set ipv6 next-hop prefer-global\n\
         route-map src permit 10\n set src {v4}\nroute-map src6 permit 10\n set src {v6}\n\
         ip protocol bgp route-map src\nipv6 protocol bgp route-map src6\n{statics}"
    )
}

fn frr() -> String {
    let networks =
        |prefixes: &[&str]| prefixes.iter().map(|prefix| format!("  network {prefix}\n")).collect::<String>();
    format!(
        "router bgp 65002\n bgp router-id 10.254.0.2\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
         neighbor 10.254.0.1 remote-as 65001\n neighbor 10.254.0.1 timers connect 2\n address-family ipv4 unicast\n{} \
         exit-address-family\n address-family ipv6 unicast\n  neighbor 10.254.0.1 activate\n  neighbor 10.254.0.1 route-map six out\n{} \
         exit-address-family\nroute-map six permit 10\n set ipv6 next-hop global 2001:db8::2\n",
        networks(&["10.80.0.0/16", "10.81.0.0/16", "10.82.0.0/16"]),
        networks(&["2001:db8:80::/48"]),
    )
}

/// The kernel's routes of ours for a prefix, in whatever table.
fn routes(node: &Node, prefix: &str) -> Result<Vec<Value>> {
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    let shown =
        node.run_json(&["ip", "-j", "-d", family, "route", "show", "table", "all", "proto", "201", "exact", prefix])?;
    Ok(shown.as_array().cloned().unwrap_or_default())
}

/// Table, source address and type of the only route for a prefix; `None` while there is none, or more than one.
fn only(node: &Node, prefix: &str) -> Result<Option<(String, String, String)>> {
    let all = routes(node, prefix)?;
    let [route] = &all[..] else { return Ok(None) };
    let word = |key: &str, other: &str| route.get(key).and_then(Value::as_str).unwrap_or(other).to_owned();
    Ok(Some((word("table", "main"), word("prefsrc", ""), word("type", "unicast"))))
}

fn shown(edge: &Edge, prefix: &str) -> Result<Value> {
    let answer = edge.json(&format!("show ip route {prefix} json"))?;
    answer.get(prefix).and_then(|routes| routes.get(0)).cloned().context("not shown")
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn routes_go_into_the_kernel_as_policy_says() {
    Lab::test("kernel-routes", |lab| {
        packages::ensure(&packages::PEERS)?;
        let (ours, peer) = (lab.node("ours")?, lab.node("peer")?);
        lab.join((&ours, "to-peer"), (&peer, "to-ours"))?;
        ours.address("to-peer", "10.254.0.1/24")?;
        ours.address("to-peer", "2001:db8::1/64")?;
        peer.address("to-ours", "10.254.0.2/24")?;
        peer.address("to-ours", "2001:db8::2/64")?;
        for (v4, v6) in SOURCES {
            ours.address("lo", &format!("{v4}/32"))?;
            ours.address("lo", &format!("{v6}/128"))?;
        }
        let _frr = Frr::start(&peer, &["bgpd"], &frr())?;
        let mut edge = Edge::new(&ours, &Binaries::find()?, &configuration(0, true, ""))?;
        edge.start()?;
        let is = |prefix: &str, table: &str, source: &str| {
            let wanted = Some((table.to_owned(), source.to_owned(), "unicast".to_owned()));
            lab.wait_for(&format!("{prefix} in {table} from {source}"), SECONDS(60), || {
                Ok(only(&ours, prefix)? == wanted)
            })
        };
        is("10.80.0.0/16", "main", SOURCES[0].0)?;
        is("10.81.0.0/16", "100", SOURCES[0].0)?;
        is("2001:db8:80::/48", "main", SOURCES[0].1)?;
        let used = ours.route_get("10.80.1.1".parse()?)?;
        ensure!(used.get("prefsrc").and_then(Value::as_str) == Some(SOURCES[0].0), "{used}");
        let route = shown(&edge, "10.80.0.0/16")?;
        ensure!(route.pointer("/nexthops/0/rmapSource").and_then(Value::as_str) == Some(SOURCES[0].0), "{route}");

        // What is set changes; what is in another table comes back.
        edge.configure(&configuration(1, false, ""))?;
        edge.reload()?;
        is("10.80.0.0/16", "main", SOURCES[1].0)?;
        is("10.81.0.0/16", "main", SOURCES[1].0)?;
        is("2001:db8:80::/48", "main", SOURCES[1].1)?;
        ensure!(shown(&edge, "10.81.0.0/16")?["tag"] == 7);

        // A restart finds everything as it should be.
        edge.kill_and_restart(integration::edge::Daemon::Bgpd)?;
        lab.wait_for("routes again", SECONDS(60), || Ok(edge.prefixes_from("10.254.0.2")? == 3))?;
        is("10.80.0.0/16", "main", SOURCES[1].0)?;

        // How they rank: 150 is behind a static route of 100, 20 before it.
        let statics = "ip route 10.80.0.0/16 blackhole 100\nip route 10.82.0.0/16 blackhole 100\n\
                       ip route 10.66.0.0/16 reject\nipv6 route 2001:db8:66::/48 reject\n\
                       ip route 10.67.0.0/16 10.254.0.2\nip route 10.67.0.0/16 10.254.0.3\n";
        edge.configure(&configuration(1, false, statics))?;
        edge.reload()?;
        let rank = |edge: &Edge, prefix: &str| -> Result<(String, u64)> {
            let route = shown(edge, prefix)?;
            let protocol = route.get("protocol").and_then(Value::as_str).unwrap_or_default().to_owned();
            Ok((protocol, route.get("distance").and_then(Value::as_u64).unwrap_or_default()))
        };
        lab.wait_for("the nearer of two", SECONDS(20), || {
            Ok(rank(&edge, "10.82.0.0/16")? == ("static".to_owned(), 100)
                && rank(&edge, "10.80.0.0/16")? == ("bgp".to_owned(), 20))
        })?;

        // Senders are told, and packets are spread.
        for prefix in ["10.66.0.0/16", "2001:db8:66::/48"] {
            let told = || Ok(only(&ours, prefix)?.is_some_and(|(_, _, kind)| kind == "unreachable"));
            lab.wait_for(&format!("{prefix} unreachable"), SECONDS(20), told)?;
        }
        ensure!(shown(&edge, "10.66.0.0/16")?.pointer("/nexthops/0/reject") == Some(&Value::Bool(true)));
        lab.wait_for("both ways", SECONDS(20), || {
            let route = shown(&edge, "10.67.0.0/16")?;
            let hops = route.get("nexthops").and_then(Value::as_array).map_or(0, Vec::len);
            Ok(hops == 2 && route.get("installed") == Some(&Value::Bool(true)))
        })?;
        let groups = ours.run_json(&["ip", "-j", "nexthop"])?;
        let two = |object: &Value| object.get("group").and_then(Value::as_array).is_some_and(|group| group.len() == 2);
        ensure!(groups.as_array().is_some_and(|all| all.iter().any(two)), "{groups}");

        // From a drop that is told to one that is not, and to none.
        edge.configure(&configuration(
            1,
            false,
            "ip route 10.66.0.0/16 blackhole\nip route 10.82.0.0/16 blackhole 200\n",
        ))?;
        edge.reload()?;
        lab.wait_for("a blackhole", SECONDS(20), || {
            Ok(only(&ours, "10.66.0.0/16")?.is_some_and(|it| it.2 != "unreachable"))
        })?;
        lab.wait_for("BGP before 200", SECONDS(20), || Ok(rank(&edge, "10.82.0.0/16")? == ("bgp".to_owned(), 150)))?;
        lab.wait_for("none", SECONDS(20), || Ok(routes(&ours, "2001:db8:66::/48")?.is_empty()))?;
        edge.must_run()
    });
}

/// The newest fault of an interface, and whether the log has it as over.
fn fault_of(edge: &Edge, interface: &str) -> Result<Option<(String, u64, bool)>> {
    let of_it = |event: &integration::edge::FailoverEvent| event.tunnel.as_deref() == Some(interface);
    let newest = edge.failovers()?.into_iter().rev().find(of_it);
    Ok(newest.map(|event| (event.cause, event.routes_moved, event.restored_at_unix_us.is_some())))
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_lost_link_that_only_static_routes_use_is_told() {
    Lab::test("static-link", |lab| {
        let (ours, peer) = (lab.node("ours")?, lab.node("peer")?);
        for (number, port) in [(1, "one"), (2, "two"), (3, "idle")] {
            lab.join((&ours, port), (&peer, port))?;
            ours.address(port, &format!("10.254.{number}.1/24"))?;
            peer.address(port, &format!("10.254.{number}.2/24"))?;
        }
        let statics = "ip route 10.80.0.0/16 10.254.1.2\nip route 10.80.0.0/16 10.254.2.2 200\n\
                       ip route 10.81.0.0/16 10.254.1.2\nip route 10.81.0.0/16 10.254.2.2 200\n";
        let mut edge = Edge::new(&ours, &Binaries::find()?, statics)?;
        edge.start()?;
        let goes_by = |port: &str| {
            lab.wait_for(&format!("traffic by {port}"), SECONDS(20), || {
                Ok(ours.egress("10.80.1.1".parse()?).as_deref() == Some(port))
            })
        };
        goes_by("one")?;
        peer.ip("link set idle down")?;
        peer.ip("link set one down")?;
        goes_by("two")?;
        let lost = ("linkDown".to_owned(), 2, false);
        lab.wait_for("the fault in the log", SECONDS(20), || Ok(fault_of(&edge, "one")? == Some(lost.clone())))?;
        peer.ip("link set one up")?;
        goes_by("one")?;
        let over = ("linkDown".to_owned(), 2, true);
        lab.wait_for("the fault as over", SECONDS(20), || Ok(fault_of(&edge, "one")? == Some(over.clone())))?;
        ensure!(fault_of(&edge, "idle")?.is_none(), "nothing was lost with a link that nothing uses");
        ensure!(edge.failovers()?.len() == 1, "{:?}", edge.failovers()?);
        Ok(())
    });
}
