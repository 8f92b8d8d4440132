//! The configuration language from the outside: what it reads, what it refuses and how it says so.

use std::{net::IpAddr, time::Duration};

use config::{
    Config, Diagnostics, Severity,
    model::{
        Action, Adjust, Credential, FailClosed, IkeId, Initiate, Match, MaximumPrefixAction, Password, Probe,
        RedistributeSource, RemoteAddress, RemoteAs, Set, StaticTarget, VrrpGroup,
    },
    parse,
};
use net_types::Family;

fn read(source: &str) -> Config {
    parse(source).unwrap_or_else(|wrong| panic!("{}", wrong.render("test.conf", source))).config
}

fn refused(source: &str) -> Diagnostics {
    match parse(source) {
        Ok(parsed) => panic!("accepted:\n{source}\nas\n{}", parsed.config),
        Err(wrong) => wrong,
    }
}

const EDGE: &str = "\
hostname edge1
log level debug
path-damping failures 4 within 90 hold 500ms max 120
metrics bgpd 127.0.0.1:9179
metrics ipsecd 127.0.0.1:9180
!
wan isp1
 interface eth0
 gateway 198.51.100.1
wan isp2
 interface eth1
 gateway 192.0.2.1
 gateway 2001:db8::1
ipsec proposal strong
 ike aes256gcm16-prfsha384-ecp384 aes128gcm16-prfsha256-x25519
 esp aes256gcm16
ipsec identity site
 id edge1.example.net
 certificate /etc/holdfast/edge1.pem
 private-key /etc/holdfast/edge1.key
 trust-anchor /etc/holdfast/ca.pem
ipsec identity psk-site
 id C=DE, O=Example, CN=edge1
 pre-shared-key file /etc/holdfast/edge1.psk
ipsec tunnel tun1
 remote 203.0.113.1 id hub1.example.net
 wan isp1
 identity site
 proposal strong
 ip address 169.254.1.2/30
 ipv6 address fd00:1::2/64
 dpd interval 2 timeout 6
 probe 169.254.1.1 interval 200ms
 rekey ike 7200
 rekey child 1800 megabytes 1000
ipsec tunnel tun2
 remote any id hub2.example.net
 wan isp2
 identity psk-site
 local-ts 10.1.0.0/16
 remote-ts 0.0.0.0/0 ::/0
 initiate never
 shutdown
bfd
 profile fast
  transmit-interval 10
  receive-interval 10
  detect-multiplier 3
 !
!
ip route 10.9.0.0/16 blackhole
ip route 10.8.0.0/16 192.0.2.9 eth1 200
ipv6 route 2001:db8:9::/48 tun1
ip prefix-list SITES seq 5 permit 10.0.0.0/8 ge 16 le 24
ip prefix-list SITES deny any
route-map OUT permit 10
 match ip address prefix-list SITES
 set local-preference 200
 set as-path prepend 65001 65001
 set community 65001:1 no-export additive
!
router bgp 65001
 bgp router-id 10.1.0.1
 no bgp ebgp-requires-policy
 neighbor 169.254.1.1 remote-as 65000
 neighbor 169.254.1.1 bfd profile fast
 neighbor 169.254.1.1 timers 3 9
 neighbor 169.254.1.1 timers connect 5
 neighbor 169.254.1.1 password hunter2
 neighbor 169.254.1.1 ttl-security hops 1
 neighbor fe80::1 remote-as external
 neighbor fe80::1 interface tun1
 !
 address-family ipv4 unicast
  network 10.1.0.0/16
  redistribute connected route-map OUT
  neighbor 169.254.1.1 route-map OUT out
  neighbor 169.254.1.1 maximum-prefix 1000 90 restart 5
 exit-address-family
 !
 address-family ipv6 unicast
  neighbor fe80::1 activate
 exit-address-family
!
";

