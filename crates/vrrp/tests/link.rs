//! Routers on one link, on a clock that the test turns: who is active, and how long nobody is.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use vrrp::{Addresses, Advertisement, Config, Interval, Output, Role, VirtualRouter, Vrid};

const STEP: Duration = Duration::from_millis(1);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

struct Router {
    address: IpAddr,
    core: VirtualRouter,
    /// Whether it answers for the addresses.
    holds: bool,
    /// Whether it is heard.
    cut: bool,
}

struct Link {
    now: Instant,
    routers: Vec<Router>,
    /// The most routers that held the addresses at once.
    most: usize,
}

fn config(priority: u8) -> Config {
    Config {
        vrid: Vrid::new(10).unwrap(),
        addresses: Addresses::V4(vec![Ipv4Addr::new(10, 1, 0, 1)]),
        priority,
        interval: Interval::from_centiseconds(10).unwrap(),
        preempt: true,
        preempt_delay: Duration::ZERO,
    }
}

impl Link {
    fn new(priorities: &[u8]) -> Self {
        Self::with(priorities.iter().map(|priority| config(*priority)))
    }

    fn with(configs: impl Iterator<Item = Config>) -> Self {
        let mut link = Self { now: Instant::now(), routers: Vec::new(), most: 0 };
        for (n, config) in (0..).zip(configs) {
            let address = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2 + n));
            let mut core = VirtualRouter::new(config);
            core.set_ready(link.now, true);
            link.routers.push(Router { address, core, holds: false, cut: false });
        }
        link
    }

    fn start(&mut self, n: usize) {
        let address = self.routers[n].address;
        let outputs = self.routers[n].core.start(self.now, address);
        self.perform(n, outputs);
    }

    fn perform(&mut self, n: usize, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(advertisement) => self.deliver(n, &advertisement),
                Output::TakeAddresses => self.routers[n].holds = true,
                Output::GiveUpAddresses => self.routers[n].holds = false,
            }
        }
        let holding = self.routers.iter().filter(|router| router.holds && !router.cut).count();
        self.most = self.most.max(holding);
    }

    fn deliver(&mut self, from: usize, advertisement: &Advertisement) {
        let (source, cut) = (self.routers[from].address, self.routers[from].cut);
        for n in (0..self.routers.len()).filter(|n| *n != from) {
            if !cut && !self.routers[n].cut {
                let outputs = self.routers[n].core.handle_advertisement(self.now, source, advertisement);
                self.perform(n, outputs);
            }
        }
    }

    /// Turns the clock on until something is true; gives how long that took.
    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Duration {
        let began = self.now;
        while !done(self) {
            assert!(self.now - began < Duration::from_secs(60), "never: {what}");
            self.now += STEP;
            for n in 0..self.routers.len() {
                if self.routers[n].core.poll_timeout().is_some_and(|at| at <= self.now) {
                    let outputs = self.routers[n].core.handle_timeout(self.now);
                    self.perform(n, outputs);
                    assert!(self.routers[n].core.poll_timeout().is_none_or(|at| at > self.now), "it moves on");
                }
            }
        }
        self.now - began
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.until("the end", |link| link.now >= end);
    }

    fn active(&self) -> Vec<usize> {
        (0..self.routers.len()).filter(|n| self.routers[*n].holds && !self.routers[*n].cut).collect()
    }

    fn settled(priorities: &[u8], active: usize) -> Self {
        let mut link = Self::new(priorities);
        for n in 0..link.routers.len() {
            link.start(n);
        }
        link.until("one is active", |link| link.active() == [active]);
        link.run(millis(1000));
        assert_eq!(link.active(), [active]);
        link
    }
}

#[test]
fn the_best_priority_wins_and_says_whom_it_hears() {
    let link = Link::settled(&[100, 200, 150], 1);
    assert_eq!(link.most, 1, "never two at once");
    for n in [0, 2] {
        assert_eq!(link.routers[n].core.role(), Role::Backup);
        assert_eq!(link.routers[n].core.active(), Some((link.routers[1].address, 200)));
    }
}

#[test]
fn of_equals_the_higher_address_wins() {
    // Both think that they are the only one, until they hear each other.
    let mut link = Link::new(&[100, 100]);
    link.routers[0].cut = true;
    link.start(0);
    link.start(1);
    link.run(millis(1000));
    assert!(link.routers.iter().all(|router| router.holds));
    link.routers[0].cut = false;
    link.until("one is left", |link| link.active() == [1]);
    link.run(millis(1000));
    assert_eq!(link.active(), [1]);
}

#[test]
fn one_that_dies_is_relieved_within_three_intervals_and_the_skew() {
    let mut link = Link::settled(&[200, 150], 0);
    link.routers[0].cut = true;
    let took = link.until("the other one", |link| link.active() == [1]);
    // 3 x 100 ms + (256 - 150) / 256 x 100 ms after the last advertisement.
    assert!(took <= millis(342) && took > millis(241), "{took:?}");
}

