//! A route server whose clients are FRR, BIRD and GoBGP on one exchange: each is told of the best path that it may have, which
//! for one is not the best there is and for another its own (RFC 7947 §2.3).

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use integration::edge::{Binaries, Edge};
use integration::peers::{Bird, Frr, Gobgp};
use integration::{Lab, Node, packages};
use serde_json::Value;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;
const PREFIX: &str = "10.77.0.0/16";
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 254, 9, 1);
const CLIENTS: [(&str, Ipv4Addr, u32); 3] = [
    ("frr", Ipv4Addr::new(10, 254, 9, 11), 65011),
    ("bird", Ipv4Addr::new(10, 254, 9, 12), 65012),
    ("gobgp", Ipv4Addr::new(10, 254, 9, 13), 65013),
];

/// The server's: GoBGP is kept from paths through the ASes named, and it goes without a view of its own if asked.
fn configuration(denied: &str, best_only: bool) -> String {
    let mut text = format!("router bgp 65001\n bgp router-id {SERVER}\n no bgp ebgp-requires-policy\n");
    for (_, address, asn) in CLIENTS {
        text += &format!(" neighbor {address} remote-as {asn}\n neighbor {address} timers connect 1\n");
    }
    text += " address-family ipv4 unicast\n";
    for (name, address, _) in CLIENTS {
        text += &format!("  neighbor {address} route-server-client\n");
        if name == "gobgp" {
            text += &format!("  neighbor {address} route-map to-gobgp out\n");
            text += &if best_only {
                format!("  neighbor {address} route-server-client best-path-only\n")
            } else {
                String::new()
            };
        }
    }
    text + &format!(
        "bgp as-path access-list kept permit _({denied})_\nroute-map to-gobgp deny 10\n match as-path kept\nroute-map to-gobgp permit 20\n"
    )
}

fn frr(address: Ipv4Addr) -> String {
    format!(
        "router bgp 65011\n bgp router-id {address}\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
         neighbor {SERVER} remote-as 65001\n neighbor {SERVER} timers connect 2\n neighbor {SERVER} timers 1 3\n \
         address-family ipv4 unicast\n  network {PREFIX}\n exit-address-family\n"
    )
}

fn bird(address: Ipv4Addr) -> String {
    format!(
        "router id {address};\nprotocol device {{}}\nprotocol direct {{ ipv4; }}\n\
         protocol static ours {{ ipv4; route {PREFIX} blackhole; }}\n\
         protocol bgp server {{ local {address} as 65012; neighbor {SERVER} as 65001; hold time 3; connect retry time 2; \
         connect delay time 1; ipv4 {{ import all; export filter {{ if proto != \"ours\" then reject; \
         bgp_path.prepend(65012); accept; }}; }}; }}\n"
    )
}

fn gobgp(address: Ipv4Addr) -> String {
    format!(
        "[global.config]\n as = 65013\n router-id = \"{address}\"\n\n[[neighbors]]\n [neighbors.config]\n  \
         neighbor-address = \"{SERVER}\"\n  peer-as = 65001\n [[neighbors.afi-safis]]\n  [neighbors.afi-safis.config]\n   \
         afi-safi-name = \"ipv4-unicast\"\n"
    )
}

/// Everybody on one link.
fn exchange(lab: &Lab) -> Result<(Node, [Node; 3])> {
    let switch = lab.node("exchange")?;
    switch.ip("link add lan type bridge")?;
    switch.set_link("lan", true)?;
    let join = |name: &str, address: Ipv4Addr| -> Result<Node> {
        let node = lab.node(name)?;
        lab.join((&switch, name), (&node, "ixp"))?;
        switch.ip(&format!("link set {name} master lan"))?;
        node.address("ixp", &format!("{address}/24"))?;
        Ok(node)
    };
    let server = join("server", SERVER)?;
    let [frr, bird, gobgp] = CLIENTS.map(|(name, address, _)| join(name, address));
    Ok((server, [frr?, bird?, gobgp?]))
}

