//! Tunnels that are there only while others are not: when to call, and when to let go again.
//!
//! A tunnel that stands by is held down: nothing is sent over its link, and the peer is refused when it calls. It is brought
//! up once none of those that it stands for carries packets. One carries packets while it is up and bgpd has not said that
//! nobody answers in it: BFD notices sooner than we do that packets go nowhere. When one of them carries packets again the
//! tunnel stays for its hold time, lest a path that comes and goes costs a call each time, and is then deleted.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use config::model::{Config, Initiate, Standby};
use net_types::TunnelName;

/// How long tunnels that were never up are waited for at first.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long bgpd's word counts: it repeats it more often, and is gone if it does not.
const LEASE: Duration = Duration::from_secs(10);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Call the peer.
    Call(TunnelName),
    /// Delete the tunnel's SAs and hold it down.
    Release(TunnelName),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Held down.
    Waiting,
    /// Called, as no other path is left.
    Needed,
    /// There is another path again.
    Holding { until: Instant },
    /// An operator holds it down.
    Forbidden,
}

#[derive(Debug)]
struct Backup {
    standby: Standby,
    stage: Stage,
}

/// All tunnels that stand by.
#[derive(Debug, Default)]
pub(crate) struct Standbys {
    backups: BTreeMap<TunnelName, Backup>,
    /// Those that somebody stands for, and until when they may come up for the first time.
    primaries: BTreeMap<TunnelName, Option<Instant>>,
    /// Those in which nobody answers, as bgpd says.
    silent: BTreeSet<TunnelName>,
    /// Until when it has said so.
    silent_until: Option<Instant>,
}

impl Standbys {
    /// Takes up a configuration. A tunnel that begins to stand by is held down first, by the engine.
    pub(crate) fn configure(&mut self, now: Instant, config: &Config) {
        let wanted = config.tunnels.iter().filter(|(_, tunnel)| !tunnel.shutdown);
        let wanted: BTreeMap<_, _> = wanted
            .filter_map(|(name, tunnel)| match &tunnel.initiate {
                Initiate::Standby(standby) => Some((name, standby)),
                Initiate::OnStart | Initiate::Never => None,
            })
            .collect();
        self.backups.retain(|name, _| wanted.contains_key(name));
        for (name, standby) in &wanted {
            let new = || Backup { standby: (*standby).clone(), stage: Stage::Waiting };
            self.backups.entry((*name).clone()).or_insert_with(new).standby = (*standby).clone();
        }
        let named: BTreeSet<_> = wanted.values().flat_map(|standby| standby.stands_for.iter().cloned()).collect();
        self.primaries.retain(|name, _| named.contains(name));
        for name in named {
            self.primaries.entry(name).or_insert(Some(now + PATIENCE));
        }
    }

    /// The engine begins anew with these: they are held down again.
    pub(crate) fn forgotten(&mut self, tunnels: &BTreeSet<TunnelName>) {
        for (_, backup) in self.backups.iter_mut().filter(|(name, _)| tunnels.contains(*name)) {
            backup.stage = Stage::Waiting;
        }
    }

    /// bgpd says in which tunnels nobody answers, all of them each time.
    pub(crate) fn silent(&mut self, now: Instant, tunnels: BTreeSet<TunnelName>) {
        self.silent_until = (!tunnels.is_empty()).then(|| now + LEASE);
        self.silent = tunnels;
    }

