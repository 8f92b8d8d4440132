//! Whether anybody answers in the tunnels of peers without BFD: `probe ADDRESS`.
//!
//! While a tunnel is up, a task of its own asks the address through the tunnel's interface; not a packet is sent while it is
//! not. When nobody answers, the tunnel is told as down, and its IKE SA stays as it is. That verdict outlasts the SAs: a
//! tunnel that is negotiated anew and still carries nothing is not told as up in between.

mod ask;
mod echo;
mod judge;

use std::{collections::BTreeMap, net::IpAddr, time::SystemTime};

use config::model::{Config, InterfaceAddress, Probe, Tunnel};
use net_types::TunnelName;
use rpc::TunnelState;
use tokio::{sync::mpsc, task::JoinHandle};

use self::judge::Turn;
use crate::{
    ike_loop::TunnelFacts,
    state::{Stamped, State},
};

/// Verdicts that may wait for the main loop; the task of one that finds no room waits.
const TOLD: usize = 256;

/// Who is asked, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    tunnel: TunnelName,
    /// Of the tunnel's interface: one that was made anew has another.
    ifindex: u32,
    from: IpAddr,
    probe: Probe,
}

/// A task has come to another verdict.
#[derive(Debug)]
pub(crate) struct Told {
    tunnel: TunnelName,
    /// Which task.
    number: u64,
    turn: Turn,
}

struct Asking {
    number: u64,
    target: Target,
    task: JoinHandle<()>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All tunnels with a probe.
pub(crate) struct Probes {
    state: State,
    wanted: BTreeMap<TunnelName, (IpAddr, Probe)>,
    asking: BTreeMap<TunnelName, Asking>,
    /// Tasks so far.
    number: u64,
    tell: mpsc::Sender<Told>,
    told: mpsc::Receiver<Told>,
}

impl Probes {
    /// Nobody is asked yet.
    pub(crate) fn new(state: State) -> Self {
        let (tell, told) = mpsc::channel(TOLD);
        Self { state, wanted: BTreeMap::new(), asking: BTreeMap::new(), number: 0, tell, told }
    }

    /// Takes up a configuration. What was found out about an address that is not asked any more does not count.
    pub(crate) fn configure(&mut self, config: &Config) {
        let wanted = config.tunnels.iter().filter_map(|(name, tunnel)| {
            let probe = tunnel.probe?;
            Some((name.clone(), (source(tunnel, probe.address)?, probe)))
        });
        let before = std::mem::replace(&mut self.wanted, wanted.collect());
        for (tunnel, (_, probe)) in before {
            if self.wanted.get(&tunnel).is_none_or(|(_, wanted)| wanted.address != probe.address) {
                self.asking.remove(&tunnel);
                self.state.set_silent(&tunnel, None);
            }
        }
    }

    /// Asks in the tunnels that are up, and in no others.
    pub(crate) fn follow(&mut self, facts: &BTreeMap<TunnelName, TunnelFacts>) {
        for (tunnel, (from, probe)) in &self.wanted {
            let up = matches!(self.state.negotiated(tunnel), Some(TunnelState::Up { .. }));
            let Some(facts) = facts.get(tunnel).filter(|_| up) else {
                self.asking.remove(tunnel);
                continue;
            };
            let target = Target { tunnel: tunnel.clone(), ifindex: facts.ifindex, from: *from, probe: *probe };
            if self.asking.get(tunnel).is_some_and(|asking| asking.target == target) {
                continue;
            }
            self.number += 1;
            let number = self.number;
            let task = ask::ask(target.clone(), number, self.state.clone(), self.tell.clone());
            let task = tokio::spawn(task);
            self.asking.insert(tunnel.clone(), Asking { number, target, task });
        }
    }

    /// The next verdict.
    pub(crate) async fn told(&mut self) -> Told {
        match self.told.recv().await {
            Some(told) => told,
            None => std::future::pending().await, // we hold a sender ourselves
        }
    }

    /// Has the verdict told to others.
    pub(crate) fn heard(&mut self, told: Told) {
        let Told { tunnel, number, turn } = told;
        // A task that was ended meanwhile has nothing to say any more.
        let Some(asking) = self.asking.get(&tunnel).filter(|asking| asking.number == number) else { return };
        let Probe { address, timeout, .. } = asking.target.probe;
        match turn {
            Turn::Silent => {
                let cause = format!("probe: nobody answers at {address} for {timeout:?}");
                tracing::warn!(%tunnel, %cause, "tunnel is down");
                let error = Stamped { at: SystemTime::now(), value: cause.clone() };
                self.state.edit(&tunnel, |detail| detail.last_error = Some(error));
                self.state.set_silent(&tunnel, Some(cause));
            }
            Turn::Answers => {
                tracing::info!(%tunnel, %address, "tunnel is up: its probe is answered again");
                self.state.set_silent(&tunnel, None);
            }
        }
    }
}

/// The address of the tunnel that `to` is asked from: of the same subnet, or at least of the same family.
fn source(tunnel: &Tunnel, to: IpAddr) -> Option<IpAddr> {
    let mut of_family = tunnel.addresses.iter().filter(|ours| ours.address().is_ipv4() == to.is_ipv4());
    let near = of_family.clone().find(|ours| ours.subnet().contains(to));
    near.or_else(|| of_family.next()).map(InterfaceAddress::address)
}

#[cfg(test)]
mod tests {
    use std::{process::Command, sync::Arc, time::Duration};

    use sys::netns::{self, NetNs};

    use super::*;
    use crate::{show, state::Questions};

