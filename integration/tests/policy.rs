//! The same policy, in the same words, on our bgpd and on FRR: what both accept, change and announce has to be the same.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use integration::edge::{Binaries, Edge};
use integration::peers::Frr;
use integration::{Lab, packages};
use serde_json::Value;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// Announces prefixes with everything that a policy may ask about.
const FEEDER: &str = "\
router bgp 65002
 bgp router-id 10.0.0.2
 no bgp network import-check
 no bgp ebgp-requires-policy
 neighbor 10.0.1.1 remote-as 65001
 neighbor 10.0.2.1 remote-as 65001
 address-family ipv4 unicast
  network 20.0.0.0/16
  network 20.0.1.0/24 route-map ONE
  network 20.0.2.0/24 route-map BOTH
  network 20.0.3.0/24 route-map LARGE
  network 20.0.4.0/24 route-map LONG
  network 20.0.5.0/24 route-map LONG-MED
  network 20.0.6.0/24 route-map INCOMPLETE
  network 20.0.7.0/24 route-map TARGET
  network 20.0.8.0/24 route-map GOING
  network 20.0.9.0/25
  network 21.1.0.0/16
  network 21.3.1.0/24
  network 22.1.0.0/16 route-map ONE
  network 22.2.0.0/16 route-map INCOMPLETE
  network 24.1.0.0/16
  network 24.2.0.0/16
 exit-address-family
!
route-map ONE permit 10
 set community 65002:1
!
route-map BOTH permit 10
 set community 65002:1 65002:2
 set metric 30
!
route-map LARGE permit 10
 set large-community 1:2:3 7:8:9
!
route-map LONG permit 10
 set as-path prepend 65010 65011
!
route-map LONG-MED permit 10
 set as-path prepend 65010
 set metric 50
!
route-map INCOMPLETE permit 10
 set origin incomplete
!
route-map TARGET permit 10
 set extcommunity rt 65002:7
!
route-map GOING permit 10
 set community graceful-shutdown
!
";

/// What our bgpd and FRR both are told, with the addresses of their neighbors in the place of FEEDER and COLLECTOR.
const POLICY: &str = "\
router bgp 65001
 bgp router-id 10.0.0.1
 no bgp ebgp-requires-policy
 neighbor FEEDER remote-as 65002
 neighbor OUTSIDE peer-group
 neighbor OUTSIDE remote-as 65003
 neighbor COLLECTOR peer-group OUTSIDE
 address-family ipv4 unicast
  aggregate-address 22.0.0.0/8 summary-only
  aggregate-address 24.0.0.0/8 suppress-map SUPPRESS
  neighbor FEEDER prefix-list P in
  neighbor FEEDER route-map IN in
  neighbor OUTSIDE route-map OUT out
  neighbor OUTSIDE filter-list NOT-LONG out
  neighbor OUTSIDE default-originate route-map HAS-22
  neighbor OUTSIDE unsuppress-map UNSUPPRESS
 exit-address-family
!
ip prefix-list P seq 5 deny 21.3.0.0/16 le 32
ip prefix-list P seq 10 permit 0.0.0.0/0 le 32
ip prefix-list EXACT seq 5 permit 20.0.6.0/24
ip prefix-list TWENTY-TWO seq 5 permit 22.1.0.0/16
ip prefix-list SUPPRESSED seq 5 permit 24.1.0.0/16
ip prefix-list UNSUPPRESSED seq 5 permit 22.2.0.0/16
ip prefix-list LENGTH-24 seq 5 permit 0.0.0.0/0 ge 24 le 24
ip prefix-list LENGTH-25 seq 5 permit 0.0.0.0/0 ge 25 le 25
access-list HALVES seq 5 permit 20.0.9.0/24
bgp as-path access-list VIA seq 5 permit _65010_
bgp as-path access-list NOT-LONG seq 5 deny ^65002_65011
bgp as-path access-list NOT-LONG seq 10 permit .*
bgp community-list standard ONE seq 5 permit 65002:1
bgp community-list expanded EITHER seq 5 permit 65002:[12]
bgp large-community-list standard L seq 5 permit 1:2:3
route-map IN permit 10
 match community ONE exact-match
 set local-preference 200
 set community 65001:9 additive
 on-match next