#[test]
fn one_that_stops_is_relieved_within_the_skew() {
    let mut link = Link::settled(&[200, 150], 0);
    let outputs = link.routers[0].core.stop();
    link.perform(0, outputs);
    assert!(link.active().is_empty());
    let took = link.until("the other one", |link| link.active() == [1]);
    assert!(took <= millis(42), "{took:?}");
    assert_eq!(link.routers[0].core.poll_timeout(), None);
}

#[test]
fn one_that_has_become_unfit_is_relieved_without_a_gap() {
    let mut link = Link::settled(&[200, 150], 0);
    let outputs = link.routers[0].core.set_priority(link.now, 100);
    link.perform(0, outputs);
    let took = link.until("the other one", |link| link.active() == [1]);
    assert!(took <= millis(42), "{took:?}");
    // It held the addresses until the better one had said that it is there.
    assert_eq!(link.most, 1);
    link.run(millis(500));
    let outputs = link.routers[0].core.set_priority(link.now, 200);
    link.perform(0, outputs);
    link.until("back", |link| link.active() == [0]);
    assert_eq!(link.most, 1);
}

#[test]
fn with_all_of_them_unfit_the_order_stays() {
    let mut link = Link::settled(&[200, 150], 0);
    for (n, left) in [(1, 50), (0, 100)] {
        let outputs = link.routers[n].core.set_priority(link.now, left);
        link.perform(n, outputs);
    }
    link.run(millis(1000));
    assert_eq!(link.active(), [0]);
}

#[test]
fn who_is_not_ready_relieves_nobody_but_takes_an_empty_place() {
    let mut link = Link::settled(&[100, 150], 1);
    let mut newcomer = VirtualRouter::new(Config { preempt_delay: millis(700), ..config(200) });
    newcomer.set_ready(link.now, false);
    let address = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 9));
    link.routers.push(Router { address, core: newcomer, holds: false, cut: false });
    link.start(2);
    link.run(millis(5000));
    assert_eq!(link.active(), [1], "it is not ready");
    link.routers[2].core.set_ready(link.now, true);
    link.run(millis(600));
    assert_eq!(link.active(), [1], "the delay counts from there");
    let took = link.until("it takes over", |link| link.active() == [2]);
    assert!(took <= millis(100) + millis(100) + millis(22), "{took:?}");

    link.routers[2].core.set_ready(link.now, false);
    link.run(millis(500));
    assert_eq!(link.active(), [2], "it is not thrown out for that");
    let outputs = link.routers[2].core.stop();
    link.perform(2, outputs);
    link.start(2);
    link.until("the next best", |link| link.active() == [1]);
    for n in [0, 1] {
        link.routers[n].cut = true;
    }
    link.until("nobody else is left", |link| link.active() == [2]);
}

#[test]
fn without_preemption_the_place_is_kept() {
    let mut link = Link::with([Config { preempt: false, ..config(200) }, config(150)].into_iter());
    link.start(1);
    link.until("alone", |link| link.active() == [1]);
    link.start(0);
    link.run(millis(3000));
    assert_eq!(link.active(), [1]);
}

#[test]
fn what_is_set_up_otherwise_holds_at_once_and_without_a_gap() {
    let mut link = Link::settled(&[200, 150], 0);
    let outputs = link.routers[0].core.reconfigure(link.now, Config { priority: 120, ..config(200) });
    link.perform(0, outputs);
    assert_eq!(link.active(), [0], "until somebody better has said so");
    let took = link.until("the better one", |link| link.active() == [1]);
    assert!(took <= millis(42), "{took:?}");
    assert_eq!(link.most, 1);
    let same = link.routers[1].core.config().clone();
    assert_eq!(link.routers[1].core.reconfigure(link.now, same), []);
}

#[test]
fn the_owner_of_the_addresses_has_them_at_once() {
    let mut link = Link::settled(&[100, 150], 1);
    let core = VirtualRouter::new(config(vrrp::OWNER));
    let address = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1));
    link.routers.push(Router { address, core, holds: false, cut: false });
    link.start(2);
    assert_eq!(link.active(), [2]);
    link.run(millis(1000));
    assert_eq!(link.active(), [2]);
}

#[test]
fn a_link_that_comes_back_begins_as_backup() {
    let mut link = Link::settled(&[200, 150], 0);
    let outputs = link.routers[0].core.stop();
    link.perform(0, outputs);
    link.until("the other one", |link| link.active() == [1]);
    link.start(0);
    assert_eq!(link.routers[0].core.role(), Role::Backup);
    link.until("back", |link| link.active() == [0]);
    assert_eq!(link.most, 1);
}