    /// When [`Self::look`] wants to be called at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let holds = self.backups.values().filter_map(|backup| match backup.stage {
            Stage::Holding { until } => Some(until),
            Stage::Waiting | Stage::Needed | Stage::Forbidden => None,
        });
        holds.chain(self.primaries.values().copied().flatten()).chain(self.silent_until).min()
    }

    /// Looks at how things stand, and gives what is to be done about it.
    pub(crate) fn look(&mut self, now: Instant, is_up: impl Fn(&TunnelName) -> bool) -> Vec<Order> {
        if self.silent_until.is_some_and(|until| now >= until) {
            self.silent_until = None;
            self.silent.clear();
        }
        let mut carrying = BTreeSet::new();
        for (name, first) in &mut self.primaries {
            let up = is_up(name);
            if up || first.is_some_and(|until| now >= until) {
                *first = None;
            }
            // One that may still come up for the first time is not called for.
            if first.is_some() || up && !self.silent.contains(name) {
                carrying.insert(name);
            }
        }
        let mut orders = Vec::new();
        for (name, Backup { standby, stage }) in &mut self.backups {
            let needed = !standby.stands_for.iter().any(|other| carrying.contains(other));
            *stage = match (*stage, needed) {
                (Stage::Waiting, true) => {
                    orders.push(Order::Call(name.clone()));
                    Stage::Needed
                }
                (Stage::Forbidden, _) => Stage::Forbidden,
                (Stage::Needed | Stage::Holding { .. }, true) => Stage::Needed,
                (Stage::Waiting, false) => Stage::Waiting,
                (Stage::Needed, false) if !standby.hold.is_zero() => Stage::Holding { until: now + standby.hold },
                (Stage::Holding { until }, false) if now < until => Stage::Holding { until },
                (Stage::Needed | Stage::Holding { .. }, false) => {
                    orders.push(Order::Release(name.clone()));
                    Stage::Waiting
                }
            };
        }
        orders
    }

    /// An operator has called, or released, a tunnel by hand. Called, it stays for its hold time; released, it stays down
    /// until it is called by hand.
    pub(crate) fn by_hand(&mut self, now: Instant, tunnel: &TunnelName, called: bool) {
        if let Some(Backup { standby, stage }) = self.backups.get_mut(tunnel) {
            *stage = if called { Stage::Holding { until: now + standby.hold } } else { Stage::Forbidden };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "hostname a
wan isp
 interface wan1
 gateway 198.51.100.1
wan lte
 interface wan2
 gateway 203.0.113.1
ipsec identity i
 id a.example.net
 pre-shared-key file /etc/holdfast/psk
ipsec tunnel tun1
 remote 198.51.100.6 id b.example.net
 wan isp
 identity i
ipsec tunnel tun2
 remote 198.51.100.6 id b.example.net
 wan isp
 identity i
ipsec tunnel lte
 remote 198.51.100.6 id b.example.net
 wan lte
 identity i
 initiate standby-for tun1 tun2
 standby-hold 30
";

    fn name(text: &str) -> TunnelName {
        text.parse().unwrap()
    }

    struct Bench {
        now: Instant,
        standbys: Standbys,
        up: BTreeSet<TunnelName>,
    }

    impl Bench {
        fn new() -> Self {
            let mut bench = Self { now: Instant::now(), standbys: Standbys::default(), up: BTreeSet::new() };
            let config = config::parse(TEXT).unwrap().config;
            bench.standbys.configure(bench.now, &config);
            bench
        }

        fn look(&mut self) -> Vec<Order> {
            let up = &self.up;
            let orders = self.standbys.look(self.now, |tunnel| up.contains(tunnel));
            assert!(self.standbys.deadline().is_none_or(|at| at > self.now), "the deadline moves on");
            orders
        }

        fn after(&mut self, seconds: u64) -> Vec<Order> {
            self.now += Duration::from_secs(seconds);
            self.look()
        }

        fn set(&mut self, tunnels: &[&str]) -> Vec<Order> {
            self.up = tunnels.iter().map(|tunnel| name(tunnel)).collect();
            self.look()
        }
    }

    fn call() -> Vec<Order> {
        vec![Order::Call(name("lte"))]
    }

    fn release() -> Vec<Order> {
        vec![Order::Release(name("lte"))]
    }

    #[test]
    fn it_is_called_when_no_other_is_left_and_released_after_the_hold_time() {
        let mut bench = Bench::new();
        assert_eq!(bench.set(&["tun1", "tun2"]), []);
        assert_eq!(bench.set(&["tun2"]), [], "one is enough");
        assert_eq!(bench.set(&[]), call());
        assert_eq!(bench.set(&["lte"]), [], "itself does not count");
        assert_eq!(bench.set(&["tun1", "lte"]), []);
        assert_eq!(bench.after(29), [], "it stays for 30 s");
        assert_eq!(bench.set(&["lte"]), [], "and is there when the other goes again");
        assert_eq!(bench.set(&["tun1", "lte"]), []);
        assert_eq!(bench.after(29), []);
        assert_eq!(bench.after(1), release());
    }

    #[test]
    fn at_the_start_the_others_have_time_to_come_up() {
        let mut bench = Bench::new();
        assert_eq!(bench.look(), []);
        assert_eq!(bench.after(9), []);
        assert_eq!(bench.after(1), call(), "nobody came");
        let mut bench = Bench::new();
        assert_eq!(bench.after(9), []);
        assert_eq!(bench.set(&["tun1"]), []);
        assert_eq!(bench.set(&[]), [], "the second may still come up for the first time");
        assert_eq!(bench.after(1), call());
    }

    #[test]
    fn a_tunnel_in_which_nobody_answers_carries_nothing() {
        let mut bench = Bench::new();
        bench.set(&["tun1", "tun2"]);
        bench.standbys.silent(bench.now, [name("tun1")].into());
        assert_eq!(bench.look(), []);
        bench.standbys.silent(bench.now, [name("tun1"), name("tun2")].into());
        assert_eq!(bench.look(), call());
        bench.standbys.silent(bench.now, [name("tun1")].into());
        assert_eq!(bench.look(), []);
        assert_eq!(bench.after(30), release());
    }

    #[test]
    fn the_word_of_a_bgpd_that_is_gone_does_not_count_for_ever() {
        let mut bench = Bench::new();
        bench.set(&["tun1", "tun2"]);
        bench.standbys.silent(bench.now, [name("tun1"), name("tun2")].into());
        assert_eq!(bench.look(), call());
        assert_eq!(bench.after(10), []);
        assert_eq!(bench.after(30), release());
    }

    #[test]
    fn without_a_tunnel_that_stands_by_the_word_runs_out_all_the_same() {
        let mut bench = Bench::new();
        bench.standbys = Standbys::default();
        bench.standbys.silent(bench.now, [name("tun1")].into());
        assert_eq!(bench.look(), []);
        assert_eq!(bench.after(10), []);
        assert_eq!(bench.standbys.deadline(), None, "nothing is left to come back for");
    }

    #[test]
    fn who_is_called_by_hand_stays_for_the_hold_time() {
        let mut bench = Bench::new();
        bench.set(&["tun1", "tun2"]);
        bench.standbys.by_hand(bench.now, &name("lte"), true);
        assert_eq!(bench.after(29), []);
        assert_eq!(bench.after(1), release());
        bench.standbys.by_hand(bench.now, &name("lte"), false);
        assert_eq!(bench.set(&[]), [], "the operator does not want it");
        bench.standbys.by_hand(bench.now, &name("lte"), true);
        assert_eq!(bench.look(), []);
        assert_eq!(bench.set(&["tun1"]), []);
        assert_eq!(bench.after(30), release());
    }

    #[test]
    fn a_reload_changes_nothing_and_an_interface_made_anew_is_called_again() {
        let mut bench = Bench::new();
        bench.set(&["tun1"]);
        assert_eq!(bench.after(10), []);
        assert_eq!(bench.set(&[]), call());
        bench.standbys.configure(bench.now, &config::parse(TEXT).unwrap().config);
        assert_eq!(bench.look(), []);
        bench.standbys.forgotten(&[name("lte")].into());
        assert_eq!(bench.look(), call());
    }

    #[test]
    fn without_a_hold_time_it_is_released_at_once() {
        let mut bench = Bench::new();
        let config = config::parse(&TEXT.replace("standby-hold 30", "standby-hold 0")).unwrap().config;
        bench.standbys.configure(bench.now, &config);
        bench.set(&["tun1", "tun2"]);
        assert_eq!(bench.set(&[]), call());
        assert_eq!(bench.set(&["tun1"]), release());
    }
}
