//! Reverse routes: what tunnels carry on their peers' side becomes routes into them, where `reverse-route` says so.
//!
//! Two lines stand for each prefix. One leads into the tunnel, while ipsecd says that its child SA carries the prefix. The
//! other drops what the tunnel may carry by its `remote-ts`, farther away than anything that leads somewhere: a tunnel that
//! is down, or another router's at the moment, never leaves its prefixes to a default route in the clear.

use bgp_wire::Community;
use config::{
    Config,
    model::{ReverseRoute, Tunnel},
};
use net_types::Prefix;
use netwatch::View;

use crate::{
    local_routes::{Line, Origin, Static, StaticWays},
    policy_setup,
    static_health::Health,
};

/// Every line, with its prefix.
pub fn lines<'a>(
    config: &'a Config,
    view: &'a View,
    health: &'a Health,
) -> impl Iterator<Item = (Prefix, Line)> + use<'a> {
    let reversed =
        config.tunnels.iter().filter_map(|(name, tunnel)| Some((name, tunnel, tunnel.reverse_route.as_ref()?)));
    reversed.flat_map(move |(name, tunnel, reverse)| {
        let line = move |way, distance| Line {
            way,
            distance,
            tag: reverse.tag,
            origin: Origin::Tunnel { communities: communities(reverse) },
        };
        let kept = admitted(reverse, tunnel, &tunnel.remote_selectors);
        let kept = kept.map(move |prefix| (prefix, line(Static::Blackhole, StaticWays::NOWHERE)));
        let carried = health.carried.get(name);
        let carried = carried.filter(|carried| view.link(carried.ifindex).is_some_and(netwatch::Link::is_up));
        let leading = carried.into_iter().flat_map(move |carried| {
            let way = Static::Via { ifindex: carried.ifindex, gateway: None, bfd: false };
            let line = line(way, reverse.distance);
            admitted(reverse, tunnel, &carried.prefixes).map(move |prefix| (prefix, line.clone()))
        });
        leading.chain(kept)
    })
}

fn admitted<'a>(
    reverse: &'a ReverseRoute,
    tunnel: &'a Tunnel,
    prefixes: &'a [Prefix],
) -> impl Iterator<Item = Prefix> + use<'a> {
    prefixes.iter().copied().filter(|prefix| reverse.admits(tunnel, prefix)).take(ReverseRoute::MOST)
}

