//! Counters: of associations by netlink, of interfaces from `/proc`, each kind in one read for all tunnels.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use xfrm::{SaId, SaInfo};

use super::Control;
use crate::{InboundStats, OutboundStats, TunnelStats};

/// The interfaces of the thread's own network namespace.
const DEVICES: &str = "/proc/thread-self/net/dev";

/// What the kernel said last. Asked again after a time that grows with how much there is to say.
pub(super) struct Snapshot {
    at: Instant,
    sas: HashMap<SaId, SaInfo>,
}

impl Snapshot {
    fn is_fresh(&self, now: Instant) -> bool {
        const LEAST: Duration = Duration::from_millis(20);
        const EACH: Duration = Duration::from_micros(50);
        let count = u32::try_from(self.sas.len()).unwrap_or(u32::MAX);
        now.saturating_duration_since(self.at) < LEAST + EACH * count
    }
}

/// Counters of an interface, as far as they are of use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Device {
    received_octets: u64,
    received_packets: u64,
    receive_dropped: u64,
    sent_octets: u64,
    sent_packets: u64,
    send_errors: u64,
    carrier_errors: u64,
}

impl Control {
    pub(super) fn stats(&mut self, now: Instant) -> Vec<TunnelStats> {
        if self.tunnels.is_empty() {
            return Vec::new();
        }
        self.look(now);
        let text = std::fs::read_to_string(DEVICES).unwrap_or_default();
        let devices = devices(&text);
        let none = HashMap::new();
        let sas = self.snapshot.as_ref().map_or(&none, |snapshot| &snapshot.sas);
        let stats = self.tunnels.iter().map(|(name, tunnel)| {
            let device = devices.get(name.as_str()).copied().unwrap_or_default();
            let idle = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
            let sequence = |id: &SaId| sas.get(id).map(|sa| sa.replay).unwrap_or_default();
            let inbound: Vec<_> = tunnel
                .inbound
                .iter()
                .map(|(spi, sa)| InboundStats {
                    spi: *spi,
                    cipher: sa.cipher,
                    esn: sa.esn,
                    sequence: sequence(&sa.id).received,
                    packets: sa.seen.current.packets,
                    octets: sa.seen.current.octets,
                    replays: u64::from(sa.seen.current.replayed) + u64::from(sa.seen.current.outside_window),
                    forgeries: u64::from(sa.seen.current.forged),
                    malformed: 0,
                    foreign: 0,
                    congested: 0,
                    idle: idle(sa.seen.at),
                })
                .collect();
            TunnelStats {
                tunnel: name.clone(),
                sent_packets: device.sent_packets,
                sent_octets: device.sent_octets,
                received_packets: device.received_packets,
                received_octets: device.received_octets,
                idle: inbound.iter().filter_map(|sa| sa.idle).min(),
                dropped_no_sa: device.carrier_errors, // the policy blocks, or its association is not there
                dropped_selectors: 0,
                dropped_too_big: 0,
                dropped_malformed: 0,
                dropped_send: device.send_errors.saturating_sub(device.carrier_errors),
                dropped_device: device.receive_dropped,
                inbound,
                outbound: tunnel
                    .outbound
                    .iter()
                    .rev()
                    .map(|sa| OutboundStats {
                        spi: sa.id.spi,
                        cipher: sa.cipher,
                        esn: sa.esn,
                        sequence: sequence(&sa.id).sent.max(if sa.esn { 0 } else { sa.seen.current.packets }),
                        packets: sa.seen.current.packets,
                        octets: sa.seen.current.octets,
                        path: sa.path.clone(),
                    })
                    .collect(),
            }
        });
        stats.collect()
    }

    /// Reads the counters of all associations, unless that was done right now.
    fn look(&mut self, now: Instant) {
        if self.snapshot.as_ref().is_some_and(|snapshot| snapshot.is_fresh(now)) {
            return;
        }
        let sas = match self.requests.dump(xfrm::dump_sas(), SaInfo::parse) {
            Ok(sas) => sas.into_iter().map(|sa| (sa.id, sa)).collect::<HashMap<_, _>>(),
            Err(error) => {
                tracing::warn!(%error, "the kernel's associations cannot be read");
                return;
            }
        };
        let unix_now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        for tunnel in self.tunnels.values_mut() {
            let inbound = tunnel.inbound.values_mut().map(|sa| (sa.id, &mut sa.seen));
            let outbound = tunnel.outbound.iter_mut().map(|sa| (sa.id, &mut sa.seen));
            for (id, seen) in inbound.chain(outbound) {
                if let Some(sa) = sas.get(&id) {
                    seen.look(now, unix_now, sa.current);
                }
            }
        }
        self.snapshot = Some(Snapshot { at: now, sas });
    }
}

/// Two lines of head, then a line each: a name, a colon, eight numbers of what came and eight of what went.
fn devices(text: &str) -> HashMap<&str, Device> {
    let line = |line: &'_ str| -> Option<Device> {
        let numbers: Vec<u64> = line.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        let at = |index: usize| numbers.get(index).copied();
        Some(Device {
            received_octets: at(0)?,
            received_packets: at(1)?,
            receive_dropped: at(3)?,
            sent_octets: at(8)?,
            sent_packets: at(9)?,
            send_errors: at(10)?,
            carrier_errors: at(14)?,
        })
    };
    text.lines()
        .skip(2)
        .filter_map(|text| {
            let (name, rest) = text.split_once(':')?;
            Some((name.trim(), line(rest)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_found_by_name() {
        let text = "Inter-|   Receive                                                |  Transmit\n\
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n\
                    \x20   lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0\n\
                    \x20 tun1: 1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 3 0\n";
        let expected = Device {
            received_octets: 1000,
            received_packets: 10,
            receive_dropped: 2,
            sent_octets: 2000,
            sent_packets: 20,
            send_errors: 3,
            carrier_errors: 3,
        };
        let devices = devices(text);
        assert_eq!((devices.len(), devices.get("tun1")), (2, Some(&expected)));
    }

    #[test]
    fn the_running_kernel_prints_what_is_read() {
        let text = std::fs::read_to_string(DEVICES).unwrap();
        assert!(devices(&text).contains_key("lo"), "{text}");
    }
}