#[test]
fn a_whole_file_means_what_it_says() {
    let config = read(EDGE);
    assert_eq!(config.hostname.as_ref().unwrap().as_str(), "edge1");
    assert_eq!(config.wans.len(), 2);
    let tunnel = &config.tunnels[&"tun1".parse().unwrap()];
    assert_eq!(tunnel.remote.address, RemoteAddress::Address("203.0.113.1".parse().unwrap()));
    assert_eq!(tunnel.remote.id, Some(IkeId::Fqdn("hub1.example.net".into())));
    assert_eq!(tunnel.addresses.len(), 2);
    assert_eq!(tunnel.child_lifetime.octets, Some(1_000_000_000));
    let (interval, timeout) = (Duration::from_millis(200), Duration::from_millis(600));
    assert_eq!(tunnel.probe, Some(Probe { address: "169.254.1.1".parse().unwrap(), interval, timeout }));
    let passive = &config.tunnels[&"tun2".parse().unwrap()];
    assert_eq!((passive.initiate.clone(), passive.shutdown), (Initiate::Never, true));
    assert!(matches!(config.identities[&"psk-site".parse().unwrap()].credential, Credential::PreSharedKey { .. }));
    assert_eq!(config.bfd_profiles[&"fast".parse().unwrap()].transmit_interval, Duration::from_millis(10));
    assert_eq!(config.static_routes.len(), 3);
    assert!(config.static_routes.iter().any(|route| route.target == StaticTarget::Blackhole));
    let list = &config.prefix_lists[&(Family::Ipv4Unicast, "SITES".parse().unwrap())];
    assert_eq!(list.entries.keys().copied().collect::<Vec<_>>(), [5, 10], "the second entry is numbered by itself");
    assert_eq!(list.decide(&"10.1.0.0/16".parse().unwrap()), Action::Permit);
    let entry = &config.route_maps[&"OUT".parse().unwrap()].entries[&10];
    assert_eq!(entry.matches, [Match::AddressPrefixList(Family::Ipv4Unicast, "SITES".parse().unwrap())]);
    assert!(entry.sets.contains(&Set::LocalPreference(Adjust::To(200))));
    let bgp = config.bgp.as_ref().unwrap();
    let neighbor = bgp.resolve(&"169.254.1.1".parse::<IpAddr>().unwrap().into()).unwrap();
    assert_eq!(neighbor.remote_as, RemoteAs::Asn("65000".parse().unwrap()));
    assert!(matches!(neighbor.settings.password, Some(Password::Inline(_))));
    assert!(bgp.is_active(&neighbor, Family::Ipv4Unicast) && !bgp.is_active(&neighbor, Family::Ipv6Unicast));
    let limit = neighbor.settings.families[&Family::Ipv4Unicast].maximum_prefix.unwrap();
    assert_eq!(limit.action, MaximumPrefixAction::Restart(Duration::from_secs(300)));
    assert!(bgp.families[&Family::Ipv4Unicast].redistribute.contains_key(&RedistributeSource::Connected));
    assert_eq!(bgp.fail_closed, FailClosed::Lost);
}

#[test]
fn the_running_configuration_reads_back_and_prints_the_same_again() {
    let config = read(EDGE);
    let printed = config.to_string();
    assert_eq!(read(&printed), config);
    assert_eq!(read(&printed).to_string(), printed);
}

#[test]
fn a_file_of_frr_is_read_as_it_is() {
    let source = "\
frr version 8.4.4
frr defaults traditional
hostname r1
service integrated-vtysh-config
!
router bgp 65001
 bgp router-id 10.0.0.1
 bgp log-neighbor-changes
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 bgp bestpath as-path ignore
 bgp graceful-restart
 timers bgp 3 9
 neighbor 10.0.0.2 remote-as internal
 neighbor 10.0.0.2 update-source lo
 neighbor 10.0.0.2 ebgp-multihop
 !
 address-family ipv4 unicast
  network 10.1.0.0/16
  neighbor 10.0.0.2 activate
  neighbor 10.0.0.2 next-hop-self
  neighbor 10.0.0.2 soft-reconfiguration inbound
 exit-address-family
exit
!
route-map X permit 10
exit
!
end
";
    let parsed = parse(source).unwrap();
    assert_eq!(parsed.warnings.0.len(), 2, "{}", parsed.warnings);
    assert!(parsed.warnings.0.iter().all(|warning| warning.severity == Severity::Warning));
    let bgp = parsed.config.bgp.unwrap();
    assert!(!bgp.default_ipv4_unicast && bgp.best_path.ignore_as_path_length);
    assert_eq!(bgp.neighbors.len(), 1);
}

#[test]
fn indentation_does_not_matter_where_the_meaning_is_clear() {
    let flat: String = EDGE.lines().map(|line| format!("{}\n", line.trim_start())).collect();
    // `wan` has a meaning inside a tunnel too; unindented the order of this file is clear all the same.
    assert_eq!(read(&flat), read(EDGE));
    // What an address family does not know belongs to the speaker, and the sections are left without `exit`.
    let config = read(
        "router bgp 1\n address-family ipv4\n  network 10.0.0.0/8\n neighbor 10.0.0.1 remote-as 2\nwan a\n interface b\n",
    );
    assert_eq!(config.bgp.unwrap().neighbors.len(), 1);
    assert_eq!(config.wans.len(), 1);
    // An unindented `wan` after an indented tunnel begins a WAN.
    let source = "ipsec tunnel t\n remote 192.0.2.1\n wan a\n identity i\nwan b\n interface e1\nwan a\n interface e0\n\
                  ipsec identity i\n id x\n pre-shared-key file /k\n";
    let config = read(source);
    assert_eq!(config.tunnels.values().next().unwrap().wan.as_str(), "a");
    assert_eq!(config.wans.len(), 2);
}