!
route-map IN permit 20
 match community EITHER
 set metric +7
 set comm-list ONE delete
 on-match goto 40
!
route-map IN permit 30
 match as-path VIA
 set as-path exclude 65010
 set weight 5
 call SUB
!
route-map IN permit 35
 match large-community L
 set large-community 4:5:6 additive
!
route-map IN permit 36
 match origin incomplete
 match ip address prefix-list EXACT
 set origin egp
 set as-path prepend last-as 2
!
route-map IN deny 37
 match ip address HALVES
!
route-map IN permit 40
 match ip address prefix-list LENGTH-24
 set large-community 9:9:9
!
route-map IN permit 50
!
route-map SUB permit 10
 match metric 50
 set local-preference +20
!
route-map SUB permit 20
!
route-map OUT deny 10
 match ip address prefix-list LENGTH-25
!
route-map OUT permit 20
 match local-preference 200
 set metric 9
 set as-path prepend 65001
!
route-map OUT permit 30
 set community 65001:77 additive
!
route-map HAS-22 permit 10
 match ip address prefix-list TWENTY-TWO
!
route-map SUPPRESS permit 10
 match ip address prefix-list SUPPRESSED
!
route-map UNSUPPRESS permit 10
 match ip address prefix-list UNSUPPRESSED
!
";

fn policy(feeder: &str, collector: &str) -> String {
    POLICY.replace("FEEDER", feeder).replace("COLLECTOR", collector)
}

#[test]
fn the_policy_is_a_configuration_of_ours() {
    let text = policy("10.0.1.2", "10.0.3.2");
    let parsed = config::parse(&text).unwrap_or_else(|wrong| panic!("{}", wrong.render("policy", &text)));
    assert!(parsed.warnings.0.is_empty(), "{}", parsed.warnings);
}

/// What is compared of a path.
fn essence(path: &Value) -> String {
    let text = |pointer: &str| path.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
    let number = |key: &str, default: u64| path[key].as_u64().unwrap_or(default);
    format!(
        "path [{}] origin {} metric {} locPrf {} weight {} communities [{}] large [{}] extended [{}] aggregator {} atomic {}",
        text("/aspath/string"),
        text("/origin"),
        number("metric", 0),
        number("locPrf", 100),
        number("weight", 0),
        text("/community/string"),
        text("/largeCommunity/string"),
        text("/extendedCommunity/string"),
        number("aggregatorAs", 0),
        path["atomicAggregate"] == true,
    )
}

/// Prefixes of a table, as `show bgp ipv4 unicast json` lists them.
fn prefixes(table: &Value) -> Vec<String> {
    let routes = table["routes"].as_object();
    routes.map(|routes| routes.keys().cloned().collect()).unwrap_or_default()
}

/// Every prefix of a table with what its path from `neighbor` comes to, or its best path.
fn table(ask: &dyn Fn(&str) -> Result<Value>, neighbor: Option<&str>) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for prefix in prefixes(&ask("show bgp ipv4 unicast json")?) {
        let route = ask(&format!("show bgp ipv4 unicast {prefix} json"))?;
        let paths = route["paths"].as_array().cloned().unwrap_or_default();
        let path = paths.iter().find(|path| match neighbor {
            Some(neighbor) => path.pointer("/peer/peerId").is_some_and(|peer| peer == neighbor),
            None => path["valid"] == true,
        });
        if let Some(path) = path {
            all.insert(prefix, essence(path));
        }
    }
    Ok(all)
}

/// Compares two tables; the error says where they differ.
fn same(what: &str, ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>) -> Result<()> {
    let mut differences = String::new();
    for prefix in ours.keys().chain(theirs.keys().filter(|prefix| !ours.contains_key(*prefix))) {
        let (ours, theirs) = (ours.get(prefix), theirs.get(prefix));
        if ours != theirs {
            differences += &format!("{prefix}\n  ours {}\n  FRR  {}\n", shown(ours), shown(theirs));
        }
    }
    ensure!(differences.is_empty(), "{what} differs:\n{differences}");
    Ok(())
}