fn communities(reverse: &ReverseRoute) -> Vec<Community> {
    reverse.communities.iter().map(policy_setup::community).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use bgp_core::rib::LocalSource;
    use netwatch::Watch;

    use super::*;
    use crate::{
        local_routes::{Originated, Statics, originated, statics},
        static_health::Carried,
    };

    const TEXT: &str = "\
wan isp
 interface wan0
ipsec identity hq
 id hq.example.net
 pre-shared-key file /etc/holdfast/psk
ipsec tunnel spoke
 remote 203.0.113.2
 wan isp
 identity hq
 remote-ts 10.2.0.0/16 0.0.0.0/0
 reverse-route distance 5 tag 7 community 65001:2 65001:1
router bgp 65001
 address-family ipv4 unicast
  redistribute ipsec
";

    /// What is routed and announced while the tunnel carries these prefixes, and `more` is configured.
    struct Bench {
        view: View,
        ifindex: u32,
    }

    impl Bench {
        fn look(&self, text: &str, carried: &[&str]) -> (Statics, Originated) {
            let config =
                config::parse(text).unwrap_or_else(|mistakes| panic!("{}", mistakes.render("TEXT", text))).config;
            let prefixes: Vec<_> = carried.iter().map(|text| text.parse().unwrap()).collect();
            let carried = Carried { ifindex: self.ifindex, prefixes };
            let up = !carried.prefixes.is_empty();
            let health = Health {
                dead: (!up).then_some(self.ifindex).into_iter().collect(),
                carried: up.then(|| ("spoke".parse().unwrap(), carried)).into_iter().collect(),
                ..Health::default()
            };
            (statics(&config, &self.view, &health), originated(&config, &self.view, &health))
        }

        fn tunnel_way(&self) -> Vec<Static> {
            vec![Static::Via { ifindex: self.ifindex, gateway: None, bfd: false }]
        }
    }

    fn bench(work: impl FnOnce(Bench) + Send + 'static) {
        let worker = std::thread::spawn(move || {
            sys::netns::unshare_current_thread().expect("needs CAP_SYS_ADMIN to make a network namespace");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for line in ["link add spoke type veth peer name far", "link set spoke up", "link set far up"] {
                    assert!(Command::new("ip").args(line.split(' ')).status().unwrap().success(), "ip {line}");
                }
                let view = Watch::start().await.unwrap().view().clone();
                let ifindex = view.link_named("spoke").unwrap().ifindex;
                work(Bench { view, ifindex });
            });
        });
        worker.join().unwrap();
    }

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn what_the_child_sa_carries_is_routed_and_announced_while_it_is_there() {
        bench(|bench| {
            let (up, announced) = bench.look(TEXT, &["10.2.3.0/24"]);
            let route = &up[&prefix("10.2.3.0/24")];
            assert_eq!((&route.ways, route.distance, route.tag), (&bench.tunnel_way(), 5, 7));
            let local = &announced[&(LocalSource::Ipsec, prefix("10.2.3.0/24"))];
            let communities: Vec<_> = local.communities.iter().map(ToString::to_string).collect();
            assert_eq!((local.tag, communities), (7, vec!["65001:1".to_owned(), "65001:2".to_owned()]));
            assert_eq!(announced.len(), 1);
            let (down, announced) = bench.look(TEXT, &[]);
            assert!(!down.contains_key(&prefix("10.2.3.0/24")) && announced.is_empty());
            // All that the tunnel may carry is dropped, unless BGP knows better.
            for statics in [up, down] {
                let kept = &statics[&prefix("10.2.0.0/16")];
                assert_eq!((&kept.ways[..], kept.distance), (&[Static::Blackhole][..], StaticWays::NOWHERE));
            }
        });
    }

    #[test]
    fn a_peer_cannot_draw_what_it_was_not_given_nor_everything() {
        bench(|bench| {
            let narrow = TEXT.replace(" 0.0.0.0/0", "");
            let (statics, announced) = bench.look(&narrow, &["0.0.0.0/0", "10.0.0.0/8", "10.2.0.0/16", "192.0.2.0/24"]);
            assert_eq!(statics.keys().copied().collect::<Vec<_>>(), [prefix("10.2.0.0/16")]);
            assert_eq!(announced.len(), 1);
            let (statics, _) = bench.look(TEXT, &["0.0.0.0/0", "10.2.0.0/16"]);
            assert!(!statics.contains_key(&Prefix::DEFAULT_V4), "it was not said");
            let said = TEXT.replace("reverse-route", "reverse-route default-route");
            let (statics, _) = bench.look(&said, &["0.0.0.0/0"]);
            assert_eq!(statics[&Prefix::DEFAULT_V4].ways, bench.tunnel_way());
        });
    }

    #[test]
    fn an_operators_own_line_goes_first_where_it_is_nearer_and_is_not_announced_for_the_tunnel() {
        bench(|bench| {
            let text = format!("{TEXT}ip route 10.2.0.0/16 blackhole\n");
            let (statics, announced) = bench.look(&text, &["10.2.0.0/16"]);
            assert_eq!(statics[&prefix("10.2.0.0/16")].ways, [Static::Blackhole]);
            assert!(announced.is_empty());
            let (statics, announced) = bench.look(&text.replace("blackhole", "blackhole 250"), &["10.2.0.0/16"]);
            assert_eq!(statics[&prefix("10.2.0.0/16")].ways, bench.tunnel_way());
            assert_eq!(announced.len(), 1);
        });
    }

    #[test]
    fn what_only_drops_is_no_reason_to_announce_a_network() {
        bench(|bench| {
            let text = TEXT.replace("unicast\n", "unicast\n  network 10.2.0.0/16\n");
            let text = text.replace("65001\n address", "65001\n bgp network import-check\n address");
            let idle =
                |carried: &[&str]| bench.look(&text, carried).1[&(LocalSource::Network, prefix("10.2.0.0/16"))].idle;
            assert!(idle(&[]) && !idle(&["10.2.0.0/16"]));
        });
    }
}