#[test]
fn old_files_say_of_ipv4_in_the_speaker_what_belongs_into_the_family() {
    let old = "router bgp 1\n neighbor 10.0.0.1 remote-as 2\n network 10.0.0.0/8\n neighbor 10.0.0.1 next-hop-self\n neighbor 10.0.0.1 passive\n";
    let new = "router bgp 1\n neighbor 10.0.0.1 remote-as 2\n neighbor 10.0.0.1 passive\n address-family ipv4 unicast\n  network 10.0.0.0/8\n  neighbor 10.0.0.1 next-hop-self\n";
    assert_eq!(read(old), read(new));
}

#[test]
fn all_mistakes_are_told_at_once_each_with_its_place() {
    let source = "\
hostname edge1
wan isp1
 interface eth0
 gatewey 198.51.100.1
ipsec tunnel tun1
 remote 203.0.113.1
 wan isp9
 identity site
router bgp 65001
 bgp router-id 0.0.0.0
 neighbor 10.0.0.1 remote-as 0
 neighbor 10.0.0.2 timers 3 2
 neighbor 10.0.0.3 description left alone
 nieghbor 10.0.0.4 remote-as 1
 address-family ipv6 unicast
  network 10.0.0.0/8
";
    let wrong = refused(source);
    let places: Vec<(usize, usize)> = wrong.0.iter().map(|wrong| (wrong.line, wrong.column)).collect();
    assert_eq!(
        places,
        [(4, 2), (7, 6), (8, 11), (10, 16), (11, 30), (12, 2), (12, 29), (13, 2), (14, 2), (16, 11)],
        "{}",
        wrong.render("edge1.conf", source)
    );
    let text = wrong.to_string();
    for expected in [
        "4:2: error: \"gatewey\" does not fit here, in \"wan isp1\"",
        "did you mean \"gateway\"?",
        "7:6: error: wan \"isp9\" is not defined (did you mean \"isp1\"?)",
        "ipsec identity \"site\" is not defined",
        "AS number 0 is reserved",
        "a hold time is 0 or at least 3 seconds",
        "neighbor 10.0.0.3: \"remote-as ASN\" is missing",
        "did you mean \"neighbor\"?",
        "the prefix does not belong into \"address-family ipv6 unicast\"",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    let picture = wrong.render("edge1.conf", source);
    assert!(picture.contains("edge1.conf:4:2") && picture.contains("gatewey 198.51.100.1"), "{picture}");
}

#[test]
fn contradictions_and_gaps_are_refused() {
    let psk = "ipsec identity i\n id x\n pre-shared-key file /k\n";
    let wan = "wan a\n interface e0\n";
    let probing = |address: &str, pace: &str| {
        format!(
            "{psk}{wan}ipsec tunnel t\n remote ::1\n wan a\n identity i\n ip address 10.0.0.1/30\n probe {address}{pace}\n"
        )
    };
    let tunnel = |lines: &str| format!("{psk}{wan}ipsec tunnel t\n remote 192.0.2.1\n wan a\n identity i\n{lines}");
    let many: String = (0..65).map(|n| format!(" 10.{n}.0.0/16")).collect();
    for (source, expected) in [
        (tunnel(" local 0.0.0.0\n"), "an address that the link has"),
        (tunnel(" local 2001:db8::1\n"), "of different families"),
        (tunnel(" reverse-route\n"), "needs \"remote-ts PREFIX\""),
        (tunnel(" remote-ts 0.0.0.0/0 ::/0\n reverse-route\n"), "with \"reverse-route default-route\" only"),
        (tunnel(&format!(" remote-ts{many}\n reverse-route\n")), "for 64 prefixes at most, \"remote-ts\" names 65"),
        ("wan a\n".to_owned(), "\"interface IFNAME\" is missing"),
        ("ipsec identity i\n id x\n".to_owned(), "neither"),
        (format!("{psk} certificate /c\n"), "choose one"),
        ("ipsec identity i\n id x\n certificate /c\n private-key /k\n".to_owned(), "trust-anchor"),
        ("ipsec identity i\n id x\n pre-shared-key file key\n".to_owned(), "absolute path"),
        (format!("{psk}{wan}ipsec tunnel t\n remote any\n wan a\n identity i\n initiate never\n"), "needs \"id IKE-ID\""),
        (format!("{psk}{wan}ipsec tunnel t\n remote any id x\n wan a\n identity i\n"), "initiate never"),
        (format!("{psk}{wan}ipsec tunnel e0\n remote ::1\n wan a\n identity i\n"), "interface of wan a"),
        (
            format!(
                "{psk}{wan}ipsec tunnel t\n remote ::1\n wan a\n identity i\n ip address 10.0.0.1/30\n\
                 ipsec tunnel u\n remote ::1\n wan a\n identity i\n ip address 10.0.0.1/31\n"
            ),
            "also that of ipsec tunnel t",
        ),
        (
            format!(
                "ipsec datapath kernel\n{psk}{wan}ipsec tunnel t\n remote ::1\n wan a\n identity i\n\
                 ipsec tunnel u\n remote ::1\n wan a\n identity i\n datapath userspace\n"
            ),
            "that of ipsec tunnel t is kernel; tunnels that share a wan",
        ),
        (probing("fd00::1", ""), "needs \"ipv6 address\""),
        (probing("10.0.0.1", ""), "the tunnel's own address"),
        (probing("127.0.0.1", ""), "one router or host"),
        (probing("10.0.0.2", " interval 49ms"), "expected 50ms to 30 seconds"),
        (probing("10.0.0.2", " interval 31"), "expected 50ms to 30 seconds"),
        (probing("10.0.0.2", " interval 1 timeout 1999ms"), "expected two intervals"),
        (probing("10.0.0.2", " timeout 61"), "to 60 seconds"),
        ("router bgp 1\nrouter bgp 2\n".to_owned(), "one speaker has one AS"),
        (
            "router bgp 1\n neighbor ::1 remote-as 2\n neighbor ::1 ttl-security hops 1\n neighbor ::1 ebgp-multihop 2\n"
                .to_owned(),
            "exclude each other",
        ),
        ("router bgp 1\n neighbor fe80::1 remote-as 2\n".to_owned(), "link-local"),
        ("router bgp 1\n neighbor 10.0.0.1 remote-as 2\n neighbor 10.0.0.1 bfd profile x\n".to_owned(), "bfd profile"),
        ("router bgp 1\n neighbor 224.0.0.1 remote-as 2\n".to_owned(), "cannot be the address"),
        ("bfd\n profile x\n  transmit-interval 5\n".to_owned(), "from 10 to 60000"),
        ("ip prefix-list x permit 10.0.0.0/16 le 8\n".to_owned(), "le must be at least 16"),
        ("metrics bgpd [::1]:1\nmetrics ipsecd [::1]:1\n".to_owned(), "the other daemon"),
        ("path-damping failures 0\n".to_owned(), "from 1 to 100"),
        ("path-damping within 4000\n".to_owned(), "1 to 3600 seconds"),
        ("path-damping hold 50ms\n".to_owned(), "100ms to 3600 seconds"),
        ("path-damping hold 60 max 30\n".to_owned(), "shorter than the first, which takes 60 seconds"),
        ("path-damping max 90000\n".to_owned(), "86400"),
        ("metrics bgpd 9179\n".to_owned(), "ADDRESS:PORT"),
        (format!("hostname {}\n", "x".repeat(5000)), "5009 octets"),
        ("hostname\n".to_owned(), "ends too early; expected NAME"),
    ] {
        let text = refused(&source).to_string();
        assert!(text.contains(expected), "{expected:?} is not in {text:?} of\n{source}");
    }
}

#[test]
fn peer_groups_are_declared_inherited_and_taken_back() {
    let source = "\
router bgp 65001
 neighbor SPINES peer-group
 neighbor SPINES remote-as external
 neighbor SPINES timers 3 9
 neighbor SPINES passive
 neighbor eth0 interface v6only peer-group SPINES
 neighbor eth1 interface remote-as 65009
 neighbor 192.0.2.1 peer-group SPINES
 no neighbor 192.0.2.1 passive
 neighbor 192.0.2.2 remote-as 65002
 neighbor 192.0.2.2 peer-group SPINES
 neighbor 192.0.2.2 description gone
 no neighbor 192.0.2.2 description
 bgp listen range 10.0.0.0/8 peer-group SPINES
 bgp listen limit 7
 !
 address-family ipv6 unicast
  neighbor SPINES activate
  neighbor SPINES next-hop-self
  no neighbor eth0 next-hop-self
 exit-address-family
";
    let config = read(source);
    let bgp = config.bgp.as_ref().unwrap();
    let resolved: Vec<_> = bgp.resolved().collect();
    let ids: Vec<String> = resolved.iter().map(|neighbor| neighbor.id.to_string()).collect();
    assert_eq!(ids, ["192.0.2.1", "192.0.2.2", "eth0", "eth1"]);
    let passive: Vec<_> = resolved.iter().map(|neighbor| neighbor.settings.passive).collect();
    assert_eq!(passive, [Some(false), Some(true), Some(true), None]);
    assert_eq!(resolved[1].remote_as, RemoteAs::Asn("65002".parse().unwrap()));
    assert_eq!((resolved[1].settings.description.as_ref(), resolved[2].v6only), (None, true));
    let v6 = |at: usize| resolved[at].settings.families.get(&Family::Ipv6Unicast).cloned().unwrap_or_default();
    assert_eq!([0, 1, 2, 3].map(|at| v6(at).next_hop_self), [Some(true), Some(true), Some(false), None]);
    assert!(bgp.is_active(&resolved[0], Family::Ipv6Unicast) && !bgp.is_active(&resolved[3], Family::Ipv6Unicast));
    assert_eq!((bgp.listen_limit, bgp.dynamic("10.9.9.9".parse().unwrap()).is_some()), (7, true));
    assert_eq!(read(&config.to_string()), config);

    let ended = read(&format!("{source} no neighbor SPINES peer-group\n no neighbor eth1\n"));
    let bgp = ended.bgp.unwrap();
    let left: Vec<String> = bgp.neighbors.keys().map(ToString::to_string).collect();
    assert_eq!(left, ["192.0.2.2"], "a member with an AS of its own stands alone");
    assert!(bgp.peer_groups.is_empty() && bgp.listen_ranges.is_empty());
}

/// Every kind of policy line, as `show running-config` prints it.
const POLICY: &str = "\
ip prefix-list P4 seq 5 permit 10.0.0.0/8 ge 16 le 24
ipv6 prefix-list P6 seq 5 deny any
access-list A4 seq 5 permit 10.0.0.0/8
access-list A4 seq 10 deny 10.0.0.0 0.255.255.254
access-list A4 seq 15 permit host 192.0.2.1
ipv6 access-list A6 seq 5 permit 2001:db8::/32 exact-match
bgp as-path access-list PATHS seq 5 deny ^65001_.*_65002$
bgp as-path access-list PATHS seq 10 permit .*
bgp community-list 7 seq 5 permit 65000:1 no-export
bgp community-list expanded C2 seq 5 deny 65000:[0-9]+
bgp large-community-list standard L seq 5 permit 1:2:3
bgp extcommunity-list standard E seq 5 permit rt 65000:1 soo 192.0.2.1:7
router bgp 65001
 bgp graceful-shutdown
 neighbor 192.0.2.1 remote-as 65002
 !
 address-family ipv4 unicast
  aggregate-address 10.0.0.0/8 as-set summary-only route-map R origin igp matching-MED-only
  aggregate-address 11.0.0.0/8 suppress-map R
  table-map R
  neighbor 192.0.2.1 distribute-list A4 in
  neighbor 192.0.2.1 filter-list PATHS out
  neighbor 192.0.2.1 unsuppress-map R
  neighbor 192.0.2.1 default-originate route-map R
  neighbor 192.0.2.1 advertise-map R non-exist-map S
  neighbor 192.0.2.1 maximum-prefix-out 100
 exit-address-family
!
route-map R permit 10
 description first
 match ip address prefix-list P4
 match ip next-hop address 192.0.2.9
 match as-path PATHS
 match community 7 exact-match
 match extcommunity E
 match origin igp
 match peer local
 match source-protocol static
 match rpki valid
 set as-path exclude 65009
 set comm-list C2 delete
 set community 65000:9 additive
 set extcommunity rt 65000:1 65000:2
 set extcommunity bandwidth 100 non-transitive
 set ip next-hop peer-address
 set metric +5
 set local-preference -10
 set as-path prepend last-as 2
 set aggregator as 65001 192.0.2.1
 set src 192.0.2.7
 call S
 on-match goto 30
!
route-map S deny 5
!
";

#[test]
fn every_policy_line_is_printed_as_it_was_written() {
    let parsed = parse(POLICY).unwrap_or_else(|wrong| panic!("{}", wrong.render("test.conf", POLICY)));
    assert_eq!(parsed.warnings.0, [], "everything that is named is defined");
    assert_eq!(parsed.config.to_string(), POLICY);
}

#[test]
fn a_later_line_takes_an_earlier_one_back() {
    let take_back = "\
no ip prefix-list P4 seq 5
no ipv6 prefix-list P6
no access-list A4 seq 10
no access-list A4 permit host 192.0.2.1
no ipv6 access-list A6
no bgp as-path access-list PATHS deny ^65001_.*_65002$
no bgp community-list 7
no bgp community-list expanded C2 seq 5
no bgp large-community-list standard L seq 5 permit 1:2:3
no bgp extcommunity-list standard E
no route-map S
route-map R permit 10
 no match ip address prefix-list P4
 no match ip next-hop address 192.0.2.9
 no match community
 no match extcommunity
 no match rpki valid
 no set comm-list
 no set extcommunity bandwidth
 no set ip next-hop
 no set metric
 no set as-path exclude
 no set src
 no call
 no on-match goto
router bgp 65001
 no bgp graceful-shutdown
 address-family ipv4 unicast
  no aggregate-address 10.0.0.0/8
  no table-map
  no neighbor 192.0.2.1 distribute-list A4 in
  no neighbor 192.0.2.1 filter-list PATHS out
  no neighbor 192.0.2.1 unsuppress-map R
  no neighbor 192.0.2.1 default-originate
  no neighbor 192.0.2.1 advertise-map
  no neighbor 192.0.2.1 maximum-prefix-out
";
    let left = "\
access-list A4 seq 5 permit 10.0.0.0/8
bgp as-path access-list PATHS seq 10 permit .*
router bgp 65001
 neighbor 192.0.2.1 remote-as 65002
 !
 address-family ipv4 unicast
  aggregate-address 11.0.0.0/8 suppress-map R
  no neighbor 192.0.2.1 default-originate
 exit-address-family
!
route-map R permit 10
 description first
 match as-path PATHS
 match origin igp
 match peer local
 match source-protocol static
 set community 65000:9 additive
 set extcommunity rt 65000:1 65000:2
 set local-preference -10
 set as-path prepend last-as 2
 set aggregator as 65001 192.0.2.1
!
";
    assert_eq!(read(&format!("{POLICY}{take_back}")).to_string(), left);
}

#[test]
fn lists_that_contradict_themselves_are_refused() {
    for (source, expected) in [
        ("bgp as-path access-list X permit (1\n", "is not a regular expression"),
        (
            "bgp community-list standard X permit 1:1\nbgp community-list expanded X permit 1\n",
            "list X is a standard one above",
        ),
        ("bgp community-list 100 permit (\n", "is not a regular expression"),
        ("bgp extcommunity-list standard X permit rt\n", "expected \"rt VALUE\""),
        ("route-map R permit 1\n set metric +-5\n", "which + or - may precede"),
        ("router bgp 1\n address-family ipv4\n  aggregate-address ::/0\n", "does not belong"),
        (
            "router bgp 1\n address-family ipv4\n  aggregate-address 10.0.0.0/8 summary-only suppress-map X\n",
            "leave it out",
        ),
    ] {
        let text = refused(source).to_string();
        assert!(text.contains(expected), "{expected:?} is not in {text:?} of\n{source}");
    }
}

#[test]
fn groups_interfaces_and_addresses_are_not_mixed_up() {
    for (lines, expected) in [
        (" neighbor SPINES remote-as 1\n", "begin with \"neighbor SPINES peer-group\""),
        (" neighbor 10.0.0.1 peer-group\n", "cannot have an address for a name"),
        (" neighbor eth0 interface remote-as 1\n neighbor eth0 peer-group\n", "is a neighbor's interface"),
        (" neighbor eth0 peer-group\n neighbor eth0 interface remote-as 1\n", "is a peer-group"),
        (" neighbor 10.0.0.1 interface remote-as 1\n", "needs no \"interface\""),
        (" neighbor 10.0.0.1 peer-group NONE\n", "peer-group \"NONE\" is not defined"),
        (" bgp listen range 10.0.0.0/8 peer-group NONE\n", "peer-group \"NONE\" is not defined"),
        (" neighbor G peer-group\n neighbor ::1 peer-group G\n", "is missing, here and in peer-group G"),
        (
            " neighbor G peer-group\n neighbor G remote-as 2\n neighbor G ebgp-multihop\n neighbor ::1 peer-group G\n \
              neighbor ::1 ttl-security hops 1\n",
            "exclude each other",
        ),
    ] {
        let text = refused(&format!("router bgp 1\n{lines}")).to_string();
        assert!(text.contains(expected), "{expected:?} is not in {text:?} of\n{lines}");
    }
}

#[test]
fn policies_that_are_not_defined_are_warnings() {
    let source = "router bgp 1\n neighbor ::1 remote-as 2\n address-family ipv6\n  neighbor ::1 route-map NONE in\n  neighbor ::1 prefix-list NONE out\n";
    let parsed = parse(source).unwrap();
    let text = parsed.warnings.to_string();
    assert!(text.contains("4:26: warning: route-map \"NONE\" is not defined"), "{text}");
    assert!(text.contains("ipv6 prefix-list \"NONE\""), "{text}");
}

#[test]
fn a_large_file_takes_time_in_proportion() {
    // Ten thousand neighbors with a policy each, and as many policies: no statement may look at all others.
    use std::fmt::Write;
    let mut source = String::from("router bgp 1\n");
    for number in 0..10_000u32 {
        let address = std::net::Ipv4Addr::from(0x0a00_0001 + number);
        writeln!(source, " neighbor {address} remote-as 2\n neighbor {address} route-map M{number} in").unwrap();
    }
    for number in 0..10_000 {
        writeln!(source, "route-map M{number} permit 10\n match ip address prefix-list P{number}").unwrap();
        writeln!(source, "ip prefix-list P{number} permit 10.0.0.0/8 le 24").unwrap();
    }
    let config = read(&source);
    assert_eq!(config.bgp.unwrap().neighbors.len(), 10_000);
    assert_eq!(config.route_maps.len(), 10_000);
}

#[test]
fn many_warnings_do_not_hide_an_error() {
    let source = "line vty\n".repeat(500) + "nonsense\n" + &"garbage\n".repeat(500);
    let wrong = refused(&source);
    assert!(wrong.to_string().contains("501:1: error: \"nonsense\""));
    assert_eq!(wrong.0.len(), 200, "and the reports are bounded");
}

#[test]
fn a_key_chain_is_read_and_what_cannot_be_one_is_named() {
    let source = "key chain CORE\n key 1\n  key-string first\n key 2\n  send-id 20\n  recv-id 21\n  \
                  cryptographic-algorithm aes-128-cmac-96\n  key-string file /etc/holdfast/ao.key\nkey chain EDGE\n\
                  router bgp 1\n neighbor ::1 remote-as 2\n neighbor ::1 ao CORE include-tcp-options\n";
    let config = read(source);
    let keys: Vec<_> = config.key_chains[&"CORE".parse().unwrap()].numbered().map(|(n, s, r, _)| (n, s, r)).collect();
    assert_eq!(keys, [(1, 1, 1), (2, 20, 21)]);
    assert!(config.key_chains.contains_key(&"EDGE".parse().unwrap()), "a section may follow another without an end");
    assert_eq!(
        read(&format!("{source}key chain CORE\n no key 1\n")).key_chains[&"CORE".parse().unwrap()].keys.len(),
        1
    );

    for (wrong, message) in [
        ("key chain A\n key 7\n  send-id 1\n", "2:2: error: key chain A: key 7: \"key-string\" is missing"),
        (
            "key chain A\n key 1\n  key-string x\n key 2\n  recv-id 1\n  key-string y\n",
            "its recv-id 1 is also that of key 1",
        ),
        ("router bgp 1\n neighbor ::1 remote-as 2\n neighbor ::1 ao NONE\n", "key chain \"NONE\" is not defined"),
        (
            "key chain A\n key 1\n  key-string x\nrouter bgp 1\n neighbor ::1 remote-as 2\n neighbor ::1 password y\n \
             neighbor ::1 ao A\n",
            "\"password\" and \"ao\" exclude each other",
        ),
    ] {
        let refused = refused(wrong).to_string();
        assert!(refused.contains(message), "{refused}");
    }
}

#[test]
fn virtual_routers_are_read_in_frrs_spelling_and_printed_again() {
    let config = read(&format!(
        "{EDGE}\
interface lan0
 description hosts
 vrrp 10 version 3
 vrrp 10 ip 10.1.0.1
 vrrp 10 ip 10.1.0.254
 vrrp 10 ipv6 2001:db8:1::1
 vrrp 10 ipv6 fe80::1
 vrrp 10 priority 200
 vrrp 10 advertisement-interval 500
 vrrp 10 preempt delay 3
 vrrp 10 track tunnel tun1
 vrrp 10 track tunnel tun2 decrement 20
 vrrp 10 track neighbor 169.254.1.1
 vrrp 10 checksum-with-ipv4-pseudoheader
 vrrp 11
 vrrp 11 ipv6 fe80::2
 no vrrp 11 preempt
 vrrp 11 shutdown
 vrrp 12
 vrrp 12 ip 10.1.0.3
 no vrrp 12
 no vrrp 12 shutdown
"
    ));
    let groups: Vec<_> = config.vrrp.iter().map(|((interface, vrid), _)| format!("{interface} {vrid}")).collect();
    assert_eq!(groups, ["lan0 10", "lan0 11"]);
    let mut groups = config.vrrp.values();
    let ten = groups.next().unwrap();
    let addresses = |group: &VrrpGroup, family| {
        let all = group.addresses(family)?;
        Some(all.iter().map(|address| address.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(addresses(ten, vrrp::Family::V4).unwrap(), ["10.1.0.1", "10.1.0.254"]);
    assert_eq!(addresses(ten, vrrp::Family::V6).unwrap(), ["fe80::1", "2001:db8:1::1"], "as advertisements have them");
    assert_eq!((ten.priority, ten.interval.centiseconds(), ten.preempt_delay), (200, 50, Duration::from_secs(3)));
    let tracked: Vec<_> = ten.track.iter().map(|(tracked, decrement)| format!("{tracked} {decrement}")).collect();
    assert_eq!(tracked, ["tunnel tun1 100", "tunnel tun2 20", "neighbor 169.254.1.1 100"]);
    let eleven = groups.next().unwrap();
    assert_eq!(
        (addresses(eleven, vrrp::Family::V4), addresses(eleven, vrrp::Family::V6).unwrap()),
        (None, vec!["fe80::2".into()])
    );
    assert!(!eleven.preempt && eleven.shutdown && ten.preempt && !ten.shutdown);
    assert_eq!(read(&config.to_string()), config);
}

#[test]
fn virtual_routers_that_cannot_be_are_refused_with_their_place() {
    for (lines, place, why) in [
        ("vrrp 1 version 2", (2, 17), "version 2 is not spoken"),
        ("vrrp 1", (2, 2), "vrrp 1 of interface lan0: \"vrrp 1 ip A.B.C.D\" or"),
        ("vrrp 1 ip 10.1.0.1", (2, 7), "begin with \"vrrp 1\" above"),
        ("vrrp 1\n vrrp 1 ipv6 2001:db8::1", (2, 2), "add \"vrrp 1 ipv6 fe80::200:5eff:fe00:201\""),
        ("vrrp 1\n vrrp 1 ipv6 ff02::12", (3, 14), "cannot be the address of a gateway"),
        ("vrrp 1\n vrrp 1 ipv6 fe80::1\n vrrp 2\n vrrp 2 ipv6 fe80::1", (4, 2), "also that of virtual router 1"),
        ("vrrp 1\n vrrp 1 ip 224.0.0.18", (3, 12), "cannot be the address of a gateway"),
        ("vrrp 1\n vrrp 1 ip 10.1.0.1\n vrrp 1 advertisement-interval 15", (4, 32), "not a multiple of 10"),
        ("vrrp 1\n vrrp 1 ip 10.1.0.1\n vrrp 1 priority 255", (4, 18), "a number from 1 to 254"),
        ("vrrp 1\n vrrp 1 ip 10.1.0.1\n vrrp 1 track tunnel tun9", (4, 22), "ipsec tunnel \"tun9\" is not defined"),
        ("vrrp 1\n vrrp 1 ip 10.1.0.1\n vrrp 1 track neighbor 10.9.9.9", (4, 2), "neighbor 10.9.9.9, which is not"),
        ("vrrp 1\n vrrp 1 ip 10.1.0.1\n vrrp 2\n vrrp 2 ip 10.1.0.1", (4, 2), "also that of virtual router 1"),
    ] {
        let source = format!("interface lan0\n {lines}\n");
        let wrong = refused(&source);
        let told: Vec<_> = wrong.0.iter().map(|told| ((told.line, told.column), told.message.as_str())).collect();
        assert!(told.iter().any(|(at, message)| *at == place && message.contains(why)), "{source}\n{told:#?}");
    }
    let tunnel = "vrrp 1\n vrrp 1 ip 169.254.1.2\n";
    let wrong = refused(&format!("{EDGE}interface lan0\n {tunnel}"));
    assert!(wrong.to_string().contains("its address 169.254.1.2 is that of ipsec tunnel tun1"), "{wrong}");
    // EDGE has a neighbor of this address on tun1: it is another one on each link.
    let local = |interface: &str| format!("{EDGE}interface {interface}\n vrrp 1\n vrrp 1 ipv6 fe80::1\n");
    let wrong = refused(&local("tun1"));
    assert!(wrong.to_string().contains("its address fe80::1 is that of a neighbor"), "{wrong}");
    read(&local("lan0"));
}

#[test]
fn a_password_is_not_repeated_in_what_is_refused() {
    let source = format!("router bgp 1\n neighbor ::1 remote-as 2\n neighbor ::1 password {}\n", "s3cret".repeat(20));
    let wrong = refused(&source);
    assert!(!wrong.to_string().contains("s3cret"), "{wrong}");
}

#[test]
fn frrs_defaults_hold_for_speakers_below_where_a_file_says_so() {
    let ours = read("router bgp 65001\n bgp router-id 10.0.0.1\n").bgp.unwrap();
    assert!(ours.graceful_restart.restarter && !ours.ebgp_requires_policy);
    let frrs = read("frr defaults traditional\nrouter bgp 65001\n bgp router-id 10.0.0.1\n");
    let bgp = frrs.bgp.clone().unwrap();
    assert!(!bgp.graceful_restart.restarter && bgp.ebgp_requires_policy);
    let said = "frr defaults traditional\nrouter bgp 65001\n no bgp ebgp-requires-policy\n bgp graceful-restart\n";
    let said = read(said);
    let bgp = said.bgp.clone().unwrap();
    assert!(bgp.graceful_restart.restarter && !bgp.ebgp_requires_policy);
    assert_eq!(read(&said.to_string()), said);
}