    fn ip(lines: &str) {
        for line in lines.lines() {
            assert!(Command::new("ip").args(line.split_whitespace()).status().unwrap().success(), "ip {line}");
        }
    }

    /// A link in place of a tunnel, with somebody at its other end who answers; IKE's part is played by hand.
    struct Bench {
        far: NetNs,
        probes: Probes,
        facts: BTreeMap<TunnelName, TunnelFacts>,
        tunnel: TunnelName,
        up: TunnelState,
    }

    impl Bench {
        /// In a namespace that the calling thread is in.
        fn new(probe: Probe) -> Self {
            let far = NetNs::new().unwrap();
            let here = rustix::thread::gettid();
            far.run(|| {
                ip(&format!(
                    "link add far type veth peer name tun1 netns {here}
                    address add 169.254.1.1/30 dev far
                    address add fd00:1::1/64 dev far nodad
                    link set far up"
                ))
            });
            ip("address add 169.254.1.2/30 dev tun1
                address add fd00:1::2/64 dev tun1 nodad
                link set tun1 up");
            let (state, _) = show::tests::state();
            let tunnel: TunnelName = "tun1".parse().unwrap();
            let mut config = show::tests::config();
            let configured = config.tunnels.get_mut(&tunnel).unwrap();
            configured.addresses = ["169.254.1.2/30", "fd00:1::2/64"].map(|text| text.parse().unwrap()).into();
            configured.probe = Some(probe);
            let facts = TunnelFacts {
                wan: "isp1".parse().unwrap(),
                ifindex: 5,
                mtu: 1438,
                addresses: Vec::new(),
                datapath: dataplane::Datapath::Userspace,
                child_octets: None,
                child_packets: None,
            };
            let facts = [(tunnel.clone(), facts)].into();
            let up = state.negotiated(&tunnel).unwrap();
            state.edit(&tunnel, |detail| detail.probe = Questions::default());
            state.set_config(Arc::new(config.clone()));
            let mut probes = Probes::new(state);
            probes.configure(&config);
            Self { far, probes, facts, tunnel, up }
        }

        fn answer(&self, whether: bool) {
            let ignore = if whether { "0" } else { "1" };
            self.far.run(|| {
                for file in ["ipv4/icmp_echo_ignore_all", "ipv6/icmp/echo_ignore_all"] {
                    std::fs::write(format!("/proc/sys/net/{file}"), ignore).unwrap();
                }
            });
        }

        fn told(&self) -> TunnelState {
            self.probes.state.tunnels().get(&self.tunnel).unwrap().state
        }

        fn questions(&self) -> Questions {
            self.probes.state.tunnel(&self.tunnel).unwrap().probe
        }

        /// Plays the main loop until something has come about.
        async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
            let goes_round = async {
                loop {
                    self.probes.follow(&self.facts);
                    if condition(self) {
                        break;
                    }
                    tokio::select! {
                        told = self.probes.told() => self.probes.heard(told),
                        () = tokio::time::sleep(Duration::from_millis(5)) => {}
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(20), goes_round).await.unwrap_or_else(|_| panic!("never: {what}"));
        }

        fn publish(&self, state: TunnelState) {
            self.probes.state.publish(&self.tunnel, &"isp1".parse().unwrap(), 5, state);
        }
    }

    fn silence_is_told_and_its_end(address: &'static str) {
        let play = move || {
            netns::unshare_current_thread().expect("needs CAP_SYS_ADMIN to make a network namespace");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (interval, timeout) = (Duration::from_millis(50), Duration::from_millis(400));
                let mut bench = Bench::new(Probe { address: address.parse().unwrap(), interval, timeout });
                bench.until("answers", |bench| bench.questions().answered >= 3).await;
                assert_eq!(bench.told(), bench.up);
                assert!(bench.questions().round_trip.is_some());
                // A rekey, or another path: the same task goes on.
                bench.publish(bench.up.clone());
                bench.until("more answers", |bench| bench.questions().answered >= 6).await;
                assert_eq!(bench.probes.number, 1);

                bench.answer(false);
                let cause = format!("probe: nobody answers at {address} for 400ms");
                let down = TunnelState::Down { cause };
                bench.until("silence", |bench| bench.told() == down).await;
                bench.answer(true);
                bench.until("an end of the silence", |bench| bench.told() == bench.up).await;

                bench.answer(false);
                bench.until("silence again", |bench| bench.told() == down).await;
                let lost = TunnelState::Down { cause: "peer does not answer".to_owned() };
                bench.publish(lost.clone());
                bench.until("no task", |bench| bench.probes.asking.is_empty()).await;
                let asked = bench.questions().asked;
                tokio::time::sleep(4 * interval).await;
                assert_eq!(bench.questions().asked, asked, "nobody is asked in a tunnel that is not up");
                assert_eq!(bench.told(), lost);
                // Negotiated anew, it is not up until it is shown to be.
                bench.publish(bench.up.clone());
                bench.until("more questions", |bench| bench.questions().asked > asked).await;
                assert_eq!(bench.told(), down);
                // Unless nobody is to be asked any more.
                bench.probes.configure(&Config::default());
                assert_eq!(bench.told(), bench.up);
            });
        };
        std::thread::spawn(play).join().unwrap();
    }

    #[test]
    fn silence_is_told_and_its_end_over_ipv4() {
        silence_is_told_and_its_end("169.254.1.1");
    }

    #[test]
    fn silence_is_told_and_its_end_over_ipv6() {
        silence_is_told_and_its_end("fd00:1::1");
    }
}
