//! Lines typed into a configuration in force: what they add, what `no` takes back, what is refused.

use std::net::IpAddr;

use config::{Config, Moved, Place, UnknownLines, edit, parse, parse_with};
use proptest::prelude::*;

const RUNNING: &str = "\
ip route 10.9.0.0/16 blackhole
ip prefix-list SITES seq 5 permit 10.0.0.0/8 ge 16 le 24
ip prefix-list SITES seq 10 permit 192.0.2.0/24
route-map OUT permit 10
 match ip address prefix-list SITES
 set metric 5
route-map OUT permit 20
router bgp 65001
 bgp router-id 10.1.0.1
 neighbor 192.0.2.1 remote-as 65000
 neighbor 192.0.2.1 description hub one
 neighbor 192.0.2.1 timers 3 9
 neighbor 192.0.2.2 remote-as external
 address-family ipv4 unicast
  network 10.1.0.0/16
  neighbor 192.0.2.1 route-map OUT out
  neighbor 192.0.2.1 maximum-prefix 1000 90 restart 5
 exit-address-family
";

fn running() -> Config {
    parse(RUNNING).unwrap().config
}

fn put(lines: &str) -> Config {
    edit(&running(), lines, UnknownLines::Refuse).unwrap_or_else(|why| panic!("{}", why.render(lines))).config
}

/// The running configuration with one piece of text in the place of another.
fn with(from: &str, to: &str) -> Config {
    assert!(RUNNING.contains(from), "{from}");
    parse(&RUNNING.replacen(from, to, 1)).unwrap().config
}

#[test]
fn lines_are_added_where_they_belong() {
    let expected =
        with(" neighbor 192.0.2.2 remote", " neighbor 192.0.2.3 remote-as 65003\n neighbor 192.0.2.2 remote");
    assert_eq!(put("router bgp 65001\nneighbor 192.0.2.3 remote-as 65003\n"), expected);
    let expected = with("network 10.1.0.0/16", "network 10.1.0.0/16\n  network 10.2.0.0/16");
    assert_eq!(put("router bgp 65001\naddress-family ipv4 unicast\nnetwork 10.2.0.0/16\n"), expected);
}

#[test]
fn a_speaker_goes_on_without_its_number() {
    let expected = with(" bgp router-id 10.1.0.1", " bgp router-id 10.1.0.7");
    assert_eq!(put("router bgp\n bgp router-id 10.1.0.7\n"), expected);
    assert!(edit(&Config::default(), "router bgp\n", UnknownLines::Refuse).is_err());
}

#[test]
fn words_may_be_abbreviated() {
    assert_eq!(put("rou b 65001\n no neigh 192.0.2.1 desc\n"), with(" neighbor 192.0.2.1 description hub one\n", ""));
}

#[test]
fn no_takes_back_what_a_line_or_its_beginning_says() {
    for (lines, gone) in [
        ("no ip route 10.9.0.0/16 blackhole", "ip route 10.9.0.0/16 blackhole\n"),
        ("no ip prefix-list SITES permit 192.0.2.0/24", "ip prefix-list SITES seq 10 permit 192.0.2.0/24\n"),
        ("no route-map OUT permit 20", "route-map OUT permit 20\n"),
        ("route-map OUT permit 10\nno set metric", " set metric 5\n"),
        ("route-map OUT permit 10\nno set metric 7", " set metric 5\n"),
        ("router bgp 65001\nno bgp router-id", " bgp router-id 10.1.0.1\n"),
        ("router bgp 65001\nno bgp router-id 10.9.9.9", " bgp router-id 10.1.0.1\n"),
        ("router bgp 65001\nno neighbor 192.0.2.1 timers 60 180", " neighbor 192.0.2.1 timers 3 9\n"),
        ("router bgp 65001\nno neighbor 192.0.2.1 description", " neighbor 192.0.2.1 description hub one\n"),
        ("router bgp 65001\nno network 10.1.0.0/16", "  network 10.1.0.0/16\n"),
        (
            "router bgp 65001\naddress-family ipv4\nno neighbor 192.0.2.1 maximum-prefix 20",
            "  neighbor 192.0.2.1 maximum-prefix 1000 90 restart 5\n",
        ),
    ] {
        // `set metric 7` is of a route-map, whose values say which line is meant.
        if lines.ends_with("metric 7") {
            assert_eq!(put(lines), running(), "{lines}");
        } else {
            assert_eq!(put(lines), with(gone, ""), "{lines}");
        }
    }
}

#[test]
fn a_neighbor_goes_with_all_that_is_said_of_it() {
    for lines in ["no neighbor 192.0.2.1", "no neighbor 192.0.2.1 remote-as 65000", "no nei 192.0.2.1"] {
        let left = put(&format!("router bgp 65001\n{lines}\n"));
        let bgp = left.bgp.as_ref().unwrap();
        assert_eq!(bgp.neighbors.len(), 1, "{lines}");
        assert!(!left.to_string().contains("192.0.2.1"), "{lines}");
    }
    let again = put("router bgp 65001\nno neighbor 192.0.2.1\nneighbor 192.0.2.1 remote-as 65009\n");
    let neighbor = format!("{again}");
    assert!(neighbor.contains("neighbor 192.0.2.1 remote-as 65009") && !neighbor.contains("hub one"), "{neighbor}");
}