fn shown(essence: Option<&String>) -> &str {
    essence.map_or("nothing", String::as_str)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn policies_mean_what_they_mean_to_frr() {
    Lab::test("policy", |lab| {
        packages::ensure(&packages::PEERS)?;
        let [feeder, ours, theirs, collector] =
            [lab.node("feeder")?, lab.node("ours")?, lab.node("frr")?, lab.node("collector")?];
        for (left, right, number) in
            [(&ours, &feeder, 1), (&theirs, &feeder, 2), (&ours, &collector, 3), (&theirs, &collector, 4)]
        {
            let (to, from) = (format!("l{number}"), format!("r{number}"));
            lab.join((left, to.as_str()), (right, from.as_str()))?;
            left.address(&to, &format!("10.0.{number}.1/24"))?;
            right.address(&from, &format!("10.0.{number}.2/24"))?;
        }
        let mut edge = Edge::new(&ours, &Binaries::find()?, &policy("10.0.1.2", "10.0.3.2"))?;
        edge.start_bgpd()?;
        let reference = Frr::start(&theirs, &["bgpd"], &policy("10.0.2.2", "10.0.4.2"))?;
        let collector = Frr::start(
            &collector,
            &["bgpd"],
            "router bgp 65003\n bgp router-id 10.0.0.3\n no bgp ebgp-requires-policy\n neighbor 10.0.3.1 remote-as 65001\n \
             neighbor 10.0.4.1 remote-as 65001\n",
        )?;
        let feeder = Frr::start(&feeder, &["bgpd"], FEEDER)?;
        lab.wait_for("the sessions", SECONDS(90), || {
            edge.must_run()?;
            Ok(feeder.is_established("10.0.1.1")?
                && feeder.is_established("10.0.2.1")?
                && collector.is_established("10.0.3.1")?
                && collector.is_established("10.0.4.1")?)
        })?;
        let ours_has = |command: &str| edge.json(command);
        let frr_has = |command: &str| reference.json(command);
        let mut last = String::new();
        let compared = lab.wait_for("the same table on both", SECONDS(60), || {
            let (ours, theirs) = (table(&ours_has, None)?, table(&frr_has, None)?);
            let outcome = same("the table", &ours, &theirs);
            last = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
            Ok(ours.len() >= 10 && outcome.is_ok())
        });
        compared.with_context(|| last.clone())?;

        // FRR announces after its own pace, and looks for what lets a default route be originated once in a while.
        let told = |command: &str| collector.json(command);
        let compared = lab.wait_for("the same announced by both", SECONDS(90), || {
            let (ours, theirs) = (table(&told, Some("10.0.3.1"))?, table(&told, Some("10.0.4.1"))?);
            let outcome = same("what is announced", &ours, &theirs);
            last = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
            Ok(ours.len() >= 8 && outcome.is_ok())
        });
        compared.with_context(|| last.clone())?;

        // A change of policy changes what it is about, and no session notices.
        let uptime = |edge: &Edge| Ok::<_, anyhow::Error>(edge.neighbor("10.0.1.2")?["connectionsEstablished"].clone());
        let before = uptime(&edge)?;
        let changed = policy("10.0.1.2", "10.0.3.2").replace("set local-preference 200", "set local-preference 300");
        edge.configure(&changed)?;
        edge.process(integration::edge::Daemon::Bgpd)?.signal(rustix::process::Signal::HUP)?;
        lab.wait_for("the new preference", SECONDS(20), || {
            let route = edge.json("show bgp ipv4 unicast 20.0.1.0/24 json")?;
            Ok(route.pointer("/paths/0/locPrf").is_some_and(|preference| preference == 300))
        })?;
        ensure!(uptime(&edge)? == before, "the session went down");
        // What is picked out of the table by the names of the configuration.
        for (filter, expected) in [
            ("community-list EITHER", 1),
            ("regexp _65011_", 1),
            ("large-community 9:9:9", 4),
            ("22.0.0.0/8 longer-prefixes", 3),
            ("prefix-list EXACT", 1),
        ] {
            let found = prefixes(&edge.json(&format!("show bgp ipv4 unicast {filter} json"))?).len();
            ensure!(found >= expected, "{filter} finds {found} routes");
        }
        Ok(())
    });
}