/// The path of the prefix that FRR has from the server.
fn at_frr(frr: &Frr) -> Result<Option<String>> {
    let answer = frr.json(&format!("show bgp ipv4 unicast {PREFIX} json"))?;
    let paths = answer.get("paths").and_then(Value::as_array);
    let learned = paths.into_iter().flatten().filter_map(|path| path.pointer("/aspath/string")?.as_str());
    Ok(learned.filter(|path| *path != "Local").map(str::to_owned).next())
}

fn at_bird(bird: &Bird) -> Result<Option<String>> {
    let shown = bird.birdc(&format!("show route all protocol server {PREFIX}"))?;
    Ok(shown.lines().find_map(|line| line.trim().strip_prefix("BGP.as_path: ").map(str::to_owned)))
}

fn at_gobgp(gobgp: &Gobgp) -> Result<Option<String>> {
    let shown = gobgp.gobgp(&format!("global rib {PREFIX} -a ipv4 -j"))?;
    let Ok(answer) = serde_json::from_str::<Value>(&shown) else { return Ok(None) }; // it says that there is none
    let attributes = answer.pointer("/0/attrs").or_else(|| answer.as_object()?.values().next()?.pointer("/0/attrs"));
    let attributes = attributes.and_then(Value::as_array);
    let segments = attributes.into_iter().flatten().find_map(|attribute| attribute.get("as_paths"));
    let asns = segments.and_then(|segments| segments.pointer("/0/asns")?.as_array());
    Ok(asns.map(|asns| asns.iter().map(Value::to_string).collect::<Vec<_>>().join(" ")))
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn each_client_has_the_best_path_that_it_may_have() {
    Lab::test("route-server", |lab| {
        packages::ensure(&packages::PEERS)?;
        let (server, [at_11, at_12, at_13]) = exchange(lab)?;
        let mut ours = Edge::new(&server, &Binaries::find()?, &configuration("65099", false))?;
        ours.start()?;
        let [(_, one, _), (_, two, _), (_, three, _)] = CLIENTS;
        let frr = Frr::start(&at_11, &["bgpd"], &frr(one))?;
        let bird = Bird::start(&at_12, &bird(two))?;
        let gobgp = Gobgp::start(&at_13, &gobgp(three))?;
        let (short, long) = (Some("65011"), Some("65012 65012"));
        let wanted = |what: &str, gobgp_has: Option<&str>| {
            lab.wait_for(what, SECONDS(60), || {
                let found = (at_frr(&frr)?, at_bird(&bird)?, at_gobgp(&gobgp)?);
                Ok((found.0.as_deref(), found.1.as_deref(), found.2.as_deref()) == (long, short, gobgp_has))
            })
        };
        wanted("the best path for each", short)?;
        let sent = |client: Ipv4Addr| -> Result<Value> {
            let answer = ours.json(&format!("show bgp ipv4 unicast neighbors {client} advertised-routes json"))?;
            Ok(answer.pointer("/advertisedRoutes").and_then(|routes| routes.get(PREFIX)).cloned().unwrap_or_default())
        };
        let path = |route: &Value| route.get("path").and_then(Value::as_str).map(str::to_owned);
        ensure!(path(&sent(one)?).as_deref() == long && path(&sent(three)?).as_deref() == short, "{}", sent(one)?);

        ours.configure(&configuration("65011", false))?;
        ours.reload()?;
        wanted("the second best where the best is denied", long)?;
        ours.configure(&configuration("65011", true))?;
        ours.reload()?;
        wanted("nothing without a view of its own", None)?;
        ours.configure(&configuration("65011", false))?;
        ours.reload()?;
        wanted("its own view again", long)?;

        drop(bird);
        let left = || Ok((at_frr(&frr)?, at_gobgp(&gobgp)?) == (None, None));
        lab.wait_for("nothing left but what is denied", SECONDS(30), left)?;
        ours.configure(&configuration("65099", false))?;
        ours.reload()?;
        let back = || Ok(at_gobgp(&gobgp)?.as_deref() == short && at_frr(&frr)?.is_none());
        lab.wait_for("the best, permitted again", SECONDS(30), back)?;
        ours.must_run()
    });
}