#[test]
fn sections_go_with_their_lines_and_may_come_back() {
    assert!(put("no router bgp\n").bgp.is_none());
    assert!(put("no router bgp 65001\n").bgp.is_none());
    let other = put("no router bgp 65001\nrouter bgp 65002\n neighbor 192.0.2.9 remote-as 65001\n");
    let bgp = other.bgp.unwrap();
    assert_eq!((bgp.asn.get(), bgp.neighbors.len()), (65002, 1));
    assert!(put("no route-map OUT\n").route_maps.is_empty());
    let entry =
        put("route-map OUT permit 10\nset local-preference 7\nno route-map OUT permit 10\nroute-map OUT deny 10\n");
    assert!(entry.to_string().contains("route-map OUT deny 10\n!"), "{entry}");
}

#[test]
fn a_file_may_take_back_its_own_lines() {
    let text = format!("{RUNNING}!\nrouter bgp 65001\n no neighbor 192.0.2.1 description\n");
    assert_eq!(parse(&text).unwrap().config, with(" neighbor 192.0.2.1 description hub one\n", ""));
}

#[test]
fn what_is_not_there_is_a_warning_and_what_is_no_line_an_error() {
    let lines = "!\nno ip route 10.10.0.0/16 blackhole\n";
    let parsed = edit(&running(), lines, UnknownLines::Refuse).unwrap();
    assert_eq!(parsed.config, running());
    assert!(parsed.warnings.to_string().contains("2:1: warning: there is nothing to take back"), "{}", parsed.warnings);
    let refused = edit(&running(), "no such line\n", UnknownLines::Refuse).unwrap_err();
    assert_eq!(refused.lines.0[0].line, 1);
}

#[test]
fn refusals_name_the_line_and_change_nothing() {
    let lines = "router bgp 65001\n neighbor 192.0.2.5 remote-as 1\n neighbor 192.0.2.5 tmers 1 2\n";
    let refused = edit(&running(), lines, UnknownLines::Refuse).unwrap_err();
    assert_eq!((refused.lines.0.len(), refused.lines.0[0].line), (1, 3));
    let shown = refused.render(lines);
    assert!(shown.contains("neighbor 192.0.2.5 tmers 1 2") && shown.contains("timers"), "{shown}");
    let incomplete =
        edit(&running(), "router bgp 65001\nneighbor 192.0.2.7 passive\n", UnknownLines::Refuse).unwrap_err();
    assert!(incomplete.to_string().contains("remote-as"), "{incomplete}");
    let other = edit(&running(), "router bgp 65002\n", UnknownLines::Refuse).unwrap_err();
    assert!(other.to_string().contains("one speaker has one AS"), "{other}");
}

const FOREIGN: &str = "\
frr version 8.4
hostname r1
log file /tmp/x.log debugging
interface eth0
 ip address 192.0.2.9/24
 ip ospf cost 5
!
router ospf
 network 10.0.0.0/8 area 0
!
router bgp 65001
 neighbor 192.0.2.1 remote-as 65000
 neighbor 192.0.2.1 something new
 address-family l2vpn evpn
  neighbor 192.0.2.1 activate
  advertise-all-vni
 exit-address-family
 address-family ipv4 unicast
  network 10.1.0.0/16
 exit-address-family
!
router bgp 65009 vrf red
 neighbor 192.0.2.77 remote-as 65000
!
ip route 10.9.0.0/16 blackhole
";

#[test]
fn unknown_lines_may_be_warnings_and_their_sections_are_passed_over() {
    assert!(parse(FOREIGN).is_err());
    let parsed = parse_with(FOREIGN, UnknownLines::Warn).unwrap();
    let bgp = parsed.config.bgp.as_ref().unwrap();
    assert_eq!((bgp.neighbors.len(), bgp.families.len()), (1, 1));
    assert!(bgp.neighbors.values().next().unwrap().settings.families.is_empty(), "of a family that is not there");
    assert_eq!(parsed.config.static_routes.len(), 1);
    let warnings = parsed.warnings.to_string();
    for place in ["6:5:", "8:8:", "13:21:", "14:17:", "22:12:"] {
        assert!(warnings.contains(place), "{place} in\n{warnings}");
    }
}

#[test]
fn a_neighbor_that_is_left_incomplete_by_unknown_lines_is_left_out() {
    let text = "router bgp 65001\n neighbor 192.0.2.1 remote-as auto\n neighbor 192.0.2.1 passive\n neighbor 192.0.2.2 remote-as 1\n";
    let parsed = parse_with(text, UnknownLines::Warn).unwrap();
    let neighbors = parsed.config.to_string();
    assert!(neighbors.contains("192.0.2.2") && !neighbors.contains("192.0.2.1"), "{neighbors}");
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    assert!(parsed.warnings.to_string().contains(&format!("neighbor {address}: \"remote-as")), "{}", parsed.warnings);
}

#[test]
fn a_virtual_router_that_is_left_incomplete_by_unknown_lines_is_left_out() {
    let text = "interface lan0\n vrrp 1 version 2\n vrrp 1 ip 10.1.0.1\n vrrp 2\n vrrp 2 ipv6 nowhere\n vrrp 3\n vrrp 3 ip 10.1.0.3\n";
    let parsed = parse_with(text, UnknownLines::Warn).unwrap();
    let groups: Vec<u8> = parsed.config.vrrp.keys().map(|(_, vrid)| vrid.get()).collect();
    assert_eq!(groups, [3], "{}", parsed.config);
    assert!(parsed.warnings.to_string().contains("vrrp 2 of interface lan0: \"vrrp 2 ip"), "{}", parsed.warnings);
}

#[test]
fn the_prompt_knows_where_it_stands() {
    let mut place = Place::default();
    let mut at = |line: &str| (place.take(line), place.prompt());
    assert_eq!(at("router b 65001"), (Moved::No, "config-router"));
    assert_eq!(at("address-family ipv4 unicast"), (Moved::No, "config-router-af"));
    assert_eq!(at("network 10.0.0.0/8"), (Moved::No, "config-router-af"));
    assert_eq!(at("neighbor 192.0.2.1 remote-as 1"), (Moved::No, "config-router"));
    assert_eq!(at("route-map X permit 10"), (Moved::No, "config-route-map"));
    assert_eq!(at("exit"), (Moved::No, "config"));
    assert_eq!(at("exit"), (Moved::Out, "config"));
}

/// Lines of a kind, right and wrong ones, in any order.
fn typed() -> impl Strategy<Value = String> {
    let subject = prop_oneof![Just("192.0.2.1"), Just("192.0.2.2"), Just("192.0.2.3"), Just("hubs"), Just("OUT")];
    let rest = proptest::sample::select(
        &[
            "remote-as 65000",
            "remote-as external",
            "peer-group",
            "peer-group hubs",
            "description some words",
            "timers 3 9",
            "shutdown",
            "route-map OUT out",
            "maximum-prefix 10",
            "activate",
            "",
        ][..],
    );
    let neighbor = (subject, rest).prop_map(|(subject, rest)| format!("neighbor {subject} {rest}"));
    let other = proptest::sample::select(
        &[
            "router bgp 65001",
            "router bgp 65002",
            "router bgp",
            "address-family ipv4 unicast",
            "address-family l2vpn evpn",
            "exit-address-family",
            "exit",
            "end",
            "network 10.1.0.0/16",
            "bgp router-id 10.1.0.9",
            "bgp confederation peers 65007 65008 65009",
            "bgp confederation peers 65008",
            "route-map OUT permit 10",
            "route-map OUT",
            "set metric 9",
            "ip prefix-list SITES seq 5 permit 10.0.0.0/8 ge 16 le 24",
            "ip prefix-list SITES permit 192.0.2.0/24",
            "ip route 10.9.0.0/16 blackhole",
            "nonsense here",
        ][..],
    );
    (any::<bool>(), prop_oneof![neighbor, other.prop_map(str::to_owned)])
        .prop_map(|(no, line)| format!("{}{line}\n", if no { "no " } else { "" }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_typed_is_taken_whole_or_refused(lines in proptest::collection::vec(typed(), 0..12)) {
        let lines = lines.concat();
        for unknown in [UnknownLines::Refuse, UnknownLines::Warn] {
            match edit(&running(), &lines, unknown) {
                Ok(parsed) => {
                    let printed = parsed.config.to_string();
                    let again = parse(&printed);
                    prop_assert!(again.is_ok(), "{lines}\n{printed}");
                    prop_assert_eq!(again.unwrap().config, parsed.config, "{}\n{}", lines, printed);
                }
                Err(refused) => prop_assert!(!refused.render(&lines).is_empty()),
            }
        }
    }

    /// A neighbor that is taken out again leaves nothing behind, and a value none. (A flag leaves that it was turned off, which a
    /// peer-group cannot change.)
    #[test]
    fn no_undoes_what_was_typed(rest in proptest::sample::select(&["timers 3 9", "description words", "timers connect 5", "port 1179"][..])) {
        let lines = format!("router bgp 65001\nneighbor 192.0.2.9 remote-as 1\nneighbor 192.0.2.9 {rest}\nno neighbor 192.0.2.9\n");
        prop_assert_eq!(put(&lines), running());
        let lines = format!("router bgp 65001\nneighbor 192.0.2.2 {rest}\nno neighbor 192.0.2.2 {rest}\n");
        prop_assert_eq!(put(&lines), running());
    }
}
